//! The report of a made-up procedure, opened in a real browser that has no network.
//!
//! What it looked like stays in the target folder's `tmp/report_browser` for whoever wants to see it.
#![cfg(feature = "video")]

#[path = "common/skipped.rs"]
mod skipped;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use polypscope::frame::{Nanos, Polyp, Rect};
use polypscope::replay::record::{FrameCounts, FrameRecord, Marks, Summary};
use polypscope::replay::report::{PAGE, Report, Thumbnail};
use polypscope::telemetry::{Machine, Stage, StageHistograms};
use skipped::skip;

const VIEW: Rect = Rect::new(568, 40, 1240, 1000);
const PERIOD_NS: u64 = 40_000_000;
const FRAMES: u64 = 3000;

/// A number in [0, 1) for every `i`.
fn noise(i: u64) -> f64 {
    let mut z = i.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    (z >> 11) as f64 / (1u64 << 53) as f64
}

/// A stretch of the procedure on which a polyp is in view: from, to, radius at its closest, how sure the network is.
const SIGHTINGS: [(u64, u64, f64, f64); 7] = [
    (212, 330, 110.0, 0.86),
    (655, 668, 40.0, 0.62),
    (980, 1210, 190.0, 0.95),
    (1225, 1290, 150.0, 0.91),
    (1660, 1664, 32.0, 0.58),
    (2050, 2230, 85.0, 0.79),
    (2610, 2790, 240.0, 0.97),
];

/// Centre and radii of the polyp on a frame, in source pixels, and how probable it is.
fn polyp(frame: u64) -> Option<([f64; 2], [f64; 2], f64)> {
    let (i, s) = SIGHTINGS.iter().enumerate().find(|(_, s)| (s.0..s.1).contains(&frame))?;
    let t = (frame - s.0) as f64 / (s.1 - s.0) as f64;
    let near = (t * std::f64::consts::PI).sin().max(0.15);
    // It is lost on some frames, most on those where it is small.
    if noise(frame) > 0.55 + near {
        return None;
    }
    let angle = i as f64 * 1.9;
    let away = 300.0 * (1.0 - near) + 120.0;
    let centre = [
        f64::from(VIEW.x) + f64::from(VIEW.w) / 2.0 + angle.cos() * away,
        f64::from(VIEW.y) + f64::from(VIEW.h) / 2.0 + angle.sin() * away * 0.8,
    ];
    let r = s.2 * (0.35 + 0.65 * near);
    let p = 0.5 + (s.3 - 0.5) * (0.45 + 0.55 * near) + 0.03 * (noise(frame + 77) - 0.5);
    Some((centre, [r * 1.15, r * 0.85], p))
}

/// The boundary of a slightly uneven ellipse.
fn contour(centre: [f64; 2], radii: [f64; 2]) -> Vec<[i32; 2]> {
    (0..120)
        .map(|k| {
            let a = f64::from(k) / 120.0 * std::f64::consts::TAU;
            let bump = 1.0 + 0.06 * (3.0 * a + 1.0).sin() + 0.03 * (7.0 * a).sin();
            [(centre[0] + radii[0] * bump * a.cos()) as i32, (centre[1] + radii[1] * bump * a.sin()) as i32]
        })
        .collect()
}

fn record(frame: u64) -> FrameRecord {
    let polyps: Vec<Polyp> = polyp(frame)
        .map(|(c, r, p)| Polyp {
            bbox: Rect::new(
                (c[0] - r[0]) as u32,
                (c[1] - r[1]) as u32,
                (2.0 * r[0]) as u32,
                (2.0 * r[1]) as u32,
            ),
            area_px: (std::f64::consts::PI * r[0] * r[1]) as u64,
            mean_probability: p as f32,
            contour: contour(c, r),
            track_id: None,
        })
        .into_iter()
        .collect();
    FrameRecord {
        tracks: Vec::new(),
        gate: None,
        frame,
        pts_ns: frame * PERIOD_NS,
        state: "active".into(),
        area_px: polyps.iter().map(|p| p.area_px).sum(),
        max_probability: polyps.first().map_or_else(
            || (0.04 + 0.3 * noise(frame / 9).powi(3) + 0.05 * noise(frame)) as f32,
            |p| (f64::from(p.mean_probability) + 0.04).min(0.998) as f32,
        ),
        polyps,
        timings_us: BTreeMap::from([("network".to_owned(), 41_000.0), ("decode".to_owned(), 2_100.0)]),
    }
}

