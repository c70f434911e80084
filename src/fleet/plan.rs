//! Which recordings an archive holds, and how long they are.
//!
//! In: folders, files, lists and buckets. Out: units in the order in which they were found, each looked into once. A
//! recording that cannot be looked into is a unit too, with its problem, so that it is not forgotten.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::manifest::{Manifest, Unit, key};
use super::settings::Settings;
use super::shard::{USUAL_FPS, shards_for};
use super::source::{self, Staging};
use super::{content, failure};
use crate::capture::{Facts, SkipReason, contents};
use crate::hexadecimal::hexadecimal;
use crate::small_file;
use crate::still::folder::entries;
use crate::{Error, Kind, Result};

/// Bytes a second of a recording whose container says nothing: what procedures are usually kept at.
const USUAL_BYTES: f64 = 1e6;

/// What is to be planned.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Folders with all folders in them, files, and addresses in buckets.
    pub inputs: Vec<PathBuf>,
    /// Files with a recording a line.
    pub lists: Vec<PathBuf>,
    /// Where results go: a folder or `s3://BUCKET/PREFIX`.
    pub store: String,
    /// Name and SHA-256.
    pub checkpoint: (String, String),
    /// What results depend on besides recordings and checkpoint.
    pub settings: Settings,
    /// Take both ends and the length of a recording for its content.
    pub quick: bool,
    /// Digests in place of names, of this salt and the path.
    pub salt: Option<String>,
    /// Minutes of video a shard has, or how many shards.
    pub shard_minutes: f64,
    /// How many shards; `None`: as many as [`Self::shard_minutes`] makes.
    pub shards: Option<usize>,
    /// Where recordings of a bucket are copied to be looked into.
    pub staging: Staging,
}

/// A recording to look into.
#[derive(Clone, Debug, Default)]
struct Candidate {
    path: PathBuf,
    stills: bool,
    problem: Option<String>,
    known: Known,
}

/// What a list may say of a recording, so that nobody has to look.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Known {
    path: String,
    sha256: Option<String>,
    frames: Option<u64>,
    seconds: Option<f64>,
    bytes: Option<u64>,
}

/// Looks at everything. `progress` is told how many recordings have been looked into, of how many.
///
/// # Errors
/// Inputs that are not there, lists that are none, a folder without a recording.
pub fn plan(plan: &Plan, progress: &(dyn Fn(usize, usize) + Sync)) -> Result<Manifest> {
    crate::capture::init()?;
    let mut candidates = Vec::new();
    for input in &plan.inputs {
        find(input, &mut candidates)?;
    }
    for list in &plan.lists {
        read_list(list, &mut candidates)?;
    }
    // Named twice is found once.
    let mut seen = std::collections::HashSet::new();
    candidates.retain(|c| seen.insert(c.path.clone()));
    if candidates.is_empty() {
        return Err(
            Error::input("there is no recording among the inputs").remedy("name folders that hold some")
        );
    }
    let digest = plan.settings.digest(&plan.checkpoint.1)?;
    let all = candidates.len();
    let done = std::sync::atomic::AtomicUsize::new(0);
    let look = |c: &Candidate| {
        let unit = plan.look(c, &digest);
        progress(done.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1, all);
        unit
    };
    let mut units = candidates.par_iter().map(look).collect::<Result<Vec<_>>>()?;
    plan.name(&mut units);
    let shards = plan.shards.unwrap_or_else(|| shards_for(&units, plan.shard_minutes));
    let head = Manifest::head(
        plan.store.clone(),
        plan.checkpoint.clone(),
        plan.settings.clone(),
        shards,
        units.len(),
    );
    Ok(Manifest { head, units })
}

