//! How well moved masks stay on their polyps, apart from any network.
//!
//! In: phantoms, whose truth is known, or frames with masks in time order. A stand-in worker returns the true mask
//! late. Out: the mean IoU of the shown mask with the truth of the shown frame, with and without motion, and what it
//! costs.

use std::path::Path;
use std::time::Instant;

use serde::Serialize;

use crate::distribution::{Distribution, Histogram};
use crate::frame::{FrameId, Mask, Nanos, Picture, PictureInfo, PixelFormat, Polyp, Rate, Rect};
use crate::motion::{Mover, Tracker};
use crate::phantom::{Phantom, Preset, Settings, Truth};
use crate::still::folder::files;
use crate::{Error, Result};

/// Delays of the stand-in worker, in milliseconds.
const DELAYS_MS: [u64; 5] = [0, 33, 66, 100, 150];

/// One row of the result.
#[derive(Debug, Serialize)]
pub struct Row {
    pub source: String,
    pub delay_ms: u64,
    /// Frames with a polyp both in the mask's frame and in the shown one.
    pub count: u64,
    pub iou_still: f64,
    pub iou_moved: f64,
}

/// What was measured.
#[derive(Debug, Serialize)]
pub struct Report {
    pub rows: Vec<Row>,
    /// Reducing the frame and finding its motion.
    pub observe_us: Distribution,
    /// Moving a mask.
    pub move_us: Distribution,
}

/// Sums of one delay.
#[derive(Clone, Copy, Default)]
struct Sum {
    count: u64,
    still: f64,
    moved: f64,
}

/// What is measured along one sequence.
struct Bench {
    tracker: Tracker,
    mover: Mover,
    history: Vec<(FrameId, Mask)>,
    sums: [Sum; DELAYS_MS.len()],
    observe: Histogram,
    shift: Histogram,
}

impl Bench {
    fn new() -> Self {
        Self {
            tracker: Tracker::new(),
            mover: Mover::default(),
            history: Vec::new(),
            sums: [Sum::default(); DELAYS_MS.len()],
            observe: Histogram::new(),
            shift: Histogram::new(),
        }
    }

    fn restart(&mut self) {
        self.tracker.restart();
        self.history.clear();
    }

    /// One frame with its truth; the masks shown are those of `delay` frames ago.
    fn frame(&mut self, id: FrameId, picture: &Picture, truth: Mask, period_ms: f64) {
        let start = Instant::now();
        self.tracker.observe(id, picture, truth.field_of_view);
        self.observe.record(start.elapsed().into());
        for (delay, sum) in DELAYS_MS.iter().zip(&mut self.sums) {
            let back = (*delay as f64 / period_ms).round() as u64;
            let old = match back {
                0 => Some(&truth),
                _ => self.history.iter().find(|(of, _)| of.0 + back == id.0).map(|(_, m)| m),
            };
            let Some(old) = old.filter(|m| m.area_px > 0 && truth.area_px > 0) else { continue };
            let start = Instant::now();
            let moved = self.mover.run(&mut self.tracker, old);
            if back > 0 {
                self.shift.record(Nanos::from(start.elapsed()));
            }
            let still = iou(old, &truth);
            sum.count += 1;
            sum.still += still;
            sum.moved += moved.map_or(still, |m| iou(m, &truth));
        }
        if self.history.len() == 16 {
            self.history.remove(0);
        }
        self.history.push((id, truth));
    }

    fn rows(&self, source: &str) -> Vec<Row> {
        DELAYS_MS
            .iter()
            .zip(&self.sums)
            .filter(|(_, s)| s.count > 0)
            .map(|(delay, s)| Row {
                source: source.to_owned(),
                delay_ms: *delay,
                count: s.count,
                iou_still: s.still / s.count as f64,
                iou_moved: s.moved / s.count as f64,
            })
            .collect()
    }
}

fn iou(a: &Mask, b: &Mask) -> f64 {
    let (mut both, mut either) = (0u64, 0u64);
    for (a, b) in a.inside.iter().zip(&b.inside) {
        both += u64::from(*a & *b);
        either += u64::from(*a | *b);
    }
    if either == 0 { 1.0 } else { both as f64 / either as f64 }
}

