//! Scoring a data set: its folders flow in, rows in the order of names and a report flow out.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use image::RgbImage;
use rayon::prelude::*;

use super::classes::Classes;
use super::levels::MaskLevels;
use super::note::{Note, NoteKind, Problem, ProblemKind};
use super::pairing::{self, Files, Source, Stem};
use super::read;
use super::report::{DataSetReport, Row, Worst};
use super::scale::{self, Depth, Scales};
use crate::evaluation::metrics::{Figures, Mask, Prediction, Protocol, Scorer, SetAccumulator, SetFigures};
use crate::lock::lock;
use crate::{Error, Result};

/// A network, or anything else that turns a picture into a probability map of the same size.
pub trait Predict {
    /// # Errors
    /// The picture cannot be analysed; it is named and left out.
    fn predict(&mut self, image: &RgbImage) -> Result<Prediction<'static>>;
}

impl<F: FnMut(&RgbImage) -> Result<Prediction<'static>>> Predict for F {
    fn predict(&mut self, image: &RgbImage) -> Result<Prediction<'static>> {
        self(image)
    }
}

/// The folders of one data set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DataSet {
    /// In the table and every file.
    pub name: String,
    /// Folder of the ground truth, a mask a picture.
    pub masks: PathBuf,
    /// Probability maps of any program. Without it the network predicts from the images.
    pub predictions: Option<PathBuf>,
    /// Pictures the network sees, or that the contact sheet shows.
    pub images: Option<PathBuf>,
}

/// Which figure says what is worst.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rank {
    /// Dice; the smallest is the worst.
    #[default]
    Dice,
    /// Intersection over union; the smallest is the worst.
    Iou,
    /// Weighted F-measure; the smallest is the worst.
    Wfm,
    /// S-measure; the smallest is the worst.
    Sm,
    /// The largest is the worst.
    Mae,
}

impl Rank {
    /// The name users type.
    pub fn name(self) -> &'static str {
        match self {
            Self::Dice => "dice",
            Self::Iou => "iou",
            Self::Wfm => "wfm",
            Self::Sm => "sm",
            Self::Mae => "mae",
        }
    }

    fn value(self, f: &Figures) -> f64 {
        match self {
            Self::Dice => f.dice,
            Self::Iou => f.iou,
            Self::Wfm => f.wfm,
            Self::Sm => f.sm,
            Self::Mae => f.mae,
        }
    }

    /// Small is bad.
    fn goodness(self, value: f64) -> f64 {
        if self == Self::Mae { -value } else { value }
    }
}

/// How data sets are read and scored.
#[derive(Clone, Debug)]
pub struct Options {
    /// What turns maps into figures.
    pub protocol: Protocol,
    /// Which values or colours of masks and label maps are which class.
    pub classes: Classes,
    /// Cut off the end of a mask's stem before pairing (`_mask`, …); empty for none.
    pub mask_suffix: String,
    /// The stored value of a prediction that means probability 1; if not given, 255, 65535 in 16-bit files and 1 in
    /// floating-point ones, unless the folder's values show another.
    pub prediction_max: Option<u16>,
    /// Which levels of a mask belong to polyps, where there is one class.
    pub mask_levels: MaskLevels,
    /// How many of the worst to keep.
    pub worst: usize,
    /// The figure by which the worst pictures are found.
    pub rank: Rank,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            protocol: Protocol::Published,
            classes: Classes::one(),
            mask_suffix: String::new(),
            prediction_max: None,
            mask_levels: MaskLevels::Auto,
            worst: 12,
            rank: Rank::Dice,
        }
    }
}

