//! Outlines polyps in a GStreamer pipeline of one's own, and follows its frames:
//! `cargo run --release --example follow_frames -- 'filesrc location=procedure.mp4 ! decodebin ! videoconvert'`.
//!
//! In: a launch line that ends with raw video, and how many frames to follow (300). Out: a line for each of them: its
//! number, the state, and how old the mask on it is. The picture goes to a sink that throws it away; put
//! `autovideosink` there to see it.

use std::io::Write;
use std::time::Duration;

use gstreamer as gst;
use gstreamer::prelude::*;
use polypscope::engine::{self, Options};
use polypscope::live::{OverlayGraph, OverlayGraphSettings};
use polypscope::model::Checkpoint;
use polypscope::preprocess::FieldOfView;
use polypscope::segment::Segmenter;
use polypscope::telemetry::Event;
use polypscope::worker::FrameAnalyzer;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let source = arguments.next().unwrap_or_else(|| {
        "videotestsrc is-live=true pattern=ball ! video/x-raw,format=NV12,width=640,height=480,framerate=30/1".into()
    });
    let wanted = arguments.next().map_or(Ok(300), |frames| frames.parse::<u32>())?;
    let checkpoint = Checkpoint::open(&Checkpoint::locate(None)?)?;
    let threshold = checkpoint.description().threshold;
    // Called in the worker's own thread, and again whenever a worker has failed.
    let factory = move |_worker: usize| -> polypscope::Result<Box<dyn FrameAnalyzer>> {
        let options = Options { size: Some((160, 160)), ..Options::default() };
        let network = engine::open(&checkpoint, options)?;
        Ok(Box::new(Segmenter::new(network, checkpoint.description(), FieldOfView::Full, None)))
    };
    let settings = OverlayGraphSettings { threshold, ..OverlayGraphSettings::default() };
    let (graph, events) = OverlayGraph::new(settings, Box::new(factory))?;

    // The overlay is an element like any other: it draws in place, and never waits for the network.
    let pipeline = gst::parse::launch(&format!("{source} ! queue name=entry"))?
        .downcast::<gst::Pipeline>()
        .map_err(|_| "the launch line is a single element")?;
    let sink = gst::ElementFactory::make("fakesink").property("sync", true).build()?;
    let overlay = graph.overlay().clone();
    pipeline.add_many([&overlay, &sink])?;
    let entry = pipeline.by_name("entry").ok_or("no entry")?;
    gst::Element::link_many([&entry, &overlay, &sink])?;
    // From these two pads come the delays in the events.
    let pad = |element: &gst::Element, name: &str| element.static_pad(name).ok_or("no such pad");
    graph.watch_pads(&pad(&entry, "src")?, &pad(&sink, "sink")?);
    pipeline.set_state(gst::State::Playing)?;

    let mut out = std::io::stdout();
    let mut frames = 0;
    while frames < wanted {
        let Ok(event) = events.receiver.recv_timeout(Duration::from_secs(30)) else { break };
        match event {
            Event::Frame(f) => {
                frames += 1;
                match f.shown {
                    Some(mask) => {
                        let age = mask.age.as_micros_f64() / 1e3;
                        writeln!(
                            out,
                            "{}: {}, mask of {}, {age:.0} ms old",
                            f.frame,
                            f.state.name(),
                            mask.of
                        )?;
                    }
                    None => writeln!(out, "{}: {}, no mask", f.frame, f.state.name())?,
                }
            }
            Event::State(change) => {
                writeln!(out, "{} because of {}", change.to.name(), change.reason.name())?
            }
            _ => {}
        }
    }
    pipeline.set_state(gst::State::Null)?;
    Ok(())
}
