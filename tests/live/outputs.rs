//! What a session writes: looked at before it starts, replaced only when the new is whole, and told when it ended by
//! itself. The program itself is run, without a network.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::control::{address, request};
use crate::schema::assert_is;

fn pipeline() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("pipelines/test.toml")
}

fn live(dir: &Path, args: &[&str]) -> Command {
    let mut c = Command::new(env!("CARGO_BIN_EXE_polypscope"));
    c.arg("live").args(args).current_dir(dir);
    c.env_remove("RUST_LOG").env_remove("GST_DEBUG").env_remove("DISPLAY").env_remove("WAYLAND_DISPLAY");
    c.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    c
}

/// A session over a small test pattern that shows nothing anywhere.
fn session(dir: &Path, args: &[&str]) -> Command {
    session_to("null", dir, args)
}

fn session_to(sink: &str, dir: &Path, args: &[&str]) -> Command {
    let mut c = live(dir, &["--no-ai", "--sink", sink, "--set", "size=64x48", "--pipeline"]);
    c.arg(pipeline()).args(args);
    c
}

/// Waits for its end, and ends it if it hangs.
pub fn wait(mut child: Child) -> Output {
    let start = Instant::now();
    while child.try_wait().expect("ours").is_none() {
        if start.elapsed() > Duration::from_secs(60) {
            child.kill().expect("ours");
            panic!("hangs: {}", said(&child.wait_with_output().expect("its output")));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    child.wait_with_output().expect("its output")
}

fn run(mut command: Command) -> Output {
    wait(command.spawn().expect("it starts"))
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(60), "in vain: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn said(o: &Output) -> String {
    String::from_utf8_lossy(&o.stderr).into_owned()
}

fn refused(o: &Output, code: i32, words: &str) {
    let said = said(o);
    assert_eq!(o.status.code(), Some(code), "{said}");
    assert!(said.contains(words) && said.trim_end().lines().count() == 1, "{words:?}: {said}");
}

fn listing(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> = std::fs::read_dir(dir)
        .expect("a folder")
        .map(|e| e.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

fn json(path: &Path) -> serde_json::Value {
    serde_json::from_str(&text(path)).expect("JSON")
}

pub fn signal(child: &Child, signal: i32) {
    // SAFETY: our own child, not yet waited for.
    unsafe { libc::kill(child.id() as i32, signal) };
}

const OUTPUTS: [&str; 7] = ["--summary", "s.json", "--lines", "l.jsonl", "--trace", "t.json", "--force"];

#[test]
fn a_session_that_does_not_start_costs_no_earlier_result() {
    let t = tempfile::tempdir().expect("scratch");
    let d = t.path();
    for name in ["s.json", "l.jsonl", "t.json"] {
        std::fs::write(d.join(name), "old").expect("a file");
    }
    let before = listing(d);
    let busy = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let busy = busy.local_addr().expect("its address").to_string();
    let missing = live(d, &[&["--pipeline", "/nonexistent.toml", "--no-ai"], &OUTPUTS[..]].concat());
    for command in [
        missing,
        session(d, &[&["--set", "nonsense=1"], &OUTPUTS[..]].concat()),
        session(d, &[&["--set", "pattern=nonsense"], &OUTPUTS[..]].concat()),
        session_to("window", d, &OUTPUTS),
        // The picture runs already when this one is found out.
        session(d, &[&["--control", &busy], &OUTPUTS[..]].concat()),
        session(d, &[&["--record", "s.json/below"], &OUTPUTS[..]].concat()),
    ] {
        let o = run(command);
        assert!(matches!(o.status.code(), Some(1 | 2)), "{:?} {}", o.status, said(&o));
        assert_eq!(listing(d), before, "{}", said(&o));
        for name in &before {
            assert_eq!(text(&d.join(name)), "old", "{}", said(&o));
        }
    }
}

#[test]
fn outputs_are_looked_at_before_the_session_starts() {
    let t = tempfile::tempdir().expect("scratch");
    let d = t.path();
    std::fs::write(d.join("there"), "old").expect("a file");
    // Its sink makes a file when it starts.
    let own = "description='d'\ndefault_sink='mine'\n[source]\n\
               launch='videotestsrc is-live=true ! video/x-raw,format=NV12,width=64,height=48,framerate=25/1'\n\
               [sinks.mine]\ndoc='d'\nlaunch='filesink location=started'\n";
    std::fs::write(d.join("own.toml"), own).expect("a file");
    let session = |args: &[&str]| {
        let mut c = live(d, &["--no-ai", "--pipeline", "own.toml"]);
        c.args(args);
        c
    };
    let before = listing(d);
    for (args, code, words) in [
        (
            &["--summary", "missing/s.json"][..],
            1,
            "missing/s.json: there is no folder missing; create it first",
        ),
        (&["--lines", "missing/s.json"], 1, "there is no folder"),
        (&["--trace", "missing/s.json"], 1, "there is no folder"),
        (&["--summary", "there/s.json"], 1, "there is not a folder"),
        (&["--summary", "."], 1, ".: is a folder; name a file"),
        (&["--summary", "there"], 1, "there: exists already; choose another name, or add --force"),
        (&["--summary", "a", "--lines", "a"], 2, "--lines a: is also the file of --summary"),
        (&["--lines", "a", "--trace", "./a"], 2, "--trace ./a: is also the file of --lines"),
        (&["--summary", "/dev/null", "--force"], 1, "/dev/null: is a device"),
        (&["--record", "there"], 1, "there: is not a folder"),
        (&["--record-to", "there/r"], 1, "there: is not a folder"),
    ] {
        refused(&run(session(args)), code, words);
        assert_eq!(listing(d), before, "{args:?}");
    }
    refused(&run(session(&["--summary", "own.toml", "--force"])), 2, "is what is read");
    assert_eq!(listing(d), before);
    // Such a session does leave a trace.
    let child = session(&["--summary", "s.json"]).spawn().expect("it starts");
    until("the sink's file", || d.join("started").metadata().is_ok_and(|m| m.len() > 0));
    signal(&child, libc::SIGINT);
    let o = wait(child);
    assert_eq!(o.status.code(), Some(0), "{}", said(&o));
    assert_eq!(listing(d), ["own.toml", "s.json", "started", "there"]);
}

#[test]
fn results_are_private_and_replace_earlier_ones_at_the_end() {
    let t = tempfile::tempdir().expect("scratch");
    let d = t.path();
    for name in ["s.json", "l.jsonl", "t.json"] {
        std::fs::write(d.join(name), "old").expect("a file");
        std::fs::set_permissions(d.join(name), std::fs::Permissions::from_mode(0o644)).expect("ours");
    }
    let mut c = session(d, &OUTPUTS);
    // SAFETY: async-signal-safe, and touches nothing of ours.
    unsafe {
        c.pre_exec(|| {
            // These tests may run where it is ignored, as under `nohup`.
            libc::signal(libc::SIGHUP, libc::SIG_DFL);
            Ok(())
        });
    }
    let child = c.spawn().expect("it starts");
    until("lines", || text(&d.join("l.jsonl.part")).lines().count() > 10);
    for name in ["s.json", "l.jsonl", "t.json"] {
        assert_eq!(text(&d.join(name)), "old", "{name}: while the session runs");
    }
    // The terminal is closed.
    signal(&child, libc::SIGHUP);
    let o = wait(child);
    assert_eq!(o.status.code(), Some(0), "{}", said(&o));
    assert_eq!(listing(d), ["l.jsonl", "s.json", "t.json"]);
    for name in ["s.json", "l.jsonl", "t.json"] {
        assert_eq!(d.join(name).metadata().expect("there").permissions().mode() & 0o777, 0o600, "{name}");
    }
    let summary = json(&d.join("s.json"));
    assert!(summary["frames"]["in"].as_u64() > Some(10), "{summary}");
    assert_eq!(
        (&summary["recordings"], &summary["unfinished"]),
        (&serde_json::json!([]), &serde_json::json!([]))
    );
    assert!(json(&d.join("t.json")).as_array().is_some_and(|a| a.len() > 10));
    let lines = text(&d.join("l.jsonl"));
    for line in lines.lines() {
        assert_is("live-lines", &serde_json::from_str(line).expect("JSON"));
    }
    assert_is("live-summary", &summary);
}

#[test]
fn a_session_that_is_killed_leaves_its_lines_and_the_next_one_says_so() {
    let t = tempfile::tempdir().expect("scratch");
    let d = t.path();
    let mut child = session(d, &["--lines", "l.jsonl", "--summary", "s.json"]).spawn().expect("it starts");
    until("lines", || text(&d.join("l.jsonl.part")).lines().count() > 10);
    let two = run(session(d, &["--lines", "l.jsonl", "--force"]));
    refused(&two, 1, "l.jsonl.part: is being written by another session");
    child.kill().expect("ours");
    child.wait().expect("ours");
    let args = ["--lines", "l.jsonl"];
    let o = run(session(d, &args));
    refused(&o, 1, "l.jsonl.part: was left by a session that did not end as it should; move it away");
    let again = [&args[..], &["--force", "--summary", "s.json"]].concat();
    let child = session(d, &again).spawn().expect("it starts");
    // What was left stays until this session's own lines, beside it, are complete.
    until("lines of its own", || text(&d.join("l.jsonl.part2")).contains("\"frame\""));
    signal(&child, libc::SIGINT);
    let o = wait(child);
    assert_eq!(o.status.code(), Some(0), "{}", said(&o));
    // What the first had aside for its summary is gone too.
    assert_eq!(listing(d), ["l.jsonl", "s.json"]);
}

/// The `.mkv` that is being recorded.
pub fn recorded(dir: &Path) -> Option<PathBuf> {
    std::fs::read_dir(dir)
        .ok()?
        .flatten()
        .map(|e| e.path())
        .find(|p| p.extension().is_some_and(|e| e == "mkv") && p.metadata().is_ok_and(|m| m.len() > 0))
}

#[test]
fn a_recording_that_ended_by_itself_is_in_the_outcome() {
    for how in ["removed", "replaced", "moved"] {
        let t = tempfile::tempdir().expect("scratch");
        let d = t.path();
        let control = ["--control", "127.0.0.1:0", "--control-url-file", "url"];
        let args = [&["--record", "r", "--summary", "s.json"], &control[..]].concat();
        let child = session(d, &args).spawn().expect("it starts");
        until("a recording", || recorded(&d.join("r")).is_some() && text(&d.join("url")).contains("/#"));
        let file = recorded(&d.join("r")).expect("a file");
        match how {
            "removed" => std::fs::remove_file(&file).expect("ours"),
            "replaced" => {
                std::fs::write(d.join("other"), "x").expect("a file");
                std::fs::rename(d.join("other"), &file).expect("ours");
            }
            _ => std::fs::rename(d.join("r"), d.join("elsewhere")).expect("ours"),
        }
        let (addr, token) = address(&text(&d.join("url")));
        let bearer = format!("Authorization: Bearer {token}\r\n");
        until("its end, and a frame after that", || {
            let (_, state) = request(addr, "GET", "/api/state", &bearer, "");
            let state: serde_json::Value = serde_json::from_str(&state).unwrap_or_default();
            !state["recording_stopped_because"].is_null() && state["recording_lost_frames"].as_u64() > Some(0)
        });
        signal(&child, libc::SIGINT);
        let o = wait(child);
        assert_eq!(o.status.code(), Some(3), "{how}: {}", said(&o));
        let out = String::from_utf8_lossy(&o.stdout).into_owned();
        assert!(out.contains("it ended by itself") && out.contains("while it was recorded"), "{how}: {out}");
        let summary = json(&d.join("s.json"));
        let [recording] = &summary["recordings"].as_array().expect("a list")[..] else { panic!("{summary}") };
        assert_eq!(recording["what"], "annotated");
        assert!(
            recording["frames"].as_u64() > Some(0) && recording["lost"].as_u64() > Some(0),
            "{recording}"
        );
        let reason = recording["reason"].as_str().expect("a reason");
        assert!(reason.contains("while it was recorded"), "{how}: {reason}");
    }
}

#[test]
fn a_recording_that_its_owner_ended_is_no_fault() {
    let t = tempfile::tempdir().expect("scratch");
    let d = t.path();
    let child = session(d, &["--record", "r", "--record-what", "both", "--json"]).spawn().expect("it starts");
    until("a recording", || recorded(&d.join("r")).is_some());
    signal(&child, libc::SIGINT);
    let o = wait(child);
    assert_eq!(o.status.code(), Some(0), "{}", said(&o));
    let summary: serde_json::Value = serde_json::from_slice(&o.stdout).expect("JSON");
    let recording = &summary["recordings"][0];
    assert_eq!((&recording["what"], &recording["reason"]), (&"both".into(), &serde_json::Value::Null));
    assert!(recording["frames"].as_u64() > Some(0), "{recording}");
}

/// Files that may not grow beyond some kilobytes stand for a full disk.
#[test]
fn what_a_full_disk_ends_is_in_the_outcome() {
    let t = tempfile::tempdir().expect("scratch");
    let d = t.path();
    let mut c = session(d, &["--lines", "l.jsonl", "--json"]);
    // SAFETY: both calls are async-signal-safe and touch nothing of ours.
    unsafe {
        c.pre_exec(|| {
            // As a shell starts it: the signal would end the process.
            libc::signal(libc::SIGXFSZ, libc::SIG_DFL);
            let limit = libc::rlimit { rlim_cur: 4 << 10, rlim_max: 4 << 10 };
            match libc::setrlimit(libc::RLIMIT_FSIZE, &limit) {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            }
        });
    }
    let child = c.spawn().expect("it starts");
    until("the limit", || d.join("l.jsonl.part").metadata().is_ok_and(|m| m.len() >= 4 << 10));
    signal(&child, libc::SIGINT);
    let o = wait(child);
    assert_eq!(o.status.code(), Some(3), "{:?} {}", o.status, said(&o));
    let summary: serde_json::Value = serde_json::from_slice(&o.stdout).expect("JSON");
    let unfinished = &summary["unfinished"][0];
    assert_eq!(unfinished["path"], "l.jsonl");
    assert!(unfinished["reason"].as_str().is_some_and(|r| r.contains("file too large")), "{unfinished}");
    assert_eq!(listing(d), ["l.jsonl.part"], "what there is, under a name that says that it is not whole");
}

#[test]
fn without_a_display_a_window_is_refused_before_anything_starts() {
    let t = tempfile::tempdir().expect("scratch");
    let own = "description='d'\ndefault_sink='mine'\n[source]\nlaunch='videotestsrc num-buffers=3'\n";
    for launch in ["videoconvert ! ximagesink", "glimagesink", "videoconvert ! waylandsink", "fpsdisplaysink"]
    {
        let name = format!("{}.toml", launch.rsplit(' ').next().unwrap_or_default());
        let sinks = format!("{own}[sinks.mine]\ndoc='d'\nlaunch='{launch}'\n");
        std::fs::write(t.path().join(&name), sinks).expect("a file");
        let o = run(live(t.path(), &["--no-ai", "--pipeline", &name]));
        if said(&o).contains("GStreamer has no element") {
            continue;
        }
        refused(&o, 1, "no display");
        assert!(said(&o).contains("use --sink fullscreen or null"), "{}", said(&o));
    }
    let mut c = session_to("window", t.path(), &["--seconds", "1"]);
    refused(&run(c), 1, "(neither DISPLAY nor WAYLAND_DISPLAY is set); use --sink fullscreen or null");
    c = session_to("window", t.path(), &["--seconds", "1"]);
    c.env("DISPLAY", ":64999");
    refused(&run(c), 1, "(nobody answers at DISPLAY=:64999); use --sink fullscreen or null");
}
