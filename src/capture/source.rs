//! Where frames come from, and in which order inputs are taken.
//!
//! In: paths a user named. Out: one [`Source`] after another, each giving frames until it ends.

use std::path::{Path, PathBuf};

use gstreamer as gst;

use super::content::{self, Content};
use super::{Frame, Loss};
use crate::frame::{Nanos, PictureInfo};
use crate::still::folder::entries;
use crate::still::names::{is_litter, is_picture};
use crate::{Error, Result};

/// The part of a recording to take, in the recording's own time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// First instant taken.
    pub from: Option<Nanos>,
    /// First instant no longer taken.
    pub to: Option<Nanos>,
}

/// How a source came to its end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ended {
    /// Why not everything could be read; `None` if it could.
    pub cut_off: Option<String>,
    /// What changed on the way and was made to fit, in a sentence.
    pub changed: Option<String>,
    /// What was lost on the way, in the order of the recording; [`Self::cut_off`] says it in words.
    pub losses: Vec<Loss>,
}

/// What a source gives when asked.
#[derive(Debug)]
pub enum Next {
    /// The next frame.
    Frame(Frame),
    /// Nothing yet; ask again.
    Wait,
    /// No frame comes any more.
    Ended(Ended),
}

/// An encoded piece of the recording's sound, to be passed on as it is.
#[derive(Clone, Debug)]
pub struct SoundPacket {
    /// How it is encoded.
    pub caps: gst::Caps,
    /// Its bytes and their times.
    pub buffer: gst::Buffer,
}

/// Anything that gives frames in order.
pub trait Source: Send {
    /// The next frame. Waits a moment at most, so that the caller can look whether it should stop.
    ///
    /// Frames that cannot be read keep their numbers: the next frame's number is higher by as many.
    ///
    /// # Errors
    /// A source that gives no frame at all; later failures end it ([`Ended::cut_off`]).
    fn next(&mut self) -> Result<Next>;

    /// What the input is called.
    fn path(&self) -> &Path;

    /// How many frames are to come, if that can be told beforehand.
    fn expected_frames(&self) -> Option<u64>;

    /// Frames a second, if constant and known.
    fn fps(&self) -> Option<f64>;

    /// What has been lost so far, for those who stop before the end; [`Ended::losses`] has all of it.
    fn losses(&self) -> Vec<Loss> {
        Vec::new()
    }

    /// Pieces of sound read so far and not yet fetched.
    fn sound(&mut self) -> Vec<SoundPacket> {
        Vec::new()
    }
}

/// One thing to replay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// A video file.
    Recording(PathBuf),
    /// A folder of still pictures, in order.
    Stills {
        /// The folder, as it was named.
        folder: PathBuf,
        /// Its pictures as people count, `frame9` before `frame10`.
        files: Vec<PathBuf>,
    },
}

impl Input {
    /// The file or the folder.
    pub fn path(&self) -> &Path {
        match self {
            Input::Recording(p) => p,
            Input::Stills { folder, .. } => folder,
        }
    }
}

const VIDEOS: &[&str] = &[
    "mp4", "m4v", "mov", "mkv", "webm", "avi", "ts", "m2ts", "mts", "mpg", "mpeg", "m2v", "vob", "mxf",
    "wmv", "asf", "flv", "ogv", "3gp", "dv", "mjpg", "mjpeg", "h264", "264", "h265", "265", "hevc", "divx",
];

fn has_extension(path: &Path, list: &[&str]) -> bool {
    path.extension().and_then(|e| e.to_str()).is_some_and(|e| list.contains(&e.to_ascii_lowercase().as_str()))
}

/// Whether a file's name is a video's: all there is to go by where looking into it means fetching it.
pub(crate) fn is_named_as_video(path: &Path) -> bool {
    has_extension(path, VIDEOS)
}

/// Files that recorders, players and people put beside recordings; they are counted but not named.
const BESIDE: &[&str] = &[
    "jsonl", "json", "srt", "vtt", "ass", "ssa", "sub", "idx", "xml", "txt", "csv", "tsv", "md", "html",
    "htm", "pdf", "log", "nfo", "ini", "db", "lnk", "url", "ifo", "bup", "cpi", "mpl", "bdm", "moi", "thm",
    "bim", "modd", "ctg", "cfg", "md5", "sha256",
];
const SOUNDS: &[&str] = &[
    "mp3", "mp2", "m4a", "m4b", "m4r", "aac", "wav", "flac", "ogg", "oga", "opus", "wma", "mka", "aif",
    "aiff", "ac3",
];

