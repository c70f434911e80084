//! The runs as a page: one file that needs nothing else and runs no script.
//!
//! In: the record of runs. Out: HTML in the look of the replay's report: the delays against their limits, a waterfall
//! of the stages, the cumulative curve of every delay, stage and queue with one line a run, and all percentiles.

use std::fmt::Write;

use super::record::{DELAYS, ORDER, PipelineReport, RunRecord, Shape};
use super::statistics::median;
use crate::distribution::Distribution;
use crate::replay::report::text::{Escaped, bytes, count, grouped, significant};

const STYLE: &str = include_str!("../replay/report/page/page.css");
const OWN_STYLE: &str = include_str!("page.css");
const WIDTH: f64 = 1000.0;
/// Acceptance criteria of the first FDA-cleared polyp detector (DEN200055).
const VIDEO_DELAY_LIMIT_US: f64 = 5_750.0;
const ANNOTATION_DELAY_LIMIT_US: f64 = 120_000.0;
/// Curves are drawn up to this share; the maximum is in the table.
const LAST_SHARE: f64 = 0.999;
/// Colours of runs.
const COLOURS: usize = 6;

/// Appends formatted text to a `String`, which cannot fail.
macro_rules! put {
    ($html:expr, $($arg:tt)*) => {{ let _ = write!($html, $($arg)*); }};
}

/// The whole page.
pub fn page(report: &PipelineReport) -> String {
    let mut h = String::with_capacity(200_000);
    put!(
        h,
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<meta name=\"referrer\" content=\"no-referrer\">\n\
         <title>Polypscope pipeline benchmark</title>\n<style>\n{STYLE}{OWN_STYLE}</style>\n</head>\n<body>\n"
    );
    header(&mut h, report);
    put!(h, "<main>\n");
    tiles(&mut h, report);
    waterfall(&mut h, report);
    curves(&mut h, report);
    tables(&mut h, report);
    machine(&mut h, report);
    put!(
        h,
        "</main>\n<footer><p>Polypscope {} is research software. It is not a medical device and must not guide diagnosis \
         or treatment.</p></footer>\n</body>\n</html>\n",
        Escaped(&report.machine.version)
    );
    h
}

fn header(h: &mut String, report: &PipelineReport) {
    put!(
        h,
        "<header>\n<div class=\"brand\"><svg class=\"logo\" viewBox=\"0 0 32 32\" aria-hidden=\"true\"><circle cx=\"16\" \
         cy=\"16\" r=\"14\"/><path d=\"M9 18c-1-5 3-9 8-8s8 5 5 9-5 4-8 4-4-2-5-5z\"/></svg>\
         <span class=\"product\">Polypscope</span><span class=\"kind\">Pipeline benchmark</span>\
         <span class=\"notice\">Research software, not a medical device</span></div>\n"
    );
    let Some(first) = report.runs.first() else {
        put!(h, "<h1>No run</h1></header>\n");
        return;
    };
    put!(h, "<h1>{}</h1>\n<ul class=\"facts\">", Escaped(&first.summary.input));
    let pace = match first.fps_target {
        Some(fps) => format!("paced at {} frames/s", significant(fps)),
        None => "as fast as every frame can be inferred".to_owned(),
    };
    for fact in [
        count(report.runs.len() as u64, "run", "runs"),
        pace,
        format!("{} × {}", first.width_px, first.height_px),
        first.summary.engine.clone(),
        report.machine.cpu.clone(),
        format!("{} left out as warm-up", count(first.warm_up_frames, "frame", "frames")),
    ] {
        put!(h, "<li>{}</li>", Escaped(&fact));
    }
    put!(h, "</ul>\n");
    if let Some(slowed) = &first.slowed {
        put!(
            h,
            "<div class=\"banner\" role=\"note\"><strong>A sleep was added on purpose:</strong> {}.</div>\n",
            Escaped(slowed)
        );
    }
    put!(h, "</header>\n");
}

/// Microseconds as text with their unit.
fn duration(us: f64) -> String {
    match us {
        0.0 => "0".to_owned(),
        ..0.9995 => format!("{} ns", significant(us * 1e3)),
        ..999.5 => format!("{} µs", significant(us)),
        ..999_500.0 => format!("{} ms", significant(us / 1e3)),
        _ => format!("{} s", significant(us / 1e6)),
    }
}

