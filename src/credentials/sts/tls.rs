//! TLS for the connection to an STS.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use rustls_pki_types::{CertificateDer, pem::PemObject as _};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto::ring};

use crate::credentials::fetch::FetchError;
use crate::plain_file;

/// Returns the TLS configuration for an endpoint; `None` for plain HTTP. The trusted authorities
/// are those in `ca_file`, or else the system's.
pub(super) fn client_config(
    encrypted: bool,
    ca_file: Option<&Path>,
) -> Result<Option<Arc<ClientConfig>>, FetchError> {
    if !encrypted {
        return Ok(None);
    }
    let mut roots = RootCertStore::empty();
    match ca_file {
        Some(file) => {
            let wrong = |what: &dyn fmt::Display| {
                FetchError::unavailable(format!("{}: {what}", file.display()))
            };
            let pem = plain_file::read_bytes(file, plain_file::MAX_BYTES)
                .map_err(|error| wrong(&error))?;
            for certificate in CertificateDer::pem_slice_iter(&pem) {
                roots
                    .add(certificate.map_err(|error| wrong(&error))?)
                    .map_err(|error| wrong(&error))?;
            }
            if roots.is_empty() {
                return Err(wrong(&"it contains no certificate"));
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("the provider has the default versions of TLS");
    Ok(Some(Arc::new(
        config.with_root_certificates(roots).with_no_client_auth(),
    )))
}
