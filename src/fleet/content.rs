//! Which recording a file is, told by its bytes.
//!
//! In: a file. Out: a digest of all of it, or of its two ends and its length, which is read in no time and serves to
//! notice that a file is another one by now.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::hexadecimal::hexadecimal;
use crate::small_file;
use crate::{Error, Result};

/// How much of each end is looked at.
const END: u64 = 1 << 20;

/// Digest of the length and both ends.
pub(super) fn of_ends(path: &Path) -> Result<(u64, String)> {
    let mut file = small_file::open(path, "a recording")?;
    ends(&mut file).map_err(|e| Error::read(path, e))
}

fn ends(file: &mut File) -> io::Result<(u64, String)> {
    let bytes = file.metadata()?.len();
    let mut digest = Sha256::new();
    digest.update(bytes.to_le_bytes());
    copy(file.take(END), &mut digest)?;
    if bytes > END {
        file.seek(SeekFrom::Start((bytes - END).max(END)))?;
        copy(file.take(END), &mut digest)?;
    }
    Ok((bytes, hexadecimal(&digest.finalize())))
}

/// Digest of everything.
pub(super) fn of_all(path: &Path) -> Result<String> {
    let file = small_file::open(path, "a recording")?;
    let mut digest = Sha256::new();
    copy(file, &mut digest).map_err(|e| Error::read(path, e))?;
    Ok(hexadecimal(&digest.finalize()))
}

fn copy(mut from: impl Read, digest: &mut Sha256) -> io::Result<()> {
    let mut piece = vec![0; 1 << 18];
    loop {
        match from.read(&mut piece) {
            Ok(0) => return Ok(()),
            Ok(n) => digest.update(&piece[..n]),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ends_and_the_length_count_and_the_middle_only_for_the_whole() {
        let t = tempfile::tempdir().unwrap();
        let path = t.path().join("a");
        let mut bytes = vec![7u8; 3 << 20];
        let seen = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            (of_ends(&path).unwrap(), of_all(&path).unwrap())
        };
        let first = seen(&bytes);
        bytes[3 << 19] = 8;
        let middle = seen(&bytes);
        assert_eq!(first.0, middle.0);
        assert_ne!(first.1, middle.1);
        *bytes.last_mut().unwrap() = 8;
        assert_ne!(first.0, seen(&bytes).0);
        bytes.push(0);
        assert_eq!(seen(&bytes).0.0, (3 << 20) + 1);
        assert_eq!(seen(b"").1, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    }
}
