//! `polypscope live`: the endoscope's picture with polyps outlined, as it happens.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clap::Args as ClapArgs;

use super::arguments::{ConfirmArgs, input_size, opacity, threshold};
use super::interrupt::interrupt_flag;
use super::listening::ListenArgs;
use super::{Context, EngineArgs, Outcome};
use crate::capture::{PipelineFile, Recorder, RecorderSettings, SourceEnd};
use crate::frame::{Nanos, Rate};
use crate::live::{LiveNetwork, NetworkSettings, Session, Settings, Step};
use crate::model::Checkpoint;
use crate::overlay::Style;
use crate::preprocess::FieldOfView;
use crate::result_file::{Outputs, ResultFile};
use crate::safety::{MAX_MASK_AGE, USUAL_PERIOD};
use crate::shown::OneLine;
use crate::telemetry::{LiveSummary, Snapshot};
use crate::tracks::Confirm;
use crate::worker::{ANNOTATION_BUDGET, log_panics};
use crate::{Error, Result};

/// The picture never waits for the network; masks are drawn as they come and vanish when they are too old. Keys in the
/// terminal or the window: o overlay on/off, c the next setting of --confirm, r recording on/off, q quit. SIGUSR1 also
/// switches the overlay.
#[derive(Debug, ClapArgs)]
pub struct Args {
    /// Where the picture comes from and goes to: a file as in pipelines/
    #[arg(long, value_name = "FILE")]
    pipeline: PathBuf,
    /// A parameter of the pipeline file
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = key_value)]
    sets: Vec<(String, String)>,
    /// One of the file's sinks (default: the file's own choice)
    #[arg(long, value_name = "NAME")]
    sink: Option<String>,
    /// Stop after so many seconds
    #[arg(long, value_name = "N", value_parser = seconds)]
    seconds: Option<f64>,
    /// Write what the session comes to as JSON
    #[arg(long, value_name = "FILE")]
    summary: Option<PathBuf>,
    /// Write one JSON object a frame
    #[arg(long, value_name = "FILE")]
    lines: Option<PathBuf>,
    /// Write a trace for Perfetto or Chrome
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
    /// Replace files that are already there
    #[arg(long)]
    force: bool,
    /// Record into this folder from the start
    #[arg(long, value_name = "DIR")]
    record: Option<PathBuf>,
    /// Folder for recordings that are started later, by key or over HTTP
    #[arg(long, value_name = "DIR", conflicts_with = "record")]
    record_to: Option<PathBuf>,
    /// What is recorded
    #[arg(long, value_name = "WHAT", value_parser = ["annotated", "raw", "both"], default_value = "annotated")]
    record_what: String,
    /// Length of a recorded segment
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=86400), default_value_t = 60)]
    record_segment: u64,
    #[command(flatten)]
    listening: ListenArgs,
    /// A mask older than this vanishes
    #[arg(long, value_name = "MS", default_value_t = MAX_MASK_AGE.0 / 1_000_000, value_parser = clap::value_parser!(u64).range(1..=10000))]
    max_mask_age: u64,
    /// Aimed at, from a frame's capture to its mask on screen; the network's input size is chosen to meet it
    #[arg(long, value_name = "MS", default_value_t = ANNOTATION_BUDGET.0 / 1_000_000, value_parser = clap::value_parser!(u64).range(1..=10000))]
    annotation_delay: u64,
    /// Side of the network's input, a multiple of 32 (default: the largest that meets --annotation-delay)
    #[arg(long, value_name = "PIXELS", value_parser = input_size)]
    input_size: Option<usize>,
    /// Move masks along with the picture
    #[arg(long, value_name = "on|off", value_parser = ["on", "off"], default_value = "on")]
    motion: String,
    /// Show the picture without any network
    #[arg(long)]
    no_ai: bool,
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
    #[arg(long, value_name = "VIEW", default_value = "auto")]
    field_of_view: FieldOfView,
    #[command(flatten)]
    engine: EngineArgs,
}

fn key_value(text: &str) -> Result<(String, String)> {
    text.split_once('=')
        .filter(|(k, _)| !k.is_empty())
        .map(|(k, v)| (k.to_owned(), v.to_owned()))
        .ok_or_else(|| Error::usage(format!("{text:?} is not a parameter")).remedy("write key=value"))
}

