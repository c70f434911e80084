//! What a user sets on `polypsegment`, as GObject properties.
//!
//! In: values as GStreamer hands them over. Out: [`Settings`], and the words of the properties for `gst-inspect-1.0`.

use std::path::PathBuf;

use gstreamer::glib;
use gstreamer::prelude::*;

use crate::capture::flag;
use crate::engine;
use crate::frame::Nanos;
use crate::safety::MAX_MASK_AGE;
use crate::tracks;

/// The number format that the network computes in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, glib::Enum)]
#[enum_type(name = "GstPolypPrecision")]
#[repr(i32)]
pub enum Precision {
    #[default]
    #[enum_value(name = "The fastest that keeps the mask", nick = "auto")]
    Auto,
    #[enum_value(name = "32-bit floating point", nick = "f32")]
    F32,
    #[enum_value(name = "bfloat16", nick = "bf16")]
    Bf16,
    #[enum_value(name = "16-bit floating point, on GPUs", nick = "f16")]
    F16,
    #[enum_value(name = "8-bit integers, on processors", nick = "i8")]
    I8,
}

impl From<Precision> for engine::Precision {
    fn from(p: Precision) -> Self {
        match p {
            Precision::Auto => Self::Auto,
            Precision::F32 => Self::F32,
            Precision::Bf16 => Self::Bf16,
            Precision::F16 => Self::F16,
            Precision::I8 => Self::I8,
        }
    }
}

/// How long a detection must last before it is attached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, glib::Enum)]
#[enum_type(name = "GstPolypConfirm")]
#[repr(i32)]
pub enum Confirm {
    #[enum_value(name = "Every frame stands alone", nick = "off")]
    Off,
    #[enum_value(name = "At once, but no specks; outlines are steadied", nick = "sensitive")]
    Sensitive,
    #[default]
    #[enum_value(
        name = "Once seen for 120 ms, longer where it does not look like a polyp",
        nick = "balanced"
    )]
    Balanced,
    #[enum_value(name = "Once seen for 240 ms, longer where it does not look like a polyp", nick = "quiet")]
    Quiet,
}

impl From<Confirm> for tracks::Confirm {
    fn from(c: Confirm) -> Self {
        match c {
            Confirm::Off => Self::Off,
            Confirm::Sensitive => Self::Sensitive,
            Confirm::Balanced => Self::Balanced,
            Confirm::Quiet => Self::Quiet,
        }
    }
}

/// The properties' values.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    pub weights: Option<PathBuf>,
    pub device: String,
    pub precision: Precision,
    /// 0: all cores.
    pub threads: u32,
    /// 0: the checkpoint's own.
    pub input_size: u32,
    pub field_of_view: String,
    pub sync: bool,
    /// 0: the checkpoint's own.
    pub threshold: f64,
    pub max_mask_age: Nanos,
    pub motion: bool,
    pub confirm: Confirm,
    pub enabled: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            weights: None,
            device: "auto".into(),
            precision: Precision::Auto,
            threads: 0,
            input_size: 0,
            field_of_view: "auto".into(),
            sync: false,
            threshold: 0.0,
            max_mask_age: MAX_MASK_AGE,
            motion: true,
            confirm: Confirm::Balanced,
            enabled: true,
        }
    }
}

/// What may change from frame to frame: copied for each without touching memory.
#[derive(Clone, Copy, Debug)]
pub struct Changing {
    pub threshold: f64,
    pub max_mask_age: Nanos,
    pub motion: bool,
    pub confirm: Confirm,
    pub enabled: bool,
}

impl Settings {
    /// See [`Changing`].
    pub fn changing(&self) -> Changing {
        let Self { threshold, max_mask_age, motion, confirm, enabled, .. } = *self;
        Changing { threshold, max_mask_age, motion, confirm, enabled }
    }

    /// Whether a network that was built for these settings serves the others as well.
    pub fn same_network(&self, other: &Self) -> bool {
        let of = |s: &Self| (s.device.clone(), s.precision, s.threads, s.input_size, s.sync);
        of(self) == of(other)
    }

    /// Sets one; what GObject let through is of the right type and in its range.
    pub fn set(&mut self, name: &str, value: &glib::Value) {
        let text = || value.get::<Option<String>>().ok().flatten();
        match name {
            "weights" => self.weights = text().filter(|t| !t.is_empty()).map(PathBuf::from),
            "device" => self.device = text().unwrap_or_else(|| "auto".into()),
            "precision" => self.precision = value.get().unwrap_or(self.precision),
            "threads" => self.threads = value.get().unwrap_or(self.threads),
            "input-size" => self.input_size = value.get().unwrap_or(self.input_size),
            "field-of-view" => self.field_of_view = text().unwrap_or_else(|| "auto".into()),
            "sync" => self.sync = value.get().unwrap_or(self.sync),
            "threshold" => self.threshold = value.get().unwrap_or(self.threshold),
            "max-mask-age" => self.max_mask_age = Nanos(value.get().unwrap_or(self.max_mask_age.0)),
            "motion" => self.motion = value.get().unwrap_or(self.motion),
            "confirm" => self.confirm = value.get().unwrap_or(self.confirm),
            "enabled" => self.enabled = value.get().unwrap_or(self.enabled),
            _ => {}
        }
    }

