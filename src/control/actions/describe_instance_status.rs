//! DescribeInstanceStatus: scheduled events, and the state of running instances; of all with
//! IncludeAllInstances.
//!
//! imdsd does not see the virtual machines, so the checks of a running instance have always passed.
//! A completed or canceled event is shown for a week after its end.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use crate::clock::iso_milliseconds;
use crate::control::action::Action;
use crate::control::call::{ApiCall, ListCall};
use crate::control::error::Ec2Error;
use crate::control::filters::{FilterValues, Filterable, one, optional};
use crate::control::instance_list::{InstanceList, InstanceListParameters};
use crate::control::operation::{Input, Operation};
use crate::control::params::flag;
use crate::control::render::{ec2_response, write_event, write_state};
use crate::control::xml::{ResponseBody, Xml};
use crate::instance::events::{Maintenance, MaintenanceState};
use crate::instance::{InstanceState, Tag};
use crate::registry::Entry;

/// How long an event is shown after its end.
const EVENT_SHOWN: SignedDuration = SignedDuration::from_hours(7 * 24);

/// The input of a call.
pub(super) struct DescribeInstanceStatus {
    list: InstanceList<InstanceStatus>,
    all_states: bool,
    dry_run: bool,
}

/// An instance and its events that are shown.
struct InstanceStatus {
    entry: Arc<Entry>,
    events: Vec<Maintenance>,
}

impl Filterable for InstanceStatus {
    const TAGS: Option<fn(&Self) -> &[Tag]> = None;
    const FILTERS: &'static [(&'static str, FilterValues<Self>)] = &[
        ("availability-zone", |status| {
            one(&status.entry.instance.placement.availability_zone)
        }),
        ("availability-zone-id", |status| {
            optional(&status.entry.instance.availability_zone_id())
        }),
        ("event.code", |status| {
            of_events(status, |event| Some(event.code.as_str().to_string()))
        }),
        ("event.description", |status| {
            of_events(status, |event| Some(event.shown_description()))
        }),
        ("event.instance-event-id", |status| {
            of_events(status, |event| Some(event.event_id.clone()))
        }),
        ("event.not-after", |status| {
            of_events(status, |event| event.not_after.map(iso_milliseconds))
        }),
        ("event.not-before", |status| {
            of_events(status, |event| Some(iso_milliseconds(event.not_before)))
        }),
        ("event.not-before-deadline", |status| {
            of_events(status, |event| {
                event.not_before_deadline.map(iso_milliseconds)
            })
        }),
        ("instance-state-code", |status| {
            one(status.entry.instance.state.code())
        }),
        ("instance-state-name", |status| {
            one(status.entry.instance.state.as_str())
        }),
        ("instance-status.reachability", |status| {
            reachability(status)
                .map(str::to_string)
                .into_iter()
                .collect()
        }),
        ("instance-status.status", |status| one(summary(status))),
        ("system-status.reachability", |status| {
            reachability(status)
                .map(str::to_string)
                .into_iter()
                .collect()
        }),
        ("system-status.status", |status| one(summary(status))),
    ];
}

impl Operation for DescribeInstanceStatus {
    fn read(Input { mut parameters, .. }: Input<'_>) -> Result<Self, Ec2Error> {
        let list = InstanceListParameters::take(&mut parameters);
        let all_states = parameters.take("IncludeAllInstances");
        let dry_run = parameters.take("DryRun");
        parameters.finish()?;
        Ok(DescribeInstanceStatus {
            list: list.read()?,
            all_states: flag("IncludeAllInstances", all_states.as_deref())?,
            dry_run: flag("DryRun", dry_run.as_deref())?,
        })
    }

    async fn perform(self, call: &ApiCall<'_>) -> Result<ResponseBody, Ec2Error> {
        call.list(move |call| self.list(&call)).await
    }
}

impl DescribeInstanceStatus {
    fn list(&self, call: &ListCall) -> Result<ResponseBody, Ec2Error> {
        const ACTION: Action = Action::DescribeInstanceStatus;
        let entries = self.list.entries(ACTION, call)?;
        if self.dry_run {
            return Err(Ec2Error::dry_run());
        }
        let statuses = entries
            .into_iter()
            .filter(|entry| self.all_states || entry.instance.state == InstanceState::Running)
            .map(|entry| InstanceStatus {
                entry: Arc::clone(entry),
                events: shown_events(entry, call.now.wall),
            })
            .filter(|status| self.list.filters.match_all(status));
        let id = |status: &InstanceStatus| status.entry.instance.instance_id.to_string();
        let (page, next) = self.list.page.of(statuses, id);
        Ok(ec2_response(ACTION, &call.request_id, |xml| {
            xml.set("instanceStatusSet", page, |xml, status| {
                write_status(xml, &status)
            });
            xml.optional("nextToken", next);
        }))
    }
}

fn shown_events(entry: &Entry, now: Timestamp) -> Vec<Maintenance> {
    let is_shown = |event: &&Maintenance| match event.state {
        MaintenanceState::Active => true,
        MaintenanceState::Completed | MaintenanceState::Canceled => {
            now.duration_since(event.not_after.unwrap_or(event.not_before)) < EVENT_SHOWN
        }
    };
    entry
        .instance
        .events_at(now)
        .maintenance
        .iter()
        .filter(is_shown)
        .cloned()
        .collect()
}

/// Returns a value of each event that has one.
fn of_events(
    status: &InstanceStatus,
    value: impl Fn(&Maintenance) -> Option<String>,
) -> Vec<String> {
    status.events.iter().filter_map(value).collect()
}

/// Returns the result of the status checks.
fn summary(status: &InstanceStatus) -> &'static str {
    match status.entry.instance.state {
        InstanceState::Running => "ok",
        InstanceState::Pending => "initializing",
        InstanceState::ShuttingDown
        | InstanceState::Terminated
        | InstanceState::Stopping
        | InstanceState::Stopped => "not-applicable",
    }
}

/// Returns the result of the reachability check, if there is one.
fn reachability(status: &InstanceStatus) -> Option<&'static str> {
    match status.entry.instance.state {
        InstanceState::Running => Some("passed"),
        InstanceState::Pending => Some("initializing"),
        InstanceState::ShuttingDown
        | InstanceState::Terminated
        | InstanceState::Stopping
        | InstanceState::Stopped => None,
    }
}

fn write_status(xml: &mut Xml, status: &InstanceStatus) {
    let instance = &status.entry.instance;
    xml.text("instanceId", &instance.instance_id);
    xml.text("availabilityZone", &instance.placement.availability_zone);
    xml.optional("availabilityZoneId", instance.availability_zone_id());
    if !status.events.is_empty() {
        xml.set("eventsSet", &status.events, write_event);
    }
    write_state(xml, "instanceState", instance.state);
    for name in ["systemStatus", "instanceStatus"] {
        xml.element(name, |xml| {
            xml.text("status", summary(status));
            if let Some(reachability) = reachability(status) {
                xml.set("details", [reachability], |xml, reachability| {
                    xml.text("name", "reachability");
                    xml.text("status", reachability);
                });
            }
        });
    }
}
