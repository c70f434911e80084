//! Parameters on their way into kernels: batch-norms folded into a scale and a shift, weights packed by panel.
//!
//! In: a checkpoint's tensors by key. Out: [`Layer`]s, and packed panels `[word][vectors · lanes]`.
//!
//! The scale stays out of the weights: it is applied to finished sums, where it costs nothing (a multiply-add instead of an
//! add). Weights stored as I8 are therefore exact in bf16.

use super::conv::Panel;
use super::isa::Isa;
use super::lanes::bf16_bits;
use super::maps::Store;
use super::winograd::transform_weights;
use crate::Result;
use crate::model::Checkpoint;

/// PyTorch's default.
const BATCH_NORM_EPS: f32 = 1e-5;

/// `scale · x + shift` per channel.
pub(crate) struct Affine {
    pub(crate) scale: Vec<f32>,
    pub(crate) shift: Vec<f32>,
}

impl Affine {
    /// A batch-norm's running statistics, keys `at.weight` and so on.
    pub(crate) fn norm(checkpoint: &Checkpoint, at: &str) -> Result<Self> {
        let get = |leaf: &str| checkpoint.values(&format!("{at}.{leaf}"));
        let (weight, bias) = (get("weight")?, get("bias")?);
        let (mean, var) = (get("running_mean")?, get("running_var")?);
        let scale: Vec<f32> = weight.iter().zip(&var).map(|(w, v)| w / (v + BATCH_NORM_EPS).sqrt()).collect();
        let shift = bias.iter().zip(&mean).zip(&scale).map(|((b, m), s)| b - m * s).collect();
        Ok(Self { scale, shift })
    }
}

/// A convolution with everything linear behind it: `scale · (weights ∗ x) + shift`.
pub(crate) struct Layer {
    pub(crate) out: usize,
    pub(crate) cin: usize,
    pub(crate) kernel: usize,
    /// `[out][cin][kernel][kernel]`, unscaled.
    pub(crate) weights: Vec<f32>,
    pub(crate) scale: Vec<f32>,
    pub(crate) shift: Vec<f32>,
}

impl Layer {
    /// A kernel, perhaps a bias, perhaps a batch-norm behind it.
    pub(crate) fn load(
        checkpoint: &Checkpoint,
        kernel: &str,
        shape: (usize, usize, usize),
        bias: Option<&str>,
        norm: Option<&str>,
    ) -> Result<Self> {
        let (out, cin, size) = shape;
        // Stored as I8, the weights are small integers, exact in any format, and their scale joins the batch-norm's.
        let (weights, mut scale) = match checkpoint.kernel_i8(kernel) {
            Some((values, scales)) => (values.iter().map(|&v| f32::from(v)).collect(), scales.to_vec()),
            None => (checkpoint.values(kernel)?, vec![1.0; out]),
        };
        let mut shift = match bias {
            Some(key) => checkpoint.values(key)?,
            None => vec![0.0; out],
        };
        if let Some(at) = norm {
            let norm = Affine::norm(checkpoint, at)?;
            for o in 0..out {
                scale[o] *= norm.scale[o];
                shift[o] = shift[o] * norm.scale[o] + norm.shift[o];
            }
        }
        Ok(Self { out, cin, kernel: size, weights, scale, shift })
    }

    /// Moves the scale into the weights.
    pub(crate) fn fold(&mut self) {
        let each = self.cin * self.kernel * self.kernel;
        for (o, weights) in self.weights.chunks_exact_mut(each).enumerate() {
            for w in weights {
                *w *= self.scale[o];
            }
            self.scale[o] = 1.0;
        }
    }

    /// Multiply-accumulates for one output pixel.
    pub(crate) fn macs(&self) -> u64 {
        (self.out * self.cin * self.kernel * self.kernel) as u64
    }
}

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
    /// Whether the source and weights are bf16.
    pub(crate) bf16: bool,
}

impl Part<'_> {
    fn per_word(&self) -> usize {
        if self.bf16 { 2 } else { 1 }
    }

    pub(crate) fn words(&self) -> usize {
        self.layer.kernel * self.layer.kernel * self.stored / self.per_word()
    }

    /// Word `k` of output channel `o`.
    pub(crate) fn word(&self, o: usize, k: usize) -> u32 {
        let Layer { cin, kernel, weights, .. } = self.layer;
        let (tap, c) = (k / (self.stored / self.per_word()), k % (self.stored / self.per_word()));
        let value = |c: usize| if c < *cin { weights[(o * cin + c) * kernel * kernel + tap] } else { 0.0 };
        if self.bf16 {
            u32::from(bf16_bits(value(2 * c))) | u32::from(bf16_bits(value(2 * c + 1))) << 16
        } else {
            value(c).to_bits()
        }
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
    tile: usize,
    blocks: &[(usize, usize)],
) -> Vec<Panel> {
    let points = (tile + 2) * (tile + 2);
    let per_word = isa.per_word;
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
                                if per_word == 2 {
                                    *start.add(word).cast::<u16>().add(c % 2) = bf16_bits(*value);
                                } else {
                                    *start.add(word) = value.to_bits();
                                }
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
