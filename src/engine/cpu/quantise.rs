//! From f32 to integers: which values of a program are stored as u8 and in which steps, and a layer's weights as whole
//! numbers.
//!
//! In: a fused program, its schedule, for each value the largest number worth keeping (a checkpoint's calibration).
//! Out: a [`Format`] a value; layers whose weights are whole numbers from -127 to 127.
//!
//! Activations behind a ReLU are not negative: u8 with the zero at 0, one scale for a map. Weights are symmetric with
//! one scale for each output channel, into which the source's scale, the batch-norm and the stored weights' own scale
//! go. Values that meet in one kernel without a scale of their own there (pieces of a convolution's result or of a
//! concatenation, both operands of a subtraction unit, both sides of a pool) share a scale.

use super::pack::Layer;
use super::storage::Storage;
use crate::program::{Form, Op, Program, Rounding, Schedule, Value};

/// Steps of a stored activation.
const STEPS: f32 = 255.0;
/// Largest weight.
const LARGEST: f32 = 127.0;
/// Most that weights of one sign may reach together whose products some instructions sum in 16 bits: 255 times that
/// much fits.
const TOGETHER: f32 = 128.0;

/// Weights that are worth a thread of their own.
const WEIGHTS_OF_A_THREAD: usize = 1 << 15;
/// A weight that is off by less of a step is not rounded the other way.
const LEAST_OFF: f32 = 0.1;
/// Sizes of a step that are tried for each output, beside the finest.
const CANDIDATES: usize = 4;
/// A number this much larger than any weight has no room for fractions: adding it rounds to the nearest, ties to even.
const NO_FRACTION: f32 = 12_582_912.0;

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
                // In 8 bits these maps cost more of the mask than any others, and with Winograd's larger tile f32 is as
                // fast.
                if node.rounding == Rounding::Delicate {
                    conv.sources.iter().for_each(|s| float[s.of.index()] = true);
                }
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

/// Makes the weights of a convolution's layers whole numbers; every layer comes with its source's scale. The layers'
/// own scales become what one step of the sums is worth, the same for all of them. `two_words`: so that the products of
/// two neighbouring words may be summed in 16 bits, not those of one alone; it costs some fineness.
///
/// A coarse step makes every weight of a channel less exact, a fine one leaves the largest neighbours too large for 16
/// bits, and they are cut: the step is the one with the least squared error of both together. Then some weights are
/// rounded the other way until all errors add up to nothing: activations are not negative, so that what the errors add
/// up to shifts the whole map.
pub(crate) fn layers(layers: &mut [(&mut Layer, f32)], two_words: bool) {
    let Some(out) = layers.first().map(|(l, _)| l.out) else { return };
    // A thread costs more than a few weights do.
    let weights: usize = layers.iter().map(|(layer, _)| layer.weights.len()).sum();
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = processors.min(weights.div_ceil(WEIGHTS_OF_A_THREAD)).clamp(1, out.max(1));
    let given: Vec<(&Layer, f32)> = layers.iter().map(|(layer, source)| (&**layer, *source)).collect();
    let given = given.as_slice();
    // Outputs know nothing of one another.
    let rows: Vec<Row> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|t| {
                scope.spawn(move || {
                    (t * out / threads..(t + 1) * out / threads)
                        .map(|o| row(given, o, two_words))
                        .collect::<Vec<Row>>()
                })
            })
            .collect();
        workers
            .into_iter()
            .flat_map(|w| w.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    });
    for (o, row) in rows.into_iter().enumerate() {
        for ((layer, _), whole) in layers.iter_mut().zip(row.weights) {
            let each = layer.cin * layer.kernel * layer.kernel;
            layer.weights[o * each..(o + 1) * each].copy_from_slice(&whole);
            layer.scale[o] = row.step;
        }
    }
}

/// The weights of one output in whole steps, layer by layer.
struct Row {
    step: f32,
    weights: Vec<Vec<f32>>,
}

