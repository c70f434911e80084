//! Completes the caps of raw video while they pass.
//!
//! In: the elements of a bin, those it has and those it will have. Out: every caps event of raw video that leaves one
//! of them carries a complete colorimetry, and where a stream changes its description on the way, a new caps event
//! tells it before the first picture it is true of.

use crate::lock::lock;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_video as gst_video;

use super::bitstream::Codec;
use super::{Said, colr, complete};

/// Watches everything in `bin`.
pub(in crate::capture) fn watch(bin: &gst::Bin) {
    for element in bin.iterate_recurse().into_iter().flatten() {
        watch_element(&element);
    }
    bin.connect_deep_element_added(|_, _, element| watch_element(element));
}

/// What an element has to do with the description of what leaves it.
#[derive(Clone)]
enum Part {
    /// Knows what its encoded stream says.
    Decoder(Arc<Heard>),
    /// Turns one raw layout into another; the caps it is given are kept.
    Converter(Arc<Mutex<Option<gst::Caps>>>),
    Other,
}

impl Part {
    fn of(element: &gst::Element) -> Self {
        let Some(factory) = element.factory() else { return Self::Other };
        let decoders = gst::ElementFactoryType::DECODER
            | gst::ElementFactoryType::MEDIA_VIDEO
            | gst::ElementFactoryType::MEDIA_IMAGE;
        match factory.name().as_str() {
            "videoconvert" | "videoconvertscale" => Self::Converter(Arc::default()),
            _ if factory.has_type(decoders) => Self::Decoder(Arc::default()),
            _ => Self::Other,
        }
    }
}

fn watch_element(element: &gst::Element) {
    // What is in a bin is watched itself.
    if element.is::<gst::Bin>() {
        return;
    }
    let part = Part::of(element);
    for pad in element.pads() {
        watch_pad(&pad, &part);
    }
    element.connect_pad_added(move |_, pad| watch_pad(pad, &part));
}

fn watch_pad(pad: &gst::Pad, part: &Part) {
    match (pad.direction(), part) {
        (gst::PadDirection::Sink, Part::Decoder(heard)) => listen(pad, heard.clone()),
        (gst::PadDirection::Sink, Part::Converter(given)) => remember(pad, given.clone()),
        (gst::PadDirection::Src, _) => announce(pad, part.clone()),
        _ => {}
    }
}

/// Keeps the raw caps a converter is given: its pad does not have them yet when it tells what it makes of them.
fn remember(pad: &gst::Pad, given: Arc<Mutex<Option<gst::Caps>>>) {
    pad.add_probe(gst::PadProbeType::EVENT_DOWNSTREAM, move |_, probe| {
        if let Some(gst::EventView::Caps(event)) = probe.event().map(|e| e.view()) {
            *lock(&given) = Some(event.caps_owned());
        }
        gst::PadProbeReturn::Ok
    });
}

/// What a converter's caps should have said. GStreamer 1.22 does not convert the range between layouts of the same
/// matrix, whatever it writes into the caps (`same_matrix` in its converter looks at the matrix alone): full-range grey
/// that becomes YUV is called limited. So the range stays that of what was given.
fn carried(given: &gst::CapsRef, made: &gst_video::VideoFormatInfo, own: Said) -> Said {
    let format = given.structure(0).and_then(|s| s.get::<&str>("format").ok());
    let Some(format) = format.map(gst_video::VideoFormat::from_string) else { return own };
    let given_said = Said::caps(given);
    let rgb = gst_video::VideoFormatInfo::from_format(format).is_rgb() || made.is_rgb();
    if rgb || given_said.matrix != own.matrix {
        return own;
    }
    Said { full_range: given_said.full_range.or(own.full_range), ..own }
}

/// What was heard at a decoder's entry.
#[derive(Default)]
struct Heard {
    /// Locked by the decoder's streaming threads alone, and only for caps and for buffers that may hold a header.
    known: Mutex<Known>,
    /// Goes up when what is known changes while pictures flow.
    version: AtomicU32,
    /// The stream has said all it will say until the next caps.
    done: AtomicBool,
}

#[derive(Default)]
struct Known {
    codec: Option<Codec>,
    bitstream: Said,
    container: Said,
    /// Something changed, and the picture it is true of is the next.
    changed: bool,
    /// Timestamp of the first picture it is true of.
    since: Option<gst::ClockTime>,
}