/// Median over the runs that have it.
fn over_runs(report: &PipelineReport, name: &str, get: impl Fn(&Distribution) -> f64) -> Option<f64> {
    let values: Vec<f64> = report.runs.iter().filter_map(|r| r.distribution(name).map(&get)).collect();
    (!values.is_empty()).then(|| median(&values))
}

fn tiles(h: &mut String, report: &PipelineReport) {
    put!(h, "<dl class=\"tiles card\">\n");
    let mut tile = |label: &str, value: &str, note: &str| {
        put!(h, "<div class=\"tile\"><dt>{label}</dt><dd>{value}<small>{note}</small></dd></div>\n");
    };
    let of = |get: fn(&RunRecord) -> f64| median(&report.runs.iter().map(get).collect::<Vec<_>>());
    for (name, label, limit) in [
        ("video_delay", "Video delay, p99", Some(VIDEO_DELAY_LIMIT_US)),
        ("annotation_delay", "Annotation delay, p99", Some(ANNOTATION_DELAY_LIMIT_US)),
        ("mask_age", "Mask age, median", None),
    ] {
        let get = |d: &Distribution| if limit.is_some() { d.p99 } else { d.p50 };
        let Some(value) = over_runs(report, name, get) else { continue };
        let p50 = over_runs(report, name, |d| d.p50).unwrap_or_default();
        let note = match limit {
            Some(limit) => {
                let (class, word) = if value <= limit { ("within", "within") } else { ("beyond", "beyond") };
                format!("<b class=\"{class}\">{word} {}</b>, median {}", duration(limit), duration(p50))
            }
            None => format!("p99 {}", duration(over_runs(report, name, |d| d.p99).unwrap_or_default())),
        };
        tile(label, &duration(value), &note);
    }
    if report.runs.iter().all(|r| r.distribution("video_delay").is_none())
        && let Some(p50) = over_runs(report, "network", |d| d.p50)
    {
        let p99 = over_runs(report, "network", |d| d.p99).unwrap_or_default();
        tile("Network, median", &duration(p50), &format!("p99 {}", duration(p99)));
    }
    let target = report.runs.first().and_then(|r| r.fps_target);
    tile(
        "Rate",
        &format!("{} /s", significant(of(|r| r.fps_achieved))),
        &target.map_or("frames, every one inferred".to_owned(), |t| {
            format!("frames, of {} offered", significant(t))
        }),
    );
    if report.runs.iter().all(|r| r.deadline_misses.is_some()) {
        let share = of(|r| {
            let inferred = r.summary.frames.entered.max(1) as f64;
            r.deadline_misses.unwrap_or_default() as f64 / inferred
        });
        tile(
            "Deadline misses",
            &grouped(of(|r| r.deadline_misses.unwrap_or_default() as f64) as u64),
            &format!(
                "{} % of frames; {} superseded",
                significant(share * 100.0),
                grouped(of(|r| r.summary.frames.superseded as f64) as u64)
            ),
        );
        tile(
            "Frames dropped",
            &grouped(of(|r| r.summary.frames.dropped as f64) as u64),
            &format!("{} late", grouped(of(|r| r.summary.frames.late as f64) as u64)),
        );
    }
    tile(
        "Memory at most",
        &bytes(of(|r| r.summary.rss_bytes.max as f64) as u64),
        &format!("{} of {} cores busy", significant(of(|r| r.summary.cpu_cores)), report.machine.cores),
    );
    put!(h, "</dl>\n");
}

fn label(name: &str) -> String {
    let text = name.replace('_', " ");
    let mut chars = text.chars();
    chars.next().map(|f| f.to_uppercase().chain(chars).collect()).unwrap_or_default()
}

/// `1`, `2` or `5` times a power of ten that divides `most` into a few steps.
fn step(most: f64) -> f64 {
    let rough = (most / 5.0).max(1e-3);
    let power = 10f64.powf(rough.log10().floor());
    [1.0, 2.0, 5.0, 10.0].into_iter().map(|m| m * power).find(|s| *s >= rough).unwrap_or(power * 10.0)
}

