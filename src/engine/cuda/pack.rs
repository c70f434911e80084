//! Weights in the order the tensor cores read them: `[output channel][source, tap, channel]` in f16.
//!
//! In: [`Layer`]s. Out: rows of f16, padded with zeros, with the scale and shift of each channel.
//!
//! Each output channel's weights are brought near one by a power of two, which its scale takes back: nothing that
//! matters falls below what f16 can hold, and weights stored as I8 stay exact.

use half::f16;

use crate::engine::folded_conv::Layer;

/// Channels in groups, each padded to whole 16-byte pieces: the splits of a block lie side by side that way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Spread {
    /// Channels of a group as the layer counts them.
    pub(crate) each: usize,
    pub(crate) groups: usize,
}

impl Spread {
    pub(crate) fn plain(channels: usize) -> Self {
        Self { each: channels, groups: 1 }
    }

    pub(crate) fn padded(&self) -> usize {
        self.each.next_multiple_of(8)
    }

    /// Channels as stored.
    pub(crate) fn stored(&self) -> usize {
        self.padded() * self.groups
    }

    /// Where channel `c` is stored.
    pub(crate) fn place(&self, c: usize) -> usize {
        c / self.each * self.padded() + c % self.each
    }
}

/// A convolution ready for the device.
pub(crate) struct Packed {
    /// `[rows][length]`
    pub(crate) weights: Vec<f16>,
    /// Reduction length of each part.
    pub(crate) lengths: Vec<usize>,
    pub(crate) scale: Vec<f32>,
    pub(crate) shift: Vec<f32>,
}

/// Steps of every tile divide it.
const LENGTH_UNIT: usize = 64;
/// Columns of every tile divide it.
const ROW_UNIT: usize = 64;

/// Packs one layer, or two whose results are summed; their scales then join the weights.
pub(crate) fn pack(parts: &[(&Layer, Spread)], out: Spread) -> Packed {
    let channels = out.stored();
    let rows = channels.next_multiple_of(ROW_UNIT);
    let lengths: Vec<usize> =
        parts.iter().map(|(l, s)| (l.kernel * l.kernel * s.stored()).next_multiple_of(LENGTH_UNIT)).collect();
    let length: usize = lengths.iter().sum();
    let mut weights = vec![f16::ZERO; rows * length];
    let mut scale = vec![0.0; rows];
    let mut shift = vec![0.0; rows];
    for o in 0..parts[0].0.out {
        let row = out.place(o);
        let folded = |l: &Layer| if parts.len() > 1 { l.scale[o] } else { 1.0 };
        let most = parts
            .iter()
            .flat_map(|(l, _)| {
                let each = l.cin * l.kernel * l.kernel;
                l.weights[o * each..(o + 1) * each].iter().map(|w| (w * folded(l)).abs())
            })
            .fold(0.0, f32::max);
        let factor = if most > 0.0 && most.is_finite() { 2f32.powi(most.log2().ceil() as i32) } else { 1.0 };
        let mut start = row * length;
        for ((layer, spread), n) in parts.iter().zip(&lengths) {
            let taps = layer.kernel * layer.kernel;
            let by = folded(layer) / factor;
            for c in 0..layer.cin {
                for tap in 0..taps {
                    let w = layer.weights[(o * layer.cin + c) * taps + tap];
                    weights[start + tap * spread.stored() + spread.place(c)] = f16::from_f32(w * by);
                }
            }
            start += n;
            shift[row] += layer.shift[o];
        }
        scale[row] = if parts.len() > 1 { factor } else { parts[0].0.scale[o] * factor };
    }
    Packed { weights, lengths, scale, shift }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_stay_exact_and_padding_is_zero() {
        let weights: Vec<f32> = (0..3 * 5 * 9).map(|i| (i % 255) as f32 - 127.0).collect();
        let layer = Layer { out: 3, cin: 5, kernel: 3, weights, scale: vec![0.01; 3], shift: vec![1.0; 3] };
        let spread = Spread { each: 5, groups: 1 };
        let p = pack(&[(&layer, spread)], Spread::plain(3));
        assert_eq!(p.lengths, [128]);
        assert_eq!(p.weights.len(), 64 * 128);
        for o in 0..64 {
            for k in 0..128 {
                let (tap, c) = (k / 8, k % 8);
                let want =
                    if o < 3 && tap < 9 && c < 5 { layer.weights[(o * 5 + c) * 9 + tap] * 0.01 } else { 0.0 };
                let got = p.weights[o * 128 + k].to_f32() * p.scale[o];
                assert!((got - want).abs() <= want.abs() * 1e-6, "{o} {k}: {got} is not {want}");
            }
        }
    }

    #[test]
    fn groups_are_spread_apart() {
        let s = Spread { each: 26, groups: 4 };
        assert_eq!((s.padded(), s.stored(), s.place(25), s.place(26), s.place(103)), (32, 128, 25, 32, 121));
    }
}
