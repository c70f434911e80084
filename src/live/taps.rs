//! Who looks at the buffers themselves: snapshots and the recorder.
//!
//! In: every buffer before and after the overlay, on the streaming thread. Out: a picture for whoever asked for one, and
//! copies for the recorder. Nothing waits: a lock that is held elsewhere means that this frame is left out.

use std::sync::{Mutex, OnceLock, PoisonError};

use gstreamer as gst;
use gstreamer_video as gst_video;

use super::stills::Stills;
use crate::Result;
use crate::capture::{Recorder, RecorderStatus, Tap, Track};
use crate::frame::{Nanos, Rect};
use crate::telemetry::Beside;

/// See the module.
pub struct Taps {
    stills: Stills,
    recorder: Mutex<Option<Recorder>>,
    /// The picture as it is now.
    info: Mutex<Option<gst_video::VideoInfo>>,
    /// The JSON lines beside a recording.
    beside: OnceLock<Beside>,
}

impl Default for Taps {
    fn default() -> Self {
        Self {
            stills: Stills::default(),
            recorder: Mutex::new(None),
            info: Mutex::new(None),
            beside: OnceLock::new(),
        }
    }
}

impl Tap for Taps {
    fn format(&self, info: &gst_video::VideoInfo) {
        *self.info() = Some(info.clone());
    }

    fn clean(&self, buffer: &gst::BufferRef, info: &gst_video::VideoInfo) {
        if let Ok(recorder) = self.recorder.try_lock()
            && let Some(recorder) = &*recorder
        {
            recorder.push(Track::Raw, buffer, info, at(buffer));
        }
    }

    fn marked(&self, buffer: &gst::BufferRef, info: &gst_video::VideoInfo, view: Rect) {
        self.stills.offer(buffer, info, view);
        if let Ok(recorder) = self.recorder.try_lock()
            && let Some(recorder) = &*recorder
        {
            recorder.push(Track::Annotated, buffer, info, at(buffer));
        }
    }
}

/// A frame's place in the recording.
fn at(buffer: &gst::BufferRef) -> Nanos {
    Nanos(buffer.pts().map_or(0, |t| t.nseconds()))
}

impl Taps {
    /// The field of view as it is on screen now, as PNG.
    ///
    /// # Errors
    /// No frame within a second.
    pub fn snapshot_png(&self) -> Result<Vec<u8>> {
        self.stills.png()
    }

    fn recorder(&self) -> std::sync::MutexGuard<'_, Option<Recorder>> {
        self.recorder.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn info(&self) -> std::sync::MutexGuard<'_, Option<gst_video::VideoInfo>> {
        self.info.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on JSON lines lie beside recordings.
    pub(super) fn write_beside(&self, beside: Beside) {
        let _ = self.beside.set(beside);
    }

    /// Starts recording with a recorder that is ready; returns the one there was.
    pub fn record(&self, recorder: Recorder) -> Option<Recorder> {
        let info = self.info().clone();
        if let Some(info) = info {
            for track in [Track::Raw, Track::Annotated] {
                if recorder.wants(track) {
                    recorder.prepare(track, &info);
                }
            }
        }
        if let Some(beside) = &self.beside.get() {
            let mut name = recorder.stem().as_os_str().to_owned();
            name.push(".jsonl");
            beside.begin(name.into());
        }
        self.recorder().replace(recorder)
    }

    /// Takes the recorder away; the caller stops it, which may take a while.
    pub fn stop_recording(&self) -> Option<Recorder> {
        let recorder = self.recorder().take();
        if recorder.is_some()
            && let Some(beside) = self.beside.get()
        {
            beside.end();
        }
        recorder
    }

    /// What the recorder says of itself, if there is one.
    pub fn recording(&self) -> Option<RecorderStatus> {
        self.recorder().as_ref().map(Recorder::status)
    }

    /// The session ends: what is being recorded is completed.
    pub(super) fn close(&self) {
        if let Some(recorder) = self.stop_recording() {
            recorder.stop();
        }
    }
}
