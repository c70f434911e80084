//! How far a fleet has come.
//!
//! In: a manifest and its store. Out: counts, the rate of the last hour and what is left at that rate, and why units
//! failed. Nobody is asked: what stands in the store is all there is to know.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, SystemTime};

use serde::Serialize;

use super::failure::{FOLDER, Failure};
use super::manifest::Manifest;
use super::outcome::Ending;
use super::store::Store;
use super::work::outcome;
use crate::Result;

/// The stretch that the rate is taken from.
const RECENT: Duration = Duration::from_secs(3600);

/// See the module. Recordings of the same content count each.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Status {
    /// Recordings of the manifest.
    pub recordings: usize,
    /// With a result of the whole recording.
    pub whole: usize,
    /// With a result that stands although part of the recording could not be read.
    pub partial: usize,
    /// Partial, and to be tried once more.
    pub once: usize,
    /// Nothing of them can be read, found out by a try or when they were planned.
    pub unreadable: usize,
    /// Without a result, after tries that failed.
    pub failed: usize,
    /// Without a result.
    pub open: usize,
    /// Frames of all recordings, as the manifest counts them.
    pub frames: u64,
    /// Frames of those that have a result or cannot be read.
    pub frames_done: u64,
    /// Frames a second over the last hour, of whatever finished then.
    pub frames_per_second: Option<f64>,
    /// Seconds for the frames that are left, at that rate; `None` without a rate.
    pub seconds_left: Option<f64>,
    /// Reason → recordings without a whole result because of it.
    pub reasons: BTreeMap<String, usize>,
}

impl Status {
    /// Whether every recording has a result that stands.
    pub fn is_complete(&self) -> bool {
        self.open == 0 && self.once == 0
    }
}

/// Each unit's last object in a folder of the store, by key: its name, and when it came into being.
fn last(store: &Store, folder: &str) -> Result<HashMap<String, (String, SystemTime)>> {
    let key_of = |name: &str| name.split('/').nth(1).map(|n| n.strip_suffix(".json").unwrap_or(n).to_owned());
    // Sorted by name: of several failures the last one stays.
    let all = store.list(folder)?.into_iter();
    Ok(all.filter_map(|l| Some((key_of(&l.name)?, (l.name, l.at)))).collect())
}

/// Looks at the store.
///
/// # Errors
/// A store that does not answer, an outcome that is none.
pub fn status(manifest: &Manifest, store: &Store) -> Result<Status> {
    let (done, first, failures) = (last(store, "done")?, last(store, "first")?, last(store, FOLDER)?);
    let mut status = Status { recordings: manifest.units.len(), ..Status::default() };
    let standing: Vec<_> = manifest
        .units
        .iter()
        .filter_map(|u| Some((u, done.get(&u.key).or_else(|| first.get(&u.key))?)))
        .collect();
    let names: Vec<_> = standing.iter().map(|(_, (name, _))| name.clone()).collect();
    let mut endings = HashMap::new();
    for names in names.chunks(1024) {
        for (name, bytes) in names.iter().zip(store.read_all(names)?) {
            let outcome = outcome(&bytes.unwrap_or_default(), name)?;
            endings.insert(outcome.key.clone(), (outcome.found.ending, outcome.found.reason));
        }
    }
    for unit in &manifest.units {
        status.frames += unit.frames;
        let reason = match (&unit.problem, endings.get(&unit.key)) {
            (Some(problem), _) => {
                status.unreadable += 1;
                status.frames_done += unit.frames;
                Some(problem.clone())
            }
            (None, Some((ending, reason))) => {
                status.frames_done += unit.frames;
                match ending {
                    Ending::Whole => status.whole += 1,
                    Ending::Partial if !done.contains_key(&unit.key) => status.once += 1,
                    Ending::Partial => status.partial += 1,
                    Ending::Unreadable => status.unreadable += 1,
                }
                reason.clone()
            }
            (None, None) => {
                status.open += 1;
                match failures.get(&unit.key) {
                    None => None,
                    Some((name, _)) => {
                        status.failed += 1;
                        Some(last_reason(store, name)?)
                    }
                }
            }
        };
        if let Some(reason) = reason {
            *status.reasons.entry(reason).or_default() += 1;
        }
    }
    let times = standing.iter().filter(|(u, _)| u.problem.is_none()).map(|(u, (_, at))| (*at, u.frames));
    status.frames_per_second = rate(times, SystemTime::now());
    let left = status.frames - status.frames_done;
    status.seconds_left = status.frames_per_second.filter(|r| *r > 0.0).map(|r| left as f64 / r);
    Ok(status)
}

