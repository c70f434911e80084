use std::path::{Path, PathBuf};

use image::{GrayImage, Luma};
use proptest::prelude::*;
use tempfile::TempDir;

use super::region::components;
use super::*;

fn square(x: i32, y: i32, side: i32) -> Region {
    Region::from_bounds(Bounds { x0: x, y0: y, x1: x + side, y1: y + side })
}

fn mask(id: Option<u64>, region: Region) -> TruthObject {
    TruthObject { id, region, is_box: false }
}

/// 25 frames a second.
const PERIOD_NS: u64 = 40_000_000;

fn seen(frame: u64, regions: &[Region]) -> FrameDetections {
    FrameDetections { frame, pts_ns: frame * PERIOD_NS, regions: regions.to_vec() }
}

fn at(report: &VideoReport, persistence: u32) -> &VideoFigures {
    &report.persistence.iter().find(|p| p.frames == persistence).unwrap().figures
}

/// Pixels of a region, one by one.
fn pixels(region: &Region) -> Vec<(i32, i32)> {
    region.runs().iter().flat_map(|r| (r.x0..r.x1).map(|x| (x, r.y))).collect()
}

#[test]
fn the_measures_of_a_short_video_by_hand() {
    // Frames 0–1 healthy, 2–7 polyp 1, 8–9 healthy, 10–13 polyp 2.
    // Detected: 1 false, 4 5 hit, 6 missed, 7 hit beside a false one, 8 the false one again, 10–13 nothing.
    let polyp = || square(20, 20, 10);
    let (hit, stray) = (square(22, 22, 6), square(60, 60, 8));
    let mut scorer =
        VideoScorer::new(VideoRules { persistence: vec![2, 3], ..VideoRules::default() }).unwrap();
    for frame in 0..14 {
        let truth = match frame {
            2..=7 => vec![mask(Some(1), polyp())],
            10..=13 => vec![mask(Some(2), square(50, 10, 10))],
            _ => vec![],
        };
        let regions = match frame {
            1 => vec![square(0, 0, 5)],
            4 | 5 => vec![hit.clone()],
            7 => vec![hit.clone(), stray.clone()],
            8 => vec![stray.clone()],
            _ => vec![],
        };
        scorer.frame(seen(frame, &regions), Some(&truth)).unwrap();
    }
    let report = scorer.report();
    assert_eq!(report.polyps, 2);
    assert_eq!((report.frames.judged, report.frames.with_polyp, report.frames.without_polyp), (14, 10, 4));
    let f = &report.figures;
    assert_eq!(f, at(&report, 1));
    assert_eq!(f.per_polyp_sensitivity, Some(0.5));
    assert_eq!(f.per_frame_sensitivity, Some(3.0 / 10.0));
    assert_eq!(f.per_appearance_sensitivity, Some(3.0 / 10.0));
    assert_eq!(f.per_frame_specificity, Some(2.0 / 4.0));
    // In view on frame 2, hit on frame 4.
    assert!((f.first_detection_ms.unwrap() - 80.0).abs() < 1e-9);
    // Two alarms (frame 1; frames 7 and 8 linked) of three regions, in 14 frames of 40 ms.
    assert_eq!((f.false_positives, f.false_positive_regions), (2, 3));
    assert!((f.false_positives_per_minute.unwrap() - 2.0 * 60_000.0 / 560.0).abs() < 1e-9);
    // Missed → hit at 4, hit → missed at 6, missed → hit at 7.
    assert!((f.switches_per_minute.unwrap() - 3.0 * 60_000.0 / 400.0).abs() < 1e-9);
    // Pairs with something in them: 0-1 1-2 3-4 (all 1), 4-5 (0), 5-6 6-7 (1), 7-8 (36 of 100 gone), 8-9 (1).
    assert!((f.flicker.unwrap() - (6.0 + 36.0 / 100.0) / 8.0).abs() < 1e-9, "{:?}", f.flicker);
    // Of the truth: 1-2 7-8 9-10 appear or vanish, 5 + 3 pairs stand still.
    assert!((report.flicker_truth.unwrap() - 3.0 / 11.0).abs() < 1e-9);

    // Two in a row: 5 shows (its second), 8's stray (its second); nothing else.
    let two = at(&report, 2);
    assert_eq!(two.per_frame_sensitivity, Some(1.0 / 10.0));
    assert!((two.first_detection_ms.unwrap() - 120.0).abs() < 1e-9);
    assert_eq!((two.false_positives, two.false_positive_regions), (1, 1));
    assert_eq!(two.per_frame_specificity, Some(3.0 / 4.0));
    let three = at(&report, 3);
    assert_eq!((three.per_polyp_sensitivity, three.first_detection_ms), (Some(0.0), None));
    assert_eq!((three.per_frame_specificity, three.flicker), (Some(1.0), None));
    assert_eq!(
        report.persistence.iter().map(|p| (p.frames, p.delay_ms)).collect::<Vec<_>>(),
        [(1, 0.0), (2, 40.0), (3, 80.0)]
    );

    let first = &report.per_polyp[0];
    assert_eq!(
        (first.id, first.first_frame, first.last_frame, first.frames, first.hit_frames),
        (1, 2, 7, 6, 3)
    );
    assert_eq!((report.per_polyp[1].hit_frames, report.per_polyp[1].first_detection_ms), (0, None));
    let text = report.text();
    for word in ["2 polyps", "14 frames", "never hit", "centroid", "near:1", "–"] {
        assert!(text.contains(word), "{word} in {text}");
    }
}

