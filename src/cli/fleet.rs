//! `polypscope fleet`: an archive's recordings, worked through by an engine that exists.
//!
//! In: recordings, a manifest, a store. Out: a manifest (`plan`), results (`run`), how far it is (`status`), tables and
//! a page (`merge`). Exit codes of `run` say what the engine is to do: 0 all results stand and are whole, 1 try again,
//! 2 never try again, 3 all has been dealt with and not all is whole: one more try at most.

use std::path::{Path, PathBuf};

use clap::{Args as ClapArgs, Subcommand};

use super::arguments::{ConfirmArgs, EngineArgs, frame_rate, input_size, threshold};
use super::interrupt::interrupt_flag;
use super::progress::Progress;
use super::{Context, Outcome};
use crate::capture::hear_decoders;
use crate::engine::{DeviceChoice, Precision};
use crate::fleet::{Manifest, Plan, Settings, Shard, Staging, Store, Tally, Work, merge, plan, status};
use crate::hexadecimal::hexadecimal;
use crate::model::Checkpoint;
use crate::preprocess::FieldOfView;
use crate::result_file::Outputs;
use crate::segment::Segmenter;
use crate::{Error, Result};

/// Thousands of recordings, on an engine that exists: Slurm, Kubernetes, HyperQueue, GNU parallel, Ray (see
/// pipelines/fleet).
#[derive(Debug, ClapArgs)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Find recordings, look how long they are, and write a manifest.
    Plan(Box<PlanArgs>),
    /// Work through a shard of a manifest; what stands already is left.
    Run(RunArgs),
    /// Tell how far it is, how long it will take, and what failed.
    Status(StatusArgs),
    /// Put all results into a few tables and one page.
    Merge(MergeArgs),
}

/// Where copies of remote recordings go.
#[derive(Clone, Debug, ClapArgs)]
struct ScratchArgs {
    /// Folder for the copy of a recording that lies in a bucket (default: the system's temporary one)
    #[arg(long, value_name = "DIR")]
    scratch: Option<PathBuf>,
    /// Largest copy, in GiB; there is one at a time (while planning, one a thread)
    #[arg(long, value_name = "GIB", default_value_t = 64)]
    scratch_gib: u64,
}

impl ScratchArgs {
    fn staging(&self) -> Staging {
        Staging {
            folder: self.scratch.clone().unwrap_or_else(std::env::temp_dir),
            most_bytes: self.scratch_gib.saturating_mul(1 << 30),
        }
    }
}

#[derive(Debug, ClapArgs)]
struct PlanArgs {
    /// Recordings, folders with the folders in them, s3://BUCKET/PREFIX
    #[arg(value_name = "INPUT", required_unless_present = "list")]
    inputs: Vec<PathBuf>,
    /// File with a recording a line: a path, or {"path", "sha256", "frames", "seconds", "bytes"} with what is known of
    /// it
    #[arg(long, value_name = "FILE")]
    list: Vec<PathBuf>,
    /// Where results go: a folder all workers reach, or s3://BUCKET/PREFIX
    #[arg(long, value_name = "STORE")]
    store: String,
    /// The manifest; it holds the recordings' paths and stays with those who may know them
    #[arg(long, value_name = "FILE", default_value = "manifest.jsonl")]
    manifest: PathBuf,
    /// Replace a manifest that is there
    #[arg(long)]
    force: bool,
    /// Tell recordings apart by length and both ends instead of by all of their bytes
    #[arg(long)]
    quick: bool,
    /// Results name recordings by a digest instead of by their paths
    #[arg(long)]
    hash_names: bool,
    /// Minutes of video a shard has
    #[arg(long, value_name = "MINUTES", default_value_t = 60.0, value_parser = minutes)]
    shard_minutes: f64,
    /// Number of shards, in place of their length
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    shards: Option<u32>,
    /// Seconds of video after which a part of a recording's results is kept; a killed worker loses at most twice this
    #[arg(long, value_name = "SECONDS", default_value_t = 300.0, value_parser = minutes)]
    segment_seconds: f64,
    /// Keep no pictures of what was found
    #[arg(long)]
    no_thumbnails: bool,
    /// Probability from which on a pixel is marked (default: the checkpoint's)
    #[arg(long, value_name = "P", value_parser = threshold)]
    threshold: Option<f64>,
    #[command(flatten)]
    confirm: ConfirmArgs,
    /// What to analyse: auto, full, or X,Y,W,H in source pixels
    #[arg(long, value_name = "VIEW", default_value_t = FieldOfView::Auto)]
    field_of_view: FieldOfView,
    /// Frames a second of a folder of pictures
    #[arg(long, value_name = "RATE", value_parser = frame_rate, default_value = "25")]
    fps: (u32, u32),
    /// Checkpoint (default: the shipped one)
    #[arg(long, value_name = "FILE")]
    weights: Option<PathBuf>,
    /// auto, f32, bf16, f16 or i8; named, results are of one precision on all machines
    #[arg(long, default_value_t = Precision::Auto)]
    precision: Precision,
    /// Pixels a side of the network's input, a multiple of 32 (default: the checkpoint's)
    #[arg(long, value_name = "PIXELS", value_parser = input_size)]
    input_size: Option<usize>,
    #[command(flatten)]
    scratch: ScratchArgs,
}

