//! What the network will see: a recipe flows in, a picture of tiles flows out, each an augmented input with the outline
//! of what is to be found.

use image::{Rgb, RgbImage};

use super::super::augment::Input;
use super::super::data::read::read;
use super::super::loader::Recipe;
use super::super::random::Random;
use crate::Result;

const COLUMNS: usize = 6;
const GAP: u32 = 4;
const TRUTH: Rgb<u8> = Rgb([64, 255, 64]);
/// Colour of what a network marked.
pub const PREDICTED: Rgb<u8> = Rgb([255, 64, 255]);

/// `rows` rows of inputs at the largest size of the recipe; the first column is the picture as it is.
///
/// # Errors
/// No picture can be read.
pub fn sheet(recipe: &Recipe, rows: usize) -> Result<RgbImage> {
    let side = recipe.sizes.iter().copied().max().unwrap_or(352);
    let tile = side as u32 + GAP;
    let items = recipe.draws.items();
    let mut sheet = RgbImage::new(GAP + COLUMNS as u32 * tile, GAP + rows as u32 * tile);
    let order = recipe.draws.order(0);
    let mut row = 0;
    let mut fault = None;
    for &at in order.iter() {
        if row == rows {
            break;
        }
        let sample = match read(&items[at], &recipe.masks) {
            Ok(sample) => sample,
            Err(e) => {
                fault.get_or_insert(e);
                continue;
            }
        };
        for column in 0..COLUMNS {
            let mut augmentation = recipe.augmentation.clone();
            if column == 0 {
                augmentation.strength = super::super::augment::Strength::None;
            }
            let input =
                augmentation.view(&sample, (side, side), &mut Random::of(row as u64, &[column as u64]));
            let picture = outlined(&input);
            let (x, y) = (GAP + column as u32 * tile, GAP + row as u32 * tile);
            image::imageops::replace(&mut sheet, &picture, i64::from(x), i64::from(y));
        }
        row += 1;
    }
    match (row, fault) {
        (0, Some(e)) => Err(e),
        _ => Ok(sheet),
    }
}

fn outlined(input: &Input) -> RgbImage {
    let (h, w) = input.size;
    let mut picture = RgbImage::from_raw(w as u32, h as u32, input.rgb.clone()).unwrap_or_default();
    let inside: Vec<u8> = input.labels.iter().map(|l| u8::from(*l != 0)).collect();
    outline(&mut picture, &inside, TRUTH);
    picture
}

/// Draws the edge of a mask of the picture's own size.
pub fn outline(picture: &mut RgbImage, inside: &[u8], colour: Rgb<u8>) {
    let (w, h) = (picture.width() as usize, picture.height() as usize);
    let at = |x: isize, y: isize| {
        x >= 0 && y >= 0 && (x as usize) < w && (y as usize) < h && inside[y as usize * w + x as usize] != 0
    };
    for y in 0..h as isize {
        for x in 0..w as isize {
            let edge = at(x, y) && !(at(x - 1, y) && at(x + 1, y) && at(x, y - 1) && at(x, y + 1));
            if edge {
                picture.put_pixel(x as u32, y as u32, colour);
            }
        }
    }
}

/// A validation picture with truth and answer outlined, at most `side` pixels wide.
pub fn judged(picture: &RgbImage, truth: &[u8], answer: &[u8], side: u32) -> RgbImage {
    let (w, h) = picture.dimensions();
    let scale = f64::from(side) / f64::from(w);
    let (tw, th) = (side, ((f64::from(h) * scale) as u32).max(1));
    let mut out = image::imageops::resize(picture, tw, th, image::imageops::FilterType::Triangle);
    let small = |mask: &[u8]| -> Vec<u8> {
        (0..tw * th)
            .map(|i| {
                let (x, y) = (i % tw, i / tw);
                mask[((2 * y + 1) * h / (2 * th) * w + (2 * x + 1) * w / (2 * tw)) as usize]
            })
            .collect()
    };
    outline(&mut out, &small(truth), TRUTH);
    outline(&mut out, &small(answer), PREDICTED);
    out
}
