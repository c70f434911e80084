//! The course of the recording: largest probability and marked area over time, and where the episodes lie.
//!
//! Curves are SVG stretched to the plot's width; labels and episodes are HTML placed by per cent, so that text keeps
//! its size on any screen.

use super::super::text::{probability, tick_time, time};
use super::super::timeline::Bin;
use super::*;
use crate::capture::LossReason;

/// Width of the curves' own coordinates; their height is 100.
const WIDTH: f64 = 2000.0;

/// Rows of tracks; more than a page of them nobody reads.
const MOST_ROWS: usize = 40;

/// No screen shows more.
const MOST_GAPS: usize = 1000;

const S: u64 = 1_000_000_000;
/// Steps people count time in.
const STEPS: [u64; 23] = [
    S / 200,
    S / 100,
    S / 50,
    S / 20,
    S / 10,
    S / 5,
    S / 2,
    S,
    2 * S,
    5 * S,
    10 * S,
    20 * S,
    30 * S,
    60 * S,
    120 * S,
    300 * S,
    600 * S,
    1200 * S,
    1800 * S,
    3600 * S,
    7200 * S,
    14_400 * S,
    43_200 * S,
];

pub(super) fn section(h: &mut String, c: &Contents) {
    let (bins, width_ns) = c.timeline.bins();
    // The last bin may reach beyond the end.
    let length = c.whole_ns.max(1) as f64;
    let x = |ns: u64| (ns as f64 / length).clamp(0.0, 1.0);
    let shares: Vec<f64> = bins.iter().map(|b| share(c, b.area_px, None)).collect();
    let top = scale_top(shares.iter().copied().fold(0.0, f64::max));
    let edge = |i: usize| x(i as u64 * width_ns) * WIDTH;
    let threshold = c.summary.threshold.clamp(0.0, 1.0);

    put!(
        h,
        "<section aria-labelledby=\"timeline\">\n<div class=\"heading\"><h2 id=\"timeline\">Detections over time</h2>\
         <output id=\"readout\" class=\"readout\" hidden></output></div>\n<div class=\"card timeline\">\n\
         <div class=\"plots\" id=\"plots\" role=\"group\" aria-label=\"{}\">\n",
        spoken(c, top, &shares)
    );
    put!(h, "<div class=\"lane\"><span class=\"axis-name\">{}</span>", sentence(nouns(c).2));
    if c.episodes.is_empty() {
        put!(h, "<span class=\"none\">none</span>");
    }
    spans(h, c, &x);
    gaps(h, c, &x);
    put!(h, "</div>\n");
    tracks(h, c, &x);

    put!(
        h,
        "<div class=\"panel probability\"><span class=\"axis-name\">Largest probability<i class=\"key-line\" \
         aria-hidden=\"true\"></i>threshold {}</span><div class=\"field\">\
         <span class=\"y\" style=\"top:0\">1</span><span class=\"y\" style=\"top:50%\">0.5</span>\
         <span class=\"y\" style=\"top:100%\">0</span>\n",
        significant(c.summary.threshold)
    );
    open_svg(h);
    put!(h, "<path class=\"grid\" d=\"M0 0H{WIDTH}M0 50H{WIDTH}\"/>");
    curve(h, bins, &edge, |i| f64::from(bins[i].probability).clamp(0.0, 1.0));
    put!(
        h,
        "<path class=\"threshold\" d=\"M0 {y:.1}H{WIDTH}\"/></svg></div></div>\n",
        y = 100.0 - threshold * 100.0
    );

    put!(
        h,
        "<div class=\"panel area\"><span class=\"axis-name\">Area, share of the field of view</span><div class=\"field\">\
         <span class=\"y\" style=\"top:0\">{}</span><span class=\"y\" style=\"top:50%\">{}</span>\
         <span class=\"y\" style=\"top:100%\">0</span>\n",
        axis_percent(top),
        axis_percent(top / 2.0)
    );
    open_svg(h);
    put!(h, "<path class=\"grid\" d=\"M0 0H{WIDTH}M0 50H{WIDTH}\"/>");
    curve(h, bins, &edge, |i| shares[i] / top);
    put!(h, "</svg></div></div>\n");
    ticks(h, c, &x);
    put!(h, "<div class=\"cursor\" id=\"cursor\" hidden></div>\n</div>\n");
    if !c.summary.losses.is_empty() {
        put!(
            h,
            "<p class=\"hint\"><i class=\"key-lost\" aria-hidden=\"true\"></i>Hatched: {} could not be read as recorded; \
             {} without a picture. Frame numbers count them.</p>\n",
            count(c.summary.losses.len() as u64, "stretch", "stretches"),
            count(c.summary.lost_frames, "frame is", "frames are")
        );
    }
    if c.summary.irregular_timestamps > 0 {
        put!(
            h,
            "<p class=\"hint\">{} in this recording repeated, ran back or jumped; the timeline counts on steadily, so times \
             on it may differ from the recording’s own.</p>\n",
            count(c.summary.irregular_timestamps, "timestamp", "timestamps")
        );
    }
    put!(h, "</div>\n");
    data(h, c, bins, width_ns);
    put!(h, "</section>\n");
}

