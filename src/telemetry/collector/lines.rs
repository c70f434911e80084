//! `frames.jsonl` of a live session: one object a frame, and one for every change of state.
//!
//! In: events. Out: lines. A disk that is full ends this output with one warning; the session goes on.

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::frame::Nanos;
use crate::telemetry::event::{Event, StreamEvent};
use crate::{Error, Result};

pub(super) struct Lines {
    path: PathBuf,
    file: Option<BufWriter<File>>,
}

fn us(n: Nanos) -> f64 {
    (n.as_micros_f64() * 10.0).round() / 10.0
}

impl Lines {
    pub(super) fn create(path: &Path) -> Result<Self> {
        // As private as the recording it may lie beside.
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
            .map_err(|e| Error::write(path, e))?;
        Ok(Self { path: path.to_owned(), file: Some(BufWriter::new(file)) })
    }

    pub(super) fn take(&mut self, event: &Event) {
        let line = match event {
            Event::Frame(e) => json!({
                "frame": e.frame.0,
                "pts_ns": e.pts.0,
                "captured_ns": e.captured.0,
                "state": e.state.name(),
                "mask_of_frame": e.shown.map(|s| s.of.0),
                "mask_age_us": e.shown.map(|s| us(s.age)),
                "area_px": e.shown.map_or(0, |s| s.area_px),
                "timings_us": {
                    "decode": e.decode.map(us), "hand_over": us(e.hand_over), "motion": us(e.motion),
                    "composite": us(e.composite),
                },
            }),
            Event::Left(e) => json!({
                "left": e.frame.0,
                "at_ns": e.at.0,
                "video_delay_us": us(e.video_delay),
                "annotation_delay_us": e.annotation_delay.map(us),
                "late": e.late,
            }),
            Event::Mask(e) => json!({
                "mask": e.frame.0,
                "finished_ns": e.finished.0,
                "area_px": e.area_px,
                "polyps": e.polyps,
                "max_probability": e.max_probability,
                "timings_us": {
                    "mailbox": us(e.waited), "preprocess": us(e.preprocess), "network": us(e.network),
                    "postprocess": us(e.postprocess),
                },
            }),
            Event::State(e) => json!({
                "state_change": {
                    "at_ns": e.at.0, "from": e.from.name(), "to": e.to.name(), "reason": e.reason.name(),
                },
            }),
            Event::Stream(e) => match e {
                StreamEvent::TimestampJump { at, frame } => {
                    json!({ "timestamp_jump": { "at_ns": at.0, "frame": frame.0 } })
                }
                StreamEvent::FormatChange { at, width, height } => {
                    json!({ "format_change": { "at_ns": at.0, "width_px": width, "height_px": height } })
                }
                StreamEvent::SourceLost { at } => json!({ "source_lost": { "at_ns": at.0 } }),
                StreamEvent::SourceBack { at } => json!({ "source_back": { "at_ns": at.0 } }),
                StreamEvent::WorkerRestart { at, attempt } => {
                    json!({ "worker_restart": { "at_ns": at.0, "attempt": attempt } })
                }
            },
        };
        self.write(|file| writeln!(file, "{line}"));
    }

    pub(super) fn flush(&mut self) {
        self.write(|file| file.flush());
    }

    fn write(&mut self, what: impl FnOnce(&mut BufWriter<File>) -> std::io::Result<()>) {
        let Some(file) = &mut self.file else { return };
        if let Err(e) = what(file) {
            tracing::warn!("{}; the session goes on without these lines", Error::write(&self.path, e));
            self.file = None;
        }
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        self.flush();
    }
}
