//! The loop of a run: steps, validation, best and last, the logs and the page.
//!
//! In: a trainer, a recipe of batches, validation pictures, an empty folder (or one of a run that goes on). Out: in
//! that folder `best.safetensors` and `last.safetensors` with their descriptions, `state.safetensors` to go on from,
//! `card.md`, `log.jsonl`, `log.csv`, `index.html`, TensorBoard's events. Everything but the logs takes its name when
//! it is whole; a stop that was asked for ends in a whole `last`.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use image::RgbImage;

use super::super::data::item::Item;
use super::super::data::read::read;
use super::super::loader::{Faults, Loader, Recipe};
use super::super::network::checkpoint_of;
use super::card::Card;
use super::events::Events;
use super::judge::{Verdict, Worst, judge, marked};
use super::page::{Page, Shown};
use super::record::{Line, Record};
use super::settings::Length;
use super::sheet::judged;
use super::state::{self, Progress};
use super::trainer::Trainer;
use crate::evaluation::images::Predict;
use crate::model::Checkpoint;
use crate::model::checkpoint::{Description, Form};
use crate::result_file::write_whole;
use crate::{Error, Result};

/// The state is written at least so often.
const SAVE_EVERY: Duration = Duration::from_secs(300);

/// Worst pictures on the page.
const WORST: usize = 16;

/// Validations of a run whose length is in minutes.
const ROUNDS: f64 = 4.0;

/// What happens, for whoever shows it.
#[derive(Clone, Debug, PartialEq)]
pub enum Event<'a> {
    /// A step is done.
    Step {
        /// Steps done, over all sessions of the run.
        step: u64,
        /// Share of the run that has passed; by the clock the last one may be above 1.
        share: f64,
        /// Total loss of the batch.
        loss: f64,
        /// Seconds of the step, with waiting for its batch.
        seconds: f64,
    },
    /// A validation picture is about to be judged.
    Judging {
        /// Pictures judged before it.
        done: usize,
        /// Pictures to judge in all.
        of: usize,
    },
    /// A validation is done.
    Judged {
        /// As in [`Line::Epoch`].
        epoch: u64,
        /// Figures and score.
        verdict: &'a Verdict,
        /// Whether no epoch before was as good.
        best: bool,
    },
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// It has its length.
    Done,
    /// No better epoch for as long as was asked.
    Early,
    /// Stopped by the user.
    Interrupted,
}

/// What a run gave.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Outcome {
    /// Why it ended.
    pub end: End,
    /// Steps done, over all sessions of the run.
    pub steps: u64,
    /// Seconds of training, over all sessions of the run.
    pub seconds: f64,
    /// The network it began with; `None` without validation data.
    pub before: Option<Verdict>,
    /// The best epoch (0 is before the first step) and its verdict; `None` without validation data.
    pub best: Option<(u64, Verdict)>,
    /// The last validation of this session; `None` where there was none.
    pub last: Option<Verdict>,
    /// Pictures that could not be read, each once.
    pub left_out: Vec<String>,
}

/// Makes a network that answers pictures from a checkpoint.
pub type Open<'a> = &'a mut (dyn FnMut(&Checkpoint) -> Result<Box<dyn Predict>> + Send);

/// Everything a run needs.
pub struct Session<'a> {
    /// Where everything is written; it exists.
    pub folder: PathBuf,
    /// Parameters, optimiser and settings, in the state they begin or go on with.
    pub trainer: Trainer<f32>,
    /// How batches are made.
    pub recipe: Recipe,
    /// Pictures to validate on; empty for none.
    pub validation: Vec<Item>,
    /// What the results say of themselves; steps and figures are filled in.
    pub description: Description,
    /// How results store their kernels.
    pub form: Form,
    /// Threads that prepare batches.
    pub loaders: usize,
    /// For the card.
    pub started_from: String,
    /// Name, pictures and weight of each training set, for card and page.
    pub training_sets: Vec<String>,
    /// The same of the validation sets.
    pub validation_sets: Vec<String>,
    /// Processor or card, and threads, for card and page.
    pub machine: String,
    /// Terms of use, for the card.
    pub terms: String,
    /// Of a run that goes on.
    pub resumed: Option<Progress>,
    /// Fingerprint of the training data, kept in the state: a run goes on with the data it began with.
    pub data: String,
    /// Makes the network that is judged.
    pub open: Open<'a>,
    /// Set to `true` by whoever wants the run to end: after the present step, or within a validation.
    pub stop: &'a AtomicBool,
    /// Is told what happens, on the thread of the run.
    pub watch: &'a mut (dyn FnMut(Event) + Send),
}