/// Medians one after another, as a frame meets them.
fn waterfall(h: &mut String, report: &PipelineReport) {
    let stages: Vec<(&str, f64, f64)> = ORDER
        .iter()
        .filter_map(|name| {
            Some((*name, over_runs(report, name, |d| d.p50)?, over_runs(report, name, |d| d.p99)?))
        })
        .collect();
    if stages.is_empty() {
        return;
    }
    let mut starts = Vec::new();
    let mut sum = 0.0;
    for stage in &stages {
        starts.push(sum);
        sum += stage.1;
    }
    let most =
        stages.iter().zip(&starts).map(|(s, at)| at + s.2.max(s.1)).fold(0.0, f64::max).max(1e-3) * 1.02;
    let step = step(most);
    put!(
        h,
        "<section aria-labelledby=\"water\">\n<h2 id=\"water\">From capture to screen</h2>\n<div class=\"card water\">\n\
         <p class=\"key\"><span>bar: median, beginning where the one before ends</span><span>line: to p99</span>\
         <span>medians together: {}</span></p>\n",
        duration(sum)
    );
    let x = |us: f64| us / most * WIDTH;
    let ticks = (most / step) as usize;
    for ((name, p50, p99), start) in stages.iter().zip(&starts) {
        put!(
            h,
            "<div class=\"strip {name}\"><span class=\"stage\"><i class=\"swatch\" aria-hidden=\"true\"></i>{}</span>\
             <svg viewBox=\"0 0 {WIDTH} 24\" preserveAspectRatio=\"none\" role=\"img\" aria-label=\"{}: median {}, p99 {}\">",
            label(name),
            label(name),
            duration(*p50),
            duration(*p99)
        );
        put!(h, "<path class=\"grid\" d=\"");
        for i in 0..=ticks {
            put!(h, "M{:.1} 0V24", x(i as f64 * step));
        }
        put!(
            h,
            "\"/><rect class=\"bar\" x=\"{:.1}\" y=\"5\" width=\"{:.1}\" height=\"14\"/><path class=\"whisker\" \
             d=\"M{:.1} 12H{:.1}M{:.1} 7V17\"/></svg><span class=\"value\">{}<small> p99 {}</small></span></div>\n",
            x(*start),
            x(*p50).max(1.5),
            x(start + p50),
            x(start + p99),
            x(start + p99),
            duration(*p50),
            duration(*p99)
        );
    }
    put!(h, "<div class=\"strip foot\"><div class=\"ticks\">");
    for i in 0..=ticks {
        let class = if i % 2 == 1 { " class=\"odd\"" } else { "" };
        let at = i as f64 * step;
        put!(h, "<span{class} style=\"left:{:.2}%\">{}</span>", at / most * 100.0, duration(at));
    }
    put!(h, "</div></div>\n</div>\n</section>\n");
}

/// Each further nine of the share takes as much room as the one before.
fn height(share: f64) -> f64 {
    (1.0 - share.min(LAST_SHARE)).log10() / (1.0 - LAST_SHARE).log10()
}

fn curves(h: &mut String, report: &PipelineReport) {
    let names: Vec<&str> = DELAYS
        .into_iter()
        .chain(ORDER)
        .filter(|n| report.runs.iter().any(|r| r.cdf_us.get(*n).is_some_and(|c| !c.is_empty())))
        .collect();
    if names.is_empty() {
        return;
    }
    put!(
        h,
        "<section aria-labelledby=\"curves\">\n<h2 id=\"curves\">Share of frames that took no longer</h2>\n<p class=\"legend\">"
    );
    for i in 0..report.runs.len() {
        put!(
            h,
            "<span class=\"run-{}\"><i class=\"swatch\" aria-hidden=\"true\"></i>run {}</span>",
            i % COLOURS,
            i + 1
        );
    }
    put!(h, "</p>\n<div class=\"curves\">\n");
    for name in names {
        curve(h, report, name);
    }
    put!(h, "</div>\n</section>\n");
}

