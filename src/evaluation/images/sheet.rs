//! The contact sheet: the worst pictures of the data sets flow in, one picture of tiles flows out. Each tile shows the
//! picture with the outline of the ground truth and of the prediction, its name and its figure.

use image::{Rgb, RgbImage, imageops};

use super::caption::{self, ADVANCE, GLYPH_HEIGHT};
use super::read;
use super::report::{DataSetReport, Worst};
use super::score::{Options, Predict, load};
use crate::evaluation::metrics::{Mask, Prediction, Protocol};
use crate::{Error, Result};

/// Width of a tile's picture.
const TILE: u32 = 320;
const MARGIN: u32 = 8;
const COLUMNS: usize = 4;
/// Two lines of text.
const CAPTION: u32 = 2 * (GLYPH_HEIGHT + 4) + 2;

const GROUND: Rgb<u8> = Rgb([24, 24, 24]);
const TEXT: Rgb<u8> = Rgb([230, 230, 230]);
const TRUTH: Rgb<u8> = Rgb([64, 255, 64]);
const PREDICTED: Rgb<u8> = Rgb([255, 64, 255]);

/// The worst pictures of the reports, a legend on top. Predictions of a network are made once more.
///
/// # Errors
/// A file that was readable while scoring no longer is, or there is nothing to show.
pub fn contact_sheet(
    reports: &[DataSetReport],
    options: &Options,
    mut predict: Option<&mut dyn Predict>,
) -> Result<RgbImage> {
    let mut tiles = Vec::new();
    for report in reports {
        for worst in &report.worst {
            tiles.push(tile(report, worst, options, &mut predict)?);
        }
    }
    if tiles.is_empty() {
        return Err(Error::input("no picture was scored, so there is no worst to show"));
    }
    let columns = tiles.len().min(COLUMNS);
    let heights: Vec<u32> =
        tiles.chunks(columns).map(|row| row.iter().map(RgbImage::height).max().unwrap_or(0)).collect();
    let legend = GLYPH_HEIGHT + 2 * MARGIN;
    let width = MARGIN + columns as u32 * (TILE + MARGIN);
    let height = legend + heights.iter().map(|h| h + MARGIN).sum::<u32>();
    let mut sheet = RgbImage::from_pixel(width, height, GROUND);
    let mut x = MARGIN;
    for (text, colour) in [("truth", TRUTH), ("prediction", PREDICTED), ("worst first", TEXT)] {
        caption::draw(&mut sheet, x, MARGIN, text, colour);
        x += (text.len() as u32 + 2) * ADVANCE;
    }
    let mut y = legend;
    for (row, height) in tiles.chunks(columns).zip(heights) {
        for (column, tile) in row.iter().enumerate() {
            let x = MARGIN + column as u32 * (TILE + MARGIN);
            imageops::replace(&mut sheet, tile, i64::from(x), i64::from(y));
        }
        y += height + MARGIN;
    }
    Ok(sheet)
}

fn tile(
    report: &DataSetReport,
    worst: &Worst,
    options: &Options,
    predict: &mut Option<&mut dyn Predict>,
) -> Result<RgbImage> {
    let image = worst.files.image.as_deref().map(read::image).transpose()?;
    let predicted = match (&worst.files.prediction, predict, &image) {
        (None, Some(predict), Some(image)) => Some(predict.predict(image)),
        _ => None,
    };
    let mut pairs = load(&worst.files, predicted, options, &report.scales)?.pairs;
    let (truth, mut prediction) = pairs.swap_remove(worst.class_number);
    let (w, h) = (truth.width(), truth.height());
    // A picture that lies on its side would be shown under marks of another.
    let image =
        image.filter(|i| !crate::still::lie_across((w, h), (i.width() as usize, i.height() as usize)));
    if matches!(options.protocol, Protocol::Published) {
        prediction = prediction.to_levels()?;
    }
    if (prediction.width(), prediction.height()) != (w, h) {
        prediction = prediction.resized(w, h);
    }
    let inside = outline_of(options.protocol, &prediction);

    let (tw, th) = (TILE, ((TILE as usize * h).div_ceil(w) as u32).clamp(1, 4 * TILE));
    let ground = match image {
        Some(image) => imageops::resize(&image, tw, th, imageops::FilterType::Triangle),
        None => {
            let grey = prediction.to_levels()?.resized(tw as usize, th as usize);
            let Prediction::Levels { pixels, .. } = grey else {
                return Err(Error::internal("a map of levels became something else"));
            };
            RgbImage::from_fn(tw, th, |x, y| {
                let v = pixels[y as usize * tw as usize + x as usize];
                Rgb([v, v, v])
            })
        }
    };
    let mut tile = RgbImage::from_pixel(tw, th + CAPTION, GROUND);
    imageops::replace(&mut tile, &ground, 0, 0);
    outline(&mut tile, th, truth.pixels(), &truth, TRUTH);
    outline(&mut tile, th, &inside, &truth, PREDICTED);

    let fits = (TILE / ADVANCE) as usize;
    let mut name = worst.name.clone();
    if name.chars().count() > fits {
        // The end tells names of a series apart.
        let tail: Vec<char> = name.chars().rev().take(fits - 2).collect();
        name = format!("..{}", tail.into_iter().rev().collect::<String>());
    }
    caption::draw(&mut tile, 0, th + 4, &name, TEXT);
    let mut line = format!("{} {}={:.3}", report.name, options.rank.name(), worst.value);
    if report.classes.len() > 1 {
        line = format!("{line} {}", worst.class);
    }
    caption::draw(&mut tile, 0, th + 4 + GLYPH_HEIGHT + 4, &line, TEXT);
    Ok(tile)
}

/// The binary mask that the protocol's IoU is of.
fn outline_of(protocol: Protocol, prediction: &Prediction<'_>) -> Vec<u8> {
    match (protocol, prediction) {
        (Protocol::Thresholded { threshold }, p) => p.binary(threshold),
        (Protocol::Published, Prediction::Levels { pixels, .. }) => {
            let p = crate::evaluation::metrics::plain::probabilities(protocol, pixels);
            p.iter().map(|&p| u8::from(p > 0.5)).collect()
        }
        (Protocol::Published, p) => p.binary(0.5),
    }
}

/// Draws the boundary of a mask over the top `height` rows of a tile: pixels inside with a neighbour outside.
fn outline(tile: &mut RgbImage, height: u32, inside: &[u8], truth: &Mask, colour: Rgb<u8>) {
    let (w, h) = (truth.width(), truth.height());
    let width = tile.width();
    let at = |x: i64, y: i64| {
        if x < 0 || y < 0 || x >= i64::from(width) || y >= i64::from(height) {
            return false;
        }
        let sx = ((2 * x as usize + 1) * w) / (2 * width as usize);
        let sy = ((2 * y as usize + 1) * h) / (2 * height as usize);
        inside[sy.min(h - 1) * w + sx.min(w - 1)] == 1
    };
    for y in 0..i64::from(height) {
        for x in 0..i64::from(width) {
            if at(x, y) && !(at(x - 1, y) && at(x + 1, y) && at(x, y - 1) && at(x, y + 1)) {
                tile.put_pixel(x as u32, y as u32, colour);
            }
        }
    }
}
