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
        (0..600).map(|i| format!("{{\"frame\":{i}}}\n")).collect::<String>().as_bytes(),
    )]);
    // A new polyp on every frame, which is still in view on the next.
    for frame in 0..600u32 {
        let id = |n: u32| Luma([(n % 255 + 1) as u8]);
        GrayImage::from_fn(2, 1, |x, _| id((frame + x).saturating_sub(1)))
            .save(path.join(format!("{frame:06}.png")))
            .unwrap();
    }
    let mut truth = Truth::open(&path).unwrap();
    let seen: Vec<std::collections::BTreeSet<u64>> = (0..600)
        .map(|n| truth.frame(n, Some((2, 1))).unwrap().unwrap().iter().map(|o| o.id.unwrap()).collect())
        .collect();
    let mut before = std::collections::BTreeSet::new();
    for (frame, pair) in seen.windows(2).enumerate() {
        let both: Vec<_> = pair[0].intersection(&pair[1]).collect();
        assert_eq!(both.len(), 1, "frame {frame}: the same polyp has the same number");
        before.extend(pair[0].iter().copied());
        assert!(pair[1].iter().filter(|id| !before.contains(id)).count() <= 1);
    }
    before.extend(seen[599].iter().copied());
    assert_eq!(before.len(), 600, "every polyp has a number of its own");
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
    // Outlines that would take all memory, by their rows or by points that go over them again and again; the last
    // number.
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

#[test]
fn a_box_has_a_centre_and_a_diagonal() {
    let b = Bounds { x0: 1, y0: 2, x1: 4, y1: 6 };
    assert_eq!((b.area(), b.centre(), b.diagonal()), (12, (2.5, 4.0), 5.0));
    // Turned inside out it holds nothing.
    assert_eq!(Bounds { x0: 4, y0: 2, x1: 1, y1: 6 }.area(), 0);
    assert_eq!(Region::default().centroid(), Region::from_runs(vec![]).centroid());
    assert_eq!(Region::from_runs(vec![]).centroid(), (0.0, 0.0));
}

#[test]
fn a_mask_without_whole_rows_is_refused() {
    assert_eq!(components(3, &[], (0, 0)).unwrap(), []);
    for (width, pixels) in [(0, 0), (0, 6), (4, 6)] {
        assert!(components(width, &vec![1; pixels], (0, 0)).is_err(), "{pixels} pixels in rows of {width}");
    }
}

#[test]
fn a_centroid_between_pixels_belongs_to_the_nearest() {
    // Two pixels wide and high, its middle half a pixel before the polyp's corner; one to the left of it, a whole one.
    let polyp = mask(None, square(10, 10, 5));
    for (x, y, hit) in
        [(9, 9, true), (9, 11, true), (11, 9, true), (8, 9, false), (9, 8, false), (14, 13, false)]
    {
        assert_eq!(HitRule::Centre.hits(&square(x, y, 2), &polyp), hit, "{x}, {y}");
    }
}

#[test]
fn exactly_what_a_rule_asks_for_is_enough() {
    let truth = mask(None, square(10, 10, 10));
    assert!(HitRule::Iou(1.0).hits(&square(10, 10, 10), &truth));
    assert!(HitRule::Cover(1.0).hits(&square(10, 10, 10), &truth));
    // Nothing is covered of nothing.
    assert!(!HitRule::Cover(0.1).hits(&square(10, 10, 10), &mask(None, Region::default())));
    // An L: its box covers the polyp, its pixels do not. A box is compared with a box.
    let l = Region::union([
        &square(0, 0, 9),
        &Region::from_bounds(Bounds { x0: 0, y0: 8, x1: 9, y1: 21 }),
        &square(20, 20, 1),
    ]);
    let boxed = TruthObject { is_box: true, ..truth.clone() };
    assert_eq!([&truth, &boxed].map(|t| HitRule::Cover(1.0).hits(&l, t)), [false, true]);

    let at = |x: i32, y: i32| Bounds { x0: x, y0: y, x1: x + 3, y1: y + 4 };
    // Both diagonals are 5.
    assert_eq!(LinkRule::Near(1.0).distance(&at(0, 0), &at(3, 4)), Some(1.0));
    assert_eq!(LinkRule::Near(2.0).distance(&at(0, 0), &at(6, 8)), Some(2.0));
    assert_eq!(LinkRule::Near(1.0).distance(&at(0, 0), &at(4, 4)), None);
    // The mean of the diagonals counts, not the larger.
    let large = Bounds { x0: -3, y0: -4, x1: 6, y1: 8 };
    assert_eq!(large.diagonal(), 15.0);
    assert_eq!(LinkRule::Near(1.0).distance(&at(6, 8), &large), Some(1.0));
    assert_eq!(LinkRule::Iou(1.0).distance(&at(0, 0), &at(0, 0)), Some(0.0));
    assert_eq!(LinkRule::Iou(0.2).distance(&at(0, 0), &at(2, 0)), Some(0.8));
    assert_eq!(LinkRule::Iou(0.3).distance(&at(0, 0), &at(2, 0)), None);
}

