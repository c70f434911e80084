//! Every kernel against its definition on random input, and the whole network against the CPU engine.
//!
//! On a machine without a GPU a processor plays the device (see `emulated`); with the feature `cuda` and a GPU the same
//! tests run there too.

use half::f16;

use super::assemble::{Assembly, Finish, Source};
use super::emulated::Emulated;
use super::launch::{Device, Kernel, Launch, bytes_of};
use super::lower::{Plan, Site, lower};
use super::pack::Spread;
use super::params::{Address, CONVS, Join, Pool, Statistics, Subtract};
use super::picture::{PictureStage, marks_len, spread_marks};
use super::tile::{Cut, Size, Tile};
use crate::engine::cpu::{Cpu, KernelSet, Settings};
use crate::engine::folded_conv::Layer;
use crate::engine::node_tests;
use crate::engine::random::Random;
use crate::engine::{Network, Shape};
use crate::frame::resize::{Filter, Resampler};
use crate::frame::{Colorimetry, FieldOrder, Matrix, Picture, PictureInfo, PixelFormat, Rect, packed_len};
use crate::model::{self, Architecture, Checkpoint, Variant};
use crate::postprocess::{Thresholder, Upsampler};
use crate::program::{self, Program};
use crate::skipped::skip;

impl Random {
    fn units(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| self.unit()).collect()
    }

    /// Values f16 holds.
    fn halves(&mut self, n: usize) -> Vec<f16> {
        (0..n).map(|_| f16::from_f32(self.unit())).collect()
    }
}

/// Runs a test on the emulated device, forwards and backwards, and on the GPU where there is one.
fn on_devices(mut test: impl FnMut(&mut dyn Device)) {
    if let Some(mut emulated) = Emulated::new() {
        for backwards in [false, true] {
            emulated.backwards(backwards);
            test(&mut emulated);
            emulated.check_guards();
        }
        emulated.backwards(false);
    }
    #[cfg(feature = "cuda")]
    match super::driver::Gpu::open(0) {
        Ok(mut gpu) => test(&mut gpu),
        Err(e) => skip("gpu", format_args!("kernels are not run on a GPU: {e}")),
    }
}

fn put<T: Copy>(device: &mut dyn Device, values: &[T]) -> Address {
    let at = device.allocate(size_of_val(values)).expect("memory");
    device.upload(at, bytes_of(values)).expect("an upload");
    at
}

fn get<T: Copy + Default>(device: &mut dyn Device, from: Address, n: usize) -> Vec<T> {
    let mut values = vec![T::default(); n];
    // SAFETY: plain numbers.
    let bytes =
        unsafe { std::slice::from_raw_parts_mut(values.as_mut_ptr().cast::<u8>(), n * size_of::<T>()) };
    device.download(from, bytes).expect("a download");
    values
}

/// A map with random values where its channels are real, and zeros between.
fn random_map(r: &mut Random, pixels: usize, spread: Spread) -> Vec<f16> {
    let mut map = vec![f16::ZERO; pixels * spread.stored()];
    for p in 0..pixels {
        for g in 0..spread.groups {
            for c in 0..spread.each {
                map[p * spread.stored() + g * spread.padded() + c] = f16::from_f32(r.unit());
            }
        }
    }
    map
}

fn random_layer(r: &mut Random, out: usize, cin: usize, kernel: usize) -> Layer {
    let weights = r.units(out * cin * kernel * kernel);
    let scale = r.units(out).iter().map(|v| 0.1 + v.abs() * 0.2).collect();
    Layer { out, cin, kernel, weights, scale, shift: r.units(out) }
}

/// The definition: sums in f64, at output pixel (y, x) and stored channel.
fn convolved(parts: &[(&[f16], usize, usize, usize, &Layer, Spread)], y: usize, x: usize, o: usize) -> f64 {
    let mut total = 0.0;
    for (map, height, width, stride, layer, spread) in parts {
        let (k, reach) = (layer.kernel as isize, (layer.kernel / 2) as isize);
        let mut sum = 0.0;
        for ky in 0..k {
            for kx in 0..k {
                let (sy, sx) = ((y * stride) as isize + ky - reach, (x * stride) as isize + kx - reach);
                if sy < 0 || sx < 0 || sy >= *height as isize || sx >= *width as isize {
                    continue;
                }
                let at = (sy as usize * width + sx as usize) * spread.stored();
                for c in 0..layer.cin {
                    let v = map[at + c / spread.each * spread.padded() + c % spread.each].to_f64();
                    let tap = (ky * k + kx) as usize;
                    sum += v * f64::from(layer.weights[(o * layer.cin + c) * (k * k) as usize + tap]);
                }
            }
        }
        total += sum * f64::from(layer.scale[o]) + f64::from(layer.shift[o]);
    }
    total
}

fn near(got: f32, want: f64, size: f64, what: impl FnOnce() -> String) {
    // f16 weights and results, f32 sums.
    let allowed = 4e-3 * size.max(1.0);
    assert!((f64::from(got) - want).abs() <= allowed, "{}: {got} is not {want} ± {allowed}", what());
}

