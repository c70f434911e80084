//! Folders: `images/` beside `masks/` (or the names other projects use), paired by the files' stems.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::item::{Item, LeftOut, Set, Truth};
use super::place::{name_of, usable};
use crate::still::names::{comparable, is_litter, natural_order};
use crate::{Error, Result};

const IMAGES: [&str; 6] = ["images", "image", "imgs", "img", "original", "frames"];
const MASKS: [&str; 9] =
    ["masks", "mask", "labels", "label", "gt", "groundtruth", "ground truth", "ground_truth", "annotations"];

/// A folder of pictures by stem; sub-folders are entered, and stand before the stem.
fn pictures(folder: &Path) -> Result<(BTreeMap<String, PathBuf>, Vec<LeftOut>)> {
    let mut found = BTreeMap::new();
    let mut left_out = Vec::new();
    let mut open = vec![(folder.to_owned(), String::new())];
    while let Some((folder, before)) = open.pop() {
        for entry in std::fs::read_dir(&folder).map_err(|e| Error::read(&folder, e))? {
            let path = entry.map_err(|e| Error::read(&folder, e))?.path();
            let name = path.file_name().unwrap_or_default();
            if is_litter(name) {
                continue;
            }
            if path.is_dir() {
                open.push((path.clone(), format!("{before}{}/", comparable(name))));
            } else if usable(&path) {
                let stem = format!("{before}{}", comparable(path.file_stem().unwrap_or_default()));
                if let Some(other) = found.insert(stem.clone(), path.clone()) {
                    let why =
                        format!("{} and {} share their stem; keep one", other.display(), path.display());
                    left_out.push(LeftOut { name: stem, why });
                }
            }
        }
    }
    for left in &left_out {
        found.remove(&left.name);
    }
    Ok((found, left_out))
}

fn child(folder: &Path, names: &[&str]) -> Option<PathBuf> {
    let entries: Vec<PathBuf> = std::fs::read_dir(folder).ok()?.flatten().map(|e| e.path()).collect();
    names.iter().find_map(|name| {
        entries
            .iter()
            .find(|p| {
                p.is_dir() && p.file_name().is_some_and(|n| n.to_string_lossy().eq_ignore_ascii_case(name))
            })
            .cloned()
    })
}

/// The endings that masks' stems have and pictures' lack in the data sets of this field.
fn bare(stem: &str) -> &str {
    ["_mask", "_segmentation", "_gt", "-mask", "_label"]
        .iter()
        .find_map(|ending| stem.strip_suffix(ending))
        .unwrap_or(stem)
}

pub fn open(folder: &Path) -> Result<Set> {
    let (Some(images), Some(masks)) = (child(folder, &IMAGES), child(folder, &MASKS)) else {
        return Err(Error::input(format!("{}: has no images/ beside masks/", folder.display()))
            .remedy("name the folder that holds both; for pictures without a polyp use --negatives"));
    };
    let (images, mut left_out) = pictures(&images)?;
    let (masks, ambiguous) = pictures(&masks)?;
    left_out.extend(ambiguous);
    // By their own stems first; then without an ending such as _mask.
    let mut by_bare: BTreeMap<&str, &PathBuf> = masks.iter().map(|(s, p)| (bare(s), p)).collect();
    by_bare.extend(masks.iter().map(|(s, p)| (s.as_str(), p)));
    let set = name_of(folder);
    let mut items = Vec::with_capacity(images.len());
    for (stem, image) in &images {
        match by_bare.get(stem.as_str()) {
            Some(mask) => items.push(Item {
                set: Arc::clone(&set),
                name: stem.clone(),
                image: image.clone(),
                truth: Truth::Mask((*mask).clone()),
            }),
            None => left_out.push(LeftOut {
                name: stem.clone(),
                why: "has no mask (an empty mask, or --negatives, says that nothing is there)".into(),
            }),
        }
    }
    for stem in masks.keys() {
        if !images.contains_key(stem) && !images.contains_key(bare(stem)) {
            left_out.push(LeftOut { name: stem.clone(), why: "is a mask without its picture".into() });
        }
    }
    items.sort_by(|a, b| natural_order(&a.name, &b.name));
    Ok(Set { name: set, weight: 1.0, items, left_out, classes: None })
}

pub fn negatives(folder: &Path) -> Result<Set> {
    let inside = child(folder, &IMAGES).unwrap_or_else(|| folder.to_owned());
    let (images, left_out) = pictures(&inside)?;
    if images.is_empty() {
        return Err(Error::input(format!("{}: holds no picture", folder.display()))
            .remedy("name a folder of pictures without a polyp"));
    }
    let set = name_of(folder);
    let mut items: Vec<Item> = images
        .into_iter()
        .map(|(name, image)| Item { set: Arc::clone(&set), name, image, truth: Truth::Nothing })
        .collect();
    items.sort_by(|a, b| natural_order(&a.name, &b.name));
    Ok(Set { name: set, weight: 1.0, items, left_out, classes: None })
}
