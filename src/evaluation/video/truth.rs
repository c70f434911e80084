//! Ground truth of a video: a path flows in, the polyps of each frame flow out, with identities where the truth has
//! them.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::object::TruthObject;
use super::region::{Bounds, LONGEST_SIDE, MOST_BOXES, Region, components};
use super::voc;
use crate::evaluation::images::{Classes, MaskLevels, NoteKind, read};
use crate::still::names::natural_order;
use crate::{Error, Result, small_file};

/// Specks of a truth mask below this many pixels are what lossy formats leave, no polyps.
pub const SPECK_PX: u64 = 25;

/// Ground truth of a video, read frame by frame.
#[derive(Debug)]
pub struct Truth {
    kind: Kind,
    specks: u64,
    levels: MaskLevels,
    notes: BTreeMap<NoteKind, u64>,
}

#[derive(Debug)]
enum Kind {
    /// Frame → mask of identities.
    Phantom { folder: PathBuf, frames: u64, ids: Generations },
    /// Frame → mask, binary.
    Masks { files: HashMap<u64, PathBuf>, frames: u64, numbered: bool },
    /// Frame → boxes; `None` where nobody looked.
    Boxes { path: PathBuf, frames: Vec<Option<Box<[BoxLine]>>>, size: (usize, usize) },
    /// Frame → mask, binary; a frame without one has no polyp if `clean`, otherwise nobody knows.
    Paired { masks: Vec<Option<PathBuf>>, clean: bool },
    /// Frame → a file of boxes with the names of lesions, numbered in the order they are met.
    Voc { files: Vec<Option<PathBuf>>, lesions: Vec<String> },
}

/// An 8-bit identity is used again after 255 others.
#[derive(Debug, Default)]
struct Generations {
    introduced: u64,
    /// Identity → generation, and how many had been introduced when it was last seen.
    seen: HashMap<u8, (u64, u64)>,
}

impl Generations {
    fn unique(&mut self, id: u8) -> u64 {
        let entry = self.seen.get(&id).copied();
        let generation = match entry {
            Some((generation, at)) if self.introduced - at < 200 => generation,
            Some((generation, _)) => {
                self.introduced += 1;
                generation + 1
            }
            None => {
                self.introduced += 1;
                0
            }
        };
        self.seen.insert(id, (generation, self.introduced));
        generation * 256 + u64::from(id)
    }
}

#[derive(Debug, Deserialize)]
struct PhantomLine {
    frame: u64,
}

/// The longest file of boxes: some hours of video with a box or two on every frame.
const LONGEST_BOXES: u64 = 32 << 20;

#[derive(Debug, Deserialize)]
struct BoxFile {
    width: u32,
    height: u32,
    frames: Vec<Option<Box<[BoxLine]>>>,
}

#[derive(Debug, Deserialize)]
struct BoxLine {
    /// Corners: x0, y0, x1, y1.
    bbox: [f64; 4],
    #[serde(default)]
    id: Option<u64>,
}

impl Truth {
    /// Opens a phantom's folder (with `truth.jsonl`), a folder of masks (a number as name is a frame's, counted from 0;
    /// otherwise the files are the frames in natural order), or a file of boxes.
    ///
    /// # Errors
    /// It cannot be read, is none of these, or contradicts itself.
    pub fn open(path: &Path) -> Result<Self> {
        let kind = if path.is_dir() {
            let lines = path.join("truth.jsonl");
            if lines.is_file() { phantom(path, &lines)? } else { masks(path)? }
        } else {
            boxes(path)?
        };
        Ok(Self::of(kind))
    }

    fn of(kind: Kind) -> Self {
        Self { kind, specks: 0, levels: MaskLevels::Auto, notes: BTreeMap::new() }
    }

    /// A mask a frame, in order; a frame without one has no polyp if `clean`, otherwise nobody looked.
    pub(super) fn paired(masks: Vec<Option<PathBuf>>, clean: bool) -> Self {
        Self::of(Kind::Paired { masks, clean })
    }

    /// A file of boxes a frame, in order, as PASCAL VOC writes them; `lesions` numbers those that are known, from 1.
    pub(super) fn voc(files: Vec<Option<PathBuf>>, lesions: Vec<String>) -> Self {
        Self::of(Kind::Voc { files, lesions })
    }

    /// Which levels of masks belong to polyps.
    #[must_use]
    pub fn with_levels(mut self, levels: MaskLevels) -> Self {
        self.levels = levels;
        self
    }

    /// Rules that masks were read by so far, and for how many.
    pub fn notes(&self) -> &BTreeMap<NoteKind, u64> {
        &self.notes
    }