/// One convolution of random shape with everything a finish can ask for, cut every way there is.
#[test]
fn convolutions_follow_their_definition() {
    on_devices(|device| {
        let mut r = Random(7);
        for case in 0..14 {
            let kernel = [1, 3][case % 2];
            let stride = if case % 4 == 3 { 2 } else { 1 };
            let (h, w) = (r.between(1, 9) * stride, r.between(1, 13) * stride);
            let two = kernel == 1 && case % 3 == 0;
            let whole = case % 5 == 1;
            let spread =
                Spread { each: r.between(1, 30), groups: if kernel == 1 { r.between(1, 4) } else { 1 } };
            let out = if whole { Spread::plain(64) } else { Spread::plain(r.between(1, 90)) };
            let (oh, ow) = (h / stride, w / stride);
            let pixels = oh * ow;
            let layer = random_layer(&mut r, out.each, spread.each * spread.groups, kernel);
            let map = random_map(&mut r, h * w, spread);
            let other_spread = Spread::plain(r.between(1, 70));
            let other = random_layer(&mut r, out.each, other_spread.each, 1);
            let other_map = random_map(&mut r, pixels, other_spread);
            let residual = r.halves(pixels * out.stored());
            let addend = r.halves(pixels * out.stored());
            let split_at = if case % 7 == 2 { out.stored() / 16 * 8 } else { usize::MAX };

            let source = super::maps::View { address: put(device, &map), pitch: spread.stored() };
            let other_view =
                super::maps::View { address: put(device, &other_map), pitch: other_spread.stored() };
            let view = |address| super::maps::View { address, pitch: out.stored() };
            let residual_at = put(device, &residual);
            let addend_at = put(device, &addend);
            let nan = vec![f16::NAN; pixels * out.stored()];

            let mut assembly = Assembly::new(device).expect("an assembly");
            let mut parts = vec![(Source { view: source, height: h, width: w, spread, stride }, &layer)];
            if two {
                let s = Source { view: other_view, height: oh, width: ow, spread: other_spread, stride: 1 };
                parts.push((s, &other));
            }
            let out_at = assembly.constant(&nan).expect("memory");
            let rest_at = assembly.constant(&nan).expect("memory");
            let also_at = assembly.constant(&nan).expect("memory");
            let sum_at = assembly.plane(oh, ow, 1).expect("memory");
            let finish = Finish {
                residual: (case % 2 == 0).then(|| view(residual_at)),
                out: Some(view(out_at)),
                rest: (split_at != usize::MAX).then(|| (split_at, view(rest_at))),
                also: (split_at == usize::MAX).then(|| (view(addend_at), view(also_at))),
                sum: whole.then_some(sum_at),
            };
            assembly.conv(&parts, out, (oh, ow), finish).expect("a convolution");
            let length = assembly.length_of_jobs();
            let size = Size { pixels, channels: out.stored(), length, whole };
            let mut cuts = Vec::new();
            for tile in Tile::ALL {
                let most = length / tile.shape().step;
                for splits in [1, 2, 3, most] {
                    if splits <= most && (!whole || tile.shape().columns == 64) {
                        cuts.push(Cut { tile, splits: vec![splits] });
                    }
                }
            }
            let launches: Vec<Launch> = cuts.iter().map(|c| assembly.cut_jobs(&[size], c)).collect();
            drop(assembly);
            let defined: Vec<(&[f16], usize, usize, usize, &Layer, Spread)> = {
                let mut d = vec![(&map[..], h, w, stride, &layer, spread)];
                if two {
                    d.push((&other_map[..], oh, ow, 1, &other, other_spread));
                }
                d
            };
            let wanted: Vec<f64> = (0..pixels)
                .flat_map(|p| {
                    let (defined, residual) = (&defined, &residual);
                    (0..out.each).map(move |o| {
                        let mut v = convolved(defined, p / ow, p % ow, o);
                        if case % 2 == 0 {
                            v += residual[p * out.stored() + o].to_f64();
                        }
                        v.max(0.0)
                    })
                })
                .collect();
            let largest = wanted.iter().fold(1.0, |m: f64, v| m.max(v.abs()));
            for (cut, launch) in cuts.iter().zip(&launches) {
                for at in [out_at, rest_at, also_at] {
                    device.upload(at, bytes_of(&nan)).expect("an upload");
                }
                // Twice: the second run finds what the first left behind.
                for _ in 0..2 {
                    device.launch(launch).expect("a launch");
                }
                let result: Vec<u16> = get(device, out_at, pixels * out.stored());
                let rest: Vec<u16> = get(device, rest_at, pixels * out.stored());
                let also: Vec<u16> = get(device, also_at, pixels * out.stored());
                let sums: Vec<f32> = get(device, sum_at, pixels);
                let at = |v: &[u16], i: usize| f16::from_bits(v[i]).to_f32();
                for p in 0..pixels {
                    let mut total = 0.0;
                    for o in 0..out.stored() {
                        let want = if o < out.each {
                            wanted[p * out.each + o]
                        } else {
                            if case % 2 == 0 { residual[p * out.stored() + o].to_f64().max(0.0) } else { 0.0 }
                        };
                        total += want;
                        let here = || format!("case {case}, {cut:?}, pixel {p}, channel {o}");
                        let i = p * out.stored() + o;
                        if o >= split_at {
                            near(at(&rest, i - split_at), want, largest, here);
                            assert!(at(&result, i).is_nan(), "{}: written", here());
                        } else {
                            near(at(&result, i), want, largest, here);
                        }
                        if split_at == usize::MAX {
                            near(at(&also, i), want + addend[i].to_f64(), largest, here);
                        }
                    }
                    if whole {
                        near(sums[p], total, 8.0 * largest, || {
                            format!("case {case}, {cut:?}, sum of pixel {p}")
                        });
                    }
                }
            }
        }
    });
}

