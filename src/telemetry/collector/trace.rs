//! A trace for Perfetto or Chrome: what ran when, on the video path and in the workers.
//!
//! In: events. Out: the JSON array form of the Trace Event Format (Google), which its viewers also read when it was cut
//! off.

use std::io::Write;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::frame::Nanos;
use crate::result_file::GrowingFile;
use crate::telemetry::Unfinished;
use crate::telemetry::event::Event;
use crate::{Error, Result};

/// Events written at most: some ten minutes, 100 MB.
const LONGEST: u64 = 600_000;

const VIDEO: u32 = 1;
const SINK: u32 = 2;
const STATES: u32 = 3;
const MAILBOX: u32 = 4;
/// Workers follow from here.
const WORKERS: u32 = 10;

pub(super) struct Trace {
    path: PathBuf,
    file: Option<GrowingFile>,
    ended: Option<Unfinished>,
    written: u64,
    /// Workers whose tracks have a name.
    workers: u32,
}

impl Trace {
    pub(super) fn create(path: &Path) -> Result<Self> {
        let file = GrowingFile::create(path)?;
        let mut trace = Self { path: path.to_owned(), file: Some(file), ended: None, written: 0, workers: 0 };
        let tracks = [(VIDEO, "video path"), (SINK, "to the sink"), (STATES, "state"), (MAILBOX, "mailbox")];
        for (tid, name) in tracks {
            trace.name(tid, name);
        }
        Ok(trace)
    }

    fn name(&mut self, tid: u32, name: &str) {
        self.put(json!({"ph": "M", "name": "thread_name", "pid": 1, "tid": tid, "args": {"name": name}}));
    }

    /// A span of `length` from `from`.
    fn span(&mut self, name: &str, tid: u32, from: Nanos, length: Nanos, args: Value) {
        self.put(json!({
            "ph": "X", "name": name, "pid": 1, "tid": tid, "ts": from.as_micros_f64(),
            "dur": length.as_micros_f64(), "args": args,
        }));
    }

    pub(super) fn take(&mut self, event: &Event) {
        if let Some(file) = &mut self.file {
            file.holds();
        }
        match event {
            Event::Frame(e) => {
                let args = json!({"frame": e.frame.0, "mask_of_frame": e.shown.map(|s| s.of.0)});
                self.span("frame", VIDEO, e.entered, e.element, args);
                self.span("hand_over", VIDEO, e.entered, e.hand_over, json!({}));
                let from = Nanos((e.entered.0 + e.element.0).saturating_sub(e.composite.0));
                self.span("composite", VIDEO, from, e.composite, json!({}));
            }
            Event::Left(e) => {
                self.span(
                    "to the sink",
                    SINK,
                    Nanos(e.at.0.saturating_sub(e.sink.0)),
                    e.sink,
                    json!({"frame": e.frame.0}),
                );
            }
            Event::Mask(e) => {
                while self.workers <= e.worker {
                    self.name(WORKERS + self.workers, &format!("worker {}", self.workers));
                    self.workers += 1;
                }
                let tid = WORKERS + e.worker;
                let mut at =
                    e.finished.0.saturating_sub(e.preprocess.0 + e.network.0 + e.tracks.0 + e.postprocess.0);
                self.span(
                    "waits",
                    MAILBOX,
                    Nanos(at.saturating_sub(e.waited.0)),
                    e.waited,
                    json!({"frame": e.frame.0}),
                );
                for (name, length) in [
                    ("preprocess", e.preprocess),
                    ("network", e.network),
                    ("tracks", e.tracks),
                    ("postprocess", e.postprocess),
                ] {
                    if length.0 == 0 {
                        continue;
                    }
                    self.span(name, tid, Nanos(at), length, json!({"frame": e.frame.0}));
                    at += length.0;
                }
            }
            Event::State(e) => self.put(json!({
                "ph": "i", "s": "g", "name": e.to.name(), "pid": 1, "tid": STATES,
                "ts": e.at.as_micros_f64(), "args": {"reason": e.reason.name()},
            })),
            Event::Stream(_) => {}
        }
    }

    fn put(&mut self, event: Value) {
        let Some(file) = &mut self.file else { return };
        if self.written == LONGEST {
            return;
        }
        let separator = if self.written == 0 { "[\n" } else { ",\n" };
        self.written += 1;
        if let Err(e) = write!(file, "{separator}{event}") {
            self.end(Error::write(&self.path, e));
        }
    }

    fn end(&mut self, why: Error) {
        tracing::warn!("{why}; the session goes on without a trace");
        self.file = None;
        self.ended = Some(Unfinished { path: self.path.display().to_string(), reason: why.to_string() });
    }

    /// The session never came about.
    pub(super) fn discard(self) {
        if let Some(file) = self.file {
            file.discard();
        }
    }

    /// Completes the file; returns why it does not hold what it should, if it does not.
    pub(super) fn finish(mut self) -> Option<Unfinished> {
        if let Some(mut file) = self.file.take() {
            let written = file.write_all(b"\n]\n").map_err(|e| Error::write(&self.path, e));
            if let Err(e) = written.and_then(|()| file.finish()) {
                self.end(e);
            }
        }
        self.ended.take()
    }
}
