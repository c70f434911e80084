//! What happened between two frames, apart from what was detected on them.
//!
//! In: the pictures that were analysed, in order, with their timestamps. Out: how much time passed, how the picture
//! moved, whether it is another scene now, and whether it can prove anything. Frames may be missing: time decides, not
//! their number. One scene serves any number of filters of the same video.

use super::gates::{Colours, Features, Limits, detail};
use crate::frame::{FrameId, Gate, Picture, Pts, Rect};
use crate::motion::{Affine, Tracker};

/// Longer between two frames, and nothing is known of what lay between (1 s).
const LONGEST_STEP_NS: u64 = 1_000_000_000;
/// Timestamps that run back by no more than this are jitter (500 ms).
const JITTER_NS: u64 = 500_000_000;
/// How long a frame lasts that nothing tells about (40 ms).
const USUAL_NS: u64 = 40_000_000;
/// The same picture for so long is a freeze; a 60 Hz recording of a 25 Hz source repeats pictures too.
const FREEZE_NS: u64 = 250_000_000;
/// Grey levels by which a repeated picture may differ, in the mean.
const SAME: f32 = 0.02;
/// So long outside the body, and what was inside is over.
const OUTSIDE_NS: u64 = 500_000_000;
/// A cut: the motion explains nothing, so much of the colours has changed, and grey levels correlate less than this.
const CUT_COLOURS: f32 = 0.35;
const CUT_CORRELATION: f32 = 0.4;

/// Pixels of the small picture that motion is found in. Which region is which needs less than drawing does, and the
/// whole of the following is to cost a millisecond.
const WIDTH: u32 = 72;

/// What ends or shakes the tracks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Break {
    /// Another scene from one frame to the next.
    Cut,
    /// The picture stands still from here on.
    Freeze,
    /// It moves again: what happened meanwhile is unknown.
    Thaw,
    /// Out of the body for a while.
    Outside,
    /// The timestamps jump, or nothing was seen for long.
    Jump,
}

/// What is known of one frame.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Glance {
    /// The frame that was looked at.
    pub frame: FrameId,
    /// That frame's timestamp.
    pub pts: Pts,
    /// Since the frame before; 0 for the first.
    pub step_ns: u64,
    /// Of an older frame than the last one: nothing may be concluded from it.
    pub late: bool,
    /// What happened between the frame before and this one; `None`: nothing that ends or shakes a track.
    pub broken: Option<Break>,
    /// Why the frame starts no track; `None` where it may start some, or nothing was seen of it.
    pub gate: Option<Gate>,
    /// What the gate was decided by; 0 where there was no picture.
    pub features: Features,
    /// Whether the way of things from the frame before is known.
    pub moved: bool,
}

/// See the module.
pub struct Scene {
    tracker: Tracker,
    colours: Colours,
    limits: Limits,
    before: Vec<u8>,
    /// Frames looked at, which is what the tracker counts.
    count: u64,
    last: Option<(FrameId, Pts)>,
    usual_ns: u64,
    still_ns: u64,
    frozen: bool,
    outside_ns: u64,
    glance: Glance,
}

impl Default for Scene {
    fn default() -> Self {
        Self::new(Limits::default())
    }
}

impl Scene {
    /// Before the first frame, with these limits for the gates.
    pub fn new(limits: Limits) -> Self {
        Self {
            tracker: Tracker::with_width(WIDTH),
            colours: Colours::default(),
            limits,
            before: Vec::new(),
            count: 0,
            last: None,
            usual_ns: USUAL_NS,
            still_ns: 0,
            frozen: false,
            outside_ns: 0,
            glance: Glance::default(),
        }
    }

    /// Another video begins.
    pub fn restart(&mut self) {
        self.tracker.restart();
        self.colours.restart();
        self.before.clear();
        self.last = None;
        self.usual_ns = USUAL_NS;
        (self.still_ns, self.frozen, self.outside_ns) = (0, false, 0);
    }

