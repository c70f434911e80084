//! What went wrong with a unit, for those who look after a fleet.
//!
//! In: an error. Out: an object of the store whose sentence names no file, and whether another try may go well.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::store::Store;
use crate::{Error, Kind, Result};

/// `failures/KEY/ID.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Failure {
    pub reason: String,
    /// Seconds since 1970.
    pub at: u64,
}

/// Where failures lie.
pub(super) const FOLDER: &str = "failures";

/// Keeps a failure. One that cannot be kept is only logged: what failed may be the store.
pub(super) fn keep(store: &Store, key: &str, reason: &str) {
    let kept = || -> Result<()> {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let failure = Failure { reason: reason.to_owned(), at: since.as_secs() };
        let bytes =
            serde_json::to_vec(&failure).map_err(|e| Error::internal("a failure is no JSON").because(e))?;
        let id = format!("{:020}-{}", since.as_nanos(), std::process::id());
        store.create(&format!("{FOLDER}/{key}/{id}.json"), bytes)?;
        Ok(())
    };
    if let Err(e) = kept() {
        tracing::warn!("a failure could not be kept: {e}");
    }
}

/// The sentence with the recording's path and name taken out.
pub(super) fn without_names(text: &str, paths: &[&Path]) -> String {
    let mut text = text.to_owned();
    for path in paths {
        let mut names = vec![path.display().to_string()];
        names.extend(path.file_name().map(|n| n.to_string_lossy().into_owned()));
        names.extend(path.file_stem().map(|n| n.to_string_lossy().into_owned()));
        for name in names.iter().filter(|n| n.len() > 1) {
            text = text.replace(name.as_str(), "the recording");
        }
    }
    text
}

/// Whether an error lies in the recording, and so comes again with every try.
pub(super) fn is_the_recordings(e: &Error) -> bool {
    e.kind() == Kind::Input && e.fault().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_name_no_file() {
        let path = Path::new("/archive/Miller Anna/1960-02-03.mp4");
        let e = Error::input(format!("{}: is not a video", path.display()));
        assert_eq!(without_names(&e.to_string(), &[path]), "the recording: is not a video");
        assert_eq!(
            without_names("1960-02-03.mp4: x; 1960-02-03: y", &[path]),
            "the recording: x; the recording: y"
        );
        assert_eq!(without_names("nothing of it", &[path]), "nothing of it");
    }
}
