//! The HTTP control of a real session, asked as programs and as a browser ask it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use polypscope::control::{Control, Desk, Routes, Status};
use polypscope::telemetry::Snapshot;
use polypscope::telemetry::collector::Point;

/// A desk that remembers what it was told.
#[derive(Default)]
struct Notebook {
    status: Mutex<Status>,
}

impl Notebook {
    fn with(&self, change: impl FnOnce(&mut Status)) {
        change(&mut self.status.lock().expect("no holder panics"));
    }
}

impl Desk for Notebook {
    fn status(&self) -> Status {
        let mut s = self.status.lock().expect("no holder panics").clone();
        s.state = "active".into();
        s.reason_words = "masks come in time".into();
        s.input = "pipelines/phantom.toml".into();
        s.engine = "f32, avx2".into();
        s.network_size = [288, 288];
        s.threshold = if s.threshold == 0.0 { 0.5 } else { s.threshold };
        s
    }

    fn set_overlay(&self, on: bool) {
        self.with(|s| s.overlay_on = on);
    }

    fn set_threshold(&self, threshold: f64) -> polypscope::Result<()> {
        if threshold >= 1.0 {
            return Err(polypscope::Error::usage("1 is not a threshold"));
        }
        self.with(|s| s.threshold = threshold);
        Ok(())
    }

    fn set_alpha(&self, alpha: f32) -> polypscope::Result<()> {
        self.with(|s| s.alpha = alpha);
        Ok(())
    }

    fn start_recording(&self) -> polypscope::Result<PathBuf> {
        self.with(|s| s.recording = Some("recordings/a".into()));
        Ok("recordings/a".into())
    }

    fn stop_recording(&self) -> polypscope::Result<()> {
        self.with(|s| s.recording = None);
        Ok(())
    }

    fn snapshot(&self) -> polypscope::Result<Vec<u8>> {
        Ok(b"\x89PNG".to_vec())
    }

    fn figures(&self) -> Arc<Snapshot> {
        let mut s = Snapshot { state: "active".into(), ..Snapshot::default() };
        s.frames.entered = 900;
        s.video_delay_us.count = 900;
        s.video_delay_us.p99 = 2310.0;
        s.points = (0..120)
            .map(|i| Point {
                at_s: f64::from(i),
                fps: 30.0,
                video_delay_p99_ms: Some(2.0 + f64::from(i % 7) * 0.2),
                annotation_delay_p99_ms: (i > 5).then_some(98.0 + f64::from(i % 5)),
                mask_age_p99_ms: (i > 5).then_some(120.0 + f64::from(i % 9)),
            })
            .collect();
        Arc::new(s)
    }
}

fn start() -> (Control, Arc<Notebook>) {
    let desk = Arc::new(Notebook::default());
    let addr = "127.0.0.1:0".parse().expect("an address");
    (Control::start(addr, None, Routes::All, desk.clone()).expect("it listens"), desk)
}

/// Sends a request as it is and returns status and body.
fn ask(addr: SocketAddr, request: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(addr).expect("it listens");
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a time-out");
    stream.write_all(request.as_bytes()).expect("it takes the request");
    let mut answer = String::new();
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes);
    answer.push_str(&String::from_utf8_lossy(&bytes));
    let status = answer.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0);
    let body = answer.split_once("\r\n\r\n").map_or(String::new(), |(_, b)| b.to_owned());
    (status, body)
}

fn request(addr: SocketAddr, method: &str, path: &str, headers: &str, body: &str) -> (u16, String) {
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n{body}"
    );
    ask(addr, &request)
}

const CHANGE: &str = "X-Polypscope: 1\r\nContent-Type: application/json\r\n";

