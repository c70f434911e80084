//! M²SNet and MSNet laid out as launches: which, in which order, over which maps.
//!
//! In: a checkpoint, a device, an input size. Out: a [`Plan`]. This file follows `model::res2net` and `model::m2snet` line
//! by line, as the CPU engine's own does; names are the checkpoint's keys.

use super::assemble::{Assembly, Finish, Planned, Source};
use super::launch::{Device, Kernel, Launch};
use super::maps::{Map, View};
use super::pack::Spread;
use super::params::{Address, Enter, Exit, Join, Last, Pool, Statistics, Subtract};
use crate::Result;
use crate::engine::layer::{Affine, Layer};
use crate::model::{
    Architecture, BLOCKS, CHANNELS, Checkpoint, PLANES, SCALE, Variant, split_width, stage_stride,
};

/// Channels of the map the stem reads: R, G, B and zeros.
pub(crate) const INPUT_CHANNELS: usize = 8;

/// The network on a device: everything between the stem's map and the logits.
pub(crate) struct Plan {
    pub(crate) steps: Vec<Planned>,
    /// Normalised planes into the stem's map, for callers that have planes.
    pub(crate) enter: Launch,
    /// `[3][height][width]` f32, what `enter` reads.
    pub(crate) planes: Address,
    /// `[height][width][8]` f16, for those who fill it themselves.
    pub(crate) input: Address,
    /// `[classes][height][width]` f32.
    pub(crate) logits: Address,
    pub(crate) statistics: Address,
    /// Bytes of activations and of parameters.
    pub(crate) bytes: (usize, usize),
}

/// A decoder map with the sum over its channels.
struct Feature {
    map: Map,
    sum: Address,
}

struct Builder<'a, 'd> {
    checkpoint: &'a Checkpoint,
    assembly: Assembly<'d>,
    statistics: Address,
    terms: Address,
}

const PLAIN: Spread = Spread { each: CHANNELS, groups: 1 };

/// Builds the plan for one input size.
pub(crate) fn build(
    checkpoint: &Checkpoint,
    device: &mut dyn Device,
    (height, width): (usize, usize),
) -> Result<Plan> {
    let mut assembly = Assembly::new(device)?;
    let statistics = assembly.device.allocate(size_of::<Statistics>())?;
    let planes = assembly.plane(height, width, 3)?;
    let mut b = Builder { checkpoint, assembly, statistics, terms: 0 };
    b.terms = b.load_terms()?;
    b.assembly.group = "stem";
    // Never given back: the next frame's first launch fills it.
    let input = b.assembly.map(height, width, INPUT_CHANNELS)?;
    let at = input.view().address;
    let x1 = b.stem(&input)?;
    let mut stages: Vec<Map> = Vec::new();
    for (s, name) in ["layer1", "layer2", "layer3", "layer4"].into_iter().enumerate() {
        b.assembly.group = name;
        let mut x = b.first_block(stages.last().unwrap_or(&x1.map), s)?;
        for block in 1..BLOCKS[s] {
            b.block(&mut x, s, block)?;
        }
        stages.push(x);
    }
    let logits = b.decoder(x1, stages, (height, width))?;
    let enter = Enter { planes, out: at, statistics, height: height as i32, width: width as i32 };
    Ok(Plan {
        bytes: (b.assembly.maps.bytes, b.assembly.parameters),
        steps: b.assembly.steps,
        enter: Launch::each(Kernel::Enter, height * width, enter),
        planes,
        input: at,
        logits,
        statistics,
    })
}

impl Builder<'_, '_> {
    fn architecture(&self) -> Architecture {
        self.checkpoint.architecture()
    }

    fn norm_layer(&self, kernel: &str, shape: (usize, usize, usize), norm: &str) -> Result<Layer> {
        Layer::with_norm(self.checkpoint, kernel, shape, norm)
    }

    fn cnr_layer(&self, at: &str, cin: usize) -> Result<Layer> {
        Layer::decoder(self.checkpoint, at, cin)
    }

