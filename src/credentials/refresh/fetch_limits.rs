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

/// The running fetches, by source and in total.
pub(super) struct FetchLimits {
    total: Arc<Semaphore>,
    /// One semaphore for each source that documents name.
    by_source: Mutex<HashMap<String, Arc<Semaphore>>>,
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
            by_source: Mutex::default(),
        }
    }

    /// Waits until a fetch from `source` is within both limits.
    pub(super) async fn acquire(&self, source: &CredentialSource) -> FetchPermit {
        let semaphore = {
            let mut by_source = self.by_source.lock();
            let new = || Arc::new(Semaphore::new(MAX_FETCHES_PER_SOURCE));
            Arc::clone(by_source.entry(source_key(source)).or_insert_with(new))
        };
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
