//! Tensors of other networks, in the containers checkpoints come in.
//!
//! In: a safetensors file or a PyTorch state dict, the keys and shapes that are wanted. Out: their values.

use std::path::Path;

use super::budget::Budget;
use super::source::{self, Fault};
use crate::{Error, Result};

/// The values under these keys, as f32 and in this order; everything else in the file is left alone.
///
/// # Errors
/// Unreadable, corrupt, a key that is missing or of another shape, a value that is not finite.
pub fn read(path: &Path, wanted: &[(String, Vec<usize>)]) -> Result<Vec<Vec<f32>>> {
    let place = path.display().to_string();
    let bytes = super::read_file(path)?;
    let mut budget = Budget::new();
    let (mut source, _) = source::open(&bytes, &mut budget).map_err(|fault| fault.in_file(&place))?;
    let keys = source.keys();
    let mut out = Vec::with_capacity(wanted.len());
    for (key, shape) in wanted {
        let wrong = |what: String| Error::input(format!("{place}: {key} {what}"));
        let Some((_, found)) = keys.iter().find(|(k, _)| k == key) else {
            return Err(wrong(format!("is missing, it is wanted with the shape {shape:?}")));
        };
        if found != shape {
            return Err(wrong(format!("has the shape {found:?}, {shape:?} is wanted")));
        }
        budget
            .charge(shape.iter().product(), size_of::<f32>())
            .map_err(|spent| Fault::from(spent).in_file(&place))?;
        let stored = source.load(key).map_err(|fault| fault.in_file(&place))?;
        let values = stored.to_f32();
        if values.len() != shape.iter().product::<usize>() {
            return Err(wrong(format!("holds {} values", values.len())));
        }
        if values.iter().any(|v| !v.is_finite()) {
            return Err(wrong("holds a value that is not finite".to_owned()));
        }
        out.push(values);
    }
    Ok(out)
}
