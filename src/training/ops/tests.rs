//! Every operation beside a plain form of it, and every gradient beside finite differences, in f64 on random values.

use candle_core::{Device, Tensor, Var};

use super::super::parameters::Parameters;
use super::super::tape::{Kernel, Mode, Norm, Planes, Record, Spare, Tail, Tape, Value};
use super::convolution::{Geometry, Passes};
use super::graph::{BatchNorm, Convolution, Reshape};

/// Numbers from −1 to 1, the same for the same seed.
pub fn random(len: usize, seed: u64) -> Vec<f64> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0x1234_5678;
    (0..len)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as f64 / (1u64 << 30) as f64 - 1.0
        })
        .collect()
}

pub fn narrow(values: &[f64]) -> Vec<f32> {
    values.iter().map(|&v| v as f32).collect()
}

/// Largest difference as a share of the largest magnitude; NaN is infinite.
fn apart<T: Into<f64> + Copy>(got: &[T], want: &[f64]) -> f64 {
    assert_eq!(got.len(), want.len());
    let largest = want.iter().fold(f64::MIN_POSITIVE, |m, v| m.max(v.abs()));
    let worst = got.iter().zip(want).fold(0.0, |m: f64, (&g, &w)| {
        let off = (g.into() - w).abs();
        if off.is_nan() { f64::INFINITY } else { m.max(off) }
    });
    worst / largest
}

const GEOMETRIES: [Geometry; 13] = {
    const fn g(
        batch: usize,
        cin: usize,
        h: usize,
        w: usize,
        cout: usize,
        kernel: usize,
        stride: usize,
    ) -> Geometry {
        Geometry { batch, cin, h, w, cout, kernel, stride }
    }
    [
        g(2, 5, 7, 9, 8, 3, 1),
        g(2, 30, 12, 10, 13, 3, 2),
        g(1, 3, 16, 24, 7, 3, 2),
        g(2, 7, 6, 5, 26, 1, 1),
        g(1, 60, 11, 11, 4, 3, 1),
        g(1, 3, 2, 3, 4, 3, 1),
        g(1, 3, 1, 1, 1, 3, 1),
        g(1, 2, 9, 20, 5, 5, 1),
        // By Winograd's algorithm: tiles that lie whole in a row of lanes and tiles that do not, more channels than are
        // at hand at once, planes of one tile, more strips than the weights' gradient takes at a time.
        g(8, 16, 9, 13, 17, 3, 1),
        g(97, 17, 4, 3, 18, 3, 1),
        g(1, 70, 24, 68, 40, 3, 1),
        g(9, 16, 6, 23, 16, 3, 1),
        g(2, 16, 64, 72, 16, 3, 1),
    ]
};

#[test]
fn convolutions_agree_with_candles_and_our_kernels_with_the_plain_form() {
    for g in GEOMETRIES {
        let (x, w) = (random(g.input_len(), 1), random(g.weight_len(), 2));
        let (grad, bias) = (random(g.output_len(), 3), random(g.cout, 4));
        let plain = Passes::<f64>::plain(g);
        let mut y = vec![9.0; g.output_len()];
        let mut dx = vec![9.0; g.input_len()];
        let mut dw = vec![0.0; g.weight_len()];
        plain.forward(&x, &w, None, &mut y);
        plain.backward_input(&w, &grad, &mut dx);
        plain.backward_weight(&x, &grad, &mut dw);

        let cpu = &Device::Cpu;
        let xs = Var::from_vec(x.clone(), (g.batch, g.cin, g.h, g.w), cpu).unwrap();
        let ws = Var::from_vec(w.clone(), (g.cout, g.cin, g.kernel, g.kernel), cpu).unwrap();
        let out = xs.conv2d(&ws, g.kernel / 2, g.stride, 1, 1).unwrap();
        let values = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f64>().unwrap();
        assert!(apart(&y, &values(&out)) < 1e-12, "{g:?}");
        let gs = Tensor::from_vec(grad.clone(), out.shape(), cpu).unwrap();
        let store = (out * gs).unwrap().sum_all().unwrap().backward().unwrap();
        assert!(apart(&dx, &values(store.get(&xs).unwrap())) < 1e-12, "{g:?}");
        assert!(apart(&dw, &values(store.get(&ws).unwrap())) < 1e-12, "{g:?}");

        plain.forward(&x, &w, Some(&bias), &mut y);
        let (x, w, grad, bias) = (narrow(&x), narrow(&w), narrow(&grad), narrow(&bias));
        let by_points = Passes::by_all_kernels(g);
        let direct = Passes::by_all_kernels(g).map(Passes::direct);
        for passes in by_points.chain(direct).chain([Passes::<f32>::plain(g)]) {
            // Winograd's transforms multiply by numbers up to 64, and their rounding with them.
            let most = if passes.by_points() { 2e-5 } else { 2e-6 };
            let mut fy = vec![9f32; g.output_len()];
            let mut fdx = vec![9f32; g.input_len()];
            let mut fdw = vec![0f32; g.weight_len()];
            passes.forward(&x, &w, Some(&bias), &mut fy);
            passes.backward_input(&w, &grad, &mut fdx);
            passes.backward_weight(&x, &grad, &mut fdw);
            let off = [apart(&fy, &y), apart(&fdx, &dx), apart(&fdw, &dw)];
            assert!(off.iter().all(|&off| off < most), "{g:?}: {off:?}");
        }
    }
}

