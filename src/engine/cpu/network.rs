//! M²SNet and MSNet laid out as a plan: which steps, in which order, over which maps.
//!
//! In: a checkpoint, an instruction set, an input size. Out: a [`Plan`]. This file follows `model::res2net` and
//! `model::m2snet` line by line; names are the checkpoint's keys.

use super::conv::{Also, Conv, Epilogue, Out, PASS_WORDS, Pass, Plane};
use super::ends::{Entry, Exit, INPUT_CHANNELS, Last};
use super::isa::Isa;
use super::maps::{Block, Geometry, Map, Maps, Store, View};
use super::pack::{Affine, Layer, Part, pack};
use super::plan::{Plan, Step, Wave};
use super::pool::{Kind, Pool};
use super::resize::{Axis, Join};
use super::subtract::{Subtract, Terms};
use super::tile::Run;
use crate::Result;
use crate::model::{
    Architecture, BLOCKS, CHANNELS, Checkpoint, PLANES, SCALE, Variant, split_width, stage_stride,
};

/// Packed weights that may stay in the second-level cache from one task to the next.
const RESIDENT_BYTES: usize = 384 << 10;

/// A decoder map with the sum over its channels.
struct Feature {
    map: Map,
    sum: Plane,
}

impl Feature {
    fn size(&self) -> (usize, usize) {
        (self.map.geometry.height, self.map.geometry.width)
    }
}

struct Builder<'a> {
    checkpoint: &'a Checkpoint,
    isa: &'static Isa,
    threads: usize,
    maps: Maps,
    store: Store,
    planes: Vec<Block>,
    waves: Vec<Wave>,
    group: &'static str,
    steps: Vec<Step>,
    macs: u64,
}

/// What a convolution does with its result; the layer brings scale and bias.
#[derive(Default)]
struct Finish {
    residual: Option<View>,
    relu: bool,
    outs: Vec<Out>,
    also: Option<Also>,
    sum: Option<Plane>,
}

impl Finish {
    fn relu_to(view: View, channels: usize) -> Self {
        Self { relu: true, outs: vec![Out { channels: (0, channels), view }], ..Default::default() }
    }
}

/// A convolution's source: a map or some channels of it.
#[derive(Clone, Copy)]
struct Source {
    view: View,
    /// Channels of a pixel, padding included.
    stored: usize,
    stride: usize,
}

impl Source {
    fn of(map: &Map) -> Self {
        Self { view: map.view(), stored: map.geometry.channels, stride: 1 }
    }
}

/// Builds the plan for one input size.
pub(crate) fn build(
    checkpoint: &Checkpoint,
    isa: &'static Isa,
    (height, width): (usize, usize),
    threads: usize,
) -> Result<(Plan, Plane)> {
    let mut b = Builder {
        checkpoint,
        isa,
        threads,
        maps: Maps::default(),
        store: Store::default(),
        planes: Vec::new(),
        waves: Vec::new(),
        group: "stem",
        steps: Vec::new(),
        macs: 0,
    };
    let x1 = b.stem(height, width)?;
    let mut stages: Vec<Map> = Vec::new();
    for (s, name) in ["layer1", "layer2", "layer3", "layer4"].into_iter().enumerate() {
        b.group = name;
        let mut x: Option<Map> = None;
        for block in 0..BLOCKS[s] {
            let input = x.as_ref().or(stages.last()).unwrap_or(&x1.map);
            let last = block + 1 == BLOCKS[s];
            let out = b.block(input, s, block, usize::from(last))?;
            if let Some(old) = x.replace(out) {
                b.maps.give_back(old);
            }
        }
        stages.extend(x);
    }
    let low = b.decoder(x1, stages, (height, width))?;
    Ok((Plan::new(isa, b.waves, b.maps, b.store, b.planes, threads), low))
}

