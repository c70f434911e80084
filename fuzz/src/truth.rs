//! Ground truth of a video, read frame by frame as the scoring does: a file of boxes, a phantom's lines, a mask of its
//! identities, a mask without.

use std::path::Path;

use polypscope::evaluation::video::Truth;

use super::{MASK, file, taken};

/// One line of a phantom's `truth.jsonl`.
const LINE: &[u8] = b"{\"frame\":0}\n";

pub fn run(bytes: &[u8]) -> bool {
    file("phantom/000000.png", MASK);
    file("identities/truth.jsonl", LINE);
    let folder = |file: std::path::PathBuf| file.parent().expect("a folder").to_owned();
    let boxes = file("truth.json", bytes);
    let lines = folder(file("phantom/truth.jsonl", bytes));
    let identities = folder(file("identities/000000.png", bytes));
    let mask = folder(file("masks/0.png", bytes));
    // A video of the mask's size, and one whose size nobody knows.
    [&boxes, &lines, &identities, &mask]
        .into_iter()
        .any(|path| frames(path, Some((16, 16))) | frames(path, None))
}

fn frames(path: &Path, size: Option<(usize, usize)>) -> bool {
    let Some(mut truth) = taken(Truth::open(path)) else { return false };
    let mut read = 0;
    for frame in 0..truth.frames().min(64) {
        if let Some(Some(objects)) = taken(truth.frame(frame, size)) {
            assert!(objects.iter().all(|o| o.region.area_px() > 0 || o.is_box));
            read += 1;
        }
    }
    read > 0
}
