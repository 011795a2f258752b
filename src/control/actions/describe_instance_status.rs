//! DescribeInstanceStatus: scheduled events, and whether an instance runs. Only running ones, unless IncludeAllInstances.
//!
//! imdsd sees no machines, so the checks of a running instance have always passed. An event that was completed or
//! canceled stays for a week behind its end.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::{Action, Call, Listing, ec2_document, read_instance_ids, write_state};
use crate::clock::iso_milliseconds;
use crate::control::error::Ec2Error;
use crate::control::filters::{Filtered, Filters, ValuesOf, one};
use crate::control::pages::{Page, PageParameters};
use crate::control::params::{Parameters, flag};
use crate::control::xml::{Document, Xml};
use crate::instance::events::{Maintenance, MaintenanceState};
use crate::instance::{InstanceId, InstanceState, Tag};
use crate::registry::Entry;

/// How long an event that is over is shown.
const EVENT_SHOWN: SignedDuration = SignedDuration::from_hours(7 * 24);

/// The input of one call.
pub(super) struct DescribeInstanceStatus {
    /// None: all instances.
    instance_ids: Vec<InstanceId>,
    filters: Filters<Status>,
    page: Page,
    all_states: bool,
    dry_run: bool,
}

/// One instance, and the events of it that are shown.
struct Status {
    entry: Arc<Entry>,
    events: Vec<Maintenance>,
}

impl Filtered for Status {
    const TAGS: Option<fn(&Self) -> &[Tag]> = None;
    const FILTERS: &'static [(&'static str, ValuesOf<Self>)] = &[
        ("availability-zone", |status| {
            one(&status.entry.instance.placement.availability_zone)
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

impl DescribeInstanceStatus {
    pub(super) fn read(mut parameters: Parameters) -> Result<Self, Ec2Error> {
        let instance_ids = parameters.take_list("InstanceId");
        let filters = parameters.take_filters();
        let page = PageParameters::take(&mut parameters);
        let all_states = parameters.take("IncludeAllInstances");
        let managed = parameters.take("IncludeManagedResources");
        let dry_run = parameters.take("DryRun");
        parameters.finish()?;
        if !instance_ids.is_empty() {
            page.refuse_with_ids()?;
        }
        // There are no managed instances here, with or without the flag.
        flag("IncludeManagedResources", managed.as_deref())?;
        Ok(DescribeInstanceStatus {
            instance_ids: read_instance_ids(&instance_ids)?,
            filters: Filters::read(filters)?,
            page: page.read(|text| InstanceId::parse(text).is_some())?,
            all_states: flag("IncludeAllInstances", all_states.as_deref())?,
            dry_run: flag("DryRun", dry_run.as_deref())?,
        })
    }

    pub(super) async fn perform(self, call: &Call<'_>) -> Result<Document, Ec2Error> {
        call.list(move |listing| self.list(&listing)).await
    }

    fn list(&self, listing: &Listing) -> Result<Document, Ec2Error> {
        const ACTION: Action = Action::DescribeInstanceStatus;
        let mut entries = listing
            .caller
            .listed(ACTION, &listing.snapshot, &self.instance_ids)?;
        if self.dry_run {
            return Err(Ec2Error::dry_run());
        }
        entries.sort_by(|one, other| one.instance.instance_id.cmp(&other.instance.instance_id));
        let statuses = entries
            .into_iter()
            .filter(|entry| self.all_states || entry.instance.state == InstanceState::Running)
            .map(|entry| Status {
                entry: Arc::clone(entry),
                events: shown_events(entry, listing.now.wall),
            })
            .filter(|status| self.filters.match_all(status));
        let (page, next) = self.page.of(statuses, |status| {
            status.entry.instance.instance_id.to_string()
        });
        Ok(ec2_document(ACTION, &listing.request_id, |xml| {
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

fn of_events(status: &Status, value: impl Fn(&Maintenance) -> Option<String>) -> Vec<String> {
    status.events.iter().filter_map(value).collect()
}

fn summary(status: &Status) -> &'static str {
    match status.entry.instance.state {
        InstanceState::Running => "ok",
        InstanceState::Pending => "initializing",
        InstanceState::ShuttingDown
        | InstanceState::Terminated
        | InstanceState::Stopping
        | InstanceState::Stopped => "not-applicable",
    }
}

fn reachability(status: &Status) -> Option<&'static str> {
    match status.entry.instance.state {
        InstanceState::Running => Some("passed"),
        InstanceState::Pending => Some("initializing"),
        InstanceState::ShuttingDown
        | InstanceState::Terminated
        | InstanceState::Stopping
        | InstanceState::Stopped => None,
    }
}

fn write_status(xml: &mut Xml, status: &Status) {
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

/// One event, as two actions show it.
pub(super) fn write_event(xml: &mut Xml, event: &Maintenance) {
    xml.text("instanceEventId", &event.event_id);
    xml.text("code", event.code.as_str());
    xml.text("description", event.shown_description());
    xml.optional("notAfter", event.not_after.map(iso_milliseconds));
    xml.text("notBefore", iso_milliseconds(event.not_before));
    xml.optional(
        "notBeforeDeadline",
        event.not_before_deadline.map(iso_milliseconds),
    );
}
