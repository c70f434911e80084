//! The page of `bench pipeline` in a browser, and both commands on made-up records.
#![cfg(feature = "video")]

#[path = "common/skipped.rs"]
mod skipped;

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use polypscope::bench::{PipelineReport, RunRecord, page, thinned_us};
use polypscope::distribution::Histogram;
use polypscope::frame::Nanos;
use polypscope::telemetry::Machine;
use skipped::skip;

/// Between 0 and 1, the same every time.
fn noise(n: u64) -> f64 {
    let mut z = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    ((z ^ (z >> 27)) >> 11) as f64 / (1u64 << 53) as f64
}

/// Made-up times around `us`, with a tail.
fn times(us: f64, seed: u64) -> Histogram {
    let mut h = Histogram::new();
    for i in 0..900 {
        let u = noise(seed * 10_007 + i);
        let tail = if u > 0.98 { 1.0 + 40.0 * (u - 0.98) } else { 1.0 };
        let spread = 0.92 + 0.1 * noise(seed * 77 + i * 3) + 0.08 * u * u + 0.01 * noise(seed);
        h.record(Nanos((us * 1e3 * spread * tail) as u64));
    }
    h
}

fn report(network: f64, seeds: std::ops::Range<u64>) -> PipelineReport {
    let machine = Machine {
        cpu: "A processor of the test".into(),
        cores: 2,
        features: vec!["avx2".into(), "avx512bf16".into()],
        memory_bytes: 8 << 30,
        system: "Debian GNU/Linux 12".into(),
        version: "0.1.0".into(),
    };
    let runs = seeds
        .map(|seed| {
            let mut run = RunRecord {
                width_px: 1280,
                height_px: 720,
                warm_up_frames: 60,
                fps_target: Some(30.0),
                fps_achieved: 29.97 + 0.01 * noise(seed),
                deadline_misses: Some(870 + seed),
                ..Default::default()
            };
            let s = &mut run.summary;
            s.input = "phantom typical".into();
            s.engine = "CPU, bf16, 352 × 352, 2 threads".into();
            s.frames.entered = 900;
            s.frames.out = 900;
            s.frames.inferred = 560;
            s.frames.superseded = 340;
            s.rss_bytes.max = 410 << 20;
            s.cpu_cores = 1.62 + 0.01 * noise(seed);
            let parts = [
                ("video_delay", 1_350.0),
                ("annotation_delay", network * 1.9),
                ("mask_age", network * 1.7),
                ("decode", 410.0),
                ("hand_over", 180.0),
                ("preprocess", 1_450.0),
                ("network", network),
                ("postprocess", 820.0),
                ("composite", 640.0),
                ("sink", 90.0),
                ("mailbox", 9_000.0),
                ("mask_slot", 11_000.0),
            ];
            for (k, (name, us)) in parts.into_iter().enumerate() {
                let h = times(us, seed * 31 + k as u64);
                let d = h.distribution(1e-3);
                match name {
                    "video_delay" => s.video_delay_us = d,
                    "annotation_delay" => s.annotation_delay_us = d,
                    "mask_age" => s.mask_age_us = d,
                    "mailbox" | "mask_slot" => _ = s.queues_us.insert(name.into(), d),
                    _ => _ = s.stages_us.insert(name.into(), d),
                }
                run.cdf_us.insert(name.into(), thinned_us(&h));
            }
            run.derive();
            run
        })
        .collect();
    PipelineReport { machine, runs }
}