#[derive(Debug, ClapArgs)]
struct RunArgs {
    /// What `fleet plan` has written
    #[arg(long, value_name = "FILE")]
    manifest: PathBuf,
    /// Which part of the work, I from 0 to N-1; without it taken from Slurm, Kubernetes, AWS Batch, HyperQueue or GNU
    /// parallel
    #[arg(long, value_name = "I/N")]
    shard: Option<Shard>,
    /// The store, where this machine has it under another name
    #[arg(long, value_name = "STORE")]
    store: Option<String>,
    /// Recordings lie here under NEW where the manifest says OLD
    #[arg(long, value_name = "OLD=NEW")]
    map: Vec<String>,
    /// Let a partial result stand at once, instead of trying the recording a second time
    #[arg(long)]
    accept_partial: bool,
    /// Checkpoint (default: the shipped one); must be the one that was planned with
    #[arg(long, value_name = "FILE", help_heading = "Network")]
    weights: Option<PathBuf>,
    /// auto, cpu or cuda:N
    #[arg(long, value_name = "DEVICE", default_value = "auto", help_heading = "Network")]
    device: DeviceChoice,
    /// Threads of the CPU engine (default: all cores)
    #[arg(long, value_name = "N", help_heading = "Network", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    #[command(flatten)]
    scratch: ScratchArgs,
}

#[derive(Debug, ClapArgs)]
struct StatusArgs {
    /// What `fleet plan` has written
    #[arg(long, value_name = "FILE")]
    manifest: PathBuf,
    /// The store, where this machine has it under another name
    #[arg(long, value_name = "STORE")]
    store: Option<String>,
}

#[derive(Debug, ClapArgs)]
struct MergeArgs {
    /// What `fleet plan` has written
    #[arg(long, value_name = "FILE")]
    manifest: PathBuf,
    /// The store, where this machine has it under another name
    #[arg(long, value_name = "STORE")]
    store: Option<String>,
    /// Folder for frames.parquet, polyps.parquet, recordings.parquet, runs.parquet, report.html and failed.csv
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,
    /// Replace what an earlier merge has written there
    #[arg(long)]
    force: bool,
}

/// A positive number.
fn minutes(text: &str) -> Result<f64> {
    text.parse::<f64>().ok().filter(|m| *m > 0.0 && *m < 1e9).ok_or_else(|| {
        Error::usage(format!("{text:?} is no length of time")).remedy("give a number above 0, such as 60")
    })
}

pub fn run(args: &Args, context: &mut Context) -> Result<Outcome> {
    match &args.command {
        Command::Plan(args) => make_plan(args, context),
        Command::Run(args) => work(args, context),
        Command::Status(args) => tell_status(args, context),
        Command::Merge(args) => put_together(args, context),
    }
}

