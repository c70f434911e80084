//! Between the pixels of a map and those of its picture.
//!
//! In: a map's size and the part of the picture it covers. Out: affine maps, and rectangles of one in the other.

use super::regions::Box2;
use crate::frame::Rect;
use crate::motion::Affine;

/// How a map lies on its picture. Map places count from the middle of the first pixel, picture places from its corner.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Place {
    pub view: Rect,
    pub w: usize,
    pub h: usize,
}

impl Place {
    fn scale(&self) -> (f64, f64) {
        (f64::from(self.view.w) / self.w.max(1) as f64, f64::from(self.view.h) / self.h.max(1) as f64)
    }

    fn to_picture(self) -> Affine {
        let (sx, sy) = self.scale();
        Affine([sx, 0.0, f64::from(self.view.x) + 0.5 * sx, 0.0, sy, f64::from(self.view.y) + 0.5 * sy])
    }

    fn to_map(self) -> Affine {
        let (sx, sy) = self.scale();
        Affine([
            1.0 / sx,
            0.0,
            -f64::from(self.view.x) / sx - 0.5,
            0.0,
            1.0 / sy,
            -f64::from(self.view.y) / sy - 0.5,
        ])
    }

    /// From places of this map to those of another, when the picture moved by `motion` in between.
    pub fn way(self, motion: &Affine, to: Place) -> Affine {
        self.to_picture().then(motion).then(&to.to_map())
    }

    /// The picture's pixels that a rectangle of the map covers.
    pub fn rect(&self, b: &Box2) -> Rect {
        let (sx, sy) = self.scale();
        let (x0, y0) = ((f64::from(b.x0) * sx) as u32, (f64::from(b.y0) * sy) as u32);
        let (x1, y1) = ((f64::from(b.x1) * sx).ceil() as u32, (f64::from(b.y1) * sy).ceil() as u32);
        Rect::new(self.view.x + x0, self.view.y + y0, x1.saturating_sub(x0), y1.saturating_sub(y0))
            .intersect(&self.view)
    }

    /// The map's pixels under a rectangle of the picture.
    pub fn box_of(&self, r: &Rect) -> Box2 {
        let (sx, sy) = self.scale();
        let r = r.intersect(&self.view);
        if r.is_empty() {
            return Box2::default();
        }
        let low = |v: u32, origin: u32, s: f64| (f64::from(v - origin) / s) as u32;
        let high = |v: u32, origin: u32, s: f64, end: usize| {
            ((f64::from(v - origin) / s).ceil() as u32).min(end as u32)
        };
        Box2 {
            x0: low(r.x, self.view.x, sx),
            y0: low(r.y, self.view.y, sy),
            x1: high(r.right(), self.view.x, sx, self.w),
            y1: high(r.bottom(), self.view.y, sy, self.h),
        }
    }
}

/// The rectangle around a moved one, within `w` by `h`; empty if nothing is left.
pub(super) fn moved(b: &Box2, way: &Affine, w: usize, h: usize) -> Box2 {
    if b.is_empty() {
        return Box2::default();
    }
    // Middles of the outermost pixels.
    let (x0, y0) = (f64::from(b.x0), f64::from(b.y0));
    let (x1, y1) = (f64::from(b.x1) - 1.0, f64::from(b.y1) - 1.0);
    let corners = [(x0, y0), (x1, y0), (x0, y1), (x1, y1)].map(|(x, y)| way.apply(x, y));
    let low = |k: fn(&(f64, f64)) -> f64| corners.iter().map(k).fold(f64::INFINITY, f64::min).floor();
    let high = |k: fn(&(f64, f64)) -> f64| corners.iter().map(k).fold(f64::NEG_INFINITY, f64::max).ceil();
    let clip = |v: f64, end: usize| v.clamp(0.0, end as f64) as u32;
    let out = Box2 {
        x0: clip(low(|c| c.0), w),
        y0: clip(low(|c| c.1), h),
        x1: clip(high(|c| c.0) + 1.0, w),
        y1: clip(high(|c| c.1) + 1.0, h),
    };
    if out.is_empty() { Box2::default() } else { out }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_that_does_not_move_stays_and_one_that_does_moves_by_its_scale() {
        let p = Place { view: Rect::new(100, 50, 704, 352), w: 352, h: 352 };
        let still = p.way(&Affine::IDENTITY, p);
        assert!(still.0.iter().zip(Affine::IDENTITY.0).all(|(a, b)| (a - b).abs() < 1e-9), "{still:?}");
        let way = p.way(&Affine([1.0, 0.0, 4.0, 0.0, 1.0, 3.0]), p);
        assert_eq!(way.apply(10.0, 10.0), (12.0, 13.0));
        let b = Box2 { x0: 10, y0: 20, x1: 30, y1: 24 };
        assert_eq!(moved(&b, &way, 352, 352), Box2 { x0: 12, y0: 23, x1: 32, y1: 27 });
        assert_eq!(p.rect(&b), Rect::new(120, 70, 40, 4));
        assert_eq!(p.box_of(&p.rect(&b)), b);
        assert!(moved(&b, &Affine([1.0, 0.0, 400.0, 0.0, 1.0, 0.0]), 352, 352).is_empty());
        // To a map of half the size.
        let half = Place { w: 176, h: 176, ..p };
        let (x, y) = p.way(&Affine::IDENTITY, half).apply(10.0, 11.0);
        assert!((x - 4.75).abs() < 1e-9 && (y - 5.25).abs() < 1e-9);
    }
}
