//! Checkpoints in every form: read, written, refused. Parameters come from the generator, so that no download is
//! needed.

mod common;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use candle_core::{DType, Device};
use common::generator;
use common::torch_file::{self, Object, TorchTensor};
use half::{bf16, f16};
use polypscope::model::checkpoint::{Checkpoint, Described, Description, Form, read_expected};
use polypscope::model::{Architecture, Role, Variant, parameters};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};

const M2SNET: Architecture = Architecture { variant: Variant::M2SNet, classes: 1 };

/// One network for all tests of this file.
fn generated() -> &'static Checkpoint {
    static GENERATED: OnceLock<Checkpoint> = OnceLock::new();
    GENERATED.get_or_init(|| {
        let mut description = Description::published("generated", M2SNET);
        description.threshold = 0.4;
        description.provenance = Some("a generator".to_owned());
        description.terms = Some("none".to_owned());
        Checkpoint::from_tensors(description, generator::tensors(M2SNET)).unwrap()
    })
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

/// The error of opening a file, which must be there, without the file's own path in front.
fn refusal(path: &Path) -> String {
    let e = Checkpoint::open(path).expect_err("it must be refused");
    assert_eq!(e.exit_code(), 1);
    let text = e.to_string();
    assert!(!text.contains('\n') && !text.ends_with('.'), "one sentence: {text}");
    let start = format!("{}: ", path.display());
    text.strip_prefix(&start).unwrap_or_else(|| panic!("{text:?} does not begin with {start:?}")).to_owned()
}

#[test]
fn every_form_round_trips() {
    let folder = folder();
    let original = generated();
    for form in [Form::F32, Form::F16, Form::Bf16, Form::Compact] {
        let path = folder.path().join(format!("{form}.safetensors"));
        let sha = original.save(&path, form, false).unwrap();
        let read = Checkpoint::open(&path).unwrap();
        assert_eq!(read.form(), form);
        assert_eq!(read.path(), Some(path.as_path()));
        assert_eq!(read.sha256(), Some(sha.as_str()));
        assert_eq!(read.described(), Some(Described::BesideAndMatching));
        assert_eq!(read.strangers(), &[] as &[String]);
        let wanted = Description { sha256: Some(sha.clone()), ..original.description().clone() };
        assert_eq!(*read.description(), wanted);

        for p in parameters(M2SNET) {
            let (was, is) = (original.values(&p.key).unwrap(), read.values(&p.key).unwrap());
            let same: Vec<f32> = match (p.role, form) {
                (Role::Kernel, Form::F16) => was.iter().map(|&x| f16::from_f32(x).to_f32()).collect(),
                (Role::Kernel, Form::Bf16) => was.iter().map(|&x| bf16::from_f32(x).to_f32()).collect(),
                (Role::Kernel, Form::Compact) => {
                    let (q, scales) = read.kernel_i8(&p.key).expect("kernels are I8");
                    assert_eq!(scales.len(), p.shape[0]);
                    let per = q.len() / scales.len();
                    // One of the two neighbouring steps, or the end of the range.
                    for (i, x) in was.iter().enumerate() {
                        let steps = x / scales[i / per];
                        let near = (steps - f32::from(q[i])).abs() <= 1.01;
                        let clipped = steps.abs() > 127.0 && q[i].unsigned_abs() == 127;
                        assert!(near || clipped, "{} at {i}: {steps} became {}", p.key, q[i]);
                    }
                    q.iter().enumerate().map(|(i, &q)| scales[i / per] * f32::from(q)).collect()
                }
                _ => was,
            };
            assert!(same == is, "{} in {form}", p.key);
            assert_eq!(read.kernel_i8(&p.key).is_some(), form == Form::Compact && p.role == Role::Kernel);
        }

        // What was read gives the same file again, inside description and all.
        let again = read.to_bytes(form).unwrap();
        assert!(again == std::fs::read(&path).unwrap(), "{form}: the bytes differ");
        if form == Form::Compact {
            assert!(again.len() <= 32_000_000, "{} bytes", again.len());
        }

        // Without the description beside it the one inside counts.
        std::fs::remove_file(Description::path_beside(&path)).unwrap();
        let read = Checkpoint::open(&path).unwrap();
        assert_eq!(read.described(), Some(Described::Inside));
        assert_eq!(*read.description(), wanted);
    }
}

