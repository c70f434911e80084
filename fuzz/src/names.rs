//! How the files of a data set are named: each line of the input is a file of one and the same mask. Frames and masks
//! pair by their names, as SUN-SEG and CVC-VideoClinicDB have them, as masks of a video, and as pictures to train on.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path};

use polypscope::evaluation::video::{Layout, Set, Truth};
use polypscope::training::data::open::{Source, negatives, open};

use super::{MASK, file, place, taken};

/// What stands before the name of a mask; the others are pictures.
pub const MASK_SIGN: &[u8] = b"gt ";

pub fn run(bytes: &[u8]) -> bool {
    let root = place("names");
    let _ = std::fs::remove_dir_all(&root);
    let original = file("names/original", MASK);
    for (side, folder) in [("Frame", "images"), ("GT", "masks")] {
        std::fs::create_dir_all(root.join(folder)).expect("the folder can be written");
        std::fs::create_dir_all(root.join(side)).expect("the folder can be written");
        // One and the same folder under the name that each set gives it.
        std::os::unix::fs::symlink(root.join(folder), root.join(side).join("case")).expect("a link");
    }
    for line in bytes.split(|b| *b == b'\n').filter(|line| line.len() <= 100).take(12) {
        let (folder, name) = match line.strip_prefix(MASK_SIGN) {
            Some(name) => ("masks", name),
            None => ("images", line),
        };
        let name = Path::new(OsStr::from_bytes(name));
        if name.components().next().is_none() || !name.components().all(|c| matches!(c, Component::Normal(_)))
        {
            continue;
        }
        // A file cannot lie where a folder does, and no name may have a NUL.
        let path = root.join(folder).join(name);
        if path.parent().is_some_and(|above| std::fs::create_dir_all(above).is_ok()) {
            let _ = std::fs::hard_link(&original, &path);
        }
    }
    let of = |name: &str| Source { path: root.join(name), weight: 1.0 };
    let sets = [open(&of("")), negatives(&of("images"))];
    let trained = sets.into_iter().filter_map(taken).filter(|set| !set.items.is_empty()).count();
    let cases = [Set::open(Layout::CvcVideo, &root), Set::open(Layout::SunSeg, &root.join("Frame/case"))];
    let truths = cases.into_iter().map(|set| {
        set.map(|set| {
            assert!(set.frames.len() as u64 >= set.truth.frames());
            set.truth
        })
    });
    let read = truths.chain([Truth::open(&root.join("masks"))]).filter_map(taken).filter_map(|mut truth| {
        let found: Vec<_> =
            (0..truth.frames().min(16)).filter_map(|n| taken(truth.frame(n, None))).flatten().collect();
        found.iter().any(|objects| objects.len() == 1).then_some(())
    });
    trained + read.count() > 0
}
