//! How long each stage took: spread and distribution on one logarithmic axis, and the same as a table.

use super::*;
use crate::distribution::{Distribution, Histogram};
use crate::telemetry::Stage;

const WIDTH: f64 = 1000.0;
/// Below 100 ns a stage did nothing worth an axis.
const SHORTEST_NS: f64 = 100.0;
/// The distribution is drawn up to this percentile; the maximum is in the table.
const LAST_SHARE: f64 = 0.999;
/// Points of one curve.
const MOST_POINTS: usize = 160;

/// A logarithmic axis of whole decades, in nanoseconds.
struct Axis {
    from: f64,
    to: f64,
}

impl Axis {
    fn of(stages: &[(Stage, &Histogram, Distribution)]) -> Self {
        let least = stages.iter().map(|s| s.2.min).fold(f64::INFINITY, f64::min).max(SHORTEST_NS);
        let most = stages.iter().map(|s| s.2.max).fold(0.0, f64::max).max(least);
        let from = least.log10().floor();
        Self { from, to: most.log10().ceil().max(from + 1.0) }
    }

    /// Position of `ns` from 0 to 1.
    fn x(&self, ns: f64) -> f64 {
        ((ns.max(SHORTEST_NS).log10() - self.from) / (self.to - self.from)).clamp(0.0, 1.0)
    }

    fn decades(&self) -> impl Iterator<Item = i32> {
        self.from as i32..=self.to as i32
    }
}

pub(super) fn section(h: &mut String, c: &Contents) {
    let stages: Vec<(Stage, &Histogram, Distribution)> = Stage::ALL
        .into_iter()
        .map(|s| (s, c.stages.get(s)))
        .filter(|(_, hist)| hist.count() > 0)
        .map(|(s, hist)| (s, hist, hist.distribution(1.0)))
        .collect();
    put!(h, "<section aria-labelledby=\"latency\">\n<h2 id=\"latency\">Time per stage</h2>\n");
    if stages.is_empty() {
        put!(h, "<div class=\"card empty\"><p>No stage was timed.</p></div>\n</section>\n");
        return;
    }
    let axis = Axis::of(&stages);
    put!(h, "<div class=\"card latency\">\n<div class=\"strips\">\n");
    strips(h, &stages, &axis);
    put!(h, "</div>\n");
    distribution(h, &stages, &axis);
    put!(h, "</div>\n");
    table(h, &stages);
    waiting(h, c);
    put!(h, "</section>\n");
}

fn label(stage: Stage) -> String {
    sentence(&stage.name().replace('_', " "))
}

/// Nanoseconds as text with their unit.
fn duration(ns: f64) -> String {
    match ns {
        ..999.5 => format!("{} ns", significant(ns)),
        ..999_500.0 => format!("{} µs", significant(ns / 1e3)),
        ..999_500_000.0 => format!("{} ms", significant(ns / 1e6)),
        _ => format!("{} s", significant(ns / 1e9)),
    }
}

fn grid(h: &mut String, axis: &Axis, height: f64) {
    let mut minor = String::new();
    let mut major = String::new();
    for d in axis.decades() {
        put!(major, "M{:.1} 0V{height}", axis.x(10f64.powi(d)) * WIDTH);
        for m in [2.0, 5.0] {
            let ns = m * 10f64.powi(d);
            if ns.log10() < axis.to {
                put!(minor, "M{:.1} 0V{height}", axis.x(ns) * WIDTH);
            }
        }
    }
    put!(h, "<path class=\"grid minor\" d=\"{minor}\"/><path class=\"grid\" d=\"{major}\"/>");
}

fn ticks(h: &mut String, axis: &Axis) {
    put!(h, "<div class=\"ticks\">");
    let many = axis.to - axis.from > 5.0;
    for (i, d) in axis.decades().enumerate() {
        let ns = 10f64.powi(d);
        put!(
            h,
            "<span{} style=\"left:{:.3}%\">{}</span>",
            if many && i % 2 == 1 { " class=\"odd\"" } else { "" },
            axis.x(ns) * 100.0,
            duration(ns)
        );
    }
    put!(h, "</div>\n");
}

