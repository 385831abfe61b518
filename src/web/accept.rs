//! Takes connections and speaks HTTP/1.1 on each, with deadlines. Shell.
//!
//! Invariants: there is always a place for one more connection, and it is taken from the address
//! that has most; a head, a body and an answer each move on within their time or the connection ends.

use super::body::{Moving, Patience};
use crate::limits::{HTTP_CONNECTIONS_MAX, HTTP_HEAD_BYTES_MAX, HTTP_HEAD_TIMEOUT, HTTP_HEADERS_MAX};
use crate::node::places::Places;
use crate::transfer::connection::prepare;
use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
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
        // Closed by the socket when it goes; dropped here when the place is somebody else's.
        let (mut kept, withdrawn) = oneshot::channel();
        connections.spawn(async move {
            let served = async {
                serve(Taken::new(tcp, withdrawn), remote, router, stopping).await;
                // A WebSocket goes on in a task of its own, and keeps the place.
                kept.closed().await;
            };
            tokio::select! {
                () = served => {}
                () = place.taken() => tracing::debug!(%remote, "too many connections: one of this address was closed"),
            }
        });
    }
    drop(listener);
    let ended = async { while connections.join_next().await.is_some() {} };
    let _ = timeout(STOP_GRACE, ended).await;
}

async fn serve(taken: Taken, remote: SocketAddr, router: Router, mut stopping: watch::Receiver<bool>) {
    let Ok(local) = taken.tcp.local_addr() else { return };
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
        .serve_connection(TokioIo::new(taken), service)
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

/// A connection whose other end must go on taking what is written, for as long as it has its place.
struct Taken {
    tcp: TcpStream,
    patience: Patience,
    /// Ends with the place. Kept to the end of the socket, also when that is no HTTP any more.
    withdrawn: oneshot::Receiver<Infallible>,
}

impl Taken {
    fn new(tcp: TcpStream, withdrawn: oneshot::Receiver<Infallible>) -> Taken {
        // Small answers go at once, and a machine that vanished is noticed where only it would speak.
        prepare(&tcp);
        Taken { tcp, patience: Patience::default(), withdrawn }
    }

    /// An error once the place is somebody else's.
    fn check_place(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        match Pin::new(&mut self.withdrawn).poll(context) {
            Poll::Pending => Ok(()),
            Poll::Ready(_) => {
                Err(io::Error::new(io::ErrorKind::ConnectionAborted, "another one has its place"))
            }
        }
    }
}

impl AsyncRead for Taken {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check_place(context)?;
        Pin::new(&mut self.tcp).poll_read(context, buffer)
    }
}

impl AsyncWrite for Taken {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check_place(context)?;
        let polled = Pin::new(&mut self.tcp).poll_write(context, bytes);
        self.patience.judge(context, polled, Err)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.check_place(context)?;
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
