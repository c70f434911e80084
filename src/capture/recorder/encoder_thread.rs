//! The thread that feeds the encoders and watches them.
//!
//! In: copies of frames from the ingest. Out: the tracks' pipelines kept running, started anew when the format changes,
//! and ended with a reason when one of them fails. It polls rather than be woken, so that pushing a frame costs the
//! streaming thread no system call.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};
use gstreamer_video as gst_video;

use super::ingest::{Ingest, Item, Loss};
use super::writer::{Files, Writer, segment};
use super::{PATIENCE, RecorderSettings, Track};
use crate::{Error, Result};

/// Between two looks at the queue: a fraction of the time the pool lasts.
const POLL: Duration = Duration::from_millis(4);
/// Between two looks at the disk.
const LOOK: Duration = Duration::from_millis(500);

/// Starts the thread; what it returns closes when everything is written.
pub(super) fn spawn(
    settings: RecorderSettings,
    stem: PathBuf,
    ingest: Arc<Ingest>,
    queue: Receiver<Item>,
) -> Result<Receiver<()>> {
    let (done, ended) = crossbeam_channel::bounded(1);
    std::thread::Builder::new()
        .name("recorder".into())
        .spawn(move || {
            let mut encoder_thread = EncoderThread {
                settings,
                stem,
                ingest,
                tracks: BTreeMap::new(),
                closing: Vec::new(),
                generation: 0,
            };
            encoder_thread.run(&queue);
            encoder_thread.ingest.drain(&queue);
            encoder_thread.remove_unused();
            encoder_thread.ingest.ended.store(true, Ordering::Release);
            let _ = Sender::try_send(&done, ());
        })
        .map_err(|e| Error::machine("the recorder's thread cannot be started").because(e))?;
    Ok(ended)
}

#[derive(Default)]
struct TrackState {
    writer: Option<Writer>,
    files: Arc<Files>,
}

struct EncoderThread {
    settings: RecorderSettings,
    stem: PathBuf,
    ingest: Arc<Ingest>,
    /// By the track's number.
    tracks: BTreeMap<usize, TrackState>,
    /// Pipelines of former formats that complete their last file.
    closing: Vec<std::thread::JoinHandle<(u64, Result<()>)>>,
    generation: u64,
}

impl EncoderThread {
    fn run(&mut self, queue: &Receiver<Item>) {
        let mut looked = Instant::now();
        let outcome = loop {
            let closed = self.ingest.is_closed();
            if let Err(e) = self.feed(queue) {
                break Err(e);
            }
            if closed {
                break Ok(());
            }
            if looked.elapsed() >= LOOK {
                looked = Instant::now();
                self.count();
                if let Err(e) = self.room().and_then(|()| self.in_place()) {
                    break Err(e);
                }
            }
            std::thread::sleep(POLL);
        };
        let outcome = outcome.and(self.finish());
        self.count();
        if let Err(e) = outcome {
            tracing::debug!("recording stopped: {e}");
            self.ingest.stopped(e.to_string());
        }
    }

    /// Passes on what waits, and looks whether the pipelines still run.
    fn feed(&mut self, queue: &Receiver<Item>) -> Result<()> {
        for item in queue.try_iter() {
            match item {
                Item::Format { track, info } => self.format(track, &info)?,
                Item::Frame { track, generation, buffer } => {
                    match self.tracks.get_mut(&(track as usize)).and_then(|t| t.writer.as_mut()) {
                        Some(writer) if writer.is(generation) => writer.push(buffer)?,
                        _ => self.ingest.lose(Loss::FormatChange, 1),
                    }
                }
            }
        }
        for state in self.tracks.values() {
            if let Some(why) = state.files.refused() {
                return Err(Error::output(why));
            }
            if let Some(e) = state.writer.as_ref().and_then(Writer::failure) {
                return Err(e);
            }
        }
        Ok(())
    }

