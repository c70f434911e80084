//! `polypscope eval-video`: a video and its truth in, the clinical measures out.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use clap::Args as ClapArgs;

use super::arguments::{frame_rate, input_size, threshold};
use super::eval::LevelsName;
use super::interrupt::interrupt_flag;
use super::progress::Progress;
use super::{Context, EngineArgs, Outcome};
use crate::evaluation::images::NoteKind;
#[cfg(feature = "video")]
use crate::evaluation::video::KeptMaps;
use crate::evaluation::video::{
    Comparison, Detections, FrameDetections, FrameJudgement, FrameMap, HitRule, KEPT_FIRST_LINE, Layout,
    LinkRule, Pool, Set, Truth, VideoReport, VideoRules, VideoScorer, curve, kept_entry,
};
use crate::preprocess::FieldOfView;
use crate::result_file::{Outputs, ResultFile};
use crate::tracks::{Confirm, Variant};
use crate::{Error, Result, small_file};

/// Detections come from the network over --video, from a replay's frames.jsonl, or from a folder of maps.
#[derive(Debug, ClapArgs)]
pub struct Args {
    /// Video for the network, or a folder of pictures; with --predictions or --maps, for motion and gates alone
    #[arg(long, value_name = "FILE", required_unless_present_any = ["detections", "predictions", "dataset", "pool"])]
    video: Option<PathBuf>,
    /// frames.jsonl of a replay, instead of running the network
    #[arg(long, value_name = "FILE", conflicts_with_all = ["video", "predictions"])]
    detections: Option<PathBuf>,
    /// Probability maps of any program, one a frame in the order of names, instead of running the network
    #[arg(long, value_name = "DIR")]
    predictions: Option<PathBuf>,
    /// Maps that --keep-maps wrote for this video, instead of running the network
    #[arg(long, value_name = "FILE", conflicts_with_all = ["detections", "predictions", "threshold", "input_size"])]
    maps: Option<PathBuf>,
    /// Keep the network's maps for --maps: 4 bytes a map pixel and frame
    #[arg(long, value_name = "FILE", conflicts_with_all = ["detections", "predictions", "maps"])]
    keep_maps: Option<PathBuf>,
    /// A phantom's truth, a folder of masks (named by the frame's number, the first frame being 0, or in order), or
    /// boxes as JSON
    #[arg(long, value_name = "DIR|FILE", required_unless_present_any = ["dataset", "pool"])]
    truth: Option<PathBuf>,
    /// A recording of a public set, its frames and its truth: real-colon:DIR (SSS-VVV_annotations), sun-seg:DIR (a case
    /// under Frame or GT) or cvc-video:DIR (a video's folder)
    #[arg(long, value_name = "LAYOUT:DIR", value_parser = dataset, conflicts_with_all = ["truth", "detections"])]
    dataset: Option<(Layout, PathBuf)>,
    /// Add up results that --json printed, instead of measuring: a table and a curve of several recordings
    #[arg(long, value_name = "FILE", num_args = 1.., conflicts_with_all = ["video", "detections", "predictions", "maps", "keep_maps", "truth", "dataset", "csv"])]
    pool: Vec<PathBuf>,
    /// How long a detection must last before it is shown, measured side by side: off, sensitive, balanced, quiet, or
    /// one with numbers changed, such as balanced,confirm=240 (default: all four)
    #[arg(long, value_name = "SETTING")]
    confirm: Vec<Variant>,
    /// The settings as a picture (SVG)
    #[arg(long, value_name = "FILE")]
    curve: Option<PathBuf>,
    /// When a detection hits a polyp: centre, overlap, iou:SHARE or cover:SHARE
    #[arg(long, value_name = "RULE", default_value_t)]
    hit: HitRule,
    /// Which regions of two frames are one polyp, where the truth does not say, and one false positive: near:DIAGONALS,
    /// iou:SHARE or all
    #[arg(long, value_name = "RULE", default_value_t)]
    link: LinkRule,
    /// Unseen for longer than this, it is another
    #[arg(long, value_name = "MS", default_value_t = VideoRules::default().link_gap_ms)]
    link_gap: f64,
    /// A false alarm goes on while two frames that hold it begin no more than this apart
    #[arg(long, value_name = "MS", default_value_t = VideoRules::default().alarm_gap_ms)]
    alarm_gap: f64,
    /// Detections of fewer pixels are taken as not shown
    #[arg(long, value_name = "PX", default_value_t = VideoRules::default().min_area_px)]
    min_area: u64,
    /// Frames in a row a detection must last before it shows; each setting is measured
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_values_t = VideoRules::default().persistence)]
    persistence: Vec<u32>,
    /// Probability from which on a pixel is marked (default: the checkpoint's, or 0.5 for --predictions)
    #[arg(long, value_name = "P", value_parser = threshold, conflicts_with = "detections")]
    threshold: Option<f64>,
    /// Value of a map of --predictions that means certain (default: 255; 65535 in 16-bit files, 1 in floating-point
    /// ones)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..), requires = "predictions")]
    prediction_max: Option<u16>,
    /// Levels of a truth mask that are polyp, where it has more than two
    #[arg(long, value_enum, default_value = "auto")]
    mask_levels: LevelsName,
    /// Frames a second of a folder of pictures or maps
    #[arg(long, value_name = "RATE", value_parser = frame_rate, default_value = "25")]
    fps: (u32, u32),
    /// Side of the network's input, a multiple of 32 (default: the checkpoint's)
    #[arg(long, value_name = "PIXELS", value_parser = input_size)]
    input_size: Option<usize>,
    /// Every frame's judgement, as CSV
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
    /// Replace results that are already there
    #[arg(long)]
    force: bool,
    /// What the network analyses: auto, full, or X,Y,W,H in source pixels
    #[arg(long, value_name = "VIEW", default_value_t = FieldOfView::Auto)]
    field_of_view: FieldOfView,
    #[command(flatten)]
    engine: EngineArgs,
}

