//! One pass of a network, recorded so that it can be walked backwards.
//!
//! In: planes, parameters, and one operation after another. Out: planes; then, from the gradient of the last ones, the
//! gradients of all trained parameters. A map is given up as soon as no operation before it needs it, its memory serves
//! the next one, and gradients are added up in place. What needs no gradient is not recorded.

use std::collections::HashMap;

use rayon::prelude::*;

use super::ops::batch_norm::{self, Statistics};
use super::ops::convolution::{Convolve, Geometry};
use super::ops::subtraction::{self, Norms, Saved, Scale};
use super::ops::{pool, resize};
use super::parameters::{Gradients, ParameterId, Parameters};
use super::real::{Real, sum};

/// Batch, channels, rows, columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Planes {
    /// Pictures.
    pub batch: usize,
    /// Planes of a picture.
    pub channels: usize,
    /// Rows of a plane.
    pub h: usize,
    /// Columns of a plane.
    pub w: usize,
}

impl Planes {
    /// Values in all.
    pub fn len(&self) -> usize {
        self.batch * self.channels * self.px()
    }

    /// Whether there is no value.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Pixels of a plane.
    pub fn px(&self) -> usize {
        self.h * self.w
    }

    fn size(&self) -> (usize, usize) {
        (self.h, self.w)
    }
}

/// A map on the tape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Value(pub(super) usize);

/// A batch-norm's parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Norm {
    /// The scale γ, `[channels]`.
    pub weight: ParameterId,
    /// The shift β, `[channels]`.
    pub bias: ParameterId,
    /// Running mean, `[channels]`; never trained.
    pub running_mean: ParameterId,
    /// Running variance, `[channels]`; never trained.
    pub running_var: ParameterId,
}

/// A convolution's parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kernel {
    /// The kernel `[out, in, side, side]`.
    pub weight: ParameterId,
    /// The bias `[out]`; `None` where a norm follows.
    pub bias: Option<ParameterId>,
    /// Pixels from one window to the next, in both directions.
    pub stride: usize,
}

/// What follows a convolution within the same operation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tail {
    /// Batch-norm; `None` for none.
    pub norm: Option<Norm>,
    /// Added after the norm, before the ReLU.
    pub added: Option<Value>,
    /// Whether negative results become 0, at the end.
    pub relu: bool,
}

/// Which statistics batch-norms use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The batch's, recorded; norms that are not trained use the running ones.
    Training,
    /// The running ones, which stay as they are, while everything else is trained: the pass that evaluation will make.
    Settling,
    /// The running ones; nothing is recorded.
    Evaluation,
}

/// What records a pass: the network and VGG-16 are written once for all of them. In and out: maps of the recorder's
/// own.
pub trait Record {
    /// The dimensions of a map.
    fn planes(&self, value: Value) -> Planes;

    /// Convolution with "same" padding, and what follows it.
    fn convolution(&mut self, x: Value, kernel: Kernel, tail: Tail) -> Value;

    /// A subtraction unit without its convolution; the operands have one size. `norms`: side and norm of each all-ones
    /// convolution, none for MSNet.
    fn subtraction(&mut self, a: Value, b: Value, norms: &[(usize, Norm)]) -> Value;

    /// `MaxPool2d(3, 2, padding=1)`.
    fn max3(&mut self, x: Value) -> Value;

    /// `MaxPool2d(2, 2)`.
    fn max2(&mut self, x: Value) -> Value;

    /// `AvgPool2d(3, stride, padding=1)`, the padding counted.
    fn average3(&mut self, x: Value, stride: usize) -> Value;

    /// `AvgPool2d(2, 2)` of even sides.
    fn average2(&mut self, x: Value) -> Value;

    /// Bilinear resize, `align_corners = false`; `added` has the size that is wanted, or `(h, w)` says it.
    fn resize(&mut self, x: Value, size: (usize, usize), added: Option<Value>) -> Value;

    /// The sum of one or more maps of one size.
    fn sum(&mut self, values: &[Value]) -> Value;

    /// Channels `first..first + channels`.
    fn slice(&mut self, x: Value, first: usize, channels: usize) -> Value;

