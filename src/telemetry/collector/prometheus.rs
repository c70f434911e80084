//! A snapshot as Prometheus reads it (text exposition format, base units).

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, NoLabelSet, text};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use super::{BOUNDS, Snapshot};
use crate::safety::Reason;

#[derive(Debug)]
struct Exported(Snapshot);

type Encoded = Result<(), std::fmt::Error>;

/// Spans since the session's warm-up as a histogram in seconds. `label` tells several of one metric apart.
fn histogram(
    encoder: &mut DescriptorEncoder,
    s: &Snapshot,
    metric: &str,
    help: &str,
    label: &str,
) -> Encoded {
    let name = format!("polypscope_{metric}");
    let mut encoder = encoder.encode_descriptor(
        &name,
        help,
        Some(&prometheus_client::registry::Unit::Seconds),
        prometheus_client::metrics::MetricType::Histogram,
    )?;
    let bounds = || BOUNDS.iter().map(|b| b.0 as f64 * 1e-9).chain([f64::MAX]);
    for c in s.counted.iter().filter(|c| c.metric == metric) {
        let buckets: Vec<(f64, u64)> = bounds().zip(c.counts.iter().copied()).collect();
        let count = c.counts.iter().sum();
        let labels = [(label, c.of)];
        if label.is_empty() {
            encoder.encode_histogram::<NoLabelSet>(c.sum_s, count, &buckets, None)?;
        } else {
            encoder.encode_family(&labels)?.encode_histogram::<NoLabelSet>(c.sum_s, count, &buckets, None)?;
        }
    }
    Ok(())
}

impl Collector for Exported {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Encoded {
        let s = &self.0;
        for (metric, help, label) in [
            ("video_delay", "Source's pad to sink's pad", ""),
            ("annotation_delay", "Capture of a frame to the first picture with its mask", ""),
            ("mask_age", "Age of the mask on a frame", ""),
            ("stage", "Work on a frame", "stage"),
            ("queue", "Waiting of a frame or a mask", "queue"),
        ] {
            histogram(&mut encoder, s, metric, help, label)?;
        }
        let counters = [
            ("in", s.frames.entered),
            ("out", s.frames.out),
            ("inferred", s.frames.inferred),
            ("superseded", s.frames.superseded),
            ("dropped", s.frames.dropped),
            ("late", s.frames.late),
        ];
        let counter = prometheus_client::metrics::MetricType::Counter;
        let mut metric =
            encoder.encode_descriptor("polypscope_frames", "Frames by what became of them", None, counter)?;
        for (kind, n) in counters {
            let labels = [("kind", kind)];
            ConstCounter::new(n).encode(metric.encode_family(&labels)?)?;
        }
        for (name, help, n) in [
            ("polypscope_worker_restarts", "Workers started anew", s.worker_restarts),
            ("polypscope_timestamp_jumps", "Timestamps that jumped or repeated", s.timestamp_jumps),
            ("polypscope_telemetry_events_lost", "Telemetry events without room", s.events_lost),
        ] {
            ConstCounter::new(n).encode(encoder.encode_descriptor(name, help, None, counter)?)?;
        }
        let gauge = prometheus_client::metrics::MetricType::Gauge;
        let mut metric =
            encoder.encode_descriptor("polypscope_state", "1 for the state that holds", None, gauge)?;
        for state in ["warm_up", "active", "degraded", "bypass"] {
            let labels = [("state", state)];
            ConstGauge::new(i64::from(s.state == state)).encode(metric.encode_family(&labels)?)?;
        }
        let mut metric = encoder.encode_descriptor(
            "polypscope_reason",
            "1 for the reason of the state that holds",
            None,
            gauge,
        )?;
        for reason in Reason::ALL.map(Reason::name) {
            let labels = [("reason", reason)];
            ConstGauge::new(i64::from(s.reason == reason)).encode(metric.encode_family(&labels)?)?;
        }
        let rss = i64::try_from(s.rss_bytes.end).unwrap_or(i64::MAX);
        let metric = encoder.encode_descriptor(
            "polypscope_resident_memory",
            "Resident set of the process",
            Some(&prometheus_client::registry::Unit::Bytes),
            gauge,
        )?;
        ConstGauge::new(rss).encode(metric)
    }
}

/// The text a scrape gets.
pub fn exposition(snapshot: &Snapshot) -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Exported(snapshot.clone())));
    let mut out = String::new();
    // Writing into a string does not fail.
    let _ = text::encode(&mut out, &registry);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scrape_has_base_units_and_every_line_reads() {
        let mut s =
            Snapshot { state: "bypass".into(), reason: "out_of_memory".into(), ..Snapshot::default() };
        let mut h = crate::telemetry::Histogram::new();
        for us in [300, 1900, 2500, 700_000] {
            h.record(crate::frame::Nanos(us * 1000));
        }
        let counted =
            |metric, of| super::super::Counted { metric, of, counts: h.buckets(&BOUNDS), sum_s: 0.7047 };
        s.counted = vec![counted("video_delay", ""), counted("stage", "network")];
        s.frames.entered = 7;
        let text = exposition(&s);
        for line in [
            "polypscope_video_delay_seconds_bucket{le=\"0.002\"} 2",
            "polypscope_video_delay_seconds_bucket{le=\"0.004\"} 3",
            "polypscope_video_delay_seconds_bucket{le=\"+Inf\"} 4",
            "polypscope_video_delay_seconds_count 4",
            "polypscope_video_delay_seconds_sum 0.7047",
            "polypscope_stage_seconds_bucket{le=\"0.0005\",stage=\"network\"} 1",
        ] {
            assert!(text.contains(line), "{line} is not in {text}");
        }
        assert!(text.contains("polypscope_frames_total{kind=\"in\"} 7"), "{text}");
        assert!(!text.contains("polypscope_mask_age_seconds_bucket"), "{text}");
        assert!(text.contains("polypscope_state{state=\"bypass\"} 1"), "{text}");
        assert!(text.contains("polypscope_reason{reason=\"out_of_memory\"} 1"), "{text}");
        assert!(text.contains("polypscope_reason{reason=\"device_lost\"} 0"), "{text}");
        for line in text.lines().filter(|l| !l.starts_with('#')) {
            let value = line.rsplit(' ').next().expect("a value");
            assert!(value.parse::<f64>().is_ok(), "{line}");
        }
        assert!(text.ends_with("# EOF\n"));
    }
}
