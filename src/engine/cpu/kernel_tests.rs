//! Every kernel on every path this processor has, against the definition in f64, on random shapes.

use super::assemble::{Assembly, Finish, Method, Source, has_winograd_form};
use super::conv::{Also, Factors, Out};
use super::kernel_set::{Isa, KernelSet};
use super::maps::{Geometry, Map};
use super::pack::Layer;
use super::plan::Step;
use super::pool::{Kind, Pool};
use super::resize::{Axis, Join};
use super::storage::{Storage, bf16_bits, bf16_value};
use super::subtract::{Subtract, Terms};
use super::thread_pool::Work;
use crate::engine::random::Random;
use crate::skipped::skip;

impl Random {
    /// In [-1, 1), exact in bf16 where `coarse`, so that storage loses nothing.
    fn value(&mut self, coarse: bool) -> f32 {
        let v = self.unit();
        if coarse { bf16_value(bf16_bits(v)) } else { v }
    }

    fn values(&mut self, n: usize, coarse: bool) -> Vec<f32> {
        (0..n).map(|_| self.value(coarse)).collect()
    }
}

/// `[height][width][channels]`.
#[derive(Clone)]
struct Grid {
    h: usize,
    w: usize,
    c: usize,
    v: Vec<f32>,
}

impl Grid {
    fn random(r: &mut Random, h: usize, w: usize, c: usize, coarse: bool) -> Self {
        Self { h, w, c, v: r.values(h * w * c, coarse) }
    }

    fn zeros(h: usize, w: usize, c: usize) -> Self {
        Self { h, w, c, v: vec![0.0; h * w * c] }
    }

    fn at(&self, y: isize, x: isize, c: usize) -> f64 {
        if y < 0 || x < 0 || y >= self.h as isize || x >= self.w as isize {
            return 0.0;
        }
        self.v[(y as usize * self.w + x as usize) * self.c + c] as f64
    }

    fn set(&mut self, y: usize, x: usize, c: usize, v: f64) {
        self.v[(y * self.w + x) * self.c + c] = v as f32;
    }

    fn write_to(&self, isa: &Isa, map: &Map) {
        for y in 0..self.h {
            for x in 0..self.w {
                for c in 0..self.c {
                    let v = self.at(y as isize, x as isize, c) as f32;
                    let (y, x) = (y as isize, x as isize);
                    // SAFETY: inside the map, which has this grid's size.
                    unsafe { isa.storage.write(map.view().channel(c).bytes_at(y, x).cast_mut(), v) };
                }
            }
        }
    }

    fn read_from(isa: &Isa, map: &Map) -> Self {
        let g = map.geometry;
        let mut grid = Self::zeros(g.height, g.width, g.channels);
        for y in 0..g.height {
            for x in 0..g.width {
                for c in 0..g.channels {
                    let at = (y as isize, x as isize);
                    // SAFETY: inside the map.
                    let v = unsafe { isa.storage.read(map.view().channel(c).bytes_at(at.0, at.1)) };
                    grid.set(y, x, c, v as f64);
                }
            }
        }
        grid
    }

    fn close_to(&self, want: &Grid, tolerance: f32, what: &str) {
        let scale = want.v.iter().fold(1e-3f32, |m, v| m.max(v.abs()));
        for (i, (g, w)) in self.v.iter().zip(&want.v).enumerate() {
            let off = (g - w).abs() / scale;
            assert!(
                off <= tolerance,
                "{what}: value {i} is {g}, should be {w} (off by {off:e} of the largest)"
            );
        }
    }
}

fn map_of(a: &mut Assembly, h: usize, w: usize, c: usize, border: usize) -> Map {
    a.map(h, w, c, border)
}

fn run(a: Assembly) -> super::plan::Plan {
    let plan = a.finish();
    for (wave, tasks) in plan.waves().into_iter().enumerate() {
        for task in 0..tasks {
            // SAFETY: each task once, in order, on one thread; no entry or exit step is among them.
            unsafe { plan.task(wave, task, 0) };
        }
    }
    plan
}

/// Under Miri, which interprets every step, there are fewer cases, and smaller ones.
const fn cases(n: usize) -> usize {
    if cfg!(miri) { n.div_ceil(12) } else { n }
}

/// The largest size that is drawn, see [`cases`].
const fn most(n: usize) -> usize {
    if cfg!(miri) { n.div_ceil(6) } else { n }
}

