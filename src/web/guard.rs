//! Who may ask what. Pure.
//!
//! A browser on the LAN runs pages of strangers, and lets them send requests to us. Three checks
//! keep them out: the Host header must name us (a stranger's name that was made to point here,
//! "DNS rebinding", does not), an Origin must be our own (forms and scripts of other pages have
//! theirs), and where the LAN is closed a token must come along.
//!
//! Invariant: what is not clearly allowed is refused.

use super::accept::Ends;
use super::headers::plain;
use super::refusal::Refusal;
use crate::identity::ClusterKeys;
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use std::net::IpAddr;

/// The cookie that carries the token, so that links and streams of the page have it too.
pub const COOKIE: &str = "thorp_session";
/// The ports that are left out of addresses.
const HTTP_PORT: u16 = 80;
const HTTPS_PORT: u16 = 443;

/// The rules of one server.
pub struct Guard {
    port: u16,
    hosts: Vec<Host>,
    token: Option<String>,
}

/// A name under which browsers ask for us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// In any case.
    pub name: String,
    /// If it is another than ours; of `https` if it is another than 443.
    pub port: Option<u16>,
    /// They ask a TLS proxy, and that asks us.
    pub is_https: bool,
}

impl Host {
    fn is(&self, name: &str, port: Option<u16>, ours: u16) -> bool {
        let (usual, own) = if self.is_https { (HTTPS_PORT, HTTPS_PORT) } else { (HTTP_PORT, ours) };
        self.name.eq_ignore_ascii_case(name) && port.unwrap_or(usual) == self.port.unwrap_or(own)
    }
}

/// What a request needs to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// The token, where there is one.
    Token,
    /// Nothing: the page itself, which has no data in it, and links that carry their own proof.
    Nothing,
}

impl Guard {
    /// For a server on `port` that is also known as `hosts`; `token` is needed where there is one.
    #[must_use]
    pub fn new(port: u16, hosts: Vec<Host>, token: Option<String>) -> Guard {
        Guard { port, hosts, token }
    }

    /// Whether a request may be answered.
    ///
    /// # Errors
    /// When it may not, with the reason.
    pub fn check(
        &self,
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
        ends: Ends,
        need: Need,
    ) -> Result<(), Refusal> {
        let host =
            plain(headers, &header::HOST)?.ok_or_else(|| Refusal::invalid("there is no Host header"))?;
        let absolute = uri.authority().map(ToString::to_string);
        if !self.is_ours(host, ends) || absolute.is_some_and(|absolute| absolute != host) {
            return Err(wrong_host(host));
        }
        if let Some(origin) = plain(headers, &header::ORIGIN)?
            && origin.strip_prefix("http://") != Some(host)
            && !origin.strip_prefix("https://").is_some_and(|host| self.is_https(host))
        {
            return Err(foreign(&format!("a page of `{}`", printable(origin))));
        }
        let site = headers.get("sec-fetch-site").and_then(|site| site.to_str().ok());
        // A link from elsewhere may lead here; a picture or script of another page takes nothing from us.
        let is_link = method.is_safe()
            && headers.get("sec-fetch-mode").is_some_and(|mode| mode.as_bytes() == b"navigate");
        if site == Some("cross-site") && !is_link {
            return Err(foreign("a page of another site"));
        }
        match (&self.token, need) {
            (Some(token), Need::Token) if !shows(headers, token) => Err(Refusal::new(
                StatusCode::UNAUTHORIZED,
                "token_needed",
                "this LAN has a cluster key, and the request no token",
            )
            .hint("`thorp status --token` on a machine with the key shows it; send it as `Authorization: Bearer TOKEN`")
            .header(header::WWW_AUTHENTICATE, "Bearer")),
            _ => Ok(()),
        }
    }

    /// Whether `token` is the one that is needed; true where none is.
    #[must_use]
    pub fn knows(&self, headers: &HeaderMap) -> bool {
        self.token.as_ref().is_none_or(|token| shows(headers, token))
    }