#[test]
fn json_has_its_keys() {
    let mut scorer = VideoScorer::new(VideoRules::default()).unwrap();
    scorer.frame(seen(0, &[]), Some(&[])).unwrap();
    let value = serde_json::to_value(scorer.report()).unwrap();
    let keys = [
        "per_polyp_sensitivity",
        "per_frame_sensitivity",
        "per_frame_specificity",
        "first_detection_ms",
        "false_positives_per_minute",
        "flicker",
    ];
    for key in keys {
        assert!(value.get(key).is_some(), "{key}");
        assert!(value["persistence"][0].get(key).is_some(), "{key}");
    }
    assert_eq!((value["polyps"].as_u64(), value["persistence"][0]["frames"].as_u64()), (Some(0), Some(1)));
    assert_eq!(value["per_frame_specificity"].as_f64(), Some(1.0));
    assert!(value["per_polyp_sensitivity"].is_null() && value["flicker"].is_null());
}

#[test]
fn each_rule_decides_a_hit() {
    let truth = mask(None, square(10, 10, 10));
    let boxed = TruthObject { is_box: true, ..truth.clone() };
    let hits = |rule: HitRule, d: &Region| (rule.hits(d, &truth), rule.hits(d, &boxed));
    // An L whose centroid lies outside the polyp, and whose box covers it.
    let corner = Region::union([&square(0, 0, 4), &square(17, 0, 4), &square(0, 17, 4), &square(18, 18, 4)]);
    assert_eq!(hits(HitRule::Centre, &square(0, 0, 11)), (false, false));
    assert_eq!(hits(HitRule::Centre, &square(5, 5, 11)), (true, true));
    assert_eq!(hits(HitRule::Overlap, &square(0, 0, 11)), (true, true));
    assert_eq!(hits(HitRule::Overlap, &square(0, 0, 10)), (false, false));
    // Few of its pixels, but its box of 22x22 around 10x10.
    assert_eq!(hits(HitRule::Iou(0.2), &corner), (false, true));
    assert_eq!(hits(HitRule::Iou(0.21), &corner), (false, false));
    assert_eq!(hits(HitRule::Cover(0.25), &square(15, 15, 10)), (true, true));
    assert_eq!(hits(HitRule::Cover(0.26), &square(15, 15, 10)), (false, false));
}

