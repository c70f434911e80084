//! Who looks at the buffers themselves: snapshots and the recorder.
//!
//! In: every buffer before and after the overlay, on the streaming thread. Out: a picture for whoever asked for one,
//! and copies for the recorder. Nothing waits.

use std::sync::{Arc, Mutex};

use gstreamer as gst;
use gstreamer_video as gst_video;

use super::compositor::{Shown, Tap};
use super::recordings::Recordings;
use super::stills::Stills;
use crate::Result;
use crate::capture::{Recorder, RecorderStatus, Track};
use crate::lock::lock;
use crate::telemetry::{RecordingRecord, SidecarLines};

/// See the module.
pub struct Taps {
    stills: Stills,
    recordings: Recordings,
    /// The picture as it is now.
    info: Mutex<Option<gst_video::VideoInfo>>,
}

impl Default for Taps {
    fn default() -> Self {
        Self { stills: Stills::default(), recordings: Recordings::default(), info: Mutex::new(None) }
    }
}

impl Tap for Taps {
    fn format(&self, info: &gst_video::VideoInfo) {
        *self.info() = Some(info.clone());
    }

    fn clean(&self, buffer: &gst::BufferRef, info: &gst_video::VideoInfo) {
        self.recordings.push(Track::Raw, buffer, info);
    }

    fn marked(&self, buffer: &gst::BufferRef, info: &gst_video::VideoInfo, shown: &Shown) {
        self.stills.offer(buffer, info, shown);
        self.recordings.push(Track::Annotated, buffer, info);
    }
}

impl Taps {
    /// The field of view as it is on screen now, as PNG that says which tracks it shows.
    ///
    /// # Errors
    /// No frame within a second.
    pub fn snapshot_png(&self) -> Result<Vec<u8>> {
        self.stills.png()
    }

    fn info(&self) -> std::sync::MutexGuard<'_, Option<gst_video::VideoInfo>> {
        lock(&self.info)
    }

    /// From now on JSON lines lie beside recordings.
    pub(super) fn write_beside(&self, beside: SidecarLines) {
        self.recordings.write_beside(beside);
    }

    /// Starts recording with a recorder that is ready; returns the one there was, to be stopped.
    pub fn record(&self, recorder: Recorder) -> Option<Arc<Recorder>> {
        let info = self.info().clone();
        self.recordings.begin(recorder, info.as_ref())
    }

    /// Takes the recorder away; the caller stops it, which may take a while.
    pub fn stop_recording(&self) -> Option<Arc<Recorder>> {
        self.recordings.end()
    }

    /// What the recorder says of itself, if there is one.
    pub fn recording(&self) -> Option<RecorderStatus> {
        self.recordings.status()
    }

    /// Recordings that have ended by themselves since this was asked last.
    pub(super) fn newly_ended(&self) -> Vec<RecorderStatus> {
        self.recordings.newly_ended()
    }

    /// The session ends: completes what is being recorded and says what became of every recording.
    pub(super) fn close(&self) -> Vec<RecordingRecord> {
        self.recordings.close()
    }
}
