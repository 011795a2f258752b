//! The input that DescribeInstances and DescribeInstanceStatus share: ids, filters and pages.

use std::sync::Arc;

use super::action::Action;
use super::call::ListCall;
use super::error::Ec2Error;
use super::filters::{Filterable, Filters};
use super::pages::{Page, PageParameters};
use super::params::{Parameters, flag};
use super::syntax::read_instance_ids;
use crate::instance::InstanceId;
use crate::registry::Entry;

/// The parameters of a list of instances, not parsed yet.
pub(super) struct InstanceListParameters {
    instance_ids: Vec<String>,
    filters: Vec<(Option<String>, Vec<String>)>,
    page: PageParameters,
    managed: Option<String>,
}

/// A list of instances that a call requests; `T` is what it filters.
pub(super) struct InstanceList<T> {
    /// Empty: all instances.
    instance_ids: Vec<InstanceId>,
    pub(super) filters: Filters<T>,
    pub(super) page: Page,
}

impl InstanceListParameters {
    /// Takes the parameters from those of the call.
    pub(super) fn take(parameters: &mut Parameters) -> InstanceListParameters {
        InstanceListParameters {
            instance_ids: parameters.take_list("InstanceId"),
            filters: parameters.take_filters(),
            page: PageParameters::take(parameters),
            managed: parameters.take("IncludeManagedResources"),
        }
    }

    /// Parses the parameters.
    pub(super) fn read<T: Filterable>(self) -> Result<InstanceList<T>, Ec2Error> {
        if !self.instance_ids.is_empty() {
            self.page.refuse_with_ids()?;
        }
        // No instance is managed here, so the flag changes nothing.
        flag("IncludeManagedResources", self.managed.as_deref())?;
        Ok(InstanceList {
            instance_ids: read_instance_ids(&self.instance_ids)?,
            filters: Filters::read(self.filters)?,
            page: self.page.read(|text| InstanceId::parse(text).is_some())?,
        })
    }
}

impl<T> InstanceList<T> {
    /// Returns whether the call names instances.
    pub(super) fn has_ids(&self) -> bool {
        !self.instance_ids.is_empty()
    }

    /// Returns the instances that the caller may access, sorted by id; filters and page are not
    /// applied yet.
    pub(super) fn entries<'c>(
        &self,
        action: Action,
        call: &'c ListCall,
    ) -> Result<Vec<&'c Arc<Entry>>, Ec2Error> {
        let mut entries = call
            .caller
            .list_instances(action, &call.snapshot, &self.instance_ids)?;
        entries.sort_by(|one, other| one.instance.instance_id.cmp(&other.instance.instance_id));
        Ok(entries)
    }

    /// Like [`entries`](Self::entries), of a list that must not show an instance that the caller may
    /// not describe.
    pub(super) fn describable_entries<'c>(
        &self,
        action: Action,
        call: &'c ListCall,
    ) -> Result<Vec<&'c Arc<Entry>>, Ec2Error> {
        call.caller
            .describable_instances(action, &call.snapshot, &self.instance_ids)
    }
}