/// A kernel that lost a NaN would train on as if nothing had happened.
#[test]
fn convolutions_keep_what_is_not_a_number() {
    let g = Geometry { batch: 1, cin: 2, h: 4, w: 5, cout: 3, kernel: 3, stride: 1 };
    let mut x = vec![1f32; g.input_len()];
    x[7] = f32::NAN;
    for passes in Passes::by_all_kernels(g) {
        let mut y = vec![0f32; g.output_len()];
        passes.forward(&x, &vec![0.5; g.weight_len()], None, &mut y);
        assert_eq!(y.iter().filter(|v| v.is_nan()).count(), 27);
    }
}

/// Σ out · weights, whose gradient with respect to `out` is `weights`.
fn weighed(values: &[f64]) -> f64 {
    values.iter().zip(random(values.len(), 77)).map(|(v, w)| v * w).sum()
}

/// Compares gradients of a scalar function with central differences at some places of every argument.
fn check_gradients(arguments: &[Vec<f64>], f: &dyn Fn(&[Vec<f64>]) -> f64, gradients: &[Vec<f64>]) {
    for (i, gradient) in gradients.iter().enumerate() {
        let largest = gradient.iter().fold(0.1, |m: f64, v| m.max(v.abs()));
        let step = (gradient.len() / 17).max(1);
        for at in (0..gradient.len()).step_by(step) {
            let moved = |by: f64| {
                let mut arguments = arguments.to_vec();
                arguments[i][at] += by;
                f(&arguments)
            };
            let h = 1e-6;
            let slope = (moved(h) - moved(-h)) / (2.0 * h);
            let off = (slope - gradient[at]).abs() / largest;
            assert!(
                off < 2e-6,
                "argument {i} at {at}: {} by differences, {} by the gradient",
                slope,
                gradient[at]
            );
        }
    }
}

/// Runs a network of one input and some parameters over a tape, in f64.
struct Trial {
    planes: Planes,
    parameters: Vec<(String, Vec<usize>)>,
    build: fn(&mut Tape<f64>, Value, &Parameters<f64>) -> Value,
}

impl Trial {
    fn parameters(&self, values: &[Vec<f64>], mode: Mode) -> Parameters<f64> {
        let mut out = Parameters::new();
        for ((key, shape), values) in self.parameters.iter().zip(values) {
            let running = key.contains("running");
            let values = match mode == Mode::Settling && running {
                // Constants of such a pass: not what is given, but what a running statistic may be, another one a
                // channel.
                true => (0..values.len()).map(|i| 0.4 + 0.3 * i as f64).collect(),
                false => values.clone(),
            };
            out.insert(key, shape, values, !running);
        }
        out
    }

