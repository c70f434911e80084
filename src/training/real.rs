//! The two precisions that are trained in: f32 for work, f64 for checks.

use std::fmt::Debug;
use std::iter::Sum;
use std::ops::{Add, AddAssign, Div, Mul, MulAssign, Neg, Sub, SubAssign};

/// A number of a training step.
pub trait Real:
    Copy
    + Debug
    + Default
    + PartialOrd
    + Send
    + Sync
    + Sum
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
    + AddAssign
    + SubAssign
    + MulAssign
    + candle_core::WithDType
    + 'static
{
    /// Zero.
    const ZERO: Self;
    /// One.
    const ONE: Self;

    /// The nearest number of this precision.
    fn of(v: f64) -> Self;
    /// The same number in f64, exactly.
    fn wide(self) -> f64;
    /// Without its sign.
    fn magnitude(self) -> Self;
    /// Whether it is neither infinite nor NaN.
    fn finite(self) -> bool;

    /// `max(self, 0)`, NaN kept.
    fn rectified(self) -> Self {
        if self < Self::ZERO { Self::ZERO } else { self }
    }

    /// −1, 0 or 1; NaN kept.
    fn sign(self) -> Self {
        if self > Self::ZERO {
            Self::ONE
        } else if self < Self::ZERO {
            -Self::ONE
        } else if self == Self::ZERO {
            Self::ZERO
        } else {
            self
        }
    }
}

impl Real for f32 {
    const ZERO: Self = 0.0;
    const ONE: Self = 1.0;

    fn of(v: f64) -> Self {
        v as f32
    }

    fn wide(self) -> f64 {
        f64::from(self)
    }

    fn magnitude(self) -> Self {
        self.abs()
    }

    fn finite(self) -> bool {
        self.is_finite()
    }
}

impl Real for f64 {
    const ZERO: Self = 0.0;
    const ONE: Self = 1.0;

    fn of(v: f64) -> Self {
        v
    }

    fn wide(self) -> f64 {
        self
    }

    fn magnitude(self) -> Self {
        self.abs()
    }

    fn finite(self) -> bool {
        self.is_finite()
    }
}

/// Sum in wide steps: partial sums of a few hundred values in the precision itself, these in f64.
pub fn sum<T: Real>(values: &[T]) -> f64 {
    folded(values, |v| v)
}

/// Sum of `(v − centre)²`, as [`sum`].
pub fn squares_about<T: Real>(values: &[T], centre: T) -> f64 {
    folded(values, |v| (v - centre) * (v - centre))
}

fn folded<T: Real>(values: &[T], term: impl Fn(T) -> T) -> f64 {
    let mut total = 0.0;
    for piece in values.chunks(512) {
        let mut parts = [T::ZERO; 16];
        let (whole, rest) = piece.as_chunks::<16>();
        for sixteen in whole {
            for (part, &v) in parts.iter_mut().zip(sixteen) {
                *part += term(v);
            }
        }
        for (part, &v) in parts.iter_mut().zip(rest) {
            *part += term(v);
        }
        total += parts.iter().map(|p| p.wide()).sum::<f64>();
    }
    total
}
