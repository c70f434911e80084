//! What is wrong with data sets: items flow in, counts and findings flow out, each finding with its files.
//!
//! Every picture and mask is read once. Near-duplicates are told by a difference hash of 8x8 cells in two directions;
//! two pictures whose hashes differ in few of 128 bits look alike.

use std::collections::BTreeMap;

use image::{RgbImage, imageops};
use rayon::prelude::*;
use serde::Serialize;

use super::item::{Item, LeftOut, Set};
use super::read::{Masks, read};
use super::split::{Grouping, shared};
use crate::evaluation::images::NoteKind;

/// Two views of one thing differ in fewer bits of 128.
const ALIKE: u32 = 8;

/// A picture's fingerprint.
pub type Hash = [u64; 2];

/// Which neighbour of each of 8x8 cells is brighter: the right one, the lower one.
pub fn hash(picture: &RgbImage) -> Hash {
    let small = imageops::resize(picture, 9, 9, imageops::FilterType::Triangle);
    let luma = |x: u32, y: u32| {
        let [r, g, b] = small.get_pixel(x, y).0.map(u32::from);
        299 * r + 587 * g + 114 * b
    };
    let mut out = [0u64; 2];
    for y in 0..8 {
        for x in 0..8 {
            let at = 8 * y + x;
            out[0] |= u64::from(luma(x + 1, y) > luma(x, y)) << at;
            out[1] |= u64::from(luma(x, y + 1) > luma(x, y)) << at;
        }
    }
    out
}

fn apart(a: Hash, b: Hash) -> u32 {
    (a[0] ^ b[0]).count_ones() + (a[1] ^ b[1]).count_ones()
}

/// Findings of one kind.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Finding {
    /// What is wrong, in words.
    pub what: String,
    /// Whether it makes figures of this data untrustworthy, not just smaller.
    pub serious: bool,
    /// The files concerned (`SET/NAME`), with what there is to say of each.
    pub names: Vec<String>,
}

/// One side, training or validation.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Side {
    /// Its data sets, in the order they were given.
    pub sets: Vec<SetCount>,
    /// Pictures that could be read with their truth.
    pub pictures: usize,
    /// With something on them.
    pub positive: usize,
    /// With nothing on them.
    pub negative: usize,
    /// Groups that its pictures fall into, such as patients; as many as pictures where nothing groups them.
    pub groups: usize,
    /// `WIDTHxHEIGHT`, how often; the most frequent first.
    pub sizes: Vec<(String, usize)>,
}

/// How much one data set holds.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct SetCount {
    /// The set's name.
    pub name: String,
    /// How often its pictures are drawn, beside a set of weight 1.
    pub weight: f64,
    /// Pictures that have their truth; whether they can be read is not known here.
    pub pictures: usize,
    /// Files and pairs that were left out when the set was opened.
    pub left_out: usize,
}

/// Everything that was found.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Report {
    /// The pictures that are trained on.
    pub training: Side,
    /// The pictures that are validated on; all 0 where none were given.
    pub validation: Side,
    /// What is wrong, a finding for each kind.
    pub findings: Vec<Finding>,
}

impl Report {
    /// Whether something was found.
    pub fn is_clean(&self) -> bool {
        self.findings.is_empty()
    }
}

/// What reading one item said.
struct Look {
    size: (u32, u32),
    positive: bool,
    hash: Hash,
    notes: Vec<NoteKind>,
    fault: Option<String>,
}

fn look(item: &Item, masks: &Masks) -> Look {
    match read(item, masks) {
        Ok(sample) => Look {
            size: sample.picture.dimensions(),
            positive: !sample.is_empty(),
            hash: hash(&sample.picture),
            notes: sample.notes,
            fault: None,
        },
        Err(e) => Look {
            size: (0, 0),
            positive: false,
            hash: [0; 2],
            notes: Vec::new(),
            fault: Some(e.to_string()),
        },
    }
}

