//! A running mean of the parameters (EMA), which judges better than the last step's: parameters flow in, their mean
//! flows out. Running statistics are averaged with the rest.

use rayon::prelude::*;

use super::super::parameters::Parameters;
use super::super::real::Real;
use super::PIECE;

/// See the module.
#[derive(Clone, Debug, PartialEq)]
pub struct Average<T> {
    /// Share of the old mean that stays, in the long run.
    decay: f64,
    parameters: Parameters<T>,
}

impl<T: Real> Average<T> {
    /// A mean that begins with these parameters; `decay` is the share of the old mean that stays, 0 to 1.
    pub fn new(decay: f64, parameters: &Parameters<T>) -> Self {
        Self { decay, parameters: parameters.clone() }
    }

    /// After step `step`, counted from 1. At first the mean follows faster, so that it does not remember the start.
    pub fn follow(&mut self, parameters: &Parameters<T>, step: u64) {
        let step = step as f64;
        let keep = self.decay.min((1.0 + step) / (10.0 + step));
        let (keep, take) = (T::of(keep), T::of(1.0 - keep));
        for ((_, mean), (_, now)) in self.parameters.iter_mut().zip(parameters.iter()) {
            let pieces = mean.values.par_chunks_mut(PIECE).zip(now.values.par_chunks(PIECE));
            pieces.for_each(|(mean, now)| {
                mean.iter_mut().zip(now).for_each(|(mean, &now)| *mean = keep * *mean + take * now);
            });
        }
    }

    /// The mean.
    pub fn parameters(&self) -> &Parameters<T> {
        &self.parameters
    }

    /// The mean, for a state that is put back.
    pub fn parameters_mut(&mut self) -> &mut Parameters<T> {
        &mut self.parameters
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mean_follows() {
        let mut p = Parameters::new();
        let id = p.insert("a", &[1], vec![1.0f64], true);
        let mut mean = Average::new(0.5, &p);
        p.values_mut(id)[0] = 3.0;
        mean.follow(&p, 1_000);
        assert_eq!(mean.parameters().values(id)[0], 2.0);
        mean.follow(&p, 1);
        assert!((mean.parameters().values(id)[0] - (2.0 * 2.0 / 11.0 + 3.0 * 9.0 / 11.0)).abs() < 1e-12);
    }
}
