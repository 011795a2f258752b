//! DescribeKeyPairs: the key pairs that instances were launched with, with the public half of
//! `Imds.OpenSshKey`.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};

use crate::control::action::Action;
use crate::control::error::Code;
use crate::control::filters::{FilterValues, Filterable, one, optional};
use crate::control::resource_list::{
    ListedResource, Name, NotFound, ResourceList, derived_id, no_tags, or_other, write_no_tags,
};
use crate::control::xml::Xml;
use crate::instance::Tag;
use crate::registry::Entry;

/// The input of a call.
pub(super) type DescribeKeyPairs = ResourceList<UsedKeyPair>;

/// A key pair that instances were launched with.
pub(in crate::control) struct UsedKeyPair {
    name: String,
    /// One line of authorized_keys.
    public_key: Option<String>,
}

impl UsedKeyPair {
    fn id(&self) -> String {
        derived_id("key-", &self.name)
    }

    /// Returns EC2's word for the type of the key, and the key's bytes in base64.
    fn key(&self) -> Option<(&'static str, &str)> {
        let mut words = self.public_key.as_ref()?.split_ascii_whitespace();
        let kind = match words.next()? {
            "ssh-rsa" => "rsa",
            "ssh-ed25519" => "ed25519",
            _ => return None,
        };
        Some((kind, words.next()?))
    }

    /// Returns the fingerprint of an Ed25519 key: the SHA-256 digest that OpenSSH prints. EC2 has
    /// an MD5 digest for an RSA key, which no one should compare.
    fn fingerprint(&self) -> Option<String> {
        let bytes = match self.key()? {
            ("ed25519", encoded) => STANDARD.decode(encoded).ok()?,
            _ => return None,
        };
        Some(STANDARD.encode(Sha256::digest(bytes)))
    }
}

impl Filterable for UsedKeyPair {
    const TAGS: Option<fn(&Self) -> &[Tag]> = Some(no_tags);
    const FILTERS: &'static [(&'static str, FilterValues<Self>)] = &[
        ("fingerprint", |pair| optional(&pair.fingerprint())),
        ("key-name", |pair| one(&pair.name)),
        ("key-pair-id", |pair| one(pair.id())),
        ("tag-key", |_| Vec::new()),
    ];
}

impl ListedResource for UsedKeyPair {
    const ACTION: Action = Action::DescribeKeyPairs;
    const NAMES: &'static [Name<Self>] = &[
        Name {
            parameter: "KeyName",
            of: |pair| pair.name.clone(),
            unknown: NotFound {
                code: Code::InvalidKeyPairNotFound,
                message: "The key pair '{}' does not exist",
            },
        },
        Name {
            parameter: "KeyPairId",
            of: UsedKeyPair::id,
            unknown: NotFound {
                code: Code::InvalidKeyPairNotFound,
                message: "The key pair '{}' does not exist",
            },
        },
    ];
    const SET: &'static str = "keySet";
    const IS_PAGED: bool = false;
    const FLAG: Option<&'static str> = Some("IncludePublicKey");

    fn of(entry: &Arc<Entry>) -> Vec<Self> {
        let instance = &entry.instance;
        let named = instance.key_name.iter();
        named
            .map(|name| UsedKeyPair {
                name: name.to_string(),
                public_key: instance.imds.open_ssh_key.as_deref().map(str::to_string),
            })
            .collect()
    }

    fn key(&self) -> String {
        self.name.clone()
    }

    fn merge(&mut self, other: Self) {
        or_other(&mut self.public_key, other.public_key);
    }

    fn write(&self, xml: &mut Xml, include_public_key: bool) {
        xml.text("keyPairId", self.id());
        xml.text("keyName", &self.name);
        xml.optional("keyType", self.key().map(|(kind, _)| kind));
        xml.optional("keyFingerprint", self.fingerprint());
        let public_key = self.public_key.as_ref().filter(|_| include_public_key);
        xml.optional("publicKey", public_key);
        write_no_tags(xml);
    }
}
