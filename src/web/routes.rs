//! Which path is answered by whom, and what holds for all: the guard before, the headers after. Shell.

use super::accept::Ends;
use super::guard::{COOKIE, Need};
use super::refusal::Refusal;
use super::{Web, channels, events, files, metrics, page, share, status};
use crate::clock;
use axum::Router;
use axum::body::Body;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use std::sync::Arc;

/// All that is served.
pub(super) fn router(web: Arc<Web>) -> Router {
    let mut router = Router::new()
        .route("/api", get(version))
        .route("/api/status", get(status::status))
        .route("/api/channels", get(channels::list))
        .route("/api/channels/{key}", get(channels::get).post(channels::post))
        .route("/api/channels/{key}/clients/{id}", delete(channels::leave))
        .route("/api/channels/{key}/events", get(channels::follow))
        .route("/api/channels/{key}/socket", get(channels::socket))
        .route("/api/events", get(events::events))
        .route("/api/session", post(begin_session).delete(end_session))
        .route("/api/openapi.json", get(openapi))
        .route("/metrics", get(metrics::metrics))
        .route("/healthz", get(status::health))
        .merge(files::routes())
        .merge(share::routes());
    for (path, kind, text) in page::FILES {
        router = router.route(path, get(|| async { page::answer(kind, text) }));
    }
    router
        .fallback(|| async {
            Refusal::not_found("there is nothing here").hint("`/api/openapi.json` has all paths")
        })
        .method_not_allowed_fallback(|| async {
            Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "this cannot be done here")
        })
        .layer(from_fn_with_state(Arc::clone(&web), around))
        .with_state(web)
}

/// `GET /api`.
async fn version() -> String {
    format!("thorp {}", env!("CARGO_PKG_VERSION"))
}

/// `GET /api/openapi.json`: all that is served, for programs. A test holds the server to it.
async fn openapi() -> Response {
    let mut response = Response::new(Body::from(include_str!("openapi.json")));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// What needs no token: the page, which has no data in it; whether we are well; links with their own proof.
fn need(path: &str) -> Need {
    let is_free =
        page::FILES.iter().any(|(file, ..)| *file == path) || path == "/healthz" || path == "/s/{*link}";
    if is_free { Need::Nothing } else { Need::Token }
}

/// Before and after every answer.
async fn around(State(web): State<Arc<Web>>, request: Request, next: Next) -> Response {
    let Some(ends) = request.extensions().get::<Ends>().copied() else {
        return Refusal::internal("a request without a connection").into_response();
    };
    let path = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let need = need(path.as_deref().unwrap_or_default());
    let (method, began) = (request.method().clone(), clock::now());
    let checked = web.guard.check(request.method(), request.uri(), request.headers(), ends, need);
    let mut response = match checked {
        Ok(()) => next.run(request).await,
        Err(refusal) => refusal.into_response(),
    };
    let took_ms = clock::now().since(began);
    let route = path.as_deref().unwrap_or("none");
    web.metrics.answered(route, &method, response.status(), took_ms);
    let headers = response.headers_mut();
    for (name, value) in [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    // What is not of the page runs nothing, whatever it is taken for.
    headers
        .entry(header::CONTENT_SECURITY_POLICY)
        .or_insert(HeaderValue::from_static("default-src 'none'; sandbox"));
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

/// `POST /api/session`: whoever showed the token gets it as a cookie, which links and streams carry too.
async fn begin_session(State(web): State<Arc<Web>>) -> Response {
    let token = web.guard.token().unwrap_or_default();
    cookie(&format!("{COOKIE}={token}; Path=/; HttpOnly; SameSite=Strict"))
}

/// `DELETE /api/session`: the browser forgets it.
async fn end_session() -> Response {
    cookie(&format!("{COOKIE}=; Path=/; HttpOnly; SameSite=Strict; Max-Age=0"))
}

fn cookie(text: &str) -> Response {
    let mut response = StatusCode::NO_CONTENT.into_response();
    if let Ok(value) = HeaderValue::from_str(text) {
        response.headers_mut().insert(header::SET_COOKIE, value);
    }
    response
}
