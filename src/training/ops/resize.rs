//! Bilinear resize with `align_corners = false`, and its adjoint.
//!
//! An output row lies at `(row + 0.5) · h / out_h − 0.5` of the input, not above the first row, and is mixed from the
//! two rows around it; columns alike. Both directions are separable and work on one plane at a time.

use std::cell::RefCell;

use rayon::prelude::*;

use super::super::real::Real;

/// For each output row (or column): the first input row, the second, and the share of the second.
fn taps(from: usize, to: usize) -> Vec<(usize, usize, f64)> {
    let scale = from as f64 / to as f64;
    (0..to)
        .map(|i| {
            let at = ((i as f64 + 0.5) * scale - 0.5).max(0.0);
            let first = (at as usize).min(from - 1);
            (first, (first + 1).min(from - 1), at - first as f64)
        })
        .collect()
}

fn typed<T: Real>(from: usize, to: usize) -> Vec<(usize, usize, T)> {
    taps(from, to).into_iter().map(|(a, b, share)| (a, b, T::of(share))).collect()
}

thread_local! {
    /// Kept as f64 so that one buffer serves both precisions: only its length in bytes matters.
    static SCRATCH: RefCell<Vec<f64>> = const { RefCell::new(Vec::new()) };
}

fn with_scratch<T: Real, R>(len: usize, work: impl FnOnce(&mut [T]) -> R) -> R {
    SCRATCH.with_borrow_mut(|buffer| {
        if buffer.len() < len {
            buffer.resize(len, 0.0);
        }
        // SAFETY: f32 and f64 are the only precisions, neither longer nor more aligned than f64, and any bits are a
        // value.
        let buffer = unsafe { std::slice::from_raw_parts_mut(buffer.as_mut_ptr().cast::<T>(), len) };
        work(buffer)
    })
}

/// Planes of `(h, w)` to planes of `(out_h, out_w)`; with `added`, these are added.
pub fn forward<T: Real>(
    x: &[T],
    (h, w): (usize, usize),
    (out_h, out_w): (usize, usize),
    added: Option<&[T]>,
    out: &mut [T],
) {
    let (rows, columns) = (typed::<T>(h, out_h), typed::<T>(w, out_w));
    let px = out_h * out_w;
    out.par_chunks_mut(px).zip(x.par_chunks(h * w)).enumerate().for_each(|(i, (out, plane))| {
        // All rows at the output's width first: each is used about twice.
        with_scratch::<T, _>(h * out_w, |wide| {
            for (row, wide) in plane.chunks_exact(w).zip(wide.chunks_exact_mut(out_w)) {
                for (to, &(a, b, share)) in wide.iter_mut().zip(&columns) {
                    *to = row[a] + share * (row[b] - row[a]);
                }
            }
            for (line, &(a, b, share)) in out.chunks_exact_mut(out_w).zip(&rows) {
                let (a, b) = (&wide[a * out_w..][..out_w], &wide[b * out_w..][..out_w]);
                for ((to, &a), &b) in line.iter_mut().zip(a).zip(b) {
                    *to = a + share * (b - a);
                }
            }
        });
        if let Some(added) = added {
            out.iter_mut().zip(&added[i * px..][..px]).for_each(|(to, &a)| *to += a);
        }
    });
}

/// Adds the input's gradient to `out`.
pub fn backward<T: Real>(grad: &[T], (h, w): (usize, usize), (out_h, out_w): (usize, usize), out: &mut [T]) {
    let (rows, columns) = (typed::<T>(h, out_h), typed::<T>(w, out_w));
    out.par_chunks_mut(h * w).zip(grad.par_chunks(out_h * out_w)).for_each(|(out, grad)| {
        with_scratch::<T, _>(h * out_w, |wide| {
            wide.fill(T::ZERO);
            for (line, &(a, b, share)) in grad.chunks_exact(out_w).zip(&rows) {
                for (to, &g) in wide[a * out_w..][..out_w].iter_mut().zip(line) {
                    *to += (T::ONE - share) * g;
                }
                for (to, &g) in wide[b * out_w..][..out_w].iter_mut().zip(line) {
                    *to += share * g;
                }
            }
            for (row, wide) in out.chunks_exact_mut(w).zip(wide.chunks_exact(out_w)) {
                for (&g, &(a, b, share)) in wide.iter().zip(&columns) {
                    row[a] += (T::ONE - share) * g;
                    row[b] += share * g;
                }
            }
        });
    });
}