fn dataset(text: &str) -> Result<(Layout, PathBuf)> {
    let (layout, folder) = text.split_once(':').filter(|(_, f)| !f.is_empty()).ok_or_else(|| {
        Error::usage(format!("{text:?} names no recording of a set")).remedy("write LAYOUT:DIR")
    })?;
    Ok((layout.parse()?, folder.into()))
}

/// What every frame goes through, whoever found its detections.
struct Judge {
    truth: Truth,
    scorer: VideoScorer,
    /// The settings side by side.
    comparison: Comparison,
    csv: Option<ResultFile>,
    /// Where the network's maps are kept.
    kept: Option<ResultFile>,
    entry: Vec<u8>,
    frames: u64,
    /// Rules that maps were read by, and for how many.
    notes: BTreeMap<NoteKind, u64>,
}

impl Judge {
    fn frame(
        &mut self,
        detected: FrameDetections,
        size: Option<(usize, usize)>,
        map: Option<&FrameMap>,
    ) -> Result<()> {
        self.frames += 1;
        let truth = self.truth.frame(detected.frame, size)?;
        if let (Some(map), Some(kept)) = (map, &mut self.kept) {
            kept_entry(map, &mut self.entry)?;
            kept.write(&self.entry)?;
        }
        if let Some(map) = map {
            self.comparison.frame(map, truth.as_deref())?;
        }
        let judgement = self.scorer.frame(detected, truth.as_deref())?;
        match &mut self.csv {
            Some(csv) => csv.line(&csv_line(&judgement)),
            None => Ok(()),
        }
    }
}

const CSV_HEADER: &str = "frame,time_ms,judged,detections,false_positives,polyps,hit";

fn csv_line(j: &FrameJudgement) -> String {
    let ids = |ids: &[u64]| ids.iter().map(u64::to_string).collect::<Vec<_>>().join(" ");
    format!(
        "{},{:.3},{},{},{},{},{}",
        j.frame,
        j.time_ms,
        u8::from(j.judged),
        j.detections,
        j.false_positives,
        ids(&j.polyps),
        ids(&j.hit)
    )
}

