//! After warm-up a frame allocates nothing: a counting allocator looks on.

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU64, Ordering};

use common::generator;
use polypscope::engine::{Options, Precision, open};
use polypscope::model::{Architecture, program};

struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: hands everything to the system's allocator and counts.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::SeqCst);
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::SeqCst);
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::SeqCst);
        unsafe { System.realloc(at, layout, size) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The only test of this binary: others would allocate beside it.
#[test]
fn a_frame_allocates_nothing() {
    let plain = generator::checkpoint(Architecture::default());
    // So that the integer path runs as well; what it computes is not looked at.
    let mut description = plain.description().clone();
    for fact in program(Architecture::default(), (32, 32)).facts() {
        description.activations.insert(fact.name.clone(), 10.0);
    }
    let checkpoint = plain.with_description(description).unwrap();
    let (h, w) = (96, 128);
    let input: Vec<f32> = generator::input(h, w).flatten_all().unwrap().to_vec1().unwrap();
    let mut logits = vec![0.0; h * w];
    for precision in Precision::of_this_cpu(&checkpoint) {
        let options = Options { precision, threads: Some(3), size: Some((h, w)), ..Default::default() };
        let mut network = open(&checkpoint, options).unwrap();
        for _ in 0..2 {
            network.run(&input, &mut logits).unwrap();
        }
        let before = ALLOCATIONS.load(Ordering::SeqCst);
        for _ in 0..20 {
            network.run(&input, &mut logits).unwrap();
        }
        let count = ALLOCATIONS.load(Ordering::SeqCst) - before;
        assert_eq!(count, 0, "{precision}: 20 frames allocated {count} times");
    }
    let before = ALLOCATIONS.load(Ordering::SeqCst);
    drop(std::hint::black_box(vec![1u8; 100]));
    assert_eq!(ALLOCATIONS.load(Ordering::SeqCst) - before, 1, "the allocator counts");
}
