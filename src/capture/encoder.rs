//! Frames into a file.
//!
//! In: drawn frames and the recording's own encoded sound. Out: an H.264 file with the source's timestamps,
//! colorimetry, pixel shape, interlacing and bit depth. It is written aside and takes its name only when it is
//! complete.
//!
//! ```text
//! appsrc ─▶ videoconvert ─▶ capsfilter ─▶ x264enc ─▶ queue ─▶ mp4mux | qtmux | matroskamux ─▶ filesink
//! appsrc (sound) ──────────────────────────────▶ queue ─┘
//! ```

use std::path::PathBuf;
use std::time::{Duration, Instant};

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app as gst_app;
use gstreamer_video as gst_video;

use super::{AudioFacts, Frame, SoundPacket, colour_description, element, messages};
use crate::frame::{FieldOrder, Layout, Pts};
use crate::result_file::{Aside, check_writable, not_named};
use crate::{Error, Result};

/// Ticks a second of an MP4 track: every usual frame rate is a whole number of them.
const TICKS: u32 = 90_000;
/// How long the first frame is taken to be shown where nobody says, in nanoseconds.
const USUAL: u64 = 40_000_000;
/// Frames that may wait for the encoder.
const WAITING: u64 = 4;
/// Longest the muxer may take to write its index.
const PATIENCE: Duration = Duration::from_secs(300);

/// How and where to write.
#[derive(Clone, Debug)]
pub struct EncoderSettings {
    /// `.mp4`, `.m4v`, `.mov` or `.mkv`.
    pub output: PathBuf,
    /// Replace a file that is there.
    pub force: bool,
    /// x264's `speed-preset`.
    pub speed: String,
    /// x264's constant rate factor: smaller is better and larger; 18 is hard to tell from the source.
    pub quality: u32,
}

impl EncoderSettings {
    /// Replaces no file; x264's preset is `superfast`, its quality 20.
    pub fn new(output: impl Into<PathBuf>) -> Self {
        Self { output: output.into(), force: false, speed: "superfast".into(), quality: 20 }
    }

    fn muxer(&self) -> Result<&'static str> {
        let extension =
            self.output.extension().and_then(|e| e.to_str()).unwrap_or_default().to_ascii_lowercase();
        match extension.as_str() {
            "mp4" | "m4v" => Ok("mp4mux"),
            "mov" => Ok("qtmux"),
            "mkv" => Ok("matroskamux"),
            _ => Err(Error::usage(format!(
                "{}: cannot tell the container from the name",
                self.output.display()
            ))
            .remedy("end the name in .mp4, .mov or .mkv")),
        }
    }

    /// Checks everything that can be checked before work begins.
    ///
    /// # Errors
    /// A container we do not write, a file that is there already, a folder that is missing or may not be written.
    pub fn validate(&self) -> Result<()> {
        if self.output.is_dir() {
            return Err(Error::usage(format!("{}: is a folder", self.output.display()))
                .remedy("name a file such as annotated.mp4 in it"));
        }
        self.muxer()?;
        if !self.force && self.output.symlink_metadata().is_ok() {
            return Err(Error::output(format!("{}: exists already", self.output.display()))
                .remedy("choose another name, or add --force to replace it"));
        }
        check_writable(&self.output, &self.folder())
    }

    fn folder(&self) -> PathBuf {
        match self.output.parent() {
            Some(p) if !p.as_os_str().is_empty() => p.to_owned(),
            _ => PathBuf::from("."),
        }
    }

    /// Caps of the sound the container takes as it is, or the sentence that says why it does not.
    ///
    /// # Errors
    /// A missing GStreamer element.
    pub fn sound_caps(&self, sound: &AudioFacts) -> Result<std::result::Result<gst::Caps, String>> {
        super::init()?;
        let muxer = element(self.muxer()?)?;
        let template = muxer
            .element_class()
            .pad_template("audio_%u")
            .map_or_else(gst::Caps::new_empty, |t| t.caps().clone());
        // The parser in front of the muxer changes how packets are framed, so that is not compared.
        let mut bare = sound.caps.clone();
        if let Some(s) = bare.make_mut().structure_mut(0) {
            s.remove_fields(["stream-format", "framed", "codec_data"]);
        }
        if !template.can_intersect(&bare) {
            let kind =
                self.output.extension().and_then(|e| e.to_str()).unwrap_or_default().to_ascii_uppercase();
            let hint = if kind == "MKV" { "" } else { "; write .mkv to keep it" };
            return Ok(Err(format!("left out: {kind} cannot hold {}{hint}", sound.codec)));
        }
        Ok(Ok(template))
    }
}

