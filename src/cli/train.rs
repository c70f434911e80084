//! `polypscope train`: data sets in, a checkpoint with its description, card, logs and page out.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args as ClapArgs, ValueEnum};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use sha2::{Digest, Sha256};

use super::eval::LevelsName;
use super::interrupt::interrupt_flag;
use super::predictor::NetworkPredictor;
use super::training_device::card;
use super::{Context, Outcome};
use crate::engine::{self, DeviceChoice, Options, Precision};
use crate::evaluation::images::{Classes, Predict};
use crate::hexadecimal::hexadecimal;
use crate::model::checkpoint::{Description, Form};
use crate::model::{Architecture, Checkpoint, Variant};
use crate::preprocess::FieldOfView;
use crate::result_file::write_whole;
use crate::telemetry::Machine;
use crate::training::augment::{Augmentation, Phantoms, Strength};
use crate::training::data::check::{Report, check};
use crate::training::data::item::{Item, Set};
use crate::training::data::open::{Source, negatives, open};
use crate::training::data::read::{Masks, read};
use crate::training::data::split::{Grouping, fold, shared};
use crate::training::loader::{Draws, Recipe};
use crate::training::loss::{Vgg, Weighting};
use crate::training::network::{fresh, parameters_of};
use crate::training::optimiser::{Rule, Schedule, Shape};
use crate::training::parameters::Parameters;
use crate::training::run::judge::Verdict;
use crate::training::run::session::{End, Event, Session, state_of};
use crate::training::run::settings::{Length, Settings};
use crate::training::run::sheet::sheet;
use crate::training::run::state;
use crate::training::run::trainer::Trainer;
use crate::{Error, Result, memory};

/// Bytes that a step holds for each pixel of its batch, and for the parameters, at most: measured.
const BYTES_PER_PIXEL: u64 = 4500;
const BYTES_OF_PARAMETERS: u64 = 700 << 20;

