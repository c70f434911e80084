//! Which encoded packets are pictures to be shown.
//!
//! In: a packet as its container holds it, and its codec. Out: whether a picture should come out of it. Codecs have
//! packets that only help to decode others; whoever counts pictures must not miss those.

/// A codec whose packets are not all shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Codec {
    Vp8,
    Vp9,
    /// MPEG-4 part 2, with its "packed" streams: two pictures in one packet, then one that is empty.
    Mpeg4,
    /// Every packet is a picture (or half of one, which its time tells).
    #[default]
    Plain,
}

impl Codec {
    /// By the name and version in GStreamer's caps.
    pub fn of(name: &str, version: Option<i32>) -> Self {
        match (name, version) {
            ("video/x-vp8", _) => Self::Vp8,
            ("video/x-vp9", _) => Self::Vp9,
            ("video/mpeg", Some(4)) | ("video/x-divx" | "video/x-xvid", _) => Self::Mpeg4,
            _ => Self::Plain,
        }
    }

    /// Whether a packet is a picture to be shown. What cannot be told counts as one: a damaged packet was a picture.
    pub fn shows(self, packet: &[u8]) -> bool {
        let (Some(&first), Some(&last)) = (packet.first(), packet.last()) else {
            // An empty packet stands for "the picture before stays".
            return false;
        };
        match self {
            // The frame tag (RFC 6386, 9.1): bit 4 is show_frame.
            Self::Vp8 => first & 0x10 != 0,
            Self::Vp9 => vp9_shows(first, last),
            // ffmpeg's own limit for a picture that is not coded.
            Self::Mpeg4 => packet.len() > 19 || !packet.starts_with(&[0, 0, 1, 0xb6]),
            Self::Plain => true,
        }
    }
}

/// The uncompressed header of a VP9 frame (6.2 of its specification). A superframe always shows its last frame.
fn vp9_shows(first: u8, last: u8) -> bool {
    if last & 0xe0 == 0xc0 || first >> 6 != 2 {
        return true;
    }
    let profile = (first >> 5 & 1) | (first >> 4 & 1) << 1;
    // Profile 3 has a reserved bit before show_existing_frame.
    let shift = if profile == 3 { 1 } else { 0 };
    let bit = |n: u8| first >> (3 - n - shift) & 1 == 1;
    if bit(0) {
        return true;
    }
    // With profile 3, show_frame is the first byte's last bit.
    bit(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hidden_packets_are_told_from_pictures() {
        // VP8: show_frame set, and not.
        assert!(Codec::Vp8.shows(&[0x10, 2, 0, 7]));
        assert!(!Codec::Vp8.shows(&[0x01, 2, 0, 7]));
        // VP9 profile 0: 10 00 e t s x.
        assert!(Codec::Vp9.shows(&[0b1000_0010, 0x49, 0]), "a key frame that is shown");
        assert!(!Codec::Vp9.shows(&[0b1000_0100, 0x49, 0]), "one for reference only");
        assert!(Codec::Vp9.shows(&[0b1000_1000]), "an earlier frame shown again");
        assert!(Codec::Vp9.shows(&[0b1000_0100, 0x49, 0xc1]), "a superframe");
        assert!(Codec::Vp9.shows(&[0, 0, 0]), "a damaged one was a picture");
        assert!(!Codec::Mpeg4.shows(&[0, 0, 1, 0xb6, 0x51, 0x7f]));
        assert!(Codec::Mpeg4.shows(&[0; 40]));
        assert!(Codec::Plain.shows(&[0]) && !Codec::Plain.shows(&[]));
    }
}