    /// 3x3 s2, 3x3, 3x3, max-pool: x1.
    fn stem(&mut self, input: &Map) -> Result<Feature> {
        let (h, w) = (input.height / 2, input.width / 2);
        let first = self.assembly.map(h, w, 32)?;
        let layer = self.norm_layer("resnet.conv1.0", (32, 3, 3), "resnet.conv1.1")?;
        let source = Source { stride: 2, ..Source::of(input, Spread::plain(3)) };
        self.conv(&[(source, &layer)], Spread::plain(32), (h, w), first.view())?;
        self.assembly.wave()?;
        let second = self.assembly.map(h, w, 32)?;
        let layer = self.norm_layer("resnet.conv1.3", (32, 32, 3), "resnet.conv1.4")?;
        let source = Source::of(&first, Spread::plain(32));
        self.conv(&[(source, &layer)], Spread::plain(32), (h, w), second.view())?;
        self.assembly.maps.give_back(first);
        self.assembly.wave()?;
        let third = self.assembly.map(h, w, 64)?;
        let layer = self.norm_layer("resnet.conv1.6", (64, 32, 3), "resnet.bn1")?;
        let source = Source::of(&second, Spread::plain(32));
        self.conv(&[(source, &layer)], PLAIN, (h, w), third.view())?;
        self.assembly.maps.give_back(second);
        self.assembly.wave()?;
        let x1 = self.feature((h / 2, w / 2))?;
        self.pool(0, 2, &third, third.view(), 64, &x1.map.view(), (h / 2, w / 2), x1.sum);
        self.assembly.maps.give_back(third);
        self.assembly.wave()?;
        Ok(x1)
    }

    fn conv(
        &mut self,
        parts: &[(Source, &Layer)],
        out: Spread,
        size: (usize, usize),
        to: View,
    ) -> Result<()> {
        self.assembly.conv(parts, out, size, Finish { out: Some(to), ..Default::default() })
    }

    /// kind: 0 maximum, 1 average 3x3, 2 average 2x2.
    fn pool(
        &mut self,
        kind: i32,
        stride: usize,
        map: &Map,
        source: View,
        channels: usize,
        out: &View,
        (height, width): (usize, usize),
        sum: Address,
    ) {
        let pool = Pool {
            source: source.address,
            out: out.address,
            sum,
            source_pitch: source.pitch as i32,
            out_pitch: out.pitch as i32,
            channels: channels as i32,
            source_height: map.height as i32,
            source_width: map.width as i32,
            height: height as i32,
            width: width as i32,
            kind,
            stride: stride as i32,
            unused: 0,
        };
        let launch = Launch::each(Kernel::Pool, height * width * channels / 8, pool);
        let bytes = 2 * (map.height * map.width + height * width) * channels;
        self.assembly.other(launch, format!("pool, {channels} {width}x{height}"), 0, bytes as u64);
    }

    fn split_layer(&self, at: &str, i: usize, split: usize) -> Result<Layer> {
        self.norm_layer(&format!("{at}.convs.{i}"), (split, split, 3), &format!("{at}.bns.{i}"))
    }

    /// A stage's first block: the splits do not feed one another, the fourth is pooled, the shortcut has a convolution.
    fn first_block(&mut self, x: &Map, stage: usize) -> Result<Map> {
        let at = format!("resnet.layer{}.0", stage + 1);
        let channels = x.channels;
        let (stride, split, out_channels) =
            (stage_stride(stage), split_width(PLANES[stage]), PLANES[stage] * 4);
        let (h, w) = (x.height / stride, x.width / stride);
        let one = Spread::plain(split);
        let all = Spread { each: split, groups: SCALE };

        let wide = self.assembly.map(x.height, x.width, all.stored())?;
        let layer =
            self.norm_layer(&format!("{at}.conv1"), (split * SCALE, channels, 1), &format!("{at}.bn1"))?;
        let source = Source::of(x, Spread::plain(channels));
        self.conv(&[(source, &layer)], all, x.size(), wide.view())?;
        let pooled = match stride {
            2 => Some(self.assembly.map(h, w, channels)?),
            _ => None,
        };
        if let Some(pooled) = &pooled {
            self.pool(2, 2, x, x.view(), channels, &pooled.view(), (h, w), 0);
        }
        self.assembly.wave()?;

        let joined = self.assembly.map(h, w, all.stored())?;
        for i in 0..SCALE - 1 {
            let layer = self.split_layer(&at, i, split)?;
            let source = Source {
                view: wide.view().channel(i * one.padded()),
                height: wide.height,
                width: wide.width,
                spread: one,
                stride,
            };
            self.conv(&[(source, &layer)], one, (h, w), joined.view().channel(i * one.padded()))?;
        }
        let last = (SCALE - 1) * one.padded();
        let to = joined.view().channel(last);
        self.pool(1, stride, &wide, wide.view().channel(last), one.padded(), &to, (h, w), 0);
        self.assembly.maps.give_back(wide);
        self.assembly.wave()?;

        let out = self.assembly.map(h, w, out_channels)?;
        let shape = (out_channels, split * SCALE, 1);
        let conv3 = self.norm_layer(&format!("{at}.conv3"), shape, &format!("{at}.bn3"))?;
        let shape = (out_channels, channels, 1);
        let shortcut =
            self.norm_layer(&format!("{at}.downsample.1"), shape, &format!("{at}.downsample.2"))?;
        let source = Source::of(pooled.as_ref().unwrap_or(x), Spread::plain(channels));
        let parts = [(Source::of(&joined, all), &conv3), (source, &shortcut)];
        self.conv(&parts, Spread::plain(out_channels), (h, w), out.view())?;
        self.assembly.maps.give_back(joined);
        if let Some(pooled) = pooled {
            self.assembly.maps.give_back(pooled);
        }
        self.assembly.wave()?;
        Ok(out)
    }

