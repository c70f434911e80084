//! A frame of a recording as the worker's job.

use std::time::Instant;

use crate::Result;
use crate::capture::Frame;
use crate::frame::{FrameId, Picture, Pts};
use crate::worker::{Job, RecordedJob};

impl Job for Frame {
    fn id(&self) -> FrameId {
        self.id
    }

    fn pts(&self) -> Pts {
        self.pts
    }

    fn with_picture<R>(&self, see: impl FnOnce(&Picture) -> Result<R>) -> Result<R> {
        self.read(see)
    }
}

impl RecordedJob for Frame {
    fn offered(&self) -> Instant {
        self.offered
    }
}
