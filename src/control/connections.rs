//! Who is connected, and who has to go.
//!
//! In: newcomers, and what becomes of their requests. Out: a time by which each connection must have got further, and
//! the one that gives up its place when there are too many.
//!
//! Every connection is in one phase with one deadline, whatever trickles in the meantime:
//!
//! ```text
//! begin ─▶ Head ─(request complete)─▶ Answer ─(all of it written)─▶ Idle ─(first byte)─▶ Head …
//! ```
//!
//! A newcomer always finds a place, so that the page and the scraper do too: if there is none, the connection that has
//! got least far from the address with the most of them is given up. Who has brought the token is never given up for
//! somebody who has not.

use crate::lock::lock;
use std::cmp::Reverse;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

/// How many, and how long.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Connections that have not brought the token.
    pub strangers: usize,
    /// Connections that have.
    pub known: usize,
    /// From the connection's begin, or a request's first byte, to the end of its head.
    pub head: Duration,
    /// From the end of a request's head to the last byte of its answer, its body read in between.
    pub answer: Duration,
    /// From the end of an answer to the next request's first byte.
    pub idle: Duration,
}

/// A few pages and a scraper, with much room; a picture over a slow line, a scrape every 15 s.
impl Default for Limits {
    fn default() -> Self {
        Self {
            strangers: 64,
            known: 32,
            head: Duration::from_secs(5),
            answer: Duration::from_secs(30),
            idle: Duration::from_secs(30),
        }
    }
}

/// In the order in which they are given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Head,
    Idle,
    Answer,
}

#[derive(Debug)]
struct Now {
    phase: Phase,
    since: Instant,
    /// Requests whose answers hyper has not taken in yet.
    open: usize,
    known: bool,
    /// Its place is needed.
    given_up: bool,
}

/// One connection.
#[derive(Debug)]
pub(super) struct Connection {
    address: IpAddr,
    limits: Limits,
    now: Mutex<Now>,
    changed: Notify,
}

impl Connection {
    fn now(&self) -> MutexGuard<'_, Now> {
        lock(&self.now)
    }

    fn enter(&self, now: &mut Now, phase: Phase) {
        (now.phase, now.since) = (phase, Instant::now());
        self.changed.notify_one();
    }

    /// Bytes have come.
    pub(super) fn heard(&self) {
        let mut now = self.now();
        if now.phase == Phase::Idle {
            self.enter(&mut now, Phase::Head);
        }
    }

    /// A request's head is complete. What is returned goes when its answer has been handed on.
    pub(super) fn asked(self: &Arc<Self>) -> Owed {
        let mut now = self.now();
        now.open += 1;
        // Requests sent before the last answer was taken share its deadline: they cannot put it off.
        if now.phase != Phase::Answer {
            self.enter(&mut now, Phase::Answer);
        }
        drop(now);
        Owed(self.clone())
    }

    /// Everything handed on so far has been written.
    pub(super) fn written(&self) {
        let mut now = self.now();
        if now.phase == Phase::Answer && now.open == 0 {
            self.enter(&mut now, Phase::Idle);
        }
    }

    /// It has brought the token.
    pub(super) fn recognised(&self) {
        self.now().known = true;
    }

    fn until(&self) -> Instant {
        let now = self.now();
        let allowed = match now.phase {
            _ if now.given_up => Duration::ZERO,
            Phase::Head => self.limits.head,
            Phase::Answer => self.limits.answer,
            Phase::Idle => self.limits.idle,
        };
        now.since + allowed
    }

    fn give_up(&self) {
        self.now().given_up = true;
        self.changed.notify_one();
    }

    /// Ends when its time is up or its place is needed.
    pub(super) async fn overstayed(&self) {
        loop {
            let until = self.until();
            if until <= Instant::now() {
                return;
            }
            tokio::select! {
                () = sleep_until(until) => {}
                () = self.changed.notified() => {}
            }
        }
    }
}

/// An answer that is being made.
#[derive(Debug)]
pub(super) struct Owed(Arc<Connection>);

impl Drop for Owed {
    fn drop(&mut self) {
        let mut now = self.0.now();
        now.open = now.open.saturating_sub(1);
    }
}

/// All connections of a listener.
#[derive(Debug)]
pub(super) struct Connections {
    limits: Limits,
    open: Mutex<Vec<Arc<Connection>>>,
}