#[test]
fn tensors_are_lent_to_candle_in_any_precision() {
    let folder = folder();
    let compact = safetensors_file(&folder, "a.safetensors", |_| {});
    let checkpoint = Checkpoint::open(&compact).unwrap();
    let vb = checkpoint.var_builder(DType::BF16, &Device::Cpu).unwrap().pp("x2_dem_1").pp("0");
    let t = vb.get((64, 256, 3, 3), "weight").unwrap();
    assert_eq!(t.dtype(), DType::BF16);
    let got: Vec<bf16> = t.flatten_all().unwrap().to_vec1().unwrap();
    let want: Vec<bf16> =
        checkpoint.values("x2_dem_1.0.weight").unwrap().into_iter().map(bf16::from_f32).collect();
    assert!(got == want);
    assert!(vb.get((64, 256, 1, 1), "weight").is_err());
    assert!(vb.get(64, "nothing").is_err());
}

/// One tensor of a safetensors file under construction.
#[derive(Clone)]
struct Entry {
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl Entry {
    fn f32(shape: &[usize], value: f32) -> Self {
        let n: usize = shape.iter().product();
        Self {
            dtype: Dtype::F32,
            shape: shape.to_vec(),
            bytes: std::iter::repeat_n(value.to_le_bytes(), n).flatten().collect(),
        }
    }

    fn set(&mut self, index: usize, value: f32) {
        assert_eq!(self.dtype, Dtype::F32);
        self.bytes[4 * index..4 * index + 4].copy_from_slice(&value.to_le_bytes());
    }
}

fn compact_bytes() -> &'static [u8] {
    static BYTES: OnceLock<Vec<u8>> = OnceLock::new();
    BYTES.get_or_init(|| generated().to_bytes(Form::Compact).unwrap())
}

/// The generated network in the compact form with no description, changed; the folder must outlive the file.
fn safetensors_file(
    folder: &tempfile::TempDir,
    name: &str,
    change: impl FnOnce(&mut HashMap<String, Entry>),
) -> PathBuf {
    let tensors = SafeTensors::deserialize(compact_bytes()).unwrap();
    let mut entries: HashMap<String, Entry> = tensors
        .iter()
        .map(|(key, t)| {
            (key.to_owned(), Entry { dtype: t.dtype(), shape: t.shape().to_vec(), bytes: t.data().to_vec() })
        })
        .collect();
    change(&mut entries);
    let views =
        entries.iter().map(|(k, e)| (k, TensorView::new(e.dtype, e.shape.clone(), &e.bytes).unwrap()));
    let path = folder.path().join(name);
    std::fs::write(&path, safetensors::serialize(views, None).unwrap()).unwrap();
    path
}

#[test]
fn a_file_without_description_is_told_by_its_keys() {
    let folder = folder();
    let path = safetensors_file(&folder, "plain.safetensors", |_| {});
    let read = Checkpoint::open(&path).unwrap();
    assert_eq!(read.described(), Some(Described::Assumed));
    let mut wanted = Description::published("plain", M2SNET);
    wanted.sha256 = read.sha256().map(str::to_owned);
    assert_eq!(*read.description(), wanted);

    let path = safetensors_file(&folder, "five.safetensors", |t| {
        t.retain(|key, _| !key.starts_with("conv_3.") && !key.starts_with("conv_5."));
        t.insert("output1.0.weight".to_owned(), Entry::f32(&[5, 64, 3, 3], 0.1));
        t.insert("output1.0.bias".to_owned(), Entry::f32(&[5], 0.1));
        t.remove("output1.0.weight.scale");
        // Wrappers' prefixes, and what is kept by habit.
        let wrapped = t.drain().map(|(k, e)| (format!("module.{k}"), e)).collect();
        *t = wrapped;
        t.insert("module.resnet.bn1.num_batches_tracked".to_owned(), Entry::f32(&[1], 7.0));
        t.insert("module.resnet.fc.weight".to_owned(), Entry::f32(&[1000, 2048], f32::NAN));
        t.insert("module.helper.weight".to_owned(), Entry::f32(&[3], 0.0));
    });
    let read = Checkpoint::open(&path).unwrap();
    assert_eq!(read.architecture(), Architecture { variant: Variant::MSNet, classes: 5 });
    assert_eq!(read.strangers(), ["helper.weight"]);
    assert_eq!(read.values("output1.0.bias").unwrap(), [0.1; 5]);
}

