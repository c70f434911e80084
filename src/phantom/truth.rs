//! What is really to be seen in a frame: the mask and motion that `Phantom::render` found go in, `truth.jsonl` and one
//! PNG a frame come out.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{BufWriter, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::{ExtendedColorType, ImageEncoder};
use serde::Serialize;

use crate::result_file::{Aside, not_named, rename_new};
use crate::{Error, Result};

/// A polyp that shows in a frame.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct VisiblePolyp {
    /// The same in every frame that shows it, 1..=255; the 256th polyp of a clip is 1 again.
    pub id: u8,
    /// x, y, width, height in pixels, the tightest box around its visible pixels.
    pub bbox: [u32; 4],
    /// Visible pixels.
    pub area_px: u64,
}

/// Ground truth of one frame.
#[derive(Clone, Debug, PartialEq)]
pub struct Truth {
    /// Pixels in a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// A byte a pixel, rows from the top: 0, or the id of the polyp (head, body and stalk) whose surface lies in the
    /// pixel's middle.
    pub mask: Vec<u8>,
    /// Affine map from the previous frame to this one, in pixels, pixel middles at .5: a point at (x, y) in the
    /// previous frame is now at (m0 x + m1 y + m2, m3 x + m4 y + m5).
    ///
    /// The true motion is not affine (near mucosa moves more than far): this is the least-squares fit to the true
    /// displacement of all mucosa that is visible now and was within the field of view one frame before, every eighth
    /// pixel of every eighth row weighing the same. The identity for frame 0.
    pub motion: [f64; 6],
    /// Polyps with at least one visible pixel, by id.
    pub polyps: Vec<VisiblePolyp>,
}

/// The map that moves nothing.
pub const STILL: [f64; 6] = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0];

impl Truth {
    /// Truth of an empty frame.
    pub fn new(width: u32, height: u32) -> Self {
        Self {
            width,
            height,
            mask: vec![0; width as usize * height as usize],
            motion: STILL,
            polyps: Vec::with_capacity(255),
        }
    }

    /// Lists the polyps found in the mask.
    pub(crate) fn measure(&mut self) {
        let width = self.width as usize;
        // First row, last row, first column, last column, pixels.
        let mut found = [(u32::MAX, 0u32, u32::MAX, 0u32, 0u64); 256];
        for (y, row) in self.mask.chunks_exact(width).enumerate() {
            let y = y as u32;
            let mut x = 0;
            while x < width {
                // Most of a mask is nothing: look at eight pixels at once.
                if let Some(eight) = row[x..].first_chunk::<8>()
                    && u64::from_ne_bytes(*eight) == 0
                {
                    x += 8;
                    continue;
                }
                if row[x] != 0 {
                    let f = &mut found[usize::from(row[x])];
                    f.0 = f.0.min(y);
                    f.1 = f.1.max(y);
                    f.2 = f.2.min(x as u32);
                    f.3 = f.3.max(x as u32);
                    f.4 += 1;
                }
                x += 1;
            }
        }
        self.polyps.clear();
        for (id, f) in found.into_iter().enumerate().filter(|(_, f)| f.4 > 0) {
            self.polyps.push(VisiblePolyp {
                id: id as u8,
                bbox: [f.2, f.0, f.3 - f.2 + 1, f.1 - f.0 + 1],
                area_px: f.4,
            });
        }
    }
}

/// Writes truth to a folder only its owner may read: `000000.png`, `000001.png` … and `truth.jsonl`.
///
/// They are written aside and take their names in [`TruthWriter::finish`]; dropped before, they are removed.
pub struct TruthWriter {
    folder: PathBuf,
    lines: BufWriter<File>,
    overwrite: bool,
    /// Names of the masks written.
    masks: Vec<String>,
    aside: Aside,
}

#[derive(Serialize)]
struct Line<'a> {
    frame: u64,
    pts_ns: u64,
    polyps: &'a [VisiblePolyp],
    motion: [f64; 6],
}

