//! Res2Net-50 v1b, 26w x 4s: the backbone.
//!
//! In: `[3, H, W]`. Out: five maps, x1 (64 channels at H/4) and x2 … x5 (256, 512, 1024, 2048 channels at H/4, H/8,
//! H/16, H/32). Gao et al., "Res2Net: A New Multi-scale Backbone Architecture", TPAMI 2021, arXiv 1904.01169.

use crate::program::{Builder, Pool, Rounding, Value};

/// Blocks of the four stages.
const BLOCKS: [usize; 4] = [3, 4, 6, 3];
/// Planes of the four stages; a stage's output has four times as many channels.
const PLANES: [usize; 4] = [64, 128, 256, 512];
/// Splits of a block (the "4s").
const SCALE: usize = 4;

/// Parts of the network, for reports.
const PARTS: [&str; 4] = ["layer1", "layer2", "layer3", "layer4"];

/// Channels of one split: `floor(planes · 26 / 64)`, that is 26, 52, 104, 208.
const fn split_width(planes: usize) -> usize {
    planes * 26 / 64
}

/// x1 … x5.
pub(crate) fn features(b: &mut Builder, (height, width): (usize, usize)) -> [Value; 5] {
    b.part("stem", Rounding::Delicate);
    let mut x = b.input(height, width);
    // Sequential(conv, bn, relu, conv, bn, relu, conv), then the model's own bn1.
    for (conv, norm, out, stride) in [
        ("resnet.conv1.0", "resnet.conv1.1", 32, 2),
        ("resnet.conv1.3", "resnet.conv1.4", 32, 1),
        ("resnet.conv1.6", "resnet.bn1", 64, 1),
    ] {
        x = b.conv(x, conv, out, 3, stride, false);
        x = b.norm(x, norm);
        x = b.relu(x, format!("{norm}.relu"));
    }
    let mut maps = [b.pool(x, Pool::Max3, "resnet.maxpool"); 5];
    for stage in 0..4 {
        b.part(PARTS[stage], Rounding::Sensitive);
        let mut x = maps[stage];
        for block in 0..BLOCKS[stage] {
            let last = block + 1 == BLOCKS[stage];
            let at = format!("resnet.layer{}.{block}", stage + 1);
            let name = if last { format!("resnet.layer{}", stage + 1) } else { at.clone() };
            let stride = if stage > 0 && block == 0 { 2 } else { 1 };
            x = self::block(b, x, &at, &name, PLANES[stage], stride, block == 0);
        }
        maps[stage + 1] = x;
    }
    maps
}

/// A block. In a stage's first block the splits do not feed one another, the fourth is pooled, and the shortcut has a
/// convolution.
fn block(
    b: &mut Builder,
    x: Value,
    at: &str,
    name: &str,
    planes: usize,
    stride: usize,
    first: bool,
) -> Value {
    let width = split_width(planes);
    let wide = b.conv(x, &format!("{at}.conv1"), width * SCALE, 1, 1, false);
    let wide = b.norm(wide, &format!("{at}.bn1"));
    let wide = b.relu(wide, format!("{at}.bn1.relu"));
    let splits: Vec<Value> =
        (0..SCALE).map(|i| b.slice(wide, i * width, width, format!("{at}.split.{i}"))).collect();
    let mut outs: Vec<Value> = Vec::with_capacity(SCALE);
    for (i, &split) in splits[..SCALE - 1].iter().enumerate() {
        let input = match outs.last() {
            Some(&previous) if !first => b.add(previous, split, format!("{at}.convs.{i}.input")),
            _ => split,
        };
        let out = b.conv(input, &format!("{at}.convs.{i}"), width, 3, stride, false);
        let out = b.norm(out, &format!("{at}.bns.{i}"));
        outs.push(b.relu(out, format!("{at}.bns.{i}.relu")));
    }
    let last = splits[SCALE - 1];
    outs.push(if first { b.pool(last, Pool::Average3 { stride }, format!("{at}.pool")) } else { last });
    let joined = b.concat(&outs, format!("{at}.joined"));
    let out = b.conv(joined, &format!("{at}.conv3"), planes * 4, 1, 1, false);
    let out = b.norm(out, &format!("{at}.bn3"));
    let shortcut = if first {
        // AvgPool2d(stride, stride, ceil_mode=True, count_include_pad=False): inputs are multiples of 32, every window
        // is whole; with stride 1 it is the identity.
        let x = if stride == 2 { b.pool(x, Pool::Average2, format!("{at}.downsample.0")) } else { x };
        let x = b.conv(x, &format!("{at}.downsample.1"), planes * 4, 1, 1, false);
        b.norm(x, &format!("{at}.downsample.2"))
    } else {
        x
    };
    let sum = b.add(out, shortcut, format!("{at}.sum"));
    b.relu(sum, name)
}
