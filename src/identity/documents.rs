//! Signatures made ahead of need: written in the background, read by guests without waiting for one to be made.
//!
//! A signature is handed out only for the very bytes it was made for. So a document that changed, with a new launch say, has
//! none until it is signed anew, and never an old one.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use parking_lot::RwLock;

use super::{Identity, Signatures, SigningError};
use crate::instance::InstanceId;

/// The signatures of every instance's identity document.
#[derive(Default)]
pub struct SignedDocuments {
    /// Locked for the time of a look-up or an insertion, never while signing.
    by_instance: RwLock<HashMap<InstanceId, Signed>>,
}

struct Signed {
    document: Box<[u8]>,
    /// Serial number of the certificate that verifies them.
    signer: String,
    signatures: Arc<Signatures>,
}

impl SignedDocuments {
    /// No signatures yet.
    pub fn new() -> SignedDocuments {
        SignedDocuments::default()
    }

    /// The signatures of exactly this document; `None` until they are made.
    pub fn read(&self, id: &InstanceId, document: &[u8]) -> Option<Arc<Signatures>> {
        let by_instance = self.by_instance.read();
        by_instance
            .get(id)
            .filter(|signed| *signed.document == *document)
            .map(|signed| signed.signatures.clone())
    }

    /// Signs each document that has no signatures by this identity yet, publishes them one by one, and says how many.
    ///
    /// Blocks for milliseconds a document. What was signed before an error stays published.
    pub fn sign_missing<D: AsRef<[u8]>>(
        &self,
        identity: &Identity,
        documents: impl IntoIterator<Item = (InstanceId, D)>,
        now: Timestamp,
    ) -> Result<usize, SigningError> {
        let signer = identity.certificate().serial();
        let mut made = 0;
        for (id, document) in documents {
            let document = document.as_ref();
            let is_signed =
                |signed: &Signed| *signed.document == *document && signed.signer == signer;
            if self.by_instance.read().get(&id).is_some_and(is_signed) {
                continue;
            }
            let signatures = Arc::new(identity.sign(document, now)?);
            let signed = Signed {
                document: document.into(),
                signer: signer.clone(),
                signatures,
            };
            self.by_instance.write().insert(id, signed);
            made += 1;
        }
        Ok(made)
    }

    /// Forgets the signatures of instances that are not to be kept.
    pub fn retain(&self, keep: impl Fn(&InstanceId) -> bool) {
        self.by_instance.write().retain(|id, _| keep(id));
    }
}

impl fmt::Debug for SignedDocuments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SignedDocuments({})", self.by_instance.read().len())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{IDENTITY, OTHER, now};
    use super::*;

    #[test]
    fn a_signature_is_read_only_for_the_bytes_it_was_made_for() {
        let documents = SignedDocuments::new();
        let (one, other) = (
            InstanceId::parse("i-00000001").unwrap(),
            InstanceId::parse("i-00000002").unwrap(),
        );
        assert_eq!(documents.read(&one, b"a"), None);

        let all = || [(one.clone(), b"a"), (other.clone(), b"b")];
        assert_eq!(documents.sign_missing(&IDENTITY, all(), now()), Ok(2));
        assert_eq!(
            documents.sign_missing(&IDENTITY, all(), now()),
            Ok(0),
            "made once"
        );
        let first = documents.read(&one, b"a").unwrap();
        assert_eq!(
            documents.read(&one, b"b"),
            None,
            "another instance's document"
        );
        assert_eq!(documents.read(&one, b"a "), None);

        // A new launch, then a new key.
        assert_eq!(
            documents.sign_missing(&IDENTITY, [(one.clone(), b"c")], now()),
            Ok(1)
        );
        assert_eq!(documents.read(&one, b"a"), None);
        assert_eq!(documents.sign_missing(&OTHER, all(), now()), Ok(2));
        assert_ne!(documents.read(&one, b"a").unwrap(), first);

        documents.retain(|id| *id == other);
        assert_eq!(documents.read(&one, b"a"), None);
        assert!(documents.read(&other, b"b").is_some());
    }
}
