//! GStreamer's messages as sentences.
//!
//! In: what lies on a pipeline's bus. Out: an [`Error`] that names the file and the remedy. GStreamer's own debug text
//! goes to the log (`-v`).

use std::path::Path;

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_pbutils as pbutils;

use crate::{Error, Kind};

/// Takes everything off the bus: the first error, if any, and whether the stream has ended.
pub(super) fn drain(bus: &gst::Bus, path: &Path) -> (Option<Error>, bool) {
    drain_heard(bus, path, &mut || {})
}

/// As [`drain`]; `complained` is called for every warning about the stream itself.
pub(super) fn drain_heard(
    bus: &gst::Bus,
    path: &Path,
    complained: &mut dyn FnMut(),
) -> (Option<Error>, bool) {
    let mut missing = None;
    let mut error = None;
    let mut ended = false;
    while let Some(message) = bus.pop() {
        match message.view() {
            gst::MessageView::Eos(_) => ended = true,
            gst::MessageView::Error(e) => {
                tracing::debug!(source = ?e.src().map(|s| s.path_string()), debug = ?e.debug(), "{}", e.error());
                error.get_or_insert_with(|| translate(&e.error(), path));
            }
            gst::MessageView::Element(_) => {
                if let Ok(m) = pbutils::MissingPluginMessage::parse(&message) {
                    missing.get_or_insert(m.description().to_string());
                }
            }
            gst::MessageView::Warning(w) => {
                tracing::debug!(source = ?w.src().map(|s| s.path_string()), debug = ?w.debug(), "{}", w.error());
                if w.error().is::<gst::StreamError>() {
                    complained();
                }
            }
            _ => {}
        }
    }
    // A missing decoder explains the error that follows it.
    let error = match (missing, error) {
        (Some(what), Some(_)) => {
            Some(Error::machine(format!("{}: GStreamer has no {what}", path.display())).remedy(
                "install gstreamer1.0-libav and gstreamer1.0-plugins-bad, then run `polypscope doctor`",
            ))
        }
        (_, e) => e,
    };
    (error, ended)
}

/// One GLib error as a sentence about `path`.
pub(super) fn translate(e: &gst::glib::Error, path: &Path) -> Error {
    let at = path.display();
    let error = if e.matches(gst::ResourceError::NoSpaceLeft) {
        Error::new(Kind::Output, format!("{at}: no space left on the device"))
            .remedy("free some space or choose another folder")
    } else if e.matches(gst::ResourceError::NotFound) {
        Error::input(format!("{at}: cannot be found")).remedy("check the path")
    } else if e.matches(gst::ResourceError::OpenRead) || e.matches(gst::ResourceError::NotAuthorized) {
        Error::input(format!("{at}: cannot be opened")).remedy("check its permissions")
    } else if e.matches(gst::ResourceError::OpenWrite) || e.matches(gst::ResourceError::Write) {
        Error::output(format!("{at}: cannot be written")).remedy(match file_size_limit() {
            Some(bytes) => format!(
                "check the folder's permissions and free space, and that no file need be larger than {bytes} bytes (`ulimit -f`)"
            ),
            None => "check the folder's permissions and free space".to_owned(),
        })
    } else if e.matches(gst::StreamError::CodecNotFound) {
        Error::machine(format!("{at}: GStreamer has no decoder for it"))
            .remedy("install gstreamer1.0-libav, then run `polypscope doctor`")
    } else if e.matches(gst::StreamError::TypeNotFound) || e.matches(gst::StreamError::WrongType) {
        Error::input(format!("{at}: is not a video GStreamer knows")).remedy("check that it is a video file")
    } else if e.matches(gst::StreamError::Decrypt) || e.matches(gst::StreamError::DecryptNokey) {
        Error::input(format!("{at}: is encrypted")).remedy("decrypt it first")
    } else if e.matches(gst::StreamError::Demux)
        || e.matches(gst::StreamError::Decode)
        || e.matches(gst::StreamError::Format)
        || e.matches(gst::ResourceError::Read)
    {
        Error::input(format!("{at}: is damaged or cut off ({})", sentence(e)))
            .remedy("copy or export it again")
    } else {
        Error::input(format!("{at}: cannot be played ({})", sentence(e))).remedy("run with -v for details")
    };
    error.because(e.clone())
}

/// A file whose own structure says that it is not whole.
pub(super) fn damaged(path: &Path) -> Error {
    Error::input(format!("{}: is damaged or cut off", path.display())).remedy("copy or export it again")
}

/// The size beyond which this process may not write a file, if there is one.
fn file_size_limit() -> Option<u64> {
    // SAFETY: plain numbers that the call fills.
    let mut limit: libc::rlimit = unsafe { std::mem::zeroed() };
    // SAFETY: a valid pointer to them.
    let known = unsafe { libc::getrlimit(libc::RLIMIT_FSIZE, &mut limit) } == 0;
    (known && limit.rlim_cur != libc::RLIM_INFINITY).then_some(limit.rlim_cur)
}

/// GStreamer's text without its final full stop.
fn sentence(e: &gst::glib::Error) -> String {
    e.message().trim().trim_end_matches('.').to_owned()
}