    /// Looks at the next analysed frame. Without a picture nothing moves and no gate closes.
    pub fn look(&mut self, frame: FrameId, pts: Pts, picture: Option<&Picture>, view: Rect) -> Glance {
        let mut glance = Glance { frame, pts, ..Glance::default() };
        if let Some((last, _)) = self.last
            && frame <= last
        {
            glance.late = true;
            return glance;
        }
        self.count += 1;
        let jumped = self.tick(frame, pts, &mut glance);
        let mut cut = false;
        if let Some(picture) = picture {
            self.tracker.observe(FrameId(self.count), picture, view);
            glance.moved = self.tracker.knows(FrameId(self.count - 1));
            self.colours.look(picture, view, &mut glance.features);
            if let Some((pixels, w, h)) = self.tracker.newest() {
                detail(pixels, w, h, &mut glance.features);
                glance.gate = glance.features.gate(&self.limits);
                let alike = self.before.len() == pixels.len();
                let (difference, correlation) =
                    if alike { compare(&self.before, pixels) } else { (f32::INFINITY, 1.0) };
                cut = !glance.moved && correlation < CUT_CORRELATION && self.colours.changed() >= CUT_COLOURS;
                self.before.clear();
                self.before.extend_from_slice(pixels);
                if difference <= SAME {
                    self.still_ns += glance.step_ns;
                } else {
                    self.still_ns = 0;
                }
            }
        }
        let frozen = self.still_ns >= FREEZE_NS;
        let (froze, thawed) = (frozen && !self.frozen, !frozen && self.frozen);
        self.frozen = frozen;
        let was_outside = self.outside_ns >= OUTSIDE_NS;
        self.outside_ns =
            if glance.gate == Some(Gate::OutsideBody) { self.outside_ns + glance.step_ns } else { 0 };
        let left = !was_outside && self.outside_ns >= OUTSIDE_NS;
        glance.broken = [
            (jumped, Break::Jump),
            (cut, Break::Cut),
            (thawed, Break::Thaw),
            (left, Break::Outside),
            (froze, Break::Freeze),
        ]
        .into_iter()
        .find_map(|(is, what)| is.then_some(what));
        self.glance = glance;
        glance
    }

    /// Time since the frame before; true if the timestamps tell nothing about it.
    fn tick(&mut self, frame: FrameId, pts: Pts, glance: &mut Glance) -> bool {
        let Some((_, last)) = self.last.replace((frame, pts)) else { return false };
        glance.step_ns = self.usual_ns;
        if pts > last && pts.0 - last.0 <= LONGEST_STEP_NS {
            glance.step_ns = pts.0 - last.0;
            self.usual_ns = glance.step_ns;
            return false;
        }
        pts > last || last.0 - pts.0 > JITTER_NS
    }

    /// Where a rectangle of the frame before (in source pixels) lies on the last one looked at.
    pub(super) fn motion(&mut self, around: Rect) -> Option<Affine> {
        if !self.glance.moved {
            return None;
        }
        self.tracker.motion(FrameId(self.count - 1), around)
    }
}

