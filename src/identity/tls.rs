//! TLS 1.3, both sides proved.
//!
//! Invariant: a handshake that ends well proves that the peer has the cluster key (its certificate
//! is signed by the cluster's authority) and which node key it has. The wall clock has no say, so a
//! board that starts in 1970 can join. Nothing is remembered between connections.

use super::certificates::Certificates;
use super::cluster_key::ClusterKeys;
use super::node_key::NodeKey;
use super::{IdentityError, SERVER_NAME};
use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, ring as provider};
use rustls::pki_types::{PrivateKeyDer, ServerName, UnixTime};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::time_provider::TimeProvider;
use rustls::version::TLS13;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use std::sync::Arc;
use std::time::Duration;

/// What is spoken inside: a peer that offers only something else is refused.
pub const ALPN: &[u8] = b"thorp/1";

/// The configurations of both ends of a connection; cheap to clone.
#[derive(Clone, Debug)]
pub struct TlsIdentity {
    /// For connections that we open; the name to give is [`server_name`].
    pub client: Arc<ClientConfig>,
    /// For connections that we take.
    pub server: Arc<ServerConfig>,
}

impl TlsIdentity {
    /// Makes this node's certificate and both configurations.
    ///
    /// # Errors
    /// [`IdentityError::Certificate`] and [`IdentityError::Tls`], which no key should lead to.
    pub fn new(node: &NodeKey, keys: &ClusterKeys) -> Result<TlsIdentity, IdentityError> {
        let certificates = Certificates::new(node, keys)?;
        configure(node, certificates).map_err(|source| IdentityError::Tls { source })
    }
}

fn configure(node: &NodeKey, certificates: Certificates) -> Result<TlsIdentity, rustls::Error> {
    let provider = Arc::new(crypto());
    let time = Arc::new(FixedTime);
    let mut roots = RootCertStore::empty();
    roots.add(certificates.authority)?;
    let roots = Arc::new(roots);
    let key = || PrivateKeyDer::Pkcs8(node.pkcs8().clone_key());
    let chain = vec![certificates.node];

    let mut client = ClientConfig::builder_with_details(Arc::clone(&provider), time.clone())
        .with_protocol_versions(&[&TLS13])?
        .with_root_certificates(Arc::clone(&roots))
        .with_client_auth_cert(chain.clone(), key())?;
    client.alpn_protocols = vec![ALPN.to_vec()];
    client.resumption = Resumption::disabled();

    let verifier = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(&provider))
        .build()
        .map_err(|error| rustls::Error::General(error.to_string()))?;
    let mut server = ServerConfig::builder_with_details(provider, time)
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key())?;
    server.alpn_protocols = vec![ALPN.to_vec()];
    server.session_storage = Arc::new(NoServerSessionStorage {});
    server.send_tls13_tickets = 0;
    Ok(TlsIdentity { client: Arc::new(client), server: Arc::new(server) })
}

/// The name that every node's certificate has: which node it is, its key says.
///
/// # Errors
/// Never: the name is a valid one.
pub fn server_name() -> Result<ServerName<'static>, IdentityError> {
    ServerName::try_from(SERVER_NAME).map_err(|_| IdentityError::Tls {
        source: rustls::Error::General("the server name is invalid".into()),
    })
}

/// ring with one key exchange, and first the cipher that this processor is fastest at: AES-128
/// where it has instructions for it, ChaCha20 elsewhere. The client's order decides.
fn crypto() -> CryptoProvider {
    use provider::cipher_suite::{
        TLS13_AES_128_GCM_SHA256 as AES_128, TLS13_AES_256_GCM_SHA384 as AES_256,
        TLS13_CHACHA20_POLY1305_SHA256 as CHACHA20,
    };
    let cipher_suites =
        if has_aes() { vec![AES_128, CHACHA20, AES_256] } else { vec![CHACHA20, AES_128, AES_256] };
    CryptoProvider {
        cipher_suites,
        kx_groups: vec![provider::kx_group::X25519],
        ..provider::default_provider()
    }
}

#[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
fn has_aes() -> bool {
    std::arch::is_x86_feature_detected!("aes")
}

#[cfg(target_arch = "aarch64")]
fn has_aes() -> bool {
    std::arch::is_aarch64_feature_detected!("aes")
}

#[cfg(not(any(target_arch = "x86", target_arch = "x86_64", target_arch = "aarch64")))]
fn has_aes() -> bool {
    false
}

/// Certificates are judged as of one day in 2025, whatever the machine's clock says: they never
/// expire, membership ends with the cluster key.
#[derive(Debug)]
struct FixedTime;

impl TimeProvider for FixedTime {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_secs(1_750_000_000)))
    }
}
