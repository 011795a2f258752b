//! STS: one form POST and a small XML answer, so that AWS, MinIO, Ceph RGW, LocalStack and moto can all be asked.
//!
//! AssumeRole is signed with an access key of the host's. AssumeRoleWithWebIdentity is not signed: it carries a short-lived
//! token that imdsd mints for the instance, so no long-lived secret lies on the host. Either way the session is named after
//! the instance.
//!
//! One connection for each call, HTTP/1.1, TLS by the scheme of the endpoint. Redirects are not followed, proxies not
//! asked. Keys and certificates are read anew for each call, so a file that is replaced counts from the next one on.

use std::error::Error;
use std::fmt;
use std::path::Path;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::header::{CONTENT_TYPE, HOST, HeaderMap, HeaderValue, USER_AGENT};
use hyper::{Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use quick_xml::Reader;
use quick_xml::escape::resolve_predefined_entity;
use quick_xml::events::Event;
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto::ring};
use toml_edit::Document;

use super::{FetchError, Fetched, RoleSession, printable};
use crate::instance::{AssumeRoleSource, InstanceId, RoleDelivery, WebIdentitySource};
use crate::plain_file::{self, PlainFile, Symlinks};
use crate::secret::Secret;
use crate::sigv4::AccessKey;
use crate::sigv4::sign::{Post, sign};

/// How long a connection may take, the handshake of TLS included.
const CONNECT: Duration = Duration::from_secs(5);
/// How long a call may take altogether.
const CALL: Duration = Duration::from_secs(10);
/// The largest answer, in bytes.
const MAX_ANSWER_BYTES: usize = 64 * 1024;
/// How long credentials are asked to last unless the source says otherwise, in seconds. STS has the same default.
const DURATION: u32 = 3600;
/// Whom a web identity is for unless the source says otherwise. AWS's own default.
const AUDIENCE: &str = "sts.amazonaws.com";

const FORM: &str = "application/x-www-form-urlencoded";

/// What a web identity is minted for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebIdentityRequest {
    /// Whose identity.
    pub instance: InstanceId,
    /// The instance's account.
    pub account: String,
    /// The role's name.
    pub role_name: String,
    /// The role that will be assumed with it.
    pub role_arn: String,
    /// `aud`
    pub audience: String,
    /// Which of the role's two sessions: the token says it, as the session tag `RoleDelivery` or in a claim of its own.
    pub delivery: RoleDelivery,
}

/// Mints a web identity: a signed JWT with a short life; empty when that fails.
pub type Mint = dyn Fn(&WebIdentityRequest) -> String + Send + Sync;

/// AssumeRole, with the delivery as the session tag `RoleDelivery`.
pub async fn assume_role(
    source: &AssumeRoleSource,
    session: &RoleSession,
    now: Timestamp,
) -> Result<Fetched, FetchError> {
    let endpoint = Endpoint::read(&source.endpoint)?;
    let (key_file, ca_file, encrypted) = (
        source.access_key_file.clone(),
        source.ca_file.clone(),
        endpoint.encrypted,
    );
    let (key, tls) =
        off_the_runtime(move || Ok((read_key(&key_file)?, tls(encrypted, ca_file.as_deref())?)))
            .await?;

    let duration = source.duration_seconds.unwrap_or(DURATION).to_string();
    let mut form = Form::of("AssumeRole");
    form.add("RoleArn", &source.role_arn);
    form.add("RoleSessionName", session.instance.as_str());
    form.add("DurationSeconds", &duration);
    form.add("Tags.member.1.Key", "RoleDelivery");
    form.add("Tags.member.1.Value", session.delivery.as_str());
    if let Some(id) = &source.external_id {
        form.add("ExternalId", id);
    }
    let post = Post {
        host: &endpoint.authority,
        path: &endpoint.path,
        content_type: FORM,
        body: form.0.as_bytes(),
    };
    let headers = sign(&post, &key, &source.region, "sts", now).map_err(|_| {
        FetchError::unavailable("the access key or the region has characters that can't be signed")
    })?;

    let mut secrets = vec![key.secret_access_key.expose()];
    secrets.extend(key.session_token.as_ref().map(Secret::expose));
    let answer = endpoint
        .post(tls, headers, form)
        .await
        .map_err(|what| endpoint.unavailable(what))?;
    endpoint.credentials_in(answer, &secrets)
}

