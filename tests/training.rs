//! A training step against values computed in f64 with the published PyTorch definition (tests/data/train_step.*).

mod common;

use std::collections::HashMap;

use candle_core::{Device, Tensor};
use common::generator;
use polypscope::model::{Architecture, Variant};
use polypscope::training::loss::{LossNet, Maps, Structure, Vgg};
use polypscope::training::network::{Network, parameters_of};
use polypscope::training::objective::Objective;
use polypscope::training::ops::convolution::Convolve;
use polypscope::training::optimiser::{Optimiser, Rule};
use polypscope::training::parameters::Parameters;
use polypscope::training::tape::{Mode, Planes, Spare, Tape, update_running};

const H: usize = 64;
const W: usize = 96;

fn data(name: &str) -> String {
    format!("{}/tests/data/{name}", env!("CARGO_MANIFEST_DIR"))
}

fn golden() -> HashMap<String, Tensor> {
    candle_core::safetensors::load(data("train_step.safetensors"), &Device::Cpu).unwrap()
}

fn values(t: &Tensor) -> Vec<f64> {
    t.flatten_all().unwrap().to_vec1::<f32>().unwrap().into_iter().map(f64::from).collect()
}

/// Largest difference as a share of the largest magnitude; NaN is infinite.
fn apart<T: Into<f64> + Copy>(got: &[T], want: &[f64]) -> f64 {
    assert_eq!(got.len(), want.len());
    let largest = want.iter().fold(f64::MIN_POSITIVE, |m, v| m.max(v.abs()));
    let off = |(g, w): (&T, &f64)| {
        let off = ((*g).into() - w).abs();
        if off.is_nan() { f64::INFINITY } else { off }
    };
    got.iter().zip(want).map(off).fold(0.0, f64::max) / largest
}

fn vgg<T: Convolve>() -> Vgg<T> {
    Vgg::new(|key, shape| {
        let n = shape.iter().product();
        let scale = match shape {
            [_, cin, 3, 3] => (6.0 / (cin * 9) as f64).sqrt() as f32,
            _ => 0.1,
        };
        Ok(generator::uniform(key, n).map(|u| T::of(f64::from((2.0 * u - 1.0) * scale))).collect())
    })
    .unwrap()
}

/// Two pictures of the golden file's generator.
fn input<T: Convolve>() -> Vec<T> {
    let mut out = Vec::with_capacity(2 * 3 * H * W);
    for n in 0..2 {
        for (i, u) in generator::uniform(&format!("input.train.{n}"), 3 * H * W).enumerate() {
            let (c, y, x) = (i / (H * W), (i / W % H) as f32, (i % W) as f32);
            let wave = match c {
                0 => (x / 17.0).sin() + (y / 23.0).cos(),
                1 => ((x + y) / 31.0).sin(),
                _ => ((x - y) / 13.0).cos(),
            };
            out.push(T::of(f64::from(0.5 * (2.0 * u - 1.0) + wave)));
        }
    }
    out
}

struct Tolerance {
    values: f64,
    gradients: f64,
    after: f64,
}

