//! One recording, from its first frame to the finished files.
//!
//! In: a source, a segmenter, and where to write. Out: the summary; the segmenter comes back for the next recording.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError};

use super::masks::MaskFolder;
use super::reader;
use super::record::{Confirmation, FrameCounts, FrameRecord, Marks, Summary};
use super::report::{Report, Thumbnail};
use crate::capture::{Encoder, EncoderSettings, Frame, SoundPacket, Source, lost_frames};
use crate::distribution::Histogram;
use crate::frame::resize::{Filter, Resampler};
use crate::frame::{Mask, Nanos, Pts, Rect};
use crate::mailbox::{Policy, mailbox};
use crate::overlay::{Overlay, Style};
use crate::result_file::check_folder;
use crate::safety::State;
use crate::segment::{Segmenter, Spans};
use crate::telemetry::{Machine, Stage, StageHistograms, peak_rss_bytes};
use crate::tracks::{Confirm, SharedFilter};
use crate::worker::{self, Finished};
use crate::{Error, Kind, Result};

/// Frames waiting at each hand-over.
const ROOM: usize = 2;

/// Where to write, and how marks look.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The annotated video, if wanted.
    pub encoder: Option<EncoderSettings>,
    /// The report's folder, if wanted.
    pub report: Option<PathBuf>,
    /// Also write `masks/` into the report's folder.
    pub masks: bool,
    /// Replace what is there.
    pub force: bool,
    /// How marks look in the annotated video.
    pub style: Style,
    /// For the report: probability from which on a pixel is marked.
    pub threshold: f64,
    /// For the report: which checkpoint.
    pub checkpoint: String,
    /// For the report: SHA-256 of that checkpoint's file in lower-case hexadecimal.
    pub checkpoint_sha256: String,
    /// The instant of the recording that becomes zero in the output.
    pub origin: Pts,
    /// Whether sound goes into the output; otherwise what became of it.
    pub sound: std::result::Result<String, String>,
}

/// How far a replay has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Frames written so far.
    pub frames: u64,
}

impl Settings {
    /// Checks what can be checked before work begins.
    ///
    /// # Errors
    /// Nothing to write, an output that is the input or exists already, masks without a report.
    pub fn validate(&self, input: &Path) -> Result<()> {
        if self.encoder.is_none() && self.report.is_none() {
            return Err(Error::usage("nothing to write").remedy("add --output FILE, --report DIR or both"));
        }
        if self.masks && self.report.is_none() {
            return Err(Error::usage("--masks needs a folder")
                .remedy("add --report DIR; the masks go into DIR/masks"));
        }
        if self.masks && self.report.as_ref().is_some_and(|dir| same_file(input, &dir.join("masks"))) {
            return Err(Error::usage(format!("{}: the masks would replace the input", input.display()))
                .remedy("choose another --report folder"));
        }
        if let Some(encoder) = &self.encoder {
            if same_file(input, &encoder.output) {
                return Err(Error::usage(format!("{}: is the input itself", encoder.output.display()))
                    .remedy("choose another --output"));
            }
            encoder.validate()?;
        }
        if let Some(dir) = &self.report {
            check_folder(dir)?;
            if let Some(encoder) = &self.encoder
                && (encoder.output == *dir || encoder.output.starts_with(dir.join("masks")))
            {
                return Err(Error::usage(format!("{}: is where the report goes", encoder.output.display()))
                    .remedy("choose another --output"));
            }
        }
        Ok(())
    }
}

/// Whether two paths lead to the same file, through links too.
pub(crate) fn same_file(a: &Path, b: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    match (std::fs::metadata(a), std::fs::metadata(b)) {
        (Ok(a), Ok(b)) => (a.dev(), a.ino()) == (b.dev(), b.ino()),
        _ => false,
    }
}

/// The queue between the reader and the worker.
const MAILBOX: &str = "mailbox";

/// A frame's way to the worker.
#[derive(Clone, Copy)]
struct Reading {
    decode: Nanos,
    hand_over: Nanos,
    /// In the mailbox.
    waited: Nanos,
}

