//! Lists of what instances refer to: volumes, network interfaces, security groups, subnets and so
//! on. imdsd creates none of these. It lists those that instance documents name, with what the
//! documents say about them, so that tools that read them beside an instance find them.
//!
//! A caller sees a resource through the instances that refer to it: those for which its rules allow
//! the action and DescribeInstances. Any other resource does not exist for the caller, not even by
//! its id. A terminated instance refers to nothing.
//!
//! EC2 distinguishes malformed ids from unknown ones for some resources. Here both are not found.

use std::collections::btree_map::Entry as Place;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use super::action::Action;
use super::call::{ApiCall, ListCall};
use super::error::{Code, Ec2Error};
use super::filters::{Filterable, Filters};
use super::operation::{Input, Operation};
use super::pages::{Page, PageParameters};
use super::params::{Parameters, flag};
use super::render::ec2_response;
use super::xml::{ResponseBody, Xml};
use crate::instance::{InstanceState, Tag};
use crate::registry::Entry;

/// A kind of resource that a describe action lists.
pub(super) trait ListedResource: Filterable + Send {
    /// The action that lists it.
    const ACTION: Action;
    /// What a call can name it by.
    const NAMES: &'static [Name<Self>];
    /// The element around the list.
    const SET: &'static str;
    /// Whether EC2 has pages of it.
    const IS_PAGED: bool = true;
    /// A flag of the action beside DryRun.
    const FLAG: Option<&'static str> = None;

    /// Returns the resources that an instance refers to.
    fn of(entry: &Arc<Entry>) -> Vec<Self>;

    /// Returns a resource that exists without an instance, by its first name.
    fn unreferenced(_name: &str) -> Option<Self> {
        None
    }

    /// Returns what is unique to the resource, and the order of the list.
    fn key(&self) -> String;

    /// Takes what another instance says about the same resource.
    fn merge(&mut self, _other: Self) {}

    /// Writes one resource; `flag` is the value of [`Self::FLAG`].
    fn write(&self, xml: &mut Xml, flag: bool);
}

/// A parameter that names resources, such as `VolumeId.N`.
pub(super) struct Name<T> {
    /// The parameter without its number.
    pub(super) parameter: &'static str,
    /// Returns the name of a resource.
    pub(super) of: fn(&T) -> String,
    /// EC2's error for a name that does not exist.
    pub(super) unknown: NotFound,
}

/// EC2's error for a resource that does not exist.
pub(super) struct NotFound {
    pub(super) code: Code,
    /// `{}` is the name.
    pub(super) message: &'static str,
}

/// The input of a call.
pub(super) struct ResourceList<T: 'static> {
    /// For each [`ListedResource::NAMES`] the values in the call.
    names: Vec<BTreeSet<String>>,
    filters: Filters<T>,
    page: Page,
    flag: bool,
    dry_run: bool,
}

impl<T: ListedResource> Operation for ResourceList<T> {
    fn read(Input { mut parameters, .. }: Input<'_>) -> Result<Self, Ec2Error> {
        let names = T::NAMES
            .iter()
            .map(|name| take_names(&mut parameters, name.parameter))
            .collect::<Result<_, _>>()?;
        let filters = parameters.take_filters();
        let page = match T::IS_PAGED {
            true => PageParameters::take(&mut parameters),
            false => PageParameters::default(),
        };
        let dry_run = parameters.take("DryRun");
        let named_flag = T::FLAG.map(|name| (name, parameters.take(name)));
        parameters.finish()?;
        Ok(ResourceList {
            names,
            filters: Filters::read(filters)?,
            page: page.read(|key| !key.is_empty())?,
            flag: named_flag.map_or(Ok(false), |(name, value)| flag(name, value.as_deref()))?,
            dry_run: flag("DryRun", dry_run.as_deref())?,
        })
    }

    async fn perform(self, call: &ApiCall<'_>) -> Result<ResponseBody, Ec2Error> {
        call.list(move |call| self.list(&call)).await
    }
}