/// Whatever a framework put in front of every key is taken off and said; two networks in one file are never one.
#[test]
fn what_stands_in_front_of_every_key_is_taken_off_and_named() {
    let folder = folder();
    let under = |prefix: &str| {
        let prefix = prefix.to_owned();
        move |t: &mut HashMap<String, Entry>| {
            *t = t.drain().map(|(k, e)| (format!("{prefix}{k}"), e)).collect();
        }
    };
    for prefix in ["segmentor.", "student.net.", "model.module."] {
        let path = safetensors_file(&folder, "prefixed.safetensors", under(prefix));
        let read = Checkpoint::open(&path).unwrap();
        assert_eq!((read.prefix(), read.architecture()), (prefix, M2SNET));
        assert!(read.strangers().is_empty());
        assert_eq!(
            read.values("output1.0.bias").unwrap(),
            generated().values("output1.0.bias").unwrap(),
            "{prefix}"
        );
    }
    let plain = safetensors_file(&folder, "plain.safetensors", |_| {});
    assert_eq!(Checkpoint::open(&plain).unwrap().prefix(), "");

    // A part of the network missing is said by its own key, and the variant is the right one.
    let path = safetensors_file(&folder, "part.safetensors", |t| {
        t.remove("conv_5.norm.weight");
        under("segmentor.")(t);
    });
    assert!(
        refusal(&path).starts_with("conv_5.norm.weight is missing, m2snet wants it with the shape [64]"),
        "{}",
        refusal(&path)
    );

    // A student without the multi-scale norms beside a teacher with them.
    let path = safetensors_file(&folder, "both.safetensors", |t| {
        let mut student = t.clone();
        student.retain(|k, _| !k.starts_with("conv_"));
        under("student.")(&mut student);
        under("teacher.")(t);
        t.extend(student);
    });
    let said = refusal(&path);
    assert!(said.starts_with("holds several networks, under \"student.\" and \"teacher.\"; keep"), "{said}");
    assert!(said.contains("k.startswith(\"teacher.\")"), "{said}");
}

/// What lies beside a checkpoint is read as a small regular file, or not at all.
#[cfg(unix)]
#[test]
fn a_description_without_an_end_is_refused_at_once() {
    let folder = folder();
    let path = safetensors_file(&folder, "net.safetensors", |_| {});
    let beside = Description::path_beside(&path);
    std::os::unix::fs::symlink("/dev/zero", &beside).unwrap();
    let e = Checkpoint::open(&path).unwrap_err().to_string();
    assert_eq!(e, format!("{}: is not a regular file; give a checkpoint's description", beside.display()));
    std::fs::remove_file(&beside).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(&beside).status().unwrap().success());
    let e = Checkpoint::open(&path).unwrap_err().to_string();
    assert!(e.contains("is not a regular file"), "{e}");
    std::fs::remove_file(&beside).unwrap();
    std::fs::File::create(&beside).unwrap().set_len(1 << 40).unwrap();
    let e = Checkpoint::open(&path).unwrap_err().to_string();
    assert!(e.contains("has more than 1048576 bytes"), "{e}");
}

