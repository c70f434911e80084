//! A snapshot as Prometheus reads it (base units), in either of its two text forms.

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

/// The two forms of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Prometheus' own, 0.0.4: what `curl`, `promtool` and older scrapers read.
    Text,
    /// OpenMetrics 1.0.0, for those who ask for it.
    OpenMetrics,
}

impl Format {
    /// The form for a request with these `Accept` headers.
    pub fn accepted<'a>(mut accept: impl Iterator<Item = &'a str>) -> Self {
        if accept.any(|a| a.to_ascii_lowercase().contains("application/openmetrics-text")) {
            Self::OpenMetrics
        } else {
            Self::Text
        }
    }

    /// The `Content-Type` of an answer in this form.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// The text a scrape gets.
pub fn exposition(snapshot: &Snapshot, format: Format) -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Exported(snapshot.clone())));
    let mut out = String::new();
    // Writing into a string does not fail.
    let _ = text::encode(&mut out, &registry);
    match format {
        Format::OpenMetrics => out,
        Format::Text => older(&out),
    }
}

/// OpenMetrics in the older form. There a counter's family is called as its samples are (`…_total`): under the shorter
/// name its help and type belong to nothing, and the counter has neither.
fn older(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 256);
    let mut help = None;
    for line in text.lines() {
        let words: Vec<&str> = line.splitn(4, ' ').collect();
        match words[..] {
            ["#", "HELP", name, words] => help = Some((name, words)),
            ["#", "TYPE", name, kind] => {
                let total = if kind == "counter" { "_total" } else { "" };
                if let Some((_, words)) = help.take().filter(|h| h.0 == name) {
                    out.push_str(&format!("# HELP {name}{total} {words}\n"));
                }
                out.push_str(&format!("# TYPE {name}{total} {kind}\n"));
            }
            // Units and the end's mark are not known there.
            ["#", ..] => {}
            _ => {
                out.push_str(line);
                out.push('\n');
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scrape_has_base_units_and_every_line_reads() {
        let mut s =
            Snapshot { state: "bypass".into(), reason: "out_of_memory".into(), ..Snapshot::default() };
        let mut h = crate::distribution::Histogram::new();
        for us in [300, 1900, 2500, 700_000] {
            h.record(crate::frame::Nanos(us * 1000));
        }
        let counted =
            |metric, of| super::super::Counted { metric, of, counts: h.buckets(&BOUNDS), sum_s: 0.7047 };
        s.counted = vec![counted("video_delay", ""), counted("stage", "network")];
        s.frames.entered = 7;
        let text = exposition(&s, Format::OpenMetrics);
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

    /// What `promtool check metrics` asks for, in both forms.
    #[test]
    fn every_family_has_help_a_type_and_a_name_of_its_kind() {
        let mut s = Snapshot { state: "active".into(), ..Snapshot::default() };
        let mut h = crate::distribution::Histogram::new();
        h.record(crate::frame::Nanos(2_000_000));
        s.counted = ["video_delay", "annotation_delay", "mask_age"]
            .map(|metric| super::super::Counted { metric, of: "", counts: h.buckets(&BOUNDS), sum_s: 0.002 })
            .to_vec();
        let more = [("stage", "network"), ("queue", "mailbox")];
        s.counted.extend(more.map(|(metric, of)| super::super::Counted {
            metric,
            of,
            counts: h.buckets(&BOUNDS),
            sum_s: 0.002,
        }));
        for format in [Format::Text, Format::OpenMetrics] {
            let text = exposition(&s, format);
            let mut helped = std::collections::BTreeSet::new();
            let mut types = std::collections::BTreeMap::new();
            for line in text.lines() {
                match line.splitn(4, ' ').collect::<Vec<_>>()[..] {
                    ["#", "HELP", name, words] => {
                        assert!(!words.is_empty() && helped.insert(name.to_owned()), "{line}");
                    }
                    ["#", "TYPE", name, kind] => {
                        assert!(types.insert(name.to_owned(), kind.to_owned()).is_none(), "{line}");
                    }
                    _ => {}
                }
            }
            assert_eq!(helped, types.keys().cloned().collect(), "{text}");
            let mut sampled = std::collections::BTreeSet::new();
            for line in text.lines().filter(|l| !l.starts_with('#')) {
                let name = line.split(['{', ' ']).next().expect("a name");
                assert!(name.starts_with("polypscope_"), "{line}");
                let family = |n: &str| types.get(n).map(|kind| (n.to_owned(), kind.as_str()));
                let stripped = ["_bucket", "_sum", "_count"].iter().find_map(|s| name.strip_suffix(s));
                let (family, kind) = family(name)
                    .or_else(|| stripped.and_then(family))
                    .or_else(|| name.strip_suffix("_total").and_then(family))
                    .unwrap_or_else(|| panic!("{line} belongs to no family"));
                match kind {
                    "counter" => {
                        assert!(name.ends_with("_total"), "{line}");
                        assert_eq!(family.ends_with("_total"), format == Format::Text, "{family}");
                    }
                    "histogram" => assert!(family.ends_with("_seconds"), "{line}"),
                    "gauge" => assert!(!name.ends_with("_total"), "{line}"),
                    other => panic!("{other}: {line}"),
                }
                for unit in ["_ms", "_us", "_ns", "_mb", "_kb", "_milliseconds", "_megabytes"] {
                    assert!(!family.contains(unit), "{line}");
                }
                sampled.insert(family);
            }
            assert_eq!(sampled, helped, "a family has no samples");
            assert_eq!(text.ends_with("# EOF\n"), format == Format::OpenMetrics);
        }
    }

    #[test]
    fn the_form_is_what_the_scraper_reads() {
        let prometheus =
            "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        assert_eq!(Format::accepted([prometheus].into_iter()), Format::OpenMetrics);
        assert_eq!(Format::accepted(["*/*"].into_iter()), Format::Text);
        assert_eq!(Format::accepted(std::iter::empty()), Format::Text);
    }
}
