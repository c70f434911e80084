//! Recordings as files to read: those that are files already, and copies of those that lie in a bucket.
//!
//! In: a unit's address. Out: a path, and with it the copy's life. One copy is there at a time, and none larger than
//! was allowed.

use std::path::{Path, PathBuf};

use super::address::Address;
use super::bucket;
use crate::Result;

/// Where copies go, and how large one may be.
#[derive(Clone, Debug)]
pub struct Staging {
    /// Made where it is not there; each copy has a folder of its own in it.
    pub folder: PathBuf,
    /// A recording of more bytes is refused.
    pub most_bytes: u64,
}

/// A recording that can be read now.
pub(super) struct Local {
    pub path: PathBuf,
    /// Removes the copy.
    _copy: Option<tempfile::TempDir>,
}

/// Makes a recording readable.
///
/// # Errors
/// A copy that would be too large, a bucket that does not answer, a full disk.
pub(super) fn fetch(address: &str, staging: &Staging) -> Result<Local> {
    match Address::of(address)? {
        Address::Folder(path) => Ok(Local { path: path.to_owned(), _copy: None }),
        Address::Bucket { bucket, key } => {
            let (path, copy) = bucket::copy(address, (bucket, key), &staging.folder, staging.most_bytes)?;
            Ok(Local { path, _copy: Some(copy) })
        }
    }
}

/// The addresses of what lies under an address of a bucket.
///
/// # Errors
/// A bucket that does not answer.
pub(super) fn list(address: &str) -> Result<Vec<String>> {
    match Address::of(address)? {
        Address::Folder(_) => Ok(Vec::new()),
        Address::Bucket { bucket, key } => bucket::list(address, bucket, key),
    }
}

/// Whether a name is an address in a bucket.
pub(super) fn is_remote(name: &Path) -> bool {
    name.to_str().is_some_and(|n| n.starts_with("s3://"))
}
