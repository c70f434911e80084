//! The HTTP control of a real session, asked as programs and as a browser ask it.

use std::io::{BufRead, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use polypscope::control::{Access, Control, Routes, SessionControl, Status, Token};
use polypscope::telemetry::Snapshot;
use polypscope::telemetry::collector::Point;

use crate::schema::assert_is;
use crate::skipped::skip;

/// A session that remembers what it was told.
#[derive(Default)]
struct Notebook {
    status: Mutex<Status>,
    /// Where recordings are said to go.
    stem: Mutex<Option<PathBuf>>,
}

impl Notebook {
    fn with(&self, change: impl FnOnce(&mut Status)) {
        change(&mut self.status.lock().expect("no holder panics"));
    }
}

impl SessionControl for Notebook {
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

    fn set_confirm(&self, setting: &str) -> polypscope::Result<()> {
        let setting: polypscope::tracks::Confirm = setting.parse()?;
        self.with(|s| s.confirm = setting.name().into());
        Ok(())
    }

    fn start_recording(&self) -> polypscope::Result<PathBuf> {
        let stem =
            self.stem.lock().expect("no holder panics").clone().unwrap_or_else(|| "recordings/a".into());
        self.with(|s| s.recording = Some(stem.clone().into()));
        Ok(stem)
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

const SECRET: &str = "0123456789abcdef0123456789abcdef";

fn start_with(access: Access) -> (Control, Arc<Notebook>) {
    let session_control = Arc::new(Notebook::default());
    let addr = "127.0.0.1:0".parse().expect("an address");
    (Control::start(addr, access, Routes::All, session_control.clone()).expect("it listens"), session_control)
}

/// As with `--control-open`.
fn start() -> (Control, Arc<Notebook>) {
    start_with(Access::default())
}

fn start_guarded() -> (Control, Arc<Notebook>) {
    start_with(Access { token: Some(Token::new(SECRET).expect("a token")), origins: Vec::new() })
}

/// Sends a request as it is and returns status and body.
fn ask(addr: SocketAddr, request: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(addr).expect("it listens");
    stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a time-out");
    stream.write_all(request.as_bytes()).expect("it takes the request");
    let mut answer = String::new();
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes);
    answer.push_str(&String::from_utf8_lossy(&bytes));
    let status = answer.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0);
    let body = answer.split_once("\r\n\r\n").map_or(String::new(), |(_, b)| b.to_owned());
    (status, body)
}

pub fn request(addr: SocketAddr, method: &str, path: &str, headers: &str, body: &str) -> (u16, String) {
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n{body}"
    );
    ask(addr, &request)
}

const CHANGE: &str = "X-Polypscope: 1\r\nContent-Type: application/json\r\n";

#[test]
fn a_session_is_steered_and_read() {
    let (control, session_control) = start();
    let addr = control.addr();
    let (status, body) = request(addr, "GET", "/api/state", "", "");
    assert_eq!(status, 200, "{body}");
    assert!(body.contains("\"state\":\"active\""), "{body}");
    assert_is("api-state", &serde_json::from_str(&body).expect("JSON"));
    let (status, body) = request(addr, "GET", "/api/figures", "", "");
    assert_eq!(status, 200, "{body}");
    assert_is("api-figures", &serde_json::from_str(&body).expect("JSON"));
    assert_eq!(request(addr, "PUT", "/api/overlay", CHANGE, "{\"on\":true}").0, 200);
    assert!(session_control.status().overlay_on);
    assert_eq!(request(addr, "PUT", "/api/threshold", CHANGE, "{\"value\":0.25}").0, 200);
    assert!((session_control.status().threshold - 0.25).abs() < 1e-9);
    assert_eq!(request(addr, "PUT", "/api/confirm", CHANGE, "{\"value\":\"quiet\"}").0, 200);
    assert_eq!(session_control.status().confirm, "quiet");
    let (status, body) = request(addr, "PUT", "/api/confirm", CHANGE, "{\"value\":\"loud\"}");
    assert!(status == 400 && body.contains("off, sensitive, balanced or quiet"), "{body}");
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
    let (control, session_control) = start();
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
    assert!(!session_control.status().overlay_on);
    let everywhere = "0.0.0.0:0".parse().expect("an address");
    let open = Access::default();
    let e = Control::start(everywhere, open, Routes::All, session_control)
        .err()
        .expect("it is refused")
        .to_string();
    assert!(e.contains("anybody on the network"), "{e}");
}

