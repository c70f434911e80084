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
        // One on end, so that its row is higher than the others' tiles; of 53 letters a name just fits, of 64 it does
        // not.
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

type Rgb16 = ImageBuffer<Rgb<u16>, Vec<u16>>;
type Rgba16 = ImageBuffer<Rgba<u16>, Vec<u16>>;

/// Colours of floating-point numbers as scientific programs save them.
fn save_real_colours(path: &Path, colour: impl Fn(u8) -> [f32; 3]) {
    let values: Vec<f32> = block(12, 255).as_raw().iter().flat_map(|v| colour(*v)).collect();
    let file = std::fs::File::create(path).unwrap();
    let mut encoder = tiff::encoder::TiffEncoder::new(file).unwrap();
    encoder.write_image::<tiff::encoder::colortype::RGB32Float>(W, H, &values).unwrap();
}

/// Whether a mask of [`block`]'s square is read as that square, whatever it is stored as, and its notes.
fn read_as_the_block(path: &Path) -> Vec<NoteKind> {
    let (masks, notes) = read::masks(path, &Classes::one(), MaskLevels::Half).unwrap();
    let wanted: Vec<u8> = block(12, 255).as_raw().iter().map(|v| u8::from(*v > 0)).collect();
    assert_eq!(masks[0].pixels(), wanted, "{}", path.display());
    notes
}

#[test]
fn the_brightest_channel_counts_dimmed_by_its_opacity() {
    let f = Folders::new();
    let inside = |x: u32, y: u32| block(12, 255).get_pixel(x, y).0[0] > 0;
    // One channel after the other, so that each must be looked at; behind the mask a colour that is nearly as bright.
    for channel in 0..3 {
        let one = |level: u16| std::array::from_fn::<u16, 3, _>(|c| if c == channel { level } else { 0 });
        let name = |kind: &str| format!("masks/{kind}{channel}.png");
        let eight = |x, y| one(if inside(x, y) { 200 } else { 90 }).map(|v| v as u8);
        f.save(&name("rgb"), RgbImage::from_fn(W, H, |x, y| Rgb(eight(x, y))));
        let deep = |x, y| one(if inside(x, y) { 51_400 } else { 23_130 });
        f.save(&name("deep"), DynamicImage::ImageRgb16(Rgb16::from_fn(W, H, |x, y| Rgb(deep(x, y)))));
        // The same brightness everywhere, and opacity draws the mask: 200 of 255 in it, 90 around it.
        let [r, g, b] = one(255).map(|v| v as u8);
        let glass = RgbaImage::from_fn(W, H, |x, y| Rgba([r, g, b, if inside(x, y) { 200 } else { 90 }]));
        f.save(&name("glass"), glass);
        let [r, g, b] = one(u16::MAX);
        let glass = Rgba16::from_fn(W, H, |x, y| Rgba([r, g, b, if inside(x, y) { 51_400 } else { 23_130 }]));
        f.save(&name("deepglass"), DynamicImage::ImageRgba16(glass));
        for kind in ["rgb", "deep", "glass", "deepglass"] {
            let notes = read_as_the_block(&f.path(&name(kind)));
            assert!(notes.contains(&NoteKind::ColourMask), "{kind}{channel}: {notes:?}");
            assert_eq!(notes.contains(&NoteKind::SixteenBitMask), kind.starts_with("deep"));
        }
    }
}

#[test]
fn levels_of_deep_masks_with_opacity_are_rounded_to_the_nearest() {
    let f = Folders::new();
    // A level that is the largest there is and one that is just below, each as bright and half as bright.
    for (name, level, opacity, darker) in
        [("a", 65_535u16, 65_535u16, 32_767u16), ("b", 40_000, 65_535, 19_999), ("c", 1000, 65_535, 0)]
    {
        let picture = Rgba16::from_fn(W, H, |x, y| {
            let v = if block(12, 255).get_pixel(x, y).0[0] > 0 { level } else { darker };
            Rgba([v, v, v, opacity])
        });
        f.save(&format!("masks/{name}.png"), DynamicImage::ImageRgba16(picture));
        read_as_the_block(&f.path(&format!("masks/{name}.png")));
    }
}

