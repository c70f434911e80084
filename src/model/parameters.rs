//! Every parameter of the network, by its published key: what a checkpoint must hold.
//!
//! In: an [`Architecture`]. Out: keys, shapes and roles, in the network's order.

use super::res2net::{BLOCKS, PLANES, SCALE, split_width};
use super::subtraction::CHANNELS;
use super::{Architecture, Variant};

/// What a parameter is for; decides how it may be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Convolution kernel `[out, in, kh, kw]`: may be stored in half precision or as I8 with a scale per output channel.
    Kernel,
    /// Convolution bias `[out]`.
    Bias,
    /// Batch-norm scale, shift, running mean or running variance `[channels]`.
    Norm,
}

/// One tensor of a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameter {
    pub key: String,
    pub shape: Vec<usize>,
    pub role: Role,
}

/// All parameters of the network, 577 for M²SNet.
pub fn parameters(architecture: Architecture) -> Vec<Parameter> {
    let mut list = List(Vec::with_capacity(600));
    list.kernel("resnet.conv1.0.weight", 32, 3, 3);
    list.norm("resnet.conv1.1", 32);
    list.kernel("resnet.conv1.3.weight", 32, 32, 3);
    list.norm("resnet.conv1.4", 32);
    list.kernel("resnet.conv1.6.weight", 64, 32, 3);
    list.norm("resnet.bn1", 64);
    let mut cin = 64;
    for (s, (&blocks, &planes)) in BLOCKS.iter().zip(&PLANES).enumerate() {
        let width = split_width(planes);
        for b in 0..blocks {
            let at = format!("resnet.layer{}.{b}", s + 1);
            list.kernel(&format!("{at}.conv1.weight"), width * SCALE, cin, 1);
            list.norm(&format!("{at}.bn1"), width * SCALE);
            for i in 0..SCALE - 1 {
                list.kernel(&format!("{at}.convs.{i}.weight"), width, width, 3);
                list.norm(&format!("{at}.bns.{i}"), width);
            }
            list.kernel(&format!("{at}.conv3.weight"), planes * 4, width * SCALE, 1);
            list.norm(&format!("{at}.bn3"), planes * 4);
            if b == 0 {
                list.kernel(&format!("{at}.downsample.1.weight"), planes * 4, cin, 1);
                list.norm(&format!("{at}.downsample.2"), planes * 4);
            }
            cin = planes * 4;
        }
    }
    if architecture.variant == Variant::M2SNet {
        list.norm("conv_3.norm", CHANNELS);
        list.norm("conv_5.norm", CHANNELS);
    }
    for (key, cin) in
        [("x5_dem_1", 2048), ("x4_dem_1", 1024), ("x3_dem_1", 512), ("x2_dem_1", 256), ("x5_dem_5", 2048)]
    {
        list.cnr(key, cin);
    }
    for key in [
        "x5_x4",
        "x4_x3",
        "x3_x2",
        "x2_x1",
        "x5_x4_x3",
        "x4_x3_x2",
        "x3_x2_x1",
        "x5_x4_x3_x2",
        "x4_x3_x2_x1",
        "x5_dem_4",
        "x5_x4_x3_x2_x1",
        "level3",
        "level2",
        "level1",
        "output4",
        "output3",
        "output2",
    ] {
        list.cnr(key, CHANNELS);
    }
    list.kernel("output1.0.weight", architecture.classes, CHANNELS, 3);
    list.bias("output1.0.bias", architecture.classes);
    list.0
}

struct List(Vec<Parameter>);

impl List {
    fn push(&mut self, key: &str, shape: Vec<usize>, role: Role) {
        self.0.push(Parameter { key: key.to_owned(), shape, role });
    }

    fn kernel(&mut self, key: &str, out: usize, cin: usize, k: usize) {
        self.push(key, vec![out, cin, k, k], Role::Kernel);
    }

    fn bias(&mut self, key: &str, out: usize) {
        self.push(key, vec![out], Role::Bias);
    }

    fn norm(&mut self, at: &str, channels: usize) {
        for leaf in ["weight", "bias", "running_mean", "running_var"] {
            self.push(&format!("{at}.{leaf}"), vec![channels], Role::Norm);
        }
    }

    fn cnr(&mut self, at: &str, cin: usize) {
        self.kernel(&format!("{at}.0.weight"), CHANNELS, cin, 3);
        self.bias(&format!("{at}.0.bias"), CHANNELS);
        self.norm(&format!("{at}.1"), CHANNELS);
    }
}
