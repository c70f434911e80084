//! The recordings of a session, one after the other.
//!
//! In: every buffer before and after the overlay, on the streaming thread; recorders that others start and stop. Out:
//! copies for the recorder that runs now, and at the end what became of every recording. The streaming thread takes no
//! lock: whoever asks how a recording stands must not cost it a frame.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

use arc_swap::ArcSwapOption;
use gstreamer as gst;
use gstreamer_video as gst_video;

use crate::capture::{Recorder, RecorderStatus, Track};
use crate::frame::Nanos;
use crate::lock::lock;
use crate::telemetry::{RecordingRecord, SidecarLines};

/// A recording of this session.
struct Begun {
    /// Kept to the session's end, so that the streaming thread is never the last to let go of it.
    recorder: Arc<Recorder>,
    /// Its end has been told.
    told: bool,
}

/// See the module.
#[derive(Default)]
pub(super) struct Recordings {
    /// The one that runs, for the streaming thread.
    current: ArcSwapOption<Recorder>,
    /// All of them, in order. Whoever begins or ends one holds this.
    all: Mutex<Vec<Begun>>,
    /// The JSON lines beside a recording.
    beside: OnceLock<SidecarLines>,
}

impl Recordings {
    fn all(&self) -> MutexGuard<'_, Vec<Begun>> {
        lock(&self.all)
    }

    /// A frame for the recorder, if one runs; it is recorded or counted as lost there.
    pub(super) fn push(&self, track: Track, buffer: &gst::BufferRef, info: &gst_video::VideoInfo) {
        if let Some(recorder) = &*self.current.load() {
            let at = Nanos(buffer.pts().map_or(0, |t| t.nseconds()));
            recorder.push(track, buffer, info, at);
        }
    }

    /// From now on JSON lines lie beside recordings.
    pub(super) fn write_beside(&self, beside: SidecarLines) {
        let _ = self.beside.set(beside);
    }

    /// Starts with a recorder that is ready, for pictures like `info`; returns the one there was, to be stopped.
    pub(super) fn begin(
        &self,
        recorder: Recorder,
        info: Option<&gst_video::VideoInfo>,
    ) -> Option<Arc<Recorder>> {
        if let Some(info) = info {
            for track in [Track::Raw, Track::Annotated] {
                if recorder.wants(track) {
                    recorder.prepare(track, info);
                }
            }
        }
        let mut all = self.all();
        if let Some(beside) = self.beside.get() {
            let mut name = recorder.stem().as_os_str().to_owned();
            name.push(".jsonl");
            beside.begin(name.into());
        }
        let recorder = Arc::new(recorder);
        all.push(Begun { recorder: recorder.clone(), told: false });
        self.current.swap(Some(recorder))
    }

    /// Takes the recorder away; the caller stops it, which may take a while.
    pub(super) fn end(&self) -> Option<Arc<Recorder>> {
        let _all = self.all();
        let recorder = self.current.swap(None);
        if recorder.is_some() {
            self.end_beside();
        }
        recorder
    }

    fn end_beside(&self) {
        if let Some(beside) = self.beside.get() {
            beside.end();
        }
    }

    /// What the recorder that runs, or ended by itself, says of itself.
    pub(super) fn status(&self) -> Option<RecorderStatus> {
        self.current.load().as_ref().map(|r| r.status())
    }

    /// Recordings that have ended by themselves since this was asked last. What belongs to them ends with them.
    pub(super) fn newly_ended(&self) -> Vec<RecorderStatus> {
        let mut ended = Vec::new();
        for begun in self.all().iter_mut().filter(|b| !b.told) {
            let status = begun.recorder.status();
            if status.stopped_because.is_none() {
                continue;
            }
            begun.told = true;
            if self.current.load().as_ref().is_some_and(|c| Arc::ptr_eq(c, &begun.recorder)) {
                self.end_beside();
            }
            ended.push(status);
        }
        ended
    }

    /// The session ends: completes what is being recorded and says what became of every recording.
    pub(super) fn close(&self) -> Vec<RecordingRecord> {
        drop(self.end());
        self.all()
            .iter()
            .map(|begun| {
                let status = begun.recorder.stop();
                RecordingRecord {
                    path: status.path.display().to_string(),
                    what: begun.recorder.what().to_owned(),
                    frames: status.frames,
                    lost: status.lost,
                    bytes: status.bytes,
                    reason: status.stopped_because,
                }
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Duration;

    use super::*;
    use crate::capture::RecorderSettings;

    fn info() -> gst_video::VideoInfo {
        crate::capture::init().unwrap();
        gst_video::VideoInfo::builder(gst_video::VideoFormat::I420, 64, 48)
            .fps(gst::Fraction::new(25, 1))
            .build()
            .unwrap()
    }

    fn recorder(dir: &std::path::Path) -> Recorder {
        let settings =
            RecorderSettings { raw: true, annotated: false, reserve_bytes: 0, ..RecorderSettings::new(dir) };
        Recorder::start(settings).unwrap()
    }

    /// Looks every 5 ms, for a minute: only something that hangs takes longer.
    const LOOKS: usize = 12_000;

    /// Pushes until the first frame is taken; returns how many were.
    fn warm_up(recordings: &Recordings, buffer: &gst::Buffer, info: &gst_video::VideoInfo) -> u64 {
        for _ in 0..LOOKS {
            recordings.push(Track::Raw, buffer, info);
            if let Some(s) = recordings.status()
                && s.frames > 0
            {
                return s.frames + s.lost;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("nothing is recorded");
    }

    #[test]
    fn whoever_asks_how_a_recording_stands_costs_no_frame() {
        let folder = tempfile::tempdir().unwrap();
        let info = info();
        let recordings = Recordings::default();
        recordings.begin(recorder(folder.path()), Some(&info));
        let buffer = gst::Buffer::from_mut_slice(vec![90u8; info.size()]);
        let before = warm_up(&recordings, &buffer, &info);
        let over = AtomicBool::new(false);
        let pushed = 4000;
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while !over.load(Ordering::Relaxed) {
                        let _ = recordings.status();
                        let _ = recordings.newly_ended();
                    }
                });
            }
            for _ in 0..pushed {
                recordings.push(Track::Raw, &buffer, &info);
            }
            over.store(true, Ordering::Relaxed);
        });
        let status = recordings.end().unwrap().stop();
        // Most find no buffer at this speed, but every one of them is in the figures.
        assert_eq!(status.frames + status.lost, before + pushed, "{status:?}");
        let why = status.lost_because;
        assert_eq!(
            status.lost,
            why.encoder_busy + why.format_change + why.not_written + why.after_end,
            "{status:?}"
        );
    }

    #[test]
    fn every_recording_of_a_session_is_in_its_outcome() {
        let folder = tempfile::tempdir().unwrap();
        let info = info();
        let recordings = Recordings::default();
        let buffer = gst::Buffer::from_mut_slice(vec![90u8; info.size()]);
        assert!(recordings.begin(recorder(folder.path()), Some(&info)).is_none());
        warm_up(&recordings, &buffer, &info);
        recordings.end().unwrap().stop();
        // The second loses its file.
        recordings.begin(recorder(folder.path()), Some(&info));
        warm_up(&recordings, &buffer, &info);
        let stem = recordings.status().unwrap().path;
        let mut name = stem.into_os_string();
        name.push("-raw-00000.mkv");
        let name = std::path::PathBuf::from(name);
        while name.metadata().unwrap().len() == 0 {
            recordings.push(Track::Raw, &buffer, &info);
            std::thread::sleep(Duration::from_millis(5));
        }
        std::fs::remove_file(name).unwrap();
        let ended = (0..LOOKS).find_map(|_| {
            std::thread::sleep(Duration::from_millis(5));
            recordings.newly_ended().pop()
        });
        let why = ended.unwrap().stopped_because.unwrap();
        assert!(why.contains("was removed while it was recorded"), "{why}");
        assert!(recordings.newly_ended().is_empty(), "told once");
        recordings.push(Track::Raw, &buffer, &info);
        assert_eq!(recordings.status().unwrap().lost_because.after_end, 1);
        let records = recordings.close();
        assert_eq!(records.len(), 2);
        assert_eq!((records[0].what.as_str(), records[0].reason.as_deref()), ("raw", None));
        assert!(records[0].frames > 0 && records[1].reason.is_some(), "{records:?}");
    }
}
