//! Foreign bytes to checked parameters: which form it is, which network, and whether every value can be one.
//!
//! In: a file's bytes. Out: the parameters of one network, complete, of the right shapes, finite; or what is wrong.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fmt;

use super::budget::{Budget, LONGEST_KEY};
use super::description::{Description, MOST_CLASSES};
use super::prefix::Prefixes;
use super::values::{Stored, Values};
use super::{pth, safetensors};
use crate::model::parameters::parameters;
use crate::model::{Architecture, Parameter, Role, Variant};
use crate::shown::OneLine;
use crate::{Error, Result};

/// What to do about a file that is of no use.
const REMEDY: &str = "use a checkpoint of M²SNet or MSNet with the published keys";

/// What a tensor's entry is charged while the network is put together, in bytes, beside three copies of its key.
const FOUND: usize = 512;

/// Something wrong with a file, without the file's name.
#[derive(Debug, PartialEq)]
pub(super) struct Fault {
    what: String,
    remedy: Cow<'static, str>,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.what, self.remedy)
    }
}

/// The beginning of a name out of a foreign file, short enough for a sentence.
pub(super) fn brief(name: &str) -> Cow<'_, str> {
    const MOST: usize = 120;
    match name.char_indices().nth(MOST) {
        Some((at, _)) => Cow::Owned(format!("{}…", &name[..at])),
        None => Cow::Borrowed(name),
    }
}

impl Fault {
    /// The file is damaged.
    pub fn corrupt(what: impl std::fmt::Display) -> Self {
        Self { what: format!("is corrupt ({what})"), remedy: Cow::Borrowed("fetch it again") }
    }

    /// One entry is of no use.
    pub fn at(key: &str, what: impl std::fmt::Display) -> Self {
        Self { what: format!("{} {what}", brief(key)), remedy: Cow::Borrowed(REMEDY) }
    }

    pub fn new(what: impl Into<String>, remedy: impl Into<Cow<'static, str>>) -> Self {
        Self { what: what.into(), remedy: remedy.into() }
    }

    pub fn in_file(self, place: &str) -> Error {
        // Names in the file are its maker's: one with a line's end in it would make two sentences of one.
        Error::input(format!("{place}: {}", OneLine(self.what))).remedy(self.remedy.into_owned())
    }
}

/// Tensors under their keys in one file or in memory.
pub(super) trait Source {
    /// Keys as they are there, and shapes.
    fn keys(&self) -> Vec<(String, Vec<usize>)>;

    /// The values under one of [`Source::keys`].
    fn load(&mut self, key: &str) -> Result<Stored, Fault>;

    /// The dict within the file that the tensors lie in, such as `state_dict`; empty for the file itself.
    fn container(&self) -> &str {
        ""
    }

    /// The description that travels inside the file.
    fn description(&self) -> Option<&str> {
        None
    }
}

/// Tells the form by content and opens it. The flag says whether it is a PyTorch file.
pub(super) fn open<'a>(bytes: &'a [u8], budget: &mut Budget) -> Result<(Box<dyn Source + 'a>, bool), Fault> {
    if bytes.is_empty() {
        return Err(Fault::new("is empty", "fetch it again"));
    }
    if safetensors::Archive::recognise(bytes) {
        return Ok((Box::new(safetensors::Archive::open(bytes, budget)?), false));
    }
    if let Some(archive) = pth::open(bytes, budget)? {
        return Ok((archive, true));
    }
    if bytes.starts_with(b"version https://git-lfs") {
        return Err(Fault::new("is a Git LFS pointer, not the file itself", "run `git lfs pull`"));
    }
    Err(Fault::new(
        "is neither a safetensors file nor a PyTorch checkpoint",
        "give one of these, or fetch it again if it should be one",
    ))
}

/// Kept in checkpoints by habit, of no use to the network.
fn ignorable(key: &str) -> bool {
    key.ends_with(".num_batches_tracked") || key.starts_with("resnet.fc.")
}