    /// Frames the truth speaks of, at most.
    pub fn frames(&self) -> u64 {
        match &self.kind {
            Kind::Phantom { frames, .. } | Kind::Masks { frames, .. } => *frames,
            Kind::Boxes { frames, .. } => frames.len() as u64,
            Kind::Paired { masks: files, .. } | Kind::Voc { files, .. } => files.len() as u64,
        }
    }

    /// What it is, in words.
    pub fn describe(&self) -> &'static str {
        match &self.kind {
            Kind::Phantom { .. } => "a phantom's truth: masks with identities",
            Kind::Masks { .. } => "masks without identities: each connected region is a polyp",
            Kind::Boxes { frames, .. } => {
                if frames.iter().flatten().flatten().any(|b| b.id.is_some()) {
                    "boxes with identities"
                } else {
                    "boxes without identities"
                }
            }
            Kind::Paired { clean: true, .. } => {
                "masks without identities, named like their frames: a frame without a mask has no polyp"
            }
            Kind::Paired { clean: false, .. } => "masks without identities, named like their frames",
            Kind::Voc { .. } => "boxes with the lesions they belong to",
        }
    }

    /// Whether the names of its files are the numbers of frames; the first frame of the video is 0, the first file's
    /// may be another.
    pub fn is_numbered(&self) -> bool {
        matches!(self.kind, Kind::Masks { numbered: true, .. })
    }

    /// Regions of truth masks that were too small to be polyps, so far.
    pub fn specks(&self) -> u64 {
        self.specks
    }

    /// The polyps of a frame of the size given (width, height), or of any size; `None` if the truth does not speak of
    /// it.
    ///
    /// # Errors
    /// A file is missing, unreadable, or of another size than the video.
    pub fn frame(&mut self, frame: u64, size: Option<(usize, usize)>) -> Result<Option<Vec<TruthObject>>> {
        let check = |name: &Path, w: usize, h: usize| {
            let Some((width, height)) = size.filter(|&size| size != (w, h)) else { return Ok(()) };
            Err(Error::input(format!(
                "{}: the truth is {w}x{h} but frame {frame} of the video is {width}x{height}",
                name.display()
            ))
            .remedy("give the truth of this video at its size"))
        };
        match &mut self.kind {
            Kind::Phantom { folder, frames, ids } => {
                if frame >= *frames {
                    return Ok(None);
                }
                let path = folder.join(format!("{frame:06}.png"));
                let map = read::identities(&path)?;
                check(&path, map.width() as usize, map.height() as usize)?;
                let mut used = [false; 256];
                map.as_raw().iter().for_each(|&v| used[usize::from(v)] = true);
                let objects = (1..=255u8).filter(|id| used[usize::from(*id)]).map(|id| TruthObject {
                    id: Some(ids.unique(id)),
                    region: Region::from_map(map.width() as usize, map.as_raw(), (0, 0), |v| v == id),
                    is_box: false,
                });
                Ok(Some(objects.collect()))
            }
            Kind::Masks { files, .. } => {
                let Some(path) = files.get(&frame) else { return Ok(None) };
                let path = path.clone();
                self.mask(&path, check).map(Some)
            }
            Kind::Paired { masks, clean } => {
                let Some(entry) = usize::try_from(frame).ok().and_then(|i| masks.get(i)) else {
                    return Ok(None);
                };
                match entry.clone() {
                    None => Ok(clean.then(Vec::new)),
                    Some(path) => self.mask(&path, check).map(Some),
                }
            }
            Kind::Voc { files, lesions } => {
                let Some(Some(path)) = usize::try_from(frame).ok().and_then(|i| files.get(i)) else {
                    return Ok(None);
                };
                let annotation = voc::read(path)?;
                let (w, h) = annotation.size;
                check(path, w, h)?;
                Ok(Some(annotation.objects(lesions)))
            }
            Kind::Boxes { path, frames, size: (width, height) } => {
                check(path, *width, *height)?;
                let Some(Some(boxes)) = usize::try_from(frame).ok().and_then(|i| frames.get(i)) else {
                    return Ok(None);
                };
                Ok(Some(
                    boxes
                        .iter()
                        .map(|b| TruthObject {
                            id: b.id,
                            region: Region::from_bounds(Bounds::of_pixels(
                                b.bbox,
                                *width as f64,
                                *height as f64,
                            )),
                            is_box: true,
                        })
                        .collect(),
                ))
            }
        }
    }
}

