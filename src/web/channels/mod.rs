//! Channels: live state over HTTP, with the paths, answers and headers of supersynk. Shell.
//!
//! Invariants: bodies go in and out verbatim; without a proxy, or shortly after it changed, the
//! answer is 204 ("keep what you have"), never an error and never an empty list; a reader that
//! does not read holds one batch of changes, not a queue.
//!
//! | file | what |
//! |---|---|
//! | `streams` | channels that are followed: Server-Sent Events and WebSockets |

mod streams;

pub(super) use streams::{follow, socket};

use super::Web;
use super::body::whole_body;
use super::headers::{body_type, text};
use super::refusal::{Refusal, json};
use crate::clock;
use crate::documents::units::parse_duration;
use crate::limits::CHANNEL_BODY_BYTES_MAX;
use crate::node::channels::Answer;
use crate::types::{ChannelKey, ClientId, ClientTime, ClientToken};
use crate::wire::channel::{ChannelAsk, ChannelRefusal, ChannelReply, ChannelState, ClientSays};
use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use std::sync::Arc;

type Key = Result<Path<String>, PathRejection>;

fn key(path: Key) -> Result<ChannelKey, Refusal> {
    let parsed = path.ok().and_then(|Path(text)| ChannelKey::parse(&text));
    parsed.ok_or_else(|| {
        Refusal::invalid("a channel's name has 1 to 128 bytes, without `/` and control characters")
    })
}

/// `GET /api/channels`: the names of all channels.
pub(super) async fn list(State(web): State<Arc<Web>>) -> Response {
    respond(web.channels.ask(ChannelAsk::List).await)
}

/// `GET /api/channels/KEY`: what all have posted.
pub(super) async fn get(
    State(web): State<Arc<Web>>,
    path: Key,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let (channel, says) = (key(path)?, says(&headers)?);
    let known = text(&headers, &header::IF_NONE_MATCH)?.and_then(|tags| tags.split(',').find_map(read_tag));
    Ok(respond(web.channels.ask(ChannelAsk::Get { channel, says, known }).await))
}

/// `POST /api/channels/KEY`: posts, and gives what the others have posted.
pub(super) async fn post(
    State(web): State<Arc<Web>>,
    path: Key,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    let (channel, says) = (key(path)?, says(&headers)?);
    let expiry_ms = text(&headers, &HeaderName::from_static("x-expire"))?.map(expiry).transpose()?;
    check_type(&headers)?;
    let body = whole_body(body, CHANNEL_BODY_BYTES_MAX).await?;
    let body = std::str::from_utf8(&body).map_err(|_| Refusal::invalid("the body is no UTF-8 text"))?;
    let mut response = respond(tell(&web, channel, body, says, expiry_ms).await);
    // What the others have posted is no state of the channel.
    response.headers_mut().remove(header::ETAG);
    Ok(response)
}

/// Posts.
async fn tell(
    web: &Web,
    channel: ChannelKey,
    body: &str,
    says: ClientSays,
    expiry_ms: Option<u64>,
) -> Answer {
    let Ok(drawn) = clock::entropy() else { return ChannelRefusal::Busy.into() };
    let drawn = ClientToken::from_random(drawn);
    web.channels.ask(ChannelAsk::Post { channel, body: body.into(), says, expiry_ms, drawn }).await
}

/// `DELETE /api/channels/KEY/clients/ID`: a client leaves.
pub(super) async fn leave(
    State(web): State<Arc<Web>>,
    path: Result<Path<(String, String)>, PathRejection>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let Ok(Path((channel, client))) = path else {
        return Err(Refusal::invalid("the path is no UTF-8 text"));
    };
    let channel = key(Ok(Path(channel)))?;
    let client =
        ClientId::parse(&client).ok_or_else(|| Refusal::invalid("a client's id has 1 to 128 bytes"))?;
    let token = says(&headers)?.token;
    let answer = web.channels.ask(ChannelAsk::Leave { channel, client, token }).await;
    // 204 says that it is done here, and not, as of a state, that there is nothing new.
    if matches!(answer.reply, ChannelReply::NoUpdate { .. }) {
        return Err(Refusal::no_proxy("no machine leads, so nobody knows of your leaving"));
    }
    Ok(respond(answer))
}

// ---- what comes in ----

/// What a client says of itself in headers.
fn says(headers: &HeaderMap) -> Result<ClientSays, Refusal> {
    fn read<T>(
        headers: &HeaderMap,
        name: &'static str,
        parse: impl Fn(&str) -> Option<T>,
        rule: &str,
    ) -> Result<Option<T>, Refusal> {
        let refusal = || Refusal::invalid(format!("{name} is {rule}"));
        text(headers, &HeaderName::from_static(name))?
            .map(|value| parse(value).ok_or_else(refusal))
            .transpose()
    }
    Ok(ClientSays {
        id: read(headers, "client-id", ClientId::parse, "a text of 1 to 128 bytes")?,
        time: read(headers, "client-time", ClientTime::parse, "a number of seconds, not negative")?,
        token: read(headers, "client-token", ClientToken::parse, "what the first post's answer had")?,
    })
}

/// `5s`, `500ms`, `1.5m`, in milliseconds, as everywhere.
fn expiry(text: &str) -> Result<u64, Refusal> {
    let wrong = || Refusal::invalid("X-Expire is a time like `500ms`, `5s` or `10m`");
    let duration = parse_duration(text).map_err(|_| wrong())?;
    u64::try_from(duration.as_millis()).map_err(|_| wrong())
}

