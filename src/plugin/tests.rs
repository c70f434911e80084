//! The elements one by one, in a harness: no pipeline, no wall clock, a network that answers when it is told to.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_channel::{Receiver, Sender, unbounded};
use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_check::Harness;
use gstreamer_video as gst_video;

use super::PolypSegment;
use crate::capture::MASK;
use crate::frame::{Mask, Picture, Polyp, Rect};
use crate::segment::Spans;
use crate::tracks::SharedFilter;
use crate::worker::FrameAnalyzer;
use crate::{Error, Result};

const CAPS: &str = "video/x-raw,format=GRAY8,width=64,height=48,framerate=25/1";
const FRAME: gst::ClockTime = gst::ClockTime::from_mseconds(40);

/// Marks a rectangle whose place the picture's first byte says; 200 is an error, 201 a panic.
struct Square {
    /// One word lets one frame through; a closed channel lets all.
    gate: Receiver<()>,
    begun: Sender<()>,
}

impl FrameAnalyzer for Square {
    fn analyse(&mut self, picture: &Picture, mask: &mut Mask) -> Result<Spans> {
        let _ = self.begun.send(());
        let _ = self.gate.recv();
        let at = u32::from(picture.planes[0].row(0)[0]);
        match at {
            200 => return Err(Error::inference("the test's network does not like this frame")),
            201 => panic!("the test's network panics"),
            _ => {}
        }
        let (w, h) = (picture.info.width, picture.info.height);
        (mask.width, mask.height, mask.field_of_view) = (w, h, Rect::full(w, h));
        mask.inside.clear();
        mask.inside.resize((w * h) as usize, 0);
        let bbox = Rect::new(at, at / 2, 8, 6);
        for y in bbox.y..bbox.bottom() {
            mask.inside[(y * w + bbox.x) as usize..][..8].fill(1);
        }
        mask.area_px = bbox.area();
        mask.max_probability = 0.75;
        mask.polyps = vec![Polyp {
            bbox,
            area_px: bbox.area(),
            mean_probability: 0.5,
            track_id: Some(3),
            ..Polyp::default()
        }];
        Ok(Spans::default())
    }

    fn set_threshold(&mut self, _: f64) {}
}

/// An element in a harness, with the ends of its network's gate.
struct Bench {
    harness: Harness,
    element: PolypSegment,
    bus: gst::Bus,
    gate: Option<Sender<()>>,
    begun: Receiver<()>,
    builds: Arc<AtomicU64>,
}

impl Bench {
    fn new(set: impl FnOnce(&PolypSegment)) -> Self {
        crate::capture::init().unwrap();
        let (gate, waiting) = unbounded();
        let (begin, begun) = unbounded();
        let builds = Arc::new(AtomicU64::new(0));
        let counted = builds.clone();
        let element = PolypSegment::with_analyzer(Arc::new(move |_: &SharedFilter| {
            counted.fetch_add(1, Ordering::Relaxed);
            Ok(Box::new(Square { gate: waiting.clone(), begun: begin.clone() }) as Box<dyn FrameAnalyzer>)
        }));
        element.set_property("motion", false);
        set(&element);
        let bus = gst::Bus::new();
        element.set_bus(Some(&bus));
        let mut harness = Harness::with_element(&element, Some("sink"), Some("src"));
        harness.set_src_caps_str(CAPS);
        Self { harness, element, bus, gate: Some(gate), begun, builds }
    }

    /// From now on no frame is held up.
    fn open(&mut self) {
        self.gate = None;
    }

    fn pass(&mut self, n: u64, first: u8) -> gst::Buffer {
        self.harness.push(picture(FRAME * n, 64 * 48, first)).unwrap();
        self.harness.pull().unwrap()
    }

    /// Frames a microsecond apart, from the time of frame `n` on, until one carries a mask.
    fn until_mask(&mut self, n: u64, first: u8) -> gst::Buffer {
        self.until(n, first, |buffer, _| meta(buffer).has_field("mask"))
    }

