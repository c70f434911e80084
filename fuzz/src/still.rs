//! Picture files: as pictures for the network, and as masks for the scoring, of one class, of several values, of
//! several colours.

use polypscope::evaluation::images::{Classes, MaskLevels, read_masks};
use polypscope::still::Still;

use super::{file, taken};

/// What the seeds' masks of several classes hold.
pub const CLASSES: [&str; 2] = ["polyp=1,tool=2", "polyp=#ff0000,tool=#00ff00"];

pub fn run(bytes: &[u8]) -> bool {
    let Ok(still) = Still::decode(bytes) else { return false };
    let (width, height) = (still.width(), still.height());
    assert!(u64::from(width) * u64::from(height) <= 64_000_000, "{width}x{height}");
    let mut used = false;
    if let Ok(picture) = still.into_rgb() {
        assert_eq!(picture.dimensions(), (width, height));
        used = true;
    }
    let path = file("mask", bytes);
    let several = CLASSES.map(|classes| Classes::parse(classes).expect("classes"));
    for classes in [Classes::default()].iter().chain(&several) {
        if let Some((masks, _)) = taken(read_masks(&path, classes, MaskLevels::default())) {
            assert_eq!(masks.len(), classes.names().len());
            assert!(masks.iter().all(|m| (m.width(), m.height()) == (width as usize, height as usize)));
            used = true;
        }
    }
    used
}
