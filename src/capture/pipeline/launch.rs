//! A launch line and the values that belong to its elements.
//!
//! In: a line with placeholders, as a pipeline file's author wrote it, and a value for each placeholder. Out: a bin
//! with one open end.
//!
//! GStreamer's parser reads the author's text only. A placeholder in a property is taken out of the line, and its value
//! is set on the element once that exists; text in caps becomes the value of a field. What is left in the line are
//! numbers, rates and the file's own choices in caps, made of letters and digits. So no value can end its property and
//! begin an element, whatever GStreamer's lexer takes for the end of a string; [`Launch::check`] compares the elements
//! all the same.

use gstreamer as gst;
use gstreamer::prelude::*;

use super::property::{self, Wrong};
use crate::capture::address;
use crate::{Error, Kind, Result};

/// Beginning of the names that elements get here which have none of their own.
const NAME: &str = "polypscope-";
/// Name of the element at a line's open end.
const OPEN_END: &str = "polypscope-open-end";

/// What a placeholder stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Value {
    pub(super) parameter: String,
    /// What the parameter is for.
    pub(super) doc: String,
    pub(super) text: String,
    /// Set by the user, not the file's default.
    pub(super) given: bool,
    /// Made of letters and digits; anything else is free text.
    pub(super) is_word: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Literal(String),
    Value(Value),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Target {
    Property(String),
    /// The caps of a filter.
    Caps,
}

/// What is set on an element after the line was parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Assignment {
    /// The element's name.
    element: String,
    target: Target,
    pieces: Vec<Piece>,
}

/// A line and its values; see the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Launch {
    line: String,
    assignments: Vec<Assignment>,
    secrets: Vec<String>,
}

/// A word of the line and, where it has placeholders, what it is made of.
struct Word {
    pieces: Vec<Piece>,
}

impl Word {
    fn literal(text: impl Into<String>) -> Self {
        Self { pieces: vec![Piece::Literal(text.into())] }
    }

    /// As it stands in the line; free text never does.
    fn written(&self) -> String {
        self.pieces
            .iter()
            .map(|p| match p {
                Piece::Literal(text) => text.as_str(),
                Piece::Value(v) => v.text.as_str(),
            })
            .collect()
    }

    fn head(&self) -> &str {
        match self.pieces.first() {
            Some(Piece::Literal(text)) => text,
            _ => "",
        }
    }

    fn has_values(&self) -> bool {
        self.pieces.iter().any(|p| matches!(p, Piece::Value(_)))
    }

    fn free_text(&self) -> Option<&Value> {
        self.pieces.iter().find_map(|p| match p {
            Piece::Value(v) if !v.is_word => Some(v),
            _ => None,
        })
    }

    fn is_link(&self) -> bool {
        matches!(self.head(), "!" | ":") && self.pieces.len() == 1
    }

    /// The property's name, if this is an assignment.
    fn property(&self) -> Option<&str> {
        let (name, _) = self.head().split_once('=')?;
        let letters = |c: char| c.is_ascii_alphanumeric() || "-_:".contains(c);
        (!name.is_empty() && name.chars().all(letters)).then_some(name)
    }

    /// What is assigned, without the quotes around it and its escapes.
    fn assigned(&self) -> Vec<Piece> {
        let mut pieces = self.pieces.clone();
        if let Some(Piece::Literal(text)) = pieces.first_mut() {
            *text = text.split_once('=').map_or_else(String::new, |(_, value)| value.to_owned());
        }
        unquoted(pieces)
    }

    /// Whether it begins caps: a media type.
    fn begins_caps(&self) -> bool {
        let head = self.head().trim_start_matches(['"', '\'']);
        let end = head.find(['=', ',', '(', ' ']).unwrap_or(head.len());
        head[..end].contains('/')
    }
}