/// Kernels the network fixes to one; files usually leave them out.
const FIXED: [(&str, [usize; 4]); 2] = [("conv_3.weight", [64, 64, 3, 3]), ("conv_5.weight", [64, 64, 5, 5])];

/// The parameters found, and the keys of the file that no such network has.
pub(super) struct Complete {
    pub description: Description,
    /// Whether the description came with the tensors; false if it is the published network's.
    pub inside: bool,
    pub parameters: HashMap<String, Stored>,
    pub strangers: Vec<String>,
    /// What stood in front of every key and was taken off; empty for none.
    pub prefix: String,
}

/// Takes one network's parameters out of a source and checks every one.
///
/// `described` is what the file is said to be; without it the network is told by the keys and `name` is used.
pub(super) fn complete(
    place: &str,
    name: &str,
    described: Option<Description>,
    source: &mut dyn Source,
    budget: &mut Budget,
) -> Result<Complete> {
    let (prefix, mut found) = find(source, budget).map_err(|fault| fault.in_file(place))?;

    let inside = source.description().map(str::to_owned);
    let (description, inside) = match (described, inside) {
        (Some(d), _) => (d, false),
        (None, Some(text)) => {
            (Description::parse(text.as_bytes(), &format!("{place}: the description inside"))?, true)
        }
        (None, None) => {
            let architecture = infer(&found).map_err(|fault| fault.in_file(place))?;
            (Description::published(name, architecture), false)
        }
    };
    let architecture = description.architecture();
    let wanted = parameters(architecture);
    agree(&found, architecture, &wanted).map_err(|fault| fault.in_file(place))?;

    let mut kept = HashMap::with_capacity(wanted.len());
    for p in wanted {
        let (key, _) = found.remove(&p.key).expect("agree has seen every parameter");
        budget
            .charge(p.shape.iter().product(), size_of::<f32>())
            .map_err(|spent| Fault::from(spent).in_file(place))?;
        let stored = source.load(&key).and_then(|s| sound(&p, s)).map_err(|fault| fault.in_file(place))?;
        kept.insert(p.key, stored);
    }
    for (key, shape) in FIXED {
        if let Some((original, found)) = found.remove(key) {
            ones(key, &shape, &original, &found, source).map_err(|fault| fault.in_file(place))?;
        }
    }
    let strangers: Vec<String> = found.into_keys().filter(|k| !ignorable(k)).collect();
    if let Some(first) = strangers.first() {
        tracing::warn!(
            "{place}: {} tensor(s) such as {} are no part of {} and are not used",
            strangers.len(),
            brief(first),
            architecture.variant
        );
    }
    Ok(Complete { description, inside, parameters: kept, strangers, prefix })
}

/// The file's tensors under their published keys (with the file's own key and the shape), and what was taken off.
fn find(
    source: &dyn Source,
    budget: &mut Budget,
) -> Result<(String, BTreeMap<String, (String, Vec<usize>)>), Fault> {
    let keys = source.keys();
    for (key, _) in &keys {
        if key.len() > LONGEST_KEY {
            return Err(Fault::corrupt(format!(
                "{} is the name of a tensor, {} bytes long",
                brief(key),
                key.len()
            )));
        }
        budget.charge(1, FOUND + 3 * key.len())?;
    }
    let prefixes = Prefixes::of(keys.iter().map(|(key, _)| key.as_str()))?;
    let mut found: BTreeMap<String, (String, Vec<usize>)> = BTreeMap::new();
    for (key, shape) in keys {
        let short = prefixes.strip(&key).to_owned();
        if let Some((other, _)) = found.get(&short) {
            return Err(Fault::at(
                &short,
                format!("comes twice, as {} and as {}", brief(other), brief(&key)),
            ));
        }
        found.insert(short, (key, shape));
    }
    Ok((prefixes.in_words(), found))
}

