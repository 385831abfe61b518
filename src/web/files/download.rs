//! `GET` and `HEAD` of a file. Shell.

use super::super::Web;
use super::super::refusal::Refusal;
use super::conditions::{Answer, answer};
use super::kinds::{disposition, is_harmless, kind_of};
use super::stream::stream;
use super::{flag, must_find, name_in, parameters};
use crate::client::get::Listed;
use crate::types::{Body as Entry, ContentId};
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::Response;
use serde::Deserialize;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

/// What of ours a browser may load for a file that it shows itself: its own picture, sound or film.
const SHOWN_POLICY: &str =
    "default-src 'none'; img-src 'self'; media-src 'self'; object-src 'self'; style-src 'unsafe-inline'";

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(in crate::web) struct Parameters {
    #[serde(deserialize_with = "flag")]
    inline: bool,
}

/// `GET /api/files/NAME`.
pub(in crate::web) async fn download(
    State(web): State<Arc<Web>>,
    request: Request,
) -> Result<Response, Refusal> {
    let name = name_in(request.uri(), "/api/files/")?;
    let asked: Parameters = parameters(request.uri())?;
    let listed = must_find(&web, &name).await?;
    give(&web, &listed, request.method(), request.headers(), &asked).await
}

/// The file, as much of it as is asked for.
pub(in crate::web) async fn give(
    web: &Web,
    listed: &Listed,
    method: &Method,
    headers: &HeaderMap,
    asked: &Parameters,
) -> Result<Response, Refusal> {
    let (content, size) = content_of(listed)?;
    let tag = format!("\"{content}\"");
    let modified = http_date(listed.row.modified_ns);
    let answer = answer(headers, size, &tag, method == Method::GET);
    let (status, range) = match &answer {
        Answer::Whole => (StatusCode::OK, 0..size),
        Answer::Part(range) => (StatusCode::PARTIAL_CONTENT, range.clone()),
        Answer::NotModified => (StatusCode::NOT_MODIFIED, 0..0),
        Answer::Failed => {
            return Err(Refusal::new(
                StatusCode::PRECONDITION_FAILED,
                "precondition",
                "the file is another one than `If-Match` says",
            )
            .header(header::ETAG, tag));
        }
        Answer::Unsatisfiable => {
            return Err(Refusal::new(
                StatusCode::RANGE_NOT_SATISFIABLE,
                "wrong_range",
                format!("the file has {size} bytes"),
            )
            .header(header::CONTENT_RANGE, format!("bytes */{size}")));
        }
    };
    let is_empty = method == Method::HEAD || answer == Answer::NotModified;
    let body = match is_empty {
        true => Body::empty(),
        false => stream(web, listed, (content, size), range.clone()).await?,
    };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let mut set = |name: HeaderName, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            response.headers_mut().insert(name, value);
        }
    };
    set(header::ETAG, &tag);
    // It may be kept, and is asked for again each time.
    set(header::CACHE_CONTROL, "private, no-cache");
    if let Some(modified) = modified {
        set(header::LAST_MODIFIED, &modified);
    }
    if answer == Answer::NotModified {
        return Ok(response);
    }
    if let Answer::Part(range) = answer {
        set(header::CONTENT_RANGE, &format!("bytes {}-{}/{size}", range.start, range.end - 1));
    }
    let kind = kind_of(&listed.row.name);
    let is_shown = asked.inline && is_harmless(kind);
    if is_shown {
        set(header::CONTENT_SECURITY_POLICY, SHOWN_POLICY);
    }
    set(header::ACCEPT_RANGES, "bytes");
    set(header::CONTENT_LENGTH, &(range.end - range.start).to_string());
    set(header::CONTENT_TYPE, kind);
    set(header::CONTENT_DISPOSITION, &disposition(&listed.row.name, is_shown));
    Ok(response)
}

/// What a file holds; a link or a folder holds nothing.
fn content_of(listed: &Listed) -> Result<(ContentId, u64), Refusal> {
    let what = match &listed.row.body {
        Entry::File { content, size } => return Ok((*content, *size)),
        Entry::Symlink { target } => format!("a link to `{target}`"),
        Entry::Folder => "an empty folder".to_owned(),
    };
    let message = format!("`{}` is {what}, which has no bytes", listed.row.name);
    Err(Refusal::new(StatusCode::CONFLICT, "no_file", message).hint("`thorp get` makes it anew on a disk"))
}

/// Whole seconds, as HTTP writes them; it knows no time before 1970.
fn http_date(ns: i64) -> Option<String> {
    let since = Duration::from_secs(u64::try_from(ns.div_euclid(1_000_000_000)).ok()?);
    Some(httpdate::fmt_http_date(UNIX_EPOCH.checked_add(since)?))
}
