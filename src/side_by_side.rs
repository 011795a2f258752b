//! Work on many items, on all processors side by side: a start reads thousands of files.

use std::num::NonZero;
use std::panic::resume_unwind;
use std::thread;

/// The fewest items that are worth a thread of their own.
const MIN_ITEMS: usize = 64;

/// Applies `work` to each item, and returns the results in the order of the items. Works on as many
/// threads as there are processors; a few items are done by the calling thread.
pub(crate) fn side_by_side<T: Send, R: Send>(
    items: Vec<T>,
    work: impl Fn(T) -> R + Sync,
) -> Vec<R> {
    let processors = thread::available_parallelism().map_or(1, NonZero::get);
    on_threads(processors.min(items.len() / MIN_ITEMS), items, work)
}

/// Like [`side_by_side`], on this many threads.
fn on_threads<T: Send, R: Send>(
    threads: usize,
    mut items: Vec<T>,
    work: impl Fn(T) -> R + Sync,
) -> Vec<R> {
    if threads < 2 {
        return items.into_iter().map(work).collect();
    }
    let share = items.len().div_ceil(threads);
    let work = &work;
    thread::scope(|scope| {
        let mut others = Vec::new();
        // The last shares first: what remains is the first one, of this thread.
        while items.len() > share {
            let others_items = items.split_off((items.len() - 1) / share * share);
            let others_work = move || -> Vec<R> { others_items.into_iter().map(work).collect() };
            others.push(scope.spawn(others_work));
        }
        let mut results: Vec<R> = items.into_iter().map(work).collect();
        for other in others.into_iter().rev() {
            results.extend(other.join().unwrap_or_else(|panic| resume_unwind(panic)));
        }
        results
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_have_the_order_of_the_items_on_any_number_of_threads() {
        for count in [0, 1, 2, 3, 63, 64, 129, 1000] {
            let items: Vec<usize> = (0..count).collect();
            let expected: Vec<usize> = (0..count).map(|item| item * 2).collect();
            assert_eq!(side_by_side(items.clone(), |item| item * 2), expected);
            for threads in [0, 1, 2, 3, 7, 64] {
                let results = on_threads(threads, items.clone(), |item| item * 2);
                assert_eq!(results, expected, "{count} items on {threads} threads");
            }
        }
    }
}
