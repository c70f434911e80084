//! The element that a live pipeline is marked by.
//!
//! In: whether the marks go on alone. Out: one of our two elements, handled alike.

use gstreamer as gst;
use gstreamer::prelude::*;

use super::frame_hook::FrameHook;
use super::polypkey::PolypKey;
use super::polypoverlay::PolypOverlay;

/// Either of the two elements.
#[derive(Clone, Debug)]
pub enum Marker {
    /// Marks on the picture.
    Overlay(PolypOverlay),
    /// Marks alone.
    Key(PolypKey),
}

impl Marker {
    /// `keyed`: the marks alone.
    pub fn new(keyed: bool) -> Self {
        if keyed { Marker::Key(PolypKey::new()) } else { Marker::Overlay(PolypOverlay::new()) }
    }

    /// From now on frames go through this hook.
    pub fn set_hook(&self, hook: Box<dyn FrameHook>) {
        match self {
            Marker::Overlay(e) => e.set_hook(hook),
            Marker::Key(e) => e.set_hook(hook),
        }
    }

    /// The picture that comes in, once its caps are known.
    pub fn picture_info(&self) -> Option<crate::frame::PictureInfo> {
        match self {
            Marker::Overlay(e) => e.picture_info(),
            Marker::Key(e) => e.picture_info(),
        }
    }

    /// The element to put into a pipeline.
    pub fn element(&self) -> &gst::Element {
        match self {
            Marker::Overlay(e) => e.upcast_ref(),
            Marker::Key(e) => e.upcast_ref(),
        }
    }
}