#[test]
fn rules_read_and_write_themselves() {
    for text in ["centre", "overlap", "iou:0.5", "cover:1"] {
        assert_eq!(text.parse::<HitRule>().unwrap().to_string(), text);
    }
    for text in ["near:1.5", "iou:0.1", "all"] {
        assert_eq!(text.parse::<LinkRule>().unwrap().to_string(), text);
    }
    for bad in ["", "center:1", "iou", "iou:0", "iou:1.1", "cover:nan", "near:1"] {
        assert_eq!(bad.parse::<HitRule>().unwrap_err().exit_code(), 2, "{bad}");
    }
    for bad in ["", "near", "near:0", "near:-1", "near:inf", "iou:2", "overlap"] {
        assert_eq!(bad.parse::<LinkRule>().unwrap_err().exit_code(), 2, "{bad}");
    }
    for bad in [vec![0], vec![1001]] {
        assert!(VideoScorer::new(VideoRules { persistence: bad, ..VideoRules::default() }).is_err());
    }
    assert!(VideoScorer::new(VideoRules { link_gap_ms: f64::NAN, ..VideoRules::default() }).is_err());
}

#[test]
fn boxes_that_move_keep_their_number_and_gaps_end_it() {
    let at = |x: i32| Bounds { x0: x, y0: 0, x1: x + 10, y1: 10 };
    let mut linker = Linker::new(LinkRule::default(), 1000.0, 1);
    assert_eq!(linker.frame(0.0, &[at(0), at(50)]), [1, 2]);
    // Both moved; the nearest pair goes first, whatever the order.
    assert_eq!(linker.frame(40.0, &[at(53), at(6)]), [2, 1]);
    // Unseen for a while, a new one beside it.
    assert_eq!(linker.frame(80.0, &[at(9)]), [1]);
    assert_eq!(linker.frame(1040.0, &[at(55), at(100)]), [2, 3]);
    assert_eq!(linker.frame(2041.0, &[at(55)]), [4]);
    let mut all = Linker::new(LinkRule::All, 0.0, 1);
    assert_eq!(all.frame(0.0, &[at(0), at(500)]), [1, 1]);
    assert_eq!(all.frame(9e9, &[at(900)]), [1]);
    let mut by_iou = Linker::new(LinkRule::Iou(0.5), 1000.0, 1);
    assert_eq!(by_iou.frame(0.0, &[at(0)]), [1]);
    assert_eq!(by_iou.frame(40.0, &[at(3)]), [1]);
    assert_eq!(by_iou.frame(80.0, &[at(9)]), [2]);
}

#[test]
fn frames_without_truth_are_counted_and_not_judged() {
    let mut scorer = VideoScorer::new(VideoRules::default()).unwrap();
    scorer.frame(seen(0, &[square(0, 0, 5)]), None).unwrap();
    scorer.frame(seen(1, &[square(0, 0, 5)]), Some(&[])).unwrap();
    let report = scorer.report();
    assert_eq!((report.frames.judged, report.frames.unjudged), (1, 1));
    assert_eq!(report.figures.false_positives, 1);
    // The detection was already there on the frame nobody judged, so it is in its second frame.
    assert_eq!(at(&report, 2).false_positives, 1);
    assert!(report.text().contains("1 frames without truth"));
}

#[test]
fn detections_below_the_least_area_are_not_shown() {
    let rules = VideoRules { min_area_px: 25, ..VideoRules::default() };
    let mut scorer = VideoScorer::new(rules).unwrap();
    scorer.frame(seen(0, &[square(0, 0, 4), square(20, 0, 5)]), Some(&[])).unwrap();
    let report = scorer.report();
    assert_eq!(report.figures.false_positive_regions, 1);
    assert!(report.rules.iter().any(|r| r.contains("25 px")));
}

#[test]
fn contradictory_identities_are_refused() {
    let mut scorer = VideoScorer::new(VideoRules::default()).unwrap();
    let twice = [mask(Some(1), square(0, 0, 5)), mask(Some(1), square(9, 9, 5))];
    assert!(scorer.frame(seen(0, &[]), Some(&twice)).unwrap_err().to_string().contains("frame 0"));
    let some = [mask(Some(1), square(0, 0, 5)), mask(None, square(9, 9, 5))];
    assert!(scorer.frame(seen(0, &[]), Some(&some)).is_err());
}

