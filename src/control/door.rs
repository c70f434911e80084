//! The control's listener: so many connections at a time, and none that is silent for long.
//!
//! In: TCP connections. Out: the same, each given up after a time without a byte from the other side. A client that opens
//! connections and says nothing, or dribbles, costs the session neither memory nor file descriptors.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep};

/// Connections at a time: a few pages and a scraper.
const MOST: usize = 32;
/// Without a byte for this long a connection is given up. The page asks twice a second.
const SILENCE: Duration = Duration::from_secs(10);

/// See the module.
pub(super) struct Door {
    listener: TcpListener,
    room: Arc<Semaphore>,
    silence: Duration,
}

impl Door {
    pub(super) fn new(listener: TcpListener) -> Self {
        Self::with(listener, MOST, SILENCE)
    }

    fn with(listener: TcpListener, most: usize, silence: Duration) -> Self {
        Self { listener, room: Arc::new(Semaphore::new(most)), silence }
    }
}

impl Listener for Door {
    type Io = Visitor;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Visitor, SocketAddr) {
        loop {
            // The semaphore is never closed; were it, nobody would be let in any more.
            let Ok(place) = self.room.clone().acquire_owned().await else {
                std::future::pending::<()>().await;
                continue;
            };
            match self.listener.accept().await {
                Ok((stream, addr)) => {
                    let patience = Box::pin(tokio::time::sleep(self.silence));
                    return (Visitor { stream, patience, silence: self.silence, _place: place }, addr);
                }
                // No descriptors left, say: those who are there will leave some.
                Err(e) => {
                    tracing::debug!("a connection could not be accepted ({e})");
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A connection with its place and its patience.
pub(super) struct Visitor {
    stream: TcpStream,
    patience: Pin<Box<Sleep>>,
    silence: Duration,
    _place: OwnedSemaphorePermit,
}

impl AsyncRead for Visitor {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        if let Poll::Ready(read) = Pin::new(&mut self.stream).poll_read(cx, buf) {
            if buf.filled().len() > before {
                let until = Instant::now() + self.silence;
                self.patience.as_mut().reset(until);
            }
            return Poll::Ready(read);
        }
        match self.patience.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl AsyncWrite for Visitor {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    #[test]
    fn those_who_say_nothing_make_room() {
        let std_listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        std_listener.set_nonblocking(true).unwrap();
        let addr = std_listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let listener = TcpListener::from_std(std_listener).unwrap();
                let door = Door::with(listener, 2, Duration::from_millis(300));
                let router = axum::Router::new().route("/", axum::routing::get(|| async { "here" }));
                axum::serve(door, router).await.unwrap();
            });
        });
        // More than there is room for; one of them dribbles the beginning of a request and stops.
        let mut silent: Vec<_> = (0..5).map(|_| std::net::TcpStream::connect(addr).unwrap()).collect();
        silent[0].write_all(b"GET / HTTP/1.1\r\nHost: ").unwrap();
        let mut asked = std::net::TcpStream::connect(addr).unwrap();
        asked.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        asked.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        asked.read_to_string(&mut answer).unwrap();
        assert!(answer.ends_with("here"), "{answer}");
    }
}
