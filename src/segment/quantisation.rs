//! How large a network's activations are on real pictures, and what 8-bit integers make of its masks.
//!
//! In: a checkpoint, normalised inputs of some pictures. Out: for each activation map the largest number worth keeping,
//! a report on every map, and how far the integer network's masks are from those in f32 on pictures that were held out.
//!
//! The largest number is chosen so that the mean squared error of a map's values, rounding and clipping together, is
//! least. Where the masks differ too much, the maps that lose most are taken out again, one group after another: they
//! and the convolutions that read them stay in f32.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::engine::Network;
use crate::engine::cpu::{Cpu, KernelSet, Settings};
use crate::model::Checkpoint;
use crate::postprocess::logit;
use crate::program::Form;
use crate::{Error, Result};

/// Bins of a map's histogram.
const BINS: usize = 2048;
/// Steps of an 8-bit activation.
const STEPS: f64 = 255.0;
/// Pooled IoU of the integer network's masks with those in f32 that is asked for.
pub const WANTED_IOU: f64 = 0.99;
/// Maps that are put back into f32 at most.
const MOST_IN_F32: usize = 24;

/// Values of one map over many frames, by magnitude.
struct Histogram {
    bins: Vec<u64>,
    width: f32,
    largest: f32,
}

impl Histogram {
    fn new() -> Self {
        Self { bins: vec![0; BINS], width: 1.0 / BINS as f32, largest: 0.0 }
    }

    /// Negative values, which a stored activation cannot be, count as nothing.
    fn add(&mut self, values: &[f32]) {
        let largest = values.iter().fold(0f32, |m, v| if *v > m { *v } else { m });
        self.largest = self.largest.max(largest);
        while largest >= self.width * BINS as f32 {
            for i in 0..BINS / 2 {
                self.bins[i] = self.bins[2 * i] + self.bins[2 * i + 1];
            }
            self.bins[BINS / 2..].fill(0);
            self.width *= 2.0;
        }
        for v in values.iter().filter(|v| **v > 0.0) {
            self.bins[((v / self.width) as usize).min(BINS - 1)] += 1;
        }
    }

    /// Where to clip: the mean squared error of rounding to [`STEPS`] below it and of cutting off above it is least.
    fn clip(&self) -> Option<f32> {
        let used = (self.largest / self.width).ceil() as usize;
        let total: u64 = self.bins.iter().sum();
        if used == 0 || total == 0 {
            return None;
        }
        let error = |bins: usize| -> f64 {
            let clip = bins as f64;
            let inside: u64 = self.bins[..bins.min(BINS)].iter().sum();
            let cut: f64 = self.bins[bins.min(BINS)..]
                .iter()
                .enumerate()
                .map(|(i, n)| *n as f64 * (i as f64 + 0.5).powi(2))
                .sum();
            inside as f64 * (clip / STEPS).powi(2) / 12.0 + cut
        };
        let best = (used.div_ceil(16)..=used).min_by(|a, b| error(*a).total_cmp(&error(*b)))?;
        Some((best as f32 * self.width).min(self.largest))
    }
}

/// What is known of one map.
#[derive(Clone, Debug, Serialize)]
pub struct MapReport {
    /// Its name in the network's program.
    pub name: String,
    /// Largest value seen, and the largest that is kept.
    pub largest: f32,
    /// The largest number that is kept; larger ones become it.
    pub clip: f32,
    /// Signal to error of the integer network's map on a held-out picture, in dB, with all that went before it.
    pub sqnr_db: f64,
    /// Whether it was put back into f32.
    pub f32: bool,
}

/// What became of a calibration.
#[derive(Clone, Debug, Serialize)]
pub struct Quantised {
    /// By name; what goes into the checkpoint's description.
    #[serde(skip)]
    pub activations: BTreeMap<String, f32>,
    /// Pictures whose activations were measured.
    pub calibrated_on: usize,
    /// Pictures whose masks were compared.
    pub held_out: usize,
    /// Of the masks on held-out pictures with those in f32, at the description's threshold.
    pub pooled_iou: f64,
    /// Every map that was measured, by name.
    pub maps: Vec<MapReport>,
}