/// What scripts and old clients send for JSON passes; a form, whose body would be no JSON, does not.
fn check_type(headers: &HeaderMap) -> Result<(), Refusal> {
    let kind = body_type(headers)?;
    let json = matches!(&*kind, "" | "application/json" | "text/json" | "text/plain");
    if json || kind.starts_with("application/") && kind.ends_with("+json") {
        return Ok(());
    }
    Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "wrong_type", "the body must be JSON")
        .hint("send `Content-Type: application/json`; curl does with `--json`"))
}

// ---- what goes out ----

fn read_tag(tag: &str) -> Option<ChannelState> {
    let tag = tag.trim();
    let tag = tag.strip_prefix("W/").unwrap_or(tag).strip_prefix('"')?.strip_suffix('"')?;
    let (epoch, version) = tag.split_once('-')?;
    let number = |text| u64::from_str_radix(text, 16).ok();
    Some(ChannelState { epoch: number(epoch)?, version: number(version)? })
}

fn respond(answer: Answer) -> Response {
    let Answer { reply, list } = answer;
    match reply {
        ChannelReply::Bodies { state, server_time_ms, token } => {
            let mut response = Response::new(Body::from(Bytes::from_owner(list)));
            response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
            stamp(response, Some((state, server_time_ms)), token)
        }
        ChannelReply::Unchanged { state, server_time_ms } => {
            stamp(StatusCode::NOT_MODIFIED.into_response(), Some((state, server_time_ms)), None)
        }
        ChannelReply::NoUpdate { late: _, token } => {
            stamp(StatusCode::NO_CONTENT.into_response(), None, token)
        }
        ChannelReply::Channels { channels } => {
            let names: Vec<&str> = channels.iter().map(ChannelKey::as_str).collect();
            json(StatusCode::OK, &names)
        }
        ChannelReply::Refused { refusal } => refused(refusal).into_response(),
        _ => StatusCode::NO_CONTENT.into_response(),
    }
}

fn stamp(mut response: Response, state: Option<(ChannelState, u64)>, token: Option<ClientToken>) -> Response {
    let mut set = |name: HeaderName, value: String| {
        if let Ok(value) = HeaderValue::from_str(&value) {
            response.headers_mut().insert(name, value);
        }
    };
    if let Some((state, ms)) = state {
        set(header::ETAG, format!("\"{:x}-{:x}\"", state.epoch, state.version));
        set(HeaderName::from_static("server-time"), format!("{}.{:03}", ms / 1_000, ms % 1_000));
        // To be kept, and asked about each time.
        set(header::CACHE_CONTROL, "no-cache".to_owned());
    }
    if let Some(token) = token {
        set(HeaderName::from_static("client-token"), token.to_string());
    }
    response
}

fn refused(refusal: ChannelRefusal) -> Refusal {
    let words = refusal.to_string();
    match refusal {
        ChannelRefusal::Body | ChannelRefusal::ClientId => {
            Refusal::invalid(words).hint("for example {\"client_id\":\"ada\",\"x\":1}")
        }
        ChannelRefusal::ClientIdTwice | ChannelRefusal::OtherClient | ChannelRefusal::Expiry => {
            Refusal::invalid(words)
        }
        ChannelRefusal::TooLarge => Refusal::too_large(words),
        ChannelRefusal::TokenNeeded => Refusal::new(StatusCode::UNAUTHORIZED, "token_needed", words)
            .hint("send the `Client-Token` that the first post's answer had"),
        ChannelRefusal::WrongToken => Refusal::new(StatusCode::FORBIDDEN, "not_allowed", words)
            .hint("another client has this id; take another id, or post again when that one is gone"),
        ChannelRefusal::NoClient => Refusal::not_found(words),
        ChannelRefusal::Full => Refusal::new(StatusCode::INSUFFICIENT_STORAGE, "no_space", words),
        ChannelRefusal::TooFast | ChannelRefusal::Busy => {
            Refusal::new(StatusCode::TOO_MANY_REQUESTS, "too_many", words).header(header::RETRY_AFTER, "1")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_with_their_unit() {
        let times =
            [("500ms", 500), ("5s", 5_000), ("1.5s", 1_500), ("10m", 600_000), ("1d", 86_400_000), ("0s", 0)];
        for (text, ms) in times {
            assert_eq!(expiry(text).ok(), Some(ms), "{text}");
        }
        for text in ["", "5", "s", "-1s", "+1s", "99999999999999999999s", "9999999999999999999h"] {
            assert!(expiry(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_tag_comes_back() {
        let state = ChannelState { epoch: 0xab, version: 17 };
        let response = stamp(Response::new(Body::empty()), Some((state, 61_007)), None);
        let tag = response.headers()[header::ETAG].to_str().expect("text");
        assert_eq!(
            (tag, read_tag(tag), read_tag(&format!(" W/{tag}"))),
            ("\"ab-11\"", Some(state), Some(state))
        );
        assert_eq!(response.headers()["server-time"], "61.007");
        for tag in ["", "*", "ab-11", "\"ab\"", "\"-\"", "\"x-1\""] {
            assert_eq!(read_tag(tag), None, "{tag}");
        }
    }
}
