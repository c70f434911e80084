//! Pipeline files: those that are shipped, those that are wrong, and sources that go away and come back.

use std::path::Path;
use std::time::{Duration, Instant};

use gstreamer as gst;
use gstreamer::prelude::*;

use polypscope::capture::{LivePipeline, Notice, PipelineFile, Ready};

use crate::outputs::{recorded, signal, wait};
use crate::skipped::skip;

fn shipped() -> Vec<std::path::PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("pipelines");
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .expect("pipelines/ is there")
        .map(|e| e.expect("an entry").path())
        .filter(|p| p.extension().is_some_and(|e| e == "toml") && p.file_stem().is_some_and(|n| n != "sinks"))
        .collect();
    files.sort();
    files
}

/// Elements of shipped files that a machine may lack: they come in plug-ins of their own, or with a card's driver.
const OPTIONAL: &[&str] = &[
    "v4l2src",
    "decklinkvideosrc",
    "decklinkvideosink",
    "kmssink",
    "rtspsrc",
    "srtsrc",
    "srtsink",
    "hlssink2",
    "autovideosink",
];

#[test]
fn every_shipped_file_parses_with_every_sink() {
    polypscope::capture::init().expect("GStreamer starts");
    let files = shipped();
    assert!(files.len() >= 8, "{files:?}");
    for path in files {
        let file = PipelineFile::open(&path).unwrap_or_else(|e| panic!("{e}"));
        assert!(!file.description.is_empty());
        for (name, p) in file.parameters() {
            assert!(!p.doc.is_empty(), "{name} of {}", path.display());
        }
        for sink in file.sinks().keys() {
            match file.ready(&[], Some(sink)) {
                Ok(_) => {}
                // A machine without some plug-in still learns which. A misspelt element is none of those.
                Err(e) => {
                    let e = e.to_string();
                    let missing =
                        OPTIONAL.iter().find(|o| e.contains(&format!("GStreamer has no element {o};")));
                    let missing = missing.unwrap_or_else(|| panic!("{e}"));
                    assert!(gst::ElementFactory::find(missing).is_none(), "{missing} is here");
                }
            }
        }
    }
}

fn refused(text: &str, sets: &[(&str, &str)], sink: Option<&str>) -> String {
    let sets: Vec<_> = sets.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    match PipelineFile::parse(text, "my.toml").and_then(|f| f.ready(&sets, sink)) {
        Ok(ready) => panic!("was accepted: {ready:?}"),
        Err(e) => e.to_string(),
    }
}

const GOOD: &str = r#"
description = "d"
default_sink = "null"
[source]
launch = "videotestsrc num-buffers={n} ! video/x-raw,format=NV12"
[parameters.n]
type = "int"
default = "9"
min = 1
doc = "how many"
"#;

#[test]
fn what_is_wrong_is_said_before_anything_starts() {
    let cases: &[(&str, &[(&str, &str)], Option<&str>, &str)] = &[
        ("not toml", &[], None, "my.toml: "),
        (GOOD, &[("m", "1")], None, "there is no parameter \"m\"; choose among"),
        (GOOD, &[("n", "0")], None, "n=0: is not from 1 to any; n: how many"),
        (GOOD, &[("n", "1 ! fakesink")], None, "is not a whole number"),
        (GOOD, &[], Some("screen"), "there is no sink \"screen\"; choose one of"),
        (&GOOD.replace("{n}", "{x}"), &[], None, "[source]: {x}: there is no such parameter"),
        (
            GOOD,
            &[("n", "99999999999")],
            None,
            "num-buffers of videotestsrc is a whole number from -1 to 2147483647",
        ),
        (&GOOD.replace("num-buffers={n}", "nosuch={n}"), &[], None, "videotestsrc has no property nosuch"),
        (&GOOD.replace("videotestsrc", "videonosuch"), &[], None, "GStreamer has no element videonosuch"),
        (&GOOD.replace(" ! video", " ! ! video"), &[], None, "[source]: does not parse"),
        (&GOOD.replace("format=NV12", "format=NV12 ! fakesink"), &[], None, "[source]: does not parse"),
        (&GOOD.replace("[source]", "[source]\nlunch = 1"), &[], None, "unknown field `lunch`"),
    ];
    for (text, sets, sink, words) in cases {
        let e = refused(text, sets, *sink);
        assert!(e.contains(words), "{e:?} does not say {words:?}");
        assert!(!e.contains('\n'), "{e:?}");
    }
}

fn ready(source: &str, restart: bool) -> Ready {
    let text = format!(
        "description = \"d\"\ndefault_sink = \"null\"\n[source]\nrestart = {restart}\nsilence_s = 1\nlaunch = '''{source}'''\n"
    );
    PipelineFile::parse(&text, "test.toml").and_then(|f| f.ready(&[], None)).expect("it is a pipeline")
}

/// What is waited for comes within it, unless something hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs until a notice fulfils the condition.
fn until(pipeline: &mut LivePipeline, what: &str, mut holds: impl FnMut(&Notice) -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        if let Some(notice) = pipeline.next(Duration::from_millis(20)) {
            if holds(&notice) {
                return;
            }
            assert!(!matches!(notice, Notice::Failed(_)), "{notice:?}");
        }
    }
    panic!("in vain: {what}");
}

fn identity() -> gst::Element {
    polypscope::capture::init().expect("GStreamer starts");
    gst::ElementFactory::make("identity").build().expect("identity")
}

#[test]
fn a_recording_ends_and_a_device_is_started_anew() {
    let once = "videotestsrc num-buffers=10 is-live=true ! video/x-raw,format=NV12,width=64,height=48,framerate=50/1";
    let mut p = LivePipeline::new(ready(once, false), &identity()).expect("it builds");
    p.start().expect("it starts");
    until(&mut p, "the end", |n| matches!(n, Notice::Ended));

    let mut p = LivePipeline::new(ready(once, true), &identity()).expect("it builds");
    p.start().expect("it starts");
    until(&mut p, "loss", |n| matches!(n, Notice::SourceLost(_)));
    until(&mut p, "its return", |n| matches!(n, Notice::SourceBack));
}

