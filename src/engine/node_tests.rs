//! One network, many ways to run it: passes, candle and every engine against the f64 interpreter, value by value.

use std::collections::HashMap;

use candle_core::{DType, Device, Tensor};

use super::Network;
use super::cpu::{Cpu, KernelSet, Settings};
use super::random::Random;
use crate::Result;
use crate::model::checkpoint::Description;
use crate::model::{self, Architecture, Checkpoint, M2SNet, Variant, parameters};
use crate::program::{self, Builder, Op, Program, Rounding, Value, interpret, passes};

/// Small: the interpreter is slow. Not square, and the coarsest map is one pixel high.
const SIZE: (usize, usize) = (32, 64);

/// Random parameters that keep values near one from layer to layer.
pub(super) fn checkpoint(architecture: Architecture, r: &mut Random) -> Checkpoint {
    let tensors = parameters(architecture)
        .into_iter()
        .map(|p| {
            let len: usize = p.shape.iter().product();
            let fan = p.shape.iter().skip(1).product::<usize>().max(1) as f32;
            let mut values: Vec<f32> = (0..len).map(|_| r.unit()).collect();
            // The sums behind the multi-scale terms reach hundreds.
            let scale = if p.key.starts_with("conv_") { 100.0 } else { 1.0 };
            for v in &mut values {
                *v = match p.key.rsplit('.').next() {
                    Some("running_var") => scale * scale * (1.0 + 0.5 * *v),
                    Some("running_mean") => 0.1 * scale * *v,
                    Some("weight") if p.shape.len() == 1 => 1.0 + 0.3 * *v,
                    Some("weight") => *v * (3.0 / fan).sqrt(),
                    _ => 0.1 * *v,
                };
            }
            (p.key, Tensor::from_vec(values, p.shape, &Device::Cpu).expect("a tensor"))
        })
        .collect();
    Checkpoint::from_tensors(Description::published("random", architecture), tensors).expect("a checkpoint")
}

pub(super) fn input(program: &Program, r: &mut Random) -> Vec<f32> {
    let to = program.nodes().iter().find_map(|n| match n.op {
        Op::Input { to } => Some(to),
        _ => None,
    });
    (0..program.fact(to.expect("an input")).len()).map(|_| r.unit()).collect()
}

pub(super) fn interpret(program: &Program, checkpoint: &Checkpoint, input: &[f32]) -> interpret::Values {
    interpret::run(program, &|key| checkpoint.values(key), input).expect("it runs")
}

/// Largest difference as a share of the largest magnitude; NaN where either has one.
pub(super) fn deviation(got: impl Iterator<Item = f64>, want: &[f64]) -> f64 {
    let largest = want.iter().fold(1e-9, |m: f64, v| m.max(v.abs()));
    let mut count = 0;
    let worst = got.zip(want).fold(0.0, |m: f64, (g, w)| {
        count += 1;
        let d = (g - w).abs();
        if d.is_nan() || m.is_nan() { f64::NAN } else { m.max(d) }
    });
    assert_eq!(count, want.len(), "number of values");
    worst / largest
}

fn both() -> impl Iterator<Item = Architecture> {
    [(Variant::M2SNet, 1), (Variant::MSNet, 3)]
        .into_iter()
        .map(|(variant, classes)| Architecture { variant, classes })
}

/// Those that this processor has; the others are left out, aloud.
fn here(paths: impl IntoIterator<Item = KernelSet>) -> impl Iterator<Item = KernelSet> {
    paths.into_iter().filter(|path| {
        if !path.is_available() {
            crate::skipped::skip("processor", format_args!("this processor has no {path}"));
        }
        path.is_available()
    })
}

/// How far a path may be from f64 at any value of the network, as a share of that value's largest magnitude. Random
/// weights were not trained to be robust, and in bf16 the rounding of every layer adds up; a wrong wave, slice or sum
/// is off by as much as the values themselves.
fn tolerance(path: KernelSet) -> f64 {
    if path.is_bf16() { 0.12 } else { 1e-4 }
}

