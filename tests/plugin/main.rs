//! The plugin as its users meet it: a file that other programs load, with an empty registry every time.
//!
//! The file is the tests' own library, linked once more as a shared object (see `gstpolypscope` in Cargo.toml).
//! `cargo test` has built it before it comes here; for `cargo test --test plugin` it is asked for, which links and
//! compiles nothing. `POLYPSCOPE_PLUGIN` names another file to test, such as the one that `make plugin` made.
#![cfg(feature = "video")]

#[path = "../common/mod.rs"]
mod common;
mod states;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use tempfile::TempDir;

/// The shared object.
pub fn library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        if let Some(named) = std::env::var_os("POLYPSCOPE_PLUGIN") {
            return PathBuf::from(named).canonicalize().expect("the file that POLYPSCOPE_PLUGIN names");
        }
        // This test lies in `PROFILE/deps`.
        let me = std::env::current_exe().expect("a test has a path");
        let profile = me.ancestors().nth(2).expect("two folders above");
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "--locked", "--quiet", "--example", "gstpolypscope"]);
        // With the features of this build: with others the library would be compiled again.
        if cfg!(feature = "video-tests") {
            cargo.args(["--features", "video-tests"]);
        }
        cargo.current_dir(env!("CARGO_MANIFEST_DIR"));
        cargo.arg("--target-dir").arg(profile.parent().expect("the target folder"));
        match profile.file_name().and_then(|n| n.to_str()) {
            Some("debug") | None => {}
            Some(name) => {
                cargo.args(["--profile", name]);
                // The release profile with assertions is that of `make test`; without its file all would be compiled
                // again.
                if cfg!(debug_assertions) {
                    cargo.args(["--config", "tests/profile.toml"]);
                }
            }
        }
        assert!(cargo.status().expect("cargo runs").success(), "the plugin cannot be built");
        profile.join("examples/libgstpolypscope.so")
    })
}

/// A machine with nothing but the system's plugins and ours.
pub struct Machine {
    folder: TempDir,
}

impl Machine {
    /// With our plugin in a folder of its own, and none of the user's.
    pub fn bare() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let plugins = folder.path().join("plugins");
        std::fs::create_dir(&plugins).expect("a folder");
        std::os::unix::fs::symlink(library(), plugins.join("libgstpolypscope.so")).expect("a link");
        Self { folder }
    }

    /// A program to be run there.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command
            .env("GST_PLUGIN_PATH", self.folder.path().join("plugins"))
            .env("GST_REGISTRY", self.folder.path().join("registry.bin"))
            .env("GST_DEBUG_NO_COLOR", "1")
            .env(
                "POLYPSCOPE_WEIGHTS",
                concat!(env!("CARGO_MANIFEST_DIR"), "/weights/m2snet-polyp.safetensors"),
            )
            .env_remove("GST_DEBUG")
            .env_remove("DISPLAY")
            .current_dir(self.folder.path());
        command
    }

    fn run(&self, program: &str, args: &[&str]) -> Output {
        finished(self.command(program).args(args))
    }

    fn launch(&self, line: &str) -> Output {
        let words: Vec<&str> = line.split_whitespace().collect();
        finished(self.command("gst-launch-1.0").arg("-q").args(words))
    }
}

/// Runs it to its end, which must be a good one.
fn finished(command: &mut Command) -> Output {
    let out = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    assert!(out.status.success(), "{command:?}: {}\n{}{}", out.status, text(&out.stdout), text(&out.stderr));
    out
}

/// What a program said; what is no UTF-8 is replaced.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A small phantom, as fast as it is taken.
const PHANTOM: &str =
    "polypphantomsrc is-live=false width=160 height=120 fps=25 seconds=1 num-frames=8 seed=11";
/// A network that is fast enough for a test.
const SMALL: &str = "input-size=32 threads=1 precision=f32";

/// Python with GStreamer's bindings; `None`, said aloud, where there is none.
fn python() -> Option<&'static str> {
    let there = |p: &&str| {
        let imports = "import gi; gi.require_version('Gst', '1.0'); from gi.repository import Gst; Gst.init(None); \
             Gst.Structure.new_empty('a').set_value('b', 1)";
        Command::new(p).args(["-c", imports]).output().is_ok_and(|o| o.status.success())
    };
    let found = ["/usr/bin/python3", "python3"].into_iter().find(there);
    if found.is_none() {
        common::skip("python", "there is no Python with GStreamer's bindings (python3-gst-1.0)");
    }
    found
}