/// Each fault, and the exact sentence for it.
#[test]
fn what_cannot_be_the_network_is_refused_by_key() {
    const REMEDY: &str = "use a checkpoint of M²SNet or MSNet with the published keys";
    let folder = folder();
    type Change = Box<dyn FnOnce(&mut HashMap<String, Entry>)>;
    let at = |t: &mut HashMap<String, Entry>, key: &str, index: usize, value: f32| {
        t.get_mut(key).unwrap().set(index, value);
    };
    let cases: Vec<(&str, Change, String)> = vec![
        (
            "missing",
            Box::new(|t| drop(t.remove("level1.1.running_mean"))),
            "level1.1.running_mean is missing, m2snet wants it with the shape [64]".to_owned(),
        ),
        (
            "several missing",
            Box::new(|t| t.retain(|k, _| !k.starts_with("output4."))),
            "output4.0.weight is missing, m2snet wants it with the shape [64, 64, 3, 3], and so are 5 more".to_owned(),
        ),
        (
            "shape",
            Box::new(|t| drop(t.insert("level2.0.bias".to_owned(), Entry::f32(&[32], 0.0)))),
            "level2.0.bias has the shape [32], m2snet with 1 class(es) wants [64]".to_owned(),
        ),
        (
            "NaN",
            Box::new(move |t| at(t, "resnet.bn1.weight", 9, f32::NAN)),
            "resnet.bn1.weight is not a number (NaN) at [9]".to_owned(),
        ),
        (
            "infinite",
            Box::new(move |t| at(t, "resnet.bn1.bias", 63, f32::NEG_INFINITY)),
            "resnet.bn1.bias is infinite at [63]".to_owned(),
        ),
        (
            "NaN in a kernel",
            Box::new(|t| {
                let mut e = Entry::f32(&[1, 64, 3, 3], 0.0);
                e.set(9 * 20 + 3 + 2, f32::NAN);
                t.remove("output1.0.weight.scale");
                t.insert("output1.0.weight".to_owned(), e);
            }),
            "output1.0.weight is not a number (NaN) at [0, 20, 1, 2]".to_owned(),
        ),
        (
            "variance",
            Box::new(move |t| at(t, "conv_3.norm.running_var", 3, -0.5)),
            "conv_3.norm.running_var is -0.5 at [3], a variance is not negative".to_owned(),
        ),
        (
            "zero scale",
            Box::new(move |t| at(t, "level3.0.weight.scale", 8, 0.0)),
            "level3.0.weight.scale is 0 at [8], a scale is finite and above zero".to_owned(),
        ),
        (
            "NaN scale",
            Box::new(move |t| at(t, "level3.0.weight.scale", 0, f32::NAN)),
            "level3.0.weight.scale is NaN at [0], a scale is finite and above zero".to_owned(),
        ),
        (
            "missing scale",
            Box::new(|t| drop(t.remove("x5_dem_1.0.weight.scale"))),
            "x5_dem_1.0.weight.scale is missing, x5_dem_1.0.weight needs it with the shape [64]".to_owned(),
        ),
        (
            "short scale",
            Box::new(|t| drop(t.insert("x5_dem_1.0.weight.scale".to_owned(), Entry::f32(&[63], 1.0)))),
            "x5_dem_1.0.weight.scale has the shape [63], the network wants [64]".to_owned(),
        ),
        (
            "type",
            Box::new(|t| {
                let e = Entry { dtype: Dtype::I32, shape: vec![64], bytes: vec![0; 256] };
                t.insert("level1.0.bias".to_owned(), e);
            }),
            "level1.0.bias is stored as I32, which no parameter is".to_owned(),
        ),
        (
            "I8 bias",
            Box::new(|t| {
                let e = Entry { dtype: Dtype::I8, shape: vec![64], bytes: vec![0; 64] };
                t.insert("level1.0.bias".to_owned(), e);
                t.insert("level1.0.bias.scale".to_owned(), Entry::f32(&[64], 1.0));
            }),
            "level1.0.bias is stored as I8, only convolution kernels may be".to_owned(),
        ),
        (
            "ones that are not",
            Box::new(|t| {
                let mut e = Entry::f32(&[64, 64, 5, 5], 1.0);
                e.set(77_777, 0.5);
                t.insert("conv_5.weight".to_owned(), e);
            }),
            "conv_5.weight holds 0.5 where the network has nothing but ones".to_owned(),
        ),
        (
            "ones of another shape",
            Box::new(|t| drop(t.insert("conv_3.weight".to_owned(), Entry::f32(&[64, 1, 3, 3], 1.0)))),
            "conv_3.weight has the shape [64, 1, 3, 3], the network wants [64, 64, 3, 3]".to_owned(),
        ),
        (
            "twice",
            Box::new(|t| drop(t.insert("module.level1.0.bias".to_owned(), Entry::f32(&[64], 1.0)))),
            "level1.0.bias comes twice, as ".to_owned(),
        ),
        (
            "classes",
            Box::new(|t| {
                t.insert("output1.0.weight".to_owned(), Entry { dtype: Dtype::F32, shape: vec![1 << 40, 0, 3, 3], bytes: vec![] });
                t.remove("output1.0.weight.scale");
            }),
            "output1.0.weight has 1099511627776 output channels, as many classes are not supported (at most 1024)".to_owned(),
        ),
        (
            "another network",
            Box::new(|t| {
                t.clear();
                t.insert("features.0.weight".to_owned(), Entry::f32(&[64, 3, 3, 3], 0.0));
            }),
            "is a checkpoint of another network: resnet.conv1.0.weight with the shape [32, 3, 3, 3] and all other \
             parameters of msnet are missing, the first of its 1 tensors is features.0.weight"
                .to_owned(),
        ),
        (
            "nothing",
            Box::new(|t| t.clear()),
            "is a checkpoint of another network: resnet.conv1.0.weight with the shape [32, 3, 3, 3] and all other \
             parameters of msnet are missing, it holds no tensor at all"
                .to_owned(),
        ),
    ];
    for (name, change, wanted) in cases {
        let path = safetensors_file(&folder, "bad.safetensors", change);
        let got = refusal(&path);
        if name == "twice" {
            assert!(got.starts_with(&wanted) && got.ends_with(REMEDY), "{name}: {got}");
        } else {
            assert_eq!(got, format!("{wanted}; {REMEDY}"), "{name}");
        }
    }

    // All ones are what the network has anyway.
    let path = safetensors_file(&folder, "ones.safetensors", |t| {
        t.insert("conv_3.weight".to_owned(), Entry::f32(&[64, 64, 3, 3], 1.0));
        let e = Entry { dtype: Dtype::I8, shape: vec![64, 64, 5, 5], bytes: vec![127; 64 * 64 * 25] };
        t.insert("conv_5.weight".to_owned(), e);
        t.insert("conv_5.weight.scale".to_owned(), Entry::f32(&[64], 1.0 / 127.0));
    });
    assert_eq!(Checkpoint::open(&path).unwrap().strangers(), &[] as &[String]);
}

