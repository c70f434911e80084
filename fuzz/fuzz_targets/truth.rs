//! Files of true boxes and masks, read frame by frame as the scoring does.
#![no_main]

use libfuzzer_sys::fuzz_target;
use polypscope::evaluation::video::Truth;
use polypscope_fuzz::{file, is_a_sentence};

fuzz_target!(|bytes: &[u8]| {
    for name in ["truth.json", "truth.jsonl"] {
        match Truth::open(&file(name, bytes)) {
            Err(e) => is_a_sentence(&e),
            Ok(mut truth) => {
                for frame in 0..truth.frames().min(64) {
                    if let Err(e) = truth.frame(frame, Some((64, 48))) {
                        is_a_sentence(&e);
                    }
                }
            }
        }
    }
});