fn make_plan(args: &PlanArgs, context: &mut Context) -> Result<Outcome> {
    let mut outputs = Outputs::new(args.force);
    args.list.iter().for_each(|list| {
        outputs.reads(list);
    });
    outputs.file("--manifest", &args.manifest)?;
    let path = Checkpoint::locate(args.weights.as_deref())?;
    let checkpoint = Checkpoint::open(&path)?;
    let sha256 = checkpoint.sha256().unwrap_or_default().to_owned();
    let settings = Settings {
        confirm: args.confirm.confirm.name().to_owned(),
        least_region: args.confirm.least_region,
        threshold: args.threshold,
        field_of_view: args.field_of_view.to_string(),
        precision: args.precision.to_string(),
        input_size: args.input_size,
        segment_ms: (args.segment_seconds * 1e3).round() as u64,
        thumbnails: !args.no_thumbnails,
        stills_fps: args.fps,
    };
    let wanted = Plan {
        inputs: args.inputs.clone(),
        lists: args.list.clone(),
        store: absolute(&args.store)?,
        checkpoint: (checkpoint.description().name.clone(), sha256),
        settings,
        quick: args.quick,
        salt: args.hash_names.then(salt).transpose()?,
        shard_minutes: args.shard_minutes,
        shards: args.shards.map(|n| n as usize),
        staging: args.scratch.staging(),
    };
    drop(checkpoint);
    let bar = Progress::new(None, context.quiet, "looking into recordings");
    let manifest = plan(&wanted, &|n, of| {
        if n % 16 == 0 || n == of {
            bar.say(&format!("looking into recordings: {n} of {of}"));
        }
    });
    bar.finish();
    let manifest = manifest?;
    manifest.write(&args.manifest, args.force)?;
    let problems: Vec<_> = manifest.units.iter().filter(|u| u.problem.is_some()).collect();
    let frames: u64 = manifest.units.iter().map(|u| u.frames).sum();
    let seconds: f64 = manifest.units.iter().filter_map(|u| u.seconds).sum();
    if context.json {
        context.json(&serde_json::json!({
            "manifest": args.manifest.to_string_lossy(),
            "recordings": manifest.units.len(),
            "frames": frames,
            "seconds": seconds,
            "shards": manifest.head.shards,
            "problems": problems.iter().map(|u| serde_json::json!({ "path": u.path, "reason": u.problem })).collect::<Vec<_>>(),
        }))?;
    } else {
        context.remark(format!(
            "{} recordings, {:.1} h, {frames} frames, in {} shard{}: {}",
            manifest.units.len(),
            seconds / 3600.0,
            manifest.head.shards,
            if manifest.head.shards == 1 { "" } else { "s" },
            args.manifest.display()
        ))?;
        for unit in problems.iter().take(20) {
            context.remark(format!("  {}: {}", unit.name, unit.problem.as_deref().unwrap_or_default()))?;
        }
        if problems.len() > 20 {
            context.remark(format!("  and {} more that cannot be worked on", problems.len() - 20))?;
        }
    }
    Ok(if problems.is_empty() { Outcome::Done } else { Outcome::Partial })
}

/// A folder's address as every process finds it.
fn absolute(store: &str) -> Result<String> {
    if store.contains("://") {
        return Ok(store.to_owned());
    }
    let path = std::path::absolute(store).map_err(|e| Error::write(Path::new(store), e))?;
    path.into_os_string().into_string().map_err(|_| {
        Error::usage(format!("{store}: lies in a folder whose name is not text"))
            .remedy("choose another store")
    })
}

/// What makes digests of names useless to those who guess names.
fn salt() -> Result<String> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)
        .map_err(|e| Error::machine("the system gives no random numbers").because(e))?;
    Ok(hexadecimal(&bytes))
}

/// Reads a manifest, and opens its store.
fn open(manifest: &Path, store: Option<&str>) -> Result<(Manifest, Store)> {
    let manifest = Manifest::read(manifest)?;
    let store = Store::open(store.unwrap_or(&manifest.head.store))?;
    Ok((manifest, store))
}

