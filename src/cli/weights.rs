//! `polypscope weights`: what a checkpoint holds, other forms of it, and whether it is sound.
//!
//! In: a checkpoint file. Out: a report on `out`; for `convert` a safetensors file and its description.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::builder::{PossibleValuesParser, TypedValueParser};
use serde::Serialize;

use super::progress::Progress;
use crate::frame::{Picture, PictureInfo, PixelFormat};
use crate::model::checkpoint::{Checkpoint, Described, Description, Deviation, Form, read_expected};
use crate::model::{Parameter, parameters};
use crate::preprocess::{FieldOfView, Preprocessor};
use crate::result_file::Outputs;
use crate::segment::quantisation::{self, Quantised};
use crate::shown::{Lines, OneLine};
use crate::still::{folder::files, load_rgb, names::is_picture};
use crate::{Error, Result};

/// Inspect, convert and verify checkpoints.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Show form, size, description and parameters (every tensor with -v).
    Inspect {
        /// Checkpoint: .pth of PyTorch, or safetensors in f32, f16, bf16 or the compact form.
        file: PathBuf,
    },
    /// Write a checkpoint in another form, with its description beside it.
    Convert {
        /// Checkpoint to read.
        file: PathBuf,
        /// How to store the convolution kernels; everything else is f32. compact: I8, one scale per output channel.
        #[arg(long, value_name = "FORM", value_parser = forms())]
        to: Form,
        /// File to write; its description takes the same name in .json.
        #[arg(long, short, value_name = "FILE")]
        output: PathBuf,
        /// Description to use instead of the one beside or inside the checkpoint.
        #[arg(long, value_name = "JSON")]
        description: Option<PathBuf>,
        /// Overwrite.
        #[arg(long)]
        force: bool,
    },
    /// Find out how large the activations are on pictures, so that the network can run in 8-bit integers, and write
    /// that into the checkpoint's description.
    Quantise {
        /// Checkpoint to read.
        file: PathBuf,
        /// Folder of pictures such as the network will see: half of them are calibrated on, half are held out to judge.
        #[arg(long, value_name = "DIR")]
        calibrate: PathBuf,
        /// Pictures taken of the folder at most, evenly spread.
        #[arg(long, value_name = "N", default_value_t = 96, value_parser = clap::value_parser!(u32).range(2..=100_000))]
        frames: u32,
        /// File to write, kernels in the compact form; its description takes the same name in .json.
        #[arg(long, short, value_name = "FILE")]
        output: PathBuf,
        /// Overwrite.
        #[arg(long)]
        force: bool,
    },
    /// Check keys, shapes, values and SHA-256; with --expected also what the network answers.
    Verify {
        /// Checkpoint to check.
        file: PathBuf,
        /// Frames with known logits: NAME.rgb, NAME.output1 and NAME.logits in a safetensors file.
        #[arg(long, value_name = "FILE")]
        expected: Option<PathBuf>,
    },
}

fn forms() -> impl TypedValueParser<Value = Form> {
    PossibleValuesParser::new([Form::Compact, Form::F16, Form::Bf16, Form::F32].map(Form::name))
        .try_map(|name| name.parse::<Form>())
}

/// Runs the command. `verbose` lists every tensor.
///
/// # Errors
/// Whatever is wrong with the checkpoint; for `verify --expected` also pixels that changed sides.
pub fn run(args: &Args, json: bool, verbose: bool, out: &mut dyn Write) -> Result<()> {
    match &args.command {
        Command::Inspect { file } => inspect(file, json, verbose, out),
        Command::Convert { file, to, output, description, force } => {
            convert(file, *to, output, description.as_deref(), *force, json, out)
        }
        Command::Quantise { file, calibrate, frames, output, force } => {
            quantise(file, calibrate, *frames as usize, output, *force, json, verbose, out)
        }
        Command::Verify { file, expected } => verify(file, expected.as_deref(), json, out),
    }
}

#[derive(Serialize)]
struct Inspection<'a> {
    file: &'a Path,
    form: Form,
    file_bytes: u64,
    sha256: &'a str,
    described: Option<Described>,
    description: &'a Description,
    parameters: usize,
    /// What stood in front of every key and was taken off; empty for none.
    prefix: &'a str,
    /// The dict of a PyTorch file they lie in; empty for the file itself.
    container: &'a str,
    unused: &'a [String],
    tensors: Vec<TensorLine<'a>>,
}

#[derive(Serialize)]
struct TensorLine<'a> {
    key: &'a str,
    dtype: &'static str,
    shape: &'a [usize],
}

