//! From a source picture to what the network wants to see.
//!
//! In: a [`Picture`] in any layout, and the checkpoint's description. Out: the field of view that was analysed, and
//! normalised R, G, B planes at the network's input size. Colour, antialiased resize and normalisation are the steps
//! the published prediction code takes, with 8-bit values between them; [`frame::colour`](crate::frame::colour) and
//! [`frame::resize`](crate::frame::resize) take them one by one, plainly, [`fused`] in one pass and to the same bits.

// Nothing panics on a streaming thread.
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::unreachable))]

pub mod field_of_view;
pub mod fused;

pub use field_of_view::{FieldOfView, Finder};

use crate::frame::resize::Filter;
use crate::frame::{Picture, Rect};
use crate::model::checkpoint::{Description, Resize};
use crate::{Error, Result};
use fused::Reducer;

impl From<Resize> for Filter {
    fn from(r: Resize) -> Self {
        match r {
            Resize::AntialiasedBilinear => Filter::Antialiased,
            Resize::PlainBilinear => Filter::Plain,
        }
    }
}

/// Turns pictures into network inputs. Buffers are kept from frame to frame; nothing is allocated while the picture's
/// size and field of view stay the same.
pub struct Preprocessor {
    policy: FieldOfView,
    finder: Finder,
    width: usize,
    height: usize,
    reducer: Reducer,
    small: Vec<u8>,
}

impl Preprocessor {
    /// For inputs of `height` x `width` pixels.
    pub fn new(description: &Description, height: usize, width: usize, policy: FieldOfView) -> Self {
        Self {
            policy,
            finder: Finder::default(),
            width,
            height,
            reducer: Reducer::new(Filter::from(description.resize), description.mean, description.std),
            small: vec![0; 3 * width * height],
        }
    }

    /// Forgets what was seen so far.
    pub fn restart(&mut self) {
        self.finder = Finder::default();
    }

    /// Fills `input` (`[3, height, width]`) from the picture's field of view, which it returns.
    ///
    /// # Errors
    /// A given field of view that does not lie in the picture.
    pub fn run(&mut self, picture: &Picture, input: &mut [f32]) -> Result<Rect> {
        let view = self.view(picture)?;
        self.reducer.run(picture, view, (self.height, self.width), input, &mut self.small);
        Ok(view)
    }

    /// The picture's field of view alone, for engines that read pictures themselves.
    ///
    /// # Errors
    /// A given field of view that does not lie in the picture.
    pub fn view(&mut self, picture: &Picture) -> Result<Rect> {
        let whole = Rect::full(picture.info.width, picture.info.height);
        match self.policy {
            FieldOfView::Full => Ok(whole),
            FieldOfView::Given(r) => {
                if r.is_empty() || r.intersect(&whole) != r {
                    return Err(Error::usage(format!(
                        "the field of view {r} does not lie in the {}x{} picture",
                        whole.w, whole.h
                    ))
                    .remedy("give X,Y,W,H in the source's pixels, or auto"));
                }
                Ok(r)
            }
            FieldOfView::Auto => Ok(self.finder.observe(picture)),
        }
    }
}
