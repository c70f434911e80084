//! Bilinear resizing with `align_corners=False`, and its sum with another map.
//!
//! In: a coarse map and a finer one. Out: `resized + finer` in a map of its own, ready for a decoder convolution.

use super::lanes::Lanes;
use super::maps::View;

/// For each output coordinate of one axis: its two neighbours and the second one's weight.
#[derive(Clone, Debug)]
pub(crate) struct Axis {
    pub(crate) low: Vec<u32>,
    pub(crate) high: Vec<u32>,
    pub(crate) fraction: Vec<f32>,
}

impl Axis {
    /// PyTorch's rule: `scale · (i + ½) − ½`, not below zero, the upper neighbour not past the end.
    pub(crate) fn new(from: usize, to: usize) -> Self {
        let scale = from as f32 / to as f32;
        let mut axis = Self {
            low: Vec::with_capacity(to),
            high: Vec::with_capacity(to),
            fraction: Vec::with_capacity(to),
        };
        for i in 0..to {
            let at = (scale * (i as f32 + 0.5) - 0.5).max(0.0);
            let low = (at as usize).min(from - 1);
            axis.low.push(low as u32);
            axis.high.push((low + 1).min(from - 1) as u32);
            axis.fraction.push(at - low as f32);
        }
        axis
    }

    #[inline(always)]
    pub(crate) fn at(&self, i: usize) -> (isize, isize, f32) {
        (self.low[i] as isize, self.high[i] as isize, self.fraction[i])
    }
}

/// Four neighbours and their weights.
pub(crate) struct Corners<L: Lanes> {
    at: [*const L::Elem; 4],
    weight: [L::Vector; 4],
}

impl<L: Lanes> Corners<L> {
    #[inline(always)]
    pub(crate) unsafe fn new(map: &View, y: (isize, isize, f32), x: (isize, isize, f32)) -> Self {
        unsafe {
            Self {
                at: [
                    map.at::<L::Elem>(y.0, x.0).cast_const(),
                    map.at::<L::Elem>(y.0, x.1).cast_const(),
                    map.at::<L::Elem>(y.1, x.0).cast_const(),
                    map.at::<L::Elem>(y.1, x.1).cast_const(),
                ],
                weight: [
                    L::splat((1.0 - y.2) * (1.0 - x.2)),
                    L::splat((1.0 - y.2) * x.2),
                    L::splat(y.2 * (1.0 - x.2)),
                    L::splat(y.2 * x.2),
                ],
            }
        }
    }

    /// Channels `c..` of the interpolated pixel.
    #[inline(always)]
    pub(crate) unsafe fn read(&self, c: usize) -> L::Vector {
        unsafe {
            let mut v = L::mul(self.weight[0], L::read(self.at[0].add(c)));
            v = L::fma(self.weight[1], L::read(self.at[1].add(c)), v);
            v = L::fma(self.weight[2], L::read(self.at[2].add(c)), v);
            L::fma(self.weight[3], L::read(self.at[3].add(c)), v)
        }
    }
}

/// `out = resize(coarse) + fine`. `channels` is a multiple of every vector's lanes.
pub(crate) struct Join {
    pub(crate) height: usize,
    pub(crate) width: usize,
    pub(crate) channels: usize,
    pub(crate) coarse: View,
    pub(crate) vertical: Axis,
    pub(crate) horizontal: Axis,
    pub(crate) fine: View,
    pub(crate) out: View,
}

impl Join {
    /// A task is a row.
    pub(crate) fn tasks(&self) -> usize {
        self.height
    }
}

/// # Safety
/// As for [`super::conv::task`].
#[inline(always)]
pub(crate) unsafe fn join<L: Lanes>(join: &Join, y: usize) {
    unsafe {
        let vertical = join.vertical.at(y);
        for x in 0..join.width {
            let corners = Corners::<L>::new(&join.coarse, vertical, join.horizontal.at(x));
            let fine = join.fine.at::<L::Elem>(y as isize, x as isize);
            let out = join.out.at::<L::Elem>(y as isize, x as isize);
            let mut c = 0;
            while c < join.channels {
                L::write(out.add(c), L::add(corners.read(c), L::read(fine.add(c))));
                c += L::COUNT;
            }
        }
    }
}
