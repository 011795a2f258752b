//! Session tokens: stateless, so that a flood of them costs nothing, and bound to one launch of one instance.
//!
//! A token is 40 bytes, shown as 56 characters of URL-safe base64 with padding, as EC2's are:
//!
//! | bytes | what |
//! |---|---|
//! | 4 | `01 00 04 00`, as on Nitro |
//! | 1 | which key |
//! | 5 | expiry: milliseconds of CLOCK_BOOTTIME, plus the key's own secret offset |
//! | 6 | nonce |
//! | 24 | HMAC-SHA-256, cut to 192 bits, over the 16 bytes before it, the instance id and the launch epoch |
//!
//! The offset keeps the host's uptime from its guests. Keys roll every six hours, which is a token's longest life, and the
//! one before stays good for as long. The ring lives in the runtime directory: tokens survive a restart of the daemon and
//! end with a reboot of the host, whose clock starts anew.

use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use arc_swap::ArcSwap;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use tracing::warn;

use crate::clock::Moment;
use crate::guest::gate::{Admitted, Issuing};
use crate::ownership;
use crate::plain_file::{self, PlainFile, Symlinks};
use crate::registry::Entry;

/// A token's length in characters.
pub const TOKEN_LENGTH: usize = 56;
/// The longest life of a token, in seconds (EC2's limit).
pub const MAX_TTL: u32 = 21_600;

const DECODED_LENGTH: usize = 40;
const PREFIX: [u8; 4] = [0x01, 0x00, 0x04, 0x00];
const MAC_STARTS: usize = 16;
/// Expiries are kept modulo 2^40 milliseconds, 34 years.
const EXPIRY_MASK: u64 = (1 << 40) - 1;

/// How long a token lives when it is issued: 1 to 21600 seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TtlSeconds(u32);

impl TtlSeconds {
    /// Reads the header's value: digits only, no sign, no blanks inside.
    pub fn parse(value: &[u8]) -> Option<TtlSeconds> {
        if !(1..=5).contains(&value.len()) || !value.iter().all(u8::is_ascii_digit) {
            return None;
        }
        let seconds = value
            .iter()
            .fold(0, |sum, digit| sum * 10 + u32::from(digit - b'0'));
        (1..=MAX_TTL)
            .contains(&seconds)
            .then_some(TtlSeconds(seconds))
    }

    /// The seconds.
    pub fn get(self) -> u32 {
        self.0
    }
}

/// A token as it goes to the guest. It prints as nothing in logs.
pub struct Token(String);

impl Token {
    /// The 56 characters.
    pub fn into_string(self) -> String {
        self.0
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[token]")
    }
}

/// Issues and verifies tokens. It hides its keys and remembers nothing of what it issued.
pub struct TokenAuthority {
    ring: ArcSwap<KeyRing>,
    /// Where the ring is kept; `None` keeps it in memory only.
    file: Option<PathBuf>,
    boot_id: String,
}

struct KeyRing {
    current: Key,
    previous: Option<Key>,
}

struct Key {
    kept: KeptKey,
    keyed: Hmac<Sha256>,
}

/// A key as it is kept in the runtime directory.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct KeptKey {
    id: u8,
    /// 32 bytes.
    secret: [u8; 32],
    /// Added to every expiry under this key, modulo 2^40.
    offset: u64,
    /// Seconds since boot when it was made.
    made: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct KeptRing {
    /// Times since boot mean nothing to another boot.
    boot_id: String,
    current: KeptKey,
    previous: Option<KeptKey>,
}

impl TokenAuthority {
    /// An authority whose keys end with the process.
    pub fn in_memory(now: Moment) -> TokenAuthority {
        let ring = KeyRing {
            current: Key::new(KeptKey::generate(0, now)),
            previous: None,
        };
        TokenAuthority {
            ring: ArcSwap::from_pointee(ring),
            file: None,
            boot_id: String::new(),
        }
    }

    /// An authority whose keys are kept in `token-keys` in the runtime directory (mode 0600) until the host reboots.
    ///
    /// A ring that can't be read, or is of another boot, or that anybody else could have read or written, is replaced:
    /// old tokens are then void and clients, told 401, fetch new ones. Fails where others may write the directory.
    pub fn open(
        runtime_directory: &Path,
        boot_id: &str,
        now: Moment,
    ) -> io::Result<TokenAuthority> {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(runtime_directory)?;
        if let Some(reason) =
            ownership::fault(runtime_directory, &std::fs::metadata(runtime_directory)?)
        {
            return Err(io::Error::other(reason));
        }
        let file = runtime_directory.join("token-keys");
        let kept = read_private(&file)?
            .and_then(|bytes| serde_json::from_slice::<KeptRing>(&bytes).ok())
            .filter(|ring| ring.boot_id == boot_id);
        let is_new = kept.is_none();
        let ring = match kept {
            Some(kept) => KeyRing {
                current: Key::new(kept.current),
                previous: kept.previous.map(Key::new),
            },
            None => KeyRing {
                current: Key::new(KeptKey::generate(0, now)),
                previous: None,
            },
        };
        let authority = TokenAuthority {
            ring: ArcSwap::from_pointee(ring),
            file: Some(file),
            boot_id: boot_id.to_string(),
        };
        if is_new {
            authority.keep(&authority.ring.load())?;
        }
        authority.roll(now)?;
        Ok(authority)
    }

