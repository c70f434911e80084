//! What a folder holds: its path flows in, the paths of its entries flow out, in natural order.

use std::path::{Path, PathBuf};

use super::names::{is_litter, natural_order};
use crate::{Error, Result};

/// Everything in a folder, as people count.
pub(crate) fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(|e| Error::read(folder, e))? {
        paths.push(entry.map_err(|e| Error::read(folder, e))?.path());
    }
    paths.sort_by(|a, b| natural_order(a.as_os_str().as_encoded_bytes(), b.as_os_str().as_encoded_bytes()));
    Ok(paths)
}

/// The files of a folder as people count: `frame9` before `frame10`. What systems leave there is left out.
pub(crate) fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = entries(folder)?;
    files.retain(|path| path.is_file() && !path.file_name().is_some_and(is_litter));
    Ok(files)
}
