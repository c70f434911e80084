//! One item's pixels: the picture and its label map, of one size.

use image::RgbImage;

use super::item::{Item, Region, Truth};
use super::{polygons, rle};
use crate::evaluation::images::{Classes, MaskLevels, NoteKind, read_masks};
use crate::still::{lie_across, load_rgb};
use crate::{Error, Result};

/// How masks are read.
#[derive(Clone, Debug, Default)]
pub struct Masks {
    /// Which values or colours are which class.
    pub classes: Classes,
    /// Which levels belong to polyps, where there is one class.
    pub levels: MaskLevels,
}

/// A picture and its labels: 0 for background, else the class plus one.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Upright, 8 bits a channel.
    pub picture: RgbImage,
    /// Row-major, as many as the picture has pixels.
    pub labels: Vec<u8>,
    /// What had to be decided about the mask.
    pub notes: Vec<NoteKind>,
}

impl Sample {
    /// Whether nothing is to be found on it.
    pub fn is_empty(&self) -> bool {
        self.labels.iter().all(|l| *l == 0)
    }
}

/// Reads a picture and its truth. A mask of another size but the same proportions is brought to the picture's size.
///
/// # Errors
/// Unreadable, or of another shape than each other, by the file's name; a class beyond what is trained.
pub fn read(item: &Item, masks: &Masks) -> Result<Sample> {
    let picture = load_rgb(&item.image)?;
    let (w, h) = (picture.width() as usize, picture.height() as usize);
    let known = masks.classes.names().len();
    let (labels, notes) = match &item.truth {
        Truth::Nothing => (vec![0; w * h], Vec::new()),
        Truth::Regions(regions) => {
            let mut labels = vec![0; w * h];
            for (class, region) in regions.iter() {
                if usize::from(*class) > known {
                    return Err(Error::input(format!(
                        "{}: holds class {class}, {known} are trained",
                        item.image.display()
                    ))
                    .remedy("name all classes with --classes"));
                }
                match region {
                    Region::Polygons(rings) => polygons::paint(rings, (w, h), &mut labels, *class),
                    Region::Runs { width, height, counts } if (*width, *height) == (w, h) => {
                        rle::paint(counts, h, &mut labels, *class);
                    }
                    Region::Runs { width, height, .. } => {
                        return Err(Error::input(format!(
                            "{}: is {w}x{h}, its run lengths are of {width}x{height}",
                            item.image.display()
                        ))
                        .remedy("correct the COCO file"));
                    }
                }
            }
            (labels, Vec::new())
        }
        Truth::Mask(path) => {
            let (found, notes) = read_masks(path, &masks.classes, masks.levels)?;
            let (mw, mh) = (found[0].width(), found[0].height());
            let proportion = (mw * h) as f64 / (mh * w) as f64;
            if lie_across((w, h), (mw, mh)) || (proportion - 1.0).abs() > 0.02 {
                return Err(Error::input(format!(
                    "{}: is {mw}x{mh}, its picture {} is {w}x{h}",
                    path.display(),
                    item.image.display()
                ))
                .remedy("give each picture the mask made for it"));
            }
            let mut labels = vec![0; w * h];
            for (class, mask) in found.iter().enumerate() {
                for (y, row) in labels.chunks_exact_mut(w).enumerate() {
                    let from = (2 * y + 1) * mh / (2 * h) * mw;
                    for (x, label) in row.iter_mut().enumerate() {
                        if mask.pixels()[from + (2 * x + 1) * mw / (2 * w)] != 0 {
                            *label = class as u8 + 1;
                        }
                    }
                }
            }
            (labels, notes)
        }
    };
    Ok(Sample { picture, labels, notes })
}
