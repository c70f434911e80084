//! Pipeline files, as text. Elements are made later, by GStreamer's own parser and plug-ins: `tests/live` is for those.
#![no_main]

use libfuzzer_sys::fuzz_target;
use polypscope::capture::PipelineFile;
use polypscope_fuzz::is_a_sentence;

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match PipelineFile::parse(text, "fuzz.toml") {
        Err(e) => is_a_sentence(&e),
        Ok(file) => {
            for (key, parameter) in file.parameters() {
                assert!(!key.is_empty() && !parameter.doc.is_empty());
            }
            assert!(!file.sinks().is_empty());
        }
    }
});
