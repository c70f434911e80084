//! A run's state on disk: everything the next step depends on, in one safetensors file that takes its name when it is
//! whole.

use std::collections::HashMap;
use std::path::Path;

use safetensors::tensor::{Dtype, TensorView};
use safetensors::{SafeTensors, serialize};
use serde::{Deserialize, Serialize};

use super::super::optimiser::Optimiser;
use super::super::parameters::Parameters;
use super::judge::Verdict;
use super::settings::Settings;
use super::trainer::Trainer;
use crate::model::Variant;
use crate::model::checkpoint::Description;
use crate::result_file::write_whole;
use crate::{Error, Result, small_file};

/// Parameters, two moments and an average in f32 take 450 MB.
const LARGEST: u64 = 2 << 30;

const KEY: &str = "polypscope.training";

/// What a run has come to, beside the numbers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// What the run was asked to be.
    pub settings: Settings,
    /// What its results say of themselves.
    pub description: Description,
    /// Steps done.
    pub steps: u64,
    /// Steps that the optimiser's memory is of.
    pub optimiser_steps: u64,
    /// Of training, over all sessions of the run.
    pub seconds: f64,
    /// The best epoch so far (0 is before the first step) and its verdict; `None` before the first validation.
    pub best: Option<(u64, Verdict)>,
    /// Validations since the best one.
    pub epochs_since_best: u64,
    /// Fingerprint of the data: a run goes on with the data it began with.
    pub data: String,
    /// Where the parameters came from when the run began; empty in files of versions that did not write it.
    #[serde(default)]
    pub started_from: String,
    /// Sum of the losses and number of the steps since the last validation.
    #[serde(default)]
    pub losses: (f64, u64),
}

/// Writes the state.
///
/// # Errors
/// The file system's.
pub fn save(path: &Path, trainer: &Trainer<f32>, progress: &Progress) -> Result<()> {
    let mut tensors: Vec<(String, TensorView)> = Vec::new();
    let bytes = |values: &'_ [f32]| -> Vec<u8> { values.iter().flat_map(|v| v.to_le_bytes()).collect() };
    // Owned first, since views borrow them.
    let mut owned: Vec<(String, Vec<usize>, Vec<u8>)> = Vec::new();
    for (_, p) in trainer.parameters.iter() {
        owned.push((format!("parameter.{}", p.key), p.shape.clone(), bytes(&p.values)));
    }
    if let Some(average) = &trainer.average {
        for (_, p) in average.parameters().iter() {
            owned.push((format!("average.{}", p.key), p.shape.clone(), bytes(&p.values)));
        }
    }
    for (key, values) in trainer.optimiser.state(&trainer.parameters) {
        owned.push((format!("optimiser.{key}"), vec![values.len()], bytes(values)));
    }
    for (key, shape, bytes) in &owned {
        let view = TensorView::new(Dtype::F32, shape.clone(), bytes)
            .map_err(|e| Error::internal(format!("{key} cannot be written ({e})")))?;
        tensors.push((key.clone(), view));
    }
    let text = serde_json::to_string(progress)
        .map_err(|e| Error::internal("the run's progress cannot be put into JSON").because(e))?;
    let file = serialize(tensors, Some(HashMap::from([(KEY.to_owned(), text)])))
        .map_err(|e| Error::internal(format!("the run's state cannot be written ({e})")))?;
    write_whole(path, &file, true)
}

/// What [`load`] gives: the progress, and the numbers by key.
pub struct Saved {
    /// Everything but the numbers.
    pub progress: Progress,
    numbers: Vec<(String, Vec<usize>, Vec<f32>)>,
}

/// Reads a state.
///
/// # Errors
/// Unreadable, or no state of a run.
pub fn load(path: &Path) -> Result<Saved> {
    let place = path.display();
    let bytes = small_file::read(path, LARGEST, "the state of a training run")?;
    let wrong = |what: String| {
        Error::input(format!("{place}: is no state of a training run ({what})"))
            .remedy("give the folder of a run to --resume")
    };
    let (_, metadata) = SafeTensors::read_metadata(&bytes).map_err(|e| wrong(e.to_string()))?;
    let text = (metadata.metadata().as_ref())
        .and_then(|m| m.get(KEY))
        .ok_or_else(|| wrong("it has no progress".into()))?;
    let progress: Progress = serde_json::from_str(text).map_err(|e| wrong(e.to_string()))?;
    progress.settings.check().map_err(|e| e.at(&place))?;
    let file = SafeTensors::deserialize(&bytes).map_err(|e| wrong(e.to_string()))?;
    let mut numbers = Vec::new();
    for (key, view) in file.tensors() {
        if view.dtype() != Dtype::F32 {
            return Err(wrong(format!("{key} is {:?}", view.dtype())));
        }
        let values: Vec<f32> =
            view.data().as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
        if let Some(bad) = values.iter().find(|v| !v.is_finite()) {
            return Err(wrong(format!("{key} holds {bad}")));
        }
        numbers.push((key, view.shape().to_vec(), values));
    }
    Ok(Saved { progress, numbers })
}

impl Saved {
    /// The network it is of.
    pub fn variant(&self) -> Variant {
        self.progress.description.network
    }

    /// Puts the numbers into a trainer made with the same settings.
    ///
    /// # Errors
    /// Numbers of another network or optimiser.
    pub fn restore(self, trainer: &mut Trainer<f32>) -> Result<Progress> {
        let mut memory = Vec::new();
        let mut found = 0;
        for (key, shape, values) in self.numbers {
            if let Some(key) = key.strip_prefix("optimiser.") {
                memory.push((key.to_owned(), values));
            } else if let Some(key) = key.strip_prefix("parameter.") {
                put(&mut trainer.parameters, key, &shape, values)?;
                found += 1;
            } else if let Some(key) = key.strip_prefix("average.")
                && let Some(average) = &mut trainer.average
            {
                put(average.parameters_mut(), key, &shape, values)?;
                found += 1;
            }
        }
        let sides = 1 + usize::from(trainer.average.is_some());
        if found != sides * trainer.parameters.len() {
            return Err(Error::input("the run's state lacks some of the network's parameters")
                .remedy("start again with --init"));
        }
        let steps = self.progress.optimiser_steps;
        trainer.optimiser = Optimiser::restore(trainer.settings.rule, steps, &trainer.parameters, memory)?;
        trainer.steps = self.progress.steps;
        Ok(self.progress)
    }
}

fn put(parameters: &mut Parameters<f32>, key: &str, shape: &[usize], values: Vec<f32>) -> Result<()> {
    let id = parameters.id(key).filter(|id| parameters.get(*id).shape == shape).ok_or_else(|| {
        Error::input(format!("the run's state holds {key}, which fits no parameter of its network"))
    })?;
    *parameters.values_mut(id) = values;
    Ok(())
}
