//! A phantom as a source: frames that never were in a file.
//!
//! In: phantom settings. Out: RGB frames with exact timestamps, and each one's truth to whoever asks.

use std::path::{Path, PathBuf};
use std::time::Instant;

use super::{Ended, Frame, Next, Source};
use crate::Result;
use crate::frame::{FrameId, Nanos, Pts};
use crate::phantom::{Phantom, Settings, Truth};

/// Renders as fast as it is asked.
pub struct PhantomSource {
    phantom: Phantom,
    name: PathBuf,
    next: u64,
    rgb: Vec<u8>,
    truth: Truth,
}

impl PhantomSource {
    /// # Errors
    /// Settings that make no sense.
    pub fn new(settings: Settings) -> Result<Self> {
        super::init()?;
        let name = PathBuf::from(format!("phantom-{}", settings.seed));
        let rgb = vec![0; settings.width as usize * settings.height as usize * 3];
        let truth = Truth::new(settings.width, settings.height);
        Ok(Self { phantom: Phantom::new(settings)?, name, next: 0, rgb, truth })
    }

    /// The truth of the frame given last.
    pub fn truth(&self) -> &Truth {
        &self.truth
    }

    /// What it was made with.
    pub fn settings(&self) -> &Settings {
        self.phantom.settings()
    }
}

impl Source for PhantomSource {
    fn next(&mut self) -> Result<Next> {
        let Settings { width, height, rate, frames, .. } = *self.phantom.settings();
        if self.next >= frames {
            return Ok(Next::Ended(Ended::default()));
        }
        let asked = Instant::now();
        let n = self.next;
        self.next += 1;
        self.phantom.render(n, &mut self.rgb, &mut self.truth)?;
        let pts = self.phantom.pts_ns(n);
        let frame = Frame::from_rgb(&self.rgb, (width, height), (rate.numerator, rate.denominator))?;
        Ok(Next::Frame(Frame {
            id: FrameId(n),
            pts: Pts(pts),
            duration: Some(Nanos(self.phantom.pts_ns(n + 1) - pts)),
            decode: asked.elapsed().into(),
            ..frame
        }))
    }

    fn path(&self) -> &Path {
        &self.name
    }

    fn expected_frames(&self) -> Option<u64> {
        Some(self.phantom.settings().frames)
    }

    fn fps(&self) -> Option<f64> {
        Some(self.phantom.settings().rate.as_f64())
    }
}
