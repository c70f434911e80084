//! Encoded packets against decoded frames.
//!
//! In: the position in the recording of every packet that is a picture, as it leaves the container, and of every frame
//! as it leaves the decoder. Out: which pictures never came, so that they keep their numbers. A frame leaves the
//! decoder after every packet that is shown before it has entered, so whatever lies before it and has not come is lost.
//!
//! What is not a loss: packets before the first key frame or shown before it (a recording that begins in the middle of
//! a group of pictures), the second field of a picture that is stored as two packets, packets outside the presentation
//! (an edit list), and time without packets in a recording whose frame rate is variable.

use std::collections::BTreeMap;

use super::LossReason;

/// Positions of one frame, before and after the decoder, differ by less (0.5 ms).
const SAME: u64 = 500_000;

/// Containers that count milliseconds round steps by up to this (1.5 ms).
const ROUNDING: u64 = 1_500_000;

/// So many equal steps in a row make a rate that a longer step breaks.
const STEADY: u32 = 12;

/// A packet that entered the decoder and whose frame has not come yet.
#[derive(Clone, Copy, Debug)]
struct Packet {
    /// How long its container says it is shown.
    duration: Option<u64>,
    /// It came before any packet that can be decoded by itself.
    early: bool,
    /// How many packets share this position.
    count: u32,
}

/// What the demuxer tells of one packet.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seen {
    /// Position in the recording, in nanoseconds; `None` if it lies outside the presentation.
    pub at: Option<u64>,
    pub duration: Option<u64>,
    /// Where the presentation begins, if this packet is cut by its beginning.
    pub cut_at: Option<u64>,
    /// The position is a time of decoding, for want of one of showing.
    pub by_decoding: bool,
    pub key: bool,
    /// The demuxer says that something is missing before it.
    pub broken_off: bool,
}

/// Pictures that never came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stretch {
    pub reason: LossReason,
    pub at: u64,
    pub until: u64,
    pub frames: u64,
}

/// What a decoded frame tells.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Passed {
    /// None of the recording's frames: it began before the presentation does, or a decoder that conceals damage made it
    /// up at a time that has been shown.
    pub surplus: bool,
    /// What was lost between the frame before and this one.
    pub lost: Vec<Stretch>,
}

/// How the stream counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Pace {
    /// The declared time between two frames.
    pub period: Option<u64>,
    /// Its frames may be stored as two fields, each in a packet.
    pub interlaced: bool,
    /// They are.
    pub fields: bool,
}

#[derive(Debug, Default)]
pub(super) struct Ledger {
    pending: BTreeMap<u64, Packet>,
    /// The container itself says how long each frame is shown, so time without packets is not lost time.
    pub says_durations: bool,
    /// Something is known to be damaged: time without packets is lost time.
    pub damaged: bool,
    /// A packet that can be decoded by itself has come; its position, unless it lies before the presentation.
    key: Option<Option<u64>>,
    key_packets: u64,
    /// A packet shown before the first key packet followed it.
    leading: bool,
    cut_at: Option<u64>,
    by_decoding: bool,
    /// Frames that matched no packet, where positions are those of decoding: a frame too early makes one too few later.
    credit: u64,
    /// Packets so far.
    packets: u64,
    /// Position of the latest packet.
    pub latest: u64,
    last: Option<Last>,
    /// Equal steps in a row, and the step.
    steady: (u32, u64),
}

/// The last frame that came or is known to be lost.
#[derive(Clone, Copy, Debug)]
struct Last {
    at: u64,
    duration: Option<u64>,
    /// Its second field has come, or it needs none.
    complete: bool,
}

impl Ledger {
    /// Begins anew, as after a seek.
    pub fn restart(&mut self) {
        *self = Self { says_durations: self.says_durations, damaged: self.damaged, ..Self::default() };
    }

    /// A packet that is a picture left the container.
    pub fn packet(&mut self, seen: Seen) {
        // Every stream begins so.
        self.damaged |= seen.broken_off && self.packets > 0;
        self.packets += 1;
        let early = self.key.is_none() && !seen.key;
        if seen.key {
            self.key_packets += 1;
            self.key.get_or_insert(seen.at);
        }
        self.cut_at = self.cut_at.or(seen.cut_at);
        let Some(at) = seen.at else { return };
        self.by_decoding |= seen.by_decoding;
        self.latest = at;
        if let Some(Some(key)) = self.key
            && at <= key
            && !early
            && self.key_packets > u64::from(seen.key)
        {
            self.leading = true;
        }
        let new = Packet { duration: seen.duration, early, count: 0 };
        self.pending.entry(at).or_insert(new).count += 1;
    }