fn unquoted(mut pieces: Vec<Piece>) -> Vec<Piece> {
    let quote = match pieces.first() {
        Some(Piece::Literal(text)) => text.chars().next().filter(|c| "\"'".contains(*c)),
        _ => None,
    };
    if let Some(quote) = quote {
        let closed = match pieces.last() {
            Some(Piece::Literal(text)) => text.ends_with(quote) && (pieces.len() > 1 || text.len() > 1),
            _ => false,
        };
        if closed {
            if let Some(Piece::Literal(text)) = pieces.first_mut() {
                text.remove(0);
            }
            if let Some(Piece::Literal(text)) = pieces.last_mut() {
                text.pop();
            }
        }
    }
    for piece in &mut pieces {
        if let Piece::Literal(text) = piece {
            *text = unescaped(text);
        }
    }
    pieces.retain(|p| !matches!(p, Piece::Literal(text) if text.is_empty()));
    pieces
}

/// Text without its backslashes, each of which makes the next character an ordinary one.
fn unescaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        out.extend(if c == '\\' { chars.next() } else { Some(c) });
    }
    out
}

/// The words of a line: separated by white space outside quotes; `key = value` is one word.
fn words(line: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut word = String::new();
    let mut quote = None;
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match (c, quote) {
            ('\\', _) => {
                word.push(c);
                word.extend(chars.next());
                continue;
            }
            ('"' | '\'', None) => quote = Some(c),
            (c, Some(q)) if c == q => quote = None,
            (c, None) if c.is_whitespace() => {
                if !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
                continue;
            }
            _ => {}
        }
        word.push(c);
    }
    if !word.is_empty() {
        words.push(word);
    }
    let mut joined: Vec<String> = Vec::with_capacity(words.len());
    for word in words {
        match joined.last_mut() {
            Some(last) if word.starts_with('=') || last.ends_with('=') => last.push_str(&word),
            _ => joined.push(word),
        }
    }
    joined
}

impl Launch {
    /// Takes a line apart. `look_up` gives a placeholder's value: its key, and the part after a dot.
    ///
    /// # Errors
    /// Placeholders that are not closed or that stand where no value can, and what `look_up` finds.
    pub(super) fn new(
        line: &str,
        mut look_up: impl FnMut(&str, Option<&str>) -> Result<Value>,
    ) -> Result<Self> {
        let mut words = words(line)
            .iter()
            .map(|word| pieces(word, &mut look_up).map(|pieces| Word { pieces }))
            .collect::<Result<Vec<_>>>()?;
        let mut assignments = Vec::new();
        take_caps(&mut words, &mut assignments);
        take_properties(&mut words, &mut assignments)?;
        if let Some(value) = words.iter().find_map(Word::free_text) {
            return Err(Error::input(format!(
                "{{{}}}: text may only stand in a property's value or in a field of caps",
                value.parameter
            )));
        }
        let line = words.iter().map(Word::written).collect::<Vec<_>>().join(" ");
        let secrets = secrets(&assignments);
        Ok(Self { line, assignments, secrets })
    }

    /// What may not be shown: passwords among the values.
    pub(super) fn secrets(&self) -> &[String] {
        &self.secrets
    }

    /// Builds the line, sets the values, and drops it again. `usual` is the same line with the file's defaults: the
    /// elements and how they are linked must be the same.
    ///
    /// # Errors
    /// As [`Launch::bin`]; values that change what the line consists of.
    pub(super) fn check(
        &self,
        usual: Option<&Self>,
        place: &str,
        direction: gst::PadDirection,
    ) -> Result<()> {
        let bin = self.bin(place, direction)?;
        let Some(usual) = usual.filter(|u| u.line != self.line) else { return Ok(()) };
        // A default that does not parse cannot be compared with.
        let Ok(usual) = parse(&usual.line, place, direction) else { return Ok(()) };
        if shape(&bin) != shape(&usual) {
            return Err(Error::usage(format!(
                "{place}: a value changes which elements the line consists of"
            ))
            .remedy("give parameters plain values"));
        }
        Ok(())
    }

