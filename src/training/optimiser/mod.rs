//! From gradients to the next parameters.
//!
//! In: parameters, their gradients, a learning rate. Out: parameters moved, and the optimiser's own memory, which is
//! written with them so that a run that goes on gives the same bits as one that was never interrupted.

mod average;
mod schedule;

pub use average::Average;
pub use schedule::{Schedule, Shape};

use std::collections::BTreeMap;

use rayon::prelude::*;

use super::parameters::{Gradients, ParameterId, Parameters};
use super::real::Real;
use crate::{Error, Result};

/// Values that a thread takes at a time.
const PIECE: usize = 1 << 14;

/// How parameters follow their gradients.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(tag = "name", rename_all = "lowercase")]
pub enum Rule {
    /// Momentum, and a look ahead (Nesterov); the decay is part of the gradient. As PyTorch's `SGD`.
    Sgd {
        /// Share of the last step's direction that stays.
        momentum: f64,
        /// Whether a step looks ahead by its momentum.
        nesterov: bool,
        /// Times the value, added to its gradient.
        decay: f64,
    },
    /// Loshchilov and Hutter 2019; the decay is apart from the gradient and spares vectors. As PyTorch's `AdamW`.
    AdamW {
        /// Share of the old mean of the gradients that stays.
        beta1: f64,
        /// Share of the old mean of their squares that stays.
        beta2: f64,
        /// Added to the root of that mean, so that nothing is divided by 0.
        epsilon: f64,
        /// Times the rate, the share of each value that a step takes off.
        decay: f64,
    },
}

impl Rule {
    /// What the paper trains with.
    pub const PUBLISHED: Self = Self::Sgd { momentum: 0.9, nesterov: true, decay: 5e-4 };

    /// What the recipe for fine-tuning trains with; its decay is five times PyTorch's default.
    pub const ADAMW: Self = Self::AdamW { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, decay: 0.05 };
}

/// Memory of one parameter: the momentum, or first and second moment.
#[derive(Clone, Debug, PartialEq)]
struct Memory<T> {
    first: Vec<T>,
    second: Vec<T>,
}

/// A rule and its memory.
#[derive(Clone, Debug, PartialEq)]
pub struct Optimiser<T> {
    rule: Rule,
    steps: u64,
    memory: BTreeMap<ParameterId, Memory<T>>,
}

/// Keys of the memory in a state file are those of the parameters behind one of these.
const FIRST: &str = "first.";
const SECOND: &str = "second.";

impl<T: Real> Optimiser<T> {
    /// A rule that remembers nothing yet.
    pub fn new(rule: Rule) -> Self {
        Self { rule, steps: 0, memory: BTreeMap::new() }
    }

    /// The rule that it follows.
    pub fn rule(&self) -> Rule {
        self.rule
    }

    /// Moves the trained parameters; `rate` gives each key its learning rate.
    pub fn step(
        &mut self,
        parameters: &mut Parameters<T>,
        gradients: &Gradients<T>,
        rate: impl Fn(&str) -> f64,
    ) {
        self.steps += 1;
        for (id, parameter) in parameters.iter_mut().filter(|(_, p)| p.trained) {
            let Some(gradient) = gradients.get(id) else { continue };
            let rate = rate(&parameter.key);
            let vector = parameter.shape.len() == 1;
            let values = &mut parameter.values;
            match self.rule {
                Rule::Sgd { momentum, nesterov, decay } => {
                    let first = self.memory.contains_key(&id);
                    let memory = self
                        .memory
                        .entry(id)
                        .or_insert_with(|| Memory { first: vec![T::ZERO; values.len()], second: Vec::new() });
                    let (rate, momentum, decay) = (T::of(rate), T::of(momentum), T::of(decay));
                    let all = (values.par_chunks_mut(PIECE))
                        .zip(memory.first.par_chunks_mut(PIECE))
                        .zip(gradient.par_chunks(PIECE));
                    all.for_each(|((values, memory), gradient)| {
                        for ((v, m), &g) in values.iter_mut().zip(memory).zip(gradient) {
                            let g = g + decay * *v;
                            // The first step's momentum is the gradient itself.
                            *m = if first { momentum * *m + g } else { g };
                            *v -= rate * if nesterov { g + momentum * *m } else { *m };
                        }
                    });
                }
                Rule::AdamW { beta1, beta2, epsilon, decay } => {
                    let memory = self.memory.entry(id).or_insert_with(|| Memory {
                        first: vec![T::ZERO; values.len()],
                        second: vec![T::ZERO; values.len()],
                    });
                    let steps = self.steps as i32;
                    let (c1, c2) = (1.0 - beta1.powi(steps), 1.0 - beta2.powi(steps));
                    let keep = T::of(1.0 - if vector { 0.0 } else { rate * decay });
                    let (b1, b2) = (T::of(beta1), T::of(beta2));
                    let pace = rate / c1;
                    let all = (values.par_chunks_mut(PIECE))
                        .zip(memory.first.par_chunks_mut(PIECE))
                        .zip(memory.second.par_chunks_mut(PIECE))
                        .zip(gradient.par_chunks(PIECE));
                    all.for_each(|(((values, first), second), gradient)| {
                        for (((v, m), s), &g) in values.iter_mut().zip(first).zip(second).zip(gradient) {
                            *m = b1 * *m + (T::ONE - b1) * g;
                            *s = b2 * *s + (T::ONE - b2) * g * g;
                            let by = pace * m.wide() / ((s.wide() / c2).sqrt() + epsilon);
                            *v = *v * keep - T::of(by);
                        }
                    });
                }
            }
        }
    }

