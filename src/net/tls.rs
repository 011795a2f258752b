//! TLS for callers from other hosts, with the operator's own certificate.
//!
//! TLS 1.2 and 1.3, HTTP/1.1 alone. Callers are known by their signatures, not by certificates of their own.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::{ServerConfig, crypto::ring};
use tokio_rustls::server::TlsStream;

use crate::plain_file::{self, PlainFile, Symlinks};

/// A certificate with its key, which can be exchanged while connections go on.
pub struct Tls(ArcSwap<ServerConfig>);

/// What is wrong with a file.
pub type TlsFault = (PathBuf, String);

impl Tls {
    /// Reads a chain of certificates, the endpoint's own first, and its key, both in PEM. The key is refused when others than
    /// its owner may read it.
    pub fn read(certificate: &Path, key: &Path) -> Result<Tls, TlsFault> {
        config(certificate, key).map(|config| Tls(ArcSwap::from_pointee(config)))
    }

    /// Takes another's certificate and key. Connections that are open keep theirs.
    pub fn replace(&self, with: Tls) {
        self.0.store(with.0.into_inner());
    }

    /// Shakes hands.
    pub(super) async fn accept(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        TlsAcceptor::from(self.0.load_full()).accept(stream).await
    }
}

fn config(certificate: &Path, key: &Path) -> Result<ServerConfig, TlsFault> {
    let wrong = |path: &Path, what: String| (path.to_path_buf(), what);
    let chain = plain_file::read_bytes(certificate, plain_file::MAX_BYTES)
        .map_err(|reason| wrong(certificate, format!("can't be read: {reason}")))?;
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&chain)
        .collect::<Result<_, _>>()
        .map_err(|reason| wrong(certificate, format!("not certificates in PEM: {reason}")))?;
    if chain.is_empty() {
        return Err(wrong(
            certificate,
            "there is no certificate in it".to_string(),
        ));
    }
    let unreadable = |reason| wrong(key, format!("can't be read: {reason}"));
    let file = PlainFile::open(key, Symlinks::Follow).map_err(unreadable)?;
    let mode = file.mode();
    let secret = file.read_bytes(plain_file::MAX_BYTES).map_err(unreadable)?;
    if mode & 0o077 != 0 {
        let message = format!(
            "others than its owner may use this key (mode {mode:o}): chmod 600 {}",
            key.display()
        );
        return Err(wrong(key, message));
    }
    let secret = PrivateKeyDer::from_pem_slice(&secret)
        .map_err(|reason| wrong(key, format!("not a private key in PEM: {reason}")))?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("the provider has the default versions of TLS")
        .with_no_client_auth()
        .with_single_cert(chain, secret)
        .map_err(|reason| {
            wrong(
                certificate,
                format!("does not go with the key {}: {reason}", key.display()),
            )
        })?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}