#[test]
fn timestamps_that_jump_or_stand_still_keep_the_clock_running() {
    let mut scorer = VideoScorer::new(VideoRules::default()).unwrap();
    let pts = [0, 40, 80, 3_600_000, 3_600_040, 10, 10, 50];
    for (frame, ms) in pts.into_iter().enumerate() {
        let detected = FrameDetections { frame: frame as u64, pts_ns: ms * 1_000_000, regions: vec![] };
        let hit = if frame == 7 { vec![square(0, 0, 5)] } else { vec![] };
        let truth = [mask(Some(1), square(0, 0, 5))];
        scorer.frame(FrameDetections { regions: hit, ..detected }, Some(&truth)).unwrap();
    }
    let report = scorer.report();
    assert_eq!(report.frames.irregular_timestamps, 3);
    assert!((report.judged_ms - 320.0).abs() < 1e-9);
    assert!((report.figures.first_detection_ms.unwrap() - 280.0).abs() < 1e-9);
}

/// A folder of its own with files in it.
fn folder(files: &[(&str, &[u8])]) -> (TempDir, PathBuf) {
    let root = TempDir::new().unwrap();
    for (name, bytes) in files {
        std::fs::write(root.path().join(name), bytes).unwrap();
    }
    let path = root.path().to_path_buf();
    (root, path)
}

#[test]
fn a_phantoms_truth_has_identities() {
    let (_keep, path) = folder(&[(
        "truth.jsonl",
        b"{\"frame\":0,\"pts_ns\":0,\"polyps\":[],\"motion\":[1,0,0,0,1,0]}\n{\"frame\":1}\n",
    )]);
    let ids = GrayImage::from_fn(20, 10, |x, _| {
        Luma([match x {
            0..5 => 3,
            15.. => 200,
            _ => 0,
        }])
    });
    ids.save(path.join("000000.png")).unwrap();
    let mut truth = Truth::open(&path).unwrap();
    assert_eq!(truth.frames(), 2);
    let objects = truth.frame(0, Some((20, 10))).unwrap().unwrap();
    assert_eq!(
        objects.iter().map(|o| (o.id, o.region.area_px())).collect::<Vec<_>>(),
        [(Some(3), 50), (Some(200), 50)]
    );
    assert!(truth.frame(1, Some((20, 10))).unwrap_err().to_string().contains("000001.png"));
    assert_eq!(truth.frame(2, Some((20, 10))).unwrap(), None);
    let wrong = truth.frame(0, Some((21, 10))).unwrap_err().to_string();
    assert!(wrong.contains("20x10") && wrong.contains("21x10"), "{wrong}");

    let (_keep, path) = folder(&[("truth.jsonl", b"{\"frame\":0}\n{\"frame\":2}\n")]);
    assert!(Truth::open(&path).unwrap_err().to_string().contains("line 2"));
}

#[test]
fn an_identity_used_again_after_255_others_is_another_polyp() {
    let (_keep, path) = folder(&[(
        "truth.jsonl",
        (0..256).map(|i| format!("{{\"frame\":{i}}}\n")).collect::<String>().as_bytes(),
    )]);
    let mut ids = Vec::new();
    for frame in 0..256u32 {
        let id = (frame % 255 + 1) as u8;
        GrayImage::from_pixel(2, 2, Luma([id])).save(path.join(format!("{frame:06}.png"))).unwrap();
    }
    let mut truth = Truth::open(&path).unwrap();
    for frame in 0..256 {
        ids.push(truth.frame(frame, Some((2, 2))).unwrap().unwrap()[0].id.unwrap());
    }
    assert_ne!(ids[0], ids[255]);
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 256);
}

