//! A guest beside callers that begin TLS handshakes with the control endpoint.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};

use super::figures::Figures;
use super::guest;
use super::host::Host;

/// How many handshakes begin in a second.
const RATE: u32 = 216;

pub(crate) fn measure(parent: &Path, daemon: &Path, seconds: u64, figures: &mut Figures) {
    let more = "certificate = \"control.pem\"\nkey = \"control.key\"\n";
    let host = Host::new(parent, daemon, 1, more);
    let made = Command::new("openssl")
        .args([
            "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
        ])
        .args([
            "-subj",
            "/CN=localhost",
            "-keyout",
            "control.key",
            "-out",
            "control.pem",
        ])
        .current_dir(&host.directory)
        .output();
    if !made.is_ok_and(|made| made.status.success()) {
        eprintln!("openssl is not installed: TLS is not measured");
        return;
    }
    let (daemon, _) = host.start_and_wait();
    daemon.wait_until_idle();
    let time = Duration::from_secs(seconds);
    let (mut alone, ()) = guest::read_during(host.guests, 0, || std::thread::sleep(time));
    figures.add("guest alone, before the handshakes", 1, alone.summary());
    let (mut beside, done) = guest::read_during(host.guests, 0, || handshakes(host.control, time));
    let text = format!("{} ({done} handshakes)", beside.summary());
    figures.add("guest beside 216 TLS handshakes/s (RSA-2048)", 1, text);
    daemon.terminate();
}

/// Begins [`RATE`] handshakes a second; returns how many were completed.
fn handshakes(endpoint: SocketAddr, time: Duration) -> usize {
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("the provider has the default versions")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate))
        .with_no_client_auth();
    let connector = TlsConnector::from(Arc::new(config));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime can be made");
    runtime.block_on(async {
        let started = Instant::now();
        let mut tasks = tokio::task::JoinSet::new();
        let mut ticks = tokio::time::interval(Duration::from_secs(1) / RATE);
        while started.elapsed() < time {
            ticks.tick().await;
            let connector = connector.clone();
            tasks.spawn(async move {
                let stream = TcpStream::connect(endpoint).await.ok()?;
                let name = ServerName::try_from("localhost").ok()?;
                let limit = Duration::from_secs(10);
                tokio::time::timeout(limit, connector.connect(name, stream))
                    .await
                    .ok()?
                    .ok()
            });
        }
        let mut done = 0;
        while let Some(result) = tasks.join_next().await {
            done += usize::from(result.is_ok_and(|stream| stream.is_some()));
        }
        done
    })
}

/// Accepts the certificate that was just made.
#[derive(Debug)]
struct AnyCertificate;

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![
            SignatureScheme::RSA_PSS_SHA256,
            SignatureScheme::RSA_PKCS1_SHA256,
        ]
    }
}
