//! What is said about single files: rules that decided something, and why a picture has no figures.

use serde::Serialize;

/// Something about a file that was decided by a rule. The picture is scored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NoteKind {
    /// A prediction or an image without a mask.
    NoMask,
    /// Neither a picture nor asked for.
    OtherFile,
    Resized,
    EmptyMask,
    FullMask,
    FaintMask,
    LossyMask,
    ColourMask,
    SixteenBitMask,
    SixteenBitPrediction,
    UnlistedValues,
    FaintPrediction,
    /// A 0-and-1 map among others that go higher.
    FaintAmongOthers,
    /// A folder none of whose maps reaches half of its scale.
    DimPrediction,
    RescaledPrediction,
    RealPrediction,
    RealMask,
    InstanceMask,
    GreyMask,
    NoBlackMask,
    /// Turned by its EXIF orientation.
    Turned,
}

impl NoteKind {
    /// The rule, as a sentence without a full stop.
    pub fn rule(self) -> &'static str {
        match self {
            Self::NoMask => "no mask of that name: not scored",
            Self::OtherFile => "no picture of the data set: not read",
            Self::Resized => "prediction of another size than its mask: resized to the mask's (bicubic)",
            Self::EmptyMask => {
                "empty mask: scored by the definitions for empty ground truth; no balanced error rate"
            }
            Self::FullMask => {
                "mask that covers the picture: scored by its definitions; no balanced error rate"
            }
            Self::FaintMask => "lossy mask with nothing above level 63: taken as empty",
            Self::LossyMask => "lossy mask: cut like any other at half of its brightest level",
            Self::ColourMask => "colour mask: its brightest channel counts",
            Self::SixteenBitMask => "16-bit mask: read in full depth",
            Self::SixteenBitPrediction => {
                "16-bit prediction: read in full depth, rounded to 8 bits under published"
            }
            Self::UnlistedValues => "values of no listed class: taken as background",
            Self::FaintPrediction => {
                "no prediction holds more than 0 and 1 of 255: if 1 means certain, say --prediction-max 1"
            }
            Self::FaintAmongOthers => {
                "prediction near 0 of its file's scale among others that go higher: read as marking nothing"
            }
            Self::DimPrediction => {
                "no prediction reaches half of its file's scale: if another value means certain, say --prediction-max"
            }
            Self::RescaledPrediction => {
                "predictions that hold 0 to 255 in a file for more: 255 read as certain; if not, say --prediction-max"
            }
            Self::RealPrediction => {
                "floating-point prediction: read in full, rounded to 8 bits under published"
            }
            Self::RealMask => "mask of floating-point or wide numbers: its levels read as they are",
            Self::InstanceMask => {
                "mask with several levels that fill areas: each is a polyp; else say --mask-levels half or --classes"
            }
            Self::GreyMask => "mask with grey edges: cut at half of its brightest level",
            Self::NoBlackMask => "mask without black: the darker of its two levels is background",
            Self::Turned => "turned upright by its EXIF orientation",
        }
    }
}

/// Why a picture has no figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ProblemKind {
    /// A mask without a prediction or image.
    MissingPrediction,
    /// Several files share a stem.
    Ambiguous,
    /// A file that cannot be read or decoded, or is not what it should be.
    Refused,
}

/// The files of one kind of note.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Note {
    pub rule: &'static str,
    pub count: u64,
    pub names: Vec<String>,
}

/// A picture left out of the figures.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Problem {
    pub kind: ProblemKind,
    pub name: String,
    /// What is wrong, as a sentence.
    pub what: String,
}