pub fn run(args: &Args, context: &mut Context) -> Result<Outcome> {
    if !args.pool.is_empty() {
        return pool(args, context);
    }
    let rules = VideoRules {
        hit: args.hit,
        link: args.link,
        link_gap_ms: args.link_gap,
        alarm_gap_ms: args.alarm_gap,
        min_area_px: args.min_area,
        persistence: args.persistence.clone(),
    };
    // What is wrong with the command is said before the network is built.
    let variants = match args.confirm.as_slice() {
        [] => Confirm::ALL.into_iter().map(Variant::from).collect(),
        some => some.to_vec(),
    };
    let comparison = Comparison::new(&variants, &rules)?;
    let scorer = VideoScorer::new(rules)?;
    let set = args.dataset.as_ref().map(|(layout, folder)| Set::open(*layout, folder)).transpose()?;
    let (truth, mut frames, fps) = match (set, &args.truth) {
        (Some(set), _) => (set.truth, set.frames, set.fps),
        (None, Some(path)) => (Truth::open(path)?, Vec::new(), None),
        (None, None) => return Err(Error::usage("neither --truth nor --dataset is given")),
    };
    let truth = truth.with_levels(args.mask_levels.into());
    let rate = fps.map_or(args.fps, |fps| ((fps * 1000.0).round() as u32, 1000));
    let truth_place = args.truth.as_ref().or(args.dataset.as_ref().map(|(_, folder)| folder));
    let mut outputs = Outputs::new(args.force);
    for input in [&args.video, &args.detections, &args.predictions, &args.maps]
        .into_iter()
        .flatten()
        .chain(truth_place)
    {
        outputs.reads(input);
    }
    for (option, path) in [("--csv", &args.csv), ("--curve", &args.curve), ("--keep-maps", &args.keep_maps)] {
        if let Some(path) = path {
            outputs.file(option, path)?;
        }
    }
    if args.curve.is_some() && args.detections.is_some() {
        return Err(Error::usage(
            "a replay's detections have been filtered already, so there is no --curve of them",
        )
        .remedy("give --video or --predictions"));
    }
    let mut csv = args.csv.as_deref().map(|path| ResultFile::create(path, args.force)).transpose()?;
    if let Some(csv) = &mut csv {
        csv.line(CSV_HEADER)?;
    }
    let mut kept = args.keep_maps.as_deref().map(|path| ResultFile::create(path, args.force)).transpose()?;
    if let Some(kept) = &mut kept {
        kept.line(KEPT_FIRST_LINE)?;
    }
    let stop = interrupt_flag()?;
    let entry = Vec::new();
    let mut judge = Judge { truth, scorer, comparison, csv, kept, entry, frames: 0, notes: BTreeMap::new() };
    let mut cut_off = match (&args.detections, &args.predictions, &args.video) {
        (Some(path), _, _) => {
            let size = replay_size(path)?;
            read(Detections::from_replay(path)?, size, &mut judge, &stop, context)?
        }
        (_, Some(folder), None) if args.dataset.is_none() => {
            let fps = f64::from(rate.0) / f64::from(rate.1);
            let maps = predictions(folder, fps, &judge.truth, args)?;
            read(maps, None, &mut judge, &stop, context)?
        }
        (_, _, Some(video)) => infer(video, None, rate, args, &mut judge, &stop, context)?,
        _ => {
            let place = truth_place.cloned().unwrap_or_default();
            if frames.is_empty() {
                return Err(Error::input(format!(
                    "{}: the frames themselves are not there",
                    place.display()
                ))
                .remedy("add --video with the recording"));
            }
            infer(&place, Some(std::mem::take(&mut frames)), rate, args, &mut judge, &stop, context)?
        }
    };
    if judge.frames == 0 {
        return Err(
            Error::input("there is no frame to judge").remedy("give a video, or detections, with frames")
        );
    }
    if cut_off.is_none() && judge.frames < judge.truth.frames() {
        cut_off = Some(format!(
            "the truth speaks of {} frames, but only {} came",
            judge.truth.frames(),
            judge.frames
        ));
    }
    for file in [judge.csv.take(), judge.kept.take()].into_iter().flatten() {
        file.finish()?;
    }
    let mut report = judge.scorer.report();
    if args.detections.is_none() {
        report.confirm = judge.comparison.report();
        report.gates = judge.comparison.gates();
    }
    if let Some(path) = &args.curve {
        let title = format!(
            "{}, {:.1} min",
            truth_place.map(|p| p.display().to_string()).unwrap_or_default(),
            report.judged_ms / 60_000.0
        );
        write_curve(path, &curve(&report.settings(), report.judged_ms / 60_000.0, &title), args)?;
    }
    tell(&report, &judge, cut_off.as_deref(), args, context)?;
    Ok(if cut_off.is_some() { Outcome::Partial } else { Outcome::Done })
}

