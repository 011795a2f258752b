//! The caller of the API, and the instances that the caller may access.

use std::slice;
use std::sync::Arc;

use super::action::Action;
use super::error::Ec2Error;
use super::policy::rules::{AccessRequest, Attributes, Policy, Ruling, Target};
use crate::audit::Trail;
use crate::instance::InstanceId;
use crate::registry::{Entry, Snapshot};

/// The authenticated caller of an action.
#[derive(Clone)]
pub(super) struct Caller {
    pub(super) access_key_id: String,
    /// 12 digits.
    pub(super) account: String,
    /// The region that the call is signed for.
    pub(super) region: String,
    /// The endpoint as the caller addressed it: the `Host` header.
    pub(super) endpoint: String,
    pub(super) policy: Arc<Policy>,
    /// What the call's audit line says.
    pub(super) trail: Arc<Trail>,
}

impl Caller {
    /// Refuses the action unless the caller may do it to the target.
    pub(super) fn authorize(
        &self,
        action: Action,
        attributes: &Attributes,
        target: Target<'_>,
    ) -> Result<(), Ec2Error> {
        let request = AccessRequest {
            action: &action.permission(),
            attributes,
            target,
        };
        match self.policy.decide(&request) {
            Ruling::Allowed => Ok(()),
            Ruling::Denied(rule) => {
                self.trail.refused_by(match rule {
                    Some(number) => format!("rule {number} denies it"),
                    None => "no rule allows it".to_string(),
                });
                Err(Ec2Error::unauthorized())
            }
        }
    }

    /// Returns the instances that a call names, all or none. If the caller may not access one of
    /// them, the error reveals nothing about any.
    pub(super) fn instances<'s>(
        &self,
        action: Action,
        attributes: &Attributes,
        snapshot: &'s Snapshot,
        ids: &[InstanceId],
    ) -> Result<Vec<&'s Arc<Entry>>, Ec2Error> {
        self.instances_for(&[action], attributes, snapshot, ids)
    }

    /// Like [`instances`](Self::instances), for a call that needs the permission of each action.
    fn instances_for<'s>(
        &self,
        actions: &[Action],
        attributes: &Attributes,
        snapshot: &'s Snapshot,
        ids: &[InstanceId],
    ) -> Result<Vec<&'s Arc<Entry>>, Ec2Error> {
        self.trail.name(ids);
        for id in ids {
            let target = snapshot.entry(id).map_or(Target::UnknownId(id), |entry| {
                Target::Instance(&entry.instance)
            });
            for action in actions {
                self.authorize(*action, attributes, target)?;
            }
        }
        if let Some((id, reason)) = ids
            .iter()
            .find_map(|id| Some((id, snapshot.quarantine_reason(id)?)))
        {
            return Err(Ec2Error::quarantined(id, reason));
        }
        let absent: Vec<_> = ids
            .iter()
            .filter(|id| snapshot.entry(id).is_none())
            .map(InstanceId::to_string)
            .collect();
        if !absent.is_empty() {
            return Err(Ec2Error::instances_not_found(&absent));
        }
        Ok(ids.iter().filter_map(|id| snapshot.entry(id)).collect())
    }

    /// Returns the one instance that a call names.
    pub(super) fn instance<'s>(
        &self,
        action: Action,
        attributes: &Attributes,
        snapshot: &'s Snapshot,
        id: &InstanceId,
    ) -> Result<&'s Arc<Entry>, Ec2Error> {
        Ok(self.instances(action, attributes, snapshot, slice::from_ref(id))?[0])
    }

    /// Returns the instances of a list: the named ones, or without names all that the caller may
    /// access.
    pub(super) fn list_instances<'s>(
        &self,
        action: Action,
        snapshot: &'s Snapshot,
        ids: &[InstanceId],
    ) -> Result<Vec<&'s Arc<Entry>>, Ec2Error> {
        if !ids.is_empty() {
            return self.instances(action, &Vec::new(), snapshot, ids);
        }
        if !self.policy.allow_some(&action.permission()) {
            self.trail.refused_by("no rule allows it".to_string());
            return Err(Ec2Error::unauthorized());
        }
        Ok(self.permitted(action, snapshot.entries()).collect())
    }

    /// Returns the instances that a list about something else may show: those for which the caller
    /// has the action's permission and that of DescribeInstances. A key that may not describe an
    /// instance must not see it through its volumes either. With `ids` these, all or none; otherwise
    /// all, sorted by id.
    pub(super) fn describable_instances<'s>(
        &self,
        action: Action,
        snapshot: &'s Snapshot,
        ids: &[InstanceId],
    ) -> Result<Vec<&'s Arc<Entry>>, Ec2Error> {
        let mut entries = match ids {
            [] => {
                let entries = self.list_instances(action, snapshot, &[])?;
                self.permitted(Action::DescribeInstances, entries.into_iter())
                    .collect()
            }
            ids => {
                let actions = [action, Action::DescribeInstances];
                self.instances_for(&actions, &Vec::new(), snapshot, ids)?
            }
        };
        entries.sort_by(|one, other| one.instance.instance_id.cmp(&other.instance.instance_id));
        Ok(entries)
    }

    /// Returns the instances that the caller may describe: what an action about something else may
    /// reveal of instances.
    pub(super) fn described_instances<'s>(
        &self,
        snapshot: &'s Snapshot,
    ) -> impl Iterator<Item = &'s Arc<Entry>> {
        self.permitted(Action::DescribeInstances, snapshot.entries())
    }

    /// Returns those of `entries` to which the caller may do the action. The audit trail does not
    /// say which others there are: leaving one out refuses nothing.
    pub(super) fn permitted<'s>(
        &self,
        action: Action,
        entries: impl Iterator<Item = &'s Arc<Entry>>,
    ) -> impl Iterator<Item = &'s Arc<Entry>> {
        let (permission, attributes) = (action.permission(), Vec::new());
        entries.filter(move |entry| {
            self.policy.allow(&AccessRequest {
                action: &permission,
                attributes: &attributes,
                target: Target::Instance(&entry.instance),
            })
        })
    }
}
