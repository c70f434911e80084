//! A running live pipeline: source ─▶ overlay ─▶ short queue ─▶ sink.
//!
//! In: launch lines and the overlay element. Out: pads to stamp frames at, and notices. The queue before the sink gives up
//! its oldest frame rather than push back on the overlay. A device or network source that fails, ends or falls silent is
//! built anew, alone, with a growing pause; the sink keeps its last picture meanwhile.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_video as gst_video;

use super::file::{Ready, bin};
use crate::capture::{colour_description, element, messages, raw_caps};
use crate::frame::{Nanos, PixelFormat};
use crate::{Error, Result};

/// Frames that may wait for the sink.
const QUEUED: u32 = 3;
/// Pauses between attempts to bring a source back.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// What happens to a pipeline.
#[derive(Debug)]
pub enum Notice {
    /// A source that is not started anew came to its end.
    Ended,
    Failed(Error),
    SourceLost(String),
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
}

/// See the module. Stops when dropped.
pub struct LivePipeline {
    ready: Ready,
    pipeline: gst::Pipeline,
    bus: gst::Bus,
    filter: gst::Element,
    source: gst::Bin,
    entry: gst::Pad,
    exit: gst::Pad,
    state: Arc<Exit>,
    on_entry: Option<Box<dyn Fn(&gst::Pad)>>,
    seen: u64,
    last_frame: Instant,
    lost: Option<Lost>,
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
        let sink = bin(&ready.sink, &ready.name, "sink", gst::PadDirection::Sink)?;
        colour_description::watch(&sink);
        let state = Arc::new(Exit::default());
        let (source, entry) = build_source(&ready, &state)?;
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
            ready,
            pipeline,
            bus,
            filter,
            source,
            entry,
            exit,
            state,
            on_entry: None,
            seen: 0,
            last_frame: Instant::now(),
            lost: None,
        })
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
        if self.ready.restart && self.failure_is_the_sources() {
            self.lose("it does not start".into());
            self.pipeline.set_state(gst::State::Playing).map_err(|_| self.failure())?;
            return Ok(());
        }
        Err(self.failure())
    }

    /// Whether an error lies on the bus that the source posted.
    fn failure_is_the_sources(&self) -> bool {
        let mut theirs = false;
        let mut kept = Vec::new();
        while let Some(m) = self.bus.pop() {
            if let gst::MessageView::Error(e) = m.view() {
                theirs |= e.src().is_some_and(|s| s.has_as_ancestor(&self.source));
            }
            kept.push(m);
        }
        for m in kept {
            let _ = self.bus.post(m);
        }
        theirs
    }

    fn failure(&self) -> Error {
        messages::drain(&self.bus, Path::new(&self.ready.name)).0.unwrap_or_else(|| {
            Error::machine(format!("{}: does not start", self.ready.name)).remedy("run with -v for details")
        })
    }

    /// What happened, waiting up to `patience`. To be called often: it also brings lost sources back.
    pub fn next(&mut self, patience: Duration) -> Option<Notice> {
        if let Some(notice) = self.look_after_source() {
            return Some(notice);
        }
        let message = self.bus.timed_pop(gst::ClockTime::from_nseconds(patience.as_nanos() as u64))?;
        match message.view() {
            gst::MessageView::Eos(_) => Some(Notice::Ended),
            gst::MessageView::Error(e) => {
                tracing::debug!(source = ?e.src().map(|s| s.path_string()), debug = ?e.debug(), "{}", e.error());
                let theirs = e.src().is_some_and(|s| {
                    s.has_as_ancestor(&self.source) || s == self.source.upcast_ref::<gst::Object>()
                });
                let error = messages::translate(&e.error(), Path::new(&self.ready.name));
                // What an earlier source left behind on its way out is no news.
                if e.src().is_some_and(|s| !s.has_as_ancestor(&self.pipeline)) {
                    None
                } else if theirs && self.ready.restart {
                    (self.lost.is_none()).then(|| {
                        self.lose(error.to_string());
                        Notice::SourceLost(error.to_string())
                    })
                } else {
                    Some(Notice::Failed(error))
                }
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
            if Instant::now() >= lost.next_try {
                lost.pause = (lost.pause * 2).min(LONGEST_PAUSE);
                // A source that starts but gives nothing is given its time of silence before the next attempt.
                lost.next_try = Instant::now() + lost.pause + Duration::from_secs(self.ready.silence_s);
                if let Err(e) = self.rebuild() {
                    tracing::debug!("{}: not yet ({e})", self.ready.name);
                }
            }
            return None;
        }
        let reason = if self.state.ended.load(Ordering::Relaxed) {
            "it ended".to_owned()
        } else if self.last_frame.elapsed() > Duration::from_secs(self.ready.silence_s) {
            format!("no frame for {} s", self.ready.silence_s)
        } else {
            return None;
        };
        self.lose(reason.clone());
        Some(Notice::SourceLost(reason))
    }

    /// Takes the source away.
    fn lose(&mut self, reason: String) {
        tracing::warn!("{}: the source is lost ({reason}); it is started anew", self.ready.name);
        let now = Instant::now();
        self.lost = Some(Lost { since: now, next_try: now + FIRST_PAUSE, pause: FIRST_PAUSE });
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
        self.state.ended.store(false, Ordering::Relaxed);
        self.state.rebase.store(true, Ordering::Relaxed);
        let (source, entry) = build_source(&self.ready, &self.state)?;
        self.pipeline.add(&source).map_err(wiring)?;
        source.link(&self.filter).map_err(wiring)?;
        self.source = source;
        self.entry = entry;
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

/// The source's bin, and the pad at which its frames are captured: that of an element called `capture`, or its exit.
fn build_source(ready: &Ready, state: &Arc<Exit>) -> Result<(gst::Bin, gst::Pad)> {
    let source = bin(&ready.source, &ready.name, "[source]", gst::PadDirection::Src)?;
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
    Ok((source, entry))
}

/// A source that was started anew may count its time from zero again: brings its first frame to the present, so that the
/// sink neither waits for it nor throws it away.
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

/// The last pad that carries raw video.
fn exit_pad(sink: &gst::Bin) -> Result<gst::Pad> {
    let entry = sink.pads().into_iter().next().ok_or_else(|| Error::internal("a sink without an entry"))?;
    let encodes = sink.iterate_recurse().into_iter().flatten().any(|e| {
        e.factory()
            .is_some_and(|f| f.has_type(gst::ElementFactoryType::ENCODER | gst::ElementFactoryType::MUXER))
    });
    if encodes {
        return Ok(entry);
    }
    Ok(sink.by_name("sink").and_then(|s| s.static_pad("sink")).unwrap_or(entry))
}
