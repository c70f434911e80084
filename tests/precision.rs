//! What the shipped checkpoint answers on real frames, in every precision: f32 against the candle reference, bf16
//! against f32. Reads ../shared/images and says so where it is absent.

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

#[test]
fn precisions_keep_the_mask_on_real_frames() {
    let Some(files) = images() else { return };
    let weights = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("weights/m2snet-polyp.safetensors");
    let checkpoint = Checkpoint::open(&weights).unwrap();
    let cpu = |path| Cpu::new(&checkpoint, Settings { path, threads: None, size: None, nice: 0 }).unwrap();
    let mut f32_engine = cpu(KernelSet::best_f32());
    // Without such instructions the same storage with plain arithmetic can be asked for; it is slow.
    let portable = || std::env::var_os("POLYPSCOPE_PORTABLE_BF16").map(|_| KernelSet::PortableBf16);
    let mut bf16_engine = KernelSet::best_bf16().or_else(portable).map(cpu);
    let mut reference = Reference::new(&checkpoint, Device::Cpu, DType::F32, None).unwrap();
    let shape = f32_engine.shape();
    let level = logit(checkpoint.description().threshold);
    let mut preprocessor =
        Preprocessor::new(checkpoint.description(), shape.height, shape.width, FieldOfView::Full);
    let mut input = vec![0.0; shape.input_len()];
    let (mut both, mut either, mut worst_flip, mut worst_f32) = (0u64, 0u64, 0f32, 0f32);
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
        let Some(engine) = &mut bf16_engine else { continue };
        for (&want, got) in exact.iter().zip(run(engine, &input)) {
            let (a, b) = (want >= level, got >= level);
            both += u64::from(a && b);
            either += u64::from(a || b);
            if a != b {
                worst_flip = worst_flip.max((want - level).abs() / max);
            }
        }
    }
    use std::io::Write;
    let mut err = std::io::stderr();
    let _ = writeln!(err, "{} frames: f32 off by at most {worst_f32:.1e} of the map's max", files.len());
    if bf16_engine.is_none() {
        return skip("processor", "this processor has no bf16");
    }
    let pooled = both as f64 / either as f64;
    let _ = writeln!(
        err,
        "bf16: farthest flipped pixel at {:.2} % of the map's max, pooled IoU {pooled:.5}",
        worst_flip * 100.0
    );
    assert!(worst_flip <= BF16_BAR, "a pixel at {worst_flip} of the map's max changed sides");
    assert!(pooled >= BF16_POOLED_IOU, "pooled IoU {pooled}");
}
