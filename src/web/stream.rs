//! Server-Sent Events: answers that go on for as long as somebody reads. Shell.
//!
//! Invariant: what waits for a reader is one piece; the rest is not made before it is taken.

use super::accept::stop;
use super::body::Pieces;
use axum::body::Body;
use axum::http::{HeaderValue, header};
use axum::response::Response;
use bytes::Bytes;
use std::io;
use std::time::Duration;
use tokio::sync::{mpsc, watch};

/// A comment goes to the reader of a quiet stream this often, so that both ends notice a connection that broke.
pub(super) const PING_INTERVAL: Duration = Duration::from_secs(10);

/// What a reader is given.
pub(super) trait Source: Send + 'static {
    /// The next piece; `None` at the end. It may be given up and asked anew: nothing is lost by that.
    fn next(&mut self) -> impl Future<Output = Option<Bytes>> + Send;
}

/// Where the pieces of an answer go.
pub(super) struct Reader(mpsc::Sender<io::Result<Bytes>>);

/// An answer of events, and its reader.
pub(super) fn open() -> (Reader, Response) {
    let (pieces, taken) = mpsc::channel(1);
    let mut response = Response::new(Body::new(Pieces::new(taken)));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    (Reader(pieces), response)
}

impl Reader {
    /// Gives what `source` has, and comments while it has nothing, until it ends, the reader goes or
    /// the node is stopped.
    pub(super) async fn feed(self, mut stopping: watch::Receiver<bool>, mut source: impl Source) {
        let Reader(pieces) = self;
        loop {
            let piece = tokio::select! {
                piece = source.next() => piece,
                () = tokio::time::sleep(PING_INTERVAL) => Some(Bytes::from_static(b": still here\n\n")),
                () = pieces.closed() => None,
                () = stop(&mut stopping) => None,
            };
            let Some(piece) = piece else { return };
            if pieces.send(Ok(piece)).await.is_err() {
                return;
            }
        }
    }
}

/// An event, as text of `text/event-stream`.
pub(super) fn event(kind: &str, id: Option<u64>, data: &str) -> Bytes {
    let mut text = String::with_capacity(data.len() + 64);
    write_event(&mut text, kind, id, data);
    text.into()
}

/// Writes an event. `data` is JSON: a line end in it, which would end the event, stands between its
/// parts, where a space means the same.
pub(super) fn write_event(text: &mut String, kind: &str, id: Option<u64>, data: &str) {
    text.push_str("event: ");
    text.push_str(kind);
    if let Some(id) = id {
        text.push_str("\nid: ");
        text.push_str(&id.to_string());
    }
    text.push_str("\ndata: ");
    for (at, line) in data.split(['\n', '\r']).enumerate() {
        text.push_str(if at > 0 { " " } else { "" });
        text.push_str(line);
    }
    text.push_str("\n\n");
}
