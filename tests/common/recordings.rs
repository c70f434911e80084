//! Small recordings made on the spot, and what a file holds according to GStreamer alone.
//!
//! Every frame of a clip has its own grey, so that order and identity can be told from the decoded picture, and a red
//! block that walks, so that the stand-in network has something to find.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app as gst_app;
use gstreamer_video as gst_video;
use gstreamer_video::prelude::*;

pub const MS: u64 = 1_000_000;

/// The moving picture of a clip.
#[derive(Clone, Debug)]
pub struct Moving {
    /// `gst-launch` words from the raw frames to the muxer.
    pub encoder: String,
    pub format: gst_video::VideoFormat,
    pub width: u32,
    pub height: u32,
    /// Nominal frame rate.
    pub fps: (i32, i32),
    pub par: (i32, i32),
    pub colorimetry: Option<&'static str>,
    /// Top field first or not; `None` is progressive.
    pub top_first: Option<bool>,
    /// When each frame is shown, in nanoseconds.
    pub times: Vec<u64>,
}

impl Moving {
    pub fn new(encoder: &str, format: &str, frames: usize) -> Self {
        polypscope::capture::init().expect("GStreamer starts");
        Self {
            encoder: encoder.to_owned(),
            format: gst_video::VideoFormat::from_string(format),
            width: 96,
            height: 64,
            fps: (25, 1),
            par: (1, 1),
            colorimetry: None,
            top_first: None,
            times: (0..frames as u64).map(|n| n * 40 * MS).collect(),
        }
    }

    pub fn h264(frames: usize) -> Self {
        Self::new("x264enc speed-preset=ultrafast key-int-max=5 ! h264parse", "I420", frames)
    }

    pub fn sized(mut self, width: u32, height: u32) -> Self {
        (self.width, self.height) = (width, height);
        self
    }

    /// Bits a sample.
    pub fn format_depth(&self) -> u32 {
        self.info().comp_depth(0)
    }

    fn info(&self) -> gst_video::VideoInfo {
        let mut b = gst_video::VideoInfo::builder(self.format, self.width, self.height)
            .fps(gst::Fraction::new(self.fps.0, self.fps.1))
            .par(gst::Fraction::new(self.par.0, self.par.1));
        let colorimetry: Option<gst_video::VideoColorimetry> =
            self.colorimetry.map(|c| c.parse().expect("a colorimetry"));
        if let Some(c) = &colorimetry {
            b = b.colorimetry(c);
        }
        if let Some(top) = self.top_first {
            b = b.interlace_mode(gst_video::VideoInterlaceMode::Interleaved).field_order(if top {
                gst_video::VideoFieldOrder::TopFieldFirst
            } else {
                gst_video::VideoFieldOrder::BottomFieldFirst
            });
        }
        b.build().expect("a picture GStreamer can describe")
    }

    fn shown_for(&self, n: usize) -> u64 {
        match self.times.get(n + 1) {
            Some(next) => next - self.times[n],
            None if self.fps.0 == 0 => 40 * MS,
            None => 1_000_000_000 * self.fps.1 as u64 / self.fps.0 as u64,
        }
    }

    fn buffer(&self, n: usize) -> gst::Buffer {
        let info = self.info();
        let buffer = gst::Buffer::with_size(info.size()).expect("memory");
        let mut frame = gst_video::VideoFrame::from_buffer_writable(buffer, &info).expect("a writable frame");
        paint(&mut frame, n);
        let mut buffer = frame.into_buffer();
        let b = buffer.get_mut().expect("ours alone");
        b.set_pts(gst::ClockTime::from_nseconds(self.times[n]));
        b.set_duration(gst::ClockTime::from_nseconds(self.shown_for(n)));
        if let Some(top) = self.top_first {
            let mut flags = gst_video::VideoBufferFlags::INTERLACED;
            if top {
                flags |= gst_video::VideoBufferFlags::TFF;
            }
            b.set_video_flags(flags);
        }
        buffer
    }
}

/// The grey of frame `n`, 8 bit.
pub fn grey(n: usize) -> u8 {
    40 + (n * 9 % 170) as u8
}

