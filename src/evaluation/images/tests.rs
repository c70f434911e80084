use std::path::{Path, PathBuf};

use image::{DynamicImage, GrayImage, ImageBuffer, Luma, Rgb, RgbImage, Rgba, RgbaImage};
use tempfile::TempDir;

use super::scale::{Depth, Scales};
use super::*;
use crate::evaluation::metrics::{Prediction, Protocol};
use crate::{Error, Result};

const W: u32 = 24;
const H: u32 = 18;

/// Folders `masks`, `predictions` and `images` under a directory of its own.
struct Folders(TempDir);

impl Folders {
    fn new() -> Self {
        let root = TempDir::new().unwrap();
        for name in ["masks", "predictions", "images"] {
            std::fs::create_dir(root.path().join(name)).unwrap();
        }
        Self(root)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn save(&self, name: &str, picture: impl Into<DynamicImage>) {
        let picture = picture.into();
        // The encoder of GIF takes colours only.
        let picture = if name.ends_with(".gif") { picture.to_rgba8().into() } else { picture };
        picture.save(self.path(name)).unwrap();
    }

    fn set(&self) -> DataSet {
        DataSet {
            name: "set".into(),
            masks: self.path("masks"),
            predictions: Some(self.path("predictions")),
            images: None,
        }
    }
}

/// A rectangle of `level` on black, from (4, 4) up to (`right`, 12).
fn block(right: u32, level: u8) -> GrayImage {
    GrayImage::from_fn(W, H, |x, y| {
        Luma([if (4..right).contains(&x) && (4..12).contains(&y) { level } else { 0 }])
    })
}

fn thresholded() -> Options {
    Options { protocol: Protocol::Thresholded { threshold: 0.5 }, ..Options::default() }
}

fn run(set: &DataSet, options: &Options) -> Result<(DataSetReport, Vec<Row>)> {
    let mut rows = Vec::new();
    let report = score(set, options, None, &mut |event| {
        if let Event::Scored(row) = event {
            rows.push(row.clone());
        }
        Ok(())
    })?;
    Ok((report, rows))
}

fn names(report: &DataSetReport, kind: NoteKind) -> Vec<String> {
    report.notes.get(&kind).map(|n| n.names.clone()).unwrap_or_default()
}

fn left_out(report: &DataSetReport) -> Vec<(ProblemKind, &str)> {
    report.problems.iter().map(|p| (p.kind, p.name.as_str())).collect()
}

#[test]
fn pairs_by_stem_whatever_the_format() {
    let f = Folders::new();
    for (i, ext) in ["png", "bmp", "tif", "webp", "gif"].iter().enumerate() {
        f.save(&format!("masks/m{i}.{ext}"), block(12, 255));
        f.save(&format!("predictions/m{i}.png"), block(12, 255));
    }
    let (report, rows) = run(&f.set(), &thresholded()).unwrap();
    assert_eq!(rows.iter().map(|r| r.name.as_str()).collect::<Vec<_>>(), ["m0", "m1", "m2", "m3", "m4"]);
    assert_eq!((report.figures.count, report.figures.m_dice), (5, Some(1.0)));
    assert!(!report.is_partial());
    assert!(report.notes.is_empty(), "{:?}", report.notes);
}

#[test]
fn whatever_does_not_pair_is_named_and_counted() {
    let f = Folders::new();
    f.save("masks/both.png", block(12, 255));
    f.save("predictions/both.png", block(12, 255));
    f.save("masks/alone.png", block(12, 255));
    f.save("masks/twice.png", block(12, 255));
    f.save("predictions/twice.png", block(12, 255));
    f.save("predictions/twice.bmp", block(12, 255));
    f.save("predictions/more.png", block(12, 255));
    f.save("predictions/both.overlay.png", block(12, 255));
    std::fs::write(f.path("masks/notes.txt"), "x").unwrap();
    let (report, _) = run(&f.set(), &thresholded()).unwrap();
    assert_eq!(report.figures.count, 1);
    assert_eq!(
        left_out(&report),
        [(ProblemKind::Ambiguous, "twice"), (ProblemKind::MissingPrediction, "alone")]
    );
    assert_eq!(names(&report, NoteKind::NoMask), ["more"]);
    assert_eq!(names(&report, NoteKind::OtherFile), ["notes.txt", "both.overlay.png"]);
    assert!(report.is_partial());
    let said = report.remarks(5).join("\n");
    for word in ["alone", "twice.bmp", "more", "notes.txt"] {
        assert!(said.contains(word), "{word} in {said}");
    }
}

#[test]
fn unreadable_files_are_left_out_by_name() {
    let f = Folders::new();
    for name in ["good", "garbage", "cut", "colour", "glass"] {
        f.save(&format!("masks/{name}.png"), block(12, 255));
    }
    f.save("predictions/good.png", block(12, 255));
    std::fs::write(f.path("predictions/garbage.png"), b"no picture").unwrap();
    let whole = std::fs::read(f.path("predictions/good.png")).unwrap();
    std::fs::write(f.path("predictions/cut.png"), &whole[..whole.len() / 2]).unwrap();
    f.save("predictions/colour.png", RgbImage::from_pixel(W, H, Rgb([200, 30, 90])));
    f.save("predictions/glass.png", RgbaImage::from_pixel(W, H, Rgba([9, 9, 9, 100])));
    let (report, rows) = run(&f.set(), &thresholded()).unwrap();
    assert_eq!(rows.len(), 1);
    assert_eq!(left_out(&report), ["colour", "cut", "garbage", "glass"].map(|n| (ProblemKind::Refused, n)),);
    for problem in &report.problems {
        assert!(problem.what.contains(&format!("{}.png", problem.name)), "{}", problem.what);
    }
}

#[test]
fn nothing_in_common_is_an_error_with_examples() {
    let f = Folders::new();
    f.save("masks/a_mask.png", block(12, 255));
    f.save("predictions/a.png", block(12, 255));
    let said = run(&f.set(), &thresholded()).unwrap_err().to_string();
    assert!(said.contains("\"a_mask\"") && said.contains("--mask-suffix"), "{said}");
    let suffix = Options { mask_suffix: "_mask".into(), ..thresholded() };
    assert_eq!(run(&f.set(), &suffix).unwrap().0.figures.count, 1);
    let missing = DataSet { masks: f.path("nowhere"), ..f.set() };
    assert!(run(&missing, &thresholded()).unwrap_err().to_string().contains("nowhere"));
}

#[test]
fn every_way_to_store_a_mask_means_the_same() {
    let f = Folders::new();
    let truth = block(12, 255);
    let inside = |x: u32, y: u32| truth.get_pixel(x, y).0[0] > 0;
    f.save("masks/binary.png", GrayImage::from_fn(W, H, |x, y| Luma([u8::from(inside(x, y))])));
    f.save("masks/grey.png", truth.clone());
    f.save(
        "masks/colour.png",
        RgbImage::from_fn(W, H, |x, y| Rgb([0, 0, if inside(x, y) { 255 } else { 0 }])),
    );
    f.save(
        "masks/alpha.png",
        RgbaImage::from_fn(W, H, |x, y| Rgba([255, 255, 255, if inside(x, y) { 255 } else { 0 }])),
    );
    f.save(
        "masks/deep.png",
        ImageBuffer::<Luma<u16>, Vec<u16>>::from_fn(W, H, |x, y| {
            Luma([if inside(x, y) { 40_000 } else { 300 }])
        }),
    );
    f.save("masks/lossy.jpg", truth.clone());
    for name in ["binary", "grey", "colour", "alpha", "deep", "lossy"] {
        f.save(&format!("predictions/{name}.png"), truth.clone());
    }
    let (report, rows) = run(&f.set(), &thresholded()).unwrap();
    assert_eq!(report.figures.count, 6);
    for row in rows {
        assert_eq!(row.figures.dice, 1.0, "{}", row.name);
    }
    assert_eq!(names(&report, NoteKind::LossyMask), ["lossy"]);
    assert_eq!(names(&report, NoteKind::ColourMask), ["colour"]);
    assert_eq!(names(&report, NoteKind::SixteenBitMask), ["deep"]);
}

#[test]
fn empty_full_and_faint_masks_follow_their_rules() {
    let f = Folders::new();
    f.save("masks/empty.png", block(4, 255));
    f.save("masks/full.png", GrayImage::from_pixel(W, H, Luma([255])));
    // What JPEG leaves of an empty mask.
    f.save("masks/faint.jpg", block(12, 9));
    for name in ["empty", "full", "faint"] {
        f.save(&format!("predictions/{name}.png"), block(4, 255));
    }
    let (report, rows) = run(&f.set(), &thresholded()).unwrap();
    assert_eq!(names(&report, NoteKind::EmptyMask), ["empty", "faint"]);
    assert_eq!(names(&report, NoteKind::FullMask), ["full"]);
    assert_eq!(names(&report, NoteKind::FaintMask), ["faint"]);
    assert_eq!(rows.iter().map(|r| r.figures.dice).collect::<Vec<_>>(), [1.0, 1.0, 0.0]);
    assert_eq!((report.figures.ber, report.figures.ber_undefined), (None, 3));
    assert!(table(&[report]).contains('–'));
}

#[test]
fn another_size_is_resized_and_sixteen_bits_keep_their_depth() {
    let f = Folders::new();
    f.save("masks/small.png", block(12, 255));
    f.save("predictions/small.png", GrayImage::from_pixel(W / 2, H / 2, Luma([255])));
    f.save("masks/deep.png", block(12, 255));
    // 0.5 exactly would be lost in 8 bits: 32768 / 65535 is just above it, 32767 just below.
    f.save(
        "predictions/deep.png",
        ImageBuffer::<Luma<u16>, Vec<u16>>::from_fn(W, H, |x, y| {
            Luma([if block(12, 255).get_pixel(x, y).0[0] > 0 { 32_768 } else { 32_767 }])
        }),
    );
    let (report, rows) = run(&f.set(), &thresholded()).unwrap();
    assert_eq!(names(&report, NoteKind::Resized), ["small"]);
    assert_eq!(names(&report, NoteKind::SixteenBitPrediction), ["deep"]);
    let dice = |name: &str| rows.iter().find(|r| r.name == name).unwrap().figures.dice;
    assert_eq!(dice("deep"), 1.0);
    assert!((dice("small") - 2.0 * 64.0 / (64.0 + 432.0)).abs() < 1e-12);
}

#[test]
fn a_set_of_zeros_and_ones_is_no_result() {
    let f = Folders::new();
    f.save("masks/a.png", block(12, 255));
    f.save("predictions/a.png", block(12, 1));
    let said = run(&f.set(), &thresholded()).unwrap_err().to_string();
    assert!(said.contains("a.png") && said.contains("--prediction-max 1"), "{said}");
    let scaled = Options { prediction_max: Some(1), ..thresholded() };
    assert_eq!(run(&f.set(), &scaled).unwrap().0.figures.m_dice, Some(1.0));
    // Published figures stretch each map to its own range.
    let (report, _) = run(&f.set(), &Options::default()).unwrap();
    assert_eq!(names(&report, NoteKind::FaintPrediction), ["a"]);
    assert!(report.figures.m_dice.unwrap() > 0.99);
    // Nothing found where nothing is needs no scale.
    let empty = Folders::new();
    empty.save("masks/a.png", block(4, 255));
    empty.save("predictions/a.png", block(12, 1));
    let (report, _) = run(&empty.set(), &thresholded()).unwrap();
    assert_eq!(report.figures.m_dice, Some(1.0));
    // One faint map among others only says that nothing was found, and is named.
    f.save("masks/b.png", block(12, 255));
    f.save("predictions/b.png", block(12, 200));
    let (report, _) = run(&f.set(), &thresholded()).unwrap();
    assert!(names(&report, NoteKind::FaintPrediction).is_empty());
    assert_eq!(names(&report, NoteKind::FaintAmongOthers), ["a"]);
    let refused = run(&f.set(), &scaled).unwrap().0;
    assert!(refused.problems[0].what.contains("200"), "{:?}", refused.problems);
}

type Deep = ImageBuffer<Luma<u16>, Vec<u16>>;

fn deep_block(level: u16) -> Deep {
    Deep::from_fn(W, H, |x, y| Luma([if block(12, 255).get_pixel(x, y).0[0] > 0 { level } else { 0 }]))
}

/// A floating-point map as scientific programs save it.
fn save_real(path: &Path, level: f32) {
    let values: Vec<f32> = block(12, 255).as_raw().iter().map(|v| f32::from(*v) / 255.0 * level).collect();
    let file = std::fs::File::create(path).unwrap();
    let mut encoder = tiff::encoder::TiffEncoder::new(file).unwrap();
    encoder.write_image::<tiff::encoder::colortype::Gray32Float>(W, H, &values).unwrap();
}

#[test]
fn sixteen_bit_maps_of_eight_bits_are_read_on_their_scale() {
    let f = Folders::new();
    for (name, level) in [("a", 255), ("b", 251), ("c", 3)] {
        f.save(&format!("masks/{name}.png"), block(12, 255));
        f.save(&format!("predictions/{name}.png"), DynamicImage::ImageLuma16(deep_block(level)));
    }
    for options in [thresholded(), Options::default()] {
        let (report, rows) = run(&f.set(), &options).unwrap();
        assert_eq!(names(&report, NoteKind::RescaledPrediction), ["a", "b", "c"]);
        assert!(rows[0].figures.dice > 0.99 && rows[1].figures.dice > 0.99);
        assert!(report.problems.is_empty() && !report.is_partial());
    }
    // With one in full scale among them, those near 255 could be both; what is far below marks nothing either way.
    f.save("masks/d.png", block(12, 255));
    f.save("predictions/d.png", DynamicImage::ImageLuma16(deep_block(60_000)));
    let (report, rows) = run(&f.set(), &thresholded()).unwrap();
    assert_eq!(left_out(&report), ["a", "b"].map(|n| (ProblemKind::Refused, n)));
    assert!(report.problems[0].what.contains("--prediction-max"), "{}", report.problems[0].what);
    assert_eq!(names(&report, NoteKind::FaintAmongOthers), ["c"]);
    assert_eq!(rows.iter().map(|r| r.figures.dice).collect::<Vec<_>>(), [0.0, 1.0]);
}

#[test]
fn scales_that_cannot_be_told_are_refused_or_doubted() {
    let with = |level: u16| {
        let f = Folders::new();
        f.save("masks/a.png", block(12, 255));
        f.save("predictions/a.png", DynamicImage::ImageLuma16(deep_block(level)));
        run(&f.set(), &thresholded())
    };
    for level in [1, 100, 200] {
        let said = with(level).unwrap_err().to_string();
        assert!(said.contains("--prediction-max"), "{level}: {said}");
    }
    for (level, doubtful) in [(4095, true), (1000, true), (5001, false)] {
        let (report, _) = with(level).unwrap();
        assert_eq!(report.is_partial(), doubtful, "{level}");
        assert!(names(&report, NoteKind::DimPrediction)[0].contains(&level.to_string()), "{level}");
    }
    // All black is black on every scale.
    assert!(!with(0).unwrap().0.is_partial());
    // Per cent in 8 bits.
    let f = Folders::new();
    f.save("masks/a.png", block(12, 255));
    f.save("predictions/a.png", block(12, 100));
    assert!(run(&f.set(), &thresholded()).unwrap().0.doubtful);
    assert!(!run(&f.set(), &Options::default()).unwrap().0.doubtful);
}

#[test]
fn floating_point_maps_and_masks_are_read() {
    let f = Folders::new();
    for (name, level) in [("a", 1.0), ("b", 0.9)] {
        f.save(&format!("masks/{name}.png"), block(12, 255));
        save_real(&f.path(&format!("predictions/{name}.tif")), level);
    }
    let (report, rows) = run(&f.set(), &thresholded()).unwrap();
    assert_eq!(rows.iter().map(|r| r.figures.dice).collect::<Vec<_>>(), [1.0, 1.0]);
    assert_eq!(names(&report, NoteKind::RealPrediction), ["a", "b"]);
    // 0 to 255 in floating point; then logits, which are no probabilities.
    save_real(&f.path("predictions/a.tif"), 255.0);
    save_real(&f.path("predictions/b.tif"), 128.5);
    let (report, rows) = run(&f.set(), &thresholded()).unwrap();
    assert_eq!(rows.iter().map(|r| r.figures.dice).collect::<Vec<_>>(), [1.0, 1.0]);
    assert_eq!(names(&report, NoteKind::RescaledPrediction), ["a", "b"]);
    for bad in [-3.0, 7.0, f32::NAN] {
        for name in ["a", "b"] {
            save_real(&f.path(&format!("predictions/{name}.tif")), bad);
        }
        let said = run(&f.set(), &thresholded()).unwrap_err().to_string();
        assert!(said.contains("a.tif: holds"), "{said}");
    }
    let f = Folders::new();
    for (name, level) in [("one", 1.0), ("half", 0.5), ("grey", 255.0)] {
        save_real(&f.path(&format!("masks/{name}.tif")), level);
        f.save(&format!("predictions/{name}.png"), block(12, 255));
    }
    let (report, rows) = run(&f.set(), &thresholded()).unwrap();
    assert!(rows.iter().all(|r| r.figures.dice == 1.0));
    assert_eq!(names(&report, NoteKind::RealMask).len(), 3);
}

#[test]
fn numbered_polyps_are_scored_whole_and_said() {
    let f = Folders::new();
    let numbered = GrayImage::from_fn(W, H, |x, y| {
        Luma([if !(4..=12).contains(&y) { 0 } else { [0, 1, 1, 1, 0, 2, 2, 2, 0, 3, 3, 3][x as usize / 2] }])
    });
    let truth =
        GrayImage::from_fn(W, H, |x, y| Luma([if numbered.get_pixel(x, y).0[0] > 0 { 255 } else { 0 }]));
    f.save("masks/a.png", numbered);
    f.save("predictions/a.png", truth);
    let (report, rows) = run(&f.set(), &thresholded()).unwrap();
    assert_eq!(rows[0].figures.dice, 1.0);
    assert_eq!(names(&report, NoteKind::InstanceMask), ["a"]);
    let half = Options { mask_levels: MaskLevels::Half, ..thresholded() };
    assert!(run(&f.set(), &half).unwrap().1[0].figures.dice < 0.9);
}

#[test]
fn what_lies_on_its_side_is_an_error_not_a_resize() {
    let f = Folders::new();
    f.save("masks/a.png", block(12, 255));
    f.save("predictions/a.png", block(12, 255));
    f.save("masks/b.png", block(12, 255));
    f.save("predictions/b.png", image::imageops::rotate90(&block(12, 255)));
    let (report, _) = run(&f.set(), &thresholded()).unwrap();
    assert_eq!(left_out(&report), [(ProblemKind::Refused, "b")]);
    assert!(
        report.problems[0].what.contains("b.png: is 18x24 while its mask is 24x18"),
        "{:?}",
        report.problems
    );
    // The same for what a network says of a picture.
    std::fs::remove_file(f.path("masks/b.png")).unwrap();
    f.save("images/a.png", RgbImage::from_pixel(H, W, Rgb([90, 60, 60])));
    let set = DataSet { predictions: None, images: Some(f.path("images")), ..f.set() };
    let mut network = |image: &RgbImage| {
        let (w, h) = (image.width() as usize, image.height() as usize);
        Prediction::from_levels(w, h, vec![0u8; w * h])
    };
    let said = score(&set, &thresholded(), Some(&mut network), &mut |_| Ok(())).unwrap_err().to_string();
    assert!(said.contains("images/a.png: is 18x24"), "{said}");
}

#[test]
fn names_pair_whatever_machine_wrote_them() {
    let f = Folders::new();
    // Composed and decomposed accents; what a Mac and Windows leave beside.
    f.save("masks/Polyp gr\u{f6}\u{df}e \u{e9}.png", block(12, 255));
    f.save("predictions/Polyp gro\u{308}\u{df}e e\u{301}.PNG", block(12, 255));
    std::fs::write(f.path("masks/._Polyp gr\u{f6}\u{df}e \u{e9}.png"), b"Mac OS X").unwrap();
    std::fs::write(f.path("predictions/Thumbs.db"), b"x").unwrap();
    std::fs::create_dir(f.path("masks/__MACOSX")).unwrap();
    let (report, rows) = run(&f.set(), &thresholded()).unwrap();
    assert_eq!(rows.iter().map(|r| r.name.as_str()).collect::<Vec<_>>(), ["Polyp gr\u{f6}\u{df}e \u{e9}"]);
    assert!(report.notes.is_empty(), "{:?}", report.notes);
}

#[test]
fn names_that_are_no_utf8_pair_only_with_themselves() {
    use std::os::unix::ffi::OsStrExt;
    let f = Folders::new();
    let save = |folder: &str, name: &[u8]| {
        let mut png = std::io::Cursor::new(Vec::new());
        block(12, 255).write_to(&mut png, image::ImageFormat::Png).unwrap();
        std::fs::write(f.path(folder).join(std::ffi::OsStr::from_bytes(name)), png.into_inner()).unwrap();
    };
    save("masks", b"a\xff.png");
    save("masks", b"a\xfe.png");
    save("predictions", b"a\xfe.png");
    let (report, rows) = run(&f.set(), &thresholded()).unwrap();
    assert_eq!(rows[0].name, "a\\xfe");
    assert_eq!(left_out(&report), [(ProblemKind::MissingPrediction, "a\\xff")]);
}

#[test]
fn the_reason_for_nothing_paired_is_said() {
    let f = Folders::new();
    f.save("masks/1.png", block(12, 255));
    f.save("predictions/1.png", block(12, 255));
    f.save("predictions/1.jpg", block(12, 255));
    let said = run(&f.set(), &thresholded()).unwrap_err().to_string();
    assert!(said.contains("1.jpg and ") && said.contains("share one stem"), "{said}");
    let f = Folders::new();
    f.save("masks/1.png", block(12, 255));
    std::fs::write(f.path("predictions/1.npy"), b"\x93NUMPY").unwrap();
    let said = run(&f.set(), &thresholded()).unwrap_err().to_string();
    assert!(
        said.contains("predictions: holds no picture that is read here") && said.contains("1.npy"),
        "{said}"
    );
}

#[test]
fn a_mask_that_was_cut_off_is_left_out() {
    let f = Folders::new();
    for name in ["whole", "half"] {
        f.save(&format!("masks/{name}.jpg"), block(12, 255));
        f.save(&format!("predictions/{name}.png"), block(12, 255));
    }
    let jpeg = std::fs::read(f.path("masks/half.jpg")).unwrap();
    std::fs::write(f.path("masks/half.jpg"), &jpeg[..jpeg.len() - 12]).unwrap();
    let (report, _) = run(&f.set(), &thresholded()).unwrap();
    assert_eq!(left_out(&report), [(ProblemKind::Refused, "half")]);
    assert!(report.problems[0].what.contains("half.jpg: is cut off"), "{:?}", report.problems);
    assert!(report.is_partial());
}

#[test]
fn several_classes_are_scored_one_against_the_rest() {
    let f = Folders::new();
    // Class 1 on the left, class 2 on the right, an unlisted 7 in a corner.
    let labels = GrayImage::from_fn(W, H, |x, y| {
        Luma([if (x, y) == (0, 0) {
            7
        } else if x < 8 {
            1
        } else if x > 15 {
            2
        } else {
            0
        }])
    });
    let swapped = GrayImage::from_fn(W, H, |x, _| Luma([if x < 8 { 1 } else { 0 }]));
    f.save("masks/a.png", labels.clone());
    f.save("predictions/a.png", swapped);
    let options = Options { classes: Classes::parse("polyp=1, instrument=2").unwrap(), ..thresholded() };
    let (report, rows) = run(&f.set(), &options).unwrap();
    assert_eq!(rows.len(), 2);
    let dice: Vec<_> = report.classes.iter().map(|(n, f)| (n.as_str(), f.m_dice.unwrap())).collect();
    assert_eq!(dice[1], ("instrument", 0.0));
    // 8 * 18 predicted, one of them unlisted in the mask.
    assert!((dice[0].1 - 2.0 * 143.0 / (143.0 + 144.0)).abs() < 1e-12, "{dice:?}");
    assert!((report.figures.m_dice.unwrap() - dice[0].1 / 2.0).abs() < 1e-12);
    assert_eq!(names(&report, NoteKind::UnlistedValues), ["a"]);
    let value = json(std::slice::from_ref(&report));
    assert_eq!(value["datasets"][0]["classes"][1]["name"], "instrument");
    assert!(table(&[report]).contains("  instrument"));

    // The same as colours, lossy, with a folder of maps per class.
    let f = Folders::new();
    let colours = RgbImage::from_fn(64, 64, |x, _| if x < 32 { Rgb([255, 0, 0]) } else { Rgb([0, 0, 255]) });
    f.save("masks/a.jpg", colours);
    for (class, left) in [("red", true), ("blue", false)] {
        std::fs::create_dir(f.path("predictions").join(class)).unwrap();
        let map = GrayImage::from_fn(64, 64, |x, _| Luma([if (x < 32) == left { 255 } else { 0 }]));
        f.save(&format!("predictions/{class}/a.png"), map);
    }
    let options = Options { classes: Classes::parse("red=#ff0000,blue=#0000ff").unwrap(), ..thresholded() };
    let (report, _) = run(&f.set(), &options).unwrap();
    assert!(report.figures.m_dice.unwrap() > 0.97, "{:?}", report.figures);
    assert_eq!(names(&report, NoteKind::OtherFile), [""; 0]);
}

#[test]
fn malformed_classes_are_refused() {
    for bad in [
        "",
        "polyp",
        "=1",
        "polyp=0",
        "a=1,a=2",
        "a=1,b=1",
        "a=#12",
        "a=#gg0000",
        "a=70000",
        "a=1,b=#ff0000",
        "a/b=1",
    ] {
        let error = Classes::parse(bad).unwrap_err();
        assert_eq!(error.exit_code(), 2, "{bad}");
        assert!(error.to_string().contains("--classes"), "{bad}: {error}");
    }
}

#[test]
fn a_network_predicts_in_order_and_its_failures_are_named() {
    let f = Folders::new();
    for i in 0..9 {
        f.save(&format!("masks/{i}.png"), block(12, 255));
        f.save(&format!("images/{i}.png"), RgbImage::from_pixel(W, H, Rgb([i * 10, 0, 0])));
    }
    std::fs::write(f.path("images/4.png"), b"broken").unwrap();
    let set = DataSet { predictions: None, images: Some(f.path("images")), ..f.set() };
    let mut seen = Vec::new();
    let mut network = |image: &RgbImage| -> Result<Prediction<'static>> {
        seen.push(image.get_pixel(0, 0).0[0] / 10);
        if seen.last() == Some(&7) {
            return Err(Error::inference("the device is gone"));
        }
        Prediction::from_levels(W as usize, H as usize, block(12, 255).into_raw())
    };
    let (mut done, mut paired) = (0, 0);
    let report = score(&set, &thresholded(), Some(&mut network), &mut |event| {
        match event {
            Event::Done => done += 1,
            Event::Paired(n) => paired = n,
            _ => {}
        }
        Ok(())
    })
    .unwrap();
    assert_eq!(seen, [0, 1, 2, 3, 5, 6, 7, 8]);
    assert_eq!((done, paired), (9, 9));
    assert_eq!((report.figures.count, report.figures.m_dice), (7, Some(1.0)));
    assert_eq!(left_out(&report), [(ProblemKind::Refused, "4"), (ProblemKind::Refused, "7")]);
    assert!(report.problems[1].what.contains("the device is gone"));

