//! Image metrics: a prediction and its ground truth flow in, ten figures flow out; pairs flow in, set figures flow out.
//!
//! Two protocols, never mixed and always named: [`Protocol::Published`] is what the M²SNet scoring code computes,
//! [`Protocol::Thresholded`] binarises everything at one fixed threshold. A [`Scorer`] scores pairs, a
//! [`SetAccumulator`] gathers them in constant memory. Every fast path (`levels`, `weighted`, `distance`) has its
//! formula written out in [`plain`], and the tests compare the two.
//!
//! MAE: mean absolute error. F: Achanta et al. 2009 (β² = 0.3). S-measure: Fan et al. 2017. E-measure: Fan et al. 2018.
//! Weighted F: Margolin et al. 2014. BER: balanced error rate.

pub mod distance;
mod levels;
mod map;
pub mod plain;
pub mod resize;
mod set;
mod weighted;

use serde::Serialize;

use crate::{Error, Result};

pub use map::{Mask, Prediction};
pub use set::{SetAccumulator, SetFigures};

/// Bins of the precision and recall curves: levels 0 to 253, and 254 with 255 in the last.
pub const CURVE_BINS: usize = 255;

/// β² of the F-measures (Achanta et al. 2009).
pub(crate) const BETA2: f64 = 0.3;

/// How a probability map is turned into figures.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Protocol {
    /// The M²SNet scoring code: 8-bit maps, each stretched to its own minimum and maximum; soft Dice; IoU, BER and
    /// accuracy at 0.5; average F and E at twice the map's mean.
    Published,
    /// The map as it is. Everything binary (Dice, IoU, BER, accuracy, average F, E) at `probability >= threshold`; MAE,
    /// max F, S-measure and weighted F on the probabilities. Dice and IoU of empty against empty are 1.
    Thresholded {
        /// In (0, 1]; 0.5 unless the checkpoint says otherwise.
        threshold: f64,
    },
}

impl Protocol {
    /// The protocol's name in every output.
    pub fn name(self) -> &'static str {
        match self {
            Self::Published => "published",
            Self::Thresholded { .. } => "thresholded",
        }
    }

    /// Refuses a threshold that is no probability.
    pub fn validate(self) -> Result<()> {
        match self {
            Self::Thresholded { threshold } if !(threshold > 0.0 && threshold <= 1.0) => Err(Error::usage(
                format!("the threshold {threshold} is not a probability above 0 and up to 1"),
            )
            .remedy("give one such as 0.5")),
            _ => Ok(()),
        }
    }
}

/// Precision and recall at each of the [`CURVE_BINS`] thresholds, from the highest threshold down.
#[derive(Clone, Debug, PartialEq)]
pub struct Curve {
    /// Share of the marked pixels that are in the ground truth; 0 where nothing is marked.
    pub precision: Box<[f64; CURVE_BINS]>,
    /// Share of the ground truth's pixels that are marked; 0 for an empty ground truth.
    pub recall: Box<[f64; CURVE_BINS]>,
}

impl Curve {
    pub(crate) fn zero() -> Self {
        Self { precision: Box::new([0.0; CURVE_BINS]), recall: Box::new([0.0; CURVE_BINS]) }
    }

    /// From the number of pixels of each level, inside (`positive`) and outside the ground truth.
    pub(crate) fn from_levels(positive: &[u64; 256], negative: &[u64; 256]) -> Self {
        let mut curve = Self::zero();
        let total: u64 = positive.iter().sum();
        if total == 0 {
            return curve;
        }
        let (mut tp, mut fp) = (positive[255], negative[255]);
        for bin in 0..CURVE_BINS {
            tp += positive[254 - bin];
            fp += negative[254 - bin];
            curve.precision[bin] = tp as f64 / (tp as f64 + fp as f64 + 1e-8);
            curve.recall[bin] = tp as f64 / total as f64;
        }
        curve
    }

    /// The largest F over the curve.
    pub fn max_f(&self) -> f64 {
        (self.precision.iter().zip(self.recall.iter()))
            .map(|(p, r)| (1.0 + BETA2) * p * r / (BETA2 * p + r + 1e-8))
            .fold(0.0, f64::max)
    }
}