/// A file being written.
pub struct Encoder {
    settings: EncoderSettings,
    aside: Option<Aside>,
    pipeline: gst::Pipeline,
    video: gst_app::AppSrc,
    sound: Option<gst_app::AppSrc>,
    canvas: Canvas,
    clock: OutputClock,
}

impl Encoder {
    /// Starts a file for frames like `first`. `sound`: whether packets of sound will follow. `origin`: the instant of
    /// the recording that becomes zero.
    ///
    /// # Errors
    /// What [`EncoderSettings::validate`] finds, a missing element, a file that cannot be created.
    pub fn create(settings: EncoderSettings, first: &Frame, sound: bool, origin: Pts) -> Result<Self> {
        super::init()?;
        settings.validate()?;
        let aside = Aside::file(&settings.folder()).map_err(|e| Error::write(&settings.output, e))?;

        // What x264 is given from the first frame on; also refuses a layout it could never be given.
        let canvas = Canvas::of(first)?;
        let caps = stream_caps(&canvas, first)?;
        let pipeline = gst::Pipeline::new();
        let video = gst_app::AppSrc::builder().caps(&caps).format(gst::Format::Time).build();
        // It must not block: an encoder that has failed takes nothing any more, and the call would never return.
        video.set_property("block", false);
        video.set_property("max-buffers", 0u64);
        video.set_property("max-bytes", 0u64);
        let convert = element("videoconvert")?;
        let layout = element("capsfilter")?;
        layout.set_property("caps", colour_description::encoded_caps(&canvas.info, canvas.encoded));
        let x264 = element("x264enc")?;
        x264.set_property_from_str("speed-preset", &settings.speed);
        x264.set_property_from_str("pass", "qual");
        x264.set_property("quantizer", settings.quality);
        // Without B-frames decoding order is showing order, and timestamps need no shift.
        x264.set_property("bframes", 0u32);
        x264.set_property(
            "interlaced",
            canvas.info.interlace_mode() != gst_video::VideoInterlaceMode::Progressive,
        );
        // No parser behind the encoder: where the frame rate is variable it forgets how long the last frame is shown,
        // and a frame that lasts no time is left out by players.
        let queue = unlimited_queue()?;
        let mux = element(settings.muxer()?)?;
        let sink = element("filesink")?;
        sink.set_property("location", aside.path());
        sink.set_property("async", false);

        let wiring = |e: gst::glib::BoolError| {
            Error::internal("the encoding pipeline cannot be put together").because(e)
        };
        let chain = [video.upcast_ref::<gst::Element>(), &convert, &layout, &x264, &queue];
        pipeline.add_many(chain).map_err(wiring)?;
        pipeline.add_many([&mux, &sink]).map_err(wiring)?;
        gst::Element::link_many(chain).map_err(wiring)?;
        let entry =
            mux.request_pad_simple("video_%u").ok_or_else(|| Error::internal("the muxer takes no video"))?;
        if entry.has_property("trak-timescale") {
            entry.set_property("trak-timescale", TICKS);
        }
        let exit = queue.static_pad("src").ok_or_else(|| Error::internal("a queue has no exit"))?;
        exit.link(&entry).map_err(|e| Error::internal("the muxer refuses the video").because(e))?;
        mux.link(&sink).map_err(wiring)?;
        let sound = if sound { Some(sound_entry(&pipeline, &mux)?) } else { None };

        let encoder = Self {
            settings,
            aside: Some(aside),
            pipeline,
            video,
            sound,
            canvas,
            clock: OutputClock { shift: -i128::from(origin.0), last: None },
        };
        encoder.pipeline.set_state(gst::State::Playing).map_err(|e| {
            encoder
                .failure()
                .unwrap_or_else(|| Error::output(format!("{}: cannot be written", encoder.at())).because(e))
        })?;
        Ok(encoder)
    }