fn paths() -> impl Iterator<Item = (KernelSet, &'static Isa)> {
    KernelSet::FLOAT.into_iter().filter_map(|p| {
        let isa = p.isa();
        if isa.is_none() {
            skip("processor", format_args!("this processor has no {p}"));
        }
        isa.map(|isa| (p, isa))
    })
}

/// Rounding of sums and of what is stored; Winograd in bf16 also rounds the transformed operands.
fn tolerance(path: KernelSet, method: Method) -> f32 {
    match (path.is_bf16(), method) {
        (true, Method::Winograd(2)) => 0.02,
        (true, Method::Winograd(_)) => 0.06,
        (true, _) => 0.006,
        (false, _) => 2e-5,
    }
}

fn conv_reference(x: &Grid, layer: &Layer, stride: usize, residual: Option<&Grid>, relu: bool) -> Grid {
    let (h, w) = (x.h.div_ceil(stride), x.w.div_ceil(stride));
    let k = layer.kernel;
    let mut out = Grid::zeros(h, w, layer.out);
    for y in 0..h {
        for px in 0..w {
            for o in 0..layer.out {
                let mut sum = 0.0;
                for c in 0..layer.cin {
                    for ky in 0..k {
                        for kx in 0..k {
                            let sy = (y * stride + ky) as isize - (k / 2) as isize;
                            let sx = (px * stride + kx) as isize - (k / 2) as isize;
                            let weight = layer.weights[((o * layer.cin + c) * k + ky) * k + kx];
                            sum += weight as f64 * x.at(sy, sx, c);
                        }
                    }
                }
                let mut v = sum * layer.scale[o] as f64 + layer.shift[o] as f64;
                if let Some(r) = residual {
                    v += r.at(y as isize, px as isize, o);
                }
                out.set(y, px, o, if relu { v.max(0.0) } else { v });
            }
        }
    }
    out
}

fn layer(r: &mut Random, out: usize, cin: usize, kernel: usize, coarse: bool) -> Layer {
    let bound = (3.0 / (cin * kernel * kernel) as f32).sqrt();
    let weights = r
        .values(out * cin * kernel * kernel, false)
        .into_iter()
        .map(|v| if coarse { bf16_value(bf16_bits(v * bound)) } else { v * bound })
        .collect();
    let scale = r.values(out, false).into_iter().map(|v| 1.0 + 0.5 * v).collect();
    Layer { out, cin, kernel, weights, scale, shift: r.values(out, false) }
}

#[test]
fn convolutions_of_any_shape() {
    let mut r = Random(1);
    for case in 0..cases(60) {
        let kernel = [1, 3][r.below(2)];
        let stride = r.between(1, 2);
        let (h, w) = (r.between(1, most(19)) * stride, r.between(1, most(29)) * stride);
        let (cin, out) = (2 * r.between(1, most(45)), r.between(1, most(150)));
        let method = match r.below(3) {
            _ if kernel == 1 || stride == 2 => Method::Direct,
            0 => Method::Direct,
            n => Method::Winograd(2 * n),
        };
        let (relu, with_residual, threads) = (r.below(2) == 0, r.below(2) == 0, r.between(1, 4));
        let layer = layer(&mut r, out, cin, kernel, true);
        let x = Grid::random(&mut r, h, w, cin, true);
        let (oh, ow) = (h / stride, w / stride);
        let residual = with_residual.then(|| Grid::random(&mut r, oh, ow, out, true));
        let want = conv_reference(&x, &layer, stride, residual.as_ref(), relu);
        for (path, isa) in paths() {
            let what = format!("case {case}: {cin}->{out} k{kernel} s{stride} {w}x{h} {method:?}, {path}");
            let mut a = Assembly::new(isa, threads);
            let source = map_of(&mut a, h, w, cin, 1);
            let target = map_of(&mut a, oh, ow, out, 1);
            x.write_to(isa, &source);
            if let Some(r) = &residual {
                // In place, as the blocks of the backbone do.
                r.write_to(isa, &target);
            }
            let finish = Finish {
                residual: residual.is_some().then(|| target.view()),
                relu,
                outs: vec![Out { channels: (0, out), view: target.view() }],
                ..Default::default()
            };
            a.conv_by(method, &[(Source { stride, ..Source::of(&source) }, &layer)], (oh, ow), finish);
            a.wave();
            let _plan = run(a);
            Grid::read_from(isa, &target).close_to(&want, tolerance(path, method), &what);
            // SAFETY: the border's corners belong to the map.
            let corner = unsafe { *target.view().bytes_at(-1, -1) };
            assert_eq!(corner, 0, "{what}: wrote into the border");
        }
    }
}