fn curve(h: &mut String, report: &PipelineReport, name: &str) {
    let limit = match name {
        "video_delay" => Some(VIDEO_DELAY_LIMIT_US),
        "annotation_delay" => Some(ANNOTATION_DELAY_LIMIT_US),
        _ => None,
    };
    let points = || report.runs.iter().filter_map(|r| r.cdf_us.get(name)).flatten();
    let drawn = || points().filter(|p| p[1] <= LAST_SHARE).chain(points().take(1)).map(|p| p[0].max(1e-2));
    let least = drawn().fold(f64::INFINITY, f64::min);
    let most = drawn().chain(limit).fold(0.0, f64::max);
    // A third of a decade at least, so that what hardly varies is not blown up to look as if it did.
    let from = (least.log10() - 0.04).min(most.log10() - 0.33);
    let to = (most.log10() + 0.04).max(from + 0.33);
    let x = |us: f64| ((us.max(1e-2).log10() - from) / (to - from)).clamp(0.0, 1.0);
    put!(
        h,
        "<div class=\"card curve\"><h3>{}</h3><p class=\"hint\">median <b>{}</b>, p99 <b>{}</b>{}</p>\n<div class=\"cdf\">\
         <div class=\"field\" role=\"img\" aria-label=\"Cumulative distribution of {}; the figures are in the table\">",
        label(name),
        duration(over_runs(report, name, |d| d.p50).unwrap_or_default()),
        duration(over_runs(report, name, |d| d.p99).unwrap_or_default()),
        limit.map_or(String::new(), |l| format!(", limit {}", duration(l))),
        label(name)
    );
    for (share, text) in [(0.5, "50 %"), (0.9, "90 %"), (0.99, "99 %"), (0.999, "99.9 %")] {
        put!(h, "<span class=\"y\" style=\"top:{:.1}%\">{text}</span>", 100.0 - height(share) * 100.0);
    }
    put!(
        h,
        "<svg viewBox=\"0 0 {WIDTH} 100\" preserveAspectRatio=\"none\" aria-hidden=\"true\"><path class=\"grid\" d=\""
    );
    for share in [0.0, 0.5, 0.9, 0.99, 0.999] {
        put!(h, "M0 {:.1}H{WIDTH}", 100.0 - height(share) * 100.0);
    }
    let ticks = ticks(from, to);
    for us in &ticks {
        put!(h, "M{:.1} 0V100", x(*us) * WIDTH);
    }
    put!(h, "\"/>");
    if let Some(limit) = limit {
        put!(h, "<path class=\"limit\" d=\"M{:.1} 0V100\"/>", x(limit) * WIDTH);
    }
    for (i, run) in report.runs.iter().enumerate() {
        let Some(points) = run.cdf_us.get(name).filter(|p| !p.is_empty()) else { continue };
        put!(h, "<path class=\"line run-{}\" d=\"M{:.1} 100", i % COLOURS, x(points[0][0]) * WIDTH);
        for [us, share] in points {
            put!(h, "L{:.1} {:.1}", x(*us) * WIDTH, 100.0 - height(*share) * 100.0);
            if *share >= LAST_SHARE {
                break;
            }
        }
        put!(h, "\"/>");
    }
    put!(h, "</svg></div>\n<div class=\"ticks\">");
    for us in &ticks {
        put!(h, "<span style=\"left:{:.2}%\">{}</span>", x(*us) * 100.0, duration(*us));
    }
    put!(h, "</div></div></div>\n");
}

/// Round numbers on a logarithmic axis (decades of microseconds): few enough to be read side by side.
fn ticks(from: f64, to: f64) -> Vec<f64> {
    const FINE: [f64; 18] =
        [1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.8, 2.0, 2.5, 3.0, 3.5, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0];
    for steps in [&FINE[..], &[1.0, 1.5, 2.0, 3.0, 5.0, 7.0], &[1.0, 2.0, 5.0], &[1.0, 3.0], &[1.0]] {
        let all: Vec<f64> = (from.floor() as i32..=to.ceil() as i32)
            .flat_map(|d| steps.iter().map(move |m| m * 10f64.powi(d)))
            .filter(|us| (from..=to).contains(&us.log10()))
            .collect();
        let near = all.windows(2).any(|p| (p[1] / p[0]).log10() < (to - from) * 0.2);
        if !near || steps.len() == 1 {
            return all;
        }
    }
    Vec::new()
}

