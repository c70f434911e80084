//! The reference network against values computed with the published PyTorch definition (tests/data/golden.safetensors).
//! Weights and inputs come from a counter-based generator, so that no checkpoint is needed.

mod common;

use candle_core::{DType, Device, Tensor};
use common::generator;
use polypscope::model::{Architecture, BoxNorm, M2SNet, Variant};

const TOLERANCE: f32 = 2e-4;

fn golden() -> std::collections::HashMap<String, Tensor> {
    candle_core::safetensors::load(
        concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/golden.safetensors"),
        &Device::Cpu,
    )
    .expect("tests/data/golden.safetensors")
}

fn values(t: &Tensor) -> Vec<f32> {
    t.flatten_all().unwrap().to_vec1().unwrap()
}

/// Every `step`-th element of one dimension.
fn every(t: &Tensor, dim: usize, step: usize) -> Tensor {
    let n = t.dim(dim).unwrap();
    let index: Vec<u32> = (0..n).step_by(step.max(1)).map(|i| i as u32).collect();
    let len = index.len();
    t.index_select(&Tensor::from_vec(index, len, &Device::Cpu).unwrap(), dim).unwrap()
}

/// Largest absolute difference, as a share of the map's largest magnitude. `f32::max` would lose a NaN, so none may be
/// there.
fn deviation(got: &[f32], want: &[f32], max: f32) -> f32 {
    assert_eq!(got.len(), want.len(), "number of values");
    assert!(got.iter().chain(want).all(|x| x.is_finite()) && max.is_finite(), "values that are not numbers");
    got.iter().zip(want).map(|(g, w)| (g - w).abs()).fold(0.0, f32::max) / max
}

#[test]
#[should_panic(expected = "not numbers")]
fn a_map_that_is_partly_nan_is_far_from_the_golden_one() {
    deviation(&[1.0, f32::NAN, 1.0], &[1.0; 3], 1.0);
}

fn check(variant: Variant, h: usize, w: usize) {
    let golden = golden();
    let architecture = Architecture { variant, classes: 1 };
    let at = format!("{variant}.{h}x{w}");
    let x = generator::input(h, w);
    let slice = every(&every(&x.squeeze(0).unwrap(), 1, 32), 2, 32);
    // Sines differ in the last bit from one mathematics library to the next.
    let d = deviation(&values(&slice), &values(&golden[&format!("{at}.input_slice")]), 1.0);
    assert!(d < 1e-6, "the generator itself is off by {d:e}");

    let net = M2SNet::new(architecture, generator::var_builder(architecture)).unwrap();
    let mut seen = 0;
    let logits = net
        .forward_observed(&x, &mut |name, map| {
            if !golden.contains_key(&format!("{at}.{name}.mean")) {
                return Ok(());
            }
            let v = values(map);
            assert!(v.iter().all(|x| x.is_finite()), "{at}.{name}: values that are not numbers");
            let max = v.iter().fold(0f32, |m, x| m.max(x.abs()));
            let n = v.len() as f64;
            let mean = v.iter().map(|&x| x as f64).sum::<f64>() / n;
            let std = (v.iter().map(|&x| (x as f64 - mean).powi(2)).sum::<f64>() / (n - 1.0)).sqrt();
            let want = values(&golden[&format!("{at}.{name}.mean")]);
            let d = deviation(&[mean as f32, std as f32, max], &want, want[2]);
            assert!(d < TOLERANCE, "{at}.{name}: mean, std, max are off by {d:e} of the map's max");

            let (_, c, mh, mw) = map.dims4()?;
            let s = every(&every(&every(&map.squeeze(0)?, 0, c / 8), 1, mh / 11), 2, mw / 11);
            let d = deviation(&values(&s), &values(&golden[&format!("{at}.{name}.slice")]), want[2]);
            assert!(d < TOLERANCE, "{at}.{name}: values are off by {d:e} of the map's max");
            if name == "output1" {
                let d = deviation(&v, &values(&golden[&format!("{at}.output1")]), want[2]);
                assert!(d < TOLERANCE, "{at}.output1: off by {d:e} of the map's max");
            }
            seen += 1;
            Ok(())
        })
        .unwrap();
    assert_eq!(seen, 13, "every module of the golden file is compared");
    assert_eq!(logits.dims(), [1, 1, h, w]);
    let v = values(&logits);
    assert!(v.iter().all(|x| x.is_finite()), "{at}.logits: values that are not numbers");
    let n = v.len() as f64;
    let mean = v.iter().map(|&x| x as f64).sum::<f64>() / n;
    let std = (v.iter().map(|&x| (x as f64 - mean).powi(2)).sum::<f64>() / (n - 1.0)).sqrt();
    let max = v.iter().fold(0f32, |m, x| m.max(x.abs()));
    let d = deviation(&[mean as f32, std as f32], &values(&golden[&format!("{at}.logits_mean_std")]), max);
    assert!(d < TOLERANCE, "{at}.logits: off by {d:e}");
}

#[test]
fn m2snet_352x352() {
    check(Variant::M2SNet, 352, 352);
}

#[test]
fn m2snet_256x320() {
    check(Variant::M2SNet, 256, 320);
}

#[test]
fn msnet_352x352() {
    check(Variant::MSNet, 352, 352);
}

#[test]
fn msnet_256x320() {
    check(Variant::MSNet, 256, 320);
}

/// The box sums stand for 64x64 convolutions whose weights are all one.
#[test]
fn the_collapse_equals_the_literal_all_ones_convolution() {
    let vb = generator::var_builder(Architecture::default());
    for (k, h, w) in [(3usize, 13usize, 17usize), (5, 13, 17), (3, 1, 1), (5, 2, 3)] {
        let z = Tensor::rand(0f32, 1f32, (1, 64, h, w), &Device::Cpu).unwrap();
        let at = vb.pp(format!("conv_{k}.norm"));
        let ones = Tensor::ones((64, 64, k, k), DType::F32, &Device::Cpu).unwrap();
        let norm = candle_nn::batch_norm(64, 1e-5, at.clone()).unwrap();
        let literal = candle_nn::ModuleT::forward_t(&norm, &z.conv2d(&ones, k / 2, 1, 1, 1).unwrap(), false)
            .unwrap()
            .relu()
            .unwrap();
        let collapsed = BoxNorm::new(k, 64, at).unwrap().forward(&z.sum_keepdim(1).unwrap()).unwrap();
        let literal = values(&literal);
        let max = literal.iter().fold(1e-6f32, |m, x| m.max(x.abs()));
        let d = deviation(&values(&collapsed), &literal, max);
        assert!(d < 1e-5, "conv_{k} at {h}x{w}: off by {d:e}");
    }
}

/// Any number of classes, any multiple of 32, more than one frame at once.
#[test]
fn classes_sizes_and_batches_are_free() {
    let architecture = Architecture { variant: Variant::M2SNet, classes: 5 };
    let net = M2SNet::new(architecture, generator::var_builder(architecture)).unwrap();
    let x = generator::input(64, 96);
    let two = Tensor::cat(&[&x, &(&x * 0.5).unwrap()], 0).unwrap();
    let y = net.forward(&two).unwrap();
    assert_eq!(y.dims(), [2, 5, 64, 96]);
    let first = net.forward(&x).unwrap();
    assert!(deviation(&values(&y.narrow(0, 0, 1).unwrap()), &values(&first), 1.0) < 1e-4);
    assert!(net.forward(&generator::input(48, 64)).is_err(), "48 is not a multiple of 32");
}
