//! What was detected in a video: a replay's `frames.jsonl`, a folder of predicted maps or finished masks flow in, the
//! regions of one frame after the other flow out.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::frame_map::FrameMap;
use super::region::{LONGEST_SIDE, Region, components};
use crate::evaluation::images::{NoteKind, read, scale::Scales};
use crate::frame::{FrameId, Mask, Pts, Rect};
use crate::postprocess::logit;
use crate::small_file::Lines;
use crate::still::names::natural_order;
use crate::{Error, Result};

/// The regions marked on one frame.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FrameDetections {
    /// Number of the frame, from 0.
    pub frame: u64,
    /// Its presentation time in ns.
    pub pts_ns: u64,
    /// In pixels of the source's picture; a region for each polyp that was marked.
    pub regions: Vec<Region>,
}

impl FrameDetections {
    /// The connected regions of a finished mask, in source pixels.
    ///
    /// # Errors
    /// The mask contradicts its own size.
    pub fn from_mask(mask: &Mask) -> Result<Self> {
        let view = mask.field_of_view;
        let regions = if mask.area_px == 0 {
            Vec::new()
        } else {
            components(view.w as usize, &mask.inside, (view.x as i32, view.y as i32))?
        };
        Ok(Self { frame: mask.frame.0, pts_ns: mask.pts.0, regions })
    }
}

/// Detections read frame by frame.
#[derive(Debug)]
pub struct Detections {
    path: PathBuf,
    kind: Kind,
    /// Frame expected next.
    next: u64,
    /// Numbers that no frame carried so far, and the first of them.
    skipped: (u64, u64),
    /// Of a replay's record, blank ones too.
    lines_read: u64,
    size: Option<(usize, usize)>,
    notes: BTreeMap<NoteKind, u64>,
    /// The last map as logits, where somebody wants it.
    logits: Option<Vec<f32>>,
}

#[derive(Debug)]
enum Kind {
    Lines(Lines),
    Maps { files: std::vec::IntoIter<(u64, PathBuf)>, threshold: f64, period_ns: f64, scales: Scales },
}

/// The part of a replay's record that is judged.
#[derive(Debug, Deserialize)]
struct Line {
    frame: u64,
    pts_ns: u64,
    polyps: Vec<Outlined>,
}

#[derive(Debug, Deserialize)]
struct Outlined {
    contour: Vec<[i32; 2]>,
}

/// Whether these outlines are such as a picture has: within its largest sides, and with no more points and rows than
/// can be gone through. A line of a hundred bytes could otherwise ask for the memory of two thousand million rows.
fn can_be_filled(polyps: &[Outlined]) -> bool {
    const MOST_STEPS: u64 = 1 << 26;
    // A run of pixels for each edge and row that it crosses.
    const MOST_RUNS: u64 = 1 << 22;
    let (mut steps, mut runs) = (0u64, 0u64);
    for Outlined { contour } in polyps {
        if contour.iter().flatten().any(|v| v.unsigned_abs() >= LONGEST_SIDE) {
            return false;
        }
        let (lowest, highest) =
            contour.iter().fold((i32::MAX, i32::MIN), |(l, h), p| (l.min(p[1]), h.max(p[1])));
        let rows = i64::from(highest) - i64::from(lowest) + 1;
        steps += rows.max(0) as u64 * contour.len() as u64;
        let edges = contour.iter().zip(contour.iter().cycle().skip(1));
        runs += edges.map(|(a, b)| u64::from(a[1].abs_diff(b[1])) + 1).sum::<u64>();
    }
    steps <= MOST_STEPS && runs <= MOST_RUNS
}

impl Detections {
    /// A replay's `frames.jsonl`: each polyp is what its outline encloses. Numbers may be missing where the recording
    /// lost frames, see [`Self::skipped`].
    ///
    /// # Errors
    /// The file cannot be opened.
    pub fn from_replay(path: &Path) -> Result<Self> {
        let kind = Kind::Lines(Lines::open(path, "the frames.jsonl of a replay")?);
        Ok(Self {
            path: path.to_path_buf(),
            kind,
            next: 0,
            skipped: (0, 0),
            lines_read: 0,
            size: None,
            notes: BTreeMap::new(),
            logits: None,
        })
    }

