#!/bin/bash
# How many shards a manifest has: what an engine's array is as long as.
sed -n '1s/.*"shards":\([0-9]*\).*/\1/p' "${1:?usage: shards.sh MANIFEST}"