    /// The same until something holds for the frame, or for all that was said since this began.
    fn until(&mut self, n: u64, first: u8, holds: impl Fn(&gst::Buffer, &[String]) -> bool) -> gst::Buffer {
        let begun = std::time::Instant::now();
        let mut said = Vec::new();
        for k in 0.. {
            let at = FRAME * n + gst::ClockTime::from_useconds(k);
            self.harness.push(picture(at, 64 * 48, first)).unwrap();
            let buffer = self.harness.pull().unwrap();
            said.extend(self.said());
            if holds(&buffer, &said) {
                return buffer;
            }
            assert!(begun.elapsed().as_secs() < 30, "in vain: {said:?}");
            std::thread::yield_now();
        }
        unreachable!()
    }

    fn stats(&self) -> gst::Structure {
        self.element.property("stats")
    }

    /// What was said on the bus, states as "from>to reason".
    fn said(&self) -> Vec<String> {
        let mut said = Vec::new();
        while let Some(message) = self.bus.pop() {
            match message.view() {
                gst::MessageView::Element(e) => {
                    let s = e.structure().unwrap();
                    let text = |f: &str| s.get::<String>(f).unwrap();
                    assert_eq!(s.name(), "polypscope-state");
                    said.push(format!("{}>{} {}", text("from"), text("state"), text("reason")));
                }
                gst::MessageView::Warning(w) => said.push(format!("warning: {}", w.error())),
                gst::MessageView::Error(e) => said.push(format!("error: {}", e.error())),
                gst::MessageView::Latency(_) => said.push("latency".into()),
                _ => {}
            }
        }
        said
    }
}

fn picture(pts: gst::ClockTime, len: usize, first: u8) -> gst::Buffer {
    let bytes: Vec<u8> = (0..len).map(|i| if i == 0 { first } else { (i * 31 % 199) as u8 }).collect();
    let mut buffer = gst::Buffer::from_mut_slice(bytes);
    let b = buffer.get_mut().unwrap();
    b.set_pts(pts);
    b.set_duration(FRAME);
    buffer
}

fn meta(buffer: &gst::BufferRef) -> gst::Structure {
    gst::meta::CustomMeta::from_buffer(buffer, MASK).unwrap().structure().to_owned()
}

fn bytes(buffer: &gst::BufferRef) -> Vec<u8> {
    buffer.map_readable().unwrap().to_vec()
}

fn int(s: &gst::Structure, field: &str) -> i32 {
    s.get(field).unwrap_or_else(|e| panic!("{field}: {e}"))
}

#[test]
fn with_sync_every_frame_carries_its_own_mask() {
    let mut bench = Bench::new(|e| e.set_property("sync", true));
    bench.open();
    for n in 0..20u64 {
        let at = (n * 2) as u8;
        let buffer = bench.pass(n, at);
        assert_eq!(bytes(&buffer), bytes(&picture(FRAME * n, 64 * 48, at)), "no pixel changes");
        let s = meta(&buffer);
        assert_eq!((int(&s, "version"), int(&s, "width"), int(&s, "height")), (1, 64, 48));
        assert_eq!((s.get::<u64>("frame").unwrap(), s.get::<u64>("age").unwrap()), (n, 0));
        assert_eq!(s.get::<u64>("pts").unwrap(), (FRAME * n).nseconds());
        assert_eq!(s.get::<&str>("state").unwrap(), "active");
        assert_eq!([int(&s, "mask-x"), int(&s, "mask-y")], [i32::from(at), i32::from(at / 2)]);
        assert_eq!([int(&s, "mask-width"), int(&s, "mask-height")], [8, 6]);
        assert_eq!([int(&s, "view-width"), int(&s, "view-height")], [64, 48]);
        let mask = s.get::<gst::Buffer>("mask").unwrap();
        assert_eq!(bytes(&mask), [255; 48]);
        let video = mask.meta::<gst_video::VideoMeta>().unwrap();
        assert_eq!((video.format(), video.width(), video.stride()[0]), (gst_video::VideoFormat::Gray8, 8, 8));
        let regions = s.get::<gst::List>("regions").unwrap();
        let region = regions.first().unwrap().get::<gst::Structure>().unwrap();
        assert_eq!((int(&region, "id"), int(&region, "x"), int(&region, "width")), (1, i32::from(at), 8));
        assert_eq!(region.get::<u64>("track-id").unwrap(), 3);
        let roi = buffer.meta::<gst_video::VideoRegionOfInterestMeta>().unwrap();
        assert_eq!((roi.roi_type(), roi.rect()), ("polyp", (u32::from(at), u32::from(at / 2), 8, 6)));
        let param = roi.params().next().unwrap();
        assert_eq!((param.name().as_str(), param.get::<f64>("probability").unwrap()), ("polyp", 0.5));
    }
    let said = bench.said();
    assert_eq!(said.iter().filter(|s| *s != "latency").collect::<Vec<_>>(), ["warm_up>active normal"]);
    let stats = bench.stats();
    assert_eq!(stats.get::<u64>("frames").unwrap(), 20);
    assert_eq!(stats.get::<u64>("with-mask").unwrap(), 20);
}

