//! Compiles the CUDA kernels where the feature `cuda` is on: machine code for the architectures below and PTX for later
//! ones, in one fat binary that the engine embeds.

#![allow(clippy::print_stdout)]

use std::path::Path;
use std::process::Command;

/// Ampere (A100; RTX 30xx; Orin), Ada (RTX 40xx), Hopper, Blackwell (B200, B300; Thor; RTX 50xx; GB10): those of them
/// that the compiler knows.
const MACHINE_CODE: [&str; 10] = ["80", "86", "87", "89", "90a", "100", "103", "110", "120", "121"];
/// For cards to come: the oldest instructions that any of them has, and those from Hopper on, with launches that
/// overlap.
const PTX: [&str; 2] = ["80", "90"];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if std::env::var_os("CARGO_FEATURE_CUDA").is_none() {
        return;
    }
    println!("cargo::rerun-if-changed=src/engine/cuda/kernels");
    println!("cargo::rerun-if-env-changed=CUDA_HOME");
    let nvcc =
        std::env::var_os("CUDA_HOME").map_or_else(|| "nvcc".into(), |home| Path::new(&home).join("bin/nvcc"));
    let out = std::env::var_os("OUT_DIR").expect("cargo names a folder for results");
    let mut command = Command::new(&nvcc);
    command.args(["-std=c++17", "-O3", "-fatbin", "-Xptxas", "-v"]);
    let known = Command::new(&nvcc).arg("--list-gpu-code").output().map(|o| o.stdout).unwrap_or_default();
    let known = String::from_utf8_lossy(&known);
    for code in MACHINE_CODE {
        // An architecture's own variant (90a) is not in the list, its plain form is.
        let listed = format!("sm_{}", code.trim_end_matches('a'));
        if !known.is_empty() && !known.lines().any(|l| l == listed) {
            continue;
        }
        command.args(["-gencode", &format!("arch=compute_{code},code=sm_{code}")]);
    }
    for ptx in PTX {
        command.args(["-gencode", &format!("arch=compute_{ptx},code=compute_{ptx}")]);
    }
    command.arg("src/engine/cuda/kernels/kernels.cu").arg("-o").arg(Path::new(&out).join("kernels.fatbin"));
    let done = command.output().unwrap_or_else(|e| {
        panic!(
            "{}: cannot be started ({e}); install the CUDA toolkit or name it in CUDA_HOME",
            nvcc.display()
        )
    });
    let words = String::from_utf8_lossy(&done.stderr);
    assert!(
        done.status.success(),
        "the kernels do not compile:\n{words}{}",
        String::from_utf8_lossy(&done.stdout)
    );
    // The compiler's word on registers and memory, kept with the result; a kernel that spills is a mistake.
    std::fs::write(Path::new(&out).join("kernels.txt"), words.as_bytes()).expect("results can be written");
    let spills = words
        .lines()
        .any(|l| l.contains("spill") && !l.contains("0 bytes spill stores, 0 bytes spill loads"));
    assert!(!spills, "a kernel spills registers:\n{words}");
}
