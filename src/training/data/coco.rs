//! COCO json: pictures, annotations with polygons or run lengths (also compressed), categories.
//!
//! Every picture of the file belongs to the set; one without annotations shows nothing. Categories become classes in
//! the order of their numbers.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;

use super::item::{Item, LeftOut, Region, Set, Truth};
use super::place::{name_of, usable};
use super::rle;
use crate::still::names::natural_order;
use crate::{Error, Result, small_file};

/// Outlines of a hundred thousand pictures.
const LARGEST: u64 = 1 << 30;

/// A label map's pixel is a byte, and 0 is the background.
const MOST_CLASSES: usize = 255;

#[derive(Deserialize)]
struct File {
    images: Vec<Image>,
    #[serde(default)]
    annotations: Vec<Annotation>,
    #[serde(default)]
    categories: Vec<Category>,
}

#[derive(Deserialize)]
struct Image {
    id: i64,
    file_name: String,
}

#[derive(Deserialize)]
struct Annotation {
    image_id: i64,
    category_id: i64,
    #[serde(default)]
    segmentation: Option<Segmentation>,
}

#[derive(Deserialize)]
struct Category {
    id: i64,
    name: String,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Segmentation {
    Polygons(Vec<Vec<f64>>),
    Runs { size: [usize; 2], counts: Counts },
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Counts {
    Plain(Vec<u32>),
    Compressed(String),
}

pub fn open(path: &Path) -> Result<Set> {
    let bytes = small_file::read(path, LARGEST, "a COCO json")?;
    let file: File = serde_json::from_slice(&bytes).map_err(|e| {
        Error::input(format!("{}: is no COCO json ({e})", path.display()))
            .remedy("it wants images, annotations and categories")
            .because(e)
    })?;
    let mut categories = file.categories;
    categories.sort_by_key(|c| c.id);
    if categories.len() > MOST_CLASSES {
        let n = categories.len();
        return Err(Error::input(format!("{}: has {n} categories", path.display()))
            .remedy(format!("give at most {MOST_CLASSES}")));
    }
    let class = |id: i64| categories.iter().position(|c| c.id == id).map(|i| i as u8 + 1);
    let mut left_out = Vec::new();
    let mut regions: BTreeMap<i64, Vec<(u8, Region)>> = BTreeMap::new();
    let mut unusable: BTreeMap<i64, String> = BTreeMap::new();
    for a in file.annotations {
        // What such a picture shows is not known: without the annotation it would be trained on as healthy there.
        let mut leave = |why: String| {
            unusable.entry(a.image_id).or_insert(why);
        };
        let Some(class) = class(a.category_id) else {
            leave(format!("its category {} is not in the file", a.category_id));
            continue;
        };
        let region = match a.segmentation {
            None => {
                leave("an annotation has no segmentation".into());
                continue;
            }
            Some(Segmentation::Polygons(p)) => {
                if let Some(bad) = p.iter().find(|p| p.len() < 6 || p.len() % 2 == 1) {
                    leave(format!("a polygon has {} numbers", bad.len()));
                    continue;
                }
                Region::Polygons(p)
            }
            Some(Segmentation::Runs { size: [height, width], counts }) => {
                let counts = match counts {
                    Counts::Plain(c) => Some(c),
                    Counts::Compressed(text) => rle::decompress(&text),
                };
                let pixels = (height as u64).checked_mul(width as u64);
                let total = counts.as_ref().map(|c| c.iter().map(|&n| u64::from(n)).sum::<u64>());
                match counts {
                    Some(counts) if total == pixels => Region::Runs { width, height, counts },
                    _ => {
                        leave("its run lengths do not fill the picture".into());
                        continue;
                    }
                }
            }
        };
        regions.entry(a.image_id).or_default().push((class, region));
    }
    let set = name_of(path);
    let mut seen = BTreeSet::new();
    let mut items = Vec::with_capacity(file.images.len());
    for image in file.images {
        if !seen.insert(image.id) {
            let why = format!("another picture has its number, {}", image.id);
            left_out.push(LeftOut { name: image.file_name, why });
            continue;
        }
        let unusable = unusable.remove(&image.id);
        let Some(found) = locate(path, &image.file_name) else {
            left_out.push(LeftOut { name: image.file_name, why: "is not there".into() });
            continue;
        };
        if let Some(why) = unusable {
            left_out.push(LeftOut { name: image.file_name, why });
            continue;
        }
        let truth = match regions.remove(&image.id) {
            Some(regions) => Truth::Regions(Arc::new(regions)),
            None => Truth::Nothing,
        };
        let name = Path::new(&image.file_name).with_extension("").display().to_string();
        items.push(Item { set: Arc::clone(&set), name, image: found, truth });
    }
    // What is left is of no picture in the file.
    left_out.extend(unusable.into_iter().map(|(id, why)| LeftOut { name: format!("picture {id}"), why }));
    items.sort_by(|a, b| natural_order(&a.name, &b.name));
    let classes = categories.into_iter().map(|c| c.name).collect();
    Ok(Set { name: set, weight: 1.0, items, left_out, classes: Some(classes) })
}

/// A picture's name is as seen from the file's folder, or from `images` there or one folder up.
fn locate(json: &Path, name: &str) -> Option<PathBuf> {
    let folder = json.parent().unwrap_or(Path::new("."));
    [
        folder.join(name),
        folder.join("images").join(name),
        folder.join("../images").join(name),
        folder.join("..").join(name),
    ]
    .into_iter()
    .find(|p| usable(p))
}