/// A picture that resembles what the record describes: folds around a dark lumen, and the polyp.
fn thumbnail(frame: u64) -> Thumbnail {
    let (width, height) = Thumbnail::size(VIEW);
    let mut rgb = Vec::with_capacity((width * height * 3) as usize);
    let scale = f64::from(VIEW.w) / f64::from(width);
    for y in 0..height {
        for x in 0..width {
            let (u, v) = (f64::from(x) / f64::from(width) - 0.5, f64::from(y) / f64::from(height) - 0.5);
            let d = (u * u + v * v).sqrt();
            let fold =
                ((1.0 / (d + 0.09)) * 2.2 + frame as f64 * 0.05 + (v.atan2(u) * 3.0).sin() * 0.5).sin();
            let mut light = (d * 2.1).min(1.0).powf(0.8) * (0.78 + 0.16 * fold);
            let mut shade = [222.0, 128.0, 104.0];
            let (sx, sy) =
                (f64::from(VIEW.x) + f64::from(x) * scale, f64::from(VIEW.y) + f64::from(y) * scale);
            if let Some((c, r, _)) = polyp(frame) {
                let (a, b) = ((sx - c[0]) / r[0], (sy - c[1]) / r[1]);
                let q = a * a + b * b;
                if q < 1.0 {
                    light = 0.5 + 0.45 * (1.0 - q).sqrt() - 0.12 * (a + b);
                    shade = [226.0, 104.0, 92.0];
                    if (a + 0.35).powi(2) + (b + 0.4).powi(2) < 0.02 {
                        (light, shade) = (1.0, [255.0, 250.0, 240.0]);
                    }
                }
            }
            // The scope's round mask.
            let outside = (u.abs() * 2.0).powi(6) + (v.abs() * 2.0).powi(6) > 1.0;
            let grain = 1.0 + 0.05 * (noise(u64::from(x + y * width)) - 0.5);
            rgb.extend(shade.map(|s| if outside { 4 } else { (s * light * grain).clamp(0.0, 255.0) as u8 }));
        }
    }
    Thumbnail { width, height, rgb, view: VIEW }
}

fn stages() -> StageHistograms {
    let mut histograms = StageHistograms::default();
    let typical = [2_300_000, 180_000, 1_450_000, 41_500_000, 820_000, 390_000, 6_100_000];
    for (k, (stage, ns)) in Stage::ALL.into_iter().zip(typical).enumerate() {
        for i in 0..FRAMES {
            let u = noise(i * 7 + k as u64);
            // Some spread, and a tail: a few frames take much longer.
            let tail = if u > 0.985 { 1.0 + 60.0 * (u - 0.985) } else { 1.0 };
            let spread = 0.9 + 0.12 * noise(i * 13 + k as u64) + 0.1 * u * u;
            histograms.record(stage, Nanos((f64::from(ns) * spread * tail) as u64));
        }
    }
    histograms
}

fn summary(input: &str) -> Summary {
    Summary {
        input: input.into(),
        output: "/data/procedures/withdrawal-marked.mkv".into(),
        checkpoint: "m2snet-polyp".into(),
        checkpoint_sha256: "9f2c51d07be4a86310f5c2d98e7714b3aa60d1e2c7f895403b1e6d8a42c97f05".into(),
        engine: "CPU, bf16, 352 × 352, 2 threads".into(),
        machine: Machine {
            cpu: "A processor of the test".into(),
            cores: 8,
            features: vec!["avx2".into(), "fma".into(), "avx512f".into()],
            memory_bytes: 16 << 30,
            system: "Debian GNU/Linux 12".into(),
            version: "0.1.0".into(),
        },
        width_px: 1920,
        height_px: 1080,
        format: "I420".into(),
        threshold: 0.5,
        field_of_view: VIEW,
        frames: FrameCounts { read: FRAMES, written: FRAMES },
        audio: "The sound (AAC, 2 channels) was copied unchanged.".into(),
        marks: Marks { status_rect: Some(Rect::new(16, 16, 220, 28)) },
        elapsed_ms: 152_400.0,
        peak_rss_bytes: 612 << 20,
        ..Summary::default()
    }
}

