//! Recordings of a few tiny frames, in each container whose structure is walked.

use gstreamer as gst;
use gstreamer::prelude::*;

use super::{Seed, seed};

/// Encoder and muxer, and the name of the file that they make.
const KINDS: &[(&str, &str)] = &[
    ("plain.mp4", "x264enc ! mp4mux"),
    ("index-first.mp4", "x264enc ! mp4mux faststart=true"),
    ("fragments.mp4", "x264enc key-int-max=2 ! mp4mux fragment-duration=40"),
    ("plain.mov", "jpegenc ! qtmux"),
    ("plain.mkv", "x264enc ! matroskamux"),
    ("growing.mkv", "x264enc ! matroskamux streamable=true"),
    ("plain.webm", "vp8enc ! webmmux"),
    ("plain.avi", "jpegenc ! avimux"),
    ("plain.flv", "x264enc ! flvmux"),
    ("plain.ogv", "theoraenc ! oggmux"),
    ("plain.asf", "avenc_wmv2 ! asfmux"),
    ("plain.mxf", "x264enc ! h264parse ! mxfmux"),
    ("plain.mpg", "x264enc ! mpegpsmux"),
    ("plain.ts", "x264enc ! mpegtsmux"),
    ("blu-ray.ts", "x264enc ! mpegtsmux m2ts-mode=true"),
];

pub fn containers() -> Vec<Seed> {
    gst::init().expect("GStreamer starts");
    let folder = tempfile::tempdir().expect("a folder");
    KINDS
        .iter()
        .map(|(name, coding)| {
            let path = folder.path().join(name);
            let line = format!(
                "videotestsrc num-buffers=4 ! video/x-raw,width=32,height=32,framerate=25/1 ! {coding} ! \
                 filesink location={}",
                path.display()
            );
            let pipeline = gst::parse::launch(&line).unwrap_or_else(|e| panic!("{name}: {e}"));
            pipeline.set_state(gst::State::Playing).unwrap_or_else(|e| panic!("{name}: {e}"));
            let bus = pipeline.bus().expect("a pipeline has a bus");
            let end = bus.timed_pop_filtered(None, &[gst::MessageType::Eos, gst::MessageType::Error]);
            pipeline.set_state(gst::State::Null).expect("it stops");
            assert_eq!(end.expect("no deadline").type_(), gst::MessageType::Eos, "{name}");
            seed(name, std::fs::read(&path).expect("it was written"))
        })
        .collect()
}
