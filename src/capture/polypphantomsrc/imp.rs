//! The GStreamer side of the phantom source.
//!
//! `settings` is what the user set, `film` the loop in memory; the film is locked by the streaming thread and by start
//! and stop, which never run at the same time. The two are never held together.

use std::sync::{LazyLock, Mutex};

use gstreamer as gst;
use gstreamer::glib;
use gstreamer::prelude::*;
use gstreamer::subclass::prelude::*;
use gstreamer_base as gst_base;
use gstreamer_base::prelude::*;
use gstreamer_base::subclass::base_src::CreateSuccess;
use gstreamer_base::subclass::prelude::*;
use gstreamer_video as gst_video;

use crate::capture::mask_entry::{MaskEntry, MaskPixels, Region};
use crate::capture::mask_meta::{TRUTH, attach, describe_pixels};
use crate::frame::{Rate, Rect};
use crate::lock::lock;
use crate::memory;
use crate::phantom::{Phantom, Preset, Settings as Colon, Truth, View};

static CAT: LazyLock<gst::DebugCategory> = LazyLock::new(|| {
    gst::DebugCategory::new(
        "polypphantomsrc",
        gst::DebugColorFlags::empty(),
        Some("phantom as a live source"),
    )
});

#[derive(Clone, Debug)]
struct Settings {
    width: u32,
    height: u32,
    fps: String,
    preset: String,
    view: String,
    seed: u64,
    seconds: u32,
    frames: i64,
    truth: bool,
    live: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            width: 1280,
            height: 720,
            fps: "30".into(),
            preset: Preset::Typical.name().into(),
            view: View::Processor.name().into(),
            seed: 1,
            seconds: 6,
            frames: -1,
            truth: true,
            live: true,
        }
    }
}

impl Settings {
    fn colon(&self) -> crate::Result<Colon> {
        let rate: Rate = self.fps.parse()?;
        let colon = Colon {
            seed: self.seed,
            width: self.width,
            height: self.height,
            rate,
            frames: ((f64::from(self.seconds) * rate.as_f64()).round() as u64).max(2),
            preset: self.preset.parse()?,
            view: self.view.parse()?,
            looped: true,
            threads: std::thread::available_parallelism().map_or(1, |n| n.get()),
            ..Colon::default()
        };
        colon.validate()?;
        Ok(colon)
    }
}

/// A rendered loop.
struct Film {
    rate: Rate,
    info: gst_video::VideoInfo,
    /// NV12, one after the other.
    frames: Vec<Vec<u8>>,
    /// What is really there, a frame each; none where nobody wants it.
    truths: Vec<FrameTruth>,
    pool: gst::BufferPool,
    next: u64,
    /// Running time of frame 0; set when the first is due.
    start: Option<gst::ClockTime>,
}

#[derive(Default)]
pub struct PolypPhantomSrc {
    settings: Mutex<Settings>,
    film: Mutex<Option<Film>>,
}

/// The truth of a frame, as it is attached to its buffers.
struct FrameTruth {
    /// Cut to the rectangle around all polyps; each pixel holds its polyp's id.
    pixels: Option<MaskPixels>,
    regions: Vec<Region>,
}

impl FrameTruth {
    fn of(truth: &Truth) -> crate::Result<Self> {
        let regions: Vec<Region> = truth
            .polyps
            .iter()
            .map(|p| Region {
                bbox: p.bbox.into(),
                area_px: p.area_px,
                track_id: Some(u64::from(p.id)),
                ..Region::default()
            })
            .collect();
        let around = regions.iter().map(|r| r.bbox).reduce(|a, b| a.around(&b));
        let pixels = around.map(|place| cut(truth, place)).transpose()?;
        Ok(Self { pixels, regions })
    }
}

/// A rectangle of the truth's mask as a buffer.
fn cut(truth: &Truth, place: Rect) -> crate::Result<MaskPixels> {
    let (width, row) = (truth.width as usize, place.x as usize..place.right() as usize);
    let lines = truth.mask.chunks_exact(width).skip(place.y as usize).take(place.h as usize);
    let bytes: Vec<u8> = lines.flat_map(|line| line[row.clone()].iter().copied()).collect();
    let mut buffer = gst::Buffer::from_mut_slice(bytes);
    if let Some(buffer) = buffer.get_mut() {
        describe_pixels(buffer, place.w, place.h)?;
    }
    Ok(MaskPixels::described(place, buffer))
}

