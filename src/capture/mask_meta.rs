//! Masks on buffers, as metadata that every language with GStreamer's bindings can read.
//!
//! In: what was found on a frame. Out: a custom meta on its buffer (see `pipelines/elements/metadata.md` for its
//! fields), and one `GstVideoRegionOfInterestMeta` a region. The mask itself is a buffer of one GRAY8 picture, 0
//! outside, that covers a rectangle of the frame. A meta goes with its buffer through copies, conversions and scaling:
//! it says the size of the picture it belongs to, so a reader of another size can tell.

use std::sync::Once;

use gstreamer as gst;
use gstreamer_video as gst_video;

use super::analytics;
use super::mask_entry::{MaskEntry, MaskPixels, REGION, Region, signed};
use crate::frame::{Nanos, Rect};
use crate::safety::State;
use crate::{Error, Result};

/// The meta of what a network found.
pub const MASK: &str = "PolypscopeMask";
/// The meta of what is really there: the phantom's.
pub const TRUTH: &str = "PolypscopeTruth";
/// The fields' version; readers refuse others.
const VERSION: i32 = 1;

/// Makes the metas known to GStreamer, once in a process; another copy of this code may have done so already.
pub fn register_metas() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        for name in [MASK, TRUTH] {
            if !gst::meta::CustomMeta::is_registered(name) {
                // A mask is of a picture and of its size; an element that turns or mirrors pictures drops it.
                let tags = ["video", "size", "orientation"];
                gst::meta::CustomMeta::register_with_transform(name, &tags, |to, meta, _, _| {
                    let from = meta.structure();
                    let Ok(mut copy) = gst::meta::CustomMeta::add(to, from.name()) else { return false };
                    for (field, value) in from.iter() {
                        copy.mut_structure().set_value(field, value.clone());
                    }
                    true
                });
            }
        }
    });
}

/// A buffer of mask pixels, each row right after the one above.
///
/// # Errors
/// A rectangle that GStreamer has no picture for.
pub fn describe_pixels(buffer: &mut gst::BufferRef, width: u32, height: u32) -> Result<()> {
    let stride = i32::try_from(width).map_err(|_| Error::internal("a mask is too wide"))?;
    gst_video::VideoMeta::add_full(
        buffer,
        gst_video::VideoFrameFlags::empty(),
        gst_video::VideoFormat::Gray8,
        width,
        height,
        &[0],
        &[stride],
    )
    .map(drop)
    .map_err(|e| Error::internal("a mask's buffer cannot be described").because(e))
}

/// Attaches an entry and its regions to a buffer under a meta's name.
///
/// # Errors
/// A meta that is not registered.
pub fn attach(buffer: &mut gst::BufferRef, name: &str, entry: &MaskEntry, regions: &[Region]) -> Result<()> {
    let mut list: Vec<gst::Structure> = Vec::with_capacity(regions.len());
    for (k, region) in regions.iter().enumerate() {
        let Rect { x, y, w, h } = region.bbox;
        let describe = |b: gst::structure::Builder| {
            b.field("id", signed(k as u32 + 1))
                .field("area", region.area_px)
                .field_if_some("probability", region.probability.map(f64::from))
                .field_if_some("track-id", region.track_id)
        };
        list.push(
            describe(gst::Structure::builder("region"))
                .field("x", signed(x))
                .field("y", signed(y))
                .field("width", signed(w))
                .field("height", signed(h))
                .build(),
        );
        if name == MASK {
            let mut roi = gst_video::VideoRegionOfInterestMeta::add(buffer, REGION, (x, y, w, h));
            roi.add_param(describe(gst::Structure::builder(REGION)).build());
        }
    }
    if name == MASK {
        analytics::attach(buffer, entry, regions);
    }
    let mut meta = gst::meta::CustomMeta::add(buffer, name)
        .map_err(|e| Error::internal("a mask cannot be attached to its frame").because(e))?;
    let s = meta.mut_structure();
    s.set("version", VERSION);
    s.set("width", signed(entry.picture.0));
    s.set("height", signed(entry.picture.1));
    if let Some(pixels) = &entry.pixels {
        s.set("mask", &pixels.buffer);
        s.set("mask-x", signed(pixels.place.x));
        s.set("mask-y", signed(pixels.place.y));
        s.set("mask-width", signed(pixels.place.w));
        s.set("mask-height", signed(pixels.place.h));
    }
    if !entry.view.is_empty() {
        s.set("view-x", signed(entry.view.x));
        s.set("view-y", signed(entry.view.y));
        s.set("view-width", signed(entry.view.w));
        s.set("view-height", signed(entry.view.h));
    }
    if let Some(frame) = entry.frame {
        s.set("frame", frame);
        s.set("age", entry.age.0);
        s.set("moved", entry.moved);
        s.set("area", entry.area_px);
    }
    s.set_if_some("pts", entry.pts.map(gst::ClockTime::nseconds));
    s.set_if_some("max-probability", entry.max_probability.map(f64::from));
    if let Some((state, reason)) = entry.state {
        s.set("state", state.name());
        s.set("reason", reason.name());
    }
    s.set("regions", gst::List::new(list));
    Ok(())
}