#[test]
fn files_that_are_no_checkpoint_are_refused() {
    let folder = folder();
    let file = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    };
    let whole = compact_bytes();
    let cut = refusal(&file("cut.safetensors", &whole[..whole.len() / 2]));
    assert_eq!(
        cut,
        format!(
            "is corrupt (its {} bytes are not as many as its header promises: it was cut off or changed); fetch it again",
            whole.len() / 2
        )
    );
    let mut header = whole.to_vec();
    header[40] = 0xff;
    assert!(refusal(&file("header.safetensors", &header)).starts_with("is corrupt (invalid UTF-8 in header"));
    let neither = "is neither a safetensors file nor a PyTorch checkpoint; give one of these, or fetch it again if it \
                   should be one";
    assert_eq!(refusal(&file("page.pth", b"<!DOCTYPE html><html></html>")), neither);
    assert_eq!(refusal(&file("noise.safetensors", &[7; 4096])), neither);
    assert_eq!(refusal(&file("empty.pth", b"")), "is empty; fetch it again");
    assert_eq!(
        refusal(&file("pointer.safetensors", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n")),
        "is a Git LFS pointer, not the file itself; run `git lfs pull`"
    );
    assert_eq!(refusal(folder.path()), "is a folder; give a checkpoint file");
    assert_eq!(
        refusal(&folder.path().join("absent.pth")),
        "cannot be read (no such file or directory); check the path"
    );
    let mut tar = vec![0u8; 1024];
    tar[257..262].copy_from_slice(b"ustar");
    assert_eq!(
        refusal(&file("old.pth", &tar)),
        "is a tar archive, as PyTorch wrote before 0.2; load it in PyTorch and save it again with torch.save"
    );
    assert_eq!(
        refusal(&file("list.pkl", b"\x80\x04]\x94.")),
        "is a Python pickle, but not one of torch.save; load it in PyTorch and save model.state_dict() with torch.save"
    );
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    zip.start_file("a.txt", zip::write::SimpleFileOptions::default()).unwrap();
    let zip = zip.finish().unwrap().into_inner();
    assert!(refusal(&file("text.zip", &zip)).starts_with("is a zip archive, but not one of torch.save"));
}

#[test]
fn descriptions_are_compared_and_checked() {
    let folder = folder();
    let path = safetensors_file(&folder, "net.safetensors", |_| {});
    let sha = Checkpoint::open(&path).unwrap().sha256().unwrap().to_owned();
    let beside = folder.path().join("net.json");
    let describe = |change: &dyn Fn(&mut serde_json::Value)| {
        let mut d = serde_json::to_value(Description::published("net", M2SNET)).unwrap();
        change(&mut d);
        std::fs::write(&beside, d.to_string()).unwrap();
    };
    describe(&|_| {});
    assert_eq!(Checkpoint::open(&path).unwrap().described(), Some(Described::Beside));
    describe(&|d| d["sha256"] = sha.clone().into());
    assert_eq!(Checkpoint::open(&path).unwrap().described(), Some(Described::BesideAndMatching));

    let zeros = "0".repeat(64);
    describe(&|d| d["sha256"] = zeros.clone().into());
    assert_eq!(
        refusal(&path),
        format!(
            "its SHA-256 is {sha}, but {} wants {zeros}; fetch the two again, or correct the description if the \
             checkpoint was changed on purpose",
            beside.display()
        )
    );
    describe(&|d| d["network"] = "msnet".into());
    assert_eq!(
        refusal(&path),
        "is a checkpoint of m2snet (it has conv_3.norm.weight), but its description says msnet; correct `network` in \
         the description"
    );
    describe(&|d| d["classes"] = 3.into());
    assert_eq!(
        refusal(&path),
        "output1.0.weight has the shape [1, 64, 3, 3], m2snet with 3 class(es) wants [3, 64, 3, 3]; use a checkpoint of \
         M²SNet or MSNet with the published keys"
    );

    // Faults of the description itself name that file.
    type Change = fn(&mut serde_json::Value);
    let cases: [(Change, &str); 8] = [
        (|d| d["input_size"] = serde_json::json!([352, 350]), "input_size 352x350 is impossible"),
        (|d| d["input_size"] = serde_json::json!([0, 0]), "input_size 0x0 is impossible"),
        (|d| d["classes"] = 0.into(), "classes is 0"),
        (|d| d["std"][1] = 0.into(), "cannot normalise a picture"),
        (|d| d["threshold"] = 1.into(), "threshold 1 is no probability"),
        (|d| d["colour"] = "BGR".into(), "colour \"BGR\" is not known"),
        (|d| d["sha256"] = "abc".into(), "sha256 \"abc\" is not 64 lower-case hexadecimal digits"),
        (|d| d["resize"] = "nearest".into(), "is not a checkpoint's description"),
    ];
    for (change, wanted) in cases {
        describe(&change);
        let e = Checkpoint::open(&path).unwrap_err().to_string();
        assert!(e.starts_with(&beside.display().to_string()) && e.contains(wanted), "{e}");
    }
    std::fs::write(&beside, b"{").unwrap();
    let e = Checkpoint::open(&path).unwrap_err().to_string();
    assert!(e.starts_with(&format!("{}: is not a checkpoint's description", beside.display())), "{e}");

    // The caller's description wins, whatever lies beside.
    let own = Description { threshold: 0.3, ..Description::published("own", M2SNET) };
    let read = Checkpoint::open_as(&path, own).unwrap();
    assert_eq!((read.described(), read.description().threshold), (Some(Described::ByCaller), 0.3));
}

#[test]
fn saving_never_destroys() {
    let folder = folder();
    let path = safetensors_file(&folder, "in.safetensors", |_| {});
    let read = Checkpoint::open(&path).unwrap();
    let refused = |to: &Path, force: bool| {
        let e = read.save(to, Form::Compact, force).unwrap_err();
        (e.exit_code(), e.to_string())
    };
    let shown = path.display();
    assert_eq!(
        refused(&path, true),
        (2, format!("{shown}: is the checkpoint being read; write to another file"))
    );
    let link = folder.path().join("link.safetensors");
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert_eq!(refused(&link, true).0, 2);
    }
    let json = folder.path().join("out.json");
    assert!(refused(&json, true).1.contains("is not a name for a checkpoint"));
    let out = folder.path().join("out.safetensors");
    std::fs::write(&json, b"mine").unwrap();
    assert_eq!(
        refused(&out, false),
        (1, format!("{}: exists already; choose another name, or add --force to replace it", json.display()))
    );
    assert!(!out.exists());
    assert_eq!(std::fs::read(&json).unwrap(), b"mine");
    let nowhere = folder.path().join("none/out.safetensors");
    let (code, e) = refused(&nowhere, false);
    assert_eq!((code, e.contains("create its folder first")), (1, true), "{e}");

    read.save(&out, Form::Compact, true).unwrap();
    assert_eq!(Checkpoint::open(&out).unwrap().described(), Some(Described::BesideAndMatching));
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|f| f.unwrap().file_name()).collect();
    assert!(left.iter().all(|n| !n.to_string_lossy().ends_with(".tmp")), "{left:?}");
    assert!(read.save(&folder.path().join("x.pth"), Form::Pth, false).unwrap_err().exit_code() == 2);
}

