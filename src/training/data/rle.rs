//! Run lengths of COCO: alternately outside and inside, column by column.

/// The compressed text: groups of five bits from `0` on, low ones first, each count after the third as the difference
/// to the one two before. `None` for text that is none.
pub fn decompress(text: &str) -> Option<Vec<u32>> {
    let mut counts: Vec<i64> = Vec::new();
    let mut bytes = text.bytes();
    while let Some(first) = bytes.next() {
        let (mut value, mut shift, mut byte) = (0i64, 0u32, first);
        loop {
            let bits = i64::from(byte.checked_sub(48).filter(|b| *b < 64)?);
            value |= (bits & 31).checked_shl(shift)?;
            shift += 5;
            if bits & 32 == 0 {
                if bits & 16 != 0 && shift < 63 {
                    value |= -1 << shift;
                }
                break;
            }
            if shift > 50 {
                return None;
            }
            byte = bytes.next()?;
        }
        if counts.len() > 2 {
            value = value.checked_add(counts[counts.len() - 2])?;
        }
        counts.push(value);
    }
    counts.into_iter().map(|c| u32::try_from(c).ok()).collect()
}

/// Sets the pixels inside, rows from the top, to `class`.
pub fn paint(counts: &[u32], height: usize, labels: &mut [u8], class: u8) {
    let width = labels.len() / height.max(1);
    let mut at = 0usize;
    for (i, &n) in counts.iter().enumerate() {
        let end = (at + n as usize).min(labels.len());
        if i % 2 == 1 {
            for p in at..end {
                labels[p % height * width + p / height] = class;
            }
        }
        at = end;
    }
}
