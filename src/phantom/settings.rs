//! What a phantom is asked to be: size, rate, length, seed, how the scope moves, how many polyps.

use std::fmt;
use std::str::FromStr;

use crate::frame::Rate;
use crate::{Error, Result};

macro_rules! named {
    ($(#[$doc:meta])* $name:ident, $what:literal { $($(#[$vdoc:meta])* $variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $($(#[$vdoc])* $variant),+ }

        impl $name {
            /// Every choice, in order.
            pub const ALL: &[$name] = &[$($name::$variant),+];

            /// The name users type.
            pub fn name(self) -> &'static str {
                match self { $($name::$variant => $text),+ }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.name())
            }
        }

        impl FromStr for $name {
            type Err = Error;

            fn from_str(text: &str) -> Result<Self> {
                Self::ALL.iter().copied().find(|v| v.name() == text).ok_or_else(|| {
                    let all: Vec<_> = Self::ALL.iter().map(|v| v.name()).collect();
                    Error::usage(format!("{}: `{text}` is not known", $what))
                        .remedy(format!("choose one of {}", all.join(", ")))
                })
            }
        }
    };
}

named! {
    /// How the scope moves; the figures are the mean length of the optical flow of the mucosa in view at 1280x720 and
    /// 30 frames/s (measured by `motion_of_the_presets`, see the tests).
    Preset, "motion preset" {
        /// Slow inspection on withdrawal, hardly a tremor: 1 to 2 px/frame.
        Calm = "calm",
        /// Ordinary withdrawal: 3 to 5 px/frame.
        Typical = "typical",
        /// Hasty withdrawal, torque and tip deflection all the time: 7 to 11 px/frame.
        Brisk = "brisk",
        /// Sweeps and jerks; a mask left where it was 100 ms ago is mostly off its polyp: 14 to 22 px/frame.
        Fast = "fast",
    }
}

named! {
    /// What surrounds the picture.
    View, "view" {
        /// The octagon processors draw, in the middle of a black frame.
        Octagon = "octagon",
        /// The octagon at the right, text of the processor at the left (marked PHANTOM).
        Processor = "processor",
        /// The picture fills the frame.
        Full = "full",
    }
}

/// Everything that decides the bytes of a phantom, except `threads`.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Another seed is another colon, another examination.
    pub seed: u64,
    /// Pixels in a row, [`MIN_SIDE`] to [`MAX_SIDE`].
    pub width: u32,
    /// Rows, [`MIN_SIDE`] to [`MAX_SIDE`].
    pub height: u32,
    /// Frames a second, 1 to 240.
    pub rate: Rate,
    /// Length of the clip in frames.
    pub frames: u64,
    /// How fast and how roughly the scope moves.
    pub preset: Preset,
    /// How much of the frame the picture fills.
    pub view: View,
    /// Polyps met per minute; `None`: one about every 23 cm of colon, whatever the speed. 0: none.
    pub polyps_per_minute: Option<f64>,
    /// The clip ends where it began: frame `frames` would be frame 0, so it can be played in a circle.
    pub looped: bool,
    /// Threads that render a frame; the picture does not depend on it.
    pub threads: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            seed: 1,
            width: 1280,
            height: 720,
            rate: Rate { numerator: 30, denominator: 1 },
            frames: 900,
            preset: Preset::Typical,
            view: View::Processor,
            polyps_per_minute: None,
            looped: false,
            threads: 1,
        }
    }
}

/// Smallest side of a frame: below, there is nothing to see.
pub const MIN_SIDE: u32 = 32;
/// Largest side of a frame: 8K.
pub const MAX_SIDE: u32 = 8192;
/// Longest clip: a day at 120 frames/s.
pub const MAX_FRAMES: u64 = 10_368_000;

/// What a phantom works in, measured at several sizes and rounded up: textures and the colon itself; rays, picture,
/// blur and truth of each pixel; what each thread keeps for the band of rows it draws.
const FIXED_BYTES: u64 = 48 << 20;
const BYTES_PER_PIXEL: u64 = 40;
const BYTES_PER_COLUMN: u64 = 1024;