    fn value(&self, arguments: &[Vec<f64>], mode: Mode) -> f64 {
        let parameters = self.parameters(&arguments[1..], mode);
        let mut spare = Spare::default();
        let mut tape = Tape::new(&parameters, mode, &mut spare);
        let x = tape.input(self.planes, arguments[0].clone(), true);
        let y = (self.build)(&mut tape, x, &parameters);
        weighed(tape.values(y))
    }

    /// By the batch's statistics, and by running ones.
    fn check(&self) {
        self.check_in(Mode::Training);
        self.check_in(Mode::Settling);
    }

    fn check_in(&self, mode: Mode) {
        let mut arguments = vec![random(self.planes.len(), 5)];
        for (i, (_, shape)) in self.parameters.iter().enumerate() {
            arguments.push(random(shape.iter().product(), 100 + i as u64));
        }
        let parameters = self.parameters(&arguments[1..], mode);
        let mut spare = Spare::default();
        let mut tape = Tape::new(&parameters, mode, &mut spare);
        let x = tape.input(self.planes, arguments[0].clone(), true);
        let y = (self.build)(&mut tape, x, &parameters);
        let norms = self.parameters.iter().any(|(key, _)| key.contains("running"));
        assert_eq!(!tape.statistics().is_empty(), norms && mode == Mode::Training);
        let grad = random(tape.planes(y).len(), 77);
        let mut back = tape.backward(y, grad);
        let mut gradients = vec![back.of(x).expect("an input's gradient")];
        for (key, shape) in &self.parameters {
            let id = parameters.id(key).unwrap();
            let of = back.gradients.get(id).map(<[f64]>::to_vec);
            gradients.push(of.unwrap_or_else(|| vec![0.0; shape.iter().product()]));
        }
        check_gradients(&arguments, &|a| self.value(a, mode), &gradients);
    }
}

fn norm(p: &Parameters<f64>, at: &str) -> Norm {
    let id = |leaf: &str| p.id(&format!("{at}.{leaf}")).unwrap();
    Norm {
        weight: id("weight"),
        bias: id("bias"),
        running_mean: id("running_mean"),
        running_var: id("running_var"),
    }
}

fn of_norm(at: &str, channels: usize) -> Vec<(String, Vec<usize>)> {
    ["weight", "bias", "running_mean", "running_var"]
        .map(|leaf| (format!("{at}.{leaf}"), vec![channels]))
        .to_vec()
}

const PLANES: Planes = Planes { batch: 2, channels: 3, h: 6, w: 8 };

#[test]
fn gradients_of_a_block_with_norm_sum_and_relu() {
    let mut parameters = vec![("a.weight".to_owned(), vec![4, 3, 3, 3]), ("a.bias".to_owned(), vec![4])];
    parameters.extend(of_norm("n", 4));
    parameters.push(("b.weight".to_owned(), vec![4, 3, 1, 1]));
    parameters.extend(of_norm("m", 4));
    Trial {
        planes: PLANES,
        parameters,
        build: |tape, x, p| {
            let id = |key: &str| p.id(key).unwrap();
            let a = Kernel { weight: id("a.weight"), bias: Some(id("a.bias")), stride: 1 };
            let a = tape.convolution(x, a, Tail { norm: Some(norm(p, "n")), added: None, relu: true });
            let b = Kernel { weight: id("b.weight"), bias: None, stride: 1 };
            let b = tape.convolution(x, b, Tail { norm: Some(norm(p, "m")), added: Some(a), relu: true });
            tape.sum(&[a, b, a])
        },
    }
    .check();
}

#[test]
fn gradients_of_plain_convolutions_with_bias_and_stride() {
    Trial {
        planes: PLANES,
        parameters: vec![
            ("a.weight".into(), vec![5, 3, 3, 3]),
            ("a.bias".into(), vec![5]),
            ("b.weight".into(), vec![2, 5, 3, 3]),
        ],
        build: |tape, x, p| {
            let id = |key: &str| p.id(key).unwrap();
            let a = Kernel { weight: id("a.weight"), bias: Some(id("a.bias")), stride: 2 };
            let a = tape.convolution(x, a, Tail { relu: true, ..Tail::default() });
            tape.convolution(a, Kernel { weight: id("b.weight"), bias: None, stride: 1 }, Tail::default())
        },
    }
    .check();
}

