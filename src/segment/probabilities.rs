//! The network as a judge of single pictures: a probability for each pixel.
//!
//! In: a picture. Out: probabilities at the picture's size, 0 outside the field of view.

use crate::Result;
use crate::engine::Network;
use crate::frame::{Picture, Rect, Shape};
use crate::model::checkpoint::Description;
use crate::postprocess::{Upsampler, check_finite, sigmoid};
use crate::preprocess::{FieldOfView, Preprocessor};

/// See the module.
pub struct Probabilities {
    preprocessor: Preprocessor,
    network: Box<dyn Network>,
    upsampler: Upsampler,
    input: Vec<f32>,
    logits: Vec<f32>,
}

impl Probabilities {
    /// A judge that normalises as `description` says and looks at the part of a picture that `view` says.
    pub fn new(network: Box<dyn Network>, description: &Description, view: FieldOfView) -> Self {
        let shape = network.shape();
        Self {
            preprocessor: Preprocessor::new(description, shape.height, shape.width, view),
            upsampler: Upsampler::default(),
            input: vec![0.0; shape.input_len()],
            logits: vec![0.0; shape.logits_len()],
            network,
        }
    }

    /// Row-major at the picture's size, 0–1. Pictures have nothing to do with each other: what was seen of the last one
    /// is forgotten.
    ///
    /// # Errors
    /// A given field of view outside the picture, a failing device, an output that is not a number.
    pub fn of(&mut self, picture: &Picture) -> Result<Vec<f32>> {
        self.preprocessor.restart();
        let view = self.preprocessor.run(picture, &mut self.input)?;
        self.network.run(&self.input, &mut self.logits)?;
        check_finite(&self.logits)?;
        let (width, height) = (picture.info.width as usize, picture.info.height as usize);
        let mut map = vec![0.0; width * height];
        let shape = self.network.shape();
        enlarge(&mut self.upsampler, &self.logits, shape, view, width, &mut map, |p| p);
        Ok(map)
    }
}

/// Enlarges logits to the field of view and writes what `to` makes of each probability into a map of the whole picture.
pub(super) fn enlarge<T>(
    upsampler: &mut Upsampler,
    logits: &[f32],
    shape: Shape,
    view: Rect,
    width: usize,
    map: &mut [T],
    to: impl Fn(f32) -> T,
) {
    let (size, target) = ((shape.height, shape.width), (view.h as usize, view.w as usize));
    upsampler.run(logits, shape.classes, size, target, |y, row| {
        let start = (view.y as usize + y) * width + view.x as usize;
        for (pixel, &logit) in map[start..start + row.len()].iter_mut().zip(row) {
            *pixel = to(sigmoid(logit));
        }
    });
}
