//! EXIF: a block of metadata flows in, the orientation it states flows out.

const ORIENTATION: u16 = 0x0112;

/// The orientation (1 to 8) that an EXIF block states, if it does. Lenient: whatever cannot be read states nothing.
pub(super) fn orientation(block: &[u8]) -> Option<u8> {
    // JPEG puts this before the block, and some programs do so in PNG and WebP too.
    let block = block.strip_prefix(b"Exif\0\0").unwrap_or(block);
    let little = match block.get(..4)? {
        b"II*\0" => true,
        b"MM\0*" => false,
        _ => return None,
    };
    let short = |at: usize| {
        let bytes: [u8; 2] = block.get(at..at.checked_add(2)?)?.try_into().ok()?;
        Some(if little { u16::from_le_bytes(bytes) } else { u16::from_be_bytes(bytes) })
    };
    let long = |at: usize| {
        let bytes: [u8; 4] = block.get(at..at.checked_add(4)?)?.try_into().ok()?;
        Some(if little { u32::from_le_bytes(bytes) } else { u32::from_be_bytes(bytes) })
    };
    let directory = long(4)? as usize;
    let entries = usize::from(short(directory)?);
    let entry = (0..entries).map(|i| directory + 2 + 12 * i).find(|&at| short(at) == Some(ORIENTATION))?;
    let value = match short(entry + 2)? {
        1 => u32::from(*block.get(entry + 8)?),
        3 => u32::from(short(entry + 8)?),
        4 => long(entry + 8)?,
        _ => return None,
    };
    u8::try_from(value).ok().filter(|v| (1..=8).contains(v))
}
