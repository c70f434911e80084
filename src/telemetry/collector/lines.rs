//! `frames.jsonl` of a live session: one object a frame, and one for every change of state.
//!
//! In: events. Out: lines. A disk that is full ends this output with one warning; the session goes on, and its outcome
//! says so.

use std::fs::OpenOptions;
use std::io::{BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::line::Line;
use crate::result_file::GrowingFile;
use crate::telemetry::Unfinished;
use crate::telemetry::event::Event;
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
        let Ok(line) = serde_json::to_string(&Line::new(event)) else { return };
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
