use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::{Map, Value};

use super::*;
use crate::frame::{Nanos, Polyp};
use crate::telemetry::Stage;

const MS: u64 = 1_000_000;

pub(super) fn record(frame: u64, polyp: bool) -> FrameRecord {
    let polyps = if polyp {
        let contour = vec![[10, 10], [30, 10], [30, 25], [10, 25]];
        vec![Polyp {
            bbox: Rect::new(10, 10, 21, 16),
            area_px: 336,
            mean_probability: 0.875,
            contour,
            track_id: None,
        }]
    } else {
        Vec::new()
    };
    FrameRecord {
        frame,
        pts_ns: frame * 40 * MS,
        state: "active".into(),
        area_px: polyps.iter().map(|p| p.area_px).sum(),
        max_probability: if polyp { 0.9375 } else { 0.125 },
        polyps,
        tracks: Vec::new(),
        gate: None,
        timings_us: [("network".to_owned(), 41_000.5)].into(),
    }
}

pub(super) fn thumbnail() -> Option<Thumbnail> {
    let view = Rect::new(4, 2, 40, 30);
    Some(Thumbnail { width: 40, height: 30, rgb: vec![128; 40 * 30 * 3], view })
}

/// Writes `pattern` (`#` has a polyp) at 25 frames a second.
fn write(report: &mut Report, pattern: &str) {
    for (i, c) in pattern.chars().enumerate() {
        report.frame(&record(i as u64, c == '#'), 40 * MS, &mut thumbnail).unwrap();
    }
}

pub(super) fn stages() -> StageHistograms {
    let mut s = StageHistograms::default();
    for i in 0..100 {
        s.record(Stage::Network, Nanos(40 * MS + i * 10_000));
    }
    s
}

fn read(dir: &Path, name: &str) -> String {
    fs::read_to_string(dir.join(name)).unwrap()
}

/// Keys of an object, sorted.
fn keys(v: &Value) -> Vec<&str> {
    v.as_object().map(|m: &Map<String, Value>| m.keys().map(String::as_str).collect()).unwrap()
}

#[test]
fn json_has_the_keys_others_rely_on() {
    let t = tempfile::tempdir().unwrap();
    let mut report = Report::create(t.path(), false).unwrap();
    write(&mut report, ".##.");
    let summary = Summary { input: "a.mp4".into(), ..Summary::default() };
    report.finish(summary, &stages()).unwrap();

    let lines: Vec<Value> =
        read(t.path(), FRAMES).lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(lines.len(), 4);
    assert_eq!(
        keys(&lines[1]),
        ["area_px", "frame", "max_probability", "polyps", "pts_ns", "state", "timings_us"]
    );
    let polyp = &lines[1]["polyps"][0];
    assert_eq!(keys(polyp), ["area_px", "bbox", "contour", "mean_probability"]);
    assert_eq!(polyp["bbox"], serde_json::json!([10, 10, 21, 16]));
    assert_eq!(polyp["contour"][1], serde_json::json!([30, 10]));
    assert_eq!(lines[1]["timings_us"]["network"], 41_000.5);
    assert_eq!(lines[1]["pts_ns"], 40 * MS);
    assert_eq!(lines[0]["polyps"], serde_json::json!([]));

    let summary: Value = serde_json::from_str(&read(t.path(), SUMMARY)).unwrap();
    for key in [
        "input",
        "checkpoint_sha256",
        "machine",
        "frames",
        "partial",
        "marks",
        "episodes",
        "stages_us",
        "elapsed_ms",
    ] {
        assert!(summary.get(key).is_some(), "{key}");
    }
    assert_eq!(keys(&summary["frames"]), ["read", "written"]);
    assert_eq!(summary["marks"]["status_rect"], Value::Null);
    let episode = &summary["episodes"][0];
    assert_eq!((&episode["start_ns"], &episode["end_ns"]), (&(40 * MS).into(), &(120 * MS).into()));
    assert_eq!(episode["best_frame"], 1);
    let mut dist = keys(&summary["stages_us"]["network"]);
    dist.sort_unstable();
    assert_eq!(dist, ["count", "max", "mean", "min", "p10", "p50", "p90", "p95", "p99", "p999", "stddev"]);
    assert!((summary["stages_us"]["network"]["p50"].as_f64().unwrap() - 40_490.0).abs() < 50.0);
    assert_eq!((summary["duration_ms"].as_f64(), summary["fps"].as_f64()), (Some(160.0), Some(25.0)));
}