impl Connections {
    pub(super) fn new(limits: Limits) -> Arc<Self> {
        Arc::new(Self { limits, open: Mutex::default() })
    }

    fn open(&self) -> MutexGuard<'_, Vec<Arc<Connection>>> {
        lock(&self.open)
    }

    /// Lets somebody in, at another's cost if need be.
    pub(super) fn enter(self: &Arc<Self>, address: IpAddr) -> ConnectionGuard {
        let now = Now { phase: Phase::Head, since: Instant::now(), open: 0, known: false, given_up: false };
        let connection = Arc::new(Connection {
            address,
            limits: self.limits,
            now: Mutex::new(now),
            changed: Notify::new(),
        });
        let mut open = self.open();
        // Those known may have become too many since the last one came in.
        for (known, most) in [(false, self.limits.strangers.saturating_sub(1)), (true, self.limits.known)] {
            while open.iter().filter(|c| c.now().known == known).count() > most
                && let Some(at) = first_to_close(&open, known)
            {
                open.swap_remove(at).give_up();
            }
        }
        open.push(connection.clone());
        ConnectionGuard { connections: self.clone(), connection }
    }
}

/// Which of those known, or of the strangers, is closed first.
fn first_to_close(open: &[Arc<Connection>], known: bool) -> Option<usize> {
    let of_kind = |c: &Arc<Connection>| c.now().known == known;
    let from = |address| open.iter().filter(|c| of_kind(c) && c.address == address).count();
    open.iter()
        .enumerate()
        .filter(|(_, c)| of_kind(c))
        .min_by_key(|(_, c)| {
            let crowded = Reverse(from(c.address));
            let now = c.now();
            (crowded, now.phase, now.since)
        })
        .map(|(at, _)| at)
}

/// Keeps a connection in the list until it is dropped.
#[derive(Debug)]
pub(super) struct ConnectionGuard {
    connections: Arc<Connections>,
    pub connection: Arc<Connection>,
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        self.connections.open().retain(|c| !Arc::ptr_eq(c, &self.connection));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(n: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, n])
    }

    fn gone(place: &ConnectionGuard) -> bool {
        place.connection.now().given_up
    }

    #[tokio::test(start_paused = true)]
    async fn the_address_with_most_connections_gives_one_up() {
        let connections = Connections::new(Limits { strangers: 4, ..Limits::default() });
        let nurse = connections.enter(ip(1));
        tokio::time::advance(Duration::from_millis(1)).await;
        let mut others = Vec::new();
        for _ in 0..1000 {
            others.push(connections.enter(ip(2)));
            tokio::time::advance(Duration::from_millis(1)).await;
        }
        assert!(!gone(&nurse));
        assert_eq!(others.iter().filter(|p| !gone(p)).count(), 3);
        assert!(!gone(&others[999]) && gone(&others[0]));
    }

    #[tokio::test(start_paused = true)]
    async fn the_token_keeps_a_place_and_the_newest_stranger_finds_one() {
        let connections = Connections::new(Limits { strangers: 4, known: 2, ..Limits::default() });
        let page = connections.enter(ip(1));
        page.connection.recognised();
        let strangers: Vec<_> = (0..1000).map(|n| connections.enter(ip((n % 3) as u8 + 1))).collect();
        assert!(!gone(&page));
        assert!(!gone(&strangers[999]));
        // The oldest known ones go for newer ones known.
        for place in &strangers[996..] {
            place.connection.recognised();
        }
        let last = connections.enter(ip(9));
        let kept = strangers[996..].iter().chain([&page, &last]).filter(|p| !gone(p)).count();
        assert_eq!(kept, 3);
        assert!(!gone(&last));
    }

    #[tokio::test(start_paused = true)]
    async fn who_says_nothing_goes_before_who_is_answered() {
        let connections = Connections::new(Limits { strangers: 2, ..Limits::default() });
        let answered = connections.enter(ip(1));
        let owed = answered.connection.asked();
        tokio::time::advance(Duration::from_millis(1)).await;
        let silent = connections.enter(ip(1));
        let newcomer = connections.enter(ip(1));
        assert!(!gone(&answered) && gone(&silent) && !gone(&newcomer));
        drop(owed);
    }
}