    fn at(&self) -> std::path::Display<'_> {
        self.settings.output.display()
    }

    fn failure(&self) -> Option<Error> {
        messages::drain(&self.pipeline.bus()?, &self.settings.output).0
    }

    /// Encodes one frame; waits while the encoder is busy with earlier ones.
    ///
    /// A timestamp that repeats or runs back a little is moved to one tick after the last, since no container can hold
    /// it; where the source's clock jumps back, the output goes on from the last frame.
    ///
    /// # Errors
    /// A full disk, or anything else the encoder reports.
    pub fn frame(&mut self, frame: Frame) -> Result<()> {
        let before = self.clock.last.map(|(at, _)| at);
        let at = self.clock.place(frame.pts.0, frame.duration.map_or(0, |d| d.0));
        // Where nobody says how long a frame is shown (parsers then say a nanosecond), as long as the one before: the
        // next frame's time corrects that, and the last frame has some time at all.
        let said = frame.duration.map(|d| d.0).filter(|d| *d > u64::from(1_000_000_000 / TICKS));
        let duration = said.unwrap_or_else(|| before.map_or(USUAL, |b| at - b));
        let mut buffer = self.canvas.fill(frame)?;
        {
            let change = buffer.make_mut();
            change.set_pts(gst::ClockTime::from_nseconds(at));
            change.set_dts(gst::ClockTime::NONE);
            change.set_duration(gst::ClockTime::from_nseconds(duration));
        }
        while self.video.current_level_buffers() >= WAITING {
            if let Some(e) = self.failure() {
                return Err(e);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        if self.video.push_buffer(buffer).is_err() {
            return Err(self.stopped());
        }
        if let Some(e) = self.failure() {
            return Err(e);
        }
        Ok(())
    }

    /// Passes one piece of sound on. Pieces before the origin are dropped.
    pub fn sound(&mut self, packet: SoundPacket) -> Result<()> {
        let Some(entry) = &self.sound else { return Ok(()) };
        let mut buffer = packet.buffer;
        let Some(at) = buffer.pts() else { return Ok(()) };
        let Some(at) = self.clock.shifted(at.nseconds()) else { return Ok(()) };
        buffer.make_mut().set_pts(gst::ClockTime::from_nseconds(at));
        if entry.caps().as_ref() != Some(&packet.caps) {
            entry.set_caps(Some(&packet.caps));
        }
        if entry.push_buffer(buffer).is_err() {
            return Err(self.stopped());
        }
        Ok(())
    }

    fn stopped(&self) -> Error {
        // The message that says why may come a moment after the refusal.
        for _ in 0..20 {
            if let Some(e) = self.failure() {
                return e;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Error::output(format!("{}: the encoder stopped", self.at())).remedy("run with -v for details")
    }

    /// Writes the index and gives the file its name.
    ///
    /// # Errors
    /// As [`Self::frame`]; the unfinished file is removed.
    pub fn finish(mut self) -> Result<()> {
        let refused = |_| self.stopped();
        self.video.end_of_stream().map_err(refused)?;
        if let Some(sound) = &self.sound {
            sound.end_of_stream().map_err(refused)?;
        }
        let bus = self.pipeline.bus().ok_or_else(|| Error::internal("the encoding pipeline has no bus"))?;
        let start = Instant::now();
        loop {
            std::thread::sleep(Duration::from_millis(2));
            let (error, ended) = messages::drain(&bus, &self.settings.output);
            if let Some(e) = error {
                return Err(e);
            }
            if ended {
                break;
            }
            if start.elapsed() > PATIENCE {
                return Err(Error::output(format!("{}: could not be completed", self.at()))
                    .remedy("run with -v for details"));
            }
        }
        let _ = self.pipeline.set_state(gst::State::Null);
        let Some(aside) = self.aside.take() else { return Ok(()) };
        // On disk before it takes the name of what was there.
        aside.handle().sync_all().map_err(|e| Error::write(&self.settings.output, e))?;
        aside
            .publish(&self.settings.output, self.settings.force)
            .map_err(|e| not_named(&self.settings.output, e))
    }
}

/// A clock that runs back by more than this has jumped; less is jitter.
const JUMP_NS: u64 = 500_000_000;

/// The recording's time as the output's.
#[derive(Clone, Copy, Debug)]
struct OutputClock {
    /// Added to the recording's time.
    shift: i128,
    /// Output time and duration of the last frame.
    last: Option<(u64, u64)>,
}

impl OutputClock {
    fn shifted(&self, pts: u64) -> Option<u64> {
        u64::try_from(i128::from(pts) + self.shift).ok()
    }

    /// When a frame is shown: always after the one before.
    fn place(&mut self, pts: u64, duration: u64) -> u64 {
        let own = i128::from(pts) + self.shift;
        let mut at = u64::try_from(own).unwrap_or(0);
        if let Some((last, length)) = self.last
            && own <= i128::from(last)
        {
            let tick = u64::from(1_000_000_000 / TICKS) + 1;
            let jumped = i128::from(last) - own > i128::from(JUMP_NS);
            at = last + if jumped { length.max(tick) } else { tick };
            if jumped {
                self.shift += i128::from(at) - own;
            }
        }
        self.last = Some((at, duration));
        at
    }
}

/// The picture as x264 takes it. Sides that chroma halves must be even, and of interlaced frames each field's: a
/// picture whose are not gains columns or lines that repeat its last one.
struct Canvas {
    /// Caps of what is pushed.
    info: gst_video::VideoInfo,
    /// Layout given to x264: the source's own; 4:2:0 for RGB and grey, which players need.
    encoded: &'static str,
    padded: bool,
}

impl Canvas {
    fn of(first: &Frame) -> Result<Self> {
        let picture = first.picture_info()?;
        let encoded = match picture.format.layout() {
            Layout::Rgb { .. } | Layout::Gray => "I420",
            Layout::Yuv { depth: 8, sub_x, sub_y, .. } => match (sub_x, sub_y) {
                (1, 1) => "I420",
                (1, _) => "Y42B",
                _ => "Y444",
            },
            Layout::Yuv { sub_x, sub_y, .. } => match (sub_x, sub_y) {
                (1, 1) => "I420_10LE",
                (1, _) => "I422_10LE",
                _ => "Y444_10LE",
            },
        };
        let interlaced = first.info.interlace_mode() != gst_video::VideoInterlaceMode::Progressive;
        let fields = if interlaced { 2 } else { 1 };
        let width = picture.width.next_multiple_of(if encoded.starts_with("Y444") { 1 } else { 2 });
        let height =
            picture.height.next_multiple_of(if encoded.starts_with("I420") { 2 * fields } else { fields });
        let padded = (width, height) != (picture.width, picture.height);
        let info = if padded {
            let old = &first.info;
            gst_video::VideoInfo::builder(old.format(), width, height)
                .fps(old.fps())
                .par(old.par())
                .colorimetry(&old.colorimetry())
                .interlace_mode(old.interlace_mode())
                .build()
                .map_err(|e| Error::internal("a padded picture cannot be described").because(e))?
        } else {
            first.info.clone()
        };
        Ok(Self { info, encoded, padded })
    }

    /// The frame's bytes in the canvas's shape.
    fn fill(&self, frame: Frame) -> Result<gst::Buffer> {
        if !self.padded {
            return Ok(frame.buffer);
        }
        let mut bytes = vec![0u8; self.info.size()];
        frame.read(|picture| {
            for (i, plane) in picture.planes.iter().enumerate().take(picture.info.format.planes()) {
                let (row, rows) = picture.info.format.plane_size(i, picture.info.width, picture.info.height);
                let (wide, high) = picture.info.format.plane_size(i, self.info.width(), self.info.height());
                // What one more column takes (there is one at most): bytes of a pixel in this plane.
                let unit = wide - row;
                let (start, stride) = (self.info.offset()[i], self.info.stride()[i] as usize);
                for y in 0..high {
                    let line = &plane.row(y.min(rows - 1))[..row];
                    let out = &mut bytes[start + y * stride..][..wide];
                    out[..row].copy_from_slice(line);
                    out[row..].copy_from_slice(&line[row - unit..]);
                }
            }
            Ok(())
        })?;
        let mut buffer = gst::Buffer::from_mut_slice(bytes);
        if let Some(change) = buffer.get_mut() {
            change.set_flags(frame.buffer.flags());
        }
        Ok(buffer)
    }
}

impl Drop for Encoder {
    fn drop(&mut self) {
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}

/// Caps of the stream `first` begins. Where only the frames themselves say which field comes first, or some are
/// interlaced and some are not, the caps say it, because that is where x264 looks.
fn stream_caps(canvas: &Canvas, first: &Frame) -> Result<gst::Caps> {
    let mut caps = canvas.info.to_caps().map_err(|e| Error::internal("caps cannot be made").because(e))?;
    let rate = caps.structure(0).and_then(|s| s.get::<gst::Fraction>("framerate").ok());
    if rate.is_none_or(|r| r.numer() == 0) {
        // Nothing else gives the last frame a duration, and without one no player shows it.
        caps.make_mut().set("framerate", gst::Fraction::new(25, 1));
    }
    let mode = caps.structure(0).and_then(|s| s.get::<String>("interlace-mode").ok());
    if mode.is_some_and(|m| m != "progressive") {
        let order = match first.picture_info()?.fields {
            FieldOrder::BottomFirst => "bottom-field-first",
            FieldOrder::TopFirst | FieldOrder::Progressive => "top-field-first",
        };
        let change = caps.make_mut();
        change.set("interlace-mode", "interleaved");
        change.set("field-order", order);
    }
    Ok(caps)
}

/// A queue of encoded data: small, and never the reason for a muxer's two inputs to wait for each other.
fn unlimited_queue() -> Result<gst::Element> {
    let queue = element("queue")?;
    for limit in ["max-size-buffers", "max-size-bytes"] {
        queue.set_property(limit, 0u32);
    }
    queue.set_property("max-size-time", 0u64);
    Ok(queue)
}

fn sound_entry(pipeline: &gst::Pipeline, mux: &gst::Element) -> Result<gst_app::AppSrc> {
    let source = gst_app::AppSrc::builder().format(gst::Format::Time).build();
    source.set_property("block", false);
    source.set_property("max-bytes", 0u64);
    let queue = unlimited_queue()?;
    let wiring = |e: gst::glib::BoolError| Error::internal("the sound cannot be linked").because(e);
    pipeline.add_many([source.upcast_ref(), &queue]).map_err(wiring)?;
    gst::Element::link_many([source.upcast_ref(), &queue]).map_err(wiring)?;
    let entry =
        mux.request_pad_simple("audio_%u").ok_or_else(|| Error::internal("the muxer takes no sound"))?;
    let exit = queue.static_pad("src").ok_or_else(|| Error::internal("a queue has no exit"))?;
    exit.link(&entry).map_err(|e| Error::internal("the muxer refuses the sound").because(e))?;
    Ok(source)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_is_nudged_and_a_jump_is_bridged() {
        let mut clock = OutputClock { shift: -1_000, last: None };
        let frame = 40_000_000;
        assert_eq!(clock.place(1_000, frame), 0);
        assert_eq!(clock.place(frame + 1_000, frame), frame);
        // Repeats and runs back a little: one tick later, and the next frame keeps its own time.
        let nudged = clock.place(frame + 1_000, frame);
        assert!(nudged > frame && nudged < frame + 20_000);
        assert_eq!(clock.place(2 * frame + 1_000, frame), 2 * frame);
        // The clock starts anew: the output goes on, and keeps the new steps.
        let far = clock.place(10_000_000_000, frame);
        assert_eq!(clock.place(0, frame), far + frame);
        assert_eq!(clock.place(frame, frame), far + 2 * frame);
        assert_eq!(clock.shifted(0), Some(far + frame));
    }
}
