//! Picture files: as pictures for the network, and as masks for the scoring.
#![no_main]

use libfuzzer_sys::fuzz_target;
use polypscope::evaluation::images::{Classes, MaskLevels, read_masks};
use polypscope::still::Still;
use polypscope_fuzz::{file, is_a_sentence};

fuzz_target!(|bytes: &[u8]| {
    let Ok(still) = Still::decode(bytes) else { return };
    let (width, height) = (still.width(), still.height());
    assert!(u64::from(width) * u64::from(height) <= 64_000_000, "{width}x{height}");
    if let Ok(picture) = still.into_rgb() {
        assert_eq!(picture.dimensions(), (width, height));
    }
    match read_masks(&file("mask", bytes), &Classes::default(), MaskLevels::default()) {
        Ok((masks, _)) => assert!(!masks.is_empty()),
        Err(e) => is_a_sentence(&e),
    }
});
