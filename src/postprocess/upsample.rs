//! Bilinear enlargement of logits to the field of view's size.
//!
//! In: `[classes, h, w]` logits. Out: one row at a time at the target's size, the largest class at each pixel.
//! `align_corners = false`, as the network's own last step.

/// Where one output sample lies between two inputs: `a + (b − a) · t`.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Between {
    pub(super) low: usize,
    pub(super) high: usize,
    pub(super) t: f32,
}

pub(super) fn positions(source: usize, target: usize, out: &mut Vec<Between>) {
    let scale = source as f64 / target as f64;
    out.clear();
    out.extend((0..target).map(|i| {
        let at = ((i as f64 + 0.5) * scale - 0.5).clamp(0.0, (source - 1) as f64);
        let low = at as usize;
        Between { low, high: (low + 1).min(source - 1), t: (at - low as f64) as f32 }
    }));
}

/// Enlarges maps row by row; keeps its tables while sizes stay the same.
#[derive(Debug, Default)]
pub struct Upsampler {
    key: (usize, usize, usize, usize),
    across: Vec<Between>,
    down: Vec<Between>,
    /// The two source rows around the present output row, already at the target's width, and which they are.
    rows: [(usize, Vec<f32>); 2],
    /// Largest class at each source pixel.
    joined: Vec<f32>,
    out: Vec<f32>,
}

impl Upsampler {
    /// Calls `each(y, row)` for the rows of the enlarged map from top to bottom. Source is `[classes, h, w]`.
    pub fn run(
        &mut self,
        logits: &[f32],
        classes: usize,
        (h, w): (usize, usize),
        (target_h, target_w): (usize, usize),
        mut each: impl FnMut(usize, &[f32]),
    ) {
        let key = (h, w, target_h, target_w);
        if self.key != key {
            positions(w, target_w, &mut self.across);
            positions(h, target_h, &mut self.down);
            for row in &mut self.rows {
                row.1.resize(target_w, 0.0);
            }
            self.out.resize(target_w, 0.0);
            self.key = key;
        }
        let map: &[f32] = if classes == 1 {
            logits
        } else {
            self.joined.clear();
            self.joined.extend_from_slice(&logits[..h * w]);
            for class in logits.chunks_exact(h * w).skip(1) {
                for (j, &l) in self.joined.iter_mut().zip(class) {
                    *j = j.max(l);
                }
            }
            &self.joined
        };
        let stretch = |row: usize, across: &[Between], out: &mut (usize, Vec<f32>)| {
            let line = &map[row * w..(row + 1) * w];
            for (o, b) in out.1.iter_mut().zip(across) {
                *o = line[b.low] + (line[b.high] - line[b.low]) * b.t;
            }
            out.0 = row;
        };
        let [above, below] = &mut self.rows;
        (above.0, below.0) = (usize::MAX, usize::MAX);
        for (y, at) in self.down.iter().enumerate() {
            if above.0 != at.low {
                if below.0 == at.low {
                    std::mem::swap(above, below);
                } else {
                    stretch(at.low, &self.across, above);
                }
            }
            if below.0 != at.high {
                stretch(at.high, &self.across, below);
            }
            for ((o, a), b) in self.out.iter_mut().zip(&above.1).zip(&below.1) {
                *o = a + (b - a) * at.t;
            }
            each(y, &self.out);
        }
    }

    /// Probabilities (sigmoid of the enlarged logits), row-major at the target's size.
    pub fn probabilities(
        &mut self,
        logits: &[f32],
        classes: usize,
        size: (usize, usize),
        target: (usize, usize),
        out: &mut [f32],
    ) {
        self.run(logits, classes, size, target, |y, row| {
            for (o, &l) in out[y * target.1..(y + 1) * target.1].iter_mut().zip(row) {
                *o = super::sigmoid(l);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Tensor};
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]
        #[test]
        fn equals_candles_bilinear_resize(
            h in 1usize..12, w in 1usize..12, th in 1usize..30, tw in 1usize..30, classes in 1usize..4, seed in any::<u32>(),
        ) {
            let v: Vec<f32> = (0..classes * h * w)
                .map(|i| ((i as u32).wrapping_mul(747796405).wrapping_add(seed) >> 8) as f32 / 1e6 - 8.0)
                .collect();
            let t = Tensor::from_slice(&v, (1, classes, h, w), &Device::Cpu).unwrap();
            let joined = t.max_keepdim(1).unwrap();
            let want = joined.upsample_bilinear2d(th, tw, false).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
            let mut up = Upsampler::default();
            for _ in 0..2 {
                let mut rows = 0;
                up.run(&v, classes, (h, w), (th, tw), |y, row| {
                    assert_eq!(y, rows);
                    rows += 1;
                    for (a, b) in row.iter().zip(&want[y * tw..]) {
                        assert!((a - b).abs() < 2e-4, "{a} {b}");
                    }
                });
                prop_assert_eq!(rows, th);
            }
            let mut probabilities = vec![f32::NAN; th * tw];
            up.probabilities(&v, classes, (h, w), (th, tw), &mut probabilities);
            for (p, &l) in probabilities.iter().zip(&want) {
                prop_assert!((p - 1.0 / (1.0 + (-l).exp())).abs() < 1e-4, "{p} {l}");
            }
        }
    }

    #[test]
    fn logit_and_sigmoid_undo_each_other() {
        for p in [0.01, 0.3, 0.5, 0.9] {
            assert!((super::super::sigmoid(super::super::logit(p)) as f64 - p).abs() < 1e-6);
        }
    }

    #[test]
    fn nan_and_infinity_are_refused() {
        use super::super::check_finite;
        assert!(check_finite(&[0.0, -3e30, 5.0]).is_ok());
        // Large is not infinite, also where the sum would be.
        assert!(check_finite(&[f32::MAX, f32::MIN, f32::MAX]).is_ok());
        assert!(check_finite(&[0.0, f32::NAN]).is_err());
        assert!(check_finite(&[f32::NEG_INFINITY, 1.0]).is_err());
    }

    /// One that is kept while sizes, classes and maps change gives what a new one gives.
    #[test]
    fn what_was_kept_for_another_size_changes_nothing() {
        let mut kept = Upsampler::default();
        for (round, (classes, size, target)) in [
            (1, (4, 5), (20, 30)),
            (3, (7, 3), (9, 11)),
            (2, (7, 3), (9, 40)),
            (3, (2, 9), (31, 8)),
            (1, (7, 3), (9, 11)),
        ]
        .into_iter()
        .enumerate()
        {
            let logits: Vec<f32> = (0..classes * size.0 * size.1)
                .map(|i| ((i * 37 + round * 53) % 101) as f32 / 9.0 - 5.0)
                .collect();
            let rows = |up: &mut Upsampler| {
                let mut out = Vec::new();
                up.run(&logits, classes, size, target, |_, row| out.extend_from_slice(row));
                out
            };
            let got = rows(&mut kept);
            assert_eq!(got.len(), target.0 * target.1, "round {round}");
            assert_eq!(got, rows(&mut Upsampler::default()), "round {round}");
        }
    }
}
