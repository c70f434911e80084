//! One page over an archive: a table that can be searched and sorted, courses, pictures, failures, and what it cost.
//!
//! In: recordings one after the other, and pictures of their polyps. Out: HTML that needs nothing else. The table's
//! rows are data that the page's own script shows some hundred of at a time; its content security policy lets nothing
//! else run or load. The part between the two `run` comments depends on the machines; the rest on the results alone.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::fmt::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use sha2::{Digest, Sha256};

use super::{Merged, Standing};
use crate::fleet::manifest::{Head, Manifest, Unit};
use crate::fleet::outcome::Outcome;
use crate::fleet::segment::BestFrame;
use crate::replay::record::first_alarm_after_ms;
use crate::replay::report::STYLE;
use crate::replay::report::text::{Escaped, count, grouped, significant, span, time};

const OWN_STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// Pictures of the page: of the polyps in view longest.
const MOST_PICTURES: usize = 120;

/// Lines of the slowest frames.
const SLOWEST: usize = 20;

/// Lines of failures; all are in failed.csv.
const MOST_FAILURES: usize = 200;

/// A frame that took long.
#[derive(Clone, Debug)]
struct Slow {
    ms: f64,
    network_ms: f64,
    name: String,
    frame: u64,
    engine: String,
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Pictured {
    frames: u64,
    /// Earlier recordings first among equals.
    order: Reverse<(usize, u64)>,
    html: String,
}

/// See the module.
pub(super) struct Page<'a> {
    head: &'a Head,
    /// One line of JSON a recording.
    rows: String,
    units: usize,
    failures: String,
    failed: usize,
    reasons: BTreeMap<String, usize>,
    states: BTreeMap<&'static str, usize>,
    seconds: f64,
    pictures: BinaryHeap<Reverse<Pictured>>,
    slowest: Vec<Slow>,
    /// Stage → milliseconds over all frames.
    stages: Vec<(String, f64)>,
    elapsed_ms: f64,
    resume_ms: f64,
    resumes: u64,
    engines: BTreeMap<String, u64>,
}

impl<'a> Page<'a> {
    pub fn new(manifest: &'a Manifest) -> Self {
        Self {
            head: &manifest.head,
            rows: String::new(),
            units: 0,
            failures: String::new(),
            failed: 0,
            reasons: BTreeMap::new(),
            states: BTreeMap::new(),
            seconds: 0.0,
            pictures: BinaryHeap::new(),
            slowest: Vec::new(),
            stages: Vec::new(),
            elapsed_ms: 0.0,
            resume_ms: 0.0,
            resumes: 0,
            engines: BTreeMap::new(),
        }
    }

    pub fn recording(&mut self, unit: &Unit, standing: Standing) {
        let state = standing.name();
        *self.states.entry(state).or_default() += 1;
        let found = match standing {
            Standing::Result(o) => Some(&o.found),
            _ => None,
        };
        let seconds = found.map(|f| f.length_ns as f64 * 1e-9).filter(|s| *s > 0.0).or(unit.seconds);
        self.seconds += found.map_or(0.0, |f| f.length_ns as f64 * 1e-9);
        let share =
            found.filter(|f| f.frames > 0).map(|f| round(f.positive_frames as f64 / f.frames as f64, 4));
        let row = json!([
            unit.name,
            state,
            seconds.map(|s| round(s, 1)),
            found.map_or(unit.frames, |f| f.frames),
            found.map(|f| if f.tracks > 0 || f.episodes.is_empty() {
                f.polyps.len()
            } else {
                f.episodes.len()
            }),
            found.map(|f| f.brief.len()),
            share,
            found.and_then(|f| first_alarm_after_ms(&f.polyps)).map(|ms| round(ms, 0)),
            found.map_or(0, |f| f.lost_frames),
            found.map_or("", |f| f.course.as_str()),
            standing.reason(),
        ]);
        if self.units > 0 {
            self.rows.push_str(",\n");
        }
        // An element's end inside a text would end the script.
        self.rows.push_str(&row.to_string().replace('<', "\\u003c"));
        self.units += 1;
        if !standing.is_whole() {
            self.failure(unit, &standing);
        }
        if let Standing::Result(outcome) = standing {
            self.cost(unit, outcome);
        }
    }

    fn failure(&mut self, unit: &Unit, standing: &Standing) {
        let reason = standing.reason().unwrap_or("no result yet");
        *self.reasons.entry(reason.to_owned()).or_default() += 1;
        self.failed += 1;
        if self.failed <= MOST_FAILURES {
            let _ = writeln!(
                self.failures,
                "<tr><td>{}</td><td>{}</td><td>{}</td></tr>",
                Escaped(&unit.name),
                standing.name(),
                Escaped(reason)
            );
        }
    }