    /// A track's pictures change: its last file is completed aside, a new one begins.
    fn format(&mut self, track: Track, info: &gst_video::VideoInfo) -> Result<()> {
        let state = self.tracks.entry(track as usize).or_default();
        if let Some(old) = state.writer.take() {
            let closing = std::thread::Builder::new()
                .name("recorder-end".into())
                .spawn(move || old.finish(PATIENCE))
                .map_err(|e| Error::machine("the recorder's thread cannot be started").because(e))?;
            self.closing.push(closing);
        }
        self.generation += 1;
        let (writer, ready) =
            Writer::start(&self.settings, &self.stem, track, info, &state.files, self.generation)?;
        state.writer = Some(writer);
        self.ingest.install(track, ready);
        Ok(())
    }

    fn count(&self) {
        let sum = |of: fn(&Files) -> u64| self.tracks.values().map(|t| of(&t.files)).sum::<u64>();
        self.ingest.bytes.store(sum(Files::bytes), Ordering::Relaxed);
        self.ingest.segments.store(sum(Files::count), Ordering::Relaxed);
    }

    /// Whether the disk has room to go on.
    fn room(&self) -> Result<()> {
        check_room(&self.settings)
    }

    /// Whether what is being written is still what its name leads to: a file that somebody removed or replaced, and a
    /// folder that was moved or unmounted, would take frames that nobody finds again.
    fn in_place(&self) -> Result<()> {
        self.tracks.values().try_for_each(|t| t.files.in_place())
    }

    /// A track that never had a frame leaves no file.
    fn remove_unused(&self) {
        for track in Track::ALL {
            let path = segment(&self.stem, track, 0);
            if self.settings.wants(track) && path.metadata().is_ok_and(|m| m.len() == 0) {
                let _ = std::fs::remove_file(path);
            }
        }
    }

    /// Completes every track at the same time.
    fn finish(&mut self) -> Result<()> {
        let mut outcome = Ok(());
        for (_, mut state) in std::mem::take(&mut self.tracks) {
            if let Some(writer) = state.writer.take() {
                let thread = std::thread::Builder::new().name("recorder-end".into());
                match thread.spawn(move || writer.finish(PATIENCE)) {
                    Ok(handle) => self.closing.push(handle),
                    Err(e) => {
                        outcome = Err(Error::machine("the recorder's thread cannot be started").because(e));
                    }
                }
            }
            // Kept for the last count.
            self.tracks.insert(self.tracks.len() + 2, TrackState { writer: None, files: state.files });
        }
        for closing in self.closing.drain(..) {
            if let Ok((unwritten, ended)) = closing.join() {
                self.ingest.lose(Loss::NotWritten, unwritten);
                outcome = outcome.and(ended);
            }
        }
        outcome
    }
}

/// Whether the disk that holds the folder, or will hold it, has the room that is kept free.
pub(super) fn check_room(settings: &RecorderSettings) -> Result<()> {
    let dir = settings.dir.ancestors().find(|d| d.exists()).unwrap_or(Path::new("."));
    match free_bytes(dir) {
        Some(free) if free < settings.reserve_bytes => Err(Error::output(format!(
            "{}: only {} MiB are free on its disk",
            settings.dir.display(),
            free >> 20
        ))
        .remedy("free some space or record into another folder")),
        _ => Ok(()),
    }
}

/// Free for this user on the disk that holds `dir`; `None` where the system does not say.
fn free_bytes(dir: &Path) -> Option<u64> {
    use std::os::unix::ffi::OsStrExt;
    let path = std::ffi::CString::new(dir.as_os_str().as_bytes()).ok()?;
    // SAFETY: `statvfs` is plain numbers, for which zeros are valid.
    let mut facts: libc::statvfs = unsafe { std::mem::zeroed() };
    // SAFETY: `path` ends in a zero byte, `facts` is ours to write.
    let answer = unsafe { libc::statvfs(path.as_ptr(), &mut facts) };
    #[allow(clippy::unnecessary_cast)]
    (answer == 0).then(|| (facts.f_bavail as u64).saturating_mul(facts.f_frsize as u64))
}
