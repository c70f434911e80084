//! `polypkey`: draws masks on a transparent picture of their own instead of the live one.
//!
//! In: raw video in any of our layouts. Out: the marks alone, of the masks that buffers carry as metadata or, in a live
//! session, what the element's [`FrameHook`] drew, as BGRA with colours multiplied by their opacity, for a card that
//! keys it over the signal itself: the picture then does not pass through this machine at all.

mod imp;

use gstreamer as gst;
use gstreamer::glib;
use gstreamer::prelude::*;
use gstreamer::subclass::prelude::*;
use gstreamer_base as gst_base;

use super::frame_hook::FrameHook;

glib::wrapper! {
    /// The element; see the module.
    pub struct PolypKey(ObjectSubclass<imp::PolypKey>)
        @extends gst_base::BaseTransform, gst::Element, gst::Object;
}

impl PolypKey {
    /// An element without a hook: it draws what buffers carry as metadata.
    pub fn new() -> Self {
        glib::Object::new()
    }

    /// From now on frames go through this hook. A frame that is in the element is finished first.
    pub fn set_hook(&self, hook: Box<dyn FrameHook>) {
        self.imp().set_hook(hook);
    }

    /// The picture that comes in, once its caps are known.
    pub fn picture_info(&self) -> Option<crate::frame::PictureInfo> {
        self.imp().picture_info()
    }
}

impl Default for PolypKey {
    fn default() -> Self {
        Self::new()
    }
}

pub(super) fn register(plugin: Option<&gst::Plugin>) -> Result<(), glib::BoolError> {
    gst::Element::register(plugin, "polypkey", gst::Rank::NONE, PolypKey::static_type())
}