    /// The line as a bin with one ghost pad in the direction given, and the values set on its elements.
    ///
    /// # Errors
    /// A missing element, a line that does not parse, values that an element does not take.
    pub fn bin(&self, place: &str, direction: gst::PadDirection) -> Result<gst::Bin> {
        let bin = parse(&self.line, place, direction)?;
        for assignment in &self.assignments {
            assignment.apply(&bin).map_err(|e| e.at(place))?;
        }
        Ok(bin)
    }
}

/// Splits a word at its placeholders.
fn pieces(word: &str, look_up: &mut impl FnMut(&str, Option<&str>) -> Result<Value>) -> Result<Vec<Piece>> {
    let mut out = Vec::new();
    let mut rest = word;
    while let Some((before, after)) = rest.split_once('{') {
        let (inside, after) = after
            .split_once('}')
            .ok_or_else(|| Error::input("a placeholder is not closed").remedy("write {name}"))?;
        if !before.is_empty() {
            out.push(Piece::Literal(before.to_owned()));
        }
        out.push(Piece::Value(match inside.split_once('.') {
            Some((key, part)) => look_up(key, Some(part))?,
            None => look_up(inside, None)?,
        }));
        rest = after;
    }
    if !rest.is_empty() {
        out.push(Piece::Literal(rest.to_owned()));
    }
    Ok(out)
}

/// Puts a filter in place of caps that hold free text.
fn take_caps(words: &mut Vec<Word>, assignments: &mut Vec<Assignment>) {
    let mut at = 0;
    while at < words.len() {
        let end = words[at..].iter().position(Word::is_link).map_or(words.len(), |n| at + n);
        let part = &words[at..end];
        if part.first().is_some_and(Word::begins_caps) && part.iter().any(|w| w.free_text().is_some()) {
            let mut caps = Vec::new();
            for word in words.drain(at..end) {
                if !caps.is_empty() {
                    caps.push(Piece::Literal(" ".into()));
                }
                caps.extend(word.pieces);
            }
            let element = format!("{NAME}{}", assignments.len());
            words.insert(at, Word::literal("capsfilter"));
            words.insert(at + 1, Word::literal(format!("name={element}")));
            assignments.push(Assignment { element, target: Target::Caps, pieces: unquoted(caps) });
            at += 2;
        } else {
            at = end;
        }
        // The link itself.
        at += 1;
    }
}

/// Takes the properties that have values out of the line.
fn take_properties(words: &mut Vec<Word>, assignments: &mut Vec<Assignment>) -> Result<()> {
    let mut at = 0;
    while at < words.len() {
        let begin = at;
        // An element or a bin, and the assignments that belong to it.
        let mut end = begin + 1;
        while words.get(end).is_some_and(|w| w.property().is_some()) {
            end += 1;
        }
        at = end;
        let run = &words[begin..end];
        // Fields of caps look like properties.
        if run[0].begins_caps() || !run.iter().any(|w| w.property().is_some() && w.has_values()) {
            continue;
        }
        // GStreamer takes the last name, and so does this.
        let own = run.iter().rev().find(|w| w.property() == Some("name"));
        let own = own.map(name).transpose()?;
        let element = own.clone().unwrap_or_else(|| format!("{NAME}{}", assignments.len()));
        let mut kept = Vec::with_capacity(run.len());
        for word in words.drain(begin..end) {
            match word.property() {
                Some("name") if word.has_values() => kept.push(Word::literal(format!("name={element}"))),
                Some(property) if word.has_values() => assignments.push(Assignment {
                    element: element.clone(),
                    target: Target::Property(property.to_owned()),
                    pieces: word.assigned(),
                }),
                _ => kept.push(word),
            }
        }
        if own.is_none() {
            kept.push(Word::literal(format!("name={element}")));
        }
        at = begin + kept.len();
        words.splice(begin..begin, kept);
    }
    Ok(())
}