/// A stream of test video to SRT callers.
fn srt_peer(port: u16) -> gst::Pipeline {
    let line = format!(
        "videotestsrc is-live=true ! video/x-raw,format=I420,width=160,height=96,framerate=25/1 ! \
         x264enc tune=zerolatency speed-preset=ultrafast key-int-max=10 ! h264parse config-interval=-1 ! mpegtsmux alignment=7 ! \
         srtsink uri=srt://127.0.0.1:{port}?mode=listener wait-for-connection=false"
    );
    let peer =
        gst::parse::launch(&line).expect("the peer parses").downcast::<gst::Pipeline>().expect("a pipeline");
    peer.set_state(gst::State::Playing).expect("the peer plays");
    peer
}

fn free_port() -> u16 {
    std::net::UdpSocket::bind("127.0.0.1:0").and_then(|s| s.local_addr()).expect("a free port").port()
}

#[test]
fn a_network_stream_that_breaks_off_is_taken_up_again() {
    let overlay = identity();
    let port = free_port();
    let peer = srt_peer(port);
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/pipelines/srt.toml"))
        .expect("srt.toml");
    let text = text.replace("silence_s = 4", "silence_s = 2");
    let uri = ("uri".to_owned(), format!("srt://127.0.0.1:{port}?mode=caller"));
    let ready = PipelineFile::parse(&text, "srt.toml")
        .and_then(|f| f.ready(&[uri, ("sync".into(), "false".into())], Some("null")))
        .expect("it is a pipeline");
    let mut p = LivePipeline::new(ready, &overlay).expect("it builds");
    let (sent, frames) = std::sync::mpsc::channel();
    p.exit_pad().add_probe(gst::PadProbeType::BUFFER, move |_, _| {
        let _ = sent.send(());
        gst::PadProbeReturn::Ok
    });
    p.start().expect("it starts");
    let wait = |p: &mut LivePipeline, what: &str| {
        let deadline = Instant::now() + PATIENCE;
        while frames.try_recv().is_err() {
            assert!(Instant::now() < deadline, "in vain: {what}");
            if let Some(Notice::Failed(e)) = p.next(Duration::from_millis(20)) {
                panic!("{e}");
            }
        }
    };
    wait(&mut p, "a first frame");
    peer.set_state(gst::State::Null).expect("the peer stops");
    until(&mut p, "loss", |n| matches!(n, Notice::SourceLost(_)));
    while frames.try_recv().is_ok() {}
    let peer = srt_peer(port);
    until(&mut p, "its return", |n| matches!(n, Notice::SourceBack));
    wait(&mut p, "a frame at the sink after the return");
    peer.set_state(gst::State::Null).expect("the peer stops");
}

/// An RTSP server on a port of its own, serving H.264 at /scope and JPEG at /jpeg; ends with the test's process.
#[cfg(feature = "video-tests")]
fn rtsp_peer() -> Option<u16> {
    use gstreamer_rtsp_server::RTSPMediaFactory;
    use gstreamer_rtsp_server::prelude::*;
    let (tell, port) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let context = gst::glib::MainContext::new();
        let server = gstreamer_rtsp_server::RTSPServer::new();
        server.set_address("127.0.0.1");
        server.set_service("0");
        let factory = RTSPMediaFactory::new();
        factory.set_launch(
            "( videotestsrc is-live=true ! video/x-raw,format=I420,width=160,height=96,framerate=25/1 ! \
               x264enc tune=zerolatency speed-preset=ultrafast key-int-max=10 ! rtph264pay name=pay0 config-interval=-1 )",
        );
        factory.set_shared(true);
        let mounts = server.mount_points().expect("a server has some");
        mounts.add_factory("/scope", factory);
        let other = RTSPMediaFactory::new();
        other.set_launch(
            "( videotestsrc is-live=true ! video/x-raw,format=I420,width=160,height=96,framerate=25/1 ! jpegenc ! \
               rtpjpegpay name=pay0 )",
        );
        mounts.add_factory("/jpeg", other);
        let _attached = server.attach(Some(&context)).expect("a free port");
        tell.send(server.bound_port() as u16).expect("the test waits");
        gst::glib::MainLoop::new(Some(&context), false).run();
    });
    Some(port.recv_timeout(PATIENCE).expect("the server starts"))
}

#[cfg(not(feature = "video-tests"))]
fn rtsp_peer() -> Option<u16> {
    skip("video-tests", "the tests were built without the feature video-tests");
    None
}

#[test]
fn an_rtsp_stream_is_decoded_in_its_own_layout() {
    polypscope::capture::init().expect("GStreamer starts");
    if gst::ElementFactory::find("rtspsrc").is_none() {
        return skip("rtsp", "GStreamer has no rtspsrc");
    }
    let Some(port) = rtsp_peer() else { return };
    for transport in ["tcp", "udp"] {
        let overlay = identity();
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("pipelines/rtsp.toml");
        let sets = [
            ("url".to_owned(), format!("rtsp://127.0.0.1:{port}/scope")),
            ("transport".into(), transport.into()),
            ("sync".into(), "false".into()),
        ];
        let ready = PipelineFile::open(&path).and_then(|f| f.ready(&sets, Some("null"))).expect("a pipeline");
        let mut p = LivePipeline::new(ready, &overlay).expect("it builds");
        let (sent, frames) = std::sync::mpsc::channel();
        p.exit_pad().add_probe(gst::PadProbeType::BUFFER, move |_, _| {
            let _ = sent.send(());
            gst::PadProbeReturn::Ok
        });
        p.start().expect("it starts");
        let deadline = Instant::now() + PATIENCE;
        let mut seen = 0;
        while seen < 20 {
            assert!(Instant::now() < deadline, "only {seen} frames over {transport}");
            if let Some(Notice::Failed(e)) = p.next(Duration::from_millis(20)) {
                panic!("{e}");
            }
            seen += frames.try_iter().count();
        }
        let caps = overlay.static_pad("src").and_then(|p| p.current_caps()).expect("caps").to_string();
        assert!(caps.contains("I420") && caps.contains("160"), "{caps}");
    }
}

