//! Manifests of an archive: what is read is written the same again, and its settings say what they stand for.

use polypscope::fleet::Manifest;

use super::{file, place, taken};

pub fn run(bytes: &[u8]) -> bool {
    let Some(manifest) = taken(Manifest::read(&file("manifest.jsonl", bytes))) else { return false };
    let again = place("again.jsonl");
    manifest.write(&again, true).expect("what was read can be written");
    assert_eq!(Manifest::read(&again).expect("what was written can be read"), manifest);
    taken(manifest.check_keys());
    let settings = &manifest.head.settings;
    let _ = settings.segment();
    let numbers = taken(settings.numbers());
    let view = taken(settings.view());
    numbers.is_some() && view.is_some()
}
