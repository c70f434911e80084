//! The card's memory of a training run: parameters and gradients for as long as it lasts, maps by their length.

use std::collections::HashMap;

use super::card::Card;
use crate::Result;
use crate::engine::cuda::{Address, bytes_of, bytes_of_mut};
use crate::training::parameters::{Gradients, ParameterId, Parameters};

/// What cuDNN and the widest loads like.
const ALIGNED: usize = 64;

/// A network's parameters, and their gradients where it is trained, each in one block.
pub(super) struct Arena {
    values: Address,
    gradients: Option<Address>,
    offsets: Vec<usize>,
    /// Floats.
    pub(super) len: usize,
}

impl Arena {
    pub(super) fn of(card: &mut dyn Card, parameters: &Parameters<f32>, trained: bool) -> Result<Self> {
        let mut offsets = Vec::with_capacity(parameters.len());
        let mut len = 0usize;
        for (_, p) in parameters.iter() {
            offsets.push(len);
            len += p.values.len().next_multiple_of(ALIGNED);
        }
        let values = card.allocate(len * 4)?;
        let gradients = trained.then(|| card.allocate(len * 4)).transpose()?;
        Ok(Self { values, gradients, offsets, len })
    }

    pub(super) fn at(&self, id: ParameterId) -> Address {
        self.values + 4 * self.offsets[id.0] as u64
    }

    /// Where a parameter's gradient is added up; 0 where nothing is trained.
    pub(super) fn gradient(&self, id: ParameterId) -> Address {
        self.gradients.map_or(0, |g| g + 4 * self.offsets[id.0] as u64)
    }

    pub(super) fn gradients(&self) -> Option<Address> {
        self.gradients
    }

    pub(super) fn upload(&self, card: &mut dyn Card, parameters: &Parameters<f32>) -> Result<()> {
        parameters.iter().try_for_each(|(id, p)| card.upload(self.at(id), bytes_of(&p.values)))
    }

    /// The gradients of the parameters that the pass touched.
    pub(super) fn download(
        &self,
        card: &mut dyn Card,
        parameters: &Parameters<f32>,
        touched: &[bool],
    ) -> Result<Gradients<f32>> {
        let mut out = Gradients::of(parameters);
        for (id, p) in parameters.iter().filter(|(id, _)| touched[id.0]) {
            card.download(self.gradient(id), bytes_of_mut(out.entry(id, p.values.len())))?;
        }
        Ok(out)
    }
}

/// Memory of maps that are no longer needed, by length. What is taken holds anything.
#[derive(Default)]
pub(super) struct Spare {
    free: HashMap<usize, Vec<Address>>,
    all: Vec<Address>,
}

impl Spare {
    pub(super) fn take(&mut self, card: &mut dyn Card, floats: usize) -> Result<Address> {
        if let Some(at) = self.free.get_mut(&floats).and_then(Vec::pop) {
            return Ok(at);
        }
        let at = card.take(floats * 4)?;
        self.all.push(at);
        Ok(at)
    }

    pub(super) fn give(&mut self, floats: usize, at: Address) {
        self.free.entry(floats).or_default().push(at);
    }

    /// Gives all memory back to the card: the next step has another size.
    pub(super) fn clear(&mut self, card: &mut dyn Card) -> Result<()> {
        self.free.clear();
        self.all.drain(..).try_for_each(|at| card.give(at))
    }
}
