//! From arguments to the event of the admin API.

use serde_json::Value;

use super::args::{EventCommand, FaultArgs, InjectionArgs, KindArg, StartArgs, TargetArgs};
use crate::instance::events::injected_fault::{
    FaultAnswer, FaultPath, FaultRequest, FaultsToClear,
};
use crate::instance::events::request::{
    ClearRequest, Event, EventReference, EventTime, LifecycleRequest, MaintenanceRequest,
    MetadataRequest, PathReference, RebalanceLead, SpotRequest, Targets,
};
use crate::instance::events::timeline::EventKind;

/// Returns the event that a subcommand injects; `None` for those that inject none.
pub(super) fn event_of(command: EventCommand) -> Option<(Event, InjectionArgs)> {
    Some(match command {
        EventCommand::Spot {
            action,
            time,
            rebalance_before,
            no_rebalance,
            injection,
        } => {
            let rebalance = match (rebalance_before, no_rebalance) {
                (Some(length), _) => RebalanceLead::Before(length),
                (None, true) => RebalanceLead::None,
                (None, false) => RebalanceLead::Usual,
            };
            let spot = SpotRequest {
                action,
                time,
                rebalance,
            };
            (Event::Spot(spot), injection)
        }
        EventCommand::Rebalance { injection } => (Event::Rebalance {}, injection),
        EventCommand::Maintenance {
            code,
            not_before,
            not_after,
            not_before_deadline,
            description,
            event_id,
            injection,
        } => {
            let request = MaintenanceRequest {
                code,
                not_before,
                not_after,
                not_before_deadline,
                description,
                event_id,
            };
            (Event::Maintenance(request), injection)
        }
        EventCommand::Complete {
            event_id,
            injection,
        } => (Event::Complete(EventReference { event_id }), injection),
        EventCommand::Cancel {
            event_id,
            injection,
        } => (Event::Cancel(EventReference { event_id }), injection),
        EventCommand::Lifecycle { state, injection } => {
            (Event::Lifecycle(LifecycleRequest { state }), injection)
        }
        EventCommand::Set {
            path,
            value,
            injection,
            ..
        } => {
            let value = value.map_or(Value::Null, Value::String);
            (Event::Metadata(MetadataRequest { path, value }), injection)
        }
        EventCommand::Restore { path, injection } => {
            (Event::Restore(PathReference { path }), injection)
        }
        EventCommand::Clear { kinds, injection } => {
            let kinds = kinds_to_clear(&kinds);
            (Event::Clear(ClearRequest { kinds }), injection)
        }
        EventCommand::Fault {
            path,
            fault,
            injection,
        } => (fault_event(path, &fault), injection),
        EventCommand::Play { .. } | EventCommand::List { .. } => return None,
    })
}

fn fault_event(path: Option<FaultPath>, fault: &FaultArgs) -> Event {
    let path = match path {
        Some(path) if !fault.clear => path,
        path => return Event::ClearFaults(FaultsToClear { path }),
    };
    let answer = match (fault.status, fault.drop, fault.cut) {
        (Some(status), _, _) => Some(FaultAnswer::Status(status)),
        (None, true, _) => Some(FaultAnswer::Drop),
        (None, false, true) => Some(FaultAnswer::Cut),
        (None, false, false) => None,
    };
    Event::Fault(FaultRequest {
        path,
        probability: fault.probability,
        throttle: fault.throttle,
        lasts: fault.lasts,
        delay: fault.delay,
        jitter: fault.jitter,
        answer,
    })
}

/// Overrides are not announcements, so they are cleared only if they are named.
fn kinds_to_clear(named: &[KindArg]) -> Vec<EventKind> {
    if named.is_empty() {
        let all = EventKind::ALL.into_iter();
        return all.filter(|kind| *kind != EventKind::Overrides).collect();
    }
    named.iter().map(|kind| kind.kind()).collect()
}

impl KindArg {
    fn kind(self) -> EventKind {
        match self {
            KindArg::Spot => EventKind::Spot,
            KindArg::Rebalance => EventKind::Rebalance,
            KindArg::Maintenance => EventKind::Maintenance,
            KindArg::Lifecycle => EventKind::TargetLifecycleState,
            KindArg::Overrides => EventKind::Overrides,
        }
    }
}

impl TargetArgs {
    pub(super) fn targets(&self) -> Option<Targets> {
        match (&self.instance, &self.tag, self.all) {
            (Some(id), _, _) => Some(Targets::Instance(id.clone())),
            (None, Some(tag), _) => Some(Targets::Tag(tag.clone())),
            (None, None, true) => Some(Targets::All),
            (None, None, false) => None,
        }
    }
}

impl StartArgs {
    pub(super) fn when(&self) -> Option<EventTime> {
        match (self.after, self.at) {
            (Some(length), _) => Some(EventTime::After(length)),
            (None, Some(time)) => Some(EventTime::At(time)),
            (None, None) => None,
        }
    }
}