/// One row a stage: range, middle 80 %, median, p99.
fn strips(h: &mut String, stages: &[(Stage, &Histogram, Distribution)], axis: &Axis) {
    put!(
        h,
        "<p class=\"key\"><svg viewBox=\"0 0 150 14\" aria-hidden=\"true\"><path class=\"range\" d=\"M2 7H148\"/>\
         <path class=\"box\" d=\"M30 7H90\"/><path class=\"median\" d=\"M55 1V13\"/><path class=\"tail\" d=\"M122 3V11\"/></svg>\
         <span>line: min – max</span><span>bar: p10 – p90</span><span>stroke: median, also at the right</span><span>tick: p99</span></p>\n"
    );
    for (stage, _, d) in stages {
        let at = |ns: f64| axis.x(ns) * WIDTH;
        put!(
            h,
            "<div class=\"strip {}\"><span class=\"stage\"><i class=\"swatch\" aria-hidden=\"true\"></i>{}</span>\
             <svg viewBox=\"0 0 {WIDTH} 26\" preserveAspectRatio=\"none\" role=\"img\" aria-label=\"{}: median {}, p10 {}, \
             p90 {}, p99 {}, maximum {}\">",
            stage.name(),
            label(*stage),
            label(*stage),
            duration(d.p50),
            duration(d.p10),
            duration(d.p90),
            duration(d.p99),
            duration(d.max)
        );
        grid(h, axis, 26.0);
        put!(
            h,
            "<path class=\"range\" d=\"M{:.1} 13H{:.1}\"/><path class=\"box\" d=\"M{:.1} 13H{:.1}\"/>\
             <path class=\"tail\" d=\"M{p99:.1} 8V18\"/><path class=\"median\" d=\"M{p50:.1} 7V19\"/></svg>\
             <span class=\"value\">{}</span></div>\n",
            at(d.min),
            at(d.max),
            at(d.p10),
            // A bar of no width would not be drawn at all.
            at(d.p90).max(at(d.p10) + 1.5),
            duration(d.p50),
            p99 = at(d.p99),
            p50 = at(d.p50),
        );
    }
    put!(h, "<div class=\"strip foot\">");
    ticks(h, axis);
    put!(h, "</div>\n");
}

/// Height of the share of frames that took no longer: each further nine takes as much room as the one before, so that
/// the tail is not pressed against the top.
fn height(share: f64) -> f64 {
    let nines = -(1.0 - share.min(LAST_SHARE)).log10();
    nines / -(1.0 - LAST_SHARE).log10()
}

/// The cumulative distribution of every stage, on the strips' axis.
fn distribution(h: &mut String, stages: &[(Stage, &Histogram, Distribution)], axis: &Axis) {
    put!(
        h,
        "<div class=\"cdf\"><p class=\"axis-name\">Share of frames that took no longer</p>\n<div class=\"field\" role=\"img\" \
         aria-label=\"Cumulative distribution of each stage’s time, to the 99.9th percentile; the same figures are in the \
         table\">"
    );
    for (share, name) in [(0.5, "50 %"), (0.9, "90 %"), (0.99, "99 %"), (0.999, "99.9 %")] {
        put!(h, "<span class=\"y\" style=\"top:{:.1}%\">{name}</span>", 100.0 - height(share) * 100.0);
    }
    put!(h, "<svg viewBox=\"0 0 {WIDTH} 100\" preserveAspectRatio=\"none\" aria-hidden=\"true\">");
    grid(h, axis, 100.0);
    for share in [0.5, 0.9, 0.99, 0.999] {
        put!(h, "<path class=\"grid\" d=\"M0 {y:.1}H{WIDTH}\"/>", y = 100.0 - height(share) * 100.0);
    }
    for (stage, hist, d) in stages {
        let points = thin(hist.cumulative());
        put!(h, "<path class=\"line {}\" d=\"M{:.1} 100", stage.name(), axis.x(d.min) * WIDTH);
        for (ns, share) in points {
            put!(h, "L{:.1} {:.1}", axis.x(ns as f64) * WIDTH, 100.0 - height(share) * 100.0);
            if share >= LAST_SHARE {
                break;
            }
        }
        put!(h, "\"/>");
    }
    put!(h, "</svg></div>\n");
    ticks(h, axis);
    put!(h, "</div>\n");
}

