//! What a network said of one frame, before anything is cut from it.

use crate::frame::{FrameId, Picture, Pts, Rect};

/// The network's map of one frame.
#[derive(Clone, Copy)]
pub struct FrameMap<'a> {
    /// Number of the frame, from 0.
    pub frame: FrameId,
    /// When the frame is shown.
    pub pts: Pts,
    /// For motion and gates; without it nothing moves and no gate closes.
    pub picture: Option<&'a Picture<'a>>,
    /// Width and height in pixels, also where `picture` is not given.
    pub picture_size: (u32, u32),
    /// The part of the picture that the map covers.
    pub view: Rect,
    /// The part of the picture that shows something, where motion and gates are looked for.
    pub scenery: Rect,
    /// `[classes, height, width]` logits.
    pub logits: &'a [f32],
    /// Maps in `logits`.
    pub classes: usize,
    /// Height and width of each map in `logits`.
    pub size: (usize, usize),
    /// The logit from which on a pixel is marked.
    pub level: f32,
}
