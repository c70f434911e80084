//! The three pools: 3x3 maximum of the stem, 3x3 average of a first block's fourth split, 2x2 average of its shortcut.
//!
//! In: a map. Out: a smaller or equal map, or a slice of a concatenation; with the maximum also the sum over channels,
//! which the subtraction units want of x1.

use super::access;
use super::conv::Plane;
use super::lanes::Lanes;
use super::maps::View;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// 3x3, stride 2, padding 1.
    Max3,
    /// 3x3, padding 1 counted: the source has a border of zeros.
    Average3 { stride: usize },
    /// 2x2, stride 2; sizes are even.
    Average2,
}

pub(crate) struct Pool {
    pub(crate) kind: Kind,
    /// Output size.
    pub(crate) height: usize,
    pub(crate) width: usize,
    pub(crate) channels: usize,
    pub(crate) source: View,
    pub(crate) out: View,
    /// Only with the maximum.
    pub(crate) sum: Option<Plane>,
    /// From steps of the source's scale to those of the result's, and from those to the plane's values.
    pub(crate) factor: f32,
    pub(crate) sum_factor: f32,
}

impl Pool {
    /// A task is a row.
    pub(crate) fn tasks(&self) -> usize {
        self.height
    }
}

/// # Safety
/// As for [`super::conv::task`].
#[inline(always)]
pub(crate) unsafe fn task<L: Lanes>(pool: &Pool, y: usize) {
    // SAFETY: the caller runs each row once, and on a processor with these instructions. The row of the
    // result, and of the plane, is this task's.
    unsafe {
        for x in 0..pool.width {
            let out = access::pixel::<L>(&pool.out, y as isize, x as isize);
            let mut total = L::zero();
            let mut c = 0;
            while c < pool.channels {
                let n = (pool.channels - c).min(L::COUNT);
                let v = window::<L>(pool, y as isize, x as isize, c, n);
                let v = if L::SCALED { L::mul(v, L::splat(pool.factor)) } else { v };
                let v = if L::SCALED && pool.sum.is_some() && !access::is_other::<L>(&pool.out) {
                    L::stored(v)
                } else {
                    v
                };
                out.write_part::<L>(c, v, n);
                total = L::add(total, v);
                c += L::COUNT;
            }
            if let Some(plane) = &pool.sum {
                let total = if L::SCALED { L::sum(total) * pool.sum_factor } else { L::sum(total) };
                *plane.start.add(y * plane.width + x) = total;
            }
        }
    }
}

#[inline(always)]
unsafe fn window<L: Lanes>(pool: &Pool, y: isize, x: isize, c: usize, n: usize) -> L::Vector {
    // SAFETY: the caller is the task of row `y`. Windows lie inside the source, whose sides are even where
    // they are halved and which has a border where a window reaches over its edge.
    unsafe {
        match pool.kind {
            Kind::Max3 => {
                // What lies before the first row or column is left out: repeating one inside changes no maximum.
                let (y0, x0) = ((2 * y - 1).max(0), (2 * x - 1).max(0));
                let mut v = read::<L>(pool, c, n, 2 * y, 2 * x);
                for py in [y0, 2 * y, 2 * y + 1] {
                    for px in [x0, 2 * x, 2 * x + 1] {
                        v = L::max(v, read::<L>(pool, c, n, py, px));
                    }
                }
                v
            }
            Kind::Average3 { stride } => {
                let (y, x) = (y * stride as isize, x * stride as isize);
                let mut v = L::zero();
                for py in y - 1..=y + 1 {
                    for px in x - 1..=x + 1 {
                        v = L::add(v, read::<L>(pool, c, n, py, px));
                    }
                }
                L::mul(v, L::splat(1.0 / 9.0))
            }
            Kind::Average2 => {
                let top =
                    L::add(read::<L>(pool, c, n, 2 * y, 2 * x), read::<L>(pool, c, n, 2 * y, 2 * x + 1));
                let bottom = L::add(
                    read::<L>(pool, c, n, 2 * y + 1, 2 * x),
                    read::<L>(pool, c, n, 2 * y + 1, 2 * x + 1),
                );
                L::mul(L::add(top, bottom), L::splat(0.25))
            }
        }
    }
}

#[inline(always)]
unsafe fn read<L: Lanes>(pool: &Pool, c: usize, n: usize, y: isize, x: isize) -> L::Vector {
    // SAFETY: the caller's pixel lies in the source or its border, and has `n` channels from `c` on.
    unsafe { access::pixel::<L>(&pool.source, y, x).read_part::<L>(c, n) }
}
