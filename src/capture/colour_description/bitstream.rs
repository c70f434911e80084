//! What an encoded stream says of its own colours.
//!
//! In: the stream's caps with what a container keeps of its headers (`codec_data`), then its buffers. Out: the first or
//! the latest description found. Only headers are read, and only up to the first picture data.

use gstreamer as gst;

use super::bits::Bits;
use super::{Coefficients, Matrix, Said, h26x};

/// Codecs whose headers are read here. The others say nothing of their colours, or their decoder says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Codec {
    /// `length`: bytes of each NAL unit's length; 0 where start codes stand between them.
    H264 {
        length: usize,
    },
    H265 {
        length: usize,
    },
    Mpeg2,
    Mpeg4,
    Vp9,
    Av1,
    Jpeg,
}

impl Codec {
    /// The codec of encoded caps, and what their `codec_data` says.
    pub(super) fn of(caps: &gst::CapsRef) -> Option<(Self, Option<Said>)> {
        let s = caps.structure(0)?;
        let config = s.get::<gst::Buffer>("codec_data").ok();
        let config = config.as_ref().and_then(|b| b.map_readable().ok());
        let config = config.as_ref().map_or(&[][..], |m| m.as_slice());
        let by_length =
            s.get::<&str>("stream-format").is_ok_and(|f| f != "byte-stream") || config.first() == Some(&1);
        Some(match s.name().as_str() {
            "video/x-h264" => {
                let length = if by_length { config.get(4).map_or(4, |b| usize::from(b & 3) + 1) } else { 0 };
                let codec = Self::H264 { length };
                // Some containers keep the units themselves, as in a stream.
                let said = if by_length { avcc(config) } else { Self::H264 { length: 0 }.said_in(config) };
                (codec, said)
            }
            "video/x-h265" => {
                let length = if by_length { config.get(21).map_or(4, |b| usize::from(b & 3) + 1) } else { 0 };
                let said = if by_length { hvcc(config) } else { Self::H265 { length: 0 }.said_in(config) };
                (Self::H265 { length }, said)
            }
            "video/mpeg" => {
                let codec = match s.get::<i32>("mpegversion") {
                    Ok(1 | 2) => Self::Mpeg2,
                    Ok(4) => Self::Mpeg4,
                    _ => return None,
                };
                (codec, codec.said_in(config))
            }
            "video/x-vp9" => (Self::Vp9, None),
            "video/x-av1" => (Self::Av1, config.get(4..).and_then(av1)),
            "image/jpeg" => (Self::Jpeg, Some(jfif())),
            _ => return None,
        })
    }

    /// Whether one look at the first buffer is enough.
    pub(super) fn says_it_once(self) -> bool {
        self == Self::Jpeg
    }

    /// What the codec's own standard says of the range where the stream does not.
    pub(super) fn rule(self) -> Said {
        Said::range(self == Self::Jpeg)
    }

    /// The description in a buffer, if there is one.
    pub(super) fn said_in(self, data: &[u8]) -> Option<Said> {
        match self {
            Self::H264 { length } => units(data, length, |u| match u.first()? & 0x1f {
                7 => Some(Step::Found(h26x::h264(u)?)),
                1..=5 => Some(Step::Pictures),
                _ => None,
            }),
            Self::H265 { length } => units(data, length, |u| {
                let (first, second) = (*u.first()?, *u.get(1)?);
                let layer = (first & 1) << 5 | second >> 3;
                match first >> 1 & 0x3f {
                    33 if layer == 0 => Some(Step::Found(h26x::h265(u)?)),
                    0..=31 => Some(Step::Pictures),
                    _ => None,
                }
            }),
            Self::Mpeg2 => units(data, 0, |u| match u.first()? {
                0xb5 if u.get(1)? >> 4 == 2 => Some(Step::Found(mpeg2(u.get(1..)?)?)),
                0x00 => Some(Step::Pictures),
                _ => None,
            }),
            Self::Mpeg4 => units(data, 0, |u| match u.first()? {
                0xb5 => Some(Step::Found(mpeg4(u.get(1..)?)?)),
                0xb6 => Some(Step::Pictures),
                _ => None,
            }),
            Self::Vp9 => vp9(data),
            Self::Av1 => av1(data),
            Self::Jpeg => jpeg(data),
        }
    }
}

/// What a unit turned out to be.
enum Step {
    Found(Said),
    /// No header comes after this.
    Pictures,
}

