//! The stored record of one instance.

use jiff::Timestamp;

use crate::document;
use crate::instance::identity_document::identity_document;
use crate::instance::{Instance, InstanceState, LaunchToken};

/// The stored record of one instance.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// Rises with every change (the desired generation).
    pub generation: u64,
    /// A random number, new for every launch. Session tokens of another launch are invalid.
    pub launch_epoch: u64,
    /// The instance identity document of this launch, byte for byte.
    pub identity_document: String,
    /// The digest of the document that the instance comes from, so that a later edit of the
    /// document is noticed. Empty for an instance that the API created.
    pub document_digest: String,
    /// The digest of the RunInstances call that created the instance, so that the call can be
    /// repeated. `None` for an instance from a document.
    pub launch_request: Option<String>,
    /// When the instance was terminated.
    pub terminated: Option<Timestamp>,
    /// When anything but the metadata options last changed: `Last-Modified` of the guest's replies.
    pub changed: Timestamp,
    /// The instance.
    pub instance: Instance,
}

impl Record {
    /// Returns the client token of the RunInstances call that created the instance, if it had one.
    pub fn launch_token(&self) -> Option<LaunchToken> {
        self.launch_request.as_ref()?;
        LaunchToken::of(&self.instance)
    }

    /// Returns the first record of a new instance, with generation 1 and a new launch epoch.
    pub(super) fn first(
        instance: Instance,
        document_digest: String,
        launch_request: Option<String>,
        now: Timestamp,
    ) -> Record {
        Record {
            generation: 1,
            launch_epoch: rand::random(),
            identity_document: identity_document(&instance),
            document_digest,
            launch_request,
            terminated: (instance.state == InstanceState::Terminated).then_some(now),
            changed: now,
            instance,
        }
    }
}

/// Returns the digest of an instance's document: unpadded base64 of the SHA-256. Documents with
/// the same contents have the same digest.
pub fn document_digest(instance: &Instance) -> String {
    use base64::Engine as _;
    use sha2::Digest as _;
    let bytes = sha2::Sha256::digest(document::to_value(instance).to_string());
    base64::engine::general_purpose::STANDARD_NO_PAD.encode(bytes)
}
