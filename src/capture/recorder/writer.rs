//! One track's pipeline, from frames of one format to files.
//!
//! In: frames of our own pool. Out: segments named `STEM-TRACK-00000.mkv` and so on, none of which was there before.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app as gst_app;
use gstreamer_video as gst_video;

use super::ingest::Ready;
use super::{RecorderSettings, Track};
use crate::capture::{colour_description, element, messages};
use crate::lock::lock;
use crate::{Error, Result};

pub(super) const ELEMENTS: [&str; 8] = [
    "appsrc",
    "videoconvert",
    "capsfilter",
    "x264enc",
    "h264parse",
    "splitmuxsink",
    "matroskamux",
    "filesink",
];

/// Ticks of the files' clock: timestamps are kept to 0.1 ms.
const TICK_NS: u64 = 100_000;

/// The numbers of one track's files, which go on when its format changes.
#[derive(Debug, Default)]
pub(super) struct Files {
    next: AtomicU64,
    /// Those begun so far.
    made: Mutex<Vec<PathBuf>>,
    /// The last of them, open, so that it is told from another under its name.
    current: Mutex<Option<File>>,
    /// Why one could not be made.
    refused: Mutex<Option<String>>,
}

impl Files {
    /// Makes the next file, empty and readable by its owner alone; the pipeline's sink then fills it.
    fn begin(&self, stem: &Path, track: Track) -> PathBuf {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let path = segment(stem, track, number);
        // The first was made when the recording began.
        let file = if number == 0 {
            std::fs::OpenOptions::new().write(true).open(&path)
        } else {
            create_private(&path)
        };
        match file {
            Ok(file) => {
                *lock(&self.current) = Some(file);
                lock(&self.made).push(path.clone());
                path
            }
            Err(e) => {
                lock(&self.refused).get_or_insert(Error::write(&path, e).to_string());
                // The sink cannot open this either, and so ends the pipeline rather than replace what is there.
                path.join("refused")
            }
        }
    }

    pub(super) fn refused(&self) -> Option<String> {
        lock(&self.refused).clone()
    }

    pub(super) fn count(&self) -> u64 {
        self.next.load(Ordering::Relaxed)
    }

    /// Whether the file being written is there under its name.
    pub(super) fn in_place(&self) -> Result<()> {
        use std::os::unix::fs::MetadataExt;
        // In the order in which `begin` takes them, one at a time.
        let Some(path) = lock(&self.made).last().cloned() else { return Ok(()) };
        let Some(open) = lock(&self.current).as_ref().and_then(|f| f.metadata().ok()) else {
            return Ok(());
        };
        let fault = match path.symlink_metadata() {
            // A new file was begun in between.
            _ if lock(&self.made).last() != Some(&path) => return Ok(()),
            Ok(there) if (there.dev(), there.ino()) == (open.dev(), open.ino()) => return Ok(()),
            Ok(_) => "was replaced by another file while it was recorded",
            Err(_) if open.nlink() == 0 => "was removed while it was recorded",
            Err(_) => "is no longer there: its folder was moved, removed or unmounted while it was recorded",
        };
        Err(Error::output(format!("{}: {fault}", path.display())).remedy("record into a folder that stays"))
    }

    /// On disk now.
    pub(super) fn bytes(&self) -> u64 {
        lock(&self.made).iter().filter_map(|p| Some(p.metadata().ok()?.len())).sum()
    }
}

/// Name of a track's file.
pub(super) fn segment(stem: &Path, track: Track, number: u64) -> PathBuf {
    let mut name = stem.as_os_str().to_owned();
    name.push(format!("-{}-{number:05}.mkv", track.name()));
    PathBuf::from(name)
}

/// Makes an empty file that was not there, for its owner's eyes only.
pub(super) fn create_private(path: &Path) -> std::io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

pub(super) struct Writer {
    pipeline: gst::Pipeline,
    entry: gst_app::AppSrc,
    stem: PathBuf,
    generation: u64,
    last: Option<u64>,
    pushed: u64,
    /// Frames that the encoder has given to the files.
    encoded: Arc<AtomicU64>,
}