#[test]
fn settings_are_taken_up_to_their_limits() {
    assert!("near:100".parse::<LinkRule>().is_ok() && "near:100.5".parse::<LinkRule>().is_err());
    let with = |change: fn(&mut VideoRules)| {
        let mut rules = VideoRules::default();
        change(&mut rules);
        rules.validate().is_ok()
    };
    assert!(with(|r| (r.link_gap_ms, r.alarm_gap_ms) = (0.0, 0.0)));
    assert!(!with(|r| r.link_gap_ms = -1.0) && !with(|r| r.alarm_gap_ms = -1.0));
    assert!(!with(|r| r.link_gap_ms = f64::INFINITY) && !with(|r| r.alarm_gap_ms = f64::NAN));
    assert!(with(|r| r.persistence = vec![1, 1000]) && with(|r| r.persistence = vec![]));
    assert!(!with(|r| r.persistence = vec![1, 0]) && !with(|r| r.persistence = vec![1001, 1]));
}

#[test]
fn the_rules_are_said_with_their_numbers() {
    let said = |rules: VideoRules| rules.sentences().join("\n");
    let one = said(VideoRules {
        link: LinkRule::Near(1.25),
        link_gap_ms: 321.0,
        alarm_gap_ms: 54.0,
        hit: HitRule::Cover(0.375),
        ..VideoRules::default()
    });
    for words in [
        "cover:0.375",
        "at least 0.375 of it",
        "near:1.25",
        "within 1.25 mean",
        "321 ms",
        "54 ms",
        "however small",
    ] {
        assert!(one.contains(words), "{words} in {one}");
    }
    let two = said(VideoRules {
        link: LinkRule::Iou(0.625),
        hit: HitRule::Iou(0.875),
        min_area_px: 1,
        ..VideoRules::default()
    });
    for words in
        ["iou:0.625", "at least 0.625, best", "intersection over union is at least 0.875", "fewer than 1 px"]
    {
        assert!(two.contains(words), "{words} in {two}");
    }
    assert!(!two.contains("however small"));
    assert!(said(VideoRules { link: LinkRule::All, ..VideoRules::default() }).contains("one polyp"));
}

#[test]
fn detections_that_do_not_overlap_the_frame_befores_are_new() {
    // Apart on each frame; then one that overlaps an old and a new one is as old as the old one.
    let frames = [
        vec![square(0, 0, 10)],
        vec![square(20, 0, 10)],
        vec![square(25, 0, 10), square(40, 0, 10)],
        vec![square(30, 0, 12)],
    ];
    let mut scorer =
        VideoScorer::new(VideoRules { persistence: vec![3, 2, 2, 1], ..VideoRules::default() }).unwrap();
    for (frame, regions) in (0..).zip(&frames) {
        scorer.frame(seen(frame, regions), Some(&[])).unwrap();
    }
    let report = scorer.report();
    assert_eq!(report.persistence.iter().map(|p| p.frames).collect::<Vec<_>>(), [1, 2, 3]);
    // Ages: 1; 1; 2 and 1; 3.
    assert_eq!([1, 2, 3].map(|k| at(&report, k).false_positive_regions), [5, 2, 1]);
}

#[test]
fn each_polyp_is_counted_once_however_often_it_is_hit() {
    let mut scorer = VideoScorer::new(VideoRules::default()).unwrap();
    let truth = [mask(Some(9), square(40, 40, 20)), mask(Some(2), square(0, 0, 20))];
    // Two hit polyp 9, one polyp 2, one none.
    let regions = [square(41, 41, 5), square(50, 50, 5), square(5, 5, 5), square(80, 0, 5)];
    let judged = scorer.frame(seen(0, &regions), Some(&truth)).unwrap();
    assert_eq!((judged.polyps, judged.hit), (vec![2, 9], vec![2, 9]));
    assert_eq!((judged.detections, judged.false_positives, judged.judged), (4, 1, true));
    assert_eq!(scorer.report().figures.per_appearance_sensitivity, Some(1.0));
    // An identity twice is refused though another stands between.
    let twice = [truth[0].clone(), truth[1].clone(), mask(Some(9), square(80, 80, 5))];
    assert!(scorer.frame(seen(1, &[]), Some(&twice)).is_err());
}

