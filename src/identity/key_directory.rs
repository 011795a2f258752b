//! The directory of the key and the certificates.
//!
//! ```text
//! <state>/identity/            0700
//!     key.pem                  0600  the current key (PKCS #8) and its certificate
//!     retired/<serial>.pem     0600  certificates of earlier keys, still published until the file is removed
//! ```
//!
//! Key and certificate share a file, so one rename replaces both: after a crash at any time, the
//! current key has its certificate. A rotation writes the old certificate to `retired` before the
//! rename. If a certificate is in both places, it counts once.
//!
//! An operator's own key and certificate can be anywhere and are never written. Refused: a key that
//! other users can read, a key that is encrypted, not RSA or too short, and a certificate of
//! another key.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use rsa::PrivateKey;
use rsa::pkcs8::{EncodePrivateKey as _, LineEnding};
use rustix::fs::FlockOperation;
use zeroize::Zeroizing;

use super::certificate::Certificate;
use super::durable_write::{create_directory, write};
use super::identity_error::IdentityError;
use super::pem_files::{parse_certificate, parse_key, read_certificates, read_secret, read_text};
use super::signing_identity::Identity;
use crate::ownership::KeyOwner;

const KEY: &str = "key.pem";
const RETIRED: &str = "retired";

impl Identity {
    /// Opens the identity in this directory. If there is none, as at the first start, generates and
    /// stores one.
    pub fn open(directory: &Path, now: Timestamp) -> Result<Identity, IdentityError> {
        match Identity::read(directory) {
            Err(IdentityError::Missing(_)) => {}
            result => return result,
        }
        let _lock = lock(directory)?;
        match Identity::read(directory) {
            Err(IdentityError::Missing(_)) => create(directory, now),
            result => result,
        }
    }

    /// Reads the identity in this directory; [`IdentityError::Missing`] if there is none.
    pub fn read(directory: &Path) -> Result<Identity, IdentityError> {
        let path = directory.join(KEY);
        let text = match read_secret(&path, KeyOwner::of_daemon(Some(directory))) {
            Err(IdentityError::File { reason, .. }) if reason.kind() == io::ErrorKind::NotFound => {
                return Err(IdentityError::Missing(directory.to_path_buf()));
            }
            result => result?,
        };
        let (key, certificate) = (parse_key(&path, &text)?, parse_certificate(&path, &text)?);
        let mut retired = Vec::new();
        for file in pem_paths(&directory.join(RETIRED))? {
            retired.extend(read_certificates(&file)?);
        }
        matching_pair(key, &path, certificate, &path, retired)
    }

    /// Reads the operator's own key (PEM, PKCS #8 or PKCS #1, RSA with at least 2048 bits), its
    /// certificate, and files of retired certificates, which stay published. Key and certificate
    /// can be in one file. The key must belong to `owner`, and no other user may read it.
    pub fn of_operator(
        key: &Path,
        certificate: &Path,
        retired: &[PathBuf],
        owner: KeyOwner,
    ) -> Result<Identity, IdentityError> {
        let parsed = parse_key(key, &read_secret(key, owner)?)?;
        let own = parse_certificate(certificate, &read_text(certificate)?)?;
        let mut others = Vec::new();
        for file in retired {
            others.extend(read_certificates(file)?);
        }
        matching_pair(parsed, key, own, certificate, others)
    }
}

/// Replaces the key with a new one, and keeps the certificate of the old key published. If there is
/// no key yet, generates one.
///
/// A running daemon uses the new key after it has read it.
pub fn rotate(directory: &Path, now: Timestamp) -> Result<Identity, IdentityError> {
    let _lock = lock(directory)?;
    match Identity::read(directory) {
        Ok(old) => {
            let retired = directory.join(RETIRED);
            create_directory(&retired)?;
            write(
                &retired.join(format!("{}.pem", old.certificate.serial())),
                old.certificate.to_pem().as_bytes(),
            )?;
            let identity = create(directory, now)?;
            let retired = old.certificates().cloned().collect();
            Ok(Identity::new(identity.key, identity.certificate, retired))
        }
        Err(IdentityError::Missing(_)) => create(directory, now),
        Err(error) => Err(error),
    }
}

/// Generates an identity and stores it.
fn create(directory: &Path, now: Timestamp) -> Result<Identity, IdentityError> {
    let identity = Identity::generate(now).map_err(IdentityError::Generation)?;
    let key = identity
        .key
        .to_pkcs8_pem(LineEnding::LF)
        .expect("a generated key can be encoded");
    let certificate = identity.certificate.to_pem();
    let mut text = Zeroizing::new(String::with_capacity(key.len() + certificate.len()));
    text.push_str(&key);
    text.push_str(&certificate);
    write(&directory.join(KEY), text.as_bytes())?;
    Ok(identity)
}

