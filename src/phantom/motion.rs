//! The frame's motion: where sampled points of mucosa were a frame ago and are now goes in, the affine map that
//! explains it best comes out.

/// Sums of a least-squares fit of an affine map, about the middle of the frame.
#[derive(Clone, Copy, Default)]
pub(crate) struct Fit {
    /// Σ of 1, x, y, xx, xy, yy of the points before.
    from: [f64; 6],
    /// Σ of x', x'x, x'y and y', y'x, y'y.
    to: [[f64; 3]; 2],
}

impl Fit {
    pub fn add(&mut self, x: f64, y: f64, now: [f64; 2]) {
        for (sum, v) in self.from.iter_mut().zip([1.0, x, y, x * x, x * y, y * y]) {
            *sum += v;
        }
        for (sums, v) in self.to.iter_mut().zip(now) {
            for (sum, f) in sums.iter_mut().zip([1.0, x, y]) {
                *sum += v * f;
            }
        }
    }

    pub fn merge(&mut self, other: &Fit) {
        for (a, b) in self.from.iter_mut().zip(other.from) {
            *a += b;
        }
        for (a, b) in self.to.iter_mut().flatten().zip(other.to.iter().flatten()) {
            *a += b;
        }
    }

    /// The map, for coordinates with the origin `cx`, `cy` away; `None` if the points do not determine one.
    pub fn solve(&self, cx: f64, cy: f64) -> Option<[f64; 6]> {
        let [n, x, y, xx, xy, yy] = self.from;
        if n < 12.0 {
            return None;
        }
        // Inverse of the symmetric matrix [[n, x, y], [x, xx, xy], [y, xy, yy]] by cofactors.
        let c = [
            [xx * yy - xy * xy, xy * y - x * yy, x * xy - xx * y],
            [xy * y - x * yy, n * yy - y * y, x * y - n * xy],
            [x * xy - xx * y, x * y - n * xy, n * xx - x * x],
        ];
        let det = n * c[0][0] + x * c[0][1] + y * c[0][2];
        if det.abs() < 1e-9 * n * n * n {
            return None;
        }
        let mut m = [0.0; 6];
        for (row, t) in self.to.iter().enumerate() {
            let p: [f64; 3] =
                std::array::from_fn(|k| (c[k][0] * t[0] + c[k][1] * t[1] + c[k][2] * t[2]) / det);
            m[3 * row] = p[1];
            m[3 * row + 1] = p[2];
            m[3 * row + 2] = p[0];
        }
        m[2] += cx - m[0] * cx - m[1] * cy;
        m[5] += cy - m[3] * cx - m[4] * cy;
        Some(m)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn an_affine_motion_is_found_again(
            m in prop::array::uniform6(-0.2f64..0.2),
            shift in prop::array::uniform2(-30.0f64..30.0),
        ) {
            let m = [1.0 + m[0], m[1], shift[0], m[3], 1.0 + m[4], shift[1]];
            let (cx, cy) = (640.0, 360.0);
            let mut parts = [Fit::default(), Fit::default()];
            for k in 0..64 {
                let (x, y) = (f64::from(k % 8) * 150.0 + 20.0, f64::from(k / 8) * 80.0 + 30.0);
                let now = [m[0] * x + m[1] * y + m[2] - cx, m[3] * x + m[4] * y + m[5] - cy];
                parts[k as usize % 2].add(x - cx, y - cy, now);
            }
            let mut fit = Fit::default();
            parts.iter().for_each(|p| fit.merge(p));
            let found = fit.solve(cx, cy).expect("well determined");
            for (a, b) in found.iter().zip(m) {
                prop_assert!((a - b).abs() < 1e-6, "{found:?} {m:?}");
            }
        }
    }

    #[test]
    fn too_little_determines_nothing() {
        let mut fit = Fit::default();
        assert!(fit.solve(0.0, 0.0).is_none());
        for k in 0..100 {
            // All on one line.
            fit.add(f64::from(k), f64::from(k), [f64::from(k), 0.0]);
        }
        assert!(fit.solve(0.0, 0.0).is_none());
    }
}
