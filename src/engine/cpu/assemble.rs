//! From layers to steps: memory, packed weights, passes, and how the work is cut into tasks.
//!
//! In: [`Layer`]s, sources, and what becomes of results. Out: waves of [`Step`]s with the memory they point into.

use super::conv::{Also, Conv, Epilogue, Factors, Out, PASS_WORDS, Pass, Plane};
use super::kernel_set::Isa;
use super::maps::{Geometry, Map, Maps, Store, View};
use super::pack::{Layer, Part, pack, pack_winograd, pack_winograd_i16};
use super::plan::{Plan, Probe, Step, Wave};
use super::quantise::sums_fit;
use super::storage::Storage;
use super::tile::Run;
use super::winograd::{BLOCK, Winograd};
use super::winograd_i16::WinogradI16;
use crate::program::Rounding;

/// Packed weights that may stay in the second-level cache from one task to the next.
const RESIDENT_BYTES: usize = 384 << 10;

/// A plan under construction.
pub(crate) struct Assembly {
    pub(crate) isa: &'static Isa,
    pub(crate) threads: usize,
    pub(crate) maps: Maps,
    pub(crate) store: Store,
    waves: Vec<Wave>,
    /// Part of the network under construction.
    pub(crate) group: &'static str,
    pub(crate) steps: Vec<Step>,
    pub(crate) macs: u64,
    /// How much rounding shows in what is under construction: where little, bf16 may use the larger Winograd tile too.
    pub(crate) rounding: Rounding,
    /// Where each value can be seen.
    pub(crate) probes: Vec<Probe>,
}

/// What a convolution does with its result; the layer brings scale and bias.
#[derive(Default)]
pub(crate) struct Finish {
    pub(crate) residual: Option<View>,
    pub(crate) relu: bool,
    pub(crate) outs: Vec<Out>,
    pub(crate) also: Option<Also>,
    pub(crate) sum: Option<Plane>,
    pub(crate) factors: Factors,
}

impl Finish {
    pub(crate) fn relu_to(view: View, channels: usize) -> Self {
        Self { relu: true, outs: vec![Out { channels: (0, channels), view }], ..Default::default() }
    }

    fn epilogue(self, isa: &Isa, channels: usize, scale: &[f32], shift: &[f32]) -> Epilogue {
        Epilogue {
            channels,
            scale: padded(isa, scale),
            bias: padded(isa, shift),
            residual: self.residual,
            relu: self.relu,
            outs: self.outs,
            also: self.also,
            sum: self.sum,
            factors: self.factors,
        }
    }
}

/// A convolution's source: a map or some channels of it.
#[derive(Clone, Copy)]
pub(crate) struct Source {
    pub(crate) view: View,
    /// Channels of a pixel, padding included.
    pub(crate) stored: usize,
    pub(crate) stride: usize,
}

impl Source {
    pub(crate) fn of(map: &Map) -> Self {
        Self { view: map.view(), stored: map.geometry.channels, stride: 1 }
    }
}

/// How a 3x3 convolution of stride 1 may be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Method {
    /// By [`Assembly`]'s own rule.
    Best,
    Direct,
    /// By Winograd's algorithm with tiles of 2x2 or 4x4 pixels.
    Winograd(usize),
}

impl Assembly {
    pub(crate) fn new(isa: &'static Isa, threads: usize) -> Self {
        Self {
            isa,
            threads,
            maps: Maps::default(),
            store: Store::default(),
            waves: Vec::new(),
            group: "",
            steps: Vec::new(),
            macs: 0,
            rounding: Rounding::Sensitive,
            probes: Vec::new(),
        }
    }

    pub(crate) fn finish(self) -> Plan {
        Plan::new(self.isa, self.waves, self.maps, self.store, self.probes, self.threads)
    }

    /// Ends a wave: what follows may read what was written so far.
    pub(crate) fn wave(&mut self) {
        let steps = std::mem::take(&mut self.steps);
        self.waves.push(Wave { group: self.group, steps, macs: std::mem::take(&mut self.macs) });
        self.maps.settle();
    }

    /// A map in the path's own storage type.
    pub(crate) fn map(&mut self, height: usize, width: usize, channels: usize, border: usize) -> Map {
        self.maps.take(Geometry { height, width, channels, border, storage: self.isa.storage })
    }

    /// A plane of f32 in memory of its own.
    #[cfg(test)]
    pub(crate) fn plane(&mut self, height: usize, width: usize, count: usize) -> super::conv::Plane {
        let map = self.maps.take(Geometry {
            height: height * count,
            width,
            channels: 1,
            border: 0,
            storage: Storage::F32,
        });
        super::conv::Plane { start: map.view().at::<f32>(0, 0), width }
    }

    /// One convolution over one or two sources, whose results are summed.
    pub(crate) fn conv(&mut self, parts: &[(Source, &Layer)], size: (usize, usize), finish: Finish) {
        self.conv_by(Method::Best, parts, size, finish);
    }

