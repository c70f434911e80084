#!/bin/bash
# A small archive for the engines' checks: four phantoms, planned into four shards. Prints its folder.
#
#   archive.sh FOLDER [options of `polypscope fleet plan`]
set -eu
folder=${1:?usage: archive.sh FOLDER [OPTIONS]}
shift
mkdir -p "$folder/videos"
for seed in 1 2 3 4; do
    "$POLYPSCOPE" --quiet phantom --seconds "$seed" --size 160x128 --fps 10 --seed "$seed" --output "$folder/videos/$seed.mp4"
done
cd "$folder"
"$POLYPSCOPE" fleet plan videos --store store --input-size 64 --precision f32 --segment-seconds 1 --shards 4 "$@"