#[test]
fn the_metrics_listener_gives_nothing_else() {
    let addr = "127.0.0.1:0".parse().expect("an address");
    let session_control = Arc::new(Notebook::default());
    let control =
        Control::start(addr, Access::default(), Routes::Metrics, session_control).expect("it listens");
    assert_eq!(request(control.addr(), "GET", "/metrics", "", "").0, 200);
    assert_eq!(request(control.addr(), "GET", "/api/state", "", "").0, 404);
    assert_eq!(request(control.addr(), "PUT", "/api/overlay", CHANGE, "{\"on\":false}").0, 404);
}

#[test]
fn figures_are_given_beyond_loopback_without_a_token_and_nothing_else_is() {
    let everywhere = "0.0.0.0:0".parse().expect("an address");
    let session_control = Arc::new(Notebook::default());
    let control =
        Control::start(everywhere, Access::default(), Routes::Metrics, session_control).expect("it listens");
    let addr = SocketAddr::from(([127, 0, 0, 1], control.addr().port()));
    let (status, body) = request(addr, "GET", "/metrics", "", "");
    assert_eq!(status, 200);
    assert!(body.contains("# HELP polypscope_frames_total ") && !body.contains("# EOF"), "{body}");
    let metrics = "Accept: application/openmetrics-text;version=1.0.0\r\n";
    assert!(request(addr, "GET", "/metrics", metrics, "").1.ends_with("# EOF\n"));
    for path in ["/", "/api", "/api/state", "/api/snapshot.png"] {
        assert_eq!(request(addr, "GET", path, "", "").0, 404, "{path}");
    }
}

#[test]
fn other_users_of_the_machine_see_and_change_nothing() {
    let (control, session_control) = start_guarded();
    let addr = control.addr();
    for path in ["/api/state", "/api/figures", "/api/snapshot.png"] {
        assert_eq!(request(addr, "GET", path, "", "").0, 401, "{path}");
    }
    for (method, path, body) in [
        ("PUT", "/api/overlay", "{\"on\":true}"),
        ("PUT", "/api/threshold", "{\"value\":0.9}"),
        ("PUT", "/api/alpha", "{\"value\":0.9}"),
        ("POST", "/api/recording", ""),
        ("DELETE", "/api/recording", ""),
    ] {
        assert_eq!(request(addr, method, path, CHANGE, body).0, 401, "{method} {path}");
    }
    let now = session_control.status();
    assert!(!now.overlay_on && now.recording.is_none() && (now.threshold - 0.5).abs() < 1e-9);
    // The page comes without; what it asks for then needs the token.
    assert_eq!(request(addr, "GET", "/", "", "").0, 200);
    let bearer = format!("Authorization: Bearer {SECRET}\r\n");
    assert_eq!(request(addr, "GET", "/api/snapshot.png", &bearer, "").0, 200);
    assert_eq!(request(addr, "PUT", "/api/overlay", &format!("{CHANGE}{bearer}"), "{\"on\":true}").0, 200);
    assert!(session_control.status().overlay_on);
}