/// Several convolutions of one launch do what each alone would.
#[test]
fn convolutions_of_one_launch_do_not_mix() {
    on_devices(|device| {
        let mut r = Random(3);
        let spread = Spread::plain(16);
        let layers: Vec<Layer> = (0..CONVS).map(|i| random_layer(&mut r, 64, 16, [3, 1][i % 2])).collect();
        let sizes: Vec<(usize, usize)> = (0..CONVS).map(|_| (r.between(1, 11), r.between(1, 11))).collect();
        let maps: Vec<Vec<f16>> = sizes.iter().map(|(h, w)| random_map(&mut r, h * w, spread)).collect();
        let views: Vec<super::maps::View> =
            maps.iter().map(|m| super::maps::View { address: put(device, m), pitch: 16 }).collect();
        let mut assembly = Assembly::new(device).expect("an assembly");
        let mut outs = Vec::new();
        for i in 0..CONVS {
            let (h, w) = sizes[i];
            let out = assembly.constant(&vec![f16::NAN; h * w * 64]).expect("memory");
            outs.push(out);
            let source = Source { view: views[i], height: h, width: w, spread, stride: 1 };
            let finish =
                Finish { out: Some(super::maps::View { address: out, pitch: 64 }), ..Default::default() };
            assembly.conv(&[(source, &layers[i])], Spread::plain(64), (h, w), finish).expect("a convolution");
        }
        assembly.wave().expect("a wave");
        assert_eq!(assembly.steps.len(), 1);
        let launch = assembly.steps[0].launch.clone();
        drop(assembly);
        device.launch(&launch).expect("a launch");
        for i in 0..CONVS {
            let (h, w) = sizes[i];
            let result: Vec<u16> = get(device, outs[i], h * w * 64);
            let parts = [(&maps[i][..], h, w, 1, &layers[i], spread)];
            for p in 0..h * w {
                for o in 0..64 {
                    let want = convolved(&parts, p / w, p % w, o).max(0.0);
                    near(f16::from_bits(result[p * 64 + o]).to_f32(), want, want, || format!("{i} {p} {o}"));
                }
            }
        }
    });
}

/// `align_corners = false`, in f64.
fn resized(
    map: &[f64],
    (h, w): (usize, usize),
    channels: usize,
    (th, tw): (usize, usize),
    y: usize,
    x: usize,
    c: usize,
) -> f64 {
    let place = |i: usize, from: usize, to: usize| {
        let at = (from as f64 / to as f64 * (i as f64 + 0.5) - 0.5).max(0.0);
        let low = (at as usize).min(from - 1);
        (low, (low + 1).min(from - 1), at - low as f64)
    };
    let ((y0, y1, fy), (x0, x1, fx)) = (place(y, h, th), place(x, w, tw));
    let at = |y: usize, x: usize| map[(y * w + x) * channels + c];
    let upper = at(y0, x0) * (1.0 - fx) + at(y0, x1) * fx;
    let lower = at(y1, x0) * (1.0 - fx) + at(y1, x1) * fx;
    upper * (1.0 - fy) + lower * fy
}

