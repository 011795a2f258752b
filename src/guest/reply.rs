//! Replies: the only file that knows the service's statuses, headers and bodies.
//!
//! Header names, values and their order are those of EC2's Nitro service. Errors have empty bodies,
//! except 404, whose page has 339 bytes and an odd indent. Nothing that a guest sent is repeated to
//! it.

use std::borrow::Cow;

use crate::clock::Moment;
use crate::guest::gate::{Allow, Denial, Token, TtlSeconds};
use crate::guest::request::Malformed;
use crate::guest::tree::TreeContent;
use crate::http::{Connection, HeaderLines, HeaderText, Reply};

const TEXT: &str = "text/plain";
const EMPTY: Cow<'static, [u8]> = Cow::Borrowed(&[]);
const TTL_HEADER: &str = "X-Aws-Ec2-Metadata-Token-Ttl-Seconds";

/// The body of every 404. The second line of the DOCTYPE is indented with two tabs and a space.
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

/// Returns 200 with a value or a listing. `remaining` is the token's remaining lifetime in seconds.
pub(super) fn content(
    content: TreeContent<'_>,
    remaining: Option<u32>,
    now: Moment,
    connection: Connection,
) -> Reply<'_> {
    ReplyBuilder::new(200, content.bytes, connection)
        .remaining(remaining)
        .header("Content-Type", content.content_type.as_str())
        .header("Accept-Ranges", "none")
        .line("Last-Modified", HeaderText::Date(content.last_modified))
        .content_length()
        .date_and_server(now)
        .reply
}

/// Returns 200 with a token. It always closes the connection, because the hop limit of a connection
/// is never raised again.
pub(super) fn token(token: Token, ttl: TtlSeconds, now: Moment) -> Reply<'static> {
    let token = Cow::Owned(token.into_string().into_bytes());
    ReplyBuilder::new(200, token, Connection::Close)
        .line(TTL_HEADER, HeaderText::Number(ttl.get().into()))
        .content_length()
        .date_and_server(now)
        .header("Content-Type", TEXT)
        .reply
}

/// Returns 200 with the methods of a path.
pub(super) fn methods(allow: Allow, now: Moment, connection: Connection) -> Reply<'static> {
    ReplyBuilder::new(200, EMPTY, connection)
        .header("Allow", allow.as_str())
        .content_length()
        .date_and_server(now)
        .header("Content-Type", TEXT)
        .reply
}

/// Returns 404 with its page. `remaining` is the token's remaining lifetime in seconds.
pub(super) fn not_found(
    remaining: Option<u32>,
    now: Moment,
    connection: Connection,
) -> Reply<'static> {
    let page = Cow::Borrowed(NOT_FOUND_PAGE.as_bytes());
    ReplyBuilder::new(404, page, connection)
        .header("Content-Type", "text/html")
        .content_length()
        .remaining(remaining)
        .date_and_server(now)
        .reply
}

/// Returns the answer to a denied request; `None` is silence.
pub(super) fn denial(
    denial: Denial,
    now: Moment,
    connection: Connection,
) -> Option<Reply<'static>> {
    Some(match denial {
        Denial::Silence(_) => return None,
        Denial::BadTtl => error(400, now, connection),
        Denial::TokenRequired | Denial::BadToken => error(401, now, connection),
        Denial::Throttled => error(503, now, connection),
        // The one order that was observed with Content-Type before Date.
        Denial::EndpointDisabled | Denial::Forbidden(_) => {
            ReplyBuilder::new(403, EMPTY, connection)
                .content_length()
                .header("Content-Type", TEXT)
                .date_and_server(now)
                .reply
        }
        Denial::MethodNotAllowed(allow) => {
            ReplyBuilder::new(405, EMPTY, connection)
                .reason("Not Allowed")
                .header("Allow", allow.as_str())
                .content_length()
                .date_and_server(now)
                .header("Content-Type", TEXT)
                .reply
        }
    })
}

/// Returns the answer to a request without a single meaning. It always closes the connection.
pub(super) fn malformed(fault: Malformed, now: Moment) -> Reply<'static> {
    let status = match fault {
        Malformed::Host | Malformed::ForeignHost | Malformed::Target => 400,
        Malformed::Misdirected => 421,
        Malformed::Body => 413,
        Malformed::Unreadable(reason) => reason.status(),
    };
    error(status, now, Connection::Close)
}

pub(super) fn error(status: u16, now: Moment, connection: Connection) -> Reply<'static> {
    ReplyBuilder::new(status, EMPTY, connection)
        .content_length()
        .date_and_server(now)
        .header("Content-Type", TEXT)
        .reply
}

/// A reply whose headers are added in the order in which they are sent.
struct ReplyBuilder<'a> {
    reply: Reply<'a>,
}

impl<'a> ReplyBuilder<'a> {
    fn new(status: u16, body: Cow<'a, [u8]>, connection: Connection) -> ReplyBuilder<'a> {
        ReplyBuilder {
            reply: Reply {
                status,
                reason: None,
                headers: HeaderLines::new(),
                body,
                hop_limit: None,
                connection,
            },
        }
    }

    fn reason(mut self, reason: &'static str) -> Self {
        self.reply.reason = Some(reason);
        self
    }

    fn header(self, name: &'static str, value: &'static str) -> Self {
        self.line(name, HeaderText::Static(value))
    }

    fn line(mut self, name: &'static str, value: HeaderText) -> Self {
        self.reply.headers.push(name, value);
        self
    }

    fn content_length(self) -> Self {
        let length = self.reply.body.len() as u64;
        self.line("Content-Length", HeaderText::Number(length))
    }

    /// The remaining lifetime of the request's token, if it had one.
    fn remaining(self, remaining: Option<u32>) -> Self {
        match remaining {
            Some(seconds) => self.line(TTL_HEADER, HeaderText::Number(seconds.into())),
            None => self,
        }
    }

    /// Date, Server and, if the connection closes, `Connection: close`.
    fn date_and_server(self, now: Moment) -> Self {
        let dated = self
            .line("Date", HeaderText::Date(now.wall))
            .header("Server", "EC2ws");
        match dated.reply.connection {
            Connection::Close => dated.header("Connection", "close"),
            Connection::KeepAlive => dated,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As observed on EC2.
    #[test]
    fn the_404_page_has_339_bytes() {
        assert_eq!(NOT_FOUND_PAGE.len(), 339);
        assert!(NOT_FOUND_PAGE.contains("\n\t\t \"http"));
        assert!(NOT_FOUND_PAGE.ends_with("</html>\n"));
    }
}
