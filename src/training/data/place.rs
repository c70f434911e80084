//! Names and files of a data set's place.

use std::path::Path;
use std::sync::Arc;

use crate::still::names::is_picture;

/// What a set at this place is called: its folder's name, or the one above where that says nothing.
pub(super) fn name_of(path: &Path) -> Arc<str> {
    const PLAIN: [&str; 7] = ["train", "training", "images", "image", "data", "dataset", "annotations"];
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let name = |p: &Path| p.file_stem().map(|n| n.to_string_lossy().into_owned());
    let own = name(&absolute).unwrap_or_else(|| "data".into());
    let above = absolute.parent().and_then(name);
    match above {
        Some(above) if PLAIN.contains(&own.to_lowercase().as_str()) => format!("{above}-{own}").into(),
        _ => own.into(),
    }
}

/// Whether a path may be a picture of a set.
pub(super) fn usable(path: &Path) -> bool {
    is_picture(path) && path.is_file()
}