#[test]
fn subtraction_units_follow_their_definition() {
    on_devices(|device| {
        let mut r = Random(11);
        let terms = r.units(256);
        let terms_at = put(device, &terms);
        let mut units = Vec::new();
        for case in 0..4 {
            let (h, w) = (r.between(1, 20), r.between(1, 20));
            let (ah, aw) = if case == 1 { (h, w) } else { (r.between(1, h), r.between(1, w)) };
            let (a, b) = (r.halves(ah * aw * 64), r.halves(h * w * 64));
            let sums = |m: &[f16]| -> Vec<f32> {
                m.chunks(64).map(|p| p.iter().map(|v| v.to_f32()).sum()).collect()
            };
            let (a_sum, b_sum) = (sums(&a), sums(&b));
            let out = put(device, &vec![f16::NAN; h * w * 64]);
            let unit = Subtract {
                a: put(device, &a),
                b: put(device, &b),
                out,
                a_sum: put(device, &a_sum),
                b_sum: put(device, &b_sum),
                terms: if case == 2 { 0 } else { terms_at },
                a_height: ah as i32,
                a_width: aw as i32,
                height: h as i32,
                width: w as i32,
                ..Default::default()
            };
            units.push((unit, a, b, a_sum, b_sum, (ah, aw), (h, w), out));
        }
        let mut assembly = Assembly::new(device).expect("an assembly");
        for u in &units {
            assembly.unit(u.0);
        }
        assembly.wave().expect("a wave");
        let launch = assembly.steps[0].launch.clone();
        drop(assembly);
        device.launch(&launch).expect("a launch");
        for (case, (unit, a, b, a_sum, b_sum, from, (h, w), out)) in units.iter().enumerate() {
            let result: Vec<u16> = get(device, *out, h * w * 64);
            let wide = |v: &[f16]| -> Vec<f64> { v.iter().map(|v| v.to_f64()).collect() };
            let (a, b) = (wide(a), wide(b));
            let a_sum: Vec<f64> = a_sum.iter().map(|v| f64::from(*v)).collect();
            let plane = |of_a: bool, y: isize, x: isize| {
                if y < 0 || x < 0 || y >= *h as isize || x >= *w as isize {
                    return 0.0;
                }
                let (y, x) = (y as usize, x as usize);
                if of_a { resized(&a_sum, *from, 1, (*h, *w), y, x, 0) } else { f64::from(b_sum[y * w + x]) }
            };
            let boxed = |of_a: bool, y: usize, x: usize, reach: isize| -> f64 {
                (-reach..=reach)
                    .flat_map(|dy| (-reach..=reach).map(move |dx| (dy, dx)))
                    .map(|(dy, dx)| plane(of_a, y as isize + dy, x as isize + dx))
                    .sum()
            };
            for y in 0..*h {
                for x in 0..*w {
                    let sums = [1, 2].map(|k| (boxed(true, y, x, k), boxed(false, y, x, k)));
                    for c in 0..64 {
                        let mut want =
                            (resized(&a, *from, 64, (*h, *w), y, x, c) - b[(y * w + x) * 64 + c]).abs();
                        if unit.terms != 0 {
                            for (g, (of_a, of_b)) in sums.iter().enumerate() {
                                let (alpha, beta) =
                                    (f64::from(terms[g * 128 + c]), f64::from(terms[g * 128 + 64 + c]));
                                want +=
                                    ((alpha * of_a + beta).max(0.0) - (alpha * of_b + beta).max(0.0)).abs();
                            }
                        }
                        let got = f16::from_bits(result[(y * w + x) * 64 + c]).to_f32();
                        near(got, want, want, || format!("unit {case}, {y} {x} {c}"));
                    }
                }
            }
        }
    });
}

#[test]
fn pools_and_joins_follow_their_definition() {
    on_devices(|device| {
        let mut r = Random(5);
        for case in 0..8 {
            let (kind, stride) = [(0, 2), (1, 1), (1, 2), (2, 2)][case % 4];
            let (h, w) = (2 * r.between(1, 7), 2 * r.between(1, 7));
            let (oh, ow) = (h / stride, w / stride);
            let channels = if kind == 0 { 64 } else { 8 * r.between(1, 5) };
            let source: Vec<f16> =
                r.halves(h * w * channels).iter().map(|v| f16::from_f32(v.to_f32().abs())).collect();
            let out = put(device, &vec![f16::NAN; oh * ow * channels]);
            let sum = put(device, &vec![f32::NAN; oh * ow]);
            let pool = Pool {
                source: put(device, &source),
                out,
                sum: if kind == 0 { sum } else { 0 },
                source_pitch: channels as i32,
                out_pitch: channels as i32,
                channels: channels as i32,
                source_height: h as i32,
                source_width: w as i32,
                height: oh as i32,
                width: ow as i32,
                kind,
                stride: stride as i32,
                unused: 0,
            };
            device.launch(&Launch::each(Kernel::Pool, oh * ow * channels / 8, pool)).expect("a launch");
            let result: Vec<u16> = get(device, out, oh * ow * channels);
            let sums: Vec<f32> = get(device, sum, oh * ow);
            for p in 0..oh * ow {
                let (y, x) = ((p / ow * stride) as isize, (p % ow * stride) as isize);
                let mut total = 0.0;
                for c in 0..channels {
                    let reach = if kind == 2 { 0..2 } else { -1..2 };
                    let (mut most, mut all) = (0.0f64, 0.0);
                    for dy in reach.clone() {
                        for dx in reach.clone() {
                            let (sy, sx) = (y + dy, x + dx);
                            if sy >= 0 && sx >= 0 && sy < h as isize && sx < w as isize {
                                let v = source[(sy as usize * w + sx as usize) * channels + c].to_f64();
                                most = most.max(v);
                                all += v;
                            }
                        }
                    }
                    let want = match kind {
                        0 => most,
                        1 => all / 9.0,
                        _ => all / 4.0,
                    };
                    total += want;
                    let got = f16::from_bits(result[p * channels + c]).to_f32();
                    near(got, want, want, || format!("pool {kind}, {p} {c}"));
                }
                if kind == 0 {
                    near(sums[p], total, total, || format!("sum of {p}"));
                }
            }
        }
        for _ in 0..3 {
            let (h, w) = (r.between(1, 17), r.between(1, 17));
            let (ch, cw) = (r.between(1, h), r.between(1, w));
            let (coarse, fine) = (r.halves(ch * cw * 64), r.halves(h * w * 64));
            let out = put(device, &vec![f16::NAN; h * w * 64]);
            let join = Join {
                coarse: put(device, &coarse),
                fine: put(device, &fine),
                out,
                coarse_height: ch as i32,
                coarse_width: cw as i32,
                height: h as i32,
                width: w as i32,
            };
            device.launch(&Launch::each(Kernel::Join, h * w * 8, join)).expect("a launch");
            let result: Vec<u16> = get(device, out, h * w * 64);
            let coarse: Vec<f64> = coarse.iter().map(|v| v.to_f64()).collect();
            for (i, got) in result.iter().enumerate() {
                let (p, c) = (i / 64, i % 64);
                let want = resized(&coarse, (ch, cw), 64, (h, w), p / w, p % w, c) + fine[i].to_f64();
                near(f16::from_bits(*got).to_f32(), want, want, || format!("join {p} {c}"));
            }
        }
    });
}

