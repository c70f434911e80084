//! Detections made by hand, through the filter.

use proptest::prelude::*;

use super::*;
use crate::frame::{FrameId, Gate, Picture, PictureInfo, PixelFormat, Pts, Rect, TrackMark, TrackState};

const SIDE: usize = 88;
const VIEW: Rect = Rect::new(40, 20, 440, 440);
const MS: u64 = 1_000_000;

/// A disk at a place of the map, of logits `sure`.
fn disk(map: &mut [f32], (cx, cy): (f64, f64), radius: f64, sure: f32) {
    for y in 0..SIDE {
        for x in 0..SIDE {
            let d = (x as f64 - cx).hypot(y as f64 - cy);
            if d < radius + 1.0 {
                let v = (((radius - d) * 2.0) as f32).clamp(-6.0, sure);
                let at = &mut map[y * SIDE + x];
                *at = at.max(v);
            }
        }
    }
}

fn map(disks: &[((f64, f64), f64, f32)]) -> Vec<f32> {
    let mut m = vec![-6.0; SIDE * SIDE];
    for d in disks {
        disk(&mut m, d.0, d.1, d.2);
    }
    m
}

const HERE: ((f64, f64), f64, f32) = ((40.0, 40.0), 7.0, 4.0);

struct Run {
    scene: Scene,
    tracks: Tracks,
}

impl Run {
    fn new(c: Confirm) -> Self {
        Self::with(c.numbers().unwrap())
    }

    fn with(numbers: Numbers) -> Self {
        Self { scene: Scene::default(), tracks: Tracks::new(numbers) }
    }

    fn frame(&mut self, n: u64, at_ns: u64, map: &[f32]) -> Vec<TrackMark> {
        let glance = self.scene.look(FrameId(n), Pts(at_ns), None, VIEW);
        self.given(&glance, map)
    }

    fn given(&mut self, glance: &Glance, map: &[f32]) -> Vec<TrackMark> {
        self.tracks.observe(&mut self.scene, glance, map, (SIDE, SIDE), VIEW, (600, 480), 0.0);
        self.tracks.marks().to_vec()
    }

    fn drawn_px(&self) -> usize {
        self.tracks.map().iter().filter(|v| **v >= 0.0).count()
    }
}

/// When something is first drawn, in ms, if a disk is there from 1 s on while `seen` says so.
fn first_alarm(c: Confirm, fps: f64, seen: impl Fn(f64) -> bool) -> Option<f64> {
    let mut run = Run::new(c);
    for n in 0..(4.0 * fps) as u64 {
        let t = n as f64 / fps;
        let m = if t >= 1.0 && seen(t) { map(&[HERE]) } else { map(&[]) };
        run.frame(n, (t * 1e9) as u64, &m);
        if run.drawn_px() > 0 {
            return Some(t * 1e3);
        }
    }
    None
}

#[test]
fn every_frame_rate_confirms_at_the_same_time() {
    for c in [Confirm::Sensitive, Confirm::Balanced, Confirm::Quiet] {
        let wanted = 1000.0 + f64::from(c.numbers().unwrap().confirm_ms);
        for fps in [25.0, 30.0, 50.0, 60.0, 30000.0 / 1001.0] {
            let at = first_alarm(c, fps, |_| true).unwrap();
            // The thing is first seen up to a frame after it is there.
            assert!(at >= wanted - 1.0 && at <= wanted + 2000.0 / fps + 1.0, "{c} at {fps}: {at}");
        }
        // Seen and not seen in turns of a fifth of a second.
        let on_and_off = |t: f64| (t * 5.0) as u64 % 2 == 1;
        let at: Vec<_> = [25.0, 30.0, 60.0].map(|fps| first_alarm(c, fps, on_and_off)).to_vec();
        let (low, high) = at.iter().fold((f64::MAX, 0f64), |(l, h), a| {
            let a = a.unwrap_or(9e9);
            (l.min(a), h.max(a))
        });
        assert!(high - low <= 45.0 || c == Confirm::Quiet && high - low <= 450.0, "{c}: {at:?}");
    }
}