/// The figures of one prediction against one ground truth, all without a unit.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Figures {
    /// Dice: soft under *published*, of the binary masks under *thresholded*.
    pub dice: f64,
    /// Intersection over union of the binary masks.
    pub iou: f64,
    /// Weighted F-measure, β = 1.
    pub wfm: f64,
    /// S-measure, α = 0.5.
    pub sm: f64,
    /// E-measure.
    pub em: f64,
    /// Mean absolute error.
    pub mae: f64,
    /// Average F: at the adaptive threshold under *published*, at the fixed one under *thresholded*.
    pub avg_f: f64,
    /// Balanced error rate; NaN where the ground truth is empty or covers the picture.
    pub ber: f64,
    /// Share of pixels classified correctly.
    pub acc: f64,
    /// Pixels in both binary masks.
    pub intersection_px: u64,
    /// Pixels in either binary mask.
    pub union_px: u64,
    /// Pixels of the ground truth.
    pub truth_px: u64,
    /// Pixels of the binary prediction.
    pub predicted_px: u64,
    /// Pixels of the picture.
    pub total_px: u64,
    /// For max F, which is defined over the set.
    #[serde(skip)]
    pub curve: Curve,
}

/// Scores pairs under one protocol, keeping its working memory from pair to pair. One per thread.
///
/// ```
/// use polypscope::evaluation::metrics::{Mask, Prediction, Protocol, Scorer};
///
/// # fn main() -> polypscope::Result<()> {
/// // Two of the four pixels are polyp, and the map is sure of one of them.
/// let truth = Mask::from_binary(2, 2, vec![1, 1, 0, 0])?;
/// let map = Prediction::from_probability(2, 2, vec![0.9, 0.4, 0.1, 0.0])?;
/// let figures = Scorer::new(Protocol::Thresholded { threshold: 0.5 })?.score(&map, &truth)?;
/// assert_eq!((figures.intersection_px, figures.union_px), (1, 2));
/// assert!((figures.dice - 2.0 / 3.0).abs() < 1e-6);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Scorer {
    protocol: Protocol,
    weighted: weighted::Weighted,
    probability: Vec<f64>,
}

impl Scorer {
    /// A scorer under one protocol.
    ///
    /// # Errors
    /// A threshold that is not above 0 and up to 1.
    pub fn new(protocol: Protocol) -> Result<Self> {
        protocol.validate()?;
        Ok(Self { protocol, weighted: weighted::Weighted::default(), probability: Vec::new() })
    }

    /// The protocol that all its figures are of.
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// The figures of one pair. A prediction of another size is resized to the ground truth's (bicubic, as Pillow does
    /// for 8-bit grey pictures); under *published* a floating-point map is rounded to 8 bits first, as a saved map is.
    ///
    /// # Errors
    /// A floating-point map with a value outside `[0, 1]` or not a number.
    pub fn score(&mut self, prediction: &Prediction, truth: &Mask) -> Result<Figures> {
        let (w, h) = (truth.width(), truth.height());
        let fitted;
        let mut prediction = match self.protocol {
            Protocol::Published if !prediction.is_levels() => {
                fitted = prediction.to_levels()?;
                &fitted
            }
            _ => prediction,
        };
        let resized;
        if (prediction.width(), prediction.height()) != (w, h) {
            resized = prediction.resized(w, h);
            prediction = &resized;
        }
        match prediction {
            Prediction::Levels { pixels, .. } => {
                Ok(levels::score(self.protocol, pixels, truth, &mut self.weighted))
            }
            Prediction::Probability { pixels, .. } => {
                map::check_probabilities(pixels)?;
                self.probability.clear();
                self.probability.extend(pixels.iter().map(|&p| f64::from(p)));
                let p = &self.probability;
                let wfm = self.weighted.score(truth, |at| p[at]);
                Ok(plain::figures_with(self.protocol, p, truth, wfm))
            }
        }
    }
}

/// What the binary counts of a pair say, shared by the fast and the plain path.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Counts {
    pub tp: u64,
    pub fp: u64,
    /// Pixels of the ground truth.
    pub positive: u64,
    /// Pixels outside it.
    pub negative: u64,
}

