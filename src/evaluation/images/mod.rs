//! Data sets of pictures: folders of masks and of predictions (or of images and a network) flow in, figures over each
//! data set, a row per picture and a contact sheet of the worst flow out.
//!
//! Files pair by their stem. Scoring streams on all cores in windows of a few pictures, so memory does not grow with
//! the set, and adds up in the order of names, so figures do not depend on the number of cores. Whatever is wrong with
//! a file is named and counted: it is either handled by the rule its [`Note`] states, or left out as a [`Problem`].

mod caption;
mod classes;
mod levels;
mod note;
mod pairing;
pub(in crate::evaluation) mod read;
mod report;
pub(in crate::evaluation) mod scale;
mod score;
mod sheet;

pub use classes::Classes;
pub use levels::MaskLevels;
pub use note::{Note, NoteKind, Problem, ProblemKind};
pub(in crate::evaluation) use pairing::list_pictures;
pub use read::masks as read_masks;
pub use report::{CSV_HEADER, DataSetReport, Row, Worst, csv_line, json, protocol_line, table};
pub use score::{DataSet, Event, Options, Predict, Rank, score};
pub use sheet::contact_sheet;

#[cfg(test)]
mod tests;
