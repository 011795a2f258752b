//! The latency lab: which faults operators injected, and what they do to each request.
//!
//! Off unless an operator injects something, and then loud: the log, the status of the daemon and
//! every list name it. Faults are kept in memory only, so a restart ends them: a daemon never hurts a
//! guest because of something that was forgotten.
//!
//! A fault costs the other guests nothing: without one, a request looks at one flag. A delay is a
//! timer that holds no thread and no turn. Time and randomness are arguments.

mod effect;
mod injected_faults;
mod instance_faults;

pub(crate) use effect::FaultEffect;
pub(crate) use injected_faults::InjectedFaults;
pub(crate) use instance_faults::InstanceFaults;
