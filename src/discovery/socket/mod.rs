//! Datagrams to and from everybody on the LAN, on every interface. Shell.
//!
//! A datagram goes out from each address of this machine to that network's own broadcast address,
//! and to 255.255.255.255 where a wrong netmask would hide us; to nodes on this machine it goes by
//! 127.255.255.255. So the same datagram may come in several times: its sequence number tells.
//!
//! Invariants: nothing is sent to an address because a packet came from it; what comes from beyond
//! our own networks is not let in; no network error ends discovery, because a cable that is out
//! comes back.

use crate::clock::{self, Moment};
use crate::limits::{
    DATAGRAM_BYTES_MAX, INTERFACES_INTERVAL, INTERFACES_MAX, RECEIVE_BUFFER_BYTES, RECEIVE_RETRY_INTERVAL,
};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::collections::{BTreeMap, BTreeSet};
use std::future::poll_fn;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use tokio::io::ReadBuf;

/// The broadcast address of every loopback network: interfaces do not tell it.
const LOOPBACK_BROADCAST: Ipv4Addr = Ipv4Addr::new(127, 255, 255, 255);

/// An IPv4 address of this machine, and the network that it is in.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Interface {
    /// What the system calls the interface.
    pub name: Box<str>,
    /// Our address there.
    pub address: Ipv4Addr,
    /// Leading bits of the address that are the network's, 0 to 32.
    pub prefix: u8,
    /// Where everybody there can be reached; `None` on a point-to-point link.
    pub broadcast: Option<Ipv4Addr>,
    /// Whether it leads back to this machine.
    pub loopback: bool,
}

impl Interface {
    /// Whether `address` is in this interface's network.
    #[must_use]
    pub fn contains(&self, address: Ipv4Addr) -> bool {
        let mask = u32::MAX.checked_shl(32 - u32::from(self.prefix.min(32))).unwrap_or(0);
        // A link with no netmask at all (prefix 0) is no network of neighbours.
        self.prefix > 0 && (self.address.to_bits() ^ address.to_bits()) & mask == 0
    }
}

/// The IPv4 addresses of all interfaces that are up, at most [`INTERFACES_MAX`]; none if the
/// system does not say.
#[must_use]
pub fn interfaces() -> Vec<Interface> {
    let listed = if_addrs::get_if_addrs().unwrap_or_else(|error| {
        tracing::debug!(%error, "cannot list the interfaces");
        Vec::new()
    });
    let mut interfaces: Vec<Interface> =
        listed.into_iter().filter(if_addrs::Interface::is_oper_up).filter_map(describe).collect();
    interfaces.sort();
    interfaces.truncate(INTERFACES_MAX);
    interfaces
}

fn describe(listed: if_addrs::Interface) -> Option<Interface> {
    let point_to_point = listed.is_p2p();
    let if_addrs::IfAddr::V4(v4) = listed.addr else { return None };
    let prefix = v4.prefixlen.min(32);
    let loopback = v4.ip.is_loopback();
    let broadcast = if loopback {
        Some(LOOPBACK_BROADCAST)
    } else if point_to_point || !(1..=30).contains(&prefix) {
        None
    } else {
        let hosts = u32::MAX.checked_shr(u32::from(prefix)).unwrap_or(0);
        // An address that was added without a broadcast address is listed with itself in its place.
        let own = |told: &Ipv4Addr| *told != v4.ip && (told.to_bits() ^ v4.ip.to_bits()) & !hosts == 0;
        v4.broadcast.filter(own).or(Some(Ipv4Addr::from_bits(v4.ip.to_bits() | hosts)))
    };
    Some(Interface { name: listed.name.into(), address: v4.ip, prefix, broadcast, loopback })
}

/// Whether a packet from `source` can come from a neighbour: it is in the network of one of
/// `interfaces`. A loopback source is this machine itself, the system lets no other in.
#[must_use]
pub fn on_link(source: Ipv4Addr, interfaces: &[Interface]) -> bool {
    let refused = source.is_unspecified() || source.is_broadcast() || source.is_multicast();
    !refused && interfaces.iter().any(|interface| interface.contains(source))
}

