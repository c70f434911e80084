//! What a recording is, before it is played.
//!
//! In: a path. Out: [`Facts`], or the sentence that says why this is no recording.

use std::path::{Path, PathBuf};

use gstreamer as gst;
use gstreamer_pbutils as pbutils;
use gstreamer_pbutils::prelude::*;

use super::{Structure, messages};
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
    pub path: PathBuf,
    /// `None` where the container does not say.
    pub duration: Option<Nanos>,
    /// In words: "H.264 (High Profile)".
    pub video_codec: String,
    pub width: u32,
    pub height: u32,
    /// Frames a second; `None` if variable or unknown.
    pub fps: Option<f64>,
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
        let uri = gst::glib::filename_to_uri(&absolute, None)
            .map_err(|e| Error::input(format!("{at}: has a name GStreamer cannot take")).because(e))?;
        let discoverer = pbutils::Discoverer::new(gst::ClockTime::from_seconds(20))
            .map_err(|e| Error::machine("GStreamer cannot look into files").because(e))?;
        let info = match discoverer.discover_uri(&uri) {
            Ok(info) => info,
            Err(e) => return Err(messages::translate(&e, path)),
        };
        let video = info.video_streams();
        let Some(video) = video.first() else {
            return Err(match info.audio_streams().is_empty() {
                false => Error::input(format!("{at}: has sound but no picture")).remedy("give a video file"),
                true => Error::input(format!("{at}: is not a video"))
                    .remedy("give a video file or a folder of images"),
            });
        };
        if video.is_image() {
            return Err(Error::input(format!("{at}: is a still picture"))
                .remedy("use `polypscope segment` for pictures, or give a folder of them"));
        }
        match info.result() {
            pbutils::DiscovererResult::MissingPlugins => {
                let caps = video.caps().map_or_else(|| "its video".to_owned(), |c| codec_name(&c));
                return Err(Error::machine(format!("{at}: GStreamer has no decoder for {caps}"))
                    .remedy("install gstreamer1.0-libav and gstreamer1.0-plugins-bad"));
            }
            pbutils::DiscovererResult::Timeout => {
                return Err(Error::input(format!("{at}: could not be read within 20 s"))
                    .remedy("check the disk or network it lies on"));
            }
            _ => {}
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
            structure: Structure::of(path).map_err(|e| Error::read(path, e))?,
            turned,
        })
    }
}

fn codec_name(caps: &gst::Caps) -> String {
    pbutils::pb_utils_get_codec_description(caps).to_string()
}
