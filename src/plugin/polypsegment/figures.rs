//! What `polypsegment` counts.
//!
//! In: what happened with each frame and mask. Out: the structure that the property `stats` gives.

use gstreamer as gst;

use crate::distribution::Histogram;
use crate::frame::Nanos;
use crate::mailbox::Traffic;
use crate::safety::{Reason, State};

/// Since the element started.
#[derive(Clone)]
pub struct Figures {
    /// Frames that passed.
    pub frames: u64,
    /// Those that left with a mask.
    pub with_mask: u64,
    /// Frames that were not offered because the sink was late.
    pub shed: u64,
    /// Frames offered to the worker, and what became of them.
    pub traffic: Traffic,
    pub restarts: u32,
    /// What a mask took, from its frame's arrival to when it could be attached.
    pub masks: Histogram,
    /// What the network alone took.
    pub network: Histogram,
    /// What the element itself took of a frame's way.
    pub element: Histogram,
    pub state: State,
    pub reason: Reason,
    /// What it answers to a LATENCY query.
    pub latency: gst::ClockTime,
}

impl Default for Figures {
    fn default() -> Self {
        Self {
            frames: 0,
            with_mask: 0,
            shed: 0,
            traffic: Traffic::default(),
            restarts: 0,
            masks: Histogram::new(),
            network: Histogram::new(),
            element: Histogram::new(),
            state: State::WarmUp,
            reason: Reason::Starting,
            latency: gst::ClockTime::ZERO,
        }
    }
}

impl Figures {
    /// Times are in nanoseconds.
    pub fn structure(&self) -> gst::Structure {
        let times = |h: &Histogram| {
            let d = h.distribution(1.0);
            [d.p50, d.p99, d.max].map(|ns| Nanos(ns as u64).0)
        };
        let ([mask_p50, mask_p99, mask_max], [network_p50, network_p99, _], [element_p50, element_p99, _]) =
            (times(&self.masks), times(&self.network), times(&self.element));
        gst::Structure::builder("polypsegment-stats")
            .field("frames", self.frames)
            .field("analysed", self.masks.count())
            .field("superseded", self.traffic.superseded)
            .field("shed", self.shed)
            .field("with-mask", self.with_mask)
            .field("restarts", self.restarts)
            .field("mask-delay-p50", mask_p50)
            .field("mask-delay-p99", mask_p99)
            .field("mask-delay-max", mask_max)
            .field("network-p50", network_p50)
            .field("network-p99", network_p99)
            .field("element-p50", element_p50)
            .field("element-p99", element_p99)
            .field("latency", self.latency.nseconds())
            .field("state", self.state.name())
            .field("reason", self.reason.name())
            .build()
    }
}
