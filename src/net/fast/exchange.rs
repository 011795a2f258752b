//! One exchange: an ordinary request that was read, and its answer.

use std::cell::RefCell;
use std::os::fd::AsFd;

use rustix::io::Errno;
use rustix::net::{SendFlags, send};

use super::head;
use crate::http::{Connection, RawRequest};
use crate::instance::HopLimit;
use crate::net::guest_service::{GuestService, GuestTurn};
use crate::net::reply_bytes::{self, PrintedDates, SentParts};
use crate::net::slots::ConnectionSlot;
use crate::origin::Origin;

/// The longest head of an ordinary request. Clients send a few hundred bytes.
const MAX_INPUT: usize = 2048;
/// A longer answer's memory is returned at once.
const MAX_KEPT_OUTPUT: usize = 64 * 1024;

/// What one thread reads into and writes from. No connection keeps a buffer.
pub(super) struct Buffers {
    input: Vec<u8>,
    output: Vec<u8>,
    dates: PrintedDates,
}

thread_local! {
    static BUFFERS: RefCell<Buffers> = RefCell::new(Buffers {
        input: vec![0; MAX_INPUT],
        output: Vec::new(),
        dates: PrintedDates::default(),
    });
}

/// What is decided about the bytes that were read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// They are not an ordinary request, or its answer has to wait: the slow path answers.
    HandedOver,
    /// There is no answer: the connection ends without a byte.
    Silence,
    /// The answer is in the output.
    Reply {
        /// The hop limit that its packets must have; `None` for the system's default.
        hop_limit: Option<HopLimit>,
        /// What happens to the connection after it.
        connection: Connection,
    },
}

/// Runs `work` with the buffers of this thread.
pub(super) fn with_buffers<T>(work: impl FnOnce(&mut Buffers) -> T) -> T {
    BUFFERS.with_borrow_mut(|buffers| {
        let result = work(buffers);
        if buffers.output.capacity() > MAX_KEPT_OUTPUT {
            buffers.output = Vec::new();
        }
        result
    })
}

impl Buffers {
    /// Returns what to read into.
    pub(super) fn input(&mut self) -> &mut [u8] {
        &mut self.input
    }

    /// Returns the first bytes of what was read.
    pub(super) fn read(&self, length: usize) -> &[u8] {
        &self.input[..length]
    }

    /// Answers what was read, if it is one ordinary request. The slot's connection is busy meanwhile.
    pub(super) fn answer(
        &mut self,
        length: usize,
        service: &dyn GuestService,
        origin: &Origin,
        slot: &ConnectionSlot,
    ) -> Answer {
        let Buffers {
            input,
            output,
            dates,
        } = self;
        output.clear();
        // A full buffer may not be all that was sent.
        if length == input.len() {
            return Answer::HandedOver;
        }
        let answered = head::with_request(&mut input[..length], |request| {
            let mut answer = Answer::Silence;
            service.in_turn(origin, &mut |turn| {
                answer = answer_in_turn(turn, request, slot, (output, dates));
            });
            answer
        });
        answered.unwrap_or(Answer::HandedOver)
    }

    /// Sends the answer, and returns how much of it the socket took.
    pub(super) fn send(&self, socket: impl AsFd) -> Result<usize, Errno> {
        match send(
            socket,
            &self.output,
            SendFlags::NOSIGNAL | SendFlags::DONTWAIT,
        ) {
            Err(Errno::WOULDBLOCK) => Ok(0),
            result => result,
        }
    }

    /// Returns what is left of the answer.
    pub(super) fn unsent(&self, sent: usize) -> &[u8] {
        &self.output[sent..]
    }
}

fn answer_in_turn(
    turn: &dyn GuestTurn,
    request: RawRequest<'_>,
    slot: &ConnectionSlot,
    (output, dates): (&mut Vec<u8>, &mut PrintedDates),
) -> Answer {
    // Injected faults are decided once for a request.
    if turn.has_faults() || turn.waits(request).is_some() {
        return Answer::HandedOver;
    }
    // An evicted connection is not answered.
    let Some(busy) = slot.begin() else {
        return Answer::Silence;
    };
    let reply = turn.answer(request);
    drop(busy);
    let Some(reply) = reply else {
        return Answer::Silence;
    };
    let parts = match request.method {
        "HEAD" => SentParts::Head,
        _ => SentParts::Whole,
    };
    reply_bytes::write(&reply, parts, dates, output);
    Answer::Reply {
        hop_limit: reply.hop_limit,
        connection: reply.connection,
    }
}
