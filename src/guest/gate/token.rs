//! Session tokens: stateless, so that a flood of token requests needs no memory, and bound to one
//! launch of one instance.
//!
//! A token is 40 bytes, printed as 56 characters of URL-safe base64 with padding, as on EC2:
//!
//! | bytes | meaning |
//! |---|---|
//! | 4 | `01 00 04 00`, as on Nitro |
//! | 1 | the number of the key |
//! | 5 | expiry: milliseconds of CLOCK_BOOTTIME, plus the key's secret offset |
//! | 6 | nonce |
//! | 24 | HMAC-SHA-256, cut to 192 bits, over the 16 bytes before it, the launch epoch and the instance ID |
//!
//! The offset hides the host's uptime from its guests.

use std::time::Duration;

use arc_swap::ArcSwap;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use crate::clock::Moment;
use crate::guest::gate::admitted::{Admitted, TokenTerms};
use crate::guest::gate::key_ring::{KeyRing, TokenKey};
use crate::guest::gate::ttl::MAX_TTL_SECONDS;
use crate::registry::Entry;

/// A token's length in characters.
const TOKEN_LENGTH: usize = 56;
const DECODED_LENGTH: usize = 40;
const PREFIX: [u8; 4] = [0x01, 0x00, 0x04, 0x00];
const MAC_OFFSET: usize = 16;
/// Expiries are kept modulo 2^40 milliseconds, which is 34 years.
const EXPIRY_MASK: u64 = (1 << 40) - 1;

/// A token on its way to the guest. It is redacted in logs.
pub struct Token(String);

impl Token {
    /// Returns the 56 characters.
    pub fn into_string(self) -> String {
        self.0
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[token]")
    }
}

/// Issues and verifies tokens with the keys that it is given. It keeps no table of issued tokens.
pub struct TokenAuthority {
    keys: ArcSwap<PreparedKeys>,
}

/// A key ring, ready to sign.
struct PreparedKeys {
    current: PreparedKey,
    previous: Option<PreparedKey>,
}

struct PreparedKey {
    key: TokenKey,
    hmac: Hmac<Sha256>,
}

/// Issues a token to an admitted request. `nonce` is random.
pub fn issue(
    authority: &TokenAuthority,
    admitted: &Admitted<'_, TokenTerms>,
    now: Moment,
    nonce: [u8; 6],
) -> Token {
    let keys = authority.keys.load();
    let current = &keys.current;
    let lifetime = Duration::from_secs(admitted.ttl().get().into());
    let expiry =
        milliseconds(now.since_boot + lifetime).wrapping_add(current.key.offset) & EXPIRY_MASK;

    let mut bytes = [0; DECODED_LENGTH];
    bytes[..4].copy_from_slice(&PREFIX);
    bytes[4] = current.key.id;
    bytes[5..10].copy_from_slice(&expiry.to_be_bytes()[3..]);
    bytes[10..MAC_OFFSET].copy_from_slice(&nonce);
    let mac = current
        .mac(&bytes[..MAC_OFFSET], admitted.entry())
        .finalize()
        .into_bytes();
    bytes[MAC_OFFSET..].copy_from_slice(&mac[..DECODED_LENGTH - MAC_OFFSET]);
    Token(URL_SAFE.encode(bytes))
}

impl TokenAuthority {
    /// Returns an authority over a key ring.
    pub fn new(ring: &KeyRing) -> TokenAuthority {
        TokenAuthority {
            keys: ArcSwap::from_pointee(PreparedKeys::new(ring)),
        }
    }

    /// Uses other keys from now on. Tokens of keys that are not in the new ring become invalid.
    pub fn replace_keys(&self, ring: &KeyRing) {
        self.keys.store(PreparedKeys::new(ring).into());
    }

    /// Returns the remaining lifetime of a token of this instance in seconds, rounded up (1 to
    /// 21600); `None` unless it is valid now.
    pub(super) fn verify(&self, token: &[u8], entry: &Entry, now: Moment) -> Option<u32> {
        // 1. The length first, so that nothing long is decoded. The decoder accepts one spelling
        //    only: padding and the unused bits of the last character must be as issued.
        let bytes = decode(token.try_into().ok()?)?;
        if bytes[..4] != PREFIX {
            return None;
        }

        // 2. The MAC, in constant time.
        let keys = self.keys.load();
        let key = [Some(&keys.current), keys.previous.as_ref()]
            .into_iter()
            .flatten()
            .find(|prepared| prepared.key.id == bytes[4])?;
        key.mac(&bytes[..MAC_OFFSET], entry)
            .verify_truncated_left(&bytes[MAC_OFFSET..])
            .ok()?;

        // 3. The expiry.
        let mut expiry = [0; 8];
        expiry[3..].copy_from_slice(&bytes[5..10]);
        let expiry = u64::from_be_bytes(expiry).wrapping_sub(key.key.offset) & EXPIRY_MASK;
        let remaining = expiry
            .checked_sub(milliseconds(now.since_boot))
            .filter(|&remaining| remaining > 0)?;
        u32::try_from(remaining.div_ceil(1000))
            .ok()
            .filter(|&seconds| seconds <= MAX_TTL_SECONDS)
    }
}

impl PreparedKeys {
    fn new(ring: &KeyRing) -> PreparedKeys {
        PreparedKeys {
            current: PreparedKey::new(&ring.current),
            previous: ring.previous.as_ref().map(PreparedKey::new),
        }
    }
}

impl PreparedKey {
    fn new(key: &TokenKey) -> PreparedKey {
        PreparedKey {
            key: key.clone(),
            hmac: Hmac::new_from_slice(&key.secret).expect("HMAC takes keys of any length"),
        }
    }

    fn mac(&self, head: &[u8], entry: &Entry) -> Hmac<Sha256> {
        let mut mac = self.hmac.clone();
        mac.update(head);
        mac.update(&entry.launch_epoch.to_be_bytes());
        mac.update(entry.instance.instance_id.as_str().as_bytes());
        mac
    }
}

/// The value of each character of URL-safe base64 (RFC 4648 section 5); 64 for any other byte.
static VALUES: [u8; 256] = {
    let mut values = [64; 256];
    let characters = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut value = 0;
    while value < 64 {
        values[characters[value] as usize] = value as u8;
        value += 1;
    }
    values
};

/// Decodes a token's characters: 54 of base64 and two of padding. Every request with a token is
/// decoded, and all tokens have one length, so this needs no general decoder.
fn decode(token: &[u8; TOKEN_LENGTH]) -> Option<[u8; DECODED_LENGTH]> {
    let mut bytes = [0; DECODED_LENGTH];
    let (characters, last) = token.split_at(TOKEN_LENGTH - 4);
    let mut all = 0;
    for (four, three) in characters.chunks_exact(4).zip(bytes.chunks_exact_mut(3)) {
        let values = [four[0], four[1], four[2], four[3]].map(|byte| VALUES[usize::from(byte)]);
        let word = values
            .iter()
            .fold(0, |word, value| word << 6 | u32::from(*value));
        all |= values.iter().fold(0, |all, value| all | value);
        three.copy_from_slice(&word.to_be_bytes()[1..]);
    }
    let [first, second] = [last[0], last[1]].map(|byte| VALUES[usize::from(byte)]);
    all |= first | second;
    // The four bits of the last character that are not used are zero.
    if all & 64 != 0 || second & 0xf != 0 || last[2..] != *b"==" {
        return None;
    }
    bytes[DECODED_LENGTH - 1] = first << 2 | second >> 4;
    Some(bytes)
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