    /// Channels of one map after those of another.
    fn concat(&mut self, values: &[Value]) -> Value;
}

struct Slot<T> {
    planes: Planes,
    values: Vec<T>,
    /// Whether a gradient flows through it.
    tracked: bool,
}

enum Step<T> {
    Convolution { x: Value, kernel: Kernel, tail: Tail, raw: Vec<T>, statistics: Option<Statistics> },
    Subtraction { a: Value, b: Value, norms: Vec<(usize, Norm)>, batch: bool, saved: Saved<T> },
    Max3 { x: Value, places: Vec<u32> },
    Max2 { x: Value, places: Vec<u32> },
    Average3 { x: Value, stride: usize },
    Average2 { x: Value },
    Resize { x: Value, added: Option<Value> },
    Sum(Vec<Value>),
    Slice { x: Value, first: usize },
    Concat(Vec<Value>),
}

/// Memory of maps that are no longer needed, by length. What is taken holds anything.
///
/// It keeps no more than it lent: maps and gradients that came from elsewhere end here too, one or more every step, and
/// would otherwise add up over a run.
#[derive(Default)]
pub struct Spare<T>(HashMap<usize, Kept<T>>);

struct Kept<T> {
    free: Vec<Vec<T>>,
    /// Taken and not given back.
    lent: usize,
}

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Self { free: Vec::new(), lent: 0 }
    }
}

impl<T: Real> Spare<T> {
    fn reused(&mut self, len: usize) -> Option<Vec<T>> {
        let kept = self.0.entry(len).or_default();
        kept.lent += 1;
        kept.free.pop()
    }

    /// Memory for `len` values, which hold anything.
    pub fn take(&mut self, len: usize) -> Vec<T> {
        self.reused(len).unwrap_or_else(|| vec![T::ZERO; len])
    }

    fn zeros(&mut self, len: usize) -> Vec<T> {
        match self.reused(len) {
            Some(mut v) => {
                v.fill(T::ZERO);
                v
            }
            None => vec![T::ZERO; len],
        }
    }

    /// Takes back memory that was taken.
    pub fn give(&mut self, values: Vec<T>) {
        let kept = self.0.entry(values.len()).or_default();
        if !values.is_empty() && kept.lent > 0 {
            kept.lent -= 1;
            kept.free.push(values);
        }
    }

    /// Values that are kept for later.
    pub fn held(&self) -> usize {
        self.0.iter().map(|(len, kept)| len * kept.free.len()).sum()
    }

    /// Gives all memory back to the system: the next step has another size.
    pub fn clear(&mut self) {
        self.0.clear();
    }
}

/// See the module.
pub struct Tape<'p, T: Convolve> {
    parameters: &'p Parameters<T>,
    mode: Mode,
    slots: Vec<Slot<T>>,
    steps: Vec<(Value, Step<T>)>,
    /// Batch statistics in the order they were taken, for the running ones.
    statistics: Vec<(Norm, Statistics)>,
    spare: &'p mut Spare<T>,
}

impl<'p, T: Convolve> Tape<'p, T> {
    /// An empty tape over these parameters; maps take their memory from `spare`.
    pub fn new(parameters: &'p Parameters<T>, mode: Mode, spare: &'p mut Spare<T>) -> Self {
        Self { parameters, mode, slots: Vec::new(), steps: Vec::new(), statistics: Vec::new(), spare }
    }

    /// A map's values: `[batch, channels, rows, columns]`.
    pub fn values(&self, value: Value) -> &[T] {
        &self.slots[value.0].values
    }

    fn push(&mut self, planes: Planes, values: Vec<T>, tracked: bool) -> Value {
        assert_eq!(values.len(), planes.len(), "values of a map");
        self.slots.push(Slot { planes, values, tracked });
        Value(self.slots.len() - 1)
    }

    fn record(
        &mut self,
        planes: Planes,
        values: Vec<T>,
        tracked: bool,
        step: impl FnOnce() -> Step<T>,
    ) -> Value {
        let value = self.push(planes, values, tracked);
        if tracked {
            self.steps.push((value, step()));
        }
        value
    }

