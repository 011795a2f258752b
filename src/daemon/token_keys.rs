//! The keys of session tokens on disk: tokens survive a restart of the daemon and end with a reboot
//! of the host, whose clock starts again at zero.

use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tracing::warn;

use crate::clock::Moment;
use crate::guest::gate::{KeyMaterial, KeyRing, TokenAuthority, TokenKey};
use crate::ownership::{self, KeyOwner};
use crate::plain_file::{self, PlainFile, Symlinks};

/// The key ring of the token authority, and the file that it is stored in.
pub(super) struct TokenKeys {
    ring: KeyRing,
    authority: Arc<TokenAuthority>,
    /// `None` keeps the ring in memory only.
    file: Option<RingFile>,
}

/// `token-keys` in the runtime directory.
struct RingFile {
    path: PathBuf,
    boot_id: String,
}

/// The content of the file.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct StoredRing {
    /// Times since boot have no meaning in another boot.
    boot_id: String,
    current: TokenKey,
    previous: Option<TokenKey>,
}

impl TokenKeys {
    /// Returns keys that end with the process.
    pub(super) fn in_memory(now: Moment) -> TokenKeys {
        TokenKeys::new(KeyRing::new(random_material(), now), None)
    }

    /// Opens the keys in the runtime directory (`token-keys`, mode 0600). They are valid until the
    /// host reboots.
    ///
    /// A ring is replaced if it cannot be read, if it is of another boot, or if another user could
    /// have read or written it. Then old tokens are invalid: clients get 401 and fetch new ones.
    /// Fails if other users can write the directory.
    pub(super) fn open(directory: &Path, boot_id: &str, now: Moment) -> io::Result<TokenKeys> {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)?;
        if let Some(reason) = ownership::fault(directory, &std::fs::metadata(directory)?) {
            return Err(io::Error::other(reason));
        }
        let file = RingFile {
            path: directory.join("token-keys"),
            boot_id: boot_id.to_string(),
        };
        let ring = match file.read()? {
            Some(ring) => ring,
            None => {
                let ring = KeyRing::new(random_material(), now);
                file.write(&ring)?;
                ring
            }
        };
        let mut keys = TokenKeys::new(ring, Some(file));
        keys.roll(now)?;
        Ok(keys)
    }

    fn new(ring: KeyRing, file: Option<RingFile>) -> TokenKeys {
        let authority = Arc::new(TokenAuthority::new(&ring));
        TokenKeys {
            ring,
            authority,
            file,
        }
    }

    /// Returns the token authority that uses these keys.
    pub(super) fn authority(&self) -> Arc<TokenAuthority> {
        Arc::clone(&self.authority)
    }

    /// Returns whether the current key is six hours old.
    pub(super) fn are_due(&self, now: Moment) -> bool {
        self.ring.is_due(now)
    }

    /// Creates a new key if the current one is six hours old. Writes it to the disk.
    ///
    /// If the new ring cannot be stored, the old one stays in use and the error is returned.
    pub(super) fn roll(&mut self, now: Moment) -> io::Result<()> {
        if !self.are_due(now) {
            return Ok(());
        }
        let ring = self.ring.rolled(random_material(), now);
        if let Some(file) = &self.file {
            file.write(&ring)?;
        }
        self.authority.replace_keys(&ring);
        self.ring = ring;
        Ok(())
    }
}

impl RingFile {
    /// Returns the stored ring of this boot; `None` if there is none that can be used.
    fn read(&self) -> io::Result<Option<KeyRing>> {
        let Some(bytes) = read_private(&self.path)? else {
            return Ok(None);
        };
        let stored = serde_json::from_slice::<StoredRing>(&bytes).ok();
        Ok(stored
            .filter(|ring| ring.boot_id == self.boot_id)
            .map(|ring| KeyRing {
                current: ring.current,
                previous: ring.previous,
            }))
    }

    fn write(&self, ring: &KeyRing) -> io::Result<()> {
        let stored = StoredRing {
            boot_id: self.boot_id.clone(),
            current: ring.current.clone(),
            previous: ring.previous.clone(),
        };
        let temporary = self.path.with_extension("tmp");
        let _ = std::fs::remove_file(&temporary);
        let mut out = std::fs::OpenOptions::new()
            .create_new(true)
            .write(true)
            .mode(0o600)
            .open(&temporary)?;
        out.write_all(&serde_json::to_vec(&stored)?)?;
        std::fs::rename(&temporary, &self.path)
    }
}

/// Returns the bytes of a file; `None` if it does not exist, or if it is not private to this user:
/// anyone who knows the keys can make tokens for every instance.
fn read_private(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let refuse = |reason: &dyn std::fmt::Display| {
        warn!(
            "{}: {reason}; its token keys are not used, and tokens issued before are invalid",
            path.display()
        );
        Ok(None)
    };
    match PlainFile::open(path, Symlinks::Refuse) {
        Ok(file) => match file.key_fault(path, KeyOwner::this_user()) {
            None => file.read_bytes(plain_file::MAX_BYTES).map(Some),
            Some(fault) => refuse(&fault),
        },
        Err(reason) if reason.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(reason) => refuse(&reason),
    }
}