/// An element's name. It cannot be set later, since the line may refer to it, so it is made of letters and digits.
fn name(word: &Word) -> Result<String> {
    let name: String = word
        .assigned()
        .iter()
        .map(|p| match p {
            Piece::Literal(text) => text.as_str(),
            Piece::Value(v) => v.text.as_str(),
        })
        .collect();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
    let value = word.pieces.iter().find_map(|p| match p {
        Piece::Value(v) => Some(v),
        Piece::Literal(_) => None,
    });
    match value {
        Some(v) if name.is_empty() || name.starts_with(NAME) || !name.chars().all(is_plain) => {
            Err(v.refused("is no name for an element, which has letters, digits, - and _ only"))
        }
        _ => Ok(name),
    }
}

impl Value {
    /// The value as it may be shown.
    fn shown(&self) -> String {
        if address::is_secret(&self.parameter) {
            "…".into()
        } else {
            address::without_secrets(&self.text, &[])
        }
    }

    fn refused(&self, why: &str) -> Error {
        let kind = if self.given { Kind::Usage } else { Kind::Input };
        Error::new(kind, format!("{}={}: {why}", self.parameter, self.shown()))
            .remedy(format!("{}: {}", self.parameter, self.doc))
    }
}

impl Assignment {
    fn apply(&self, bin: &gst::Bin) -> Result<()> {
        let Some(element) = bin.by_name(&self.element) else {
            return Err(Error::input(format!("{}: has no element of its own", self.parameters()))
                .remedy("put it behind an element's name, as in filesrc location={file}"));
        };
        let factory =
            element.factory().map_or_else(|| element.type_().name().to_owned(), |f| f.name().into());
        let (outcome, name) = match &self.target {
            Target::Property(name) => {
                let text = property::text(&element, name, &self.parts());
                (text.and_then(|text| property::set(&element, name, &text)), name.as_str())
            }
            Target::Caps => (self.caps().map(|caps| element.set_property("caps", caps)), "caps"),
        };
        let Err(wrong) = outcome else { return Ok(()) };
        let value = self.pieces.iter().find_map(|p| match p {
            Piece::Value(v) => Some(v),
            Piece::Literal(_) => None,
        });
        let why = match wrong {
            Wrong::NoProperty => {
                return Err(Error::input(format!("{}: {factory} has no property {name}", self.parameters()))
                    .remedy(format!("see `gst-inspect-1.0 {factory}`")));
            }
            Wrong::NotSettable => {
                return Err(Error::input(format!(
                    "{}: {name} of {factory} cannot be set from a parameter",
                    self.parameters()
                ))
                .remedy("write its value into the line itself"));
            }
            Wrong::Value(allowed) => format!("{name} of {factory} is {allowed}"),
        };
        Err(value.map_or_else(|| Error::input(format!("{}: {why}", self.parameters())), |v| v.refused(&why)))
    }

    fn parameters(&self) -> String {
        let names: Vec<_> = self
            .pieces
            .iter()
            .filter_map(|p| match p {
                Piece::Value(v) => Some(format!("{{{}}}", v.parameter)),
                Piece::Literal(_) => None,
            })
            .collect();
        names.join(" ")
    }

    /// The author's text and the values in it.
    fn parts(&self) -> Vec<property::Part<'_>> {
        self.pieces
            .iter()
            .map(|p| match p {
                Piece::Literal(text) => property::Part::Written(text),
                Piece::Value(v) => property::Part::Value(&v.text),
            })
            .collect()
    }

    fn caps(&self) -> std::result::Result<gst::Caps, Wrong> {
        property::caps(&self.parts())
    }
}

/// Passwords among the values.
fn secrets(assignments: &[Assignment]) -> Vec<String> {
    let mut secrets: Vec<String> = Vec::new();
    for assignment in assignments {
        for piece in &assignment.pieces {
            let Piece::Value(value) = piece else { continue };
            if let Some(address) = address::Address::parse(&value.text) {
                secrets.extend(address.secrets);
            }
            let property = match &assignment.target {
                Target::Property(name) => name.as_str(),
                Target::Caps => "",
            };
            if (address::is_secret(property) || address::is_secret(&value.parameter))
                && value.text.chars().count() > 1
            {
                secrets.push(value.text.clone());
            }
        }
    }
    secrets.sort_by_key(|s| std::cmp::Reverse(s.len()));
    secrets.dedup();
    secrets
}

