//! Scale of probability maps: the files of a folder flow in, what their stored values mean flows out.
//!
//! A file's type says which value means certain (255, 65535, or 1 for floating-point numbers), but programs save maps
//! on other scales. A file that could be either is judged by the others of its folder, which were saved by one program.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use super::note::NoteKind;
use crate::still::{Pixels, Still};

/// How values are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::evaluation) enum Depth {
    Eight,
    Sixteen,
    /// Floating point.
    Real,
}

impl Depth {
    pub fn of(still: &Still) -> Self {
        match &still.pixels {
            Pixels::Real(_) => Self::Real,
            Pixels::Picture(p) => match p.color().bytes_per_pixel() / p.color().channel_count() {
                1 => Self::Eight,
                2 => Self::Sixteen,
                _ => Self::Real,
            },
        }
    }

    /// The value that means certain, if nothing else is said.
    pub fn own(self) -> f64 {
        match self {
            Self::Eight => 255.0,
            Self::Sixteen => 65_535.0,
            Self::Real => 1.0,
        }
    }

    /// In a sentence.
    fn name(self) -> &'static str {
        match self {
            Self::Eight => "8-bit",
            Self::Sixteen => "16-bit",
            Self::Real => "floating-point",
        }
    }
}

/// What one map's values mean.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Reading {
    /// The value that means certain.
    pub certain: f64,
    pub note: Option<NoteKind>,
}

/// The scales of one folder's maps.
#[derive(Clone, Debug)]
pub(in crate::evaluation) struct Scales(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    given: Option<u16>,
    files: Vec<PathBuf>,
    /// Largest value of any file of a depth, as far as it had to be looked for.
    eight: OnceLock<f64>,
    sixteen: OnceLock<f64>,
    real: OnceLock<f64>,
}

impl PartialEq for Scales {
    fn eq(&self, other: &Self) -> bool {
        self.0.given == other.0.given && self.0.files == other.0.files
    }
}

/// Floating-point maps that were scaled bicubically go over their ends by about this share.
const OVERSHOOT: f64 = 0.01;

/// A map on the scale of 0 to 255 that marks anything comes near 255.
const NEARLY_CERTAIN: f64 = 250.0;

impl Scales {
    /// For a folder's maps; `given` is the value that the user says is certain.
    pub fn new(files: Vec<PathBuf>, given: Option<u16>) -> Self {
        let (eight, sixteen, real) = (OnceLock::new(), OnceLock::new(), OnceLock::new());
        Self(Arc::new(Inner { given, files, eight, sixteen, real }))
    }

    /// What the values of a map mean whose smallest and largest are these.
    ///
    /// # Errors
    /// Values that are no probabilities, or a scale that cannot be told, in words that follow the file's name.
    pub(super) fn reading(&self, depth: Depth, smallest: f64, largest: f64) -> Result<Reading, String> {
        if !smallest.is_finite() || !largest.is_finite() {
            return Err("holds values that are not a number or infinite, so it is no probability map".into());
        }
        if let Some(given) = self.0.given {
            let certain = f64::from(given);
            let slack = if depth == Depth::Real { 1.0 + OVERSHOOT } else { 1.0 };
            if largest > certain * slack {
                return Err(format!(
                    "holds the value {largest}, more than the {given} that --prediction-max says is certain"
                ));
            }
            check_sign(smallest, certain)?;
            return Ok(Reading { certain, note: None });
        }
        let own = Ok(Reading { certain: depth.own(), note: None });
        let ask = |what: String| {
            Err(format!("{what}, so what means certain cannot be told; say --prediction-max {{1, 255, …}}"))
        };
        match depth {
            Depth::Eight if largest == 1.0 && self.folder(depth) <= 1.0 => {
                Ok(Reading { certain: 255.0, note: Some(NoteKind::FaintPrediction) })
            }
            Depth::Eight if largest == 1.0 => {
                Ok(Reading { certain: 255.0, note: Some(NoteKind::FaintAmongOthers) })
            }
            Depth::Eight => own,
            Depth::Sixteen if largest == 0.0 || largest > 255.0 => own,
            Depth::Sixteen => {
                let folder = self.folder(depth);
                if folder > 255.0 && largest >= NEARLY_CERTAIN {
                    return ask(format!(
                        "holds 16-bit values up to {largest} while other maps of its folder reach {folder}"
                    ));
                }
                if folder > 255.0 {
                    return Ok(Reading { certain: 65_535.0, note: Some(NoteKind::FaintAmongOthers) });
                }
                if folder >= NEARLY_CERTAIN {
                    return Ok(Reading { certain: 255.0, note: Some(NoteKind::RescaledPrediction) });
                }
                ask(format!("holds 16-bit values up to {largest}, as all of its folder stay below {folder}"))
            }
            Depth::Real => {
                let unit = |v: f64| v <= 1.0 + OVERSHOOT;
                let folder = self.folder(depth);
                if unit(largest) && unit(folder) {
                    check_sign(smallest, 1.0)?;
                    return own;
                }
                if !(NEARLY_CERTAIN..=255.0 * (1.0 + OVERSHOOT)).contains(&folder) {
                    check_sign(smallest, 1.0)?;
                    return ask(format!(
                        "holds values up to {largest}, and others of its folder reach {folder}"
                    ));
                }
                check_sign(smallest, 255.0)?;
                if unit(largest) && largest > 0.5 {
                    return ask(format!(
                        "holds values up to {largest} while other maps of its folder reach {folder}"
                    ));
                }
                Ok(Reading { certain: 255.0, note: Some(NoteKind::RescaledPrediction) })
            }
        }
    }

