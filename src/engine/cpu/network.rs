//! M²SNet and MSNet laid out as a plan: which steps, in which order, over which maps.
//!
//! In: a checkpoint, an instruction set, an input size. Out: a [`Plan`]. This file follows `model::res2net` and
//! `model::m2snet` line by line; names are the checkpoint's keys.

use super::assemble::{Assembly, Finish, Source};
use super::conv::{Also, Out, Plane};
use super::ends::{Entry, Exit, INPUT_CHANNELS, Last};
use super::isa::Isa;
use super::maps::{Geometry, Map, View};
use super::pack::{Affine, Layer, Part};
use super::plan::{Plan, Step};
use super::pool::{Kind, Pool};
use super::resize::{Axis, Join};
use super::subtract::{Subtract, Terms};
use crate::Result;
use crate::model::{
    Architecture, BLOCKS, CHANNELS, Checkpoint, PLANES, SCALE, Variant, split_width, stage_stride,
};

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
    assembly: Assembly,
}

/// Builds the plan for one input size.
pub(crate) fn build(
    checkpoint: &Checkpoint,
    isa: &'static Isa,
    (height, width): (usize, usize),
    threads: usize,
) -> Result<(Plan, Plane)> {
    let mut assembly = Assembly::new(isa, threads);
    assembly.group = "stem";
    let mut b = Builder { checkpoint, assembly };
    let x1 = b.stem(height, width)?;
    let mut stages: Vec<Map> = Vec::new();
    for (s, name) in ["layer1", "layer2", "layer3", "layer4"].into_iter().enumerate() {
        b.assembly.group = name;
        let mut x = b.first_block(stages.last().unwrap_or(&x1.map), s)?;
        for block in 1..BLOCKS[s] {
            b.block(&mut x, s, block)?;
        }
        stages.push(x);
    }
    let low = b.decoder(x1, stages, (height, width))?;
    Ok((b.assembly.finish(), low))
}

