//! Requests for signatures that do not exist yet: the guests that wait, and the documents that are
//! signed first.
//!
//! After a start, thousands of documents are signed in the background. A guest that asks before its
//! turn waits for its own document only, and not at all when there is no key.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::identity::SignatureCache;
use crate::instance::InstanceId;

/// How long a request waits. A new key takes about a second; clients give up after a few.
const MAX_WAIT: Duration = Duration::from_secs(10);

/// The documents that guests wait for.
pub(crate) struct AwaitedSignatures {
    cache: Arc<SignatureCache>,
    requested: Mutex<BTreeSet<InstanceId>>,
    progress: watch::Sender<SigningProgress>,
}

/// What the background task has done so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SigningProgress {
    /// It signs, or is about to.
    Signing,
    /// There is no key, so there will be no signatures soon.
    WithoutKey,
}

impl AwaitedSignatures {
    pub(crate) fn new(cache: Arc<SignatureCache>) -> Arc<AwaitedSignatures> {
        Arc::new(AwaitedSignatures {
            cache,
            requested: Mutex::default(),
            progress: watch::Sender::new(SigningProgress::Signing),
        })
    }

    /// Returns when the document is signed, or will not be soon.
    pub(crate) async fn wait(&self, id: InstanceId, document: String) {
        let mut progress = self.progress.subscribe();
        if *progress.borrow() == SigningProgress::WithoutKey {
            return;
        }
        self.requested.lock().insert(id.clone());
        let is_over = |progress: &SigningProgress| {
            *progress == SigningProgress::WithoutKey
                || self.cache.read(&id, document.as_bytes()).is_some()
        };
        let _ = tokio::time::timeout(MAX_WAIT, progress.wait_for(is_over)).await;
    }

    /// Takes the instances whose documents are signed first.
    pub(super) fn take_requested(&self) -> BTreeSet<InstanceId> {
        std::mem::take(&mut self.requested.lock())
    }

    /// Some documents were signed.
    pub(super) fn note_signed(&self) {
        self.progress.send_replace(SigningProgress::Signing);
    }

    /// The key cannot be used: no request waits.
    pub(super) fn note_missing_key(&self) {
        self.progress.send_replace(SigningProgress::WithoutKey);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_request_waits_for_its_document_and_not_for_a_missing_key() {
        let awaited = AwaitedSignatures::new(Arc::default());
        let id = InstanceId::parse("i-00000001").unwrap();
        let wait = || awaited.wait(id.clone(), "{}".to_string());
        let given_up = tokio::time::timeout(Duration::ZERO, wait()).await;
        assert!(given_up.is_err(), "nothing is signed yet");
        assert_eq!(awaited.take_requested(), BTreeSet::from([id.clone()]));

        // The documents of others are signed.
        awaited.note_signed();
        assert!(tokio::time::timeout(Duration::ZERO, wait()).await.is_err());
        awaited.note_missing_key();
        assert!(tokio::time::timeout(Duration::ZERO, wait()).await.is_ok());
    }
}
