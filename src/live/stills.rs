//! Single pictures for whoever asks for one.
//!
//! In: requests from the control's threads, and every frame as it goes to the sink, on the streaming thread. Out: one
//! PNG for all who were waiting when a frame came, with a text chunk that says which frame it is and which tracks are
//! followed on it. The streaming thread only looks at a flag, and copies the frame that is asked for.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};
use gstreamer as gst;
use gstreamer_video as gst_video;
use serde::Serialize;

use super::compositor::Shown;
use crate::capture::picture_of;
use crate::frame::resize::{Filter, Resampler};
use crate::frame::{Gate, Rect, TrackMark};
use crate::lock::lock;
use crate::{Error, Result};

/// Longest that a request of a session waits for a frame.
const PATIENCE: Duration = Duration::from_secs(1);

/// A picture as it went to the sink.
struct Still {
    buffer: gst::Buffer,
    info: gst_video::VideoInfo,
    view: Rect,
    facts: Facts,
    taken: Instant,
    /// Encoded by the first who needs it; the others wait for that.
    png: OnceLock<std::result::Result<Vec<u8>, String>>,
}

/// Keyword of the text chunk that holds [`Facts`] as JSON.
const KEYWORD: &str = "polypscope";

/// What is known of the picture.
#[derive(Default, Serialize)]
struct Facts {
    frame: u64,
    pts_ns: u64,
    /// The frame whose mask is drawn, and why that frame starts no track, if it does not.
    mask_frame: Option<u64>,
    gate: Option<Gate>,
    /// In pixels of the source, where they were on the mask's frame.
    tracks: Vec<TrackMark>,
}

/// See the module.
pub(super) struct Stills {
    wanted: AtomicBool,
    frames: (Sender<Still>, Receiver<Still>),
    /// The last one, as long as somebody works with it. Whoever holds the lock waits for the next frame.
    last: Mutex<Weak<Still>>,
    /// Longest that a request waits for a frame.
    patience: Duration,
}

impl Default for Stills {
    fn default() -> Self {
        Self {
            wanted: AtomicBool::new(false),
            frames: crossbeam_channel::bounded(1),
            last: Mutex::new(Weak::new()),
            patience: PATIENCE,
        }
    }
}

impl Stills {
    /// On the streaming thread.
    pub(super) fn offer(&self, buffer: &gst::BufferRef, info: &gst_video::VideoInfo, shown: &Shown) {
        if self.wanted.load(Ordering::Relaxed)
            && self.wanted.swap(false, Ordering::Relaxed)
            && let Ok(buffer) = buffer.copy_deep()
        {
            let (taken, png, view) = (Instant::now(), OnceLock::new(), shown.view);
            let facts = Facts {
                frame: shown.frame.0,
                pts_ns: shown.pts.0,
                mask_frame: shown.mask.map(|m| m.frame.0),
                gate: shown.mask.and_then(|m| m.gate),
                tracks: shown.mask.map(|m| m.tracks.clone()).unwrap_or_default(),
            };
            let _ = self.frames.0.try_send(Still { buffer, info: info.clone(), view, facts, taken, png });
        }
    }

    /// The field of view of a frame that came after the call, as PNG.
    ///
    /// # Errors
    /// No frame within a second.
    pub(super) fn png(&self) -> Result<Vec<u8>> {
        let still = self.fetch()?;
        let encoded = still.png.get_or_init(|| still.encode().map_err(|e| e.to_string()));
        encoded.clone().map_err(Error::internal)
    }

    fn fetch(&self) -> Result<Arc<Still>> {
        let asked = Instant::now();
        let mut last = lock(&self.last);
        // It came while this request waited for another one.
        if let Some(still) = last.upgrade().filter(|s| s.taken >= asked) {
            return Ok(still);
        }
        loop {
            self.wanted.store(true, Ordering::Relaxed);
            let still = self.frames.1.recv_timeout(self.left(asked, Instant::now())).map_err(|_| {
                self.wanted.store(false, Ordering::Relaxed);
                Error::input("snapshot: no frame came within a second").remedy("check the source")
            })?;
            // A frame that came too late for an earlier request is not what is on screen now.
            if still.taken >= asked {
                let still = Arc::new(still);
                *last = Arc::downgrade(&still);
                return Ok(still);
            }
        }
    }

    /// How long a request waits on: its patience runs while it waits for another one, so that those who ask at the same
    /// time are told at the same time.
    fn left(&self, asked: Instant, now: Instant) -> Duration {
        (asked + self.patience).saturating_duration_since(now)
    }
}

impl Still {
    fn encode(&self) -> Result<Vec<u8>> {
        let view = self.view;
        let (width, height) = (view.w as usize, view.h as usize);
        let mut rgb = vec![0; width * height * 3];
        picture_of(&self.buffer, &self.info, |picture| {
            Resampler::new(Filter::Antialiased).run(picture, view, width, height, &mut rgb);
            Ok(())
        })?;
        let facts = serde_json::to_string(&self.facts)
            .map_err(|e| Error::internal("snapshot: its tracks cannot be put into JSON").because(e))?;
        let mut out = Vec::new();
        write(&mut out, (view.w, view.h), &rgb, facts)
            .map_err(|e| Error::internal("snapshot: cannot be encoded").because(e))?;
        Ok(out)
    }
}

