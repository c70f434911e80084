//! Whether a sink finds the display it needs, before it is started.
//!
//! In: a pipeline that is ready, the environment. Out: nothing, or the sentence that says that there is no display. A
//! sink that chooses by itself tries everything it knows where it finds none, some of which ends the whole process;
//! others show nothing and say nothing.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use gstreamer as gst;
use gstreamer::prelude::*;

use super::file::Ready;
use crate::{Error, Result};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Needs {
    X11,
    Wayland,
    Either,
}

/// Sinks that show their picture on a desktop.
const SINKS: &[(&str, Needs)] = &[
    ("autovideosink", Needs::Either),
    ("fpsdisplaysink", Needs::Either),
    ("glimagesink", Needs::Either),
    ("glimagesinkelement", Needs::Either),
    ("glsinkbin", Needs::Either),
    ("gtksink", Needs::Either),
    ("gtkglsink", Needs::Either),
    ("gtk4paintablesink", Needs::Either),
    ("qmlglsink", Needs::Either),
    ("qml6glsink", Needs::Either),
    ("sdlvideosink", Needs::Either),
    ("vaapisink", Needs::Either),
    ("vulkansink", Needs::Either),
    ("ximagesink", Needs::X11),
    ("xvimagesink", Needs::X11),
    ("nveglglessink", Needs::X11),
    ("waylandsink", Needs::Wayland),
    ("gtkwaylandsink", Needs::Wayland),
];

/// Sinks that nothing may choose by itself: the first ends the process where it finds no screen, the others fill the
/// terminal with letters. A launch line may still name them.
const NEVER_CHOSEN: &[&str] = &["dfbvideosink", "aasink", "cacasink", "sdlvideosink"];

/// Keeps what can end the process, or does not show a picture, from being chosen by others.
pub(in crate::capture) fn lower_ranks() {
    for name in NEVER_CHOSEN {
        if let Some(factory) = gst::ElementFactory::find(name) {
            factory.set_rank(gst::Rank::NONE);
        }
    }
}

impl Ready {
    /// Whether there is a display, if the sink needs one.
    ///
    /// # Errors
    /// [`crate::Kind::Machine`]: there is none, or it does not let us in.
    pub fn check_display(&self) -> Result<()> {
        let place = self.sink_place();
        let sink = self.sink.bin(&place, gst::PadDirection::Sink)?;
        let elements = sink.iterate_recurse().into_iter().flatten();
        let names: Vec<_> = elements.filter_map(|e| Some(e.factory()?.name().to_string())).collect();
        // Off the screen, or on it without a desktop.
        let elsewhere = variable("GST_GL_WINDOW").is_some_and(|w| !matches!(&*w, "x11" | "wayland"));
        for (name, needs) in SINKS {
            if !names.iter().any(|n| n == name) || (elsewhere && name.starts_with("gl")) {
                continue;
            }
            look_for(*needs, &Environment::of_process()).map_err(|why| {
                Error::machine(format!("{place}: no display for {name} ({why})"))
                    .remedy("use --sink fullscreen or null")
            })?;
        }
        Ok(())
    }
}

fn variable(name: &str) -> Option<String> {
    std::env::var_os(name).map(|v| v.to_string_lossy().into_owned()).filter(|v| !v.is_empty())
}

/// Where displays are looked for.
#[derive(Default)]
struct Environment {
    display: Option<String>,
    wayland: Option<String>,
    runtime: Option<PathBuf>,
}

impl Environment {
    fn of_process() -> Self {
        Self {
            display: variable("DISPLAY"),
            wayland: variable("WAYLAND_DISPLAY"),
            runtime: variable("XDG_RUNTIME_DIR").map(PathBuf::from),
        }
    }
}

fn look_for(needs: Needs, at: &Environment) -> std::result::Result<(), String> {
    match needs {
        Needs::X11 => x11(at),
        Needs::Wayland => wayland(at),
        Needs::Either => match (wayland(at), x11(at)) {
            (Ok(()), _) | (_, Ok(())) => Ok(()),
            (Err(_), Err(_)) if at.display.is_none() && at.wayland.is_none() => {
                Err("neither DISPLAY nor WAYLAND_DISPLAY is set".to_owned())
            }
            (Err(why), Err(_)) if at.display.is_none() => Err(why),
            (Err(_), Err(why)) => Err(why),
        },
    }
}

