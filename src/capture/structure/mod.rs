//! Whether a file's own structure is whole.
//!
//! In: a file. Out: [`Structure`]: whether it ends before its last part does, whether the chain of its parts is broken,
//! and what it says about its own length. Demuxers pass over such damage in silence: they look for the next part that
//! makes sense, or take the place of the damage for the end.
//!
//! Only the heads of the parts are read, so that hours of recording take a second. What is inside a packet is not
//! looked at here: the decoder does that.

mod matroska;
mod mp4;
mod riff;
mod streams;

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// What the walk along a file's parts found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Structure {
    /// The file ends inside one of its parts, or before what it says its length is.
    pub cut: bool,
    /// The first byte that belongs to no part.
    pub broken_at: Option<u64>,
    /// The time there, if the container says it (nanoseconds).
    pub broken_ns: Option<u64>,
    /// The container tells its whole length and was followed to it: whatever its longest track promises, a picture that
    /// ends earlier ends there.
    pub tells_its_end: bool,
    /// Pictures its index promises.
    pub pictures: Option<u64>,
    /// An MP4 in fragments, written before its length was known.
    pub fragmented: bool,
    /// An MP4 that holds data and no index, which is written last: nothing in it can be played.
    pub index_lost: bool,
    /// Bytes of the file.
    pub length: u64,
}

impl Structure {
    /// Looks at a file. A container that is not known has no structure that could be broken.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn of(path: &Path) -> std::io::Result<Self> {
        let mut parts = Parts::open(path)?;
        let head: [u8; 16] = parts.bytes(0).unwrap_or_default();
        let mut found = match &head {
            [0x1a, 0x45, 0xdf, 0xa3, ..] => matroska::walk(&mut parts),
            [b'R', b'I', b'F', b'F', ..] if &head[8..12] == b"AVI " => riff::walk(&mut parts),
            [b'F', b'L', b'V', ..] => streams::flash(&mut parts),
            [b'O', b'g', b'g', b'S', ..] => streams::ogg(&mut parts),
            [0x30, 0x26, 0xb2, 0x75, ..] => streams::asf(&mut parts),
            [0x06, 0x0e, 0x2b, 0x34, ..] => streams::mxf(&mut parts),
            [0, 0, 1, 0xba, ..] => streams::program(&mut parts),
            _ if mp4::is_first(&head) => mp4::walk(&mut parts),
            _ => streams::transport(&mut parts),
        };
        found.length = parts.length;
        Ok(found)
    }

    /// Whether any of its parts is missing or damaged.
    pub fn is_whole(&self) -> bool {
        !self.cut && self.broken_at.is_none()
    }

    /// The time of the damage: as the container says, or by the share of the bytes before it.
    pub fn broken_time(&self, duration: Option<u64>) -> Option<u64> {
        let at = self.broken_at?;
        self.broken_ns.or_else(|| {
            let share = u128::from(duration?) * u128::from(at) / u128::from(self.length.max(1));
            u64::try_from(share).ok()
        })
    }

    fn broken(at: u64) -> Self {
        Self { broken_at: Some(at), ..Self::default() }
    }

    fn cut() -> Self {
        Self { cut: true, ..Self::default() }
    }
}

/// Bytes kept at once: a page, which is what the system reads for a single byte too.
const WINDOW: usize = 4096;

/// A file read here and there.
struct Parts {
    file: File,
    length: u64,
    window: Box<[u8; WINDOW]>,
    start: u64,
    filled: usize,
}

impl Parts {
    fn open(path: &Path) -> std::io::Result<Self> {
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        Ok(Self { file, length, window: Box::new([0; WINDOW]), start: 0, filled: 0 })
    }

    /// The bytes at a place; `None` if the file ends before them.
    fn bytes<const N: usize>(&mut self, at: u64) -> Option<[u8; N]> {
        const { assert!(N <= WINDOW) };
        let end = at.checked_add(N as u64)?;
        if end > self.length {
            return None;
        }
        if at < self.start || end > self.start + self.filled as u64 {
            self.start = at;
            self.filled = 0;
            while self.filled < N {
                match self.file.read_at(&mut self.window[self.filled..], at + self.filled as u64) {
                    Ok(0) => return None,
                    Ok(n) => self.filled += n,
                    Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                    Err(_) => return None,
                }
            }
        }
        let from = (at - self.start) as usize;
        self.window[from..from + N].try_into().ok()
    }

    fn be32(&mut self, at: u64) -> Option<u64> {
        self.bytes(at).map(|b| u64::from(u32::from_be_bytes(b)))
    }

    fn le32(&mut self, at: u64) -> Option<u64> {
        self.bytes(at).map(|b| u64::from(u32::from_le_bytes(b)))
    }

    fn be64(&mut self, at: u64) -> Option<u64> {
        self.bytes(at).map(u64::from_be_bytes)
    }

    /// Whether only zeros follow, as some recorders leave to fill a block; looks at no more than a MiB.
    fn zeros_from(&mut self, mut at: u64) -> bool {
        if self.length - at.min(self.length) > 1 << 20 {
            return false;
        }
        while at < self.length {
            if self.bytes(at) != Some([0]) {
                return false;
            }
            at += 1;
        }
        true
    }
}

#[cfg(test)]
mod tests;
