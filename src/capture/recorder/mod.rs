//! Live video into files, without ever disturbing the picture.
//!
//! In: frames of the live picture, untouched (*raw*) or with their marks (*annotated*), pushed from the streaming
//! thread. Out: H.264 in Matroska, in segments of some seconds that stay readable when the process is killed.
//!
//! The recorder has a GStreamer pipeline of its own for every track, so that nothing that happens in it reaches the
//! video path:
//!
//! ```text
//! push ─▶ copy into our own pool ─▶ bounded queue ─▶ encoder thread ─▶ appsrc ─▶ videoconvert ─▶ x264enc
//!                                                                   ─▶ h264parse ─▶ splitmuxsink (matroskamux, filesink)
//! ```
//!
//! A push never waits. Where the encoder cannot follow, the pool runs empty and frames are counted as lost; where the
//! disk is full, recording stops with its reason and what was written remains. Matroska because its clusters are whole
//! in themselves: a file cut anywhere plays up to the cut.

mod encoder_thread;
mod ingest;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError};
use gstreamer as gst;
use gstreamer_video as gst_video;

use crate::frame::Nanos;
use crate::result_file::check_folder;
use crate::{Error, Result};
use ingest::Ingest;

/// Longest that [`Recorder::stop`] waits for the last segment's index.
const PATIENCE: Duration = Duration::from_secs(5);

/// Which picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Track {
    /// As it came from the source.
    Raw,
    /// As it was shown, with its marks.
    Annotated,
}

impl Track {
    /// Both tracks.
    pub const ALL: [Track; 2] = [Track::Raw, Track::Annotated];

    /// The word in the names of its files.
    pub const fn name(self) -> &'static str {
        match self {
            Track::Raw => "raw",
            Track::Annotated => "annotated",
        }
    }
}

/// What is recorded, where and how.
#[derive(Clone, Debug)]
pub struct RecorderSettings {
    /// Made, readable by its owner alone, where it is not there.
    pub dir: PathBuf,
    /// Whether the picture is recorded as it came from the source.
    pub raw: bool,
    /// Whether the picture is recorded as it was shown, with its marks.
    pub annotated: bool,
    /// Length of one file; a killed process loses at most the end of the last one.
    pub segment: Duration,
    /// x264's `speed-preset`.
    pub speed: String,
    /// x264's constant rate factor: smaller is better and larger.
    pub quality: u32,
    /// The raw track without any loss (quantiser 0): some 20 times larger. RGB sources still become 4:2:0.
    pub raw_lossless: bool,
    /// Threads of each encoder.
    pub threads: u32,
    /// Niceness of the encoders' threads: the picture goes first. Much more than the inference threads have starves
    /// them on a machine that is busy, and frames are lost.
    pub nice: i32,
    /// Frames of each track that may wait for their encoder.
    pub waiting: u32,
    /// Recording stops when less than this is free on the disk.
    pub reserve_bytes: u64,
}

impl RecorderSettings {
    /// Both tracks, neither lossless, in segments of a minute; x264's preset is `ultrafast`, its quality 20.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            raw: true,
            annotated: true,
            segment: Duration::from_secs(60),
            speed: "ultrafast".into(),
            quality: 20,
            raw_lossless: false,
            threads: 1,
            nice: 5,
            waiting: 16,
            reserve_bytes: 64 << 20,
        }
    }

    fn wants(&self, track: Track) -> bool {
        match track {
            Track::Raw => self.raw,
            Track::Annotated => self.annotated,
        }
    }

    /// Looks whether a recording could begin now; nothing is made.
    ///
    /// # Errors
    /// As [`RecorderSettings::validate`]; a missing element, a folder that can neither be written nor made, a full
    /// disk.
    pub fn check(&self) -> Result<()> {
        self.validate()?;
        super::init()?;
        for name in writer::ELEMENTS {
            super::element(name)?;
        }
        check_folder(&self.dir)?;
        encoder_thread::check_room(self)
    }

    /// Checks what can be checked before anything is made.
    ///
    /// # Errors
    /// A folder whose name is not UTF-8, no track, segments shorter than a second, a quality x264 does not have, no
    /// frame that may wait.
    pub fn validate(&self) -> Result<()> {
        // GStreamer's messages carry the files' names as text, and refuse one that is not.
        if self.dir.to_str().is_none() {
            return Err(Error::usage(format!("{}: the folder's name is not UTF-8", self.dir.display()))
                .remedy("record into a folder with another name"));
        }
        if !self.raw && !self.annotated {
            return Err(Error::usage("recording: neither the raw nor the annotated picture is wanted")
                .remedy("choose raw, annotated or both"));
        }
        if self.segment < Duration::from_secs(1) {
            return Err(Error::usage("recording: a segment is shorter than a second")
                .remedy("choose at least one second"));
        }
        if self.quality > 51 {
            return Err(Error::usage(format!("recording: {} is not a quality of x264", self.quality))
                .remedy("choose 0 (lossless) to 51"));
        }
        if !(2..=1024).contains(&self.waiting) || self.threads == 0 {
            return Err(Error::usage("recording: too few frames may wait, or no thread encodes")
                .remedy("let 2 to 1024 frames wait and one thread encode"));
        }
        Ok(())
    }
}

/// Why frames are not in a recording.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Losses {
    /// The encoder could not follow.
    pub encoder_busy: u64,
    /// The track was being made ready for pictures of another format.
    pub format_change: u64,
    /// Taken, but not in a file when the recording ended.
    pub not_written: u64,
    /// They came after the recording had ended by itself.
    pub after_end: u64,
}

