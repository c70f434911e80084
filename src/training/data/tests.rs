use std::path::{Path, PathBuf};

use image::{GrayImage, Luma, RgbImage};

use super::item::{Item, Truth};
use super::open::{Source, negatives, open};
use super::read::{Masks, read};
use super::split::{Grouping, fold, shared};
use super::{check, polygons, rle};

fn picture(path: &Path, w: u32, h: u32, tint: u8) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let at =
        |x: u32, y: u32| [(x * 7 % 256) as u8 ^ tint, (y * 5 % 256) as u8, tint.wrapping_mul((x / 9) as u8)];
    RgbImage::from_fn(w, h, |x, y| image::Rgb(at(x, y))).save(path).unwrap();
}

fn mask(path: &Path, w: u32, h: u32, level: u8) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    GrayImage::from_fn(w, h, |x, y| Luma([if x < w / 2 && y < h / 2 { level } else { 0 }]))
        .save(path)
        .unwrap();
}

fn source(path: &Path) -> Source {
    Source { path: path.to_owned(), weight: 1.0 }
}

#[test]
fn folders_pair_by_stem_and_say_what_does_not() {
    let t = tempfile::tempdir().unwrap();
    let at = |name: &str| t.path().join(name);
    picture(&at("image/a.png"), 80, 64, 1);
    picture(&at("image/b.png"), 80, 64, 2);
    picture(&at("image/v2/c.png"), 80, 64, 3);
    mask(&at("masks/a_mask.png"), 80, 64, 255);
    mask(&at("masks/v2/c.png"), 40, 32, 255);
    mask(&at("masks/x.png"), 80, 64, 255);
    let set = open(&source(t.path())).unwrap();
    assert_eq!(set.items.iter().map(|i| i.name.as_str()).collect::<Vec<_>>(), ["a", "v2/c"]);
    assert_eq!(set.left_out.iter().map(|l| l.name.as_str()).collect::<Vec<_>>(), ["b", "x"]);
    for item in &set.items {
        let sample = read(item, &Masks::default()).unwrap();
        assert_eq!(sample.labels.iter().filter(|l| **l == 1).count(), 40 * 32, "{}", item.name);
    }
    let healthy = negatives(&source(&at("image"))).unwrap();
    assert_eq!(healthy.items.len(), 3);
    assert!(read(&healthy.items[0], &Masks::default()).unwrap().is_empty());
    // A mask of another shape is refused by its name.
    mask(&at("masks/b.png"), 64, 80, 255);
    let set = open(&source(t.path())).unwrap();
    let e = read(&set.items[1], &Masks::default()).unwrap_err().to_string();
    assert!(e.contains("b.png: is 64x80") && e.contains("80x64"), "{e}");
    assert!(open(&source(&at("masks"))).unwrap_err().to_string().contains("images/ beside masks/"));
}

#[test]
fn coco_files_have_polygons_and_runs() {
    let t = tempfile::tempdir().unwrap();
    picture(&t.path().join("images/a.png"), 10, 8, 1);
    picture(&t.path().join("images/b.png"), 10, 8, 2);
    picture(&t.path().join("images/d.png"), 10, 8, 4);
    picture(&t.path().join("images/e.png"), 10, 8, 5);
    let json = t.path().join("set.json");
    let text = r#"{"images":[{"id":1,"file_name":"a.png"},{"id":2,"file_name":"b.png"},{"id":3,"file_name":"c.png"},
          {"id":4,"file_name":"d.png"},{"id":5,"file_name":"e.png"},{"id":2,"file_name":"d.png"}],
        "annotations":[
          {"image_id":1,"category_id":7,"segmentation":[[2,1,6,1,6,5,2,5]]},
          {"image_id":1,"category_id":9,"segmentation":{"size":[8,10],"counts":[72,8]}},
          {"image_id":9,"category_id":5,"segmentation":[[1,1,2,2,3,3]]},
          {"image_id":4,"category_id":7,"segmentation":[[2,1,6,1,6,5,2,5]]},
          {"image_id":4,"category_id":5,"segmentation":[[1,1,2,2,3,3]]},
          {"image_id":5,"category_id":7,"segmentation":{"size":[18446744073709551615,3],"counts":[72,8]}}],
        "categories":[{"id":9,"name":"tool"},{"id":7,"name":"polyp"}]}"#;
    std::fs::write(&json, text).unwrap();
    let set = open(&source(&json)).unwrap();
    assert_eq!(set.classes.as_deref(), Some(&["polyp".to_owned(), "tool".to_owned()][..]));
    // A picture that is not there, one with the number of another, an annotation of none, and two of which an
    // annotation cannot be used: without it, they would be healthy where the annotation is.
    let left_out: Vec<&str> = set.left_out.iter().map(|l| l.name.as_str()).collect();
    assert_eq!(left_out, ["c.png", "d.png", "e.png", "d.png", "picture 9"], "{:?}", set.left_out);
    assert_eq!(set.items.len(), 2);
    let masks = Masks {
        classes: crate::evaluation::images::Classes::parse("polyp=1,tool=2").unwrap(),
        ..Default::default()
    };
    let sample = read(&set.items[0], &masks).unwrap();
    let count = |class| sample.labels.iter().filter(|l| **l == class).count();
    assert_eq!((count(1), count(2)), (16, 8));
    assert_eq!(sample.labels[10 + 2], 1);
    assert!((0..8).all(|y| sample.labels[10 * y + 9] == 2), "the last column");
    assert!(read(&set.items[1], &masks).unwrap().is_empty());
    // One class is trained, the file has two.
    assert!(read(&set.items[0], &Masks::default()).unwrap_err().to_string().contains("--classes"));
}

