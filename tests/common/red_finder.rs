//! A network for tests that need no M²SNet: it marks what is red.

use polypscope::Result;
use polypscope::engine::{Network, Route, Shape};

/// Marks red.
pub struct RedFinder;

impl Network for RedFinder {
    fn shape(&self) -> Shape {
        Shape { height: 32, width: 32, classes: 1 }
    }

    fn run(&mut self, input: &[f32], logits: &mut [f32]) -> Result<()> {
        let plane = logits.len();
        for (i, logit) in logits.iter_mut().enumerate() {
            let (red, green) = (input[i] * 0.229 + 0.485, input[plane + i] * 0.224 + 0.456);
            *logit = 20.0 * (red - green - 0.3);
        }
        Ok(())
    }

    fn describe(&self) -> String {
        "finds red".into()
    }

    fn route(&mut self) -> Route<'_> {
        Route::Planes
    }
}
