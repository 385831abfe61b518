//! `PUT` of a file: it comes whole into a file of this node, and goes from there to its holders. Shell.
//!
//! It is kept here first because a put whose chain breaks must send all of it again, and because a
//! slow client must not keep holders waiting. Invariant: nothing of an upload is seen under its name
//! before all of it came, and what was said of it (its length, its digest) is true.

use super::super::Web;
use super::super::body::broken;
use super::super::refusal::{Refusal, json};
use super::super::transfers::{Direction, Transfer};
use super::spool::{SpoolError, SpoolFile};
use super::wanted::Wanted;
use super::{find, put, resumable};
use crate::client::ClientError;
use crate::client::put::{PutDone, PutItem, PutKind, coming};
use crate::clock;
use crate::limits::{HTTP_COMING_LEAST_BYTES, UPLOAD_DRAIN_BYTES, UPLOAD_DRAIN_TIMEOUT, UPLOAD_WRITE_BYTES};
use crate::types::ContentId;
use crate::wire::message::Request as Ask;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use serde::Serialize;
use std::path::Path;
use std::sync::Arc;
use tokio::time::timeout;

/// Permission bits of what comes over HTTP, which knows none.
const MODE: u16 = 0o644;

/// The answer.
#[derive(Debug, Serialize)]
struct StoredDocument {
    name: String,
    bytes: u64,
    content: Option<String>,
    replicas_wanted: u8,
    replicas: usize,
    nodes: Vec<String>,
    sha256: String,
}

/// `PUT /api/files/NAME`.
pub(in crate::web) async fn upload(
    State(web): State<Arc<Web>>,
    request: Request,
) -> Result<Response, Refusal> {
    let (head, body) = request.into_parts();
    // Its own task outlives its connection, so the bound on connections is none for it.
    let turn = Arc::clone(&web.files.uploads).try_acquire_owned().map_err(|_| {
        Refusal::new(
            StatusCode::TOO_MANY_REQUESTS,
            "too_many",
            "this node takes too many files at the moment",
        )
        .hint("try again later, or ask another node")
        .header(header::RETRY_AFTER, "5")
    })?;
    // On its own, so that it ends in order when the client goes: what came of a resumable upload
    // is noted, and what came whole is stored.
    let task = tokio::spawn(async move {
        let _turn = turn;
        let wanted = match check(&web, &head).await {
            Ok(wanted) => wanted,
            Err(refusal) => {
                // Who waits for our word sends nothing.
                if !head.headers.contains_key(header::EXPECT) {
                    drain(body).await;
                }
                return Err(refusal);
            }
        };
        let total = wanted.part.as_ref().and_then(|part| part.range).map(|(first, end)| end - first);
        let shown = web.transfers.begin(wanted.name.as_str(), Direction::Upload, total.or(wanted.length));
        match wanted.part.clone() {
            Some(part) => resumable::take(&web, &wanted, &part, body, &shown).await,
            None => whole(&web, &wanted, body, &shown).await,
        }
    });
    task.await.map_err(|_| Refusal::internal("the upload was interrupted"))?
}

/// What can be said before any of it comes.
async fn check(web: &Web, head: &Parts) -> Result<Wanted, Refusal> {
    let wanted = Wanted::read(&head.uri, &head.headers)?;
    let there = find(web, &wanted.name).await?;
    wanted.check(there.as_ref())?;
    let bytes = wanted.part.as_ref().map(|part| part.total).or(wanted.length);
    // What is small is soon here, and is placed then.
    if bytes.is_none_or(|bytes| bytes > UPLOAD_WRITE_BYTES as u64) {
        place(web, &wanted, bytes.unwrap_or(0)).await?;
    }
    Ok(wanted)
}

/// Takes some of a body that is not wanted: many clients read no answer before they have sent theirs.
async fn drain(mut body: Body) {
    let mut left = UPLOAD_DRAIN_BYTES;
    let draining = async {
        while left > 0
            && let Some(Ok(frame)) = body.frame().await
        {
            left = left.saturating_sub(frame.data_ref().map_or(0, Bytes::len));
        }
    };
    // What does not come in time is cut.
    let _ = timeout(UPLOAD_DRAIN_TIMEOUT, draining).await;
}

