//! Published sets of videos: an annotation of REAL-Colon (XML), and the tables beside it. How the files of the other
//! sets are named is the target `names`', their masks are the targets `still`'s and `truth`'s.

use polypscope::evaluation::video::{Layout, Set};

use super::{file, place, taken};

/// An annotation without a lesion.
const CLEAN: &[u8] = b"<annotation><size><width>40</width><height>30</height></size></annotation>";

pub fn run(bytes: &[u8]) -> bool {
    let annotation = {
        file("xml/002-001_annotations/002-001_0.xml", bytes);
        recording("xml/002-001")
    };
    let table = {
        file("csv/002-001_annotations/002-001_0.xml", CLEAN);
        file("csv/video_info.csv", bytes);
        file("csv/lesion_info.csv", bytes);
        recording("csv/002-001")
    };
    // A table that says nothing of the recording is read and of no use.
    annotation.is_some() || table.is_some_and(|set| set.fps.is_some())
}

/// The recording, if its only frame's annotation is taken too.
fn recording(name: &str) -> Option<Set> {
    let mut set = taken(Set::open(Layout::RealColon, &place(name)))?;
    assert!(set.fps.is_none_or(|fps| fps > 0.0 && fps <= 1000.0), "{:?}", set.fps);
    let lesions = taken(set.truth.frame(0, None))??;
    assert!(lesions.iter().all(|l| l.is_box));
    Some(set)
}
