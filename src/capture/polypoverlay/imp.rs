//! The GStreamer side of the element: caps, latency, buffers.
//!
//! `settings` is what the user set, `state` what is happening; the state is locked by the streaming thread alone, and
//! by [`PolypOverlay::set_hook`] before the stream runs. Lock order: `state`, then `settings` for the length of a copy.
//! Under the state's lock no foreign code runs: the hook is ours, and buffers are only looked at and drawn on.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{LazyLock, Mutex};

use gstreamer as gst;
use gstreamer::glib;
use gstreamer::prelude::*;
use gstreamer::subclass::prelude::*;
use gstreamer_base as gst_base;
use gstreamer_base::prelude::*;
use gstreamer_base::subclass::base_transform::BaseTransformMode;
use gstreamer_base::subclass::prelude::*;
use gstreamer_video as gst_video;

use crate::capture::frame_hook::FrameHook;
use crate::capture::mask_meta::MASK;
use crate::capture::meta_marks::{Look, MetaMarks};
use crate::frame::{Nanos, PixelFormat};
use crate::lock::lock;
use crate::overlay::Style;
use crate::safety::MAX_MASK_AGE;

static CAT: LazyLock<gst::DebugCategory> = LazyLock::new(|| {
    gst::DebugCategory::new("polypoverlay", gst::DebugColorFlags::empty(), Some("polyp masks on live video"))
});

/// What the element's own work on a frame may take, as it answers a LATENCY query: sinks then do not take a frame for
/// late that is merely being drawn on.
pub(crate) const PROCESSING: gst::ClockTime = gst::ClockTime::from_mseconds(4);

/// A property that is on or off and may be changed at any time.
pub(crate) fn flag(name: &str, nick: &str, blurb: &str, default: bool) -> glib::ParamSpec {
    glib::ParamSpecBoolean::builder(name)
        .nick(nick)
        .blurb(blurb)
        .default_value(default)
        .mutable_playing()
        .build()
}

/// How marks look and what they are drawn from, as properties: the same on every element that draws.
#[derive(Clone, Debug)]
pub(in crate::capture) struct LookSettings(Look);

impl Default for LookSettings {
    fn default() -> Self {
        Self(Look { style: Style::default(), fill: true, max_mask_age: MAX_MASK_AGE, metadata: MASK.into() })
    }
}

impl LookSettings {
    pub(in crate::capture) fn look(&self) -> &Look {
        &self.0
    }

    pub(in crate::capture) fn properties() -> Vec<glib::ParamSpec> {
        let Look { style, fill, max_mask_age, metadata } = Self::default().0;
        vec![
            flag("fill", "Fill", "Whether the inside of a mask is tinted", fill),
            flag("outline", "Outline", "Whether a mask has a contour", style.outline),
            flag(
                "status",
                "Status",
                "Whether a small rectangle at the bottom left shows the state that the metadata tells",
                style.status,
            ),
            glib::ParamSpecUInt::builder("colour")
                .nick("Colour")
                .blurb("Colour of fill and contour as 0xRRGGBB")
                .maximum(0xff_ffff)
                .default_value(code(style.rgb))
                .mutable_playing()
                .build(),
            glib::ParamSpecDouble::builder("opacity")
                .nick("Opacity")
                .blurb("Opacity of the fill; the contour is opaque")
                .minimum(0.0)
                .maximum(1.0)
                .default_value(f64::from(style.alpha))
                .mutable_playing()
                .build(),
            glib::ParamSpecUInt64::builder("max-mask-age")
                .nick("Maximum mask age")
                .blurb("A mask made from a frame that is older than this, in nanoseconds, is not drawn")
                .default_value(max_mask_age.0)
                .mutable_playing()
                .build(),
            glib::ParamSpecString::builder("metadata")
                .nick("Metadata")
                .blurb("Name of the custom meta whose masks are drawn: PolypscopeMask, or PolypscopeTruth of polypphantomsrc")
                .default_value(Some(&*metadata))
                .mutable_playing()
                .build(),
        ]
    }

    /// Whether it is one of ours.
    pub(in crate::capture) fn set(&mut self, value: &glib::Value, name: &str) -> bool {
        let look = &mut self.0;
        match name {
            "fill" => look.fill = value.get().unwrap_or(look.fill),
            "outline" => look.style.outline = value.get().unwrap_or(look.style.outline),
            "status" => look.style.status = value.get().unwrap_or(look.style.status),
            "colour" => {
                let [_, rgb @ ..] = value.get().unwrap_or(code(look.style.rgb)).to_be_bytes();
                look.style.rgb = rgb;
            }
            "opacity" => look.style.alpha = value.get::<f64>().map_or(look.style.alpha, |v| v as f32),
            "max-mask-age" => look.max_mask_age = Nanos(value.get().unwrap_or(look.max_mask_age.0)),
            "metadata" => {
                let name = value.get::<Option<String>>().ok().flatten();
                look.metadata = name.as_deref().unwrap_or(MASK).into();
            }
            _ => return false,
        }
        true
    }

    pub(in crate::capture) fn get(&self, name: &str) -> Option<glib::Value> {
        let look = &self.0;
        Some(match name {
            "fill" => look.fill.to_value(),
            "outline" => look.style.outline.to_value(),
            "status" => look.style.status.to_value(),
            "colour" => code(look.style.rgb).to_value(),
            "opacity" => f64::from(look.style.alpha).to_value(),
            "max-mask-age" => look.max_mask_age.0.to_value(),
            "metadata" => look.metadata.as_ref().to_value(),
            _ => return None,
        })
    }
}

