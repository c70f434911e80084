//! The overlay element on a healthy stream: newest wins, ages and delays, formats, switching off, jumps of the clock.

use std::time::Duration;

use gstreamer as gst;
use gstreamer::prelude::*;

use polypscope::frame::{FrameId, PixelFormat};
use polypscope::live::OverlayGraphSettings;
use polypscope::safety::Reason;
use polypscope::safety::State;
use polypscope::telemetry::event::StreamEvent;

use crate::stand_in::{Mood, SOURCE, Session, patient};

const USUAL: Duration = Duration::from_millis(30);

#[test]
fn the_newest_frame_wins_and_every_frame_is_accounted_for() {
    let mut s = Session::start(SOURCE, Mood::Slow(70), USUAL);
    s.until("forty frames, and some that are the first to show a mask", |seen| {
        seen.left.len() >= 40 && seen.left.iter().filter(|l| l.annotation_delay.is_some()).count() >= 5
    });
    let traffic = s.core.traffic();
    let (seen, _) = s.stop();
    let t = traffic();
    assert!(t.superseded > 0, "{t:?}");
    assert!(t.sent - t.superseded - t.taken <= 1, "{t:?}");
    assert!(t.taken.abs_diff(seen.masks.len() as u64) <= 1, "{t:?} {}", seen.masks.len());
    let mut last = None;
    for f in &seen.frames {
        if let Some(m) = f.shown {
            assert!(m.of < f.frame && Some(m.of) >= last, "masks run backwards");
            assert!(m.age.0 >= 60_000_000);
            last = Some(m.of);
        }
    }
    assert!(last.is_some());
    // Every first showing has its annotation delay, at least the inference.
    let delays: Vec<_> = seen.left.iter().filter_map(|l| l.annotation_delay).collect();
    assert!(delays.len() >= 5 && delays.iter().all(|d| d.0 >= 70_000_000));
    let firsts = seen.frames.iter().filter(|f| f.shown.is_some_and(|m| m.first)).count();
    assert!(firsts.abs_diff(delays.len()) <= 1);
}

#[test]
fn several_workers_never_let_an_older_mask_replace_a_newer_one() {
    let settings = OverlayGraphSettings { workers: 3, ..patient() };
    let mut s = Session::start_with(SOURCE, Mood::Slow(50), USUAL, settings);
    // Each of them works, and masks are shown all the while.
    s.until("thirty shown masks of three workers", |seen| {
        let workers: std::collections::BTreeSet<_> = seen.masks.iter().map(|m| m.worker).collect();
        workers.len() == 3 && seen.frames.iter().filter(|f| f.shown.is_some()).count() > 30
    });
    let (seen, _) = s.stop();
    let shown: Vec<_> = seen.frames.iter().filter_map(|f| f.shown.map(|m| m.of)).collect();
    assert!(shown.is_sorted());
}

#[test]
fn every_layout_is_marked_in_place() {
    for format in PixelFormat::ALL {
        let source = format!(
            "videotestsrc is-live=true pattern=smpte name=source ! \
             video/x-raw,format={},width=322,height=242,framerate=50/1",
            format.caps_name()
        );
        let mut s = Session::start(&source, Mood::Well, Duration::from_millis(5));
        s.until(&format!("a marked {} frame", format.caps_name()), |seen| {
            seen.frames.iter().any(|f| f.shown.is_some())
        });
        let (seen, untouched) = s.stop();
        for f in &seen.frames {
            assert_eq!(
                f.shown.is_none(),
                untouched[f.frame.0 as usize],
                "{} {}",
                format.caps_name(),
                f.frame
            );
        }
    }
}

#[test]
fn switched_off_the_picture_is_the_sources_at_once() {
    let mut s = Session::start(SOURCE, Mood::Well, USUAL);
    s.until("active", |seen| seen.states.last().is_some_and(|c| c.to == State::Active));
    s.core.controls().switch(false);
    let off = s.now();
    s.until("bypass", |seen| seen.states.last().is_some_and(|c| c.reason == Reason::SwitchedOff));
    let already = s.look().frames.len();
    s.until("ten dark frames", |seen| seen.frames.len() >= already + 10);
    let on = s.now();
    s.core.controls().switch(true);
    s.until("active again", |seen| seen.states.last().is_some_and(|c| c.to == State::Active));
    let (seen, untouched) = s.stop();
    let dark: Vec<_> =
        seen.frames.iter().filter(|f| f.entered.0 > off.0 + 1_000_000 && f.entered < on).collect();
    assert!(dark.len() >= 5 && dark.iter().all(|f| untouched[f.frame.0 as usize]));
}