/// AssumeRoleWithWebIdentity; what the token says of the delivery is its minter's affair.
pub async fn assume_role_with_web_identity(
    source: &WebIdentitySource,
    session: &RoleSession,
    mint: &Arc<Mint>,
) -> Result<Fetched, FetchError> {
    let endpoint = Endpoint::read(&source.endpoint)?;
    let request = WebIdentityRequest {
        instance: session.instance.clone(),
        account: session.account.clone(),
        role_name: session.role_name.clone(),
        role_arn: source.role_arn.clone(),
        audience: source
            .audience
            .clone()
            .unwrap_or_else(|| AUDIENCE.to_string()),
        delivery: session.delivery,
    };
    let (mint, ca_file, encrypted) = (Arc::clone(mint), source.ca_file.clone(), endpoint.encrypted);
    let (token, tls) =
        off_the_runtime(move || Ok((mint(&request), tls(encrypted, ca_file.as_deref())?))).await?;
    if token.is_empty() {
        return Err(FetchError::unavailable("no web identity could be minted"));
    }

    let duration = source.duration_seconds.unwrap_or(DURATION).to_string();
    let mut form = Form::of("AssumeRoleWithWebIdentity");
    form.add("RoleArn", &source.role_arn);
    form.add("RoleSessionName", session.instance.as_str());
    form.add("DurationSeconds", &duration);
    form.add("WebIdentityToken", &token);
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(FORM));
    headers.insert(HOST, endpoint.host_header());

    let answer = endpoint
        .post(tls, headers, form)
        .await
        .map_err(|what| endpoint.unavailable(what))?;
    endpoint.credentials_in(answer, &[&token])
}

/// Files and RSA take their time; the guests' requests must not wait for them.
async fn off_the_runtime<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, FetchError> + Send + 'static,
) -> Result<T, FetchError> {
    let failed = |_| FetchError::unavailable("the call could not be prepared");
    let late = |_| {
        FetchError::unavailable(format!(
            "a key or CA file was not read within {} s",
            CALL.as_secs()
        ))
    };
    timeout(CALL, tokio::task::spawn_blocking(work))
        .await
        .map_err(late)?
        .map_err(failed)?
}

/// A body of `name=value` pairs.
struct Form(String);

impl Form {
    fn of(action: &str) -> Form {
        Form(format!("Action={action}&Version=2011-06-15"))
    }

    fn add(&mut self, name: &str, value: &str) {
        self.0 += &format!("&{name}=");
        for byte in value.bytes() {
            match byte {
                b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                    self.0.push(byte.into())
                }
                _ => self.0 += &format!("%{byte:02X}"),
            }
        }
    }
}

/// Where an STS listens.
struct Endpoint {
    encrypted: bool,
    /// `Host` as it is sent.
    authority: String,
    /// A name or an address, without brackets.
    host: String,
    port: u16,
    path: String,
}