/// Calibrates on every other input and judges on the rest.
///
/// # Errors
/// Fewer than two inputs, no integer kernels on this processor, a failing network; masks that stay too far from those
/// in f32.
pub fn quantise(
    checkpoint: &Checkpoint,
    inputs: &[Vec<f32>],
    told: &mut dyn FnMut(&str),
) -> Result<Quantised> {
    let (held_out, seen): (Vec<_>, Vec<_>) = inputs.iter().enumerate().partition(|(i, _)| i % 2 == 1);
    let [seen, held_out]: [Vec<&Vec<f32>>; 2] =
        [seen, held_out].map(|list| list.into_iter().map(|(_, v)| v).collect());
    if held_out.is_empty() {
        return Err(Error::input("one picture is not enough to calibrate and to judge on")
            .remedy("give a folder with at least two, better a hundred"));
    }
    let integer = KernelSet::best_i8()
        .ok_or_else(|| Error::machine("this processor has no kernels for 8-bit integers (AVX2)"))?;
    let build = |checkpoint: &Checkpoint, path: KernelSet| {
        Cpu::new(checkpoint, Settings { path, threads: None, size: None, nice: 0 })
    };
    let mut reference = build(checkpoint, KernelSet::best_f32())?;
    let shape = reference.shape();
    let mut logits = vec![0.0; shape.logits_len()];

    let names: Vec<Option<String>> = (reference.program().facts().iter())
        .map(|f| (f.form == Form::Map && f.name != "input").then(|| f.name.clone()))
        .collect();
    let mut histograms: BTreeMap<String, Histogram> = BTreeMap::new();
    for (i, input) in seen.iter().enumerate() {
        told(&format!("calibrating: picture {} of {}", i + 1, seen.len()));
        reference.run_values(input, &mut logits, &mut |value, got| {
            if let Some(name) = &names[value.index()] {
                match histograms.get_mut(name) {
                    Some(histogram) => histogram.add(got),
                    None => {
                        let mut histogram = Histogram::new();
                        histogram.add(got);
                        histograms.insert(name.clone(), histogram);
                    }
                }
            }
        })?;
    }
    let mut activations: BTreeMap<String, f32> =
        histograms.iter().filter_map(|(name, h)| Some((name.clone(), h.clip()?))).collect();

    // What the reference answers.
    let level = logit(checkpoint.description().threshold);
    let mut masks = Vec::new();
    for input in &held_out {
        reference.run(input, &mut logits)?;
        masks.push(logits.iter().map(|v| *v >= level).collect::<Vec<bool>>());
    }
    let judged = held_out[0];
    let mut exact: Vec<Vec<f32>> = vec![Vec::new(); names.len()];
    reference.run_values(judged, &mut logits, &mut |value, got| exact[value.index()] = got.to_vec())?;
    drop(reference);

    let mut back = Vec::new();
    loop {
        let description = crate::model::checkpoint::Description {
            activations: activations.clone(),
            ..checkpoint.description().clone()
        };
        let mut network = build(&checkpoint.with_description(description)?, integer)?;
        let (mut both, mut either) = (0u64, 0u64);
        for (i, (input, mask)) in held_out.iter().zip(&masks).enumerate() {
            told(&format!("judging: picture {} of {}", i + 1, held_out.len()));
            network.run(input, &mut logits)?;
            for (v, m) in logits.iter().zip(mask) {
                let marked = *v >= level;
                both += u64::from(marked && *m);
                either += u64::from(marked || *m);
            }
        }
        let pooled_iou = if either == 0 { 1.0 } else { both as f64 / either as f64 };
        let mut sqnr: BTreeMap<&String, f64> = BTreeMap::new();
        network.run_values(judged, &mut logits, &mut |value, got| {
            if let Some(name) = &names[value.index()] {
                sqnr.insert(name, decibels(&exact[value.index()], got));
            }
        })?;
        let worst = activations
            .keys()
            .filter_map(|name| Some((*sqnr.get(name)?, name.clone())))
            .min_by(|a, b| a.0.total_cmp(&b.0));
        if pooled_iou < WANTED_IOU
            && back.len() < MOST_IN_F32
            && let Some((_, name)) = worst
        {
            told(&format!("pooled IoU {pooled_iou:.4}: {name} stays in f32"));
            activations.remove(&name);
            back.push(name);
            continue;
        }
        if pooled_iou < WANTED_IOU {
            return Err(Error::inference(format!(
                "in 8-bit integers the masks keep only {pooled_iou:.4} of those in f32 (pooled IoU; {WANTED_IOU} is asked for)"
            ))
            .remedy("calibrate on more pictures, and on such as the network will see"));
        }
        let maps = histograms
            .iter()
            .filter_map(|(name, h)| {
                Some(MapReport {
                    name: name.clone(),
                    largest: h.largest,
                    clip: h.clip()?,
                    sqnr_db: *sqnr.get(name)?,
                    f32: back.contains(name),
                })
            })
            .collect();
        return Ok(Quantised {
            activations,
            calibrated_on: seen.len(),
            held_out: held_out.len(),
            pooled_iou,
            maps,
        });
    }
}

fn decibels(exact: &[f32], got: &[f32]) -> f64 {
    let signal: f64 = exact.iter().map(|v| f64::from(*v).powi(2)).sum();
    let error: f64 = exact.iter().zip(got).map(|(e, g)| f64::from(e - g).powi(2)).sum();
    if error == 0.0 { 120.0 } else { (10.0 * (signal / error).log10()).min(120.0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rare_large_values_are_cut_and_common_ones_kept() {
        let mut even = Histogram::new();
        even.add(&(0..10_000).map(|i| i as f32 / 1000.0).collect::<Vec<f32>>());
        let clip = even.clip().expect("values");
        assert!((9.5..=10.0).contains(&clip), "{clip}");
        let mut tail = Histogram::new();
        tail.add(&vec![0.5; 1_000_000]);
        tail.add(&[40.0]);
        let clip = tail.clip().expect("values");
        assert!((0.4..=40.0).contains(&clip), "{clip}");
        let mut values: Vec<f32> = (0..1_000_000).map(|i| i as f32 / 1e6).collect();
        values.push(8.0);
        let mut one = Histogram::new();
        one.add(&values);
        let clip = one.clip().expect("values");
        assert!((0.9..4.0).contains(&clip), "one value in a million must not cost three bits: {clip}");
        assert!(Histogram::new().clip().is_none());
    }
}
