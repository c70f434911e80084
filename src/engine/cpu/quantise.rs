//! From f32 to integers: which values of a program are stored as u8 and in which steps, and a layer's weights as whole
//! numbers.
//!
//! In: a fused program, its schedule, for each value the largest number worth keeping (a checkpoint's calibration). Out: a
//! [`Format`] a value; layers whose weights are whole numbers from -127 to 127.
//!
//! Activations behind a ReLU are not negative: u8 with the zero at 0, one scale for a map. Weights are symmetric with one
//! scale for each output channel, into which the source's scale, the batch-norm and the stored weights' own scale go. Values
//! that meet in one kernel without a scale of their own there (pieces of a convolution's result or of a concatenation, both
//! operands of a subtraction unit, both sides of a pool) share a scale.

use super::pack::Layer;
use super::storage::Storage;
use crate::program::{Form, Op, Program, Schedule, Value};

/// Steps of a stored activation.
const STEPS: f32 = 255.0;
/// Largest weight.
const LARGEST: f32 = 127.0;
/// Most that weights of one sign may reach together whose products some instructions sum in 16 bits: 255 times that much fits.
const TOGETHER: f32 = 128.0;

/// How a value is stored.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Format {
    pub(crate) storage: Storage,
    /// What one step is worth; 1 for floating-point storage.
    pub(crate) scale: f32,
}

/// The formats of all values of a program, by value.
pub(crate) fn formats(
    program: &Program,
    schedule: &Schedule,
    own: Storage,
    clip: &dyn Fn(&str) -> Option<f32>,
) -> Vec<Format> {
    let plain = |storage| Format { storage, scale: 1.0 };
    let count = program.facts().len();
    if own != Storage::U8 {
        let mut formats = vec![plain(own); count];
        for node in program.nodes() {
            if let Op::Input { to } = node.op {
                formats[to.index()] = plain(Storage::F32);
            }
        }
        return formats;
    }
    let mut groups = Groups::new(count);
    let mut float = vec![false; count];
    for node in program.nodes() {
        match &node.op {
            Op::Input { to } => float[to.index()] = true,
            // The last convolution is done in f32.
            Op::Logits { of, .. } => float[of.index()] = true,
            Op::Fused(conv) => {
                for pair in conv.outs.windows(2) {
                    groups.join(pair[0].to, pair[1].to);
                }
            }
            Op::Concat { of, to } => of.iter().for_each(|v| groups.join(*v, *to)),
            Op::Pool { of, to, .. } => groups.join(*of, *to),
            Op::Subtract { a, b, .. } => groups.join(*a, *b),
            _ => {}
        }
    }
    let mut scale = vec![0f32; count];
    for value in program.values() {
        let (i, fact) = (value.index(), program.fact(value));
        if schedule.placement(value).is_none() || fact.form != Form::Map {
            continue;
        }
        let root = groups.root(i);
        match clip(&fact.name) {
            Some(clip) if clip > 0.0 && clip.is_finite() => scale[root] = scale[root].max(clip / STEPS),
            // A concatenation is its pieces.
            _ if program.nodes().iter().any(|n| matches!(n.op, Op::Concat { to, .. } if to.index() == i)) => {
            }
            _ => float[i] = true,
        }
    }
    // A group, and whatever lies in the same memory, is stored in one way.
    loop {
        let before = float.clone();
        let mut storages = vec![false; schedule.storages.len()];
        let mut roots = vec![false; count];
        for value in program.values() {
            if let Some(p) = schedule.placement(value)
                && float[value.index()]
            {
                storages[p.storage] = true;
                roots[groups.root(value.index())] = true;
            }
        }
        for value in program.values() {
            if let Some(p) = schedule.placement(value) {
                float[value.index()] |= storages[p.storage] || roots[groups.root(value.index())];
            }
        }
        // A convolution's sources are multiplied by one kernel.
        for node in program.nodes() {
            if let Op::Fused(conv) = &node.op
                && conv.sources.iter().any(|s| float[s.of.index()])
            {
                conv.sources.iter().for_each(|s| float[s.of.index()] = true);
            }
        }
        if float == before {
            break;
        }
    }
    (0..count)
        .map(|i| {
            let scale = scale[groups.root(i)];
            let integer = !float[i] && program.facts()[i].form == Form::Map && scale > 0.0;
            if integer { Format { storage: Storage::U8, scale } } else { plain(Storage::F32) }
        })
        .collect()
}

/// Disjoint sets of values.
struct Groups(Vec<usize>);

impl Groups {
    fn new(count: usize) -> Self {
        Self((0..count).collect())
    }

    fn root(&self, mut i: usize) -> usize {
        while self.0[i] != i {
            i = self.0[i];
        }
        i
    }