#[test]
fn masks_become_polyps_by_region() {
    let (_keep, path) = folder(&[]);
    let two = GrayImage::from_fn(40, 20, |x, y| {
        Luma([if (x < 10 && y < 10) || (x >= 20 && y >= 10) || (x, y) == (15, 2) { 255 } else { 0 }])
    });
    // Numbers are frames: 1 and 3; 0 and 2 are not judged.
    two.save(path.join("1.png")).unwrap();
    two.save(path.join("003.png")).unwrap();
    let mut truth = Truth::open(&path).unwrap();
    assert_eq!(truth.frames(), 4);
    assert_eq!(truth.frame(0, Some((40, 20))).unwrap(), None);
    let objects = truth.frame(1, Some((40, 20))).unwrap().unwrap();
    assert_eq!(objects.iter().map(|o| o.region.area_px()).collect::<Vec<_>>(), [100, 200]);
    assert_eq!(truth.specks(), 1);
    // The last number there is.
    let (_keep, path) = folder(&[]);
    two.save(path.join("18446744073709551615.png")).unwrap();
    assert_eq!(Truth::open(&path).unwrap().frames(), u64::MAX);
    // Names are in natural order.
    let (_keep, path) = folder(&[]);
    for name in ["f10.png", "f9.png"] {
        GrayImage::from_pixel(8, 8, Luma([if name == "f9.png" { 255 } else { 0 }]))
            .save(path.join(name))
            .unwrap();
    }
    let mut truth = Truth::open(&path).unwrap();
    assert_eq!(truth.frame(0, Some((8, 8))).unwrap().unwrap().len(), 1);
    assert_eq!(truth.frame(1, Some((8, 8))).unwrap().unwrap().len(), 0);
    let (_keep, empty) = folder(&[]);
    assert!(Truth::open(&empty).unwrap_err().to_string().contains("truth.jsonl"));
}

#[test]
fn boxes_are_corners_and_malformed_ones_are_refused() {
    let write = |text: &str| folder(&[("boxes.json", text.as_bytes())]);
    let open = |text: &str| {
        let (_keep, path) = write(text);
        Truth::open(&path.join("boxes.json"))
    };
    let mut truth = open(
        r#"{"width":100,"height":50,"frames":[[{"bbox":[10,20,30,45]}],[],null,[{"bbox":[90,40,120,60]}]]}"#,
    )
    .unwrap();
    assert_eq!(truth.frames(), 4);
    let first = truth.frame(0, Some((100, 50))).unwrap().unwrap();
    assert_eq!(first[0].region.bounds(), Bounds { x0: 10, y0: 20, x1: 30, y1: 45 });
    assert!(first[0].is_box && first[0].id.is_none());
    assert_eq!(truth.frame(1, Some((100, 50))).unwrap(), Some(vec![]));
    assert_eq!(truth.frame(2, Some((100, 50))).unwrap(), None);
    // Cut at the picture's edge.
    assert_eq!(truth.frame(3, Some((100, 50))).unwrap().unwrap()[0].region.area_px(), 100);
    assert_eq!(truth.frame(4, Some((100, 50))).unwrap(), None);
    assert!(truth.frame(0, Some((50, 100))).unwrap_err().to_string().contains("100x50"));
    let many =
        format!("{{\"width\":9,\"height\":9,\"frames\":[[{}]]}}", ["{\"bbox\":[0,0,9,9]}"; 1001].join(","));
    for bad in [
        "[]",
        "{",
        &many,
        r#"{"width":4294967295,"height":9,"frames":[]}"#,
        r#"{"width":9,"height":32768,"frames":[[{"bbox":[0,0,9,9]}]]}"#,
        r#"{"width":100,"height":50,"frames":[[{"bbox":[30,20,10,45]}]]}"#,
        r#"{"width":100,"height":50,"frames":[[{"bbox":[1,2,3]}]]}"#,
        r#"{"width":100,"height":50,"frames":[[{"bbox":[200,2,300,9]}]]}"#,
        r#"{"width":100,"frames":[]}"#,
    ] {
        assert!(open(bad).unwrap_err().to_string().contains("boxes.json"), "{bad}");
    }
}

