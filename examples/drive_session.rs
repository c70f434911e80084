//! Drives a live session from a program: `cargo run --release --example drive_session -- pipelines/phantom.toml`.
//!
//! In: a pipeline file. Out: ten seconds of its picture with marks, the overlay switched off and on again on the way,
//! and the session's summary as JSON. The sink throws the picture away; give another one's name as the second argument,
//! and another number of seconds as the third.

use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use polypscope::capture::PipelineFile;
use polypscope::engine::Precision;
use polypscope::live::{LiveNetwork, NetworkSettings, Session, Settings, Step};
use polypscope::model::Checkpoint;
use polypscope::preprocess::FieldOfView;
use polypscope::safety::USUAL_PERIOD;
use polypscope::worker::ANNOTATION_BUDGET;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let file = arguments.next().map_or_else(|| PathBuf::from("pipelines/test.toml"), PathBuf::from);
    let sink = arguments.next().unwrap_or_else(|| "null".into());
    let length = Duration::from_secs(arguments.next().map_or(Ok(10), |seconds| seconds.parse::<u64>())?);
    let ready = PipelineFile::open(&file)?.ready(&[], Some(&sink))?;

    let checkpoint = Checkpoint::open(&Checkpoint::locate(None)?)?;
    let threshold = checkpoint.description().threshold;
    let network = LiveNetwork::choose(NetworkSettings {
        checkpoint,
        devices: Vec::new(),
        precision: Precision::default(),
        threads: None,
        keep_warm: false,
        // Small, so that any machine can follow; `None` measures which size this one can.
        side: Some(96),
        adapts: false,
        view: FieldOfView::Full,
        threshold: None,
        annotation_budget: ANNOTATION_BUDGET,
        period: USUAL_PERIOD,
    })?;
    let settings = Settings { length: Some(length), ..Settings::new(ready, Some(network), threshold) };
    let mut session = Session::start(settings)?;
    let begun = Instant::now();
    let (mut switched_off, mut switched_on) = (false, false);
    let mut out = std::io::stdout();
    loop {
        // Looks after the source; the picture runs on threads of its own.
        match session.step(Duration::from_millis(50)) {
            Step::On => {}
            Step::Remark(words) => writeln!(out, "{words}")?,
            Step::Key(_) => {}
            Step::Done => break,
            Step::Failed(e) => return Err(e.into()),
        }
        // What the control page, the keyboard or another program would do.
        if !switched_off && begun.elapsed() > length.mul_f64(0.4) {
            session.controls().switch(false);
            switched_off = true;
        }
        if !switched_on && begun.elapsed() > length.mul_f64(0.6) {
            session.controls().switch(true);
            switched_on = true;
        }
    }
    let summary = session.finish();
    writeln!(out, "{}", serde_json::to_string_pretty(&summary)?)?;
    Ok(())
}
