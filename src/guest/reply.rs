//! Answers: the only file that knows the service's statuses, headers and bodies.
//!
//! Header names, values and their order are those of EC2's Nitro service. Errors have empty bodies, all but 404, whose page
//! is 339 bytes with an odd indent. Nothing a guest sent is ever repeated to it.

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;

use crate::clock::{Moment, http_date};
use crate::guest::gate::token::{Token, TtlSeconds};
use crate::guest::gate::{Allow, Delivery, Denial};
use crate::guest::request::{Connection, Malformed};
use crate::guest::tree::Value;
use crate::instance::HopLimit;

/// What the guest gets.
#[derive(Debug)]
pub enum Answer {
    /// A reply.
    Reply(Reply),
    /// Nothing: the connection ends without a byte.
    Silence,
}

impl From<Reply> for Answer {
    fn from(reply: Reply) -> Answer {
        Answer::Reply(reply)
    }
}

/// For logs: the status, never what was answered.
impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Answer::Reply(reply) => write!(f, "{}", reply.status),
            Answer::Silence => f.write_str("silence"),
        }
    }
}

/// One reply, ready to be written.
#[derive(Debug)]
pub struct Reply {
    /// The status code.
    pub status: u16,
    /// The reason phrase where it is not the usual one.
    pub reason: Option<&'static str>,
    /// Header lines in EC2's order, in EC2's spelling.
    pub headers: Vec<(&'static str, Cow<'static, str>)>,
    /// The body a GET would get. A HEAD is answered with the same headers and without it.
    pub body: Bytes,
    /// The hop limit that the packets of this answer must carry; `None` for the system's own.
    pub hop_limit: Option<HopLimit>,
    /// What happens to the connection after this reply.
    pub connection: Connection,
}

const TEXT: &str = "text/plain";
const TTL_HEADER: &str = "X-Aws-Ec2-Metadata-Token-Ttl-Seconds";

/// The body of every 404. The indents in front of the second line of the DOCTYPE are two tabs and a blank.
pub const NOT_FOUND_PAGE: &str = "<?xml version=\"1.0\" encoding=\"iso-8859-1\"?>\n\
    <!DOCTYPE html PUBLIC \"-//W3C//DTD XHTML 1.0 Transitional//EN\"\n\
    \t\t \"http://www.w3.org/TR/xhtml1/DTD/xhtml1-transitional.dtd\">\n\
    <html xmlns=\"http://www.w3.org/1999/xhtml\" xml:lang=\"en\" lang=\"en\">\n\
    \x20<head>\n\
    \x20 <title>404 - Not Found</title>\n\
    \x20</head>\n\
    \x20<body>\n\
    \x20 <h1>404 - Not Found</h1>\n\
    \x20</body>\n\
    </html>\n";

impl Reply {
    /// 200 with a value or a listing.
    pub fn value(
        value: Value<'_>,
        delivery: Delivery,
        now: Moment,
        connection: Connection,
    ) -> Reply {
        let mut reply = Reply::bare(200, connection);
        reply.body = match value.bytes {
            Cow::Borrowed(bytes) => Bytes::copy_from_slice(bytes),
            Cow::Owned(bytes) => bytes.into(),
        };
        if let Some(remaining) = delivery.remaining() {
            reply.header(TTL_HEADER, remaining.to_string());
        }
        reply
            .header("Content-Type", value.content_type.as_str())
            .header("Accept-Ranges", "none")
            .header("Last-Modified", http_date(value.last_modified))
            .content_length()
            .signed_off(now);
        reply
    }

    /// 200 with a token. It always ends the connection: the hop limit never rises again on it.
    pub fn token(token: Token, ttl: TtlSeconds, now: Moment) -> Reply {
        let mut reply = Reply::bare(200, Connection::Close);
        reply.body = token.into_string().into();
        reply
            .header(TTL_HEADER, ttl.get().to_string())
            .content_length()
            .signed_off(now)
            .header("Content-Type", TEXT);
        reply
    }

    /// 200 with the methods of a path.
    pub fn methods(allow: Allow, now: Moment, connection: Connection) -> Reply {
        let mut reply = Reply::bare(200, connection);
        reply
            .header("Allow", allow.as_str())
            .content_length()
            .signed_off(now)
            .header("Content-Type", TEXT);
        reply
    }

    /// 404 with its page.
    pub fn not_found(delivery: Delivery, now: Moment, connection: Connection) -> Reply {
        let mut reply = Reply::bare(404, connection);
        reply.body = Bytes::from_static(NOT_FOUND_PAGE.as_bytes());
        reply.header("Content-Type", "text/html").content_length();
        if let Some(remaining) = delivery.remaining() {
            reply.header(TTL_HEADER, remaining.to_string());
        }
        reply.signed_off(now);
        reply
    }

    /// The answer to a denied request, which may be none.
    pub fn denial(denial: Denial, now: Moment, connection: Connection) -> Answer {
        let (status, allow) = match denial {
            Denial::Silence(_) => return Answer::Silence,
            Denial::BadTtl => (400, None),
            Denial::TokenRequired | Denial::BadToken => (401, None),
            Denial::EndpointDisabled | Denial::Forbidden(_) => (403, None),
            Denial::MethodNotAllowed(allow) => (405, Some(allow)),
        };
        let mut reply = Reply::bare(status, connection);
        match (status, allow) {
            // The one order that was seen with Content-Type in front.
            (403, _) => reply
                .content_length()
                .header("Content-Type", TEXT)
                .signed_off(now),
            (_, None) => reply
                .content_length()
                .signed_off(now)
                .header("Content-Type", TEXT),
            (_, Some(allow)) => {
                reply.reason = Some("Not Allowed");
                reply
                    .header("Allow", allow.as_str())
                    .content_length()
                    .signed_off(now)
                    .header("Content-Type", TEXT)
            }
        };
        Answer::Reply(reply)
    }

    /// The answer to a request without a single meaning. It always ends the connection.
    pub fn malformed(fault: Malformed, now: Moment) -> Reply {
        let status = match fault {
            Malformed::Host | Malformed::ForeignHost | Malformed::Target => 400,
            Malformed::Misdirected => 421,
            Malformed::Body => 413,
        };
        let mut reply = Reply::bare(status, Connection::Close);
        reply
            .content_length()
            .signed_off(now)
            .header("Content-Type", TEXT);
        reply
    }

    fn bare(status: u16, connection: Connection) -> Reply {
        Reply {
            status,
            reason: None,
            headers: Vec::with_capacity(8),
            body: Bytes::new(),
            hop_limit: None,
            connection,
        }
    }

    fn header(&mut self, name: &'static str, value: impl Into<Cow<'static, str>>) -> &mut Reply {
        self.headers.push((name, value.into()));
        self
    }

    fn content_length(&mut self) -> &mut Reply {
        let length = self.body.len().to_string();
        self.header("Content-Length", length)
    }

    /// Date, Server and, unless the connection stays, `Connection: close`.
    fn signed_off(&mut self, now: Moment) -> &mut Reply {
        self.header("Date", http_date(now.wall))
            .header("Server", "EC2ws");
        if self.connection == Connection::Close {
            self.header("Connection", "close");
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_404_page_is_339_bytes() {
        assert_eq!(NOT_FOUND_PAGE.len(), 339);
        assert!(NOT_FOUND_PAGE.contains("\n\t\t \"http"));
        assert!(NOT_FOUND_PAGE.ends_with("</html>\n"));
    }
}