    /// Any other block, in place: the residual's last reader is the one that writes the sum over it.
    fn block(&mut self, x: &mut Map, stage: usize, block: usize) -> Result<()> {
        let at = format!("resnet.layer{}.{block}", stage + 1);
        let (size, channels) = (x.size(), x.channels);
        let split = split_width(PLANES[stage]);
        let one = Spread::plain(split);
        let all = Spread { each: split, groups: SCALE };
        let last = (SCALE - 1) * one.padded();
        let wide = self.assembly.map(size.0, size.1, last)?;
        let joined = self.assembly.map(size.0, size.1, all.stored())?;
        let layer =
            self.norm_layer(&format!("{at}.conv1"), (split * SCALE, channels, 1), &format!("{at}.bn1"))?;
        // The fourth split goes straight into the concatenation.
        let finish = Finish {
            out: Some(wide.view()),
            rest: Some((last, joined.view().channel(last))),
            ..Default::default()
        };
        let source = Source::of(x, Spread::plain(channels));
        self.assembly.conv(&[(source, &layer)], all, size, finish)?;
        self.assembly.wave()?;
        for i in 0..SCALE - 1 {
            let layer = self.split_layer(&at, i, split)?;
            let slice = |i: usize| wide.view().channel(i * one.padded());
            let source = Source { view: slice(i), height: size.0, width: size.1, spread: one, stride: 1 };
            let finish = Finish {
                out: Some(joined.view().channel(i * one.padded())),
                // The next split's addend, in place: nobody else reads that pixel.
                also: (i + 2 < SCALE).then(|| (slice(i + 1), slice(i + 1))),
                ..Default::default()
            };
            self.assembly.conv(&[(source, &layer)], one, size, finish)?;
            self.assembly.wave()?;
        }
        self.assembly.maps.give_back(wide);
        let shape = (channels, split * SCALE, 1);
        let conv3 = self.norm_layer(&format!("{at}.conv3"), shape, &format!("{at}.bn3"))?;
        let finish = Finish { residual: Some(x.view()), out: Some(x.view()), ..Default::default() };
        let source = Source::of(&joined, all);
        self.assembly.conv(&[(source, &conv3)], Spread::plain(channels), size, finish)?;
        self.assembly.maps.give_back(joined);
        self.assembly.wave()
    }

    /// A decoder map of 64 channels.
    fn feature(&mut self, (h, w): (usize, usize)) -> Result<Feature> {
        Ok(Feature { map: self.assembly.map(h, w, CHANNELS)?, sum: self.assembly.plane(h, w, 1)? })
    }

    /// `at`: 3x3 convolution to 64 channels, batch-norm, ReLU, with the channel sum.
    fn reduce(&mut self, at: &str, source: &Map) -> Result<Feature> {
        let layer = self.cnr_layer(at, source.channels)?;
        let to = self.feature(source.size())?;
        let finish = Finish { out: Some(to.map.view()), sum: Some(to.sum), ..Default::default() };
        let from = Source::of(source, Spread::plain(source.channels));
        self.assembly.conv(&[(from, &layer)], PLAIN, source.size(), finish)?;
        Ok(to)
    }

    /// The same without the sum.
    fn cnr(&mut self, at: &str, source: &Map) -> Result<Map> {
        let layer = self.cnr_layer(at, source.channels)?;
        let to = self.assembly.map(source.height, source.width, CHANNELS)?;
        let from = Source::of(source, Spread::plain(source.channels));
        self.conv(&[(from, &layer)], PLAIN, source.size(), to.view())?;
        Ok(to)
    }