fn inspect(file: &Path, json: bool, verbose: bool, out: &mut dyn Write) -> Result<()> {
    let checkpoint = Checkpoint::open(file)?;
    let list = parameters(checkpoint.architecture());
    let tensors: Vec<TensorLine> = list
        .iter()
        .map(|p| Ok(TensorLine { key: &p.key, dtype: checkpoint.stored_as(&p.key)?, shape: &p.shape }))
        .collect::<Result<_>>()?;
    let count = elements(&list);
    if json {
        let inspection = Inspection {
            file,
            form: checkpoint.form(),
            file_bytes: checkpoint.file_bytes().unwrap_or(0),
            sha256: checkpoint.sha256().unwrap_or_default(),
            described: checkpoint.described(),
            description: checkpoint.description(),
            parameters: count,
            prefix: checkpoint.prefix(),
            container: checkpoint.container(),
            unused: checkpoint.strangers(),
            tensors,
        };
        return write_json(out, &inspection);
    }
    let text = report(&checkpoint, file, count, list.len());
    write_text(out, &text)?;
    if verbose {
        let width = tensors.iter().map(|t| t.key.len()).max().unwrap_or(0);
        let lines: String =
            tensors.iter().map(|t| format!("  {:width$}  {:4}  {:?}\n", t.key, t.dtype, t.shape)).collect();
        write_text(out, &lines)?;
    }
    Ok(())
}

/// The report of `inspect`, one line a fact.
fn report(checkpoint: &Checkpoint, file: &Path, count: usize, tensors: usize) -> String {
    let d = checkpoint.description();
    let mut lines = vec![OneLine(file.display()).to_string()];
    let mut line = |name: &str, value: String| lines.push(format!("  {name:<12}{}", OneLine(value)));
    line("name", d.name.clone());
    line("form", in_words(checkpoint.form()).to_owned());
    line("size", megabytes(checkpoint.file_bytes().unwrap_or(0)));
    line("sha256", checkpoint.sha256().unwrap_or_default().to_owned());
    line("network", format!("{}, {} class{}", d.network, d.classes, if d.classes == 1 { "" } else { "es" }));
    line("parameters", format!("{} in {tensors} tensors", thousands(count)));
    if !checkpoint.container().is_empty() {
        line("found in", checkpoint.container().to_owned());
    }
    if !checkpoint.prefix().is_empty() {
        line("prefix", format!("{} (taken off the keys)", checkpoint.prefix()));
    }
    line("described", whence(checkpoint.described()).to_owned());
    line("input", format!("{}x{} {}, {}", d.input_size[1], d.input_size[0], d.colour, d.resize));
    line("normalised", format!("minus {:?}, over {:?} (of values from 0 to 1)", d.mean, d.std));
    line("threshold", d.threshold.to_string());
    if let Some(steps) = d.trained_steps {
        line("trained", format!("{steps} steps"));
    }
    for (name, figures) in [("measured", &d.thresholded), ("held out", &d.heldout)] {
        for (set, f) in figures {
            line(name, format!("{set}: mDice {:.4}, mIoU {:.4} over {} frames", f.m_dice, f.m_iou, f.count));
        }
    }
    for (side, figures) in &d.by_input_size {
        let each: Vec<String> = figures.iter().map(|(p, f)| format!("{p} {:.4}", f.m_dice)).collect();
        line("mean Dice", format!("{side}x{side} input: {}", each.join(", ")));
    }
    for (name, text) in [("provenance", &d.provenance), ("terms", &d.terms)] {
        line(name, text.clone().unwrap_or_else(|| "not stated".to_owned()));
    }
    if let [first, ..] = checkpoint.strangers() {
        line(
            "unused",
            format!(
                "{} tensor(s) that the network does not have, such as {first}",
                checkpoint.strangers().len()
            ),
        );
    }
    lines.push(String::new());
    lines.join("\n")
}

#[derive(Serialize)]
struct Conversion<'a> {
    input: &'a Path,
    output: &'a Path,
    description: PathBuf,
    form: Form,
    file_bytes: u64,
    sha256: String,
}

