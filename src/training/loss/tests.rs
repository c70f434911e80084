//! Losses beside the values of the published code (tests/data/losses.safetensors), and their gradients beside finite
//! differences.

use std::collections::HashMap;

use candle_core::{Device, Tensor};

use super::super::ops::tests::random;
use super::*;

/// `u(name, i)` of the golden files' generator, in [0, 1).
pub fn uniform(name: &str, n: usize) -> impl Iterator<Item = f64> {
    let h =
        name.bytes().fold(0xcbf2_9ce4_8422_2325u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3));
    (1..=n as u64).map(move |i| {
        let mut z = h.wrapping_add(i.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^= z >> 31;
        f64::from((z >> 40) as f32 * 2f32.powi(-24))
    })
}

pub fn generated_vgg<T: super::super::ops::convolution::Convolve>() -> Vgg<T> {
    Vgg::new(|key, shape| {
        let n = shape.iter().product();
        let scale = match shape {
            [_, cin, 3, 3] => f64::from((6.0 / (cin * 9) as f64).sqrt() as f32),
            _ => f64::from(0.1f32),
        };
        Ok(uniform(key, n).map(|u| T::of(f64::from((2.0 * u - 1.0) as f32 * scale as f32))).collect())
    })
    .unwrap()
}

fn golden() -> HashMap<String, Tensor> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/losses.safetensors");
    candle_core::safetensors::load(path, &Device::Cpu).unwrap()
}

fn values(t: &Tensor) -> Vec<f64> {
    t.flatten_all().unwrap().to_vec1::<f32>().unwrap().into_iter().map(f64::from).collect()
}

fn apart(got: &[f64], want: &[f64]) -> f64 {
    assert_eq!(got.len(), want.len());
    let largest = want.iter().fold(f64::MIN_POSITIVE, |m, v| m.max(v.abs()));
    let off = |(g, w): (&f64, &f64)| if g.is_finite() { (g - w).abs() } else { f64::INFINITY };
    got.iter().zip(want).map(off).fold(0.0, f64::max) / largest
}

const MAPS: Maps = Maps { batch: 2, classes: 1, h: 96, w: 128 };

fn pair(golden: &HashMap<String, Tensor>) -> (Vec<f64>, Vec<u8>) {
    let mask = values(&golden["structure.mask"]);
    assert!(mask.iter().all(|m| *m == 0.0 || *m == 1.0));
    (values(&golden["structure.logit"]), mask.into_iter().map(|m| m as u8).collect())
}

#[test]
fn the_structure_loss_is_the_published_one() {
    let golden = golden();
    let (logits, labels) = pair(&golden);
    for (name, weighting) in
        [("structure", Weighting::Published), ("structure_per_pixel", Weighting::PerPixel)]
    {
        let loss = Structure { weighting, silence: 0.0 };
        let (value, grad) = loss.run(MAPS, &logits, &labels);
        assert!(apart(&[value], &values(&golden[&format!("{name}.loss")])) < 1e-6);
        assert!(apart(&grad, &values(&golden[&format!("{name}.grad")])) < 1e-5);
        let narrow: Vec<f32> = logits.iter().map(|&z| z as f32).collect();
        let (value, grad) = loss.run(MAPS, &narrow, &labels);
        assert!(apart(&[value], &values(&golden[&format!("{name}.loss")])) < 1e-5);
        let grad: Vec<f64> = grad.into_iter().map(f64::from).collect();
        assert!(apart(&grad, &values(&golden[&format!("{name}.grad")])) < 1e-5);
    }
}

#[test]
fn lossnet_is_the_published_one() {
    let golden = golden();
    let (logits, labels) = pair(&golden);
    let mut net = LossNet::<f64>::new(generated_vgg());
    let (stages, grad) = net.run(MAPS, &logits, &labels);
    assert!(apart(&stages, &values(&golden["lossnet.stages"])) < 1e-5, "{stages:?}");
    assert!(apart(&[stages.iter().sum()], &values(&golden["lossnet.loss"])) < 1e-5);
    // The file was made in f32, where units of VGG-16 near zero fall on the other side of their ReLU: each moves the
    // gradient around its place a little. train_step.safetensors, made in f64, holds the gradient to 1e-5.
    let want = values(&golden["lossnet.grad_logit"]);
    assert!(apart(&grad, &want) < 0.02);
    let largest = want.iter().fold(0.0f64, |m, v| m.max(v.abs()));
    let close = grad.iter().zip(&want).filter(|(g, w)| (*g - *w).abs() < 1e-5 * largest).count();
    assert!(close * 5 > want.len() * 4, "{close} of {} agree", want.len());
}

/// Several classes, the penalty on loud healthy pictures among them.
#[test]
fn gradients_of_several_classes() {
    let maps = Maps { batch: 3, classes: 3, h: 7, w: 9 };
    let logits: Vec<f64> = random(maps.len(), 3).into_iter().map(|z| 2.0 * z).collect();
    let labels: Vec<u8> = (0..3 * 63).map(|i| if i >= 126 { 0 } else { ((i / 5) % 4) as u8 }).collect();
    for weighting in [Weighting::Published, Weighting::PerPixel] {
        let loss = Structure { weighting, silence: 0.7 };
        let (_, grad) = loss.run(maps, &logits, &labels);
        for at in (0..maps.len()).step_by(11) {
            let moved = |by: f64| {
                let mut logits = logits.clone();
                logits[at] += by;
                loss.run(maps, &logits, &labels).0
            };
            let slope = (moved(1e-5) - moved(-1e-5)) / 2e-5;
            assert!((slope - grad[at]).abs() < 1e-8, "{at}: {slope} {}", grad[at]);
        }
    }
}

/// One class of the softmax with a silent background is the sigmoid.
#[test]
fn one_class_is_the_sigmoid() {
    let maps = Maps { batch: 1, classes: 1, h: 1, w: 4 };
    let p = probabilities(maps, &[-50.0f64, 0.0, 2.0, 800.0]);
    let want = [(-50f64).exp(), 0.5, 1.0 / (1.0 + (-2f64).exp()), 1.0];
    assert!(apart(&p, &want) < 1e-12, "{p:?}");
    assert!(probabilities(maps, &[f64::NAN; 4]).iter().all(|p| p.is_nan()));
}

/// What is held between steps does not grow with them.
#[test]
fn memory_does_not_grow_from_picture_to_picture() {
    let vgg = generated_vgg::<f32>();
    let mut spare = crate::training::tape::Spare::default();
    let shown = || [0, 1].map(|s| random(3 * 32 * 32, s).into_iter().map(|v| v as f32).collect::<Vec<_>>());
    let mut held = Vec::new();
    for _ in 0..4 {
        on_processor(&vgg, &mut spare, shown(), 0.5);
        held.push(spare.held());
    }
    assert!(held[0] > 0 && held.iter().all(|h| *h == held[0]), "{held:?}");
}
