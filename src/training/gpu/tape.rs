//! A pass recorded as launches: the network's operations flow in, their gradients are left in the [`Arena`].
//!
//! The same record as [`crate::training::tape`], whose maps are in the card's memory. A launch that fails is kept and
//! told at the end; nothing is launched after it.

use super::card::{Card, Operands, Pass};
use super::memory::{Arena, Spare};
use crate::engine::cuda::{
    Address, Kernel, Launch, Params, Train, TrainApply, TrainBias, TrainBox, TrainChannels, TrainEach,
    TrainNorm, TrainPlanes, TrainPool, TrainResize, TrainSums, TrainUnit, bytes_of, bytes_of_mut,
};
use crate::training::ops::batch_norm::{EPSILON, Statistics};
use crate::training::ops::convolution::Geometry;
use crate::training::ops::pool;
use crate::training::parameters::{ParameterId, Parameters};
use crate::training::tape::{Kernel as Convolution, Mode, Norm, Planes, Record, Tail, Value, geometry};
use crate::{Error, Result};

/// Blocks of a reduction, at least while channels are few.
const BLOCKS: usize = 1056;
/// Values a block of a reduction takes at least.
const SHARE: usize = 4096;
/// Numbers of a channel's form.
const FORM: usize = 4;
/// Channels of all norms of a pass, at most.
const STATISTICS: usize = 1 << 16;
/// Unfinished sums: channels times splits times scales, at most.
const PARTIAL: usize = 1 << 14;

/// A card and what it keeps between passes.
pub(super) struct Room {
    pub(super) card: Box<dyn Card>,
    pub(super) spare: Spare,
    /// Mean and variance of each channel of each norm, in the order they were taken.
    statistics: Address,
    partial: Address,
}

impl Room {
    pub(super) fn new(mut card: Box<dyn Card>) -> Result<Self> {
        let statistics = card.allocate(STATISTICS * 16)?;
        let partial = card.allocate(PARTIAL * 16)?;
        Ok(Self { card, spare: Spare::default(), statistics, partial })
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        // The card's pool outlives this run: what is not given back is lost to the next one, such as another fold.
        let _ = self.spare.clear(&mut *self.card);
    }
}

/// What norm used which statistics, and of how many values.
struct Taken {
    norm: Norm,
    first: usize,
    /// Channels that have their own, or one for all.
    channels: usize,
    of_all: usize,
    count: usize,
}

struct Slot {
    planes: Planes,
    at: Address,
    tracked: bool,
}

/// Planes of one all-ones convolution and operand.
#[derive(Clone, Copy)]
struct Side {
    boxed: Address,
    form: Address,
    plane: Address,
}

struct Scale {
    norm: Norm,
    side: usize,
    forms: Address,
    sides: [Side; 2],
}

enum Step {
    Convolution { x: Value, kernel: Convolution, tail: Tail, raw: Address, form: Address, batch: bool },
    Subtraction { a: Value, b: Value, scales: Vec<Scale>, batch: bool },
    Pool { x: Value, pool: TrainPool },
    Resize { x: Value, added: Option<Value> },
    Sum(Vec<Value>),
    Slice { x: Value, first: usize },
    Concat(Vec<Value>),
}

/// See the module.
pub(super) struct Tape<'p> {
    parameters: &'p Parameters<f32>,
    arena: &'p Arena,
    room: &'p mut Room,
    mode: Mode,
    slots: Vec<Slot>,
    steps: Vec<(Value, Step)>,
    taken: Vec<Taken>,
    next_statistic: usize,
    fault: Option<Error>,
}

impl<'p> Tape<'p> {
    pub(super) fn new(
        parameters: &'p Parameters<f32>,
        arena: &'p Arena,
        mode: Mode,
        room: &'p mut Room,
    ) -> Self {
        Self {
            parameters,
            arena,
            room,
            mode,
            slots: Vec::new(),
            steps: Vec::new(),
            taken: Vec::new(),
            next_statistic: 0,
            fault: None,
        }
    }

    /// The card while this tape's maps wait on it.
    pub(super) fn room(&mut self) -> &mut Room {
        self.room
    }

    pub(super) fn len_of(&self, value: Value) -> usize {
        self.planes(value).len()
    }

    /// A map's memory, which the tape gives up to whoever asks.
    pub(super) fn keep(&mut self, value: Value) -> Address {
        std::mem::take(&mut self.slots[value.0].at)
    }

    fn told<R>(&mut self, done: Result<R>, instead: R) -> R {
        match done {
            Ok(r) => r,
            Err(e) => {
                self.fault.get_or_insert(e);
                instead
            }
        }
    }

