//! `polypscope phantom`: a procedural colonoscopy and its ground truth.

use std::path::PathBuf;

use clap::Args as ClapArgs;

use super::arguments::size;
use super::progress::Progress;
use super::{Context, Outcome};
use crate::capture::{Encoder, EncoderSettings, Next, PhantomSource, Source};
use crate::frame::{Pts, Rate};
use crate::phantom::{Preset, Settings, TruthWriter, View};
use crate::{Error, Result};

/// The same settings give the same pictures on every machine.
#[derive(Debug, ClapArgs)]
pub struct Args {
    /// Video to write (.mp4, .mov or .mkv)
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Folder for the truth: a mask of each frame (0 or polyp id) and truth.jsonl
    #[arg(long, value_name = "DIR")]
    truth: Option<PathBuf>,
    /// Another seed is another colon
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Picture size
    #[arg(long, value_name = "WxH", value_parser = size, default_value = "1280x720")]
    size: (u32, u32),
    /// Frames a second, 30 or 30000/1001
    #[arg(long, value_name = "RATE", default_value = "30")]
    fps: Rate,
    /// Length in seconds
    #[arg(long, value_name = "S", default_value_t = 30.0, conflicts_with = "frames")]
    seconds: f64,
    /// Length in frames
    #[arg(long, value_name = "N")]
    frames: Option<u64>,
    /// How the scope moves: calm to fast
    #[arg(long, default_value_t = Settings::default().preset)]
    preset: Preset,
    /// What surrounds the picture: octagon, processor or full
    #[arg(long, default_value_t = Settings::default().view)]
    view: View,
    /// Polyps met in a minute (0: none)
    #[arg(long, value_name = "N")]
    polyps_per_minute: Option<f64>,
    /// End where it began, to be played in a circle
    #[arg(long = "loop")]
    looped: bool,
    /// Threads that render
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// Replace files that are already there
    #[arg(long)]
    force: bool,
    /// x264's quality, 0 (lossless) to 51; smaller is better and larger
    #[arg(long, value_name = "CRF", default_value_t = 18, value_parser = clap::value_parser!(u32).range(0..=51))]
    encoder_quality: u32,
}

impl Args {
    fn settings(&self) -> Result<Settings> {
        let frames = match self.frames {
            Some(n) => n,
            None if self.seconds > 0.0 && self.seconds <= 1e6 => {
                ((self.seconds * self.fps.as_f64()).round() as u64).max(1)
            }
            None => {
                return Err(
                    Error::usage(format!("{} is not a length", self.seconds)).remedy("give seconds above 0")
                );
            }
        };
        let settings = Settings {
            seed: self.seed,
            width: self.size.0,
            height: self.size.1,
            rate: self.fps,
            frames,
            preset: self.preset,
            view: self.view,
            polyps_per_minute: self.polyps_per_minute,
            looped: self.looped,
            threads: self
                .threads
                .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, |n| n.get())),
        };
        settings.validate()?;
        Ok(settings)
    }
}

pub fn run(args: &Args, context: &mut Context) -> Result<Outcome> {
    let settings = args.settings()?;
    if args.output.is_none() && args.truth.is_none() {
        return Err(Error::usage("nothing to write").remedy("add --output FILE, --truth DIR or both"));
    }
    let encoder_settings = args.output.as_ref().map(|output| EncoderSettings {
        force: args.force,
        quality: args.encoder_quality,
        ..EncoderSettings::new(output)
    });
    if let Some(e) = &encoder_settings {
        e.validate()?;
    }
    let mut truth = args.truth.as_deref().map(|dir| TruthWriter::create(dir, args.force)).transpose()?;
    let mut encoder: Option<Encoder> = None;
    let mut source = PhantomSource::new(settings)?;
    let bar = Progress::new(source.expected_frames(), context.quiet, "phantom");
    let mut with_polyps = 0u64;
    let mut ids = std::collections::BTreeSet::new();
    let mut frames = 0;
    while let Next::Frame(frame) = source.next()? {
        let (id, pts) = (frame.id, frame.pts);
        if let Some(writer) = &mut truth {
            writer.write(id.0, pts.0, source.truth())?;
        }
        with_polyps += u64::from(!source.truth().polyps.is_empty());
        ids.extend(source.truth().polyps.iter().map(|p| p.id));
        if let Some(settings) = &encoder_settings {
            let encoder = match &mut encoder {
                Some(e) => e,
                None => encoder.insert(Encoder::create(settings.clone(), &frame, false, Pts(0))?),
            };
            encoder.frame(frame)?;
        }
        frames = id.0 + 1;
        bar.at(frames);
    }
    if let Some(e) = encoder {
        e.finish()?;
    }
    if let Some(t) = truth {
        t.finish()?;
    }
    bar.finish();
    if context.json {
        context.json(&serde_json::json!({
            "frames": frames, "polyps": ids.len(), "frames_with_polyps": with_polyps,
            "output": args.output, "truth": args.truth,
        }))?;
    } else {
        context.remark(format!("{frames} frames, {} polyps on {with_polyps} of them", ids.len()))?;
    }
    Ok(Outcome::Done)
}
