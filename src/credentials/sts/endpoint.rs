//! The endpoint of an STS: a URL taken apart.

use std::fmt;

use hyper::Uri;
use hyper::header::HeaderValue;

use crate::credentials::fetch::FetchError;

/// The address of an STS.
pub(super) struct Endpoint {
    pub(super) encrypted: bool,
    /// The `Host` header field.
    pub(super) authority: String,
    /// A name or an address, without brackets.
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) path: String,
}

impl Endpoint {
    pub(super) fn read(text: &str) -> Result<Endpoint, FetchError> {
        let wrong = || FetchError::unavailable("the endpoint is not an http or https URL");
        let uri: Uri = text.parse().map_err(|_| wrong())?;
        let (encrypted, port) = match uri.scheme_str() {
            Some("https") => (true, 443),
            Some("http") => (false, 80),
            _ => return Err(wrong()),
        };
        let authority = uri.authority().ok_or_else(wrong)?;
        Ok(Endpoint {
            encrypted,
            authority: authority.to_string(),
            host: authority
                .host()
                .trim_start_matches('[')
                .trim_end_matches(']')
                .to_string(),
            port: authority.port_u16().unwrap_or(port),
            path: uri.path().to_string(),
        })
    }

    pub(super) fn host_header(&self) -> HeaderValue {
        HeaderValue::from_str(&self.authority).expect("an authority has visible characters only")
    }

    /// Returns a failure that names this endpoint.
    pub(super) fn unavailable(&self, what: impl fmt::Display) -> FetchError {
        FetchError::unavailable(format!("STS at {}: {what}", self.authority))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_a_scheme_a_host_a_port_and_a_path() {
        for (text, encrypted, host, port, path) in [
            (
                "https://sts.us-east-1.amazonaws.com",
                true,
                "sts.us-east-1.amazonaws.com",
                443,
                "/",
            ),
            ("http://127.0.0.1:9000/", false, "127.0.0.1", 9000, "/"),
            ("https://[fd00::1]:8443/sts", true, "fd00::1", 8443, "/sts"),
            ("http://minio", false, "minio", 80, "/"),
        ] {
            let Endpoint {
                encrypted: tls,
                host: name,
                port: number,
                path: at,
                ..
            } = Endpoint::read(text).unwrap();
            assert_eq!(
                (tls, name.as_str(), number, at.as_str()),
                (encrypted, host, port, path),
                "{text}"
            );
        }
        for bad in [
            "",
            "sts.example.com",
            "ftp://sts.example.com",
            "/sts",
            "http://",
        ] {
            assert!(Endpoint::read(bad).is_err(), "{bad}");
        }
    }
}