    fn take(&mut self, floats: usize) -> Address {
        if self.fault.is_some() {
            return 0;
        }
        let taken = self.room.spare.take(&mut *self.room.card, floats);
        self.told(taken, 0)
    }

    fn give(&mut self, floats: usize, at: Address) {
        self.room.spare.give(floats, at);
    }

    fn launch(&mut self, launch: &Launch) {
        if self.fault.is_none() {
            let done = self.room.card.launch(launch);
            self.told(done, ());
        }
    }

    /// One thread an item.
    fn each<P: Params>(&mut self, kernel: Train, items: usize, params: P) {
        // A launch of no blocks is refused: a network without parameters has no gradients to clear.
        if items > 0 {
            self.launch(&Launch::each(Kernel::Train(kernel), items, params));
        }
    }

    fn blocks<P: Params>(&mut self, kernel: Train, blocks: usize, params: P) {
        self.launch(&Launch::new(Kernel::Train(kernel), blocks, params));
    }

    fn convolve(&mut self, pass: Pass, geometry: &Geometry, operands: Operands) {
        if self.fault.is_none() {
            let done = self.room.card.convolve(pass, geometry, operands);
            self.told(done, ());
        }
    }

    fn clear(&mut self, to: Address, floats: usize) {
        self.each(
            Train::Fill,
            floats,
            TrainEach { to, count: floats as u32, scale: 0.0, ..TrainEach::default() },
        );
    }

    fn add(&mut self, to: Address, from: Address, floats: usize) {
        self.each(Train::Add, floats, TrainEach { to, from, count: floats as u32, scale: 1.0 });
    }

    fn push(&mut self, planes: Planes, at: Address, tracked: bool) -> Value {
        self.slots.push(Slot { planes, at, tracked });
        Value(self.slots.len() - 1)
    }

    fn record(&mut self, planes: Planes, at: Address, tracked: bool, step: impl FnOnce() -> Step) -> Value {
        let value = self.push(planes, at, tracked);
        if tracked {
            self.steps.push((value, step()));
        }
        value
    }

    fn at(&self, value: Value) -> Address {
        self.slots[value.0].at
    }

    fn tracked(&self, value: Value) -> bool {
        self.slots[value.0].tracked
    }

    fn trained(&self, id: ParameterId) -> bool {
        self.mode != Mode::Evaluation && self.parameters.get(id).trained
    }

    fn by_batch(&self, norm: &Norm) -> bool {
        self.mode == Mode::Training && self.trained(norm.weight)
    }

    /// A map that comes from outside. `tracked` asks for its gradient too ([`Backward::of`]).
    pub(super) fn input(&mut self, planes: Planes, values: &[f32], tracked: bool) -> Value {
        assert_eq!(values.len(), planes.len(), "values of a map");
        let at = self.upload(values);
        self.push(planes, at, tracked)
    }

    /// Values in memory of the tape's.
    pub(super) fn upload(&mut self, values: &[f32]) -> Address {
        let at = self.take(values.len());
        if self.fault.is_none() {
            let done = self.room.card.upload(at, bytes_of(values));
            self.told(done, ());
        }
        at
    }

    /// A map's values, once everything before them is done.
    ///
    /// # Errors
    /// What a launch before said.
    pub(super) fn values(&mut self, value: Value) -> Result<Vec<f32>> {
        let mut out = vec![0f32; self.planes(value).len()];
        let at = self.at(value);
        self.download(at, bytes_of_mut(&mut out))?;
        Ok(out)
    }

    fn download(&mut self, from: Address, to: &mut [u8]) -> Result<()> {
        match self.fault.take() {
            Some(e) => Err(e),
            None => self.room.card.download(from, to),
        }
    }

    fn splits(channels: usize, values: usize) -> usize {
        (BLOCKS / channels).clamp(1, values.div_ceil(SHARE))
    }

    /// Sums of a map's channels into the unfinished ones; how many there are of a channel.
    fn sums(&mut self, x: Address, planes: Planes, back: Option<(Address, Address, Address)>) -> usize {
        let splits = Self::splits(planes.channels, planes.batch * planes.px());
        let (grad, output, form) = back.unwrap_or_default();
        let params = TrainSums {
            x,
            grad,
            output,
            form,
            partial: self.room.partial,
            channels: planes.channels as i32,
            pixels: planes.px() as i32,
            batch: planes.batch as i32,
            splits: splits as i32,
        };
        self.blocks(Train::Sums, planes.channels * splits, params);
        splits
    }

