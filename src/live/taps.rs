//! Who looks at the buffers themselves: snapshots and the recorder.
//!
//! In: every buffer before and after the overlay, on the streaming thread. Out: a picture for whoever asked for one, and
//! copies for the recorder. Nothing waits: a lock that is held elsewhere means that this frame is left out.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};
use gstreamer as gst;
use gstreamer_video as gst_video;

use crate::capture::{Recorder, RecorderStatus, Tap, Track, picture_of};
use crate::frame::{Nanos, Rect};
use crate::preprocess::resize::{Filter, Resampler};
use crate::telemetry::Beside;
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
    recorder: Mutex<Option<Recorder>>,
    /// The picture as it is now.
    info: Mutex<Option<gst_video::VideoInfo>>,
    /// The JSON lines beside a recording.
    beside: OnceLock<Beside>,
}

impl Default for Taps {
    fn default() -> Self {
        Self {
            wanted: AtomicBool::new(false),
            stills: crossbeam_channel::bounded(1),
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
        if self.wanted.swap(false, Ordering::Relaxed)
            && let Ok(buffer) = buffer.copy_deep()
        {
            let _ = self.stills.0.try_send(Still { buffer, info: info.clone(), view });
        }
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