/// What happens while a data set is scored, in the order of names.
#[derive(Debug)]
pub enum Event<'a> {
    /// The folders are listed; so many pictures will be tried.
    Paired(u64),
    /// One class of a picture has its figures; a picture comes once for each class.
    Scored(&'a Row),
    /// A picture gets no figures.
    LeftOut(&'a Problem),
    /// A picture is done, scored or not.
    Done,
}

/// Scores one data set. `predict` is asked only if the set has no predictions; it runs on the calling thread, the rest
/// on all cores. `each` is told what happens, and ends the run by returning an error.
///
/// # Errors
/// A folder cannot be listed, nothing pairs, the options contradict each other, or `each` says so. A fault of a single
/// picture is no error: it becomes a [`Problem`].
pub fn score(
    set: &DataSet,
    options: &Options,
    mut predict: Option<&mut dyn Predict>,
    each: &mut dyn FnMut(Event<'_>) -> Result<()>,
) -> Result<DataSetReport> {
    options.protocol.validate()?;
    let names = options.classes.names();
    if set.predictions.is_none() {
        if set.images.is_none() || predict.is_none() {
            return Err(Error::usage(format!(
                "{}: neither predictions nor images to predict from",
                set.name
            )));
        }
        if names.len() > 1 {
            return Err(Error::usage("--classes: the network knows one class, polyp")
                .remedy("list one class, or give --predictions"));
        }
    }
    let Pairs { pairs, mut notes, mut problems } = pair(set, options)?;
    each(Event::Paired(pairs.len() as u64))?;
    for problem in &problems {
        each(Event::LeftOut(problem))?;
    }

    let scales = Scales::new(prediction_files(&pairs), options.prediction_max);
    let pool = ScorerPool::new(options.protocol)?;
    let mut sets = vec![SetAccumulator::default(); names.len()];
    let mut worst: Vec<Worst> = Vec::new();
    let mut scored = 0;
    let mut faint = 0;
    let mut brightest: BTreeMap<Depth, f64> = BTreeMap::new();
    // A window holds the pictures of a network's predictions, or just figures.
    let window = rayon::current_num_threads() * if set.predictions.is_some() { 16 } else { 2 };
    for chunk in pairs.chunks(window.max(1)) {
        let predicted: Vec<Option<Result<Prediction<'static>>>> = match &mut predict {
            Some(predict) if set.predictions.is_none() => {
                let images: Vec<Result<RgbImage>> =
                    chunk.par_iter().map(|(_, files)| input_image(files)).collect();
                images
                    .into_iter()
                    .zip(chunk)
                    .map(|(image, (stem, _))| {
                        Some(image.and_then(|image| predict.predict(&image).map_err(|e| e.at(&stem.0))))
                    })
                    .collect()
            }
            _ => chunk.iter().map(|_| None).collect(),
        };
        let results: Vec<Result<Scored>> = (chunk.par_iter().zip(predicted))
            .map(|((stem, files), predicted)| {
                pool.with(|scorer| score_pair(&stem.0, files, predicted, options, &scales, scorer))
            })
            .collect();
        for ((stem, files), result) in chunk.iter().zip(results) {
            match result {
                Ok(Scored { rows, faint: is_faint, stored }) => {
                    scored += 1;
                    for (depth, largest) in stored {
                        let most = brightest.entry(depth).or_default();
                        *most = most.max(largest);
                    }
                    if is_faint {
                        faint += 1;
                        note(&mut notes, NoteKind::FaintPrediction, stem.0.clone());
                    }
                    for (class, row) in rows.iter().enumerate() {
                        sets[class].add(&row.figures);
                        for kind in &row.notes {
                            let name = if names.len() > 1
                                && matches!(kind, NoteKind::EmptyMask | NoteKind::FullMask)
                            {
                                format!("{}:{}", row.name, row.class)
                            } else if class > 0 {
                                continue;
                            } else {
                                row.name.clone()
                            };
                            note(&mut notes, *kind, name);
                        }
                        keep_worst(&mut worst, options, row, class, files);
                        each(Event::Scored(row))?;
                    }
                }
                Err(e) => {
                    let problem =
                        Problem { kind: ProblemKind::Refused, name: stem.0.clone(), what: e.to_string() };
                    each(Event::LeftOut(&problem))?;
                    problems.push(problem);
                }
            }
            each(Event::Done)?;
        }
    }
    if scored == 0 {
        let first = problems.first().map_or("", |p| &p.what);
        return Err(Error::input(format!(
            "{}: none of {} pictures could be scored; {first}",
            set.name,
            problems.len()
        )));
    }
    // A single faint map says that nothing was found; a whole set of them that its scale is another.
    if faint < scored {
        notes.remove(&NoteKind::FaintPrediction);
    }
    let mut doubtful = false;
    for (&depth, &largest) in &brightest {
        let Some(said) = scales.dim(depth, largest) else { continue };
        // What was read on another scale, or was said already, is not dim.
        let said_already = [NoteKind::FaintPrediction, NoteKind::RescaledPrediction];
        if said_already.iter().any(|kind| notes.contains_key(kind)) {
            continue;
        }
        note(&mut notes, NoteKind::DimPrediction, said);
        // Published figures stretch 8-bit maps to their own range, whatever it is.
        let matters = depth != Depth::Eight || !matches!(options.protocol, Protocol::Published);
        doubtful |= matters && scale::is_end_of_a_scale(largest);
    }
    let classes: Vec<(String, SetFigures)> =
        names.into_iter().zip(sets.iter().map(SetAccumulator::figures)).collect();
    let figures = mean_over_classes(&classes);
    Ok(DataSetReport {
        name: set.name.clone(),
        protocol: options.protocol,
        figures,
        classes,
        notes,
        problems,
        worst,
        doubtful,
        scales,
    })
}

struct Pairs {
    pairs: Vec<(Stem, Files)>,
    notes: BTreeMap<NoteKind, Note>,
    problems: Vec<Problem>,
}

fn note(notes: &mut BTreeMap<NoteKind, Note>, kind: NoteKind, name: String) {
    let entry = notes.entry(kind).or_insert_with(|| Note { rule: kind.rule(), ..Note::default() });
    entry.count += 1;
    entry.names.push(name);
}

fn pair(set: &DataSet, options: &Options) -> Result<Pairs> {
    let masks = pairing::list(&set.masks, &options.mask_suffix)?;
    let images = set.images.as_deref().map(|folder| pairing::list(folder, "")).transpose()?;
    let predictions = set.predictions.as_deref().map(|folder| pairing::list(folder, "")).transpose()?;
    let mut out = Pairs { pairs: Vec::new(), notes: BTreeMap::new(), problems: Vec::new() };
    let mut ambiguous = |paths: &BTreeMap<Stem, Vec<PathBuf>>| {
        for (stem, paths) in paths {
            out.problems.push(Problem {
                kind: ProblemKind::Ambiguous,
                name: stem.0.clone(),
                what: format!("{}; keep one", pairing::share_a_stem(paths)),
            });
        }
    };
    ambiguous(&masks.ambiguous);

    // A folder per class inside the predictions' folder, where there is one.
    let classes = options.classes.names();
    let mut per_class = None;
    if let Some(folder) = set.predictions.as_deref().filter(|_| !options.classes.is_one()) {
        let folders: Vec<PathBuf> = classes.iter().map(|class| folder.join(class)).collect();
        let present = folders.iter().filter(|f| f.is_dir()).count();
        if present == folders.len() {
            let lists = folders.iter().map(|f| pairing::list(f, "")).collect::<Result<Vec<_>>>()?;
            lists.iter().for_each(|l| ambiguous(&l.ambiguous));
            per_class = Some(lists);
        } else if present > 0 {
            let missing: Vec<&str> =
                classes.iter().zip(&folders).filter(|(_, f)| !f.is_dir()).map(|(c, _)| c.as_str()).collect();
            return Err(Error::input(format!(
                "{}: has a folder for some classes but none for {}",
                folder.display(),
                missing.join(", ")
            ))
            .remedy("give a folder per class, or one label map per picture"));
        }
    }

    let main = predictions.as_ref().or(images.as_ref());
    if per_class.is_none()
        && let Some(main) = main
    {
        ambiguous(&main.ambiguous);
    }
    for folder in [Some(&masks), images.as_ref(), predictions.as_ref()].into_iter().flatten() {
        for name in &folder.others {
            if per_class.is_none() || !classes.contains(name) {
                note(&mut out.notes, NoteKind::OtherFile, name.clone());
            }
        }
    }

    let without = set.predictions.as_deref().or(set.images.as_deref()).unwrap_or(Path::new(""));
    for (stem, mask) in &masks.pictures {
        let image = images.as_ref().and_then(|i| i.pictures.get(stem)).cloned();
        let prediction = match (&per_class, &predictions) {
            (Some(lists), _) => {
                let found: Option<Vec<PathBuf>> =
                    lists.iter().map(|l| l.pictures.get(stem).cloned()).collect();
                found.map(|paths| Some(Source::Maps(paths)))
            }
            (None, Some(list)) => list.pictures.get(stem).map(|path| {
                Some(if options.classes.is_one() {
                    Source::Map(path.clone())
                } else {
                    Source::Labels(path.clone())
                })
            }),
            (None, None) => image.is_some().then_some(None),
        };
        match prediction {
            Some(prediction) => {
                out.pairs.push((stem.clone(), Files { mask: mask.clone(), prediction, image }));
            }
            None => {
                let named_above =
                    out.problems.iter().any(|p| p.kind == ProblemKind::Ambiguous && p.name == stem.0);
                if !named_above {
                    out.problems.push(Problem {
                        kind: ProblemKind::MissingPrediction,
                        name: stem.0.clone(),
                        what: format!("{} has no counterpart in {}", mask.display(), without.display()),
                    });
                }
            }
        }
    }
    let listed: Vec<&BTreeMap<Stem, PathBuf>> = match (&per_class, main) {
        (Some(lists), _) => lists.iter().map(|l| &l.pictures).collect(),
        (None, Some(main)) => vec![&main.pictures],
        (None, None) => Vec::new(),
    };
    for stem in listed.iter().flat_map(|l| l.keys()) {
        if !masks.pictures.contains_key(stem) && !masks.ambiguous.contains_key(stem) {
            note(&mut out.notes, NoteKind::NoMask, stem.0.clone());
        }
    }
    if out.pairs.is_empty() {
        if let Some(problem) = out.problems.iter().find(|p| p.kind == ProblemKind::Ambiguous) {
            return Err(Error::input(format!("{}: nothing could be paired: {}", set.name, problem.what)));
        }
        for (folder, list) in [(set.masks.as_path(), Some(&masks)), (without, main)] {
            if let Some(list) = list.filter(|l| l.pictures.is_empty()) {
                return Err(no_pictures(folder, &list.others));
            }
        }
        let examples = |stems: Option<&Stem>| stems.map_or("nothing".to_string(), |s| format!("\"{}\"", s.0));
        return Err(Error::input(format!(
            "no file of {} has the stem of one of {} (for instance {} and {})",
            set.masks.display(),
            without.display(),
            examples(masks.pictures.keys().next()),
            examples(listed.iter().find_map(|l| l.keys().next())),
        ))
        .remedy("check the folders, or say --mask-suffix if masks are named like NAME_mask"));
    }
    Ok(out)
}

/// Says what a folder without pictures holds instead.
fn no_pictures(folder: &Path, others: &[String]) -> Error {
    let held = match others {
        [] => "is empty".to_string(),
        [first, ..] => {
            format!("holds no picture that is read here, but {} other files such as {first}", others.len())
        }
    };
    Error::input(format!("{}: {held}", folder.display())).remedy("give PNG, JPEG, TIFF, BMP, GIF or WebP")
}

/// Every probability map of the pairs: their scale is judged together.
fn prediction_files(pairs: &[(Stem, Files)]) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for (_, pair) in pairs {
        match &pair.prediction {
            Some(Source::Map(path)) => files.push(path.clone()),
            Some(Source::Maps(paths)) => files.extend(paths.iter().cloned()),
            Some(Source::Labels(_)) | None => {}
        }
    }
    files
}

