//! `polypscope weights` as a user runs it.

mod common;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn shipped() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("weights/m2snet-polyp.safetensors")
}

fn weights(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_polypscope")).arg("weights").args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

fn json(output: &Output) -> serde_json::Value {
    assert!(output.status.success(), "{}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn inspect_tells_what_the_file_holds() {
    let path = shipped();
    let file = path.to_str().unwrap();
    let description: serde_json::Value =
        serde_json::from_slice(&std::fs::read(path.with_extension("json")).unwrap()).unwrap();

    let j = json(&weights(&["inspect", file, "--json"]));
    assert_eq!(j["form"], "compact");
    assert_eq!(j["described"], "beside_and_matching");
    assert_eq!(j["sha256"], description["sha256"]);
    for key in ["name", "network", "input_size", "classes", "threshold", "provenance", "terms"] {
        assert_eq!(j["description"][key], description[key], "{key}");
    }
    assert_eq!(j["file_bytes"], std::fs::metadata(&path).unwrap().len());
    assert_eq!(j["parameters"], 27_755_277);
    assert_eq!(j["tensors"].as_array().unwrap().len(), 577);
    assert_eq!(j["tensors"][0]["key"], "resnet.conv1.0.weight");
    assert_eq!(j["tensors"][0]["dtype"], "I8");
    assert_eq!(j["tensors"][0]["shape"], serde_json::json!([32, 3, 3, 3]));

    let short = weights(&["inspect", file]);
    let short = text(&short.stdout);
    for fact in [file, "compact", "m2snet, 1 class", "27,755,277 in 577", "threshold", "terms"] {
        assert!(short.contains(fact), "{fact} in {short}");
    }
    assert!(!short.contains("resnet.conv1.0.weight"));
    let long = weights(&["inspect", file, "-v"]);
    assert!(text(&long.stdout).contains("resnet.conv1.0.weight"));
}

#[test]
fn convert_writes_a_checkpoint_and_its_description() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("half.safetensors");
    let (file, to) = (shipped(), out.to_str().unwrap());
    let file = file.to_str().unwrap();
    let j = json(&weights(&["convert", file, "--to", "f16", "--output", to, "--json"]));
    assert_eq!((&j["form"], &j["output"]), (&"f16".into(), &to.into()));
    let v = json(&weights(&["verify", to, "--json"]));
    assert_eq!((&v["sound"], &v["sha256_compared"]), (&true.into(), &true.into()));
    assert_eq!(v["sha256"], j["sha256"]);

    let again = weights(&["convert", file, "--to", "bf16", "--output", to]);
    assert_eq!(again.status.code(), Some(1));
    assert!(text(&again.stderr).contains("exists already"), "{}", text(&again.stderr));
    let forced = weights(&["convert", file, "--to", "bf16", "--output", to, "--force"]);
    assert!(text(&forced.stdout).starts_with(&format!("{to}: bf16 safetensors, ")));

    // A description of the user's own goes with the new file.
    let mut own: serde_json::Value =
        serde_json::from_slice(&std::fs::read(shipped().with_extension("json")).unwrap()).unwrap();
    own["threshold"] = 0.25.into();
    let given = folder.path().join("own.json");
    std::fs::write(&given, own.to_string()).unwrap();
    let arguments = ["convert", file, "--to", "compact", "-o", to, "--force", "--description"];
    json(&weights(&[&arguments[..], &[given.to_str().unwrap(), "--json"]].concat()));
    assert_eq!(json(&weights(&["inspect", to, "--json"]))["description"]["threshold"], 0.25);

    for wrong in [&["convert", file, "--to", "int4", "--output", to][..], &["convert", file], &["verify"]] {
        assert_eq!(weights(wrong).status.code(), Some(2), "{wrong:?}");
    }
    let same = weights(&["convert", file, "--to", "f16", "--output", file, "--force"]);
    assert_eq!(same.status.code(), Some(2));
    assert!(text(&same.stderr).contains("is the checkpoint being read"));
}

#[test]
fn verify_refuses_in_one_sentence() {
    let folder = tempfile::tempdir().unwrap();
    let bad = folder.path().join("bad.safetensors");
    let mut bytes = std::fs::read(shipped()).unwrap();
    bytes.truncate(1_000_000);
    std::fs::write(&bad, bytes).unwrap();
    let v = weights(&["verify", bad.to_str().unwrap()]);
    assert_eq!(v.status.code(), Some(1));
    assert!(v.stdout.is_empty());
    let e = text(&v.stderr);
    assert!(e.starts_with(&format!("error: {}: is corrupt", bad.display())), "{e}");
    assert!(e.ends_with("; fetch it again\n") && e.lines().count() == 1, "{e}");

    let v = weights(&["verify", shipped().to_str().unwrap()]);
    assert!(v.status.success());
    assert!(text(&v.stdout).contains("577 tensors of m2snet"), "{}", text(&v.stdout));

    // Frames whose logits are another network's: the answer is wrong, and said to be.
    let (rgb, map, logits) =
        (vec![128u8; 32 * 32 * 3], vec![0u8; 8 * 8 * 4], 1000f32.to_le_bytes().repeat(32 * 32));
    use safetensors::tensor::{Dtype, TensorView};
    let frame = [
        ("a.rgb", TensorView::new(Dtype::U8, vec![32, 32, 3], &rgb).unwrap()),
        ("a.output1", TensorView::new(Dtype::F32, vec![8, 8], &map).unwrap()),
        ("a.logits", TensorView::new(Dtype::F32, vec![32, 32], &logits).unwrap()),
    ];
    let expected = folder.path().join("expected.safetensors");
    std::fs::write(&expected, safetensors::serialize(frame, None).unwrap()).unwrap();
    let v =
        weights(&["verify", shipped().to_str().unwrap(), "--expected", expected.to_str().unwrap(), "--json"]);
    assert_eq!(v.status.code(), Some(1));
    assert!(
        text(&v.stderr).contains("pixel(s) of the expected frames are on the other side"),
        "{}",
        text(&v.stderr)
    );
    let j: serde_json::Value = serde_json::from_slice(&v.stdout).unwrap();
    assert_eq!(j["sound"], false);
    assert_eq!(j["expected"]["frames"][0]["compared_px"], 64 + 1024);
}
