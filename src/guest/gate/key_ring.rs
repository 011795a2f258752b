//! The keys of session tokens: plain data, so that the caller can store it.
//!
//! Keys roll every six hours, which is a token's longest lifetime, and the previous key stays valid
//! for another six hours. Time and randomness are arguments.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::Moment;
use crate::guest::gate::ttl::MAX_TTL_SECONDS;

/// How old a key is when the next one replaces it.
const ROLL_AFTER: Duration = Duration::from_secs(MAX_TTL_SECONDS as u64);

/// The keys in use.
#[derive(Clone, Debug)]
pub struct KeyRing {
    /// The key that signs new tokens.
    pub current: TokenKey,
    /// The key before it, while tokens of it can be valid.
    pub previous: Option<TokenKey>,
}

/// One key.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct TokenKey {
    /// Which key: a byte of each token names it.
    pub(super) id: u8,
    pub(super) secret: [u8; 32],
    /// Added to every expiry under this key, modulo 2^40.
    pub(super) offset: u64,
    /// When the key was created, in seconds since boot.
    #[serde(rename = "Made")]
    pub(super) created: u64,
}

/// The random values of a new key.
pub struct KeyMaterial {
    /// The secret of the MAC.
    pub secret: [u8; 32],
    /// The offset that hides the host's uptime from its guests.
    pub offset: u64,
}

impl KeyRing {
    /// Returns a ring with one key.
    pub fn new(material: KeyMaterial, now: Moment) -> KeyRing {
        KeyRing {
            current: TokenKey::new(0, material, now),
            previous: None,
        }
    }

    /// Returns whether the current key is old enough to be replaced.
    pub fn is_due(&self, now: Moment) -> bool {
        self.current.age(now) >= ROLL_AFTER
    }

    /// Returns the ring with a new current key.
    pub fn rolled(&self, material: KeyMaterial, now: Moment) -> KeyRing {
        // A key that was not replaced for two lifetimes has no valid tokens left.
        let previous_has_tokens = self.current.age(now) < 2 * ROLL_AFTER;
        KeyRing {
            current: TokenKey::new(self.current.id.wrapping_add(1), material, now),
            previous: previous_has_tokens.then(|| self.current.clone()),
        }
    }
}

impl TokenKey {
    fn new(id: u8, material: KeyMaterial, now: Moment) -> TokenKey {
        TokenKey {
            id,
            secret: material.secret,
            offset: material.offset,
            created: now.since_boot.as_secs(),
        }
    }

    fn age(&self, now: Moment) -> Duration {
        now.since_boot
            .saturating_sub(Duration::from_secs(self.created))
    }
}

/// Prints the number of the key only.
impl fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[token key {}]", self.id)
    }
}
