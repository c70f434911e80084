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
    pub key: String,
    pub shape: Vec<usize>,
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

    pub fn id(&self, key: &str) -> Option<ParameterId> {
        self.by_key.get(key).copied()
    }

    pub fn get(&self, id: ParameterId) -> &Parameter<T> {
        &self.list[id.0]
    }

    pub fn values(&self, id: ParameterId) -> &[T] {
        &self.list[id.0].values
    }

    pub fn values_mut(&mut self, id: ParameterId) -> &mut Vec<T> {
        &mut self.list[id.0].values
    }

    /// Two of them, to be written together.
    pub fn pair_mut(&mut self, a: ParameterId, b: ParameterId) -> (&mut [T], &mut [T]) {
        let [a, b] = self.list.get_disjoint_mut([a.0, b.0]).expect("two parameters, not one twice");
        (&mut a.values, &mut b.values)
    }

    pub fn by_key(&self, key: &str) -> Option<&Parameter<T>> {
        self.id(key).map(|id| self.get(id))
    }

    pub fn iter(&self) -> impl Iterator<Item = (ParameterId, &Parameter<T>)> {
        self.list.iter().enumerate().map(|(i, p)| (ParameterId(i), p))
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = (ParameterId, &mut Parameter<T>)> {
        self.list.iter_mut().enumerate().map(|(i, p)| (ParameterId(i), p))
    }

    pub fn len(&self) -> usize {
        self.list.len()
    }

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
    pub fn of(parameters: &Parameters<T>) -> Self {
        Self(vec![None; parameters.len()])
    }

    pub fn get(&self, id: ParameterId) -> Option<&[T]> {
        self.0[id.0].as_deref()
    }

    /// The gradient to add to: zeros at first.
    pub fn entry(&mut self, id: ParameterId, len: usize) -> &mut [T] {
        self.0[id.0].get_or_insert_with(|| vec![T::ZERO; len])
    }

    pub fn add(&mut self, id: ParameterId, values: &[T]) {
        self.entry(id, values.len()).iter_mut().zip(values).for_each(|(to, &v)| *to += v);
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = (ParameterId, &mut Vec<T>)> {
        self.0.iter_mut().enumerate().filter_map(|(i, g)| g.as_mut().map(|g| (ParameterId(i), g)))
    }

    pub fn iter(&self) -> impl Iterator<Item = (ParameterId, &Vec<T>)> {
        self.0.iter().enumerate().filter_map(|(i, g)| g.as_ref().map(|g| (ParameterId(i), g)))
    }

    /// √ of the sum of all squares, in f64.
    pub fn norm(&self) -> f64 {
        let each: Vec<f64> =
            self.0.par_iter().flatten().map(|g| super::real::squares_about(g, T::ZERO)).collect();
        each.iter().sum::<f64>().sqrt()
    }

    pub fn scale(&mut self, by: f64) {
        let by = T::of(by);
        self.iter_mut().for_each(|(_, g)| g.iter_mut().for_each(|v| *v *= by));
    }
}
