//! Tests that cannot run here: each says so on the terminal, whatever the test runner captures, and in the list that
//! `make test` prints at its end.
//!
//! In: what is missing, by a short name, and a sentence. Out: a line on standard error (once for each sentence and
//! process), a line in the file that `POLYPSCOPE_SKIPS` names, and a failure where `POLYPSCOPE_REQUIRE`, a list with
//! commas, holds the name: `.ci/run` names what its machine has. The crate's own tests use this file too.
#![allow(dead_code)]

use std::collections::BTreeSet;
use std::io::Write;
use std::sync::Mutex;

static SAID: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// Notes that the test (or a part of it) is left out, since `need` is missing: `return skip("browser", "no Chromium on
/// the path")`.
pub fn skip(need: &str, why: impl std::fmt::Display) {
    let why = why.to_string();
    let required = std::env::var("POLYPSCOPE_REQUIRE").unwrap_or_default();
    assert!(!required.split(',').any(|r| r == need), "{need} is required here, and {why}");
    let test = std::thread::current().name().unwrap_or("?").to_owned();
    if let Some(path) = std::env::var_os("POLYPSCOPE_SKIPS") {
        let line = format!("{need}\t{why}\t{test}\n");
        // One write to a file opened for appending: lines of test programs that run at the same time do not mix.
        let written = std::fs::OpenOptions::new()
            .append(true)
            .create(true)
            .open(&path)
            .and_then(|mut file| file.write_all(line.as_bytes()));
        assert!(written.is_ok(), "{}: {written:?}", path.display());
    }
    if SAID.lock().is_ok_and(|mut said| said.insert(format!("{need} {why}"))) {
        // Written past the test runner, which keeps what a passing test prints with `eprintln!` to itself.
        let _ = std::io::stderr().write_all(format!("SKIPPED ({need}): {why}\n").as_bytes());
    }
}
