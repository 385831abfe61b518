//! The values of settings: read once, the same for options and file, and valid from then on. Pure,
//! apart from the host's name.

use super::{Http, Lifetime, ScrubEvery};
use crate::limits::{HOOK_TRIES_MAX, HOOKS_AT_ONCE_MAX, LABEL_BYTES_MAX, REPLICAS_MAX, SCRUB_EVERY_MIN};
use crate::types::{MachineId, Pin};
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

/// Another place to look for nodes: `HOST[:PORT]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// A host name or address, without brackets.
    pub host: Box<str>,
    /// `None`: the port that we use ourselves.
    pub port: Option<u16>,
}

impl Peer {
    /// The port to try, when ours is `own`.
    #[must_use]
    pub fn port_or(&self, own: u16) -> u16 {
        self.port.unwrap_or(own)
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.host.contains(':'), self.port) {
            (true, Some(port)) => write!(f, "[{}]:{port}", self.host),
            (true, None) => write!(f, "[{}]", self.host),
            (false, Some(port)) => write!(f, "{}:{port}", self.host),
            (false, None) => f.write_str(&self.host),
        }
    }
}

/// A cluster's or node's name: 1 to [`LABEL_BYTES_MAX`] bytes without control characters.
///
/// # Errors
/// The rule that it breaks.
pub fn parse_label(text: &str) -> Result<Box<str>, String> {
    if text.trim().is_empty() {
        return Err("the name is empty".to_owned());
    }
    if text.len() > LABEL_BYTES_MAX {
        return Err(format!("the name is longer than {LABEL_BYTES_MAX} bytes"));
    }
    if text.chars().any(char::is_control) {
        return Err("the name has a control character".to_owned());
    }
    Ok(text.into())
}

/// A machine's label, by the rules of [`MachineId::parse`].
///
/// # Errors
/// When it breaks them.
pub fn parse_machine(text: &str) -> Result<MachineId, String> {
    MachineId::parse(text)
        .ok_or_else(|| format!("a machine's id is 1 to {LABEL_BYTES_MAX} bytes without control characters"))
}

/// An address of this machine.
///
/// # Errors
/// When it is not an IPv4 or IPv6 address.
pub fn parse_address(text: &str) -> Result<IpAddr, String> {
    text.parse().map_err(|_| "not an IP address, like `192.168.1.20` or `127.0.0.1`".to_owned())
}

/// A port from 1.
///
/// # Errors
/// When it is not a number from 1 to 65535.
pub fn parse_port(text: &str) -> Result<u16, String> {
    check_port(text.parse().unwrap_or(0))
}

pub(super) fn check_port(port: u16) -> Result<u16, String> {
    if port == 0 { Err("a port is a number from 1 to 65535".to_owned()) } else { Ok(port) }
}

/// How many copies: 1 to [`REPLICAS_MAX`].
///
/// # Errors
/// When it is another number.
pub fn check_replicas(count: i64) -> Result<u8, String> {
    match u8::try_from(count) {
        Ok(count) if (1..=REPLICAS_MAX).contains(&count) => Ok(count),
        _ => Err(format!("the number of copies is 1 to {REPLICAS_MAX}")),
    }
}

/// How long something is kept: a duration, or `off` for ever.
///
/// # Errors
/// When it is neither.
pub fn parse_lifetime(
    text: &str,
    duration: fn(&str) -> Result<Duration, String>,
) -> Result<Lifetime, String> {
    if text == "off" { Ok(Lifetime::Endless) } else { duration(text).map(Lifetime::For) }
}

/// How long a hook may run.
///
/// # Errors
/// When it is no duration, or none at all.
pub fn parse_hook_timeout(
    text: &str,
    duration: fn(&str) -> Result<Duration, String>,
) -> Result<Duration, String> {
    match duration(text)? {
        Duration::ZERO => Err("a hook needs some time: more than 0".to_owned()),
        timeout => Ok(timeout),
    }
}

/// How often a hook is tried: 1 to [`HOOK_TRIES_MAX`].
///
/// # Errors
/// When it is another number.
pub fn check_hook_tries(count: i64) -> Result<u32, String> {
    between(count, HOOK_TRIES_MAX).ok_or_else(|| format!("the number of tries is 1 to {HOOK_TRIES_MAX}"))
}

/// How many hooks run at once: 1 to [`HOOKS_AT_ONCE_MAX`].
///
/// # Errors
/// When it is another number.
pub fn check_hooks_at_once(count: i64) -> Result<u32, String> {
    between(count, HOOKS_AT_ONCE_MAX)
        .ok_or_else(|| format!("the number of hooks at once is 1 to {HOOKS_AT_ONCE_MAX}"))
}

fn between(count: i64, most: u32) -> Option<u32> {
    u32::try_from(count).ok().filter(|count| (1..=most).contains(count))
}

/// The names of the roles, as [`parse_role`] takes them.
pub const ROLES: [&str; 4] = ["auto", "proxy", "storage", "client"];

/// A role to pin.
///
/// # Errors
/// When it is none of [`ROLES`].
pub fn parse_role(text: &str) -> Result<Pin, String> {
    match text {
        "auto" => Ok(Pin::Auto),
        "proxy" => Ok(Pin::Proxy),
        "storage" => Ok(Pin::Storage),
        "client" => Ok(Pin::Client),
        _ => Err(format!("a role is one of {}", ROLES.join(", "))),
    }
}

