//! PyTorch's own containers: a zip archive (since 1.6) or, before that, pickles followed by raw storages.
//!
//! In: the bytes of a `.pth` file. Out: the tensors of the one state dict in it, under the keys they have there.
//!
//! Nothing is executed, and no more memory is taken than the wanted tensors need.

use std::collections::{HashMap, HashSet};
use std::io::{Cursor, Read};

use zip::{CompressionMethod, ZipArchive};

use super::budget::{Budget, LONGEST_KEY};
use super::pickle::{Graph, Id, Node, SAVE_STATE_DICT, Storage};
use super::prefix;
use super::source::{Fault, Source, brief};
use super::values::{Kind, Stored, Values};

/// How deep inside other dicts a state dict is looked for.
const DEEPEST: usize = 3;

/// What the file of before PyTorch 1.6 begins with, after the pickle protocol: 0x1950a86a20f9469cfc6c as a LONG1.
const LEGACY_MAGIC: [u8; 12] = [0x8a, 0x0a, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];

/// What an entry of a zip archive's directory is charged, in bytes, beside its name, and a tensor or a storage of ours.
const ENTRY: usize = 1024;
const PLACED: usize = 512;

/// Opens a PyTorch file; `None` if it is none.
pub(super) fn open<'a>(bytes: &'a [u8], budget: &mut Budget) -> Result<Option<Box<dyn Source + 'a>>, Fault> {
    if bytes.starts_with(b"PK\x03\x04") || bytes.starts_with(b"PK\x05\x06") {
        return Ok(Some(Box::new(Archive::zip(bytes, budget)?)));
    }
    if bytes.first() == Some(&0x80) && bytes.get(2..14) == Some(&LEGACY_MAGIC) {
        return Ok(Some(Box::new(Archive::legacy(bytes, budget)?)));
    }
    if bytes.get(257..262) == Some(b"ustar") {
        return Err(Fault::new(
            "is a tar archive, as PyTorch wrote before 0.2",
            "load it in PyTorch and save it again with torch.save",
        ));
    }
    if let [0x80, 2..=5, ..] = bytes {
        return Err(Fault::new("is a Python pickle, but not one of torch.save", SAVE_STATE_DICT));
    }
    Ok(None)
}

/// Where a tensor's values lie.
struct Placed<'a> {
    /// Where many tensors share one storage they share its name too: it is not copied.
    storage: &'a str,
    /// As PyTorch calls it, for errors.
    class: &'a str,
    kind: Option<Kind>,
    offset: u64,
    shape: Vec<usize>,
    stride: Vec<u64>,
}

struct Archive<'a> {
    tensors: HashMap<&'a str, Placed<'a>>,
    /// The dict they lie in, as `state_dict` or `model.ema`; empty if the file holds nothing else.
    container: String,
    storages: Storages<'a>,
}

enum Storages<'a> {
    Zip {
        zip: ZipArchive<Cursor<&'a [u8]>>,
        bytes: &'a [u8],
        /// Folder of the archive, with its slash.
        folder: String,
        /// Storages whose checksum was found right.
        checked: HashMap<String, &'a [u8]>,
    },
    Legacy(HashMap<&'a str, &'a [u8]>),
}

impl<'a> Archive<'a> {
    fn zip(bytes: &'a [u8], budget: &mut Budget) -> Result<Self, Fault> {
        charge_directory(bytes, budget)?;
        let mut zip = ZipArchive::new(Cursor::new(bytes)).map_err(Fault::corrupt)?;
        let name = zip.file_names().flatten().find(|n| n == "data.pkl" || n.ends_with("/data.pkl"));
        let Some(name) = name.map(|n| n.into_owned()) else {
            return Err(Fault::new(
                "is a zip archive, but not one of torch.save (it has no data.pkl)",
                SAVE_STATE_DICT,
            ));
        };
        let folder = name.strip_suffix("data.pkl").expect("it ends so").to_owned();
        let pickle = entry(&mut zip, bytes, &name)?;
        if zip.index_for_name(&format!("{folder}byteorder")).is_some()
            && entry(&mut zip, bytes, &format!("{folder}byteorder"))? != b"little"
        {
            return Err(Fault::new(
                "was saved on a big-endian machine",
                "load it in PyTorch on a little-endian machine and save it again",
            ));
        }
        let graph = Graph::read(pickle, budget)?;
        let (container, tensors) = state_dict(&graph, budget)?;
        Ok(Self {
            tensors,
            container,
            storages: Storages::Zip { zip, bytes, folder, checked: HashMap::new() },
        })
    }

