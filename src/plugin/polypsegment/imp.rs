//! The GStreamer side of `polypsegment`: properties, states, events, queries, buffers.
//!
//! `settings` is what the user set, `state` what is happening, `figures` what was counted. The state is locked by the
//! streaming thread, and by start, stop and a flush's end, none of which run beside it. Lock order: `state`, then
//! `figures`; `settings` and `kept` alone. Under a lock no foreign code runs: messages are posted and events passed on
//! when it is free.

use std::os::unix::ffi::OsStrExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::SystemTime;

use gstreamer as gst;
use gstreamer::glib;
use gstreamer::prelude::*;
use gstreamer::subclass::prelude::*;
use gstreamer_base as gst_base;
use gstreamer_base::prelude::*;
use gstreamer_base::subclass::base_transform::BaseTransformMode;
use gstreamer_base::subclass::prelude::*;
use gstreamer_video as gst_video;

use super::figures::Figures;
use super::kept_network::NetworkCache;
use super::session::{self, BuildAnalyzer, Passing, Session, Stopped, Told};
use super::settings::Settings;
use crate::Result;
use crate::capture::{PROCESSING, add_latency, pad_templates, pass_allocation, raw_caps, video_info};
use crate::frame::PixelFormat;
use crate::lock::lock;
use crate::model::Checkpoint;

static CAT: LazyLock<gst::DebugCategory> = LazyLock::new(|| {
    gst::DebugCategory::new("polypsegment", gst::DebugColorFlags::empty(), Some("polyp masks as metadata"))
});

#[derive(Default)]
struct State {
    info: Option<gst_video::VideoInfo>,
    session: Option<Session>,
    /// Our own code failed: frames pass as they came until the next start.
    given_up: bool,
}

/// What is kept from one start to the next, and what it was made of.
#[derive(Default)]
struct Kept {
    path: PathBuf,
    written: Option<SystemTime>,
    checkpoint: Option<Checkpoint>,
    built_for: Option<Settings>,
    cache: NetworkCache,
}

#[derive(Default)]
pub struct PolypSegment {
    settings: Mutex<Settings>,
    state: Mutex<State>,
    figures: Mutex<Figures>,
    /// So that a pipeline that is stopped and started neither reads nor builds again; locked by state changes alone.
    kept: Mutex<Kept>,
    /// A frame that waits for its mask must give up.
    interrupted: AtomicBool,
    /// Frames of an earlier running time are late already, in nanoseconds.
    earliest: AtomicU64,
    /// The longest that a frame waited for its mask, and some more, in nanoseconds.
    waited: Arc<AtomicU64>,
    /// Somebody else's network, in a test.
    #[cfg(test)]
    #[cfg(feature = "video-tests")]
    analyzer: Mutex<Option<Arc<BuildAnalyzer>>>,
}

impl PolypSegment {
    #[cfg(test)]
    #[cfg(feature = "video-tests")]
    pub(super) fn stand_in(&self, build: Arc<BuildAnalyzer>) {
        *lock(&self.analyzer) = Some(build);
    }

    /// What builds the analyzer, and the threshold that it has by itself.
    fn network(&self, settings: &Settings) -> Result<(Arc<BuildAnalyzer>, f64)> {
        #[cfg(test)]
        #[cfg(feature = "video-tests")]
        if let Some(build) = lock(&self.analyzer).clone() {
            return Ok((build, 0.5));
        }
        let path = {
            let library = own_file();
            Checkpoint::locate_beside(
                settings.weights.as_deref(),
                library.as_deref(),
                "the property weights",
            )?
        };
        let written = std::fs::metadata(&path).and_then(|m| m.modified()).ok();
        let mut kept = lock(&self.kept);
        if kept.written.is_none() || (&kept.path, kept.written) != (&path, written) {
            *kept = Kept { path, written, ..Kept::default() };
        }
        let checkpoint = match &kept.checkpoint {
            Some(checkpoint) => checkpoint.clone(),
            None => Checkpoint::open(&kept.path)?,
        };
        kept.checkpoint = Some(checkpoint.clone());
        // A network of other settings is of no use.
        if kept.built_for.as_ref().is_none_or(|s| !s.same_network(settings)) {
            (kept.built_for, kept.cache) = (Some(settings.clone()), NetworkCache::default());
        }
        let threshold = checkpoint.description().threshold;
        Ok((session::network(settings, checkpoint, &kept.cache)?, threshold))
    }

    /// What a LATENCY query is answered.
    fn latency(&self) -> gst::ClockTime {
        let waited = gst::ClockTime::from_nseconds(self.waited.load(Ordering::Relaxed));
        if lock(&self.settings).sync { waited.max(PROCESSING) } else { PROCESSING }
    }