#[test]
fn real_boxes_link_into_two_polyps() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/video/ldpolyp-1.boxes.json");
    if !path.is_file() {
        return crate::skipped::skip("shared", format_args!("{} is not here", path.display()));
    }
    let mut truth = Truth::open(&path).unwrap();
    let mut scorer = VideoScorer::new(VideoRules::default()).unwrap();
    for frame in 0..truth.frames() {
        let objects = truth.frame(frame, Some((560, 480))).unwrap();
        let regions: Vec<Region> = objects.iter().flatten().map(|o| o.region.clone()).collect();
        scorer.frame(seen(frame, &regions), objects.as_deref()).unwrap();
    }
    let report = scorer.report();
    assert_eq!((report.polyps, report.frames.judged), (2, 53));
    // Truth as detection: found at once, everywhere, nothing false.
    assert_eq!(report.figures.per_polyp_sensitivity, Some(1.0));
    assert_eq!(report.figures.per_frame_sensitivity, Some(1.0));
    assert_eq!(report.figures.first_detection_ms, Some(0.0));
    assert_eq!(report.figures.false_positives, 0);
    assert_eq!(report.figures.flicker, report.flicker_truth);
}

#[test]
fn a_replays_records_are_read_line_by_line() {
    let line = |frame: u64| {
        format!(
            "{{\"frame\":{frame},\"pts_ns\":{},\"state\":\"active\",\"area_px\":9,\"max_probability\":0.9,\"polyps\":[{{\"bbox\":[2,3,3,3],\
             \"area_px\":9,\"mean_probability\":0.8,\"contour\":[[2,3],[4,3],[4,5],[2,5]]}}],\"timings_us\":{{}}}}\n",
            frame * PERIOD_NS
        )
    };
    let (_keep, path) = folder(&[
        ("frames.jsonl", (line(0) + &line(1)).as_bytes()),
        ("gap.jsonl", (line(0) + &line(2)).as_bytes()),
        ("back.jsonl", (line(1) + &line(0)).as_bytes()),
    ]);
    let read: Vec<FrameDetections> =
        Detections::from_replay(&path.join("frames.jsonl")).unwrap().collect::<Result<_, _>>().unwrap();
    assert_eq!(read.len(), 2);
    assert_eq!((read[1].frame, read[1].pts_ns), (1, PERIOD_NS));
    assert_eq!(read[0].regions, [square(2, 3, 3)]);
    // A lost frame has no line and keeps its number.
    let mut gap = Detections::from_replay(&path.join("gap.jsonl")).unwrap();
    let numbers: Vec<u64> = gap.by_ref().map(|d| d.unwrap().frame).collect();
    assert_eq!((numbers, gap.skipped()), (vec![0, 2], Some((1, 1))));
    let back: Vec<_> = Detections::from_replay(&path.join("back.jsonl")).unwrap().collect();
    assert!(back[1].as_ref().unwrap_err().to_string().contains("line 2"));
    assert!(Detections::from_replay(&path.join("none")).is_err());
    // Outlines that would take all memory, by their rows or by points that go over them again and again; the last number.
    let there_and_back = ["[0,0],[0,32767]"; 2000].join(",");
    for (contour, frame, is_taken) in [
        ("[[0,0],[0,2147483647]]", 0, false),
        ("[[-2147483648,0],[2147483647,9]]", 0, false),
        (&format!("[{there_and_back}]")[..], 0, false),
        ("[[-1,-1],[32767,0],[0,32767]]", u64::MAX, true),
    ] {
        let line = format!("{{\"frame\":{frame},\"pts_ns\":0,\"polyps\":[{{\"contour\":{contour}}}]}}\n");
        let (_keep, path) = folder(&[("far.jsonl", line.as_bytes())]);
        let read: Vec<_> = Detections::from_replay(&path.join("far.jsonl")).unwrap().collect();
        assert_eq!((read.len(), read[0].is_ok()), (1, is_taken), "{:?}", read[0]);
    }
}