#[test]
fn what_does_not_last_is_not_drawn() {
    for (c, frames) in [(Confirm::Balanced, 3), (Confirm::Quiet, 6)] {
        let mut run = Run::new(c);
        for n in 0..200 {
            let m = if n % 40 < frames { map(&[HERE]) } else { map(&[]) };
            let marks = run.frame(n, n * 40 * MS, &m);
            assert_eq!(run.drawn_px(), 0, "{c}, frame {n}");
            assert!(marks.iter().all(|m| m.state == TrackState::Tentative && m.polyp_id.is_none()));
        }
    }
    let mut run = Run::new(Confirm::Sensitive);
    run.frame(0, 0, &map(&[HERE]));
    assert!(run.drawn_px() > 100);
}

#[test]
fn a_track_is_tentative_then_confirmed_then_coasts_and_ends() {
    let mut run = Run::new(Confirm::Balanced);
    let states: Vec<_> = (0..40u64)
        .map(|n| {
            let m = if n < 12 { map(&[HERE]) } else { map(&[]) };
            let marks = run.frame(n, n * 40 * MS, &m);
            assert!(marks.len() <= 1);
            (marks.first().map(|m| m.state), run.drawn_px() > 0)
        })
        .collect();
    let n = Numbers::BALANCED;
    let confirmed = (n.confirm_ms / 40.0) as usize;
    for (i, (state, drawn)) in states.iter().enumerate() {
        let unseen = (i.max(11) - 11) as f32 * 40.0;
        let wanted = match i {
            _ if i < confirmed => Some(TrackState::Tentative),
            _ if i < 12 => Some(TrackState::Confirmed),
            _ if unseen < n.coast_ms => Some(TrackState::Coasting),
            _ if unseen < n.coast_ms + 40.0 => Some(TrackState::Ended),
            _ => None,
        };
        assert_eq!(*state, wanted, "frame {i}");
        assert_eq!(*drawn, i >= confirmed && unseen <= n.keep_ms, "frame {i}");
    }
}

#[test]
fn a_mark_says_which_track_it_is_and_since_when() {
    let mut run = Run::new(Confirm::Balanced);
    let mut last = Vec::new();
    for n in 0..20u64 {
        let radius = if n == 13 { 9.0 } else { 7.0 };
        let mut disks = vec![((20.0, 60.0), 6.0, 4.0)];
        if n >= 5 {
            disks.push(((60.0, 20.0), radius, 4.0));
        }
        last = run.frame(n, 5_000 * MS + n * 40 * MS, &map(&disks));
    }
    assert_eq!(
        last.iter().map(|m| (m.track_id, m.polyp_id)).collect::<Vec<_>>(),
        [(1, Some(1)), (2, Some(2))]
    );
    let m = &last[1];
    assert_eq!((m.first_frame, m.best_frame, m.first_pts_ns), (5, 13, 5_200 * MS));
    assert!((m.age_ms - 560.0).abs() < 1e-6 && m.confirmed_after_ms == Some(120.0), "{m:?}");
    // 88 pixels of the map are 440 of the picture.
    assert!(m.bbox.contains(40 + 300, 20 + 100) && m.bbox.w < 90 && m.drawn, "{m:?}");
    assert_eq!(run.tracks.track_in(&Rect::new(330, 100, 40, 40)), Some(2));
    assert_eq!(run.tracks.track_in(&Rect::new(130, 300, 40, 40)), Some(1));
}

#[test]
fn a_weak_region_continues_a_track_but_starts_none() {
    let weak = map(&[((40.0, 40.0), 7.0, 0.3)]);
    let mut run = Run::new(Confirm::Sensitive);
    for n in 0..20 {
        assert!(run.frame(n, n * 40 * MS, &weak).is_empty());
    }
    run.frame(20, 800 * MS, &map(&[HERE]));
    for n in 21..60 {
        let marks = run.frame(n, n * 40 * MS, &weak);
        assert_eq!(marks[0].state, TrackState::Confirmed, "frame {n}");
        assert!(run.drawn_px() > 0);
    }
    // Under the marking level it is followed, and no longer drawn once its outline has faded.
    let faint = map(&[((40.0, 40.0), 7.0, -0.5)]);
    for n in 60..90 {
        let marks = run.frame(n, n * 40 * MS, &faint);
        assert_eq!(marks[0].state, TrackState::Confirmed);
    }
    assert_eq!(run.drawn_px(), 0);
}

