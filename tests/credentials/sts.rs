//! An STS that sends prepared bytes: the exact requests, and the responses that are failures.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use hyper::HeaderMap;
use hyper::header::{HeaderName, HeaderValue};
use imdsd::credentials::{
    FailureKind, FetchError, FetchedCredentials, Mint, WebIdentityRequest, sts,
};
use imdsd::instance::{AssumeRoleSource, CredentialSource, RoleDelivery, WebIdentitySource};
use imdsd::secret::Secret;
use imdsd::sigv4::{AccessKey, HttpRequest, Regions, Scope, verify};
use jiff::Timestamp;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::{ServerConfig, crypto::ring};

use super::support::{ACCESS_KEY, INSTANCE, PATIENCE};
use super::{ROLE_ARN, assume_role_source, session, web_identity_source, write_key};

const ASSUMED: &str = "<AssumeRoleResponse><AssumeRoleResult><Credentials><AccessKeyId>ASIA1</AccessKeyId>\
    <SecretAccessKey>hunter2</SecretAccessKey><SessionToken>hunter3</SessionToken>\
    <Expiration>2099-01-01T00:00:00Z</Expiration></Credentials></AssumeRoleResult></AssumeRoleResponse>";

fn ok(body: &str) -> String {
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/xml\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// Answers each connection with the bytes of `answer`, and returns the requests.
fn serve(answer: String) -> (SocketAddr, Receiver<StsRequest>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (send, requests) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            let Some(request) = StsRequest::read(&mut stream) else {
                continue;
            };
            let _ = stream.write_all(answer.as_bytes());
            let _ = stream.shutdown(Shutdown::Write);
            if send.send(request).is_err() {
                return;
            }
        }
    });
    (address, requests)
}

#[derive(Debug)]
struct StsRequest {
    line: String,
    headers: HeaderMap,
    body: String,
}

impl StsRequest {
    fn read(stream: &mut TcpStream) -> Option<StsRequest> {
        let mut raw = Vec::new();
        loop {
            let mut buffer = [0; 4096];
            let length = stream.read(&mut buffer).ok().filter(|length| *length > 0)?;
            raw.extend_from_slice(&buffer[..length]);
            let text = String::from_utf8(raw.clone()).ok()?;
            let Some((head, body)) = text.split_once("\r\n\r\n") else {
                continue;
            };
            let (line, fields) = head.split_once("\r\n").unwrap();
            let mut headers = HeaderMap::new();
            for (name, value) in fields
                .split("\r\n")
                .map(|field| field.split_once(": ").unwrap())
            {
                headers.append(
                    HeaderName::from_bytes(name.as_bytes()).unwrap(),
                    HeaderValue::from_str(value).unwrap(),
                );
            }
            if body.len().to_string() == headers["content-length"].to_str().unwrap() {
                return Some(StsRequest {
                    line: line.to_string(),
                    headers,
                    body: body.to_string(),
                });
            }
        }
    }
}

async fn assume(
    source: &AssumeRoleSource,
    delivery: RoleDelivery,
) -> Result<FetchedCredentials, FetchError> {
    let session = session(CredentialSource::AssumeRole(source.clone()), delivery);
    sts::assume_role(source, &session, Timestamp::now()).await
}

async fn assume_with_token(
    source: &WebIdentitySource,
    mint: Arc<Mint>,
) -> Result<FetchedCredentials, FetchError> {
    let session = session(
        CredentialSource::AssumeRoleWithWebIdentity(source.clone()),
        RoleDelivery::V1,
    );
    sts::assume_role_with_web_identity(source, &session, &mint).await
}

