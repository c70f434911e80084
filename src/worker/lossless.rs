//! The worker of a replay: every frame in order, until the first error.
//!
//! In: jobs from the mailbox, in order. Out: each job with its mask, or with the error that stopped the thread.

use std::ops::ControlFlow;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;

use super::frames::{Job, Policy, work};
use crate::frame::{Mask, Nanos};
use crate::mailbox::Inbox;
use crate::segment::{Segmenter, Spans};
use crate::{Error, Result};

/// A frame of a recording.
pub trait RecordedJob: Job {
    /// When it was put into the mailbox.
    fn offered(&self) -> Instant;
}

/// A job that has been through the network.
#[derive(Debug)]
pub struct Finished<J> {
    /// The job as it was taken from the mailbox.
    pub job: J,
    /// What the network found on it.
    pub mask: Mask,
    /// How long each part of the analysis took.
    pub spans: Spans,
    /// How long the job waited in the mailbox.
    pub waited: Nanos,
}

/// Hands every job on with its mask. Ends with the first error, or when nobody listens any more.
struct StopAtFirstError<J>(Sender<Result<Finished<J>>>);

impl<J: RecordedJob> Policy<J, Segmenter> for StopAtFirstError<J> {
    /// And how long the job had waited.
    type Out = (Mask, Nanos);

    const PATIENCE: Duration = Duration::from_millis(500);

    fn goes_on(&self) -> bool {
        true
    }

    fn begin(&mut self, job: J, _: &mut Segmenter) -> Option<(J, Self::Out)> {
        let waited = job.offered().elapsed().into();
        Some((job, (Mask::default(), waited)))
    }

    fn mask((mask, _): &mut Self::Out) -> &mut Mask {
        mask
    }

    fn end(&mut self, job: J, (mask, waited): Self::Out, outcome: Result<Spans>) -> ControlFlow<Result<()>> {
        let failed = outcome.is_err();
        let sent = self.0.send(outcome.map(|spans| Finished { job, mask, spans, waited }));
        if sent.is_err() || failed { ControlFlow::Break(Ok(())) } else { ControlFlow::Continue(()) }
    }
}

/// Starts the worker. It ends when the mailbox closes, when nobody listens any more, or with the first error, which
/// names the frame; the error is the last thing `done` receives. The thread gives the segmenter back.
///
/// # Errors
/// A thread that cannot be started.
pub fn spawn<J: RecordedJob>(
    mut segmenter: Segmenter,
    inbox: Inbox<J>,
    done: Sender<Result<Finished<J>>>,
) -> Result<JoinHandle<Segmenter>> {
    std::thread::Builder::new()
        .name("worker".into())
        .spawn(move || {
            // Errors go to whoever listens.
            let _ = work(&inbox, &mut segmenter, &mut StopAtFirstError(done));
            segmenter
        })
        .map_err(|e| Error::machine("the worker's thread cannot be started").because(e))
}
