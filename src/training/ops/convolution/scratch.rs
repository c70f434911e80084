//! Memory that the passes of a convolution work in: what a thread keeps from one pass to the next, and what tasks write
//! apart.
//!
//! In: a length. Out: that many values, holding anything.

use std::cell::Cell;
use std::thread::LocalKey;

thread_local! {
    /// Packed weights of the pass that runs.
    pub static WEIGHTS: Kept = const { Cell::new(Vec::new()) };
    /// What one task has packed, and what came of it.
    pub static PANEL: Kept = const { Cell::new(Vec::new()) };
}

/// Memory of a pass that the next pass on this thread uses again: the system would clear every page of a new one.
pub type Kept = Cell<Vec<f32>>;

/// Values of a line of a cache. A register of AVX-512 that is read across two lines costs two reads.
const LINE: usize = 16;

/// Lends such memory, `len` long, holding anything, from the begin of a cache line on. Asked for again inside of
/// `work`, it is new memory.
pub fn with_kept<T>(kept: &'static LocalKey<Kept>, len: usize, work: impl FnOnce(&mut [f32]) -> T) -> T {
    let mut buffer = kept.take();
    if buffer.len() < len + LINE {
        buffer = vec![0.0; len + LINE];
    }
    let begin = buffer.as_ptr().align_offset(LINE * size_of::<f32>());
    let out = work(&mut buffer[begin..][..len]);
    kept.set(buffer);
    out
}

/// Output memory that tasks write disjoint parts of.
#[derive(Clone, Copy)]
pub struct Shared(pub *mut f32);

// SAFETY: each task writes its own pixels of its own picture, or its own channels.
unsafe impl Send for Shared {}
// SAFETY: tasks that hold the same one write disjoint parts of the memory, as `at` asks of them.
unsafe impl Sync for Shared {}

impl Shared {
    /// # Safety
    /// `at` lies in the memory, and nobody else writes what is written from there.
    pub unsafe fn at(self, at: usize) -> *mut f32 {
        // SAFETY: the caller's promise.
        unsafe { self.0.add(at) }
    }
}
