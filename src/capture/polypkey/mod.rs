//! `polypkey`: lets its owner draw on a transparent picture of its own instead of the live one.
//!
//! In: raw video in any of our layouts. Out: what the element's [`FrameHook`] drew, alone, as BGRA with colours multiplied by
//! their opacity, for a card that keys it over the signal itself: the picture then does not pass through this machine at all.

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
    /// An element without a hook: its key is transparent.
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

pub(super) fn register() -> Result<(), glib::BoolError> {
    gst::Element::register(None, "polypkey", gst::Rank::NONE, PolypKey::static_type())
}
