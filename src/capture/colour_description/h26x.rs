//! The sequence parameter sets of H.264 and H.265.
//!
//! In: one NAL unit, its header first. Out: what its video usability information says of the colours. Everything before
//! that has to be read to find it (ITU-T H.264 7.3.2.1.1 and E.1.1, H.265 7.3.2.2.1 and E.2.1).

use super::Said;
use super::bits::Bits;

/// A NAL unit's payload without the bytes that keep start codes out of it.
fn payload(unit: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(unit.len());
    let mut zeros = 0;
    for &byte in unit {
        if zeros >= 2 && byte == 3 {
            zeros = 0;
            continue;
        }
        zeros = if byte == 0 { zeros + 1 } else { 0 };
        out.push(byte);
    }
    out
}

/// The part of the usability information up to the colours; the same in both.
fn usability(b: &mut Bits) -> Option<Said> {
    const EXTENDED_SAR: u32 = 255;
    if b.flag()? && b.u(8)? == EXTENDED_SAR {
        b.skip(32)?;
    }
    if b.flag()? {
        b.skip(1)?;
    }
    if !b.flag()? {
        return Some(Said::default());
    }
    b.skip(3)?;
    let full = b.flag()?;
    let said = if b.flag()? { Said::h273(b.u(8)?, b.u(8)?, b.u(8)?) } else { Said::default() };
    Some(Said { full_range: Some(full), ..said })
}

/// H.264: `unit` begins with the byte of type 7.
pub(super) fn h264(unit: &[u8]) -> Option<Said> {
    let bytes = payload(unit.get(1..)?);
    let b = &mut Bits::new(&bytes);
    let profile = b.u(8)?;
    b.skip(16)?;
    b.ue()?;
    if matches!(profile, 100 | 110 | 122 | 244 | 44 | 83 | 86 | 118 | 128 | 138 | 139 | 134 | 135) {
        let chroma = b.ue()?;
        if chroma == 3 {
            b.skip(1)?;
        }
        b.ue()?;
        b.ue()?;
        b.skip(1)?;
        if b.flag()? {
            for list in 0..if chroma == 3 { 12 } else { 8 } {
                if b.flag()? {
                    h264_scaling_list(b, if list < 6 { 16 } else { 64 })?;
                }
            }
        }
    }
    b.ue()?;
    match b.ue()? {
        0 => {
            b.ue()?;
        }
        1 => {
            b.skip(1)?;
            b.se()?;
            b.se()?;
            for _ in 0..b.ue()?.min(255) {
                b.se()?;
            }
        }
        _ => {}
    }
    b.ue()?;
    b.skip(1)?;
    b.ue()?;
    b.ue()?;
    if !b.flag()? {
        b.skip(1)?;
    }
    b.skip(1)?;
    if b.flag()? {
        for _ in 0..4 {
            b.ue()?;
        }
    }
    if b.flag()? { usability(b) } else { Some(Said::default()) }
}

fn h264_scaling_list(b: &mut Bits, size: usize) -> Option<()> {
    let (mut last, mut next) = (8, 8);
    for _ in 0..size {
        if next != 0 {
            next = (last + b.se()? + 256).rem_euclid(256);
        }
        last = if next == 0 { last } else { next };
    }
    Some(())
}

/// H.265: `unit` begins with the two bytes of type 33.
pub(super) fn h265(unit: &[u8]) -> Option<Said> {
    let bytes = payload(unit.get(2..)?);
    let b = &mut Bits::new(&bytes);
    b.skip(4)?;
    let layers = b.u(3)? as usize;
    b.skip(1)?;
    // Profile, tier and level of the whole, then of the temporal layers below it.
    b.skip(96)?;
    let mut present = [(false, false); 8];
    for p in present.iter_mut().take(layers) {
        *p = (b.flag()?, b.flag()?);
    }
    if layers > 0 {
        b.skip(2 * (8 - layers))?;
    }
    for (profile, level) in present.into_iter().take(layers) {
        b.skip(if profile { 88 } else { 0 } + if level { 8 } else { 0 })?;
    }
    b.ue()?;
    if b.ue()? == 3 {
        b.skip(1)?;
    }
    b.ue()?;
    b.ue()?;
    if b.flag()? {
        for _ in 0..4 {
            b.ue()?;
        }
    }
    b.ue()?;
    b.ue()?;
    let order_bits = b.ue()?.min(12) + 4;
    let of_each_layer = b.flag()?;
    for _ in 0..if of_each_layer { layers + 1 } else { 1 } {
        for _ in 0..3 {
            b.ue()?;
        }
    }
    for _ in 0..6 {
        b.ue()?;
    }
    if b.flag()? && b.flag()? {
        h265_scaling_lists(b)?;
    }
    b.skip(2)?;
    if b.flag()? {
        b.skip(8)?;
        b.ue()?;
        b.ue()?;
        b.skip(1)?;
    }
    h265_reference_sets(b)?;
    if b.flag()? {
        for _ in 0..b.ue()?.min(32) {
            b.skip(order_bits as usize + 1)?;
        }
    }
    b.skip(2)?;
    if b.flag()? { usability(b) } else { Some(Said::default()) }
}

fn h265_scaling_lists(b: &mut Bits) -> Option<()> {
    for size in 0..4u32 {
        for _ in (0..6).step_by(if size == 3 { 3 } else { 1 }) {
            if !b.flag()? {
                b.ue()?;
                continue;
            }
            if size > 1 {
                b.se()?;
            }
            for _ in 0..64.min(1 << (4 + 2 * size)) {
                b.se()?;
            }
        }
    }
    Some(())
}

/// Short-term reference picture sets; each may be told as a difference from the one before.
fn h265_reference_sets(b: &mut Bits) -> Option<()> {
    let sets = b.ue()?;
    if sets > 64 {
        return None;
    }
    let mut pictures = 0;
    for set in 0..sets {
        if set > 0 && b.flag()? {
            b.skip(1)?;
            b.ue()?;
            let mut kept = 0;
            for _ in 0..=pictures {
                let used = b.flag()?;
                if used || b.flag()? {
                    kept += 1;
                }
            }
            pictures = kept;
        } else {
            let (before, after) = (b.ue()?, b.ue()?);
            pictures = before.checked_add(after).filter(|n| *n <= 32)?;
            for _ in 0..pictures {
                b.ue()?;
                b.skip(1)?;
            }
        }
    }
    Some(())
}