/// What a bin consists of: each element's factory, and what its pads are linked to.
fn shape(bin: &gst::Bin) -> Vec<(String, Vec<(String, String, String)>)> {
    let children = bin.children();
    // What lies outside, such as the bin's own pad, is numbered anew for every bin.
    let number = |pad: &gst::Pad| {
        let parent = pad.parent_element()?;
        children.iter().position(|c| *c == parent).map(|n| n.to_string())
    };
    children
        .iter()
        .map(|child| {
            let factory = child.factory().map_or_else(String::new, |f| f.name().to_string());
            let mut links: Vec<_> = child
                .pads()
                .iter()
                .filter_map(|pad| {
                    let peer = pad.peer()?;
                    Some((pad.name().to_string(), number(&peer)?, peer.name().to_string()))
                })
                .collect();
            links.sort();
            (factory, links)
        })
        .collect()
}

/// Packages of elements that pipeline files use.
const PACKAGES: &[(&str, &str)] = &[
    ("v4l2src", "gstreamer1.0-plugins-good"),
    ("decklinkvideosrc", "gstreamer1.0-plugins-bad"),
    ("decklinkvideosink", "gstreamer1.0-plugins-bad"),
    ("rtspsrc", "gstreamer1.0-plugins-good"),
    ("rtph264depay", "gstreamer1.0-plugins-good"),
    ("srtsrc", "gstreamer1.0-plugins-bad"),
    ("srtsink", "gstreamer1.0-plugins-bad"),
    ("kmssink", "gstreamer1.0-plugins-bad"),
    ("hlssink2", "gstreamer1.0-plugins-bad"),
    ("mpegtsmux", "gstreamer1.0-plugins-bad"),
    ("autovideosink", "gstreamer1.0-plugins-good"),
    ("xvimagesink", "gstreamer1.0-x"),
];

/// Parses a line into a bin with one ghost pad in the direction given.
fn parse(launch: &str, place: &str, direction: gst::PadDirection) -> Result<gst::Bin> {
    // The open end is an element of ours. GStreamer's own search for open pads would also take those that demuxers link
    // later, and a line cannot end with caps.
    let (line, end, pad) = match direction {
        gst::PadDirection::Src => (format!("{launch} ! identity name={OPEN_END} silent=true"), "exit", "src"),
        _ => (format!("identity name={OPEN_END} silent=true ! {launch}"), "entry", "sink"),
    };
    let mut context = gst::ParseContext::new();
    let parsed = gst::parse::bin_from_description_full(
        &line,
        false,
        Some(&mut context),
        gst::ParseFlags::FATAL_ERRORS,
    );
    let missing = context.missing_elements();
    if let Some(element) = missing.first() {
        let package = PACKAGES
            .iter()
            .chain(crate::capture::NEEDED)
            .find(|(n, _)| *n == element.as_str())
            .map(|(_, p)| *p);
        let error = Error::machine(format!("{place}: GStreamer has no element {element}"));
        return Err(match package {
            Some(p) => error.remedy(format!("install it with `apt-get install {p}`")),
            None => error.remedy("check its spelling, or install the plug-in it comes in"),
        });
    }
    let parsed = parsed.map_err(|e| {
        Error::input(format!("{place}: does not parse ({})", e.message().trim().trim_end_matches('.')))
            .remedy(
                "the source ends with raw video, a sink begins with it; compare with the files in pipelines/",
            )
            .because(e)
    })?;
    let bin = parsed.downcast::<gst::Bin>().map_err(|_| Error::internal(format!("{place}: is not a bin")))?;
    let open = bin.by_name(OPEN_END).and_then(|e| e.static_pad(pad));
    open.and_then(|open| gst::GhostPad::with_target(&open).ok())
        .and_then(|ghost| ghost.set_active(true).and_then(|()| bin.add_pad(&ghost)).ok())
        .ok_or_else(|| Error::internal(format!("{place}: has no {end}")))?;
    Ok(bin)
}
