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
use super::accept::stop;
use super::stream::{self, PING_INTERVAL};
use activity::Activity;
use axum::extract::State;
use axum::response::Response;
use bytes::Bytes;
use serde::Serialize;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::broadcast;
use tokio::sync::mpsc::Sender;

/// Events that a reader may be behind.
const BEHIND_MAX: usize = 256;
/// What happened last, for those who come.
const ACTIVITIES_MAX: usize = 50;

/// An event: its kind and its JSON.
#[derive(Clone, Debug)]
struct Event {
    kind: &'static str,
    id: u64,
    data: Arc<str>,
}

/// Where events come from, and how things stand.
pub(crate) struct Feed {
    events: broadcast::Sender<Event>,
    latest: Mutex<Latest>,
}

/// How things stand, for those who come.
#[derive(Default)]
struct Latest {
    next: u64,
    watched: bool,
    /// What happened up to then was told, milliseconds since 1970.
    watched_until_ms: u64,
    status: Option<Arc<str>>,
    proxy: Option<Arc<str>>,
    transfers: Option<Arc<str>>,
    activities: VecDeque<Arc<str>>,
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
        let data: Arc<str> = text.into();
        let mut latest = self.latest();
        let place = match kind {
            "status" => Some(&mut latest.status),
            "proxy" => Some(&mut latest.proxy),
            "transfers" => Some(&mut latest.transfers),
            _ => None,
        };
        if let Some(place) = place {
            if place.as_ref() == Some(&data) {
                return;
            }
            *place = Some(Arc::clone(&data));
        }
        if kind == "activity" {
            latest.activities.push_back(Arc::clone(&data));
            if latest.activities.len() > ACTIVITIES_MAX {
                latest.activities.pop_front();
            }
        }
        latest.next += 1;
        let id = latest.next;
        // With the lock held, so that ids rise in the order of telling. Nobody may be looking.
        let _ = self.events.send(Event { kind, id, data });
    }

    fn happened(&self, activity: &Activity) {
        self.tell("activity", activity);
    }

    /// How things stand, and what comes after that.
    fn join(&self) -> (Vec<Event>, broadcast::Receiver<Event>) {
        let latest = self.latest();
        let id = latest.next;
        let event = |kind| move |data: &Arc<str>| Event { kind, id, data: Arc::clone(data) };
        let standing =
            [("proxy", &latest.proxy), ("status", &latest.status), ("transfers", &latest.transfers)];
        let standing = standing.into_iter().filter_map(|(kind, data)| data.as_ref().map(event(kind)));
        let activities = latest.activities.iter().map(event("activity"));
        (standing.chain(activities).collect(), self.events.subscribe())
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
    let (feed, body) = stream::pieces();
    tokio::spawn(async move {
        let hello = HelloDocument {
            node: HelloNode { id: web.node.to_string(), name: &web.name },
            version: env!("CARGO_PKG_VERSION"),
            secured: web.secured,
        };
        let hello = serde_json::to_string(&hello).unwrap_or_default();
        let (standing, coming) = web.feed.join();
        watcher::begin(&web);
        if send(&feed, stream::event("hello", None, &hello)).await.is_some() {
            read(&web, &feed, standing, coming).await;
        }
    });
    stream::events(body)
}

/// Feeds one reader until it goes or the node is stopped.
async fn read(
    web: &Web,
    feed: &Sender<std::io::Result<Bytes>>,
    standing: Vec<Event>,
    mut coming: broadcast::Receiver<Event>,
) -> Option<()> {
    for event in standing {
        send(feed, stream::event(event.kind, Some(event.id), &event.data)).await?;
    }
    let mut stopping = web.stopping.clone();
    loop {
        let event = tokio::select! {
            event = coming.recv() => event,
            () = tokio::time::sleep(PING_INTERVAL) => {
                send(feed, stream::ping()).await?;
                continue;
            }
            () = feed.closed() => return None,
            () = stop(&mut stopping) => return None,
        };
        match event {
            Ok(event) => send(feed, stream::event(event.kind, Some(event.id), &event.data)).await?,
            Err(broadcast::error::RecvError::Lagged(_)) => {
                let (standing, now) = web.feed.join();
                coming = now;
                send(feed, stream::event("files", None, watcher::EVERYTHING)).await?;
                for event in standing.into_iter().filter(|event| event.kind != "activity") {
                    send(feed, stream::event(event.kind, Some(event.id), &event.data)).await?;
                }
            }
            Err(broadcast::error::RecvError::Closed) => return None,
        }
    }
}

/// `None` once the reader is gone.
async fn send(feed: &Sender<std::io::Result<Bytes>>, piece: Bytes) -> Option<()> {
    feed.send(Ok(piece)).await.ok()
}
