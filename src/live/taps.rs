//! Who looks at the buffers themselves: snapshots and the recorder.
//!
//! In: every buffer before and after the overlay, on the streaming thread. Out: a picture for whoever asked for one, and
//! copies for the recorder. Nothing waits.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};
use gstreamer as gst;
use gstreamer_video as gst_video;

use super::recordings::Recordings;
use crate::capture::{Recorder, RecorderStatus, Tap, Track, picture_of};
use crate::frame::Rect;
use crate::preprocess::resize::{Filter, Resampler};
use crate::telemetry::{Beside, RecordingRecord};
use crate::{Error, Result};

/// A picture as it went to the sink.
struct Still {
    buffer: gst::Buffer,
    info: gst_video::VideoInfo,
    view: Rect,
}

/// See the module.
pub struct Taps {
    wanted: AtomicBool,
    stills: (Sender<Still>, Receiver<Still>),
    recordings: Recordings,
    /// The picture as it is now.
    info: Mutex<Option<gst_video::VideoInfo>>,
}

impl Default for Taps {
    fn default() -> Self {
        Self {
            wanted: AtomicBool::new(false),
            stills: crossbeam_channel::bounded(1),
            recordings: Recordings::default(),
            info: Mutex::new(None),
        }
    }
}

impl Tap for Taps {
    fn format(&self, info: &gst_video::VideoInfo) {
        *self.info() = Some(info.clone());
    }

    fn clean(&self, buffer: &gst::BufferRef, info: &gst_video::VideoInfo) {
        self.recordings.push(Track::Raw, buffer, info);
    }

    fn marked(&self, buffer: &gst::BufferRef, info: &gst_video::VideoInfo, view: Rect) {
        if self.wanted.swap(false, Ordering::Relaxed)
            && let Ok(buffer) = buffer.copy_deep()
        {
            let _ = self.stills.0.try_send(Still { buffer, info: info.clone(), view });
        }
        self.recordings.push(Track::Annotated, buffer, info);
    }
}

impl Taps {
    /// The field of view as it is on screen now, as PNG.
    ///
    /// # Errors
    /// No frame within a second.
    pub fn snapshot_png(&self) -> Result<Vec<u8>> {
        let _ = self.stills.1.try_recv();
        self.wanted.store(true, Ordering::Relaxed);
        let still = self.stills.1.recv_timeout(Duration::from_secs(1)).map_err(|_| {
            Error::input("snapshot: no frame came within a second").remedy("check the source")
        })?;
        let view = still.view;
        let (width, height) = (view.w as usize, view.h as usize);
        let mut rgb = vec![0; width * height * 3];
        picture_of(&still.buffer, &still.info, |picture| {
            Resampler::new(Filter::Antialiased).run(picture, view, width, height, &mut rgb);
            Ok(())
        })?;
        let image = image::RgbImage::from_raw(view.w, view.h, rgb)
            .ok_or_else(|| Error::internal("snapshot: the picture has no pixels"))?;
        let mut png = std::io::Cursor::new(Vec::new());
        image
            .write_to(&mut png, image::ImageFormat::Png)
            .map_err(|e| Error::internal("snapshot: cannot be encoded").because(e))?;
        Ok(png.into_inner())
    }

    fn info(&self) -> std::sync::MutexGuard<'_, Option<gst_video::VideoInfo>> {
        self.info.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on JSON lines lie beside recordings.
    pub(super) fn write_beside(&self, beside: Beside) {
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
