//! Recording the live picture, clean, annotated or both, without ever disturbing it.
//!
//! In: buffers on the streaming thread, copied at once. Out: Matroska segments that can be read up to the last seconds even
//! if the process is killed. Each track is a GStreamer pipeline of its own, so that its failures stay its own: an encoder
//! that cannot keep up loses frames, which are counted; a full disk ends the recording with its reason.

use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app as gst_app;
use gstreamer_video as gst_video;

use super::{element, messages};
use crate::{Error, Result};

/// Which picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Track {
    Raw,
    Annotated,
}

/// What is recorded, and where.
#[derive(Clone, Debug)]
pub struct RecorderSettings {
    pub folder: PathBuf,
    pub raw: bool,
    pub annotated: bool,
    /// Length of a segment.
    pub segment: Duration,
    /// x264's preset.
    pub speed: String,
    /// x264's quantiser (constant quality), 0–51.
    pub quality: u32,
}

impl RecorderSettings {
    pub fn new(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
            raw: false,
            annotated: true,
            segment: Duration::from_secs(60),
            speed: "ultrafast".into(),
            quality: 23,
        }
    }
}

/// How a recording stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct RecorderStatus {
    /// Begin of the files' names.
    pub stem: PathBuf,
    pub frames: u64,
    /// Frames for which there was no room.
    pub lost: u64,
    /// Why nothing is recorded any more.
    pub stopped_because: Option<String>,
}

/// Frames that may wait for the encoder.
const ROOM: u32 = 8;
/// How often the caretaker looks.
const LOOK: Duration = Duration::from_millis(50);
/// How long completing a file may take.
const CLOSING: Duration = Duration::from_secs(5);

/// A running encoder.
struct Line {
    pipeline: gst::Pipeline,
    entry: gst_app::AppSrc,
    pool: gst::BufferPool,
    info: gst_video::VideoInfo,
    first: Option<gst::ClockTime>,
}

/// One track's place; its line comes and goes with the picture's format.
#[derive(Default)]
struct Lane {
    wanted: bool,
    line: Mutex<Option<Line>>,
    /// The format of the frames that come, where no line fits them.
    format: Mutex<Option<gst_video::VideoInfo>>,
    frames: AtomicU64,
    lost: AtomicU64,
}

struct Shared {
    settings: RecorderSettings,
    stem: PathBuf,
    lanes: [Lane; 2],
    stop: AtomicBool,
    failure: Mutex<Option<String>>,
}

/// See the module. Dropping it completes the files.
pub struct Recorder {
    shared: Arc<Shared>,
    caretaker: Option<JoinHandle<()>>,
}

fn lock<T>(m: &Mutex<T>) -> MutexGuard<'_, T> {
    m.lock().unwrap_or_else(PoisonError::into_inner)
}

const NAMES: [&str; 2] = ["raw", "annotated"];

