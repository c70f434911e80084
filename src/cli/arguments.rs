//! Arguments several commands share.
//!
//! In: text. Out: checked values, and the engine they describe.

use std::path::PathBuf;

use clap::Args;

use crate::engine::{self, DeviceChoice, Network, Options, Precision};
#[cfg(feature = "video")]
use crate::frame::Nanos;
use crate::model::{Checkpoint, is_side};
#[cfg(feature = "video")]
use crate::tracks::{Confirm, SharedFilter};
use crate::{Error, Result};

#[derive(Clone, Copy, Debug, Args)]
pub struct Verbosity {
    /// Say more (-vv: everything, GStreamer's words too)
    #[arg(short, long, action = clap::ArgAction::Count, global = true)]
    pub verbose: u8,
    /// Say nothing but errors and results
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Print the result as JSON
    #[arg(long, global = true)]
    pub json: bool,
}

/// Which network runs, and where.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Network")]
pub struct EngineArgs {
    /// Checkpoint (default: the shipped one)
    #[arg(long, value_name = "FILE")]
    pub weights: Option<PathBuf>,
    /// auto, cpu or cuda:N; for `live` several, one worker each
    #[arg(long, value_delimiter = ',', value_name = "DEVICE", default_value = "auto")]
    pub device: Vec<DeviceChoice>,
    /// auto, f32, bf16, f16 or i8
    #[arg(long, default_value_t = Precision::Auto)]
    pub precision: Precision,
    /// Threads of the CPU engine (default: all cores)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: Option<u16>,
    /// Keep a GPU busy between frames, so that its clock does not fall
    #[arg(long)]
    pub keep_warm: bool,
}

impl EngineArgs {
    /// The device, for commands that run one engine.
    pub fn one_device(&self) -> Result<DeviceChoice> {
        match self.device[..] {
            [] => Ok(DeviceChoice::Auto),
            [one] => Ok(one),
            _ => Err(Error::usage("--device: this command runs one engine").remedy("name one device")),
        }
    }

    /// Opens the checkpoint and builds its network.
    pub fn open(&self) -> Result<(Checkpoint, Box<dyn Network>)> {
        self.open_at(None)
    }

    /// The same with square input of so many pixels a side, where the caller says.
    pub fn open_at(&self, side: Option<usize>) -> Result<(Checkpoint, Box<dyn Network>)> {
        let path = Checkpoint::locate(self.weights.as_deref())?;
        let checkpoint = Checkpoint::open(&path)?;
        let options = Options {
            device: self.one_device()?,
            precision: self.precision,
            threads: self.threads.map(usize::from),
            size: side.map(|s| (s, s)),
            keep_warm: self.keep_warm,
            nice: 0,
        };
        let network = engine::open(&checkpoint, options)?;
        Ok((checkpoint, network))
    }
}

/// A side of the network's input.
pub fn input_size(text: &str) -> Result<usize> {
    text.parse::<usize>().ok().filter(|s| is_side(*s)).ok_or_else(|| {
        Error::usage(format!("{text:?} is no size of a network's input"))
            .remedy("give a multiple of 32, such as 352")
    })
}

/// A probability strictly between 0 and 1.
pub fn threshold(text: &str) -> Result<f64> {
    match text.parse::<f64>() {
        Ok(v) if v > 0.0 && v < 1.0 => Ok(v),
        _ => {
            Err(Error::usage(format!("{text:?} is not a threshold")).remedy("give a number between 0 and 1"))
        }
    }
}

/// An opacity from 0 to 1.
#[cfg(feature = "video")]
pub fn opacity(text: &str) -> Result<f32> {
    match text.parse::<f32>() {
        Ok(v) if (0.0..=1.0).contains(&v) => Ok(v),
        _ => Err(Error::usage(format!("{text:?} is not an opacity")).remedy("give a number from 0 to 1")),
    }
}

/// An instant of a recording: seconds, `m:s` or `h:m:s`, with decimals.
#[cfg(feature = "video")]
pub fn instant(text: &str) -> Result<Nanos> {
    let wrong = || {
        Error::usage(format!("{text:?} is not a time"))
            .remedy("give seconds, m:ss or h:mm:ss, such as 1:23.5")
    };
    let parts: Vec<&str> = text.split(':').collect();
    if parts.len() > 3 {
        return Err(wrong());
    }
    let mut seconds = 0.0;
    for (i, part) in parts.iter().enumerate() {
        let last = i + 1 == parts.len();
        let digits = !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit() || (last && b == b'.'));
        let value: f64 = if digits { part.parse().map_err(|_| wrong())? } else { return Err(wrong()) };
        if i > 0 && value >= 60.0 {
            return Err(wrong());
        }
        seconds = seconds * 60.0 + value;
    }
    if seconds > 1e9 {
        return Err(wrong());
    }
    Ok(Nanos((seconds * 1e9).round() as u64))
}