fn work(args: &RunArgs, context: &mut Context) -> Result<Outcome> {
    let (mut manifest, store) = open(&args.manifest, args.store.as_deref())?;
    map_paths(&mut manifest, &args.map)?;
    let (shard, engine) = match args.shard {
        Some(shard) => (shard, None),
        None => match Shard::from_environment(manifest.head.shards, |name| std::env::var(name).ok())? {
            Some((shard, engine)) => (shard, Some(engine)),
            None => (Shard { index: 0, of: 1 }, None),
        },
    };
    hear_decoders();
    let stop = interrupt_flag()?;
    let head = manifest.head.clone();
    let mut network = || segmenter(args, &head.settings, &head.checkpoint_sha256);
    let mut work = Work {
        manifest: &manifest,
        store: &store,
        staging: args.scratch.staging(),
        stop: &stop,
        accept_partial: args.accept_partial,
        network: &mut network,
    };
    let quiet = context.quiet;
    let mut bar: Option<(usize, Progress)> = None;
    let tally = work.run(shard, &mut |unit, n, frames| {
        let (_, bar) = match &mut bar {
            Some(bar) if bar.0 == n => bar,
            other => {
                if let Some((_, before)) = other.take() {
                    before.finish();
                }
                other.insert((n, Progress::new(Some(unit.frames), quiet, &unit.name)))
            }
        };
        bar.at(frames);
    });
    if let Some((_, bar)) = bar {
        bar.finish();
    }
    let tally = tally?;
    tell(&tally, shard, engine, context)?;
    if tally.is_to_be_retried() {
        return Err(again(&tally));
    }
    Ok(if tally.is_whole() { Outcome::Done } else { Outcome::Partial })
}

/// Puts another beginning in place of the paths'.
fn map_paths(manifest: &mut Manifest, maps: &[String]) -> Result<()> {
    for map in maps {
        let (old, new) = map.split_once('=').filter(|(old, _)| !old.is_empty()).ok_or_else(|| {
            Error::usage(format!("--map {map}: is not OLD=NEW"))
                .remedy("give such as --map /archive=/mnt/archive")
        })?;
        for unit in &mut manifest.units {
            if let Some(rest) = unit.path.strip_prefix(old) {
                unit.path = format!("{new}{rest}");
            }
        }
    }
    Ok(())
}

/// The network that the manifest was planned with.
fn segmenter(args: &RunArgs, settings: &Settings, sha256: &str) -> Result<Segmenter> {
    let engine = EngineArgs {
        weights: args.weights.clone(),
        device: vec![args.device],
        precision: settings.precision.parse()?,
        threads: args.threads,
        keep_warm: false,
    };
    let (checkpoint, network) = engine.open_at(settings.input_size)?;
    if checkpoint.sha256() != Some(sha256) {
        return Err(Error::usage(format!(
            "the checkpoint is not the one that was planned with (SHA-256 {} instead of {sha256})",
            checkpoint.sha256().unwrap_or("unknown")
        ))
        .remedy("name that one with --weights, or plan again"));
    }
    Ok(Segmenter::new(network, checkpoint.description(), settings.view()?, settings.threshold)
        .with_filter(settings.filter()?))
}

fn tell(tally: &Tally, shard: Shard, engine: Option<&str>, context: &mut Context) -> Result<()> {
    if context.json {
        return context.json(&serde_json::json!({
            "shard": shard.index,
            "shards": shard.of,
            "engine": engine,
            "recordings": tally.units,
            "stood_before": tally.stood,
            "whole": tally.whole,
            "partial": tally.partial,
            "partial_once": tally.once,
            "unreadable": tally.unreadable,
            "changed": tally.changed,
            "failed": tally.failed.iter().map(|(name, why)| serde_json::json!({ "recording": name, "reason": why })).collect::<Vec<_>>(),
            "stopped": tally.stopped,
            "frames": tally.frames,
        }));
    }
    let mut parts = vec![format!("{} whole", tally.whole)];
    for (n, what) in [
        (tally.partial, "partial"),
        (tally.once, "partial, to be tried once more"),
        (tally.unreadable, "unreadable"),
        (tally.changed.len(), "changed since they were planned"),
        (tally.failed.len(), "failed, to be tried again"),
    ] {
        if n > 0 {
            parts.push(format!("{n} {what}"));
        }
    }
    let engine = engine.map(|e| format!(", numbered by {e}")).unwrap_or_default();
    context.remark(format!(
        "shard {} of {}{engine}: {} recordings ({} stood before): {}; {} frames",
        shard.index,
        shard.of,
        tally.units,
        tally.stood,
        parts.join(", "),
        tally.frames
    ))?;
    tally.changed.iter().try_for_each(|name| {
        context.remark(format!("  {name}: is not the recording that was planned any more; plan again"))
    })
}