    let none = DataSet { images: None, ..set.clone() };
    assert_eq!(score(&none, &thresholded(), None, &mut |_| Ok(())).unwrap_err().exit_code(), 2);
    let two = Options { classes: Classes::parse("a=1,b=2").unwrap(), ..thresholded() };
    let mut network = |_: &RgbImage| -> Result<Prediction<'static>> { Err(Error::internal("not asked")) };
    assert!(score(&set, &two, Some(&mut network), &mut |_| Ok(())).is_err());
}

#[test]
fn whoever_watches_can_end_the_run() {
    let f = Folders::new();
    for i in 0..3 {
        f.save(&format!("masks/{i}.png"), block(12, 255));
        f.save(&format!("predictions/{i}.png"), block(12, 255));
    }
    let stopped = score(&f.set(), &thresholded(), None, &mut |event| match event {
        Event::Done => Err(Error::output("interrupted")),
        _ => Ok(()),
    });
    assert_eq!(stopped.unwrap_err().to_string(), "interrupted");
}

#[test]
fn the_number_of_cores_changes_no_bit() {
    let f = Folders::new();
    for i in 0..40u32 {
        f.save(&format!("masks/{i}.png"), block(5 + i % 17, 255));
        let noise = GrayImage::from_fn(W, H, |x, y| Luma([(x * 37 + y * 91 + i * 53) as u8]));
        f.save(&format!("predictions/{i}.png"), noise);
    }
    let on = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| run(&f.set(), &Options::default()).unwrap().0.figures)
    };
    assert_eq!(on(1), on(3));
}