    /// Says on the bus what happened; no lock is held.
    fn tell(&self, told: Told) {
        if let Some((from, to, reason)) = told.change {
            let structure = gst::Structure::builder("polypscope-state")
                .field("from", from.name())
                .field("state", to.name())
                .field("reason", reason.name())
                .field("frame", told.frame)
                .build();
            gst::info!(CAT, imp = self, "{from} → {to}: {reason}");
            let message = gst::message::Element::builder(structure).src(&*self.obj()).build();
            let _ = self.obj().post_message(message);
        }
        if let Some(trouble) = told.trouble {
            gst::element_imp_warning!(
                self,
                gst::LibraryError::Failed,
                ("{trouble}"),
                ["frames pass without a mask"]
            );
        }
        if told.latency {
            let message = gst::message::Latency::builder().src(&*self.obj()).build();
            let _ = self.obj().post_message(message);
        }
    }
}

/// The file that this code was loaded from.
fn own_file() -> Option<PathBuf> {
    // SAFETY: `dladdr` fills the structure where it succeeds; the address is that of a function of ours, and the name
    // that it points to belongs to the loader and stays as long as the library does.
    unsafe {
        let mut info: libc::Dl_info = std::mem::zeroed();
        let ours = own_file as fn() -> Option<PathBuf> as *const libc::c_void;
        if libc::dladdr(ours, &mut info) == 0 || info.dli_fname.is_null() {
            return None;
        }
        let name = std::ffi::CStr::from_ptr(info.dli_fname);
        std::fs::canonicalize(std::ffi::OsStr::from_bytes(name.to_bytes())).ok()
    }
}

#[glib::object_subclass]
impl ObjectSubclass for PolypSegment {
    const NAME: &'static str = "GstPolypSegment";
    type Type = super::PolypSegment;
    type ParentType = gst_base::BaseTransform;
}

impl ObjectImpl for PolypSegment {
    fn properties() -> &'static [glib::ParamSpec] {
        static PROPERTIES: LazyLock<Vec<glib::ParamSpec>> = LazyLock::new(Settings::properties);
        PROPERTIES.as_ref()
    }

    fn set_property(&self, _id: usize, value: &glib::Value, pspec: &glib::ParamSpec) {
        lock(&self.settings).set(pspec.name(), value);
    }

    fn property(&self, _id: usize, pspec: &glib::ParamSpec) -> glib::Value {
        let set = lock(&self.settings).get(pspec.name());
        set.unwrap_or_else(|| {
            let latency = self.latency();
            let mut figures = lock(&self.figures).clone();
            figures.latency = latency;
            figures.structure().to_value()
        })
    }
}

impl GstObjectImpl for PolypSegment {}

impl ElementImpl for PolypSegment {
    fn metadata() -> Option<&'static gst::subclass::ElementMetadata> {
        static METADATA: LazyLock<gst::subclass::ElementMetadata> = LazyLock::new(|| {
            gst::subclass::ElementMetadata::new(
                "Polyp segmentation",
                "Filter/Analyzer/Video",
                "Attaches the newest mask of a segmentation network to every frame, and never holds a frame up",
                "Polypscope",
            )
        });
        Some(&*METADATA)
    }

    fn pad_templates() -> &'static [gst::PadTemplate] {
        static TEMPLATES: LazyLock<Vec<gst::PadTemplate>> = LazyLock::new(|| {
            let caps = raw_caps(&PixelFormat::ALL);
            pad_templates(&caps, &caps)
        });
        TEMPLATES.as_ref()
    }

    fn change_state(
        &self,
        transition: gst::StateChange,
    ) -> std::result::Result<gst::StateChangeSuccess, gst::StateChangeError> {
        match transition {
            gst::StateChange::ReadyToPaused => self.interrupted.store(false, Ordering::Relaxed),
            // The streaming thread must be free before its pads can be stopped.
            gst::StateChange::PausedToReady => self.interrupted.store(true, Ordering::Relaxed),
            _ => {}
        }
        let done = self.parent_change_state(transition);
        if transition == gst::StateChange::ReadyToNull {
            let mut kept = lock(&self.kept);
            kept.checkpoint = None;
            kept.cache.close();
        }
        done
    }
}

impl BaseTransformImpl for PolypSegment {
    const MODE: BaseTransformMode = BaseTransformMode::AlwaysInPlace;
    const PASSTHROUGH_ON_SAME_CAPS: bool = false;
    const TRANSFORM_IP_ON_PASSTHROUGH: bool = false;

