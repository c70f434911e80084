//! The thread that reads.
//!
//! In: a [`Source`]. Out: its frames in the mailbox, its sound beside them, and how it ended.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;

use crate::capture::{Ended, Frame, Next, SoundPacket, Source};
use crate::mailbox::{Disconnected, Outbox};
use crate::{Error, Result};

/// Words for a replay its user stopped.
pub(crate) const INTERRUPTED: &str = "interrupted";

/// What a source came to.
pub(crate) struct Read {
    pub ended: Ended,
    pub frames: u64,
}

pub(crate) fn spawn(
    mut source: Box<dyn Source>,
    outbox: Outbox<Frame>,
    sound: Sender<SoundPacket>,
    stop: Arc<AtomicBool>,
) -> Result<JoinHandle<Result<Read>>> {
    std::thread::Builder::new()
        .name("reader".into())
        .spawn(move || read(source.as_mut(), &outbox, &sound, &stop))
        .map_err(|e| Error::machine("the reader's thread cannot be started").because(e))
}

fn read(
    source: &mut dyn Source,
    outbox: &Outbox<Frame>,
    sound: &Sender<SoundPacket>,
    stop: &AtomicBool,
) -> Result<Read> {
    let mut frames = 0;
    let interrupted = |frames, source: &dyn Source| {
        let cut_off = Some(INTERRUPTED.to_owned());
        Ok(Read { ended: Ended { cut_off, changed: None, losses: source.losses() }, frames })
    };
    loop {
        if stop.load(Ordering::Relaxed) {
            return interrupted(frames, source);
        }
        let next = source.next()?;
        let had = Instant::now();
        for packet in source.sound() {
            // The writer may be gone; it knows why.
            let _ = sound.send(packet);
        }
        match next {
            Next::Wait => {}
            Next::Ended(ended) => return Ok(Read { ended, frames }),
            Next::Frame(mut frame) => {
                frames += 1;
                frame.offered = Instant::now();
                frame.hand_over = (frame.offered - had).into();
                // Waits while the worker is busy, looking now and then whether to stop.
                loop {
                    match outbox.hand_over(frame, Duration::from_millis(100)) {
                        Ok(None) => break,
                        Ok(Some(back)) if stop.load(Ordering::Relaxed) => {
                            drop(back);
                            return interrupted(frames - 1, source);
                        }
                        Ok(Some(back)) => frame = back,
                        // The worker's own error is on its way to the writer.
                        Err(Disconnected(_)) => return interrupted(frames - 1, source),
                    }
                }
            }
        }
    }
}