    /// The largest value of a depth in the folder. Looks no further than to the first file that decides. One thread
    /// looks, the others wait: work shared out under the lock could come to wait for itself.
    fn folder(&self, depth: Depth) -> f64 {
        let (cell, decides) = match depth {
            Depth::Eight => (&self.0.eight, 1.0),
            Depth::Sixteen => (&self.0.sixteen, 255.0),
            Depth::Real => (&self.0.real, NEARLY_CERTAIN),
        };
        *cell.get_or_init(|| {
            let mut largest = 0.0f64;
            for path in &self.0.files {
                // What cannot be read is said when its turn comes.
                let Ok(still) = Still::open(path) else { continue };
                if Depth::of(&still) == depth {
                    largest = largest.max(largest_of(&still));
                }
                if largest > decides {
                    break;
                }
            }
            largest
        })
    }

    /// What to say of a folder none of whose maps reaches half of its scale: `largest` is the brightest of all.
    pub(super) fn dim(&self, depth: Depth, largest: f64) -> Option<String> {
        let own = depth.own();
        let dim = self.0.given.is_none() && largest > 0.0 && 2.0 * largest < own;
        dim.then(|| {
            format!(
                "no {} prediction holds more than {largest} of {own}: if another value means certain, say \
                 --prediction-max",
                depth.name()
            )
        })
    }
}

/// Round values that other scales end at: percent and per mille, and the depths of cameras.
pub(super) fn is_end_of_a_scale(largest: f64) -> bool {
    [100.0, 127.0, 1000.0, 1023.0, 4095.0, 10_000.0, 16_383.0, 32_767.0].contains(&largest)
}

fn check_sign(smallest: f64, certain: f64) -> Result<(), String> {
    if smallest < -OVERSHOOT * certain {
        return Err(format!(
            "holds the value {smallest}, so it is no probability map; save it behind the sigmoid or the softmax"
        ));
    }
    Ok(())
}

fn largest_of(still: &Still) -> f64 {
    fn most<T: Copy + Into<f64>>(values: &[T]) -> f64 {
        values.iter().map(|v| (*v).into()).fold(0.0, f64::max)
    }
    match &still.pixels {
        Pixels::Real(grey) => most(grey.as_raw()),
        Pixels::Picture(image::DynamicImage::ImageLuma16(p)) => most(p.as_raw()),
        Pixels::Picture(image::DynamicImage::ImageLuma8(p)) => most(p.as_raw()),
        Pixels::Picture(p) if Depth::of(still) == Depth::Sixteen => most(p.to_luma16().as_raw()),
        Pixels::Picture(image::DynamicImage::ImageRgb32F(p)) => most(p.as_raw()),
        Pixels::Picture(image::DynamicImage::ImageRgba32F(p)) => most(p.as_raw()),
        Pixels::Picture(p) => most(p.to_luma8().as_raw()),
    }
}