/// Mean difference of two grey pictures, and how their levels correlate.
fn compare(a: &[u8], b: &[u8]) -> (f32, f32) {
    let n = a.len().max(1) as f64;
    let (mut differ, mut sa, mut sb, mut aa, mut bb, mut ab) = (0u64, 0u64, 0u64, 0u64, 0u64, 0u64);
    for (&x, &y) in a.iter().zip(b) {
        differ += u64::from(x.abs_diff(y));
        let (x, y) = (u64::from(x), u64::from(y));
        sa += x;
        sb += y;
        aa += x * x;
        bb += y * y;
        ab += x * y;
    }
    let (ma, mb) = (sa as f64 / n, sb as f64 / n);
    let (va, vb) = (aa as f64 / n - ma * ma, bb as f64 / n - mb * mb);
    let spread = (va * vb).max(0.0).sqrt();
    let correlation = if spread < 1e-9 { 1.0 } else { (ab as f64 / n - ma * mb) / spread };
    ((differ as f64 / n) as f32, correlation as f32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{PictureInfo, PixelFormat};

    const W: u32 = 240;
    const H: u32 = 200;

    /// Reddish texture, shifted; another `kind` is another scene.
    fn scene(kind: u32, shift: u32, colour: [u8; 3]) -> Vec<u8> {
        let mut out = Vec::new();
        for y in 0..H {
            for x in 0..W {
                let (u, v) = (f64::from(x + shift) * 0.06, f64::from(y) * 0.07);
                let k = f64::from(kind);
                let wave = (u + k).sin() * (v * (1.0 + k)).cos()
                    + 0.4 * (2.3 * u - v + k).sin()
                    + 0.3 * (5.1 * u + 4.3 * v).sin();
                let light = (0.55 + 0.22 * wave).clamp(0.0, 1.0);
                out.extend(colour.map(|c| (f64::from(c) * light) as u8));
            }
        }
        out
    }

    const RED: [u8; 3] = [230, 110, 80];

    fn look(s: &mut Scene, n: u64, rgb: &[u8]) -> Glance {
        let picture = Picture::packed(PictureInfo::new(PixelFormat::Rgb, W, H), rgb).unwrap();
        s.look(FrameId(n), Pts(n * 40_000_000), Some(&picture), Rect::full(W, H))
    }

    #[test]
    fn motion_is_no_cut_and_another_scene_is_one() {
        let mut s = Scene::default();
        for n in 0..5 {
            let g = look(&mut s, n, &scene(0, 2 * n as u32, RED));
            assert_eq!((g.broken, g.gate, g.late), (None, None, false), "frame {n}: {:?}", g.features);
            assert_eq!(g.moved, n > 0);
        }
        let way = s.motion(Rect::new(80, 80, 40, 40)).unwrap();
        let (x, y) = way.apply(100.0, 100.0);
        assert!((x - 98.0).abs() < 0.6 && (y - 100.0).abs() < 0.6, "{way:?}");
        let g = look(&mut s, 5, &scene(1, 0, [120, 160, 60]));
        assert_eq!(g.broken, Some(Break::Cut));
    }

    #[test]
    fn a_frozen_picture_is_noticed_when_it_stops_and_when_it_goes_on() {
        let mut s = Scene::default();
        let broken: Vec<_> = (0..16)
            .map(|n| look(&mut s, n, &scene(0, if n < 12 { 0 } else { 6 * n as u32 }, RED)).broken)
            .collect();
        assert_eq!(broken.iter().position(|b| *b == Some(Break::Freeze)), Some(7));
        assert_eq!(broken.iter().position(|b| *b == Some(Break::Thaw)), Some(12));
        assert_eq!(broken.iter().flatten().count(), 2);
        // Every picture twice is none.
        let mut s = Scene::default();
        assert!((0..30).all(|n| look(&mut s, n, &scene(0, 2 * (n as u32 / 2), RED)).broken.is_none()));
    }

    #[test]
    fn time_is_taken_from_timestamps_where_they_tell_it() {
        let mut s = Scene::default();
        let mut at = |n: u64, ms: u64| {
            let g = s.look(FrameId(n), Pts(ms * 1_000_000), None, Rect::full(W, H));
            (g.step_ns / 1_000_000, g.late, g.broken)
        };
        assert_eq!(at(0, 5000), (0, false, None));
        assert_eq!(at(1, 5020), (20, false, None));
        assert_eq!(at(2, 5010), (20, false, None), "jitter");
        assert_eq!(at(7, 5090), (80, false, None), "missing frames");
        assert_eq!(at(6, 5070), (0, true, None), "an older frame");
        assert_eq!(at(8, 9000), (80, false, Some(Break::Jump)));
        assert_eq!(at(9, 3), (80, false, Some(Break::Jump)));
    }

    #[test]
    fn gates_close_with_their_reasons() {
        let gate = |rgb: &[u8]| look(&mut Scene::default(), 0, rgb).gate;
        let clear = scene(0, 0, RED);
        assert_eq!(gate(&clear), None);
        assert_eq!(gate(&vec![250; clear.len()]), Some(Gate::OverExposed));
        assert_eq!(gate(&scene(0, 0, [110, 150, 215])), Some(Gate::OutsideBody));
        // Narrow-band light.
        assert_eq!(gate(&scene(0, 0, [120, 150, 110])), None);
        let smear: Vec<u8> = (0..H)
            .flat_map(|y| (0..W).map(move |x| (x, y)))
            .flat_map(|(x, y)| {
                let light = 0.5 + 0.3 * (f64::from(x) * 0.012).sin() * (f64::from(y) * 0.012).cos();
                RED.map(|c| (f64::from(c) * light) as u8)
            })
            .collect();
        assert_eq!(gate(&smear), Some(Gate::Blurred));
        let mut foam = clear;
        for cy in (6..H - 6).step_by(16) {
            for cx in (6..W - 6).step_by(16) {
                for (dx, dy) in (0..5).flat_map(|dy| (0..5).map(move |dx| (dx, dy))) {
                    let at = (((cy + dy) * W + cx + dx) * 3) as usize;
                    foam[at..at + 3].fill(235);
                }
            }
        }
        assert_eq!(gate(&foam), Some(Gate::Bubbles));
        // Grey pictures are of no colour, which proves nothing.
        let grey: Vec<u8> = scene(0, 0, [200; 3]).chunks_exact(3).map(|p| p[0]).collect();
        let picture = Picture::packed(PictureInfo::new(PixelFormat::Gray8, W, H), &grey).unwrap();
        let g = Scene::default().look(FrameId(0), Pts(0), Some(&picture), Rect::full(W, H));
        assert_eq!(g.gate, None);
    }
}
