//! Bodies of requests and of answers: whole, or in pieces, and always on the move. Shell.
//!
//! Invariants: a body that brings nothing for [`HTTP_STALL_TIMEOUT`] breaks off; what is kept of
//! one is its bytes, however small the pieces are in which they come; whoever feeds a body never
//! makes more than its channel holds, and learns by the next piece that the reader is gone.

use super::refusal::Refusal;
use crate::limits::HTTP_STALL_TIMEOUT;
use axum::body::Body;
use axum::http::StatusCode;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::{Frame, Incoming, SizeHint};
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::sync::mpsc;
use tokio::time::{Sleep, sleep};

/// The time that something may take to move on: set while nothing moves.
#[derive(Default)]
pub(super) struct Patience(Option<Pin<Box<Sleep>>>);

impl Patience {
    pub(super) fn judge<T>(
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
pub(super) struct Moving {
    body: Incoming,
    patience: Patience,
}

impl Moving {
    pub(super) fn new(body: Incoming) -> Moving {
        Moving { body, patience: Patience::default() }
    }
}

impl hyper::body::Body for Moving {
    type Data = Bytes;
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

/// All of a body, if it is no longer than `bytes_max`.
///
/// # Errors
/// When it is longer, breaks off or stalls.
pub(super) async fn whole_body(mut body: Body, bytes_max: usize) -> Result<Bytes, Refusal> {
    let too_large = || Refusal::too_large(format!("the body is longer than {bytes_max} bytes"));
    let said = usize::try_from(hyper::body::Body::size_hint(&body).lower()).unwrap_or(usize::MAX);
    if said > bytes_max {
        return Err(too_large());
    }
    // Copied together: a body in chunks of one byte would cost a handle for each of them.
    let mut whole = BytesMut::with_capacity(said);
    while let Some(frame) = body.frame().await {
        let data = frame.map_err(|error| broken(&error))?.into_data().unwrap_or_default();
        if whole.len() + data.len() > bytes_max {
            return Err(too_large());
        }
        whole.extend_from_slice(&data);
    }
    Ok(whole.freeze())
}

/// What is said of a body that broke off.
pub(super) fn broken(error: &(dyn std::error::Error + 'static)) -> Refusal {
    let mut causes = std::iter::successors(Some(error), |error| error.source());
    let is_late = |error: &(dyn std::error::Error + 'static)| {
        error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::TimedOut)
    };
    if causes.any(is_late) {
        let message = format!("nothing of the body came for {} s", HTTP_STALL_TIMEOUT.as_secs());
        return Refusal::new(StatusCode::REQUEST_TIMEOUT, "timeout", message);
    }
    Refusal::invalid(format!("the body did not come whole: {error}"))
}

/// A body that is fed through a channel. An error breaks the connection: what came is not whole.
pub(super) struct Pieces<E> {
    first: Option<Bytes>,
    rest: mpsc::Receiver<Result<Bytes, E>>,
    /// Bytes that are still to come, where it was said how many: then it ends with them and not before.
    left: Option<u64>,
}

impl<E> Pieces<E> {
    /// What is fed through `rest`, for as long as it is.
    pub(super) fn new(rest: mpsc::Receiver<Result<Bytes, E>>) -> Pieces<E> {
        Pieces { first: None, rest, left: None }
    }

    /// The same of a known length, of which the first piece is here already.
    pub(super) fn of(bytes: u64, first: Bytes, rest: mpsc::Receiver<Result<Bytes, E>>) -> Pieces<E> {
        Pieces { first: Some(first), rest, left: Some(bytes) }
    }
}

impl<E: Into<Box<dyn std::error::Error + Send + Sync>>> hyper::body::Body for Pieces<E> {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if self.left == Some(0) {
            return Poll::Ready(None);
        }
        let piece = match self.first.take() {
            Some(first) => Some(Ok(first)),
            None => ready!(self.rest.poll_recv(context)),
        };
        Poll::Ready(match (piece, &mut self.left) {
            (Some(Ok(bytes)), left) => {
                if let Some(left) = left {
                    *left = left.saturating_sub(bytes.len() as u64);
                }
                Some(Ok(Frame::data(bytes)))
            }
            (Some(Err(error)), _) => Some(Err(io::Error::other(error))),
            (None, Some(_)) => Some(Err(io::ErrorKind::UnexpectedEof.into())),
            (None, None) => None,
        })
    }

    fn is_end_stream(&self) -> bool {
        self.left == Some(0)
    }

    fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
