//! The streaming thread's side of the recorder.
//!
//! In: frames of the live picture. Out: copies of them in the encoder thread's queue. Nothing here waits: locks are
//! only tried, the pool is only asked for what is free, the queue only for room it has.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, TryLockError};

use crossbeam_channel::{Receiver, Sender};
use gstreamer as gst;
use gstreamer_video as gst_video;
use gstreamer_video::prelude::*;

use super::{Losses, RecorderSettings, RecorderStatus, Track};
use crate::frame::Nanos;
use crate::lock::lock;

/// Why a frame is not in the recording.
#[derive(Clone, Copy, Debug)]
pub(super) enum Loss {
    /// The encoder had not given back a buffer.
    EncoderBusy,
    /// The track was being made ready for pictures of another format.
    FormatChange,
    /// Taken, but its file was never written so far.
    NotWritten,
    /// It came after the recording had ended by itself.
    AfterEnd,
}

/// What the encoder thread is given.
pub(super) enum Item {
    /// A copy of a frame, its running time in it.
    Frame { track: Track, generation: u64, buffer: gst::Buffer },
    /// Frames like this are about to come: make ready.
    Format { track: Track, info: gst_video::VideoInfo },
}

/// A track that is ready for frames.
pub(super) struct Ready {
    pub info: gst_video::VideoInfo,
    pub pool: gst::BufferPool,
    pub generation: u64,
}

#[derive(Default)]
struct Entry {
    ready: Option<Ready>,
    /// The format asked for and not yet ready.
    asked: Option<gst_video::VideoInfo>,
    /// Whether a frame of this track has been taken yet: what is missed before is not lost.
    begun: bool,
}

pub(super) struct Ingest {
    wanted: [bool; 2],
    entries: [Mutex<Entry>; 2],
    queue: Sender<Item>,
    frames: AtomicU64,
    /// By [`Loss`].
    lost: [AtomicU64; 4],
    pub(super) bytes: AtomicU64,
    pub(super) segments: AtomicU64,
    /// No more frames are taken.
    closed: AtomicBool,
    /// The files are complete.
    pub(super) ended: AtomicBool,
    /// It ended by itself: set after `closed`, and `reason` after it.
    failed: AtomicBool,
    reason: Mutex<Option<String>>,
}

impl Ingest {
    pub(super) fn new(settings: &RecorderSettings) -> (Self, Receiver<Item>) {
        // Room for every frame of both pools, and for words about formats.
        let (queue, receiver) = crossbeam_channel::bounded(2 * settings.waiting as usize + 8);
        let ingest = Self {
            wanted: Track::ALL.map(|t| settings.wants(t)),
            entries: Default::default(),
            queue,
            frames: AtomicU64::new(0),
            lost: Default::default(),
            bytes: AtomicU64::new(0),
            segments: AtomicU64::new(0),
            closed: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            failed: AtomicBool::new(false),
            reason: Mutex::new(None),
        };
        (ingest, receiver)
    }

    pub(super) fn wants(&self, track: Track) -> bool {
        self.wanted[track as usize] && !self.is_closed()
    }

    /// Whether this track is recorded at all.
    pub(super) fn records(&self, track: Track) -> bool {
        self.wanted[track as usize]
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }

    /// Recording ends by itself; the first reason is the one that is told.
    pub(super) fn stopped(&self, why: String) {
        // What is pushed after its owner has closed it is not meant for it.
        if !self.closed.swap(true, Ordering::AcqRel) {
            self.failed.store(true, Ordering::Release);
        }
        lock(&self.reason).get_or_insert(why);
    }

    pub(super) fn prepare(&self, track: Track, info: &gst_video::VideoInfo) {
        if self.wants(track) {
            let mut entry = lock(&self.entries[track as usize]);
            self.ask(&mut entry, track, info);
        }
    }

    pub(super) fn is_ready(&self, track: Track, info: &gst_video::VideoInfo) -> bool {
        let entry = lock(&self.entries[track as usize]);
        self.wants(track) && entry.ready.as_ref().is_some_and(|ready| ready.info == *info)
    }

    fn ask(&self, entry: &mut Entry, track: Track, info: &gst_video::VideoInfo) {
        if entry.asked.as_ref() != Some(info)
            && self.queue.try_send(Item::Format { track, info: info.clone() }).is_ok()
        {
            entry.asked = Some(info.clone());
        }
    }

    /// The encoder thread has made the track ready.
    pub(super) fn install(&self, track: Track, ready: Ready) {
        let mut entry = lock(&self.entries[track as usize]);
        if entry.asked.as_ref() == Some(&ready.info) {
            entry.asked = None;
        }
        // The old pool is freed when its last frame is.
        let old = entry.ready.replace(ready);
        drop(entry);
        if let Some(old) = old {
            let _ = old.pool.set_active(false);
        }
    }

