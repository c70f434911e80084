//! MP4, MOV and their fragments (ISO 14496-12): boxes, each with its size.

use super::{Parts, Structure};

/// Boxes that stand at the top of a file, or that tell one from noise.
const TOP: &[&[u8; 4]] = &[
    b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"moof", b"mfra", b"sidx", b"styp", b"uuid",
    b"pnot", b"meta", b"emsg", b"pdin", b"ssix", b"prft", b"udta", b"junk", b"PICT", b"pict",
];

/// Whether a file that begins so is one of boxes.
pub(super) fn is_first(head: &[u8; 16]) -> bool {
    TOP.iter().any(|t| &head[4..8] == *t)
}

/// A box: its name, where its content begins, and where it ends.
struct Part {
    name: [u8; 4],
    inside: u64,
    end: u64,
}

fn part(parts: &mut Parts, at: u64, limit: u64) -> Option<Part> {
    let size = parts.be32(at)?;
    let name = parts.bytes(at + 4)?;
    let (inside, size) = match size {
        0 => (at + 8, limit - at),
        1 => (at + 16, parts.be64(at + 8)?),
        n => (at + 8, n),
    };
    let end = at.checked_add(size)?;
    (end >= inside).then_some(Part { name, inside, end })
}

pub(super) fn walk(parts: &mut Parts) -> Structure {
    let length = parts.length;
    let mut at = 0;
    let mut found = Structure { tells_its_end: true, ..Structure::default() };
    let mut fragment_open = false;
    let (mut data, mut index) = (false, false);
    while at < length {
        if length - at < 8 {
            found.cut = !parts.zeros_from(at);
            break;
        }
        let is_known =
            |p: &Part| TOP.iter().any(|t| p.name == **t) || p.name.iter().all(u8::is_ascii_graphic);
        let Some(p) = part(parts, at, length).filter(is_known) else {
            if !parts.zeros_from(at) {
                // An index may follow, beyond the damage.
                return Structure { broken_at: Some(at), index_lost: false, ..found };
            }
            break;
        };
        index |= [b"moov", b"moof", b"meta"].contains(&&p.name);
        data |= &p.name == b"mdat";
        found.index_lost = data && !index;
        match &p.name {
            // A fragment's index comes before its data.
            b"moof" => (fragment_open, found.fragmented) = (true, true),
            b"mdat" => fragment_open = false,
            b"moov" => found.pictures = pictures(parts, p.inside, p.end.min(length)),
            _ => {}
        }
        if p.end > length {
            found.cut = true;
            return found;
        }
        at = p.end;
    }
    found.cut |= fragment_open;
    found
}

/// How many pictures the index of the first picture track lists.
fn pictures(parts: &mut Parts, from: u64, to: u64) -> Option<u64> {
    let mut at = from;
    while at + 8 <= to {
        let track = part(parts, at, to)?;
        if &track.name == b"trak" {
            let end = track.end.min(to);
            let media = find(parts, track.inside, end, b"mdia")?;
            let handler = find(parts, media.inside, media.end.min(end), b"hdlr")?;
            if parts.bytes(handler.inside + 8)? == *b"vide" {
                let info = find(parts, media.inside, media.end.min(end), b"minf")?;
                let table = find(parts, info.inside, info.end.min(end), b"stbl")?;
                let sizes = find(parts, table.inside, table.end.min(end), b"stsz")?;
                return parts.be32(sizes.inside + 8).filter(|n| *n > 0);
            }
        }
        at = track.end;
    }
    None
}

fn find(parts: &mut Parts, from: u64, to: u64, name: &[u8; 4]) -> Option<Part> {
    let mut at = from;
    while at + 8 <= to {
        let p = part(parts, at, to)?;
        if p.name == *name {
            return Some(p);
        }
        at = p.end;
    }
    None
}