    /// The same by a method of the caller's choice.
    pub(crate) fn conv_by(
        &mut self,
        method: Method,
        parts: &[(Source, &Layer)],
        (height, width): (usize, usize),
        finish: Finish,
    ) {
        let isa = self.isa;
        if let [(source, layer)] = parts
            && let Some(tile) = winograd_tile(method, isa, self.rounding, source, layer, (height, width))
        {
            match source.view.storage() {
                Storage::U8 => self.winograd_i16(source, layer, (height, width), finish),
                _ => self.winograd(source, layer, tile, (height, width), finish),
            }
            return;
        }
        let count = parts.len();
        let mut packed = Vec::new();
        let mut passes: Vec<Pass> = Vec::new();
        let mut words_before = 0;
        let mut shift = vec![0.0; parts[0].1.out];
        for (i, (source, layer)) in parts.iter().enumerate() {
            let part = Part { layer, stored: source.stored, storage: source.view.storage() };
            let last = i + 1 == count;
            split_passes(&mut passes, source, layer.kernel, &part, words_before);
            // Sums of integers have one scale, whatever source they come from.
            if let (false, false, Some(pass)) = (last, finish.factors.integer, passes.last_mut()) {
                pass.rescale = Some(padded(isa, &layer.scale));
            }
            words_before += part.words();
            for (sum, s) in shift.iter_mut().zip(&layer.shift) {
                *sum += s;
            }
            self.macs += layer.macs() * (height * width) as u64;
            packed.push(part);
        }
        let panels = pack(isa, &mut self.store, &packed);
        let last = parts[count - 1].1;
        let epilogue = finish.epilogue(isa, last.out, &last.scale, &shift);
        // The stem's first convolution reads f32 at any precision.
        let kernels = isa.tiles_of(parts[0].0.view.storage());
        let far = parts.iter().all(|(_, layer)| layer.kernel == 1);
        let groups = Vec::new();
        let mut conv = Conv { height, width, passes, panels, epilogue, band: 1, groups, far, kernels };
        schedule(&mut conv, isa, self.threads);
        self.steps.push(Step::Conv(conv));
    }

    /// A 3x3 convolution by Winograd's algorithm.
    fn winograd(
        &mut self,
        source: &Source,
        layer: &Layer,
        tile: usize,
        (height, width): (usize, usize),
        finish: Finish,
    ) {
        let isa = self.isa;
        let storage = source.view.storage();
        let blocks = blocks(layer.cin);
        let panels = pack_winograd(isa, &mut self.store, layer, storage, tile, &blocks);
        self.macs += layer.macs() * (height * width) as u64;
        let epilogue = finish.epilogue(isa, layer.out, &layer.scale, &layer.shift);
        // About 24 tiles at a time: transformed maps stay in the second-level cache.
        let band = band((height.div_ceil(tile), width.div_ceil(tile)), 24, self.threads);
        self.steps.push(Step::Winograd(Winograd {
            height,
            width,
            source: source.view,
            tile,
            band,
            blocks,
            panels,
            epilogue,
            per_word: storage.per_word(),
            kernels: isa.tiles_of(storage),
        }));
    }

    /// A 3x3 convolution of integers by Winograd's algorithm.
    fn winograd_i16(
        &mut self,
        source: &Source,
        layer: &Layer,
        (height, width): (usize, usize),
        finish: Finish,
    ) {
        let isa = self.isa;
        // A word is two channels.
        let blocks = blocks(layer.cin.next_multiple_of(2));
        let panels = pack_winograd_i16(isa, &mut self.store, layer, &blocks);
        self.macs += layer.macs() * (height * width) as u64;
        let epilogue = finish.epilogue(isa, layer.out, &layer.scale, &layer.shift);
        // About 48 tiles at a time: transformed maps stay in the second-level cache.
        let band = band((height.div_ceil(2), width.div_ceil(2)), 48, self.threads);
        self.steps.push(Step::WinogradI16(WinogradI16 {
            height,
            width,
            source: source.view,
            band,
            blocks,
            panels,
            epilogue,
            kernels: isa.i16_tiles,
        }));
    }
}

/// Values of each output channel, for whole vectors: their tails are computed and thrown away.
fn padded(isa: &Isa, v: &[f32]) -> Vec<f32> {
    let mut v = v.to_vec();
    v.resize(v.len().next_multiple_of(isa.lanes) + isa.lanes * isa.vectors, 0.0);
    v
}

/// Channels cut into nearly equal blocks that are transformed together: first channel and number, even.
fn blocks(channels: usize) -> Vec<(usize, usize)> {
    let each = channels.div_ceil(channels.div_ceil(BLOCK)).next_multiple_of(2);
    (0..channels).step_by(each).map(|c| (c, each.min(channels - c))).collect()
}