fn seconds(text: &str) -> Result<f64> {
    text.parse::<f64>().ok().filter(|s| *s > 0.0 && *s < 1e7).ok_or_else(|| {
        Error::usage(format!("{text:?} is not a number of seconds")).remedy("give a number above 0")
    })
}

/// What may interrupt or steer a session besides its control page.
struct OperatorInput {
    stop: Arc<AtomicBool>,
    toggle: Arc<AtomicBool>,
    keys: crossbeam_channel::Receiver<char>,
}

impl OperatorInput {
    fn new(quiet: bool) -> Result<Self> {
        let toggle = Arc::new(AtomicBool::new(false));
        signal_hook::flag::register(signal_hook::consts::SIGUSR1, toggle.clone())
            .map_err(|e| Error::machine("SIGUSR1 cannot be listened to").because(e))?;
        let (sender, keys) = crossbeam_channel::bounded(8);
        if !quiet && std::io::stdin().is_terminal() && std::io::stderr().is_terminal() {
            // Ends with the process: reading a key cannot be interrupted.
            let _ = std::thread::Builder::new().name("keys".into()).spawn(move || {
                let terminal = console::Term::stderr();
                while let Ok(key) = terminal.read_char() {
                    if sender.send(key).is_err() {
                        break;
                    }
                }
            });
        }
        Ok(Self { stop: interrupt_flag()?, toggle, keys })
    }
}

impl Args {
    fn rate(&self, file: &PipelineFile) -> Option<Rate> {
        let set = self.sets.iter().rev().find(|(k, _)| k == "fps").map(|(_, v)| v.clone());
        set.or_else(|| file.parameters().get("fps").map(|p| p.default.clone()))?.parse().ok()
    }

    fn recorder(&self, folder: &Path) -> RecorderSettings {
        RecorderSettings {
            raw: self.record_what != "annotated",
            annotated: self.record_what != "raw",
            segment: Duration::from_secs(self.record_segment),
            ..RecorderSettings::new(folder)
        }
    }

    /// Where recordings go, if anywhere.
    fn recordings(&self) -> Option<RecorderSettings> {
        self.record.as_ref().or(self.record_to.as_ref()).map(|folder| self.recorder(folder))
    }

    /// Looks at everything that is to be written, before anything starts; nothing is changed.
    fn check_outputs(&self) -> Result<()> {
        let mut outputs = Outputs::new(self.force);
        outputs.reads(&self.pipeline);
        for input in self.engine.weights.iter().chain(self.listening.reads()) {
            outputs.reads(input);
        }
        // A recording that is played, among others.
        for (_, value) in &self.sets {
            outputs.reads(Path::new(value));
        }
        if let Some(path) = &self.summary {
            outputs.file("--summary", path)?;
        }
        for (option, path) in [("--lines", &self.lines), ("--trace", &self.trace)] {
            if let Some(path) = path {
                outputs.growing(option, path)?;
            }
        }
        self.recordings().map_or(Ok(()), |settings| settings.check())
    }

    fn settings(&self, context: &mut Context) -> Result<Settings> {
        let file = PipelineFile::open(&self.pipeline)?;
        let ready = file.ready(&self.sets, self.sink.as_deref())?;
        ready.check_display()?;
        let period = self.rate(&file).map_or(USUAL_PERIOD, |r| Nanos((1e9 / r.as_f64()) as u64));
        let checkpoint = Checkpoint::open(&Checkpoint::locate(self.engine.weights.as_deref())?)?;
        let threshold = self.threshold.unwrap_or(checkpoint.description().threshold);
        let network = if self.no_ai {
            None
        } else {
            let network = LiveNetwork::choose(NetworkSettings {
                checkpoint,
                devices: self.engine.device.clone(),
                precision: self.engine.precision,
                threads: self.engine.threads.map(usize::from),
                keep_warm: self.engine.keep_warm,
                side: self.input_size,
                adapts: true,
                view: self.field_of_view,
                threshold: self.threshold,
                annotation_budget: Nanos(self.annotation_delay * 1_000_000),
                period,
            })?;
            context.remark(format!("network input {}", network.words()))?;
            Some(network)
        };
        Ok(Settings {
            style: Style { alpha: self.alpha, status: self.status == "on", ..Style::default() },
            max_mask_age: Nanos(self.max_mask_age * 1_000_000),
            motion: self.motion == "on",
            filter: self.confirm.filter(),
            length: self.seconds.map(Duration::from_secs_f64),
            lines: self.lines.clone(),
            trace: self.trace.clone(),
            ..Settings::new(ready, network, threshold)
        })
    }
}