#[test]
fn a_folder_of_maps_is_cut_and_numbered() {
    let (_keep, path) = folder(&[]);
    let map = GrayImage::from_fn(30, 10, |x, _| {
        Luma([match x {
            0..5 => 200,
            20.. => 128,
            10..15 => 127,
            _ => 0,
        }])
    });
    map.save(path.join("10.png")).unwrap();
    GrayImage::new(30, 10).save(path.join("9.png")).unwrap();
    let mut maps = Detections::from_maps(&path, 0.5, None, 25.0).unwrap();
    assert!(maps.next().unwrap().unwrap().regions.is_empty());
    assert_eq!(maps.size(), Some((30, 10)));
    let second = maps.next().unwrap().unwrap();
    assert_eq!((second.frame, second.pts_ns), (1, PERIOD_NS));
    assert_eq!(second.regions.iter().map(Region::area_px).collect::<Vec<_>>(), [50, 100]);
    assert!(maps.next().is_none());
    assert!(Detections::from_maps(&path, 0.5, None, 0.0).is_err());
}

#[test]
fn a_finished_mask_becomes_regions_in_source_pixels() {
    use crate::frame::{FrameId, Mask, Pts, Rect};
    let mut mask = Mask {
        frame: FrameId(7),
        pts: Pts(99),
        width: 20,
        height: 20,
        field_of_view: Rect::new(5, 6, 3, 2),
        inside: vec![1, 0, 0, 0, 0, 1],
        area_px: 2,
        ..Mask::default()
    };
    let detected = FrameDetections::from_mask(&mask).unwrap();
    assert_eq!((detected.frame, detected.pts_ns), (7, 99));
    assert_eq!(detected.regions, [square(5, 6, 1), square(7, 7, 1)]);
    mask.area_px = 0;
    mask.inside.clear();
    assert!(FrameDetections::from_mask(&mask).unwrap().regions.is_empty());
}

#[test]
fn an_outline_encloses_what_it_was_taken_from() {
    // A convex polygon with steep, shallow and horizontal edges, as pixel centres.
    let region = Region::from_outline(&[[0, 0], [10, 0], [12, 3], [2, 5]]);
    assert!(
        region.contains(0, 0) && region.contains(10, 0) && region.contains(12, 3) && region.contains(2, 5)
    );
    assert!(
        region.contains(6, 2) && !region.contains(0, 4) && !region.contains(12, 1) && !region.contains(11, 5)
    );
    assert_eq!(Region::from_outline(&[[4, 4]]), square(4, 4, 1));
    assert_eq!(Region::from_outline(&[[4, 4], [6, 4]]).area_px(), 3);
    assert_eq!(Region::from_outline(&[[4, 4], [7, 7]]).area_px(), 4);
    assert!(Region::from_outline(&[]).is_empty());
}

fn any_map() -> impl Strategy<Value = (usize, Vec<u8>)> {
    (1usize..14, 1usize..14, 0.0f64..1.0)
        .prop_flat_map(|(w, h, p)| (Just(w), proptest::collection::vec(proptest::bool::weighted(p), w * h)))
        .prop_map(|(w, map)| (w, map.into_iter().map(u8::from).collect()))
}

/// Components by flooding, pixel by pixel.
fn flooded(width: usize, map: &[u8]) -> Vec<Vec<(i32, i32)>> {
    let height = map.len() / width;
    let mut left: Vec<bool> = map.iter().map(|&v| v != 0).collect();
    let mut out = Vec::new();
    for start in 0..map.len() {
        if !left[start] {
            continue;
        }
        left[start] = false;
        let (mut stack, mut found) = (vec![start], Vec::new());
        while let Some(i) = stack.pop() {
            let (x, y) = ((i % width) as i32, (i / width) as i32);
            found.push((y, x));
            for (dx, dy) in (-1..=1).flat_map(|dy| (-1..=1).map(move |dx| (dx, dy))) {
                let (nx, ny) = (x + dx, y + dy);
                if (0..width as i32).contains(&nx) && (0..height as i32).contains(&ny) {
                    let n = ny as usize * width + nx as usize;
                    if left[n] {
                        left[n] = false;
                        stack.push(n);
                    }
                }
            }
        }
        found.sort_unstable();
        out.push(found.into_iter().map(|(y, x)| (x, y)).collect());
    }
    out
}

