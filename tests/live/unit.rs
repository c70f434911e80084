//! The systemd unit: what Debian 12's systemd (252) makes of it.

use std::path::Path;
use std::process::Command;

use crate::skipped::skip;

fn unit() -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("pipelines/polypscope-live.service"))
        .expect("the unit")
}

#[test]
fn the_unit_has_no_key_that_is_newer_than_debian_12() {
    let newer = [
        "CoredumpReceive",
        "DelegateSubgroup",
        "FileDescriptorStorePreserve",
        "MemoryPressureWatch",
        "MemoryZSwapMax",
        "OpenFile",
        "RestartMaxDelaySec",
        "RestartMode",
        "RestartSteps",
        "RootEphemeral",
        "SetLoginEnvironment",
        "SurviveFinalKillSignal",
    ];
    for line in unit().lines().filter(|l| !l.starts_with('#')) {
        let key = line.split('=').next().unwrap_or_default();
        assert!(!newer.contains(&key), "{key} is not known to systemd 252");
    }
}

#[test]
fn systemd_knows_every_key_of_the_unit() {
    let dir = tempfile::tempdir().expect("a folder");
    let copy = dir.path().join("polypscope-live.service");
    // The program of the unit need not be installed here.
    std::fs::write(&copy, unit().replace("/usr/local/bin/polypscope", "/bin/true")).expect("a copy");
    let verify = Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&copy).output();
    let Ok(out) = verify else {
        return skip("systemd", "there is no systemd-analyze");
    };
    let said = String::from_utf8_lossy(&out.stderr);
    let of_ours: Vec<&str> = said.lines().filter(|l| l.contains("polypscope-live.service:")).collect();
    assert!(of_ours.is_empty(), "{said}");
}

#[test]
fn the_unit_keeps_its_sandbox() {
    let unit = unit();
    for setting in [
        "NoNewPrivileges=yes",
        "CapabilityBoundingSet=",
        "ProtectSystem=strict",
        "ProtectHome=yes",
        "PrivateTmp=yes",
        "SystemCallFilter=@system-service",
        "SystemCallArchitectures=native",
        "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK",
        "RestrictNamespaces=yes",
        "DevicePolicy=closed",
        "DeviceAllow=char-video4linux rw",
        "DeviceAllow=char-drm rw",
        "MemoryMax=4G",
        "LimitRTPRIO=10",
        "UMask=0077",
    ] {
        assert!(unit.lines().any(|l| l == setting), "{setting} is not in the unit");
    }
}
