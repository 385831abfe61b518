//! Channels that are followed: Server-Sent Events, and WebSockets on which texts are posts. Shell.
//!
//! Invariant: a reader holds what it is being sent and room for that, and gives both back when it is
//! sent; what changed meanwhile is found anew.

use super::super::Web;
use super::super::accept::stop;
use super::super::files::parameters;
use super::super::refusal::Refusal;
use super::super::stream;
use super::{Key, expiry, key, refused, tell};
use crate::clock;
use crate::limits::{CHANNEL_BODY_BYTES_MAX, SOCKET_BUFFER_BYTES, SOCKET_SILENCE_MS};
use crate::node::channels::{Changes, Follow, Happening, Room};
use crate::types::{ChannelKey, ClientToken};
use crate::wire::channel::{ChannelReply, ClientSays};
use axum::extract::State;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::http::Uri;
use axum::response::Response;
use bytes::Bytes;
use std::borrow::Cow;
use std::sync::Arc;

/// What a reader is told: an event, and its data.
type Event<'a> = (&'static str, Cow<'a, str>);

/// Nothing is given out at the moment.
const WAIT: Event<'static> = ("wait", Cow::Borrowed("{}"));

/// What changed, as events.
fn events(changes: &Changes) -> Vec<Event<'_>> {
    if changes.whole {
        let bodies: Vec<&str> = changes.updates.iter().map(|(_, body)| &**body).collect();
        return vec![("snapshot", format!("{{\"clients\":[{}]}}", bodies.join(",")).into())];
    }
    let gone = |id: &crate::types::ClientId| serde_json::json!({ "client_id": id.as_str() }).to_string();
    let gone = changes.gone.iter().map(|id| ("gone", gone(id).into()));
    gone.chain(changes.updates.iter().map(|(_, body)| ("update", Cow::Borrowed(&**body)))).collect()
}

/// Bytes, and the room that they take until they are gone.
struct Held {
    text: String,
    _room: Room,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        self.text.as_bytes()
    }
}

/// Events as text, all in one piece.
fn written(events: &[Event<'_>]) -> String {
    let mut text = String::with_capacity(events.iter().map(|(_, data)| data.len() + 64).sum());
    for (kind, data) in events {
        stream::write_event(&mut text, kind, None, data);
    }
    text
}

/// `GET /api/channels/KEY/events`: what happens, as server-sent events.
pub(in crate::web) async fn follow(State(web): State<Arc<Web>>, path: Key) -> Result<Response, Refusal> {
    let follow = web.channels.follow(&key(path)?).map_err(refused)?;
    let (reader, response) = stream::open();
    tokio::spawn(reader.feed(web.stopping.clone(), Happenings(follow)));
    Ok(response)
}

/// What happens in a channel, as text.
struct Happenings(Follow);

impl stream::Source for Happenings {
    async fn next(&mut self) -> Option<Bytes> {
        Some(match self.0.next().await {
            Happening::Wait => written(&[WAIT]).into(),
            Happening::Changes(changes, room) => {
                Bytes::from_owner(Held { text: written(&events(&changes)), _room: room })
            }
        })
    }
}

/// What a WebSocket says in its address, as browsers let it send no headers.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Wishes {
    expire: Option<String>,
    token: Option<String>,
}

/// `GET /api/channels/KEY/socket`: the same events over a WebSocket, on which texts are posts.
pub(in crate::web) async fn socket(
    State(web): State<Arc<Web>>,
    path: Key,
    uri: Uri,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Refusal> {
    let channel = key(path)?;
    let wishes: Wishes = parameters(&uri)?;
    let expiry_ms = wishes.expire.as_deref().map(expiry).transpose()?;
    let parse = |token: &str| ClientToken::parse(token).ok_or_else(|| Refusal::invalid("this is no token"));
    let token = wishes.token.as_deref().map(parse).transpose()?;
    let upgrade = upgrade.map_err(|_| Refusal::invalid("this path is for WebSockets"))?;
    let upgrade = upgrade
        .max_message_size(CHANNEL_BODY_BYTES_MAX)
        .max_frame_size(CHANNEL_BODY_BYTES_MAX)
        .read_buffer_size(SOCKET_BUFFER_BYTES);
    // While it can still be refused as any request is.
    let follow = web.channels.follow(&channel).map_err(refused)?;
    Ok(upgrade.on_upgrade(move |socket| Talk { web, channel, expiry_ms, token }.run(socket, follow)))
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
    /// Until the other side goes, or says nothing: it answers pings, or is gone.
    async fn run(mut self, mut socket: WebSocket, mut follow: Follow) {
        let mut heard = clock::now();
        let mut pings = tokio::time::interval(stream::PING_INTERVAL);
        let mut stopping = self.web.stopping.clone();
        loop {
            let is_sent = tokio::select! {
                happening = follow.next() => match happening {
                    Happening::Wait => send(&mut socket, &[WAIT]).await,
                    // The room comes back once all is sent.
                    Happening::Changes(changes, _room) => send(&mut socket, &events(&changes)).await,
                },
                () = stop(&mut stopping) => return,
                _ = pings.tick() => {
                    let is_there = clock::now().since(heard) < SOCKET_SILENCE_MS;
                    is_there && socket.send(Message::Ping(Bytes::new())).await.is_ok()
                }
                message = socket.recv() => {
                    heard = clock::now();
                    match message {
                        Some(Ok(Message::Text(body))) => {
                            let said = self.post(&body).await;
                            send(&mut socket, said.as_slice()).await
                        }
                        Some(Ok(Message::Ping(_) | Message::Pong(_))) => true,
                        Some(Ok(Message::Binary(_))) => {
                            send(&mut socket, &[error("invalid", "posts are texts")]).await
                        }
                        Some(Ok(Message::Close(_)) | Err(_)) | None => return,
                    }
                },
            };
            if !is_sent {
                return;
            }
        }
    }

    /// Posts; what is to be said about it, if something is.
    async fn post(&mut self, body: &str) -> Option<Event<'static>> {
        let says = ClientSays { token: self.token, ..ClientSays::default() };
        match tell(&self.web, self.channel.clone(), body, says, self.expiry_ms).await.reply {
            ChannelReply::Bodies { token: Some(token), .. }
            | ChannelReply::NoUpdate { token: Some(token), .. }
                if self.token.is_none() =>
            {
                self.token = Some(token);
                Some(("token", format!("\"{token}\"").into()))
            }
            // Perhaps it was not stored: it is to be posted again, as always.
            ChannelReply::NoUpdate { .. } => Some(WAIT),
            ChannelReply::Refused { refusal } => {
                let refusal = refused(refusal);
                Some(error(refusal.code, &refusal.message))
            }
            _ => None,
        }
    }
}

/// Whether all of it was taken.
async fn send(socket: &mut WebSocket, events: &[Event<'_>]) -> bool {
    for (event, data) in events {
        let text = format!("{{\"event\":\"{event}\",\"data\":{data}}}");
        if socket.send(Message::Text(text.into())).await.is_err() {
            return false;
        }
    }
    true
}

fn error(code: &str, message: &str) -> Event<'static> {
    ("error", serde_json::json!({ "code": code, "message": message }).to_string().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_ends_in_a_body_do_not_end_its_event() {
        let events = [("update", "{\"a\":\r\n1,\n\"b\":2}".into()), WAIT];
        let text = "event: update\ndata: {\"a\":  1, \"b\":2}\n\nevent: wait\ndata: {}\n\n";
        assert_eq!(written(&events), text);
    }
}
