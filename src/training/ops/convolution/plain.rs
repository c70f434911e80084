//! The reference: every window written out as a column, and matrix products over them.

use gemm::Parallelism;

use super::super::super::real::Real;
use super::geometry::Geometry;

/// `[depth, out_px]`: the value each tap reads for each output pixel, zeros outside.
fn columns<T: Real>(g: &Geometry, planes: &[T], out: &mut [T]) {
    each_tap(g, |row, p, from| out[row * g.out_px() + p] = from.map_or(T::ZERO, |at| planes[at]));
}

/// The adjoint: adds every column value to the pixel it was read from.
fn scatter<T: Real>(g: &Geometry, columns: &[T], planes: &mut [T]) {
    each_tap(g, |row, p, from| {
        if let Some(at) = from {
            planes[at] += columns[row * g.out_px() + p];
        }
    });
}

fn each_tap(g: &Geometry, mut visit: impl FnMut(usize, usize, Option<usize>)) {
    let (oh, ow, half) = (g.out_h(), g.out_w(), g.kernel / 2);
    for row in 0..g.depth() {
        let (c, ky, kx) = (row / g.taps(), row % g.taps() / g.kernel, row % g.kernel);
        for oy in 0..oh {
            let y = (oy * g.stride + ky).wrapping_sub(half);
            for ox in 0..ow {
                let x = (ox * g.stride + kx).wrapping_sub(half);
                let inside = y < g.h && x < g.w;
                visit(row, oy * ow + ox, inside.then(|| c * g.px() + y * g.w + x));
            }
        }
    }
}

/// `out = a · b + keep · out`, each matrix with its row and column stride.
fn product<T: Real>(
    (m, k, n): (usize, usize, usize),
    (a, ars, acs): (&[T], usize, usize),
    (b, brs, bcs): (&[T], usize, usize),
    out: &mut [T],
    keep: bool,
) {
    assert!(a.len() == m * k && b.len() == k * n && out.len() == m * n, "sizes of a product");
    // SAFETY: the strides reach exactly the lengths just asked for.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.as_mut_ptr(),
            1,
            n as isize,
            keep,
            a.as_ptr(),
            acs as isize,
            ars as isize,
            b.as_ptr(),
            bcs as isize,
            brs as isize,
            T::ONE,
            T::ONE,
            false,
            false,
            false,
            Parallelism::Rayon(0),
        );
    }
}

pub fn forward<T: Real>(g: &Geometry, x: &[T], weights: &[T], bias: Option<&[T]>, out: &mut [T]) {
    let (depth, px) = (g.depth(), g.out_px());
    let mut columns_of = vec![T::ZERO; depth * px];
    for (planes, out) in x.chunks_exact(g.cin * g.px()).zip(out.chunks_exact_mut(g.cout * px)) {
        columns(g, planes, &mut columns_of);
        for (o, plane) in out.chunks_exact_mut(px).enumerate() {
            plane.fill(bias.map_or(T::ZERO, |b| b[o]));
        }
        product((g.cout, depth, px), (weights, depth, 1), (&columns_of, px, 1), out, true);
    }
}

pub fn backward_input<T: Real>(g: &Geometry, weights: &[T], grad: &[T], out: &mut [T]) {
    let (depth, px) = (g.depth(), g.out_px());
    let mut columns_of = vec![T::ZERO; depth * px];
    out.fill(T::ZERO);
    for (planes, grad) in out.chunks_exact_mut(g.cin * g.px()).zip(grad.chunks_exact(g.cout * px)) {
        product((depth, g.cout, px), (weights, 1, depth), (grad, px, 1), &mut columns_of, false);
        scatter(g, &columns_of, planes);
    }
}

pub fn backward_weight<T: Real>(g: &Geometry, x: &[T], grad: &[T], out: &mut [T]) {
    let (depth, px) = (g.depth(), g.out_px());
    let mut columns_of = vec![T::ZERO; depth * px];
    for (planes, grad) in x.chunks_exact(g.cin * g.px()).zip(grad.chunks_exact(g.cout * px)) {
        columns(g, planes, &mut columns_of);
        product((g.cout, px, depth), (grad, px, 1), (&columns_of, 1, px), out, true);
    }
}