fn folder() -> PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bench_page");
    std::fs::create_dir_all(&dir).unwrap();
    dir
}

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
        .args(["--run-all-compositor-stages-before-draw", "--no-first-run", "--disable-extensions"])
        .args([
            "--host-resolver-rules=MAP * ~NOTFOUND",
            "--proxy-server=127.0.0.1:1",
            "--virtual-time-budget=2000",
        ])
        .args(["--enable-logging=stderr", "--v=0"])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .args(options)
        .arg(format!("file://{}", page.display()))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stderr = child.stderr.take().unwrap();
    let reader = std::thread::spawn(move || {
        let mut text = Vec::new();
        std::io::Read::read_to_end(&mut stderr, &mut text).unwrap();
        String::from_utf8_lossy(&text).into_owned()
    });
    let deadline = Instant::now() + Duration::from_secs(120);
    while child.try_wait().unwrap().is_none() {
        if Instant::now() > deadline {
            child.kill().unwrap();
            panic!("the browser did not end within two minutes");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    reader.join().unwrap()
}

#[test]
fn the_page_reads_on_wide_and_narrow_screens_light_and_dark() {
    let Some(browser) = browser() else { return };
    let dir = folder();
    let path = dir.join("bench.html");
    std::fs::write(&path, page(&report(42_000.0, 1..4))).unwrap();
    let frame = dir.join("narrow-frame.html");
    std::fs::write(
        &frame,
        "<!doctype html><body style=\"margin:0\"><iframe src=\"bench.html\" style=\"width:420px;height:5600px;border:0\">",
    )
    .unwrap();
    for (file, name, width, height, dark) in [
        (&path, "wide-light.png", 1280, 2900, false),
        (&path, "wide-dark.png", 1280, 2900, true),
        (&frame, "narrow-light.png", 640, 5600, false),
    ] {
        let shot = dir.join(name);
        let _ = std::fs::remove_file(&shot);
        let said = browse(
            &browser,
            file,
            &[
                &format!("--window-size={width},{height}"),
                &format!("--blink-settings=preferredColorScheme={}", if dark { 0 } else { 1 }),
                &format!("--screenshot={}", shot.display()),
            ],
        );
        // The page has no script; nothing of it may be refused or fail either.
        assert!(!said.contains("CONSOLE"), "{said}");
        let picture = image::open(&shot).unwrap().to_rgb8();
        let mean = picture.pixels().map(|p| p.0.iter().map(|v| u64::from(*v)).sum::<u64>()).sum::<u64>()
            as f64
            / f64::from(width * height * 3);
        assert!(if dark { mean < 70.0 } else { mean > 190.0 }, "{name}: {mean}");
    }
}

fn polypscope(args: &[&str], dir: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_polypscope")).args(args).current_dir(dir).output().unwrap()
}

#[test]
fn compare_stays_quiet_on_the_same_and_fails_on_a_regression_past_the_limit() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    for (name, r) in [
        ("a", report(42_000.0, 1..4)),
        ("same", report(42_000.0, 4..7)),
        ("slow", report(47_000.0, 4..7)),
        ("two", report(42_000.0, 4..6)),
    ] {
        std::fs::write(dir.join(format!("{name}.json")), serde_json::to_string(&r).unwrap()).unwrap();
    }
    let mut max = report(42_000.0, 1..4);
    max.runs.iter_mut().for_each(|r| r.fps_target = None);
    std::fs::write(dir.join("max.json"), serde_json::to_string(&max).unwrap()).unwrap();
    let says = |args: &[&str], code: i32, word: &str| {
        let o = polypscope(args, dir);
        let text = format!("{}{}", String::from_utf8_lossy(&o.stdout), String::from_utf8_lossy(&o.stderr));
        assert_eq!(o.status.code(), Some(code), "{args:?}: {text}");
        assert!(text.contains(word), "{args:?}: {text}");
        text
    };
    says(&["bench", "compare", "a.json", "same.json", "--fail-above", "0"], 0, "nothing changed");
    let text = says(&["bench", "compare", "a.json", "slow.json", "--fail-above", "5"], 1, "WORSE");
    assert!(text.lines().any(|l| l.starts_with("network_us.p50") && l.ends_with("WORSE")), "{text}");
    says(&["bench", "compare", "a.json", "slow.json", "--fail-above", "60"], 0, "WORSE");
    says(&["bench", "compare", "a.json", "slow.json"], 0, "WORSE");
    says(&["bench", "compare", "slow.json", "a.json", "--fail-above", "0"], 0, "better");
    says(&["bench", "compare", "a.json", "two.json", "--fail-above", "5"], 1, "three runs a side");
    says(&["bench", "compare", "a.json", "max.json"], 2, "as fast as possible");
    says(&["bench", "compare", "a.json", "none.json"], 1, "none.json");
    let o = polypscope(&["bench", "compare", "a.json", "slow.json", "--json"], dir);
    let v: serde_json::Value = serde_json::from_slice(&o.stdout).unwrap();
    assert!(v["changes"].as_array().unwrap().iter().any(|c| c["verdict"] == "worse"));
}
