//! Which room of the crate may use which other one.
//!
//! In: the text of `src/` and `ARCHITECTURE.md`. Out: a failure for every arrow between rooms that the table below does
//! not have, for every row that nobody uses any more, for every circle, and for a drawing that does not show what is
//! there. A room is a top-level module of `src`. Paths are read from the text (see [`source`]), tests left out: what a
//! test may look at is not bound by the rooms.

mod source;

use std::collections::{BTreeMap, BTreeSet};

use source::Sources;

/// Each room with the rooms it uses. A new arrow is a decision about the design: it belongs here and, where the rooms'
/// order changes, into the drawing of ARCHITECTURE.md.
const ARROWS: &[(&str, &[&str])] = &[
    ("analysis", &["error", "frame", "mailbox", "mask_slot", "motion", "safety", "telemetry", "worker"]),
    (
        "bench",
        &[
            "capture",
            "distribution",
            "engine",
            "error",
            "frame",
            "live",
            "mailbox",
            "memory",
            "model",
            "motion",
            "overlay",
            "phantom",
            "program",
            "replay",
            "safety",
            "segment",
            "shown",
            "small_file",
            "still",
            "telemetry",
            "worker",
        ],
    ),
    (
        "capture",
        &[
            "error",
            "frame",
            "json_path",
            "lock",
            "memory",
            "overlay",
            "phantom",
            "result_file",
            "safety",
            "small_file",
            "still",
        ],
    ),
    (
        "cli",
        &[
            "bench",
            "capture",
            "control",
            "distribution",
            "engine",
            "error",
            "evaluation",
            "fleet",
            "frame",
            "hexadecimal",
            "live",
            "memory",
            "model",
            "overlay",
            "phantom",
            "preprocess",
            "replay",
            "result_file",
            "safety",
            "segment",
            "shown",
            "small_file",
            "still",
            "telemetry",
            "tracks",
            "training",
            "worker",
        ],
    ),
    ("control", &["error", "hexadecimal", "json_path", "lock", "telemetry"]),
    ("distribution", &["frame"]),
    ("engine", &["error", "frame", "memory", "model", "postprocess", "priority", "program"]),
    ("error", &[]),
    (
        "evaluation",
        &["distribution", "error", "frame", "lock", "postprocess", "shown", "small_file", "still", "tracks"],
    ),
    (
        "fleet",
        &[
            "capture",
            "error",
            "frame",
            "hexadecimal",
            "preprocess",
            "replay",
            "result_file",
            "safety",
            "segment",
            "small_file",
            "still",
            "telemetry",
            "tracks",
            "worker",
        ],
    ),
    ("frame", &["error"]),
    ("hexadecimal", &[]),
    ("json_path", &[]),
    (
        "live",
        &[
            "analysis",
            "capture",
            "control",
            "engine",
            "error",
            "frame",
            "lock",
            "mailbox",
            "mask_slot",
            "model",
            "overlay",
            "preprocess",
            "priority",
            "safety",
            "segment",
            "telemetry",
            "tracks",
            "worker",
        ],
    ),
    ("lock", &[]),
    ("mailbox", &[]),
    ("mask_slot", &["frame"]),
    ("memory", &["error"]),
    ("model", &["error", "hexadecimal", "memory", "program", "result_file", "shown", "small_file"]),
    ("motion", &["frame"]),
    ("overlay", &["frame", "safety"]),
    ("phantom", &["error", "frame", "lock", "memory", "result_file"]),
    (
        "plugin",
        &[
            "analysis",
            "capture",
            "distribution",
            "engine",
            "error",
            "frame",
            "lock",
            "mailbox",
            "mask_slot",
            "model",
            "preprocess",
            "safety",
            "segment",
            "telemetry",
            "tracks",
            "worker",
        ],
    ),
    ("postprocess", &["error", "frame"]),
    ("preprocess", &["error", "frame", "model"]),
    ("priority", &[]),
    ("program", &["error"]),
    (
        "replay",
        &[
            "capture",
            "distribution",
            "error",
            "frame",
            "mailbox",
            "overlay",
            "result_file",
            "safety",
            "segment",
            "telemetry",
            "tracks",
            "worker",
        ],
    ),
    ("result_file", &["error"]),
    ("safety", &["frame"]),
    (
        "segment",
        &[
            "engine",
            "error",
            "frame",
            "model",
            "overlay",
            "postprocess",
            "preprocess",
            "program",
            "safety",
            "still",
            "tracks",
        ],
    ),
    ("shown", &[]),
    ("small_file", &["error"]),
    ("still", &["error"]),
    ("telemetry", &["distribution", "error", "frame", "lock", "mailbox", "result_file", "safety"]),
    (
        "training",
        &[
            "engine",
            "error",
            "evaluation",
            "frame",
            "model",
            "phantom",
            "program",
            "result_file",
            "shown",
            "small_file",
            "still",
        ],
    ),
    ("tracks", &["error", "frame", "motion", "postprocess"]),
    ("worker", &["error", "frame", "mailbox", "mask_slot", "priority", "safety", "segment", "telemetry"]),
];

