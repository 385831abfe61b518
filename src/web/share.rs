//! Links to one file: whoever has one can get that file from any node, until it expires. Shell.
//!
//! Nothing is stored: a link carries its proof, a seal that only who has the cluster key can make.
//! Invariant: a link gives the one content that it was made for, not what has taken its name since.

use super::Web;
use super::files::download::{Parameters as Shown, give};
use super::files::{decoded, encoded, find, must_find, name_in, parameters};
use super::headers::plain;
use super::refusal::{Refusal, json};
use crate::client::ClientError;
use crate::clock;
use crate::documents::format_rfc3339_seconds;
use crate::documents::units::parse_duration;
use crate::identity::ClusterKeys;
use crate::limits::{LINK_LIVES_DEFAULT, LINK_LIVES_MAX};
use crate::types::{ContentId, FileName, NodeId};
use crate::wire::message::{ClusterStatus, Reply, Request as Ask};
use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::Response;
use axum::routing::{get, post};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// What a link begins with; another form will have another.
const FORM: &[u8] = b"thorp link 1\0";
const SEAL_BYTES: usize = 16;
const EXPIRY_BYTES: usize = 8;
const CONTENT_BYTES: usize = 32;
/// Longest token: a name at its limit and the rest, in base 64.
const TOKEN_BYTES_MAX: usize = 2_048;

/// What a link is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Seconds since 1970 until which it works.
    pub expires_s: u64,
    /// The content.
    pub content: ContentId,
    /// Under this name.
    pub name: FileName,
}

/// A link, as commands and HTTP give it.
#[derive(Debug, Serialize)]
pub struct LinkDocument {
    /// Where the file is.
    pub url: String,
    /// Until when.
    pub expires: String,
}

impl Link {
    /// A link that works so long from now.
    #[must_use]
    pub fn new(name: &FileName, content: ContentId, lives: Duration) -> Link {
        let expires_s = (clock::wall().0 / 1_000).saturating_add(lives.as_secs().max(1));
        Link { expires_s, content, name: name.clone() }
    }

    /// The link at `server`, like `http://nas:7668`.
    #[must_use]
    pub fn document(&self, keys: &ClusterKeys, server: &str) -> LinkDocument {
        let url = format!("{server}/s/{}/{}", self.token(keys), encoded(self.name.base()));
        let expires_ns = i64::try_from(self.expires_s.saturating_mul(1_000_000_000)).unwrap_or(i64::MAX);
        LinkDocument { url, expires: format_rfc3339_seconds(expires_ns) }
    }

