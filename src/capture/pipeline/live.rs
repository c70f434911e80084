//! A running live pipeline: source ─▶ overlay ─▶ short queue ─▶ sink.
//!
//! In: launch lines and the overlay element. Out: pads to stamp frames at, and notices. The queue before the sink gives
//! up its oldest frame rather than push back on the overlay. A device or network source that fails, ends or falls
//! silent is built anew, alone, with a growing pause; the sink keeps its last picture meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_video as gst_video;

use super::fault::{SourceFault, Streams, sink_error};
use super::file::Ready;
use crate::capture::address::without_secrets;
use crate::capture::{colour_description, element, raw_caps};
use crate::frame::{Nanos, PixelFormat};
use crate::{Error, Result};

/// Frames that may wait for the sink.
const QUEUED: u32 = 3;
/// A receiver that joins an encoded stream sees nothing until the next key frame.
const KEY_INTERVAL: gst::ClockTime = gst::ClockTime::from_mseconds(990);
/// Pauses between attempts to bring a source back.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// What happens to a pipeline.
#[derive(Debug)]
pub enum Notice {
    /// A source that is not started anew came to its end.
    Ended,
    /// It cannot go on, and why.
    Failed(Error),
    /// A source that is started anew gives no picture; again when an attempt fails for another reason.
    SourceLost(SourceFault),
    /// A source that was lost gives pictures again.
    SourceBack,
    /// A key pressed in the window.
    Key(String),
    /// What the whole pipeline reports as its latency.
    Latency(Nanos),
}

/// What the source's exit says of itself, from its streaming thread.
#[derive(Debug, Default)]
struct Exit {
    /// Frames so far.
    frames: AtomicU64,
    ended: AtomicBool,
    /// The next frame is the first of a source that was started anew.
    rebase: AtomicBool,
}

/// Where a lost source stands.
#[derive(Debug)]
struct Lost {
    since: Instant,
    next_try: Instant,
    pause: Duration,
    /// The failure of the present attempt has been looked at.
    looked_at: bool,
}

/// What has come of a source so far.
#[derive(Clone, Debug, Default)]
pub struct SourceEnd {
    /// Frames that left it.
    pub frames: u64,
    /// Why it gives none now, if it is lost.
    pub fault: Option<SourceFault>,
}

/// See the module. Stops when dropped.
pub struct LivePipeline {
    ready: Ready,
    pipeline: gst::Pipeline,
    bus: gst::Bus,
    filter: gst::Element,
    source: gst::Bin,
    sink: gst::Bin,
    streams: Streams,
    entry: gst::Pad,
    exit: gst::Pad,
    state: Arc<Exit>,
    on_entry: Option<Box<dyn Fn(&gst::Pad)>>,
    seen: u64,
    last_frame: Instant,
    lost: Option<Lost>,
    /// Why the source was lost last.
    fault: Option<SourceFault>,
    /// The source's latest warning: some sources never report an error, but try for ever.
    warning: Option<gst::glib::Error>,
    /// Passwords, which no message may show.
    secrets: Vec<String>,
    /// What [`LivePipeline::start`] has to tell.
    pending: Option<Notice>,
}

fn wiring(e: gst::glib::BoolError) -> Error {
    Error::internal("the live pipeline cannot be put together").because(e)
}