    /// The token, where one is needed.
    #[must_use]
    pub fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }

    /// Whether a Host header names this server. An address proves itself: it is the one that was
    /// dialled. A name proves nothing, so it must be one that we know.
    fn is_ours(&self, host: &str, ends: Ends) -> bool {
        let Some((name, port)) = split(host) else { return false };
        if self.hosts.iter().any(|known| known.is(name, port, self.port)) {
            return true;
        }
        let is_port = port.unwrap_or(HTTP_PORT) == self.port;
        match name.parse::<IpAddr>() {
            Ok(address) => is_port && address == ends.local.ip().to_canonical(),
            Err(_) => is_port && name.eq_ignore_ascii_case("localhost") && ends.local.ip().is_loopback(),
        }
    }

    /// Whether that is how browsers call the TLS proxy before us.
    #[must_use]
    pub fn is_https(&self, host: &str) -> bool {
        let mut proxies = self.hosts.iter().filter(|known| known.is_https);
        split(host).is_some_and(|(name, port)| proxies.any(|known| known.is(name, port, self.port)))
    }
}

/// The host, without the brackets of an IPv6 address, and the port of a Host header.
fn split(host: &str) -> Option<(&str, Option<u16>)> {
    let (name, port) = match host.strip_prefix('[') {
        Some(rest) => {
            let (name, after) = rest.split_once(']')?;
            (name, if after.is_empty() { None } else { Some(after.strip_prefix(':')?) })
        }
        None => match host.split_once(':') {
            Some((name, port)) => (name, Some(port)),
            None => (host, None),
        },
    };
    let digits = |port: &&str| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    match port {
        None => Some((name, None)),
        Some(port) => Some((name, Some(Some(port).filter(digits)?.parse().ok()?))),
    }
}

fn shows(headers: &HeaderMap, token: &str) -> bool {
    let bearer = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| token.trim());
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let pairs = cookies.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
    let mut shown = pairs.filter(|(name, _)| *name == COOKIE).map(|(_, value)| value).chain(bearer);
    shown.any(|shown| ClusterKeys::are_equal(shown.as_bytes(), token.as_bytes()))
}

fn wrong_host(host: &str) -> Refusal {
    Refusal::new(
        StatusCode::MISDIRECTED_REQUEST,
        "wrong_host",
        format!("`{}` is no name of this machine that it knows", printable(host)),
    )
    .hint("use its address, or start it with `--http-host NAME`")
}

fn foreign(who: &str) -> Refusal {
    Refusal::new(StatusCode::FORBIDDEN, "not_allowed", format!("{who} may not ask this"))
}