#[test]
fn the_worst_are_kept_in_order_and_shown() {
    let f = Folders::new();
    for i in 0..6u32 {
        f.save(&format!("masks/p{i}.png"), block(20, 255));
        f.save(&format!("predictions/p{i}.png"), block(5 + 2 * i, 255));
        f.save(&format!("images/p{i}.png"), RgbImage::from_pixel(W, H, Rgb([90, 60, 60])));
    }
    let options = Options { worst: 3, ..thresholded() };
    let with_images = DataSet { images: Some(f.path("images")), ..f.set() };
    let (report, _) = run(&with_images, &options).unwrap();
    assert_eq!(report.worst.iter().map(|w| w.name.as_str()).collect::<Vec<_>>(), ["p0", "p1", "p2"]);
    let sheet = contact_sheet(std::slice::from_ref(&report), &options, None).unwrap();
    let count = |colour: [u8; 3]| sheet.pixels().filter(|p| p.0 == colour).count();
    // Three truths outlined, three predictions within them, both in the legend.
    assert!(count([64, 255, 64]) > 3 * 400, "{}", count([64, 255, 64]));
    assert!(count([255, 64, 255]) > 3 * 150);
    assert!(count([90, 60, 60]) > 3 * 320 * 100);

    let by_error = Options { worst: 1, rank: Rank::Mae, ..thresholded() };
    assert_eq!(run(&f.set(), &by_error).unwrap().0.worst[0].name, "p0");
    let none = Options { worst: 0, ..thresholded() };
    let (report, _) = run(&f.set(), &none).unwrap();
    assert!(report.worst.is_empty());
    assert!(contact_sheet(&[report], &none, None).is_err());
}