    /// What a subtraction unit's convolution reads.
    fn subtract(&mut self, a: &Feature, b: &Feature) -> Result<Map> {
        let out = self.assembly.map(b.map.height, b.map.width, CHANNELS)?;
        self.assembly.unit(Subtract {
            a: a.map.view().address,
            b: b.map.view().address,
            out: out.view().address,
            a_sum: a.sum,
            b_sum: b.sum,
            terms: self.terms,
            a_height: a.map.height as i32,
            a_width: a.map.width as i32,
            height: b.map.height as i32,
            width: b.map.width as i32,
            ..Default::default()
        });
        Ok(out)
    }

    /// A unit's convolution; `level` also receives the result plus an addend.
    fn unit(&mut self, at: &str, difference: Map, level: Option<(View, View)>) -> Result<Feature> {
        let layer = self.cnr_layer(at, CHANNELS)?;
        let to = self.feature(difference.size())?;
        let finish =
            Finish { out: Some(to.map.view()), sum: Some(to.sum), also: level, ..Default::default() };
        let source = Source::of(&difference, PLAIN);
        self.assembly.conv(&[(source, &layer)], PLAIN, difference.size(), finish)?;
        self.assembly.maps.give_back(difference);
        Ok(to)
    }

    /// `resize(coarse) + fine`.
    fn join(&mut self, coarse: &Map, fine: &Map) -> Result<Map> {
        let out = self.assembly.map(fine.height, fine.width, CHANNELS)?;
        let join = Join {
            coarse: coarse.view().address,
            fine: fine.view().address,
            out: out.view().address,
            coarse_height: coarse.height as i32,
            coarse_width: coarse.width as i32,
            height: fine.height as i32,
            width: fine.width as i32,
        };
        let pixels = fine.height * fine.width;
        let bytes = 128 * (2 * pixels + coarse.height * coarse.width) as u64;
        let label = format!("join, {}x{}", fine.width, fine.height);
        self.assembly.other(Launch::each(Kernel::Join, pixels * CHANNELS / 8, join), label, 0, bytes);
        Ok(out)
    }

    /// `conv_3.norm` and `conv_5.norm`, folded; none for MSNet.
    fn load_terms(&mut self) -> Result<Address> {
        if self.architecture().variant == Variant::MSNet {
            return Ok(0);
        }
        let mut values = Vec::new();
        for at in ["conv_3.norm", "conv_5.norm"] {
            let norm = Affine::norm(self.checkpoint, at)?;
            values.extend(norm.scale);
            values.extend(norm.shift);
        }
        self.assembly.constant(&values)
    }