/// A display of our own; `None`, and a word on it, where there is no Xvfb.
fn virtual_display() -> Option<(std::process::Child, String)> {
    use std::io::BufRead;
    let spawned = std::process::Command::new("Xvfb")
        // Without -noreset the server starts anew, and drops whoever is just connecting, each time its last client
        // leaves.
        .args(["-displayfd", "1", "-screen", "0", "800x600x24", "-nolisten", "tcp", "-noreset"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn();
    let mut child = match spawned {
        Ok(child) => child,
        Err(e) => {
            skip("xvfb", format_args!("Xvfb cannot be started ({e})"));
            return None;
        }
    };
    let mut line = String::new();
    let out = child.stdout.take().expect("it is piped");
    std::io::BufReader::new(out).read_line(&mut line).expect("Xvfb names its display");
    Some((child, format!(":{}", line.trim())))
}

/// The window sink, looked at from outside: the test pattern is on the screen while the session runs.
#[test]
fn the_window_shows_the_picture() {
    polypscope::capture::init().expect("GStreamer starts");
    if gst::ElementFactory::find("ximagesrc").is_none() {
        return skip("xvfb", "GStreamer has no ximagesrc to look at a screen with");
    }
    let Some((mut server, display)) = virtual_display() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let summary = folder.path().join("s.json");
    let mut live = std::process::Command::new(env!("CARGO_BIN_EXE_polypscope"))
        .args(["--quiet", "live", "--pipeline"])
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("pipelines/test.toml"))
        .args(["--set", "size=640x480", "--sink", "window", "--no-ai", "--seconds", "600", "--summary"])
        .arg(&summary)
        .env("DISPLAY", &display)
        .env_remove("WAYLAND_DISPLAY")
        .spawn()
        .expect("the session starts");
    // Colours of the pattern's bars, wherever a window without a manager lies.
    let seen = |display: &str| -> (usize, usize) {
        let line = format!(
            "ximagesrc display-name={display} num-buffers=1 use-damage=false ! videoconvert ! video/x-raw,format=RGB ! \
             appsink name=out sync=false"
        );
        let p =
            gst::parse::launch(&line).expect("it parses").downcast::<gst::Pipeline>().expect("a pipeline");
        p.set_state(gst::State::Playing).expect("it plays");
        let out =
            p.by_name("out").expect("it is there").downcast::<gstreamer_app::AppSink>().expect("an appsink");
        let sample = out.try_pull_sample(gst::ClockTime::from_seconds(3));
        let _ = p.set_state(gst::State::Null);
        let Some(sample) = sample else { return (0, 0) };
        let map = sample.buffer().expect("a buffer").map_readable().expect("readable");
        let bright = |v: u8| v > 140;
        let count = |want: [bool; 3]| map.as_chunks::<3>().0.iter().filter(|p| p.map(bright) == want).count();
        (count([true, true, false]), count([false, false, true]))
    };
    let deadline = Instant::now() + PATIENCE;
    let mut found = (0, 0);
    while live.try_wait().expect("it can be asked").is_none() && Instant::now() < deadline {
        let (yellow, blue) = seen(&display);
        found = (found.0.max(yellow), found.1.max(blue));
        if found.0 > 5000 && found.1 > 5000 {
            break;
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    // It runs until it is told to end, however long the window took; its length is there for when this test fails.
    if live.try_wait().expect("it can be asked").is_none() {
        signal(&live, libc::SIGINT);
    }
    let status = wait(live).status;
    let _ = server.kill();
    let _ = server.wait();
    assert!(status.success());
    assert!(found.0 > 5000 && found.1 > 5000, "yellow and blue pixels on the screen: {found:?}");
    let text = std::fs::read_to_string(&summary).expect("a summary");
    let s: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert!(s["frames"]["out"].as_u64() > Some(0), "{s}");
}

/// A recording of a session has the session's JSON lines beside it, as private as itself.
#[test]
fn a_recording_has_its_lines_beside_it() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().expect("a folder");
    let mut live = std::process::Command::new(env!("CARGO_BIN_EXE_polypscope"))
        .args(["--quiet", "live", "--pipeline"])
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("pipelines/test.toml"))
        .args(["--set", "size=320x240", "--sink", "null", "--no-ai", "--seconds", "600", "--record"])
        .arg(folder.path())
        .spawn()
        .expect("the session starts");
    let frames = || {
        let entries = std::fs::read_dir(folder.path()).expect("a folder");
        let mut paths = entries.map(|e| e.expect("an entry").path());
        let lines = paths.find(|p| p.to_string_lossy().contains(".jsonl"));
        let text = lines.and_then(|p| std::fs::read_to_string(p).ok()).unwrap_or_default();
        let lines = text.lines().filter_map(|l| serde_json::from_str::<serde_json::Value>(l).ok());
        lines.filter(|l| l["frame"].is_u64()).count()
    };
    let deadline = Instant::now() + PATIENCE;
    while frames() <= 60 || recorded(folder.path()).is_none() {
        assert!(live.try_wait().expect("it can be asked").is_none(), "the session ends by itself");
        assert!(Instant::now() < deadline, "{} frames", frames());
        std::thread::sleep(Duration::from_millis(20));
    }
    signal(&live, libc::SIGINT);
    assert!(wait(live).status.success());
    let files: Vec<_> =
        std::fs::read_dir(folder.path()).expect("a folder").map(|e| e.expect("an entry").path()).collect();
    let named = |end: &str| files.iter().filter(|p| p.to_string_lossy().ends_with(end)).collect::<Vec<_>>();
    assert!(!named(".mkv").is_empty(), "{files:?}");
    let [lines] = named(".jsonl")[..] else { panic!("{files:?}") };
    let stem = lines.to_string_lossy().trim_end_matches(".jsonl").to_owned();
    assert!(named(".mkv").iter().all(|p| p.to_string_lossy().starts_with(&stem)), "{files:?}");
    let mode = std::fs::metadata(lines).expect("metadata").permissions().mode();
    assert_eq!(mode & 0o077, 0, "others may read {}", lines.display());
    let text = std::fs::read_to_string(lines).expect("lines");
    let frames = text
        .lines()
        .map(|l| serde_json::from_str::<serde_json::Value>(l).expect("JSON"))
        .filter(|l| l["frame"].is_u64())
        .count();
    assert!(frames > 60, "{frames} frames in {}", lines.display());
}

#[test]
fn capture_cards_layouts_pass_without_conversion() {
    // What V4L2 and DeckLink deliver, from a test source: the devices themselves are not here.
    for caps in [
        "format=UYVY,width=1920,height=1080,framerate=30000/1001,interlace-mode=interleaved",
        "format=v210,width=1280,height=720,framerate=50/1",
        "format=YUY2,width=720,height=576,framerate=25/1",
    ] {
        let source = format!("videotestsrc is-live=true num-buffers=6 ! video/x-raw,{caps}");
        let overlay = identity();
        let mut p = LivePipeline::new(ready(&source, false), &overlay).expect("it builds");
        p.start().expect("it starts");
        until(&mut p, "the end", |n| matches!(n, Notice::Ended));
        let pad = overlay.static_pad("src").expect("a pad");
        let passed = pad.current_caps().expect("caps").to_string();
        let format = caps.split(',').next().expect("a format").trim_start_matches("format=");
        assert!(passed.contains(format), "{passed}");
    }
}

#[test]
fn hls_writes_a_playlist() {
    let dir = tempfile::tempdir().expect("a folder");
    let file = PipelineFile::open(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/pipelines/test.toml")))
        .expect("test.toml");
    let at = |n: &str| dir.path().join(n).display().to_string();
    let sets = [
        ("hls_segments".to_owned(), at("segment %05d.ts")),
        ("hls_playlist".to_owned(), at("live \"x\".m3u8")),
        ("size".to_owned(), "160x96".to_owned()),
    ];
    let ready = file.ready(&sets, Some("hls")).expect("it is a pipeline");
    let mut p = LivePipeline::new(ready, &identity()).expect("it builds");
    p.start().expect("it starts");
    let deadline = Instant::now() + PATIENCE;
    while !Path::new(&at("live \"x\".m3u8")).exists() {
        assert!(Instant::now() < deadline, "no playlist");
        if let Some(Notice::Failed(e)) = p.next(Duration::from_millis(50)) {
            panic!("{e}");
        }
    }
}

/// Sections of a pipeline file, their keys, and a value that belongs there.
const SECTIONS: &[(&str, &[(&str, &str)])] = &[
    ("", &[("description", "\"d\""), ("default_sink", "\"null\"")]),
    (
        "source",
        &[
            ("launch", "'videotestsrc num-buffers={n} ! video/x-raw,format=NV12'"),
            ("restart", "true"),
            ("silence_s", "4"),
        ],
    ),
    (
        "sinks.mine",
        &[("doc", "\"d\""), ("launch", "\"\"\"\nfakesink sync={sync}\n\"\"\""), ("keyed", "false")],
    ),
    (
        "parameters.n",
        &[("type", "\"int\""), ("default", "\"9\""), ("min", "1"), ("max", "99"), ("doc", "\"how many\"")],
    ),
    (
        "parameters.c",
        &[
            ("type", "\"choice\""),
            ("default", "\"a\""),
            ("choices", "[\"a\", \"b\"]"),
            ("doc", "\"one of them\""),
        ],
    ),
];

/// Values of every kind that TOML has, for any key.
const OTHERS: &[&str] = &[
    "\"\"",
    "'{'",
    "'{n.width}'",
    "'! !'",
    "\"mine\"",
    "\"size\"",
    "\"text\"",
    "\"\\u0000\"",
    "-1",
    "86401",
    "9223372036854775807",
    "9223372036854775808",
    "1e308",
    "nan",
    "true",
    "1979-05-27T07:32:00Z",
    "[]",
    "[1, [2, \"x\"]]",
    "{ launch = \"fakesink\", doc = \"d\" }",
    "\"\"\"\na\n\"\"\"",
];

/// What breaks a line, or is one that nobody knows.
const NOISE: &[&str] =
    &["=", "[", "]", "\"", "'", "{", "}", "#", "\\", "\n", ".", "lunch = 1\n", "[source]\n"];

struct Dice(u64);

impl Dice {
    fn of(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 40) as usize % sides
    }

    /// A pipeline file of which sections and keys are missing, values are others, or a place is damaged: or none of
    /// these.
    fn pipeline_file(&mut self) -> String {
        let mut text = String::new();
        for (header, keys) in SECTIONS {
            if self.of(12) == 0 {
                continue;
            }
            if !header.is_empty() {
                text += &format!("[{header}]\n");
            }
            for (key, usual) in *keys {
                let value = match self.of(24) {
                    0 => continue,
                    1 => OTHERS[self.of(OTHERS.len())],
                    _ => *usual,
                };
                text += &format!("{key} = {value}\n");
            }
        }
        if self.of(4) == 0 {
            let at = self.of(text.len() + 1);
            text.insert_str(at, NOISE[self.of(NOISE.len())]);
        }
        text
    }
}

/// Most of the texts are TOML, so that it is our own reader that is tried; it takes some and refuses some.
#[test]
fn no_pipeline_file_makes_the_parser_panic() {
    const TEXTS: usize = 1000;
    let mut dice = Dice(1);
    let (mut toml, mut taken) = (0, 0);
    for _ in 0..TEXTS {
        let text = dice.pipeline_file();
        let read = std::panic::catch_unwind(|| {
            let file = PipelineFile::parse(&text, "fuzz.toml")?;
            let _ = file.ready(&[], None);
            Ok::<_, polypscope::Error>(())
        });
        let read = read.unwrap_or_else(|_| panic!("it panics at {text:?}"));
        toml += usize::from(toml::from_str::<toml::Table>(&text).is_ok());
        taken += usize::from(read.is_ok());
    }
    assert!(toml > TEXTS / 2, "{toml} of {TEXTS} are TOML");
    assert!(taken > TEXTS / 10, "{taken} of {TEXTS} are taken");
    assert!(toml - taken > TEXTS / 10, "{taken} of {toml} are taken");
}

proptest::proptest! {
    #![proptest_config(proptest::test_runner::Config { cases: 200, ..Default::default() })]

    #[test]
    fn no_damage_to_a_good_file_makes_it_panic(at in 0usize..200, with in "[ -~\n]{0,6}") {
        let mut text = GOOD.to_owned();
        let at = at.min(text.len());
        text.replace_range(at..(at + with.len()).min(text.len()), &with);
        if let Ok(file) = PipelineFile::parse(&text, "fuzz.toml") {
            let _ = file.ready(&[], None);
        }
    }

    /// Whatever is set, through GStreamer's own parser: the elements are those of the line, linked as the line says,
    /// and the property holds the value letter by letter. The lines have several values each, since a value that left
    /// its quotes would end in the next one's.
    #[test]
    fn no_value_adds_an_element(first in VALUE, second in VALUE) {
        let file = PipelineFile::parse(TWO_TEXTS, "fuzz.toml").expect("it is good");
        let usual = file.ready(&[], None).expect("it is good");
        let sets = [("first".to_owned(), first.clone()), ("second".to_owned(), second.clone())];
        let ready = file.ready(&sets, None);
        proptest::prop_assert!(ready.is_ok(), "{:?} {:?}: {:?}", first, second, ready);
        let ready = ready.expect("it was looked at");
        let (source, usual_source) = (elements(&ready.source, false), elements(&usual.source, false));
        proptest::prop_assert_eq!(source.1, usual_source.1);
        let (sink, usual_sink) = (elements(&ready.sink, true), elements(&usual.sink, true));
        proptest::prop_assert_eq!(&sink.1, &usual_sink.1);
        let text = |bin: &gst::Bin, name: &str| {
            bin.by_name(name).expect("a name").property::<Option<String>>("location").unwrap_or_default()
        };
        proptest::prop_assert_eq!(text(&source.0, "one"), first.clone());
        proptest::prop_assert_eq!(text(&source.0, "two"), format!("/x/{second}-%d.mp4 y"));
        proptest::prop_assert_eq!(text(&sink.0, "sink"), second);
    }

    /// A name is part of the line: it is plain, or refused.
    #[test]
    fn a_name_is_plain_or_refused(value in VALUE) {
        let text = "description = \"d\"\ndefault_sink = \"null\"\n[source]\n\
             launch = \"videotestsrc ! video/x-raw,format=NV12 ! identity name={name}\"\n\
             [parameters.name]\ntype = \"text\"\ndefault = \"x\"\ndoc = \"a name\"\n";
        let file = PipelineFile::parse(text, "fuzz.toml").expect("it is good");
        match file.ready(&[("name".into(), value.clone())], None) {
            Err(e) => proptest::prop_assert!(e.to_string().contains("is no name for an element"), "{}", e),
            Ok(ready) => {
                let (bin, shape) = elements(&ready.source, false);
                proptest::prop_assert_eq!(shape.len(), 4, "{}", value);
                proptest::prop_assert!(bin.by_name(&value).is_some(), "{}", value);
            }
        }
    }
}

/// Text as attackers and people write it: launch syntax, quotes, backslashes at the end, spaces, other alphabets.
const VALUE: &str =
    r#"[ -~äß漢]{0,16}(\\|"|'| ! filesink location=/tmp/x| name=y |\\" ! fakesink x="){0,2}[ -~]{0,3}[!-~]"#;

const TWO_TEXTS: &str = r#"
description = "d"
default_sink = "files"
[source]
launch = """videotestsrc ! identity ! filesink name=one location={first} filesrc location="/x/{second}-%d.mp4 y" name=two !
    video/x-raw,format=NV12"""
[sinks.files]
doc = "two texts"
launch = "queue ! tee name=t ! filesink location={first} t. ! filesink name=sink location={second} async=false"
[parameters.first]
type = "text"
default = "a"
doc = "the first"
[parameters.second]
type = "text"
default = "b"
doc = "the second"
"#;

/// A line's bin, and its elements by factory with the elements they are linked to.
fn elements(launch: &polypscope::capture::Launch, is_sink: bool) -> (gst::Bin, Vec<(String, Vec<String>)>) {
    let direction = if is_sink { gst::PadDirection::Sink } else { gst::PadDirection::Src };
    let bin = launch.bin("test", direction).expect("it was checked");
    let factory = |e: &gst::Element| e.factory().map_or_else(String::new, |f| f.name().to_string());
    let shape = bin
        .children()
        .iter()
        .map(|e| {
            let peers = e.pads().into_iter().filter_map(|p| p.peer()?.parent_element());
            (factory(e), peers.map(|p| factory(&p)).collect())
        })
        .collect();
    (bin, shape)
}

#[test]
fn a_value_that_leaves_its_quotes_destroys_nothing() {
    let dir = tempfile::tempdir().expect("a folder");
    let victim = dir.path().join("victim");
    std::fs::write(&victim, "precious").expect("a file");
    let file = PipelineFile::open(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/pipelines/test.toml")))
        .expect("test.toml");
    for segments in ["seg%d\\", "seg%d\\\\", "seg%d\"", "seg%d' \\"] {
        let playlist = format!(
            " filesrc location=/etc/hostname ! filesink location={} hlssink2 name=x playlist-location=",
            victim.display()
        );
        let sets =
            [("hls_segments".to_owned(), segments.to_owned()), ("hls_playlist".to_owned(), playlist.clone())];
        let ready = file.ready(&sets, Some("hls")).expect("any text is a name");
        let (bin, shape) = elements(&ready.sink, true);
        assert!(shape.iter().all(|(e, _)| !e.starts_with("file")), "{shape:?}");
        let sink = bin.by_name("sink").expect("its name");
        assert_eq!(sink.property::<String>("playlist-location"), playlist);
        assert_eq!(sink.property::<String>("location"), segments);
    }
    assert_eq!(std::fs::read_to_string(&victim).expect("it is there"), "precious");
}

#[test]
fn a_pattern_asks_for_one_number() {
    let file = PipelineFile::open(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/pipelines/test.toml")))
        .expect("test.toml");
    for segments in ["%s%s%s%n", "seg.ts", "%d-%d.ts"] {
        let sets = [("hls_segments".to_owned(), segments.to_owned())];
        let e = file.ready(&sets, Some("hls")).expect_err(segments);
        assert!(e.to_string().contains("location of hlssink2 is a name with one number in it"), "{e}");
        assert_eq!(e.exit_code(), 2);
    }
}

/// Text stands inside larger text, in caps, and in properties of every type; numbers have the property's bounds.
#[test]
fn values_are_of_their_propertys_type() {
    let with = |launch: &str, value: &str| {
        let text = format!(
            "description = \"d\"\ndefault_sink = \"null\"\n[source]\nlaunch = '''{launch}'''\n\
             [parameters.v]\ntype = \"text\"\ndefault = \"1\"\ndoc = \"a value\"\n"
        );
        let file = PipelineFile::parse(&text, "my.toml").expect("it is good");
        file.ready(&[("v".into(), value.into())], None).map(|r| elements(&r.source, false).0)
    };
    let refused = |launch: &str, value: &str| with(launch, value).expect_err(value).to_string();
    let test = "videotestsrc name=s pattern={v} ! video/x-raw,format=NV12";
    assert!(with(test, "snow").is_ok());
    let e = refused(test, "snow ! fakesink");
    assert!(
        e.contains("my.toml [source]: v=snow ! fakesink: pattern of videotestsrc is one of smpte, snow"),
        "{e}"
    );
    let e = refused("videotestsrc num-buffers={v}", "many");
    assert!(
        e.contains("num-buffers of videotestsrc is a whole number from -1 to 2147483647; v: a value"),
        "{e}"
    );
    let e = refused("videotestsrc is-live={v}", "perhaps");
    assert!(e.contains("is-live of videotestsrc is true or false"), "{e}");
    let e = refused("videotestsrc ! videobox alpha={v}", "7");
    assert!(e.contains("is a number from 0 to 1"), "{e}");
    let e = refused("rtspsrc tls-database={v} ! identity", "fakesink");
    assert!(e.contains("tls-database of rtspsrc cannot be set from a parameter"), "{e}");
    let e = refused("filesrc location={v}", "a\nb");
    assert!(e.contains("is not printable text") && !e.contains('\n'), "{e}");
    let e = refused("rtspsrc location={v} ! identity", "http://u:geheim@x/");
    assert!(e.contains("an address that begins with rtsp://") && !e.contains("geheim"), "{e}");
    let e = refused("{v} ! identity", "fakesrc");
    assert!(e.contains("text may only stand in a property's value"), "{e}");
    // A field of caps, and caps as a whole.
    let caps = |launch: &str, value: &str| {
        let bin = with(launch, value).expect(value);
        let filter =
            bin.iterate_elements().into_iter().flatten().find(|e| e.name().starts_with("polypscope-0"));
        filter.expect("a filter").property::<gst::Caps>("caps").to_string()
    };
    assert_eq!(
        caps("videotestsrc ! video/x-raw, format={v}, width=64", "NV12"),
        "video/x-raw, format=(string)NV12, width=(int)64"
    );
    assert_eq!(caps("videotestsrc ! \"video/x-raw,width={v}\"", "64"), "video/x-raw, width=(int)64");
    let odd = caps("videotestsrc ! video/x-raw,format={v}", "NV12,width=3;image/jpeg");
    assert!(!odd.starts_with("video/x-raw, format=(string)NV12, width"), "{odd}");
    assert_eq!(
        caps("videotestsrc ! capsfilter caps={v}", "video/x-raw,format=I420"),
        "video/x-raw, format=(string)I420"
    );
}

/// A server that answers every request with one status.
fn answering(status: &'static str) -> u16 {
    use std::io::{BufRead, Write};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("an address").port();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut lines = std::io::BufReader::new(&stream).lines();
                let mut sequence = String::from("1");
                while let Some(Ok(line)) = lines.next() {
                    if let Some(n) = line.to_ascii_lowercase().strip_prefix("cseq:") {
                        sequence = n.trim().to_owned();
                    }
                    if line.is_empty() {
                        let answer = format!(
                            "RTSP/1.0 {status}\r\nCSeq: {sequence}\r\nWWW-Authenticate: Basic realm=\"scope\"\r\n\r\n"
                        );
                        if (&stream).write_all(answer.as_bytes()).is_err() {
                            return;
                        }
                    }
                }
            });
        }
    });
    port
}

