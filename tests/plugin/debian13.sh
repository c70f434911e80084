#!/bin/bash
# The plugin under GStreamer 1.26: Debian 13 in a folder, the plugin's file as it was made here, Python as its reader.
#
#   debian13.sh PLUGIN FOLDER      (as root)
#
# Libraries that Debian 13 does not have in this version (OpenCV's) are taken along from this machine.
set -euo pipefail
plugin=$(realpath "$1")
root=$2
here=$(dirname "$(realpath "$0")")
repository=$(realpath "$here/../..")

if [ ! -f "$root/.ready" ]; then
    mkdir -p "$root"
    debootstrap --variant=minbase --include=ca-certificates trixie "$root" >"$root.log" 2>&1 ||
        { tail -n 3 "$root.log"; exit 1; }
    chroot "$root" apt-get update -qq
    chroot "$root" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
        gstreamer1.0-tools gstreamer1.0-plugins-base gstreamer1.0-plugins-bad python3-gi python3-gst-1.0 \
        gir1.2-gst-plugins-base-1.0 gir1.2-gst-plugins-bad-1.0 libstdc++6 >>"$root.log" 2>&1 ||
        { tail -n 3 "$root.log"; exit 1; }
    touch "$root/.ready"
fi

mkdir -p "$root/polypscope/plugins" "$root/polypscope/lib"
rm -f "$root"/polypscope/lib/*
cp "$plugin" "$root/polypscope/plugins/libgstpolypscope.so"
cp "$repository"/weights/m2snet-polyp.* "$root/polypscope/"
cp "$here/analytics.py" "$root/polypscope/"

# What the plugin needs and Debian 13 lacks, and what that needs in turn.
env=(env LD_LIBRARY_PATH=/polypscope/lib GST_PLUGIN_PATH=/polypscope/plugins GST_REGISTRY=/tmp/registry.bin
    POLYPSCOPE_WEIGHTS=/polypscope/m2snet-polyp.safetensors)
for _ in 1 2 3 4 5; do
    missing=$(chroot "$root" "${env[@]}" ldd /polypscope/plugins/libgstpolypscope.so | awk '/not found/ {print $1}' | sort -u)
    [ -n "$missing" ] || break
    for name in $missing; do
        file=$(ldconfig -p | awk -v n="$name" '$1 == n {print $NF; exit}')
        [ -n "$file" ] || { echo "$name is neither in Debian 13 nor here"; exit 1; }
        cp -L "$file" "$root/polypscope/lib/$name"
    done
done

rm -f "$root/tmp/registry.bin"
chroot "$root" "${env[@]}" gst-inspect-1.0 --version | head -n 1
chroot "$root" "${env[@]}" gst-inspect-1.0 polypscope | grep -q '4 features'
chroot "$root" "${env[@]}" python3 /polypscope/analytics.py