    fn tracked(&self, value: Value) -> bool {
        self.slots[value.0].tracked
    }

    fn trained(&self, id: ParameterId) -> bool {
        self.mode != Mode::Evaluation && self.parameters.get(id).trained
    }

    /// Whether a norm uses the batch's statistics.
    fn by_batch(&self, norm: &Norm) -> bool {
        self.mode == Mode::Training && self.trained(norm.weight)
    }

    /// A map that comes from outside. `tracked` asks for its gradient too ([`Backward::of`]).
    pub fn input(&mut self, planes: Planes, values: Vec<T>, tracked: bool) -> Value {
        self.push(planes, values, tracked)
    }

    /// Batch statistics in the order they were taken.
    pub fn statistics(&self) -> &[(Norm, Statistics)] {
        &self.statistics
    }

    /// Walks back from `value`, whose gradient is `grad`. The maps are given up on the way.
    pub fn backward(self, value: Value, grad: Vec<T>) -> Backward<T> {
        self.backward_from(vec![(value, grad)])
    }

    /// Walks back from several maps at once; a map that others were made of keeps its own share.
    pub fn backward_from(self, seeds: Vec<(Value, Vec<T>)>) -> Backward<T> {
        let mut walk = Walk {
            gradients: Gradients::of(self.parameters),
            maps: self.slots.iter().map(|_| None).collect(),
            parameters: self.parameters,
            slots: self.slots,
            spare: self.spare,
        };
        for (value, grad) in seeds {
            walk.maps[value.0] = Some(grad);
        }
        for (value, step) in self.steps.into_iter().rev() {
            let grad = walk.maps[value.0].take();
            let own = std::mem::take(&mut walk.slots[value.0].values);
            match grad {
                Some(grad) => walk.step(value, own, step, grad),
                // Nothing that was asked for depends on it.
                None => walk.spare.give(own),
            }
        }
        Backward { gradients: walk.gradients, maps: walk.maps, statistics: self.statistics }
    }

    /// Gives the maps' memory back without walking.
    pub fn finish(self) -> Vec<(Norm, Statistics)> {
        for slot in self.slots {
            self.spare.give(slot.values);
        }
        self.statistics
    }
}

