//! Recordings that are damaged, empty, unreadable or gone, and what the engine is told of them.

use std::collections::BTreeMap;

use polypscope::fleet::status;

use crate::{Archive, objects};

/// state and reason by recording.
fn failed(path: &std::path::Path) -> BTreeMap<String, (String, String)> {
    let text = std::fs::read_to_string(path.join("failed.csv")).unwrap();
    let rows = text.lines().skip(1).map(|line| {
        let mut fields = line.splitn(3, ',');
        let mut next = || fields.next().unwrap().to_owned();
        let (name, state) = (next(), next());
        (name, (state, next()))
    });
    rows.collect()
}

#[test]
fn bad_recordings_among_fifty_are_named_and_the_others_are_done() {
    let archive = Archive::new();
    let first = archive.clip("00.mkv", 12);
    let bytes = std::fs::read(&first).unwrap();
    for n in 1..46 {
        // The same pictures in another file: Matroska ignores what comes behind.
        let path = archive.dir.join(format!("videos/{n:02}.mkv"));
        std::fs::write(path, [&bytes[..], &[0xec, 0x81, n]].concat()).unwrap();
    }
    let videos = archive.dir.join("videos");
    std::fs::write(
        videos.join("46-corrupt.mkv"),
        (0..9000u32).map(|i| (i * i % 251) as u8).collect::<Vec<_>>(),
    )
    .unwrap();
    std::fs::write(videos.join("47-empty.mkv"), "").unwrap();
    std::os::unix::fs::symlink("nowhere.mkv", videos.join("48-unreadable.mkv")).unwrap();
    let long = archive.clip("49-cut-off.mkv", 60);
    let whole = std::fs::read(&long).unwrap();
    std::fs::write(&long, &whole[..whole.len() / 2]).unwrap();

    let manifest = archive.plan();
    assert_eq!(manifest.units.len(), 50);
    assert_eq!(manifest.units.iter().filter(|u| u.problem.is_some()).count(), 3);
    let store = archive.store("store");
    let tally = archive.run(&manifest, &store, (0, 1), None);
    assert_eq!((tally.whole, tally.unreadable, tally.once, tally.partial), (46, 3, 1, 0), "{tally:?}");
    assert!(!tally.is_to_be_retried() && !tally.is_whole());
    // Before the second try, too, the partial result is worth having.
    let (merged, to) = archive.merge(&manifest, &store, "merged-first");
    assert_eq!((merged.with_result, merged.failed), (47, 4));
    assert_eq!(failed(&to)["49-cut-off.mkv"].0, "partial");
    // Partial is tried once more, and then it stands.
    let tally = archive.run(&manifest, &store, (0, 1), None);
    assert_eq!((tally.stood, tally.partial, tally.once), (46, 1, 0), "{tally:?}");
    let tally = archive.run(&manifest, &store, (0, 1), None);
    assert_eq!((tally.stood, tally.partial, tally.frames), (47, 1, 0), "{tally:?}");

    let (merged, to) = archive.merge(&manifest, &store, "merged");
    assert_eq!((merged.recordings, merged.with_result, merged.failed), (50, 47, 4));
    let failed = failed(&to);
    for (name, state, words) in [
        ("46-corrupt.mkv", "unreadable", "the recording: is not a video"),
        ("47-empty.mkv", "unreadable", "is empty"),
        ("48-unreadable.mkv", "unreadable", "a link that leads nowhere"),
        ("49-cut-off.mkv", "partial", "cut off"),
    ] {
        let (is, why) = &failed[name];
        assert!(is == state && why.contains(words), "{name}: {is}, {why}");
    }
    let s = status(&manifest, &store).unwrap();
    assert_eq!((s.whole, s.partial, s.unreadable, s.open), (46, 1, 3, 0));
    assert!(s.is_complete() && s.reasons.len() == 4, "{s:?}");
    // The page is whole and its rows are data.
    let page = std::fs::read_to_string(to.join("report.html")).unwrap();
    let rows = page.split("id=\"data\">").nth(1).unwrap().split("</script>").next().unwrap();
    let rows: Vec<serde_json::Value> = serde_json::from_str(rows).unwrap();
    assert_eq!(rows.len(), 50);
    let row = rows.iter().find(|r| r[0] == "49-cut-off.mkv").unwrap();
    assert_eq!((&row[1], row[10].as_str().map(|r| r.contains("cut off"))), (&"partial".into(), Some(true)));
}

