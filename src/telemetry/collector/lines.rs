//! `frames.jsonl` of a live session: one object a frame, and one for every change of state.
//!
//! In: events. Out: lines. A disk that is full ends this output with one warning; the session goes on, and its outcome
//! says so.

use std::fs::OpenOptions;
use std::io::{BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::frame::Nanos;
use crate::result_file::GrowingFile;
use crate::telemetry::Unfinished;
use crate::telemetry::event::{Event, StreamEvent};
use crate::{Error, Result};

/// Where lines go.
enum Place {
    /// A file of their own, which takes its name at the end.
    Own(GrowingFile),
    /// Beside a recording, whose files have their names from the start too.
    Beside(BufWriter<std::fs::File>),
}

impl Place {
    fn writer(&mut self) -> &mut dyn Write {
        match self {
            Place::Own(file) => file,
            Place::Beside(file) => file,
        }
    }
}

pub(super) struct Lines {
    path: PathBuf,
    place: Option<Place>,
    ended: Option<Unfinished>,
}

fn us(n: Nanos) -> f64 {
    (n.as_micros_f64() * 10.0).round() / 10.0
}

impl Lines {
    /// A file of their own.
    pub(super) fn create(path: &Path) -> Result<Self> {
        Ok(Self { path: path.to_owned(), place: Some(Place::Own(GrowingFile::create(path)?)), ended: None })
    }

    /// A file beside a recording.
    pub(super) fn beside(path: &Path) -> Result<Self> {
        // As private as the recording it lies beside.
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
            .map_err(|e| Error::write(path, e))?;
        Ok(Self { path: path.to_owned(), place: Some(Place::Beside(BufWriter::new(file))), ended: None })
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
                "tracks": e.followed.marks(),
                "tentative_tracks": e.followed.tentative,
                "confirmed_tracks": e.followed.confirmed,
                "gate": e.followed.gate,
                "timings_us": {
                    "mailbox": us(e.waited), "preprocess": us(e.preprocess), "network": us(e.network),
                    "tracks": us(e.tracks), "postprocess": us(e.postprocess),
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
        if let Some(Place::Own(file)) = &mut self.place {
            file.holds();
        }
        self.write(|file| writeln!(file, "{line}"));
    }

    pub(super) fn flush(&mut self) {
        self.write(|file| file.flush());
    }

    fn write(&mut self, what: impl FnOnce(&mut dyn Write) -> std::io::Result<()>) {
        let Some(place) = &mut self.place else { return };
        if let Err(e) = what(place.writer()) {
            self.end(Error::write(&self.path, e));
        }
    }

    fn end(&mut self, why: Error) {
        let remains = match self.place.take() {
            Some(Place::Own(file)) => format!("; what there is lies in {}", file.part().display()),
            _ => String::new(),
        };
        tracing::warn!("{why}; the session goes on without these lines{remains}");
        self.ended = Some(Unfinished { path: self.path.display().to_string(), reason: why.to_string() });
    }

    /// The session never came about.
    pub(super) fn discard(self) {
        if let Some(Place::Own(file)) = self.place {
            file.discard();
        }
    }

    /// Completes the file; returns why it does not hold the whole session, if it does not.
    pub(super) fn finish(mut self) -> Option<Unfinished> {
        self.flush();
        if let Some(Place::Own(file)) = self.place.take()
            && let Err(e) = file.finish()
        {
            self.end(e);
        }
        self.ended.take()
    }
}
