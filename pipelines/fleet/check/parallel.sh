#!/bin/bash
# GNU parallel for real: four shards, two at a time; then again, when there is nothing to do.
. "$(dirname "$0")/begin.sh"
JOBS=2 "$here/../parallel.sh" manifest.jsonl --threads 1
cut -f 1,4,7 manifest.jsonl.joblog
JOBS=2 "$here/../parallel.sh" manifest.jsonl --threads 1
"$here/result.sh" "$folder"
