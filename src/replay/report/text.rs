//! Figures and names as people read them, safe inside HTML.
//!
//! In: strings from anywhere, nanoseconds, bytes, shares. Out: text.

use std::fmt;

/// Shows a string so that HTML takes it for text, in elements and in quoted attributes.
///
/// Control characters, and those that reorder text (a file name could pretend to be another), become U+FFFD.
pub(crate) struct Escaped<'a>(pub &'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write;
        for c in self.0.chars() {
            match c {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => f.write_char('\u{fffd}')?,
                c if c.is_control() => f.write_char('\u{fffd}')?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

/// A place in the recording, `h:mm:ss.mmm`.
pub(crate) fn time(ns: u64) -> String {
    crate::frame::Pts(ns).to_string()
}

/// A place on an axis whose ticks are `step_ns` apart: no more digits than tell ticks apart.
pub(crate) fn tick_time(ns: u64, step_ns: u64) -> String {
    let ms = ns / 1_000_000;
    let (h, m, s) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1000 % 60);
    let whole = if h > 0 { format!("{h}:{m:02}:{s:02}") } else { format!("{m}:{s:02}") };
    match step_ns {
        1_000_000_000.. => whole,
        100_000_000.. => format!("{whole}.{}", ms % 1000 / 100),
        _ => format!("{whole}.{:03}", ms % 1000),
    }
}

/// How long something took: `1 h 2 min`, `3 min 20 s`, `12.4 s`, `40 ms`.
pub(crate) fn span(ns: u64) -> String {
    let ms = ns as f64 / 1e6;
    let s = (ms / 1000.0).round() as u64;
    if ms < 999.5 {
        format!("{} ms", significant(ms))
    } else if ms < 59_950.0 {
        format!("{:.1} s", ms / 1000.0)
    } else if s < 3600 {
        format!("{} min {} s", s / 60, s % 60)
    } else {
        let min = (s + 30) / 60;
        format!("{} h {} min", min / 60, min % 60)
    }
}

/// Three significant digits at most, without an exponent: `0.12`, `3.4`, `57.1`, `1,234`.
pub(crate) fn significant(v: f64) -> String {
    if !v.is_finite() {
        return "–".to_owned();
    }
    if v.abs() >= 99.95 {
        return grouped(v.round().max(0.0) as u64);
    }
    let digits = if v.abs() >= 9.995 { 1 } else { 2 };
    let mut text = format!("{v:.digits$}");
    if text.contains('.') {
        text.truncate(text.trim_end_matches('0').trim_end_matches('.').len());
    }
    text
}

/// Thousands set apart by thin spaces.
pub(crate) fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len());
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push('\u{202f}');
        }
        text.push(c);
    }
    text
}

/// A share as a percentage; a little is never shown as nothing, nor nearly all as all.
pub(crate) fn percent(share: f64) -> String {
    let p = share * 100.0;
    if !p.is_finite() {
        "–".to_owned()
    } else if p > 0.0 && p < 0.05 {
        "< 0.1 %".to_owned()
    } else if (99.95..100.0).contains(&p) {
        "> 99.9 %".to_owned()
    } else {
        format!("{p:.1} %")
    }
}

/// A probability with two digits; what is not certain is not shown as 1.
pub(crate) fn probability(p: f32) -> String {
    if (0.995..1.0).contains(&p) {
        format!("{:.3}", (p * 1000.0).floor() / 1000.0)
    } else {
        format!("{p:.2}")
    }
}

pub(crate) fn bytes(n: u64) -> String {
    let n = n as f64;
    if n >= 1e9 * 1.073_741_824 {
        format!("{} GiB", significant(n / 1_073_741_824.0))
    } else {
        format!("{} MiB", significant(n / 1_048_576.0))
    }
}

/// `1 frame`, `2 frames`.
pub(crate) fn count(n: u64, one: &str, many: &str) -> String {
    format!("{} {}", grouped(n), if n == 1 { one } else { many })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn figures_read_well() {
        assert_eq!(span(40_000_000), "40 ms");
        assert_eq!(span(12_440_000_000), "12.4 s");
        assert_eq!(span(59_990_000_000), "1 min 0 s");
        assert_eq!(span(200_000_000_000), "3 min 20 s");
        assert_eq!(span(3_720_000_000_000), "1 h 2 min");
        assert_eq!(
            [0.0, 0.123, 3.0, 57.06, 1234.4].map(significant),
            ["0", "0.12", "3", "57.1", "1\u{202f}234"]
        );
        assert_eq!(
            [0.0, 1e-5, 0.123, 0.9999, 1.0].map(percent),
            ["0.0 %", "< 0.1 %", "12.3 %", "> 99.9 %", "100.0 %"]
        );
        assert_eq!([0.5, 0.994, 0.9996, 1.0].map(probability), ["0.50", "0.99", "0.999", "1.00"]);
        assert_eq!(tick_time(3_723_400_000_000, 1_000_000_000), "1:02:03");
        assert_eq!(tick_time(3_400_000_000, 200_000_000), "0:03.4");
        assert_eq!(bytes(1_610_612_736), "1.5 GiB");
        assert_eq!(
            (count(1, "frame", "frames"), count(0, "frame", "frames")),
            ("1 frame".into(), "0 frames".into())
        );
    }

    #[test]
    fn names_cannot_leave_their_place() {
        let name = "<script>alert('x')</script>\" onload=\"y&\u{202e}4pm\n";
        assert_eq!(
            Escaped(name).to_string(),
            "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;&quot; onload=&quot;y&amp;\u{fffd}4pm\u{fffd}"
        );
    }

    proptest! {
        #[test]
        fn nothing_escapes(s in ".*") {
            let e = Escaped(&s).to_string();
            prop_assert!(!e.contains(['<', '>', '"', '\'']));
            prop_assert_eq!(e.matches('&').count(), s.matches(['&', '<', '>', '"', '\'']).count());
        }
    }
}
