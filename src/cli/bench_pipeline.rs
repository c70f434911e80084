//! `polypscope bench pipeline`: the whole pipeline under measurement.

use std::path::PathBuf;

use super::arguments::{input_size, size};
use super::interrupt::interrupt_flag;
use super::{Context, EngineArgs, Outcome};
use crate::bench::{
    Pace, PipelineReport, RunRecord, RunSettings, Slow, csv, page, run_lossless, run_paced, table,
};
use crate::frame::Nanos;
use crate::live::{LiveNetwork, NetworkSettings};
use crate::model::Checkpoint;
use crate::phantom::{self, Preset};
use crate::preprocess::FieldOfView;
use crate::result_file::{Outputs, write_whole};
use crate::segment::Segmenter;
use crate::telemetry::Machine;
use crate::worker::ANNOTATION_BUDGET;
use crate::{Error, Result};

/// The real pipeline, paced as a live source or as fast as every frame can be inferred. Warm-up and last frames are
/// left out.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A recording (default: a phantom, rendered before the clock starts)
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// How the phantom's scope moves
    #[arg(long, default_value_t = phantom::Settings::default().preset)]
    preset: Preset,
    /// Another seed is another colon
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Size of the phantom's picture
    #[arg(long, value_name = "WxH", value_parser = size, default_value = "1280x720", conflicts_with = "file")]
    size: (u32, u32),
    /// 25, 30, 50, 59.94, 60, or max: as fast as every frame can be inferred
    #[arg(long, value_name = "RATE", default_value = "30")]
    fps: Pace,
    /// Frames measured in each run
    #[arg(long, value_name = "N", default_value_t = 600)]
    frames: u64,
    /// Runs
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    runs: u32,
    /// Frames before the measured ones
    #[arg(long, value_name = "N", default_value_t = 60)]
    warm_up: u64,
    /// Write every figure as CSV
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
    /// Write a page with curves
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Add the runs to this JSON file, made where it is missing: so two builds can be measured in turn
    #[arg(long, value_name = "FILE")]
    append: Option<PathBuf>,
    /// Replace files that are there
    #[arg(long)]
    force: bool,
    /// Side of the network's input in paced runs, a multiple of 32 (default: the largest that meets the annotation
    /// delay)
    #[arg(long, value_name = "PIXELS", value_parser = input_size)]
    input_size: Option<usize>,
    #[command(flatten)]
    engine: EngineArgs,
    /// For tests: STAGE=MILLISECONDS of sleep in every frame
    #[arg(long, hide = true, value_name = "STAGE=MS")]
    slow: Option<Slow>,
}

/// Frames after the measured ones.
const LAST: u64 = 10;

pub fn run(args: &Args, context: &mut Context) -> Result<Outcome> {
    let settings = RunSettings {
        file: args.file.clone(),
        preset: args.preset,
        seed: args.seed,
        size: args.size,
        pace: args.fps,
        frames: args.frames,
        warm_up: args.warm_up,
        last: LAST,
        slow: args.slow,
    };
    settings.validate()?;
    let mut outputs = Outputs::new(args.force);
    if let Some(file) = &args.file {
        outputs.reads(file);
    }
    for (option, path) in [("--csv", &args.csv), ("--html", &args.html)] {
        if let Some(path) = path {
            outputs.file(option, path)?;
        }
    }
    if let Some(path) = &args.append {
        outputs.appended("--append", path)?;
    }
    let mut kept = match &args.append {
        Some(path) if path.exists() => PipelineReport::read(path)?,
        _ => PipelineReport::default(),
    };
    let mut report = PipelineReport { machine: Machine::detect(), runs: Vec::new() };
    let stop = interrupt_flag()?;
    let mut runner: Box<dyn FnMut(&RunSettings) -> Result<RunRecord>> = match args.fps {
        Pace::Max => Box::new(|settings| run_lossless(settings, &mut |wrap| segmenter(args, wrap), &stop)),
        Pace::Paced(..) => {
            let network = paced_network(args, context)?;
            Box::new(move |settings| run_paced(settings, &network, &stop))
        }
    };
    for _ in 0..args.runs {
        report.runs.push(runner(&settings)?);
    }
    report.check_unmixed()?;
    if let Some(path) = &args.append {
        kept.machine = report.machine.clone();
        kept.runs.extend(report.runs.iter().cloned());
        kept.check_unmixed().map_err(|e| e.at(path.display()))?;
        let text = serde_json::to_string_pretty(&kept)
            .map_err(|e| Error::internal("the result cannot be put into JSON").because(e))?;
        write_whole(path, text.as_bytes(), true)?;
    }
    if let Some(path) = &args.csv {
        write_whole(path, csv(&report).as_bytes(), args.force)?;
    }
    if let Some(path) = &args.html {
        write_whole(path, page(&report).as_bytes(), args.force)?;
    }
    if context.json {
        context.json(&report)?;
    } else {
        context.say_lines(table(&report).trim_end())?;
    }
    Ok(Outcome::Done)
}

/// The network of paced runs, its input size chosen as a live session chooses it.
fn paced_network(args: &Args, context: &mut Context) -> Result<LiveNetwork> {
    let checkpoint = Checkpoint::open(&Checkpoint::locate(args.engine.weights.as_deref())?)?;
    let network = LiveNetwork::choose(NetworkSettings {
        checkpoint,
        devices: vec![args.engine.one_device()?],
        precision: args.engine.precision,
        threads: args.engine.threads.map(usize::from),
        keep_warm: args.engine.keep_warm,
        side: args.input_size,
        // Another size in the middle of a run would be another measurement.
        adapts: false,
        view: FieldOfView::Auto,
        threshold: None,
        annotation_budget: ANNOTATION_BUDGET,
        period: Nanos((1e9 / args.fps.fps().unwrap_or(30.0)) as u64),
    })?;
    context.remark(format!("network input {}", network.words()))?;
    Ok(network)
}

fn segmenter(
    args: &Args,
    wrap: &dyn Fn(Box<dyn crate::engine::Network>) -> Box<dyn crate::engine::Network>,
) -> Result<Segmenter> {
    let (checkpoint, network) = args.engine.open()?;
    Ok(Segmenter::new(wrap(network), checkpoint.description(), FieldOfView::Auto, None))
}