impl Heard {
    fn known(&self) -> MutexGuard<'_, Known> {
        lock(&self.known)
    }

    fn caps(&self, caps: &gst::CapsRef, pad: &gst::Pad) {
        let found = Codec::of(caps);
        let container = upstream(pad, "qtdemux")
            .as_ref()
            .and_then(container_box)
            .unwrap_or_default()
            .or(Said::caps(caps));
        let mut known = self.known();
        let before = (known.bitstream, known.container);
        let codec = found.map(|f| f.0);
        // What stands among the pictures is not forgotten because their size changes.
        let kept = if codec == known.codec { known.bitstream } else { Said::default() };
        known.bitstream = found.and_then(|f| f.1).unwrap_or(kept);
        known.codec = codec;
        known.container = container;
        known.changed |= before != (known.bitstream, known.container);
        self.done.store(known.codec.is_none() && !known.changed, Ordering::Relaxed);
    }

    fn buffer(&self, buffer: &gst::BufferRef) {
        if self.done.load(Ordering::Relaxed) || buffer.flags().contains(gst::BufferFlags::DELTA_UNIT) {
            return;
        }
        let mut known = self.known();
        if let Some(codec) = known.codec
            && let Ok(data) = buffer.map_readable()
            && let Some(said) = codec.said_in(&data)
        {
            known.changed |= said != known.bitstream;
            known.bitstream = said;
        }
        self.done.store(known.codec.is_none_or(Codec::says_it_once), Ordering::Relaxed);
        if std::mem::take(&mut known.changed) {
            known.since = buffer.pts();
            self.version.fetch_add(1, Ordering::Release);
        }
    }
}

/// Hears what goes into a decoder.
fn listen(pad: &gst::Pad, heard: Arc<Heard>) {
    pad.add_probe(gst::PadProbeType::EVENT_DOWNSTREAM | gst::PadProbeType::BUFFER, move |pad, probe| {
        match &probe.data {
            Some(gst::PadProbeData::Buffer(buffer)) => heard.buffer(buffer),
            Some(gst::PadProbeData::Event(event)) => {
                if let gst::EventView::Caps(event) = event.view() {
                    heard.caps(event.caps(), pad);
                }
            }
            _ => {}
        }
        gst::PadProbeReturn::Ok
    });
}

/// What leaves an element.
#[derive(Default)]
struct Told {
    version: AtomicU32,
    /// The element's own caps.
    caps: Mutex<Option<gst::Caps>>,
}

/// Completes the caps that leave an element.
fn announce(pad: &gst::Pad, part: Part) {
    let kinds = match part {
        Part::Decoder(_) => gst::PadProbeType::EVENT_DOWNSTREAM | gst::PadProbeType::BUFFER,
        _ => gst::PadProbeType::EVENT_DOWNSTREAM,
    };
    let told = Told::default();
    pad.add_probe(kinds, move |pad, probe| {
        match &probe.data {
            Some(gst::PadProbeData::Event(event)) => {
                if let gst::EventView::Caps(caps) = event.view()
                    && caps.caps().structure(0).is_some_and(|s| s.name() == "video/x-raw")
                {
                    let own = caps.caps_owned();
                    let version = match &part {
                        Part::Decoder(heard) => heard.version.load(Ordering::Acquire),
                        _ => 0,
                    };
                    let whole = completed(pad, &own, &part);
                    told.version.store(version, Ordering::Relaxed);
                    *lock(&told.caps) = Some(own);
                    match whole {
                        Ok(None) => {}
                        Ok(Some(whole)) => {
                            let event = gst::event::Caps::builder(&whole).seqnum(event.seqnum()).build();
                            probe.data = Some(gst::PadProbeData::Event(event));
                        }
                        Err(name) => {
                            refuse(pad, name);
                            // Without caps no picture gets through, least of all in wrong colours.
                            return gst::PadProbeReturn::Drop;
                        }
                    }
                }
            }
            Some(gst::PadProbeData::Buffer(buffer)) => {
                if let Part::Decoder(heard) = &part
                    && heard.version.load(Ordering::Acquire) != told.version.load(Ordering::Relaxed)
                    && let Err(name) = retell(pad, buffer, heard, &part, &told)
                {
                    refuse(pad, name);
                    return gst::PadProbeReturn::Drop;
                }
            }
            _ => {}
        }
        gst::PadProbeReturn::Ok
    });
}