#[test]
fn specks_start_nothing_and_small_polyps_do() {
    let share = 0.002;
    let n = Numbers { confirm_ms: 0.0, least_share: share, ..Numbers::BALANCED };
    let least = f64::from(share) * (SIDE * SIDE) as f64;
    for (radius, starts) in [(1.2, false), ((least / 3.0).sqrt() + 1.0, true)] {
        let mut run = Run::with(n);
        run.frame(0, 0, &map(&[((40.0, 40.0), radius, 4.0)]));
        assert_eq!(run.drawn_px() > 0, starts, "radius {radius}");
    }
}

#[test]
fn an_older_frame_changes_nothing() {
    let mut run = Run::new(Confirm::Balanced);
    let mut other = Run::new(Confirm::Balanced);
    let (with, without) = (map(&[HERE]), map(&[]));
    for n in 0..30u64 {
        let m = if n % 7 == 6 { &without } else { &with };
        let a = run.frame(2 * n, n * 40 * MS, m);
        let b = other.frame(2 * n, n * 40 * MS, m);
        assert_eq!(a, b);
        assert_eq!(run.tracks.map(), other.tracks.map());
        if n > 2 {
            let late = run.frame(2 * n - 3, n * 40 * MS - 60 * MS, if n % 2 == 0 { &with } else { &without });
            assert!(late.is_empty());
            assert_eq!(run.drawn_px(), 0, "nothing is drawn on a frame that was overtaken");
        }
    }
}

#[test]
fn missing_frames_are_time_that_passed() {
    // Every fourth frame of 25 a second: what a slow machine analyses.
    let mut run = Run::new(Confirm::Balanced);
    let at = (0..30u64).find(|n| {
        run.frame(4 * n, n * 160 * MS, &map(&[HERE]));
        run.drawn_px() > 0
    });
    assert_eq!(at, Some(1));
    // A second without any frame ends everything.
    run.frame(400, 10_000 * MS, &map(&[HERE]));
    let marks = run.tracks.marks();
    assert_eq!(marks.iter().map(|m| m.state).collect::<Vec<_>>(), [TrackState::Ended, TrackState::Tentative]);
}

#[test]
fn a_thousand_regions_leave_the_largest() {
    let mut m = vec![-6.0; SIDE * SIDE];
    for y in (0..SIDE - 2).step_by(2) {
        for x in (0..SIDE - 2).step_by(2) {
            m[y * SIDE + x] = 4.0;
        }
    }
    disk(&mut m, (30.0, 30.0), 9.0, 5.0);
    let mut run = Run::with(Numbers { least_share: 0.0, ..Numbers::BALANCED });
    for n in 0..10 {
        let marks = run.frame(n, n * 40 * MS, &m);
        assert_eq!(marks.len(), MOST_TRACKS);
    }
    assert!(run.tracks.map()[30 * SIDE + 30] > 0.0);
    let mut run = Run::new(Confirm::Balanced);
    assert_eq!(run.frame(0, 0, &m).len(), 1, "specks are none of them");
}

#[test]
fn a_gap_at_one_place_is_one_polyp_and_another_place_another() {
    let mut run = Run::new(Confirm::Balanced);
    let mut ids = Vec::new();
    let mut n = 0;
    for (place, frames) in [
        ((40.0, 40.0), 20),
        ((0.0, 0.0), 40),
        ((44.0, 38.0), 20),
        ((20.0, 70.0), 20),
        ((0.0, 0.0), 100),
        ((40.0, 40.0), 20),
    ] {
        for _ in 0..frames {
            let m = if place.0 > 0.0 { map(&[(place, 7.0, 4.0)]) } else { map(&[]) };
            for m in run.frame(n, n * 40 * MS, &m) {
                if m.state == TrackState::Confirmed && !ids.contains(&(m.track_id, m.polyp_id)) {
                    ids.push((m.track_id, m.polyp_id));
                }
            }
            n += 1;
        }
    }
    assert_eq!(ids, [(1, Some(1)), (2, Some(1)), (3, Some(2)), (4, Some(3))]);
}

