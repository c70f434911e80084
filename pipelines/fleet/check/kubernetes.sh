#!/bin/bash
# The Kubernetes manifest against the API's schemas; and a misspelt field, which must be refused.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
for version in 1.33 1.34; do
    "$KUBERNETES_VALIDATE" --strict --kubernetes-version "$version" "$here/../kubernetes-job.yaml"
done
sed 's/backoffLimitPerIndex/backoffLimitPerIndx/' "$here/../kubernetes-job.yaml" >"$folder/misspelt.yaml"
if "$KUBERNETES_VALIDATE" --strict --kubernetes-version 1.33 "$folder/misspelt.yaml" >"$folder/said" 2>&1; then
    echo "a misspelt field was not noticed"
    exit 1
fi
echo "a misspelt field is refused: $(grep -i -m 1 indx "$folder/said" || head -n 1 "$folder/said")"
# The arguments are ones that the program knows.
arguments=$(sed -n 's/^ *args: \[\(.*\)\]$/\1/p' "$here/../kubernetes-job.yaml" | tr -d '",')
# shellcheck disable=SC2086
"$POLYPSCOPE" $arguments >"$folder/said" 2>&1 && code=0 || code=$?
grep -q '/plan/manifest.jsonl: cannot be read' "$folder/said" || { cat "$folder/said"; exit 1; }
echo "the program takes the manifest's arguments (and misses /plan, exit code $code)"