/// Why discovery could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// No interface has the address of `--bind`.
    #[error("no interface has the address {address}")]
    NoInterface {
        /// What was asked for.
        address: Ipv4Addr,
    },
    /// The port is taken by a program that does not share it.
    #[error("UDP port {port} is in use by another program")]
    InUse {
        /// Which.
        port: u16,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A socket could not be made.
    #[error("cannot listen on UDP {address}")]
    Open {
        /// Where.
        address: SocketAddrV4,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl SocketError {
    /// What the user can do about it, if anything.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            SocketError::NoInterface { .. } => {
                let known: Vec<String> = interfaces()
                    .iter()
                    .map(|interface| format!("{} ({})", interface.address, interface.name))
                    .collect();
                Some(format!("addresses of this machine: {}", known.join(", ")))
            }
            SocketError::InUse { .. } => {
                Some("stop that program, or give every node of this LAN another `--port`".into())
            }
            SocketError::Open { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                Some("choose a `--port` above 1023".into())
            }
            SocketError::Open { .. } => None,
        }
    }

    fn at(address: SocketAddrV4, source: io::Error) -> SocketError {
        match source.kind() {
            io::ErrorKind::AddrInUse => SocketError::InUse { port: address.port(), source },
            io::ErrorKind::AddrNotAvailable => SocketError::NoInterface { address: *address.ip() },
            _ => SocketError::Open { address, source },
        }
    }
}

/// The sockets of discovery.
#[derive(Debug)]
pub struct DiscoverySocket {
    bind: Option<Ipv4Addr>,
    port: u16,
    receivers: Vec<tokio::net::UdpSocket>,
    /// Which receiver is asked first: each in its turn, so that a flood on one mutes no other.
    turn: AtomicUsize,
    paths: Mutex<Paths>,
}

/// The ways out of this machine, as far as known.
#[derive(Debug, Default)]
struct Paths {
    /// When the interfaces were last listed.
    listed: Option<Moment>,
    /// Those in use: all, or the one of `--bind`.
    interfaces: Vec<Interface>,
    /// A socket bound to each of our addresses: it makes the packets leave by that interface.
    senders: BTreeMap<Ipv4Addr, UdpSocket>,
    /// How the last attempt for each pair of source and destination failed, to log changes alone.
    failures: BTreeMap<(Ipv4Addr, Ipv4Addr), Option<i32>>,
}