/// A tile as the sheet's module describes it, 320 pixels wide: each pixel shows the point of the masks that its centre
/// lies over, and is coloured if it is inside and one of its four neighbours is not.
fn tile_of(
    (w, h): (u32, u32),
    ground: &dyn Fn(u32, u32) -> [u8; 3],
    outlined: [(&GrayImage, [u8; 3]); 2],
    lines: [&str; 2],
) -> RgbImage {
    let height = (320 * h).div_ceil(w);
    let mut tile = RgbImage::from_pixel(320, height + 24, Rgb([24, 24, 24]));
    for (x, y) in (0..height).flat_map(|y| (0..320).map(move |x| (x, y))) {
        tile.put_pixel(x, y, Rgb(ground(x, y)));
        for (mask, colour) in outlined {
            let inside = |dx: i64, dy: i64| {
                let (x, y) = (i64::from(x) + dx, i64::from(y) + dy);
                let within = (0..320).contains(&x) && (0..i64::from(height)).contains(&y);
                let share =
                    |at: i64, of: u32, to: u32| ((at as f64 + 0.5) / f64::from(of) * f64::from(to)) as u32;
                within && mask.get_pixel(share(x, 320, w), share(y, height, h)).0[0] > 127
            };
            if inside(0, 0) && [(-1, 0), (1, 0), (0, -1), (0, 1)].iter().any(|(dx, dy)| !inside(*dx, *dy)) {
                tile.put_pixel(x, y, Rgb(colour));
            }
        }
    }
    let text = Rgb([230, 230, 230]);
    caption::draw(&mut tile, 0, height + 4, lines[0], text);
    caption::draw(&mut tile, 0, height + 15, lines[1], text);
    tile
}

