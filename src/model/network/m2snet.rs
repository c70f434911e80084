//! M²SNet and MSNet: backbone, pyramid of subtraction units, decoder.
//!
//! In: the modules of the multi-scale terms' batch-norms (none for MSNet), the number of classes, an input size. Out:
//! the program from `[3, H, W]`, H and W multiples of 32, to logits `[classes, H, W]` (no sigmoid).

use super::{CHANNELS, res2net};
use crate::program::{Builder, Program, Rounding, Value};

/// The whole network; names are the checkpoint's keys.
pub(super) fn program(scales: Option<[&str; 2]>, classes: usize, size: (usize, usize)) -> Program {
    let mut b = Builder::default();
    let [x1, x2, x3, x4, x5] = res2net::features(&mut b, size);
    let mut d = Decoder { b, scales };

    d.b.part("reductions", Rounding::Forgiving);
    let d5 = d.cnr(x5, "x5_dem_1");
    let d4 = d.cnr(x4, "x4_dem_1");
    let d3 = d.cnr(x3, "x3_dem_1");
    let d2 = d.cnr(x2, "x2_dem_1");
    let o5 = d.cnr(x5, "x5_dem_5");

    // The upper levels of the decoder need only the pyramid's upper rows and run beside its lower ones: they are
    // reported with it.
    d.b.part("subtraction", Rounding::Forgiving);
    let x5_x4 = d.unit(d5, d4, "x5_x4");
    let x4_x3 = d.unit(d4, d3, "x4_x3");
    let x3_x2 = d.unit(d3, d2, "x3_x2");
    let x2_x1 = d.unit(d2, x1, "x2_x1");
    let o4_in = d.join(o5, x5_x4, "output4");
    let o4 = d.cnr(o4_in, "output4");
    let x5_x4_x3 = d.unit(x5_x4, x4_x3, "x5_x4_x3");
    let x4_x3_x2 = d.unit(x4_x3, x3_x2, "x4_x3_x2");
    let x3_x2_x1 = d.unit(x3_x2, x2_x1, "x3_x2_x1");
    let level3 = d.level(&[x4_x3, x5_x4_x3], "level3");
    let o3_in = d.join(o4, level3, "output3");
    let o3 = d.cnr(o3_in, "output3");
    let x5_x4_x3_x2 = d.unit(x5_x4_x3, x4_x3_x2, "x5_x4_x3_x2");
    let x4_x3_x2_x1 = d.unit(x4_x3_x2, x3_x2_x1, "x4_x3_x2_x1");
    let level2 = d.level(&[x3_x2, x4_x3_x2, x5_x4_x3_x2], "level2");
    let o2_in = d.join(o3, level2, "output2");
    let e = d.cnr(x5_x4_x3_x2, "x5_dem_4");
    let x5_x4_x3_x2_x1 = d.unit(e, x4_x3_x2_x1, "x5_x4_x3_x2_x1");

    d.b.part("decoder", Rounding::Forgiving);
    let level1 = d.level(&[x2_x1, x3_x2_x1, x4_x3_x2_x1, x5_x4_x3_x2_x1], "level1");
    let o2 = d.cnr(o2_in, "output2");
    let o1_in = d.join(o2, level1, "output1");
    d.b.part("output", Rounding::Forgiving);
    let o1 = d.b.conv(o1_in, "output1.0", classes, 3, 1, true);
    d.b.rename(o1, "output1");
    let logits = d.b.resize(o1, size, "logits");
    d.b.finish(logits)
}

struct Decoder<'a> {
    b: Builder,
    scales: Option<[&'a str; 2]>,
}

impl Decoder<'_> {
    /// `Sequential(Conv2d(cin, 64, 3, padding=1), BatchNorm2d, ReLU)`, keys `AT.0` and `AT.1`.
    fn cnr(&mut self, of: Value, at: &str) -> Value {
        let x = self.b.conv(of, &format!("{at}.0"), CHANNELS, 3, 1, true);
        let x = self.b.norm(x, &format!("{at}.1"));
        self.b.relu(x, at)
    }

    /// A subtraction unit: `a` is resized to the size of `b`.
    fn unit(&mut self, a: Value, b: Value, at: &str) -> Value {
        let size = self.b.fact(b).size();
        let a = self.b.resize(a, size, format!("{at}.a"));
        let x = self.b.difference(a, b, self.scales, format!("{at}.difference"));
        self.cnr(x, at)
    }

    /// The sum of a level's units behind one convolution.
    fn level(&mut self, of: &[Value], at: &str) -> Value {
        let mut sum = of[0];
        for (i, value) in of.iter().enumerate().skip(1) {
            sum = self.b.add(sum, *value, format!("{at}.input.{i}"));
        }
        self.cnr(sum, at)
    }

    /// What `output` reads: the coarser output, resized, plus this level.
    fn join(&mut self, coarse: Value, fine: Value, output: &str) -> Value {
        let size = self.b.fact(fine).size();
        let large = self.b.resize(coarse, size, format!("{output}.coarse"));
        self.b.add(large, fine, format!("{output}.input"))
    }
}
