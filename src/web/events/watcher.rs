//! Watches the cluster while somebody looks. Shell.
//!
//! The proxy is asked for what changed and answers when there is something, so a change is shown
//! within some tenths of a second and a quiet cluster costs a question every few seconds.

use super::activity::{Activity, Before};
use crate::client::{ClientError, Session};
use crate::clock;
use crate::documents::{FileRow, NodeNames, StatusDocument, format_rfc3339_seconds};
use crate::node::insight::{Arrival, Happening};
use crate::types::{NodeRoute, Term};
use crate::web::accept::stop;
use crate::web::{Web, status};
use crate::wire::message::{Reply, Request, Row, Selector};
use serde::Serialize;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast;
use tokio::time::sleep;

/// How long a question waits for a change: also how often the status is looked at in quiet times.
const WAIT_MS: u64 = 3_000;
/// Between two looks while much happens.
const LOOK_INTERVAL: Duration = Duration::from_millis(400);
/// Between two looks while there is no proxy.
const RETRY_INTERVAL: Duration = Duration::from_millis(1_000);
/// Between two looks at the transfers.
const TRANSFERS_INTERVAL: Duration = Duration::from_millis(500);
/// Files whose state is learnt when the watching begins; of more it is not.
const LEARNT_FILES_MAX: u64 = 20_000;

/// The event that tells to look at all files again.
pub(super) const EVERYTHING: &str = r#"{"changed":[],"removed":[],"all":true}"#;

#[derive(Serialize)]
struct FilesDocument {
    changed: Vec<FileRow>,
    removed: Vec<String>,
    all: bool,
}

#[derive(Serialize)]
struct ProxyDocument {
    state: &'static str,
}

#[derive(Serialize)]
struct TransfersDocument<T> {
    transfers: T,
}

#[derive(Serialize)]
struct MessageDocument<'arrival> {
    id: &'arrival str,
    #[serde(rename = "type")]
    kind: &'arrival str,
    source: &'arrival str,
    created_at: String,
}

/// Starts the watching, unless it goes on already.
pub(super) fn begin(web: &Arc<Web>) {
    if std::mem::replace(&mut web.feed.latest().watched, true) {
        return;
    }
    recall(web);
    let web = Arc::clone(web);
    tokio::spawn(async move {
        let mut stopping = web.stopping.clone();
        tokio::select! {
            () = watch(&web) => {}
            () = watch_transfers(&web) => {}
            () = watch_inbox(&web) => {}
            () = stop(&mut stopping) => {}
        }
    });
}

/// Tells what this node saw happen while nobody looked.
fn recall(web: &Web) {
    let told_until_ms = web.feed.latest().watched_until_ms;
    let missed = web.insight.remembered().into_iter().filter(|(at_ms, _)| *at_ms > told_until_ms);
    for (at_ms, happening) in missed {
        web.feed.happened(&Activity::of(time_of(at_ms), &happening));
    }
}

/// Ends when nobody looks any more.
async fn watch(web: &Web) {
    let mut session = web.sessions.first().another();
    let mut before = Before::default();
    let mut seen = (Term::default(), 0);
    loop {
        match look(web, &mut session, &mut before, &mut seen).await {
            Ok(()) => {
                web.feed.tell("proxy", &ProxyDocument { state: "ok" });
                sleep(LOOK_INTERVAL).await;
            }
            Err(error) => {
                tracing::debug!(%error, "what happens cannot be watched now");
                web.feed.tell("proxy", &ProxyDocument { state: "gone" });
                session = web.sessions.first().another();
                sleep(RETRY_INTERVAL).await;
            }
        }
        let mut latest = web.feed.latest();
        if web.feed.readers() == 0 {
            // With the lock held: whoever joins next begins anew. What is old is not shown then.
            *latest = super::Latest {
                next: latest.next,
                watched_until_ms: clock::wall().0,
                activities: std::mem::take(&mut latest.activities),
                ..super::Latest::default()
            };
            return;
        }
    }
}

/// Asks what changed, and tells it.
async fn look(
    web: &Web,
    session: &mut Session,
    before: &mut Before,
    seen: &mut (Term, u64),
) -> Result<(), ClientError> {
    let request = Request::Watch { term: seen.0, after: seen.1, wait_ms: WAIT_MS };
    let Reply::Changed { term, revision, all, rows, gone, nodes } = session.ask(&request).await? else {
        return Err(ClientError::Nonsense);
    };
    let now = now();
    let standing = status::document(web).await?;
    for activity in before.status(&now, &standing) {
        web.feed.happened(&activity);
    }
    if all {
        learn(session, before, &standing).await?;
    }
    web.feed.tell("status", &standing);
    let (changed, removed) = tell_files(web, before, &now, &rows, &gone, &nodes);
    if all || !changed.is_empty() || !removed.is_empty() {
        web.feed.tell("files", &FilesDocument { changed, removed, all });
    }
    *seen = (term, revision);
    Ok(())
}

fn tell_files(
    web: &Web,
    before: &mut Before,
    now: &str,
    rows: &[Row],
    gone: &[crate::types::FileName],
    nodes: &[NodeRoute],
) -> (Vec<FileRow>, Vec<String>) {
    let names = NodeNames::new(nodes);
    let changed: Vec<FileRow> = rows.iter().map(|row| FileRow::new(row, &names)).collect();
    let removed: Vec<String> = gone.iter().map(ToString::to_string).collect();
    for row in &changed {
        if let Some(activity) = before.file(now, row) {
            web.feed.happened(&activity);
        }
    }
    for name in &removed {
        web.feed.happened(&before.gone(now, name));
    }
    (changed, removed)
}

/// How the files are, so that a change can be told from a new file.
async fn learn(
    session: &mut Session,
    before: &mut Before,
    standing: &StatusDocument,
) -> Result<(), ClientError> {
    before.forget_files();
    if standing.files.count > LEARNT_FILES_MAX {
        return Ok(());
    }
    let names = NodeNames::default();
    let listed = session.list(&Selector::Prefix("".into())).await?;
    before.learn(listed.iter().map(|one| FileRow::new(&one.row, &names)));
    Ok(())
}

/// Tells how transfers through this server go.
async fn watch_transfers(web: &Web) {
    loop {
        web.feed.tell("transfers", &TransfersDocument { transfers: web.transfers.list() });
        sleep(TRANSFERS_INTERVAL).await;
    }
}

/// Tells what comes into this node's inbox.
async fn watch_inbox(web: &Web) {
    let mut arrivals = web.insight.arrivals();
    loop {
        let Arrival { id, kind, source, created_us } = match arrivals.recv().await {
            Ok(arrival) => arrival,
            Err(broadcast::error::RecvError::Lagged(_)) => continue,
            Err(broadcast::error::RecvError::Closed) => return std::future::pending().await,
        };
        let created_ns = i64::try_from(created_us).unwrap_or(i64::MAX).saturating_mul(1_000);
        let created_at = format_rfc3339_seconds(created_ns);
        web.feed.tell("message", &MessageDocument { id: &id, kind: &kind, source: &source, created_at });
        let arrival = Happening::Arrived(Arrival { id, kind, source, created_us });
        web.feed.happened(&Activity::of(now(), &arrival));
    }
}

fn now() -> String {
    time_of(clock::wall().0)
}

fn time_of(wall_ms: u64) -> String {
    format_rfc3339_seconds(i64::try_from(wall_ms).unwrap_or(i64::MAX).saturating_mul(1_000_000))
}