    /// Gives the pools back.
    fn clear(&self) {
        for entry in &self.entries {
            let ready = lock(entry).ready.take();
            if let Some(old) = ready {
                let _ = old.pool.set_active(false);
            }
        }
    }

    pub(super) fn push(&self, track: Track, from: &gst::BufferRef, info: &gst_video::VideoInfo, at: Nanos) {
        if !self.wants(track) {
            if self.wanted[track as usize] && self.failed.load(Ordering::Acquire) {
                self.count_lost(Loss::AfterEnd, 1);
            }
            return;
        }
        let mut entry = match self.entries[track as usize].try_lock() {
            Ok(entry) => entry,
            Err(TryLockError::Poisoned(e)) => e.into_inner(),
            // The encoder thread is exchanging the pool.
            Err(TryLockError::WouldBlock) => {
                self.count_lost(Loss::FormatChange, 1);
                return;
            }
        };
        // Counted while the entry is locked: see `drain`.
        match &entry.ready {
            Some(ready) if ready.info == *info => {
                if self.copy(track, ready, from, at) {
                    entry.begun = true;
                    self.frames.fetch_add(1, Ordering::Relaxed);
                } else {
                    self.count_lost(Loss::EncoderBusy, 1);
                }
            }
            _ => {
                self.ask(&mut entry, track, info);
                // What comes before a track's first frame is before the recording.
                if entry.begun {
                    self.count_lost(Loss::FormatChange, 1);
                }
            }
        }
    }

    fn copy(&self, track: Track, ready: &Ready, from: &gst::BufferRef, at: Nanos) -> bool {
        let params = gst::BufferPoolAcquireParams::with_flags(gst::BufferPoolAcquireFlags::DONTWAIT);
        let Ok(mut buffer) = ready.pool.acquire_buffer(Some(&params)) else { return false };
        {
            let Some(to) = buffer.get_mut() else { return false };
            to.set_pts(gst::ClockTime::from_nseconds(at.0));
            to.set_duration(from.duration());
            to.set_flags(from.flags() & gst::BufferFlags::from_bits_retain(FIELD_FLAGS));
            let Ok(source) = gst_video::VideoFrameRef::from_buffer_ref_readable(from, info_of(ready)) else {
                return false;
            };
            let Ok(mut copy) = gst_video::VideoFrameRef::from_buffer_ref_writable(to, info_of(ready)) else {
                return false;
            };
            if source.copy(&mut copy).is_err() {
                return false;
            }
        }
        self.queue.try_send(Item::Frame { track, generation: ready.generation, buffer }).is_ok()
    }

    pub(super) fn status(&self, stem: &Path) -> RecorderStatus {
        let reason = lock(&self.reason).clone();
        RecorderStatus {
            recording: !self.is_closed(),
            path: stem.to_owned(),
            frames: self.frames.load(Ordering::Relaxed),
            lost: self.lost.iter().map(|n| n.load(Ordering::Relaxed)).sum(),
            lost_because: self.losses(),
            bytes: self.bytes.load(Ordering::Relaxed),
            segments: self.segments.load(Ordering::Relaxed),
            stopped_because: reason,
        }
    }

    fn losses(&self) -> Losses {
        let of = |why: Loss| self.lost[why as usize].load(Ordering::Relaxed);
        Losses {
            encoder_busy: of(Loss::EncoderBusy),
            format_change: of(Loss::FormatChange),
            not_written: of(Loss::NotWritten),
            after_end: of(Loss::AfterEnd),
        }
    }

    fn count_lost(&self, why: Loss, frames: u64) {
        self.lost[why as usize].fetch_add(frames, Ordering::Relaxed);
    }

    /// Frames that were taken and never written after all.
    pub(super) fn lose(&self, why: Loss, frames: u64) {
        let had = self.frames.load(Ordering::Relaxed);
        let frames = frames.min(had);
        self.frames.fetch_sub(frames, Ordering::Relaxed);
        self.count_lost(why, frames);
    }

    /// The end of the encoder thread: gives the pools back and counts what still waits as lost. A push holds its
    /// track's lock until its frame is in the queue and counted, and finds nothing ready once the pools are gone, so
    /// that no frame comes after this.
    pub(super) fn drain(&self, queue: &Receiver<Item>) {
        self.clear();
        let waiting = queue.try_iter().filter(|i| matches!(i, Item::Frame { .. })).count();
        self.lose(Loss::NotWritten, waiting as u64);
    }
}

fn info_of(ready: &Ready) -> &gst_video::VideoInfo {
    &ready.info
}

/// Which field comes first, and what else a buffer says about its picture.
const FIELD_FLAGS: u32 = gst_video::VideoBufferFlags::INTERLACED.bits()
    | gst_video::VideoBufferFlags::TFF.bits()
    | gst_video::VideoBufferFlags::RFF.bits()
    | gst_video::VideoBufferFlags::ONEFIELD.bits();