#[test]
fn gradients_of_pools_slices_and_resizes() {
    Trial {
        planes: Planes { channels: 4, ..PLANES },
        parameters: vec![],
        build: |tape, x, _| {
            let (a, b) = (tape.slice(x, 0, 1), tape.slice(x, 1, 3));
            let (a, b) = (tape.average3(a, 1), tape.average3(b, 2));
            let (c, d) = (tape.max3(x), tape.average2(x));
            let e = tape.max2(x);
            let b = tape.resize(b, (6, 8), None);
            let c = tape.resize(c, (5, 7), None);
            let c = tape.resize(c, (6, 8), Some(x));
            let d = tape.resize(d, (6, 8), Some(c));
            let e = tape.resize(e, (6, 8), None);
            tape.concat(&[a, b, d, e])
        },
    }
    .check();
}

#[test]
fn gradients_of_a_subtraction_unit() {
    let mut parameters = of_norm("conv_3.norm", 3);
    parameters.extend(of_norm("conv_5.norm", 3));
    parameters.push(("a.weight".into(), vec![3, 3, 1, 1]));
    Trial {
        planes: PLANES,
        parameters,
        build: |tape, x, p| {
            let a = Kernel { weight: p.id("a.weight").unwrap(), bias: None, stride: 1 };
            let a = tape.convolution(x, a, Tail::default());
            tape.subtraction(a, x, &[(3, norm(p, "conv_3.norm")), (5, norm(p, "conv_5.norm"))])
        },
    }
    .check();
}

/// The collapsed unit beside the published form: real convolutions with ones and real batch-norms of 64 channels.
#[test]
fn a_collapsed_unit_is_the_published_one() {
    let cpu = &Device::Cpu;
    let shape = (2, 4, 5, 6);
    let tensor = |seed| Tensor::from_vec(random(240, seed), shape, cpu).unwrap();
    let (a, b) = (tensor(1), tensor(2));
    let affine = [3, 5].map(|k| (random(4, 10 + k), random(4, 20 + k)));
    let mut want = (&a - &b).unwrap().abs().unwrap();
    for (k, (gamma, beta)) in [3, 5].iter().zip(&affine) {
        let ones = Tensor::ones((4, 4, *k, *k), candle_core::DType::F64, cpu).unwrap();
        let [gamma, beta] = [gamma, beta].map(|v| Tensor::from_vec(v.clone(), (1, 4, 1, 1), cpu).unwrap());
        let g = |z: &Tensor| {
            let z = z.conv2d(&ones, k / 2, 1, 1, 1).unwrap();
            let mean =
                |t: &Tensor| t.mean_keepdim(0).unwrap().mean_keepdim(2).unwrap().mean_keepdim(3).unwrap();
            let centred = z.broadcast_sub(&mean(&z)).unwrap();
            let deviation = (mean(&centred.sqr().unwrap()) + 1e-5).unwrap().sqrt().unwrap();
            let z = centred.broadcast_div(&deviation).unwrap();
            z.broadcast_mul(&gamma).unwrap().broadcast_add(&beta).unwrap().relu().unwrap()
        };
        want = (want + (g(&a) - g(&b)).unwrap().abs().unwrap()).unwrap();
    }
    let scales: Vec<_> = [3, 5]
        .iter()
        .zip(&affine)
        .map(|(&side, (gamma, beta))| super::subtraction::Scale { side, gamma, beta })
        .collect();
    let values = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f64>().unwrap();
    let mut out = vec![0.0; 240];
    let norms = super::subtraction::Norms::Batch;
    super::subtraction::forward(&values(&a), &values(&b), 4, (5, 6), &scales, norms, &mut out);
    assert!(apart(&out, &values(&want)) < 1e-12);
}

#[test]
fn resizes_are_candles() {
    let x: Vec<f32> = narrow(&random(2 * 3 * 5 * 7, 9));
    let tensor = Tensor::from_vec(x.clone(), (2, 3, 5, 7), &Device::Cpu).unwrap();
    for (h, w) in [(10, 14), (9, 3), (5, 8), (1, 1), (20, 13)] {
        let want =
            tensor.upsample_bilinear2d(h, w, false).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let mut out = vec![0f32; 6 * h * w];
        super::resize::forward(&x, (5, 7), (h, w), None, &mut out);
        let want: Vec<f64> = want.into_iter().map(f64::from).collect();
        assert!(apart(&out, &want) < 1e-5, "{h}x{w}");
    }
}