impl<T: Convolve> Record for Tape<'_, T> {
    fn planes(&self, value: Value) -> Planes {
        self.slots[value.0].planes
    }

    fn convolution(&mut self, x: Value, kernel: Kernel, tail: Tail) -> Value {
        let from = self.planes(x);
        let weight = self.parameters.get(kernel.weight);
        let g = geometry(self.parameters, from, &kernel);
        let planes = Planes { batch: from.batch, channels: g.cout, h: g.out_h(), w: g.out_w() };
        let px = planes.px();
        let mut raw = self.spare.take(planes.len());
        T::convolution(&g).forward(
            self.values(x),
            &weight.values,
            kernel.bias.map(|b| self.parameters.values(b)),
            &mut raw,
        );
        let tracked = self.tracked(x)
            || tail.added.is_some_and(|a| self.tracked(a))
            || self.trained(kernel.weight)
            || tail.norm.is_some_and(|n| self.trained(n.weight));
        let room = if tail.norm.is_some() { self.spare.take(planes.len()) } else { Vec::new() };
        let added = tail.added.map(|a| {
            assert_eq!(self.planes(a), planes, "the sum after {}", weight.key);
            self.slots[a.0].values.as_slice()
        });
        let mut statistics = None;
        let (values, raw) = match tail.norm {
            Some(norm) => {
                let mut out = room;
                let affine = (self.parameters.values(norm.weight), self.parameters.values(norm.bias));
                if self.by_batch(&norm) {
                    let of = batch_norm::forward(&raw, px, affine, added, tail.relu, &mut out);
                    self.statistics.push((norm, of.clone()));
                    statistics = Some(of);
                } else {
                    let running =
                        (self.parameters.values(norm.running_mean), self.parameters.values(norm.running_var));
                    batch_norm::fixed(&raw, px, affine, running, added, tail.relu, &mut out);
                }
                if tracked {
                    // Backward turns it into its own gradient.
                    (out, raw)
                } else {
                    self.spare.give(raw);
                    (out, Vec::new())
                }
            }
            None => {
                if let Some(added) = added {
                    raw.iter_mut().zip(added).for_each(|(y, &a)| *y += a);
                }
                if tail.relu {
                    raw.par_chunks_mut(px)
                        .for_each(|plane| plane.iter_mut().for_each(|y| *y = y.rectified()));
                }
                (raw, Vec::new())
            }
        };
        self.record(planes, values, tracked, || Step::Convolution { x, kernel, tail, raw, statistics })
    }

    fn subtraction(&mut self, a: Value, b: Value, norms: &[(usize, Norm)]) -> Value {
        let planes = self.planes(a);
        assert_eq!(planes, self.planes(b), "operands of a subtraction unit");
        let p = self.parameters;
        let scales = scales(p, norms);
        let mut out = self.spare.take(planes.len());
        let batch = norms.iter().all(|(_, n)| self.by_batch(n));
        let running = running(p, norms);
        let mode = if batch { Norms::Batch } else { Norms::Fixed(&running) };
        let (left, right) = (self.values(a), self.values(b));
        let (saved, statistics) =
            subtraction::forward(left, right, planes.channels, planes.size(), &scales, mode, &mut out);
        if batch {
            for ((_, norm), of) in norms.iter().zip(statistics) {
                self.statistics.extend(of.into_iter().map(|of| (*norm, of)));
            }
        }
        let tracked = self.tracked(a) || self.tracked(b) || norms.iter().any(|(_, n)| self.trained(n.weight));
        self.record(planes, out, tracked, || Step::Subtraction { a, b, norms: norms.to_vec(), batch, saved })
    }

    fn max3(&mut self, x: Value) -> Value {
        let from = self.planes(x);
        let (h, w) = pool::size3(from.size(), 2);
        let planes = Planes { h, w, ..from };
        let mut out = self.spare.take(planes.len());
        let mut places = vec![0; planes.len()];
        pool::max3(self.values(x), from.size(), &mut out, &mut places);
        self.record(planes, out, self.tracked(x), || Step::Max3 { x, places })
    }

    fn max2(&mut self, x: Value) -> Value {
        let from = self.planes(x);
        let planes = Planes { h: from.h / 2, w: from.w / 2, ..from };
        let mut out = self.spare.take(planes.len());
        let mut places = vec![0; planes.len()];
        pool::max2(self.values(x), from.size(), &mut out, &mut places);
        self.record(planes, out, self.tracked(x), || Step::Max2 { x, places })
    }

    fn average3(&mut self, x: Value, stride: usize) -> Value {
        let from = self.planes(x);
        let (h, w) = pool::size3(from.size(), stride);
        let planes = Planes { h, w, ..from };
        let mut out = self.spare.take(planes.len());
        pool::average3(self.values(x), from.size(), stride, &mut out);
        self.record(planes, out, self.tracked(x), || Step::Average3 { x, stride })
    }

    fn average2(&mut self, x: Value) -> Value {
        let from = self.planes(x);
        let planes = Planes { h: from.h / 2, w: from.w / 2, ..from };
        let mut out = self.spare.take(planes.len());
        pool::average2(self.values(x), from.size(), &mut out);
        self.record(planes, out, self.tracked(x), || Step::Average2 { x })
    }

    fn resize(&mut self, x: Value, (h, w): (usize, usize), added: Option<Value>) -> Value {
        let from = self.planes(x);
        if from.size() == (h, w) {
            return match added {
                Some(added) => self.sum(&[x, added]),
                None => x,
            };
        }
        let planes = Planes { h, w, ..from };
        let mut out = self.spare.take(planes.len());
        let plus = added.map(|a| {
            assert_eq!(self.planes(a), planes, "what is added to a resized map");
            self.slots[a.0].values.as_slice()
        });
        resize::forward(self.values(x), from.size(), (h, w), plus, &mut out);
        let tracked = self.tracked(x) || added.is_some_and(|a| self.tracked(a));
        self.record(planes, out, tracked, || Step::Resize { x, added })
    }

    fn sum(&mut self, values: &[Value]) -> Value {
        let planes = self.planes(values[0]);
        let mut out = self.spare.take(planes.len());
        out.copy_from_slice(self.values(values[0]));
        for &v in &values[1..] {
            assert_eq!(self.planes(v), planes, "maps of a sum");
            add(&mut out, self.values(v));
        }
        let tracked = values.iter().any(|&v| self.tracked(v));
        self.record(planes, out, tracked, || Step::Sum(values.to_vec()))
    }

    fn slice(&mut self, x: Value, first: usize, channels: usize) -> Value {
        let from = self.planes(x);
        let planes = Planes { channels, ..from };
        let mut out = self.spare.take(planes.len());
        let px = from.px();
        for (to, picture) in
            out.chunks_exact_mut(channels * px).zip(self.values(x).chunks_exact(from.channels * px))
        {
            to.copy_from_slice(&picture[first * px..][..channels * px]);
        }
        self.record(planes, out, self.tracked(x), || Step::Slice { x, first })
    }

    fn concat(&mut self, values: &[Value]) -> Value {
        let from = self.planes(values[0]);
        let channels = values.iter().map(|&v| self.planes(v).channels).sum();
        let planes = Planes { channels, ..from };
        let mut out = self.spare.take(planes.len());
        let px = planes.px();
        let mut at = 0;
        for &v in values {
            let of = self.planes(v);
            assert_eq!((of.h, of.w), (from.h, from.w), "maps side by side");
            let len = of.channels * px;
            for (to, picture) in out.chunks_exact_mut(channels * px).zip(self.values(v).chunks_exact(len)) {
                to[at..at + len].copy_from_slice(picture);
            }
            at += len;
        }
        let tracked = values.iter().any(|&v| self.tracked(v));
        self.record(planes, out, tracked, || Step::Concat(values.to_vec()))
    }
}

