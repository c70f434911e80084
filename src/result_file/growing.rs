//! Files that grow for as long as a session lasts.
//!
//! In: lines as they come. Out: `NAME.part`, which takes its name when the session is over. A session that is killed
//! leaves it: what happened until then is worth having, under a name that says it is not whole.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::aside::{Lock, is_called, lock, rename_new};
use super::outputs::parts_of;
use crate::{Error, Result};

/// See the module. Dropped before it holds anything, it leaves nothing behind.
pub(crate) struct GrowingFile {
    path: PathBuf,
    part: PathBuf,
    out: BufWriter<File>,
    /// The target was there before, and is to be replaced.
    replace: bool,
    /// What was left beside it before, and goes with it.
    left: Vec<PathBuf>,
    /// Something that happened is in it.
    holds: bool,
    finished: bool,
}

impl GrowingFile {
    /// Begins `path.part`, beside those that others have left. A file that is there at `path` now will be replaced:
    /// whether it may be was asked before ([`super::Outputs`]).
    ///
    /// # Errors
    /// A folder that is not there or not writable.
    pub(crate) fn create(path: &Path) -> Result<Self> {
        let failed = |e| Error::write(path, e);
        let mut left = Vec::new();
        for part in parts_of(path) {
            match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&part) {
                Ok(file) => {
                    // Another session may have taken it for one that was left.
                    if lock(&file) == Lock::Theirs || !is_called(&file, &part) {
                        continue;
                    }
                    return Ok(Self {
                        path: path.to_owned(),
                        part,
                        out: BufWriter::new(file),
                        replace: path.symlink_metadata().is_ok(),
                        left,
                        holds: false,
                        finished: false,
                    });
                }
                Err(e) if e.kind() == ErrorKind::AlreadyExists => left.push(part),
                Err(e) => return Err(failed(e)),
            }
        }
        Err(failed(ErrorKind::AlreadyExists.into()))
    }

    /// Where it is until it is whole.
    pub(crate) fn part(&self) -> &Path {
        &self.part
    }

    /// From now on it is worth keeping.
    pub(crate) fn holds(&mut self) {
        self.holds = true;
    }

    /// Removes it, whatever it holds.
    pub(crate) fn discard(mut self) {
        self.holds = false;
    }

    /// Gives it its name, and removes what sessions that were killed have left beside it.
    pub(crate) fn finish(mut self) -> Result<()> {
        self.out.flush().map_err(|e| Error::write(&self.path, e))?;
        let named = if self.replace {
            std::fs::rename(&self.part, &self.path)
        } else {
            rename_new(&self.part, &self.path, false)
        };
        named.map_err(|e| super::not_named(&self.path, e))?;
        self.finished = true;
        // Its replacement stands.
        for left in &self.left {
            if File::open(left).is_ok_and(|file| lock(&file) == Lock::Ours && is_called(&file, left)) {
                let _ = std::fs::remove_file(left);
            }
        }
        Ok(())
    }
}

impl Write for GrowingFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.out.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

impl Drop for GrowingFile {
    fn drop(&mut self) {
        if !self.finished && !self.holds {
            let _ = std::fs::remove_file(&self.part);
        }
    }
}
