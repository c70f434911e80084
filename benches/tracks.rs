//! What following detections costs a frame of 1280x720, on one core: looking at the picture (motion, gates), and the
//! tracks themselves, for usual maps and for the worst. `cargo bench --bench tracks`

// The macro that collects the benches makes a public function.
#![allow(missing_docs)]

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use polypscope::frame::{FrameId, Picture, PictureInfo, PixelFormat, Pts, Rect};
use polypscope::tracks::{Numbers, Scene, Tracks};

const SIDE: usize = 352;
const VIEW: Rect = Rect::new(280, 10, 720, 700);

/// A picture like tissue, moved by `shift` pixels: luma and chroma planes of 1280x720.
fn picture(shift: u32) -> Vec<u8> {
    let (w, h) = (1280u32, 720u32);
    let mut out = Vec::with_capacity((w * h * 3 / 2) as usize);
    for y in 0..h {
        for x in 0..w {
            let (u, v) = (f64::from(x + shift) * 0.02, f64::from(y) * 0.025);
            let wave = u.sin() * v.cos() + 0.4 * (2.3 * u - v).sin() + 0.3 * (7.1 * u + 5.3 * v).sin();
            out.push((110.0 + 45.0 * wave) as u8);
        }
    }
    out.extend(std::iter::repeat_n(100u8, (w * h / 4) as usize));
    out.extend(std::iter::repeat_n(165u8, (w * h / 4) as usize));
    out
}

/// Disks of radius `r` in a grid of `n` by `n`.
fn map(n: usize, r: f64) -> Vec<f32> {
    let pitch = SIDE as f64 / n as f64;
    (0..SIDE * SIDE)
        .map(|i| {
            let (x, y) = ((i % SIDE) as f64 % pitch - pitch / 2.0, (i / SIDE) as f64 % pitch - pitch / 2.0);
            (((r - x.hypot(y)) * 2.0) as f32).clamp(-6.0, 4.0)
        })
        .collect()
}

fn frame(c: &mut Criterion) {
    let mut group = c.benchmark_group("a frame");
    let pictures: Vec<Vec<u8>> = (0..16).map(|n| picture(4 * n)).collect();
    let info = PictureInfo::new(PixelFormat::I420, 1280, 720);
    let mut scene = Scene::default();
    let mut n = 0u64;
    group.bench_function("scene: motion and gates", |b| {
        b.iter(|| {
            n += 1;
            // Back and forth, so that nothing jumps.
            let k = (n % 30) as usize;
            let seen = Picture::packed(info, &pictures[if k < 15 { k } else { 30 - k }]);
            black_box(scene.look(FrameId(n), Pts(n * 33_333_333), seen.as_ref(), VIEW))
        });
    });
    for (name, map) in [
        ("tracks: nothing", vec![-6.0; SIDE * SIDE]),
        ("tracks: one polyp of a tenth of the view", map(1, 62.0)),
        ("tracks: the whole view", vec![4.0; SIDE * SIDE]),
        ("tracks: 49 regions", map(7, 12.0)),
        ("tracks: 1024 regions", map(32, 4.0)),
    ] {
        let mut tracks = Tracks::new(Numbers::BALANCED);
        group.bench_function(name, |b| {
            b.iter(|| {
                n += 1;
                let glance = polypscope::tracks::Glance {
                    frame: FrameId(2_000_000_000 + n),
                    pts: Pts(n * 33_333_333),
                    step_ns: 33_333_333,
                    moved: true,
                    ..Default::default()
                };
                tracks.observe(&mut scene, &glance, &map, (SIDE, SIDE), VIEW, (1280, 720), 0.0);
                black_box(tracks.map()[0])
            });
        });
    }
    group.finish();
}

criterion_group!(benches, frame);
criterion_main!(benches);
