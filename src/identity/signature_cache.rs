//! The cache of precomputed signatures: filled in the background, read by guests.
//!
//! A signature is returned only for the exact bytes that it signs. A document that has changed, for
//! example with a new launch, has no signature until it is signed again, and never an old one.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use jiff::Timestamp;
use rpds::HashTrieMapSync;

use super::signing::Signatures;
use super::signing_error::SigningError;
use super::signing_identity::Identity;
use crate::instance::InstanceId;

/// The signatures of every instance's identity document. Reads take no lock, and storing those of
/// one document copies none of the others.
#[derive(Default)]
pub struct SignatureCache {
    by_instance: ArcSwap<HashTrieMapSync<InstanceId, Arc<SignedDocument>>>,
}

struct SignedDocument {
    /// The serial number of the certificate that verifies the signatures.
    serial: String,
    signatures: Arc<Signatures>,
}

impl SignatureCache {
    /// Returns an empty cache.
    pub fn new() -> SignatureCache {
        SignatureCache::default()
    }

    /// Returns the signatures of exactly this document; `None` until they exist.
    pub fn read(&self, id: &InstanceId, document: &[u8]) -> Option<Arc<Signatures>> {
        let by_instance = self.by_instance.load();
        by_instance
            .get(id)
            .filter(|signed| signed.signatures.document() == document)
            .map(|signed| signed.signatures.clone())
    }

    /// Signs each document that has no signatures by this identity and publishes them one by one.
    /// Returns their number.
    ///
    /// Blocks for some milliseconds for each document. After an error, the earlier signatures stay
    /// published.
    pub fn sign_missing<D: AsRef<[u8]>>(
        &self,
        identity: &Identity,
        documents: impl IntoIterator<Item = (InstanceId, D)>,
        now: Timestamp,
    ) -> Result<usize, SigningError> {
        let serial = identity.certificate().serial();
        let mut count = 0;
        for (id, document) in documents {
            let document = document.as_ref();
            let is_signed = |signed: &SignedDocument| {
                signed.signatures.document() == document && signed.serial == serial
            };
            let by_instance = self.by_instance.load();
            if by_instance.get(&id).is_some_and(|signed| is_signed(signed)) {
                continue;
            }
            let signatures = Arc::new(identity.sign(document, now)?);
            let signed = SignedDocument {
                serial: serial.clone(),
                signatures,
            };
            let signed = Arc::new(signed);
            self.by_instance
                .rcu(|map| map.insert(id.clone(), Arc::clone(&signed)));
            count += 1;
        }
        Ok(count)
    }

    /// Removes the signatures of an instance.
    pub fn remove(&self, id: &InstanceId) {
        if self.by_instance.load().contains_key(id) {
            self.by_instance.rcu(|map| map.remove(id));
        }
    }

    /// Returns the instances that have signatures.
    pub fn instances(&self) -> Vec<InstanceId> {
        self.by_instance.load().keys().cloned().collect()
    }
}

impl fmt::Debug for SignatureCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SignatureCache({})", self.by_instance.load().size())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{IDENTITY, OTHER, now};
    use super::*;

    #[test]
    fn a_signature_is_returned_only_for_the_bytes_that_it_signs() {
        let cache = SignatureCache::new();
        let (one, other) = (
            InstanceId::parse("i-00000001").unwrap(),
            InstanceId::parse("i-00000002").unwrap(),
        );
        assert_eq!(cache.read(&one, b"a"), None);

        let all = || [(one.clone(), b"a"), (other.clone(), b"b")];
        assert_eq!(cache.sign_missing(&IDENTITY, all(), now()), Ok(2));
        assert_eq!(
            cache.sign_missing(&IDENTITY, all(), now()),
            Ok(0),
            "signed once"
        );
        let first = cache.read(&one, b"a").unwrap();
        assert_eq!(cache.read(&one, b"b"), None, "another instance's document");
        assert_eq!(cache.read(&one, b"a "), None);

        // A new launch, then a new key.
        assert_eq!(
            cache.sign_missing(&IDENTITY, [(one.clone(), b"c")], now()),
            Ok(1)
        );
        assert_eq!(cache.read(&one, b"a"), None);
        assert_eq!(cache.sign_missing(&OTHER, all(), now()), Ok(2));
        assert_ne!(cache.read(&one, b"a").unwrap(), first);

        cache.remove(&one);
        assert_eq!(cache.instances(), std::slice::from_ref(&other));
        assert_eq!(cache.read(&one, b"a"), None);
        assert!(cache.read(&other, b"b").is_some());
    }
}
