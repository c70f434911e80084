//! What the network said about one frame.
//!
//! In: probabilities at the source's size. Out: a binary mask over the source's pixels and the polyps it consists of.

use super::{FrameId, Gate, Pts, Rect, TrackMark};

/// One connected region of a mask.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Polyp {
    /// Smallest rectangle around it, in source pixels.
    pub bbox: Rect,
    /// Its pixels in the source picture.
    pub area_px: u64,
    /// Mean of the probability over its pixels, 0–1.
    pub mean_probability: f32,
    /// Its outer boundary as a closed polygon of pixel centres, clockwise on screen; the last point joins the first.
    pub contour: Vec<[i32; 2]>,
    /// The track it belongs to, where detections are followed over time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub track_id: Option<u64>,
}

/// A finished mask, at the size of the frame it was made from.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Mask {
    /// The frame it was made from.
    pub frame: FrameId,
    /// That frame's timestamp.
    pub pts: Pts,
    /// Size of the source frame in pixels.
    pub width: u32,
    /// Rows of the source frame.
    pub height: u32,
    /// The part of the frame the network saw. Outside it there are no marks.
    pub field_of_view: Rect,
    /// Row-major over `field_of_view`: 1 inside a polyp, else 0.
    pub inside: Vec<u8>,
    /// Pixels inside.
    pub area_px: u64,
    /// Largest probability anywhere in the field of view, 0–1.
    pub max_probability: f32,
    /// Connected regions, largest first.
    pub polyps: Vec<Polyp>,
    /// What is followed over time, also what is not drawn; empty where every frame stands alone.
    pub tracks: Vec<TrackMark>,
    /// Why this frame starts no track.
    pub gate: Option<Gate>,
}

impl Mask {
    /// Whether the source pixel lies in a polyp.
    pub fn is_inside(&self, x: u32, y: u32) -> bool {
        self.field_of_view.contains(x, y) && {
            let v = &self.field_of_view;
            self.inside[(y - v.y) as usize * v.w as usize + (x - v.x) as usize] != 0
        }
    }

    /// Row `y` of the field of view (0 is its top).
    pub fn row(&self, y: u32) -> &[u8] {
        let w = self.field_of_view.w as usize;
        &self.inside[y as usize * w..(y as usize + 1) * w]
    }
}