/// Goes through the units of a buffer until one answers. `length`: bytes of the number before each, or 0 for start
/// codes.
fn units(data: &[u8], length: usize, mut look: impl FnMut(&[u8]) -> Option<Step>) -> Option<Said> {
    let mut rest = data;
    loop {
        let unit;
        if length > 0 {
            let (head, tail) = rest.split_at_checked(length)?;
            let size = head.iter().fold(0usize, |n, b| n << 8 | usize::from(*b));
            (unit, rest) = tail.split_at_checked(size)?;
        } else {
            let start = start_code(rest)? + 3;
            rest = &rest[start..];
            // A slice's end is not looked for: its first bytes say what it is.
            let short = &rest[..rest.len().min(16)];
            if let Some(Step::Pictures) = look(short) {
                return None;
            }
            unit = &rest[..start_code(rest).unwrap_or(rest.len())];
        }
        match look(unit) {
            Some(Step::Found(said)) => return Some(said),
            Some(Step::Pictures) => return None,
            None => {}
        }
    }
}

/// Where the next `00 00 01` begins.
fn start_code(data: &[u8]) -> Option<usize> {
    data.windows(3).position(|w| w == [0, 0, 1])
}

/// Sets kept by MP4 for H.264: behind six bytes, each behind two bytes of length.
fn avcc(config: &[u8]) -> Option<Said> {
    let sets = config.get(5)? & 0x1f;
    let mut rest = config.get(6..)?;
    (0..sets).find_map(|_| {
        let (size, tail) = rest.split_first_chunk()?;
        let (unit, tail) = tail.split_at_checked(usize::from(u16::from_be_bytes(*size)))?;
        rest = tail;
        h26x::h264(unit)
    })
}

/// As [`avcc`] for H.265: arrays of sets, each of one type.
fn hvcc(config: &[u8]) -> Option<Said> {
    let arrays = *config.get(22)?;
    let mut rest = config.get(23..)?;
    for _ in 0..arrays {
        let (head, mut tail) = rest.split_first_chunk::<3>()?;
        for _ in 0..u16::from_be_bytes([head[1], head[2]]) {
            let (size, after) = tail.split_first_chunk()?;
            let (unit, after) = after.split_at_checked(usize::from(u16::from_be_bytes(*size)))?;
            if head[0] & 0x3f == 33
                && let Some(said) = h26x::h265(unit)
            {
                return Some(said);
            }
            tail = after;
        }
        rest = tail;
    }
    None
}

/// Sequence display extension (H.262 6.2.2.4). The range is always the limited one.
fn mpeg2(extension: &[u8]) -> Option<Said> {
    let b = &mut Bits::new(extension);
    b.skip(7)?;
    let said = if b.flag()? { Said::h273(b.u(8)?, b.u(8)?, b.u(8)?) } else { Said::default() };
    Some(Said { full_range: Some(false), ..said })
}

/// Visual object (ISO/IEC 14496-2 6.2.2).
fn mpeg4(object: &[u8]) -> Option<Said> {
    let b = &mut Bits::new(object);
    if b.flag()? {
        b.skip(7)?;
    }
    let kind = b.u(4)?;
    if !matches!(kind, 1 | 2) || !b.flag()? {
        return Some(Said::default());
    }
    b.skip(3)?;
    let full = b.flag()?;
    let said = if b.flag()? { Said::h273(b.u(8)?, b.u(8)?, b.u(8)?) } else { Said::default() };
    Some(Said { full_range: Some(full), ..said })
}

/// Uncompressed header of a key frame (VP9 bitstream specification 6.2).
fn vp9(frame: &[u8]) -> Option<Said> {
    const SYNC: u32 = 0x49_8342;
    let b = &mut Bits::new(frame);
    if b.u(2)? != 2 {
        return None;
    }
    let profile = u32::from(b.flag()?) | u32::from(b.flag()?) << 1;
    if profile == 3 {
        b.skip(1)?;
    }
    let shown_again = b.flag()?;
    let key = !shown_again && !b.flag()?;
    b.skip(2)?;
    if !key || b.u(24)? != SYNC {
        return None;
    }
    if profile >= 2 {
        b.skip(1)?;
    }
    let matrix = match b.u(3)? {
        1 | 3 => Matrix::Bt601,
        2 => Matrix::Bt709,
        4 => Matrix::Smpte240m,
        5 => Matrix::Bt2020,
        7 => return Some(Said { matrix: Some(Coefficients::Known(Matrix::Rgb)), ..Said::range(true) }),
        _ => return Some(Said::range(b.flag()?)),
    };
    Some(Said { matrix: Some(Coefficients::Known(matrix)), ..Said::range(b.flag()?) })
}

