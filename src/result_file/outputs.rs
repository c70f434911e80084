//! Whether outputs can be written, asked before any work is done.
//!
//! In: the names that a command was given for its outputs and inputs. Out: nothing, or the sentence that says what is
//! wrong. Nothing is made and nothing is changed.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

#[cfg(feature = "video")]
use super::aside::{Lock, lock};
use super::folder_of;
use crate::{Error, Result};

pub(super) fn taken(path: &Path) -> Error {
    Error::output(format!("{}: exists already", path.display()))
        .remedy("choose another name, or add --force to replace it")
}

/// Refuses a result that is already there, unless it may be replaced, and whatever could not be replaced by a file.
pub(crate) fn check_free(path: &Path, force: bool) -> Result<()> {
    if path.is_dir() {
        return Err(Error::output(format!("{}: is a folder", path.display())).remedy("name a file"));
    }
    if path.file_name().is_none() {
        return Err(Error::usage(format!("{}: is no name for a file", path.display())).remedy("name a file"));
    }
    let Ok(there) = path.symlink_metadata() else { return Ok(()) };
    if !force {
        return Err(taken(path));
    }
    if !there.is_file() && !there.is_symlink() {
        return Err(Error::output(format!("{}: is a device, a pipe or a socket", path.display()))
            .remedy("name a file"));
    }
    Ok(())
}

/// Whether files can be made in this folder, which must be there.
pub(crate) fn check_writable(path: &Path, folder: &Path) -> Result<()> {
    match folder.metadata() {
        Ok(m) if m.is_dir() => {}
        Ok(_) => {
            return Err(Error::output(format!("{}: {} is not a folder", path.display(), folder.display()))
                .remedy("choose another name"));
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            return Err(Error::output(format!(
                "{}: there is no folder {}",
                path.display(),
                folder.display()
            ))
            .remedy("create it first"));
        }
        Err(e) => return Err(Error::write(path, e)),
    }
    access(folder).map_err(|e| Error::write(path, e))
}

