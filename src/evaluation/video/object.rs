//! One polyp of one frame's truth.

use super::region::Region;

/// A polyp of one frame.
#[derive(Clone, Debug, PartialEq)]
pub struct TruthObject {
    /// Which polyp it is; `None` where the truth does not say.
    pub id: Option<u64>,
    /// Its pixels in the picture, or the filled box.
    pub region: Region,
    /// A box around the polyp instead of its pixels.
    pub is_box: bool,
}
