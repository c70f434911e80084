#!/bin/bash
# Buckets for real: a server of this machine holds the recordings and the results; two workers race for all of it.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
folder=$(mktemp -d)
server=
stop() {
    [ -z "$server" ] || kill "$server" 2>/dev/null || true
    wait
    rm -rf "$folder"
}
trap stop EXIT
port=$((20000 + RANDOM % 20000))
export AWS_ENDPOINT_URL=http://127.0.0.1:$port AWS_ACCESS_KEY_ID=check AWS_SECRET_ACCESS_KEY=check AWS_REGION=us-east-1
"$MOTO_SERVER" -H 127.0.0.1 -p "$port" >"$folder/server.log" 2>&1 &
server=$!
"$here/archive.sh" "$folder" >/dev/null
cd "$folder"
"$PYTHON" - <<'PY'
import os, pathlib, time
import boto3, botocore
s3 = boto3.client("s3", endpoint_url=os.environ["AWS_ENDPOINT_URL"], region_name="us-east-1")
for attempt in range(100):
    try:
        s3.create_bucket(Bucket="archive")
        break
    except botocore.exceptions.EndpointConnectionError:
        time.sleep(0.2)
for video in sorted(pathlib.Path("videos").iterdir()):
    s3.upload_file(str(video), "archive", f"in/{video.name}")
PY
mkdir scratch
"$POLYPSCOPE" fleet plan s3://archive/in --store s3://archive/results --manifest s3.jsonl --scratch scratch \
    --input-size 64 --precision f32 --segment-seconds 1 --shards 1
for worker in 1 2; do
    "$POLYPSCOPE" fleet run --manifest s3.jsonl --scratch scratch --threads 1 >"$folder/$worker.log" 2>&1 &
    eval "worker$worker=\$!"
done
# shellcheck disable=SC2154
wait "$worker1"
# shellcheck disable=SC2154
wait "$worker2"
cat 1.log 2.log
"$POLYPSCOPE" fleet status --manifest s3.jsonl
"$POLYPSCOPE" fleet merge --manifest s3.jsonl --output merged
[ -z "$(ls -A scratch)" ] || { echo "copies were left behind"; exit 1; }
# The same recordings from a folder, by one worker: the same frames.
"$POLYPSCOPE" --quiet fleet run --manifest manifest.jsonl --threads 1 --shard 0/1
"$POLYPSCOPE" --quiet fleet merge --manifest manifest.jsonl --output merged-folder
cmp merged/frames.parquet merged-folder/frames.parquet
cmp merged/polyps.parquet merged-folder/polyps.parquet
echo "results in the bucket are those of a folder, byte for byte"
