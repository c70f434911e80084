#!/bin/bash
# HyperQueue for real: a server and a worker of this machine, four tasks.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"$here/archive.sh" "$folder"
cd "$folder"
LOGS="$folder" "$PYTHON" "$here/../on_hyperqueue.py" manifest.jsonl
cat "$folder"/polypscope-*.out
"$here/result.sh" "$folder"
