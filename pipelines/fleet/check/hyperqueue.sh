#!/bin/bash
# HyperQueue for real: a server and a worker of this machine, four tasks.
. "$(dirname "$0")/begin.sh"
LOGS="$folder" "$PYTHON" "$here/../on_hyperqueue.py" manifest.jsonl
cat "$folder"/polypscope-*.out
"$here/result.sh" "$folder"