impl Builder<'_> {
    fn architecture(&self) -> Architecture {
        self.checkpoint.architecture()
    }

    /// Ends a wave: what follows may read what was written so far.
    fn wave(&mut self) {
        let steps = std::mem::take(&mut self.steps);
        self.waves.push(Wave { group: self.group, steps, macs: std::mem::take(&mut self.macs) });
        self.maps.settle();
    }

    fn map(&mut self, height: usize, width: usize, channels: usize, border: usize) -> Map {
        self.maps.take(Geometry { height, width, channels, border, element: self.isa.element })
    }

    fn plane(&mut self, height: usize, width: usize, count: usize) -> Plane {
        let block = Block::new(height * width * count * size_of::<f32>());
        let plane = Plane { start: block.start().cast(), width };
        self.planes.push(block);
        plane
    }

    fn norm_layer(&self, kernel: &str, shape: (usize, usize, usize), norm: &str) -> Result<Layer> {
        Layer::load(self.checkpoint, &format!("{kernel}.weight"), shape, None, Some(norm))
    }

    /// Convolution with bias and batch-norm, keys `at.0` and `at.1`.
    fn cnr_layer(&self, at: &str, cin: usize) -> Result<Layer> {
        Layer::load(
            self.checkpoint,
            &format!("{at}.0.weight"),
            (CHANNELS, cin, 3),
            Some(&format!("{at}.0.bias")),
            Some(&format!("{at}.1")),
        )
    }

    /// One convolution over one or two sources, whose results are summed.
    fn conv(&mut self, parts: &[(Source, &Layer)], (height, width): (usize, usize), finish: Finish) {
        let isa = self.isa;
        let count = parts.len();
        let mut packed = Vec::new();
        let mut passes: Vec<Pass> = Vec::new();
        let mut words_before = 0;
        let mut shift = vec![0.0; parts[0].1.out];
        let padded = |v: &[f32]| {
            let mut v = v.to_vec();
            // Tails of vectors are computed and thrown away.
            v.resize(v.len().next_multiple_of(isa.lanes) + isa.lanes * isa.vectors, 0.0);
            v
        };
        for (i, (source, layer)) in parts.iter().enumerate() {
            let bf16 = source.view.element() == 2;
            let part = Part { layer, stored: source.stored, bf16 };
            let last = i + 1 == count;
            split_passes(&mut passes, source, layer.kernel, &part, words_before);
            if let (false, Some(pass)) = (last, passes.last_mut()) {
                pass.rescale = Some(padded(&layer.scale));
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
        let epilogue = Epilogue {
            channels: last.out,
            scale: padded(&last.scale),
            bias: padded(&shift),
            residual: finish.residual,
            relu: finish.relu,
            outs: finish.outs,
            also: finish.also,
            sum: finish.sum,
        };
        let f32_source = parts[0].0.view.element() == 4;
        let kernels = if f32_source { isa.f32_tiles } else { &isa.tiles };
        let mut conv = Conv { height, width, passes, panels, epilogue, band: 1, groups: Vec::new(), kernels };
        schedule(&mut conv, isa, self.threads);
        self.steps.push(Step::Conv(conv));
    }

    /// 3x3 s2, 3x3, 3x3, max-pool: x1.
    fn stem(&mut self, height: usize, width: usize) -> Result<Feature> {
        let geometry = Geometry { height, width, channels: INPUT_CHANNELS, border: 1, element: 4 };
        let input = self.maps.take(geometry);
        self.steps.push(Step::Entry(Entry { height, width, out: input.view() }));
        self.wave();
        let (h, w) = (height / 2, width / 2);
        let first = self.map(h, w, 32, 1);
        let layer = self.norm_layer("resnet.conv1.0", (32, 3, 3), "resnet.conv1.1")?;
        let source = Source { stride: 2, ..Source::of(&input) };
        self.conv(&[(source, &layer)], (h, w), Finish::relu_to(first.view(), 32));
        self.maps.give_back(input);
        self.wave();
        let second = self.map(h, w, 32, 1);
        let layer = self.norm_layer("resnet.conv1.3", (32, 32, 3), "resnet.conv1.4")?;
        self.conv(&[(Source::of(&first), &layer)], (h, w), Finish::relu_to(second.view(), 32));
        self.maps.give_back(first);
        self.wave();
        let third = self.map(h, w, 64, 0);
        let layer = self.norm_layer("resnet.conv1.6", (64, 32, 3), "resnet.bn1")?;
        self.conv(&[(Source::of(&second), &layer)], (h, w), Finish::relu_to(third.view(), 64));
        self.maps.give_back(second);
        self.wave();
        let x1 = self.map(h / 2, w / 2, 64, 1);
        let sum = self.plane(h / 2, w / 2, 1);
        self.steps.push(Step::Pool(Pool {
            kind: Kind::Max3,
            height: h / 2,
            width: w / 2,
            channels: 64,
            source: third.view(),
            out: x1.view(),
            sum: Some(sum),
        }));
        self.maps.give_back(third);
        self.wave();
        Ok(Feature { map: x1, sum })
    }

    /// A Res2Net block.
    fn block(&mut self, x: &Map, stage: usize, block: usize, border: usize) -> Result<Map> {
        let at = format!("resnet.layer{}.{block}", stage + 1);
        let Geometry { height, width, channels: cin, .. } = x.geometry;
        let (planes, first) = (PLANES[stage], block == 0);
        let stride = if first { stage_stride(stage) } else { 1 };
        let (h, w) = (height / stride, width / stride);
        let split = split_width(planes);

        let splits: Vec<Map> = (0..SCALE - 1).map(|_| self.map(height, width, split, 1)).collect();
        let joined = self.map(h, w, split * SCALE, 0);
        // In a first block the fourth split is pooled on its way, else it goes straight into the concatenation.
        let pooled_split = first.then(|| self.map(height, width, split, 1));
        let last_split = pooled_split.as_ref().map_or(joined.view().channel(3 * split), Map::view);
        let mut outs: Vec<Out> = splits
            .iter()
            .enumerate()
            .map(|(i, map)| Out { channels: (i * split, (i + 1) * split), view: map.view() })
            .collect();
        outs.push(Out { channels: (3 * split, 4 * split), view: last_split });
        let conv1 = self.norm_layer(&format!("{at}.conv1"), (split * SCALE, cin, 1), &format!("{at}.bn1"))?;
        let finish = Finish { relu: true, outs, ..Default::default() };
        self.conv(&[(Source::of(x), &conv1)], (height, width), finish);
        let pooled = (first && stride == 2).then(|| self.map(h, w, cin, 0));
        if let Some(pooled) = &pooled {
            self.steps.push(Step::Pool(Pool {
                kind: Kind::Average2,
                height: h,
                width: w,
                channels: cin,
                source: x.view(),
                out: pooled.view(),
                sum: None,
            }));
        }
        self.wave();

        for (i, map) in splits.iter().enumerate() {
            let layer =
                self.norm_layer(&format!("{at}.convs.{i}"), (split, split, 3), &format!("{at}.bns.{i}"))?;
            let mut finish = Finish::relu_to(joined.view().channel(i * split), split);
            if let (false, Some(next)) = (first, splits.get(i + 1)) {
                // The next split's addend, in place: nobody else reads that pixel.
                finish.also = Some(Also { add: next.view(), out: next.view() });
            }
            self.conv(&[(Source { stride, ..Source::of(map) }, &layer)], (h, w), finish);
            if !first {
                self.wave();
            }
        }
        if let Some(map) = pooled_split {
            self.steps.push(Step::Pool(Pool {
                kind: Kind::Average3 { stride },
                height: h,
                width: w,
                channels: split,
                source: map.view(),
                out: joined.view().channel(3 * split),
                sum: None,
            }));
            self.maps.give_back(map);
            self.wave();
        }
        for map in splits {
            self.maps.give_back(map);
        }

        let out = self.map(h, w, planes * 4, border);
        let conv3 =
            self.norm_layer(&format!("{at}.conv3"), (planes * 4, split * SCALE, 1), &format!("{at}.bn3"))?;
        let finish = Finish::relu_to(out.view(), planes * 4);
        if first {
            let mut shortcut = self.norm_layer(
                &format!("{at}.downsample.1"),
                (planes * 4, cin, 1),
                &format!("{at}.downsample.2"),
            )?;
            shortcut.fold();
            let source = Source::of(pooled.as_ref().unwrap_or(x));
            self.conv(&[(Source::of(&joined), &conv3), (source, &shortcut)], (h, w), finish);
        } else {
            let finish = Finish { residual: Some(x.view()), ..finish };
            self.conv(&[(Source::of(&joined), &conv3)], (h, w), finish);
        }
        self.maps.give_back(joined);
        if let Some(pooled) = pooled {
            self.maps.give_back(pooled);
        }
        self.wave();
        Ok(out)
    }

    /// A decoder map of 64 channels.
    fn feature(&mut self, (h, w): (usize, usize)) -> Feature {
        Feature { map: self.map(h, w, CHANNELS, 1), sum: self.plane(h, w, 1) }
    }

    /// `at`: 3x3 convolution to 64 channels, batch-norm, ReLU, with the channel sum.
    fn reduce(&mut self, at: &str, source: &Map) -> Result<Feature> {
        let layer = self.cnr_layer(at, source.geometry.channels)?;
        let to = self.feature((source.geometry.height, source.geometry.width));
        let finish = Finish { sum: Some(to.sum), ..Finish::relu_to(to.map.view(), CHANNELS) };
        self.conv(&[(Source::of(source), &layer)], to.size(), finish);
        Ok(to)
    }

    /// The same without the sum.
    fn cnr(&mut self, at: &str, source: &Map) -> Result<Map> {
        let layer = self.cnr_layer(at, source.geometry.channels)?;
        let (h, w) = (source.geometry.height, source.geometry.width);
        let to = self.map(h, w, CHANNELS, 1);
        self.conv(&[(Source::of(source), &layer)], (h, w), Finish::relu_to(to.view(), CHANNELS));
        Ok(to)
    }

    /// What a subtraction unit's convolution reads.
    fn subtract(&mut self, a: &Feature, b: &Feature, terms: &Option<Terms>) -> Map {
        let ((ah, aw), (h, w)) = (a.size(), b.size());
        let out = self.map(h, w, CHANNELS, 1);
        let tasks = 4 * self.threads;
        self.steps.push(Step::Subtract(Subtract {
            height: h,
            width: w,
            channels: CHANNELS,
            a: a.map.view(),
            a_sum: a.sum,
            vertical: Axis::new(ah, h),
            horizontal: Axis::new(aw, w),
            same_size: (ah, aw) == (h, w),
            b: b.map.view(),
            b_sum: b.sum,
            out: out.view(),
            terms: terms.clone(),
            band: (h / tasks).clamp(1, 8),
        }));
        out
    }

    /// A unit's convolution; `level` also receives the result plus `add`.
    fn unit(&mut self, at: &str, difference: Map, level: Option<(&Map, View)>) -> Result<Feature> {
        let layer = self.cnr_layer(at, CHANNELS)?;
        let to = self.feature((difference.geometry.height, difference.geometry.width));
        let also = level.map(|(out, add)| Also { add, out: out.view() });
        let finish = Finish { sum: Some(to.sum), also, ..Finish::relu_to(to.map.view(), CHANNELS) };
        self.conv(&[(Source::of(&difference), &layer)], to.size(), finish);
        self.maps.give_back(difference);
        Ok(to)
    }

    /// `resize(coarse) + fine`.
    fn join(&mut self, coarse: &Map, fine: View, (h, w): (usize, usize)) -> Map {
        let out = self.map(h, w, CHANNELS, 1);
        self.steps.push(Step::Join(Join {
            height: h,
            width: w,
            channels: CHANNELS,
            coarse: coarse.view(),
            vertical: Axis::new(coarse.geometry.height, h),
            horizontal: Axis::new(coarse.geometry.width, w),
            fine,
            out: out.view(),
        }));
        out
    }

    fn terms(&self) -> Result<Option<Terms>> {
        if self.architecture().variant == Variant::MSNet {
            return Ok(None);
        }
        let three = Affine::norm(self.checkpoint, "conv_3.norm")?;
        let five = Affine::norm(self.checkpoint, "conv_5.norm")?;
        Ok(Some(Terms { alpha: [three.scale, five.scale], beta: [three.shift, five.shift] }))
    }

    /// Reductions, pyramid of subtraction units, decoder; independent steps share waves. Returns the last planes.
    fn decoder(&mut self, x1: Feature, stages: Vec<Map>, size: (usize, usize)) -> Result<Plane> {
        self.group = "reductions";
        let [x2, x3, x4, x5]: [Map; 4] =
            stages.try_into().map_err(|_| crate::Error::internal("the backbone has four stages"))?;
        let d2 = self.reduce("x2_dem_1", &x2)?;
        let d3 = self.reduce("x3_dem_1", &x3)?;
        let d4 = self.reduce("x4_dem_1", &x4)?;
        // x5_dem_1 and x5_dem_5 read the same map: one convolution to twice the channels. Sums want all channels of one of
        // them in a panel of its own, so they stay two steps where a register tile is as wide as 64 channels.
        let d5 = self.reduce("x5_dem_1", &x5)?;
        let o5 = self.cnr("x5_dem_5", &x5)?;
        self.wave();
        for map in [x2, x3, x4, x5] {
            self.maps.give_back(map);
        }

        let terms = self.terms()?;
        self.group = "subtraction";
        let u54 = self.subtract(&d5, &d4, &terms);
        let u43 = self.subtract(&d4, &d3, &terms);
        let u32 = self.subtract(&d3, &d2, &terms);
        let u21 = self.subtract(&d2, &x1, &terms);
        self.wave();
        let x5_x4 = self.unit("x5_x4", u54, None)?;
        let x4_x3 = self.unit("x4_x3", u43, None)?;
        let x3_x2 = self.unit("x3_x2", u32, None)?;
        let x2_x1 = self.unit("x2_x1", u21, None)?;
        self.wave();

        let o4_in = self.join(&o5, x5_x4.map.view(), x5_x4.size());
        let u543 = self.subtract(&x5_x4, &x4_x3, &terms);
        let u432 = self.subtract(&x4_x3, &x3_x2, &terms);
        let u321 = self.subtract(&x3_x2, &x2_x1, &terms);
        self.wave();
        let (h3, w3) = x4_x3.size();
        let (h2, w2) = x3_x2.size();
        let (h1, w1) = x2_x1.size();
        let level3_in = self.map(h3, w3, CHANNELS, 1);
        let level2_in = self.map(h2, w2, CHANNELS, 1);
        let level1_in = self.map(h1, w1, CHANNELS, 1);
        let o4 = self.cnr("output4", &o4_in)?;
        let x5_x4_x3 = self.unit("x5_x4_x3", u543, Some((&level3_in, x4_x3.map.view())))?;
        let x4_x3_x2 = self.unit("x4_x3_x2", u432, Some((&level2_in, x3_x2.map.view())))?;
        let x3_x2_x1 = self.unit("x3_x2_x1", u321, Some((&level1_in, x2_x1.map.view())))?;
        self.wave();

        let level3 = self.cnr("level3", &level3_in)?;
        let u5432 = self.subtract(&x5_x4_x3, &x4_x3_x2, &terms);
        let u4321 = self.subtract(&x4_x3_x2, &x3_x2_x1, &terms);
        self.wave();
        let o3_in = self.join(&o4, level3.view(), (h3, w3));
        let x5_x4_x3_x2 = self.unit("x5_x4_x3_x2", u5432, Some((&level2_in, level2_in.view())))?;
        let x4_x3_x2_x1 = self.unit("x4_x3_x2_x1", u4321, Some((&level1_in, level1_in.view())))?;
        self.wave();
        let e = self.reduce("x5_dem_4", &x5_x4_x3_x2.map)?;
        let level2 = self.cnr("level2", &level2_in)?;
        let o3 = self.cnr("output3", &o3_in)?;
        self.wave();
        let u54321 = self.subtract(&e, &x4_x3_x2_x1, &terms);
        let o2_in = self.join(&o3, level2.view(), (h2, w2));
        self.wave();

        // Nothing but level1 reads the last unit.
        let layer = self.cnr_layer("x5_x4_x3_x2_x1", CHANNELS)?;
        let also = Some(Also { add: level1_in.view(), out: level1_in.view() });
        let finish = Finish { relu: true, also, ..Default::default() };
        self.conv(&[(Source::of(&u54321), &layer)], (h1, w1), finish);
        self.wave();

        self.group = "decoder";
        let level1 = self.cnr("level1", &level1_in)?;
        self.wave();
        // x1 and x2 have the same size, so that output2's resize is the identity: its sum with level1 is an epilogue.
        let o1_in = self.map(h1, w1, CHANNELS, 1);
        let layer = self.cnr_layer("output2", CHANNELS)?;
        let also = Some(Also { add: level1.view(), out: o1_in.view() });
        self.conv(
            &[(Source::of(&o2_in), &layer)],
            (h1, w1),
            Finish { relu: true, also, ..Default::default() },
        );
        self.wave();
        self.group = "output";
        self.output(&o1_in, size)
    }

    /// `output1` and the resize to the input's size.
    fn output(&mut self, source: &Map, (height, width): (usize, usize)) -> Result<Plane> {
        let classes = self.architecture().classes;
        let Geometry { height: h, width: w, .. } = source.geometry;
        let layer = Layer::load(
            self.checkpoint,
            "output1.0.weight",
            (classes, CHANNELS, 3),
            Some("output1.0.bias"),
            None,
        )?;
        let part = Part { layer: &layer, stored: CHANNELS, bf16: self.isa.per_word == 2 };
        let words = part.words();
        let weights = self.store.take::<u32>(classes * words);
        for class in 0..classes {
            for k in 0..words {
                // SAFETY: inside what was just taken.
                unsafe { *weights.add(class * words + k) = part.word(class, k) };
            }
        }
        let out = self.plane(h, w, classes);
        self.macs += layer.macs() * (h * w) as u64;
        self.steps.push(Step::Last(Last {
            height: h,
            width: w,
            source: source.view(),
            words: words / 9,
            weights,
            scale: layer.scale,
            bias: layer.shift,
            out,
        }));
        self.wave();
        self.steps.push(Step::Exit(Exit {
            height,
            width,
            classes,
            source: out,
            source_height: h,
            vertical: Axis::new(h, height),
            horizontal: Axis::new(w, width),
        }));
        self.wave();
        Ok(out)
    }
}

/// Cuts one part's reduction into passes of at most [`PASS_WORDS`], nearly equal.
fn split_passes(passes: &mut Vec<Pass>, source: &Source, kernel: usize, part: &Part, words_before: usize) {
    let per_word = if part.bf16 { 2 } else { 1 };
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
    conv.groups = if together { vec![0..every] } else { (0..every).map(|i| i..i + 1).collect() };
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
