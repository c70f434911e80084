//! Requests to the control page, byte for byte, over loopback: the listener goes on, and nobody without the token sees anything of
//! the session.
#![no_main]

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use polypscope::Result;
use polypscope::control::{Access, Control, Routes, SessionControl, Status, Token};
use polypscope::telemetry::Snapshot;

const SECRET: &str = "a-token-that-is-not-in-the-corpus";
const PATIENT: &str = "seen-by-nobody";

struct Nobody;

impl SessionControl for Nobody {
    fn status(&self) -> Status {
        Status { input: PATIENT.into(), ..Status::default() }
    }
    fn set_overlay(&self, _: bool) {
        panic!("steered without a token");
    }
    fn set_threshold(&self, _: f64) -> Result<()> {
        panic!("steered without a token");
    }
    fn set_alpha(&self, _: f32) -> Result<()> {
        panic!("steered without a token");
    }
    fn set_confirm(&self, _: &str) -> Result<()> {
        panic!("steered without a token");
    }
    fn start_recording(&self) -> Result<PathBuf> {
        panic!("steered without a token");
    }
    fn stop_recording(&self) -> Result<()> {
        panic!("steered without a token");
    }
    fn snapshot(&self) -> Result<Vec<u8>> {
        Ok(PATIENT.into())
    }
    fn figures(&self) -> Arc<Snapshot> {
        Arc::new(Snapshot { reason_words: PATIENT.into(), ..Snapshot::default() })
    }
}

fn listener() -> &'static Control {
    static LISTENER: OnceLock<Control> = OnceLock::new();
    LISTENER.get_or_init(|| {
        let token = Token::new(SECRET).expect("long enough");
        let access = Access { token: Some(token), origins: Vec::new() };
        let any = "127.0.0.1:0".parse().expect("an address");
        Control::start(any, access, Routes::All, Arc::new(Nobody)).expect("it listens")
    })
}

fuzz_target!(|bytes: &[u8]| {
    let mut stream = TcpStream::connect(listener().addr()).expect("it still listens");
    let patience = Some(Duration::from_secs(5));
    stream.set_read_timeout(patience).expect("a time-out");
    stream.set_write_timeout(patience).expect("a time-out");
    // It may close before it has read everything.
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(Shutdown::Write);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1."), "{}", String::from_utf8_lossy(&answer));
    assert!(
        !answer.windows(PATIENT.len()).any(|w| w == PATIENT.as_bytes()),
        "something of the patient is seen"
    );
});
