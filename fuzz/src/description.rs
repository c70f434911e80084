//! The description of a checkpoint: what reads back is written the same again.

use polypscope::model::checkpoint::Description;

pub fn run(bytes: &[u8]) -> bool {
    let Ok(read) = serde_json::from_slice::<Description>(bytes) else { return false };
    let written = serde_json::to_vec(&read).expect("it is JSON");
    let again: Description = serde_json::from_slice(&written).expect("it reads back");
    assert_eq!(serde_json::to_vec(&again).expect("it is JSON"), written);
    true
}