fn wayland(at: &Environment) -> std::result::Result<(), String> {
    let name = at.wayland.as_deref().ok_or("WAYLAND_DISPLAY is not set")?;
    let path = match (&at.runtime, Path::new(name).is_absolute()) {
        (_, true) => PathBuf::from(name),
        (Some(runtime), false) => runtime.join(name),
        (None, false) => return Err("XDG_RUNTIME_DIR is not set".to_owned()),
    };
    UnixStream::connect(path).map(drop).map_err(|_| format!("nobody answers at WAYLAND_DISPLAY={name}"))
}

fn x11(at: &Environment) -> std::result::Result<(), String> {
    let name = at.display.as_deref().ok_or("DISPLAY is not set")?;
    if !answers(name) {
        return Err(format!("nobody answers at DISPLAY={name}"));
    }
    // Whether it lets us in is for its own library to find out.
    let Ok(probe) = gst::ElementFactory::make("ximagesink").property("display", name).build() else {
        return Ok(());
    };
    let opened = probe.set_state(gst::State::Ready);
    let _ = probe.set_state(gst::State::Null);
    opened.map(drop).map_err(|_| format!("DISPLAY={name} does not let this user in"))
}

/// Whether an X server listens there.
fn answers(display: &str) -> bool {
    let Some((host, rest)) = display.rsplit_once(':') else { return false };
    let host = host.rsplit('/').next().unwrap_or(host).trim_matches(['[', ']']);
    let Ok(number) = rest.split('.').next().unwrap_or(rest).parse::<u16>() else { return false };
    let path = format!("/tmp/.X11-unix/X{number}");
    if host.is_empty() || host == "unix" {
        let hidden = SocketAddr::from_abstract_name(&path);
        return UnixStream::connect(&path).is_ok()
            || hidden.is_ok_and(|a| UnixStream::connect_addr(&a).is_ok());
    }
    use std::net::ToSocketAddrs;
    let Some(port) = number.checked_add(6000) else { return false };
    (host, port).to_socket_addrs().is_ok_and(|mut found| {
        found.any(|a| std::net::TcpStream::connect_timeout(&a, Duration::from_secs(2)).is_ok())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::PipelineFile;

    #[test]
    fn a_display_that_is_not_there_is_said() {
        let none = Environment::default();
        assert_eq!(look_for(Needs::Either, &none).unwrap_err(), "neither DISPLAY nor WAYLAND_DISPLAY is set");
        assert_eq!(look_for(Needs::X11, &none).unwrap_err(), "DISPLAY is not set");
        for wrong in
            [":64999", ":64999.0", "unix:64999", "x", ":", ":x", "localhost:59000", "localhost:99999", ""]
        {
            let at = Environment { display: Some(wrong.to_owned()), ..Environment::default() };
            let why = look_for(Needs::Either, &at).unwrap_err();
            assert!(why.contains("nobody answers at DISPLAY="), "{wrong}: {why}");
        }
        let folder = tempfile::tempdir().unwrap();
        let at = Environment {
            wayland: Some("wayland-7".to_owned()),
            runtime: Some(folder.path().to_owned()),
            ..Environment::default()
        };
        assert!(look_for(Needs::Wayland, &at).unwrap_err().contains("WAYLAND_DISPLAY=wayland-7"));
        assert!(look_for(Needs::Either, &at).unwrap_err().contains("WAYLAND_DISPLAY=wayland-7"));
        let _server = std::os::unix::net::UnixListener::bind(folder.path().join("wayland-7")).unwrap();
        look_for(Needs::Wayland, &at).unwrap();
        look_for(Needs::Either, &at).unwrap();
        assert!(look_for(Needs::X11, &at).is_err(), "another kind of display");
    }

    #[test]
    fn a_server_that_does_not_let_us_in_is_no_display() {
        crate::capture::init().unwrap();
        if gst::ElementFactory::find("ximagesink").is_none() {
            return;
        }
        // Takes the call and hangs up.
        let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = server.local_addr().unwrap().port();
        let Some(number) = port.checked_sub(6000) else { return };
        std::thread::spawn(move || server.incoming().for_each(drop));
        let at = Environment { display: Some(format!("127.0.0.1:{number}")), ..Environment::default() };
        assert!(look_for(Needs::X11, &at).unwrap_err().contains("does not let this user in"));
    }

    #[test]
    fn sinks_that_need_no_display_are_not_asked() {
        crate::capture::init().unwrap();
        let text = "description = 'd'\ndefault_sink = 'null'\n[source]\nlaunch = 'videotestsrc'\n";
        PipelineFile::parse(text, "t").unwrap().ready(&[], None).unwrap().check_display().unwrap();
        for name in NEVER_CHOSEN {
            if let Some(factory) = gst::ElementFactory::find(name) {
                assert_eq!(factory.rank(), gst::Rank::NONE, "{name}");
            }
        }
    }
}