fn input_image(files: &Files) -> Result<RgbImage> {
    match &files.image {
        Some(path) => read::image(path),
        None => Err(Error::internal(format!("{}: no image to predict from", files.mask.display()))),
    }
}

/// A picture's masks and predictions, class by class, and what had to be decided.
#[derive(Default)]
pub(super) struct Loaded {
    pub pairs: Vec<(Mask, Prediction<'static>)>,
    notes: Vec<NoteKind>,
    /// How each probability map is stored, and its largest value.
    stored: Vec<(Depth, f64)>,
}

/// What a picture's prediction says about every class.
fn predictions(
    files: &Files,
    options: &Options,
    scales: &Scales,
    loaded: &mut Loaded,
) -> Result<Vec<Prediction<'static>>> {
    let mut map = |path: &Path| {
        let map = read::prediction(path, scales)?;
        loaded.notes.extend(map.notes);
        loaded.stored.push(map.stored);
        Ok(map.prediction)
    };
    match &files.prediction {
        Some(Source::Map(path)) => Ok(vec![map(path)?]),
        Some(Source::Labels(path)) => {
            let (predictions, notes) = read::label_predictions(path, &options.classes)?;
            loaded.notes.extend(notes);
            Ok(predictions)
        }
        Some(Source::Maps(paths)) => paths.iter().map(|path| map(path)).collect(),
        None => Err(Error::internal(format!("{}: no prediction", files.mask.display()))),
    }
}

