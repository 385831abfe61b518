//! HTTP: the page, files, channels and the state of the cluster, for browsers and for programs
//! without thorp. Shell.
//!
//! It asks the cluster as a command does, through `client`, so that nothing can be done here that
//! a command could not do. HTTP/1.1 alone, without TLS: what needs secrecy on the wire uses `thorp`.
//!
//! Invariants: no request is answered before the [`guard`] let it pass; a name never becomes a
//! path; nothing that comes in or goes out is unbounded in size or time.
//!
//! | file | what it does |
//! |---|---|
//! | [`accept`] | takes connections, with deadlines and a bound |
//! | `body` | bodies: whole, in pieces, always on the move |
//! | `headers` | headers as text (pure) |
//! | [`guard`] | who may ask what: Host, Origin, token (pure) |
//! | [`refusal`] | everything that is not done, as JSON |
//! | `routes` | which path is answered by whom |
//! | `sessions` | connections to the proxy, shared by all requests |
//! | `files` | files: listed, given, taken, changed |
//! | [`share`] | links to one file |
//! | `page` | the page and what belongs to it |
//! | `channels` | live state |
//! | `status` | how the cluster stands |
//! | `metrics` | numbers for Prometheus |
//! | `events` | what happens, live |
//! | `transfers` | files on their way through here |
//! | `stream` | answers that come in pieces |

pub mod accept;
mod body;
mod channels;
mod events;
mod files;
pub mod guard;
mod headers;
mod metrics;
mod page;
pub mod refusal;
mod routes;
mod sessions;
pub mod share;
mod status;
mod stream;
mod transfers;

use crate::client::{Access, ClientError};
use crate::clock;
use crate::limits::UPLOADS_CLEAN_INTERVAL;
use crate::limits::{HTTP_PORT_DEFAULT, HTTP_PROXY_TIMEOUT};
use crate::node::channels::Hub;
use crate::node::insight::Insight;
use crate::types::NodeId;
use files::Files;
use guard::Guard;
use sessions::Sessions;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::sync::watch;

/// Where to listen.
#[derive(Clone, Copy, Debug)]
pub enum Place {
    /// On the usual port of this address, or on a free one if it is taken.
    Usual(IpAddr),
    /// Exactly here.
    At(SocketAddr),
}

impl Place {
    /// The usual place: where the node is, but only on this machine if the LAN is closed.
    #[must_use]
    pub fn usual(bind: Option<Ipv4Addr>, secured: bool) -> Place {
        let open = bind.unwrap_or(Ipv4Addr::UNSPECIFIED);
        Place::Usual(IpAddr::V4(if secured { Ipv4Addr::LOCALHOST } else { open }))
    }
}

/// Why HTTP cannot be served.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WebError {
    /// The port cannot be had.
    #[error("HTTP cannot be served on {address}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The keys or the network cannot be used.
    #[error("HTTP cannot be served")]
    Client(#[from] ClientError),
}

/// What is served, and for whom.
pub struct Options {
    /// How the cluster is reached.
    pub access: Access,
    /// The node whose process this is.
    pub node: NodeId,
    /// Its display name.
    pub name: String,
    /// Its channels.
    pub channels: Arc<Hub>,
    /// What it tells of itself.
    pub insight: Arc<Insight>,
    /// Further names under which browsers ask for it.
    pub hosts: Vec<guard::Host>,
}

/// What all requests share.
pub(crate) struct Web {
    pub(crate) sessions: Sessions,
    pub(crate) guard: Guard,
    pub(crate) files: Files,
    /// Where HTTP is served.
    pub(crate) address: SocketAddr,
    pub(crate) cluster: String,
    pub(crate) secured: bool,
    pub(crate) node: NodeId,
    pub(crate) name: String,
    pub(crate) channels: Arc<Hub>,
    pub(crate) insight: Arc<Insight>,
    pub(crate) feed: events::Feed,
    pub(crate) transfers: transfers::Transfers,
    pub(crate) metrics: metrics::Metrics,
    /// True once the node is being stopped: streams end.
    pub(crate) stopping: watch::Receiver<bool>,
}

/// HTTP, ready to be served.
pub struct Server {
    listener: TcpListener,
}

impl Server {
    /// Takes the port.
    ///
    /// # Errors
    /// When it cannot be had.
    pub async fn open(place: Place) -> Result<Server, WebError> {
        let (wanted, other) = match place {
            Place::Usual(ip) => (SocketAddr::new(ip, HTTP_PORT_DEFAULT), Some(SocketAddr::new(ip, 0))),
            Place::At(address) => (address, None),
        };
        let listener = match (TcpListener::bind(wanted).await, other) {
            (Err(error), Some(other)) if error.kind() == std::io::ErrorKind::AddrInUse => {
                TcpListener::bind(other).await
            }
            (result, _) => result,
        };
        let listener = listener.map_err(|source| WebError::Listen { address: wanted, source })?;
        Ok(Server { listener })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `stopping` turns true, then ends what is under way within a second.
    ///
    /// # Errors
    /// When the keys cannot be used.
    pub async fn run(self, options: Options, stopping: watch::Receiver<bool>) -> Result<(), WebError> {
        let address = self.listener.local_addr().map_err(ClientError::from)?;
        let access = Access { timeout: HTTP_PROXY_TIMEOUT, ..options.access };
        let (cluster, secured) = (access.cluster.clone(), access.secret.is_secured());
        let data_dir = access.data_dir.clone();
        let sessions = Sessions::new(access)?;
        let token = secured.then(|| sessions.first().keys().http_token());
        let web = Web {
            guard: Guard::new(address.port(), options.hosts, token),
            files: Files::new(sessions.first().endpoint(), &data_dir),
            address,
            sessions,
            cluster,
            secured,
            node: options.node,
            name: options.name,
            channels: options.channels,
            insight: options.insight,
            feed: events::Feed::default(),
            transfers: transfers::Transfers::default(),
            metrics: metrics::Metrics::default(),
            stopping: stopping.clone(),
        };
        let web = Arc::new(web);
        tokio::select! {
            () = accept::accept(self.listener, routes::router(Arc::clone(&web)), stopping) => {}
            () = clean(&web) => {}
        }
        Ok(())
    }
}

/// Throws away, now and then, the uploads that nobody goes on with.
async fn clean(web: &Web) {
    let mut when = tokio::time::interval(UPLOADS_CLEAN_INTERVAL);
    loop {
        when.tick().await;
        let spool = web.files.spool.clone();
        let _ = tokio::task::spawn_blocking(move || spool.clean(clock::wall().0)).await;
    }
}
