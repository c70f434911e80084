//! first light
use super::Contents;
pub(super) fn page(c: &Contents) -> String {
    format!("<!doctype html><title>{}</title>", super::text::Escaped(&c.summary.input))
}
