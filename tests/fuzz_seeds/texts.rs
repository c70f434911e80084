//! Truth, detections, kept maps, data sets.

use polypscope::evaluation::video::{FrameMap, KEPT_FIRST_LINE, kept_entry};
use polypscope::frame::{FrameId, Pts, Rect};

use super::{Seed, pictures, seed};

pub fn truth() -> Vec<Seed> {
    let boxes = "{\"width\":16,\"height\":16,\"frames\":[[{\"bbox\":[1,2,13,5.5],\"id\":7},{\"bbox\":[-1,8,3,99],\"id\":8}],[],null]}";
    vec![
        seed("boxes.json", boxes),
        seed("nameless.json", "{\"width\":16,\"height\":16,\"frames\":[[{\"bbox\":[1,2,13,5]}]]}"),
        seed(
            "phantom.jsonl",
            "{\"frame\":0,\"pts_ns\":0,\"polyps\":[{\"bbox\":[3,2,2,4]}]}\n\n{\"frame\":1}\n",
        ),
        pictures::identities(),
        pictures::mask(),
    ]
}

pub fn detections() -> Vec<Seed> {
    let line = |frame: u32, polyps: &str| {
        format!(
            "{{\"frame\":{frame},\"pts_ns\":{},\"state\":\"active\",\"area_px\":4,\"polyps\":[{polyps}],\"timings_us\":{{}}}}\n",
            frame * 40_000_000
        )
    };
    let polyp = |contour: &str| format!("{{\"bbox\":[1,1,2,2],\"area_px\":4,\"contour\":{contour}}}");
    let square = polyp("[[1,1],[2,1],[2,2],[1,2]]");
    let star = polyp("[[10,0],[12,8],[20,9],[12,12],[10,20],[8,12],[0,9],[8,8]]");
    vec![
        seed("one.jsonl", line(0, &square)),
        seed("none.jsonl", line(0, "")),
        seed("lost.jsonl", line(0, &square) + &line(3, &[square.as_str(), &star].join(","))),
    ]
}

pub fn maps() -> Vec<Seed> {
    let file = |classes: usize, view: Rect| {
        let mut bytes = format!("{KEPT_FIRST_LINE}\n").into_bytes();
        let mut logits = vec![-4f32; classes * 16];
        logits[5] = 3.25;
        for frame in [0, 2] {
            let map = FrameMap {
                frame: FrameId(frame),
                pts: Pts(frame * 40_000_000),
                picture: None,
                picture_size: (60, 50),
                view,
                scenery: view,
                logits: &logits,
                classes,
                size: (4, 4),
                level: 0.0,
            };
            let mut entry = Vec::new();
            kept_entry(&map, &mut entry).expect("an entry");
            bytes.extend(entry);
        }
        bytes
    };
    vec![
        seed("one-class", file(1, Rect::new(10, 5, 40, 40))),
        seed("two-classes", file(2, Rect::full(60, 50))),
    ]
}

pub fn datasets() -> Vec<Seed> {
    let xml = |objects: &str| {
        format!(
            "<?xml version=\"1.0\"?>\n<annotation><folder>002-001_frames</folder><size><width>1240</width><height>1080</height>\
             <depth>3</depth></size>{objects}</annotation>"
        )
    };
    let object = |id: &str, end: u32| {
        format!(
            "<object><name>lesion</name><unique_id>{id}</unique_id><bndbox><xmin>540</xmin><xmax>{end}</xmax><ymin>852.5</ymin>\
             <ymax>1070</ymax></bndbox></object>"
        )
    };
    let lesions = [object("002-001_1", 600), object("002-001_2", 700), object("002-001_1", 900)].concat();
    let table = "\u{feff}unique_video_name,unique_object_id,age,fps,note\r\n001-001,001-001_1,60,25,\r\n\
                 002-001,002-001_1,\"61, about\",29.97,\"a \"\"b\"\"\"\r\n";
    vec![
        seed("clean.xml", xml("")),
        seed("lesions.xml", xml(&lesions)),
        seed("nameless.xml", xml(&object("", 600))),
        seed("table.csv", table),
    ]
}

pub fn names() -> Vec<Seed> {
    vec![
        seed("sun-seg", "image_1.png\nimage_2.png\nimage_10.jpg\ngt image_1.png\ngt image_10.png\n"),
        seed("cvc", "1-1.png\n1-1_Mask.png\n1-2.png\n1-2-gt.tif\n1-11.png\n"),
        seed("numbers", "gt 000000.png\ngt 000002.png\nThumbs.db\n._000000.png\n"),
        seed(
            "folders",
            "p1/a.png\np1/b.PNG\np2/a.jpeg\ngt p1/a_segmentation.png\ngt p1/b.png\ngt p2/a-mask.bmp\n",
        ),
        seed("accents", "e\u{301}.png\ngt \u{e9}.png\n"),
    ]
}

/// The run lengths of a COCO json as text: five bits a letter, low ones first, each after the third as a difference.
fn compressed(counts: &[i64]) -> String {
    let mut text = String::new();
    for (i, &count) in counts.iter().enumerate() {
        let mut value = if i > 2 { count - counts[i - 2] } else { count };
        loop {
            let bits = value & 31;
            value >>= 5;
            let last = if bits & 16 == 0 { value == 0 } else { value == -1 };
            text.push((48 + bits + if last { 0 } else { 32 }) as u8 as char);
            if last {
                break;
            }
        }
    }
    text
}

pub fn training_data() -> Vec<Seed> {
    let coco = |segmentation: &str| {
        format!(
            "{{\"images\":[{{\"id\":1,\"file_name\":\"a.png\"}},{{\"id\":2,\"file_name\":\"images/b.png\"}},\
             {{\"id\":3,\"file_name\":\"c.png\"}}],\"annotations\":[{{\"image_id\":1,\"category_id\":7,\"segmentation\":\
             {segmentation}}}],\"categories\":[{{\"id\":9,\"name\":\"tool\"}},{{\"id\":7,\"name\":\"polyp\"}}]}}"
        )
    };
    let runs = |counts: &str| coco(&format!("{{\"size\":[16,16],\"counts\":{counts}}}"));
    let text = format!("{:?}", compressed(&[70, 10, 6, 100, 40, 30]));
    vec![
        seed("polygons.json", coco("[[2,1,6,1,6,5,2.5,5],[3,2,5,2,5,4]]")),
        seed("runs.json", runs("[100,56,100]")),
        seed("compressed.json", runs(&text)),
        seed("nothing.json", "{\"images\":[{\"id\":1,\"file_name\":\"../set/images/a.png\"}]}"),
        seed(
            "list.txt",
            "# set\nimages/a.png masks/a.png\nimages/b.png\t-\nimages/a.png, masks/a.png\nimages/b.png\n",
        ),
    ]
}