    /// Five pickles (magic number, protocol, system, the object, the storages' keys), then for each storage the number
    /// of its elements as i64 and their bytes.
    fn legacy(bytes: &'a [u8], budget: &mut Budget) -> Result<Self, Fault> {
        let mut at = 0;
        let mut next = |budget: &mut Budget| {
            let graph = Graph::read(&bytes[at..], budget)?;
            at += graph.len;
            Ok::<_, Fault>(graph)
        };
        next(budget)?;
        let protocol = next(budget)?;
        if *protocol.get(protocol.root) != Node::Int(1001) {
            return Err(Fault::corrupt("an unknown version of PyTorch's old format"));
        }
        let system = next(budget)?;
        if let Node::Dict(items) = system.get(system.root)
            && items
                .iter()
                .any(|&(k, v)| system.text(k) == Some("little_endian") && *system.get(v) == Node::Bool(false))
        {
            return Err(Fault::new(
                "was saved on a big-endian machine",
                "load it in PyTorch on a little-endian machine and save it again",
            ));
        }
        let graph = next(budget)?;
        let keys = next(budget)?;
        let (container, tensors) = state_dict(&graph, budget)?;
        budget.charge(graph.storages().count(), PLACED)?;
        let element: HashMap<&str, Option<usize>> =
            graph.storages().map(|s| (s.key, element_size(s.class))).collect();
        let Node::List(list) = keys.get(keys.root) else {
            return Err(Fault::corrupt("it has no list of storages"));
        };
        budget.charge(list.len(), PLACED)?;
        let mut storages = HashMap::with_capacity(list.len());
        for &id in list {
            let cut_off = || Fault::corrupt("its storages end too early: it was cut off or changed");
            let key = keys.text(id).ok_or_else(|| Fault::corrupt("a storage without a key"))?;
            let size = element
                .get(key)
                .copied()
                .flatten()
                .ok_or_else(|| Fault::corrupt("a storage of an unknown type"))?;
            let (len, rest) = bytes[at..].split_first_chunk().ok_or_else(cut_off)?;
            let len = usize::try_from(i64::from_le_bytes(*len))
                .ok()
                .and_then(|n| n.checked_mul(size))
                .ok_or_else(|| Fault::corrupt("a storage of an impossible size"))?;
            storages.insert(key, rest.get(..len).ok_or_else(cut_off)?);
            at += 8 + len;
        }
        Ok(Self { tensors, container, storages: Storages::Legacy(storages) })
    }
}

/// Charges what a zip archive's directory will become, before it is read: every header in it, wherever it lies, and
/// three copies of its name. What looks like one among the values only makes the sum a little larger.
fn charge_directory(bytes: &[u8], budget: &mut Budget) -> Result<(), Fault> {
    let mut rest = bytes;
    while let Some(at) = rest.iter().position(|&b| b == b'P') {
        rest = &rest[at..];
        if rest.starts_with(b"PK\x01\x02") {
            let length = |at: usize| match rest.get(at..at + 2) {
                Some(&[low, high]) => usize::from(u16::from_le_bytes([low, high])),
                _ => 0,
            };
            budget.charge(1, ENTRY)?;
            // Name, extra fields, comment.
            budget.charge(length(28) + length(30) + length(32), 3)?;
        }
        rest = &rest[1..];
    }
    Ok(())
}

/// Bytes of an entry, stored plainly, its checksum compared.
fn entry<'a>(zip: &mut ZipArchive<Cursor<&'a [u8]>>, bytes: &'a [u8], name: &str) -> Result<&'a [u8], Fault> {
    let mut file = zip.by_name(name).map_err(|e| Fault::corrupt(format!("{}: {e}", brief(name))))?;
    if file.compression() != CompressionMethod::Stored {
        return Err(Fault::new(
            "has compressed entries, which torch.save does not write",
            "load it in PyTorch and save it again with torch.save",
        ));
    }
    let size = file.size();
    // Reading to the end is what compares the checksum; the bytes themselves are taken from where they are.
    let read = std::io::copy(&mut file.by_ref().take(bytes.len() as u64 + 1), &mut std::io::sink())
        .map_err(|e| Fault::corrupt(format!("{}: {e}", brief(name))))?;
    let start = file.data_start().unwrap_or(u64::MAX);
    let range = usize::try_from(start).ok().zip(usize::try_from(read).ok());
    match range.and_then(|(s, n)| bytes.get(s..s.checked_add(n)?)) {
        Some(slice) if read == size => Ok(slice),
        _ => Err(Fault::corrupt(format!("{} is cut off", brief(name)))),
    }
}

