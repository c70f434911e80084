//! What one batch costs, and what that means for the logits.

use super::loss::{LossNet, Maps, Structure};
use super::ops::convolution::Convolve;

/// The losses of a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Losses {
    pub structure: f64,
    /// The stages' sum, not weighted; absent without LossNet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lossnet: Option<f64>,
    pub total: f64,
}

/// The paper's loss: structure, plus LossNet times its weight.
pub struct Objective<T: Convolve> {
    pub structure: Structure,
    pub lossnet: Option<(LossNet<T>, f64)>,
}

impl<T: Convolve> Objective<T> {
    /// The losses and the gradient with respect to the logits.
    pub fn run(&mut self, maps: Maps, logits: &[T], labels: &[u8]) -> (Losses, Vec<T>) {
        let (structure, mut grad) = self.structure.run(maps, logits, labels);
        let mut losses = Losses { structure, lossnet: None, total: structure };
        if let Some((net, weight)) = &mut self.lossnet {
            let (stages, of) = net.run(maps, logits, labels);
            let sum: f64 = stages.iter().sum();
            losses.lossnet = Some(sum);
            losses.total += *weight * sum;
            let weight = T::of(*weight);
            grad.iter_mut().zip(of).for_each(|(to, g)| *to += weight * g);
        }
        (losses, grad)
    }
}