/// Masks and predictions of a picture, class by class.
pub(super) fn load(
    files: &Files,
    predicted: Option<Result<Prediction<'static>>>,
    options: &Options,
    scales: &Scales,
) -> Result<Loaded> {
    let (masks, notes) = read::masks(&files.mask, &options.classes, options.mask_levels)?;
    let mut loaded = Loaded { notes, ..Loaded::default() };
    let predictions = match predicted {
        Some(prediction) => vec![prediction?],
        None => predictions(files, options, scales, &mut loaded)?,
    };
    loaded.notes.sort_unstable();
    loaded.notes.dedup();
    loaded.pairs = masks.into_iter().zip(predictions).collect();
    for (mask, prediction) in &loaded.pairs {
        check_sides(files, (mask.width(), mask.height()), (prediction.width(), prediction.height()))?;
    }
    Ok(loaded)
}

/// Refuses a prediction that lies on its side: resizing would score it against another picture. Sides are compared by
/// their proportion, as predictions come in the network's size too.
fn check_sides(files: &Files, mask: (usize, usize), prediction: (usize, usize)) -> Result<()> {
    if !crate::still::lie_across(mask, prediction) {
        return Ok(());
    }
    Err(Error::input(format!(
        "{}: is {}x{} while its mask is {}x{}, so one of them lies on its side",
        prediction_path(files).display(),
        prediction.0,
        prediction.1,
        mask.0,
        mask.1
    ))
    .remedy("turn the one that is not as viewers show the picture"))
}