impl TruthWriter {
    /// Makes the folder (and those above it) where needed. Refuses one that holds a `truth.jsonl`, unless `overwrite`.
    pub fn create(folder: &Path, overwrite: bool) -> Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(|e| Error::write(folder, e))?;
        let path = folder.join(LINES);
        if path.exists() && !overwrite {
            return Err(Error::output(format!("{}: exists already", path.display()))
                .remedy("choose another folder or add --force"));
        }
        let aside = Aside::folder(folder).map_err(|e| Error::write(folder, e))?;
        let lines = BufWriter::new(private(&aside.path().join(LINES), &path)?);
        Ok(Self { folder: folder.into(), lines, overwrite, masks: Vec::new(), aside })
    }

    /// Writes one frame's mask and line.
    pub fn write(&mut self, frame: u64, pts_ns: u64, truth: &Truth) -> Result<()> {
        let name = format!("{frame:06}.png");
        let path = self.folder.join(&name);
        let mut file = BufWriter::new(private(&self.aside.path().join(&name), &path)?);
        self.masks.push(name);
        PngEncoder::new_with_quality(&mut file, CompressionType::Fast, FilterType::NoFilter)
            .write_image(&truth.mask, truth.width, truth.height, ExtendedColorType::L8)
            .map_err(|e| {
                Error::output(format!("{}: the mask cannot be written ({e})", path.display())).because(e)
            })?;
        file.flush().map_err(|e| Error::write(&path, e))?;
        let line = Line { frame, pts_ns, polyps: &truth.polyps, motion: truth.motion };
        let failed = |e: std::io::Error| Error::write(&self.folder.join(LINES), e);
        serde_json::to_writer(&mut self.lines, &line).map_err(|e| failed(e.into()))?;
        self.lines.write_all(b"\n").map_err(failed)
    }

    /// Completes the files and gives them their names, that of the lines last.
    ///
    /// # Errors
    /// A full disk; a mask that is there already, unless they may be overwritten.
    pub fn finish(mut self) -> Result<()> {
        self.lines.flush().map_err(|e| Error::write(&self.folder.join(LINES), e))?;
        for name in self.masks.iter().map(String::as_str).chain([LINES]) {
            let (from, to) = (self.aside.path().join(name), self.folder.join(name));
            let named =
                if self.overwrite { std::fs::rename(from, &to) } else { rename_new(&from, &to, false) };
            named.map_err(|e| not_named(&to, e))?;
        }
        Ok(())
    }
}

const LINES: &str = "truth.jsonl";

/// A new file at `path`, called `shown` in messages.
fn private(path: &Path, shown: &Path) -> Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(|e| Error::write(shown, e))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn blob() -> Truth {
        let mut t = Truth::new(21, 9);
        for (x, y, id) in [(3, 2, 7u8), (4, 2, 7), (3, 5, 7), (20, 8, 2)] {
            t.mask[y * 21 + x] = id;
        }
        t.motion = [1.0, 0.0, -2.5, 0.0, 1.0, 0.25];
        t.measure();
        t
    }

    #[test]
    fn boxes_and_areas_come_from_the_mask() {
        let t = blob();
        assert_eq!(
            t.polyps,
            [
                VisiblePolyp { id: 2, bbox: [20, 8, 1, 1], area_px: 1 },
                VisiblePolyp { id: 7, bbox: [3, 2, 2, 4], area_px: 3 },
            ]
        );
    }

    #[test]
    fn files_hold_the_truth_and_are_private() {
        let dir = tempfile::tempdir().expect("scratch");
        let folder = dir.path().join("a/b");
        let mut w = TruthWriter::create(&folder, false).expect("folder");
        w.write(0, 0, &blob()).expect("frame");
        w.write(1, 33_333_333, &blob()).expect("frame");
        w.finish().expect("end");
        let text = std::fs::read_to_string(folder.join("truth.jsonl")).expect("lines");
        let lines: Vec<serde_json::Value> =
            text.lines().map(|l| serde_json::from_str(l).expect("json")).collect();
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[1]["frame"], 1);
        assert_eq!(lines[1]["pts_ns"], 33_333_333);
        assert_eq!(lines[1]["polyps"][1]["bbox"], serde_json::json!([3, 2, 2, 4]));
        assert_eq!(lines[1]["polyps"][1]["area_px"], 3);
        assert_eq!(lines[1]["motion"], serde_json::json!([1.0, 0.0, -2.5, 0.0, 1.0, 0.25]));
        let mask = image::open(folder.join("000001.png")).expect("png").into_luma8();
        assert_eq!(mask.dimensions(), (21, 9));
        assert_eq!(mask.into_raw(), blob().mask);
        let mode = |p: &Path| std::fs::metadata(p).expect("there").permissions().mode() & 0o777;
        assert_eq!(mode(&folder), 0o700);
        assert_eq!(mode(&folder.join("truth.jsonl")), 0o600);
        assert_eq!(mode(&folder.join("000000.png")), 0o600);
        let e = TruthWriter::create(&folder, false).err().expect("must refuse");
        assert!(e.to_string().contains("truth.jsonl: exists already; choose another folder"), "{e}");
        TruthWriter::create(&folder, true).expect("forced");
    }
}
