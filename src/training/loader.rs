//! Batches ready before they are asked for: items flow in, decoded and augmented batches flow out, in order.
//!
//! Some threads each make every n-th batch and keep one finished, so memory is bounded by threads times batches,
//! however many pictures there are. What a batch holds follows from the seed and its number alone; a run that goes on
//! at step `n` sees what it would have seen.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, bounded};

use super::augment::Augmentation;
use super::data::item::{Item, Set};
use super::data::read::{Masks, read};
use super::random::Random;
use crate::model::checkpoint::Description;
use crate::{Error, Result};

/// Pictures that are tried in the place of one that cannot be read.
const TRIES: u64 = 16;

/// The inputs of one step.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// Number of the step, from 0.
    pub step: u64,
    /// Rows and columns.
    pub size: (usize, usize),
    /// `[batch, 3, rows, columns]`, normalised.
    pub planes: Vec<f32>,
    /// `[batch, rows, columns]`, 0 for background, else the class plus one.
    pub labels: Vec<u8>,
    /// Its pictures, as `SET/NAME`; those that stood in for others are named themselves.
    pub names: Vec<String>,
}

/// Which items are drawn when.
#[derive(Clone, Debug)]
pub struct Draws {
    items: Vec<Item>,
    /// Where each set's items begin and end, and its weight.
    sets: Vec<(std::ops::Range<usize>, f64)>,
    batch: usize,
    seed: u64,
}

impl Draws {
    /// Draws `batch` pictures a step from these sets.
    pub fn new(sets: &[Set], batch: usize, seed: u64) -> Self {
        let mut items = Vec::new();
        let mut ranges = Vec::new();
        for set in sets {
            let first = items.len();
            items.extend(set.items.iter().cloned());
            ranges.push((first..items.len(), set.weight));
        }
        Self { items, sets: ranges, batch, seed }
    }

    /// The pictures of all sets, set after set; [`Draws::order`] gives places in it.
    pub fn items(&self) -> &[Item] {
        &self.items
    }

    /// Steps in which as many pictures are drawn as there are.
    pub fn steps_per_epoch(&self) -> u64 {
        (self.items.len() / self.batch).max(1) as u64
    }

    /// The order of an epoch: every set has its share by size times weight, going round its pictures.
    pub fn order(&self, epoch: u64) -> Vec<usize> {
        let wanted = self.steps_per_epoch() as usize * self.batch;
        let total: f64 = self.sets.iter().map(|(r, w)| r.len() as f64 * w).sum();
        let mut out = Vec::with_capacity(wanted);
        let mut owed = 0.0;
        for (s, (range, weight)) in self.sets.iter().enumerate() {
            owed += wanted as f64 * range.len() as f64 * weight / total;
            let mut round = 0;
            while (out.len() as f64) < owed.round() {
                let mut list: Vec<usize> = range.clone().collect();
                Random::of(self.seed, &[1, epoch, s as u64, round]).shuffle(&mut list);
                let left = owed.round() as usize - out.len();
                out.extend(list.into_iter().take(left));
                round += 1;
            }
        }
        Random::of(self.seed, &[2, epoch]).shuffle(&mut out);
        out
    }
}

/// What makes batches.
#[derive(Clone, Debug)]
pub struct Recipe {
    /// Which pictures belong to which step.
    pub draws: Draws,
    /// How masks become labels.
    pub masks: Masks,
    /// What may happen to pictures.
    pub augmentation: Augmentation,
    /// How values are normalised.
    pub description: Description,
    /// Sides of square inputs; one is drawn for each batch.
    pub sizes: Vec<usize>,
}

/// A picture that cannot be used, said once.
pub type Faults = Arc<Mutex<BTreeSet<String>>>;

impl Recipe {
    /// The batch of a step. Pictures that cannot be read are named in `faults` and others stand in.
    ///
    /// # Errors
    /// None of several that were tried can be read.
    pub fn batch(&self, step: u64, order: &[usize], faults: &Faults) -> Result<Batch> {
        let draws = &self.draws;
        let first = (step % draws.steps_per_epoch()) as usize * draws.batch;
        let side = self.sizes[Random::of(draws.seed, &[3, step]).below(self.sizes.len())];
        let px = side * side;
        let mut out = Batch {
            step,
            size: (side, side),
            planes: vec![0.0; 3 * px * draws.batch],
            labels: Vec::with_capacity(px * draws.batch),
            names: Vec::with_capacity(draws.batch),
        };
        for (slot, planes) in out.planes.chunks_exact_mut(3 * px).enumerate() {
            let mut at = order[first + slot];
            for attempt in 0.. {
                let item = &draws.items[at];
                match read(item, &self.masks) {
                    Ok(sample) => {
                        let mut random = Random::of(draws.seed, &[4, step, slot as u64]);
                        let input = self.augmentation.view(&sample, out.size, &mut random);
                        input.planes(&self.description, planes);
                        out.labels.extend_from_slice(&input.labels);
                        out.names.push(format!("{}/{}", item.set, item.name));
                        break;
                    }
                    Err(e) => {
                        let mut faults = faults.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                        if faults.insert(e.to_string()) {
                            tracing::warn!("{e}; it is left out");
                        }
                        if attempt >= TRIES {
                            return Err(e);
                        }
                    }
                }
                at = Random::of(draws.seed, &[5, step, slot as u64, attempt]).below(draws.items.len());
            }
        }
        Ok(out)
    }
}

