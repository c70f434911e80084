//! Every boundary to C and C++ that a live picture passes, walked through sizes that grow and shrink: the motion
//! estimate, the analysis of masks (OpenCV), GStreamer's converters, pools and encoder. `make size-walk` runs the same
//! under valgrind, which sees a read beyond a buffer that happens not to end the process.

use std::time::{Duration, Instant};

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_video as gst_video;

use polypscope::capture::{Recorder, RecorderSettings, Track};
use polypscope::engine::Shape;
use polypscope::frame::{FrameId, Mask, Nanos, Picture, PictureInfo, PixelFormat, Polyp, Rect};
use polypscope::motion::{Mover, Tracker};
use polypscope::postprocess::Postprocessor;

use crate::stand_in::{Mood, SOURCE, Session};

/// Up and down, over the sizes at which an image pyramid gains or loses a level, wide and tall, odd and tiny.
const SIZES: [(u32, u32); 14] = [
    (80, 75),
    (120, 90),
    (64, 48),
    (320, 240),
    (322, 241),
    (240, 320),
    (40, 36),
    (640, 480),
    (36, 200),
    (16, 16),
    (480, 64),
    (33, 35),
    (800, 600),
    (96, 64),
];

fn grey(width: u32, height: u32, shift: u32) -> Vec<u8> {
    let mut out = Vec::with_capacity((width * height) as usize);
    let scale = 60.0 / f64::from(width.max(height));
    for y in 0..height {
        for x in 0..width {
            let (u, v) = (f64::from(x + shift) * scale, f64::from(y) * scale);
            let wave = (0.4 * u + 0.2 * v).sin() + (0.3 * v - 0.25 * u).sin() + (0.6 * v).cos();
            out.push((128.0 + 40.0 * wave) as u8);
        }
    }
    out
}

fn mask(frame: u64, (width, height): (u32, u32), view: Rect) -> Mask {
    let mut mask = Mask { frame: FrameId(frame), width, height, field_of_view: view, ..Mask::default() };
    mask.inside = vec![0; (view.w * view.h) as usize];
    let bbox = Rect::new(view.x + view.w / 4, view.y + view.h / 4, view.w / 2, view.h / 2);
    for y in bbox.y..bbox.bottom() {
        let at = ((y - view.y) * view.w + bbox.x - view.x) as usize;
        mask.inside[at..at + bbox.w as usize].fill(1);
    }
    mask.area_px = u64::from(bbox.w * bbox.h);
    mask.polyps.push(Polyp { bbox, area_px: mask.area_px, mean_probability: 0.9, ..Polyp::default() });
    mask
}

/// One tracker and one mover for pictures of every size and for views of every size in one picture.
#[test]
fn motion_is_followed_from_size_to_size() {
    let mut tracker = Tracker::new();
    let mut mover = Mover::default();
    let mut frame = 0;
    let big = (800, 600);
    let views = SIZES.map(|(w, h)| (big, Rect::new(7, 3, w.min(big.0 - 7), h.min(big.1 - 3))));
    let whole = SIZES.map(|size| (size, Rect::full(size.0, size.1)));
    let there = whole.into_iter().chain(views);
    let back: Vec<_> = there.clone().rev().collect();
    for (size, view) in there.chain(back) {
        let first = frame;
        for shift in 0..3u32 {
            let bytes = grey(size.0, size.1, 2 * shift);
            let info = PictureInfo::new(PixelFormat::Gray8, size.0, size.1);
            let picture = Picture::packed(info, &bytes).expect("as many bytes as pixels");
            tracker.observe(FrameId(frame), &picture, view);
            frame += 1;
        }
        let old = mask(first, size, view);
        let moved = mover.run(&mut tracker, &old);
        let large_enough = view.w.min(view.h) >= 32 && view.w.max(view.h) < 4 * view.w.min(view.h);
        if large_enough {
            let moved = moved.unwrap_or_else(|| panic!("{size:?} {view}: the way is not known"));
            let (before, after) = (&old.polyps[0].bbox, &moved.polyps[0].bbox);
            let left = f64::from(before.x) - f64::from(after.x);
            assert!((left - 4.0).abs() <= 2.0, "{size:?} {view}: moved by {left} instead of 4");
        }
    }
}

