//! Recordings of public sets, as they are published: a folder of the set flows in, a recording's frames in their order
//! and its truth flow out.
//!
//! - REAL-Colon (Biffi et al. 2024): `SSS-VVV_frames/SSS-VVV_N.jpg`, `SSS-VVV_annotations/SSS-VVV_N.xml`, and beside
//!   them `video_info.csv` and `lesion_info.csv`.
//! - SUN-SEG (Ji et al. 2022): `Frame/CASE/NAME.jpg` and `GT/CASE/NAME.png`; a negative case has no `GT`.
//! - CVC-VideoClinicDB (Angermann et al. 2017): a folder a video, masks named like their frames with something behind
//!   (`1-1.png` and `1-1_mask.png`) in it or in a folder beside the frames'.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::truth::Truth;
use crate::still::folder::files;
use crate::still::names::{is_picture, natural_order};
use crate::{Error, Result, small_file};

/// How a set lies on a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// REAL-Colon: boxes with the names of lesions, an XML file a frame.
    RealColon,
    /// SUN-SEG: masks, a folder a case.
    SunSeg,
    /// CVC-VideoClinicDB: masks, a folder a video.
    CvcVideo,
}

impl Layout {
    /// Every layout that is read.
    pub const ALL: [Layout; 3] = [Layout::RealColon, Layout::SunSeg, Layout::CvcVideo];

    /// The name users type.
    pub const fn name(self) -> &'static str {
        match self {
            Self::RealColon => "real-colon",
            Self::SunSeg => "sun-seg",
            Self::CvcVideo => "cvc-video",
        }
    }
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Layout {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|l| l.name() == text).ok_or_else(|| {
            Error::usage(format!("{text:?} is no layout of a set"))
                .remedy("give real-colon, sun-seg or cvc-video")
        })
    }
}

/// One recording of a set.
#[derive(Debug)]
pub struct Set {
    /// In their order; empty if the frames themselves are not there.
    pub frames: Vec<PathBuf>,
    /// Its polyps, frame by frame.
    pub truth: Truth,
    /// Frames a second, where the set says.
    pub fps: Option<f64>,
}

impl Set {
    /// Opens one recording: for REAL-Colon its annotations (or frames, or the beginning `SSS-VVV` of both), for SUN-SEG
    /// a case under `Frame` or `GT`, for CVC-VideoClinicDB a video's folder.
    ///
    /// # Errors
    /// A folder that is none of the layout, or cannot be read.
    pub fn open(layout: Layout, path: &Path) -> Result<Self> {
        match layout {
            Layout::RealColon => real_colon(path),
            Layout::SunSeg => sun_seg(path),
            Layout::CvcVideo => cvc_video(path),
        }
    }
}

/// Files of a folder by stem, in natural order.
fn listed(folder: &Path, wanted: impl Fn(&Path) -> bool) -> Result<Vec<(String, PathBuf)>> {
    let mut found = Vec::new();
    for path in files(folder)?.into_iter().filter(|path| wanted(path)) {
        let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        found.push((stem, path));
    }
    found.sort_by(|a, b| natural_order(&a.0, &b.0));
    Ok(found)
}

fn is_xml(path: &Path) -> bool {
    path.extension().is_some_and(|e| e.eq_ignore_ascii_case("xml"))
}

fn not_this(path: &Path, layout: Layout, remedy: &str) -> Error {
    Error::input(format!("{}: is no recording as {layout} has them", path.display())).remedy(remedy)
}

