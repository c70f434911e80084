//! `report.html`: one file that needs nothing else, neither a network nor a server.
//!
//! In: what the replay left. Out: a page that reads without its script (which only adds the read-out under the
//! pointer). Its content security policy forbids every request and every script but its own, so that not even a file
//! name that found a way past escaping could run. Charts are drawn here and not by a plotting library because their
//! colours follow the reader's light or dark theme, their labels must stay legible when the plot shrinks to a phone,
//! and the timeline links to the episodes.

mod about;
mod episodes;
mod latency;
mod timeline;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

use super::text::{Escaped, bytes, count, grouped, percent, significant, span};
use super::{Contents, Shown};

pub(crate) const STYLE: &str = include_str!("page/page.css");
const SCRIPT: &str = include_str!("page/page.js");

/// Appends formatted text to a `String`, which cannot fail.
macro_rules! put {
    ($html:expr, $($arg:tt)*) => {{
        use std::fmt::Write;
        let _ = write!($html, $($arg)*);
    }};
}
use put;

/// The whole page.
pub(super) fn page(c: &Contents) -> String {
    let pictures: usize = c.episodes.iter().filter_map(|e| Some(e.picture.as_ref()?.jpeg.bytes.len())).sum();
    let mut h = String::with_capacity(200_000 + pictures * 4 / 3 + c.episodes.len() * 1500);
    let name = Escaped(file_name(&c.summary.input));
    let policy = format!(
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{}'",
        STANDARD.encode(Sha256::digest(SCRIPT))
    );
    put!(
        h,
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{policy}\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<meta name=\"referrer\" content=\"no-referrer\">\n\
         <title>{name} – Polypscope replay report</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n"
    );
    header(&mut h, c);
    put!(h, "<main>\n");
    tiles(&mut h, c);
    timeline::section(&mut h, c);
    episodes::section(&mut h, c);
    latency::section(&mut h, c);
    about::section(&mut h, c);
    put!(h, "</main>\n");
    footer(&mut h, c);
    put!(h, "<script>{SCRIPT}</script>\n</body>\n</html>\n");
    h
}

/// The last part of a path or address.
fn file_name(input: &str) -> &str {
    input.trim_end_matches('/').rsplit('/').next().filter(|n| !n.is_empty()).unwrap_or("recording")
}

/// What the page's stretches are called: one of them with a capital, several without.
fn nouns(c: &Contents) -> (&'static str, &'static str, &'static str) {
    if c.followed { ("Polyp", "polyp", "polyps") } else { ("Episode", "episode", "episodes") }
}

/// Time that is part of at least one stretch: polyps may be in view together.
fn marked_ns(c: &Contents) -> u64 {
    let mut reached = 0;
    let mut sum = 0;
    // In the order of their begin.
    for e in c.episodes {
        sum += e.ended.to_ns.saturating_sub(e.ended.from_ns.max(reached));
        reached = reached.max(e.ended.to_ns);
    }
    sum
}

/// Share of the field of view; of the whole picture, then of nothing, where that is not known.
fn share(c: &Contents, area_px: u64, shown: Option<&Shown>) -> f64 {
    let s = c.summary;
    let view = shown
        .and_then(|e| e.picture.as_ref())
        .map(|p| p.view.area())
        .into_iter()
        .chain([s.field_of_view.area(), u64::from(s.width_px) * u64::from(s.height_px)])
        .find(|a| *a > 0);
    view.map_or(0.0, |v| (area_px as f64 / v as f64).min(1.0))
}

