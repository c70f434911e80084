//! The thread that owns the device.
//!
//! In: jobs from the mailbox, in order. Out: each job with its mask, or with the error that stopped the thread.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;

use super::{Segmenter, Spans};
use crate::frame::{FrameId, Mask, Nanos, Picture, Pts};
use crate::mailbox::{Inbox, Taken};
use crate::{Error, Fault, Result};

/// What the worker must know of a job.
pub trait Job: Send + 'static {
    fn id(&self) -> FrameId;
    fn pts(&self) -> Pts;
    /// When it was put into the mailbox.
    fn offered(&self) -> Instant;
    /// The picture, viewed for as long as `see` runs.
    ///
    /// # Errors
    /// Bytes that cannot be mapped.
    fn with_picture<R>(&self, see: impl FnOnce(&Picture) -> Result<R>) -> Result<R>;
}

/// A job that has been through the network.
#[derive(Debug)]
pub struct Finished<J> {
    pub job: J,
    pub mask: Mask,
    pub spans: Spans,
    /// How long the job waited in the mailbox.
    pub waited: Nanos,
}

/// Starts the worker. It ends when the mailbox closes, when nobody listens any more, or with the first error, which
/// names the frame; the error is the last thing `done` receives. The thread gives the segmenter back.
///
/// # Errors
/// A thread that cannot be started.
pub fn spawn<J: Job>(
    mut segmenter: Segmenter,
    inbox: Inbox<J>,
    done: Sender<Result<Finished<J>>>,
) -> Result<JoinHandle<Segmenter>> {
    std::thread::Builder::new()
        .name("worker".into())
        .spawn(move || {
            loop {
                let job = match inbox.take(Duration::from_millis(500)) {
                    Taken::Job(job) => job,
                    Taken::Nothing => continue,
                    Taken::Closed => return segmenter,
                };
                let waited = job.offered().elapsed().into();
                let id = job.id();
                let mut mask = Mask { frame: id, pts: job.pts(), ..Default::default() };
                let outcome =
                    catch_unwind(AssertUnwindSafe(|| job.with_picture(|p| segmenter.segment(p, &mut mask))))
                        .unwrap_or_else(|panic| Err(panicked(panic.as_ref())));
                let failed = outcome.is_err();
                let result = match outcome {
                    Ok(spans) => Ok(Finished { job, mask, spans, waited }),
                    Err(e) => Err(e.at(id)),
                };
                if done.send(result).is_err() || failed {
                    return segmenter;
                }
            }
        })
        .map_err(|e| Error::machine("the worker's thread cannot be started").because(e))
}

/// The words a panic carried, as an error.
pub(super) fn panicked(panic: &(dyn std::any::Any + Send)) -> Error {
    let words = panic
        .downcast_ref::<&str>()
        .map(|s| (*s).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no reason given".to_owned());
    Error::inference(format!("the inference thread panicked ({words})"))
        .caused_by(Fault::Panicked)
        .remedy("please report this")
}

/// From now on a panic of a worker's thread is one line in the log. The usual message with its backtrace takes longer than
/// a frame lasts, and the video path must learn of the panic at once. Other threads' panics are printed as before.
pub fn log_panics() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if std::thread::current().name().is_some_and(|n| n.starts_with("worker")) {
                tracing::error!("{info}");
            } else {
                before(info);
            }
        }));
    });
}
