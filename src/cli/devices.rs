//! `polypscope devices`: capture devices and their modes.

use clap::Args as ClapArgs;
use gstreamer as gst;
use gstreamer::prelude::*;
use serde::Serialize;

use super::{Context, Outcome};
use crate::{Error, Result};

/// Lists what GStreamer finds to capture from, and how to use it.
#[derive(Debug, ClapArgs)]
pub struct Args {}

#[derive(Debug, Serialize)]
struct Device {
    name: String,
    /// `v4l2`, `decklink` or what else provides it.
    provider: String,
    /// Its node or number, where it says.
    node: Option<String>,
    modes: Vec<String>,
    /// How `live` captures from it.
    usage: Option<String>,
}

/// A mode in few words.
fn mode(s: &gst::StructureRef) -> String {
    let part = |field: &str| s.value(field).ok().and_then(|v| v.serialize().ok()).map(|t| t.to_string());
    let plain = |text: String| text.replace("(string)", "").replace("(int)", "").replace("(fraction)", "");
    let kind = match s.name().as_str() {
        "video/x-raw" => part("format").map_or("raw".into(), plain),
        other => other.trim_start_matches("video/").trim_start_matches("image/").to_owned(),
    };
    let size = match (part("width"), part("height")) {
        (Some(w), Some(h)) => format!(" {}x{}", plain(w), plain(h)),
        _ => String::new(),
    };
    let rate = part("framerate").map_or(String::new(), |r| format!(" at {}", plain(r)));
    format!("{kind}{size}{rate}")
}

fn describe(device: &gst::Device) -> Device {
    let properties = device.properties();
    let text = |key: &str| properties.as_ref().and_then(|p| p.get::<String>(key).ok());
    let number = properties.as_ref().and_then(|p| p.get::<i32>("device-number").ok()).map(|n| n.to_string());
    let node = text("api.v4l2.path").or_else(|| text("device.path")).or(number);
    let kind = device.type_().name().to_lowercase();
    let provider = ["v4l2", "decklink", "pipewire"].into_iter().find(|p| kind.contains(p)).unwrap_or("other");
    let usage = match (provider, &node) {
        ("v4l2", Some(n)) => Some(format!("--pipeline pipelines/v4l2.toml --set device={n}")),
        ("decklink", Some(n)) => Some(format!("--pipeline pipelines/decklink.toml --set input={n}")),
        _ => None,
    };
    let modes = device.caps().map_or_else(Vec::new, |caps| caps.iter().map(mode).collect());
    Device { name: device.display_name().into(), provider: provider.into(), node, modes, usage }
}

pub fn run(_args: &Args, context: &mut Context) -> Result<Outcome> {
    crate::capture::init()?;
    let monitor = gst::DeviceMonitor::new();
    monitor.add_filter(Some("Video/Source"), None);
    monitor.start().map_err(|e| {
        Error::machine("capture devices cannot be listed").remedy("run `polypscope doctor`").because(e)
    })?;
    let devices: Vec<Device> = monitor.devices().iter().map(describe).collect();
    monitor.stop();
    if context.json {
        return context.json(&serde_json::json!({ "devices": devices })).map(|()| Outcome::Done);
    }
    if devices.is_empty() {
        context.say("no capture device was found: V4L2 devices appear as /dev/video*, DeckLink cards need Blackmagic's driver")?;
        context.say("without one, try `polypscope live --pipeline pipelines/phantom.toml`")?;
    }
    for d in &devices {
        let node = d.node.as_ref().map_or(String::new(), |n| format!(" ({n})"));
        context.say(format!("{}{node}, {}", d.name, d.provider))?;
        if let Some(usage) = &d.usage {
            context.say(format!("  polypscope live {usage}"))?;
        }
        for mode in &d.modes {
            context.say(format!("  {mode}"))?;
        }
    }
    Ok(Outcome::Done)
}