    /// The memory by key, for a state file.
    pub fn state<'a>(&'a self, parameters: &'a Parameters<T>) -> Vec<(String, &'a [T])> {
        let mut out = Vec::new();
        for (&id, memory) in &self.memory {
            let key = &parameters.get(id).key;
            out.push((format!("{FIRST}{key}"), memory.first.as_slice()));
            if !memory.second.is_empty() {
                out.push((format!("{SECOND}{key}"), memory.second.as_slice()));
            }
        }
        out
    }

    /// Steps done, which AdamW's means are corrected by.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// Puts back what [`Optimiser::state`] gave.
    ///
    /// # Errors
    /// Memory of a parameter this network does not have, or of another length.
    pub fn restore(
        rule: Rule,
        steps: u64,
        parameters: &Parameters<T>,
        state: Vec<(String, Vec<T>)>,
    ) -> Result<Self> {
        let mut out = Self { rule, steps, memory: BTreeMap::new() };
        for (name, values) in state {
            let (second, key) = match (name.strip_prefix(FIRST), name.strip_prefix(SECOND)) {
                (Some(key), _) => (false, key),
                (_, Some(key)) => (true, key),
                _ => continue,
            };
            let id = parameters
                .id(key)
                .filter(|&id| parameters.values(id).len() == values.len())
                .ok_or_else(|| Error::input(format!("the optimiser's memory {name} fits no parameter")))?;
            let memory = out.memory.entry(id).or_insert(Memory { first: Vec::new(), second: Vec::new() });
            *(if second { &mut memory.second } else { &mut memory.first }) = values;
        }
        let whole = |m: &Memory<T>| match rule {
            Rule::Sgd { .. } => m.second.is_empty(),
            Rule::AdamW { .. } => m.first.len() == m.second.len(),
        };
        if !out.memory.values().all(whole) {
            return Err(Error::input("the optimiser's memory is of another optimiser"));
        }
        Ok(out)
    }
}

/// Scales gradients so that their norm is at most `most`; returns the norm they had.
pub fn clip<T: Real>(gradients: &mut Gradients<T>, most: Option<f64>) -> f64 {
    let norm = gradients.norm();
    if let Some(most) = most
        && norm > most
    {
        gradients.scale(most / (norm + 1e-6));
    }
    norm
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(value: f64) -> (Parameters<f64>, ParameterId) {
        let mut p = Parameters::new();
        let id = p.insert("a.weight", &[1, 1, 1, 1], vec![value], true);
        (p, id)
    }

    fn run(rule: Rule, gradients: &[f64], rate: f64) -> f64 {
        let (mut p, id) = one(1.0);
        let mut optimiser = Optimiser::new(rule);
        for &g in gradients {
            let mut gradient = Gradients::of(&p);
            gradient.add(id, &[g]);
            optimiser.step(&mut p, &gradient, |_| rate);
        }
        p.values(id)[0]
    }

    /// By hand, after PyTorch's own formulas.
    #[test]
    fn rules_move_as_pytorchs() {
        let sgd = Rule::Sgd { momentum: 0.9, nesterov: true, decay: 0.1 };
        // g = 0.5 + 0.1·1 = 0.6, m = 0.6, v = 1 − 0.1·(0.6 + 0.54) = 0.886
        // g = 0.5 + 0.0886 = 0.5886, m = 0.54 + 0.5886 = 1.1286, v = 0.886 − 0.1·(0.5886 + 1.01574)
        assert!((run(sgd, &[0.5], 0.1) - 0.886).abs() < 1e-12);
        assert!((run(sgd, &[0.5, 0.5], 0.1) - (0.886 - 0.160_434)).abs() < 1e-12);
        let plain = Rule::Sgd { momentum: 0.0, nesterov: false, decay: 0.0 };
        assert!((run(plain, &[2.0, 3.0], 0.1) - 0.5).abs() < 1e-12);
        let adam = Rule::AdamW { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, decay: 0.1 };
        // The first step's size is the rate, whatever the gradient.
        assert!((run(adam, &[123.0], 0.01) - (1.0 * (1.0 - 0.001) - 0.01)).abs() < 1e-9);
    }

    #[test]
    fn memory_goes_to_a_file_and_back() {
        for rule in [Rule::PUBLISHED, Rule::ADAMW] {
            let (mut p, id) = one(1.0);
            let mut optimiser = Optimiser::new(rule);
            let mut gradient = Gradients::of(&p);
            gradient.add(id, &[0.3]);
            optimiser.step(&mut p, &gradient, |_| 0.1);
            let state: Vec<_> = optimiser.state(&p).into_iter().map(|(k, v)| (k, v.to_vec())).collect();
            let again = Optimiser::restore(rule, optimiser.steps(), &p, state.clone()).unwrap();
            assert_eq!(again, optimiser);
            let other = if rule == Rule::ADAMW { Rule::PUBLISHED } else { Rule::ADAMW };
            assert!(Optimiser::restore(other, 1, &p, state).is_err());
            assert!(Optimiser::<f64>::restore(rule, 1, &p, vec![("first.b".into(), vec![1.0])]).is_err());
        }
    }

    #[test]
    fn clipping_keeps_the_direction() {
        let (p, id) = one(1.0);
        let mut g = Gradients::of(&p);
        g.add(id, &[-4.0]);
        assert_eq!(clip(&mut g, Some(8.0)), 4.0);
        assert_eq!(clip(&mut g, Some(1.0)), 4.0);
        assert!((g.get(id).unwrap()[0] + 1.0).abs() < 1e-6);
    }
}