impl LivePipeline {
    /// Puts everything together; nothing runs yet.
    ///
    /// # Errors
    /// Lines that do not parse, pads that do not fit.
    pub fn new(ready: Ready, overlay: &gst::Element) -> Result<Self> {
        let pipeline = gst::Pipeline::new();
        let filter = element("capsfilter")?;
        filter.set_property("caps", raw_caps(&PixelFormat::ALL));
        let queue = element("queue")?;
        queue.set_property("max-size-buffers", QUEUED);
        queue.set_property("max-size-bytes", 0u32);
        queue.set_property("max-size-time", 0u64);
        queue.set_property_from_str("leaky", "downstream");
        let sink = ready.sink.bin(&ready.sink_place(), gst::PadDirection::Sink)?;
        colour_description::watch(&sink);
        let state = Arc::new(Exit::default());
        let (source, entry, streams) = build_source(&ready, &state)?;
        let chain = [&filter, overlay, &queue, sink.upcast_ref()];
        pipeline.add(&source).map_err(wiring)?;
        pipeline.add_many(chain).map_err(wiring)?;
        gst::Element::link_many(chain).map_err(|e| {
            Error::input(format!("{} [sinks.{}]: does not take raw video", ready.name, ready.sink_name))
                .remedy("begin it with videoconvert")
                .because(e)
        })?;
        source.link(&filter).map_err(|e| {
            Error::input(format!("{} [source]: does not give raw video in a layout we read", ready.name))
                .remedy("end it with a decoder and videoconvert")
                .because(e)
        })?;
        let exit = exit_pad(&sink)?;
        let bus = pipeline.bus().ok_or_else(|| Error::internal("the live pipeline has no bus"))?;
        Ok(Self {
            secrets: ready.secrets(),
            ready,
            pipeline,
            bus,
            filter,
            source,
            sink,
            streams,
            entry,
            exit,
            state,
            on_entry: None,
            seen: 0,
            last_frame: Instant::now(),
            lost: None,
            fault: None,
            warning: None,
            pending: None,
        })
    }

    /// What has come of the source so far.
    pub fn source_end(&mut self) -> SourceEnd {
        let frames = self.state.frames.load(Ordering::Relaxed);
        if frames == 0 && self.fault.is_none() {
            // It was not waited for long enough to call it lost.
            self.fault = Some(self.silence(false));
        }
        let is_lost = self.lost.is_some() || frames == 0;
        SourceEnd { frames, fault: self.fault.clone().filter(|_| is_lost) }
    }

    /// Where frames leave the source; a source that is started anew has a new one, for which `watch` is called again.
    pub fn on_entry(&mut self, watch: impl Fn(&gst::Pad) + 'static) {
        watch(&self.entry);
        self.on_entry = Some(Box::new(watch));
    }

    /// Where frames arrive: the sink's own pad, or the entry of what encodes for it.
    pub fn exit_pad(&self) -> &gst::Pad {
        &self.exit
    }

    /// Starts it. A phantom is rendered now.
    ///
    /// # Errors
    /// A source or sink that does not start.
    pub fn start(&mut self) -> Result<()> {
        self.last_frame = Instant::now();
        if self.pipeline.set_state(gst::State::Playing).is_ok() {
            return Ok(());
        }
        let fault = match self.failure() {
            Some(Failure::Source(fault)) => fault,
            Some(Failure::Other(error)) => return Err(error),
            None => return Err(self.unknown()),
        };
        if !self.ready.restart || fault.cause().is_final() {
            return Err(fault.error());
        }
        self.lose(&fault);
        self.pending = Some(Notice::SourceLost(fault));
        if self.pipeline.set_state(gst::State::Playing).is_err() {
            return Err(self.failure().map_or_else(|| self.unknown(), Failure::error));
        }
        Ok(())
    }

    fn unknown(&self) -> Error {
        SourceFault::unknown(&self.source, &self.ready.name).error()
    }

    /// The first error on the bus; what lies there otherwise is of no use any more.
    fn failure(&self) -> Option<Failure> {
        let mut failure = None;
        while let Some(message) = self.bus.pop() {
            self.streams.note_missing(&message);
            if let gst::MessageView::Error(e) = message.view() {
                self.log(e.src(), &e.error(), e.debug());
                if failure.is_none() {
                    failure = Some(self.judge(e));
                }
            }
        }
        failure
    }

    /// GStreamer's own words, for `-v`.
    fn log(&self, source: Option<&gst::Object>, e: &gst::glib::Error, debug: Option<gst::glib::GString>) {
        let details = debug.map(|d| without_secrets(&d, &self.secrets));
        let message = without_secrets(e.message(), &self.secrets);
        tracing::debug!(source = ?source.map(|s| s.path_string()), ?details, "{message}");
    }