/// In candle's graph the gradients are the tape's, which finite differences have seen.
#[test]
fn candles_graph_goes_through_the_operations() {
    let cpu = &Device::Cpu;
    let var =
        |shape: &[usize], seed| Var::from_vec(random(shape.iter().product(), seed), shape, cpu).unwrap();
    let x = var(&[2, 3, 8, 8], 1);
    let (w, gamma, beta) = (var(&[4, 3, 3, 3], 2), var(&[4], 3), var(&[4], 4));
    let run = |x: &Tensor, w: &Tensor, gamma: &Tensor, beta: &Tensor| {
        let y = x.apply_op2(w, Convolution { stride: 1 })?;
        let y = y.apply_op3(gamma, beta, BatchNorm { relu: true, ..Default::default() })?;
        let pools = [Reshape::Max3, Reshape::Average3 { stride: 2 }, Reshape::Average2];
        let pooled: Vec<Tensor> =
            pools.iter().map(|op| y.apply_op1(*op)).collect::<candle_core::Result<_>>()?;
        let y = Tensor::cat(&pooled, 1)?.apply_op1(Reshape::Resize(7, 9))?;
        let weights = Tensor::from_vec(random(y.elem_count(), 77), y.shape(), cpu)?;
        (y * weights)?.sum_all()
    };
    let vars = [&x, &w, &gamma, &beta];
    let loss = run(&x, &w, &gamma, &beta).unwrap();
    let store = loss.backward().unwrap();
    let values = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f64>().unwrap();
    let gradients: Vec<_> = vars.iter().map(|v| values(store.get(v).unwrap())).collect();
    let arguments: Vec<_> = vars.iter().map(|v| values(v)).collect();
    let f = |a: &[Vec<f64>]| {
        let t: Vec<Tensor> =
            a.iter().zip(vars).map(|(a, v)| Tensor::from_vec(a.clone(), v.shape(), cpu).unwrap()).collect();
        run(&t[0], &t[1], &t[2], &t[3]).unwrap().to_scalar::<f64>().unwrap()
    };
    check_gradients(&arguments, &f, &gradients);
}

/// The same bits on any number of threads.
#[test]
fn sums_do_not_depend_on_threads() {
    let g = Geometry { batch: 3, cin: 7, h: 20, w: 18, cout: 10, kernel: 3, stride: 1 };
    let (x, grad) = (narrow(&random(g.input_len(), 1)), narrow(&random(g.output_len(), 2)));
    let with = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let mut dw = vec![0f32; g.weight_len()];
            Passes::fast(g).backward_weight(&x, &grad, &mut dw);
            let mut y = grad.clone();
            let affine = (vec![1f32; 10], vec![0f32; 10]);
            let of = super::batch_norm::forward(&grad, 360, (&affine.0, &affine.1), None, true, &mut y);
            (dw, y, of)
        })
    };
    assert!(with(1) == with(3));
}

/// A network's own passes: the gradient of the logits comes from outside and must not stay.
#[test]
fn memory_does_not_grow_from_step_to_step() {
    let mut parameters = Parameters::new();
    let weight = parameters.insert("a", &[2, 3, 3, 3], random(54, 1), true);
    let planes = Planes { batch: 2, channels: 3, h: 6, w: 5 };
    let mut spare = Spare::default();
    let mut held = Vec::new();
    for _ in 0..4 {
        let mut tape = Tape::new(&parameters, Mode::Training, &mut spare);
        let x = tape.input(planes, random(planes.len(), 2), false);
        let y = tape.convolution(x, Kernel { weight, bias: None, stride: 1 }, Tail::default());
        let grad = random(tape.planes(y).len(), 3);
        tape.backward(y, grad);
        held.push(spare.held());
    }
    assert!(held[0] > 0 && held.iter().all(|h| *h == held[0]), "{held:?}");
}