#[test]
fn what_is_shown_again_where_a_polyp_was_needs_no_second_proof() {
    let mut run = Run::new(Confirm::Balanced);
    let (with, without) = (map(&[HERE]), map(&[]));
    for n in 0..30 {
        run.frame(n, n * 40 * MS, if n < 10 { &with } else { &without });
    }
    assert!(run.tracks.marks().is_empty(), "it has ended");
    let marks = run.frame(30, 1200 * MS, &with);
    assert_eq!((marks[0].state, marks[0].polyp_id), (TrackState::Confirmed, Some(1)));
    assert!(run.drawn_px() > 0 && marks[0].is_newly_confirmed());
    // Elsewhere it does, and an arc does everywhere.
    let marks = run.frame(31, 1240 * MS, &map(&[HERE, ((70.0, 70.0), 6.0, 4.0)]));
    assert_eq!(
        marks.iter().map(|m| m.state).collect::<Vec<_>>(),
        [TrackState::Confirmed, TrackState::Tentative]
    );
    let mut run = Run::new(Confirm::Balanced);
    let mut arc = map(&[((40.0, 40.0), 10.0, 4.0)]);
    for y in 0..SIDE {
        for x in 0..SIDE {
            if (x as f64 - 40.0).hypot(y as f64 - 44.0) < 10.0 {
                arc[y * SIDE + x] = -6.0;
            }
        }
    }
    for n in 0..31 {
        run.frame(
            n,
            n * 40 * MS,
            if n < 10 {
                &with
            } else if n < 30 {
                &without
            } else {
                &arc
            },
        );
    }
    assert_eq!((run.tracks.marks()[0].state, run.drawn_px()), (TrackState::Tentative, 0));
}

#[test]
fn what_is_lost_and_found_beside_it_is_one_polyp() {
    // The old track still coasts when the new one is confirmed.
    let n = Numbers { coast_ms: 1000.0, ..Numbers::BALANCED };
    let mut run = Run::with(n);
    let mut last = Vec::new();
    for k in 0..30 {
        let x = if k < 15 { 40.0 } else { 52.0 };
        last = run.frame(k, k * 40 * MS, &map(&[((x, 40.0), if k < 15 { 4.0 } else { 9.0 }, 4.0)]));
    }
    assert!(last.len() == 2 && last.iter().all(|m| m.polyp_id == Some(1)), "{last:?}");
}

#[test]
fn a_small_mark_beside_a_polyp_is_a_part_of_it_and_a_mark_of_its_own_further_off() {
    let polyp = ((34.0, 40.0), 12.0, 4.0);
    for (second, same) in [
        (((52.0, 40.0), 3.0, 4.0), true),
        (((56.0, 40.0), 3.0, 4.0), false),
        // Nearly as large: a neighbour.
        (((61.0, 40.0), 11.0, 4.0), false),
    ] {
        let mut run = Run::new(Confirm::Balanced);
        let mut last = Vec::new();
        for n in 0..30 {
            let disks = [polyp, second];
            last = run.frame(n, n * 40 * MS, &map(&disks[..if n < 10 { 1 } else { 2 }]));
        }
        assert_eq!(last.len(), 2, "{second:?}");
        let ids = last.iter().map(|m| (m.track_id, m.polyp_id)).collect::<Vec<_>>();
        assert_eq!(ids, [(1, Some(1)), (2, Some(if same { 1 } else { 2 }))], "{second:?}");
    }
}

