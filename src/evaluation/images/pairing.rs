//! Which file belongs to which: a folder flows in, its pictures by stem flow out.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::{Error, Result};

/// Extensions of the formats we read.
const PICTURES: [&str; 7] = ["png", "jpg", "jpeg", "bmp", "tif", "tiff", "webp"];

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

/// A file name without its extension, in natural order: `9` before `10`.
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

/// Compares names with runs of digits by their value; equal only for equal names.
pub fn natural_order(a: &str, b: &str) -> Ordering {
    let (mut x, mut y) = (a.as_bytes(), b.as_bytes());
    while let (Some(&i), Some(&j)) = (x.first(), y.first()) {
        if i.is_ascii_digit() && j.is_ascii_digit() {
            let digits = |s: &[u8]| s.iter().take_while(|c| c.is_ascii_digit()).count();
            let (n, m) = (digits(x), digits(y));
            let strip = |s: &[u8]| s.iter().position(|c| *c != b'0').unwrap_or(s.len());
            let (p, q) = (&x[strip(&x[..n])..n], &y[strip(&y[..m])..m]);
            match p.len().cmp(&q.len()).then_with(|| p.cmp(q)) {
                Ordering::Equal => {}
                unequal => return unequal,
            }
            (x, y) = (&x[n..], &y[m..]);
        } else if i != j {
            return i.cmp(&j);
        } else {
            (x, y) = (&x[1..], &y[1..]);
        }
    }
    x.len().cmp(&y.len()).then_with(|| a.cmp(b))
}

/// Lists a folder. `suffix` is cut off the end of each stem that has it; a stem without it keeps its name.
///
/// # Errors
/// The folder cannot be listed.
pub(super) fn list(folder: &Path, suffix: &str) -> Result<Folder> {
    let mut found: BTreeMap<Stem, Vec<PathBuf>> = BTreeMap::new();
    let mut out = Folder::default();
    for entry in std::fs::read_dir(folder).map_err(|e| Error::read(folder, e))? {
        let path = entry.map_err(|e| Error::read(folder, e))?.path();
        let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        let stem = path.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
        let extension = path.extension().map(|e| e.to_string_lossy().to_ascii_lowercase());
        let picture = extension.is_some_and(|e| PICTURES.contains(&e.as_str())) && !name.starts_with('.');
        if !picture || path.is_dir() {
            out.others.push(name);
            continue;
        }
        let stem = match stem.strip_suffix(suffix) {
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

/// The pictures of a folder by stem, in natural order.
///
/// # Errors
/// The folder cannot be listed, or two pictures share a stem.
pub(in crate::evaluation) fn list_pictures(folder: &Path) -> Result<Vec<(String, PathBuf)>> {
    let found = list(folder, "")?;
    match found.ambiguous.first_key_value() {
        Some((stem, _)) => {
            Err(Error::input(format!("{}: several pictures are called {}", folder.display(), stem.0))
                .remedy("keep one picture a frame"))
        }
        None => Ok(found.pictures.into_iter().map(|(stem, path)| (stem.0, path)).collect()),
    }
}
