//! Real handshakes over memory: who gets in, and who does not.

use super::certificates::Certificates;
use super::cluster_key::{ClusterKeys, ClusterSecret};
use super::{ALPN, NodeKey, SERVER_NAME, TlsIdentity, peer_node_id, server_name};
use crate::types::NodeId;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::{PrivateKeyDer, UnixTime};
use rustls::time_provider::TimeProvider;
use rustls::{ClientConfig, ProtocolVersion, RootCertStore, ServerConfig};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio_rustls::{TlsAcceptor, TlsConnector};

fn keys(name: &str, secret: &str) -> ClusterKeys {
    let secret = ClusterSecret::from_text(secret, "a test").expect("valid");
    ClusterKeys::derive(None, name, &secret).expect("derived")
}

fn node(keys: &ClusterKeys) -> (NodeId, TlsIdentity) {
    let key = NodeKey::ephemeral().expect("made");
    (key.node_id(), TlsIdentity::new(&key, keys).expect("made"))
}

/// What the client end learns: a refusal by the server reaches it only with the first read.
async fn client(config: Arc<ClientConfig>, wire: DuplexStream) -> io::Result<Option<NodeId>> {
    let mut stream = TlsConnector::from(config).connect(server_name().expect("valid"), wire).await?;
    stream.write_all(b"ping").await?;
    stream.flush().await?;
    let mut answer = [0; 4];
    stream.read_exact(&mut answer).await?;
    assert_eq!(&answer, b"pong");
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(ALPN));
    Ok(stream.get_ref().1.peer_certificates().and_then(peer_node_id))
}

async fn server(config: Arc<ServerConfig>, wire: DuplexStream) -> io::Result<Option<NodeId>> {
    let mut stream = TlsAcceptor::from(config).accept(wire).await?;
    let mut asked = [0; 4];
    stream.read_exact(&mut asked).await?;
    assert_eq!(&asked, b"ping");
    stream.write_all(b"pong").await?;
    stream.flush().await?;
    Ok(stream.get_ref().1.peer_certificates().and_then(peer_node_id))
}

type Outcome = io::Result<Option<NodeId>>;

async fn meet(client_config: Arc<ClientConfig>, server_config: Arc<ServerConfig>) -> (Outcome, Outcome) {
    let (near, far) = duplex(64 << 10);
    tokio::join!(client(client_config, near), server(server_config, far))
}

#[tokio::test]
async fn members_prove_their_ids_to_each_other() {
    let keys = keys("house", "key");
    let ((one, one_tls), (two, two_tls)) = (node(&keys), node(&keys));
    let (client, server) = meet(one_tls.client.clone(), two_tls.server.clone()).await;
    assert_eq!((client.expect("in"), server.expect("in")), (Some(two), Some(one)));
    let (client, server) = meet(two_tls.client, one_tls.server).await;
    assert_eq!((client.expect("in"), server.expect("in")), (Some(one), Some(two)));
}

#[tokio::test]
async fn another_key_another_name_and_no_key_stay_out() {
    let ours = node(&keys("house", "key")).1;
    let open = ClusterKeys::derive(None, "house", &ClusterSecret::Open).expect("derived");
    for stranger in [keys("house", "other"), keys("barn", "key"), open] {
        let stranger = node(&stranger).1;
        let (client, server) = meet(stranger.client, ours.server.clone()).await;
        assert!(client.is_err() && server.is_err(), "a stranger who dials us");
        let (client, server) = meet(ours.client.clone(), stranger.server).await;
        assert!(client.is_err() && server.is_err(), "a stranger whom we dial");
    }
}

fn roots_of(keys: &ClusterKeys) -> RootCertStore {
    let certificates = Certificates::new(&NodeKey::ephemeral().expect("made"), keys).expect("made");
    let mut roots = RootCertStore::empty();
    roots.add(certificates.authority).expect("an authority");
    roots
}

/// A client made by the library's own defaults, so that only what is under test is unusual.
fn foreign_client(roots: RootCertStore) -> ClientConfig {
    ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .expect("supported")
        .with_root_certificates(roots)
        .with_no_client_auth()
}

#[tokio::test]
async fn a_client_without_a_certificate_stays_out() {
    let keys = keys("house", "key");
    let mut config = foreign_client(roots_of(&keys));
    config.alpn_protocols = vec![ALPN.to_vec()];
    let (client, server) = meet(Arc::new(config), node(&keys).1.server).await;
    assert!(client.is_err());
    assert!(server.expect_err("refused").to_string().contains("certificate"));
}

#[tokio::test]
async fn a_client_that_speaks_something_else_stays_out() {
    let keys = keys("house", "key");
    let (_, member) = node(&keys);
    let mut config = (*member.client).clone();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let (client, server) = meet(Arc::new(config), member.server).await;
    assert!(client.is_err() && server.is_err());
}

/// A member's key pair must not serve to certify others: strangers would hang below members.
#[tokio::test]
async fn a_certificate_signed_by_a_member_stays_out() {
    let keys = keys("house", "key");
    let member = NodeKey::ephemeral().expect("made");
    let certificates = Certificates::new(&member, &keys).expect("made");
    let member_key = rcgen::KeyPair::from_pkcs8_der_and_sign_algo(&member.pkcs8(), &rcgen::PKCS_ED25519);
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name.push(rcgen::DnType::CommonName, member.node_id().to_string());
    let issuer = rcgen::Issuer::new(params, member_key.expect("a key"));
    let stranger = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).expect("made");
    let leaf = rcgen::CertificateParams::new(vec![SERVER_NAME.to_owned()])
        .and_then(|params| params.signed_by(&stranger, &issuer))
        .expect("made");
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .expect("supported")
        .with_root_certificates(roots_of(&keys))
        .with_client_auth_cert(
            vec![leaf.der().clone(), certificates.node],
            PrivateKeyDer::Pkcs8(stranger.serialize_der().into()),
        )
        .expect("a certificate");
    let (client, server) = meet(Arc::new(config), node(&keys).1.server).await;
    assert!(client.is_err() && server.is_err());
}

#[derive(Debug)]
struct Clock(u64);

impl TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_secs(self.0)))
    }
}

#[tokio::test]
async fn the_wall_clock_has_no_say() {
    let keys = keys("house", "key");
    let (one, two) = (node(&keys).1, node(&keys).1);
    let fixed = Clock(1_750_000_000).current_time();
    assert_eq!(one.client.time_provider.current_time(), fixed);
    assert_eq!(two.server.time_provider.current_time(), fixed);
    // Even a peer that does judge by a clock set to 1970 or 2500 lets us in.
    for seconds in [0, 16_725_225_600] {
        let mut server = (*two.server).clone();
        server.time_provider = Arc::new(Clock(seconds));
        let (client, server) = meet(one.client.clone(), Arc::new(server)).await;
        assert!(client.is_ok() && server.is_ok(), "at {seconds} s");
    }
}

/// No older version is compiled in, so none can be agreed on.
#[test]
fn only_tls_1_3_is_spoken() {
    assert!(rustls::ALL_VERSIONS.iter().all(|known| known.version == ProtocolVersion::TLSv1_3));
}
