//! A batch through the network and back: parameters and a batch flow in, losses, gradients and batch statistics flow
//! out.
//!
//! [`Processor`] does it with the tape of this machine's cores; `gpu` (feature `cuda`) on a card. Neither moves
//! anything.

use super::loader::Batch;
use super::loss::Maps;
use super::network::Network;
use super::objective::{Losses, Objective};
use super::ops::batch_norm::Statistics;
use super::ops::convolution::Convolve;
use super::parameters::{Gradients, Parameters};
use super::tape::{Mode, Norm, Planes, Spare, Tape};
use crate::Result;

/// What a pass gave.
pub struct Passed<T> {
    /// The batch's losses, from before anything moves.
    pub losses: Losses,
    /// Of the batch's total loss, with respect to every trained parameter.
    pub gradients: Gradients<T>,
    /// Of the batch, in the order in which the running statistics are to follow.
    pub statistics: Vec<(Norm, Statistics)>,
}

/// What makes a step's passes.
pub trait Passes<T: Convolve>: Send {
    /// # Errors
    /// Whatever the device says.
    fn run(
        &mut self,
        parameters: &Parameters<T>,
        network: &Network,
        objective: &mut Objective<T>,
        batch: &Batch,
        mode: Mode,
    ) -> Result<Passed<T>>;
}

/// Where a batch's logits are.
pub(super) fn maps_of(batch: &Batch, network: &Network) -> Maps {
    let (h, w) = batch.size;
    Maps { batch: batch.names.len(), classes: network.architecture().classes, h, w }
}

/// On this machine's cores.
#[derive(Default)]
pub struct Processor<T> {
    spare: Spare<T>,
    last_size: (usize, usize),
}

impl<T: Convolve> Passes<T> for Processor<T> {
    fn run(
        &mut self,
        parameters: &Parameters<T>,
        network: &Network,
        objective: &mut Objective<T>,
        batch: &Batch,
        mode: Mode,
    ) -> Result<Passed<T>> {
        if self.last_size != batch.size {
            // Maps of another size are of no use to this step.
            self.spare.clear();
            self.last_size = batch.size;
        }
        let maps = maps_of(batch, network);
        let planes = Planes { batch: maps.batch, channels: 3, h: maps.h, w: maps.w };
        let mut tape = Tape::new(parameters, mode, &mut self.spare);
        let x = batch.planes.iter().map(|&v| T::of(f64::from(v))).collect();
        let x = tape.input(planes, x, false);
        let logits = network.forward(&mut tape, x);
        let (losses, grad) = objective.run(maps, tape.values(logits), &batch.labels);
        let back = tape.backward(logits, grad);
        Ok(Passed { losses, gradients: back.gradients, statistics: back.statistics })
    }
}
