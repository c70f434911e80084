//! Everything in ../shared/field through the program, as a user runs it: recordings, pictures and masks as people have
//! them. In: those files, where they are. Out: a table on the terminal with what the program says of each now, and a
//! failed test where that is not what it should be. What needs a camera's network, a proxy or a card is tested
//! elsewhere (`tests/live`), with what stands in for them.
#![cfg(feature = "video")]

mod common;

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::shared;

/// What came of one call.
struct Outcome {
    /// `None`: ended by a signal.
    code: Option<i32>,
    said: String,
}

fn polypscope(folder: &Path, arguments: &[&str]) -> Outcome {
    let out = Command::new(env!("CARGO_BIN_EXE_polypscope"))
        .args(arguments)
        .current_dir(folder)
        .env_remove("DISPLAY")
        .env_remove("WAYLAND_DISPLAY")
        .output()
        .expect("the program starts");
    let said = [out.stdout, out.stderr].map(|b| String::from_utf8_lossy(&b).into_owned()).concat();
    Outcome { code: out.status.code(), said }
}

/// The rows so far, and what is wrong with them.
#[derive(Default)]
struct Table {
    rows: String,
    wrong: String,
}

impl Table {
    fn row(&mut self, number: &str, input: &str, outcome: &Outcome, now: &str, right: bool) {
        let code = outcome.code.map_or("signal".to_owned(), |c| c.to_string());
        let mark = if right { ' ' } else { '!' };
        let _ = writeln!(self.rows, "{mark} {number:>4} | {input:<34} | {code:>6} | {now}");
        if !right {
            let _ = writeln!(self.wrong, "row {number}, {input}: exit {code}, {now}\n{}", outcome.said);
        }
    }
}

/// The last line that says something, shortened.
fn last_line(said: &str) -> String {
    said.lines().rev().find(|l| l.trim().len() > 1).unwrap_or_default().trim().chars().take(160).collect()
}

fn json(path: &Path) -> serde_json::Value {
    std::fs::read(path).ok().and_then(|b| serde_json::from_slice(&b).ok()).unwrap_or_default()
}

/// A replay of a recording, its summary and the path of its output.
fn replay(folder: &Path, field: &Path, name: &str) -> (Outcome, serde_json::Value, PathBuf) {
    let input = field.join(name);
    let (video, report) = (folder.join(format!("{name}.out.mkv")), folder.join(format!("{name}.report")));
    let text = |p: &Path| p.to_string_lossy().into_owned();
    let outcome = polypscope(
        folder,
        &["replay", &text(&input), "--output", &text(&video), "--report", &text(&report), "--quiet"],
    );
    let summary = json(&report.join("summary.json"));
    (outcome, summary, video)
}

/// Frames of a recording and what its first frame says of its colours: whether the range is full, and the medians of
/// luma and chroma.
fn first_frame(path: &Path) -> Option<(bool, [u8; 3])> {
    use polypscope::capture::{Facts, Next, Recording, Source, Span};
    let mut source = Facts::discover(path).and_then(|f| Recording::open(f, Span::default(), None)).ok()?;
    loop {
        match source.next().ok()? {
            Next::Frame(frame) => {
                let info = frame.picture_info().ok()?;
                let medians = frame
                    .read(|p| {
                        Ok(std::array::from_fn(|k| {
                            let plane = &p.planes[k];
                            if k >= info.format.planes() || plane.data.is_empty() {
                                return 128;
                            }
                            let mut values = plane.data.to_vec();
                            values.sort_unstable();
                            values[values.len() / 2]
                        }))
                    })
                    .ok()?;
                return Some((info.colorimetry.full_range, medians));
            }
            Next::Wait => {}
            Next::Ended(_) => return None,
        }
    }
}

fn recordings(table: &mut Table, folder: &Path, field: &Path) {
    {
        let file = format!("file={}", field.join("v22b-view-grows.mp4").display());
        let pipeline = concat!(env!("CARGO_MANIFEST_DIR"), "/pipelines/file.toml");
        let arguments = [
            "live",
            "--pipeline",
            pipeline,
            "--set",
            &file,
            "--sink",
            "null",
            "--input-size",
            "64",
            "--quiet",
        ];
        let o = polypscope(folder, &arguments);
        let right = o.code == Some(0);
        table.row("1", "v22b-view-grows.mp4, live", &o, "goes on", right);
    }
    for (row, name, grey) in [
        ("2", "v16c-gray-ffv1.mkv", true),
        ("3", "v16n-fullrange.mp4", false),
        ("3", "v16r-fullrange-matrix-said.mp4", false),
    ] {
        let (o, _, video) = replay(folder, field, name);
        let (before, after) = (first_frame(&field.join(name)), first_frame(&video));
        let now = format!("full range, medians {before:?} → {after:?}");
        let near = |a: u8, b: u8| a.abs_diff(b) <= 2;
        let right = match (before, after) {
            (Some((_, b)), Some((full, a))) => {
                full && near(a[0], b[0])
                    && (!grey || near(a[1], 128) && near(a[2], 128))
                    && (grey || near(a[1], b[1]) && near(a[2], b[2]))
            }
            _ => false,
        };
        table.row(row, name, &o, &now, right && o.code == Some(0));
    }
    for (row, name, code, lost, read) in [
        ("4", "v24-zeroed-frames.mp4", 3, Some(4), Some(49)),
        ("4", "v17c-mjpeg-headerless.avi", 3, Some(3), Some(37)),
        ("5", "v01-second-sound-longer.mp4", 0, Some(0), None),
        ("5", "v02-subtitles-longer.mkv", 0, Some(0), None),
        ("6", "v07b-fragmented-cut.mp4", 3, None, Some(27)),
        ("18", "v08-trimmed-edit-list.mp4", 0, Some(0), Some(40)),
        ("20", "v16l-jp2.mov", 1, None, None),
    ] {
        let (o, summary, _) = replay(folder, field, name);
        let frames = summary["frames"]["read"].as_u64();
        let count = summary["lost_frames"].as_u64();
        let reason = summary["partial_reason"].as_str().map_or_else(|| last_line(&o.said), str::to_owned);
        let now = format!("{} read, {} lost; {reason}", frames.unwrap_or(0), count.unwrap_or(0));
        let right = o.code == Some(code)
            && (lost.is_none() || lost == count)
            && (read.is_none() || read == frames)
            && (code == 0) == reason.is_empty();
        table.row(row, name, &o, &now, right);
    }
}

