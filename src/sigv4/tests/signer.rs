//! A signer that shares no code with the verifier.

use hmac::{Hmac, KeyInit, Mac as _};
use hyper::HeaderMap;
use hyper::header::{HeaderName, HeaderValue};
use sha2::{Digest as _, Sha256};

/// A request that tests can change after it was signed.
#[derive(Clone)]
pub(crate) struct Sent {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Sent {
    /// Returns an unsigned form POST like those of SDKs.
    pub(crate) fn post(body: &str) -> Sent {
        Sent::read(&format!(
            "POST / HTTP/1.1\nHost:127.0.0.1:1339\nContent-Type:application/x-www-form-urlencoded\n\n{body}"
        ))
    }

    /// Reads a request in the notation of Amazon's test suite.
    pub(super) fn read(text: &str) -> Sent {
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

/// Signs a request whose path and query are canonical. `scope` is
/// `day/region/service/aws4_request`.
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

/// Signs in the query. Only `host` is signed, and the query must be empty.
pub(super) fn presign(
    sent: &mut Sent,
    id: &str,
    secret: &str,
    date: &str,
    scope: &str,
    expires: &str,
) {
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