fn real_colon(path: &Path) -> Result<Set> {
    const REMEDY: &str = "give the folder SSS-VVV_annotations, with SSS-VVV_frames beside it";
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let endings = ["_annotations", "_annotation", "_frames"];
    let video = endings.iter().find_map(|e| name.strip_suffix(e)).unwrap_or(&name).to_owned();
    let root = path
        .parent()
        .map_or_else(|| Path::new("."), |p| if p.as_os_str().is_empty() { Path::new(".") } else { p });
    let beside = |ending: &str| Some(root.join(format!("{video}{ending}"))).filter(|p| p.is_dir());
    let Some(annotations) = beside(endings[0]).or_else(|| beside(endings[1])) else {
        return Err(not_this(path, Layout::RealColon, REMEDY));
    };
    let files = listed(&annotations, is_xml)?;
    if files.is_empty() {
        return Err(not_this(&annotations, Layout::RealColon, REMEDY));
    }
    let frames = beside(endings[2]).map_or(Ok(Vec::new()), |folder| listed(&folder, is_picture))?;
    let truth: Vec<Option<PathBuf>> = if frames.is_empty() {
        files.into_iter().map(|(_, path)| Some(path)).collect()
    } else {
        let mut by_name: HashMap<String, PathBuf> = files.into_iter().collect();
        frames.iter().map(|(stem, _)| by_name.remove(stem)).collect()
    };
    let rows = |file: &str| -> Result<Vec<HashMap<String, String>>> {
        let path = root.join(file);
        if path.is_file() {
            table(&small_file::read_text(&path, small_file::LARGE, "a table of the set")?, &path)
        } else {
            Ok(Vec::new())
        }
    };
    let of_video = |row: &HashMap<String, String>| row.get("unique_video_name") == Some(&video);
    let info = rows("video_info.csv")?.into_iter().find(&of_video);
    let fps = match info.as_ref().and_then(|row| row.get("fps")) {
        None => None,
        Some(text) => {
            Some(text.parse().ok().filter(|v: &f64| *v > 0.0 && *v <= 1000.0).ok_or_else(|| {
                Error::input(format!(
                    "{}: the fps of {video} is {text:?}",
                    root.join("video_info.csv").display()
                ))
                .remedy("give the table as it was published")
            })?)
        }
    };
    let lesions = rows("lesion_info.csv")?
        .into_iter()
        .filter(of_video)
        .filter_map(|mut row| row.remove("unique_object_id"))
        .collect();
    let frames = frames.into_iter().map(|(_, path)| path).collect();
    Ok(Set { frames, truth: Truth::voc(truth, lesions), fps })
}

fn sun_seg(path: &Path) -> Result<Set> {
    const REMEDY: &str = "give a case under Frame or GT, such as TestEasyDataset/Frame/case2_3";
    let case = path.file_name();
    let side = path.parent().and_then(Path::file_name);
    let root = path.parent().and_then(Path::parent);
    let (Some(case), Some(_), Some(root)) = (case, side.filter(|s| *s == "Frame" || *s == "GT"), root) else {
        return Err(not_this(path, Layout::SunSeg, REMEDY));
    };
    let frames = root.join("Frame").join(case);
    if !frames.is_dir() {
        return Err(not_this(path, Layout::SunSeg, REMEDY));
    }
    let frames = listed(&frames, is_picture)?;
    let masks = root.join("GT").join(case);
    let mut masks: HashMap<String, PathBuf> =
        if masks.is_dir() { listed(&masks, is_picture)?.into_iter().collect() } else { HashMap::new() };
    let truth = frames.iter().map(|(stem, _)| masks.remove(stem)).collect();
    if let Some(left) = masks.into_values().next() {
        return Err(
            Error::input(format!("{}: belongs to no frame of the case", left.display())).remedy(REMEDY)
        );
    }
    // Of 30 frames a second throughout.
    let frames = frames.into_iter().map(|(_, path)| path).collect();
    Ok(Set { frames, truth: Truth::paired(truth, true), fps: Some(30.0) })
}

/// What is behind a frame's name in its mask's.
const MASK_ENDINGS: [&str; 7] = ["_mask", "-mask", "_gt", "-gt", "_polyp", "-polyp", "_groundtruth"];

fn without_ending(stem: &str) -> Option<&str> {
    let lower = stem.to_ascii_lowercase();
    let ending = MASK_ENDINGS.iter().find(|e| lower.ends_with(**e))?;
    stem.get(..stem.len() - ending.len())
}