#[test]
fn what_lies_in_the_bend_of_an_arc_is_no_part_of_it() {
    let base = |k: u32| ((f64::from(20 + k * 5), 62.0), 5.0, 4.0);
    let side = |k: u32| ((20.0, f64::from(24 + k * 5)), 5.0, 4.0);
    let arc: Vec<_> = (0..8).map(base).chain((0..8).map(side)).collect();
    // Beside it at the same distance, but outside its box, it would be.
    for (at, same) in [((44.0, 40.0), false), ((65.0, 40.0), true)] {
        let with: Vec<_> = arc.iter().copied().chain([(at, 4.0, 4.0)]).collect();
        let mut run = Run::new(Confirm::Balanced);
        let mut last = Vec::new();
        for n in 0..180 {
            last = run.frame(n, n * 40 * MS, &map(if n < 150 { &arc } else { &with }));
            assert!(n != 149 || last[0].polyp_id == Some(1), "the arc is not confirmed");
        }
        let ids: Vec<_> = last.iter().map(|m| m.polyp_id).collect();
        assert_eq!(ids, [Some(1), Some(if same { 1 } else { 2 })], "{at:?}");
    }
}

#[test]
fn a_region_that_falls_apart_stays_one_track_and_a_sudden_giant_is_another() {
    let mut run = Run::new(Confirm::Balanced);
    for n in 0..20 {
        run.frame(n, n * 40 * MS, &map(&[((40.0, 40.0), 10.0, 4.0)]));
    }
    let mut split = map(&[((40.0, 40.0), 10.0, 4.0)]);
    for y in 0..SIDE {
        split[y * SIDE + 43..y * SIDE + 46].fill(-6.0);
    }
    for n in 20..30 {
        let marks = run.frame(n, n * 40 * MS, &split);
        assert_eq!(marks.len(), 1, "frame {n}");
    }
    assert!(run.tracks.map()[40 * SIDE + 47] > 0.0);
    let giant = map(&[((44.0, 44.0), 38.0, 4.0)]);
    let marks = run.frame(30, 1200 * MS, &giant);
    assert_eq!(marks.len(), 2);
    assert!(run.drawn_px() < 500, "{}", run.drawn_px());
}

/// Tissue-coloured texture that moves by `shift` pixels to the left.
fn picture(shift: f64) -> Vec<u8> {
    let mut out = Vec::with_capacity(600 * 480 * 3);
    for y in 0..480 {
        for x in 0..600 {
            let (u, v) = ((f64::from(x) + shift) * 0.055, f64::from(y) * 0.065);
            let wave = u.sin() * v.cos() + 0.4 * (2.3 * u - v).sin() + 0.3 * (5.1 * u + 4.3 * v).sin();
            let light = (0.55 + 0.22 * wave).clamp(0.0, 1.0);
            out.extend([230.0, 110.0, 80.0].map(|c| (c * light) as u8));
        }
    }
    out
}

fn iou(a: &[bool], b: &[bool]) -> f64 {
    let both = a.iter().zip(b).filter(|(a, b)| **a && **b).count();
    let any = a.iter().zip(b).filter(|(a, b)| **a || **b).count();
    if any == 0 { 1.0 } else { both as f64 / any as f64 }
}

/// A thing that moves with the picture, its outline shaken from frame to frame: the drawn outline flickers less than
/// half as much and lies on the thing at least as well.
#[test]
fn the_outline_is_steadier_and_does_not_lag() {
    let mut run = Run::new(Confirm::Sensitive);
    let (mut raw_iou, mut drawn_iou, mut raw_flicker, mut drawn_flicker) = (0.0, 0.0, 0.0, 0.0);
    let (mut before_raw, mut before_drawn) = (Vec::new(), Vec::new());
    let mut random = 1u64;
    for n in 0..40u64 {
        let x = 62.0 - n as f64;
        let truth: Vec<bool> = map(&[((x, 40.0), 9.0, 4.0)]).iter().map(|v| *v >= 0.0).collect();
        let mut m = vec![-6.0; SIDE * SIDE];
        for (i, at) in m.iter_mut().enumerate() {
            let (px, py) = ((i % SIDE) as f64 - x, (i / SIDE) as f64 - 40.0);
            let angle = py.atan2(px);
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(n);
            let shake = 1.6 * (3.0 * angle + (n * n) as f64 * 1.7).sin();
            *at = (((9.0 + shake - px.hypot(py)) * 2.0) as f32).clamp(-6.0, 4.0);
        }
        // One pixel of the map is five of the picture.
        let rgb = picture(5.0 * n as f64);
        let seen = Picture::packed(PictureInfo::new(PixelFormat::Rgb, 600, 480), &rgb).unwrap();
        let glance = run.scene.look(FrameId(n), Pts(n * 33 * MS), Some(&seen), VIEW);
        assert_eq!((glance.gate, glance.broken), (None, None), "{:?}", glance.features);
        run.given(&glance, &m);
        let raw: Vec<bool> = m.iter().map(|v| *v >= 0.0).collect();
        let drawn: Vec<bool> = run.tracks.map().iter().map(|v| *v >= 0.0).collect();
        if n >= 4 {
            raw_iou += iou(&raw, &truth);
            drawn_iou += iou(&drawn, &truth);
            raw_flicker += 1.0 - iou(&raw, &before_raw);
            drawn_flicker += 1.0 - iou(&drawn, &before_drawn);
        }
        (before_raw, before_drawn) = (raw, drawn);
    }
    assert!(drawn_iou > raw_iou, "{drawn_iou} {raw_iou}");
    assert!(drawn_flicker < 0.6 * raw_flicker, "{drawn_flicker} {raw_flicker}");
}