fn script(name: &str) -> String {
    format!("{}/pipelines/elements/{name}", env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn gst_inspect_shows_everything_and_nothing_is_blacklisted() {
    let machine = Machine::bare();
    let said = text(&machine.run("gst-inspect-1.0", &["polypscope"]).stdout);
    for word in
        ["polypsegment", "polypoverlay", "polypkey", "polypphantomsrc", "MIT/X11", env!("CARGO_PKG_VERSION")]
    {
        assert!(said.contains(word), "{word}: {said}");
    }
    assert!(said.contains("4 features"), "{said}");
    let said =
        text(&machine.run("gst-inspect-1.0", &["--print-plugin-auto-install-info", "polypscope"]).stdout);
    assert!(said.contains("element-polypsegment"), "{said}");
    let said = text(&machine.run("gst-inspect-1.0", &["-b"]).stdout);
    assert!(!said.contains("polyp"), "{said}");
    let said = text(&machine.run("gst-inspect-1.0", &["polypsegment"]).stdout);
    for word in [
        "Filter/Analyzer/Video",
        "none (0)",
        "GstPolypSegment",
        "weights",
        "device",
        "precision",
        "threads",
        "threshold",
        "max-mask-age",
        "motion",
        "field-of-view",
        "confirm",
        "input-size",
        "sync",
        "stats",
        "\"balanced\"",
        "Range: 0 - 2048",
        "changeable only in NULL or READY state",
        "SINK template: 'sink'",
    ] {
        assert!(said.contains(word), "{word}: {said}");
    }
    let said = text(&machine.run("gst-inspect-1.0", &["polypoverlay"]).stdout);
    for word in ["fill", "outline", "colour", "opacity", "status", "max-mask-age", "metadata"] {
        assert!(said.contains(&format!("  {word} ")), "{word}: {said}");
    }
}

#[test]
fn a_pipeline_over_the_phantom_is_silent_and_leaks_nothing() {
    let machine = Machine::bare();
    let line = format!("{PHANTOM} ! polypsegment sync=true {SMALL} ! polypoverlay ! videoconvert ! fakesink");
    let words: Vec<&str> = line.split_whitespace().collect();
    // Other plugins have their say when they are looked at for the first time.
    machine.run("gst-inspect-1.0", &["polypscope"]);
    let mut command = machine.command("gst-launch-1.0");
    command.arg("-q").args(&words).env("GST_DEBUG", "2");
    let out = finished(&mut command);
    assert_eq!(text(&out.stdout) + &text(&out.stderr), "");
    let mut command = machine.command("gst-launch-1.0");
    command.arg("-q").args(&words).env("GST_DEBUG", "GST_TRACER:7").env("GST_TRACERS", "leaks");
    let out = finished(&mut command);
    let said = text(&out.stderr);
    // The tracer's own descriptions of its lines hold placeholders.
    let leak = |l: &&str| l.contains("object-alive, type-name=") && !l.contains("%s");
    let alive: Vec<&str> = said.lines().filter(leak).collect();
    assert!(said.contains("object-alive"), "the tracer was not there: {said}");
    assert!(alive.is_empty(), "{alive:#?}");
}

#[test]
fn a_recording_passes_with_and_without_waiting() {
    let Some(clip) = common::shared("video/polypgen-3.mp4") else { return };
    let machine = Machine::bare();
    for sync in [true, false] {
        let line = format!(
            "filesrc location={} ! decodebin ! videoconvert ! identity eos-after=6 ! polypsegment sync={sync} {SMALL} ! \
             polypoverlay ! fakesink",
            clip.display()
        );
        machine.launch(&line);
    }
}

#[test]
fn several_elements_share_a_pipeline() {
    let machine = Machine::bare();
    machine.launch(&format!(
        "{PHANTOM} ! tee name=t \
         t. ! queue ! polypsegment sync=true {SMALL} ! polypoverlay ! fakesink \
         t. ! queue ! polypsegment {SMALL} confirm=off ! polypsegment sync=true {SMALL} ! polypkey ! fakesink \
         t. ! queue ! polypoverlay metadata=PolypscopeTruth ! fakesink"
    ));
}

#[test]
fn the_truth_of_the_phantom_is_drawn() {
    let machine = Machine::bare();
    let drawn = |overlay: &str| {
        let line = format!(
            "polypphantomsrc is-live=false width=160 height=120 fps=10 seconds=2 num-frames=20 preset=fast seed=11 ! \
             {overlay} filesink location=out.raw"
        );
        machine.launch(&line);
        std::fs::read(machine.folder.path().join("out.raw")).expect("the video")
    };
    let (clean, marked) = (drawn(""), drawn("polypoverlay metadata=PolypscopeTruth !"));
    assert_eq!(clean.len(), marked.len());
    assert_ne!(clean, marked);
    assert_eq!(clean, drawn("polypoverlay !"), "without a mask the picture stays as it is");
}

#[test]
fn python_reads_the_masks() {
    let Some(python) = python() else { return };
    let machine = Machine::bare();
    // So low that any network marks something of so small a picture.
    let line = format!("{PHANTOM} ! polypsegment sync=true confirm=off threshold=0.0000000001 {SMALL}");
    let out = machine.run(python, &[&script("read_masks.py"), &line]);
    let lines: Vec<serde_json::Value> =
        text(&out.stdout).lines().map(|l| serde_json::from_str(l).expect("JSON")).collect();
    assert_eq!(lines.len(), 8, "{}", text(&out.stderr));
    for (n, line) in lines.iter().enumerate() {
        assert_eq!(
            (line["frame"].as_u64(), line["state"].as_str()),
            (Some(n as u64), Some("active")),
            "{line}"
        );
        let area = line["area"].as_u64().expect("an area");
        assert_eq!(line["marked"].as_u64().unwrap_or(0), area, "{line}");
        assert_eq!(line["regions"].as_array().map_or(0, Vec::len) > 0, area > 0, "{line}");
    }
    assert!(lines.iter().any(|l| l["area"].as_u64() > Some(0)), "nothing is marked on any frame");
}

#[test]
fn python_feeds_masks_of_its_own() {
    let Some(python) = python() else { return };
    let machine = Machine::bare();
    let picture = machine.folder.path().join("marked.png");
    machine.run(python, &[&script("own_masks.py"), picture.to_str().expect("a plain path")]);
    let picture = image::open(&picture).expect("a picture").into_rgb8();
    // The overlay draws in the picture's own layout, which is grey here: between the ball's white and the black around
    // it.
    let grey = picture.pixels().filter(|p| (20..236).contains(&p.0[0])).count();
    assert!(grey > 100, "{grey} pixels are marked");
}

/// The lines of the elements' pages, with a small network and a small phantom so that they end soon.
#[test]
fn the_pages_lines_run() {
    let machine = Machine::bare();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("pipelines/elements");
    let mut lines = 0;
    for page in ["polypsegment", "polypoverlay", "polypkey", "polypphantomsrc"] {
        let page = std::fs::read_to_string(folder.join(format!("{page}.md"))).expect("a page");
        for line in page.lines().filter_map(|l| l.strip_prefix("gst-launch-1.0 ")) {
            let small = "polypphantomsrc width=160 height=120 fps=30 seconds=1";
            let line = line.replace("width=320 height=240 seconds=2 ", "");
            let line = line.replace("num-frames=50", "num-frames=6").replace("polypphantomsrc", small);
            machine.launch(&line.replace("polypsegment", &format!("polypsegment {SMALL}")));
            lines += 1;
        }
    }
    assert!(lines >= 5);
}

#[test]
fn what_cannot_be_is_said_in_one_sentence() {
    let machine = Machine::bare();
    let out = machine
        .command("gst-launch-1.0")
        .args(
            "videotestsrc num-buffers=1 ! polypsegment weights=/nowhere/net.safetensors ! fakesink"
                .split(' '),
        )
        .output()
        .expect("it runs");
    assert!(!out.status.success());
    let said = text(&out.stderr);
    assert!(said.contains("/nowhere/net.safetensors: there is no such checkpoint"), "{said}");
}