/// Tells the network by its keys.
fn infer(found: &BTreeMap<String, (String, Vec<usize>)>) -> Result<Architecture, Fault> {
    let has = |prefix: &str| found.keys().any(|k| k.starts_with(prefix));
    let variant = match has("conv_3.norm.") || has("conv_5.norm.") {
        true => Variant::M2SNet,
        false => Variant::MSNet,
    };
    let classes = match found.get("output1.0.weight").map(|(_, shape)| shape.as_slice()) {
        Some([n @ 1..=MOST_CLASSES, ..]) => *n,
        Some([n, ..]) => {
            return Err(Fault::at(
                "output1.0.weight",
                format!(
                    "has {n} output channels, as many classes are not supported (at most {MOST_CLASSES})"
                ),
            ));
        }
        _ => 1,
    };
    Ok(Architecture { variant, classes })
}

/// Whether every parameter is there with its shape, before any value is read.
fn agree(
    found: &BTreeMap<String, (String, Vec<usize>)>,
    architecture: Architecture,
    wanted: &[Parameter],
) -> Result<(), Fault> {
    let variant = architecture.variant;
    if variant == Variant::MSNet && found.contains_key("conv_3.norm.weight") {
        return Err(Fault::new(
            "is a checkpoint of m2snet (it has conv_3.norm.weight), but its description says msnet",
            "correct `network` in the description",
        ));
    }
    let missing: Vec<&Parameter> = wanted.iter().filter(|p| !found.contains_key(&p.key)).collect();
    if missing.len() == wanted.len() {
        let holds = match found.keys().next() {
            Some(key) => format!("the first of its {} tensors is {}", found.len(), brief(key)),
            None => "it holds no tensor at all".to_owned(),
        };
        return Err(Fault::new(
            format!(
                "is a checkpoint of another network: {} with the shape {:?} and all other parameters of {variant} \
                 are missing, {holds}",
                wanted[0].key, wanted[0].shape
            ),
            REMEDY,
        ));
    }
    if let Some(first) = missing.first() {
        let more = match missing.len() - 1 {
            0 => String::new(),
            n => format!(", and so are {n} more"),
        };
        return Err(Fault::at(
            &first.key,
            format!("is missing, {variant} wants it with the shape {:?}{more}", first.shape),
        ));
    }
    for p in wanted {
        let (_, shape) = &found[&p.key];
        if *shape != p.shape {
            return Err(Fault::at(
                &p.key,
                format!(
                    "has the shape {shape:?}, {variant} with {} class(es) wants {:?}",
                    architecture.classes, p.shape
                ),
            ));
        }
    }
    Ok(())
}

/// Whether the values can be what the parameter is for.
fn sound(p: &Parameter, stored: Stored) -> Result<Stored, Fault> {
    if stored.shape != p.shape || stored.values.len() != p.shape.iter().product::<usize>() {
        return Err(Fault::at(
            &p.key,
            format!("has the shape {:?}, the network wants {:?}", stored.shape, p.shape),
        ));
    }
    if p.role != Role::Kernel && matches!(stored.values, Values::I8 { .. }) {
        return Err(Fault::at(&p.key, "is stored as I8, only convolution kernels may be"));
    }
    if let Some((value, index)) = stored.not_finite() {
        let what = if value.is_nan() { "not a number (NaN)" } else { "infinite" };
        return Err(Fault::at(&p.key, format!("is {what} at {index:?}")));
    }
    if p.key.ends_with(".running_var")
        && let Some((value, index)) = stored.negative()
    {
        return Err(Fault::at(&p.key, format!("is {value} at {index:?}, a variance is not negative")));
    }
    Ok(stored)
}

/// Whether a kernel that the network fixes to one is one.
fn ones(
    key: &str,
    wanted: &[usize],
    original: &str,
    found: &[usize],
    source: &mut dyn Source,
) -> Result<(), Fault> {
    if found != wanted {
        return Err(Fault::at(key, format!("has the shape {found:?}, the network wants {wanted:?}")));
    }
    let values = source.load(original)?.to_f32();
    // 127 steps of a 127th are a rounding away from one.
    match values.iter().find(|x| x.is_nan() || (**x - 1.0).abs() > 1e-6) {
        Some(x) => Err(Fault::at(key, format!("holds {x} where the network has nothing but ones"))),
        None => Ok(()),
    }
}