fn shipped() -> Checkpoint {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("weights/m2snet-polyp.safetensors");
    Checkpoint::open(&path).expect("the shipped checkpoint")
}

/// The engine's program for a checkpoint.
fn fused(checkpoint: &Checkpoint, size: (usize, usize)) -> Program {
    program::fuse(model::program(checkpoint.architecture(), size))
}

fn run_plan(device: &mut dyn Device, plan: &Plan, shape: Shape, input: &[f32]) -> (Vec<f32>, Statistics) {
    device.upload(plan.planes, bytes_of(input)).expect("an upload");
    device.launch(&plan.enter).expect("a launch");
    for step in &plan.steps {
        device.launch(&step.launch).unwrap_or_else(|e| panic!("{}: {e}", step.label));
    }
    let statistics = get::<u32>(device, plan.statistics, 8);
    let found = Statistics { broken: statistics[0], ..Default::default() };
    (get(device, plan.logits, shape.logits_len()), found)
}

/// The whole network with the shipped parameters, twice over the same memory, against the CPU engine in f32.
#[test]
fn the_network_gives_the_cpu_engines_logits() {
    let checkpoint = shipped();
    let (height, width) = (64, 96);
    let settings =
        Settings { path: KernelSet::best_f32(), threads: Some(1), size: Some((height, width)), nice: 0 };
    let mut cpu = Cpu::new(&checkpoint, settings).expect("the CPU engine");
    let shape = cpu.shape();
    on_devices(|device| {
        let mut r = Random(19);
        let plan = lower(&fused(&checkpoint, (height, width)), &checkpoint, device).expect("a plan");
        assert_eq!(plan.steps.len(), 101);
        assert_eq!(plan.steps.iter().map(|s| s.macs).sum::<u64>(), cpu.macs());
        assert!(plan.steps.iter().all(|s| s.bytes > 0 && !s.group.is_empty()));
        assert!(plan.bytes.0 > 0 && plan.bytes.1 > 0);
        for frame in 0..2 {
            // Blobs, not noise: noise has no structure a network reacts to.
            let (cy, cx, size) = (r.unit() * 20.0 + 32.0, r.unit() * 30.0 + 48.0, 8.0 + r.unit() * 4.0);
            let tint = r.units(3);
            let input: Vec<f32> = (0..shape.input_len())
                .map(|i| {
                    let (c, y, x) = (i / (height * width), i / width % height, i % width);
                    let d = ((y as f32 - cy).powi(2) + (x as f32 - cx).powi(2)) / size.powi(2);
                    tint[c] + 1.5 * (-d).exp() + 0.1 * r.unit()
                })
                .collect();
            let mut wanted = vec![0.0; shape.logits_len()];
            cpu.run(&input, &mut wanted).expect("a frame");
            let (got, statistics) = run_plan(device, &plan, shape, &input);
            assert_eq!(statistics.broken, 0);
            let top = wanted.iter().fold(0.0, |m: f32, v| m.max(v.abs()));
            let worst = wanted.iter().zip(&got).fold(0.0, |m: f32, (a, b)| {
                assert!(b.is_finite());
                m.max((a - b).abs())
            });
            assert!(worst <= 0.02 * top, "frame {frame}: off by {worst}, the largest logit being {top}");
        }
        // What is not a number comes out as such, and is said.
        let broken = vec![f32::NAN; shape.input_len()];
        let (_, statistics) = run_plan(device, &plan, shape, &broken);
        assert_ne!(statistics.broken, 0);
    });
}

