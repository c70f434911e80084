//! Keeping a mask on its polyp although the picture has moved on since.
//!
//! In: every frame of the video path, and masks that are some frames old. Out: the mask as it lies on the newest frame.
//! Each frame is reduced to a small grey image; dense optical flow (`flow`) says how it moved since the frame before.
//! From the mask's frame to the newest these small steps are chained, around each polyp apart: near and far walls of
//! the bowel move differently.

// Nothing panics on a streaming thread.
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::unreachable))]

mod flow;
mod mover;
mod small;
mod tracker;

pub use mover::Mover;
pub use tracker::Tracker;

/// An affine map of the plane: `x' = a·x + b·y + c`, `y' = d·x + e·y + f`, in source pixels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Affine(pub [f64; 6]);

impl Affine {
    /// The map that moves nothing.
    pub const IDENTITY: Affine = Affine([1.0, 0.0, 0.0, 0.0, 1.0, 0.0]);

    /// Where it moves a point, in source pixels.
    pub fn apply(&self, x: f64, y: f64) -> (f64, f64) {
        let [a, b, c, d, e, f] = self.0;
        (a * x + b * y + c, d * x + e * y + f)
    }

    /// First this map, then another.
    #[must_use]
    pub fn then(&self, next: &Affine) -> Affine {
        let [a, b, c, d, e, f] = self.0;
        let [g, h, i, j, k, l] = next.0;
        Affine([
            g * a + h * d,
            g * b + h * e,
            g * c + h * f + i,
            j * a + k * d,
            j * b + k * e,
            j * c + k * f + l,
        ])
    }

    /// The way back; `None` for a map that folds the plane up.
    pub fn inverse(&self) -> Option<Affine> {
        let [a, b, c, d, e, f] = self.0;
        let det = a * e - b * d;
        if det.abs() < 1e-6 || !det.is_finite() {
            return None;
        }
        let (ia, ib, id, ie) = (e / det, -b / det, -d / det, a / det);
        Some(Affine([ia, ib, -(ia * c + ib * f), id, ie, -(id * c + ie * f)]))
    }
}
