//! DescribeAvailabilityZones: the zones of the instances that the caller may describe, in all
//! regions.

use std::collections::BTreeMap;

use crate::control::action::Action;
use crate::control::call::{ApiCall, ListCall};
use crate::control::error::Ec2Error;
use crate::control::filters::{FilterValues, Filterable, Filters, one, optional};
use crate::control::operation::{Input, Operation};
use crate::control::params::flag;
use crate::control::policy::rules::Target;
use crate::control::render::ec2_response;
use crate::control::xml::ResponseBody;
use crate::instance::Tag;

/// The input of a call.
pub(super) struct DescribeAvailabilityZones {
    /// Empty: all zones.
    names: Vec<String>,
    ids: Vec<String>,
    filters: Filters<Zone>,
    dry_run: bool,
}

struct Zone {
    name: String,
    id: Option<String>,
    region: String,
}

const STATE: &str = "available";
const KIND: &str = "availability-zone";
const OPT_IN: &str = "opt-in-not-required";

impl Filterable for Zone {
    const TAGS: Option<fn(&Self) -> &[Tag]> = None;
    const FILTERS: &'static [(&'static str, FilterValues<Self>)] = &[
        ("group-name", |zone| one(&zone.region)),
        ("opt-in-status", |_| one(OPT_IN)),
        ("region-name", |zone| one(&zone.region)),
        ("state", |_| one(STATE)),
        ("zone-id", |zone| optional(&zone.id)),
        ("zone-name", |zone| one(&zone.name)),
        ("zone-type", |_| one(KIND)),
    ];
}

impl Operation for DescribeAvailabilityZones {
    fn read(Input { mut parameters, .. }: Input<'_>) -> Result<Self, Ec2Error> {
        let names = parameters.take_list("ZoneName");
        let ids = parameters.take_list("ZoneId");
        let filters = parameters.take_filters();
        let all = parameters.take("AllAvailabilityZones");
        let dry_run = parameters.take("DryRun");
        parameters.finish()?;
        flag("AllAvailabilityZones", all.as_deref())?;
        Ok(DescribeAvailabilityZones {
            names,
            ids,
            filters: Filters::read(filters)?,
            dry_run: flag("DryRun", dry_run.as_deref())?,
        })
    }

    async fn perform(self, call: &ApiCall<'_>) -> Result<ResponseBody, Ec2Error> {
        call.list(move |call| self.list(&call)).await
    }
}

impl DescribeAvailabilityZones {
    fn list(&self, call: &ListCall) -> Result<ResponseBody, Ec2Error> {
        const ACTION: Action = Action::DescribeAvailabilityZones;
        call.caller
            .authorize(ACTION, &Vec::new(), Target::Account)?;
        let zones = zones(call);
        let unknown = |name: &&String| !zones.iter().any(|zone| zone.name == **name);
        if let Some(name) = self.names.iter().find(unknown) {
            return Err(Ec2Error::invalid_value(format!(
                "Invalid availability zone: [{name}]"
            )));
        }
        let unknown = |id: &&String| !zones.iter().any(|zone| zone.id.as_ref() == Some(*id));
        if let Some(id) = self.ids.iter().find(unknown) {
            return Err(Ec2Error::invalid_value(format!(
                "Invalid availability zone-id: [{id}]"
            )));
        }
        if self.dry_run {
            return Err(Ec2Error::dry_run());
        }
        let zones = zones
            .into_iter()
            .filter(|zone| self.names.is_empty() || self.names.contains(&zone.name))
            .filter(|zone| {
                self.ids.is_empty() || zone.id.as_ref().is_some_and(|id| self.ids.contains(id))
            })
            .filter(|zone| self.filters.match_all(zone));
        Ok(ec2_response(ACTION, &call.request_id, |xml| {
            xml.set("availabilityZoneInfo", zones, |xml, zone| {
                xml.text("zoneName", &zone.name);
                xml.text("zoneState", STATE);
                xml.text("regionName", &zone.region);
                xml.set("messageSet", [(); 0], |_, ()| {});
                xml.text("optInStatus", OPT_IN);
                xml.optional("zoneId", zone.id.as_ref());
                xml.text("groupName", &zone.region);
                xml.text("networkBorderGroup", &zone.region);
                xml.text("zoneType", KIND);
            });
        }))
    }
}

/// Returns the zones of the instances that the caller may describe, by name.
fn zones(call: &ListCall) -> Vec<Zone> {
    let mut zones = BTreeMap::new();
    for entry in call.caller.described_instances(&call.snapshot) {
        let instance = &entry.instance;
        let name = instance.placement.availability_zone.clone();
        zones.entry(name.clone()).or_insert_with(|| Zone {
            name: name.to_string(),
            id: instance
                .availability_zone_id()
                .map(std::borrow::Cow::into_owned),
            region: instance.region().to_string(),
        });
    }
    zones.into_values().collect()
}