/// Libraries that decide on which machine a room builds, and the rooms that may name them. Whoever uses one of these
/// rooms is linked to the library as well.
const LIBRARIES: &[(&str, &[&str])] = &[
    ("candle_core", &["bench", "engine", "model", "training"]),
    ("candle_nn", &["model"]),
    ("gstreamer", &["capture", "cli", "live", "plugin"]),
    ("opencv", &["postprocess"]),
    ("axum", &["control"]),
    ("object_store", &["fleet"]),
    ("parquet", &["fleet"]),
];

/// Rooms that must build into a program without the network: neither they nor anything they use names candle.
const WITHOUT_CANDLE: &[&str] = &[
    "capture",
    "control",
    "distribution",
    "error",
    "evaluation",
    "frame",
    "hexadecimal",
    "json_path",
    "lock",
    "mailbox",
    "mask_slot",
    "memory",
    "motion",
    "overlay",
    "phantom",
    "postprocess",
    "priority",
    "program",
    "result_file",
    "safety",
    "shown",
    "small_file",
    "still",
    "telemetry",
    "tracks",
];

/// Circles of files inside a room that are known and not yet taken apart. Nothing is added here.
const KNOWN_CIRCLES: &[&[&str]] = &[&[
    "model/checkpoint/budget.rs",
    "model/checkpoint/pickle.rs",
    "model/checkpoint/prefix.rs",
    "model/checkpoint/pth.rs",
    "model/checkpoint/safetensors.rs",
    "model/checkpoint/source.rs",
]];

fn table() -> BTreeMap<String, BTreeSet<String>> {
    let row = |(room, uses): &(&str, &[&str])| {
        (room.to_string(), uses.iter().map(ToString::to_string).collect::<BTreeSet<_>>())
    };
    let table: BTreeMap<_, _> = ARROWS.iter().map(row).collect();
    assert_eq!(table.len(), ARROWS.len(), "a room stands in the table twice");
    table
}

/// Everything a room uses, directly or through others.
fn reach(room: &str, arrows: &BTreeMap<String, BTreeSet<String>>) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut open = vec![room.to_string()];
    while let Some(next) = open.pop() {
        for used in arrows.get(&next).into_iter().flatten() {
            if found.insert(used.clone()) {
                open.push(used.clone());
            }
        }
    }
    found
}

