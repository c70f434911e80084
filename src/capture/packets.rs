//! Watches encoded packets on their way from the container to the decoder.
//!
//! In: the elements that read a recording, as they are made. Out: a [`Ledger`] of the picture's packets.
//!
//! Packets are counted where the demuxer gives them, if it gives one for each picture: a parser behind it drops what it
//! cannot read. Transport and program streams know no pictures; theirs are counted where the parser gives them.

use crate::lock::lock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use gstreamer as gst;
use gstreamer::prelude::*;

use super::access_units::Codec;
use super::ledger::{Ledger, Seen};

/// Demuxers whose packets are pictures.
const FRAMED: &[&str] =
    &["qtdemux", "matroskademux", "avidemux", "flvdemux", "asfdemux", "mxfdemux", "oggdemux", "gxfdemux"];
/// Of these, those whose container says of every picture how long it is shown.
const SAYS_DURATIONS: &str = "qtdemux";

/// The packets of one stream, written by a streaming thread and read by the reader's.
#[derive(Debug, Default)]
pub(super) struct Packets {
    ledger: Mutex<Ledger>,
    /// Counted behind a parser.
    parsed: bool,
    /// Position of the latest packet, in nanoseconds.
    latest: AtomicU64,
    /// Each packet is a field, two of which make a picture.
    pub fields: AtomicBool,
    /// Whether complaints count; see [`Ledger::under_way`].
    pub under_way: AtomicBool,
}

impl Packets {
    pub fn ledger(&self) -> MutexGuard<'_, Ledger> {
        lock(&self.ledger)
    }

    pub fn latest(&self) -> u64 {
        self.latest.load(Ordering::Relaxed)
    }

    fn note(&self, pad: &gst::Pad, buffer: &gst::BufferRef, codec: Codec) {
        let by_decoding = buffer.pts().is_none();
        let key = !buffer.flags().contains(gst::BufferFlags::DELTA_UNIT);
        // A bare stream has no times; its parser invents them.
        if by_decoding && self.parsed {
            self.ledger().packet(Seen { key, ..Seen::default() });
            return;
        }
        // Headers have no time.
        let Some(time) = buffer.pts().or(buffer.dts()) else { return };
        if buffer.map_readable().is_ok_and(|bytes| !codec.shows(&bytes)) {
            return;
        }
        let Some(event) = pad.sticky_event::<gst::event::Segment>(0) else { return };
        let Some(segment) = event.segment().downcast_ref::<gst::ClockTime>() else { return };
        // The end is the first instant that is no longer shown.
        let at = segment.to_stream_time(time).filter(|_| segment.stop().is_none_or(|stop| time < stop));
        let start = segment.start();
        let cut_at = match (at, start, buffer.duration()) {
            (None, Some(start), Some(d)) if time < start && time + d > start => segment.to_stream_time(start),
            _ => None,
        };
        if let Some(at) = at {
            self.latest.store(at.nseconds(), Ordering::Relaxed);
        }
        self.ledger().packet(Seen {
            at: at.map(|t| t.nseconds()),
            duration: buffer.duration().map(|d| d.nseconds()),
            cut_at: cut_at.map(|t| t.nseconds()),
            by_decoding,
            key,
            broken_off: buffer.flags().contains(gst::BufferFlags::DISCONT),
        });
    }

    /// Notes whether the parser says that pictures are coded as fields.
    fn watch_fields(self: &Arc<Self>, entry: &gst::Pad) {
        let packets = self.clone();
        entry.add_probe(gst::PadProbeType::EVENT_DOWNSTREAM, move |_, probe| {
            if let Some(gst::EventView::Caps(event)) = probe.event().map(|e| e.view()) {
                let structure = event.caps().structure(0);
                let coded = structure.and_then(|s| s.get::<&str>("coded-picture-structure").ok());
                packets.fields.store(coded == Some("field"), Ordering::Relaxed);
            }
            gst::PadProbeReturn::Ok
        });
    }

    /// Counts what passes a pad.
    fn watch(self: &Arc<Self>, pad: &gst::Pad) {
        let packets = self.clone();
        let codec = Mutex::new(None);
        pad.add_probe(gst::PadProbeType::BUFFER | gst::PadProbeType::EVENT_FLUSH, move |pad, probe| {
            match &probe.data {
                Some(gst::PadProbeData::Buffer(buffer)) => {
                    let codec = *lock(&codec).get_or_insert_with(|| codec_of(pad));
                    packets.note(pad, buffer, codec);
                }
                Some(gst::PadProbeData::Event(event)) if event.type_() == gst::EventType::FlushStop => {
                    packets.ledger().restart();
                }
                _ => {}
            }
            gst::PadProbeReturn::Ok
        });
    }
}

/// Takes the end off every segment that passes. The demuxer takes the length a recorder wrote before it knew it for the
/// end, and the decoder then drops the frames after it.
pub(super) fn open_the_end(pad: &gst::Pad) {
    change_segments(pad, |segment| {
        let ends = segment.stop().is_some();
        segment.set_stop(gst::ClockTime::NONE);
        ends
    });
}

