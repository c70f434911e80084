//! The outside of a picture file: its bytes flow in; its format, whether it is all there, its orientation and whether
//! it is lossy flow out. Decoders are lenient with a missing end, each in its own way, so the end is looked for here.

use image::ImageFormat;

use super::{Fault, exif, fault, jpeg};

/// What is known of a file before its pixels are decoded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Container {
    /// EXIF orientation, 1 to 8.
    pub orientation: Option<u8>,
    pub lossy: bool,
}

const CUT_OFF: Fault = Fault::CutOff { percent: None };

/// The format by content.
pub(super) fn format(bytes: &[u8]) -> Result<ImageFormat, Fault> {
    if bytes.is_empty() {
        return Err(Fault::Empty);
    }
    let format = image::guess_format(bytes).ok();
    match format {
        Some(
            format @ (ImageFormat::Png
            | ImageFormat::Jpeg
            | ImageFormat::Bmp
            | ImageFormat::Tiff
            | ImageFormat::WebP
            | ImageFormat::Gif),
        ) => Ok(format),
        // BigTIFF has a signature of its own.
        _ if bytes.starts_with(b"II+\0") || bytes.starts_with(b"MM\0+") => Ok(ImageFormat::Tiff),
        _ => Err(fault::other_format(bytes).map_or(Fault::NoPicture, Fault::OtherFormat)),
    }
}

/// Looks a file through. TIFF says everything in its directory, which is read with its pixels.
pub(super) fn look(format: ImageFormat, bytes: &[u8]) -> Result<Container, Fault> {
    match format {
        ImageFormat::Jpeg => jpeg::look(bytes).map(|orientation| Container { orientation, lossy: true }),
        ImageFormat::Png => png(bytes),
        ImageFormat::Gif => gif(bytes),
        ImageFormat::WebP => webp(bytes),
        ImageFormat::Bmp => bmp(bytes),
        _ => Ok(Container::default()),
    }
}

fn be32(bytes: &[u8], at: usize) -> Option<usize> {
    Some(u32::from_be_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?) as usize)
}

fn le32(bytes: &[u8], at: usize) -> Option<usize> {
    Some(u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?) as usize)
}

fn le16(bytes: &[u8], at: usize) -> Option<usize> {
    Some(usize::from(u16::from_le_bytes(bytes.get(at..at.checked_add(2)?)?.try_into().ok()?)))
}

/// Chunks up to IEND. Their check sums are the decoder's.
fn png(bytes: &[u8]) -> Result<Container, Fault> {
    let mut at = 8;
    let mut out = Container::default();
    loop {
        let length = be32(bytes, at).ok_or(CUT_OFF)?;
        let name = bytes.get(at + 4..at + 8).ok_or(CUT_OFF)?;
        let data = (at + 8).checked_add(length).and_then(|end| bytes.get(at + 8..end)).ok_or(CUT_OFF)?;
        match name {
            b"IEND" => return Ok(out),
            b"eXIf" => out.orientation = exif::orientation(data),
            b"acTL" => {
                let frames = be32(data, 0).unwrap_or(0);
                if frames > 1 {
                    return Err(Fault::Several(frames as u32, "pictures of an animation"));
                }
            }
            _ => {}
        }
        // The check sum.
        at += 12 + length;
        if at > bytes.len() {
            return Err(CUT_OFF);
        }
    }
}

/// Goes behind a row of GIF's blocks, which ends with an empty one.
fn sub_blocks(bytes: &[u8], mut at: usize) -> Result<usize, Fault> {
    loop {
        let length = usize::from(*bytes.get(at).ok_or(CUT_OFF)?);
        at += 1 + length;
        if length == 0 {
            return Ok(at);
        }
    }
}

/// Blocks up to the trailer.
fn gif(bytes: &[u8]) -> Result<Container, Fault> {
    // A table of colours, if the flags say that one follows.
    let table = |flags: u8| if flags & 0x80 == 0 { 0 } else { 3 << ((flags & 7) + 1) };
    let mut at = 13 + table(*bytes.get(10).ok_or(CUT_OFF)?);
    let mut pictures = 0;
    loop {
        match *bytes.get(at).ok_or(CUT_OFF)? {
            0x3b if pictures > 1 => return Err(Fault::Several(pictures, "pictures of an animation")),
            0x3b => return Ok(Container::default()),
            0x21 => at = sub_blocks(bytes, at + 2)?,
            0x2c => {
                pictures += 1;
                let colours = table(*bytes.get(at + 9).ok_or(CUT_OFF)?);
                at = sub_blocks(bytes, at + 10 + colours + 1)?;
            }
            // Some programs leave zeros between blocks.
            0 => at += 1,
            other => return Err(Fault::Damaged(format!("an unknown block {other}"))),
        }
    }
}

/// The chunks within the length that the header states.
fn webp(bytes: &[u8]) -> Result<Container, Fault> {
    let end = le32(bytes, 4).ok_or(CUT_OFF)?.saturating_add(8);
    if end > bytes.len() {
        return Err(CUT_OFF);
    }
    let mut out = Container::default();
    let mut pictures = 0;
    let mut at = 12;
    while at + 8 <= end {
        let name = &bytes[at..at + 4];
        let length = le32(bytes, at + 4).ok_or(CUT_OFF)?;
        let data = (at + 8).checked_add(length).and_then(|end| bytes.get(at + 8..end)).ok_or(CUT_OFF)?;
        match name {
            b"VP8 " => out.lossy = true,
            b"EXIF" => out.orientation = exif::orientation(data),
            b"ANMF" => pictures += 1,
            _ => {}
        }
        // Chunks begin at even offsets.
        at = (at + 8 + length).next_multiple_of(2);
    }
    if pictures > 1 {
        return Err(Fault::Several(pictures, "pictures of an animation"));
    }
    Ok(out)
}

/// Rows, where they are not compressed.
fn bmp(bytes: &[u8]) -> Result<Container, Fault> {
    let data = le32(bytes, 10).ok_or(CUT_OFF)?;
    let old = le32(bytes, 14).ok_or(CUT_OFF)? == 12;
    let (width, height, bits, compression) = if old {
        (le16(bytes, 18), le16(bytes, 20), le16(bytes, 24), Some(0))
    } else {
        // A negative height says that the top row comes first.
        let height = le32(bytes, 22).map(|h| (h as u32).cast_signed().unsigned_abs() as usize);
        (le32(bytes, 18), height, le16(bytes, 28), le32(bytes, 30))
    };
    let (Some(width), Some(height), Some(bits), Some(compression)) = (width, height, bits, compression)
    else {
        return Err(CUT_OFF);
    };
    // 0, 3 and 6: plain pixels.
    if matches!(compression, 0 | 3 | 6) {
        let row = (width as u128 * bits as u128).div_ceil(32) * 4;
        // The last row's padding may be missing.
        let needed = data as u128 + (row * height as u128).saturating_sub(3);
        if needed > bytes.len() as u128 {
            let there = bytes.len().saturating_sub(data) as u128;
            let percent = (100 * there).checked_div(row * height as u128).map(|p| p.min(99) as u8);
            return Err(Fault::CutOff { percent });
        }
    }
    Ok(Container::default())
}
