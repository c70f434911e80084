#!/bin/bash
# GNU parallel, on one machine or over ssh:
#
#   pipelines/fleet/parallel.sh manifest.jsonl [options of `polypscope fleet run`]
#   JOBS=2 PARALLEL_OPTIONS='--sshloginfile nodes --workdir .' pipelines/fleet/parallel.sh manifest.jsonl
#
# Run again it goes on with the shards that did not end well (--resume-failed).
set -eu
here=$(cd "$(dirname "$0")" && pwd)
manifest=${1:?usage: parallel.sh MANIFEST [OPTIONS]}
shift
shards=$("$here/shards.sh" "$manifest")
# shellcheck disable=SC2086
seq 1 "$shards" | parallel --jobs "${JOBS:-1}" --joblog "${JOBLOG:-$manifest.joblog}" --resume-failed --line-buffer \
    --termseq TERM,120000,KILL,25 ${PARALLEL_OPTIONS:-} -N0 "$here/shard.sh" "$manifest" "$@"