#[test]
fn everything_as_one_polyp_leaves_false_alarms_apart() {
    for (link, alarms) in [(LinkRule::All, 2), (LinkRule::Near(0.1), 3), (LinkRule::Iou(0.5), 3)] {
        let mut scorer = VideoScorer::new(VideoRules { link, ..VideoRules::default() }).unwrap();
        let truth = [mask(None, square(0, 0, 10)), mask(None, square(30, 0, 10))];
        // The second stray moves by 40 % of its width, which only the default takes for the same.
        scorer.frame(seen(0, &[square(50, 50, 10), square(90, 50, 10)]), Some(&truth)).unwrap();
        scorer.frame(seen(1, &[square(50, 50, 10), square(94, 50, 10)]), Some(&truth)).unwrap();
        let report = scorer.report();
        assert_eq!(report.polyps, if link == LinkRule::All { 1 } else { 2 });
        assert_eq!(report.figures.false_positives, alarms, "{link}");
        assert_eq!(report.figures.false_alarms.runs, alarms, "{link}");
    }
}

#[test]
fn a_frame_nobody_judged_parts_the_masks_before_and_after_it() {
    let mut scorer = VideoScorer::new(VideoRules::default()).unwrap();
    let at = |x: i32| square(x, 0, 10);
    for (frame, x, judged) in [(0, 0, true), (1, 0, true), (2, 0, false), (3, 30, true), (4, 30, true)] {
        let truth = [mask(Some(1), at(x))];
        scorer.frame(seen(frame, &[at(x)]), judged.then_some(&truth)).unwrap();
    }
    let report = scorer.report();
    assert_eq!((report.figures.flicker, report.figures.flicker_pairs), (Some(0.0), 2));
    assert_eq!(report.flicker_truth, Some(0.0));
}

#[test]
fn a_step_of_up_to_five_seconds_is_time_and_a_longer_one_a_fault() {
    for (step_ns, irregular, judged_ms) in [(5_000_000_000u64, 0, 2.0 * 5000.0), (5_000_000_001, 1, 0.0)] {
        let mut scorer = VideoScorer::new(VideoRules::default()).unwrap();
        for pts_ns in [0, step_ns] {
            let detected = FrameDetections { frame: pts_ns.min(1), pts_ns, regions: vec![square(0, 0, 5)] };
            scorer.frame(detected, Some(&[])).unwrap();
        }
        let report = scorer.report();
        assert_eq!((report.frames.irregular_timestamps, report.judged_ms), (irregular, judged_ms));
        // Five seconds later it is another alarm. Without any time nothing is a rate.
        let rate = report.figures.false_positives_per_minute;
        assert_eq!(rate, (irregular == 0).then(|| 2.0 * 60_000.0 / judged_ms));
        assert_eq!(report.figures.switches_per_minute, None);
    }
}

#[test]
fn the_first_detections_are_described_by_their_mean_and_ranks() {
    // Polyp n comes into view on frame n and is hit for the first time some frames later, each by another number of
    // frames.
    let count = 12;
    let later = |n: u64| 5 * n % count;
    let mut scorer = VideoScorer::new(VideoRules::default()).unwrap();
    for frame in 0..2 * count {
        let in_view: Vec<u64> = (0..count).filter(|n| frame >= *n).rev().collect();
        let place = |n: u64| square(20 * n as i32, 0, 10);
        let truth: Vec<_> = in_view.iter().map(|&n| mask(Some(n), place(n))).collect();
        let regions: Vec<_> = in_view.iter().filter(|&&n| frame >= n + later(n)).map(|&n| place(n)).collect();
        scorer.frame(seen(frame, &regions), Some(&truth)).unwrap();
    }
    let report = scorer.report();
    let delays: Vec<f64> = (0..count).map(|n| n as f64 * 40.0).collect();
    let mean = delays.iter().sum::<f64>() / count as f64;
    let variance = delays.iter().map(|d| (d - mean).powi(2)).sum::<f64>() / count as f64;
    let near = |a: f64, b: f64| (a - b).abs() < 1e-6;
    let d = report.figures.first_detection;
    assert!(near(report.figures.first_detection_ms.unwrap(), mean), "{:?}", report.figures);
    assert_eq!(d.count, count);
    assert!(near(d.mean, mean) && near(d.stddev, variance.sqrt()), "{d:?}");
    // The smallest value that so many do not exceed.
    for (p, got) in [(10, d.p10), (50, d.p50), (90, d.p90), (95, d.p95), (99, d.p99)] {
        let wanted = delays
            .iter()
            .find(|v| 100 * delays.iter().filter(|w| w <= v).count() >= p * delays.len())
            .unwrap();
        assert!(near(got, *wanted), "{p}: {d:?}");
    }
    assert!(near(d.min, 0.0) && near(d.max, 440.0) && near(d.p999, 440.0), "{d:?}");
    for polyp in &report.per_polyp {
        assert!(near(polyp.first_detection_ms.unwrap(), later(polyp.id) as f64 * 40.0), "{polyp:?}");
    }
    assert_eq!(at(&report, 1).false_alarms, AlarmCounts::default());
}

