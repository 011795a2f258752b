//! Verification against Amazon's published suite, against requests that boto3 signed, and against a signer of our own
//! that shares no code with the verifier; then every way a request can be spoiled.

mod oracle;
mod recorded;
mod suite;

use hyper::HeaderMap;
use hyper::header::{HeaderName, HeaderValue};

use super::*;

/// A request on its way, for tests to spoil.
#[derive(Clone)]
pub(crate) struct Sent {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Sent {
    /// A form POST as SDKs make them, not signed yet.
    pub(crate) fn post(body: &str) -> Sent {
        Sent::read(&format!(
            "POST / HTTP/1.1\nHost:127.0.0.1:1339\nContent-Type:application/x-www-form-urlencoded\n\n{body}"
        ))
    }

    /// Reads a request in the suite's spelling.
    fn read(text: &str) -> Sent {
        let (head, body) = text.split_once("\n\n").unwrap_or((text, ""));
        let mut lines = head.lines();
        let line = lines.next().unwrap().trim_end_matches(" HTTP/1.1");
        let (method, target) = line.split_once(' ').unwrap();
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let header = |line: &str| {
            line.split_once(':')
                .map(|(name, value)| (name.to_lowercase(), value.to_string()))
        };
        Sent {
            method: method.to_string(),
            path: path.to_string(),
            query: query.to_string(),
            headers: lines.map(|line| header(line).unwrap()).collect(),
            body: body.as_bytes().to_vec(),
        }
    }

    pub(crate) fn header_map(&self) -> HeaderMap {
        let field = |(name, value): &(String, String)| {
            (
                HeaderName::from_bytes(name.as_bytes()).unwrap(),
                HeaderValue::from_str(value).unwrap(),
            )
        };
        let mut map = HeaderMap::new();
        for (name, value) in self.headers.iter().map(field) {
            map.append(name, value);
        }
        map
    }

    /// Changes the first field of that name, or adds it.
    pub(crate) fn set(&mut self, name: &str, value: &str) {
        match self.headers.iter_mut().find(|(known, _)| known == name) {
            Some(field) => field.1 = value.to_string(),
            None => self.headers.push((name.to_string(), value.to_string())),
        }
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        &self
            .headers
            .iter()
            .find(|(known, _)| known == name)
            .unwrap()
            .1
    }

