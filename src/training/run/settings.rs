//! Everything a run is asked to be, as it is written into its state and its card.

use serde::{Deserialize, Serialize};

use super::super::augment::Strength;
use super::super::loss::Weighting;
use super::super::optimiser::{Rule, Schedule, Shape};
use crate::model::is_side;
use crate::{Error, Result};

/// When a run is over.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Length {
    /// So many times as many pictures as there are.
    Epochs(u64),
    /// Of training; the schedule follows the clock.
    Minutes(f64),
}

/// See the module.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// How long it trains.
    pub length: Length,
    /// Pictures a step.
    pub batch: usize,
    /// Sides of the square inputs in pixels, multiples of 32; one is drawn for each batch.
    pub sizes: Vec<usize>,
    /// Decides the order of pictures, their augmentation and first parameters.
    pub seed: u64,
    /// How parameters follow their gradients.
    pub rule: Rule,
    /// Largest learning rate of the decoder.
    pub rate: f64,
    /// What the backbone's is of it.
    pub backbone: f64,
    /// The share of the largest rate over the run.
    pub schedule: Schedule,
    /// Largest norm of a step's gradients.
    pub clip: Option<f64>,
    /// Share of the old mean that stays, for the averaged parameters; `None`: the parameters themselves are the result.
    pub average: Option<f64>,
    /// Whether the backbone (keys `resnet.…`) stays as it is, its running statistics too.
    pub freeze_backbone: bool,
    /// Share of the run, at its end, in which batch-norms use their running statistics as they are, as evaluation will.
    /// The shared norms of M²SNet's all-ones convolutions normalise twenty different maps by the statistics of each,
    /// and have one running pair for all of them: what is trained by the batches' is another network in evaluation.
    #[serde(default)]
    pub settle: f64,
    /// How pixels count in the cross-entropy.
    pub weighting: Weighting,
    /// See [`super::super::loss::Structure::silence`].
    pub silence: f64,
    /// Weight of LossNet; `None` without it.
    pub lossnet: Option<f64>,
    /// How much pictures are changed.
    pub strength: Strength,
    /// Share of healthy pictures with a phantom polyp.
    pub phantoms: f64,
    /// Epochs without a better one after which the run ends.
    pub patience: Option<u64>,
}

impl Settings {
    /// Learning rates and decay as published: the decoder 0.05, the backbone a tenth of it, batches of 16 over 50
    /// epochs.
    pub fn published() -> Self {
        Self {
            length: Length::Epochs(50),
            batch: 16,
            sizes: vec![224, 256, 288, 320, 352],
            seed: 1,
            rule: Rule::PUBLISHED,
            rate: 0.05,
            backbone: 0.1,
            schedule: Schedule { shape: Shape::Triangular, warm_up: 0 },
            clip: Some(0.5),
            average: Some(0.999),
            freeze_backbone: false,
            settle: 0.0,
            weighting: Weighting::Published,
            silence: 0.0,
            lossnet: None,
            strength: Strength::Full,
            phantoms: 0.0,
            patience: None,
        }
    }

    /// # Errors
    /// Something no run can be.
    pub fn check(&self) -> Result<()> {
        let wrong = |what: String, remedy: &str| Err(Error::usage(what).remedy(remedy));
        if let Some(bad) = self.sizes.iter().find(|s| !is_side(**s)) {
            return wrong(
                format!("--sizes: {bad} is no input size"),
                "give multiples of 32, such as 256,320",
            );
        }
        if self.sizes.is_empty() || self.batch == 0 {
            return wrong("a batch needs a size and a picture".into(), "give --sizes and --batch");
        }
        let positive = |name: &str, v: f64| match v.is_finite() && v > 0.0 {
            true => Ok(()),
            false => wrong(format!("{name}: {v} is not above zero"), "give a positive number"),
        };
        positive("--rate", self.rate)?;
        if let Some(clip) = self.clip {
            positive("--clip", clip)?;
        }
        match self.length {
            Length::Minutes(m) => positive("--minutes", m)?,
            Length::Epochs(n) => positive("--epochs", n as f64)?,
        }
        let share = |name: &str, v: f64| match (0.0..=1.0).contains(&v) {
            true => Ok(()),
            false => wrong(format!("{name}: {v} is no share"), "give a number from 0 to 1"),
        };
        share("--phantoms", self.phantoms)?;
        share("--settle", self.settle)?;
        share("--backbone-rate", self.backbone)?;
        if let Some(average) = self.average {
            share("--average", average)?;
        }
        if !(self.silence >= 0.0 && self.silence.is_finite()) {
            return wrong(format!("--silence: {} is no weight", self.silence), "give a number from 0 on");
        }
        if self.lossnet.is_some_and(|w| !(w >= 0.0 && w.is_finite())) {
            return wrong("--lossnet-weight is no weight".into(), "give a number from 0 on");
        }
        Ok(())
    }
}
