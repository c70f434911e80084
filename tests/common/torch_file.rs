//! PyTorch files as torch.save writes them: a zip archive of stored entries with a pickle of persistent ids, or the
//! pickles and raw storages of before 1.6. Checked once against files of a real torch (same keys, shapes and bytes
//! read).

use std::io::{Cursor, Write};

/// Something a pickle can hold.
#[derive(Clone)]
pub enum Object {
    Dict(Vec<(String, Object)>),
    /// As `nn.Module.state_dict()` returns: an OrderedDict with `_metadata`.
    StateDict(Vec<(String, Object)>),
    Tensor(TorchTensor),
    Int(i32),
    /// An instance of a Python class.
    Instance(&'static str, &'static str),
}

/// A tensor and its own storage.
#[derive(Clone)]
pub struct TorchTensor {
    /// `FloatStorage`, `HalfStorage`, …
    pub class: &'static str,
    pub shape: Vec<usize>,
    /// Row-major if `None`.
    pub stride: Option<Vec<usize>>,
    /// Wrapped as `nn.Parameter` is when it is not detached.
    pub parameter: bool,
    /// Little-endian.
    pub bytes: Vec<u8>,
}

impl TorchTensor {
    pub fn f32(shape: &[usize], values: &[f32]) -> Self {
        Self {
            class: "FloatStorage",
            shape: shape.to_vec(),
            stride: None,
            parameter: false,
            bytes: values.iter().flat_map(|x| x.to_le_bytes()).collect(),
        }
    }

    pub fn f16(shape: &[usize], values: &[f32]) -> Self {
        let bytes = values.iter().flat_map(|&x| half::f16::from_f32(x).to_le_bytes()).collect();
        Self { class: "HalfStorage", bytes, ..Self::f32(shape, &[]) }
    }

    pub fn bf16(shape: &[usize], values: &[f32]) -> Self {
        let bytes = values.iter().flat_map(|&x| half::bf16::from_f32(x).to_le_bytes()).collect();
        Self { class: "BFloat16Storage", bytes, ..Self::f32(shape, &[]) }
    }

    fn element(&self) -> usize {
        match self.class {
            "LongStorage" | "DoubleStorage" => 8,
            "FloatStorage" => 4,
            _ => 2,
        }
    }
}

/// A pickle and the storages it refers to, in order.
struct Pickle<'a> {
    bytes: Vec<u8>,
    storages: Vec<&'a TorchTensor>,
    legacy: bool,
}

impl<'a> Pickle<'a> {
    fn text(&mut self, s: &str) {
        self.bytes.push(b'X');
        self.bytes.extend((s.len() as u32).to_le_bytes());
        self.bytes.extend(s.as_bytes());
    }

    fn global(&mut self, module: &str, name: &str) {
        self.bytes.extend(format!("c{module}\n{name}\n").bytes());
    }

    fn int(&mut self, n: usize) {
        self.bytes.push(b'J');
        self.bytes.extend((n as i32).to_le_bytes());
    }

    fn ints(&mut self, numbers: &[usize]) {
        self.bytes.push(b'(');
        for &n in numbers {
            self.int(n);
        }
        self.bytes.push(b't');
    }

    fn object(&mut self, object: &'a Object) {
        match object {
            Object::Int(n) => self.int(*n as usize),
            Object::Dict(items) => {
                self.bytes.push(b'}');
                self.items(items);
            }
            Object::StateDict(items) => {
                self.global("collections", "OrderedDict");
                self.bytes.extend(b")R");
                self.items(items);
                // The attributes of the OrderedDict.
                self.bytes.push(b'}');
                self.text("_metadata");
                self.global("collections", "OrderedDict");
                self.bytes.extend(b")Rsb");
            }
            Object::Instance(module, name) => {
                self.global(module, name);
                self.bytes.extend(b")\x81}b");
            }
            Object::Tensor(t) => self.tensor(t),
        }
    }

    fn items(&mut self, items: &'a [(String, Object)]) {
        self.bytes.push(b'(');
        for (key, value) in items {
            self.text(key);
            self.object(value);
        }
        self.bytes.push(b'u');
    }

    fn tensor(&mut self, t: &'a TorchTensor) {
        if t.parameter {
            self.global("torch._utils", "_rebuild_parameter");
            self.bytes.push(b'(');
        }
        self.global("torch._utils", "_rebuild_tensor_v2");
        self.bytes.extend(b"((");
        self.text("storage");
        self.global("torch", t.class);
        let key = self.storages.len().to_string();
        self.text(&key);
        self.text("cpu");
        self.int(t.bytes.len() / t.element());
        if self.legacy {
            self.bytes.push(b'N');
        }
        self.bytes.extend(b"tQ");
        self.int(0);
        self.ints(&t.shape);
        let row_major: Vec<usize> = (0..t.shape.len()).map(|d| t.shape[d + 1..].iter().product()).collect();
        self.ints(t.stride.as_ref().unwrap_or(&row_major));
        self.bytes.push(0x89);
        self.global("collections", "OrderedDict");
        self.bytes.extend(b")RtR");
        if t.parameter {
            self.bytes.push(0x88);
            self.global("collections", "OrderedDict");
            self.bytes.extend(b")RtR");
        }
        self.storages.push(t);
    }
}

fn pickle(object: &Object, legacy: bool) -> Pickle<'_> {
    let mut p = Pickle { bytes: vec![0x80, 2], storages: Vec::new(), legacy };
    p.object(object);
    p.bytes.push(b'.');
    p
}

/// `torch.save(object, path)`.
pub fn zip(object: &Object) -> Vec<u8> {
    let p = pickle(object, false);
    let mut zip = ::zip::ZipWriter::new(Cursor::new(Vec::new()));
    let stored =
        ::zip::write::SimpleFileOptions::default().compression_method(::zip::CompressionMethod::Stored);
    let mut entry = |name: String, bytes: &[u8]| {
        zip.start_file(name, stored).unwrap();
        zip.write_all(bytes).unwrap();
    };
    entry("archive/data.pkl".to_owned(), &p.bytes);
    entry("archive/byteorder".to_owned(), b"little");
    for (i, t) in p.storages.iter().enumerate() {
        entry(format!("archive/data/{i}"), &t.bytes);
    }
    entry("archive/version".to_owned(), b"3\n");
    zip.finish().unwrap().into_inner()
}

/// `torch.save(object, path, _use_new_zipfile_serialization=False)`.
pub fn legacy(object: &Object) -> Vec<u8> {
    let mut bytes = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\x02M\xe9\x03.".to_vec();
    let mut system = Pickle { bytes: vec![0x80, 2, b'}', b'('], storages: Vec::new(), legacy: true };
    system.text("protocol_version");
    system.int(1001);
    system.text("little_endian");
    system.bytes.extend(b"\x88u.");
    bytes.extend(system.bytes);
    let p = pickle(object, true);
    bytes.extend(&p.bytes);
    let mut keys = Pickle { bytes: vec![0x80, 2, b']', b'('], storages: Vec::new(), legacy: true };
    for i in 0..p.storages.len() {
        keys.text(&i.to_string());
    }
    keys.bytes.extend(b"e.");
    bytes.extend(keys.bytes);
    for t in &p.storages {
        bytes.extend(((t.bytes.len() / t.element()) as i64).to_le_bytes());
        bytes.extend(&t.bytes);
    }
    bytes
}
