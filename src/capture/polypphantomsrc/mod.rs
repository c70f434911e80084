//! `polypphantomsrc`: a live source that plays a phantom from memory.
//!
//! In: the phantom's settings, as properties. Out: NV12 video, live, at the frame rate asked for. The loop is rendered
//! and converted before the first frame is due, so that it costs next to nothing (one copy a frame, as a capture card
//! makes one) while something is measured beside it.

mod imp;

use gstreamer as gst;
use gstreamer::glib;
use gstreamer::prelude::*;
use gstreamer_base as gst_base;

glib::wrapper! {
    /// The element; see the module.
    pub struct PolypPhantomSrc(ObjectSubclass<imp::PolypPhantomSrc>)
        @extends gst_base::PushSrc, gst_base::BaseSrc, gst::Element, gst::Object;
}

pub(super) fn register(plugin: Option<&gst::Plugin>) -> Result<(), glib::BoolError> {
    gst::Element::register(plugin, "polypphantomsrc", gst::Rank::NONE, PolypPhantomSrc::static_type())
}
