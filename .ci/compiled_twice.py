#!/usr/bin/env python3
"""Which dependencies `make demo` and `make test` compile once each, instead of once for both.

In: cargo's graphs of the two builds, which it makes without compiling. Out: the crates that the second command compiles in
another way, and exit code 1 if one is not on the list below. A crate differs when its features, its profile or anything
below it differs.
"""

import json
import os
import subprocess
import sys

# Tests turn tokio's clock by hand, which is a feature of tokio that the program should not have.
KNOWN = {"axum", "hyper", "hyper-util", "object_store", "tokio", "tower"}

DEMO = ["build", "--release", "--locked"]
TEST = ["test", "--release", "--locked", "--config", "tests/profile.toml", "--features", "video-tests"]


def units(command):
    """What cargo would compile, as names of crates by everything that makes the result another one."""
    # The graph is an unstable option of cargo's; the compilers of both commands are the stable ones.
    env = os.environ | {"RUSTC_BOOTSTRAP": "1"}
    line = ["cargo", *command, "--unit-graph", "-Z", "unstable-options"]
    graph = json.loads(subprocess.run(line, env=env, stdout=subprocess.PIPE, check=True).stdout)["units"]
    identities = {}

    def identity(index):
        if index not in identities:
            unit = graph[index]
            own = {key: unit[key] for key in ("pkg_id", "target", "profile", "platform", "mode", "features")}
            below = sorted(identity(d["index"]) for d in unit["dependencies"])
            identities[index] = hash(json.dumps([own, below], sort_keys=True))
        return identities[index]

    def name(unit):
        package = unit["pkg_id"].rsplit("/", 1)[-1].split("#")[-1]
        return package.split("@")[0]

    return {identity(i): name(u) for i, u in enumerate(graph) if "registry" in u["pkg_id"]}


def main():
    demo, test = units(DEMO), units(TEST)
    twice = {name for unit, name in demo.items() if unit not in test}
    print(f"{len(demo)} steps of dependencies for the program, {len(test.keys() & demo.keys())} of them for the tests too")
    print("compiled twice:", ", ".join(sorted(twice)) or "none")
    new = sorted(twice - KNOWN)
    if new:
        sys.exit(f"not on the list in {sys.argv[0]}: {', '.join(new)}; a feature that only a development dependency asks for?")


main()
