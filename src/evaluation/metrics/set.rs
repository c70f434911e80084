//! Figures over a data set: pairs flow in one at a time, set figures flow out, in memory that does not grow.

use serde::Serialize;

use super::{CURVE_BINS, Curve, Figures};

/// Gathers the figures of pairs. The order in which pairs are added decides the last bits: add them in a fixed order.
#[derive(Clone, Debug)]
pub struct SetAccumulator {
    count: u64,
    dice: f64,
    iou: f64,
    wfm: f64,
    sm: f64,
    em: f64,
    mae: f64,
    avg_f: f64,
    ber: f64,
    ber_undefined: u64,
    acc: f64,
    intersection_px: u64,
    union_px: u64,
    /// Sums over the set.
    curve: Curve,
}

impl Default for SetAccumulator {
    fn default() -> Self {
        Self {
            count: 0,
            dice: 0.0,
            iou: 0.0,
            wfm: 0.0,
            sm: 0.0,
            em: 0.0,
            mae: 0.0,
            avg_f: 0.0,
            ber: 0.0,
            ber_undefined: 0,
            acc: 0.0,
            intersection_px: 0,
            union_px: 0,
            curve: Curve::zero(),
        }
    }
}

/// The figures of a data set: means over its pictures unless stated. `None` (JSON `null`) where no picture defines one.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SetFigures {
    /// Pairs scored.
    pub count: u64,
    /// Dice, as [`Figures::dice`]; 1 is best.
    pub m_dice: Option<f64>,
    /// Intersection over union, averaged over the pictures; 1 is best.
    pub m_iou: Option<f64>,
    /// Sum of the intersections over sum of the unions; tiny pictures and polyps weigh little.
    pub pooled_iou: Option<f64>,
    /// Weighted F-measure, β = 1; 1 is best.
    pub wfm: Option<f64>,
    /// S-measure, α = 0.5; 1 is best.
    pub sm: Option<f64>,
    /// E-measure; 1 is best.
    pub em: Option<f64>,
    /// Mean absolute error, 0 to 1; 0 is best.
    pub mae: Option<f64>,
    /// Largest F on the curves averaged over the set.
    pub max_f: Option<f64>,
    /// Average F, as [`Figures::avg_f`]; 1 is best.
    pub avg_f: Option<f64>,
    /// Over the pictures that define it.
    pub ber: Option<f64>,
    /// Share of pixels classified correctly.
    pub acc: Option<f64>,
    /// Pictures whose ground truth is empty or full, which have no balanced error rate.
    pub ber_undefined: u64,
}

impl SetAccumulator {
    /// Takes the figures of one pair.
    pub fn add(&mut self, figures: &Figures) {
        self.count += 1;
        self.dice += figures.dice;
        self.iou += figures.iou;
        self.wfm += figures.wfm;
        self.sm += figures.sm;
        self.em += figures.em;
        self.mae += figures.mae;
        self.avg_f += figures.avg_f;
        self.acc += figures.acc;
        if figures.ber.is_nan() {
            self.ber_undefined += 1;
        } else {
            self.ber += figures.ber;
        }
        self.intersection_px += figures.intersection_px;
        self.union_px += figures.union_px;
        for bin in 0..CURVE_BINS {
            self.curve.precision[bin] += figures.curve.precision[bin];
            self.curve.recall[bin] += figures.curve.recall[bin];
        }
    }

    /// Pairs taken so far.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The figures of the pairs taken so far.
    pub fn figures(&self) -> SetFigures {
        let over = |sum: f64, count: u64| (count > 0).then(|| sum / count as f64);
        let mean = |sum: f64| over(sum, self.count);
        let max_f = (self.count > 0).then(|| {
            let mut curve = self.curve.clone();
            let n = self.count as f64;
            curve.precision.iter_mut().chain(curve.recall.iter_mut()).for_each(|v| *v /= n);
            curve.max_f()
        });
        SetFigures {
            count: self.count,
            m_dice: mean(self.dice),
            m_iou: mean(self.iou),
            pooled_iou: (self.count > 0).then(|| match self.union_px {
                0 => 1.0,
                union => self.intersection_px as f64 / union as f64,
            }),
            wfm: mean(self.wfm),
            sm: mean(self.sm),
            em: mean(self.em),
            mae: mean(self.mae),
            max_f,
            avg_f: mean(self.avg_f),
            ber: over(self.ber, self.count - self.ber_undefined),
            acc: mean(self.acc),
            ber_undefined: self.ber_undefined,
        }
    }
}
