//! The polyps, or the episodes where nothing is followed over time: a card for each with its best frame, and all of
//! them as a table.

use super::super::MOST_THUMBNAILS;
use super::super::text::{probability, time};
use super::*;

/// Whether episode `index` has a card; the others are in the table only.
pub(super) fn has_card(c: &Contents, index: usize) -> bool {
    c.episodes.len() <= MOST_THUMBNAILS || c.episodes[index].picture.is_some()
}

pub(super) fn section(h: &mut String, c: &Contents) {
    let (_, _, many) = nouns(c);
    put!(
        h,
        "<section class=\"episodes\" aria-labelledby=\"episodes\">\n<div class=\"heading\"><h2 id=\"episodes\">{}</h2>",
        sentence(many)
    );
    if c.episodes.is_empty() {
        put!(h, "</div>\n<div class=\"card empty\"><p><strong>No polyp was marked.</strong></p><p>");
        let tracks = c.summary.confirm.tracks;
        let brief = c.summary.brief_alarms.len() as u64;
        match c.surest {
            Some(_) if brief > 0 => put!(
                h,
                "{} drawn, each for less than half a second, too short to be counted as a polyp.",
                count(brief, "brief alarm was", "brief alarms were"),
            ),
            Some(s) if c.followed && tracks > 0 => put!(
                h,
                "{} seen, none for long enough to be shown. The largest probability was {}, on frame {} at {}.",
                count(tracks, "region was", "regions were"),
                probability(s.probability),
                grouped(s.frame),
                time(s.pts_ns)
            ),
            Some(s) => put!(
                h,
                "No frame reached the threshold of {} over a region large enough to mark. The largest probability was {}, \
                 on frame {} at {}.",
                significant(c.summary.threshold),
                probability(s.probability),
                grouped(s.frame),
                time(s.pts_ns)
            ),
            None => put!(h, "No frame was analysed."),
        }
        put!(h, "</p></div>\n</section>\n");
        return;
    }
    if c.episodes.iter().any(|e| e.picture.as_ref().is_some_and(|p| !p.outlines.is_empty())) {
        put!(h, "<label class=\"switch\"><input type=\"checkbox\" id=\"outlines\" checked> Outlines</label>");
    }
    put!(h, "</div>\n");
    if c.episodes.len() > MOST_THUMBNAILS {
        put!(
            h,
            "<p class=\"hint\">Of {} {many} the {} longest have a picture; all are in the table below.</p>\n",
            grouped(c.episodes.len() as u64),
            MOST_THUMBNAILS
        );
    }
    put!(h, "<ol class=\"cards\">\n");
    for (i, e) in c.episodes.iter().enumerate().filter(|(i, _)| has_card(c, *i)) {
        card(h, c, i, e);
    }
    put!(h, "</ol>\n");
    table(h, c);
    put!(h, "</section>\n");
}

fn card(h: &mut String, c: &Contents, index: usize, shown: &Shown) {
    let (e, number, one) = (&shown.ended.episode, index + 1, nouns(c).0);
    let area = percent(share(c, e.best_area_px, Some(shown)));
    put!(h, "<li class=\"card episode\" id=\"episode-{number}\" value=\"{number}\">\n<figure>");
    match &shown.picture {
        Some(p) => {
            put!(
                h,
                "<div class=\"picture\" style=\"aspect-ratio:{}/{}\"><img src=\"data:image/jpeg;base64,",
                p.jpeg.width,
                p.jpeg.height
            );
            STANDARD.encode_string(&p.jpeg.bytes, h);
            put!(
                h,
                "\" width=\"{}\" height=\"{}\" decoding=\"async\" alt=\"Field of view at frame {}, {}: {area} marked, mean \
                 probability {}\">",
                p.jpeg.width,
                p.jpeg.height,
                e.best_frame,
                time(e.best_pts_ns),
                probability(e.best_mean_probability)
            );
            if !p.outlines.is_empty() && !p.view.is_empty() {
                outline(h, p.view, &p.outlines);
            }
            put!(h, "</div>");
        }
        None => put!(h, "<div class=\"picture none\">no picture</div>"),
    }
    put!(
        h,
        "<span class=\"number\" aria-hidden=\"true\">{number}</span></figure>\n\
         <h3><span class=\"unseen\">{one} {number}: </span><span class=\"when\">{}<span class=\"to\"> – </span>{}</span></h3>\n\
         <dl><div><dt>Duration</dt><dd>{}</dd></div><div><dt>Marked frames</dt><dd>{}</dd></div>",
        time(e.start_ns),
        time(e.end_ns),
        span(shown.ended.to_ns - shown.ended.from_ns),
        grouped(e.frames)
    );
    let mut most = format!(" <small>max {}</small>", probability(e.max_probability));
    if let Some((p, _)) = &shown.polyp {
        put!(
            h,
            "<div><dt>First seen</dt><dd>{} <small>frame {}</small></dd></div>\
             <div><dt>Confirmed after</dt><dd>{} ms</dd></div>",
            time(p.first_ns),
            grouped(p.first_frame),
            significant(p.confirmed_after_ms)
        );
        if p.track_ids.len() > 1 {
            put!(h, "<div><dt>Tracks joined</dt><dd>{}</dd></div>", grouped(p.track_ids.len() as u64));
        }
        most.clear();
    }
    put!(
        h,
        "<div><dt>Best frame</dt><dd>{} <small>{}</small></dd></div>\
         <div><dt>Probability</dt><dd>{}{most}</dd></div>\
         <div><dt>Area</dt><dd>{area} <small>{} px</small></dd></div></dl>\n</li>\n",
        grouped(e.best_frame),
        time(e.best_pts_ns),
        probability(e.best_mean_probability),
        grouped(e.best_area_px)
    );
}

