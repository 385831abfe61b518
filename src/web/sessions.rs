//! Sessions with the proxy, shared by all requests: each is used by one at a time, and kept for the next. Shell.
//!
//! Invariant: a session whose question was given up before its answer came is never used again: it
//! would give that answer to the next question.

use crate::client::get::Listed;
use crate::client::{Access, ClientError, Session};
use crate::limits::{HTTP_ASKS_AT_ONCE, HTTP_TURN_TIMEOUT};
use crate::wire::message::{Reply, Request, Selector};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

/// Sessions of this process.
pub(crate) struct Sessions {
    /// The one that the others are made from; it asks nothing itself.
    first: Session,
    idle: Mutex<Vec<Session>>,
    room: Semaphore,
}

impl Sessions {
    pub(super) fn new(access: Access) -> Result<Sessions, ClientError> {
        Ok(Sessions {
            first: Session::new(access)?,
            idle: Mutex::default(),
            room: Semaphore::new(HTTP_ASKS_AT_ONCE),
        })
    }

    /// For transfers, which make sessions of their own.
    pub(crate) fn first(&self) -> &Session {
        &self.first
    }

    /// Asks the proxy.
    pub(crate) async fn ask(&self, request: &Request) -> Result<Reply, ClientError> {
        let _turn = self.turn().await?;
        let mut session = self.take();
        let reply = session.ask(request).await;
        self.keep(session, &reply);
        reply
    }

    /// All rows that `selector` means.
    pub(crate) async fn list(&self, selector: &Selector) -> Result<Vec<Listed>, ClientError> {
        let _turn = self.turn().await?;
        let mut session = self.take();
        let rows = session.list(selector).await;
        self.keep(session, &rows);
        rows
    }

    /// As [`Sessions::list`], one row after the other.
    pub(crate) async fn each(
        &self,
        selector: &Selector,
        take: impl FnMut(Listed),
    ) -> Result<(), ClientError> {
        let _turn = self.turn().await?;
        let mut session = self.take();
        let ended = session.list_each(selector, take).await;
        self.keep(session, &ended);
        ended
    }

    /// The right to ask. It comes soon, unless the proxy answers nobody.
    async fn turn(&self) -> Result<SemaphorePermit<'_>, ClientError> {
        match timeout(HTTP_TURN_TIMEOUT, self.room.acquire()).await {
            Ok(Ok(turn)) => Ok(turn),
            _ => Err(ClientError::NoProxy { timeout: HTTP_TURN_TIMEOUT, nodes_heard: true, network: None }),
        }
    }

    fn take(&self) -> Session {
        self.idle().pop().unwrap_or_else(|| self.first.another())
    }

    /// Keeps a session that was answered.
    fn keep<T>(&self, session: Session, answer: &Result<T, ClientError>) {
        if matches!(answer, Ok(_) | Err(ClientError::Refused { .. })) {
            self.idle().push(session);
        }
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Session>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
