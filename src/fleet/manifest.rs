//! The manifest: which recordings there are, and what is to be computed of them.
//!
//! In: units as [`plan`](super::plan()) finds them. Out: a file of one JSON object a line, the first about the whole,
//! the others a unit each. It is the only place that holds the recordings' names, so it stays with whoever may know
//! them.

use std::collections::HashSet;
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::settings::Settings;
use crate::hexadecimal::hexadecimal;
use crate::result_file::ResultFile;
use crate::small_file;
use crate::{Error, Result};

const FORMAT: u32 = 1;

/// The first line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Head {
    /// 1: this form of the manifest.
    pub polypscope_fleet: u32,
    /// Version of the program that wrote it.
    pub version: String,
    /// Where results go: a folder or `s3://BUCKET/PREFIX`.
    pub store: String,
    /// The checkpoint's name.
    pub checkpoint: String,
    /// SHA-256 of its file in lower-case hexadecimal.
    pub checkpoint_sha256: String,
    /// What results depend on besides recordings and checkpoint.
    pub settings: Settings,
    /// Into how many shards the work is cut, of about equal frames.
    pub shards: usize,
    /// How many lines of units follow.
    pub units: usize,
}

/// A recording.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Unit {
    /// Names its result.
    pub key: String,
    /// What results call it: its path, or a digest of that.
    pub name: String,
    /// Where it is: an absolute path or `s3://BUCKET/KEY`.
    pub path: String,
    /// A folder of pictures instead of a file.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stills: bool,
    /// SHA-256 of all of it, or `ends:` and that of its length and ends.
    pub content: String,
    /// SHA-256 of its length, its first and its last MiB: what is looked at again before it is worked on.
    pub ends: String,
    /// Length of the file, or of all pictures of the folder together.
    pub bytes: u64,
    /// As its container says, or a guess from its bytes.
    pub frames: u64,
    /// As its container says.
    pub seconds: Option<f64>,
    /// Why it cannot be worked on, found out by looking into it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// See the module.
#[derive(Clone, Debug, PartialEq)]
pub struct Manifest {
    /// What holds for all units.
    pub head: Head,
    /// The recordings, in the order in which they were found.
    pub units: Vec<Unit>,
}

/// The key of a unit, from the digest of what is done and of what it is done with.
pub fn key(digest: &str, content: &str) -> String {
    let mut all = Sha256::new();
    all.update(digest.as_bytes());
    all.update([0]);
    all.update(content.as_bytes());
    // Half of a digest: no two of any number of recordings meet, and paths stay short.
    hexadecimal(&all.finalize()[..16])
}

impl Manifest {
    /// Writes it; with `force` in place of one that is there.
    ///
    /// # Errors
    /// A file that is there, a folder that is not, a full disk.
    pub fn write(&self, path: &Path, force: bool) -> Result<()> {
        let json = |e| Error::internal("the manifest cannot be put into JSON").because(e);
        let mut file = ResultFile::create(path, force)?;
        file.line(&serde_json::to_string(&self.head).map_err(json)?)?;
        for unit in &self.units {
            file.line(&serde_json::to_string(unit).map_err(json)?)?;
        }
        file.finish()
    }

