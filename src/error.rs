//! One error type for the whole crate: what went wrong, where, and what to do about it, in one sentence.
//!
//! In: a cause from any module. Out: the sentence a user reads and the exit code the process ends with.

use std::borrow::Cow;
use std::fmt;
use std::path::Path;

/// Result of every fallible call of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Who has to act on an [`Error`]; decides the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The command line or a configuration asks for something impossible (exit code 2).
    Usage,
    /// Something read from outside (video, image, checkpoint, pipeline file) is not what it should be (1).
    Input,
    /// Something could not be written (1).
    Output,
    /// The machine lacks something: a GStreamer element, a device, memory (1).
    Machine,
    /// The device or the network failed while running (1).
    Inference,
    /// A defect of ours (1).
    Internal,
}

/// What broke, for those who act on a failure instead of reading it: the safety state, the figures of a session,
/// whoever may try again. Set where the failure is noticed; nobody looks for it in the sentence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// The network gave NaN or infinity.
    NotANumber,
    /// The device does not answer any more, or cannot be used again by this process without a new context.
    DeviceLost,
    /// The device or the machine has no memory left.
    OutOfMemory,
    /// A thread panicked.
    Panicked,
}

/// A failure, as one sentence: what, where, and what to do.
///
/// The text is complete in itself: it names the file, stage, frame or key concerned. It is meant to be shown as it is.
pub struct Error(Box<Inner>);

struct Inner {
    kind: Kind,
    fault: Option<Fault>,
    what: String,
    remedy: Option<String>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// A failure of the given kind; `what` names the place and the fault, without a full stop.
    pub fn new(kind: Kind, what: impl Into<String>) -> Self {
        Self(Box::new(Inner { kind, fault: None, what: what.into(), remedy: None, source: None }))
    }

    /// Something impossible is asked for: [`Kind::Usage`], with `what` as in [`Error::new`].
    pub fn usage(what: impl Into<String>) -> Self {
        Self::new(Kind::Usage, what)
    }

    /// Something read from outside is wrong: [`Kind::Input`], with `what` as in [`Error::new`].
    pub fn input(what: impl Into<String>) -> Self {
        Self::new(Kind::Input, what)
    }

    /// Something cannot be written: [`Kind::Output`], with `what` as in [`Error::new`].
    pub fn output(what: impl Into<String>) -> Self {
        Self::new(Kind::Output, what)
    }

    /// The machine lacks something: [`Kind::Machine`], with `what` as in [`Error::new`].
    pub fn machine(what: impl Into<String>) -> Self {
        Self::new(Kind::Machine, what)
    }

    /// The device or the network fails: [`Kind::Inference`], with `what` as in [`Error::new`].
    pub fn inference(what: impl Into<String>) -> Self {
        Self::new(Kind::Inference, what)
    }

    /// A defect of ours: [`Kind::Internal`], with `what` as in [`Error::new`].
    pub fn internal(what: impl Into<String>) -> Self {
        Self::new(Kind::Internal, what)
    }

    /// A file that cannot be read.
    pub fn read(path: &Path, cause: std::io::Error) -> Self {
        let e = Self::input(format!("{}: cannot be read ({})", path.display(), plain(&cause)));
        let e = match cause.kind() {
            std::io::ErrorKind::NotFound => e.remedy("check the path"),
            std::io::ErrorKind::PermissionDenied => e.remedy("check its permissions"),
            _ => e,
        };
        e.because(cause)
    }

    /// A file or folder that cannot be written.
    pub fn write(path: &Path, cause: std::io::Error) -> Self {
        let e = Self::output(format!("{}: cannot be written ({})", path.display(), plain(&cause)));
        let e = match cause.kind() {
            std::io::ErrorKind::StorageFull => e.remedy("free some space or choose another folder"),
            std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::ReadOnlyFilesystem => {
                e.remedy("choose a folder you may write to")
            }
            _ => e,
        };
        e.because(cause)
    }

    /// What the reader should do, in the imperative, without a full stop.
    #[must_use]
    pub fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.0.remedy = Some(remedy.into());
        self
    }

    /// The cause underneath, kept for `-v`.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// Says what broke, for those who act on it.
    #[must_use]
    pub fn caused_by(mut self, fault: impl Into<Option<Fault>>) -> Self {
        self.0.fault = fault.into();
        self
    }

    /// Puts where it happened in front of the sentence.
    #[must_use]
    pub fn at(mut self, place: impl fmt::Display) -> Self {
        self.0.what = format!("{place}: {}", self.0.what);
        self
    }

    /// Who has to act on it.
    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    /// What broke, where that is one of the causes somebody acts on.
    pub fn fault(&self) -> Option<Fault> {
        self.0.fault
    }

    /// Exit code of a process that ends with this error (1 failed, 2 wrong usage).
    pub fn exit_code(&self) -> u8 {
        match self.0.kind {
            Kind::Usage => 2,
            _ => 1,
        }
    }
}

/// An I/O error without the "(os error N)" that means nothing to most readers.
fn plain(e: &std::io::Error) -> String {
    let text = e.to_string();
    match text.find(" (os error") {
        Some(at) => text[..at].to_lowercase(),
        None => text,
    }
}

/// A sentence with its middle left out where it is longer than anybody reads: a line of a foreign file may stand in it,
/// and that may have megabytes.
fn brief(what: &str) -> Cow<'_, str> {
    const MOST: usize = 4000;
    const END: usize = 500;
    if what.len() <= MOST {
        return what.into();
    }
    let (first, last) = (what.floor_char_boundary(MOST - END), what.ceil_char_boundary(what.len() - END));
    format!("{} … {}", &what[..first], &what[last..]).into()
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&brief(&self.0.what))?;
        if let Some(remedy) = &self.0.remedy {
            write!(f, "; {remedy}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {self}", self.0.kind)?;
        if let Some(fault) = self.0.fault {
            write!(f, " ({fault:?})")?;
        }
        if let Some(source) = &self.0.source {
            write!(f, " (cause: {source:?})")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_deref().map(|e| e as &(dyn std::error::Error + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_as_one_sentence_with_its_remedy() {
        let e = Error::input("no polyps.toml").remedy("write one").at("pipelines");
        assert_eq!(e.to_string(), "pipelines: no polyps.toml; write one");
        assert_eq!(e.exit_code(), 1);
        assert_eq!(Error::usage("x").exit_code(), 2);
    }

    #[test]
    fn what_a_foreign_file_says_makes_no_endless_sentence() {
        let e = Error::input(format!("a.csv: {} is no number", "é".repeat(100_000))).remedy("give one");
        let said = e.to_string();
        assert!(
            said.len() < 4100 && said.starts_with("a.csv: éé") && said.ends_with("é is no number; give one")
        );
        let short = Error::input("é".repeat(2000));
        assert_eq!(short.to_string().len(), 4000, "nothing is left out of what is short enough");
    }

    /// Rewording a sentence changes nothing for those who act on what broke.
    #[test]
    fn what_broke_travels_beside_the_sentence() {
        let e = Error::inference("whatever it says").caused_by(Fault::DeviceLost).at("frame 3").remedy("x");
        assert_eq!((e.fault(), e.kind()), (Some(Fault::DeviceLost), Kind::Inference));
        assert_eq!(Error::inference("CUDA is out of memory: not a number").fault(), None);
    }

    #[test]
    fn io_errors_lose_their_number_and_gain_a_remedy() {
        let e = Error::read(Path::new("a.mp4"), std::io::Error::from_raw_os_error(libc::ENOENT));
        assert_eq!(e.to_string(), "a.mp4: cannot be read (no such file or directory); check the path");
    }
}