struct Run {
    progress: Progress,
    record: Record,
    events: Events,
    faults: Faults,
    before: Option<Verdict>,
    last: Option<Verdict>,
    worst: Vec<Shown>,
    saved: Instant,
}

impl Session<'_> {
    fn at(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Trains to the end that was asked for.
    ///
    /// # Errors
    /// A full disk, losses that are no numbers, pictures none of which can be read. `last` and the state are those of
    /// the last time they were written, or of the last good step.
    pub fn run(mut self) -> Result<Outcome> {
        let resumed = self.resumed.take();
        let from = resumed.as_ref().map(|_| self.trainer.steps);
        let progress = resumed.unwrap_or_else(|| Progress {
            settings: self.trainer.settings.clone(),
            description: self.description.clone(),
            steps: 0,
            optimiser_steps: 0,
            seconds: 0.0,
            best: None,
            epochs_since_best: 0,
            data: self.data.clone(),
            started_from: self.started_from.clone(),
            losses: (0.0, 0),
        });
        let record = Record::open(&self.folder, from)?;
        let first = record.lines.iter().find_map(|l| match l {
            Line::Epoch { step: 0, validation, .. } => validation.clone(),
            _ => None,
        });
        let mut run = Run {
            progress,
            record,
            events: Events::create(&self.folder)?,
            faults: Faults::default(),
            before: first,
            last: None,
            worst: Vec::new(),
            saved: Instant::now(),
        };
        if from.is_none() && !self.validation.is_empty() {
            self.judge(&mut run, 0)?;
            run.before.clone_from(&run.last);
        }
        let mut loader = Loader::start(self.recipe.clone(), self.trainer.steps, self.loaders, &run.faults)?;
        let ended = self.steps(&mut run, &mut loader);
        drop(loader);
        let end = match ended {
            Ok(end) => end,
            Err(e) => {
                // What was good before the step that failed is kept; the reason is told, whether or not this can be.
                let _ = self.save(&mut run);
                return Err(e);
            }
        };
        let left_out: Vec<String> = {
            let faults = run.faults.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            faults.iter().cloned().collect()
        };
        self.finish(&mut run, left_out.len())?;
        Ok(Outcome {
            end,
            steps: self.trainer.steps,
            seconds: run.progress.seconds,
            before: run.before,
            best: run.progress.best,
            last: run.last,
            left_out,
        })
    }

    /// Share of the run that has passed.
    fn share(&self, seconds: f64) -> f64 {
        match self.trainer.settings.length {
            Length::Epochs(n) => self.trainer.steps as f64 / (n * self.recipe.draws.steps_per_epoch()) as f64,
            Length::Minutes(m) => seconds / (60.0 * m),
        }
    }

    fn steps(&mut self, run: &mut Run, loader: &mut Loader) -> Result<End> {
        let per_epoch = self.recipe.draws.steps_per_epoch();
        let minutes = matches!(self.trainer.settings.length, Length::Minutes(_));
        let mut end = None;
        while end.is_none() {
            if self.stop.load(Ordering::Relaxed) {
                self.save(run)?;
                return Ok(End::Interrupted);
            }
            let share = self.share(run.progress.seconds);
            if share >= 1.0 {
                // A run that goes on although it was over.
                break;
            }
            let began = Instant::now();
            let batch = loader.take()?;
            let step = self.trainer.step(&batch, share)?;
            let seconds = began.elapsed().as_secs_f64();
            run.progress.seconds += seconds;
            run.progress.losses = (run.progress.losses.0 + step.losses.total, run.progress.losses.1 + 1);
            let steps = self.trainer.steps;
            let epoch = (steps - 1) / per_epoch;
            run.record.step(epoch, steps, &step, seconds)?;
            run.events.scalars(
                steps,
                &[("loss", step.losses.total), ("rate", step.rate), ("gradient norm", step.norm)],
            )?;
            let now = self.share(run.progress.seconds);
            (self.watch)(Event::Step { step: steps, share: now, loss: step.losses.total, seconds });
            let round = match minutes {
                true => (now * ROUNDS).floor() > (share * ROUNDS).floor() || now >= 1.0,
                false => steps.is_multiple_of(per_epoch),
            };
            if now >= 1.0 {
                end = Some(End::Done);
            }
            if round {
                let number =
                    if minutes { (now * ROUNDS).floor().min(ROUNDS) as u64 } else { steps / per_epoch };
                if !self.validation.is_empty() && self.judge(run, number)? {
                    end.get_or_insert(End::Early);
                } else if self.validation.is_empty() {
                    let (loss, count) = std::mem::take(&mut run.progress.losses);
                    run.record.add(Line::Epoch {
                        step: steps,
                        epoch: number,
                        loss: loss / count.max(1) as f64,
                        seconds: run.progress.seconds,
                        validation: None,
                        best: false,
                    })?;
                }
                self.save(run)?;
                self.page(run)?;
            } else if run.saved.elapsed() >= SAVE_EVERY {
                self.save(run)?;
                self.page(run)?;
            }
        }
        Ok(end.unwrap_or(End::Done))
    }

    /// The present result as a checkpoint, with what is known of it.
    fn checkpoint(&self, verdict: Option<&Verdict>) -> Result<Checkpoint> {
        let mut description = self.description.clone();
        description.trained_steps = Some(description.trained_steps.unwrap_or(0) + self.trainer.steps);
        description.sha256 = None;
        description.heldout.clear();
        description.by_input_size.clear();
        // The parameters moved, and with them what the maps reach: `weights quantise` measures it again.
        description.activations.clear();
        description.thresholded = verdict
            .into_iter()
            .flat_map(|v| &v.sets)
            .filter(|(_, f)| f.count > 0)
            .map(|(name, f)| {
                let figures =
                    crate::model::checkpoint::Figures { count: f.count, m_dice: f.m_dice, m_iou: f.m_iou };
                (name.clone(), figures)
            })
            .collect();
        checkpoint_of(description, self.trainer.result())
    }

    /// Validates; whether it is time to stop early.
    fn judge(&mut self, run: &mut Run, epoch: u64) -> Result<bool> {
        let checkpoint = self.checkpoint(None)?;
        let mut network = (self.open)(&checkpoint)?;
        let (mut done, of) = (0, self.validation.len());
        let (stop, watch) = (self.stop, &mut self.watch);
        let steps = self.trainer.steps;
        let mut each = || {
            watch(Event::Judging { done, of });
            done += 1;
            match stop.load(Ordering::Relaxed) {
                true => Err(Error::output("validation was interrupted")),
                false => Ok(()),
            }
        };
        let threshold = self.description.threshold;
        let masks = &self.recipe.masks;
        let judged = judge(&self.validation, masks, network.as_mut(), threshold, WORST, &mut each);
        let (verdict, worst) = match judged {
            // The loop sees the flag itself and ends in a whole `last`.
            Err(_) if self.stop.load(Ordering::Relaxed) => return Ok(false),
            other => other?,
        };
        run.worst = self.shown(&worst, network.as_mut());
        let better = run.progress.best.as_ref().is_none_or(|(_, best)| verdict.score > best.score);
        if better {
            run.progress.best = Some((epoch, verdict.clone()));
            run.progress.epochs_since_best = 0;
            let path = self.at("best.safetensors");
            self.checkpoint(Some(&verdict))?.save(&path, self.form, true)?;
        } else {
            run.progress.epochs_since_best += 1;
        }
        let (loss, count) = std::mem::take(&mut run.progress.losses);
        run.events.scalars(
            steps,
            &[
                ("validation/mean Dice", verdict.all.m_dice),
                ("validation/healthy marked", verdict.all.false_mark_share()),
                ("validation/score", verdict.score),
            ],
        )?;
        run.record.add(Line::Epoch {
            step: steps,
            epoch,
            loss: if count == 0 { 0.0 } else { loss / count as f64 },
            seconds: run.progress.seconds,
            validation: Some(verdict.clone()),
            best: better,
        })?;
        (self.watch)(Event::Judged { epoch, verdict: &verdict, best: better });
        run.last = Some(verdict);
        Ok(self.trainer.settings.patience.is_some_and(|p| run.progress.epochs_since_best >= p))
    }

    fn shown(&self, worst: &[Worst], network: &mut dyn Predict) -> Vec<Shown> {
        let one = |w: &Worst, network: &mut dyn Predict| -> Result<Shown> {
            let item = &self.validation[w.item];
            let sample = read(item, &self.recipe.masks)?;
            let answer = network.predict(&sample.picture)?;
            let answer = marked(&answer, self.description.threshold);
            let picture: RgbImage = judged(&sample.picture, &sample.labels, &answer, 320);
            let what = if w.value < 0.0 {
                format!("healthy, {:.1} % marked", -100.0 * w.value)
            } else {
                format!("Dice {:.3}", w.value)
            };
            Ok(Shown { picture, caption: format!("{}/{}: {what}", item.set, item.name) })
        };
        // A picture that cannot be shown was counted by the judge.
        worst.iter().filter_map(|w| one(w, network).ok()).collect()
    }

    /// Writes `last` and the state.
    fn save(&self, run: &mut Run) -> Result<()> {
        run.progress.steps = self.trainer.steps;
        run.progress.optimiser_steps = self.trainer.optimiser.steps();
        self.checkpoint(run.last.as_ref())?.save(&self.at("last.safetensors"), self.form, true)?;
        state::save(&self.at("state.safetensors"), &self.trainer, &run.progress)?;
        run.saved = Instant::now();
        Ok(())
    }

    fn card<'r>(&'r self, run: &'r Run, left_out: usize) -> Card<'r> {
        Card {
            description: &self.description,
            settings: &self.trainer.settings,
            training: self.training_sets.clone(),
            validation: self.validation_sets.clone(),
            started_from: self.started_from.clone(),
            steps: self.trainer.steps,
            seconds: run.progress.seconds,
            machine: self.machine.clone(),
            before: run.before.as_ref(),
            best: run.progress.best.as_ref().map(|(epoch, v)| (*epoch, v)),
            left_out,
            terms: &self.terms,
        }
    }

    fn page(&self, run: &Run) -> Result<()> {
        let settings = &self.trainer.settings;
        let mut facts: Vec<(String, String)> = vec![
            ("started from".into(), self.started_from.clone()),
            ("steps".into(), self.trainer.steps.to_string()),
            ("minutes".into(), format!("{:.1}", run.progress.seconds / 60.0)),
            ("batch".into(), settings.batch.to_string()),
            ("sizes".into(), format!("{:?}", settings.sizes)),
            ("LossNet".into(), settings.lossnet.map_or("none".into(), |w| format!("weight {w}"))),
            ("machine".into(), self.machine.clone()),
        ];
        facts.extend(self.training_sets.iter().map(|s| ("training".into(), s.clone())));
        facts.extend(self.validation_sets.iter().map(|s| ("validation".into(), s.clone())));
        let page = Page {
            title: &self.description.name,
            lines: &run.record.lines,
            facts: &facts,
            worst: &run.worst,
        };
        write_whole(&self.at("index.html"), page.html().as_bytes(), true)
    }

    fn finish(&self, run: &mut Run, left_out: usize) -> Result<()> {
        self.save(run)?;
        self.page(run)?;
        write_whole(&self.at("card.md"), self.card(run, left_out).markdown().as_bytes(), true)
    }
}

/// The state file of a run's folder.
pub fn state_of(folder: &Path) -> PathBuf {
    folder.join("state.safetensors")
}