#[tokio::test]
async fn assume_role_is_signed_and_contains_the_instance_and_the_delivery() {
    let directory = tempfile::tempdir().unwrap();
    let role_arn = "arn%3Aaws%3Aiam%3A%3A123456789012%3Arole%2Fbackup";
    for (token, path, external_id) in [
        (None, "/", None),
        (Some("host+token=="), "/sts/v1", Some("a=b")),
    ] {
        let key_file = directory.path().join(format!("{}.toml", token.is_some()));
        write_key(&key_file, token);
        let (address, requests) = serve(ok(ASSUMED));
        let mut source = assume_role_source(&format!("http://{address}{path}"), &key_file);
        source.external_id = external_id.map(str::to_string);
        for delivery in [RoleDelivery::V1, RoleDelivery::V2] {
            let fetched = assume(&source, delivery).await.unwrap();
            assert_eq!(
                (
                    fetched.access_key_id.as_str(),
                    fetched.secret_access_key.expose()
                ),
                ("ASIA1", "hunter2")
            );
            let request = requests.recv_timeout(PATIENCE).unwrap();
            let tail = if external_id.is_some() {
                "&ExternalId=a%3Db"
            } else {
                ""
            };
            let body = format!(
                "Action=AssumeRole&Version=2011-06-15&RoleArn={role_arn}&RoleSessionName={INSTANCE}&DurationSeconds=900\
                 &Tags.member.1.Key=RoleDelivery&Tags.member.1.Value={}{tail}",
                delivery.as_str()
            );
            assert_eq!(
                (request.line, request.body.as_str()),
                (format!("POST {path} HTTP/1.1"), body.as_str())
            );
            assert_eq!(request.headers["host"], address.to_string());

            // The verifier of the control endpoint accepts the signature.
            let key = AccessKey {
                access_key_id: ACCESS_KEY.0.to_string(),
                secret_access_key: Secret::new(ACCESS_KEY.1),
                session_token: token.map(Secret::new),
            };
            let (headers, body) = (&request.headers, request.body.as_bytes());
            let request = HttpRequest {
                method: "POST",
                path,
                query: "",
                headers,
                body,
            };
            let regions = Regions::These(vec!["eu-west-1".to_string()]);
            let scope = Scope {
                regions: &regions,
                services: &["sts"],
            };
            verify(
                &request,
                |id| (id == ACCESS_KEY.0).then_some(&key),
                &scope,
                Timestamp::now(),
            )
            .unwrap();
        }
    }
}

#[tokio::test]
async fn a_web_identity_is_sent_unsigned() {
    let (address, requests) = serve(ok(
        &ASSUMED.replace("AssumeRole", "AssumeRoleWithWebIdentity")
    ));
    let (send, minted) = channel::<WebIdentityRequest>();
    let mint: Arc<Mint> = Arc::new(move |request| {
        send.send(request.clone()).unwrap();
        "head.claims+/=.signature".to_string()
    });
    let source = web_identity_source(&format!("http://{address}"));
    assert_eq!(
        assume_with_token(&source, mint)
            .await
            .unwrap()
            .session_token
            .expose(),
        "hunter3"
    );

    let request = requests.recv_timeout(PATIENCE).unwrap();
    assert!(
        !request.headers.contains_key("authorization")
            && !request.headers.contains_key("x-amz-date")
    );
    assert_eq!(
        request.headers["content-type"],
        "application/x-www-form-urlencoded"
    );
    assert_eq!(
        request.body,
        format!(
            "Action=AssumeRoleWithWebIdentity&Version=2011-06-15&RoleArn=arn%3Aaws%3Aiam%3A%3A123456789012%3Arole%2Fbackup\
             &RoleSessionName={INSTANCE}&DurationSeconds=900&WebIdentityToken=head.claims%2B%2F%3D.signature"
        )
    );
    let minted = minted.try_recv().unwrap();
    let expected = (
        "sts.amazonaws.com",
        ROLE_ARN,
        "backup",
        "123456789012",
        RoleDelivery::V1,
    );
    let WebIdentityRequest {
        instance,
        account,
        role_name,
        role_arn,
        audience,
        delivery,
    } = &minted;
    assert_eq!(
        (
            audience.as_str(),
            role_arn.as_str(),
            role_name.as_str(),
            account.as_str(),
            *delivery
        ),
        expected
    );
    assert_eq!(instance.as_str(), INSTANCE);
}

