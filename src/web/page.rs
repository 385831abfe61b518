//! The page, as it was built into the program: no outside resource, nothing inline. Pure.

use axum::body::Body;
use axum::http::{HeaderValue, header};
use axum::response::Response;

/// What the page may do: fetch from this server alone, and run no script but its own files.
const POLICY: &str =
    "default-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

const SCRIPT: &str = "text/javascript; charset=utf-8";

/// A file of the page: its path, its type, its bytes.
pub(super) const FILES: &[(&str, &str, &str)] = &[
    ("/", "text/html; charset=utf-8", include_str!("page/index.html")),
    ("/page.css", "text/css; charset=utf-8", include_str!("page/page.css")),
    ("/icon.svg", "image/svg+xml", include_str!("page/icon.svg")),
    ("/manifest.webmanifest", "application/manifest+json", include_str!("page/manifest.webmanifest")),
    ("/page.js", SCRIPT, include_str!("page/page.js")),
    ("/activity.js", SCRIPT, include_str!("page/activity.js")),
    ("/api.js", SCRIPT, include_str!("page/api.js")),
    ("/channels.js", SCRIPT, include_str!("page/channels.js")),
    ("/copies.js", SCRIPT, include_str!("page/copies.js")),
    ("/dropped.js", SCRIPT, include_str!("page/dropped.js")),
    ("/element.js", SCRIPT, include_str!("page/element.js")),
    ("/events.js", SCRIPT, include_str!("page/events.js")),
    ("/files.js", SCRIPT, include_str!("page/files.js")),
    ("/machines.js", SCRIPT, include_str!("page/machines.js")),
    ("/notices.js", SCRIPT, include_str!("page/notices.js")),
    ("/session.js", SCRIPT, include_str!("page/session.js")),
    ("/share.js", SCRIPT, include_str!("page/share.js")),
    ("/upload.js", SCRIPT, include_str!("page/upload.js")),
    ("/uploads.js", SCRIPT, include_str!("page/uploads.js")),
    ("/words.js", SCRIPT, include_str!("page/words.js")),
];

/// One of [`FILES`] as an answer.
pub(super) fn answer(kind: &'static str, text: &'static str) -> Response {
    let mut response = Response::new(Body::from(text));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    // The page belongs to the program that serves it: after an update it must be the new one.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}
