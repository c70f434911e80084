//! A recorded file, decoded.
//!
//! In: a file GStreamer can play. Out: its frames in the source's own layout (converted only if it is none of ours),
//! upright, all of the first frame's size, with their timestamps; its sound, still encoded; and what was lost on the
//! way.
//!
//! ```text
//! filesrc ─▶ parsebin ─▶ decodebin ─▶ videoconvert ─▶ videoscale ─▶ capsfilter ─▶ (videoflip) ─▶ appsink
//!                 └────▶ queue ─▶ (aacparse) ─▶ appsink
//! ```

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, unbounded};
use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app as gst_app;
use gstreamer_video as gst_video;

use super::complaints::Complaints;
use super::ledger::{Pace, Stretch};
use super::loss::{Losses, sentence};
use super::packets::{Intake, Packets, open_the_end};
use super::source::size_change;
use super::{
    AudioFacts, Ended, Facts, Frame, Loss, LossReason, Next, SoundPacket, Source, Span, colour_description,
    element, messages,
};
use crate::frame::{FrameId, Nanos, PixelFormat, Pts};
use crate::lock::lock;
use crate::{Error, Kind, Result};

/// Longest a call of [`Source::next`] waits.
const MOMENT: gst::ClockTime = gst::ClockTime::from_mseconds(100);
/// Sound that does not move for so long after the picture's end has none to come.
const SILENCE: Duration = Duration::from_secs(2);
/// Frames still on their way when the pipeline reports an error come within this time.
const LAST_FRAMES: Duration = Duration::from_secs(3);
/// How far before its span a recording is entered, so that no frame of the span is clipped.
const LEAD: u64 = 1_000_000_000;
/// A pipeline that gives nothing for so long is stuck.
const STUCK: Duration = Duration::from_secs(90);

/// Layouts `videoflip` can turn, of those we read.
const TURNABLE: &[PixelFormat] = &[
    PixelFormat::I420,
    PixelFormat::Yv12,
    PixelFormat::Nv12,
    PixelFormat::Y444,
    PixelFormat::I420_10le,
    PixelFormat::I422_10le,
    PixelFormat::Y444_10le,
    PixelFormat::Yuy2,
    PixelFormat::Uyvy,
    PixelFormat::Rgb,
    PixelFormat::Gray8,
];

/// A recording being read.
pub struct Recording {
    facts: Facts,
    span: Span,
    pipeline: gst::Pipeline,
    sink: gst_app::AppSink,
    sound: Receiver<SoundPacket>,
    sound_sink: Option<gst_app::AppSink>,
    shared: Arc<Shared>,
    next_id: FrameId,
    losses: Losses,
    complaints: Option<Arc<Complaints>>,
    pace: Pace,
    /// End of the last frame given, in the recording's time.
    last: Option<(Pts, Nanos)>,
    last_progress: Instant,
    /// The pipeline's first error, kept until the frames before it have been given.
    error: Option<Error>,
    /// How the first frame's colours are coded: one file can say it only once.
    colours: Option<gst_video::VideoColorimetry>,
    /// Set once no more frames will be given.
    closing: Option<Closing>,
    ended: bool,
}

/// The picture is over, the sound not yet.
struct Closing {
    failure: Option<String>,
    /// Where the sound was when it last moved, and when that was.
    sound_end: u64,
    moved: Instant,
}

/// What the streaming threads tell the reader.
#[derive(Default)]
struct Shared {
    /// Sizes the decoder announced, first and latest other.
    sizes: Mutex<(Option<(i32, i32)>, Option<(i32, i32)>)>,
    /// End of the latest piece of sound, in nanoseconds of the recording's time.
    sound_end: AtomicU64,
    /// The picture's packets, once its stream is linked.
    packets: OnceLock<Arc<Packets>>,
}

/// Position in the recording of a buffer's timestamp.
fn position(segment: Option<&gst::Segment>, pts: gst::ClockTime) -> Option<gst::ClockTime> {
    let segment = segment?.downcast_ref::<gst::ClockTime>()?;
    segment.to_stream_time(pts)
}

