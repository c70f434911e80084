//! Two sets of runs, figure by figure.
//!
//! In: two results of `bench pipeline`. Out: which figures changed beyond the spread between runs, and by how much. How
//! that is judged is told in [`super::statistics`].

use serde::Serialize;

use super::record::{PipelineReport, RunRecord};
use super::statistics::{FEWEST, differs, median, range, threshold};
use crate::{Error, Result};

/// What became of a figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Within what runs differ anyway.
    Same,
    Better,
    Worse,
    /// Fewer than three runs on a side.
    TooFewRuns,
}

/// One figure on both sides.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Change {
    /// Such as `video_delay_us.p99`.
    pub figure: String,
    /// Medians over the runs.
    pub a: f64,
    pub b: f64,
    /// Largest minus smallest of the runs.
    pub range_a: f64,
    pub range_b: f64,
    pub difference: f64,
    /// Of the median of A; `null` where that is 0.
    pub percent: Option<f64>,
    pub verdict: Verdict,
}

/// The whole comparison.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    pub runs_a: usize,
    pub runs_b: usize,
    /// A difference counts from this many times the larger range on.
    pub threshold_ranges: f64,
    /// What a reader should know before trusting it.
    pub remarks: Vec<String>,
    pub changes: Vec<Change>,
}

impl Comparison {
    pub fn of(&self, verdict: Verdict) -> impl Iterator<Item = &Change> {
        self.changes.iter().filter(move |c| c.verdict == verdict)
    }

    /// Figures that became worse by more than so many percent.
    pub fn worse_by(&self, percent: f64) -> impl Iterator<Item = &Change> {
        self.of(Verdict::Worse).filter(move |c| c.percent.is_none_or(|p| p.abs() > percent))
    }
}

/// Smallest differences that mean anything.
struct Least {
    absolute: f64,
    relative: f64,
}

struct Figure {
    name: String,
    of: Box<dyn Fn(&RunRecord) -> Option<f64>>,
    more_is_better: bool,
    least: Least,
}

/// Times below this are the clock's and the scheduler's.
const LEAST_US: f64 = 20.0;
/// One percent is nobody's regression; the histograms' own steps are a tenth of that.
const LEAST_SHARE: f64 = 0.01;

fn figures(runs: &[&RunRecord]) -> Vec<Figure> {
    let mut names: Vec<String> = Vec::new();
    for run in runs {
        for (name, _) in run.distributions() {
            if !names.iter().any(|n| n == name) {
                names.push(name.to_owned());
            }
        }
    }
    let mut all = Vec::new();
    for name in names {
        for (part, get) in [
            ("p50", (|d| d.p50) as fn(&crate::distribution::Distribution) -> f64),
            ("p99", |d| d.p99),
            ("mean", |d| d.mean),
        ] {
            let of = name.clone();
            all.push(Figure {
                name: format!("{name}_us.{part}"),
                of: Box::new(move |r| r.distribution(&of).map(get)),
                more_is_better: false,
                least: Least { absolute: LEAST_US, relative: LEAST_SHARE },
            });
        }
    }
    let mut scalar = |name: &str, more_is_better: bool, absolute: f64, of: fn(&RunRecord) -> Option<f64>| {
        let least = Least { absolute, relative: LEAST_SHARE };
        all.push(Figure { name: name.to_owned(), of: Box::new(of), more_is_better, least });
    };
    scalar("fps_achieved", true, 0.01, |r| Some(r.fps_achieved));
    scalar("deadline_misses", false, 1.0, |r| r.deadline_misses.map(|n| n as f64));
    scalar("frames.dropped", false, 0.5, |r| Some(r.summary.frames.dropped as f64));
    scalar("frames.late", false, 1.0, |r| Some(r.summary.frames.late as f64));
    scalar("frames.superseded", false, 1.0, |r| Some(r.summary.frames.superseded as f64));
    scalar("rss_bytes.max", false, 4_194_304.0, |r| Some(r.summary.rss_bytes.max as f64));
    scalar("cpu_cores", false, 0.02, |r| Some(r.summary.cpu_cores));
    all
}