/// At most 100 characters, none of them a control character.
fn printable(text: &str) -> String {
    text.chars().take(100).map(|letter| if letter.is_control() { '?' } else { letter }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENDS: &str = "192.168.1.7:7668";

    fn ends(local: &str) -> Ends {
        Ends {
            remote: "192.168.1.9:50000".parse().expect("an address"),
            local: local.parse().expect("an address"),
        }
    }

    fn ask(guard: &Guard, method: Method, uri: &str, headers: &[(&str, &str)]) -> Option<u16> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            let name: header::HeaderName = name.parse().expect("a name");
            map.append(name, value.parse().expect("a value"));
        }
        let uri: Uri = uri.parse().expect("an URI");
        guard.check(&method, &uri, &map, ends(ENDS), Need::Token).err().map(|refusal| refusal.status.as_u16())
    }

    fn open() -> Guard {
        let host = |name: &str, port, is_https| Host { name: name.to_owned(), port, is_https };
        let hosts =
            [host("Nas", None, false), host("nas.lan", Some(80), false), host("nas.example", None, true)];
        Guard::new(7668, hosts.into(), None)
    }

    #[test]
    fn a_host_must_be_ours() {
        for host in ["192.168.1.7:7668", "nas:7668", "NAS:7668", "nas.lan", "nas.lan:80", "nas.example:443"] {
            assert_eq!(ask(&open(), Method::GET, "/", &[("host", host)]), None, "{host}");
        }
        for host in [
            "evil.com",
            "evil.com:7668",
            "192.168.1.7.evil.com:7668",
            "192.168.1.7",
            "192.168.1.7:80",
            "192.168.1.8:7668",
            "127.0.0.1:7668",
            "localhost:7668",
            "localhost.:7668",
            "nas",
            "nas.:7668",
            "nas.lan:7668",
            "nas.example:7668",
            "nas.example:80",
            "[::1]:7668",
            "[::1]:wrong",
            "[::1",
            "nas:+7668",
            "nas:7668:7668",
            "nas:99999",
            "",
        ] {
            assert_eq!(ask(&open(), Method::GET, "/", &[("host", host)]), Some(421), "{host}");
        }
        assert_eq!(ask(&open(), Method::GET, "/", &[]), Some(400));
        assert_eq!(ask(&open(), Method::GET, "/", &[("host", "nas:7668"), ("host", "nas:7668")]), Some(400));
        let absolute = "http://evil.com/api/files";
        assert_eq!(ask(&open(), Method::GET, absolute, &[("host", "nas:7668")]), Some(421));
        assert_eq!(ask(&open(), Method::GET, "http://nas:7668/", &[("host", "nas:7668")]), None);
    }

    #[test]
    fn localhost_is_this_machine_for_this_machine_alone() {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, "localhost:7668".parse().expect("a value"));
        let check = |local: &str| {
            open().check(&Method::GET, &Uri::from_static("/"), &headers, ends(local), Need::Token)
        };
        assert!(check("127.0.0.1:7668").is_ok());
        assert!(check("192.168.1.7:7668").is_err());
    }

    #[test]
    fn a_page_that_came_through_a_tls_proxy_may_write() {
        for host in ["nas.example", "nas.example:443", "192.168.1.7:7668"] {
            for (origin, wanted) in [
                ("https://nas.example", None),
                ("https://NAS.example:443", None),
                ("https://nas.example:7668", Some(403)),
                ("https://nas.lan", Some(403)),
                ("https://nas.example.evil.com", Some(403)),
                ("https://", Some(403)),
            ] {
                let headers = [("host", host), ("origin", origin), ("sec-fetch-site", "same-origin")];
                assert_eq!(ask(&open(), Method::PUT, "/", &headers), wanted, "{host} {origin}");
            }
        }
        assert!(
            open().is_https("nas.example") && !open().is_https("nas.lan") && !open().is_https("nas:7668")
        );
    }

    #[test]
    fn a_page_of_somebody_else_is_refused() {
        let with = |name: &'static str, value: &'static str| [("host", "nas:7668"), (name, value)];
        for origin in ["null", "http://evil.com", "http://nas:7669", "https://nas:7668", "http://nas"] {
            assert_eq!(ask(&open(), Method::GET, "/", &with("origin", origin)), Some(403), "{origin}");
        }
        assert_eq!(ask(&open(), Method::POST, "/", &with("origin", "http://nas:7668")), None);
        assert_eq!(ask(&open(), Method::POST, "/", &with("sec-fetch-site", "cross-site")), Some(403));
        assert_eq!(ask(&open(), Method::GET, "/", &with("sec-fetch-site", "cross-site")), Some(403));
        let link = [("host", "nas:7668"), ("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate")];
        assert_eq!(ask(&open(), Method::GET, "/", &link), None);
        assert_eq!(ask(&open(), Method::POST, "/", &link), Some(403));
    }

    #[test]
    fn a_closed_lan_wants_its_token() {
        let guard = Guard::new(7668, open().hosts, Some("a1b2".into()));
        let with = |name: &'static str, value: &'static str| [("host", "nas:7668"), (name, value)];
        assert_eq!(ask(&guard, Method::GET, "/", &[("host", "nas:7668")]), Some(401));
        for (name, value) in [
            ("authorization", "Bearer a1b3"),
            ("authorization", "Bearer a1b"),
            ("authorization", "Basic a1b2"),
            ("authorization", "a1b2"),
            ("cookie", "other=a1b2"),
            ("cookie", "thorp_session=; x=a1b2"),
        ] {
            assert_eq!(ask(&guard, Method::GET, "/", &with(name, value)), Some(401), "{value}");
        }
        assert_eq!(ask(&guard, Method::GET, "/", &with("authorization", "bearer a1b2")), None);
        assert_eq!(ask(&guard, Method::GET, "/", &with("cookie", "a=b; thorp_session=a1b2")), None);
    }
}