/// Microseconds to a tenth.
fn rounded_us(span: Nanos) -> f64 {
    (span.as_micros_f64() * 10.0).round() / 10.0
}

/// Everything that is written.
struct Writer {
    settings: Settings,
    overlay: Overlay,
    encoder: Option<Encoder>,
    report: Option<Report>,
    masks: Option<MaskFolder>,
    stages: StageHistograms,
    /// How long frames waited for the worker.
    mailbox: Histogram,
    thumbnails: Resampler,
    summary: Summary,
    /// Whether frames are followed over time.
    followed: bool,
    last_track: u64,
}

impl Writer {
    fn new(settings: Settings, input: &Path, engine: String, filter: Option<&SharedFilter>) -> Result<Self> {
        let setting = filter.map_or(Confirm::Off, SharedFilter::setting);
        let numbers = filter.and_then(|f| f.numbers(setting));
        let mut report = settings.report.as_deref().map(|d| Report::create(d, settings.force)).transpose()?;
        if let (Some(report), Some(numbers)) = (&mut report, &numbers) {
            report.follow(numbers);
        }
        let masks = match (&settings.report, settings.masks) {
            (Some(dir), true) => Some(MaskFolder::create(&dir.join("masks"), settings.force)?),
            _ => None,
        };
        let summary = Summary {
            input: input.display().to_string(),
            output: settings.encoder.as_ref().map(|e| e.output.display().to_string()).unwrap_or_default(),
            checkpoint: settings.checkpoint.clone(),
            checkpoint_sha256: settings.checkpoint_sha256.clone(),
            engine,
            machine: Machine::detect(),
            threshold: settings.threshold,
            audio: match &settings.sound {
                Ok(codec) => format!("passed through ({codec})"),
                Err(why) => why.clone(),
            },
            confirm: Confirmation { setting: setting.name().to_owned(), numbers, ..Confirmation::default() },
            ..Default::default()
        };
        Ok(Self {
            followed: numbers.is_some(),
            last_track: 0,
            overlay: Overlay::new(settings.style),
            settings,
            encoder: None,
            report,
            masks,
            stages: StageHistograms::default(),
            mailbox: Histogram::new(),
            thumbnails: Resampler::new(Filter::Antialiased),
            summary,
        })
    }

    /// Draws, encodes and records one frame.
    fn frame(&mut self, finished: Finished<Frame>, sound: &Receiver<SoundPacket>) -> Result<()> {
        let Finished { job: mut frame, mask, spans, waited } = finished;
        let info = frame.picture_info()?;
        if self.summary.frames.written == 0 {
            self.summary.width_px = info.width;
            self.summary.height_px = info.height;
            self.summary.format = info.format.caps_name().to_owned();
            self.summary.marks = Marks { status_rect: self.overlay.status_rect(&info) };
            if let Some(settings) = self.settings.encoder.clone() {
                let encoder =
                    Encoder::create(settings, &frame, self.settings.sound.is_ok(), self.settings.origin)?;
                self.encoder = Some(encoder);
            }
        }
        self.summary.field_of_view = mask.field_of_view;
        let (pts, duration) = (frame.pts, frame.duration.unwrap_or_default());
        let read = Reading { decode: frame.decode, hand_over: frame.hand_over, waited };
        // A clean copy for the thumbnail: the picture is copied before it is drawn on, only where it is drawn on.
        let clean = (self.report.is_some() && mask.area_px > 0).then(|| frame.clone());

        let start = Instant::now();
        let mut composite = Nanos::default();
        let mut encode = Nanos::default();
        if let Some(encoder) = &mut self.encoder {
            frame.draw(|picture| self.overlay.draw(picture, Some(&mask), State::Active))?;
            composite = start.elapsed().into();
            let start = Instant::now();
            encoder.frame(frame)?;
            for packet in sound.try_iter() {
                encoder.sound(packet)?;
            }
            encode = start.elapsed().into();
        }
        if let Some(masks) = &mut self.masks {
            masks.write(&mask)?;
        }
        self.count(&mask);
        let timings = self.record(read, spans, composite, encode);
        if let Some(report) = &mut self.report {
            let record = record_of(mask, pts, timings);
            let view = self.summary.field_of_view;
            let thumbnails = &mut self.thumbnails;
            report.frame(&record, duration.0, &mut || thumbnail(clean.as_ref()?, view, thumbnails))?;
        }
        self.summary.frames.written += 1;
        Ok(())
    }