/// Writes the report of the made-up procedure; returns its page.
fn report(dir: &Path, summary: Summary, frames: u64) -> PathBuf {
    let mut report = Report::create(dir, true).unwrap();
    for frame in 0..frames {
        report.frame(&record(frame), PERIOD_NS, &mut || Some(thumbnail(frame))).unwrap();
    }
    report.finish(summary, &stages()).unwrap();
    dir.join(PAGE)
}

fn folder(name: &str) -> PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("report_browser").join(name);
    fs::create_dir_all(&dir).unwrap();
    dir
}

/// A headless browser; `None`, said aloud, where there is none.
fn browser() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = ["chromium", "chromium-browser", "google-chrome"]
        .into_iter()
        .flat_map(|name| std::env::split_paths(&path).map(move |dir| dir.join(name)))
        .find(|p| p.is_file());
    if found.is_none() {
        skip("browser", "there is no Chromium on the path");
    }
    found
}

/// Runs the browser on a page and returns what it printed.
fn browse(browser: &Path, page: &Path, options: &[&str]) -> String {
    let profile = tempfile::tempdir().unwrap();
    let mut child = Command::new(browser)
        .args([
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--hide-scrollbars",
        ])
        .arg("--run-all-compositor-stages-before-draw")
        .args(["--no-first-run", "--disable-extensions", "--disable-background-networking"])
        // No network: no name resolves, and whatever is asked goes to a proxy that is not there.
        .args(["--host-resolver-rules=MAP * ~NOTFOUND", "--proxy-server=127.0.0.1:1"])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .args(options)
        .arg(format!("file://{}", page.display()))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let reader = std::thread::spawn(move || {
        let mut text = Vec::new();
        std::io::Read::read_to_end(&mut stdout, &mut text).unwrap();
        String::from_utf8_lossy(&text).into_owned()
    });
    let deadline = Instant::now() + Duration::from_secs(120);
    while child.try_wait().unwrap().is_none() {
        if Instant::now() > deadline {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("the browser did not end within two minutes");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    reader.join().unwrap()
}

/// The page's document once its script has run.
fn dom(browser: &Path, page: &Path) -> String {
    browse(browser, page, &["--virtual-time-budget=4000", "--window-size=1280,900", "--dump-dom"])
}

/// The text of the element with this id.
fn text_of(dom: &str, id: &str) -> String {
    let open = dom.find(&format!("id=\"{id}\"")).unwrap_or_else(|| panic!("no element {id}"));
    let rest = &dom[open..];
    let rest = &rest[rest.find('>').unwrap() + 1..rest.find("</output>").unwrap()];
    let mut text = String::new();
    let mut inside = false;
    for c in rest.chars() {
        match c {
            '<' => inside = true,
            '>' => inside = false,
            c if !inside => text.push(c),
            _ => {}
        }
    }
    text
}

/// The root element's tag.
fn root(dom: &str) -> &str {
    let at = dom.find("<html").expect("a document");
    &dom[at..at + dom[at..].find('>').unwrap()]
}

#[test]
fn opens_offline_and_its_script_runs_without_an_error() {
    let Some(browser) = browser() else { return };
    let dir = folder("script");
    let attack = "<script>document.documentElement.dataset.owned=1</script>\
                  <img src=x onerror=document.documentElement.dataset.owned=2>.mp4";
    let page = report(&dir, summary(&format!("/data/{attack}")), 400);

    let seen = dom(&browser, &page);
    assert!(root(&seen).contains("data-ready=\"yes\""), "{}", root(&seen));
    assert!(!seen.contains("data-error") && !seen.contains("data-owned"), "{}", root(&seen));
    // Without a pointer the read-out says where the largest area is: on the first sighting.
    let readout = text_of(&seen, "readout");
    assert!(readout.contains("episode 1") && readout.contains("0:00:1"), "{readout}");

    // A copy that moves the pointer to 8 s and a half frame of 16. The policy must be loosened for that, …
    let html = fs::read_to_string(&page).unwrap();
    let pointer = "<script>{const p=document.getElementById('plots'),b=p.getBoundingClientRect();\
                   p.dispatchEvent(new PointerEvent('pointermove',{clientX:b.left+b.width*(8.02/16),clientY:b.top+9}));\
                   document.documentElement.dataset.moved='yes'}</script>";
    let tampered = html.replace("</body>", &format!("{pointer}</body>"));
    let from = tampered.find("script-src").unwrap();
    let to = from + tampered[from..].find('"').unwrap();
    let loosened = format!("{}script-src 'unsafe-inline'{}", &tampered[..from], &tampered[to..]);
    let copy = dir.join("hover.html");
    fs::write(&copy, loosened).unwrap();
    let hovered = dom(&browser, &copy);
    assert!(hovered.contains("data-moved=\"yes\"") && !hovered.contains("data-error"), "{}", root(&hovered));
    let readout = text_of(&hovered, "readout");
    assert!(readout.contains("0:00:08.000") && readout.contains("frame 200"), "{readout}");

    // … for as it is, it lets no script run but the report's own.
    fs::write(&copy, tampered).unwrap();
    let refused = dom(&browser, &copy);
    assert!(root(&refused).contains("data-ready=\"yes\"") && !refused.contains("data-moved=\"yes\">"));
    assert!(!root(&refused).contains("data-moved"), "{}", root(&refused));
}

/// Mean brightness, and how many of 4096 colours occur.
fn look(picture: &image::RgbImage) -> (f64, usize) {
    let mut seen = vec![false; 4096];
    let mut sum = 0.0;
    for p in picture.pixels() {
        let [r, g, b] = p.0.map(usize::from);
        seen[(r >> 4) << 8 | (g >> 4) << 4 | b >> 4] = true;
        sum += (r + g + b) as f64 / 3.0;
    }
    (sum / f64::from(picture.width() * picture.height()), seen.iter().filter(|s| **s).count())
}

fn screenshot(
    browser: &Path,
    page: &Path,
    name: &str,
    width: u32,
    height: u32,
    dark: bool,
) -> image::RgbImage {
    let file = page.with_file_name(name);
    let _ = fs::remove_file(&file);
    browse(
        browser,
        page,
        &[
            &format!("--window-size={width},{height}"),
            &format!("--blink-settings=preferredColorScheme={}", if dark { 0 } else { 1 }),
            &format!("--screenshot={}", file.display()),
            "--virtual-time-budget=4000",
        ],
    );
    let picture = image::open(&file).expect("a screenshot").to_rgb8();
    assert_eq!(picture.dimensions(), (width, height), "{name}");
    picture
}

#[test]
fn looks_right_on_wide_and_narrow_screens_light_and_dark() {
    let Some(browser) = browser() else { return };
    let page = report(&folder("looks"), summary("/data/procedures/withdrawal.mp4"), FRAMES);
    let light = screenshot(&browser, &page, "wide-light.png", 1280, 2700, false);
    let dark = screenshot(&browser, &page, "wide-dark.png", 1280, 2700, true);
    for picture in [&light, &dark] {
        let (_, colours) = look(picture);
        assert!(colours > 150, "only {colours} colours: blank, or without its thumbnails");
    }
    let (bright, dim) = (look(&light).0, look(&dark).0);
    assert!(bright > 200.0 && dim < 60.0, "light {bright}, dark {dim}");

    // A window cannot be as narrow as a phone; a frame in it can.
    let frame = page.with_file_name("narrow.html");
    fs::write(
        &frame,
        format!(
            "<!doctype html><body style=\"margin:0\"><iframe src=\"{PAGE}\" style=\"width:420px;height:5400px;border:0\">"
        ),
    )
    .unwrap();
    for (name, dark) in [("narrow-light.png", false), ("narrow-dark.png", true)] {
        let picture = screenshot(&browser, &frame, name, 640, 5400, dark);
        let narrow = image::imageops::crop_imm(&picture, 0, 0, 420, 5400).to_image();
        narrow.save(page.with_file_name(name)).unwrap();
        assert!(look(&narrow).1 > 150, "{name}");
    }
}

#[test]
fn a_recording_without_polyps_and_a_partial_one_are_shown_too() {
    let Some(browser) = browser() else { return };
    let mut s = summary("/data/procedures/quiet.mp4");
    s.partial = true;
    s.partial_reason = Some("the input ended in the middle of frame 200".into());
    s.frames = FrameCounts { read: 200, written: 200 };
    let page = report(&folder("quiet"), s, 200);
    let seen = dom(&browser, &page);
    assert!(root(&seen).contains("data-ready=\"yes\"") && !seen.contains("data-error"), "{}", root(&seen));
    assert!(seen.contains("No polyp was marked.") && seen.contains("This report is partial."));
    let picture = screenshot(&browser, &page, "quiet.png", 1280, 1600, false);
    assert!(look(&picture).1 > 12);
}
