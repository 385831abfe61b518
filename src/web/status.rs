//! How the cluster stands: `/api/status` and `/healthz`. Shell.

use super::Web;
use super::refusal::{Refusal, json};
use crate::client::ClientError;
use crate::documents::StatusDocument;
use crate::wire::message::{Reply, Request};
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;
use std::sync::Arc;

/// `GET /api/status`: what `thorp status --json` says.
pub(super) async fn status(State(web): State<Arc<Web>>) -> Result<Response, Refusal> {
    Ok(json(StatusCode::OK, &document(&web).await?))
}

/// How the cluster stands, as the proxy says.
pub(super) async fn document(web: &Web) -> Result<StatusDocument, ClientError> {
    match web.sessions.ask(&Request::Status).await? {
        Reply::Status(status) => Ok(StatusDocument::new(&web.cluster, web.secured, &status)),
        _ => Err(ClientError::Nonsense),
    }
}

/// The answer to `GET /healthz`.
#[derive(Debug, Serialize)]
struct HealthDocument {
    status: &'static str,
}

/// `GET /healthz`: whether this node serves, and there is a proxy.
pub(super) async fn health(State(web): State<Arc<Web>>) -> Response {
    // What this node knows itself: it is asked without a token, and often.
    match web.channels.has_proxy() {
        true => json(StatusCode::OK, &HealthDocument { status: "ok" }),
        false => json(StatusCode::SERVICE_UNAVAILABLE, &HealthDocument { status: "no_proxy" }),
    }
}
