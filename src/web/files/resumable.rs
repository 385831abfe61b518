//! Resumable uploads: parts in order, over any number of connections and runs of the node. Shell.
//!
//! Invariant: an offset that was told is on the disk. The upload stays until the cluster has the
//! file, so that a put that failed can be asked for again.

use super::super::Web;
use super::super::refusal::{Refusal, json};
use super::super::transfers::Transfer;
use super::decoded;
use super::spool::{Note, SpoolFile};
use super::upload::{blocking, check_digest, receive, store};
use super::wanted::{Part, UploadId, Wanted};
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderName, HeaderValue, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use std::sync::Arc;

const OFFSET: HeaderName = HeaderName::from_static("upload-offset");
const LENGTH: HeaderName = HeaderName::from_static("upload-length");

/// The answer while it is not whole.
#[derive(Debug, Serialize)]
struct UploadDocument<'a> {
    upload: &'a str,
    offset: u64,
    total: u64,
}

/// Takes a part; with the last one the file is stored.
pub(super) async fn take(
    web: &Web,
    wanted: &Wanted,
    part: &Part,
    body: Body,
    shown: &Transfer,
) -> Result<Response, Refusal> {
    let (spool, id, name, total) =
        (web.files.spool.clone(), part.id.clone(), wanted.name.to_string(), part.total);
    // Without bytes it is the question to store what came: then there must be something.
    let may_begin = part.range.is_some();
    let file = blocking(move || spool.resume(id.as_str(), &name, total, may_begin)).await?;
    let (first, end) = part.range.unwrap_or((file.bytes(), file.bytes()));
    if first != file.bytes() {
        let message = format!("the upload has {} bytes, and the part begins at {first}", file.bytes());
        return Err(at(Refusal::new(StatusCode::CONFLICT, "offset", message), file.bytes()));
    }
    let (file, came) = receive(body, file, end - first, shown, |_| {}).await?;
    let is_whole = came.is_ok() && file.bytes() == end;
    let wrong = check_digest(wanted.body_digest.filter(|_| is_whole), file.part_hash());
    let keep = wrong.is_ok();
    // What came of a part that broke off is kept, what is not what it should be is not.
    let mut file = blocking(move || {
        let mut file = file;
        if keep {
            file.note()?
        } else {
            file.undo()?
        }
        Ok(file)
    })
    .await?;
    came.and(wrong).map_err(|refusal| at(refusal, file.bytes()))?;
    if !is_whole {
        return Err(at(Refusal::invalid("the part is shorter than was said"), file.bytes()));
    }
    if file.bytes() < part.total {
        let document = UploadDocument { upload: part.id.as_str(), offset: file.bytes(), total: part.total };
        return Ok(with(json(StatusCode::ACCEPTED, &document), OFFSET, file.bytes()));
    }
    let hash;
    (file, hash) = blocking(move || {
        let hash = file.hash()?;
        Ok((file, hash))
    })
    .await?;
    if let Err(wrong) = check_digest(wanted.file_digest, hash) {
        // Some byte of it is wrong, and nobody knows which.
        remove(file).await?;
        return Err(wrong);
    }
    let stored = store(web, wanted, file.path(), file.bytes(), hash)
        .await
        .map_err(|refusal| at(refusal, file.bytes()))?;
    if let Err(error) = remove(file).await {
        tracing::warn!(error = error.message, "an upload that is stored could not be removed");
    }
    Ok(stored)
}

async fn remove(mut file: SpoolFile) -> Result<(), Refusal> {
    blocking(move || file.remove()).await
}

/// `HEAD /api/uploads/ID`.
pub(in crate::web) async fn look(State(web): State<Arc<Web>>, uri: Uri) -> Result<Response, Refusal> {
    let (spool, id) = (web.files.spool.clone(), id_in(&uri)?);
    let note: Option<Note> = blocking(move || spool.look(id.as_str())).await?;
    let note = note.ok_or_else(|| Refusal::not_found("there is no such upload"))?;
    let response = with(StatusCode::NO_CONTENT.into_response(), OFFSET, note.offset);
    Ok(with(response, LENGTH, note.total))
}

/// `DELETE /api/uploads/ID`.
pub(in crate::web) async fn forget(State(web): State<Arc<Web>>, uri: Uri) -> Result<Response, Refusal> {
    let (spool, id) = (web.files.spool.clone(), id_in(&uri)?);
    match blocking(move || spool.forget(id.as_str())).await? {
        true => Ok(StatusCode::NO_CONTENT.into_response()),
        false => Err(Refusal::not_found("there is no such upload")),
    }
}

fn id_in(uri: &Uri) -> Result<UploadId, Refusal> {
    let text = uri.path().strip_prefix("/api/uploads/").unwrap_or_default();
    UploadId::parse(&decoded(text).map_err(Refusal::invalid)?)
}

fn at(refusal: Refusal, offset: u64) -> Refusal {
    refusal.header(OFFSET, offset.to_string())
}

fn with(mut response: Response, name: HeaderName, value: u64) -> Response {
    response.headers_mut().insert(name, HeaderValue::from(value));
    response
}
