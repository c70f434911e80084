//! Picture files of a data set: a path flows in, a mask per class or a probability map flows out, with notes on what
//! had to be decided. Reading itself is [`crate::still`]'s.

use std::path::Path;

use image::{DynamicImage, GrayImage, RgbImage};

use super::classes::{Classes, levels_of};
use super::levels::{self, MaskLevels};
use super::note::NoteKind;
use super::scale::{Depth, Scales};
use crate::evaluation::metrics::{Mask, Prediction};
use crate::still::{Pixels, Still, load_rgb};
use crate::{Error, Result};

/// A colour picture whose channels differ by no more than this is a grey one that went through a lossy format.
const GREY_SPREAD: u8 = 16;

/// A probability map as it was found.
#[derive(Clone, Debug)]
pub(in crate::evaluation) struct Map {
    pub prediction: Prediction<'static>,
    pub notes: Vec<NoteKind>,
    /// How it is stored, and its largest stored value.
    pub stored: (Depth, f64),
}

fn refuse(path: &Path, what: impl std::fmt::Display) -> Error {
    Error::input(format!("{}: {what}", path.display()))
}

fn sixteen_bit(picture: &DynamicImage) -> bool {
    picture.color().bytes_per_pixel() / picture.color().channel_count() > 1
}

/// Whether the channels of some pixel differ by more than `spread` of 255.
fn is_coloured(picture: &DynamicImage, spread: u8) -> bool {
    fn differ<T: PartialOrd + Copy + std::ops::Sub<Output = T>>([r, g, b]: [T; 3], spread: T) -> bool {
        let most = |a: T, b: T| if a > b { a } else { b };
        let least = |a: T, b: T| if a < b { a } else { b };
        most(most(r, g), b) - least(least(r, g), b) > spread
    }
    if !picture.color().has_color() {
        false
    } else if let DynamicImage::ImageRgb32F(p) = picture {
        p.pixels().any(|p| differ(p.0, 0.0))
    } else if sixteen_bit(picture) {
        picture.to_rgb16().pixels().any(|p| differ(p.0, u16::from(spread) * 257))
    } else {
        picture.to_rgb8().pixels().any(|p| differ(p.0, spread))
    }
}

/// Colours of floating-point numbers as the grey map they are if their channels agree.
fn plain(still: Still) -> Still {
    let pixels = match still.pixels {
        Pixels::Picture(picture @ DynamicImage::ImageRgb32F(_)) if !is_coloured(&picture, 0) => {
            let DynamicImage::ImageRgb32F(p) = &picture else {
                return Still { pixels: Pixels::Picture(picture), ..still };
            };
            Pixels::Real(image::ImageBuffer::from_fn(p.width(), p.height(), |x, y| {
                image::Luma([p.get_pixel(x, y).0[0]])
            }))
        }
        other => other,
    };
    Still { pixels, ..still }
}

/// A picture as the network takes it.
pub(super) fn image(path: &Path) -> Result<RgbImage> {
    load_rgb(path)
}

/// A mask of identities, 0 for none.
///
/// # Errors
/// Unreadable, or no 8-bit grey picture.
pub(in crate::evaluation) fn identities(path: &Path) -> Result<GrayImage> {
    match Still::open(path)?.pixels {
        Pixels::Picture(DynamicImage::ImageLuma8(map)) => Ok(map),
        Pixels::Picture(other) => Err(refuse(
            path,
            format!("is stored as {:?}, not as the 8-bit grey of identities", other.color()),
        )),
        Pixels::Real(_) => {
            Err(refuse(path, "is stored as wide numbers, not as the 8-bit grey of identities"))
        }
    }
}

