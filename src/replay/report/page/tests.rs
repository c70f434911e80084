use super::super::tests::{record, stages, thumbnail};
use super::super::timeline::Timeline;
use super::super::{MOST_THUMBNAILS, PAGE, Report};
use super::*;
use crate::frame::Rect;
use crate::replay::record::{FrameCounts, Summary};

const MS: u64 = 1_000_000;

/// The page of a recording of 25 frames a second on which `#` marks frames with a polyp.
fn page_of(pattern: &str, summary: Summary) -> String {
    let t = tempfile::tempdir().unwrap();
    let mut report = Report::create(t.path(), false).unwrap();
    for (i, c) in pattern.chars().enumerate() {
        report.frame(&record(i as u64, c == '#'), 40 * MS, &mut thumbnail).unwrap();
    }
    report.finish(summary, &stages()).unwrap();
    std::fs::read_to_string(t.path().join(PAGE)).unwrap()
}

fn summary() -> Summary {
    Summary {
        input: "/records/procedure.mp4".into(),
        checkpoint: "m2snet-polyp".into(),
        checkpoint_sha256: "0123456789abcdef".repeat(4),
        engine: "CPU, bf16".into(),
        width_px: 64,
        height_px: 48,
        threshold: 0.5,
        field_of_view: Rect::new(4, 2, 40, 30),
        frames: FrameCounts { read: 4, written: 4 },
        audio: "The sound was copied.".into(),
        ..Summary::default()
    }
}

/// Every tag of a page in order, with its attributes: a small reader of the HTML we write ourselves.
fn tags(html: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut rest = html;
    while let Some(open) = rest.find('<') {
        rest = &rest[open + 1..];
        let close = rest.find('>').expect("every tag is closed");
        found.push(&rest[..close]);
        let name = found[found.len() - 1].split(' ').next().unwrap_or("");
        // The insides of these are not HTML.
        if name == "script" || name == "style" {
            rest = &rest[rest.find(&format!("</{name}>")).expect("it ends")..];
        } else {
            rest = &rest[close + 1..];
        }
    }
    found
}

fn is_balanced(html: &str) {
    const VOID: [&str; 6] = ["!doctype", "meta", "img", "input", "path", "circle"];
    let mut open: Vec<&str> = Vec::new();
    for tag in tags(html) {
        let name = tag.split([' ', '\n']).next().unwrap_or("");
        if let Some(name) = name.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name), "</{name}> closes what it should not");
        } else if !VOID.contains(&name) && !tag.ends_with('/') {
            open.push(name);
        }
    }
    assert_eq!(open, [""; 0], "left open");
}

#[test]
fn says_what_a_reader_must_know() {
    let html = page_of(".##.", summary());
    for text in [
        "<h1>procedure.mp4</h1>",
        "Research software, not a medical device",
        "160 ms",
        "4 frames",
        "64 × 48",
        "25 frames/s",
        "m2snet-polyp",
        "0123456789ab",
        "CPU, bf16",
        "threshold 0.5",
        "40 × 30 pixels at 4, 2",
        "The sound was copied.",
        "id=\"episode-1\"",
        "href=\"#episode-1\"",
        "0:00:00.040",
        "data:image/jpeg;base64,/9j/",
        "Hand over",
        "p99.9",
    ] {
        // No stage but the network was timed.
        assert_eq!(html.contains(text), text != "Hand over", "{text}");
    }
    assert!(!html.contains("partial"));
    is_balanced(&html);
}

/// On a bright page, a dark one and on paper.
#[test]
fn every_stage_has_a_colour() {
    let css = include_str!("page.css");
    for name in crate::telemetry::Stage::ALL.map(crate::telemetry::Stage::name) {
        assert_eq!(css.matches(&format!("--{name}: #")).count(), 3, "{name}");
        assert!(css.contains(&format!(".{name} {{ --stage: var(--{name}); }}")), "{name}");
    }
}

#[test]
fn needs_nothing_from_outside() {
    let html = page_of(".##.", summary());
    for outside in ["http:", "https:", "url(", "@import", "<link", "src=\"/", "fetch(", "XMLHttpRequest"] {
        assert!(!html.contains(outside), "{outside}");
    }
    assert!(html.contains("default-src 'none'"));
}

