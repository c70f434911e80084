//! How long a detection must last before it is shown: a name flows in from the command line, the page or the API, the
//! numbers behind it flow out.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// The settings by name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Confirm {
    /// Every frame stands alone: each region is drawn, however small or short.
    Off,
    /// Shown on its first frame; specks are left out, outlines are steadied.
    Sensitive,
    /// Shown after 120 ms where it is round and surely marked, else later.
    #[default]
    Balanced,
    /// Shown after 240 ms where it is round and surely marked, else later.
    Quiet,
}

impl Confirm {
    /// Every setting, from the one that shows most to the one that shows least.
    pub const ALL: [Confirm; 4] = [Self::Off, Self::Sensitive, Self::Balanced, Self::Quiet];

    /// The name users type.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Sensitive => "sensitive",
            Self::Balanced => "balanced",
            Self::Quiet => "quiet",
        }
    }

    /// What it stands for; `None`: nothing is filtered.
    pub const fn numbers(self) -> Option<Numbers> {
        match self {
            Self::Off => None,
            Self::Sensitive => Some(Numbers { confirm_ms: 0.0, ..Numbers::BALANCED }),
            Self::Balanced => Some(Numbers::BALANCED),
            Self::Quiet => Some(Numbers { confirm_ms: 240.0, least_weight: 0.06, ..Numbers::BALANCED }),
        }
    }
}

impl fmt::Display for Confirm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Confirm {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|c| c.name() == text).ok_or_else(|| {
            Error::usage(format!("{text:?} is no setting for confirmation"))
                .remedy("give off, sensitive, balanced or quiet")
        })
    }
}

/// What a setting stands for.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Numbers {
    /// A region is shown once it has been seen for so long.
    pub confirm_ms: f32,
    /// What a tentative track loses for each millisecond it is not seen.
    pub fade: f32,
    /// A confirmed track that is not seen for so long has ended.
    pub coast_ms: f32,
    /// So long of that time it is drawn.
    pub keep_ms: f32,
    /// Probability that some pixel must reach to start a track, where the threshold is 0.5.
    pub start: f32,
    /// Probability that continues one, where the threshold is 0.5.
    pub go_on: f32,
    /// Share of the field of view that a region must have to start a track or be drawn.
    pub least_share: f32,
    /// Time constant of the outline's smoothing.
    pub smooth_ms: f32,
    /// Tracks of the same place with no longer gap between them are one polyp.
    pub gap_ms: f32,
    /// How round a region is (see `roundness` in benches/README.md) from which on the time it is seen counts at all,
    /// and from which on it counts fully. Polyps are round, the folds that are taken for them are arcs.
    #[serde(default)]
    pub round_from: f32,
    /// Roundness from which on it counts fully.
    #[serde(default)]
    pub round_to: f32,
    /// Mean height above the marking level, in logits, from which on it counts at all, and fully.
    #[serde(default)]
    pub sure_from: f32,
    /// Mean height, in logits, from which on it counts fully.
    #[serde(default)]
    pub sure_to: f32,
    /// So many logits more a region must have for each tenth of the field of view that it covers, up to `LARGEST`: of
    /// what is large and near, a network that is right is sure.
    #[serde(default)]
    pub sure_size: f32,
    /// The least that it counts, so that what lasts is shown in the end, whatever it looks like.
    #[serde(default)]
    pub least_weight: f32,
    /// Share of `confirm_ms` that needs no second proof where a polyp was shown no longer than `gap_ms` ago.
    #[serde(default)]
    pub again: f32,
    /// Which gates are heeded: a bit each, in the order of [`Gate::ALL`](crate::frame::Gate::ALL).
    pub gates: u8,
}

/// Share of the field of view from which on a region need not be surer for being larger.
pub const LARGEST: f32 = 0.15;

impl Numbers {
    /// See benches/README.md for the curves behind them.
    pub const BALANCED: Numbers = Numbers {
        confirm_ms: 120.0,
        fade: 0.5,
        coast_ms: 400.0,
        keep_ms: 120.0,
        start: 0.7,
        go_on: 0.3,
        least_share: 0.0005,
        smooth_ms: 120.0,
        gap_ms: 3000.0,
        round_from: 0.85,
        round_to: 0.97,
        sure_from: 0.1,
        sure_to: 0.7,
        sure_size: 1.0,
        least_weight: 0.03,
        again: 1.0,
        gates: 0b1111,
    };

    /// What a millisecond in which a region is seen counts towards its confirmation, `least_weight` to 1: the product
    /// of how round it is and how sure the network is of it, given the share of the field of view that it covers.
    pub fn weight(&self, roundness: f32, sureness: f32, covered: f32) -> f32 {
        let share = |v: f32, from: f32, to: f32| {
            if v >= to {
                1.0
            } else if v > from {
                (v - from) / (to - from)
            } else {
                0.0
            }
        };
        let round = share(roundness, self.round_from, self.round_to);
        let sureness = sureness - self.sure_size * covered.min(LARGEST) / 0.1;
        (round * share(sureness, self.sure_from, self.sure_to)).max(self.least_weight)
    }

    /// The numbers as a sentence.
    pub fn sentence(&self) -> String {
        format!(
            "seen for {} ms before it is shown, up to {} times as long if it is not round or the network not sure (a pixel of \
             probability {} starts, {} continues, at a threshold of 0.5; at least {} of the field of view), drawn for {} ms \
             after it was last seen, ended after {} ms",
            self.confirm_ms,
            (10.0 / self.least_weight.max(1e-3)).round() / 10.0,
            self.start,
            self.go_on,
            self.least_share,
            self.keep_ms,
            self.coast_ms
        )
    }