    fn norm_params(&self, norm: &Norm, channels: usize, form: Address) -> TrainNorm {
        TrainNorm {
            gamma: self.arena.at(norm.weight),
            beta: self.arena.at(norm.bias),
            running_mean: self.arena.at(norm.running_mean),
            running_variance: self.arena.at(norm.running_var),
            form,
            epsilon: EPSILON,
            channels: channels as i32,
            ..TrainNorm::default()
        }
    }

    /// Room for a norm's statistics.
    fn statistics_of(&mut self, norm: &Norm, channels: usize, of_all: usize, count: usize) -> Address {
        let first = self.next_statistic;
        self.next_statistic += channels;
        assert!(self.next_statistic <= STATISTICS, "channels of all norms");
        self.taken.push(Taken { norm: *norm, first, channels, of_all, count });
        self.room.statistics + 16 * first as u64
    }

    fn apply(
        &mut self,
        kernel: Train,
        planes: Planes,
        form: Address,
        (x, other, out): (Address, Address, Address),
        relu: bool,
    ) {
        let params = TrainApply {
            x,
            other,
            form,
            out,
            count: planes.len() as u32,
            channels: planes.channels as i32,
            pixels: planes.px() as i32,
            relu: i32::from(relu),
        };
        self.each(kernel, planes.len(), params);
    }

    fn pool(
        &mut self,
        x: Value,
        (h, w): (usize, usize),
        (side, stride, pad): (usize, usize, usize),
        max: bool,
    ) -> Value {
        let from = self.planes(x);
        let planes = Planes { h, w, ..from };
        let to = self.take(planes.len());
        let places = if max { self.take(planes.len()) } else { 0 };
        let params = TrainPool {
            from: self.at(x),
            to,
            places,
            count: planes.len() as u32,
            height: from.h as i32,
            width: from.w as i32,
            out_height: h as i32,
            out_width: w as i32,
            side: side as i32,
            stride: stride as i32,
            pad: pad as i32,
        };
        self.each(Train::Pool, planes.len(), params);
        self.record(planes, to, self.tracked(x), || Step::Pool { x, pool: params })
    }

    /// Channels `first..` of a wide map from or to all of a narrow one.
    fn channels(
        &mut self,
        planes: Planes,
        (from, to): ((Address, usize, usize), (Address, usize, usize)),
        accumulate: bool,
    ) {
        let params = TrainChannels {
            from: from.0,
            to: to.0,
            count: planes.len() as u32,
            pixels: planes.px() as i32,
            channels: planes.channels as i32,
            from_channels: from.1 as i32,
            from_first: from.2 as i32,
            to_channels: to.1 as i32,
            to_first: to.2 as i32,
            accumulate: i32::from(accumulate),
        };
        self.each(Train::Channels, planes.len(), params);
    }

    fn box_sums(&mut self, planes: Planes, side: usize, from: Address, to: Address, accumulate: bool) {
        let params = TrainBox {
            from,
            to,
            count: planes.len() as u32,
            height: planes.h as i32,
            width: planes.w as i32,
            side: side as i32,
            accumulate: i32::from(accumulate),
            unused: 0,
        };
        self.each(Train::Box, planes.len(), params);
    }

    /// Batch statistics in the order they were taken.
    ///
    /// # Errors
    /// What a launch before said.
    pub(super) fn statistics(&mut self) -> Result<Vec<(Norm, Statistics)>> {
        let mut all = vec![0f64; 2 * self.next_statistic];
        let from = self.room.statistics;
        self.download(from, bytes_of_mut(&mut all))?;
        let of = |t: &Taken| {
            let pairs = all[2 * t.first..][..2 * t.channels].chunks_exact(2);
            let (mut mean, mut variance): (Vec<f64>, Vec<f64>) = pairs.map(|p| (p[0], p[1])).unzip();
            if t.channels != t.of_all {
                mean = vec![mean[0]; t.of_all];
                variance = vec![variance[0]; t.of_all];
            }
            (t.norm, Statistics { mean, variance, count: t.count })
        };
        Ok(self.taken.iter().map(of).collect())
    }

    /// Gives the maps' memory back without walking.
    ///
    /// # Errors
    /// What a launch before said.
    pub(super) fn finish(mut self) -> Result<()> {
        for slot in std::mem::take(&mut self.slots).into_iter().filter(|s| s.at != 0) {
            self.give(slot.planes.len(), slot.at);
        }
        self.fault.map_or(Ok(()), Err)
    }