#[test]
fn a_mask_that_is_black_where_it_is_opaque_is_refused() {
    let f = Folders::new();
    let opacity = |x: u32, y: u32| block(12, 255).get_pixel(x, y).0[0];
    f.save("masks/shape.png", RgbaImage::from_fn(W, H, |x, y| Rgba([0, 0, 0, opacity(x, y)])));
    let said =
        read::masks(&f.path("masks/shape.png"), &Classes::one(), MaskLevels::Auto).unwrap_err().to_string();
    assert!(said.contains("shape.png: is black wherever it is opaque"), "{said}");
    // One opacity throughout, or a spot of white, is a mask.
    f.save("masks/empty.png", RgbaImage::from_pixel(W, H, Rgba([0, 0, 0, 77])));
    let (masks, _) = read::masks(&f.path("masks/empty.png"), &Classes::one(), MaskLevels::Auto).unwrap();
    assert!(masks[0].pixels().iter().all(|v| *v == 0));
    let spot = |x: u32, y: u32| if opacity(x, y) > 0 { [255; 4] } else { [0, 0, 0, 255 * u8::from(x > 12)] };
    f.save("masks/spot.png", RgbaImage::from_fn(W, H, |x, y| Rgba(spot(x, y))));
    read_as_the_block(&f.path("masks/spot.png"));
}

#[test]
fn one_coloured_pixel_makes_a_colour_picture() {
    let f = Folders::new();
    let refused = |picture: DynamicImage, name: &str| {
        let path = f.path(name);
        picture.save(&path).unwrap();
        let read = read::prediction(&path, &Scales::new(vec![path.clone()], None)).map(drop);
        read.err().map(|e| e.to_string())
    };
    // Grey but for one pixel whose channels differ by the least there is, which is enough where nothing was lost.
    for channel in 0..3 {
        let mut eight = RgbImage::from_pixel(W, H, Rgb([100; 3]));
        assert_eq!(refused(eight.clone().into(), "predictions/a.png"), None);
        eight.get_pixel_mut(3, 2).0[channel] += 1;
        let said = refused(eight.clone().into(), "predictions/a.png").unwrap();
        assert!(said.contains("is a colour picture"), "{said}");
        let mut deep = Rgb16::from_pixel(W, H, Rgb([30_000; 3]));
        assert_eq!(refused(DynamicImage::ImageRgb16(deep.clone()), "predictions/a.png"), None);
        deep.get_pixel_mut(3, 2).0[channel] -= 1;
        assert!(refused(DynamicImage::ImageRgb16(deep), "predictions/a.png").unwrap().contains("colour"));
    }
    let real = |spot: f32| {
        let path = f.path("predictions/a.tif");
        let first = std::cell::Cell::new(true);
        save_real_colours(&path, |v| {
            let v = f32::from(v) / 255.0;
            if first.replace(false) { [v, v + spot, v] } else { [v; 3] }
        });
        read::prediction(&path, &Scales::new(vec![path.clone()], None))
            .map(|m| m.notes)
            .map_err(|e| e.to_string())
    };
    assert_eq!(real(0.0), Ok(vec![NoteKind::RealPrediction]));
    assert!(real(0.001).unwrap_err().contains("is a colour picture"));
    // A lossy format colours grey a little.
    let tinted = |by: u8| RgbImage::from_pixel(64, 64, Rgb([100, 100 + by, 100]));
    assert_eq!(refused(tinted(10).into(), "predictions/b.jpg"), None);
    assert!(refused(tinted(60).into(), "predictions/b.jpg").unwrap().contains("colour"));
    // Opaque it is a map as well, and one pixel of glass makes it none.
    let mut glass = RgbaImage::from_pixel(W, H, Rgba([100, 100, 100, 255]));
    assert_eq!(refused(glass.clone().into(), "predictions/c.png"), None);
    glass.get_pixel_mut(1, 1).0[3] = 254;
    assert!(refused(glass.into(), "predictions/c.png").unwrap().contains("partly transparent"));
}

#[test]
fn a_lossy_mask_may_be_a_little_coloured() {
    let f = Folders::new();
    let tinted =
        |by: u8| RgbImage::from_fn(64, 64, |x, _| Rgb(if x < 32 { [0; 3] } else { [230, 230 - by, 230] }));
    for (by, coloured) in [(8, false), (90, true)] {
        f.save("masks/a.jpg", tinted(by));
        let (masks, notes) = read::masks(&f.path("masks/a.jpg"), &Classes::one(), MaskLevels::Half).unwrap();
        assert_eq!(masks[0].pixels().iter().filter(|v| **v > 0).count(), 32 * 64);
        assert_eq!(notes.contains(&NoteKind::ColourMask), coloured, "{by}: {notes:?}");
    }
}

