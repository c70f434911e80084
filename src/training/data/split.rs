//! Training and validation apart: items flow in, the two parts flow out, no group in both.
//!
//! Frames of one patient or one video look alike; where they stand on both sides, validation measures memory. What
//! belongs together is told by a regular expression over the picture's path, or by its folder.

use std::collections::{BTreeMap, BTreeSet};

use regex::Regex;

use super::super::random::Random;
use super::item::Item;
use crate::{Error, Result};

/// What says which pictures belong together.
#[derive(Clone, Debug, Default)]
pub enum Grouping {
    /// Nothing: each picture is its own group.
    #[default]
    None,
    /// The folder that the picture lies in.
    Folder,
    /// The first group of a regular expression over the picture's whole path (or all it matches); what does not match
    /// is its own group.
    Pattern(Regex),
}

impl std::str::FromStr for Grouping {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Ok(match text {
            "none" => Self::None,
            "folder" => Self::Folder,
            pattern => Self::Pattern(Regex::new(pattern).map_err(|e| {
                Error::usage(format!("--group: {pattern:?} is no regular expression"))
                    .remedy("give folder, none, or one such as 'patient([0-9]+)'")
                    .because(e)
            })?),
        })
    }
}

impl Grouping {
    /// Whether each picture is its own group.
    pub fn is_none(&self) -> bool {
        matches!(self, Self::None)
    }

    /// The group that a picture belongs to: what the pattern found, its folder, or `SET/NAME`.
    pub fn of(&self, item: &Item) -> String {
        let path = item.image.to_string_lossy();
        let own = || format!("{}/{}", item.set, item.name);
        match self {
            Self::None => own(),
            Self::Folder => item.image.parent().map_or_else(own, |p| p.to_string_lossy().into_owned()),
            Self::Pattern(pattern) => match pattern.captures(&path) {
                Some(found) => {
                    found.get(1).or_else(|| found.get(0)).map_or_else(own, |m| m.as_str().to_owned())
                }
                None => own(),
            },
        }
    }
}

/// Groups that stand in both lists, each with how many of its pictures are in the first and in the second.
pub fn shared(grouping: &Grouping, a: &[Item], b: &[Item]) -> Vec<(String, usize, usize)> {
    let count = |items: &[Item]| {
        let mut out: BTreeMap<String, usize> = BTreeMap::new();
        items.iter().for_each(|i| *out.entry(grouping.of(i)).or_default() += 1);
        out
    };
    let (a, b) = (count(a), count(b));
    a.into_iter().filter_map(|(group, n)| b.get(&group).map(|&m| (group, n, m))).collect()
}

/// The training and the validation part of fold `fold` of `folds`: groups, shuffled by the seed, go round the folds.
///
/// # Errors
/// Fewer groups than folds.
pub fn fold(
    items: &[Item],
    grouping: &Grouping,
    (fold, folds): (usize, usize),
    seed: u64,
) -> Result<(Vec<Item>, Vec<Item>)> {
    let groups: BTreeSet<String> = items.iter().map(|i| grouping.of(i)).collect();
    if groups.len() < folds {
        return Err(Error::input(format!("there are {} groups of pictures for {folds} folds", groups.len()))
            .remedy("ask for fewer folds, or group in another way"));
    }
    let mut groups: Vec<String> = groups.into_iter().collect();
    Random::of(seed, &[0xF01D]).shuffle(&mut groups);
    let of: BTreeMap<&String, usize> = groups.iter().enumerate().map(|(i, g)| (g, i % folds)).collect();
    Ok(items.iter().cloned().partition(|item| of[&grouping.of(item)] != fold))
}