    /// `(got − wanted) · scale` in the memory of `wanted`, and the sum of the squares of `got − wanted`.
    pub(super) fn apart(&mut self, got: Value, wanted: Address, scale: f32) -> Result<f64> {
        let planes = self.planes(got);
        let n = planes.len();
        let from = self.at(got);
        self.each(Train::Difference, n, TrainEach { to: wanted, from, count: n as u32, scale: -scale });
        let whole = Planes { channels: 1, h: planes.h * planes.channels, ..planes };
        let splits = self.sums(wanted, whole, None);
        let mut sums = vec![0f64; 2 * splits];
        let partial = self.room.partial;
        self.download(partial, bytes_of_mut(&mut sums))?;
        let squares: f64 = sums.chunks_exact(2).map(|p| p[1]).sum();
        Ok(squares / f64::from(scale).powi(2))
    }

    /// Walks back from `seeds`, maps with their gradients. The gradients of parameters are added up in the arena, which
    /// is cleared first. The maps are given up on the way.
    pub(super) fn backward(mut self, seeds: Vec<(Value, Address)>) -> Result<Backward> {
        if let Some(at) = self.arena.gradients() {
            self.clear(at, self.arena.len);
        }
        let mut walk = Walk {
            maps: self.slots.iter().map(|_| None).collect(),
            touched: vec![false; self.parameters.len()],
            steps: std::mem::take(&mut self.steps),
            tape: self,
        };
        for (value, grad) in seeds {
            walk.maps[value.0] = Some(grad);
        }
        walk.run()
    }
}

