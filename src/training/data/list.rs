//! A text list: a line a picture, `IMAGE MASK` apart by a tab, a comma or blanks; without a mask, or with `-` for it,
//! nothing is on the picture. Paths are as seen from the list's folder; `#` begins a remark.

use std::path::Path;
use std::sync::Arc;

use super::item::{Item, LeftOut, Set, Truth};
use super::place::{name_of, usable};
use crate::small_file::Lines;
use crate::{Error, Result};

/// More lines than any data set of this field has pictures.
const MOST: usize = 10_000_000;

pub fn open(path: &Path) -> Result<Set> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let set = name_of(path);
    let mut items = Vec::new();
    let mut left_out = Vec::new();
    for (i, line) in Lines::open(path, "a list of pictures and masks, a COCO json, or a folder")?.enumerate()
    {
        let line = line?;
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if i >= MOST {
            return Err(Error::input(format!("{}: has more than {MOST} lines", path.display()))
                .remedy("give a list of pictures and masks"));
        }
        let (image, mask) = parts(line);
        let absolute = |p: &str| folder.join(p);
        let image = absolute(image);
        let truth = match mask {
            None | Some("-") => Truth::Nothing,
            Some(mask) => Truth::Mask(absolute(mask)),
        };
        let missing = match &truth {
            Truth::Mask(mask) if !mask.is_file() => Some(format!("{} is not there", mask.display())),
            _ if !usable(&image) => Some(format!("{} is no picture", image.display())),
            _ => None,
        };
        let name = image.with_extension("");
        let name = name.strip_prefix(folder).unwrap_or(&name).display().to_string();
        match missing {
            Some(why) => left_out.push(LeftOut { name: format!("line {}", i + 1), why }),
            None => items.push(Item { set: Arc::clone(&set), name, image, truth }),
        }
    }
    Ok(Set { name: set, weight: 1.0, items, left_out, classes: None })
}

fn parts(line: &str) -> (&str, Option<&str>) {
    for between in ['\t', ','] {
        if let Some((image, mask)) = line.split_once(between) {
            let mask = mask.trim();
            return (image.trim(), (!mask.is_empty()).then_some(mask));
        }
    }
    // Blanks part two paths only where each has an ending; a name may hold blanks itself.
    let at = line.match_indices(' ').map(|(i, _)| i).find(|&i| {
        let (image, mask) = (line[..i].trim(), line[i..].trim());
        Path::new(image).extension().is_some() && (mask == "-" || Path::new(mask).extension().is_some())
    });
    match at {
        Some(at) => (line[..at].trim(), Some(line[at..].trim())),
        None => (line, None),
    }
}