#[test]
fn false_alarms_are_counted_by_how_long_they_last() {
    let mut scorer = VideoScorer::new(VideoRules::default()).unwrap();
    for frame in 0..60 {
        // 13 frames of 40 ms, and one.
        let regions = if frame < 13 || frame == 40 { vec![square(0, 0, 5)] } else { vec![] };
        scorer.frame(seen(frame, &regions), Some(&[])).unwrap();
    }
    let alarms = scorer.report().figures.false_alarms;
    let wanted = AlarmCounts {
        marked_frames: 14,
        runs: 2,
        more_than_6_frames: 1,
        at_least_500_ms: 1,
        ..AlarmCounts::default()
    };
    assert_eq!(alarms, wanted);
}

#[test]
fn a_report_says_its_figures_under_their_headings() {
    let figures = VideoFigures {
        per_polyp_sensitivity: Some(0.5),
        per_frame_sensitivity: Some(0.25),
        per_frame_specificity: Some(0.75),
        first_detection_ms: Some(120.0),
        false_positives_per_minute: Some(3.0),
        flicker: Some(0.125),
        switches_per_minute: Some(7.0),
        false_alarms: AlarmCounts { marked_frames: 90, runs: 9, ..AlarmCounts::default() },
        ..VideoFigures::default()
    };
    let row = |name: &str| ConfirmFigures {
        name: name.into(),
        numbers: None,
        figures: figures.clone(),
        per_polyp: vec![],
    };
    let mut report = VideoReport {
        polyps: 2,
        figures: figures.clone(),
        persistence: vec![PersistenceFigures { frames: 3, delay_ms: 80.0, figures: figures.clone() }],
        confirm: vec![row("off"), row("balanced,again=0")],
        gates: [("blurred", GateCounts { frames: 4, with_polyp: 1 }), ("bubbles", GateCounts::default())]
            .into(),
        flicker_truth: Some(0.0625),
        frames: FrameTotals {
            judged: 30,
            with_polyp: 20,
            without_polyp: 10,
            unjudged: 5,
            irregular_timestamps: 6,
        },
        judged_ms: 90_000.0,
        per_polyp: vec![],
        rules: vec!["the first rule".into(), "the second rule".into()],
    };
    let text = report.text();
    assert_eq!(
        text.lines().next(),
        Some(
            "2 polyps; 30 frames judged (20 with a polyp, 10 without), 90.0 s; 5 frames without truth; 6 irregular timestamps"
        )
    );
    let lines: Vec<&str> = text.lines().collect();
    // Where the first line that begins so lies.
    let line = |start: &str| {
        lines.iter().position(|l| l.starts_with(start)).unwrap_or_else(|| panic!("{start} in {text}"))
    };
    // A figure ends within its heading's column, which ends where the next one begins.
    let under = |heading: usize, value: usize, column: &str, next: &str, figure: &str| {
        let (from, to) =
            (lines[heading].find(column).unwrap(), lines[heading].find(next).unwrap_or(lines[value].len()));
        let cell = lines[value].get(from..to.min(lines[value].len())).unwrap();
        assert_eq!(cell.trim(), figure, "{column} in {text}");
    };
    let top = line("persistence");
    assert_eq!(lines[top - 1], "", "a gap before the table");
    assert_eq!(
        lines[top + 2].split_whitespace().collect::<Vec<_>>(),
        ["3", "80", "0.500", "0.250", "0.750", "120", "3.00", "0.125", "7.0"]
    );
    for (column, next, figure) in [
        ("per-polyp", "per-frame", "0.500"),
        ("per-frame", "specificity", "0.250"),
        ("specificity", "first", "0.750"),
        ("first detection", "false pos.", "120"),
        ("false pos.", "flicker", "3.00"),
        ("flicker", "switches", "0.125"),
        ("switches", "\n", "7.0"),
    ] {
        under(top, top + 2, column, next, figure);
    }
    assert_eq!(lines[top + 3], "truth's own flicker 0.062");
    let confirm = line("confirm");
    assert_eq!((lines[confirm - 1], confirm), ("", top + 5));
    for (k, name) in ["off", "balanced,again=0"].into_iter().enumerate() {
        let value = lines[confirm + 2 + k];
        assert!(value.starts_with(&format!("{name:<16}  ")), "{value}");
        // Of a minute and a half, and of one recording.
        assert!(
            value.contains("60.00 |  90.0")
                && value.contains("6.00 |   9.0")
                && value.contains("0.00 |   0.0")
        );
        under(confirm, confirm + 2 + k, "per-polyp", "per-frame", "0.500");
        under(confirm, confirm + 2 + k, "first alarm", "flicker", "120");
        for (name, count) in figures.false_alarms.named() {
            // A definition's name ends where its figures do, or a column before.
            let end = lines[confirm + 1].find(name).unwrap() + name.len();
            let cell = format!("| {:>5.1}", count as f64);
            let ends = |at: usize| value.get(..at).is_some_and(|v| v.ends_with(&cell));
            assert!(ends(end) || ends(end + 1), "{name} in {text}");
        }
    }
    assert_eq!(lines[confirm + 4], "frames that start no track: blurred 4 (1 with a polyp)");
    assert_eq!(lines[confirm + 5..], ["", "", "the first rule", "the second rule"]);

    // What there is none of is not mentioned.
    report.frames = FrameTotals { judged: 30, ..FrameTotals::default() };
    report.gates.clear();
    report.confirm.clear();
    report.flicker_truth = None;
    let text = report.text();
    for word in ["without truth", "irregular", "start no track", "confirm", "own flicker"] {
        assert!(!text.contains(word), "{word} in {text}");
    }
    // No time, no rate; a short name is as wide as its heading.
    (report.confirm, report.judged_ms) = (vec![row("off")], 0.0);
    let text = report.text();
    assert!(text.contains("\noff      ") && text.contains("– |  90.0") && !text.contains("inf"), "{text}");
}

