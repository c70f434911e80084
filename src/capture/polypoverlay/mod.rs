//! `polypoverlay`: lets its owner draw on the live picture, in place.
//!
//! In: raw video in any of our layouts. Out: the same buffers, with what the element's [`FrameHook`] drew on them. Nothing here
//! waits and nothing pushes back; what goes wrong leaves the picture as the source gave it.
//!
//! The element lives in this process only. Without a hook it passes frames on untouched:
//! `videotestsrc ! video/x-raw,format=NV12 ! polypoverlay ! autovideosink` in a `gst::parse::launch` of a program that
//! called [`crate::capture::init`].

mod imp;

use gstreamer as gst;
use gstreamer::glib;
use gstreamer::prelude::*;
use gstreamer::subclass::prelude::*;
use gstreamer_base as gst_base;

pub(super) use imp::{PROCESSING, add_latency, pad_templates};

use super::frame_hook::FrameHook;

glib::wrapper! {
    /// The element; see the module.
    pub struct PolypOverlay(ObjectSubclass<imp::PolypOverlay>)
        @extends gst_base::BaseTransform, gst::Element, gst::Object;
}

impl PolypOverlay {
    /// An element without a hook: it passes frames on untouched.
    pub fn new() -> Self {
        glib::Object::new()
    }

    /// From now on frames go through this hook. A frame that is in the element is finished first.
    pub fn set_hook(&self, hook: Box<dyn FrameHook>) {
        self.imp().set_hook(hook);
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
