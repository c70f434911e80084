//! `polypscope replay`: recordings in, annotated recordings and reports out.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::Args as ClapArgs;

use super::arguments::{ConfirmArgs, frame_rate, instant, opacity, threshold};
use super::interrupt::interrupt_flag;
use super::progress::Progress;
use super::{Context, EngineArgs, Outcome};
use crate::capture::{
    EncoderSettings, Facts, Input, Recording, Skipped, Source, Span, Stills, discover, hear_decoders,
};
use crate::frame::{Nanos, Pts};
use crate::model::Checkpoint;
use crate::overlay::Style;
use crate::preprocess::FieldOfView;
use crate::replay::{Settings, record::Summary, replay, same_file};
use crate::result_file::make_folder;
use crate::segment::Segmenter;
use crate::{Error, Result};

/// Every frame is segmented; the output has the same frames at the same times as the input.
#[derive(Debug, ClapArgs)]
pub struct Args {
    /// Video files, folders of videos, or a folder of pictures
    #[arg(required = true, value_name = "INPUT")]
    inputs: Vec<PathBuf>,
    /// Annotated video (.mp4, .mov or .mkv); with several inputs, a folder
    #[arg(short, long, value_name = "OUT")]
    output: Option<PathBuf>,
    /// Folder for report.html, summary.json and frames.jsonl; with several inputs, one folder each in it
    #[arg(short, long, value_name = "DIR")]
    report: Option<PathBuf>,
    /// Also write each frame's mask as PNG into the report's folder
    #[arg(long)]
    masks: bool,
    /// Replace output and report that are already there
    #[arg(long)]
    force: bool,
    /// Probability from which on a pixel is marked (default: the checkpoint's)
    #[arg(long, value_name = "P", value_parser = threshold)]
    threshold: Option<f64>,
    /// Opacity of the fill, 0 to 1
    #[arg(long, value_name = "A", value_parser = opacity, default_value_t = Style::default().alpha)]
    alpha: f32,
    /// Whether the status rectangle is drawn
    #[arg(long, value_name = "on|off", value_parser = ["on", "off"], default_value = "on")]
    status: String,
    #[command(flatten)]
    confirm: ConfirmArgs,
    /// What to analyse: auto, full, or X,Y,W,H in source pixels
    #[arg(long, value_name = "VIEW", default_value_t = FieldOfView::Auto)]
    field_of_view: FieldOfView,
    /// Where to begin: seconds, m:ss or h:mm:ss
    #[arg(long, value_name = "TIME", value_parser = instant)]
    from: Option<Nanos>,
    /// Where to end
    #[arg(long, value_name = "TIME", value_parser = instant)]
    to: Option<Nanos>,
    /// Frames a second of a folder of pictures
    #[arg(long, value_name = "RATE", value_parser = frame_rate, default_value = "25")]
    fps: (u32, u32),
    /// x264's speed preset
    #[arg(long, value_name = "PRESET", default_value = "superfast", value_parser = [
        "ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow"])]
    encoder_speed: String,
    /// x264's quality, 0 (lossless) to 51; smaller is better and larger
    #[arg(long, value_name = "CRF", default_value_t = 20, value_parser = clap::value_parser!(u32).range(0..=51))]
    encoder_quality: u32,
    #[command(flatten)]
    engine: EngineArgs,
}

/// Refuses results that would replace what another job still has to read.
fn protect_inputs(jobs: &[Job]) -> Result<()> {
    for output in jobs.iter().filter_map(|j| j.output.as_deref()) {
        if jobs.iter().any(|j| same_file(j.input.path(), output)) {
            return Err(Error::usage(format!("{}: is the input itself", output.display()))
                .remedy("choose another --output"));
        }
    }
    Ok(())
}

/// Where one input's results go.
struct Job {
    input: Input,
    output: Option<PathBuf>,
    report: Option<PathBuf>,
}

impl Args {
    fn span(&self) -> Result<Span> {
        if let (Some(from), Some(to)) = (self.from, self.to)
            && from >= to
        {
            return Err(Error::usage("--from lies at or after --to").remedy("swap them"));
        }
        Ok(Span { from: self.from, to: self.to })
    }

    /// Gives every input its output and report.
    fn jobs(&self, inputs: Vec<Input>) -> Result<Vec<Job>> {
        if let ([_], [input]) = (self.inputs.as_slice(), inputs.as_slice())
            && !matches!((self.inputs[0].is_dir(), input), (true, Input::Recording(_)))
        {
            let input = input.clone();
            return Ok(vec![Job { input, output: self.output.clone(), report: self.report.clone() }]);
        }
        let jobs = self.named_jobs(inputs)?;
        protect_inputs(&jobs)?;
        if let Some(dir) = &self.output {
            make_folder(dir)?;
        }
        Ok(jobs)
    }

