//! Text set on an element as the property's own type.
//!
//! In: an element, a property's name, text. Out: the property has the value, or [`Wrong`] says what it takes. GLib
//! itself would clamp numbers that are too large and only warn of the rest.

use gstreamer as gst;
use gstreamer::glib;
use gstreamer::prelude::*;

/// Why a value was not set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wrong {
    NoProperty,
    /// Read only, or of a type that has no text, such as another element.
    NotSettable,
    /// The value is not what the property takes, which is said in words: "one of a, b".
    Value(String),
}

/// A piece of what is assigned.
#[derive(Clone, Copy, Debug)]
pub(super) enum Part<'a> {
    /// By the file's author.
    Written(&'a str),
    Value(&'a str),
}

/// Properties that are printf patterns, in which a foreign `%s` reads memory that is not there.
const PATTERNS: &[(&str, &str)] = &[
    ("hlssink", "location"),
    ("hlssink2", "location"),
    ("hlssink3", "location"),
    ("multifilesink", "location"),
    ("multifilesrc", "location"),
    ("splitmuxsink", "location"),
    ("imagesequencesrc", "location"),
    ("imagefreeze", "location"),
];

/// The object and the description of a property, also of a child's (`child::property`).
fn find(element: &gst::Element, name: &str) -> Result<(glib::Object, glib::ParamSpec), Wrong> {
    if let Some(spec) = element.find_property(name) {
        return Ok((element.clone().upcast(), spec));
    }
    let children = element.dynamic_cast_ref::<gst::ChildProxy>().ok_or(Wrong::NoProperty)?;
    children.lookup(name).map_err(|_| Wrong::NoProperty)
}

/// Puts the parts of a value together as the property needs them.
pub(super) fn text(element: &gst::Element, name: &str, parts: &[Part<'_>]) -> Result<String, Wrong> {
    let factory = element.factory().map_or_else(String::new, |f| f.name().to_string());
    let is_pattern = PATTERNS.contains(&(factory.as_str(), name));
    let whole = matches!(parts, [_]);
    if !whole && find(element, name)?.1.value_type() == gst::Caps::static_type() {
        return caps(parts).map(|caps| caps.to_string());
    }
    let text: String = parts
        .iter()
        .map(|part| match part {
            Part::Written(text) => (*text).to_owned(),
            // A folder may be called `100%`.
            Part::Value(text) if is_pattern && !whole => text.replace('%', "%%"),
            Part::Value(text) => (*text).to_owned(),
        })
        .collect();
    if is_pattern && !is_number_pattern(&text) {
        return Err(Wrong::Value(
            "a name with one number in it, such as segment%05d.ts (write %% for %)".into(),
        ));
    }
    Ok(text)
}

/// Whether a printf pattern asks for one whole number and nothing else.
fn is_number_pattern(pattern: &str) -> bool {
    let mut numbers = 0;
    let mut rest = pattern;
    while let Some((_, after)) = rest.split_once('%') {
        let conversion = after.trim_start_matches(|c: char| c.is_ascii_digit());
        let width = &after[..after.len() - conversion.len()];
        match conversion.chars().next() {
            Some('%') if width.is_empty() => {}
            Some('d' | 'u' | 'i') if width.len() <= 2 => numbers += 1,
            _ => return false,
        }
        rest = &conversion[1..];
    }
    numbers == 1
}

/// Sets a property from text.
pub(super) fn set(element: &gst::Element, name: &str, text: &str) -> Result<(), Wrong> {
    let (object, spec) = find(element, name)?;
    let flags = spec.flags();
    if !flags.contains(glib::ParamFlags::WRITABLE) || flags.contains(glib::ParamFlags::CONSTRUCT_ONLY) {
        return Err(Wrong::NotSettable);
    }
    let wanted = spec.value_type();
    let plain = [
        glib::Type::STRING,
        gst::Caps::static_type(),
        gst::Structure::static_type(),
        gst::Fraction::static_type(),
        gst::Array::static_type(),
        gst::List::static_type(),
    ];
    let is_number = Number::of(&spec).is_some();
    if !is_number
        && !wanted.is_a(glib::Type::ENUM)
        && !wanted.is_a(glib::Type::FLAGS)
        && wanted != glib::Type::BOOL
        && !plain.contains(&wanted)
    {
        return Err(Wrong::NotSettable);
    }
    let wrong = || Wrong::Value(allowed(&spec));
    if text.contains('\0') {
        return Err(wrong());
    }
    let value = if wanted == glib::Type::STRING {
        check_address(element, name, text)?;
        text.to_value()
    } else {
        let typed = match wanted {
            t if t == glib::Type::BOOL => matches!(text, "true" | "false"),
            t if t == gst::Caps::static_type() => text.parse::<gst::Caps>().is_ok(),
            _ => !text.is_empty(),
        };
        if !typed {
            return Err(wrong());
        }
        glib::Value::deserialize_with_pspec(text, &spec).map_err(|_| wrong())?
    };
    if Number::of(&spec).is_some_and(|n| !n.holds(text)) || !value.type_().is_a(wanted) {
        return Err(wrong());
    }
    object.set_property_from_value(spec.name(), &value);
    Ok(())
}

/// Asks an element whether it understands an address: setting one that it does not only leaves the former.
fn check_address(element: &gst::Element, name: &str, text: &str) -> Result<(), Wrong> {
    let Some(handler) = element.dynamic_cast_ref::<gst::URIHandler>() else { return Ok(()) };
    let protocols: Vec<String> = handler.protocols().iter().map(|p| p.to_string()).collect();
    // A file's location is a path, whatever it looks like.
    if !matches!(name, "uri" | "location") || (name == "location" && protocols.iter().any(|p| p == "file")) {
        return Ok(());
    }
    let wrong = || {
        let schemes: Vec<_> = protocols.iter().map(|p| format!("{p}://")).collect();
        Wrong::Value(format!("an address that begins with {}", schemes.join(", ")))
    };
    let (scheme, _) = text.split_once("://").ok_or_else(wrong)?;
    if !protocols.iter().any(|p| p.eq_ignore_ascii_case(scheme)) {
        return Err(wrong());
    }
    handler.set_uri(text).map_err(|_| wrong())
}

/// A number property's bounds.
enum Number {
    Whole(i128, i128),
    Real(f64, f64),
}

impl Number {
    fn of(spec: &glib::ParamSpec) -> Option<Self> {
        macro_rules! whole {
            ($($kind:ident)*) => {
                $(if let Some(s) = spec.downcast_ref::<glib::$kind>() {
                    return Some(Self::Whole(s.minimum().into(), s.maximum().into()));
                })*
            };
        }
        macro_rules! real {
            ($($kind:ident)*) => {
                $(if let Some(s) = spec.downcast_ref::<glib::$kind>() {
                    return Some(Self::Real(s.minimum().into(), s.maximum().into()));
                })*
            };
        }
        whole!(ParamSpecInt ParamSpecUInt ParamSpecInt64 ParamSpecUInt64);
        real!(ParamSpecFloat ParamSpecDouble);
        None
    }

    fn holds(&self, text: &str) -> bool {
        match self {
            Self::Whole(min, max) => text.parse::<i128>().is_ok_and(|n| (*min..=*max).contains(&n)),
            Self::Real(min, max) => text.parse::<f64>().is_ok_and(|n| n >= *min && n <= *max),
        }
    }
}

/// What a property takes, in words.
fn allowed(spec: &glib::ParamSpec) -> String {
    let wanted = spec.value_type();
    match Number::of(spec) {
        Some(Number::Whole(min, max)) => return format!("a whole number from {min} to {max}"),
        Some(Number::Real(min, max)) => return format!("a number from {min} to {max}"),
        None => {}
    }
    if let Some(class) = glib::EnumClass::with_type(wanted) {
        let names: Vec<_> = class.values().iter().map(|v| v.nick().to_owned()).collect();
        return format!("one of {}", names.join(", "));
    }
    if let Some(class) = glib::FlagsClass::with_type(wanted) {
        let names: Vec<_> = class.values().iter().map(|v| v.nick().to_owned()).collect();
        return format!("one or more of {}, joined by +", names.join(", "));
    }
    match wanted {
        t if t == glib::Type::BOOL => "true or false".into(),
        t if t == glib::Type::STRING => "text".into(),
        t if t == gst::Caps::static_type() => "caps such as video/x-raw,format=NV12".into(),
        t if t == gst::Fraction::static_type() => "a fraction such as 30/1".into(),
        t => format!("a {}", t.name()),
    }
}

/// Caps whose values are fields of their own: read with marks in the values' places, which are then replaced, so that
/// no value can add a field.
pub(super) fn caps(parts: &[Part<'_>]) -> Result<gst::Caps, Wrong> {
    let mark = |n: usize| format!("polypscope-value-{n}-");
    let text: String = parts
        .iter()
        .enumerate()
        .map(|(n, part)| match part {
            Part::Written(text) => (*text).to_owned(),
            Part::Value(_) => mark(n),
        })
        .collect();
    let wrong = || Wrong::Value("caps such as video/x-raw,format=NV12, with a value in a field".into());
    let mut caps = text.parse::<gst::Caps>().map_err(|_| wrong())?;
    let values: Vec<_> = parts
        .iter()
        .enumerate()
        .filter_map(|(n, part)| match part {
            Part::Value(value) => Some((mark(n), *value)),
            Part::Written(_) => None,
        })
        .collect();
    let mut used = 0;
    for structure in caps.make_mut().iter_mut() {
        let fields: Vec<_> = structure.fields().map(|f| f.to_string()).collect();
        for field in fields {
            let Ok(old) = structure.get::<String>(&field) else { continue };
            let marks: Vec<_> = values.iter().filter(|(mark, _)| old.contains(mark.as_str())).collect();
            used += marks.len();
            match marks[..] {
                [] => {}
                [(mark, value)] if old == *mark => {
                    structure.set_value(&field, typed(value).ok_or_else(wrong)?)
                }
                _ => {
                    let new =
                        marks.iter().fold(old, |text, (mark, value)| text.replace(mark.as_str(), value));
                    if new.contains('\0') {
                        return Err(wrong());
                    }
                    structure.set_value(&field, new.to_send_value());
                }
            }
        }
    }
    if used == values.len() { Ok(caps) } else { Err(wrong()) }
}

/// A field's value: a whole number, a fraction, or text.
fn typed(text: &str) -> Option<glib::SendValue> {
    if text.is_empty() || text.contains('\0') {
        return None;
    }
    if let Ok(n) = text.parse::<i32>() {
        return Some(n.to_send_value());
    }
    let fraction =
        text.split_once('/').and_then(|(n, d)| Some((n.parse::<i32>().ok()?, d.parse::<i32>().ok()?)));
    match fraction {
        Some((n, d)) if d != 0 && n != i32::MIN && d != i32::MIN => {
            Some(gst::Fraction::new(n, d).to_send_value())
        }
        Some(_) => None,
        None => Some(text.to_send_value()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_ask_for_one_number() {
        for good in ["a%05d.ts", "%d", "100%%/a%3u", "a%i"] {
            assert!(is_number_pattern(good), "{good}");
        }
        for bad in ["a.ts", "%s", "%d%d", "%n", "a%", "%5", "%*d", "%999d", "%-5d", "%ld", "%05d%s", "%5%d"] {
            assert!(!is_number_pattern(bad), "{bad}");
        }
    }

    fn element(name: &str) -> gst::Element {
        crate::capture::init().unwrap();
        gst::ElementFactory::make(name).build().unwrap()
    }

    #[test]
    fn values_are_of_the_propertys_type() {
        let test = element("videotestsrc");
        set(&test, "num-buffers", "7").unwrap();
        assert_eq!(test.property::<i32>("num-buffers"), 7);
        let wrong = |e: &gst::Element, name: &str, text: &str| match set(e, name, text) {
            Err(Wrong::Value(words)) => words,
            other => panic!("{name}={text}: {other:?}"),
        };
        for text in ["99999999999", "-2", "7 ! fakesink", "", "0x10", "7.5"] {
            assert_eq!(wrong(&test, "num-buffers", text), "a whole number from -1 to 2147483647");
        }
        assert!(wrong(&test, "pattern", "nosuch").starts_with("one of smpte, snow"));
        set(&test, "pattern", "snow").unwrap();
        assert_eq!(wrong(&test, "is-live", "maybe"), "true or false");
        assert_eq!(set(&test, "nosuch", "1"), Err(Wrong::NoProperty));
        assert_eq!(set(&test, "parent", "x"), Err(Wrong::NotSettable));
        let filter = element("capsfilter");
        set(&filter, "caps", "video/x-raw,format=NV12").unwrap();
        assert!(wrong(&filter, "caps", "a ! b").starts_with("caps such as"));
        let file = element("filesrc");
        set(&file, "location", "rtsp://\\\"' ! fakesink ä").unwrap();
        assert_eq!(file.property::<String>("location"), "rtsp://\\\"' ! fakesink ä");
        assert!(set(&file, "location", "a\0b").is_err());
        // An element that would be made from text is not.
        let split = element("splitmuxsink");
        assert_eq!(set(&split, "muxer", "mp4mux"), Err(Wrong::NotSettable));
    }

    #[test]
    fn a_value_in_caps_is_one_field() {
        crate::capture::init().unwrap();
        let with = |value| {
            caps(&[Part::Written("video/x-raw,format="), Part::Value(value), Part::Written(",width=64")])
        };
        assert_eq!(with("NV12").unwrap().to_string(), "video/x-raw, format=(string)NV12, width=(int)64");
        let caps = with("NV12,height=3;image/jpeg").unwrap();
        assert_eq!((caps.size(), caps.structure(0).unwrap().n_fields()), (1, 2));
        assert_eq!(typed("30/1").unwrap().get::<gst::Fraction>().unwrap(), gst::Fraction::new(30, 1));
        assert!(typed("1/0").is_none() && typed("").is_none());
        assert!(super::caps(&[Part::Value("video/x-raw")]).is_err());
    }
}