/// A convolution's sizes on a map.
pub(super) fn geometry<T: Real>(parameters: &Parameters<T>, from: Planes, kernel: &Kernel) -> Geometry {
    let weight = parameters.get(kernel.weight);
    let [cout, cin, side, _] = weight.shape[..] else { panic!("{} is no kernel", weight.key) };
    assert_eq!(cin, from.channels, "input channels of {}", weight.key);
    Geometry { batch: from.batch, cin, h: from.h, w: from.w, cout, kernel: side, stride: kernel.stride }
}

/// What a step backwards gave.
pub struct Backward<T> {
    /// Of every trained parameter that the pass used.
    pub gradients: Gradients<T>,
    maps: Vec<Option<Vec<T>>>,
    /// Batch statistics in the order they were taken, for [`update_running`].
    pub statistics: Vec<(Norm, Statistics)>,
}

impl<T> Backward<T> {
    /// The gradient of an input that was tracked.
    pub fn of(&mut self, input: Value) -> Option<Vec<T>> {
        self.maps[input.0].take()
    }
}

/// Moves the running statistics of a network as its last pass says.
pub fn update_running<T: Real>(parameters: &mut Parameters<T>, statistics: &[(Norm, Statistics)]) {
    for (norm, of) in statistics {
        let (mean, variance) = parameters.pair_mut(norm.running_mean, norm.running_var);
        of.update(mean, variance);
    }
}

fn scales<'a, T: Real>(parameters: &'a Parameters<T>, norms: &[(usize, Norm)]) -> Vec<Scale<'a, T>> {
    norms
        .iter()
        .map(|(side, n)| Scale {
            side: *side,
            gamma: parameters.values(n.weight),
            beta: parameters.values(n.bias),
        })
        .collect()
}

fn running<'a, T: Real>(parameters: &'a Parameters<T>, norms: &[(usize, Norm)]) -> Vec<(&'a [T], &'a [T])> {
    let of = |(_, n): &(usize, Norm)| (parameters.values(n.running_mean), parameters.values(n.running_var));
    norms.iter().map(of).collect()
}

fn add<T: Real>(to: &mut [T], from: &[T]) {
    const PIECE: usize = 1 << 14;
    to.par_chunks_mut(PIECE).zip(from.par_chunks(PIECE)).for_each(|(to, from)| {
        to.iter_mut().zip(from).for_each(|(to, &v)| *to += v);
    });
}