/// A mask per class, in the classes' order.
///
/// # Errors
/// Unreadable, no mask, or levels that could mean two things: said in one sentence that names the file.
pub fn masks(path: &Path, classes: &Classes, rule: MaskLevels) -> Result<(Vec<Mask>, Vec<NoteKind>)> {
    let still = plain(Still::open(path)?);
    let (w, h) = (still.width() as usize, still.height() as usize);
    let mut notes = Vec::new();
    if still.turned {
        notes.push(NoteKind::Turned);
    }
    if still.lossy {
        notes.push(NoteKind::LossyMask);
    }
    match &still.pixels {
        Pixels::Real(_) => notes.push(NoteKind::RealMask),
        Pixels::Picture(picture) if sixteen_bit(picture) => notes.push(NoteKind::SixteenBitMask),
        Pixels::Picture(_) => {}
    }
    let lossy = still.lossy;
    let masks = if classes.is_one() {
        if let Pixels::Picture(picture) = &still.pixels
            && is_coloured(picture, if lossy { GREY_SPREAD } else { 0 })
        {
            notes.push(NoteKind::ColourMask);
        }
        let values = values(path, still)?;
        let (inside, note) = levels::cut(&values, w, lossy, rule).map_err(|what| refuse(path, what))?;
        notes.extend(note);
        vec![Mask::from_binary(w, h, inside).map_err(|e| e.at(path.display()))?]
    } else {
        let (map, unlisted) = labels(path, still, classes)?;
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
    let still = plain(Still::open(path)?);
    let (w, h) = (still.width() as usize, still.height() as usize);
    let mut notes = if still.turned { vec![NoteKind::Turned] } else { Vec::new() };
    let (map, unlisted) = labels(path, still, classes)?;
    let predictions = (0..classes.names().len())
        .map(|class| Prediction::from_levels(w, h, levels_of(&map, class)).map_err(|e| e.at(path.display())))
        .collect::<Result<_>>()?;
    if unlisted > 0 {
        notes.push(NoteKind::UnlistedValues);
    }
    Ok((predictions, notes))
}

fn labels(path: &Path, still: Still, classes: &Classes) -> Result<(Vec<u8>, u64)> {
    let lossy = still.lossy;
    if classes.by_colour() {
        let colours: Vec<[u8; 3]> = still.into_rgb().map_err(|f| f.at(path))?.pixels().map(|p| p.0).collect();
        Ok(classes.of_colours(&colours, lossy))
    } else {
        Ok(classes.of_values(&values(path, still)?, lossy))
    }
}

/// A mask's value at each pixel as stored: the brightest channel, dimmed by its opacity.
fn values(path: &Path, still: Still) -> Result<Vec<u16>> {
    let picture = match still.pixels {
        Pixels::Real(grey) => return real_values(path, grey.as_raw()),
        Pixels::Picture(picture) => picture,
    };
    if matches!(picture, DynamicImage::ImageRgb32F(_) | DynamicImage::ImageRgba32F(_)) {
        return Err(refuse(path, "is a colour picture of floating-point numbers, not a mask")
            .remedy("save it as 8-bit grey"));
    }
    let shaped = picture.color().has_alpha();
    let values = if sixteen_bit(&picture) {
        brightest_sixteen(&picture)
    } else {
        brightest_eight(&picture).into_iter().map(u16::from).collect()
    };
    // Black polyps on a transparent ground would all be ground.
    if shaped && values.iter().all(|v| *v == 0) {
        let opacity = picture.to_rgba8();
        let first = opacity.pixels().next().map(|p| p.0[3]);
        if opacity.pixels().any(|p| Some(p.0[3]) != first) {
            return Err(refuse(
                path,
                "is black wherever it is opaque, so its polyps cannot be told from the ground",
            )
            .remedy("save it as grey, white = polyp"));
        }
    }
    Ok(values)
}

/// Floating-point levels: as they are if whole, else spread over 16 bits.
fn real_values(path: &Path, values: &[f32]) -> Result<Vec<u16>> {
    if let Some(bad) = values.iter().find(|v| !v.is_finite() || **v < 0.0) {
        return Err(refuse(path, format!("holds the value {bad}, which no mask has"))
            .remedy("save it as 8-bit grey, white = polyp"));
    }
    let most = values.iter().copied().fold(0.0f32, f32::max);
    if most <= 65_535.0 && values.iter().all(|v| v.fract() == 0.0) {
        return Ok(values.iter().map(|v| *v as u16).collect());
    }
    let scale = 65_535.0 / most;
    Ok(values.iter().map(|v| (v * scale).round() as u16).collect())
}

fn brightest_eight(picture: &DynamicImage) -> Vec<u8> {
    match picture {
        DynamicImage::ImageLuma8(grey) => grey.as_raw().clone(),
        DynamicImage::ImageRgb8(rgb) => rgb.pixels().map(|p| p.0[0].max(p.0[1]).max(p.0[2])).collect(),
        other => {
            let dim = |v: u8, a: u8| ((u16::from(v) * u16::from(a) + 127) / 255) as u8;
            other.to_rgba8().pixels().map(|p| dim(p.0[0].max(p.0[1]).max(p.0[2]), p.0[3])).collect()
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

/// A probability map; `scales` says which stored value means probability 1.
///
/// # Errors
/// Unreadable, a colour picture, partly transparent, brighter than certain, or of a scale that cannot be told.
pub(in crate::evaluation) fn prediction(path: &Path, scales: &Scales) -> Result<Map> {
    let still = plain(Still::open(path)?);
    let (w, h) = (still.width() as usize, still.height() as usize);
    let depth = Depth::of(&still);
    let mut notes = if still.turned { vec![NoteKind::Turned] } else { Vec::new() };
    let lossy = still.lossy;
    let read = |smallest: f64, largest: f64| {
        scales.reading(depth, smallest, largest).map_err(|what| refuse(path, what))
    };
    let (prediction, note, largest) = match still.pixels {
        Pixels::Real(grey) => {
            let values = grey.into_raw();
            let (smallest, largest) = range(&values);
            let reading = read(smallest, largest)?;
            notes.push(NoteKind::RealPrediction);
            let map: Vec<f32> =
                values.iter().map(|&v| ((f64::from(v) / reading.certain) as f32).clamp(0.0, 1.0)).collect();
            (Prediction::from_probability(w, h, map), reading.note, largest)
        }
        Pixels::Picture(picture) => {
            if picture.color().has_alpha() && picture.to_rgba16().pixels().any(|p| p.0[3] != u16::MAX) {
                return Err(refuse(path, "is partly transparent, so it is no probability map")
                    .remedy("save it as grey"));
            }
            if depth == Depth::Real || is_coloured(&picture, if lossy { GREY_SPREAD } else { 0 }) {
                return Err(refuse(path, "is a colour picture, not a probability map")
                    .remedy("save predictions as grey, white = certain"));
            }
            if depth == Depth::Sixteen {
                notes.push(NoteKind::SixteenBitPrediction);
                let values = picture.into_luma16().into_raw();
                let largest = f64::from(values.iter().copied().max().unwrap_or(0));
                let reading = read(0.0, largest)?;
                let map: Vec<f32> =
                    values.iter().map(|&v| ((f64::from(v) / reading.certain) as f32).min(1.0)).collect();
                (Prediction::from_probability(w, h, map), reading.note, largest)
            } else {
                let mut levels = picture.into_luma8().into_raw();
                let largest = f64::from(levels.iter().copied().max().unwrap_or(0));
                let reading = read(0.0, largest)?;
                if reading.certain != 255.0 {
                    let scale = |v: u8| (f64::from(v) * 255.0 / reading.certain).round().min(255.0) as u8;
                    levels.iter_mut().for_each(|v| *v = scale(*v));
                }
                (Prediction::from_levels(w, h, levels), reading.note, largest)
            }
        }
    };
    notes.extend(note);
    let prediction = prediction.map_err(|e| e.at(path.display()))?;
    Ok(Map { prediction, notes, stored: (depth, largest) })
}

/// Smallest and largest; not a number, if one of them is none.
fn range(values: &[f32]) -> (f64, f64) {
    if values.iter().any(|v| v.is_nan()) {
        return (f64::NAN, f64::NAN);
    }
    let of = |f: fn(f32, f32) -> f32, start: f32| f64::from(values.iter().copied().fold(start, f));
    (of(f32::min, f32::INFINITY), of(f32::max, f32::NEG_INFINITY))
}