/// Why the shard is to be run again.
fn again(tally: &Tally) -> Error {
    let what = match (tally.failed.first(), tally.stopped) {
        (Some((name, why)), _) => {
            format!("{} of {} recordings failed, {name} because {why}", tally.failed.len(), tally.units)
        }
        (None, _) => "stopped before the end".to_owned(),
    };
    Error::machine(what).remedy("run the shard again: it goes on from where it is")
}

fn tell_status(args: &StatusArgs, context: &mut Context) -> Result<Outcome> {
    let (manifest, store) = open(&args.manifest, args.store.as_deref())?;
    let s = status(&manifest, &store)?;
    let outcome = if s.is_complete() { Outcome::Done } else { Outcome::Partial };
    if context.json {
        context.json(&s)?;
        return Ok(outcome);
    }
    let share = s.frames_done as f64 / s.frames.max(1) as f64;
    let filled = ((share * 30.0) as usize).min(30);
    let bar: String = (0..30).map(|i| if i < filled { '█' } else { '░' }).collect();
    let mut line = format!("{bar} {:.1} % of {} frames", share * 100.0, s.frames);
    if let Some(rate) = s.frames_per_second {
        line += &format!(", {rate:.1} frames/s over the last hour");
    }
    if let Some(left) = s.seconds_left.filter(|s| *s > 0.0) {
        line += &format!(", about {} left", in_words(left));
    }
    context.say(line)?;
    context.say(format!(
        "{} recordings: {} whole, {} partial, {} to be tried once more, {} unreadable, {} failed, {} not begun",
        s.recordings,
        s.whole,
        s.partial,
        s.once,
        s.unreadable,
        s.failed,
        s.open - s.failed
    ))?;
    let mut reasons: Vec<_> = s.reasons.iter().collect();
    reasons.sort_by_key(|(reason, n)| (std::cmp::Reverse(**n), *reason));
    for (reason, n) in reasons.iter().take(20) {
        context.say(format!("{n:>7}  {reason}"))?;
    }
    Ok(outcome)
}

fn in_words(seconds: f64) -> String {
    let minutes = (seconds / 60.0).ceil() as u64;
    match minutes {
        0..120 => format!("{minutes} min"),
        120..2880 => format!("{} h {} min", minutes / 60, minutes % 60),
        _ => format!("{} days {} h", minutes / 1440, minutes / 60 % 24),
    }
}

fn put_together(args: &MergeArgs, context: &mut Context) -> Result<Outcome> {
    let (manifest, store) = open(&args.manifest, args.store.as_deref())?;
    let all = manifest.units.len();
    let bar = Progress::new(None, context.quiet, "merging");
    let merged = merge(&manifest, &store, &args.output, args.force, &mut |n| {
        if n % 16 == 0 || n == all {
            bar.say(&format!("merging: {n} of {all} recordings"));
        }
    });
    bar.finish();
    let merged = merged?;
    if context.json {
        context.json(&merged)?;
    } else {
        context.remark(format!(
            "{} of {} recordings, {} frames, {} polyps: {}",
            merged.with_result,
            merged.recordings,
            merged.frames,
            merged.polyps,
            args.output.join("report.html").display()
        ))?;
        if merged.failed > 0 {
            context.remark(format!(
                "  {} are not whole: {}",
                merged.failed,
                args.output.join("failed.csv").display()
            ))?;
        }
    }
    Ok(if merged.failed == 0 { Outcome::Done } else { Outcome::Partial })
}
