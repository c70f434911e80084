//! What is said of one frame, before it is metadata.
//!
//! In: what an analysis or a phantom knows. Out: the words that every kind of metadata is made of and read into.

use gstreamer as gst;

use crate::frame::{Mask, Nanos, Polyp, Rect};
use crate::safety::{Reason, State};

/// What the regions' own metas are called.
pub const REGION: &str = "polyp";

/// A coordinate or size of a picture as GStreamer's structures hold it.
pub fn signed(v: u32) -> i32 {
    i32::try_from(v).unwrap_or(i32::MAX)
}

/// One connected region.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Region {
    pub bbox: Rect,
    pub area_px: u64,
    /// Mean over its pixels, where a network said it.
    pub probability: Option<f32>,
    pub track_id: Option<u64>,
    /// When its track was first seen, in nanoseconds of running time.
    pub first_seen: Option<u64>,
}

impl Region {
    /// A polyp of a mask, with what the mask knows of its track.
    pub fn of(polyp: &Polyp, mask: &Mask) -> Self {
        let track = mask.tracks.iter().find(|t| Some(t.track_id) == polyp.track_id);
        Self {
            bbox: polyp.bbox,
            area_px: polyp.area_px,
            probability: Some(polyp.mean_probability),
            track_id: polyp.track_id,
            first_seen: track.map(|t| t.first_pts_ns),
        }
    }
}

/// A mask's pixels: one GRAY8 picture over a rectangle of the frame.
#[derive(Clone, Debug)]
pub struct MaskPixels {
    pub place: Rect,
    pub buffer: gst::Buffer,
    /// Size of the mask's picture where the buffer does not say; its rows then follow each other without a gap.
    packed: (u32, u32),
}

impl MaskPixels {
    /// A buffer with a video meta, or of as many pixels as the place has.
    pub fn described(place: Rect, buffer: gst::Buffer) -> Self {
        Self { place, buffer, packed: (place.w, place.h) }
    }

    /// A buffer whose picture has a size of its own.
    pub fn packed_as(place: Rect, buffer: gst::Buffer, packed: (u32, u32)) -> Self {
        Self { place, buffer, packed }
    }

    /// See the field.
    pub fn packed(&self) -> (u32, u32) {
        self.packed
    }
}

/// Everything that is said of one frame.
#[derive(Clone, Debug, Default)]
pub struct MaskEntry {
    /// Size of the picture that all coordinates belong to.
    pub picture: (u32, u32),
    /// `None`: nothing is marked, or there is no mask that may be shown.
    pub pixels: Option<MaskPixels>,
    /// The part of the picture that was analysed; empty while nothing was.
    pub view: Rect,
    /// Number and timestamp of the frame that was analysed.
    pub frame: Option<u64>,
    pub pts: Option<gst::ClockTime>,
    pub age: Nanos,
    /// Moved along with the picture since.
    pub moved: bool,
    pub area_px: u64,
    pub max_probability: Option<f32>,
    pub state: Option<(State, Reason)>,
}