/// Adds what a named path holds, with the folders in it.
fn find(input: &Path, all: &mut Vec<Candidate>) -> Result<()> {
    if source::is_remote(input) {
        for address in source::list(&input.to_string_lossy())? {
            let path = PathBuf::from(address);
            if crate::capture::is_named_as_video(&path) {
                all.push(Candidate { path, ..Candidate::default() });
            }
        }
        return Ok(());
    }
    let path = std::path::absolute(input).map_err(|e| Error::read(input, e))?;
    let metadata = std::fs::metadata(&path).map_err(|e| Error::read(input, e))?;
    if !metadata.is_dir() {
        all.push(Candidate { path, ..Candidate::default() });
        return Ok(());
    }
    let before = all.len();
    let pictures = walk(&path, all)?;
    if all.len() == before {
        if !pictures {
            return Err(Error::input(format!("{}: holds neither videos nor pictures", input.display()))
                .remedy("name a folder that does, or the files themselves"));
        }
        all.push(Candidate { path, stills: true, ..Candidate::default() });
    }
    Ok(())
}

/// Adds the videos of a folder and of those in it; whether the folder itself holds pictures.
fn walk(folder: &Path, all: &mut Vec<Candidate>) -> Result<bool> {
    let found = contents(folder)?;
    all.extend(found.videos.into_iter().map(|path| Candidate { path, ..Candidate::default() }));
    for skipped in found.skipped {
        if let SkipReason::Unreadable(_) | SkipReason::BrokenLink = skipped.reason {
            let problem = Some(skipped.reason.to_string());
            all.push(Candidate { path: skipped.path, problem, ..Candidate::default() });
        }
    }
    for path in entries(folder)? {
        // Links to folders are not followed: they may lead round in a circle.
        let hidden = path.file_name().is_some_and(|n| n.as_encoded_bytes().starts_with(b"."));
        if !hidden && path.symlink_metadata().is_ok_and(|m| m.is_dir()) {
            match walk(&path, all) {
                Ok(_) => {}
                // One folder that may not be looked into is not the end of the archive.
                Err(e) => {
                    let problem = Some(failure::without_names(&e.to_string(), &[&path]));
                    all.push(Candidate { path, problem, ..Candidate::default() });
                }
            }
        }
    }
    Ok(!found.pictures.is_empty())
}

/// A path a line, or an object with what is known of it; empty lines and those that begin with `#` are left out.
fn read_list(list: &Path, all: &mut Vec<Candidate>) -> Result<()> {
    let bytes = small_file::read(list, 1 << 30, "a list of recordings")?;
    let base = std::path::absolute(list).map_err(|e| Error::read(list, e))?;
    let base = base.parent().unwrap_or(Path::new("/"));
    for (n, line) in bytes.split(|b| *b == b'\n').enumerate() {
        let line = String::from_utf8_lossy(line);
        let line = line.trim_end_matches('\r');
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        let known = if line.starts_with('{') {
            serde_json::from_str(line).map_err(|e| {
                Error::usage(format!("{}: line {}: {e}", list.display(), n + 1))
                    .remedy("give a path, or an object with path, sha256, frames, seconds and bytes")
            })?
        } else {
            Known { path: line.to_owned(), ..Known::default() }
        };
        let path = PathBuf::from(&known.path);
        let path = if source::is_remote(&path) { path } else { base.join(path) };
        let stills = path.is_dir();
        all.push(Candidate { path, stills, problem: None, known });
    }
    Ok(())
}

impl Plan {
    /// Looks into one recording.
    fn look(&self, candidate: &Candidate, digest: &str) -> Result<Unit> {
        let address = candidate.path.to_str().map(str::to_owned);
        let mut unit = Unit {
            path: address.clone().unwrap_or_else(|| candidate.path.to_string_lossy().into_owned()),
            stills: candidate.stills,
            problem: candidate.problem.clone(),
            ..Unit::default()
        };
        if address.is_none() {
            unit.problem = Some("its path is not text, and cannot stand in a manifest".to_owned());
        }
        if unit.problem.is_none()
            && let Err(e) = self.inspect(candidate, &mut unit)
        {
            match e.kind() {
                // Nothing that is wrong with one recording; or this machine cannot tell, and the one that works on it
                // may.
                Kind::Usage | Kind::Output | Kind::Internal => return Err(e),
                Kind::Machine if !unit.content.is_empty() => {
                    tracing::warn!("{}: {e}", unit.path);
                    self.guess(&mut unit);
                }
                _ => unit.problem = Some(failure::without_names(&e.to_string(), &[&candidate.path])),
            }
        }
        if unit.content.is_empty() {
            unit.content = format!("path:{}", hexadecimal(&Sha256::digest(unit.path.as_bytes())));
        }
        unit.key = key(digest, &unit.content);
        Ok(unit)
    }