#[test]
fn without_sync_no_frame_waits() {
    let mut bench = Bench::new(|_| ());
    for n in 0..30 {
        let buffer = bench.pass(n, 4);
        let s = meta(&buffer);
        assert!(!s.has_field("mask") && !s.has_field("frame"));
        assert_eq!(s.get::<&str>("state").unwrap(), "warm_up");
        assert!(buffer.meta::<gst_video::VideoRegionOfInterestMeta>().is_none());
    }
    bench.open();
    let buffer = bench.until_mask(30, 4);
    let s = meta(&buffer);
    let age = s.get::<u64>("age").unwrap();
    assert!(age > 0 && age <= 200_000_000);
    assert!(buffer.pts().unwrap().nseconds() - s.get::<u64>("pts").unwrap() <= age);
    assert!(bench.stats().get::<u64>("superseded").unwrap() >= 28);
}

#[test]
fn a_mask_that_is_too_old_for_the_stream_is_not_attached() {
    let mut bench = Bench::new(|_| ());
    bench.open();
    bench.until_mask(0, 4);
    // Ten seconds later in the stream, at once by the clock: whatever mask there is, it is of another time.
    let s = meta(&bench.pass(250, 4));
    assert!(!s.has_field("mask"));
    assert_eq!((s.get::<&str>("state").unwrap(), s.get::<&str>("reason").unwrap()), ("degraded", "too_slow"));
}

#[test]
fn a_flush_and_another_size_void_what_was_known() {
    let mut bench = Bench::new(|_| ());
    bench.open();
    bench.until_mask(0, 4);
    assert!(bench.harness.push_event(gst::event::FlushStart::new()));
    assert!(bench.harness.push_event(gst::event::FlushStop::new(true)));
    let segment = gst::FormattedSegment::<gst::ClockTime>::new();
    assert!(bench.harness.push_event(gst::event::Segment::new(&segment)));
    let after = bench.pass(1, 4);
    assert!(!meta(&after).has_field("mask"), "the mask is from before the flush");
    bench.until_mask(2, 4);
    bench.harness.set_src_caps_str("video/x-raw,format=GRAY8,width=80,height=48,framerate=25/1");
    bench.harness.push(picture(FRAME * 3, 80 * 48, 4)).unwrap();
    let other = bench.harness.pull().unwrap();
    let s = meta(&other);
    assert!(!s.has_field("mask"), "the mask is of another size");
    assert_eq!(int(&s, "width"), 80);
}

#[test]
fn played_backwards_every_frame_still_has_its_own_mask() {
    let mut bench = Bench::new(|e| e.set_property("sync", true));
    bench.open();
    let mut segment = gst::FormattedSegment::<gst::ClockTime>::new();
    segment.set_rate(-1.0);
    segment.set_start(gst::ClockTime::ZERO);
    segment.set_stop(FRAME * 20);
    assert!(bench.harness.push_event(gst::event::Segment::new(&segment)));
    for n in (0..20u64).rev() {
        let s = meta(&bench.pass(n, n as u8));
        assert_eq!(s.get::<u64>("pts").unwrap(), (FRAME * n).nseconds());
        assert_eq!((s.get::<u64>("age").unwrap(), int(&s, "mask-x")), (0, n as i32));
    }
}