impl<T: ListedResource> ResourceList<T> {
    fn list(&self, call: &ListCall) -> Result<ResponseBody, Ec2Error> {
        let mut visible = visible::<T>(T::ACTION, call)?;
        for name in self.names.first().into_iter().flatten() {
            if let Some(resource) = T::unreferenced(name) {
                visible.entry(resource.key()).or_insert(resource);
            }
        }
        self.refuse_unknown(&visible)?;
        if self.dry_run {
            return Err(Ec2Error::dry_run());
        }
        let matching = visible
            .into_values()
            .filter(|resource| self.is_named(resource) && self.filters.match_all(resource));
        let (page, next) = self.page.of(matching, T::key);
        Ok(ec2_response(T::ACTION, &call.request_id, |xml| {
            xml.set(T::SET, &page, |xml, resource| {
                resource.write(xml, self.flag)
            });
            xml.optional("nextToken", next);
        }))
    }

    /// Refuses names that the caller sees no resource of.
    fn refuse_unknown(&self, visible: &BTreeMap<String, T>) -> Result<(), Ec2Error> {
        for (name, values) in T::NAMES.iter().zip(&self.names) {
            if values.is_empty() {
                continue;
            }
            let known: HashSet<String> = visible.values().map(name.of).collect();
            if let Some(unknown) = values.iter().find(|value| !known.contains(*value)) {
                return Err(name.unknown.error(unknown));
            }
        }
        Ok(())
    }

    /// Returns whether the call names the resource, or none at all.
    fn is_named(&self, resource: &T) -> bool {
        let by_name = |(name, values): (&Name<T>, &BTreeSet<String>)| {
            !values.is_empty() && values.contains(&(name.of)(resource))
        };
        self.names.iter().all(BTreeSet::is_empty) || T::NAMES.iter().zip(&self.names).any(by_name)
    }
}

impl NotFound {
    /// Returns the error for a name.
    pub(super) fn error(&self, name: &str) -> Ec2Error {
        Ec2Error::new(self.code, self.message.replace("{}", name))
    }
}

/// Returns the resources that the caller sees by an action, by key.
pub(super) fn visible<T: ListedResource>(
    action: Action,
    call: &ListCall,
) -> Result<BTreeMap<String, T>, Ec2Error> {
    let mut resources: BTreeMap<String, T> = BTreeMap::new();
    let entries = call
        .caller
        .describable_instances(action, &call.snapshot, &[])?;
    let is_there = |entry: &&Arc<Entry>| entry.instance.state != InstanceState::Terminated;
    for resource in entries.into_iter().filter(is_there).flat_map(T::of) {
        match resources.entry(resource.key()) {
            Place::Vacant(place) => drop(place.insert(resource)),
            Place::Occupied(mut place) => place.get_mut().merge(resource),
        }
    }
    Ok(resources)
}

/// Takes `<name>.N`.
fn take_names(parameters: &mut Parameters, name: &str) -> Result<BTreeSet<String>, Ec2Error> {
    let names = parameters.take_list(name);
    match names.iter().any(String::is_empty) {
        true => Err(Ec2Error::missing_parameter(name)),
        false => Ok(names.into_iter().collect()),
    }
}

/// Returns the tags of a resource that has none. Only instances have tags here.
pub(super) fn no_tags<T>(_: &T) -> &[Tag] {
    &[]
}

/// Writes the empty tags of a resource.
pub(super) fn write_no_tags(xml: &mut Xml) {
    xml.set("tagSet", [(); 0], |_, ()| {});
}

/// Returns an id for something that documents do not number: `prefix` and 17 hexadecimal digits,
/// always the same for the same name.
pub(super) fn derived_id(prefix: &str, name: &str) -> String {
    let digest = Sha256::digest(name);
    let digits: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{prefix}{}", &digits[..17])
}

/// Fills in what is not known yet.
pub(super) fn or_other<T>(known: &mut Option<T>, other: Option<T>) {
    if known.is_none() {
        *known = other;
    }
}
