//! Whether something large fits into memory, asked before it is made.
//!
//! In: how many bytes it needs. Out: nothing, or an error that says what it needs and what there is.
//!
//! What there is is the least of what the machine has free, what this process's control group (a container, a service's
//! `MemoryMax`) leaves it, and its own limit of address space (`ulimit -v`). Linux would grant more at first and kill
//! somebody later, when the pages are touched: then the picture is gone without a word.

use std::path::{Path, PathBuf};

use crate::{Error, Result};

/// Bytes this process may still take; `None` where the system does not say.
pub fn available() -> Option<u64> {
    let limits = [
        free(&read("/proc/meminfo")),
        left_in_groups(Path::new("/sys/fs/cgroup"), &read("/proc/self/cgroup")),
        left_of_address_space(&read("/proc/self/limits"), &read("/proc/self/status")),
    ];
    limits.into_iter().flatten().min()
}

/// Whether `needs` bytes are there for `what`, which begins the sentence otherwise.
///
/// `remedy` is given the bytes that would fit and says what to ask for instead.
///
/// # Errors
/// [`crate::Kind::Machine`] where they are not.
pub fn afford(what: &str, needs: u64, remedy: impl FnOnce(u64) -> String) -> Result<()> {
    within(available(), what, needs, remedy)
}

/// As [`afford`], of what the caller says there is.
pub(crate) fn within(
    available: Option<u64>,
    what: &str,
    needs: u64,
    remedy: impl FnOnce(u64) -> String,
) -> Result<()> {
    let Some(available) = available else { return Ok(()) };
    // A tenth is left to everything else that grows meanwhile.
    let usable = available / 10 * 9;
    if needs <= usable {
        return Ok(());
    }
    Err(Error::machine(format!(
        "{what} needs {} of memory, {} are free",
        in_words(needs),
        in_words(available)
    ))
    .remedy(remedy(usable)))
}

/// Bytes in the unit a reader would choose.
pub fn in_words(bytes: u64) -> String {
    match bytes {
        0..1_000_000_000 => format!("{:.0} MB", bytes as f64 / 1e6),
        1_000_000_000..1_000_000_000_000_000 => format!("{:.1} GB", bytes as f64 / 1e9),
        _ => format!("{:.1e} GB", bytes as f64 / 1e9),
    }
}

fn read(path: impl AsRef<Path>) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

/// `MemAvailable:   123 kB`
fn free(meminfo: &str) -> Option<u64> {
    kilobytes(meminfo, "MemAvailable:")
}

fn kilobytes(text: &str, key: &str) -> Option<u64> {
    let value = text.lines().find_map(|l| l.strip_prefix(key))?;
    value.trim().trim_end_matches(" kB").parse::<u64>().ok()?.checked_mul(1024)
}

/// The least that any of this process's control groups leaves, of either version. Inside a container the path may be
/// the host's and not exist here; then the container's own group is at the root.
fn left_in_groups(root: &Path, membership: &str) -> Option<u64> {
    let mut least: Option<u64> = None;
    for line in membership.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next()?, fields.next()?);
        let (root, limit, used, cache) = if controllers.is_empty() {
            (root.to_owned(), "memory.max", "memory.current", "inactive_file ")
        } else if controllers.split(',').any(|c| c == "memory") {
            (root.join("memory"), "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file ")
        } else {
            continue;
        };
        let mut group: PathBuf = root.join(path.trim_start_matches('/'));
        loop {
            if let Ok(limit) = read(group.join(limit)).trim().parse::<u64>() {
                let used = read(group.join(used)).trim().parse::<u64>().unwrap_or(0);
                // Cached files are given up when memory is wanted.
                let cached = read(group.join("memory.stat"))
                    .lines()
                    .find_map(|l| l.strip_prefix(cache)?.trim().parse::<u64>().ok())
                    .unwrap_or(0);
                let left = limit.saturating_sub(used.saturating_sub(cached));
                least = Some(least.map_or(left, |l| l.min(left)));
            }
            if group == root || !group.pop() || !group.starts_with(&root) {
                break;
            }
        }
    }
    least
}

/// `Max address space     8589934592     unlimited     bytes`, less what is taken.
fn left_of_address_space(limits: &str, status: &str) -> Option<u64> {
    let line = limits.lines().find_map(|l| l.strip_prefix("Max address space"))?;
    let limit: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(limit.saturating_sub(kilobytes(status, "VmSize:").unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_said_with_what_would() {
        let ask = |available, needs| within(available, "a loop of 9 s", needs, |b| format!("choose {b}"));
        assert!(ask(None, u64::MAX).is_ok());
        assert!(ask(Some(1000), 900).is_ok());
        let e = ask(Some(2_000_000_000), 25_000_000_000).unwrap_err();
        assert_eq!(
            e.to_string(),
            "a loop of 9 s needs 25.0 GB of memory, 2.0 GB are free; choose 1800000000"
        );
        assert_eq!(e.exit_code(), 1);
        assert!(ask(Some(u64::MAX), u64::MAX).is_err());
    }

    #[test]
    fn the_machine_and_its_limits_are_read() {
        assert_eq!(free("MemTotal: 99 kB\nMemAvailable:     12 kB\n"), Some(12 * 1024));
        assert_eq!(free("MemAvailable: 99999999999999999999 kB"), None);
        assert_eq!(
            left_of_address_space("Max address space 4096000 unlimited bytes", "VmSize:\t 1000 kB"),
            Some(4096000 - 1024000)
        );
        assert_eq!(left_of_address_space("Max address space unlimited unlimited bytes", ""), None);
    }

    /// The tightest group counts, the ones above included; cached files are free memory.
    #[test]
    fn control_groups_of_both_versions_count() {
        let root = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = root.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        let left = |membership: &str| left_in_groups(root.path(), membership);
        assert_eq!(left("0::/a/b\n"), None);
        write("a/b/memory.max", "max\n");
        write("a/memory.max", "5000\n");
        write("a/memory.current", "3000\n");
        write("a/memory.stat", "anon 1000\ninactive_file 500\n");
        assert_eq!(left("0::/a/b\n"), Some(2500));
        write("memory.max", "1000\n");
        assert_eq!(left("0::/a/b\n"), Some(1000));
        write("memory/memory.limit_in_bytes", "700\n");
        assert_eq!(left("3:cpu,cpuacct:/x\n2:memory:/docker/0123\n"), Some(700));
        assert_eq!(left("nonsense"), None);
    }
}
