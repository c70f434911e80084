//! The elements as a GStreamer plugin that any program can load.
//!
//! In: GStreamer, which loads the file and asks for [`plugin_desc`]. Out: four elements. Loading does nothing but say
//! which they are: no thread, no file, no device is touched before an element starts, since GStreamer's scanner runs
//! this in a helper process for every user of the machine, and a plugin that fails or takes long there is put on a list
//! and never looked at again. Nothing of the process that loads it is changed: no log handler, no ranks, no signal.
//!
//! The file is made from this library as it is: `make plugin`.

// Nothing panics on a streaming thread.
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::unreachable))]
// What `plugin_define!` makes here takes no documentation.
#![allow(missing_docs)]

mod polypsegment;

use gstreamer as gst;
use gstreamer::glib;

pub use polypsegment::PolypSegment;

fn plugin_init(plugin: &gst::Plugin) -> Result<(), glib::BoolError> {
    crate::capture::register_elements(Some(plugin))?;
    polypsegment::register(Some(plugin))
}

// The licence as GStreamer knows it; it does not know Apache-2.0, which may be chosen as well.
gst::plugin_define!(
    polypscope,
    "Polyp segmentation for colonoscopy video",
    plugin_init,
    env!("CARGO_PKG_VERSION"),
    "MIT/X11",
    env!("CARGO_PKG_NAME"),
    env!("CARGO_PKG_NAME"),
    env!("CARGO_PKG_NAME")
);

#[cfg(test)]
#[cfg(feature = "video-tests")]
mod tests;

#[cfg(test)]
#[cfg(not(feature = "video-tests"))]
#[test]
fn elements_one_by_one() {
    crate::skipped::skip("video-tests", "the tests were built without the feature video-tests");
}
