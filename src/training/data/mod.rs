//! Data sets: folders, COCO files and lists flow in, pictures with their label maps flow out.
//!
//! | file | holds |
//! |---|---|
//! | `item` | a picture, its truth and its group |
//! | `open` | which form a data set has |
//! | `folders`, `coco`, `list` | the three forms |
//! | `polygons`, `rle` | outlines and run lengths to label maps |
//! | `read` | one item's pixels |
//! | `check` | what is wrong with data sets before anything is trained on them |
//! | `split` | training and validation apart, by group |

pub mod check;
mod coco;
mod folders;
pub mod item;
mod list;
pub mod open;
mod place;
mod polygons;
pub mod read;
mod rle;
pub mod split;

#[cfg(test)]
mod tests;
