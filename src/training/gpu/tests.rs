//! The card's tape beside the processor's: the same operations, values, statistics and gradients.
//!
//! On a machine without a GPU a processor plays the card (see `engine/cuda/emulated`), its convolutions by their
//! definition; with the feature `cuda` and a GPU the same tests run there too, with cuDNN's.

use super::card::Card;
use super::memory::Arena;
use super::passes::OnCard;
use super::tape::{Room, Tape};
use crate::engine::cuda::Emulated;
use crate::model::{Architecture, Variant};
use crate::training::loader::Batch;
use crate::training::loss::{Structure, Weighting, on_processor};
use crate::training::network::{Network, fresh};
use crate::training::objective::Objective;
use crate::training::ops::tests::random;
use crate::training::parameters::{Gradients, Parameters};
use crate::training::passes::{Passes, Processor};
use crate::training::tape::{self, Kernel, Mode, Norm, Planes, Record, Tail, Value};

/// Runs a test on a processor that plays the card, and on the card where there is one; with how far results may be off.
fn on_cards(test: impl Fn(Box<dyn Card>, f64)) {
    if let Some(emulated) = Emulated::new() {
        test(Box::new(emulated), 2e-5);
    }
    #[cfg(feature = "cuda")]
    match super::cudnn::Cudnn::open(0) {
        // TF32 keeps ten bits.
        Ok(card) => test(Box::new(card), 1e-2),
        Err(e) => crate::skipped::skip("gpu", format_args!("training is not tried on a GPU: {e}")),
    }
}

fn values(n: usize, seed: u64) -> Vec<f32> {
    random(n, seed).into_iter().map(|v| v as f32).collect()
}

struct Net {
    parameters: Parameters<f32>,
    seed: u64,
}

impl Net {
    fn new() -> Self {
        Self { parameters: Parameters::new(), seed: 1 }
    }

    fn next(&mut self, n: usize) -> Vec<f32> {
        self.seed += 1;
        values(n, self.seed)
    }

    fn kernel(&mut self, key: &str, [cout, cin, side]: [usize; 3], stride: usize, bias: bool) -> Kernel {
        let weights = self.next(cout * cin * side * side);
        let weight = self.parameters.insert(key, &[cout, cin, side, side], weights, true);
        let bias = bias.then(|| {
            let values = self.next(cout);
            self.parameters.insert(&format!("{key}.bias"), &[cout], values, true)
        });
        Kernel { weight, bias, stride }
    }

    fn norm(&mut self, key: &str, channels: usize, trained: bool) -> Norm {
        let mut vector = |leaf: &str, positive: bool, trained| {
            let mut v = self.next(channels);
            if positive {
                v.iter_mut().for_each(|v| *v = 0.5 + v.abs());
            }
            self.parameters.insert(&format!("{key}.{leaf}"), &[channels], v, trained)
        };
        Norm {
            weight: vector("weight", true, trained),
            bias: vector("bias", false, trained),
            running_mean: vector("running_mean", false, false),
            running_var: vector("running_var", true, false),
        }
    }
}

fn apart(got: &[f32], want: &[f32]) -> f64 {
    assert_eq!(got.len(), want.len());
    let largest = want.iter().fold(1e-3f32, |m, v| m.max(v.abs()));
    let off = |(g, w): (&f32, &f32)| if g.is_finite() { (g - w).abs() } else { f32::INFINITY };
    f64::from(got.iter().zip(want).map(off).fold(0.0, f32::max) / largest)
}

