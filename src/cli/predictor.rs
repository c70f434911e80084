//! A network as the judge of pictures, for `eval` and the validation of `train`.

use image::RgbImage;

use crate::engine::Network;
use crate::evaluation::images::Predict;
use crate::evaluation::metrics::Prediction;
use crate::frame::{Picture, PictureInfo, PixelFormat};
use crate::model::checkpoint::Description;
use crate::preprocess::FieldOfView;
use crate::segment::Probabilities;
use crate::{Error, Result};

/// Answers with a probability for each of a picture's pixels.
pub(super) struct NetworkPredictor(Probabilities);

impl NetworkPredictor {
    pub(super) fn new(network: Box<dyn Network>, description: &Description, view: FieldOfView) -> Self {
        Self(Probabilities::new(network, description, view))
    }
}

impl Predict for NetworkPredictor {
    fn predict(&mut self, image: &RgbImage) -> Result<Prediction<'static>> {
        let (w, h) = image.dimensions();
        let picture = Picture::packed(PictureInfo::new(PixelFormat::Rgb, w, h), image.as_raw())
            .ok_or_else(|| Error::input("an empty picture"))?;
        Prediction::from_probability(w as usize, h as usize, self.0.of(&picture)?)
    }
}