#[test]
fn a_folder_of_maps_whose_names_are_frame_numbers_may_have_gaps() {
    let frames = |names: &[&str]| {
        let (_keep, path) = folder(&[]);
        for name in names {
            GrayImage::new(3, 2).save(path.join(format!("{name}.png"))).unwrap();
        }
        let mut maps = Detections::from_maps(&path, 0.5, None, 30.0).unwrap();
        assert_eq!(maps.skipped(), None);
        let found: Vec<_> = maps.by_ref().map(|d| d.unwrap()).map(|d| (d.frame, d.pts_ns)).collect();
        (found, maps.skipped())
    };
    // Thirds of a second, to the nearest nanosecond.
    let at = |n: u64| (n, (n * 1_000_000_000 + 15) / 30);
    assert_eq!(frames(&["0", "1", "2"]), (vec![at(0), at(1), at(2)], None));
    assert_eq!(frames(&["0", "3", "4", "8"]), (vec![at(0), at(3), at(4), at(8)], Some((5, 1))));
    // Numbers that do not count from 0, or that repeat, are names.
    assert_eq!(frames(&["1", "3"]), (vec![at(0), at(1)], None));
    assert_eq!(frames(&["0", "00", "5"]), (vec![at(0), at(1), at(2)], None));
}

#[test]
fn a_kept_map_marks_what_was_detected() {
    use crate::frame::{FrameId, Pts, Rect};
    let (_keep, path) = folder(&[]);
    // Every level there is; the threshold on one of them, between two, below the first and above all but the last.
    GrayImage::from_fn(32, 8, |x, y| Luma([(8 * x + y) as u8])).save(path.join("0.png")).unwrap();
    for threshold in [100.0 / 255.0, 100.5 / 255.0, 0.001, 0.9999] {
        let mut maps = Detections::from_maps(&path, threshold, None, 25.0).unwrap().with_maps();
        let detected = maps.next().unwrap().unwrap();
        let map = maps.map_of(&detected).unwrap();
        assert_eq!((map.frame, map.pts, map.size, map.classes), (FrameId(0), Pts(0), (8, 32), 1));
        assert_eq!((map.view, map.picture_size), (Rect::full(32, 8), (32, 8)));
        for (i, &logit) in map.logits.iter().enumerate() {
            let (x, y) = (i as i32 % 32, i as i32 / 32);
            let level = 8 * x + y;
            assert_eq!(
                logit >= map.level,
                detected.regions.iter().any(|r| r.contains(x, y)),
                "level {level}"
            );
            assert_eq!(logit >= map.level, f64::from(level) >= threshold * 255.0, "level {level}");
            // The logit is that of the map, which ends half a level before certainty, or the nearest that marks the
            // same.
            let p = (f64::from(level) / 255.0).clamp(0.5 / 255.0, 1.0 - 0.5 / 255.0);
            let own = (p / (1.0 - p)).ln();
            let nearest =
                if logit >= map.level { own.max(map.level.into()) } else { own.min(map.level.into()) };
            assert!((f64::from(logit) - nearest).abs() < 2e-3, "level {level}");
        }
        // Nobody asked for it.
        let mut without = Detections::from_maps(&path, threshold, None, 25.0).unwrap();
        let detected = without.next().unwrap().unwrap();
        assert!(without.map_of(&detected).is_none());
    }
}

#[test]
fn rules_that_maps_and_masks_were_read_by_are_counted() {
    use crate::evaluation::images::NoteKind;
    let (_keep, path) = folder(&[]);
    for name in ["0.png", "1.png"] {
        let deep = image::ImageBuffer::<Luma<u16>, Vec<u16>>::from_fn(20, 20, |x, _| {
            Luma([u16::from(x < 9) * 60_000])
        });
        deep.save(path.join(name)).unwrap();
    }
    let mut maps = Detections::from_maps(&path, 0.5, None, 25.0).unwrap();
    assert!(maps.by_ref().all(|d| d.is_ok()));
    assert_eq!(maps.notes().get(&NoteKind::SixteenBitPrediction), Some(&2));
    let mut truth = Truth::open(&path).unwrap();
    assert!((0..2).all(|n| truth.frame(n, None).unwrap().is_some()));
    assert_eq!(truth.notes().get(&NoteKind::SixteenBitMask), Some(&2));
}