/// Contours over the picture, twice: dark below, so that they show on any mucosa.
fn outline(h: &mut String, view: crate::frame::Rect, outlines: &[Vec<[i32; 2]>]) {
    put!(
        h,
        "<svg class=\"outline\" viewBox=\"0 0 {} {}\" preserveAspectRatio=\"none\" aria-hidden=\"true\">",
        view.w,
        view.h
    );
    let mut path = String::new();
    for polygon in outlines {
        for (i, [x, y]) in polygon.iter().enumerate() {
            // Contours run through pixel centres.
            let (x, y) = (f64::from(*x) - f64::from(view.x) + 0.5, f64::from(*y) - f64::from(view.y) + 0.5);
            put!(path, "{}{x:.1} {y:.1}", if i == 0 { 'M' } else { 'L' });
        }
        path.push('Z');
    }
    put!(h, "<path class=\"below\" d=\"{path}\"/><path d=\"{path}\"/></svg>");
}

fn table(h: &mut String, c: &Contents) {
    let (one, _, many) = nouns(c);
    // A polyp has no largest probability of its own, and a first sight that an episode has not.
    let own = if c.followed {
        "<th scope=\"col\">First seen</th><th scope=\"col\">Confirmed after, ms</th><th scope=\"col\">Tracks</th>"
    } else {
        "<th scope=\"col\">Largest probability</th>"
    };
    put!(
        h,
        "<details class=\"card all\"{}><summary>{} as a table</summary>\n<div class=\"scroll\" tabindex=\"0\" role=\"region\" \
         aria-label=\"{}\"><table>\n<caption class=\"unseen\">All {many} in order</caption>\n\
         <thead><tr><th scope=\"col\">{one}</th><th scope=\"col\">Start</th><th scope=\"col\">End</th>\
         <th scope=\"col\">Duration</th><th scope=\"col\">Marked frames</th><th scope=\"col\">Best frame</th>\
         <th scope=\"col\">Mean probability</th>{own}\
         <th scope=\"col\">Area, px</th><th scope=\"col\">Area</th></tr></thead>\n<tbody>\n",
        if c.episodes.len() > MOST_THUMBNAILS { " open" } else { "" },
        if c.episodes.len() == 1 {
            format!("The {}", nouns(c).1)
        } else {
            format!("All {} {many}", grouped(c.episodes.len() as u64))
        },
        sentence(many)
    );
    for (i, shown) in c.episodes.iter().enumerate() {
        let (e, number) = (&shown.ended.episode, i + 1);
        if has_card(c, i) {
            put!(h, "<tr><th scope=\"row\"><a href=\"#episode-{number}\">{number}</a></th>");
        } else {
            put!(h, "<tr id=\"episode-{number}\"><th scope=\"row\">{number}</th>");
        }
        put!(
            h,
            "<td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td>",
            time(e.start_ns),
            time(e.end_ns),
            span(shown.ended.to_ns - shown.ended.from_ns),
            grouped(e.frames),
            grouped(e.best_frame),
            probability(e.best_mean_probability)
        );
        match &shown.polyp {
            Some((p, _)) => put!(
                h,
                "<td>{}</td><td>{}</td><td>{}</td>",
                time(p.first_ns),
                significant(p.confirmed_after_ms),
                p.track_ids.iter().map(u64::to_string).collect::<Vec<_>>().join(" ")
            ),
            None => put!(h, "<td>{}</td>", probability(e.max_probability)),
        }
        put!(
            h,
            "<td>{}</td><td>{}</td></tr>\n",
            grouped(e.best_area_px),
            percent(share(c, e.best_area_px, Some(shown)))
        );
    }
    put!(h, "</tbody></table></div></details>\n");
}
