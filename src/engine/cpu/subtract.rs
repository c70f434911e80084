//! The subtraction unit before its convolution: `|a↑ − b| + |g₃(a↑) − g₃(b)| + |g₅(a↑) − g₅(b)|` in one pass.
//!
//! In: two 64-channel maps and the planes of their channel sums, `a` at the coarser or the same size. Out: one map at
//! `b`'s size. `g_k` is a box sum of the plane, scaled, shifted and clipped for each channel; planes stay in f32 at any
//! precision, because sums reach thousands. The channel sum commutes with the resize, so it is taken at the coarse
//! size.

use super::access;
use super::conv::Plane;
use super::lanes::Lanes;
use super::maps::View;
use super::resize::{Axis, Corners};

/// `g_k` folded: `max(0, alpha · box + beta)` per channel, for k = 3 and 5; and the operands' channel sums.
#[derive(Clone)]
pub(crate) struct Terms {
    pub(crate) alpha: [Vec<f32>; 2],
    pub(crate) beta: [Vec<f32>; 2],
    pub(crate) a_sum: Plane,
    pub(crate) b_sum: Plane,
}

pub(crate) struct Subtract {
    /// Size of `b` and of the result.
    pub(crate) height: usize,
    pub(crate) width: usize,
    /// A multiple of every vector's lanes.
    pub(crate) channels: usize,
    pub(crate) a: View,
    pub(crate) vertical: Axis,
    pub(crate) horizontal: Axis,
    /// `a` has `b`'s size already.
    pub(crate) same_size: bool,
    pub(crate) b: View,
    pub(crate) out: View,
    /// From steps of the operands' common scale to those of the result's, in which the terms come already.
    pub(crate) factor: f32,
    /// None for MSNet.
    pub(crate) terms: Option<Terms>,
    /// Rows of a task.
    pub(crate) band: usize,
}

impl Subtract {
    pub(crate) fn tasks(&self) -> usize {
        self.height.div_ceil(self.band)
    }

    fn pitch(&self) -> usize {
        self.width + 4
    }

    /// f32 values a task needs for itself.
    pub(crate) fn scratch(&self) -> usize {
        // Two planes with two rows and columns of context, and six rows of box sums.
        (2 * (self.band + 4) + 6) * self.pitch()
    }
}

/// # Safety
/// As for [`super::conv::task`].
#[inline(always)]
pub(crate) unsafe fn task<L: Lanes>(unit: &Subtract, task: usize, scratch: *mut f32) {
    // SAFETY: the caller runs each task once, and on a processor with these instructions. A task's rows
    // are its own, and `scratch` has what `Subtract::scratch` asks for.
    unsafe {
        let top = task * unit.band;
        let bottom = (top + unit.band).min(unit.height);
        let pitch = unit.pitch();
        let rows = bottom - top + 4;
        let planes = [scratch, scratch.add((unit.band + 4) * pitch)];
        let boxes = scratch.add(2 * (unit.band + 4) * pitch);
        if let Some(terms) = &unit.terms {
            for r in 0..rows {
                let y = (top + r) as isize - 2;
                plane_row(unit, &terms.a_sum, !unit.same_size, y, planes[0].add(r * pitch));
                plane_row(unit, &terms.b_sum, false, y, planes[1].add(r * pitch));
            }
        }
        for y in top..bottom {
            if unit.terms.is_some() {
                for (i, plane) in planes.iter().enumerate() {
                    box_sums(
                        plane.add((y - top) * pitch),
                        pitch,
                        unit.width,
                        boxes.add((2 * i) * pitch),
                        boxes.add((2 * i + 1) * pitch),
                        boxes.add(4 * pitch),
                    );
                }
            }
            let vertical = unit.vertical.at(y);
            for x in 0..unit.width {
                let b = access::pixel::<L>(&unit.b, y as isize, x as isize);
                let out = access::pixel::<L>(&unit.out, y as isize, x as isize);
                let same = access::pixel::<L>(&unit.a, y as isize, x as isize);
                let corners = if unit.same_size {
                    Corners::<L>::new(&unit.a, (y as isize, y as isize, 0.0), (x as isize, x as isize, 0.0))
                } else {
                    Corners::<L>::new(&unit.a, vertical, unit.horizontal.at(x))
                };
                let mut c = 0;
                while c < unit.channels {
                    let a = if unit.same_size { same.read::<L>(c) } else { corners.read(c) };
                    let mut v = L::abs(L::sub(a, b.read::<L>(c)));
                    if L::SCALED {
                        v = L::mul(v, L::splat(unit.factor));
                    }
                    if let Some(terms) = &unit.terms {
                        for k in 0..2 {
                            let alpha = L::load(terms.alpha[k].as_ptr().add(c));
                            let beta = L::load(terms.beta[k].as_ptr().add(c));
                            let of_a = L::splat(*boxes.add(k * pitch + x));
                            let of_b = L::splat(*boxes.add((2 + k) * pitch + x));
                            let ga = L::max(L::zero(), L::fma(alpha, of_a, beta));
                            let gb = L::max(L::zero(), L::fma(alpha, of_b, beta));
                            v = L::add(v, L::abs(L::sub(ga, gb)));
                        }
                    }
                    out.write::<L>(c, v);
                    c += L::COUNT;
                }
            }
        }
    }
}