#[test]
fn a_page_behind_a_proxy_steers_by_its_origin() {
    let origins = vec!["https://suite3:18443".parse().expect("an origin")];
    let (control, _) = start_with(Access { token: Some(Token::new(SECRET).expect("a token")), origins });
    let addr = control.addr();
    let own = addr.to_string();
    let change = |host: &str, origin: &str| {
        let body = "{\"on\":true}";
        let request = format!(
            "PUT /api/overlay HTTP/1.1\r\nHost: {host}\r\nOrigin: {origin}\r\nConnection: close\r\n{CHANGE}\
             Authorization: Bearer {SECRET}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        ask(addr, &request).0
    };
    for host in ["suite3:18443", "suite3", &own] {
        assert_eq!(change(host, "https://suite3:18443"), 200, "{host}");
        assert_eq!(change(host, "https://suite4:18443"), 403, "{host}");
        assert_eq!(change(host, "null"), 403, "{host}");
    }
    assert_eq!(change("suite4:18443", "https://suite3:18443"), 403);
}

#[test]
fn a_recording_whose_path_is_not_text_is_told() {
    use std::os::unix::ffi::OsStringExt;
    let (control, session_control) = start();
    let path = PathBuf::from(std::ffi::OsString::from_vec(b"/tmp/\xff/20260101-000000".to_vec()));
    *session_control.stem.lock().expect("no holder panics") = Some(path);
    let addr = control.addr();
    let (status, body) = request(addr, "POST", "/api/recording", CHANGE, "");
    assert_eq!((status, body.as_str()), (200, "{\"recording\":\"/tmp/\u{fffd}/20260101-000000\"}"));
    let (status, body) = request(addr, "GET", "/api/state", "", "");
    assert!(status == 200 && body.contains("/tmp/\u{fffd}/"), "{status} {body}");
}

/// The page and the scraper are answered while others hold many connections, each in its own way.
#[test]
fn clients_that_take_and_never_give_lock_nobody_out() {
    let (control, _) = start_guarded();
    let addr = control.addr();
    let bearer = format!("Authorization: Bearer {SECRET}\r\n");
    // The page holds its connection, as browsers do.
    let mut page = TcpStream::connect(addr).expect("it listens");
    page.set_read_timeout(Some(Duration::from_secs(60))).expect("a time-out");
    let asking = format!("GET /api/state HTTP/1.1\r\nHost: {addr}\r\n{bearer}\r\n");
    let mut poll = || {
        page.write_all(asking.as_bytes()).expect("it is not closed");
        let mut answer = [0u8; 4096];
        let n = page.read(&mut answer).expect("an answer");
        assert!(answer[..n].starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer[..n]));
    };
    poll();
    let whole = format!("GET / HTTP/1.1\r\nHost: {addr}\r\n\r\n");
    let mut held = Vec::new();
    for kind in 0..3 {
        for _ in 0..100 {
            let mut stream = TcpStream::connect(addr).expect("it listens");
            stream.set_nonblocking(true).expect("a socket");
            // Nothing, half a head, or more questions than anybody takes the answers to. They may have been closed
            // already.
            let _ = match kind {
                0 => Ok(0),
                1 => stream.write(b"GET / HTTP/1.1\r\nX: "),
                _ => stream.write(whole.repeat(300).as_bytes()),
            };
            held.push(stream);
        }
        poll();
        assert_eq!(request(addr, "GET", "/api/state", &bearer, "").0, 200);
        assert_eq!(request(addr, "GET", "/metrics", "", "").0, 200);
        assert_eq!(request(addr, "GET", "/", "", "").0, 200);
    }
}

/// The program itself on a test pattern.
fn live(arguments: &[&str]) -> std::process::Command {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_polypscope"));
    command.args(arguments).arg("--pipeline");
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("pipelines/test.toml"));
    command.args(["--set", "size=160x120", "--sink", "null", "--no-ai"]);
    command
}

/// Address and token of the line `control page http://ADDR/#TOKEN`.
pub fn address(line: &str) -> (SocketAddr, String) {
    let url = line.trim().strip_prefix("control page ").unwrap_or(line.trim());
    let (addr, token) =
        url.strip_prefix("http://").and_then(|u| u.split_once("/#")).expect("an address with a token");
    assert!(token.len() >= 32 && token.bytes().all(|b| b.is_ascii_hexdigit()), "{line}");
    (addr.parse().expect("an address"), token.to_owned())
}

