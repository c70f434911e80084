//! A name on the command line becomes a data set.

use std::path::PathBuf;

use super::item::Set;
use super::{coco, folders, list};
use crate::{Error, Result};

/// A data set's place and weight: `PATH` or `PATH=WEIGHT`.
#[derive(Clone, Debug, PartialEq)]
pub struct Source {
    /// A folder, a COCO json file or a text list.
    pub path: PathBuf,
    /// How often its pictures are drawn, beside a set of weight 1; above 0.
    pub weight: f64,
}

impl std::str::FromStr for Source {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let whole = PathBuf::from(text);
        if !whole.exists()
            && let Some((path, weight)) = text.rsplit_once('=')
            && let Ok(weight) = weight.parse::<f64>()
        {
            if !(weight > 0.0 && weight <= 1e6) {
                return Err(Error::usage(format!("{text}: {weight} is no weight of a data set"))
                    .remedy("give a number above 0, such as kvasir=2"));
            }
            return Ok(Self { path: path.into(), weight });
        }
        Ok(Self { path: whole, weight: 1.0 })
    }
}

/// Opens a data set: folders of pictures and masks, a COCO json file, or a text list.
///
/// # Errors
/// Something that is none of these, or holds no picture.
pub fn open(source: &Source) -> Result<Set> {
    let path = &source.path;
    let metadata = std::fs::metadata(path).map_err(|e| Error::read(path, e))?;
    let ending = path.extension().and_then(|e| e.to_str()).map(str::to_ascii_lowercase);
    let mut set = if metadata.is_dir() {
        folders::open(path)?
    } else if ending.as_deref() == Some("json") {
        coco::open(path)?
    } else {
        list::open(path)?
    };
    if set.items.is_empty() {
        let first = set.left_out.first().map_or(String::new(), |l| format!(" ({}: {})", l.name, l.why));
        return Err(Error::input(format!("{}: holds no picture with its mask{first}", path.display()))
            .remedy("give a folder with images/ and masks/, a COCO json, or a list of pairs"));
    }
    set.weight = source.weight;
    Ok(set)
}

/// Pictures of a folder that show nothing to find.
///
/// # Errors
/// No folder, or no picture in it.
pub fn negatives(source: &Source) -> Result<Set> {
    let mut set = folders::negatives(&source.path)?;
    set.weight = source.weight;
    Ok(set)
}
