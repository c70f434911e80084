#!/usr/bin/env python3
"""What the program is made of, as CycloneDX 1.5: crates, the system's libraries it loads, GStreamer's plug-ins, the checkpoint.

In: the program and the features it was built with beside the default ones, Cargo.lock, `cargo metadata`, `ldd`, dpkg's list, weights/. Out: JSON on standard output.
"""

import hashlib
import json
import pathlib
import re
import subprocess
import sys
import tomllib

ROOT = pathlib.Path(__file__).resolve().parent.parent
PLUGINS = [
    "gstreamer1.0-plugins-base",
    "gstreamer1.0-plugins-good",
    "gstreamer1.0-plugins-bad",
    "gstreamer1.0-plugins-ugly",
    "gstreamer1.0-libav",
]


def run(*command):
    return subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def licence(text):
    return [{"expression": text.replace(" / ", " OR ").replace("/", " OR ")}] if text else []


def crates(features):
    """Every crate that is linked into the program or runs while it is built; its own first."""
    host = re.search(r"host: (\S+)", run("rustc", "-vV")).group(1)
    chosen = ["--features", features] if features else []
    metadata = json.loads(
        run("cargo", "metadata", "--locked", "--format-version", "1", "--filter-platform", host, *chosen)
    )
    packages = {p["id"]: p for p in metadata["packages"]}
    nodes = {n["id"]: n for n in metadata["resolve"]["nodes"]}
    locked = tomllib.loads((ROOT / "Cargo.lock").read_text())["package"]
    sums = {(p["name"], p["version"]): p.get("checksum") for p in locked}

    def used(node):
        kinds = lambda d: {k["kind"] for k in d["dep_kinds"]}
        return [d["pkg"] for d in nodes[node]["deps"] if kinds(d) - {"dev"}]

    root = metadata["resolve"]["root"]
    found, open_ = {root}, [root]
    while open_:
        for below in used(open_.pop()):
            if below not in found:
                found.add(below)
                open_.append(below)
    reference = lambda i: f"pkg:cargo/{packages[i]['name']}@{packages[i]['version']}"
    components = []
    for i in sorted(found - {root}, key=reference):
        package = packages[i]
        component = {
            "type": "library",
            "bom-ref": reference(i),
            "name": package["name"],
            "version": package["version"],
            "purl": reference(i),
            "licenses": licence(package["license"]),
            "scope": "required",
        }
        if checksum := sums.get((package["name"], package["version"])):
            component["hashes"] = [{"alg": "SHA-256", "content": checksum}]
        components.append(component)
    edges = [{"ref": reference(i), "dependsOn": sorted({reference(d) for d in used(i)})} for i in sorted(found)]
    return packages[root], reference(root), components, edges


def distribution():
    text = pathlib.Path("/etc/os-release").read_text()
    field = lambda name: re.search(rf'^{name}="?([^"\n]*)', text, re.M)
    return field("ID").group(1), field("VERSION_ID").group(1) if field("VERSION_ID") else ""


def packaged(name):
    """A component for an installed package; None where it is not installed."""
    shown = subprocess.run(
        ["dpkg-query", "-W", "-f=${Package}\t${Version}\t${Architecture}", name], capture_output=True, text=True
    )
    if shown.returncode:
        return None
    package, version, architecture = shown.stdout.split("\t")
    system, release = distribution()
    purl = f"pkg:deb/{system}/{package}@{version}?arch={architecture}&distro={system}-{release}"
    return {"type": "library", "bom-ref": purl, "name": package, "version": version, "purl": purl, "scope": "required"}


def libraries(program):
    """The packages of the libraries that the program loads when it starts, and those of GStreamer's plug-ins."""
    paths = {p for p in re.findall(r"=> (/\S+)", run("ldd", str(program)))}
    names = set(PLUGINS)
    for path in sorted(paths):
        # A package knows its files below /usr, the loader may find them through /lib.
        for candidate in (path, str(pathlib.Path(path).resolve()), "/usr" + path):
            owner = subprocess.run(["dpkg-query", "-S", candidate], capture_output=True, text=True)
            if owner.returncode == 0:
                names.add(owner.stdout.split(": ")[0].split(",")[0])
                break
        else:
            print(f"no package owns {path}", file=sys.stderr)
    return [c for c in map(packaged, sorted(names)) if c]


def checkpoint():
    file = ROOT / "weights/m2snet-polyp.safetensors"
    card = ROOT / "weights/m2snet-polyp.md"
    return {
        "type": "machine-learning-model",
        "bom-ref": "checkpoint:m2snet-polyp",
        "name": file.name,
        "version": sha256(file)[:16],
        "description": "M2SNet for polyps; research only, see its card",
        "hashes": [{"alg": "SHA-256", "content": sha256(file)}],
        "licenses": [{"license": {"name": "research only", "url": "weights/m2snet-polyp.md"}}],
        "modelCard": {
            "modelParameters": {"task": "segmentation", "architectureFamily": "convolutional", "modelArchitecture": "M2SNet"},
            "considerations": {"technicalLimitations": ["misses flat and small polyps", "marks healthy folds now and then"]},
        },
        "externalReferences": [
            {"type": "model-card", "url": "weights/m2snet-polyp.md", "hashes": [{"alg": "SHA-256", "content": sha256(card)}]}
        ],
    }


def main():
    program = ROOT / (sys.argv[1] if len(sys.argv) > 1 else "target/release/polypscope")
    if not program.is_file():
        sys.exit(f"{program}: is not there; build it first (make build)")
    features = sys.argv[2] if len(sys.argv) > 2 else ""
    own, reference, components, edges = crates(features)
    system, model = libraries(program), checkpoint()
    for edge in edges:
        if edge["ref"] == reference:
            edge["dependsOn"] += [c["bom-ref"] for c in system] + [model["bom-ref"]]
    bom = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {
            "component": {
                "type": "application",
                "bom-ref": reference,
                "name": own["name"],
                "version": own["version"],
                "licenses": licence(own["license"]),
                "hashes": [{"alg": "SHA-256", "content": sha256(program)}],
                "properties": [{"name": "cargo:features", "value": ",".join(filter(None, ["default", features]))}],
            },
        },
        "components": components + system + [model],
        "dependencies": edges,
    }
    json.dump(bom, sys.stdout, indent=1)
    print()
    kinds = f"{len(components)} crates, {len(system)} system packages, 1 checkpoint"
    print(kinds, file=sys.stderr)


main()
