//! The fused CPU engine against the published network's values, the candle reference, and itself on every kernel path.

mod common;

use candle_core::{DType, Device, Tensor};
use common::{generator, skip};
use polypscope::engine::cpu::{Cpu, KernelSet, Settings};
use polypscope::engine::{Network, Options, Precision, Reference, open};
use polypscope::model::{Architecture, Checkpoint, Variant, checkpoint::Description};

fn values(t: &Tensor) -> Vec<f32> {
    t.flatten_all().unwrap().to_vec1().unwrap()
}

fn largest(v: &[f32]) -> f32 {
    v.iter().fold(0.0, |m, x| m.max(x.abs()))
}

/// Largest difference as a share of the largest wanted magnitude.
fn deviation(got: &[f32], want: &[f32]) -> f32 {
    assert_eq!(got.len(), want.len());
    assert!(got.iter().all(|x| x.is_finite()));
    let worst = got.iter().zip(want).map(|(g, w)| (g - w).abs()).fold(0.0, f32::max);
    worst / largest(want)
}

/// Those that this processor has; the others are left out, aloud.
fn here(paths: impl IntoIterator<Item = KernelSet>) -> impl Iterator<Item = KernelSet> {
    paths.into_iter().filter(|path| {
        if !path.is_available() {
            skip("processor", format_args!("this processor has no {path}"));
        }
        path.is_available()
    })
}

fn available() -> impl Iterator<Item = KernelSet> {
    here(KernelSet::FLOAT)
}

fn build(checkpoint: &Checkpoint, path: KernelSet, size: (usize, usize), threads: usize) -> Cpu {
    Cpu::new(checkpoint, Settings { path, threads: Some(threads), size: Some(size), nice: 0 }).unwrap()
}

fn run(engine: &mut Cpu, input: &[f32]) -> Vec<f32> {
    let mut logits = vec![f32::NAN; engine.shape().logits_len()];
    engine.run(input, &mut logits).unwrap();
    logits
}

/// bf16 keeps 8 bits: on random weights, where nothing was trained to be robust, this is what remains of them.
fn tolerance(path: KernelSet) -> f32 {
    if path.is_bf16() { 4e-2 } else { 2e-4 }
}

#[test]
fn golden_values_on_every_path() {
    let golden = candle_core::safetensors::load(
        concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/golden.safetensors"),
        &Device::Cpu,
    )
    .unwrap();
    for (variant, h, w) in [(Variant::M2SNet, 352, 352), (Variant::MSNet, 256, 320)] {
        let checkpoint = generator::checkpoint(Architecture { variant, classes: 1 });
        let input = values(&generator::input(h, w));
        for path in available() {
            let mut engine = build(&checkpoint, path, (h, w), 2);
            let logits = run(&mut engine, &input);
            let at = format!("{variant}.{h}x{w}");
            let d = deviation(engine.low_resolution(), &values(&golden[&format!("{at}.output1")]));
            assert!(d < tolerance(path), "{at}, {path}: output1 is off by {d:e} of its max");
            let mean = logits.iter().map(|&x| x as f64).sum::<f64>() / logits.len() as f64;
            let want = values(&golden[&format!("{at}.logits_mean_std")]);
            let off = (mean as f32 - want[0]).abs() / want[1];
            assert!(
                off < tolerance(path),
                "{at}, {path}: the logits' mean is off by {off:e} of their deviation"
            );
        }
    }
}

/// Sizes whose maps are odd, narrow, or one pixel; several classes; more threads than tasks.
#[test]
fn agrees_with_the_reference_at_any_size() {
    for (variant, classes, h, w, threads) in [
        (Variant::M2SNet, 1, 32, 32, 1),
        (Variant::M2SNet, 3, 96, 160, 3),
        (Variant::MSNet, 2, 224, 32, 9),
        (Variant::M2SNet, 1, 64, 416, 2),
    ] {
        let checkpoint = generator::checkpoint(Architecture { variant, classes });
        let mut reference = Reference::new(&checkpoint, Device::Cpu, DType::F32, Some((h, w))).unwrap();
        let input = values(&generator::input(h, w));
        let mut want = vec![0.0; reference.shape().logits_len()];
        reference.run(&input, &mut want).unwrap();
        for path in available() {
            let mut engine = build(&checkpoint, path, (h, w), threads);
            assert_eq!(engine.shape(), reference.shape());
            let first = run(&mut engine, &input);
            let d = deviation(&first, &want);
            assert!(
                d < tolerance(path),
                "{variant} {classes} classes {w}x{h}, {path}: off by {d:e} of the max"
            );
            // Nothing of one frame is left for the next; results do not depend on who did which task.
            let other: Vec<f32> = input.iter().map(|x| 1.0 - x).collect();
            run(&mut engine, &other);
            assert_eq!(run(&mut engine, &input), first, "{path}: a frame depends on the one before");
        }
    }
}

#[test]
fn a_nan_in_the_input_is_a_nan_in_the_logits() {
    let checkpoint = generator::checkpoint(Architecture::default());
    let mut input = values(&generator::input(64, 64));
    input[64 * 20 + 30] = f32::NAN;
    for path in available() {
        let mut engine = build(&checkpoint, path, (64, 64), 2);
        let mut logits = vec![0.0; engine.shape().logits_len()];
        engine.run(&input, &mut logits).unwrap();
        assert!(logits.iter().any(|x| x.is_nan()), "{path}: a broken frame must not look like a whole one");
    }
}