#[test]
fn a_failing_network_ends_a_stream_that_waits_and_no_other() {
    let mut bench = Bench::new(|e| e.set_property("sync", true));
    bench.open();
    bench.pass(0, 4);
    bench.said();
    let flow = bench.harness.push(picture(FRAME, 64 * 48, 200));
    assert_eq!(flow, Err(gst::FlowError::Error));
    let said = bench.said();
    assert!(
        said.iter().any(|s| s.starts_with("error: frame 1: the test's network does not like")),
        "{said:?}"
    );

    for wrong in [200, 201] {
        let mut bench = Bench::new(|_| ());
        bench.open();
        bench.until_mask(0, 4);
        let reason = if wrong == 200 { ">bypass failed" } else { ">bypass panicked" };
        bench.until(1, wrong, |_, said| {
            let told = wrong == 201 || said.iter().any(|s| s.starts_with("warning: frame"));
            told && said.iter().any(|s| s.ends_with(reason))
        });
        // The worker is started anew, and all is well again.
        bench.until_mask(2, 4);
        assert!(bench.builds.load(Ordering::Relaxed) >= 2);
    }
}

#[test]
fn a_frame_that_waits_gives_up_when_the_stream_is_flushed_or_stopped() {
    for stop in [false, true] {
        let mut bench = Bench::new(|e| e.set_property("sync", true));
        let (sink, element) = (bench.element.static_pad("sink").unwrap(), bench.element.clone());
        let begun = bench.begun.clone();
        let other = std::thread::spawn(move || {
            begun.recv().unwrap();
            if stop {
                element.set_state(gst::State::Ready).unwrap();
            } else {
                sink.send_event(gst::event::FlushStart::new());
            }
        });
        // The worker holds its frame: what is lost is let go when the gate goes.
        let gate = bench.gate.take();
        let flow = bench.harness.push(picture(FRAME, 64 * 48, 4));
        assert_eq!(flow, Err(gst::FlowError::Flushing));
        drop(gate);
        other.join().unwrap();
    }
}

#[test]
fn latency_is_answered_as_it_is() {
    let mut bench = Bench::new(|_| ());
    bench.open();
    bench.harness.set_upstream_latency(gst::ClockTime::from_mseconds(10));
    bench.pass(0, 4);
    assert_eq!(bench.harness.query_latency(), Some(gst::ClockTime::from_mseconds(14)));

    // A frame that waits for its mask takes longer than nothing, which is what was told so far. How much more is told
    // is tested where the length of the wait is handed in.
    let mut bench = Bench::new(|e| e.set_property("sync", true));
    bench.open();
    bench.pass(0, 4);
    let latency = bench.harness.query_latency().unwrap();
    assert!(bench.said().contains(&"latency".to_owned()), "the pipeline is told to ask again");
    assert_eq!(bench.stats().get::<u64>("latency").unwrap(), latency.nseconds());
}

#[test]
fn a_late_sink_sheds_analysis_and_no_picture() {
    let mut bench = Bench::new(|_| ());
    bench.open();
    bench.until_mask(0, 4);
    let offered = |b: &Bench| {
        let s = b.stats();
        (s.get::<u64>("frames").unwrap(), s.get::<u64>("shed").unwrap())
    };
    let before = offered(&bench);
    let at = FRAME;
    let late = gst::event::Qos::builder(gst::QOSType::Underflow, 1.5, 4 * FRAME.nseconds() as i64)
        .timestamp(at)
        .build();
    assert!(bench.harness.push_upstream_event(late));
    for k in 2..10 {
        bench.pass(k, 4);
    }
    assert_eq!(offered(&bench), (before.0 + 8, before.1 + 3), "frames 2 to 4 are late already");
    // Whoever makes the pictures hears of it as well.
    let events: Vec<_> =
        std::iter::from_fn(|| bench.harness.try_pull_upstream_event()).map(|e| e.type_()).collect();
    assert!(events.contains(&gst::EventType::Qos), "{events:?}");
}

