//! The fast path: ordinary requests are answered without a task, a timer or an HTTP library.
//!
//! ```text
//! accept ─► read ─► ordinary head ─► the guest's turn ─► GuestTurn::answer ─► write ─► close
//!    │        │            │                │                                    │
//!    │   nothing yet   anything else   another's turn                       keep-alive
//!    ▼        ▼            ▼                ▼                                    ▼
//!  reset    a task       hyper            a task                          a task without hyper
//! ```
//!
//! Everything else takes the slow path with the bytes that were read: the head filter and
//! hyper. Both paths ask the same service and print the same reply, so a guest cannot see which one
//! it got. What holds for a connection holds on both: its launch, its slot, its guest's turn and
//! request rate, the hop limit before the first byte, the time for a head, the end of the daemon, and
//! the delivery of its last answer.

mod accept;
mod delivery;
mod exchange;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod head;
pub(super) mod kept;
#[cfg(test)]
mod tests;

pub(crate) use accept::{GuestListener, accept};