impl Builder<'_> {
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
    fn stem(&mut self, height: usize, width: usize) -> Result<Feature> {
        let geometry = Geometry { height, width, channels: INPUT_CHANNELS, border: 1, element: 4 };
        let input = self.assembly.maps.take(geometry);
        self.assembly.steps.push(Step::Entry(Entry { height, width, out: input.view() }));
        self.assembly.wave();
        let (h, w) = (height / 2, width / 2);
        let first = self.assembly.map(h, w, 32, 1);
        let layer = self.norm_layer("resnet.conv1.0", (32, 3, 3), "resnet.conv1.1")?;
        let source = Source { stride: 2, ..Source::of(&input) };
        self.assembly.conv(&[(source, &layer)], (h, w), Finish::relu_to(first.view(), 32));
        self.assembly.maps.give_back(input);
        self.assembly.wave();
        let second = self.assembly.map(h, w, 32, 1);
        let layer = self.norm_layer("resnet.conv1.3", (32, 32, 3), "resnet.conv1.4")?;
        self.assembly.conv(&[(Source::of(&first), &layer)], (h, w), Finish::relu_to(second.view(), 32));
        self.assembly.maps.give_back(first);
        self.assembly.wave();
        let third = self.assembly.map(h, w, 64, 0);
        let layer = self.norm_layer("resnet.conv1.6", (64, 32, 3), "resnet.bn1")?;
        self.assembly.conv(&[(Source::of(&second), &layer)], (h, w), Finish::relu_to(third.view(), 64));
        self.assembly.maps.give_back(second);
        self.assembly.wave();
        let x1 = self.assembly.map(h / 2, w / 2, 64, 1);
        let sum = self.assembly.plane(h / 2, w / 2, 1);
        self.assembly.steps.push(Step::Pool(Pool {
            kind: Kind::Max3,
            height: h / 2,
            width: w / 2,
            channels: 64,
            source: third.view(),
            out: x1.view(),
            sum: Some(sum),
        }));
        self.assembly.maps.give_back(third);
        self.assembly.wave();
        Ok(Feature { map: x1, sum })
    }

    /// A block's 1x1 `conv1`, spread over the four splits.
    fn widen(&mut self, x: &Map, at: &str, split: usize, splits: &[View]) -> Result<()> {
        let Geometry { height, width, channels, .. } = x.geometry;
        let shape = (split * SCALE, channels, 1);
        let layer = self.norm_layer(&format!("{at}.conv1"), shape, &format!("{at}.bn1"))?;
        let out = |(i, &view)| Out { channels: (i * split, (i + 1) * split), view };
        let outs = splits.iter().enumerate().map(out).collect();
        let finish = Finish { relu: true, outs, ..Default::default() };
        self.assembly.conv(&[(Source::of(x), &layer)], (height, width), finish);
        Ok(())
    }

    fn split_layer(&self, at: &str, i: usize, split: usize) -> Result<Layer> {
        self.norm_layer(&format!("{at}.convs.{i}"), (split, split, 3), &format!("{at}.bns.{i}"))
    }

    /// A stage's first block: the splits do not feed one another, the fourth is pooled, the shortcut has a convolution.
    fn first_block(&mut self, x: &Map, stage: usize) -> Result<Map> {
        let at = format!("resnet.layer{}.0", stage + 1);
        let Geometry { height, width, channels, .. } = x.geometry;
        let (stride, split, out_channels) =
            (stage_stride(stage), split_width(PLANES[stage]), PLANES[stage] * 4);
        let (h, w) = (height / stride, width / stride);

        let splits: Vec<Map> = (0..SCALE).map(|_| self.assembly.map(height, width, split, 1)).collect();
        let views: Vec<View> = splits.iter().map(Map::view).collect();
        self.widen(x, &at, split, &views)?;
        let pooled = (stride == 2).then(|| self.assembly.map(h, w, channels, 0));
        if let Some(pooled) = &pooled {
            self.pool(Kind::Average2, x.view(), (h, w, channels), pooled.view());
        }
        self.assembly.wave();

        let joined = self.assembly.map(h, w, split * SCALE, 0);
        for (i, map) in splits[..SCALE - 1].iter().enumerate() {
            let layer = self.split_layer(&at, i, split)?;
            let source = Source { stride, ..Source::of(map) };
            let finish = Finish::relu_to(joined.view().channel(i * split), split);
            self.assembly.conv(&[(source, &layer)], (h, w), finish);
        }
        let last = joined.view().channel((SCALE - 1) * split);
        self.pool(Kind::Average3 { stride }, views[SCALE - 1], (h, w, split), last);
        self.assembly.wave();
        for map in splits {
            self.assembly.maps.give_back(map);
        }

        let out = self.assembly.map(h, w, out_channels, 1);
        let shape = (out_channels, split * SCALE, 1);
        let conv3 = self.norm_layer(&format!("{at}.conv3"), shape, &format!("{at}.bn3"))?;
        let shape = (out_channels, channels, 1);
        let mut shortcut =
            self.norm_layer(&format!("{at}.downsample.1"), shape, &format!("{at}.downsample.2"))?;
        shortcut.fold();
        let source = Source::of(pooled.as_ref().unwrap_or(x));
        let finish = Finish::relu_to(out.view(), out_channels);
        self.assembly.conv(&[(Source::of(&joined), &conv3), (source, &shortcut)], (h, w), finish);
        self.assembly.maps.give_back(joined);
        if let Some(pooled) = pooled {
            self.assembly.maps.give_back(pooled);
        }
        self.assembly.wave();
        Ok(out)
    }

    /// Any other block, in place: the residual's last reader is the one that writes the sum over it.
    fn block(&mut self, x: &mut Map, stage: usize, block: usize) -> Result<()> {
        let at = format!("resnet.layer{}.{block}", stage + 1);
        let Geometry { height, width, channels, .. } = x.geometry;
        let split = split_width(PLANES[stage]);
        let splits: Vec<Map> = (0..SCALE - 1).map(|_| self.assembly.map(height, width, split, 1)).collect();
        let joined = self.assembly.map(height, width, split * SCALE, 0);
        // The fourth split goes straight into the concatenation.
        let mut views: Vec<View> = splits.iter().map(Map::view).collect();
        views.push(joined.view().channel((SCALE - 1) * split));
        self.widen(x, &at, split, &views)?;
        self.assembly.wave();
        for (i, map) in splits.iter().enumerate() {
            let layer = self.split_layer(&at, i, split)?;
            let mut finish = Finish::relu_to(joined.view().channel(i * split), split);
            if let Some(next) = splits.get(i + 1) {
                // The next split's addend, in place: nobody else reads that pixel.
                finish.also = Some(Also { add: next.view(), out: next.view() });
            }
            self.assembly.conv(&[(Source::of(map), &layer)], (height, width), finish);
            self.assembly.wave();
        }
        for map in splits {
            self.assembly.maps.give_back(map);
        }
        let shape = (channels, split * SCALE, 1);
        let conv3 = self.norm_layer(&format!("{at}.conv3"), shape, &format!("{at}.bn3"))?;
        let finish = Finish { residual: Some(x.view()), ..Finish::relu_to(x.view(), channels) };
        self.assembly.conv(&[(Source::of(&joined), &conv3)], (height, width), finish);
        self.assembly.maps.give_back(joined);
        self.assembly.wave();
        Ok(())
    }

    fn pool(
        &mut self,
        kind: Kind,
        source: View,
        (height, width, channels): (usize, usize, usize),
        out: View,
    ) {
        self.assembly.steps.push(Step::Pool(Pool { kind, height, width, channels, source, out, sum: None }));
    }

    /// A decoder map of 64 channels.
    fn feature(&mut self, (h, w): (usize, usize)) -> Feature {
        Feature { map: self.assembly.map(h, w, CHANNELS, 1), sum: self.assembly.plane(h, w, 1) }
    }

    /// `at`: 3x3 convolution to 64 channels, batch-norm, ReLU, with the channel sum.
    fn reduce(&mut self, at: &str, source: &Map) -> Result<Feature> {
        let layer = self.cnr_layer(at, source.geometry.channels)?;
        let to = self.feature((source.geometry.height, source.geometry.width));
        let finish = Finish { sum: Some(to.sum), ..Finish::relu_to(to.map.view(), CHANNELS) };
        self.assembly.conv(&[(Source::of(source), &layer)], to.size(), finish);
        Ok(to)
    }

    /// The same without the sum.
    fn cnr(&mut self, at: &str, source: &Map) -> Result<Map> {
        let layer = self.cnr_layer(at, source.geometry.channels)?;
        let (h, w) = (source.geometry.height, source.geometry.width);
        let to = self.assembly.map(h, w, CHANNELS, 1);
        self.assembly.conv(&[(Source::of(source), &layer)], (h, w), Finish::relu_to(to.view(), CHANNELS));
        Ok(to)
    }

    /// What a subtraction unit's convolution reads.
    fn subtract(&mut self, a: &Feature, b: &Feature, terms: &Option<Terms>) -> Map {
        let ((ah, aw), (h, w)) = (a.size(), b.size());
        let out = self.assembly.map(h, w, CHANNELS, 1);
        let tasks = 4 * self.assembly.threads;
        self.assembly.steps.push(Step::Subtract(Subtract {
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
        self.assembly.conv(&[(Source::of(&difference), &layer)], to.size(), finish);
        self.assembly.maps.give_back(difference);
        Ok(to)
    }

    /// `resize(coarse) + fine`.
    fn join(&mut self, coarse: &Map, fine: View, (h, w): (usize, usize)) -> Map {
        let out = self.assembly.map(h, w, CHANNELS, 1);
        self.assembly.steps.push(Step::Join(Join {
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
        self.assembly.group = "reductions";
        self.assembly.forgiving = true;
        let [x2, x3, x4, x5]: [Map; 4] =
            stages.try_into().map_err(|_| crate::Error::internal("the backbone has four stages"))?;
        let d2 = self.reduce("x2_dem_1", &x2)?;
        let d3 = self.reduce("x3_dem_1", &x3)?;
        let d4 = self.reduce("x4_dem_1", &x4)?;
        let d5 = self.reduce("x5_dem_1", &x5)?;
        let o5 = self.cnr("x5_dem_5", &x5)?;
        self.assembly.wave();
        for map in [x2, x3, x4, x5] {
            self.assembly.maps.give_back(map);
        }

        let terms = self.terms()?;
        self.assembly.group = "subtraction";
        let u54 = self.subtract(&d5, &d4, &terms);
        let u43 = self.subtract(&d4, &d3, &terms);
        let u32 = self.subtract(&d3, &d2, &terms);
        let u21 = self.subtract(&d2, &x1, &terms);
        self.assembly.wave();
        let x5_x4 = self.unit("x5_x4", u54, None)?;
        let x4_x3 = self.unit("x4_x3", u43, None)?;
        let x3_x2 = self.unit("x3_x2", u32, None)?;
        let x2_x1 = self.unit("x2_x1", u21, None)?;
        self.assembly.wave();

        let o4_in = self.join(&o5, x5_x4.map.view(), x5_x4.size());
        let u543 = self.subtract(&x5_x4, &x4_x3, &terms);
        let u432 = self.subtract(&x4_x3, &x3_x2, &terms);
        let u321 = self.subtract(&x3_x2, &x2_x1, &terms);
        self.assembly.wave();
        let (h3, w3) = x4_x3.size();
        let (h2, w2) = x3_x2.size();
        let (h1, w1) = x2_x1.size();
        let level3_in = self.assembly.map(h3, w3, CHANNELS, 1);
        let level2_in = self.assembly.map(h2, w2, CHANNELS, 1);
        let level1_in = self.assembly.map(h1, w1, CHANNELS, 1);
        let o4 = self.cnr("output4", &o4_in)?;
        let x5_x4_x3 = self.unit("x5_x4_x3", u543, Some((&level3_in, x4_x3.map.view())))?;
        let x4_x3_x2 = self.unit("x4_x3_x2", u432, Some((&level2_in, x3_x2.map.view())))?;
        let x3_x2_x1 = self.unit("x3_x2_x1", u321, Some((&level1_in, x2_x1.map.view())))?;
        self.assembly.wave();

        let level3 = self.cnr("level3", &level3_in)?;
        let u5432 = self.subtract(&x5_x4_x3, &x4_x3_x2, &terms);
        let u4321 = self.subtract(&x4_x3_x2, &x3_x2_x1, &terms);
        self.assembly.wave();
        let o3_in = self.join(&o4, level3.view(), (h3, w3));
        let x5_x4_x3_x2 = self.unit("x5_x4_x3_x2", u5432, Some((&level2_in, level2_in.view())))?;
        let x4_x3_x2_x1 = self.unit("x4_x3_x2_x1", u4321, Some((&level1_in, level1_in.view())))?;
        self.assembly.wave();
        let e = self.reduce("x5_dem_4", &x5_x4_x3_x2.map)?;
        let level2 = self.cnr("level2", &level2_in)?;
        let o3 = self.cnr("output3", &o3_in)?;
        self.assembly.wave();
        let u54321 = self.subtract(&e, &x4_x3_x2_x1, &terms);
        let o2_in = self.join(&o3, level2.view(), (h2, w2));
        self.assembly.wave();

        // Nothing but level1 reads the last unit.
        let layer = self.cnr_layer("x5_x4_x3_x2_x1", CHANNELS)?;
        let also = Some(Also { add: level1_in.view(), out: level1_in.view() });
        let finish = Finish { relu: true, also, ..Default::default() };
        self.assembly.conv(&[(Source::of(&u54321), &layer)], (h1, w1), finish);
        self.assembly.wave();

        self.assembly.group = "decoder";
        let level1 = self.cnr("level1", &level1_in)?;
        self.assembly.wave();
        // x1 and x2 have the same size, so that output2's resize is the identity: its sum with level1 is an epilogue.
        let o1_in = self.assembly.map(h1, w1, CHANNELS, 1);
        let layer = self.cnr_layer("output2", CHANNELS)?;
        let also = Some(Also { add: level1.view(), out: o1_in.view() });
        self.assembly.conv(
            &[(Source::of(&o2_in), &layer)],
            (h1, w1),
            Finish { relu: true, also, ..Default::default() },
        );
        self.assembly.wave();
        self.assembly.group = "output";
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
        let part = Part { layer: &layer, stored: CHANNELS, bf16: self.assembly.isa.per_word == 2 };
        let words = part.words();
        let weights = self.assembly.store.take::<u32>(classes * words);
        for class in 0..classes {
            for k in 0..words {
                // SAFETY: inside what was just taken.
                unsafe { *weights.add(class * words + k) = part.word(class, k) };
            }
        }
        let out = self.assembly.plane(h, w, classes);
        self.assembly.macs += layer.macs() * (h * w) as u64;
        self.assembly.steps.push(Step::Last(Last {
            height: h,
            width: w,
            source: source.view(),
            words: words / 9,
            weights,
            scale: layer.scale,
            bias: layer.shift,
            out,
        }));
        self.assembly.wave();
        self.assembly.steps.push(Step::Exit(Exit {
            height,
            width,
            classes,
            source: out,
            source_height: h,
            vertical: Axis::new(h, height),
            horizontal: Axis::new(w, width),
        }));
        self.assembly.wave();
        Ok(out)
    }
}
