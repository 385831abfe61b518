//! Channels: live state over HTTP, with the paths, answers and headers of supersynk. Shell.
//!
//! Invariants: bodies go in and out verbatim; without a proxy, or shortly after it changed, the
//! answer is 204 ("keep what you have"), never an error and never an empty list; a reader that
//! does not read holds one batch of changes, not a queue.

use super::Web;
use super::accept::{stop, whole_body};
use super::refusal::{Refusal, json};
use super::stream;
use crate::limits::CHANNEL_BODY_BYTES_MAX;
use crate::node::channels::{Answer, Happening, Room};
use crate::types::{ChannelKey, ClientId, ClientTime, ClientToken};
use crate::wire::channel::{ChannelAsk, ChannelRefusal, ChannelReply, ChannelState, ClientSays};
use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::extract::{Path, Query, State};
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
    let known = text(&headers, "if-none-match")?.and_then(|tags| tags.split(',').find_map(read_tag));
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
    let expiry_ms = text(&headers, "x-expire")?.map(expiry).transpose()?;
    check_type(&headers)?;
    let body = whole_body(body, CHANNEL_BODY_BYTES_MAX).await?;
    let body = std::str::from_utf8(&body).map_err(|_| Refusal::invalid("the body is no UTF-8 text"))?;
    let ask = ChannelAsk::Post { channel, body: body.into(), says, expiry_ms };
    let mut response = respond(web.channels.ask(ask).await);
    // What the others have posted is no state of the channel.
    response.headers_mut().remove(header::ETAG);
    Ok(response)
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
    Ok(respond(web.channels.ask(ChannelAsk::Leave { channel, client, token }).await))
}

// ---- what comes in ----

/// A header that may come once at most, as UTF-8 text.
fn text<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, Refusal> {
    let mut values = headers.get_all(name).iter();
    let value = values.next().map(|value| std::str::from_utf8(value.as_bytes()));
    match (value, values.next()) {
        (None, _) => Ok(None),
        (Some(Ok(value)), None) => Ok(Some(value.trim())),
        (Some(_), _) => Err(Refusal::invalid(format!("the {name} header must come once, as UTF-8 text"))),
    }
}

/// What a client says of itself in headers.
fn says(headers: &HeaderMap) -> Result<ClientSays, Refusal> {
    fn read<T>(
        headers: &HeaderMap,
        name: &str,
        parse: impl Fn(&str) -> Option<T>,
        rule: &str,
    ) -> Result<Option<T>, Refusal> {
        let refusal = || Refusal::invalid(format!("{name} is {rule}"));
        text(headers, name)?.map(|value| parse(value).ok_or_else(refusal)).transpose()
    }
    Ok(ClientSays {
        id: read(headers, "client-id", ClientId::parse, "a text of 1 to 128 bytes")?,
        time: read(headers, "client-time", ClientTime::parse, "a number of seconds, not negative")?,
        token: read(headers, "client-token", ClientToken::parse, "what the first post's answer had")?,
    })
}

/// `5s`, `500ms`, `10m` or `1h`, in milliseconds.
fn expiry(text: &str) -> Result<u64, Refusal> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "ms" => Some(1),
        "s" => Some(1_000),
        "m" => Some(60_000),
        "h" => Some(3_600_000),
        _ => None,
    };
    let number: Option<u64> = digits.parse().ok().filter(|_| !digits.starts_with('+'));
    let ms = unit.zip(number).and_then(|(unit, number)| number.checked_mul(unit));
    ms.ok_or_else(|| Refusal::invalid("X-Expire is a time like `500ms`, `5s` or `10m`"))
}

