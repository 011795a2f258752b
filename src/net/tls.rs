//! TLS for callers on other hosts, with the operator's own certificate.
//!
//! TLS 1.2 and 1.3, HTTP/1.1 only. Callers are identified by their signatures, not by client
//! certificates.

use std::io;
use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::{ServerConfig, crypto::ring};
use tokio_rustls::server::TlsStream;

use crate::fault::Fault;
use crate::ownership::KeyOwner;
use crate::plain_file::{self, PlainFile, Symlinks};

/// A certificate with its key, which can be replaced while connections are open. Without one, every
/// handshake fails.
pub(crate) struct Tls(ArcSwapOption<ServerConfig>);

impl Tls {
    /// Returns TLS that has no certificate yet.
    pub(crate) fn without_certificate() -> Tls {
        Tls(ArcSwapOption::empty())
    }

    /// Reads a certificate chain, the endpoint's own certificate first, and its key, both in PEM. A
    /// key that other users can read, or that does not belong to `owner`, is refused.
    pub(crate) fn read(certificate: &Path, key: &Path, owner: KeyOwner) -> Result<Tls, Fault> {
        let chain = read_chain(certificate)?;
        let secret = read_key(key, owner)?;
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("the provider has the default versions of TLS")
            .with_no_client_auth()
            .with_single_cert(chain, secret)
            .map_err(|reason| {
                let message = format!("does not match the key {}: {reason}", key.display());
                Fault::of_file(certificate, message)
            })?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Tls(ArcSwapOption::from_pointee(config)))
    }

    /// Replaces the certificate and the key. Open connections keep theirs.
    pub(crate) fn replace(&self, with: Tls) {
        self.0.store(with.0.into_inner());
    }

    /// Does the TLS handshake.
    pub(super) async fn accept<S>(&self, stream: S) -> io::Result<TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let config = self.0.load_full();
        let config = config.ok_or_else(|| io::Error::other("there is no certificate"))?;
        TlsAcceptor::from(config).accept(stream).await
    }
}

fn read_chain(file: &Path) -> Result<Vec<CertificateDer<'static>>, Fault> {
    let fault = |message: String| Fault::of_file(file, message);
    let pem = plain_file::read_bytes(file, plain_file::MAX_BYTES)
        .map_err(|reason| fault(format!("cannot be read: {reason}")))?;
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<_, _>>()
        .map_err(|reason| fault(format!("not certificates in PEM: {reason}")))?;
    match chain.is_empty() {
        false => Ok(chain),
        true => Err(fault("there is no certificate in this file".to_string())),
    }
}

fn read_key(file: &Path, owner: KeyOwner) -> Result<PrivateKeyDer<'static>, Fault> {
    let fault = |message: String| Fault::of_file(file, message);
    let unreadable = |reason| fault(format!("cannot be read: {reason}"));
    let opened = PlainFile::open(file, Symlinks::Follow).map_err(unreadable)?;
    if let Some(reason) = opened.key_fault(file, owner) {
        return Err(fault(reason));
    }
    let pem = opened
        .read_bytes(plain_file::MAX_BYTES)
        .map_err(unreadable)?;
    PrivateKeyDer::from_pem_slice(&pem)
        .map_err(|reason| fault(format!("not a private key in PEM: {reason}")))
}