/// The generated network's tensors as torch would save them.
fn torch_tensors(make: impl Fn(&str, &[usize], &[f32]) -> TorchTensor) -> Vec<(String, Object)> {
    parameters(M2SNET)
        .into_iter()
        .map(|p| {
            let t = make(&p.key, &p.shape, &generated().values(&p.key).unwrap());
            (p.key, Object::Tensor(t))
        })
        .collect()
}

/// Whether a file holds the generated network, its values rounded as `round` does.
fn holds_generated(path: &Path, round: impl Fn(&str, f32) -> f32) {
    let read = Checkpoint::open(path).unwrap();
    assert_eq!(read.form(), Form::Pth);
    assert_eq!(read.architecture(), M2SNET);
    for p in parameters(M2SNET) {
        let want: Vec<f32> = generated().values(&p.key).unwrap().iter().map(|&x| round(&p.key, x)).collect();
        assert!(read.values(&p.key).unwrap() == want, "{}", p.key);
    }
}

#[test]
fn torch_files_are_read_in_every_wrapping() {
    let folder = folder();
    let path = folder.path().join("net.pth");

    // torch.save(model.state_dict()).
    let mut items = torch_tensors(|_, shape, values| TorchTensor::f32(shape, values));
    let mut tracked = TorchTensor::f32(&[], &[]);
    tracked.class = "LongStorage";
    tracked.bytes = 5i64.to_le_bytes().to_vec();
    items.push(("resnet.bn1.num_batches_tracked".to_owned(), Object::Tensor(tracked.clone())));
    items.push(("resnet.fc.bias".to_owned(), Object::Tensor(TorchTensor::f32(&[1000], &[f32::NAN; 1000]))));
    items.push((
        "conv_3.weight".to_owned(),
        Object::Tensor(TorchTensor::f16(&[64, 64, 3, 3], &vec![1.0; 64 * 64 * 9])),
    ));
    std::fs::write(&path, torch_file::zip(&Object::StateDict(items))).unwrap();
    holds_generated(&path, |_, x| x);

    // A training checkpoint of a DataParallel model in half precision, kernels in channels_last. Running variances of
    // the shared norms are beyond f16.
    let items = torch_tensors(|key, shape, values| {
        if key.starts_with("conv_") {
            return TorchTensor { parameter: true, ..TorchTensor::f32(shape, values) };
        }
        let &[o, c, h, w] = shape else { return TorchTensor::f16(shape, values) };
        let mut last = vec![0f32; values.len()];
        for (i, &x) in values.iter().enumerate() {
            let (ic, pixel) = (i / (h * w), i % (h * w));
            last[(ic / c * h * w + pixel) * c + ic % c] = x;
        }
        let stride = Some(vec![c * h * w, 1, w * c, c]);
        assert_eq!(o * c * h * w, values.len());
        TorchTensor { stride, parameter: true, ..TorchTensor::f16(shape, &last) }
    });
    let items = items.into_iter().map(|(k, t)| (format!("module.{k}"), t)).collect();
    let momentum = Object::Dict(vec![("0".to_owned(), Object::Tensor(TorchTensor::f32(&[2], &[0.0, 1.0])))]);
    let training = Object::Dict(vec![
        ("epoch".to_owned(), Object::Int(50)),
        ("state_dict".to_owned(), Object::StateDict(items)),
        ("optimizer".to_owned(), Object::Dict(vec![("state".to_owned(), momentum)])),
    ]);
    std::fs::write(&path, torch_file::zip(&training)).unwrap();
    let read = Checkpoint::open(&path).unwrap();
    assert_eq!((read.container(), read.prefix()), ("state_dict", "module."));
    holds_generated(&path, |key, x| if key.starts_with("conv_") { x } else { f16::from_f32(x).to_f32() });

    // The format of before 1.6, in bf16.
    let mut items = torch_tensors(|_, shape, values| TorchTensor::bf16(shape, values));
    items.insert(3, ("resnet.bn1.num_batches_tracked".to_owned(), Object::Tensor(tracked)));
    let bytes = torch_file::legacy(&Object::StateDict(items));
    std::fs::write(&path, &bytes).unwrap();
    holds_generated(&path, |_, x| bf16::from_f32(x).to_f32());
    std::fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
    assert_eq!(
        refusal(&path),
        "is corrupt (its storages end too early: it was cut off or changed); fetch it again"
    );
}

