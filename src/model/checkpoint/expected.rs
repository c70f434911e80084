//! Frames whose logits are known: what a stored or converted checkpoint is measured against.
//!
//! In: a safetensors file with, for each frame, `NAME.rgb` (U8 `[height, width, 3]`, the network's input before
//! normalisation), `NAME.output1` (F32 `[classes,] height/4, width/4`, the last convolution's map) and `NAME.logits`
//! (F32, every n-th pixel of the logits). Out: the frames; and how far a checkpoint's maps are from theirs.

use std::path::Path;

use ::safetensors::tensor::Dtype;
use candle_core::{DType, Device, Tensor};

use super::budget::Budget;
use super::safetensors::Archive;
use super::source::Fault;
use super::values::{Kind, Values};
use super::{Checkpoint, Description};
use crate::memory;
use crate::model::{LARGEST_SIDE, M2SNet, frame_bytes, is_side};
use crate::{Error, Result};

/// Pixels whose expected logit is nearer to the threshold than this share of the map's largest magnitude may change
/// sides without counting as flipped.
const MARGIN: f32 = 0.05;

/// One frame and its known maps.
#[derive(Clone, Debug)]
pub struct ExpectedFrame {
    /// `NAME` of its keys in the file.
    pub name: String,
    /// Rows of the input, a multiple of 32.
    pub height: usize,
    /// Pixels in a row of the input, a multiple of 32.
    pub width: usize,
    /// `[height, width, 3]`.
    pub rgb: Vec<u8>,
    /// `[classes, height/4, width/4]`: before the final upsampling.
    pub output1: Vec<f32>,
    /// `[classes, height/step, width/step]`: every `step`-th pixel of the logits.
    pub logits: Vec<f32>,
    /// Pixels from one expected logit to the next, in both directions; 1 where all are there.
    pub step: usize,
}

/// How far a checkpoint's maps are from one frame's.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Deviation {
    /// [`ExpectedFrame::name`].
    pub frame: String,
    /// Largest difference as a share of the expected map's largest magnitude, over both maps.
    pub max: f64,
    /// Root of the mean squared difference, as a share of the same.
    pub rms: f64,
    /// Pixels of `output1` and `logits` on the other side of the threshold, those whose expected logit lies within 5 %
    /// of the map's largest magnitude from it left out.
    pub flipped_px: u64,
    /// Pixels compared.
    pub compared_px: u64,
}

impl ExpectedFrame {
    /// The network's input `[3, height, width]`, normalised as the description says.
    pub fn input(&self, description: &Description) -> Vec<f32> {
        let plane = self.height * self.width;
        let mut planes = vec![0f32; 3 * plane];
        for (i, pixel) in self.rgb.as_chunks::<3>().0.iter().enumerate() {
            for c in 0..3 {
                planes[c * plane + i] =
                    (f32::from(pixel[c]) / 255.0 - description.mean[c]) / description.std[c];
            }
        }
        planes
    }

    /// Compares maps given at full size: `output1` `[classes, height/4, width/4]`, `logits` `[classes, height, width]`.
    ///
    /// `threshold` is the probability that parts polyp from background.
    pub fn compare(&self, output1: &[f32], logits: &[f32], threshold: f64) -> Result<Deviation> {
        let step = self.step;
        let sampled: Vec<f32> = logits
            .chunks_exact(self.height * self.width)
            .flat_map(|map| {
                (0..self.height)
                    .step_by(step)
                    .flat_map(move |y| (0..self.width).step_by(step).map(move |x| map[y * self.width + x]))
            })
            .collect();
        let edge = (threshold / (1.0 - threshold)).ln() as f32;
        let mut d = Deviation { frame: self.name.clone(), max: 0.0, rms: 0.0, flipped_px: 0, compared_px: 0 };
        for (got, want) in [(output1, &self.output1), (sampled.as_slice(), &self.logits)] {
            if got.len() != want.len() {
                return Err(Error::input(format!(
                    "frame {} has {} expected values where the network gives {}",
                    self.name,
                    want.len(),
                    got.len()
                ))
                .remedy("use expected values of the same network, classes and size"));
            }
            let largest = want.iter().fold(f32::MIN_POSITIVE, |m, x| m.max(x.abs()));
            let mut squares = 0f64;
            for (&g, &w) in got.iter().zip(want) {
                // NaN, of either side, must not be lost in a maximum.
                let off = f64::from((g - w).abs() / largest);
                let off = if off.is_nan() { f64::INFINITY } else { off };
                d.max = d.max.max(off);
                squares += off * off;
                let flipped = (g >= edge) != (w >= edge) || !g.is_finite();
                d.flipped_px += u64::from(flipped && (w - edge).abs() > MARGIN * largest);
            }
            d.rms = d.rms.max((squares / got.len() as f64).sqrt());
            d.compared_px += got.len() as u64;
        }
        Ok(d)
    }
}

/// Reads a file of frames with known maps, in the order of their names.
///
/// # Errors
/// Unreadable or corrupt; a map that is missing or of an impossible shape, by its key.
pub fn read_expected(path: &Path) -> Result<Vec<ExpectedFrame>> {
    let bytes = super::read_file(path)?;
    frames(&bytes).map_err(|fault| fault.in_file(&path.display().to_string()))
}

