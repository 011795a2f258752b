//! The least that a server can cost: one thread, level-triggered epoll, fixed bytes.
//!
//! It looks for the end of a head and for `Connection: close`, and for nothing else. It expects a head
//! in one piece, as the load sends it.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd as _;

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::net::{SocketFlags, accept_with};

/// A page of answers, with the bytes of what imdsd would answer.
pub(crate) const BODY: &str = "i-0abc0000000000000";
pub(crate) const TOKEN: &str = "AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA==";

fn answer(connection: &str, more: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\n{connection}{more}\
         Date: Sun, 22 Nov 2026 02:00:00 GMT\r\nServer: EC2ws\r\n\r\n{body}"
    )
    .into_bytes()
}

/// Answers until the process is stopped.
pub(crate) fn serve(address: SocketAddr) -> io::Result<()> {
    let lifetime = "X-aws-ec2-metadata-token-ttl-seconds: 21600\r\n";
    // By whether the connection is closed, and by whether a token is wanted.
    let answers = ["", "Connection: close\r\n"].map(|connection| {
        [
            answer(connection, "", BODY),
            answer(connection, lifetime, TOKEN),
        ]
    });
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    let epoll = epoll::create(CreateFlags::CLOEXEC)?;
    epoll::add(
        &epoll,
        &listener,
        EventData::new_u64(u64::MAX),
        EventFlags::IN,
    )?;
    let mut connections: Vec<Option<TcpStream>> = Vec::new();
    let mut events = Vec::with_capacity(256);
    loop {
        events.clear();
        epoll::wait(&epoll, rustix::buffer::spare_capacity(&mut events), None)?;
        for event in &events {
            let Ok(number) = usize::try_from(event.data.u64()) else {
                continue;
            };
            if number != usize::MAX {
                if !is_kept(&connections[number], &answers) {
                    connections[number] = None;
                }
                continue;
            }
            while let Ok(accepted) =
                accept_with(&listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC)
            {
                let stream = TcpStream::from(accepted);
                stream.set_nodelay(true)?;
                // A descriptor is free again once its connection is dropped.
                let number = usize::try_from(stream.as_raw_fd()).expect("it is not negative");
                epoll::add(
                    &epoll,
                    &stream,
                    EventData::new_u64(number as u64),
                    EventFlags::IN,
                )?;
                if connections.len() <= number {
                    connections.resize_with(number + 1, || None);
                }
                connections[number] = Some(stream);
            }
        }
    }
}

/// Answers what a connection sent; returns whether the connection stays open.
fn is_kept(connection: &Option<TcpStream>, answers: &[[Vec<u8>; 2]; 2]) -> bool {
    let Some(mut stream) = connection.as_ref() else {
        return false;
    };
    let mut buffer = [0; 4096];
    let head = match stream.read(&mut buffer) {
        Ok(length) => &buffer[..length],
        Err(reason) => return reason.kind() == io::ErrorKind::WouldBlock,
    };
    if !head.ends_with(b"\r\n\r\n") {
        return false;
    }
    let closes = head.windows(7).any(|text| text == b": close");
    let answer = &answers[usize::from(closes)][usize::from(head.starts_with(b"P"))];
    stream.write_all(answer).is_ok() && !closes
}