    /// Counts what the filter did.
    fn count(&mut self, mask: &Mask) {
        let counts = &mut self.summary.confirm;
        if let Some(gate) = mask.gate {
            *counts.gated_frames.entry(gate.name().to_owned()).or_default() += 1;
        }
        for t in &mask.tracks {
            // Numbers ascend, so a larger one than any before is a new track.
            self.last_track = self.last_track.max(t.track_id);
            counts.confirmed_tracks += u64::from(t.is_newly_confirmed());
        }
        counts.tracks = self.last_track;
    }

    /// Counts the frame's stages; stages that did not take place are left out.
    fn record(
        &mut self,
        read: Reading,
        spans: Spans,
        composite: Nanos,
        encode: Nanos,
    ) -> BTreeMap<String, f64> {
        let mut timings = BTreeMap::new();
        for (stage, span) in [
            (Stage::Decode, read.decode),
            (Stage::HandOver, read.hand_over),
            (Stage::Preprocess, spans.preprocess),
            (Stage::Network, spans.network),
            (Stage::Tracks, spans.tracks),
            (Stage::Postprocess, spans.postprocess),
            (Stage::Composite, composite),
            (Stage::Encode, encode),
        ] {
            let written = self.encoder.is_some();
            if (!written && matches!(stage, Stage::Composite | Stage::Encode))
                || (!self.followed && stage == Stage::Tracks)
            {
                continue;
            }
            self.stages.record(stage, span);
            timings.insert(stage.name().to_owned(), rounded_us(span));
        }
        self.mailbox.record(read.waited);
        timings.insert(MAILBOX.to_owned(), rounded_us(read.waited));
        timings
    }

    /// Completes all files and gives them their names: the video first, the report that speaks of it last.
    fn finish(mut self, partial: Option<String>, read: u64, elapsed: Duration) -> Result<Summary> {
        if let Some(encoder) = self.encoder.take() {
            encoder.finish()?;
        }
        if let Some(masks) = self.masks.take() {
            masks.finish()?;
        }
        self.summary.frames.read = read;
        self.summary.partial = partial.is_some();
        self.summary.partial_reason = partial;
        self.summary.elapsed_ms = elapsed.as_secs_f64() * 1e3;
        self.summary.peak_rss_bytes = peak_rss_bytes();
        self.summary.queues_us.insert(MAILBOX.to_owned(), self.mailbox.distribution(1e-3));
        match self.report.take() {
            Some(report) => report.finish(self.summary, &self.stages),
            None => {
                self.summary.stages_us =
                    self.stages.distributions_us().into_iter().map(|(n, d)| (n.to_owned(), d)).collect();
                Ok(self.summary)
            }
        }
    }
}

fn record_of(mask: Mask, pts: Pts, timings_us: BTreeMap<String, f64>) -> FrameRecord {
    FrameRecord {
        frame: mask.frame.0,
        pts_ns: pts.0,
        state: State::Active.name().to_owned(),
        area_px: mask.area_px,
        max_probability: mask.max_probability,
        polyps: mask.polyps,
        tracks: mask.tracks,
        gate: mask.gate,
        timings_us,
    }
}

/// The field of view of a clean frame, small.
pub(crate) fn thumbnail(frame: &Frame, view: Rect, resampler: &mut Resampler) -> Option<Thumbnail> {
    let (width, height) = Thumbnail::size(view);
    let mut rgb = vec![0; width as usize * height as usize * 3];
    frame
        .read(|picture| {
            resampler.run(picture, view, width as usize, height as usize, &mut rgb);
            Ok(())
        })
        .map_err(|e| tracing::warn!("no thumbnail: {e}"))
        .ok()?;
    Some(Thumbnail { width, height, rgb, view })
}