impl Recording {
    /// Opens a file that [`Facts::discover`] has looked into. Sound is handed out if its caps fit `sound`.
    ///
    /// # Errors
    /// A missing GStreamer element, a file that cannot be opened.
    pub fn open(facts: Facts, span: Span, sound: Option<&gst::Caps>) -> Result<Self> {
        super::init()?;
        let pipeline = gst::Pipeline::new();
        colour_description::watch(pipeline.upcast_ref());
        let source = element("filesrc")?;
        source.set_property("location", &facts.path);
        let parse = element("parsebin")?;
        let decode = element("decodebin")?;
        decode.set_property("caps", gst::Caps::new_empty_simple("video/x-raw"));
        let convert = element("videoconvert")?;
        let scale = element("videoscale")?;
        scale.set_property("add-borders", true);
        let filter = element("capsfilter")?;
        let formats = if facts.turned { TURNABLE } else { &PixelFormat::ALL };
        filter.set_property("caps", super::raw_caps(formats));
        fix_shape(&filter)?;
        let sink = gst_app::AppSink::builder().sync(false).max_buffers(2).build();
        sink.set_property("enable-last-sample", false);

        let mut chain = vec![convert.clone(), scale, filter.clone()];
        if facts.turned {
            let flip = element("videoflip")?;
            flip.set_property_from_str("video-direction", "auto");
            chain.push(flip);
        }
        chain.push(sink.clone().upcast());
        let wiring = |e: gst::glib::BoolError| {
            Error::internal("the decoding pipeline cannot be put together").because(e)
        };
        pipeline.add_many([&source, &parse, &decode]).map_err(wiring)?;
        pipeline.add_many(&chain).map_err(wiring)?;
        gst::Element::link_many(&chain).map_err(wiring)?;
        source.link(&parse).map_err(wiring)?;

        let shared = Arc::new(Shared::default());
        let (sender, receiver) = unbounded();
        let (sound_entry, sound_sink) = match &facts.audio {
            Some(audio) => Some(sound_branch(&pipeline, audio, sound, sender, shared.clone())?),
            None => None,
        }
        .unzip();
        let intake = Intake::of(&parse);
        parse.connect_pad_added({
            let decode = decode.downgrade();
            let shared = shared.clone();
            let is_fragmented = facts.structure.fragmented;
            move |_, pad| {
                let caps = pad.current_caps().unwrap_or_else(|| pad.query_caps(None));
                let Some(kind) = caps.structure(0).map(|s| s.name().to_string()) else { return };
                // Only the first stream of each kind; what is left unlinked is skipped by the demuxer.
                let target = if kind.starts_with("video/") || kind.starts_with("image/") {
                    decode.upgrade().and_then(|d| d.static_pad("sink"))
                } else if kind.starts_with("audio/") {
                    sound_entry.clone()
                } else {
                    None
                };
                let Some(target) = target.filter(|t| !t.is_linked()) else { return };
                if !kind.starts_with("audio/") {
                    shared.packets.get_or_init(|| intake.settle(pad, &target));
                    if is_fragmented {
                        open_the_end(&target);
                    }
                }
                if let Err(e) = pad.link(&target) {
                    tracing::debug!("{kind} stream cannot be linked: {e}");
                }
            }
        });
        decode.connect_pad_added({
            let convert = convert.downgrade();
            let shared = shared.clone();
            move |_, pad| {
                let Some(target) = convert.upgrade().and_then(|c| c.static_pad("sink")) else { return };
                if target.is_linked() {
                    return;
                }
                watch_size(pad, shared.clone());
                if let Err(e) = pad.link(&target) {
                    tracing::debug!("the decoded stream cannot be linked: {e}");
                }
            }
        });
        let recording = Self {
            facts,
            span,
            pipeline,
            sink,
            sound: receiver,
            sound_sink,
            shared,
            next_id: FrameId(0),
            losses: Losses::default(),
            complaints: None,
            pace: Pace::default(),
            last: None,
            last_progress: Instant::now(),
            error: None,
            colours: None,
            closing: None,
            ended: false,
        };
        recording.start()?;
        Ok(recording)
    }

    fn bus(&self) -> Result<gst::Bus> {
        self.pipeline.bus().ok_or_else(|| Error::internal("the decoding pipeline has no bus"))
    }

