//! The binary itself, killed and without room, with the real network at a small size.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::common::recordings::{Moving, write};
use crate::{Lots, objects, same};

const NETWORK: [&str; 2] = ["--threads", "1"];

fn command(dir: &Path, args: &[&str]) -> Command {
    let mut c = Command::new(env!("CARGO_BIN_EXE_polypscope"));
    c.arg("fleet")
        .args(args)
        .current_dir(dir)
        .env_remove("RUST_LOG")
        .env("RUST_BACKTRACE", "0")
        .stdin(Stdio::null());
    for name in [
        "SLURM_ARRAY_TASK_ID",
        "JOB_COMPLETION_INDEX",
        "AWS_BATCH_JOB_ARRAY_INDEX",
        "HQ_TASK_ID",
        "PARALLEL_SEQ",
    ] {
        c.env_remove(name);
    }
    c
}

fn fleet(dir: &Path, args: &[&str]) -> Output {
    command(dir, args).output().unwrap()
}

fn said(o: &Output) -> String {
    String::from_utf8_lossy(&o.stdout).into_owned() + &String::from_utf8_lossy(&o.stderr)
}

/// Asserts how it ended, and gives what it said.
fn ended(o: &Output, code: i32) -> String {
    let said = said(o);
    assert_eq!(o.status.code(), Some(code), "{said}");
    assert!(!said.contains("panicked"), "{said}");
    said
}

fn archive(recordings: &[(&str, usize)]) -> tempfile::TempDir {
    let t = tempfile::tempdir().unwrap();
    std::fs::create_dir(t.path().join("videos")).unwrap();
    for (name, frames) in recordings {
        write(&t.path().join("videos").join(name), "matroskamux", Some(&Moving::h264(*frames)), None);
    }
    t
}

fn plan(dir: &Path, store: &str, more: &[&str]) -> String {
    let manifest = format!("{store}.jsonl");
    let mut args = vec!["plan", "videos", "--store", store, "--manifest", &manifest, "--input-size", "32"];
    args.extend(["--precision", "f32", "--segment-seconds", "0.4", "--threshold", "0.3"]);
    args.extend(more);
    ended(&fleet(dir, &args), 0);
    manifest
}

fn spawn(dir: &Path, manifest: &str) -> Child {
    command(dir, &["run", "--manifest", manifest, NETWORK[0], NETWORK[1]])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

#[test]
fn killed_at_random_twenty_times_the_merged_result_is_the_same() {
    let t = archive(&[("a.mkv", 45), ("b.mkv", 25)]);
    let dir = t.path();
    let whole = plan(dir, "whole", &[]);
    let begun = Instant::now();
    ended(&fleet(dir, &["run", "--manifest", &whole, NETWORK[0], NETWORK[1]]), 0);
    let takes = begun.elapsed();
    ended(&fleet(dir, &["merge", "--manifest", &whole, "--output", "merged"]), 0);

    let killed = plan(dir, "killed", &[]);
    let mut lots = Lots(3);
    let (mut kills, mut at_work) = (0, 0);
    for _ in 0..20 {
        let mut child = spawn(dir, &killed);
        let wait = takes.mul_f64(lots.draw(1000) as f64 / 1000.0);
        let begun = Instant::now();
        while begun.elapsed() < wait && child.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_millis(2));
        }
        at_work += usize::from(child.try_wait().unwrap().is_none());
        let _ = child.kill();
        child.wait().unwrap();
        kills += 1;
    }
    assert!(kills == 20 && at_work > 0);
    ended(&fleet(dir, &["run", "--manifest", &killed, NETWORK[0], NETWORK[1]]), 0);
    ended(&fleet(dir, &["status", "--manifest", &killed]), 0);
    ended(&fleet(dir, &["merge", "--manifest", &killed, "--output", "merged-killed"]), 0);
    same(&dir.join("merged"), &dir.join("merged-killed"));
}

#[test]
fn a_polite_kill_ends_at_a_frame_and_asks_for_another_run() {
    let t = archive(&[("a.mkv", 400)]);
    let dir = t.path();
    let manifest = plan(dir, "store", &[]);
    let child = spawn(dir, &manifest);
    let begun = Instant::now();
    while !objects(&dir.join("store")).iter().any(|o| o.starts_with("segments/") && !o.contains('#')) {
        assert!(begun.elapsed() < Duration::from_secs(120), "no segment");
        std::thread::sleep(Duration::from_millis(10));
    }
    // SAFETY: our own child, not yet waited for.
    unsafe { libc::kill(child.id() as i32, libc::SIGTERM) };
    let o = child.wait_with_output().unwrap();
    let said = ended(&o, 1);
    assert!(said.contains("run the shard again"), "{said}");
    let left = objects(&dir.join("store"));
    assert!(left.iter().all(|o| o.starts_with("segments/")), "{left:?}");
    let o = fleet(dir, &["status", "--manifest", &manifest, "--json"]);
    let status: serde_json::Value = serde_json::from_slice(&o.stdout).unwrap();
    assert_eq!((o.status.code(), &status["open"]), (Some(3), &1.into()));
}

