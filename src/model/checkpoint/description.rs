//! What a checkpoint says about itself: everything the code must not assume.
//!
//! In: `NAME.json` beside `NAME.safetensors`. Out: [`Description`].

use serde::{Deserialize, Serialize};

use crate::model::{Architecture, Variant};

/// How source pixels become the network's input size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Resize {
    /// Antialiased: the filter widens with the reduction, as Pillow's `BILINEAR` does.
    #[serde(rename = "antialiased bilinear (Pillow BILINEAR)")]
    AntialiasedBilinear,
    /// Four neighbours whatever the reduction, `align_corners=False`, as the published training code does.
    #[serde(rename = "plain bilinear")]
    PlainBilinear,
}

/// Mean figures over one data set, under the `thresholded` protocol at the description's threshold.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    pub count: u64,
    pub m_dice: f64,
    pub m_iou: f64,
}

/// The description of a checkpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Description {
    pub name: String,
    pub network: Variant,
    /// Height and width in pixels.
    pub input_size: [usize; 2],
    pub classes: usize,
    /// Channel order of the input; only `RGB` exists.
    #[serde(default = "rgb")]
    pub colour: String,
    /// Subtracted from values in 0–1, per channel.
    pub mean: [f32; 3],
    /// Divided by afterwards.
    pub std: [f32; 3],
    pub resize: Resize,
    /// Probability from which on a pixel belongs to a polyp.
    pub threshold: f64,
    /// Lower-case hexadecimal SHA-256 of the checkpoint file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// Where the parameters come from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provenance: Option<String>,
    /// Terms of use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub terms: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trained_steps: Option<u64>,
    /// Measured on data sets by name.
    #[serde(default, skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    pub thresholded: std::collections::BTreeMap<String, Figures>,
    #[serde(default, skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    pub heldout: std::collections::BTreeMap<String, Figures>,
}

fn rgb() -> String {
    "RGB".to_owned()
}

impl Description {
    /// The published network's own habits (352x352, ImageNet normalisation, antialiased resize, threshold 0.5): what is
    /// assumed of a checkpoint that comes without a description.
    pub fn published(name: &str, architecture: Architecture) -> Self {
        Self {
            name: name.to_owned(),
            network: architecture.variant,
            input_size: [352, 352],
            classes: architecture.classes,
            colour: rgb(),
            mean: [0.485, 0.456, 0.406],
            std: [0.229, 0.224, 0.225],
            resize: Resize::AntialiasedBilinear,
            threshold: 0.5,
            sha256: None,
            provenance: None,
            terms: None,
            trained_steps: None,
            thresholded: Default::default(),
            heldout: Default::default(),
        }
    }

    pub fn architecture(&self) -> Architecture {
        Architecture { variant: self.network, classes: self.classes }
    }
}
