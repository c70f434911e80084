//! How the colours of a picture are coded: which matrix, which range, said once and completely.
//!
//! In: what the encoded stream says of itself, what its container says, and the caps its decoder announces; each may
//! say nothing, a part, or something wrong. Out: caps whose colorimetry is complete and valid, before anything converts
//! by it.
//!
//! GStreamer 1.22 alone does not get there. It throws a whole colorimetry away when the matrix is missing (`1:0:0:0`, a
//! full-range recording of which nothing else is said), it converts grey without a matrix into green, `qtdemux` does
//! not read the range in an MP4's `colr` box, the parsers and decoders prefer the container to the stream, and the AV1
//! decoder says nothing at all. So the stream's own headers are read here ([`bitstream`]), and the `colr` box
//! ([`colr`]); [`watch`] listens at every decoder's entry and completes the caps at its exit.

mod bits;
mod bitstream;
mod colr;
mod h26x;
mod watch;

use gstreamer as gst;
use gstreamer_video as gst_video;
use gstreamer_video::{
    VideoColorMatrix as Matrix, VideoColorPrimaries as Primaries, VideoColorRange as Range, VideoColorimetry,
    VideoTransferFunction as Transfer,
};

pub(super) use watch::watch;

/// What one voice says of the colours; what it leaves open is `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Said {
    full_range: Option<bool>,
    matrix: Option<Coefficients>,
    transfer: Option<Transfer>,
    primaries: Option<Primaries>,
}

/// Matrix coefficients as a stream names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Coefficients {
    Known(Matrix),
    /// Named, but neither GStreamer nor we can convert them; the words for them.
    Foreign(&'static str),
}

impl Said {
    /// The code points of ITU-T H.273, which all the stream headers use.
    fn h273(primaries: u32, transfer: u32, matrix: u32) -> Self {
        let matrix = match matrix {
            8 => Some(Coefficients::Foreign("YCgCo")),
            11 => Some(Coefficients::Foreign("Y'D'zD'x")),
            12 | 13 => Some(Coefficients::Foreign("chromaticity-derived coefficients")),
            14 => Some(Coefficients::Foreign("ICtCp")),
            code => known(Matrix::from_iso(code), Matrix::Unknown).map(Coefficients::Known),
        };
        Self {
            full_range: None,
            matrix,
            transfer: known(Transfer::from_iso(transfer), Transfer::Unknown),
            primaries: known(Primaries::from_iso(primaries), Primaries::Unknown),
        }
    }

    fn range(full: bool) -> Self {
        Self { full_range: Some(full), ..Self::default() }
    }

    /// What caps say, raw or encoded.
    fn caps(caps: &gst::CapsRef) -> Self {
        let text = caps.structure(0).and_then(|s| s.get::<&str>("colorimetry").ok());
        text.and_then(|t| t.parse::<VideoColorimetry>().ok()).map_or_else(Self::default, Self::from)
    }

    /// This voice where it speaks, else the other.
    fn or(self, other: Self) -> Self {
        Self {
            full_range: self.full_range.or(other.full_range),
            matrix: self.matrix.or(other.matrix),
            transfer: self.transfer.or(other.transfer),
            primaries: self.primaries.or(other.primaries),
        }
    }
}

impl From<VideoColorimetry> for Said {
    fn from(c: VideoColorimetry) -> Self {
        Self {
            full_range: match c.range() {
                Range::Range0_255 => Some(true),
                Range::Range16_235 => Some(false),
                _ => None,
            },
            matrix: known(c.matrix(), Matrix::Unknown).map(Coefficients::Known),
            transfer: known(c.transfer(), Transfer::Unknown),
            primaries: known(c.primaries(), Primaries::Unknown),
        }
    }
}

fn known<T: PartialEq>(value: T, unknown: T) -> Option<T> {
    (value != unknown).then_some(value)
}

/// Makes what was said complete for pictures of `height` lines in this layout, or names the coefficients nobody here
/// can convert.
///
/// Where nobody says: RGB and grey are of full range, as every still picture and every lossless codec has them; YUV is
/// limited, BT.601 up to 576 lines and BT.709 above. Transfer and primaries stay open where they are, since nothing
/// here converts by them.
fn complete(
    said: Said,
    format: gst_video::VideoFormatInfo,
    height: u32,
) -> Result<VideoColorimetry, &'static str> {
    let transfer = said.transfer.unwrap_or(Transfer::Unknown);
    let primaries = said.primaries.unwrap_or(Primaries::Unknown);
    if format.is_rgb() {
        let srgb = (transfer, primaries) == (Transfer::Unknown, Primaries::Unknown);
        let (transfer, primaries) =
            if srgb { (Transfer::Srgb, Primaries::Bt709) } else { (transfer, primaries) };
        return Ok(VideoColorimetry::new(Range::Range0_255, Matrix::Rgb, transfer, primaries));
    }
    let usual = if height > 576 { Matrix::Bt709 } else { Matrix::Bt601 };
    let matrix = match said.matrix {
        // Grey has no chroma that a matrix could be wrong about.
        Some(Coefficients::Foreign(_)) if format.is_gray() => usual,
        Some(Coefficients::Foreign(name)) => return Err(name),
        Some(Coefficients::Known(Matrix::Rgb)) | None => usual,
        Some(Coefficients::Known(matrix)) => matrix,
    };
    let range =
        if said.full_range.unwrap_or(format.is_gray()) { Range::Range0_255 } else { Range::Range16_235 };
    Ok(VideoColorimetry::new(range, matrix, transfer, primaries))
}

/// The picture that raw caps describe, its colorimetry complete.
///
/// # Errors
/// Caps that describe no picture.
pub(crate) fn video_info(caps: &gst::CapsRef) -> Result<gst_video::VideoInfo, gst::glib::BoolError> {
    let info = gst_video::VideoInfo::from_caps(caps)?;
    let Ok(colorimetry) = complete(Said::caps(caps), info.format_info(), info.height()) else {
        return Ok(info);
    };
    if info.colorimetry() == colorimetry {
        return Ok(info);
    }
    let mut whole = caps.to_owned();
    whole.make_mut().set("colorimetry", colorimetry.to_string());
    gst_video::VideoInfo::from_caps(&whole)
}

/// Caps of what an encoder is given of such pictures in the YUV layout `format`: luma bytes stay what they are, and the
/// description goes into the file. RGB, which has none, becomes what every player expects of YUV.
pub(super) fn encoded_caps(info: &gst_video::VideoInfo, format: &str) -> gst::Caps {
    let usual = if info.height() > 576 { Matrix::Bt709 } else { Matrix::Bt601 };
    let own = info.colorimetry();
    let written = if info.format_info().is_rgb() {
        // sRGB is written as BT.709, whose primaries it has and whose curve players take it for.
        VideoColorimetry::new(Range::Range16_235, usual, Transfer::Bt709, Primaries::Bt709)
    } else {
        complete(own.into(), info.format_info(), info.height()).unwrap_or(own)
    };
    gst::Caps::builder("video/x-raw")
        .field("format", format)
        .field("colorimetry", written.to_string())
        .build()
}

#[cfg(test)]
mod tests;