    /// Refuses numbers that mean nothing.
    ///
    /// # Errors
    /// Times that are none, shares and probabilities outside 0 to 1.
    pub fn validate(&self) -> Result<()> {
        let times = [self.confirm_ms, self.coast_ms, self.keep_ms, self.smooth_ms, self.gap_ms];
        let good = times.iter().all(|t| (0.0..=60_000.0).contains(t))
            && (0.0..=100.0).contains(&self.fade)
            && self.coast_ms > 0.0
            && self.start > 0.0
            && self.start < 1.0
            && self.go_on > 0.0
            && self.go_on <= 0.5
            && self.start >= 0.5
            && (0.0..0.5).contains(&self.least_share)
            && [self.round_from, self.round_to, self.least_weight, self.again]
                .iter()
                .all(|v| (0.0..=1.0).contains(v))
            && [self.sure_from, self.sure_to].iter().all(|v| (0.0..=3.0).contains(v))
            && (0.0..=100.0).contains(&self.sure_size);
        if good {
            return Ok(());
        }
        Err(Error::usage("a number for confirmation is out of its range").remedy(
            "give times from 0 to 60000 ms, start from 0.5 and continue up to 0.5, and a least share below 0.5",
        ))
    }
}

/// A named setting, or one with numbers changed: `balanced,confirm=200,least=0.001`.
#[derive(Clone, Debug, PartialEq)]
pub struct Variant {
    /// As it was written.
    pub name: String,
    /// `None`: nothing is filtered.
    pub numbers: Option<Numbers>,
}

impl From<Confirm> for Variant {
    fn from(c: Confirm) -> Self {
        Self { name: c.name().to_owned(), numbers: c.numbers() }
    }
}

impl FromStr for Variant {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut parts = text.split(',');
        let mut numbers = parts.next().unwrap_or_default().parse::<Confirm>()?.numbers();
        for part in parts {
            let wrong = || {
                Error::usage(format!("{part:?} changes no number of a setting for confirmation")).remedy(
                    "write NAME=NUMBER with one of confirm, fade, coast, keep, start, continue, least, smooth, gap, \
                     round-from, round-to, sure-from, sure-to, sure-size, least-weight, again, gates",
                )
            };
            let (key, value) = part.split_once('=').ok_or_else(wrong)?;
            let value: f32 = value.parse().ok().filter(|v: &f32| v.is_finite()).ok_or_else(wrong)?;
            let n = numbers.as_mut().ok_or_else(|| {
                Error::usage("the setting `off` has no numbers").remedy("begin with balanced")
            })?;
            if key == "gates" {
                n.gates = (0.0..16.0).contains(&value).then_some(value as u8).ok_or_else(wrong)?;
                continue;
            }
            *match key {
                "confirm" => &mut n.confirm_ms,
                "fade" => &mut n.fade,
                "coast" => &mut n.coast_ms,
                "keep" => &mut n.keep_ms,
                "start" => &mut n.start,
                "continue" => &mut n.go_on,
                "least" => &mut n.least_share,
                "smooth" => &mut n.smooth_ms,
                "gap" => &mut n.gap_ms,
                "round-from" => &mut n.round_from,
                "round-to" => &mut n.round_to,
                "sure-from" => &mut n.sure_from,
                "sure-to" => &mut n.sure_to,
                "sure-size" => &mut n.sure_size,
                "again" => &mut n.again,
                "least-weight" => &mut n.least_weight,
                _ => return Err(wrong()),
            } = value;
        }
        if let Some(n) = &numbers {
            n.validate()?;
        }
        Ok(Self { name: text.to_owned(), numbers })
    }
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back_and_numbers_can_be_changed() {
        for c in Confirm::ALL {
            assert_eq!(c.name().parse::<Confirm>().unwrap(), c);
            if let Some(n) = c.numbers() {
                n.validate().unwrap();
                assert!(n.sentence().contains(&n.confirm_ms.to_string()));
            }
        }
        let n = Numbers::BALANCED;
        let least = n.least_weight;
        assert_eq!(
            [(1.0, 3.0), (0.6, 3.0), (1.0, 0.0)].map(|(r, s)| n.weight(r, s, 0.01)),
            [1.0, least, least]
        );
        assert!((n.weight(0.91, 0.4, 0.0) - 0.25).abs() < 1e-5);
        // A tenth of the view asks for a logit more, and all that is larger than [`LARGEST`] for as much as that.
        assert_eq!([1.1, 1.4, 1.7].map(|s| n.weight(1.0, s, 0.1).max(0.1)), [0.1, 0.5, 1.0]);
        assert_eq!(n.weight(1.0, 2.0, 0.2), n.weight(1.0, 2.0, 0.6));
        // Numbers of before weights counted everything.
        let plain =
            Numbers { round_from: 0.0, round_to: 0.0, sure_from: 0.0, sure_to: 0.0, sure_size: 0.0, ..n };
        assert_eq!(plain.weight(0.3, 0.0, 0.5), 1.0);
        let v: Variant = "quiet,confirm=250,least=0.002".parse().unwrap();
        let n = v.numbers.unwrap();
        assert_eq!(
            (n.confirm_ms, n.least_share, v.name.as_str()),
            (250.0, 0.002, "quiet,confirm=250,least=0.002")
        );
        for wrong in
            ["loud", "off,confirm=3", "quiet,confirm", "quiet,x=1", "quiet,confirm=NaN", "quiet,start=0.2"]
        {
            assert!(wrong.parse::<Variant>().is_err(), "{wrong}");
        }
    }
}
