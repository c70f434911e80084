//! Pipeline files, as text. Elements are made later, by GStreamer's own parser and plug-ins: `tests/live` is for those.

use polypscope::capture::PipelineFile;

use super::taken;

pub fn run(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    let Some(file) = taken(PipelineFile::parse(text, "fuzz.toml")) else { return false };
    for (key, parameter) in file.parameters() {
        assert!(!key.is_empty() && !parameter.doc.is_empty());
    }
    assert!(!file.sinks().is_empty());
    true
}
