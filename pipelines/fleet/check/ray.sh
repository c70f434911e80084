#!/bin/bash
# Ray for real: its own two workers on this machine.
. "$(dirname "$0")/begin.sh"
# Ray keeps a token in its user's home.
HOME="$folder" RAY_USAGE_STATS_ENABLED=0 "$PYTHON" "$here/../on_ray.py" manifest.jsonl
"$here/result.sh" "$folder"
