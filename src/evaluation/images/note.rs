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
    /// A prediction of another size than its mask.
    Resized,
    /// A mask without a pixel of its class.
    EmptyMask,
    /// A mask all of whose pixels are of its class.
    FullMask,
    /// A lossy mask that stays below level 64 of 255: what compression leaves of nothing.
    FaintMask,
    /// A mask in a lossy format such as JPEG.
    LossyMask,
    /// A mask in colours where one class is looked for.
    ColourMask,
    /// A mask of 16 bits a channel.
    SixteenBitMask,
    /// A prediction of 16 bits a pixel.
    SixteenBitPrediction,
    /// A mask or label map with values or colours that no class was given.
    UnlistedValues,
    /// A 0-and-1 map in a set where no map goes higher.
    FaintPrediction,
    /// A 0-and-1 map among others that go higher.
    FaintAmongOthers,
    /// A folder none of whose maps reaches half of its scale.
    DimPrediction,
    /// A map of 16 bits or of floating-point numbers that goes up to 255.
    RescaledPrediction,
    /// A prediction of floating-point numbers.
    RealPrediction,
    /// A mask of floating-point numbers, or of whole ones that do not fit 16 bits.
    RealMask,
    /// A mask in which different levels are different polyps.
    InstanceMask,
    /// A mask of more than two levels that are no polyps of their own: soft edges.
    GreyMask,
    /// A mask of two levels, the darker of them above half of the brighter.
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
    /// The sentence of [`NoteKind::rule`].
    pub rule: &'static str,
    /// How many files it decided about, counting each class of a file where the rule is about a class.
    pub count: u64,
    /// Stems of these files, `STEM:CLASS` where the rule is about one class of several, whole names of files not read.
    pub names: Vec<String>,
}

/// A picture left out of the figures.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Problem {
    /// Which kind of fault it is, for programs.
    pub kind: ProblemKind,
    /// Stem of its files.
    pub name: String,
    /// What is wrong, as a sentence.
    pub what: String,
}
