//! The oracle: plain loops in f64 over any form of a program.
//!
//! In: a program, its parameters by key, an input. Out: every value a node wrote, for comparison with what a pass or an
//! engine made of it. Slow; no kernel, no layout and no tensor library is shared with what it measures.

use super::{Op, Pool, Program, Value, Weights};
use crate::{Error, Result};

/// PyTorch's default of `BatchNorm2d`.
const EPSILON: f64 = 1e-5;

/// Parameters by the checkpoint's keys.
pub type Lookup<'a> = &'a dyn Fn(&str) -> Result<Vec<f32>>;

/// Values of a run; `None` where no node of the program's form writes it.
pub type Values = Vec<Option<Vec<f64>>>;

/// Runs a program on `[3, height, width]`.
///
/// # Errors
/// A parameter that is missing or has another length; an input of another length.
pub fn run(program: &Program, parameters: Lookup, input: &[f32]) -> Result<Values> {
    let mut run = Run { program, parameters, values: vec![None; program.facts().len()] };
    for node in program.nodes() {
        run.node(&node.op, input)?;
    }
    Ok(run.values)
}

struct Run<'a> {
    program: &'a Program,
    parameters: Lookup<'a>,
    values: Values,
}

/// `[channels, height, width]`.
type Map = Vec<f64>;

