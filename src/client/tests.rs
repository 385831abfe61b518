//! A session with a node that breaks off, or does not lead.

use super::{Access, ClientError, Session};
use crate::identity::ClusterSecret;
use crate::transfer::connection::{Connection, Endpoint};
use crate::types::{FileName, MachineId};
use crate::wire::message::{Reply, Request};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;

/// How long the session looks for a proxy.
const PATIENCE: Duration = Duration::from_millis(600);

/// Breaks off the first connection once it was asked something; on all later ones it says that it does
/// not lead, when the session's patience is over.
async fn break_off_then_deny(listener: TcpListener, endpoint: Arc<Endpoint>) {
    let mut is_first = true;
    while let Ok((tcp, _)) = listener.accept().await {
        let Ok(connection) = Connection::accept(tcp, &endpoint).await else { continue };
        let (mut reader, mut writer) = connection.split();
        while let Ok(Some((_, _))) = reader.read::<Request>().await {
            if std::mem::take(&mut is_first) {
                break;
            }
            tokio::time::sleep(PATIENCE).await;
            // The session may have given up meanwhile.
            if writer.write(&Reply::NotProxy { proxy: None }, &[]).await.is_err()
                || writer.flush().await.is_err()
            {
                break;
            }
        }
    }
}

fn session(peers: Vec<String>) -> Session {
    let access = Access {
        data_dir: "/nonexistent/thorp-test".into(),
        cluster: "client-tests".into(),
        secret: ClusterSecret::from_text("correct horse battery", "a test").expect("valid"),
        bind: Some(Ipv4Addr::LOCALHOST),
        port: 0,
        peers,
        timeout: PATIENCE,
        machine: MachineId::parse("machine").expect("valid"),
    };
    Session::new(access).expect("keys")
}

#[tokio::test]
async fn a_change_that_may_have_been_made_is_never_called_failed() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let address = listener.local_addr().expect("bound").to_string();
    let server = session(Vec::new());
    tokio::spawn(break_off_then_deny(listener, Arc::clone(server.endpoint())));
    let mut session = session(vec![address]);
    let name = FileName::parse("a").expect("valid");
    let outcome = session.ask(&Request::SetReplicas { name, replicas: 2 }).await;
    assert!(matches!(outcome, Err(ClientError::Unknown)), "{outcome:?}");
}