/// Maps of any program.
fn predictions(folder: &Path, fps: f64, truth: &Truth, args: &Args) -> Result<Detections> {
    let threshold = args.threshold.unwrap_or(0.5);
    let maps = Detections::from_maps(folder, threshold, args.prediction_max, fps)?.with_maps();
    Ok(if truth.is_numbered() { maps.numbered() } else { maps })
}

fn write_curve(path: &Path, svg: &str, args: &Args) -> Result<()> {
    let mut file = ResultFile::create(path, args.force)?;
    file.write(svg.as_bytes())?;
    file.finish()
}

/// Adds results up.
fn pool(args: &Args, context: &mut Context) -> Result<Outcome> {
    let mut pool = Pool::default();
    let mut outputs = Outputs::new(args.force);
    for path in &args.pool {
        outputs.reads(path);
        let json = small_file::read(path, small_file::LARGE, "a result of eval-video")?;
        pool.add(&path.display().to_string(), &json)?;
    }
    let pooled = pool.report();
    if let Some(path) = &args.curve {
        outputs.file("--curve", path)?;
        let title =
            format!("{} recordings, {:.1} min, {} polyps", pooled.recordings, pooled.minutes, pooled.polyps);
        write_curve(path, &curve(&pooled.confirm, pooled.minutes, &title), args)?;
    }
    if context.json {
        context.json(&pooled)?;
    } else {
        context.say_lines(pooled.text().trim_end())?;
    }
    Ok(Outcome::Done)
}

const INTERRUPTED: &str = "interrupted";

/// Judges detections that are there already. Says why not all of them, if so.
fn read(
    mut detections: Detections,
    size: Option<(usize, usize)>,
    judge: &mut Judge,
    stop: &AtomicBool,
    context: &Context,
) -> Result<Option<String>> {
    let bar = Progress::new(Some(judge.truth.frames()), context.quiet, "eval-video");
    while let Some(detected) = detections.next() {
        let detected = detected?;
        let map = detections.map_of(&detected);
        judge.frame(detected, size.or(detections.size()), map.as_ref())?;
        bar.at(judge.frames);
        if stop.load(Ordering::Relaxed) {
            return Ok(Some(INTERRUPTED.into()));
        }
    }
    bar.finish();
    judge.notes = detections.notes().clone();
    Ok(detections.skipped().map(|(n, first)| {
        let frames = if n == 1 { "frame was" } else { "frames were" };
        format!("{n} {frames} lost from the recording (first frame {first}) and could not be judged")
    }))
}

/// The picture's size, from the summary beside a replay's records.
fn replay_size(records: &Path) -> Result<Option<(usize, usize)>> {
    let path = records.with_file_name("summary.json");
    if !path.exists() {
        return Ok(None);
    }
    let bytes = small_file::read(&path, small_file::LARGE, "the summary.json of a replay")?;
    let summary: serde_json::Value = serde_json::from_slice(&bytes).map_err(|e| {
        Error::input(format!("{}: is no summary of a replay ({e})", path.display())).because(e)
    })?;
    let side = |key: &str| summary[key].as_u64().filter(|v| *v > 0).map(|v| v as usize);
    Ok(side("width_px").zip(side("height_px")))
}

/// Who says what is on a frame of a video.
#[cfg(feature = "video")]
enum Marker {
    Network(Box<crate::segment::Segmenter>, Box<crate::frame::Mask>),
    Kept(Box<KeptMaps>, bool),
    /// The field of view is looked for by itself; the next prediction, if it was read too early.
    Predictions(Box<Detections>, Box<crate::preprocess::Finder>, Option<FrameDetections>),
}

