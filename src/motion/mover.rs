//! Moving a mask.
//!
//! In: a mask, and how the picture moved since its frame. Out: the mask as it lies on the newest frame, each polyp
//! moved along with its own surroundings. Pixels that leave the field of view are lost.

use super::{Affine, Tracker};
use crate::frame::{Mask, Polyp, Rect};

/// Moves masks into a buffer of its own.
#[derive(Debug, Default)]
pub struct Mover {
    moved: Mask,
}

impl Mover {
    /// The mask on the tracker's newest frame; `None` if the way there is not known.
    pub fn run(&mut self, tracker: &mut Tracker, mask: &Mask) -> Option<&Mask> {
        if !tracker.knows(mask.frame) {
            return None;
        }
        self.begin(mask);
        for polyp in &mask.polyps {
            // Where the surroundings say nothing (at the edge of the picture), the polyp stays.
            let way = tracker.motion(mask.frame, polyp.bbox).unwrap_or(Affine::IDENTITY);
            self.add(mask, polyp, &way);
        }
        Some(self.end())
    }

    /// The mask moved by one map, as a whole.
    pub fn by(&mut self, mask: &Mask, way: &Affine) -> &Mask {
        self.begin(mask);
        for polyp in &mask.polyps {
            self.add(mask, polyp, way);
        }
        self.end()
    }

    fn begin(&mut self, mask: &Mask) {
        let out = &mut self.moved;
        // Only what the last mask left is wiped.
        let same = out.field_of_view == mask.field_of_view && out.inside.len() == mask.inside.len();
        if same {
            let view = out.field_of_view;
            for p in &out.polyps {
                for y in p.bbox.y..p.bbox.bottom() {
                    let at = (y - view.y) as usize * view.w as usize + (p.bbox.x - view.x) as usize;
                    out.inside[at..at + p.bbox.w as usize].fill(0);
                }
            }
        } else {
            out.inside.clear();
            out.inside.resize(mask.inside.len(), 0);
        }
        out.polyps.clear();
        out.frame = mask.frame;
        out.pts = mask.pts;
        out.width = mask.width;
        out.height = mask.height;
        out.field_of_view = mask.field_of_view;
        out.max_probability = mask.max_probability;
        out.area_px = 0;
    }

    /// Adds one polyp, moved. Pixel centres are mapped back and the nearest pixel counts.
    fn add(&mut self, mask: &Mask, polyp: &Polyp, way: &Affine) {
        let Some(back) = way.inverse() else { return };
        let view = mask.field_of_view;
        let Some(bbox) = moved_rect(&polyp.bbox, way, &view) else { return };
        let from = polyp.bbox;
        let mut area = 0u64;
        let [a, _, _, d, _, _] = back.0;
        for y in bbox.y..bbox.bottom() {
            let (mut sx, mut sy) = back.apply(f64::from(bbox.x) + 0.5, f64::from(y) + 0.5);
            let at = (y - view.y) as usize * view.w as usize + (bbox.x - view.x) as usize;
            let Some(row) = self.moved.inside.get_mut(at..at + bbox.w as usize) else { return };
            for out in row {
                if sx >= 0.0 && sy >= 0.0 && from.contains(sx as u32, sy as u32) {
                    let (x, y) = (sx as u32 - view.x, sy as u32 - view.y);
                    let inside = mask.inside.get(y as usize * view.w as usize + x as usize);
                    if inside.is_some_and(|v| *v != 0) {
                        area += u64::from(*out == 0);
                        *out = 1;
                    }
                }
                sx += a;
                sy += d;
            }
        }
        self.moved.area_px += area;
        // Outlines are not moved: nobody draws from them.
        self.moved.polyps.push(Polyp {
            bbox,
            area_px: area,
            mean_probability: polyp.mean_probability,
            contour: Vec::new(),
            track_id: polyp.track_id,
        });
    }

    fn end(&mut self) -> &Mask {
        &self.moved
    }
}

/// The rectangle around a moved rectangle, within the view; `None` if nothing is left.
fn moved_rect(r: &Rect, way: &Affine, view: &Rect) -> Option<Rect> {
    let corners = [(r.x, r.y), (r.right(), r.y), (r.x, r.bottom()), (r.right(), r.bottom())]
        .map(|(x, y)| way.apply(f64::from(x), f64::from(y)));
    let low = |k: fn(&(f64, f64)) -> f64| corners.iter().map(k).fold(f64::INFINITY, f64::min).floor();
    let high = |k: fn(&(f64, f64)) -> f64| corners.iter().map(k).fold(f64::NEG_INFINITY, f64::max).ceil();
    let (x0, x1) = (low(|c| c.0).max(f64::from(view.x)), high(|c| c.0).min(f64::from(view.right())));
    let (y0, y1) = (low(|c| c.1).max(f64::from(view.y)), high(|c| c.1).min(f64::from(view.bottom())));
    (x1 > x0 && y1 > y0).then(|| Rect::new(x0 as u32, y0 as u32, (x1 - x0) as u32, (y1 - y0) as u32))
}
