//! Where the figures come from: input, network, machine, and how to read the page.

use super::*;
use crate::replay::episodes::GAP_TOLERANCE_NS;
use crate::replay::polyps::BRIEF_NS;

pub(super) fn section(h: &mut String, c: &Contents) {
    let (s, m) = (c.summary, &c.summary.machine);
    put!(
        h,
        "<section aria-labelledby=\"about\">\n<h2 id=\"about\">This run</h2>\n<dl class=\"about card\">\n"
    );
    row(h, "Input", &s.input);
    if !s.output.is_empty() {
        row(h, "Annotated recording", &s.output);
    }
    let mut picture = format!("{} × {} pixels", s.width_px, s.height_px);
    if !s.format.is_empty() {
        put!(picture, ", {}", s.format);
    }
    row(h, "Picture", &picture);
    let v = s.field_of_view;
    let whole = v.x == 0 && v.y == 0 && (v.w, v.h) == (s.width_px, s.height_px);
    let view = if v.is_empty() {
        "none found".to_owned()
    } else if whole {
        "the whole picture".to_owned()
    } else {
        format!("{} × {} pixels at {}, {}", v.w, v.h, v.x, v.y)
    };
    row(h, "Field of view", &view);
    let mut frames = format!("{} read, {} written", grouped(s.frames.read), grouped(s.frames.written));
    if s.irregular_timestamps > 0 {
        put!(
            frames,
            "; {} repeated, ran back or jumped",
            count(s.irregular_timestamps, "timestamp", "timestamps")
        );
    }
    row(h, "Frames", &frames);
    if !s.audio.is_empty() {
        row(h, "Sound", &s.audio);
    }
    let status = match s.marks.status_rect {
        Some(r) => format!("status at {}, {} ({} × {} pixels), besides the polyps", r.x, r.y, r.w, r.h),
        None => "nothing besides the polyps".to_owned(),
    };
    row(h, "Drawn on the picture", &status);
    put!(h, "<div><dt>Checkpoint</dt><dd>{}", Escaped(&s.checkpoint));
    if !s.checkpoint_sha256.is_empty() {
        let short: String = s.checkpoint_sha256.chars().take(12).collect();
        put!(
            h,
            " <span class=\"sha\" title=\"SHA-256 {}\">SHA-256 <code>{}</code>…</span>",
            Escaped(&s.checkpoint_sha256),
            Escaped(&short)
        );
    }
    put!(h, "</dd></div>\n");
    row(h, "Threshold", &significant(s.threshold));
    row(h, "Engine", &s.engine);
    let mut machine = m.cpu.clone();
    if m.cores > 0 {
        put!(machine, ", {}", count(m.cores as u64, "core", "cores"));
    }
    if m.memory_bytes > 0 {
        put!(machine, ", {} memory", bytes(m.memory_bytes));
    }
    if !m.system.is_empty() {
        put!(machine, ", {}", m.system);
    }
    row(h, "Machine", &machine);
    if !m.features.is_empty() {
        row(h, "Processor extensions", &m.features.join(", "));
    }
    if s.peak_rss_bytes > 0 {
        row(h, "Peak memory", &bytes(s.peak_rss_bytes));
    }
    let confirm = &s.confirm;
    if let Some(n) = &confirm.numbers {
        row(h, "Confirmation", &format!("{}: {}", confirm.setting, n.sentence()));
        let gated: Vec<String> =
            confirm.gated_frames.iter().map(|(reason, n)| format!("{} {reason}", grouped(*n))).collect();
        let seen =
            format!("{} seen, {} confirmed", grouped(confirm.tracks), grouped(confirm.confirmed_tracks));
        row(h, "Tracks", &seen);
        if !gated.is_empty() {
            row(h, "Frames that start no track", &gated.join(", ").replace('_', " "));
        }
    } else if !confirm.setting.is_empty() {
        row(h, "Confirmation", "off: every frame stands alone");
    }
    put!(h, "</dl>\n<div class=\"reading\">\n<h3>How to read this report</h3>\n");
    match &confirm.numbers {
        Some(n) => put!(
            h,
            "<p>A <b>polyp</b> is what was followed from frame to frame until it had been seen for {} ms: before that it is \
             <b>tentative</b> and nothing is drawn, so the first alarm comes that much later than the first sight. A track that \
             is confirmed no more than {} s after another ended, where that one would lie by then, is the same polyp. What was drawn for less than {} is a <b>brief alarm</b> and \
             not counted as a polyp; this recording has {}. ",
            n.confirm_ms,
            n.gap_ms / 1000.0,
            span(BRIEF_NS),
            c.summary.brief_alarms.len()
        ),
        None => put!(
            h,
            "<p>An <b>episode</b> is a stretch of frames on which polyps are marked; gaps of up to {} are joined. Nothing is \
             withheld: a single marked frame is an episode. ",
            span(GAP_TOLERANCE_NS)
        ),
    }
    put!(
        h,
        "Its <b>best frame</b> is where the network was surest: where the \
         marked pixels, each counted by how far its probability lies above one half, add up to the most. <b>Area</b> is \
         the share of the field of view that is marked. A <b>probability</b> is the network’s own output and not the \
         chance that there is a polyp.</p>\n\
         <p>Every frame’s figures are in <code>{}</code>, this run’s in <code>{}</code>, beside this file.</p>\n</div>\n\
         </section>\n",
        crate::replay::report::FRAMES,
        crate::replay::report::SUMMARY
    );
}

fn row(h: &mut String, label: &str, value: &str) {
    put!(h, "<div><dt>{label}</dt><dd>{}</dd></div>\n", Escaped(if value.is_empty() { "–" } else { value }));
}
