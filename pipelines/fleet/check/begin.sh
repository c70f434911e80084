# Sourced by the checks: a small archive in a folder of its own, which goes at the end. Sets `here` and `folder`, and stays in it.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"$here/archive.sh" "$folder"
cd "$folder"
