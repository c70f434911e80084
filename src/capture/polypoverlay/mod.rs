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
mod key;
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

glib::wrapper! {
    /// `polypkey`: the same work, but what goes on is the marks alone, as BGRA with colours multiplied by their opacity, for a
    /// card that keys them over the signal itself: the picture then does not pass through this machine at all.
    pub struct PolypKey(ObjectSubclass<key::PolypKey>)
        @extends gst_base::BaseTransform, gst::Element, gst::Object;
}

impl PolypKey {
    /// An element that is not yet wired to anything: its key is transparent.
    pub fn new() -> Self {
        glib::Object::new()
    }
}

impl Default for PolypKey {
    fn default() -> Self {
        Self::new()
    }
}

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

    /// Gives the element its workers, masks and telemetry.
    pub fn wire(&self, wiring: Wiring) {
        match self {
            Marker::Overlay(e) => e.wire(wiring),
            Marker::Key(e) => e.imp().wire(wiring),
        }
    }

    /// The picture that comes in, once its caps are known.
    pub fn picture_info(&self) -> Option<crate::frame::PictureInfo> {
        match self {
            Marker::Overlay(e) => e.picture_info(),
            Marker::Key(e) => e.imp().picture_info(),
        }
    }

    pub fn element(&self) -> &gst::Element {
        match self {
            Marker::Overlay(e) => e.upcast_ref(),
            Marker::Key(e) => e.upcast_ref(),
        }
    }
}

pub(super) fn register() -> Result<(), glib::BoolError> {
    gst::Element::register(None, "polypoverlay", gst::Rank::NONE, PolypOverlay::static_type())?;
    gst::Element::register(None, "polypkey", gst::Rank::NONE, PolypKey::static_type())
}