fn last_reason(store: &Store, name: &str) -> Result<String> {
    let bytes = store.read(name)?.unwrap_or_default();
    Ok(serde_json::from_slice::<Failure>(&bytes).map_or_else(|_| "not known".to_owned(), |f| f.reason))
}

/// The last failure of each unit that has one, by key.
pub(super) fn last_failures(store: &Store) -> Result<HashMap<String, String>> {
    let failures = last(store, FOLDER)?;
    failures.into_iter().map(|(key, (name, _))| Ok((key, last_reason(store, &name)?))).collect()
}

/// Frames a second of what finished within the last hour, since the first of it finished.
fn rate(done: impl Iterator<Item = (SystemTime, u64)>, now: SystemTime) -> Option<f64> {
    let from = now.checked_sub(RECENT)?;
    let mut recent: Vec<_> = done.filter(|(at, _)| *at >= from).collect();
    recent.sort_unstable();
    // What the first one cost happened before.
    let begun = recent.first()?.0;
    let frames: u64 = recent.iter().skip(1).map(|(_, f)| f).sum();
    let seconds = now.duration_since(begun).ok()?.as_secs_f64();
    (frames > 0 && seconds > 0.0).then(|| frames as f64 / seconds)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::manifest::Unit;
    use crate::fleet::manifest::tests::manifest;
    use crate::fleet::outcome::Outcome;
    use crate::fleet::store::tests::folder;
    use crate::fleet::{failure, unit};

    #[test]
    fn what_stands_what_failed_and_why() {
        let (_keep, store) = folder();
        let m = manifest(
            (0..6)
                .map(|n| Unit {
                    content: n.to_string(),
                    frames: 100,
                    problem: (n == 5).then(|| "permission denied".to_owned()),
                    ..Unit::default()
                })
                .collect(),
        );
        let put = |n: usize, ending: Ending, name: fn(&str) -> String, reason: Option<&str>| {
            let mut o = Outcome::unreadable(&m.units[n].key, 1, String::new());
            o.found.ending = ending;
            o.found.reason = reason.map(str::to_owned);
            store.create(&name(&m.units[n].key), serde_json::to_vec(&o).unwrap()).unwrap();
        };
        put(0, Ending::Whole, unit::done, None);
        put(1, Ending::Partial, unit::first, Some("cut off"));
        put(2, Ending::Unreadable, unit::done, Some("is empty"));
        failure::keep(&store, &m.units[3].key, "the device is lost");
        let s = status(&m, &store).unwrap();
        assert_eq!((s.recordings, s.whole, s.partial, s.once, s.unreadable), (6, 1, 0, 1, 2));
        assert_eq!((s.failed, s.open, s.frames, s.frames_done), (1, 2, 600, 400));
        let reasons: Vec<_> = s.reasons.iter().map(|(r, n)| (r.as_str(), *n)).collect();
        assert_eq!(
            reasons,
            [("cut off", 1), ("is empty", 1), ("permission denied", 1), ("the device is lost", 1)]
        );
        assert!(!s.is_complete());
        put(1, Ending::Partial, unit::done, Some("cut off"));
        put(3, Ending::Whole, unit::done, None);
        put(4, Ending::Whole, unit::done, None);
        let s = status(&m, &store).unwrap();
        assert_eq!((s.partial, s.once, s.failed, s.open), (1, 0, 0, 0));
        assert!(s.is_complete());
    }

    #[test]
    fn the_rate_is_that_of_the_last_hour() {
        let now = SystemTime::now();
        let ago = |s: u64| now - Duration::from_secs(s);
        assert_eq!(rate([].into_iter(), now), None);
        assert_eq!(rate([(ago(10), 500)].into_iter(), now), None, "one says nothing of how long it took");
        let done = [(ago(9000), 1_000_000), (ago(100), 500), (ago(50), 300), (ago(0), 700)];
        assert_eq!(rate(done.into_iter(), now), Some(10.0));
    }
}