/// Ends the stream with the reason.
fn refuse(pad: &gst::Pad, name: &str) {
    if let Some(element) = pad.parent_element() {
        gst::element_error!(
            element,
            gst::StreamError::NotImplemented,
            ("its colours are coded as {name}, which nothing here converts; export it as BT.709")
        );
    }
}

/// The stream has changed its words: says so before the first picture they are true of.
fn retell(
    pad: &gst::Pad,
    buffer: &gst::BufferRef,
    heard: &Heard,
    part: &Part,
    told: &Told,
) -> Result<(), &'static str> {
    let version = heard.version.load(Ordering::Acquire);
    let since = heard.known().since;
    if since.zip(buffer.pts()).is_some_and(|(since, pts)| pts < since) {
        return Ok(());
    }
    told.version.store(version, Ordering::Relaxed);
    let own = lock(&told.caps).clone();
    let Some(own) = own else { return Ok(()) };
    let now = completed(pad, &own, part)?.unwrap_or(own);
    // What arrived at the other side is what was said last.
    if pad.peer().and_then(|p| p.current_caps()).is_some_and(|last| last != now) {
        pad.push_event(gst::event::Caps::new(&now));
    }
    Ok(())
}

/// Caps with a complete colorimetry; `None` if they have it already, or describe no picture.
///
/// # Errors
/// The name of coefficients nobody here can convert.
fn completed(pad: &gst::Pad, caps: &gst::Caps, part: &Part) -> Result<Option<gst::Caps>, &'static str> {
    let Some(s) = caps.structure(0) else { return Ok(None) };
    let (Ok(format), Ok(height)) = (s.get::<&str>("format"), s.get::<i32>("height")) else {
        return Ok(None);
    };
    let format = gst_video::VideoFormatInfo::from_format(gst_video::VideoFormat::from_string(format));
    let own = Said::caps(caps);
    let said = match part {
        // A demuxer may give raw pictures.
        Part::Other => container_box(pad).unwrap_or_default().or(own),
        Part::Converter(given) => match &*lock(given) {
            Some(given) => carried(given, &format, own),
            None => own,
        },
        Part::Decoder(heard) => {
            let known = heard.known();
            let rule = known.codec.map_or_else(Said::default, Codec::rule);
            // libav's decoders call limited what is only unsaid.
            let own = Said { full_range: own.full_range.filter(|full| *full), ..own };
            known.bitstream.or(known.container).or(own).or(rule)
        }
    };
    let text = complete(said, format, u32::try_from(height).unwrap_or(0))?.to_string();
    if s.get::<&str>("colorimetry").is_ok_and(|c| c == text) {
        return Ok(None);
    }
    let mut whole = caps.clone();
    whole.make_mut().set("colorimetry", text);
    Ok(Some(whole))
}

/// What the box says in the MP4 file that `exit`, a demuxer's pad, gives a track of.
fn container_box(exit: &gst::Pad) -> Option<Said> {
    let demuxer = exit.parent_element().filter(|e| is_made_by(e, "qtdemux"))?;
    let track = exit.name().strip_prefix("video_")?.parse().ok()?;
    let before = upstream(&demuxer.static_pad("sink")?, "filesrc")?;
    let file = before.parent_element()?.property::<Option<String>>("location")?;
    colr::of_track(Path::new(&file), track)
}

fn is_made_by(element: &gst::Element, factory: &str) -> bool {
    element.factory().is_some_and(|f| f.name() == factory)
}

/// The exit of the nearest element of this kind before `entry`.
fn upstream(entry: &gst::Pad, factory: &str) -> Option<gst::Pad> {
    /// Pads between a decoder and its file, at most.
    const FAR: usize = 64;
    let mut exit = entry.peer()?;
    for _ in 0..FAR {
        if let Some(ghost) = exit.downcast_ref::<gst::GhostPad>() {
            // A bin's exit: on to what feeds it from inside.
            exit = ghost.target()?;
        } else if let Some(proxy) = exit.downcast_ref::<gst::ProxyPad>() {
            // The inner side of a bin's entry: on to what feeds it from outside.
            exit = proxy.internal()?.upcast::<gst::Pad>().peer()?;
        } else if is_made_by(&exit.parent_element()?, factory) {
            return Some(exit);
        } else {
            exit = exit.iterate_internal_links().into_iter().flatten().next()?.peer()?;
        }
    }
    None
}
