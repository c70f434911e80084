//! Where frames come from, and in which order inputs are taken.
//!
//! In: paths a user named. Out: one [`Source`] after another, each giving frames until it ends.

use std::cmp::Ordering;
use std::path::{Path, PathBuf};

use gstreamer as gst;

use super::{Frame, Loss};
use crate::frame::{Nanos, PictureInfo};
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
    Frame(Frame),
    /// Nothing yet; ask again.
    Wait,
    Ended(Ended),
}

/// An encoded piece of the recording's sound, to be passed on as it is.
#[derive(Clone, Debug)]
pub struct SoundPacket {
    pub caps: gst::Caps,
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
    Recording(PathBuf),
    /// A folder of still pictures, in order.
    Stills {
        folder: PathBuf,
        files: Vec<PathBuf>,
    },
}

impl Input {
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
const PICTURES: &[&str] = &["png", "jpg", "jpeg", "bmp", "tif", "tiff", "webp"];

fn has_extension(path: &Path, list: &[&str]) -> bool {
    path.extension().and_then(|e| e.to_str()).is_some_and(|e| list.contains(&e.to_ascii_lowercase().as_str()))
}

/// Whether a path looks like a still picture.
pub(crate) fn is_picture(path: &Path) -> bool {
    has_extension(path, PICTURES)
}

/// What the named paths hold: files are recordings; a folder is all its videos or, if it has none, its pictures.
///
/// # Errors
/// A path that does not exist, a folder with neither.
pub fn discover_inputs(paths: &[PathBuf]) -> Result<Vec<Input>> {
    let mut inputs = Vec::new();
    for path in paths {
        let metadata = std::fs::metadata(path).map_err(|e| Error::read(path, e))?;
        if !metadata.is_dir() {
            inputs.push(Input::Recording(path.clone()));
            continue;
        }
        let files = list(path)?;
        let videos: Vec<_> = files.iter().filter(|f| has_extension(f, VIDEOS)).cloned().collect();
        let pictures: Vec<_> = files.into_iter().filter(|f| is_picture(f)).collect();
        if !videos.is_empty() {
            if !pictures.is_empty() {
                tracing::warn!(
                    "{}: holds videos; its {} pictures are left out",
                    path.display(),
                    pictures.len()
                );
            }
            inputs.extend(videos.into_iter().map(Input::Recording));
        } else if !pictures.is_empty() {
            inputs.push(Input::Stills { folder: path.clone(), files: pictures });
        } else {
            return Err(Error::input(format!("{}: holds neither videos nor pictures", path.display()))
                .remedy("name a folder that does, or the files themselves"));
        }
    }
    Ok(inputs)
}

/// The files of a folder as people count: `frame9` before `frame10`. Hidden files are left out.
pub(crate) fn list(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(|e| Error::read(folder, e))? {
        let path = entry.map_err(|e| Error::read(folder, e))?.path();
        let hidden = path.file_name().is_some_and(|n| n.as_encoded_bytes().starts_with(b"."));
        if path.is_file() && !hidden {
            files.push(path);
        }
    }
    files.sort_by(|a, b| natural(&a.to_string_lossy(), &b.to_string_lossy()));
    Ok(files)
}

/// Compares text with runs of digits taken as numbers.
fn natural(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a.as_bytes(), b.as_bytes());
    loop {
        match (a.first(), b.first()) {
            (None, None) => return Ordering::Equal,
            (None, _) => return Ordering::Less,
            (_, None) => return Ordering::Greater,
            (Some(x), Some(y)) if x.is_ascii_digit() && y.is_ascii_digit() => {
                let digits = |s: &[u8]| s.iter().take_while(|c| c.is_ascii_digit()).count();
                let ((na, ra), (nb, rb)) = (a.split_at(digits(a)), b.split_at(digits(b)));
                let strip = |s: &'_ [u8]| s.iter().position(|c| *c != b'0').unwrap_or(s.len());
                let (za, zb) = (&na[strip(na)..], &nb[strip(nb)..]);
                let order =
                    za.len().cmp(&zb.len()).then_with(|| za.cmp(zb)).then_with(|| na.len().cmp(&nb.len()));
                if order != Ordering::Equal {
                    return order;
                }
                (a, b) = (ra, rb);
            }
            (Some(x), Some(y)) if x != y => return x.cmp(y),
            _ => (a, b) = (&a[1..], &b[1..]),
        }
    }
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
    fn files_are_ordered_as_people_count() {
        let mut names = ["f10", "f9", "f1a", "f1", "f010", "f", "g", "f2"];
        names.sort_by(|a, b| natural(a, b));
        assert_eq!(names, ["f", "f1", "f1a", "f2", "f9", "f10", "f010", "g"]);
    }

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

    proptest::proptest! {
        #[test]
        fn the_order_is_one(a in "[a-c0-2]{0,6}", b in "[a-c0-2]{0,6}", c in "[a-c0-2]{0,6}") {
            assert_eq!(natural(&a, &b), natural(&b, &a).reverse());
            assert_eq!(natural(&a, &b) == Ordering::Equal, a == b);
            if natural(&a, &b).is_le() && natural(&b, &c).is_le() {
                assert!(natural(&a, &c).is_le());
            }
        }

        #[test]
        fn numbers_are_compared_as_numbers(a: u32, b: u32, stem in "[a-z]{0,3}") {
            assert_eq!(natural(&format!("{stem}{a}.png"), &format!("{stem}{b}.png")), a.cmp(&b));
        }
    }
}