fn stills(table: &mut Table, folder: &Path, field: &Path) {
    let cut = field.join("pictures/cut.jpg");
    let o = polypscope(folder, &["segment", &cut.to_string_lossy(), "--out", "segmented"]);
    table.row(
        "13",
        "pictures/cut.jpg",
        &o,
        &last_line(&o.said),
        o.code != Some(0) && o.said.contains("cut off"),
    );

    let eval = |name: &str, what: &str| {
        let set = field.join("eval").join(name);
        let (masks, others) =
            (set.join("masks"), set.join(if what == "--images" { "images" } else { "pred" }));
        let arguments = [
            "eval",
            "--masks",
            &masks.to_string_lossy(),
            what,
            &others.to_string_lossy(),
            "--protocol",
            "thresholded",
            "--json",
        ];
        let out = Command::new(env!("CARGO_BIN_EXE_polypscope")).args(arguments).output().expect("it starts");
        let report: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap_or_default();
        let dice = report["datasets"][0]["m_dice"].as_f64();
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        (Outcome { code: out.status.code(), said }, dice)
    };
    let dice = |d: Option<f64>| d.map_or("no figure".to_owned(), |d| format!("Dice {d:.3}"));
    let ((turned, a), (upright, b)) = (eval("e15-exif", "--images"), eval("e15b-upright", "--images"));
    // Two JPEGs of one picture, so not the same to the pixel; lying on its side it scores .02.
    let same = a.zip(b).is_some_and(|(a, b)| (a - b).abs() < 0.15 && b > 0.3);
    table.row("7", "eval/e15-exif", &turned, &dice(a), same && turned.code == Some(0));
    table.row("7", "eval/e15b-upright", &upright, &dice(b), upright.code == Some(0));
    for (row, name, whole) in [
        ("8", "e01-instances", true),
        ("8", "e01b-instance-greys", true),
        ("9", "e07-16bit-0-255", true),
        ("17", "e06-unicode-names", true),
        ("17", "e11-gif", true),
        ("17", "e19-ambiguous", false),
        ("19", "e08-float-tiff", true),
        ("19", "e08b-float-tiff-mask", true),
    ] {
        let (o, d) = eval(name, "--predictions");
        let right = match whole {
            true => o.code == Some(0) && d.is_some_and(|d| d > 0.99),
            false => o.code == Some(1) && o.said.contains("keep one"),
        };
        let now = if d.is_some() { dice(d) } else { last_line(&o.said) };
        table.row(row, &format!("eval/{name}"), &o, &now, right);
    }
}

fn sessions(table: &mut Table, folder: &Path) {
    let test = concat!(env!("CARGO_MANIFEST_DIR"), "/pipelines/test.toml");
    let o = polypscope(folder, &["live", "--pipeline", test, "--no-ai", "--seconds", "3"]);
    table.row(
        "10",
        "no display",
        &o,
        &last_line(&o.said),
        o.code == Some(1) && o.said.contains("no display"),
    );

    let kept = [folder.join("old.json"), folder.join("old.jsonl")];
    for file in &kept {
        std::fs::write(file, "{\"old\":1}").expect("a file");
    }
    let arguments = [
        "live",
        "--pipeline",
        "/nonexistent.toml",
        "--summary",
        "old.json",
        "--lines",
        "old.jsonl",
        "--force",
    ];
    let o = polypscope(folder, &arguments);
    let there = kept.iter().all(|f| std::fs::read(f).is_ok_and(|b| b == b"{\"old\":1}"));
    table.row("11", "a typing error beside --force", &o, &last_line(&o.said), o.code == Some(1) && there);

    let arguments = [
        "live",
        "--pipeline",
        test,
        "--sink",
        "null",
        "--no-ai",
        "--seconds",
        "3",
        "--summary",
        "/missing/s.json",
    ];
    let o = polypscope(folder, &arguments);
    table.row("16", "a summary in no folder", &o, &last_line(&o.said), o.code == Some(1));

    let rtsp = concat!(env!("CARGO_MANIFEST_DIR"), "/pipelines/rtsp.toml");
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port");
    let set = format!("url=rtsp://doctor:secret@{nobody}/live");
    let arguments =
        ["live", "--pipeline", rtsp, "--set", &set, "--sink", "null", "--no-ai", "--seconds", "4"];
    let o = polypscope(folder, &arguments);
    let right = o.code == Some(1) && o.said.contains(&nobody.to_string()) && !o.said.contains("secret");
    table.row("15", "RTSP, nobody listening", &o, &last_line(&o.said), right);
}

#[test]
fn what_people_have_is_handled() {
    let Some(field) = shared("field") else { return };
    let scratch = tempfile::tempdir().expect("a folder");
    let mut table = Table::default();
    recordings(&mut table, scratch.path(), &field);
    stills(&mut table, scratch.path(), &field);
    sessions(&mut table, scratch.path());
    let _ = writeln!(
        std::io::stderr(),
        "   row | input                              |   exit | now\n{}",
        table.rows
    );
    assert!(table.wrong.is_empty(), "{}", table.wrong);
}
