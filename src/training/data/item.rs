//! A picture of a data set and what is known of it.

use std::path::PathBuf;
use std::sync::Arc;

/// Outlines of a COCO file, in pixels of the picture.
#[derive(Clone, Debug, PartialEq)]
pub enum Region {
    /// Closed polygons, `x0, y0, x1, y1, …`.
    Polygons(Vec<Vec<f64>>),
    /// Lengths of alternating runs outside and inside, column by column.
    Runs {
        /// Columns of the picture they were made for.
        width: usize,
        /// Rows of that picture.
        height: usize,
        /// Pixels of each run, the first outside; they add up to `width · height`.
        counts: Vec<u32>,
    },
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
    /// What messages call it: mostly its file's stem, in a COCO file the name given there, without its ending.
    pub name: String,
    /// The picture's file.
    pub image: PathBuf,
    /// What is to be found on it, or where that is.
    pub truth: Truth,
}

/// A file or pair that was left out, in words.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct LeftOut {
    /// The file's stem or name, or the number of a COCO picture.
    pub name: String,
    /// The reason, in words that follow the name: `is a mask without its picture`.
    pub why: String,
}

/// A data set as it was found.
#[derive(Clone, Debug, PartialEq)]
pub struct Set {
    /// What messages and figures call it.
    pub name: Arc<str>,
    /// How often its pictures are drawn, beside a set of weight 1.
    pub weight: f64,
    /// In the order of their names.
    pub items: Vec<Item>,
    /// What was found and cannot be used.
    pub left_out: Vec<LeftOut>,
    /// Names of its classes, where the data say them.
    pub classes: Option<Vec<String>>,
}