    fn start(&self) -> Result<()> {
        let refused = |e: gst::StateChangeError| {
            let fallback = Error::input(format!("{}: cannot be played", self.facts.path.display()))
                .remedy("run with -v for details")
                .because(e);
            let said = self.bus().ok().and_then(|bus| messages::drain(&bus, &self.facts.path).0);
            self.before_any_frame(said.unwrap_or(fallback))
        };
        if let Some(from) = self.span.from.filter(|f| f.0 > 0) {
            self.pipeline.set_state(gst::State::Paused).map_err(refused)?;
            // Seeking saves decoding what is not wanted; where it is not possible, frames are skipped one by one.
            let (settled, _, _) = self.pipeline.state(gst::ClockTime::from_seconds(30));
            settled.map_err(refused)?;
            // The frame shown at the seek's target is cut to begin there, which is a time no frame has: so the target
            // lies before the span.
            let seeked = self.pipeline.seek_simple(
                gst::SeekFlags::FLUSH | gst::SeekFlags::ACCURATE,
                gst::ClockTime::from_nseconds(from.0.saturating_sub(LEAD)),
            );
            if let Err(e) = seeked {
                tracing::debug!("no seeking: {e}");
            }
        }
        self.pipeline.set_state(gst::State::Playing).map_err(refused)?;
        Ok(())
    }

    /// What went wrong before the first frame: where the file's own structure is not whole, that is the reason, however
    /// the demuxer or the decoder failed.
    fn before_any_frame(&self, e: Error) -> Error {
        if e.kind() == Kind::Input && !self.facts.structure.is_whole() {
            return messages::damaged(&self.facts.path).because(e);
        }
        e
    }

    /// Turns a sample into a frame; `None` if it lies before the span.
    fn frame(&mut self, sample: &gst::Sample, decode: Nanos) -> Result<Option<Frame>> {
        let caps = sample.caps().ok_or_else(|| Error::internal("a decoded frame has no caps"))?;
        let buffer =
            sample.buffer_owned().ok_or_else(|| Error::internal("a decoded sample has no buffer"))?;
        let info = colour_description::video_info(caps).map_err(|e| {
            Error::input(format!("{}: has a picture nobody can read", self.facts.path.display())).because(e)
        })?;
        let usual = self.usual_duration(&info);
        let shown = buffer.pts().and_then(|t| position(sample.segment(), t)).map(|t| Pts(t.nseconds()));
        let told = shown.and_then(|t| self.told_duration(t));
        let duration =
            told.or(buffer.duration().filter(|d| d.nseconds() > 0).map(|d| Nanos(d.nseconds()))).or(usual);
        let pts = match shown {
            Some(t) => t,
            // Streams without timestamps: one frame after the other.
            None => self.last.map_or(Pts(0), |(p, d)| Pts(p.0 + d.0)),
        };
        let interlaced = info.interlace_mode() != gst_video::VideoInterlaceMode::Progressive;
        let fields = self.packets().is_some_and(|p| p.fields.load(Ordering::Relaxed));
        self.pace = Pace { period: usual.or(self.declared_period()).map(|d| d.0), interlaced, fields };
        if shown.is_some() && self.is_surplus(pts) {
            return Ok(None);
        }
        if self.span.from.is_some_and(|f| pts.0 < f.0) {
            return Ok(None);
        }
        self.last = Some((pts, duration.unwrap_or(Nanos(40_000_000))));
        let id = self.next_id;
        self.next_id = id.next();
        if buffer.flags().contains(gst::BufferFlags::CORRUPTED) && self.is_under_way(pts) {
            let until_ns = duration.map(|d| pts.0 + d.0);
            self.losses.add(Loss {
                reason: LossReason::Damaged,
                at_ns: pts.0,
                until_ns,
                frame: Some(id.0),
                frames: Some(1),
            });
        }
        let (hand_over, offered) = (Nanos(0), Instant::now());
        Ok(Some(Frame { id, pts, duration, decode, hand_over, offered, info, buffer }))
    }

    /// The picture's packets; none before its stream is found.
    fn packets(&self) -> Option<&Arc<Packets>> {
        self.shared.packets.get()
    }

    /// Whether a decoder has been given what it needs for the frame at this time.
    fn is_under_way(&self, at: Pts) -> bool {
        self.packets().is_some_and(|p| p.under_way.load(Ordering::Relaxed) && !p.ledger().before_key(at.0))
    }