/// The file that a picture's prediction comes from.
fn prediction_path(files: &Files) -> &Path {
    match &files.prediction {
        Some(Source::Map(path) | Source::Labels(path)) => path,
        Some(Source::Maps(paths)) => paths.first().unwrap_or(&files.mask),
        None => files.image.as_deref().unwrap_or(&files.mask),
    }
}

/// A picture's figures.
struct Scored {
    /// A row per class.
    rows: Vec<Row>,
    /// Whether the prediction holds nothing but 0 and 1, as all others do.
    faint: bool,
    stored: Vec<(Depth, f64)>,
}

/// Scores a picture.
fn score_pair(
    name: &str,
    files: &Files,
    predicted: Option<Result<Prediction<'static>>>,
    options: &Options,
    scales: &Scales,
    scorer: &mut Scorer,
) -> Result<Scored> {
    let Loaded { pairs, mut notes, stored } = load(files, predicted, options, scales)?;
    let all = notes.len();
    notes.retain(|kind| *kind != NoteKind::FaintPrediction);
    let faint = notes.len() < all;
    // Read on the file's own scale such a map marks nothing, which is right only if nothing is there.
    if faint
        && matches!(options.protocol, Protocol::Thresholded { .. })
        && pairs.iter().any(|(mask, _)| !mask.is_empty())
    {
        let path = prediction_path(files);
        return Err(Error::input(format!(
            "{}: holds only 0 and 1, as all maps of its folder do, so whether 1 means certain cannot be told",
            path.display()
        ))
        .remedy("say --prediction-max 1 or --prediction-max 255"));
    }
    let names = options.classes.names();
    let rows = pairs
        .iter()
        .zip(names)
        .map(|((mask, prediction), class)| {
            let figures = scorer.score(prediction, mask).map_err(|e| e.at(name))?;
            let mut notes = notes.clone();
            if (mask.width(), mask.height()) != (prediction.width(), prediction.height()) {
                notes.push(NoteKind::Resized);
            }
            if figures.truth_px == 0 {
                notes.push(NoteKind::EmptyMask);
            } else if figures.truth_px == figures.total_px {
                notes.push(NoteKind::FullMask);
            }
            notes.sort_unstable();
            let (width_px, height_px) = (mask.width(), mask.height());
            Ok(Row { name: name.into(), class, width_px, height_px, figures, notes })
        })
        .collect::<Result<_>>()?;
    Ok(Scored { rows, faint, stored })
}