/// Bytes of one element of a storage's class.
fn element_size(class: &str) -> Option<usize> {
    Some(match class {
        "BoolStorage" | "ByteStorage" | "CharStorage" => 1,
        "HalfStorage" | "BFloat16Storage" | "ShortStorage" => 2,
        "FloatStorage" | "IntStorage" => 4,
        "DoubleStorage" | "LongStorage" | "ComplexFloatStorage" => 8,
        "ComplexDoubleStorage" => 16,
        _ => return None,
    })
}

/// The one state dict in a pickle, which may lie inside other dicts (`{"epoch": …, "state_dict": {…}}`), and where.
fn state_dict<'a>(
    graph: &Graph<'a>,
    budget: &mut Budget,
) -> Result<(String, HashMap<&'a str, Placed<'a>>), Fault> {
    if let Node::Object(module, name) = *graph.get(graph.root) {
        return Err(Fault::new(
            format!("holds a Python object ({}.{}), not the parameters alone", brief(module), brief(name)),
            SAVE_STATE_DICT,
        ));
    }
    // (where, what it holds), breadth first.
    let mut candidates: Vec<(String, HashMap<&'a str, Id>)> = Vec::new();
    let mut seen = HashSet::new();
    let mut level = vec![(String::new(), graph.root)];
    for _ in 0..=DEEPEST {
        let mut below = Vec::new();
        for (at, id) in level {
            let Node::Dict(items) = graph.get(id) else { continue };
            if !seen.insert(id) {
                continue;
            }
            budget.charge(items.len(), PLACED)?;
            // Keys that come twice: the later one counts, as in Python.
            let mut tensors = HashMap::new();
            for &(key, value) in items {
                let Some(key) = graph.text(key).filter(|key| key.len() <= LONGEST_KEY) else { continue };
                match graph.get(value) {
                    Node::Tensor(_) => {
                        tensors.insert(key, value);
                    }
                    Node::Dict(_) => {
                        let dot = if at.is_empty() { "" } else { "." };
                        budget.charge(1, at.len() + 1 + key.len())?;
                        below.push((format!("{at}{dot}{key}"), value));
                    }
                    Node::Object("torch._utils", how) if how.starts_with("_rebuild") => {
                        return Err(Fault::at(
                            key,
                            format!("is a kind of tensor that is not read (torch._utils.{})", brief(how)),
                        ));
                    }
                    _ => {}
                }
            }
            if !tensors.is_empty() {
                candidates.push((at, tensors));
            }
        }
        level = below;
    }
    let ours: Vec<&(String, HashMap<&'a str, Id>)> =
        candidates.iter().filter(|(_, tensors)| tensors.keys().any(|k| prefix::is_telltale(k))).collect();
    let chosen = match ours.as_slice() {
        [one] => one,
        [] => match candidates.iter().max_by_key(|(_, tensors)| tensors.len()) {
            Some(most) => most,
            None => return Err(Fault::new("holds no tensors under keys", SAVE_STATE_DICT)),
        },
        several => {
            let names: Vec<String> = several.iter().map(|(at, _)| format!("{:?}", brief(at))).collect();
            return Err(Fault::new(
                format!("holds several sets of parameters ({})", names.join(", ")),
                "load it in PyTorch and save the wanted one alone with torch.save",
            ));
        }
    };
    let placed = chosen.1.iter().filter_map(|(&key, &id)| {
        let Node::Tensor(view) = graph.get(id) else { return None };
        let Node::Storage(storage) = graph.get(view.storage) else { return None };
        let Storage { kind, class, key: storage } = **storage;
        let (shape, stride) = (view.shape.clone(), view.stride.clone());
        Some((key, Placed { storage, class, kind, offset: view.offset, shape, stride }))
    });
    Ok((chosen.0.clone(), placed.collect()))
}

impl<'a> Storages<'a> {
    fn get(&mut self, key: &str) -> Result<&'a [u8], Fault> {
        match self {
            Storages::Legacy(storages) => storages
                .get(key)
                .copied()
                .ok_or_else(|| Fault::corrupt(format!("its storage {} is missing", brief(key)))),
            Storages::Zip { zip, bytes, folder, checked } => {
                if let Some(storage) = checked.get(key) {
                    return Ok(storage);
                }
                let storage = entry(zip, bytes, &format!("{folder}data/{key}"))?;
                checked.insert(key.to_owned(), storage);
                Ok(storage)
            }
        }
    }
}

impl Source for Archive<'_> {
    fn keys(&self) -> Vec<(String, Vec<usize>)> {
        self.tensors.iter().map(|(&key, placed)| (key.to_owned(), placed.shape.clone())).collect()
    }

    fn load(&mut self, key: &str) -> Result<Stored, Fault> {
        let placed = self.tensors.get(key).ok_or_else(|| Fault::at(key, "is missing"))?;
        let Some(kind) = placed.kind else {
            let class = brief(placed.class);
            return Err(Fault::at(key, format!("is stored as {class}, which no parameter is")));
        };
        let storage = self.storages.get(placed.storage)?;
        let values = gather(placed, kind, storage)
            .ok_or_else(|| Fault::corrupt(format!("{key} reaches beyond its storage")))?;
        Ok(Stored { shape: placed.shape.clone(), values })
    }

    fn container(&self) -> &str {
        &self.container
    }
}