/// The sequence header among the units of a stream (AV1 specification 5.3 and 5.5).
fn av1(data: &[u8]) -> Option<Said> {
    let mut rest = data;
    loop {
        let (&header, tail) = rest.split_first()?;
        let mut tail = if header & 4 != 0 { tail.get(1..)? } else { tail };
        let size = if header & 2 != 0 {
            let mut size = 0usize;
            for shift in (0..56).step_by(7) {
                let (&byte, after) = tail.split_first()?;
                tail = after;
                size |= usize::from(byte & 0x7f) << shift;
                if byte & 0x80 == 0 {
                    break;
                }
            }
            size
        } else {
            tail.len()
        };
        let (unit, after) = tail.split_at_checked(size)?;
        match header >> 3 & 15 {
            1 => return av1_sequence(unit),
            // A frame, with or without its tiles.
            3 | 6 => return None,
            _ => rest = after,
        }
    }
}

fn av1_sequence(unit: &[u8]) -> Option<Said> {
    let b = &mut Bits::new(unit);
    let profile = b.u(3)?;
    b.skip(1)?;
    let reduced = b.flag()?;
    if reduced {
        b.skip(5)?;
    } else {
        let mut delay_bits = None;
        if b.flag()? {
            b.skip(64)?;
            if b.flag()? {
                // As many bits behind the one as zeros before it, like an Exp-Golomb code.
                b.ue()?;
            }
            if b.flag()? {
                delay_bits = Some(b.u(5)? as usize + 1);
                b.skip(32 + 5 + 5)?;
            }
        }
        let delays = b.flag()?;
        for _ in 0..=b.u(5)? {
            b.skip(12)?;
            if b.u(5)? > 7 {
                b.skip(1)?;
            }
            if let Some(bits) = delay_bits
                && b.flag()?
            {
                b.skip(2 * bits + 1)?;
            }
            if delays && b.flag()? {
                b.skip(4)?;
            }
        }
    }
    let (wide, high) = (b.u(4)? as usize + 1, b.u(4)? as usize + 1);
    b.skip(wide + high)?;
    if !reduced && b.flag()? {
        b.skip(7)?;
    }
    b.skip(3)?;
    if !reduced {
        b.skip(4)?;
        let ordered = b.flag()?;
        if ordered {
            b.skip(2)?;
        }
        // Screen content is chosen by each frame, or told here; so then is whole-pixel motion.
        let screen = b.flag()? || b.flag()?;
        if screen && !b.flag()? {
            b.skip(1)?;
        }
        if ordered {
            b.skip(3)?;
        }
    }
    b.skip(3)?;
    let deep = b.flag()?;
    if profile == 2 && deep {
        b.skip(1)?;
    }
    let grey = profile != 1 && b.flag()?;
    let said = if b.flag()? {
        let (primaries, transfer, matrix) = (b.u(8)?, b.u(8)?, b.u(8)?);
        let said = Said::h273(primaries, transfer, matrix);
        if !grey && (primaries, transfer, matrix) == (1, 13, 0) {
            return Some(Said { full_range: Some(true), ..said });
        }
        said
    } else {
        Said::default()
    };
    Some(Said { full_range: Some(b.flag()?), ..said })
}

/// JPEG as everybody writes it: BT.601, full range.
fn jfif() -> Said {
    Said { matrix: Some(Coefficients::Known(Matrix::Bt601)), ..Said::range(true) }
}

/// The same, unless a comment says that the samples are those of limited-range video.
fn jpeg(data: &[u8]) -> Option<Said> {
    let mut rest = data.strip_prefix(&[0xff, 0xd8])?;
    loop {
        let (head, tail) = rest.split_first_chunk::<2>()?;
        match head {
            // Fill bytes before a marker.
            [0xff, 0xff] => rest = &rest[1..],
            // The scan begins, or this is no segment.
            [0xff, 0xda] | [0..0xff, _] => return Some(jfif()),
            [0xff, marker] => {
                let size = usize::from(u16::from_be_bytes(*tail.first_chunk()?));
                let (segment, after) = tail.split_at_checked(size)?;
                if *marker == 0xfe && segment.get(2..)?.starts_with(b"CS=ITU601") {
                    return Some(Said { full_range: Some(false), ..jfif() });
                }
                rest = after;
            }
        }
    }
}