/// Why a file of a folder is not replayed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SkipReason {
    /// Something else, in words where that is known.
    NoVideo(Option<String>),
    /// A file without bytes.
    Empty,
    /// A folder whose name looks like a video's.
    Folder,
    /// A pipe, a socket or a device.
    NoFile,
    /// A link that leads nowhere or in a circle.
    BrokenLink,
    /// It may be a video, but cannot be read; why.
    Unreadable(String),
}

impl std::fmt::Display for SkipReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NoVideo(None) => f.write_str("not a video GStreamer knows"),
            Self::NoVideo(Some(what)) => write!(f, "not a video but {what}"),
            Self::Empty => f.write_str("empty"),
            Self::Folder => f.write_str("a folder"),
            Self::NoFile => f.write_str("a pipe or a device"),
            Self::BrokenLink => f.write_str("a link that leads nowhere"),
            Self::Unreadable(why) => write!(f, "cannot be read ({why})"),
        }
    }
}

/// A file of a folder that is not replayed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// The file.
    pub path: PathBuf,
    /// Why it is not replayed.
    pub reason: SkipReason,
}

/// What a folder holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Holdings {
    videos: Vec<PathBuf>,
    pictures: Vec<PathBuf>,
    skipped: Vec<Skipped>,
    /// Sidecars and folders.
    others: usize,
}

impl Holdings {
    fn of(folder: &Path) -> Result<Self> {
        let mut holdings = Self::default();
        for path in entries(folder)? {
            if !is_hidden(&path) {
                holdings.add(path);
            }
        }
        Ok(holdings)
    }

    fn add(&mut self, path: PathBuf) {
        let reason = match path.metadata() {
            Err(e) if e.kind() == std::io::ErrorKind::PermissionDenied => {
                SkipReason::Unreadable("permission denied".into())
            }
            Err(_) => SkipReason::BrokenLink,
            Ok(m) if m.is_dir() => {
                if !has_extension(&path, VIDEOS) {
                    self.others += 1;
                    return;
                }
                SkipReason::Folder
            }
            Ok(m) if !m.is_file() => SkipReason::NoFile,
            Ok(_) if is_picture(&path) => return self.pictures.push(path),
            // What is called a video and cannot be played is an error, not left out.
            Ok(_) if has_extension(&path, VIDEOS) => return self.videos.push(path),
            Ok(_) if has_extension(&path, BESIDE) || path.file_name().is_some_and(|n| n == "DICOMDIR") => {
                self.others += 1;
                return;
            }
            Ok(_) if has_extension(&path, SOUNDS) => SkipReason::NoVideo(Some("sound".into())),
            Ok(_) => match content::of(&path) {
                Ok(Content::Video) => return self.videos.push(path),
                Ok(Content::Other(what)) => SkipReason::NoVideo(what),
                Ok(Content::Empty) => SkipReason::Empty,
                Err(e) if e.kind() == std::io::ErrorKind::PermissionDenied => {
                    SkipReason::Unreadable("permission denied".into())
                }
                Err(e) => SkipReason::Unreadable(e.kind().to_string()),
            },
        };
        self.skipped.push(Skipped { path, reason });
    }
}

/// What is to be replayed, and what of the folders is not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Discovered {
    /// In the order they were named; those of one folder as people count.
    pub inputs: Vec<Input>,
    /// In the same order; sidecars and folders in the folder are left out.
    pub skipped: Vec<Skipped>,
}

impl Discovered {
    /// Whether something may be a video and could not be looked at.
    pub fn is_partial(&self) -> bool {
        self.skipped.iter().any(|s| matches!(s.reason, SkipReason::Unreadable(_) | SkipReason::BrokenLink))
    }
}

/// What the named paths hold, as [`discover`].
///
/// # Errors
/// As [`discover`].
pub fn discover_inputs(paths: &[PathBuf]) -> Result<Vec<Input>> {
    Ok(discover(paths)?.inputs)
}

