//! The learning rate over a run: how far it is flows in, a factor flows out.

/// How the rate falls after its rise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Shape {
    /// The published one: up to the middle of the run and down again, `1 − |2 · progress − 1|`.
    Triangular,
    /// Half a cosine down to nothing.
    Cosine,
    /// The largest rate from the end of the rise on.
    Constant,
}

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Schedule {
    /// How the rate falls.
    pub shape: Shape,
    /// Steps in which the rate rises from nothing, whatever the shape.
    pub warm_up: u64,
}

impl Schedule {
    /// The factor of the largest rate at step `step` (from 0), when a share `progress` of the run has passed.
    pub fn factor(&self, step: u64, progress: f64) -> f64 {
        let progress = progress.clamp(0.0, 1.0);
        let rise = if step < self.warm_up { (step + 1) as f64 / (self.warm_up + 1) as f64 } else { 1.0 };
        rise * match self.shape {
            Shape::Triangular => 1.0 - (2.0 * progress - 1.0).abs(),
            Shape::Cosine => 0.5 + 0.5 * (std::f64::consts::PI * progress).cos(),
            Shape::Constant => 1.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_rise_and_fall() {
        let of = |shape, warm_up| Schedule { shape, warm_up };
        let triangle = of(Shape::Triangular, 0);
        assert_eq!([0.0, 0.25, 0.5, 1.0].map(|p| triangle.factor(9, p)), [0.0, 0.5, 1.0, 0.0]);
        let cosine = of(Shape::Cosine, 3);
        assert_eq!(cosine.factor(0, 0.0), 0.25);
        assert!((cosine.factor(100, 0.5) - 0.5).abs() < 1e-12 && cosine.factor(100, 1.5) < 1e-12);
        assert_eq!(of(Shape::Constant, 0).factor(0, 0.9), 1.0);
    }
}