#[test]
fn a_cut_ends_tracks_and_a_gate_starts_none() {
    let with = map(&[HERE]);
    let glance = |n: u64, gate, broken| Glance {
        frame: FrameId(n),
        pts: Pts(n * 40 * MS),
        step_ns: 40 * MS,
        gate,
        broken,
        ..Glance::default()
    };
    let mut run = Run::new(Confirm::Balanced);
    for n in 0..20 {
        assert!(run.given(&glance(n, Some(Gate::Blurred), None), &with).is_empty());
    }
    for n in 20..30 {
        run.given(&glance(n, None, None), &with);
    }
    assert!(run.drawn_px() > 0);
    for n in 30..60 {
        let marks = run.given(&glance(n, Some(Gate::Bubbles), None), &with);
        assert_eq!((marks[0].state, marks[0].drawn), (TrackState::Coasting, true), "frame {n}");
    }
    let marks = run.given(&glance(60, None, Some(Break::Cut)), &with);
    assert_eq!(marks.iter().map(|m| m.state).collect::<Vec<_>>(), [TrackState::Ended, TrackState::Tentative]);
    assert_eq!(run.drawn_px(), 0);
    // A freeze leaves what is confirmed and lets go of what is not.
    for n in 61..63 {
        run.given(&glance(n, None, None), &with);
    }
    run.given(&glance(63, None, Some(Break::Freeze)), &with);
    assert_eq!(run.tracks.marks()[0].first_frame, 63);
    for n in 64..70 {
        run.given(&glance(n, None, None), &with);
    }
    run.given(&glance(70, None, Some(Break::Freeze)), &with);
    assert_eq!((run.tracks.marks()[0].first_frame, run.tracks.marks()[0].state), (63, TrackState::Confirmed));
}

#[test]
fn another_map_size_or_view_keeps_the_track() {
    let mut run = Run::new(Confirm::Balanced);
    for n in 0..10 {
        run.frame(n, n * 40 * MS, &map(&[HERE]));
    }
    // The same thing from a network of half the size.
    let half: Vec<f32> = (0..44 * 44).map(|i| map(&[HERE])[i / 44 * 2 * SIDE + i % 44 * 2]).collect();
    for n in 10..14 {
        let glance = run.scene.look(FrameId(n), Pts(n * 40 * MS), None, VIEW);
        run.tracks.observe(&mut run.scene, &glance, &half, (44, 44), VIEW, (600, 480), 0.0);
        let marks = run.tracks.marks();
        assert_eq!((marks.len(), marks[0].track_id, marks[0].drawn), (1, 1, true));
        assert!(run.drawn_px() > 20);
    }
}

