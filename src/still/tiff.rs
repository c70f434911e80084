//! TIFF, which holds anything: a file's bytes flow in; its only page and its orientation tag flow out. Whole numbers of
//! 8 and 16 bits and colours go through `image`; maps of floating-point or wider numbers, palettes and 2 or 4 bits,
//! which that refuses, are read here.

use std::io::Cursor;

use image::{DynamicImage, ImageBuffer, ImageFormat, Luma, Rgb};
use tiff::ColorType;
use tiff::decoder::{Decoder, DecodingResult, Limits};
use tiff::tags::{SampleFormat, Tag};
use tiff::{TiffError, TiffFormatError};

use super::{Fault, LARGEST_ALLOCATION, Pixels, check_size};

/// Says of a directory that it is a smaller copy (bit 0) or a transparency mask (bit 2) of another.
const COPY_OR_MASK: u32 = 0b101;

impl From<TiffError> for Fault {
    fn from(e: TiffError) -> Self {
        match e {
            TiffError::IoError(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => {
                Self::CutOff { percent: None }
            }
            TiffError::UnsupportedError(e) => Self::Unsupported(format!("an unusual TIFF ({e})")),
            TiffError::LimitsExceeded => {
                Self::Damaged("it asks for more memory than its picture needs".into())
            }
            e => Self::Damaged(e.to_string()),
        }
    }
}

/// What the tag for the meaning of the samples says where they are numbers of colours; and where 0 is black.
const PALETTE: u16 = 3;
const BLACK_IS_ZERO: u16 = 1;

type Reader<'a> = Decoder<Cursor<&'a [u8]>>;

/// A reader at the first directory, with bounds on what it may allocate.
fn reader_of(bytes: &[u8]) -> Result<Reader<'_>, Fault> {
    let mut limits = Limits::default();
    limits.decoding_buffer_size = LARGEST_ALLOCATION as usize;
    limits.intermediate_buffer_size = LARGEST_ALLOCATION as usize;
    Ok(Decoder::new(Cursor::new(bytes)).map_err(first_directory)?.with_limits(limits))
}

/// The picture as stored, and its orientation tag.
pub(super) fn decode(bytes: &[u8]) -> Result<(Pixels, Option<u8>), Fault> {
    let mut reader = reader_of(bytes)?;
    let (width, height) = reader.dimensions()?;
    check_size(width, height)?;
    whole(&mut reader, bytes.len() as u64)?;
    let orientation = match reader.find_tag_unsigned::<u16>(Tag::Orientation) {
        Ok(tag) => tag.and_then(|v| u8::try_from(v).ok()),
        Err(_) => None,
    };
    if reader.find_tag_unsigned::<u16>(Tag::PhotometricInterpretation)? == Some(PALETTE) {
        let pixels = palette(&mut reader, bytes, width, height)?;
        pages(&mut reader)?;
        return Ok((pixels, orientation));
    }
    let colour = reader.colortype()?;
    let format = reader
        .find_tag_unsigned_vec::<u16>(Tag::SampleFormat)?
        .and_then(|all| all.first().copied())
        .and_then(SampleFormat::from_u16)
        .unwrap_or(SampleFormat::Uint);
    let uint = format == SampleFormat::Uint;
    let pixels = match colour {
        ColorType::Gray(2 | 4) if uint => packed(&mut reader, colour.bit_depth(), width, height)?,
        ColorType::Gray(1 | 8 | 16) if uint => Pixels::Picture(super::decode(ImageFormat::Tiff, bytes)?),
        ColorType::Gray(_) => numbers(&mut reader, width, height)?,
        _ => Pixels::Picture(super::decode(ImageFormat::Tiff, bytes)?),
    };
    pages(&mut reader)?;
    Ok((pixels, orientation))
}

/// A directory lies behind its pixels as a rule, so a file that was cut off has none.
fn first_directory(e: TiffError) -> Fault {
    match e {
        TiffError::FormatError(TiffFormatError::ImageFileDirectoryNotFound) => {
            Fault::CutOff { percent: None }
        }
        e => e.into(),
    }
}

