//! What every worker does with frames: take one, have it analysed, give its mask away.
//!
//! In: jobs from the mailbox, and a [`Policy`]. Out: the policy is told what became of each. A panic of the analyzer
//! becomes an error, and every error names its frame. Replay and live differ in their policies alone.

use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use crate::frame::{FrameId, Mask, Picture, Pts};
use crate::mailbox::{Inbox, Taken};
use crate::segment::{Segmenter, Spans};
use crate::{Error, Fault, Result};

/// What turns a picture into its mask: a [`Segmenter`], or a stand-in that misbehaves in a test.
pub trait FrameAnalyzer: 'static {
    /// Segments one picture into `mask`, whose `frame` and `pts` are set.
    ///
    /// # Errors
    /// A failing device, an output that is not a number.
    fn analyse(&mut self, picture: &Picture, mask: &mut Mask) -> Result<Spans>;

    /// Probability from which on a pixel is marked, as the user sets it while it runs.
    fn set_threshold(&mut self, threshold: f64);
}

impl FrameAnalyzer for Segmenter {
    fn analyse(&mut self, picture: &Picture, mask: &mut Mask) -> Result<Spans> {
        self.segment(picture, mask)
    }

    fn set_threshold(&mut self, threshold: f64) {
        Segmenter::set_threshold(self, threshold);
    }
}

/// A frame that waits to be analysed.
pub trait Job: Send + 'static {
    /// Its number.
    fn id(&self) -> FrameId;
    /// Its timestamp.
    fn pts(&self) -> Pts;
    /// The picture, viewed for as long as `see` runs.
    ///
    /// # Errors
    /// Bytes that cannot be mapped.
    fn with_picture<R>(&self, see: impl FnOnce(&Picture) -> Result<R>) -> Result<R>;
}

/// Which frames are analysed, and what becomes of their masks.
pub(super) trait Policy<J, A: ?Sized> {
    /// What a mask is made in.
    type Out;

    /// Longest wait for a frame before [`Policy::goes_on`] is asked again.
    const PATIENCE: Duration;

    /// Whether the next frame is taken.
    fn goes_on(&self) -> bool;

    /// A frame was taken: where its mask is made, or the frame back, which is then left.
    fn begin(&mut self, job: J, analyzer: &mut A) -> Option<(J, Self::Out)>;

    fn mask(out: &mut Self::Out) -> &mut Mask;

    /// It was analysed, or could not be.
    fn end(&mut self, job: J, out: Self::Out, outcome: Result<Spans>) -> ControlFlow<Result<()>>;
}

/// Until the mailbox closes or the policy ends it, with its result.
pub(super) fn work<J, A, P>(inbox: &Inbox<J>, analyzer: &mut A, policy: &mut P) -> Result<()>
where
    J: Job,
    A: FrameAnalyzer + ?Sized,
    P: Policy<J, A>,
{
    while policy.goes_on() {
        let job = match inbox.take(P::PATIENCE) {
            Taken::Job(job) => job,
            Taken::TimedOut => continue,
            Taken::Closed => return Ok(()),
        };
        let Some((job, mut out)) = policy.begin(job, analyzer) else { continue };
        let id = job.id();
        let mask = P::mask(&mut out);
        (mask.frame, mask.pts) = (id, job.pts());
        let outcome = contained(id, || job.with_picture(|p| analyzer.analyse(p, mask)));
        if let ControlFlow::Break(result) = policy.end(job, out, outcome) {
            return result;
        }
    }
    Ok(())
}

/// Runs the analysis of one frame: a panic becomes an error, and every error names the frame.
pub(crate) fn contained(frame: FrameId, analyse: impl FnOnce() -> Result<Spans>) -> Result<Spans> {
    catch_unwind(AssertUnwindSafe(analyse))
        .unwrap_or_else(|panic| Err(panicked(panic.as_ref())))
        .map_err(|e| e.at(frame))
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

/// From now on a panic of a worker's thread is one line in the log. The usual message with its backtrace takes longer
/// than a frame lasts, and the video path must learn of the panic at once. Other threads' panics are printed as before.
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