#[test]
fn what_is_not_shown_hides_nothing_that_is() {
    // A small polyp; then something many times as large over it, which is no part of it and proves nothing yet.
    let small = map(&[((40.0, 40.0), 2.0, 2.0)]);
    let large = map(&[((41.0, 41.0), 14.0, 6.0)]);
    let mut run = Run::new(Confirm::Balanced);
    for n in 0..40 {
        run.frame(n, n * 10 * MS, &small);
    }
    let held = run.drawn_px();
    assert!(held > 0);
    let (mut kept, mut shown) = (0, 0);
    for n in 40..60 {
        let marks = run.frame(n, n * 10 * MS, &large);
        let drawn: Vec<_> = marks.iter().filter(|m| m.drawn).map(|m| m.track_id).collect();
        assert_eq!(drawn.is_empty(), run.drawn_px() == 0, "frame {n}");
        if drawn == [1] {
            kept += 1;
            assert_eq!(run.drawn_px(), held, "frame {n}");
        }
        shown += u64::from(drawn.contains(&2));
    }
    // For as long as a track is kept, to a frame; then the large one, once it is confirmed.
    let keep = Confirm::Balanced.numbers().unwrap().keep_ms / 10.0;
    assert!((kept as f32 - keep).abs() <= 1.0, "{kept}");
    assert!(shown > 0);
}

fn pattern() -> impl Strategy<Value = Vec<(u64, Vec<(f64, f64, f64)>)>> {
    // Near each other in half of the streams: what lies on another track is where they get into each other's way.
    let disks = |(from, to): (f64, f64)| prop::collection::vec((from..to, from..to, 0.5..14.0f64), 0..4);
    let disks = prop_oneof![disks((0.0, 88.0)), disks((38.0, 50.0))];
    prop::collection::vec((1..120u64, disks), 1..25)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever comes: the same twice is the same, drawn is what is confirmed, and numbers are given once.
    #[test]
    fn any_stream_is_followed_the_same_way_twice(frames in pattern(), quiet in any::<bool>()) {
        let c = if quiet { Confirm::Quiet } else { Confirm::Balanced };
        let (mut a, mut b) = (Run::new(c), Run::new(c));
        let mut at = 0;
        let mut seen = 0;
        for (n, (step, disks)) in frames.iter().enumerate() {
            at += step * MS;
            let disks: Vec<_> = disks.iter().map(|d| ((d.0, d.1), d.2, 4.0)).collect();
            let mut m = map(&disks);
            m[n * 31 % (SIDE * SIDE)] = f32::NAN;
            let marks = a.frame(n as u64, at, &m);
            prop_assert_eq!(&marks, &b.frame(n as u64, at, &m));
            prop_assert_eq!(a.tracks.map(), b.tracks.map());
            prop_assert!(a.tracks.map().iter().all(|v| v.is_finite()));
            // Every track that is said to be drawn is: each has pixels of its own.
            prop_assert_eq!(a.tracks.tracks_with_pixels(), marks.iter().filter(|m| m.drawn).count());
            for m in &marks {
                prop_assert!(!m.drawn || matches!(m.state, TrackState::Confirmed | TrackState::Coasting));
                prop_assert!(m.polyp_id.is_some() == (m.state != TrackState::Tentative));
                prop_assert!(m.first_frame <= n as u64 && m.best_frame <= n as u64 && m.age_ms >= 0.0);
                seen = seen.max(m.track_id);
            }
        }
        prop_assert!(seen <= 4 * frames.len() as u64);
    }
}

