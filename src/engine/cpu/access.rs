//! Reading and writing a map's values whatever the map stores.
//!
//! In: a view, a pixel, a channel. Out: vectors of f32, in steps of the map's scale where it stores integers. Paths of
//! one storage type compile to the plain access; the integer path also has maps of f32.

use super::lanes::Lanes;
use super::maps::View;
use super::storage::Storage;

/// Whether a view's values are not of the path's own storage type.
#[inline(always)]
pub(crate) fn is_other<L: Lanes>(view: &View) -> bool {
    L::SCALED && view.storage() == Storage::F32
}

/// A pixel's first channel; an address only, which need not lie in the map before it is used.
#[inline(always)]
pub(crate) fn pixel<L: Lanes>(view: &View, y: isize, x: isize) -> Pixel {
    // The size of a value is a constant in either branch, which an epilogue of few channels notices.
    let other = is_other::<L>(view);
    let start = if other { view.at::<f32>(y, x).cast() } else { view.at::<L::Elem>(y, x).cast() };
    Pixel { start, other }
}

/// One pixel of a map.
#[derive(Clone, Copy)]
pub(crate) struct Pixel {
    start: *mut u8,
    other: bool,
}

impl Pixel {
    /// Channels from `c` on, a whole vector.
    ///
    /// # Safety
    /// The map has them, or at least the memory behind its last pixel.
    #[inline(always)]
    pub(crate) unsafe fn read<L: Lanes>(&self, c: usize) -> L::Vector {
        // SAFETY: the caller's promise: the map has `COUNT` channels from `c` on, or memory of the block
        // behind its last pixel.
        unsafe {
            if L::SCALED && self.other {
                L::load(self.start.cast::<f32>().add(c))
            } else {
                L::read(self.start.cast::<L::Elem>().add(c))
            }
        }
    }

    /// The first `n` of them, zeros behind.
    ///
    /// # Safety
    /// As for [`Self::read`].
    #[inline(always)]
    pub(crate) unsafe fn read_part<L: Lanes>(&self, c: usize, n: usize) -> L::Vector {
        // SAFETY: the caller's promise: the map has `n` channels from `c` on.
        unsafe {
            if L::SCALED && self.other {
                L::load_part(self.start.cast::<f32>().add(c), n)
            } else {
                L::read_part(self.start.cast::<L::Elem>().add(c), n)
            }
        }
    }

    /// # Safety
    /// The map has these channels, and nobody else reads or writes them now.
    #[inline(always)]
    pub(crate) unsafe fn write<L: Lanes>(&self, c: usize, v: L::Vector) {
        // SAFETY: the caller's promise: the map has `COUNT` channels from `c` on, which are its own now.
        unsafe {
            if L::SCALED && self.other {
                L::store(self.start.cast::<f32>().add(c), v);
            } else {
                L::write(self.start.cast::<L::Elem>().add(c), v);
            }
        }
    }

    /// # Safety
    /// As for [`Self::write`].
    #[inline(always)]
    pub(crate) unsafe fn write_part<L: Lanes>(&self, c: usize, v: L::Vector, n: usize) {
        // SAFETY: the caller's promise: the map has `n` channels from `c` on, which are its own now; the
        // vector fits into `values`.
        unsafe {
            if L::SCALED && self.other {
                if n >= L::COUNT {
                    L::store(self.start.cast::<f32>().add(c), v);
                } else {
                    let mut values = [0f32; 16];
                    L::store(values.as_mut_ptr(), v);
                    std::ptr::copy_nonoverlapping(values.as_ptr(), self.start.cast::<f32>().add(c), n);
                }
            } else {
                L::write_part(self.start.cast::<L::Elem>().add(c), v, n);
            }
        }
    }
}