    /// How long the container says the frame at this time is shown.
    fn told_duration(&self, at: Pts) -> Option<Nanos> {
        self.packets()?.ledger().duration(at.0).filter(|d| *d > 0).map(Nanos)
    }

    fn declared_period(&self) -> Option<Nanos> {
        self.facts.fps.filter(|f| *f > 0.0).map(|f| Nanos((1e9 / f).round() as u64))
    }

    /// Compares a frame with the packets, and gives those that were lost before it their numbers. Whether the frame is
    /// none of the recording's own.
    fn is_surplus(&mut self, at: Pts) -> bool {
        let Some(packets) = self.packets().cloned() else { return false };
        self.hear();
        let passed = {
            let mut ledger = packets.ledger();
            ledger.damaged |= !self.facts.structure.is_whole();
            let passed = ledger.frame(at.0, self.pace);
            packets.under_way.store(ledger.under_way(), Ordering::Relaxed);
            passed
        };
        for stretch in passed.lost {
            self.lose(stretch);
        }
        passed.surplus
    }

    /// Lost frames keep their numbers, as far as they lie in the span.
    fn lose(&mut self, stretch: Stretch) {
        let Stretch { reason, mut at, mut until, mut frames } = stretch;
        let (from, to) = (self.span.from.map_or(0, |f| f.0), self.span.to.map_or(u64::MAX, |t| t.0));
        if at < from || until > to {
            let whole = (until - at).max(1);
            (at, until) = (at.max(from), until.min(to));
            if at >= until {
                return;
            }
            frames = ((u128::from(frames) * u128::from(until - at) + u128::from(whole) / 2)
                / u128::from(whole)) as u64;
        }
        if frames == 0 {
            return;
        }
        self.losses.add(Loss {
            reason,
            at_ns: at,
            until_ns: Some(until),
            frame: Some(self.next_id.0),
            frames: Some(frames),
        });
        self.next_id = FrameId(self.next_id.0 + frames);
    }

    /// Takes the pipeline's messages and the decoder's complaints.
    fn hear(&mut self) {
        let Some(packets) = self.packets().cloned() else { return };
        let complaints = self.complaints.get_or_insert_with(|| Complaints::hear(packets.clone())).clone();
        if let Ok(bus) = self.bus() {
            let (error, _) = messages::drain_heard(&bus, &self.facts.path, &mut || complaints.note());
            if let Some(e) = error {
                self.error.get_or_insert(e);
            }
        }
        if let Some((_, at)) = complaints.take() {
            packets.ledger().damaged = true;
            let inside = self.span.from.is_none_or(|f| at >= f.0) && self.span.to.is_none_or(|t| at < t.0);
            if inside {
                self.losses.add(Loss {
                    reason: LossReason::Complaint,
                    at_ns: at,
                    until_ns: Some(at),
                    frame: None,
                    frames: None,
                });
            }
        }
    }

    fn usual_duration(&self, info: &gst_video::VideoInfo) -> Option<Nanos> {
        let (n, d) = (info.fps().numer(), info.fps().denom());
        (n > 0 && d > 0).then(|| Nanos(1_000_000_000 * d as u64 / n as u64))
    }

    /// No more frames: what sound belongs to them is waited for.
    fn close(&mut self, failure: Option<String>) -> Next {
        self.closing = Some(Closing { failure, sound_end: 0, moved: Instant::now() });
        self.wait_for_sound()
    }

    fn wait_for_sound(&mut self) -> Next {
        let reached = self.shared.sound_end.load(Ordering::Relaxed);
        let enough = self.span.to.is_some_and(|to| reached >= to.0);
        let over = self.sound_sink.as_ref().is_none_or(|s| {
            s.is_eos() || s.static_pad("sink").is_none_or(|p| p.current_caps().is_none() && reached == 0)
        });
        let Some(closing) = &mut self.closing else { return Next::Wait };
        if reached > closing.sound_end {
            closing.sound_end = reached;
            closing.moved = Instant::now();
        }
        if enough || over || closing.failure.is_some() || closing.moved.elapsed() > SILENCE {
            let failure = closing.failure.take();
            return Next::Ended(self.end(failure));
        }
        // Frames beyond the span stand in the way of its sound.
        let _ = self.sink.try_pull_sample(gst::ClockTime::from_mseconds(5));
        if self.sink.is_eos() {
            std::thread::sleep(Duration::from_millis(5));
        }
        Next::Wait
    }