/// What a meta says, as far as drawing needs it.
pub struct MaskRead {
    /// Size of the picture that it belongs to.
    pub picture: (u32, u32),
    pub pixels: Option<MaskPixels>,
    pub age: Nanos,
    pub state: Option<State>,
}

/// Reads what any element attached under this name; `None` where there is nothing, or nothing we understand. Only
/// `width`, `height` and `mask` are needed: whoever attaches the masks of another network may leave out everything
/// else.
pub fn read(buffer: &gst::BufferRef, name: &str) -> Option<MaskRead> {
    let meta = gst::meta::CustomMeta::from_buffer(buffer, name).ok()?;
    let s = meta.structure();
    if s.get::<i32>("version").is_ok_and(|v| v != VERSION) {
        return None;
    }
    let size = |field: &str| s.get::<i32>(field).ok().and_then(|v| u32::try_from(v).ok());
    let picture = (size("width")?, size("height")?);
    let place =
        || Some(Rect::new(size("mask-x")?, size("mask-y")?, size("mask-width")?, size("mask-height")?));
    let pixels = s
        .get::<gst::Buffer>("mask")
        .ok()
        .map(|buffer| MaskPixels::described(place().unwrap_or(Rect::full(picture.0, picture.1)), buffer));
    let state = s.get::<&str>("state").ok();
    Some(MaskRead {
        picture,
        pixels,
        age: Nanos(s.get::<u64>("age").unwrap_or(0)),
        state: state.and_then(|n| State::ALL.into_iter().find(|s| s.name() == n)),
    })
}

/// Every region's own mask: a parameter of this name, with a field `mask`, in a `GstVideoRegionOfInterestMeta`. Python,
/// which cannot write into a custom meta, attaches masks so. `mask-width` and `mask-height` are the mask's size where
/// its buffer has no video meta and it is not the region's; `age` is as in the custom meta.
pub fn each_region_mask(buffer: &gst::BufferRef, name: &str, mut see: impl FnMut(MaskPixels, Nanos)) {
    for roi in buffer.iter_meta::<gst_video::VideoRegionOfInterestMeta>() {
        for param in roi.params().filter(|p| p.name() == name) {
            let Ok(buffer) = param.get::<gst::Buffer>("mask") else { continue };
            let size = |field: &str| param.get::<i32>(field).ok().and_then(|v| u32::try_from(v).ok());
            let (x, y, w, h) = roi.rect();
            let packed = (size("mask-width").unwrap_or(w), size("mask-height").unwrap_or(h));
            let pixels = MaskPixels::packed_as(Rect::new(x, y, w, h), buffer, packed);
            see(pixels, Nanos(param.get::<u64>("age").unwrap_or(0)));
        }
    }
}
