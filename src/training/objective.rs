//! What one batch costs, and what that means for the logits.

use super::loss::{Compare, LossNet, Maps, StageLosses, Structure};
use super::ops::convolution::Convolve;
use crate::Result;

/// The losses of a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Losses {
    /// Weighted BCE and weighted IoU, as [`Structure::run`] gives them.
    pub structure: f64,
    /// The stages' sum, not weighted; absent without LossNet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lossnet: Option<f64>,
    /// What is made small: `structure`, plus `lossnet` times its weight.
    pub total: f64,
}

/// The paper's loss: structure, plus LossNet times its weight.
pub struct Objective<T: Convolve> {
    /// Weighted BCE and weighted IoU.
    pub structure: Structure,
    /// LossNet and its weight; `None` without it.
    pub lossnet: Option<(LossNet<T>, f64)>,
}

impl<T: Convolve> Objective<T> {
    /// The losses and the gradient with respect to the logits.
    pub fn run(&mut self, maps: Maps, logits: &[T], labels: &[u8]) -> (Losses, Vec<T>) {
        let of_net = self.lossnet.as_mut().map(|(net, weight)| (net.run(maps, logits, labels), *weight));
        self.together(maps, logits, labels, of_net)
    }

    /// As [`Objective::run`], with VGG-16 somewhere else.
    ///
    /// # Errors
    /// Whatever `compare` says.
    pub fn run_with(
        &self,
        maps: Maps,
        logits: &[T],
        labels: &[u8],
        compare: &mut Compare<'_, T>,
    ) -> Result<(Losses, Vec<T>)> {
        let of_net = match &self.lossnet {
            Some((net, weight)) => Some((net.run_with(maps, logits, labels, compare)?, *weight)),
            None => None,
        };
        Ok(self.together(maps, logits, labels, of_net))
    }

    fn together(
        &self,
        maps: Maps,
        logits: &[T],
        labels: &[u8],
        of_net: Option<((StageLosses, Vec<T>), f64)>,
    ) -> (Losses, Vec<T>) {
        let (structure, mut grad) = self.structure.run(maps, logits, labels);
        let mut losses = Losses { structure, lossnet: None, total: structure };
        if let Some(((stages, of), weight)) = of_net {
            let sum: f64 = stages.iter().sum();
            losses.lossnet = Some(sum);
            losses.total += weight * sum;
            let weight = T::of(weight);
            grad.iter_mut().zip(of).for_each(|(to, g)| *to += weight * g);
        }
        (losses, grad)
    }
}