#[test]
fn no_pass_changes_a_value() {
    let mut r = Random(101);
    for architecture in both() {
        let checkpoint = checkpoint(architecture, &mut r);
        let mut program = model::program(architecture, SIZE);
        let input = input(&program, &mut r);
        let want = interpret(&program, &checkpoint, &input);
        let macs = program.macs();
        for pass in passes::PASSES {
            let before = program.nodes().len();
            (pass.run)(&mut program);
            assert!(program.is_well_formed(), "{}", pass.name);
            assert!(
                program.nodes().len() < before
                    || program.nodes().iter().any(|n| matches!(n.op, Op::Enlarge { .. })),
                "{} finds nothing",
                pass.name
            );
            assert_eq!(program.macs(), macs, "{}", pass.name);
        }
        let got = interpret(&program, &checkpoint, &input);
        let mut compared = 0;
        for (index, (got, want)) in got.iter().zip(&want).enumerate() {
            if let (Some(got), Some(want)) = (got, want) {
                let d = deviation(got.iter().copied(), want);
                assert!(d < 1e-9, "{}: off by {d:e}", program.facts()[index].name);
                compared += 1;
            }
        }
        assert!(compared > 130, "only {compared} values are left");
    }
}

#[test]
fn candle_agrees_with_the_interpreter_at_every_value() {
    let mut r = Random(103);
    for architecture in both() {
        let checkpoint = checkpoint(architecture, &mut r);
        let program = model::program(architecture, SIZE);
        let input = input(&program, &mut r);
        let want = interpret(&program, &checkpoint, &input);
        let by_name: HashMap<&str, &Vec<f64>> = program
            .facts()
            .iter()
            .zip(&want)
            .filter_map(|(fact, v)| Some((fact.name.as_str(), v.as_ref()?)))
            .collect();
        assert_eq!(by_name.len(), program.facts().len(), "names are unique");
        let vb = checkpoint.var_builder(DType::F32, &Device::Cpu).expect("parameters");
        let net = M2SNet::new(architecture, vb).expect("the network");
        let x = Tensor::from_vec(input, (1, 3, SIZE.0, SIZE.1), &Device::Cpu).expect("a tensor");
        let mut seen = 0;
        net.forward_observed(&x, &mut |name, map| {
            let got: Vec<f32> = map.flatten_all()?.to_vec1()?;
            let d = deviation(got.into_iter().map(f64::from), by_name[name]);
            assert!(d < 1e-4, "{name}: off by {d:e}");
            seen += 1;
            Ok(())
        })
        .expect("it runs");
        assert_eq!(seen, by_name.len());
    }
}

/// Runs a program on the CPU engine and compares every value; returns how many.
fn check_cpu(
    published: &Program,
    checkpoint: &Checkpoint,
    path: KernelSet,
    threads: usize,
    r: &mut Random,
) -> usize {
    let input = input(published, r);
    let settings = Settings { path, threads: Some(threads), size: None, nice: 0 };
    let mut engine = Cpu::of_program(published.clone(), checkpoint, settings).expect("it is built");
    let mut logits = vec![f32::NAN; engine.shape().logits_len()];
    // That the fused form computes the published values is `no_pass_changes_a_value`'s.
    let want = interpret(engine.program(), checkpoint, &input);
    let names: Vec<String> = engine.program().facts().iter().map(|f| f.name.clone()).collect();
    let mut seen = 0;
    engine
        .run_values(&input, &mut logits, &mut |value, got| {
            let want = want[value.index()].as_ref().expect("the interpreter has it");
            let d = deviation(got.iter().map(|v| f64::from(*v)), want);
            assert!(d < tolerance(path), "{path}, {}: off by {d:e}", names[value.index()]);
            seen += 1;
        })
        .expect("it runs");
    let wanted = want[published.output().index()].as_ref().expect("logits");
    let d = deviation(logits.iter().map(|v| f64::from(*v)), wanted);
    assert!(d < tolerance(path), "{path}, logits: off by {d:e}");
    // All threads give what one thread gave.
    let mut again = vec![f32::NAN; logits.len()];
    engine.run(&input, &mut again).expect("it runs");
    assert_eq!(again, logits, "{path}");
    seen
}

#[test]
fn the_cpu_engine_agrees_with_the_interpreter_at_every_value() {
    let mut r = Random(107);
    for architecture in both() {
        let checkpoint = checkpoint(architecture, &mut r);
        let program = model::program(architecture, SIZE);
        for path in here(KernelSet::FLOAT) {
            let seen = check_cpu(&program, &checkpoint, path, 3, &mut r);
            assert!(seen > 130, "{path}: only {seen} values were seen");
        }
    }
}

