//! After warm-up a frame allocates nothing: a counting allocator looks on.

mod common;

use common::allocations::{Counting, allocations};
use common::generator;
use polypscope::engine::{Options, Precision, open};
use polypscope::model::{Architecture, program};

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
        let before = allocations();
        for _ in 0..20 {
            network.run(&input, &mut logits).unwrap();
        }
        let count = allocations() - before;
        assert_eq!(count, 0, "{precision}: 20 frames allocated {count} times");
    }
    let before = allocations();
    drop(std::hint::black_box(vec![1u8; 100]));
    assert_eq!(allocations() - before, 1, "the allocator counts");
}