/// DATA: a folder with images/ and masks/ (or image/ and mask/), a COCO json, or a text list of pairs; PATH=WEIGHT
/// draws its pictures WEIGHT times as often. Trains on the processor, in f32.
#[derive(Debug, ClapArgs)]
pub struct Args {
    /// Training data
    #[arg(required = true, value_name = "DATA")]
    data: Vec<Source>,
    /// Folder for the results; new or empty
    #[arg(long, value_name = "DIR", required_unless_present_any = ["check", "sheet"])]
    out: Option<PathBuf>,
    /// Pictures without anything to find (an empty mask says the same)
    #[arg(long, value_name = "DIR")]
    negatives: Vec<Source>,
    /// Validation data
    #[arg(long, value_name = "DATA", conflicts_with = "folds")]
    val: Vec<Source>,
    /// Validation pictures without anything to find
    #[arg(long, value_name = "DIR", conflicts_with = "folds")]
    val_negatives: Vec<Source>,
    /// Train N networks, each validated on another N-th of the data
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(2..=100))]
    folds: Option<u16>,
    /// Only this one of the folds, from 1
    #[arg(long, value_name = "K", requires = "folds")]
    fold: Option<u16>,
    /// What belongs together, such as a patient: none, folder, or a regular expression over the path
    #[arg(long, value_name = "RULE", default_value = "none")]
    group: Grouping,
    /// Look at the data and say what is wrong with them; nothing is trained
    #[arg(long)]
    check: bool,
    /// Write a picture of what the network would see; nothing is trained
    #[arg(long, value_name = "PNG")]
    sheet: Option<PathBuf>,

    /// Checkpoint to start from, or `none` (default: the shipped one)
    #[arg(long, value_name = "FILE", help_heading = "Network")]
    init: Option<PathBuf>,
    /// m2snet or msnet, with --init none
    #[arg(long, value_name = "NAME", help_heading = "Network")]
    network: Option<Variant>,
    /// Go on with the run in --out, exactly
    #[arg(long, conflicts_with = "init", help_heading = "Network")]
    resume: bool,
    /// Classes of the masks, NAME=VALUE,… or NAME=#RRGGBB,… (default: one, or a COCO file's categories)
    #[arg(long, value_name = "LIST", help_heading = "Network")]
    classes: Option<String>,
    /// Levels of a mask that are inside, where it has more than two
    #[arg(long, value_enum, default_value = "auto", help_heading = "Network")]
    mask_levels: LevelsName,
    /// Name of the result (default: the folder's)
    #[arg(long, value_name = "NAME", help_heading = "Network")]
    name: Option<String>,
    /// Terms of the data and the result, for the card
    #[arg(long, value_name = "TEXT", help_heading = "Network")]
    terms: Option<String>,
    /// How results store their kernels: compact, f16, bf16 or f32
    #[arg(long, value_name = "FORM", default_value = "f32", value_parser = forms(), help_heading = "Network")]
    form: Form,

    /// fine-tune, or as the paper (default: by --init)
    #[arg(long, value_enum, help_heading = "Training")]
    recipe: Option<RecipeName>,
    /// Times as many pictures as there are
    #[arg(long, value_name = "N", conflicts_with = "minutes", help_heading = "Training")]
    epochs: Option<u64>,
    /// Minutes of training; validation comes on top
    #[arg(long, value_name = "M", help_heading = "Training")]
    minutes: Option<f64>,
    /// Pictures of a step
    #[arg(long, value_name = "N", help_heading = "Training")]
    batch: Option<usize>,
    /// Input sizes, one drawn for each step
    #[arg(long, value_delimiter = ',', value_name = "PIXELS", help_heading = "Training")]
    sizes: Option<Vec<usize>>,
    /// sgd (momentum 0.9, Nesterov) or adamw
    #[arg(long, value_enum, help_heading = "Training")]
    optimiser: Option<OptimiserName>,
    /// Largest learning rate
    #[arg(long, value_name = "RATE", help_heading = "Training")]
    rate: Option<f64>,
    /// The backbone's rate as a share of it
    #[arg(long, value_name = "SHARE", help_heading = "Training")]
    backbone_rate: Option<f64>,
    /// Weight decay
    #[arg(long, value_name = "DECAY", help_heading = "Training")]
    decay: Option<f64>,
    /// How the rate goes over the run
    #[arg(long, value_enum, help_heading = "Training")]
    schedule: Option<ShapeName>,
    /// Steps in which the rate rises
    #[arg(long, value_name = "STEPS", help_heading = "Training")]
    warm_up: Option<u64>,
    /// Largest norm of a step's gradients; 0 for none
    #[arg(long, value_name = "NORM", help_heading = "Training")]
    clip: Option<f64>,
    /// The result is a running mean of the parameters that keeps this share; 0 for none
    #[arg(long, value_name = "SHARE", help_heading = "Training")]
    average: Option<f64>,
    /// What is not trained
    #[arg(long, value_enum, help_heading = "Training")]
    freeze: Option<Frozen>,
    /// Share of the run, at its end, that trains with the norms' running statistics, as the network will be used
    #[arg(long, value_name = "SHARE", help_heading = "Training")]
    settle: Option<f64>,
    /// Epochs without a better one after which the run ends
    #[arg(long, value_name = "N", help_heading = "Training")]
    patience: Option<u64>,
    /// Weights of pixels in the cross-entropy: published (none) or per-pixel
    #[arg(long, value_enum, help_heading = "Training")]
    pixel_weights: Option<WeightingName>,
    /// Weight of a penalty on the loudest pixels of healthy pictures
    #[arg(long, value_name = "WEIGHT", help_heading = "Training")]
    silence: Option<f64>,
    /// VGG-16 in torchvision's key layout, for LossNet: .pth or safetensors
    #[arg(long, value_name = "FILE", help_heading = "Training")]
    lossnet: Option<PathBuf>,
    /// Weight of LossNet (0.1)
    #[arg(long, value_name = "WEIGHT", requires = "lossnet", help_heading = "Training")]
    lossnet_weight: Option<f64>,
    /// How pictures are changed: none, published (flips, ±10°) or full
    #[arg(long, value_enum, help_heading = "Training")]
    augment: Option<StrengthName>,
    /// Share of healthy pictures onto which a phantom polyp is pasted
    #[arg(long, value_name = "SHARE", help_heading = "Training")]
    phantoms: Option<f64>,
    /// The same seed gives the same network
    #[arg(long, value_name = "N", help_heading = "Training")]
    seed: Option<u64>,

    /// auto, cpu or cuda:N (cuda: NVIDIA GPU with cuDNN 9; convolutions in TF32)
    #[arg(long, default_value_t = DeviceChoice::Auto, help_heading = "Machine")]
    device: DeviceChoice,
    /// auto or f32
    #[arg(long, default_value_t = Precision::Auto, help_heading = "Machine")]
    precision: Precision,
    /// Threads that calculate (default: all cores)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024), help_heading = "Machine")]
    threads: Option<u16>,
    /// Threads that decode and change pictures
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=256), help_heading = "Machine")]
    loaders: u16,
    /// Replace the results in --out
    #[arg(long, conflicts_with = "resume")]
    force: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum RecipeName {
    /// AdamW, a cosine, weights per pixel, batches of 8: for a network that has learnt
    FineTune,
    /// SGD with Nesterov, the triangular schedule, batches of 16, as the paper
    Published,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum OptimiserName {
    Sgd,
    Adamw,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ShapeName {
    Triangular,
    Cosine,
    Constant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Frozen {
    Backbone,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum WeightingName {
    Published,
    PerPixel,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum StrengthName {
    None,
    Published,
    Full,
}

fn forms() -> impl TypedValueParser<Value = Form> {
    PossibleValuesParser::new([Form::Compact, Form::F16, Form::Bf16, Form::F32].map(Form::name))
        .try_map(|name| name.parse::<Form>())
}

impl Args {
    fn starts_with_nothing(&self) -> bool {
        self.init.as_deref() == Some(Path::new("none"))
    }

    /// Settings of a new run.
    fn settings(&self) -> Result<Settings> {
        let published = Settings::published();
        let recipe = self.recipe.unwrap_or(match self.starts_with_nothing() {
            true => RecipeName::Published,
            false => RecipeName::FineTune,
        });
        let mut s = match recipe {
            RecipeName::Published => published,
            RecipeName::FineTune => Settings {
                length: Length::Epochs(20),
                batch: 8,
                sizes: vec![256, 288, 320, 352],
                rule: Rule::ADAMW,
                rate: 2e-4,
                backbone: 0.5,
                schedule: Schedule { shape: Shape::Cosine, warm_up: 50 },
                clip: Some(1.0),
                weighting: Weighting::PerPixel,
                ..published
            },
        };
        if let Some(n) = self.epochs {
            s.length = Length::Epochs(n);
        }
        if let Some(m) = self.minutes {
            s.length = Length::Minutes(m);
        }
        if let Some(name) = self.optimiser {
            s.rule = match name {
                OptimiserName::Sgd => Rule::PUBLISHED,
                OptimiserName::Adamw => Rule::ADAMW,
            };
        }
        if let Some(decay) = self.decay {
            match &mut s.rule {
                Rule::Sgd { decay: d, .. } | Rule::AdamW { decay: d, .. } => *d = decay,
            }
        }
        if let Some(shape) = self.schedule {
            s.schedule.shape = match shape {
                ShapeName::Triangular => Shape::Triangular,
                ShapeName::Cosine => Shape::Cosine,
                ShapeName::Constant => Shape::Constant,
            };
        }
        let zero = |v: f64| (v != 0.0).then_some(v);
        s.schedule.warm_up = self.warm_up.unwrap_or(s.schedule.warm_up);
        s.batch = self.batch.unwrap_or(s.batch);
        s.sizes = self.sizes.clone().unwrap_or(s.sizes);
        s.rate = self.rate.unwrap_or(s.rate);
        s.backbone = self.backbone_rate.unwrap_or(s.backbone);
        s.clip = self.clip.map_or(s.clip, zero);
        s.average = self.average.map_or(s.average, zero);
        s.freeze_backbone = self.freeze.is_some();
        s.settle = self.settle.unwrap_or(s.settle);
        s.patience = self.patience;
        s.silence = self.silence.unwrap_or(s.silence);
        s.phantoms = self.phantoms.unwrap_or(s.phantoms);
        s.seed = self.seed.unwrap_or(s.seed);
        s.lossnet = self.lossnet.is_some().then_some(self.lossnet_weight.unwrap_or(0.1));
        if let Some(weights) = self.pixel_weights {
            s.weighting = match weights {
                WeightingName::Published => Weighting::Published,
                WeightingName::PerPixel => Weighting::PerPixel,
            };
        }
        if let Some(strength) = self.augment {
            s.strength = match strength {
                StrengthName::None => Strength::None,
                StrengthName::Published => Strength::Published,
                StrengthName::Full => Strength::Full,
            };
        }
        s.check()?;
        Ok(s)
    }

    /// Settings of a run that goes on: its own, but for how long it is to be.
    fn settings_again(&self, saved: &Settings) -> Result<Settings> {
        let fixed = [
            ("--recipe", self.recipe.is_some()),
            ("--batch", self.batch.is_some()),
            ("--sizes", self.sizes.is_some()),
            ("--optimiser", self.optimiser.is_some()),
            ("--rate", self.rate.is_some()),
            ("--backbone-rate", self.backbone_rate.is_some()),
            ("--decay", self.decay.is_some()),
            ("--schedule", self.schedule.is_some()),
            ("--warm-up", self.warm_up.is_some()),
            ("--clip", self.clip.is_some()),
            ("--average", self.average.is_some()),
            ("--freeze", self.freeze.is_some()),
            ("--settle", self.settle.is_some()),
            ("--pixel-weights", self.pixel_weights.is_some()),
            ("--silence", self.silence.is_some()),
            ("--lossnet-weight", self.lossnet_weight.is_some()),
            ("--augment", self.augment.is_some()),
            ("--phantoms", self.phantoms.is_some()),
            ("--seed", self.seed.is_some()),
            ("--network", self.network.is_some()),
        ];
        if let Some((name, _)) = fixed.iter().find(|(_, given)| *given) {
            return Err(Error::usage(format!("{name}: a run that goes on keeps its settings"))
                .remedy("leave it out, or start a new run with --init and its last.safetensors"));
        }
        let mut s = saved.clone();
        if let Some(n) = self.epochs {
            s.length = Length::Epochs(n);
        }
        if let Some(m) = self.minutes {
            s.length = Length::Minutes(m);
        }
        s.patience = self.patience.or(s.patience);
        if s.lossnet.is_some() != self.lossnet.is_some() {
            return Err(Error::usage(match s.lossnet {
                Some(_) => "the run was begun with LossNet",
                None => "the run was begun without LossNet",
            })
            .remedy("give --lossnet as it was given before"));
        }
        s.check()?;
        Ok(s)
    }

    fn precision(&self) -> Result<()> {
        if !matches!(self.precision, Precision::Auto | Precision::F32) {
            return Err(Error::usage(format!("--precision {}: training is in f32", self.precision))
                .remedy("use auto or f32"));
        }
        Ok(())
    }
}

/// Of data whose terms nobody said, before those of the checkpoint.
const UNSTATED: &str = "Not stated for the data. Those of the checkpoint it started from: ";

/// Says so once, however many runs lie between.
fn unstated(of_start: &str) -> String {
    format!("{UNSTATED}{}", of_start.strip_prefix(UNSTATED).unwrap_or(of_start))
}

/// Everything the data say.
struct Data {
    training: Vec<Set>,
    validation: Vec<Set>,
    masks: Masks,
}

impl Data {
    fn open(args: &Args) -> Result<Self> {
        let sets = |data: &[Source], healthy: &[Source]| -> Result<Vec<Set>> {
            data.iter().map(open).chain(healthy.iter().map(negatives)).collect()
        };
        let mut training = sets(&args.data, &args.negatives)?;
        let mut validation = sets(&args.val, &args.val_negatives)?;
        unique(training.iter_mut().chain(&mut validation));
        let classes = match &args.classes {
            Some(text) => Classes::parse(text)?,
            None => {
                let named = training.iter().find_map(|s| s.classes.as_ref().filter(|c| c.len() > 1));
                match named {
                    Some(names) => {
                        let list: Vec<String> =
                            names.iter().zip(1..).map(|(n, i)| format!("{n}={i}")).collect();
                        Classes::parse(&list.join(","))?
                    }
                    None => Classes::one(),
                }
            }
        };
        Ok(Self { training, validation, masks: Masks { classes, levels: args.mask_levels.into() } })
    }

    fn items(sets: &[Set]) -> Vec<Item> {
        sets.iter().flat_map(|s| s.items.iter().cloned()).collect()
    }

    /// What a run goes on with must be what it began with.
    fn fingerprint(&self) -> String {
        let mut hash = Sha256::new();
        for set in &self.training {
            hash.update(format!("{} {} {}\n", set.name, set.weight, set.items.len()));
            for item in &set.items {
                hash.update(&item.name);
                hash.update([0]);
            }
        }
        hexadecimal(&hash.finalize()[..8])
    }

    /// There must be something to learn.
    fn has_positive(&self) -> Result<()> {
        let mut fault = None;
        let items = Self::items(&self.training);
        let mut readable = 0;
        for item in &items {
            match read(item, &self.masks) {
                Ok(sample) if !sample.is_empty() => return Ok(()),
                Ok(_) => readable += 1,
                Err(e) => {
                    fault.get_or_insert(e);
                }
            }
        }
        match fault {
            Some(e) if readable == 0 => Err(e),
            _ => Err(Error::input(format!(
                "none of {} training pictures has anything to find on it",
                items.len()
            ))
            .remedy("check that masks are white where a polyp is, or say --mask-levels")),
        }
    }
}

/// Names of sets are keys of results.
fn unique<'a>(sets: impl Iterator<Item = &'a mut Set>) {
    let mut seen: Vec<Arc<str>> = Vec::new();
    for set in sets {
        let mut name = Arc::clone(&set.name);
        let mut number = 2;
        while seen.contains(&name) {
            name = format!("{}-{number}", set.name).into();
            number += 1;
        }
        if name != set.name {
            set.items.iter_mut().for_each(|i| i.set = Arc::clone(&name));
            set.name = Arc::clone(&name);
        }
        seen.push(name);
    }
}

pub fn run(args: &Args, context: &mut Context) -> Result<Outcome> {
    args.precision()?;
    let data = Data::open(args)?;
    for left in data.training.iter().chain(&data.validation).filter(|s| !s.left_out.is_empty()) {
        let first = &left.left_out[0];
        tracing::warn!(
            "{}: {} left out, such as {}: {}",
            left.name,
            left.left_out.len(),
            first.name,
            first.why
        );
    }
    if args.check {
        return check_data(args, &data, context);
    }
    let saved = match (args.resume, &args.out) {
        (true, Some(out)) => Some(state::load(&state_of(out))?),
        _ => None,
    };
    let settings = match &saved {
        Some(saved) => args.settings_again(&saved.progress.settings)?,
        None => args.settings()?,
    };
    if let Some(path) = &args.sheet {
        let description = Description::published("sheet", Architecture::default());
        let recipe = recipe(&settings, &data.training, &data.masks, &description)?;
        let mut bytes = std::io::Cursor::new(Vec::new());
        sheet(&recipe, 8)?
            .write_to(&mut bytes, image::ImageFormat::Png)
            .map_err(|e| Error::output(format!("{}: cannot be written ({e})", path.display())).because(e))?;
        write_whole(path, bytes.get_ref(), args.force)?;
        context.remark(format!("what the network would see: {}", path.display()))?;
        return Ok(Outcome::Done);
    }
    let out = args.out.clone().ok_or_else(|| Error::usage("--out is missing"))?;
    let threads = args.threads.map(usize::from);
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(threads.unwrap_or(0))
        .build()
        .map_err(|e| Error::machine("the threads cannot be started").because(e))?;
    let side = settings.sizes.iter().copied().max().unwrap_or(352) as u64;
    // A card has its own memory, and says itself when that is not enough.
    let on_cores = !matches!(args.device, DeviceChoice::Cuda(_));
    let pictures = if on_cores { settings.batch as u64 } else { 0 };
    memory::afford(
        &format!("a training step of {} pictures of {side}x{side}", settings.batch),
        BYTES_OF_PARAMETERS + side * side * pictures * BYTES_PER_PIXEL,
        |usable| {
            let fits = usable.saturating_sub(BYTES_OF_PARAMETERS) / (side * side * BYTES_PER_PIXEL);
            if fits == 0 {
                "give smaller --sizes".into()
            } else {
                format!("give --batch {fits} or smaller --sizes")
            }
        },
    )?;
    match args.folds {
        None => {
            let (training, validation) = (&data.training, Data::items(&data.validation));
            let job = Job { args, data: &data, training, validation, folder: out, settings, saved };
            pool_run(&pool, job, context)
        }
        Some(folds) => run_folds(args, &data, &out, &settings, usize::from(folds), &pool, context),
    }
}

fn run_folds(
    args: &Args,
    data: &Data,
    out: &Path,
    settings: &Settings,
    folds: usize,
    pool: &rayon::ThreadPool,
    context: &mut Context,
) -> Result<Outcome> {
    let mut partial = false;
    let only = args.fold.map(usize::from);
    if only.is_some_and(|k| k == 0 || k > folds) {
        return Err(Error::usage(format!("--fold: there are folds 1 to {folds}")).remedy("give one of these"));
    }
    for k in (1..=folds).filter(|k| only.is_none_or(|only| only == *k)) {
        let mut training = data.training.clone();
        let (train, validation) =
            fold(&Data::items(&data.training), &args.group, (k - 1, folds), settings.seed)?;
        for set in &mut training {
            set.items = train.iter().filter(|i| i.set == set.name).cloned().collect();
        }
        training.retain(|s| !s.items.is_empty());
        let folder = out.join(format!("fold-{k}"));
        let saved = match args.resume && state_of(&folder).exists() {
            true => Some(state::load(&state_of(&folder))?),
            false => None,
        };
        context.remark(format!("fold {k} of {folds}"))?;
        let job =
            Job { args, data, training: &training, validation, folder, settings: settings.clone(), saved };
        match pool_run(pool, job, context)? {
            Outcome::Done => {}
            _ => {
                partial = true;
                break;
            }
        }
    }
    Ok(if partial { Outcome::Partial } else { Outcome::Done })
}

fn pool_run(pool: &rayon::ThreadPool, job: Job, context: &mut Context) -> Result<Outcome> {
    // The context's output stays on this thread; the pool's threads only calculate.
    let threads = pool.current_num_threads();
    job.run(pool, threads, context)
}

struct Job<'a> {
    args: &'a Args,
    data: &'a Data,
    training: &'a [Set],
    validation: Vec<Item>,
    folder: PathBuf,
    settings: Settings,
    saved: Option<state::Saved>,
}

fn recipe(settings: &Settings, training: &[Set], masks: &Masks, description: &Description) -> Result<Recipe> {
    let phantoms = match settings.phantoms > 0.0 {
        true => Some((settings.phantoms, Arc::new(Phantoms::render(24, settings.seed)?))),
        false => None,
    };
    Ok(Recipe {
        draws: Draws::new(training, settings.batch, settings.seed),
        masks: masks.clone(),
        augmentation: Augmentation {
            strength: settings.strength,
            phantoms,
            filter: description.resize.into(),
        },
        description: description.clone(),
        sizes: settings.sizes.clone(),
    })
}

impl Job<'_> {
    /// Where the parameters come from: description, parameters, and what the card says.
    fn start(&self) -> Result<(Description, Parameters<f32>, String)> {
        let classes = self.data.masks.classes.names().len();
        let name = self.args.name.clone().unwrap_or_else(|| {
            let absolute = std::path::absolute(&self.folder).unwrap_or_else(|_| self.folder.clone());
            absolute.file_name().map_or("trained".into(), |n| n.to_string_lossy().into_owned())
        });
        if let Some(saved) = &self.saved {
            let description = saved.progress.description.clone();
            if description.classes != classes {
                return Err(Error::usage(format!(
                    "the run has {} classes, the data {classes}",
                    description.classes
                ))
                .remedy("give --classes as before"));
            }
            let parameters = fresh(description.architecture(), self.settings.seed);
            let began = match saved.progress.started_from.as_str() {
                "" => "a run that goes on",
                known => known,
            };
            return Ok((description, parameters, began.to_owned()));
        }
        let mut parts = if self.args.starts_with_nothing() {
            let architecture =
                Architecture { variant: self.args.network.unwrap_or(Variant::M2SNet), classes };
            let mut description = Description::published(&name, architecture);
            description.provenance = Some("trained from nothing by polypscope train".into());
            (description, fresh(architecture, self.settings.seed), "nothing (random parameters)".to_owned())
        } else {
            let path = Checkpoint::locate(self.args.init.as_deref())?;
            let checkpoint = Checkpoint::open(&path)?;
            let old = checkpoint.description();
            if let Some(wanted) = self.args.network
                && wanted != old.network
            {
                return Err(Error::usage(format!("{}: is a checkpoint of {}", path.display(), old.network))
                    .remedy("leave --network out, or start from another one"));
            }
            let mut parameters: Parameters<f32> = parameters_of(&checkpoint)?;
            let mut description = old.clone();
            if classes != old.classes {
                // Everything but the last convolution has been learnt.
                let architecture = Architecture { variant: old.network, classes };
                let mut all = fresh(architecture, self.settings.seed);
                for (_, p) in parameters.iter().filter(|(_, p)| !p.key.starts_with("output1.")) {
                    all.insert(&p.key, &p.shape, p.values.clone(), p.trained);
                }
                parameters = all;
                description.classes = classes;
            }
            let sha = checkpoint.sha256().unwrap_or_default();
            let from = format!("{} ({}, SHA-256 {}…)", old.name, path.display(), &sha[..sha.len().min(12)]);
            description.name.clone_from(&name);
            description.provenance = Some(format!("fine-tuned by polypscope train from {}", old.name));
            (description, parameters, from)
        };
        parts.0.terms = Some(self.terms(parts.0.terms.as_deref()));
        Ok(parts)
    }

    fn terms(&self, of_start: Option<&str>) -> String {
        match (&self.args.terms, of_start) {
            (Some(terms), _) => terms.clone(),
            (None, Some(old)) if !self.args.starts_with_nothing() => unstated(old),
            _ => "Not stated.".into(),
        }
    }

    fn run(mut self, pool: &rayon::ThreadPool, threads: usize, context: &mut Context) -> Result<Outcome> {
        let args = self.args;
        if self.training.iter().map(|s| s.items.len()).sum::<usize>() < 2 {
            return Err(Error::input("there is one training picture only")
                .remedy("a batch-norm needs at least two, and a network many more"));
        }
        self.data.has_positive()?;
        let card = card(args.device)?;
        if let Some((_, name)) = &card {
            context.remark(format!("training on {name}"))?;
        }
        prepare(&self.folder, args.resume && self.saved.is_some(), args.force)?;
        let (description, parameters, started_from) = self.start()?;
        if let Some(saved) = &self.saved
            && saved.progress.data != self.data.fingerprint()
        {
            return Err(Error::usage("the data are not those the run began with")
                .remedy("give the same DATA and --negatives, or start a new run with --init"));
        }
        let vgg = args.lossnet.as_deref().map(Vgg::open).transpose()?;
        match &self.saved {
            Some(saved) => context
                .remark(format!("going on after step {}, begun from {started_from}", saved.progress.steps))?,
            None => context.remark(format!("starting from {started_from}"))?,
        }
        match (&args.lossnet, self.settings.lossnet) {
            (Some(file), Some(w)) => {
                context.remark(format!("LossNet of weight {w} over {}", file.display()))?
            }
            _ => context.remark("without LossNet: no VGG-16 was given (--lossnet)")?,
        }
        for group in shared(&args.group, &Data::items(self.training), &self.validation).iter().take(3) {
            tracing::warn!("{} stands in training ({}) and in validation ({})", group.0, group.1, group.2);
        }
        if self.validation.is_empty() {
            tracing::warn!(
                "there are no validation data: the last step is the result, and nothing says how good it is"
            );
        }
        let mut trainer = Trainer::new(self.settings.clone(), description.architecture(), parameters, vgg)?;
        let judge = match (&card, args.device) {
            (None, _) => DeviceChoice::Cpu,
            (Some(_), DeviceChoice::Auto) => DeviceChoice::Cuda(0),
            (Some(_), named) => named,
        };
        let on_card = card.map(|(passes, name)| {
            trainer.pass_by(passes);
            name
        });
        let resumed = self.saved.take().map(|s| s.restore(&mut trainer)).transpose()?;
        let recipe = recipe(&self.settings, self.training, &self.data.masks, &description)?;
        write_inputs(&recipe, &self.folder)?;
        let machine = Machine::detect();
        let label = |sets: &[Set]| -> Vec<String> {
            sets.iter()
                .map(|s| format!("{}: {} pictures, weight {}", s.name, s.items.len(), s.weight))
                .collect()
        };
        let stop = interrupt_flag()?;
        let bar = bar(context.quiet);
        let mut open = |checkpoint: &Checkpoint| -> Result<Box<dyn Predict>> {
            let options = Options {
                device: judge,
                // A card judges in its own f16.
                precision: if judge == DeviceChoice::Cpu { Precision::F32 } else { Precision::Auto },
                threads: Some(threads),
                size: None,
                keep_warm: false,
                nice: 0,
            };
            let network = engine::open(checkpoint, options)?;
            let predictor = NetworkPredictor::new(network, checkpoint.description(), FieldOfView::Full);
            Ok(Box::new(predictor))
        };
        let quiet = context.quiet;
        let mut watch = |event: Event| show(&bar, quiet, &event);
        let validation_sets = match args.folds {
            Some(_) => vec![format!("a fold of the training data: {} pictures", self.validation.len())],
            None => label(&self.data.validation),
        };
        let session = Session {
            folder: self.folder.clone(),
            trainer,
            recipe,
            validation: std::mem::take(&mut self.validation),
            terms: self.terms(description.terms.as_deref()),
            description,
            form: args.form,
            loaders: usize::from(args.loaders),
            started_from,
            training_sets: label(self.training),
            validation_sets,
            machine: match on_card {
                Some(name) => format!("{name}; {}, {threads} thread(s)", machine.cpu),
                None => format!("{}, {threads} thread(s)", machine.cpu),
            },
            resumed,
            data: self.data.fingerprint(),
            open: &mut open,
            stop: &stop,
            watch: &mut watch,
        };
        let outcome = pool.install(|| session.run());
        bar.finish_and_clear();
        let outcome = outcome?;
        if context.json {
            context.json(&outcome)?;
        } else {
            let at = |name: &str| self.folder.join(name).display().to_string();
            context.say(format!(
                "{} steps in {:.1} min{}",
                outcome.steps,
                outcome.seconds / 60.0,
                match outcome.end {
                    End::Done => "",
                    End::Early => ", ended early: no better epoch came",
                    End::Interrupted => ", interrupted; --resume goes on",
                }
            ))?;
            for (what, verdict) in [
                ("before", outcome.before.as_ref()),
                ("best", outcome.best.as_ref().map(|(_, v)| v)),
                ("last", outcome.last.as_ref()),
            ] {
                if let Some(v) = verdict {
                    context.say(format!("  {what:<7} {}", in_words(v)))?;
                }
            }
            let name = if outcome.best.is_some() { "best.safetensors" } else { "last.safetensors" };
            context.remark(format!("checkpoint: {}", at(name)))?;
            context.remark(format!("curves and worst pictures: {}", at("index.html")))?;
        }
        let partial = outcome.end == End::Interrupted || !outcome.left_out.is_empty();
        Ok(if partial { Outcome::Partial } else { Outcome::Done })
    }
}

fn in_words(v: &Verdict) -> String {
    let f = &v.all;
    let mut parts = Vec::new();
    if f.count > 0 {
        parts.push(format!("mean Dice {:.4}, mean IoU {:.4} over {} pictures", f.m_dice, f.m_iou, f.count));
    }
    if f.negatives > 0 {
        parts.push(format!("{} of {} healthy ones marked", f.false_marks, f.negatives));
    }
    parts.join("; ")
}

fn bar(quiet: bool) -> ProgressBar {
    let hidden = quiet || !std::io::stderr().is_terminal();
    let target = if hidden { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr_with_hz(4) };
    let bar = ProgressBar::with_draw_target(Some(10_000), target);
    if let Ok(style) = ProgressStyle::with_template("{bar:30.cyan/dim} {percent:>3} %  {eta} left  {msg}") {
        bar.set_style(style);
    }
    bar
}

fn show(bar: &ProgressBar, quiet: bool, event: &Event) {
    match event {
        Event::Step { step, share, loss, seconds } => {
            bar.set_position((share * 1e4) as u64);
            bar.set_message(format!("step {step}  loss {loss:.4}  {seconds:.2} s a step"));
        }
        Event::Judging { done, of } => bar.set_message(format!("validating {done} of {of}")),
        Event::Judged { epoch, verdict, best } => {
            let note = if *best { ", the best so far" } else { "" };
            if !quiet {
                // Also where there is no terminal: a run takes hours.
                bar.suspend(|| {
                    let _ = writeln!(std::io::stderr(), "after {epoch}: {}{note}", in_words(verdict));
                });
            }
        }
    }
}

/// Makes the folder, or looks whether it may be used.
fn prepare(folder: &Path, resume: bool, force: bool) -> Result<()> {
    if resume {
        return Ok(());
    }
    std::fs::create_dir_all(folder).map_err(|e| Error::write(folder, e))?;
    let mut entries = std::fs::read_dir(folder).map_err(|e| Error::read(folder, e))?;
    if !force && entries.next().is_some() {
        return Err(Error::output(format!("{}: is not empty", folder.display()))
            .remedy("choose another folder, go on with --resume, or add --force to replace its results"));
    }
    Ok(())
}

fn write_inputs(recipe: &Recipe, folder: &Path) -> Result<()> {
    let path = folder.join("inputs.jpg");
    let mut bytes = std::io::Cursor::new(Vec::new());
    sheet(recipe, 6)?
        .write_to(&mut bytes, image::ImageFormat::Jpeg)
        .map_err(|e| Error::output(format!("{}: cannot be written ({e})", path.display())).because(e))?;
    write_whole(&path, bytes.get_ref(), true)
}

fn check_data(args: &Args, data: &Data, context: &mut Context) -> Result<Outcome> {
    let stop = interrupt_flag()?;
    let total = Data::items(&data.training).len() + Data::items(&data.validation).len();
    let bar = super::progress::Progress::new(Some(total as u64), context.quiet, "looking");
    let done = std::sync::atomic::AtomicU64::new(0);
    let each = || {
        bar.at(done.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
        !stop.load(std::sync::atomic::Ordering::Relaxed)
    };
    let report = check(&data.training, &data.validation, &args.group, &data.masks, &each);
    bar.finish();
    if stop.load(std::sync::atomic::Ordering::Relaxed) {
        return Err(Error::output("the check was interrupted").remedy("run it again"));
    }
    if context.json {
        context.json(&report)?;
    } else {
        tell(&report, context)?;
    }
    Ok(if report.findings.iter().any(|f| f.serious) {
        Outcome::Negative
    } else if report.is_clean() {
        Outcome::Done
    } else {
        Outcome::Partial
    })
}

fn tell(report: &Report, context: &mut Context) -> Result<()> {
    for (what, side) in [("training", &report.training), ("validation", &report.validation)] {
        if side.sets.is_empty() {
            continue;
        }
        context.say(format!(
            "{what}: {} pictures, {} with something to find, {} healthy, {} group(s)",
            side.pictures, side.positive, side.negative, side.groups
        ))?;
        for set in &side.sets {
            context.say(format!("  {}: {} pictures, weight {}", set.name, set.pictures, set.weight))?;
        }
        let sizes: Vec<String> = side.sizes.iter().take(6).map(|(s, n)| format!("{s} ({n})")).collect();
        context.say(format!(
            "  sizes: {}{}",
            sizes.join(", "),
            if side.sizes.len() > 6 { format!(" and {} more", side.sizes.len() - 6) } else { String::new() }
        ))?;
    }
    let most = if context.verbose > 0 { usize::MAX } else { 5 };
    for finding in &report.findings {
        context.say(format!(
            "{}{}: {}",
            if finding.serious { "! " } else { "- " },
            finding.what,
            finding.names.len()
        ))?;
        for name in finding.names.iter().take(most) {
            context.say(format!("    {name}"))?;
        }
        if finding.names.len() > most {
            context.say(format!("    and {} more (-v lists them)", finding.names.len() - most))?;
        }
    }
    if report.is_clean() {
        context.say("nothing is wrong with these data")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_nobody_stated_are_said_once() {
        let first = unstated("Research only.");
        assert!(first.starts_with("Not stated") && first.ends_with("Research only."));
        assert_eq!(unstated(&first), first);
    }
}
