//! Reads one path for an admitted request.

use std::borrow::Cow;

use super::category::{Focus, TimelineState};
use super::content::TreeContent;
use super::top::TOP;
use super::walk::{TreeNode, Walk};
use crate::clock::Moment;
use crate::guest::gate::{Admitted, ReadTerms};
use crate::guest::path::{DataPath, LATEST, VERSIONS};
use crate::guest::precomputed::Precomputed;

/// Reads one path for an admitted request; `None` is 404.
pub fn read<'a>(
    admitted: &Admitted<'a, ReadTerms>,
    path: &str,
    precomputed: &'a Precomputed,
    now: Moment,
) -> Option<TreeContent<'a>> {
    let entry = admitted.entry();
    let last_step = entry.instance.last_step_before(now.wall);
    let changed = entry.changed.max(last_step.unwrap_or(entry.changed));
    let events = entry.instance.events_at(now.wall);
    let overrides = entry.instance.overrides_at(now.wall);
    match (events, overrides) {
        // Before the first step of a timeline, everything that is read is borrowed.
        (Cow::Borrowed(events), Cow::Borrowed(overrides)) => {
            let state = TimelineState {
                events,
                overrides,
                changed,
            };
            read_at(admitted, path, precomputed, now, state)
        }
        (events, overrides) => {
            let state = TimelineState {
                events: &events,
                overrides: &overrides,
                changed,
            };
            read_at(admitted, path, precomputed, now, state).map(TreeContent::into_owned)
        }
    }
}

fn read_at<'a>(
    admitted: &Admitted<'a, ReadTerms>,
    path: &str,
    precomputed: &'a Precomputed,
    now: Moment,
    state: TimelineState<'a>,
) -> Option<TreeContent<'a>> {
    let text = |text: String| TreeContent::text(Cow::Owned(text), state.changed);
    let (version, segments) = match DataPath::parse(path)? {
        DataPath::Root => {
            let names: Vec<&str> = VERSIONS.into_iter().chain([LATEST]).collect();
            return Some(text(names.join("\n")));
        }
        DataPath::Versioned(version, segments) => (version, segments),
    };
    let walk = Walk {
        version,
        overrides: Some(state.overrides).filter(|overrides| !overrides.is_empty()),
    };
    let focus = Focus {
        entry: admitted.entry(),
        state,
        delivery: admitted.delivery(),
        tags: admitted.tags(),
        precomputed,
        now,
        interface: None,
        address: None,
        tag: None,
        device: None,
        user: None,
    };
    if segments.is_empty() {
        return Some(text(walk.list_version(focus)));
    }
    let top = TreeNode {
        kind: Some(&TOP),
        path: String::new(),
        focus,
    };
    walk.resolve(top, segments)
}