#[tokio::test]
async fn every_response_is_credentials_or_a_failure() {
    use FailureKind::{Refused, Unavailable};
    let chunked = format!(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{ASSUMED}\r\n0\r\n\r\n",
        ASSUMED.len()
    );
    let denied = "<ErrorResponse><Error><Code>AccessDenied</Code><Message>no: the.jwt</Message></Error></ErrorResponse>";
    let refused = |status: &str| {
        format!(
            "HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{denied}",
            denied.len()
        )
    };
    let large = ASSUMED.replace("hunter3", &"x".repeat(70_000));
    for (answer, expected) in [
        (ok(ASSUMED), Ok(())),
        (format!("HTTP/1.0 200 OK\r\n\r\n{ASSUMED}"), Ok(())),
        (
            format!("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{ASSUMED}"),
            Ok(()),
        ),
        (chunked, Ok(())),
        (
            refused("403 Forbidden"),
            Err((Refused, "AccessDenied: no: [redacted]")),
        ),
        (
            refused("500 Internal Server Error"),
            Err((Unavailable, "AccessDenied: no: [redacted]")),
        ),
        (ok(&large), Err((Unavailable, "length limit exceeded"))),
        (
            format!("HTTP/1.1 200 OK\r\n\r\n{large}"),
            Err((Unavailable, "length limit exceeded")),
        ),
        (
            format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(300_000)),
            Err((Unavailable, "too large")),
        ),
        (
            ok(ASSUMED).replace("Length: ", "Length: 9"),
            Err((Unavailable, "end of file")),
        ),
        (
            "HTTP/1.1 307 x\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n".into(),
            Err((Unavailable, "307")),
        ),
        (ok("<html>"), Err((Unavailable, "not XML of STS"))),
        (
            ok("\u{0}\u{1}"),
            Err((Unavailable, "the credentials are incomplete")),
        ),
        (
            "SSH-2.0-OpenSSH_9.2\r\n".to_string(),
            Err((Unavailable, "invalid HTTP")),
        ),
        (String::new(), Err((Unavailable, "connection closed"))),
    ] {
        let (address, _requests) = serve(answer.clone());
        let source = web_identity_source(&format!("http://{address}"));
        let outcome = assume_with_token(
            &source,
            Arc::new(|_: &WebIdentityRequest| "the.jwt".to_string()),
        )
        .await;
        let head: String = answer.chars().take(80).collect();
        match (outcome, expected) {
            (Ok(fetched), Ok(())) => assert_eq!(fetched.access_key_id, "ASIA1"),
            (Err(error), Err((kind, what))) => {
                let message = error.to_string();
                assert!(
                    error.kind == kind && message.contains(what) && !message.contains("the.jwt"),
                    "{head}: {error:?}"
                );
            }
            (outcome, expected) => panic!("{head}: {outcome:?} instead of {expected:?}"),
        }
    }
    let closed_port = web_identity_source("http://127.0.0.1:1");
    let error = assume_with_token(
        &closed_port,
        Arc::new(|_: &WebIdentityRequest| "the.jwt".to_string()),
    )
    .await
    .unwrap_err();
    assert!(
        error.kind == Unavailable && error.to_string().contains("refused"),
        "{error}"
    );
    let error = assume_with_token(
        &closed_port,
        Arc::new(|_: &WebIdentityRequest| String::new()),
    )
    .await
    .unwrap_err();
    assert_eq!(
        (error.kind, error.to_string().as_str()),
        (Unavailable, "cannot mint a web identity token")
    );
}

#[tokio::test]
async fn a_call_to_an_endpoint_that_never_answers_ends() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let source = web_identity_source(&format!("http://{}", listener.local_addr().unwrap()));
    let began = Instant::now();
    let error = assume_with_token(
        &source,
        Arc::new(|_: &WebIdentityRequest| "the.jwt".to_string()),
    )
    .await
    .unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "STS at {}: no answer within 10 s",
            listener.local_addr().unwrap()
        )
    );
    assert!(began.elapsed() < Duration::from_secs(15));
}