    pub(crate) fn replace(&mut self, name: &str, from: &str, to: &str) {
        let value = self.header(name).replacen(from, to, 1);
        assert_ne!(value, self.header(name), "nothing to replace in {name}");
        self.set(name, &value);
    }
}

/// The signer: for requests whose path and query are canonical already. `scope` is `day/region/service/aws4_request`.
pub(crate) fn sign(sent: &mut Sent, id: &str, secret: &str, date: &str, scope: &str) {
    sent.set("x-amz-date", date);
    let mut lines: Vec<String> = sent
        .headers
        .iter()
        .map(|(name, value)| format!("{name}:{value}\n"))
        .collect();
    lines.sort();
    let names: Vec<&str> = lines
        .iter()
        .map(|line| line.split(':').next().unwrap())
        .collect();
    let list = names.join(";");
    let signature = signature_of(
        sent,
        &lines.concat(),
        &list,
        &sent.query,
        secret,
        date,
        scope,
    );
    sent.set(
        "authorization",
        &format!(
            "AWS4-HMAC-SHA256 Credential={id}/{scope}, SignedHeaders={list}, Signature={signature}"
        ),
    );
}

/// Signs in the query; only `host` is signed, and the query must have been empty.
fn presign(sent: &mut Sent, id: &str, secret: &str, date: &str, scope: &str, expires: &str) {
    let credential = format!("{id}/{scope}").replace('/', "%2F");
    sent.query = format!(
        "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={credential}&X-Amz-Date={date}&X-Amz-Expires={expires}\
         &X-Amz-SignedHeaders=host"
    );
    let host = format!("host:{}\n", sent.header("host"));
    let signature = signature_of(sent, &host, "host", &sent.query, secret, date, scope);
    sent.query += &format!("&X-Amz-Signature={signature}");
}

fn signature_of(
    sent: &Sent,
    headers: &str,
    list: &str,
    query: &str,
    secret: &str,
    date: &str,
    scope: &str,
) -> String {
    let hash = |bytes: &[u8]| {
        Sha256::digest(bytes)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>()
    };
    let mac = |key: &[u8], text: &str| {
        let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(key).unwrap();
        mac.update(text.as_bytes());
        <[u8; 32]>::from(mac.finalize().into_bytes())
    };
    let (method, path, body) = (&sent.method, &sent.path, hash(&sent.body));
    let canonical = format!("{method}\n{path}\n{query}\n{headers}\n{list}\n{body}");
    let to_sign = format!(
        "AWS4-HMAC-SHA256\n{date}\n{scope}\n{}",
        hash(canonical.as_bytes())
    );
    let part: Vec<&str> = scope.split('/').collect();
    let day = mac(format!("AWS4{secret}").as_bytes(), part[0]);
    let key = mac(&mac(&mac(&day, part[1]), part[2]), part[3]);
    mac(&key, &to_sign)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

const ID: &str = "AKIDIMDSDTEST0000001";
const SECRET: &str = "imdsd-test-secret-known-to-everyone";
const TOKEN: &str = "imdsd-test-session-token//with+signs==";
const DATE: &str = "20260501T120000Z";
const SCOPE: &str = "20260501/us-east-1/ec2/aws4_request";

fn key(id: &str, secret: &str, token: Option<&str>) -> AccessKey {
    AccessKey {
        access_key_id: id.to_string(),
        secret_access_key: Secret::new(secret),
        session_token: token.map(Secret::new),
    }
}

fn check(sent: &Sent, key: &AccessKey, scope: [&str; 2], now: &str) -> Result<Verified, AuthError> {
    let headers = sent.header_map();
    let request = HttpRequest {
        method: &sent.method,
        path: &sent.path,
        query: &sent.query,
        headers: &headers,
        body: &sent.body,
    };
    let lookup = |id: &str| (id == key.access_key_id).then_some(key);
    let regions = Regions::These(vec![scope[0].to_string()]);
    verify(
        &request,
        lookup,
        &Scope {
            regions: &regions,
            services: &[scope[1]],
        },
        now.parse().unwrap(),
    )
}

/// Checks a request for EC2 in us-east-1 half a minute after [`DATE`].
fn check_ours(sent: &Sent, token: Option<&str>) -> Result<Verified, AuthError> {
    check(
        sent,
        &key(ID, SECRET, token),
        ["us-east-1", "ec2"],
        "2026-05-01T12:00:30Z",
    )
}

fn signed() -> Sent {
    let mut sent = Sent::post("Action=DescribeInstances&Version=2016-11-15");
    sign(&mut sent, ID, SECRET, DATE, SCOPE);
    sent
}

fn presigned(expires: &str) -> Sent {
    let mut sent = Sent::read("GET / HTTP/1.1\nHost:127.0.0.1:1339");
    presign(&mut sent, ID, SECRET, DATE, SCOPE, expires);
    sent
}

/// All of Amazon's suite that is for services like ours, each request signed in its header and in its query.
#[test]
fn amazons_own_vectors_verify() {
    const CREDENTIAL: &str = "AKIDEXAMPLE/20150830/us-east-1/service/aws4_request";
    for vector in &suite::VECTORS {
        let key = key(
            "AKIDEXAMPLE",
            "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
            vector.session_token,
        );
        let verdict =
            |sent: &Sent| check(sent, &key, ["us-east-1", "service"], "2015-08-30T12:36:00Z");

        let (list, signature) = vector.in_header;
        let mut sent = Sent::read(vector.request);
        sent.set("x-amz-date", "20150830T123600Z");
        if let Some(token) = vector.session_token {
            sent.set("x-amz-security-token", token);
        }
        let authorization = format!(
            "AWS4-HMAC-SHA256 Credential={CREDENTIAL}, SignedHeaders={list}, Signature={signature}"
        );
        sent.set("authorization", &authorization);
        assert_eq!(
            verdict(&sent).map(|verified| verified.access_key_id),
            Ok("AKIDEXAMPLE".into()),
            "{}",
            vector.name
        );
        sent.replace("authorization", &signature[..8], "00000000");
        assert_eq!(
            verdict(&sent),
            Err(AuthError::Refused(Wrong::Signature)),
            "{}",
            vector.name
        );

        let (list, signature) = vector.in_query;
        let mut sent = Sent::read(vector.request);
        sent.headers
            .retain(|(name, _)| name != "x-amz-content-sha256");
        let escape = |text: &str| {
            ["/", "+", "=", ";"]
                .iter()
                .fold(text.to_string(), |text, c| {
                    text.replace(c, &format!("%{:02X}", c.as_bytes()[0]))
                })
        };
        let joint = if sent.query.is_empty() { "" } else { "&" };
        let token = vector.session_token.map_or_else(String::new, |token| {
            format!("&X-Amz-Security-Token={}", escape(token))
        });
        sent.query += &format!(
            "{joint}X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={}&X-Amz-Date=20150830T123600Z\
             &X-Amz-SignedHeaders={}&X-Amz-Expires=3600{token}&X-Amz-Signature={signature}",
            escape(CREDENTIAL),
            escape(list)
        );
        assert_eq!(
            verdict(&sent).map(|verified| verified.access_key_id),
            Ok("AKIDEXAMPLE".into()),
            "{}",
            vector.name
        );
        sent.query.truncate(sent.query.len() - 8);
        sent.query += "00000000";
        assert_eq!(
            verdict(&sent),
            Err(AuthError::Refused(Wrong::Signature)),
            "{}",
            vector.name
        );
    }
}

/// Signed by boto3 1.44.5: options; a session token; a UTF-8 filter; a path in the endpoint; presigned as GET;
/// presigned as POST with a session token.
#[test]
fn requests_that_boto3_signed_verify() {
    let token = TOKEN
        .replace('/', "%2F")
        .replace('+', "%2B")
        .replace('=', "%3D");
    let presigned_query = |expires: &str, rest: &str| {
        format!(
            "Action=DescribeInstances&Version=2016-11-15&InstanceId.1=i-0123456789abcdef0&Filter.1.Name=tag%3AName\
             &Filter.1.Value.1=a%20b%2F%C3%BC&X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={ID}%2F20260501\
             %2Fus-east-1%2Fec2%2Faws4_request&X-Amz-Date=20260501T120000Z&X-Amz-Expires={expires}\
             &X-Amz-SignedHeaders=host{rest}"
        )
    };
    let get = presigned_query(
        "300",
        "&X-Amz-Signature=b939af30cb7893d8ef080ddc6c3c681b2551dd3fb2d1adda22ab4d7ff18feef6",
    );
    let post = presigned_query(
        "604800",
        &format!(
            "&X-Amz-Security-Token={token}\
             &X-Amz-Signature=f757a72eae2740ac7a6d7f19e1f4f7a3ba241a404c6c9e42b2033d81728e0ea6"
        ),
    );
    for (target, host, signature, token, body) in [
        (
            "POST /",
            "127.0.0.1:1339",
            "b7687b32e78ac892875b1e795f3157f177f4e8520d6917b397c009fc9a294786",
            None,
            "Action=ModifyInstanceMetadataOptions&Version=2016-11-15&InstanceId=i-0123456789abcdef0&HttpTokens=required\
             &HttpPutResponseHopLimit=2&HttpEndpoint=enabled",
        ),
        (
            "POST /",
            "127.0.0.1:1339",
            "2c813eca43621501afc069d145e40900e81057a9a469d3cf619427375a8e2ce5",
            Some(TOKEN),
            "Action=DescribeInstances&Version=2016-11-15&InstanceId.1=i-0123456789abcdef0&InstanceId.2=i-12345678",
        ),
        (
            "POST /",
            "127.0.0.1:1339",
            "e9e81c51d2b01881c3f758cf1fcb010d44cea5da1e57d2468aa1d11617f58e7f",
            None,
            "Action=DescribeInstances&Version=2016-11-15&Filter.1.Name=tag%3AName\
             &Filter.1.Value.1=Gr%C3%BC%C3%9Fe+aus+K%C3%B6ln%2F%C3%9F+%2A&Filter.1.Value.2=~%E1%88%B4",
        ),
        (
            "POST /ec2/v1",
            "imds.example:8080",
            "9f7a2b34f40804d6fe352af1775fb54a5504961a637ac41a7c0bbdfb7b577cf5",
            None,
            "Action=DescribeInstances&Version=2016-11-15&DryRun=false",
        ),
        (&format!("GET /?{get}"), "127.0.0.1:1339", "", None, ""),
        (
            &format!("POST /?{post}"),
            "127.0.0.1:1339",
            "",
            Some(TOKEN),
            "",
        ),
    ] {
        let mut sent = Sent::read(&format!("{target} HTTP/1.1\nHost:{host}\n\n{body}"));
        if !signature.is_empty() {
            sent.set(
                "content-type",
                "application/x-www-form-urlencoded; charset=utf-8",
            );
            sent.set("x-amz-date", DATE);
            sent.set("amz-sdk-request", "attempt=1; max=3");
            let mut list = "content-type;host;x-amz-date".to_string();
            if let Some(token) = token {
                sent.set("x-amz-security-token", token);
                list += ";x-amz-security-token";
            }
            let authorization = format!(
                "AWS4-HMAC-SHA256 Credential={ID}/{SCOPE}, SignedHeaders={list}, Signature={signature}"
            );
            sent.set("authorization", &authorization);
        }
        assert!(
            check_ours(&sent, token).is_ok(),
            "{target} {body}: {:?}",
            check_ours(&sent, token)
        );
    }
}

#[test]
fn what_is_signed_here_is_verified_here() {
    let verified = Verified {
        access_key_id: ID.into(),
        region: "us-east-1".into(),
        service: "ec2".into(),
    };
    assert_eq!(check_ours(&signed(), None), Ok(verified.clone()));
    assert_eq!(check_ours(&presigned("60"), None), Ok(verified.clone()));

    let mut with_token = Sent::post("Action=DescribeInstances");
    with_token.set("x-amz-security-token", TOKEN);
    sign(&mut with_token, ID, SECRET, DATE, SCOPE);
    assert_eq!(check_ours(&with_token, Some(TOKEN)), Ok(verified));
}

/// What a spoiled request is answered, and how it is spoiled.
type Case = (&'static str, &'static str, fn(&mut Sent));

fn resign(sent: &mut Sent) {
    sent.headers.retain(|(name, _)| name != "authorization");
    sign(sent, ID, SECRET, DATE, SCOPE);
}

#[test]
fn a_header_signed_request_is_refused_when_any_part_of_it_is_spoiled() {
    let cases: &[Case] = &[
        // What was signed has changed.
        ("AuthFailure", "credentials", |sent| {
            sent.method = "GET".into()
        }),
        ("AuthFailure", "credentials", |sent| sent.path = "/x".into()),
        ("AuthFailure", "credentials", |sent| {
            sent.query = "DryRun=true".into()
        }),
        ("AuthFailure", "credentials", |sent| sent.body[7] = b'X'),
        ("AuthFailure", "credentials", |sent| sent.body.clear()),
        ("AuthFailure", "credentials", |sent| {
            sent.set("host", "127.0.0.1:1340")
        }),
        ("AuthFailure", "credentials", |sent| {
            sent.set("content-type", "text/plain")
        }),
        ("AuthFailure", "credentials", |sent| {
            sent.set("x-amz-date", "20260501T120001Z")
        }),
        ("AuthFailure", "credentials", |sent| {
            sent.headers.push(("host".into(), "evil".into()))
        }),
        // The signature has changed.
        ("AuthFailure", "credentials", |sent| {
            sent.replace("authorization", "Signature=", "Signature=0")
        }),
        ("AuthFailure", "credentials", |sent| {
            sent.replace("authorization", ID, "AKIDIMDSDTEST0000002")
        }),
        ("AuthFailure", "credentials", |sent| {
            let cut = sent.header("authorization").len() - 1;
            let cut = sent.header("authorization")[..cut].to_string();
            sent.set("authorization", &cut);
        }),
        ("AuthFailure", "credentials", |sent| {
            let (kept, signature) = sent
                .header("authorization")
                .split_once("Signature=")
                .unwrap();
            let upper = format!("{kept}Signature={}", signature.to_uppercase());
            sent.set("authorization", &upper);
        }),
        // A session token that the key does not have.
        ("AuthFailure", "credentials", |sent| {
            sent.set("x-amz-security-token", "anything");
            resign(sent);
        }),
        // Signed for something else.
        (
            "SignatureDoesNotMatch",
            "valid region, not 'eu-west-1'",
            |sent| {
                sign(
                    sent,
                    ID,
                    SECRET,
                    DATE,
                    "20260501/eu-west-1/ec2/aws4_request",
                )
            },
        ),
        ("SignatureDoesNotMatch", "not 'US-EAST-1'", |sent| {
            sign(
                sent,
                ID,
                SECRET,
                DATE,
                "20260501/US-EAST-1/ec2/aws4_request",
            )
        }),
        ("SignatureDoesNotMatch", "correct service: 'ec2'", |sent| {
            sign(sent, ID, SECRET, DATE, "20260501/us-east-1/s3/aws4_request")
        }),
        ("SignatureDoesNotMatch", "terminator", |sent| {
            sign(
                sent,
                ID,
                SECRET,
                DATE,
                "20260501/us-east-1/ec2/aws5_request",
            )
        }),
        ("SignatureDoesNotMatch", "to the day", |sent| {
            sign(
                sent,
                ID,
                SECRET,
                DATE,
                "20260430/us-east-1/ec2/aws4_request",
            )
        }),
        ("SignatureDoesNotMatch", "to the day", |sent| {
            sign(sent, ID, SECRET, DATE, "2026/us-east-1/ec2/aws4_request")
        }),
        // Something that matters is not signed.
        ("SignatureDoesNotMatch", "'host' must be", |sent| {
            sent.replace("authorization", ";host", "")
        }),
        ("SignatureDoesNotMatch", "'content-type' must be", |sent| {
            sent.replace("authorization", "content-type;", "")
        }),
        ("SignatureDoesNotMatch", "'x-amz-date' must be", |sent| {
            sent.replace("authorization", ";x-amz-date", "")
        }),
        ("SignatureDoesNotMatch", "'x-amz-target' must be", |sent| {
            sent.set("x-amz-target", "x")
        }),
        // The suite's post-sts-header-after: a token added after signing.
        (
            "SignatureDoesNotMatch",
            "'x-amz-security-token' must be",
            |sent| sent.set("x-amz-security-token", TOKEN),
        ),
        // A payload hash that is no hash of the body.
        ("SignatureDoesNotMatch", "x-amz-content-sha256", |sent| {
            sent.set("x-amz-content-sha256", "UNSIGNED-PAYLOAD");
            resign(sent);
        }),
        ("SignatureDoesNotMatch", "x-amz-content-sha256", |sent| {
            sent.set("x-amz-content-sha256", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD");
            resign(sent);
        }),
        ("SignatureDoesNotMatch", "x-amz-content-sha256", |sent| {
            sent.set("x-amz-content-sha256", &"0".repeat(64));
            resign(sent);
        }),
        // Two signatures.
        ("SignatureDoesNotMatch", "both", |sent| {
            sent.query = "X-Amz-Signature=00".into()
        }),
        ("IncompleteSignature", "twice", |sent| {
            let again = sent.header("authorization").to_string();
            sent.headers.push(("authorization".into(), again));
        }),
        ("IncompleteSignature", "twice", |sent| {
            sent.headers.push(("x-amz-date".into(), DATE.into()))
        }),
        ("IncompleteSignature", "twice", |sent| {
            sent.replace("authorization", "Signature=", "Signature=0, Signature=")
        }),
        // Not a signature at all.
        ("MissingParameter", "AWSAccessKeyId", |sent| {
            sent.headers.retain(|(name, _)| name != "authorization")
        }),
        ("IncompleteSignature", "'algorithm': 'Basic'", |sent| {
            sent.set("authorization", "Basic aW1kc2Q6eA==")
        }),
        ("IncompleteSignature", "'algorithm': ''", |sent| {
            sent.set("authorization", "")
        }),
        ("IncompleteSignature", "'algorithm'", |sent| {
            sent.replace("authorization", "SHA256", "SHA1")
        }),
        ("IncompleteSignature", "'algorithm'", |sent| {
            sent.replace("authorization", "AWS4-HMAC", "AWS4-ECDSA-P256")
        }),
        ("IncompleteSignature", "key=value", |sent| {
            sent.replace("authorization", "Signature=", "Signature")
        }),
        ("IncompleteSignature", "not known", |sent| {
            sent.replace("authorization", "Signature=", "signature=")
        }),
        ("IncompleteSignature", "requires 'Credential'", |sent| {
            sent.set("authorization", "AWS4-HMAC-SHA256")
        }),
        ("IncompleteSignature", "requires 'Signature'", |sent| {
            sent.set(
                "authorization",
                "AWS4-HMAC-SHA256 Credential=a/b/c/d/e, SignedHeaders=host, Signature=",
            )
        }),
        ("IncompleteSignature", "X-Amz-Date", |sent| {
            sent.headers.retain(|(name, _)| name != "x-amz-date");
            sent.set("date", "20260501T120000Z");
        }),
        ("IncompleteSignature", "ascending", |sent| {
            sent.replace("authorization", "host;x-amz-date", "x-amz-date;host")
        }),
        ("IncompleteSignature", "ascending", |sent| {
            sent.replace("authorization", "host;", "host;host;")
        }),
        ("IncompleteSignature", "lower-case", |sent| {
            sent.replace("authorization", ";host", ";Host")
        }),
        ("IncompleteSignature", "'zzz' is not in", |sent| {
            sent.replace("authorization", "x-amz-date", "x-amz-date;zzz")
        }),
        ("IncompleteSignature", "5 slash-delimited", |sent| {
            sent.replace("authorization", "/ec2", "")
        }),
        ("IncompleteSignature", "5 slash-delimited", |sent| {
            sent.replace("authorization", "/ec2", "/ec2/ec2")
        }),
        ("IncompleteSignature", "basic format", |sent| {
            sent.set("x-amz-date", "2026-05-01T12:00:00Z")
        }),
        ("IncompleteSignature", "basic format", |sent| {
            sent.set("x-amz-date", "20260532T120000Z")
        }),
        ("IncompleteSignature", "basic format", |sent| {
            sent.set("x-amz-date", "20260501T1200-1Z")
        }),
        ("MalformedQueryString", "syntax", |sent| {
            sent.query = "a=%zz".into()
        }),
    ];
    for (place, (code, words, spoil)) in cases.iter().enumerate() {
        let mut sent = signed();
        spoil(&mut sent);
        let error = check_ours(&sent, None).expect_err("spoiled");
        assert_eq!(error.code(), *code, "case {place}: {words}: {error:?}");
        assert!(
            error.message().contains(words),
            "case {place}: {words}: {error:?}"
        );
    }
}

#[test]
fn a_presigned_request_is_refused_when_any_part_of_it_is_spoiled() {
    let cases: &[(&str, &str, &str, &str)] = &[
        (
            "X-Amz-Expires=60",
            "X-Amz-Expires=600",
            "AuthFailure",
            "credentials",
        ),
        (
            "X-Amz-Signature=",
            "X-Amz-Signature=0",
            "AuthFailure",
            "credentials",
        ),
        (
            "X-Amz-Signature=",
            "DryRun=true&X-Amz-Signature=",
            "AuthFailure",
            "credentials",
        ),
        (
            "X-Amz-Signature=",
            "X-Amz-Security-Token=x&X-Amz-Signature=",
            "AuthFailure",
            "credentials",
        ),
        (
            "us-east-1",
            "eu-west-1",
            "SignatureDoesNotMatch",
            "valid region",
        ),
        (
            "SignedHeaders=host",
            "SignedHeaders=date",
            "SignatureDoesNotMatch",
            "'host' must be",
        ),
        (
            "X-Amz-Expires=60",
            "X-Amz-Expires=0",
            "IncompleteSignature",
            "from 1 to 604800",
        ),
        (
            "X-Amz-Expires=60",
            "X-Amz-Expires=604801",
            "IncompleteSignature",
            "from 1 to 604800",
        ),
        (
            "X-Amz-Expires=60",
            "X-Amz-Expires=-1",
            "IncompleteSignature",
            "from 1 to 604800",
        ),
        (
            "X-Amz-Expires=60",
            "X-Amz-Expires=%2B60",
            "IncompleteSignature",
            "from 1 to 604800",
        ),
        (
            "X-Amz-Expires=60",
            "X-Amz-Expires=4294967356",
            "IncompleteSignature",
            "from 1 to 604800",
        ),
        (
            "X-Amz-Expires=60",
            "X-Amz-Expires=60&X-Amz-Expires=600",
            "IncompleteSignature",
            "twice",
        ),
        (
            "X-Amz-Expires=60&",
            "",
            "IncompleteSignature",
            "'X-Amz-Expires'",
        ),
        (
            "X-Amz-Algorithm=AWS4-HMAC-SHA256&",
            "",
            "IncompleteSignature",
            "'X-Amz-Algorithm'",
        ),
        (
            "AWS4-HMAC-SHA256",
            "AWS4-ECDSA-P256-SHA256",
            "IncompleteSignature",
            "Unsupported",
        ),
        (
            "X-Amz-Date=20260501T120000Z",
            "X-Amz-Date=%ff",
            "IncompleteSignature",
            "not text",
        ),
        (
            "X-Amz-SignedHeaders=host",
            "X-Amz-SignedHeaders=",
            "IncompleteSignature",
            "'X-Amz-SignedHeaders'",
        ),
    ];
    for (from, to, code, words) in cases {
        let mut sent = presigned("60");
        sent.query = sent.query.replacen(from, to, 1);
        let error = check_ours(&sent, None).expect_err(to);
        assert_eq!(error.code(), *code, "{to}: {error:?}");
        assert!(error.message().contains(words), "{to}: {error:?}");
    }
    for (name, code) in [
        ("x-amz-date", "IncompleteSignature"),
        ("x-amz-meta", "SignatureDoesNotMatch"),
    ] {
        let mut sent = presigned("60");
        sent.set(name, DATE);
        assert_eq!(check_ours(&sent, None).unwrap_err().code(), code);
    }
    let mut with_body = presigned("60");
    with_body.body = b"DryRun=true".to_vec();
    assert_eq!(
        check_ours(&with_body, None),
        Err(AuthError::Refused(Wrong::Signature))
    );
}

#[test]
fn a_signature_lives_fifteen_minutes_either_way_and_a_presigned_one_as_long_as_it_says() {
    for (sent, now, lives) in [
        (signed(), "2026-05-01T11:44:59Z", false),
        (signed(), "2026-05-01T11:45:00Z", true),
        (signed(), "2026-05-01T12:15:00Z", true),
        (signed(), "2026-05-01T12:15:00.001Z", false),
        (signed(), "2027-05-01T12:00:00Z", false),
        (presigned("60"), "2026-05-01T11:44:59Z", false),
        (presigned("60"), "2026-05-01T12:01:00Z", true),
        (presigned("60"), "2026-05-01T12:01:01Z", false),
        (presigned("604800"), "2026-05-08T12:00:00Z", true),
        (presigned("604800"), "2026-05-08T12:00:01Z", false),
    ] {
        let verified = check(&sent, &key(ID, SECRET, None), ["us-east-1", "ec2"], now);
        let expected = if lives {
            Ok(())
        } else {
            Err(AuthError::Expired)
        };
        assert_eq!(verified.map(drop), expected, "{now}");
    }
}

#[test]
fn a_caller_learns_nothing_from_which_credential_is_wrong() {
    let mut wrong_token = Sent::post("");
    wrong_token.set("x-amz-security-token", "another");
    sign(&mut wrong_token, ID, SECRET, DATE, SCOPE);
    let mut wrong_secret = Sent::post("");
    sign(&mut wrong_secret, ID, "guess", DATE, SCOPE);
    let mut unknown_key = Sent::post("");
    sign(
        &mut unknown_key,
        "AKIDIMDSDTEST0000002",
        SECRET,
        DATE,
        SCOPE,
    );
    // Whoever knows how the key that nobody has is spelled still has no key.
    let mut nobody = Sent::post("");
    sign(&mut nobody, "AKIDIMDSDTEST0000002", NOBODY, DATE, SCOPE);

    for (sent, token, wrong) in [
        (&wrong_token, Some(TOKEN), Wrong::SessionToken),
        (&signed(), Some(TOKEN), Wrong::SessionToken),
        (&wrong_token, None, Wrong::SessionToken),
        (&wrong_secret, None, Wrong::Signature),
        (&unknown_key, None, Wrong::AccessKey),
        (&nobody, None, Wrong::AccessKey),
    ] {
        let error = check_ours(sent, token).unwrap_err();
        assert_eq!(error, AuthError::Refused(wrong));
        let told = (error.code(), error.status(), error.message());
        let text = "AWS was not able to validate the provided access credentials".to_string();
        assert_eq!(told, ("AuthFailure", 401, text));
    }
}

#[test]
fn no_secret_is_printed() {
    let printed = format!("{:?}", key(ID, SECRET, Some(TOKEN)));
    assert!(
        printed.contains(ID) && !printed.contains(SECRET) && !printed.contains(TOKEN),
        "{printed}"
    );
}