#[test]
fn names_are_text_and_never_markup() {
    let evil = "<script>alert(1)</script>\"><img src=x onerror=alert(2)>'&amp;";
    let mut s = summary();
    let plain = tags(&page_of(".##.", s.clone())).len();
    s.input = format!("/tmp/{evil}");
    s.output = evil.into();
    s.checkpoint = evil.into();
    s.checkpoint_sha256 = "\"><script>".into();
    s.engine = evil.into();
    s.format = evil.into();
    s.audio = evil.into();
    s.machine.cpu = evil.into();
    s.machine.system = evil.into();
    s.machine.version = evil.into();
    let html = page_of(".##.", s.clone());
    is_balanced(&html);
    let scripts = html.matches("<script").count();
    assert_eq!(scripts, 2, "the data and ours");
    assert!(!html.contains("<img src=x"));
    assert!(html.contains("&lt;script&gt;alert(1)&lt;"));
    // Three more rows (the output; the machine's system has none of its own): each is div, dt, dd, opened and closed.
    assert_eq!(tags(&html).len(), plain + 6);

    s.partial = true;
    s.partial_reason = Some(evil.into());
    let html = page_of(".##.", s);
    is_balanced(&html);
    assert_eq!(html.matches("<script").count(), 2);
}

#[test]
fn a_partial_report_says_so_and_why() {
    let mut s = summary();
    s.partial = true;
    s.partial_reason = Some("the input ended in the middle of frame 4".into());
    let html = page_of(".##.", s);
    assert!(html.contains("<strong>This report is partial.</strong> The input ended in the middle of frame 4. It covers 4 frames (160 ms)."), "{html}");
}

#[test]
fn nothing_one_frame_and_thousands_are_all_fine() {
    let nothing = page_of("", Summary::default());
    is_balanced(&nothing);
    assert!(nothing.contains("No frame was analysed."));

    let none = page_of("....", summary());
    is_balanced(&none);
    assert!(none.contains("No polyp was marked."));
    assert!(none.contains("was 0.12, on frame 0"), "the largest probability");
    assert!(!none.contains("id=\"outlines\""));

    let one = page_of("#", summary());
    is_balanced(&one);
    assert!(one.contains("id=\"episode-1\""));

    let many = page_of(&format!("#{}", ".".repeat(14)).repeat(3000), summary());
    is_balanced(&many);
    assert!(many.contains(&format!("the {MOST_THUMBNAILS} longest have a picture")));
    assert_eq!(many.matches("<img ").count(), MOST_THUMBNAILS);
    for i in [1, 1500, 3000] {
        assert_eq!(many.matches(&format!("id=\"episode-{i}\"")).count(), 1, "{i}");
    }
    assert!(many.len() < 4_000_000, "{} bytes", many.len());
    // Every link leads somewhere.
    for link in many.match_indices("href=\"#").map(|(at, m)| {
        let rest = &many[at + m.len()..];
        &rest[..rest.find('"').unwrap()]
    }) {
        assert!(many.contains(&format!("id=\"{link}\"")), "{link}");
    }
}

#[test]
fn no_stage_and_no_view_are_survived() {
    let c = Contents {
        summary: &Summary::default(),
        stages: &crate::telemetry::StageHistograms::default(),
        timeline: &Timeline::default(),
        episodes: &[],
        followed: false,
        positive: 0,
        surest: None,
        first_pts_ns: u64::MAX - 1,
        length_ns: 0,
        whole_ns: 0,
    };
    let html = page(&c);
    is_balanced(&html);
    assert!(html.contains("No stage was timed."));
    assert!(html.contains("<h1>recording</h1>"));
}

#[test]
fn names_are_the_last_part_of_paths_and_addresses() {
    assert_eq!(file_name("/a/b.mp4"), "b.mp4");
    assert_eq!(file_name("b.mp4"), "b.mp4");
    assert_eq!(file_name("rtsp://host/stream/"), "stream");
    assert_eq!(file_name(""), "recording");
    assert_eq!(sentence("it broke."), "It broke");
}