impl Endpoint {
    fn read(text: &str) -> Result<Endpoint, FetchError> {
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

    fn host_header(&self) -> HeaderValue {
        HeaderValue::from_str(&self.authority).expect("an authority has visible characters only")
    }

    fn unavailable(&self, what: impl fmt::Display) -> FetchError {
        FetchError::unavailable(format!("STS at {}: {what}", self.authority))
    }

    /// Sends the form, and reads the whole answer.
    async fn post(
        &self,
        tls: Option<Arc<ClientConfig>>,
        headers: HeaderMap,
        form: Form,
    ) -> Result<(StatusCode, Bytes), String> {
        let call = async {
            let connected = async {
                let tcp = TcpStream::connect((self.host.as_str(), self.port))
                    .await
                    .map_err(|e| e.to_string())?;
                let Some(config) = tls else {
                    return Ok(Stream::Plain(tcp));
                };
                let name = ServerName::try_from(self.host.clone()).map_err(|e| e.to_string())?;
                let stream = TlsConnector::from(config)
                    .connect(name, tcp)
                    .await
                    .map_err(|e| e.to_string())?;
                Ok(Stream::Encrypted(Box::new(stream)))
            };
            let connected: Result<Stream, String> = timeout(CONNECT, connected)
                .await
                .unwrap_or_else(|_| Err(format!("no connection within {} s", CONNECT.as_secs())));
            match connected? {
                Stream::Plain(stream) => exchange(stream, &self.path, headers, form).await,
                Stream::Encrypted(stream) => exchange(*stream, &self.path, headers, form).await,
            }
        };
        timeout(CALL, call)
            .await
            .unwrap_or_else(|_| Err(format!("no answer within {} s", CALL.as_secs())))
    }

    /// The credentials in an answer, or why there are none. Of `secrets`, which were sent, none is repeated.
    fn credentials_in(
        &self,
        answer: (StatusCode, Bytes),
        secrets: &[&str],
    ) -> Result<Fetched, FetchError> {
        let (status, body) = answer;
        let answer = Answer::read(&body);
        if status == StatusCode::OK {
            return answer
                .and_then(Answer::credentials)
                .map_err(|what| self.unavailable(what));
        }
        let (code, message) = match answer {
            Ok(Answer {
                code: Some(code),
                message,
                ..
            }) => (code, message.unwrap_or_default()),
            _ => {
                return Err(self.unavailable(format_args!(
                    "{status}, without an error that STS would give"
                )));
            }
        };
        let text = format!("{code}: {message}");
        let text = secrets
            .iter()
            .filter(|secret| !secret.is_empty())
            .fold(text, |text, s| text.replace(s, "[redacted]"));
        let reason = format!("STS at {}: {}", self.authority, printable(&text));
        match status.is_client_error() && !may_pass(status, &code) {
            true => Err(FetchError::refused(reason)),
            false => Err(FetchError::unavailable(reason)),
        }
    }
}

/// Whether an error of the caller's kind is not the caller's fault.
fn may_pass(status: StatusCode, code: &str) -> bool {
    matches!(
        status,
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS
    ) || matches!(
        code,
        "Throttling" | "ThrottlingException" | "RequestLimitExceeded" | "SlowDown"
    ) || matches!(
        code,
        "IDPCommunicationError" | "RequestTimeout" | "RequestTimeTooSkewed" | "RequestExpired"
    )
}

enum Stream {
    Plain(TcpStream),
    Encrypted(Box<tokio_rustls::client::TlsStream<TcpStream>>),
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    path: &str,
    headers: HeaderMap,
    form: Form,
) -> Result<(StatusCode, Bytes), String> {
    let client = hyper::client::conn::http1::Builder::new()
        .max_buf_size(MAX_ANSWER_BYTES)
        .handshake(TokioIo::new(Bounded::new(stream)));
    let (mut sender, connection) = client.await.map_err(|error| causes(&error))?;
    let mut request = Request::post(path)
        .body(Full::new(Bytes::from(form.0)))
        .map_err(|error| causes(&error))?;
    *request.headers_mut() = headers;
    request
        .headers_mut()
        .insert(USER_AGENT, HeaderValue::from_static("imdsd"));
    let answer = async {
        let response = sender
            .send_request(request)
            .await
            .map_err(|error| causes(&error))?;
        let (head, body) = response.into_parts();
        let body = Limited::new(body, MAX_ANSWER_BYTES)
            .collect()
            .await
            .map_err(|error| causes(&*error))?;
        Ok((head.status, body.to_bytes()))
    };
    // The connection moves the bytes of the answer, and may end before the last of them is taken.
    let mut answer = pin!(answer);
    tokio::select! {
        answer = &mut answer => answer,
        _ = connection => answer.await,
    }
}

/// Ends a stream after so many inbound bytes. hyper passes over interim answers without counting them, and an endpoint that
/// sends nothing else would keep the whole daemon busy.
struct Bounded<S> {
    stream: S,
    left: usize,
}

impl<S> Bounded<S> {
    fn new(stream: S) -> Bounded<S> {
        Bounded {
            stream,
            left: 2 * MAX_ANSWER_BYTES,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Bounded<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        if self.left == 0 {
            return Poll::Ready(Err(std::io::Error::other("the answer is too long")));
        }
        let before = buf.filled().len();
        let outcome = Pin::new(&mut self.stream).poll_read(cx, buf);
        self.left = self.left.saturating_sub(buf.filled().len() - before);
        outcome
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Bounded<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

fn causes(error: &dyn Error) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

/// What STS says, of all that it says.
#[derive(Default)]
struct Answer {
    access_key_id: Option<String>,
    secret_access_key: Option<String>,
    session_token: Option<String>,
    expiration: Option<String>,
    code: Option<String>,
    message: Option<String>,
}

impl Answer {
    /// Reads by local names, as namespaces differ between servers, or are missing.
    fn read(xml: &[u8]) -> Result<Answer, &'static str> {
        let malformed = "the answer is not the XML of STS";
        let mut reader = Reader::from_str(str::from_utf8(xml).map_err(|_| malformed)?);
        let mut answer = Answer::default();
        let (mut path, mut text) = (Vec::<String>::new(), String::new());
        loop {
            match reader.read_event().map_err(|_| malformed)? {
                Event::Start(element) => {
                    path.push(element.local_name().into_inner().to_string());
                    text.clear();
                }
                Event::Text(part) => text += &part.xml10_content(),
                Event::CData(part) => text += &part.xml10_content(),
                Event::GeneralRef(entity) => {
                    match entity.resolve_char_ref().map_err(|_| malformed)? {
                        Some(character) => text.push(character),
                        None => text += resolve_predefined_entity(&entity).ok_or(malformed)?,
                    }
                }
                Event::End(_) => {
                    if let Some(place) = answer.place(&path) {
                        *place = Some(std::mem::take(&mut text).trim().to_string());
                    }
                    text.clear();
                    path.pop();
                }
                Event::Eof if path.is_empty() => return Ok(answer),
                Event::Eof => return Err(malformed),
                Event::Empty(_)
                | Event::Comment(_)
                | Event::Decl(_)
                | Event::PI(_)
                | Event::DocType(_) => {}
            }
        }
    }

    fn place(&mut self, path: &[String]) -> Option<&mut Option<String>> {
        let [.., parent, name] = path else {
            return None;
        };
        Some(match (parent.as_str(), name.as_str()) {
            ("Credentials", "AccessKeyId") => &mut self.access_key_id,
            ("Credentials", "SecretAccessKey") => &mut self.secret_access_key,
            ("Credentials", "SessionToken") => &mut self.session_token,
            ("Credentials", "Expiration") => &mut self.expiration,
            ("Error", "Code") => &mut self.code,
            ("Error", "Message") => &mut self.message,
            _ => return None,
        })
    }

    fn credentials(self) -> Result<Fetched, &'static str> {
        let needed = |field: Option<String>| {
            field
                .filter(|text| !text.is_empty())
                .ok_or("the credentials are not whole")
        };
        let expiration = needed(self.expiration)?;
        Ok(Fetched {
            access_key_id: needed(self.access_key_id)?,
            secret_access_key: Secret::new(needed(self.secret_access_key)?),
            session_token: Secret::new(needed(self.session_token)?),
            expiration: Some(
                super::end(&expiration).ok_or("the credentials' Expiration is no time")?,
            ),
        })
    }
}

/// How a TLS endpoint is believed: by the authorities in `ca_file`, or by the system's.
fn tls(encrypted: bool, ca_file: Option<&Path>) -> Result<Option<Arc<ClientConfig>>, FetchError> {
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
                return Err(wrong(&"there is no certificate in it"));
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

/// The one access key in a file of the form that the control endpoint's keys have.
fn read_key(path: &Path) -> Result<AccessKey, FetchError> {
    let wrong =
        |what: &dyn fmt::Display| FetchError::unavailable(format!("{}: {what}", path.display()));
    let file = PlainFile::open(path, Symlinks::Follow).map_err(|error| wrong(&error))?;
    let mode = file.mode();
    let bytes = file
        .read_bytes(plain_file::MAX_BYTES)
        .map_err(|error| wrong(&error))?;
    let text = String::from_utf8(bytes).map_err(|_| wrong(&"it is not UTF-8"))?;
    if mode & 0o077 != 0 {
        return Err(wrong(&format_args!(
            "others can read this secret (mode {mode:03o})"
        )));
    }
    // Not the error's own text: it would quote the line, and with it a secret.
    let document = Document::parse(text.as_str()).map_err(|error| wrong(&error.message()))?;
    let tables = document
        .get("access_key")
        .and_then(|item| item.as_array_of_tables());
    let Some(table) = tables
        .filter(|tables| tables.len() == 1)
        .and_then(|tables| tables.get(0))
    else {
        return Err(wrong(&"there must be exactly one [[access_key]] in it"));
    };
    let field = |name: &str| {
        table
            .get(name)
            .and_then(|item| item.as_str())
            .filter(|text| !text.is_empty())
    };
    match (field("access_key_id"), field("secret_access_key")) {
        (Some(id), Some(secret)) => Ok(AccessKey {
            access_key_id: id.to_string(),
            secret_access_key: Secret::new(secret),
            session_token: field("session_token").map(Secret::new),
        }),
        _ => Err(wrong(
            &"[[access_key]] needs access_key_id and secret_access_key",
        )),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::super::FailureKind;
    use super::*;

    /// AWS's own example of an answer, shortened. MinIO's and Ceph's differ in the namespace and what stands beside.
    const ASSUMED: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
        <AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult>
        <AssumedRoleUser><Arn>arn:aws:sts::123456789012:assumed-role/demo/TestAR</Arn></AssumedRoleUser>
        <Credentials><AccessKeyId>ASIAIOSFODNN7EXAMPLE</AccessKeyId>
        <SecretAccessKey>wJalrXUtnFEMI/K7MDENG/bPxRfiCYzEXAMPLEKEY</SecretAccessKey>
        <SessionToken>
          AQoDYXdzEPT//////////wEXAMPLE==
        </SessionToken>
        <Expiration>2019-11-09T13:34:41Z</Expiration></Credentials>
        <PackedPolicySize>6</PackedPolicySize></AssumeRoleResult></AssumeRoleResponse>"#;

    fn endpoint() -> Endpoint {
        Endpoint::read("https://sts.example.com").unwrap()
    }

    fn answered(status: u16, body: &str, secrets: &[&str]) -> Result<Fetched, FetchError> {
        let answer = (
            StatusCode::from_u16(status).unwrap(),
            Bytes::from(body.to_string()),
        );
        endpoint().credentials_in(answer, secrets)
    }

    #[test]
    fn credentials_are_read_whatever_the_namespaces_are() {
        let bare = ASSUMED.replace(r#" xmlns="https://sts.amazonaws.com/doc/2011-06-15/""#, "");
        let prefixed = ASSUMED
            .replace("<Cred", "<s:Cred")
            .replace("</Cred", "</s:Cred")
            .replace("<Access", "<s:Access");
        let prefixed = prefixed
            .replace("</Access", "</s:Access")
            .replace("xmlns=", "xmlns:s=");
        let web = ASSUMED.replace("AssumeRoleRes", "AssumeRoleWithWebIdentityRes");
        let escaped = ASSUMED
            .replace("wEXAMPLE", "w&#69;XAMPLE")
            .replace("ASIAI", "<![CDATA[ASIA]]>I");
        for text in [ASSUMED, &bare, &prefixed, &web, &escaped] {
            let fetched = answered(200, text, &[]).unwrap();
            assert_eq!(fetched.access_key_id, "ASIAIOSFODNN7EXAMPLE");
            assert_eq!(
                fetched.secret_access_key.expose(),
                "wJalrXUtnFEMI/K7MDENG/bPxRfiCYzEXAMPLEKEY"
            );
            assert_eq!(
                fetched.session_token.expose(),
                "AQoDYXdzEPT//////////wEXAMPLE=="
            );
            assert_eq!(
                fetched.expiration,
                Some("2019-11-09T13:34:41Z".parse().unwrap())
            );
        }
    }

    #[test]
    fn an_error_of_the_callers_is_a_refusal_and_any_other_is_not() {
        let error = |code: &str| {
            format!(
                r#"<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error><Type>Sender</Type>
                <Code>{code}</Code><Message>it &quot;is&quot; so</Message></Error><RequestId>1</RequestId></ErrorResponse>"#
            )
        };
        use FailureKind::{Refused, Unavailable};
        let bare = "<Error><Code>AccessDenied</Code></Error>";
        for (status, body, kind, reason) in [
            (
                403,
                error("AccessDenied"),
                Refused,
                "STS at sts.example.com: AccessDenied: it \"is\" so",
            ),
            (
                400,
                error("ExpiredTokenException"),
                Refused,
                "ExpiredTokenException: it \"is\" so",
            ),
            (
                403,
                error("SignatureDoesNotMatch"),
                Refused,
                "SignatureDoesNotMatch",
            ),
            // Ceph's errors are those of S3.
            (403, bare.to_string(), Refused, "AccessDenied:"),
            (400, error("Throttling"), Unavailable, "Throttling"),
            (
                400,
                error("IDPCommunicationError"),
                Unavailable,
                "IDPCommunicationError",
            ),
            (429, error("Slow"), Unavailable, "Slow"),
            (
                500,
                error("InternalFailure"),
                Unavailable,
                "InternalFailure",
            ),
            (503, error("AccessDenied"), Unavailable, "AccessDenied"),
            (302, error("AccessDenied"), Unavailable, "AccessDenied"),
            (
                403,
                "<html>no</html>".to_string(),
                Unavailable,
                "without an error that STS would give",
            ),
            (
                404,
                String::new(),
                Unavailable,
                "without an error that STS would give",
            ),
            (
                200,
                error("AccessDenied"),
                Unavailable,
                "the credentials are not whole",
            ),
        ] {
            let refused = answered(status, &body, &[]).unwrap_err();
            assert!(
                refused.kind == kind && refused.to_string().contains(reason),
                "{status} {body}: {refused:?}"
            );
        }
        let echo =
            "<Error><Code>InvalidIdentityToken</Code><Message>bad: hunter2\nmore</Message></Error>";
        let told = answered(400, echo, &["", "hunter2"])
            .unwrap_err()
            .to_string();
        assert!(
            told.ends_with("InvalidIdentityToken: bad: [redacted] more"),
            "{told}"
        );
    }

    #[test]
    fn an_answer_that_is_not_whole_is_no_answer() {
        for (from, to) in [
            ("<AccessKeyId>ASIAIOSFODNN7EXAMPLE</AccessKeyId>", ""),
            (
                "<AccessKeyId>ASIAIOSFODNN7EXAMPLE</AccessKeyId>",
                "<AccessKeyId/>",
            ),
            (
                "<SecretAccessKey>",
                "<Other/><SecretAccessKey><x/>&unknown;",
            ),
            ("2019-11-09T13:34:41Z", "soon"),
            ("</AssumeRoleResponse>", ""),
            ("</Credentials>", "</Credential>"),
            ("Credentials>", "Credential>"),
            ("<Expiration>2019-11-09T13:34:41Z</Expiration>", ""),
        ] {
            let text = ASSUMED.replace(from, to);
            assert_ne!(text, ASSUMED);
            let refused = answered(200, &text, &[]).unwrap_err();
            assert!(!refused.to_string().contains("wJalr"), "{refused}");
        }
        for cut in 0..ASSUMED.len() {
            assert!(answered(200, &ASSUMED[..cut], &[]).is_err());
        }
    }

    #[test]
    fn an_endpoint_is_a_place_and_a_path() {
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
        let mut form = Form::of("A");
        form.add("T", "a b&c=d+e/ü~");
        assert_eq!(
            form.0,
            "Action=A&Version=2011-06-15&T=a%20b%26c%3Dd%2Be%2F%C3%BC~"
        );
    }

    #[test]
    fn the_access_key_is_one_in_a_private_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key.toml");
        let read = |text: &str, mode: u32| {
            let _ = fs::remove_file(&path);
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            read_key(&path).map_err(|error| error.to_string())
        };
        let one = "[[access_key]]\naccess_key_id = \"A\"\nsecret_access_key = \"hunter2\"\n";
        let key = read(one, 0o600).unwrap();
        assert_eq!(
            (key.access_key_id.as_str(), key.secret_access_key.expose()),
            ("A", "hunter2")
        );
        assert_eq!(key.session_token, None);
        assert_eq!(
            read(&format!("{one}session_token = \"t\""), 0o400)
                .unwrap()
                .session_token,
            Some(Secret::new("t"))
        );
        for (text, mode, what) in [
            (
                one.to_string(),
                0o640,
                "others can read this secret (mode 640)",
            ),
            (
                one.to_string(),
                0o604,
                "others can read this secret (mode 604)",
            ),
            (String::new(), 0o600, "exactly one"),
            (format!("{one}{one}"), 0o600, "exactly one"),
            ("access_key = 3".to_string(), 0o600, "exactly one"),
            (one.replace("hunter2", ""), 0o600, "needs"),
            (one.replace("\"A\"", "5"), 0o600, "needs"),
            (one.replace("hunter2\"", "hunter2"), 0o600, "key.toml: "),
        ] {
            let told = read(&text, mode).unwrap_err();
            assert!(
                told.contains(what) && !told.contains("hunter2"),
                "{text}: {told}"
            );
        }
        fs::remove_file(&path).unwrap();
        assert!(read_key(&path).is_err());
    }
}
