//! Several classes in one mask: a stated rule flows in, a binary mask per class flows out.

use crate::{Error, Result};

/// What a class looks like in a mask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Look {
    /// A grey value as stored: 0–255, or 0–65535 in a 16-bit picture.
    Value(u16),
    Colour([u8; 3]),
}

/// How masks are cut into classes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Classes(Vec<(String, Look)>);

impl Classes {
    /// One class, `polyp`: brighter than half of the mask's brightest pixel.
    pub fn one() -> Self {
        Self::default()
    }

    /// `NAME=VALUE,…`: each class by its grey value (`adenoma=1`) or its colour (`instrument=#ff0000`). Everything else
    /// is background; in lossy files each pixel goes to the nearest class or to black.
    ///
    /// # Errors
    /// A name or a look that is missing, malformed or given twice, or values mixed with colours.
    pub fn parse(text: &str) -> Result<Self> {
        let mut classes: Vec<(String, Look)> = Vec::new();
        for part in text.split(',').map(str::trim) {
            let bad = |why: &str| {
                Error::usage(format!("--classes: \"{part}\" {why}"))
                    .remedy("write NAME=VALUE or NAME=#RRGGBB, with commas between")
            };
            let (name, look) = part.split_once('=').ok_or_else(|| bad("has no \"=\""))?;
            let (name, look) = (name.trim(), look.trim());
            if name.is_empty() || name.contains(['/', '\\']) {
                return Err(bad("has no usable name"));
            }
            let look = if let Some(hex) = look.strip_prefix('#') {
                if hex.len() != 6 || !hex.is_ascii() {
                    return Err(bad("is no colour of six hexadecimal digits"));
                }
                let number = u32::from_str_radix(hex, 16)
                    .map_err(|_| bad("is no colour of six hexadecimal digits"))?;
                let [_, r, g, b] = number.to_be_bytes();
                Look::Colour([r, g, b])
            } else {
                Look::Value(look.parse().map_err(|_| bad("is no value from 1 to 65535"))?)
            };
            if matches!(look, Look::Value(0) | Look::Colour([0, 0, 0])) {
                return Err(bad("is the background"));
            }
            if classes.iter().any(|(n, l)| n == name || *l == look) {
                return Err(bad("is given twice"));
            }
            classes.push((name.to_string(), look));
        }
        let colours = classes.iter().filter(|(_, l)| matches!(l, Look::Colour(_))).count();
        if colours != 0 && colours != classes.len() {
            return Err(
                Error::usage("--classes: values and colours are mixed").remedy("use one or the other")
            );
        }
        Ok(Self(classes))
    }

    /// Whether masks are cut at half of their largest level instead of by value or colour.
    pub fn is_one(&self) -> bool {
        self.0.is_empty()
    }

    /// Names, in the order given.
    pub fn names(&self) -> Vec<String> {
        if self.is_one() { vec!["polyp".into()] } else { self.0.iter().map(|(n, _)| n.clone()).collect() }
    }

    pub(super) fn by_colour(&self) -> bool {
        matches!(self.0.first(), Some((_, Look::Colour(_))))
    }

    /// Class of each grey value: 0 for background, else its number plus one. Also the count of non-zero pixels of no
    /// class.
    pub(super) fn of_values(&self, values: &[u16], lossy: bool) -> (Vec<u8>, u64) {
        self.map(values, lossy, |v| [i32::from(*v), 0, 0], |v| *v == 0)
    }

    /// The same for colours.
    pub(super) fn of_colours(&self, colours: &[[u8; 3]], lossy: bool) -> (Vec<u8>, u64) {
        self.map(colours, lossy, |c| c.map(i32::from), |c| *c == [0, 0, 0])
    }

    fn map<T>(
        &self,
        pixels: &[T],
        lossy: bool,
        place: impl Fn(&T) -> [i32; 3],
        background: impl Fn(&T) -> bool,
    ) -> (Vec<u8>, u64) {
        let looks: Vec<[i32; 3]> = std::iter::once([0; 3])
            .chain(self.0.iter().map(|(_, look)| match look {
                Look::Value(v) => [i32::from(*v), 0, 0],
                Look::Colour(c) => c.map(i32::from),
            }))
            .collect();
        let mut unlisted = 0;
        let classes = pixels.iter().map(|pixel| {
            let at = place(pixel);
            if lossy {
                let distance =
                    |look: &[i32; 3]| (0..3).map(|i| i64::from(look[i] - at[i]).pow(2)).sum::<i64>();
                // `min_by_key` keeps the first of equals: the background.
                (0..looks.len()).min_by_key(|&i| distance(&looks[i])).unwrap_or(0) as u8
            } else {
                let found = looks.iter().position(|look| *look == at);
                unlisted += u64::from(found.is_none() && !background(pixel));
                found.unwrap_or(0) as u8
            }
        });
        let classes = classes.collect();
        (classes, unlisted)
    }
}

/// The pixels of one class (counted from 0) as levels 0 and 255.
pub(super) fn levels_of(classes: &[u8], class: usize) -> Vec<u8> {
    classes.iter().map(|&c| if usize::from(c) == class + 1 { 255 } else { 0 }).collect()
}