/// What the named paths hold: files are recordings; a folder is all its videos, told by their content, or, if it has
/// none, its pictures. What else the folder holds is named once.
///
/// # Errors
/// A path that does not exist or is a pipe or a device, a folder with neither.
pub fn discover(paths: &[PathBuf]) -> Result<Discovered> {
    super::init()?;
    let mut all = Discovered::default();
    for path in paths {
        let metadata = std::fs::metadata(path).map_err(|e| Error::read(path, e))?;
        if !metadata.is_dir() {
            refuse_special(path, &metadata)?;
            all.inputs.push(Input::Recording(path.clone()));
            continue;
        }
        let Holdings { videos, pictures, skipped, others } = Holdings::of(path)?;
        name_skipped(path, &skipped, others);
        if !videos.is_empty() {
            if !pictures.is_empty() {
                tracing::warn!(
                    "{}: holds videos; its {} pictures are left out",
                    path.display(),
                    pictures.len()
                );
            }
            all.inputs.extend(videos.into_iter().map(Input::Recording));
        } else if !pictures.is_empty() {
            all.inputs.push(Input::Stills { folder: path.clone(), files: pictures });
        } else {
            return Err(Error::input(format!("{}: holds neither videos nor pictures", path.display()))
                .remedy("name a folder that does, or the files themselves"));
        }
        all.skipped.extend(skipped);
    }
    Ok(all)
}

/// What one folder holds, told by content; folders in it are not looked into.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Contents {
    pub videos: Vec<PathBuf>,
    pub pictures: Vec<PathBuf>,
    pub skipped: Vec<Skipped>,
}

/// See [`Contents`].
///
/// # Errors
/// A folder that cannot be read.
pub(crate) fn contents(folder: &Path) -> Result<Contents> {
    super::init()?;
    let Holdings { videos, pictures, skipped, .. } = Holdings::of(folder)?;
    Ok(Contents { videos, pictures, skipped })
}

/// Reading a pipe or a device may never end.
///
/// # Errors
/// Anything but a file.
pub(super) fn refuse_special(path: &Path, metadata: &std::fs::Metadata) -> Result<()> {
    if metadata.is_file() || metadata.is_dir() {
        return Ok(());
    }
    Err(Error::input(format!("{}: is a pipe or a device, not a file", path.display()))
        .remedy("copy it into a file first"))
}

/// Says once what of a folder is left out. Sidecars are only counted.
fn name_skipped(folder: &Path, skipped: &[Skipped], others: usize) {
    const NAMED: usize = 20;
    if skipped.is_empty() {
        tracing::debug!("{}: {others} sidecars and folders are left out", folder.display());
        return;
    }
    let mut names: Vec<String> = skipped
        .iter()
        .take(NAMED)
        .map(|s| format!("{} ({})", s.path.file_name().unwrap_or_default().to_string_lossy(), s.reason))
        .collect();
    if skipped.len() > NAMED {
        names.push(format!("{} more", skipped.len() - NAMED));
    }
    if others > 0 {
        names.push(format!("{others} sidecars and folders"));
    }
    tracing::warn!("{}: left out are {}", folder.display(), names.join(", "));
}

fn is_hidden(path: &Path) -> bool {
    path.file_name().is_some_and(is_litter)
}

/// A frame that does not fit the first is reported with both sizes.
pub(super) fn size_change(first: &PictureInfo, w: u32, h: u32) -> String {
    format!(
        "the picture's size changes from {}x{} to {w}x{h}; later frames were fitted into the first size",
        first.width, first.height
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_give_their_videos_or_else_their_pictures() {
        let dir = tempfile::tempdir().unwrap();
        let touch = |n: &str| std::fs::write(dir.path().join(n), b"x").unwrap();
        let at = |n: &str| dir.path().join(n);
        let e = discover_inputs(&[dir.path().to_owned()]).unwrap_err().to_string();
        assert!(e.contains("neither videos nor pictures"), "{e}");
        touch("2.png");
        touch("10.png");
        touch("notes.txt");
        touch(".hidden.png");
        assert_eq!(
            discover_inputs(&[dir.path().to_owned()]).unwrap(),
            [Input::Stills { folder: dir.path().to_owned(), files: vec![at("2.png"), at("10.png")] }]
        );
        touch("b.MP4");
        touch("a.mkv");
        assert_eq!(
            discover_inputs(&[dir.path().to_owned()]).unwrap(),
            [Input::Recording(at("a.mkv")), Input::Recording(at("b.MP4"))]
        );
        let e = discover_inputs(&[at("none.mp4")]).unwrap_err().to_string();
        assert!(e.contains("none.mp4") && e.contains("check the path"), "{e}");
    }
}
