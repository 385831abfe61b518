//! What changes a file that is there: its number of copies, to the trash, and back. Shell.

use super::super::Web;
use super::super::body::whole_body;
use super::super::headers::body_type;
use super::super::refusal::{Refusal, json};
use super::{flag, name_in, parameters};
use crate::client::ClientError;
use crate::documents::{FileRow, NodeNames};
use crate::limits::{HTTP_JSON_BYTES_MAX, REPLICAS_MAX};
use crate::wire::message::{Reply, Request as Ask};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::Response;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Copies {
    replicas: u8,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RemoveParameters {
    #[serde(deserialize_with = "flag")]
    now: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NoParameters {}

#[derive(Debug, Serialize)]
struct RemovedDocument {
    removed: u32,
}

/// `PATCH /api/files/NAME`.
pub(in crate::web) async fn replicas(
    State(web): State<Arc<Web>>,
    request: Request,
) -> Result<Response, Refusal> {
    let name = name_in(request.uri(), "/api/files/")?;
    let NoParameters {} = parameters(request.uri())?;
    must_be_json(request.headers())?;
    let body = whole_body(request.into_body(), HTTP_JSON_BYTES_MAX).await?;
    let asked: Copies = serde_json::from_slice(&body)
        .map_err(|error| Refusal::invalid(format!("the body is no `{{\"replicas\": N}}`: {error}")))?;
    if !(1..=REPLICAS_MAX).contains(&asked.replicas) {
        return Err(Refusal::invalid(format!("`replicas` is 1 to {REPLICAS_MAX}")));
    }
    match web.sessions.ask(&Ask::SetReplicas { name, replicas: asked.replicas }).await? {
        Reply::ReplicasSet { row, nodes, .. } => {
            Ok(json(StatusCode::OK, &FileRow::new(&row, &NodeNames::new(&nodes))))
        }
        _ => Err(ClientError::Nonsense.into()),
    }
}

/// `DELETE /api/files/NAME`.
pub(in crate::web) async fn remove(State(web): State<Arc<Web>>, uri: Uri) -> Result<Response, Refusal> {
    let name = name_in(&uri, "/api/files/")?;
    let asked: RemoveParameters = parameters(&uri)?;
    match web.sessions.ask(&Ask::Remove { names: vec![name], now: asked.now }).await? {
        Reply::Removed { count } => Ok(json(StatusCode::OK, &RemovedDocument { removed: count })),
        _ => Err(ClientError::Nonsense.into()),
    }
}

/// `POST /api/restore/NAME`.
pub(in crate::web) async fn restore(State(web): State<Arc<Web>>, uri: Uri) -> Result<Response, Refusal> {
    let name = name_in(&uri, "/api/restore/")?;
    let NoParameters {} = parameters(&uri)?;
    match web.sessions.ask(&Ask::Restore { names: vec![name] }).await? {
        Reply::Rows { rows, nodes, .. } => match rows.first() {
            Some(row) => Ok(json(StatusCode::OK, &FileRow::new(row, &NodeNames::new(&nodes)))),
            None => Err(ClientError::Nonsense.into()),
        },
        _ => Err(ClientError::Nonsense.into()),
    }
}

/// A form of a foreign page cannot send this type.
fn must_be_json(headers: &HeaderMap) -> Result<(), Refusal> {
    let kind = body_type(headers)?;
    if kind == "application/json" {
        return Ok(());
    }
    let message = format!("the body is of type `{}`", kind.escape_default());
    Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "wrong_type", message)
        .hint("send `Content-Type: application/json`"))
}
