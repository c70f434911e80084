//! Files somebody else made, read whole or line by line: never more of them than was allowed, and never something that
//! only looks like a file.
//!
//! In: a path, a limit, and what the file should be, in words for errors. Out: its bytes, its text or its lines.
//!
//! A length that was asked for is not the length that is read: the file may grow, and a link to a device has length 0
//! and no end. So the limit is put on the reading itself, and what was opened is asked what it is.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use crate::{Error, Result};

/// Settings, descriptions, pipelines, summaries: written by hand or by us, some kilobytes long.
pub const SMALL: u64 = 1 << 20;

/// Results that grow with what was measured, such as the runs of a comparison. Read as JSON they take twenty times as
/// much.
pub const LARGE: u64 = 16 << 20;

/// The longest line of a file of records: a frame with many outlines has some ten kilobytes.
const LONGEST_LINE: u64 = 8 << 20;

/// Opens a regular file for reading. `what` is what it should be, with its article: "a checkpoint file".
///
/// # Errors
/// A file that is missing or not ours to read; a folder, a pipe, a socket or a device. None of them is waited for.
pub fn open(path: &Path, what: &str) -> Result<File> {
    // Asked before it is opened, since opening some devices does something; and again afterwards, since only the opened
    // file is the one that will be read. Without O_NONBLOCK the open itself waits for a pipe's other end.
    regular(path, &std::fs::metadata(path).map_err(|e| Error::read(path, e))?, what)?;
    let mut options = OpenOptions::new();
    options.read(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, libc::O_NONBLOCK);
    let file = options.open(path).map_err(|e| Error::read(path, e))?;
    regular(path, &file.metadata().map_err(|e| Error::read(path, e))?, what)?;
    Ok(file)
}

fn regular(path: &Path, metadata: &std::fs::Metadata, what: &str) -> Result<()> {
    if metadata.is_file() {
        return Ok(());
    }
    let is = if metadata.is_dir() { "a folder" } else { "not a regular file" };
    Err(Error::input(format!("{}: is {is}", path.display())).remedy(format!("give {what}")))
}

/// The bytes of a regular file of at most `limit` bytes.
///
/// # Errors
/// As [`open`]; a file that is longer.
pub fn read(path: &Path, limit: u64, what: &str) -> Result<Vec<u8>> {
    let file = open(path, what)?;
    let length = file.metadata().map_err(|e| Error::read(path, e))?.len();
    let too_long = || {
        Err(Error::input(format!("{}: has more than {limit} bytes", path.display()))
            .remedy(format!("give {what}; none is that long")))
    };
    if length > limit {
        return too_long();
    }
    let mut bytes = Vec::with_capacity(length as usize);
    file.take(limit + 1).read_to_end(&mut bytes).map_err(|e| Error::read(path, e))?;
    if bytes.len() as u64 > limit {
        return too_long();
    }
    Ok(bytes)
}

/// As [`read`], as text.
///
/// # Errors
/// As [`read`]; bytes that are not UTF-8.
pub fn read_text(path: &Path, limit: u64, what: &str) -> Result<String> {
    String::from_utf8(read(path, limit, what)?).map_err(|e| {
        Error::input(format!("{}: is not text (UTF-8)", path.display()))
            .remedy(format!("give {what}"))
            .because(e)
    })
}

/// The lines of a regular file of any length, each of a bounded length; one is kept at a time.
#[derive(Debug)]
pub struct Lines {
    path: PathBuf,
    reader: BufReader<File>,
    ended: bool,
}

impl Lines {
    /// # Errors
    /// As [`open`].
    pub fn open(path: &Path, what: &str) -> Result<Self> {
        Ok(Self { path: path.to_owned(), reader: BufReader::new(open(path, what)?), ended: false })
    }

    fn line(&mut self) -> Result<Option<String>> {
        let mut line = Vec::new();
        (&mut self.reader)
            .take(LONGEST_LINE)
            .read_until(b'\n', &mut line)
            .map_err(|e| Error::read(&self.path, e))?;
        if line.is_empty() {
            return Ok(None);
        }
        let wrong = |what: &str| Error::input(format!("{}: {what}", self.path.display()));
        match line.pop_if(|b| *b == b'\n') {
            None if line.len() as u64 == LONGEST_LINE => {
                return Err(wrong(&format!("holds a line of more than {LONGEST_LINE} bytes")));
            }
            _ => {}
        }
        line.pop_if(|b| *b == b'\r');
        String::from_utf8(line).map(Some).map_err(|_| wrong("holds a line that is not text (UTF-8)"))
    }
}

impl Iterator for Lines {
    type Item = Result<String>;

    /// Nothing more comes after an error.
    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let line = self.line().transpose();
        self.ended = !matches!(line, Some(Ok(_)));
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_regular_files_within_the_limit_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("ten"), b"0123456789").unwrap();
        assert_eq!(read(&at("ten"), 10, "a number").unwrap(), b"0123456789");
        let said = |path: &Path, limit| read(path, limit, "a number").unwrap_err().to_string();
        assert!(
            said(&at("ten"), 9).ends_with("ten: has more than 9 bytes; give a number; none is that long")
        );
        assert!(said(folder.path(), 9).ends_with(": is a folder; give a number"));
        assert!(said(&at("absent"), 9).ends_with("; check the path"));
        std::fs::write(at("latin"), b"caf\xe9").unwrap();
        assert!(read_text(&at("latin"), 10, "a number").unwrap_err().to_string().contains("is not text"));
    }

    /// A pipe nobody writes to and devices without an end: refused, and at once (the test would hang otherwise).
    #[cfg(unix)]
    #[test]
    fn pipes_and_devices_are_refused_without_waiting() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        let name = std::ffi::CString::new(pipe.to_str().unwrap()).unwrap();
        // SAFETY: a C string that lives as long as the call.
        assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0);
        let link = folder.path().join("link");
        std::os::unix::fs::symlink("/dev/zero", &link).unwrap();
        for path in [&pipe, &link] {
            for refused in [read(path, 10, "a number").err(), Lines::open(path, "a number").err()] {
                let said = refused.unwrap().to_string();
                assert!(said.ends_with(": is not a regular file; give a number"), "{said}");
            }
        }
    }

    #[test]
    fn lines_come_one_by_one_and_none_without_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lines");
        std::fs::write(&path, b"one\r\n\ntwo").unwrap();
        let lines: Result<Vec<_>> = Lines::open(&path, "lines").unwrap().collect();
        assert_eq!(lines.unwrap(), ["one", "", "two"]);
        // Sparse: nothing but zeros, which cost no disk.
        std::fs::File::create(&path).unwrap().set_len(1 << 30).unwrap();
        let mut lines = Lines::open(&path, "lines").unwrap();
        let e = lines.next().unwrap().unwrap_err().to_string();
        assert!(e.contains("holds a line of more than"), "{e}");
        assert!(lines.next().is_none());
    }
}