/// The values of a view in row-major order, whatever its strides; `None` if it reaches beyond its storage.
fn gather(placed: &Placed<'_>, kind: Kind, storage: &[u8]) -> Option<Values> {
    let size = kind.size();
    let len = placed.shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d))?;
    if len == 0 {
        return Some(Values::from_le_bytes(kind, &[]));
    }
    // The farthest element bounds them all.
    let mut last = placed.offset;
    for (&n, &stride) in placed.shape.iter().zip(&placed.stride) {
        last = last.checked_add((n as u64 - 1).checked_mul(stride)?)?;
    }
    if last >= (storage.len() / size) as u64 {
        return None;
    }
    let offset = placed.offset as usize * size;
    let contiguous =
        placed.shape.iter().zip(&placed.stride).rev().try_fold(1u64, |expected, (&n, &stride)| {
            (n == 1 || stride == expected).then_some(expected * n as u64)
        });
    if contiguous.is_some() {
        return Some(Values::from_le_bytes(kind, &storage[offset..offset + len * size]));
    }
    let mut bytes = Vec::with_capacity(len * size);
    let mut index = vec![0usize; placed.shape.len()];
    for _ in 0..len {
        let element: usize = index.iter().zip(&placed.stride).map(|(&i, &s)| i * s as usize).sum();
        let from = offset + element * size;
        bytes.extend_from_slice(&storage[from..from + size]);
        for (i, &n) in index.iter_mut().zip(&placed.shape).rev() {
            *i += 1;
            if *i < n {
                break;
            }
            *i = 0;
        }
    }
    Some(Values::from_le_bytes(kind, &bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn placed(offset: u64, shape: &[usize], stride: &[u64]) -> Placed<'static> {
        Placed {
            storage: "",
            class: "",
            kind: Some(Kind::F32),
            offset,
            shape: shape.to_vec(),
            stride: stride.to_vec(),
        }
    }

    #[test]
    fn gathers_any_strides_and_refuses_what_lies_outside() {
        let storage: Vec<u8> = (0..12).flat_map(|i| (i as f32).to_le_bytes()).collect();
        let get = |p: Placed| match gather(&p, Kind::F32, &storage) {
            Some(Values::F32(v)) => Some(v),
            _ => None,
        };
        assert_eq!(get(placed(2, &[2, 2], &[2, 1])).unwrap(), [2.0, 3.0, 4.0, 5.0]);
        // A transposed view and one that repeats its only element.
        assert_eq!(get(placed(0, &[3, 2], &[1, 3])).unwrap(), [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]);
        assert_eq!(get(placed(7, &[3], &[0])).unwrap(), [7.0; 3]);
        // channels_last: [1, 2, 2, 3] stored as rows, columns, channels.
        assert_eq!(
            get(placed(0, &[1, 2, 2, 3], &[12, 1, 6, 2])).unwrap(),
            [0.0, 2.0, 4.0, 6.0, 8.0, 10.0, 1.0, 3.0, 5.0, 7.0, 9.0, 11.0]
        );
        assert!(get(placed(0, &[13], &[1])).is_none());
        assert!(get(placed(12, &[1], &[1])).is_none());
        assert!(get(placed(1, &[2], &[u64::MAX])).is_none());
        assert!(get(placed(u64::MAX, &[2, 2], &[1, 1])).is_none());
        assert!(get(placed(0, &[usize::MAX, 3], &[0, 0])).is_none());
        assert!(get(placed(99, &[0, 4], &[4, 1])).unwrap().is_empty());
    }
}