/// Long reductions go in several passes.
#[test]
#[cfg_attr(miri, ignore = "millions of products")]
fn long_reductions_and_channel_slices() {
    let mut r = Random(2);
    for (cin, out, kernel, h, w) in [(640, 64, 3, 5, 7), (2048, 96, 1, 3, 11), (300, 64, 3, 9, 4)] {
        let layer = layer(&mut r, out, cin, kernel, true);
        let x = Grid::random(&mut r, h, w, cin, true);
        let want = conv_reference(&x, &layer, 1, None, true);
        for (path, isa) in paths() {
            let mut a = Assembly::new(isa, 2);
            // A source that is a slice of a wider map, and a target that is one too.
            let wide = map_of(&mut a, h, w, cin + 6, 1);
            let mut padded = Grid::zeros(h, w, cin + 6);
            for y in 0..h {
                for px in 0..w {
                    for c in 0..cin {
                        padded.set(y, px, c + 4, x.at(y as isize, px as isize, c));
                    }
                }
            }
            padded.write_to(isa, &wide);
            let target = map_of(&mut a, h, w, out + 10, 0);
            let source = Source { view: wide.view().channel(4), stored: cin, stride: 1 };
            let finish = Finish::relu_to(target.view().channel(8), out);
            a.conv_by(Method::Direct, &[(source, &layer)], (h, w), finish);
            a.wave();
            let _plan = run(a);
            let got = Grid::read_from(isa, &target);
            let mut all = Grid::zeros(h, w, out + 10);
            for y in 0..h {
                for px in 0..w {
                    for c in 0..out {
                        all.set(y, px, c + 8, want.at(y as isize, px as isize, c));
                    }
                }
            }
            got.close_to(&all, tolerance(path, Method::Direct), &format!("{cin}->{out} k{kernel}, {path}"));
        }
    }
}

/// Everything an epilogue can do at once: outputs spread over maps, a second output with an addend, the channel sum.
#[test]
fn epilogues_spread_add_and_sum() {
    let mut r = Random(3);
    for case in 0..cases(24) {
        let kernel = [1, 3][r.below(2)];
        let method = if kernel == 3 {
            [Method::Direct, Method::Winograd(2), Method::Winograd(4)][r.below(3)]
        } else {
            Method::Direct
        };
        let (h, w) = (r.between(1, most(9)), r.between(1, most(17)));
        let split = r.between(1, most(40));
        let (cin, out) = (2 * r.between(1, most(20)), 3 * split);
        let layer = layer(&mut r, out, cin, kernel, true);
        let x = Grid::random(&mut r, h, w, cin, true);
        let add = Grid::random(&mut r, h, w, out, true);
        let want = conv_reference(&x, &layer, 1, None, true);
        for (path, isa) in paths() {
            let what = format!("case {case}: {cin}->3x{split} k{kernel} {w}x{h} {method:?}, {path}");
            let mut a = Assembly::new(isa, 3);
            let source = map_of(&mut a, h, w, cin, 1);
            x.write_to(isa, &source);
            let parts: Vec<Map> = (0..3).map(|_| map_of(&mut a, h, w, split, 1)).collect();
            let second = map_of(&mut a, h, w, out, 0);
            add.write_to(isa, &second);
            let sum = a.plane(h, w, 1);
            let finish = Finish {
                relu: true,
                outs: parts
                    .iter()
                    .enumerate()
                    .map(|(i, m)| Out { channels: (i * split, (i + 1) * split), view: m.view() })
                    .collect(),
                also: Some(Also { add: second.view(), out: second.view() }),
                sum: Some(sum),
                ..Default::default()
            };
            a.conv_by(method, &[(Source::of(&source), &layer)], (h, w), finish);
            a.wave();
            let _plan = run(a);
            let tolerance = tolerance(path, method);
            for (i, part) in parts.iter().enumerate() {
                let mut slice = Grid::zeros(h, w, split);
                for y in 0..h {
                    for px in 0..w {
                        for c in 0..split {
                            slice.set(y, px, c, want.at(y as isize, px as isize, i * split + c));
                        }
                    }
                }
                Grid::read_from(isa, part).close_to(&slice, tolerance * 1.5, &what);
            }
            let mut both = want.clone();
            let mut sums = Grid::zeros(h, w, 1);
            for y in 0..h {
                for px in 0..w {
                    let (iy, ix) = (y as isize, px as isize);
                    sums.set(y, px, 0, (0..out).map(|c| want.at(iy, ix, c)).sum());
                    for c in 0..out {
                        both.set(y, px, c, want.at(iy, ix, c) + add.at(iy, ix, c));
                    }
                }
            }
            Grid::read_from(isa, &second).close_to(&both, tolerance, &format!("{what}, sum with an addend"));
            // SAFETY: the plane has one value a pixel.
            let got = unsafe { std::slice::from_raw_parts(sum.start, h * w) }.to_vec();
            Grid { h, w, c: 1, v: got }.close_to(&sums, tolerance, &format!("{what}, channel sum"));
        }
    }
}