fn row(layers: &[(&Layer, f32)], o: usize, two_words: bool) -> Row {
    // In units of the result.
    let worth: Vec<Vec<f32>> = layers
        .iter()
        .map(|(layer, source)| {
            let each = layer.cin * layer.kernel * layer.kernel;
            let scale = layer.scale[o] * source;
            layer.weights[o * each..(o + 1) * each].iter().map(|w| w * scale).collect()
        })
        .collect();
    let largest = worth.iter().flatten().fold(0f32, |m, w| m.max(w.abs()));
    let finest = if largest > 0.0 { largest / LARGEST } else { 1.0 };
    // In steps of this size nothing has to be cut.
    let together = (layers.iter().zip(&worth))
        .map(|((layer, _), w)| largest_together(w, layer.cin, layer.kernel, finest, two_words))
        .fold(0f32, f32::max);
    let widest = (together / TOGETHER).max(1.0);
    let candidates = if widest > 1.0 { CANDIDATES } else { 0 };
    let mut best: Vec<Vec<f32>> = worth.iter().map(|_| Vec::new()).collect();
    let mut tried = best.clone();
    let (mut least, mut step) = (f64::INFINITY, finest);
    for candidate in 0..=candidates {
        let size = finest * widest.powf(candidate as f32 / CANDIDATES as f32);
        let mut error = 0.0;
        for (((layer, _), worth), to) in layers.iter().zip(&worth).zip(&mut tried) {
            error += whole(worth, (layer.cin, layer.kernel), size, two_words, to);
        }
        if error < least {
            (least, step) = (error, size);
            std::mem::swap(&mut best, &mut tried);
        }
    }
    let mut errors: f64 = 0.0;
    for (worth, whole) in worth.iter().zip(&best) {
        errors += worth.iter().zip(whole).map(|(w, q)| f64::from(q - w / step)).sum::<f64>();
    }
    for (((layer, _), worth), whole) in layers.iter().zip(&worth).zip(&mut best) {
        errors = balance(errors, worth, (layer.cin, layer.kernel), step, two_words, whole);
    }
    Row { step, weights: best }
}

/// The nearest whole number of one up to a few thousand, without a call: this is done to every weight several times.
fn nearest(v: f32) -> f32 {
    (v + NO_FRACTION) - NO_FRACTION
}

/// Writes one output's weights in whole steps, those cut that would be too large [`together`](largest_together);
/// returns the sum of the squared errors.
fn whole(worth: &[f32], (cin, kernel): (usize, usize), step: f32, two_words: bool, to: &mut Vec<f32>) -> f64 {
    to.clear();
    to.extend(worth.iter().map(|w| nearest(w / step)));
    let taps = kernel * kernel;
    for half in 0..2 {
        // Places of the word before, those of channels that do not exist left out.
        let mut before = [None; 2];
        for tap in 0..taps {
            for c in (2 * half..cin.next_multiple_of(4)).step_by(4) {
                let here = [c, c + 1].map(|c| (c < cin).then_some(c * taps + tap));
                let all = [here[0], here[1], before[0], before[1]];
                if all.into_iter().flatten().map(|at| to[at].abs()).sum::<f32>() > TOGETHER {
                    [1.0, -1.0].into_iter().for_each(|sign| cut(to, all, sign));
                }
                if two_words {
                    before = here;
                }
            }
        }
    }
    let step = f64::from(step);
    worth.iter().zip(&*to).map(|(w, q)| (f64::from(*w) - f64::from(*q) * step).powi(2)).sum()
}