    fn cost(&mut self, unit: &Unit, outcome: &Outcome) {
        let run = &outcome.run;
        self.elapsed_ms += run.elapsed_ms;
        self.resume_ms += run.resume_ms;
        self.resumes += u64::from(run.resumes);
        if !run.engine.is_empty() {
            *self.engines.entry(format!("{}, {}", run.engine, run.cpu)).or_default() += outcome.found.frames;
        }
        for (stage, ms) in &run.stages_ms {
            match self.stages.iter_mut().find(|(s, _)| s == stage) {
                Some((_, sum)) => *sum += ms,
                None => self.stages.push((stage.clone(), *ms)),
            }
        }
        let slow = run.slowest.iter().map(|&(frame, ms, network_ms)| Slow {
            ms,
            network_ms,
            name: unit.name.clone(),
            frame,
            engine: run.engine.clone(),
        });
        self.slowest.extend(slow);
        self.slowest.sort_by(|a, b| b.ms.total_cmp(&a.ms));
        self.slowest.truncate(SLOWEST);
    }

    /// Keeps the pictures of polyps (of episodes) among the longest of the archive.
    pub fn best_frames(&mut self, unit: &Unit, outcome: &Outcome, best_frames: &[BestFrame]) {
        let found = &outcome.found;
        let polyps =
            found.polyps.iter().map(|p| (p.best_frame, p.frames, p.confirmed_ns, p.best_mean_probability));
        let episodes = found
            .episodes
            .iter()
            .filter(|_| found.tracks == 0)
            .map(|e| (e.best_frame, e.frames, e.start_ns, e.best_mean_probability));
        for (best, frames, at_ns, probability) in polyps.chain(episodes) {
            let Some(best) = best_frames.iter().find(|s| s.frame == best) else { continue };
            let order = Reverse((self.units, best.frame));
            let full = self.pictures.len() >= MOST_PICTURES;
            if full
                && self
                    .pictures
                    .peek()
                    .is_some_and(|Reverse(least)| (frames, order) <= (least.frames, least.order))
            {
                continue;
            }
            let html = figure(&unit.name, at_ns, frames, probability, best);
            self.pictures.push(Reverse(Pictured { frames, order, html }));
            if full {
                self.pictures.pop();
            }
        }
    }

    pub fn html(self, merged: &Merged) -> String {
        let mut h = String::with_capacity(self.rows.len() + 100_000);
        let policy = format!(
            "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{}'",
            STANDARD.encode(Sha256::digest(SCRIPT))
        );
        let _ = write!(
            h,
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta http-equiv=\"Content-Security-Policy\" content=\"{policy}\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <meta name=\"color-scheme\" content=\"light dark\">\n<meta name=\"referrer\" content=\"no-referrer\">\n\
             <title>Archive – Polypscope</title>\n<style>\n{STYLE}{OWN_STYLE}</style>\n</head>\n<body>\n\
             <header>\n<div class=\"brand\"><span class=\"product\">Polypscope</span>\
             <span class=\"kind\">Archive</span><span class=\"notice\">Research software, not a medical device</span></div>\n\
             <h1>{}</h1>\n<ul class=\"facts\"><li>{}</li><li>checkpoint {}</li><li>confirmation {}</li></ul>\n</header>\n<main>\n",
            count(merged.recordings as u64, "recording", "recordings"),
            span((self.seconds * 1e9) as u64),
            Escaped(&self.head.checkpoint),
            Escaped(&self.head.settings.confirm)
        );
        self.tiles(&mut h, merged);
        h.push_str(
            "<section aria-labelledby=\"recordings\">\n<div class=\"heading\"><h2 id=\"recordings\">Recordings</h2>\
             <input id=\"search\" type=\"search\" placeholder=\"Search names, states and reasons\" \
             aria-label=\"Search recordings\"></div>\n<div class=\"card wide\"><table id=\"table\"><thead><tr></tr></thead>\
             <tbody></tbody></table><p class=\"hint\" id=\"shown\">The table needs this page’s script; \
             recordings.parquet has the same rows.</p></div>\n</section>\n",
        );
        self.gallery(&mut h);
        self.problems(&mut h);
        h.push_str("<!-- run -->\n");
        self.costs(&mut h, merged);
        h.push_str("<!-- /run -->\n</main>\n<script type=\"application/json\" id=\"data\">[\n");
        h.push_str(&self.rows);
        let _ = write!(h, "\n]</script>\n<script>{SCRIPT}</script>\n</body>\n</html>\n");
        h
    }

    fn tiles(&self, h: &mut String, merged: &Merged) {
        h.push_str("<dl class=\"tiles card\">");
        let states: Vec<_> = self.states.iter().map(|(s, n)| format!("{} {s}", grouped(*n as u64))).collect();
        for (name, value, small) in [
            ("With a result", grouped(merged.with_result as u64), states.join(", ")),
            ("Frames", grouped(merged.frames), String::new()),
            ("Polyps", grouped(merged.polyps), "tracks joined across short gaps".to_owned()),
            ("Not whole", grouped(merged.failed as u64), "see failed.csv".to_owned()),
        ] {
            let _ = write!(
                h,
                "<div class=\"tile\"><dt>{name}</dt><dd>{value}<small>{}</small></dd></div>",
                Escaped(&small)
            );
        }
        h.push_str("</dl>\n");
    }

