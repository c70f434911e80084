#!/bin/bash
# Ray for real: its own two workers on this machine.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"$here/archive.sh" "$folder"
cd "$folder"
# Ray keeps a token in its user's home.
HOME="$folder" RAY_USAGE_STATS_ENABLED=0 "$PYTHON" "$here/../on_ray.py" manifest.jsonl
"$here/result.sh" "$folder"
