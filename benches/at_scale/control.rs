//! A caller of the EC2 API: signs calls, and sends each on a new connection, as the AWS CLI does.

use std::io::{self, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use imdsd::clock::Moment;
use imdsd::secret::Secret;
use imdsd::sigv4::AccessKey;
use imdsd::sigv4::sign::{Post, sign};

use super::figures::Latencies;
use super::host::{self, ACCESS_KEY};

/// How long an answer may take before it counts as lost.
const PATIENCE: Duration = Duration::from_secs(60);
const CONTENT_TYPE: &str = "application/x-www-form-urlencoded";

/// Sends one call and returns the body of a successful answer.
pub(crate) fn call(endpoint: SocketAddr, parameters: &str) -> io::Result<String> {
    let body = format!("{parameters}&Version=2016-11-15");
    let host = endpoint.to_string();
    let key = AccessKey {
        access_key_id: ACCESS_KEY.0.to_string(),
        secret_access_key: Secret::new(ACCESS_KEY.1),
        session_token: None,
    };
    let post = Post {
        host: &host,
        path: "/",
        content_type: CONTENT_TYPE,
        body: body.as_bytes(),
    };
    let headers =
        sign(&post, &key, "us-east-1", "ec2", Moment::now().wall).map_err(io::Error::other)?;
    let mut request = format!(
        "POST / HTTP/1.1\r\nContent-Length: {}\r\nConnection: close\r\n",
        body.len()
    );
    for (name, value) in &headers {
        request += &format!("{name}: {}\r\n", value.to_str().map_err(io::Error::other)?);
    }
    request += &format!("\r\n{body}");
    let mut stream = TcpStream::connect_timeout(&endpoint, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(request.as_bytes())?;
    answer_of(&mut stream)
}

/// Sends one request to the admin socket and returns the body of a successful answer.
pub(crate) fn admin(socket: &Path, method: &str, path: &str, body: &str) -> io::Result<String> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n"
    );
    stream.write_all((head + body).as_bytes())?;
    answer_of(&mut stream)
}

fn answer_of(stream: &mut impl io::Read) -> io::Result<String> {
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    match answer
        .strip_prefix("HTTP/1.1 200 ")
        .and_then(|rest| rest.split_once("\r\n\r\n"))
    {
        Some((_, body)) => Ok(body.to_string()),
        None => Err(io::Error::other(answer)),
    }
}

/// Changes the metadata options of one instance. The hop limit differs from that of the call before
/// with another `round`, so every call is a change.
pub(crate) fn modify(endpoint: SocketAddr, number: usize, round: usize) -> io::Result<String> {
    let (id, limit) = (host::id(number), 2 + round % 60);
    call(
        endpoint,
        &format!(
            "Action=ModifyInstanceMetadataOptions&InstanceId={id}&HttpPutResponseHopLimit={limit}"
        ),
    )
}

/// Changes one instance after another, `count` times.
pub(crate) fn modify_many(
    endpoint: SocketAddr,
    instances: usize,
    first: usize,
    count: usize,
) -> Latencies {
    let mut latencies = Latencies::default();
    for round in first..first + count {
        time_modify(endpoint, instances, round, &mut latencies);
    }
    latencies
}

/// Changes one instance after another until `stop`.
pub(crate) fn modify_until(endpoint: SocketAddr, instances: usize, stop: &AtomicBool) -> Latencies {
    let mut latencies = Latencies::default();
    let mut round = 1;
    while !stop.load(Ordering::Relaxed) {
        time_modify(endpoint, instances, round, &mut latencies);
        round += 1;
    }
    latencies
}

fn time_modify(endpoint: SocketAddr, instances: usize, round: usize, latencies: &mut Latencies) {
    // A step that has no divisor in common with the usual numbers spreads the changes.
    let number = (round * 7919) % instances;
    let asked = Instant::now();
    match modify(endpoint, number, round) {
        Ok(_) => latencies.add(asked.elapsed()),
        Err(reason) => {
            latencies.lost += 1;
            if latencies.lost == 1 {
                eprintln!("ModifyInstanceMetadataOptions failed: {reason}");
            }
        }
    }
}