fn cvc_video(path: &Path) -> Result<Set> {
    const REMEDY: &str =
        "give a video's folder with its frames, and their masks in it or in a folder `masks` beside `images`";
    if !path.is_dir() {
        return Err(not_this(path, Layout::CvcVideo, REMEDY));
    }
    let mut frames = Vec::new();
    let mut masks: HashMap<String, PathBuf> = HashMap::new();
    // Both in one folder, or in two of it.
    let mut folders = vec![(path.to_owned(), false)];
    for entry in std::fs::read_dir(path).map_err(|e| Error::read(path, e))? {
        let folder = entry.map_err(|e| Error::read(path, e))?.path();
        let name = folder.file_name().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
        if folder.is_dir() {
            let of_masks = ["masks", "mask", "gt", "groundtruth", "ground truth"].contains(&name.as_str());
            if of_masks || ["images", "image", "frames", "img"].contains(&name.as_str()) {
                folders.push((folder, of_masks));
            }
        }
    }
    for (folder, of_masks) in folders {
        for (stem, file) in listed(&folder, is_picture)? {
            match (of_masks, without_ending(&stem)) {
                (_, Some(frame)) => drop(masks.insert(frame.to_owned(), file)),
                (true, None) => drop(masks.insert(stem, file)),
                (false, None) => frames.push((stem, file)),
            }
        }
    }
    frames.sort_by(|a, b| natural_order(&a.0, &b.0));
    let truth: Vec<_> = frames.iter().map(|(stem, _)| masks.remove(stem)).collect();
    if frames.is_empty() || truth.iter().all(Option::is_none) {
        return Err(not_this(path, Layout::CvcVideo, REMEDY));
    }
    let frames = frames.into_iter().map(|(_, path)| path).collect();
    Ok(Set { frames, truth: Truth::paired(truth, false), fps: Some(25.0) })
}

/// Rows of a table whose first line names the columns; fields may be quoted.
fn table(text: &str, path: &Path) -> Result<Vec<HashMap<String, String>>> {
    let mut lines = text.trim_start_matches('\u{feff}').lines().filter(|l| !l.trim().is_empty());
    let names = fields(lines.next().unwrap_or_default());
    lines
        .enumerate()
        .map(|(i, line)| {
            let values = fields(line);
            if values.len() != names.len() {
                return Err(Error::input(format!(
                    "{}, row {}: has {} fields where {} are named",
                    path.display(),
                    i + 1,
                    values.len(),
                    names.len()
                ))
                .remedy("give the table as it was published"));
            }
            Ok(names.iter().cloned().zip(values).collect())
        })
        .collect()
}