#[test]
fn rooms_use_each_other_as_the_table_says() {
    let sources = Sources::read();
    let table = table();
    let rooms: BTreeSet<_> = table.keys().cloned().collect();
    assert_eq!(rooms, sources.rooms(), "left: rooms of the table; right: modules of src/lib.rs");
    let mut wrong = Vec::new();
    let mut seen: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for arrow in sources.room_arrows() {
        if !table[&arrow.from].contains(&arrow.to) {
            wrong.push(format!(
                "{} uses {} in {}, line {}: the table has no such arrow",
                arrow.from, arrow.to, arrow.file, arrow.line
            ));
        }
        seen.entry(arrow.from).or_default().insert(arrow.to);
    }
    for (room, uses) in &table {
        for used in uses.iter().filter(|u| !seen.get(room).is_some_and(|s| s.contains(*u))) {
            wrong.push(format!("the table lets {room} use {used}, and it does not any more"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn rooms_stand_in_no_circle() {
    let table = table();
    let circles: Vec<_> = table.keys().filter(|room| reach(room, &table).contains(*room)).collect();
    assert!(circles.is_empty(), "these rooms use each other in a circle: {circles:?}");
}

#[test]
fn libraries_stay_in_their_rooms() {
    let sources = Sources::read();
    let mut wrong = Vec::new();
    for (library, rooms) in LIBRARIES {
        let users = sources.users_of(library);
        for (room, file) in users.iter().filter(|(room, _)| !rooms.contains(&room.as_str())) {
            wrong.push(format!("{room} names {library} in {file}"));
        }
        for room in rooms.iter().filter(|r| !users.iter().any(|(room, _)| room == *r)) {
            wrong.push(format!("{room} may name {library}, and does not any more"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn rooms_without_the_network_do_not_reach_candle() {
    let table = table();
    let named: BTreeSet<&str> = LIBRARIES
        .iter()
        .filter(|(l, _)| l.starts_with("candle"))
        .flat_map(|(_, r)| r.iter().copied())
        .collect();
    for room in WITHOUT_CANDLE {
        let mut all = reach(room, &table);
        all.insert(room.to_string());
        let bad: Vec<_> = all.iter().filter(|r| named.contains(r.as_str())).collect();
        assert!(bad.is_empty(), "{room} reaches candle through {bad:?}");
    }
    // The list is whole: whoever is not on it reaches candle indeed.
    for room in table.keys().filter(|r| !WITHOUT_CANDLE.contains(&r.as_str())) {
        let mut all = reach(room, &table);
        all.insert(room.clone());
        assert!(
            all.iter().any(|r| named.contains(r.as_str())),
            "{room} does not reach candle: put it on the list"
        );
    }
}

#[test]
fn files_of_a_room_stand_in_no_circle() {
    let circles = Sources::read().file_circles();
    let known = |circle: &Vec<String>| {
        KNOWN_CIRCLES.iter().any(|known| circle.iter().all(|file| known.contains(&file.as_str())))
    };
    let new: Vec<_> = circles.iter().filter(|circle| !known(circle)).collect();
    assert!(new.is_empty(), "these files use each other in a circle: {new:#?}");
}

/// The drawing of ARCHITECTURE.md: rooms line by line, each using only rooms further down.
#[test]
fn the_drawing_has_every_room_and_no_arrow_upwards() {
    let text = std::fs::read_to_string(source::root().join("ARCHITECTURE.md")).expect("ARCHITECTURE.md");
    let table = table();
    let drawing = text.split("```rooms\n").nth(1).and_then(|t| t.split("```").next()).expect("a drawing");
    let mut height = BTreeMap::new();
    for (line, words) in drawing.lines().enumerate() {
        for room in words.split_whitespace().filter(|w| table.contains_key(*w)) {
            assert_eq!(height.insert(room, line), None, "{room} is drawn twice");
        }
    }
    for (room, uses) in &table {
        let from = height.get(room.as_str()).unwrap_or_else(|| panic!("{room} is not drawn"));
        for used in uses {
            assert!(height[used.as_str()] > *from, "{room} uses {used}, which is not drawn below it");
        }
        assert!(
            text.lines().any(|l| l.starts_with("**`") && l.contains(&format!("**`{room}`**"))),
            "ARCHITECTURE.md has no paragraph that begins with **`{room}`**"
        );
    }
}
