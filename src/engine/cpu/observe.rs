//! A plan's values as planes of f32, for whoever compares engines.
//!
//! In: where a value lies in the plan's memory. Out: `[channels, height, width]` in f32.

use super::plan::{Probe, Site};
use crate::program::{Fact, Value};

/// How to read one value.
pub(crate) struct Copy {
    pub(crate) wave: usize,
    pub(crate) value: Value,
    site: Site,
    scale: f32,
    channels: usize,
    height: usize,
    width: usize,
}

impl Copy {
    pub(crate) fn new(probe: &Probe, fact: &Fact) -> Self {
        Self {
            wave: probe.wave,
            value: probe.value,
            site: probe.site,
            scale: probe.scale,
            channels: fact.channels,
            height: fact.height,
            width: fact.width,
        }
    }

    /// # Safety
    /// The plan lives, its wave `self.wave` has ended, and no later one has begun.
    pub(crate) unsafe fn read(&self, to: &mut Vec<f32>) {
        to.clear();
        for c in 0..self.channels {
            for y in 0..self.height {
                for x in 0..self.width {
                    // SAFETY: the value has this size, and nobody writes it now (the caller's promise).
                    to.push(unsafe {
                        match self.site {
                            Site::Planes(plane) => *plane.start.add((c * self.height + y) * plane.width + x),
                            Site::Map(view) => {
                                view.storage().read(view.channel(c).bytes_at(y as isize, x as isize))
                                    * self.scale
                            }
                        }
                    });
                }
            }
        }
    }
}
