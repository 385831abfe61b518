//! Where on this LAN a browser finds the page. Shell.
//!
//! A node announces its HTTP port, not the addresses that it listens on there (with a cluster key
//! it is loopback alone): so those that it may be at are tried.

use crate::cli::failure::Failure;
use crate::cli::printer::Printer;
use crate::client::{ClientError, Session};
use crate::types::MachineId;
use crate::wire::message::{NodeState, Reply, Request};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long an address may take to answer: on a LAN it is some milliseconds.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(500);

/// An address that answers, of this machine's node if there is one; `None` if none does.
///
/// # Errors
/// When there is no proxy to ask.
pub async fn find(session: &mut Session, machine: &MachineId) -> Result<Option<SocketAddr>, ClientError> {
    let Reply::Status(status) = session.ask(&Request::Status).await? else {
        return Err(ClientError::Nonsense);
    };
    let mut nodes: Vec<_> = status
        .nodes
        .iter()
        .filter(|node| node.state == NodeState::Up && node.presence.http_port != 0)
        .collect();
    nodes.sort_by_key(|node| node.presence.machine != *machine);
    for node in nodes {
        let routes = session.localise(vec![node.route.clone()]);
        let addresses = routes.iter().flat_map(|route| route.addresses.iter().map(SocketAddr::ip));
        // Others can use an address of the LAN, and only this machine loopback.
        let mut addresses: Vec<IpAddr> = addresses.collect();
        if node.presence.machine == *machine {
            addresses.push(IpAddr::V4(Ipv4Addr::LOCALHOST));
        }
        addresses.sort_by_key(IpAddr::is_loopback);
        for ip in addresses {
            let address = SocketAddr::new(ip, node.presence.http_port);
            if timeout(ANSWER_TIMEOUT, TcpStream::connect(address)).await.is_ok_and(|tried| tried.is_ok()) {
                return Ok(Some(address));
            }
        }
    }
    Ok(None)
}

/// What to say when there is none.
pub fn nobody() -> Failure {
    Failure::failed("no machine serves HTTP where this one can reach it").json_code("no_http").hint(
        "start a node here with `thorp up`, or one elsewhere with `--http ADDR:PORT`; open TCP port 7668 in firewalls",
    )
}

/// Says that nobody else can use the address, if it is so.
pub fn warn_if_here_alone(printer: &Printer, address: SocketAddr) {
    if address.ip().is_loopback() {
        printer.note("only this machine can open it; `thorp up --http ADDR:PORT` serves others, too");
    }
}
