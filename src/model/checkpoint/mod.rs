//! The network's parameters and their description.
//!
//! In: a checkpoint file in any of the forms we read. Out: parameters under their published keys, checked against the
//! network they claim to be.
//!
//! | file | holds |
//! |---|---|
//! | `budget` | what reading a file may cost |
//! | `prefix` | what stands in front of every key |
//! | `source` | what form a file has, and whether it is a whole, sound network |
//! | `safetensors`, `pth` | the two containers |
//! | `pickle` | Python's object format inside the second |
//! | `compact` | kernels as I8 |
//! | `values` | one parameter in the precision it came in |
//! | `description` | everything the code must not assume |
//! | `locate` | where the file is looked for |
//! | `expected` | frames whose logits are known |

mod budget;
mod compact;
mod description;
mod expected;
pub mod foreign;
mod locate;
mod pickle;
mod prefix;
mod pth;
mod safetensors;
mod source;
mod values;

pub use description::{Description, Figures, Resize};
pub use expected::{Deviation, ExpectedFrame, read_expected};

use std::collections::HashMap;
use std::fmt;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use candle_core::{DType, Device, Shape, Tensor};
use candle_nn::VarBuilder;
use candle_nn::var_builder::SimpleBackend;
use half::{bf16, f16};
use sha2::{Digest, Sha256};

use super::{Architecture, Role, parameters};
use crate::hexadecimal::hexadecimal;
use crate::result_file::{Aside, folder_of, not_named};
use crate::small_file;
use crate::{Error, Result};
use budget::Budget;
use source::{Complete, Fault, Source};
use values::{Stored, Values};

/// Larger than any checkpoint of these networks, an optimiser's state included; bounds what one file can cost.
const LARGEST_FILE: u64 = 1 << 30;

/// How a checkpoint stores its convolution kernels. Everything else is f32 in every form we write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Form {
    /// PyTorch's own container, read only.
    Pth,
    /// 32-bit floating point, nothing lost.
    F32,
    /// IEEE half precision, 16 bits.
    F16,
    /// The upper 16 bits of an f32, rounded.
    Bf16,
    /// I8, symmetric, one scale per output channel.
    Compact,
}

impl Form {
    /// The name users type, and outputs say.
    pub const fn name(self) -> &'static str {
        match self {
            Form::Pth => "pth",
            Form::F32 => "f32",
            Form::F16 => "f16",
            Form::Bf16 => "bf16",
            Form::Compact => "compact",
        }
    }
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Form {
    type Err = Error;

    /// The forms that can be written.
    fn from_str(s: &str) -> Result<Self> {
        [Form::Compact, Form::F16, Form::Bf16, Form::F32].into_iter().find(|f| f.name() == s).ok_or_else(
            || Error::usage(format!("unknown checkpoint form {s:?}")).remedy("use compact, f16, bf16 or f32"),
        )
    }
}

/// A network's parameters: complete, of the right shapes, finite.
///
/// They stay in the precision they came in (28 MB for the compact form); copies share them.
#[derive(Clone)]
pub struct Checkpoint {
    description: Description,
    parameters: Arc<HashMap<String, Stored>>,
    form: Form,
    file: Option<Arc<Origin>>,
}

/// The file a checkpoint was read from.
struct Origin {
    path: PathBuf,
    sha256: String,
    bytes: u64,
    described: Described,
    strangers: Vec<String>,
    prefix: String,
    container: String,
}

/// Where the description of a checkpoint file came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Described {
    /// `NAME.json` beside it, and the SHA-256 given there is the file's.
    BesideAndMatching,
    /// `NAME.json` beside it, which names no SHA-256.
    Beside,
    /// The safetensors file's own metadata.
    Inside,
    /// The caller.
    ByCaller,
    /// Nobody: [`Description::published`].
    Assumed,
}

impl Checkpoint {
    /// Reads a checkpoint in any form, told by content: safetensors (f32, f16, bf16, compact) or PyTorch `.pth`.
    ///
    /// Its description is `NAME.json` beside it, else the one inside the safetensors file, else
    /// [`Description::published`] with network and classes told by the keys.
    ///
    /// # Errors
    /// [`crate::Kind::Input`], naming the file and where it applies the key: unreadable, corrupt, of another network, a
    /// parameter missing or of a wrong shape, NaN or infinite, a negative variance, an unusable scale, kernels that
    /// must be ones and are not, or a SHA-256 other than the description's.
    pub fn open(path: &Path) -> Result<Self> {
        Self::read(path, None)
    }

