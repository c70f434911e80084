//! What decoders complain of.
//!
//! In: warnings on a pipeline's bus, and errors that libav's decoders write into GStreamer's log and nowhere else: they
//! conceal a damaged picture and give it out as if it were whole. Out: how many complaints a recording has caused, and
//! where.
//!
//! libav's log does not say which decoder speaks, so it is heard only in a process that says that it reads one
//! recording after the other and decodes nothing else, as the command line does.

use crate::lock::lock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Once, Weak};

use gstreamer as gst;

use super::packets::Packets;

/// Complaints of one recording.
#[derive(Debug)]
pub(super) struct Complaints {
    packets: Arc<Packets>,
    count: AtomicU64,
    /// Position of the packets when the latest came.
    at: AtomicU64,
}

/// Set by [`hear_decoders`].
static ALONE: AtomicBool = AtomicBool::new(false);

/// Takes everything that libav's decoders log as said of the recording being read. For processes that read one
/// recording after the other and decode nothing else meanwhile.
pub fn hear_decoders() {
    ALONE.store(true, Ordering::Relaxed);
}

static HEARD: Mutex<Vec<Weak<Complaints>>> = Mutex::new(Vec::new());

impl Complaints {
    /// Listens until the result is dropped.
    pub fn hear(packets: Arc<Packets>) -> Arc<Self> {
        if ALONE.load(Ordering::Relaxed) {
            listen();
        }
        let complaints = Arc::new(Self { packets, count: AtomicU64::new(0), at: AtomicU64::new(0) });
        let mut heard = lock(&HEARD);
        heard.retain(|c| c.strong_count() > 0);
        heard.push(Arc::downgrade(&complaints));
        complaints
    }

    /// Notes a complaint, unless the decoder has only just entered a stream in its middle.
    pub fn note(&self) {
        if self.packets.under_way.load(Ordering::Relaxed) {
            self.at.store(self.packets.latest(), Ordering::Relaxed);
            self.count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many came since the last call, and where.
    pub fn take(&self) -> Option<(u64, u64)> {
        let n = self.count.swap(0, Ordering::Relaxed);
        (n > 0).then(|| (n, self.at.load(Ordering::Relaxed)))
    }
}

/// Hooks into GStreamer's log once. Its default writer, which prints to the terminal, stays only if the user asked for
/// it.
fn listen() {
    static HOOKED: Once = Once::new();
    HOOKED.call_once(|| {
        if std::env::var_os("GST_DEBUG").is_none() {
            gst::log::remove_default_log_function();
        }
        // The category exists once the plugin is loaded. What the user asked for with GST_DEBUG is not lowered.
        let _ = gst::Plugin::load_by_name("libav");
        match gst::DebugCategory::get("libav") {
            Some(libav) if libav.threshold() >= gst::DebugLevel::Error => {}
            Some(libav) => libav.set_threshold(gst::DebugLevel::Error),
            None => tracing::debug!("there is no libav to listen to"),
        }
        gst::log::add_log_function(|category, level, _, _, _, _, message| {
            if level != gst::DebugLevel::Error || category.name() != "libav" {
                return;
            }
            tracing::debug!("libav: {}", message.get().unwrap_or_default());
            let heard = lock(&HEARD);
            let mut alive = heard.iter().filter_map(Weak::upgrade);
            if let (Some(only), None) = (alive.next(), alive.next()) {
                only.note();
            }
        });
    });
}
