//! The GStreamer side of the element: caps, latency, buffers.
//!
//! `settings` is what the user set, `state` what is happening; the state is locked by the streaming thread alone, and by
//! [`PolypOverlay::set_hook`] before the stream runs. Lock order: never both.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{LazyLock, Mutex};

use gstreamer as gst;
use gstreamer::glib;
use gstreamer::prelude::*;
use gstreamer::subclass::prelude::*;
use gstreamer_base as gst_base;
use gstreamer_base::subclass::base_transform::BaseTransformMode;
use gstreamer_base::subclass::prelude::*;
use gstreamer_video as gst_video;

use crate::capture::frame_hook::FrameHook;
use crate::frame::PixelFormat;
use crate::lock::lock;

static CAT: LazyLock<gst::DebugCategory> = LazyLock::new(|| {
    gst::DebugCategory::new("polypoverlay", gst::DebugColorFlags::empty(), Some("polyp masks on live video"))
});

/// What the element's own work on a frame may take, as it answers a LATENCY query: sinks then do not take a frame for
/// late that is merely being drawn on.
pub(in crate::capture) const PROCESSING: gst::ClockTime = gst::ClockTime::from_mseconds(4);

#[derive(Debug)]
struct Settings {
    latency: gst::ClockTime,
}

impl Default for Settings {
    fn default() -> Self {
        Self { latency: PROCESSING }
    }
}

#[derive(Default)]
struct State {
    info: Option<gst_video::VideoInfo>,
    hook: Option<Box<dyn FrameHook>>,
    /// Frames in which the hook panicked.
    panics: u64,
}

#[derive(Default)]
pub struct PolypOverlay {
    settings: Mutex<Settings>,
    state: Mutex<State>,
}

/// Adds what an element's own work takes to the answer to a LATENCY query.
pub(in crate::capture) fn add_latency(query: &mut gst::QueryRef, ours: gst::ClockTime) {
    if let gst::QueryViewMut::Latency(latency) = query.view_mut() {
        let (live, min, max) = latency.result();
        latency.set(live, min + ours, max.map(|m| m + ours));
    }
}

/// The two pads of an element, always there.
pub(in crate::capture) fn pad_templates(sink: &gst::Caps, src: &gst::Caps) -> Vec<gst::PadTemplate> {
    [("sink", gst::PadDirection::Sink, sink), ("src", gst::PadDirection::Src, src)]
        .into_iter()
        .filter_map(|(name, direction, caps)| {
            gst::PadTemplate::new(name, direction, gst::PadPresence::Always, caps).ok()
        })
        .collect()
}

impl PolypOverlay {
    pub(super) fn picture_info(&self) -> Option<crate::frame::PictureInfo> {
        crate::capture::picture_info(lock(&self.state).info.as_ref()?, None).ok()
    }

    pub(super) fn set_hook(&self, hook: Box<dyn FrameHook>) {
        lock(&self.state).hook = Some(hook);
    }
}

#[glib::object_subclass]
impl ObjectSubclass for PolypOverlay {
    const NAME: &'static str = "PolypOverlay";
    type Type = super::PolypOverlay;
    type ParentType = gst_base::BaseTransform;
}

impl ObjectImpl for PolypOverlay {
    fn properties() -> &'static [glib::ParamSpec] {
        static PROPERTIES: LazyLock<Vec<glib::ParamSpec>> = LazyLock::new(|| {
            vec![
                glib::ParamSpecUInt64::builder("processing-latency")
                    .nick("Processing latency")
                    .blurb("What the element's work on a frame may take, in nanoseconds")
                    .maximum(1_000_000_000)
                    .default_value(PROCESSING.nseconds())
                    .mutable_ready()
                    .build(),
            ]
        });
        PROPERTIES.as_ref()
    }

    fn set_property(&self, _id: usize, value: &glib::Value, pspec: &glib::ParamSpec) {
        if pspec.name() == "processing-latency"
            && let Ok(ns) = value.get::<u64>()
        {
            lock(&self.settings).latency = gst::ClockTime::from_nseconds(ns);
        }
    }

    fn property(&self, _id: usize, _pspec: &glib::ParamSpec) -> glib::Value {
        lock(&self.settings).latency.nseconds().to_value()
    }
}

impl GstObjectImpl for PolypOverlay {}

impl ElementImpl for PolypOverlay {
    fn metadata() -> Option<&'static gst::subclass::ElementMetadata> {
        static METADATA: LazyLock<gst::subclass::ElementMetadata> = LazyLock::new(|| {
            gst::subclass::ElementMetadata::new(
                "Polyp overlay",
                "Filter/Effect/Video",
                "Hands frames to a segmentation worker and draws its newest mask in place, without ever waiting",
                "Polypscope",
            )
        });
        Some(&*METADATA)
    }

    fn pad_templates() -> &'static [gst::PadTemplate] {
        static TEMPLATES: LazyLock<Vec<gst::PadTemplate>> = LazyLock::new(|| {
            let caps = crate::capture::raw_caps(&PixelFormat::ALL);
            pad_templates(&caps, &caps)
        });
        TEMPLATES.as_ref()
    }
}

impl BaseTransformImpl for PolypOverlay {
    const MODE: BaseTransformMode = BaseTransformMode::AlwaysInPlace;
    const PASSTHROUGH_ON_SAME_CAPS: bool = false;
    const TRANSFORM_IP_ON_PASSTHROUGH: bool = false;

    fn set_caps(&self, caps: &gst::Caps, _out: &gst::Caps) -> Result<(), gst::LoggableError> {
        let info = crate::capture::colour_description::video_info(caps)
            .map_err(|_| gst::loggable_error!(CAT, "caps without a picture: {caps}"))?;
        let mut state = lock(&self.state);
        if let Some(hook) = &mut state.hook {
            hook.format(&info);
        }
        state.info = Some(info);
        Ok(())
    }

    fn query(&self, direction: gst::PadDirection, query: &mut gst::QueryRef) -> bool {
        if !BaseTransformImplExt::parent_query(self, direction, query) {
            return false;
        }
        add_latency(query, lock(&self.settings).latency);
        true
    }

    fn sink_event(&self, event: gst::Event) -> bool {
        if let gst::EventView::FlushStop(_) = event.view() {
            let mut state = lock(&self.state);
            if let Some(hook) = &mut state.hook {
                hook.flushed();
            }
        }
        self.parent_sink_event(event)
    }

    fn transform_ip(&self, buffer: &mut gst::BufferRef) -> Result<gst::FlowSuccess, gst::FlowError> {
        let mut state = lock(&self.state);
        let State { info, hook, panics } = &mut *state;
        let (Some(info), Some(hook)) = (info.as_ref(), hook.as_mut()) else {
            return Ok(gst::FlowSuccess::Ok);
        };
        // A fault of ours must not become the stream's: the picture goes on as it is.
        let outcome = catch_unwind(AssertUnwindSafe(|| hook.in_place(buffer, info)));
        match outcome {
            Ok(Ok(())) => {}
            Ok(Err(e)) => gst::debug!(CAT, imp = self, "frame passed on untouched: {e}"),
            Err(_) => {
                *panics += 1;
                hook.panicked();
                gst::error!(
                    CAT,
                    imp = self,
                    "the overlay panicked ({panics} times); the picture goes on clean"
                );
            }
        }
        Ok(gst::FlowSuccess::Ok)
    }
}