/// See the module. Dropped, its threads end.
pub struct Loader {
    queues: Vec<Receiver<Result<Batch>>>,
    next: u64,
    first: u64,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Loader {
    /// Begins with step `first`.
    ///
    /// # Errors
    /// A thread cannot be started.
    pub fn start(recipe: Recipe, first: u64, threads: usize, faults: &Faults) -> Result<Self> {
        let recipe = Arc::new(recipe);
        let stop = Arc::new(AtomicBool::new(false));
        let count = threads.max(1) as u64;
        let mut out = Self { queues: Vec::new(), next: first, first, stop, threads: Vec::new() };
        for k in 0..count {
            let (to, from) = bounded(1);
            let (recipe, stop, faults) = (Arc::clone(&recipe), Arc::clone(&out.stop), Arc::clone(faults));
            let work = move || {
                let mut step = first + k;
                let mut order = (u64::MAX, Vec::new());
                while !stop.load(Ordering::Relaxed) {
                    let epoch = step / recipe.draws.steps_per_epoch();
                    if order.0 != epoch {
                        order = (epoch, recipe.draws.order(epoch));
                    }
                    if to.send(recipe.batch(step, &order.1, &faults)).is_err() {
                        return;
                    }
                    step += count;
                }
            };
            let thread = std::thread::Builder::new()
                .name(format!("loader {k}"))
                .spawn(work)
                .map_err(|e| Error::machine("a thread that loads pictures cannot be started").because(e))?;
            out.queues.push(from);
            out.threads.push(thread);
        }
        Ok(out)
    }

    /// The next step's batch.
    ///
    /// # Errors
    /// What made it impossible.
    pub fn take(&mut self) -> Result<Batch> {
        let at = ((self.next - self.first) % self.queues.len() as u64) as usize;
        self.next += 1;
        self.queues[at]
            .recv()
            .unwrap_or_else(|_| Err(Error::internal("a thread that loads pictures has ended")))
    }
}

impl Drop for Loader {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.queues.clear();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::resize::Filter;
    use crate::training::augment::Strength;
    use crate::training::data::item::Truth;

    fn set(name: &str, n: usize, weight: f64) -> Set {
        let items = (0..n)
            .map(|i| Item {
                set: name.into(),
                name: i.to_string(),
                image: format!("{name}/{i}").into(),
                truth: Truth::Nothing,
            })
            .collect();
        Set { name: name.into(), weight, items, left_out: vec![], classes: None }
    }

    #[test]
    fn an_epoch_shows_every_picture_and_weights_count() {
        let draws = Draws::new(&[set("a", 12, 1.0)], 4, 7);
        let mut order = draws.order(0);
        assert_ne!(order, draws.order(1));
        order.sort_unstable();
        assert_eq!(order, (0..12).collect::<Vec<_>>());
        let draws = Draws::new(&[set("a", 30, 1.0), set("b", 10, 3.0)], 4, 7);
        let order = draws.order(5);
        assert_eq!(order.len(), 40);
        assert_eq!(order.iter().filter(|i| **i >= 30).count(), 20);
        assert_eq!(order, draws.order(5));
    }

    #[test]
    fn batches_come_in_order_from_any_number_of_threads_and_any_start() {
        let t = tempfile::tempdir().unwrap();
        let mut data = set("a", 6, 1.0);
        for (i, item) in data.items.iter_mut().enumerate() {
            item.image = t.path().join(format!("{i}.png"));
            let tint = 40 * i as u8;
            image::RgbImage::from_pixel(40, 40, image::Rgb([tint, 99, 200])).save(&item.image).unwrap();
        }
        std::fs::write(&data.items[2].image, "broken").unwrap();
        let recipe = Recipe {
            draws: Draws::new(&[data], 2, 3),
            masks: Masks::default(),
            augmentation: Augmentation {
                strength: Strength::default(),
                phantoms: None,
                filter: Filter::Antialiased,
            },
            description: Description::published("x", crate::model::Architecture::default()),
            sizes: vec![32, 64],
        };
        let faults = Faults::default();
        let run = |first, threads| {
            let mut loader = Loader::start(recipe.clone(), first, threads, &faults).unwrap();
            (first..8).map(|_| loader.take().unwrap()).collect::<Vec<_>>()
        };
        let all = run(0, 3);
        assert_eq!(all, run(0, 1));
        assert_eq!(all[5..], run(5, 2));
        assert!(all.iter().enumerate().all(|(i, b)| b.step == i as u64 && b.names.len() == 2));
        assert_eq!(faults.lock().unwrap().len(), 1);
    }
}