/// Rows of tiles of a task: about `at_once` tiles, and equal shares for all threads.
fn band((down, across): (usize, usize), at_once: usize, threads: usize) -> usize {
    let most = at_once.div_ceil(across).clamp(1, down);
    let tasks = down.div_ceil(most).next_multiple_of(threads).min(down);
    down.div_ceil(tasks)
}

/// Whether Winograd's algorithm can do it at all, whatever else decides whether it does.
pub(crate) fn has_winograd_form(layer: &Layer, stride: usize) -> bool {
    layer.kernel == 3 && stride == 1
}

/// Whether a convolution is done by Winograd's algorithm, and with which tile.
fn winograd_tile(
    method: Method,
    isa: &Isa,
    rounding: Rounding,
    source: &Source,
    layer: &Layer,
    (height, width): (usize, usize),
) -> Option<usize> {
    let storage = source.view.storage();
    let integer = storage == Storage::U8;
    // Integer paths have f32 kernels beside their own.
    let fits = has_winograd_form(layer, source.stride)
        && (storage == isa.storage || isa.storage == Storage::U8)
        && if integer { sums_fit(layer) } else { source.stored == layer.cin && layer.cin.is_multiple_of(2) };
    let wanted = match method {
        Method::Direct => None,
        Method::Winograd(tile) => Some(tile),
        // A map of 11x11 has too few tiles for weights four times as many.
        Method::Best if height.min(width) < 16 => None,
        // In bf16 the larger tile rounds three times as much: in the stem and the backbone that shows, in the decoder
        // not.
        Method::Best => Some(if storage.is_coarse() && rounding != Rounding::Forgiving { 2 } else { 4 }),
    };
    wanted.filter(|_| fits)
}

/// Cuts one part's reduction into passes of at most [`PASS_WORDS`], nearly equal.
fn split_passes(passes: &mut Vec<Pass>, source: &Source, kernel: usize, part: &Part, words_before: usize) {
    let per_word = part.storage.per_word();
    let View { row, pixel, .. } = source.view;
    let (reach, channel_words) = ((kernel / 2) as isize, source.stored / per_word);
    let mut runs: Vec<Run> = Vec::new();
    for ky in 0..kernel as isize {
        for kx in 0..kernel as isize {
            let elements = (ky - reach) * row as isize + (kx - reach) * pixel as isize;
            let offset = elements / per_word as isize;
            match runs.last_mut() {
                Some(run) if run.offset + run.words as isize == offset => run.words += channel_words,
                _ => runs.push(Run { offset, words: channel_words }),
            }
        }
    }
    let words = part.words();
    let each = words.div_ceil(words.div_ceil(PASS_WORDS));
    let mut before = words_before;
    let mut pass: Vec<Run> = Vec::new();
    let mut room = each;
    for mut run in runs {
        while run.words > 0 {
            let n = run.words.min(room);
            pass.push(Run { offset: run.offset, words: n });
            run.offset += n as isize;
            run.words -= n;
            room -= n;
            if room == 0 {
                let runs = std::mem::take(&mut pass);
                passes.push(whole_pass(source, per_word, runs, before));
                before += each;
                room = each;
            }
        }
    }
    if !pass.is_empty() {
        passes.push(whole_pass(source, per_word, pass, before));
    }
}

fn whole_pass(source: &Source, per_word: usize, runs: Vec<Run>, words_before: usize) -> Pass {
    Pass { source: source.view, stride: source.stride, per_word, runs, words_before, rescale: None }
}

/// Chooses bands and groups: a few tasks for each thread, and weights that are read from a near cache.
fn schedule(conv: &mut Conv, isa: &Isa, threads: usize) {
    let vectors: usize = conv.panels.iter().map(|p| p.vectors).sum();
    let words: usize = conv.passes.iter().flat_map(|p| &p.runs).map(|r| r.words).sum();
    let bytes = vectors * isa.lanes * words * size_of::<u32>();
    let together = conv.epilogue.sum.is_some() || bytes <= RESIDENT_BYTES;
    let every = conv.panels.len();
    conv.groups =
        if together { std::iter::once(0..every).collect() } else { (0..every).map(|i| i..i + 1).collect() };
    // Each band reads the packed weights once more: 100 to 200 pixels make up for it.
    let pixels: usize = if together { 96 } else { 200 };
    conv.band = pixels.div_ceil(conv.width).clamp(1, conv.height);
    let wanted = 4 * threads;
    while conv.band > 1 && conv.tasks() < wanted {
        conv.band = conv.band.div_ceil(2);
    }
    let mut at_once = every.div_ceil(2);
    while conv.epilogue.sum.is_none() && together && conv.tasks() < wanted && at_once >= 1 && every > 1 {
        conv.groups = (0..every).step_by(at_once).map(|i| i..(i + at_once).min(every)).collect();
        if at_once == 1 {
            break;
        }
        at_once = at_once.div_ceil(2);
    }
    // Equal shares: bands of equal height.
    let bands = conv.height.div_ceil(conv.band);
    conv.band = conv.height.div_ceil(bands);
}
