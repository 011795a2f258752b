//! Checks the overrides of an instance against the tables.

use super::category::Kind;
use super::top::TOP;
use crate::fault::FieldFault;
use crate::instance::Instance;
use crate::instance::events::overrides::PathOverride;
use crate::instance::events::timeline::{Override, TimelineChange};

/// Returns the faults of an instance's overrides, those of its timeline included: a leaf below a
/// leaf, or a leaf in the place of a directory.
pub fn faults(instance: &Instance) -> Vec<FieldFault> {
    let overrides = &instance.imds.overrides;
    let now = overrides
        .paths()
        .filter(|path| matches!(overrides.of(path), PathOverride::Set(_)))
        .map(|path| (format!("Imds.Overrides.{path}"), path));
    let steps = instance.imds.timeline.steps().iter().enumerate();
    let later = steps.filter_map(|(index, step)| match &step.set {
        TimelineChange::Override(Override {
            path,
            value: Some(_),
        }) => Some((
            format!("Imds.Timeline[{index}].Set.Override.Path"),
            path.as_str(),
        )),
        _ => None,
    });
    now.chain(later)
        .filter_map(|(field, path)| Some(FieldFault::new(field, fault_of_leaf(path)?)))
        .collect()
}

/// Returns why the tables allow no leaf at this path.
fn fault_of_leaf(path: &str) -> Option<&'static str> {
    let mut kind = &TOP;
    for name in path.split('/') {
        kind = match kind {
            Kind::Directory(table) => &table.iter().find(|category| category.name == name)?.kind,
            Kind::Each(_, kind) => kind,
            Kind::Leaf(_) | Kind::Dated(_) | Kind::Octets(_) => {
                return Some("a leaf cannot be below another leaf");
            }
        };
    }
    matches!(kind, Kind::Directory(_) | Kind::Each(..))
        .then_some("this is a directory; set a leaf below it, or null")
}
