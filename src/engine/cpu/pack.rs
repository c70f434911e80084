//! Parameters on their way into kernels: weights packed by panel.
//!
//! In: [`Layer`]s. Out: packed panels `[word][vectors · lanes]`.

use super::conv::Panel;
use super::kernel_set::Isa;
use super::maps::Store;
use super::storage::Storage;
use super::winograd::transform_weights;
use super::winograd_i16::{POINTS, transform_weights as transform_weights_i16};
pub(crate) use crate::engine::folded_conv::{Affine, Layer};

/// Output channels cut into panels of nearly equal width, at most as wide as a register tile.
pub(crate) fn panels(isa: &Isa, channels: usize) -> Vec<(usize, usize)> {
    let vectors = channels.div_ceil(isa.lanes);
    let count = vectors.div_ceil(isa.vectors);
    let (each, wider) = (vectors / count, vectors % count);
    let mut first = 0;
    (0..count)
        .map(|i| {
            let v = each + usize::from(i < wider);
            let panel = (first, v);
            first += v * isa.lanes;
            panel
        })
        .collect()
}

/// One source's share of a reduction, in the order of the runs: row of taps, tap, channel.
pub(crate) struct Part<'a> {
    pub(crate) layer: &'a Layer,
    /// Channels of a pixel as the source stores them; those beyond the layer's are zeros.
    pub(crate) stored: usize,
    /// Of the source and so of the weights.
    pub(crate) storage: Storage,
}

impl Part<'_> {
    fn per_word(&self) -> usize {
        self.storage.per_word()
    }

    pub(crate) fn words(&self) -> usize {
        self.layer.kernel * self.layer.kernel * self.stored / self.per_word()
    }

    /// Word `k` of output channel `o`.
    pub(crate) fn word(&self, o: usize, k: usize) -> u32 {
        let Layer { cin, kernel, weights, .. } = self.layer;
        let (tap, c) = (k / (self.stored / self.per_word()), k % (self.stored / self.per_word()));
        let value = |c: usize| if c < *cin { weights[(o * cin + c) * kernel * kernel + tap] } else { 0.0 };
        self.storage.word(|i| value(c * self.per_word() + i))
    }
}

/// Packs all parts behind one another for every panel.
pub(crate) fn pack(isa: &Isa, store: &mut Store, parts: &[Part]) -> Vec<Panel> {
    let words = parts.iter().map(Part::words).sum::<usize>();
    let channels = parts[0].layer.out;
    panels(isa, channels)
        .into_iter()
        .map(|(first, vectors)| {
            let width = vectors * isa.lanes;
            let start = store.take::<u32>(words * width);
            let mut k = 0;
            for part in parts {
                for at in 0..part.words() {
                    for lane in 0..width.min(channels - first) {
                        // SAFETY: inside what was just taken; nobody else knows it yet.
                        unsafe { *start.add((k + at) * width + lane) = part.word(first + lane, at) };
                    }
                }
                k += part.words();
            }
            Panel { first, vectors, weights: start }
        })
        .collect()
}

/// Packs Winograd-transformed weights: `[block][point][word][vectors · lanes]` for every panel.
pub(crate) fn pack_winograd(
    isa: &Isa,
    store: &mut Store,
    layer: &Layer,
    storage: Storage,
    tile: usize,
    blocks: &[(usize, usize)],
) -> Vec<Panel> {
    let points = (tile + 2) * (tile + 2);
    let per_word = storage.per_word();
    panels(isa, layer.out)
        .into_iter()
        .map(|(first, vectors)| {
            let width = vectors * isa.lanes;
            let start = store.take::<u32>(points * layer.cin / per_word * width);
            let mut transformed = [0.0; 36];
            let mut before = 0;
            for &(from, channels) in blocks {
                let words = channels / per_word;
                for lane in 0..width.min(layer.out - first) {
                    for c in 0..channels {
                        let kernel = ((first + lane) * layer.cin + from + c) * 9;
                        transform_weights(tile, &layer.weights[kernel..kernel + 9], &mut transformed);
                        for (point, value) in transformed[..points].iter().enumerate() {
                            let word = (before + point * words + c / per_word) * width + lane;
                            // SAFETY: inside what was just taken; nobody else knows it yet.
                            unsafe {
                                let within = c % per_word * storage.bytes();
                                storage.write(start.add(word).cast::<u8>().add(within), *value);
                            }
                        }
                    }
                }
                before += points * words;
            }
            Panel { first, vectors, weights: start }
        })
        .collect()
}

/// Packs four times the transform of whole-numbered weights: `[block][point][word][vectors · lanes]`, a word being two
/// i16.
pub(crate) fn pack_winograd_i16(
    isa: &Isa,
    store: &mut Store,
    layer: &Layer,
    blocks: &[(usize, usize)],
) -> Vec<Panel> {
    let words_of_all: usize = blocks.iter().map(|(_, channels)| POINTS * channels / 2).sum();
    panels(isa, layer.out)
        .into_iter()
        .map(|(first, vectors)| {
            let width = vectors * isa.lanes;
            let start = store.take::<u32>(words_of_all * width);
            let mut before = 0;
            for &(from, channels) in blocks {
                let words = channels / 2;
                for lane in 0..width.min(layer.out - first) {
                    // Channels beyond the layer's stay zeros.
                    for c in 0..channels.min(layer.cin - from) {
                        let kernel = ((first + lane) * layer.cin + from + c) * 9;
                        let mut g = [0i32; 9];
                        for (g, w) in g.iter_mut().zip(&layer.weights[kernel..kernel + 9]) {
                            *g = *w as i32;
                        }
                        for (point, value) in transform_weights_i16(&g).into_iter().enumerate() {
                            let word = (before + point * words + c / 2) * width + lane;
                            // SAFETY: inside what was just taken; nobody else knows it yet.
                            unsafe { *start.add(word).cast::<i16>().add(c % 2) = value as i16 };
                        }
                    }
                }
                before += POINTS * words;
            }
            Panel { first, vectors, weights: start }
        })
        .collect()
}
