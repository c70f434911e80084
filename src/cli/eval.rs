//! `polypscope eval`: folders of pictures and masks in, the ten figures out.

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use clap::{Args as ClapArgs, ValueEnum};

use super::arguments::{input_size, threshold};
use super::interrupt::interrupt_flag;
use super::predictor::NetworkPredictor;
use super::progress::Progress;
use super::{Context, EngineArgs, Outcome};
use crate::evaluation::images::{
    CSV_HEADER, Classes, DataSet, DataSetReport, Event, MaskLevels, Options, Predict, Rank, contact_sheet,
    csv_line, json, protocol_line, score, table,
};
use crate::evaluation::metrics::Protocol;
use crate::model::checkpoint::Description;
use crate::preprocess::FieldOfView;
use crate::result_file::{Outputs, ResultFile, write_whole};
use crate::{Error, Result};

/// Predictions come from --predictions, or from the network over --images. Several data sets: repeat the folders, in
/// the same order. Files pair by their name without extension; what does not fit is named and counted.
#[derive(Debug, ClapArgs)]
pub struct Args {
    /// Ground truth: a mask per picture
    #[arg(long, required = true, value_name = "DIR")]
    masks: Vec<PathBuf>,
    /// Probability maps of any program, white = certain; once per --masks
    #[arg(long, value_name = "DIR")]
    predictions: Vec<PathBuf>,
    /// Pictures for the network, or, beside --predictions, for the contact sheet; once per --masks
    #[arg(long, value_name = "DIR")]
    images: Vec<PathBuf>,
    /// Name of a data set in the results (default: its folder's); once per --masks
    #[arg(long, value_name = "NAME")]
    name: Vec<String>,
    /// published: what the M²SNet code computes; thresholded: one fixed threshold for everything
    #[arg(long, value_enum, default_value = "published")]
    protocol: ProtocolName,
    /// Threshold of the thresholded protocol (default: the checkpoint's, or 0.5 for --predictions)
    #[arg(long, value_name = "P", value_parser = threshold)]
    threshold: Option<f64>,
    /// Classes of the masks, each scored against the rest: NAME=VALUE,… or NAME=#RRGGBB,… (default: one class, brighter
    /// than half of the mask's brightest pixel). --predictions then holds a folder of maps per class, or label maps
    #[arg(long, value_name = "LIST")]
    classes: Option<String>,
    /// Ending of the masks' names that the pictures' lack, such as _mask
    #[arg(long, value_name = "TEXT", default_value = "")]
    mask_suffix: String,
    /// Levels of a mask that are polyp, where it has more than two
    #[arg(long, value_enum, default_value = "auto", conflicts_with = "classes")]
    mask_levels: LevelsName,
    /// Value of a prediction that means certain (default: 255; 65535 in 16-bit files, 1 in floating-point ones)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    prediction_max: Option<u16>,
    /// Figures of every picture, as CSV
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
    /// The worst pictures of each data set with both outlines, as PNG
    #[arg(long, value_name = "FILE")]
    sheet: Option<PathBuf>,
    /// How many of the worst
    #[arg(long, value_name = "N", default_value_t = 12, value_parser = clap::value_parser!(u16).range(0..=200))]
    worst: u16,
    /// What makes a picture bad
    #[arg(long, value_enum, default_value = "dice")]
    worst_by: RankName,
    /// Replace results that are already there
    #[arg(long)]
    force: bool,
    /// Side of the network's input, a multiple of 32 (default: the checkpoint's)
    #[arg(long, value_name = "PIXELS", value_parser = input_size, conflicts_with = "predictions")]
    input_size: Option<usize>,
    /// What the network analyses: auto, full, or X,Y,W,H in picture pixels
    #[arg(long, value_name = "VIEW", default_value_t = FieldOfView::Full)]
    field_of_view: FieldOfView,
    #[command(flatten)]
    engine: EngineArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ProtocolName {
    Published,
    Thresholded,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum LevelsName {
    /// Decided for each mask: levels that fill areas are polyps, those between are edges
    Auto,
    /// Everything above black
    Nonzero,
    /// What is brighter than half of the brightest
    Half,
}

impl From<LevelsName> for MaskLevels {
    fn from(name: LevelsName) -> Self {
        match name {
            LevelsName::Auto => Self::Auto,
            LevelsName::Nonzero => Self::Nonzero,
            LevelsName::Half => Self::Half,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum RankName {
    Dice,
    Iou,
    Wfm,
    Sm,
    Mae,
}

impl From<RankName> for Rank {
    fn from(name: RankName) -> Self {
        match name {
            RankName::Dice => Self::Dice,
            RankName::Iou => Self::Iou,
            RankName::Wfm => Self::Wfm,
            RankName::Sm => Self::Sm,
            RankName::Mae => Self::Mae,
        }
    }
}

impl Args {
    fn data_sets(&self) -> Result<Vec<DataSet>> {
        let n = self.masks.len();
        for (flag, given) in [
            ("--predictions", self.predictions.len()),
            ("--images", self.images.len()),
            ("--name", self.name.len()),
        ] {
            if given != 0 && given != n {
                return Err(Error::usage(format!("{flag} is given {given} times, but --masks {n} times"))
                    .remedy("give it once per data set, in the same order"));
            }
        }
        if self.predictions.is_empty() && self.images.is_empty() {
            return Err(Error::usage("neither --predictions nor --images is given")
                .remedy("give maps to score, or pictures for the network"));
        }
        let mut sets: Vec<DataSet> = Vec::with_capacity(n);
        for (i, masks) in self.masks.iter().enumerate() {
            let wanted = self.name.get(i).cloned().unwrap_or_else(|| data_set_name(masks));
            let mut name = wanted.clone();
            let mut number = 2;
            while sets.iter().any(|s| s.name == name) {
                name = format!("{wanted}-{number}");
                number += 1;
            }
            let predictions = self.predictions.get(i).cloned();
            if predictions.as_ref() == Some(masks) {
                return Err(Error::usage(format!("{}: given as masks and as predictions", masks.display()))
                    .remedy("score predictions against masks of another folder"));
            }
            sets.push(DataSet {
                name,
                masks: masks.clone(),
                predictions,
                images: self.images.get(i).cloned(),
            });
        }
        Ok(sets)
    }

    fn options(&self, checkpoint: Option<&Description>) -> Result<Options> {
        let protocol = match (self.protocol, self.threshold) {
            (ProtocolName::Published, None) => Protocol::Published,
            (ProtocolName::Published, Some(_)) => {
                return Err(Error::usage("--threshold has no meaning under --protocol published")
                    .remedy("add --protocol thresholded, or leave it out"));
            }
            (ProtocolName::Thresholded, given) => {
                let threshold = given.or(checkpoint.map(|c| c.threshold)).unwrap_or(0.5);
                Protocol::Thresholded { threshold }
            }
        };
        Ok(Options {
            protocol,
            classes: self.classes.as_deref().map_or(Ok(Classes::one()), Classes::parse)?,
            mask_suffix: self.mask_suffix.clone(),
            prediction_max: self.prediction_max,
            mask_levels: self.mask_levels.into(),
            worst: usize::from(self.worst),
            rank: self.worst_by.into(),
        })
    }
}

/// `kvasir/masks` is called kvasir, `kvasir-masks` by its own name.
fn data_set_name(masks: &Path) -> String {
    const PLAIN: [&str; 9] = [
        "mask",
        "masks",
        "gt",
        "ground truth",
        "groundtruth",
        "ground_truth",
        "label",
        "labels",
        "annotations",
    ];
    let absolute = std::path::absolute(masks).unwrap_or_else(|_| masks.to_owned());
    let name = |p: &Path| p.file_name().map(|n| n.to_string_lossy().into_owned());
    let own = name(&absolute).unwrap_or_else(|| "data".into());
    if PLAIN.contains(&own.to_lowercase().as_str()) {
        absolute.parent().and_then(name).unwrap_or(own)
    } else {
        own
    }
}

pub fn run(args: &Args, context: &mut Context) -> Result<Outcome> {
    let sets = args.data_sets()?;
    // What is wrong with the command is said before the network is built.
    args.options(None)?;
    let mut outputs = Outputs::new(args.force);
    for (option, path) in [("--csv", &args.csv), ("--sheet", &args.sheet)] {
        if let Some(path) = path {
            outputs.file(option, path)?;
        }
    }
    let mut csv = args.csv.as_deref().map(|path| ResultFile::create(path, args.force)).transpose()?;
    if let Some(csv) = &mut csv {
        csv.line(CSV_HEADER)?;
    }
    let stop = interrupt_flag()?;
    let mut network = None;
    let mut checkpoint_name = None;
    let options = if args.predictions.is_empty() {
        let (checkpoint, built) = args.engine.open_at(args.input_size)?;
        let description = checkpoint.description();
        tracing::debug!("{}", built.describe());
        checkpoint_name = Some(format!("{} on {}", description.name, built.describe()));
        let options = args.options(Some(description))?;
        network = Some(NetworkPredictor::new(built, description, args.field_of_view));
        options
    } else {
        args.options(None)?
    };

    let mut reports = Vec::new();
    for set in &sets {
        let mut bar = None;
        let mut done = 0;
        let quiet = context.quiet;
        let report = score(set, &options, network.as_mut().map(|n| n as &mut dyn Predict), &mut |event| {
            match event {
                Event::Paired(total) => bar = Some(Progress::new(Some(total), quiet, &set.name)),
                Event::Scored(row) => {
                    if let Some(csv) = &mut csv {
                        csv.line(&csv_line(&set.name, options.protocol, row))?;
                    }
                }
                Event::LeftOut(problem) => tracing::debug!("{}: left out: {}", set.name, problem.what),
                Event::Done => {
                    done += 1;
                    if let Some(bar) = &bar {
                        bar.at(done);
                    }
                }
            }
            if stop.load(Ordering::Relaxed) {
                return Err(Error::output(format!("{}: interrupted after {done} pictures", set.name))
                    .remedy("nothing was written"));
            }
            Ok(())
        });
        if let Some(bar) = bar {
            bar.finish();
        }
        reports.push(report?);
    }
    if let Some(path) = &args.sheet {
        let sheet = contact_sheet(&reports, &options, network.as_mut().map(|n| n as &mut dyn Predict))?;
        let mut bytes = std::io::Cursor::new(Vec::new());
        sheet
            .write_to(&mut bytes, image::ImageFormat::Png)
            .map_err(|e| Error::output(format!("{}: cannot be written ({e})", path.display())).because(e))?;
        write_whole(path, bytes.get_ref(), args.force)?;
    }
    if let Some(csv) = csv {
        csv.finish()?;
    }
    tell(&reports, &options, checkpoint_name.as_deref(), args, context)?;
    let partial = reports.iter().any(DataSetReport::is_partial);
    Ok(if partial { Outcome::Partial } else { Outcome::Done })
}

fn tell(
    reports: &[DataSetReport],
    options: &Options,
    network: Option<&str>,
    args: &Args,
    context: &mut Context,
) -> Result<()> {
    if context.json {
        let mut value = json(reports);
        if let Some(network) = network {
            value["network"] = serde_json::json!(network);
        }
        return context.json(&value);
    }
    context.say_lines(table(reports).trim_end())?;
    context.remark("")?;
    context.remark(protocol_line(options.protocol))?;
    if let Some(network) = network {
        context.remark(format!("network {network}"))?;
    }
    for report in reports {
        for line in report.remarks(if context.verbose > 0 { usize::MAX } else { 5 }) {
            context.remark(line)?;
        }
        if !report.problems.is_empty() {
            tracing::warn!("{}: {} pictures are left out of the figures", report.name, report.problems.len());
        }
        if report.doubtful {
            tracing::warn!(
                "{}: the predictions' scale is probably another; say --prediction-max",
                report.name
            );
        }
    }
    for (what, path) in [("figures of every picture", &args.csv), ("worst pictures", &args.sheet)] {
        if let Some(path) = path {
            context.remark(format!("{what}: {}", path.display()))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn parse(text: &str) -> Args {
        Line::try_parse_from(text.split_whitespace()).unwrap().args
    }

    #[test]
    fn data_sets_take_their_folders_in_order() {
        let sets = parse("eval --masks a/masks --predictions p --masks b-gt --predictions q --masks c/a/GT --predictions r")
            .data_sets()
            .unwrap();
        assert_eq!(sets.iter().map(|s| s.name.as_str()).collect::<Vec<_>>(), ["a", "b-gt", "a-2"]);
        assert_eq!(sets[1].predictions.as_deref(), Some(Path::new("q")));
        for wrong in [
            "eval --masks a",
            "eval --masks a --masks b --predictions p",
            "eval --masks a --predictions p --images i --images j",
            "eval --masks a --predictions a",
            "eval --masks a --predictions p --name x --name y",
        ] {
            assert_eq!(parse(wrong).data_sets().unwrap_err().exit_code(), 2, "{wrong}");
        }
    }

    #[test]
    fn a_threshold_belongs_to_its_protocol() {
        let options = |text: &str| parse(text).options(None);
        assert!(options("eval --masks a --threshold 0.4").is_err());
        assert_eq!(options("eval --masks a").unwrap().protocol, Protocol::Published);
        let given = options("eval --masks a --protocol thresholded --threshold 0.4").unwrap();
        assert_eq!(given.protocol, Protocol::Thresholded { threshold: 0.4 });
        assert!(options("eval --masks a --classes x").is_err());
    }

    /// Runs a command line; its outcome and what it printed.
    fn execute(line: &str, json: bool) -> (Result<Outcome>, String) {
        let mut out = Vec::new();
        let mut context = Context { out: &mut out, quiet: false, json, verbose: 0 };
        let outcome = run(&parse(line), &mut context);
        (outcome, String::from_utf8(out).unwrap())
    }

    #[test]
    fn a_run_prints_a_table_and_leaves_its_files() {
        use image::{GrayImage, Luma};
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name).display().to_string();
        for side in ["masks", "maps"] {
            std::fs::create_dir(at(side)).unwrap();
            for name in ["a", "b"] {
                let picture = GrayImage::from_fn(16, 16, |x, _| Luma([if x < 8 { 255 } else { 0 }]));
                picture.save(at(&format!("{side}/{name}.png"))).unwrap();
            }
        }
        let (csv, sheet) = (at("out.csv"), at("out.png"));
        let line = format!(
            "eval --masks {} --predictions {} --name two --protocol thresholded --csv {csv} --sheet {sheet}",
            at("masks"),
            at("maps")
        );
        let (outcome, said) = execute(&line, false);
        assert_eq!(outcome.unwrap(), Outcome::Done);
        assert!(said.contains("two") && said.contains("1.0000") && said.contains("thresholded"), "{said}");
        let rows = std::fs::read_to_string(&csv).unwrap();
        assert_eq!(rows.lines().count(), 3);
        assert!(image::open(&sheet).is_ok());
        // A second run would replace them.
        assert!(execute(&line, false).0.unwrap_err().to_string().contains("--force"));
        // A mask without a map: partial, and named.
        std::fs::remove_file(at("maps/b.png")).unwrap();
        let (outcome, said) = execute(&format!("{line} --force"), true);
        assert_eq!(outcome.unwrap(), Outcome::Partial);
        let value: serde_json::Value = serde_json::from_str(&said).unwrap();
        assert_eq!(value["datasets"][0]["count"], 1);
        assert_eq!(value["datasets"][0]["left_out"][0]["name"], "b");
        // What fails leaves nothing behind.
        std::fs::remove_file(at("maps/a.png")).unwrap();
        let before = std::fs::read(&csv).unwrap();
        assert!(execute(&format!("{line} --force"), true).0.is_err());
        assert_eq!(std::fs::read(&csv).unwrap(), before);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 4);
    }
}
