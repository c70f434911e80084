//! What a checkpoint says about itself: everything the code must not assume.
//!
//! In: `NAME.json` beside `NAME.safetensors`, or the same text in the safetensors' own metadata. Out: [`Description`].

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::model::{Architecture, Variant, is_side};
use crate::small_file::{self, SMALL};
use crate::{Error, Result};

/// Key of a safetensors file's metadata under which the description travels inside the file (without its SHA-256).
pub(super) const METADATA_KEY: &str = "polypscope.description";

/// More classes than any data set of this field has; bounds what a file's header can make us allocate.
pub(super) const MOST_CLASSES: usize = 1024;

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

impl std::fmt::Display for Resize {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Resize::AntialiasedBilinear => "antialiased bilinear (Pillow BILINEAR)",
            Resize::PlainBilinear => "plain bilinear",
        })
    }
}

/// Mean figures over one data set, under the `thresholded` protocol at the description's threshold.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// Pictures that were measured.
    pub count: u64,
    /// Mean Dice over the pictures, 0 to 1.
    pub m_dice: f64,
    /// Mean intersection over union over the pictures, 0 to 1.
    pub m_iou: f64,
}

/// The description of a checkpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Description {
    /// What outputs call the checkpoint: mostly the stem of its file.
    pub name: String,
    /// Which of the two networks.
    pub network: Variant,
    /// Height and width in pixels.
    pub input_size: [usize; 2],
    /// Maps of logits, 1 to 1024; 1 tells polyps from everything else.
    pub classes: usize,
    /// Channel order of the input; only `RGB` exists.
    #[serde(default = "rgb")]
    pub colour: String,
    /// Subtracted from values in 0–1, per channel.
    pub mean: [f32; 3],
    /// Divided by afterwards.
    pub std: [f32; 3],
    /// How a picture is brought to the input's size.
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
    /// Steps of training behind the parameters, over all runs; `None` where it is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trained_steps: Option<u64>,
    /// Measured on data sets by name.
    #[serde(default, skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    pub thresholded: std::collections::BTreeMap<String, Figures>,
    /// As `thresholded`, measured on pictures that were held out.
    #[serde(default, skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    pub heldout: std::collections::BTreeMap<String, Figures>,
    /// Measured over all data sets of `thresholded` together at other sides of a square input, by the side in pixels
    /// and the engine's number format: what a machine that needs a smaller input gives up.
    #[serde(default, skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    pub by_input_size: std::collections::BTreeMap<u32, std::collections::BTreeMap<String, Figures>>,
    /// Largest number worth keeping of each activation map, by the name it has in the network's program: what 8-bit
    /// integers are scaled by (`weights quantise`). Maps that are not named stay in f32.
    #[serde(default, skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    pub activations: std::collections::BTreeMap<String, f32>,
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
            by_input_size: Default::default(),
            activations: Default::default(),
        }
    }

    /// The network that these parameters belong to.
    pub fn architecture(&self) -> Architecture {
        Architecture { variant: self.network, classes: self.classes }
    }

    /// Mean Dice at this side of a square input, in the number format where that was measured and else in f32.
    pub fn dice_at(&self, side: usize, precision: &str) -> Option<f64> {
        let figures = self.by_input_size.get(&u32::try_from(side).ok()?)?;
        figures.get(precision).or_else(|| figures.get("f32")).map(|f| f.m_dice)
    }

    /// The same parameters with other scales for 8-bit integers, whose figures are not known yet.
    #[must_use]
    pub fn with_activations(mut self, activations: std::collections::BTreeMap<String, f32>) -> Self {
        self.activations = activations;
        for figures in self.by_input_size.values_mut() {
            figures.remove("i8");
        }
        self
    }

    /// Where the description of a checkpoint lies: `NAME.json` beside `NAME.safetensors` or `NAME.pth`.
    pub fn path_beside(checkpoint: &Path) -> PathBuf {
        checkpoint.with_extension("json")
    }

    /// Reads and checks a description file.
    ///
    /// # Errors
    /// A file that cannot be read, is not a description, or describes something impossible.
    pub fn read(path: &Path) -> Result<Self> {
        let text = small_file::read(path, SMALL, "a checkpoint's description")?;
        Self::parse(&text, &path.display().to_string())
    }

    /// `place` names the file in errors.
    pub(super) fn parse(text: &[u8], place: &str) -> Result<Self> {
        let description: Self = serde_json::from_slice(text).map_err(|e| {
            Error::input(format!("{place}: is not a checkpoint's description ({e})"))
                .remedy("correct it after the one shipped as weights/m2snet-polyp.json")
                .because(e)
        })?;
        description.check().map_err(|e| e.at(place))?;
        Ok(description)
    }

    fn check(&self) -> Result<()> {
        let wrong = |what: String, remedy: &str| Err(Error::input(what).remedy(remedy));
        let [h, w] = self.input_size;
        if !is_side(h) || !is_side(w) {
            return wrong(
                format!("input_size {h}x{w} is impossible"),
                "both sides must be multiples of 32 from 32 to 4096",
            );
        }
        if self.classes == 0 || self.classes > MOST_CLASSES {
            return wrong(format!("classes is {}", self.classes), "it must be from 1 to 1024");
        }
        if self.colour != "RGB" {
            return wrong(format!("colour {:?} is not known", self.colour), "only \"RGB\" is");
        }
        if self.mean.iter().any(|m| !m.is_finite()) || self.std.iter().any(|s| !s.is_normal() || *s < 0.0) {
            return wrong(
                format!("mean {:?} and std {:?} cannot normalise a picture", self.mean, self.std),
                "give finite numbers, std above zero",
            );
        }
        if !(self.threshold > 0.0 && self.threshold < 1.0) {
            return wrong(
                format!("threshold {} is no probability", self.threshold),
                "choose one above 0 and below 1",
            );
        }
        if let Some((name, largest)) = self.activations.iter().find(|(_, v)| !v.is_normal() || **v < 0.0) {
            return wrong(
                format!("activation {name:?} reaches {largest}, which is no largest number"),
                "make them again with `polypscope weights quantise`",
            );
        }
        if let Some(sha) = &self.sha256
            && (sha.len() != 64 || !sha.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)))
        {
            return wrong(
                format!("sha256 {sha:?} is not 64 lower-case hexadecimal digits"),
                "write what `sha256sum` prints, or leave it out",
            );
        }
        Ok(())
    }

    /// The text of a description file.
    pub(super) fn to_json(&self) -> String {
        let mut text = serde_json::to_string_pretty(self).expect("a description has no keys but strings");
        text.push('\n');
        text
    }

    /// The text that travels inside a safetensors file: on one line, without the SHA-256 no file can hold of itself.
    pub(super) fn to_metadata(&self) -> String {
        serde_json::to_string(&Self { sha256: None, ..self.clone() })
            .expect("a description has no keys but strings")
    }
}