fn open_svg(h: &mut String) {
    put!(h, "<svg viewBox=\"0 0 {WIDTH} 100\" preserveAspectRatio=\"none\" aria-hidden=\"true\">");
}

/// What the charts say to those who cannot see them.
fn spoken(c: &Contents, top: f64, shares: &[f64]) -> String {
    let most = shares.iter().copied().fold(0.0, f64::max);
    let mut text = format!(
        "Largest probability and marked area over {}. {}.",
        span(c.length_ns),
        count(c.episodes.len() as u64, nouns(c).1, nouns(c).2)
    );
    if c.summary.lost_frames > 0 {
        put!(text, " {} lost.", count(c.summary.lost_frames, "frame is", "frames are"));
    }
    if let Some(s) = c.surest {
        put!(
            text,
            " The largest probability is {}, at {}; the largest area {} of the field of view, on a scale to {}.",
            probability(s.probability),
            time(s.pts_ns),
            percent(most),
            axis_percent(top)
        );
    }
    text
}

/// Episodes as links through all panels; neighbours that no screen could tell apart become one.
fn spans(h: &mut String, c: &Contents, x: &dyn Fn(u64) -> f64) {
    let apart = 1.0 / 4000.0;
    let mut i = 0;
    while i < c.episodes.len() {
        let (first, from) = (i, x(c.episodes[i].ended.from_ns));
        let mut to = x(c.episodes[i].ended.to_ns);
        i += 1;
        // Those with a picture keep a link of their own as long as there are few.
        while c.episodes.len() > super::super::MOST_THUMBNAILS
            && i < c.episodes.len()
            && x(c.episodes[i].ended.from_ns) - to < apart
        {
            to = x(c.episodes[i].ended.to_ns);
            i += 1;
        }
        let e = &c.episodes[first].ended.episode;
        let (one, _, many) = nouns(c);
        let name = if i - first == 1 {
            format!("{one} {}: {} – {}", first + 1, time(e.start_ns), time(e.end_ns))
        } else {
            format!("{} {} to {}, from {}", sentence(many), first + 1, i, time(e.start_ns))
        };
        put!(
            h,
            "<a class=\"span\" href=\"#episode-{}\" tabindex=\"-1\" title=\"{name}\" style=\"left:{:.3}%;width:{:.3}%\">",
            first + 1,
            from * 100.0,
            (to - from) * 100.0
        );
        if to - from > 0.018 && i - first == 1 {
            put!(h, "<b>{}</b>", first + 1);
        }
        put!(h, "</a>");
    }
}