    /// How many packets that are pictures have come.
    pub fn packets(&self) -> u64 {
        self.packets
    }

    /// Whether complaints are to be taken seriously: a decoder that enters a stream in the middle complains of what it
    /// was not given.
    pub fn under_way(&self) -> bool {
        self.last.is_some() && (self.key_packets > 1 || (self.key.is_some() && !self.leading))
    }

    /// Whether a position lies before the first key frame. What is shown there of a recording that begins in the middle
    /// of a group of pictures is what a decoder makes of less than it needs: some give it out and say that it is
    /// damaged, some leave part of it out, and neither is a loss.
    pub fn before_key(&self, at: u64) -> bool {
        matches!(self.key, Some(Some(key)) if at + SAME < key)
    }

    /// A frame left the decoder.
    pub fn frame(&mut self, at: u64, pace: Pace) -> Passed {
        let packet = self.take(at);
        if packet.is_none() && self.cut_at.is_some_and(|c| c.abs_diff(at) < SAME) {
            self.cut_at = None;
            return Passed { surplus: true, ..Passed::default() };
        }
        if packet.is_none()
            && self.damaged
            && !self.by_decoding
            && self.last.is_some_and(|l| at < l.at + SAME)
        {
            return Passed { surplus: true, ..Passed::default() };
        }
        let earlier = self.before(at);
        let mut lost = Vec::new();
        if self.last.is_none() {
            self.first(at, &earlier, pace, &mut lost);
        } else {
            for (position, packet) in &earlier {
                self.missed(*position, packet.duration, pace, &mut lost);
            }
        }
        if packet.is_none() && self.by_decoding {
            self.credit += 1;
        }
        self.gap(at, pace, &mut lost);
        self.step(at, packet.and_then(|p| p.duration));
        Passed { surplus: false, lost }
    }

    /// The stream is over: what has not come before `to` will not come.
    pub fn finish(&mut self, to: Option<u64>, pace: Pace) -> Vec<Stretch> {
        let rest = std::mem::take(&mut self.pending);
        let mut lost = Vec::new();
        if self.last.is_some() {
            for (position, packet) in rest.into_iter().filter(|(p, _)| to.is_none_or(|to| *p < to)) {
                self.missed(position, packet.duration, pace, &mut lost);
            }
        }
        lost
    }

    /// The end of the last frame that came or is known to be lost.
    pub fn end(&self, pace: Pace) -> Option<u64> {
        self.last.map(|l| l.at + l.duration.or(pace.period).unwrap_or(self.steady.1))
    }

    /// How long the container says the frame at this position is shown. To be asked before [`Self::frame`] takes it.
    pub fn duration(&self, at: u64) -> Option<u64> {
        let (_, packet) = self.pending.range(at.saturating_sub(SAME)..=at + SAME).next()?;
        packet.duration.filter(|_| self.says_durations)
    }

    fn take(&mut self, at: u64) -> Option<Packet> {
        let (&key, packet) = self.pending.range_mut(at.saturating_sub(SAME)..=at + SAME).next()?;
        packet.count -= 1;
        let packet = *packet;
        if packet.count == 0 {
            self.pending.remove(&key);
        }
        Some(packet)
    }

    /// Takes out what lies before a position.
    fn before(&mut self, at: u64) -> Vec<(u64, Packet)> {
        let mut earlier = Vec::new();
        while let Some(entry) = self.pending.first_entry().filter(|e| *e.key() < at) {
            earlier.push(entry.remove_entry());
        }
        earlier
    }

    /// What comes before the first frame: lost only if a key frame among it was.
    fn first(&mut self, at: u64, earlier: &[(u64, Packet)], pace: Pace, lost: &mut Vec<Stretch>) {
        let from = match self.key {
            // The key frame lies before the presentation: all of it should have come.
            Some(None) => 0,
            Some(Some(key)) if key + SAME < at => key,
            _ => return,
        };
        for (position, packet) in earlier.iter().filter(|(p, packet)| *p >= from && !packet.early) {
            self.missed(*position, packet.duration, pace, lost);
        }
    }

    /// A packet of which no frame came.
    fn missed(&mut self, at: u64, duration: Option<u64>, pace: Pace, lost: &mut Vec<Stretch>) {
        // Leading pictures of an open group may all be moved to the time of the first picture.
        if self.last.is_some_and(|l| at < l.at + SAME) || self.is_second_field(at, pace) {
            return;
        }
        if self.before_key(at) {
            self.step(at, duration);
            return;
        }
        if self.credit > 0 {
            self.credit -= 1;
            return;
        }
        self.gap(at, pace, lost);
        let until = at + duration.or(pace.period).unwrap_or(self.steady.1);
        append(lost, Stretch { reason: LossReason::Undecodable, at, until, frames: 1 });
        self.damaged = true;
        self.step(at, duration);
    }

