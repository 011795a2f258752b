//! A guest that reads its instance id again and again, each time on a new connection.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use super::figures::Latencies;
use super::host;

/// How long an answer may take before it counts as lost.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long the guest waits between two reads, so that it is one guest and not a load: its rate stays
/// below the default of `guest.requests_per_second`.
const PAUSE: Duration = Duration::from_millis(3);

/// Reads the instance id of a guest.
pub(crate) fn read_id(listener: SocketAddr, number: usize) -> io::Result<String> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&SocketAddr::from((host::address(number), 0)).into())?;
    socket.connect_timeout(&listener.into(), PATIENCE)?;
    let mut stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(
        b"GET /latest/meta-data/instance-id HTTP/1.1\r\nHost: 169.254.169.254\r\nAccept: */*\r\n\r\n",
    )?;
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

/// Reads until `stop`, and returns the latency of every answer.
pub(crate) fn read_until(listener: SocketAddr, number: usize, stop: &AtomicBool) -> Latencies {
    let mut latencies = Latencies::default();
    while !stop.load(Ordering::Relaxed) {
        let asked = Instant::now();
        match read_id(listener, number) {
            Ok(_) => latencies.add(asked.elapsed()),
            Err(_) => latencies.lost += 1,
        }
        std::thread::sleep(PAUSE);
    }
    latencies
}

/// Reads while `work` runs. Returns the latencies and what `work` returned.
pub(crate) fn read_during<T>(
    listener: SocketAddr,
    number: usize,
    work: impl FnOnce() -> T,
) -> (Latencies, T) {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| read_until(listener, number, &stop));
        let outcome = work();
        stop.store(true, Ordering::Relaxed);
        (reader.join().expect("the guest does not panic"), outcome)
    })
}
