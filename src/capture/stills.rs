//! A folder of pictures, played as a recording.
//!
//! In: picture files in order, and a frame rate. Out: RGB frames, all of the first one's size.

use std::path::{Path, PathBuf};
use std::time::Instant;

use image::RgbImage;
use image::imageops::{FilterType, overlay, resize};

use super::loss::Losses;
use super::source::size_change;
use super::{Ended, Frame, Loss, LossReason, Next, Source, Span};
use crate::frame::{FrameId, Nanos, PictureInfo, PixelFormat, Pts};
use crate::still::load_rgb;
use crate::{Error, Result};

/// Pictures, one frame each.
pub struct Stills {
    folder: PathBuf,
    files: Vec<PathBuf>,
    /// Frames a second as a fraction.
    rate: (u32, u32),
    next: usize,
    id: FrameId,
    first: Option<PictureInfo>,
    skipped: Vec<String>,
    losses: Losses,
    changed: Option<String>,
    span: Span,
}

impl Stills {
    /// # Errors
    /// No files.
    pub fn open(folder: &Path, files: Vec<PathBuf>, rate: (u32, u32), span: Span) -> Result<Self> {
        super::init()?;
        if files.is_empty() {
            return Err(Error::input(format!("{}: holds no pictures", folder.display())));
        }
        Ok(Self {
            folder: folder.to_owned(),
            files,
            rate,
            next: 0,
            id: FrameId(0),
            first: None,
            skipped: Vec::new(),
            losses: Losses::default(),
            changed: None,
            span,
        })
    }

    /// When picture `n` is shown.
    fn time(&self, n: usize) -> u64 {
        let (num, den) = self.rate;
        (n as u128 * 1_000_000_000 * u128::from(den) / u128::from(num)) as u64
    }

    /// A picture that cannot be read keeps its number.
    fn skip(&mut self, n: usize, why: &Error) {
        self.skipped.push(why.to_string());
        self.losses.add(Loss {
            reason: LossReason::Undecodable,
            at_ns: self.time(n),
            until_ns: Some(self.time(n + 1)),
            frame: Some(self.id.0),
            frames: Some(1),
        });
        self.id = self.id.next();
    }

    fn frame(&mut self, picture: &RgbImage, n: usize, decode: Nanos) -> Result<Frame> {
        let frame = Frame::from_rgb(picture.as_raw(), picture.dimensions(), self.rate)
            .map_err(|e| e.at(self.files[n].display()))?;
        let pts = Pts(self.time(n));
        let id = self.id;
        self.id = id.next();
        Ok(Frame { id, pts, duration: Some(Nanos(self.time(n + 1) - pts.0)), decode, ..frame })
    }
}

/// Fits a picture into a size, its proportions kept, on black.
fn fit(picture: &RgbImage, w: u32, h: u32) -> RgbImage {
    let scale = (f64::from(w) / f64::from(picture.width())).min(f64::from(h) / f64::from(picture.height()));
    let side = |v: u32, most: u32| ((f64::from(v) * scale).round() as u32).clamp(1, most);
    let small = resize(picture, side(picture.width(), w), side(picture.height(), h), FilterType::Triangle);
    let mut out = RgbImage::new(w, h);
    overlay(&mut out, &small, i64::from((w - small.width()) / 2), i64::from((h - small.height()) / 2));
    out
}

impl Source for Stills {
    fn next(&mut self) -> Result<Next> {
        loop {
            let n = self.next;
            let over = n >= self.files.len() || self.span.to.is_some_and(|to| self.time(n) >= to.0);
            if over {
                if self.first.is_none() {
                    return Err(match self.skipped.first() {
                        Some(why) => Error::input(why.clone()),
                        None => Error::usage(format!(
                            "{}: has no frames between --from and --to",
                            self.folder.display()
                        ))
                        .remedy("check the times"),
                    });
                }
                let cut_off = (!self.skipped.is_empty()).then(|| {
                    format!(
                        "{} of {} pictures could not be read (first: {})",
                        self.skipped.len(),
                        n,
                        self.skipped[0]
                    )
                });
                return Ok(Next::Ended(Ended {
                    cut_off,
                    changed: self.changed.clone(),
                    losses: self.losses(),
                }));
            }
            self.next += 1;
            if self.span.from.is_some_and(|from| self.time(n) < from.0) {
                continue;
            }
            let asked = Instant::now();
            let picture = match load_rgb(&self.files[n]) {
                Ok(p) => p,
                Err(e) => {
                    self.skip(n, &e);
                    continue;
                }
            };
            let (w, h) = picture.dimensions();
            let first = *self.first.get_or_insert(PictureInfo::new(PixelFormat::Rgb, w, h));
            let picture = if (w, h) == (first.width, first.height) {
                picture
            } else {
                self.changed.get_or_insert_with(|| size_change(&first, w, h));
                fit(&picture, first.width, first.height)
            };
            return Ok(Next::Frame(self.frame(&picture, n, asked.elapsed().into())?));
        }
    }

    fn losses(&self) -> Vec<Loss> {
        self.losses.clone().finish()
    }

    fn path(&self) -> &Path {
        &self.folder
    }

    fn expected_frames(&self) -> Option<u64> {
        let wanted = |n: &usize| {
            let t = self.time(*n);
            self.span.from.is_none_or(|f| t >= f.0) && self.span.to.is_none_or(|to| t < to.0)
        };
        Some((0..self.files.len()).filter(wanted).count() as u64)
    }

    fn fps(&self) -> Option<f64> {
        Some(f64::from(self.rate.0) / f64::from(self.rate.1))
    }
}
