//! Still pictures: a path flows in, an upright and whole picture flows out, or the reason why not.
//!
//! Every command reads pictures, masks and probability maps here, so that they agree on what a file holds: turned
//! upright by its EXIF orientation, refused if it is cut off, damaged, larger than [`LARGEST_PIXELS`] or several
//! pictures in one. [`names`] says which files of a folder are pictures and in which order they come. Knows neither
//! GStreamer nor the network.

#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::unreachable))]

mod container;
mod exif;
mod fault;
pub(crate) mod folder;
mod jpeg;
pub mod names;
mod tiff;

use std::io::{Cursor, Read};
use std::path::Path;

use image::metadata::Orientation;
use image::{DynamicImage, ImageBuffer, ImageDecoder, ImageFormat, ImageReader, Luma, RgbImage, imageops};

use crate::{Error, Result};
pub use fault::Fault;

/// Pictures of more pixels are refused before anything is allocated for them: decoding, scaling and scoring need some
/// ten times a picture's size at once.
pub const LARGEST_PIXELS: u64 = 64_000_000;

/// A file longer than this holds no picture of [`LARGEST_PIXELS`] that is read here.
const LARGEST_FILE: u64 = 1 << 30;

/// What a decoder may allocate: four 32-bit channels of the largest picture.
const LARGEST_ALLOCATION: u64 = 16 * LARGEST_PIXELS;

/// What a file holds for each pixel.
#[derive(Clone, Debug)]
pub enum Pixels {
    /// Channels of 8 or 16 bits, or colours of 32-bit floating-point numbers.
    Picture(DynamicImage),
    /// One floating-point number a pixel, as scientific programs save maps. Whole numbers that do not fit 16 bits too.
    Real(ImageBuffer<Luma<f32>, Vec<f32>>),
}

/// A picture, upright.
#[derive(Clone, Debug)]
pub struct Still {
    /// Its values as the file holds them, upright.
    pub pixels: Pixels,
    /// By content, whatever the file is called.
    pub format: ImageFormat,
    /// Whether the compression changed values.
    pub lossy: bool,
    /// Whether the file's orientation turned or mirrored it.
    pub turned: bool,
}

impl Still {
    /// Reads a picture.
    ///
    /// # Errors
    /// In a sentence that begins with the path: what is wrong with the file and what to do ([`Fault`]).
    pub fn open(path: &Path) -> Result<Self> {
        let bytes = contents(path)?;
        Self::decode(&bytes).map_err(|fault| fault.at(path))
    }

    /// Decodes a file's bytes.
    ///
    /// # Errors
    /// The reason, without the path.
    pub fn decode(bytes: &[u8]) -> std::result::Result<Self, Fault> {
        let format = container::format(bytes)?;
        let container = container::look(format, bytes)?;
        let (mut pixels, tagged) = if format == ImageFormat::Tiff {
            tiff::decode(bytes)?
        } else {
            (Pixels::Picture(decode(format, bytes)?), container.orientation)
        };
        let orientation = tagged.and_then(Orientation::from_exif).unwrap_or(Orientation::NoTransforms);
        pixels.turn(orientation);
        let turned = orientation != Orientation::NoTransforms;
        Ok(Self { pixels, format, lossy: container.lossy, turned })
    }

    /// Pixels in a row.
    pub fn width(&self) -> u32 {
        match &self.pixels {
            Pixels::Picture(p) => p.width(),
            Pixels::Real(p) => p.width(),
        }
    }

    /// Rows.
    pub fn height(&self) -> u32 {
        match &self.pixels {
            Pixels::Picture(p) => p.height(),
            Pixels::Real(p) => p.height(),
        }
    }

    /// As colours for eyes and networks.
    ///
    /// # Errors
    /// Values that are no picture's: a deep file that uses only the bottom of its range would be black, floating-point
    /// numbers beyond 1 white.
    pub fn into_rgb(self) -> std::result::Result<RgbImage, Fault> {
        let picture = match self.pixels {
            Pixels::Picture(picture) => picture,
            Pixels::Real(grey) => {
                DynamicImage::ImageRgb32F(ImageBuffer::from_fn(grey.width(), grey.height(), |x, y| {
                    image::Rgb([grey.get_pixel(x, y).0[0]; 3])
                }))
            }
        };
        match &picture {
            DynamicImage::ImageLuma16(p) => check_depth(p.as_raw())?,
            DynamicImage::ImageRgb16(p) => check_depth(p.as_raw())?,
            DynamicImage::ImageLumaA16(p) => check_depth(p.pixels().map(|p| &p.0[0]))?,
            DynamicImage::ImageRgba16(p) => check_depth(p.pixels().flat_map(|p| &p.0[..3]))?,
            DynamicImage::ImageRgb32F(p) => check_unit(p.as_raw())?,
            DynamicImage::ImageRgba32F(p) => check_unit(p.as_raw())?,
            _ => {}
        }
        Ok(picture.into_rgb8())
    }
}

