//! Answers that come in pieces: a body that is fed through a bounded channel, and Server-Sent Events
//! on top of it. Shell.
//!
//! Invariant: whoever feeds learns that the reader is gone by the next piece, and never makes more
//! than the channel holds.

use axum::body::Body;
use axum::http::{HeaderValue, header};
use axum::response::Response;
use bytes::Bytes;
use hyper::body::Frame;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::mpsc;

/// Pieces on their way to a reader.
const PIECES_MAX: usize = 16;
/// A comment goes to the reader of a quiet stream this often, so that both ends notice a connection that broke.
pub(super) const PING_INTERVAL: Duration = Duration::from_secs(10);

/// A body that is fed through a channel. An error breaks the connection: what came is not whole.
struct Pieces(mpsc::Receiver<io::Result<Bytes>>);

impl hyper::body::Body for Pieces {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        self.0.poll_recv(context).map(|piece| piece.map(|piece| piece.map(Frame::data)))
    }
}

/// A body, and the end that feeds it.
pub(super) fn pieces() -> (mpsc::Sender<io::Result<Bytes>>, Body) {
    pieces_of(PIECES_MAX)
}

/// The same with room for so many: where each may be large, and none goes stale.
pub(super) fn pieces_of(most: usize) -> (mpsc::Sender<io::Result<Bytes>>, Body) {
    let (feed, pieces) = mpsc::channel(most);
    (feed, Body::new(Pieces(pieces)))
}

/// An event, as text of `text/event-stream`. `data` is one line: JSON.
pub(super) fn event(kind: &str, id: Option<u64>, data: &str) -> Bytes {
    let id = id.map_or(String::new(), |id| format!("id: {id}\n"));
    Bytes::from(format!("event: {kind}\n{id}data: {data}\n\n"))
}

/// A comment, which keeps the connection alive.
pub(super) fn ping() -> Bytes {
    Bytes::from_static(b": still here\n\n")
}

/// An answer of events.
pub(super) fn events(body: Body) -> Response {
    let mut response = Response::new(body);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    response
}