const TRUTH: [u8; 3] = [64, 255, 64];
const PREDICTED: [u8; 3] = [255, 64, 255];

/// The sheet of these tiles: a legend of 23 pixels, then four in a row, eight pixels between.
fn sheet_of(tiles: &[RgbImage]) -> RgbImage {
    let heights: Vec<u32> = tiles.chunks(4).map(|r| r.iter().map(|t| t.height()).max().unwrap()).collect();
    let width = 8 + 328 * tiles.len().min(4) as u32;
    let height = 23 + heights.iter().map(|h| h + 8).sum::<u32>();
    let mut sheet = RgbImage::from_pixel(width, height, Rgb([24, 24, 24]));
    // Six pixels a letter, and two letters between.
    for (x, word, colour) in
        [(8, "truth", TRUTH), (50, "prediction", PREDICTED), (122, "worst first", [230, 230, 230])]
    {
        caption::draw(&mut sheet, x, 8, word, Rgb(colour));
    }
    let mut top = 23;
    for (row, height) in tiles.chunks(4).zip(heights) {
        for (i, tile) in row.iter().enumerate() {
            image::imageops::replace(&mut sheet, tile, 8 + 328 * i as i64, i64::from(top));
        }
        top += height + 8;
    }
    sheet
}

fn assert_same_picture(got: &RgbImage, wanted: &RgbImage) {
    assert_eq!(got.dimensions(), wanted.dimensions());
    if let Some((a, b)) = got.enumerate_pixels().zip(wanted.pixels()).find(|((_, _, a), b)| a != b) {
        panic!("{a:?} instead of {b:?}");
    }
}

#[test]
fn every_tile_lies_in_its_place_with_its_outlines_and_its_text() {
    let f = Folders::new();
    let rectangle = |w: u32, h: u32, right: u32| {
        GrayImage::from_fn(w, h, |x, y| Luma([if (4..right).contains(&x) && y < 12 { 255 } else { 0 }]))
    };
    let mut tiles = Vec::new();
    for i in 0..6 {
        // One on end, so that its row is higher than the others' tiles; of 53 letters a name just fits, of 64 it does not.
        let (w, h) = if i == 1 { (H, W) } else { (W, H) };
        let long = |n: usize| format!("{i}{}end", "-".repeat(n - 4));
        let (name, shown) = match i {
            2 => (long(64), format!("..{}end", "-".repeat(48))),
            3 => (long(53), long(53)),
            _ => (i.to_string(), i.to_string()),
        };
        let (truth, predicted) = (rectangle(w, h, 16), rectangle(w, h, 6 + 2 * i));
        f.save(&format!("masks/{name}.png"), truth.clone());
        f.save(&format!("predictions/{name}.png"), predicted.clone());
        f.save(&format!("images/{name}.png"), RgbImage::from_pixel(w, h, Rgb([90, 60, 60])));
        let line = format!("set dice={:.3}", f64::from(2 * (2 + 2 * i)) / f64::from(14 + 2 * i));
        let outlined = [(&truth, TRUTH), (&predicted, PREDICTED)];
        tiles.push(tile_of((w, h), &|_, _| [90, 60, 60], outlined, [&shown, &line]));
    }
    let set = DataSet { images: Some(f.path("images")), ..f.set() };
    let (report, _) = run(&set, &thresholded()).unwrap();
    let sheet = contact_sheet(std::slice::from_ref(&report), &thresholded(), None).unwrap();
    assert_same_picture(&sheet, &sheet_of(&tiles));

    // A network says the same of its pictures as the files do that were made with it.
    let made: Vec<_> =
        (0..6).map(|i| if i == 1 { rectangle(H, W, 8) } else { rectangle(W, H, 6 + 2 * i) }).collect();
    let set = DataSet { predictions: None, ..set };
    let mut asked = (0..6).cycle();
    let mut network = |_: &RgbImage| {
        let map = &made[asked.next().unwrap()];
        Prediction::from_levels(map.width() as usize, map.height() as usize, map.as_raw().clone())
    };
    let report = score(&set, &thresholded(), Some(&mut network), &mut |_| Ok(())).unwrap();
    let sheet = contact_sheet(&[report], &thresholded(), Some(&mut network)).unwrap();
    assert_same_picture(&sheet, &sheet_of(&tiles));
}

#[test]
fn without_a_picture_the_map_is_shown() {
    let f = Folders::new();
    let truth = block(12, 255);
    let small = GrayImage::from_fn(W / 2, H / 2, |x, y| Luma([(x * 37 + y * 91) as u8 % 101]));
    f.save("masks/a.png", truth.clone());
    f.save("predictions/a.png", small.clone());
    // A picture on its side belongs to other marks: it is not shown either.
    f.save("images/a.png", RgbImage::from_pixel(H, W, Rgb([90, 60, 60])));
    let map = Prediction::from_levels(W as usize / 2, H as usize / 2, small.into_raw()).unwrap();
    let map = map.resized(W as usize, H as usize);
    let Prediction::Levels { pixels: levels, .. } = &map else { panic!("{map:?}") };
    let Prediction::Levels { pixels: shown, .. } = map.resized(320, 240) else { panic!("{map:?}") };
    let (least, most) = (*levels.iter().min().unwrap(), *levels.iter().max().unwrap());
    let ground = |x: u32, y: u32| [shown[(y * 320 + x) as usize]; 3];
    let published = Options { rank: Rank::Mae, ..Options::default() };
    // Under the published protocol the middle of the map's own range is outlined; nothing here reaches 0.5 of 255.
    let middle = (u16::from(least) + u16::from(most)) / 2;
    let cut = |limit: u16| {
        let inside = levels.iter().map(|v| if u16::from(*v) > limit { 255 } else { 0 }).collect();
        GrayImage::from_raw(W, H, inside).unwrap()
    };
    for images in [None, Some(f.path("images"))] {
        for (options, outlined) in [(&published, cut(middle)), (&thresholded(), cut(127))] {
            let set = DataSet { images: images.clone(), ..f.set() };
            let (report, rows) = run(&set, options).unwrap();
            let figure = if options.rank == Rank::Mae { rows[0].figures.mae } else { rows[0].figures.dice };
            let line = format!("set {}={figure:.3}", options.rank.name());
            let tile = tile_of((W, H), &ground, [(&truth, TRUTH), (&outlined, PREDICTED)], ["a", &line]);
            let sheet = contact_sheet(&[report], options, None).unwrap();
            assert_same_picture(&sheet, &sheet_of(&[tile]));
        }
    }
}