fn ms(us: f64) -> String {
    match us / 1e3 {
        v @ ..9.9995 => format!("{v:.3}"),
        v @ ..99.995 => format!("{v:.2}"),
        v => format!("{v:.1}"),
    }
}

fn tables(h: &mut String, report: &PipelineReport) {
    put!(
        h,
        "<section class=\"runs\" aria-labelledby=\"figures\">\n<h2 id=\"figures\">All figures</h2>\n<p class=\"hint\">Milliseconds. \
         σ is the standard deviation; pN is what N % do not exceed; tail is p95 to the maximum, flatness p10 to p90.</p>\n"
    );
    for (i, run) in report.runs.iter().enumerate() {
        put!(
            h,
            "<div class=\"card\"><p class=\"units\"><b>Run {}.</b> {}</p>\n<div class=\"scroll\" tabindex=\"0\" role=\"region\" \
             aria-label=\"Run {}\"><table>\n<thead><tr><th scope=\"col\">Figure</th>",
            i + 1,
            Escaped(&super::table::headline(run)),
            i + 1
        );
        for name in [
            "Count", "Mean", "σ", "Min", "p10", "p50", "p90", "p95", "p99", "p99.9", "Max", "Tail",
            "Flatness",
        ] {
            put!(h, "<th scope=\"col\">{name}</th>");
        }
        put!(h, "</tr></thead>\n<tbody>\n");
        for (name, d) in run.distributions() {
            let shape = Shape::of(d);
            put!(h, "<tr><th scope=\"row\">{}</th><td>{}</td>", Escaped(&label(name)), grouped(d.count));
            for v in [
                d.mean,
                d.stddev,
                d.min,
                d.p10,
                d.p50,
                d.p90,
                d.p95,
                d.p99,
                d.p999,
                d.max,
                shape.tail,
                shape.flatness,
            ] {
                put!(h, "<td>{}</td>", ms(v));
            }
            put!(h, "</tr>\n");
        }
        put!(h, "</tbody></table></div></div>\n");
    }
    put!(h, "</section>\n");
}

fn machine(h: &mut String, report: &PipelineReport) {
    let m = &report.machine;
    put!(
        h,
        "<section aria-labelledby=\"machine\">\n<h2 id=\"machine\">Machine</h2>\n<dl class=\"card about\">\n"
    );
    for (name, value) in [
        ("Processor", format!("{}, {} logical processors", m.cpu, m.cores)),
        ("Extensions", m.features.join(", ")),
        ("Memory", bytes(m.memory_bytes)),
        ("System", m.system.clone()),
        ("Polypscope", m.version.clone()),
        (
            "Limits",
            "video delay 5.75 ms, annotation delay 120 ms: acceptance criteria of DEN200055".to_owned(),
        ),
    ] {
        put!(h, "<div><dt>{name}</dt><dd>{}</dd></div>\n", Escaped(&value));
    }
    put!(h, "</dl>\n</section>\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_have_ticks_that_can_be_read() {
        for (from, to) in [(0.0, 0.33), (2.9, 3.4), (-2.0, 6.0), (4.61, 4.95)] {
            let all = ticks(from, to);
            assert!((1..=9).contains(&all.len()), "{from} {to}: {all:?}");
        }
        assert_eq!((step(48_000.0), step(9.0)), (10_000.0, 2.0));
    }

    #[test]
    fn a_page_without_runs_or_with_hostile_names_is_still_a_page() {
        assert!(page(&PipelineReport::default()).ends_with("</html>\n"));
        let mut run = RunRecord::default();
        run.summary.input = "<script>alert(1)</script>".into();
        run.summary.stages_us.insert("<b>".into(), Distribution { count: 1, ..Default::default() });
        let html = page(&PipelineReport { runs: vec![run], ..Default::default() });
        assert!(!html.contains("<script>") && !html.contains("<b>:") && !html.contains("\"><b><"));
    }
}
