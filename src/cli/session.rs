//! A command's way to the cluster: from settings to a session, from its errors to words.

use super::Context;
use super::failure::{Failure, Outcome};
use crate::client::{Access, ClientError, Session};
use crate::config::{KeySource, Settings};
use crate::documents::chain;
use crate::identity::{ClusterSecret, IdentityError};
use crate::roles::machine::machine_id;
use crate::transfer::connection::ConnectionError;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

/// Runs `work` with a session, on a runtime of its own.
///
/// # Errors
/// What `work` gives, and what keeps a session from being made.
pub fn with_session<F>(context: &Context, work: impl FnOnce(Session) -> F) -> Result<Outcome, Failure>
where
    F: Future<Output = Result<Outcome, Failure>>,
{
    let access = access(&context.settings)?;
    runtime()?.block_on(async { work(Session::new(access).map_err(failure_of)?).await })
}

/// As [`with_session`], with the identity of the node of the data folder, if there is one.
///
/// # Errors
/// As [`with_session`].
pub fn with_identified_session<F>(
    context: &Context,
    work: impl FnOnce(Session) -> F,
) -> Result<Outcome, Failure>
where
    F: Future<Output = Result<Outcome, Failure>>,
{
    let access = access(&context.settings)?;
    runtime()?.block_on(async { work(Session::identified(access).map_err(failure_of)?).await })
}

/// A runtime for one command or node.
///
/// # Errors
/// When the system gives no threads.
pub fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Failure::failed(format!("the system gives no threads: {error}")))
}

/// As [`with_session`], but speaks for the node of the data folder, and to it, if one runs there.
///
/// # Errors
/// As [`with_session`].
pub fn with_own_session<F>(context: &Context, work: impl FnOnce(Session) -> F) -> Result<Outcome, Failure>
where
    F: Future<Output = Result<Outcome, Failure>>,
{
    let access = access(&context.settings)?;
    runtime()?.block_on(async { work(Session::of_own_node(access).await.map_err(failure_of)?).await })
}

/// The way to the cluster.
///
/// # Errors
/// When the key, the address or the machine's id cannot be used.
pub fn access(settings: &Settings) -> Result<Access, Failure> {
    Ok(Access {
        data_dir: settings.data_dir.clone(),
        cluster: settings.cluster.to_string(),
        secret: secret(settings)?,
        bind: bind(settings)?,
        port: settings.port,
        peers: peers(settings),
        timeout: settings.timeout,
        machine: machine_id(settings.node.machine.as_ref().map(crate::types::MachineId::as_str))
            .map_err(|error| Failure::failed(error.to_string()))?,
    })
}

/// The cluster key, read from where the settings say.
///
/// # Errors
/// When it cannot be used: unreadable, readable by others, not one line.
pub fn secret(settings: &Settings) -> Result<ClusterSecret, Failure> {
    match &settings.key {
        KeySource::Open => Ok(ClusterSecret::Open),
        KeySource::File(path) => ClusterSecret::from_file(path).map_err(|error| identity_failure(&error)),
        KeySource::Text(secret) => ClusterSecret::from_text(secret.expose(), crate::config::KEY_VARIABLE)
            .map_err(|error| identity_failure(&error)),
    }
}

/// The address to bind to.
///
/// # Errors
/// For an IPv6 address: discovery is by broadcast, which only IPv4 has.
pub fn bind(settings: &Settings) -> Result<Option<Ipv4Addr>, Failure> {
    match settings.bind {
        None => Ok(None),
        Some(IpAddr::V4(address)) => Ok(Some(address)),
        Some(IpAddr::V6(address)) => Err(Failure::usage(format!("`--bind {address}` is an IPv6 address"))
            .hint("discovery is by broadcast, which only IPv4 has: give an IPv4 address of this machine")),
    }
}

/// Peers as `HOST:PORT`.
#[must_use]
pub fn peers(settings: &Settings) -> Vec<String> {
    settings.peers.iter().map(|peer| format!("{}:{}", peer.host, peer.port_or(settings.port))).collect()
}

/// An error of keys, in words.
#[must_use]
pub fn identity_failure(error: &IdentityError) -> Failure {
    let failure = Failure::failed(chain(error));
    match error.hint() {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

/// What a session's error means for the user.
#[must_use]
pub fn failure_of(error: ClientError) -> Failure {
    match error {
        ClientError::NoProxy { timeout, nodes_heard, network } => no_proxy(timeout, nodes_heard, network),
        ClientError::OtherKey { secured, theirs_open } => other_key(secured, theirs_open),
        ClientError::Connection(ConnectionError::OtherKey { .. }) => other_key(true, false),
        ClientError::Identity(error) => identity_failure(&error),
        ClientError::Refused { code, message } => Failure::from_reply(code, &message),
        ClientError::File { path, source } => local_file(&path, &source),
        ClientError::Unknown => Failure::failed(ClientError::Unknown.to_string())
            .json_code("unknown")
            .hint("`thorp ls` shows how it stands"),
        error @ ClientError::Get { .. } => Failure::failed(chain(&error))
            .json_code("unavailable")
            .hint("`thorp ls -l` shows who holds it, `thorp status` which machines are up"),
        error => Failure::failed(chain(&error)).json_code("connection").hint("try again"),
    }
}

fn local_file(path: &Path, error: &std::io::Error) -> Failure {
    if error.kind() == std::io::ErrorKind::AlreadyExists {
        return Failure::failed(format!("`{}` exists and is different", path.display()))
            .json_code("exists")
            .hint("`--force` replaces it, `-o` writes elsewhere");
    }
    Failure::local_file("use", path, error)
}

fn no_proxy(timeout: std::time::Duration, nodes_heard: bool, network: Option<String>) -> Failure {
    let seconds = timeout.as_secs_f32();
    match network {
        Some(network) => Failure::no_proxy(format!(
            "no proxy answered within {seconds} s, and broadcasts cannot be used: {network}"
        )),
        None if nodes_heard => {
            Failure::no_proxy(format!("nodes are there, but none has taken the lead within {seconds} s"))
                .hint("try again in some seconds; `thorp status` on a node's machine shows more")
        }
        None => Failure::no_proxy(format!("no thorp answered on this LAN within {seconds} s")).hint(
            "start a node with `thorp up`; open UDP and TCP port 7667 in firewalls; name a node that \
             broadcasts do not reach with `--peer HOST`; check `--cluster`",
        ),
    }
}

fn other_key(secured: bool, theirs_open: bool) -> Failure {
    let failure = Failure::not_allowed(match (secured, theirs_open) {
        (true, true) => "the thorp on this LAN is open, and you have a cluster key",
        (true, false) => "the thorp on this LAN has another cluster key",
        (false, _) => "the thorp on this LAN has a cluster key, and you have none",
    });
    failure.json_code("not_allowed").hint(match (secured, theirs_open) {
        (true, true) => "leave out `--key-file` and `THORP_KEY`, or start the nodes with your key",
        (true, false) => "use the key that the nodes were started with",
        (false, _) => "give the key that the nodes were started with: `--key-file FILE`, or `THORP_KEY`",
    })
}
