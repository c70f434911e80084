//! Completes the caps of raw video while they pass.
//!
//! In: the elements of a bin, those it has and those it will have. Out: every caps event of raw video that leaves one of
//! them carries a complete colorimetry, and where a stream changes its description on the way, a new caps event tells it
//! before the first picture it is true of.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

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

fn watch_element(element: &gst::Element) {
    // What is in a bin is watched itself.
    if element.is::<gst::Bin>() {
        return;
    }
    let decoders = gst::ElementFactoryType::DECODER
        | gst::ElementFactoryType::MEDIA_VIDEO
        | gst::ElementFactoryType::MEDIA_IMAGE;
    let decodes = element.factory().is_some_and(|f| f.has_type(decoders));
    let heard = decodes.then(Arc::<Heard>::default);
    for pad in element.pads() {
        watch_pad(&pad, heard.as_ref());
    }
    element.connect_pad_added(move |_, pad| watch_pad(pad, heard.as_ref()));
}

fn watch_pad(pad: &gst::Pad, heard: Option<&Arc<Heard>>) {
    match (pad.direction(), heard) {
        (gst::PadDirection::Sink, Some(heard)) => listen(pad, heard.clone()),
        (gst::PadDirection::Src, _) => announce(pad, heard.cloned()),
        _ => {}
    }
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
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
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
        {
            if let Some(said) = codec.said_in(&data) {
                known.changed |= said != known.bitstream;
                known.bitstream = said;
            }
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

/// Completes the caps that leave an element; `heard` is what its stream said, if it is a decoder.
fn announce(pad: &gst::Pad, heard: Option<Arc<Heard>>) {
    let kinds = match heard {
        Some(_) => gst::PadProbeType::EVENT_DOWNSTREAM | gst::PadProbeType::BUFFER,
        None => gst::PadProbeType::EVENT_DOWNSTREAM,
    };
    let told = Told::default();
    pad.add_probe(kinds, move |pad, probe| {
        match &probe.data {
            Some(gst::PadProbeData::Event(event)) => {
                if let gst::EventView::Caps(caps) = event.view()
                    && caps.caps().structure(0).is_some_and(|s| s.name() == "video/x-raw")
                {
                    let own = caps.caps_owned();
                    let version = heard.as_ref().map_or(0, |h| h.version.load(Ordering::Acquire));
                    let whole = completed(pad, &own, heard.as_deref());
                    told.version.store(version, Ordering::Relaxed);
                    *told.caps.lock().unwrap_or_else(PoisonError::into_inner) = Some(own);
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
                if let Some(heard) = &heard
                    && heard.version.load(Ordering::Acquire) != told.version.load(Ordering::Relaxed)
                    && let Err(name) = retell(pad, buffer, heard, &told)
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
            ["its colours are coded as {name}, which nothing here converts; export it as BT.709"]
        );
    }
}

/// The stream has changed its words: says so before the first picture they are true of.
fn retell(pad: &gst::Pad, buffer: &gst::BufferRef, heard: &Heard, told: &Told) -> Result<(), &'static str> {
    let version = heard.version.load(Ordering::Acquire);
    let since = heard.known().since;
    if since.zip(buffer.pts()).is_some_and(|(since, pts)| pts < since) {
        return Ok(());
    }
    told.version.store(version, Ordering::Relaxed);
    let own = told.caps.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let Some(own) = own else { return Ok(()) };
    let now = completed(pad, &own, Some(heard))?.unwrap_or(own);
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
fn completed(
    pad: &gst::Pad,
    caps: &gst::Caps,
    heard: Option<&Heard>,
) -> Result<Option<gst::Caps>, &'static str> {
    let Some(s) = caps.structure(0) else { return Ok(None) };
    let (Ok(format), Ok(height)) = (s.get::<&str>("format"), s.get::<i32>("height")) else {
        return Ok(None);
    };
    let own = Said::caps(caps);
    let said = match heard {
        // A demuxer may give raw pictures.
        None => container_box(pad).unwrap_or_default().or(own),
        Some(heard) => {
            let known = heard.known();
            let rule = known.codec.map_or_else(Said::default, Codec::rule);
            // libav's decoders call limited what is only unsaid.
            let own = Said { full_range: own.full_range.filter(|full| *full), ..own };
            known.bitstream.or(known.container).or(own).or(rule)
        }
    };
    let format = gst_video::VideoFormatInfo::from_format(gst_video::VideoFormat::from_string(format));
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