/// What is outlined is what was scored: the map as it is, or under the published protocol what a saved map would hold.
#[test]
fn a_floating_point_map_is_outlined_as_it_is_scored() {
    let f = Folders::new();
    let (truth, nothing) = (block(20, 255), block(4, 255));
    f.save("masks/a.png", truth.clone());
    // Rounded to 8 bits, 0.499 is 127.
    save_real(&f.path("predictions/a.tif"), 0.499);
    let shown = Prediction::from_levels(W as usize, H as usize, block(12, 127).into_raw()).unwrap();
    let Prediction::Levels { pixels: shown, .. } = shown.resized(320, 240) else { panic!("no levels") };
    let ground = |x: u32, y: u32| [shown[(y * 320 + x) as usize]; 3];
    for (options, outlined) in [(Options::default(), block(12, 255)), (thresholded(), nothing)] {
        let (report, rows) = run(&f.set(), &options).unwrap();
        let line = format!("set dice={:.3}", rows[0].figures.dice);
        let tile = tile_of((W, H), &ground, [(&truth, TRUTH), (&outlined, PREDICTED)], ["a", &line]);
        assert_same_picture(&contact_sheet(&[report], &options, None).unwrap(), &sheet_of(&[tile]));
    }
}

#[test]
fn a_tile_of_several_classes_shows_its_own() {
    let f = Folders::new();
    let half = |left: bool| GrayImage::from_fn(W, H, |x, _| Luma([if (x < 8) == left { 255 } else { 0 }]));
    f.save("masks/a.png", GrayImage::from_fn(W, H, |x, _| Luma([if x < 8 { 1 } else { 2 }])));
    f.save("predictions/a.png", GrayImage::from_fn(W, H, |_, _| Luma([1])));
    let options = Options { classes: Classes::parse("left=1,right=2").unwrap(), ..thresholded() };
    let (report, _) = run(&f.set(), &options).unwrap();
    let tiles = [("right", 0.0, false), ("left", 0.5, true)].map(|(class, dice, left)| {
        let all = GrayImage::from_pixel(W, H, Luma([if left { 255 } else { 0 }]));
        let line = format!("set dice={dice:.3} {class}");
        let level = if left { [255; 3] } else { [0; 3] };
        tile_of((W, H), &|_, _| level, [(&half(left), TRUTH), (&all, PREDICTED)], ["a", &line])
    });
    assert_same_picture(&contact_sheet(&[report], &options, None).unwrap(), &sheet_of(&tiles));
}

#[test]
fn only_what_is_neither_listed_nor_background_is_unlisted() {
    let values = Classes::parse("a=1,b=2").unwrap();
    assert_eq!(values.of_values(&[0, 1, 2, 7, 7], false), (vec![0, 1, 2, 0, 0], 2));
    assert_eq!(values.of_values(&[0, 1, 2], false).1, 0);
    let colours = Classes::parse("red=#ff0000,blue=#0000ff").unwrap();
    let (black, red, blue, pink) = ([0, 0, 0], [255, 0, 0], [0, 0, 255], [255, 0, 9]);
    assert_eq!(colours.of_colours(&[black, red, blue, pink, pink], false), (vec![0, 1, 2, 0, 0], 2));
    // Lossy files hold hardly anything else, which goes to the nearest.
    assert_eq!(colours.of_colours(&[[9, 9, 9], pink, [90, 0, 160]], true), (vec![0, 1, 2], 0));
}

/// A folder's scale from pictures of these largest 16-bit levels, and its depths.
fn deep_scales(f: &Folders, levels: &[u16]) -> Scales {
    let files = levels.iter().enumerate().map(|(i, level)| {
        let name = format!("predictions/{i}.png");
        f.save(&name, DynamicImage::ImageLuma16(deep_block(*level)));
        f.path(&name)
    });
    Scales::new(files.collect(), None)
}

#[test]
fn a_given_scale_is_taken_up_to_its_end() {
    let given = Scales::new(Vec::new(), Some(200));
    let certain = |depth, smallest, largest| given.reading(depth, smallest, largest).map(|r| r.certain);
    assert_eq!(certain(Depth::Eight, 0.0, 200.0), Ok(200.0));
    assert!(certain(Depth::Eight, 0.0, 201.0).unwrap_err().contains("--prediction-max"));
    // Floating-point numbers that were scaled bicubically go over their ends by a hundredth.
    assert_eq!(certain(Depth::Real, -2.0, 202.0), Ok(200.0));
    assert!(certain(Depth::Real, 0.0, 202.1).is_err());
    assert!(certain(Depth::Real, -2.1, 200.0).unwrap_err().contains("sigmoid"));
    for (smallest, largest) in
        [(f64::NAN, 1.0), (f64::NEG_INFINITY, 1.0), (0.0, f64::INFINITY), (0.0, f64::NAN)]
    {
        let said = certain(Depth::Real, smallest, largest).unwrap_err();
        assert!(said.contains("not a number or infinite"), "{smallest} {largest}: {said}");
    }
}

#[test]
fn a_scale_is_judged_by_the_folders_brightest_map() {
    let f = Folders::new();
    let reading = |levels: &[u16], largest: f64| {
        deep_scales(&f, levels).reading(Depth::Sixteen, 0.0, largest).map(|r| (r.certain, r.note))
    };
    let faint = Ok((65_535.0, Some(NoteKind::FaintAmongOthers)));
    let rescaled = Ok((255.0, Some(NoteKind::RescaledPrediction)));
    assert_eq!(reading(&[60_000, 249], 249.0), faint);
    assert!(reading(&[60_000, 250], 250.0).unwrap_err().contains("other maps of its folder reach 60000"));
    assert_eq!(reading(&[250, 3], 3.0), rescaled);
    assert!(reading(&[249, 3], 3.0).unwrap_err().contains("below 249"));
    // A colour picture of 16 bits is as deep as a grey one.
    let colour = ImageBuffer::<Rgb<u16>, Vec<u16>>::from_pixel(W, H, Rgb([60_000; 3]));
    f.save("predictions/colour.png", DynamicImage::ImageRgb16(colour));
    f.save("predictions/eight.png", RgbImage::from_pixel(W, H, Rgb([255; 3])));
    let path = f.path("predictions/colour.png");
    let scales = Scales::new(vec![f.path("predictions/eight.png"), path], None);
    assert!(scales.reading(Depth::Sixteen, 0.0, 252.0).unwrap_err().contains("reach 60000"));

    let real = |levels: &[f32], largest: f64| {
        let files = levels.iter().enumerate().map(|(i, level)| {
            let path = f.path(&format!("predictions/{i}.tif"));
            save_real(&path, *level);
            path
        });
        let scales = Scales::new(files.collect(), None);
        scales.reading(Depth::Real, 0.0, largest).map(|r| (r.certain, r.note))
    };
    assert_eq!(real(&[1.0], 1.01), Ok((1.0, None)));
    assert!(real(&[1.0], 1.02).is_err());
    // On the scale of 0 to 255 a map that stays below 1 marks nothing, unless it is on the scale of 0 to 1 alone.
    assert_eq!(real(&[255.0, 0.5], 0.5), rescaled);
    assert!(real(&[255.0, 0.6], 0.6).unwrap_err().contains("other maps of its folder reach 255"));
}

