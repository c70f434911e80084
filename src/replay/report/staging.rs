//! Writing aside: a report's files come into being in a hidden folder beside their places and move there all at once.
//!
//! In: a folder and the names to be written. Out: files (0600) in a folder (0700 where it is ours to make). Nothing
//! already there is lost: unless told to replace them, existing files are refused; if moving fails half-way, what was
//! there before is put back. Dropped before [`Staging::publish`], it leaves nothing behind.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::result_file::{Aside, rename_new};
use crate::{Error, Result};

pub(super) struct Staging {
    dir: PathBuf,
    names: &'static [&'static str],
    force: bool,
    /// Before `made`: fields drop in order, and the folder must be empty before it can go.
    aside: Aside,
    made: MadeFolders,
}

/// Folders we made, outermost first; those still empty go when this is dropped.
struct MadeFolders(Vec<PathBuf>);

impl Drop for MadeFolders {
    fn drop(&mut self) {
        for dir in self.0.iter().rev() {
            // Fails, rightly, where something lies in it.
            let _ = fs::remove_dir(dir);
        }
    }
}

impl Staging {
    /// Prepares to write `names` into `dir`, which is made if it is not there.
    pub fn new(dir: &Path, names: &'static [&'static str], force: bool) -> Result<Self> {
        for name in names {
            check_place(&dir.join(name), force)?;
        }
        let made = make_folders(dir)?;
        let aside = Aside::folder(dir).map_err(|e| Error::write(dir, e))?;
        Ok(Self { dir: dir.to_owned(), names, force, aside, made })
    }

    /// Where `name` will be once published.
    pub fn place(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Opens `name` for writing, readable by its owner only.
    pub fn create(&self, name: &str) -> Result<File> {
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(self.aside.path().join(name))
            .map_err(|e| Error::write(&self.place(name), e))
    }

    /// Moves every file to its place, or none.
    pub fn publish(mut self) -> Result<()> {
        for name in self.names {
            check_place(&self.place(name), self.force)?;
        }
        let old = self.aside.path().join("replaced");
        fs::create_dir(&old).map_err(|e| Error::write(&self.dir, e))?;
        for (i, name) in self.names.iter().enumerate() {
            if let Err(e) = self.publish_one(name, &old.join(name)) {
                for name in self.names[..i].iter().rev() {
                    self.withdraw(name, &old.join(name));
                }
                return Err(e);
            }
        }
        // The names themselves must survive a power cut too; where a file system cannot promise that, nothing is lost
        // that it ever promised.
        let _ = File::open(&self.dir).and_then(|d| d.sync_all());
        self.made.0.clear();
        Ok(())
    }

    fn publish_one(&self, name: &str, old: &Path) -> Result<()> {
        let place = self.place(name);
        let new = self.aside.path().join(name);
        let failed = |e| Error::write(&place, e);
        if !(self.force && exists(&place).map_err(failed)?) {
            return rename_new(&new, &place, false).map_err(|e| match e.kind() {
                ErrorKind::AlreadyExists => occupied(&place),
                _ => failed(e),
            });
        }
        // A second name for the old file, so that its place is never empty; where there are no second names, it moves.
        let moved = fs::hard_link(&place, old).is_err();
        if moved {
            fs::rename(&place, old).map_err(failed)?;
        }
        let replaced = fs::rename(&new, &place);
        if replaced.is_err() && moved {
            let _ = fs::rename(old, &place);
        }
        replaced.map_err(failed)
    }

    fn withdraw(&self, name: &str, old: &Path) {
        let place = self.place(name);
        let undone =
            if exists(old).unwrap_or(false) { fs::rename(old, &place) } else { fs::remove_file(&place) };
        if let Err(e) = undone {
            tracing::warn!(file = %place.display(), error = %e, "a file of a report that failed could not be withdrawn");
        }
    }
}

fn exists(path: &Path) -> io::Result<bool> {
    match fs::symlink_metadata(path) {
        Ok(_) => Ok(true),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(false),
        Err(e) => Err(e),
    }
}

fn occupied(place: &Path) -> Error {
    Error::output(format!("{}: a report is already there", place.display()))
        .remedy("choose another folder or replace it with --force")
}

fn check_place(place: &Path, force: bool) -> Result<()> {
    match fs::symlink_metadata(place) {
        Ok(m) if m.is_dir() => {
            Err(Error::output(format!("{}: a folder is in the way of the report", place.display()))
                .remedy("choose another folder"))
        }
        Ok(_) if !force => Err(occupied(place)),
        Ok(_) => Ok(()),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
        Err(e) => Err(Error::write(place, e)),
    }
}

