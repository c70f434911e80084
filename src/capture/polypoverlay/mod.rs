//! `polypoverlay`: draws masks on the picture, in place.
//!
//! In: raw video in any of our layouts. Out: the same buffers, with marks. Without a hook, as in a pipeline of
//! anybody's, it draws the masks that buffers carry as metadata (see `pipelines/elements/polypoverlay.md`); with one,
//! as in a live session, its owner draws. Nothing here waits and nothing pushes back; what goes wrong leaves the
//! picture as the source gave it.

mod imp;

use gstreamer as gst;
use gstreamer::glib;
use gstreamer::prelude::*;
use gstreamer::subclass::prelude::*;
use gstreamer_base as gst_base;

pub(super) use imp::LookSettings;
pub(crate) use imp::{PROCESSING, add_latency, flag, pad_templates, pass_allocation};

use super::frame_hook::FrameHook;

glib::wrapper! {
    /// The element; see the module.
    pub struct PolypOverlay(ObjectSubclass<imp::PolypOverlay>)
        @extends gst_base::BaseTransform, gst::Element, gst::Object;
}

impl PolypOverlay {
    /// An element without a hook: it draws what buffers carry as metadata.
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

pub(super) fn register(plugin: Option<&gst::Plugin>) -> Result<(), glib::BoolError> {
    gst::Element::register(plugin, "polypoverlay", gst::Rank::NONE, PolypOverlay::static_type())
}
