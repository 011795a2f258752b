//! One exchange of the fast path without its socket, for fuzz targets.

use super::exchange::{Answer, with_buffers};
use crate::http::Connection;
use crate::instance::HopLimit;
use crate::net::guest_service::GuestService;
use crate::net::slots::ConnectionSlot;
use crate::origin::Origin;

/// What the fast path does with the bytes of one read, unless it hands them over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum FastAnswer {
    /// The connection ends without a byte.
    Silence,
    /// It sends an answer.
    Sent {
        /// The bytes.
        bytes: Vec<u8>,
        /// The hop limit of their packets.
        hop_limit: Option<HopLimit>,
        /// What happens to the connection.
        connection: Connection,
    },
}

/// Returns the answer of the fast path to the bytes of one read; `None` if it hands them over.
pub(crate) fn answer(
    bytes: &[u8],
    service: &dyn GuestService,
    origin: &Origin,
    slot: &ConnectionSlot,
) -> Option<FastAnswer> {
    with_buffers(|buffers| {
        let input = buffers.input();
        // More than fits is a full buffer, and the rest is read later.
        let length = bytes.len().min(input.len());
        input[..length].copy_from_slice(&bytes[..length]);
        match buffers.answer(length, service, origin, slot) {
            Answer::HandedOver => None,
            Answer::Silence => Some(FastAnswer::Silence),
            Answer::Reply {
                hop_limit,
                connection,
            } => Some(FastAnswer::Sent {
                bytes: buffers.unsent(0).to_vec(),
                hop_limit,
                connection,
            }),
        }
    })
}