struct Walk<'p, T: Convolve> {
    parameters: &'p Parameters<T>,
    slots: Vec<Slot<T>>,
    maps: Vec<Option<Vec<T>>>,
    gradients: Gradients<T>,
    spare: &'p mut Spare<T>,
}

impl<T: Convolve> Walk<'_, T> {
    fn planes(&self, value: Value) -> Planes {
        self.slots[value.0].planes
    }

    fn tracked(&self, value: Value) -> bool {
        self.slots[value.0].tracked
    }

    /// Adds a whole gradient to a map's.
    fn accumulate(&mut self, value: Value, grad: Vec<T>) {
        if !self.tracked(value) {
            return self.spare.give(grad);
        }
        match &mut self.maps[value.0] {
            Some(there) => {
                add(there, &grad);
                self.spare.give(grad);
            }
            empty => *empty = Some(grad),
        }
    }

    /// A map's gradient so far, taken out to be added to; `None` if it has none.
    fn open(&mut self, value: Value) -> Option<Vec<T>> {
        if !self.tracked(value) {
            return None;
        }
        let len = self.planes(value).len();
        Some(match self.maps[value.0].take() {
            Some(grad) => grad,
            None => self.spare.zeros(len),
        })
    }

    fn step(&mut self, value: Value, own: Vec<T>, step: Step<T>, mut grad: Vec<T>) {
        let planes = self.planes(value);
        match step {
            Step::Convolution { x, kernel, tail, mut raw, statistics } => {
                self.convolution(planes, x, kernel, tail, &own, &mut raw, statistics, &mut grad);
                // What the sum before the ReLU had added takes the gradient as the ReLU left it.
                match tail.added {
                    Some(added) => self.accumulate(added, grad),
                    None => self.spare.give(grad),
                }
                self.spare.give(raw);
            }
            Step::Subtraction { a, b, norms, batch, saved } => {
                let zeros =
                    |walk: &mut Self, v| walk.open(v).unwrap_or_else(|| walk.spare.zeros(planes.len()));
                let (mut da, mut db) = (zeros(self, a), zeros(self, b));
                let running = running(self.parameters, &norms);
                let of_norms = subtraction::backward(
                    &self.slots[a.0].values,
                    &self.slots[b.0].values,
                    planes.channels,
                    planes.size(),
                    &scales(self.parameters, &norms),
                    if batch { Norms::Batch } else { Norms::Fixed(&running) },
                    &saved,
                    &grad,
                    &mut da,
                    &mut db,
                );
                for ((_, norm), of) in norms.iter().zip(of_norms) {
                    if self.parameters.get(norm.weight).trained {
                        self.gradients.add(norm.weight, &of.gamma);
                        self.gradients.add(norm.bias, &of.beta);
                    }
                }
                self.close(a, da);
                self.close(b, db);
                self.spare.give(grad);
            }
            Step::Max3 { x, places } => {
                self.into(x, grad, |size, grad, out| pool::max3_backward(grad, &places, size, out));
            }
            Step::Max2 { x, places } => {
                self.into(x, grad, |size, grad, out| pool::max2_backward(grad, &places, size, out));
            }
            Step::Average3 { x, stride } => {
                self.into(x, grad, |size, grad, out| pool::average3_backward(grad, size, stride, out));
            }
            Step::Average2 { x } => {
                self.into(x, grad, |size, grad, out| pool::average2_backward(grad, size, out));
            }
            Step::Resize { x, added } => {
                if let Some(mut out) = self.open(x) {
                    resize::backward(&grad, self.planes(x).size(), planes.size(), &mut out);
                    self.close(x, out);
                }
                match added {
                    Some(added) => self.accumulate(added, grad),
                    None => self.spare.give(grad),
                }
            }
            Step::Sum(values) => {
                for &v in &values[1..] {
                    if self.tracked(v) {
                        let mut copy = self.spare.take(grad.len());
                        copy.copy_from_slice(&grad);
                        self.accumulate(v, copy);
                    }
                }
                self.accumulate(values[0], grad);
            }
            Step::Slice { x, first } => {
                let px = planes.px();
                let of = self.planes(x).channels;
                if let Some(mut out) = self.open(x) {
                    let pictures = out.chunks_exact_mut(of * px).zip(grad.chunks_exact(planes.channels * px));
                    for (to, from) in pictures {
                        add(&mut to[first * px..][..from.len()], from);
                    }
                    self.close(x, out);
                }
                self.spare.give(grad);
            }
            Step::Concat(values) => {
                let px = planes.px();
                let mut at = 0;
                for v in values {
                    let len = self.planes(v).channels * px;
                    let mut part = self.spare.take(planes.batch * len);
                    let pictures = part.chunks_exact_mut(len).zip(grad.chunks_exact(planes.channels * px));
                    for (to, from) in pictures {
                        to.copy_from_slice(&from[at..at + len]);
                    }
                    self.accumulate(v, part);
                    at += len;
                }
                self.spare.give(grad);
            }
        }
        self.spare.give(own);
    }

    fn close(&mut self, value: Value, grad: Vec<T>) {
        if self.tracked(value) {
            self.maps[value.0] = Some(grad);
        } else {
            self.spare.give(grad);
        }
    }

    /// For operations of one map whose adjoint adds.
    fn into(&mut self, x: Value, grad: Vec<T>, adjoint: impl FnOnce((usize, usize), &[T], &mut [T])) {
        if let Some(mut out) = self.open(x) {
            adjoint(self.planes(x).size(), &grad, &mut out);
            self.close(x, out);
        }
        self.spare.give(grad);
    }

    fn convolution(
        &mut self,
        planes: Planes,
        x: Value,
        kernel: Kernel,
        tail: Tail,
        own: &[T],
        raw: &mut [T],
        statistics: Option<Statistics>,
        grad: &mut [T],
    ) {
        let px = planes.px();
        let p = self.parameters;
        // `grad` ends as the gradient of what was added; `inner` is that of the convolution.
        let inner: &[T] = match (&tail.norm, &statistics) {
            (Some(norm), Some(of)) => {
                let relu = tail.relu.then_some(own);
                let gradients = batch_norm::backward(raw, px, p.values(norm.weight), of, relu, grad);
                self.gradients.add(norm.weight, &gradients.gamma);
                self.gradients.add(norm.bias, &gradients.beta);
                raw
            }
            (Some(norm), None) => {
                let relu = tail.relu.then_some(own);
                let running = (p.values(norm.running_mean), p.values(norm.running_var));
                let gradients =
                    batch_norm::fixed_backward(raw, px, p.values(norm.weight), running, relu, grad);
                if p.get(norm.weight).trained {
                    self.gradients.add(norm.weight, &gradients.gamma);
                    self.gradients.add(norm.bias, &gradients.beta);
                }
                raw
            }
            (None, _) => {
                if tail.relu {
                    grad.par_chunks_mut(px).zip(own.par_chunks(px)).for_each(|(g, y)| {
                        g.iter_mut().zip(y).for_each(|(g, &y)| *g = if y > T::ZERO { *g } else { T::ZERO });
                    });
                }
                grad
            }
        };
        let from = self.planes(x);
        let weight = p.get(kernel.weight);
        let g = geometry(p, from, &kernel);
        let passes = T::convolution(&g);
        if weight.trained {
            let out = self.gradients.entry(kernel.weight, weight.values.len());
            passes.backward_weight(&self.slots[x.0].values, inner, out);
            if let Some(bias) = kernel.bias {
                let out = self.gradients.entry(bias, planes.channels);
                // The mean that a batch-norm takes off takes the bias with it: its gradient is zero.
                if statistics.is_none() {
                    for (i, plane) in inner.chunks_exact(px).enumerate() {
                        out[i % planes.channels] += T::of(sum(plane));
                    }
                }
            }
        }
        if self.slots[x.0].tracked {
            let mut out = self.spare.take(from.len());
            passes.backward_input(&weight.values, inner, &mut out);
            self.accumulate(x, out);
        }
    }
}
