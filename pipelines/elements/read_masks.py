#!/usr/bin/python3
"""Prints one JSON line a frame: what polypsegment found on it.

    read_masks.py LAUNCH

LAUNCH is a pipeline in gst-launch-1.0's words, up to and with polypsegment:

    read_masks.py "polypphantomsrc num-frames=50 ! polypsegment sync=true"
"""

import json
import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstApp", "1.0")
from gi.repository import Gst, GstApp  # noqa: E402, F401


def found(buffer):
    """The fields of a buffer's mask metadata; None where there is none."""
    meta = buffer.get_custom_meta("PolypscopeMask")
    if meta is None:
        return None
    fields = meta.get_structure()
    out = {
        "pts": buffer.pts,
        "state": fields.get_value("state"),
        "frame": fields.get_value("frame"),
        "age_ms": (fields.get_value("age") or 0) / 1e6,
        "area": fields.get_value("area") or 0,
        "regions": [],
    }
    for region in fields.get_value("regions") or []:
        out["regions"].append(
            {key: region.get_value(key) for key in ("x", "y", "width", "height", "probability", "track-id")}
        )
    # The mask: one byte a pixel, 255 inside, over a rectangle of the picture.
    mask = fields.get_value("mask")
    if mask is not None:
        ok, view = mask.map(Gst.MapFlags.READ)
        if ok:
            out["marked"] = sum(1 for value in bytes(view.data) if value)
            mask.unmap(view)
    return out


def main():
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    Gst.init(None)
    pipeline = Gst.parse_launch(sys.argv[1] + " ! appsink name=out sync=false max-buffers=4")
    sink = pipeline.get_by_name("out")
    pipeline.set_state(Gst.State.PLAYING)
    while True:
        sample = sink.pull_sample()
        if sample is None:
            break
        print(json.dumps(found(sample.get_buffer())))
    error = pipeline.get_bus().pop_filtered(Gst.MessageType.ERROR)
    pipeline.set_state(Gst.State.NULL)
    if error is not None:
        print(error.parse_error()[0].message, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