/// How a recording stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct RecorderStatus {
    /// Whether frames are still taken.
    pub recording: bool,
    /// Where the files are, with the start of their names; `.jsonl` and the like belong beside them under this name.
    #[serde(serialize_with = "crate::json_path::JsonPath::lossy")]
    pub path: PathBuf,
    /// Frames given to the encoders, of all tracks.
    pub frames: u64,
    /// Frames that are not in it, of all tracks.
    pub lost: u64,
    /// The same, by reason.
    pub lost_because: Losses,
    /// On disk so far.
    pub bytes: u64,
    /// Files begun so far.
    pub segments: u64,
    /// Why it stopped by itself.
    pub stopped_because: Option<String>,
}

/// A recording that is going on. Dropping it completes the files as [`Recorder::stop`] does.
pub struct Recorder {
    ingest: Arc<Ingest>,
    stem: PathBuf,
    done: Receiver<()>,
}

impl Recorder {
    /// Makes the folder and the thread that writes; files begin with the first frame.
    ///
    /// # Errors
    /// Settings that cannot be met, a missing element, a folder that cannot be made or written.
    pub fn start(settings: RecorderSettings) -> Result<Self> {
        super::init()?;
        settings.validate()?;
        for name in writer::ELEMENTS {
            super::element(name)?;
        }
        make_private_folder(&settings.dir)?;
        let stem = reserve_stem(&settings)?;
        let (ingest, queue) = Ingest::new(&settings);
        let ingest = Arc::new(ingest);
        let done = encoder_thread::spawn(settings, stem.clone(), ingest.clone(), queue)?;
        Ok(Self { ingest, stem, done })
    }

    /// Whether pushing frames of this track has any use now.
    pub fn wants(&self, track: Track) -> bool {
        self.ingest.wants(track)
    }

    /// Makes a track's pool and pipeline ready for pictures like this, so that its first frame is recorded too. Not for
    /// the streaming thread. Without it, recording begins some frames after the first push.
    pub fn prepare(&self, track: Track, info: &gst_video::VideoInfo) {
        self.ingest.prepare(track, info);
    }

    /// Whether a frame like this, pushed now, would be recorded as far as its track is concerned: the answer to
    /// [`Self::prepare`].
    pub fn is_ready(&self, track: Track, info: &gst_video::VideoInfo) -> bool {
        self.ingest.is_ready(track, info)
    }

    /// Records a copy of this frame, which the caller keeps. Never waits and, once the track is running, allocates
    /// nothing; what finds no room is counted as lost. `at`: running time, kept as the timestamp in the file.
    pub fn push(&self, track: Track, buffer: &gst::BufferRef, info: &gst_video::VideoInfo, at: Nanos) {
        self.ingest.push(track, buffer, info, at);
    }

    /// How it stands now.
    pub fn status(&self) -> RecorderStatus {
        self.ingest.status(&self.stem)
    }

    /// Folder and beginning of the files' names, for what is to lie beside them.
    pub fn stem(&self) -> &Path {
        &self.stem
    }

    /// What is recorded: `raw`, `annotated` or `both`.
    pub fn what(&self) -> &'static str {
        match Track::ALL.map(|t| self.ingest.records(t)) {
            [true, true] => "both",
            [true, false] => "raw",
            _ => "annotated",
        }
    }

    /// Completes the files, which takes at most some seconds: a disk that does not answer is not waited for. What was
    /// stopped already stays as it is.
    pub fn stop(&self) -> RecorderStatus {
        self.finish();
        self.status()
    }

    fn finish(&self) {
        self.ingest.close();
        if self.done.recv_timeout(PATIENCE + Duration::from_secs(1)) == Err(RecvTimeoutError::Timeout) {
            self.ingest.stopped("recording: the last segment could not be completed in time".to_owned());
        }
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        if !self.ingest.ended.load(Ordering::Acquire) {
            self.finish();
        }
    }
}

/// Pictures of patients: for their owner's eyes only.
fn make_private_folder(dir: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|e| Error::write(dir, e))
}

/// `DIR/YYYYmmdd-HHMMSS` (local time), with a number behind it where that is taken. The first file of each track is
/// made, empty, so that it is taken from now on.
fn reserve_stem(settings: &RecorderSettings) -> Result<PathBuf> {
    let now = chrono::Local::now().format("%Y%m%d-%H%M%S").to_string();
    let taken: Vec<String> = std::fs::read_dir(&settings.dir)
        .map_err(|e| Error::read(&settings.dir, e))?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect();
    let mut number = 1;
    loop {
        let name = if number == 1 { now.clone() } else { format!("{now}.{number}") };
        number += 1;
        if taken.iter().any(|t| t.strip_prefix(name.as_str()).is_some_and(begins_a_suffix)) {
            continue;
        }
        let stem = settings.dir.join(name);
        let mut made: Vec<PathBuf> = Vec::new();
        for track in Track::ALL.into_iter().filter(|t| settings.wants(*t)) {
            let path = writer::segment(&stem, track, 0);
            match writer::create_private(&path) {
                Ok(_) => made.push(path),
                Err(e) => {
                    // Ours, and empty.
                    for path in &made {
                        let _ = std::fs::remove_file(path);
                    }
                    made.clear();
                    // Another recorder was quicker.
                    if e.kind() == std::io::ErrorKind::AlreadyExists {
                        break;
                    }
                    return Err(Error::write(&path, e));
                }
            }
        }
        if !made.is_empty() {
            return Ok(stem);
        }
    }
}

/// Whether this, after a stem, makes a name of that stem's recording.
fn begins_a_suffix(rest: &str) -> bool {
    rest.starts_with('-')
        || rest.strip_prefix('.').is_some_and(|r| !r.starts_with(|c: char| c.is_ascii_digit()))
}
