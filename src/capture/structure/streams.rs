//! Containers that are a plain sequence of packets, and those of which only the chain of parts is followed.

use super::{Parts, Structure};

/// Adobe Flash video: tags, each followed by its own size.
pub(super) fn flash(parts: &mut Parts) -> Structure {
    let Some(head) = parts.be32(5) else { return Structure::cut() };
    // The size of the tag before the first.
    let mut at = head + 4;
    while at < parts.length {
        let Some([kind, a, b, c]) = parts.bytes::<4>(at) else { return Structure::cut() };
        let size = u64::from(u32::from_be_bytes([0, a, b, c]));
        if !matches!(kind & 0x1f, 8 | 9 | 18) {
            return Structure::broken(at);
        }
        let end = at + 11 + size;
        match parts.be32(end) {
            None => return Structure::cut(),
            // Some writers leave it zero.
            Some(before) if before == 11 + size || before == 0 => {}
            Some(_) => return Structure::broken(at),
        }
        at = end + 4;
    }
    Structure::default()
}

/// Ogg: pages.
pub(super) fn ogg(parts: &mut Parts) -> Structure {
    let mut at = 0;
    while at < parts.length {
        let Some(head) = parts.bytes::<27>(at) else { return Structure::cut() };
        if &head[..4] != b"OggS" {
            return Structure::broken(at);
        }
        let segments = u64::from(head[26]);
        let mut size = 27 + segments;
        for i in 0..segments {
            let Some([n]) = parts.bytes::<1>(at + 27 + i) else { return Structure::cut() };
            size += u64::from(n);
        }
        at += size;
    }
    if at > parts.length { Structure::cut() } else { Structure::default() }
}

/// Windows Media: three objects or more, each with its size.
pub(super) fn asf(parts: &mut Parts) -> Structure {
    let mut at = 0;
    while at + 24 <= parts.length {
        let Some(size) = parts.bytes::<8>(at + 16).map(u64::from_le_bytes) else { return Structure::cut() };
        if size < 24 {
            return Structure::broken(at);
        }
        let Some(end) = at.checked_add(size) else { return Structure::broken(at) };
        if end > parts.length {
            return Structure::cut();
        }
        at = end;
    }
    Structure { tells_its_end: true, ..Structure::default() }
}

/// MXF (SMPTE 377): keys, lengths and values.
pub(super) fn mxf(parts: &mut Parts) -> Structure {
    let mut at = 0;
    while at < parts.length {
        let Some(key) = parts.bytes::<4>(at) else { return Structure::cut() };
        if key != [0x06, 0x0e, 0x2b, 0x34] {
            return if parts.zeros_from(at) { Structure::default() } else { Structure::broken(at) };
        }
        let Some([first]) = parts.bytes::<1>(at + 16) else { return Structure::cut() };
        let (width, mut size) = match first {
            0..=0x7f => (1, u64::from(first)),
            0x81..=0x88 => (1 + u64::from(first & 0x0f), 0),
            _ => return Structure::broken(at),
        };
        for i in 1..width {
            let Some([b]) = parts.bytes::<1>(at + 16 + i) else { return Structure::cut() };
            size = size << 8 | u64::from(b);
        }
        let Some(end) = (at + 16 + width).checked_add(size) else { return Structure::broken(at) };
        if end > parts.length {
            return Structure::cut();
        }
        at = end;
    }
    Structure::default()
}

/// An MPEG program stream. Its parts are many and small, so only the last megabyte is followed.
pub(super) fn program(parts: &mut Parts) -> Structure {
    let from = parts.length.saturating_sub(1 << 20);
    let Some(mut at) =
        (from..parts.length.saturating_sub(3)).find(|p| parts.bytes::<4>(*p) == Some([0, 0, 1, 0xba]))
    else {
        return Structure::default();
    };
    while at < parts.length {
        let Some([a, b, c, id]) = parts.bytes::<4>(at) else {
            return if parts.zeros_from(at) { Structure::default() } else { Structure::cut() };
        };
        if [a, b, c] != [0, 0, 1] {
            return if parts.zeros_from(at) { Structure::default() } else { Structure::broken(at) };
        }
        at += match id {
            0xb9 => 4,
            // A pack's head: MPEG-2's has room for stuffing, MPEG-1's is shorter.
            0xba => match parts.bytes::<1>(at + 4) {
                Some([m]) if m >> 6 == 1 => match parts.bytes::<1>(at + 13) {
                    Some([stuffing]) => 14 + u64::from(stuffing & 7),
                    None => return Structure::cut(),
                },
                Some(_) => 12,
                None => return Structure::cut(),
            },
            0xbb..=0xff => match parts.bytes::<2>(at + 4) {
                Some(size) => 6 + u64::from(u16::from_be_bytes(size)),
                None => return Structure::cut(),
            },
            _ => return Structure::broken(at),
        };
    }
    if at > parts.length { Structure::cut() } else { Structure::default() }
}

/// An MPEG transport stream: packets of one size. What is none of these, a bare stream for instance, is not judged.
pub(super) fn transport(parts: &mut Parts) -> Structure {
    // Bare, with a time before each packet (Blu-ray, AVCHD), with a checksum after each.
    for (size, sync) in [(188u64, 0u64), (192, 4), (204, 0)] {
        let at = |n: u64| n * size + sync;
        let is_sync = |parts: &mut Parts, n| parts.bytes::<1>(at(n)) == Some([0x47]);
        if parts.length >= 4 * size && (0..4).all(|n| is_sync(parts, n)) {
            let rest = parts.length % size;
            let end = parts.length - rest;
            return Structure { cut: rest > 0 && !parts.zeros_from(end), ..Structure::default() };
        }
    }
    Structure::default()
}
