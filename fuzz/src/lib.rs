//! What the targets share: foreign bytes as a file, and what an error must look like.

use std::path::PathBuf;

/// The bytes as a file of this name, in a folder of this process's own.
pub fn file(name: &str, bytes: &[u8]) -> PathBuf {
    static FOLDER: std::sync::OnceLock<tempfile::TempDir> = std::sync::OnceLock::new();
    let path = FOLDER.get_or_init(|| tempfile::tempdir().expect("a folder")).path().join(name);
    std::fs::write(&path, bytes).expect("the folder can be written");
    path
}

/// What goes wrong is said in one sentence, without what steers a terminal.
pub fn is_a_sentence(e: &polypscope::Error) {
    let said = e.to_string();
    assert!(!said.is_empty() && said.len() < 8192, "{} bytes", said.len());
    assert!(!said.contains("panicked"), "{said}");
}