/// Returns the identity, if the certificate belongs to the key.
fn matching_pair(
    key: PrivateKey,
    key_file: &Path,
    certificate: Certificate,
    certificate_file: &Path,
    retired: Vec<Certificate>,
) -> Result<Identity, IdentityError> {
    if certificate.rsa_key().as_ref() != Some(key.as_public_key()) {
        let (key, certificate) = (key_file.to_path_buf(), certificate_file.to_path_buf());
        return Err(IdentityError::Mismatch { key, certificate });
    }
    Ok(Identity::new(key, certificate, retired))
}

/// Returns the PEM files in a directory in the order of their names; none if the directory does not
/// exist.
fn pem_paths(directory: &Path) -> Result<Vec<PathBuf>, IdentityError> {
    let entries = match fs::read_dir(directory) {
        Err(reason) if reason.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        result => result.map_err(IdentityError::of_file("read", directory))?,
    };
    let paths = entries
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<io::Result<Vec<PathBuf>>>();
    let mut paths = paths.map_err(IdentityError::of_file("read", directory))?;
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "pem"));
    paths.sort();
    Ok(paths)
}

/// Locks a directory, so that no other process generates a key in it until the lock is dropped.
fn lock(directory: &Path) -> Result<File, IdentityError> {
    create_directory(directory)?;
    let file = File::open(directory).map_err(IdentityError::of_file("open", directory))?;
    rustix::fs::flock(&file, FlockOperation::LockExclusive)
        .map_err(|reason| IdentityError::of_file("lock", directory)(reason.into()))?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

    use rsa::pkcs1::EncodeRsaPrivateKey as _;

    use super::*;
    use crate::identity::testing::{IDENTITY, OTHER, now};

    /// Writes a file that only its owner can read.
    fn secret(directory: &Path, name: &str, text: &str) -> PathBuf {
        let path = directory.join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path
    }

    fn pkcs8(identity: &Identity) -> Zeroizing<String> {
        identity.key.to_pkcs8_pem(LineEnding::LF).unwrap()
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o777
    }

    /// Reading a FIFO would wait for a writer, forever (fifo(7)).
    #[test]
    fn a_fifo_instead_of_a_key_or_a_certificate_is_refused_at_once() {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path().join("identity");
        Identity::open(&place, now()).unwrap();
        fs::create_dir_all(place.join(RETIRED)).unwrap();
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        for name in ["retired/old.pem", KEY] {
            let path = place.join(name);
            let _ = fs::remove_file(&path);
            rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, mode, 0)
                .unwrap();
            let refused = Identity::read(&place)
                .expect_err("a FIFO is refused")
                .to_string();
            assert!(
                refused.contains(name) && refused.contains("not a regular file"),
                "{refused}"
            );
        }
    }

    #[test]
    fn the_first_start_generates_a_key_and_the_next_reads_it() {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path().join("state/identity");
        assert!(matches!(
            Identity::read(&place),
            Err(IdentityError::Missing(_))
        ));

        let first = Identity::open(&place, now()).unwrap();
        assert_eq!((mode(&place), mode(&place.join(KEY))), (0o700, 0o600));
        let second = Identity::open(&place, now()).unwrap();
        assert_eq!(second.certificates_pem(), first.certificates_pem());
        assert_eq!(second.key, first.key);

        // A rotation generates another key. The old certificate is published after the new one.
        let rotated = rotate(&place, now()).unwrap();
        assert_ne!(rotated.key, first.key);
        let published = [rotated.certificate.clone(), first.certificate.clone()];
        assert_eq!(
            rotated.certificates().cloned().collect::<Vec<_>>(),
            published
        );
        assert_eq!(
            Identity::open(&place, now())
                .unwrap()
                .certificates()
                .cloned()
                .collect::<Vec<_>>(),
            published
        );
        assert_eq!(
            fs::read_dir(&place).unwrap().count(),
            2,
            "no temporary file remains"
        );

        // A crash between the two steps of a rotation: the current certificate is in retired too,
        // and counts once.
        let serial = rotated.certificate.serial();
        write(
            &place.join(RETIRED).join(format!("{serial}.pem")),
            rotated.certificate.to_pem().as_bytes(),
        )
        .unwrap();
        secret(&place, "key.pem.tmp", "half a k");
        let after = Identity::open(&place, now()).unwrap();
        assert_eq!(after.certificates().cloned().collect::<Vec<_>>(), published);
    }

    #[test]
    fn an_operators_own_key_is_read_in_either_form() {
        let directory = tempfile::tempdir().unwrap();
        let certificate = directory.path().join("certificate.pem");
        fs::write(
            &certificate,
            format!("subject=imdsd\n{}", IDENTITY.certificate.to_pem()),
        )
        .unwrap();
        let old = directory.path().join("old.pem");
        fs::write(&old, OTHER.certificate.to_pem()).unwrap();
        let pkcs1 = IDENTITY.key.to_pkcs1_pem(LineEnding::LF).unwrap();
        for text in [pkcs8(&IDENTITY), pkcs1] {
            let key = secret(directory.path(), "key.pem", &text);
            let identity = Identity::of_operator(
                &key,
                &certificate,
                std::slice::from_ref(&old),
                KeyOwner::this_user(),
            )
            .unwrap();
            assert_eq!(identity.key, IDENTITY.key);
            assert_eq!(identity.retired, std::slice::from_ref(&OTHER.certificate));
        }
        let both = secret(
            directory.path(),
            "both.pem",
            &(pkcs8(&IDENTITY).to_string() + &IDENTITY.certificate.to_pem()),
        );
        assert!(Identity::of_operator(&both, &both, &[], KeyOwner::this_user()).is_ok());
    }

    #[test]
    fn the_fault_of_a_key_or_a_certificate_is_named_with_its_file() {
        // A key of 1024 bits, and one that is not RSA; both were generated for this test only.
        let short = PrivateKey::new(&mut rand::rng(), 1024)
            .unwrap()
            .to_pkcs8_pem(LineEnding::LF)
            .unwrap();
        const CURVE: &str = "-----BEGIN PRIVATE KEY-----\n\
                             MC4CAQAwBQYDK2VwBCIEIJ+DYvh6SEqVTm50DFtMDoQikTmiCqirVv9mWG9qfSnF\n\
                             -----END PRIVATE KEY-----\n";
        let (good, own) = (pkcs8(&IDENTITY), IDENTITY.certificate.to_pem());
        let two = own.clone() + &OTHER.certificate.to_pem();
        for (key, certificate, message) in [
            (
                "",
                &own,
                "key.pem: no PEM block -----BEGIN PRIVATE KEY-----",
            ),
            (
                "-----BEGIN ENCRYPTED PRIVATE KEY-----\n",
                &own,
                "key.pem: the key is encrypted",
            ),
            (
                "-----BEGIN PRIVATE KEY-----\n!\n-----END PRIVATE KEY-----\n",
                &own,
                "key.pem: ",
            ),
            (
                CURVE,
                &own,
                "it must be an RSA key such as openssl genrsa 2048 generates",
            ),
            (
                &short,
                &own,
                "key.pem: the key has 1024 bits; it must have at least 2048",
            ),
            (
                &good,
                &"none".into(),
                "certificate.pem: no PEM block -----BEGIN CERTIFICATE-----",
            ),
            (
                &good,
                &own.replace("MII", "M"),
                "certificate.pem: certificate 1 cannot be read: ",
            ),
            (
                &good,
                &two,
                "certificate.pem: it contains 2 certificates; it must contain only the certificate of the key",
            ),
            (
                &good,
                &OTHER.certificate.to_pem(),
                "certificate.pem: this certificate does not belong to the key in ",
            ),
        ] {
            let directory = tempfile::tempdir().unwrap();
            let key = secret(directory.path(), "key.pem", key);
            let path = directory.path().join("certificate.pem");
            fs::write(&path, certificate).unwrap();
            let error = Identity::of_operator(&key, &path, &[], KeyOwner::this_user())
                .unwrap_err()
                .to_string();
            assert!(error.contains(message), "{error}");
            assert!(
                error.starts_with(directory.path().to_str().unwrap()),
                "{error}"
            );
        }
    }

    #[test]
    fn a_key_that_other_users_can_read_is_refused_with_the_command_that_fixes_it() {
        let directory = tempfile::tempdir().unwrap();
        let key = secret(
            directory.path(),
            "key.pem",
            &(pkcs8(&IDENTITY).to_string() + &IDENTITY.certificate.to_pem()),
        );
        for mode in [0o640, 0o604, 0o660] {
            fs::set_permissions(&key, fs::Permissions::from_mode(mode)).unwrap();
            let error = Identity::open(directory.path(), now())
                .unwrap_err()
                .to_string();
            let name = key.display();
            assert_eq!(
                error,
                format!(
                    "{name}: others can read these secrets (mode {mode:o}); run: chmod 600 {name}"
                )
            );
        }
        fs::set_permissions(&key, fs::Permissions::from_mode(0o400)).unwrap();
        assert!(Identity::open(directory.path(), now()).is_ok());
    }

    #[test]
    fn a_damaged_identity_is_never_replaced_by_a_new_one() {
        let directory = tempfile::tempdir().unwrap();
        let mixed = pkcs8(&IDENTITY).to_string() + &OTHER.certificate.to_pem();
        for text in ["", &mixed[..800], &mixed] {
            let key = secret(directory.path(), KEY, text);
            assert!(Identity::open(directory.path(), now()).is_err());
            assert!(rotate(directory.path(), now()).is_err());
            assert_eq!(fs::read_to_string(key).unwrap(), text);
        }
        secret(
            directory.path(),
            KEY,
            &(pkcs8(&IDENTITY).to_string() + &IDENTITY.certificate.to_pem()),
        );
        fs::create_dir(directory.path().join(RETIRED)).unwrap();
        fs::write(directory.path().join(RETIRED).join("old.pem"), "damaged").unwrap();
        let error = Identity::open(directory.path(), now())
            .unwrap_err()
            .to_string();
        assert!(error.contains("retired/old.pem: no PEM block"), "{error}");
    }
}