    fn join(&mut self, a: Value, b: Value) {
        let (a, b) = (self.root(a.index()), self.root(b.index()));
        self.0[a.max(b)] = a.min(b);
    }
}

/// Makes the weights of a convolution's layers whole numbers; every layer comes with its source's scale. The layers' own
/// scales become what one step of the sums is worth, the same for all of them. `two_words`: so that the products of two
/// neighbouring words may be summed in 16 bits, not those of one alone; it costs some fineness.
pub(crate) fn layers(layers: &mut [(&mut Layer, f32)], two_words: bool) {
    let Some(out) = layers.first().map(|(l, _)| l.out) else { return };
    for o in 0..out {
        // In units of the result.
        let mut worth: Vec<Vec<f32>> = layers
            .iter()
            .map(|(layer, source)| {
                let each = layer.cin * layer.kernel * layer.kernel;
                let scale = layer.scale[o] * source;
                layer.weights[o * each..(o + 1) * each].iter().map(|w| w * scale).collect()
            })
            .collect();
        let largest = worth.iter().flatten().fold(0f32, |m, w| m.max(w.abs()));
        let mut step = if largest > 0.0 { largest / LARGEST } else { 1.0 };
        loop {
            let together = layers
                .iter()
                .zip(&worth)
                .map(|((layer, _), w)| largest_together(w, layer.cin, layer.kernel, step, two_words))
                .fold(0f32, f32::max);
            if together <= TOGETHER {
                break;
            }
            step *= (together / TOGETHER).max(1.001);
        }
        for ((layer, _), worth) in layers.iter_mut().zip(&mut worth) {
            let each = layer.cin * layer.kernel * layer.kernel;
            for (w, v) in layer.weights[o * each..(o + 1) * each].iter_mut().zip(worth) {
                *w = (*v / step).round_ties_even();
            }
            layer.scale[o] = step;
        }
    }
}

/// Largest sum of weights of one sign whose products may be summed in 16 bits: those of channels `2k` and `2k + 1`, which lie
/// beside one another in a word, and with `two_words` of the two at the same place of the word before it, which may be another
/// tap's.
fn largest_together(worth: &[f32], cin: usize, kernel: usize, step: f32, two_words: bool) -> f32 {
    let taps = kernel * kernel;
    let whole = |c: usize, tap: usize| {
        if c < cin { (worth[c * taps + tap] / step).round_ties_even() } else { 0.0 }
    };
    let mut most = 0f32;
    // What stands in the halves of the word before, positive and negative.
    let mut before = [(0f32, 0f32); 2];
    for tap in 0..taps {
        for c in (0..cin).step_by(4) {
            for (half, before) in before.iter_mut().enumerate() {
                let (a, b) = (whole(c + 2 * half, tap), whole(c + 2 * half + 1, tap));
                let here = (a.max(0.0) + b.max(0.0), -(a.min(0.0) + b.min(0.0)));
                most = most.max(before.0 + here.0).max(before.1 + here.1);
                if two_words {
                    *before = here;
                }
            }
        }
    }
    most
}

/// Whether four times every sum of the convolution stays within 32 bits, which the integer form of Winograd's algorithm
/// needs.
pub(crate) fn sums_fit(layer: &Layer) -> bool {
    let each = layer.cin * layer.kernel * layer.kernel;
    layer.weights.chunks_exact(each).all(|w| {
        let most = w.iter().map(|v| f64::from(v.abs())).sum::<f64>() * 255.0 * 4.0;
        most < f64::from(i32::MAX)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::random::Random;

    #[test]
    fn weights_become_whole_and_neighbours_stay_small() {
        let mut r = Random(131);
        for (cin, kernel, two_words) in
            [(1, 1, false), (3, 3, true), (26, 3, false), (26, 3, true), (64, 1, true), (7, 1, true)]
        {
            let out = 5;
            let weights: Vec<f32> = (0..out * cin * kernel * kernel).map(|_| r.unit()).collect();
            let mut layer = Layer {
                out,
                cin,
                kernel,
                weights: weights.clone(),
                scale: vec![0.5, -2.0, 0.0, 1.0, 3.0],
                shift: vec![0.0; out],
            };
            let scales = layer.scale.clone();
            layers(&mut [(&mut layer, 0.25)], two_words);
            let each = cin * kernel * kernel;
            for o in 0..out {
                let quantised = &layer.weights[o * each..(o + 1) * each];
                assert!(quantised.iter().all(|w| w.fract() == 0.0 && w.abs() <= LARGEST));
                assert!(largest_together(quantised, cin, kernel, 1.0, two_words) <= TOGETHER);
                for (q, w) in quantised.iter().zip(&weights[o * each..]) {
                    let off = (q * layer.scale[o] - w * scales[o] * 0.25).abs();
                    assert!(off <= 0.5001 * layer.scale[o], "{off}");
                }
            }
        }
    }
}