    /// Names every input's results after it, in the folders given.
    fn named_jobs(&self, inputs: Vec<Input>) -> Result<Vec<Job>> {
        let mut names: Vec<String> = Vec::new();
        inputs
            .into_iter()
            .map(|input| {
                let stem =
                    input.path().file_stem().map_or("input".into(), |s| s.to_string_lossy().into_owned());
                // Two recordings of one name in different folders must not meet in one output.
                let mut name = stem.clone();
                let mut n = 2;
                while names.contains(&name) {
                    name = format!("{stem}-{n}");
                    n += 1;
                }
                names.push(name.clone());
                let output = match &self.output {
                    Some(dir) => {
                        if dir.extension().is_some() && !dir.is_dir() {
                            return Err(Error::usage(format!(
                                "{}: several inputs cannot go into one file",
                                dir.display()
                            ))
                            .remedy("name a folder as --output"));
                        }
                        Some(dir.join(format!("{name}.mp4")))
                    }
                    None => None,
                };
                Ok(Job { input, output, report: self.report.as_ref().map(|d| d.join(&name)) })
            })
            .collect()
    }

    fn encoder(&self, output: &Path) -> EncoderSettings {
        EncoderSettings {
            force: self.force,
            speed: self.encoder_speed.clone(),
            quality: self.encoder_quality,
            ..EncoderSettings::new(output)
        }
    }

    /// How to write a job's results; what concerns the checkpoint and the sound is filled in later.
    fn settings(&self, job: &Job) -> Settings {
        Settings {
            encoder: job.output.as_deref().map(|o| self.encoder(o)),
            report: job.report.clone(),
            masks: self.masks,
            force: self.force,
            style: Style { alpha: self.alpha, status: self.status == "on", ..Style::default() },
            threshold: 0.5,
            checkpoint: String::new(),
            checkpoint_sha256: String::new(),
            origin: Pts(self.from.unwrap_or_default().0),
            sound: Err("the recording has no sound".to_owned()),
        }
    }

    /// Opens the input and settles what becomes of its sound.
    fn open(&self, job: &Job) -> Result<(Box<dyn Source>, Settings)> {
        let mut settings = self.settings(job);
        settings.validate(job.input.path())?;
        let span = self.span()?;
        match &job.input {
            Input::Stills { folder, files } => {
                Ok((Box::new(Stills::open(folder, files.clone(), self.fps, span)?), settings))
            }
            Input::Recording(path) => {
                let facts = Facts::discover(path)?;
                tracing::debug!(?facts);
                let mut caps = None;
                settings.sound = match (&facts.audio, &settings.encoder) {
                    (None, _) => Err("the recording has no sound".to_owned()),
                    (Some(_), None) => Err("no video was asked for".to_owned()),
                    (Some(audio), Some(encoder)) => match encoder.sound_caps(audio)? {
                        Ok(c) => {
                            caps = Some(c);
                            Ok(audio.codec.clone())
                        }
                        Err(why) => Err(why),
                    },
                };
                Ok((Box::new(Recording::open(facts, span, caps.as_ref())?), settings))
            }
        }
    }

    /// Opens and replays one input; the segmenter comes back unless its thread broke.
    fn replay(
        &self,
        opened: Result<(Box<dyn Source>, Settings)>,
        network: &mut Network,
        stop: &Arc<AtomicBool>,
        quiet: bool,
    ) -> Result<Summary> {
        let (source, mut settings) = opened?;
        let description = network.checkpoint.description();
        settings.threshold = self.threshold.unwrap_or(description.threshold);
        settings.checkpoint = description.name.clone();
        settings.checkpoint_sha256 = network.checkpoint.sha256().unwrap_or_default().to_owned();
        let segmenter = network.take(self)?;
        let name = source.path().file_name().unwrap_or_default().to_string_lossy().into_owned();
        let bar = Progress::new(source.expected_frames(), quiet, &name);
        let result = replay(source, segmenter, settings, stop, &mut |p| bar.at(p.frames));
        bar.finish();
        let (summary, segmenter) = result?;
        network.segmenter = segmenter;
        Ok(summary)
    }
}

/// The network from one input to the next.
struct Network {
    checkpoint: Checkpoint,
    /// Away while a replay runs; lost with a worker that fails.
    segmenter: Option<Segmenter>,
}

