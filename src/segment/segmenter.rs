//! One frame: field of view, resize and normalise, network, mask.
//!
//! In: a picture. Out: its mask and how long each stage took.

use std::time::Instant;

use crate::Result;
use crate::engine::{Network, Route};
use crate::frame::{Mask, Nanos, Picture, Rect};
use crate::model::checkpoint::Description;
use crate::postprocess::{Postprocessor, check_finite};
use crate::preprocess::{FieldOfView, Preprocessor};
use crate::tracks::{SharedFilter, joined};

/// How long the stages of one frame took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spans {
    /// From the picture to the network's input; on engines that take whole pictures only the search for the field of
    /// view.
    pub preprocess: Nanos,
    /// From the input to the logits; on engines that take whole pictures also resizing before and thresholding behind.
    pub network: Nanos,
    /// Following what was found over time; none where every frame stands alone.
    pub tracks: Nanos,
    /// From the logits to the mask and its outlines.
    pub postprocess: Nanos,
}

impl Spans {
    /// From the instants of a frame that is finished now; what took `tracks` came after the network.
    fn of(start: Instant, prepared: Instant, inferred: Instant, tracks: Nanos) -> Self {
        let rest = Nanos::from(inferred.elapsed());
        Self {
            preprocess: (prepared - start).into(),
            network: (inferred - prepared).into(),
            tracks,
            postprocess: Nanos(rest.0.saturating_sub(tracks.0)),
        }
    }
}

/// Everything between a picture and its mask.
pub struct Segmenter {
    preprocessor: Preprocessor,
    network: Box<dyn Network>,
    postprocessor: Postprocessor,
    input: Vec<f32>,
    logits: Vec<f32>,
    /// Several classes as one map.
    joined: Vec<f32>,
    filter: Option<SharedFilter>,
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
            joined: Vec::new(),
            filter: None,
            network,
        }
    }

    /// Frames come in the order of time, and what does not last is withheld by this filter, which others may share.
    #[must_use]
    pub fn with_filter(mut self, filter: SharedFilter) -> Self {
        self.filter = Some(filter);
        self
    }

    /// Whether what does not last is withheld, and how.
    pub fn filter(&self) -> Option<&SharedFilter> {
        self.filter.as_ref()
    }

    /// Forgets the last recording (its field of view), so that the next one's masks depend on it alone.
    pub fn restart(&mut self) {
        self.preprocessor.restart();
        if let Some(filter) = &self.filter {
            filter.restart();
        }
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
            let tracks = match self.follow(picture, view, mask)? {
                Some(span) => span,
                None => {
                    self.postprocessor.run_marked(&self.logits, shape, view, found, mask)?;
                    Nanos(0)
                }
            };
            return Ok(Spans::of(start, prepared, inferred, tracks));
        }
        let view = self.preprocessor.run(picture, &mut self.input)?;
        let prepared = Instant::now();
        self.network.run(&self.input, &mut self.logits)?;
        let inferred = Instant::now();
        let tracks = match self.follow(picture, view, mask)? {
            Some(span) => span,
            None => {
                self.postprocessor.run(&self.logits, shape, view, mask)?;
                Nanos(0)
            }
        };
        Ok(Spans::of(start, prepared, inferred, tracks))
    }

    /// Fills the mask with what lasts of the logits, if that is wanted; how long the following took.
    fn follow(&mut self, picture: &Picture, view: Rect, mask: &mut Mask) -> Result<Option<Nanos>> {
        mask.tracks.clear();
        mask.gate = None;
        let Some(mut filter) = self.filter.as_ref().and_then(SharedFilter::frame) else { return Ok(None) };
        let start = Instant::now();
        check_finite(&self.logits)?;
        let shape = self.network.shape();
        let size = (shape.height, shape.width);
        let map = joined(&self.logits, shape.classes, size.0 * size.1, &mut self.joined);
        filter.observe(picture, map, size, view, self.postprocessor.level(), mask);
        let span = start.elapsed().into();
        self.postprocessor.run_drawn(&self.logits, filter.map(), shape, view, mask)?;
        filter.name(mask);
        Ok(Some(span))
    }

    /// Takes a picture that is not to be segmented: its field of view, which those of the pictures after it follow
    /// from.
    ///
    /// # Errors
    /// A given field of view outside the picture.
    pub fn look(&mut self, picture: &Picture) -> Result<Rect> {
        self.preprocessor.view(picture)
    }

    /// The logit from which on a pixel is marked.
    pub fn level(&self) -> f32 {
        self.postprocessor.level()
    }

    /// The last frame's logits, `[classes, height, width]`.
    pub fn logits(&self) -> &[f32] {
        &self.logits
    }

    /// The network behind the masks.
    pub fn network(&self) -> &dyn Network {
        self.network.as_ref()
    }
}