    pub fn get(&self, name: &str) -> Option<glib::Value> {
        Some(match name {
            "weights" => self.weights.as_ref().map(|p| p.to_string_lossy().into_owned()).to_value(),
            "device" => self.device.to_value(),
            "precision" => self.precision.to_value(),
            "threads" => self.threads.to_value(),
            "input-size" => self.input_size.to_value(),
            "field-of-view" => self.field_of_view.to_value(),
            "sync" => self.sync.to_value(),
            "threshold" => self.threshold.to_value(),
            "max-mask-age" => self.max_mask_age.0.to_value(),
            "motion" => self.motion.to_value(),
            "confirm" => self.confirm.to_value(),
            "enabled" => self.enabled.to_value(),
            _ => return None,
        })
    }

    /// All properties, those of the element's figures included.
    pub fn properties() -> Vec<glib::ParamSpec> {
        let d = Self::default();
        let text = |name: &str, nick: &str, blurb: &str, default: Option<&str>| {
            glib::ParamSpecString::builder(name)
                .nick(nick)
                .blurb(blurb)
                .default_value(default)
                .mutable_ready()
                .build()
        };
        let uint = |name: &str, nick: &str, blurb: &str, most: u32, default: u32| {
            glib::ParamSpecUInt::builder(name)
                .nick(nick)
                .blurb(blurb)
                .maximum(most)
                .default_value(default)
                .mutable_ready()
                .build()
        };
        vec![
            text(
                "weights",
                "Weights",
                "Checkpoint of the network; where none is given, what POLYPSCOPE_WEIGHTS names or the one that is installed",
                None,
            ),
            text("device", "Device", "Where the network runs: auto, cpu or cuda:N", Some(&d.device)),
            glib::ParamSpecEnum::builder_with_default("precision", d.precision)
                .nick("Precision")
                .blurb("Number format of the network")
                .mutable_ready()
                .build(),
            uint(
                "threads",
                "Threads",
                "Threads of a network on the processor; 0: all cores",
                1024,
                d.threads,
            ),
            uint(
                "input-size",
                "Input size",
                "Pixels of a side of the network's input, a multiple of 32; 0: the checkpoint's own",
                2048,
                d.input_size,
            ),
            text(
                "field-of-view",
                "Field of view",
                "Part of the picture to analyse: auto, full, or X,Y,WIDTH,HEIGHT in pixels",
                Some(&d.field_of_view),
            ),
            glib::ParamSpecBoolean::builder("sync")
                .nick("Sync")
                .blurb("Each frame waits for its own mask, which adds the network's time to the latency")
                .default_value(d.sync)
                .mutable_ready()
                .build(),
            glib::ParamSpecDouble::builder("threshold")
                .nick("Threshold")
                .blurb("Probability from which on a pixel is marked; 0: the checkpoint's own")
                .minimum(0.0)
                .maximum(0.999_999)
                .default_value(d.threshold)
                .mutable_playing()
                .build(),
            glib::ParamSpecUInt64::builder("max-mask-age")
                .nick("Maximum mask age")
                .blurb("A mask made from a frame that is older than this, in nanoseconds, is not attached")
                .default_value(d.max_mask_age.0)
                .mutable_playing()
                .build(),
            flag("motion", "Motion", "Whether a mask is moved along with the picture", d.motion),
            glib::ParamSpecEnum::builder_with_default("confirm", d.confirm)
                .nick("Confirm")
                .blurb("How long a detection must last before it is attached")
                .mutable_playing()
                .build(),
            flag(
                "enabled",
                "Enabled",
                "Whether frames are analysed; if not, they pass as they came",
                d.enabled,
            ),
            glib::ParamSpecBoxed::builder::<gstreamer::Structure>("stats")
                .nick("Statistics")
                .blurb("Frames, masks, times and state since the element started")
                .read_only()
                .build(),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_confirm_say_how_long_it_takes() {
        for confirm in [Confirm::Balanced, Confirm::Quiet] {
            let value = confirm.to_value();
            let (_, words) = glib::EnumValue::from_value(&value).expect("a value of the enumeration");
            let numbers = tracks::Confirm::from(confirm).numbers().expect("a setting with numbers");
            assert!(words.name().contains(&format!(" {} ms", numbers.confirm_ms)), "{}", words.name());
        }
    }
}