    /// As [`Checkpoint::open`], with a description of the caller's instead of the one beside or inside the file. Its
    /// SHA-256 is not compared.
    pub fn open_as(path: &Path, description: Description) -> Result<Self> {
        Self::read(path, Some(description))
    }

    fn read(path: &Path, description: Option<Description>) -> Result<Self> {
        let bytes = read_file(path)?;
        let place = path.display().to_string();
        let sha256 = hexadecimal(&Sha256::digest(&bytes));
        let (description, described) = match description {
            Some(d) => (Some(d), Described::ByCaller),
            None => match described_beside(path, &sha256)? {
                Some(d) if d.sha256.is_some() => (Some(d), Described::BesideAndMatching),
                Some(d) => (Some(d), Described::Beside),
                None => (None, Described::Assumed),
            },
        };
        let mut budget = Budget::new();
        let (mut source, pth) = source::open(&bytes, &mut budget).map_err(|fault| fault.in_file(&place))?;
        let name = path.file_stem().map_or_else(|| place.clone(), |s| s.to_string_lossy().into_owned());
        let Complete { mut description, inside, parameters, strangers, prefix } =
            source::complete(&place, &name, description, source.as_mut(), &mut budget)?;
        let container = source.container().to_owned();
        let described = if inside { Described::Inside } else { described };
        description.sha256 = Some(sha256.clone());
        let form = if pth { Form::Pth } else { form_of(&parameters) };
        let file = Origin {
            path: path.to_owned(),
            sha256,
            bytes: bytes.len() as u64,
            described,
            strangers,
            prefix,
            container,
        };
        Ok(Self { description, parameters: Arc::new(parameters), form, file: Some(Arc::new(file)) })
    }

    /// Takes parameters already in memory.
    ///
    /// # Errors
    /// As [`Checkpoint::open`], with the description's name in the file's place.
    pub fn from_tensors(description: Description, tensors: HashMap<String, Tensor>) -> Result<Self> {
        let name = description.name.clone();
        let Complete { description, parameters, .. } =
            source::complete(&name, &name, Some(description), &mut Memory(tensors), &mut Budget::new())?;
        let form = form_of(&parameters);
        Ok(Self { description, parameters: Arc::new(parameters), form, file: None })
    }

    /// What the checkpoint says of itself; `sha256` is the file's own, as measured.
    pub fn description(&self) -> &Description {
        &self.description
    }

    /// The same parameters under another description of the same network.
    ///
    /// # Errors
    /// A description of another network.
    pub fn with_description(&self, description: Description) -> Result<Self> {
        if description.architecture() != self.architecture() {
            return Err(Error::internal("a checkpoint cannot be described as another network"));
        }
        Ok(Self { description, ..self.clone() })
    }

    /// Which of the two networks, and for how many classes.
    pub fn architecture(&self) -> Architecture {
        self.description.architecture()
    }

    /// How the kernels are stored: of several precisions in one file, the widest.
    pub fn form(&self) -> Form {
        self.form
    }

    /// The file it was read from; `None` for [`Checkpoint::from_tensors`].
    pub fn path(&self) -> Option<&Path> {
        self.file.as_ref().map(|f| f.path.as_path())
    }

    /// Lower-case hexadecimal SHA-256 of that file.
    pub fn sha256(&self) -> Option<&str> {
        self.file.as_ref().map(|f| f.sha256.as_str())
    }

    /// Size of that file.
    pub fn file_bytes(&self) -> Option<u64> {
        self.file.as_ref().map(|f| f.bytes)
    }

    /// Where the description came from; `None` for [`Checkpoint::from_tensors`].
    pub fn described(&self) -> Option<Described> {
        self.file.as_ref().map(|f| f.described)
    }

    /// Keys of that file that are no part of the network and were left out.
    pub fn strangers(&self) -> &[String] {
        self.file.as_ref().map_or(&[], |f| f.strangers.as_slice())
    }

    /// What stood in front of every key of that file and was taken off, such as `segmentor.`; empty for none.
    pub fn prefix(&self) -> &str {
        self.file.as_ref().map_or("", |f| &f.prefix)
    }

    /// The dict of a PyTorch file that the parameters lie in, such as `state_dict`; empty for the file itself.
    pub fn container(&self) -> &str {
        self.file.as_ref().map_or("", |f| &f.container)
    }

    /// One parameter as f32, row-major.
    pub fn values(&self, key: &str) -> Result<Vec<f32>> {
        Ok(self.stored(key)?.to_f32())
    }