    fn is_the_sources(&self, object: Option<&gst::Object>) -> bool {
        let source = self.source.upcast_ref::<gst::Object>();
        object.is_some_and(|o| o == source || o.has_as_ancestor(source))
    }

    fn judge(&self, e: &gst::message::Error) -> Failure {
        if self.is_the_sources(e.src()) {
            let fault = SourceFault::read(e, &self.source, &self.streams, &self.ready.name, &self.secrets);
            return Failure::Source(fault);
        }
        let sink = Some(&self.sink).filter(|s| e.src().is_some_and(|o| o.has_as_ancestor(*s)));
        Failure::Other(sink_error(e, sink, &self.ready.name, &self.secrets))
    }

    /// What happened, waiting up to `patience`. To be called often: it also brings lost sources back.
    pub fn next(&mut self, patience: Duration) -> Option<Notice> {
        if let Some(notice) = self.pending.take().or_else(|| self.look_after_source()) {
            return Some(notice);
        }
        let message = self.bus.timed_pop(gst::ClockTime::from_nseconds(patience.as_nanos() as u64))?;
        self.streams.note_missing(&message);
        match message.view() {
            gst::MessageView::Eos(_) => Some(Notice::Ended),
            gst::MessageView::Error(e) => {
                self.log(e.src(), &e.error(), e.debug());
                // What an earlier source left behind on its way out is no news.
                if e.src().is_some_and(|s| !s.has_as_ancestor(&self.pipeline)) {
                    return None;
                }
                if self.is_the_sources(e.src()) && self.lost.as_ref().is_some_and(|l| l.looked_at) {
                    return None;
                }
                match self.judge(e) {
                    Failure::Source(fault) => self.source_failed(fault),
                    Failure::Other(error) => Some(Notice::Failed(error)),
                }
            }
            gst::MessageView::Warning(w) => {
                self.log(w.src(), &w.error(), w.debug());
                if self.is_the_sources(w.src()) {
                    self.warning = Some(w.error());
                }
                None
            }
            gst::MessageView::Latency(_) => {
                let _ = self.pipeline.recalculate_latency();
                self.latency().map(Notice::Latency)
            }
            gst::MessageView::StateChanged(s)
                if s.src().is_some_and(|o| o == self.pipeline.upcast_ref::<gst::Object>())
                    && s.current() == gst::State::Playing =>
            {
                self.latency().map(Notice::Latency)
            }
            gst::MessageView::Element(_) => match gst_video::NavigationMessage::parse(&message) {
                Ok(gst_video::NavigationMessage::Event(pressed)) => {
                    match gst_video::NavigationEvent::parse(&pressed.event) {
                        Ok(gst_video::NavigationEvent::KeyPress { key, .. }) => Some(Notice::Key(key)),
                        _ => None,
                    }
                }
                _ => None,
            },
            _ => None,
        }
    }

    fn latency(&self) -> Option<Nanos> {
        let mut query = gst::query::Latency::new();
        self.pipeline.query(&mut query).then(|| Nanos(query.result().1.nseconds()))
    }