impl Settings {
    /// Reports the first thing that makes no sense, before anything is built.
    pub fn validate(&self) -> Result<()> {
        for (name, side) in [("width", self.width), ("height", self.height)] {
            if !(MIN_SIDE..=MAX_SIDE).contains(&side) {
                return Err(Error::usage(format!("phantom: a {name} of {side} pixels is not possible"))
                    .remedy(format!("choose {MIN_SIDE} to {MAX_SIDE}")));
            }
        }
        if self.rate.numerator == 0 || self.rate.denominator == 0 {
            return Err(
                Error::usage(format!("phantom: {} is not a frame rate", self.rate)).remedy("choose 1 to 240")
            );
        }
        let fps = self.rate.as_f64();
        if !(1.0..=240.0).contains(&fps) {
            return Err(Error::usage(format!("phantom: {} frames a second are not possible", self.rate))
                .remedy("choose 1 to 240"));
        }
        if self.frames == 0 || self.frames > MAX_FRAMES {
            return Err(Error::usage(format!("phantom: a clip of {} frames is not possible", self.frames))
                .remedy(format!("choose 1 to {MAX_FRAMES}")));
        }
        if let Some(n) = self.polyps_per_minute
            && !(0.0..=60.0).contains(&n)
        {
            return Err(Error::usage(format!("phantom: {n} polyps a minute are not possible"))
                .remedy("choose 0 to 60"));
        }
        if self.threads == 0 || self.threads > 256 {
            return Err(Error::usage(format!("phantom: cannot render with {} threads", self.threads))
                .remedy("choose 1 to 256"));
        }
        Ok(())
    }

    /// Bytes a phantom of this size works in, whatever the length of its clip.
    pub fn working_bytes(&self) -> u64 {
        let (width, height) = (u64::from(self.width), u64::from(self.height));
        FIXED_BYTES + width * height * BYTES_PER_PIXEL + self.threads as u64 * width * BYTES_PER_COLUMN
    }

    /// Seconds the clip lasts.
    pub fn seconds(&self) -> f64 {
        self.frames as f64 / self.rate.as_f64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back_and_wrong_ones_list_the_choices() {
        for p in Preset::ALL {
            assert_eq!(*p, p.to_string().parse().expect("own name"));
        }
        let e = "wild".parse::<Preset>().expect_err("no such preset");
        assert_eq!(
            e.to_string(),
            "motion preset: `wild` is not known; choose one of calm, typical, brisk, fast"
        );
        assert_eq!(e.kind(), crate::Kind::Usage);
        assert!("oct".parse::<View>().is_err());
    }

    #[test]
    fn impossible_settings_are_refused_in_a_sentence() {
        let good = Settings::default();
        good.validate().expect("defaults");
        let cases: [(&str, fn(&mut Settings)); 8] = [
            ("a width of 16 pixels is not possible; choose 32 to 8192", |s| s.width = 16),
            ("a height of 9000 pixels", |s| s.height = 9000),
            ("0/5 is not a frame rate", |s| s.rate = Rate { numerator: 0, denominator: 5 }),
            ("1000 frames a second", |s| s.rate = Rate { numerator: 1000, denominator: 1 }),
            ("a clip of 0 frames", |s| s.frames = 0),
            ("-1 polyps a minute", |s| s.polyps_per_minute = Some(-1.0)),
            ("NaN polyps a minute", |s| s.polyps_per_minute = Some(f64::NAN)),
            ("cannot render with 0 threads", |s| s.threads = 0),
        ];
        for (text, break_it) in cases {
            let mut s = good.clone();
            break_it(&mut s);
            let e = s.validate().expect_err(text);
            assert!(e.to_string().contains(text), "{e}");
            assert_eq!(e.exit_code(), 2);
        }
    }
}