impl Run<'_> {
    fn get(&self, value: Value) -> Result<&[f64]> {
        self.values[value.index()]
            .as_deref()
            .ok_or_else(|| Error::internal("a program reads a value before it is written"))
    }

    fn put(&mut self, value: Value, map: Map) {
        debug_assert_eq!(map.len(), self.program.fact(value).len());
        self.values[value.index()] = Some(map);
    }

    fn parameter(&self, key: &str, len: usize) -> Result<Vec<f64>> {
        let values = (self.parameters)(key)?;
        if values.len() != len {
            return Err(Error::internal(format!("{key}: {} values instead of {len}", values.len())));
        }
        Ok(values.into_iter().map(f64::from).collect())
    }

    fn size(&self, value: Value) -> (usize, usize) {
        self.program.fact(value).size()
    }

    fn node(&mut self, op: &Op, input: &[f32]) -> Result<()> {
        match op {
            Op::Input { to } => {
                if input.len() != self.program.fact(*to).len() {
                    return Err(Error::internal("the interpreter was given an input of another length"));
                }
                self.put(*to, input.iter().map(|v| f64::from(*v)).collect());
            }
            Op::Conv { of, stride, weights, to } => {
                let map = self.conv(*of, weights, *stride)?;
                self.put(*to, map);
            }
            Op::Norm { of, at, to } => {
                let map = self.norm(self.get(*of)?.to_vec(), at, self.program.fact(*to).channels)?;
                self.put(*to, map);
            }
            Op::Relu { of, to } => {
                let map = self.get(*of)?.iter().map(|v| relu(*v)).collect();
                self.put(*to, map);
            }
            Op::Add { a, b, to } => {
                let map = sum(self.get(*a)?, self.get(*b)?);
                self.put(*to, map);
            }
            Op::Slice { of, from, to } => {
                let (plane, len) = (
                    self.program.fact(*of).height * self.program.fact(*of).width,
                    self.program.fact(*to).len(),
                );
                let map = self.get(*of)?[from * plane..from * plane + len].to_vec();
                self.put(*to, map);
            }
            Op::Concat { of, to } => {
                let mut map = Vec::new();
                for value in of {
                    map.extend_from_slice(self.get(*value)?);
                }
                self.put(*to, map);
            }
            Op::Pool { of, kind, to, sum } => {
                let map = pool(self.get(*of)?, self.size(*of), *kind, self.size(*to));
                if let Some(plane) = sum {
                    self.put(*plane, channel_sum(&map, self.size(*to)));
                }
                self.put(*to, map);
            }
            Op::Resize { of, to } | Op::Enlarge { of, to } => {
                let map = resize(self.get(*of)?, self.size(*of), self.size(*to));
                self.put(*to, map);
            }
            Op::Difference { a, b, norms, to } => {
                let map = self.difference(self.get(*a)?.to_vec(), *b, norms.as_ref())?;
                self.put(*to, map);
            }
            Op::Fused(conv) => {
                let mut map: Option<Map> = None;
                let Some(&result) = op.writes().first() else { return Ok(()) };
                for source in &conv.sources {
                    let one = self.conv(source.of, &source.weights, source.stride)?;
                    map = Some(match map {
                        Some(before) => self::sum(&before, &one),
                        None => one,
                    });
                }
                let mut map = map.unwrap_or_default();
                if let Some(residual) = conv.residual {
                    map = self::sum(&map, self.get(residual)?);
                }
                if conv.relu {
                    map.iter_mut().for_each(|v| *v = relu(*v));
                }
                let (h, w) = self.size(result);
                for out in &conv.outs {
                    self.put(out.to, map[out.channels.start * h * w..out.channels.end * h * w].to_vec());
                }
                if let Some(plane) = conv.sum {
                    self.put(plane, channel_sum(&map, (h, w)));
                }
                if let Some((add, to)) = conv.also {
                    let map = self::sum(self.get(add)?, &map);
                    self.put(to, map);
                }
            }
            Op::Subtract { a, b, terms, to } => {
                let a = resize(self.get(*a)?, self.size(*a), self.size(*b));
                let map = self.difference(a, *b, terms.as_ref().map(|t| &t.norms))?;
                self.put(*to, map);
            }
            Op::ResizeAdd { coarse, fine, to } => {
                let large = resize(self.get(*coarse)?, self.size(*coarse), self.size(*fine));
                let map = sum(&large, self.get(*fine)?);
                self.put(*to, map);
            }
            Op::Logits { of, weights, to } => {
                let map = self.conv(*of, weights, 1)?;
                self.put(*to, map);
            }
        }
        Ok(())
    }

    /// With bias and batch-norm, where it has them.
    fn conv(&self, of: Value, weights: &Weights, stride: usize) -> Result<Map> {
        let Weights { out, cin, size, .. } = *weights;
        let kernel = self.parameter(&weights.kernel, out * cin * size * size)?;
        let bias = match &weights.bias {
            Some(key) => self.parameter(key, out)?,
            None => vec![0.0; out],
        };
        let from = self.get(of)?;
        let (h, w) = self.size(of);
        let (oh, ow) = (h.div_ceil(stride), w.div_ceil(stride));
        let reach = size / 2;
        let mut map = vec![0.0; out * oh * ow];
        for o in 0..out {
            let result = &mut map[o * oh * ow..(o + 1) * oh * ow];
            result.fill(bias[o]);
            for c in 0..cin {
                let plane = &from[c * h * w..(c + 1) * h * w];
                for ky in 0..size {
                    for kx in 0..size {
                        let k = kernel[((o * cin + c) * size + ky) * size + kx];
                        for y in 0..oh {
                            let sy = y * stride + ky;
                            if sy < reach || sy - reach >= h {
                                continue;
                            }
                            let row = &plane[(sy - reach) * w..(sy - reach + 1) * w];
                            for x in 0..ow {
                                let sx = x * stride + kx;
                                if sx >= reach && sx - reach < w {
                                    result[y * ow + x] += k * row[sx - reach];
                                }
                            }
                        }
                    }
                }
            }
        }
        match &weights.norm {
            Some(at) => self.norm(map, at, out),
            None => Ok(map),
        }
    }

    fn norm(&self, mut map: Map, at: &str, channels: usize) -> Result<Map> {
        let get = |leaf: &str| self.parameter(&format!("{at}.{leaf}"), channels);
        let (weight, bias) = (get("weight")?, get("bias")?);
        let (mean, var) = (get("running_mean")?, get("running_var")?);
        let plane = map.len() / channels.max(1);
        for (c, values) in map.chunks_exact_mut(plane.max(1)).enumerate() {
            for v in values {
                *v = weight[c] * (*v - mean[c]) / (var[c] + EPSILON).sqrt() + bias[c];
            }
        }
        Ok(map)
    }

    fn difference(&self, a: Map, b: Value, norms: Option<&[String; 2]>) -> Result<Map> {
        let fact = self.program.fact(b);
        let (channels, (h, w)) = (fact.channels, fact.size());
        let b = self.get(b)?;
        let mut map: Map = a.iter().zip(b).map(|(a, b)| (a - b).abs()).collect();
        for (norm, reach) in norms.into_iter().flatten().zip([1usize, 2]) {
            let term = |z: &[f64]| -> Result<Map> {
                // All weights being one, every output channel is the same plane.
                let boxed = box_sum(&channel_sum(z, (h, w)), (h, w), reach);
                let repeated: Map = (0..channels).flat_map(|_| boxed.iter().copied()).collect();
                Ok(self.norm(repeated, norm, channels)?.into_iter().map(relu).collect())
            };
            for ((v, a), b) in map.iter_mut().zip(term(&a)?).zip(term(b)?) {
                *v += (a - b).abs();
            }
        }
        Ok(map)
    }
}