fn random_material() -> KeyMaterial {
    KeyMaterial {
        secret: rand::random(),
        offset: rand::random(),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::time::Duration;

    use super::*;
    use crate::config::demo_instance;
    use crate::guest::request::HostRule;
    use crate::guest::{Guest, Precomputed};
    use crate::http::{Body, HttpVersion, RawRequest};
    use crate::instance::Attachment;
    use crate::origin::{Family, Origin};
    use crate::registry::Registry;
    use crate::registry::memory::MemoryStore;

    /// A directory for the key ring, and a guest that uses the keys in it.
    struct Host {
        directory: tempfile::TempDir,
        registry: Arc<Registry>,
        now: Moment,
    }

    impl Host {
        fn new() -> Host {
            let now = Moment {
                since_boot: Duration::from_secs(1_000),
                wall: "2026-05-16T16:25:07Z".parse().unwrap(),
            };
            let (registry, _) = Registry::open(Arc::new(MemoryStore)).unwrap();
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime
                .block_on(registry.register(demo_instance(), now.wall))
                .unwrap();
            Host {
                directory: tempfile::tempdir().unwrap(),
                registry,
                now,
            }
        }

        fn ring(&self) -> PathBuf {
            self.directory.path().join("token-keys")
        }

        /// Sends a request to a daemon that started in this boot of the host.
        fn ask(
            &self,
            boot: &str,
            method: &str,
            path: &str,
            (name, value): (&str, &str),
        ) -> (u16, String) {
            let keys = TokenKeys::open(self.directory.path(), boot, self.now).unwrap();
            let guest = Guest::new(
                Arc::clone(&self.registry),
                keys.authority(),
                Precomputed::default(),
                HostRule::Any,
            );
            let origin = Origin {
                attachment: Attachment::Listener("demo".into()),
                family: Family::Ipv4,
                peer: "127.0.0.1:40000".parse().unwrap(),
                holder: None,
            };
            let request = RawRequest {
                method,
                target: path,
                version: HttpVersion::Http11,
                headers: &[("host", b"imds".as_slice()), (name, value.as_bytes())],
                body: Body::Empty,
            };
            let reply = guest.answer(&origin, request, self.now, rand::random());
            let reply = reply.expect("the demo instance is served");
            let body = String::from_utf8(reply.body.to_vec()).unwrap();
            (reply.status, body)
        }

        fn token(&self) -> String {
            let ttl = ("x-aws-ec2-metadata-token-ttl-seconds", "60");
            self.ask("boot 1", "PUT", "/latest/api/token", ttl).1
        }

        fn status_with(&self, boot: &str, token: &str) -> u16 {
            self.ask(boot, "GET", "/", ("x-aws-ec2-metadata-token", token))
                .0
        }
    }

    fn set_mode(path: &Path, mode: u32) {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    fn mode_of(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn the_key_ring_survives_a_restart_but_not_a_reboot() {
        let host = Host::new();
        let token = host.token();
        assert_eq!(host.status_with("boot 1", &token), 200);
        assert_eq!(host.status_with("boot 2", &token), 401);
        assert_eq!(host.status_with("boot 1", &token), 401);
    }

    #[test]
    fn a_damaged_key_ring_is_replaced() {
        let host = Host::new();
        std::fs::write(host.ring(), "{").unwrap();
        let token = host.token();
        assert_eq!(host.status_with("boot 1", &token), 200);
    }

    #[test]
    fn a_key_ring_that_another_user_can_know_or_write_is_replaced() {
        let host = Host::new();
        for mode in [0o640, 0o604, 0o620] {
            let token = host.token();
            set_mode(&host.ring(), mode);
            assert_eq!(host.status_with("boot 1", &token), 401, "{mode:o}");
            assert_eq!(mode_of(&host.ring()), 0o600);
        }
        let token = host.token();
        std::fs::rename(host.ring(), host.directory.path().join("elsewhere")).unwrap();
        std::os::unix::fs::symlink("elsewhere", host.ring()).unwrap();
        assert_eq!(host.status_with("boot 1", &token), 401, "a symbolic link");
        // Only root can give the file to another user.
        let token = host.token();
        if std::os::unix::fs::chown(host.ring(), Some(65534), None).is_ok() {
            assert_eq!(host.status_with("boot 1", &token), 401, "another owner");
        }
    }

    /// A user who can write the directory could put a key ring there at any time.
    #[test]
    fn a_directory_that_others_can_write_is_refused() {
        let host = Host::new();
        host.token();
        for mode in [0o720, 0o702, 0o1777] {
            set_mode(host.directory.path(), mode);
            let refused = TokenKeys::open(host.directory.path(), "boot 1", host.now)
                .err()
                .expect("the directory is refused");
            assert!(
                refused
                    .to_string()
                    .contains("others may write it; run: chmod 700 "),
                "{refused}"
            );
        }
        assert_eq!(mode_of(&host.ring()), 0o600);
    }
}
