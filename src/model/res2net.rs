//! Res2Net-50 v1b, 26w x 4s: the backbone.
//!
//! In: `[B, 3, H, W]`. Out: five maps, x1 (64 channels at H/4) and x2 … x5 (256, 512, 1024, 2048 channels at H/4, H/8,
//! H/16, H/32). Gao et al., "Res2Net: A New Multi-scale Backbone Architecture", TPAMI 2021, arXiv 1904.01169.

use candle_core::{Module, Result, Tensor};
use candle_nn::{BatchNorm, Conv2d, VarBuilder};

use super::layers::{average_pool3, batch_norm, conv, max_pool3, normalise, shortcut_pool};

/// Blocks of the four stages.
pub(crate) const BLOCKS: [usize; 4] = [3, 4, 6, 3];
/// Planes of the four stages; a stage's output has four times as many channels.
pub(crate) const PLANES: [usize; 4] = [64, 128, 256, 512];
/// Splits of a block (the "4s").
pub(crate) const SCALE: usize = 4;

/// Channels of one split: `floor(planes · 26 / 64)`, that is 26, 52, 104, 208.
pub(crate) const fn split_width(planes: usize) -> usize {
    planes * 26 / 64
}

/// A stage's stride.
pub(crate) const fn stage_stride(stage: usize) -> usize {
    if stage == 0 { 1 } else { 2 }
}

#[derive(Debug)]
struct Shortcut {
    stride: usize,
    conv: Conv2d,
    norm: BatchNorm,
}

#[derive(Debug)]
struct Block {
    conv1: Conv2d,
    bn1: BatchNorm,
    convs: Vec<Conv2d>,
    bns: Vec<BatchNorm>,
    conv3: Conv2d,
    bn3: BatchNorm,
    /// Present in a stage's first block, whose splits do not feed one another.
    shortcut: Option<Shortcut>,
    width: usize,
    stride: usize,
}

impl Block {
    fn new(cin: usize, planes: usize, stride: usize, first: bool, vb: VarBuilder) -> Result<Self> {
        let width = split_width(planes);
        let shortcut = if first {
            let vb = vb.pp("downsample");
            Some(Shortcut {
                stride,
                conv: conv(cin, planes * 4, 1, 1, vb.pp("1"))?,
                norm: batch_norm(planes * 4, vb.pp("2"))?,
            })
        } else {
            None
        };
        let splits = 0..SCALE - 1;
        Ok(Self {
            conv1: conv(cin, width * SCALE, 1, 1, vb.pp("conv1"))?,
            bn1: batch_norm(width * SCALE, vb.pp("bn1"))?,
            convs: splits
                .clone()
                .map(|i| conv(width, width, 3, stride, vb.pp("convs").pp(i)))
                .collect::<Result<_>>()?,
            bns: splits.map(|i| batch_norm(width, vb.pp("bns").pp(i))).collect::<Result<_>>()?,
            conv3: conv(width * SCALE, planes * 4, 1, 1, vb.pp("conv3"))?,
            bn3: batch_norm(planes * 4, vb.pp("bn3"))?,
            shortcut,
            width,
            stride,
        })
    }
}

impl Module for Block {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let shortcut = match &self.shortcut {
            None => x.clone(),
            Some(s) => normalise(&s.conv.forward(&shortcut_pool(x, s.stride)?)?, &s.norm)?,
        };
        let wide = normalise(&self.conv1.forward(x)?, &self.bn1)?.relu()?;
        let split = |i: usize| wide.narrow(1, i * self.width, self.width)?.contiguous();
        let mut outs = Vec::with_capacity(SCALE);
        for (i, (conv, bn)) in self.convs.iter().zip(&self.bns).enumerate() {
            let input = match outs.last() {
                Some(previous) if self.shortcut.is_none() => (previous + split(i)?)?,
                _ => split(i)?,
            };
            outs.push(normalise(&conv.forward(&input)?, bn)?.relu()?);
        }
        let last = split(SCALE - 1)?;
        outs.push(if self.shortcut.is_some() { average_pool3(&last, self.stride)? } else { last });
        let joined = Tensor::cat(&outs, 1)?;
        (normalise(&self.conv3.forward(&joined)?, &self.bn3)? + shortcut)?.relu()
    }
}

/// The backbone, keys below `resnet`.
#[derive(Debug)]
pub struct Res2Net {
    stem: [(Conv2d, BatchNorm); 3],
    stages: Vec<Vec<Block>>,
}

impl Res2Net {
    pub fn new(vb: VarBuilder) -> Result<Self> {
        let deep = vb.pp("conv1");
        // Sequential(conv, bn, relu, conv, bn, relu, conv), then the model's own bn1.
        let stem = [
            (conv(3, 32, 3, 2, deep.pp("0"))?, batch_norm(32, deep.pp("1"))?),
            (conv(32, 32, 3, 1, deep.pp("3"))?, batch_norm(32, deep.pp("4"))?),
            (conv(32, 64, 3, 1, deep.pp("6"))?, batch_norm(64, vb.pp("bn1"))?),
        ];
        let mut cin = 64;
        let mut stages = Vec::with_capacity(4);
        for (s, (&blocks, &planes)) in BLOCKS.iter().zip(&PLANES).enumerate() {
            let vb = vb.pp(format!("layer{}", s + 1));
            let mut stage = Vec::with_capacity(blocks);
            for b in 0..blocks {
                let stride = if b == 0 { stage_stride(s) } else { 1 };
                stage.push(Block::new(cin, planes, stride, b == 0, vb.pp(b))?);
                cin = planes * 4;
            }
            stages.push(stage);
        }
        Ok(Self { stem, stages })
    }

    /// x1 … x5.
    pub fn forward(&self, x: &Tensor) -> Result<[Tensor; 5]> {
        let mut x = x.clone();
        for (conv, bn) in &self.stem {
            x = normalise(&conv.forward(&x)?, bn)?.relu()?;
        }
        let x1 = max_pool3(&x)?;
        let mut maps = vec![x1];
        for stage in &self.stages {
            let mut x = maps[maps.len() - 1].clone();
            for block in stage {
                x = block.forward(&x)?;
            }
            maps.push(x);
        }
        maps.try_into().map_err(|_| candle_core::Error::Msg("the backbone has four stages".into()))
    }
}
