//! What a recording is, before it is played.
//!
//! In: a path. Out: [`Facts`], or the sentence that says why this is no recording.

use std::path::{Path, PathBuf};

use gstreamer as gst;
use gstreamer_pbutils as pbutils;
use gstreamer_pbutils::prelude::*;

use super::{Structure, element, messages};
use crate::frame::Nanos;
use crate::{Error, Result};

/// The sound of a recording.
#[derive(Clone, Debug)]
pub struct AudioFacts {
    /// The stream's caps as the demuxer gives them.
    pub caps: gst::Caps,
    /// In words: "MPEG-4 AAC".
    pub codec: String,
}

/// A recording's streams.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The file, as it was named.
    pub path: PathBuf,
    /// `None` where the container does not say.
    pub duration: Option<Nanos>,
    /// In words: "H.264 (High Profile)".
    pub video_codec: String,
    /// Pixels in a row, before the picture is turned.
    pub width: u32,
    /// Rows, before the picture is turned.
    pub height: u32,
    /// Frames a second; `None` if variable or unknown.
    pub fps: Option<f64>,
    /// The first sound whose caps are known; `None`: no sound.
    pub audio: Option<AudioFacts>,
    /// Whether the file's own structure is whole.
    pub structure: Structure,
    /// The picture has to be turned or mirrored to stand upright.
    pub turned: bool,
}

impl Facts {
    /// Looks into a file.
    ///
    /// # Errors
    /// A file that is missing, empty, no video, without a picture, or damaged from the start.
    pub fn discover(path: &Path) -> Result<Self> {
        super::init()?;
        let metadata = std::fs::metadata(path).map_err(|e| Error::read(path, e))?;
        super::source::refuse_special(path, &metadata)?;
        let at = path.display();
        if metadata.len() == 0 {
            return Err(Error::input(format!("{at}: is empty")).remedy("copy or export it again"));
        }
        std::fs::File::open(path).map_err(|e| Error::read(path, e))?;
        let absolute = std::path::absolute(path).map_err(|e| Error::read(path, e))?;
        let structure = Structure::of(path).map_err(|e| Error::read(path, e))?;
        if structure.index_lost {
            let what = if structure.cut {
                "is cut off before its index"
            } else {
                "has no index, as if it was cut off"
            };
            return Err(Error::input(format!("{at}: {what}")).remedy("copy or export it again"));
        }
        let uri = gst::glib::filename_to_uri(&absolute, None)
            .map_err(|e| Error::input(format!("{at}: has a name GStreamer cannot take")).because(e))?;
        let info = discover_uri(&uri)?.map_err(|e| unplayable(&e, &structure, path))?;
        let timed_out = info.result() == pbutils::DiscovererResult::Timeout;
        let video = info.video_streams();
        let Some(video) = video.first() else {
            return Err(match info.audio_streams().is_empty() {
                _ if !structure.is_whole() => messages::damaged(path),
                _ if timed_out => not_in_time(path),
                false => Error::input(format!("{at}: has sound but no picture")).remedy("give a video file"),
                true => Error::input(format!("{at}: is not a video"))
                    .remedy("give a video file or a folder of images"),
            });
        };
        if video.is_image() {
            return Err(Error::input(format!("{at}: is a still picture"))
                .remedy("use `polypscope segment` for pictures, or give a folder of them"));
        }
        if timed_out {
            return Err(not_in_time(path));
        }
        if info.result() == pbutils::DiscovererResult::MissingPlugins {
            let caps = video.caps().map_or_else(|| "its video".to_owned(), |c| codec_name(&c));
            return Err(Error::machine(format!("{at}: GStreamer has no decoder for {caps}"))
                .remedy("install gstreamer1.0-libav and gstreamer1.0-plugins-bad"));
        }
        let rate = video.framerate();
        let fps =
            (rate.numer() > 0 && rate.denom() > 0).then(|| f64::from(rate.numer()) / f64::from(rate.denom()));
        let turned = [video.tags(), info.stream_info().and_then(|s| s.tags())]
            .into_iter()
            .flatten()
            .any(|tags| tags.get::<gst::tags::ImageOrientation>().is_some_and(|o| o.get() != "rotate-0"));
        let audio = info.audio_streams().into_iter().find_map(|a| {
            let caps = a.caps()?;
            Some(AudioFacts { codec: codec_name(&caps), caps })
        });
        Ok(Self {
            path: path.to_owned(),
            duration: info.duration().filter(|d| d.nseconds() > 0).map(|d| Nanos(d.nseconds())),
            video_codec: video.caps().map_or_else(|| "video".to_owned(), |c| codec_name(&c)),
            width: video.width(),
            height: video.height(),
            fps,
            audio,
            structure,
            turned,
        })
    }
}