/// Asks where it would go, to refuse early what cannot be stored.
async fn place(web: &Web, wanted: &Wanted, bytes: u64) -> Result<(), Refusal> {
    let names = vec![wanted.name.clone()];
    let request = Ask::PutOpen { names, bytes, replicas: wanted.replicas, exclude: Vec::new() };
    web.sessions.ask(&request).await?;
    Ok(())
}

/// Takes a file that comes in one go.
async fn whole(web: &Web, wanted: &Wanted, body: Body, shown: &Transfer) -> Result<Response, Refusal> {
    let (spool, bytes) = (web.files.spool.clone(), wanted.length.unwrap_or(0));
    let file = blocking(move || spool.begin(bytes)).await?;
    if bytes >= HTTP_COMING_LEAST_BYTES
        && let Ok(_turn) = web.files.puts_while_coming.try_acquire()
    {
        return while_coming(web, wanted, bytes, body, file, shown).await;
    }
    let (file, came) = receive(body, file, wanted.length.unwrap_or(u64::MAX), shown, |_| {}).await?;
    came?;
    let hash = file.part_hash();
    check_digest(wanted.body_digest, hash)?;
    check_digest(wanted.file_digest, hash)?;
    store(web, wanted, file.path(), file.bytes(), hash).await
}

/// Takes a file that comes in one go, and makes its copies meanwhile. Its entry is not made before all of it
/// is here and right; and it is here whole all the same, so a chain that breaks costs the client nothing.
async fn while_coming(
    web: &Web,
    wanted: &Wanted,
    size: u64,
    body: Body,
    file: SpoolFile,
    shown: &Transfer,
) -> Result<Response, Refusal> {
    let (growing, coming) = coming::begin();
    let path = file.path().to_owned();
    let item = item(wanted, PutKind::Coming { path, size, coming: coming.clone() });
    let putting = async {
        let done = put(web, item, wanted.replicas).await;
        (done, coming.is_whole())
    };
    let receiving = async {
        let (file, came) = receive(body, file, size, shown, |bytes| growing.grow_to(bytes)).await?;
        came?;
        let hash = file.part_hash();
        check_digest(wanted.body_digest, hash)?;
        check_digest(wanted.file_digest, hash)?;
        let there = find(web, &wanted.name).await?;
        if wanted.is_conditional() {
            wanted.check(there.as_ref())?;
        }
        growing.end();
        Ok::<_, Refusal>((file, hash, there.is_some()))
    };
    let (received, (done, was_whole)) = tokio::join!(receiving, putting);
    let (file, hash, was_there) = received?;
    match done {
        Ok(done) => Ok(stored(was_there, &done, &hash)),
        Err(error) if was_whole => Err(put_failed(error)),
        // It failed before there was anything to be committed.
        Err(error) => {
            tracing::debug!(%error, "an upload is put once more");
            store(web, wanted, file.path(), file.bytes(), hash).await
        }
    }
}

/// Brings a body into `file`, at most so many bytes of it. The file comes back with what came, also
/// when the rest did not.
pub(super) async fn receive(
    mut body: Body,
    mut file: SpoolFile,
    bytes_max: u64,
    shown: &Transfer,
    written_to: impl Fn(u64),
) -> Result<(SpoolFile, Result<(), Refusal>), Refusal> {
    let mut left = bytes_max;
    let (mut batch, mut ended) = gather(&mut body, &mut left, shown).await;
    while !batch.is_empty() {
        let written = tokio::task::spawn_blocking(move || {
            let written = file.write(&batch);
            (file, written)
        });
        // The next bytes come while these are written.
        let next = async {
            match &ended {
                None => gather(&mut body, &mut left, shown).await,
                Some(_) => (BytesMut::new(), None),
            }
        };
        let (written, (next, next_ended)) = tokio::join!(written, next);
        let (back, written) = written.map_err(|_| Refusal::internal("interrupted"))?;
        file = back;
        if let Err(error) = written {
            return Ok((file, Err(error.into())));
        }
        written_to(file.bytes());
        batch = next;
        ended = ended.or(next_ended);
    }
    Ok((file, ended.unwrap_or(Ok(()))))
}

