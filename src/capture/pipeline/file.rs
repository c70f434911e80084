//! Pipeline files: TOML with a source, sinks and parameters.
//!
//! In: the file's text, `--set key=value`, a sink's name. Out: [`Ready`]: launch lines with their values, every element
//! of which exists here and takes them.

use std::collections::BTreeMap;
use std::path::Path;

use gstreamer as gst;
use serde::Deserialize;

use super::launch::{Launch, Value};
use super::parameter::Parameter;
use crate::capture::address::without_secrets;
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
    /// The line that gives the raw video.
    pub source: Launch,
    /// The source is started anew when it fails, ends or falls silent.
    pub restart: bool,
    /// Seconds without a frame after which the source counts as lost, at least 1.
    pub silence_s: u64,
    /// The name of the sink that was chosen.
    pub sink_name: String,
    /// The line that takes the picture, or the marks alone.
    pub sink: Launch,
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
                let key = without_secrets(key, &[]);
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
        let usual = |launch, section: &str| self.fill(launch, &[], section).ok();
        let (source, sink) = (usual(&self.source.launch, ""), usual(&sink.launch, ""));
        ready.source.check(source.as_ref(), &ready.source_place(), gst::PadDirection::Src)?;
        ready.sink.check(sink.as_ref(), &ready.sink_place(), gst::PadDirection::Sink)?;
        Ok(ready)
    }

    /// Puts the values to a line's placeholders.
    fn fill(&self, launch: &str, sets: &[(String, String)], section: &str) -> Result<Launch> {
        Launch::new(launch, |key, part| {
            let parameter = self.parameters.get(key).ok_or_else(|| {
                let dot = part.map_or_else(String::new, |p| format!(".{p}"));
                Error::input(format!("{{{key}{dot}}}: there is no such parameter"))
                    .remedy(format!("describe it under [parameters.{key}]"))
            })?;
            // Of several values the last counts, so that a script's can be overridden.
            let given = sets.iter().rev().find(|(k, _)| k == key).map(|(_, v)| v);
            Ok(Value {
                parameter: key.to_owned(),
                doc: parameter.doc.clone(),
                text: parameter.checked(key, given.unwrap_or(&parameter.default), part)?,
                given: given.is_some(),
                is_word: !parameter.is_free_text(),
            })
        })
        .map_err(|e| e.at(format!("{} {section}", self.name)))
    }
}

impl Ready {
    /// Where the source's line stands, for messages.
    pub(super) fn source_place(&self) -> String {
        format!("{} [source]", self.name)
    }

    pub(super) fn sink_place(&self) -> String {
        format!("{} [sinks.{}]", self.name, self.sink_name)
    }

    /// Passwords among the values, which no message may show.
    pub(super) fn secrets(&self) -> Vec<String> {
        [self.source.secrets(), self.sink.secrets()].concat()
    }
}

fn wrong_toml(name: &str, e: &toml::de::Error) -> Error {
    let message = e.message().trim().trim_end_matches('.').replace('\n', ", ");
    Error::input(format!("{name}: {message}")).remedy("compare with the files in pipelines/")
}
