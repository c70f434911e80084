//! Steering and watching a live session over HTTP.
//!
//! In: requests that bring the session's token. Out: the session's state and figures, a page that shows them, and
//! changes through [`SessionControl`]. `API.md` beside this file is the reference. Requests another site's page could
//! cause a browser to send are refused: by Host (DNS rebinding), Origin and Sec-Fetch-Site. [`Routes::Metrics`] listens
//! apart: it shows no patient and steers nothing.

mod api;
mod connections;
mod limited_listener;
mod origin;
mod request_guard;
mod token;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;

use serde::Serialize;

pub use self::origin::Origin;
pub use self::token::Token;
use crate::json_path::JsonPath;
use crate::telemetry::Snapshot;
use crate::{Error, Result};

/// What a session lets itself be told.
pub trait SessionControl: Send + Sync + 'static {
    /// How the session stands now.
    fn status(&self) -> Status;
    /// Switches the marks on or off for the viewer.
    fn set_overlay(&self, on: bool);
    /// Strictly between 0 and 1.
    ///
    /// # Errors
    /// A value outside.
    fn set_threshold(&self, threshold: f64) -> Result<()>;
    /// From 0 to 1.
    ///
    /// # Errors
    /// A value outside.
    fn set_alpha(&self, alpha: f32) -> Result<()>;
    /// How what does not last is withheld: `off`, `sensitive`, `balanced` or `quiet`.
    ///
    /// # Errors
    /// Another name.
    fn set_confirm(&self, setting: &str) -> Result<()>;
    /// Returns the begin of the files' names.
    ///
    /// # Errors
    /// No folder to record into, or one that cannot be written.
    fn start_recording(&self) -> Result<PathBuf>;
    /// Completes the files, which may take some seconds; does nothing where nothing is recorded.
    fn stop_recording(&self) -> Result<()>;
    /// PNG of the field of view. May take a while.
    ///
    /// # Errors
    /// No frame.
    fn snapshot(&self) -> Result<Vec<u8>>;
    /// The figures, at most about a second old.
    fn figures(&self) -> Arc<Snapshot>;
}

/// How a session stands.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Status {
    /// `warm_up`, `active`, `degraded` or `bypass`.
    pub state: String,
    /// Why, in the word programs read.
    pub reason: String,
    /// Why, in the words people read.
    pub reason_words: String,
    /// Whether the user wants marks on the picture.
    pub overlay_on: bool,
    /// Probability from which on a pixel is marked, strictly between 0 and 1.
    pub threshold: f64,
    /// Opacity of the fill, 0–1.
    pub alpha: f32,
    /// How what does not last is withheld: `off`, `sensitive`, `balanced` or `quiet`.
    pub confirm: String,
    /// The setting's name with its numbers, in a sentence.
    pub confirm_words: String,
    /// The source gives no picture, and is started anew.
    pub source_lost: bool,
    /// Begin of the files' names, while there is a recording.
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    pub recording: Option<JsonPath>,
    /// Frames of all tracks that are not in the recording, also when that ended by itself; 0 without a recording.
    pub recording_lost_frames: u64,
    /// Why the last recording ended by itself; null if it did not.
    pub recording_stopped_because: Option<String>,
    /// Pipeline file or source.
    pub input: String,
    /// Device and precision of the network; `none` without one.
    pub engine: String,
    /// (height, width) of the network's input as it is now; 0 without a network.
    pub network_size: [usize; 2],
    /// Seconds since the session began.
    pub uptime_s: f64,
    /// This program's version.
    pub version: String,
}

/// Which routes a listener has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Routes {
    /// The page, the API and the figures.
    All,
    /// `/metrics` alone.
    Metrics,
}

/// Who may ask a listener.
#[derive(Clone, Debug, Default)]
pub struct Access {
    /// What requests must bring; `None`: everybody who can connect is let in.
    pub token: Option<Token>,
    /// Origins of pages that may ask besides the listener's own, such as that of a TLS proxy before it.
    pub origins: Vec<Origin>,
}

/// A listener; stops when dropped.
pub struct Control {
    addr: SocketAddr,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Control {
    /// Listens at `addr`.
    ///
    /// # Errors
    /// [`Routes::All`] beyond loopback without a token, an address that is taken.
    pub fn start(
        addr: SocketAddr,
        access: Access,
        routes: Routes,
        session_control: Arc<dyn SessionControl>,
    ) -> Result<Self> {
        if routes == Routes::All && access.token.is_none() && !addr.ip().is_loopback() {
            return Err(Error::usage(format!(
                "{addr}: anybody on the network could see the patient and steer the session"
            ))
            .remedy("leave out --control-open, or listen on 127.0.0.1"));
        }
        let refused = |e: std::io::Error| {
            Error::machine(format!("{addr}: cannot be listened at ({e})")).remedy("choose another address")
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .max_blocking_threads(4)
            .build()
            .map_err(refused)?;
        let listener = {
            let _here = runtime.enter();
            limited_listener::listen(addr).map_err(refused)?
        };
        let addr = listener.local_addr().map_err(refused)?;
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let router = api::router(addr, access, routes, session_control);
        let thread = std::thread::Builder::new()
            .name("control".into())
            .spawn(move || {
                runtime.block_on(async move {
                    tokio::select! {
                        () = limited_listener::serve(listener, router, connections::Limits::default()) => {}
                        _ = stopped => {}
                    }
                });
                runtime.shutdown_background();
            })
            .map_err(refused)?;
        Ok(Self { addr, stop: Some(stop), thread: Some(thread) })
    }

    /// Where it listens; a port of 0 has become a real one.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