/// Whether the whole loop fits into memory, asked before it is rendered: that takes minutes.
fn check_memory(colon: &Colon, frame: usize, available: Option<u64>) -> crate::Result<()> {
    let (frame, working) = (frame as u64, colon.working_bytes());
    let what = format!(
        "a phantom loop of {:.0} s of {}x{} pixels at {} frames/s",
        colon.seconds(),
        colon.width,
        colon.height,
        colon.rate
    );
    memory::within(available, &what, colon.frames.saturating_mul(frame).saturating_add(working), |usable| {
        match (usable.saturating_sub(working) as f64 / frame as f64 / colon.rate.as_f64()) as u64 {
            0 => "choose a smaller size".to_owned(),
            fit => format!("choose a loop of at most {fit} s (loop_seconds), or a smaller size"),
        }
    })
}

/// Renders and converts the whole loop.
fn film(settings: &Settings) -> crate::Result<Film> {
    let colon = settings.colon()?;
    let refused = |e: gst::glib::BoolError| {
        crate::Error::machine(format!("a phantom of {}x{} cannot be played", colon.width, colon.height))
            .because(e)
    };
    let fps = gst::Fraction::new(colon.rate.numerator as i32, colon.rate.denominator as i32);
    let describe = |format| {
        gst_video::VideoInfo::builder(format, colon.width, colon.height).fps(fps).build().map_err(refused)
    };
    let (rgb_info, info) = (describe(gst_video::VideoFormat::Rgb)?, describe(gst_video::VideoFormat::Nv12)?);
    check_memory(&colon, info.size(), memory::available())?;
    let converter = gst_video::VideoConverter::new(&rgb_info, &info, None).map_err(refused)?;
    let mut phantom = Phantom::new(colon.clone())?;
    let mut truth = Truth::new(colon.width, colon.height);
    let mut rgb = vec![0; colon.width as usize * colon.height as usize * 3];
    let row = colon.width as usize * 3;
    let mut frames = Vec::with_capacity(colon.frames as usize);
    let mut truths = Vec::new();
    let from = gst::Buffer::with_size(rgb_info.size()).map_err(refused)?;
    let mut from = gst_video::VideoFrame::from_buffer_writable(from, &rgb_info)
        .map_err(|_| crate::Error::internal("a new buffer cannot be written"))?;
    let to = gst::Buffer::with_size(info.size()).map_err(refused)?;
    let mut to = gst_video::VideoFrame::from_buffer_writable(to, &info)
        .map_err(|_| crate::Error::internal("a new buffer cannot be written"))?;
    for n in 0..colon.frames {
        phantom.render(n, &mut rgb, &mut truth)?;
        if settings.truth {
            truths.push(FrameTruth::of(&truth)?);
        }
        let stride = rgb_info.stride()[0] as usize;
        let plane = from.plane_data_mut(0).map_err(|e| refused(gst::glib::bool_error!("{e}")))?;
        for (line, out) in rgb.chunks_exact(row).zip(plane.chunks_mut(stride)) {
            out[..row].copy_from_slice(line);
        }
        converter.frame(&from, &mut to);
        let map = to.buffer().map_readable().map_err(refused)?;
        frames.push(map.as_slice().to_vec());
    }
    let pool = gst::BufferPool::new();
    let mut config = pool.config();
    let caps = info.to_caps().map_err(refused)?;
    config.set_params(Some(&caps), info.size() as u32, 4, 0);
    pool.set_config(config).map_err(refused)?;
    pool.set_active(true).map_err(refused)?;
    Ok(Film { rate: colon.rate, info, frames, truths, pool, next: 0, start: None })
}

#[glib::object_subclass]
impl ObjectSubclass for PolypPhantomSrc {
    const NAME: &'static str = "GstPolypPhantomSrc";
    type Type = super::PolypPhantomSrc;
    type ParentType = gst_base::PushSrc;
}

impl ObjectImpl for PolypPhantomSrc {
    fn constructed(&self) {
        self.parent_constructed();
        let obj = self.obj();
        obj.set_live(true);
        obj.set_format(gst::Format::Time);
    }

