#!/bin/bash
# After an engine's run: everything must stand, and be what one process comes to.
#
#   result.sh FOLDER
set -eu
cd "${1:?usage: result.sh FOLDER}"
"$POLYPSCOPE" fleet status --manifest manifest.jsonl
"$POLYPSCOPE" fleet merge --manifest manifest.jsonl --output merged
"$POLYPSCOPE" --quiet fleet run --manifest manifest.jsonl --store alone --shard 0/1 --threads 1
"$POLYPSCOPE" --quiet fleet merge --manifest manifest.jsonl --store alone --output merged-alone
for file in frames.parquet polyps.parquet recordings.parquet failed.csv; do
    cmp "merged/$file" "merged-alone/$file"
done
echo "the merged result is that of one process, byte for byte"
