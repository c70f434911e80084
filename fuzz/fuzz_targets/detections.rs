//! A replay's `frames.jsonl`, line by line.
#![no_main]

use libfuzzer_sys::fuzz_target;
use polypscope::evaluation::video::Detections;
use polypscope_fuzz::{file, is_a_sentence};

fuzz_target!(|bytes: &[u8]| {
    match Detections::from_replay(&file("frames.jsonl", bytes)) {
        Err(e) => is_a_sentence(&e),
        Ok(detections) => {
            for line in detections.take(256) {
                if let Err(e) = line {
                    is_a_sentence(&e);
                    break;
                }
            }
        }
    }
});
