//! A snapshot as Prometheus reads it (text exposition format, base units).

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, text};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use super::Snapshot;
use crate::telemetry::Distribution;

#[derive(Debug)]
struct Exported(Snapshot);

type Encoded = Result<(), std::fmt::Error>;

/// Distributions since the session's warm-up as quantiles, in seconds; those without a sample are left out, since 0 would
/// read as perfect. `label` tells several of one metric apart.
fn quantiles<'a>(
    encoder: &mut DescriptorEncoder,
    name: &str,
    help: &str,
    label: &str,
    of: impl Iterator<Item = (&'a str, &'a Distribution)>,
) -> Encoded {
    let mut metric = encoder.encode_descriptor(
        name,
        help,
        Some(&prometheus_client::registry::Unit::Seconds),
        prometheus_client::metrics::MetricType::Gauge,
    )?;
    for (which, d) in of.filter(|(_, d)| d.count > 0) {
        for (q, v) in [("0.5", d.p50), ("0.9", d.p90), ("0.99", d.p99), ("0.999", d.p999), ("1", d.max)] {
            let labels = [(label, which), ("quantile", q)];
            let labels = if label.is_empty() { &labels[1..] } else { &labels[..] };
            ConstGauge::new(v * 1e-6).encode(metric.encode_family(&labels)?)?;
        }
    }
    Ok(())
}

impl Collector for Exported {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Encoded {
        let s = &self.0;
        for (name, help, d) in [
            ("polypscope_video_delay", "Source's pad to sink's pad", &s.video_delay_us),
            (
                "polypscope_annotation_delay",
                "Capture of a frame to the first picture with its mask",
                &s.annotation_delay_us,
            ),
            ("polypscope_mask_age", "Age of the mask on a frame", &s.mask_age_us),
        ] {
            quantiles(&mut encoder, name, help, "", std::iter::once(("", d)))?;
        }
        quantiles(
            &mut encoder,
            "polypscope_stage",
            "Work on a frame",
            "stage",
            s.stages_us.iter().map(|(n, d)| (n.as_str(), d)),
        )?;
        quantiles(
            &mut encoder,
            "polypscope_queue",
            "Waiting of a frame or a mask",
            "queue",
            s.queues_us.iter().map(|(n, d)| (n.as_str(), d)),
        )?;
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
        let mut s = Snapshot { state: "active".into(), ..Snapshot::default() };
        s.video_delay_us.count = 9;
        s.video_delay_us.p99 = 2_500.0;
        s.frames.entered = 7;
        let text = exposition(&s);
        assert!(text.contains("polypscope_video_delay_seconds{quantile=\"0.99\"} 0.0025"), "{text}");
        assert!(text.contains("polypscope_frames_total{kind=\"in\"} 7"), "{text}");
        assert!(!text.contains("polypscope_mask_age_seconds{"), "{text}");
        assert!(text.contains("polypscope_state{state=\"active\"} 1"), "{text}");
        for line in text.lines().filter(|l| !l.starts_with('#')) {
            let value = line.rsplit(' ').next().expect("a value");
            assert!(value.parse::<f64>().is_ok(), "{line}");
        }
        assert!(text.ends_with("# EOF\n"));
    }
}