/// Reads a picture as the network takes it, upright.
///
/// # Errors
/// As [`Still::open`], and a scale that is not the file's own.
pub fn load_rgb(path: &Path) -> Result<RgbImage> {
    Still::open(path)?.into_rgb().map_err(|fault| fault.at(path))
}

/// Whether two pictures (width, height) that should show the same lie across each other: one has the other's sides
/// swapped, be it in another size, as that of a network.
pub fn lie_across(a: (usize, usize), b: (usize, usize)) -> bool {
    if a == (b.1, b.0) {
        return a != b;
    }
    let proportion = |(w, h): (usize, usize)| w as f64 / h.max(1) as f64;
    let (a, b) = (proportion(a), proportion(b));
    // A hundredth is what rounding to whole pixels leaves.
    (a * b - 1.0).abs() < 0.01 && (a / b - 1.0).abs() > 0.05
}

impl Pixels {
    fn turn(&mut self, orientation: Orientation) {
        match self {
            Self::Picture(picture) => picture.apply_orientation(orientation),
            Self::Real(grey) => {
                let turned = match orientation {
                    Orientation::NoTransforms => return,
                    Orientation::Rotate90 => imageops::rotate90(grey),
                    Orientation::Rotate180 => imageops::rotate180(grey),
                    Orientation::Rotate270 => imageops::rotate270(grey),
                    Orientation::FlipHorizontal => imageops::flip_horizontal(grey),
                    Orientation::FlipVertical => imageops::flip_vertical(grey),
                    Orientation::Rotate90FlipH => imageops::flip_horizontal(&imageops::rotate90(grey)),
                    Orientation::Rotate270FlipH => imageops::flip_horizontal(&imageops::rotate270(grey)),
                };
                *grey = turned;
            }
        }
    }
}

/// A 16-bit picture whose brightest value fits the 8, 10 or 12 bits of a camera was stored on another scale. One of 14
/// bits cannot be told from a dark picture.
fn check_depth<'a>(values: impl IntoIterator<Item = &'a u16>) -> std::result::Result<(), Fault> {
    let brightest = values.into_iter().copied().max().unwrap_or(0);
    // A real 16-bit picture whose brightest pixel is below a sixteenth of white would be black to everybody.
    if (1..=4095).contains(&brightest) {
        Err(Fault::Scale { brightest: f64::from(brightest) })
    } else {
        Ok(())
    }
}

fn check_unit(values: &[f32]) -> std::result::Result<(), Fault> {
    match values.iter().find(|v| !(-0.01..=1.01).contains(*v)) {
        Some(v) => Err(Fault::Scale { brightest: f64::from(*v) }),
        None => Ok(()),
    }
}

/// A file's bytes, bounded. What is no file (a pipe, a device) might never end.
fn contents(path: &Path) -> Result<Vec<u8>> {
    let metadata = std::fs::metadata(path).map_err(|e| Error::read(path, e))?;
    if !metadata.is_file() {
        return Err(Error::input(format!("{}: is no file", path.display())).remedy("name a picture file"));
    }
    if metadata.len() > LARGEST_FILE {
        return Err(Fault::LongFile(metadata.len()).at(path));
    }
    let file = std::fs::File::open(path).map_err(|e| Error::read(path, e))?;
    let mut bytes = Vec::with_capacity(metadata.len() as usize);
    file.take(LARGEST_FILE).read_to_end(&mut bytes).map_err(|e| Error::read(path, e))?;
    Ok(bytes)
}

/// Refuses a picture by its header alone.
fn check_size(width: u32, height: u32) -> std::result::Result<(), Fault> {
    if width == 0 || height == 0 {
        return Err(Fault::Empty);
    }
    if u64::from(width) * u64::from(height) > LARGEST_PIXELS {
        return Err(Fault::TooLarge { width, height });
    }
    Ok(())
}

fn decode(format: ImageFormat, bytes: &[u8]) -> std::result::Result<DynamicImage, Fault> {
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    // The decoder's own limit is smaller than a deep picture of the largest size; ours is set once that is known.
    reader.no_limits();
    let mut decoder = reader.into_decoder()?;
    let (width, height) = decoder.dimensions();
    check_size(width, height)?;
    let mut limits = image::Limits::no_limits();
    limits.max_alloc = Some(LARGEST_ALLOCATION);
    decoder.set_limits(limits)?;
    Ok(DynamicImage::from_decoder(decoder)?)
}

#[cfg(test)]
mod tests;