    fn end(&mut self, failure: Option<String>) -> Ended {
        self.ended = true;
        self.hear();
        if let Some(packets) = self.packets().cloned() {
            let rest = packets.ledger().finish(self.span.to.map(|t| t.0), self.pace);
            for stretch in rest {
                self.lose(stretch);
            }
        }
        self.look_at_the_end(failure.is_some());
        let losses = std::mem::take(&mut self.losses).finish();
        let said = sentence(&losses, self.facts.duration.map(|d| d.0));
        let said = said.map(|s| format!("{}: {s}", self.facts.path.display()));
        let cut_off = match (failure, said) {
            (Some(failure), Some(said)) => Some(format!("{failure}; {said}")),
            (failure, said) => failure.or(said),
        };
        let sizes = *lock(&self.shared.sizes);
        let changed = match sizes {
            (Some((w, h)), Some((w2, h2))) => {
                let first = crate::frame::PictureInfo::new(PixelFormat::I420, w as u32, h as u32);
                Some(size_change(&first, w2 as u32, h2 as u32))
            }
            _ => None,
        };
        Ended { cut_off, changed, losses }
    }

    /// Looks whether the picture reached its end, and whether damage to the file is explained by what was lost.
    fn look_at_the_end(&mut self, failed: bool) {
        let (structure, duration) = (self.facts.structure, self.facts.duration.map(|d| d.0));
        let reached = self.reached();
        let wanted = duration.map(|d| self.span.to.map_or(d, |to| to.0.min(d)));
        // A span that was taken to its end has no end to miss.
        let to_the_end = self.span.to.is_none_or(|to| reached < to.0);
        let missing = structure.pictures.zip(self.packets()).and_then(|(promised, packets)| {
            promised
                .checked_sub(packets.ledger().packets())
                .filter(|n| *n > 0 && self.span == Span::default())
        });
        let is_cut = to_the_end
            && if structure.tells_its_end && structure.is_whole() {
                false
            } else if structure.cut {
                true
            } else {
                wanted.is_some_and(|end| self.ends_before(end, &structure))
            };
        if is_cut && !(failed && reached == 0) {
            self.losses.add(Loss {
                reason: LossReason::CutOff,
                at_ns: reached,
                until_ns: duration.filter(|d| *d > reached),
                frame: missing.map(|_| self.next_id.0),
                frames: missing,
            });
        }
        if let Some(at) = structure.broken_at
            && to_the_end
        {
            let time = structure.broken_time(duration).unwrap_or(reached).min(reached);
            if self.span.from.is_none_or(|f| time >= f.0) && !self.losses.covers(time) {
                tracing::debug!("{}: byte {at} belongs to no part of it", self.facts.path.display());
                self.losses.add(Loss {
                    reason: LossReason::Broken,
                    at_ns: time,
                    until_ns: None,
                    frame: None,
                    frames: None,
                });
            }
        }
    }

    /// The end of the last frame that came or is known to be lost.
    fn reached(&self) -> u64 {
        let last = self.last.map_or(0, |(pts, duration)| pts.0 + duration.0);
        let known = self.packets().and_then(|p| p.ledger().end(self.pace)).unwrap_or(0);
        last.max(known)
    }

    /// Whether the stream stopped before the time its container promises. Sound may be longer than the picture: only if
    /// both stop early is the file cut off, except where its structure is damaged.
    fn ends_before(&self, promised: u64, structure: &super::Structure) -> bool {
        if self.promises_nothing() {
            return false;
        }
        let Some((_, duration)) = self.last else { return false };
        let mut reached = self.reached();
        if structure.is_whole() {
            reached = reached.max(self.shared.sound_end.load(Ordering::Relaxed));
        }
        reached + (2 * duration.0).max(150_000_000) < promised
    }