/// Keeps the list short and sorted, worst first, equals by name.
fn keep_worst(worst: &mut Vec<Worst>, options: &Options, row: &Row, class_number: usize, files: &Files) {
    let value = options.rank.value(&row.figures);
    let goodness = options.rank.goodness(value);
    let at = worst.partition_point(|w| options.rank.goodness(w.value) <= goodness);
    if at >= options.worst {
        return;
    }
    worst.insert(
        at,
        Worst { name: row.name.clone(), class: row.class.clone(), value, class_number, files: files.clone() },
    );
    worst.truncate(options.worst);
}

fn mean_over_classes(classes: &[(String, SetFigures)]) -> SetFigures {
    let mut out = classes[0].1.clone();
    if classes.len() > 1 {
        let mean = |of: fn(&SetFigures) -> Option<f64>| {
            let defined: Vec<f64> = classes.iter().filter_map(|(_, f)| of(f)).collect();
            (!defined.is_empty()).then(|| defined.iter().sum::<f64>() / defined.len() as f64)
        };
        out = SetFigures {
            count: out.count,
            m_dice: mean(|f| f.m_dice),
            m_iou: mean(|f| f.m_iou),
            pooled_iou: mean(|f| f.pooled_iou),
            wfm: mean(|f| f.wfm),
            sm: mean(|f| f.sm),
            em: mean(|f| f.em),
            mae: mean(|f| f.mae),
            max_f: mean(|f| f.max_f),
            avg_f: mean(|f| f.avg_f),
            ber: mean(|f| f.ber),
            acc: mean(|f| f.acc),
            ber_undefined: classes.iter().map(|(_, f)| f.ber_undefined).sum(),
        };
    }
    out
}

/// Scorers with their working memory, one per thread that is at it.
struct ScorerPool {
    protocol: Protocol,
    idle: Mutex<Vec<Scorer>>,
}

impl ScorerPool {
    fn new(protocol: Protocol) -> Result<Self> {
        Ok(Self { protocol, idle: Mutex::new(vec![Scorer::new(protocol)?]) })
    }

    fn with<T>(&self, work: impl FnOnce(&mut Scorer) -> Result<T>) -> Result<T> {
        let idle = || lock(&self.idle);
        let taken = idle().pop();
        let mut scorer = match taken {
            Some(scorer) => scorer,
            None => Scorer::new(self.protocol)?,
        };
        let out = work(&mut scorer);
        idle().push(scorer);
        out
    }
}