/// A frame rate: `25`, `59.94`, `30000/1001`.
pub fn frame_rate(text: &str) -> Result<(u32, u32)> {
    let wrong = || {
        Error::usage(format!("{text:?} is not a frame rate"))
            .remedy("give frames a second, such as 25 or 30000/1001")
    };
    let (n, d) = match text.split_once('/') {
        Some((n, d)) => (n.parse().map_err(|_| wrong())?, d.parse().map_err(|_| wrong())?),
        None => match text {
            "23.976" => (24_000, 1001),
            "29.97" => (30_000, 1001),
            "59.94" => (60_000, 1001),
            _ => {
                let v: f64 = text.parse().map_err(|_| wrong())?;
                if !(v > 0.0 && v <= 1000.0) {
                    return Err(wrong());
                }
                if v.fract() == 0.0 { (v as u32, 1) } else { ((v * 1000.0).round() as u32, 1000) }
            }
        },
    };
    let sane = n > 0 && d > 0 && n <= 1_000_000 && d <= 1_000_000 && f64::from(n) / f64::from(d) <= 1000.0;
    if sane { Ok((n, d)) } else { Err(wrong()) }
}

/// Width and height: `1280x720`.
#[cfg(feature = "video")]
pub fn size(text: &str) -> Result<(u32, u32)> {
    text.split_once(['x', 'X', '×'])
        .and_then(|(w, h)| Some((w.parse().ok()?, h.parse().ok()?)))
        .filter(|&(w, h): &(u32, u32)| (16..=8192).contains(&w) && (16..=8192).contains(&h))
        .ok_or_else(|| {
            Error::usage(format!("{text:?} is not a picture size"))
                .remedy("give WIDTHxHEIGHT from 16 to 8192 pixels, such as 1280x720")
        })
}

#[cfg(all(test, feature = "video"))]
mod tests {
    use super::*;

    #[test]
    fn times_rates_sizes_and_shares() {
        assert_eq!(instant("1:02:03.5").unwrap(), Nanos(3_723_500_000_000));
        assert_eq!(instant("90").unwrap(), Nanos(90_000_000_000));
        assert_eq!(instant("0:07").unwrap(), Nanos(7_000_000_000));
        for bad in ["", "1:", ":1", "1:60", "1:2:3:4", "-1", "1e3", "nan", "1.5:2"] {
            assert!(instant(bad).is_err(), "{bad}");
        }
        assert_eq!(frame_rate("25").unwrap(), (25, 1));
        assert_eq!(frame_rate("59.94").unwrap(), (60_000, 1001));
        assert_eq!(frame_rate("12.5").unwrap(), (12_500, 1000));
        for bad in ["0", "-3", "1/0", "0/1", "nan", "inf", "100000"] {
            assert!(frame_rate(bad).is_err(), "{bad}");
        }
        assert_eq!(size("1280x720").unwrap(), (1280, 720));
        assert!(size("0x5").is_err() && size("12").is_err());
        assert!(threshold("0").is_err() && threshold("nan").is_err() && threshold("0.5").is_ok());
        assert!(opacity("1").is_ok() && opacity("1.1").is_err());
    }

    proptest::proptest! {
        #[test]
        fn times_read_back(ms in 0u64..360_000_000) {
            let (h, m, s) = (ms / 3_600_000, ms / 60_000 % 60, (ms % 60_000) as f64 / 1e3);
            for text in [format!("{h}:{m:02}:{s:06.3}"), format!("{}:{s}", ms / 60_000), format!("{}", ms as f64 / 1e3)] {
                let off = instant(&text).unwrap().0.abs_diff(ms * 1_000_000);
                // A float of seconds holds a microsecond of a hundred hours.
                assert!(off <= 1_000, "{text}: {off} ns");
            }
        }

        #[test]
        fn no_text_makes_a_parser_panic(text in "[0-9:./x,nae+ -]{0,12}") {
            let _ = (instant(&text), frame_rate(&text), size(&text), threshold(&text), opacity(&text));
        }
    }
}

/// How what does not last is withheld.
#[cfg(feature = "video")]
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct ConfirmArgs {
    /// How long a detection must last before it is shown: off (every frame stands alone), sensitive (shown at once,
    /// specks left out), balanced (120 ms) or quiet (240 ms), and up to 4 s what is not round or hardly marked
    #[arg(long, value_name = "SETTING", default_value_t)]
    pub confirm: Confirm,
    /// Share of the field of view that a region must have to be shown (default: the setting's own, 0.0005; not with
    /// off)
    #[arg(long, value_name = "SHARE", value_parser = least_share)]
    pub least_region: Option<f32>,
}

#[cfg(feature = "video")]
impl ConfirmArgs {
    pub fn filter(&self) -> SharedFilter {
        SharedFilter::new(self.confirm).with_least(self.least_region)
    }
}

#[cfg(feature = "video")]
pub fn least_share(text: &str) -> Result<f32> {
    text.parse::<f32>().ok().filter(|s| (0.0..0.5).contains(s)).ok_or_else(|| {
        Error::usage(format!("{text:?} is no share of the field of view"))
            .remedy("give a number from 0 to 0.5, such as 0.001")
    })
}