#[test]
fn run_lengths_are_decompressed() {
    // The text pycocotools gives for the counts 6, 1, 40, 4, 5, 4, 5, 4, 21 of a 9x10 mask.
    assert_eq!(rle::decompress("61X13mN000`0"), Some(vec![6, 1, 40, 4, 5, 4, 5, 4, 21]));
    assert_eq!(rle::decompress("\u{1}"), None);
    assert_eq!(rle::decompress("oooooooooooooooooooooooo"), None);
    // Differences that add up to more than any number holds.
    assert_eq!(rle::decompress(&"oooooooooo>".repeat(3000)), None);
    let mut labels = vec![0; 6];
    rle::paint(&[1, 2, 3], 2, &mut labels, 4);
    assert_eq!(labels, [0, 4, 0, 4, 0, 0]);
    let mut labels = vec![0; 25];
    polygons::paint(
        &[vec![1.0, 1.0, 4.0, 1.0, 4.0, 4.0, 1.0, 4.0], vec![2.0, 2.0, 3.0, 2.0, 3.0, 3.0, 2.0, 3.0]],
        (5, 5),
        &mut labels,
        1,
    );
    assert_eq!(labels.iter().sum::<u8>(), 8, "a hole");
}

#[test]
fn lists_name_pairs_and_healthy_pictures() {
    let t = tempfile::tempdir().unwrap();
    picture(&t.path().join("p/a b.png"), 64, 64, 1);
    mask(&t.path().join("m/a.png"), 64, 64, 255);
    let list = t.path().join("train.txt");
    std::fs::write(&list, "# set\np/a b.png m/a.png\np/a b.png\t-\np/a b.png, m/none.png\n").unwrap();
    let set = open(&source(&list)).unwrap();
    assert_eq!(set.items.len(), 2);
    assert_eq!(set.items.iter().filter(|i| i.truth == Truth::Nothing).count(), 1);
    assert!(set.left_out[0].why.contains("none.png is not there"), "{:?}", set.left_out);
    assert_eq!("x=2.5".parse::<Source>().unwrap(), Source { path: "x".into(), weight: 2.5 });
    assert!("x=0".parse::<Source>().is_err());
}

fn item(path: &str) -> Item {
    Item { set: "s".into(), name: path.into(), image: PathBuf::from(path), truth: Truth::Nothing }
}

#[test]
fn folds_keep_groups_together() {
    let items: Vec<Item> = (0..40).map(|i| item(&format!("data/patient{}/f{i}.png", i / 4))).collect();
    let grouping: Grouping = "patient([0-9]+)".parse().unwrap();
    let mut seen = 0;
    for k in 0..5 {
        let (train, val) = fold(&items, &grouping, (k, 5), 1).unwrap();
        assert!(shared(&grouping, &train, &val).is_empty() && train.len() + val.len() == 40);
        assert_eq!(val.len(), 8);
        seen += val.len();
    }
    assert_eq!(seen, 40);
    assert!(fold(&items, &grouping, (0, 11), 1).is_err());
    assert!("(".parse::<Grouping>().is_err());
}

#[test]
fn a_check_names_what_is_wrong() {
    let t = tempfile::tempdir().unwrap();
    let at = |name: &str| t.path().join(name);
    for (i, name) in ["p1/a", "p1/b", "p2/c"].iter().enumerate() {
        picture(&at(&format!("train/images/{name}.png")), 80, 72, 1 + 40 * i as u8);
        mask(&at(&format!("train/masks/{name}.png")), 80, 72, 255);
    }
    std::fs::write(at("train/images/p1/bad.png"), "no picture").unwrap();
    mask(&at("train/masks/p1/bad.png"), 80, 72, 255);
    std::fs::copy(at("train/images/p1/a.png"), at("train/images/p2/a.png")).unwrap();
    std::fs::create_dir_all(at("val/masks/p2")).unwrap();
    std::fs::create_dir_all(at("val/images/p2")).unwrap();
    mask(&at("train/masks/p2/a.png"), 80, 72, 0);
    std::fs::copy(at("train/images/p2/c.png"), at("val/images/p2/z.png")).unwrap();
    let jpeg = GrayImage::from_fn(80, 72, |x, _| Luma([if x < 30 { 255 } else { 0 }]));
    jpeg.save(at("val/masks/p2/z.jpg")).unwrap();
    let (train, val) = (open(&source(&at("train"))).unwrap(), open(&source(&at("val"))).unwrap());
    let grouping: Grouping = "images/(p[0-9]+)/".parse().unwrap();
    let report = check::check(&[train], &[val], &grouping, &Masks::default(), &|| true);
    assert_eq!((report.training.pictures, report.training.positive, report.training.negative), (4, 3, 1));
    assert_eq!(report.training.sizes, [("80x72".to_owned(), 4)]);
    let has = |what: &str, name: &str| {
        report.findings.iter().any(|f| f.what.contains(what) && f.names.iter().any(|n| n.contains(name)))
    };
    assert!(has("cannot be used", "bad.png"), "{:?}", report.findings);
    assert!(has("JPEG", "p2/z"), "{:?}", report.findings);
    assert!(
        has("stand in training and in validation", "p2: 2 pictures in training, 1"),
        "{:?}",
        report.findings
    );
    assert!(has("look like ones of validation", "train/p2/c and val/p2/z"), "{:?}", report.findings);
    assert!(has("twice", "train/p1/a and "), "{:?}", report.findings);
}
