//! Files that others keep: results are written aside and take their names only when they are whole.
//!
//! In: bytes, and the names they are to have. Out: files for their owner's eyes only, all of them or none; what was
//! there before stays until its replacement is complete. Outputs are looked at before the work starts ([`Outputs`]).
//! What a process leaves behind that was killed is removed by the next one that writes into the same folder
//! ([`Aside`]).

mod aside;
#[cfg(feature = "video")]
mod growing;
mod outputs;

pub(crate) use aside::{Aside, abandon_all, rename_new};
#[cfg(feature = "video")]
pub(crate) use growing::GrowingFile;
pub(crate) use outputs::{Outputs, check_free};
#[cfg(feature = "video")]
pub(crate) use outputs::{check_folder, check_writable};

use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use crate::{Error, Result};

/// A file written aside, which gets its name only when it is whole. Dropped before, it leaves nothing behind.
pub(crate) struct ResultFile {
    path: PathBuf,
    force: bool,
    /// First: what is in the buffer must not be written once the file is gone.
    out: BufWriter<std::fs::File>,
    aside: Aside,
}

impl ResultFile {
    /// Begins a file that will be called `path`; with `force` it replaces the one that is there.
    ///
    /// # Errors
    /// A file that is there, without `force`; a folder that is not there or not writable.
    pub(crate) fn create(path: &Path, force: bool) -> Result<Self> {
        check_free(path, force)?;
        let aside = Aside::file(folder_of(path)).map_err(|e| Error::write(path, e))?;
        let out = aside.handle().try_clone().map_err(|e| Error::write(path, e))?;
        Ok(Self { path: path.to_owned(), force, out: BufWriter::new(out), aside })
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.out.write_all(bytes).map_err(|e| Error::write(&self.path, e))
    }

    pub(crate) fn line(&mut self, text: &str) -> Result<()> {
        self.write(text.as_bytes())?;
        self.write(b"\n")
    }

    /// Gives the file its name.
    pub(crate) fn finish(mut self) -> Result<()> {
        let failed = |e| Error::write(&self.path, e);
        self.out.flush().map_err(failed)?;
        if self.force && self.path.exists() {
            // On disk before it takes the name of what was there.
            self.out.get_ref().sync_all().map_err(failed)?;
        }
        self.aside.publish(&self.path, self.force).map_err(|e| not_named(&self.path, e))
    }
}

/// Writes a whole file at once.
pub(crate) fn write_whole(path: &Path, bytes: &[u8], force: bool) -> Result<()> {
    let mut file = ResultFile::create(path, force)?;
    file.write(bytes)?;
    file.finish()
}

/// What keeps a finished file from getting its name.
pub(crate) fn not_named(path: &Path, e: std::io::Error) -> Error {
    match e.kind() {
        std::io::ErrorKind::AlreadyExists => outputs::taken(path),
        _ => Error::write(path, e),
    }
}

/// A folder only its owner can look into, if it is not there yet.
#[cfg(feature = "video")]
pub(crate) fn make_folder(path: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|e| Error::write(path, e))
}

/// The folder a file lies in.
pub(crate) fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn appears_whole_private_and_only_at_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.csv");
        let mut file = ResultFile::create(&path, false).unwrap();
        file.line("one").unwrap();
        assert!(!path.exists());
        file.finish().unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "one\n");
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert!(ResultFile::create(&path, false).err().unwrap().to_string().contains("--force"));
        assert!(check_free(folder.path(), true).is_err());
        drop(ResultFile::create(&path, true).unwrap());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "one\n", "until it is replaced");
        let mut file = ResultFile::create(&path, true).unwrap();
        file.line("two").unwrap();
        file.finish().unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "two\n");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        assert!(ResultFile::create(&folder.path().join("none/a.csv"), true).is_err());
    }

    #[test]
    fn a_file_that_appears_meanwhile_is_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        let mut file = ResultFile::create(&path, false).unwrap();
        file.line("ours").unwrap();
        std::fs::write(&path, "theirs").unwrap();
        assert!(file.finish().unwrap_err().to_string().contains("exists already"));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "theirs");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