    /// Whether no container says how long the stream is: a bare stream, whose parser guesses, or one of packets.
    fn promises_nothing(&self) -> bool {
        let mut demuxers = self.pipeline.iterate_recurse().into_iter().flatten().filter_map(|e| {
            let factory = e.factory().filter(|f| f.klass().contains("Demux"))?;
            Some(factory.name())
        });
        demuxers.all(|name| matches!(name.as_str(), "tsdemux" | "mpegpsdemux"))
    }
}

impl Source for Recording {
    fn next(&mut self) -> Result<Next> {
        if self.ended {
            return Ok(Next::Ended(Ended::default()));
        }
        if self.closing.is_some() {
            return Ok(self.wait_for_sound());
        }
        let asked = Instant::now();
        if let Some(sample) = self.sink.try_pull_sample(MOMENT) {
            self.last_progress = Instant::now();
            let Some(frame) = self.frame(&sample, asked.elapsed().into())? else { return Ok(Next::Wait) };
            if *self.colours.get_or_insert(frame.info.colorimetry()) != frame.info.colorimetry() {
                let at = self.facts.path.display();
                let words = format!("{at}: codes its colours in another way from {} on", frame.pts);
                return Ok(self.close(Some(words)));
            }
            if self.span.to.is_some_and(|to| frame.pts.0 >= to.0) {
                return Ok(self.close(None));
            }
            return Ok(Next::Frame(frame));
        }
        self.hear();
        if self.packets().is_none()
            && let (Some(e), _) = messages::drain(&self.bus()?, &self.facts.path)
        {
            self.error.get_or_insert(e);
        }
        // What fails at one end of the pipeline does not take away what is on its way to the other.
        if (self.sink.is_eos() || self.last_progress.elapsed() > LAST_FRAMES)
            && let Some(e) = self.error.take()
        {
            if self.last.is_none() {
                return Err(self.before_any_frame(e));
            }
            return Ok(self.close(Some(e.to_string())));
        }
        if self.sink.is_eos() {
            if self.last.is_none() {
                let at = self.facts.path.display();
                return Err(if self.span == Span::default() {
                    self.before_any_frame(
                        Error::input(format!("{at}: holds no frame that can be decoded"))
                            .remedy("check that it plays elsewhere, or copy it again"),
                    )
                } else {
                    Error::usage(format!("{at}: has no frames between --from and --to"))
                        .remedy("check the times")
                });
            }
            return Ok(self.close(None));
        }
        if self.last_progress.elapsed() > STUCK {
            let words =
                format!("{}: the decoder gave nothing for {} s", self.facts.path.display(), STUCK.as_secs());
            if self.last.is_none() {
                return Err(Error::input(words).remedy("copy or export the file again"));
            }
            return Ok(self.close(Some(words)));
        }
        Ok(Next::Wait)
    }

    fn path(&self) -> &Path {
        &self.facts.path
    }

    fn expected_frames(&self) -> Option<u64> {
        let end = match (self.facts.duration, self.span.to) {
            (Some(d), Some(to)) => d.0.min(to.0),
            (Some(d), None) => d.0,
            (None, _) => return None,
        };
        let span = end.saturating_sub(self.span.from.unwrap_or_default().0);
        self.facts.fps.map(|fps| (span as f64 * 1e-9 * fps).round() as u64)
    }

    fn fps(&self) -> Option<f64> {
        self.facts.fps
    }

    fn losses(&self) -> Vec<Loss> {
        self.losses.clone().finish()
    }

