//! What a network said of a video, kept in a file: maps flow in and out of it, frame by frame.
//!
//! The network takes nearly all the time of a measurement, and other settings of what comes after it need it only once.
//! The file begins with [`FIRST_LINE`]; then each frame has a line of JSON ([`Head`]) and behind it its logits,
//! little-endian `f32` in the order `[class, row, column]`.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::detections::FrameDetections;
use super::frame_map::FrameMap;
use super::region::components;
use crate::frame::{FrameId, Picture, Pts, Rect};
use crate::postprocess::Thresholder;
use crate::still::LARGEST_PIXELS;
use crate::{Error, Result, small_file};

/// The first line of the file.
pub const FIRST_LINE: &str = "polypscope maps 1";
/// No line is longer.
const LONGEST_LINE: u64 = 1000;
/// No map has more values: 16 classes of 2048x2048.
const MOST_VALUES: usize = 16 << 22;
const WHAT: &str = "a file that --keep-maps wrote";

/// What is written before the logits of a frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Head {
    frame: u64,
    pts_ns: u64,
    /// Width and height of the picture.
    picture: (u32, u32),
    /// Left, top, width and height of the part of the picture that the map covers.
    view: (u32, u32, u32, u32),
    classes: usize,
    height: usize,
    width: usize,
    /// The logit from which on a pixel is marked.
    level: f32,
}

/// A frame's entry in the file.
pub fn entry(map: &FrameMap, out: &mut Vec<u8>) -> Result<()> {
    let v = map.view;
    let head = Head {
        frame: map.frame.0,
        pts_ns: map.pts.0,
        picture: map.picture_size,
        view: (v.x, v.y, v.w, v.h),
        classes: map.classes,
        height: map.size.0,
        width: map.size.1,
        level: map.level,
    };
    out.clear();
    serde_json::to_writer(&mut *out, &head)
        .map_err(|e| Error::internal("a map cannot be described in JSON").because(e))?;
    out.push(b'\n');
    for v in map.logits {
        out.extend_from_slice(&v.to_le_bytes());
    }
    Ok(())
}

/// Reads the file again.
pub struct KeptMaps {
    path: PathBuf,
    file: BufReader<File>,
    head: Head,
    bytes: Vec<u8>,
    logits: Vec<f32>,
    thresholder: Thresholder,
    inside: Vec<u8>,
    values: Vec<f32>,
}

impl KeptMaps {
    /// # Errors
    /// A file that is missing, or that is none of these.
    pub fn open(path: &Path) -> Result<Self> {
        let mut maps = Self {
            path: path.to_owned(),
            file: BufReader::new(small_file::open(path, WHAT)?),
            head: Head::default(),
            bytes: Vec::new(),
            logits: Vec::new(),
            thresholder: Thresholder::default(),
            inside: Vec::new(),
            values: Vec::new(),
        };
        match maps.line()? {
            Some(line) if line == FIRST_LINE.as_bytes() => Ok(maps),
            _ => Err(maps.wrong("is no file of kept maps")),
        }
    }

    fn wrong(&self, how: &str) -> Error {
        Error::input(format!("{}: {how}", self.path.display())).remedy(format!("give {WHAT}, whole"))
    }

    fn line(&mut self) -> Result<Option<Vec<u8>>> {
        let mut line = Vec::new();
        let read = (&mut self.file).take(LONGEST_LINE).read_until(b'\n', &mut line);
        read.map_err(|e| Error::read(&self.path, e))?;
        if line.is_empty() {
            return Ok(None);
        }
        if line.pop() != Some(b'\n') {
            return Err(self.wrong("ends, or goes on, where a line should end"));
        }
        Ok(Some(line))
    }

