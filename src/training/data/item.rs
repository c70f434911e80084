//! A picture of a data set and what is known of it.

use std::path::PathBuf;
use std::sync::Arc;

/// Outlines of a COCO file, in pixels of the picture.
#[derive(Clone, Debug, PartialEq)]
pub enum Region {
    /// Closed polygons, `x0, y0, x1, y1, …`.
    Polygons(Vec<Vec<f64>>),
    /// Lengths of alternating runs outside and inside, column by column.
    Runs { width: usize, height: usize, counts: Vec<u32> },
}

/// Where the truth of a picture is.
#[derive(Clone, Debug, PartialEq)]
pub enum Truth {
    /// A mask file.
    Mask(PathBuf),
    /// Regions with their class (from 1), painted in this order.
    Regions(Arc<Vec<(u8, Region)>>),
    /// Nothing is on the picture.
    Nothing,
}

/// A picture of a data set.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    /// Its set's name, and its own within it.
    pub set: Arc<str>,
    pub name: String,
    pub image: PathBuf,
    pub truth: Truth,
}

/// A file or pair that was left out, in words.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct LeftOut {
    pub name: String,
    pub why: String,
}

/// A data set as it was found.
#[derive(Clone, Debug, PartialEq)]
pub struct Set {
    pub name: Arc<str>,
    /// How often its pictures are drawn, beside a set of weight 1.
    pub weight: f64,
    /// In the order of their names.
    pub items: Vec<Item>,
    pub left_out: Vec<LeftOut>,
    /// Names of its classes, where the data say them.
    pub classes: Option<Vec<String>>,
}