#[test]
fn records_come_back_as_they_went() {
    let t = tempfile::tempdir().unwrap();
    let mut report = Report::create(t.path(), false).unwrap();
    write(&mut report, ".#");
    let written = report.finish(Summary::default(), &stages()).unwrap();
    let back: Vec<FrameRecord> =
        read(t.path(), FRAMES).lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(back, [record(0, false), record(1, true)]);
    let back: Summary = serde_json::from_str(&read(t.path(), SUMMARY)).unwrap();
    assert_eq!(back, written);
}

#[test]
fn everything_is_for_the_owner_only() {
    let t = tempfile::tempdir().unwrap();
    let dir = t.path().join("report");
    let mut report = Report::create(&dir, false).unwrap();
    write(&mut report, "#");
    report.finish(Summary::default(), &stages()).unwrap();
    let mode = |p: &Path| fs::metadata(p).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&dir), 0o700);
    let mut names: Vec<_> = fs::read_dir(&dir).unwrap().map(|e| e.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, [FRAMES, PAGE, SUMMARY]);
    for name in names {
        assert_eq!(mode(&dir.join(name)), 0o600);
    }
}

#[test]
fn a_report_that_is_there_is_refused_before_any_work_and_kept_until_the_new_one_is_whole() {
    let t = tempfile::tempdir().unwrap();
    let finish = |force: bool, pattern: &str| -> Result<Summary> {
        let mut report = Report::create(t.path(), force)?;
        write(&mut report, pattern);
        report.finish(Summary::default(), &stages())
    };
    finish(false, "..").unwrap();
    let e = finish(false, "...").unwrap_err();
    assert!(e.to_string().contains("frames.jsonl: a report is already there"), "{e}");

    let mut abandoned = Report::create(t.path(), true).unwrap();
    write(&mut abandoned, ".....");
    drop(abandoned);
    assert_eq!(read(t.path(), FRAMES).lines().count(), 2);
    assert_eq!(fs::read_dir(t.path()).unwrap().count(), 3);

    finish(true, "...").unwrap();
    assert_eq!(read(t.path(), FRAMES).lines().count(), 3);
    assert_eq!(fs::read_dir(t.path()).unwrap().count(), 3);
}

#[test]
fn dropping_leaves_nothing_behind() {
    let t = tempfile::tempdir().unwrap();
    let mut report = Report::create(&t.path().join("a/b"), false).unwrap();
    write(&mut report, "##");
    drop(report);
    assert_eq!(fs::read_dir(t.path()).unwrap().count(), 0);
}

#[test]
fn a_full_disk_is_said_with_the_files_name() {
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut lines = JsonLines::new(full, PathBuf::from("out/frames.jsonl"));
    let failure = (0..10_000).find_map(|i| lines.write(&record(i, true)).err());
    assert_eq!(
        failure.expect("10 000 records do not fit a buffer").to_string(),
        "out/frames.jsonl: cannot be written (no space left on device); free some space or choose another folder"
    );
    let mut lines = JsonLines::new(
        fs::OpenOptions::new().write(true).open("/dev/full").unwrap(),
        PathBuf::from("out/frames.jsonl"),
    );
    lines.write(&record(0, true)).unwrap();
    assert!(lines.finish().unwrap_err().to_string().contains("no space left"));
}

#[test]
fn the_longest_episodes_keep_their_thumbnails() {
    let t = tempfile::tempdir().unwrap();
    let mut report = Report::create(t.path(), false).unwrap();
    // Gaps of 14 frames part episodes; every tenth is 3 frames long, the others one.
    let count = MOST_THUMBNAILS + 57;
    let pattern: String =
        (0..count).map(|i| format!("{}{}", if i % 10 == 9 { "###" } else { "#" }, ".".repeat(14))).collect();
    write(&mut report, &pattern);
    assert_eq!(report.episodes.len(), count);
    assert_eq!(report.pictured.len(), MOST_THUMBNAILS);
    assert_eq!(report.shown.iter().filter(|e| e.picture.is_some()).count(), MOST_THUMBNAILS);
    for e in report.shown.iter().filter(|e| e.ended.episode.frames == 3) {
        assert!(e.picture.is_some());
    }
    report.finish(Summary::default(), &stages()).unwrap();
}

