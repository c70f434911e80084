//! Histograms with a fixed memory and the figures reports print of them.
//!
//! In: spans in nanoseconds. Out: [`Distribution`] in the unit asked for. High dynamic range histograms (Tene's
//! HdrHistogram): three significant digits from 1 ns to an hour.

use hdrhistogram::Histogram as Hdr;
use serde::{Deserialize, Serialize};

use crate::frame::Nanos;

/// An hour: longer spans count as one.
const LONGEST_NS: u64 = 3_600_000_000_000;

/// A distribution as it stands in every report and JSON: values in the unit its key's suffix names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Distribution {
    /// How many values there are; where none, all other figures are 0.
    pub count: u64,
    /// Arithmetic mean.
    pub mean: f64,
    /// Standard deviation of all values.
    pub stddev: f64,
    /// The smallest.
    pub min: f64,
    /// 10 % of the values are no larger.
    pub p10: f64,
    /// The median: half of the values are no larger.
    pub p50: f64,
    /// 90 % of the values are no larger.
    pub p90: f64,
    /// 95 % of the values are no larger.
    pub p95: f64,
    /// 99 % of the values are no larger.
    pub p99: f64,
    /// 99.9 % of the values are no larger.
    pub p999: f64,
    /// The largest.
    pub max: f64,
}

/// Counts spans.
#[derive(Clone, Debug)]
pub struct Histogram(Hdr<u64>);

impl Default for Histogram {
    fn default() -> Self {
        Self::new()
    }
}

impl Histogram {
    /// Without a span; takes all the memory it will ever need.
    pub fn new() -> Self {
        Self(Hdr::new_with_bounds(1, LONGEST_NS, 3).expect("the bounds are valid constants"))
    }

    /// Counts one span. Allocates nothing.
    pub fn record(&mut self, span: Nanos) {
        self.0.saturating_record(span.0.max(1));
    }

    /// Adds what another has counted.
    pub fn add(&mut self, other: &Histogram) {
        // Both have the same bounds, so there is room for every value.
        let _ = self.0.add(&other.0);
    }

    /// Spans no longer than this, to the histogram's three digits.
    pub fn count_up_to(&self, span: Nanos) -> u64 {
        self.0.count_between(1, span.0.clamp(1, LONGEST_NS))
    }

    /// Spans counted so far.
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// Of all spans together, in seconds.
    pub fn sum_seconds(&self) -> f64 {
        self.0.mean() * self.count() as f64 * 1e-9
    }

    /// How many spans lie in each step up to the `bounds` (ascending), and above the last; for Prometheus.
    pub fn buckets(&self, bounds: &[Nanos]) -> Vec<u64> {
        let mut counts = vec![0; bounds.len() + 1];
        let mut at = 0;
        for v in self.0.iter_recorded() {
            while at < bounds.len() && v.value_iterated_to() > bounds[at].0 {
                at += 1;
            }
            counts[at] += v.count_since_last_iteration();
        }
        counts
    }

    /// Share of spans at or below each of the histogram's own steps: (nanoseconds, share), for a CDF plot.
    pub fn cumulative(&self) -> Vec<(u64, f64)> {
        let total = self.count().max(1) as f64;
        let mut seen = 0;
        self.0
            .iter_recorded()
            .map(|v| {
                seen += v.count_since_last_iteration();
                (v.value_iterated_to(), seen as f64 / total)
            })
            .collect()
    }

    /// All figures; nanoseconds are multiplied by `scale` (1e-3 gives microseconds).
    pub fn distribution(&self, scale: f64) -> Distribution {
        if self.count() == 0 {
            return Distribution::default();
        }
        let at = |p: f64| self.0.value_at_percentile(p) as f64 * scale;
        Distribution {
            count: self.count(),
            mean: self.0.mean() * scale,
            stddev: self.0.stdev() * scale,
            min: self.0.min() as f64 * scale,
            p10: at(10.0),
            p50: at(50.0),
            p90: at(90.0),
            p95: at(95.0),
            p99: at(99.0),
            p999: at(99.9),
            max: self.0.max() as f64 * scale,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_of_a_ramp() {
        let mut h = Histogram::new();
        for us in 1..=1000u64 {
            h.record(Nanos(us * 1000));
        }
        let d = h.distribution(1e-3);
        assert_eq!(d.count, 1000);
        for (got, want) in [(d.p10, 100.0), (d.p50, 500.0), (d.p99, 990.0), (d.p999, 999.0), (d.mean, 500.5)]
        {
            assert!((got - want).abs() / want < 2e-3, "{got} is not {want}");
        }
        assert!((d.stddev - 288.7).abs() < 1.0);
    }

    #[test]
    fn nothing_and_too_much_are_survived() {
        let mut h = Histogram::new();
        assert_eq!(h.distribution(1.0).count, 0);
        h.record(Nanos(0));
        h.record(Nanos(u64::MAX));
        assert_eq!(h.count(), 2);
        assert_eq!(h.cumulative().last().map(|c| c.1), Some(1.0));
    }
}
