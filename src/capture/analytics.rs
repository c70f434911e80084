//! GStreamer's own metadata for what networks find (`GstAnalyticsRelationMeta`, with segmentation from 1.26 on).
//!
//! In: what was found on a frame. Out: a segmentation with its classes, one detection a region and its track, all
//! related; and the other way, the segmentation masks that any element attached. The library is looked for when the
//! first frame needs it, so that one plugin serves Debian 12, which has none, and everything newer; where it is not
//! there, nothing is attached or found.

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::ptr;
use std::sync::OnceLock;

use gstreamer as gst;
use gstreamer::glib;
use gstreamer::glib::translate::{IntoGlib, IntoGlibPtr, from_glib_full};

use super::mask_entry::{MaskEntry, MaskPixels, REGION, Region, signed};
use crate::frame::Rect;

/// `struct _GstAnalyticsMtd`: what every handle is.
#[repr(C)]
#[derive(Clone, Copy)]
struct Handle {
    id: c_uint,
    meta: *mut c_void,
}

const NO_HANDLE: Handle = Handle { id: 0, meta: ptr::null_mut() };

/// `GST_SEGMENTATION_TYPE_SEMANTIC`: a pixel's value says of which class it is.
const SEMANTIC: c_int = 0;
/// Values of `GstAnalyticsRelTypes`.
const IS_PART_OF: c_int = 2;
const CONTAINS: c_int = 4;
const RELATES_TO: c_int = 8;
const N_TO_N: c_int = 16;
/// The values that our masks have, and the classes that they stand for.
const VALUES: [c_uint; 2] = [0, 255];
const CLASSES: [&str; 2] = ["background", "polyp"];

type Buffer = *mut gst::ffi::GstBuffer;
type Relations = *mut c_void;
type Bool = glib::ffi::gboolean;

/// Functions of libgstanalytics, with the signatures of its headers in 1.26; the library keeps them within `.so.0`.
struct Library {
    get: unsafe extern "C" fn(Buffer) -> Relations,
    add: unsafe extern "C" fn(Buffer) -> Relations,
    add_segmentation: unsafe extern "C" fn(
        Relations,
        Buffer,
        c_int,
        usize,
        *const c_uint,
        c_int,
        c_int,
        c_uint,
        c_uint,
        *mut Handle,
    ) -> Bool,
    add_class:
        unsafe extern "C" fn(Relations, usize, *const f32, *const glib::ffi::GQuark, *mut Handle) -> Bool,
    add_detection: unsafe extern "C" fn(
        Relations,
        glib::ffi::GQuark,
        c_int,
        c_int,
        c_int,
        c_int,
        f32,
        *mut Handle,
    ) -> Bool,
    add_track: unsafe extern "C" fn(Relations, u64, gst::ffi::GstClockTime, *mut Handle) -> Bool,
    relate: unsafe extern "C" fn(Relations, c_int, c_uint, c_uint) -> Bool,
    iterate: unsafe extern "C" fn(Relations, *mut *mut c_void, usize, *mut Handle) -> Bool,
    segmentation: unsafe extern "C" fn() -> usize,
    mask: unsafe extern "C" fn(*const Handle, *mut c_int, *mut c_int, *mut c_uint, *mut c_uint) -> Buffer,
}

/// The library, if GStreamer is new enough and it is there.
fn library() -> Option<&'static Library> {
    static LIBRARY: OnceLock<Option<Library>> = OnceLock::new();
    LIBRARY.get_or_init(|| if gst::version() >= (1, 26, 0, 0) { open() } else { None }).as_ref()
}

