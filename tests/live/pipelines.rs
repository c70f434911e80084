//! Pipeline files: those that are shipped, those that are wrong, and sources that go away and come back.

use std::path::Path;
use std::time::{Duration, Instant};

use gstreamer as gst;
use gstreamer::prelude::*;

use polypscope::capture::{LivePipeline, Notice, PipelineFile, Ready};

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

#[test]
fn every_shipped_file_parses_with_every_sink() {
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
                // A machine without some plug-in still learns which.
                Err(e) => assert!(e.to_string().contains("GStreamer has no element"), "{e}"),
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

/// Runs until a notice fulfils the condition; fails after `limit`.
fn until(pipeline: &mut LivePipeline, limit: u64, what: &str, mut holds: impl FnMut(&Notice) -> bool) {
    let deadline = Instant::now() + Duration::from_secs(limit);
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
    until(&mut p, 5, "the end", |n| matches!(n, Notice::Ended));

    let mut p = LivePipeline::new(ready(once, true), &identity()).expect("it builds");
    p.start().expect("it starts");
    until(&mut p, 5, "loss", |n| matches!(n, Notice::SourceLost(_)));
    until(&mut p, 8, "its return", |n| matches!(n, Notice::SourceBack));
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
        let deadline = Instant::now() + Duration::from_secs(20);
        while frames.try_recv().is_err() {
            assert!(Instant::now() < deadline, "in vain: {what}");
            if let Some(Notice::Failed(e)) = p.next(Duration::from_millis(20)) {
                panic!("{e}");
            }
        }
    };
    wait(&mut p, "a first frame");
    peer.set_state(gst::State::Null).expect("the peer stops");
    until(&mut p, 10, "loss", |n| matches!(n, Notice::SourceLost(_)));
    while frames.try_recv().is_ok() {}
    let peer = srt_peer(port);
    until(&mut p, 25, "its return", |n| matches!(n, Notice::SourceBack));
    let deadline = Instant::now() + Duration::from_secs(5);
    while frames.try_recv().is_err() {
        assert!(Instant::now() < deadline, "no frame reached the sink after the return");
        let _ = p.next(Duration::from_millis(20));
    }
    peer.set_state(gst::State::Null).expect("the peer stops");
}

/// An RTSP server on a port of its own, serving H.264 at /scope; ends with the test's process.
fn rtsp_peer() -> u16 {
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
        server.mount_points().expect("a server has some").add_factory("/scope", factory);
        let _attached = server.attach(Some(&context)).expect("a free port");
        tell.send(server.bound_port() as u16).expect("the test waits");
        gst::glib::MainLoop::new(Some(&context), false).run();
    });
    port.recv_timeout(Duration::from_secs(10)).expect("the server starts")
}

