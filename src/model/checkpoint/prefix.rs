//! What stands in front of every key of a checkpoint: wrappers of PyTorch, and the path of the network within a larger
//! model (a framework's `segmentor.`, a student beside its teacher).
//!
//! In: the keys of a file. Out: the one prefix under which these networks' own keys lie, or that there are several.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::source::{Fault, brief};
use crate::model::parameters::parameters;
use crate::model::{Architecture, Variant};

/// Leading segments that wrappers of PyTorch put in front of every key.
const WRAPPERS: [&str; 5] = ["module.", "model.", "net.", "network.", "_orig_mod."];

/// Keys that tell a state dict of these networks, whatever stands in front of them.
const TELLTALES: [&str; 2] = ["output1.0.weight", "resnet.conv1.0.weight"];

/// Whether a key is one of those that tell these networks.
pub(super) fn is_telltale(key: &str) -> bool {
    TELLTALES
        .iter()
        .any(|t| key.strip_suffix(t).is_some_and(|before| before.is_empty() || before.ends_with('.')))
}

/// A key without what wrappers put in front of it.
fn unwrapped(mut key: &str) -> &str {
    while let Some(rest) = WRAPPERS.iter().find_map(|w| key.strip_prefix(w)) {
        key = rest;
    }
    key
}

/// What to take off the keys of one file.
#[derive(Debug, PartialEq)]
pub(super) struct Prefixes {
    /// Longest first. Several only where each holds another part of the same network.
    prefixes: Vec<String>,
}

impl Prefixes {
    /// Looks for these networks' keys behind any number of leading segments.
    ///
    /// # Errors
    /// Several networks in one file, by their prefixes.
    pub fn of<'k>(keys: impl Iterator<Item = &'k str>) -> Result<Self, Fault> {
        let list = parameters(Architecture { variant: Variant::M2SNet, classes: 1 });
        let published: HashSet<&str> = list.iter().map(|p| p.key.as_str()).collect();
        let mut under: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for key in keys {
            let starts = std::iter::once(0).chain(key.match_indices('.').map(|(dot, _)| dot + 1));
            // The shortest prefix: no published key is the end of another one.
            if let Some(at) = starts.take(MOST_SEGMENTS).find(|&at| published.contains(&key[at..])) {
                under.entry(&key[..at]).or_default().insert(&key[at..]);
            }
        }
        // A head of another model may be called as one of ours; a network has many keys.
        let most = under.values().map(BTreeSet::len).max().unwrap_or(0);
        under.retain(|_, keys| 2 * keys.len() >= most);
        let mut seen = HashSet::new();
        if under.values().flatten().any(|key| !seen.insert(*key)) {
            return Err(several(&under.into_keys().collect::<Vec<_>>()));
        }
        let mut prefixes: Vec<String> = under.into_keys().map(str::to_owned).collect();
        prefixes.sort_by_key(|p| std::cmp::Reverse(p.len()));
        Ok(Self { prefixes })
    }

    /// A key as it was published. One that does not belong to the network keeps its name, so that it is never taken for
    /// a part of it.
    pub fn strip<'k>(&self, key: &'k str) -> &'k str {
        if let Some(rest) = self.prefixes.iter().find_map(|p| key.strip_prefix(p.as_str())) {
            return unwrapped(rest);
        }
        // Wrappers alone are no place in a larger model.
        if self.prefixes.iter().all(|p| unwrapped(p).is_empty()) { unwrapped(key) } else { key }
    }

    /// For reports; empty if the keys are the published ones.
    pub fn in_words(&self) -> String {
        let named: Vec<&str> = self.prefixes.iter().map(String::as_str).filter(|p| !p.is_empty()).collect();
        named.join(", ")
    }
}

/// Leading segments that are tried; no framework nests its models deeper.
const MOST_SEGMENTS: usize = 16;

fn several(prefixes: &[&str]) -> Fault {
    let names: Vec<String> = prefixes
        .iter()
        .map(|p| if p.is_empty() { "no prefix".to_owned() } else { format!("{:?}", brief(p)) })
        .collect();
    let example = brief(prefixes.iter().rfind(|p| !p.is_empty()).copied().unwrap_or_default());
    Fault::new(
        format!("holds several networks, under {}", names.join(" and ")),
        format!(
            "keep the wanted one: load it in PyTorch and save {{k.removeprefix({example:?}): v for k, v in \
             state.items() if k.startswith({example:?})}} with torch.save, where {example:?} stands for it"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(prefix: &str) -> Vec<String> {
        let list = parameters(Architecture { variant: Variant::MSNet, classes: 1 });
        list.into_iter().map(|p| format!("{prefix}{}", p.key)).collect()
    }

    fn of(keys: &[String]) -> Result<Prefixes, Fault> {
        Prefixes::of(keys.iter().map(String::as_str))
    }

    #[test]
    fn any_one_prefix_is_found_and_taken_off() {
        for prefix in ["", "module.", "model.", "segmentor.", "student.net.", "a.b.c.module.d.", "模型."] {
            let mut keys = keys(prefix);
            keys.push("criterion.output1.0.weight".to_owned());
            keys.push("optimizer.lr".to_owned());
            let found = of(&keys).unwrap();
            assert_eq!(found.in_words(), prefix);
            assert_eq!(found.strip(&keys[0]), "resnet.conv1.0.weight");
            // Another model's head is not taken for a part of this network.
            assert_eq!(found.strip("criterion.output1.0.weight"), "criterion.output1.0.weight");
        }
        let found = of(&keys("segmentor.")).unwrap();
        assert_eq!(found.strip("output1.0.weight"), "output1.0.weight");
        assert_eq!(found.strip("model.output1.0.weight"), "model.output1.0.weight", "of something else");
        assert_eq!(of(&[]).unwrap().in_words(), "");
        assert_eq!(of(&["module.features.0.weight".to_owned()]).unwrap().strip("module.x"), "x");
    }

    #[test]
    fn several_networks_are_named_and_none_is_chosen() {
        for (one, other) in
            [("student.", "teacher."), ("model.", "model_ema.module."), ("", "ema."), ("a.", "a.b.")]
        {
            let mut keys_of_both = keys(one);
            keys_of_both.extend(keys(other));
            let said = of(&keys_of_both).unwrap_err().to_string();
            assert!(said.starts_with("holds several networks, under "), "{said}");
            for prefix in [one, other] {
                let name = if prefix.is_empty() { "no prefix".into() } else { format!("{prefix:?}") };
                assert!(said.contains(&name), "{said}");
            }
            // One of them whole, the other cut down to its backbone: still none is chosen.
            keys_of_both.retain(|k| k.starts_with(one) && !k.starts_with(other) || k.contains("resnet."));
            assert!(of(&keys_of_both).is_err(), "{one} {other}");
        }
    }

    /// What `DataParallel` wrapped in part is still one network.
    #[test]
    fn parts_of_one_network_under_two_wrappers_are_one() {
        let all = keys("");
        let (half, rest) = all.split_at(all.len() / 2);
        let mixed: Vec<String> =
            half.iter().map(|k| format!("module.{k}")).chain(rest.iter().cloned()).collect();
        let found = of(&mixed).unwrap();
        let stripped: Vec<&str> = mixed.iter().map(|k| found.strip(k)).collect();
        assert!(stripped.iter().zip(&all).all(|(a, b)| a == b));
    }
}