    /// Makes a new key when the current one is six hours old. To be called now and then.
    ///
    /// When the new ring can't be kept the old one stays in use, and the error says why.
    pub fn roll(&self, now: Moment) -> io::Result<()> {
        let ring = self.ring.load();
        let age = now
            .since_boot
            .saturating_sub(Duration::from_secs(ring.current.kept.made));
        if age < Duration::from_secs(MAX_TTL.into()) {
            return Ok(());
        }
        // A key that was idle for two lives has no tokens left to honour.
        let previous_is_of_use = age < Duration::from_secs(2 * u64::from(MAX_TTL));
        let next = KeyRing {
            current: Key::new(KeptKey::generate(ring.current.kept.id.wrapping_add(1), now)),
            previous: previous_is_of_use.then(|| Key::new(ring.current.kept.clone())),
        };
        self.keep(&next)?;
        self.ring.store(next.into());
        Ok(())
    }

    /// Issues a token to an admitted request.
    pub fn issue(&self, admitted: &Admitted<'_, Issuing>, now: Moment, nonce: [u8; 6]) -> Token {
        let key = &self.ring.load().current;
        let life = Duration::from_secs(admitted.ttl().get().into());
        let expiry =
            milliseconds(now.since_boot + life).wrapping_add(key.kept.offset) & EXPIRY_MASK;

        let mut bytes = [0; DECODED_LENGTH];
        bytes[..4].copy_from_slice(&PREFIX);
        bytes[4] = key.kept.id;
        bytes[5..10].copy_from_slice(&expiry.to_be_bytes()[3..]);
        bytes[10..MAC_STARTS].copy_from_slice(&nonce);
        let mac = key
            .mac(&bytes[..MAC_STARTS], admitted.entry())
            .finalize()
            .into_bytes();
        bytes[MAC_STARTS..].copy_from_slice(&mac[..DECODED_LENGTH - MAC_STARTS]);
        Token(URL_SAFE.encode(bytes))
    }

    /// How long a token has left for this instance, in seconds rounded up; `None` unless it is valid right now.
    pub fn verify(&self, token: &[u8], entry: &Entry, now: Moment) -> Option<u32> {
        // Length first, so that nothing long is decoded. The decoder takes one spelling only: padding and the unused bits
        // of the last character must be as they were issued.
        if token.len() != TOKEN_LENGTH {
            return None;
        }
        let mut bytes = [0; DECODED_LENGTH + 2];
        let length = URL_SAFE.decode_slice(token, &mut bytes).ok()?;
        let bytes: &[u8; DECODED_LENGTH] = bytes[..length].try_into().ok()?;
        if bytes[..4] != PREFIX {
            return None;
        }
        let ring = self.ring.load();
        let key = [Some(&ring.current), ring.previous.as_ref()]
            .into_iter()
            .flatten()
            .find(|k| k.kept.id == bytes[4])?;
        // In constant time.
        key.mac(&bytes[..MAC_STARTS], entry)
            .verify_truncated_left(&bytes[MAC_STARTS..])
            .ok()?;

        let mut expiry = [0; 8];
        expiry[3..].copy_from_slice(&bytes[5..10]);
        let expiry = u64::from_be_bytes(expiry).wrapping_sub(key.kept.offset) & EXPIRY_MASK;
        let left = expiry
            .checked_sub(milliseconds(now.since_boot))
            .filter(|&left| left > 0)?;
        u32::try_from(left.div_ceil(1000))
            .ok()
            .filter(|&seconds| seconds <= MAX_TTL)
    }

    fn keep(&self, ring: &KeyRing) -> io::Result<()> {
        let Some(file) = &self.file else {
            return Ok(());
        };
        let kept = KeptRing {
            boot_id: self.boot_id.clone(),
            current: ring.current.kept.clone(),
            previous: ring.previous.as_ref().map(|key| key.kept.clone()),
        };
        let temporary = file.with_extension("tmp");
        let _ = std::fs::remove_file(&temporary);
        let mut out = std::fs::OpenOptions::new()
            .create_new(true)
            .write(true)
            .mode(0o600)
            .open(&temporary)?;
        out.write_all(&serde_json::to_vec(&kept)?)?;
        std::fs::rename(&temporary, file)
    }
}

/// The bytes of a file; `None` where there is none, or one that is not this user's alone: whoever knows the keys makes
/// tokens for every instance.
fn read_private(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let refused = |why: &dyn std::fmt::Display| {
        warn!(
            "{}: {why}; its token keys are not used, and tokens issued before are void",
            path.display()
        );
        Ok(None)
    };
    match PlainFile::open(path, Symlinks::Refuse) {
        Ok(file) if ownership::is_private(file.metadata()) => {
            file.read_bytes(plain_file::MAX_BYTES).map(Some)
        }
        Ok(_) => refused(&"it is not this user's alone (mode 0600)"),
        Err(reason) if reason.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(reason) => refused(&reason),
    }
}

impl Key {
    fn new(kept: KeptKey) -> Key {
        let keyed = Hmac::new_from_slice(&kept.secret).expect("HMAC takes keys of any length");
        Key { kept, keyed }
    }

    fn mac(&self, head: &[u8], entry: &Entry) -> Hmac<Sha256> {
        let mut mac = self.keyed.clone();
        mac.update(head);
        mac.update(&entry.launch_epoch.to_be_bytes());
        mac.update(entry.instance.instance_id.as_str().as_bytes());
        mac
    }
}

impl KeptKey {
    fn generate(id: u8, now: Moment) -> KeptKey {
        let offset = rand::random::<u64>() & EXPIRY_MASK;
        KeptKey {
            id,
            secret: rand::random(),
            offset,
            made: now.since_boot.as_secs(),
        }
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
