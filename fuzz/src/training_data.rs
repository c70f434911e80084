//! What is trained on: a COCO json and a list of pictures and masks, beside two pictures and a mask that are there.

use polypscope::evaluation::images::Classes;
use polypscope::training::data::open::{Source, open};
use polypscope::training::data::read::{Masks, read};
use polypscope::training::data::split::{Grouping, fold};

use super::{MASK, file, taken};

pub fn run(bytes: &[u8]) -> bool {
    for name in ["images/a.png", "images/b.png", "masks/a.png"] {
        file(&format!("set/{name}"), MASK);
    }
    let classes = || Classes::parse("polyp=1,tool=2").expect("classes");
    let coco = pictures("set/set.json", bytes, &Masks { classes: classes(), ..Masks::default() });
    let list = pictures("set/set.txt", bytes, &Masks::default());
    coco | list
}

fn pictures(name: &str, bytes: &[u8], masks: &Masks) -> bool {
    let Some(set) = taken(open(&Source { path: file(name, bytes), weight: 1.0 })) else { return false };
    let known = masks.classes.names().len();
    let mut read_whole = false;
    for item in set.items.iter().take(16) {
        if let Some(sample) = taken(read(item, masks)) {
            assert_eq!(
                sample.labels.len() as u64,
                u64::from(sample.picture.width()) * u64::from(sample.picture.height())
            );
            assert!(sample.labels.iter().all(|l| usize::from(*l) <= known));
            read_whole = true;
        }
    }
    if let Some((training, validation)) = taken(fold(&set.items, &Grouping::None, (0, 2), 1)) {
        assert_eq!(training.len() + validation.len(), set.items.len());
    }
    read_whole
}