/// Both published networks and one of a test, value by value, against the f64 interpreter.
#[test]
fn every_value_is_the_interpreters() {
    let mut r = Random(47);
    let size = (32, 64);
    for (variant, other) in [(Variant::M2SNet, false), (Variant::MSNet, false), (Variant::MSNet, true)] {
        let architecture = Architecture { variant, classes: 1 };
        let checkpoint = node_tests::checkpoint(architecture, &mut r);
        let published = match other {
            true => node_tests::msnet_without_one_unit(size),
            false => model::program(architecture, size),
        };
        let input = node_tests::input(&published, &mut r);
        let program = program::fuse(published);
        let want = node_tests::interpret(&program, &checkpoint, &input);
        on_devices(|device| {
            let plan = lower(&program, &checkpoint, device).expect("a plan");
            device.upload(plan.planes, bytes_of(&input)).expect("an upload");
            device.launch(&plan.enter).expect("a launch");
            let mut seen = 0;
            for done in 0..=plan.steps.len() {
                if done > 0 {
                    device.launch(&plan.steps[done - 1].launch).expect("a launch");
                }
                for (_, value, site) in plan.probes.iter().filter(|(step, ..)| *step == done) {
                    let fact = program.fact(*value);
                    let pixels = fact.height * fact.width;
                    let got: Vec<f64> = match site {
                        Site::Planes(at) => {
                            get::<f32>(device, *at, fact.len()).into_iter().map(f64::from).collect()
                        }
                        Site::Map(view, spread) => {
                            // The last pixel ends with its own channels.
                            let places: Vec<usize> = (0..fact.channels).map(|c| spread.place(c)).collect();
                            let last = places[fact.channels - 1] + 1;
                            let stored = get::<u16>(device, view.address, (pixels - 1) * view.pitch + last);
                            let at = |c: usize, p: usize| stored[p * view.pitch + places[c]];
                            (0..fact.len())
                                .map(|i| f16::from_bits(at(i / pixels, i % pixels)).to_f64())
                                .collect()
                        }
                    };
                    let want = want[value.index()].as_ref().expect("the interpreter has it");
                    let d = node_tests::deviation(got.into_iter(), want);
                    assert!(d < 1e-2, "{}: off by {d:e}", fact.name);
                    seen += 1;
                }
            }
            assert!(seen > 120, "only {seen} values were seen");
        });
    }
}

/// Every layout, fields, odd sizes and views: the plain steps' bytes, normalised.
#[test]
fn pictures_become_the_plain_steps_input() {
    let checkpoint = shipped();
    let shape = Shape { height: 32, width: 64, classes: 1 };
    let description = checkpoint.description().clone();
    on_devices(|device| {
        let plan =
            lower(&fused(&checkpoint, (shape.height, shape.width)), &checkpoint, device).expect("a plan");
        let mut stage = PictureStage::new(&description);
        let mut r = Random(23);
        for (n, format) in PixelFormat::ALL.into_iter().enumerate() {
            for case in 0..3 {
                let (w, h) = (r.between(3, 150) as u32, r.between(3, 90) as u32);
                let mut info = PictureInfo::new(format, w, h);
                info.colorimetry = Colorimetry {
                    matrix: [Matrix::Bt601, Matrix::Bt709, Matrix::Bt2020][(n + case) % 3],
                    full_range: (n + case) % 2 == 0,
                };
                info.fields = [FieldOrder::Progressive, FieldOrder::TopFirst, FieldOrder::BottomFirst][case];
                let bytes: Vec<u8> = (0..packed_len(&info)).map(|_| r.below(256) as u8).collect();
                let picture = Picture::packed(info, &bytes).expect("long enough");
                let (x, y) = (r.below(w as usize) as u32, r.below(h as usize) as u32);
                let view = if case == 0 {
                    Rect::full(w, h)
                } else {
                    let (vw, vh) =
                        (1 + r.below((w - x) as usize) as u32, 1 + r.below((h - y) as usize) as u32);
                    Rect::new(x, y, vw, vh)
                };
                assert!(stage.prepare(device, &plan, shape, &picture, view, 0.0).expect("launches"));
                assert!(!stage.prepare(device, &plan, shape, &picture, view, 0.0).expect("launches"));
                let mut packed = vec![0; packed_len(&info)];
                picture.pack_into(&mut packed).expect("long enough");
                assert_eq!(packed, bytes);
                device.upload(stage.picture(), &packed).expect("an upload");
                for launch in stage.before() {
                    device.launch(launch).expect("a launch");
                }
                let got: Vec<u16> = get(device, plan.input, shape.height * shape.width * 8);
                let mut wanted = vec![0; 3 * shape.height * shape.width];
                let filter = Filter::from(description.resize);
                Resampler::new(filter).run(&picture, view, shape.width, shape.height, &mut wanted);
                for (p, pixel) in wanted.chunks_exact(3).enumerate() {
                    for c in 0..8 {
                        let want = match pixel.get(c) {
                            Some(v) => (f32::from(*v) / 255.0 - description.mean[c]) / description.std[c],
                            None => 0.0,
                        };
                        let got = f16::from_bits(got[p * 8 + c]).to_f32();
                        assert!(
                            (got - want).abs() <= 2e-3,
                            "{info:?} {view} pixel {p}, {c}: {got} is not {want}"
                        );
                    }
                }
            }
        }
    });
}