    fn sound(&mut self) -> Vec<SoundPacket> {
        let inside = |p: &SoundPacket| match (p.buffer.pts(), self.span.to) {
            (Some(at), Some(to)) => at.nseconds() < to.0,
            _ => true,
        };
        self.sound.try_iter().filter(inside).collect()
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}

/// Notes every size the decoder announces.
fn watch_size(pad: &gst::Pad, shared: Arc<Shared>) {
    pad.add_probe(gst::PadProbeType::EVENT_DOWNSTREAM, move |_, probe| {
        let Some(gst::EventView::Caps(event)) = probe.event().map(|e| e.view()) else {
            return gst::PadProbeReturn::Ok;
        };
        let Some(s) = event.caps().structure(0) else { return gst::PadProbeReturn::Ok };
        if let (Ok(w), Ok(h)) = (s.get::<i32>("width"), s.get::<i32>("height")) {
            let mut sizes = lock(&shared.sizes);
            match sizes.0 {
                None => sizes.0 = Some((w, h)),
                Some(first) if first != (w, h) => sizes.1 = Some((w, h)),
                Some(_) => {}
            }
        }
        gst::PadProbeReturn::Ok
    });
}

/// Makes `filter` hold every later picture to the shape of the first, as it is before it is turned. This happens on the
/// streaming thread while the first picture's caps pass, so that no second picture can slip through.
fn fix_shape(filter: &gst::Element) -> Result<()> {
    let exit = filter.static_pad("src").ok_or_else(|| Error::internal("a filter has no exit"))?;
    let filter = filter.downgrade();
    exit.add_probe(gst::PadProbeType::EVENT_DOWNSTREAM, move |_, probe| {
        let Some(gst::EventView::Caps(event)) = probe.event().map(|e| e.view()) else {
            return gst::PadProbeReturn::Ok;
        };
        if let (Ok(info), Some(filter)) = (colour_description::video_info(event.caps()), filter.upgrade()) {
            let fixed = gst_video::VideoCapsBuilder::new()
                .format(info.format())
                .width(i32::try_from(info.width()).unwrap_or(i32::MAX))
                .height(i32::try_from(info.height()).unwrap_or(i32::MAX))
                .pixel_aspect_ratio(info.par())
                .build();
            filter.set_property("caps", fixed);
        }
        gst::PadProbeReturn::Remove
    });
    Ok(())
}

/// Adds the branch that takes encoded sound and returns its entry and its end. What does not fit `wanted` is only
/// watched for its end.
fn sound_branch(
    pipeline: &gst::Pipeline,
    facts: &AudioFacts,
    wanted: Option<&gst::Caps>,
    sender: Sender<SoundPacket>,
    shared: Arc<Shared>,
) -> Result<(gst::Pad, gst_app::AppSink)> {
    let queue = element("queue")?;
    for limit in ["max-size-buffers", "max-size-bytes"] {
        queue.set_property(limit, 0u32);
    }
    queue.set_property("max-size-time", 0u64);
    let sink = gst_app::AppSink::builder().sync(false).build();
    sink.set_property("enable-last-sample", false);
    // The pipeline starts with the picture, however late the sound begins.
    sink.set_property("async", false);
    let mut chain = vec![queue.clone()];
    let is_aac = facts.caps.structure(0).is_some_and(|s| {
        s.name() == "audio/mpeg" && s.get::<i32>("mpegversion").is_ok_and(|v| v == 2 || v == 4)
    });
    if wanted.is_some() && is_aac {
        // A transport stream's AAC carries its headers in every packet; files want them once.
        chain.push(element("aacparse")?);
    }
    if let Some(caps) = wanted {
        sink.set_caps(Some(caps));
    }
    chain.push(sink.clone().upcast());
    let wiring =
        |e: gst::glib::BoolError| Error::internal("the sound branch cannot be put together").because(e);
    pipeline.add_many(&chain).map_err(wiring)?;
    gst::Element::link_many(&chain).map_err(wiring)?;
    let keep = wanted.is_some();
    sink.set_callbacks(
        gst_app::AppSinkCallbacks::builder()
            .new_sample(move |sink| {
                let Ok(sample) = sink.pull_sample() else { return Err(gst::FlowError::Eos) };
                let (Some(caps), Some(buffer)) = (sample.caps_owned(), sample.buffer_owned()) else {
                    return Ok(gst::FlowSuccess::Ok);
                };
                let at = buffer.pts().and_then(|t| position(sample.segment(), t));
                if let Some(at) = at {
                    let end = at.nseconds() + buffer.duration().map_or(0, |d| d.nseconds());
                    shared.sound_end.fetch_max(end, Ordering::Relaxed);
                }
                if keep {
                    let mut buffer = buffer;
                    let change = buffer.make_mut();
                    change.set_pts(at);
                    change.set_dts(gst::ClockTime::NONE);
                    // Nobody listening means the replay is over.
                    let _ = sender.send(SoundPacket { caps, buffer });
                }
                Ok(gst::FlowSuccess::Ok)
            })
            .build(),
    );
    let entry = queue.static_pad("sink").ok_or_else(|| Error::internal("a queue has no entry"))?;
    Ok((entry, sink))
}