/// The name of a role, as [`parse_role`] takes it.
pub(super) fn role_name(role: Pin) -> &'static str {
    match role {
        Pin::Auto => "auto",
        Pin::Proxy => "proxy",
        Pin::Storage => "storage",
        Pin::Client => "client",
    }
}

/// Where HTTP is served: `ADDR:PORT`, `usual` or `off`.
///
/// # Errors
/// For anything else; a host name too, because it may mean several addresses.
pub fn parse_http(text: &str) -> Result<Http, String> {
    match text {
        "off" => Ok(Http::Off),
        "usual" => Ok(Http::Usual),
        _ => text.parse().map(Http::At).map_err(|_| {
            "HTTP is served at an address with a port, like `0.0.0.0:7668` or `127.0.0.1:8080`, or `off`"
                .to_owned()
        }),
    }
}

/// How often copies are hashed anew: a duration, or `off`.
///
/// # Errors
/// When it is no duration, or a very short one.
pub fn parse_scrub_every(
    text: &str,
    duration: fn(&str) -> Result<Duration, String>,
) -> Result<ScrubEvery, String> {
    if text == "off" {
        return Ok(ScrubEvery::Off);
    }
    match duration(text)? {
        interval if interval < SCRUB_EVERY_MIN => {
            Err(format!("it is at least {} s, or `off`", SCRUB_EVERY_MIN.as_secs()))
        }
        interval => Ok(ScrubEvery::Interval(interval)),
    }
}

/// `HOST`, `HOST:PORT`, an IPv6 address bare or in brackets with a port.
///
/// # Errors
/// When it is none of those.
pub fn parse_peer(text: &str) -> Result<Peer, String> {
    let wrong = || {
        "a peer is `HOST` or `HOST:PORT`, like `nas.local`, `192.168.1.20:7667`, `[fe80::1]:7667`".to_owned()
    };
    let text = text.trim();
    let (host, port) = if text.parse::<Ipv6Addr>().is_ok() {
        (text, None)
    } else if let Some(rest) = text.strip_prefix('[') {
        let (host, port) = rest.split_once(']').ok_or_else(wrong)?;
        host.parse::<Ipv6Addr>().map_err(|_| wrong())?;
        match (port.is_empty(), port.strip_prefix(':')) {
            (true, _) => (host, None),
            (false, Some(port)) => (host, Some(port)),
            (false, None) => return Err(wrong()),
        }
    } else {
        match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        }
    };
    let strange = |c: char| c.is_control() || c.is_whitespace() || "/@[],".contains(c);
    if host.is_empty() || host.len() > 255 || host.contains(strange) {
        return Err(wrong());
    }
    let port = port.map(parse_port).transpose().map_err(|reason| format!("{}: {reason}", wrong()))?;
    Ok(Peer { host: host.into(), port })
}

/// A program that may be run: a path, or a name that is found in `PATH`.
///
/// # Errors
/// When it is empty or has a control character.
pub fn parse_run_program(text: &str) -> Result<Box<str>, String> {
    if text.trim().is_empty() || text.chars().any(char::is_control) {
        return Err("it is a program's path, or its name".to_owned());
    }
    Ok(text.into())
}

/// A user of this machine.
///
/// # Errors
/// When it cannot be one's name.
pub fn parse_run_user(text: &str) -> Result<Box<str>, String> {
    let strange = |c: char| c.is_control() || c.is_whitespace() || ":/,".contains(c);
    if text.is_empty() || text.contains(strange) {
        return Err("it is the name of a user of this machine".to_owned());
    }
    Ok(text.into())
}

/// A name under which browsers ask for this machine: `[https://]HOST[:PORT]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpHost {
    /// The name, and the port if it is said.
    pub at: Peer,
    /// They ask a TLS proxy, which asks us.
    pub is_https: bool,
}

impl fmt::Display for HttpHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", if self.is_https { "https://" } else { "" }, self.at)
    }
}

/// `HOST` or `HOST:PORT`, with `https://` before it for the name of a TLS proxy.
///
/// # Errors
/// When it is neither.
pub fn parse_http_host(text: &str) -> Result<HttpHost, String> {
    let text = text.trim();
    let (rest, is_https) = match text.strip_prefix("https://") {
        Some(rest) => (rest.strip_suffix('/').unwrap_or(rest), true),
        None => (text, false),
    };
    let wrong =
        |_| "a name of this machine is like `nas.lan`, `nas.lan:8080` or `https://nas.lan`".to_owned();
    Ok(HttpHost { at: parse_peer(rest).map_err(wrong)?, is_https })
}

/// The machine's name on the network, made a label.
#[must_use]
pub fn host_name() -> Box<str> {
    let system = rustix::system::uname();
    let name = system.nodename().to_string_lossy();
    let mut label = String::new();
    for character in name.chars().filter(|c| !c.is_control()) {
        if label.len() + character.len_utf8() > LABEL_BYTES_MAX {
            break;
        }
        label.push(character);
    }
    if label.trim().is_empty() { "unnamed".into() } else { label.into() }
}