#[test]
fn what_stays_below_half_of_its_scale_is_dim() {
    let own = Scales::new(Vec::new(), None);
    assert!(own.dim(Depth::Eight, 127.0).unwrap().contains("no 8-bit prediction holds more than 127 of 255"));
    // Half is not below half, and black is black on every scale.
    assert_eq!((own.dim(Depth::Real, 0.5), own.dim(Depth::Eight, 0.0)), (None, None));
    // Whoever says the scale is not told of it.
    assert_eq!(Scales::new(Vec::new(), Some(255)).dim(Depth::Eight, 127.0), None);
}

#[test]
fn scales_of_other_folders_or_another_given_value_are_others() {
    let of = |name: &str, given| Scales::new(vec![PathBuf::from(name)], given);
    assert_eq!(of("a", None), of("a", None));
    assert_ne!(of("a", None), of("b", None));
    assert_ne!(of("a", None), of("a", Some(255)));
}

#[test]
fn a_network_that_is_not_there_is_asked_for() {
    let f = Folders::new();
    f.save("masks/a.png", block(12, 255));
    f.save("images/a.png", RgbImage::from_pixel(W, H, Rgb([90, 60, 60])));
    let mut network = |_: &RgbImage| -> Result<Prediction<'static>> { Err(Error::internal("not asked")) };
    let images = DataSet { predictions: None, images: Some(f.path("images")), ..f.set() };
    let said = score(&images, &thresholded(), None, &mut |_| Ok(())).unwrap_err();
    assert_eq!(said.exit_code(), 2, "{said}");
    let nothing = DataSet { images: None, ..images };
    let said = score(&nothing, &thresholded(), Some(&mut network), &mut |_| Ok(())).unwrap_err();
    assert_eq!(said.exit_code(), 2, "{said}");
}

#[test]
fn a_faint_map_beside_a_black_one_only_says_that_nothing_was_found() {
    let f = Folders::new();
    for (name, level) in [("a", 1), ("b", 0)] {
        f.save(&format!("masks/{name}.png"), block(12, 255));
        f.save(&format!("predictions/{name}.png"), block(12, level));
    }
    let (report, _) = run(&f.set(), &Options::default()).unwrap();
    assert_eq!(names(&report, NoteKind::FaintPrediction), [""; 0]);
    assert_eq!(names(&report, NoteKind::DimPrediction).len(), 1);
}

#[test]
fn what_was_read_on_another_scale_is_not_called_dim() {
    let f = Folders::new();
    f.save("masks/a.png", block(12, 255));
    f.save("predictions/a.png", DynamicImage::ImageLuma16(deep_block(255)));
    let (report, _) = run(&f.set(), &thresholded()).unwrap();
    assert_eq!(
        report.notes.keys().collect::<Vec<_>>(),
        [&NoteKind::SixteenBitPrediction, &NoteKind::RescaledPrediction]
    );
}

#[test]
fn folders_of_classes_are_looked_at_as_closely_as_one() {
    let f = Folders::new();
    let labels = GrayImage::from_fn(W, H, |x, _| Luma([if x < 8 { 1 } else { 0 }]));
    for name in ["good", "twice"] {
        f.save(&format!("masks/{name}.png"), labels.clone());
    }
    let options = Options { classes: Classes::parse("a=1,b=2").unwrap(), ..thresholded() };
    std::fs::create_dir(f.path("predictions/a")).unwrap();
    let said = run(&f.set(), &options).unwrap_err().to_string();
    assert!(said.contains("none for b"), "{said}");
    std::fs::create_dir(f.path("predictions/b")).unwrap();
    for class in ["a", "b"] {
        for name in ["good", "twice"] {
            f.save(&format!("predictions/{class}/{name}.png"), DynamicImage::ImageLuma16(deep_block(255)));
        }
    }
    f.save("predictions/b/twice.bmp", block(12, 255));
    std::fs::write(f.path("predictions/notes.txt"), "x").unwrap();
    let (report, rows) = run(&f.set(), &options).unwrap();
    assert_eq!(left_out(&report), [(ProblemKind::Ambiguous, "twice")]);
    assert_eq!(names(&report, NoteKind::OtherFile), ["notes.txt"]);
    // What is said of both classes' maps is said once, and in the order of the table.
    assert_eq!(rows[0].notes, [NoteKind::SixteenBitPrediction, NoteKind::RescaledPrediction]);
    assert_eq!(
        rows[1].notes,
        [NoteKind::EmptyMask, NoteKind::SixteenBitPrediction, NoteKind::RescaledPrediction]
    );
}

#[test]
fn a_label_map_with_unlisted_values_is_named() {
    let f = Folders::new();
    let labels = |corner: u8| {
        GrayImage::from_fn(W, H, |x, y| Luma([if (x, y) == (0, 0) { corner } else { u8::from(x < 8) }]))
    };
    for (name, mask, prediction) in [("a", 0, 7), ("b", 7, 7), ("c", 0, 0)] {
        f.save(&format!("masks/{name}.png"), labels(mask));
        f.save(&format!("predictions/{name}.png"), labels(prediction));
    }
    let options = Options { classes: Classes::parse("left=1,right=2").unwrap(), ..thresholded() };
    let (report, _) = run(&f.set(), &options).unwrap();
    assert_eq!(names(&report, NoteKind::UnlistedValues), ["a", "b"]);
}

/// A map of 0 and 1 marks nothing on its own scale, which is right only if there is nothing: in none of the classes.
#[test]
fn faint_maps_of_several_classes_are_refused_if_one_mask_is_not_empty() {
    let f = Folders::new();
    f.save("masks/a.png", GrayImage::from_fn(W, H, |x, _| Luma([u8::from(x < 8)])));
    for class in ["left", "right"] {
        std::fs::create_dir(f.path("predictions").join(class)).unwrap();
        f.save(&format!("predictions/{class}/a.png"), block(12, 1));
    }
    let options = Options { classes: Classes::parse("left=1,right=2").unwrap(), ..thresholded() };
    let said = run(&f.set(), &options).unwrap_err().to_string();
    assert!(said.contains("--prediction-max 1"), "{said}");
}

#[test]
fn of_equally_bad_pictures_the_first_are_kept() {
    let f = Folders::new();
    for (i, right) in [9, 9, 7, 7, 7, 5].into_iter().enumerate() {
        f.save(&format!("masks/{i}.png"), block(12, 255));
        f.save(&format!("predictions/{i}.png"), block(right, 255));
    }
    let worst = |worst| {
        let (report, _) = run(&f.set(), &Options { worst, ..thresholded() }).unwrap();
        report.worst.iter().map(|w| w.name.clone()).collect::<Vec<_>>()
    };
    assert_eq!(worst(3), ["5", "2", "3"]);
    assert_eq!(worst(9), ["5", "2", "3", "4", "0", "1"]);
}

