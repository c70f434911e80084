//! Pipeline files: TOML with a source, sinks and parameters.
//!
//! In: the file's text, `--set key=value`, a sink's name. Out: [`Ready`]: launch lines without placeholders, every element
//! of which exists here.

use std::collections::BTreeMap;
use std::path::Path;

use gstreamer as gst;
use gstreamer::prelude::*;
use serde::Deserialize;

use super::parameter::Parameter;
use crate::{Error, Result, small_file};

/// Sinks every pipeline file may name.
const COMMON_SINKS: &str = include_str!("../../../pipelines/sinks.toml");

/// Longest time a source may be silent before it is started anew: a day.
const LONGEST_SILENCE_S: u64 = 86_400;

/// Longest file read: far more than anybody writes by hand.
const LONGEST: u64 = 1 << 20;

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SourceSection {
    /// Launch line whose last element's exit gives the raw video.
    launch: String,
    /// A device or network source: started anew when it fails or falls silent.
    #[serde(default)]
    restart: bool,
    /// Seconds without a frame after which it counts as lost.
    #[serde(default = "default_silence")]
    silence_s: u64,
}

fn default_silence() -> u64 {
    3
}

/// A sink by name.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SinkChoice {
    pub launch: String,
    pub doc: String,
    /// Takes the marks alone, as BGRA with an opacity: the card keys them over the signal.
    #[serde(default)]
    pub keyed: bool,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SinksFile {
    #[serde(default)]
    parameters: BTreeMap<String, Parameter>,
    sinks: BTreeMap<String, SinkChoice>,
}

/// A pipeline file as it was written.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PipelineFile {
    /// One sentence on what it is for.
    pub description: String,
    /// The sink used where none is asked for.
    pub default_sink: String,
    source: SourceSection,
    #[serde(default)]
    parameters: BTreeMap<String, Parameter>,
    /// Sinks of its own, or others in place of the common ones.
    #[serde(default)]
    sinks: BTreeMap<String, SinkChoice>,
    #[serde(skip)]
    name: String,
}

/// A file with its values: ready to be started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ready {
    /// The file's name, for messages.
    pub name: String,
    pub source: String,
    pub restart: bool,
    pub silence_s: u64,
    pub sink_name: String,
    pub sink: String,
    /// The sink takes the marks alone.
    pub keyed: bool,
}

impl PipelineFile {
    /// Reads a file.
    ///
    /// # Errors
    /// A file that cannot be read, that is not TOML, or that has keys nobody knows.
    pub fn open(path: &Path) -> Result<Self> {
        let text = small_file::read_text(path, LONGEST, "a pipeline file")?;
        Self::parse(&text, &path.display().to_string())
    }

    /// Reads text; `name` stands in messages.
    ///
    /// # Errors
    /// As [`PipelineFile::open`].
    pub fn parse(text: &str, name: &str) -> Result<Self> {
        let mut file: Self = toml::from_str(text).map_err(|e| wrong_toml(name, &e))?;
        let common: SinksFile = toml::from_str(COMMON_SINKS).map_err(|e| wrong_toml("sinks.toml", &e))?;
        for (key, sink) in common.sinks {
            file.sinks.entry(key).or_insert(sink);
        }
        for (key, parameter) in common.parameters {
            file.parameters.entry(key).or_insert(parameter);
        }
        file.name = name.to_owned();
        if file.source.silence_s > LONGEST_SILENCE_S {
            return Err(Error::input(format!("{name}: silence_s is {}", file.source.silence_s))
                .remedy(format!("give 1 to {LONGEST_SILENCE_S} seconds")));
        }
        if !file.sinks.contains_key(&file.default_sink) {
            return Err(file.no_sink(&file.default_sink));
        }
        Ok(file)
    }

    /// Parameters by name, those of the common sinks included.
    pub fn parameters(&self) -> &BTreeMap<String, Parameter> {
        &self.parameters
    }

    /// Sinks by name.
    pub fn sinks(&self) -> &BTreeMap<String, SinkChoice> {
        &self.sinks
    }

    fn no_sink(&self, name: &str) -> Error {
        let names: Vec<_> = self.sinks.keys().map(String::as_str).collect();
        Error::usage(format!("{}: there is no sink {name:?}", self.name))
            .remedy(format!("choose one of {}", names.join(", ")))
    }

    /// Fills in the values and checks that everything can start here.
    ///
    /// # Errors
    /// Unknown keys and placeholders, values of the wrong type, missing elements, lines that do not parse.
    pub fn ready(&self, sets: &[(String, String)], sink: Option<&str>) -> Result<Ready> {
        crate::capture::init()?;
        for (key, _) in sets {
            if !self.parameters.contains_key(key) {
                let names: Vec<_> = self.parameters.keys().map(String::as_str).collect();
                return Err(Error::usage(format!("{}: there is no parameter {key:?}", self.name))
                    .remedy(format!("choose among {}", names.join(", "))));
            }
        }
        let sink_name = sink.unwrap_or(&self.default_sink);
        let sink = self.sinks.get(sink_name).ok_or_else(|| self.no_sink(sink_name))?;
        let ready = Ready {
            name: self.name.clone(),
            source: self.fill(&self.source.launch, sets, "[source]")?,
            restart: self.source.restart,
            silence_s: self.source.silence_s.max(1),
            sink_name: sink_name.to_owned(),
            sink: self.fill(&sink.launch, sets, &format!("[sinks.{sink_name}]"))?,
            keyed: sink.keyed,
        };
        ready.check()?;
        Ok(ready)
    }