/// A row for each track, polyp by polyp: pale from its first sight, full from its confirmation to its end.
fn tracks(h: &mut String, c: &Contents, x: &dyn Fn(u64) -> f64) {
    let all: u64 = c.episodes.iter().filter_map(|e| Some(e.polyp.as_ref()?.1.len() as u64)).sum();
    if all == 0 {
        return;
    }
    put!(h, "<div class=\"tracks\"><span class=\"axis-name\">Tracks, from their first sight</span>\n");
    let rows = c.episodes.iter().enumerate().filter_map(|(i, e)| Some((i + 1, e.polyp.as_ref()?)));
    let rows = rows.flat_map(|(number, (_, spans))| spans.iter().map(move |s| (number, s)));
    for (number, s) in rows.take(MOST_ROWS) {
        let (from, confirmed, to) = (x(s.from_ns), x(s.confirmed_ns), x(s.to_ns));
        put!(
            h,
            "<div class=\"track\" title=\"Track {}, polyp {number}: confirmed after {} ms\">\
             <i class=\"tentative\" style=\"left:{:.3}%;width:{:.3}%\"></i><i style=\"left:{:.3}%;width:{:.3}%\"></i>\
             <b style=\"left:{:.3}%\">{number}</b></div>\n",
            s.track_id,
            significant((s.confirmed_ns - s.from_ns) as f64 / 1e6),
            from * 100.0,
            (confirmed - from) * 100.0,
            confirmed * 100.0,
            (to - confirmed).max(0.0) * 100.0,
            from * 100.0
        );
    }
    if all > MOST_ROWS as u64 {
        put!(
            h,
            "<span class=\"none\">{} more are in the table below</span>\n",
            grouped(all - MOST_ROWS as u64)
        );
    }
    put!(h, "</div>\n");
}

/// Stretches that could not be read, hatched through all panels.
fn gaps(h: &mut String, c: &Contents, x: &dyn Fn(u64) -> f64) {
    for loss in c.summary.losses.iter().take(MOST_GAPS) {
        let place = |ns: u64| x(ns.saturating_sub(c.first_pts_ns));
        let (from, to) = (place(loss.at_ns), place(loss.until_ns.unwrap_or(loss.at_ns)));
        let what = match (loss.reason, loss.frames) {
            (LossReason::Undecodable, Some(n)) => count(n, "frame", "frames") + " could not be decoded",
            (LossReason::Missing, Some(n)) => count(n, "frame", "frames") + " missing",
            (LossReason::Damaged, Some(n)) => count(n, "frame", "frames") + " damaged",
            (LossReason::CutOff, Some(n)) => "cut off, ".to_owned() + &count(n, "frame", "frames") + " lost",
            (LossReason::CutOff, None) => "cut off".to_owned(),
            (LossReason::Broken, _) => "the file is damaged".to_owned(),
            _ => "the decoder reported errors".to_owned(),
        };
        let number = loss.frame.map(|f| format!(", from frame {f}")).unwrap_or_default();
        put!(
            h,
            "<span class=\"lost\" title=\"{what}{number}, {}\" style=\"left:{:.3}%;width:{:.3}%\"></span>",
            time(loss.at_ns),
            from * 100.0,
            (to - from).max(0.0) * 100.0
        );
    }
}

/// A stepped curve with its area; `value` is 0–1. Where no frame is shown there is none.
fn curve(h: &mut String, bins: &[Bin], edge: &dyn Fn(usize) -> f64, value: impl Fn(usize) -> f64) {
    let (mut line, mut fill) = (String::new(), String::new());
    let mut i = 0;
    while i < bins.len() {
        if bins[i].frame().is_none() {
            i += 1;
            continue;
        }
        let start = edge(i);
        let mut piece = String::new();
        let mut y = 100.0 - value(i) * 100.0;
        put!(piece, "{start:.1} {y:.1}");
        while i < bins.len() && bins[i].frame().is_some() {
            let next = 100.0 - value(i) * 100.0;
            if (next - y).abs() >= 0.05 {
                put!(piece, "H{:.1}V{next:.1}", edge(i));
                y = next;
            }
            i += 1;
        }
        let end = edge(i);
        put!(line, "M{piece}H{end:.1}");
        put!(fill, "M{start:.1} 100L{piece}H{end:.1}V100Z");
    }
    put!(h, "<path class=\"fill\" d=\"{fill}\"/><path class=\"line\" d=\"{line}\"/>");
}