/// When a disk of `sure` logits that is there from the first frame on is confirmed and what its mark says, with frames
/// at these times in ms.
fn confirmed(c: Confirm, times: impl Iterator<Item = f64>, sure: f32) -> Option<(f64, f64)> {
    let mut run = Run::new(c);
    let m = map(&[((40.0, 40.0), 7.0, sure)]);
    for (n, at) in times.enumerate() {
        let marks = run.frame(n as u64, (at * 1e6).round() as u64, &m);
        if let Some(ms) = marks.iter().find_map(|m| m.confirmed_after_ms) {
            return Some((at, ms));
        }
    }
    None
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// The same detections at 25, 30 and 60 frames a second are confirmed within one frame of the same time, wherever
    /// the timestamps begin and however sure the network is.
    #[test]
    fn frame_rates_confirm_within_one_frame_of_the_same_time(
        begin in 0.0..1e7f64,
        sure in 2.0..6.0f32,
        setting in prop::sample::select(vec![Confirm::Sensitive, Confirm::Balanced, Confirm::Quiet]),
    ) {
        let at = [25.0, 30.0, 60.0].map(|fps| {
            let times = (0..(3.0 * fps) as u64).map(|n| begin + n as f64 * 1e3 / fps);
            confirmed(setting, times, sure).map(|(at, _)| at - begin)
        });
        // The finest steps come nearest to the time itself.
        let exact = at[2];
        for (found, fps) in at.into_iter().zip([25.0, 30.0, 60.0]) {
            match (found, exact) {
                (Some(a), Some(e)) => prop_assert!((a - e).abs() <= 1e3 / fps + 1.0, "{setting} at {fps}: {at:?}"),
                (a, e) => prop_assert_eq!(a.is_some(), e.is_some(), "{} at {}", setting, fps),
            }
        }
    }

    /// Frames that are missing, here and there or several in a row, delay a confirmation by no more than the next frame
    /// that comes; and one that comes after a newer one changes nothing.
    #[test]
    fn missing_and_late_frames_confirm_at_the_same_time(
        lost in prop::collection::vec(any::<bool>(), 60),
        late in prop::collection::vec(any::<bool>(), 60),
        setting in prop::sample::select(vec![Confirm::Balanced, Confirm::Quiet]),
    ) {
        // Not so many in a row that nothing is known any more.
        let kept: Vec<u64> = (0..60).filter(|&n| n % 5 == 0 || !lost[n as usize]).collect();
        let all = confirmed(setting, (0..60).map(|n| f64::from(n) * 20.0), 4.0).map(|(at, _)| at);
        let some = confirmed(setting, kept.iter().map(|n| *n as f64 * 20.0), 4.0).map(|(at, _)| at);
        let (all, some) = (all.unwrap_or(f64::NAN), some.unwrap_or(f64::NAN));
        prop_assert!(some >= all - 1e-6 && some - all <= 100.0 + 1e-6, "{all} {some}");

        let (mut orderly, mut mixed) = (Run::new(setting), Run::new(setting));
        let (with, without) = (map(&[HERE]), map(&[]));
        for &n in &kept {
            let m = if n % 11 == 7 { &without } else { &with };
            let wanted = orderly.frame(2 * n, n * 20 * MS, m);
            prop_assert_eq!(&wanted, &mixed.frame(2 * n, n * 20 * MS, m));
            prop_assert_eq!(orderly.tracks.map(), mixed.tracks.map());
            if late[n as usize] && n > 0 {
                prop_assert!(mixed.frame(2 * n - 1, n * 20 * MS - 10 * MS, &without).is_empty());
            }
        }
    }

    /// A thousand regions and more in a frame, of any sizes: no more tracks than there is room for, the largest among
    /// them, and the same twice.
    #[test]
    fn a_thousand_regions_are_followed_as_far_as_there_is_room(seed in any::<u64>(), largest in 6.0..14.0f64) {
        let mut random = seed | 1;
        let mut m = vec![-6.0f32; SIDE * SIDE];
        let mut regions = 0;
        for y in (0..SIDE - 2).step_by(2) {
            for x in (0..SIDE - 2).step_by(2) {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                if random >> 61 > 0 {
                    m[y * SIDE + x] = 4.0;
                    regions += 1;
                }
            }
        }
        prop_assume!(regions > 1200);
        disk(&mut m, (44.0, 44.0), largest, 5.0);
        let numbers = Numbers { least_share: 0.0, ..Numbers::BALANCED };
        let (mut a, mut b) = (Run::with(numbers), Run::with(numbers));
        for n in 0..12 {
            let marks = a.frame(n, n * 40 * MS, &m);
            prop_assert_eq!(&marks, &b.frame(n, n * 40 * MS, &m));
            prop_assert!(marks.len() <= 2 * MOST_TRACKS);
            prop_assert!(marks.iter().any(|m| m.bbox.contains(40 + 220, 20 + 220)));
        }
        prop_assert!(a.tracks.map()[44 * SIDE + 44] > 0.0);
    }
}