    /// Type a parameter is stored in: `F32`, `F16`, `BF16` or `I8`.
    pub fn stored_as(&self, key: &str) -> Result<&'static str> {
        Ok(match self.stored(key)?.values {
            Values::F32(_) => "F32",
            Values::F16(_) => "F16",
            Values::Bf16(_) => "BF16",
            Values::I8 { .. } => "I8",
        })
    }

    /// A kernel stored as I8 `[out, in, kh, kw]` with its scales `[out]`, `value = scale[out] · i8`: the integers are
    /// exact in bf16 and the scales can be applied to the sums. `None` for parameters stored otherwise.
    pub fn kernel_i8(&self, key: &str) -> Option<(&[i8], &[f32])> {
        match &self.parameters.get(key)?.values {
            Values::I8 { values, scales } => Some((values, scales)),
            _ => None,
        }
    }

    fn stored(&self, key: &str) -> Result<&Stored> {
        self.parameters.get(key).ok_or_else(|| Error::internal(format!("no parameter is called {key}")))
    }

    /// The parameters on a device, for the candle network. Each is converted when the network asks for it.
    pub fn var_builder(&self, dtype: DType, device: &Device) -> Result<VarBuilder<'static>> {
        let backend: Box<dyn SimpleBackend> = Box::new(Lender(Arc::clone(&self.parameters)));
        Ok(VarBuilder::from_backend(backend, dtype, device.clone()))
    }

    /// The bytes of a safetensors file with kernels in `form` and everything else in f32, the description inside.
    ///
    /// The same parameters and description always give the same bytes. Kernels that are I8 already stay as they are in
    /// the compact form.
    ///
    /// # Errors
    /// A value that is beyond f16's range, by its key; [`Form::Pth`].
    pub fn to_bytes(&self, form: Form) -> Result<Vec<u8>> {
        let list = parameters(self.architecture());
        let mut converted = Vec::with_capacity(list.len());
        for p in &list {
            let stored = self.stored(&p.key)?;
            let values = match (p.role, form) {
                (Role::Kernel, form) => convert_kernel(&p.key, stored, form)?,
                _ => Values::F32(stored.to_f32()),
            };
            converted.push((p.key.as_str(), Stored { shape: stored.shape.clone(), values }));
        }
        safetensors::write(converted, self.description.to_metadata())
            .map_err(|e| Error::internal(format!("the checkpoint cannot be written ({e})")).because(e))
    }

    /// Writes a safetensors file and its description `NAME.json` beside it, each aside first and then renamed. Returns
    /// the file's SHA-256, which the description names.
    ///
    /// # Errors
    /// A file that exists (without `force`); [`crate::Kind::Usage`] for one that this was read from or that is called
    /// `.json` itself; whatever [`Checkpoint::to_bytes`] and the file system say.
    pub fn save(&self, path: &Path, form: Form, force: bool) -> Result<String> {
        let place = path.display();
        let beside = Description::path_beside(path);
        if beside == path || path.file_name().is_none() {
            return Err(Error::usage(format!("{place}: is not a name for a checkpoint"))
                .remedy("end it in .safetensors; its description takes the same name in .json"));
        }
        if let Some(input) = self.path()
            && let (Ok(a), Ok(b)) = (input.canonicalize(), path.canonicalize())
            && a == b
        {
            return Err(Error::usage(format!("{place}: is the checkpoint being read"))
                .remedy("write to another file"));
        }
        if !force && let Some(taken) = [path, &beside].into_iter().find(|p| p.symlink_metadata().is_ok()) {
            return Err(Error::output(format!("{}: exists already", taken.display()))
                .remedy("choose another name, or add --force to replace it"));
        }
        let bytes = self.to_bytes(form)?;
        let sha256 = hexadecimal(&Sha256::digest(&bytes));
        let description = Description { sha256: Some(sha256.clone()), ..self.description.clone() };
        // Both are whole before either takes its name.
        let json = description.to_json();
        let files = [(path, bytes.as_slice()), (&beside, json.as_bytes())];
        let asides = [write_aside(files[0].0, files[0].1)?, write_aside(files[1].0, files[1].1)?];
        for (aside, (path, _)) in asides.into_iter().zip(files) {
            aside.publish(path, force).map_err(|e| not_named(path, e))?;
        }
        Ok(sha256)
    }
}

impl fmt::Debug for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Checkpoint")
            .field("description", &self.description)
            .field("form", &self.form)
            .field("path", &self.path())
            .finish_non_exhaustive()
    }
}

/// Lends parameters to a `VarBuilder`, one at a time.
struct Lender(Arc<HashMap<String, Stored>>);

