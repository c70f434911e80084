//! Checkpoints: a pickle in a zip, a bare pickle, safetensors. None is executed, and none takes more memory than its size
//! warrants (`-rss_limit_mb`).
#![no_main]

use libfuzzer_sys::fuzz_target;
use polypscope::model::Checkpoint;
use polypscope_fuzz::{file, is_a_sentence};

fuzz_target!(|bytes: &[u8]| {
    for name in ["c.pth", "c.safetensors"] {
        if let Err(e) = Checkpoint::open(&file(name, bytes)) {
            is_a_sentence(&e);
        }
    }
});