/// Marked pixels, their number, rectangle and largest logit: the plain steps'.
#[test]
fn marks_are_the_plain_steps_marks() {
    let checkpoint = shipped();
    let shape = Shape { height: 32, width: 32, classes: 1 };
    on_devices(|device| {
        let plan =
            lower(&fused(&checkpoint, (shape.height, shape.width)), &checkpoint, device).expect("a plan");
        let mut stage = PictureStage::new(checkpoint.description());
        let mut r = Random(29);
        for case in 0..6 {
            let (w, h) = (r.between(20, 200) as u32, r.between(20, 140) as u32);
            let info = PictureInfo::new(PixelFormat::Gray8, w, h);
            let bytes = vec![90; packed_len(&info)];
            let picture = Picture::packed(info, &bytes).expect("long enough");
            let view = Rect::new(3, 5, w - 7, h - 6);
            let level = if case == 5 { 50.0 } else { r.unit() };
            let noise = r.units(shape.logits_len());
            let logits: Vec<f32> = (0..shape.logits_len())
                .map(|i| 4.0 * ((i % 32) as f32 / 5.0).sin() * ((i / 32) as f32 / 7.0).cos() + noise[i])
                .collect();
            stage.prepare(device, &plan, shape, &picture, view, level).expect("launches");
            for launch in stage.before() {
                device.launch(launch).expect("a launch");
            }
            device.upload(plan.logits, bytes_of(&logits)).expect("an upload");
            for launch in stage.after() {
                device.launch(launch).expect("a launch");
            }
            let (vh, vw) = (view.h as usize, view.w as usize);
            let mut large = Vec::new();
            Upsampler::default().run(&logits, 1, (32, 32), (vh, vw), |_, row| large.extend_from_slice(row));
            let marks: Vec<u8> = get(device, stage.inside(), marks_len(view));
            let mut got = vec![0; vh * vw];
            spread_marks(&marks, vw, &mut got);
            for (i, v) in large.iter().enumerate() {
                // Positions are f32 on the device.
                assert!((v - level).abs() < 1e-3 || got[i] == u8::from(*v >= level), "pixel {i}: {v}");
            }
            let s: Vec<u32> = get(device, plan.statistics, 8);
            let xs = || {
                got.iter()
                    .enumerate()
                    .filter(|(_, g)| **g != 0)
                    .map(|(i, _)| ((i % vw) as u32, (i / vw) as u32))
            };
            assert_eq!(s[1] as usize, xs().count());
            if s[1] > 0 {
                let want = [
                    xs().map(|p| p.0).min().unwrap(),
                    xs().map(|p| p.1).min().unwrap(),
                    xs().map(|p| p.0).max().unwrap() + 1,
                    xs().map(|p| p.1).max().unwrap() + 1,
                ];
                assert_eq!(s[2..6], want);
            }
            let (mut inside, mut values) = (vec![0; vh * vw], vec![0.0; vh * vw]);
            let found =
                Thresholder::default().run(&logits, 1, (32, 32), (vh, vw), level, &mut inside, &mut values);
            let highest = super::picture::unsorted(s[6]);
            assert!((highest - found.top).abs() < 1e-3, "{highest} is not {}", found.top);
        }
    });
}

