//! Parameters, optimiser and average, and the step that moves them: a batch flows in, its losses flow out.

use super::super::loader::Batch;
use super::super::loss::{LossNet, Structure, Vgg};
use super::super::network::Network;
use super::super::objective::{Losses, Objective};
use super::super::ops::convolution::Convolve;
use super::super::optimiser::{Average, Optimiser, clip};
use super::super::parameters::Parameters;
use super::super::passes::{Passed, Passes, Processor};
use super::super::tape::{Mode, update_running};
use super::settings::Settings;
use crate::model::Architecture;
use crate::{Error, Fault, Result};

/// What a step said.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// Of the batch, before the parameters moved.
    pub losses: Losses,
    /// Of the gradients, before clipping.
    pub norm: f64,
    /// The decoder's learning rate in this step.
    pub rate: f64,
}

/// See the module.
pub struct Trainer<T: Convolve> {
    /// What the run was asked to be.
    pub settings: Settings,
    /// Those of the last step.
    pub parameters: Parameters<T>,
    /// The rule that moves them, and its memory.
    pub optimiser: Optimiser<T>,
    /// Their running mean; `None` where the settings ask for none.
    pub average: Option<Average<T>>,
    /// Steps done.
    pub steps: u64,
    network: Network,
    objective: Objective<T>,
    passes: Box<dyn Passes<T>>,
}

impl<T: Convolve> Trainer<T> {
    /// # Errors
    /// Parameters of another network.
    pub fn new(
        settings: Settings,
        architecture: Architecture,
        mut parameters: Parameters<T>,
        vgg: Option<Vgg<T>>,
    ) -> Result<Self> {
        settings.check()?;
        if settings.freeze_backbone {
            parameters.freeze(|key| key.starts_with("resnet."));
        }
        let network = Network::new(architecture, &parameters)?;
        let objective = Objective {
            structure: Structure { weighting: settings.weighting, silence: settings.silence },
            lossnet: vgg.map(|vgg| (LossNet::new(vgg), settings.lossnet.unwrap_or(0.1))),
        };
        Ok(Self {
            optimiser: Optimiser::new(settings.rule),
            average: settings.average.map(|decay| Average::new(decay, &parameters)),
            parameters,
            settings,
            steps: 0,
            network,
            objective,
            passes: Box::new(Processor::default()),
        })
    }

    /// Makes steps somewhere else than on this machine's cores.
    pub fn pass_by(&mut self, passes: Box<dyn Passes<T>>) {
        self.passes = passes;
    }

    /// Which of the two networks, and for how many classes.
    pub fn architecture(&self) -> Architecture {
        self.network.architecture()
    }

    /// The parameters a run gives: the average where there is one.
    pub fn result(&self) -> &Parameters<T> {
        self.average.as_ref().map_or(&self.parameters, Average::parameters)
    }

    /// Losses and gradients of a batch; nothing is moved.
    ///
    /// # Errors
    /// Whatever the device of the passes says.
    pub fn pass(&mut self, batch: &Batch, mode: Mode) -> Result<Passed<T>> {
        self.passes.run(&self.parameters, &self.network, &mut self.objective, batch, mode)
    }

    /// One step. `progress` is the share of the run that has passed.
    ///
    /// # Errors
    /// Losses or gradients that are no numbers; then nothing has moved.
    pub fn step(&mut self, batch: &Batch, progress: f64) -> Result<Step> {
        let settle = self.settings.settle;
        let settling = settle > 0.0 && progress >= 1.0 - settle;
        let mode = if settling { Mode::Settling } else { Mode::Training };
        let Passed { losses, mut gradients, statistics } = self.pass(batch, mode)?;
        let norm = clip(&mut gradients, self.settings.clip);
        if !losses.total.is_finite() || !norm.is_finite() {
            let what = if losses.total.is_finite() { "gradients are" } else { "loss is" };
            return Err(Error::inference(format!(
                "step {}: the {what} not a number, on the batch {}",
                batch.step,
                batch.names.join(", ")
            ))
            .remedy("look at these pictures and their masks, or lower --rate; the state from before is kept")
            .caused_by(Fault::NotANumber));
        }
        update_running(&mut self.parameters, &statistics);
        let rate = self.settings.rate * self.settings.schedule.factor(self.steps, progress);
        let backbone = rate * self.settings.backbone;
        self.optimiser.step(&mut self.parameters, &gradients, |key| {
            if key.starts_with("resnet.") { backbone } else { rate }
        });
        self.steps += 1;
        if let Some(average) = &mut self.average {
            average.follow(&self.parameters, self.steps);
        }
        Ok(Step { losses, norm, rate })
    }
}
