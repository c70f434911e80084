//! One frame: field of view, resize and normalise, network, mask.
//!
//! In: a picture. Out: its mask and how long each stage took.

use std::time::Instant;

use crate::Result;
use crate::engine::{Network, Route};
use crate::frame::{Mask, Nanos, Picture};
use crate::model::checkpoint::Description;
use crate::postprocess::Postprocessor;
use crate::preprocess::{FieldOfView, Preprocessor};

/// How long the stages of one frame took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spans {
    pub preprocess: Nanos,
    pub network: Nanos,
    pub postprocess: Nanos,
}

/// Everything between a picture and its mask.
pub struct Segmenter {
    preprocessor: Preprocessor,
    network: Box<dyn Network>,
    postprocessor: Postprocessor,
    input: Vec<f32>,
    logits: Vec<f32>,
}

impl Segmenter {
    /// `threshold`: probability from which on a pixel is marked; the description's own where `None`.
    pub fn new(
        network: Box<dyn Network>,
        description: &Description,
        view: FieldOfView,
        threshold: Option<f64>,
    ) -> Self {
        let shape = network.shape();
        Self {
            preprocessor: Preprocessor::new(description, shape.height, shape.width, view),
            postprocessor: Postprocessor::new(threshold.unwrap_or(description.threshold)),
            input: vec![0.0; shape.input_len()],
            logits: vec![0.0; shape.logits_len()],
            network,
        }
    }

    /// Forgets the last recording (its field of view), so that the next one's masks depend on it alone.
    pub fn restart(&mut self) {
        self.preprocessor.restart();
    }

    /// Changes the probability from which on a pixel is marked, 0 < threshold < 1.
    pub fn set_threshold(&mut self, threshold: f64) {
        self.postprocessor.set_threshold(threshold);
    }

    /// Device and precision, for reports.
    pub fn describe(&self) -> String {
        self.network.describe()
    }

    /// Segments one picture into `mask`, whose `frame` and `pts` the caller sets.
    ///
    /// # Errors
    /// A given field of view outside the picture, a failing device, an output that is not a number.
    pub fn segment(&mut self, picture: &Picture, mask: &mut Mask) -> Result<Spans> {
        mask.width = picture.info.width;
        mask.height = picture.info.height;
        let start = Instant::now();
        let shape = self.network.shape();
        if let Route::Pictures(network) = self.network.route() {
            let view = self.preprocessor.view(picture)?;
            mask.inside.resize(view.area() as usize, 0);
            let prepared = Instant::now();
            let level = self.postprocessor.level();
            let found = network.run_picture(picture, view, level, &mut self.logits, &mut mask.inside)?;
            let inferred = Instant::now();
            self.postprocessor.run_marked(&self.logits, shape, view, found, mask)?;
            return Ok(Spans {
                preprocess: (prepared - start).into(),
                network: (inferred - prepared).into(),
                postprocess: inferred.elapsed().into(),
            });
        }
        let view = self.preprocessor.run(picture, &mut self.input)?;
        let prepared = Instant::now();
        self.network.run(&self.input, &mut self.logits)?;
        let inferred = Instant::now();
        self.postprocessor.run(&self.logits, shape, view, mask)?;
        Ok(Spans {
            preprocess: (prepared - start).into(),
            network: (inferred - prepared).into(),
            postprocess: inferred.elapsed().into(),
        })
    }

    /// The last frame's logits, `[classes, height, width]`.
    pub fn logits(&self) -> &[f32] {
        &self.logits
    }

    pub fn network(&self) -> &dyn Network {
        self.network.as_ref()
    }
}