#[test]
fn an_rtsp_stream_is_decoded_in_its_own_layout() {
    polypscope::capture::init().expect("GStreamer starts");
    if gst::ElementFactory::find("rtspsrc").is_none() {
        eprintln!("skipped: this machine has no rtspsrc");
        return;
    }
    let port = rtsp_peer();
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
        let deadline = Instant::now() + Duration::from_secs(20);
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
        .args(["-displayfd", "1", "-screen", "0", "800x600x24", "-nolisten", "tcp"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn();
    let mut child = match spawned {
        Ok(child) => child,
        Err(e) => {
            eprintln!("skipped: no Xvfb ({e})");
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
        eprintln!("skipped: this machine has no ximagesrc to look at a screen with");
        return;
    }
    let Some((mut server, display)) = virtual_display() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let summary = folder.path().join("s.json");
    let mut live = std::process::Command::new(env!("CARGO_BIN_EXE_polypscope"))
        .args(["--quiet", "live", "--pipeline"])
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("pipelines/test.toml"))
        .args(["--set", "size=640x480", "--sink", "window", "--no-ai", "--seconds", "6", "--summary"])
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
    let deadline = Instant::now() + Duration::from_secs(20);
    let mut found = (0, 0);
    while live.try_wait().expect("it can be asked").is_none() && Instant::now() < deadline {
        let (yellow, blue) = seen(&display);
        found = (found.0.max(yellow), found.1.max(blue));
        if found.0 > 5000 && found.1 > 5000 {
            break;
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    let status = live.wait().expect("the session ends");
    let _ = server.kill();
    let _ = server.wait();
    assert!(status.success());
    assert!(found.0 > 5000 && found.1 > 5000, "yellow and blue pixels on the screen: {found:?}");
    let text = std::fs::read_to_string(&summary).expect("a summary");
    let s: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert!(s["frames"]["out"].as_u64() > Some(60), "{s}");
}

/// A recording of a session has the session's JSON lines beside it, as private as itself.
#[test]
fn a_recording_has_its_lines_beside_it() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().expect("a folder");
    let status = std::process::Command::new(env!("CARGO_BIN_EXE_polypscope"))
        .args(["--quiet", "live", "--pipeline"])
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("pipelines/test.toml"))
        .args(["--set", "size=320x240", "--sink", "null", "--no-ai", "--seconds", "4", "--record"])
        .arg(folder.path())
        .status()
        .expect("the session runs");
    assert!(status.success());
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
        until(&mut p, 10, "the end", |n| matches!(n, Notice::Ended));
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
    let deadline = Instant::now() + Duration::from_secs(15);
    while !Path::new(&at("live \"x\".m3u8")).exists() {
        assert!(Instant::now() < deadline, "no playlist");
        if let Some(Notice::Failed(e)) = p.next(Duration::from_millis(50)) {
            panic!("{e}");
        }
    }
}

proptest::proptest! {
    #![proptest_config(proptest::test_runner::Config { cases: 200, ..Default::default() })]

    #[test]
    fn no_text_makes_the_parser_panic(text in "[ -~\n]{0,200}") {
        let _ = PipelineFile::parse(&text, "fuzz.toml");
    }

    #[test]
    fn no_damage_to_a_good_file_makes_it_panic(at in 0usize..200, with in "[ -~\n]{0,6}") {
        let mut text = GOOD.to_owned();
        let at = at.min(text.len());
        text.replace_range(at..(at + with.len()).min(text.len()), &with);
        if let Ok(file) = PipelineFile::parse(&text, "fuzz.toml") {
            let _ = file.ready(&[], None);
        }
    }

    #[test]
    fn no_value_adds_an_element(value in "[ -~]{1,30}") {
        let text = "description = \"d\"\ndefault_sink = \"null\"\n[source]\n\
             launch = \"videotestsrc ! video/x-raw,format=NV12 ! identity name={name}\"\n\
             [parameters.name]\ntype = \"text\"\ndefault = \"x\"\ndoc = \"a name\"\n";
        let file = PipelineFile::parse(text, "fuzz.toml").expect("it is good");
        let ready = file.ready(&[("name".into(), value.clone())], None);
        if let Ok(ready) = ready {
            let bin = gst::parse::bin_from_description(&ready.source, true).expect("it was checked");
            proptest::prop_assert_eq!(bin.children().len(), 3, "{}", value);
        }
    }
}

/// A recording whose stream says full range and no matrix, which GStreamer alone takes for limited range: the overlay is
/// given a complete description, and so is what encodes behind it.
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
        let deadline = Instant::now() + Duration::from_secs(10);
        while overlay.picture_info().is_none() && Instant::now() < deadline {
            let _ = p.next(Duration::from_millis(10));
        }
        let seen = overlay.picture_info().map(|i| i.colorimetry);
        assert_eq!(seen, Some(Colorimetry { matrix, full_range: true }), "{source}");
        let caps = overlay.static_pad("src").and_then(|p| p.current_caps()).map(|c| c.to_string());
        assert!(caps.is_some_and(|c| !c.contains("1:0:0:0")), "{source}");
    }
}
