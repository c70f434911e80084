//! The numbers a network learns, under their published keys, and their gradients.

use std::collections::HashMap;

use rayon::prelude::*;

use super::real::Real;

/// Place of a parameter in [`Parameters`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ParameterId(pub(super) usize);

/// One tensor of a network.
#[derive(Clone, Debug, PartialEq)]
pub struct Parameter<T> {
    /// Its key in the published checkpoint.
    pub key: String,
    /// Its dimensions, in PyTorch's order.
    pub shape: Vec<usize>,
    /// Row-major.
    pub values: Vec<T>,
    /// Whether an optimiser moves it. Running statistics are moved by the forward pass and by nothing else.
    pub trained: bool,
}

/// All of a network's parameters.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Parameters<T> {
    list: Vec<Parameter<T>>,
    by_key: HashMap<String, ParameterId>,
}

impl<T: Real> Parameters<T> {
    /// None yet.
    pub fn new() -> Self {
        Self { list: Vec::new(), by_key: HashMap::new() }
    }

    /// Adds one, or replaces the one of that key.
    pub fn insert(&mut self, key: &str, shape: &[usize], values: Vec<T>, trained: bool) -> ParameterId {
        assert_eq!(values.len(), shape.iter().product::<usize>(), "values of {key}");
        let parameter = Parameter { key: key.to_owned(), shape: shape.to_vec(), values, trained };
        if let Some(&id) = self.by_key.get(key) {
            self.list[id.0] = parameter;
            return id;
        }
        let id = ParameterId(self.list.len());
        self.by_key.insert(key.to_owned(), id);
        self.list.push(parameter);
        id
    }

    /// The place of a key; `None` where there is no such parameter.
    pub fn id(&self, key: &str) -> Option<ParameterId> {
        self.by_key.get(key).copied()
    }

    /// One parameter.
    pub fn get(&self, id: ParameterId) -> &Parameter<T> {
        &self.list[id.0]
    }

    /// One parameter's values, row-major.
    pub fn values(&self, id: ParameterId) -> &[T] {
        &self.list[id.0].values
    }

    /// One parameter's values, to be written; their number must stay.
    pub fn values_mut(&mut self, id: ParameterId) -> &mut Vec<T> {
        &mut self.list[id.0].values
    }

    /// Two of them, to be written together.
    pub fn pair_mut(&mut self, a: ParameterId, b: ParameterId) -> (&mut [T], &mut [T]) {
        let [a, b] = self.list.get_disjoint_mut([a.0, b.0]).expect("two parameters, not one twice");
        (&mut a.values, &mut b.values)
    }

    /// The parameter of a key; `None` where there is none.
    pub fn by_key(&self, key: &str) -> Option<&Parameter<T>> {
        self.id(key).map(|id| self.get(id))
    }

    /// Every parameter with its place, in the order in which they were added.
    pub fn iter(&self) -> impl Iterator<Item = (ParameterId, &Parameter<T>)> {
        self.list.iter().enumerate().map(|(i, p)| (ParameterId(i), p))
    }

    /// The same, to be written; key and shape must stay.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (ParameterId, &mut Parameter<T>)> {
        self.list.iter_mut().enumerate().map(|(i, p)| (ParameterId(i), p))
    }

    /// Number of parameters, not of their values.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The parameters whose key `which` accepts are no longer trained.
    pub fn freeze(&mut self, which: impl Fn(&str) -> bool) {
        self.list.iter_mut().filter(|p| which(&p.key)).for_each(|p| p.trained = false);
    }
}

/// Gradients of trained parameters; those a step did not touch are absent.
#[derive(Clone, Debug)]
pub struct Gradients<T>(Vec<Option<Vec<T>>>);

impl<T: Real> Gradients<T> {
    /// None yet, with room for one of each parameter.
    pub fn of(parameters: &Parameters<T>) -> Self {
        Self(vec![None; parameters.len()])
    }

    /// One parameter's gradient; `None` where no step touched it.
    pub fn get(&self, id: ParameterId) -> Option<&[T]> {
        self.0[id.0].as_deref()
    }

    /// The gradient to add to: zeros at first.
    pub fn entry(&mut self, id: ParameterId, len: usize) -> &mut [T] {
        self.0[id.0].get_or_insert_with(|| vec![T::ZERO; len])
    }

    /// Adds to one parameter's gradient, value by value.
    pub fn add(&mut self, id: ParameterId, values: &[T]) {
        self.entry(id, values.len()).iter_mut().zip(values).for_each(|(to, &v)| *to += v);
    }

    /// The gradients that are there, to be written.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (ParameterId, &mut Vec<T>)> {
        self.0.iter_mut().enumerate().filter_map(|(i, g)| g.as_mut().map(|g| (ParameterId(i), g)))
    }

    /// The gradients that are there, in the parameters' order.
    pub fn iter(&self) -> impl Iterator<Item = (ParameterId, &Vec<T>)> {
        self.0.iter().enumerate().filter_map(|(i, g)| g.as_ref().map(|g| (ParameterId(i), g)))
    }

    /// √ of the sum of all squares, in f64.
    pub fn norm(&self) -> f64 {
        let each: Vec<f64> =
            self.0.par_iter().flatten().map(|g| super::real::squares_about(g, T::ZERO)).collect();
        each.iter().sum::<f64>().sqrt()
    }

    /// Multiplies every gradient by a number.
    pub fn scale(&mut self, by: f64) {
        let by = T::of(by);
        self.iter_mut().for_each(|(_, g)| g.iter_mut().for_each(|v| *v *= by));
    }
}