impl Recorder {
    /// Starts a recording whose files begin with the present date and time. The folder is made for its owner alone: it
    /// holds patients' pictures.
    ///
    /// # Errors
    /// A folder that cannot be written, missing elements.
    pub fn start(settings: RecorderSettings) -> Result<Self> {
        super::init()?;
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&settings.folder)
            .map_err(|e| Error::write(&settings.folder, e))?;
        for name in ["appsrc", "videoconvert", "x264enc", "h264parse", "splitmuxsink", "matroskamux"] {
            element(name)?;
        }
        let stem = free_stem(&settings.folder)?;
        let lanes = [settings.raw, settings.annotated].map(|wanted| Lane { wanted, ..Lane::default() });
        let shared = Arc::new(Shared {
            settings,
            stem,
            lanes,
            stop: AtomicBool::new(false),
            failure: Mutex::new(None),
        });
        let theirs = shared.clone();
        let caretaker = std::thread::Builder::new()
            .name("recorder".into())
            .spawn(move || theirs.look_after())
            .map_err(|e| Error::machine("the recorder's thread cannot be started").because(e))?;
        Ok(Self { shared, caretaker: Some(caretaker) })
    }

    /// Takes a copy of a frame. Never waits: without room, or while the encoder is being set up, the frame is left out.
    pub fn push(&self, track: Track, buffer: &gst::BufferRef, info: &gst_video::VideoInfo) {
        let lane = &self.shared.lanes[track as usize];
        if !lane.wanted {
            return;
        }
        let Ok(mut line) = lane.line.try_lock() else {
            lane.lost.fetch_add(1, Ordering::Relaxed);
            return;
        };
        match &mut *line {
            Some(line) if line.info == *info => {
                let counter = if line.push(buffer) { &lane.frames } else { &lane.lost };
                counter.fetch_add(1, Ordering::Relaxed);
            }
            started => {
                // The caretaker sets the line up; until then frames are lost, but for those before the very first.
                if started.is_some() {
                    lane.lost.fetch_add(1, Ordering::Relaxed);
                }
                if let Ok(mut format) = lane.format.try_lock() {
                    *format = Some(info.clone());
                }
            }
        }
    }

    pub fn status(&self) -> RecorderStatus {
        let sum = |what: fn(&Lane) -> &AtomicU64| {
            self.shared.lanes.iter().map(|l| what(l).load(Ordering::Relaxed)).sum()
        };
        RecorderStatus {
            stem: self.shared.stem.clone(),
            frames: sum(|l| &l.frames),
            lost: sum(|l| &l.lost),
            stopped_because: lock(&self.shared.failure).clone(),
        }
    }

    /// Completes the files and says how it went.
    pub fn stop(mut self) -> RecorderStatus {
        self.end();
        self.status()
    }

    fn end(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.caretaker.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.end();
    }
}

/// A begin of names that no file in the folder has yet.
fn free_stem(folder: &Path) -> Result<PathBuf> {
    let now = chrono::Local::now().format("%Y%m%d-%H%M%S").to_string();
    let names: Vec<_> = std::fs::read_dir(folder)
        .map_err(|e| Error::read(folder, e))?
        .flatten()
        .map(|e| e.file_name().to_string_lossy().into_owned())
        .collect();
    let stem = (1..)
        .map(|n| if n == 1 { now.clone() } else { format!("{now}-{n}") })
        .find(|stem| !names.iter().any(|n| n.starts_with(&format!("{stem}-"))))
        .unwrap_or(now);
    Ok(folder.join(stem))
}

impl Shared {
    fn look_after(&self) {
        let mut segment = [0u32; 2];
        while !self.stop.load(Ordering::Relaxed) {
            for (k, lane) in self.lanes.iter().enumerate().filter(|(_, l)| l.wanted) {
                if let Some(format) = lock(&lane.format).take()
                    && lock(&self.failure).is_none()
                {
                    let old = lock(&lane.line).take();
                    if let Some(old) = old {
                        old.close(&self.stem);
                    }
                    match Line::open(self, k, &format, segment[k]) {
                        Ok(line) => *lock(&lane.line) = Some(line),
                        Err(e) => self.fail(&e),
                    }
                    segment[k] += 1;
                }
                let error = lock(&lane.line).as_ref().and_then(|l| l.error(&self.stem));
                if let Some(e) = error {
                    self.fail(&e);
                    if let Some(line) = lock(&lane.line).take() {
                        let _ = line.pipeline.set_state(gst::State::Null);
                    }
                }
            }
            std::thread::sleep(LOOK);
        }
        for lane in &self.lanes {
            let line = lock(&lane.line).take();
            if let Some(line) = line
                && let Some(e) = line.close(&self.stem)
            {
                self.fail(&e);
            }
        }
    }

    fn fail(&self, e: &Error) {
        tracing::warn!("recording stopped: {e}; the live picture goes on");
        lock(&self.failure).get_or_insert(e.to_string());
    }
}