/// Two sources summed, as a block's last convolution and its shortcut are.
#[test]
fn two_sources_are_summed() {
    let mut r = Random(4);
    let (h, w, out) = (most(6), most(13), most(72));
    let first = layer(&mut r, out, 26, 1, true);
    let mut second = layer(&mut r, out, 64, 1, true);
    second.scale = vec![1.0; out];
    let (x, y) = (Grid::random(&mut r, h, w, 26, true), Grid::random(&mut r, 2 * h, 2 * w, 64, true));
    let mut want = conv_reference(&x, &first, 1, None, false);
    for (a, b) in want.v.iter_mut().zip(conv_reference(&y, &second, 2, None, false).v) {
        *a = (*a + b).max(0.0);
    }
    for (path, isa) in paths() {
        let mut a = Assembly::new(isa, 2);
        let (mx, my) = (map_of(&mut a, h, w, 26, 0), map_of(&mut a, 2 * h, 2 * w, 64, 1));
        x.write_to(isa, &mx);
        y.write_to(isa, &my);
        let target = map_of(&mut a, h, w, out, 1);
        let parts = [(Source::of(&mx), &first), (Source { stride: 2, ..Source::of(&my) }, &second)];
        a.conv(&parts, (h, w), Finish::relu_to(target.view(), out));
        a.wave();
        let _plan = run(a);
        let got = Grid::read_from(isa, &target);
        got.close_to(&want, tolerance(path, Method::Direct), &format!("two sources, {path}"));
    }
}

#[test]
fn pools() {
    let mut r = Random(5);
    for case in 0..cases(20) {
        let kind = [Kind::Max3, Kind::Average3 { stride: 1 }, Kind::Average3 { stride: 2 }, Kind::Average2]
            [case % 4];
        let stride = if kind == (Kind::Average3 { stride: 1 }) { 1 } else { 2 };
        let (h, w, c) = (r.between(1, most(9)), r.between(1, most(9)), r.between(1, most(70)));
        let mut x = Grid::random(&mut r, h * stride, w * stride, c, true);
        x.v.iter_mut().for_each(|v| *v = v.abs());
        let mut want = Grid::zeros(h, w, c);
        for y in 0..h {
            for px in 0..w {
                for ch in 0..c {
                    let (sy, sx) = ((y * stride) as isize, (px * stride) as isize);
                    let square = |from: isize, to: isize| {
                        let x = &x;
                        (from..to).flat_map(move |dy| (from..to).map(move |dx| x.at(sy + dy, sx + dx, ch)))
                    };
                    let v = match kind {
                        Kind::Max3 => square(-1, 2).fold(0.0, f64::max),
                        Kind::Average3 { .. } => square(-1, 2).sum::<f64>() / 9.0,
                        Kind::Average2 => square(0, 2).sum::<f64>() / 4.0,
                    };
                    want.set(y, px, ch, v);
                }
            }
        }
        for (path, isa) in paths() {
            let mut a = Assembly::new(isa, 1);
            let source = map_of(&mut a, h * stride, w * stride, c, 1);
            let target = map_of(&mut a, h, w, c, 0);
            x.write_to(isa, &source);
            let sum = matches!(kind, Kind::Max3).then(|| a.plane(h, w, 1));
            a.steps.push(Step::Pool(Pool {
                factor: 1.0,
                sum_factor: 1.0,
                kind,
                height: h,
                width: w,
                channels: c,
                source: source.view(),
                out: target.view(),
                sum,
            }));
            a.wave();
            let _plan = run(a);
            Grid::read_from(isa, &target).close_to(
                &want,
                tolerance(path, Method::Direct),
                &format!("{kind:?}, {path}"),
            );
            if let Some(sum) = sum {
                let sums = (0..h * w).map(|i| want.v[i * c..(i + 1) * c].iter().sum()).collect();
                // SAFETY: the plane has one value a pixel.
                let got = unsafe { std::slice::from_raw_parts(sum.start, h * w) }.to_vec();
                let want = Grid { h, w, c: 1, v: sums };
                Grid { h, w, c: 1, v: got }.close_to(&want, 1e-5, &format!("sum of the maximum, {path}"));
            }
        }
    }
}