/// A grey frame with a red block that walks, in planar YUV of any depth and subsampling.
fn paint(frame: &mut gst_video::VideoFrame<gst_video::video_frame::Writable>, n: usize) {
    let info = frame.info().clone();
    let (w, h) = (info.width() as usize, info.height() as usize);
    let depth = info.comp_depth(0);
    let (bx, by, side) = ((8 + 2 * n) % (w - w / 3), h / 4, w.min(h) / 3);
    for plane in 0..info.n_planes() as usize {
        let stride = info.stride()[plane] as usize;
        let (sx, sy) =
            if plane == 0 { (0, 0) } else { (info.format_info().w_sub()[1], info.format_info().h_sub()[1]) };
        let (pw, ph) = ((w + (1 << sx) - 1) >> sx, (h + (1 << sy) - 1) >> sy);
        let data = frame.plane_data_mut(plane as u32).expect("a plane");
        for y in 0..ph {
            for x in 0..pw {
                let (fx, fy) = (x << sx, y << sy);
                let red = (bx..bx + side).contains(&fx) && (by..by + side).contains(&fy);
                let value = match (plane, red) {
                    (0, true) => 82,
                    (0, false) => grey(n),
                    (1, true) => 90,
                    (2, true) => 240,
                    _ => 128,
                };
                if depth == 8 {
                    data[y * stride + x] = value;
                } else {
                    let word = (u16::from(value) << (depth - 8)).to_le_bytes();
                    data[y * stride + 2 * x..y * stride + 2 * x + 2].copy_from_slice(&word);
                }
            }
        }
    }
}

/// Sound beside the picture.
#[derive(Clone, Debug)]
pub struct Sound {
    /// `gst-launch` words from raw samples to the muxer.
    pub encoder: String,
    pub start: u64,
    pub milliseconds: u64,
}

impl Sound {
    pub fn new(encoder: &str, milliseconds: u64) -> Self {
        Self { encoder: encoder.to_owned(), start: 0, milliseconds }
    }
}

/// Writes a clip; `muxer` may carry properties.
pub fn write(path: &Path, muxer: &str, moving: Option<&Moving>, sound: Option<&Sound>) -> PathBuf {
    polypscope::capture::init().expect("GStreamer starts");
    let mut words = format!("{muxer} name=mux ! filesink location=\"{}\" ", path.display());
    if let Some(m) = moving {
        words += &format!("appsrc name=moving format=time ! queue max-size-time=0 ! {} ! mux. ", m.encoder);
    }
    if let Some(s) = sound {
        words += &format!(
            "appsrc name=sound format=time ! queue max-size-time=0 ! audioconvert ! {} ! mux. ",
            s.encoder
        );
    }
    let pipeline = gst::parse::launch(&words)
        .unwrap_or_else(|e| panic!("{words}: {e}"))
        .downcast::<gst::Pipeline>()
        .expect("a pipeline");
    let entry = |name: &str| {
        pipeline.by_name(name).expect("named above").downcast::<gst_app::AppSrc>().expect("an appsrc")
    };
    if let Some(m) = moving {
        entry("moving").set_caps(Some(&m.info().to_caps().expect("caps")));
    }
    if sound.is_some() {
        entry("sound").set_caps(Some(
            &gst::Caps::builder("audio/x-raw")
                .field("format", "S16LE")
                .field("layout", "interleaved")
                .field("rate", 48_000i32)
                .field("channels", 2i32)
                .build(),
        ));
    }
    pipeline.set_state(gst::State::Playing).expect("the fixture's pipeline starts");
    if let Some(s) = sound {
        let source = entry("sound");
        source.set_max_bytes(0);
        for ms in (0..s.milliseconds).step_by(20) {
            let samples: Vec<u8> = (0..960u64)
                .flat_map(|i| {
                    let t = (ms * 48 + i) as f64 / 48_000.0;
                    let v = ((t * 440.0 * std::f64::consts::TAU).sin() * 9000.0) as i16;
                    [v, v / 2].map(i16::to_le_bytes).concat()
                })
                .collect();
            let mut buffer = gst::Buffer::from_slice(samples);
            let b = buffer.get_mut().expect("ours alone");
            b.set_pts(gst::ClockTime::from_nseconds(s.start + ms * MS));
            b.set_duration(gst::ClockTime::from_mseconds(20));
            source.push_buffer(buffer).expect("the fixture takes sound");
        }
        source.end_of_stream().expect("the sound ends");
    }
    if let Some(m) = moving {
        let source = entry("moving");
        source.set_max_bytes(0);
        for n in 0..m.times.len() {
            source.push_buffer(m.buffer(n)).expect("the fixture takes frames");
        }
        source.end_of_stream().expect("the picture ends");
    }
    wait(&pipeline, &words);
    path.to_owned()
}