impl DiscoverySocket {
    /// Listens on UDP `port` (0: any free one, see [`DiscoverySocket::port`]), together with other
    /// nodes of this machine: on every interface, or on that of the address `bind` alone. Call it
    /// inside a tokio runtime.
    ///
    /// # Errors
    /// When no interface has `bind`, or the port is taken by a program that does not share it.
    pub fn open(bind: Option<Ipv4Addr>, port: u16) -> Result<DiscoverySocket, SocketError> {
        let mut paths = Paths::default();
        paths.list(bind);
        let Some(bound) = bind else {
            let (receiver, port) = open_receiver(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port))?;
            return Ok(DiscoverySocket::new(bind, port, vec![receiver], paths));
        };
        let broadcast =
            paths.interfaces.first().ok_or(SocketError::NoInterface { address: bound })?.broadcast;
        let (receivers, port) = open_bound(bound, broadcast, port)?;
        Ok(DiscoverySocket::new(bind, port, receivers, paths))
    }

    fn new(
        bind: Option<Ipv4Addr>,
        port: u16,
        receivers: Vec<tokio::net::UdpSocket>,
        paths: Paths,
    ) -> DiscoverySocket {
        DiscoverySocket { bind, port, receivers, turn: AtomicUsize::new(0), paths: Mutex::new(paths) }
    }

    /// The port listened on, and sent to.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The interfaces in use: all that are up, or that of `--bind`. At most
    /// [`INTERFACES_INTERVAL`] old if anything was sent since.
    #[must_use]
    pub fn interfaces(&self) -> Vec<Interface> {
        self.paths().interfaces.clone()
    }

    /// Sends `bytes` to everybody: from each interface to its broadcast address and to
    /// 255.255.255.255. Gives how many of these went out; 0 means that nobody can hear us now.
    /// Never waits: what the system has no room for is lost, as broadcasts may be.
    pub fn send(&self, bytes: &[u8]) -> usize {
        let mut paths = self.paths();
        paths.list_if_due(self.bind);
        let addresses: Vec<(Ipv4Addr, Ipv4Addr, bool)> = paths
            .interfaces
            .iter()
            .filter_map(|interface| Some((interface.address, interface.broadcast?, interface.loopback)))
            .collect();
        let mut sent = 0;
        for (source, broadcast, loopback) in addresses {
            let directed = paths.send(bytes, source, SocketAddrV4::new(broadcast, self.port));
            let limited =
                !loopback && paths.send(bytes, source, SocketAddrV4::new(Ipv4Addr::BROADCAST, self.port));
            if !directed && !limited {
                // Made anew after the next listing: the address may be gone, or come back.
                paths.senders.remove(&source);
            }
            sent += usize::from(directed) + usize::from(limited);
        }
        sent
    }

    /// The next datagram from a neighbour, and where it came from: at most
    /// [`DATAGRAM_BYTES_MAX`] + 1 bytes, so that one that is too long can be told. Our own come
    /// too, and each may come several times. For one task at a time; may be dropped while it waits.
    pub async fn recv(&self) -> (Vec<u8>, SocketAddrV4) {
        let mut buffer = [0; DATAGRAM_BYTES_MAX + 1];
        loop {
            match poll_fn(|context| self.poll_receivers(context, &mut buffer)).await {
                Ok((bytes, SocketAddr::V4(source))) if self.lets_in(*source.ip()) => {
                    return (buffer[..bytes].to_vec(), source);
                }
                Ok((_, source)) => tracing::trace!(%source, "a datagram from beyond our networks"),
                Err(error) => {
                    tracing::debug!(%error, "cannot receive datagrams");
                    tokio::time::sleep(RECEIVE_RETRY_INTERVAL).await;
                }
            }
        }
    }

    fn poll_receivers(
        &self,
        context: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<(usize, SocketAddr)>> {
        let first = self.turn.fetch_add(1, Ordering::Relaxed) % self.receivers.len().max(1);
        let (later, sooner) = self.receivers.split_at(first);
        for receiver in sooner.iter().chain(later) {
            let mut read = ReadBuf::new(buffer);
            if let Poll::Ready(outcome) = receiver.poll_recv_from(context, &mut read) {
                return Poll::Ready(outcome.map(|source| (read.filled().len(), source)));
            }
        }
        Poll::Pending
    }

    /// Whether `source` is a neighbour; an unknown one may be in a network that is new.
    fn lets_in(&self, source: Ipv4Addr) -> bool {
        let mut paths = self.paths();
        on_link(source, &paths.interfaces)
            || (paths.list_if_due(self.bind) && on_link(source, &paths.interfaces))
    }

    fn paths(&self) -> MutexGuard<'_, Paths> {
        self.paths.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Paths {
    /// Lists the interfaces unless that was done just now; whether it was done.
    fn list_if_due(&mut self, bind: Option<Ipv4Addr>) -> bool {
        let interval = u64::try_from(INTERFACES_INTERVAL.as_millis()).unwrap_or(u64::MAX);
        let due = self.listed.is_none_or(|listed| clock::now().since(listed) >= interval);
        if due {
            self.list(bind);
        }
        due
    }

    fn list(&mut self, bind: Option<Ipv4Addr>) {
        self.listed = Some(clock::now());
        let found = used(interfaces(), bind);
        if found != self.interfaces {
            let addresses: Vec<String> =
                found.iter().map(|interface| format!("{} {}", interface.name, interface.address)).collect();
            tracing::debug!(?addresses, "the interfaces in use changed");
        }
        self.interfaces = found;
        let current: BTreeSet<Ipv4Addr> = self.interfaces.iter().map(|interface| interface.address).collect();
        self.senders.retain(|address, _| current.contains(address));
        self.failures.retain(|(address, _), _| current.contains(address));
        for address in current {
            if self.senders.contains_key(&address) {
                continue;
            }
            let opened = open_sender(address);
            self.note(address, Ipv4Addr::UNSPECIFIED, opened.as_ref().err());
            if let Ok(sender) = opened {
                self.senders.insert(address, sender);
            }
        }
    }

    /// Sends from `source` to `destination`; whether it went out.
    fn send(&mut self, bytes: &[u8], source: Ipv4Addr, destination: SocketAddrV4) -> bool {
        let Some(sender) = self.senders.get(&source) else { return false };
        let failure = sender.send_to(bytes, destination).err();
        self.note(source, *destination.ip(), failure.as_ref());
        failure.is_none()
    }

    /// Logs how sending between two addresses goes, when that changed.
    fn note(&mut self, source: Ipv4Addr, destination: Ipv4Addr, failure: Option<&io::Error>) {
        let key = (source, destination);
        match failure {
            Some(error) => {
                let code = error.raw_os_error();
                if self.failures.insert(key, code) != Some(code) {
                    tracing::debug!(%source, %destination, %error, "cannot broadcast here");
                }
            }
            None => {
                if self.failures.remove(&key).is_some() {
                    tracing::debug!(%source, %destination, "can broadcast here again");
                }
            }
        }
    }
}

/// Those of `all` that are used: all, or the one with the address `bind`. A loopback address that
/// no interface lists (any of 127.0.0.0/8 works) is in the loopback network all the same.
fn used(all: Vec<Interface>, bind: Option<Ipv4Addr>) -> Vec<Interface> {
    let Some(bind) = bind else { return all };
    if bind.is_loopback() {
        let name = all.into_iter().find(|interface| interface.loopback).map(|interface| interface.name);
        return vec![Interface {
            name: name.unwrap_or_else(|| "lo".into()),
            address: bind,
            prefix: 8,
            broadcast: Some(LOOPBACK_BROADCAST),
            loopback: true,
        }];
    }
    all.into_iter().filter(|interface| interface.address == bind).collect()
}

/// The receiving sockets for one address. On Linux a socket bound to a broadcast address hears
/// that network's broadcasts and nothing else; 255.255.255.255 has no network, so what it hears is
/// told apart by its source.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn open_bound(
    bound: Ipv4Addr,
    broadcast: Option<Ipv4Addr>,
    port: u16,
) -> Result<(Vec<tokio::net::UdpSocket>, u16), SocketError> {
    let (own, port) = open_receiver(SocketAddrV4::new(bound, port))?;
    let mut receivers = vec![own];
    if let Some(broadcast) = broadcast {
        receivers.push(open_receiver(SocketAddrV4::new(broadcast, port))?.0);
    }
    if !bound.is_loopback() {
        match open_receiver(SocketAddrV4::new(Ipv4Addr::BROADCAST, port)) {
            Ok((limited, _)) => receivers.push(limited),
            Err(error) => tracing::debug!(%error, "broadcasts to 255.255.255.255 are not heard"),
        }
    }
    Ok((receivers, port))
}