pub fn run(args: &Args, context: &mut Context) -> Result<Outcome> {
    args.check_outputs()?;
    let listening = args.listening.plan()?;
    log_panics();
    let settings = args.settings(context)?;
    let operator = OperatorInput::new(context.quiet)?;
    let summary_file =
        args.summary.as_deref().map(|path| ResultFile::create(path, args.force)).transpose()?;
    let mut session = Session::start(settings)?;
    if let Some(folder) = &args.record {
        session.taps().record(Recorder::start(args.recorder(folder))?);
    }
    let listeners = listening.start(&session, args.recordings(), context)?;
    let result = watch(args, &mut session, &operator, context);
    drop(listeners);
    let result = with_source(result, session.source_end(), context);
    let summary = session.finish();
    let written = summary_file.map_or(Ok(()), |file| write_summary(file, &summary));
    tell(&summary, context)?;
    tell_unfinished(&summary, context)?;
    let outcome = result?;
    written?;
    Ok(if summary.is_partial() { Outcome::Partial } else { outcome })
}

fn write_summary(mut file: ResultFile, summary: &LiveSummary) -> Result<()> {
    let text = serde_json::to_string_pretty(summary)
        .map_err(|e| Error::internal("the summary cannot be put into JSON").because(e))?;
    file.line(&text)?;
    file.finish()
}

/// What was recorded, and what ended before the session did: the latter even where remarks are not wanted.
fn tell_unfinished(s: &LiveSummary, context: &mut Context) -> Result<()> {
    let silent = context.quiet || context.json;
    for r in &s.recordings {
        let words = format!("recorded {}-…: {} frames, {} lost", r.path, r.frames, r.lost);
        match &r.reason {
            None => context.remark(words)?,
            Some(why) if silent => tracing::error!("{words}; it ended by itself: {why}"),
            Some(why) => context.remark(format!("{words}; it ended by itself: {why}"))?,
        }
    }
    for u in &s.unfinished {
        let words = format!("not whole: {}", u.reason);
        if silent { tracing::error!("{words}") } else { context.remark(words)? }
    }
    Ok(())
}

/// A session without one frame has failed; one that lost its source and did not get it back is partial.
fn with_source(result: Result<Outcome>, source: SourceEnd, context: &mut Context) -> Result<Outcome> {
    match (result, source.fault) {
        (Ok(Outcome::Done), Some(fault)) if source.frames == 0 => Err(fault.error()),
        (Ok(Outcome::Done), None) if source.frames == 0 => {
            Err(Error::input("not one frame came from the source").remedy("run with -v for details"))
        }
        (Ok(Outcome::Done), Some(fault)) => {
            context.remark(format!("the source was lost at the end: {fault}"))?;
            Ok(Outcome::Partial)
        }
        (result, _) => result,
    }
}

/// Until the session is over.
fn watch(
    args: &Args,
    session: &mut Session,
    operator: &OperatorInput,
    context: &mut Context,
) -> Result<Outcome> {
    let line = StatusLine::new(context);
    let mut next_line = Instant::now();
    loop {
        if operator.stop.load(Ordering::Relaxed) {
            return Ok(Outcome::Done);
        }
        let mut keys: Vec<char> = operator.keys.try_iter().collect();
        if operator.toggle.swap(false, Ordering::Relaxed) {
            keys.push('o');
        }
        match session.step(Duration::from_millis(50)) {
            Step::On => {}
            Step::Done => return Ok(Outcome::Done),
            Step::Failed(e) => return Err(e),
            Step::Key(key) => keys.extend(key.chars().next().filter(|_| key.chars().count() == 1)),
            Step::Remark(words) => line.say(&words),
        }
        for key in keys {
            match key {
                'q' => return Ok(Outcome::Done),
                'o' => {
                    let on = session.controls().toggle();
                    line.say(if on { "overlay on" } else { "overlay off" });
                }
                'c' => {
                    let now = session.filter().setting();
                    let next = Confirm::ALL.iter().position(|c| *c == now).map_or(0, |i| i + 1);
                    session.filter().choose(Confirm::ALL[next % Confirm::ALL.len()]);
                    line.say(&session.filter().words());
                }
                'r' => toggle_recording(args, session, &line),
                _ => {}
            }
        }
        if Instant::now() >= next_line {
            next_line = Instant::now() + Duration::from_millis(500);
            line.show(&session.snapshot());
        }
    }
}

