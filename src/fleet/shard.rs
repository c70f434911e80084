//! Which part of the work is ours.
//!
//! In: `--shard I/N`, or what the engine that started us put into the environment. Out: the units of that shard. Shards
//! are cut by frames, largest recording first onto the shard with the least, so that they end at about the same time;
//! the cut depends on the manifest and N alone.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::str::FromStr;

use super::manifest::{Manifest, Unit};
use crate::{Error, Result};

/// Frames of a second where only time is known.
pub(super) const USUAL_FPS: f64 = 25.0;

/// Part `index` (from 0) of `of`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    /// Which one, from 0 to `of` less 1.
    pub index: usize,
    /// How many there are.
    pub of: usize,
}

impl FromStr for Shard {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let parts = text.split_once('/').and_then(|(i, n)| Some((i.parse().ok()?, n.parse().ok()?)));
        match parts {
            Some((index, of)) if index < of => Ok(Self { index, of }),
            _ => Err(Error::usage(format!("{text:?} is no shard"))
                .remedy("give I/N with I from 0 to N-1, such as 0/4")),
        }
    }
}

/// The engines that number their tasks, innermost first: an engine may itself run inside a task of another. The last
/// says what the first number is.
const ENGINES: &[(&str, &str, usize)] = &[
    ("PARALLEL_SEQ", "GNU parallel", 1),
    ("HQ_TASK_ID", "HyperQueue", 0),
    ("JOB_COMPLETION_INDEX", "Kubernetes", 0),
    ("AWS_BATCH_JOB_ARRAY_INDEX", "AWS Batch", 0),
    ("SLURM_ARRAY_TASK_ID", "Slurm", 0),
];

impl Shard {
    /// The shard that an engine's environment names, of `of`, and that engine's name; none where no engine numbers us.
    ///
    /// # Errors
    /// A number that is none, or beyond the last shard.
    pub fn from_environment(
        of: usize,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Option<(Self, &'static str)>> {
        for (name, engine, first) in ENGINES {
            let Some(text) = variable(name) else { continue };
            let index = text.trim().parse::<usize>().ok().and_then(|n| n.checked_sub(*first));
            return match index {
                Some(index) if index < of => Ok(Some((Self { index, of }, engine))),
                _ => Err(Error::usage(format!("{name} is {text:?}, and the manifest has {of} shards"))
                    .remedy(format!(
                        "number the tasks of {engine} from {first} to {}, or name the shard with --shard I/N",
                        of - 1 + first
                    ))),
            };
        }
        Ok(None)
    }

    /// The units of this shard, largest first. Recordings of the same content are in the same shard, once.
    pub(super) fn units<'m>(&self, manifest: &'m Manifest) -> Vec<&'m Unit> {
        let mut all = manifest.keys();
        // Equals by their keys: the cut is the same wherever it is made.
        all.sort_by(|a, b| (Reverse(a.frames), &a.key).cmp(&(Reverse(b.frames), &b.key)));
        let mut load: BinaryHeap<_> = (0..self.of).map(|shard| Reverse((0u64, shard))).collect();
        let mut owner = HashMap::with_capacity(all.len());
        for unit in &all {
            let Some(Reverse((frames, shard))) = load.pop() else { break };
            owner.insert(unit.key.as_str(), shard);
            // A recording without frames still costs a look.
            load.push(Reverse((frames.saturating_add(unit.frames.max(25)), shard)));
        }
        all.retain(|u| owner.get(u.key.as_str()) == Some(&self.index));
        all
    }
}

/// How many shards make up about so many minutes of video each.
pub fn shards_for(units: &[Unit], minutes: f64) -> usize {
    let seconds: f64 = units
        .iter()
        .filter(|u| u.problem.is_none())
        .map(|u| u.seconds.unwrap_or(u.frames as f64 / USUAL_FPS))
        .sum();
    ((seconds / 60.0 / minutes).ceil() as usize).clamp(1, units.len().max(1))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::fleet::manifest::tests::manifest;

    fn among(set: &[(&str, &str)], of: usize) -> Result<Option<(Shard, &'static str)>> {
        Shard::from_environment(of, |name| set.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned()))
    }

    #[test]
    fn engines_number_their_tasks_each_in_its_way() {
        for (variable, first, engine) in [
            ("SLURM_ARRAY_TASK_ID", 0, "Slurm"),
            ("JOB_COMPLETION_INDEX", 0, "Kubernetes"),
            ("AWS_BATCH_JOB_ARRAY_INDEX", 0, "AWS Batch"),
            ("HQ_TASK_ID", 0, "HyperQueue"),
            ("PARALLEL_SEQ", 1, "GNU parallel"),
        ] {
            for index in 0..3 {
                let text = (index + first).to_string();
                assert_eq!(among(&[(variable, &text)], 3).unwrap(), Some((Shard { index, of: 3 }, engine)));
            }
            for wrong in [(3 + first).to_string(), "-1".into(), "x".into(), String::new()] {
                let e = among(&[(variable, &wrong)], 3).unwrap_err();
                assert_eq!(e.exit_code(), 2);
                assert!(e.to_string().contains(variable), "{e}");
            }
        }
        assert!(among(&[("PARALLEL_SEQ", "0")], 3).is_err(), "it counts from 1");
        assert_eq!(among(&[], 3).unwrap(), None);
        // A worker of HyperQueue inside a task of Slurm.
        let both = among(&[("SLURM_ARRAY_TASK_ID", "1"), ("HQ_TASK_ID", "2")], 3).unwrap();
        assert_eq!(both, Some((Shard { index: 2, of: 3 }, "HyperQueue")));
    }

    #[test]
    fn shards_are_read_from_zero() {
        assert_eq!("0/1".parse::<Shard>().unwrap(), Shard { index: 0, of: 1 });
        for wrong in ["", "1", "1/1", "4/4", "-1/4", "1/0", "a/b", "0/4/5"] {
            assert!(wrong.parse::<Shard>().is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn every_unit_is_in_one_shard_and_the_loads_are_even(
            frames in prop::collection::vec(0u64..100_000, 0..60),
            of in 1usize..9,
        ) {
            let units = frames.iter().enumerate().map(|(i, f)| Unit {
                content: (i % 50).to_string(),
                frames: *f,
                ..Unit::default()
            });
            let m = manifest(units.collect());
            let mut seen = Vec::new();
            let mut loads = Vec::new();
            for index in 0..of {
                let units = Shard { index, of }.units(&m);
                loads.push(units.iter().map(|u| u.frames.max(25)).sum::<u64>());
                seen.extend(units.into_iter().map(|u| u.key.clone()));
            }
            let mut all: Vec<_> = m.keys().into_iter().map(|u| u.key.clone()).collect();
            seen.sort();
            all.sort();
            prop_assert_eq!(seen, all);
            let largest = m.keys().iter().map(|u| u.frames.max(25)).max().unwrap_or(0);
            let (least, most) = (loads.iter().min().unwrap(), loads.iter().max().unwrap());
            prop_assert!(most - least <= largest);
        }
    }

    #[test]
    fn shards_hold_about_the_minutes_asked_for() {
        let unit = |seconds| Unit { seconds: Some(seconds), ..Unit::default() };
        assert_eq!(shards_for(&vec![unit(600.0); 30], 60.0), 5);
        assert_eq!(shards_for(&vec![unit(6000.0); 3], 10.0), 3, "no more than recordings");
        assert_eq!(shards_for(&[], 60.0), 1);
    }
}
