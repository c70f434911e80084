//! What a run is to be.
//!
//! In: words of the command line. Out: checked values.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use crate::phantom::Preset;
use crate::telemetry::Stage;
use crate::{Error, Result};

/// At which rate frames come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// As from a live source, so many frames a second (numerator, denominator): the newest frame wins.
    Paced(u32, u32),
    /// As fast as every frame can be inferred: the replay policy.
    Max,
}

impl Pace {
    /// Frames a second; `None` as fast as possible.
    pub fn fps(self) -> Option<f64> {
        match self {
            Pace::Paced(n, d) => Some(f64::from(n) / f64::from(d)),
            Pace::Max => None,
        }
    }
}

impl FromStr for Pace {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "25" => Ok(Pace::Paced(25, 1)),
            "30" => Ok(Pace::Paced(30, 1)),
            "50" => Ok(Pace::Paced(50, 1)),
            "59.94" => Ok(Pace::Paced(60_000, 1001)),
            "60" => Ok(Pace::Paced(60, 1)),
            "max" => Ok(Pace::Max),
            _ => Err(Error::usage(format!("{text:?} is not a rate to measure at"))
                .remedy("choose 25, 30, 50, 59.94, 60 or max")),
        }
    }
}

impl fmt::Display for Pace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Pace::Paced(n, 1) => write!(f, "{n}"),
            Pace::Paced(n, d) => write!(f, "{:.2}", f64::from(*n) / f64::from(*d)),
            Pace::Max => f.write_str("max"),
        }
    }
}

/// A sleep added to a stage of every frame, to see that it is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slow {
    pub stage: Stage,
    pub by: Duration,
}

impl FromStr for Slow {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let parsed = text.split_once('=').and_then(|(name, ms)| {
            let stage = Stage::ALL.into_iter().find(|s| s.name() == name)?;
            let ms = ms.parse::<f64>().ok().filter(|ms| (0.0..=10_000.0).contains(ms))?;
            Some(Slow { stage, by: Duration::from_secs_f64(ms / 1e3) })
        });
        parsed.ok_or_else(|| {
            Error::usage(format!("{text:?} slows no stage"))
                .remedy("give STAGE=MILLISECONDS, such as network=5")
        })
    }
}

/// One run.
#[derive(Clone, Debug)]
pub struct RunSettings {
    /// A recording; otherwise a phantom, rendered before the clock starts.
    pub file: Option<PathBuf>,
    pub preset: Preset,
    pub seed: u64,
    /// Width and height of the phantom.
    pub size: (u32, u32),
    pub pace: Pace,
    /// Frames measured.
    pub frames: u64,
    /// Frames before them that are not.
    pub warm_up: u64,
    /// Frames after them that are not: while they pass, the pipeline is already running empty.
    pub last: u64,
    pub slow: Option<Slow>,
}

impl RunSettings {
    /// Frames the source has to give.
    pub fn total(&self) -> u64 {
        self.warm_up + self.frames + self.last
    }

    /// # Errors
    /// Too few frames for a distribution, or too many.
    pub fn validate(&self) -> Result<()> {
        if !(10..=10_000_000).contains(&self.frames) {
            return Err(Error::usage(format!("{} frames cannot be measured", self.frames))
                .remedy("choose 10 to 10000000; p99 wants some hundred"));
        }
        if self.warm_up > 1_000_000 {
            return Err(Error::usage(format!("a warm-up of {} frames is not possible", self.warm_up))
                .remedy("choose at most 1000000"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_and_sleeps_are_read_and_nothing_else_is() {
        for text in ["25", "30", "50", "59.94", "60", "max"] {
            assert_eq!(text.parse::<Pace>().unwrap().to_string(), text);
        }
        for text in ["24", "0", "-1", "", "MAX", "60.0"] {
            assert!(text.parse::<Pace>().is_err(), "{text}");
        }
        let slow: Slow = "network=5".parse().unwrap();
        assert_eq!((slow.stage, slow.by), (Stage::Network, Duration::from_millis(5)));
        for text in ["network", "nothing=5", "network=-1", "network=nan", "=5"] {
            assert!(text.parse::<Slow>().is_err(), "{text}");
        }
    }
}
