//! Bytes as text.
//!
//! In: the bytes of a digest or of random numbers. Out: two lower-case hexadecimal digits for each.

use std::fmt::Write;

/// Lower-case hexadecimal digits, the higher half of each byte first.
pub(crate) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        // Writing into a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_byte_has_two_digits() {
        assert_eq!(super::hexadecimal(&[0, 9, 0xa0, 0xff]), "0009a0ff");
        assert_eq!(super::hexadecimal(&[]), "");
    }
}