impl Record for Tape<'_> {
    fn planes(&self, value: Value) -> Planes {
        self.slots[value.0].planes
    }

    fn convolution(&mut self, x: Value, kernel: Convolution, tail: Tail) -> Value {
        let from = self.planes(x);
        let g = geometry(self.parameters, from, &kernel);
        let planes = Planes { batch: g.batch, channels: g.cout, h: g.out_h(), w: g.out_w() };
        let raw = self.take(planes.len());
        let operands = Operands { input: self.at(x), weights: self.arena.at(kernel.weight), output: raw };
        self.convolve(Pass::Forward, &g, operands);
        let tracked = self.tracked(x)
            || tail.added.is_some_and(|a| self.tracked(a))
            || self.trained(kernel.weight)
            || tail.norm.is_some_and(|n| self.trained(n.weight));
        let added = tail.added.map_or(0, |a| {
            assert_eq!(self.planes(a), planes, "what is added to a convolution");
            self.at(a)
        });
        let (mut at, mut kept, mut form, mut batch) = (raw, 0, 0, false);
        if kernel.bias.is_some() || (tail.norm.is_none() && (tail.relu || added != 0)) {
            let relu = tail.relu && tail.norm.is_none();
            let params = TrainBias {
                map: raw,
                bias: kernel.bias.map_or(0, |b| self.arena.at(b)),
                count: planes.len() as u32,
                channels: planes.channels as i32,
                pixels: planes.px() as i32,
                relu: i32::from(relu && added == 0),
            };
            self.each(Train::Bias, planes.len(), params);
            if tail.norm.is_none() && added != 0 {
                self.add(raw, added, planes.len());
                let cut = TrainBias { bias: 0, relu: i32::from(relu), ..params };
                self.each(Train::Bias, planes.len(), cut);
            }
        }
        if let Some(norm) = tail.norm {
            batch = self.by_batch(&norm);
            form = self.take(FORM * planes.channels);
            let mut params = self.norm_params(&norm, planes.channels, form);
            if batch {
                let count = planes.batch * planes.px();
                params.splits = self.sums(raw, planes, None) as i32;
                params.partial = self.room.partial;
                params.count = count as f64;
                params.statistics = self.statistics_of(&norm, planes.channels, planes.channels, count);
            }
            self.each(Train::Norm, planes.channels, params);
            at = self.take(planes.len());
            self.apply(Train::Apply, planes, form, (raw, added, at), tail.relu);
            if tracked {
                kept = raw;
            } else {
                self.give(planes.len(), raw);
                self.give(FORM * planes.channels, form);
            }
        }
        self.record(planes, at, tracked, || Step::Convolution { x, kernel, tail, raw: kept, form, batch })
    }

    fn subtraction(&mut self, a: Value, b: Value, norms: &[(usize, Norm)]) -> Value {
        let planes = self.planes(a);
        assert_eq!(planes, self.planes(b), "operands of a subtraction unit");
        let flat = Planes { channels: 1, ..planes };
        let batch = norms.iter().all(|(_, n)| self.by_batch(n));
        let mut sums = [0; 2];
        if !norms.is_empty() {
            for (sum, x) in sums.iter_mut().zip([a, b]) {
                *sum = self.take(flat.len());
                let params = TrainPlanes {
                    from: self.at(x),
                    to: *sum,
                    count: flat.len() as u32,
                    channels: planes.channels as i32,
                    pixels: planes.px() as i32,
                    unused: 0,
                };
                self.each(Train::ChannelSum, flat.len(), params);
            }
        }
        let mut scales = Vec::with_capacity(norms.len());
        for &(side, norm) in norms {
            let forms = self.take(FORM * planes.channels);
            let of_channels = self.norm_params(&norm, planes.channels, forms);
            self.each(
                Train::UnitNorm,
                planes.channels,
                TrainNorm { fixed: i32::from(!batch), ..of_channels },
            );
            let sides = sums.map(|sum| {
                let (boxed, form, plane) = (self.take(flat.len()), self.take(FORM), self.take(flat.len()));
                self.box_sums(flat, side, sum, boxed, false);
                let mut params = TrainNorm { gamma: 0, beta: 0, ..self.norm_params(&norm, 1, form) };
                if batch {
                    params.splits = self.sums(boxed, flat, None) as i32;
                    params.partial = self.room.partial;
                    params.count = flat.len() as f64;
                    params.statistics = self.statistics_of(&norm, 1, planes.channels, flat.len());
                } else {
                    // Only the first channel's mean is taken off: each channel has its own form of the rest.
                    params.running_variance = 0;
                }
                self.each(Train::Norm, 1, params);
                self.apply(Train::Apply, flat, form, (boxed, 0, plane), false);
                Side { boxed, form, plane }
            });
            scales.push(Scale { norm, side, forms, sides });
        }
        if !norms.is_empty() {
            sums.into_iter().for_each(|sum| self.give(flat.len(), sum));
        }
        let out = self.take(planes.len());
        let params = TrainUnit { out, ..self.unit(a, b, planes, &scales) };
        self.each(Train::Unit, planes.len(), params);
        let tracked = self.tracked(a) || self.tracked(b) || norms.iter().any(|(_, n)| self.trained(n.weight));
        if !tracked {
            self.drop_scales(planes, &scales);
        }
        self.record(planes, out, tracked, || Step::Subtraction { a, b, scales, batch })
    }

    fn max3(&mut self, x: Value) -> Value {
        let size = pool::size3(self.size(x), 2);
        self.pool(x, size, (3, 2, 1), true)
    }

    fn max2(&mut self, x: Value) -> Value {
        let (h, w) = self.size(x);
        self.pool(x, (h / 2, w / 2), (2, 2, 0), true)
    }

    fn average3(&mut self, x: Value, stride: usize) -> Value {
        let size = pool::size3(self.size(x), stride);
        self.pool(x, size, (3, stride, 1), false)
    }

    fn average2(&mut self, x: Value) -> Value {
        let (h, w) = self.size(x);
        self.pool(x, (h / 2, w / 2), (2, 2, 0), false)
    }

    fn resize(&mut self, x: Value, (h, w): (usize, usize), added: Option<Value>) -> Value {
        if self.size(x) == (h, w) {
            return match added {
                Some(added) => self.sum(&[x, added]),
                None => x,
            };
        }
        let planes = Planes { h, w, ..self.planes(x) };
        let to = self.take(planes.len());
        let plus = added.map_or(0, |a| {
            assert_eq!(self.planes(a), planes, "what is added to a resized map");
            self.at(a)
        });
        let params = TrainResize { added: plus, ..self.resized(x, planes, self.at(x), to, planes.len()) };
        self.each(Train::Resize, planes.len(), params);
        let tracked = self.tracked(x) || added.is_some_and(|a| self.tracked(a));
        self.record(planes, to, tracked, || Step::Resize { x, added })
    }

    fn sum(&mut self, values: &[Value]) -> Value {
        let planes = self.planes(values[0]);
        let to = self.take(planes.len());
        self.clear(to, planes.len());
        for &v in values {
            assert_eq!(self.planes(v), planes, "maps of a sum");
            self.add(to, self.at(v), planes.len());
        }
        let tracked = values.iter().any(|&v| self.tracked(v));
        self.record(planes, to, tracked, || Step::Sum(values.to_vec()))
    }

    fn slice(&mut self, x: Value, first: usize, channels: usize) -> Value {
        let from = self.planes(x);
        let planes = Planes { channels, ..from };
        let to = self.take(planes.len());
        self.channels(planes, ((self.at(x), from.channels, first), (to, channels, 0)), false);
        self.record(planes, to, self.tracked(x), || Step::Slice { x, first })
    }

    fn concat(&mut self, values: &[Value]) -> Value {
        let channels = values.iter().map(|&v| self.planes(v).channels).sum();
        let planes = Planes { channels, ..self.planes(values[0]) };
        let to = self.take(planes.len());
        let mut first = 0;
        for &v in values {
            let of = self.planes(v);
            assert_eq!((of.h, of.w), (planes.h, planes.w), "maps side by side");
            self.channels(of, ((self.at(v), of.channels, 0), (to, channels, first)), false);
            first += of.channels;
        }
        let tracked = values.iter().any(|&v| self.tracked(v));
        self.record(planes, to, tracked, || Step::Concat(values.to_vec()))
    }
}

