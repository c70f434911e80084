//! Still pictures: probability map, marked picture and mask.
//!
//! In: a picture's file. Out: all three at the picture's size.

use std::path::Path;

use image::{GrayImage, RgbImage};

use super::Segmenter;
use super::probabilities::enlarge;
use crate::frame::{FrameId, Mask, Picture, PictureInfo, PictureMut, PixelFormat, Pts};
use crate::overlay::{Overlay, Style};
use crate::postprocess::Upsampler;
use crate::safety::State;
use crate::still::load_rgb;
use crate::{Error, Result};

/// What became of a picture.
pub struct SegmentedStill {
    /// Probability of each pixel, 255 is certain.
    pub probability: GrayImage,
    /// The picture with its marks.
    pub marked: RgbImage,
    /// The mask that was drawn, with its outlines.
    pub mask: Mask,
}

/// Segments pictures that have nothing to do with each other, or that are successive frames.
pub struct StillSegmenter {
    segmenter: Segmenter,
    upsampler: Upsampler,
    overlay: Overlay,
}

impl StillSegmenter {
    /// `style` says how marks are drawn into the picture.
    pub fn new(segmenter: Segmenter, style: Style) -> Self {
        Self { segmenter, upsampler: Upsampler::default(), overlay: Overlay::new(style) }
    }

    /// `at`: which frame it is, where the pictures are successive ones.
    ///
    /// # Errors
    /// A file that is no picture, a given field of view outside it, a failing device.
    pub fn run(&mut self, path: &Path, at: Option<(FrameId, Pts)>) -> Result<SegmentedStill> {
        let mut marked = load_rgb(path)?;
        let (w, h) = marked.dimensions();
        let info = PictureInfo::new(PixelFormat::Rgb, w, h);
        let mut mask = Mask::default();
        let empty = || Error::input(format!("{}: is an empty picture", path.display()));
        match at {
            Some((frame, pts)) => (mask.frame, mask.pts) = (frame, pts),
            None => self.segmenter.restart(),
        }
        let picture = Picture::packed(info, marked.as_raw()).ok_or_else(empty)?;
        self.segmenter.segment(&picture, &mut mask).map_err(|e| e.at(path.display()))?;

        let shape = self.segmenter.network().shape();
        let mut probability = GrayImage::new(w, h);
        let (view, pixels) = (mask.field_of_view, probability.as_mut());
        enlarge(&mut self.upsampler, self.segmenter.logits(), shape, view, w as usize, pixels, |p| {
            (p * 255.0).round() as u8
        });
        let mut drawn = PictureMut::packed(info, marked.as_mut()).ok_or_else(empty)?;
        self.overlay.draw(&mut drawn, Some(&mask), State::Active);
        Ok(SegmentedStill { probability, marked, mask })
    }
}
