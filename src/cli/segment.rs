//! `polypscope segment`: still pictures in, probability maps and overlays out.

use std::path::{Path, PathBuf};

use clap::Args as ClapArgs;
use serde::Serialize;

use super::arguments::{frame_rate, least_share, opacity, threshold};
use super::progress::Progress;
use super::{Context, EngineArgs, Outcome};
use crate::frame::{FrameId, Gate, Pts, TrackMark};
use crate::overlay::Style;
use crate::preprocess::FieldOfView;
use crate::result_file::{check_folder, check_free, make_folder, write_whole};
use crate::segment::{Segmenter, StillSegmenter};
use crate::still::folder::files;
use crate::still::names::is_picture;
use crate::tracks::{Confirm, SharedFilter};
use crate::{Error, Result};

/// For each picture NAME: NAME.png (probability, 8 bit, the picture's size) and NAME.overlay.png.
#[derive(Debug, ClapArgs)]
pub struct Args {
    /// Pictures, or folders of them
    #[arg(required = true, value_name = "IMAGE|DIR")]
    inputs: Vec<PathBuf>,
    /// Folder for the results
    #[arg(short, long, value_name = "DIR")]
    out: PathBuf,
    /// Replace results that are already there
    #[arg(long)]
    force: bool,
    /// Probability from which on a pixel is marked (default: the checkpoint's)
    #[arg(long, value_name = "P", value_parser = threshold)]
    threshold: Option<f64>,
    /// Opacity of the fill, 0 to 1
    #[arg(long, value_name = "A", value_parser = opacity, default_value_t = Style::default().alpha)]
    alpha: f32,
    /// Take the pictures for successive frames and withhold what does not last: sensitive, balanced or quiet (the
    /// probability maps hold everything all the same)
    #[arg(long, value_name = "SETTING", default_value_t = Confirm::Off)]
    confirm: Confirm,
    /// Frames a second of pictures that are successive frames
    #[arg(long, value_name = "RATE", value_parser = frame_rate, default_value = "25")]
    fps: (u32, u32),
    /// Share of the field of view that a region of successive frames must have to be shown (default: the setting's own)
    #[arg(long, value_name = "SHARE", value_parser = least_share)]
    least_region: Option<f32>,
    /// What to analyse: auto, full, or X,Y,W,H in picture pixels
    #[arg(long, value_name = "VIEW", default_value_t = FieldOfView::Full)]
    field_of_view: FieldOfView,
    #[command(flatten)]
    engine: EngineArgs,
}

/// One picture's result, for `--json`.
#[derive(Debug, Serialize)]
struct Segmented {
    input: PathBuf,
    probability: PathBuf,
    overlay: PathBuf,
    area_px: u64,
    max_probability: f32,
    polyps: usize,
    /// Where the pictures are successive frames.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tracks: Vec<TrackMark>,
    #[serde(skip_serializing_if = "Option::is_none")]
    gate: Option<Gate>,
}

impl Args {
    /// Every picture with the two files it becomes, checked for collisions and for what is there already.
    fn plan(&self) -> Result<Vec<(PathBuf, PathBuf, PathBuf)>> {
        let mut pictures = Vec::new();
        for input in &self.inputs {
            let metadata = std::fs::metadata(input).map_err(|e| Error::read(input, e))?;
            if metadata.is_dir() {
                let found: Vec<_> = files(input)?.into_iter().filter(|f| is_picture(f)).collect();
                if found.is_empty() {
                    return Err(Error::input(format!("{}: holds no pictures", input.display()))
                        .remedy("name a folder of PNG or JPEG files"));
                }
                pictures.extend(found);
            } else {
                pictures.push(input.clone());
            }
        }
        let mut plan: Vec<(PathBuf, PathBuf, PathBuf)> = Vec::with_capacity(pictures.len());
        let mut names = std::collections::HashMap::new();
        for picture in pictures {
            let stem = picture.file_stem().unwrap_or_default().to_owned();
            if let Some(other) = names.insert(stem.clone(), picture.clone()) {
                return Err(Error::usage(format!(
                    "{} and {} would have the same results",
                    other.display(),
                    picture.display()
                ))
                .remedy("segment them into different folders"));
            }
            let named = |suffix: &str| {
                let mut name = stem.clone();
                name.push(suffix);
                self.out.join(name)
            };
            let (probability, overlay) = (named(".png"), named(".overlay.png"));
            for file in [&probability, &overlay] {
                if same(file, &picture) {
                    return Err(Error::usage(format!(
                        "{}: a result would replace the picture itself",
                        picture.display()
                    ))
                    .remedy("choose another --out folder"));
                }
                check_free(file, self.force)?;
            }
            plan.push((picture, probability, overlay));
        }
        Ok(plan)
    }
}