/// Bilinear, `align_corners=False`, straight from the definition.
fn resize_reference(x: &Grid, h: usize, w: usize) -> Grid {
    let mut out = Grid::zeros(h, w, x.c);
    let place = |i: usize, from: usize, to: usize| {
        let at = ((i as f64 + 0.5) * from as f64 / to as f64 - 0.5).max(0.0);
        let low = (at.floor() as usize).min(from - 1);
        (low as isize, (low + 1).min(from - 1) as isize, at - low as f64)
    };
    for y in 0..h {
        for px in 0..w {
            let ((y0, y1, fy), (x0, x1, fx)) = (place(y, x.h, h), place(px, x.w, w));
            for c in 0..x.c {
                let top = x.at(y0, x0, c) * (1.0 - fx) + x.at(y0, x1, c) * fx;
                let bottom = x.at(y1, x0, c) * (1.0 - fx) + x.at(y1, x1, c) * fx;
                out.set(y, px, c, top * (1.0 - fy) + bottom * fy);
            }
        }
    }
    out
}

#[test]
fn joins_resize_and_add() {
    let mut r = Random(6);
    for (ah, aw, h, w) in [(1, 1, 2, 2), (3, 5, 6, 10), (4, 4, 4, 4), (11, 2, 22, 4)] {
        let a_grid = Grid::random(&mut r, ah, aw, 64, true);
        let b_grid = Grid::random(&mut r, h, w, 64, true);
        let mut want = resize_reference(&a_grid, h, w);
        want.v.iter_mut().zip(&b_grid.v).for_each(|(a, b)| *a += b);
        for (path, isa) in paths() {
            let mut a = Assembly::new(isa, 1);
            let (coarse, fine, out) =
                (map_of(&mut a, ah, aw, 64, 1), map_of(&mut a, h, w, 64, 1), map_of(&mut a, h, w, 64, 1));
            a_grid.write_to(isa, &coarse);
            b_grid.write_to(isa, &fine);
            a.steps.push(Step::Join(Join {
                factors: [1.0; 2],
                height: h,
                width: w,
                channels: 64,
                coarse: coarse.view(),
                vertical: Axis::new(ah, h),
                horizontal: Axis::new(aw, w),
                fine: fine.view(),
                out: out.view(),
            }));
            a.wave();
            let _plan = run(a);
            let got = Grid::read_from(isa, &out);
            got.close_to(&want, tolerance(path, Method::Direct), &format!("{aw}x{ah} to {w}x{h}, {path}"));
        }
    }
}

