//! Ten thousand recordings: planned and put together within 500 MB. How long that takes is printed.

use std::io::Write;
use std::time::Duration;

use polypscope::fleet::{Manifest, shards_for};

use crate::Archive;

const MANY: usize = 10_000;

/// Processor time and peak memory (bytes) of this process's children that have been waited for.
fn children() -> (Duration, u64) {
    // SAFETY: fills plain data.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_CHILDREN, &mut usage);
        usage
    };
    let span = |t: libc::timeval| Duration::new(t.tv_sec as u64, t.tv_usec as u32 * 1000);
    (span(usage.ru_utime) + span(usage.ru_stime), usage.ru_maxrss as u64 * 1024)
}

#[test]
fn ten_thousand_are_planned_and_merged_within_500_mb() {
    let archive = Archive::new();
    archive.clip("a.mkv", 40);
    let manifest = archive.plan();
    archive.run(&manifest, &archive.store("one"), (0, 1), None);
    let unit = &manifest.units[0];
    let outcome = std::fs::read_to_string(archive.dir.join(format!("one/done/{}.json", unit.key))).unwrap();
    let segments = archive.dir.join("one/segments").join(&unit.key);

    let list = archive.dir.join("list.jsonl");
    let mut lines = std::io::BufWriter::new(std::fs::File::create(&list).unwrap());
    for n in 0..MANY {
        let line = serde_json::json!({ "path": format!("{n}.mkv"), "sha256": format!("{n:064x}"), "frames": 40, "seconds": 1.6 });
        writeln!(lines, "{line}").unwrap();
    }
    lines.into_inner().unwrap();
    let polypscope = |args: &[&str]| {
        let o = std::process::Command::new(env!("CARGO_BIN_EXE_polypscope"))
            .arg("fleet")
            .args(args)
            .current_dir(&archive.dir)
            .output()
            .unwrap();
        assert!(o.status.success(), "{args:?}: {}", String::from_utf8_lossy(&o.stderr));
    };
    // Not by the clock, which says what else the machine does; other tests' children count too, and are small.
    let before = children().0;
    polypscope(&["plan", "--list", "list.jsonl", "--store", "many", "--manifest", "many.jsonl"]);
    let planned = Manifest::read(&archive.dir.join("many.jsonl")).unwrap();
    assert_eq!((planned.units.len(), planned.head.shards), (MANY, shards_for(&planned.units, 60.0)));
    // What workers would have left: the one result under every key.
    for folder in ["many/done", "many/segments"] {
        std::fs::create_dir_all(archive.dir.join(folder)).unwrap();
    }
    for u in &planned.units {
        std::fs::write(
            archive.dir.join(format!("many/done/{}.json", u.key)),
            outcome.replace(&unit.key, &u.key),
        )
        .unwrap();
        std::os::unix::fs::symlink(&segments, archive.dir.join("many/segments").join(&u.key)).unwrap();
    }
    polypscope(&["status", "--manifest", "many.jsonl"]);
    polypscope(&["merge", "--manifest", "many.jsonl", "--output", "merged"]);
    let (after, peak) = children();
    let took = after - before;
    let _ = writeln!(
        std::io::stderr(),
        "{MANY} recordings planned, looked at and merged in {:.1} s of a processor, at most {} MB; the page has {} kB",
        took.as_secs_f64(),
        peak >> 20,
        std::fs::metadata(archive.dir.join("merged/report.html")).unwrap().len() >> 10
    );
    assert!(peak < 500 << 20, "{peak} bytes");
}
