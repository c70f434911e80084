//! What a result depends on besides the recording and the checkpoint.
//!
//! In: the options of a plan. Out: the same as data, the digest that goes into every unit's key, and the parts a run is
//! set up with. What does not change a result (the device, the number of threads) is no setting.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::frame::Nanos;
use crate::hexadecimal::hexadecimal;
use crate::preprocess::FieldOfView;
use crate::tracks::{Confirm, Numbers, SharedFilter};
use crate::{Error, Result};

/// Raised whenever the same recording, checkpoint and settings come to another result or another form of it.
pub const RESULTS: u32 = 1;

/// See the module.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// `off`, `sensitive`, `balanced` or `quiet`.
    pub confirm: String,
    /// Share of the field of view that a region must have; the setting's own where null.
    pub least_region: Option<f32>,
    /// Probability from which on a pixel is marked; the checkpoint's own where null.
    pub threshold: Option<f64>,
    /// `auto`, `full` or `X,Y,W,H`.
    pub field_of_view: String,
    /// As on the command line. `auto` may be another precision on another machine, and so another result.
    pub precision: String,
    /// Pixels a side of the network's input; the checkpoint's own where null.
    pub input_size: Option<usize>,
    /// How much of a recording is computed anew after a kill, at most twice this.
    pub segment_ms: u64,
    /// Whether pictures of what was found are kept: the field of view alone.
    pub thumbnails: bool,
    /// Frames a second of folders of pictures.
    pub stills_fps: (u32, u32),
}

impl Settings {
    /// The setting of the filter.
    ///
    /// # Errors
    /// A name nobody knows.
    pub fn confirm(&self) -> Result<Confirm> {
        self.confirm.parse()
    }

    /// A filter set accordingly.
    ///
    /// # Errors
    /// As [`Self::confirm`].
    pub fn filter(&self) -> Result<SharedFilter> {
        Ok(SharedFilter::new(self.confirm()?).with_least(self.least_region))
    }

    /// What the setting stands for; none where every frame stands alone.
    ///
    /// # Errors
    /// As [`Self::confirm`].
    pub fn numbers(&self) -> Result<Option<Numbers>> {
        let filter = self.filter()?;
        Ok(filter.numbers(filter.setting()))
    }

    /// What is analysed of a picture.
    ///
    /// # Errors
    /// Text that is no field of view.
    pub fn view(&self) -> Result<FieldOfView> {
        self.field_of_view.parse()
    }

    /// How long a segment is before it may end.
    pub fn segment(&self) -> Nanos {
        Nanos(self.segment_ms.saturating_mul(1_000_000))
    }

    /// A digest of all of it, of the program's version, and of the checkpoint's.
    pub(super) fn digest(&self, checkpoint_sha256: &str) -> Result<String> {
        let text = serde_json::to_string(&(RESULTS, env!("CARGO_PKG_VERSION"), checkpoint_sha256, self))
            .map_err(|e| Error::internal("the settings cannot be put into JSON").because(e))?;
        Ok(hexadecimal(&Sha256::digest(text)))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(crate) fn settings() -> Settings {
        Settings {
            confirm: "balanced".into(),
            least_region: None,
            threshold: None,
            field_of_view: "full".into(),
            precision: "f32".into(),
            input_size: None,
            segment_ms: 300_000,
            thumbnails: true,
            stills_fps: (25, 1),
        }
    }

    #[test]
    fn every_setting_is_part_of_the_digest() {
        let base = settings();
        let mut seen = vec![base.digest("a").unwrap(), base.digest("b").unwrap()];
        let changes: [fn(&mut Settings); 9] = [
            |s| s.confirm = "off".into(),
            |s| s.least_region = Some(0.001),
            |s| s.threshold = Some(0.4),
            |s| s.field_of_view = "auto".into(),
            |s| s.precision = "bf16".into(),
            |s| s.input_size = Some(64),
            |s| s.segment_ms = 1,
            |s| s.thumbnails = false,
            |s| s.stills_fps = (30, 1),
        ];
        for change in changes {
            let mut s = base.clone();
            change(&mut s);
            seen.push(s.digest("a").unwrap());
        }
        assert_eq!(seen[0], base.digest("a").unwrap());
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), 11);
    }
}
