//! `polypsegment`: says on every frame where polyps are, and lets the frame pass at once.
//!
//! In: raw video in any of our layouts. Out: the same buffers, each with the newest mask as metadata (see
//! `pipelines/elements/metadata.md`). A worker's thread runs the network on whichever frame is the newest when it is
//! free; nothing here waits for it. With `sync` each frame waits for its own mask, for recordings and for results that
//! can be repeated.

mod figures;
mod imp;
mod kept_network;
mod mask_pixels;
mod session;
mod settings;

use gstreamer as gst;
use gstreamer::glib;
use gstreamer::prelude::*;
use gstreamer_base as gst_base;

glib::wrapper! {
    /// The element; see the module.
    pub struct PolypSegment(ObjectSubclass<imp::PolypSegment>)
        @extends gst_base::BaseTransform, gst::Element, gst::Object;
}

pub(super) fn register(plugin: Option<&gst::Plugin>) -> Result<(), glib::BoolError> {
    gst::Element::register(plugin, "polypsegment", gst::Rank::NONE, PolypSegment::static_type())
}

#[cfg(test)]
#[cfg(feature = "video-tests")]
pub(super) use session::BuildAnalyzer;

#[cfg(test)]
#[cfg(feature = "video-tests")]
impl PolypSegment {
    /// An element whose network is somebody else's.
    pub(super) fn with_analyzer(build: std::sync::Arc<BuildAnalyzer>) -> Self {
        use gstreamer::subclass::prelude::*;
        let element: Self = glib::Object::new();
        element.imp().stand_in(build);
        element
    }
}