    /// Replaces `{name}` by values.
    fn fill(&self, launch: &str, sets: &[(String, String)], section: &str) -> Result<String> {
        let at = |e: Error| e.at(format!("{} {section}", self.name));
        // One line; values, which come later, keep their spaces.
        let launch = launch.split_whitespace().collect::<Vec<_>>().join(" ");
        let mut out = String::with_capacity(launch.len());
        let mut rest = launch.as_str();
        while let Some(open) = rest.find('{') {
            let close = rest[open..]
                .find('}')
                .ok_or_else(|| at(Error::input("a placeholder is not closed").remedy("write {name}")))?
                + open;
            out.push_str(&rest[..open]);
            let inside = &rest[open + 1..close];
            let (key, part) = match inside.split_once('.') {
                Some((k, p)) => (k, Some(p)),
                None => (inside, None),
            };
            let parameter = self.parameters.get(key).ok_or_else(|| {
                at(Error::input(format!("{{{inside}}}: there is no such parameter"))
                    .remedy(format!("describe it under [parameters.{key}]")))
            })?;
            if parameter.is_quoted() && !out.ends_with('=') {
                return Err(at(Error::input(format!("{{{inside}}}: text may only follow a property's ="))));
            }
            let value = sets.iter().rev().find(|(k, _)| k == key).map_or(&parameter.default, |(_, v)| v);
            out.push_str(&parameter.render(key, value, part).map_err(at)?);
            rest = &rest[close + 1..];
        }
        out.push_str(rest);
        Ok(out)
    }
}

impl Ready {
    /// Builds and drops both bins.
    fn check(&self) -> Result<()> {
        bin(&self.source, &self.name, "[source]", gst::PadDirection::Src)?;
        bin(&self.sink, &self.name, &format!("[sinks.{}]", self.sink_name), gst::PadDirection::Sink)?;
        Ok(())
    }
}

/// Packages of elements that pipeline files use.
const PACKAGES: &[(&str, &str)] = &[
    ("v4l2src", "gstreamer1.0-plugins-good"),
    ("decklinkvideosrc", "gstreamer1.0-plugins-bad"),
    ("decklinkvideosink", "gstreamer1.0-plugins-bad"),
    ("rtspsrc", "gstreamer1.0-plugins-good"),
    ("rtph264depay", "gstreamer1.0-plugins-good"),
    ("srtsrc", "gstreamer1.0-plugins-bad"),
    ("srtsink", "gstreamer1.0-plugins-bad"),
    ("kmssink", "gstreamer1.0-plugins-bad"),
    ("hlssink2", "gstreamer1.0-plugins-bad"),
    ("mpegtsmux", "gstreamer1.0-plugins-bad"),
    ("autovideosink", "gstreamer1.0-plugins-good"),
    ("xvimagesink", "gstreamer1.0-x"),
];

/// Name of the element at a line's open end.
const OPEN_END: &str = "polypscope-open-end";

/// Parses a launch line into a bin with one ghost pad in the direction given.
pub(super) fn bin(launch: &str, name: &str, section: &str, direction: gst::PadDirection) -> Result<gst::Bin> {
    let place = format!("{name} {section}");
    // The open end is an element of ours. GStreamer's own search for open pads would also take those that demuxers link
    // later, and a line cannot end with caps.
    let (line, end, pad) = match direction {
        gst::PadDirection::Src => (format!("{launch} ! identity name={OPEN_END} silent=true"), "exit", "src"),
        _ => (format!("identity name={OPEN_END} silent=true ! {launch}"), "entry", "sink"),
    };
    let mut context = gst::ParseContext::new();
    let parsed = gst::parse::bin_from_description_full(
        &line,
        false,
        Some(&mut context),
        gst::ParseFlags::FATAL_ERRORS,
    );
    let missing = context.missing_elements();
    if let Some(element) = missing.first() {
        let package = PACKAGES
            .iter()
            .chain(crate::capture::NEEDED)
            .find(|(n, _)| *n == element.as_str())
            .map(|(_, p)| *p);
        let error = Error::machine(format!("{place}: GStreamer has no element {element}"));
        return Err(match package {
            Some(p) => error.remedy(format!("install it with `apt-get install {p}`")),
            None => error.remedy("check its spelling, or install the plug-in it comes in"),
        });
    }
    let parsed = parsed.map_err(|e| {
        Error::input(format!("{place}: does not parse ({})", e.message().trim().trim_end_matches('.')))
            .remedy(
                "the source ends with raw video, a sink begins with it; compare with the files in pipelines/",
            )
            .because(e)
    })?;
    let bin = parsed.downcast::<gst::Bin>().map_err(|_| Error::internal(format!("{place}: is not a bin")))?;
    let open = bin.by_name(OPEN_END).and_then(|e| e.static_pad(pad));
    open.and_then(|open| gst::GhostPad::with_target(&open).ok())
        .and_then(|ghost| ghost.set_active(true).and_then(|()| bin.add_pad(&ghost)).ok())
        .ok_or_else(|| Error::internal(format!("{place}: has no {end}")))?;
    Ok(bin)
}

fn wrong_toml(name: &str, e: &toml::de::Error) -> Error {
    let message = e.message().trim().trim_end_matches('.').replace('\n', ", ");
    Error::input(format!("{name}: {message}")).remedy("compare with the files in pipelines/")
}