fn same(a: &Path, b: &Path) -> bool {
    matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

pub fn run(args: &Args, context: &mut Context) -> Result<Outcome> {
    let plan = args.plan()?;
    check_folder(&args.out)?;
    make_folder(&args.out)?;
    let (checkpoint, network) = args.engine.open()?;
    let segmenter = Segmenter::new(network, checkpoint.description(), args.field_of_view, args.threshold)
        .with_filter(SharedFilter::new(args.confirm).with_least(args.least_region));
    let style = Style { alpha: args.alpha, status: false, ..Style::default() };
    let mut segmenter = StillSegmenter::new(segmenter, style);
    let bar = Progress::new(Some(plan.len() as u64), context.quiet, "segment");
    let mut results = Vec::new();
    let mut failures = Vec::new();
    for (n, (picture, probability, drawn)) in plan.iter().enumerate() {
        let at = (args.confirm != Confirm::Off).then(|| {
            let ns = n as u128 * 1_000_000_000 * u128::from(args.fps.1) / u128::from(args.fps.0);
            (FrameId(n as u64), Pts(ns as u64))
        });
        let one = segmenter.run(picture, at).and_then(|still| {
            save(probability, args.force, |f| still.probability.write_to(f, image::ImageFormat::Png))?;
            save(drawn, args.force, |f| still.marked.write_to(f, image::ImageFormat::Png))?;
            Ok(still.mask)
        });
        match one {
            Ok(mask) => results.push(Segmented {
                input: picture.clone(),
                probability: probability.clone(),
                overlay: drawn.clone(),
                area_px: mask.area_px,
                max_probability: mask.max_probability,
                polyps: mask.polyps.len(),
                tracks: mask.tracks,
                gate: mask.gate,
            }),
            // One unreadable picture does not cost the others; a disk that is full does.
            Err(e) if e.kind() == crate::Kind::Input && plan.len() > 1 => failures.push(e),
            Err(e) => return Err(e),
        }
        bar.at(n as u64 + 1);
    }
    bar.finish();
    if context.json {
        context.json(&results)?;
    } else {
        let marked = results.iter().filter(|r| r.area_px > 0).count();
        context.remark(format!(
            "{} picture{} segmented, {marked} with polyps{}: {}",
            results.len(),
            if results.len() == 1 { "" } else { "s" },
            if failures.is_empty() { String::new() } else { format!(", {} not read", failures.len()) },
            args.out.display()
        ))?;
    }
    for e in &failures {
        tracing::warn!("{e}");
    }
    Ok(match (results.is_empty(), failures.is_empty()) {
        (true, false) => {
            return Err(Error::input(format!(
                "none of {} pictures could be read: {}",
                plan.len(),
                failures[0]
            )));
        }
        (_, false) => Outcome::Partial,
        _ => Outcome::Done,
    })
}

/// Writes a picture as PNG.
fn save(
    path: &Path,
    force: bool,
    write: impl FnOnce(&mut std::io::Cursor<Vec<u8>>) -> image::ImageResult<()>,
) -> Result<()> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    write(&mut bytes)
        .map_err(|e| Error::output(format!("{}: cannot be written ({e})", path.display())).because(e))?;
    write_whole(path, bytes.get_ref(), force)
}