/// A mask from labels (0: none), each label a polyp.
fn mask_of(id: FrameId, (width, height): (u32, u32), labels: &[u8]) -> Mask {
    let mut polyps: Vec<(u8, Polyp)> = Vec::new();
    for (i, label) in labels.iter().enumerate().filter(|(_, l)| **l != 0) {
        let (x, y) = (i as u32 % width, i as u32 / width);
        match polyps.iter_mut().find(|(l, _)| l == label) {
            Some((_, p)) => {
                let (x0, y0) = (p.bbox.x.min(x), p.bbox.y.min(y));
                let (x1, y1) = (p.bbox.right().max(x + 1), p.bbox.bottom().max(y + 1));
                p.bbox = Rect::new(x0, y0, x1 - x0, y1 - y0);
                p.area_px += 1;
            }
            None => {
                polyps.push((*label, Polyp { bbox: Rect::new(x, y, 1, 1), area_px: 1, ..Polyp::default() }))
            }
        }
    }
    let polyps: Vec<_> = polyps.into_iter().map(|(_, p)| p).collect();
    Mask {
        frame: id,
        width,
        height,
        field_of_view: Rect::full(width, height),
        inside: labels.iter().map(|l| u8::from(*l != 0)).collect(),
        area_px: polyps.iter().map(|p| p.area_px).sum(),
        polyps,
        ..Mask::default()
    }
}

fn phantoms(
    seeds: &[u64],
    seconds: u64,
    preset: Preset,
    all: &mut (Histogram, Histogram),
) -> Result<Vec<Row>> {
    let mut bench = Bench::new();
    let mut next = 0;
    for seed in seeds {
        bench.restart();
        let settings = Settings {
            seed: *seed,
            rate: Rate { numerator: 30, denominator: 1 },
            frames: seconds * 30,
            preset,
            polyps_per_minute: Some(20.0),
            threads: std::thread::available_parallelism().map_or(1, |n| n.get()),
            ..Settings::default()
        };
        let (w, h) = (settings.width, settings.height);
        let info = PictureInfo::new(PixelFormat::Rgb, w, h);
        let mut phantom = Phantom::new(settings.clone())?;
        let mut rgb = vec![0; w as usize * h as usize * 3];
        let mut truth = Truth::new(w, h);
        for n in 0..settings.frames {
            phantom.render(n, &mut rgb, &mut truth)?;
            let picture =
                Picture::packed(info, &rgb).ok_or_else(|| Error::internal("a phantom frame is too short"))?;
            let id = FrameId(next);
            next += 1;
            bench.frame(id, &picture, mask_of(id, (w, h), &truth.mask), 1000.0 / 30.0);
        }
        // A gap in the numbers, so that no mask outlives its sequence.
        next += 100;
    }
    all.0.add(&bench.observe);
    all.1.add(&bench.shift);
    Ok(bench.rows(&format!("phantom {preset}")))
}

/// Frames of real video one after the other, each taken as one period of 30 frames a second.
fn stills(images: &Path, masks: &Path, all: &mut (Histogram, Histogram)) -> Result<Vec<Row>> {
    let mut bench = Bench::new();
    for (n, path) in files(images)?.iter().enumerate() {
        let name = path.file_stem().unwrap_or_default();
        let mask = files(masks)?
            .into_iter()
            .find(|m| m.file_stem().unwrap_or_default() == name)
            .ok_or_else(|| Error::input(format!("{}: has no mask", path.display())))?;
        let picture = crate::still::load_rgb(path)?;
        let labels = image::DynamicImage::ImageRgb8(crate::still::load_rgb(&mask)?).into_luma8();
        if labels.dimensions() != picture.dimensions() {
            return Err(Error::input(format!("{}: has another size than its picture", mask.display())));
        }
        let (w, h) = picture.dimensions();
        let labels: Vec<u8> = labels.into_raw().into_iter().map(|v| u8::from(v > 127)).collect();
        let info = PictureInfo::new(PixelFormat::Rgb, w, h);
        let view =
            Picture::packed(info, &picture).ok_or_else(|| Error::internal("a picture is too short"))?;
        let id = FrameId(n as u64);
        bench.frame(id, &view, mask_of(id, (w, h), &labels), 1000.0 / 30.0);
    }
    all.0.add(&bench.observe);
    all.1.add(&bench.shift);
    Ok(bench.rows(&images.display().to_string()))
}

/// Along phantoms of every preset, one for each seed.
///
/// # Errors
/// Settings a phantom cannot have.
pub fn of_phantoms(seeds: &[u64], seconds: u64) -> Result<Report> {
    let mut all = (Histogram::new(), Histogram::new());
    let mut rows = Vec::new();
    for preset in Preset::ALL {
        rows.extend(phantoms(seeds, seconds, *preset, &mut all)?);
    }
    Ok(report(rows, &all))
}

/// Along frames of a folder, in the order of their names, with masks of the same names in another.
///
/// # Errors
/// Files that cannot be read, a frame without a mask of its size.
pub fn of_stills(images: &Path, masks: &Path) -> Result<Report> {
    let mut all = (Histogram::new(), Histogram::new());
    let rows = stills(images, masks, &mut all)?;
    Ok(report(rows, &all))
}

fn report(rows: Vec<Row>, (observe, shift): &(Histogram, Histogram)) -> Report {
    Report { rows, observe_us: observe.distribution(1e-3), move_us: shift.distribution(1e-3) }
}