/// The receiving socket for one address. Elsewhere than on Linux a broadcast reaches only sockets
/// that are bound to no address; sources of other networks are turned away as they come.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn open_bound(
    _bound: Ipv4Addr,
    _broadcast: Option<Ipv4Addr>,
    port: u16,
) -> Result<(Vec<tokio::net::UdpSocket>, u16), SocketError> {
    let (receiver, port) = open_receiver(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port))?;
    Ok((vec![receiver], port))
}

/// A socket that hears what is sent to `address`, and the port that it got.
fn open_receiver(address: SocketAddrV4) -> Result<(tokio::net::UdpSocket, u16), SocketError> {
    let open = || {
        let socket = open_udp()?;
        socket.set_reuse_address(true)?;
        // Linux hands a broadcast to all that share the port by SO_REUSEADDR; SO_REUSEPORT would tie
        // it to one user there, but is what shares it elsewhere.
        #[cfg(not(any(target_os = "linux", target_os = "android")))]
        socket.set_reuse_port(true)?;
        if let Err(error) = socket.set_recv_buffer_size(RECEIVE_BUFFER_BYTES) {
            tracing::debug!(%error, "the receive buffer stays as it is");
        }
        socket.bind(&SockAddr::from(address))?;
        let socket = tokio::net::UdpSocket::from_std(socket.into())?;
        let port = socket.local_addr()?.port();
        Ok((socket, port))
    };
    open().map_err(|source| SocketError::at(address, source))
}

/// A socket that sends from `address`; nobody reads it.
fn open_sender(address: Ipv4Addr) -> io::Result<UdpSocket> {
    let socket = open_udp()?;
    socket.set_broadcast(true)?;
    // Whatever the networks beyond think of it, discovery stays on the link.
    socket.set_ttl_v4(1)?;
    socket.bind(&SockAddr::from(SocketAddrV4::new(address, 0)))?;
    Ok(socket.into())
}

fn open_udp() -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

#[cfg(test)]
mod tests;