/// Replays one source. `stop` ends it early with what has been read; `progress` is told after every frame.
///
/// What fails after the first frame ends the replay, and what has been done is completed and marked as partial; a
/// failure to write is an error, and leaves what was there before untouched.
///
/// # Errors
/// Settings that cannot be met, a source without a frame, a first frame that cannot be inferred, a full disk.
pub fn replay(
    source: Box<dyn Source>,
    mut segmenter: Segmenter,
    settings: Settings,
    stop: &Arc<AtomicBool>,
    progress: &mut dyn FnMut(Progress),
) -> Result<(Summary, Option<Segmenter>)> {
    settings.validate(source.path())?;
    segmenter.restart();
    let start = Instant::now();
    let mut writer = Writer::new(settings, source.path(), segmenter.describe(), segmenter.filter())?;
    let (outbox, inbox) = mailbox(Policy::Lossless, ROOM);
    let (done, finished) = crossbeam_channel::bounded(ROOM);
    let (sound_in, sound) = crossbeam_channel::unbounded();
    // Ours apart from the caller's: a failure stops the reader without telling the caller's other replays.
    let halt = Arc::new(AtomicBool::new(false));
    let reader = reader::spawn(source, outbox, sound_in, halt.clone())?;
    let worker = worker::spawn(segmenter, inbox, done)?;

    let mut failure = None;
    let mut fatal = None;
    loop {
        if stop.load(Ordering::Relaxed) {
            halt.store(true, Ordering::Relaxed);
        }
        match finished.recv_timeout(Duration::from_millis(100)) {
            Err(RecvTimeoutError::Timeout) => continue,
            Err(RecvTimeoutError::Disconnected) => break,
            Ok(Err(e)) => {
                halt.store(true, Ordering::Relaxed);
                failure = Some(e);
            }
            Ok(Ok(frame)) => {
                if let Err(e) = writer.frame(frame, &sound) {
                    halt.store(true, Ordering::Relaxed);
                    fatal = Some(e);
                    break;
                }
                progress(Progress { frames: writer.summary.frames.written });
            }
        }
    }
    drop(finished);
    let segmenter = worker.join().ok();
    let read = reader
        .join()
        .map_err(|_| Error::internal("the reading thread panicked").remedy("please report this"))?;
    if let Some(e) = fatal {
        return Err(e);
    }
    let written = writer.summary.frames.written;
    if let Ok(read) = &read {
        writer.summary.losses.clone_from(&read.ended.losses);
        writer.summary.lost_frames = lost_frames(&read.ended.losses);
    }
    let (partial, frames) = match (failure, read) {
        (Some(e), _) if written == 0 => return Err(e),
        (Some(e), read) => (Some(e.to_string()), read.map_or(written, |r| r.frames)),
        (None, Err(e)) if written == 0 => return Err(e),
        (None, Err(e)) => (Some(e.to_string()), written),
        (None, Ok(r)) if written == 0 && r.ended.cut_off.as_deref() == Some(reader::INTERRUPTED) => {
            return Err(Error::new(Kind::Input, "interrupted before the first frame"));
        }
        (None, Ok(r)) => (join(r.ended.cut_off, r.ended.changed), r.frames),
    };
    for packet in sound.try_iter() {
        if let Some(encoder) = &mut writer.encoder {
            encoder.sound(packet)?;
        }
    }
    let summary = writer.finish(partial, frames, start.elapsed())?;
    debug_assert!(summary.frames == FrameCounts { read: frames, written });
    Ok((summary, segmenter))
}

fn join(a: Option<String>, b: Option<String>) -> Option<String> {
    match (a, b) {
        (Some(a), Some(b)) => Some(format!("{a}; {b}")),
        (a, b) => a.or(b),
    }
}