/// MSNet without the unit `x5_x4_x3_x2_x1`: one builder, and no engine knows of it.
pub(super) fn msnet_without_one_unit(size: (usize, usize)) -> Program {
    let mut b = Builder::default();
    let [x1, x2, x3, x4, x5] = model::features(&mut b, size);
    b.part("decoder", Rounding::Forgiving);
    let d5 = cnr(&mut b, x5, "x5_dem_1");
    let d4 = cnr(&mut b, x4, "x4_dem_1");
    let d3 = cnr(&mut b, x3, "x3_dem_1");
    let d2 = cnr(&mut b, x2, "x2_dem_1");
    let x5_x4 = unit(&mut b, d5, d4, "x5_x4");
    let x4_x3 = unit(&mut b, d4, d3, "x4_x3");
    let x3_x2 = unit(&mut b, d3, d2, "x3_x2");
    let x2_x1 = unit(&mut b, d2, x1, "x2_x1");
    let x5_x4_x3 = unit(&mut b, x5_x4, x4_x3, "x5_x4_x3");
    let x4_x3_x2 = unit(&mut b, x4_x3, x3_x2, "x4_x3_x2");
    let x3_x2_x1 = unit(&mut b, x3_x2, x2_x1, "x3_x2_x1");
    let x5_x4_x3_x2 = unit(&mut b, x5_x4_x3, x4_x3_x2, "x5_x4_x3_x2");
    let x4_x3_x2_x1 = unit(&mut b, x4_x3_x2, x3_x2_x1, "x4_x3_x2_x1");
    let o4 = cnr(&mut b, x5, "x5_dem_5");
    let mut coarse = (o4, x5_x4);
    for (i, sums) in
        [vec![x4_x3, x5_x4_x3], vec![x3_x2, x4_x3_x2, x5_x4_x3_x2], vec![x2_x1, x3_x2_x1, x4_x3_x2_x1]]
            .into_iter()
            .enumerate()
    {
        let (level, output) = (format!("level{}", 3 - i), format!("output{}", 4 - i));
        let joined = join(&mut b, coarse, &output);
        let out = cnr(&mut b, joined, &output);
        let sum =
            sums[1..].iter().enumerate().fold(sums[0], |s, (k, v)| b.add(s, *v, format!("{level}.{k}")));
        coarse = (out, cnr(&mut b, sum, &level));
    }
    let joined = join(&mut b, coarse, "output1");
    b.part("output", Rounding::Forgiving);
    let low = b.conv(joined, "output1.0", 1, 3, 1, true);
    let logits = b.resize(low, size, "logits");
    b.finish(logits)
}

fn cnr(b: &mut Builder, x: Value, at: &str) -> Value {
    let x = b.conv(x, &format!("{at}.0"), 64, 3, 1, true);
    let x = b.norm(x, &format!("{at}.1"));
    b.relu(x, at)
}

fn unit(b: &mut Builder, a: Value, fine: Value, at: &str) -> Value {
    let size = b.fact(fine).size();
    let a = b.resize(a, size, format!("{at}.a"));
    let x = b.difference(a, fine, None, format!("{at}.difference"));
    cnr(b, x, at)
}

fn join(b: &mut Builder, (coarse, fine): (Value, Value), at: &str) -> Value {
    let size = b.fact(fine).size();
    let large = b.resize(coarse, size, format!("{at}.coarse"));
    b.add(large, fine, format!("{at}.input"))
}

#[test]
fn another_network_is_one_builder() {
    let mut r = Random(109);
    let checkpoint = checkpoint(Architecture { variant: Variant::MSNet, classes: 1 }, &mut r);
    let program = msnet_without_one_unit(SIZE);
    for path in here(KernelSet::FLOAT) {
        let seen = check_cpu(&program, &checkpoint, path, 2, &mut r);
        assert!(seen > 120, "{path}: only {seen} values were seen");
    }
}

