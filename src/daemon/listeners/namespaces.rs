//! When to look again at the files of network namespaces.
//!
//! `ip netns` and container runtimes mount a namespace on a file, and the kernel reports changes of
//! mounts. It reports nothing when a path below /proc, or a link to one, comes to mean another
//! namespace, so some of the files are looked at again every second, in turns.

use std::fs::File;
use std::ops::Bound;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::daemon::listeners::key::ListenerKey;

/// How many namespaces are looked at again in one turn.
const TURN: usize = 256;

/// Which namespaces have to be looked at again.
pub(super) struct NamespaceWatch {
    /// The mounts that the daemon sees; `None` if the kernel does not report them.
    mounts: Option<File>,
    /// The last namespace of the last turn.
    last: Option<ListenerKey>,
}

impl NamespaceWatch {
    pub(super) fn new() -> NamespaceWatch {
        NamespaceWatch {
            mounts: File::open("/proc/self/mountinfo").ok(),
            last: None,
        }
    }

    /// Returns the namespaces to look at again now, of those that `after` returns in order.
    pub(super) fn due<'k, I: Iterator<Item = &'k ListenerKey>>(
        &mut self,
        after: impl Fn(Bound<&ListenerKey>) -> I,
    ) -> Vec<ListenerKey> {
        if self.mounts_have_changed() {
            return after(Bound::Unbounded).cloned().collect();
        }
        let start = self.last.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let due: Vec<ListenerKey> = after(start).take(TURN).cloned().collect();
        self.last = due.last().filter(|_| due.len() == TURN).cloned();
        due
    }

    /// The kernel reports a change once to each open file.
    fn mounts_have_changed(&self) -> bool {
        let Some(mounts) = &self.mounts else {
            return true;
        };
        let mut polled = [PollFd::new(mounts, PollFlags::PRI)];
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        match poll(&mut polled, Some(&now)) {
            Ok(_) => polled[0].revents().contains(PollFlags::PRI),
            Err(_) => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_namespace_has_its_turn_without_a_report_of_the_kernel() {
        let keys: BTreeSet<ListenerKey> = (0..2 * TURN + 10)
            .map(|number| ListenerKey::Namespace(format!("{number:05}").into()))
            .collect();
        let mut watch = NamespaceWatch {
            // Reports nothing, ever.
            mounts: Some(File::open("/dev/null").unwrap()),
            last: None,
        };
        let mut turn = || watch.due(|start| keys.range((start, Bound::Unbounded)));
        let turns = [turn(), turn(), turn()];
        assert_eq!(turns.each_ref().map(Vec::len), [TURN, TURN, 10]);
        assert_eq!(BTreeSet::from_iter(turns.into_iter().flatten()), keys);
        assert_eq!(turn().first(), keys.first(), "from the beginning again");

        watch.mounts = None;
        let all = watch.due(|start| keys.range((start, Bound::Unbounded)));
        assert_eq!(all.len(), keys.len(), "not known to be unchanged");
    }
}
