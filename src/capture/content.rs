//! Whether a file holds a video, told from its first bytes.
//!
//! In: a file. Out: [`Content`]. Recorders write dozens of endings for a handful of containers, and some are also used
//! for other things, so that the ending says little.

use std::io::Read;
use std::path::Path;

use gstreamer::glib::translate::IntoGlib;
use gstreamer_base as gst_base;
use gstreamer_pbutils as pbutils;

/// How much of a file is looked at: a transport stream shows its rhythm, a raw stream its first headers.
const HEAD: u64 = 256 << 10;

/// What a file is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Content {
    Video,
    /// Something else, in words where GStreamer knows it.
    Other(Option<String>),
    Empty,
}

/// Looks at a regular file; anything else could make the reader wait.
pub(super) fn of(path: &Path) -> std::io::Result<Content> {
    let mut head = Vec::new();
    std::fs::File::open(path)?.take(HEAD).read_to_end(&mut head)?;
    Ok(of_bytes(&head))
}

fn of_bytes(head: &[u8]) -> Content {
    if head.is_empty() {
        return Content::Empty;
    }
    let none = None::<&gstreamer::Object>;
    let Ok((caps, probability)) = gst_base::type_find_helper_for_data(none, head) else {
        return Content::Other(None);
    };
    let name = caps.structure(0).map_or_else(String::new, |s| s.name().to_string());
    let possible = gstreamer::TypeFindProbability::Possible.into_glib();
    if probability.into_glib() >= possible && is_video(&name, head) {
        return Content::Video;
    }
    Content::Other(match name.as_str() {
        "" => None,
        name if name.starts_with("text/") => Some("text".into()),
        _ => Some(pbutils::pb_utils_get_codec_description(&caps).to_string()),
    })
}

fn is_video(name: &str, head: &[u8]) -> bool {
    match name {
        "application/x-3gp"
        | "application/mxf"
        | "application/vnd.rn-realmedia"
        | "application/x-pn-realmedia"
        | "multipart/x-mixed-replace" => true,
        // Most files of this container are music.
        "application/ogg" => [&b"theora"[..], b"OVP80", b"BBCD"]
            .iter()
            .any(|mark| head.windows(mark.len()).any(|w| w == *mark)),
        _ => name.starts_with("video/"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containers_are_told_from_what_is_none() {
        crate::capture::init().unwrap();
        let mut stream = Vec::new();
        for n in 0..400u32 {
            let mut packet = [0xff; 188];
            packet[..4].copy_from_slice(&[0x47, 0x01, 0x00, 0x10 | (n % 16) as u8]);
            stream.extend(packet);
        }
        let mut pack = vec![0, 0, 1, 0xba, 0x44, 0, 4, 0, 4, 1, 1, 0x89, 0xc3, 0xf8];
        pack.extend([0, 0, 1, 0xe0, 0, 20, 0x80, 0, 0]);
        pack.extend([0; 17]);
        for (what, bytes) in [
            ("quicktime", b"\0\0\0\x14ftypqt  \0\0\0\0qt  \0\0\0\x08wide".to_vec()),
            ("mp4", b"\0\0\0\x18ftypf4v \0\0\0\0f4v isom\0\0\0\x08free".to_vec()),
            ("avi", b"RIFF\0\x10\0\0AVI LIST".to_vec()),
            ("transport stream", stream),
            ("program stream", pack.repeat(40)),
        ] {
            assert_eq!(of_bytes(&bytes), Content::Video, "{what}");
        }
        for (what, bytes) in [
            ("text", b"00:01 polyp in the sigmoid\n".repeat(9)),
            ("zip", b"PK\x03\x04\x14\0\0\0\x08\0".to_vec()),
            ("music", b"OggS\0\x02\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\x1e\x01vorbis".to_vec()),
            ("PNG", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR".to_vec()),
            ("zeros", vec![0; 4096]),
        ] {
            assert!(matches!(of_bytes(&bytes), Content::Other(_)), "{what}: {:?}", of_bytes(&bytes));
        }
        assert_eq!(of_bytes(b""), Content::Empty);
    }
}
