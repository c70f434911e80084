//! Boxes as PASCAL VOC writes them, with the lesions of REAL-Colon: an XML file flows in, boxes with names flow out.

use std::path::Path;

use roxmltree::{Document, Node};

use super::object::TruthObject;
use super::region::{Bounds, LONGEST_SIDE, MOST_BOXES, Region};
use crate::{Error, Result, small_file};

/// One frame's annotation.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Annotation {
    /// Width and height of the frame.
    pub size: (usize, usize),
    boxes: Vec<(Option<String>, Bounds)>,
}

/// # Errors
/// A file that is no such XML, a box that is none.
pub(super) fn read(path: &Path) -> Result<Annotation> {
    let text = small_file::read_text(path, small_file::SMALL, "an annotation")?;
    parse(&text).map_err(|what| {
        Error::input(format!("{}: {what}", path.display()))
            .remedy("give the annotations as they were published (PASCAL VOC)")
    })
}

fn parse(text: &str) -> std::result::Result<Annotation, String> {
    let document = Document::parse(text).map_err(|e| format!("is no XML ({e})"))?;
    let root = document.root_element();
    let child = |node: Node<'_, '_>, name: &str| -> Option<String> {
        let found = node.children().find(|c| c.has_tag_name(name))?;
        Some(found.text()?.trim().to_owned())
    };
    let number = |node: Node<'_, '_>, name: &str| -> std::result::Result<f64, String> {
        let text = child(node, name).ok_or_else(|| format!("has no <{name}>"))?;
        text.parse()
            .ok()
            .filter(|v: &f64| v.is_finite())
            .ok_or_else(|| format!("<{name}> is {text:?}, no number"))
    };
    let size = root.children().find(|c| c.has_tag_name("size")).ok_or("has no <size>")?;
    let longest = f64::from(LONGEST_SIDE);
    let (w, h) = (number(size, "width")?, number(size, "height")?);
    if !(w >= 1.0 && h >= 1.0 && w < longest && h < longest) {
        return Err(format!("its size {w}x{h} is none"));
    }
    let mut boxes = Vec::new();
    for object in root.children().filter(|c| c.has_tag_name("object")) {
        if boxes.len() == MOST_BOXES {
            return Err(format!("has more than {MOST_BOXES} boxes"));
        }
        let b = object.children().find(|c| c.has_tag_name("bndbox")).ok_or("an <object> has no <bndbox>")?;
        let (x0, y0) = (number(b, "xmin")?, number(b, "ymin")?);
        let (x1, y1) = (number(b, "xmax")?, number(b, "ymax")?);
        if !(x0 < x1 && y0 < y1 && x0 < w && y0 < h && x1 > 0.0 && y1 > 0.0) {
            return Err(format!("{:?} is no box within {w}x{h}", [x0, y0, x1, y1]));
        }
        let bounds = Bounds::of_pixels([x0, y0, x1, y1], w, h);
        boxes.push((child(object, "unique_id").filter(|id| !id.is_empty()), bounds));
    }
    Ok(Annotation { size: (w as usize, h as usize), boxes })
}

