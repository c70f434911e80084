//! The machine a figure was measured on, and this process's memory.
//!
//! In: /proc. Out: [`Machine`], resident set sizes in bytes.

use serde::{Deserialize, Serialize};

/// What a reader of a report must know about where it was made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Machine {
    /// The processor's name; its architecture where the system does not say.
    pub cpu: String,
    /// Logical processors this process may use.
    pub cores: usize,
    /// SIMD extensions our kernels choose among.
    pub features: Vec<String>,
    /// The machine's main memory; 0 where the system does not say.
    pub memory_bytes: u64,
    /// The operating system as `/etc/os-release` names it, such as `Debian GNU/Linux 12 (bookworm)`.
    pub system: String,
    /// This program's version.
    pub version: String,
}

impl Machine {
    /// The machine that this process runs on.
    pub fn detect() -> Self {
        let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let cpu = cpuinfo
            .lines()
            .find_map(|l| l.strip_prefix("model name")?.split_once(':').map(|(_, v)| v.trim().to_owned()))
            .unwrap_or_else(|| std::env::consts::ARCH.to_owned());
        let memory_bytes = std::fs::read_to_string("/proc/meminfo")
            .unwrap_or_default()
            .lines()
            .find_map(|l| l.strip_prefix("MemTotal:")?.trim().trim_end_matches(" kB").parse::<u64>().ok())
            .map_or(0, |kb| kb * 1024);
        let os = std::fs::read_to_string("/etc/os-release")
            .unwrap_or_default()
            .lines()
            .find_map(|l| l.strip_prefix("PRETTY_NAME=").map(|v| v.trim_matches('"').to_owned()));
        Self {
            cpu,
            cores: std::thread::available_parallelism().map_or(1, |n| n.get()),
            features: simd_features().iter().map(|s| (*s).to_owned()).collect(),
            memory_bytes,
            system: os.unwrap_or_else(|| std::env::consts::OS.to_owned()),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }
}

#[cfg(target_arch = "x86_64")]
fn simd_features() -> Vec<&'static str> {
    let mut list = Vec::new();
    macro_rules! note {
        ($($name:tt),*) => { $(if std::arch::is_x86_feature_detected!($name) { list.push($name); })* };
    }
    note!("avx2", "fma", "avx512f", "avx512bw", "avx512vl", "avx512bf16", "avx512vnni", "avx512fp16");
    list
}

#[cfg(not(target_arch = "x86_64"))]
fn simd_features() -> Vec<&'static str> {
    Vec::new()
}

fn status_kb(key: &str) -> Option<u64> {
    std::fs::read_to_string("/proc/self/status")
        .ok()?
        .lines()
        .find_map(|l| l.strip_prefix(key)?.trim().trim_end_matches(" kB").parse().ok())
}

/// Resident set of this process now; 0 where the system does not say.
pub fn rss_bytes() -> u64 {
    status_kb("VmRSS:").map_or(0, |kb| kb * 1024)
}

/// Largest resident set of this process so far; 0 where the system does not say.
pub fn peak_rss_bytes() -> u64 {
    status_kb("VmHWM:").map_or(0, |kb| kb * 1024)
}
