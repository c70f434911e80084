//! Matroska and WebM (RFC 8794, 9559): elements, each with its identity and size.

use super::{Parts, Structure};

const SEGMENT: u32 = 0x1853_8067;
const CLUSTER: u32 = 0x1f43_b675;
const INFO: u32 = 0x1549_a966;
const CUES: u32 = 0x1c53_bb6b;
/// What a segment holds besides clusters: seek head, info, tracks, cues, attachments, chapters, tags, void, checksum.
const BESIDES: &[u32] =
    &[0x114d_9b74, INFO, 0x1654_ae6b, CUES, 0x1941_a469, 0x1043_a770, 0x1254_c367, 0xec, 0xbf];
/// What a cluster holds: time, position, size before, silent tracks, blocks, groups, encrypted blocks, void, checksum.
const IN_CLUSTER: &[u32] = &[0xe7, 0xa7, 0xab, 0x5854, 0xa3, 0xa0, 0xaf, 0xec, 0xbf];

/// An element's identity, where its content begins and where it ends; `None` for an end that is not said.
struct Element {
    id: u32,
    inside: u64,
    end: Option<u64>,
}

/// Why there is no element.
enum Fault {
    /// The file ends.
    End,
    /// This is none.
    Noise,
}

fn element(parts: &mut Parts, at: u64) -> Result<Element, Fault> {
    let [first] = parts.bytes::<1>(at).ok_or(Fault::End)?;
    let width = u64::from(first.leading_zeros()) + 1;
    if width > 4 {
        return Err(Fault::Noise);
    }
    let mut id = 0u32;
    for i in 0..width {
        let [b] = parts.bytes::<1>(at + i).ok_or(Fault::End)?;
        id = id << 8 | u32::from(b);
    }
    let [first] = parts.bytes::<1>(at + width).ok_or(Fault::End)?;
    let size_width = u64::from(first.leading_zeros()) + 1;
    if size_width > 8 {
        return Err(Fault::Noise);
    }
    let mut size = u64::from(first) & ((1u64 << (8 - size_width)) - 1);
    for i in 1..size_width {
        let [b] = parts.bytes::<1>(at + width + i).ok_or(Fault::End)?;
        size = size << 8 | u64::from(b);
    }
    let inside = at + width + size_width;
    let unknown = size == (1u64 << (7 * size_width)) - 1;
    let end = if unknown { None } else { Some(inside.checked_add(size).ok_or(Fault::Noise)?) };
    Ok(Element { id, inside, end })
}

pub(super) fn walk(parts: &mut Parts) -> Structure {
    let Ok(head) = element(parts, 0) else { return Structure::cut() };
    let Some(segment_at) = head.end else { return Structure::broken(0) };
    // A void may stand between the two.
    let mut at = segment_at;
    let segment = loop {
        match element(parts, at) {
            Ok(e) if e.id == SEGMENT => break e,
            Ok(Element { id: 0xec | 0xbf, end: Some(end), .. }) => at = end,
            Ok(_) | Err(Fault::Noise) => return Structure::broken(at),
            Err(Fault::End) => return Structure::cut(),
        }
    };
    let mut found = Structure { tells_its_end: segment.end.is_some(), ..Structure::default() };
    let limit = segment.end.unwrap_or(parts.length);
    if limit > parts.length {
        found.cut = true;
    }
    clusters(parts, segment.inside, limit.min(parts.length), &mut found);
    found
}

/// Follows the parts of the segment. After the first that is broken, the next cluster is looked for, as players do.
fn clusters(parts: &mut Parts, from: u64, to: u64, found: &mut Structure) {
    let mut scale = 1_000_000;
    let mut time = None;
    let mut at = from;
    while at < to {
        let next = match element(parts, at) {
            Err(Fault::End) => {
                found.cut = true;
                return;
            }
            Ok(e) if e.id == CLUSTER => {
                let end = e.end.unwrap_or(to);
                if end > parts.length {
                    found.cut = true;
                }
                blocks(parts, e.inside, end.min(to), e.end.is_none(), &mut time, found)
            }
            Ok(Element { id, inside, end: Some(end) }) if BESIDES.contains(&id) => {
                if end > parts.length {
                    found.cut = true;
                    return;
                }
                if id == INFO {
                    scale = time_scale(parts, inside, end).unwrap_or(scale);
                }
                Ok(end)
            }
            Ok(_) | Err(Fault::Noise) => Err(at),
        };
        at = match next {
            Ok(end) => end,
            Err(broken) => {
                if found.broken_at.is_none() {
                    found.broken_at = Some(broken);
                    found.broken_ns = time.map(|t: u64| t.saturating_mul(scale));
                }
                let Some(cluster) = next_cluster(parts, broken + 1, to) else { return };
                cluster
            }
        };
    }
}

/// Nanoseconds of a tick.
fn time_scale(parts: &mut Parts, from: u64, to: u64) -> Option<u64> {
    let mut at = from;
    while at < to {
        let e = element(parts, at).ok()?;
        let end = e.end?;
        if e.id == 0x002a_d7b1 {
            return number(parts, e.inside, end);
        }
        at = end;
    }
    None
}

fn number(parts: &mut Parts, from: u64, to: u64) -> Option<u64> {
    (to - from <= 8)
        .then(|| (from..to).try_fold(0u64, |n, at| parts.bytes::<1>(at).map(|[b]| n << 8 | u64::from(b))))?
}

/// Follows a cluster's blocks. `time` is that of the last block. Gives where the cluster ends, or the first byte that
/// is no element.
fn blocks(
    parts: &mut Parts,
    from: u64,
    to: u64,
    open: bool,
    time: &mut Option<u64>,
    found: &mut Structure,
) -> Result<u64, u64> {
    let mut at = from;
    let mut base = 0;
    while at < to {
        let e = match element(parts, at) {
            Ok(e) => e,
            Err(Fault::End) => {
                found.cut = true;
                return Ok(to);
            }
            Err(Fault::Noise) => return Err(at),
        };
        if open && (e.id == CLUSTER || BESIDES.contains(&e.id) && !IN_CLUSTER.contains(&e.id)) {
            return Ok(at);
        }
        let Some(end) = e.end.filter(|_| IN_CLUSTER.contains(&e.id)) else { return Err(at) };
        if end > parts.length {
            found.cut = true;
            return Ok(to);
        }
        if end > to {
            return Err(at);
        }
        match e.id {
            0xe7 => {
                base = number(parts, e.inside, end).ok_or(at)?;
                *time = Some(base);
            }
            0xa3 => {
                if let Some([track, a, b]) = parts.bytes::<3>(e.inside)
                    && track & 0x80 != 0
                {
                    *time = Some(base.saturating_add_signed(i64::from(i16::from_be_bytes([a, b]))));
                }
            }
            _ => {}
        }
        at = end;
    }
    Ok(at)
}

/// Where the next cluster begins.
fn next_cluster(parts: &mut Parts, from: u64, to: u64) -> Option<u64> {
    let wanted = CLUSTER.to_be_bytes();
    (from..to.saturating_sub(3)).find(|at| parts.bytes::<4>(*at) == Some(wanted))
}