fn check<T: Convolve + Into<f64>>(tolerance: &Tolerance) {
    let golden = golden();
    let text = std::fs::read_to_string(data("train_step.json")).unwrap();
    let expected: serde_json::Value = serde_json::from_str(&text).unwrap();
    let architecture = Architecture { variant: Variant::M2SNet, classes: 1 };
    let mut parameters: Parameters<T> = parameters_of(&generator::checkpoint(architecture)).unwrap();
    let network = Network::new(architecture, &parameters).unwrap();
    let mut objective =
        Objective { structure: Structure::default(), lossnet: Some((LossNet::new(vgg()), 0.1)) };
    let mut optimiser = Optimiser::new(Rule::PUBLISHED);
    let labels: Vec<u8> = values(&golden["mask"]).into_iter().map(|m| m as u8).collect();
    let planes = Planes { batch: 2, channels: 3, h: H, w: W };
    let maps = Maps { batch: 2, classes: 1, h: H, w: W };
    let mut spare = Spare::default();
    for step in 0..3 {
        let mut tape = Tape::new(&parameters, Mode::Training, &mut spare);
        let x = tape.input(planes, input(), false);
        let logits = network.forward(&mut tape, x);
        if step == 0 {
            let off = apart(tape.values(logits), &values(&golden["logits"]));
            assert!(off < tolerance.values, "logits: {off:e}");
        }
        let (losses, grad) = objective.run(maps, tape.values(logits), &labels);
        let want = &expected["steps"][step];
        for (name, got) in
            [("structure", losses.structure), ("lossnet", losses.lossnet.unwrap()), ("total", losses.total)]
        {
            let off = (got / want[name].as_f64().unwrap() - 1.0).abs();
            // The input's last bit differs from one mathematics library to the next, and three steps let that grow.
            let most = if step == 0 { tolerance.values } else { tolerance.after };
            assert!(off < most, "step {step}, {name}: {off:e}");
        }
        let back = tape.backward(logits, grad);
        update_running(&mut parameters, &back.statistics);
        if step == 0 {
            check_first(&golden, &expected, &parameters, &back.gradients, tolerance);
        }
        optimiser.step(&mut parameters, &back.gradients, |key| {
            if key.starts_with("resnet.") { 0.0002 } else { 0.002 }
        });
    }
    for (name, want) in golden.iter().filter_map(|(n, t)| Some((n.strip_prefix("after3.")?, t))) {
        if name == "logits_eval" {
            let mut tape = Tape::new(&parameters, Mode::Evaluation, &mut spare);
            let x = tape.input(planes, input(), false);
            let logits = network.forward(&mut tape, x);
            let off = apart(tape.values(logits), &values(want));
            assert!(off < tolerance.after, "after three steps: logits {off:e}");
        } else {
            let off = apart(&parameters.by_key(name).unwrap().values, &values(want));
            assert!(off < tolerance.after, "after three steps: {name} {off:e}");
        }
    }
}

fn check_first<T: Convolve + Into<f64>>(
    golden: &HashMap<String, Tensor>,
    expected: &serde_json::Value,
    parameters: &Parameters<T>,
    gradients: &polypscope::training::parameters::Gradients<T>,
    tolerance: &Tolerance,
) {
    let mut seen = 0;
    for (name, want) in golden {
        if let Some(key) = name.strip_prefix("grad.") {
            let got = gradients.get(parameters.id(key).unwrap()).unwrap();
            let off = apart(got, &values(want));
            assert!(off < tolerance.gradients, "gradient of {key}: {off:e}");
            seen += 1;
        }
        if let Some(key) = name.strip_prefix("stats.") {
            let off = apart(&parameters.by_key(key).unwrap().values, &values(want));
            assert!(off < tolerance.values, "{key}: {off:e}");
            seen += 1;
        }
    }
    assert_eq!(seen, 24, "every gradient and statistic of the file");
    let norms = expected["grad_norms"].as_object().unwrap();
    assert_eq!(norms.len(), 355);
    for (key, want) in norms {
        let want = want.as_f64().unwrap();
        let got = gradients
            .get(parameters.id(key).unwrap())
            .map_or(0.0, |g| g.iter().map(|&v| Into::<f64>::into(v).powi(2)).sum::<f64>().sqrt());
        // A bias before a batch-norm has no gradient but the other program's rounding.
        let off = if want < 1e-6 { got } else { (got / want - 1.0).abs() };
        assert!(off < tolerance.gradients, "norm of the gradient of {key}: {got} instead of {want}");
    }
}

#[test]
fn three_steps_in_f64_are_the_published_ones() {
    check::<f64>(&Tolerance { values: 1e-5, gradients: 1e-5, after: 5e-5 });
}

/// In f32 a gradient of this network is uncertain by a hundredth, in PyTorch as here.
#[test]
fn three_steps_in_f32_are_near() {
    check::<f32>(&Tolerance { values: 2e-3, gradients: 0.02, after: 0.02 });
}
