//! What `--keep-maps` wrote and `--maps` reads: a line of JSON a frame, and its logits.

use polypscope::evaluation::video::KeptMaps;

use super::{file, taken};

pub fn run(bytes: &[u8]) -> bool {
    let Some(mut kept) = taken(KeptMaps::open(&file("maps", bytes))) else { return false };
    let mut before = None;
    for _ in 0..64 {
        match taken(kept.advance()) {
            None => return false,
            Some(false) => return before.is_some(),
            Some(true) => {}
        }
        assert!(before < Some(kept.frame()), "frames in their order");
        before = Some(kept.frame());
        let map = kept.map(None);
        assert_eq!(map.logits.len(), map.classes * map.size.0 * map.size.1);
        let view = map.view;
        let Some(found) = taken(kept.detections()) else { return false };
        for region in &found.regions {
            let b = region.bounds();
            assert!(b.x0 as u32 >= view.x && b.y0 as u32 >= view.y);
            assert!(b.x1 as u32 <= view.x + view.w && b.y1 as u32 <= view.y + view.h);
        }
    }
    true
}