impl Counts {
    fn total(self) -> f64 {
        (self.positive + self.negative) as f64
    }

    pub fn union(self) -> u64 {
        self.positive + self.fp
    }

    pub fn predicted(self) -> u64 {
        self.tp + self.fp
    }

    /// Balanced error rate; NaN when a class is empty.
    pub fn ber(self) -> f64 {
        if self.positive == 0 || self.negative == 0 {
            return f64::NAN;
        }
        let tn = self.negative - self.fp;
        1.0 - (self.tp as f64 / self.positive as f64 + tn as f64 / self.negative as f64) / 2.0
    }

    pub fn accuracy(self) -> f64 {
        (self.tp + self.negative - self.fp) as f64 / self.total()
    }

    /// F with β² = 0.3; 0 without a true positive.
    pub fn f(self) -> f64 {
        if self.tp == 0 {
            return 0.0;
        }
        let precision = self.tp as f64 / self.predicted() as f64;
        let recall = self.tp as f64 / self.positive as f64;
        (1.0 + BETA2) * precision * recall / (BETA2 * precision + recall)
    }

    /// IoU of the published code.
    pub fn iou_published(self) -> f64 {
        (self.tp as f64 + 1e-5) / (self.union() as f64 + 1e-5)
    }

    /// Dice and IoU of the binary masks: empty against empty is 1.
    pub fn overlap_binary(self) -> (f64, f64) {
        if self.union() == 0 {
            return (1.0, 1.0);
        }
        let tp = self.tp as f64;
        (2.0 * tp / (self.positive + self.predicted()) as f64, tp / self.union() as f64)
    }

    /// E-measure: every pixel is one of four kinds, so four terms are enough.
    pub fn e_measure(self) -> f64 {
        let n = self.total();
        let predicted = self.predicted() as f64;
        let sum = if self.positive == 0 {
            n - predicted
        } else if self.negative == 0 {
            predicted
        } else {
            let (mean_g, mean_f) = (self.positive as f64 / n, predicted / n);
            let term = |g: f64, f: f64| {
                let (dg, df) = (g - mean_g, f - mean_f);
                let align = 2.0 * dg * df / (dg * dg + df * df + 1e-8);
                (align + 1.0) * (align + 1.0) / 4.0
            };
            self.tp as f64 * term(1.0, 1.0)
                + (self.positive - self.tp) as f64 * term(1.0, 0.0)
                + self.fp as f64 * term(0.0, 1.0)
                + (self.negative - self.fp) as f64 * term(0.0, 0.0)
        };
        sum / (n - 1.0 + 1e-8)
    }
}

/// `floor(255 p)`: the level of a probability on the curves.
pub(crate) fn curve_level(p: f64) -> usize {
    ((255.0 * p) as usize).min(255)
}

/// Where the S-measure cuts the picture in four: columns left of `.0` and rows above `.1`. Each mean is rounded half to
/// even, plus one.
pub(crate) fn centroid_cut(sum_x: u64, sum_y: u64, count: u64) -> (usize, usize) {
    let mean = |sum: u64| (sum as f64 / count as f64).round_ties_even() as usize + 1;
    (mean(sum_x), mean(sum_y))
}

/// Object term of the S-measure from the mean and population standard deviation of a region.
pub(crate) fn object_term(mean: f64, sigma: f64) -> f64 {
    2.0 * mean / (mean * mean + 1.0 + sigma + 1e-8)
}

/// Region term of the S-measure for one quarter; `covariance` over N − 1, variances over N.
pub(crate) fn region_term(mean_p: f64, mean_g: f64, var_p: f64, var_g: f64, covariance: f64) -> f64 {
    let numerator = 4.0 * mean_p * mean_g * covariance;
    let denominator = (mean_p * mean_p + mean_g * mean_g) * (var_p + var_g);
    if numerator != 0.0 {
        numerator / (denominator + 1e-8)
    } else if denominator == 0.0 {
        1.0
    } else {
        0.0
    }
}

#[cfg(test)]
mod tests;
