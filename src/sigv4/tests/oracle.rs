//! Random requests that Amazon's own signer (`aws-sigv4`) signed in their header or in their query.

use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SignatureLocation, SigningSettings};
use aws_sigv4::sign::v4;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use super::*;

const HOST: &str = "127.0.0.1:1339";

/// A request to sign, and the parameters of its signature.
#[derive(Clone, Debug)]
struct Case {
    method: &'static str,
    path: String,
    pairs: Vec<(String, String)>,
    headers: Vec<(String, String)>,
    body: String,
    token: Option<String>,
    region: String,
    service: &'static str,
    seconds: u32,
    presigned: bool,
}

fn percent(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.~".contains(&b);
    text.bytes()
        .map(|b| {
            if plain(b) {
                char::from(b).to_string()
            } else {
                format!("%{b:02X}")
            }
        })
        .collect()
}

fn case() -> impl Strategy<Value = Case> {
    let path = prop_oneof![
        Just("/".to_string()),
        Just("/ec2/v1".to_string()),
        Just("/a%20b/../c/".to_string()),
        // For a path that ends in a dot segment this signer signs "/a/", and boto3 "/a". Clients do
        // not send such paths; our verifier does what boto3 does.
        proptest::collection::vec("[A-Za-z0-9._~-]{1,8}", 1..4)
            .prop_map(|parts| format!("/{}", parts.join("/")))
            .prop_filter("ends on which Amazon's signers differ", |path| !path
                .ends_with("/.")
                && !path.ends_with("/..")),
    ];
    let pairs = proptest::collection::vec(("[A-Za-z.0-9]{1,12}", "\\PC{0,12}"), 0..5);
    let header = (
        "x-(amz-)?[a-z]{3,8}-test",
        "[!-~]{1,8}( {1,3}[!-~]{1,8}){0,2}",
    );
    let headers = proptest::collection::btree_map(header.0, header.1, 0..3)
        .prop_map(|map| map.into_iter().collect());
    let token = proptest::option::of("[A-Za-z0-9+/=]{1,60}");
    let rest = (
        token,
        "[a-z]{2}-[a-z]{4,9}-[1-9]",
        prop_oneof![Just("ec2"), Just("sts"), Just("ec2-instance-connect")],
        0_u32..2_000_000_000,
        any::<bool>(),
    );
    (
        prop_oneof![Just("GET"), Just("POST")],
        path,
        pairs,
        headers,
        "\\PC{0,80}",
        rest,
    )
        .prop_map(
            |(method, path, pairs, headers, body, (token, region, service, seconds, presigned))| {
                Case {
                    method,
                    path,
                    pairs,
                    headers,
                    body: if method == "GET" { String::new() } else { body },
                    token,
                    region,
                    service,
                    seconds,
                    presigned,
                }
            },
        )
}

/// Signs the request with Amazon's code.
fn signed_by_amazon(case: &Case) -> Sent {
    let query: Vec<_> = case
        .pairs
        .iter()
        .map(|(name, value)| format!("{}={}", percent(name), percent(value)))
        .collect();
    let mut sent = Sent {
        method: case.method.to_string(),
        path: case.path.clone(),
        query: query.join("&"),
        headers: case.headers.clone(),
        body: case.body.clone().into_bytes(),
    };
    let identity = Credentials::new(ID, SECRET, case.token.clone(), None, "test").into();
    let mut settings = SigningSettings::default();
    if case.presigned {
        settings.signature_location = SignatureLocation::QueryParams;
        settings.expires_in = Some(Duration::from_secs(60));
    }
    let parameters = v4::SigningParams::builder()
        .identity(&identity)
        .region(&case.region)
        .name(case.service)
        .time(SystemTime::UNIX_EPOCH + Duration::from_secs(case.seconds.into()))
        .settings(settings)
        .build()
        .unwrap()
        .into();
    let question = if sent.query.is_empty() { "" } else { "?" };
    let uri = format!("http://{HOST}{}{question}{}", sent.path, sent.query);
    let headers = sent
        .headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()));
    let request =
        SignableRequest::new(case.method, uri, headers, SignableBody::Bytes(&sent.body)).unwrap();
    let (instructions, _) = aws_sigv4::http_request::sign(request, &parameters)
        .unwrap()
        .into_parts();
    let (headers, parameters) = instructions.into_parts();
    for (name, value) in parameters {
        let joint = if sent.query.is_empty() { "" } else { "&" };
        sent.query += &format!("{joint}{name}={}", percent(&value));
    }
    sent.headers.extend(
        headers
            .iter()
            .map(|header| (header.name().to_string(), header.value().to_string())),
    );
    sent.set("host", HOST);
    sent
}

fn verified(case: &Case, sent: &Sent) -> Result<Signer, AuthError> {
    let now = Timestamp::from_second(case.seconds.into())
        .unwrap()
        .to_string();
    check(
        sent,
        &key(ID, SECRET, case.token.as_deref()),
        [&case.region, case.service],
        &now,
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, rng_seed: RngSeed::Fixed(4), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn requests_that_amazons_signer_signed_are_accepted_and_changed_ones_are_not(case in case(), at in any::<prop::sample::Index>()) {
        let sent = signed_by_amazon(&case);
        let result = verified(&case, &sent);
        let expected = Signer {
            access_key_id: ID.to_string(),
            region: case.region.clone(),
            service: case.service.to_string(),
        };
        prop_assert_eq!(result, Ok(expected));

        // One part is different.
        let refuses = |what: &str, change: &dyn Fn(&mut Sent)| {
            let mut changed = sent.clone();
            change(&mut changed);
            assert!(verified(&case, &changed).is_err(), "{what}");
        };
        refuses("body", &|sent| sent.body.push(b'&'));
        refuses("path", &|sent| sent.path += "/x");
        refuses("query", &|sent| sent.query = format!("A=&{}", sent.query));
        refuses("method", &|sent| sent.method = if sent.method == "GET" { "POST" } else { "GET" }.to_string());
        refuses("host", &|sent| sent.set("host", "127.0.0.1:1340"));
        refuses("unsigned", &|sent| sent.set("x-amz-other", "1"));
        if !sent.body.is_empty() {
            let index = at.index(sent.body.len());
            refuses("byte", &|sent| sent.body[index] ^= 1);
        }
        for (name, _) in &case.headers {
            refuses(name, &|sent| sent.set(name, "another"));
        }
        let other = Case { token: case.token.as_ref().map_or(Some("t".into()), |_| None), ..case.clone() };
        prop_assert!(verified(&other, &sent).is_err());
    }
}