    /// Notices silence, and tries to bring back what was lost.
    fn look_after_source(&mut self) -> Option<Notice> {
        let frames = self.state.frames.load(Ordering::Relaxed);
        if frames != self.seen {
            self.seen = frames;
            self.last_frame = Instant::now();
            if let Some(lost) = self.lost.take() {
                tracing::info!("{}: the source is back after {:?}", self.ready.name, lost.since.elapsed());
                return Some(Notice::SourceBack);
            }
        }
        if !self.ready.restart {
            return None;
        }
        if let Some(lost) = &mut self.lost {
            if Instant::now() < lost.next_try {
                return None;
            }
            let silent = !std::mem::replace(&mut lost.looked_at, false);
            lost.pause = (lost.pause * 2).min(LONGEST_PAUSE);
            // A source that starts but gives nothing is given its time of silence before the next attempt.
            lost.next_try = Instant::now() + lost.pause + Duration::from_secs(self.ready.silence_s);
            let fault = silent.then(|| self.silence(self.state.ended.load(Ordering::Relaxed)));
            if let Err(e) = self.rebuild() {
                tracing::debug!("{}: not yet ({e})", self.ready.name);
            }
            return fault.and_then(|fault| self.say_if_new(fault));
        }
        let ended = self.state.ended.load(Ordering::Relaxed);
        if !ended && self.last_frame.elapsed() <= Duration::from_secs(self.ready.silence_s) {
            return None;
        }
        let fault = self.silence(ended);
        self.lose(&fault);
        Some(Notice::SourceLost(fault))
    }

    /// Why a source gives nothing that has reported nothing.
    fn silence(&self, ended: bool) -> SourceFault {
        let (name, seconds) = (&self.ready.name, self.ready.silence_s);
        if ended {
            return SourceFault::ended(&self.source, name);
        }
        SourceFault::silent(&self.source, seconds, self.warning.as_ref(), self.seen > 0, name)
    }

    /// A source's error: the end of a session that has not begun and never can, or else a reason to start it anew.
    fn source_failed(&mut self, fault: SourceFault) -> Option<Notice> {
        let frames = self.state.frames.load(Ordering::Relaxed);
        if !self.ready.restart || (frames == 0 && fault.cause().is_final()) {
            return Some(Notice::Failed(fault.error()));
        }
        let Some(lost) = &mut self.lost else {
            self.lose(&fault);
            return Some(Notice::SourceLost(fault));
        };
        lost.looked_at = true;
        self.say_if_new(fault)
    }

    /// An attempt that fails as the last one did is no news.
    fn say_if_new(&mut self, fault: SourceFault) -> Option<Notice> {
        if self.fault.as_ref() == Some(&fault) {
            return None;
        }
        self.fault = Some(fault.clone());
        Some(Notice::SourceLost(fault))
    }

    /// Takes the source away.
    fn lose(&mut self, fault: &SourceFault) {
        tracing::info!("{}: the source is lost ({fault}); it is started anew", self.ready.name);
        let now = Instant::now();
        self.lost =
            Some(Lost { since: now, next_try: now + FIRST_PAUSE, pause: FIRST_PAUSE, looked_at: true });
        self.fault = Some(fault.clone());
        self.remove_source();
    }

    fn remove_source(&mut self) {
        self.source.set_locked_state(true);
        let _ = self.source.set_state(gst::State::Null);
        self.source.unlink(&self.filter);
        let _ = self.pipeline.remove(&self.source);
    }

    /// Puts a new source in the old one's place.
    fn rebuild(&mut self) -> Result<()> {
        if self.source.parent().is_some() {
            self.remove_source();
        }
        self.warning = None;
        self.state.ended.store(false, Ordering::Relaxed);
        self.state.rebase.store(true, Ordering::Relaxed);
        let (source, entry, streams) = build_source(&self.ready, &self.state)?;
        self.pipeline.add(&source).map_err(wiring)?;
        source.link(&self.filter).map_err(wiring)?;
        self.source = source;
        self.entry = entry;
        self.streams = streams;
        if let Some(watch) = &self.on_entry {
            watch(&self.entry);
        }
        self.source.sync_state_with_parent().map_err(wiring)
    }
}