fn frames(bytes: &[u8]) -> Result<Vec<ExpectedFrame>, Fault> {
    const REMEDY: &str = "give a safetensors file with NAME.rgb, NAME.output1 and NAME.logits for each frame";
    if !Archive::recognise(bytes) {
        return Err(Fault::new("is no safetensors file", REMEDY));
    }
    let tensors = Archive::open(bytes, &mut Budget::new())?;
    let keys = tensors.names();
    let mut names: Vec<&str> = keys.iter().filter_map(|k| k.strip_suffix(".rgb")).collect();
    names.sort_unstable();
    if names.is_empty() {
        return Err(Fault::new("holds no frames", REMEDY));
    }
    let map = |key: String| -> Result<(Vec<f32>, Vec<usize>), Fault> {
        let t = tensors.entry(&key).ok_or_else(|| Fault::new(format!("{key} is missing"), REMEDY))?;
        if t.dtype != Dtype::F32 || !(2..=3).contains(&t.shape.len()) {
            return Err(Fault::new(
                format!(
                    "{key} is {:?} {:?}, a map is F32 [height, width] or [classes, height, width]",
                    t.dtype, t.shape
                ),
                REMEDY,
            ));
        }
        let Values::F32(values) = Values::from_le_bytes(Kind::F32, t.data) else {
            unreachable!("f32 was asked for");
        };
        if values.iter().any(|x| !x.is_finite()) {
            return Err(Fault::new(format!("{key} holds a value that is not finite"), REMEDY));
        }
        Ok((values, t.shape.to_vec()))
    };
    let mut frames = Vec::with_capacity(names.len());
    for name in names {
        let key = format!("{name}.rgb");
        let rgb = tensors.entry(&key).ok_or_else(|| Fault::new(format!("{key} is missing"), REMEDY))?;
        let (height, width) = match (rgb.dtype, rgb.shape) {
            (Dtype::U8, &[h, w, 3]) if is_side(h) && is_side(w) => (h, w),
            (dtype, shape) => {
                return Err(Fault::new(
                    format!(
                        "{key} is {dtype:?} {shape:?}, a frame is U8 [height, width, 3] with sides that are multiples of 32 \
                         up to {LARGEST_SIDE}"
                    ),
                    REMEDY,
                ));
            }
        };
        let (output1, _) = map(format!("{name}.output1"))?;
        let (logits, shape) = map(format!("{name}.logits"))?;
        let sampled = &shape[shape.len() - 2..];
        let step = height.div_ceil(sampled[0].max(1));
        if step == 0 || [height.div_ceil(step), width.div_ceil(step)] != *sampled {
            return Err(Fault::new(
                format!(
                    "{name}.logits has the shape {shape:?}, which is no regular sample of {width}x{height}"
                ),
                REMEDY,
            ));
        }
        let rgb = rgb.data.to_vec();
        frames.push(ExpectedFrame { name: name.to_owned(), height, width, rgb, output1, logits, step });
    }
    Ok(frames)
}

impl Checkpoint {
    /// Runs the reference network in f32 on the CPU over frames with known maps (a second or two each).
    ///
    /// # Errors
    /// Frames of another number of classes; whatever candle says.
    pub fn deviations(&self, frames: &[ExpectedFrame]) -> Result<Vec<Deviation>> {
        let network = M2SNet::new(self.architecture(), self.var_builder(DType::F32, &Device::Cpu)?)?;
        let mut deviations = Vec::with_capacity(frames.len());
        for frame in frames {
            memory::afford(
                &format!(
                    "frame {}: the reference network on {}x{} pixels",
                    frame.name, frame.width, frame.height
                ),
                frame_bytes(frame.height, frame.width, self.architecture().classes),
                |_| "give expected values of smaller frames".to_owned(),
            )?;
            let input = frame.input(&self.description);
            let x = Tensor::from_vec(input, (1, 3, frame.height, frame.width), &Device::Cpu)?;
            let mut output1 = Vec::new();
            let logits = network.forward_observed(&x, &mut |name, map| {
                if name == "output1" {
                    output1 = map.flatten_all()?.to_vec1()?;
                }
                Ok(())
            })?;
            let logits: Vec<f32> = logits.flatten_all()?.to_vec1()?;
            deviations.push(frame.compare(&output1, &logits, self.description.threshold)?);
        }
        Ok(deviations)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One value of many that is no number is as far off as can be, and counts as flipped.
    #[test]
    fn a_value_that_is_no_number_is_never_lost() {
        let maps = vec![2.0f32, -2.0, 2.0, -2.0];
        let frame = ExpectedFrame {
            name: "f".into(),
            height: 2,
            width: 2,
            rgb: vec![0; 12],
            output1: maps.clone(),
            logits: maps.clone(),
            step: 1,
        };
        let same = frame.compare(&maps, &maps, 0.5).unwrap();
        assert_eq!((same.max, same.flipped_px, same.compared_px), (0.0, 0, 8));
        for bad in [f32::NAN, f32::INFINITY] {
            let mut broken = maps.clone();
            broken[1] = bad;
            let d = frame.compare(&maps, &broken, 0.5).unwrap();
            assert!(d.max == f64::INFINITY && d.flipped_px == 1, "{d:?}");
        }
    }
}
