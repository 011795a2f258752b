//! Work on many items by several threads.

use std::sync::atomic::{AtomicUsize, Ordering};

/// How many threads write and sync records, or plan the changes of many instances. A disk syncs
/// several files in little more time than one; more threads would leave it no time for the changes
/// of other callers.
const THREADS: usize = 8;

/// Returns what `work` returns for each item, in the order of the items. One item is worked on by
/// the caller's thread.
pub(super) fn in_parallel<I: Sync, O: Send>(items: &[I], work: impl Fn(&I) -> O + Sync) -> Vec<O> {
    let next = AtomicUsize::new(0);
    let work_on_some = || {
        let mut done = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = items.get(index) else {
                return done;
            };
            done.push((index, work(item)));
        }
    };
    let mut done: Vec<(usize, O)> = std::thread::scope(|scope| {
        let helpers = 1..items.len().min(THREADS);
        // A thread that cannot be started leaves its work to the others.
        let helpers: Vec<_> = helpers
            .filter_map(|_| {
                let builder = std::thread::Builder::new().name("registry".to_string());
                builder.spawn_scoped(scope, work_on_some).ok()
            })
            .collect();
        let mut done = work_on_some();
        for helper in helpers {
            done.extend(helper.join().expect("work of the registry does not panic"));
        }
        done
    });
    done.sort_unstable_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, outcome)| outcome).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_item_is_worked_on_once_and_the_order_is_kept() {
        for count in [0, 1, 2, 1000] {
            let items: Vec<usize> = (0..count).collect();
            let calls = AtomicUsize::new(0);
            let doubled = in_parallel(&items, |item| {
                calls.fetch_add(1, Ordering::Relaxed);
                item * 2
            });
            assert_eq!(
                doubled,
                items.iter().map(|item| item * 2).collect::<Vec<_>>()
            );
            assert_eq!(calls.into_inner(), count);
        }
    }
}