/// What an engine has no kernel for is said when it is built, by name.
#[test]
fn an_operation_without_a_kernel_is_refused_by_name() -> Result<()> {
    let mut r = Random(113);
    let checkpoint = checkpoint(Architecture::default(), &mut r);
    let mut b = Builder::default();
    b.part("stem", Rounding::Sensitive);
    let x = b.input(32, 32);
    let y = b.relu(x, "alone");
    let logits = b.resize(y, (32, 32), "logits");
    let program = b.finish(logits);
    let settings = Settings { path: KernelSet::best_f32(), threads: Some(1), size: None, nice: 0 };
    let e = Cpu::of_program(program, &checkpoint, settings).err().expect("it is refused");
    assert!(e.to_string().contains("alone"), "{e}");
    Ok(())
}

/// A checkpoint that knows how large its activations are, from one input.
fn calibrated(
    architecture: Architecture,
    size: (usize, usize),
    r: &mut Random,
) -> (Checkpoint, Program, Vec<f32>) {
    let plain = checkpoint(architecture, r);
    let program = model::program(architecture, size);
    let input = input(&program, r);
    let values = interpret(&program, &plain, &input);
    let mut description = plain.description().clone();
    for (fact, value) in program.facts().iter().zip(&values) {
        if let Some(value) = value {
            let largest = value.iter().fold(0.0, |m: f64, v| m.max(v.abs())) as f32;
            if largest.is_normal() {
                description.activations.insert(fact.name.clone(), largest);
            }
        }
    }
    (plain.with_description(description).expect("it is sound"), program, input)
}

/// Integers are the same on every path, and what they lose against f32 is what eight bits lose. The published network's
/// stem is f32, whose sums differ from path to path and with them a few integers behind it: there only the second is
/// asked.
#[test]
fn integer_paths_agree_to_the_bit() {
    let mut r = Random(127);
    for (architecture, float_stem) in both().flat_map(|a| [(a, false), (a, true)]) {
        let (checkpoint, program, input) = calibrated(architecture, SIZE, &mut r);
        let program = if float_stem { program } else { program.with_rounding(Rounding::Sensitive) };
        let want = interpret(&program::fuse(program.clone()), &checkpoint, &input);
        let mut first: Option<(Vec<(usize, Vec<f32>)>, Vec<f32>)> = None;
        for path in here(KernelSet::INTEGER) {
            let settings = Settings { path, threads: Some(2), size: None, nice: 0 };
            let mut engine = Cpu::of_program(program.clone(), &checkpoint, settings).expect("it is built");
            let mut logits = vec![f32::NAN; engine.shape().logits_len()];
            let mut values = Vec::new();
            engine
                .run_values(&input, &mut logits, &mut |value, got| values.push((value.index(), got.to_vec())))
                .expect("it runs");
            for (index, got) in &values {
                let fact = &engine.program().facts()[*index];
                let want = want[*index].as_ref().expect("the interpreter has it");
                let power = want.iter().map(|v| v * v).sum::<f64>().max(1e-9);
                let lost: f64 = got.iter().zip(want).map(|(g, w)| (f64::from(*g) - w).powi(2)).sum();
                assert!(
                    lost < 0.05 * power,
                    "{path}, {}: {:.3} of the power is lost",
                    fact.name,
                    lost / power
                );
            }
            let mut again = vec![f32::NAN; logits.len()];
            engine.run(&input, &mut again).expect("it runs");
            assert_eq!(again, logits, "{path}: threads");
            match &first {
                _ if float_stem => {}
                Some((wanted, wanted_logits)) => {
                    // What the last convolution makes of them is f32, whose sums differ from path to path.
                    for ((index, got), (_, want)) in values.iter().zip(wanted) {
                        let fact = &engine.program().facts()[*index];
                        assert!(fact.name == "output1" || got == want, "{path}, {}", fact.name);
                    }
                    let wanted: Vec<f64> = wanted_logits.iter().map(|v| f64::from(*v)).collect();
                    let d = deviation(logits.iter().map(|v| f64::from(*v)), &wanted);
                    assert!(d < 1e-5, "{path}: logits are off by {d:e}");
                }
                None => first = Some((values, logits)),
            }
            // What is no number cannot be carried by integers; it is not lost all the same.
            let mut broken = input.clone();
            broken[5] = f32::NAN;
            engine.run(&broken, &mut again).expect("it runs");
            assert!(again.iter().all(|v| v.is_nan()), "{path}");
        }
    }
}
