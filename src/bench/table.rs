//! Runs as text: a table for people, CSV for spreadsheets.
//!
//! In: the record of runs. Out: text; milliseconds in the table, microseconds in CSV.

use std::fmt::Write;

use super::record::{PipelineReport, RunRecord, Shape};
use crate::distribution::Distribution;
use crate::shown::OneLine;

const COLUMNS: [(&str, fn(&Distribution) -> f64); 12] = [
    ("mean", |d| d.mean),
    ("σ", |d| d.stddev),
    ("min", |d| d.min),
    ("p10", |d| d.p10),
    ("p50", |d| d.p50),
    ("p90", |d| d.p90),
    ("p95", |d| d.p95),
    ("p99", |d| d.p99),
    ("p99.9", |d| d.p999),
    ("max", |d| d.max),
    ("tail", |d| Shape::of(d).tail),
    ("flat", |d| Shape::of(d).flatness),
];

/// A line on what a run was and came to.
pub(super) fn headline(run: &RunRecord) -> String {
    let f = &run.summary.frames;
    let pace =
        run.fps_target.map_or("as fast as possible".to_owned(), |t| format!("paced at {t:.2} frames/s"));
    let misses = run.deadline_misses.map_or(String::new(), |n| format!(", {n} deadline misses"));
    format!(
        "{}x{}, {pace}: {:.2} frames/s, in {} out {}, inferred {}, superseded {}, dropped {}, late {}{misses}; \
         memory {} MiB at most, {:.2} cores busy",
        run.width_px,
        run.height_px,
        run.fps_achieved,
        f.entered,
        f.out,
        f.inferred,
        f.superseded,
        f.dropped,
        f.late,
        run.summary.rss_bytes.max >> 20,
        run.summary.cpu_cores
    )
}

/// Everything measured, in milliseconds.
pub fn table(report: &PipelineReport) -> String {
    let m = &report.machine;
    let mut text = format!("{}, {} cores\n", m.cpu, m.cores);
    // Writing to a string cannot fail.
    for (i, run) in report.runs.iter().enumerate() {
        let _ = writeln!(
            text,
            "\nrun {} of {}: {}, {}",
            i + 1,
            report.runs.len(),
            OneLine(&run.summary.input),
            run.summary.engine
        );
        let _ = writeln!(text, "{}", headline(run));
        let _ = write!(text, "  {:<17}{:>8}", "ms", "count");
        for (name, _) in COLUMNS {
            let _ = write!(text, "{name:>9}");
        }
        text.push('\n');
        for (name, d) in run.distributions() {
            let _ = write!(text, "  {name:<17}{:>8}", d.count);
            for (_, get) in COLUMNS {
                let _ = write!(text, "{:>9.3}", get(d) / 1e3);
            }
            text.push('\n');
        }
    }
    text.push_str("tail: max − p95; flat: p90 − p10\n");
    text
}

/// One line a distribution of a run, in microseconds; then one a figure that is no distribution.
pub fn csv(report: &PipelineReport) -> String {
    let mut text = String::from(
        "run,fps_target,figure,count,mean_us,stddev_us,min_us,p10_us,p50_us,p90_us,p95_us,p99_us,p999_us,max_us,tail_us,\
         flatness_us,value\n",
    );
    for (i, run) in report.runs.iter().enumerate() {
        let target = run.fps_target.map_or("max".to_owned(), |t| format!("{t:.3}"));
        for (name, d) in run.distributions() {
            let _ = write!(text, "{},{target},{name},{}", i + 1, d.count);
            for (_, get) in COLUMNS {
                let _ = write!(text, ",{:.3}", get(d));
            }
            text.push_str(",\n");
        }
        let f = &run.summary.frames;
        let mut figures = vec![
            ("fps_achieved", run.fps_achieved),
            ("in", f.entered as f64),
            ("out", f.out as f64),
            ("inferred", f.inferred as f64),
            ("superseded", f.superseded as f64),
            ("dropped", f.dropped as f64),
            ("late", f.late as f64),
            ("rss_max_bytes", run.summary.rss_bytes.max as f64),
            ("cpu_cores", run.summary.cpu_cores),
        ];
        figures.extend(run.deadline_misses.map(|n| ("deadline_misses", n as f64)));
        for (name, value) in figures {
            let _ = writeln!(text, "{},{target},{name},,,,,,,,,,,,,,{value}", i + 1);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_of_the_csv_has_the_columns_of_its_head() {
        let mut run = RunRecord { fps_target: Some(59.94), deadline_misses: Some(4), ..Default::default() };
        run.summary.video_delay_us = Distribution { count: 9, p50: 1234.5, ..Default::default() };
        let report = PipelineReport { runs: vec![run.clone(), run], ..Default::default() };
        let text = csv(&report);
        let columns = text.lines().next().unwrap().split(',').count();
        assert!(text.lines().all(|l| l.split(',').count() == columns), "{text}");
        assert!(text.contains("2,59.940,video_delay,9,") && text.contains(",deadline_misses,"));
        let shown = table(&report);
        assert!(
            shown.contains("run 2 of 2") && shown.contains("1.234") && shown.contains("4 deadline misses"),
            "{shown}"
        );
    }
}