/// Runs a pipeline of `gst-launch` words to its end.
pub fn play(words: &str) {
    polypscope::capture::init().expect("GStreamer starts");
    let pipeline =
        gst::parse::launch(words).expect("parses").downcast::<gst::Pipeline>().expect("a pipeline");
    pipeline.set_state(gst::State::Playing).expect("plays");
    wait(&pipeline, words);
}

fn wait(pipeline: &gst::Pipeline, what: &str) {
    let bus = pipeline.bus().expect("a bus");
    let message = bus
        .timed_pop_filtered(
            gst::ClockTime::from_seconds(30),
            &[gst::MessageType::Eos, gst::MessageType::Error],
        )
        .unwrap_or_else(|| panic!("{what}: hangs"));
    if let gst::MessageView::Error(e) = message.view() {
        panic!("{what}: {} ({:?})", e.error(), e.debug());
    }
    pipeline.set_state(gst::State::Null).expect("stops");
}

/// A decoded frame as a stranger sees it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Seen {
    /// Position in the file, nanoseconds.
    pub pts: u64,
    /// Mean luma of the last quarter of the lines (no block there), 8 bit.
    pub grey: f64,
    pub interlaced: bool,
    pub top_first: bool,
}

/// A file decoded by GStreamer without our code.
pub struct Decoded {
    pub info: gst_video::VideoInfo,
    pub frames: Vec<Seen>,
}

pub fn decode(path: &Path) -> Decoded {
    polypscope::capture::init().expect("GStreamer starts");
    let words = format!(
        "filesrc location={} ! decodebin ! video/x-raw ! queue ! appsink name=out sync=false",
        path.display()
    );
    let pipeline =
        gst::parse::launch(&words).expect("parses").downcast::<gst::Pipeline>().expect("a pipeline");
    let out = pipeline.by_name("out").expect("named").downcast::<gst_app::AppSink>().expect("an appsink");
    pipeline.set_state(gst::State::Playing).expect("plays");
    let mut info = None;
    let mut frames = Vec::new();
    let bus = pipeline.bus().expect("a bus");
    loop {
        let Some(sample) = out.try_pull_sample(gst::ClockTime::from_mseconds(100)) else {
            if let Some(m) = bus.pop_filtered(&[gst::MessageType::Error]) {
                panic!("{}: {:?}", path.display(), m.view());
            }
            if out.is_eos() {
                break;
            }
            continue;
        };
        let i = gst_video::VideoInfo::from_caps(sample.caps().expect("caps")).expect("raw video");
        let buffer = sample.buffer_owned().expect("a buffer");
        let flags = buffer.video_flags();
        let segment = sample.segment().expect("a segment").downcast_ref::<gst::ClockTime>().expect("time");
        let pts = segment.to_stream_time(buffer.pts().expect("a timestamp")).expect("inside").nseconds();
        let frame = gst_video::VideoFrameRef::from_buffer_ref_readable(&buffer, &i).expect("readable");
        frames.push(Seen {
            pts,
            grey: mean_luma(&frame, i.height() as usize * 3 / 4),
            interlaced: flags.contains(gst_video::VideoBufferFlags::INTERLACED),
            top_first: flags.contains(gst_video::VideoBufferFlags::TFF),
        });
        info.get_or_insert(i);
    }
    pipeline.set_state(gst::State::Null).expect("stops");
    let info = info.unwrap_or_else(|| panic!("{}: no frame", path.display()));
    Decoded { info, frames }
}

fn mean_luma(frame: &gst_video::VideoFrameRef<&gst::BufferRef>, from: usize) -> f64 {
    let (w, h) = (frame.width() as usize, frame.height() as usize);
    let depth = frame.info().comp_depth(0);
    let stride = frame.comp_stride(0) as usize;
    let pixel = frame.comp_pstride(0) as usize;
    let data = frame.comp_data(0).expect("a plane");
    let mut sum = 0.0;
    for y in from..h {
        for x in w / 2..w {
            let at = y * stride + x * pixel;
            sum += if depth == 8 {
                f64::from(data[at])
            } else {
                f64::from(u16::from_le_bytes([data[at], data[at + 1]])) / f64::from(1 << (depth - 8))
            };
        }
    }
    sum / ((h - from) * (w - w / 2)) as f64
}

