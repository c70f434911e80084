//! A shard, unit by unit.
//!
//! In: a manifest, which shard of it, a store, and a way to a network. Out: the units' results in the store, and a
//! tally that says whether another try is worth while.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use super::failure;
use super::manifest::{Manifest, Unit};
use super::outcome::{Ending, Outcome};
use super::shard::Shard;
use super::source::Staging;
use super::store::Store;
use super::unit::{self, Came, Job};
use crate::segment::Segmenter;
use crate::{Error, Kind, Result};

/// After so many units in a row on which the network failed, it is the machine.
const MOST_FAULTS: usize = 3;

/// See the module.
pub struct Work<'a> {
    /// The whole archive.
    pub manifest: &'a Manifest,
    /// Where results go.
    pub store: &'a Store,
    /// Where recordings of a bucket are copied to.
    pub staging: Staging,
    /// Ends the work after the frame under way.
    pub stop: &'a AtomicBool,
    /// A partial result is not tried a second time.
    pub accept_partial: bool,
    /// Builds the network; called when there is work, and again after it failed.
    pub network: &'a mut dyn FnMut() -> Result<Segmenter>,
}

/// What a shard came to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tally {
    /// Units of the shard; recordings of the same content are one.
    pub units: usize,
    /// Their results stood before.
    pub stood: usize,
    /// Results that stand now, by ending; those that stood before too.
    pub whole: usize,
    /// Part of the recording could not be read.
    pub partial: usize,
    /// Nothing of the recording could be read, found out now or when it was planned.
    pub unreadable: usize,
    /// Partial for the first time: another run of the shard tries them once more.
    pub once: usize,
    /// Units whose recording is not the one that was planned any more.
    pub changed: Vec<String>,
    /// Units that may go well another time, and why they did not.
    pub failed: Vec<(String, String)>,
    /// It ended before the last unit, as it was told to.
    pub stopped: bool,
    /// Frames of the units that were worked on.
    pub frames: u64,
}

impl Tally {
    /// Whether a run of the same shard would get further.
    pub fn is_to_be_retried(&self) -> bool {
        self.stopped || !self.failed.is_empty()
    }

    /// Whether everything is as it should be.
    pub fn is_whole(&self) -> bool {
        self.whole == self.units
    }

    fn count(&mut self, ending: Ending) {
        match ending {
            Ending::Whole => self.whole += 1,
            Ending::Partial => self.partial += 1,
            Ending::Unreadable => self.unreadable += 1,
        }
    }
}

/// An outcome of the store.
pub(super) fn outcome(bytes: &[u8], name: &str) -> Result<Outcome> {
    serde_json::from_slice(bytes).map_err(|e| {
        Error::output(format!("{name}: is no outcome of a recording ({e})"))
            .remedy("delete it from the store and run its shard again")
    })
}

impl Work<'_> {
    /// Works through a shard. `progress` is told the unit, which one of the shard it is, and how many of its frames are
    /// done.
    ///
    /// # Errors
    /// What ends the whole shard: a store that cannot be written or read, a network that cannot be built.
    pub fn run(&mut self, shard: Shard, progress: &mut dyn FnMut(&Unit, usize, u64)) -> Result<Tally> {
        self.manifest.check_keys()?;
        let units = shard.units(self.manifest);
        let mut tally = Tally { units: units.len(), ..Tally::default() };
        let mut segmenter = None;
        let mut faults = 0;
        for (n, unit) in units.into_iter().enumerate() {
            if self.stop.load(Ordering::Relaxed) {
                tally.stopped = true;
                break;
            }
            if unit.problem.is_some() {
                tally.unreadable += 1;
                continue;
            }
            let name = unit::done(&unit.key);
            if let Some(bytes) = self.store.read(&name)? {
                tally.stood += 1;
                tally.count(outcome(&bytes, &name)?.found.ending);
                continue;
            }
            match self.unit(unit, &mut segmenter, &mut |frames| progress(unit, n, frames)) {
                Ok((came, frames)) => {
                    faults = 0;
                    tally.frames += frames;
                    match came {
                        Came::Stands(ending) => tally.count(ending),
                        Came::Once => tally.once += 1,
                        Came::Changed => tally.changed.push(unit.name.clone()),
                        Came::Stopped => {
                            tally.stopped = true;
                            break;
                        }
                    }
                }
                // Other units would meet the same.
                Err(e) if e.kind() == Kind::Output || segmenter.is_none() => return Err(e),
                Err(e) => {
                    let reason = failure::without_names(&e.to_string(), &[Path::new(&unit.path)]);
                    tracing::warn!("{}: {e}", unit.name);
                    failure::keep(self.store, &unit.key, &reason);
                    tally.failed.push((unit.name.clone(), reason));
                    if e.kind() == Kind::Inference || e.kind() == Kind::Internal {
                        segmenter = None;
                        faults += 1;
                        if faults >= MOST_FAULTS {
                            return Err(e);
                        }
                    }
                }
            }
        }
        Ok(tally)
    }

    fn unit(
        &mut self,
        unit: &Unit,
        segmenter: &mut Option<Segmenter>,
        progress: &mut dyn FnMut(u64),
    ) -> Result<(Came, u64)> {
        let segmenter = match segmenter {
            Some(s) => s,
            None => segmenter.insert((self.network)()?),
        };
        let mut frames = 0;
        let mut job = Job {
            unit,
            settings: &self.manifest.head.settings,
            store: self.store,
            staging: &self.staging,
            stop: self.stop,
            accept_partial: self.accept_partial,
            progress: &mut |n| {
                frames = n;
                progress(n);
            },
        };
        let came = job.work(segmenter)?;
        Ok((came, frames))
    }
}