/// NaN stays NaN.
fn relu(v: f64) -> f64 {
    if v < 0.0 { 0.0 } else { v }
}

fn sum(a: &[f64], b: &[f64]) -> Map {
    a.iter().zip(b).map(|(a, b)| a + b).collect()
}

fn channel_sum(map: &[f64], (h, w): (usize, usize)) -> Map {
    let mut plane = vec![0.0; h * w];
    for values in map.chunks_exact(h * w) {
        plane.iter_mut().zip(values).for_each(|(s, v)| *s += v);
    }
    plane
}

fn box_sum(plane: &[f64], (h, w): (usize, usize), reach: usize) -> Map {
    let mut boxed = vec![0.0; h * w];
    for y in 0..h {
        for x in 0..w {
            for sy in y.saturating_sub(reach)..(y + reach + 1).min(h) {
                for sx in x.saturating_sub(reach)..(x + reach + 1).min(w) {
                    boxed[y * w + x] += plane[sy * w + sx];
                }
            }
        }
    }
    boxed
}

fn pool(map: &[f64], (h, w): (usize, usize), kind: Pool, (oh, ow): (usize, usize)) -> Map {
    let mut result = Vec::with_capacity(map.len() / (h * w) * oh * ow);
    for plane in map.chunks_exact(h * w) {
        let at = |y: isize, x: isize| {
            let inside = y >= 0 && x >= 0 && y < h as isize && x < w as isize;
            inside.then(|| plane[y as usize * w + x as usize])
        };
        for y in 0..oh as isize {
            for x in 0..ow as isize {
                let window = |stride: isize, from: isize, to: isize| {
                    (from..to)
                        .flat_map(move |dy| (from..to).map(move |dx| (y * stride + dy, x * stride + dx)))
                };
                result.push(match kind {
                    Pool::Max3 => window(2, -1, 2)
                        .filter_map(|(y, x)| at(y, x))
                        .fold(f64::NEG_INFINITY, |m, v| if v.is_nan() || v > m { v } else { m }),
                    Pool::Average3 { stride } => {
                        window(stride as isize, -1, 2).filter_map(|(y, x)| at(y, x)).sum::<f64>() / 9.0
                    }
                    Pool::Average2 => window(2, 0, 2).filter_map(|(y, x)| at(y, x)).sum::<f64>() / 4.0,
                });
            }
        }
    }
    result
}

/// PyTorch's bilinear rule with `align_corners=False`.
fn resize(map: &[f64], (h, w): (usize, usize), (oh, ow): (usize, usize)) -> Map {
    if (h, w) == (oh, ow) {
        return map.to_vec();
    }
    let axis = |from: usize, to: usize| -> Vec<(usize, usize, f64)> {
        (0..to)
            .map(|i| {
                let at = ((i as f64 + 0.5) * from as f64 / to as f64 - 0.5).max(0.0);
                let low = (at as usize).min(from - 1);
                (low, (low + 1).min(from - 1), at - low as f64)
            })
            .collect()
    };
    let (rows, columns) = (axis(h, oh), axis(w, ow));
    let mut result = Vec::with_capacity(map.len() / (h * w) * oh * ow);
    for plane in map.chunks_exact(h * w) {
        for &(y0, y1, fy) in &rows {
            for &(x0, x1, fx) in &columns {
                let top = plane[y0 * w + x0] * (1.0 - fx) + plane[y0 * w + x1] * fx;
                let bottom = plane[y1 * w + x0] * (1.0 - fx) + plane[y1 * w + x1] * fx;
                result.push(top * (1.0 - fy) + bottom * fy);
            }
        }
    }
    result
}
