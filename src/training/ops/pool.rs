//! Pools: the stem's maximum and Res2Net's averages, and their adjoints.

use rayon::prelude::*;

use super::super::real::Real;

/// Rows (or columns) after a 3-wide window with a border of one.
fn after(n: usize, stride: usize) -> usize {
    (n - 1) / stride + 1
}

/// Size after [`max3`] or [`average3`].
pub fn size3((h, w): (usize, usize), stride: usize) -> (usize, usize) {
    (after(h, stride), after(w, stride))
}

/// The rows (or columns) a window of three sees.
fn window(at: usize, stride: usize, n: usize) -> std::ops::Range<usize> {
    let centre = at * stride;
    centre.saturating_sub(1)..(centre + 2).min(n)
}

/// `MaxPool2d(3, 2, padding=1)`. `places` keeps which pixel of its plane each output came from: the first of equals;
/// NaN wins.
pub fn max3<T: Real>(x: &[T], (h, w): (usize, usize), out: &mut [T], places: &mut [u32]) {
    let (oh, ow) = size3((h, w), 2);
    let planes = out.par_chunks_mut(oh * ow).zip(places.par_chunks_mut(oh * ow)).zip(x.par_chunks(h * w));
    planes.for_each(|((out, places), plane)| {
        for oy in 0..oh {
            for ox in 0..ow {
                let mut best: Option<(T, usize)> = None;
                for y in window(oy, 2, h) {
                    for x in window(ox, 2, w) {
                        let v = plane[y * w + x];
                        if best.is_none_or(|(b, _)| v > b || v.partial_cmp(&v).is_none()) {
                            best = Some((v, y * w + x));
                        }
                    }
                }
                let (v, at) = best.unwrap_or((T::ZERO, 0));
                out[oy * ow + ox] = v;
                places[oy * ow + ox] = at as u32;
            }
        }
    });
}

/// Adds the input's gradient to `out`.
pub fn max3_backward<T: Real>(grad: &[T], places: &[u32], (h, w): (usize, usize), out: &mut [T]) {
    let (oh, ow) = size3((h, w), 2);
    let planes = out.par_chunks_mut(h * w).zip(grad.par_chunks(oh * ow)).zip(places.par_chunks(oh * ow));
    planes.for_each(|((out, grad), places)| {
        for (&g, &at) in grad.iter().zip(places) {
            out[at as usize] += g;
        }
    });
}

/// `AvgPool2d(3, stride, padding=1)`, the padding counted.
pub fn average3<T: Real>(x: &[T], (h, w): (usize, usize), stride: usize, out: &mut [T]) {
    let (oh, ow) = size3((h, w), stride);
    let ninth = T::of(1.0 / 9.0);
    out.par_chunks_mut(oh * ow).zip(x.par_chunks(h * w)).for_each(|(out, plane)| {
        for oy in 0..oh {
            for ox in 0..ow {
                let mut total = T::ZERO;
                for y in window(oy, stride, h) {
                    for &v in &plane[y * w..][window(ox, stride, w)] {
                        total += v;
                    }
                }
                out[oy * ow + ox] = total * ninth;
            }
        }
    });
}

/// Adds the input's gradient to `out`.
pub fn average3_backward<T: Real>(grad: &[T], (h, w): (usize, usize), stride: usize, out: &mut [T]) {
    let (oh, ow) = size3((h, w), stride);
    let ninth = T::of(1.0 / 9.0);
    out.par_chunks_mut(h * w).zip(grad.par_chunks(oh * ow)).for_each(|(out, grad)| {
        for oy in 0..oh {
            for ox in 0..ow {
                let g = grad[oy * ow + ox] * ninth;
                for y in window(oy, stride, h) {
                    for v in &mut out[y * w..][window(ox, stride, w)] {
                        *v += g;
                    }
                }
            }
        }
    });
}

/// `AvgPool2d(2, 2)` of planes with even sides.
pub fn average2<T: Real>(x: &[T], (h, w): (usize, usize), out: &mut [T]) {
    let (oh, ow) = (h / 2, w / 2);
    let quarter = T::of(0.25);
    out.par_chunks_mut(oh * ow).zip(x.par_chunks(h * w)).for_each(|(out, plane)| {
        for (line, rows) in out.chunks_exact_mut(ow).zip(plane.chunks_exact(2 * w)) {
            for (ox, to) in line.iter_mut().enumerate() {
                *to = (rows[2 * ox] + rows[2 * ox + 1] + rows[w + 2 * ox] + rows[w + 2 * ox + 1]) * quarter;
            }
        }
    });
}

/// Adds the input's gradient to `out`.
pub fn average2_backward<T: Real>(grad: &[T], (h, w): (usize, usize), out: &mut [T]) {
    let (oh, ow) = (h / 2, w / 2);
    let quarter = T::of(0.25);
    out.par_chunks_mut(h * w).zip(grad.par_chunks(oh * ow)).for_each(|(out, grad)| {
        for (line, rows) in grad.chunks_exact(ow).zip(out.chunks_exact_mut(2 * w)) {
            for (ox, &g) in line.iter().enumerate() {
                let g = g * quarter;
                for at in [2 * ox, 2 * ox + 1, w + 2 * ox, w + 2 * ox + 1] {
                    rows[at] += g;
                }
            }
        }
    });
}

/// `MaxPool2d(2, 2)`, as VGG has it; odd last rows and columns are left out. `places` as for [`max3`].
pub fn max2<T: Real>(x: &[T], (h, w): (usize, usize), out: &mut [T], places: &mut [u32]) {
    let (oh, ow) = (h / 2, w / 2);
    let planes = out.par_chunks_mut(oh * ow).zip(places.par_chunks_mut(oh * ow)).zip(x.par_chunks(h * w));
    planes.for_each(|((out, places), plane)| {
        for oy in 0..oh {
            for ox in 0..ow {
                let first = 2 * oy * w + 2 * ox;
                let mut best = first;
                for at in [first + 1, first + w, first + w + 1] {
                    let v = plane[at];
                    if v > plane[best] || v.partial_cmp(&v).is_none() {
                        best = at;
                    }
                }
                out[oy * ow + ox] = plane[best];
                places[oy * ow + ox] = best as u32;
            }
        }
    });
}

/// Adds the input's gradient to `out`.
pub fn max2_backward<T: Real>(grad: &[T], places: &[u32], (h, w): (usize, usize), out: &mut [T]) {
    let small = (h / 2) * (w / 2);
    let planes = out.par_chunks_mut(h * w).zip(grad.par_chunks(small)).zip(places.par_chunks(small));
    planes.for_each(|((out, grad), places)| {
        for (&g, &at) in grad.iter().zip(places) {
            out[at as usize] += g;
        }
    });
}
