//! After warm-up, following detections allocates nothing: a counting allocator looks on.

mod common;

use common::allocations::{Counting, allocations};
use polypscope::frame::{FrameId, Picture, PictureInfo, PixelFormat, Pts, Rect};
use polypscope::tracks::{MOST_TRACKS, Numbers, Scene, Tracks};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const SIDE: usize = 96;

/// Disks here and there, other ones in every frame.
fn map(n: u64) -> Vec<f32> {
    (0..SIDE * SIDE)
        .map(|i| {
            let (x, y) = ((i % SIDE) as f64, (i / SIDE) as f64);
            let at = |cx: f64, cy: f64, r: f64| r - (x - cx).hypot(y - cy);
            let k = n as f64;
            let polyp = at(30.0 + (k * 0.3).sin(), 40.0, 9.0);
            let blip = if n.is_multiple_of(7) { at(70.0, 20.0 + k % 50.0, 5.0) } else { -9.0 };
            let specks =
                if n.is_multiple_of(3) && i % 5 == 0 && (i / SIDE).is_multiple_of(2) { 1.0 } else { -9.0 };
            (polyp.max(blip).max(specks) as f32).clamp(-6.0, 4.0)
        })
        .collect()
}

fn picture(n: u64) -> Vec<u8> {
    let mut out = Vec::new();
    for y in 0..240 {
        for x in 0..320 {
            let (u, v) = ((f64::from(x) + 2.0 * n as f64) * 0.08, f64::from(y) * 0.09);
            let light = 0.55 + 0.2 * u.sin() * v.cos() + 0.1 * (3.3 * u + 2.9 * v).sin();
            out.extend([230.0, 110.0, 80.0].map(|c| (c * light) as u8));
        }
    }
    out
}

/// The only test of this binary: others would allocate beside it.
#[test]
fn a_frame_that_is_followed_allocates_nothing() {
    let frames: Vec<_> = (0..120).map(|n| (picture(n), map(n))).collect();
    let info = PictureInfo::new(PixelFormat::Rgb, 320, 240);
    let view = Rect::new(20, 10, 280, 220);
    let mut scene = Scene::default();
    let mut tracks = Tracks::new(Numbers { least_share: 0.0, ..Numbers::BALANCED });
    let mut most = 0;
    let mut before = 0;
    for (n, (pixels, map)) in frames.iter().enumerate() {
        // The motion remembers 32 steps, and its first place stays empty until the second round.
        if n == 72 {
            before = allocations();
        }
        let seen = Picture::packed(info, pixels);
        let glance = scene.look(FrameId(n as u64), Pts(n as u64 * 33_333_333), seen.as_ref(), view);
        tracks.observe(&mut scene, &glance, map, (SIDE, SIDE), view, (320, 240), 0.0);
        most = most.max(tracks.marks().len());
    }
    let count = allocations() - before;
    assert_eq!(count, 0, "48 frames allocated {count} times");
    assert!(most >= MOST_TRACKS, "{most}: every place was taken at times");
    let before = allocations();
    drop(std::hint::black_box(vec![1u8; 100]));
    assert_eq!(allocations() - before, 1, "the allocator counts");
}
