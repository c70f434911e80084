//! Which file belongs to which: a folder flows in, its pictures by stem flow out.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::still::names::{comparable, is_litter, is_picture, natural_order};
use crate::{Error, Result};

/// The files of one picture.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Files {
    pub mask: PathBuf,
    pub prediction: Option<Source>,
    pub image: Option<PathBuf>,
}

/// Where the prediction of a picture lies.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Source {
    Map(PathBuf),
    /// Class numbers or colours.
    Labels(PathBuf),
    /// A map per class.
    Maps(Vec<PathBuf>),
}

/// The pictures of one folder (its sub-folders are not entered).
#[derive(Debug, Default)]
pub(super) struct Folder {
    /// Stem → the one picture of that stem.
    pub pictures: BTreeMap<Stem, PathBuf>,
    /// Stem → pictures that share it; which one is meant cannot be known.
    pub ambiguous: BTreeMap<Stem, Vec<PathBuf>>,
    /// Names of whatever else lies there.
    pub others: Vec<String>,
}

/// A file name without its extension, accents composed, in natural order: `9` before `10`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stem(pub String);

impl Ord for Stem {
    fn cmp(&self, other: &Self) -> Ordering {
        natural_order(&self.0, &other.0)
    }
}

impl PartialOrd for Stem {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Lists a folder. `suffix` is cut off the end of each stem that has it; a stem without it keeps its name.
///
/// # Errors
/// The folder cannot be listed.
pub(super) fn list(folder: &Path, suffix: &str) -> Result<Folder> {
    let mut found: BTreeMap<Stem, Vec<PathBuf>> = BTreeMap::new();
    let mut out = Folder::default();
    let suffix = comparable(suffix.as_ref());
    for entry in std::fs::read_dir(folder).map_err(|e| Error::read(folder, e))? {
        let path = entry.map_err(|e| Error::read(folder, e))?.path();
        let name = path.file_name().unwrap_or_default();
        if is_litter(name) {
            tracing::debug!("{}: left behind by a system, not read", path.display());
            continue;
        }
        if !is_picture(&path) || path.is_dir() {
            out.others.push(name.to_string_lossy().into_owned());
            continue;
        }
        let stem = comparable(path.file_stem().unwrap_or_default());
        let stem = match stem.strip_suffix(suffix.as_str()) {
            Some(cut) if !cut.is_empty() => cut.to_string(),
            _ => stem,
        };
        found.entry(Stem(stem)).or_default().push(path);
    }
    // `segment` leaves NAME.overlay.png beside NAME.png: a picture to look at, no prediction.
    let names: Vec<Stem> = found.keys().cloned().collect();
    for stem in names {
        if let Some(base) = stem.0.strip_suffix(".overlay")
            && found.contains_key(&Stem(base.to_string()))
            && let Some(paths) = found.remove(&stem)
        {
            out.others
                .extend(paths.iter().filter_map(|p| Some(p.file_name()?.to_string_lossy().into_owned())));
        }
    }
    for (stem, mut paths) in found {
        if paths.len() == 1 {
            out.pictures.insert(stem, paths.remove(0));
        } else {
            paths.sort();
            out.ambiguous.insert(stem, paths);
        }
    }
    out.others.sort_by(|a, b| natural_order(a, b));
    Ok(out)
}

/// Why files of one stem are not used.
pub(super) fn share_a_stem(paths: &[PathBuf]) -> String {
    let named: Vec<String> = paths.iter().map(|p| p.display().to_string()).collect();
    format!("{} share one stem, and which is meant is not known", named.join(" and "))
}

/// The pictures of a folder by stem, in natural order.
///
/// # Errors
/// The folder cannot be listed, or two pictures share a stem.
pub(in crate::evaluation) fn list_pictures(folder: &Path) -> Result<Vec<(String, PathBuf)>> {
    let found = list(folder, "")?;
    match found.ambiguous.first_key_value() {
        Some((_, paths)) => Err(Error::input(share_a_stem(paths)).remedy("keep one picture a frame")),
        None => Ok(found.pictures.into_iter().map(|(stem, path)| (stem.0, path)).collect()),
    }
}