/// Looks at every picture; `each` is told after each, and stops it with `false`.
pub fn check(
    training: &[Set],
    validation: &[Set],
    grouping: &Grouping,
    masks: &Masks,
    each: &(dyn Fn() -> bool + Sync),
) -> Report {
    let mut report = Report::default();
    let items = |sets: &[Set]| sets.iter().flat_map(|s| s.items.iter().cloned()).collect::<Vec<_>>();
    let (train, val) = (items(training), items(validation));
    let looked = |items: &[Item]| -> Vec<Look> {
        let looks: Vec<Option<Look>> = items.par_iter().map(|i| each().then(|| look(i, masks))).collect();
        looks.into_iter().flatten().collect()
    };
    let (train_looks, val_looks) = (looked(&train), looked(&val));
    report.training = side(training, &train, &train_looks, grouping);
    report.validation = side(validation, &val, &val_looks, grouping);

    let all = || train.iter().zip(&train_looks).chain(val.iter().zip(&val_looks));
    let name = |i: &Item| format!("{}/{}", i.set, i.name);
    let mut add = |what: &str, serious: bool, names: Vec<String>| {
        if !names.is_empty() {
            report.findings.push(Finding { what: what.into(), serious, names });
        }
    };
    let left: Vec<String> = training
        .iter()
        .chain(validation)
        .flat_map(|s| s.left_out.iter().map(move |LeftOut { name, why }| format!("{}/{name}: {why}", s.name)))
        .collect();
    add("without its counterpart, left out", false, left);
    add("cannot be used", false, all().filter_map(|(_, l)| l.fault.clone()).collect());
    for (kind, what) in [
        (NoteKind::LossyMask, "masks in a lossy format (JPEG): their edges are guessed"),
        (NoteKind::GreyMask, "masks with grey edges, cut at half"),
        (NoteKind::FaintMask, "masks too faint to show anything, taken as empty"),
        (NoteKind::UnlistedValues, "masks with values of no class, taken as background"),
    ] {
        let names = all().filter(|(_, l)| l.notes.contains(&kind)).map(|(i, _)| name(i)).collect();
        add(what, false, names);
    }
    let tiny: Vec<String> = all()
        .filter(|(_, l)| l.fault.is_none() && l.size.0.min(l.size.1) < 64)
        .map(|(i, l)| format!("{} is {}x{}", name(i), l.size.0, l.size.1))
        .collect();
    add("pictures of less than 64 pixels", false, tiny);
    if !grouping.is_none() {
        let names = shared(grouping, &train, &val)
            .into_iter()
            .map(|(group, n, m)| format!("{group}: {n} pictures in training, {m} in validation"))
            .collect();
        add("patients or videos that stand in training and in validation", true, names);
    }
    let good = |looks: &'_ [Look]| -> Vec<(usize, Hash)> {
        looks.iter().enumerate().filter(|(_, l)| l.fault.is_none()).map(|(i, l)| (i, l.hash)).collect()
    };
    let (train_hashes, val_hashes) = (good(&train_looks), good(&val_looks));
    let across = pairs(&train_hashes, &val_hashes)
        .into_iter()
        .map(|(a, b)| format!("{} and {}", name(&train[a]), name(&val[b])))
        .collect();
    add("pictures of training that look like ones of validation", true, across);
    let within =
        exact(&train_hashes).into_iter().map(|(a, b)| format!("{} and {}", name(&train[a]), name(&train[b])));
    add("pictures of training that are twice there", false, within.collect());
    report
}

fn side(sets: &[Set], items: &[Item], looks: &[Look], grouping: &Grouping) -> Side {
    let mut sizes: BTreeMap<(u32, u32), usize> = BTreeMap::new();
    looks.iter().filter(|l| l.fault.is_none()).for_each(|l| *sizes.entry(l.size).or_default() += 1);
    let mut sizes: Vec<_> = sizes.into_iter().map(|((w, h), n)| (format!("{w}x{h}"), n)).collect();
    sizes.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
    let groups: std::collections::BTreeSet<String> = items.iter().map(|i| grouping.of(i)).collect();
    Side {
        sets: sets
            .iter()
            .map(|s| SetCount {
                name: s.name.to_string(),
                weight: s.weight,
                pictures: s.items.len(),
                left_out: s.left_out.len(),
            })
            .collect(),
        pictures: looks.iter().filter(|l| l.fault.is_none()).count(),
        positive: looks.iter().filter(|l| l.positive).count(),
        negative: looks.iter().filter(|l| !l.positive && l.fault.is_none()).count(),
        groups: groups.len(),
        sizes,
    }
}

/// Pairs that look alike. Hashes that differ in fewer than eight bits agree in one of eight pieces, so only those
/// are compared: a hundred thousand pictures take seconds.
fn pairs(a: &[(usize, Hash)], b: &[(usize, Hash)]) -> Vec<(usize, usize)> {
    const PIECES: u32 = 8;
    let piece = |h: Hash, i: u32| (i, (h[(i / 4) as usize] >> (16 * (i % 4))) & 0xFFFF);
    let mut index: BTreeMap<(u32, u64), Vec<usize>> = BTreeMap::new();
    for (k, (_, h)) in b.iter().enumerate() {
        (0..PIECES).for_each(|i| index.entry(piece(*h, i)).or_default().push(k));
    }
    let mut out: Vec<(usize, usize)> = a
        .par_iter()
        .flat_map_iter(|&(i, h)| {
            let mut near: Vec<usize> =
                (0..PIECES).flat_map(|p| index.get(&piece(h, p)).into_iter().flatten().copied()).collect();
            near.sort_unstable();
            near.dedup();
            near.into_iter().filter(move |&k| apart(h, b[k].1) < ALIKE).map(move |k| (i, b[k].0))
        })
        .collect();
    out.sort_unstable();
    out
}

fn exact(hashes: &[(usize, Hash)]) -> Vec<(usize, usize)> {
    let mut first: BTreeMap<Hash, usize> = BTreeMap::new();
    let mut out = Vec::new();
    for &(i, h) in hashes {
        match first.get(&h) {
            Some(&before) => out.push((before, i)),
            None => {
                first.insert(h, i);
            }
        }
    }
    out
}
