//! Hostile checkpoint files: whatever the bytes, opening ends in a checkpoint or in one sentence, without a panic and
//! without more memory than the file's size warrants.

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use common::generator;
use common::torch_file::{self, Object, TorchTensor};
use polypscope::model::checkpoint::{Checkpoint, Description, Form, read_expected};
use polypscope::model::{Architecture, Variant};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use safetensors::tensor::{Dtype, TensorView};

/// The system's allocator, counting what is held and the most that was.
struct Counting;

static HELD: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes to the system's allocator unchanged; only numbers are kept beside.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let held = HELD.fetch_add(layout.size(), Relaxed) + layout.size();
        MOST.fetch_max(held, Relaxed);
        // SAFETY: the caller's layout, as it came.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Relaxed);
        // SAFETY: the caller's pointer and layout, as they came.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Most bytes held while `f` ran, above what was held before.
fn most_held(f: impl FnOnce()) -> usize {
    let before = HELD.load(Relaxed);
    MOST.store(before, Relaxed);
    f();
    MOST.load(Relaxed).saturating_sub(before)
}

/// How a valid file is damaged.
#[derive(Clone, Debug)]
enum Damage {
    Cut(prop::sample::Index),
    Flip(prop::sample::Index, u8),
    Put(prop::sample::Index, Vec<u8>),
    Insert(prop::sample::Index, Vec<u8>),
    Remove(prop::sample::Index, usize),
    /// A digit of the text becomes another: lengths, offsets, shapes.
    Digit(prop::sample::Index, u8),
}

fn damage() -> impl Strategy<Value = Damage> {
    let at = || any::<prop::sample::Index>();
    let extreme = prop_oneof![
        prop::collection::vec(any::<u8>(), 1..9),
        Just(vec![0xff; 4]),
        Just(vec![0xff; 8]),
        Just(vec![0xff, 0xff, 0xff, 0x7f]),
        Just(vec![0; 8]),
    ];
    prop_oneof![
        1 => at().prop_map(Damage::Cut),
        4 => (at(), 1..=255u8).prop_map(|(i, x)| Damage::Flip(i, x)),
        3 => (at(), extreme.clone()).prop_map(|(i, b)| Damage::Put(i, b)),
        2 => (at(), extreme).prop_map(|(i, b)| Damage::Insert(i, b)),
        2 => (at(), 1..40usize).prop_map(|(i, n)| Damage::Remove(i, n)),
        4 => (at(), b'0'..=b'9').prop_map(|(i, d)| Damage::Digit(i, d)),
    ]
}

fn damaged(valid: &[u8], damages: &[Damage]) -> Vec<u8> {
    let mut bytes = valid.to_vec();
    for damage in damages {
        if bytes.is_empty() {
            break;
        }
        match damage {
            Damage::Cut(i) => bytes.truncate(i.index(bytes.len())),
            Damage::Flip(i, x) => {
                let n = bytes.len();
                bytes[i.index(n)] ^= x;
            }
            Damage::Put(i, b) => {
                let from = i.index(bytes.len());
                for (old, new) in bytes[from..].iter_mut().zip(b) {
                    *old = *new;
                }
            }
            Damage::Insert(i, b) => {
                let from = i.index(bytes.len());
                bytes.splice(from..from, b.iter().copied());
            }
            Damage::Remove(i, n) => {
                let from = i.index(bytes.len());
                bytes.drain(from..(from + n).min(bytes.len()));
            }
            Damage::Digit(i, d) => {
                let digits: Vec<usize> = (0..bytes.len()).filter(|&k| bytes[k].is_ascii_digit()).collect();
                if !digits.is_empty() {
                    bytes[digits[i.index(digits.len())]] = *d;
                }
            }
        }
    }
    bytes
}

