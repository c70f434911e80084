//! M²SNet and MSNet: backbone, pyramid of subtraction units, decoder.
//!
//! In: normalised RGB `[B, 3, H, W]`, H and W multiples of 32. Out: logits `[B, classes, H, W]` (no sigmoid).

use candle_core::{Module, Result, Tensor};
use candle_nn::{Conv2d, Conv2dConfig, VarBuilder};

use super::layers::{ConvNormRelu, resize, resize_like};
use super::res2net::Res2Net;
use super::subtraction::{BoxNorm, CHANNELS, Subtraction};
use super::{Architecture, Variant};

/// The whole network. Field names are the checkpoint's keys.
#[derive(Debug)]
pub struct M2SNet {
    architecture: Architecture,
    resnet: Res2Net,
    /// `conv_3` and `conv_5`, shared by all ten units; empty for MSNet.
    scales: Vec<BoxNorm>,
    x5_dem_1: ConvNormRelu,
    x4_dem_1: ConvNormRelu,
    x3_dem_1: ConvNormRelu,
    x2_dem_1: ConvNormRelu,
    x5_dem_4: ConvNormRelu,
    x5_dem_5: ConvNormRelu,
    x5_x4: Subtraction,
    x4_x3: Subtraction,
    x3_x2: Subtraction,
    x2_x1: Subtraction,
    x5_x4_x3: Subtraction,
    x4_x3_x2: Subtraction,
    x3_x2_x1: Subtraction,
    x5_x4_x3_x2: Subtraction,
    x4_x3_x2_x1: Subtraction,
    x5_x4_x3_x2_x1: Subtraction,
    level3: ConvNormRelu,
    level2: ConvNormRelu,
    level1: ConvNormRelu,
    output4: ConvNormRelu,
    output3: ConvNormRelu,
    output2: ConvNormRelu,
    output1: Conv2d,
}

impl M2SNet {
    /// Reads every parameter under its published key.
    ///
    /// # Errors
    /// A key that is missing or has another shape; [`super::Checkpoint::open`] reports those in the user's words before
    /// this is reached.
    pub fn new(architecture: Architecture, vb: VarBuilder) -> Result<Self> {
        let c = CHANNELS;
        let cnr = |cin: usize, key: &str| ConvNormRelu::new(cin, c, vb.pp(key));
        let unit = |key: &str| Subtraction::new(vb.pp(key));
        let scales = match architecture.variant {
            Variant::M2SNet => vec![BoxNorm::new(3, vb.pp("conv_3"))?, BoxNorm::new(5, vb.pp("conv_5"))?],
            Variant::MSNet => vec![],
        };
        let last = Conv2dConfig { padding: 1, ..Default::default() };
        Ok(Self {
            architecture,
            resnet: Res2Net::new(vb.pp("resnet"))?,
            scales,
            x5_dem_1: cnr(2048, "x5_dem_1")?,
            x4_dem_1: cnr(1024, "x4_dem_1")?,
            x3_dem_1: cnr(512, "x3_dem_1")?,
            x2_dem_1: cnr(256, "x2_dem_1")?,
            x5_dem_4: cnr(c, "x5_dem_4")?,
            x5_dem_5: cnr(2048, "x5_dem_5")?,
            x5_x4: unit("x5_x4")?,
            x4_x3: unit("x4_x3")?,
            x3_x2: unit("x3_x2")?,
            x2_x1: unit("x2_x1")?,
            x5_x4_x3: unit("x5_x4_x3")?,
            x4_x3_x2: unit("x4_x3_x2")?,
            x3_x2_x1: unit("x3_x2_x1")?,
            x5_x4_x3_x2: unit("x5_x4_x3_x2")?,
            x4_x3_x2_x1: unit("x4_x3_x2_x1")?,
            x5_x4_x3_x2_x1: unit("x5_x4_x3_x2_x1")?,
            level3: cnr(c, "level3")?,
            level2: cnr(c, "level2")?,
            level1: cnr(c, "level1")?,
            output4: cnr(c, "output4")?,
            output3: cnr(c, "output3")?,
            output2: cnr(c, "output2")?,
            output1: candle_nn::conv2d(c, architecture.classes, 3, last, vb.pp("output1").pp("0"))?,
        })
    }

