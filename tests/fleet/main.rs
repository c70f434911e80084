//! Archives from end to end: planned, worked on by workers that are killed, race and run out of disk, and put together.
//!
//! A stand-in network that marks what is red takes the place of M²SNet, except where the binary itself is run.
#![cfg(feature = "video")]

#[path = "../common/mod.rs"]
mod common;

mod binary;
mod many;
mod resume;
mod troubles;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use polypscope::fleet::{Manifest, Merged, Plan, Settings, Shard, Staging, Store, Tally, Work, merge, plan};
use polypscope::model::{Architecture, checkpoint::Description};
use polypscope::segment::Segmenter;

use common::recordings::{Moving, write};
use common::red_finder::RedFinder;

/// An archive in a temporary folder.
struct Archive {
    _keep: tempfile::TempDir,
    dir: PathBuf,
    settings: Settings,
}

impl Archive {
    fn new() -> Self {
        let keep = tempfile::tempdir().unwrap();
        let dir = keep.path().to_owned();
        std::fs::create_dir(dir.join("videos")).unwrap();
        let settings = Settings {
            confirm: "balanced".into(),
            least_region: None,
            threshold: Some(0.5),
            field_of_view: "auto".into(),
            precision: "f32".into(),
            input_size: None,
            segment_ms: 400,
            thumbnails: true,
            stills_fps: (25, 1),
        };
        Self { _keep: keep, dir, settings }
    }

    fn clip(&self, name: &str, frames: usize) -> PathBuf {
        let path = self.dir.join("videos").join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        // A walking block and a grey that changes: something is followed most of the time.
        write(&path, "matroskamux", Some(&Moving::h264(frames)), None)
    }

    fn plan(&self) -> Manifest {
        self.plan_with(|_| {})
    }

    fn plan_with(&self, change: impl FnOnce(&mut Plan)) -> Manifest {
        let mut wanted = Plan {
            inputs: vec![self.dir.join("videos")],
            lists: Vec::new(),
            store: self.dir.join("store").display().to_string(),
            checkpoint: ("stand-in".into(), "00".into()),
            settings: self.settings.clone(),
            quick: false,
            salt: None,
            shard_minutes: 60.0,
            shards: Some(1),
            staging: self.staging(),
        };
        change(&mut wanted);
        plan(&wanted, &|_, _| {}).unwrap()
    }

    fn staging(&self) -> Staging {
        Staging { folder: self.dir.join("scratch"), most_bytes: 1 << 30 }
    }

    fn store(&self, name: &str) -> Store {
        Store::open(self.dir.join(name).to_str().unwrap()).unwrap()
    }

    /// Runs a shard; `stop_at` frames after its begin it is told to stop.
    fn run(&self, manifest: &Manifest, store: &Store, shard: (usize, usize), stop_at: Option<u64>) -> Tally {
        let stop = AtomicBool::new(false);
        let description = Description::published("stand-in", Architecture::default());
        let mut network = || {
            Ok(Segmenter::new(
                Box::new(RedFinder),
                &description,
                manifest.head.settings.view()?,
                manifest.head.settings.threshold,
            )
            .with_filter(manifest.head.settings.filter()?))
        };
        let mut work = Work {
            manifest,
            store,
            staging: self.staging(),
            stop: &stop,
            accept_partial: false,
            network: &mut network,
        };
        let mut calls = 0;
        let shard = Shard { index: shard.0, of: shard.1 };
        work.run(shard, &mut |_, _, _| {
            calls += 1;
            if stop_at.is_some_and(|at| calls >= at) {
                stop.store(true, Ordering::Relaxed);
            }
        })
        .unwrap()
    }

    fn merge(&self, manifest: &Manifest, store: &Store, to: &str) -> (Merged, PathBuf) {
        let to = self.dir.join(to);
        (merge(manifest, store, &to, true, &mut |_| {}).unwrap(), to)
    }
}

/// The files of a merge that depend on the results alone; of the page the part that does.
fn results(merged: &Path) -> Vec<(String, Vec<u8>)> {
    let read = |name: &str| std::fs::read(merged.join(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
    let mut all: Vec<_> = ["failed.csv", "frames.parquet", "polyps.parquet", "recordings.parquet"]
        .map(|name| (name.to_owned(), read(name)))
        .into();
    let page = String::from_utf8(read("report.html")).unwrap();
    let (before, rest) = page.split_once("<!-- run -->").expect("the page says what depends on the run");
    let (_, after) = rest.split_once("<!-- /run -->").unwrap();
    all.push(("report.html".to_owned(), format!("{before}{after}").into_bytes()));
    all
}

/// The same results, byte for byte.
fn same(a: &Path, b: &Path) {
    for ((name, a), (_, b)) in results(a).into_iter().zip(results(b)) {
        assert!(a == b, "{name} differs: {} and {} bytes", a.len(), b.len());
    }
}

/// Objects of a store, relative to it.
fn objects(store: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut open = vec![store.to_owned()];
    while let Some(folder) = open.pop() {
        // A worker may be at it: what is not there yet or not any more is no object.
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                open.push(path);
            } else {
                found.push(path.strip_prefix(store).unwrap().display().to_string());
            }
        }
    }
    found.sort();
    found
}

/// Numbers that look random and are the same every time.
struct Lots(u64);

impl Lots {
    fn draw(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % below
    }
}