impl Truth {
    /// The regions of a mask.
    fn mask(
        &mut self,
        path: &Path,
        check: impl Fn(&Path, usize, usize) -> Result<()>,
    ) -> Result<Vec<TruthObject>> {
        let (mut masks, notes) = read::masks(path, &Classes::one(), self.levels)?;
        notes.into_iter().for_each(|kind| *self.notes.entry(kind).or_default() += 1);
        let mask = masks.swap_remove(0);
        check(path, mask.width(), mask.height())?;
        let regions = components(mask.width(), mask.pixels(), (0, 0))?;
        let all = regions.len();
        let objects: Vec<TruthObject> = regions
            .into_iter()
            .filter(|r| r.area_px() >= SPECK_PX)
            .map(|region| TruthObject { id: None, region, is_box: false })
            .collect();
        self.specks += (all - objects.len()) as u64;
        Ok(objects)
    }
}

fn phantom(folder: &Path, lines: &Path) -> Result<Kind> {
    let mut frames = 0;
    for (i, line) in small_file::Lines::open(lines, "a phantom's truth.jsonl")?.enumerate() {
        let line = line?;
        if line.trim().is_empty() {
            continue;
        }
        let said: PhantomLine = serde_json::from_str(&line).map_err(|e| {
            Error::input(format!("{}, line {}: is no truth of a frame ({e})", lines.display(), i + 1))
                .because(e)
        })?;
        if said.frame != frames {
            return Err(Error::input(format!(
                "{}, line {}: frame {} where frame {frames} should be",
                lines.display(),
                i + 1,
                said.frame
            ))
            .remedy("render the phantom again"));
        }
        frames += 1;
    }
    Ok(Kind::Phantom { folder: folder.to_path_buf(), frames, ids: Generations::default() })
}

fn masks(folder: &Path) -> Result<Kind> {
    let found = crate::evaluation::images::list_pictures(folder)?;
    if found.is_empty() {
        return Err(Error::input(format!("{}: holds neither truth.jsonl nor a mask", folder.display()))
            .remedy("give a phantom's truth, a folder of masks, or a file of boxes"));
    }
    let numbers: Option<Vec<u64>> = found.iter().map(|(stem, _)| stem.parse().ok()).collect();
    let numbered = numbers.is_some();
    let files: HashMap<u64, PathBuf> = match numbers {
        Some(numbers) => {
            let mut files = HashMap::new();
            for (number, (_, path)) in numbers.into_iter().zip(found) {
                let shown = path.display().to_string();
                if let Some(other) = files.insert(number, path) {
                    return Err(Error::input(format!(
                        "{shown} and {} are of the same frame",
                        other.display()
                    ))
                    .remedy("keep one of them"));
                }
            }
            files
        }
        None => {
            let mut named = found;
            named.sort_by(|a, b| natural_order(&a.0, &b.0));
            (0..).zip(named.into_iter().map(|(_, path)| path)).collect()
        }
    };
    let frames = files.keys().max().map_or(0, |last| last.saturating_add(1));
    Ok(Kind::Masks { files, frames, numbered })
}

fn boxes(path: &Path) -> Result<Kind> {
    let bytes = small_file::read(path, LONGEST_BOXES, "a file of boxes")?;
    let file: BoxFile = serde_json::from_slice(&bytes).map_err(|e| {
        Error::input(format!("{}: is no file of boxes ({e})", path.display()))
            .remedy("give {\"width\", \"height\", \"frames\": [[{\"bbox\": [x0, y0, x1, y1]}, …], …]}")
            .because(e)
    })?;
    if file.width.max(file.height) >= LONGEST_SIDE {
        return Err(Error::input(format!(
            "{}: is said to be of frames of {}x{}",
            path.display(),
            file.width,
            file.height
        ))
        .remedy("give the size of the video's frames"));
    }
    let (w, h) = (f64::from(file.width), f64::from(file.height));
    for (frame, boxes) in file.frames.iter().enumerate() {
        if boxes.as_ref().is_some_and(|b| b.len() > MOST_BOXES) {
            return Err(Error::input(format!(
                "{}, frame {frame}: has more than {MOST_BOXES} boxes",
                path.display()
            ))
            .remedy("give each polyp one box"));
        }
        for b in boxes.iter().flatten() {
            let [x0, y0, x1, y1] = b.bbox;
            if !(x0 < x1 && y0 < y1 && x0 < w && y0 < h && x1 > 0.0 && y1 > 0.0) {
                return Err(Error::input(format!(
                    "{}, frame {frame}: {:?} is no box within {}x{}",
                    path.display(),
                    b.bbox,
                    file.width,
                    file.height
                ))
                .remedy("give corners x0, y0, x1, y1 with x0 < x1 and y0 < y1"));
            }
        }
    }
    let size = (file.width as usize, file.height as usize);
    Ok(Kind::Boxes { path: path.to_path_buf(), frames: file.frames, size })
}