/// Whether every strip or tile lies within the file.
fn whole(reader: &mut Reader<'_>, length: u64) -> Result<(), Fault> {
    for (offsets, counts) in
        [(Tag::StripOffsets, Tag::StripByteCounts), (Tag::TileOffsets, Tag::TileByteCounts)]
    {
        let offsets = reader.find_tag_unsigned_vec::<u64>(offsets)?.unwrap_or_default();
        let counts = reader.find_tag_unsigned_vec::<u64>(counts)?.unwrap_or_default();
        let all: u64 = counts.iter().fold(0, |sum, c| sum.saturating_add(*c));
        let there: u64 = offsets
            .iter()
            .zip(&counts)
            .map(|(o, c)| (*c).min(length.saturating_sub(*o)))
            .fold(0, u64::saturating_add);
        if there < all {
            return Err(Fault::CutOff {
                percent: Some((there as u128 * 100 / u128::from(all)).min(99) as u8),
            });
        }
    }
    Ok(())
}

/// Refuses a file with other pictures behind the first; smaller copies of it are none.
fn pages(reader: &mut Reader<'_>) -> Result<(), Fault> {
    let mut pages = 1;
    // A chain of directories that never ends is nothing to wait for.
    while reader.more_images() && pages < 10_000 {
        reader.next_image()?;
        let kind = reader.find_tag_unsigned::<u32>(Tag::NewSubfileType).ok().flatten().unwrap_or(0);
        if kind & COPY_OR_MASK == 0 {
            pages += 1;
        }
    }
    if pages > 1 { Err(Fault::Several(pages, "pages")) } else { Ok(()) }
}

/// One grey number a pixel: 16-bit levels where every value is one, else floating point.
fn numbers(reader: &mut Reader<'_>, width: u32, height: u32) -> Result<Pixels, Fault> {
    let mut values = DecodingResult::U8(Vec::new());
    reader.read_image_to_buffer(&mut values)?;
    let whole = |values: Vec<f64>| {
        if values.iter().all(|v| (0.0..=65_535.0).contains(v)) {
            let levels = values.into_iter().map(|v| v as u16).collect();
            grey16(width, height, levels)
        } else {
            real(width, height, values.into_iter().map(|v| v as f32).collect())
        }
    };
    match values {
        DecodingResult::F16(v) => real(width, height, v.into_iter().map(f32::from).collect()),
        DecodingResult::F32(v) => real(width, height, v),
        DecodingResult::F64(v) => real(width, height, v.into_iter().map(|v| v as f32).collect()),
        DecodingResult::U8(v) => whole(v.into_iter().map(f64::from).collect()),
        DecodingResult::U16(v) => whole(v.into_iter().map(f64::from).collect()),
        DecodingResult::U32(v) => whole(v.into_iter().map(f64::from).collect()),
        DecodingResult::U64(v) => whole(v.into_iter().map(|v| v as f64).collect()),
        DecodingResult::I8(v) => whole(v.into_iter().map(f64::from).collect()),
        DecodingResult::I16(v) => whole(v.into_iter().map(f64::from).collect()),
        DecodingResult::I32(v) => whole(v.into_iter().map(f64::from).collect()),
        DecodingResult::I64(v) => whole(v.into_iter().map(|v| v as f64).collect()),
    }
}

fn short() -> Fault {
    Fault::Damaged("it holds fewer pixels than it says".into())
}

fn real(width: u32, height: u32, values: Vec<f32>) -> Result<Pixels, Fault> {
    Ok(Pixels::Real(ImageBuffer::<Luma<f32>, _>::from_raw(width, height, values).ok_or_else(short)?))
}

fn grey16(width: u32, height: u32, levels: Vec<u16>) -> Result<Pixels, Fault> {
    let levels = ImageBuffer::<Luma<u16>, _>::from_raw(width, height, levels).ok_or_else(short)?;
    Ok(Pixels::Picture(DynamicImage::ImageLuma16(levels)))
}

