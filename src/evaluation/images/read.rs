//! Picture files: a path flows in, a mask per class or a probability map flows out, with notes on what had to be decided.

use std::path::Path;

use image::{DynamicImage, GrayImage, ImageFormat, ImageReader, RgbImage};

use super::classes::{Classes, levels_of};
use super::report::NoteKind;
use crate::evaluation::metrics::{Mask, Prediction};
use crate::{Error, Result};

/// A lossy mask whose brightest pixel is darker than this is noise around nothing.
const FAINT: u8 = 64;

/// A colour picture whose channels differ by no more than this is a grey one that went through a lossy format.
const GREY_SPREAD: u8 = 16;

fn decode(path: &Path) -> Result<(DynamicImage, ImageFormat)> {
    let reader = ImageReader::open(path).and_then(ImageReader::with_guessed_format);
    let reader = reader.map_err(|e| Error::read(path, e))?;
    let format = reader.format().ok_or_else(|| {
        Error::input(format!("{}: is no picture we can read", path.display()))
            .remedy("give PNG, JPEG, BMP, TIFF or WebP")
    })?;
    let picture = reader.decode().map_err(|e| {
        Error::input(format!("{}: cannot be decoded ({e})", path.display()))
            .remedy("check the file")
            .because(e)
    })?;
    Ok((picture, format))
}

fn lossy(format: ImageFormat) -> bool {
    format == ImageFormat::Jpeg
}

fn sixteen_bit(picture: &DynamicImage) -> bool {
    picture.color().bytes_per_pixel() / picture.color().channel_count() > 1
}

/// Whether the channels of some pixel differ by more than `spread` of 255.
fn is_coloured(picture: &DynamicImage, spread: u8) -> bool {
    fn differ<T: Ord + Copy + std::ops::Sub<Output = T>>([r, g, b]: [T; 3], spread: T) -> bool {
        r.max(g).max(b) - r.min(g).min(b) > spread
    }
    if !picture.color().has_color() {
        false
    } else if sixteen_bit(picture) {
        picture.to_rgb16().pixels().any(|p| differ(p.0, u16::from(spread) * 257))
    } else {
        picture.to_rgb8().pixels().any(|p| differ(p.0, spread))
    }
}

/// A picture as the network takes it.
pub(super) fn image(path: &Path) -> Result<RgbImage> {
    Ok(decode(path)?.0.into_rgb8())
}

/// A mask of identities, 0 for none.
///
/// # Errors
/// Unreadable, or no 8-bit grey picture.
pub(in crate::evaluation) fn identities(path: &Path) -> Result<GrayImage> {
    match decode(path)?.0 {
        DynamicImage::ImageLuma8(map) => Ok(map),
        other => Err(Error::input(format!(
            "{}: is stored as {:?}, not as the 8-bit grey of identities",
            path.display(),
            other.color()
        ))),
    }
}

/// A mask per class, in the classes' order.
pub(in crate::evaluation) fn masks(path: &Path, classes: &Classes) -> Result<(Vec<Mask>, Vec<NoteKind>)> {
    let (picture, format) = decode(path)?;
    let (w, h) = (picture.width() as usize, picture.height() as usize);
    let mut notes = Vec::new();
    if lossy(format) {
        notes.push(NoteKind::LossyMask);
    }
    if sixteen_bit(&picture) {
        notes.push(NoteKind::SixteenBitMask);
    }
    let masks = if classes.is_one() {
        if is_coloured(&picture, if lossy(format) { GREY_SPREAD } else { 0 }) {
            notes.push(NoteKind::ColourMask);
        }
        let mask = if sixteen_bit(&picture) {
            Mask::from_levels(w, h, &brightest_sixteen(&picture))
        } else {
            let mut levels = brightest_eight(picture);
            let max = levels.iter().max().copied().unwrap_or(0);
            if lossy(format) && max > 0 && max < FAINT {
                notes.push(NoteKind::FaintMask);
                levels.fill(0);
            }
            Mask::from_levels(w, h, &levels)
        };
        vec![mask.map_err(|e| e.at(path.display()))?]
    } else {
        let (map, unlisted) = labels(picture, format, classes);
        if unlisted > 0 {
            notes.push(NoteKind::UnlistedValues);
        }
        (0..classes.names().len())
            .map(|class| Mask::from_levels(w, h, &levels_of(&map, class)).map_err(|e| e.at(path.display())))
            .collect::<Result<_>>()?
    };
    Ok((masks, notes))
}

/// A map of class numbers (0 = background) as a prediction per class.
pub(super) fn label_predictions(
    path: &Path,
    classes: &Classes,
) -> Result<(Vec<Prediction<'static>>, Vec<NoteKind>)> {
    let (picture, format) = decode(path)?;
    let (w, h) = (picture.width() as usize, picture.height() as usize);
    let (map, unlisted) = labels(picture, format, classes);
    let predictions = (0..classes.names().len())
        .map(|class| Prediction::from_levels(w, h, levels_of(&map, class)).map_err(|e| e.at(path.display())))
        .collect::<Result<_>>()?;
    Ok((predictions, if unlisted > 0 { vec![NoteKind::UnlistedValues] } else { Vec::new() }))
}

