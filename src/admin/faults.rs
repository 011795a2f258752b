//! The part of an injection that is not stored: faults in the answers that guests get.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::api::AdminApi;
use super::refusal::Refusal;
use super::targets::target_ids;
use crate::audit::Trail;
use crate::instance::InstanceId;
use crate::instance::events::injected_fault::FaultChange;
use crate::instance::events::request::Targets;
use crate::lab::InstanceFaults;

/// Changes of the injected faults that were checked.
pub(super) struct PreparedFaults {
    changes: Vec<FaultChange>,
    /// The changes for each instance, by their positions.
    by_instance: BTreeMap<InstanceId, Vec<usize>>,
}

/// What was done, as JSON.
pub(super) struct InjectedJson {
    pub(super) faults: Value,
    pub(super) cleared: Value,
}

/// Checks changes: their paths, that each is for an instance, and that no instance has too many.
pub(super) async fn prepare(
    api: &AdminApi,
    targeted: Vec<(Option<Targets>, FaultChange)>,
    now: Timestamp,
) -> Result<PreparedFaults, Refusal> {
    for (_, change) in &targeted {
        if let FaultChange::Inject(fault) = change
            && !api.daemon.knows_path(&fault.request.path)
        {
            return Err(Refusal::invalid_event(format!(
                "{}: no instance has such a path; docs/metadata.md lists the paths",
                fault.request.path
            )));
        }
    }
    let snapshot = api.registry.snapshot();
    let selecting = tokio::task::spawn_blocking(move || {
        let (mut changes, mut by_instance) = (Vec::new(), BTreeMap::<_, Vec<usize>>::new());
        for (position, (targets, change)) in targeted.into_iter().enumerate() {
            for id in target_ids(&snapshot, targets.as_ref())? {
                by_instance.entry(id).or_default().push(position);
            }
            changes.push(change);
        }
        Ok(PreparedFaults {
            changes,
            by_instance,
        })
    });
    let prepared: PreparedFaults = selecting.await.expect("selecting does not panic")?;
    let faults = api.daemon.injected_faults();
    match faults.refusals(&prepared.by_instance(), now) {
        messages if messages.is_empty() => Ok(prepared),
        messages => Err(Refusal::invalid_event(messages.join("; "))),
    }
}

impl PreparedFaults {
    fn by_instance(&self) -> BTreeMap<InstanceId, Vec<&FaultChange>> {
        let each = self.by_instance.iter();
        each.map(|(id, positions)| {
            let changes = positions.iter().map(|position| &self.changes[*position]);
            (id.clone(), changes.collect())
        })
        .collect()
    }

    /// Puts the changes in force.
    pub(super) fn inject(
        &self,
        api: &AdminApi,
        now: Timestamp,
        trail: &Trail,
    ) -> Result<InjectedJson, Refusal> {
        if self.changes.is_empty() {
            return Ok(InjectedJson {
                faults: json!([]),
                cleared: json!([]),
            });
        }
        let faults = api.daemon.injected_faults();
        let changed = faults.change(&self.by_instance(), now);
        let changed = changed.map_err(|messages| {
            Refusal::incorrect_state(format!(
                "no fault was injected, because others were meanwhile: {}; events of the same scenario are \
                 stored",
                messages.join("; ")
            ))
        })?;
        trail.name(self.by_instance.keys());
        for change in &self.changes {
            trail.add(match change {
                FaultChange::Inject(fault) => format!("fault injected: {}", fault.request),
                FaultChange::Clear { .. } => "injected faults cleared".to_string(),
            });
        }
        let ended = changed.iter().filter(|changed| changed.ended > 0);
        let cleared =
            ended.map(|changed| json!({ "InstanceId": changed.instance, "Count": changed.ended }));
        Ok(InjectedJson {
            faults: self
                .changes
                .iter()
                .enumerate()
                .filter_map(|change| self.json(change))
                .collect(),
            cleared: cleared.collect(),
        })
    }

    /// Returns an injected fault with its instances; `None` for a clear.
    fn json(&self, (position, change): (usize, &FaultChange)) -> Option<Value> {
        let FaultChange::Inject(fault) = change else {
            return None;
        };
        let each = self.by_instance.iter();
        let ids: Vec<&InstanceId> = each
            .filter(|(_, positions)| positions.contains(&position))
            .map(|(id, _)| id)
            .collect();
        Some(json!({
            "Fault": fault.request,
            "From": fault.from,
            "Until": fault.until,
            "InstanceIds": ids,
        }))
    }
}

/// Returns the faults of an instance, those to come included.
pub(super) fn listed(faults: &Arc<InstanceFaults>, now: Timestamp) -> Vec<Value> {
    let left = faults.iter().filter(|counted| !counted.fault.is_over(now));
    left.map(|counted| {
        json!({
            "Fault": counted.fault.request,
            "From": counted.fault.from,
            "Until": counted.fault.until,
            "Affected": counted.affected(),
        })
    })
    .collect()
}