/// Seconds that GStreamer has for its first look into a file, and for the second.
///
/// `decodebin` takes an element's errors for its own while it tries the element; one that is posted just then, as a
/// demuxer does that meets nothing it can play, is lost with them, and no other message follows. So a first look that
/// found nothing is short and followed by another.
const LOOKS: [u64; 2] = [4, 20];

/// What GStreamer finds in a file, or its error.
fn discover_uri(uri: &str) -> Result<std::result::Result<pbutils::DiscovererInfo, gst::glib::Error>> {
    let look = |seconds| {
        pbutils::Discoverer::new(gst::ClockTime::from_seconds(seconds))
            .map(|d| d.discover_uri(uri))
            .map_err(|e| Error::machine("GStreamer cannot look into files").because(e))
    };
    match look(LOOKS[0])? {
        Ok(info) if info.result() == pbutils::DiscovererResult::Timeout => look(LOOKS[1]),
        done => Ok(done),
    }
}

fn not_in_time(path: &Path) -> Error {
    Error::machine(format!("{}: could not be read within {} s", path.display(), LOOKS[1]))
        .remedy("check the disk or network it lies on")
}

/// Why GStreamer cannot look into a file. Demuxers and decoders that are given the beginning of a file alone fail in
/// many ways; where the file's own structure is not whole, that is the reason.
fn unplayable(e: &gst::glib::Error, structure: &Structure, path: &Path) -> Error {
    let by_the_stream = e.is::<gst::StreamError>() || e.matches(gst::CoreError::Negotiation);
    let says_more =
        [gst::StreamError::CodecNotFound, gst::StreamError::TypeNotFound, gst::StreamError::WrongType]
            .into_iter()
            .chain([gst::StreamError::Decrypt, gst::StreamError::DecryptNokey])
            .any(|kind| e.matches(kind));
    if by_the_stream && !says_more && !structure.is_whole() {
        return messages::damaged(path).because(e.clone());
    }
    undecodable(e, path).unwrap_or_else(|| messages::translate(e, path))
}

/// A file whose streams are found but whose picture no decoder here can give: says what it is. `None` if the failure is
/// of another kind.
fn undecodable(e: &gst::glib::Error, path: &Path) -> Option<Error> {
    let by_decoder = e.matches(gst::CoreError::Negotiation)
        || e.matches(gst::StreamError::Failed)
        || e.matches(gst::StreamError::NotImplemented)
        || e.is::<gst::LibraryError>();
    if !by_decoder {
        return None;
    }
    let caps = picture_caps(path)?;
    let codec = codec_name(&caps);
    Some(
        Error::input(format!("{}: its picture ({codec}) is of a kind that cannot be decoded here", path.display()))
            .remedy("convert it to H.264 or FFV1 with 8 bits a sample, for example with `ffmpeg -i IN -pix_fmt yuv420p OUT.mkv`")
            .because(e.clone()),
    )
}

/// How the first picture of a file is encoded, found without decoding it.
fn picture_caps(path: &Path) -> Option<gst::Caps> {
    let pipeline = gst::Pipeline::new();
    let source = element("filesrc").ok()?;
    source.set_property("location", path);
    let parse = element("parsebin").ok()?;
    pipeline.add_many([&source, &parse]).ok()?;
    source.link(&parse).ok()?;
    let (sender, receiver) = crossbeam_channel::unbounded();
    parse.connect_pad_added(move |_, pad| {
        // Nobody listens any more once one is found.
        let _ = sender.send(pad.current_caps().unwrap_or_else(|| pad.query_caps(None)));
    });
    let found = pipeline.set_state(gst::State::Playing).ok().and_then(|_| {
        let until = std::time::Instant::now() + std::time::Duration::from_secs(5);
        std::iter::from_fn(|| receiver.recv_deadline(until).ok()).find(|caps| {
            caps.structure(0)
                .is_some_and(|s| s.name().starts_with("video/") || s.name().starts_with("image/"))
        })
    });
    let _ = pipeline.set_state(gst::State::Null);
    found
}

fn codec_name(caps: &gst::Caps) -> String {
    // Only caps without ranges have a description.
    let bare = caps.structure(0).map(|s| gst::Caps::new_empty_simple(s.name()));
    let caps = if caps.is_fixed() { caps } else { bare.as_ref().unwrap_or(caps) };
    pbutils::pb_utils_get_codec_description(caps).to_string()
}
