//! Why a still cannot be used: what a decoder or a check found flows in, one sentence for the user flows out.

use std::path::Path;

use image::{ImageError, ImageFormat};

use super::LARGEST_PIXELS;
use crate::Error;

/// What is wrong with a still.
#[derive(Clone, Debug, PartialEq)]
pub enum Fault {
    /// No byte, or no pixel.
    Empty,
    /// No format that is known here.
    NoPicture,
    /// A known format that is not read here: its name.
    OtherFormat(&'static str),
    /// The file ends before its picture does.
    CutOff {
        /// How much of the picture's data is there, where that can be told.
        percent: Option<u8>,
    },
    /// The file has its length, but its data contradict each other.
    Damaged(String),
    /// A kind of its format that is not read here.
    Unsupported(String),
    /// More than [`LARGEST_PIXELS`], by what its header says.
    TooLarge {
        /// Pixels in a row.
        width: u32,
        /// Rows.
        height: u32,
    },
    /// Bytes of a file that is too long to be read.
    LongFile(u64),
    /// Several pictures in one file: how many, and what they are called.
    Several(u32, &'static str),
    /// A picture that would be black or white because its values are of another scale than its file's.
    Scale {
        /// The value that shows it: the largest of a 16-bit file, or one beyond 0 to 1 of a floating-point file.
        brightest: f64,
    },
}

impl Fault {
    /// The sentence a user reads.
    pub fn at(self, path: &Path) -> Error {
        let say = |what: String| Error::input(format!("{}: {what}", path.display()));
        match self {
            Self::Empty => say("is empty".into()).remedy("copy it again"),
            Self::NoPicture => say("is no picture that is known here".into())
                .remedy("give PNG, JPEG, TIFF, BMP, GIF or WebP"),
            Self::OtherFormat(name) => {
                say(format!("is {name}, which is not read here")).remedy("save it as PNG")
            }
            Self::CutOff { percent: Some(percent) } => {
                say(format!("is cut off ({percent} % of the picture is there)")).remedy("copy it again")
            }
            Self::CutOff { percent: None } => say("is cut off".into()).remedy("copy it again"),
            Self::Damaged(how) => say(format!("is damaged ({how})")).remedy("copy it again"),
            Self::Unsupported(what) => {
                say(format!("holds {what}, which is not read here")).remedy("save it as 8-bit PNG")
            }
            Self::TooLarge { width, height } => say(format!(
                "has {width}x{height} pixels, more than the {} million that are read",
                LARGEST_PIXELS / 1_000_000
            ))
            .remedy("scale it down"),
            Self::LongFile(bytes) => {
                say(format!("is {} MiB long, too much for a picture", bytes >> 20)).remedy("scale it down")
            }
            Self::Several(count, what) => {
                say(format!("holds {count} {what}, and which one is meant is not known"))
                    .remedy("save each as a file of its own")
            }
            Self::Scale { brightest } => say(format!(
                "holds the value {brightest}, so its scale is not its file's own and it would be read black or white"
            ))
            .remedy("save it as 8-bit PNG, white = 255"),
        }
    }
}

impl From<ImageError> for Fault {
    fn from(e: ImageError) -> Self {
        match e {
            ImageError::IoError(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => {
                Self::CutOff { percent: None }
            }
            // The dimensions are checked before; what else runs into the limit is a file that lies about itself.
            ImageError::Limits(_) => Self::Damaged("it asks for more memory than its picture needs".into()),
            ImageError::Unsupported(e) => Self::Unsupported(format!("something unusual ({e})")),
            ImageError::Decoding(e) => Self::Damaged(e.to_string()),
            e => Self::Damaged(e.to_string()),
        }
    }
}

/// Names of formats that people have and that are not read here.
pub(super) fn other_format(bytes: &[u8]) -> Option<&'static str> {
    let begins = |magic: &[u8]| bytes.starts_with(magic);
    let brand = bytes.get(4..12);
    Some(match () {
        () if brand.is_some_and(|b| b.starts_with(b"ftyp")) => match bytes.get(8..12) {
            Some(b"avif" | b"avis") => "AVIF",
            Some(b"heic" | b"heix" | b"mif1" | b"heim" | b"heis" | b"msf1") => "HEIC",
            _ => "a video",
        },
        () if begins(b"\0\0\0\x0cjP  ") || begins(b"\xff\x4f\xff\x51") => "JPEG 2000",
        () if begins(b"\xff\x0a") || begins(b"\0\0\0\x0cJXL ") => "JPEG XL",
        () if bytes.get(128..132) == Some(b"DICM") => "DICOM",
        () if begins(b"\x93NUMPY") => "a NumPy array",
        () if begins(b"MATLAB") || begins(b"\x89HDF") => "a MATLAB or HDF5 file",
        () if begins(b"%PDF") => "PDF",
        () if begins(b"PK\x03\x04") => "a zip archive",
        () if begins(b"\x1f\x8b") => "a gzip archive",
        () if begins(b"version https://git-lfs") => "a placeholder of Git LFS instead of the file itself",
        () if begins(b"<svg") || begins(b"<?xml") => "SVG or XML",
        () if begins(b"<!DOCTYPE") || begins(b"<!doctype") || begins(b"<html") => "a web page",
        () if begins(b"8BPS") => "Photoshop",
        () => {
            return match image::guess_format(bytes).ok()? {
                ImageFormat::Ico => Some("an icon"),
                ImageFormat::Pnm => Some("PNM"),
                ImageFormat::Hdr => Some("Radiance HDR"),
                ImageFormat::OpenExr => Some("OpenEXR"),
                ImageFormat::Qoi => Some("QOI"),
                ImageFormat::Dds => Some("DDS"),
                _ => None,
            };
        }
    })
}
