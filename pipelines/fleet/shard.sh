#!/bin/bash
# One shard, with the retries that its exit codes ask for. For engines that cannot tell exit codes apart.
#
#   shard.sh MANIFEST [options of `polypscope fleet run`]
#
# 0 all is done; 1 and a kill: again, after a pause that doubles (RETRIES times, 3); 2 never again; 3 not all is whole: once more.
set -u
manifest=${1:?usage: shard.sh MANIFEST [OPTIONS]}
shift
program=${POLYPSCOPE:-polypscope}
retries=${RETRIES:-3}
pause=${PAUSE:-10}
worker=
stopped=
# Whoever stops us stops the worker, which ends at a frame; then nothing is tried again.
trap 'stopped=1; [ -n "$worker" ] && kill -TERM "$worker" 2>/dev/null' TERM INT

tries=0
while :; do
    "$program" fleet run --manifest "$manifest" "$@" &
    worker=$!
    wait "$worker"; code=$?
    # A trap ends the wait, not the worker.
    while kill -0 "$worker" 2>/dev/null; do wait "$worker"; code=$?; done
    [ -n "$stopped" ] && exit "$code"
    case $code in
        0 | 2) exit "$code" ;;
        3) most=1 ;;
        *) most=$retries ;;
    esac
    [ "$tries" -ge "$most" ] && exit "$code"
    tries=$((tries + 1))
    echo "shard.sh: exit code $code, try $((tries + 1))" >&2
    [ "$code" = 3 ] || sleep "$pause" &
    wait $!
    pause=$((pause * 2))
done
