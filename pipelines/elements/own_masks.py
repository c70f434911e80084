#!/usr/bin/python3
"""Feeds the masks of a network of your own to polypoverlay.

    own_masks.py [OUTPUT.png]

The "network" here is a threshold on brightness. What it gives for a frame is a small grey picture, as networks do; polypoverlay
enlarges it to the picture's size and draws it.
"""

import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstBase", "1.0")
gi.require_version("GstVideo", "1.0")
from gi.repository import Gst, GstBase, GstVideo  # noqa: E402

Gst.init(None)

WIDTH, HEIGHT = 320, 240
SIDE = 32


def segment(pixels):
    """Your network: bytes of a GRAY8 picture in, a mask of SIDE x SIDE bytes out, not 0 inside."""
    mask = bytearray(SIDE * SIDE)
    for y in range(SIDE):
        for x in range(SIDE):
            value = pixels[((2 * y + 1) * HEIGHT // (2 * SIDE)) * WIDTH + (2 * x + 1) * WIDTH // (2 * SIDE)]
            mask[y * SIDE + x] = 255 if value > 200 else 0
    return bytes(mask)


class OwnMasks(GstBase.BaseTransform):
    """An element around it. (A pad probe will not do: Python holds the buffer there, so that nothing can be attached.)"""

    __gstmetadata__ = ("Own masks", "Filter/Analyzer/Video", "Masks of a network of one's own", "You")
    CAPS = Gst.Caps.from_string(f"video/x-raw,format=GRAY8,width={WIDTH},height={HEIGHT}")
    __gsttemplates__ = (
        Gst.PadTemplate.new("sink", Gst.PadDirection.SINK, Gst.PadPresence.ALWAYS, CAPS),
        Gst.PadTemplate.new("src", Gst.PadDirection.SRC, Gst.PadPresence.ALWAYS, CAPS),
    )

    def do_transform_ip(self, buffer):
        ok, view = buffer.map(Gst.MapFlags.READ)
        if not ok:
            return Gst.FlowReturn.ERROR
        mask = segment(bytes(view.data))
        buffer.unmap(view)
        # A region of interest, here the whole picture, whose parameter holds the mask.
        region = GstVideo.buffer_add_video_region_of_interest_meta(buffer, "anything", 0, 0, WIDTH, HEIGHT)
        fields = Gst.Structure.new_empty("PolypscopeMask")
        fields.set_value("mask", Gst.Buffer.new_wrapped(mask))
        fields.set_value("mask-width", SIDE)
        fields.set_value("mask-height", SIDE)
        region.add_param(fields)
        return Gst.FlowReturn.OK


def main():
    output = sys.argv[1] if len(sys.argv) > 1 else None
    end = f"videoconvert ! pngenc snapshot=true ! filesink location={output}" if output else "fakesink"
    parts = [
        Gst.parse_bin_from_description("videotestsrc num-buffers=1 pattern=ball", True),
        OwnMasks(),
        Gst.parse_bin_from_description(f"polypoverlay opacity=0.5 colour=0xff8000 ! {end}", True),
    ]
    pipeline = Gst.Pipeline.new()
    for part in parts:
        pipeline.add(part)
    parts[0].link(parts[1])
    parts[1].link(parts[2])
    pipeline.set_state(Gst.State.PLAYING)
    message = pipeline.get_bus().timed_pop_filtered(
        Gst.CLOCK_TIME_NONE, Gst.MessageType.EOS | Gst.MessageType.ERROR
    )
    pipeline.set_state(Gst.State.NULL)
    if message.type == Gst.MessageType.ERROR:
        print(message.parse_error()[0].message, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
