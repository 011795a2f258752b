//! Events: what is going to happen to an instance, and from when metadata shows it. Spot
//! interruptions, rebalance recommendations, scheduled maintenance, and the target lifecycle state
//! of an Auto Scaling group.
//!
//! | file | concept |
//! |---|---|
//! | `model`, `maintenance` | the events, and EC2's rules about when metadata shows them |
//! | [`overrides`] | leaves of the metadata tree that the operator sets or hides |
//! | [`timeline`] | scheduled changes of events and overrides |
//! | `schedule` | how an instance's timeline is read and changed |
//! | [`request`] | the operator's requests to inject events |
//! | [`injected_fault`] | slow, failing and missing answers, which no record contains |
//! | `event_duration` | durations in requests |

mod event_duration;
pub mod injected_fault;
mod maintenance;
mod model;
pub mod overrides;
pub mod request;
mod schedule;
pub mod timeline;

pub use maintenance::{
    MAX_MAINTENANCE, Maintenance, MaintenanceCode, MaintenanceState, event_id, event_id_fault,
};
pub use model::{
    Events, Rebalance, SPOT_NOTICE, SpotAction, SpotInterruption, TargetLifecycleState,
};