impl Tape<'_> {
    fn size(&self, value: Value) -> (usize, usize) {
        let p = self.planes(value);
        (p.h, p.w)
    }

    fn resized(&self, x: Value, to_planes: Planes, from: Address, to: Address, count: usize) -> TrainResize {
        let of = self.planes(x);
        TrainResize {
            from,
            added: 0,
            to,
            count: count as u32,
            height: of.h as i32,
            width: of.w as i32,
            out_height: to_planes.h as i32,
            out_width: to_planes.w as i32,
            unused: 0,
        }
    }

    fn unit(&self, a: Value, b: Value, planes: Planes, scales: &[Scale]) -> TrainUnit {
        let mut params = TrainUnit {
            a: self.at(a),
            b: self.at(b),
            partial: self.room.partial,
            count: planes.len() as u32,
            channels: planes.channels as i32,
            pixels: planes.px() as i32,
            batch: planes.batch as i32,
            scales: scales.len() as i32,
            splits: (Self::splits(planes.channels, planes.batch * planes.px())) as i32,
            ..TrainUnit::default()
        };
        for (k, scale) in scales.iter().enumerate() {
            params.planes[k] = scale.sides.map(|s| s.plane);
            params.forms[k] = scale.forms;
        }
        params
    }

    fn drop_scales(&mut self, planes: Planes, scales: &[Scale]) {
        let flat = planes.batch * planes.px();
        for scale in scales {
            self.give(FORM * planes.channels, scale.forms);
            for side in scale.sides {
                self.give(flat, side.boxed);
                self.give(FORM, side.form);
                self.give(flat, side.plane);
            }
        }
    }
}

/// What a walk gave.
pub(super) struct Backward {
    maps: Vec<Option<Vec<f32>>>,
    /// By parameter: whether the pass gave it a gradient.
    pub(super) touched: Vec<bool>,
}

impl Backward {
    /// The gradient of an input that was tracked.
    pub(super) fn of(&mut self, input: Value) -> Option<Vec<f32>> {
        self.maps[input.0].take()
    }
}

struct Walk<'p> {
    tape: Tape<'p>,
    steps: Vec<(Value, Step)>,
    maps: Vec<Option<Address>>,
    touched: Vec<bool>,
}

