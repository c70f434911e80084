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
fn open(path: &Path, bytes: &[u8]) -> String {
    std::fs::write(path, bytes).unwrap();
    let named = path.display().to_string();
    let mut said = String::new();
    for e in [Checkpoint::open(path).err(), read_expected(path).err()].into_iter().flatten() {
        let text = e.to_string();
        assert!(text.starts_with(&named) && text.lines().count() == 1, "{text:?}");
        said += &text;
    }
    said
}

/// A safetensors file of a header alone.
fn header(json: &str) -> Vec<u8> {
    [&(json.len() as u64).to_le_bytes()[..], json.as_bytes()].concat()
}

/// A file of PyTorch's old format that ends within its third pickle.
fn pickled(begin: &[u8], repeated: &[u8], times: usize) -> Vec<u8> {
    let mut bytes =
        b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\x02M\xe9\x03.\x80\x02".to_vec();
    bytes.extend(begin);
    bytes.extend(repeated.iter().copied().cycle().take(repeated.len() * times));
    bytes
}

/// A pickle in a zip archive.
fn zipped(pickle: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let stored = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    zip.start_file("a/data.pkl", stored).unwrap();
    zip.write_all(pickle).unwrap();
    zip.finish().unwrap().into_inner()
}

fn pickled_text(text: &str) -> Vec<u8> {
    [&b"X"[..], &(text.len() as u32).to_le_bytes(), text.as_bytes()].concat()
}

/// Many tensors under small keys, of one storage whose name is long.
fn shared_name() -> Vec<u8> {
    let mut storage = b"(".to_vec();
    storage.extend(pickled_text("storage"));
    storage.extend(b"ctorch\nFloatStorage\n");
    storage.extend(pickled_text(&"k".repeat(100_000)));
    storage.extend(pickled_text("cpu"));
    storage.extend(b"K\x01tQ");
    let mut pickle = b"\x80\x02}(".to_vec();
    pickle.extend(pickled_text("output1.0.weight"));
    pickle.extend(b"ctorch._utils\n_rebuild_tensor_v2\n(");
    pickle.extend(storage);
    pickle.extend(b"K\x00(K\x01t(K\x01ttRq\x01");
    for i in 0..20_000 {
        pickle.extend(pickled_text(&format!("{i:x}")));
        pickle.extend(b"h\x01");
    }
    pickle.extend(b"u.");
    zipped(&pickle)
}

/// Many dicts in one under a long key: each of their places begins with it.
fn long_places() -> Vec<u8> {
    let mut pickle = b"\x80\x02}(".to_vec();
    pickle.extend(pickled_text(&"p".repeat(1000)));
    pickle.extend(b"}(");
    for i in 0..500_000 {
        pickle.extend(pickled_text(&format!("{i:x}")));
        pickle.extend(b"}");
    }
    pickle.extend(b"uu.");
    zipped(&pickle)
}

/// Files whose every byte asks for many. Several are larger than any limit on their own kind.
fn dear_files() -> Vec<(&'static str, Vec<u8>)> {
    let shape = |ones: usize| {
        header(&format!(
            "{{\"a\":{{\"dtype\":\"U8\",\"shape\":[1{}],\"data_offsets\":[0,0]}}}}",
            ",1".repeat(ones)
        ))
    };
    let entries: Vec<String> = (0..250_000)
        .map(|i| format!("\"{i:x}\":{{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}"))
        .collect();
    let metadata: Vec<String> = (0..1_200_000).map(|i| format!("\"{i:x}\":\"\"")).collect();
    let mut directory = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for i in 0..400_000 {
        directory.start_file(format!("{i:x}"), zip::write::SimpleFileOptions::default()).unwrap();
    }
    const M: usize = 1_000_000;
    vec![
        ("a shape of many ones", shape(20 * M)),
        ("a shape of ones within the limit", shape(7 * M)),
        ("many entries", header(&format!("{{{}}}", entries.join(",")))),
        ("much metadata", header(&format!("{{\"__metadata__\":{{{}}}}}", metadata.join(",")))),
        ("empty lists", header(&format!("{{\"x\":[{}[]]}}", "[],".repeat(5 * M)))),
        (
            "a long name",
            header(&format!(
                "{{\"{}\":{{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}}}",
                "n".repeat(9 * M)
            )),
        ),
        ("marks", pickled(b"", b"(", 40 * M)),
        ("marks within the limit", pickled(b"", b"(", 15 * M)),
        ("numbers", pickled(b"", b"K\x07", 7 * M)),
        ("lists", pickled(b"", b"]", 15 * M)),
        ("copies", pickled(b"N", b"2", 15 * M)),
        ("memory", pickled(b"N", b"\x94", 15 * M)),
        ("a list of lists' items", pickled(b"]q\x00(", b"h\x00h\x00l", 3 * M)),
        ("names of objects", pickled(b"", b"ca\nb\n", 3 * M)),
        ("one storage, many tensors", shared_name()),
        ("many dicts in one", long_places()),
        ("many files in an archive", directory.finish().unwrap().into_inner()),
    ]
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
    // Reading keeps the bytes and what the header or the pickle becomes; beside that the list of the network's own
    // parameters (to tell a prefix by) and buffers of fixed size.
    const FIXED: usize = 768 << 10;
    let mut runner = TestRunner::new(Config { cases: 3000, failure_persistence: None, ..Config::default() });
    let strategy = (0..seeds.len(), prop::collection::vec(damage(), 1..6));
    runner
        .run(&strategy, |(seed, damages)| {
            let bytes = damaged(&seeds[seed], &damages);
            let most = most_held(|| drop(open(&path, &bytes)));
            let allowed = 16 * bytes.len() + FIXED;
            prop_assert!(most <= allowed, "{most} bytes held for a file of {}", bytes.len());
            Ok(())
        })
        .unwrap();

    // Files that are written to be dear: what they may cost does not grow with them.
    for (name, bytes) in dear_files() {
        let mut said = String::new();
        let most = most_held(|| said = open(&path, &bytes));
        let allowed = bytes.len() + (288 << 20);
        assert!(most <= allowed, "{name}: {} MB held for a file of {} MB", most >> 20, bytes.len() >> 20);
        assert!(said.len() < 1000, "{name}: a sentence of {} bytes", said.len());
    }

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
            let most = most_held(|| drop(open(&path, &bytes)));
            prop_assert!(most <= 3 * bytes.len(), "{most} bytes held for a file of {}", bytes.len());
            Ok(())
        })
        .unwrap();
}
