//! Manifests of an archive, and pipeline files.

use polypscope::fleet::manifest::{Head, key};
use polypscope::fleet::{Manifest, Settings, Unit};
use sha2::{Digest, Sha256};

use super::{Seed, root, seed};

fn settings(confirm: &str, view: &str) -> Settings {
    Settings {
        confirm: confirm.into(),
        least_region: Some(0.001),
        threshold: None,
        field_of_view: view.into(),
        precision: "f32".into(),
        input_size: Some(96),
        segment_ms: 300_000,
        thumbnails: true,
        stills_fps: (25, 1),
    }
}

fn manifest(settings: Settings) -> Vec<u8> {
    // As the keys of a unit are made.
    let text = serde_json::to_string(&(1, env!("CARGO_PKG_VERSION"), "ab", &settings)).expect("it is JSON");
    let digest: String = Sha256::digest(text).iter().map(|b| format!("{b:02x}")).collect();
    let unit = |name: &str, stills: bool, problem: Option<&str>| Unit {
        key: key(&digest, name),
        name: name.into(),
        path: format!("/archive/{name}"),
        stills,
        content: name.into(),
        ends: "ends".into(),
        bytes: 1000,
        frames: 250,
        seconds: Some(10.0),
        problem: problem.map(str::to_owned),
    };
    let units =
        vec![unit("a.mp4", false, None), unit("b", true, None), unit("c.mkv", false, Some("is empty"))];
    let head = Head {
        polypscope_fleet: 1,
        version: env!("CARGO_PKG_VERSION").into(),
        store: "store".into(),
        checkpoint: "net".into(),
        checkpoint_sha256: "ab".into(),
        settings,
        shards: 2,
        units: units.len(),
    };
    let whole = Manifest { head, units };
    whole.check_keys().expect("a manifest of this program");
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("m.jsonl");
    whole.write(&path, false).expect("it can be written");
    std::fs::read(path).expect("it was written")
}

pub fn manifests() -> Vec<Seed> {
    vec![
        seed("balanced.jsonl", manifest(settings("balanced", "auto"))),
        seed("off.jsonl", manifest(settings("off", "10,20,300,200"))),
    ]
}

/// Those that come with the program; `sinks.toml` is the part that all of them share.
pub fn pipelines() -> Vec<Seed> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(root().join("pipelines")).expect("the pipelines").flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.ends_with(".toml") && name != "sinks.toml" {
            found.push(seed(&name, std::fs::read(entry.path()).expect("a pipeline")));
        }
    }
    found
}
