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

/// An instance from a document, and the digest of the document.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    /// The instance.
    pub instance: Instance,
    /// Its [`document_digest`], which takes longer than most of what is done with a document.
    pub digest: String,
}

impl Document {
    /// Returns the document of an instance.
    pub fn of(instance: Instance) -> Document {
        let digest = document_digest(&instance);
        Document { instance, digest }
    }
}

/// Returns the digest of an instance's document: unpadded base64 of the SHA-256. Documents with
/// the same contents have the same digest.
pub fn document_digest(instance: &Instance) -> String {
    use base64::Engine as _;
    use sha2::Digest as _;
    let bytes = sha2::Sha256::digest(document::sorted_text(instance));
    base64::engine::general_purpose::STANDARD_NO_PAD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// The digests are stored: with any other, an unchanged document of an earlier version would
    /// count as edited.
    #[test]
    fn the_digest_of_a_document_stays_as_it_was_first_stored() {
        const SMALL: &str = r#"{"InstanceId":"i-00000001","LaunchTime":"2026-01-01T00:00:00Z"}"#;
        const LARGE: &str = r##"{
            "Zone": {"B": [1.5, -0.0, 1e300, 18446744073709551615, {"Z": null, "A": "\u00e9\n"}], "A\"\\": {}},
            "InstanceId": "i-00000002",
            "LaunchTime": "2026-01-01T00:00:00+02:00",
            "AmiLaunchIndex": 3,
            "Placement": {"Tenancy": "default", "AvailabilityZone": "us-east-1a"},
            "Tags": [{"Value": "tab\tand \ud83d\ude00 / \u007f", "Key": "Name"}, {"Key": "a", "Value": ""}],
            "MetadataOptions": {"HttpTokens": "required", "HttpEndpoint": "enabled"},
            "NetworkInterfaces": [{
                "NetworkInterfaceId": "eni-00000001", "MacAddress": "0E:00:00:00:00:01",
                "PrivateIpAddress": "10.0.0.4", "SubnetId": "subnet-00000001", "VpcId": "vpc-00000001",
                "Attachment": {"DeviceIndex": 0, "AttachmentId": "eni-attach-00000001"},
                "Unread": {"Y": 1, "X": [true, false]}
            }],
            "Imds": {
                "Attachments": [{"SourceAddress": {"Listener": "a", "Address": "10.0.0.4"}}],
                "UserDataText": "#!/bin/sh\necho \"hello\"\n",
                "Overrides": {"meta-data/a": "1", "meta-data/B": "2"}
            }
        }"##;
        let digests = [SMALL, LARGE].map(|text| {
            let read = document::read(Path::new("1.json"), text);
            document_digest(&read.unwrap()[0])
        });
        let stored = [
            "osWU4kTtfJ77XHDFpNRtHQE6NOw25vT5n401lLJyLmM",
            "pDi38/BIIq4L0FsgtTI3iPwtA/fVx1HfNzCiy3Cq5FQ",
        ];
        assert_eq!(digests, stored);
    }
}