    /// Whether a packet of which no frame came is the second field of the picture before: by its time, or because all
    /// packets are fields.
    fn is_second_field(&mut self, at: u64, pace: Pace) -> bool {
        let Some(last) = &mut self.last else { return false };
        let near = pace.period.is_some_and(|period| at.saturating_sub(last.at) < period * 3 / 4);
        let is_second = !last.complete && (pace.fields || (pace.interlaced && near));
        last.complete |= is_second;
        is_second
    }

    /// Time without packets between the last frame and this position.
    fn gap(&self, at: u64, pace: Pace, lost: &mut Vec<Stretch>) {
        let Some(last) = self.last else { return };
        // Times of decoding are counted, not measured.
        if self.by_decoding {
            return;
        }
        let step = at.saturating_sub(last.at);
        // A stream that never keeps its declared rate tells nothing by it.
        let steady =
            self.steady.0 >= STEADY && pace.period.is_some_and(|p| p.abs_diff(self.steady.1) < ROUNDING);
        let usual = match pace.period {
            Some(period) if !self.says_durations => period,
            _ if self.says_durations => last.duration.unwrap_or(0),
            _ => self.steady.1,
        };
        if usual == 0 || step * 2 < usual * 3 {
            return;
        }
        let declared = pace.period.is_some() && !self.says_durations;
        if !(self.damaged || (declared && steady)) {
            return;
        }
        let frames = ((step + usual / 2) / usual).saturating_sub(1);
        if frames > 0 {
            append(lost, Stretch { reason: LossReason::Missing, at: last.at + usual, until: at, frames });
        }
    }

    fn step(&mut self, at: u64, duration: Option<u64>) {
        if let Some(last) = self.last {
            let step = at.saturating_sub(last.at);
            if step.abs_diff(self.steady.1) < ROUNDING {
                self.steady.0 += 1;
            } else {
                self.steady = (0, step);
            }
        }
        self.last = Some(Last { at, duration, complete: false });
    }
}