#[test]
fn switched_off_it_changes_nothing_and_eos_goes_through() {
    let mut bench = Bench::new(|e| e.set_property("enabled", false));
    let buffer = bench.pass(0, 4);
    assert!(gst::meta::CustomMeta::from_buffer(&buffer, MASK).is_err());
    assert!(bench.harness.push_event(gst::event::Eos::new()));
    let events: Vec<_> = std::iter::from_fn(|| bench.harness.try_pull_event()).map(|e| e.type_()).collect();
    assert_eq!(events.last(), Some(&gst::EventType::Eos));
}

#[test]
fn it_starts_and_stops_as_often_as_it_is_told() {
    let threads = || std::fs::read_dir("/proc/self/task").map_or(0, Iterator::count);
    let mut bench = Bench::new(|e| e.set_property("sync", true));
    bench.open();
    bench.pass(0, 4);
    for n in 1..20 {
        bench.element.set_state(gst::State::Null).unwrap();
        bench.harness.play();
        bench.harness.set_src_caps_str(CAPS);
        let s = meta(&bench.pass(n, 4));
        assert_eq!(s.get::<u64>("frame").unwrap(), 0, "it begins anew");
    }
    assert_eq!(bench.builds.load(Ordering::Relaxed), 20);
    // Other tests have threads of their own; forty of ours would be seen.
    assert!(threads() < 200);
}

#[test]
fn settings_that_make_no_sense_are_refused_in_one_sentence() {
    crate::capture::init().unwrap();
    for (name, value, says) in [
        ("weights", "/nowhere/net.safetensors", "/nowhere/net.safetensors: there is no such checkpoint"),
        ("device", "abacus", "unknown device \"abacus\""),
        ("field-of-view", "somewhere", "\"somewhere\" is not a field of view"),
    ] {
        let element = gst::glib::Object::new::<PolypSegment>();
        element.set_property(
            "weights",
            concat!(env!("CARGO_MANIFEST_DIR"), "/weights/m2snet-polyp.safetensors"),
        );
        element.set_property(name, value);
        let bus = gst::Bus::new();
        element.set_bus(Some(&bus));
        assert!(element.set_state(gst::State::Paused).is_err(), "{name}");
        let said = bus.pop_filtered(&[gst::MessageType::Error]).unwrap();
        let gst::MessageView::Error(e) = said.view() else { unreachable!() };
        assert!(e.error().to_string().contains(says), "{}", e.error());
        element.set_state(gst::State::Null).unwrap();
    }
}

/// A frame with a mask as somebody else's element attaches it.
fn carrying(format: &str, name: &str, more: impl FnOnce(&mut gst::StructureRef)) -> (Harness, gst::Buffer) {
    crate::capture::init().unwrap();
    let element = gst::ElementFactory::make(name).build().unwrap();
    let mut harness = Harness::with_element(&element, Some("sink"), Some("src"));
    harness.set_src_caps_str(&format!("video/x-raw,format={format},width=64,height=48,framerate=25/1"));
    let size = match format {
        "BGRx" => 64 * 48 * 4,
        "I420" => 64 * 48 * 3 / 2,
        _ => 64 * 48,
    };
    let mut buffer = picture(FRAME, size, 9);
    {
        let buffer = buffer.get_mut().unwrap();
        let mut meta = gst::meta::CustomMeta::add(buffer, MASK).unwrap();
        let s = meta.mut_structure();
        s.set("width", 64);
        s.set("height", 48);
        let mut values = vec![0u8; 16 * 12];
        for y in 3..7 {
            values[y * 16 + 4..y * 16 + 9].fill(1);
        }
        let mut mask = gst::Buffer::from_mut_slice(values);
        crate::capture::describe_pixels(mask.get_mut().unwrap(), 16, 12).unwrap();
        s.set("mask", &mask);
        more(s);
    }
    (harness, buffer)
}

