//! The structure of recordings, which is walked before a demuxer sees the file: MP4, Matroska, AVI, Flash, Ogg, ASF,
//! MXF, MPEG's two streams.

use polypscope::capture::Structure;

use super::file;

fn walk(bytes: &[u8]) -> Structure {
    let found = Structure::of(&file("recording", bytes)).expect("the folder can be read");
    assert_eq!(found.length, bytes.len() as u64);
    assert!(found.broken_at.is_none_or(|at| at < found.length), "{found:?}");
    assert!(found.broken_ns.is_none() || found.broken_at.is_some(), "{found:?}");
    // Damage without a time of its own lies within the recording.
    let at = Structure { broken_ns: None, ..found }.broken_time(Some(1_000_000_000));
    assert!(at.is_none_or(|at| at < 1_000_000_000), "{found:?}");
    found
}

/// Whether this is a whole recording of a kind that is known: one that is seen to be cut when its end is missing.
pub fn run(bytes: &[u8]) -> bool {
    let is_whole = walk(bytes).is_whole();
    let cut = bytes.len().saturating_sub(5);
    !walk(&bytes[..cut]).is_whole() && is_whole
}