#[test]
fn a_store_without_room_ends_the_shard_and_loses_nothing() {
    let t = archive(&[("a.mkv", 14), ("b.mkv", 11)]);
    let dir = t.path();
    let whole = plan(dir, "whole", &[]);
    ended(&fleet(dir, &["run", "--manifest", &whole, NETWORK[0], NETWORK[1]]), 0);
    let full = plan(dir, "full", &[]);
    let mut run = command(dir, &["run", "--manifest", &full, NETWORK[0], NETWORK[1]]);
    // SAFETY: only calls that are allowed between fork and exec.
    unsafe {
        run.pre_exec(|| {
            let limit = libc::rlimit { rlim_cur: 100, rlim_max: 100 };
            match libc::setrlimit(libc::RLIMIT_FSIZE, &limit) {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            }
        });
    }
    let said = ended(&run.output().unwrap(), 1);
    assert!(said.contains("full: cannot be written") && said.trim().lines().count() == 1, "{said}");
    assert_eq!(objects(&dir.join("full")), [""; 0], "nothing that is not whole");
    ended(&fleet(dir, &["run", "--manifest", &full, NETWORK[0], NETWORK[1]]), 0);
    for name in ["whole", "full"] {
        ended(
            &fleet(dir, &["merge", "--manifest", &format!("{name}.jsonl"), "--output", &format!("m-{name}")]),
            0,
        );
    }
    same(&dir.join("m-whole"), &dir.join("m-full"));
    // A merge without room leaves what was there.
    let before = std::fs::read(dir.join("m-full/frames.parquet")).unwrap();
    let mut merge = command(dir, &["merge", "--manifest", &full, "--output", "m-full", "--force"]);
    // SAFETY: only calls that are allowed between fork and exec.
    unsafe {
        merge.pre_exec(|| {
            let limit = libc::rlimit { rlim_cur: 100, rlim_max: 100 };
            match libc::setrlimit(libc::RLIMIT_FSIZE, &limit) {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            }
        });
    }
    let said = ended(&merge.output().unwrap(), 1);
    assert!(said.contains("cannot be written"), "{said}");
    assert_eq!(std::fs::read(dir.join("m-full/frames.parquet")).unwrap(), before);
}

#[test]
fn engines_learn_from_the_exit_code_what_to_do() {
    let t = archive(&[("a.mkv", 12), ("b.mkv", 10)]);
    let dir = t.path();
    let manifest = plan(dir, "store", &["--shards", "2"]);
    let run = |engine: (&str, &str), more: &[&str]| {
        let mut args = vec!["run", "--manifest", &manifest, NETWORK[0], NETWORK[1]];
        args.extend(more);
        command(dir, &args).env(engine.0, engine.1).output().unwrap()
    };
    let text = ended(&run(("SLURM_ARRAY_TASK_ID", "1"), &[]), 0);
    assert!(text.contains("shard 1 of 2, numbered by Slurm: 1 recordings"), "{text}");
    let text = ended(&run(("PARALLEL_SEQ", "1"), &[]), 0);
    assert!(text.contains("shard 0 of 2, numbered by GNU parallel"), "{text}");
    // Never again: the numbers are wrong, and so is the checkpoint or the manifest.
    let text = ended(&run(("SLURM_ARRAY_TASK_ID", "2"), &[]), 2);
    assert!(text.contains("number the tasks of Slurm from 0 to 1"), "{text}");
    ended(&run(("X", ""), &["--shard", "2/2"]), 2);
    ended(&fleet(dir, &["run", "--manifest", "videos/a.mkv"]), 2);
    let other = plan(dir, "other", &["--confirm", "off"]);
    let text = std::fs::read_to_string(dir.join(&other)).unwrap();
    std::fs::write(dir.join(&other), text.replace("\"confirm\":\"off\"", "\"confirm\":\"quiet\"")).unwrap();
    assert!(ended(&fleet(dir, &["run", "--manifest", &other]), 2).contains("plan"));
    // Once more at most: something is not whole.
    let damaged = std::fs::read(dir.join("videos/a.mkv")).unwrap();
    std::fs::write(dir.join("videos/a.mkv"), &damaged[..damaged.len() * 3 / 4]).unwrap();
    let third = plan(dir, "third", &[]);
    for _ in 0..3 {
        ended(&fleet(dir, &["run", "--manifest", &third, NETWORK[0], NETWORK[1]]), 3);
    }
    let text = ended(&fleet(dir, &["status", "--manifest", &third]), 0);
    assert!(text.contains("1 whole, 1 partial"), "{text}");
    ended(&fleet(dir, &["merge", "--manifest", &third, "--output", "m"]), 3);
    ended(&fleet(dir, &["merge", "--manifest", &third, "--output", "m"]), 1);
    std::fs::write(dir.join("m/mine"), "x").unwrap();
    assert!(
        ended(&fleet(dir, &["merge", "--manifest", &third, "--output", "m", "--force"]), 1).contains("mine")
    );
}
