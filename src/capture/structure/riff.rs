//! AVI: chunks within lists within RIFFs.

use super::{Parts, Structure};

pub(super) fn walk(parts: &mut Parts) -> Structure {
    let mut found = Structure { tells_its_end: true, ..Structure::default() };
    let mut at = 0;
    let mut pictures = Pictures::default();
    // Long recordings are several RIFFs, one after the other.
    while let (Some(name), Some(size)) = (parts.bytes::<4>(at), parts.le32(at + 4)) {
        if &name != b"RIFF" {
            // What follows the last RIFF is nobody's.
            break;
        }
        let end = at + 8 + size;
        let limit = end.min(parts.length);
        if let Err(broken) = chunks(parts, at + 12, limit, &mut pictures, 0) {
            found.broken_at.get_or_insert(broken);
        }
        if end > parts.length {
            found.cut = true;
            break;
        }
        at = end + (size & 1);
    }
    found.pictures = pictures.promised;
    // A file that was repaired after it was cut still says how many pictures it had.
    if found.is_whole() && pictures.promised.is_some_and(|p| pictures.there < p) {
        found.cut = true;
    }
    found
}

#[derive(Default)]
struct Pictures {
    stream: u8,
    /// The stream of the picture and how many it should have.
    wanted: Option<u8>,
    promised: Option<u64>,
    there: u64,
}

/// Follows the chunks of a list. Gives the first byte that is none.
fn chunks(parts: &mut Parts, from: u64, to: u64, pictures: &mut Pictures, depth: u8) -> Result<(), u64> {
    let mut at = from;
    while at + 8 <= to {
        let (Some(name), Some(size)) = (parts.bytes::<4>(at), parts.le32(at + 4)) else { return Ok(()) };
        if !name.iter().all(|b| b.is_ascii_graphic() || *b == b' ') {
            return Err(at);
        }
        let end = at + 8 + size;
        match &name {
            b"LIST" => {
                if depth >= 4 {
                    return Err(at);
                }
                chunks(parts, at + 12, end.min(to), pictures, depth + 1)?;
            }
            b"strh" => {
                if parts.bytes::<4>(at + 8).is_some_and(|t| &t == b"vids") && pictures.wanted.is_none() {
                    pictures.wanted = Some(pictures.stream);
                    pictures.promised = parts.le32(at + 8 + 32).filter(|n| *n > 0);
                }
                pictures.stream = pictures.stream.saturating_add(1);
            }
            [a @ b'0'..=b'9', b @ b'0'..=b'9', b'd', b'c' | b'b']
                if pictures.wanted == Some((a - b'0') * 10 + (b - b'0')) =>
            {
                // One that is cut off is not there.
                pictures.there += u64::from(end <= to);
            }
            _ => {}
        }
        at = end + (size & 1);
    }
    Ok(())
}