/// Row `y` of an operand's plane at the unit's size (`resized` where the plane has another) with two zeros on either
/// side; zeros outside the plane.
#[inline(always)]
unsafe fn plane_row(unit: &Subtract, plane: &Plane, resized: bool, y: isize, to: *mut f32) {
    // SAFETY: `to` has a row of the pitch, rows outside the plane are not read, and an axis names pixels
    // inside it.
    unsafe {
        let pitch = unit.pitch();
        if y < 0 || y >= unit.height as isize {
            std::ptr::write_bytes(to, 0, pitch);
            return;
        }
        for edge in [0, 1, pitch - 2, pitch - 1] {
            *to.add(edge) = 0.0;
        }
        let to = to.add(2);
        let y = y as usize;
        if !resized {
            std::ptr::copy_nonoverlapping(plane.start.add(y * plane.width), to, unit.width);
            return;
        }
        let (y0, y1, fy) = unit.vertical.at(y);
        let top = plane.start.add(y0 as usize * plane.width);
        let bottom = plane.start.add(y1 as usize * plane.width);
        for x in 0..unit.width {
            let (x0, x1, fx) = unit.horizontal.at(x);
            let (x0, x1) = (x0 as usize, x1 as usize);
            let upper = *top.add(x0) * (1.0 - fx) + *top.add(x1) * fx;
            let lower = *bottom.add(x0) * (1.0 - fx) + *bottom.add(x1) * fx;
            *to.add(x) = upper * (1.0 - fy) + lower * fy;
        }
    }
}

/// 3x3 and 5x5 sums around each pixel of one row; `rows` points two rows and two columns before it.
#[inline(always)]
unsafe fn box_sums(
    rows: *const f32,
    pitch: usize,
    width: usize,
    three: *mut f32,
    five: *mut f32,
    column: *mut f32,
) {
    // SAFETY: `rows` has five rows of the pitch, `three` and `five` have `width` values, and `column` has
    // two rows of the pitch.
    unsafe {
        let (column3, column5) = (column, column.add(pitch));
        for x in 0..pitch {
            let at = |r: usize| *rows.add(r * pitch + x);
            let inner = at(1) + at(2) + at(3);
            *column3.add(x) = inner;
            *column5.add(x) = inner + (at(0) + at(4));
        }
        for x in 0..width {
            *three.add(x) = *column3.add(x + 1) + *column3.add(x + 2) + *column3.add(x + 3);
            let c = |i: usize| *column5.add(x + i);
            *five.add(x) = (c(1) + c(2) + c(3)) + (c(0) + c(4));
        }
    }
}