impl Network {
    fn open(args: &Args) -> Result<Self> {
        let (checkpoint, network) = args.engine.open()?;
        let segmenter = Segmenter::new(network, checkpoint.description(), args.field_of_view, args.threshold)
            .with_filter(args.confirm.filter());
        Ok(Self { checkpoint, segmenter: Some(segmenter) })
    }

    fn take(&mut self, args: &Args) -> Result<Segmenter> {
        if let Some(s) = self.segmenter.take() {
            return Ok(s);
        }
        Self::open(args)?.segmenter.ok_or_else(|| Error::internal("a new network is missing"))
    }
}

pub fn run(args: &Args, context: &mut Context) -> Result<Outcome> {
    args.span()?;
    let discovered = discover(&args.inputs)?;
    let is_partial = discovered.is_partial();
    let jobs = args.jobs(discovered.inputs)?;
    let skipped = discovered.skipped;
    hear_decoders();
    let several = jobs.len() > 1;
    // What is wrong with the one input is said before the network is built.
    let mut first = match jobs.as_slice() {
        [job] => Some(Ok(args.open(job)?)),
        _ => None,
    };
    let stop = interrupt_flag()?;
    let mut network = Network::open(args)?;
    let mut outcome = if is_partial { Outcome::Partial } else { Outcome::Done };
    let mut failures = Vec::new();
    for job in &jobs {
        let opened = first.take().unwrap_or_else(|| args.open(job));
        match args.replay(opened, &mut network, &stop, context.quiet) {
            Ok(summary) => {
                if summary.partial {
                    outcome = Outcome::Partial;
                }
                tell(&summary, job, &skipped, context)?;
            }
            Err(e) if several && !stop.load(Ordering::Relaxed) => failures.push(e.to_string()),
            Err(e) => return Err(e),
        }
        if stop.load(Ordering::Relaxed) {
            break;
        }
    }
    match failures.len() {
        0 => Ok(outcome),
        n => Err(Error::input(format!(
            "{n} of {} inputs could not be replayed: {}",
            jobs.len(),
            failures.join(". ")
        ))),
    }
}

/// A summary as it is printed: with what of the named folders was left out.
#[derive(serde::Serialize)]
struct Printed<'a> {
    #[serde(flatten)]
    summary: &'a Summary,
    skipped: Vec<serde_json::Value>,
}

/// Prints what came of one input.
fn tell(summary: &Summary, job: &Job, skipped: &[Skipped], context: &mut Context) -> Result<()> {
    // Where the line below is not printed, a result that does not cover its input is still said.
    if let (true, Some(reason)) = (context.json, &summary.partial_reason) {
        tracing::warn!("the result is partial: {reason}");
    }
    if context.json {
        let skipped = skipped
            .iter()
            .map(|s| serde_json::json!({ "path": s.path.to_string_lossy(), "reason": s.reason.to_string() }))
            .collect();
        return context.json(&Printed { summary, skipped });
    }
    let fps = summary.frames.written as f64 / (summary.elapsed_ms / 1e3).max(1e-9);
    let several = |n: usize| if n == 1 { "" } else { "s" };
    let found = match (summary.confirm.numbers, summary.first_alarm_after_ms) {
        (Some(_), Some(ms)) => {
            let n = summary.polyps.len();
            format!(
                "{n} polyp{}{}, first alarm {ms:.0} ms after the first sight ({})",
                several(n),
                match summary.brief_alarms.len() {
                    0 => String::new(),
                    b => format!(" and {b} brief alarm{}", several(b)),
                },
                summary.confirm.setting
            )
        }
        // Without a report nobody joined tracks into polyps.
        (Some(_), None) => {
            let n = summary.confirm.confirmed_tracks;
            format!("{n} track{} confirmed ({})", several(n as usize), summary.confirm.setting)
        }
        (None, _) => {
            let n = summary.episodes.len();
            format!("{n} episode{} with polyps", several(n))
        }
    };
    context.remark(format!(
        "{}: {} frames in {:.1} s ({fps:.1} frames/s), {found}",
        summary.input,
        summary.frames.written,
        summary.elapsed_ms / 1e3,
    ))?;
    if let Some(output) = &job.output {
        context.remark(format!("  video   {}", output.display()))?;
        if summary.audio.starts_with("left out") {
            context.remark(format!("  sound   {}", summary.audio))?;
        }
    }
    if let Some(report) = &job.report {
        context.remark(format!("  report  {}", report.join("report.html").display()))?;
    }
    if let Some(reason) = &summary.partial_reason {
        context.remark(format!("  partial {reason}"))?;
    }
    Ok(())
}