fn fields(line: &str) -> Vec<String> {
    let mut out = vec![String::new()];
    let mut quoted = false;
    let mut characters = line.chars().peekable();
    while let Some(c) = characters.next() {
        match c {
            '"' if quoted && characters.peek() == Some(&'"') => {
                characters.next();
                if let Some(f) = out.last_mut() {
                    f.push('"');
                }
            }
            '"' => quoted = !quoted,
            ',' if !quoted => out.push(String::new()),
            c => {
                if let Some(f) = out.last_mut() {
                    f.push(c);
                }
            }
        }
    }
    out.iter().map(|f| f.trim().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use image::{GrayImage, Luma, RgbImage};

    use super::*;

    fn picture(path: &Path) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        RgbImage::new(40, 30).save(path).unwrap();
    }

    /// A square of a polyp, or none.
    fn mask(path: &Path, polyp: bool) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        GrayImage::from_fn(40, 30, |x, y| {
            Luma([if polyp && (10..20).contains(&x) && (5..15).contains(&y) { 255 } else { 0 }])
        })
        .save(path)
        .unwrap();
    }

    fn seen(set: &mut Set) -> Vec<Option<Vec<Option<u64>>>> {
        (0..set.truth.frames())
            .map(|n| {
                let objects = set.truth.frame(n, Some((40, 30))).unwrap();
                objects.map(|o| o.into_iter().map(|o| o.id).collect())
            })
            .collect()
    }

    #[test]
    fn a_recording_of_real_colon() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let annotation = |n: usize, objects: &str| {
            let path = at(&format!("002-001_annotations/002-001_{n}.xml"));
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            let text = format!(
                "<annotation><size><width>40</width><height>30</height></size>{objects}</annotation>"
            );
            std::fs::write(path, text).unwrap();
        };
        let lesion = "<object><name>lesion</name><unique_id>002-001_2</unique_id><bndbox><xmin>1</xmin><xmax>9</xmax>\
                      <ymin>1</ymin><ymax>9</ymax></bndbox></object>";
        for n in 0..12 {
            picture(&at(&format!("002-001_frames/002-001_{n}.png")));
            if n != 3 {
                annotation(n, if n >= 9 { lesion } else { "" });
            }
        }
        std::fs::write(
            at("video_info.csv"),
            "unique_video_name,age,fps,num_frames\n001-001,60,25,9\n002-001,\"61, about\",29.97,12\n",
        )
        .unwrap();
        std::fs::write(
            at("lesion_info.csv"),
            "unique_object_id,unique_video_name,size [mm]\n001-001_1,001-001,3\n002-001_1,002-001,4\n002-001_2,002-001,5\n",
        )
        .unwrap();
        for name in ["002-001_annotations", "002-001_frames", "002-001"] {
            let mut set = Set::open(Layout::RealColon, &at(name)).unwrap();
            assert_eq!((set.frames.len(), set.fps), (12, Some(29.97)));
            assert!(set.frames[10].ends_with("002-001_10.png"), "in the order of numbers");
            let mut wanted = vec![Some(vec![]); 12];
            wanted[3] = None;
            wanted[9..].fill(Some(vec![Some(2)]));
            assert_eq!(seen(&mut set), wanted);
        }
        assert!(
            Set::open(Layout::RealColon, &at("003-001")).unwrap_err().to_string().contains("_annotations")
        );
        std::fs::write(at("video_info.csv"), "unique_video_name,fps\n002-001\n").unwrap();
        assert!(Set::open(Layout::RealColon, &at("002-001")).unwrap_err().to_string().contains("row 1"));
    }

    #[test]
    fn cases_of_sun_seg() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for n in [1, 2, 10] {
            picture(&at(&format!("Frame/case1_1/image_{n}.png")));
            mask(&at(&format!("GT/case1_1/image_{n}.png")), n != 2);
            picture(&at(&format!("Frame/negative/image_{n}.png")));
        }
        for side in ["Frame", "GT"] {
            let mut set = Set::open(Layout::SunSeg, &at(&format!("{side}/case1_1"))).unwrap();
            assert!(set.frames[2].ends_with("image_10.png"));
            assert_eq!(seen(&mut set), [Some(vec![None]), Some(vec![]), Some(vec![None])]);
        }
        // By their names without the ending, which a dot begins that is after a dash.
        for name in ["a-1", "a", "a-1-1"] {
            picture(&at(&format!("Frame/dashes/{name}.png")));
        }
        let dashes = Set::open(Layout::SunSeg, &at("Frame/dashes")).unwrap();
        assert!(
            ["a.png", "a-1.png", "a-1-1.png"]
                .iter()
                .zip(&dashes.frames)
                .all(|(name, path)| path.ends_with(name))
        );
        let mut negative = Set::open(Layout::SunSeg, &at("Frame/negative")).unwrap();
        assert_eq!(seen(&mut negative), vec![Some(vec![]); 3]);
        assert!(Set::open(Layout::SunSeg, &at("Frame")).is_err());
        mask(&at("GT/case1_1/image_99.png"), true);
        let e = Set::open(Layout::SunSeg, &at("GT/case1_1")).unwrap_err();
        assert!(e.to_string().contains("image_99"), "{e}");
    }

    #[test]
    fn videos_of_cvc_with_masks_beside_or_apart() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for n in [1, 2, 11] {
            picture(&at(&format!("1/1-{n}.png")));
            if n != 2 {
                mask(&at(&format!("1/1-{n}_Mask.png")), n == 1);
            }
            picture(&at(&format!("2/images/2_{n}.png")));
            mask(&at(&format!("2/masks/2_{n}.png")), true);
        }
        let mut one = Set::open(Layout::CvcVideo, &at("1")).unwrap();
        assert_eq!(one.frames.len(), 3);
        assert_eq!(seen(&mut one), [Some(vec![None]), None, Some(vec![])]);
        let mut two = Set::open(Layout::CvcVideo, &at("2")).unwrap();
        assert_eq!(seen(&mut two), vec![Some(vec![None]); 3]);
        assert!(Set::open(Layout::CvcVideo, dir.path()).is_err());
    }

    #[test]
    fn layouts_are_read_by_their_names() {
        for layout in Layout::ALL {
            assert_eq!(layout.to_string().parse::<Layout>().unwrap(), layout);
        }
        assert_eq!(Layout::ALL.map(|l| l.to_string()), ["real-colon", "sun-seg", "cvc-video"]);
        assert!("kvasir".parse::<Layout>().is_err());
    }

    #[test]
    fn annotations_without_frames_are_the_xml_files_alone() {
        let dir = tempfile::tempdir().unwrap();
        let annotations = dir.path().join("002-001_annotations");
        std::fs::create_dir(&annotations).unwrap();
        for n in [2, 10, 1] {
            let text = format!("<annotation><size><width>{n}</width><height>30</height></size></annotation>");
            std::fs::write(annotations.join(format!("002-001_{n}.XML")), text).unwrap();
        }
        std::fs::write(annotations.join("readme.txt"), "as published").unwrap();
        let mut set = Set::open(Layout::RealColon, &annotations).unwrap();
        assert_eq!((set.frames.len(), set.truth.frames(), set.fps), (0, 3, None));
        for (frame, width) in [1, 2, 10].into_iter().enumerate() {
            assert_eq!(set.truth.frame(frame as u64, Some((width, 30))).unwrap(), Some(vec![]));
        }
    }

    #[test]
    fn a_frame_rate_is_above_zero_and_up_to_a_thousand() {
        let dir = tempfile::tempdir().unwrap();
        let annotations = dir.path().join("v_annotations");
        std::fs::create_dir(&annotations).unwrap();
        std::fs::write(annotations.join("v_0.xml"), "<annotation/>").unwrap();
        let with = |fps: &str| {
            let table = format!("unique_video_name,fps\nv,{fps}\n");
            std::fs::write(dir.path().join("video_info.csv"), table).unwrap();
            Set::open(Layout::RealColon, &annotations)
        };
        for (text, fps) in [("0.001", 0.001), ("1000", 1000.0)] {
            assert_eq!(with(text).unwrap().fps, Some(fps));
        }
        for bad in ["0", "-25", "1000.5", "inf", "NaN", "", "fast"] {
            assert!(with(bad).unwrap_err().to_string().contains("video_info.csv"), "{bad}");
        }
    }

    #[test]
    fn frames_of_cvc_are_in_one_order_whichever_folder_they_lie_in() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        picture(&at("3.png"));
        picture(&at("images/1.png"));
        picture(&at("images/10.png"));
        assert!(Set::open(Layout::CvcVideo, dir.path()).is_err(), "frames without a mask");
        mask(&at("gt/1.png"), true);
        let mut set = Set::open(Layout::CvcVideo, dir.path()).unwrap();
        let names: Vec<_> = set.frames.iter().map(|p| p.file_stem().unwrap().to_str().unwrap()).collect();
        assert_eq!(names, ["1", "3", "10"]);
        assert_eq!(seen(&mut set), [Some(vec![None]), None, None]);
    }

    #[test]
    fn quoted_fields_hold_commas_and_quotes() {
        assert_eq!(fields(r#"a, "b, c" ,"d ""e"", f",,"#), ["a", "b, c", "d \"e\", f", "", ""]);
    }
}
