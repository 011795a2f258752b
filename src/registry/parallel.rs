//! Work of the registry on many items.

use crate::side_by_side::on_threads;

/// How many threads write and sync records, or plan the changes of many instances. A disk syncs
/// several files in little more time than one; more threads would leave it no time for the changes
/// of other callers.
const THREADS: usize = 8;

/// Returns what `work` returns for each item, in the order of the items. One item is worked on by
/// the caller's thread.
pub(super) fn in_parallel<I: Sync, O: Send>(items: &[I], work: impl Fn(&I) -> O + Sync) -> Vec<O> {
    on_threads("registry", THREADS.min(items.len()), items.iter(), work)
}
