//! The fast path against hyper.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Instant;

use super::fixed_service::{FixedService, with_tokens};
use crate::guest::fuzzing::{GUARDED, OPEN, origin_at};
use crate::http::Connection;
use crate::net::fast::fuzzing::{FastAnswer, answer};
use crate::net::fuzzing::answers;
use crate::net::slots::ConnectionSlots;

/// The bytes of one read: the fast path answers exactly as hyper does behind the head filter, or it
/// hands them over. `{token}` stands for a valid token.
pub fn fast_path(data: &[u8]) {
    let sent = with_tokens(data);
    let slots = ConnectionSlots::new(Arc::new(AtomicUsize::new(1)), None, Instant::now());
    let Ok(slot) = slots.take(Instant::now()) else {
        unreachable!("no other connection has a slot");
    };
    for listener in [OPEN, GUARDED] {
        let origin = origin_at(listener);
        let Some(fast) = answer(&sent, &FixedService, &origin, &slot) else {
            continue;
        };
        let slow = answers(&sent, &FixedService, &origin);
        let FastAnswer::Sent {
            bytes,
            hop_limit,
            connection,
        } = fast
        else {
            assert!(slow.is_empty(), "silence, and hyper answers");
            continue;
        };
        assert_eq!(
            String::from_utf8_lossy(&bytes),
            String::from_utf8_lossy(&slow)
        );
        assert_eq!(hop_limit.is_some(), sent.starts_with(b"PUT "));
        let head = bytes.windows(4).position(|four| four == b"\r\n\r\n");
        let head = String::from_utf8_lossy(&bytes[..head.expect("a head ends")]);
        let says_close = head.contains("\r\nConnection: close");
        assert_eq!(says_close, connection == Connection::Close);
    }
}
