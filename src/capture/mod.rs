//! Everything GStreamer: recordings, folders of pictures and live pipelines in, encoded video out.
//!
//! In: files and cameras. Out: decoded frames in the source's own pixel layout, each with its identity and time; and,
//! the other way, frames into an encoded file with the source's timestamps and sound. What is to be done with a live
//! frame comes in as a [`FrameHook`]. Knows nothing of the network.

// Nothing panics on a streaming thread.
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::unreachable))]

mod access_units;
mod address;
mod analytics;
mod colour_description;
mod complaints;
mod content;
mod encoder;
mod facts;
mod frame;
mod frame_hook;
mod ledger;
mod loss;
mod mapping;
mod marker;
mod mask_entry;
mod mask_meta;
mod messages;
mod meta_marks;
mod packets;
mod phantom;
mod pipeline;
mod polypkey;
mod polypoverlay;
mod polypphantomsrc;
mod recorder;
mod recording;
mod source;
mod stills;
mod structure;

pub(crate) use colour_description::video_info;
pub use complaints::hear_decoders;
pub use encoder::{Encoder, EncoderSettings};
pub use facts::{AudioFacts, Facts};
pub use frame::Frame;
pub use frame_hook::FrameHook;
pub(crate) use loss::lost_frames;
pub use loss::{Loss, LossReason};
pub use mapping::picture_of;
pub(crate) use mapping::{draw_as, draw_on, picture_info};
pub use marker::Marker;
pub(crate) use mask_entry::{MaskEntry, MaskPixels, Region};
pub(crate) use mask_meta::{MASK, attach, describe_pixels, register_metas};
pub use phantom::PhantomSource;
pub use pipeline::{
    Launch, LivePipeline, Notice, Parameter, PipelineFile, Ready, SourceCause, SourceEnd, SourceFault,
};
pub use polypkey::PolypKey;
pub use polypoverlay::PolypOverlay;
pub(crate) use polypoverlay::{PROCESSING, add_latency, flag, pad_templates, pass_allocation};
pub use polypphantomsrc::PolypPhantomSrc;
pub use recorder::{Recorder, RecorderSettings, RecorderStatus, Track};
pub use recording::Recording;
pub use source::{
    Discovered, Ended, Input, Next, SkipReason, Skipped, SoundPacket, Source, Span, discover, discover_inputs,
};
pub(crate) use source::{contents, is_named_as_video};
pub use stills::Stills;
pub use structure::Structure;

use std::sync::OnceLock;

use crate::frame::PixelFormat;
use crate::{Error, Result};

/// Elements the replay needs, and the Debian package each comes in.
pub const NEEDED: &[(&str, &str)] = &[
    ("filesrc", "libgstreamer1.0-0"),
    ("parsebin", "gstreamer1.0-plugins-base"),
    ("decodebin", "gstreamer1.0-plugins-base"),
    ("videoconvert", "gstreamer1.0-plugins-base"),
    ("videoscale", "gstreamer1.0-plugins-base"),
    ("appsink", "gstreamer1.0-plugins-base"),
    ("appsrc", "gstreamer1.0-plugins-base"),
    ("videoflip", "gstreamer1.0-plugins-good"),
    ("qtdemux", "gstreamer1.0-plugins-good"),
    ("matroskademux", "gstreamer1.0-plugins-good"),
    ("avidemux", "gstreamer1.0-plugins-good"),
    ("jpegdec", "gstreamer1.0-plugins-good"),
    ("vp9dec", "gstreamer1.0-plugins-good"),
    ("splitmuxsink", "gstreamer1.0-plugins-good"),
    ("mp4mux", "gstreamer1.0-plugins-good"),
    ("matroskamux", "gstreamer1.0-plugins-good"),
    ("tsdemux", "gstreamer1.0-plugins-bad"),
    ("h264parse", "gstreamer1.0-plugins-bad"),
    ("h265parse", "gstreamer1.0-plugins-bad"),
    ("x264enc", "gstreamer1.0-plugins-ugly"),
    ("avdec_h264", "gstreamer1.0-libav"),
    ("avdec_h265", "gstreamer1.0-libav"),
    ("avdec_mpeg2video", "gstreamer1.0-libav"),
    ("avdec_mpeg4", "gstreamer1.0-libav"),
];

/// Starts GStreamer once. Its own chatter and GLib's are silenced unless `RUST_LOG`/`GST_DEBUG` or `-v` ask for them.
///
/// # Errors
/// A GStreamer that does not start.
pub fn init() -> Result<()> {
    static STARTED: OnceLock<std::result::Result<(), String>> = OnceLock::new();
    STARTED
        .get_or_init(|| {
            gstreamer::init().map_err(|e| e.to_string())?;
            register_elements(None).map_err(|e| e.to_string())?;
            pipeline::lower_ranks();
            gstreamer::glib::log_set_default_handler(|domain, level, text| {
                let text = address::without_secrets(text, &[]);
                tracing::debug!(domain = domain.unwrap_or(""), ?level, "{text}");
            });
            Ok(())
        })
        .clone()
        .map_err(|e| {
            Error::machine(format!("GStreamer does not start ({e})")).remedy("run `polypscope doctor`")
        })
}

/// Makes our elements known to GStreamer: in this process, or as part of a plugin. Does nothing else.
///
/// # Errors
/// An element that cannot be registered.
pub(crate) fn register_elements(
    plugin: Option<&gstreamer::Plugin>,
) -> std::result::Result<(), gstreamer::glib::BoolError> {
    register_metas();
    polypoverlay::register(plugin)?;
    polypkey::register(plugin)?;
    polypphantomsrc::register(plugin)
}

/// Raw video in these layouts, of any size and rate.
pub(crate) fn raw_caps(formats: &[PixelFormat]) -> gstreamer::Caps {
    gstreamer_video::VideoCapsBuilder::new()
        .format_list(formats.iter().map(|f| gstreamer_video::VideoFormat::from_string(f.caps_name())))
        .build()
}

/// Makes an element, or says which package it comes in.
pub(crate) fn element(name: &str) -> Result<gstreamer::Element> {
    gstreamer::ElementFactory::make(name).build().map_err(|e| {
        let package = NEEDED.iter().find(|(n, _)| *n == name).map(|(_, p)| *p);
        let error = Error::machine(format!("GStreamer has no element {name}")).because(e);
        match package {
            Some(p) => error.remedy(format!("install it with `apt-get install {p}`")),
            None => error.remedy("run `polypscope doctor` to see what is missing"),
        }
    })
}
