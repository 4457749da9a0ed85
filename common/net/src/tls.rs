//! TLS configurations: version 1.3 only, one provider, the fleet's own authority and no other.
//! Sessions are not resumed: resumption would skip the check of the peer's certificate.

use std::sync::Arc;

use groundswell_common::wire::{LEVEL_NEWEST, alpn_names, level_of};
use rustls::RootCertStore;
use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
pub use rustls::{ClientConfig, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::connect::TlsClient;

/// Whether a server asks for a client certificate or insists on one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientAuth {
    /// No handshake without one.
    Required,
    /// A peer without one is anonymous; one with a bad one is refused.
    Optional,
}

/// Why a TLS configuration cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A certificate or key file that is not PEM.
    #[error("read {0}: want PEM")]
    Pem(&'static str, #[source] rustls_pki_types::pem::Error),
    /// No certificate in a PEM text.
    #[error("read the certificate: the PEM text holds none")]
    NoCertificate,
    /// An authority that is no certificate.
    #[error("read the certificate authority")]
    Authority(#[source] rustls::Error),
    /// Certificate and key that do not fit, or a provider without TLS 1.3.
    #[error("set up TLS; check that certificate and key belong together")]
    Config(#[source] rustls::Error),
    /// Authorities that cannot be used to check clients.
    #[error("set up the check of client certificates")]
    Verifier(#[source] rustls::server::VerifierBuilderError),
}

/// A server's configuration: authorities as DER, own chain and key as PEM.
///
/// # Errors
/// [`TlsError`], naming which input is bad.
pub fn server_config(
    authorities: &[Vec<u8>],
    chain_pem: &str,
    key_pem: &str,
    clients: ClientAuth,
) -> Result<Arc<ServerConfig>, TlsError> {
    let roots = Arc::new(root_store(authorities)?);
    let builder = WebPkiClientVerifier::builder_with_provider(roots, provider());
    let verifier = match clients {
        ClientAuth::Required => builder.build(),
        ClientAuth::Optional => builder.allow_unauthenticated().build(),
    }
    .map_err(TlsError::Verifier)?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(TlsError::Config)?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain(chain_pem)?, key(key_pem)?)
        .map_err(TlsError::Config)?;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

/// A client's configuration; `identity` is its own chain and key as PEM.
///
/// # Errors
/// [`TlsError`], naming which input is bad.
pub fn client_config(
    authorities: &[Vec<u8>],
    identity: Option<(&str, &str)>,
) -> Result<Arc<ClientConfig>, TlsError> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(TlsError::Config)?
        .with_root_certificates(root_store(authorities)?);
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some((chain_pem, key_pem)) => builder
            .with_client_auth_cert(chain(chain_pem)?, key(key_pem)?)
            .map_err(TlsError::Config)?,
    };
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

/// The same server, which says to agents what it knows.
#[must_use]
pub fn knowing_all(config: &ServerConfig) -> Arc<ServerConfig> {
    let mut config = config.clone();
    config.alpn_protocols = alpn_names(LEVEL_NEWEST);
    Arc::new(config)
}

/// The same client, which asks for all that is known up to `level`.
#[must_use]
pub fn knowing(config: &ClientConfig, level: u8) -> Arc<ClientConfig> {
    let mut config = config.clone();
    config.alpn_protocols = alpn_names(level);
    Arc::new(config)
}

/// What both ends of a connection know.
#[must_use]
pub fn agreed_level(stream: &TlsClient) -> u8 {
    level_of(stream.get_ref().1.alpn_protocol())
}

/// The DER of every certificate in a PEM text.
///
/// # Errors
/// [`TlsError::Pem`] or [`TlsError::NoCertificate`].
pub fn chain(pem: &str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let certificates = CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| TlsError::Pem("the certificate", error))?;
    if certificates.is_empty() { Err(TlsError::NoCertificate) } else { Ok(certificates) }
}

fn key(pem: &str) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_slice(pem.as_bytes())
        .map_err(|error| TlsError::Pem("the private key", error))
}

fn root_store(authorities: &[Vec<u8>]) -> Result<RootCertStore, TlsError> {
    let mut store = RootCertStore::empty();
    for der in authorities {
        store.add(CertificateDer::from(der.clone())).map_err(TlsError::Authority)?;
    }
    Ok(store)
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}