/// A live session by the program itself; its exit code and all it printed.
fn session(pipeline: &Path, sets: &[String], seconds: &str, more: &[&str]) -> (Option<i32>, String) {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_polypscope"));
    command
        .args(more)
        .args(["live", "--sink", "null", "--no-ai", "--seconds", seconds, "--pipeline"])
        .arg(pipeline);
    for set in sets {
        command.arg("--set").arg(set);
    }
    let output = command.output().expect("it runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout) + &text(&output.stderr))
}

fn shipped_file(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("pipelines").join(name)
}

/// A source that gives not one frame is a failure, and its sentence names what was to be opened and the cause.
#[test]
fn a_source_that_gives_nothing_says_why() {
    polypscope::capture::init().expect("GStreamer starts");
    let dir = tempfile::tempdir().expect("a folder");
    let at = |n: &str| dir.path().join(n).display().to_string();
    std::fs::write(at("empty.mp4"), b"").expect("a file");
    std::fs::write(at("notes.mp4"), b"no video at all, but some words about one\n").expect("a file");
    let file = shipped_file("file.toml");
    for (name, words) in [
        ("none.mp4", "none.mp4: cannot be found; check the path"),
        ("empty.mp4", "empty.mp4: is empty"),
        ("notes.mp4", "notes.mp4: is not a video GStreamer knows"),
        ("", ": is a folder"),
    ] {
        let (code, text) = session(&file, &[format!("file={}", at(name))], "3", &[]);
        let said = text.split("error: ").last().unwrap_or_default();
        assert!(said.contains(words) && !said.contains("file.toml"), "{name}: {text}");
        assert_eq!(code, Some(1), "{name}: {text}");
    }
    if gst::ElementFactory::find("v4l2src").is_some() {
        for (device, words) in
            [("/dev/video987", "cannot be found"), (at("notes.mp4").as_str(), "is not a capture device")]
        {
            let (code, text) = session(&shipped_file("v4l2.toml"), &[format!("device={device}")], "1", &[]);
            assert!(text.contains(&format!("{device}: {words}")), "{text}");
            assert_eq!(code, Some(1), "{text}");
        }
    }
}

/// Network sources speak of hosts and answers, and never show a password, whatever is logged.
#[test]
fn network_sources_name_host_and_cause_but_no_password() {
    polypscope::capture::init().expect("GStreamer starts");
    if gst::ElementFactory::find("rtspsrc").is_none() || gst::ElementFactory::find("srtsrc").is_none() {
        return skip("rtsp", "GStreamer has no rtspsrc or no srtsrc");
    }
    let nobody =
        std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port").port();
    let (denied, forbidden, unknown) =
        (answering("401 Unauthorized"), answering("403 Forbidden"), answering("404 Not Found"));
    let Some(scope) = rtsp_peer() else { return };
    let cases = [
        (denied, "/scope", "127.0.0.1:PORT/scope: the user name or the password is not accepted"),
        (forbidden, "/scope", "the server forbids access"),
        (unknown, "/scope", "the server has no such stream"),
        (nobody, "/scope", "127.0.0.1:PORT refuses the connection, nobody listens there; check the port"),
        (scope, "/jpeg", "the stream is JPEG, which this pipeline does not decode"),
    ];
    for (port, path, words) in cases {
        let url = format!("url=rtsp://doctor:ge%68eim@127.0.0.1:{port}{path}");
        let (code, text) = session(&shipped_file("rtsp.toml"), &[url], "2", &["-vv", "--json"]);
        let words = words.replace("PORT", &port.to_string());
        assert!(text.contains(&words), "{words}: {text}");
        assert!(!text.contains("geheim") && !text.contains("ge%68eim"), "{text}");
        assert!(text.contains("error: "), "{text}");
        assert_eq!(code, Some(1), "{words}: {text}");
    }
    let port = free_port();
    let uri = format!("uri=srt://127.0.0.1:{port}?mode=caller&passphrase=geheimgeheim");
    let (code, text) = session(&shipped_file("srt.toml"), &[uri], "2", &["-vv"]);
    assert!(text.contains("refuses the connection") && !text.contains("geheim"), "{text}");
    assert_eq!(code, Some(1), "{text}");
    let uri = format!("uri=srt://:{port}?mode=listener");
    let (code, text) = session(&shipped_file("srt.toml"), &[uri], "1", &[]);
    assert!(text.contains("nobody has called yet"), "{text}");
    assert_eq!(code, Some(1), "{text}");
}

/// A session that had a picture and lost it for good is partial, and its summary says why.
#[test]
fn a_source_lost_for_good_is_in_the_outcome() {
    let dir = tempfile::tempdir().expect("a folder");
    let at = |name: &str| dir.path().join(name);
    let text = |name: &str| std::fs::read_to_string(at(name)).unwrap_or_default();
    let toml = r#"
        description = "d"
        default_sink = "null"
        [source]
        restart = true
        silence_s = 1
        launch = """filesrc location={file} ! rawvideoparse format=nv12 width=64 height=48 framerate=25/1 !
            identity sync=true"""
        [parameters.file]
        type = "path"
        default = "frames"
        doc = "twenty frames"
    "#;
    std::fs::write(at("my.toml"), toml).expect("a file");
    std::fs::write(at("frames"), vec![90u8; 20 * 64 * 48 * 3 / 2]).expect("a file");
    let live = std::process::Command::new(env!("CARGO_BIN_EXE_polypscope"))
        .args(["live", "--no-ai", "--seconds", "600", "--summary", "s.json", "--lines", "l.jsonl"])
        .args(["--pipeline", "my.toml"])
        .current_dir(dir.path())
        .stdout(std::process::Stdio::null())
        .stderr(std::fs::File::create(at("said")).expect("a file"))
        .spawn()
        .expect("it starts");
    let until = |what: &str, holds: &dyn Fn() -> bool| {
        let deadline = Instant::now() + PATIENCE;
        while !holds() {
            assert!(Instant::now() < deadline, "in vain: {what}: {}", text("said"));
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    // Further attempts give nothing: what they read has gone by then.
    until("a frame", &|| text("l.jsonl.part").contains("\"frame\""));
    std::fs::remove_file(at("frames")).expect("ours");
    until("the loss", &|| {
        text("said").rfind("the source is lost") > text("said").rfind("the source is back")
    });
    signal(&live, libc::SIGINT);
    let code = wait(live).status.code();
    assert_eq!(code, Some(3), "{}", text("said"));
    let s: serde_json::Value = serde_json::from_str(&text("s.json")).expect("JSON");
    assert!(s["source_fault"].as_str().is_some_and(|f| !f.is_empty()), "{s}");
}

/// Where the units of an H.264 byte stream begin, and their types.
fn units(stream: &[u8]) -> Vec<u8> {
    let mut found = Vec::new();
    for window in stream.windows(4) {
        if window[..3] == [0, 0, 1] {
            found.push(window[3] & 31);
        }
    }
    found
}

/// What the srt sink sends, into a file: its line with another last element.
fn transport_stream(path: &Path, rate: &str, frames: u32) -> Vec<u8> {
    let sinks = std::fs::read_to_string(shipped_file("sinks.toml")).expect("sinks.toml");
    let line =
        sinks.split("[sinks.srt]").nth(1).and_then(|s| s.split("\"\"\"").nth(1)).expect("the srt sink");
    let (line, _) = line.split_once("srtsink").expect("it ends in srtsink");
    let text = format!(
        "description = \"d\"\ndefault_sink = \"file\"\n[source]\n\
         launch = \"videotestsrc num-buffers={frames} ! video/x-raw,format=I420,width=160,height=96,framerate={rate} ! identity sleep-time=4000\"\n\
         [sinks.file]\ndoc = \"d\"\nlaunch = '''{line} filesink location={{ts}}'''\n\
         [parameters.ts]\ntype = \"path\"\ndefault = \"x\"\ndoc = \"d\"\n"
    );
    let sets = [("ts".to_owned(), path.display().to_string())];
    let ready =
        PipelineFile::parse(&text, "test.toml").and_then(|f| f.ready(&sets, None)).expect("a pipeline");
    let mut p = LivePipeline::new(ready, &identity()).expect("it builds");
    p.start().expect("it starts");
    until(&mut p, "the end", |n| matches!(n, Notice::Ended));
    drop(p);
    std::fs::read(path).expect("a file")
}

/// Whoever joins the encoded stream in the middle gets parameter sets with every key frame, and one of those a second.
#[test]
fn a_client_that_joins_in_the_middle_has_a_picture_within_a_second() {
    let dir = tempfile::tempdir().expect("a folder");
    for (rate, fps) in [("50/1", 50), ("25/1", 25), ("5/1", 5)] {
        let frames = 4 * fps;
        let stream = transport_stream(&dir.path().join(format!("{fps}.ts")), rate, frames);
        let whole = decoded_units(&dir, &stream);
        let types = units(&whole);
        let (sets, keys) =
            (types.iter().filter(|t| **t == 7).count(), types.iter().filter(|t| **t == 5).count());
        assert!(keys >= 3 && sets >= 3, "{rate}: {keys} key frames, {sets} parameter sets");
        let mut since = 0;
        let mut ready = false;
        for kind in &types {
            match kind {
                7 => ready = true,
                5 => {
                    assert!(ready, "{rate}: a key frame without its parameter sets");
                    (ready, since) = (false, 0);
                }
                1 => since += 1,
                _ => {}
            }
            assert!(since <= fps, "{rate}: {since} frames since the last key frame");
        }
        // Joining anywhere costs at most a second's frames, and the decoder has nothing to complain of.
        for tenth in [3, 5, 6] {
            let at = stream.len() / 188 * tenth / 10 * 188;
            let rest = units(&decoded_units(&dir, &stream[at..]));
            let first = rest.iter().position(|t| *t == 5).expect("a key frame");
            assert!(rest[..first].contains(&7), "{rate}: no parameter sets before the first key frame");
            assert!(rest[..first].iter().filter(|t| **t == 1).count() <= fps as usize);
        }
    }
}

/// The H.264 bytes in a transport stream.
fn decoded_units(dir: &tempfile::TempDir, stream: &[u8]) -> Vec<u8> {
    let (ts, es) = (dir.path().join("cut.ts"), dir.path().join("cut.h264"));
    std::fs::write(&ts, stream).expect("a file");
    let line = format!(
        "filesrc location={} ! tsdemux ! video/x-h264 ! filesink location={}",
        ts.display(),
        es.display()
    );
    let p = gst::parse::launch(&line).expect("it parses");
    p.set_state(gst::State::Playing).expect("it plays");
    let bus = p.bus().expect("a bus");
    let kinds = [gst::MessageType::Eos, gst::MessageType::Error];
    let end = bus.timed_pop_filtered(gst::ClockTime::from_seconds(60), &kinds).expect("an end");
    assert_eq!(end.type_(), gst::MessageType::Eos, "{end:?}");
    p.set_state(gst::State::Null).expect("it stops");
    std::fs::read(&es).expect("a file")
}

/// A recording whose stream says full range and no matrix, which GStreamer alone takes for limited range: the overlay
/// is given a complete description, and so is what encodes behind it.
#[test]
fn the_overlay_is_given_a_complete_colour_description() {
    use polypscope::capture::PolypOverlay;
    use polypscope::frame::{Colorimetry, Matrix};
    polypscope::capture::init().expect("GStreamer starts");
    let partly = "! capssetter caps=video/x-raw,colorimetry=(string)1:0:0:0";
    for (source, matrix) in [
        (format!("videotestsrc ! video/x-raw,format=I420,width=96,height=64 {partly}"), Matrix::Bt601),
        (format!("videotestsrc ! video/x-raw,format=NV12,width=96,height=720 {partly}"), Matrix::Bt709),
        (format!("videotestsrc ! video/x-raw,format=GRAY8,width=96,height=64 {partly}"), Matrix::Bt601),
        ("videotestsrc ! video/x-raw,width=96,height=720 ! jpegenc ! jpegdec".to_owned(), Matrix::Bt601),
    ] {
        let overlay = PolypOverlay::new();
        let mut p = LivePipeline::new(ready(&source, false), overlay.upcast_ref()).expect("it builds");
        p.start().expect("it starts");
        let deadline = Instant::now() + PATIENCE;
        while overlay.picture_info().is_none() && Instant::now() < deadline {
            let _ = p.next(Duration::from_millis(10));
        }
        let seen = overlay.picture_info().map(|i| i.colorimetry);
        assert_eq!(seen, Some(Colorimetry { matrix, full_range: true }), "{source}");
        let caps = overlay.static_pad("src").and_then(|p| p.current_caps()).map(|c| c.to_string());
        assert!(caps.is_some_and(|c| !c.contains("1:0:0:0")), "{source}");
    }
}