/// Asks the system whether this process may make files in a folder.
fn access(folder: &Path) -> std::io::Result<()> {
    let name = CString::new(folder.as_os_str().as_bytes())?;
    // SAFETY: the string ends in a zero byte and lives through the call.
    let answer =
        unsafe { libc::faccessat(libc::AT_FDCWD, name.as_ptr(), libc::W_OK | libc::X_OK, libc::AT_EACCESS) };
    if answer == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

/// Whether this folder can be written, or made with those above it.
#[cfg_attr(not(feature = "video"), allow(dead_code))]
pub(crate) fn check_folder(dir: &Path) -> Result<()> {
    let there = dir.ancestors().find(|d| !d.as_os_str().is_empty() && d.symlink_metadata().is_ok());
    let there = there.unwrap_or(Path::new("."));
    match there.metadata() {
        Ok(m) if m.is_dir() => access(there).map_err(|e| Error::write(dir, e)),
        Ok(_) => Err(Error::output(format!("{}: is not a folder", there.display())).remedy("name a folder")),
        Err(e) => Err(Error::write(there, e)),
    }
}

/// The names a growing file may have until it is whole: `NAME.part`, `NAME.part2` and so on.
#[cfg(feature = "video")]
pub(super) fn parts_of(path: &Path) -> impl Iterator<Item = PathBuf> {
    let base = path.as_os_str().to_owned();
    (1..1000).map(move |n| {
        let mut name = base.clone();
        name.push(if n == 1 { ".part".to_owned() } else { format!(".part{n}") });
        PathBuf::from(name)
    })
}

/// The outputs of one command, which must not meet each other nor what it reads.
pub(crate) struct Outputs {
    force: bool,
    inputs: Vec<PathBuf>,
    files: Vec<(&'static str, PathBuf)>,
}

impl Outputs {
    pub(crate) fn new(force: bool) -> Self {
        Self { force, inputs: Vec::new(), files: Vec::new() }
    }

    /// A file the command reads.
    pub(crate) fn reads(&mut self, path: &Path) -> &mut Self {
        self.inputs.push(real(path));
        self
    }

    /// A file the command writes; `option` is what it was named with.
    ///
    /// # Errors
    /// A file that is there (without `--force`), a folder in its place, a folder that is missing or may not be written,
    /// a name that is an input's or another output's.
    pub(crate) fn file(&mut self, option: &'static str, path: &Path) -> Result<()> {
        self.add(option, path, self.force)
    }

    /// A file that what it holds is added to: it may be there.
    ///
    /// # Errors
    /// As [`Outputs::file`].
    #[cfg(feature = "video")]
    pub(crate) fn appended(&mut self, option: &'static str, path: &Path) -> Result<()> {
        self.add(option, path, true)
    }

    fn add(&mut self, option: &'static str, path: &Path, force: bool) -> Result<()> {
        check_free(path, force)?;
        check_writable(path, folder_of(path))?;
        let place = real(path);
        if self.inputs.contains(&place) {
            return Err(Error::usage(format!("{option} {}: is what is read", path.display()))
                .remedy("choose another name"));
        }
        if let Some((other, _)) = self.files.iter().find(|(_, p)| *p == place) {
            return Err(Error::usage(format!("{option} {}: is also the file of {other}", path.display()))
                .remedy("give each its own name"));
        }
        self.files.push((option, place));
        Ok(())
    }

    /// A file that grows while the command runs, see [`super::GrowingFile`].
    ///
    /// # Errors
    /// As [`Outputs::file`]; what an earlier session has left, without `--force`; one that another session writes.
    #[cfg(feature = "video")]
    pub(crate) fn growing(&mut self, option: &'static str, path: &Path) -> Result<()> {
        self.file(option, path)?;
        for part in parts_of(path) {
            let Ok(file) = std::fs::File::open(&part) else {
                if part.symlink_metadata().is_ok() {
                    continue;
                }
                break;
            };
            if lock(&file) == Lock::Theirs {
                return Err(Error::output(format!(
                    "{}: is being written by another session",
                    part.display()
                ))
                .remedy("choose another name"));
            }
            if !self.force {
                return Err(Error::output(format!(
                    "{}: was left by a session that did not end as it should",
                    part.display()
                ))
                .remedy("move it away, choose another name, or add --force to replace it"));
            }
        }
        Ok(())
    }
}

/// The same text for the same place, through links; the last part need not be there.
fn real(path: &Path) -> PathBuf {
    if let Ok(real) = path.canonicalize() {
        return real;
    }
    let folder = folder_of(path);
    match (folder.canonicalize(), path.file_name()) {
        (Ok(folder), Some(name)) => folder.join(name),
        _ => path.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #[cfg(feature = "video")]
    use std::io::Write;

    #[cfg(feature = "video")]
    use super::super::GrowingFile;
    use super::*;

    fn said(r: Result<()>) -> String {
        r.unwrap_err().to_string()
    }

    #[test]
    fn outputs_that_cannot_be_written_are_refused_before_the_work() {
        let t = tempfile::tempdir().unwrap();
        let dir = t.path();
        let at = |name: &str| dir.join(name);
        std::fs::write(at("old"), "old").unwrap();
        std::os::unix::fs::symlink("old", at("link")).unwrap();
        let mut outputs = Outputs::new(true);
        outputs.reads(&at("input"));
        assert!(said(outputs.file("--a", &at("none/s.json"))).contains("there is no folder"));
        assert!(said(outputs.file("--a", &at("old/s.json"))).contains("is not a folder"));
        assert!(said(outputs.file("--a", dir)).contains("is a folder"));
        assert!(said(outputs.file("--a", Path::new("/dev/null"))).contains("is a device"));
        assert!(said(outputs.file("--a", &at("input"))).contains("is what is read"));
        outputs.file("--a", &at("old")).unwrap();
        let met = said(outputs.file("--b", &at("link")));
        assert!(met.contains("--b") && met.contains("is also the file of --a"), "{met}");
        assert!(said(Outputs::new(false).file("--a", &at("old"))).contains("--force"));
        assert!(said(check_folder(&at("old/records"))).contains("is not a folder"));
        check_folder(&at("new/records")).unwrap();
        assert_eq!(std::fs::read_to_string(at("old")).unwrap(), "old");
        assert_eq!(std::fs::read_dir(dir).unwrap().count(), 2, "nothing is made");
    }

    #[cfg(feature = "video")]
    #[test]
    fn a_growing_file_replaces_the_old_one_only_at_the_end() {
        let t = tempfile::tempdir().unwrap();
        let path = t.path().join("lines.jsonl");
        std::fs::write(&path, "old").unwrap();
        drop(GrowingFile::create(&path).unwrap());
        assert_eq!(std::fs::read_dir(t.path()).unwrap().count(), 1, "nothing happened, nothing is left");
        let mut file = GrowingFile::create(&path).unwrap();
        file.write_all(b"new").unwrap();
        file.holds();
        let busy = said(Outputs::new(true).growing("--lines", &path));
        assert!(busy.contains("is being written by another session"), "{busy}");
        // As if the process had been killed.
        let part = file.part().to_owned();
        drop(file);
        assert_eq!(std::fs::read_to_string(&part).unwrap(), "new");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "old");
        std::fs::remove_file(&path).unwrap();
        let left = said(Outputs::new(false).growing("--lines", &path));
        assert!(left.contains("was left by a session"), "{left}");
        std::fs::write(&path, "old").unwrap();
        Outputs::new(true).growing("--lines", &path).unwrap();
        let mut file = GrowingFile::create(&path).unwrap();
        file.write_all(b"newer").unwrap();
        file.finish().unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "newer");
        assert!(!part.exists(), "its replacement stands");
    }
}
