//! Activation maps on the device, taken once when the plan is built.
//!
//! In: sizes. Out: [`Map`]s `[height][width][channels]` in f16. Maps whose lifetimes do not overlap share memory, so
//! that a frame stays in the second-level cache. Launches run in order, so a map may be taken again as soon as the wave
//! that reads it is planned.

use super::launch::Device;
use super::params::Address;
use crate::Result;

/// Some channels of a map: where the first pixel's first channel lies, and values from a pixel to the next.
#[derive(Clone, Copy, Debug)]
pub(crate) struct View {
    pub(crate) address: Address,
    pub(crate) pitch: usize,
}

impl View {
    /// The same pixels from channel `c` on, a multiple of 8.
    pub(crate) fn channel(self, c: usize) -> Self {
        debug_assert!(c.is_multiple_of(8));
        Self { address: self.address + 2 * c as u64, ..self }
    }
}

/// A map in use. Not `Clone`: giving it back ends its life.
#[derive(Debug)]
pub(crate) struct Map {
    address: Address,
    /// Channels as stored, a multiple of 8.
    pub(crate) channels: usize,
    bytes: usize,
}

impl Map {
    pub(crate) fn view(&self) -> View {
        View { address: self.address, pitch: self.channels }
    }
}

/// Memory of a plan's maps.
#[derive(Default)]
pub(crate) struct Maps {
    /// (bytes, address)
    free: Vec<(usize, Address)>,
    /// Given back since the last [`Maps::settle`]: still read by the wave under construction.
    leaving: Vec<(usize, Address)>,
    pub(crate) bytes: usize,
}

impl Maps {
    pub(crate) fn take(
        &mut self,
        device: &mut dyn Device,
        height: usize,
        width: usize,
        channels: usize,
    ) -> Result<Map> {
        debug_assert!(channels.is_multiple_of(8));
        let wanted = height * width * channels * 2;
        // The smallest that is large enough, and not much larger.
        let fitting = self.free.iter().enumerate().filter(|(_, (b, _))| *b >= wanted && *b <= 2 * wanted);
        let (bytes, address) = match fitting.min_by_key(|(_, (b, _))| *b).map(|(i, _)| i) {
            Some(i) => self.free.swap_remove(i),
            None => {
                self.bytes += wanted;
                (wanted, device.allocate(wanted)?)
            }
        };
        Ok(Map { address, channels, bytes })
    }

    /// After the wave under construction nobody reads this map any more.
    pub(crate) fn give_back(&mut self, map: Map) {
        self.leaving.push((map.bytes, map.address));
    }

    pub(crate) fn settle(&mut self) {
        self.free.append(&mut self.leaving);
    }
}