#[test]
fn the_overlay_draws_masks_of_another_network_and_touches_nothing_else() {
    for format in ["GRAY8", "BGRx", "I420"] {
        let (mut harness, buffer) = carrying(format, "polypoverlay", |_| ());
        let before = bytes(&buffer);
        harness.push(buffer).unwrap();
        let after = bytes(&harness.pull().unwrap());
        // A quarter of the picture's size: each of its pixels covers four by four.
        let step = if format == "BGRx" { 4 } else { 1 };
        let mut changed = 0;
        for y in 0..48 {
            for x in 0..64 {
                let at = (y * 64 + x) * step;
                let inside = (16..36).contains(&x) && (12..28).contains(&y);
                if before[at..at + step] != after[at..at + step] {
                    assert!(inside, "{format}: {x}, {y} changed");
                    changed += 1;
                }
            }
        }
        assert!(changed > 60, "{format}: {changed} pixels are marked");
    }
}

/// As Python attaches masks: a region's parameter holds its mask.
#[test]
fn the_overlay_draws_masks_of_regions() {
    let (mut harness, mut buffer) = carrying("GRAY8", "polypoverlay", |s| s.remove_field("width"));
    let mask = gst::Buffer::from_slice([0u8, 255, 255, 0]);
    let edit = buffer.get_mut().unwrap();
    let mut roi = gst_video::VideoRegionOfInterestMeta::add(edit, "other", (40, 20, 10, 10));
    let param =
        gst::Structure::builder(MASK).field("mask", mask).field("mask-width", 2).field("mask-height", 2);
    roi.add_param(param.build());
    let before = bytes(&buffer);
    harness.push(buffer).unwrap();
    let after = bytes(&harness.pull().unwrap());
    let mut changed = 0;
    for (i, (a, b)) in before.iter().zip(&after).enumerate() {
        let (x, y) = (i % 64, i / 64);
        if a != b {
            let upper = (45..50).contains(&x) && (20..25).contains(&y);
            let lower = (40..45).contains(&x) && (25..30).contains(&y);
            assert!(upper || lower, "{x}, {y} changed");
            changed += 1;
        }
    }
    assert!(changed > 20);
}

#[test]
fn the_overlay_leaves_a_picture_without_a_young_mask_alone() {
    type Change = fn(&mut gst::StructureRef);
    let changes: [(&str, Change); 5] = [
        ("too old", |s| s.set("age", 200_000_001u64)),
        ("of another version", |s| s.set("version", 2)),
        ("no mask", |s| s.remove_field("mask")),
        ("no size", |s| s.remove_field("width")),
        ("outside", |s| {
            for (field, v) in [("mask-x", 64), ("mask-y", 0), ("mask-width", 16), ("mask-height", 12)] {
                s.set(field, v);
            }
        }),
    ];
    for (what, change) in changes {
        let (mut harness, buffer) = carrying("GRAY8", "polypoverlay", change);
        let before = bytes(&buffer);
        harness.push(buffer).unwrap();
        assert_eq!(bytes(&harness.pull().unwrap()), before, "{what}");
    }
    // The state is shown where it is told, and not where it is not wanted.
    for status in [true, false] {
        let (mut harness, buffer) = carrying("GRAY8", "polypoverlay", |s| {
            s.remove_field("mask");
            s.set("state", "bypass");
        });
        harness.element().unwrap().set_property("status", status);
        let before = bytes(&buffer);
        harness.push(buffer).unwrap();
        assert_eq!(bytes(&harness.pull().unwrap()) != before, status);
    }
}