    fn properties() -> &'static [glib::ParamSpec] {
        static PROPERTIES: LazyLock<Vec<glib::ParamSpec>> = LazyLock::new(|| {
            let d = Settings::default();
            let uint = |name: &str, blurb: &str, max: u32, default: u32| {
                glib::ParamSpecUInt::builder(name).blurb(blurb).maximum(max).default_value(default).build()
            };
            let flag = |name: &str, blurb: &str, default: bool| {
                glib::ParamSpecBoolean::builder(name)
                    .blurb(blurb)
                    .default_value(default)
                    .mutable_ready()
                    .build()
            };
            let text = |name: &str, blurb: &str, default: &str| {
                glib::ParamSpecString::builder(name).blurb(blurb).default_value(Some(default)).build()
            };
            vec![
                uint("width", "Width in pixels", 8192, d.width),
                uint("height", "Height in pixels", 8192, d.height),
                text("fps", "Frames a second, such as 30 or 30000/1001", &d.fps),
                text("preset", "Motion: calm, typical, brisk or fast", &d.preset),
                text("view", "What surrounds the picture: octagon, processor or full", &d.view),
                uint("seconds", "Length of the loop", 600, d.seconds),
                glib::ParamSpecUInt64::builder("seed")
                    .blurb("Another seed is another colon")
                    .default_value(d.seed)
                    .build(),
                glib::ParamSpecInt64::builder("num-frames")
                    .blurb("Frames until the end of the stream; -1: for ever")
                    .minimum(-1)
                    .default_value(d.frames)
                    .build(),
                flag(
                    "truth",
                    "Whether buffers carry what is really there, as the custom meta PolypscopeTruth",
                    d.truth,
                ),
                flag(
                    "is-live",
                    "Whether frames come when they are due; otherwise as fast as they are taken",
                    d.live,
                ),
            ]
        });
        PROPERTIES.as_ref()
    }

    fn set_property(&self, _id: usize, value: &glib::Value, pspec: &glib::ParamSpec) {
        if pspec.name() == "is-live"
            && let Ok(live) = value.get()
        {
            lock(&self.settings).live = live;
            self.obj().set_live(live);
            return;
        }
        let mut s = lock(&self.settings);
        let text = || value.get::<Option<String>>().ok().flatten().unwrap_or_default();
        match pspec.name() {
            "width" => s.width = value.get().unwrap_or(s.width),
            "height" => s.height = value.get().unwrap_or(s.height),
            "seconds" => s.seconds = value.get().unwrap_or(s.seconds),
            "seed" => s.seed = value.get().unwrap_or(s.seed),
            "num-frames" => s.frames = value.get().unwrap_or(s.frames),
            "truth" => s.truth = value.get().unwrap_or(s.truth),
            "fps" => s.fps = text(),
            "preset" => s.preset = text(),
            "view" => s.view = text(),
            _ => {}
        }
    }

    fn property(&self, _id: usize, pspec: &glib::ParamSpec) -> glib::Value {
        let s = lock(&self.settings);
        match pspec.name() {
            "width" => s.width.to_value(),
            "height" => s.height.to_value(),
            "seconds" => s.seconds.to_value(),
            "seed" => s.seed.to_value(),
            "num-frames" => s.frames.to_value(),
            "truth" => s.truth.to_value(),
            "is-live" => s.live.to_value(),
            "fps" => s.fps.to_value(),
            "preset" => s.preset.to_value(),
            _ => s.view.to_value(),
        }
    }
}

impl GstObjectImpl for PolypPhantomSrc {}

impl ElementImpl for PolypPhantomSrc {
    fn metadata() -> Option<&'static gst::subclass::ElementMetadata> {
        static METADATA: LazyLock<gst::subclass::ElementMetadata> = LazyLock::new(|| {
            gst::subclass::ElementMetadata::new(
                "Phantom colonoscopy",
                "Source/Video",
                "Plays a computed colonoscopy from memory, with the truth of each frame as metadata",
                "Polypscope",
            )
        });
        Some(&*METADATA)
    }

    fn pad_templates() -> &'static [gst::PadTemplate] {
        static TEMPLATES: LazyLock<Vec<gst::PadTemplate>> = LazyLock::new(|| {
            let caps = crate::capture::raw_caps(&[crate::frame::PixelFormat::Nv12]);
            gst::PadTemplate::new("src", gst::PadDirection::Src, gst::PadPresence::Always, &caps)
                .into_iter()
                .collect()
        });
        TEMPLATES.as_ref()
    }
}

impl BaseSrcImpl for PolypPhantomSrc {
    fn start(&self) -> Result<(), gst::ErrorMessage> {
        let settings = lock(&self.settings).clone();
        let film =
            film(&settings).map_err(|e| gst::error_msg!(gst::ResourceError::Settings, ("{e}"), ["{e}"]))?;
        gst::info!(CAT, imp = self, "{} frames rendered", film.frames.len());
        *lock(&self.film) = Some(film);
        Ok(())
    }