    fn token(&self, keys: &ClusterKeys) -> String {
        let mut bytes = Vec::new();
        bytes.extend(self.expires_s.to_be_bytes());
        bytes.extend(self.content.0);
        bytes.extend(self.name.as_str().as_bytes());
        let seal = seal(keys, &bytes);
        bytes.extend(seal);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// The link with this token, if somebody with the cluster key made it.
    #[must_use]
    pub fn parse(keys: &ClusterKeys, token: &str) -> Option<Link> {
        if token.len() > TOKEN_BYTES_MAX {
            return None;
        }
        let bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
        let (bytes, given) = bytes.split_at_checked(bytes.len().checked_sub(SEAL_BYTES)?)?;
        if !ClusterKeys::are_equal(&seal(keys, bytes), given) {
            return None;
        }
        let (expires, rest) = bytes.split_at_checked(EXPIRY_BYTES)?;
        let (content, name) = rest.split_at_checked(CONTENT_BYTES)?;
        Some(Link {
            expires_s: u64::from_be_bytes(expires.try_into().ok()?),
            content: ContentId(content.try_into().ok()?),
            name: FileName::parse(str::from_utf8(name).ok()?).ok()?,
        })
    }
}

fn seal(keys: &ClusterKeys, bytes: &[u8]) -> [u8; SEAL_BYTES] {
    keys.seal_link(&[FORM, bytes].concat())
}

/// How long a link is to work, as it was written.
///
/// # Errors
/// When it is no duration, none at all, or too long.
pub fn parse_lives(text: &str) -> Result<Duration, String> {
    match parse_duration(text)? {
        lives if lives < Duration::from_secs(1) => Err("a link works for a second at least".to_owned()),
        lives if lives > LINK_LIVES_MAX => {
            Err(format!("a link works for {} days at most", LINK_LIVES_MAX.as_secs() / 86_400))
        }
        lives => Ok(lives),
    }
}

/// The address of a node that others can reach, with this port.
fn outward_address(status: &ClusterStatus, node: NodeId, port: u16) -> Option<String> {
    let known = status.nodes.iter().find(|known| known.presence.node == node)?;
    let outward = known.route.addresses.iter().find(|address| !address.ip().is_loopback())?;
    Some(SocketAddr::new(outward.ip(), port).to_string())
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Parameters {
    expires: Option<String>,
}

/// The paths of links.
pub(super) fn routes() -> Router<Arc<Web>> {
    Router::new().route("/api/share/{*name}", post(share)).route("/s/{*link}", get(shared))
}

/// `POST /api/share/NAME`.
async fn share(State(web): State<Arc<Web>>, uri: Uri, headers: HeaderMap) -> Result<Response, Refusal> {
    let name = name_in(&uri, "/api/share/")?;
    let asked: Parameters = parameters(&uri)?;
    let lives = match asked.expires {
        Some(text) => parse_lives(&text).map_err(Refusal::invalid)?,
        None => LINK_LIVES_DEFAULT,
    };
    let listed = must_find(&web, &name).await?;
    let Some((content, _)) = listed.row.body.content() else {
        let message = format!("`{name}` is a link or a folder, which has no bytes");
        return Err(Refusal::new(StatusCode::CONFLICT, "no_file", message));
    };
    let server = server(&web, &headers).await?;
    let link = Link::new(&name, content, lives);
    Ok(json(StatusCode::OK, &link.document(web.sessions.first().keys(), &server)))
}

/// The name under which we were asked, unless it means this machine on this machine alone.
async fn server(web: &Web, headers: &HeaderMap) -> Result<String, Refusal> {
    let host = plain(headers, &header::HOST)?.unwrap_or_default();
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name).trim_matches(['[', ']']);
    let is_near = name == "localhost" || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    if is_near && web.address.ip().is_unspecified() {
        let Reply::Status(status) = web.sessions.ask(&Ask::Status).await? else {
            return Err(ClientError::Nonsense.into());
        };
        if let Some(server) = outward_address(&status, web.node, web.address.port()) {
            return Ok(format!("http://{server}"));
        }
    }
    let scheme = if web.guard.is_https(host) { "https" } else { "http" };
    Ok(format!("{scheme}://{host}"))
}

/// `GET /s/TOKEN/FILENAME`.
async fn shared(State(web): State<Arc<Web>>, request: Request) -> Result<Response, Refusal> {
    let rest = request.uri().path().strip_prefix("/s/").unwrap_or_default();
    let token = decoded(rest.split('/').next().unwrap_or_default()).map_err(Refusal::invalid)?;
    let asked: Shown = parameters(request.uri())?;
    let link = Link::parse(web.sessions.first().keys(), &token)
        .ok_or_else(|| Refusal::not_found("this is no link of this cluster"))?;
    if clock::wall().0 / 1_000 >= link.expires_s {
        return Err(Refusal::new(StatusCode::GONE, "expired", "the link has expired"));
    }
    let listed = find(&web, &link.name).await?;
    let is_it =
        |content: Option<(ContentId, u64)>| content.is_some_and(|(content, _)| content == link.content);
    match listed.filter(|listed| is_it(listed.row.body.content())) {
        Some(listed) => give(&web, &listed, request.method(), request.headers(), &asked).await,
        None => Err(Refusal::not_found("the file was removed or changed since the link was made")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::ClusterSecret;

    fn keys(secret: &str) -> ClusterKeys {
        let secret = ClusterSecret::from_text(secret, "a test").expect("a key");
        ClusterKeys::derive(None, "test", &secret).expect("keys")
    }

    #[test]
    fn a_link_is_read_back_and_a_forged_one_is_not() {
        let (ours, others) = (keys("one"), keys("two"));
        let name = FileName::parse("a/é \"x\".txt").expect("a name");
        let link = Link { expires_s: 1_000, content: ContentId([7; 32]), name };
        let token = link.token(&ours);
        assert_eq!(Link::parse(&ours, &token), Some(link.clone()));
        assert_eq!(Link::parse(&others, &token), None);
        let url = link.document(&ours, "http://h:1").url;
        assert_eq!(url, format!("http://h:1/s/{token}/%C3%A9%20%22x%22.txt"));
        for at in 0..token.len() {
            let mut forged = token.clone().into_bytes();
            forged[at] = if forged[at] == b'A' { b'B' } else { b'A' };
            assert_eq!(Link::parse(&ours, &String::from_utf8(forged).expect("text")), None, "{at}");
            assert_eq!(Link::parse(&ours, &token[..at]), None, "{at}");
        }
        assert_eq!(Link::parse(&ours, &"A".repeat(1 << 20)), None);
    }

    #[test]
    fn a_link_lives_as_long_as_was_said() {
        assert_eq!(parse_lives("24h"), Ok(Duration::from_secs(86_400)));
        for bad in ["", "0s", "500ms", "32d", "soon", "-1h"] {
            assert!(parse_lives(bad).is_err(), "{bad}");
        }
    }
}
