//! What happens, live: `GET /api/events`. Shell.
//!
//! One task watches the cluster for all who look, and only while somebody does. Each reader gets
//! how things stand when it comes, then what changes; one that does not keep up is told to look at
//! everything again.
//!
//! | file | what |
//! |---|---|
//! | `activity` | what a change means, in words (pure) |
//! | `watcher` | asks the proxy what changed |

mod activity;
mod watcher;

use super::Web;
use super::stream;
use activity::Activity;
use axum::extract::State;
use axum::response::Response;
use bytes::Bytes;
use serde::Serialize;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::broadcast;

/// Events that a reader may be behind.
const BEHIND_MAX: usize = 256;
/// What happened last, for those who come.
const ACTIVITIES_MAX: usize = 50;

/// Where events come from, and how things stand.
pub(crate) struct Feed {
    /// As they are sent: all readers share the text, so that one who takes nothing owns none.
    events: broadcast::Sender<Bytes>,
    latest: Mutex<Latest>,
}

/// How things stand, for those who come: events without an id.
#[derive(Default)]
struct Latest {
    next: u64,
    watched: bool,
    /// What happened up to then was told, milliseconds since 1970.
    watched_until_ms: u64,
    status: Option<Bytes>,
    proxy: Option<Bytes>,
    transfers: Option<Bytes>,
    activities: VecDeque<Bytes>,
}

impl Default for Feed {
    fn default() -> Feed {
        Feed { events: broadcast::channel(BEHIND_MAX).0, latest: Mutex::default() }
    }
}

impl Feed {
    fn latest(&self) -> MutexGuard<'_, Latest> {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells all who look.
    fn tell(&self, kind: &'static str, document: &impl Serialize) {
        let Ok(text) = serde_json::to_string(document) else { return };
        let standing = stream::event(kind, None, &text);
        let mut latest = self.latest();
        let place = match kind {
            "status" => Some(&mut latest.status),
            "proxy" => Some(&mut latest.proxy),
            "transfers" => Some(&mut latest.transfers),
            _ => None,
        };
        if let Some(place) = place {
            if place.as_ref() == Some(&standing) {
                return;
            }
            *place = Some(standing);
        } else if kind == "activity" {
            latest.activities.push_back(standing);
            if latest.activities.len() > ACTIVITIES_MAX {
                latest.activities.pop_front();
            }
        }
        latest.next += 1;
        // With the lock held, so that ids rise in the order of telling. Nobody may be looking.
        let _ = self.events.send(stream::event(kind, Some(latest.next), &text));
    }

    fn happened(&self, activity: &Activity) {
        self.tell("activity", activity);
    }

    /// How things stand, what happened before if `with_past`, and what comes after that.
    fn join(&self, with_past: bool) -> (VecDeque<Bytes>, broadcast::Receiver<Bytes>) {
        let latest = self.latest();
        let standing = [&latest.proxy, &latest.status, &latest.transfers].into_iter().flatten();
        let past = latest.activities.iter().filter(|_| with_past);
        (standing.chain(past).cloned().collect(), self.events.subscribe())
    }

    fn readers(&self) -> usize {
        self.events.receiver_count()
    }
}

#[derive(Serialize)]
struct HelloDocument<'web> {
    node: HelloNode<'web>,
    version: &'static str,
    secured: bool,
}

#[derive(Serialize)]
struct HelloNode<'web> {
    id: String,
    name: &'web str,
}

/// `GET /api/events`.
pub(super) async fn events(State(web): State<Arc<Web>>) -> Response {
    let hello = HelloDocument {
        node: HelloNode { id: web.node.to_string(), name: &web.name },
        version: env!("CARGO_PKG_VERSION"),
        secured: web.secured,
    };
    let hello = stream::event("hello", None, &serde_json::to_string(&hello).unwrap_or_default());
    let (mut standing, coming) = web.feed.join(true);
    watcher::begin(&web);
    standing.push_front(hello);
    let (reader, response) = stream::open();
    tokio::spawn(reader.feed(web.stopping.clone(), Look { web, standing, coming }));
    response
}

/// What one reader sees.
struct Look {
    web: Arc<Web>,
    standing: VecDeque<Bytes>,
    coming: broadcast::Receiver<Bytes>,
}

impl stream::Source for Look {
    async fn next(&mut self) -> Option<Bytes> {
        if let Some(event) = self.standing.pop_front() {
            return Some(event);
        }
        match self.coming.recv().await {
            Ok(event) => Some(event),
            Err(broadcast::error::RecvError::Lagged(_)) => {
                (self.standing, self.coming) = self.web.feed.join(false);
                Some(stream::event("files", None, watcher::EVERYTHING))
            }
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}
