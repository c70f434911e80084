"""Reads GStreamer's own segmentation metadata of polypsegment, and has polypoverlay draw that of another element (1.26)."""

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstAnalytics", "1.0")
gi.require_version("GstBase", "1.0")
gi.require_version("GstVideo", "1.0")
from gi.repository import Gst, GstAnalytics, GstBase, GstVideo  # noqa: E402

Gst.init(None)

frames = {"all": 0, "marked": 0, "regions": 0, "tracks": 0}


def segmentation(relations):
    for i in range(GstAnalytics.relation_get_length(relations)):
        found, mtd = relations.get_segmentation_mtd(i)
        if found:
            return mtd
    return None


# What is wrong in a probe is only printed there.
wrong = []


def careful(probe):
    def run(pad, info):
        try:
            return probe(pad, info)
        except Exception as error:
            wrong.append(repr(error))
            return Gst.PadProbeReturn.OK

    return run


def look(pad, info):
    buffer = info.get_buffer()
    fields = buffer.get_custom_meta("PolypscopeMask").get_structure()
    frames["all"] += 1
    relations = GstAnalytics.buffer_get_analytics_relation_meta(buffer)
    if fields.get_value("mask") is None:
        # A buffer of a pool keeps the meta of its last use, emptied.
        assert relations is None or GstAnalytics.relation_get_length(relations) == 0
        return Gst.PadProbeReturn.OK
    frames["marked"] += 1
    mtd = segmentation(relations)
    assert mtd is not None
    mask, x, y, w, h = mtd.get_mask()
    assert (x, y) == (fields.get_value("mask-x"), fields.get_value("mask-y"))
    assert (w, h) == (fields.get_value("mask-width"), fields.get_value("mask-height"))
    assert mtd.get_region_count() == 2 and mtd.get_region_id(1) == 255
    ok, view = mask.map(Gst.MapFlags.READ)
    assert ok and sum(1 for v in bytes(view.data) if v == 255) == fields.get_value("area")
    mask.unmap(view)
    for i in range(GstAnalytics.relation_get_length(relations)):
        found, od = relations.get_od_mtd(i)
        if found:
            frames["regions"] += 1
            assert relations.get_relation(mtd.id, od.id) == GstAnalytics.RelTypes.CONTAIN
        found, track = relations.get_tracking_mtd(i)
        if found:
            frames["tracks"] += 1
    return Gst.PadProbeReturn.OK


def run(line, probe):
    pipeline = Gst.parse_launch(line)
    pipeline.get_by_name("probe").get_static_pad("src").add_probe(Gst.PadProbeType.BUFFER, careful(probe))
    pipeline.set_state(Gst.State.PLAYING)
    kinds = Gst.MessageType.EOS | Gst.MessageType.ERROR
    message = pipeline.get_bus().timed_pop_filtered(300 * Gst.SECOND, kinds)
    assert message is not None and message.type == Gst.MessageType.EOS, message and message.parse_error()
    pipeline.set_state(Gst.State.NULL)


phantom = "polypphantomsrc is-live=false width=320 height=240 fps=25 seconds=4 num-frames=12 seed=1 preset=calm"
network = "polypsegment sync=true confirm=sensitive input-size=128 precision=f32"
run(f"{phantom} ! {network} ! identity name=probe ! fakesink", look)
assert not wrong, wrong
assert frames["all"] == 12 and frames["marked"] > 0 and frames["regions"] > 0 and frames["tracks"] > 0, frames


class OtherNetwork(GstBase.BaseTransform):
    __gstmetadata__ = ("Other network", "Filter", "Attaches a mask", "A test")
    CAPS = Gst.Caps.from_string("video/x-raw,format=GRAY8,width=160,height=120")
    __gsttemplates__ = (
        Gst.PadTemplate.new("sink", Gst.PadDirection.SINK, Gst.PadPresence.ALWAYS, CAPS),
        Gst.PadTemplate.new("src", Gst.PadDirection.SRC, Gst.PadPresence.ALWAYS, CAPS),
    )

    def do_transform_ip(self, buffer):
        mask = Gst.Buffer.new_wrapped(bytes([0, 7, 7, 0]))
        GstVideo.buffer_add_video_meta_full(
            mask, GstVideo.VideoFrameFlags.NONE, GstVideo.VideoFormat.GRAY8, 2, 2, 1, [0, 0, 0, 0], [2, 0, 0, 0]
        )
        relations = GstAnalytics.buffer_add_analytics_relation_meta(buffer)
        kind = GstAnalytics.SegmentationType.SEMANTIC
        ok, _ = relations.add_segmentation_mtd(mask, kind, [0, 7], 40, 40, 20, 20)
        return Gst.FlowReturn.OK if ok else Gst.FlowReturn.ERROR


drawn = {}


def after(pad, info):
    buffer = info.get_buffer()
    ok, view = buffer.map(Gst.MapFlags.READ)
    drawn["bytes"] = bytes(view.data)
    buffer.unmap(view)
    return Gst.PadProbeReturn.OK


parts = [
    Gst.parse_bin_from_description("videotestsrc num-buffers=1 pattern=black", True),
    OtherNetwork(),
    Gst.parse_bin_from_description("polypoverlay ! identity name=end ! fakesink", True),
]
pipeline = Gst.Pipeline.new()
for part in parts:
    pipeline.add(part)
parts[0].link(parts[1])
parts[1].link(parts[2])
pipeline.get_by_name("end").get_static_pad("src").add_probe(Gst.PadProbeType.BUFFER, after)
pipeline.set_state(Gst.State.PLAYING)
pipeline.get_bus().timed_pop_filtered(60 * Gst.SECOND, Gst.MessageType.EOS)
pipeline.set_state(Gst.State.NULL)
background = drawn["bytes"][0]
marked = {(i % 160, i // 160) for i, v in enumerate(drawn["bytes"]) if v != background}
assert marked and all((50 <= x < 60) == (40 <= y < 50) and 40 <= x < 60 and 40 <= y < 60 for x, y in marked), marked

print("GStreamer", ".".join(map(str, Gst.version()[:3])), frames)
