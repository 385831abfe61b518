//! Files over HTTP. Shell.
//!
//! Invariant: a name is decoded once and is a [`FileName`] or refused; no path is ever made of it.
//!
//! | file | what it does |
//! |---|---|
//! | [`listing`] | what is stored, in pages |
//! | [`download`] | the bytes of a file; `conditions` (pure) says which of them, `kinds` (pure) as what, `stream` brings them |
//! | [`upload`] | a file comes, whole; `wanted` (pure) is what the headers say of it |
//! | [`resumable`] | a file comes in parts; `spool` keeps what came until the cluster has it |
//! | [`changes`] | the number of copies, the trash |

pub(super) mod changes;
mod conditions;
pub(super) mod download;
mod kinds;
pub(super) mod listing;
pub(super) mod resumable;
pub(super) mod spool;
mod stream;
pub(super) mod upload;
mod wanted;

pub(super) use kinds::encoded;

use super::Web;
use super::refusal::Refusal;
use crate::client::ClientError;
use crate::client::get::Listed;
use crate::client::put::{PutDone, PutItem, Putter};
use crate::documents::{FileRow, NodeNames};
use crate::limits::{
    HTTP_DOWNLOADS_AT_ONCE, HTTP_PUTS_AT_ONCE, HTTP_PUTS_WHILE_COMING, HTTP_PUTTERS_KEPT,
    HTTP_UPLOADS_AT_ONCE,
};
use crate::transfer::connection::Endpoint;
use crate::transfer::pool::HolderPool;
use crate::types::FileName;
use crate::wire::message::Selector;
use axum::Router;
use axum::extract::Query;
use axum::http::Uri;
use axum::routing::{get, head, post};
use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer, Error};
use spool::Spool;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Semaphore;

/// What all requests for files share.
pub(crate) struct Files {
    /// Connections to holders.
    pool: Arc<HolderPool>,
    downloads: Arc<Semaphore>,
    uploads: Arc<Semaphore>,
    puts: Semaphore,
    puts_while_coming: Semaphore,
    /// Those that have connections and nothing to put.
    putters: Mutex<Vec<Putter>>,
    pub(super) spool: Spool,
}

impl Files {
    /// Keeps what comes under `data_dir`.
    pub(super) fn new(endpoint: &Arc<Endpoint>, data_dir: &Path) -> Files {
        Files {
            pool: Arc::new(HolderPool::new(Arc::clone(endpoint))),
            downloads: Arc::new(Semaphore::new(HTTP_DOWNLOADS_AT_ONCE)),
            uploads: Arc::new(Semaphore::new(HTTP_UPLOADS_AT_ONCE)),
            puts: Semaphore::new(HTTP_PUTS_AT_ONCE),
            puts_while_coming: Semaphore::new(HTTP_PUTS_WHILE_COMING),
            putters: Mutex::default(),
            spool: Spool::new(data_dir),
        }
    }
}

/// Puts a file over connections that are kept, if such are idle.
pub(super) async fn put(web: &Web, item: PutItem, replicas: u8) -> Result<PutDone, ClientError> {
    let idle = || web.files.putters.lock().unwrap_or_else(PoisonError::into_inner);
    let kept = idle().pop();
    let mut putter = kept.unwrap_or_else(|| Putter::new(web.sessions.first()));
    let done = putter.put(item, replicas).await?;
    let mut idle = idle();
    if idle.len() < HTTP_PUTTERS_KEPT {
        idle.push(putter);
    }
    Ok(done)
}

/// The paths of files.
pub(super) fn routes() -> Router<Arc<Web>> {
    let file = get(download::download).put(upload::upload).patch(changes::replicas).delete(changes::remove);
    Router::new()
        .route("/api/files", get(listing::list))
        .route("/api/files/{*name}", file)
        .route("/api/restore/{*name}", post(changes::restore))
        .route("/api/uploads/{id}", head(resumable::look).delete(resumable::forget))
}

/// The name of a file, as it stands after `before` in the path of a request.
pub(super) fn name_in(uri: &Uri, before: &str) -> Result<FileName, Refusal> {
    let text = uri.path().strip_prefix(before).unwrap_or_default();
    let text = decoded(text).map_err(|why| Refusal::invalid(format!("the name in the path {why}")))?;
    FileName::parse(&text).map_err(|error| Refusal::invalid(error.to_string()))
}

/// A part of a path, its `%41` decoded once.
pub(super) fn decoded(text: &str) -> Result<String, &'static str> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        if *byte != b'%' {
            bytes.push(*byte);
            continue;
        }
        let digit = |at: usize| after.get(at).and_then(|digit| char::from(*digit).to_digit(16));
        let (Some(high), Some(low)) = (digit(0), digit(1)) else {
            return Err("has a `%` without two hexadecimal digits after it");
        };
        bytes.push(u8::try_from(high * 16 + low).unwrap_or_default());
        rest = after.get(2..).unwrap_or_default();
    }
    String::from_utf8(bytes).map_err(|_| "is not UTF-8")
}

/// The parameters of a request; unknown ones are refused, so that a typing error does not pass for a wish.
pub(super) fn parameters<T: DeserializeOwned>(uri: &Uri) -> Result<T, Refusal> {
    match Query::try_from_uri(uri) {
        Ok(Query(parameters)) => Ok(parameters),
        Err(error) => Err(Refusal::invalid(error.body_text())),
    }
}

/// A parameter that says yes or no.
pub(super) fn flag<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    match String::deserialize(deserializer)?.as_str() {
        "1" | "true" => Ok(true),
        "0" | "false" => Ok(false),
        _ => Err(D::Error::custom("a flag is `1` or `0`")),
    }
}

/// As [`flag`], of one whose absence means yes.
pub(super) fn yes() -> bool {
    true
}

/// The file of this name, if there is one.
pub(super) async fn find(web: &Web, name: &FileName) -> Result<Option<Listed>, Refusal> {
    match web.sessions.list(&Selector::Name(name.clone())).await {
        Ok(rows) => Ok(rows.into_iter().next()),
        Err(error) => match Refusal::from(error) {
            refusal if refusal.code == "not_found" => Ok(None),
            refusal => Err(refusal),
        },
    }
}

/// The file of this name.
pub(super) async fn must_find(web: &Web, name: &FileName) -> Result<Listed, Refusal> {
    find(web, name).await?.ok_or_else(|| Refusal::not_found(format!("there is no file `{name}`")))
}

/// The row of a file, as clients see it.
pub(super) fn row(listed: &Listed) -> FileRow {
    FileRow::new(&listed.row, &NodeNames::new(&listed.holders))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_decoded_once_and_checked() {
        let name = |path: &str| {
            let uri: Uri = format!("/api/files/{path}").parse().expect("an URI");
            name_in(&uri, "/api/files/")
                .map(|name| name.to_string())
                .map_err(|refusal| refusal.status.as_u16())
        };
        assert_eq!(name("a/b%20c/%C3%A9+?x=1").as_deref(), Ok("a/b c/é+"));
        assert_eq!(name("%252e%252e/x").as_deref(), Ok("%2e%2e/x"));
        for bad in [
            "..%2f..%2fetc/passwd",
            "../x",
            "%2e%2e/x",
            "%00",
            "a%0d%0ab",
            "%ff",
            "%c0%af",
            "%",
            "%4",
            "%zz",
            "%2fetc",
            "/etc",
            "a//b",
            "a/",
            "a%5cb",
            "%E2%80%A8",
        ] {
            assert_eq!(name(bad), Err(400), "{bad}");
        }
    }
}
