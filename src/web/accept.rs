//! Takes connections and speaks HTTP/1.1 on each, with deadlines. Shell.
//!
//! Invariants: there is always a place for one more connection, and it is taken from the address
//! that has most; a head, a body and an answer each move on within their time or the connection ends.

use crate::limits::{
    HTTP_CONNECTIONS_MAX, HTTP_HEAD_BYTES_MAX, HTTP_HEAD_TIMEOUT, HTTP_HEADERS_MAX, HTTP_STALL_TIMEOUT,
};
use crate::node::places::Places;
use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use http_body_util::BodyExt;
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Sleep, sleep, timeout};
use tower::ServiceExt;

/// What has not ended by itself this long after the stop is cut.
const STOP_GRACE: Duration = Duration::from_secs(1);
/// Pause when no connection can be taken: out of descriptors, mostly.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// The two ends of the connection that a request came over.
#[derive(Clone, Copy, Debug)]
pub struct Ends {
    /// Who asks.
    pub remote: SocketAddr,
    /// The address of ours that was asked.
    pub local: SocketAddr,
}

/// Takes connections until `stopping` turns true.
pub(super) async fn accept(listener: TcpListener, router: Router, stopping: watch::Receiver<bool>) {
    let places = Places::new(HTTP_CONNECTIONS_MAX);
    let mut connections = JoinSet::new();
    let mut stopped = stopping.clone();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop(&mut stopped) => break,
        };
        while connections.try_join_next().is_some() {}
        let (tcp, remote) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::debug!(%error, "a connection could not be taken");
                sleep(ACCEPT_AGAIN).await;
                continue;
            }
        };
        let mut place = places.enter(remote.ip());
        let (router, stopping) = (router.clone(), stopping.clone());
        connections.spawn(async move {
            tokio::select! {
                () = serve(tcp, remote, router, stopping) => {}
                () = place.taken() => tracing::debug!(%remote, "too many connections: one of this address was closed"),
            }
        });
    }
    drop(listener);
    let ended = async { while connections.join_next().await.is_some() {} };
    let _ = timeout(STOP_GRACE, ended).await;
}

async fn serve(tcp: TcpStream, remote: SocketAddr, router: Router, mut stopping: watch::Receiver<bool>) {
    let Ok(local) = tcp.local_addr() else { return };
    // Small answers must not wait for more; a socket that cannot do this is slower, no worse.
    let _ = tcp.set_nodelay(true);
    let ends = Ends { remote, local };
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let mut request: Request = request.map(|body| Body::new(Moving::new(body)));
        request.extensions_mut().insert(ends);
        let router = router.clone();
        async move { Ok::<_, Infallible>(router.oneshot(request).await.unwrap_or_else(|never| match never {})) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HTTP_HEAD_TIMEOUT)
        .max_headers(HTTP_HEADERS_MAX)
        .max_buf_size(HTTP_HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(Taken::new(tcp)), service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop(&mut stopping) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%remote, %error, "a connection ended");
    }
}

/// Completes when the node is being stopped.
pub(super) async fn stop(stopping: &mut watch::Receiver<bool>) {
    let _ = stopping.wait_for(|stopping| *stopping).await;
}

/// The time that something may take to move on: set while nothing moves.
#[derive(Default)]
struct Patience(Option<Pin<Box<Sleep>>>);

impl Patience {
    fn judge<T>(
        &mut self,
        context: &mut Context<'_>,
        polled: Poll<T>,
        stalled: impl FnOnce(io::Error) -> T,
    ) -> Poll<T> {
        if polled.is_ready() {
            self.0 = None;
            return polled;
        }
        let deadline = self.0.get_or_insert_with(|| Box::pin(sleep(HTTP_STALL_TIMEOUT)));
        let words = "the other side has not moved for too long";
        deadline.as_mut().poll(context).map(|()| stalled(io::Error::new(io::ErrorKind::TimedOut, words)))
    }
}

/// A body that must go on coming.
struct Moving {
    body: Incoming,
    patience: Patience,
}

impl Moving {
    fn new(body: Incoming) -> Moving {
        Moving { body, patience: Patience::default() }
    }
}

impl hyper::body::Body for Moving {
    type Data = bytes::Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        let polled = polled.map(|frame| frame.map(|frame| frame.map_err(Into::into)));
        self.patience.judge(context, polled, |error| Some(Err(error.into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A connection whose other end must go on taking what is written.
struct Taken {
    tcp: TcpStream,
    patience: Patience,
}

impl Taken {
    fn new(tcp: TcpStream) -> Taken {
        Taken { tcp, patience: Patience::default() }
    }
}

impl AsyncRead for Taken {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_read(context, buffer)
    }
}

impl AsyncWrite for Taken {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.tcp).poll_write(context, bytes);
        self.patience.judge(context, polled, Err)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.tcp).poll_write_vectored(context, parts);
        self.patience.judge(context, polled, Err)
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.tcp).poll_flush(context);
        self.patience.judge(context, polled, Err)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.tcp).poll_shutdown(context);
        self.patience.judge(context, polled, Err)
    }
}

/// All of a body, if it is no longer than `bytes_max`.
///
/// # Errors
/// When it is longer, breaks off or stalls.
pub(super) async fn whole_body(
    body: Body,
    bytes_max: usize,
) -> Result<bytes::Bytes, super::refusal::Refusal> {
    use super::refusal::Refusal;
    match http_body_util::Limited::new(body, bytes_max).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => {
            Err(Refusal::too_large(format!("the body is longer than {bytes_max} bytes")))
        }
        Err(error) => Err(broken(error.as_ref())),
    }
}

/// What is said of a body that broke off.
pub(super) fn broken(error: &(dyn std::error::Error + 'static)) -> super::refusal::Refusal {
    use super::refusal::Refusal;
    let causes = std::iter::successors(Some(error), |error| error.source());
    let is_late = |error: &(dyn std::error::Error + 'static)| {
        error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::TimedOut)
    };
    if causes.into_iter().any(is_late) {
        let message = format!("nothing of the body came for {} s", HTTP_STALL_TIMEOUT.as_secs());
        return Refusal::new(axum::http::StatusCode::REQUEST_TIMEOUT, "timeout", message);
    }
    Refusal::invalid(format!("the body did not come whole: {error}"))
}