#[test]
fn a_recording_that_is_gone_is_tried_again_and_another_one_is_not_taken_for_it() {
    let archive = Archive::new();
    let a = archive.clip("a.mkv", 10);
    archive.clip("b.mkv", 12);
    let manifest = archive.plan();
    let store = archive.store("store");
    let aside = archive.dir.join("aside");
    std::fs::rename(&a, &aside).unwrap();
    let tally = archive.run(&manifest, &store, (0, 1), None);
    assert_eq!((tally.whole, tally.failed.len()), (1, 1));
    assert!(tally.is_to_be_retried());
    let s = status(&manifest, &store).unwrap();
    assert_eq!((s.failed, s.open), (1, 1));
    let (reason, _) = s.reasons.first_key_value().unwrap();
    assert!(reason.contains("cannot be read (no such file or directory)"), "{reason}");
    std::fs::copy(archive.dir.join("videos/b.mkv"), &a).unwrap();
    let tally = archive.run(&manifest, &store, (0, 1), None);
    assert_eq!((tally.changed, tally.failed), (vec!["a.mkv".to_owned()], vec![]));
    std::fs::rename(&aside, &a).unwrap();
    let tally = archive.run(&manifest, &store, (0, 1), None);
    assert!(tally.is_whole(), "{tally:?}");
    let (merged, _) = archive.merge(&manifest, &store, "merged");
    assert_eq!(merged.failed, 0, "what failed before does not count any more");
}

#[test]
fn nothing_in_the_store_or_the_results_names_a_patient() {
    let archive = Archive::new();
    archive.clip("Miller Annabeth 1960-02-03/procedure.mkv", 14);
    let long = archive.clip("Miller Annabeth 1960-02-03/Miller second.mkv", 40);
    let whole = std::fs::read(&long).unwrap();
    std::fs::write(&long, &whole[..whole.len() / 2]).unwrap();
    let gone = archive.clip("Smithson.mkv", 11);
    let manifest = archive.plan_with(|p| p.salt = Some("salt".into()));
    std::fs::remove_file(gone).unwrap();
    let store = archive.store("store");
    archive.run(&manifest, &store, (0, 1), None);
    archive.run(&manifest, &store, (0, 1), None);
    let (merged, to) = archive.merge(&manifest, &store, "merged");
    assert_eq!((merged.with_result, merged.failed), (2, 2));
    let mut looked = 0;
    for folder in [archive.dir.join("store"), to] {
        for name in objects(&folder) {
            let mut bytes = std::fs::read(folder.join(&name)).unwrap();
            if name.ends_with(".gz") {
                let mut text = Vec::new();
                std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(&bytes[..]), &mut text).unwrap();
                bytes = text;
            }
            let text = name.clone() + &String::from_utf8_lossy(&bytes);
            // Each is long, or has a sign that hashes and base64 do not have, so that none is there by chance.
            for word in [
                "Miller",
                "1960-02-03",
                "Annabeth",
                "Smithson",
                "procedure.mkv",
                "Miller second",
                "second.mkv",
            ] {
                assert!(!text.contains(word), "{name} has {word}");
            }
            looked += 1;
        }
    }
    assert!(looked > 8, "{looked}");
    assert!(manifest.units.iter().all(|u| u.name.starts_with("recording-")));
    // Another salt gives other names, and the same results.
    let other = archive.plan_with(|p| {
        p.salt = Some("pepper".into());
        p.inputs = vec![archive.dir.join("videos/Miller Annabeth 1960-02-03")];
    });
    assert!(manifest.units.iter().all(|u| other.units.iter().all(|o| o.name != u.name)));
    assert_eq!(archive.run(&other, &store, (0, 1), None).stood, 2);
}

#[test]
fn lists_say_what_is_known_and_folders_of_pictures_are_recordings() {
    let archive = Archive::new();
    archive.clip("a.mkv", 10);
    let frames = archive.dir.join("frames");
    std::fs::create_dir(&frames).unwrap();
    for n in 0..6u8 {
        image::RgbImage::from_pixel(64, 64, image::Rgb([n * 20, 60, 60]))
            .save(frames.join(format!("{n}.png")))
            .unwrap();
    }
    let list = archive.dir.join("list.txt");
    std::fs::write(
        &list,
        "# ours\n\nvideos/a.mkv\n{\"path\":\"gone.mkv\",\"sha256\":\"abc\",\"frames\":900,\"seconds\":36}\nframes\n",
    )
    .unwrap();
    let manifest = archive.plan_with(|p| (p.inputs, p.lists) = (vec![], vec![list.clone()]));
    let seen: Vec<_> = manifest.units.iter().map(|u| (u.name.as_str(), u.frames, u.stills)).collect();
    assert_eq!(seen, [("videos/a.mkv", 10, false), ("gone.mkv", 900, false), ("frames", 6, true)]);
    let tally = archive.run(&manifest, &archive.store("store"), (0, 1), None);
    assert_eq!((tally.whole, tally.failed.len()), (2, 1), "{tally:?}");
    std::fs::write(&list, "{\"path\":1}\n").unwrap();
    let broken = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        archive.plan_with(|p| (p.inputs, p.lists) = (vec![], vec![list]))
    }));
    assert!(broken.is_err());
}
