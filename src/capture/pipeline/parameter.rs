//! Parameters of pipeline files: typed and documented.
//!
//! In: text from a file or from `--set`. Out: the same value as a property takes it. Numbers, sizes, rates and choices
//! are checked letter by letter; text, paths and addresses are printable and otherwise free, since they are set on
//! elements and never put into a line.

use serde::Deserialize;

use crate::capture::address;
use crate::frame::Rate;
use crate::{Error, Result};

/// What a parameter may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    Path,
    Text,
    Url,
    Int,
    Bool,
    Choice,
    /// Frames a second: `30`, `30000/1001`.
    Fps,
    /// `1280x720`; stands in fragments as `{name.width}` and `{name.height}`.
    Size,
}

/// One parameter of a file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Parameter {
    /// Which values it takes.
    #[serde(rename = "type")]
    pub kind: Kind,
    /// As text, whatever the type.
    pub default: String,
    /// One sentence for whoever sets it.
    pub doc: String,
    /// For choices.
    #[serde(default)]
    pub choices: Vec<String>,
    /// For numbers.
    #[serde(default)]
    pub min: Option<i64>,
    /// For numbers: the largest allowed; any where it is not given.
    #[serde(default)]
    pub max: Option<i64>,
}

/// Characters that are never part of a caps or property word of ours.
fn is_word(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.+:".contains(c))
}

impl Parameter {
    /// The value as it is set; `part` is what follows the dot of a placeholder.
    ///
    /// # Errors
    /// A value that is not of the parameter's type.
    pub fn checked(&self, name: &str, value: &str, part: Option<&str>) -> Result<String> {
        let wrong = |what: &str| {
            let shown = self.shown(name, value);
            Error::usage(format!("{name}={shown}: is not {what}")).remedy(format!("{name}: {}", self.doc))
        };
        if part.is_some() && self.kind != Kind::Size {
            return Err(wrong("a size, and has no parts"));
        }
        match self.kind {
            Kind::Path | Kind::Text | Kind::Url => {
                if value.chars().any(char::is_control) {
                    return Err(wrong("printable text"));
                }
                let url = value
                    .split_once("://")
                    .is_some_and(|(scheme, rest)| address::is_scheme(scheme) && !rest.is_empty());
                if self.kind == Kind::Url && !url {
                    return Err(wrong("an address such as rtsp://host/path"));
                }
                if self.kind == Kind::Path && value.is_empty() {
                    return Err(wrong("a path"));
                }
                Ok(value.to_owned())
            }
            Kind::Int => {
                let n: i64 = value.parse().map_err(|_| wrong("a whole number"))?;
                if self.min.is_some_and(|m| n < m) || self.max.is_some_and(|m| n > m) {
                    let bound = |b: Option<i64>| b.map_or("any".to_owned(), |b| b.to_string());
                    return Err(wrong(&format!("from {} to {}", bound(self.min), bound(self.max))));
                }
                Ok(n.to_string())
            }
            Kind::Bool => match value {
                "true" | "false" => Ok(value.to_owned()),
                _ => Err(wrong("true or false")),
            },
            Kind::Choice => {
                if self.choices.iter().any(|c| c == value) && is_word(value) {
                    Ok(value.to_owned())
                } else {
                    Err(wrong(&format!("one of {}", self.choices.join(", "))))
                }
            }
            Kind::Fps => {
                let rate: Rate = value.parse().map_err(|_| wrong("a frame rate such as 30 or 30000/1001"))?;
                Ok(format!("{}/{}", rate.numerator, rate.denominator))
            }
            Kind::Size => {
                let side = |s: &str| s.parse::<u32>().ok().filter(|n| (16..=8192).contains(n));
                let (w, h) = value
                    .split_once('x')
                    .and_then(|(w, h)| Some((side(w)?, side(h)?)))
                    .ok_or_else(|| wrong("a size such as 1280x720"))?;
                match part {
                    Some("width") => Ok(w.to_string()),
                    Some("height") => Ok(h.to_string()),
                    _ => Err(Error::input(format!("{{{name}}}: is a size"))
                        .remedy(format!("write {{{name}.width}} and {{{name}.height}}"))),
                }
            }
        }
    }

    /// Whether the value may hold any character.
    pub(super) fn is_free_text(&self) -> bool {
        matches!(self.kind, Kind::Path | Kind::Text | Kind::Url)
    }

    /// A wrong value as it may be shown: an address that is none may still hold a password.
    fn shown(&self, name: &str, value: &str) -> String {
        let printable: String = value.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        match printable.rsplit_once('@') {
            _ if address::is_secret(name) => "…".into(),
            Some((_, host)) if self.kind == Kind::Url => format!("…@{host}"),
            _ => address::without_secrets(&printable, &[]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parameter(kind: &str, more: &str) -> Parameter {
        toml::from_str(&format!("type = \"{kind}\"\ndefault = \"\"\ndoc = \"what it is\"\n{more}"))
            .expect("it parses")
    }

    #[test]
    fn values_are_checked_by_type() {
        let int = parameter("int", "min = 1\nmax = 9");
        assert_eq!(int.checked("n", "7", None).unwrap(), "7");
        let e = int.checked("n", "10", None).unwrap_err().to_string();
        assert_eq!(e, "n=10: is not from 1 to 9; n: what it is");
        assert!(int.checked("n", "7 ! fakesink", None).is_err());
        assert_eq!(parameter("fps", "").checked("f", "30", None).unwrap(), "30/1");
        let size = parameter("size", "");
        assert_eq!(size.checked("s", "1280x720", Some("height")).unwrap(), "720");
        assert!(
            size.checked("s", "1280x720", None).is_err() && size.checked("s", "0x9", Some("width")).is_err()
        );
        let choice = parameter("choice", "choices = [\"a\", \"b\"]");
        assert!(choice.checked("c", "c", None).unwrap_err().to_string().contains("one of a, b"));
        assert!(parameter("url", "").checked("u", "camera", None).is_err());
    }

    #[test]
    fn a_wrong_value_does_not_show_its_password() {
        let e = parameter("url", "").checked("url", "rtsp:/u:geheim@tower", None).unwrap_err().to_string();
        assert!(e.contains("tower") && !e.contains("geheim"), "{e}");
        let e = parameter("text", "").checked("user_pw", "geheim\n", None).unwrap_err().to_string();
        assert!(!e.contains("geheim") && !e.contains('\n'), "{e}");
    }
}