    /// A folder of probability maps, one a frame in natural order (names that count from 0 are frame numbers, and may
    /// be missing where frames were lost), cut at `threshold` (and at least 1 level above black); connected regions are
    /// detections. `certain` as in the scoring of pictures.
    ///
    /// # Errors
    /// The folder cannot be listed or holds no picture, or the frame rate is none.
    pub fn from_maps(
        folder: &Path,
        threshold: f64,
        certain: Option<u16>,
        frames_per_second: f64,
    ) -> Result<Self> {
        let mut found = crate::evaluation::images::list_pictures(folder)?;
        if found.is_empty() {
            return Err(Error::input(format!("{}: holds no picture", folder.display()))
                .remedy("give a folder with one probability map a frame"));
        }
        if !(frames_per_second > 0.0 && frames_per_second.is_finite()) {
            return Err(Error::usage(format!("{frames_per_second} frames a second is no frame rate")));
        }
        found.sort_by(|a, b| natural_order(&a.0, &b.0));
        // Masks of a replay are named by frame, and a frame that was lost has none.
        let numbers: Option<Vec<u64>> = found.iter().map(|(name, _)| name.parse().ok()).collect();
        let numbers = numbers.filter(|n| n.first() == Some(&0) && n.windows(2).all(|w| w[0] < w[1]));
        let files: Vec<PathBuf> = found.into_iter().map(|(_, path)| path).collect();
        let scales = Scales::new(files.clone(), certain);
        let numbered = files
            .into_iter()
            .enumerate()
            .map(|(i, path)| (numbers.as_ref().and_then(|n| n.get(i).copied()).unwrap_or(i as u64), path));
        let files = numbered.collect::<Vec<_>>().into_iter();
        let kind = Kind::Maps { files, threshold, period_ns: 1e9 / frames_per_second, scales };
        Ok(Self {
            path: folder.to_path_buf(),
            kind,
            next: 0,
            skipped: (0, 0),
            lines_read: 0,
            size: None,
            notes: BTreeMap::new(),
            logits: None,
        })
    }

    /// Takes the numbers in the maps' names for those of frames, whatever the first is: as a truth's masks are taken
    /// that are named by numbers ([`Truth::is_numbered`](super::Truth::is_numbered)). Names that are no numbers stay in
    /// their order.
    #[must_use]
    pub fn numbered(mut self) -> Self {
        if let Kind::Maps { files, .. } = &mut self.kind {
            let number = |path: &PathBuf| path.file_stem()?.to_str()?.parse::<u64>().ok();
            let named: Option<Vec<(u64, PathBuf)>> =
                files.as_slice().iter().map(|(_, path)| Some((number(path)?, path.clone()))).collect();
            if let Some(named) = named.filter(|n| n.windows(2).all(|w| w[0].0 < w[1].0)) {
                // What lies before the first is not lost.
                self.next = named.first().map_or(0, |first| first.0);
                *files = named.into_iter();
            }
        }
        self
    }

    /// Keeps each map for [`Self::map_of`].
    #[must_use]
    pub fn with_maps(mut self) -> Self {
        self.logits = Some(Vec::new());
        self
    }

