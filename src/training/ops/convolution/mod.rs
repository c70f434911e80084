//! Convolutions with "same" padding: planes and weights flow in, planes and gradients flow out.
//!
//! [`Passes::fast`] runs on our own kernels in f32 (3x3 ones by Winograd's algorithm where that gains),
//! [`Passes::plain`] writes the convolution out as a matrix product (im2col) in any precision: the reference of the
//! tests, and what checks in f64 run on.

mod fast;
mod geometry;
mod kernel;
mod plain;
mod points;
mod scratch;
mod winograd;

pub use geometry::Geometry;
use kernel::Kernels;

use super::super::real::Real;

/// A precision with its convolution: our own kernels in f32, matrix products in f64.
pub trait Convolve: Real {
    /// The passes of one convolution in this precision.
    fn convolution(g: &Geometry) -> Passes<Self>;
}

impl Convolve for f32 {
    fn convolution(g: &Geometry) -> Passes<Self> {
        Passes::fast(*g)
    }
}

impl Convolve for f64 {
    fn convolution(g: &Geometry) -> Passes<Self> {
        Passes::plain(*g)
    }
}

/// The three passes of one convolution.
pub struct Passes<T: Real> {
    g: Geometry,
    /// Only where `T` is f32.
    kernels: Option<Kernels>,
    /// Whether they work on Winograd's points.
    by_points: bool,
    of: std::marker::PhantomData<T>,
}

impl Passes<f32> {
    /// By the best kernels that this processor has, in f32.
    pub fn fast(g: Geometry) -> Self {
        Self {
            g,
            kernels: Some(Kernels::best()),
            by_points: winograd::suits(&g),
            of: std::marker::PhantomData,
        }
    }

    /// Without Winograd's algorithm.
    #[cfg(test)]
    pub fn direct(self) -> Self {
        Self { by_points: false, ..self }
    }

    /// Whether Winograd's algorithm is used.
    #[cfg(test)]
    pub fn by_points(&self) -> bool {
        self.by_points
    }

    /// The same by every set of kernels that runs here, plain Rust the last; a set that does not is left out, aloud.
    #[cfg(test)]
    pub fn by_all_kernels(g: Geometry) -> impl Iterator<Item = Self> {
        Kernels::sets().filter_map(move |(name, kernels)| {
            if kernels.is_none() {
                crate::skipped::skip("processor", format_args!("this processor has no {name}"));
            }
            kernels.map(|kernels| Self { kernels: Some(kernels), ..Self::fast(g) })
        })
    }
}

/// The same memory as f32, which it is wherever kernels were chosen.
fn narrow<T: Real>(values: &[T]) -> &[f32] {
    assert_eq!(T::DTYPE, candle_core::DType::F32, "our kernels are f32");
    // SAFETY: `T` is f32, as was just asked.
    unsafe { std::slice::from_raw_parts(values.as_ptr().cast(), values.len()) }
}

fn narrow_mut<T: Real>(values: &mut [T]) -> &mut [f32] {
    assert_eq!(T::DTYPE, candle_core::DType::F32, "our kernels are f32");
    // SAFETY: `T` is f32, as was just asked.
    unsafe { std::slice::from_raw_parts_mut(values.as_mut_ptr().cast(), values.len()) }
}

impl<T: Real> Passes<T> {
    /// By matrix products, in any precision.
    pub fn plain(g: Geometry) -> Self {
        Self { g, kernels: None, by_points: false, of: std::marker::PhantomData }
    }

    /// `out = conv(x, weights) + bias`; every value of `out` is written.
    pub fn forward(&self, x: &[T], weights: &[T], bias: Option<&[T]>, out: &mut [T]) {
        match self.kernels {
            Some(k) if self.by_points => {
                let bias = bias.map(narrow);
                winograd::forward(&self.g, k, narrow(x), narrow(weights), bias, narrow_mut(out));
            }
            Some(k) => {
                fast::forward(&self.g, k, narrow(x), narrow(weights), bias.map(narrow), narrow_mut(out));
            }
            None => plain::forward(&self.g, x, weights, bias, out),
        }
    }

    /// The gradient of the input from that of the output; every value of `out` is written.
    pub fn backward_input(&self, weights: &[T], grad: &[T], out: &mut [T]) {
        match self.kernels {
            Some(k) if self.by_points => {
                winograd::backward_input(&self.g, k, narrow(weights), narrow(grad), narrow_mut(out));
            }
            Some(k) => fast::backward_input(&self.g, k, narrow(weights), narrow(grad), narrow_mut(out)),
            None => plain::backward_input(&self.g, weights, grad, out),
        }
    }

    /// Adds the gradient of the weights to `out`.
    pub fn backward_weight(&self, x: &[T], grad: &[T], out: &mut [T]) {
        match self.kernels {
            Some(k) if self.by_points => {
                winograd::backward_weight(&self.g, k, narrow(x), narrow(grad), narrow_mut(out));
            }
            Some(k) => fast::backward_weight(&self.g, k, narrow(x), narrow(grad), narrow_mut(out)),
            None => plain::backward_weight(&self.g, x, grad, out),
        }
    }
}
