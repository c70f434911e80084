//! `polypoverlay`: hands frames to the workers and draws the newest mask on the live picture, in place.
//!
//! In: raw video in any of our layouts. Out: the same buffers with marks on them. Nothing here waits for inference and
//! nothing pushes back; what goes wrong leaves the picture as the source gave it.
//!
//! The element lives in this process only. Without a [`Wiring`] it passes frames on untouched:
//! `videotestsrc ! video/x-raw,format=NV12 ! polypoverlay ! autovideosink` in a `gst::parse::launch` of a program that
//! called [`crate::capture::init`].

mod compositor;
mod copies;
mod imp;
mod stamps;

use gstreamer as gst;
use gstreamer::glib;
use gstreamer::prelude::*;
use gstreamer::subclass::prelude::*;
use gstreamer_base as gst_base;

pub use compositor::{Tap, Wiring};
pub use copies::Copied;
pub use stamps::Stamps;

glib::wrapper! {
    /// The element; see the module.
    pub struct PolypOverlay(ObjectSubclass<imp::PolypOverlay>)
        @extends gst_base::BaseTransform, gst::Element, gst::Object;
}

impl PolypOverlay {
    /// An element that is not yet wired to anything.
    pub fn new() -> Self {
        glib::Object::new()
    }

    /// Gives the element its workers, masks and telemetry. Frames already in it are finished first.
    pub fn wire(&self, wiring: Wiring) {
        self.imp().wire(wiring);
    }

    /// The picture that goes through, once its caps are known.
    pub fn picture_info(&self) -> Option<crate::frame::PictureInfo> {
        self.imp().picture_info()
    }
}

impl Default for PolypOverlay {
    fn default() -> Self {
        Self::new()
    }
}

pub(super) fn register() -> Result<(), glib::BoolError> {
    gst::Element::register(None, "polypoverlay", gst::Rank::NONE, PolypOverlay::static_type())
}
