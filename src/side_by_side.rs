//! Work on many items by several threads: a start reads thousands of files, and the registry writes as
//! many records.

use std::num::NonZero;
use std::panic::resume_unwind;
use std::thread;

use parking_lot::Mutex;

/// The fewest items that are worth a thread of their own.
const MIN_ITEMS: usize = 64;

/// Applies `work` to each item, and returns the results in the order of the items. Works on as many
/// threads as there are processors; a few items are done by the calling thread.
pub(crate) fn side_by_side<T: Send, R: Send>(
    items: Vec<T>,
    work: impl Fn(T) -> R + Sync,
) -> Vec<R> {
    let processors = thread::available_parallelism().map_or(1, NonZero::get);
    let threads = processors.min(items.len() / MIN_ITEMS);
    on_threads("reading", threads, items.into_iter(), work)
}

/// Like [`side_by_side`], on this many threads: the calling one, and others with this name.
pub(crate) fn on_threads<T: Send, R: Send>(
    name: &str,
    threads: usize,
    items: impl Iterator<Item = T> + Send,
    work: impl Fn(T) -> R + Sync,
) -> Vec<R> {
    if threads < 2 {
        return items.map(work).collect();
    }
    let remaining = Mutex::new(items.enumerate());
    let work_on_some = || {
        let next = || remaining.lock().next();
        let done = std::iter::from_fn(|| next().map(|(index, item)| (index, work(item))));
        done.collect::<Vec<(usize, R)>>()
    };
    let mut done = thread::scope(|scope| {
        // A thread that cannot be started leaves its work to the others.
        let start = |_| {
            let builder = thread::Builder::new().name(name.to_string());
            builder.spawn_scoped(scope, work_on_some).ok()
        };
        let others: Vec<_> = (1..threads).filter_map(start).collect();
        let mut done = work_on_some();
        for other in others {
            done.extend(other.join().unwrap_or_else(|panic| resume_unwind(panic)));
        }
        done
    });
    done.sort_unstable_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, result)| result).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn results_have_the_order_of_the_items_on_any_number_of_threads() {
        for count in [0, 1, 2, 3, 63, 64, 129, 1000] {
            let items: Vec<usize> = (0..count).collect();
            let expected: Vec<usize> = (0..count).map(|item| item * 2).collect();
            assert_eq!(side_by_side(items.clone(), |item| item * 2), expected);
            for threads in [0, 1, 2, 3, 7, 64] {
                let calls = AtomicUsize::new(0);
                let results = on_threads("test", threads, items.iter(), |item| {
                    calls.fetch_add(1, Ordering::Relaxed);
                    item * 2
                });
                assert_eq!(results, expected, "{count} items on {threads} threads");
                assert_eq!(calls.into_inner(), count, "each is worked on once");
            }
        }
    }
}