/// The next bytes of a body, and how it ended if it did.
async fn gather(
    body: &mut Body,
    left: &mut u64,
    shown: &Transfer,
) -> (BytesMut, Option<Result<(), Refusal>>) {
    // Copied together: a body in chunks of one byte would cost a handle of 32 bytes for each.
    let mut batch = BytesMut::with_capacity(UPLOAD_WRITE_BYTES);
    while batch.len() < UPLOAD_WRITE_BYTES {
        let data = match body.frame().await {
            Some(Ok(frame)) => frame.into_data().unwrap_or_default(),
            Some(Err(error)) => {
                return (batch, Some(Err(broken(&error))));
            }
            None => return (batch, Some(Ok(()))),
        };
        let Some(rest) = left.checked_sub(data.len() as u64) else {
            return (batch, Some(Err(Refusal::invalid("the body is longer than was said"))));
        };
        *left = rest;
        shown.advance(data.len() as u64);
        batch.extend_from_slice(&data);
    }
    (batch, None)
}

/// Whether the bytes are those that were meant.
pub(super) fn check_digest(said: Option<[u8; 32]>, is: [u8; 32]) -> Result<(), Refusal> {
    if said.is_none_or(|said| said == is) {
        return Ok(());
    }
    let message = format!("the bytes are not those of the digest: their SHA-256 is {}", hex(&is));
    Err(Refusal::new(StatusCode::BAD_REQUEST, "digest", message).hint("nothing was stored; send it again"))
}

/// Puts what came to its holders.
pub(super) async fn store(
    web: &Web,
    wanted: &Wanted,
    path: &Path,
    size: u64,
    hash: [u8; 32],
) -> Result<Response, Refusal> {
    let _turn = web.files.puts.acquire().await.map_err(|_| Refusal::internal("no puts any more"))?;
    let there = find(web, &wanted.name).await?;
    if wanted.is_conditional() {
        wanted.check(there.as_ref())?;
    }
    let item = item(wanted, PutKind::File { path: path.to_owned(), size });
    let done = put(web, item, wanted.replicas).await.map_err(put_failed)?;
    Ok(stored(there.is_some(), &done, &hash))
}

fn item(wanted: &Wanted, what: PutKind) -> PutItem {
    let now_ns = i64::try_from(clock::wall_us().saturating_mul(1_000)).unwrap_or(i64::MAX);
    let modified_ns = wanted.modified_ns.unwrap_or(now_ns);
    PutItem { name: wanted.name.clone(), what, mode: MODE, modified_ns }
}

fn put_failed(error: ClientError) -> Refusal {
    match error {
        ClientError::File { source, .. } => SpoolError::File(source).into(),
        error => error.into(),
    }
}

fn stored(was_there: bool, done: &PutDone, hash: &[u8; 32]) -> Response {
    let status = if was_there { StatusCode::OK } else { StatusCode::CREATED };
    let content: Option<(ContentId, u64)> = done.body.content();
    let mut nodes = done.holders.clone();
    nodes.sort();
    let document = StoredDocument {
        name: done.name.to_string(),
        bytes: content.map_or(0, |(_, size)| size),
        content: content.map(|(content, _)| content.to_string()),
        replicas_wanted: done.wanted,
        replicas: nodes.len(),
        nodes,
        sha256: hex(hash),
    };
    let mut response = json(status, &document);
    let tag = document.content.and_then(|content| HeaderValue::from_str(&format!("\"{content}\"")).ok());
    if let Some(tag) = tag {
        response.headers_mut().insert(header::ETAG, tag);
    }
    response
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Runs what waits for the disk where that disturbs nobody.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, SpoolError> + Send + 'static,
) -> Result<T, Refusal> {
    let done = tokio::task::spawn_blocking(work).await;
    Ok(done.map_err(|_| Refusal::internal("interrupted"))??)
}
