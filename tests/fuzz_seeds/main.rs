//! Files to begin fuzzing from, small and whole: each is taken by the reader that its target tries. `make fuzz` has
//! them written below the folder `POLYPSCOPE_SEEDS`.

// The same readers are tried as by the targets.
#[path = "../../fuzz/src/lib.rs"]
mod targets;

#[path = "../common/torch_file.rs"]
#[allow(dead_code)]
mod torch_file;

#[cfg(feature = "video")]
mod archives;
mod checkpoints;
mod pictures;
#[cfg(feature = "video")]
mod recordings;
#[cfg(feature = "video")]
mod requests;
mod texts;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// A file to begin from: its name, its bytes.
type Seed = (String, Vec<u8>);

fn seed(name: &str, bytes: impl AsRef<[u8]>) -> Seed {
    (name.to_owned(), bytes.as_ref().to_vec())
}

struct Target {
    name: &'static str,
    run: fn(&[u8]) -> bool,
    seeds: Vec<Seed>,
}

fn all() -> Vec<Target> {
    let target = |name, run: fn(&[u8]) -> bool, seeds| Target { name, run, seeds };
    vec![
        target("checkpoint", targets::checkpoint::run, checkpoints::files()),
        target("datasets", targets::datasets::run, texts::datasets()),
        target("description", targets::description::run, checkpoints::descriptions()),
        target("detections", targets::detections::run, texts::detections()),
        target("maps", targets::maps::run, texts::maps()),
        target("names", targets::names::run, texts::names()),
        target("still", targets::still::run, pictures::stills()),
        target("training_data", targets::training_data::run, texts::training_data()),
        target("truth", targets::truth::run, texts::truth()),
        #[cfg(feature = "video")]
        target("http", targets::http::run, requests::requests()),
        #[cfg(feature = "video")]
        target("manifest", targets::manifest::run, archives::manifests()),
        #[cfg(feature = "video")]
        target("pipeline", targets::pipeline::run, archives::pipelines()),
        #[cfg(feature = "video")]
        target("structure", targets::structure::run, recordings::containers()),
    ]
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn every_seed_is_taken_by_its_reader() {
    for Target { name, run, seeds } in all() {
        let names: BTreeSet<&str> = seeds.iter().map(|(name, _)| name.as_str()).collect();
        assert!(!seeds.is_empty() && names.len() == seeds.len(), "{name}: {names:?}");
        for (seed, bytes) in &seeds {
            assert!(bytes.len() < 16 << 10, "{name}/{seed} has {} bytes", bytes.len());
            assert!(run(bytes), "{name}/{seed} is refused");
        }
        let Some(folder) = std::env::var_os("POLYPSCOPE_SEEDS") else { continue };
        let folder = Path::new(&folder).join(name);
        std::fs::create_dir_all(&folder).expect("the folder can be written");
        for (seed, bytes) in &seeds {
            std::fs::write(folder.join(seed), bytes).expect("the folder can be written");
        }
    }
}

/// Otherwise the test above would say nothing.
#[test]
fn what_is_no_such_file_is_not_taken() {
    for Target { name, run, .. } in all() {
        for bytes in [&b""[..], b"\n", b"{}", b"\x89PNG\r\n\x1a\n"] {
            assert!(!run(bytes), "{name} takes {bytes:?}");
        }
    }
}

#[test]
fn targets_are_listed_wherever_they_must_be() {
    let read = |name: &str| std::fs::read_to_string(root().join(name)).expect(name);
    let (manifest, table) = (read("fuzz/Cargo.toml"), read("fuzz/README.md"));
    let listed = |text: &str, before: &str, behind: char| -> BTreeSet<String> {
        let names = text.lines().filter_map(|l| l.strip_prefix(before)?.split(behind).next());
        names.map(str::to_owned).collect()
    };
    let mut files: BTreeSet<String> = BTreeSet::new();
    for entry in std::fs::read_dir(root().join("fuzz/fuzz_targets")).expect("a folder") {
        let path = entry.expect("an entry").path();
        files.insert(path.file_stem().expect("a name").to_string_lossy().into_owned());
    }
    assert_eq!(listed(&table, "| `", '`'), files);
    let binaries = listed(&manifest, "path = \"fuzz_targets/", '.');
    assert_eq!(binaries, files);
    #[cfg(feature = "video")]
    assert_eq!(all().iter().map(|t| t.name.to_owned()).collect::<BTreeSet<_>>(), files);
}