fn ticks(h: &mut String, c: &Contents, x: &dyn Fn(u64) -> f64) {
    let step = STEPS
        .into_iter()
        .find(|s| c.whole_ns / s <= 9)
        .unwrap_or_else(|| (c.whole_ns / 9).checked_next_multiple_of(86_400 * S).unwrap_or(u64::MAX));
    put!(h, "<div class=\"ticks\">");
    let start = c.first_pts_ns.checked_next_multiple_of(step).unwrap_or(c.first_pts_ns);
    let mut t = start;
    while t - c.first_pts_ns <= c.whole_ns {
        let at = x(t - c.first_pts_ns);
        // The last label must not leave the card; narrow screens show every other one.
        let class = match ((t - start) / step % 2 == 1, at > 0.97) {
            (true, true) => " class=\"odd end\"",
            (true, false) => " class=\"odd\"",
            (false, true) => " class=\"end\"",
            (false, false) => "",
        };
        put!(h, "<span{class} style=\"left:{:.3}%\">{}</span>", at * 100.0, tick_time(t, step));
        let Some(next) = t.checked_add(step) else { break };
        t = next;
    }
    put!(h, "</div>\n");
}

/// The top of an axis of shares: a round figure at or above `most`.
fn scale_top(most: f64) -> f64 {
    [0.01, 0.02, 0.04, 0.1, 0.2, 0.3, 0.4, 0.6, 0.8].into_iter().find(|t| most <= *t).unwrap_or(1.0)
}

fn axis_percent(share: f64) -> String {
    format!("{} %", significant(share * 100.0))
}

/// The same figures for the script's read-out. Numbers only: nothing in it could end the element.
fn data(h: &mut String, c: &Contents, bins: &[Bin], width_ns: u64) {
    let ms = |ns: u64| ns as f64 / 1e6;
    put!(
        h,
        "<script type=\"application/json\" id=\"data\">{{\"first\":{},\"length\":{},\"width\":{},\"bins\":[",
        ms(c.first_pts_ns),
        ms(c.whole_ns.max(1)),
        ms(width_ns)
    );
    for (i, b) in bins.iter().enumerate() {
        put!(h, "{}", if i > 0 { "," } else { "" });
        match b.frame() {
            Some(f) => {
                put!(h, "[{f},{},{:.4},{:.5}]", ms(b.starts_ns()), b.probability, share(c, b.area_px, None));
            }
            None => put!(h, "0"),
        }
    }
    put!(h, "],\"episodes\":[");
    for (i, e) in c.episodes.iter().enumerate() {
        put!(h, "{}[{},{}]", if i > 0 { "," } else { "" }, ms(e.ended.from_ns), ms(e.ended.to_ns));
    }
    put!(h, "],\"noun\":\"{}\"}}</script>\n", nouns(c).1);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_end_at_round_figures() {
        assert_eq!([0.0, 0.004, 0.011, 0.31, 0.95].map(scale_top), [0.01, 0.01, 0.02, 0.4, 1.0]);
        assert_eq!([0.01, 0.005, 0.4].map(axis_percent), ["1 %", "0.5 %", "40 %"]);
    }

    #[test]
    fn curves_step_and_break_where_there_is_no_frame() {
        let mut t = super::super::super::timeline::Timeline::default();
        t.add(0, 2 << 20, 0, 0, 0.5);
        t.add(3 << 20, 4 << 20, 1, 0, 1.0);
        let (bins, _) = t.bins();
        let mut h = String::new();
        curve(&mut h, bins, &|i| i as f64 * 10.0, |i| f64::from(bins[i].probability));
        assert!(h.contains("class=\"line\" d=\"M0.0 50.0H20.0M30.0 0.0H40.0\""), "{h}");
        assert!(h.contains("M0.0 100L0.0 50.0H20.0V100Z"), "{h}");
    }
}