fn convert(
    file: &Path,
    to: Form,
    output: &Path,
    description: Option<&Path>,
    force: bool,
    json: bool,
    out: &mut dyn Write,
) -> Result<()> {
    let checkpoint = match description {
        Some(path) => Checkpoint::open_as(file, Description::read(path)?)?,
        None => Checkpoint::open(file)?,
    };
    let sha256 = checkpoint.save(output, to, force)?;
    // What was written is what will be read.
    let written = Checkpoint::open(output)?;
    let file_bytes = written.file_bytes().unwrap_or(0);
    let beside = Description::path_beside(output);
    if json {
        let conversion =
            Conversion { input: file, output, description: beside, form: written.form(), file_bytes, sha256 };
        return write_json(out, &conversion);
    }
    write_text(
        out,
        &format!(
            "{}: {}, {}, SHA-256 {sha256}; description in {}\n",
            OneLine(output.display()),
            in_words(written.form()),
            megabytes(file_bytes),
            OneLine(beside.display())
        ),
    )
}

#[derive(Serialize)]
struct Quantisation<'a> {
    input: &'a Path,
    output: &'a Path,
    sha256: String,
    #[serde(flatten)]
    quantised: &'a Quantised,
}

fn quantise(
    file: &Path,
    folder: &Path,
    frames: usize,
    output: &Path,
    force: bool,
    json: bool,
    verbose: bool,
    out: &mut dyn Write,
) -> Result<()> {
    let mut outputs = Outputs::new(force);
    outputs.reads(file).reads(folder).file("--output", output)?;
    outputs.file("--output", &Description::path_beside(output))?;
    let checkpoint = Checkpoint::open(file)?;
    let inputs = pictures(&checkpoint, folder, frames)?;
    let bar = Progress::new(None, json, "calibrating");
    let quantised = quantisation::quantise(&checkpoint, &inputs, &mut |what| bar.say(what))?;
    bar.finish();
    let description = checkpoint.description().clone().with_activations(quantised.activations.clone());
    let sha256 = checkpoint.with_description(description)?.save(output, Form::Compact, force)?;
    if json {
        return write_json(out, &Quantisation { input: file, output, sha256, quantised: &quantised });
    }
    let in_f32 = quantised.maps.iter().filter(|m| m.f32).count();
    let mut text = format!(
        "{}: {} maps in 8-bit integers, {in_f32} put back into f32; calibrated on {} pictures; on {} held out the masks have a pooled IoU of {:.4} with those in f32; SHA-256 {sha256}\n",
        OneLine(output.display()),
        quantised.activations.len(),
        quantised.calibrated_on,
        quantised.held_out,
        quantised.pooled_iou
    );
    if verbose {
        for m in &quantised.maps {
            let kept = if m.f32 { "f32" } else { "i8" };
            text += &format!(
                "  {:<40} largest {:>10.3}, kept {:>10.3}, {:>5.1} dB, {kept}\n",
                m.name, m.largest, m.clip, m.sqnr_db
            );
        }
    }
    write_text(out, &text)
}

/// The network's inputs of a folder's pictures, at most so many, evenly spread over it.
fn pictures(checkpoint: &Checkpoint, folder: &Path, most: usize) -> Result<Vec<Vec<f32>>> {
    let files: Vec<PathBuf> = files(folder)?.into_iter().filter(|p| is_picture(p)).collect();
    let [height, width] = checkpoint.description().input_size;
    let mut preprocessor = Preprocessor::new(checkpoint.description(), height, width, FieldOfView::Auto);
    let step = files.len().div_ceil(most).max(1);
    let mut inputs = Vec::new();
    for path in files.iter().step_by(step) {
        let image = load_rgb(path)?;
        let (w, h) = image.dimensions();
        let picture = Picture::packed(PictureInfo::new(PixelFormat::Rgb, w, h), image.as_raw())
            .ok_or_else(|| Error::input(format!("{}: is an empty picture", OneLine(path.display()))))?;
        let mut input = vec![0.0; 3 * height * width];
        // The pictures have nothing to do with each other.
        preprocessor.restart();
        preprocessor.run(&picture, &mut input)?;
        inputs.push(input);
    }
    if inputs.len() < 2 {
        return Err(Error::input(format!("{}: holds {} pictures", OneLine(folder.display()), inputs.len()))
            .remedy("name a folder with at least two, better a hundred"));
    }
    Ok(inputs)
}

#[derive(Serialize)]
struct Verification<'a> {
    file: &'a Path,
    form: Form,
    sha256: &'a str,
    sha256_compared: bool,
    tensors: usize,
    parameters: usize,
    unused: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    expected: Option<Answers<'a>>,
    sound: bool,
}

#[derive(Serialize)]
struct Answers<'a> {
    file: &'a Path,
    max_deviation: f64,
    flipped_px: u64,
    frames: Vec<Deviation>,
}