fn header(h: &mut String, c: &Contents) {
    let s = c.summary;
    put!(
        h,
        "<header>\n<div class=\"brand\">\
         <svg class=\"logo\" viewBox=\"0 0 32 32\" aria-hidden=\"true\"><circle cx=\"16\" cy=\"16\" r=\"14\"/>\
         <path d=\"M9 18c-1-5 3-9 8-8s8 5 5 9-5 4-8 4-4-2-5-5z\"/></svg>\
         <span class=\"product\">Polypscope</span><span class=\"kind\">Replay report</span>\
         <span class=\"notice\">Research software, not a medical device</span></div>\n"
    );
    put!(h, "<h1>{}</h1>\n<ul class=\"facts\">", Escaped(file_name(&s.input)));
    let size = (s.width_px > 0).then(|| format!("{} × {}", s.width_px, s.height_px));
    let rate = (s.fps > 0.0).then(|| format!("{} frames/s", significant(s.fps)));
    let facts = [
        Some(span(c.length_ns)),
        Some(count(s.frames.read, "frame", "frames")),
        size,
        rate,
        Some(format!("threshold {}", significant(s.threshold))),
        (!s.engine.is_empty()).then(|| s.engine.clone()),
    ];
    for fact in facts.into_iter().flatten() {
        put!(h, "<li>{}</li>", Escaped(&fact));
    }
    put!(h, "</ul>\n");
    if s.partial {
        let reason =
            s.partial_reason.as_deref().unwrap_or("the replay did not reach the end of the recording");
        put!(
            h,
            "<div class=\"banner\" role=\"note\"><strong>This report is partial.</strong> {}. It covers {} ({}).</div>\n",
            Escaped(&sentence(reason)),
            count(s.frames.written, "frame", "frames"),
            span(c.length_ns)
        );
    }
    put!(h, "</header>\n");
}

/// Begins with a capital and ends without a full stop.
fn sentence(text: &str) -> String {
    let text = text.trim().trim_end_matches('.');
    let mut chars = text.chars();
    chars.next().map(|f| f.to_uppercase().chain(chars).collect()).unwrap_or_default()
}

fn tiles(h: &mut String, c: &Contents) {
    let s = c.summary;
    let marked_ns = marked_ns(c);
    let of_time = if c.length_ns > 0 { marked_ns as f64 / c.length_ns as f64 } else { 0.0 };
    let widest = c.timeline.bins().0.iter().max_by_key(|b| b.area_px).copied().unwrap_or_default();
    put!(h, "<dl class=\"tiles card\">\n");
    let mut tile = |label: &str, value: &str, note: &str| {
        put!(h, "<div class=\"tile\"><dt>{label}</dt><dd>{value}<small>{note}</small></dd></div>\n");
    };
    let number = grouped(c.episodes.len() as u64);
    match s.first_alarm_after_ms {
        _ if !c.followed => tile("Episodes", &number, "with a marked polyp"),
        None => tile("Polyps", &number, "confirmed"),
        Some(ms) => tile("Polyps", &number, &format!("first alarm after {} ms", significant(ms))),
    }
    tile(
        "Time marked",
        &if marked_ns > 0 { span(marked_ns) } else { "none".to_owned() },
        &format!("{} of the recording", percent(of_time)),
    );
    tile("Frames marked", &grouped(c.positive), &format!("of {}", count(s.frames.read, "frame", "frames")));
    match c.surest {
        Some(surest) if c.episodes.is_empty() => tile(
            "Largest probability",
            &super::text::probability(surest.probability),
            &format!("frame {} at {}", surest.frame, super::text::time(surest.pts_ns)),
        ),
        _ => tile(
            "Largest area",
            &percent(share(c, widest.area_px, None)),
            &format!("of the field of view, frame {}", grouped(widest.frame().unwrap_or(0))),
        ),
    }
    let network = c.stages.get(crate::telemetry::Stage::Network);
    if network.count() > 0 {
        let d = network.distribution(1e-6);
        tile(
            "Network, median",
            &format!("{} ms", significant(d.p50)),
            &format!("p99 {} ms", significant(d.p99)),
        );
    }
    if s.elapsed_ms > 0.0 && c.length_ns > 0 {
        let speed = s.duration_ms / s.elapsed_ms;
        let rate = s.frames.written as f64 / s.elapsed_ms * 1000.0;
        tile(
            "Replayed in",
            &span((s.elapsed_ms * 1e6) as u64),
            &format!("{} frames/s, {} × real time", significant(rate), significant(speed)),
        );
    }
    put!(h, "</dl>\n");
}

fn footer(h: &mut String, c: &Contents) {
    let m = &c.summary.machine;
    put!(
        h,
        "<footer><p>Polypscope {} is research software. It is not a medical device and must not guide diagnosis or \
         treatment. A stretch without marks is no evidence that it shows no polyp.</p></footer>\n",
        Escaped(&m.version)
    );
}

#[cfg(test)]
mod tests;
