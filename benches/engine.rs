//! The engine's kernels one by one, at the shapes the network has at 352x352, and whole frames.
//! `cargo bench --bench engine`; throughput is in multiply-accumulates a second.

// The macro that collects the benches makes a public function.
#![allow(missing_docs)]

use std::hint::black_box;

use candle_core::{Device, Tensor};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use polypscope::engine::cpu::{Algorithm, FusedConv, FusedConvSettings, KernelSet};
use polypscope::engine::{Options, Precision, open_cpu};
use polypscope::model::{Architecture, Checkpoint, Role, checkpoint::Description, parameters};
use std::collections::HashMap;

fn paths() -> impl Iterator<Item = KernelSet> {
    [KernelSet::Avx2F32, KernelSet::Avx512F32, KernelSet::Avx512Bf16].into_iter().filter(|p| p.is_available())
}

fn kernels(c: &mut Criterion) {
    for (name, cin, out, k, size, algorithms) in [
        (
            "stem 3x3 32-64 at 176",
            32,
            64,
            3,
            176,
            &[Algorithm::Direct, Algorithm::Winograd2, Algorithm::Winograd4][..],
        ),
        ("layer1 1x1 256-104 at 88", 256, 104, 1, 88, &[Algorithm::Direct][..]),
        (
            "layer1 3x3 26-26 at 88",
            26,
            26,
            3,
            88,
            &[Algorithm::Direct, Algorithm::Winograd2, Algorithm::Winograd4],
        ),
        ("layer1 1x1 104-256 at 88", 104, 256, 1, 88, &[Algorithm::Direct]),
        ("layer3 1x1 1024-416 at 22", 1024, 416, 1, 22, &[Algorithm::Direct]),
        (
            "layer4 3x3 208-208 at 11",
            208,
            208,
            3,
            11,
            &[Algorithm::Direct, Algorithm::Winograd2, Algorithm::Winograd4],
        ),
        (
            "decoder 3x3 64-64 at 88",
            64,
            64,
            3,
            88,
            &[Algorithm::Direct, Algorithm::Winograd2, Algorithm::Winograd4],
        ),
    ] {
        let bound = (3.0 / (cin * k * k) as f64).sqrt() as f32;
        let weights = Tensor::rand(-bound, bound, (out, cin, k, k), &Device::Cpu).expect("weights");
        let x = Tensor::rand(0f32, 1.0, (1, cin, size, size), &Device::Cpu).expect("input");
        let mut group = c.benchmark_group(name);
        for path in paths() {
            for &algorithm in algorithms {
                let settings = FusedConvSettings {
                    path,
                    threads: 1,
                    algorithm,
                    stride: 1,
                    relu: true,
                    size: (size, size),
                };
                let conv =
                    FusedConv::new(&weights, &vec![1.0; out], &vec![0.1; out], settings).expect("a kernel");
                x.apply_op1_no_bwd(&conv).expect("a first run");
                group.throughput(Throughput::Elements(conv.macs()));
                group.bench_function(format!("{path}, {algorithm:?}"), |b| {
                    b.iter(|| conv.again().expect("a run"))
                });
            }
        }
        group.finish();
    }
}

/// Random parameters: speed does not depend on them.
fn checkpoint() -> Checkpoint {
    let architecture = Architecture::default();
    let tensors: HashMap<String, Tensor> = parameters(architecture)
        .into_iter()
        .map(|p| {
            let (low, high) = match p.role {
                Role::Kernel => {
                    let bound = (3.0 / p.shape[1..].iter().product::<usize>() as f64).sqrt() as f32;
                    (-bound, bound)
                }
                Role::Bias | Role::Norm => (0.5f32, 1.0),
            };
            (p.key, Tensor::rand(low, high, p.shape, &Device::Cpu).expect("a parameter"))
        })
        .collect();
    Checkpoint::from_tensors(Description::published("random", architecture), tensors).expect("a checkpoint")
}

fn frames(c: &mut Criterion) {
    let checkpoint = checkpoint();
    let mut group = c.benchmark_group("frame 352x352");
    group.sample_size(10);
    for precision in Precision::of_this_cpu(&checkpoint) {
        for threads in [Some(1), None] {
            let options = Options { precision, threads, ..Default::default() };
            let mut engine = open_cpu(&checkpoint, options).expect("an engine");
            let input: Vec<f32> = (0..3 * 352 * 352).map(|i| (i % 4093) as f32 / 1023.0 - 2.0).collect();
            let mut logits = vec![0.0; 352 * 352];
            group.throughput(Throughput::Elements(engine.macs()));
            group.bench_function(format!("{precision}, {} threads", engine.threads()), |b| {
                b.iter(|| engine.run_observed(black_box(&input), &mut logits, |_| ()).expect("a frame"))
            });
        }
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20).without_plots();
    targets = kernels, frames
}
criterion_main!(benches);
