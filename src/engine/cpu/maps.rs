//! Memory of a plan: activation maps, packed weights and scratch, all taken once when the plan is built.
//!
//! In: geometries. Out: [`View`]s, pointers with strides into memory that never moves while the plan lives.
//!
//! A map is `[height][width][channels]` (channels innermost), with an optional border of one pixel of zeros all around,
//! so that a 3x3 convolution reads its padding instead of testing for it. Maps of the same geometry share memory when
//! their lifetimes do not overlap; of the same geometry only, so that borders stay zero for ever.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};

use super::storage::Storage;

const HUGE_PAGE: usize = 2 << 20;

/// Zeroed memory, aligned to a cache line, or to a huge page (and advised to use them) where it is large.
pub(crate) struct Block {
    start: *mut u8,
    layout: Layout,
}

// SAFETY: a block is plain memory; who may touch which part when is the plan's business (see `plan`).
unsafe impl Send for Block {}
// SAFETY: a block is plain memory; the plan decides who touches which part when, and ends a wave before
// the next reads what it wrote.
unsafe impl Sync for Block {}

impl Block {
    pub(crate) fn new(bytes: usize) -> Self {
        let align = if bytes >= HUGE_PAGE { HUGE_PAGE } else { 64 };
        let size = bytes.max(64).next_multiple_of(align.min(4096));
        let layout = Layout::from_size_align(size, align).expect("a map's size fits the address space");
        // SAFETY: the layout's size is not zero.
        let start = unsafe { alloc_zeroed(layout) };
        if start.is_null() {
            handle_alloc_error(layout);
        }
        #[cfg(all(target_os = "linux", not(miri)))]
        if bytes >= HUGE_PAGE {
            // SAFETY: the range was just allocated. Advice only: failure changes nothing but speed.
            unsafe { libc::madvise(start.cast(), size, libc::MADV_HUGEPAGE) };
        }
        Self { start, layout }
    }

    pub(crate) fn start(&self) -> *mut u8 {
        self.start
    }

    pub(crate) fn bytes(&self) -> usize {
        self.layout.size()
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with this layout.
        unsafe { dealloc(self.start, self.layout) }
    }
}

/// Memory handed out piece by piece, in 64-byte aligned pieces, and never taken back: packed weights and constants.
#[derive(Default)]
pub(crate) struct Store {
    slabs: Vec<Block>,
    used: usize,
}

impl Store {
    const SLAB: usize = 16 << 20;

    /// `count` zeroed values, valid as long as the store. Every `T` used here may be all zeros.
    pub(crate) fn take<T: Copy>(&mut self, count: usize) -> *mut T {
        let bytes = (count * size_of::<T>()).next_multiple_of(64);
        if self.slabs.last().is_none_or(|s| self.used + bytes > s.bytes()) {
            self.slabs.push(Block::new(bytes.max(Self::SLAB)));
            self.used = 0;
        }
        let slab = self.slabs.last().expect("just pushed");
        let piece = slab.start().wrapping_add(self.used).cast();
        self.used += bytes;
        piece
    }

    pub(crate) fn bytes(&self) -> usize {
        self.slabs.iter().map(Block::bytes).sum()
    }
}

/// A rectangle of pixels in some map: where its first pixel's first channel lies, and how far to the next.
#[derive(Clone, Copy, Debug)]
pub(crate) struct View {
    base: *mut u8,
    /// Elements from one row to the next, and from one pixel to the next.
    pub(crate) row: usize,
    pub(crate) pixel: usize,
    storage: Storage,
}

// SAFETY: a view points into a block, which is plain memory; who may touch which part when is the plan's business:
// waves end before what they wrote is read.
unsafe impl Send for View {}
// SAFETY: a view points into a block, which is plain memory; waves end before what they wrote is read by
// another thread.
unsafe impl Sync for View {}

impl View {
    pub(crate) fn of(base: *mut u8, row: usize, pixel: usize, storage: Storage) -> Self {
        Self { base, row, pixel, storage }
    }

    /// The same pixels, from channel `c` on.
    pub(crate) fn channel(self, c: usize) -> Self {
        Self { base: self.base.wrapping_add(c * self.storage.bytes()), ..self }
    }

    pub(crate) fn storage(&self) -> Storage {
        self.storage
    }

    /// Pixel (y, x), first channel, as an address only.
    #[inline(always)]
    pub(crate) fn bytes_at(&self, y: isize, x: isize) -> *const u8 {
        let elements = y * self.row as isize + x * self.pixel as isize;
        self.base.wrapping_offset(elements * self.storage.bytes() as isize)
    }

    /// Pixel (y, x), first channel. Coordinates one outside are the border's, where the map has one.
    #[inline(always)]
    pub(crate) fn at<T>(&self, y: isize, x: isize) -> *mut T {
        debug_assert_eq!(size_of::<T>(), self.storage.bytes());
        let elements = y * self.row as isize + x * self.pixel as isize;
        self.base.wrapping_offset(elements * size_of::<T>() as isize).cast()
    }
}

/// What a map is made of; two maps that agree in it may share memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Geometry {
    pub(crate) height: usize,
    pub(crate) width: usize,
    pub(crate) channels: usize,
    /// Pixels of zeros all around.
    pub(crate) border: usize,
    pub(crate) storage: Storage,
}

impl Geometry {
    fn bytes(&self) -> usize {
        // Kernels may read up to one vector past the last pixel's channels; never what they read there.
        (self.height + 2 * self.border)
            * (self.width + 2 * self.border)
            * self.channels
            * self.storage.bytes()
            + 128
    }
}

/// A map in use. Not `Clone`: giving it back ([`Maps::give_back`]) ends its life.
#[derive(Debug)]
pub(crate) struct Map {
    pub(crate) geometry: Geometry,
    block: usize,
    pub(crate) view: View,
}

impl Map {
    pub(crate) fn view(&self) -> View {
        self.view
    }
}

/// All activation maps of a plan.
#[derive(Default)]
pub(crate) struct Maps {
    blocks: Vec<Block>,
    free: Vec<(Geometry, usize)>,
    /// Given back since the last [`Maps::settle`]: still being read by the wave under construction.
    leaving: Vec<(Geometry, usize)>,
}

impl Maps {
    pub(crate) fn take(&mut self, geometry: Geometry) -> Map {
        let block = match self.free.iter().position(|(g, _)| *g == geometry) {
            Some(at) => self.free.swap_remove(at).1,
            None => {
                self.blocks.push(Block::new(geometry.bytes()));
                self.blocks.len() - 1
            }
        };
        let row = (geometry.width + 2 * geometry.border) * geometry.channels;
        let first = geometry.border * (row + geometry.channels) * geometry.storage.bytes();
        let base = self.blocks[block].start().wrapping_add(first);
        Map { geometry, block, view: View::of(base, row, geometry.channels, geometry.storage) }
    }

    /// After the wave under construction nobody reads this map any more.
    pub(crate) fn give_back(&mut self, map: Map) {
        self.leaving.push((map.geometry, map.block));
    }

    /// A wave ends: what was given back during it may be taken again.
    pub(crate) fn settle(&mut self) {
        self.free.append(&mut self.leaving);
    }

    pub(crate) fn bytes(&self) -> usize {
        self.blocks.iter().map(Block::bytes).sum()
    }
}
