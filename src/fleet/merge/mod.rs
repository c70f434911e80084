//! An archive's results in a few files.
//!
//! In: a manifest and its store. Out: a folder with `frames.parquet`, `polyps.parquet`, `recordings.parquet`,
//! `failed.csv` (what is not whole, and why), `runs.parquet` (what it cost) and `report.html`. All but `runs.parquet`
//! and the page's last part are the same whoever computed the results, in the order of the manifest. Segments are read
//! one after the other, so memory does not grow with the archive.

mod page;
mod rows;
mod table;

use std::fs::File;
use std::io::{BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use self::page::Page;
use self::rows::Tables;
use super::manifest::{Manifest, Unit};
use super::outcome::{Ending, Outcome};
use super::status::last_failures;
use super::store::Store;
use super::unit::{Step, done, first, walk};
use super::work::outcome;
use crate::result_file::{Aside, folder_of, make_folder, not_named};
use crate::{Error, Result};

/// What a merge writes, and what it may replace.
const FILES: [&str; 6] =
    ["failed.csv", "frames.parquet", "polyps.parquet", "recordings.parquet", "report.html", "runs.parquet"];

/// Outcomes read at a time.
const AT_ONCE: usize = 256;

/// What a merge came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Merged {
    /// Recordings of the manifest.
    pub recordings: usize,
    /// Recordings with a result.
    pub with_result: usize,
    /// Lines of `failed.csv`.
    pub failed: usize,
    /// Frames of all results.
    pub frames: u64,
    /// Polyps of all results, without alarms too brief to be counted.
    pub polyps: u64,
}

/// How a recording stands.
#[derive(Clone, Copy)]
enum Standing<'a> {
    Result(&'a Outcome),
    /// Found out when it was planned.
    Problem(&'a str),
    /// Tried, and why it failed.
    Failed(&'a str),
    /// Not begun, or under way.
    Open,
}

impl Standing<'_> {
    fn name(&self) -> &'static str {
        match self {
            Self::Result(o) => o.found.ending.name(),
            Self::Problem(_) => Ending::Unreadable.name(),
            Self::Failed(_) => "failed",
            Self::Open => "open",
        }
    }

    fn reason(&self) -> Option<&str> {
        match self {
            Self::Result(o) => o.found.reason.as_deref(),
            Self::Problem(why) | Self::Failed(why) => Some(why),
            Self::Open => None,
        }
    }

    fn is_whole(&self) -> bool {
        matches!(self, Self::Result(o) if o.found.ending == Ending::Whole)
    }
}

/// A folder being written beside its place.
struct Folder {
    target: PathBuf,
    aside: Aside,
    force: bool,
}

impl Folder {
    fn create(target: &Path, force: bool) -> Result<Self> {
        if target.symlink_metadata().is_ok() {
            if !force {
                return Err(Error::output(format!("{}: exists already", target.display()))
                    .remedy("choose another --output, or add --force to replace it"));
            }
            let entries = std::fs::read_dir(target).map_err(|e| Error::write(target, e))?;
            let strange = entries.flatten().find(|e| !FILES.iter().any(|f| e.file_name() == *f));
            if let Some(strange) = strange {
                return Err(Error::output(format!(
                    "{}: holds {}, which no merge has written",
                    target.display(),
                    strange.file_name().to_string_lossy()
                ))
                .remedy("choose another --output"));
            }
        }
        let parent = folder_of(target);
        make_folder(parent)?;
        let aside = Aside::folder(parent).map_err(|e| Error::write(target, e))?;
        Ok(Self { target: target.to_owned(), aside, force })
    }

    fn file(&self, name: &str) -> Result<BufWriter<File>> {
        let file =
            File::options().write(true).create_new(true).mode(0o600).open(self.aside.path().join(name));
        Ok(BufWriter::with_capacity(1 << 16, file.map_err(|e| self.failed(name, e))?))
    }

    fn failed(&self, name: &str, e: std::io::Error) -> Error {
        Error::write(&self.target.join(name), e)
    }

    fn whole(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let mut file = self.file(name)?;
        file.write_all(bytes).and_then(|()| file.flush()).map_err(|e| self.failed(name, e))
    }

    fn publish(self) -> Result<()> {
        self.aside.publish(&self.target, self.force).map_err(|e| not_named(&self.target, e))
    }
}