#[cfg(feature = "video")]
impl Marker {
    fn open(rate: (u32, u32), truth: &Truth, args: &Args) -> Result<Self> {
        use crate::segment::Segmenter;

        if let Some(path) = &args.maps {
            let mut kept = KeptMaps::open(path)?;
            let more = kept.advance()?;
            return Ok(Self::Kept(Box::new(kept), more));
        }
        if let Some(folder) = &args.predictions {
            let maps = predictions(folder, f64::from(rate.0) / f64::from(rate.1), truth, args)?;
            return Ok(Self::Predictions(Box::new(maps), Box::default(), None));
        }
        let (checkpoint, network) = args.engine.open_at(args.input_size)?;
        let segmenter = Segmenter::new(network, checkpoint.description(), args.field_of_view, args.threshold);
        Ok(Self::Network(Box::new(segmenter), Box::default()))
    }

    /// Judges the next frame; `false` where nothing is said of it.
    fn frame(
        &mut self,
        id: crate::frame::FrameId,
        pts: crate::frame::Pts,
        picture: &crate::frame::Picture,
        judge: &mut Judge,
    ) -> Result<bool> {
        let (w, h) = (picture.info.width, picture.info.height);
        let size = Some((w as usize, h as usize));
        let other = |w2: u32, h2: u32| {
            Error::input(format!("{id}: its picture is {w}x{h}, but its map was made for one of {w2}x{h2}"))
                .remedy("give the maps of this video")
        };
        match self {
            Self::Network(segmenter, mask) => {
                (mask.frame, mask.pts) = (id, pts);
                segmenter.segment(picture, mask).map_err(|e| e.at(id))?;
                let shape = segmenter.network().shape();
                let map = FrameMap {
                    frame: id,
                    pts,
                    picture: Some(picture),
                    picture_size: (w, h),
                    view: mask.field_of_view,
                    scenery: mask.field_of_view,
                    logits: segmenter.logits(),
                    classes: shape.classes,
                    size: (shape.height, shape.width),
                    level: segmenter.level(),
                };
                judge.frame(FrameDetections::from_mask(mask)?, size, Some(&map))?;
            }
            Self::Kept(kept, more) => {
                while *more && kept.frame() < id.0 {
                    *more = kept.advance()?;
                }
                if !*more || kept.frame() != id.0 {
                    return Ok(false);
                }
                if kept.picture_size() != (w, h) {
                    return Err(other(kept.picture_size().0, kept.picture_size().1));
                }
                let detected = FrameDetections { pts_ns: pts.0, ..kept.detections()? };
                let map = FrameMap { pts, ..kept.map(Some(picture)) };
                judge.frame(detected, size, Some(&map))?;
                *more = kept.advance()?;
            }
            Self::Predictions(maps, finder, ahead) => {
                let scenery = finder.observe(picture);
                let detected = loop {
                    match ahead.take().map(Ok).or_else(|| maps.next()).transpose()? {
                        Some(d) if d.frame < id.0 => {}
                        Some(d) if d.frame > id.0 => {
                            *ahead = Some(d);
                            return Ok(false);
                        }
                        Some(d) => break FrameDetections { pts_ns: pts.0, ..d },
                        None => return Ok(false),
                    }
                };
                if maps.size() != size {
                    let (w2, h2) = maps.size().unwrap_or_default();
                    return Err(other(w2 as u32, h2 as u32));
                }
                let map =
                    maps.map_of(&detected).map(|map| FrameMap { picture: Some(picture), scenery, ..map });
                judge.frame(detected, size, map.as_ref())?;
            }
        }
        Ok(true)
    }
}

