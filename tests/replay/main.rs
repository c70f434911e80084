//! The replay path from end to end, on small recordings made on the spot.
//!
//! A stand-in network that marks what is red takes the place of M²SNet, except where the binary itself is run.
#![cfg(feature = "video")]

#[path = "../common/mod.rs"]
mod common;

mod binary;
mod colours;
mod faults;
mod formats;
mod inputs;
mod losses;
mod marks;
mod memory;
mod sound;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use polypscope::Result;
use polypscope::capture::{EncoderSettings, Facts, Recording, Source, Span};
use polypscope::engine::Network;
use polypscope::frame::Pts;
use polypscope::model::{Architecture, checkpoint::Description};
use polypscope::overlay::Style;
use polypscope::preprocess::FieldOfView;
use polypscope::replay::record::Summary;
use polypscope::replay::{Settings, replay};
use polypscope::segment::Segmenter;

use common::red_finder::RedFinder;

fn segmenter() -> Segmenter {
    with(Box::new(RedFinder))
}

fn with(network: Box<dyn Network>) -> Segmenter {
    let description = Description::published("stand-in", Architecture::default());
    Segmenter::new(network, &description, FieldOfView::Full, Some(0.5))
}

fn settings(output: Option<&Path>, report: Option<&Path>) -> Settings {
    Settings {
        encoder: output.map(EncoderSettings::new),
        report: report.map(Path::to_owned),
        masks: false,
        force: false,
        style: Style::default(),
        threshold: 0.5,
        checkpoint: "stand-in".into(),
        checkpoint_sha256: String::new(),
        origin: Pts(0),
        sound: Err("the recording has no sound".into()),
    }
}

fn run(source: Box<dyn Source>, settings: Settings) -> Result<Summary> {
    let stop = Arc::new(AtomicBool::new(false));
    Ok(replay(source, segmenter(), settings, &stop, &mut |_| {})?.0)
}

/// As the command does it: opens a recording, settles its sound, replays it.
fn replay_file(input: &Path, span: Span, mut settings: Settings) -> Result<Summary> {
    let facts = Facts::discover(input)?;
    let mut caps = None;
    if let (Some(audio), Some(encoder)) = (&facts.audio, &settings.encoder) {
        settings.sound = encoder.sound_caps(audio)?.map(|c| {
            caps = Some(c);
            audio.codec.clone()
        });
    }
    settings.origin = Pts(span.from.unwrap_or_default().0);
    run(Box::new(Recording::open(facts, span, caps.as_ref())?), settings)
}

/// What lies in a folder, hidden things too.
fn listing(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn folder() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_owned();
    (dir, path)
}
