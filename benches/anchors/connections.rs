//! The memory of idle connections.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use crate::subject::Subject;

/// How long a server may take to give memory back after a wave of connections.
const AFTERWARDS: Duration = Duration::from_secs(8);

/// Resident memory in MiB.
pub(crate) struct Memory {
    pub(crate) before: f64,
    pub(crate) with_connections: f64,
    pub(crate) afterwards: f64,
}

/// Opens connections that each send a request and wait; returns the server's memory.
pub(crate) fn measure(subject: &Subject, count: usize) -> Memory {
    let before = resident(subject.pid());
    let connections: io::Result<Vec<TcpStream>> = (0..count).map(|_| open(subject)).collect();
    let connections = match connections {
        Ok(connections) => connections,
        Err(reason) => panic!("{}: {reason}", subject.name),
    };
    std::thread::sleep(Duration::from_millis(500));
    let with_connections = resident(subject.pid());
    drop(connections);
    std::thread::sleep(AFTERWARDS);
    Memory {
        before,
        with_connections,
        afterwards: resident(subject.pid()),
    }
}

fn open(subject: &Subject) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::new(subject.source, 0).into())?;
    socket.connect(&subject.address.into())?;
    let mut stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.write_all(
        b"GET /latest/meta-data/instance-id HTTP/1.1\r\nHost: 169.254.169.254\r\nConnection: keep-alive\r\n\r\n",
    )?;
    let mut answer = [0; 1024];
    let length = stream.read(&mut answer)?;
    match answer[..length].starts_with(b"HTTP/1.1 200 ") {
        true => Ok(stream),
        false => Err(io::Error::other("a connection was not answered")),
    }
}

fn resident(pid: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the server runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
    kib.expect("it has VmRSS") / 1024.0
}