impl Writer {
    /// Builds and starts the pipeline, and the pool its frames come from.
    pub(super) fn start(
        settings: &RecorderSettings,
        stem: &Path,
        track: Track,
        info: &gst_video::VideoInfo,
        files: &Arc<Files>,
        generation: u64,
    ) -> Result<(Self, Ready)> {
        let wiring = |e: gst::glib::BoolError| {
            Error::internal("the recording pipeline cannot be put together").because(e)
        };
        let caps = info
            .to_caps()
            .map_err(|e| Error::internal("recording: the picture's format has no caps").because(e))?;
        let pool = pool(&caps, info, settings.waiting)?;

        let pipeline = gst::Pipeline::new();
        let entry = gst_app::AppSrc::builder().caps(&caps).format(gst::Format::Time).build();
        entry.set_property("block", false);
        entry.set_property("max-buffers", 0u64);
        entry.set_property("max-bytes", 0u64);
        let convert = element("videoconvert")?;
        let layout = element("capsfilter")?;
        layout.set_property("caps", colour_description::encoded_caps(info, encoded(info)));
        let x264 = x264(settings, track, info)?;
        let parse = element("h264parse")?;
        let split = splitter(settings, stem, track, files)?;
        let chain = [entry.upcast_ref::<gst::Element>(), &convert, &layout, &x264, &parse];
        pipeline.add_many(chain).map_err(wiring)?;
        pipeline.add(&split).map_err(wiring)?;
        gst::Element::link_many(chain).map_err(wiring)?;
        parse.link_pads(Some("src"), &split, Some("video")).map_err(wiring)?;

        if let Some(bus) = pipeline.bus() {
            let nice = settings.nice;
            bus.set_sync_handler(move |_, message| {
                give_way(message, nice);
                gst::BusSyncReply::Pass
            });
        }
        let encoded = Arc::new(AtomicU64::new(0));
        if let Some(exit) = parse.static_pad("src") {
            let encoded = encoded.clone();
            exit.add_probe(gst::PadProbeType::BUFFER, move |_, _| {
                encoded.fetch_add(1, Ordering::Relaxed);
                gst::PadProbeReturn::Ok
            });
        }
        let writer =
            Self { pipeline, entry, stem: stem.to_owned(), generation, last: None, pushed: 0, encoded };
        writer.pipeline.set_state(gst::State::Playing).map_err(|e| {
            writer.failure().unwrap_or_else(|| {
                Error::output(format!("{}: cannot be recorded", stem.display())).because(e)
            })
        })?;
        Ok((writer, Ready { info: info.clone(), pool, generation }))
    }

    pub(super) fn is(&self, generation: u64) -> bool {
        self.generation == generation
    }

    /// Encodes a frame. A timestamp that repeats or runs back is moved to a tick after the last, which no player minds.
    pub(super) fn push(&mut self, mut buffer: gst::Buffer) -> Result<()> {
        let own = buffer.pts().map_or(0, gst::ClockTime::nseconds);
        let at = self.last.map_or(own, |last| own.max(last + TICK_NS));
        if at != own
            && let Some(change) = buffer.get_mut()
        {
            change.set_pts(gst::ClockTime::from_nseconds(at));
        }
        self.last = Some(at);
        self.pushed += 1;
        self.entry.push_buffer(buffer).map(|_| ()).map_err(|e| {
            self.failure().unwrap_or_else(|| {
                Error::output(format!("{}: the encoder stopped", self.stem.display())).because(e)
            })
        })
    }

    pub(super) fn failure(&self) -> Option<Error> {
        messages::drain(&self.pipeline.bus()?, &self.stem).0
    }

    /// Completes the last file. Returns how many of the frames pushed never came out of the encoder.
    pub(super) fn finish(self, patience: Duration) -> (u64, Result<()>) {
        let outcome = self.complete(patience);
        let _ = self.pipeline.set_state(gst::State::Null);
        (self.pushed.saturating_sub(self.encoded.load(Ordering::Relaxed)), outcome)
    }

    fn complete(&self, patience: Duration) -> Result<()> {
        if self.pushed == 0 || self.entry.end_of_stream().is_err() {
            return self.failure().map_or(Ok(()), Err);
        }
        let Some(bus) = self.pipeline.bus() else { return Ok(()) };
        let start = Instant::now();
        while start.elapsed() < patience {
            let (error, ended) = messages::drain(&bus, &self.stem);
            match (error, ended) {
                (Some(e), _) => return Err(e),
                (None, true) => return Ok(()),
                _ => std::thread::sleep(Duration::from_millis(5)),
            }
        }
        Err(Error::output(format!(
            "{}: the last segment could not be completed in time",
            self.stem.display()
        )))
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}

/// The threads of this pipeline, and with them those x264 starts, run at a lower priority.
fn give_way(message: &gst::Message, nice: i32) {
    if let gst::MessageView::StreamStatus(status) = message.view()
        && status.get().0 == gst::StreamStatusType::Enter
    {
        // SAFETY: 0 is the calling thread, which is the one that enters; a refusal is harmless.
        unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, nice) };
    }
}