fn append(lost: &mut Vec<Stretch>, new: Stretch) {
    match lost.last_mut() {
        Some(last) if last.reason == new.reason => {
            last.until = new.until;
            last.frames += new.frames;
        }
        _ => lost.push(new),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;
    const PACE: Pace = Pace { period: Some(40 * MS), interlaced: false, fields: false };

    fn packet(ledger: &mut Ledger, ms: u64, key: bool) {
        let duration = Some(40 * MS);
        ledger.packet(Seen { at: Some(ms * MS), duration, key, ..Seen::default() });
    }

    /// Packets at these times, the first a key; frames at those. Gives what was lost as (reason, ms, frames).
    fn lost(packets: &[u64], frames: &[u64], pace: Pace, mut ledger: Ledger) -> Vec<(LossReason, u64, u64)> {
        for (i, &p) in packets.iter().enumerate() {
            packet(&mut ledger, p, i == 0);
        }
        let mut all = Vec::new();
        for &f in frames {
            all.extend(ledger.frame(f * MS, pace).lost);
        }
        all.extend(ledger.finish(None, pace));
        all.iter().map(|s| (s.reason, s.at / MS, s.frames)).collect()
    }

    #[test]
    fn whole_streams_lose_nothing_whatever_their_order() {
        let l = Ledger::default;
        assert_eq!(lost(&[0, 160, 80, 40, 120], &[0, 40, 80, 120, 160], PACE, l()), []);
        // A variable rate.
        assert_eq!(lost(&[0, 40, 600, 620], &[0, 40, 600, 620], PACE, l()), []);
        // Packets without frames before and among the leading pictures of an open group.
        let mut open = l();
        packet(&mut open, 120, false);
        packet(&mut open, 200, true);
        packet(&mut open, 160, false);
        packet(&mut open, 240, false);
        assert!(open.leading && !open.under_way());
        assert!(open.frame(200 * MS, PACE).lost.is_empty());
        assert!(open.frame(240 * MS, PACE).lost.is_empty());
        assert!(open.finish(None, PACE).is_empty());
        // A decoder that gives out some pictures from before the key frame, leaves one out, and is far behind the
        // packets.
        let mut open = l();
        for at in [80, 0, 40] {
            packet(&mut open, at, false);
        }
        packet(&mut open, 200, true);
        for at in [120, 160, 320, 240, 280] {
            packet(&mut open, at, false);
        }
        packet(&mut open, 440, true);
        for at in [0, 40, 80, 120] {
            assert!(open.frame(at * MS, PACE).lost.is_empty(), "{at}");
            assert!(open.before_key(at * MS));
        }
        assert!(open.under_way());
        for at in [200, 240, 320] {
            let wanted = if at == 320 { vec![(LossReason::Undecodable, 280, 1)] } else { vec![] };
            let got = open.frame(at * MS, PACE).lost;
            assert_eq!(
                got.iter().map(|s| (s.reason, s.at / MS, s.frames)).collect::<Vec<_>>(),
                wanted,
                "{at}"
            );
            assert!(!open.before_key(at * MS));
        }
    }

    #[test]
    fn what_does_not_come_is_lost_at_its_place() {
        use LossReason::Undecodable;
        let packets: Vec<u64> = (0..8).map(|i| i * 40).collect();
        assert_eq!(
            lost(&packets, &[0, 40, 160, 240], PACE, Ledger::default()),
            [(Undecodable, 80, 2), (Undecodable, 200, 1), (Undecodable, 280, 1)]
        );
        // The first key frame itself.
        assert_eq!(
            lost(&packets, &[80, 120, 160, 200, 240, 280], PACE, Ledger::default()),
            [(Undecodable, 0, 2)]
        );
    }

    #[test]
    fn the_second_field_of_a_picture_is_not_lost_but_both_are_one() {
        let pace = Pace { interlaced: true, ..PACE };
        let packets: Vec<u64> = (0..8).map(|i| i * 20).collect();
        assert_eq!(lost(&packets, &[0, 40, 80, 120], pace, Ledger::default()), []);
        assert_eq!(
            lost(&packets, &[0, 80, 120], pace, Ledger::default()),
            [(LossReason::Undecodable, 40, 1)]
        );
        // Some writers time fields as if they were pictures.
        let fields = Pace { fields: true, ..pace };
        assert_eq!(lost(&[0, 40, 80, 120, 160, 200], &[0, 80, 160], fields, Ledger::default()), []);
        // An interlaced picture in one packet is a picture.
        assert_eq!(lost(&[0, 40, 80], &[0, 80], pace, Ledger::default()), [(LossReason::Undecodable, 40, 1)]);
    }

    #[test]
    fn time_without_packets_is_lost_if_something_is_damaged_or_the_rate_was_steady() {
        use LossReason::Missing;
        let times = [0, 40, 80, 240, 280];
        assert_eq!(lost(&times, &times, PACE, Ledger::default()), []);
        let damaged = || Ledger { damaged: true, ..Ledger::default() };
        assert_eq!(lost(&times, &times, PACE, damaged()), [(Missing, 120, 3)]);
        let steady: Vec<u64> = (0..40).chain(45..60).map(|i| i * 40).collect();
        assert_eq!(lost(&steady, &steady, PACE, Ledger::default()), [(Missing, 1600, 5)]);
        assert_eq!(lost(&steady, &steady, Pace::default(), Ledger::default()), [], "no rate is declared");
        let says = Ledger { says_durations: true, ..Ledger::default() };
        assert_eq!(lost(&steady, &steady, PACE, says), [], "frames are shown as long as the container says");
    }

    #[test]
    fn the_presentation_begins_where_its_edit_list_says() {
        let mut l = Ledger::default();
        l.packet(Seen { key: true, ..Seen::default() });
        l.packet(Seen { cut_at: Some(0), ..Seen::default() });
        packet(&mut l, 20, false);
        packet(&mut l, 60, false);
        assert!(l.frame(0, PACE).surplus);
        assert_eq!(l.frame(20 * MS, PACE), Passed::default());
        assert_eq!(l.frame(60 * MS, PACE), Passed::default());
    }

    #[test]
    fn times_of_decoding_are_matched_by_count() {
        let mut l = Ledger::default();
        for i in 0..10 {
            let at = Some(i * 40 * MS);
            l.packet(Seen { at, by_decoding: true, key: i == 0, ..Seen::default() });
        }
        let mut lost = Vec::new();
        // One frame comes twice at the same time, and a later time never comes: that is one frame for one packet.
        for ms in [0, 40, 80, 80, 120, 160, 200, 240, 280, 320] {
            lost.extend(l.frame(ms * MS, PACE).lost);
        }
        lost.extend(l.finish(None, PACE));
        assert_eq!(lost, []);
    }

    #[test]
    fn a_seek_begins_anew() {
        let mut l = Ledger::default();
        (0..5).for_each(|i| packet(&mut l, i * 40, i == 0));
        l.restart();
        (50..53).for_each(|i| packet(&mut l, i * 40, i == 50));
        let lost: Vec<_> = (50..53).flat_map(|i| l.frame(i * 40 * MS, PACE).lost).collect();
        assert_eq!((lost, l.packets()), (vec![], 3));
    }
}