/// Passes every segment on as `change` leaves it; `change` says whether it did anything.
fn change_segments(
    pad: &gst::Pad,
    change: impl Fn(&mut gst::FormattedSegment<gst::ClockTime>) -> bool + Send + Sync + 'static,
) {
    pad.add_probe(gst::PadProbeType::EVENT_DOWNSTREAM, move |_, probe| {
        let changed = probe.event().and_then(|event| {
            let gst::EventView::Segment(segment) = event.view() else { return None };
            let mut segment = segment.segment().downcast_ref::<gst::ClockTime>()?.clone();
            change(&mut segment)
                .then(|| gst::event::Segment::builder(&segment).seqnum(event.seqnum()).build())
        });
        if let Some(changed) = changed {
            probe.data = Some(gst::PadProbeData::Event(changed));
        }
        gst::PadProbeReturn::Ok
    });
}

fn codec_of(pad: &gst::Pad) -> Codec {
    pad.current_caps()
        .and_then(|caps| {
            let s = caps.structure(0)?;
            Some(Codec::of(s.name(), s.get::<i32>("mpegversion").ok()))
        })
        .unwrap_or_default()
}

/// The parsers of a recording, each with its packets, until it is known which is the picture's.
#[derive(Default)]
pub(super) struct Intake {
    parsers: Mutex<Vec<(gst::Element, Arc<Packets>)>>,
    framed: AtomicBool,
    says_durations: AtomicBool,
    program: AtomicBool,
}

impl Intake {
    /// Watches every parser that a `parsebin` makes from now on.
    pub fn of(parse: &gst::Element) -> Arc<Self> {
        let intake = Arc::new(Self::default());
        if let Some(bin) = parse.downcast_ref::<gst::Bin>() {
            let weak = Arc::downgrade(&intake);
            bin.connect_deep_element_added(move |_, _, element| {
                if let Some(intake) = weak.upgrade() {
                    intake.made(element);
                }
            });
        }
        intake
    }

    fn made(&self, element: &gst::Element) {
        let Some(factory) = element.factory() else { return };
        let kind = factory.metadata("klass").unwrap_or_default();
        if kind.contains("Demux") {
            let name = factory.name();
            self.framed.store(FRAMED.contains(&name.as_str()), Ordering::Relaxed);
            self.says_durations.store(name == SAYS_DURATIONS, Ordering::Relaxed);
            self.program.store(name == "mpegpsdemux", Ordering::Relaxed);
        } else if kind.contains("Parser") && (kind.contains("Video") || kind.contains("Image")) {
            let Some(entry) = element.static_pad("sink") else { return };
            let packets = Arc::new(Packets::default());
            packets.watch(&entry);
            lock(&self.parsers).push((element.clone(), packets));
        }
    }

    /// The packets of the stream that leaves the `parsebin` by `exit` and enters the decoder by `entry`.
    pub fn settle(&self, exit: &gst::Pad, entry: &gst::Pad) -> Arc<Packets> {
        let parsers = std::mem::take(&mut *lock(&self.parsers));
        let framed = self.framed.load(Ordering::Relaxed);
        let chosen = if framed { first_parser(exit, &parsers) } else { None };
        let packets = chosen.unwrap_or_else(|| {
            let packets = Arc::new(Packets { parsed: !framed, ..Packets::default() });
            packets.watch(entry);
            packets
        });
        packets.watch_fields(entry);
        // The clock of a program stream may begin after its first pictures are shown, and they would be dropped.
        if self.program.load(Ordering::Relaxed) {
            change_segments(entry, |segment| {
                let same = segment.start() == segment.time() && segment.start() > Some(gst::ClockTime::ZERO);
                if same {
                    segment.set_start(gst::ClockTime::ZERO);
                    segment.set_time(gst::ClockTime::ZERO);
                }
                same
            });
        }
        packets.ledger().says_durations = framed && self.says_durations.load(Ordering::Relaxed);
        packets
    }
}

/// The parser nearest to the demuxer, upstream of a pad.
fn first_parser(exit: &gst::Pad, parsers: &[(gst::Element, Arc<Packets>)]) -> Option<Arc<Packets>> {
    let mut found = None;
    let mut pad = exit.clone();
    // No chain is longer; a circle would be a defect.
    for _ in 0..16 {
        while let Some(target) = pad.downcast_ref::<gst::GhostPad>().and_then(|g| g.target()) {
            pad = target;
        }
        let Some(element) = pad.parent_element() else { break };
        if let Some((_, packets)) = parsers.iter().find(|(e, _)| *e == element) {
            found = Some(packets.clone());
        }
        let Some(upstream) = element.static_pad("sink").and_then(|sink| sink.peer()) else { break };
        pad = upstream;
    }
    found
}