proptest! {
    #[test]
    fn components_are_what_flooding_finds((width, map) in any_map()) {
        let fast: Vec<_> = components(width, &map, (0, 0)).unwrap().iter().map(pixels).collect();
        prop_assert_eq!(fast, flooded(width, &map));
    }

    #[test]
    fn regions_agree_with_their_pixels((width, a) in any_map(), seed in any::<u64>()) {
        let b: Vec<u8> = a.iter().enumerate().map(|(i, v)| v ^ u8::from(seed >> (i % 64) & 1 == 1)).collect();
        let (ra, rb) = (Region::from_map(width, &a, (0, 0), |v| v != 0), Region::from_map(width, &b, (0, 0), |v| v != 0));
        let both = a.iter().zip(&b).filter(|(a, b)| **a + **b == 2).count() as u64;
        let either = a.iter().zip(&b).filter(|(a, b)| **a + **b > 0).count() as u64;
        prop_assert_eq!(ra.area_px(), a.iter().map(|&v| u64::from(v)).sum::<u64>());
        prop_assert_eq!(ra.intersection(&rb), both);
        prop_assert_eq!(Region::union([&ra, &rb]).area_px(), either);
        let iou = if either == 0 { 0.0 } else { both as f64 / either as f64 };
        prop_assert!((ra.iou(&rb) - iou).abs() < 1e-12);
        let inside = pixels(&ra);
        for (i, v) in a.iter().enumerate() {
            let (x, y) = ((i % width) as i32, (i / width) as i32);
            prop_assert_eq!(ra.contains(x, y), *v != 0);
        }
        if !inside.is_empty() {
            let n = inside.len() as f64;
            let (sx, sy) = inside.iter().fold((0, 0), |(sx, sy), (x, y)| (sx + x, sy + y));
            let (cx, cy) = ra.centroid();
            prop_assert!((cx - f64::from(sx) / n).abs() < 1e-9 && (cy - f64::from(sy) / n).abs() < 1e-9);
            let b = ra.bounds();
            prop_assert_eq!(b.x0, inside.iter().map(|p| p.0).min().unwrap());
            prop_assert_eq!(b.x1, inside.iter().map(|p| p.0).max().unwrap() + 1);
            prop_assert_eq!((b.y0, b.y1), (inside[0].1, inside[inside.len() - 1].1 + 1));
        }
    }

    #[test]
    fn perfect_detections_have_ideal_measures(x in proptest::collection::vec(0i32..40, 2..30)) {
        let mut scorer = VideoScorer::new(VideoRules::default()).unwrap();
        for (frame, &x) in x.iter().enumerate() {
            let polyp = square(x, 5, 9);
            let truth = if x < 8 { vec![] } else { vec![mask(Some(1), polyp.clone())] };
            let regions = if x < 8 { vec![] } else { vec![polyp] };
            scorer.frame(seen(frame as u64, &regions), Some(&truth)).unwrap();
        }
        let report = scorer.report();
        let f = &report.figures;
        for v in [f.per_polyp_sensitivity, f.per_frame_sensitivity, f.per_frame_specificity].into_iter().flatten() {
            prop_assert_eq!(v, 1.0);
        }
        prop_assert_eq!(f.false_positives, 0);
        prop_assert!(f.first_detection_ms.unwrap_or(0.0) == 0.0 && f.switches_per_minute.unwrap_or(0.0) == 0.0);
        prop_assert_eq!(f.flicker, report.flicker_truth);
        // More persistence never finds more, and never shows more.
        for pair in report.persistence.windows(2) {
            let (a, b) = (&pair[0].figures, &pair[1].figures);
            prop_assert!(b.per_frame_sensitivity <= a.per_frame_sensitivity);
            prop_assert!(b.per_frame_specificity >= a.per_frame_specificity);
            prop_assert!(b.false_positive_regions <= a.false_positive_regions);
        }
    }
}