fn toggle_recording(args: &Args, session: &Session, line: &StatusLine) {
    match session.taps().stop_recording() {
        Some(recorder) => {
            // Completing the files takes a moment that the bus must not wait for.
            let _ = std::thread::Builder::new().name("recorder-end".into()).spawn(move || recorder.stop());
            line.say("recording off");
        }
        None => match args.recordings() {
            None => line.say("recording needs a folder: start with --record-to DIR"),
            Some(settings) => match Recorder::start(settings) {
                Ok(recorder) => {
                    session.taps().record(recorder);
                    line.say("recording on");
                }
                Err(e) => line.say(&e.to_string()),
            },
        },
    }
}

/// One line on the terminal, drawn anew twice a second.
struct StatusLine {
    bar: Option<indicatif::ProgressBar>,
}

impl StatusLine {
    fn new(context: &Context) -> Self {
        let wanted = !context.quiet && std::io::stderr().is_terminal();
        Self { bar: wanted.then(indicatif::ProgressBar::new_spinner) }
    }

    fn show(&self, s: &Snapshot) {
        let Some(bar) = &self.bar else { return };
        let ms = |us: f64| us / 1e3;
        let fps = s.points.last().map_or(0.0, |p| p.fps);
        bar.set_message(format!(
            "{}{} · {fps:.1} frames/s · video delay p99 {:.2} ms · annotation p99 {:.0} ms · mask age {:.0} ms · superseded {}",
            s.state,
            if s.source_lost { " (source lost)" } else { "" },
            ms(s.video_delay_us.p99),
            ms(s.annotation_delay_us.p99),
            ms(s.mask_age_us.p50),
            s.frames.superseded,
        ));
        bar.tick();
    }

    /// A remark that stays.
    fn say(&self, words: &str) {
        match &self.bar {
            Some(bar) => bar.println(OneLine(words).to_string()),
            None => {
                let _ = writeln!(std::io::stderr(), "{}", OneLine(words));
            }
        }
    }
}

impl Drop for StatusLine {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// Prints what a session came to.
fn tell(s: &LiveSummary, context: &mut Context) -> Result<()> {
    if context.json {
        return context.json(s);
    }
    let f = s.frames;
    context.remark(format!(
        "{}: {:.1} s, {} frames in, {} out, {} dropped, {} late, {} inferred, {} superseded",
        s.input,
        s.elapsed_ms / 1e3,
        f.entered,
        f.out,
        f.dropped,
        f.late,
        f.inferred,
        f.superseded
    ))?;
    for (name, d) in [
        ("video delay", &s.video_delay_us),
        ("annotation delay", &s.annotation_delay_us),
        ("mask age", &s.mask_age_us),
    ] {
        context.remark(format!(
            "  {name:<17} p50 {:8.2} ms   p99 {:8.2} ms   p99.9 {:8.2} ms   max {:8.2} ms",
            d.p50 / 1e3,
            d.p99 / 1e3,
            d.p999 / 1e3,
            d.max / 1e3
        ))?;
    }
    if s.confirmed_tracks > 0 {
        context.remark(format!(
            "  first alarm       p50 {:8.2} ms   max {:8.2} ms after the first sight ({}); {} of {} tracks confirmed",
            s.first_alarm_us.p50 / 1e3,
            s.first_alarm_us.max / 1e3,
            s.confirm,
            s.confirmed_tracks,
            s.tracks
        ))?;
    }
    context.remark(format!(
        "  memory {} MB at the start, {} MB at most, {} MB at the end; {:.2} cores busy; {} changes of state",
        s.rss_bytes.start >> 20,
        s.rss_bytes.max >> 20,
        s.rss_bytes.end >> 20,
        s.cpu_cores,
        s.state_changes.len()
    ))
}