#[test]
fn fill_outline_colour_and_opacity_are_as_they_are_set() {
    let drawn = |set: &dyn Fn(&gst::Element)| {
        let (mut harness, buffer) = carrying("BGRx", "polypoverlay", |_| ());
        set(&harness.element().unwrap());
        harness.push(buffer).unwrap();
        let after = bytes(&harness.pull().unwrap());
        let at = |x: usize, y: usize| <[u8; 3]>::try_from(&after[(y * 64 + x) * 4..][..3]).unwrap();
        // Corner and middle of the mark.
        (at(16, 12), at(26, 20))
    };
    let (_, plain) = drawn(&|e| {
        e.set_property("fill", false);
        e.set_property("outline", false);
    });
    let (corner, middle) = drawn(&|e| {
        e.set_property("fill", false);
        e.set_property("colour", 0x10_20_30u32);
    });
    assert_eq!((corner, middle), ([0x30, 0x20, 0x10], plain));
    let (corner, middle) = drawn(&|e| {
        e.set_property("outline", false);
        e.set_property("opacity", 1.0);
        e.set_property("colour", 0xff_00_80u32);
    });
    assert_eq!((corner, middle), ([0x80, 0x00, 0xff], [0x80, 0x00, 0xff]));
}

#[test]
fn the_key_is_transparent_but_for_the_marks() {
    let (mut harness, buffer) = carrying("I420", "polypkey", |_| ());
    harness.set_sink_caps_str("video/x-raw,format=BGRA,width=64,height=48,framerate=25/1");
    harness.push(buffer).unwrap();
    let key = bytes(&harness.pull().unwrap());
    assert_eq!(key.len(), 64 * 48 * 4);
    for (i, pixel) in key.chunks_exact(4).enumerate() {
        let inside = (16..36).contains(&(i % 64)) && (12..28).contains(&(i / 64));
        assert_eq!(pixel != [0; 4], inside, "{} {}", i % 64, i / 64);
    }
}

#[test]
fn metadata_goes_through_copies_and_scaling() {
    crate::capture::init().unwrap();
    let mut bench = Bench::new(|e| e.set_property("sync", true));
    bench.open();
    let buffer = bench.pass(0, 10);
    let copy = buffer.copy();
    assert_eq!(meta(&copy).get::<u64>("frame").unwrap(), 0);
    let mut harness = Harness::new_parse("videoconvertscale");
    harness.set_src_caps_str(CAPS);
    harness.set_sink_caps_str("video/x-raw,format=BGRx,width=128,height=96,framerate=25/1");
    harness.push(buffer).unwrap();
    let scaled = harness.pull().unwrap();
    assert_eq!(int(&meta(&scaled), "width"), 64, "a mask says what size it belongs to");
    let mut overlay = Harness::new("polypoverlay");
    overlay.set_src_caps_str("video/x-raw,format=BGRx,width=128,height=96,framerate=25/1");
    overlay.element().unwrap().set_property("status", false);
    let before = bytes(&scaled);
    overlay.push(scaled).unwrap();
    let after = bytes(&overlay.pull().unwrap());
    for (i, (a, b)) in before.chunks_exact(4).zip(after.chunks_exact(4)).enumerate() {
        if a != b {
            let (x, y) = (i % 128, i / 128);
            assert!((20..36).contains(&x) && (10..22).contains(&y), "{x}, {y} changed");
        }
    }
    assert_ne!(before, after);
}

#[test]
fn the_phantom_carries_its_truth() {
    crate::capture::init().unwrap();
    let mut harness = Harness::new_parse(
        "polypphantomsrc is-live=false width=160 height=120 fps=10 seconds=2 num-frames=20 preset=fast seed=11",
    );
    harness.play();
    let (mut marked, mut frames) = (0, 0);
    while let Some(buffer) = harness.pull_until_eos().unwrap() {
        let meta = gst::meta::CustomMeta::from_buffer(&buffer, "PolypscopeTruth").unwrap();
        let s = meta.structure();
        assert_eq!(s.get::<u64>("frame").unwrap(), frames);
        frames += 1;
        let regions = s.get::<gst::List>("regions").unwrap();
        assert_eq!(regions.is_empty(), !s.has_field("mask"));
        if let Ok(mask) = s.get::<gst::Buffer>("mask") {
            let (inside, area) = (bytes(&mask), s.get::<u64>("area").unwrap());
            assert_eq!(inside.iter().filter(|v| **v != 0).count() as u64, area);
            marked += 1;
        }
    }
    assert_eq!(frames, 20);
    assert!(marked > 0, "no polyp is seen");
}