fn openssl(directory: &Path, arguments: &str) {
    let output = Command::new("openssl")
        .args(arguments.split_whitespace())
        .current_dir(directory)
        .output()
        .expect("this test needs openssl in PATH");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[tokio::test]
#[ignore = "needs openssl; tests/all runs it"]
async fn a_tls_endpoint_must_have_a_trusted_certificate_for_its_name() {
    // 1. Two authorities, and a certificate that the first one signed.
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
    for ca in ["ours", "theirs"] {
        openssl(
            directory.path(),
            &format!("req -x509 {key} -keyout {ca}.key -out {ca}.pem -days 2 -subj /CN={ca}"),
        );
    }
    openssl(
        directory.path(),
        &format!("req {key} -keyout leaf.key -out leaf.csr -subj /CN=leaf"),
    );
    std::fs::write(path("leaf.ext"), "subjectAltName=IP:127.0.0.1\n").unwrap();
    openssl(
        directory.path(),
        "x509 -req -in leaf.csr -CA ours.pem -CAkey ours.key -CAcreateserial -out leaf.pem -days 1 -extfile leaf.ext",
    );

    // 2. An STS with that certificate.
    let chain = CertificateDer::pem_file_iter(path("leaf.pem"))
        .unwrap()
        .map(Result::unwrap)
        .collect();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            chain,
            PrivateKeyDer::from_pem_file(path("leaf.key")).unwrap(),
        )
        .unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let serving = tokio::spawn(async move {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let acceptor = TlsAcceptor::from(Arc::new(config));
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let Ok(mut stream) = acceptor.accept(stream).await else {
                continue;
            };
            let _ = stream.read(&mut [0; 4096]).await;
            let _ = stream.write_all(ok(ASSUMED).as_bytes()).await;
            let _ = stream.shutdown().await;
        }
    });

    // 3. It is accepted only with that authority and under that name.
    std::fs::write(path("empty.pem"), "").unwrap();
    for (url, ca_file, expected) in [
        (
            format!("https://127.0.0.1:{port}"),
            Some("ours.pem"),
            Ok(()),
        ),
        (
            format!("https://127.0.0.1:{port}"),
            Some("theirs.pem"),
            Err("invalid peer certificate"),
        ),
        (
            format!("https://127.0.0.1:{port}"),
            None,
            Err("invalid peer certificate"),
        ),
        (
            format!("https://localhost:{port}"),
            Some("ours.pem"),
            Err("invalid peer certificate"),
        ),
        (
            format!("https://127.0.0.1:{port}"),
            Some("empty.pem"),
            Err("it contains no certificate"),
        ),
        (
            format!("https://127.0.0.1:{port}"),
            Some("absent.pem"),
            Err("No such file"),
        ),
        (
            format!("http://127.0.0.1:{port}"),
            None,
            Err("STS at 127.0.0.1"),
        ),
    ] {
        let source = WebIdentitySource {
            ca_file: ca_file.map(path),
            ..web_identity_source(&url)
        };
        let outcome = assume_with_token(
            &source,
            Arc::new(|_: &WebIdentityRequest| "the.jwt".to_string()),
        )
        .await;
        match (outcome, expected) {
            (Ok(_), Ok(())) => {}
            (Err(error), Err(what)) => assert!(
                error.to_string().contains(what),
                "{url} {ca_file:?}: {error}"
            ),
            (outcome, expected) => {
                panic!("{url} {ca_file:?}: {outcome:?} instead of {expected:?}")
            }
        }
    }
    serving.abort();
}

/// hyper skips interim responses (1xx). A flood of them must not keep the daemon busy.
#[tokio::test]
async fn endless_interim_responses_are_a_failure() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        // A response before the request would be refused for another reason.
        stream.read_exact(&mut [0; 16]).unwrap();
        let interim = b"HTTP/1.1 100 Continue\r\n\r\n".repeat(100);
        let mut sent = 0;
        // Until the client closes the connection, and not forever.
        while sent < 64 << 20 && stream.write_all(&interim).is_ok() {
            sent += interim.len();
        }
        sent
    });
    let directory = tempfile::tempdir().unwrap();
    let key_file = directory.path().join("key.toml");
    write_key(&key_file, None);
    let source = assume_role_source(&format!("http://{address}"), &key_file);
    let failed = assume(&source, RoleDelivery::V2).await.unwrap_err();
    assert_eq!(failed.kind, FailureKind::Unavailable, "{failed}");
    assert!(server.join().unwrap() < 64 << 20);
}