/// Builds the same pass on both tapes and compares everything that comes out of it.
fn compare(
    what: &str,
    net: &Net,
    planes: Planes,
    modes: &[Mode],
    build: impl Fn(&mut dyn Builder, Value) -> Value,
) {
    for &mode in modes {
        let x = values(planes.len(), 77);
        let mut spare = tape::Spare::default();
        let mut here = tape::Tape::new(&net.parameters, mode, &mut spare);
        let input = here.input(planes, x.clone(), true);
        let out = build(&mut here, input);
        let wanted = here.values(out).to_vec();
        let grad = values(wanted.len(), 78);
        let mut here = here.backward(out, grad.clone());
        let of_input = here.of(input).unwrap_or_default();
        on_cards(|card, allowed| {
            let mut room = Room::new(card).unwrap();
            let arena = Arena::of(&mut *room.card, &net.parameters, true).unwrap();
            arena.upload(&mut *room.card, &net.parameters).unwrap();
            // Twice: the second pass is made in memory that the first one left.
            for round in 0..2 {
                let what = format!("{what}, {mode:?}, round {round}");
                let mut there = Tape::new(&net.parameters, &arena, mode, &mut room);
                let input = there.input(planes, &x, true);
                let out = build(&mut there, input);
                let off = apart(&there.values(out).unwrap(), &wanted);
                assert!(off < allowed, "{what}: values {off:e} apart");
                let statistics = there.statistics().unwrap();
                assert_eq!(statistics.len(), here.statistics.len(), "{what}");
                for ((norm, got), (other, want)) in statistics.iter().zip(&here.statistics) {
                    assert_eq!((norm, got.count), (other, want.count), "{what}");
                    for (got, want) in [(&got.mean, &want.mean), (&got.variance, &want.variance)] {
                        let narrow = |v: &[f64]| v.iter().map(|&v| v as f32).collect::<Vec<_>>();
                        let off = apart(&narrow(got), &narrow(want));
                        assert!(off < allowed, "{what}: statistics {off:e} apart");
                    }
                }
                let seed = there.upload(&grad);
                let mut back = there.backward(vec![(out, seed)]).unwrap();
                let off = apart(&back.of(input).unwrap_or_default(), &of_input);
                assert!(off < 4.0 * allowed, "{what}: the input's gradient {off:e} apart");
                let gradients = arena.download(&mut *room.card, &net.parameters, &back.touched).unwrap();
                same_gradients(&what, &net.parameters, &gradients, &here.gradients, 4.0 * allowed);
            }
        });
    }
}

fn same_gradients(
    what: &str,
    parameters: &Parameters<f32>,
    got: &Gradients<f32>,
    want: &Gradients<f32>,
    allowed: f64,
) {
    for (id, p) in parameters.iter() {
        match (got.get(id), want.get(id)) {
            (Some(got), Some(want)) => {
                let off = apart(got, want);
                assert!(off < allowed, "{what}: the gradient of {} {off:e} apart", p.key);
            }
            // A gradient that is zero for a reason is not calculated.
            (None, Some(zeros)) | (Some(zeros), None) => {
                assert!(zeros.iter().all(|&v| v == 0.0), "{what}: a gradient of {} on one side", p.key);
            }
            (None, None) => {}
        }
    }
}

/// [`Record`] behind a pointer, so that a closure can take either tape.
trait Builder {
    fn convolution(&mut self, x: Value, kernel: Kernel, tail: Tail) -> Value;
    fn subtraction(&mut self, a: Value, b: Value, norms: &[(usize, Norm)]) -> Value;
    fn pooled(&mut self, x: Value, kind: usize) -> Value;
    fn resize(&mut self, x: Value, size: (usize, usize), added: Option<Value>) -> Value;
    fn sum(&mut self, values: &[Value]) -> Value;
    fn slice(&mut self, x: Value, first: usize, channels: usize) -> Value;
    fn concat(&mut self, values: &[Value]) -> Value;
}

impl<R: Record> Builder for R {
    fn convolution(&mut self, x: Value, kernel: Kernel, tail: Tail) -> Value {
        Record::convolution(self, x, kernel, tail)
    }

    fn subtraction(&mut self, a: Value, b: Value, norms: &[(usize, Norm)]) -> Value {
        Record::subtraction(self, a, b, norms)
    }

    fn pooled(&mut self, x: Value, kind: usize) -> Value {
        match kind {
            0 => self.max3(x),
            1 => self.max2(x),
            2 => self.average3(x, 1),
            3 => self.average3(x, 2),
            _ => self.average2(x),
        }
    }

