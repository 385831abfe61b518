//! `GET /metrics`: numbers for Prometheus. Shell.
//!
//! What this node counts itself it tells always; what only the proxy knows is asked for at each
//! scrape, and left out while there is none.
//!
//! Invariant: labels are paths as they are routed, never as they were asked for, so nobody outside
//! can make new ones.

use super::Web;
use super::refusal::Refusal;
use super::status;
use super::transfers::Direction;
use crate::documents::StatusDocument;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::Response;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Upper bounds of the classes of latency, in seconds.
const CLASSES: [f64; 10] = [0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0];
const TEXT: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answered {
    route: String,
    method: String,
    status: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Route {
    route: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Standing {
    state: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Way {
    direction: &'static str,
}

/// What is counted of requests.
pub(crate) struct Metrics {
    registry: Registry,
    requests: Family<Answered, Counter>,
    seconds: Family<Route, Histogram>,
}

impl Default for Metrics {
    fn default() -> Metrics {
        let requests = Family::<Answered, Counter>::default();
        let seconds = Family::<Route, Histogram>::new_with_constructor(|| Histogram::new(CLASSES));
        let mut registry = Registry::with_prefix("thorp");
        registry.register("http_requests", "Requests answered", requests.clone());
        let help = "Time until the answer began";
        registry.register_with_unit("http_request_duration", help, Unit::Seconds, seconds.clone());
        Metrics { registry, requests, seconds }
    }
}

impl Metrics {
    /// A request was answered after so many milliseconds.
    pub(super) fn answered(&self, route: &str, method: &Method, status: StatusCode, ms: u64) {
        let method = if [Method::GET, Method::HEAD, Method::PUT, Method::POST, Method::DELETE, Method::PATCH]
            .contains(method)
        {
            method.to_string()
        } else {
            "other".to_owned()
        };
        let answered = Answered { route: route.to_owned(), method, status: status.as_u16() };
        self.requests.get_or_create(&answered).inc();
        self.seconds.get_or_create(&Route { route: route.to_owned() }).observe(ms as f64 / 1_000.0);
    }
}

/// `GET /metrics`.
pub(super) async fn metrics(State(web): State<Arc<Web>>) -> Result<Response, Refusal> {
    let standing = status::document(&web).await.ok();
    let mut now = Registry::with_prefix("thorp");
    of_this_node(&web, &mut now).await;
    if let Some(standing) = standing {
        of_the_cluster(&web, &standing, &mut now);
    }
    let failed = |_| Refusal::internal("the numbers cannot be written");
    let (mut text, mut counted) = (String::new(), String::new());
    encode(&mut text, &now).map_err(failed)?;
    encode(&mut counted, &web.metrics.registry).map_err(failed)?;
    // One document: the end is marked once.
    let text = text.trim_end_matches("# EOF\n").to_owned() + &counted;
    let mut response = Response::new(Body::from(text));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(TEXT));
    Ok(response)
}

async fn of_this_node(web: &Web, registry: &mut Registry) {
    let counts = web.insight.counts();
    let mut counter = |name: &str, help: &str, count: &AtomicU64| {
        registry.register(name, help, ConstCounter::new(count.load(Ordering::Relaxed)));
    };
    counter("pulls", "Copies that this node made of contents that others hold", &counts.pulls);
    counter("pulls_failed", "Copies that this node could not make", &counts.pulls_failed);
    counter("pulled_bytes", "Bytes of the copies that this node made", &counts.pulled_bytes);
    counter("drops", "Surplus copies that this node gave up", &counts.drops);
    counter("repairs", "Lost copies made anew while this node was the proxy", &counts.healed);
    counter("term_changes", "Changes of the proxy or its term that this node saw", &counts.terms);
    let moved = Family::<Way, Counter>::default();
    for (direction, word) in [(Direction::Upload, "upload"), (Direction::Download, "download")] {
        let bytes = web.transfers.moved_bytes(direction);
        moved.get_or_create(&Way { direction: word }).inc_by(bytes);
    }
    registry.register("http_transferred_bytes", "Bytes of files that went through HTTP", moved);
    let running = i64::try_from(web.transfers.list().len()).unwrap_or(i64::MAX);
    registry.register("http_transfers", "Files on their way through HTTP", ConstGauge::new(running));
    let insight = Arc::clone(&web.insight);
    if let Ok(Some(age_ms)) = tokio::task::spawn_blocking(move || insight.scrub_age_ms()).await {
        let help = "Age of the oldest check of a copy on this node";
        let age = ConstGauge::new(age_ms as f64 / 1_000.0);
        registry.register_with_unit("scrub_age", help, Unit::Seconds, age);
    }
}

fn of_the_cluster(web: &Web, standing: &StatusDocument, registry: &mut Registry) {
    let mut states: BTreeMap<&str, i64> = BTreeMap::new();
    for state in ["up", "suspect", "away", "down", "draining"] {
        states.insert(
            state,
            standing.nodes.iter().filter(|node| node.state == state).count().cast_signed() as i64,
        );
    }
    registry.register("nodes", "Machines by state", by_state(states));
    let files = &standing.files;
    let states =
        [("ok", files.ok), ("healing", files.healing), ("degraded", files.degraded), ("lost", files.lost)];
    let states = states.into_iter().map(|(state, count)| (state, count.cast_signed()));
    registry.register("files", "Files by state", by_state(states));
    let mut gauge = |name: &str, help: &str, value: u64| {
        registry.register(name, help, ConstGauge::new(value.cast_signed()));
    };
    gauge("files_bytes", "Bytes of all files, each counted once", files.bytes);
    gauge("messages_waiting", "Messages that wait for a machine", standing.messages.waiting);
    gauge("term", "Number of the proxy's term", standing.cluster.term);
    let own = web.node.to_string();
    gauge("is_proxy", "Whether this node leads", u64::from(standing.cluster.proxy == own));
    if let Some(node) = standing.nodes.iter().find(|node| node.id == own) {
        gauge("capacity_bytes", "What this node may fill in all", node.capacity_bytes);
        gauge("used_bytes", "What this node has filled", node.used_bytes);
        gauge("free_bytes", "What this node could still take", node.free_bytes);
        gauge("contents", "Contents that this node holds", node.contents);
    }
}

fn by_state<'state>(states: impl IntoIterator<Item = (&'state str, i64)>) -> Family<Standing, Gauge> {
    let family = Family::<Standing, Gauge>::default();
    for (state, count) in states {
        family.get_or_create(&Standing { state: state.to_owned() }).set(count);
    }
    family
}