// What an address becomes is the type of the field that it is put into.
#[allow(clippy::missing_transmute_annotations)]
fn open() -> Option<Library> {
    // SAFETY: loading it runs nothing but its own constructors; it stays loaded for as long as the process runs.
    let handle =
        unsafe { libc::dlopen(c"libgstanalytics-1.0.so.0".as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
    if handle.is_null() {
        return None;
    }
    let symbol = |name: &CStr| {
        // SAFETY: the handle is valid and the name ends with a zero.
        let at = unsafe { libc::dlsym(handle, name.as_ptr().cast::<c_char>()) };
        (!at.is_null()).then_some(at)
    };
    // A function's address, as the type its place in `Library` has.
    macro_rules! function {
        ($name:literal) => {{
            let at = symbol($name)?;
            // SAFETY: the address is that of the function of this name, whose signature in the library's header is the
            // field's, on a platform where addresses of data and of functions are alike (dlsym promises that).
            unsafe { std::mem::transmute::<*mut c_void, _>(at) }
        }};
    }
    Some(Library {
        get: function!(c"gst_buffer_get_analytics_relation_meta"),
        add: function!(c"gst_buffer_add_analytics_relation_meta"),
        add_segmentation: function!(c"gst_analytics_relation_meta_add_segmentation_mtd"),
        add_class: function!(c"gst_analytics_relation_meta_add_cls_mtd"),
        add_detection: function!(c"gst_analytics_relation_meta_add_od_mtd"),
        add_track: function!(c"gst_analytics_relation_meta_add_tracking_mtd"),
        relate: function!(c"gst_analytics_relation_meta_set_relation"),
        iterate: function!(c"gst_analytics_relation_meta_iterate"),
        segmentation: function!(c"gst_analytics_segmentation_mtd_get_mtd_type"),
        mask: function!(c"gst_analytics_segmentation_mtd_get_mask"),
    })
}

/// Attaches a mask with its regions, where this GStreamer can.
pub fn attach(buffer: &mut gst::BufferRef, entry: &MaskEntry, regions: &[Region]) {
    let (Some(lib), Some(pixels)) = (library(), &entry.pixels) else { return };
    let at = buffer.as_mut_ptr();
    let detected = glib::Quark::from_str(REGION).into_glib();
    // SAFETY: `at` is a writable buffer, since it came as a mutable reference; the relations belong to it and are used
    // only while it is borrowed. Every other pointer is to a local variable, or to a constant, of the length that is
    // given. The mask's buffer has a video meta, and the reference that is handed over is one of its own.
    unsafe {
        let mut relations = (lib.get)(at);
        if relations.is_null() {
            relations = (lib.add)(at);
        }
        if relations.is_null() {
            return;
        }
        let mut whole = NO_HANDLE;
        let place = pixels.place;
        let added = (lib.add_segmentation)(
            relations,
            pixels.buffer.clone().into_glib_ptr(),
            SEMANTIC,
            VALUES.len(),
            VALUES.as_ptr(),
            signed(place.x),
            signed(place.y),
            place.w,
            place.h,
            &mut whole,
        );
        if added == glib::ffi::GFALSE {
            return;
        }
        let names = CLASSES.map(|c| glib::Quark::from_str(c).into_glib());
        let sure = [1.0f32; CLASSES.len()];
        let mut classes = NO_HANDLE;
        if (lib.add_class)(relations, names.len(), sure.as_ptr(), names.as_ptr(), &mut classes)
            != glib::ffi::GFALSE
        {
            (lib.relate)(relations, N_TO_N, whole.id, classes.id);
        }
        for region in regions {
            let Rect { x, y, w, h } = region.bbox;
            let probability = region.probability.unwrap_or(1.0);
            let mut one = NO_HANDLE;
            let (x, y, w, h) = (signed(x), signed(y), signed(w), signed(h));
            if (lib.add_detection)(relations, detected, x, y, w, h, probability, &mut one)
                == glib::ffi::GFALSE
            {
                continue;
            }
            (lib.relate)(relations, CONTAINS, whole.id, one.id);
            (lib.relate)(relations, IS_PART_OF, one.id, whole.id);
            if let Some(id) = region.track_id {
                let mut track = NO_HANDLE;
                let first_seen = region.first_seen.unwrap_or(gst::ffi::GST_CLOCK_TIME_NONE);
                if (lib.add_track)(relations, id, first_seen, &mut track) != glib::ffi::GFALSE {
                    (lib.relate)(relations, RELATES_TO, one.id, track.id);
                }
            }
        }
    }
}

/// Every segmentation mask on a buffer, whoever attached it.
pub fn each_mask(buffer: &gst::BufferRef, mut see: impl FnMut(MaskPixels)) {
    let Some(lib) = library() else { return };
    // SAFETY: only reads: the library takes a plain pointer where it means a constant one. Relations and handles are
    // used while the buffer is borrowed; what the mask's function returns is a reference of ours.
    unsafe {
        let relations = (lib.get)(buffer.as_ptr().cast_mut());
        if relations.is_null() {
            return;
        }
        let (mut state, mut one) = (ptr::null_mut(), NO_HANDLE);
        while (lib.iterate)(relations, &mut state, (lib.segmentation)(), &mut one) != glib::ffi::GFALSE {
            let (mut x, mut y, mut w, mut h) = (0, 0, 0, 0);
            let mask = (lib.mask)(&one, &mut x, &mut y, &mut w, &mut h);
            if mask.is_null() {
                continue;
            }
            let buffer: gst::Buffer = from_glib_full(mask);
            if let (Ok(x), Ok(y)) = (u32::try_from(x), u32::try_from(y)) {
                see(MaskPixels::described(Rect::new(x, y, w, h), buffer));
            }
        }
    }
}
