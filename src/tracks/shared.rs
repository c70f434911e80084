//! The filter as video uses it: one for all workers of a session, with a setting that may change at any time.
//!
//! In: a frame's picture and map, from whichever thread analysed it. Out: the map to draw. The lock is held by workers
//! alone, for the length of one frame's filtering; the video path knows nothing of it.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Confirm, Numbers, Scene, Tracks};
use crate::frame::{Mask, Picture, Rect};

/// Tracks with what they stand on.
pub struct Filter {
    scene: Scene,
    tracks: Tracks,
    setting: Confirm,
}

impl Filter {
    fn new(setting: Confirm) -> Self {
        let numbers = setting.numbers().unwrap_or(Numbers::BALANCED);
        Self { scene: Scene::default(), tracks: Tracks::new(numbers), setting }
    }

    fn restart(&mut self) {
        self.scene.restart();
        self.tracks.restart();
    }

    /// Takes the next frame's map (`h` rows of `w` logits over `view`), and fills the mask's tracks and gate.
    pub fn observe(
        &mut self,
        picture: &Picture,
        map: &[f32],
        size: (usize, usize),
        view: Rect,
        level: f32,
        mask: &mut Mask,
    ) {
        let glance = self.scene.look(mask.frame, mask.pts, Some(picture), view);
        let whole = (picture.info.width, picture.info.height);
        self.tracks.observe(&mut self.scene, &glance, map, size, view, whole, level);
        mask.gate = glance.gate;
        mask.tracks.clear();
        mask.tracks.extend_from_slice(self.tracks.marks());
    }

    /// What is to be drawn of the last frame's map.
    pub fn map(&self) -> &[f32] {
        self.tracks.map()
    }

    /// Says of each of the mask's regions which track it is.
    pub fn name(&self, mask: &mut Mask) {
        for polyp in &mut mask.polyps {
            polyp.track_id = self.tracks.track_in(&polyp.bbox);
        }
    }
}

/// A filter that several threads use, and whose setting any thread may change.
#[derive(Clone)]
pub struct SharedFilter {
    chosen: Arc<AtomicU8>,
    /// Least share of the field of view, in place of the settings' own.
    least: Option<f32>,
    filter: Arc<Mutex<Filter>>,
}

impl SharedFilter {
    /// Follows nothing yet; any thread may change the setting later.
    pub fn new(setting: Confirm) -> Self {
        Self {
            chosen: Arc::new(AtomicU8::new(setting as u8)),
            least: None,
            filter: Arc::new(Mutex::new(Filter::new(setting))),
        }
    }

    /// With a least share of the field of view of its own, for every setting.
    #[must_use]
    pub fn with_least(mut self, share: Option<f32>) -> Self {
        self.least = share;
        if let Some(numbers) = self.numbers(self.setting()) {
            self.held().tracks.set_numbers(numbers);
        }
        self
    }

    /// What a setting stands for here.
    pub fn numbers(&self, setting: Confirm) -> Option<Numbers> {
        let numbers = setting.numbers()?;
        Some(Numbers { least_share: self.least.unwrap_or(numbers.least_share), ..numbers })
    }

    /// The setting as it is now.
    pub fn setting(&self) -> Confirm {
        let chosen = self.chosen.load(Ordering::Relaxed);
        Confirm::ALL.into_iter().find(|c| *c as u8 == chosen).unwrap_or_default()
    }

    /// The setting as it is now, in words.
    pub fn words(&self) -> String {
        match self.numbers(self.setting()) {
            None => "off: every frame stands alone".to_owned(),
            Some(numbers) => format!("{}: {}", self.setting(), numbers.sentence()),
        }
    }

    /// Another setting from the next frame on.
    pub fn choose(&self, setting: Confirm) {
        self.chosen.store(setting as u8, Ordering::Relaxed);
    }

    /// Another video begins.
    pub fn restart(&self) {
        self.held().restart();
    }

    /// The filter for one frame; `None` where nothing is to be filtered.
    pub fn frame(&self) -> Option<MutexGuard<'_, Filter>> {
        let setting = self.setting();
        let numbers = self.numbers(setting);
        let mut filter = match numbers {
            // What was followed before is void: it is not looked at meanwhile.
            None => {
                let mut filter = self.held();
                if filter.setting != Confirm::Off {
                    filter.setting = Confirm::Off;
                    filter.scene.restart();
                    filter.tracks.forget();
                }
                return None;
            }
            Some(_) => self.held(),
        };
        if let Some(numbers) = numbers.filter(|_| filter.setting != setting) {
            filter.setting = setting;
            filter.tracks.set_numbers(numbers);
        }
        Some(filter)
    }

    /// A worker that panicked while it held the lock left tracks that are whole enough to go on with.
    fn held(&self) -> MutexGuard<'_, Filter> {
        self.filter.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
