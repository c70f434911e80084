//! The control's listener: deadlines for every connection, and room for every newcomer.
//!
//! In: TCP connections. Out: their requests answered by the router, each connection closed when it overstays (see
//! [`super::crowd`]). The deadlines run beside the connection, not inside its reading: a client that never reads holds
//! up writing, and then nobody reads from it either.

use std::convert::Infallible;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::service::{Service, service_fn};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpSocket};

use super::connections::{Connection, ConnectionGuard, Connections, Limits, Owed};

/// What a connection may make us keep of a request: its head, and as much of its body.
const BUFFER: usize = 32 << 10;

/// What the kernel may keep of answers that a connection has not read: it is memory too, which others could have us
/// use.
const UNREAD: u32 = 128 << 10;
/// Connections that the kernel keeps until they are accepted.
const WAITING: u32 = 1024;

/// Listens, inside the runtime.
pub(super) fn listen(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = if addr.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // A session that is started anew finds its port free at once.
    socket.set_reuseaddr(true)?;
    // Accepted connections inherit it.
    socket.set_send_buffer_size(UNREAD)?;
    socket.bind(addr)?;
    socket.listen(WAITING)
}

/// Accepts and serves for ever.
pub(super) async fn serve(listener: TcpListener, router: Router, limits: Limits) {
    let crowd = Connections::new(limits);
    loop {
        match listener.accept().await {
            Ok((stream, addr)) => {
                let _ = stream.set_nodelay(true);
                tokio::spawn(attend(stream, crowd.enter(addr.ip()), router.clone()));
                // It is heard, and whoever was closed for it leaves, before the next one comes in.
                tokio::task::yield_now().await;
            }
            // No descriptors left, say: those who are there will leave some.
            Err(e) => {
                tracing::debug!("a connection could not be accepted ({e})");
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
    }
}

/// Serves one connection until it ends or overstays.
async fn attend<S>(stream: S, guard: ConnectionGuard, router: Router)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let connection = &guard.connection;
    let inner = TowerToHyperService::new(router);
    let service = service_fn(|request: Request<Incoming>| {
        let owed = connection.asked();
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(connection.clone());
        let answer = inner.call(request);
        async move {
            let response: Response<Body> = answer.await?;
            Ok::<_, Infallible>(response.map(|body| Answer { body, _owed: owed }))
        }
    });
    let io = TokioIo::new(Heard { stream, connection: connection.clone() });
    let served = hyper::server::conn::http1::Builder::new()
        .half_close(true)
        .header_read_timeout(None)
        .max_buf_size(BUFFER)
        .serve_connection(io, service);
    tokio::select! {
        ended = served => if let Err(e) = ended { tracing::trace!("a connection ended: {e}") },
        () = connection.overstayed() => tracing::debug!("a connection overstayed and was closed"),
    }
}

/// An answer's body; goes when hyper has taken in all of it.
struct Answer {
    body: Body,
    _owed: Owed,
}

impl hyper::body::Body for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A connection that tells the list of bytes that came and of answers that are written.
struct Heard<S> {
    stream: S,
    connection: Arc<Connection>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Heard<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        if buf.filled().len() > before {
            self.connection.heard();
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Heard<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// Asked for when hyper has nothing left to write.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        if matches!(flushed, Poll::Ready(Ok(()))) {
            self.connection.written();
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
    use tokio::task::JoinHandle;
    use tokio::time::Instant;

    use super::*;

    const HERE: &[u8] = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";

    fn limits() -> Limits {
        let second = Duration::from_secs;
        Limits { head: second(5), answer: second(30), idle: second(20), ..Limits::default() }
    }

    /// A connection to a server in this task's runtime, whose clock runs ahead whenever nobody has anything to do.
    fn connect(pipe: usize) -> (DuplexStream, JoinHandle<()>) {
        let router = Router::new()
            .route("/", get(|| async { "here" }))
            .route("/large", get(|| async { vec![b'x'; 1 << 20] }))
            .route("/body", axum::routing::post(|body: Bytes| async move { body.len().to_string() }))
            .route("/never", get(|| async { std::future::pending::<()>().await }));
        let (client, server) = tokio::io::duplex(pipe);
        let guard = Connections::new(limits()).enter(IpAddr::from([127, 0, 0, 1]));
        (client, tokio::spawn(attend(server, guard, router)))
    }

    /// Seconds until the server is done with it.
    async fn lasts(server: JoinHandle<()>, since: Instant) -> u64 {
        server.await.expect("no panic");
        since.elapsed().as_secs()
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_must_be_complete_in_time_however_it_trickles() {
        for trickles in [false, true] {
            let begin = Instant::now();
            let (mut client, server) = connect(1 << 16);
            let writing = tokio::spawn(async move {
                client.write_all(b"GET / HTTP/1.1\r\nX: ").await.expect("it takes it");
                while trickles && client.write_all(b"y").await.is_ok() {
                    tokio::time::sleep(Duration::from_millis(300)).await;
                }
                std::future::pending::<()>().await;
            });
            assert_eq!(lasts(server, begin).await, 5);
            writing.abort();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_said_is_closed_as_well() {
        let begin = Instant::now();
        let (_client, server) = connect(1 << 16);
        assert_eq!(lasts(server, begin).await, 5);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_must_be_taken_in_time_however_many_are_asked_for() {
        for (request, reads) in [(HERE, false), (&b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n"[..], true)] {
            let begin = Instant::now();
            let (client, server) = connect(512);
            let (mut from, mut to) = tokio::io::split(client);
            let asking = tokio::spawn(async move {
                while to.write_all(request).await.is_ok() {}
                std::future::pending::<()>().await;
            });
            // A byte now and then is not enough either.
            let reading = tokio::spawn(async move {
                while reads && from.read_u8().await.is_ok() {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                std::future::pending::<()>().await;
            });
            assert_eq!(lasts(server, begin).await, 30);
            asking.abort();
            reading.abort();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_must_come_in_time() {
        let begin = Instant::now();
        let (mut client, server) = connect(1 << 16);
        client
            .write_all(b"POST /body HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n")
            .await
            .expect("taken");
        let writing = tokio::spawn(async move {
            while client.write_all(b"y").await.is_ok() {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        });
        assert_eq!(lasts(server, begin).await, 30);
        writing.await.expect("no panic");
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_is_never_made_is_given_up() {
        let begin = Instant::now();
        let (mut client, server) = connect(1 << 16);
        client.write_all(b"GET /never HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("it takes it");
        assert_eq!(lasts(server, begin).await, 30);
    }

    #[tokio::test(start_paused = true)]
    async fn a_page_that_goes_on_asking_stays() {
        let (mut client, server) = connect(1 << 16);
        let begin = Instant::now();
        for _ in 0..60 {
            client.write_all(HERE).await.expect("it takes it");
            let mut answer = [0u8; 1024];
            let mut got = 0;
            while !answer[..got].ends_with(b"here") {
                let n = client.read(&mut answer[got..]).await.expect("an answer");
                assert!(n > 0, "closed: {}", String::from_utf8_lossy(&answer[..got]));
                got += n;
            }
            tokio::time::sleep(Duration::from_secs(15)).await;
        }
        // 15 s after its last answer, of the 20 it may be idle.
        assert_eq!(lasts(server, begin).await, 60 * 15 + 5);
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_said_everything_still_gets_the_answer() {
        let (mut client, _server) = connect(1 << 16);
        client.write_all(HERE).await.expect("it takes it");
        client.shutdown().await.expect("half closed");
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.expect("an answer");
        assert!(answer.ends_with("here"), "{answer}");
    }
}