impl Annotation {
    /// The lesions of the frame; several boxes of one lesion are one region. New names are added to `lesions`. If a box
    /// has no name, none has.
    pub fn objects(&self, lesions: &mut Vec<String>) -> Vec<TruthObject> {
        let named = self.boxes.iter().all(|(name, _)| name.is_some());
        let mut out: Vec<TruthObject> = Vec::new();
        for (name, bounds) in &self.boxes {
            let region = Region::from_bounds(*bounds);
            let id = name.as_ref().filter(|_| named).map(|name| {
                let at = lesions.iter().position(|l| l == name).unwrap_or_else(|| {
                    lesions.push(name.clone());
                    lesions.len() - 1
                });
                at as u64 + 1
            });
            match out.iter_mut().find(|o| id.is_some() && o.id == id) {
                Some(object) => object.region = Region::union([&object.region, &region]),
                None => out.push(TruthObject { id, region, is_box: true }),
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn annotation(objects: &str) -> String {
        format!(
            "<?xml version=\"1.0\"?>\n<annotation><folder>002-001_frames</folder><size><width>1240</width>\
             <height>1080</height><depth>3</depth></size>{objects}</annotation>"
        )
    }

    fn object(name: &str, b: [&str; 4]) -> String {
        format!(
            "<object><name>lesion</name>{name}<box_id>1</box_id><bndbox><xmin>{}</xmin><xmax>{}</xmax><ymin>{}</ymin>\
             <ymax>{}</ymax></bndbox></object>",
            b[0], b[1], b[2], b[3]
        )
    }

    #[test]
    fn boxes_belong_to_lesions_by_name() {
        let id = |n: u32| format!("<unique_id>002-001_{n}</unique_id>");
        let text = annotation(
            &[
                object(&id(7), ["540", "1196", "852", "1070"]),
                object(&id(2), ["1", "11.4", "1", "11"]),
                object(&id(7), ["100", "110", "100", "110"]),
            ]
            .concat(),
        );
        let a = parse(&text).unwrap();
        assert_eq!(a.size, (1240, 1080));
        let mut lesions = vec!["002-001_1".to_owned(), "002-001_2".to_owned()];
        let objects = a.objects(&mut lesions);
        assert_eq!(objects.iter().map(|o| o.id).collect::<Vec<_>>(), [Some(3), Some(2)]);
        assert_eq!(objects[0].region.area_px(), 656 * 218 + 100);
        assert_eq!(objects[1].region.bounds(), Bounds { x0: 1, y0: 1, x1: 11, y1: 11 });
        assert!(objects.iter().all(|o| o.is_box));
        assert!(parse(&annotation("")).unwrap().objects(&mut lesions).is_empty());
        let nameless = parse(&annotation(&object("", ["1", "2", "3", "4"]))).unwrap();
        assert_eq!(nameless.objects(&mut lesions)[0].id, None);
    }

    #[test]
    fn what_is_no_annotation_is_refused_by_what_is_wrong() {
        for (text, says) in [
            ("<annotation>".to_owned(), "no XML"),
            ("<annotation/>".to_owned(), "no <size>"),
            (annotation(&object("", ["9", "2", "3", "4"])), "no box within 1240x1080"),
            (annotation(&object("", ["x", "2", "3", "4"])), "<xmin>"),
            (annotation("<object/>"), "no <bndbox>"),
            (annotation(&object("", ["1", "2", "3", "4"]).repeat(1001)), "more than 1000 boxes"),
            (annotation("").replace("1240", "32768"), "its size 32768x1080"),
        ] {
            let e = parse(&text).unwrap_err();
            assert!(e.contains(says), "{e}");
        }
    }

    #[test]
    fn sizes_are_from_one_pixel_to_the_widest_picture() {
        let sized = |w: &str, h: &str| {
            parse(&format!("<annotation><size><width>{w}</width><height>{h}</height></size></annotation>"))
        };
        for (w, h) in [("1", "1"), ("32767", "32767")] {
            let size = (w.parse().unwrap(), h.parse().unwrap());
            assert_eq!(sized(w, h).unwrap().size, size);
        }
        for bad in ["0", "0.5", "-3", "32768"] {
            assert!(sized(bad, "9").unwrap_err().contains("size"), "{bad}");
            assert!(sized("9", bad).unwrap_err().contains("size"), "{bad}");
        }
    }

    #[test]
    fn a_box_has_an_area_within_the_picture_and_is_rounded() {
        let boxed = |b: [&str; 4]| parse(&annotation(&object("", b)));
        let bounds = |b: [&str; 4]| boxed(b).unwrap().boxes[0].1;
        // Left, right, top, bottom.
        for empty in [
            ["5", "5", "1", "9"],
            ["1", "9", "5", "5"],
            ["1240", "1250", "1", "9"],
            ["1", "9", "1080", "1090"],
            ["-9", "0", "1", "9"],
            ["1", "9", "-9", "0"],
        ] {
            assert!(boxed(empty).unwrap_err().contains("no box"), "{empty:?}");
        }
        assert_eq!(bounds(["-3", "1.5", "2.4", "2000"]), Bounds { x0: 0, y0: 2, x1: 2, y1: 1080 });
        assert_eq!(bounds(["1239", "1241", "-1", "1"]), Bounds { x0: 1239, y0: 0, x1: 1240, y1: 1 });
    }

    #[test]
    fn one_box_without_a_name_leaves_all_of_its_frame_without() {
        let named = object("<unique_id>a</unique_id>", ["1", "9", "1", "9"]);
        let nameless = object("", ["20", "29", "1", "9"]);
        let mut lesions = Vec::new();
        let objects = parse(&annotation(&[named, nameless].concat())).unwrap().objects(&mut lesions);
        assert_eq!(objects.iter().map(|o| o.id).collect::<Vec<_>>(), [None, None]);
    }
}
