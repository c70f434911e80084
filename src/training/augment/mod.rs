//! Other views of the same picture: a picture and its labels flow in, the planes and labels of one training input flow
//! out.
//!
//! ```text
//! picture ─▶ geometry (flip, turn, scale, crop) ─▶ phantom (a polyp onto healthy mucosa) ─▶ marks (highlights, bubbles)
//!         ─▶ colour (other processors) ─▶ optics (blur, motion, noise) ─▶ border (black frame, text) ─▶ codec (JPEG) ─▶ planes
//! ```
//!
//! The same picture, seed and epoch always give the same input. Each step happens with its own probability;
//! [`Strength`] scales them all.

mod border;
mod canvas;
mod codec;
mod colour;
mod geometry;
mod marks;
mod optics;
mod phantom;

pub use canvas::Canvas;
pub use phantom::Phantoms;

use super::data::read::Sample;
use super::random::Random;
use crate::frame::resize::Filter;
use crate::model::checkpoint::Description;

/// How much is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Strength {
    /// Nothing: the picture as the network sees it in use.
    None,
    /// What the paper did: flips and turns of ±10°.
    Published,
    /// Everything of this module.
    #[default]
    Full,
}

/// What may happen to pictures.
#[derive(Clone, Debug)]
pub struct Augmentation {
    /// Which of the steps may happen.
    pub strength: Strength,
    /// Share of healthy pictures that get a phantom polyp; `None` for none.
    pub phantoms: Option<(f64, std::sync::Arc<Phantoms>)>,
    /// What pictures are reduced with: as the network's input is made in use, see [`Description::resize`].
    pub filter: Filter,
}

/// A network's input and what is to be found on it.
#[derive(Clone, Debug, PartialEq)]
pub struct Input {
    /// Packed RGB, rows from the top: what the planes are made of.
    pub rgb: Vec<u8>,
    /// Row-major.
    pub labels: Vec<u8>,
    /// Rows and columns.
    pub size: (usize, usize),
}

impl Input {
    /// Normalised planes `[3, rows, columns]`.
    pub fn planes(&self, description: &Description, out: &mut [f32]) {
        let px = self.size.0 * self.size.1;
        for (i, pixel) in self.rgb.as_chunks::<3>().0.iter().enumerate() {
            for c in 0..3 {
                let v = f32::from(pixel[c]) / 255.0;
                out[c * px + i] = (v - description.mean[c]) / description.std[c];
            }
        }
    }
}

impl Augmentation {
    /// One view of a sample at `(rows, columns)`.
    pub fn view(&self, sample: &Sample, (h, w): (usize, usize), random: &mut Random) -> Input {
        let mut canvas = geometry::view(sample, self.filter, (h, w), self.strength, random);
        if self.strength == Strength::Full {
            if let Some((share, phantoms)) = &self.phantoms
                && canvas.is_healthy()
                && random.chance(*share)
            {
                phantoms.paste(&mut canvas, random);
            }
            marks::highlights(&mut canvas, random);
            marks::bubbles(&mut canvas, random);
            colour::processor(&mut canvas, random);
            optics::blur(&mut canvas, random);
            optics::noise(&mut canvas, random);
            border::frame(&mut canvas, random);
            codec::jpeg(&mut canvas, random);
        }
        let (rgb, labels) = canvas.into_bytes();
        Input { rgb, labels, size: (h, w) }
    }
}

#[cfg(test)]
mod tests;
