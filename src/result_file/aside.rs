//! Names aside: hidden files and folders in which results come into being.
//!
//! In: the folder a result is to lie in. Out: a file or folder `.polypscope-XXXXXX.part` there, locked for as long as
//! its maker lives, which then takes the result's name. Dropped before, it is removed; so it is by [`abandon_all`] when
//! the process is ended at once. After a kill it stays, its lock is free, and the next process that writes into the
//! same folder removes it.

use std::collections::HashSet;
use std::ffi::CString;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

const PREFIX: &str = ".polypscope-";
const SUFFIX: &str = ".part";
/// Letters and digits between the two.
const MIDDLE: usize = 6;

/// What would be left behind if this process ended now.
static STANDING: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

fn standing() -> MutexGuard<'static, Vec<PathBuf>> {
    STANDING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Removes everything of this process that lies aside. From then on nothing comes into being aside or takes its name:
/// only for a process that ends at once.
pub(crate) fn abandon_all() {
    let standing = standing();
    for path in standing.iter() {
        // A thread may still be writing into a folder while it is emptied.
        for _ in 0..10 {
            if remove(path).is_ok() {
                break;
            }
        }
    }
    std::mem::forget(standing);
}

fn remove(path: &Path) -> io::Result<()> {
    let gone = match path.symlink_metadata() {
        Ok(m) if m.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(e) => Err(e),
    };
    match gone {
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Aside {
    path: PathBuf,
    /// Open, and locked where the file system knows locks.
    handle: File,
}

impl Aside {
    /// An empty file in `folder`, readable by its owner.
    pub(crate) fn file(folder: &Path) -> io::Result<Self> {
        Self::file_for(folder, 0o600)
    }

    /// An empty file in `folder`, for whoever the process's umask lets see it.
    pub(crate) fn shared_file(folder: &Path) -> io::Result<Self> {
        Self::file_for(folder, 0o666)
    }

    fn file_for(folder: &Path, mode: u32) -> io::Result<Self> {
        Self::make(folder, |path| {
            OpenOptions::new().read(true).write(true).create_new(true).mode(mode).open(path)
        })
    }

    /// An empty folder in `parent`, for its owner only.
    pub(crate) fn folder(parent: &Path) -> io::Result<Self> {
        Self::make(parent, |path| {
            DirBuilder::new().mode(0o700).create(path)?;
            File::open(path)
        })
    }

    fn make(folder: &Path, create: impl Fn(&Path) -> io::Result<File>) -> io::Result<Self> {
        sweep(folder);
        for _ in 0..1000 {
            let path = folder.join(format!("{PREFIX}{}{SUFFIX}", unlikely_name()));
            // Known before it is there, so that no signal comes in between.
            let mut standing = standing();
            match create(&path) {
                Ok(handle) => {
                    // A sweeper may have come between making and locking.
                    let locked = lock(&handle);
                    if locked == Lock::Theirs || !is_called(&handle, &path) {
                        let _ = remove(&path);
                        continue;
                    }
                    standing.push(path.clone());
                    return Ok(Self { path, handle });
                }
                Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
                Err(e) => return Err(e),
            }
        }
        Err(io::Error::new(ErrorKind::AlreadyExists, "no free name aside"))
    }

    /// Where it is now.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The open file (or folder).
    pub(crate) fn handle(&self) -> &File {
        &self.handle
    }

    /// Gives it its name. What had that name is replaced, in one step where the file system can, if `replace`; else it
    /// is an error of the kind [`ErrorKind::AlreadyExists`].
    pub(crate) fn publish(self, target: &Path, replace: bool) -> io::Result<()> {
        let mut standing = standing();
        let folder = self.handle.metadata()?.is_dir();
        match (replace, folder) {
            (false, _) => rename_new(&self.path, target, folder)?,
            (true, false) => fs::rename(&self.path, target)?,
            (true, true) => {
                if target.symlink_metadata().is_err() {
                    rename_new(&self.path, target, true)?;
                } else {
                    exchange(&self.path, target)?;
                    // The old one lies aside now, and goes with this value.
                    drop(standing);
                    return Ok(());
                }
            }
        }
        standing.retain(|p| *p != self.path);
        Ok(())
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        let mut standing = standing();
        // Published: the name is free, and may be somebody else's.
        if let Some(at) = standing.iter().position(|p| *p == self.path) {
            let _ = remove(&self.path);
            standing.swap_remove(at);
        }
    }
}

/// Six characters nobody guesses twice.
fn unlikely_name() -> String {
    use std::hash::{BuildHasher, Hasher};
    const LETTERS: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";
    // Its keys are random, and another pair for every value.
    let mut bits = std::collections::hash_map::RandomState::new().build_hasher().finish();
    (0..MIDDLE)
        .map(|_| {
            let letter = LETTERS[(bits % 36) as usize];
            bits /= 36;
            char::from(letter)
        })
        .collect()
}

fn is_ours(name: &[u8]) -> bool {
    name.strip_prefix(PREFIX.as_bytes())
        .and_then(|n| n.strip_suffix(SUFFIX.as_bytes()))
        .is_some_and(|n| n.len() == MIDDLE && n.iter().all(u8::is_ascii_alphanumeric))
}

/// Removes what processes that are no more have left in `folder`, once for every folder.
fn sweep(folder: &Path) {
    static SWEPT: Mutex<Option<HashSet<PathBuf>>> = Mutex::new(None);
    let Ok(real) = folder.canonicalize() else { return };
    {
        let mut swept = SWEPT.lock().unwrap_or_else(PoisonError::into_inner);
        if !swept.get_or_insert_default().insert(real.clone()) {
            return;
        }
    }
    let Ok(entries) = fs::read_dir(&real) else { return };
    for entry in entries.flatten() {
        if is_ours(entry.file_name().as_bytes())
            && let Err(e) = sweep_one(&entry.path())
        {
            tracing::debug!(path = %entry.path().display(), error = %e, "left from before, and cannot be removed");
        }
    }
}

fn sweep_one(path: &Path) -> io::Result<()> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_CLOEXEC)
        .open(path)?;
    let facts = file.metadata()?;
    // SAFETY: only asks for a number.
    let mine = facts.uid() == unsafe { libc::geteuid() };
    let plain = facts.is_file() || facts.is_dir();
    if mine && plain && lock(&file) == Lock::Ours && is_called(&file, path) {
        tracing::debug!(path = %path.display(), "was left by a process that was killed, and is removed");
        remove(path)?;
    }
    Ok(())
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Lock {
    Ours,
    /// Another process holds it.
    Theirs,
    /// The file system knows no locks: nobody can tell whether it is used.
    Unknown,
}

/// Locks a file or folder until the last copy of its handle is closed, without waiting.
pub(super) fn lock(file: &File) -> Lock {
    // SAFETY: the descriptor is open for as long as `file` lives.
    if unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } == 0 {
        return Lock::Ours;
    }
    match io::Error::last_os_error().kind() {
        ErrorKind::WouldBlock => Lock::Theirs,
        _ => Lock::Unknown,
    }
}