    /// Reductions, pyramid of subtraction units, decoder; independent convolutions share launches. Returns the logits.
    fn decoder(&mut self, x1: Feature, stages: Vec<Map>, size: (usize, usize)) -> Result<Address> {
        self.assembly.group = "reductions";
        let [x2, x3, x4, x5]: [Map; 4] =
            stages.try_into().map_err(|_| crate::Error::internal("the backbone has four stages"))?;
        let d2 = self.reduce("x2_dem_1", &x2)?;
        let d3 = self.reduce("x3_dem_1", &x3)?;
        let d4 = self.reduce("x4_dem_1", &x4)?;
        let d5 = self.reduce("x5_dem_1", &x5)?;
        let o5 = self.cnr("x5_dem_5", &x5)?;
        for map in [x2, x3, x4, x5] {
            self.assembly.maps.give_back(map);
        }
        self.assembly.wave()?;

        self.assembly.group = "subtraction";
        let u54 = self.subtract(&d5, &d4)?;
        let u43 = self.subtract(&d4, &d3)?;
        let u32 = self.subtract(&d3, &d2)?;
        let u21 = self.subtract(&d2, &x1)?;
        self.assembly.wave()?;
        let x5_x4 = self.unit("x5_x4", u54, None)?;
        let x4_x3 = self.unit("x4_x3", u43, None)?;
        let x3_x2 = self.unit("x3_x2", u32, None)?;
        let x2_x1 = self.unit("x2_x1", u21, None)?;
        self.assembly.wave()?;

        let o4_in = self.join(&o5, &x5_x4.map)?;
        let u543 = self.subtract(&x5_x4, &x4_x3)?;
        let u432 = self.subtract(&x4_x3, &x3_x2)?;
        let u321 = self.subtract(&x3_x2, &x2_x1)?;
        self.assembly.wave()?;
        let level = |b: &mut Self, of: &Feature| b.assembly.map(of.map.height, of.map.width, CHANNELS);
        let level3_in = level(self, &x4_x3)?;
        let level2_in = level(self, &x3_x2)?;
        let level1_in = level(self, &x2_x1)?;
        let o4 = self.cnr("output4", &o4_in)?;
        let x5_x4_x3 = self.unit("x5_x4_x3", u543, Some((x4_x3.map.view(), level3_in.view())))?;
        let x4_x3_x2 = self.unit("x4_x3_x2", u432, Some((x3_x2.map.view(), level2_in.view())))?;
        let x3_x2_x1 = self.unit("x3_x2_x1", u321, Some((x2_x1.map.view(), level1_in.view())))?;
        self.assembly.wave()?;

        let level3 = self.cnr("level3", &level3_in)?;
        let u5432 = self.subtract(&x5_x4_x3, &x4_x3_x2)?;
        let u4321 = self.subtract(&x4_x3_x2, &x3_x2_x1)?;
        self.assembly.wave()?;
        let o3_in = self.join(&o4, &level3)?;
        let x5_x4_x3_x2 = self.unit("x5_x4_x3_x2", u5432, Some((level2_in.view(), level2_in.view())))?;
        let x4_x3_x2_x1 = self.unit("x4_x3_x2_x1", u4321, Some((level1_in.view(), level1_in.view())))?;
        self.assembly.wave()?;
        let e = self.reduce("x5_dem_4", &x5_x4_x3_x2.map)?;
        let level2 = self.cnr("level2", &level2_in)?;
        let o3 = self.cnr("output3", &o3_in)?;
        self.assembly.wave()?;
        let u54321 = self.subtract(&e, &x4_x3_x2_x1)?;
        let o2_in = self.join(&o3, &level2)?;
        self.assembly.wave()?;

        // Nothing but level1 reads the last unit, and nothing but output1 reads output2: x1 and x2 have the same size, so
        // that output2's resize is the identity and its sum with level1 an epilogue.
        let layer = self.cnr_layer("x5_x4_x3_x2_x1", CHANNELS)?;
        let also = Some((level1_in.view(), level1_in.view()));
        let source = Source::of(&u54321, PLAIN);
        let finish = Finish { also, ..Default::default() };
        self.assembly.conv(&[(source, &layer)], PLAIN, u54321.size(), finish)?;
        self.assembly.wave()?;

        self.assembly.group = "decoder";
        let level1 = self.cnr("level1", &level1_in)?;
        self.assembly.wave()?;
        let o1_in = level(self, &x2_x1)?;
        let layer = self.cnr_layer("output2", CHANNELS)?;
        let finish = Finish { also: Some((level1.view(), o1_in.view())), ..Default::default() };
        self.assembly.conv(&[(Source::of(&o2_in, PLAIN), &layer)], PLAIN, o1_in.size(), finish)?;
        self.assembly.wave()?;
        self.assembly.group = "output";
        self.output(&o1_in, size)
    }

    /// `output1` and the resize to the input's size.
    fn output(&mut self, source: &Map, (height, width): (usize, usize)) -> Result<Address> {
        let classes = self.architecture().classes;
        let shape = (classes, CHANNELS, 3);
        let bias = Some("output1.0.bias");
        let layer = Layer::load(self.checkpoint, "output1.0.weight", shape, bias, None)?;
        let mut weights = vec![0f32; classes * 9 * CHANNELS];
        for class in 0..classes {
            for tap in 0..9 {
                for c in 0..CHANNELS {
                    weights[(class * 9 + tap) * CHANNELS + c] =
                        layer.weights[(class * CHANNELS + c) * 9 + tap];
                }
            }
        }
        let (h, w) = source.size();
        let low = self.assembly.plane(h, w, classes)?;
        let last = Last {
            source: source.view().address,
            weights: self.assembly.constant(&weights)?,
            scale: self.assembly.constant(&layer.scale)?,
            shift: self.assembly.constant(&layer.shift)?,
            out: low,
            height: h as i32,
            width: w as i32,
            classes: classes as i32,
            unused: 0,
        };
        let bytes = (h * w * (128 + 4 * classes)) as u64;
        let (label, macs) = (format!("last, {w}x{h}"), layer.macs() * (h * w) as u64);
        self.assembly.other(Launch::each(Kernel::Last, h * w * 8, last), label, macs, bytes);
        let logits = self.assembly.plane(height, width, classes)?;
        let exit = Exit {
            source: low,
            out: logits,
            statistics: self.statistics,
            source_height: h as i32,
            source_width: w as i32,
            height: height as i32,
            width: width as i32,
            classes: classes as i32,
            unused: 0,
        };
        let items = height * width * classes;
        let bytes = 4 * (items + h * w * classes) as u64;
        self.assembly.other(
            Launch::each(Kernel::Exit, items, exit),
            format!("exit, {width}x{height}"),
            0,
            bytes,
        );
        self.assembly.wave()?;
        Ok(logits)
    }
}
