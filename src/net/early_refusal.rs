//! Refusals of callers whose request is not read: the answer is written at once, so no client costs
//! more than the bytes of one.
//!
//! The connection then stays open for a moment, and what the client sends is discarded: a client that
//! still writes its request reads the answer, and gets no broken pipe. These connections have few
//! places. The oldest is closed if a new one needs its place, which loses nothing: its answer is in
//! the client's socket already.

use std::sync::Arc;
use std::time::Duration;

use rustix::net::{SendFlags, Shutdown};
use tokio::io::AsyncReadExt as _;
use tokio::net::UnixStream;

use super::drain::Drain;
use super::owner_slots::{EvictionOrder, OwnerSlot, OwnerSlots};

/// How long a refused client may take to send the rest of its request.
const OPEN_AFTER_ANSWER: Duration = Duration::from_secs(2);

/// The places of refused connections that are still open.
pub(super) struct EarlyRefusals(Arc<OwnerSlots<()>>);

/// A connection that has its answer.
pub(super) struct RefusedConnection {
    stream: UnixStream,
    /// `None` if it is closed at once.
    place: Option<OwnerSlot<()>>,
}

impl EarlyRefusals {
    /// Returns so many places.
    pub(super) fn new(places: usize) -> EarlyRefusals {
        EarlyRefusals(OwnerSlots::new(places, EvictionOrder::OldestFirst))
    }

    /// Writes the answer and ends this side of the connection. The answer must fit a socket's empty
    /// buffer.
    pub(super) fn refuse(&self, stream: UnixStream, answer: &[u8]) -> RefusedConnection {
        // A client that is gone needs no answer.
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        let _ = rustix::net::send(&stream, answer, flags);
        let _ = rustix::net::shutdown(&stream, Shutdown::Write);
        let place = self.0.take(());
        RefusedConnection { stream, place }
    }
}

impl RefusedConnection {
    /// Discards what the client sends, until it has closed its side or its time is over.
    pub(super) async fn discard_rest(mut self, mut drain: Drain) {
        let Some(place) = self.place else {
            return;
        };
        let mut discarded = [0; 1024];
        let read_to_end =
            async { while self.stream.read(&mut discarded).await.is_ok_and(|n| n > 0) {} };
        tokio::select! {
            () = read_to_end => {}
            () = place.evicted() => {}
            () = tokio::time::sleep(OPEN_AFTER_ANSWER) => {}
            () = drain.ending() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};

    use super::*;
    use crate::net::drain::DrainControl;

    fn pair() -> (UnixStream, std::os::unix::net::UnixStream) {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        (UnixStream::from_std(ours).unwrap(), theirs)
    }

    #[test]
    fn every_refused_client_has_its_answer_however_many_there_are_and_few_stay_open() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let (drain, refusals) = (DrainControl::new(), EarlyRefusals::new(2));
            let mut clients = Vec::new();
            let mut open = Vec::new();
            for number in 0..20 {
                let (ours, mut theirs) = pair();
                if number % 2 == 0 {
                    theirs.write_all(b"GET /").unwrap();
                }
                let refused = refusals.refuse(ours, b"busy");
                open.push(tokio::spawn(refused.discard_rest(drain.drain())));
                clients.push(theirs);
            }
            let last_two = open.split_off(18);
            for closed in open {
                closed.await.unwrap();
            }
            assert!(last_two.iter().all(|open| !open.is_finished()));
            // The last ones may still write.
            for client in &mut clients[18..] {
                client.write_all(b"the rest").unwrap();
            }
            for mut client in clients {
                let mut answer = [0; 4];
                client.read_exact(&mut answer).unwrap();
                assert_eq!(&answer, b"busy");
            }
            for closed in last_two {
                closed.await.unwrap();
            }
        });
    }
}
