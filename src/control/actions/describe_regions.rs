//! DescribeRegions: the regions of the instances, those that calls may be signed for, and the caller's own. Each is here:
//! its endpoint is where the caller reached us.

use std::collections::BTreeSet;

use super::{Action, Call};
use crate::control::error::Ec2Error;
use crate::control::filters::{Filtered, Filters, ValuesOf, one};
use crate::control::params::{Parameters, flag};
use crate::control::policy::Target;
use crate::control::xml::Document;
use crate::instance::Tag;
use crate::sigv4::Regions;

/// The input of one call.
pub(super) struct DescribeRegions {
    /// None: all.
    names: Vec<String>,
    filters: Filters<Region>,
    dry_run: bool,
}

struct Region {
    name: String,
    endpoint: String,
}

/// No region has to be opted into here.
const OPT_IN: &str = "opt-in-not-required";

impl Filtered for Region {
    const TAGS: Option<fn(&Self) -> &[Tag]> = None;
    const FILTERS: &'static [(&'static str, ValuesOf<Self>)] = &[
        ("endpoint", |region| one(&region.endpoint)),
        ("opt-in-status", |_| one(OPT_IN)),
        ("region-name", |region| one(&region.name)),
    ];
}

impl DescribeRegions {
    pub(super) fn read(mut parameters: Parameters) -> Result<Self, Ec2Error> {
        let names = parameters.take_list("RegionName");
        let filters = parameters.take_filters();
        let all = parameters.take("AllRegions");
        let dry_run = parameters.take("DryRun");
        parameters.finish()?;
        // All there are, are enabled.
        flag("AllRegions", all.as_deref())?;
        Ok(DescribeRegions {
            names,
            filters: Filters::read(filters)?,
            dry_run: flag("DryRun", dry_run.as_deref())?,
        })
    }

    pub(super) fn perform(self, call: &Call<'_>) -> Result<Document, Ec2Error> {
        const ACTION: Action = Action::DescribeRegions;
        call.caller.may(ACTION, &Vec::new(), Target::Account)?;
        let names = regions(call);
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
        Ok(call.document(ACTION, |xml| {
            xml.set("regionInfo", regions, |xml, region| {
                xml.text("regionName", region.name);
                xml.text("regionEndpoint", region.endpoint);
                xml.text("optInStatus", OPT_IN);
            });
        }))
    }
}

fn regions(call: &Call<'_>) -> BTreeSet<String> {
    let mut names = BTreeSet::from([call.caller.region.clone()]);
    match call.regions {
        Regions::Any => {}
        Regions::These(configured) => names.extend(configured.iter().cloned()),
    }
    names.extend(
        call.registry
            .snapshot()
            .entries()
            .map(|entry| entry.instance.region().to_string()),
    );
    names
}
