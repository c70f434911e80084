//! The rules a video is judged by: text flows in from options, decisions flow out, and the same text for the output.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use super::object::TruthObject;
use super::region::{Bounds, Region};
use crate::{Error, Result};

/// When a detection hits a polyp. Where the truth is a box, areas are compared between boxes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum HitRule {
    /// Its centroid lies in the polyp (the rule of the MICCAI 2015 challenge, Bernal et al. 2017).
    #[default]
    Centre,
    /// They share a pixel.
    Overlap,
    /// Intersection over union of at least this.
    Iou(f64),
    /// At least this share of the polyp is covered.
    Cover(f64),
}

impl HitRule {
    /// Whether a detection hits a polyp of the same frame.
    pub fn hits(self, detection: &Region, truth: &TruthObject) -> bool {
        // Boxes are compared with boxes; a lesion of several boxes is all of their pixels.
        let compared = || match truth.is_box {
            true => Cow::Owned(Region::from_bounds(detection.bounds())),
            false => Cow::Borrowed(detection),
        };
        match self {
            Self::Centre => {
                let (x, y) = detection.centroid();
                truth.region.contains(x.round() as i32, y.round() as i32)
            }
            // A detection's own pixels must reach into a box.
            Self::Overlap => detection.intersection(&truth.region) > 0,
            Self::Iou(least) => compared().iou(&truth.region) >= least,
            Self::Cover(least) => {
                let area = truth.region.area_px();
                area > 0 && compared().intersection(&truth.region) as f64 / area as f64 >= least
            }
        }
    }

    /// The rule as a sentence.
    pub fn sentence(self) -> String {
        match self {
            Self::Centre => "a detection hits a polyp if its centroid lies in it".into(),
            Self::Overlap => "a detection hits a polyp if they share a pixel".into(),
            Self::Iou(v) => {
                format!("a detection hits a polyp if their intersection over union is at least {v}")
            }
            Self::Cover(v) => format!("a detection hits a polyp if it covers at least {v} of it"),
        }
    }
}

impl fmt::Display for HitRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Centre => f.write_str("centre"),
            Self::Overlap => f.write_str("overlap"),
            Self::Iou(v) => write!(f, "iou:{v}"),
            Self::Cover(v) => write!(f, "cover:{v}"),
        }
    }
}

impl FromStr for HitRule {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text.split_once(':') {
            None if text == "centre" => Some(Self::Centre),
            None if text == "overlap" => Some(Self::Overlap),
            Some(("iou", v)) => share(v).map(Self::Iou),
            Some(("cover", v)) => share(v).map(Self::Cover),
            _ => None,
        }
        .ok_or_else(|| {
            Error::usage(format!("{text:?} is no rule for a hit"))
                .remedy("give centre, overlap, iou:SHARE or cover:SHARE with a share above 0 and up to 1")
        })
    }
}

/// When regions of two frames are the same thing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum LinkRule {
    /// The centres of their boxes are no further apart than this many times the mean diagonal of the boxes.
    Near(f64),
    /// Their boxes' intersection over union is at least this.
    Iou(f64),
    /// Always: everything in the video is one polyp.
    All,
}

impl Default for LinkRule {
    fn default() -> Self {
        Self::Near(1.0)
    }
}

impl LinkRule {
    /// How far apart two boxes are, from 0; `None` if they are not the same thing.
    pub fn distance(self, a: &Bounds, b: &Bounds) -> Option<f64> {
        match self {
            Self::Near(most) => {
                let ((ax, ay), (bx, by)) = (a.centre(), b.centre());
                let mean = (a.diagonal() + b.diagonal()) / 2.0;
                let apart = (ax - bx).hypot(ay - by) / mean.max(1e-9);
                (apart <= most).then_some(apart)
            }
            Self::Iou(least) => {
                let iou = a.iou(b);
                (iou >= least).then_some(1.0 - iou)
            }
            Self::All => Some(0.0),
        }
    }