/// Whether the open file is the one that has this name now.
pub(super) fn is_called(file: &File, path: &Path) -> bool {
    match (file.metadata(), path.symlink_metadata()) {
        (Ok(a), Ok(b)) => (a.dev(), a.ino()) == (b.dev(), b.ino()),
        _ => false,
    }
}

fn renameat2(from: &Path, to: &Path, flags: libc::c_uint) -> io::Result<()> {
    let from = CString::new(from.as_os_str().as_bytes())?;
    let to = CString::new(to.as_os_str().as_bytes())?;
    // SAFETY: both strings end in a zero byte and live through the call.
    let answer =
        unsafe { libc::renameat2(libc::AT_FDCWD, from.as_ptr(), libc::AT_FDCWD, to.as_ptr(), flags) };
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Whether a file system does not know this kind of renaming.
fn unsupported(e: &io::Error) -> bool {
    matches!(e.raw_os_error(), Some(libc::EINVAL | libc::ENOSYS | libc::ENOTSUP | libc::EPERM))
}

/// Renames only where nothing has that name.
pub(crate) fn rename_new(from: &Path, to: &Path, folder: bool) -> io::Result<()> {
    match renameat2(from, to, libc::RENAME_NOREPLACE) {
        Err(e) if unsupported(&e) => {}
        other => return other,
    }
    if !folder && fs::hard_link(from, to).is_ok() {
        return fs::remove_file(from);
    }
    // Neither is known here: a name that appears within this moment is lost.
    match to.symlink_metadata() {
        Ok(_) => Err(ErrorKind::AlreadyExists.into()),
        Err(_) => fs::rename(from, to),
    }
}

/// Lets two folders change names.
fn exchange(a: &Path, b: &Path) -> io::Result<()> {
    match renameat2(a, b, libc::RENAME_EXCHANGE) {
        Err(e) if unsupported(&e) => {}
        other => return other,
    }
    // Under a name that no sweeper removes, should the process be killed in between.
    let mut kept = b.as_os_str().to_owned();
    kept.push(".replaced");
    let kept = PathBuf::from(kept);
    rename_new(b, &kept, true)?;
    if let Err(e) = fs::rename(a, b) {
        let _ = fs::rename(&kept, b);
        return Err(e);
    }
    fs::rename(&kept, a)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        let mut all: Vec<_> =
            fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        all.sort();
        all
    }

    #[test]
    fn what_a_killed_process_left_is_removed_and_nothing_else() {
        let t = tempfile::tempdir().unwrap();
        let dir = t.path();
        for name in [".polypscope-abc123.part", ".polypscope-short.part", ".polypscope-abc123.jpg", "a.part"]
        {
            fs::write(dir.join(name), "x").unwrap();
        }
        let left = dir.join(".polypscope-folder.part");
        fs::create_dir(&left).unwrap();
        fs::write(left.join("000000.png"), "patient").unwrap();
        std::os::unix::fs::symlink("a.part", dir.join(".polypscope-link00.part")).unwrap();
        // One that is in use.
        let used = dir.join(".polypscope-used00.part");
        fs::write(&used, "x").unwrap();
        let held = File::open(&used).unwrap();
        assert_eq!(lock(&held), Lock::Ours);

        drop(Aside::file(dir).unwrap());
        assert_eq!(
            names(dir),
            [
                ".polypscope-abc123.jpg",
                ".polypscope-link00.part",
                ".polypscope-short.part",
                ".polypscope-used00.part",
                "a.part"
            ]
        );
    }

    #[test]
    fn what_is_being_written_is_locked_until_it_is_there() {
        let t = tempfile::tempdir().unwrap();
        let aside = Aside::file(t.path()).unwrap();
        assert_eq!(lock(&File::open(aside.path()).unwrap()), Lock::Theirs);
        let folder = Aside::folder(t.path()).unwrap();
        assert_eq!(lock(&File::open(folder.path()).unwrap()), Lock::Theirs);
        aside.publish(&t.path().join("a"), false).unwrap();
        folder.publish(&t.path().join("b"), false).unwrap();
        assert_eq!(names(t.path()), ["a", "b"]);
        assert_eq!(lock(&File::open(t.path().join("a")).unwrap()), Lock::Ours);
    }

    #[test]
    fn a_folder_takes_the_place_of_another_in_one_step() {
        let t = tempfile::tempdir().unwrap();
        let target = t.path().join("masks");
        fs::create_dir(&target).unwrap();
        fs::write(target.join("old"), "x").unwrap();
        let refused = Aside::folder(t.path()).unwrap().publish(&target, false).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::AlreadyExists);
        let new = Aside::folder(t.path()).unwrap();
        fs::write(new.path().join("new"), "x").unwrap();
        new.publish(&target, true).unwrap();
        assert_eq!((names(&target), names(t.path())), (vec!["new".to_owned()], vec!["masks".to_owned()]));
    }
}
