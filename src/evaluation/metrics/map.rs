//! The two things that are compared: pixels flow in, a binary [`Mask`] and a [`Prediction`] flow out.

use std::borrow::Cow;

use super::resize;
use crate::{Error, Result};

/// A binary ground truth, row-major.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mask {
    width: usize,
    height: usize,
    /// 1 inside, 0 outside.
    pixels: Vec<u8>,
}

impl Mask {
    /// From any grey levels: those above half of the largest are inside (`g / max > 0.5`); an all-zero map is empty.
    ///
    /// # Errors
    /// The number of levels is not `width * height`, or a side is 0 or above 32767.
    pub fn from_levels<T: Copy + Into<u32>>(width: usize, height: usize, levels: &[T]) -> Result<Self> {
        let max = levels.iter().map(|&v| v.into()).max().unwrap_or(0);
        let pixels = levels.iter().map(|&v| u8::from(2 * u64::from(v.into()) > u64::from(max))).collect();
        Self::from_binary(width, height, pixels)
    }

    /// From 0 (outside) and anything else (inside).
    ///
    /// # Errors
    /// As [`Mask::from_levels`].
    pub fn from_binary(width: usize, height: usize, mut pixels: Vec<u8>) -> Result<Self> {
        check_size("ground truth", width, height, pixels.len())?;
        for p in &mut pixels {
            *p = u8::from(*p != 0);
        }
        Ok(Self { width, height, pixels })
    }

    /// Pixels in a row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Rows.
    pub fn height(&self) -> usize {
        self.height
    }

    /// 1 inside, 0 outside, row-major.
    pub fn pixels(&self) -> &[u8] {
        &self.pixels
    }

    /// Number of pixels inside.
    pub fn area_px(&self) -> u64 {
        self.pixels.iter().map(|&v| u64::from(v)).sum()
    }

    /// Whether no pixel is inside.
    pub fn is_empty(&self) -> bool {
        self.pixels.iter().all(|&v| v == 0)
    }
}

/// What a network says about every pixel, row-major.
#[derive(Clone, Debug, PartialEq)]
pub enum Prediction<'a> {
    /// 8-bit map, 255 = certain: what published predictions are saved as.
    Levels {
        /// Pixels in a row.
        width: usize,
        /// Rows.
        height: usize,
        /// 0 to 255, row-major.
        pixels: Cow<'a, [u8]>,
    },
    /// Probability in `[0, 1]`.
    Probability {
        /// Pixels in a row.
        width: usize,
        /// Rows.
        height: usize,
        /// 0 to 1, row-major.
        pixels: Cow<'a, [f32]>,
    },
}

impl<'a> Prediction<'a> {
    /// An 8-bit map.
    ///
    /// # Errors
    /// The number of pixels is not `width * height`, or a side is 0 or above 32767.
    pub fn from_levels(width: usize, height: usize, pixels: impl Into<Cow<'a, [u8]>>) -> Result<Self> {
        let pixels = pixels.into();
        check_size("prediction", width, height, pixels.len())?;
        Ok(Self::Levels { width, height, pixels })
    }

    /// A map of probabilities; their range is checked when it is scored.
    ///
    /// # Errors
    /// As [`Prediction::from_levels`].
    pub fn from_probability(width: usize, height: usize, pixels: impl Into<Cow<'a, [f32]>>) -> Result<Self> {
        let pixels = pixels.into();
        check_size("prediction", width, height, pixels.len())?;
        Ok(Self::Probability { width, height, pixels })
    }

    /// Pixels in a row.
    pub fn width(&self) -> usize {
        match self {
            Self::Levels { width, .. } | Self::Probability { width, .. } => *width,
        }
    }

    /// Rows.
    pub fn height(&self) -> usize {
        match self {
            Self::Levels { height, .. } | Self::Probability { height, .. } => *height,
        }
    }

    pub(crate) fn is_levels(&self) -> bool {
        matches!(self, Self::Levels { .. })
    }

    /// Rounded to 8 bits.
    ///
    /// # Errors
    /// A value outside `[0, 1]` or not a number.
    pub fn to_levels(&self) -> Result<Prediction<'static>> {
        let (width, height) = (self.width(), self.height());
        let pixels: Vec<u8> = match self {
            Self::Levels { pixels, .. } => pixels.to_vec(),
            Self::Probability { pixels, .. } => {
                check_probabilities(pixels)?;
                pixels.iter().map(|&p| (p * 255.0).round() as u8).collect()
            }
        };
        Ok(Prediction::Levels { width, height, pixels: pixels.into() })
    }

    /// Resized with Pillow's bicubic filter; probabilities are kept within `[0, 1]`.
    pub fn resized(&self, to_width: usize, to_height: usize) -> Prediction<'static> {
        match self {
            Self::Levels { width, height, pixels } => Prediction::Levels {
                width: to_width,
                height: to_height,
                pixels: resize::bicubic_levels(pixels, *width, *height, to_width, to_height).into(),
            },
            Self::Probability { width, height, pixels } => Prediction::Probability {
                width: to_width,
                height: to_height,
                pixels: resize::bicubic_probability(pixels, *width, *height, to_width, to_height).into(),
            },
        }
    }

    /// The logits of the probabilities, none nearer to 0 or 1 than half a level of an 8-bit map.
    pub fn logits(&self, out: &mut Vec<f32>) {
        let logit = |p: f64| {
            let p = p.clamp(0.5 / 255.0, 1.0 - 0.5 / 255.0);
            (p / (1.0 - p)).ln() as f32
        };
        out.clear();
        match self {
            Self::Levels { pixels, .. } => {
                let table: [f32; 256] = std::array::from_fn(|v| logit(v as f64 / 255.0));
                out.extend(pixels.iter().map(|&v| table[usize::from(v)]));
            }
            Self::Probability { pixels, .. } => out.extend(pixels.iter().map(|&p| logit(f64::from(p)))),
        }
    }

    /// The binary mask at a threshold: `probability >= threshold`.
    pub fn binary(&self, threshold: f64) -> Vec<u8> {
        match self {
            Self::Levels { pixels, .. } => {
                pixels.iter().map(|&v| u8::from(f64::from(v) / 255.0 >= threshold)).collect()
            }
            Self::Probability { pixels, .. } => {
                pixels.iter().map(|&v| u8::from(f64::from(v) >= threshold)).collect()
            }
        }
    }
}

pub(super) fn check_probabilities(pixels: &[f32]) -> Result<()> {
    match pixels.iter().position(|p| !(0.0..=1.0).contains(p)) {
        None => Ok(()),
        Some(at) => Err(Error::input(format!(
            "prediction: the value {} at pixel {at} is no probability between 0 and 1",
            pixels[at]
        ))),
    }
}

/// Squared distances up to `2 * 32767²` fit an `i32`.
fn check_size(what: &str, width: usize, height: usize, len: usize) -> Result<()> {
    if width == 0 || height == 0 || width > 32767 || height > 32767 {
        return Err(Error::input(format!("{what}: a picture of {width}x{height} cannot be scored"))
            .remedy("give one of 1 to 32767 pixels a side"));
    }
    if len != width * height {
        return Err(Error::input(format!("{what}: {len} pixels do not make a picture of {width}x{height}")));
    }
    Ok(())
}