/// Makes `dir` and the folders above it that are missing, each for its owner only.
fn make_folders(dir: &Path) -> Result<MadeFolders> {
    let missing: Vec<&Path> =
        dir.ancestors().take_while(|d| !d.as_os_str().is_empty() && !d.exists()).collect();
    let mut made = MadeFolders(Vec::with_capacity(missing.len()));
    for d in missing.into_iter().rev() {
        match fs::DirBuilder::new().mode(0o700).create(d) {
            Ok(()) => made.0.push(d.to_owned()),
            Err(e) if e.kind() == ErrorKind::AlreadyExists && d.is_dir() => {}
            Err(e) => return Err(Error::write(d, e)),
        }
    }
    if !dir.is_dir() {
        return Err(Error::output(format!("{}: is not a folder", dir.display()))
            .remedy("name a folder for the report"));
    }
    Ok(made)
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const NAMES: &[&str] = &["a", "b"];

    fn fill(s: &Staging, text: &str) {
        for name in NAMES {
            s.create(name).unwrap().write_all(text.as_bytes()).unwrap();
        }
    }

    fn listing(dir: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn files_and_the_folders_we_make_are_for_their_owner_only() {
        let t = tempfile::tempdir().unwrap();
        let dir = t.path().join("new/deep");
        let s = Staging::new(&dir, NAMES, false).unwrap();
        fill(&s, "x");
        assert_eq!(mode(s.aside.path()), 0o700);
        s.publish().unwrap();
        assert_eq!(listing(&dir), ["a", "b"]);
        assert_eq!((mode(&dir), mode(&t.path().join("new"))), (0o700, 0o700));
        assert_eq!((mode(&dir.join("a")), mode(&dir.join("b"))), (0o600, 0o600));
    }

    #[test]
    fn a_folder_that_was_there_keeps_its_mode_and_its_files() {
        let t = tempfile::tempdir().unwrap();
        fs::set_permissions(t.path(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(t.path().join("mine"), "kept").unwrap();
        let s = Staging::new(t.path(), NAMES, false).unwrap();
        fill(&s, "x");
        s.publish().unwrap();
        assert_eq!(listing(t.path()), ["a", "b", "mine"]);
        assert_eq!(mode(t.path()), 0o755);
    }

    #[test]
    fn dropping_leaves_nothing_not_even_the_folders() {
        let t = tempfile::tempdir().unwrap();
        let s = Staging::new(&t.path().join("new/deep"), NAMES, false).unwrap();
        fill(&s, "x");
        drop(s);
        assert_eq!(listing(t.path()), [""; 0]);
    }

    #[test]
    fn existing_files_are_refused_without_force_and_replaced_with_it() {
        let t = tempfile::tempdir().unwrap();
        fs::write(t.path().join("b"), "old").unwrap();
        let e = Staging::new(t.path(), NAMES, false).err().unwrap();
        assert_eq!(
            e.to_string(),
            format!(
                "{}: a report is already there; choose another folder or replace it with --force",
                t.path().join("b").display()
            )
        );
        assert_eq!(listing(t.path()), ["b"]);

        let s = Staging::new(t.path(), NAMES, true).unwrap();
        fill(&s, "new");
        assert_eq!(fs::read_to_string(t.path().join("b")).unwrap(), "old", "until it is published");
        s.publish().unwrap();
        assert_eq!(listing(t.path()), ["a", "b"]);
        assert_eq!(fs::read_to_string(t.path().join("b")).unwrap(), "new");
    }

    #[test]
    fn a_file_that_appears_meanwhile_is_not_overwritten() {
        let t = tempfile::tempdir().unwrap();
        let s = Staging::new(t.path(), NAMES, false).unwrap();
        fill(&s, "new");
        fs::write(t.path().join("b"), "theirs").unwrap();
        assert!(s.publish().unwrap_err().to_string().contains("already there"));
        assert_eq!(listing(t.path()), ["b"]);
        assert_eq!(fs::read_to_string(t.path().join("b")).unwrap(), "theirs");
    }

    #[test]
    fn failing_half_way_puts_everything_back() {
        let t = tempfile::tempdir().unwrap();
        for name in NAMES {
            fs::write(t.path().join(name), "old").unwrap();
        }
        let s = Staging::new(t.path(), NAMES, true).unwrap();
        // Only the first file exists, so the second cannot be moved.
        s.create("a").unwrap().write_all(b"new").unwrap();
        assert!(s.publish().is_err());
        assert_eq!(listing(t.path()), NAMES);
        for name in NAMES {
            assert_eq!(fs::read_to_string(t.path().join(name)).unwrap(), "old");
        }
    }

    #[test]
    fn a_folder_or_a_file_in_the_way_is_said() {
        let t = tempfile::tempdir().unwrap();
        fs::create_dir(t.path().join("a")).unwrap();
        let e = Staging::new(t.path(), NAMES, true).err().unwrap();
        assert!(e.to_string().contains("a folder is in the way"), "{e}");
        let file = t.path().join("file");
        fs::write(&file, "").unwrap();
        for dir in [file.clone(), file.join("below")] {
            assert!(Staging::new(&dir, NAMES, true).is_err(), "{}", dir.display());
        }
    }
}
