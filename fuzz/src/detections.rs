//! A replay's `frames.jsonl`, line by line.

use polypscope::evaluation::video::Detections;

use super::{file, taken};

pub fn run(bytes: &[u8]) -> bool {
    let Some(detections) = taken(Detections::from_replay(&file("frames.jsonl", bytes))) else { return false };
    let mut frames = 0;
    for line in detections.take(256) {
        if taken(line).is_none() {
            return false;
        }
        frames += 1;
    }
    frames > 0
}