/// Grey of 2 or 4 bits, each row beginning at a byte, spread over 8 bits as PNG's is.
fn packed(reader: &mut Reader<'_>, bits: u8, width: u32, height: u32) -> Result<Pixels, Fault> {
    let mut values = DecodingResult::U8(Vec::new());
    reader.read_image_to_buffer(&mut values)?;
    let DecodingResult::U8(bytes) = values else { return Err(short()) };
    let (per_byte, row) = (8 / usize::from(bits), (width as usize * usize::from(bits)).div_ceil(8));
    let most = (1u8 << bits) - 1;
    let mut levels = Vec::with_capacity(width as usize * height as usize);
    for line in bytes.chunks_exact(row).take(height as usize) {
        levels.extend((0..width as usize).map(|x| {
            let shift = 8 - bits as usize * (x % per_byte + 1);
            (line[x / per_byte] >> shift & most) * (255 / most)
        }));
    }
    let levels = ImageBuffer::<Luma<u8>, _>::from_raw(width, height, levels).ok_or_else(short)?;
    Ok(Pixels::Picture(DynamicImage::ImageLuma8(levels)))
}

/// Numbers of colours, the colours in a table of 16-bit reds, greens and blues one after the other. The crate refuses
/// such files, so their numbers are read as if they were levels of grey.
fn palette(reader: &mut Reader<'_>, bytes: &[u8], width: u32, height: u32) -> Result<Pixels, Fault> {
    let bits = reader.find_tag_unsigned_vec::<u16>(Tag::BitsPerSample)?.unwrap_or_default();
    if bits != [8] {
        return Err(Fault::Unsupported(format!("a TIFF with a palette and {bits:?} bits")));
    }
    // The file is copied below.
    if bytes.len() as u64 > LARGEST_ALLOCATION {
        return Err(Fault::Unsupported("a TIFF with a palette and of such a size".into()));
    }
    let table = reader.get_tag_u16_vec(Tag::ColorMap)?;
    let grey = as_grey(bytes).ok_or_else(short)?;
    let mut values = DecodingResult::U8(Vec::new());
    reader_of(&grey)?.read_image_to_buffer(&mut values)?;
    let DecodingResult::U8(numbers) = values else { return Err(short()) };
    let colours = table.len() / 3;
    // Some programs fill the table with 8-bit values.
    let shift = if table.iter().all(|v| *v < 256) { 0 } else { 8 };
    let channel = |number: u8, which: usize| {
        table.get(which * colours + usize::from(number)).map_or(0, |v| (v >> shift) as u8)
    };
    let pixels = numbers.iter().flat_map(|&n| [channel(n, 0), channel(n, 1), channel(n, 2)]).collect();
    let picture = ImageBuffer::<Rgb<u8>, _>::from_raw(width, height, pixels).ok_or_else(short)?;
    Ok(Pixels::Picture(DynamicImage::ImageRgb8(picture)))
}

/// The file with samples that are said to be levels of grey; `None` where its first directory has no such entry. TIFF
/// 6.0, section 2, and BigTIFF, whose numbers are wider.
fn as_grey(bytes: &[u8]) -> Option<Vec<u8>> {
    let little = match bytes.get(..2)? {
        b"II" => true,
        b"MM" => false,
        _ => return None,
    };
    let number = |at: usize, width: usize| -> Option<u64> {
        let digits = bytes.get(at..at.checked_add(width)?)?;
        let join = |sum: u64, byte: &u8| sum << 8 | u64::from(*byte);
        Some(if little { digits.iter().rev().fold(0, join) } else { digits.iter().fold(0, join) })
    };
    // Where the first directory's place stands, how wide it is, and how wide its count, an entry, and what precedes a
    // value.
    let (place, wide, count, entry, before) = match number(2, 2)? {
        42 => (4, 4, 2, 12, 8),
        43 => (8, 8, 8, 20, 12),
        _ => return None,
    };
    let directory = usize::try_from(number(place, wide)?).ok()?;
    for k in 0..usize::try_from(number(directory, count)?).ok()? {
        let at = k.checked_mul(entry)?.checked_add(directory)?.checked_add(count)?;
        if number(at, 2)? == u64::from(Tag::PhotometricInterpretation.to_u16()) {
            let mut grey = bytes.to_vec();
            let value = if little { BLACK_IS_ZERO.to_le_bytes() } else { BLACK_IS_ZERO.to_be_bytes() };
            grey.get_mut(at + before..at + before + 2)?.copy_from_slice(&value);
            return Some(grey);
        }
    }
    None
}