    fn inspect(&self, candidate: &Candidate, unit: &mut Unit) -> Result<()> {
        let known = &candidate.known;
        if let (Some(sha256), Some(frames)) = (&known.sha256, known.frames) {
            (unit.content, unit.frames) = (sha256.clone(), frames);
            (unit.seconds, unit.bytes) = (known.seconds, known.bytes.unwrap_or_default());
            return Ok(());
        }
        if candidate.stills {
            return self.stills(candidate, unit);
        }
        let local = source::fetch(&unit.path, &self.staging)?;
        (unit.bytes, unit.ends) = content::of_ends(&local.path)?;
        unit.content = match (&known.sha256, self.quick) {
            (Some(sha256), _) => sha256.clone(),
            (None, true) => format!("ends:{}", unit.ends),
            (None, false) => content::of_all(&local.path)?,
        };
        let facts = Facts::discover(&local.path)
            .map_err(|e| Error::new(e.kind(), failure::without_names(&e.to_string(), &[&local.path])))?;
        unit.seconds = facts.duration.map(|d| d.0 as f64 * 1e-9);
        match (known.frames, unit.seconds, facts.fps) {
            (Some(frames), _, _) => unit.frames = frames,
            (None, Some(seconds), fps) => unit.frames = (seconds * fps.unwrap_or(USUAL_FPS)).round() as u64,
            (None, None, _) => self.guess(unit),
        }
        Ok(())
    }

    /// Frames from bytes: shards want to be about equal, no more.
    fn guess(&self, unit: &mut Unit) {
        unit.frames = (unit.bytes as f64 / USUAL_BYTES * USUAL_FPS).round() as u64;
    }

    fn stills(&self, candidate: &Candidate, unit: &mut Unit) -> Result<()> {
        let pictures = contents(&candidate.path)?.pictures;
        if pictures.is_empty() {
            return Err(Error::input("the folder holds no pictures"));
        }
        let mut digest = Sha256::new();
        for picture in &pictures {
            let (bytes, ends) = content::of_ends(picture)?;
            unit.bytes += bytes;
            let one = if self.quick { ends } else { content::of_all(picture)? };
            digest.update(one.as_bytes());
        }
        unit.content = hexadecimal(&digest.finalize());
        unit.frames = pictures.len() as u64;
        let (n, d) = self.settings.stills_fps;
        unit.seconds = Some(unit.frames as f64 * f64::from(d) / f64::from(n.max(1)));
        Ok(())
    }

    /// Names results after their recordings: by the path below what all have in common, or by a digest.
    fn name(&self, units: &mut [Unit]) {
        if let Some(salt) = &self.salt {
            let mut taken: HashMap<String, usize> = HashMap::new();
            for unit in units {
                let digest = Sha256::new_with_prefix(salt.as_bytes())
                    .chain_update([0])
                    .chain_update(unit.path.as_bytes());
                let name = format!("recording-{}", &hexadecimal(&digest.finalize())[..12]);
                let n = taken.entry(name.clone()).or_default();
                *n += 1;
                unit.name = if *n == 1 { name } else { format!("{name}-{n}") };
            }
            return;
        }
        let folders = |path: &str| path.split('/').map(str::to_owned).collect::<Vec<_>>();
        let mut common: Option<Vec<String>> = None;
        for unit in units.iter() {
            let mut parts = folders(&unit.path);
            parts.pop();
            common = Some(match common {
                None => parts,
                Some(c) => c.into_iter().zip(parts).take_while(|(a, b)| a == b).map(|(a, _)| a).collect(),
            });
        }
        let skip = common.map_or(0, |c| c.len());
        for unit in units {
            unit.name = folders(&unit.path)[skip..].join("/");
        }
    }
}