/// Real pictures through everything, bytes to marks, at the full input size: f16 against the CPU engine in f32. Minutes
/// on a played device, so not among the daily tests: `make test-long` runs it where there is a card, and
/// `cargo tests --lib real_pictures -- --ignored --nocapture` anywhere; POLYPSCOPE_PICTURES is another number of
/// pictures than 8.
#[test]
#[ignore = "takes minutes where a processor plays the device"]
#[allow(clippy::print_stderr)]
fn real_pictures_keep_their_masks() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/images/kvasir/images");
    let Ok(entries) = std::fs::read_dir(&folder) else {
        return skip("shared", format_args!("{} is not here", folder.display()));
    };
    let mut files: Vec<_> = entries.map(|e| e.expect("an entry").path()).collect();
    files.sort();
    let wanted = std::env::var("POLYPSCOPE_PICTURES").ok().and_then(|n| n.parse().ok()).unwrap_or(8);
    // Spread over the folder.
    let step = (files.len() / wanted).max(1);
    let files: Vec<_> = files.into_iter().step_by(step).take(wanted).collect();
    let checkpoint = shipped();
    let mut cpu =
        Cpu::new(&checkpoint, Settings { path: KernelSet::best_f32(), threads: None, size: None, nice: 0 })
            .expect("the CPU engine");
    let shape = cpu.shape();
    let description = checkpoint.description();
    let level = crate::postprocess::logit(description.threshold);
    let cases: Vec<_> = files
        .iter()
        .map(|file| {
            let image = image::open(file).expect("a picture").to_rgb8();
            let info = PictureInfo::new(PixelFormat::Rgb, image.width(), image.height());
            let view = Rect::full(info.width, info.height);
            let mut input = vec![0.0; shape.input_len()];
            let mut small = vec![0; shape.input_len()];
            let filter = Filter::from(description.resize);
            let picture = Picture::packed(info, image.as_raw()).expect("long enough");
            crate::preprocess::fused::Reducer::new(filter, description.mean, description.std).run(
                &picture,
                view,
                (shape.height, shape.width),
                &mut input,
                &mut small,
            );
            let mut logits = vec![0.0; shape.logits_len()];
            cpu.run(&input, &mut logits).expect("a frame");
            (info, image.into_raw(), view, logits)
        })
        .collect();
    drop(cpu);
    let devices = std::thread::available_parallelism().map_or(1, usize::from).min(cases.len());
    let found: Vec<(usize, usize, usize, f32, f32)> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..devices)
            .map(|k| {
                let (cases, checkpoint) = (&cases, &checkpoint);
                scope.spawn(move || {
                    let mut results = Vec::new();
                    #[cfg(feature = "cuda")]
                    let gpu = super::driver::Gpu::open(0).ok();
                    #[cfg(not(feature = "cuda"))]
                    let gpu: Option<Emulated> = None;
                    let mut device: Box<dyn Device> = match gpu {
                        Some(gpu) => Box::new(gpu),
                        None => match Emulated::new() {
                            Some(emulated) => Box::new(emulated),
                            None => return results,
                        },
                    };
                    let device = device.as_mut();
                    let size = (shape.height, shape.width);
                    let plan = lower(&fused(checkpoint, size), checkpoint, device).expect("a plan");
                    let mut stage = PictureStage::new(checkpoint.description());
                    for (info, bytes, view, wanted) in cases.iter().skip(k).step_by(devices) {
                        let picture = Picture::packed(*info, bytes).expect("long enough");
                        stage.prepare(device, &plan, shape, &picture, *view, level).expect("launches");
                        device.upload(stage.picture(), bytes).expect("an upload");
                        let steps = plan.steps.iter().map(|s| &s.launch);
                        for launch in stage.before().iter().chain(steps).chain(stage.after()) {
                            device.launch(launch).expect("a launch");
                        }
                        let got: Vec<f32> = get(device, plan.logits, shape.logits_len());
                        let marks: Vec<u8> = get(device, stage.inside(), marks_len(*view));
                        let mut inside = vec![0; view.area() as usize];
                        spread_marks(&marks, view.w as usize, &mut inside);
                        assert!(got.iter().all(|v| v.is_finite()), "logits that are not numbers");
                        let top = wanted.iter().fold(0.0, |m: f32, v| m.max(v.abs()));
                        let worst = wanted.iter().zip(&got).fold(0.0, |m: f32, (a, b)| m.max((a - b).abs()));
                        let flips = wanted
                            .iter()
                            .zip(&got)
                            .filter(|(a, b)| {
                                (**a >= level) != (**b >= level) && (**a - level).abs() > 0.02 * top
                            })
                            .count();
                        let (mut both, mut either, mut i) = (0, 0, 0);
                        let target = (view.h as usize, view.w as usize);
                        Upsampler::default().run(wanted, shape.classes, size, target, |_, row| {
                            for v in row {
                                let (a, b) = (*v >= level, inside[i] != 0);
                                both += usize::from(a && b);
                                either += usize::from(a || b);
                                i += 1;
                            }
                        });
                        results.push((flips, both, either, worst, top));
                    }
                    results
                })
            })
            .collect();
        threads.into_iter().flat_map(|t| t.join().expect("no panic")).collect()
    });
    let sum = |f: fn(&(usize, usize, usize, f32, f32)) -> usize| found.iter().map(f).sum::<usize>();
    let (flips, both, either) = (sum(|f| f.0), sum(|f| f.1), sum(|f| f.2));
    let iou = both as f64 / either.max(1) as f64;
    let off = found.iter().fold(0.0, |m: f32, f| m.max(f.3 / f.4));
    eprintln!(
        "{} pictures: pooled IoU of the marks {iou:.5}, {flips} flips away from the level, logits off by {:.2} % of the map's \
         largest at most",
        found.len(),
        100.0 * off
    );
    if !found.is_empty() {
        assert_eq!(flips, 0);
        assert!(iou >= 0.998, "pooled IoU {iou}");
    }
}