    fn resize(&mut self, x: Value, size: (usize, usize), added: Option<Value>) -> Value {
        Record::resize(self, x, size, added)
    }

    fn sum(&mut self, values: &[Value]) -> Value {
        Record::sum(self, values)
    }

    fn slice(&mut self, x: Value, first: usize, channels: usize) -> Value {
        Record::slice(self, x, first, channels)
    }

    fn concat(&mut self, values: &[Value]) -> Value {
        Record::concat(self, values)
    }
}

const BOTH: [Mode; 2] = [Mode::Training, Mode::Settling];

#[test]
fn convolutions_with_everything_behind_them() {
    for (side, stride) in [(1, 1), (1, 2), (3, 1), (3, 2), (7, 2)] {
        let planes = Planes { batch: 3, channels: 5, h: 10, w: 14 };
        let mut net = Net::new();
        let first = net.kernel("a", [6, 5, side], stride, false);
        let second = net.kernel("b", [6, 6, 3], 1, true);
        let last = net.kernel("c", [2, 6, 3], 1, true);
        let (norm, other) = (net.norm("a.norm", 6, true), net.norm("b.norm", 6, true));
        compare(&format!("{side}x{side} by {stride}"), &net, planes, &BOTH, |tape, x| {
            let a = tape.convolution(x, first, Tail { norm: Some(norm), added: None, relu: true });
            let b = tape.convolution(a, second, Tail { norm: Some(other), added: Some(a), relu: true });
            let plain = tape.convolution(b, last, Tail { relu: true, ..Tail::default() });
            tape.convolution(b, last, Tail { added: Some(plain), ..Tail::default() })
        });
    }
}

/// A network whose first norm is not trained: its statistics are the running ones.
#[test]
fn a_frozen_norm_beside_a_trained_one() {
    let mut net = Net::new();
    let (first, second) = (net.kernel("a", [4, 3, 3], 1, false), net.kernel("b", [4, 4, 1], 1, false));
    let (frozen, norm) = (net.norm("a.norm", 4, false), net.norm("b.norm", 4, true));
    net.parameters.freeze(|key| key == "a");
    compare("frozen", &net, Planes { batch: 2, channels: 3, h: 6, w: 5 }, &BOTH, |tape, x| {
        let a = tape.convolution(x, first, Tail { norm: Some(frozen), added: None, relu: true });
        tape.convolution(a, second, Tail { norm: Some(norm), added: None, relu: false })
    });
}

#[test]
fn subtraction_units_with_and_without_norms() {
    let planes = Planes { batch: 2, channels: 8, h: 9, w: 7 };
    let mut net = Net::new();
    let (a, b) = (net.kernel("a", [8, 8, 1], 1, false), net.kernel("b", [8, 8, 3], 1, false));
    let norms = [(3, net.norm("three", 8, true)), (5, net.norm("five", 8, true))];
    for norms in [&norms[..], &[]] {
        compare(&format!("{} norms", norms.len()), &net, planes, &BOTH, |tape, x| {
            let left = tape.convolution(x, a, Tail::default());
            let right = tape.convolution(x, b, Tail::default());
            let once = tape.subtraction(left, right, norms);
            // The norms are shared by all units.
            tape.subtraction(once, right, norms)
        });
    }
}

#[test]
fn pools_resizes_and_parts() {
    for (h, w) in [(8, 12), (7, 5)] {
        let planes = Planes { batch: 2, channels: 4, h, w };
        for kind in 0..5 {
            if kind == 4 && h % 2 == 1 {
                continue;
            }
            compare(&format!("pool {kind} of {h}x{w}"), &Net::new(), planes, &BOTH[..1], |tape, x| {
                tape.pooled(x, kind)
            });
        }
        for to in [(2 * h, 2 * w), (4 * h, 3 * w), (h / 2, w / 2), (h + 1, w - 1), (1, 1), (h, w)] {
            compare(&format!("{h}x{w} to {to:?}"), &Net::new(), planes, &BOTH[..1], |tape, x| {
                let other = tape.resize(x, to, None);
                tape.resize(x, to, Some(other))
            });
        }
        compare("parts", &Net::new(), planes, &BOTH[..1], |tape, x| {
            let (a, b) = (tape.slice(x, 0, 1), tape.slice(x, 1, 3));
            let all = tape.concat(&[b, a]);
            tape.sum(&[x, all, x])
        });
    }
}