#[test]
fn json_and_csv_have_their_keys() {
    let f = Folders::new();
    f.save("masks/a, \"b\".png", block(12, 255));
    f.save("predictions/a, \"b\".png", block(12, 255));
    f.save("masks/empty.png", block(4, 255));
    f.save("predictions/empty.png", block(4, 255));
    let (report, rows) = run(&f.set(), &thresholded()).unwrap();
    let value = json(&[report]);
    assert_eq!((value["protocol"].as_str(), value["threshold"].as_f64()), (Some("thresholded"), Some(0.5)));
    let set = &value["datasets"][0];
    for key in [
        "name",
        "count",
        "m_dice",
        "m_iou",
        "pooled_iou",
        "wfm",
        "sm",
        "em",
        "mae",
        "max_f",
        "avg_f",
        "ber",
        "acc",
    ] {
        assert!(set.get(key).is_some_and(|v| !v.is_null()), "{key}");
    }
    let header: Vec<&str> = CSV_HEADER.split(',').collect();
    let line = csv_line("set", Protocol::Published, &rows[1]);
    assert_eq!(line.split(',').count(), header.len(), "{line}");
    assert_eq!(line.split(',').nth(header.iter().position(|h| *h == "ber").unwrap()), Some(""));
    assert!(line.ends_with("empty_mask"));
    assert!(
        csv_line("set", Protocol::Published, &rows[0])
            .starts_with("set,published,\"a, \"\"b\"\"\",polyp,1.000000,")
    );
}

/// The real masks of the reference folder, of real formats, sizes and noise, against themselves moved aside: the counts are
/// those of the pixels that the `image` crate gives.
#[test]
fn real_masks_are_counted_as_the_image_crate_reads_them() {
    const ASIDE: u32 = 9;
    let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/images");
    if !shared.is_dir() {
        return crate::skipped::skip("shared", format_args!("{} is not here", shared.display()));
    }
    for (name, count) in [("kvasir", 60), ("clinicdb", 36)] {
        let masks = shared.join(name).join("masks");
        let moved = TempDir::new().unwrap();
        let mut wanted = std::collections::BTreeMap::new();
        for entry in std::fs::read_dir(&masks).unwrap() {
            let path = entry.unwrap().path();
            let stem = path.file_stem().unwrap().to_str().unwrap().to_owned();
            let mask = image::open(&path).unwrap().to_luma8();
            let (w, h) = mask.dimensions();
            let half = mask.as_raw().iter().max().unwrap() / 2;
            let inside = |x: u32, y: u32| mask.get_pixel(x, y).0[0] > half;
            let aside = |x: u32, y: u32| x >= ASIDE && inside(x - ASIDE, y);
            let prediction = GrayImage::from_fn(w, h, |x, y| Luma([if aside(x, y) { 255 } else { 0 }]));
            prediction.save(moved.path().join(format!("{stem}.png"))).unwrap();
            let count = |holds: &dyn Fn(u32, u32) -> bool| {
                (0..h).map(|y| (0..w).filter(|&x| holds(x, y)).count() as u64).sum::<u64>()
            };
            let both = count(&|x, y| inside(x, y) && aside(x, y));
            // Of a lossy mask with several polyps the dimmest one's half may be meant.
            let unclear = count(&|x, y| mask.get_pixel(x, y).0[0].abs_diff(half) <= 2);
            let counts = [count(&inside), count(&aside), both, u64::from(w) * u64::from(h)];
            wanted.insert(stem, (counts, unclear));
        }
        let predictions = Some(moved.path().to_owned());
        let set = DataSet { name: name.into(), masks, predictions, images: None };
        let (report, rows) = run(&set, &thresholded()).unwrap();
        assert!(report.problems.is_empty(), "{:?}", report.problems);
        assert_eq!([report.figures.count, rows.len() as u64, wanted.len() as u64], [count; 3], "{name}");
        for row in &rows {
            let ([truth, predicted, both, total], unclear) = wanted[&row.name];
            let f = &row.figures;
            let place = format!("{name}, {}", row.name);
            assert_eq!((f.predicted_px, f.total_px), (predicted, total), "{place}");
            assert!(f.truth_px.abs_diff(truth) <= unclear, "{} for {truth}; {place}", f.truth_px);
            assert!(f.intersection_px.abs_diff(both) <= unclear, "{} for {both}; {place}", f.intersection_px);
            assert_eq!(f.union_px, f.truth_px + f.predicted_px - f.intersection_px, "{place}");
            let dice = 2.0 * f.intersection_px as f64 / (f.truth_px + f.predicted_px) as f64;
            assert!(truth > 0 && (f.dice - dice).abs() < 1e-6, "{} for {dice}; {place}", f.dice);
        }
    }
}

/// Sigmoid of the distance to an ellipse that differs from picture to picture, as a network's map looks, and its mask.
fn endoscopic_pair(i: u32) -> (GrayImage, GrayImage) {
    let (w, h) = (640, 512);
    let at = |x: u32, y: u32, shift: f32| {
        let (cx, cy) = (150.0 + 30.0 * (i % 12) as f32 + shift, 125.0 + 22.5 * (i % 11) as f32);
        let (rx, ry) = (30.0 + 12.5 * (i % 9) as f32, 40.0 + 10.0 * (i % 7) as f32);
        let (dx, dy) = ((x as f32 - cx) / rx, (y as f32 - cy) / ry);
        1.0 - (dx * dx + dy * dy).sqrt()
    };
    let mask = GrayImage::from_fn(w, h, |x, y| Luma([if at(x, y, 0.0) > 0.0 { 255 } else { 0 }]));
    let map = GrayImage::from_fn(w, h, |x, y| {
        let wobble = ((x * 7 + y * 13 + i) % 5) as f32 * 0.01;
        Luma([(255.0 / (1.0 + (-9.0 * (at(x, y, 12.5) + wobble)).exp())) as u8])
    });
    (mask, map)
}

/// Not a test by itself: what the next one runs in a process of its own, where no other test allocates.
#[test]
#[ignore = "run by its neighbour"]
fn measured() {
    use std::io::Write;
    const PAIRS: u64 = 240;
    let f = Folders::new();
    for i in 0..20 {
        let (mask, map) = endoscopic_pair(i);
        f.save(&format!("masks/{i:04}.png"), mask);
        f.save(&format!("predictions/{i:04}.png"), map);
    }
    for i in 20..PAIRS {
        for side in ["masks", "predictions"] {
            let link = f.path(&format!("{side}/{i:04}.png"));
            std::fs::hard_link(f.path(&format!("{side}/{:04}.png", i % 20)), link).unwrap();
        }
    }
    let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
    for protocol in [Protocol::Published, Protocol::Thresholded { threshold: 0.5 }] {
        let options = Options { protocol, ..Options::default() };
        let (mut done, mut early) = (0, 0);
        let report = pool.install(|| {
            score(&f.set(), &options, None, &mut |event| {
                if matches!(event, Event::Done) {
                    done += 1;
                    // More than two threads have in hand at once.
                    if done == 80 {
                        early = crate::telemetry::rss_bytes();
                    }
                }
                Ok(())
            })
        });
        assert_eq!(report.unwrap().figures.count, PAIRS);
        let late = crate::telemetry::rss_bytes();
        let _ = writeln!(std::io::stdout(), "resident bytes, {}: {early}, then {late}", protocol.name());
        // A map alone of each of the other pairs would be three times as much.
        assert!(early > 0 && late < early + (16 << 20), "{early} bytes grew to {late}");
    }
}

#[test]
fn memory_does_not_grow_with_the_number_of_pairs() {
    let out = std::process::Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "evaluation::images::tests::measured",
            "--ignored",
            "--nocapture",
            "--test-threads=1",
        ])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&out.stdout);
    assert!(out.status.success(), "{text}\n{}", String::from_utf8_lossy(&out.stderr));
    assert_eq!(text.matches("resident bytes").count(), 2, "{text}");
}