#[test]
fn thumbnails_are_asked_for_on_best_frames_only() {
    let t = tempfile::tempdir().unwrap();
    let mut report = Report::create(t.path(), false).unwrap();
    let mut asked = Vec::new();
    let pattern = format!(".###{}##.", ".".repeat(14));
    for (i, c) in pattern.chars().enumerate() {
        let r = record(i as u64, c == '#');
        report
            .frame(&r, 40 * MS, &mut || {
                asked.push(i);
                thumbnail()
            })
            .unwrap();
    }
    assert_eq!(asked, [1, 18]);
}

#[test]
fn outlines_are_thinned_but_keep_their_shape() {
    let mut r = record(0, true);
    r.polyps[0].contour = (0..5000).map(|i| [i, i % 7]).collect();
    let thinned = outlines(&r, None);
    assert_eq!(thinned.len(), 1);
    assert!(thinned[0].len() <= MOST_POINTS && thinned[0].len() > MOST_POINTS / 2);
    assert!(outlines(&record(0, false), None).is_empty());
}

/// A frame of the confirmed tracks given (track, polyp), each with a region.
fn followed(frame: u64, tracks: &[(u64, u64)]) -> FrameRecord {
    use crate::frame::{TrackMark, TrackState};
    let mut r = record(frame, false);
    for &(track, polyp) in tracks {
        let polyps = record(frame, true).polyps;
        r.polyps.extend(polyps.into_iter().map(|p| Polyp { track_id: Some(track), ..p }));
        r.tracks.push(TrackMark {
            track_id: track,
            polyp_id: Some(polyp),
            state: TrackState::Confirmed,
            confirmed_after_ms: Some(160.0),
            drawn: true,
            ..TrackMark::default()
        });
    }
    r.area_px = r.polyps.iter().map(|p| p.area_px).sum();
    r
}

#[test]
fn polyps_are_shown_instead_of_one_stretch_of_marked_frames() {
    use crate::tracks::Numbers;
    let t = tempfile::tempdir().unwrap();
    let mut report = Report::create(t.path(), false).unwrap();
    report.follow(&Numbers::BALANCED);
    // Something is marked on every frame: three polyps, one of them in two tracks, two at the same time.
    for n in 0..100 {
        let tracks: &[(u64, u64)] = match n {
            0..30 => &[(1, 1)],
            30..50 => &[(1, 1), (4, 2)],
            50..80 => &[(4, 2), (6, 3)],
            _ => &[(9, 3)],
        };
        report.frame(&followed(n, tracks), 40 * MS, &mut thumbnail).unwrap();
    }
    let summary = Summary {
        confirm: crate::replay::record::Confirmation {
            setting: "balanced".into(),
            numbers: Some(Numbers::BALANCED),
            ..Default::default()
        },
        ..Summary::default()
    };
    let summary = report.finish(summary, &stages()).unwrap();
    assert_eq!(summary.episodes.len(), 1);
    assert_eq!(
        summary.polyps.iter().map(|p| p.track_ids.clone()).collect::<Vec<_>>(),
        [vec![1], vec![4], vec![6, 9]]
    );
    assert_eq!(summary.polyps.iter().map(|p| p.frames).collect::<Vec<_>>(), [50, 50, 50]);
    assert_eq!(summary.first_alarm_after_ms, Some(160.0));
    let page = read(t.path(), PAGE);
    for text in [
        "<h2 id=\"episodes\">Polyps</h2>",
        "id=\"episode-3\"",
        "Confirmed after",
        "first alarm after 160 ms",
        "Tracks joined",
    ] {
        assert!(page.contains(text), "{text}");
    }
    assert!(!page.contains("id=\"episode-4\"") && !page.contains(">Episode"));
    assert_eq!(page.matches("class=\"track\"").count(), 4, "a row a track");
    assert_eq!(page.matches("data:image/jpeg").count(), 3);
    let back: Summary = serde_json::from_str(&read(t.path(), SUMMARY)).unwrap();
    assert_eq!(back, summary);
    let lines = read(t.path(), FRAMES);
    let line: Value = serde_json::from_str(lines.lines().nth(60).unwrap()).unwrap();
    assert_eq!(line["tracks"][1]["track_id"], 6);
    assert_eq!(
        (&line["tracks"][1]["state"], &line["polyps"][1]["track_id"]),
        (&"confirmed".into(), &6.into())
    );
}