/// Rounds weights the other way, those next to the middle first, until all errors (in steps) that add up to `errors`
/// add up to nothing; returns what is left.
fn balance(
    mut errors: f64,
    worth: &[f32],
    (cin, kernel): (usize, usize),
    step: f32,
    two_words: bool,
    numbers: &mut [f32],
) -> f64 {
    let wanted = errors.abs().round() as usize;
    let sign = if errors > 0.0 { 1f32 } else { -1.0 };
    let off = |at: usize, numbers: &[f32]| (numbers[at] - worth[at] / step) * sign;
    // Some cannot be rounded the other way, so that more are looked at than are needed.
    let mut places: Vec<u32> =
        (0..numbers.len()).filter(|at| off(*at, numbers) > LEAST_OFF).map(|at| at as u32).collect();
    let by_error =
        |a: &u32, b: &u32| off(*b as usize, numbers).total_cmp(&off(*a as usize, numbers)).then(a.cmp(b));
    let looked_at = (2 * wanted).min(places.len());
    if looked_at == 0 {
        return errors;
    }
    places.select_nth_unstable_by(looked_at - 1, by_error);
    places.truncate(looked_at);
    places.sort_unstable_by(by_error);
    let taps = kernel * kernel;
    let words = cin.div_ceil(4);
    let mut left = wanted;
    for at in places {
        if left == 0 {
            break;
        }
        let at = at as usize;
        let (c, tap) = (at / taps, at % taps);
        let moved = numbers[at] - sign;
        let before = std::mem::replace(&mut numbers[at], moved);
        // This word with the one before it, and the one behind it with this one.
        let word = tap * words + c / 4;
        let half = c % 4 / 2;
        let last = if two_words { (word + 1).min(taps * words - 1) } else { word };
        let fits = moved.abs() <= LARGEST
            && (word..=last).all(|word| {
                let first = if two_words { word.saturating_sub(1) } else { word };
                let (mut above, mut below) = (0f32, 0f32);
                for word in first..=word {
                    for c in (word % words * 4 + 2 * half..).take(2).take_while(|c| *c < cin) {
                        let v = numbers[c * taps + word / words];
                        above += v.max(0.0);
                        below -= v.min(0.0);
                    }
                }
                above.max(below) <= TOGETHER
            });
        if fits {
            left -= 1;
            errors -= f64::from(sign);
        } else {
            numbers[at] = before;
        }
    }
    errors
}

/// Takes as much from the largest of some numbers as they reach together above [`TOGETHER`].
fn cut(numbers: &mut [f32], places: [Option<usize>; 4], sign: f32) {
    let mut over = -TOGETHER;
    for at in places.into_iter().flatten() {
        over += (numbers[at] * sign).max(0.0);
    }
    while over > 0.0 {
        // The numbers that reach so far have one that is not zero.
        let (mut largest, mut top, mut second) = (None, 0f32, 0f32);
        for at in places.into_iter().flatten() {
            let v = numbers[at] * sign;
            if v > top {
                (second, top, largest) = (top, v, Some(at));
            } else {
                second = second.max(v);
            }
        }
        let Some(at) = largest else { return };
        let by = (top - second).max(1.0).min(over);
        numbers[at] -= sign * by;
        over -= by;
    }
}

/// Largest sum of weights of one sign whose products may be summed in 16 bits: those of channels `2k` and `2k + 1`,
/// which lie beside one another in a word, and with `two_words` of the two at the same place of the word before it,
/// which may be another tap's.
fn largest_together(worth: &[f32], cin: usize, kernel: usize, step: f32, two_words: bool) -> f32 {
    let taps = kernel * kernel;
    let whole = |c: usize, tap: usize| {
        if c < cin { nearest(worth[c * taps + tap] / step) } else { 0.0 }
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
                // No worse than with steps so wide that nothing is cut, and never more than what was cut off.
                let worth: Vec<f32> =
                    weights[o * each..(o + 1) * each].iter().map(|w| w * scales[o] * 0.25).collect();
                let error = |whole: &[f32], step: f32| -> f64 {
                    whole.iter().zip(&worth).map(|(q, w)| f64::from(q * step - w).powi(2)).sum()
                };
                let largest = worth.iter().fold(0f32, |m, w| m.max(w.abs()));
                let wide = largest_together(&worth, cin, kernel, largest / LARGEST, two_words) / TOGETHER;
                let wide = largest / LARGEST * wide.max(1.0);
                let plain: Vec<f32> = worth.iter().map(|w| (w / wide).round_ties_even()).collect();
                if largest > 0.0 {
                    let (got, before) = (error(quantised, layer.scale[o]), error(&plain, wide));
                    // What is rounded the other way is off by less than a whole step.
                    let each = f64::from(layer.scale[o]).powi(2) * worth.len() as f64;
                    assert!(got <= before + each, "{got:e} {before:e}");
                    let sum: f32 = quantised.iter().zip(&worth).map(|(q, w)| q - w / layer.scale[o]).sum();
                    assert!(sum.abs() < 1.0, "{sum}");
                }
            }
        }
    }
}