#[test]
fn floating_point_levels_are_kept_where_they_are_whole() {
    let f = Folders::new();
    let path = f.path("masks/a.tif");
    let levels_of = |low: f32, high: f32| {
        let values: Vec<f32> = (0..W * H).map(|i| if i % 3 == 0 { high } else { low }).collect();
        let file = std::fs::File::create(&path).unwrap();
        let mut encoder = tiff::encoder::TiffEncoder::new(file).unwrap();
        encoder.write_image::<tiff::encoder::colortype::Gray32Float>(W, H, &values).unwrap();
        let (masks, _) = read::masks(&path, &Classes::one(), MaskLevels::Half).map_err(|e| e.to_string())?;
        Ok::<usize, String>(masks[0].pixels().iter().map(|v| usize::from(*v)).sum())
    };
    let third = (W * H / 3) as usize;
    // Whole levels as they are, up to the largest of 16 bits; others over 16 bits by their largest.
    for (low, high) in [
        (0.0, 65_535.0),
        (32_767.0, 65_535.0),
        (0.0, 0.001),
        (0.499, 1.0),
        (1.0, 2.5),
        (0.0, 1e9),
        (49_000.0, 98_305.0),
    ] {
        assert_eq!(levels_of(low, high), Ok(third), "{low}, {high}");
    }
    // Half of the brightest is told from what is barely brighter.
    assert_eq!((levels_of(1.2499, 2.5), levels_of(1.25001, 2.5)), (Ok(third), Ok(3 * third)));
    for (low, high) in [(-0.5, 1.0), (0.0, -1.0), (0.0, f32::INFINITY), (f32::NAN, 1.0)] {
        assert!(levels_of(low, high).unwrap_err().contains("which no mask has"), "{low}, {high}");
    }
    // As labels, each number is a class.
    let classes = Classes::parse("a=2,b=3").unwrap();
    levels_of(2.0, 3.0).unwrap();
    let (masks, notes) = read::masks(&path, &classes, MaskLevels::Auto).unwrap();
    let counts: Vec<_> = masks.iter().map(|m| m.pixels().iter().filter(|v| **v > 0).count()).collect();
    assert_eq!(counts, [2 * third, third]);
    assert_eq!(notes, [NoteKind::RealMask]);
}

#[test]
fn one_value_that_is_no_number_makes_no_map() {
    let f = Folders::new();
    let path = f.path("predictions/a.tif");
    for bad in [f32::NAN, f32::INFINITY] {
        let values: Vec<f32> = (0..W * H).map(|i| if i == 7 { bad } else { 0.5 }).collect();
        let file = std::fs::File::create(&path).unwrap();
        let mut encoder = tiff::encoder::TiffEncoder::new(file).unwrap();
        encoder.write_image::<tiff::encoder::colortype::Gray32Float>(W, H, &values).unwrap();
        let said = read::prediction(&path, &Scales::new(vec![path.clone()], None)).unwrap_err().to_string();
        assert!(said.contains("not a number or infinite"), "{said}");
    }
}

#[test]
fn a_map_is_stretched_to_what_is_certain() {
    let f = Folders::new();
    let levels = GrayImage::from_fn(101, 1, |x, _| Luma([x as u8]));
    f.save("predictions/a.png", levels.clone());
    let path = f.path("predictions/a.png");
    for certain in [100u16, 200, 255] {
        let map = read::prediction(&path, &Scales::new(vec![path.clone()], Some(certain))).unwrap();
        let Prediction::Levels { pixels, .. } = &map.prediction else { panic!("levels stay levels") };
        for (v, &got) in pixels.iter().enumerate() {
            // The nearest of 255 levels, by whole numbers.
            let wanted = (v * 255 * 2 + usize::from(certain)) / (2 * usize::from(certain));
            assert_eq!(usize::from(got), wanted, "{v} of {certain}");
        }
    }
    save_real(&f.path("predictions/a.tif"), 50.0);
    let path = f.path("predictions/a.tif");
    let map = read::prediction(&path, &Scales::new(vec![path.clone()], Some(200))).unwrap();
    let Prediction::Probability { pixels, .. } = &map.prediction else { panic!("numbers stay numbers") };
    assert!(pixels.iter().all(|v| [0.0, 0.25].contains(v)), "{pixels:?}");
}

