//! Paths in JSON.
//!
//! In: a path, which on Unix is any bytes. Out: a string, which JSON can hold. serde refuses paths that are not UTF-8,
//! so every path of an answer, a summary or a line goes through [`JsonPath`].

use std::ops::Deref;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A path that becomes a string: bytes that are not UTF-8 become U+FFFD, as in every message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JsonPath(pub PathBuf);

impl JsonPath {
    /// For `#[serde(serialize_with = "JsonPath::lossy")]` on a field that stays a [`PathBuf`].
    ///
    /// # Errors
    /// The serializer's own.
    pub fn lossy<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&path.to_string_lossy())
    }
}

impl Serialize for JsonPath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Self::lossy(&self.0, serializer)
    }
}

impl<'de> Deserialize<'de> for JsonPath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Self(text.into()))
    }
}

impl From<PathBuf> for JsonPath {
    fn from(path: PathBuf) -> Self {
        Self(path)
    }
}

impl From<&str> for JsonPath {
    fn from(path: &str) -> Self {
        Self(path.into())
    }
}

impl Deref for JsonPath {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;
    use std::os::unix::ffi::OsStringExt;

    use super::*;

    #[test]
    fn every_path_becomes_a_string() {
        for (bytes, text) in [
            (&b"/tmp/\xff"[..], "\"/tmp/\u{fffd}\""),
            (b"caf\xe9/a-\xc3\xa9", "\"caf\u{fffd}/a-\u{e9}\""),
            (b"with \"quotes\"\n", "\"with \\\"quotes\\\"\\n\""),
            (b"", "\"\""),
        ] {
            let path = JsonPath::from(PathBuf::from(OsString::from_vec(bytes.to_vec())));
            assert_eq!(serde_json::to_string(&path).expect("it never fails"), text);
            assert_eq!(serde_json::json!({ "p": path }).to_string(), format!("{{\"p\":{text}}}"));
        }
        let back: JsonPath = serde_json::from_str("\"a/b\"").expect("a string");
        assert_eq!(&*back, Path::new("a/b"));
    }
}