impl Drop for LivePipeline {
    fn drop(&mut self) {
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}

/// A pipeline's first error.
enum Failure {
    Source(SourceFault),
    Other(Error),
}

impl Failure {
    fn error(self) -> Error {
        match self {
            Self::Source(fault) => fault.error(),
            Self::Other(error) => error,
        }
    }
}

/// The source's bin, the pad at which its frames are captured (that of an element called `capture`, or its exit), and
/// what its demuxers will offer.
fn build_source(ready: &Ready, state: &Arc<Exit>) -> Result<(gst::Bin, gst::Pad, Streams)> {
    let source = ready.source.bin(&ready.source_place(), gst::PadDirection::Src)?;
    let streams = Streams::default();
    streams.watch(&source);
    colour_description::watch(&source);
    let exit = source.pads().into_iter().next().ok_or_else(|| Error::internal("a source without an exit"))?;
    let entry = source.by_name("capture").and_then(|e| e.static_pad("src")).unwrap_or_else(|| exit.clone());
    let (state, restart) = (state.clone(), ready.restart);
    exit.add_probe(gst::PadProbeType::BUFFER | gst::PadProbeType::EVENT_DOWNSTREAM, move |pad, info| {
        match &info.data {
            Some(gst::PadProbeData::Buffer(buffer)) => {
                state.frames.fetch_add(1, Ordering::Relaxed);
                if state.rebase.swap(false, Ordering::Relaxed) {
                    rebase(pad, buffer);
                }
            }
            Some(gst::PadProbeData::Event(event))
                if restart && matches!(event.view(), gst::EventView::Eos(_)) =>
            {
                // The sink must not end with its source.
                state.ended.store(true, Ordering::Relaxed);
                return gst::PadProbeReturn::Drop;
            }
            _ => {}
        }
        gst::PadProbeReturn::Ok
    });
    Ok((source, entry, streams))
}

/// A source that was started anew may count its time from zero again: brings its first frame to the present, so that
/// the sink neither waits for it nor throws it away.
fn rebase(pad: &gst::Pad, buffer: &gst::Buffer) {
    let segment = pad.sticky_event::<gst::event::Segment>(0);
    let running = segment
        .as_ref()
        .and_then(|s| s.segment().downcast_ref::<gst::ClockTime>())
        .zip(buffer.pts())
        .and_then(|(s, pts)| s.to_running_time(pts));
    let now = pad.parent_element().and_then(|e| e.current_running_time());
    if let (Some(running), Some(now)) = (running, now) {
        let off = now.nseconds() as i64 - running.nseconds() as i64;
        if off.unsigned_abs() > 500_000_000 {
            pad.set_offset(off);
        }
    }
}

/// Asks what encodes behind a pad for a key frame a second, whatever the frame rate: encoders count theirs in frames.
fn renew_key_frames(entry: &gst::Pad) {
    const NONE: u64 = u64::MAX;
    let last = AtomicU64::new(NONE);
    entry.add_probe(gst::PadProbeType::BUFFER, move |pad, info| {
        let Some(at) = info.buffer().and_then(|b| b.pts()) else { return gst::PadProbeReturn::Ok };
        let before = last.load(Ordering::Relaxed);
        let is_due = at.nseconds().checked_sub(before).is_none_or(|d| d >= KEY_INTERVAL.nseconds());
        if is_due {
            last.store(at.nseconds(), Ordering::Relaxed);
            // The first frame is a key frame anyway.
            if before != NONE {
                let event = gst_video::DownstreamForceKeyUnitEvent::builder().all_headers(true).build();
                let _ = pad.send_event(event);
            }
        }
        gst::PadProbeReturn::Ok
    });
}

/// The last pad that carries raw video.
fn exit_pad(sink: &gst::Bin) -> Result<gst::Pad> {
    let entry = sink.pads().into_iter().next().ok_or_else(|| Error::internal("a sink without an entry"))?;
    let encodes = sink.iterate_recurse().into_iter().flatten().any(|e| {
        e.factory()
            .is_some_and(|f| f.has_type(gst::ElementFactoryType::ENCODER | gst::ElementFactoryType::MUXER))
    });
    if encodes {
        renew_key_frames(&entry);
        return Ok(entry);
    }
    Ok(sink.by_name("sink").and_then(|s| s.static_pad("sink")).unwrap_or(entry))
}
