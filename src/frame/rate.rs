//! Frame rates.
//!
//! In: text from a command line or a pipeline file. Out: an exact fraction, as GStreamer and the phantom count with.

use std::fmt;
use std::str::FromStr;

use crate::{Error, Result};

/// Frames a second as a fraction, `30`, `25/1` or `30000/1001`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Frames in `denominator` seconds; at least 1.
    pub numerator: u32,
    /// Seconds that `numerator` frames take; at least 1.
    pub denominator: u32,
}

impl Rate {
    /// Frames a second as a decimal number.
    pub fn as_f64(self) -> f64 {
        f64::from(self.numerator) / f64::from(self.denominator)
    }

    /// Presentation time of a frame in nanoseconds, rounded down.
    pub fn pts_ns(self, frame: u64) -> u64 {
        (u128::from(frame) * 1_000_000_000 * u128::from(self.denominator) / u128::from(self.numerator)) as u64
    }
}

impl FromStr for Rate {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = || {
            Error::usage(format!("frame rate: `{text}` is not a rate"))
                .remedy("write it as 30 or as a fraction, 30000/1001")
        };
        let (n, d) = text.split_once('/').unwrap_or((text, "1"));
        let rate = Rate {
            numerator: n.trim().parse().map_err(|_| wrong())?,
            denominator: d.trim().parse().map_err(|_| wrong())?,
        };
        // GStreamer's fractions have a sign.
        let sane = |n: u32| n > 0 && i32::try_from(n).is_ok();
        if sane(rate.numerator) && sane(rate.denominator) { Ok(rate) } else { Err(wrong()) }
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.denominator {
            1 => write!(f, "{}", self.numerator),
            d => write!(f, "{}/{d}", self.numerator),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_read_and_print() {
        for (text, fps) in [("30", 30.0), ("30000/1001", 29.97), ("25/1", 25.0)] {
            let rate: Rate = text.parse().expect(text);
            assert!((rate.as_f64() - fps).abs() < 0.001);
            assert_eq!(rate, rate.to_string().parse().expect("own text"));
        }
        for text in ["", "x", "30/0", "0", "0/0", "-3", "30/1/1", "4294967295/4294967295", "99999999999"] {
            let e = text.parse::<Rate>().expect_err(text);
            assert!(e.to_string().contains("30000/1001"), "{e}");
        }
        let ntsc: Rate = "30000/1001".parse().expect("rate");
        assert_eq!(ntsc.pts_ns(30000), 1_001_000_000_000);
        assert_eq!(ntsc.pts_ns(1), 33_366_666);
    }
}