    /// The rule as a sentence.
    pub fn sentence(self) -> String {
        match self {
            Self::Near(v) => format!(
                "regions of two frames are one thing if the centres of their boxes are within {v} mean diagonals, nearest \
                 first"
            ),
            Self::Iou(v) => format!(
                "regions of two frames are one thing if the intersection over union of their boxes is at least {v}, best \
                 first"
            ),
            Self::All => "everything in the video is one polyp".into(),
        }
    }
}

impl fmt::Display for LinkRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Near(v) => write!(f, "near:{v}"),
            Self::Iou(v) => write!(f, "iou:{v}"),
            Self::All => f.write_str("all"),
        }
    }
}

impl FromStr for LinkRule {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text.split_once(':') {
            None if text == "all" => Some(Self::All),
            Some(("near", v)) => v.parse().ok().filter(|v: &f64| *v > 0.0 && *v <= 100.0).map(Self::Near),
            Some(("iou", v)) => share(v).map(Self::Iou),
            _ => None,
        }
        .ok_or_else(|| {
            Error::usage(format!("{text:?} is no rule for linking"))
                .remedy("give near:DIAGONALS, iou:SHARE with a share above 0 and up to 1, or all")
        })
    }
}

fn share(text: &str) -> Option<f64> {
    text.parse().ok().filter(|v: &f64| *v > 0.0 && *v <= 1.0)
}

/// Everything that decides a figure.
#[derive(Clone, Debug, PartialEq)]
pub struct VideoRules {
    /// When a detection hits a polyp.
    pub hit: HitRule,
    /// Links truth without identities into polyps, and false positives into alarms.
    pub link: LinkRule,
    /// Something unseen for longer than this is another thing when it comes back.
    pub link_gap_ms: f64,
    /// A false alarm goes on while two frames that hold it begin no more than this apart.
    pub alarm_gap_ms: f64,
    /// Detections of fewer pixels are taken as not shown.
    pub min_area_px: u64,
    /// Persistence settings to measure, in frames; 1 shows every detection at once.
    pub persistence: Vec<u32>,
}

impl Default for VideoRules {
    fn default() -> Self {
        Self {
            hit: HitRule::default(),
            link: LinkRule::default(),
            link_gap_ms: 1000.0,
            alarm_gap_ms: 200.0,
            min_area_px: 0,
            persistence: vec![1, 2, 3, 6, 12],
        }
    }
}

impl VideoRules {
    /// Refuses settings that mean nothing.
    pub fn validate(&self) -> Result<()> {
        for gap in [self.link_gap_ms, self.alarm_gap_ms] {
            if !(gap >= 0.0 && gap.is_finite()) {
                return Err(Error::usage(format!("the gap of {gap} ms is no span of time")));
            }
        }
        if self.persistence.iter().any(|k| !(1..=1000).contains(k)) {
            return Err(
                Error::usage("a persistence is not from 1 to 1000 frames").remedy("give some such as 1,3,6")
            );
        }
        Ok(())
    }

    /// The rules as sentences, for every output.
    pub fn sentences(&self) -> Vec<String> {
        vec![
            format!("hit ({}): {}", self.hit, self.hit.sentence()),
            format!(
                "link ({}): {}; unseen for more than {} ms, it is another",
                self.link,
                self.link.sentence(),
                self.link_gap_ms
            ),
            if self.min_area_px > 0 {
                format!("detections of fewer than {} px are not shown", self.min_area_px)
            } else {
                "every detection is shown, however small".into()
            },
            "per-frame sensitivity: of the frames with a polyp, those where one is hit; specificity: of those without, \
             the ones without a detection"
                .into(),
            "first detection: from a polyp's first frame to its first hit, mean over the polyps found".into(),
            "false positive: detections that hit no polyp, linked from frame to frame into one".into(),
            format!(
                "false alarm: the same, going on while two frames that hold it begin no more than {} ms apart; counted however short, of more \
                 than 6 frames in a row, and of at least 0.5, 1 and 2 s from its first frame to the end of its last",
                self.alarm_gap_ms
            ),
            "flicker: 1 - intersection over union of the masks of successive frames, mean where one is not empty (truth: \
             the same of the truth, which motion alone explains)"
                .into(),
            "persistence N: a detection shows from the N-th frame in a row that holds it (boxes that overlap), so N - 1 \
             frames late"
                .into(),
        ]
    }
}
