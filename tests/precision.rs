//! What the shipped checkpoint answers on real frames, in every precision: f32 against the candle reference, bf16 and
//! 8-bit integers against f32. Reads ../shared/images and says so where it is absent.

mod common;

use std::path::PathBuf;

use candle_core::{DType, Device};
use common::{shared, skip};
use polypscope::engine::cpu::{Cpu, KernelSet, Settings};
use polypscope::engine::{Network, Reference};
use polypscope::frame::{Picture, PictureInfo, PixelFormat};
use polypscope::model::Checkpoint;
use polypscope::postprocess::logit;
use polypscope::preprocess::{FieldOfView, Preprocessor};

/// f32 logits may differ from the reference by this share of the map's largest magnitude.
const F32_BAR: f32 = 1e-3;
/// A bf16 pixel may change sides only where the f32 logit lies this near to the threshold, as a share of the map's max.
const BF16_BAR: f32 = 0.03;
/// Σ∩ / Σ∪ of the bf16 masks with the f32 masks over all frames.
const BF16_POOLED_IOU: f64 = 0.995;
/// The same of the masks in 8-bit integers.
const I8_POOLED_IOU: f64 = 0.99;
/// One frame in so many is looked at; all with POLYPSCOPE_ALL_FRAMES=1 in the environment.
const EVERY: usize = 6;
/// The reference takes its time: it sees one in so many of these.
const REFERENCE_EVERY: usize = 8;

fn images() -> Option<Vec<PathBuf>> {
    let mut files = Vec::new();
    for set in ["images/kvasir/images", "images/clinicdb/images"] {
        files.extend(std::fs::read_dir(shared(set)?).unwrap().map(|e| e.unwrap().path()));
    }
    files.sort();
    let all = std::env::var_os("POLYPSCOPE_ALL_FRAMES").is_some();
    Some(files.into_iter().step_by(if all { 1 } else { EVERY }).collect())
}

fn run(network: &mut dyn Network, input: &[f32]) -> Vec<f32> {
    let mut logits = vec![f32::NAN; network.shape().logits_len()];
    network.run(input, &mut logits).unwrap();
    // Neither a maximum nor a comparison with the threshold below would show one.
    assert!(logits.iter().all(|x| x.is_finite()), "{}: logits that are not numbers", network.describe());
    logits
}

/// How far the masks of one precision are from those in f32.
#[derive(Default)]
struct Differences {
    both: u64,
    either: u64,
    /// The largest f32 logit, from the threshold and as a share of its map's max, that changed sides.
    worst_flip: f32,
}

impl Differences {
    fn add(&mut self, exact: &[f32], max: f32, got: &[f32], level: f32) {
        for (&want, &got) in exact.iter().zip(got) {
            let (a, b) = (want >= level, got >= level);
            self.both += u64::from(a && b);
            self.either += u64::from(a || b);
            if a != b {
                self.worst_flip = self.worst_flip.max((want - level).abs() / max);
            }
        }
    }

    fn pooled_iou(&self) -> f64 {
        self.both as f64 / self.either as f64
    }
}

#[test]
fn precisions_keep_the_mask_on_real_frames() {
    use std::io::Write;
    let mut err = std::io::stderr();
    let Some(files) = images() else { return };
    let weights = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("weights/m2snet-polyp.safetensors");
    let checkpoint = Checkpoint::open(&weights).unwrap();
    let cpu = |path| Cpu::new(&checkpoint, Settings { path, threads: None, size: None, nice: 0 }).unwrap();
    let mut f32_engine = cpu(KernelSet::best_f32());
    // Without such instructions the same storage with plain arithmetic can be asked for; it is slow.
    let portable = || std::env::var_os("POLYPSCOPE_PORTABLE_BF16").map(|_| KernelSet::PortableBf16);
    let mut bf16 = KernelSet::best_bf16().or_else(portable).map(|path| (cpu(path), Differences::default()));
    let mut i8 = KernelSet::best_i8().map(|path| (cpu(path), Differences::default()));
    let mut reference = Reference::new(&checkpoint, Device::Cpu, DType::F32, None).unwrap();
    let shape = f32_engine.shape();
    let level = logit(checkpoint.description().threshold);
    let mut preprocessor =
        Preprocessor::new(checkpoint.description(), shape.height, shape.width, FieldOfView::Full);
    let mut input = vec![0.0; shape.input_len()];
    let mut worst_f32 = 0f32;
    for (n, file) in files.iter().enumerate() {
        let image = image::open(file).unwrap().to_rgb8();
        let info = PictureInfo::new(PixelFormat::Rgb, image.width(), image.height());
        preprocessor.run(&Picture::packed(info, image.as_raw()).unwrap(), &mut input).unwrap();
        let exact = run(&mut f32_engine, &input);
        let max = exact.iter().fold(0f32, |m, x| m.max(x.abs()));
        if n % REFERENCE_EVERY == 0 {
            let want = run(&mut reference, &input);
            let off = exact.iter().zip(&want).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max) / max;
            worst_f32 = worst_f32.max(off);
            assert!(off < F32_BAR, "{}: f32 is off by {off:e} of the map's max", file.display());
        }
        for (engine, differences) in bf16.iter_mut().chain(&mut i8) {
            differences.add(&exact, max, &run(engine, &input), level);
        }
    }
    let _ = writeln!(err, "{} frames: f32 off by at most {worst_f32:.1e} of the map's max", files.len());
    for (name, compared) in [("bf16", &bf16), ("i8", &i8)] {
        let Some((_, differences)) = compared else { continue };
        let _ = writeln!(
            err,
            "{name}: farthest flipped pixel at {:.2} % of the map's max, pooled IoU {:.5}",
            differences.worst_flip * 100.0,
            differences.pooled_iou()
        );
    }
    if let Some((_, i8)) = &i8 {
        assert!(i8.pooled_iou() >= I8_POOLED_IOU, "8-bit integers: pooled IoU {}", i8.pooled_iou());
    } else {
        skip("processor", "this processor has no kernels for 8-bit integers");
    }
    let Some((_, bf16)) = &bf16 else {
        return skip("processor", "this processor has no bf16");
    };
    assert!(bf16.worst_flip <= BF16_BAR, "a pixel at {} of the map's max changed sides", bf16.worst_flip);
    assert!(bf16.pooled_iou() >= BF16_POOLED_IOU, "pooled IoU {}", bf16.pooled_iou());
}
