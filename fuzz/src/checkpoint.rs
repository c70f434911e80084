//! Checkpoints: a pickle in a zip, a bare pickle, safetensors. None is executed, and none takes more memory than its
//! size warrants (`-rss_limit_mb`).
//!
//! A whole network has 28 MB, with which a fuzzer gets nowhere. So the file is also read as the few tensors of the
//! seeds, which goes through the same containers down to the values, and as frames with known maps.

use polypscope::model::Checkpoint;
use polypscope::model::checkpoint::{foreign, read_expected};

use super::{file, taken};

/// Keys and shapes of the seeds' tensors.
pub const TENSORS: [(&str, &[usize]); 4] = [
    ("resnet.conv1.0.weight", &[4, 3, 1, 1]),
    ("resnet.bn1.weight", &[8]),
    ("conv_3.norm.weight", &[16]),
    ("output1.0.weight", &[2, 4, 1, 1]),
];

/// What stands in front of the seeds' keys, or does not.
pub const WRAPPER: &str = "module.";

pub fn run(bytes: &[u8]) -> bool {
    let path = file("c", bytes);
    let tensors = |before: &str| {
        let wanted: Vec<_> =
            TENSORS.iter().map(|(key, shape)| (format!("{before}{key}"), shape.to_vec())).collect();
        foreign::read(&path, &wanted).map(|values| {
            assert!(values.iter().zip(&wanted).all(|(v, (_, s))| v.len() == s.iter().product::<usize>()));
        })
    };
    let frames = read_expected(&path).map(|frames| {
        assert!(frames.iter().all(|f| f.rgb.len() == 3 * f.width * f.height));
    });
    [Checkpoint::open(&path).map(drop), frames, tensors(""), tensors(WRAPPER)]
        .into_iter()
        .filter_map(taken)
        .count()
        > 0
}
