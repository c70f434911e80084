use std::path::{Path, PathBuf};

use image::{DynamicImage, GrayImage, ImageBuffer, Luma, Rgb, RgbImage, Rgba, RgbaImage};
use tempfile::TempDir;

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

/// The real masks of the reference folder against themselves: real formats, sizes and noise.
#[test]
fn real_masks_against_themselves() {
    let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/images");
    if !shared.is_dir() {
        return crate::skipped::skip("shared", format_args!("{} is not here", shared.display()));
    }
    for (name, count) in [("kvasir", 60), ("clinicdb", 36)] {
        let masks = shared.join(name).join("masks");
        let set = DataSet { name: name.into(), masks: masks.clone(), predictions: Some(masks), images: None };
        let (report, _) = run(&set, &thresholded()).unwrap();
        assert!(report.problems.is_empty(), "{:?}", report.problems);
        assert_eq!(report.figures.count, count);
        assert!(report.figures.m_dice.unwrap() > 0.999, "{name}: {:?}", report.figures);
    }
}

/// Sigmoid of the distance to an ellipse that differs from picture to picture, as a network's map looks, and its mask.
fn endoscopic_pair(i: u32) -> (GrayImage, GrayImage) {
    let (w, h) = (1280, 1024);
    let at = |x: u32, y: u32, shift: f32| {
        let (cx, cy) = (300.0 + 60.0 * (i % 12) as f32 + shift, 250.0 + 45.0 * (i % 11) as f32);
        let (rx, ry) = (60.0 + 25.0 * (i % 9) as f32, 80.0 + 20.0 * (i % 7) as f32);
        let (dx, dy) = ((x as f32 - cx) / rx, (y as f32 - cy) / ry);
        1.0 - (dx * dx + dy * dy).sqrt()
    };
    let mask = GrayImage::from_fn(w, h, |x, y| Luma([if at(x, y, 0.0) > 0.0 { 255 } else { 0 }]));
    let map = GrayImage::from_fn(w, h, |x, y| {
        let wobble = ((x * 7 + y * 13 + i) % 5) as f32 * 0.01;
        Luma([(255.0 / (1.0 + (-9.0 * (at(x, y, 25.0) + wobble)).exp())) as u8])
    });
    (mask, map)
}

/// The promise of the command: 1000 pairs of 1280x1024 in under a minute on two cores, in memory that does not grow.
/// `cargo test --release --lib a_thousand_pairs -- --ignored --nocapture`
#[test]
#[ignore = "takes up to a minute and wants the machine for itself"]
fn a_thousand_pairs_in_a_minute_with_flat_memory() {
    use std::io::Write;
    let f = Folders::new();
    for i in 0..20 {
        let (mask, map) = endoscopic_pair(i);
        f.save(&format!("masks/{i:04}.png"), mask);
        f.save(&format!("predictions/{i:04}.png"), map);
    }
    for i in 20..1000 {
        for side in ["masks", "predictions"] {
            let link = f.path(&format!("{side}/{i:04}.png"));
            std::fs::hard_link(f.path(&format!("{side}/{:04}.png", i % 20)), link).unwrap();
        }
    }
    let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
    for protocol in [Protocol::Published, Protocol::Thresholded { threshold: 0.5 }] {
        let options = Options { protocol, ..Options::default() };
        let (mut done, mut early) = (0, 0);
        let start = std::time::Instant::now();
        let report = pool.install(|| {
            score(&f.set(), &options, None, &mut |event| {
                if matches!(event, Event::Done) {
                    done += 1;
                    if done == 100 {
                        early = crate::telemetry::rss_bytes();
                    }
                }
                Ok(())
            })
        });
        let (took, late) = (start.elapsed(), crate::telemetry::rss_bytes());
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        writeln!(
            std::io::stderr(),
            "{}: 1000 pairs in {:.1} s; {:.1} MiB after 100 pairs, {:.1} MiB after 1000",
            protocol.name(),
            took.as_secs_f64(),
            mib(early),
            mib(late)
        )
        .unwrap();
        assert_eq!(report.unwrap().figures.count, 1000);
        assert!(took.as_secs() < 60, "{took:?}");
        assert!(late < early + (16 << 20), "{early} bytes grew to {late}");
    }
}
