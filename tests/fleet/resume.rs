//! Whoever is stopped when: the results are those of a run that was not.

use crate::{Archive, Lots, objects, same};

#[test]
fn stopped_at_any_frame_twenty_times_the_result_is_the_same() {
    for confirm in ["balanced", "off"] {
        let mut archive = Archive::new();
        archive.settings.confirm = confirm.into();
        archive.clip("a.mkv", 70);
        archive.clip("sub/b.mkv", 45);
        archive.clip("c.mkv", 7);
        let manifest = archive.plan();
        assert_eq!(
            manifest.units.iter().map(|u| u.name.as_str()).collect::<Vec<_>>(),
            ["a.mkv", "c.mkv", "sub/b.mkv"]
        );
        assert_eq!(manifest.units[0].frames, 70);

        let whole = archive.store("whole");
        let tally = archive.run(&manifest, &whole, (0, 1), None);
        assert_eq!((tally.whole, tally.frames, tally.is_whole()), (3, 122, true));
        let (merged, first) = archive.merge(&manifest, &whole, "merged");
        assert_eq!((merged.frames, merged.failed), (122, 0));
        assert!(merged.polyps > 0 || confirm == "off");

        let often = archive.store("often");
        let mut lots = Lots(7);
        let mut stops = 0;
        while stops < 20 {
            let tally = archive.run(&manifest, &often, (0, 1), Some(1 + lots.draw(60)));
            assert!(tally.is_to_be_retried() || tally.is_whole());
            stops += 1;
        }
        let tally = archive.run(&manifest, &often, (0, 1), None);
        assert!(tally.is_whole(), "{tally:?}");
        let (_, second) = archive.merge(&manifest, &often, "merged-often");
        same(&first, &second);
        assert_eq!(objects(&archive.dir.join("whole")), objects(&archive.dir.join("often")));
        // Nothing is computed a second time.
        let tally = archive.run(&manifest, &often, (0, 1), None);
        assert_eq!((tally.stood, tally.frames), (3, 0));
    }
}

/// One segment or many: where segments end where nothing is followed, what is found does not change.
#[test]
fn a_recording_in_parts_has_the_findings_of_the_whole() {
    let found = |segment_ms| {
        let mut archive = Archive::new();
        archive.settings.segment_ms = segment_ms;
        archive.settings.confirm = "off".into();
        archive.clip("a.mkv", 60);
        let manifest = archive.plan();
        let store = archive.store("store");
        archive.run(&manifest, &store, (0, 1), None);
        let name = format!("done/{}.json", manifest.units[0].key);
        let bytes = std::fs::read(archive.dir.join("store").join(name)).unwrap();
        let mut outcome: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        (outcome["found"].take(), outcome["segments"].as_u64().unwrap())
    };
    let (whole, one) = found(1_000_000);
    let (parts, several) = found(400);
    assert_eq!(one, 1);
    assert!(several > 3, "{several}");
    assert_eq!(whole, parts);
    assert!(!whole["episodes"].as_array().unwrap().is_empty());
}

#[test]
fn two_workers_on_the_same_units_give_one_result() {
    let archive = Archive::new();
    archive.clip("a.mkv", 60);
    archive.clip("b.mkv", 40);
    let manifest = archive.plan();
    let alone = archive.store("alone");
    archive.run(&manifest, &alone, (0, 1), None);
    let (_, first) = archive.merge(&manifest, &alone, "merged");
    archive.store("raced");
    std::thread::scope(|s| {
        for _ in 0..3 {
            s.spawn(|| {
                let tally = archive.run(&manifest, &archive.store("raced"), (0, 1), None);
                assert!(tally.is_whole(), "{tally:?}");
            });
        }
    });
    let (_, second) = archive.merge(&manifest, &archive.store("raced"), "merged-raced");
    same(&first, &second);
    assert_eq!(objects(&archive.dir.join("alone")), objects(&archive.dir.join("raced")));
}

#[test]
fn shards_share_the_work_and_their_results_are_those_of_one() {
    let archive = Archive::new();
    for n in 0..5 {
        archive.clip(&format!("{n}.mkv"), 10 + 3 * n);
    }
    let manifest = archive.plan();
    let (one, three) = (archive.store("one"), archive.store("three"));
    archive.run(&manifest, &one, (0, 1), None);
    let frames: Vec<_> = (0..3).map(|i| archive.run(&manifest, &three, (i, 3), None).frames).collect();
    assert!(frames.iter().all(|f| *f > 0), "{frames:?}");
    assert_eq!(frames.iter().sum::<u64>(), 80);
    same(&archive.merge(&manifest, &one, "a").1, &archive.merge(&manifest, &three, "b").1);
}