/// A pool of exactly `frames`, all of them made now.
fn pool(caps: &gst::Caps, info: &gst_video::VideoInfo, frames: u32) -> Result<gst::BufferPool> {
    let refused =
        |e: gst::glib::BoolError| Error::machine("recording: there is no memory for its frames").because(e);
    let pool: gst::BufferPool = gst_video::VideoBufferPool::new().upcast();
    let mut config = pool.config();
    let size = u32::try_from(info.size())
        .map_err(|e| Error::input("recording: the picture is too large").because(e))?;
    config.set_params(Some(caps), size, frames, frames);
    pool.set_config(config).map_err(refused)?;
    pool.set_active(true).map_err(refused)?;
    Ok(pool)
}

/// The layout x264 is given: the source's own sampling and depth. Sides that halved chroma cannot describe keep all of
/// it.
fn encoded(info: &gst_video::VideoInfo) -> &'static str {
    let format = info.format_info();
    let deep = format.depth().first().is_some_and(|d| *d > 8);
    let fields = if info.interlace_mode() == gst_video::VideoInterlaceMode::Progressive { 1 } else { 2 };
    let (mut halved, mut quartered) = match (format.is_yuv(), format.w_sub().get(1), format.h_sub().get(1)) {
        (true, Some(1), Some(1)) => (true, true),
        (true, Some(1), _) => (true, false),
        (true, ..) => (false, false),
        // Players want 4:2:0 of what was RGB or grey.
        _ => (true, true),
    };
    quartered &= info.height().is_multiple_of(2 * fields);
    halved &= info.width().is_multiple_of(2);
    match (halved, quartered, deep && format.is_yuv()) {
        (true, true, false) if info.format() == gst_video::VideoFormat::Nv12 => "NV12",
        (true, true, false) => "I420",
        (true, false, false) => "Y42B",
        (false, _, false) => "Y444",
        (true, true, true) => "I420_10LE",
        (true, false, true) => "I422_10LE",
        (false, _, true) => "Y444_10LE",
    }
}

fn x264(settings: &RecorderSettings, track: Track, info: &gst_video::VideoInfo) -> Result<gst::Element> {
    let x264 = element("x264enc")?;
    x264.set_property_from_str("speed-preset", &settings.speed);
    if settings.raw_lossless && track == Track::Raw {
        x264.set_property_from_str("pass", "quant");
        x264.set_property("quantizer", 0u32);
    } else {
        x264.set_property_from_str("pass", "qual");
        x264.set_property("quantizer", settings.quality);
    }
    x264.set_property("bframes", 0u32);
    x264.set_property("threads", settings.threads);
    // It must not hoard frames of our pool, nor lose them when the process is killed.
    x264.set_property("rc-lookahead", 0i32);
    x264.set_property("sync-lookahead", 0i32);
    // A cluster of Matroska begins at a key frame: one a second.
    let fps = info.fps();
    let second = if fps.denom() > 0 { (fps.numer() + fps.denom() - 1) / fps.denom() } else { 0 };
    x264.set_property("key-int-max", u32::try_from(second).ok().filter(|f| *f > 0).unwrap_or(30));
    x264.set_property("interlaced", info.interlace_mode() != gst_video::VideoInterlaceMode::Progressive);
    Ok(x264)
}

fn splitter(
    settings: &RecorderSettings,
    stem: &Path,
    track: Track,
    files: &Arc<Files>,
) -> Result<gst::Element> {
    let mux = element("matroskamux")?;
    mux.set_property("timecodescale", TICK_NS as i64);
    mux.set_property("min-cluster-duration", 100_000_000i64);
    mux.set_property("max-cluster-duration", 1_000_000_000i64);
    let sink = element("filesink")?;
    // What is encoded is on its way to the disk, not in our memory, when the process is killed.
    sink.set_property_from_str("buffer-mode", "unbuffered");
    sink.set_property("async", false);
    let split = element("splitmuxsink")?;
    split.set_property("muxer", &mux);
    split.set_property("sink", &sink);
    split.set_property("max-size-time", u64::try_from(settings.segment.as_nanos()).unwrap_or(u64::MAX));
    split.set_property("send-keyframe-requests", true);
    let (stem, files) = (stem.to_owned(), files.clone());
    split.connect("format-location", false, move |_| {
        // As bytes: another spelling would be another file.
        Some(files.begin(&stem, track).to_value())
    });
    Ok(split)
}