fn verify(file: &Path, expected: Option<&Path>, json: bool, out: &mut dyn Write) -> Result<()> {
    let checkpoint = Checkpoint::open(file)?;
    let list = parameters(checkpoint.architecture());
    let answers = match expected {
        Some(path) => {
            let frames = read_expected(path)?;
            let frames = checkpoint.deviations(&frames).map_err(|e| e.at(path.display()))?;
            Some(Answers {
                file: path,
                max_deviation: frames.iter().fold(0.0, |m, d| m.max(d.max)),
                flipped_px: frames.iter().map(|d| d.flipped_px).sum(),
                frames,
            })
        }
        None => None,
    };
    let flipped = answers.as_ref().map_or(0, |a| a.flipped_px);
    let verification = Verification {
        file,
        form: checkpoint.form(),
        sha256: checkpoint.sha256().unwrap_or_default(),
        sha256_compared: checkpoint.described() == Some(Described::BesideAndMatching),
        tensors: list.len(),
        parameters: elements(&list),
        unused: checkpoint.strangers(),
        expected: answers,
        sound: flipped == 0,
    };
    if json {
        write_json(out, &verification)?;
    } else {
        write_text(out, &verdict(&verification, checkpoint.description()))?;
    }
    match flipped {
        0 => Ok(()),
        n => Err(Error::input(format!(
            "{}: {n} pixel(s) of the expected frames are on the other side of the threshold",
            file.display()
        ))
        .remedy("use a more exact form (f16, f32), or expected values of this very checkpoint")),
    }
}

fn verdict(v: &Verification, description: &Description) -> String {
    let mut text = format!(
        "{}: {} tensors of {}, {} parameters, shapes right, every value finite\n",
        OneLine(v.file.display()),
        v.tensors,
        description.network,
        thousands(v.parameters)
    );
    text += &match v.sha256_compared {
        true => format!("SHA-256 {} as its description says\n", v.sha256),
        false => format!("SHA-256 {} (no description to compare it with)\n", v.sha256),
    };
    if let [first, ..] = v.unused {
        text += &format!(
            "{} tensor(s) that the network does not have, such as {}\n",
            v.unused.len(),
            OneLine(first)
        );
    }
    if let Some(answers) = &v.expected {
        for d in &answers.frames {
            text += &format!(
                "{}: off by at most {:.2e} of the map's largest value ({:.2e} rms), {} of {} pixels flipped\n",
                OneLine(&d.frame),
                d.max,
                d.rms,
                d.flipped_px,
                d.compared_px
            );
        }
    }
    text
}

fn elements(list: &[Parameter]) -> usize {
    list.iter().map(|p| p.shape.iter().product::<usize>()).sum()
}

fn in_words(form: Form) -> &'static str {
    match form {
        Form::Pth => "pth (PyTorch)",
        Form::F32 => "f32 safetensors",
        Form::F16 => "f16 safetensors",
        Form::Bf16 => "bf16 safetensors",
        Form::Compact => "compact safetensors (I8 kernels)",
    }
}

fn whence(described: Option<Described>) -> &'static str {
    match described {
        Some(Described::BesideAndMatching) => "by the .json beside it, whose SHA-256 matches",
        Some(Described::Beside) => "by the .json beside it, which gives no SHA-256",
        Some(Described::Inside) => "inside the file",
        Some(Described::ByCaller) => "by the file given",
        Some(Described::Assumed) | None => "nowhere; the published network's ways are assumed",
    }
}

fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}

/// 27694017 as 27,694,017.
fn thousands(n: usize) -> String {
    let digits = n.to_string();
    let mut grouped = String::new();
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(c);
    }
    grouped
}

/// A reader that has gone away (`| head`) is no failure.
fn write_text(out: &mut dyn Write, text: &str) -> Result<()> {
    match write!(out, "{}", Lines(text)) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Error::write(Path::new("standard output"), e))
        }
        _ => Ok(()),
    }
}

/// Not changed: programs read it.
fn write_exactly(out: &mut dyn Write, text: &str) -> Result<()> {
    match out.write_all(text.as_bytes()) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Error::write(Path::new("standard output"), e))
        }
        _ => Ok(()),
    }
}

fn write_json(out: &mut dyn Write, value: &impl Serialize) -> Result<()> {
    let mut text = serde_json::to_string_pretty(value)
        .map_err(|e| Error::internal(format!("the report cannot be written as JSON ({e})")).because(e))?;
    text.push('\n');
    write_exactly(out, &text)
}