/// # Errors
/// Paced runs against runs as fast as possible, different rates or sizes, a side without runs.
pub fn compare(a: &PipelineReport, b: &PipelineReport) -> Result<Comparison> {
    let (Some(first), Some(second)) = (a.runs.first(), b.runs.first()) else {
        return Err(Error::input("a side of the comparison has no run").remedy("measure again"));
    };
    a.check_unmixed()?;
    b.check_unmixed()?;
    match (first.fps_target, second.fps_target) {
        (Some(_), None) | (None, Some(_)) => {
            return Err(Error::usage("paced runs cannot be compared with runs as fast as possible")
                .remedy("measure both sides with the same --fps"));
        }
        (x, y) if x != y => {
            return Err(Error::usage(format!(
                "runs at {} and at {} frames/s cannot be compared",
                x.unwrap_or_default(),
                y.unwrap_or_default()
            ))
            .remedy("measure both sides with the same --fps"));
        }
        _ => {}
    }
    let size = |r: &RunRecord| (r.width_px, r.height_px);
    if size(first) != size(second) {
        let ((aw, ah), (bw, bh)) = (size(first), size(second));
        return Err(Error::usage(format!("pictures of {aw}x{ah} and of {bw}x{bh} cannot be compared"))
            .remedy("measure both sides with the same --size"));
    }

    let mut remarks = Vec::new();
    let (m, n) = (&a.machine, &b.machine);
    if (&m.cpu, m.cores, m.memory_bytes) != (&n.cpu, n.cores, n.memory_bytes) {
        remarks.push(format!(
            "different machines: {} ({} cores) and {} ({} cores)",
            m.cpu, m.cores, n.cpu, n.cores
        ));
    }
    for (what, x, y) in [
        ("inputs", first.summary.input.clone(), second.summary.input.clone()),
        ("engines", first.summary.engine.clone(), second.summary.engine.clone()),
        (
            "network sizes",
            format!("{:?}", first.summary.network_size),
            format!("{:?}", second.summary.network_size),
        ),
    ] {
        if x != y {
            remarks.push(format!("different {what}: {x} and {y}"));
        }
    }
    let few = a.runs.len() < FEWEST || b.runs.len() < FEWEST;
    if few {
        remarks.push(format!("nothing is judged: that takes {FEWEST} runs a side at least"));
    }
    if let Some(s) = first.slowed.as_ref().or(second.slowed.as_ref()) {
        remarks.push(format!("a sleep was added on purpose: {s}"));
    }

    let both: Vec<&RunRecord> = a.runs.iter().chain(&b.runs).collect();
    let figures = figures(&both);
    let times = if few { f64::INFINITY } else { threshold(a.runs.len(), b.runs.len(), figures.len()) };
    let mut changes = Vec::new();
    for figure in &figures {
        let values =
            |report: &PipelineReport| report.runs.iter().filter_map(&figure.of).collect::<Vec<f64>>();
        let (x, y) = (values(a), values(b));
        if x.is_empty() || y.is_empty() {
            if x.len() != y.len() {
                remarks.push(format!("{}: measured on one side only", figure.name));
            }
            continue;
        }
        let (at, to) = (median(&x), median(&y));
        let least = figure.least.absolute.max(figure.least.relative * at.abs());
        let verdict = match (few, differs(&x, &y, times, least)) {
            (true, _) => Verdict::TooFewRuns,
            (_, false) => Verdict::Same,
            _ if (to > at) == figure.more_is_better => Verdict::Better,
            _ => Verdict::Worse,
        };
        changes.push(Change {
            figure: figure.name.clone(),
            a: at,
            b: to,
            range_a: range(&x),
            range_b: range(&y),
            difference: to - at,
            percent: (at != 0.0).then(|| (to - at) / at * 100.0),
            verdict,
        });
    }
    Ok(Comparison {
        runs_a: a.runs.len(),
        runs_b: b.runs.len(),
        threshold_ranges: if few { 0.0 } else { times },
        remarks,
        changes,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::distribution::Distribution;

    /// Runs whose network takes about `network` µs, each a little different.
    fn report(network: f64, seeds: &[u64]) -> PipelineReport {
        let runs = seeds
            .iter()
            .map(|seed| {
                let u = |k: u64| {
                    let h = (seed * 31 + k).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33;
                    1.0 + 0.01 * (h % 1000) as f64 / 1000.0
                };
                let dist = |v: f64, k| Distribution {
                    count: 600,
                    mean: v * u(k),
                    p50: v * u(k + 1),
                    p99: v * 1.4 * u(k + 2) * u(k + 3),
                    ..Default::default()
                };
                let mut run = RunRecord {
                    width_px: 1280,
                    height_px: 720,
                    fps_target: Some(30.0),
                    fps_achieved: 30.0,
                    deadline_misses: Some(200),
                    ..Default::default()
                };
                run.summary.stages_us.insert("network".into(), dist(network, 1));
                run.summary.stages_us.insert("composite".into(), dist(700.0, 20));
                run.summary.video_delay_us = dist(1500.0, 40);
                run
            })
            .collect();
        PipelineReport { runs, ..Default::default() }
    }

    #[test]
    fn the_same_build_stays_quiet_and_five_milliseconds_do_not() {
        let a = report(42_000.0, &[1, 2, 3]);
        let same = compare(&a, &report(42_000.0, &[4, 5, 6])).unwrap();
        assert_eq!(same.of(Verdict::Worse).count() + same.of(Verdict::Better).count(), 0, "{same:?}");
        let slower = compare(&a, &report(47_000.0, &[4, 5, 6])).unwrap();
        let worse: Vec<_> = slower.of(Verdict::Worse).map(|c| c.figure.as_str()).collect();
        assert!(worse.contains(&"network_us.p50") && worse.contains(&"network_us.mean"), "{worse:?}");
        assert!(worse.iter().all(|w| w.starts_with("network")), "{worse:?}");
        assert!(slower.worse_by(5.0).count() > 0 && slower.worse_by(30.0).count() == 0);
        let faster = compare(&report(47_000.0, &[4, 5, 6]), &a).unwrap();
        assert_eq!((faster.of(Verdict::Worse).count(), faster.of(Verdict::Better).count() > 0), (0, true));
    }

    #[test]
    fn what_cannot_be_compared_is_refused_and_what_is_doubtful_is_said() {
        let a = report(42_000.0, &[1, 2, 3]);
        let mut max = a.clone();
        max.runs.iter_mut().for_each(|r| r.fps_target = None);
        assert!(compare(&a, &max).unwrap_err().to_string().contains("as fast as possible"));
        let mut large = a.clone();
        large.runs.iter_mut().for_each(|r| r.width_px = 1920);
        assert!(compare(&a, &large).unwrap_err().to_string().contains("1920x720"));
        let mut other = a.clone();
        other.machine.cpu = "another".into();
        assert!(compare(&a, &other).unwrap().remarks[0].starts_with("different machines"));
        let two = report(90_000.0, &[1, 2]);
        let judged = compare(&a, &two).unwrap();
        assert!(judged.changes.iter().all(|c| c.verdict == Verdict::TooFewRuns));
        assert!(judged.remarks.iter().any(|r| r.contains("3 runs")));
        assert!(compare(&a, &PipelineReport::default()).is_err());
    }
}