    fn start(&self) -> std::result::Result<(), gst::ErrorMessage> {
        let settings = lock(&self.settings).clone();
        *lock(&self.figures) = Figures::default();
        self.earliest.store(0, Ordering::Relaxed);
        self.waited.store(0, Ordering::Relaxed);
        let session = self
            .network(&settings)
            .and_then(|(build, threshold)| Session::start(&settings, build, threshold, self.waited.clone()))
            .map_err(|e| gst::error_msg!(gst::ResourceError::Settings, ("{e}"), ["{e:?}"]))?;
        *lock(&self.state) = State { session: Some(session), ..State::default() };
        Ok(())
    }

    fn stop(&self) -> std::result::Result<(), gst::ErrorMessage> {
        let old = std::mem::take(&mut *lock(&self.state));
        // The worker is waited for, and not under the lock.
        drop(old);
        Ok(())
    }

    fn set_caps(&self, caps: &gst::Caps, _out: &gst::Caps) -> std::result::Result<(), gst::LoggableError> {
        let info =
            video_info(caps).map_err(|_| gst::loggable_error!(CAT, "caps without a picture: {caps}"))?;
        let mut state = lock(&self.state);
        if let Some(session) = &mut state.session {
            session.format(&info);
        }
        state.info = Some(info);
        Ok(())
    }

    fn query(&self, direction: gst::PadDirection, query: &mut gst::QueryRef) -> bool {
        if !BaseTransformImplExt::parent_query(self, direction, query) {
            return false;
        }
        add_latency(query, self.latency());
        true
    }

    fn propose_allocation(
        &self,
        _decided: Option<&gst::query::Allocation>,
        query: &mut gst::query::Allocation,
    ) -> std::result::Result<(), gst::LoggableError> {
        pass_allocation(self.obj().upcast_ref(), query);
        Ok(())
    }

    fn sink_event(&self, event: gst::Event) -> bool {
        match event.view() {
            gst::EventView::FlushStart(_) => self.interrupted.store(true, Ordering::Relaxed),
            gst::EventView::FlushStop(_) => {
                self.interrupted.store(false, Ordering::Relaxed);
                self.earliest.store(0, Ordering::Relaxed);
                if let Some(session) = &mut lock(&self.state).session {
                    session.flushed();
                }
            }
            _ => {}
        }
        self.parent_sink_event(event)
    }

    /// A sink that is late has no time to lose: frames that it would show late anyway are not analysed. No picture is
    /// dropped here; the event goes on to whoever makes them.
    fn src_event(&self, event: gst::Event) -> bool {
        if let gst::EventView::Qos(qos) = event.view() {
            let (_, _, late_by, timestamp) = qos.get();
            let earliest = match (timestamp, u64::try_from(late_by)) {
                (Some(t), Ok(late_by)) if late_by > 0 => t.nseconds().saturating_add(late_by),
                _ => 0,
            };
            self.earliest.store(earliest, Ordering::Relaxed);
        }
        self.parent_src_event(event)
    }

    fn transform_ip(
        &self,
        buffer: &mut gst::BufferRef,
    ) -> std::result::Result<gst::FlowSuccess, gst::FlowError> {
        let settings = lock(&self.settings).changing();
        if !settings.enabled {
            return Ok(gst::FlowSuccess::Ok);
        }
        let segment = self.obj().segment();
        let time = segment.downcast_ref::<gst::ClockTime>();
        let running_time = time.and_then(|s| s.to_running_time(buffer.pts()));
        let earliest = self.earliest.load(Ordering::Relaxed);
        let late = running_time.is_some_and(|t| t.nseconds() < earliest);
        let outcome = {
            let mut state = lock(&self.state);
            let State { info, session, given_up } = &mut *state;
            let (Some(info), Some(session), false) = (info.as_ref(), session.as_mut(), *given_up) else {
                return Ok(gst::FlowSuccess::Ok);
            };
            let passing = Passing { running_time, late };
            let (interrupted, figures) = (&self.interrupted, &self.figures);
            // A fault of ours must not become the stream's: the picture goes on as it is.
            let outcome = catch_unwind(AssertUnwindSafe(|| {
                session.frame(buffer, info, &passing, &settings, interrupted, figures)
            }));
            *given_up = outcome.is_err();
            outcome
        };
        match outcome {
            Ok(Ok(told)) => self.tell(told),
            Ok(Err(Stopped::Flushing)) => return Err(gst::FlowError::Flushing),
            Ok(Err(Stopped::Failed(said))) => {
                gst::element_imp_error!(self, gst::LibraryError::Failed, ("{said}"), ["sync=true"]);
                return Err(gst::FlowError::Error);
            }
            Err(_) => {
                gst::error!(CAT, imp = self, "the analysis panicked; frames pass without a mask");
                self.tell(Told {
                    trouble: Some("the analysis panicked; please report this".into()),
                    ..Told::default()
                });
            }
        }
        Ok(gst::FlowSuccess::Ok)
    }
}