#[test]
fn the_levels_of_a_truth_mask_are_those_asked_for() {
    use crate::evaluation::images::MaskLevels;
    let (_keep, path) = folder(&[]);
    GrayImage::from_fn(20, 10, |x, _| Luma([[0, 60, 255, 0][x as usize / 5]]))
        .save(path.join("0.png"))
        .unwrap();
    for (levels, area) in [(MaskLevels::Nonzero, 100), (MaskLevels::Half, 50)] {
        let mut truth = Truth::open(&path).unwrap().with_levels(levels);
        let objects = truth.frame(0, None).unwrap().unwrap();
        assert_eq!(objects.iter().map(|o| o.region.area_px()).sum::<u64>(), area, "{levels:?}");
    }
}

#[test]
fn a_speck_is_smaller_than_the_least_polyp() {
    let (_keep, path) = folder(&[]);
    // 5x5 and 4x6 pixels.
    GrayImage::from_fn(40, 20, |x, y| {
        Luma([if (x < 5 && y < 5) || ((20..24).contains(&x) && y < 6) { 255 } else { 0 }])
    })
    .save(path.join("0.png"))
    .unwrap();
    let mut truth = Truth::open(&path).unwrap();
    assert_eq!(truth.specks(), 0);
    let objects = truth.frame(0, None).unwrap().unwrap();
    assert_eq!(objects.iter().map(|o| o.region.area_px()).collect::<Vec<_>>(), [SPECK_PX]);
    assert_eq!(truth.specks(), 1);
}

#[test]
fn boxes_have_an_area_within_the_picture_and_are_rounded() {
    let open = |b: &str, id: &str| {
        let text = format!(
            "{{\"width\":100,\"height\":50,\"frames\":[[{{\"bbox\":[1,2,3,4]}},{{\"bbox\":{b}{id}}}]]}}"
        );
        let (_keep, path) = folder(&[("boxes.json", text.as_bytes())]);
        Truth::open(&path.join("boxes.json"))
    };
    for empty in ["[5,1,5,9]", "[1,5,9,5]", "[100,1,110,9]", "[1,50,9,60]", "[-9,1,0,9]", "[1,-9,9,0]"] {
        assert!(open(empty, "").unwrap_err().to_string().contains("no box"), "{empty}");
    }
    let mut truth = open("[-3,1.5,2.4,99]", "").unwrap();
    let objects = truth.frame(0, None).unwrap().unwrap();
    assert_eq!(objects[1].region.bounds(), Bounds { x0: 0, y0: 2, x1: 2, y1: 50 });
    // One identity is enough to say that there are some.
    assert_eq!(truth.describe(), "boxes without identities");
    assert_eq!(open("[1,2,3,4]", ",\"id\":7").unwrap().describe(), "boxes with identities");
}

#[test]
fn a_line_that_is_no_frame_of_a_phantom_is_named() {
    let (_keep, path) = folder(&[("truth.jsonl", b"{\"frame\":0}\n\n{\"frame\":-1}\n")]);
    let said = Truth::open(&path).unwrap_err().to_string();
    assert!(said.contains("truth.jsonl, line 3: is no truth"), "{said}");
    let (_keep, path) = folder(&[("truth.jsonl", b"")]);
    assert!(Truth::open(&path).unwrap().describe().contains("phantom"));
}

/// A map of two classes that covers the right lower part of a picture, with a polyp in the given class or none.
fn half_map(polyp: Option<usize>) -> Vec<f32> {
    // Three rows of five, two classes.
    let mut logits = vec![-8.0; 30];
    if let Some(class) = polyp {
        for i in [6, 7, 8, 11, 12, 13] {
            logits[class * 15 + i] = 8.0;
        }
    }
    logits
}