/// Puts everything together in `target`. `progress` is told how many recordings have been read.
///
/// # Errors
/// A folder that holds other things, a store that does not answer or lacks a segment, a full disk.
pub fn merge(
    manifest: &Manifest,
    store: &Store,
    target: &Path,
    force: bool,
    progress: &mut dyn FnMut(usize),
) -> Result<Merged> {
    let folder = Folder::create(target, force)?;
    let numbers = manifest.head.settings.numbers()?;
    let failures = last_failures(store)?;
    let mut tables = Tables::create(&folder)?;
    let mut page = Page::new(manifest);
    let mut failed = Csv::new();
    let mut merged = Merged { recordings: manifest.units.len(), ..Merged::default() };
    for (batch, units) in manifest.units.chunks(AT_ONCE).enumerate() {
        let outcomes = outcomes(store, units)?;
        for (n, (unit, outcome)) in units.iter().zip(&outcomes).enumerate() {
            let standing = match (&unit.problem, outcome, failures.get(&unit.key)) {
                (Some(problem), _, _) => Standing::Problem(problem),
                (None, Some(outcome), _) => Standing::Result(outcome),
                (None, None, Some(why)) => Standing::Failed(why),
                (None, None, None) => Standing::Open,
            };
            if !standing.is_whole() {
                failed.line(&[
                    &unit.name,
                    standing.name(),
                    standing.reason().unwrap_or("no result yet"),
                    &unit.key,
                ]);
                merged.failed += 1;
            }
            tables.recording(unit, standing)?;
            page.recording(unit, standing);
            if let Standing::Result(o) = standing {
                merged.with_result += 1;
                merged.frames += o.found.frames;
                merged.polyps += o.found.polyps.len() as u64;
                walk(store, numbers.as_ref(), (&o.key, o.round, o.segments), &mut |step| {
                    match step {
                        Step::Frame(record, _) => tables.frame(unit, &record)?,
                        Step::Over(part) => page.best_frames(unit, o, &part.best_frames),
                    }
                    Ok(())
                })?;
            }
            progress(batch * AT_ONCE + n + 1);
        }
    }
    tables.finish()?;
    folder.whole("failed.csv", failed.0.as_bytes())?;
    folder.whole("report.html", page.html(&merged).as_bytes())?;
    folder.publish()?;
    Ok(merged)
}

/// The outcome of each unit: the one that stands, or a first try's.
fn outcomes(store: &Store, units: &[Unit]) -> Result<Vec<Option<Outcome>>> {
    let read = |name: fn(&str) -> String, wanted: &[bool]| -> Result<Vec<Option<Outcome>>> {
        let names: Vec<_> =
            units.iter().zip(wanted).filter(|(_, w)| **w).map(|(u, _)| name(&u.key)).collect();
        let mut bytes = store.read_all(&names)?.into_iter().zip(&names);
        let one = |w: &bool| match w.then(|| bytes.next()).flatten() {
            Some((Some(bytes), name)) => outcome(&bytes, name).map(Some),
            _ => Ok(None),
        };
        wanted.iter().map(one).collect()
    };
    let mut found = read(done, &vec![true; units.len()])?;
    let missing: Vec<_> = found.iter().map(Option::is_none).collect();
    for (one, other) in found.iter_mut().zip(read(first, &missing)?) {
        *one = one.take().or(other);
    }
    Ok(found)
}

/// Comma-separated values, as spreadsheets read them.
struct Csv(String);

impl Csv {
    fn new() -> Self {
        Self("recording,state,reason,key\r\n".to_owned())
    }

    fn line(&mut self, fields: &[&str]) {
        for (i, field) in fields.iter().enumerate() {
            if i > 0 {
                self.0.push(',');
            }
            // A field that a spreadsheet would take for a formula is text.
            let formula = field.starts_with(['=', '+', '-', '@', '\t']);
            if formula || field.contains([',', '"', '\n', '\r']) {
                let text = if formula { format!("'{field}") } else { (*field).to_owned() };
                self.0.push('"');
                self.0.push_str(&text.replace('"', "\"\""));
                self.0.push('"');
            } else {
                self.0.push_str(field);
            }
        }
        self.0.push_str("\r\n");
    }
}

#[cfg(test)]
mod tests;