/// Goes through the video, every frame, with the network or with what was said of it before. Says why not to its end,
/// if so.
#[cfg(feature = "video")]
fn infer(
    video: &Path,
    frames: Option<Vec<PathBuf>>,
    rate: (u32, u32),
    args: &Args,
    judge: &mut Judge,
    stop: &AtomicBool,
    context: &Context,
) -> Result<Option<String>> {
    use crate::capture::{
        Facts, Input, Next, Recording, Source, Span, Stills, discover_inputs, hear_decoders,
    };

    hear_decoders();
    let inputs = match frames {
        Some(files) => vec![Input::Stills { folder: video.to_owned(), files }],
        None => discover_inputs(&[video.to_owned()])?,
    };
    let mut source: Box<dyn Source> = match inputs.as_slice() {
        [Input::Recording(path)] => Box::new(Recording::open(Facts::discover(path)?, Span::default(), None)?),
        [Input::Stills { folder, files }] => {
            Box::new(Stills::open(folder, files.clone(), rate, Span::default())?)
        }
        several => {
            return Err(Error::usage(format!("{}: holds {} videos", video.display(), several.len()))
                .remedy("name the one that the truth belongs to"));
        }
    };
    let mut marker = Marker::open(rate, &judge.truth, args)?;
    let expected = source.expected_frames().or(Some(judge.truth.frames()));
    let bar = Progress::new(expected, context.quiet, "eval-video");
    let mut unsaid: Option<(u64, u64)> = None;
    let cut_off = loop {
        if stop.load(Ordering::Relaxed) {
            break Some(INTERRUPTED.into());
        }
        match source.next()? {
            Next::Wait => {}
            Next::Ended(ended) => {
                if let Some(changed) = ended.changed {
                    tracing::warn!("{}: {changed}", video.display());
                }
                break ended.cut_off;
            }
            Next::Frame(frame) => {
                let said = frame.read(|picture| marker.frame(frame.id, frame.pts, picture, judge))?;
                if !said {
                    unsaid = Some((
                        unsaid.map_or(frame.id.0, |(first, _)| first),
                        unsaid.map_or(1, |(_, n)| n + 1),
                    ));
                }
                bar.at(judge.frames);
            }
        }
    };
    bar.finish();
    if let Marker::Predictions(maps, ..) = &marker {
        judge.notes = maps.notes().clone();
    }
    Ok(cut_off.or(unsaid.map(|(first, n)| {
        let (frames, have, were) = if n == 1 { ("frame", "has", "was") } else { ("frames", "have", "were") };
        format!("{n} {frames} of the video {have} no map and {were} not judged (first frame {first})")
    })))
}

#[cfg(not(feature = "video"))]
fn infer(
    video: &Path,
    _: Option<Vec<PathBuf>>,
    _: (u32, u32),
    _: &Args,
    _: &mut Judge,
    _: &AtomicBool,
    _: &Context,
) -> Result<Option<String>> {
    Err(Error::usage(format!("{}: this build reads no video", video.display()))
        .remedy("give --detections or --predictions, or build with the video feature"))
}

fn tell(
    report: &VideoReport,
    judge: &Judge,
    cut_off: Option<&str>,
    args: &Args,
    context: &mut Context,
) -> Result<()> {
    if context.json {
        let mut value = serde_json::to_value(report)
            .map_err(|e| Error::internal("the result cannot be put into JSON").because(e))?;
        value["truth"] = serde_json::json!(judge.truth.describe());
        value["truth_specks"] = serde_json::json!(judge.truth.specks());
        value["truth_notes"] = notes_json(judge.truth.notes());
        value["prediction_notes"] = notes_json(&judge.notes);
        value["partial_reason"] = serde_json::json!(cut_off);
        return context.json(&value);
    }
    context.say_lines(report.text().trim_end())?;
    context.remark(format!("truth: {}", judge.truth.describe()))?;
    if judge.truth.specks() > 0 {
        context.remark(format!(
            "truth: {} regions under {} px are specks, not polyps",
            judge.truth.specks(),
            crate::evaluation::video::SPECK_PX
        ))?;
    }
    for (side, notes) in [("truth", judge.truth.notes()), ("predictions", &judge.notes)] {
        for (kind, count) in notes {
            context.remark(format!("{side}: {count} {}", kind.rule()))?;
        }
    }
    if report.frames.unjudged > 0 {
        tracing::warn!(
            "{} of {} frames have no truth and are not judged",
            report.frames.unjudged,
            judge.frames
        );
    }
    if let Some(why) = cut_off {
        tracing::warn!("not the whole video was judged: {why}");
    }
    if let Some(path) = &args.csv {
        context.remark(format!("every frame's judgement: {}", path.display()))?;
    }
    Ok(())
}