/// Ends the session with the test.
struct Running(std::process::Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_session_prints_an_address_without_whose_token_nothing_is_seen() {
    let piped = std::process::Stdio::piped;
    let mut child = live(&["live", "--control", "127.0.0.1:0", "--seconds", "60"])
        .stdout(piped())
        .spawn()
        .map(Running)
        .expect("the session starts");
    let mut line = String::new();
    let out = child.0.stdout.take().expect("it is piped");
    std::io::BufReader::new(out).read_line(&mut line).expect("a line");
    let (addr, token) = address(&line);
    assert_eq!(request(addr, "GET", "/api/snapshot.png", "", "").0, 401);
    assert_eq!(request(addr, "PUT", "/api/overlay", CHANGE, "{\"on\":false}").0, 401);
    let bearer = format!("Authorization: Bearer {token}\r\n");
    // All who ask at the same time are given the picture.
    let answers: Vec<_> = (0..8)
        .map(|_| {
            let bearer = bearer.clone();
            std::thread::spawn(move || request(addr, "GET", "/api/snapshot.png", &bearer, "").0)
        })
        .collect();
    let answers: Vec<u16> = answers.into_iter().map(|a| a.join().expect("no panic")).collect();
    assert_eq!(answers, [200; 8]);
}

#[test]
fn a_session_that_prints_no_remarks_still_tells_its_address() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("url");
    let short = ["--control", "127.0.0.1:0", "--seconds", "1"];
    for before in [["--quiet", "live"], ["--json", "live"]] {
        let out = live(&before).args(short).output().expect("the session runs");
        assert!(out.status.success());
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        let line = said.lines().find(|l| l.starts_with("control page ")).expect("an address");
        assert!(!String::from_utf8_lossy(&out.stdout).contains(&address(line).1));
        let out = live(&before).args(short).arg("--control-url-file").arg(&file).output().expect("it runs");
        assert!(out.status.success() && !String::from_utf8_lossy(&out.stderr).contains("control page"));
        assert!(!file.exists(), "the address outlives the session");
    }
    // A supervisor reads it while the session runs.
    let mut command = live(&["--quiet", "live", "--control", "127.0.0.1:0", "--seconds", "60"]);
    let child =
        command.arg("--control-url-file").arg(&file).spawn().map(Running).expect("the session starts");
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    while !file.exists() {
        assert!(std::time::Instant::now() < deadline, "no file");
        std::thread::sleep(Duration::from_millis(20));
    }
    let (addr, token) = address(&std::fs::read_to_string(&file).expect("an address"));
    let bearer = format!("Authorization: Bearer {token}\r\n");
    assert_eq!(request(addr, "GET", "/api/state", &bearer, "").0, 200);
    drop(child);
}

#[test]
fn what_cannot_be_listened_to_or_recorded_into_is_refused_before_the_start() {
    use std::os::unix::ffi::OsStrExt;
    let folder = tempfile::tempdir().expect("a folder");
    let short = folder.path().join("short");
    std::fs::write(&short, "secret").expect("it is written");
    let refused = |command: &mut std::process::Command, words: &str| {
        let out = command.args(["--seconds", "1"]).output().expect("it runs");
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(out.status.code() == Some(2) && said.contains(words), "{:?}: {said}", out.status);
    };
    refused(live(&["live"]).args(["--control", "0.0.0.0:0", "--control-open"]), "anybody on the network");
    refused(
        live(&["live"]).args(["--control", "127.0.0.1:0", "--control-token-file"]).arg(&short),
        "too short",
    );
    refused(
        live(&["live"]).args(["--metrics", "127.0.0.1:0", "--metrics-token-file"]).arg(&short),
        "too short",
    );
    let precious = [short.as_os_str()];
    refused(
        live(&["live"]).args(["--control", "127.0.0.1:0", "--control-url-file"]).args(precious),
        "is already there",
    );
    for option in ["--record", "--record-to"] {
        let dir = folder.path().join(std::ffi::OsStr::from_bytes(b"\xff"));
        refused(live(&["live"]).arg(option).arg(&dir), "not UTF-8");
        assert!(!dir.exists());
    }
}

#[test]
fn the_page_shows_the_session_in_a_browser() {
    let Some(chromium) = ["chromium", "chromium-browser", "google-chrome"]
        .into_iter()
        .find(|n| std::process::Command::new(n).arg("--version").output().is_ok_and(|o| o.status.success()))
    else {
        return skip("browser", "there is no Chromium on the path");
    };
    let (control, _) = start_guarded();
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
    let out = command.arg(format!("http://{}/#{SECRET}", control.addr())).output().expect("it runs");
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