    pub fn architecture(&self) -> Architecture {
        self.architecture
    }

    /// Logits at the input's size.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.forward_observed(x, &mut |_, _| Ok(()))
    }

    /// As [`Self::forward`], showing named intermediate maps to `see` as they arise: what golden values and layer-wise
    /// comparisons are taken from.
    pub fn forward_observed(
        &self,
        x: &Tensor,
        see: &mut dyn FnMut(&str, &Tensor) -> Result<()>,
    ) -> Result<Tensor> {
        let (_, _, h, w) = x.dims4()?;
        if h == 0 || w == 0 || h % 32 != 0 || w % 32 != 0 {
            candle_core::bail!("input size {w}x{h} is not a multiple of 32");
        }
        let [x1, x2, x3, x4, x5] = self.resnet.forward(x)?;
        see("resnet.maxpool", &x1)?;
        for (i, x) in [&x2, &x3, &x4, &x5].into_iter().enumerate() {
            see(&format!("resnet.layer{}", i + 1), x)?;
        }
        let d5 = self.x5_dem_1.forward(&x5)?;
        let d4 = self.x4_dem_1.forward(&x4)?;
        let d3 = self.x3_dem_1.forward(&x3)?;
        let d2 = self.x2_dem_1.forward(&x2)?;

        let su = |unit: &Subtraction, a: &Tensor, b: &Tensor| unit.forward(a, b, &self.scales);
        let x5_x4 = su(&self.x5_x4, &d5, &d4)?;
        let x4_x3 = su(&self.x4_x3, &d4, &d3)?;
        let x3_x2 = su(&self.x3_x2, &d3, &d2)?;
        let x2_x1 = su(&self.x2_x1, &d2, &x1)?;
        see("x5_x4", &x5_x4)?;
        see("x4_x3", &x4_x3)?;
        see("x3_x2", &x3_x2)?;
        see("x2_x1", &x2_x1)?;
        let x5_x4_x3 = su(&self.x5_x4_x3, &x5_x4, &x4_x3)?;
        let x4_x3_x2 = su(&self.x4_x3_x2, &x4_x3, &x3_x2)?;
        let x3_x2_x1 = su(&self.x3_x2_x1, &x3_x2, &x2_x1)?;
        let x5_x4_x3_x2 = su(&self.x5_x4_x3_x2, &x5_x4_x3, &x4_x3_x2)?;
        let x4_x3_x2_x1 = su(&self.x4_x3_x2_x1, &x4_x3_x2, &x3_x2_x1)?;
        let e = self.x5_dem_4.forward(&x5_x4_x3_x2)?;
        let x5_x4_x3_x2_x1 = su(&self.x5_x4_x3_x2_x1, &e, &x4_x3_x2_x1)?;
        see("x5_x4_x3_x2_x1", &x5_x4_x3_x2_x1)?;

        let level3 = self.level3.forward(&(&x4_x3 + &x5_x4_x3)?)?;
        let level2 = self.level2.forward(&((&x3_x2 + &x4_x3_x2)? + &x5_x4_x3_x2)?)?;
        let level1 = self.level1.forward(&(((&x2_x1 + &x3_x2_x1)? + &x4_x3_x2_x1)? + &x5_x4_x3_x2_x1)?)?;
        see("level1", &level1)?;

        let join = |a: &Tensor, b: &Tensor| resize_like(a, b)? + b;
        let o = self.output4.forward(&join(&self.x5_dem_5.forward(&x5)?, &x5_x4)?)?;
        let o = self.output3.forward(&join(&o, &level3)?)?;
        let o = self.output2.forward(&join(&o, &level2)?)?;
        see("output2", &o)?;
        let o = self.output1.forward(&join(&o, &level1)?)?;
        see("output1", &o)?;
        resize(&o, h, w)
    }
}