/// At most [`MOST_POINTS`] of a curve's points, evenly spread over its height; the first of each step, and the last.
fn thin(points: Vec<(u64, f64)>) -> Vec<(u64, f64)> {
    let mut kept: Vec<(u64, f64)> = Vec::with_capacity(MOST_POINTS);
    let last = points.last().copied();
    let mut next = 0.0;
    for p in points {
        let at = height(p.1);
        if at >= next {
            kept.push(p);
            next = at + 1.0 / (MOST_POINTS - 2) as f64;
        }
    }
    if let Some(last) = last
        && kept.last() != Some(&last)
    {
        kept.push(last);
    }
    kept
}

/// Milliseconds to the microsecond at most.
fn ms(ns: f64) -> String {
    let v = ns / 1e6;
    match v {
        ..9.9995 => format!("{v:.3}"),
        ..99.995 => format!("{v:.2}"),
        ..999.95 => format!("{v:.1}"),
        _ => grouped(v.round() as u64),
    }
}

/// What the words mean that are not work on a frame.
fn waiting(h: &mut String, c: &Contents) {
    let Some(d) = c.summary.queues_us.get("mailbox").filter(|d| d.count > 0) else { return };
    put!(
        h,
        "<p class=\"units\">Hand over is the work of passing a frame to the network’s thread (a live session copies it for that; \
         here it is only moved). The frame then waits for the network in the mailbox, which is no work and in no row above: \
         median {}, p99 {}.</p>\n",
        duration(d.p50 * 1e3),
        duration(d.p99 * 1e3)
    );
}

fn table(h: &mut String, stages: &[(Stage, &Histogram, Distribution)]) {
    put!(
        h,
        "<div class=\"card\"><p class=\"units\">Milliseconds per frame. σ is the standard deviation; pN is the time that N % of the \
         frames do not exceed.</p>\n<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"Time per stage\"><table>\n\
         <caption class=\"unseen\">Milliseconds per frame in each stage</caption>\n\
         <thead><tr><th scope=\"col\">Stage</th>"
    );
    for name in ["Frames", "Mean", "σ", "Min", "p10", "p50", "p90", "p95", "p99", "p99.9", "Max"] {
        put!(h, "<th scope=\"col\">{name}</th>");
    }
    put!(h, "</tr></thead>\n<tbody>\n");
    for (stage, _, d) in stages {
        put!(
            h,
            "<tr class=\"{}\"><th scope=\"row\"><i class=\"swatch\" aria-hidden=\"true\"></i>{}</th><td>{}</td>",
            stage.name(),
            label(*stage),
            grouped(d.count)
        );
        for v in [d.mean, d.stddev, d.min, d.p10, d.p50, d.p90, d.p95, d.p99, d.p999, d.max] {
            put!(h, "<td>{}</td>", ms(v));
        }
        put!(h, "</tr>\n");
    }
    put!(h, "</tbody></table></div></div>\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Nanos;

    #[test]
    fn the_axis_spans_whole_decades_and_never_none() {
        let mut hist = Histogram::new();
        hist.record(Nanos(1_000_000));
        let d = hist.distribution(1.0);
        let axis = Axis::of(&[(Stage::Decode, &hist, d)]);
        assert!(axis.to > axis.from);
        assert!((0.0..=1.0).contains(&axis.x(0.0)) && axis.x(1e12) == 1.0);
    }

    #[test]
    fn every_nine_takes_the_same_room() {
        assert_eq!(height(0.0), 0.0);
        for (share, at) in [(0.9, 1.0 / 3.0), (0.99, 2.0 / 3.0), (0.999, 1.0), (1.0, 1.0)] {
            assert!((height(share) - at).abs() < 1e-9, "{share}");
        }
    }

    #[test]
    fn thinning_keeps_the_ends_and_the_order() {
        let points: Vec<_> = (1..=5000u64).map(|i| (i, i as f64 / 5000.0)).collect();
        let kept = thin(points.clone());
        assert!(kept.len() <= MOST_POINTS && kept.len() > MOST_POINTS / 3);
        assert_eq!((kept.first(), kept.last()), (points.first(), points.last()));
        assert!(kept.is_sorted());
        assert!(thin(Vec::new()).is_empty());
    }

    #[test]
    fn durations_carry_the_unit_that_fits() {
        assert_eq!([1.0, 1500.0, 2_340_000.0, 3e9].map(duration), ["1 ns", "1.5 µs", "2.34 ms", "3 s"]);
        assert_eq!([4_200.0, 41_234_567.0, 2e9].map(ms), ["0.004", "41.23", "2\u{202f}000"]);
    }
}