#[test]
fn timestamps_that_jump_are_counted_and_nothing_else() {
    let mut s = Session::start(SOURCE, Mood::Well, USUAL);
    s.until("active", |seen| seen.states.last().is_some_and(|c| c.to == State::Active));
    s.until("a second of it", |seen| seen.frames.last().is_some_and(|f| f.pts.0 > 1_000_000_000));
    let entry = s.pipeline.by_name("entry").expect("it is there");
    let pad = entry.static_pad("sink").expect("a pad");
    // From the next frame on half a second earlier, so that timestamps repeat. An offset of the pad would move the
    // running time and leave the timestamps as they are.
    pad.add_probe(gst::PadProbeType::BUFFER, |_, info| {
        let buffer = info.buffer_mut().expect("a buffer").make_mut();
        let pts = buffer.pts().expect("a timestamp");
        buffer.set_pts(pts.saturating_sub(gst::ClockTime::from_mseconds(500)));
        gst::PadProbeReturn::Ok
    });
    s.until("a jump", |seen| seen.stream.iter().any(|e| matches!(e, StreamEvent::TimestampJump { .. })));
    let before = s.seen.frames.len();
    s.until("twenty more frames, and marks", |seen| {
        seen.left.len() >= before + 20
            && seen.frames[before..].iter().any(|f| f.shown.is_some_and(|m| m.first))
    });
    let (seen, _) = s.stop();
    let jumps: Vec<_> = seen
        .stream
        .iter()
        .filter_map(|e| if let StreamEvent::TimestampJump { frame, .. } = e { Some(*frame) } else { None })
        .collect();
    let back: Vec<_> = seen.frames.windows(2).filter(|w| w[1].pts <= w[0].pts).map(|w| w[1].frame).collect();
    assert!(jumps == back && jumps.len() == 1, "{jumps:?} are counted, {back:?} are there");
    for (n, f) in seen.frames.iter().enumerate() {
        assert_eq!(f.frame, FrameId(n as u64));
    }
    // A busy machine may stall the worker for a moment.
    let good = |r| matches!(r, Reason::Starting | Reason::Normal | Reason::Stalled);
    assert!(seen.states.iter().all(|c| good(c.reason)), "{:?}", seen.states);
}

#[test]
fn a_change_of_size_is_survived() {
    let source = "videotestsrc is-live=true pattern=ball name=source ! capsfilter name=shape \
         caps=video/x-raw,format=NV12,width=320,height=240,framerate=50/1";
    let mut s = Session::start(source, Mood::Well, USUAL);
    s.until("active", |seen| seen.states.last().is_some_and(|c| c.to == State::Active));
    let shape = s.pipeline.by_name("shape").expect("it is there");
    let caps: gst::Caps =
        "video/x-raw,format=UYVY,width=480,height=270,framerate=50/1".parse().expect("they parse");
    shape.set_property("caps", &caps);
    s.until("a new format", |seen| {
        seen.stream.iter().any(|e| matches!(e, StreamEvent::FormatChange { width: 480, height: 270, .. }))
    });
    let at = s.seen.frames.len() as u64;
    s.until("marks on the new size", |seen| {
        seen.frames.iter().any(|f| f.frame.0 > at + 3 && f.shown.is_some())
    });
    let (seen, _) = s.stop();
    assert!(seen.frames.len() - seen.left.len() <= 1);
}