#[test]
fn settings_side_by_side_measure_what_each_of_them_draws() {
    use crate::frame::{FrameId, Picture, PictureInfo, PixelFormat, Pts, Rect};
    use crate::tracks::Variant;
    let variants: Vec<Variant> = ["off", "balanced,again=0"].iter().map(|v| v.parse().unwrap()).collect();
    let mut comparison = Comparison::new(&variants, &VideoRules::default()).unwrap();
    // A white picture is over-exposed, none says nothing.
    let info = PictureInfo::new(PixelFormat::Rgb, 640, 480);
    let white = vec![255u8; crate::frame::packed_len(&info)];
    let white = Picture::packed(info, &white).unwrap();
    let view = Rect::new(140, 180, 500, 300);
    let map = |frame: u64, logits: &'static [f32], picture| FrameMap {
        frame: FrameId(frame),
        pts: Pts(frame * PERIOD_NS),
        picture,
        picture_size: (640, 480),
        view,
        scenery: view,
        logits,
        classes: 2,
        size: (3, 5),
        level: 0.0,
    };
    // A hundred picture pixels a map pixel: the polyp is that of the map.
    let polyp = [mask(Some(1), Region::from_bounds(Bounds { x0: 240, y0: 280, x1: 540, y1: 480 }))];
    let (nothing, first, second) = (half_map(None), half_map(Some(0)), half_map(Some(1)));
    let [nothing, first, second]: [&'static [f32]; 3] = [nothing, first, second].map(|m| &*m.leak());
    for frame in 0..30 {
        let (logits, truth) = match frame {
            0..=2 => (nothing, &[][..]),
            3..=7 => (first, &polyp[..]),
            8..=12 => (second, &polyp[..]),
            // Still in view and no longer seen, while it may still be drawn.
            13..=16 => (nothing, &polyp[..]),
            // One frame of nothing real, when the polyp's track has long ended.
            27 => (first, &[][..]),
            _ => (nothing, &[][..]),
        };
        let picture = matches!(frame, 0 | 17 | 18).then_some(&white);
        comparison.frame(&map(frame, logits, picture), Some(truth)).unwrap();
    }
    // One with a polyp, and one of which nobody knows.
    comparison.frame(&map(30, nothing, Some(&white)), Some(&polyp)).unwrap();
    comparison.frame(&map(31, nothing, Some(&white)), None).unwrap();
    let gates = comparison.gates();
    assert_eq!(gates.len(), crate::frame::Gate::ALL.len());
    let all: Vec<_> = gates.values().filter(|c| c.frames > 0).collect();
    assert_eq!(all, [&GateCounts { frames: 4, with_polyp: 1 }]);

    let rows = comparison.report();
    assert_eq!(rows.iter().map(|r| r.name.as_str()).collect::<Vec<_>>(), ["off", "balanced,again=0"]);
    let off = &rows[0].figures;
    // Hit on ten of the fifteen frames, at once; marked wrongly on one of 16.
    assert_eq!((off.per_polyp_sensitivity, off.first_detection_ms), (Some(1.0), Some(0.0)));
    assert_eq!(off.per_frame_sensitivity, Some(10.0 / 15.0));
    assert_eq!(off.per_frame_specificity, Some(15.0 / 16.0));
    // It appears and vanishes, twice, and stands still between the classes.
    assert_eq!(off.flicker, Some(4.0 / 13.0));
    let balanced = &rows[1].figures;
    assert!(balanced.first_detection_ms.unwrap() >= 80.0, "{balanced:?}");
    assert_eq!((balanced.false_alarms.runs, balanced.per_polyp_sensitivity), (0, Some(1.0)));
    assert_eq!(rows[1].per_polyp[0].id, 1);

    // A map that is smaller than it says, or of no class, is refused.
    for wrong in [
        FrameMap { logits: &nothing[..29], ..map(32, nothing, None) },
        FrameMap { classes: 0, ..map(32, nothing, None) },
        FrameMap { size: (3, 6), ..map(32, nothing, None) },
    ] {
        assert!(comparison.frame(&wrong, None).is_err());
    }
    let mut empty = Comparison::new(&[], &VideoRules::default()).unwrap();
    empty.frame(&FrameMap { classes: 0, ..map(0, nothing, None) }, None).unwrap();
    assert!(empty.report().is_empty());
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

/// Numbers for boxes by the definition: of all pairs of a thing and a box that are one, again and again the closest.
struct PlainLinker(LinkRule, f64, Vec<(u64, Bounds, f64)>, u64);

impl PlainLinker {
    fn frame(&mut self, now: f64, boxes: &[Bounds]) -> Vec<u64> {
        let Self(rule, gap, things, next) = self;
        things.retain(|t| now - t.2 <= *gap);
        let mut given = vec![None; boxes.len()];
        let mut free: Vec<bool> = vec![true; things.len()];
        loop {
            let mut best: Option<(f64, usize, usize)> = None;
            for t in (0..things.len()).filter(|&t| free[t]) {
                for b in (0..boxes.len()).filter(|&b| given[b].is_none()) {
                    let Some(distance) = rule.distance(&things[t].1, &boxes[b]) else { continue };
                    if best.is_none_or(|best| distance < best.0) {
                        best = Some((distance, t, b));
                    }
                }
            }
            let Some((_, t, b)) = best else { break };
            free[t] = false;
            given[b] = Some(things[t].0);
            things[t] = (things[t].0, boxes[b], now);
        }
        let mut out = Vec::new();
        for (number, &bounds) in given.into_iter().zip(boxes) {
            out.push(number.unwrap_or_else(|| {
                *next += 1;
                things.push((*next, bounds, now));
                *next
            }));
        }
        out
    }
}

fn any_boxes() -> impl Strategy<Value = Vec<Bounds>> {
    let any = (0i32..60, 0i32..30, 1i32..20, 1i32..20);
    proptest::collection::vec(
        any.prop_map(|(x, y, w, h)| Bounds { x0: x, y0: y, x1: x + w, y1: y + h }),
        0..5,
    )
}

/// Whether a point lies strictly within a triangle, by whole numbers.
fn within([a, b, c]: [[i32; 2]; 3], p: [i32; 2]) -> bool {
    let side = |a: [i32; 2], b: [i32; 2]| (b[0] - a[0]) * (p[1] - a[1]) - (b[1] - a[1]) * (p[0] - a[0]);
    let sides = [side(a, b), side(b, c), side(c, a)];
    sides.iter().all(|s| *s > 0) || sides.iter().all(|s| *s < 0)
}

/// Whether a pixel belongs to the line from one centre to another: no further from it than half a pixel, across the way
/// it runs. `None` at exactly half a pixel, where one of two is as good as the other.
fn on_line(a: [i32; 2], b: [i32; 2], p: [i32; 2]) -> Option<bool> {
    let (dx, dy) = (b[0] - a[0], b[1] - a[1]);
    let inside = |k: usize| (a[k].min(b[k])..=a[k].max(b[k])).contains(&p[k]);
    if !inside(0) || !inside(1) {
        return Some(false);
    }
    let off = 2 * (dx * (p[1] - a[1]) - dy * (p[0] - a[0])).abs();
    let half = dx.abs().max(dy.abs());
    if off == half && half > 0 { None } else { Some(off <= half) }
}

proptest! {
    #[test]
    fn the_closest_pair_is_linked_first(
        rule in prop_oneof![(0.2f64..2.0).prop_map(LinkRule::Near), (0.05f64..0.9).prop_map(LinkRule::Iou)],
        frames in proptest::collection::vec((1u32..120, any_boxes()), 1..8),
    ) {
        let mut linker = Linker::new(rule, 100.0, 1);
        let mut plain = PlainLinker(rule, 100.0, Vec::new(), 0);
        let mut now = 0.0;
        for (step, boxes) in frames {
            now += f64::from(step);
            prop_assert_eq!(linker.frame(now, &boxes), plain.frame(now, &boxes));
        }
    }

    #[test]
    fn runs_in_any_order_are_the_pixels_they_hold(runs in proptest::collection::vec((0i32..6, -4i32..20, -3i32..7), 0..20)) {
        let runs: Vec<Run> = runs.into_iter().map(|(y, x0, n)| Run { y, x0, x1: x0 + n }).collect();
        let region = Region::from_runs(runs.clone());
        let wanted: std::collections::BTreeSet<_> = runs.iter().flat_map(|r| (r.x0..r.x1).map(|x| (r.y, x))).collect();
        let got: Vec<_> = pixels(&region).into_iter().map(|(x, y)| (y, x)).collect();
        prop_assert_eq!(&got, &wanted.iter().copied().collect::<Vec<_>>());
        prop_assert_eq!(region.area_px(), wanted.len() as u64);
        // Apart from each other within a row.
        prop_assert!(region.runs().windows(2).all(|w| w[0].y < w[1].y || w[0].x1 < w[1].x0));
        let xs = || wanted.iter().map(|p| p.1);
        let bounds = xs().min().map_or(Bounds::default(), |x0| Bounds {
            x0,
            y0: wanted.first().unwrap().0,
            x1: xs().max().unwrap() + 1,
            y1: wanted.last().unwrap().0 + 1,
        });
        prop_assert_eq!(region.bounds(), bounds);
    }

    #[test]
    fn a_map_lies_where_it_is_put((width, map) in any_map(), dx in -9i32..9, dy in -9i32..9) {
        let here = Region::from_map(width, &map, (0, 0), |v| v != 0);
        let there = Region::from_map(width, &map, (dx, dy), |v| v != 0);
        let moved: Vec<_> = pixels(&here).into_iter().map(|(x, y)| (x + dx, y + dy)).collect();
        prop_assert_eq!(pixels(&there), moved.clone());
        let mut parts: Vec<_> = components(width, &map, (dx, dy)).unwrap().iter().flat_map(pixels).collect();
        parts.sort_unstable_by_key(|&(x, y)| (y, x));
        prop_assert_eq!(parts, moved);
    }

    #[test]
    fn an_outline_is_its_line_and_what_lies_within(corners in any::<[[u8; 2]; 3]>()) {
        let corners = corners.map(|p| p.map(|v| i32::from(v % 24)));
        let [a, b, c] = corners;
        let region = Region::from_outline(&corners);
        for y in -1..25 {
            for x in -1..25 {
                let p = [x, y];
                let lines = [on_line(a, b, p), on_line(b, c, p), on_line(c, a, p)];
                if within(corners, p) || lines.contains(&Some(true)) {
                    prop_assert!(region.contains(x, y), "{p:?} is missing of {corners:?}");
                } else if !lines.contains(&None) {
                    prop_assert!(!region.contains(x, y), "{p:?} is too much of {corners:?}");
                }
            }
        }
    }
}