    /// Reads one.
    ///
    /// # Errors
    /// A file that is missing or is no manifest, one that was cut off, one of another form.
    pub fn read(path: &Path) -> Result<Self> {
        let at = path.display();
        let wrong = |what: String| {
            Error::usage(format!("{at}: {what}"))
                .remedy("write the manifest again with `polypscope fleet plan`")
        };
        let text = small_file::read(path, 4 << 30, "a manifest")?;
        let mut lines = text.split(|b| *b == b'\n').enumerate().filter(|(_, l)| !l.is_empty());
        let (_, first) = lines.next().ok_or_else(|| wrong("is empty, and no manifest".into()))?;
        let head: Head =
            serde_json::from_slice(first).map_err(|e| wrong(format!("is no manifest ({e})")).because(e))?;
        if head.polypscope_fleet != FORMAT {
            return Err(wrong(format!(
                "is a manifest of form {}, and this program reads {FORMAT}",
                head.polypscope_fleet
            )));
        }
        let mut units = Vec::with_capacity(head.units.min(1 << 20));
        for (n, line) in lines {
            let unit: Unit =
                serde_json::from_slice(line).map_err(|e| wrong(format!("line {}: {e}", n + 1)))?;
            if unit.key.is_empty() || !unit.key.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(wrong(format!("line {}: the key is not made of hexadecimal digits", n + 1)));
            }
            units.push(unit);
        }
        if units.len() != head.units {
            return Err(wrong(format!(
                "has {} of {} units: it was cut off or changed",
                units.len(),
                head.units
            )));
        }
        Ok(Self { head, units })
    }

    pub(super) fn head(
        store: String,
        checkpoint: (String, String),
        settings: Settings,
        shards: usize,
        units: usize,
    ) -> Head {
        let version = env!("CARGO_PKG_VERSION").to_owned();
        let (checkpoint, checkpoint_sha256) = checkpoint;
        Head {
            polypscope_fleet: FORMAT,
            version,
            store,
            checkpoint,
            checkpoint_sha256,
            settings,
            shards,
            units,
        }
    }

    /// Whether this program would come to the results that the keys name.
    ///
    /// # Errors
    /// A manifest written by another version of this program, or changed by hand.
    pub fn check_keys(&self) -> Result<()> {
        let digest = self.head.settings.digest(&self.head.checkpoint_sha256)?;
        match self.units.iter().find(|u| u.key != key(&digest, &u.content)) {
            None => Ok(()),
            Some(_) => Err(Error::usage(format!(
                "the manifest was written by version {} of this program, or changed since: this one comes to other results",
                self.head.version
            ))
            .remedy("write the manifest again with `polypscope fleet plan`")),
        }
    }

    /// Every key once, in the order of the manifest.
    pub(super) fn keys(&self) -> Vec<&Unit> {
        let mut seen = HashSet::with_capacity(self.units.len());
        self.units.iter().filter(|u| seen.insert(u.key.as_str())).collect()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::fleet::settings::tests::settings;

    pub(crate) fn manifest(units: Vec<Unit>) -> Manifest {
        let head = Manifest::head("store".into(), ("net".into(), "ab".into()), settings(), 2, units.len());
        let digest = head.settings.digest("ab").unwrap();
        let units = units.into_iter().map(|u| Unit { key: key(&digest, &u.content), ..u }).collect();
        Manifest { head, units }
    }

    #[test]
    fn comes_back_as_it_was_and_is_missed_when_cut_off() {
        let t = tempfile::tempdir().unwrap();
        let path = t.path().join("m.jsonl");
        let unit = |n: u64| Unit {
            name: format!("a{n}\n.mp4"),
            path: format!("/a{n}\n.mp4"),
            content: n.to_string(),
            frames: n,
            ..Unit::default()
        };
        let m = manifest((0..3).map(unit).collect());
        m.write(&path, false).unwrap();
        assert_eq!(Manifest::read(&path).unwrap(), m);
        m.check_keys().unwrap();
        assert!(m.write(&path, false).unwrap_err().to_string().contains("--force"));
        let mut other = m.clone();
        other.head.settings.threshold = Some(0.4);
        assert!(other.check_keys().is_err());
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<_> = text.lines().collect();
        for (broken, word) in [
            (String::new(), "empty"),
            ("hello\n".to_owned(), "no manifest"),
            (lines[..3].join("\n"), "2 of 3"),
            (text.replace("\"polypscope_fleet\":1", "\"polypscope_fleet\":9"), "form 9"),
            (format!("{}\n{{}}\n", lines[0]), "line 2"),
            (text.replace(&m.units[1].key, "../../x"), "hexadecimal"),
        ] {
            std::fs::write(&path, broken).unwrap();
            let said = Manifest::read(&path).unwrap_err();
            assert!(said.to_string().contains(word) && said.exit_code() == 2, "{said}");
        }
    }

    #[test]
    fn the_same_content_is_one_key() {
        let unit = |content: &str, name: &str| Unit {
            content: content.into(),
            name: name.into(),
            ..Unit::default()
        };
        let m = manifest(vec![unit("x", "a"), unit("y", "b"), unit("x", "c")]);
        assert_eq!(m.units[0].key, m.units[2].key);
        assert_eq!(m.keys().iter().map(|u| u.name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    }
}
