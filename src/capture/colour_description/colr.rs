//! The `colr` box of an MP4 or QuickTime file, of which GStreamer 1.22 does not read the range.
//!
//! In: a file, and which of its video tracks. Out: what the box says; nothing, if there is no box or no such file.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use super::Said;

/// The part of a file that one box fills.
#[derive(Clone, Copy)]
struct Span {
    from: u64,
    to: u64,
}

/// What the box of the video track with this number (0, 1, …) says.
pub(super) fn of_track(path: &Path, track: usize) -> Option<Said> {
    let mut file = File::open(path).ok()?;
    let whole = Span { from: 0, to: file.metadata().ok()?.len() };
    let moov = find(&mut file, whole, b"moov")?;
    let (mut seen, mut at) = (0, moov);
    loop {
        let trak = find(&mut file, at, b"trak")?;
        at.from = trak.to;
        let Some(mdia) = find(&mut file, trak, b"mdia") else { continue };
        let Some(handler) = find(&mut file, mdia, b"hdlr") else { continue };
        if &bytes::<12>(&mut file, handler.from)?[8..] != b"vide" {
            continue;
        }
        if seen < track {
            seen += 1;
            continue;
        }
        let minf = find(&mut file, mdia, b"minf")?;
        let stbl = find(&mut file, minf, b"stbl")?;
        let mut entries = find(&mut file, stbl, b"stsd")?;
        // Version, flags and count; then the first entry, a box whose own boxes come after 78 bytes of fixed fields.
        entries.from += 8;
        let mut entry = first(&mut file, entries)?.1;
        entry.from += 78;
        let colr = find(&mut file, entry, b"colr")?;
        return said(&mut file, colr);
    }
}

fn said(file: &mut File, colr: Span) -> Option<Said> {
    let head = bytes::<10>(file, colr.from)?;
    let number = |at: usize| u32::from(u16::from_be_bytes([head[at], head[at + 1]]));
    let said = Said::h273(number(4), number(6), number(8));
    match &head[..4] {
        b"nclx" => {
            let full = bytes::<1>(file, colr.from + 10)?[0] & 0x80 != 0;
            Some(Said { full_range: Some(full), ..said })
        }
        // QuickTime's own form has no range.
        b"nclc" => Some(said),
        _ => None,
    }
}

fn bytes<const N: usize>(file: &mut File, at: u64) -> Option<[u8; N]> {
    let mut out = [0; N];
    file.seek(SeekFrom::Start(at)).ok()?;
    file.read_exact(&mut out).ok()?;
    Some(out)
}

/// The box at the beginning of a span: its name and what it holds.
fn first(file: &mut File, span: Span) -> Option<([u8; 4], Span)> {
    let [a, b, c, d, name @ ..] = bytes::<8>(file, span.from)?;
    let (head, size) = match u32::from_be_bytes([a, b, c, d]) {
        0 => (8, span.to - span.from),
        1 => (16, u64::from_be_bytes(bytes(file, span.from + 8)?)),
        size => (8, u64::from(size)),
    };
    let to = span.from.checked_add(size).filter(|_| size >= head)?.min(span.to);
    Some((name, Span { from: span.from + head, to }))
}

/// The first box of this name among those that lie one after the other in a span.
fn find(file: &mut File, mut span: Span, name: &[u8; 4]) -> Option<Span> {
    /// More boxes beside one another than any real file has.
    const MOST: usize = 4096;
    for _ in 0..MOST {
        if span.from + 8 > span.to {
            break;
        }
        let (found, inside) = first(file, span)?;
        if found == *name {
            return Some(inside);
        }
        span.from = inside.to;
    }
    None
}
