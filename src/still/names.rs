//! File names of pictures: names flow in; which are pictures, which are litter, their order and the form in which two
//! names are compared flow out.

use std::cmp::Ordering;
use std::ffi::OsStr;
use std::path::Path;

use unicode_normalization::UnicodeNormalization;

/// Endings of the formats that are read, in small letters.
pub const ENDINGS: [&str; 10] = ["png", "jpg", "jpeg", "jpe", "jfif", "bmp", "tif", "tiff", "webp", "gif"];

/// Whether a path is called like a picture; capitals are as good as small letters.
pub fn is_picture(path: &Path) -> bool {
    path.extension()
        .and_then(OsStr::to_str)
        .is_some_and(|e| ENDINGS.contains(&e.to_ascii_lowercase().as_str()))
}

/// What systems leave in folders by themselves: hidden files (`._x.png` of a Mac has a picture's name but is none),
/// folders of archives, previews. Nobody means them.
pub fn is_litter(name: &OsStr) -> bool {
    const NAMES: [&str; 6] = ["thumbs.db", "ehthumbs.db", "desktop.ini", "__macosx", "@eadir", "icon\r"];
    name.as_encoded_bytes().starts_with(b".")
        || name.to_str().is_some_and(|n| NAMES.contains(&n.to_lowercase().as_str()))
}

/// A name in the form in which names are compared: accents composed (a Mac stores them apart, so that the same name
/// from two machines differs in its bytes). Bytes that are no UTF-8 are written as `\xff`, so different names stay
/// different.
pub fn comparable(name: &OsStr) -> String {
    let mut out = String::new();
    for chunk in name.as_encoded_bytes().utf8_chunks() {
        out.extend(chunk.valid().nfc());
        for byte in chunk.invalid() {
            out.push_str(&format!("\\x{byte:02x}"));
        }
    }
    out
}

/// Compares names with runs of digits by their value, `9` before `10`; equal only for equal names.
pub fn natural_order(a: impl AsRef<[u8]>, b: impl AsRef<[u8]>) -> Ordering {
    let (a, b) = (a.as_ref(), b.as_ref());
    let (mut x, mut y) = (a, b);
    while let (Some(&i), Some(&j)) = (x.first(), y.first()) {
        if i.is_ascii_digit() && j.is_ascii_digit() {
            let digits = |s: &[u8]| s.iter().take_while(|c| c.is_ascii_digit()).count();
            let (n, m) = (digits(x), digits(y));
            let strip = |s: &[u8]| s.iter().position(|c| *c != b'0').unwrap_or(s.len());
            let (p, q) = (&x[strip(&x[..n])..n], &y[strip(&y[..m])..m]);
            match p.len().cmp(&q.len()).then_with(|| p.cmp(q)) {
                Ordering::Equal => {}
                unequal => return unequal,
            }
            (x, y) = (&x[n..], &y[m..]);
        } else if i != j {
            return i.cmp(&j);
        } else {
            (x, y) = (&x[1..], &y[1..]);
        }
    }
    x.len().cmp(&y.len()).then_with(|| a.cmp(b))
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt;

    use super::*;

    #[test]
    fn names_are_in_natural_order() {
        let mut names = ["b2", "a10", "a9", "a09", "100", "68", "", "a9b", "a", "f010", "f10", "f2"];
        names.sort_by(|a, b| natural_order(a, b));
        assert_eq!(names, ["", "68", "100", "a", "a09", "a9", "a9b", "a10", "b2", "f2", "f010", "f10"]);
    }

    #[test]
    fn pictures_and_litter_are_told_by_name() {
        for name in ["a.PNG", "b.Jpeg", "c.d.tif", "x.GIF", "y.jfif"] {
            assert!(is_picture(Path::new(name)), "{name}");
        }
        for name in ["png", "a.txt", "a.png.txt", "a.", ""] {
            assert!(!is_picture(Path::new(name)), "{name}");
        }
        for name in ["._a.png", ".DS_Store", "Thumbs.db", "__MACOSX", "Desktop.ini"] {
            assert!(is_litter(OsStr::new(name)), "{name}");
        }
        assert!(!is_litter(OsStr::new("a.png")) && !is_litter(OsStr::new("thumbs.png")));
    }

    #[test]
    fn the_same_name_from_two_machines_is_one() {
        assert_eq!(comparable(OsStr::new("gro\u{308}\u{df}e e\u{301}")), "gr\u{f6}\u{df}e \u{e9}");
        let bad = [b"a\xff".as_slice(), b"a\xfe"].map(|b| comparable(OsStr::from_bytes(b)));
        assert_eq!(bad, ["a\\xff", "a\\xfe"]);
    }

    proptest::proptest! {
        #[test]
        fn the_order_is_one(a in "[a-c0-2]{0,6}", b in "[a-c0-2]{0,6}", c in "[a-c0-2]{0,6}") {
            assert_eq!(natural_order(&a, &b), natural_order(&b, &a).reverse());
            assert_eq!(natural_order(&a, &b) == Ordering::Equal, a == b);
            if natural_order(&a, &b).is_le() && natural_order(&b, &c).is_le() {
                assert!(natural_order(&a, &c).is_le());
            }
        }

        #[test]
        fn numbers_are_compared_as_numbers(a: u32, b: u32, stem in "[a-z]{0,3}") {
            assert_eq!(natural_order(format!("{stem}{a}.png"), format!("{stem}{b}.png")), a.cmp(&b));
        }
    }
}