    fn gallery(&self, h: &mut String) {
        if self.pictures.is_empty() {
            return;
        }
        let mut pictures: Vec<_> = self.pictures.iter().map(|Reverse(p)| p).collect();
        pictures.sort_by(|a, b| b.cmp(a));
        h.push_str(
            "<section aria-labelledby=\"polyps\">\n<h2 id=\"polyps\">In view longest</h2>\n<div class=\"gallery\">\n",
        );
        pictures.iter().for_each(|p| h.push_str(&p.html));
        h.push_str("</div>\n</section>\n");
    }

    fn problems(&self, h: &mut String) {
        if self.failed == 0 {
            return;
        }
        h.push_str(
            "<section aria-labelledby=\"failed\">\n<h2 id=\"failed\">Not whole</h2>\n<div class=\"card wide\">\n<table>\
             <thead><tr><th>Reason</th><th class=\"n\">Recordings</th></tr></thead><tbody>\n",
        );
        let mut reasons: Vec<_> = self.reasons.iter().collect();
        reasons.sort_by_key(|(reason, n)| (Reverse(**n), *reason));
        for (reason, n) in reasons.iter().take(50) {
            let _ = writeln!(
                h,
                "<tr><td>{}</td><td class=\"n\">{}</td></tr>",
                Escaped(reason),
                grouped(**n as u64)
            );
        }
        h.push_str("</tbody></table>\n<table><thead><tr><th>Recording</th><th>State</th><th>Reason</th></tr></thead><tbody>\n");
        h.push_str(&self.failures);
        h.push_str("</tbody></table>\n");
        if self.failed > MOST_FAILURES {
            let _ = write!(
                h,
                "<p class=\"hint\">{} more are in failed.csv.</p>",
                grouped((self.failed - MOST_FAILURES) as u64)
            );
        }
        h.push_str("</div>\n</section>\n");
    }

    fn costs(&self, h: &mut String, merged: &Merged) {
        let _ = write!(
            h,
            "<section aria-labelledby=\"cost\">\n<h2 id=\"cost\">What it took</h2>\n<p class=\"hint\">{} of work, {} of it \
             decoding up to where {} went on after an interruption.</p>\n",
            span(((self.elapsed_ms + self.resume_ms) * 1e6) as u64),
            span((self.resume_ms * 1e6) as u64),
            count(self.resumes, "segment", "segments")
        );
        h.push_str(
            "<div class=\"card wide\">\n<table><thead><tr><th>Stage</th><th class=\"n\">ms a frame, mean</th></tr></thead><tbody>\n",
        );
        for (stage, ms) in &self.stages {
            let mean = ms / merged.frames.max(1) as f64;
            let _ =
                writeln!(h, "<tr><td>{}</td><td class=\"n\">{}</td></tr>", Escaped(stage), significant(mean));
        }
        h.push_str(
            "</tbody></table>\n<table><thead><tr><th>Slowest frames</th><th class=\"n\">Frame</th><th class=\"n\">ms</th>\
             <th class=\"n\">of them in the network</th><th>Engine</th></tr></thead><tbody>\n",
        );
        for s in &self.slowest {
            let _ = writeln!(
                h,
                "<tr><td>{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td>{}</td></tr>",
                Escaped(&s.name),
                s.frame,
                significant(s.ms),
                significant(s.network_ms),
                Escaped(&s.engine)
            );
        }
        h.push_str("</tbody></table>\n<table><thead><tr><th>Engine and processor</th><th class=\"n\">Frames</th></tr></thead><tbody>\n");
        for (engine, frames) in &self.engines {
            let _ =
                writeln!(h, "<tr><td>{}</td><td class=\"n\">{}</td></tr>", Escaped(engine), grouped(*frames));
        }
        h.push_str("</tbody></table>\n</div>\n</section>\n");
    }
}

fn round(v: f64, digits: i32) -> f64 {
    let scale = 10f64.powi(digits);
    (v * scale).round() / scale
}

/// A polyp's picture with its outline.
fn figure(name: &str, at_ns: u64, frames: u64, probability: f32, best: &BestFrame) -> String {
    let (w, h) = (best.view.w.max(1), best.view.h.max(1));
    let mut paths = String::new();
    for outline in &best.outlines {
        for (i, p) in outline.iter().enumerate() {
            let (x, y) = (i64::from(p[0]) - i64::from(best.view.x), i64::from(p[1]) - i64::from(best.view.y));
            let _ = write!(paths, "{}{x} {y}", if i == 0 { 'M' } else { 'L' });
        }
        paths.push('Z');
    }
    // Base64 and nothing else: it came from a store others may write to.
    let jpeg: String =
        best.jpeg.chars().filter(|c| c.is_ascii_alphanumeric() || "+/=".contains(*c)).collect();
    format!(
        "<figure class=\"card\"><div class=\"picture\"><img alt=\"\" width=\"{}\" height=\"{}\" \
         src=\"data:image/jpeg;base64,{jpeg}\"><svg viewBox=\"0 0 {w} {h}\" aria-hidden=\"true\"><path d=\"{paths}\"/></svg></div>\
         <figcaption>{}<small>{} · {} · probability {probability:.2}</small></figcaption></figure>\n",
        best.width,
        best.height,
        Escaped(name),
        time(at_ns),
        count(frames, "frame", "frames")
    )
}