/// An encoded piece of sound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    pub pts: u64,
    pub bytes: Vec<u8>,
}

/// The encoded sound of a file, AAC without its transport headers.
pub fn sound(path: &Path) -> (Option<String>, Vec<Piece>) {
    polypscope::capture::init().expect("GStreamer starts");
    let words = format!("filesrc location={} ! parsebin name=p", path.display());
    let pipeline =
        gst::parse::launch(&words).expect("parses").downcast::<gst::Pipeline>().expect("a pipeline");
    let out = gst_app::AppSink::builder().sync(false).build();
    out.set_property("async", false);
    pipeline.add(&out).expect("added");
    let (weak, sink) = (pipeline.downgrade(), out.clone());
    let linked = Arc::new(AtomicBool::new(false));
    let has_sound = linked.clone();
    // The picture has come to its end: a file whose sound is not known by then has none.
    let known = Arc::new(AtomicBool::new(false));
    let all_known = known.clone();
    let start = std::time::Instant::now();
    pipeline.by_name("p").expect("named").connect_pad_added(move |_, pad| {
        let pipeline = weak.upgrade().expect("alive");
        let caps = pad.current_caps().unwrap_or_else(|| pad.query_caps(None));
        let s = caps.structure(0).expect("caps");
        has_sound.fetch_or(s.name().starts_with("audio/"), Ordering::SeqCst);
        let make = |n: &str| gst::ElementFactory::make(n).build().expect("an element");
        let chain = if !s.name().starts_with("audio/") {
            let ended = all_known.clone();
            pad.add_probe(gst::PadProbeType::EVENT_DOWNSTREAM, move |_, info| {
                if info.event().is_some_and(|e| e.type_() == gst::EventType::Eos) {
                    ended.store(true, Ordering::SeqCst);
                }
                gst::PadProbeReturn::Ok
            });
            let fake = make("fakesink");
            fake.set_property("sync", false);
            fake.set_property("async", false);
            vec![fake]
        } else if s.name() == "audio/mpeg" && s.get::<i32>("mpegversion") != Ok(1) {
            let filter = make("capsfilter");
            filter
                .set_property("caps", gst::Caps::builder("audio/mpeg").field("stream-format", "raw").build());
            vec![make("aacparse"), filter, sink.clone().upcast()]
        } else {
            vec![sink.clone().upcast()]
        };
        for e in &chain {
            if e.parent().is_none() {
                pipeline.add(e).expect("added");
            }
        }
        gst::Element::link_many(&chain).expect("links");
        for e in &chain {
            e.sync_state_with_parent().expect("starts");
        }
        pad.link(&chain[0].static_pad("sink").expect("a sink")).expect("links");
    });
    pipeline.set_state(gst::State::Playing).expect("plays");
    let bus = pipeline.bus().expect("a bus");
    let (mut codec, mut pieces) = (None, Vec::new());
    loop {
        if let Some(sample) = out.try_pull_sample(gst::ClockTime::from_mseconds(20)) {
            let buffer = sample.buffer().expect("a buffer");
            let segment =
                sample.segment().expect("a segment").downcast_ref::<gst::ClockTime>().expect("time");
            let pts = buffer.pts().and_then(|t| segment.to_stream_time(t)).map_or(u64::MAX, |t| t.nseconds());
            let caps = sample.caps().expect("caps");
            codec = caps.structure(0).map(|s| s.name().to_string());
            pieces.push(Piece { pts, bytes: buffer.map_readable().expect("readable").to_vec() });
        } else if out.is_eos() || (known.load(Ordering::SeqCst) && !linked.load(Ordering::SeqCst)) {
            break;
        } else if let Some(m) = bus.pop_filtered(&[gst::MessageType::Error]) {
            panic!("{}: {:?}", path.display(), m.view());
        }
        assert!(start.elapsed().as_secs() < 120, "{}: its sound does not end", path.display());
    }
    pipeline.set_state(gst::State::Null).expect("stops");
    (codec, pieces)
}