#[test]
fn a_session_is_steered_and_read() {
    let (control, desk) = start();
    let addr = control.addr();
    let (status, body) = request(addr, "GET", "/api/state", "", "");
    assert_eq!(status, 200, "{body}");
    assert!(body.contains("\"state\":\"active\""), "{body}");
    assert_eq!(request(addr, "PUT", "/api/overlay", CHANGE, "{\"on\":true}").0, 200);
    assert!(desk.status().overlay_on);
    assert_eq!(request(addr, "PUT", "/api/threshold", CHANGE, "{\"value\":0.25}").0, 200);
    assert!((desk.status().threshold - 0.25).abs() < 1e-9);
    let (status, body) = request(addr, "PUT", "/api/threshold", CHANGE, "{\"value\":1}");
    assert_eq!((status, body.as_str()), (400, "{\"error\":\"1 is not a threshold\"}"));
    assert!(request(addr, "POST", "/api/recording", CHANGE, "").1.contains("recordings/a"));
    assert_eq!(request(addr, "DELETE", "/api/recording", CHANGE, "").0, 200);
    assert!(request(addr, "GET", "/metrics", "", "").1.contains("polypscope_frames_total{kind=\"in\"} 900"));
    assert!(request(addr, "GET", "/api", "", "").1.contains("Steering a live session"));
    assert_eq!(request(addr, "GET", "/nothing", "", "").0, 404);
}

#[test]
fn others_are_refused() {
    let (control, desk) = start();
    let addr = control.addr();
    let off = "{\"on\":true}";
    let foreign = "GET /api/state HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n";
    assert_eq!(ask(addr, foreign).0, 403);
    let json = "Content-Type: application/json\r\n";
    assert_eq!(request(addr, "PUT", "/api/overlay", json, off).0, 403);
    let other = format!("{CHANGE}Origin: http://evil.example\r\n");
    assert_eq!(request(addr, "PUT", "/api/overlay", &other, off).0, 403);
    let huge = format!("{{\"on\":true,\"x\":\"{}\"}}", "y".repeat(10_000));
    assert_eq!(request(addr, "PUT", "/api/overlay", CHANGE, &huge).0, 413);
    assert!(matches!(request(addr, "PUT", "/api/overlay", CHANGE, "{}").0, 400..=422));
    assert!(!desk.status().overlay_on);
    let everywhere = "0.0.0.0:0".parse().expect("an address");
    let e = Control::start(everywhere, None, Routes::All, desk).err().expect("it is refused").to_string();
    assert!(e.contains("anybody on the network"), "{e}");
}

#[test]
fn the_metrics_listener_gives_nothing_else() {
    let addr = "127.0.0.1:0".parse().expect("an address");
    let control =
        Control::start(addr, None, Routes::Metrics, Arc::new(Notebook::default())).expect("it listens");
    assert_eq!(request(control.addr(), "GET", "/metrics", "", "").0, 200);
    assert_eq!(request(control.addr(), "GET", "/api/state", "", "").0, 404);
    assert_eq!(request(control.addr(), "PUT", "/api/overlay", CHANGE, "{\"on\":false}").0, 404);
}

#[test]
fn the_page_shows_the_session_in_a_browser() {
    let Some(chromium) = ["chromium", "chromium-browser", "google-chrome"]
        .into_iter()
        .find(|n| std::process::Command::new(n).arg("--version").output().is_ok_and(|o| o.status.success()))
    else {
        eprintln!("skipped: no Chromium here");
        return;
    };
    let (control, _) = start();
    let profile = tempfile::tempdir().expect("a folder");
    let shot = std::env::var_os("POLYPSCOPE_SCREENSHOT");
    let mut command = std::process::Command::new(chromium);
    command
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"])
        .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
        .args(["--virtual-time-budget=4000", "--enable-logging=stderr", "--v=0", "--window-size=1100,1000"])
        .arg(format!("--user-data-dir={}", profile.path().display()));
    if let Some(path) = &shot {
        command.arg(format!("--screenshot={}", path.to_string_lossy()));
    } else {
        command.arg("--dump-dom");
    }
    let out = command.arg(format!("http://{}/", control.addr())).output().expect("it runs");
    let log = String::from_utf8_lossy(&out.stderr);
    assert!(!log.contains("CONSOLE"), "{log}");
    if shot.is_some() {
        return;
    }
    let dom = String::from_utf8_lossy(&out.stdout);
    for words in ["Active", "masks come in time", "2.31 ms", "f32, avx2", "not a medical device"] {
        assert!(dom.contains(words), "{words} is not on the page");
    }
    assert!(dom.matches("<path d=\"M").count() >= 3, "the charts are empty");
}
