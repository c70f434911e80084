//! `polypkey`'s GStreamer side: any of our layouts in, BGRA of the same size out.
//!
//! The state is locked by the streaming thread alone, and by `set_hook` before the stream runs. Lock order: state,
//! then settings for the length of a copy.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{LazyLock, Mutex, MutexGuard};

use gstreamer as gst;
use gstreamer::glib;
use gstreamer::prelude::*;
use gstreamer::subclass::prelude::*;
use gstreamer_base as gst_base;
use gstreamer_base::subclass::base_transform::BaseTransformMode;
use gstreamer_base::subclass::prelude::*;
use gstreamer_video as gst_video;

use crate::capture::frame_hook::FrameHook;
use crate::capture::meta_marks::{Look, MetaMarks};
use crate::capture::polypoverlay::{LookSettings, PROCESSING, add_latency, pad_templates};
use crate::frame::PixelFormat;
use crate::lock::lock;

static CAT: LazyLock<gst::DebugCategory> = LazyLock::new(|| {
    gst::DebugCategory::new("polypkey", gst::DebugColorFlags::empty(), Some("polyp masks as a key"))
});

#[derive(Default)]
struct State {
    /// What comes in and what goes out.
    infos: Option<(gst_video::VideoInfo, gst_video::VideoInfo)>,
    hook: Option<Box<dyn FrameHook>>,
    /// Draws where there is no hook.
    marks: MetaMarks,
    panics: u64,
}

#[derive(Default)]
pub struct PolypKey {
    settings: Mutex<LookSettings>,
    state: Mutex<State>,
}

impl PolypKey {
    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// A copy, so that the settings are not locked while it draws.
    fn look(&self) -> Look {
        lock(&self.settings).look().clone()
    }

    pub(super) fn picture_info(&self) -> Option<crate::frame::PictureInfo> {
        crate::capture::picture_info(&self.state().infos.as_ref()?.0, None).ok()
    }

    pub(super) fn set_hook(&self, hook: Box<dyn FrameHook>) {
        self.state().hook = Some(hook);
    }
}

#[glib::object_subclass]
impl ObjectSubclass for PolypKey {
    const NAME: &'static str = "GstPolypKey";
    type Type = super::PolypKey;
    type ParentType = gst_base::BaseTransform;
}

impl ObjectImpl for PolypKey {
    fn properties() -> &'static [glib::ParamSpec] {
        static PROPERTIES: LazyLock<Vec<glib::ParamSpec>> = LazyLock::new(LookSettings::properties);
        PROPERTIES.as_ref()
    }

    fn set_property(&self, _id: usize, value: &glib::Value, pspec: &glib::ParamSpec) {
        lock(&self.settings).set(value, pspec.name());
    }

    fn property(&self, _id: usize, pspec: &glib::ParamSpec) -> glib::Value {
        lock(&self.settings).get(pspec.name()).unwrap_or_else(|| false.to_value())
    }
}

impl GstObjectImpl for PolypKey {}

/// BGRA of any size.
fn key_caps() -> gst::Caps {
    gst_video::VideoCapsBuilder::new().format(gst_video::VideoFormat::Bgra).build()
}

impl ElementImpl for PolypKey {
    fn metadata() -> Option<&'static gst::subclass::ElementMetadata> {
        static METADATA: LazyLock<gst::subclass::ElementMetadata> = LazyLock::new(|| {
            gst::subclass::ElementMetadata::new(
                "Polyp key",
                "Filter/Effect/Video",
                "Passes on the masks that buffers carry as metadata, alone, as BGRA to be keyed over the picture",
                "Polypscope",
            )
        });
        Some(&*METADATA)
    }

    fn pad_templates() -> &'static [gst::PadTemplate] {
        static TEMPLATES: LazyLock<Vec<gst::PadTemplate>> =
            LazyLock::new(|| pad_templates(&crate::capture::raw_caps(&PixelFormat::ALL), &key_caps()));
        TEMPLATES.as_ref()
    }
}

impl BaseTransformImpl for PolypKey {
    const MODE: BaseTransformMode = BaseTransformMode::NeverInPlace;
    const PASSTHROUGH_ON_SAME_CAPS: bool = false;
    const TRANSFORM_IP_ON_PASSTHROUGH: bool = false;

    /// Size, rate and interlacing stay; the layout does not.
    fn transform_caps(
        &self,
        direction: gst::PadDirection,
        caps: &gst::Caps,
        filter: Option<&gst::Caps>,
    ) -> Option<gst::Caps> {
        let formats = if direction == gst::PadDirection::Sink {
            key_caps()
        } else {
            crate::capture::raw_caps(&PixelFormat::ALL)
        };
        let format = formats.structure(0)?.value("format").ok()?.clone();
        let mut other = caps.clone();
        for s in other.make_mut().iter_mut() {
            s.set_value("format", format.clone());
            // They belong to the layout.
            s.remove_fields(["colorimetry", "chroma-site"]);
        }
        Some(match filter {
            Some(filter) => filter.intersect_with_mode(&other, gst::CapsIntersectMode::First),
            None => other,
        })
    }

    fn unit_size(&self, caps: &gst::Caps) -> Option<usize> {
        gst_video::VideoInfo::from_caps(caps).ok().map(|i| i.size())
    }

    fn set_caps(&self, caps: &gst::Caps, out: &gst::Caps) -> Result<(), gst::LoggableError> {
        let info = |c: &gst::Caps| {
            crate::capture::colour_description::video_info(c)
                .map_err(|_| gst::loggable_error!(CAT, "caps without a picture: {c}"))
        };
        let (info, key) = (info(caps)?, info(out)?);
        let mut state = self.state();
        if let Some(hook) = &mut state.hook {
            hook.format(&info);
        }
        state.infos = Some((info, key));
        Ok(())
    }

    fn query(&self, direction: gst::PadDirection, query: &mut gst::QueryRef) -> bool {
        if !BaseTransformImplExt::parent_query(self, direction, query) {
            return false;
        }
        add_latency(query, PROCESSING);
        true
    }

    fn sink_event(&self, event: gst::Event) -> bool {
        if let gst::EventView::FlushStop(_) = event.view()
            && let Some(hook) = &mut self.state().hook
        {
            hook.flushed();
        }
        self.parent_sink_event(event)
    }

    fn transform(
        &self,
        buffer: &gst::Buffer,
        key: &mut gst::BufferRef,
    ) -> Result<gst::FlowSuccess, gst::FlowError> {
        let mut state = self.state();
        let State { infos, hook, marks, panics } = &mut *state;
        let done = match infos.as_ref() {
            Some((info, key_info)) => {
                let outcome = catch_unwind(AssertUnwindSafe(|| match hook {
                    Some(hook) => hook.key(buffer, info, key, key_info),
                    None => marks.key(buffer, info, key, key_info, &self.look()),
                }));
                if outcome.is_err() {
                    *panics += 1;
                    match hook {
                        Some(hook) => hook.panicked(),
                        None => *marks = MetaMarks::default(),
                    }
                    gst::error!(CAT, imp = self, "the key panicked ({panics} times); it stays transparent");
                }
                matches!(outcome, Ok(Ok(())))
            }
            _ => false,
        };
        if !done && let Ok(mut map) = key.map_writable() {
            // Over the endoscope's picture nothing may lie that nobody drew.
            map.as_mut_slice().fill(0);
        }
        Ok(gst::FlowSuccess::Ok)
    }
}