/// A colour as 0xRRGGBB.
fn code([r, g, b]: [u8; 3]) -> u32 {
    u32::from_be_bytes([0, r, g, b])
}

#[derive(Debug)]
struct Settings {
    latency: gst::ClockTime,
    look: LookSettings,
}

impl Default for Settings {
    fn default() -> Self {
        Self { latency: PROCESSING, look: LookSettings::default() }
    }
}

#[derive(Default)]
struct State {
    info: Option<gst_video::VideoInfo>,
    hook: Option<Box<dyn FrameHook>>,
    /// Draws where there is no hook.
    marks: MetaMarks,
    /// Frames in which the hook panicked.
    panics: u64,
}

#[derive(Default)]
pub struct PolypOverlay {
    settings: Mutex<Settings>,
    state: Mutex<State>,
}

/// Adds what an element's own work takes to the answer to a LATENCY query.
pub(crate) fn add_latency(query: &mut gst::QueryRef, ours: gst::ClockTime) {
    if let gst::QueryViewMut::Latency(latency) = query.view_mut() {
        let (live, min, max) = latency.result();
        latency.set(live, min + ours, max.map(|m| m + ours));
    }
}

/// Asks whoever comes next where buffers are to come from, as an element does that works in place, and lets buffers
/// have a layout of their own.
pub(crate) fn pass_allocation(element: &gst_base::BaseTransform, query: &mut gst::query::Allocation) {
    let _ = element.src_pad().peer_query(query.query_mut());
    if query.find_allocation_meta::<gst_video::VideoMeta>().is_none() {
        query.add_allocation_meta::<gst_video::VideoMeta>(None);
    }
}

/// The two pads of an element, always there.
pub(crate) fn pad_templates(sink: &gst::Caps, src: &gst::Caps) -> Vec<gst::PadTemplate> {
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

    /// A copy, so that the settings are not locked while it draws.
    fn look(&self) -> Look {
        lock(&self.settings).look.look().clone()
    }

    pub(super) fn set_hook(&self, hook: Box<dyn FrameHook>) {
        lock(&self.state).hook = Some(hook);
    }
}

#[glib::object_subclass]
impl ObjectSubclass for PolypOverlay {
    const NAME: &'static str = "GstPolypOverlay";
    type Type = super::PolypOverlay;
    type ParentType = gst_base::BaseTransform;
}

impl ObjectImpl for PolypOverlay {
    fn properties() -> &'static [glib::ParamSpec] {
        static PROPERTIES: LazyLock<Vec<glib::ParamSpec>> = LazyLock::new(|| {
            let mut all = LookSettings::properties();
            all.push(
                glib::ParamSpecUInt64::builder("processing-latency")
                    .nick("Processing latency")
                    .blurb("What the element's work on a frame may take, in nanoseconds")
                    .maximum(1_000_000_000)
                    .default_value(PROCESSING.nseconds())
                    .mutable_ready()
                    .build(),
            );
            all
        });
        PROPERTIES.as_ref()
    }

    fn set_property(&self, _id: usize, value: &glib::Value, pspec: &glib::ParamSpec) {
        let mut settings = lock(&self.settings);
        if !settings.look.set(value, pspec.name())
            && let Ok(ns) = value.get::<u64>()
        {
            settings.latency = gst::ClockTime::from_nseconds(ns);
        }
    }

    fn property(&self, _id: usize, pspec: &glib::ParamSpec) -> glib::Value {
        let settings = lock(&self.settings);
        settings.look.get(pspec.name()).unwrap_or_else(|| settings.latency.nseconds().to_value())
    }
}

impl GstObjectImpl for PolypOverlay {}

impl ElementImpl for PolypOverlay {
    fn metadata() -> Option<&'static gst::subclass::ElementMetadata> {
        static METADATA: LazyLock<gst::subclass::ElementMetadata> = LazyLock::new(|| {
            gst::subclass::ElementMetadata::new(
                "Polyp overlay",
                "Filter/Effect/Video",
                "Draws masks that buffers carry as metadata on the picture, and changes no other pixel",
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

    fn propose_allocation(
        &self,
        _decided: Option<&gst::query::Allocation>,
        query: &mut gst::query::Allocation,
    ) -> Result<(), gst::LoggableError> {
        pass_allocation(self.obj().upcast_ref(), query);
        Ok(())
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
        let State { info, hook, marks, panics } = &mut *state;
        let Some(info) = info.as_ref() else { return Ok(gst::FlowSuccess::Ok) };
        // A fault of ours must not become the stream's: the picture goes on as it is.
        let outcome = catch_unwind(AssertUnwindSafe(|| match hook {
            Some(hook) => hook.in_place(buffer, info),
            None => marks.in_place(buffer, info, &self.look()),
        }));
        match outcome {
            Ok(Ok(())) => {}
            Ok(Err(e)) => gst::debug!(CAT, imp = self, "frame passed on untouched: {e}"),
            Err(_) => {
                *panics += 1;
                match hook {
                    Some(hook) => hook.panicked(),
                    None => *marks = MetaMarks::default(),
                }
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
