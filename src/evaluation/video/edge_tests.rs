//! What the rules promise where they meet their edges: lost frames, names that repeat, sizes that are none.

use std::path::PathBuf;

use super::region::Bounds;
use super::*;

/// A folder of its own with files in it.
fn folder(files: &[(&str, &[u8])]) -> (tempfile::TempDir, PathBuf) {
    let root = tempfile::TempDir::new().unwrap();
    for (name, bytes) in files {
        std::fs::write(root.path().join(name), bytes).unwrap();
    }
    let path = root.path().to_path_buf();
    (root, path)
}

fn square(x: i32, y: i32, side: i32) -> Region {
    Region::from_bounds(Bounds { x0: x, y0: y, x1: x + side, y1: y + side })
}

/// An alarm's length is reckoned with the frame period at the moment when it is closed, not its own: a false mark of
/// one frame counts as an alarm of two seconds if, while it waits to be closed, the recording loses two seconds.
#[test]
fn an_alarm_lasts_as_long_as_its_own_frames() {
    let mut scorer = VideoScorer::new(VideoRules::default()).unwrap();
    // 25 frames a second; one is marked, and two seconds are lost 120 ms later.
    let times = (0..50u64).map(|n| n * 40 + if n > 13 { 2000 } else { 0 });
    for (frame, ms) in times.enumerate() {
        let regions = if frame == 10 { vec![square(0, 0, 9)] } else { vec![] };
        let detected = FrameDetections { frame: frame as u64, pts_ns: ms * 1_000_000, regions };
        scorer.frame(detected, Some(&[])).unwrap();
    }
    let alarms = scorer.report().figures.false_alarms;
    assert_eq!((alarms.runs, alarms.marked_frames), (1, 1));
    assert_eq!((alarms.at_least_500_ms, alarms.at_least_2000_ms), (0, 0));
}

/// A lesion of several boxes is compared by the box around all of them, but its area is that of the boxes: what lies
/// between two boxes, and in neither, "covers" all of it.
#[test]
fn what_lies_between_two_boxes_covers_neither() {
    let lesion = Region::union([&square(0, 0, 10), &square(100, 0, 10)]);
    let between = Region::from_bounds(Bounds { x0: 40, y0: 0, x1: 60, y1: 10 });
    assert_eq!(between.intersection(&lesion), 0);
    let truth = TruthObject { id: Some(1), region: lesion, is_box: true };
    assert!(!HitRule::Cover(0.5).hits(&between, &truth));
}

/// Polyps without an identity are numbered from 1, as identities may be: a frame with names and one without them become
/// one polyp, wherever they are.
#[test]
fn a_polyp_without_a_name_is_not_the_one_named_1() {
    let mut scorer = VideoScorer::new(VideoRules::default()).unwrap();
    for (frame, id, x) in [(0, Some(1), 0), (1, None, 500)] {
        let truth = [TruthObject { id, region: square(x, 0, 10), is_box: true }];
        let detected = FrameDetections { frame, pts_ns: frame * 40_000_000, regions: vec![] };
        scorer.frame(detected, Some(&truth)).unwrap();
    }
    assert_eq!(scorer.report().polyps, 2);
}

/// A setting without a figure has no point, and its name goes to the next setting's point.
#[test]
fn a_point_has_its_own_settings_name() {
    let row = |name: &str, first_detection_ms: Option<f64>| PooledSetting {
        name: name.into(),
        numbers: None,
        figures: PooledFigures { first_detection_ms, ..PooledFigures::default() },
    };
    // The strict setting finds nothing, so there is no first alarm; the other does.
    let svg = curve(&[row("strict", None), row("lenient", Some(80.0))], 1.0, "");
    assert_eq!(svg.matches(">lenient<").count(), 2, "once a series with a point");
    assert_eq!(svg.matches(">strict<").count(), 0, "it has no point");
}

/// The quarters of a small axis are rounded to two digits: lines at 0.0125 and 0.0375 are called 0.01 and 0.04.
#[test]
fn axes_of_rare_alarms_say_what_their_lines_are() {
    let mut figures = PooledFigures { first_detection_ms: Some(80.0), ..PooledFigures::default() };
    figures.false_alarms.runs = 1;
    let row = PooledSetting { name: "quiet".into(), numbers: None, figures };
    // One alarm in 25 minutes, on an axis up to 0.05.
    let svg = curve(&[row], 25.0, "");
    for label in ["0.0125", "0.025", "0.0375", "0.05"] {
        assert!(svg.contains(&format!(">{label}<")), "{label}");
    }
}

/// A kept map whose picture is said to be large enough makes the reader ask for more memory than there is, which ends
/// the program; "Errors: None that a map could cause".
#[test]
fn a_kept_map_of_an_impossible_picture_is_refused() {
    let head = "{\"frame\":0,\"pts_ns\":0,\"picture\":[4294967295,4294967295],\"view\":[0,0,4294967295,4294967295],\
                \"classes\":1,\"height\":1,\"width\":1,\"level\":0.0}";
    let bytes = [format!("{KEPT_FIRST_LINE}\n{head}\n").as_bytes(), &1f32.to_le_bytes()].concat();
    let (_keep, path) = folder(&[("maps", &bytes)]);
    let mut kept = KeptMaps::open(&path.join("maps")).unwrap();
    let read = kept.advance();
    assert!(read.is_err() || kept.detections().is_err());
}

/// Blank lines are passed over and not counted, so that the place named is before the line that is wrong.
#[test]
fn a_wrong_line_behind_a_blank_one_is_named_by_its_number() {
    let line = "{\"frame\":0,\"pts_ns\":0,\"polyps\":[]}\n";
    let (_keep, path) = folder(&[("frames.jsonl", format!("{line}\n\nno record\n").as_bytes())]);
    let mut read = Detections::from_replay(&path.join("frames.jsonl")).unwrap();
    assert!(read.next().unwrap().is_ok());
    let said = read.next().unwrap().unwrap_err().to_string();
    assert!(said.contains("line 4"), "{said}");
}