#[test]
fn what_cannot_be_built_says_why() {
    let checkpoint = generator::checkpoint(Architecture::default());
    let text = |o: Options| open(&checkpoint, o).map(|_| ()).unwrap_err().to_string();
    assert!(text(Options { size: Some((350, 352)), ..Default::default() }).contains("multiple of 32"));
    assert!(text(Options { threads: Some(0), ..Default::default() }).contains("threads"));
    assert!(text(Options { precision: Precision::F16, ..Default::default() }).contains("GPU"));
    let mut engine = open(&checkpoint, Options { size: Some((64, 64)), ..Default::default() }).unwrap();
    assert!(engine.run(&[0.0; 5], &mut [0.0; 5]).is_err());
}

/// Real frames and the trained checkpoint: the bars of the precision each path offers.
#[test]
fn the_trained_network_keeps_its_masks() {
    let (Some(weights), Some(expected)) =
        (common::shared("weights/m2snet-polyp.safetensors"), common::shared("weights/expected.safetensors"))
    else {
        return;
    };
    let architecture = Architecture::default();
    let description = Description::published("m2snet-polyp", architecture);
    let (mean, std) = (description.mean, description.std);
    let tensors = candle_core::safetensors::load(weights, &Device::Cpu).unwrap();
    let checkpoint = Checkpoint::from_tensors(description, tensors).unwrap();
    let expected = candle_core::safetensors::load(expected, &Device::Cpu).unwrap();
    let mut names: Vec<&str> = expected.keys().filter_map(|k| k.strip_suffix(".rgb")).collect();
    names.sort();
    assert!(!names.is_empty());
    for path in here([KernelSet::Avx2F32, KernelSet::Avx512F32, KernelSet::Avx512Bf16]) {
        let mut engine = build(&checkpoint, path, (352, 352), 2);
        let (mut both, mut either) = (0u64, 0u64);
        for name in &names {
            let rgb = values(&expected[&format!("{name}.rgb")].to_dtype(DType::F32).unwrap());
            let n = 352 * 352;
            let mut input = vec![0.0; 3 * n];
            for (i, pixel) in rgb.chunks_exact(3).enumerate() {
                for c in 0..3 {
                    input[c * n + i] = (pixel[c] / 255.0 - mean[c]) / std[c];
                }
            }
            run(&mut engine, &input);
            let want = values(&expected[&format!("{name}.output1")]);
            let got = engine.low_resolution();
            let max = largest(&want);
            if path.is_bf16() {
                for (g, w) in got.iter().zip(&want) {
                    let (inside, wanted) = (*g > 0.0, *w > 0.0);
                    assert!(
                        inside == wanted || w.abs() <= 0.03 * max,
                        "{path}, {name}: a pixel flips at {w} of {max}"
                    );
                    both += u64::from(inside && wanted);
                    either += u64::from(inside || wanted);
                }
            } else {
                let d = deviation(got, &want);
                assert!(d < 1e-3, "{path}, {name}: off by {d:e} of the max");
            }
        }
        if path.is_bf16() {
            let iou = both as f64 / either as f64;
            assert!(iou >= 0.995, "{path}: pooled IoU {iou}");
        }
    }
}

/// The candle face of one convolution: any size, stride, batch; against candle's own.
#[test]
fn a_fused_convolution_is_candles_convolution() {
    use polypscope::engine::cpu::{Algorithm, FusedConv, FusedConvSettings};
    for (cin, out, k, stride, h, w, algorithm) in [
        (3, 17, 3, 2, 10, 14, Algorithm::Best),
        (26, 26, 3, 1, 9, 21, Algorithm::Winograd4),
        (40, 65, 3, 1, 7, 8, Algorithm::Winograd2),
        (64, 104, 1, 1, 5, 6, Algorithm::Direct),
    ] {
        let weights = Tensor::randn(0f32, 0.2, (out, cin, k, k), &Device::Cpu).unwrap();
        let scale: Vec<f32> = (0..out).map(|i| 0.5 + i as f32 / out as f32).collect();
        let shift: Vec<f32> = (0..out).map(|i| 0.3 - i as f32 / out as f32).collect();
        let x = Tensor::randn(0f32, 1.0, (2, cin, h, w), &Device::Cpu).unwrap();
        let per_channel = |v: &[f32]| Tensor::from_slice(v, (1, out, 1, 1), &Device::Cpu).unwrap();
        let want = x
            .conv2d(&weights, k / 2, stride, 1, 1)
            .and_then(|y| y.broadcast_mul(&per_channel(&scale)))
            .and_then(|y| y.broadcast_add(&per_channel(&shift)))
            .and_then(|y| y.relu())
            .unwrap();
        for path in available() {
            let settings =
                FusedConvSettings { path, threads: 2, algorithm, stride, relu: true, size: (h, w) };
            let fused = FusedConv::new(&weights, &scale, &shift, settings).unwrap();
            let got = x.apply_op1_no_bwd(&fused).unwrap();
            assert_eq!(got.dims(), want.dims());
            // The larger tile's transforms amplify what bf16 rounds away.
            let tolerance = match (path.is_bf16(), algorithm) {
                (true, Algorithm::Winograd4) => 0.2,
                (true, _) => 3e-2,
                (false, _) => 1e-5,
            };
            let d = deviation(&values(&got), &values(&want));
            assert!(d < tolerance, "{cin}->{out} k{k} s{stride} {w}x{h} {algorithm:?}, {path}: off by {d:e}");
        }
    }
}