fn notes_json(notes: &BTreeMap<NoteKind, u64>) -> serde_json::Value {
    let all = notes.iter().map(|(kind, count)| serde_json::json!({"rule": kind.rule(), "count": count}));
    serde_json::Value::Array(all.collect())
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use image::{GrayImage, Luma};

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn execute(line: &str) -> (Result<Outcome>, serde_json::Value) {
        let args = Line::try_parse_from(line.split_whitespace()).unwrap().args;
        let mut out = Vec::new();
        let mut context = Context { out: &mut out, quiet: true, json: true, verbose: 0 };
        let outcome = run(&args, &mut context);
        (outcome, serde_json::from_slice(&out).unwrap_or_default())
    }

    #[test]
    fn maps_are_judged_against_boxes() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name).display().to_string();
        std::fs::create_dir(at("maps")).unwrap();
        for frame in 0..3 {
            let map = GrayImage::from_fn(40, 30, |x, y| {
                Luma([if frame > 0 && (10..20).contains(&x) && (5..15).contains(&y) { 230 } else { 0 }])
            });
            map.save(at(&format!("maps/{frame:06}.png"))).unwrap();
        }
        let boxes = r#"{"width":40,"height":30,"frames":[[{"bbox":[8,4,22,16]}],[{"bbox":[8,4,22,16]}],[]]}"#;
        std::fs::write(at("boxes.json"), boxes).unwrap();
        let line = format!(
            "eval-video --predictions {} --truth {} --fps 10 --persistence 1,2 --csv {}",
            at("maps"),
            at("boxes.json"),
            at("frames.csv")
        );
        let (outcome, value) = execute(&line);
        assert_eq!(outcome.unwrap(), Outcome::Done);
        assert_eq!((value["polyps"].as_u64(), value["per_polyp_sensitivity"].as_f64()), (Some(1), Some(1.0)));
        assert_eq!(value["per_frame_sensitivity"].as_f64(), Some(0.5));
        assert_eq!(value["per_frame_specificity"].as_f64(), Some(0.0));
        assert!((value["first_detection_ms"].as_f64().unwrap() - 100.0).abs() < 1e-9);
        assert_eq!(value["persistence"][1]["per_polyp_sensitivity"].as_f64(), Some(0.0));
        assert!(value["rules"][0].as_str().unwrap().contains("centroid"));
        let csv = std::fs::read_to_string(at("frames.csv")).unwrap();
        assert_eq!(
            csv.lines().collect::<Vec<_>>()[1..],
            ["0,0.000,1,0,0,1,", "1,100.000,1,1,0,1,1", "2,200.000,1,1,1,,"]
        );
        assert!(execute(&line).0.unwrap_err().to_string().contains("--force"));

        // More truth than video: partial.
        let more = boxes.replace("[]]}", "[],[]]}");
        std::fs::write(at("boxes.json"), more).unwrap();
        let (outcome, value) = execute(&format!("{line} --force"));
        assert_eq!(outcome.unwrap(), Outcome::Partial);
        assert!(value["partial_reason"].as_str().unwrap().contains("4 frames"));
        // Truth of another size: refused by name.
        std::fs::write(at("boxes.json"), boxes.replace("40", "41")).unwrap();
        assert!(execute(&format!("{line} --force")).0.unwrap_err().to_string().contains("41x30"));
    }

    /// A phantom with one polyp in view all the time: its pictures, the first eight of them white, its truth, and the
    /// truth once more as the maps of some program.
    #[cfg(feature = "video")]
    fn phantom(folder: &Path) {
        use crate::frame::Rate;
        use crate::phantom::{Phantom, Settings, Truth, TruthWriter};

        let settings = Settings { seed: 2, width: 160, height: 128, frames: 40, ..Settings::default() };
        let rate = Rate { numerator: 25, denominator: 1 };
        let settings = Settings { rate, polyps_per_minute: Some(40.0), ..settings };
        for name in ["pictures", "maps"] {
            std::fs::create_dir(folder.join(name)).unwrap();
        }
        let mut writer = TruthWriter::create(&folder.join("truth"), false).unwrap();
        let mut phantom = Phantom::new(settings).unwrap();
        let (mut rgb, mut truth) = (vec![0; 160 * 128 * 3], Truth::new(160, 128));
        for n in 0..40 {
            phantom.render(n, &mut rgb, &mut truth).unwrap();
            writer.write(n, n * 40_000_000, &truth).unwrap();
            if n < 8 {
                rgb.fill(250);
            }
            let at = folder.join("pictures").join(format!("{n:06}.png"));
            image::RgbImage::from_raw(160, 128, rgb.clone()).unwrap().save(at).unwrap();
        }
        writer.finish().unwrap();
        for n in 0..40 {
            let at = |name: &str| folder.join(name).join(format!("{n:06}.png"));
            let mut map = image::open(at("truth")).unwrap().to_luma8();
            map.pixels_mut().for_each(|p| p.0 = [if p.0[0] > 0 { 255 } else { 0 }]);
            map.save(at("maps")).unwrap();
        }
    }

    #[cfg(feature = "video")]
    #[test]
    fn a_video_beside_maps_lends_them_its_motion_and_its_gates() {
        let folder = tempfile::tempdir().unwrap();
        phantom(folder.path());
        let at = |name: &str| folder.path().join(name).display().to_string();
        let alone = format!("eval-video --predictions {} --truth {} --fps 25", at("maps"), at("truth"));
        let beside = format!("{alone} --video {}", at("pictures"));
        let (outcome, without) = execute(&alone);
        assert_eq!(outcome.unwrap(), Outcome::Done);
        let (outcome, with) = execute(&beside);
        assert_eq!(outcome.unwrap(), Outcome::Done);
        // What was predicted is the same; only what a filter makes of it knows the pictures.
        for key in
            ["polyps", "per_polyp_sensitivity", "per_frame_sensitivity", "persistence", "flicker", "frames"]
        {
            assert_eq!(with[key], without[key], "{key}");
        }
        assert_eq!((with["polyps"].as_u64(), with["per_frame_sensitivity"].as_f64()), (Some(1), Some(1.0)));
        assert_eq!(with["confirm"][0], without["confirm"][0], "off");
        let closed = |value: &serde_json::Value| value["gates"]["over_exposed"]["with_polyp"].as_u64();
        assert_eq!((closed(&with), closed(&without)), (Some(8), Some(0)));
        let first = |value: &serde_json::Value, name: &str| {
            let row = value["confirm"].as_array().unwrap().iter().find(|r| r["name"] == name).unwrap();
            row["first_detection_ms"].as_f64().unwrap()
        };
        assert_eq!([&without, &with].map(|v| first(v, "sensitive")), [0.0, 320.0]);
        assert_eq!([&without, &with].map(|v| first(v, "balanced")), [120.0, 440.0]);

        // A frame without a map is not judged, and said.
        std::fs::remove_file(at("maps/000020.png")).unwrap();
        let (outcome, value) = execute(&beside);
        assert_eq!(outcome.unwrap(), Outcome::Partial);
        assert_eq!(value["frames"]["judged"].as_u64(), Some(39));
        assert!(
            value["partial_reason"].as_str().unwrap().contains("1 frame of the video has no map"),
            "{value}"
        );
        // Maps of another size are not those of this video.
        GrayImage::new(80, 64).save(at("maps/000000.png")).unwrap();
        let refused = execute(&beside).0.unwrap_err().to_string();
        assert!(refused.contains("160x128") && refused.contains("80x64"), "{refused}");
    }

    #[test]
    fn sources_exclude_each_other() {
        for wrong in [
            "eval-video --truth t",
            "eval-video --video v --detections d --truth t",
            "eval-video --video v --predictions d --maps m --truth t",
            "eval-video --video v --maps m --keep-maps k --truth t",
            "eval-video --detections d --threshold 0.4 --truth t",
            "eval-video --video v --truth t --hit nearly",
        ] {
            assert!(Line::try_parse_from(wrong.split_whitespace()).is_err(), "{wrong}");
        }
    }
}