impl Walk<'_> {
    fn run(mut self) -> Result<Backward> {
        for (value, step) in std::mem::take(&mut self.steps).into_iter().rev() {
            let len = self.tape.planes(value).len();
            let own = self.tape.at(value);
            match self.maps[value.0].take() {
                Some(grad) => self.step(value, own, step, grad),
                None => self.forget(value, step),
            }
            self.tape.give(len, own);
            self.tape.slots[value.0].at = 0;
        }
        // What is left are inputs: maps that no step wrote.
        let mut maps = Vec::with_capacity(self.maps.len());
        for (i, grad) in std::mem::take(&mut self.maps).into_iter().enumerate() {
            let (len, at, tracked) = {
                let slot = &self.tape.slots[i];
                (slot.planes.len(), slot.at, slot.tracked)
            };
            if at != 0 {
                self.tape.give(len, at);
            }
            maps.push(match grad {
                Some(grad) => {
                    let mut values = Vec::new();
                    if tracked {
                        values = vec![0f32; len];
                        self.tape.download(grad, bytes_of_mut(&mut values))?;
                    }
                    self.tape.give(len, grad);
                    tracked.then_some(values)
                }
                None => None,
            });
        }
        match self.tape.fault {
            Some(e) => Err(e),
            None => Ok(Backward { maps, touched: self.touched }),
        }
    }

    /// Gives up what a step kept: nothing that was asked for depends on it.
    fn forget(&mut self, value: Value, step: Step) {
        let planes = self.tape.planes(value);
        match step {
            Step::Convolution { raw, form, .. } if raw != 0 => {
                self.tape.give(planes.len(), raw);
                self.tape.give(FORM * planes.channels, form);
            }
            Step::Subtraction { scales, .. } => self.tape.drop_scales(planes, &scales),
            Step::Pool { pool, .. } if pool.places != 0 => self.tape.give(planes.len(), pool.places),
            _ => {}
        }
    }

    fn accumulate(&mut self, value: Value, grad: Address) {
        let len = self.tape.planes(value).len();
        if !self.tape.tracked(value) {
            return self.tape.give(len, grad);
        }
        match self.maps[value.0] {
            Some(there) => {
                self.tape.add(there, grad, len);
                self.tape.give(len, grad);
            }
            None => self.maps[value.0] = Some(grad),
        }
    }

    /// A map's gradient so far, to be added to; 0 if it needs none.
    fn open(&mut self, value: Value) -> Address {
        if !self.tape.tracked(value) {
            return 0;
        }
        if let Some(there) = self.maps[value.0] {
            return there;
        }
        let len = self.tape.planes(value).len();
        let made = self.tape.take(len);
        self.tape.clear(made, len);
        self.maps[value.0] = Some(made);
        made
    }

    fn gradient(&mut self, id: ParameterId) -> Address {
        if !self.tape.parameters.get(id).trained {
            return 0;
        }
        self.touched[id.0] = true;
        self.tape.arena.gradient(id)
    }

    fn step(&mut self, value: Value, own: Address, step: Step, grad: Address) {
        let planes = self.tape.planes(value);
        let len = planes.len();
        match step {
            Step::Convolution { x, kernel, tail, raw, form, batch } => {
                self.convolution(planes, x, kernel, tail, (own, raw, form), batch, grad);
                match tail.added {
                    Some(added) => self.accumulate(added, grad),
                    None => self.tape.give(len, grad),
                }
                if raw != 0 {
                    self.tape.give(len, raw);
                    self.tape.give(FORM * planes.channels, form);
                }
            }
            Step::Subtraction { a, b, scales, batch } => {
                self.subtraction(planes, (a, b), &scales, batch, grad);
                self.tape.drop_scales(planes, &scales);
                self.tape.give(len, grad);
            }
            Step::Pool { x, pool } => {
                let to = self.open(x);
                if to != 0 {
                    let count = self.tape.planes(x).len();
                    let params = TrainPool { from: grad, to, count: count as u32, ..pool };
                    self.tape.each(Train::PoolBack, count, params);
                }
                if pool.places != 0 {
                    self.tape.give(len, pool.places);
                }
                self.tape.give(len, grad);
            }
            Step::Resize { x, added } => {
                let to = self.open(x);
                if to != 0 {
                    let count = self.tape.planes(x).len();
                    let params = self.tape.resized(x, planes, grad, to, count);
                    self.tape.each(Train::ResizeBack, count, params);
                }
                match added {
                    Some(added) => self.accumulate(added, grad),
                    None => self.tape.give(len, grad),
                }
            }
            Step::Sum(values) => {
                for v in values {
                    let to = self.open(v);
                    if to != 0 {
                        self.tape.add(to, grad, len);
                    }
                }
                self.tape.give(len, grad);
            }
            Step::Slice { x, first } => {
                let to = self.open(x);
                if to != 0 {
                    let of = self.tape.planes(x).channels;
                    self.tape.channels(planes, ((grad, planes.channels, 0), (to, of, first)), true);
                }
                self.tape.give(len, grad);
            }
            Step::Concat(values) => {
                let mut first = 0;
                for v in values {
                    let of = self.tape.planes(v);
                    let to = self.open(v);
                    if to != 0 {
                        self.tape.channels(of, ((grad, planes.channels, first), (to, of.channels, 0)), true);
                    }
                    first += of.channels;
                }
                self.tape.give(len, grad);
            }
        }
    }

    fn convolution(
        &mut self,
        planes: Planes,
        x: Value,
        kernel: Convolution,
        tail: Tail,
        (own, raw, form): (Address, Address, Address),
        batch: bool,
        grad: Address,
    ) {
        let len = planes.len();
        let inner = match tail.norm {
            Some(norm) => {
                let output = if tail.relu { own } else { 0 };
                let splits = self.tape.sums(raw, planes, Some((grad, output, form)));
                let params = TrainNorm {
                    partial: self.tape.room.partial,
                    gamma_gradient: self.gradient(norm.weight),
                    beta_gradient: self.gradient(norm.bias),
                    count: (planes.batch * planes.px()) as f64,
                    splits: splits as i32,
                    fixed: i32::from(!batch),
                    ..self.tape.norm_params(&norm, planes.channels, form)
                };
                self.tape.each(Train::NormBack, planes.channels, params);
                self.tape.apply(Train::ApplyBack, planes, form, (raw, grad, raw), false);
                raw
            }
            None => {
                if tail.relu {
                    let params = TrainEach { to: grad, from: own, count: len as u32, scale: 1.0 };
                    self.tape.each(Train::Cut, len, params);
                }
                grad
            }
        };
        let from = self.tape.planes(x);
        let g = geometry(self.tape.parameters, from, &kernel);
        let input = self.tape.at(x);
        let to = self.gradient(kernel.weight);
        if to != 0 {
            self.tape.convolve(Pass::Weights, &g, Operands { input, weights: to, output: inner });
            // The mean that a batch-norm takes off takes the bias with it: its gradient is zero.
            if let Some(bias) = kernel.bias {
                let to = self.gradient(bias);
                if to != 0 && !batch {
                    let splits = self.tape.sums(inner, planes, None);
                    let scratch = self.tape.take(FORM * planes.channels);
                    let params = TrainNorm {
                        partial: self.tape.room.partial,
                        beta_gradient: to,
                        form: scratch,
                        count: 1.0,
                        channels: planes.channels as i32,
                        splits: splits as i32,
                        ..TrainNorm::default()
                    };
                    self.tape.each(Train::NormBack, planes.channels, params);
                    self.tape.give(FORM * planes.channels, scratch);
                }
            }
        }
        if self.tape.tracked(x) {
            let out = self.tape.take(from.len());
            let weights = self.tape.arena.at(kernel.weight);
            self.tape.convolve(Pass::Input, &g, Operands { input: out, weights, output: inner });
            self.accumulate(x, out);
        }
    }

    fn subtraction(
        &mut self,
        planes: Planes,
        (a, b): (Value, Value),
        scales: &[Scale],
        batch: bool,
        grad: Address,
    ) {
        let flat = Planes { channels: 1, ..planes };
        let gradients = [self.open(a), self.open(b)];
        let mut params = TrainUnit {
            out: grad,
            a_gradient: gradients[0],
            b_gradient: gradients[1],
            ..self.tape.unit(a, b, planes, scales)
        };
        for k in 0..scales.len() {
            params.plane_gradients[k] = [self.tape.take(flat.len()), self.tape.take(flat.len())];
        }
        self.tape.each(Train::UnitBack, flat.len(), params);
        let splits = params.splits as usize;
        if scales.iter().any(|s| self.tape.parameters.get(s.norm.weight).trained) {
            self.tape.blocks(Train::UnitSums, planes.channels * splits, params);
            for (k, scale) in scales.iter().enumerate() {
                let (gamma, beta) = (self.gradient(scale.norm.weight), self.gradient(scale.norm.bias));
                if gamma == 0 {
                    continue;
                }
                let of = TrainNorm {
                    partial: self.tape.room.partial + (16 * k * planes.channels * splits) as u64,
                    gamma_gradient: gamma,
                    beta_gradient: beta,
                    splits: splits as i32,
                    ..self.tape.norm_params(&scale.norm, planes.channels, scale.forms)
                };
                self.tape.each(Train::UnitNormBack, planes.channels, of);
            }
        }
        // Through the norms of the planes and the windows back to every channel.
        for (i, &to) in gradients.iter().enumerate() {
            let back = self.tape.take(flat.len());
            for (k, scale) in scales.iter().enumerate() {
                let Side { boxed, form, .. } = scale.sides[i];
                let g = params.plane_gradients[k][i];
                if batch {
                    let splits = self.tape.sums(boxed, flat, Some((g, 0, form)));
                    let of = TrainNorm {
                        partial: self.tape.room.partial,
                        form,
                        count: flat.len() as f64,
                        channels: 1,
                        splits: splits as i32,
                        ..TrainNorm::default()
                    };
                    self.tape.each(Train::NormBack, 1, of);
                    self.tape.apply(Train::ApplyBack, flat, form, (boxed, g, g), false);
                }
                self.tape.box_sums(flat, scale.side, g, back, k > 0);
            }
            if !scales.is_empty() && to != 0 {
                let spread = TrainPlanes {
                    from: back,
                    to,
                    count: planes.len() as u32,
                    channels: planes.channels as i32,
                    pixels: planes.px() as i32,
                    unused: 0,
                };
                self.tape.each(Train::ChannelSpread, planes.len(), spread);
            }
            self.tape.give(flat.len(), back);
        }
        for k in 0..scales.len() {
            for g in params.plane_gradients[k] {
                self.tape.give(flat.len(), g);
            }
        }
    }
}