impl Line {
    /// An encoder for pictures of this format. `part` tells formats of one recording apart.
    fn open(shared: &Shared, track: usize, info: &gst_video::VideoInfo, part: u32) -> Result<Self> {
        let refused = |e: gst::glib::BoolError| Error::internal("the recording pipeline cannot be put together").because(e);
        let caps = info.to_caps().map_err(refused)?;
        let pipeline = gst::Pipeline::new();
        let entry = gst_app::AppSrc::builder()
            .caps(&caps)
            .format(gst::Format::Time)
            .is_live(true)
            .block(false)
            .max_bytes(0)
            .max_buffers(u64::from(ROOM))
            .build();
        let convert = element("videoconvert")?;
        let encoder = element("x264enc")?;
        encoder.set_property_from_str("speed-preset", &shared.settings.speed);
        encoder.set_property_from_str("pass", "quant");
        encoder.set_property("quantizer", shared.settings.quality);
        encoder.set_property("key-int-max", 60u32);
        encoder.set_property("bframes", 0u32);
        encoder.set_property("rc-lookahead", 0i32);
        let parse = element("h264parse")?;
        let sink = element("splitmuxsink")?;
        let name = shared.stem.file_name().unwrap_or_default().to_string_lossy();
        let part = if part == 0 { String::new() } else { format!("-{part}") };
        // The location is a format string: a per cent sign of the folder must not be one.
        let folder = shared.settings.folder.to_string_lossy().replace('%', "%%");
        sink.set_property("location", format!("{folder}/{name}-{}{part}-%05d.mkv", NAMES[track]));
        sink.set_property("max-size-time", u64::try_from(shared.settings.segment.as_nanos()).unwrap_or(0));
        sink.set_property("muxer", element("matroskamux")?);
        sink.set_property("send-keyframe-requests", true);
        pipeline.add_many([entry.upcast_ref(), &convert, &encoder, &parse, &sink]).map_err(refused)?;
        gst::Element::link_many([entry.upcast_ref(), &convert, &encoder, &parse, &sink]).map_err(refused)?;
        let pool = gst::BufferPool::new();
        let mut config = pool.config();
        let size = u32::try_from(info.size()).map_err(|_| Error::input("the picture is too large to record"))?;
        // What waits, what the encoder holds, and one being filled.
        config.set_params(Some(&caps), size, 2, ROOM + 8);
        pool.set_config(config).map_err(refused)?;
        pool.set_active(true).map_err(refused)?;
        pipeline.set_state(gst::State::Playing).map_err(|e| {
            Error::machine("the recording pipeline does not start").because(e)
        })?;
        Ok(Self { pipeline, entry, pool, info: info.clone(), first: None })
    }

    /// Copies a frame into the encoder's queue, if there is room.
    fn push(&mut self, buffer: &gst::BufferRef) -> bool {
        if self.entry.current_level_buffers() >= u64::from(ROOM) {
            return false;
        }
        let params = gst::BufferPoolAcquireParams::with_flags(gst::BufferPoolAcquireFlags::DONTWAIT);
        let Ok(mut copy) = self.pool.acquire_buffer(Some(&params)) else { return false };
        let Ok(from) = gst_video::VideoFrameRef::from_buffer_ref_readable(buffer, &self.info) else { return false };
        {
            let Some(out) = copy.get_mut() else { return false };
            let Ok(mut to) = gst_video::VideoFrameRef::from_buffer_ref_writable(out, &self.info) else {
                return false;
            };
            if from.copy(&mut to).is_err() {
                return false;
            }
        }
        let pts = buffer.pts().unwrap_or_default();
        let first = *self.first.get_or_insert(pts);
        let Some(out) = copy.get_mut() else { return false };
        out.set_pts(pts.saturating_sub(first));
        out.set_duration(buffer.duration());
        self.entry.push_buffer(copy).is_ok()
    }

    fn error(&self, at: &Path) -> Option<Error> {
        messages::drain(&self.pipeline.bus()?, at).0
    }

    /// Completes the file.
    fn close(self, at: &Path) -> Option<Error> {
        let _ = self.entry.end_of_stream();
        let deadline = Instant::now() + CLOSING;
        let mut failure = None;
        if let Some(bus) = self.pipeline.bus() {
            while Instant::now() < deadline {
                let (error, ended) = messages::drain(&bus, at);
                if error.is_some() || ended {
                    failure = error;
                    break;
                }
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        let _ = self.pipeline.set_state(gst::State::Null);
        let _ = self.pool.set_active(false);
        failure
    }
}