fn batch(side: usize, n: usize) -> Batch {
    let px = side * side;
    let disc = |i: usize| {
        let (y, x) = (i % px / side, i % side);
        u8::from((y as i32 - 10).pow(2) + (x as i32 - 15).pow(2) < 40 && (i / px).is_multiple_of(2))
    };
    Batch {
        step: 0,
        size: (side, side),
        planes: values(3 * px * n, 5),
        labels: (0..n * px).map(disc).collect(),
        names: (0..n).map(|i| i.to_string()).collect(),
    }
}

/// The cosine of the angle between two gradients.
fn cosine(parameters: &Parameters<f32>, a: &Gradients<f32>, b: &Gradients<f32>) -> f64 {
    let mut product = 0.0;
    for (id, _) in parameters.iter() {
        if let (Some(a), Some(b)) = (a.get(id), b.get(id)) {
            product += a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum::<f64>();
        }
    }
    product / (a.norm() * b.norm())
}

/// The whole network, all-ones norms shared by twenty maps among it. Rounding grows through a hundred norms of a few
/// small pictures, so this asks only whether everything is where it belongs; how exact it is, the tests above ask.
#[test]
fn a_step_of_the_whole_network() {
    let architecture = Architecture { variant: Variant::M2SNet, classes: 1 };
    let parameters: Parameters<f32> = fresh(architecture, 3);
    let network = Network::new(architecture, &parameters).unwrap();
    let objective =
        || Objective { structure: Structure { weighting: Weighting::PerPixel, silence: 0.5 }, lossnet: None };
    let batch = batch(32, 4);
    for mode in BOTH {
        let here = Processor::default().run(&parameters, &network, &mut objective(), &batch, mode).unwrap();
        on_cards(|card, allowed| {
            let mut card = OnCard::new(card).unwrap();
            let there = card.run(&parameters, &network, &mut objective(), &batch, mode).unwrap();
            let (loss, gradient) = if allowed < 1e-4 { (0.01, 0.05) } else { (0.05, 0.5) };
            let off = (there.losses.total - here.losses.total).abs() / here.losses.total;
            assert!(off < loss, "{mode:?}: losses {off:e} apart");
            assert_eq!(here.statistics.len(), there.statistics.len());
            let off = 1.0 - cosine(&parameters, &there.gradients, &here.gradients);
            assert!(off < gradient, "{mode:?}: gradients {off:e} apart");
            for (id, p) in parameters.iter() {
                assert_eq!(there.gradients.get(id).is_some(), here.gradients.get(id).is_some(), "{}", p.key);
            }
        });
    }
}

#[test]
fn vgg_on_the_card() {
    let vgg = crate::training::loss::generated_vgg::<f32>();
    let shown = [values(3 * 32 * 32, 9), values(3 * 32 * 32, 10)];
    let mut spare = tape::Spare::default();
    let (stages, grad) = on_processor(&vgg, &mut spare, shown.clone(), 0.25);
    on_cards(|card, allowed| {
        let mut room = Room::new(card).unwrap();
        let mut arena = None;
        for _ in 0..2 {
            let (got, of) = super::passes::compare(&mut room, &mut arena, &vgg, shown.clone(), 0.25).unwrap();
            for (got, want) in got.iter().zip(stages) {
                assert!((got - want).abs() / want < 10.0 * allowed, "{got} {want}");
            }
            // A unit of VGG-16 near zero may fall on the other side of its ReLU.
            let off = apart(&of, &grad);
            assert!(off < 0.02, "{off:e}");
        }
    });
}
