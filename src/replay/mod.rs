//! Replay of recorded procedures: every frame is inferred and carries its own mask, nothing is dropped, and the output
//! is a pure function of the input.
//!
//! In: a recording. Out: the annotated recording and a report.

pub mod record;