/// The unit from its definition: literal 64-channel all-ones convolutions, zero padded.
#[test]
fn subtraction_units() {
    let mut r = Random(7);
    for (ah, aw, h, w, band, with_terms) in [
        (1, 1, 2, 2, 1, true),
        (3, 4, 6, 8, 4, true),
        (5, 7, 5, 7, 3, true),
        (9, 1, 18, 2, 8, true),
        (4, 4, 8, 8, 2, false),
    ]
    .into_iter()
    .take(cases(5))
    {
        let a_grid = Grid::random(&mut r, ah, aw, 64, true);
        let b_grid = Grid::random(&mut r, h, w, 64, true);
        let terms = with_terms.then(|| {
            let mut vector =
                |scale: f32| r.values(64, false).into_iter().map(|v| v * scale).collect::<Vec<f32>>();
            ([vector(0.05), vector(0.02)], [vector(0.5), vector(0.5)])
        });
        let resized = resize_reference(&a_grid, h, w);
        let boxed = |x: &Grid, k: isize, y: isize, px: isize| {
            let mut sum = 0.0;
            for dy in -(k / 2)..=k / 2 {
                for dx in -(k / 2)..=k / 2 {
                    sum += (0..64).map(|c| x.at(y + dy, px + dx, c)).sum::<f64>();
                }
            }
            sum
        };
        let mut want = Grid::zeros(h, w, 64);
        for y in 0..h {
            for px in 0..w {
                let (iy, ix) = (y as isize, px as isize);
                let mut g = [[0.0; 2]; 2];
                for (i, x) in [&resized, &b_grid].into_iter().enumerate() {
                    for (j, k) in [3, 5].into_iter().enumerate() {
                        g[i][j] = boxed(x, k, iy, ix);
                    }
                }
                for c in 0..64 {
                    let mut v = (resized.at(iy, ix, c) - b_grid.at(iy, ix, c)).abs();
                    if let Some((alpha, beta)) = &terms {
                        for j in 0..2 {
                            let f = |s: f64| (alpha[j][c] as f64 * s + beta[j][c] as f64).max(0.0);
                            v += (f(g[0][j]) - f(g[1][j])).abs();
                        }
                    }
                    want.set(y, px, c, v);
                }
            }
        }
        for (path, isa) in paths() {
            let mut a = Assembly::new(isa, 1);
            let (ma, mb, out) =
                (map_of(&mut a, ah, aw, 64, 1), map_of(&mut a, h, w, 64, 1), map_of(&mut a, h, w, 64, 1));
            a_grid.write_to(isa, &ma);
            b_grid.write_to(isa, &mb);
            let (a_sum, b_sum) = (a.plane(ah, aw, 1), a.plane(h, w, 1));
            for (grid, plane) in [(&a_grid, a_sum), (&b_grid, b_sum)] {
                for i in 0..grid.h * grid.w {
                    // SAFETY: the plane has one value a pixel.
                    unsafe { *plane.start.add(i) = grid.v[i * 64..(i + 1) * 64].iter().sum() };
                }
            }
            a.steps.push(Step::Subtract(Subtract {
                height: h,
                width: w,
                channels: 64,
                a: ma.view(),
                vertical: Axis::new(ah, h),
                horizontal: Axis::new(aw, w),
                same_size: (ah, aw) == (h, w),
                b: mb.view(),
                out: out.view(),
                factor: 1.0,
                terms: terms.clone().map(|(alpha, beta)| Terms { alpha, beta, a_sum, b_sum }),
                band,
            }));
            a.wave();
            let _plan = run(a);
            let got = Grid::read_from(isa, &out);
            got.close_to(&want, tolerance(path, Method::Direct), &format!("{aw}x{ah} - {w}x{h}, {path}"));
        }
    }
}

#[test]
#[cfg_attr(miri, ignore = "Miri has instructions of its own")]
fn paths_that_claim_to_be_here_have_kernels() {
    // What Linux says of the processor, beside what the standard library says.
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    {
        let text = std::fs::read_to_string("/proc/cpuinfo").expect("Linux says what the processor has");
        let flags: std::collections::BTreeSet<&str> = text
            .lines()
            .find_map(|l| l.strip_prefix("flags")?.split_once(':'))
            .map(|(_, flags)| flags.split_whitespace().collect())
            .expect("a line of flags");
        let avx512 = ["avx512f", "avx512bw", "avx512vl", "fma"];
        for (path, needs) in [
            (KernelSet::PortableF32, &[][..]),
            (KernelSet::PortableBf16, &[]),
            (KernelSet::PortableI8, &[]),
            (KernelSet::Avx2F32, &["avx2", "fma"]),
            (KernelSet::Avx2I8, &["avx2", "fma"]),
            (KernelSet::AvxVnniI8, &["avx2", "fma", "avx_vnni"]),
            (KernelSet::Avx512F32, &avx512),
            (KernelSet::Avx512Bf16, &[&avx512[..], &["avx512_bf16"]].concat()),
            (KernelSet::Avx512VnniI8, &[&avx512[..], &["avx512_vnni"]].concat()),
        ] {
            assert_eq!(path.is_available(), needs.iter().all(|f| flags.contains(f)), "{path}");
        }
    }
    for path in KernelSet::FLOAT.into_iter().chain(KernelSet::INTEGER).filter(|p| p.is_available()) {
        let isa = path.isa().unwrap_or_else(|| panic!("{path} has no kernels"));
        let storage = match (path.is_bf16(), path.is_i8()) {
            (true, _) => Storage::Bf16,
            (_, true) => Storage::U8,
            _ => Storage::F32,
        };
        assert_eq!(isa.storage, storage, "{path}");
    }
    assert!(KernelSet::best_f32().is_available() && !KernelSet::best_f32().is_bf16());
    assert!(KernelSet::best_bf16().is_none_or(|p| p.is_available() && p.is_bf16()));
}

