//! DescribeRegions: the regions of the instances that the caller may describe, those that calls may
//! be signed for, and the one of this call. Each has the endpoint that the caller used.

use std::collections::BTreeSet;

use crate::control::action::Action;
use crate::control::call::{ApiCall, ListCall};
use crate::control::error::Ec2Error;
use crate::control::filters::{FilterValues, Filterable, Filters, one};
use crate::control::operation::{Input, Operation};
use crate::control::params::flag;
use crate::control::policy::rules::Target;
use crate::control::render::ec2_response;
use crate::control::xml::ResponseBody;
use crate::instance::Tag;
use crate::sigv4::Regions;

/// The input of a call.
pub(super) struct DescribeRegions {
    /// Empty: all regions.
    names: Vec<String>,
    filters: Filters<Region>,
    dry_run: bool,
}

struct Region {
    name: String,
    endpoint: String,
}

/// No region needs an opt-in here.
const OPT_IN: &str = "opt-in-not-required";

impl Filterable for Region {
    const TAGS: Option<fn(&Self) -> &[Tag]> = None;
    const FILTERS: &'static [(&'static str, FilterValues<Self>)] = &[
        ("endpoint", |region| one(&region.endpoint)),
        ("opt-in-status", |_| one(OPT_IN)),
        ("region-name", |region| one(&region.name)),
    ];
}

impl Operation for DescribeRegions {
    fn read(Input { mut parameters, .. }: Input<'_>) -> Result<Self, Ec2Error> {
        let names = parameters.take_list("RegionName");
        let filters = parameters.take_filters();
        let all = parameters.take("AllRegions");
        let dry_run = parameters.take("DryRun");
        parameters.finish()?;
        // Every region is enabled, so the flag changes nothing.
        flag("AllRegions", all.as_deref())?;
        Ok(DescribeRegions {
            names,
            filters: Filters::read(filters)?,
            dry_run: flag("DryRun", dry_run.as_deref())?,
        })
    }

    async fn perform(self, call: &ApiCall<'_>) -> Result<ResponseBody, Ec2Error> {
        let configured = call.regions.clone();
        call.list(move |call| self.list(&call, &configured)).await
    }
}

impl DescribeRegions {
    fn list(&self, call: &ListCall, configured: &Regions) -> Result<ResponseBody, Ec2Error> {
        const ACTION: Action = Action::DescribeRegions;
        call.caller
            .authorize(ACTION, &Vec::new(), Target::Account)?;
        let names = regions(call, configured);
        if let Some(name) = self.names.iter().find(|name| !names.contains(*name)) {
            return Err(Ec2Error::invalid_value(format!(
                "Invalid region provided: '{name}'"
            )));
        }
        if self.dry_run {
            return Err(Ec2Error::dry_run());
        }
        let regions = names
            .into_iter()
            .filter(|name| self.names.is_empty() || self.names.contains(name))
            .map(|name| Region {
                name,
                endpoint: call.caller.endpoint.clone(),
            })
            .filter(|region| self.filters.match_all(region));
        Ok(ec2_response(ACTION, &call.request_id, |xml| {
            xml.set("regionInfo", regions, |xml, region| {
                xml.text("regionName", region.name);
                xml.text("regionEndpoint", region.endpoint);
                xml.text("optInStatus", OPT_IN);
            });
        }))
    }
}

/// Returns the names of the regions that the caller sees.
fn regions(call: &ListCall, configured: &Regions) -> BTreeSet<String> {
    let mut names = BTreeSet::from([call.caller.region.clone()]);
    match configured {
        Regions::Any => {}
        Regions::These(configured) => names.extend(configured.iter().cloned()),
    }
    names.extend(
        call.caller
            .described_instances(&call.snapshot)
            .map(|entry| entry.instance.region().to_string()),
    );
    names
}