impl SimpleBackend for Lender {
    fn get(
        &self,
        shape: Shape,
        key: &str,
        _: candle_nn::Init,
        dtype: DType,
        device: &Device,
    ) -> candle_core::Result<Tensor> {
        let tensor = self.get_unchecked(key, dtype, device)?;
        if tensor.shape() != &shape {
            candle_core::bail!("{key} has the shape {:?}, {shape:?} was asked for", tensor.dims());
        }
        Ok(tensor)
    }

    fn get_unchecked(&self, key: &str, dtype: DType, device: &Device) -> candle_core::Result<Tensor> {
        match self.0.get(key) {
            Some(stored) => stored.to_tensor(dtype, device),
            None => candle_core::bail!("no parameter is called {key}"),
        }
    }

    fn contains_tensor(&self, key: &str) -> bool {
        self.0.contains_key(key)
    }
}

/// Tensors in memory as a source.
struct Memory(HashMap<String, Tensor>);

impl Source for Memory {
    fn keys(&self) -> Vec<(String, Vec<usize>)> {
        self.0.iter().map(|(key, t)| (key.clone(), t.dims().to_vec())).collect()
    }

    fn load(&mut self, key: &str) -> Result<Stored, Fault> {
        Stored::from_tensor(&self.0[key]).map_err(|e| Fault::at(key, format!("cannot be read ({e})")))
    }
}

/// The narrowest form that holds every kernel as it is.
fn form_of(parameters: &HashMap<String, Stored>) -> Form {
    let kernels = || parameters.values().filter(|s| s.shape.len() == 4);
    if kernels().any(|s| matches!(s.values, Values::F32(_))) {
        Form::F32
    } else if kernels().any(|s| matches!(s.values, Values::I8 { .. })) {
        Form::Compact
    } else if kernels().all(|s| matches!(s.values, Values::F16(_))) {
        Form::F16
    } else if kernels().all(|s| matches!(s.values, Values::Bf16(_))) {
        Form::Bf16
    } else {
        Form::F32
    }
}

fn convert_kernel(key: &str, stored: &Stored, form: Form) -> Result<Values> {
    Ok(match form {
        Form::Compact if matches!(stored.values, Values::I8 { .. }) => stored.values.clone(),
        Form::Compact => {
            let (values, scales) =
                compact::quantise(&stored.to_f32(), stored.shape[0], stored.shape[2] * stored.shape[3]);
            Values::I8 { values, scales }
        }
        Form::F32 => Values::F32(stored.to_f32()),
        Form::Bf16 => Values::Bf16(stored.to_f32().into_iter().map(bf16::from_f32).collect()),
        Form::F16 => {
            let narrow = Stored {
                shape: stored.shape.clone(),
                values: Values::F16(stored.to_f32().into_iter().map(f16::from_f32).collect()),
            };
            if let Some((_, index)) = narrow.not_finite() {
                return Err(Error::input(format!("{key} is beyond the range of f16 at {index:?}"))
                    .remedy("write bf16 or f32 instead"));
            }
            narrow.values
        }
        Form::Pth => {
            return Err(Error::usage("PyTorch files are only read").remedy("use compact, f16, bf16 or f32"));
        }
    })
}

/// A regular file, whole.
fn read_file(path: &Path) -> Result<Vec<u8>> {
    small_file::read(path, LARGEST_FILE, "a checkpoint file")
}

/// The description beside a checkpoint, if there is one, its SHA-256 compared.
fn described_beside(path: &Path, sha256: &str) -> Result<Option<Description>> {
    let beside = Description::path_beside(path);
    if beside == path || !beside.exists() {
        return Ok(None);
    }
    let description = Description::read(&beside)?;
    match &description.sha256 {
        Some(wanted) if wanted != sha256 => Err(Error::input(format!(
            "{}: its SHA-256 is {sha256}, but {} wants {wanted}",
            path.display(),
            beside.display()
        ))
        .remedy("fetch the two again, or correct the description if the checkpoint was changed on purpose")),
        _ => Ok(Some(description)),
    }
}

/// Writes a file beside its final place, so that no half of it is ever seen under its name.
fn write_aside(path: &Path, bytes: &[u8]) -> Result<Aside> {
    let failed = |e: std::io::Error| {
        let missing = e.kind() == std::io::ErrorKind::NotFound;
        let e = Error::write(path, e);
        if missing { e.remedy("create its folder first") } else { e }
    };
    let aside = Aside::shared_file(folder_of(path)).map_err(failed)?;
    let mut file = aside.handle();
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(failed)?;
    Ok(aside)
}