    /// Goes on to the next frame; `false` after the last.
    ///
    /// # Errors
    /// A file that is cut off or damaged.
    pub fn advance(&mut self) -> Result<bool> {
        let before = self.head.frame;
        let first = self.logits.is_empty();
        let Some(line) = self.line()? else { return Ok(false) };
        let head: Head = serde_json::from_slice(&line)
            .map_err(|e| self.wrong("has a frame without its description").because(e))?;
        let (x, y, w, h) = head.view;
        let inside =
            |at: u32, side: u32, whole: u32| side > 0 && at.checked_add(side).is_some_and(|end| end <= whole);
        let n = head.classes.checked_mul(head.height).and_then(|n| n.checked_mul(head.width));
        let Some(n) = n.filter(|n| (1..=MOST_VALUES).contains(n)) else {
            return Err(self.wrong(&format!("has a map of an impossible size for frame {}", head.frame)));
        };
        if u64::from(head.picture.0) * u64::from(head.picture.1) > LARGEST_PIXELS {
            return Err(self.wrong(&format!("has a picture of an impossible size for frame {}", head.frame)));
        }
        if !(inside(x, w, head.picture.0) && inside(y, h, head.picture.1) && head.level.is_finite()) {
            return Err(self.wrong(&format!("has a map beside its picture for frame {}", head.frame)));
        }
        if !first && head.frame <= before {
            return Err(self.wrong(&format!("has frame {} after frame {before}", head.frame)));
        }
        // No more is taken than there is, whatever the description says.
        self.bytes.clear();
        let read = (&mut self.file).take(n as u64 * 4).read_to_end(&mut self.bytes);
        read.map_err(|e| Error::read(&self.path, e))?;
        if self.bytes.len() != n * 4 {
            return Err(self.wrong(&format!("is cut off within frame {}", head.frame)));
        }
        self.logits.clear();
        self.logits.extend(self.bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])));
        if !self.logits.iter().all(|v| v.is_finite()) {
            return Err(self.wrong(&format!("has values that are no numbers for frame {}", head.frame)));
        }
        self.head = head;
        Ok(true)
    }

    /// Number of the frame that was read last.
    pub fn frame(&self) -> u64 {
        self.head.frame
    }

    /// Width and height of its picture.
    pub fn picture_size(&self) -> (u32, u32) {
        self.head.picture
    }

    /// Its map, with its picture where there is one.
    pub fn map<'a>(&'a self, picture: Option<&'a Picture<'a>>) -> FrameMap<'a> {
        let Head { frame, pts_ns, picture: picture_size, view: (x, y, w, h), .. } = self.head;
        let view = Rect::new(x, y, w, h);
        FrameMap {
            frame: FrameId(frame),
            pts: Pts(pts_ns),
            picture,
            picture_size,
            view,
            scenery: view,
            logits: &self.logits,
            classes: self.head.classes,
            size: (self.head.height, self.head.width),
            level: self.head.level,
        }
    }

    /// What its map marks.
    ///
    /// # Errors
    /// None that a map could cause.
    pub fn detections(&mut self) -> Result<FrameDetections> {
        let Head { frame, pts_ns, view: (x, y, w, h), classes, height, width, level, .. } = self.head;
        let target = (h as usize, w as usize);
        self.inside.resize(target.0 * target.1, 0);
        self.values.resize(target.0 * target.1, 0.0);
        let (inside, values) = (&mut self.inside, &mut self.values);
        let found =
            self.thresholder.run(&self.logits, classes, (height, width), target, level, inside, values);
        let regions =
            if found.area == 0 { Vec::new() } else { components(target.1, inside, (x as i32, y as i32))? };
        Ok(FrameDetections { frame, pts_ns, regions })
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn map<'a>(frame: u64, logits: &'a [f32]) -> FrameMap<'a> {
        FrameMap {
            frame: FrameId(frame),
            pts: Pts(frame * 40_000_000 + 3),
            picture: None,
            picture_size: (60, 50),
            view: Rect::new(10, 5, 40, 40),
            scenery: Rect::new(10, 5, 40, 40),
            logits,
            classes: 1,
            size: (4, 4),
            level: 0.0,
        }
    }

    #[test]
    fn what_was_kept_comes_back_and_damage_is_named() {
        let mut logits = vec![-4.0f32; 16];
        logits[5] = 3.25;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("maps");
        let mut bytes = format!("{FIRST_LINE}\n").into_bytes();
        let mut one = Vec::new();
        for frame in [0, 2] {
            entry(&map(frame, &logits), &mut one).unwrap();
            bytes.extend_from_slice(&one);
        }
        let write = |bytes: &[u8]| File::create(&path).unwrap().write_all(bytes).unwrap();
        write(&bytes);
        let mut kept = KeptMaps::open(&path).unwrap();
        for frame in [0, 2] {
            assert!(kept.advance().unwrap());
            let back = kept.map(None);
            let wanted = map(frame, &logits);
            assert_eq!(
                (back.frame, back.pts, back.view, back.size),
                (wanted.frame, wanted.pts, wanted.view, wanted.size)
            );
            assert_eq!(back.logits, wanted.logits);
            let found = kept.detections().unwrap();
            assert_eq!(found.regions.len(), 1);
            // The second pixel of the second row, ten picture pixels a map pixel.
            assert!(found.regions[0].contains(10 + 15, 5 + 15));
        }
        assert!(!kept.advance().unwrap());

        write(&bytes[..bytes.len() - 1]);
        let mut cut = KeptMaps::open(&path).unwrap();
        assert!(cut.advance().unwrap());
        assert!(cut.advance().unwrap_err().to_string().contains("cut off within frame 2"));
        let text = String::from_utf8_lossy(&bytes).replace("[60,50]", "[4294967295,4294967295]");
        write(text.as_bytes());
        let said = KeptMaps::open(&path).unwrap().advance().unwrap_err().to_string();
        assert!(said.contains("impossible size for frame 0"), "{said}");
        write(b"something else\n");
        assert!(KeptMaps::open(&path).is_err());
        let twice = [&bytes[..], &one[..]].concat();
        write(&twice);
        let mut again = KeptMaps::open(&path).unwrap();
        assert!(again.advance().unwrap() && again.advance().unwrap());
        assert!(again.advance().unwrap_err().to_string().contains("frame 2 after frame 2"));
    }

    #[test]
    fn a_description_is_taken_up_to_its_limits_and_refused_beyond() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("maps");
        let advance = |head: &Head, values: &[f32]| -> Result<KeptMaps> {
            let mut bytes = format!("{FIRST_LINE}\n{}\n", serde_json::to_string(head).unwrap()).into_bytes();
            bytes.extend(values.iter().flat_map(|v| v.to_le_bytes()));
            std::fs::write(&path, bytes).unwrap();
            let mut kept = KeptMaps::open(&path).unwrap();
            assert!(kept.advance()?);
            Ok(kept)
        };
        let good = Head {
            frame: 7,
            pts_ns: 9,
            picture: (60, 50),
            view: (10, 5, 50, 45),
            classes: 1,
            height: 1,
            width: 2,
            level: 0.5,
        };
        let kept = advance(&good, &[1.0, -1.0]).unwrap();
        assert_eq!((kept.frame(), kept.picture_size(), kept.map(None).level), (7, (60, 50), 0.5));
        for view in [(10, 5, 51, 45), (10, 5, 50, 46), (10, 5, 0, 45), (10, 5, 50, 0), (u32::MAX, 5, 1, 45)] {
            let said = advance(&Head { view, ..good }, &[1.0, -1.0]).map(drop).unwrap_err().to_string();
            assert!(said.contains("beside its picture for frame 7"), "{view:?}: {said}");
        }
        // In JSON an infinite number can only be one that is too large.
        for value in [f32::NAN, f32::INFINITY] {
            let said = advance(&good, &[1.0, value]).map(drop).unwrap_err().to_string();
            assert!(said.contains("no numbers for frame 7"), "{said}");
        }
        for (classes, height) in [(0, 1), (1, 0), (usize::MAX, 2), (MOST_VALUES, 1)] {
            let said =
                advance(&Head { classes, height, ..good }, &[1.0, -1.0]).map(drop).unwrap_err().to_string();
            assert!(said.contains("impossible size for frame 7"), "{said}");
        }
    }
}
