//! Copies of frames for the workers.
//!
//! In: a picture on the video path. Out: a copy of its bytes in a buffer of ours, which comes back when the worker is
//! done. Capture buffers themselves are never held: V4L2 and DeckLink have few of them.

use std::sync::{Arc, Weak};
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender};

use crate::frame::{FrameId, Nanos, Picture, PictureInfo, Pts, packed_len};
use crate::worker::{Job, LiveJob};
use crate::{Error, Result};

/// A frame's bytes, its planes one after the other without padding.
#[derive(Debug)]
pub struct FrameCopy {
    pub id: FrameId,
    pub pts: Pts,
    pub captured: Nanos,
    pub offered: Nanos,
    info: PictureInfo,
    bytes: Vec<u8>,
    /// Not the sender itself: a copy that lies in the channel would keep the channel, and with it itself, for ever.
    home: Weak<Sender<Box<FrameCopy>>>,
}

impl FrameCopy {
    fn picture(&self) -> Option<Picture<'_>> {
        Picture::packed(self.info, &self.bytes)
    }
}

impl Job for Box<FrameCopy> {
    fn id(&self) -> FrameId {
        self.id
    }

    fn pts(&self) -> Pts {
        self.pts
    }

    fn with_picture<R>(&self, see: impl FnOnce(&Picture) -> Result<R>) -> Result<R> {
        see(&self.picture().ok_or_else(|| Error::internal("its copy is incomplete"))?)
    }
}

impl LiveJob for Box<FrameCopy> {
    fn captured(&self) -> Nanos {
        self.captured
    }

    fn offered(&self) -> Nanos {
        self.offered
    }

    fn recycle(self) {
        if let Some(home) = self.home.upgrade() {
            let _ = home.try_send(self);
        }
    }
}

/// The copies' buffers.
#[derive(Debug)]
pub(super) struct FramePool {
    free: Receiver<Box<FrameCopy>>,
    home: Arc<Sender<Box<FrameCopy>>>,
    /// How many may still be made.
    to_make: usize,
    epoch: Instant,
}

impl FramePool {
    /// `room`: one for each worker, one that waits, one being filled.
    pub(super) fn new(room: usize, epoch: Instant) -> Self {
        let (home, free) = crossbeam_channel::bounded(room);
        Self { free, home: Arc::new(home), to_make: room, epoch }
    }

    /// Copies a picture; `None` while every buffer is with a worker.
    pub(super) fn copy(
        &mut self,
        picture: &Picture,
        id: FrameId,
        pts: Pts,
        captured: Nanos,
    ) -> Option<Box<FrameCopy>> {
        let mut copy = match self.free.try_recv() {
            Ok(copy) => copy,
            Err(_) if self.to_make > 0 => {
                self.to_make -= 1;
                let (info, home) = (picture.info, Arc::downgrade(&self.home));
                Box::new(FrameCopy { id, pts, captured, offered: captured, info, bytes: Vec::new(), home })
            }
            Err(_) => return None,
        };
        copy.bytes.resize(packed_len(&picture.info), 0);
        picture.pack_into(&mut copy.bytes)?;
        copy.id = id;
        copy.pts = pts;
        copy.captured = captured;
        copy.info = picture.info;
        copy.offered = self.epoch.elapsed().into();
        Some(copy)
    }

    pub(super) fn give_back(&self, copy: Box<FrameCopy>) {
        copy.recycle();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{PixelFormat, Plane};

    #[test]
    fn nothing_is_left_of_a_pool_that_is_gone() {
        let info = PictureInfo::new(PixelFormat::Gray8, 2, 1);
        let plane = |data| Plane { data, stride: 2 };
        let picture = Picture { info, planes: [plane(&[1, 2]), plane(&[]), plane(&[])] };
        let mut copies = FramePool::new(2, Instant::now());
        let [one, two] =
            [1, 2].map(|k| copies.copy(&picture, FrameId(k), Pts(0), Nanos(0)).expect("there is room"));
        one.recycle();
        let free = copies.free.clone();
        drop(copies);
        // What lies there does not keep the channel open, and what comes home later finds none.
        let _one = free.try_recv().expect("it came home");
        assert!(two.home.upgrade().is_none());
        assert_eq!(free.try_recv().map(|c| c.id), Err(crossbeam_channel::TryRecvError::Disconnected));
    }

    #[test]
    fn copies_leave_padding_behind_and_come_home() {
        let info = PictureInfo::new(PixelFormat::Nv12, 5, 3);
        let luma: Vec<u8> = (0..8 * 3).collect();
        let chroma: Vec<u8> = (100..100 + 8 * 2).collect();
        let planes = [
            Plane { data: &luma, stride: 8 },
            Plane { data: &chroma, stride: 8 },
            Plane { data: &[], stride: 0 },
        ];
        let picture = Picture { info, planes };
        let mut copies = FramePool::new(1, Instant::now());
        let copy = copies.copy(&picture, FrameId(1), Pts(2), Nanos(3)).expect("there is room");
        let seen = copy.picture().expect("it is whole");
        assert_eq!(seen.planes[0].data[5], 8);
        assert_eq!(seen.planes[1].row(1), &[108, 109, 110, 111, 112, 113]);
        assert!(copies.copy(&picture, FrameId(2), Pts(3), Nanos(4)).is_none());
        copy.recycle();
        assert!(copies.copy(&picture, FrameId(2), Pts(3), Nanos(4)).is_some());
    }
}
