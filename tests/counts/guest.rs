//! The guest: sends requests one after the other, as an SDK does.

use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;

/// How a guest sends a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    /// GET with a token on a connection that stays open.
    KeptAliveGet,
    /// GET with a token on a connection of its own, which the daemon closes.
    Get,
    /// PUT for a token, on a connection of its own.
    Put,
}

const PUT: &str = "PUT /latest/api/token HTTP/1.1\r\nHost: 169.254.169.254\r\nUser-Agent: counts\r\n\
     Accept: */*\r\nX-aws-ec2-metadata-token-ttl-seconds: 21600\r\n\r\n";

/// Sends requests of one kind.
pub(crate) struct Guest<'a> {
    connect: &'a dyn Fn() -> io::Result<TcpStream>,
    request: Request,
    head: String,
    kept: Option<TcpStream>,
}

impl<'a> Guest<'a> {
    /// Creates a guest, which gets itself a token.
    pub(crate) fn new(
        connect: &'a dyn Fn() -> io::Result<TcpStream>,
        request: Request,
    ) -> Guest<'a> {
        let mut guest = Guest {
            connect,
            request: Request::Put,
            head: PUT.to_string(),
            kept: None,
        };
        let token = guest.send();
        guest.request = request;
        if request != Request::Put {
            let connection = match request {
                Request::KeptAliveGet => "Connection: keep-alive\r\n",
                Request::Get | Request::Put => "",
            };
            guest.head = format!(
                "GET /latest/meta-data/instance-id HTTP/1.1\r\nHost: 169.254.169.254\r\nUser-Agent: counts\r\n\
                 Accept: */*\r\nX-aws-ec2-metadata-token: {token}\r\n{connection}\r\n"
            );
        }
        guest
    }

    /// Sends a request; returns the body of its response.
    pub(crate) fn send(&mut self) -> String {
        let mut stream = match self.kept.take() {
            Some(stream) => stream,
            None => (self.connect)().expect("the daemon accepts the connection"),
        };
        stream.set_nodelay(true).expect("the option can be set");
        let sent = stream.write_all(self.head.as_bytes());
        sent.expect("the request can be sent");
        let mut response = Vec::new();
        match self.request {
            Request::KeptAliveGet => {
                let mut buffer = [0; 4096];
                let length = stream.read(&mut buffer).expect("the response comes");
                response.extend_from_slice(&buffer[..length]);
                self.kept = Some(stream);
            }
            Request::Get | Request::Put => {
                let read = stream.read_to_end(&mut response);
                read.expect("the response comes, and the daemon closes");
            }
        }
        let response = String::from_utf8(response).expect("the response is text");
        let (head, body) = response.split_once("\r\n\r\n").expect("it has a head");
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        body.to_string()
    }
}
