//! `POST /v1/explain`: which instance an attachment or an address belongs to, how a request from
//! there would be answered, and the reason for each.
//!
//! The steps follow a packet: an instance holds the attachment, it is running, its listener is
//! open, a socket listens, then the gate decides. The answer comes from the gate itself, through
//! the daemon; its rules are not repeated here. If a packet would end before the gate, the answer
//! still says what the gate would decide, and that no request gets there.

mod attachments;
mod handler;
mod question;
mod reach;

pub(super) use handler::explain;
