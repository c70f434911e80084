//! Scoring: one pair of 1280x1024 under each protocol, its distance transform, and a folder of pairs on all cores and
//! on two. `cargo bench --bench evaluation`

// The macro that collects the benches makes a public function.
#![allow(missing_docs)]

use std::hint::black_box;
use std::path::Path;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use image::{GrayImage, Luma};
use polypscope::evaluation::images::{DataSet, Options, score};
use polypscope::evaluation::metrics::{Mask, Prediction, Protocol, Scorer, distance, plain};

const W: u32 = 1280;
const H: u32 = 1024;

/// Sigmoid of the distance to an ellipse, as a network's map looks, and its mask.
fn pair(i: u32) -> (GrayImage, GrayImage) {
    let at = |x: u32, y: u32, shift: f32| {
        let (cx, cy) = (300.0 + 60.0 * (i % 12) as f32 + shift, 250.0 + 45.0 * (i % 11) as f32);
        let (rx, ry) = (60.0 + 25.0 * (i % 9) as f32, 80.0 + 20.0 * (i % 7) as f32);
        let (dx, dy) = ((x as f32 - cx) / rx, (y as f32 - cy) / ry);
        1.0 - (dx * dx + dy * dy).sqrt()
    };
    let mask = GrayImage::from_fn(W, H, |x, y| Luma([if at(x, y, 0.0) > 0.0 { 255 } else { 0 }]));
    let map = GrayImage::from_fn(W, H, |x, y| {
        let wobble = ((x * 7 + y * 13 + i) % 5) as f32 * 0.01;
        Luma([(255.0 / (1.0 + (-9.0 * (at(x, y, 25.0) + wobble)).exp())) as u8])
    });
    (mask, map)
}

fn one_pair(c: &mut Criterion) {
    let (mask, map) = pair(5);
    let (w, h) = (W as usize, H as usize);
    let truth = Mask::from_levels(w, h, mask.as_raw()).expect("a mask of its size");
    let levels = Prediction::from_levels(w, h, map.as_raw().as_slice()).expect("a map of its size");
    let float: Vec<f32> = map.as_raw().iter().map(|&v| f32::from(v) / 255.0).collect();
    let float = Prediction::from_probability(w, h, float).expect("a map of its size");
    let mut group = c.benchmark_group("pair 1280x1024");
    for protocol in [Protocol::Published, Protocol::Thresholded { threshold: 0.5 }] {
        let mut scorer = Scorer::new(protocol).expect("a valid protocol");
        group.bench_function(format!("{} 8-bit", protocol.name()), |b| {
            b.iter(|| scorer.score(black_box(&levels), &truth).expect("scores"));
        });
        if protocol != Protocol::Published {
            group.bench_function(format!("{} f32", protocol.name()), |b| {
                b.iter(|| scorer.score(black_box(&float), &truth).expect("scores"));
            });
        }
    }
    group.bench_function("distance transform", |b| b.iter(|| distance::transform(black_box(&truth))));
    group.finish();
}

/// The plain formulas are quadratic in the picture: compared at a size where they end.
fn fast_and_plain(c: &mut Criterion) {
    let (mask, map) = pair(5);
    let small =
        |p: &GrayImage| image::imageops::resize(p, 80, 64, image::imageops::FilterType::Nearest).into_raw();
    let (mask, map) = (small(&mask), small(&map));
    let truth = Mask::from_levels(80, 64, &mask).expect("a mask of its size");
    let levels = Prediction::from_levels(80, 64, map.as_slice()).expect("a map of its size");
    let mut scorer = Scorer::new(Protocol::Published).expect("a valid protocol");
    let mut group = c.benchmark_group("pair 80x64");
    group.sample_size(10);
    group.bench_function("fast", |b| b.iter(|| scorer.score(black_box(&levels), &truth).expect("scores")));
    group.bench_function("plain", |b| {
        b.iter(|| plain::figures_of_levels(Protocol::Published, black_box(&map), &truth));
    });
    group.finish();
}

fn folder(c: &mut Criterion) {
    const PAIRS: u32 = 100;
    let root = tempfile::tempdir().expect("a temporary folder");
    let path = |side: &str| root.path().join(side);
    for side in ["masks", "predictions"] {
        std::fs::create_dir(path(side)).expect("a folder");
    }
    for i in 0..PAIRS {
        let save = |side: &str, picture: &GrayImage| {
            picture.save(Path::new(&path(side)).join(format!("{i:03}.png"))).expect("a file");
        };
        let (mask, map) = pair(i);
        save("masks", &mask);
        save("predictions", &map);
    }
    let set = DataSet {
        name: "bench".into(),
        masks: path("masks"),
        predictions: Some(path("predictions")),
        images: None,
    };
    let mut group = c.benchmark_group("folder");
    group.sample_size(10).throughput(Throughput::Elements(u64::from(PAIRS)));
    group.bench_function("100 pairs of 1280x1024", |b| {
        b.iter(|| score(&set, &Options::default(), None, &mut |_| Ok(())).expect("scores"));
    });
    // The promise of the command is a thousand such pairs in under a minute on two cores: six seconds for these.
    let two = rayon::ThreadPoolBuilder::new().num_threads(2).build().expect("two threads");
    for protocol in [Protocol::Published, Protocol::Thresholded { threshold: 0.5 }] {
        let options = Options { protocol, ..Options::default() };
        group.bench_function(format!("100 pairs of 1280x1024, {}, two threads", protocol.name()), |b| {
            b.iter(|| two.install(|| score(&set, &options, None, &mut |_| Ok(())).expect("scores")));
        });
    }
    group.finish();
}

criterion_group!(benches, one_pair, fast_and_plain, folder);
criterion_main!(benches);
