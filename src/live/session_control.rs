//! What the HTTP control may do with a session.
//!
//! In: calls from the control's threads. Out: changes of atomics that the video path and the workers read, and
//! recorders that are started and stopped here, off the video path.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use super::adaptive_size::Sides;
use super::controls::Controls;
use super::frame_taps::Taps;
use crate::capture::{Recorder, RecorderSettings};
use crate::control::{SessionControl, Status};
use crate::telemetry::Snapshot;
use crate::tracks::SharedFilter;
use crate::{Error, Result};

/// A session, as HTTP may steer and watch it.
pub struct LiveSessionControl {
    pub(super) controls: Arc<Controls>,
    pub(super) taps: Arc<Taps>,
    pub(super) reader: Box<dyn Fn() -> Arc<Snapshot> + Send + Sync>,
    pub(super) input: String,
    pub(super) engine: String,
    pub(super) network_size: [usize; 2],
    pub(super) side_now: Option<Arc<Sides>>,
    pub(super) filter: SharedFilter,
    pub(super) epoch: Instant,
    /// Where recordings go; `None`: nobody named a folder.
    pub(super) recorder: Option<RecorderSettings>,
}

impl SessionControl for LiveSessionControl {
    fn status(&self) -> Status {
        let s = (self.reader)();
        let recording = self.taps.recording();
        let stopped = recording.as_ref().and_then(|r| r.stopped_because.clone());
        Status {
            state: s.state.clone(),
            reason: s.reason.clone(),
            reason_words: s.reason_words.clone(),
            overlay_on: self.controls.on(),
            threshold: self.controls.threshold(),
            alpha: self.controls.alpha(),
            confirm: self.filter.setting().name().to_owned(),
            confirm_words: self.filter.words(),
            source_lost: s.source_lost,
            recording_lost_frames: recording.as_ref().map_or(0, |r| r.lost),
            recording: recording.filter(|_| stopped.is_none()).map(|r| r.path.into()),
            recording_stopped_because: stopped,
            input: self.input.clone(),
            engine: self.engine.clone(),
            network_size: self.side_now.as_ref().map_or(self.network_size, |sides| [sides.smallest(); 2]),
            uptime_s: self.epoch.elapsed().as_secs_f64(),
            version: env!("CARGO_PKG_VERSION").into(),
        }
    }

    fn set_overlay(&self, on: bool) {
        self.controls.switch(on);
    }

    fn set_threshold(&self, threshold: f64) -> Result<()> {
        if !(threshold > 0.0 && threshold < 1.0) {
            return Err(Error::usage(format!("{threshold} is not a threshold"))
                .remedy("give a number between 0 and 1"));
        }
        self.controls.set_threshold(threshold);
        Ok(())
    }

    fn set_alpha(&self, alpha: f32) -> Result<()> {
        if !(0.0..=1.0).contains(&alpha) {
            return Err(
                Error::usage(format!("{alpha} is not an opacity")).remedy("give a number from 0 to 1")
            );
        }
        self.controls.set_alpha(alpha);
        Ok(())
    }

    fn set_confirm(&self, setting: &str) -> Result<()> {
        self.filter.choose(setting.parse()?);
        Ok(())
    }

    fn start_recording(&self) -> Result<PathBuf> {
        let settings = self.recorder.clone().ok_or_else(|| {
            Error::usage("there is no folder to record into").remedy("start the session with --record-to DIR")
        })?;
        if let Some(r) = self.taps.recording()
            && r.stopped_because.is_none()
        {
            return Ok(r.path);
        }
        let recorder = Recorder::start(settings)?;
        let stem = recorder.stem().to_owned();
        if let Some(old) = self.taps.record(recorder) {
            old.stop();
        }
        Ok(stem)
    }

    fn stop_recording(&self) -> Result<()> {
        if let Some(recorder) = self.taps.stop_recording() {
            recorder.stop();
        }
        Ok(())
    }

    fn snapshot(&self) -> Result<Vec<u8>> {
        self.taps.snapshot_png()
    }

    fn figures(&self) -> Arc<Snapshot> {
        (self.reader)()
    }
}
