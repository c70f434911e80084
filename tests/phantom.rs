//! The phantom as its users rely on it: the same bytes for the same seed, and a truth that is true.

#![allow(clippy::print_stdout)] // measured figures, for `-- --nocapture`

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::collections::BTreeMap;

use polypscope::Kind;
use polypscope::frame::Rate;
use polypscope::phantom::{Phantom, Preset, STILL, Settings, Truth, View, VisiblePolyp};

/// Counts the allocations of the thread that asks.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: everything is passed on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|c| c.set(c.get() + 1));
        // SAFETY: the caller's layout, as it came.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the caller's pointer and layout, as they came.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.with(|c| c.set(c.get() + 1));
        // SAFETY: the caller's pointer, layout and size, as they came.
        unsafe { System.realloc(at, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn small(preset: Preset, frames: u64) -> Settings {
    Settings { width: 320, height: 200, preset, frames, view: View::Octagon, ..Settings::default() }
}

struct Film {
    phantom: Phantom,
    rgb: Vec<u8>,
    truth: Truth,
}

impl Film {
    fn new(settings: Settings) -> Self {
        let (w, h) = (settings.width, settings.height);
        Self {
            phantom: Phantom::new(settings).expect("settings"),
            rgb: vec![0; (w * h * 3) as usize],
            truth: Truth::new(w, h),
        }
    }

    fn frame(&mut self, index: u64) -> (&[u8], &Truth) {
        self.phantom.render(index, &mut self.rgb, &mut self.truth).expect("frame");
        (&self.rgb, &self.truth)
    }
}

#[test]
fn frames_depend_on_settings_and_index_alone() {
    let settings =
        Settings { width: 321, height: 199, frames: 60, view: View::Processor, ..Settings::default() };
    let mut forward = Film::new(settings.clone());
    let mut frames: Vec<(Vec<u8>, Truth)> = (0..60)
        .map(|i| {
            let (rgb, truth) = forward.frame(i);
            (rgb.to_vec(), truth.clone())
        })
        .collect();
    // Another instance, another order, more threads than one.
    let mut again = Film::new(Settings { threads: 3, ..settings.clone() });
    for i in [59u64, 0, 30, 31, 7, 7] {
        let (rgb, truth) = again.frame(i);
        assert!(frames[i as usize].0 == rgb, "frame {i} differs");
        assert_eq!(&frames[i as usize].1, truth, "truth of frame {i}");
    }
    assert!(frames.windows(2).all(|w| w[0].0 != w[1].0), "a camera that moves");
    let mut other = Film::new(Settings { seed: 2, ..settings });
    assert!(frames.swap_remove(10).0 != other.frame(10).0, "another seed is another colon");
}

/// Boxes and areas found the slow way.
fn found_in(mask: &[u8], width: u32) -> Vec<VisiblePolyp> {
    let mut found: BTreeMap<u8, (u32, u32, u32, u32, u64)> = BTreeMap::new();
    for (k, &id) in mask.iter().enumerate().filter(|(_, id)| **id > 0) {
        let (x, y) = (k as u32 % width, k as u32 / width);
        let f = found.entry(id).or_insert((x, y, x, y, 0));
        *f = (f.0.min(x), f.1.min(y), f.2.max(x), f.3.max(y), f.4 + 1);
    }
    found
        .into_iter()
        .map(|(id, f)| VisiblePolyp { id, bbox: [f.0, f.1, f.2 - f.0 + 1, f.3 - f.1 + 1], area_px: f.4 })
        .collect()
}

#[test]
fn polyps_come_stay_and_go_and_the_mask_says_so() {
    let mut film = Film::new(small(Preset::Typical, 1500));
    let mut seen: BTreeMap<u8, Vec<u64>> = BTreeMap::new();
    let (mut with, mut without) = (0, 0);
    for i in (0..1500).step_by(5) {
        let (rgb, truth) = film.frame(i);
        assert_eq!(truth.polyps, found_in(&truth.mask, truth.width), "frame {i}");
        // Nothing is marked outside the picture.
        assert!(truth.mask.iter().zip(rgb.chunks_exact(3)).all(|(m, p)| *m == 0 || p != [0, 0, 0]));
        for p in &truth.polyps {
            seen.entry(p.id).or_default().push(i);
        }
        match truth.polyps.is_empty() {
            true => without += 1,
            false => with += 1,
        }
    }
    assert!(with > 60 && without > 30, "{with} frames with, {without} without polyps");
    assert!(seen.len() >= 2, "{seen:?}");
    assert_eq!(*seen.keys().next().expect("some"), 1, "ids count from 1 in the order of encounter");
    for (id, frames) in &seen {
        let span = (frames[frames.len() - 1] - frames[0]) / 5 + 1;
        assert!(frames.len() as u64 * 10 >= span * 6, "polyp {id} flickers: {} of {span}", frames.len());
    }
}

#[test]
fn no_polyps_when_none_are_wanted_and_more_when_more() {
    let mut none = Film::new(Settings { polyps_per_minute: Some(0.0), ..small(Preset::Fast, 900) });
    let mut many = Film::new(Settings { polyps_per_minute: Some(20.0), ..small(Preset::Fast, 900) });
    let mut ids = std::collections::BTreeSet::new();
    for i in (0..900).step_by(30) {
        assert!(none.frame(i).1.polyps.is_empty());
        ids.extend(many.frame(i).1.polyps.iter().map(|p| p.id));
    }
    assert!((5..=14).contains(&ids.len()), "20 a minute for half a minute: {ids:?}");
}

/// Overlap of two masks of one polyp.
fn iou(a: impl Iterator<Item = bool>, b: impl Iterator<Item = bool>) -> f64 {
    let (mut both, mut any) = (0u32, 0u32);
    for (a, b) in a.zip(b) {
        both += u32::from(a && b);
        any += u32::from(a || b);
    }
    f64::from(both) / f64::from(any.max(1))
}

/// A mask moved by an affine map: every pixel asks where it came from.
fn moved(mask: &[u8], width: u32, m: &[f64; 6], id: u8) -> Vec<bool> {
    let det = m[0] * m[4] - m[1] * m[3];
    let height = mask.len() as u32 / width;
    (0..mask.len() as u32)
        .map(|k| {
            let (x, y) = (f64::from(k % width) + 0.5 - m[2], f64::from(k / width) + 0.5 - m[5]);
            let (px, py) = ((m[4] * x - m[1] * y) / det, (m[0] * y - m[3] * x) / det);
            (0.0..f64::from(width)).contains(&px)
                && (0.0..f64::from(height)).contains(&py)
                && mask[(py as u32 * width + px as u32) as usize] == id
        })
        .collect()
}

#[test]
fn the_motion_carries_the_previous_mask_onto_this_one() {
    for preset in [Preset::Typical, Preset::Fast] {
        let mut film = Film::new(Settings { polyps_per_minute: Some(8.0), ..small(preset, 600) });
        let (mut with, mut still, mut n) = (0.0, 0.0, 0.0);
        assert_eq!(film.frame(0).1.motion, STILL);
        for i in (20..600).step_by(7) {
            let before = film.frame(i - 1).1.clone();
            let (_, truth) = film.frame(i);
            for p in truth.polyps.iter().filter(|p| p.area_px > 300) {
                let Some(old) = before.polyps.iter().find(|q| q.id == p.id) else { continue };
                // Leave out what enters or leaves at the border.
                if (old.area_px as f64 / p.area_px as f64 - 1.0).abs() > 0.15 {
                    continue;
                }
                let now = || truth.mask.iter().map(|m| *m == p.id);
                with += iou(moved(&before.mask, truth.width, &truth.motion, p.id).into_iter(), now());
                still += iou(before.mask.iter().map(|m| *m == p.id), now());
                n += 1.0;
            }
        }
        let (with, still) = (with / n, still / n);
        println!("{preset}: IoU {with:.3} moved, {still:.3} unmoved, {n} pairs");
        assert!(n > 20.0, "{n} pairs");
        assert!(with > still + 0.01 && with > 0.88, "{preset}: {with:.3} moved, {still:.3} unmoved");
    }
}

/// Mean absolute difference of two frames within the field of view, one of them moved.
fn difference(from: &[u8], to: &[u8], width: usize, m: &[f64; 6]) -> f64 {
    let det = m[0] * m[4] - m[1] * m[3];
    let height = from.len() / 3 / width;
    let (mut sum, mut n) = (0.0, 0.0);
    for y in height / 4..height * 3 / 4 {
        for x in width * 2 / 5..width * 3 / 5 {
            let (fx, fy) = (x as f64 + 0.5 - m[2], y as f64 + 0.5 - m[5]);
            let (px, py) = ((m[4] * fx - m[1] * fy) / det, (m[0] * fy - m[3] * fx) / det);
            let (px, py) =
                (px.clamp(0.0, width as f64 - 1.0) as usize, py.clamp(0.0, height as f64 - 1.0) as usize);
            for c in 0..3 {
                sum += (f64::from(to[3 * (y * width + x) + c]) - f64::from(from[3 * (py * width + px) + c]))
                    .abs();
                n += 1.0;
            }
        }
    }
    sum / n
}

/// The picture itself moves as the truth says, whatever the code that wrote both may think.
#[test]
fn the_picture_moves_as_the_motion_says() {
    let mut film = Film::new(small(Preset::Fast, 300));
    let (mut with, mut still) = (0.0, 0.0);
    for i in (11..300).step_by(17) {
        let before = film.frame(i - 1).0.to_vec();
        let (rgb, truth) = film.frame(i);
        with += difference(&before, rgb, 320, &truth.motion);
        still += difference(&before, rgb, 320, &STILL);
    }
    println!("mean difference {with:.1} moved, {still:.1} unmoved");
    assert!(with < 0.75 * still, "{with} moved, {still} unmoved");
}

/// Mean length of the motion over the field of view in pixels of a 1280x720 frame, and what is left of an unmoved
/// mask's overlap after 100 ms.
fn pace(preset: Preset) -> (f64, f64) {
    let mut film = Film::new(Settings { polyps_per_minute: Some(8.0), ..small(preset, 900) });
    let (mut length, mut n) = (0.0, 0.0);
    let (mut left, mut polyps) = (0.0, 0.0);
    for i in (15..900).step_by(15) {
        let old = film.frame(i - 3).1.clone();
        let (_, truth) = film.frame(i);
        let m = truth.motion;
        for y in 1..8 {
            for x in 3..11 {
                let (x, y) = (f64::from(x) * 320.0 / 13.0, f64::from(y) * 25.0);
                let (dx, dy) = (m[0] * x + m[1] * y + m[2] - x, m[3] * x + m[4] * y + m[5] - y);
                length += (dx * dx + dy * dy).sqrt() * 720.0 / 200.0;
                n += 1.0;
            }
        }
        for p in truth.polyps.iter().filter(|p| p.area_px > 150) {
            if old.polyps.iter().any(|q| q.id == p.id) {
                left += iou(old.mask.iter().map(|m| *m == p.id), truth.mask.iter().map(|m| *m == p.id));
                polyps += 1.0;
            }
        }
    }
    (length / n, left / polyps)
}

#[test]
fn motion_of_the_presets() {
    let documented = [
        (Preset::Calm, 1.0..2.5),
        (Preset::Typical, 3.0..5.5),
        (Preset::Brisk, 7.0..12.0),
        (Preset::Fast, 14.0..23.0),
    ];
    for (preset, px) in documented {
        let (length, left) = pace(preset);
        println!("{preset}: {length:.1} px/frame, IoU {left:.2} of a mask 100 ms old");
        assert!(px.contains(&length), "{preset}: {length:.1} px/frame");
        match preset {
            Preset::Calm => assert!(left > 0.8, "{left}"),
            Preset::Fast => assert!(left <= 0.7, "an unmoved mask 100 ms old keeps {left}"),
            _ => {}
        }
    }
}

#[test]
fn a_loop_closes() {
    let settings = Settings { looped: true, ..small(Preset::Typical, 240) };
    let mut film = Film::new(settings);
    let frames: Vec<Vec<u8>> =
        [238, 239, 240, 241, 0, 1].into_iter().map(|i| film.frame(i).0.to_vec()).collect();
    assert!(frames[2] == frames[4] && frames[3] == frames[5], "the second lap shows the first again");
    let step = |a: usize, b: usize| difference(&frames[a], &frames[b], 320, &STILL);
    let (seam, before, after) = (step(1, 2), step(0, 1), step(2, 3));
    assert!(seam < 1.5 * before.max(after), "a jump at the seam: {before} {seam} {after}");
    let first_lap = film.frame(0).1.motion;
    let second_lap = film.frame(240).1.motion;
    assert_eq!(first_lap, STILL);
    assert_ne!(second_lap, STILL, "there is a frame before frame 0 from the second lap on");
    assert!((second_lap[0] - 1.0).abs() < 0.1 && second_lap[2].abs() < 20.0, "{second_lap:?}");
    let seen: std::collections::BTreeSet<u8> = (0..240)
        .step_by(12)
        .flat_map(|i| film.frame(i).1.polyps.iter().map(|p| p.id).collect::<Vec<_>>())
        .collect();
    assert!(!seen.is_empty(), "a loop of eight seconds shows a polyp");
}

#[test]
fn any_size_and_rate() {
    for (width, height, view, rate) in [
        (321, 199, View::Full, "30000/1001"),
        (32, 32, View::Processor, "1"),
        (33, 400, View::Octagon, "240"),
        (500, 37, View::Processor, "25"),
        (641, 479, View::Octagon, "50"),
    ] {
        let rate: Rate = rate.parse().expect("rate");
        let mut film = Film::new(Settings { width, height, view, rate, frames: 40, ..Settings::default() });
        for i in [0, 39] {
            let (rgb, truth) = film.frame(i);
            let lit = rgb.chunks_exact(3).filter(|p| p.iter().any(|v| *v > 24)).count();
            let side = width.min(height) as usize;
            assert!(lit * 3 > side * side, "{width}x{height} {view}: {lit} pixels lit");
            assert_eq!(truth.polyps, found_in(&truth.mask, width));
        }
        if view != View::Full {
            let corner = &film.rgb[..3];
            assert_eq!(corner, [0, 0, 0], "black around the picture");
        }
    }
}

#[test]
fn wrong_calls_are_told_what_is_wrong() {
    let settings = Settings { width: 64, height: 48, frames: 5, ..Settings::default() };
    let mut phantom = Phantom::new(settings).expect("settings");
    let mut rgb = vec![0; 64 * 48 * 3];
    let mut truth = Truth::new(64, 48);
    let e = phantom.render(5, &mut rgb, &mut truth).expect_err("past the end");
    assert_eq!(
        e.to_string(),
        "phantom frame 5: the clip has 5 frames; ask for more frames or for a looped clip"
    );
    let e = phantom.render(0, &mut rgb[1..], &mut truth).expect_err("short buffer");
    assert!(e.to_string().contains("the buffer holds 9215 bytes, 64x48 RGB needs 9216"), "{e}");
    let e = phantom.render(0, &mut rgb, &mut Truth::new(64, 47)).expect_err("wrong truth");
    assert!(e.to_string().contains("made for 64x47"), "{e}");
    let e = Phantom::new(Settings { width: 5, ..Settings::default() }).err().expect("too small");
    assert_eq!(e.kind(), Kind::Usage);
}

#[test]
fn nothing_is_allocated_once_warm() {
    let mut film = Film::new(small(Preset::Brisk, 600));
    for i in (0..600).step_by(20) {
        film.frame(i);
    }
    let before = ALLOCATIONS.with(Cell::get);
    for i in (0..600).step_by(20) {
        film.frame(i);
    }
    assert_eq!(ALLOCATIONS.with(Cell::get) - before, 0);
}