fn small_safetensors() -> Vec<u8> {
    let floats: Vec<u8> = (0..64).flat_map(|i| (i as f32).to_le_bytes()).collect();
    let view =
        |dtype, shape: &[usize], n: usize| TensorView::new(dtype, shape.to_vec(), &floats[..n]).unwrap();
    let tensors = [
        ("resnet.conv1.0.weight", view(Dtype::I8, &[4, 3, 1, 1], 12)),
        ("resnet.conv1.0.weight.scale", view(Dtype::F32, &[4], 16)),
        ("resnet.bn1.weight", view(Dtype::F16, &[8], 16)),
        ("conv_3.norm.weight", view(Dtype::F32, &[16], 64)),
        ("output1.0.weight", view(Dtype::BF16, &[2, 4, 1, 1], 16)),
        ("frame.rgb", view(Dtype::U8, &[4, 4, 3], 48)),
    ];
    let description =
        serde_json::to_string(&Description::published("fuzz", Architecture::default())).unwrap();
    let metadata = std::collections::HashMap::from([("polypscope.description".to_owned(), description)]);
    safetensors::serialize(tensors, Some(metadata)).unwrap()
}

/// A file of frames with known maps.
fn small_expected() -> Vec<u8> {
    let bytes = vec![0u8; 32 * 32 * 3];
    let view =
        |dtype, shape: &[usize], n: usize| TensorView::new(dtype, shape.to_vec(), &bytes[..n]).unwrap();
    let tensors = [
        ("a.rgb", view(Dtype::U8, &[32, 32, 3], 3072)),
        ("a.output1", view(Dtype::F32, &[8, 8], 256)),
        ("a.logits", view(Dtype::F32, &[4, 4], 64)),
    ];
    safetensors::serialize(tensors, None).unwrap()
}

fn small_torch() -> Object {
    let tensor = |n: usize| Object::Tensor(TorchTensor::f32(&[n, 2], &vec![1.0; 2 * n]));
    Object::Dict(vec![
        ("epoch".to_owned(), Object::Int(3)),
        (
            "state_dict".to_owned(),
            Object::StateDict(vec![
                ("module.output1.0.weight".to_owned(), tensor(2)),
                ("module.resnet.bn1.weight".to_owned(), tensor(3)),
            ]),
        ),
    ])
}

/// Opens the bytes as every reader would; what it says must be one sentence that names the file.
fn open(path: &Path, bytes: &[u8]) {
    std::fs::write(path, bytes).unwrap();
    let named = path.display().to_string();
    for e in [Checkpoint::open(path).err(), read_expected(path).err()].into_iter().flatten() {
        let text = e.to_string();
        assert!(text.starts_with(&named) && text.lines().count() == 1, "{text:?}");
    }
}

/// One test only: the allocator counts for the whole process.
#[test]
fn hostile_bytes_cost_no_more_than_their_length() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hostile.bin");
    let torch = small_torch();
    let seeds = [small_safetensors(), small_expected(), torch_file::zip(&torch), torch_file::legacy(&torch)];
    for seed in &seeds {
        open(&path, seed);
    }
    // Reading keeps the bytes and some nodes a byte (a map of the header, a pickle's objects); beside that the list of the
    // network's own parameters and buffers of fixed size.
    const FIXED: usize = 512 << 10;
    let mut runner = TestRunner::new(Config { cases: 3000, failure_persistence: None, ..Config::default() });
    let strategy = (0..seeds.len(), prop::collection::vec(damage(), 1..6));
    runner
        .run(&strategy, |(seed, damages)| {
            let bytes = damaged(&seeds[seed], &damages);
            let most = most_held(|| open(&path, &bytes));
            let allowed = 64 * bytes.len() + FIXED;
            prop_assert!(most <= allowed, "{most} bytes held for a file of {}", bytes.len());
            Ok(())
        })
        .unwrap();

    // Whole networks, so that damage also meets the values.
    let msnet = Architecture { variant: Variant::MSNet, classes: 1 };
    let network =
        Checkpoint::from_tensors(Description::published("whole", msnet), generator::tensors(msnet)).unwrap();
    let whole = network.to_bytes(Form::Compact).unwrap();
    drop(network);
    let header = 8 + u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
    let mut runner = TestRunner::new(Config { cases: 24, failure_persistence: None, ..Config::default() });
    let strategy = (any::<bool>(), prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4));
    runner
        .run(&strategy, |(in_header, flips)| {
            let mut bytes = whole.clone();
            let reach = if in_header { header } else { bytes.len() };
            for (i, x) in flips {
                bytes[i.index(reach)] = x;
            }
            let most = most_held(|| open(&path, &bytes));
            prop_assert!(most <= 3 * bytes.len(), "{most} bytes held for a file of {}", bytes.len());
            Ok(())
        })
        .unwrap();
}