fn labels(picture: DynamicImage, format: ImageFormat, classes: &Classes) -> (Vec<u8>, u64) {
    if classes.by_colour() {
        let colours: Vec<[u8; 3]> = picture.into_rgb8().pixels().map(|p| p.0).collect();
        classes.of_colours(&colours, lossy(format))
    } else {
        let values: Vec<u16> = if sixteen_bit(&picture) {
            brightest_sixteen(&picture)
        } else {
            brightest_eight(picture).into_iter().map(u16::from).collect()
        };
        classes.of_values(&values, lossy(format))
    }
}

/// Brightest channel of each pixel, dimmed by its opacity.
fn brightest_eight(picture: DynamicImage) -> Vec<u8> {
    match picture {
        DynamicImage::ImageLuma8(grey) => grey.into_raw(),
        DynamicImage::ImageRgb8(rgb) => rgb.pixels().map(|p| p.0[0].max(p.0[1]).max(p.0[2])).collect(),
        other => {
            let dim = |v: u8, a: u8| ((u16::from(v) * u16::from(a) + 127) / 255) as u8;
            other.into_rgba8().pixels().map(|p| dim(p.0[0].max(p.0[1]).max(p.0[2]), p.0[3])).collect()
        }
    }
}

fn brightest_sixteen(picture: &DynamicImage) -> Vec<u16> {
    match picture {
        DynamicImage::ImageLuma16(grey) => grey.as_raw().clone(),
        other => {
            let dim = |v: u16, a: u16| ((u32::from(v) * u32::from(a) + 32_767) / 65_535) as u16;
            other.to_rgba16().pixels().map(|p| dim(p.0[0].max(p.0[1]).max(p.0[2]), p.0[3])).collect()
        }
    }
}

/// A probability map. `certain` is the stored value that means probability 1, unless it is the type's largest.
///
/// # Errors
/// Unreadable, a colour picture, partly transparent, or brighter than `certain`.
pub(in crate::evaluation) fn prediction(
    path: &Path,
    certain: Option<u16>,
) -> Result<(Prediction<'static>, Vec<NoteKind>)> {
    let (picture, format) = decode(path)?;
    let (w, h) = (picture.width() as usize, picture.height() as usize);
    let refuse = |what: String| Error::input(format!("{}: {what}", path.display()));
    let mut notes = Vec::new();
    if picture.color().has_alpha() && picture.to_rgba16().pixels().any(|p| p.0[3] != u16::MAX) {
        return Err(
            refuse("is partly transparent, so it is no probability map".into()).remedy("save it as grey")
        );
    }
    let prediction = if sixteen_bit(&picture) {
        notes.push(NoteKind::SixteenBitPrediction);
        if is_coloured(&picture, 0) {
            return Err(coloured(path));
        }
        let values = picture.into_luma16().into_raw();
        let certain = certain.unwrap_or(u16::MAX);
        check_brightest(path, values.iter().copied().max(), certain)?;
        let scale = 1.0 / f32::from(certain);
        Prediction::from_probability(
            w,
            h,
            values.iter().map(|&v| (f32::from(v) * scale).min(1.0)).collect::<Vec<_>>(),
        )
    } else {
        if is_coloured(&picture, if lossy(format) { GREY_SPREAD } else { 0 }) {
            return Err(coloured(path));
        }
        let mut levels = picture.into_luma8().into_raw();
        if let Some(certain) = certain.filter(|c| *c != 255) {
            check_brightest(path, levels.iter().copied().max().map(u16::from), certain)?;
            let scale = |v: u8| ((f64::from(v) * 255.0 / f64::from(certain)).round()).min(255.0) as u8;
            levels.iter_mut().for_each(|v| *v = scale(*v));
        }
        if levels.iter().all(|&v| v <= 1) {
            notes.push(NoteKind::FaintPrediction);
        }
        Prediction::from_levels(w, h, levels)
    };
    Ok((prediction.map_err(|e| e.at(path.display()))?, notes))
}

fn coloured(path: &Path) -> Error {
    Error::input(format!("{}: is a colour picture, not a probability map", path.display()))
        .remedy("save predictions as grey, white = certain")
}

fn check_brightest(path: &Path, brightest: Option<u16>, certain: u16) -> Result<()> {
    match brightest {
        Some(v) if v > certain => Err(Error::input(format!(
            "{}: holds the value {v}, more than the {certain} that --prediction-max says is certain",
            path.display()
        ))),
        _ => Ok(()),
    }
}