    /// The map that the detections read last were cut from; `None` where there is none.
    ///
    /// It comes without a picture; who has one fills it in.
    pub fn map_of(&self, detected: &FrameDetections) -> Option<FrameMap<'_>> {
        let (Kind::Maps { threshold, .. }, Some(logits), Some((w, h))) =
            (&self.kind, &self.logits, self.size)
        else {
            return None;
        };
        let size = (w as u32, h as u32);
        Some(FrameMap {
            frame: FrameId(detected.frame),
            pts: Pts(detected.pts_ns),
            picture: None,
            picture_size: size,
            view: Rect::full(size.0, size.1),
            scenery: Rect::full(size.0, size.1),
            logits,
            classes: 1,
            size: (h, w),
            level: logit(*threshold),
        })
    }

    /// How many frames were passed over so far because the recording lost them, and the number of the first.
    pub fn skipped(&self) -> Option<(u64, u64)> {
        (self.skipped.0 > 0).then_some(self.skipped)
    }

    /// Rules that maps were read by so far, and for how many.
    pub fn notes(&self) -> &BTreeMap<NoteKind, u64> {
        &self.notes
    }

    /// Width and height of the last frame read, where its source knows.
    pub fn size(&self) -> Option<(usize, usize)> {
        self.size
    }

    fn line(&mut self) -> Option<Result<FrameDetections>> {
        let Kind::Lines(lines) = &mut self.kind else { return None };
        let path = self.path.clone();
        loop {
            let read = lines.next()?;
            self.lines_read += 1;
            let number = self.lines_read;
            let place = || format!("{}, line {number}", path.display());
            let text = match read {
                Ok(text) if text.trim().is_empty() => continue,
                Ok(text) => text,
                Err(e) => return Some(Err(e)),
            };
            let line: Line = match serde_json::from_str(&text) {
                Ok(line) => line,
                Err(e) => {
                    return Some(Err(Error::input(format!("{}: is no record of a frame ({e})", place()))
                        .remedy("give the frames.jsonl of a replay that ended")
                        .because(e)));
                }
            };
            // A frame that could not be decoded has no line and keeps its number.
            if line.frame > self.next {
                if self.skipped.0 == 0 {
                    self.skipped.1 = self.next;
                }
                self.skipped.0 += line.frame - self.next;
                self.next = line.frame;
            }
            if line.frame != self.next {
                return Some(Err(Error::input(format!(
                    "{}: frame {} where frame {} should be",
                    place(),
                    line.frame,
                    self.next
                ))
                .remedy("give the whole frames.jsonl of one replay")));
            }
            if !can_be_filled(&line.polyps) {
                return Some(Err(Error::input(format!("{}: an outline is that of no picture", place()))
                    .remedy("give the frames.jsonl of a replay that ended")));
            }
            let regions = line.polyps.iter().map(|p| Region::from_outline(&p.contour)).collect();
            return Some(Ok(FrameDetections { frame: line.frame, pts_ns: line.pts_ns, regions }));
        }
    }

    fn map(&mut self) -> Option<Result<FrameDetections>> {
        let Kind::Maps { files, threshold, period_ns, scales } = &mut self.kind else { return None };
        let (number, path) = files.next()?;
        if number > self.next {
            if self.skipped.0 == 0 {
                self.skipped.1 = self.next;
            }
            self.skipped.0 += number - self.next;
            self.next = number;
        }
        let (threshold, frame) = (*threshold, self.next);
        let logits = &mut self.logits;
        let pts_ns = (frame as f64 * *period_ns).round() as u64;
        let read = read::prediction(&path, scales).and_then(|map| {
            let size = (map.prediction.width(), map.prediction.height());
            let inside = map.prediction.binary(threshold);
            if let Some(logits) = logits {
                let level = logit(threshold);
                map.prediction.logits(logits);
                // What is marked is decided once.
                for (l, &inside) in logits.iter_mut().zip(&inside) {
                    *l = if inside != 0 { l.max(level) } else { l.min(level - 1e-3) };
                }
            }
            let regions = components(size.0, &inside, (0, 0))?;
            Ok((size, map.notes, FrameDetections { frame, pts_ns, regions }))
        });
        Some(read.map(|(size, notes, detections)| {
            self.size = Some(size);
            notes.into_iter().for_each(|kind| *self.notes.entry(kind).or_default() += 1);
            detections
        }))
    }
}

impl Iterator for Detections {
    type Item = Result<FrameDetections>;

    /// After an error nothing more comes that could be trusted to be the right frame.
    fn next(&mut self) -> Option<Self::Item> {
        let item = match self.kind {
            Kind::Lines(_) => self.line(),
            Kind::Maps { .. } => self.map(),
        };
        self.next = self.next.saturating_add(1);
        item
    }
}