    fn stop(&self) -> Result<(), gst::ErrorMessage> {
        if let Some(film) = lock(&self.film).take() {
            let _ = film.pool.set_active(false);
        }
        Ok(())
    }

    fn is_seekable(&self) -> bool {
        false
    }

    /// What will be played, where that is known already.
    fn caps(&self, filter: Option<&gst::Caps>) -> Option<gst::Caps> {
        let settings = lock(&self.settings).clone();
        let caps = match settings.colon() {
            Ok(c) => gst_video::VideoInfo::builder(gst_video::VideoFormat::Nv12, c.width, c.height)
                .fps(gst::Fraction::new(c.rate.numerator as i32, c.rate.denominator as i32))
                .build()
                .ok()?
                .to_caps()
                .ok()?,
            Err(_) => return self.parent_caps(filter),
        };
        Some(filter.map_or(caps.clone(), |f| f.intersect_with_mode(&caps, gst::CapsIntersectMode::First)))
    }

    /// Frames are pushed when they are due.
    fn times(&self, buffer: &gst::BufferRef) -> (Option<gst::ClockTime>, Option<gst::ClockTime>) {
        if !lock(&self.settings).live {
            return (None, None);
        }
        let start = buffer.pts();
        (start, start.zip(buffer.duration()).map(|(s, d)| s + d))
    }
}

impl PushSrcImpl for PolypPhantomSrc {
    fn create(&self, _buffer: Option<&mut gst::BufferRef>) -> Result<CreateSuccess, gst::FlowError> {
        let Settings { frames: limit, live, .. } = *lock(&self.settings);
        let mut film = lock(&self.film);
        let film = film.as_mut().ok_or(gst::FlowError::Flushing)?;
        let n = film.next;
        if limit >= 0 && n >= limit as u64 {
            return Err(gst::FlowError::Eos);
        }
        film.next += 1;
        let start = match film.start {
            Some(t) => t,
            None => {
                let now = self.obj().current_running_time().filter(|_| live).unwrap_or(gst::ClockTime::ZERO);
                film.start = Some(now);
                now
            }
        };
        let mut buffer = film.pool.acquire_buffer(None)?;
        let at = |n| start + gst::ClockTime::from_nseconds(film.rate.pts_ns(n));
        {
            let buffer = buffer.get_mut().ok_or(gst::FlowError::Error)?;
            buffer.set_pts(at(n));
            buffer.set_duration(at(n + 1) - at(n));
            let k = (n % film.frames.len() as u64) as usize;
            if let Some(truth) = film.truths.get(k) {
                let entry = MaskEntry {
                    picture: (film.info.width(), film.info.height()),
                    pixels: truth.pixels.clone(),
                    frame: Some(n),
                    pts: Some(at(n)),
                    area_px: truth.regions.iter().map(|r| r.area_px).sum(),
                    ..MaskEntry::default()
                };
                attach(buffer, TRUTH, &entry, &truth.regions).map_err(|_| gst::FlowError::Error)?;
            }
            let mut map = buffer.map_writable().map_err(|_| gst::FlowError::Error)?;
            let picture = &film.frames[k];
            if map.len() < picture.len() {
                return Err(gst::FlowError::Error);
            }
            map[..picture.len()].copy_from_slice(picture);
        }
        debug_assert_eq!(film.info.size(), film.frames[0].len());
        Ok(CreateSuccess::NewBuffer(buffer))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(seconds: u32, size: (u32, u32), available: u64) -> crate::Result<()> {
        let settings = Settings { width: size.0, height: size.1, seconds, ..Settings::default() };
        check_memory(&settings.colon()?, (size.0 * size.1 * 3 / 2) as usize, Some(available))
    }

    #[test]
    fn a_loop_that_does_not_fit_is_refused_with_what_fits() {
        asked(6, (1280, 720), 1 << 30).unwrap();
        let e = asked(600, (1280, 720), 4_000_000_000).unwrap_err();
        let said = e.to_string();
        assert!(
            said.starts_with("a phantom loop of 600 s of 1280x720 pixels at 30 frames/s needs 25.0 GB"),
            "{said}"
        );
        let fit = said.split("at most ").nth(1).and_then(|s| s.split(' ').next()).unwrap();
        asked(fit.parse().unwrap(), (1280, 720), 4_000_000_000).expect("what is offered fits");
        assert!(asked(fit.parse::<u32>().unwrap() + 2, (1280, 720), 4_000_000_000).is_err());
        let e = asked(1, (8192, 8192), 1 << 30).unwrap_err().to_string();
        assert!(e.ends_with("choose a smaller size"), "{e}");
    }
}
