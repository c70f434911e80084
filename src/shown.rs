//! Text from elsewhere on a terminal.
//!
//! In: sentences with names of files, tensors and devices in them. Out: the same text without anything that moves the
//! cursor, starts a line or changes the order of what is read: a name must not clear the screen, add a line of its own
//! or pass for another name. Used where text is shown, not where it is made; JSON stays exact.

use std::fmt::{self, Write};

/// Shows text in one line.
pub(crate) struct OneLine<T>(pub T);

impl<T: fmt::Display> fmt::Display for OneLine<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(Escaping { to: f, lines: false }, "{}", self.0)
    }
}

/// Shows text that is meant to have several lines: their ends stay.
pub(crate) struct Lines<T>(pub T);

impl<T: fmt::Display> fmt::Display for Lines<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(Escaping { to: f, lines: true }, "{}", self.0)
    }
}

/// Escapes what it passes on.
struct Escaping<'a, 'b> {
    to: &'a mut fmt::Formatter<'b>,
    lines: bool,
}

impl Write for Escaping<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut plain = 0;
        for (at, c) in text.char_indices() {
            if !misleads(c) || (self.lines && c == '\n') {
                continue;
            }
            self.to.write_str(&text[plain..at])?;
            plain = at + c.len_utf8();
            match c {
                '\n' => self.to.write_str("\\n")?,
                '\r' => self.to.write_str("\\r")?,
                '\t' => self.to.write_str("\\t")?,
                c if c.is_ascii() => write!(self.to, "\\x{:02x}", c as u32)?,
                c => write!(self.to, "\\u{{{:x}}}", c as u32)?,
            }
        }
        self.to.write_str(&text[plain..])
    }
}

/// Control characters, line separators, and what reorders text or is not seen in it.
fn misleads(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{61c}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{feff}'
                | '\u{fff9}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e007f}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_steer_the_terminal() {
        let evil = "a\u{1b}[2Jevil\nerror: fake\u{9b}1m\u{202e}4pm\t\r\u{7f}.ö日";
        assert_eq!(
            OneLine(evil).to_string(),
            "a\\x1b[2Jevil\\nerror: fake\\u{9b}1m\\u{202e}4pm\\t\\r\\x7f.ö日"
        );
        assert_eq!(Lines("a\nb\u{1b}c\n").to_string(), "a\nb\\x1bc\n");
        assert_eq!(OneLine("mean ± 3 µs, 1\u{202f}234 →").to_string(), "mean ± 3 µs, 1\u{202f}234 →");
    }

    proptest::proptest! {
        #[test]
        fn nothing_that_misleads_is_shown(text in ".*") {
            proptest::prop_assert!(!OneLine(&text).to_string().chars().any(misleads));
            proptest::prop_assert!(!Lines(&text).to_string().replace('\n', "").chars().any(misleads));
        }
    }
}
