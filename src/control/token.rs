//! What a request must bring to see the picture or to steer it.
//!
//! In: the system's randomness, or a file of the owner's. Out: a word that travels in a header and behind the `#` of
//! the page's address. An address proves nothing about who asks: every program of every user of the machine can connect
//! to loopback, and a tunnel ends there.

use std::fmt;
use std::io::Read;
use std::path::Path;

use crate::hexadecimal::hexadecimal;
use crate::{Error, Result};

/// Bytes of randomness in a token made here.
const RANDOM_BYTES: usize = 16;
/// Shorter ones can be guessed.
const SHORTEST: usize = 16;
/// Longer ones are no tokens but the wrong file.
const LONGEST: usize = 1024;

/// A secret word of visible ASCII characters.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// A new one, of 32 hexadecimal digits.
    ///
    /// # Errors
    /// A system without randomness.
    pub fn random() -> Result<Self> {
        let mut bytes = [0u8; RANDOM_BYTES];
        getrandom::fill(&mut bytes).map_err(|e| {
            Error::machine(format!("control: the system gives no randomness for a token ({e})"))
                .remedy("name a --control-token-file")
        })?;
        Ok(Self(hexadecimal(&bytes)))
    }

    /// The one in a file, without the white space around it.
    ///
    /// # Errors
    /// A file that cannot be read, or whose content is no token.
    pub fn read(path: &Path) -> Result<Self> {
        let mut text = String::new();
        std::fs::File::open(path)
            .and_then(|f| f.take(LONGEST as u64 + 2).read_to_string(&mut text))
            .map_err(|e| Error::read(path, e))?;
        Self::new(text.trim()).map_err(|e| e.at(path.display()))
    }

    /// # Errors
    /// Too short, too long, or characters that cannot travel in a header.
    pub fn new(text: &str) -> Result<Self> {
        const REMEDY: &str = "use at least 16 characters, such as those of `openssl rand -hex 16`";
        let why = match text.len() {
            n if n < SHORTEST => "is too short",
            n if n > LONGEST => "is too long",
            _ if !text.bytes().all(|b| b.is_ascii_graphic()) => {
                "has spaces or characters that are not plain ASCII"
            }
            _ => return Ok(Self(text.to_owned())),
        };
        Err(Error::usage(format!("the token {why}")).remedy(REMEDY))
    }

    /// Compares without telling by the time it takes how much is right.
    pub(super) fn is(&self, given: &[u8]) -> bool {
        constant_time_eq::constant_time_eq(self.0.as_bytes(), given)
    }

    /// As it stands behind the `#` of an address.
    pub fn for_url(&self) -> String {
        let mut out = String::new();
        for b in self.0.bytes() {
            if b.is_ascii_alphanumeric() || b"-._~".contains(&b) {
                out.push(char::from(b));
            } else {
                out.push_str(&format!("%{b:02X}"));
            }
        }
        out
    }
}

/// Never the token itself: it would end up in logs.
impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_random_and_long() {
        let (a, b) = (Token::random().expect("randomness"), Token::random().expect("randomness"));
        assert_ne!(a, b);
        assert!(a.0.len() == 32 && a.0.bytes().all(|c| c.is_ascii_hexdigit()), "{}", a.0);
        assert_eq!(a.for_url(), a.0);
        assert!(a.is(a.0.as_bytes()) && !a.is(b.0.as_bytes()) && !a.is(b""));
        assert!(!format!("{a:?}").contains(&a.0));
    }

    #[test]
    fn files_hold_tokens_or_are_refused_with_their_names() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("token");
        for (content, ok) in [
            (&b"0123456789abcdef\n"[..], true),
            (b"  with/every+char#that?is%odd  ", true),
            (b"short\n", false),
            (b"", false),
            (b"two words are no token", false),
            ("sixteen characters: ä".as_bytes(), false),
            (b"\xff\xfe\xfd\xfc\xff\xfe\xfd\xfc\xff\xfe\xfd\xfc\xff\xfe\xfd\xfc", false),
            (&[b'x'; 100_000], false),
        ] {
            std::fs::write(&path, content).expect("it is written");
            let read = Token::read(&path);
            assert_eq!(read.is_ok(), ok, "{read:?}");
            if let Err(e) = read {
                assert!(e.to_string().contains(&path.display().to_string()), "{e}");
            }
        }
        assert_eq!(
            Token::new("a#b%c/d?e=f&g h".replace(' ', "+").as_str()).err().map(|e| e.to_string()),
            Some(
                "the token is too short; use at least 16 characters, such as those of `openssl rand -hex 16`"
                    .into()
            )
        );
        assert_eq!(
            Token::new("a#b%c/d?e=f&g+hij").expect("a token").for_url(),
            "a%23b%25c%2Fd%3Fe%3Df%26g%2Bhij"
        );
    }
}
