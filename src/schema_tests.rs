//! The JSON schemas in `src/schema`, which say what other programs may rely on: each is generated from the type that is
//! written. Outputs of real runs are held to them in `tests/` (`common::schema`).

#[path = "../tests/common/schema.rs"]
mod validator;

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;

/// Compares the schema of `T` with its file; writes it with `POLYPSCOPE_UPDATE_SCHEMAS=1`.
fn check<T: JsonSchema>(name: &str, title: &str) {
    let mut schema =
        SchemaSettings::draft2020_12().for_serialize().into_generator().into_root_schema_for::<T>();
    schema.insert("title".into(), title.into());
    let mut text = serde_json::to_string_pretty(&schema).expect("a schema is JSON");
    text.push('\n');
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/schema").join(name);
    if std::env::var_os("POLYPSCOPE_UPDATE_SCHEMAS").is_some() {
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("src can be written");
        std::fs::write(&path, &text).expect("src can be written");
    }
    let there = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        there == text,
        "{name} is not that of its type: run the tests with POLYPSCOPE_UPDATE_SCHEMAS=1 and look at what changed"
    );
}

#[test]
fn schemas_are_those_of_the_types() {
    check::<crate::replay::record::Summary>("replay-summary.json", "summary.json of a replay's report");
    check::<crate::replay::record::FrameRecord>(
        "replay-frames.json",
        "A line of frames.jsonl of a replay's report",
    );
    check::<crate::telemetry::LiveSummary>("live-summary.json", "The file of live --summary");
    check::<crate::telemetry::collector::Line>("live-lines.json", "A line of the file of live --lines");
    check::<crate::control::Status>("api-state.json", "The answer to GET /api/state");
    check::<crate::telemetry::Snapshot>("api-figures.json", "The answer to GET /api/figures");
}

/// The kinds of lines that a session without a network does not write; `tests/live` has the others.
#[test]
fn lines_of_every_event_are_as_their_schema_says() {
    use crate::frame::{FrameId, Gate, Nanos, TrackMark, TrackState};
    use crate::safety::{Reason, State};
    use crate::telemetry::collector::Line;
    use crate::telemetry::event::{
        Event, Followed, FrameEvent, LeftEvent, MaskEvent, ShownMask, StateChange, StreamEvent,
    };

    let at = Nanos(5);
    let tracks = [TrackState::Tentative, TrackState::Confirmed].map(|state| TrackMark {
        track_id: 1,
        polyp_id: Some(2),
        state,
        ..TrackMark::default()
    });
    let shown = Some(ShownMask { of: FrameId(3), age: at, ..ShownMask::default() });
    let events = [
        Event::Frame(FrameEvent { shown, decode: Some(at), ..FrameEvent::default() }),
        Event::Frame(FrameEvent::default()),
        Event::Left(LeftEvent { annotation_delay: Some(at), ..LeftEvent::default() }),
        Event::Mask(MaskEvent {
            followed: Followed::new(&tracks, Some(Gate::OverExposed)),
            ..MaskEvent::default()
        }),
        Event::State(StateChange { at, from: State::Active, to: State::Bypass, reason: Reason::Stalled }),
        Event::Stream(StreamEvent::TimestampJump { at, frame: FrameId(3) }),
        Event::Stream(StreamEvent::FormatChange { at, width: 4, height: 5 }),
        Event::Stream(StreamEvent::SourceLost { at }),
        Event::Stream(StreamEvent::SourceBack { at }),
        Event::Stream(StreamEvent::WorkerRestart { at, worker: 1, attempt: 1 }),
    ];
    for event in &events {
        let line = serde_json::to_value(Line::new(event)).expect("a line is JSON");
        validator::assert_is("live-lines", &line);
    }
    let wrong =
        serde_json::json!({"left": 1, "at_ns": 2, "video_delay_us": 1.0, "annotation_delay_us": null});
    assert!(
        std::panic::catch_unwind(|| validator::assert_is("live-lines", &wrong)).is_err(),
        "`late` is missing"
    );
}