/// What scripts and old clients send for JSON passes; a form, whose body would be no JSON, does not.
fn check_type(headers: &HeaderMap) -> Result<(), Refusal> {
    let Some(kind) = text(headers, "content-type")? else { return Ok(()) };
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
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

// ---- streams ----

/// What a follower is told: the event, and its data.
fn events(happening: Happening) -> (Vec<(&'static str, String)>, Option<Room>) {
    let (changes, room) = match happening {
        Happening::Wait => return (vec![("wait", "{}".to_owned())], None),
        Happening::Changes(changes, room) => (changes, Some(room)),
    };
    let events = match changes {
        changes if changes.whole => {
            let bodies: Vec<&str> = changes.updates.iter().map(|(_, body)| &**body).collect();
            vec![("snapshot", format!("{{\"clients\":[{}]}}", bodies.join(",")))]
        }
        changes => {
            let gone = changes
                .gone
                .iter()
                .map(|id| ("gone", serde_json::json!({ "client_id": id.as_str() }).to_string()));
            gone.chain(changes.updates.iter().map(|(_, body)| ("update", body.to_string()))).collect()
        }
    };
    (events, room)
}

/// Bytes, and the room that they take until they are gone.
struct Held {
    bytes: Bytes,
    _room: Option<Room>,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// `GET /api/channels/KEY/events`: what happens, as server-sent events.
pub(super) async fn follow(State(web): State<Arc<Web>>, path: Key) -> Result<Response, Refusal> {
    let mut follow = web.channels.follow(&key(path)?).map_err(refused)?;
    let (pieces, body) = stream::pieces_of(1);
    let mut stopping = web.stopping.clone();
    tokio::spawn(async move {
        loop {
            let piece = tokio::select! {
                happening = follow.next() => {
                    let (events, room) = events(happening);
                    Bytes::from_owner(Held { bytes: sse(&events), _room: room })
                }
                () = tokio::time::sleep(stream::PING_INTERVAL) => stream::ping(),
                () = stop(&mut stopping) => return,
                () = pieces.closed() => return,
            };
            if pieces.send(Ok(piece)).await.is_err() {
                return;
            }
        }
    });
    Ok(stream::events(body))
}

/// Events as bytes. A line end in a body stands between the parts of its JSON, where a space means the same.
fn sse(events: &[(&str, String)]) -> Bytes {
    let events =
        events.iter().map(|(kind, data)| stream::event(kind, None, &data.replace(['\n', '\r'], " ")));
    events.collect::<Vec<Bytes>>().concat().into()
}

/// What a WebSocket says in its address, as browsers let it send no headers.
#[derive(Debug, serde::Deserialize)]
pub(super) struct Wishes {
    expire: Option<String>,
    token: Option<String>,
}

/// `GET /api/channels/KEY/socket`: the same events over a WebSocket, on which texts are posts.
pub(super) async fn socket(
    State(web): State<Arc<Web>>,
    path: Key,
    Query(wishes): Query<Wishes>,
    upgrade: Result<WebSocketUpgrade, axum::extract::ws::rejection::WebSocketUpgradeRejection>,
) -> Result<Response, Refusal> {
    let channel = key(path)?;
    let expiry_ms = wishes.expire.as_deref().map(expiry).transpose()?;
    let parse = |token: &str| ClientToken::parse(token).ok_or_else(|| Refusal::invalid("this is no token"));
    let token = wishes.token.as_deref().map(parse).transpose()?;
    let upgrade = upgrade.map_err(|_| Refusal::invalid("this path is for WebSockets"))?;
    let upgrade = upgrade.max_message_size(CHANNEL_BODY_BYTES_MAX).max_frame_size(CHANNEL_BODY_BYTES_MAX);
    Ok(upgrade.on_upgrade(move |socket| Talk { web, channel, expiry_ms, token }.run(socket)))
}

/// One WebSocket.
struct Talk {
    web: Arc<Web>,
    channel: ChannelKey,
    expiry_ms: Option<u64>,
    /// Shown with every post, so nobody else can post in its name.
    token: Option<ClientToken>,
}

impl Talk {
    async fn run(mut self, mut socket: WebSocket) {
        let Ok(mut follow) = self.web.channels.follow(&self.channel) else { return };
        let mut stopping = self.web.stopping.clone();
        loop {
            // The room comes back once all is sent.
            let (said, _room) = tokio::select! {
                happening = follow.next() => events(happening),
                () = stop(&mut stopping) => return,
                () = tokio::time::sleep(stream::PING_INTERVAL) => {
                    if socket.send(Message::Ping(Bytes::new())).await.is_err() {
                        return;
                    }
                    continue;
                }
                message = socket.recv() => match message {
                    Some(Ok(Message::Text(body))) => (self.post(&body).await.into_iter().collect(), None),
                    Some(Ok(Message::Ping(_) | Message::Pong(_))) => continue,
                    Some(Ok(Message::Binary(_))) => (vec![("error", error("invalid", "posts are texts"))], None),
                    Some(Ok(Message::Close(_)) | Err(_)) | None => return,
                },
            };
            for (event, data) in said {
                let text = format!("{{\"event\":\"{event}\",\"data\":{data}}}");
                if socket.send(Message::Text(text.into())).await.is_err() {
                    return;
                }
            }
        }
    }

    /// Posts; what is to be said about it, if something is.
    async fn post(&mut self, body: &str) -> Option<(&'static str, String)> {
        let says = ClientSays { token: self.token, ..ClientSays::default() };
        let (channel, expiry_ms) = (self.channel.clone(), self.expiry_ms);
        let ask = ChannelAsk::Post { channel, body: body.into(), says, expiry_ms };
        match self.web.channels.ask(ask).await.reply {
            ChannelReply::Bodies { token: Some(token), .. }
            | ChannelReply::NoUpdate { token: Some(token), .. }
                if self.token.is_none() =>
            {
                self.token = Some(token);
                Some(("token", format!("\"{token}\"")))
            }
            ChannelReply::Refused { refusal } => {
                let refusal = refused(refusal);
                Some(("error", error(refusal.code, &refusal.message)))
            }
            _ => None,
        }
    }
}

fn error(code: &str, message: &str) -> String {
    serde_json::json!({ "code": code, "message": message }).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_with_their_unit() {
        for (text, ms) in [("500ms", 500), ("5s", 5_000), ("10m", 600_000), ("1h", 3_600_000), ("0s", 0)] {
            assert_eq!(expiry(text).ok(), Some(ms), "{text}");
        }
        for text in
            ["", "5", "s", "-1s", "+1s", "1.5s", "1 s", "99999999999999999999s", "9999999999999999999h"]
        {
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

    #[test]
    fn line_ends_in_a_body_do_not_end_its_event() {
        let events = [("update", "{\"a\":\r\n1,\n\"b\":2}".to_owned()), ("wait", "{}".to_owned())];
        let text = "event: update\ndata: {\"a\":  1, \"b\":2}\n\nevent: wait\ndata: {}\n\n";
        assert_eq!(sse(&events), text);
    }
}