#[test]
fn torch_files_of_no_use_are_refused() {
    let folder = folder();
    let path = folder.path().join("net.pth");
    let write = |bytes: &[u8]| std::fs::write(&path, bytes).unwrap();
    let tensor = || Object::Tensor(TorchTensor::f32(&[1, 64, 3, 3], &[0.0; 576]));
    const SAVE: &str = "load it in PyTorch and save model.state_dict() with torch.save";

    write(&torch_file::zip(&Object::Instance("model.M2SNet_res2net", "M2SNet")));
    assert_eq!(
        refusal(&path),
        format!("holds a Python object (model.M2SNet_res2net.M2SNet), not the parameters alone; {SAVE}")
    );
    write(&torch_file::zip(&Object::Dict(vec![("epoch".to_owned(), Object::Int(1))])));
    assert_eq!(refusal(&path), format!("holds no tensors under keys; {SAVE}"));

    let one = || Object::StateDict(vec![("output1.0.weight".to_owned(), tensor())]);
    write(&torch_file::zip(&Object::Dict(vec![("model".to_owned(), one()), ("ema".to_owned(), one())])));
    assert_eq!(
        refusal(&path),
        "holds several sets of parameters (\"model\", \"ema\"); load it in PyTorch and save the wanted one alone with \
         torch.save"
    );
    write(&torch_file::zip(&one()));
    assert!(
        refusal(&path)
            .starts_with("resnet.conv1.0.weight is missing, msnet wants it with the shape [32, 3, 3, 3]")
    );
    write(&torch_file::zip(&Object::StateDict(vec![("classifier.weight".to_owned(), tensor())])));
    assert!(refusal(&path).ends_with(
        "are missing, the first of its 1 tensors is classifier.weight; use a checkpoint of M²SNet or MSNet with the \
         published keys"
    ));

    // A byte of one storage changed: the archive's checksum tells.
    let items = torch_tensors(|_, shape, values| TorchTensor::bf16(shape, values));
    let mut whole = torch_file::zip(&Object::StateDict(items));
    let middle = whole.len() / 2;
    whole[middle] ^= 0x10;
    write(&whole);
    let e = refusal(&path);
    assert!(e.starts_with("is corrupt (archive/data/") && e.ends_with("; fetch it again"), "{e}");
    write(&whole[..middle]);
    let e = refusal(&path);
    assert!(e.starts_with("is corrupt (") && e.ends_with("; fetch it again"), "{e}");
}

