//! Limits of concurrent fetches.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::instance::CredentialSource;

/// The number of concurrent fetches from one source, which is a program or an STS endpoint. A
/// source that hangs delays only its own instances.
const MAX_FETCHES_PER_SOURCE: usize = 4;
/// The number of concurrent fetches from all sources.
pub const MAX_FETCHES: usize = 64;
/// The most file descriptors of one fetch: two pipes and a process of a program, or a file and then
/// a connection to an STS.
pub const DESCRIPTORS_PER_FETCH: usize = 3;

/// How many sources are known before those without a fetch are forgotten.
const KNOWN_SOURCES: usize = 64;

/// The running fetches, by source and in total.
pub(super) struct FetchLimits {
    total: Arc<Semaphore>,
    by_source: Mutex<KnownSources>,
}

/// The sources that fetches run from or wait for, and some others.
struct KnownSources {
    semaphores: HashMap<String, Arc<Semaphore>>,
    /// The number of sources at which those without a fetch are forgotten: a program may have the
    /// id of its instance as an argument, and instances come and go.
    forget_at: usize,
}

impl KnownSources {
    fn semaphore(&mut self, key: String) -> Arc<Semaphore> {
        if self.semaphores.len() >= self.forget_at {
            self.semaphores
                .retain(|_, semaphore| Arc::strong_count(semaphore) > 1);
            self.forget_at = (2 * self.semaphores.len()).max(KNOWN_SOURCES);
        }
        let new = || Arc::new(Semaphore::new(MAX_FETCHES_PER_SOURCE));
        Arc::clone(self.semaphores.entry(key).or_insert_with(new))
    }
}

/// The permission to run one fetch; it ends on drop.
pub(super) struct FetchPermit {
    _of_source: OwnedSemaphorePermit,
    _of_total: OwnedSemaphorePermit,
}

impl FetchLimits {
    pub(super) fn new() -> FetchLimits {
        FetchLimits {
            total: Arc::new(Semaphore::new(MAX_FETCHES)),
            by_source: Mutex::new(KnownSources {
                semaphores: HashMap::new(),
                forget_at: KNOWN_SOURCES,
            }),
        }
    }

    /// Waits until a fetch from `source` is within both limits.
    pub(super) async fn acquire(&self, source: &CredentialSource) -> FetchPermit {
        let semaphore = self.by_source.lock().semaphore(source_key(source));
        // The source's own limit first: a fetch that waits for its source must not use up the
        // total.
        let of_source = semaphore.acquire_owned().await;
        let of_total = Arc::clone(&self.total).acquire_owned().await;
        FetchPermit {
            _of_source: of_source.expect("the semaphore is never closed"),
            _of_total: of_total.expect("the semaphore is never closed"),
        }
    }
}

/// Returns what sources of one limit have in common: the program or the endpoint.
fn source_key(source: &CredentialSource) -> String {
    match source {
        CredentialSource::Static(_) => String::new(),
        CredentialSource::Process(source) => source.command.join(" "),
        CredentialSource::AssumeRole(source) => source.endpoint.clone(),
        CredentialSource::AssumeRoleWithWebIdentity(source) => source.endpoint.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::instance::ProcessSource;

    #[tokio::test]
    async fn sources_without_a_fetch_are_forgotten_and_the_others_keep_their_limit() {
        let limits = FetchLimits::new();
        let source = |number: usize| {
            CredentialSource::Process(ProcessSource {
                command: vec!["/bin/true".to_string(), number.to_string()],
                timeout_seconds: None,
            })
        };
        let mut running = Vec::new();
        for _ in 0..MAX_FETCHES_PER_SOURCE {
            running.push(limits.acquire(&source(0)).await);
        }
        for number in 1..100 * KNOWN_SOURCES {
            drop(limits.acquire(&source(number)).await);
        }
        assert!(limits.by_source.lock().semaphores.len() <= KNOWN_SOURCES);
        let now = std::time::Duration::ZERO;
        let one_more = tokio::time::timeout(now, limits.acquire(&source(0))).await;
        assert!(one_more.is_err(), "the source is at its limit");
    }
}
