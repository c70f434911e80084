//! Requests to the control page, byte for byte, over loopback, to two listeners: one whose token is in no input, which
//! goes on and shows nothing of the session; and one whose token is put into each request, which may be steered and
//! never fails.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use polypscope::control::{Access, Control, Routes, SessionControl, Status, Token};
use polypscope::telemetry::Snapshot;
use polypscope::tracks::Confirm;
use polypscope::{Error, Result};

const SECRET: &str = "a-token-that-is-not-in-the-corpus";
const PATIENT: &str = "seen-by-nobody";
/// What the seeds call the listener: its port is another one in each run.
pub const HOST: &str = "page.example";

/// Who is not let in must not get this far.
struct Session {
    open: bool,
}

impl Session {
    fn steered(&self) {
        assert!(self.open, "steered without a token");
    }
}

fn within(value: f64) -> Result<()> {
    assert!(value.is_finite());
    if (0.0..=1.0).contains(&value) { Ok(()) } else { Err(Error::usage("this is no share")) }
}

impl SessionControl for Session {
    fn status(&self) -> Status {
        Status { input: PATIENT.into(), ..Status::default() }
    }
    fn set_overlay(&self, _: bool) {
        self.steered();
    }
    fn set_threshold(&self, threshold: f64) -> Result<()> {
        self.steered();
        within(threshold)
    }
    fn set_alpha(&self, alpha: f32) -> Result<()> {
        self.steered();
        if alpha.is_finite() { within(alpha.into()) } else { Err(Error::usage("this is no share")) }
    }
    fn set_confirm(&self, setting: &str) -> Result<()> {
        self.steered();
        setting.parse::<Confirm>().map(drop)
    }
    fn start_recording(&self) -> Result<PathBuf> {
        self.steered();
        Ok("recording".into())
    }
    fn stop_recording(&self) -> Result<()> {
        self.steered();
        Ok(())
    }
    fn snapshot(&self) -> Result<Vec<u8>> {
        Ok(PATIENT.into())
    }
    fn figures(&self) -> Arc<Snapshot> {
        Arc::new(Snapshot { reason_words: PATIENT.into(), ..Snapshot::default() })
    }
}

fn listener(open: bool) -> SocketAddr {
    static LISTENERS: OnceLock<[Control; 2]> = OnceLock::new();
    let start = |open| {
        let token = Token::new(SECRET).expect("long enough");
        let origins = vec![format!("https://{HOST}").parse().expect("an origin")];
        let any = "127.0.0.1:0".parse().expect("an address");
        let access = Access { token: Some(token), origins };
        Control::start(any, access, Routes::All, Arc::new(Session { open })).expect("it listens")
    };
    LISTENERS.get_or_init(|| [start(false), start(true)])[usize::from(open)].addr()
}

fn ask(addr: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(addr).expect("it still listens");
    // An answer that never comes is a fault; one that comes late on a busy machine is none.
    let patience = Some(Duration::from_secs(60));
    stream.set_read_timeout(patience).expect("a time-out");
    stream.set_write_timeout(patience).expect("a time-out");
    // It may close before it has read everything.
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(Shutdown::Write);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1."), "{}", String::from_utf8_lossy(&answer));
    answer
}

/// The request with the token behind its first line.
fn with_token(bytes: &[u8]) -> Option<Vec<u8>> {
    let (first, rest) = bytes.split_at(bytes.iter().position(|b| *b == b'\n')? + 1);
    Some([first, format!("Authorization: Bearer {SECRET}\r\n").as_bytes(), rest].concat())
}

pub fn run(bytes: &[u8]) -> bool {
    let stranger = ask(listener(false), bytes);
    assert!(
        !stranger.windows(PATIENT.len()).any(|w| w == PATIENT.as_bytes()),
        "something of the patient is seen"
    );
    let Some(request) = with_token(bytes) else { return false };
    let answer = ask(listener(true), &request);
    // Whoever is let in steers a session in which nothing goes wrong.
    let status = answer.get(9..12).unwrap_or_default();
    assert!(!status.starts_with(b"5"), "{}", String::from_utf8_lossy(&answer));
    status == b"200"
}