#[test]
fn what_was_turned_upright_is_named() {
    let f = Folders::new();
    // PNG with an EXIF block before its pictures: orientation 6, a quarter turn.
    let mut png = std::io::Cursor::new(Vec::new());
    block(12, 255).write_to(&mut png, image::ImageFormat::Png).unwrap();
    let png = png.into_inner();
    let mut chunk = b"eXIfMM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0".to_vec();
    let crc = crc_of(&chunk);
    let length = (chunk.len() - 4) as u32;
    chunk.extend(crc.to_be_bytes());
    // Behind the header: the signature and a block of 25 bytes.
    let turned = [&png[..33], &length.to_be_bytes(), &chunk, &png[33..]].concat();
    for name in ["masks/a.png", "predictions/a.png"] {
        std::fs::write(f.path(name), &turned).unwrap();
    }
    let path = f.path("masks/a.png");
    let (masks, notes) = read::masks(&path, &Classes::one(), MaskLevels::Auto).unwrap();
    assert_eq!((masks[0].width(), masks[0].height()), (H as usize, W as usize));
    assert_eq!(notes, [NoteKind::Turned]);
    let classes = Classes::parse("polyp=255").unwrap();
    assert_eq!(read::label_predictions(&path, &classes).unwrap().1, [NoteKind::Turned]);
    let map = read::prediction(&path, &Scales::new(vec![path.clone()], None)).unwrap();
    assert_eq!(map.notes, [NoteKind::Turned]);
    f.save("masks/upright.png", block(12, 255));
    assert_eq!(read::label_predictions(&f.path("masks/upright.png"), &classes).unwrap().1, []);
}

/// The check sum of PNG, bit by bit.
fn crc_of(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 * (crc & 1)))
    })
}

#[test]
fn files_that_share_a_stem_and_others_are_named_in_natural_order() {
    let f = Folders::new();
    for name in ["a.tif", "a.png", "a.bmp", "a.webp", "a.gif", "b10.png", "b9.png"] {
        f.save(&format!("masks/{name}"), block(12, 255));
    }
    let others = ["n1.txt", "n2.txt", "n10.txt", "n11.txt", "n100.txt"];
    for name in others.iter().rev() {
        std::fs::write(f.path("masks").join(name), "x").unwrap();
    }
    let found = pairing::list(&f.path("masks"), "").unwrap();
    assert_eq!(found.others, others);
    let shared: Vec<_> =
        found.ambiguous.values().flatten().map(|p| p.file_name().unwrap().to_str().unwrap()).collect();
    assert_eq!(shared, ["a.bmp", "a.gif", "a.png", "a.tif", "a.webp"]);
    assert!(list_pictures(&f.path("masks")).unwrap_err().to_string().contains("a.bmp and "));
    for name in ["a.tif", "a.png", "a.bmp", "a.webp"] {
        std::fs::remove_file(f.path("masks").join(name)).unwrap();
    }
    let stems: Vec<_> = list_pictures(&f.path("masks")).unwrap().into_iter().map(|(stem, _)| stem).collect();
    assert_eq!(stems, ["a", "b9", "b10"]);
}

#[test]
fn stems_are_compared_in_natural_order() {
    use super::pairing::Stem;
    let stem = |name: &str| Stem(name.to_owned());
    assert!(stem("9") < stem("10") && stem("b") > stem("a10") && stem("a") >= stem("a"));
}

#[test]
fn remarks_name_as_many_as_asked_for_and_count_the_rest() {
    let f = Folders::new();
    f.save("masks/a.png", block(12, 255));
    f.save("predictions/a.png", block(12, 255));
    for name in ["p1", "p2", "p3"] {
        f.save(&format!("masks/{name}.png"), block(12, 255));
    }
    for name in ["m1", "m2", "m3", "m4"] {
        f.save(&format!("predictions/{name}.png"), block(12, 255));
    }
    let (report, _) = run(&f.set(), &thresholded()).unwrap();
    let said = |names: usize| report.remarks(names);
    let note = |named: &str| format!("set: 4 x {}{named}", NoteKind::NoMask.rule());
    assert_eq!(said(4).len(), 4, "three left out, and a note: {:?}", said(4));
    assert_eq!(said(4)[3], note(" (m1, m2, m3, m4)"));
    assert_eq!(said(3).len(), 4, "{:?}", said(3));
    assert_eq!(said(3)[3], note(" (m1, m2, m3, and 1 more)"));
    let two = said(2);
    assert!(two[0].contains("p1") && two[1].contains("p2"), "{two:?}");
    assert_eq!(two[2..], ["set: 3 left out in all".to_owned(), note(" (m1, m2, and 2 more)")]);
    // Without any name at least one problem is said.
    let none = said(0);
    assert!(none[0].contains("p1"), "{none:?}");
    assert_eq!(none[1..], ["set: 3 left out in all".to_owned(), note("")]);
}