/// The marks alone: transparent black wherever nothing is drawn, the disc's contour opaque, its fill barely there.
#[test]
fn a_key_holds_the_marks_and_nothing_else() {
    use std::sync::{Arc, Mutex};
    for source in [
        SOURCE.to_owned(),
        SOURCE.replace("NV12", "UYVY").replace("320", "720").replace("240", "576")
            + ",interlace-mode=interleaved,field-order=top-field-first",
    ] {
        let settings = OverlayGraphSettings { keyed: true, ..patient() };
        let mut s = Session::start_with(&source, Mood::Well, USUAL, settings);
        let keys = Arc::new(Mutex::new(Vec::new()));
        let kept = keys.clone();
        let pad = s.core.overlay().static_pad("src").expect("a pad");
        pad.add_probe(gst::PadProbeType::BUFFER, move |pad, info| {
            let buffer = info.buffer().expect("a buffer");
            let map = buffer.map_readable().expect("a key can be read");
            let caps = pad.current_caps().expect("caps").to_string();
            let pts = buffer.pts().expect("a timestamp").nseconds();
            kept.lock().expect("no holder panics").push((pts, caps, map.to_vec()));
            gst::PadProbeReturn::Ok
        });
        s.until("twenty frames with marks", |seen| {
            seen.frames.iter().filter(|f| f.shown.is_some()).count() >= 20
        });
        s.core.controls().switch(false);
        let already = s.look().frames.len();
        s.until("ten frames more", |seen| seen.frames.len() >= already + 10);
        let (seen, untouched) = s.stop();
        // The source's own buffers are only looked at.
        assert!(untouched.iter().all(|u| *u));
        let keys = keys.lock().expect("no holder panics");
        let (mut marked, mut clean) = (0, 0);
        for (pts, caps, key) in keys.iter() {
            // The last ones may have left without having been told of.
            let Some(frame) = seen.frames.iter().find(|f| f.pts.0 == *pts) else { continue };
            assert!(caps.contains("BGRA"), "{caps}");
            let pixels = key.as_chunks::<4>().0;
            if frame.shown.is_none() {
                clean += 1;
                assert!(key.iter().all(|b| *b == 0), "{}: something on a clean key", frame.frame);
                continue;
            }
            marked += 1;
            let (mut opaque, mut faint) = (0, 0);
            for p in pixels {
                match p {
                    [0, 0, 0, 0] => {}
                    [190, 255, 0, 255] => opaque += 1,
                    // A tenth of the colour, multiplied.
                    [b, g, 0, a] => {
                        faint += 1;
                        assert!(a.abs_diff(26) <= 1 && g.abs_diff(26) <= 1 && b.abs_diff(19) <= 1, "{p:?}");
                    }
                    _ => panic!("{p:?} is no mark"),
                }
            }
            assert!(opaque > 50 && faint > opaque, "{opaque} opaque, {faint} faint");
        }
        assert!(marked >= 20 && clean >= 5, "{marked} marked, {clean} clean");
    }
}

#[test]
fn the_latency_query_is_answered_with_what_the_element_takes() {
    let mut s = Session::start(SOURCE, Mood::Well, USUAL);
    s.until("a frame", |seen| !seen.left.is_empty());
    let overlay = s.core.overlay().clone();
    let ask = |pad: &str| {
        let mut q = gst::query::Latency::new();
        let pad = overlay.static_pad(pad).expect("a pad");
        let answered = if pad.direction() == gst::PadDirection::Src {
            pad.query(&mut q)
        } else {
            pad.peer_query(&mut q)
        };
        assert!(answered);
        q.result()
    };
    let (live, before, _) = ask("sink");
    let (_, after, max) = ask("src");
    assert!(live);
    assert_eq!(after - before, gst::ClockTime::from_mseconds(4));
    assert!(max.is_none_or(|m| m >= after));
}

#[test]
fn a_phantom_plays_live_from_memory() {
    polypscope::capture::init().expect("GStreamer starts");
    let source = "polypphantomsrc name=source width=160 height=96 fps=50 seconds=1 preset=fast";
    let mut s = Session::start(source, Mood::Well, Duration::from_millis(5));
    s.until("more frames than the loop has", |seen| seen.left.len() >= 70);
    let (seen, _) = s.stop();
    for pair in seen.frames.windows(2) {
        assert_eq!(pair[1].pts.0 - pair[0].pts.0, 20_000_000);
    }
    // At its own pace, which is far below what making frames of this size takes: none comes before its time, which
    // counts from when the pipeline plays, after the session began. A busy machine may only be late.
    for f in &seen.frames {
        assert!(f.entered.0 >= f.pts.0, "{} comes {} ns too soon", f.frame, f.pts.0 - f.entered.0);
    }
}