fn write(
    out: &mut Vec<u8>,
    (width, height): (u32, u32),
    rgb: &[u8],
    facts: String,
) -> std::result::Result<(), png::EncodingError> {
    let mut encoder = png::Encoder::new(out, width, height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.add_text_chunk(KEYWORD.to_owned(), facts)?;
    let mut writer = encoder.write_header()?;
    writer.write_image_data(rgb)?;
    writer.finish()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;
    use crate::frame::{FrameId, Mask, Pts, TrackState};

    fn frame(shade: u8) -> (gst::Buffer, gst_video::VideoInfo) {
        crate::capture::init().expect("GStreamer");
        let info =
            gst_video::VideoInfo::builder(gst_video::VideoFormat::Rgb, 32, 16).build().expect("a format");
        (gst::Buffer::from_slice(vec![shade; info.size()]), info)
    }

    const VIEW: Rect = Rect { x: 0, y: 0, w: 32, h: 16 };
    const SHOWN: Shown = Shown { frame: FrameId(0), pts: Pts(0), view: VIEW, mask: None };

    /// Requests wait as long as only a hang takes.
    fn patient() -> Stills {
        Stills { patience: Duration::from_secs(60), ..Stills::default() }
    }

    #[test]
    fn the_picture_says_which_tracks_it_shows() {
        let stills = patient();
        let (buffer, info) = frame(90);
        let track = TrackMark {
            track_id: 7,
            polyp_id: Some(2),
            state: TrackState::Coasting,
            age_ms: 480.0,
            first_frame: 31,
            best_frame: 40,
            ..TrackMark::default()
        };
        let mask =
            Mask { frame: FrameId(43), tracks: vec![track], gate: Some(Gate::Blurred), ..Mask::default() };
        let shown = Shown { frame: FrameId(45), pts: Pts(1_800_000_000), mask: Some(&mask), ..SHOWN };
        let png = std::thread::scope(|s| {
            let request = s.spawn(|| stills.png());
            while !request.is_finished() {
                stills.offer(&buffer, &info, &shown);
                std::thread::yield_now();
            }
            request.join().expect("no panic").expect("a frame")
        });
        let read = png::Decoder::new(std::io::Cursor::new(&png)).read_info().expect("a PNG");
        let text = &read.info().uncompressed_latin1_text;
        assert_eq!(text.iter().map(|t| t.keyword.as_str()).collect::<Vec<_>>(), [KEYWORD]);
        let facts: serde_json::Value = serde_json::from_str(&text[0].text).expect("JSON");
        assert_eq!((facts["frame"].as_u64(), facts["mask_frame"].as_u64()), (Some(45), Some(43)));
        assert_eq!(facts["gate"], "blurred");
        let said = &facts["tracks"][0];
        assert_eq!((said["track_id"].as_u64(), said["best_frame"].as_u64()), (Some(7), Some(40)));
        assert_eq!((said["state"].as_str(), said["age_ms"].as_f64()), (Some("coasting"), Some(480.0)));
    }

    #[test]
    fn one_frame_is_for_all_who_wait() {
        let stills = patient();
        let (buffer, info) = frame(90);
        let (asking, answered) = (AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|s| {
            let requests: Vec<_> = (0..8)
                .map(|_| {
                    s.spawn(|| {
                        asking.fetch_add(1, Ordering::SeqCst);
                        let png = stills.png();
                        answered.fetch_add(1, Ordering::SeqCst);
                        png.map(|p| image::load_from_memory(&p).expect("a PNG").to_rgb8().get_pixel(3, 3).0)
                    })
                })
                .collect();
            while asking.load(Ordering::SeqCst) < 8 {
                std::thread::yield_now();
            }
            // Frames keep coming, as live: whoever was late to wait has the next one.
            while answered.load(Ordering::SeqCst) < 8 {
                stills.offer(&buffer, &info, &SHOWN);
                std::thread::sleep(Duration::from_millis(5));
            }
            for request in requests {
                assert_eq!(request.join().expect("no panic").map_err(|e| e.to_string()), Ok([90; 3]));
            }
        });
        assert!(stills.last.lock().expect("not held").upgrade().is_none(), "the picture is kept");
    }

    #[test]
    fn patience_counts_from_the_request() {
        let asked = Instant::now();
        let after = |ms: u64| Stills::default().left(asked, asked + Duration::from_millis(ms));
        assert_eq!([after(0), after(300)], [PATIENCE, Duration::from_millis(700)]);
        assert_eq!([after(1000), after(3000)], [Duration::ZERO; 2], "it waited for others");
    }

    #[test]
    fn without_frames_all_are_told_and_the_next_sees_no_old_frame() {
        let mut stills = Stills { patience: Duration::ZERO, ..Stills::default() };
        std::thread::scope(|s| {
            let requests: Vec<_> = (0..4).map(|_| s.spawn(|| stills.png())).collect();
            for request in requests {
                let e = request.join().expect("no panic").expect_err("no frame").to_string();
                assert!(e.contains("no frame came within a second"), "{e}");
            }
        });
        stills.patience = patient().patience;
        // Nobody wants it any more.
        let (old, info) = frame(10);
        stills.offer(&old, &info, &SHOWN);
        assert!(stills.frames.1.is_empty());
        // One that slipped in nevertheless.
        let taken = Instant::now();
        let late = Still {
            buffer: old,
            info: info.clone(),
            view: VIEW,
            facts: Facts::default(),
            taken,
            png: OnceLock::new(),
        };
        assert!(stills.frames.0.try_send(late).is_ok());
        let (new, _) = frame(200);
        std::thread::scope(|s| {
            let request = s.spawn(|| stills.png());
            while !request.is_finished() {
                stills.offer(&new, &info, &SHOWN);
                std::thread::sleep(Duration::from_millis(5));
            }
            let png = request.join().expect("no panic").expect("a frame");
            assert_eq!(image::load_from_memory(&png).expect("a PNG").to_rgb8().get_pixel(0, 0).0, [200; 3]);
        });
    }
}