#[test]
fn a_table_has_a_row_a_set_and_each_figure_under_its_heading() {
    let f = Folders::new();
    let report_of = |name: &str| {
        let set = DataSet { name: name.into(), ..f.set() };
        run(&set, &thresholded()).unwrap().0
    };
    f.save("masks/a.png", block(12, 255));
    f.save("predictions/a.png", block(8, 255));
    let (short, long) = (report_of("s"), report_of("a set of a long name"));
    let text = table(&[short.clone(), long]);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!((lines.len(), text.ends_with('\n')), (3, true), "{text}");
    // All as wide as the longest name, and one class has no row of its own.
    assert_eq!(lines[0].find("count"), Some("a set of a long name".len() + 3));
    assert!(lines[1].starts_with("s  ") && lines[2].starts_with("a set of a long name  "));
    let cells = |line: &str| line[20..].split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let titles = ["count", "mDice", "mIoU", "wFm", "Sm", "Em", "MAE", "maxF", "avgF", "BER", "Acc", "pooled"];
    assert_eq!(cells(lines[0]), titles);
    let s = &short.figures;
    let figures = [s.m_dice, s.m_iou, s.wfm, s.sm, s.em, s.mae, s.max_f, s.avg_f, s.ber, s.acc, s.pooled_iou];
    let wanted: Vec<String> = figures.iter().map(|v| format!("{:.4}", v.unwrap())).collect();
    for line in &lines[1..] {
        assert_eq!((cells(line)[0].as_str(), &cells(line)[1..]), ("1", &wanted[..]), "{text}");
        // Numbers end where their headings do.
        assert_eq!(line.len(), lines[0].len(), "{text}");
    }
    assert_eq!(table(&[]).lines().next().unwrap().find("count"), Some("data set".len() + 3));
}

#[test]
fn json_says_what_was_left_out_noted_and_worst() {
    let f = Folders::new();
    for (name, right) in [("a", 12), ("b", 6)] {
        f.save(&format!("masks/{name}.png"), block(12, 255));
        f.save(&format!("predictions/{name}.png"), block(right, 255));
    }
    f.save("masks/alone.png", block(12, 255));
    f.save("predictions/other.png", block(12, 255));
    let options = Options { worst: 1, ..thresholded() };
    let (report, rows) = run(&f.set(), &options).unwrap();
    let value = json(&[report]);
    let set = &value["datasets"][0];
    assert_eq!(set["left_out"][0]["name"], "alone");
    assert_eq!(set["left_out"][0]["kind"], "missing_prediction");
    assert_eq!(set["notes"]["no_mask"]["names"], serde_json::json!(["other"]));
    assert_eq!(set["notes"]["no_mask"]["rule"], NoteKind::NoMask.rule());
    assert_eq!(set["worst"].as_array().map(Vec::len), Some(1));
    assert_eq!(
        (set["worst"][0]["name"].as_str(), set["worst"][0]["value"].as_f64()),
        (Some("b"), Some(rows[1].figures.dice))
    );
    assert!(set.get("classes").is_none(), "one class is the set itself");
}

#[test]
fn protocols_are_said_in_a_sentence() {
    assert!(protocol_line(Protocol::Published).starts_with("protocol published: "));
    let said = protocol_line(Protocol::Thresholded { threshold: 0.375 });
    assert!(said.starts_with("protocol thresholded: ") && said.contains(">= 0.375 "), "{said}");
}

#[test]
fn every_kind_of_note_has_a_rule_of_its_own() {
    use NoteKind::*;
    let kinds = [
        NoMask,
        OtherFile,
        Resized,
        EmptyMask,
        FullMask,
        FaintMask,
        LossyMask,
        ColourMask,
        SixteenBitMask,
        SixteenBitPrediction,
        UnlistedValues,
        FaintPrediction,
        FaintAmongOthers,
        DimPrediction,
        RescaledPrediction,
        RealPrediction,
        RealMask,
        InstanceMask,
        GreyMask,
        NoBlackMask,
        Turned,
    ];
    let rules: std::collections::BTreeSet<&str> = kinds.iter().map(|k| k.rule()).collect();
    assert_eq!(rules.len(), kinds.len());
    assert!(rules.iter().all(|rule| rule.contains(' ') && !rule.ends_with('.')), "{rules:?}");
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

/// The real masks of the reference folder, of real formats, sizes and noise, against themselves moved aside: the counts
/// are those of the pixels that the `image` crate gives.
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