/// One postprocessor for fields of view of every size.
#[test]
fn masks_are_analysed_from_size_to_size() {
    let mut post = Postprocessor::new(0.5);
    let mut state = 1u64;
    let mut random = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 33) as f32 / (1u64 << 31) as f32
    };
    for side in [64, 96, 32, 160] {
        let shape = Shape { height: side, width: side, classes: 1 };
        for (w, h) in SIZES.into_iter().chain(SIZES.into_iter().rev()) {
            let logits: Vec<f32> = (0..side * side).map(|_| 8.0 * random() - 5.0).collect();
            let view = Rect::new(3, 5, w, h);
            let mut mask = Mask { width: w + 10, height: h + 10, ..Mask::default() };
            post.run(&logits, shape, view, &mut mask).expect("finite logits are a mask");
            let inside = mask.inside.iter().filter(|v| **v != 0).count() as u64;
            assert_eq!(mask.area_px, inside, "{w}x{h}");
            assert_eq!(mask.polyps.iter().map(|p| p.area_px).sum::<u64>(), inside, "{w}x{h}");
            assert!(
                mask.polyps
                    .iter()
                    .all(|p| p.bbox.right() <= view.right() && p.bbox.bottom() <= view.bottom())
            );
        }
    }
}

/// A live picture whose size changes twenty-eight times, through converter, scaler, overlay and worker, with motion on.
#[test]
fn the_picture_goes_on_from_size_to_size() {
    let source = format!(
        "{SOURCE} ! videoscale ! videoconvert ! capsfilter name=shape caps=video/x-raw,format=NV12,width=320,height=240"
    );
    let mut s = Session::start(&source, Mood::Well, Duration::from_millis(2));
    let shape = s.pipeline.by_name("shape").expect("it is there");
    for (w, h) in SIZES.into_iter().chain(SIZES.into_iter().rev()) {
        let caps = gst::Caps::builder("video/x-raw")
            .field("format", if w % 3 == 0 { "I420" } else { "NV12" })
            .field("width", w as i32)
            .field("height", h as i32)
            .build();
        shape.set_property("caps", caps);
        let before = s.look().frames.len();
        s.until("frames of the next size", |seen| seen.frames.len() >= before + 6);
    }
    let (seen, _) = s.stop();
    let failed = seen.states.iter().filter(|c| c.reason == polypscope::safety::Reason::Failed).count();
    assert_eq!(failed, 0, "the overlay gave up: {:?}", seen.states);
    let moved = seen.frames.iter().filter(|f| f.shown.is_some_and(|m| m.moved)).count();
    assert!(moved > 0, "no mask was moved in {} frames", seen.frames.len());
}

/// A recorder is given every size while it records.
#[test]
fn the_recorder_goes_on_from_size_to_size() {
    polypscope::capture::init().expect("GStreamer starts");
    let folder = tempfile::tempdir().expect("a folder");
    let settings = RecorderSettings {
        reserve_bytes: 0,
        segment: Duration::from_secs(1),
        ..RecorderSettings::new(folder.path())
    };
    let recorder = Recorder::start(settings).expect("it starts");
    let push = |(w, h): (u32, u32), at: u64| {
        let info = gst_video::VideoInfo::builder(gst_video::VideoFormat::Nv12, w, h)
            .fps(gst::Fraction::new(25, 1))
            .build()
            .expect("a picture");
        let buffer = gst::Buffer::from_mut_slice(vec![(at * 7 % 200) as u8; info.size()]);
        recorder.push(Track::Annotated, &buffer, &info, Nanos(at * 40_000_000));
    };
    // What comes before the first frame taken is before the recording.
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut before = 0;
    while recorder.status().frames == 0 {
        assert!(Instant::now() < deadline, "the recorder does not begin");
        push(SIZES[0], before);
        before += 1;
        std::thread::sleep(Duration::from_millis(5));
    }
    let mut frame = 1;
    for size in SIZES {
        for _ in 0..4 {
            push(size, before + frame);
            frame += 1;
        }
    }
    let status = recorder.stop();
    assert_eq!(status.frames + status.lost, frame, "every frame is recorded or counted: {status:?}");
}
