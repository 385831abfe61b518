//! Certificates: the cluster's authority, the node's own, and the id that one proves.
//!
//! Invariant: the authority is byte-identical on every node of a cluster, because everything in it
//! follows from the cluster key. It signs nodes' own certificates and nothing below them. The key
//! in a node's certificate is the node key, so that finishing a handshake proves the node's id.

use super::cluster_key::ClusterKeys;
use super::node_key::{NodeKey, node_id_of};
use super::{IdentityError, SERVER_NAME};
use crate::types::NodeId;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, PKCS_ED25519, SerialNumber, date_time_ymd,
};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use rustls::server::ParsedCertificate;

/// PKCS#8 version 1 around a 32-byte Ed25519 seed (RFC 8410, section 7).
const PKCS8_ED25519: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];
/// A SubjectPublicKeyInfo up to the 32 bytes of an Ed25519 key (RFC 8410, section 4).
const SPKI_ED25519: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// What a node shows in a handshake, and what it trusts.
pub struct Certificates {
    /// The cluster's authority: the only root.
    pub authority: CertificateDer<'static>,
    /// This node's certificate, signed by it.
    pub node: CertificateDer<'static>,
}

impl Certificates {
    /// Makes both from the keys.
    ///
    /// # Errors
    /// [`IdentityError::Certificate`], which no key that exists should lead to.
    pub fn new(node: &NodeKey, keys: &ClusterKeys) -> Result<Certificates, IdentityError> {
        make(node, keys).map_err(|source| IdentityError::Certificate { source })
    }
}

fn make(node: &NodeKey, keys: &ClusterKeys) -> Result<Certificates, rcgen::Error> {
    let authority_key = ed25519(&[PKCS8_ED25519.as_slice(), keys.authority_seed()].concat())?;
    let params = authority_params();
    let authority = params.self_signed(&authority_key)?.der().clone();
    let issuer = Issuer::new(params, authority_key);
    let node_key = ed25519(node.pkcs8().secret_pkcs8_der())?;
    let node = node_params(node)?.signed_by(&node_key, &issuer)?.der().clone();
    Ok(Certificates { authority, node })
}

fn ed25519(pkcs8: &[u8]) -> Result<KeyPair, rcgen::Error> {
    KeyPair::from_pkcs8_der_and_sign_algo(&PrivatePkcs8KeyDer::from(pkcs8), &PKCS_ED25519)
}

/// Every field that a library could fill in by itself is set: the bytes must be the same everywhere.
fn authority_params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.not_before = date_time_ymd(1970, 1, 1);
    params.not_after = date_time_ymd(2999, 12, 31);
    params.serial_number = Some(SerialNumber::from(1_u64));
    params.distinguished_name = common_name("thorp cluster");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params
}

fn node_params(node: &NodeKey) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(vec![SERVER_NAME.to_owned()])?;
    params.not_before = date_time_ymd(1970, 1, 1);
    params.not_after = date_time_ymd(2999, 12, 31);
    params.serial_number = Some(SerialNumber::from(2_u64));
    params.distinguished_name = common_name(&node.node_id().to_string());
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
    Ok(params)
}

fn common_name(name: &str) -> DistinguishedName {
    let mut names = DistinguishedName::new();
    names.push(DnType::CommonName, name);
    names
}

/// The id of the peer whose certificates these are, its own first; `None` if its key is not an
/// Ed25519 key. It is proved once the handshake is over, not before.
#[must_use]
pub fn peer_node_id(certificates: &[CertificateDer<'_>]) -> Option<NodeId> {
    let parsed = ParsedCertificate::try_from(certificates.first()?).ok()?;
    let spki = parsed.subject_public_key_info();
    let public = spki.as_ref().strip_prefix(SPKI_ED25519.as_slice())?;
    Some(node_id_of(public.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::cluster_key::ClusterSecret;
    use sha2::{Digest, Sha256};

    fn keys(name: &str) -> ClusterKeys {
        ClusterKeys::derive(None, name, &ClusterSecret::Open).expect("derived")
    }

    #[test]
    fn every_node_makes_the_same_authority() {
        let (one, two) = (NodeKey::ephemeral().expect("made"), NodeKey::ephemeral().expect("made"));
        let made = |node, name| Certificates::new(node, &keys(name)).expect("made");
        assert_eq!(made(&one, "a").authority, made(&two, "a").authority);
        assert_ne!(made(&one, "a").authority, made(&one, "b").authority);
        assert_ne!(made(&one, "a").node, made(&two, "a").node);
        assert_eq!(made(&one, "a").node, made(&one, "a").node);
    }

    /// A library that writes it differently would split clusters of two versions.
    #[test]
    fn the_authority_is_frozen() {
        let node = NodeKey::ephemeral().expect("made");
        let authority = Certificates::new(&node, &keys("default")).expect("made").authority;
        let hash: String = Sha256::digest(&authority).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hash, "5f6e3a22267cfdd04443847824395bd2db956097812e549a3b7eee3677843abe");
    }

    #[test]
    fn a_certificate_gives_the_id_of_its_key() {
        let node = NodeKey::ephemeral().expect("made");
        let made = Certificates::new(&node, &keys("a")).expect("made");
        assert_eq!(peer_node_id(&[made.node.clone(), made.authority.clone()]), Some(node.node_id()));
        assert_ne!(peer_node_id(&[made.authority, made.node]), Some(node.node_id()));
    }

    #[test]
    fn what_is_no_certificate_gives_no_id() {
        assert_eq!(peer_node_id(&[]), None);
        assert_eq!(peer_node_id(&[CertificateDer::from(vec![])]), None);
        let node = NodeKey::ephemeral().expect("made");
        let whole = Certificates::new(&node, &keys("a")).expect("made").node;
        for keep in 0..whole.len() {
            assert_eq!(peer_node_id(&[CertificateDer::from(whole[..keep].to_vec())]), None);
        }
        let other = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).expect("made");
        let certificate = authority_params().self_signed(&other).expect("made");
        assert_eq!(peer_node_id(&[certificate.der().clone()]), None, "not an Ed25519 key");
    }
}