/// Logits of real frames, computed with PyTorch from the f16 checkpoint.
#[test]
fn stored_forms_keep_the_answer_on_real_frames() {
    let Some(original) = common::shared("weights/m2snet-polyp.safetensors") else { return };
    let Some(expected) = common::shared("weights/expected.safetensors") else { return };
    let frames = read_expected(&expected).unwrap();
    assert_eq!(frames.len(), 6);
    let original = Checkpoint::open(&original).unwrap();
    assert_eq!(original.form(), Form::F16);
    assert_eq!(original.described(), Some(Described::BesideAndMatching));
    for d in original.deviations(&frames).unwrap() {
        assert!(d.max < 1e-2, "f16: {d:?}");
        assert_eq!(d.flipped_px, 0, "f16: {d:?}");
        assert_eq!(d.compared_px, 88 * 88 + 44 * 44);
    }
    let folder = folder();
    let path = folder.path().join("compact.safetensors");
    original.save(&path, Form::Compact, false).unwrap();
    for d in Checkpoint::open(&path).unwrap().deviations(&frames).unwrap() {
        assert_eq!(d.flipped_px, 0, "compact: {d:?}");
    }
}

/// The file in `weights/` is what its description says, whichever it is.
#[test]
fn the_shipped_checkpoint_is_sound() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("weights/m2snet-polyp.safetensors");
    let shipped = Checkpoint::open(&path).unwrap();
    assert_eq!(shipped.described(), Some(Described::BesideAndMatching));
    assert_eq!(shipped.form(), Form::Compact);
    assert!(shipped.file_bytes().unwrap() <= 32_000_000);
    assert!(shipped.strangers().is_empty());
    let d = shipped.description();
    assert!(d.provenance.is_some() && d.terms.is_some());
    assert!(path.with_extension("md").is_file(), "its card");
    if std::env::var_os("POLYPSCOPE_WEIGHTS").is_none() {
        assert_eq!(Checkpoint::locate(None).unwrap().file_name(), path.file_name());
    }
}
