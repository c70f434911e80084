//! A paced run: a live session on a phantom or a recording, measured.
//!
//! In: settings of a run, and its network. Out: the session's figures without its first and last frames.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::lossless::Slowed;
use super::record::{RunRecord, thinned_us};
use super::settings::RunSettings;
use crate::capture::{PipelineFile, Ready};
use crate::frame::Nanos;
use crate::live::{LiveNetwork, Session, Settings, Step};
use crate::telemetry::Stage;
use crate::{Error, Result};

const PHANTOM: &str = include_str!("../../pipelines/phantom.toml");
const FILE: &str = include_str!("../../pipelines/file.toml");

/// Seconds of the phantom's loop.
const LOOP: u64 = 4;

/// The pipeline file filled in.
fn ready(settings: &RunSettings) -> Result<Ready> {
    let set = |k: &str, v: String| (k.to_owned(), v);
    match &settings.file {
        Some(path) => {
            let sets = [set("file", path.display().to_string())];
            let mut ready = PipelineFile::parse(FILE, "file.toml")?.ready(&sets, Some("null"))?;
            ready.name = path.display().to_string();
            Ok(ready)
        }
        None => {
            let sets = [
                set("size", format!("{}x{}", settings.size.0, settings.size.1)),
                set(
                    "fps",
                    match settings.pace {
                        super::Pace::Paced(n, d) => format!("{n}/{d}"),
                        super::Pace::Max => "30".into(),
                    },
                ),
                set("preset", settings.preset.to_string()),
                set("seed", settings.seed.to_string()),
                set("loop_seconds", LOOP.to_string()),
            ];
            let mut ready = PipelineFile::parse(PHANTOM, "phantom.toml")?.ready(&sets, Some("null"))?;
            ready.name = format!("phantom {} seed {}", settings.preset, settings.seed);
            Ok(ready)
        }
    }
}

/// Carries out one run. A recording comes at its own rate, which has to be the one asked for.
///
/// # Errors
/// A stage that cannot be slowed here, a source that ends before anything is measured, an interruption.
pub fn run(settings: &RunSettings, network: &LiveNetwork, stop: &Arc<AtomicBool>) -> Result<RunRecord> {
    settings.validate()?;
    let fps = settings.pace.fps().ok_or_else(|| Error::internal("a paced run without a pace"))?;
    let slow = match settings.slow {
        None => None,
        Some(s) if s.stage == Stage::Network => Some(s.by),
        Some(s) => {
            return Err(Error::usage(format!("--slow {}: not a stage this run can slow", s.stage.name()))
                .remedy("slow network, or measure with --fps max"));
        }
    };
    let span = |frames: u64| Duration::from_secs_f64(frames as f64 / fps);
    let network = match slow {
        Some(by) => network.clone().wrapped(Arc::new(move |network| Box::new(Slowed { network, by }))),
        None => network.clone(),
    };
    let threshold = network.threshold();
    let mut session = Session::start(Settings {
        warm_up: span(settings.warm_up),
        length: Some(span(settings.total())),
        ..Settings::new(ready(settings)?, Some(network), threshold)
    })?;
    session.measure_for(span(settings.frames));
    loop {
        if stop.load(Ordering::Relaxed) {
            return Err(Error::input("interrupted before the run was complete"));
        }
        match session.step(Duration::from_millis(50)) {
            Step::Done => break,
            Step::Failed(e) => return Err(e),
            _ => {}
        }
    }
    let picture = session.picture_info();
    let (summary, histograms) = session.finish_with(|collector| collector.histograms());
    let find = |name: &str| histograms.iter().find(|(n, _)| n == name).map(|(_, h)| h);
    let measured = find("element").map_or(0, |h| h.count());
    if measured == 0 {
        return Err(Error::input(format!("{}: ended before anything was measured", summary.input))
            .remedy("measure fewer frames, or warm up for fewer"));
    }
    // Those never inferred missed it too.
    let in_time = find("mask_ready").map_or(0, |h| h.count_up_to(Nanos((1e9 / fps) as u64)));
    let mut record = RunRecord {
        width_px: picture.map_or(0, |p| p.width),
        height_px: picture.map_or(0, |p| p.height),
        warm_up_frames: settings.warm_up,
        fps_target: Some(fps),
        fps_achieved: measured as f64 / span(settings.frames).as_secs_f64(),
        deadline_misses: Some(measured.saturating_sub(in_time)),
        cdf_us: histograms.iter().map(|(n, h)| (n.clone(), thinned_us(h))).collect(),
        slowed: settings.slow.map(|s| format!("{}={} ms", s.stage.name(), s.by.as_secs_f64() * 1e3)),
        summary,
        ..RunRecord::default()
    };
    record.derive();
    Ok(record)
}
