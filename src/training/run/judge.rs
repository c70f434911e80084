//! Validation: a network's answers to pictures it was not trained on flow in, figures and the worst pictures flow out.
//!
//! Figures are those of `eval` under the *thresholded* protocol. Pictures with something to find count by their Dice;
//! healthy ones by whether they are marked: more than 0.5 % of their pixels. The score that decides which epoch was
//! best is `mean Dice − 0.25 · share of healthy pictures that are marked`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::super::data::item::Item;
use super::super::data::read::{Masks, Sample, read};
use crate::evaluation::images::Predict;
use crate::evaluation::metrics::{Mask, Prediction, Protocol, Scorer};
use crate::{Error, Result};

/// A healthy picture is marked if more of it is than this.
pub const MARKED: f64 = 0.005;

/// What a false mark weighs beside Dice.
pub const FALSE_MARK: f64 = 0.25;

/// The rule, for cards and pages.
pub const RULE: &str = "mean Dice of pictures with something to find, less a quarter of the share of healthy pictures on which \
                        more than 0.5 % is marked";

/// Figures of one set, or of all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// Pictures with something to find, and the means over them; 0 where there are none.
    pub count: u64,
    /// Mean Dice over the `count` pictures, 0 to 1.
    pub m_dice: f64,
    /// Mean intersection over union over the same, 0 to 1.
    pub m_iou: f64,
    /// Healthy pictures, and how many of them are marked.
    pub negatives: u64,
    /// Healthy pictures of which more than [`MARKED`] is marked.
    pub false_marks: u64,
}

impl Figures {
    fn add(&mut self, dice: f64, iou: f64) {
        // Running means, so that the sum of many does not drift.
        self.count += 1;
        self.m_dice += (dice - self.m_dice) / self.count as f64;
        self.m_iou += (iou - self.m_iou) / self.count as f64;
    }

    /// Share of healthy pictures that are marked; 0 where there are none.
    pub fn false_mark_share(&self) -> f64 {
        self.false_marks as f64 / self.negatives.max(1) as f64
    }

    /// What decides which epoch is best, −0.25 to 1: see the module.
    pub fn score(&self) -> f64 {
        self.m_dice - FALSE_MARK * self.false_mark_share()
    }
}

/// What a validation says.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// Over all pictures.
    pub all: Figures,
    /// [`Figures::score`] of `all`.
    pub score: f64,
    /// Over the pictures of each set, by the set's name.
    pub sets: BTreeMap<String, Figures>,
    /// Pictures that could not be read or analysed.
    pub left_out: u64,
}

/// One of the worst pictures: a low Dice, or a large mark where nothing is.
#[derive(Clone, Debug, PartialEq)]
pub struct Worst {
    /// Its place among the items.
    pub item: usize,
    /// Dice, or minus the share that is marked.
    pub value: f64,
}

/// Judges a network. `each` is told after every picture and may end it with an error.
///
/// # Errors
/// No picture at all could be judged; whatever `each` says.
pub fn judge(
    items: &[Item],
    masks: &Masks,
    predict: &mut dyn Predict,
    threshold: f64,
    keep: usize,
    each: &mut dyn FnMut() -> Result<()>,
) -> Result<(Verdict, Vec<Worst>)> {
    let mut scorer = Scorer::new(Protocol::Thresholded { threshold })?;
    let mut verdict = Verdict::default();
    let mut worst: Vec<Worst> = Vec::new();
    let mut first_fault = None;
    for (i, item) in items.iter().enumerate() {
        each()?;
        let judged = read(item, masks).and_then(|s| Ok((truth(&s)?, predict.predict(&s.picture)?)));
        let (truth, prediction) = match judged {
            Ok(pair) => pair,
            Err(e) => {
                verdict.left_out += 1;
                first_fault.get_or_insert(e);
                continue;
            }
        };
        let figures = scorer.score(&prediction, &truth).map_err(|e| e.at(&item.name))?;
        let value = if truth.is_empty() {
            let marked = figures.predicted_px as f64 / figures.total_px as f64;
            for f in [&mut verdict.all, verdict.sets.entry(item.set.to_string()).or_default()] {
                f.negatives += 1;
                f.false_marks += u64::from(marked > MARKED);
            }
            -marked
        } else {
            for f in [&mut verdict.all, verdict.sets.entry(item.set.to_string()).or_default()] {
                f.add(figures.dice, figures.iou);
            }
            figures.dice
        };
        // A healthy picture that is left alone is not bad.
        if value != 0.0 || !truth.is_empty() {
            let at = worst.partition_point(|w| w.value <= value);
            worst.insert(at, Worst { item: i, value });
            worst.truncate(keep);
        }
    }
    if verdict.all.count + verdict.all.negatives == 0 {
        return Err(first_fault.unwrap_or_else(|| Error::input("there is no picture to validate on")));
    }
    verdict.score = verdict.all.score();
    Ok((verdict, worst))
}

fn truth(sample: &Sample) -> Result<Mask> {
    let (w, h) = sample.picture.dimensions();
    let inside = sample.labels.iter().map(|l| u8::from(*l != 0)).collect();
    Mask::from_binary(w as usize, h as usize, inside)
}

/// Which pixels a prediction marks, at its own size.
pub fn marked(prediction: &Prediction, threshold: f64) -> Vec<u8> {
    prediction.binary(threshold)
}
