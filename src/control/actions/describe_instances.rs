//! DescribeInstances: instances as EC2 writes them, by id, by filter, in pages. A terminated
//! instance stays for an hour.
//!
//! Instances are sorted by id. Pages count instances, so a reservation can continue on the next
//! page. Instances that the caller may not access are omitted.

use std::collections::HashMap;
use std::sync::Arc;

use crate::control::action::Action;
use crate::control::call::{ApiCall, ListCall};
use crate::control::error::Ec2Error;
use crate::control::instance_list::{InstanceList, InstanceListParameters};
use crate::control::instance_xml::{write_group, write_instance};
use crate::control::operation::{Input, Operation};
use crate::control::params::flag;
use crate::control::render::{ec2_response, shown_state};
use crate::control::xml::{ResponseBody, Xml};
use crate::instance::SecurityGroup;
use crate::registry::Entry;

/// The input of a call.
pub(super) struct DescribeInstances {
    list: InstanceList<Entry>,
    dry_run: bool,
}

impl Operation for DescribeInstances {
    fn read(Input { mut parameters, .. }: Input<'_>) -> Result<Self, Ec2Error> {
        let list = InstanceListParameters::take(&mut parameters);
        let dry_run = parameters.take("DryRun");
        parameters.finish()?;
        Ok(DescribeInstances {
            list: list.read()?,
            dry_run: flag("DryRun", dry_run.as_deref())?,
        })
    }

    async fn perform(self, call: &ApiCall<'_>) -> Result<ResponseBody, Ec2Error> {
        call.list(move |call| self.list(&call)).await
    }
}

impl DescribeInstances {
    fn list(&self, call: &ListCall) -> Result<ResponseBody, Ec2Error> {
        const ACTION: Action = Action::DescribeInstances;
        let entries = self.list.entries(ACTION, call)?;
        if self.dry_run {
            return Err(Ec2Error::dry_run());
        }
        let matching = entries
            .into_iter()
            .filter(|entry| self.list.filters.match_all(entry));
        let id = |entry: &&Arc<Entry>| entry.instance.instance_id.to_string();
        let (page, next) = self.list.page.of(matching, id);
        Ok(ec2_response(ACTION, &call.request_id, |xml| {
            xml.set("reservationSet", reservations(&page), |xml, reservation| {
                reservation.write(xml)
            });
            xml.optional("nextToken", next);
        }))
    }
}

/// Instances that were launched together.
struct Reservation<'e> {
    reservation_id: String,
    owner_id: &'e str,
    requester_id: Option<&'e str>,
    groups: &'e [SecurityGroup],
    entries: Vec<&'e Arc<Entry>>,
}

/// Groups instances by owner and reservation.
fn reservations<'e>(entries: &[&'e Arc<Entry>]) -> Vec<Reservation<'e>> {
    let mut reservations: Vec<Reservation<'e>> = Vec::new();
    let mut indices = HashMap::new();
    for entry in entries {
        let (owner_id, reservation_id) = (
            entry.instance.owner_id(),
            entry.instance.reservation_id().into_owned(),
        );
        let index = *indices
            .entry((owner_id, reservation_id.clone()))
            .or_insert(reservations.len());
        if index == reservations.len() {
            reservations.push(Reservation {
                reservation_id,
                owner_id,
                requester_id: entry.instance.imds.requester_id.as_deref(),
                groups: &entry.instance.imds.reservation_groups,
                entries: Vec::new(),
            });
        }
        reservations[index].entries.push(entry);
    }
    reservations
}

impl Reservation<'_> {
    fn write(&self, xml: &mut Xml) {
        xml.text("reservationId", &self.reservation_id);
        xml.text("ownerId", self.owner_id);
        xml.optional("requesterId", self.requester_id);
        xml.set("groupSet", self.groups, write_group);
        xml.set("instancesSet", &self.entries, |xml, entry| {
            write_instance(xml, &entry.instance, shown_state(entry));
        });
    }
}