/// `1.png` and `01.png` are the truth of the same frame; one of them is dropped without a word, and which is left to
/// chance.
#[test]
fn two_masks_of_one_frame_are_refused() {
    let (_keep, path) = folder(&[]);
    for name in ["1.png", "01.png"] {
        image::GrayImage::new(8, 8).save(path.join(name)).unwrap();
    }
    assert!(Truth::open(&path).is_err());
}

/// Masks that are named by numbers are taken by them, and so are maps beside them, though the first is not 0.
#[test]
fn masks_and_maps_of_the_same_name_are_of_the_same_frame() {
    let (_truth, truth) = folder(&[]);
    let (_maps, maps) = folder(&[]);
    for n in 1..=5u32 {
        let picture = image::GrayImage::from_fn(100, 20, |x, y| {
            image::Luma([if (20 * (n - 1)..20 * n).contains(&x) && y < 15 { 255 } else { 0 }])
        });
        picture.save(truth.join(format!("{n}.png"))).unwrap();
        picture.save(maps.join(format!("{n}.png"))).unwrap();
    }
    let mut truth = Truth::open(&truth).unwrap();
    let mut scorer = VideoScorer::new(VideoRules::default()).unwrap();
    assert!(truth.is_numbered());
    let mut detections = Detections::from_maps(&maps, 0.5, None, 25.0).unwrap().numbered();
    for detected in detections.by_ref() {
        let detected = detected.unwrap();
        let objects = truth.frame(detected.frame, None).unwrap();
        scorer.frame(detected, objects.as_deref()).unwrap();
    }
    assert_eq!(detections.skipped(), None, "what lies before the first is not lost");
    // The maps are the masks.
    assert_eq!(scorer.report().figures.per_frame_sensitivity, Some(1.0));
}

/// A box that is thinner than a pixel may be rounded to nothing: a polyp that is in view and cannot be hit.
#[test]
fn a_thin_box_still_holds_a_pixel() {
    let text = r#"{"width":100,"height":50,"frames":[[{"bbox":[10.1,20,10.4,45]}]]}"#;
    let (_keep, path) = folder(&[("boxes.json", text.as_bytes())]);
    let Ok(mut truth) = Truth::open(&path.join("boxes.json")) else { return };
    assert!(truth.frame(0, None).unwrap().unwrap().iter().all(|o| o.region.area_px() > 0));
}

/// Corners far outside any picture overflow (a panic with checks, a wrong region without them).
#[test]
fn corners_far_outside_do_not_overflow() {
    let line =
        "{\"frame\":0,\"pts_ns\":0,\"polyps\":[{\"contour\":[[-2147483648,0],[2147483647,1],[0,2]]}]}\n";
    let (_keep, path) = folder(&[("frames.jsonl", line.as_bytes())]);
    let read = Detections::from_replay(&path.join("frames.jsonl")).unwrap().next().unwrap();
    if let Ok(detected) = read {
        assert!(detected.regions.iter().all(|r| r.bounds().x0 <= r.bounds().x1));
    }
}

/// 99.9 % of 1000 values is 999, and in floating-point numbers a little more.
#[test]
fn the_rank_of_p999_is_exact() {
    let mut scorer = VideoScorer::new(VideoRules::default()).unwrap();
    let place = |n: u64| square(20 * n as i32, 0, 10);
    // All of 1000 polyps are in view, and one more is hit on each frame: delays of 0, 40, …, 39960 ms.
    let truth: Vec<TruthObject> =
        (0..1000).map(|n| TruthObject { id: Some(n), region: place(n), is_box: true }).collect();
    for frame in 0..1000 {
        let detected = FrameDetections { frame, pts_ns: frame * 40_000_000, regions: vec![place(frame)] };
        scorer.frame(detected, Some(&truth)).unwrap();
    }
    // The smallest value that 999 of 1000 do not exceed.
    assert!((scorer.report().figures.first_detection.p999 - 998.0 * 40.0).abs() < 1e-6);
}

/// In the table of settings the headings of the alarms end one column before their numbers.
#[test]
fn headings_of_alarms_end_where_their_numbers_do() {
    let row = ConfirmFigures {
        name: "off".into(),
        numbers: None,
        figures: VideoFigures::default(),
        per_polyp: vec![],
    };
    let mut report = VideoScorer::new(VideoRules::default()).unwrap().report();
    report.confirm = vec![row];
    let text = report.text();
    let lines: Vec<&str> = text.lines().collect();
    let at = lines.iter().position(|l| l.contains("marked frames")).unwrap();
    assert_eq!(lines[at].chars().count(), lines[at + 1].chars().count(), "{text}");
}

/// A 16-bit map is multiplied by the reciprocal of what is certain, in 32 bits: 2000 of 10000 becomes a little less
/// than 0.2, and is not marked at a threshold of 0.2 ("at probability >= threshold").
#[test]
fn exactly_the_threshold_is_marked_in_16_bits() {
    let (_keep, path) = folder(&[]);
    let map = image::ImageBuffer::<image::Luma<u16>, Vec<u16>>::from_fn(20, 10, |x, _| {
        image::Luma([if x < 10 { 2000 } else { 1999 }])
    });
    map.save(path.join("0.png")).unwrap();
    let mut maps = Detections::from_maps(&path, 0.2, Some(10_000), 25.0).unwrap();
    let areas: Vec<_> = maps.next().unwrap().unwrap().regions.iter().map(Region::area_px).collect();
    assert_eq!(areas, [100]);
}
