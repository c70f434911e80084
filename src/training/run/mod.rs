//! A training run: settings, data and a starting point flow in, a folder with checkpoints, logs and a page flows out.
//!
//! | file | holds |
//! |---|---|
//! | `settings` | everything a run is asked to be |
//! | `trainer` | parameters, optimiser and average; one step |
//! | `state` | their file, from which a run goes on exactly |
//! | `judge` | validation: Dice, false marks, the worst pictures |
//! | `session` | the loop: steps, epochs, best and last, early stopping |
//! | `record` | `log.jsonl`, `log.csv` |
//! | `events` | TensorBoard's files |
//! | `page` | the HTML page |
//! | `sheet` | what the network sees |
//! | `card` | what a model card says |

pub mod card;
pub mod events;
pub mod judge;
pub mod page;
pub mod record;
pub mod session;
pub mod settings;
pub mod sheet;
pub mod state;
pub mod trainer;

#[cfg(test)]
mod tests;
