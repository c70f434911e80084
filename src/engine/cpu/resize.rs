//! Bilinear resizing with `align_corners=False`, and its sum with another map.
//!
//! In: a coarse map and a finer one. Out: `resized + finer` in a map of its own, ready for a decoder convolution.

use super::access;
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
    at: [access::Pixel; 4],
    weight: [L::Vector; 4],
}

impl<L: Lanes> Corners<L> {
    #[inline(always)]
    pub(crate) unsafe fn new(map: &View, y: (isize, isize, f32), x: (isize, isize, f32)) -> Self {
        // SAFETY: addresses are computed and nothing is read; the caller's processor has these
        // instructions.
        unsafe {
            Self {
                at: [
                    access::pixel::<L>(map, y.0, x.0),
                    access::pixel::<L>(map, y.0, x.1),
                    access::pixel::<L>(map, y.1, x.0),
                    access::pixel::<L>(map, y.1, x.1),
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
        // SAFETY: an axis names pixels inside the map, and the caller asks for channels that the map has.
        unsafe {
            let mut v = L::mul(self.weight[0], self.at[0].read::<L>(c));
            v = L::fma(self.weight[1], self.at[1].read::<L>(c), v);
            v = L::fma(self.weight[2], self.at[2].read::<L>(c), v);
            L::fma(self.weight[3], self.at[3].read::<L>(c), v)
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
    /// From steps of the coarse and of the fine map's scale to those of the result's.
    pub(crate) factors: [f32; 2],
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
    // SAFETY: the caller runs each row once, and on a processor with these instructions. Channels are
    // whole vectors, and the row of the result is this task's.
    unsafe {
        let vertical = join.vertical.at(y);
        for x in 0..join.width {
            let corners = Corners::<L>::new(&join.coarse, vertical, join.horizontal.at(x));
            let fine = access::pixel::<L>(&join.fine, y as isize, x as isize);
            let out = access::pixel::<L>(&join.out, y as isize, x as isize);
            let mut c = 0;
            while c < join.channels {
                let (coarse, fine) = (corners.read(c), fine.read::<L>(c));
                let v = if L::SCALED {
                    L::fma(coarse, L::splat(join.factors[0]), L::mul(fine, L::splat(join.factors[1])))
                } else {
                    L::add(coarse, fine)
                };
                out.write::<L>(c, v);
                c += L::COUNT;
            }
        }
    }
}
