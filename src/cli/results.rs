//! Result files: bytes flow in, a finished file readable by its owner flows out, or nothing.

use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::{Error, Result};

/// Refuses a result that is already there, unless it may be replaced.
pub(super) fn check_free(path: &Path, force: bool) -> Result<()> {
    if path.is_dir() {
        return Err(Error::output(format!("{}: is a folder", path.display())).remedy("name a file"));
    }
    if !force && path.symlink_metadata().is_ok() {
        return Err(Error::output(format!("{}: exists already", path.display()))
            .remedy("choose another name, or add --force to replace it"));
    }
    Ok(())
}

/// A file written aside, which gets its name only when it is whole.
pub(super) struct ResultFile {
    path: PathBuf,
    aside: BufWriter<NamedTempFile>,
}

impl ResultFile {
    /// # Errors
    /// The folder is not there or not writable.
    pub(super) fn create(path: &Path) -> Result<Self> {
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let aside = tempfile::Builder::new()
            .prefix(".polypscope-")
            .tempfile_in(folder)
            .map_err(|e| Error::write(path, e))?;
        Ok(Self { path: path.to_owned(), aside: BufWriter::new(aside) })
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.aside.write_all(bytes).map_err(|e| Error::write(&self.path, e))
    }

    pub(super) fn line(&mut self, text: &str) -> Result<()> {
        self.write(text.as_bytes())?;
        self.write(b"\n")
    }

    /// Gives the file its name.
    pub(super) fn finish(self) -> Result<()> {
        let file = self.aside.into_inner().map_err(|e| Error::write(&self.path, e.into_error()))?;
        file.persist(&self.path).map_err(|e| Error::write(&self.path, e.error))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn appears_whole_private_and_only_at_the_end() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.csv");
        check_free(&path, false).unwrap();
        let mut file = ResultFile::create(&path).unwrap();
        file.line("one").unwrap();
        assert!(!path.exists());
        file.finish().unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "one\n");
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert!(check_free(&path, false).unwrap_err().to_string().contains("--force"));
        check_free(&path, true).unwrap();
        assert!(check_free(folder.path(), true).is_err());
        drop(ResultFile::create(&path).unwrap());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        assert!(ResultFile::create(&folder.path().join("none/a.csv")).is_err());
    }
}