/// Integer convolutions give the definition's sums to the bit, directly and by Winograd's algorithm, on every path,
/// also where all that is added is as large as it can be and of one sign.
#[test]
fn integer_convolutions_are_exact() {
    let mut r = Random(139);
    for (h, w, cin, out, kernel, stride, extreme) in [
        (7, 9, 26, 26, 3, 1, false),
        (8, 6, 64, 64, 3, 1, false),
        (5, 5, 4, 104, 1, 1, false),
        (6, 10, 28, 33, 3, 2, false),
        (1, 1, 208, 16, 3, 1, false),
        (13, 4, 130, 40, 3, 1, false),
        (7, 9, 26, 26, 3, 1, true),
        (5, 5, 64, 20, 1, 1, true),
        (6, 6, 3, 9, 3, 2, true),
    ]
    .into_iter()
    .take(cases(9))
    {
        let stored = usize::next_multiple_of(cin, 4);
        let source: Vec<u8> = (0..h * w * stored)
            .map(|i| match i % stored < cin {
                true if extreme => 255,
                true => (r.unit().abs() * 255.0) as u8,
                false => 0,
            })
            .collect();
        let mut layer = Layer {
            out,
            cin,
            kernel,
            weights: (0..out * cin * kernel * kernel)
                .map(
                    |i| if extreme { 1.0 - 2.0 * (i / (cin * kernel * kernel) % 2) as f32 } else { r.unit() },
                )
                .collect(),
            scale: vec![1.0; out],
            shift: vec![0.0; out],
        };
        let two_words = !has_winograd_form(&layer, stride);
        super::quantise::layers(&mut [(&mut layer, 1.0)], two_words);
        // So that sums are seen as they are.
        layer.scale = vec![1.0; out];
        let (oh, ow) = (h / stride, w / stride);
        let reach = (kernel / 2) as isize;
        let want = |o: usize, y: usize, x: usize| -> i64 {
            let mut sum = 0;
            for ky in 0..kernel {
                for kx in 0..kernel {
                    let sy = (y * stride + ky) as isize - reach;
                    let sx = (x * stride + kx) as isize - reach;
                    if sy < 0 || sx < 0 || sy >= h as isize || sx >= w as isize {
                        continue;
                    }
                    for c in 0..cin {
                        let weight = layer.weights[((o * cin + c) * kernel + ky) * kernel + kx] as i64;
                        sum += weight * i64::from(source[(sy as usize * w + sx as usize) * stored + c]);
                    }
                }
            }
            sum
        };
        for path in KernelSet::INTEGER {
            let Some(isa) = path.isa() else {
                skip("processor", format_args!("this processor has no {path}"));
                continue;
            };
            let methods: &[Method] =
                if !two_words { &[Method::Direct, Method::Winograd(2)] } else { &[Method::Direct] };
            for &method in methods {
                let mut a = Assembly::new(isa, 2);
                let from = a.map(h, w, stored, 1);
                for (i, v) in source.iter().enumerate() {
                    let (y, x, c) = ((i / stored / w) as isize, (i / stored % w) as isize, i % stored);
                    // SAFETY: inside the map, which has this size.
                    unsafe {
                        isa.storage.write(from.view().channel(c).bytes_at(y, x).cast_mut(), f32::from(*v))
                    };
                }
                let to = a.maps.take(Geometry {
                    height: oh,
                    width: ow,
                    channels: out,
                    border: 0,
                    storage: Storage::F32,
                });
                let factors = Factors { integer: true, two_words, ..Default::default() };
                let finish = Finish { factors, relu: false, ..Finish::relu_to(to.view(), out) };
                a.conv_by(method, &[(Source { stride, ..Source::of(&from) }, &layer)], (oh, ow), finish);
                a.wave();
                let _plan = run(a);
                for y in 0..oh {
                    for x in 0..ow {
                        for o in 0..out {
                            // SAFETY: inside the map.
                            let got = unsafe { *to.view().at::<f32>(y as isize, x as isize).add(o) };
                            assert_eq!(
                                got,
                                want(o, y, x) as f32,
                                "{path}, {method:?}, {cin} to {out} at {y}, {x}, {o}"
                            );
                        }
                    }
                }
            }
        }
    }
}
