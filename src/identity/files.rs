//! Where keys and certificates lie.
//!
//! ```text
//! <state>/identity/            0700
//!     key.pem                  0600  the key in use (PKCS #8) and its certificate
//!     retired/<serial>.pem     0600  certificates of earlier keys, still published; remove a file to end that
//! ```
//!
//! Key and certificate share a file so that one rename replaces both: after a crash at any moment the key in force has its
//! certificate. A rotation writes the old certificate to `retired` before it renames; found in both places, it counts once.
//!
//! An operator's own key and certificate may lie anywhere and are never written. Refused: a key that others can read, one
//! that is encrypted or not RSA or too short, a certificate of another key.

use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use rsa::PrivateKey;
use rsa::pkcs1::DecodeRsaPrivateKey as _;
use rsa::pkcs8::{DecodePrivateKey as _, EncodePrivateKey as _, LineEnding};
use rustix::fs::FlockOperation;
use zeroize::Zeroizing;

use super::{Certificate, Identity, MIN_KEY_BITS, SigningError, armour, bits};
use crate::plain_file::{self, PlainFile, Symlinks};

const KEY: &str = "key.pem";
const RETIRED: &str = "retired";
/// The ending of a file that is not yet, or will never be, one of the above.
const TEMPORARY: &str = ".tmp";

/// Why there is no identity to sign with.
#[derive(Debug)]
pub enum IdentityError {
    /// A file or directory can't be read, made or written.
    File {
        /// `read`, `write`, …
        doing: &'static str,
        /// Which one.
        path: PathBuf,
        /// The system's reason.
        reason: io::Error,
    },
    /// Nothing was generated in this directory yet.
    Missing(PathBuf),
    /// Others than the owner can read the key.
    Exposed {
        /// The key's file.
        key: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// The file has no usable RSA key.
    Key {
        /// The key's file.
        key: PathBuf,
        /// What is wrong with it; never a part of it.
        reason: String,
    },
    /// The file has no usable certificate.
    Certificate {
        /// The certificate's file.
        certificate: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The certificate is of another key.
    Mismatch {
        /// The key's file.
        key: PathBuf,
        /// The certificate's file.
        certificate: PathBuf,
    },
    /// A key could not be made.
    Generation(SigningError),
}

impl Identity {
    /// Opens the identity in this directory. At the first start there is none, and one is generated and stored.
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

    /// Reads the identity in this directory; [`IdentityError::Missing`] when there is none.
    pub fn read(directory: &Path) -> Result<Identity, IdentityError> {
        let path = directory.join(KEY);
        let text = match read_secret(&path) {
            Err(IdentityError::File { reason, .. }) if reason.kind() == io::ErrorKind::NotFound => {
                return Err(IdentityError::Missing(directory.to_path_buf()));
            }
            result => result?,
        };
        let (key, certificate) = (parse_key(&path, &text)?, parse_certificate(&path, &text)?);
        let mut retired = Vec::new();
        for file in listed(&directory.join(RETIRED))? {
            retired.extend(read_certificates(&file)?);
        }
        matched(key, &path, certificate, &path, retired)
    }

    /// The operator's own key (PEM, PKCS #8 or PKCS #1, at least 2048 bits of RSA), its certificate, and files of
    /// certificates that stay published. Key and certificate may be one file.
    pub fn of_operator(
        key: &Path,
        certificate: &Path,
        retired: &[PathBuf],
    ) -> Result<Identity, IdentityError> {
        let parsed = parse_key(key, &read_secret(key)?)?;
        let own = parse_certificate(certificate, &read_text(certificate)?)?;
        let mut others = Vec::new();
        for file in retired {
            others.extend(read_certificates(file)?);
        }
        matched(parsed, key, own, certificate, others)
    }
}

/// Puts a new key in force, and keeps the certificate of the old one published. Where there is no key yet it makes one.
///
/// A running daemon signs with the new key once it has read it.
pub fn rotate(directory: &Path, now: Timestamp) -> Result<Identity, IdentityError> {
    let _lock = lock(directory)?;
    match Identity::read(directory) {
        Ok(old) => {
            let retired = directory.join(RETIRED);
            make_directory(&retired)?;
            write(
                &retired.join(format!("{}.pem", old.certificate.serial())),
                old.certificate.to_pem().as_bytes(),
            )?;
            let identity = create(directory, now)?;
            let retired = old.certificates().cloned().collect();
            Ok(Identity::of(identity.key, identity.certificate, retired))
        }
        Err(IdentityError::Missing(_)) => create(directory, now),
        Err(error) => Err(error),
    }
}

/// Generates an identity and puts it in force.
fn create(directory: &Path, now: Timestamp) -> Result<Identity, IdentityError> {
    let identity = Identity::generate(now).map_err(IdentityError::Generation)?;
    let key = identity
        .key
        .to_pkcs8_pem(LineEnding::LF)
        .expect("a key made here can be written");
    let certificate = identity.certificate.to_pem();
    let mut text = Zeroizing::new(String::with_capacity(key.len() + certificate.len()));
    text.push_str(&key);
    text.push_str(&certificate);
    write(&directory.join(KEY), text.as_bytes())?;
    Ok(identity)
}

fn matched(
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
    Ok(Identity::of(key, certificate, retired))
}

fn parse_key(path: &Path, text: &str) -> Result<PrivateKey, IdentityError> {
    let wrong = |reason: String| IdentityError::Key {
        key: path.to_path_buf(),
        reason,
    };
    let block = |label: &str| armour::blocks(text, label).next();
    let key = match (block("PRIVATE KEY"), block("RSA PRIVATE KEY")) {
        (Some(pem), _) => PrivateKey::from_pkcs8_pem(pem).map_err(|reason| reason.to_string()),
        (None, Some(pem)) => PrivateKey::from_pkcs1_pem(pem).map_err(|reason| reason.to_string()),
        (None, None) if text.contains("ENCRYPTED PRIVATE KEY-----") => {
            Err("the key is encrypted".to_string())
        }
        (None, None) => Err("there is no PEM block -----BEGIN PRIVATE KEY----- in it".to_string()),
    };
    let key = key.map_err(|reason| {
        wrong(format!(
            "{reason}; an RSA key is needed, as openssl genrsa 2048 makes it"
        ))
    })?;
    match bits(&key) {
        MIN_KEY_BITS.. => Ok(key),
        few => Err(wrong(format!(
            "the key has {few} bits; {MIN_KEY_BITS} are the fewest"
        ))),
    }
}

/// The one certificate in a text.
fn parse_certificate(path: &Path, text: &str) -> Result<Certificate, IdentityError> {
    let wrong = |reason: String| IdentityError::Certificate {
        certificate: path.to_path_buf(),
        reason,
    };
    let mut certificates = Certificate::read_pem(text).map_err(wrong)?;
    match certificates.len() {
        1 => Ok(certificates.remove(0)),
        // Of a chain only the key's own belongs to signers; the others would be published as if they were such.
        several => Err(wrong(format!(
            "there are {several} certificates in it; only the key's own belongs there"
        ))),
    }
}

/// Certificates that stay published. Each must have an RSA key, or it could not have been in use.
fn read_certificates(path: &Path) -> Result<Vec<Certificate>, IdentityError> {
    let wrong = |reason: String| IdentityError::Certificate {
        certificate: path.to_path_buf(),
        reason,
    };
    let certificates = Certificate::read_pem(&read_text(path)?).map_err(wrong)?;
    match certificates
        .iter()
        .find(|certificate| certificate.rsa_key().is_none())
    {
        Some(other) => Err(wrong(format!(
            "the certificate with serial {} has no RSA key",
            other.serial()
        ))),
        None => Ok(certificates),
    }
}

fn failed<'a>(doing: &'static str, path: &'a Path) -> impl Fn(io::Error) -> IdentityError + 'a {
    move |reason| IdentityError::File {
        doing,
        path: path.to_path_buf(),
        reason,
    }
}

fn read_text(path: &Path) -> Result<String, IdentityError> {
    plain_file::read_text(path, plain_file::MAX_BYTES).map_err(failed("read", path))
}

/// Reads a file that only its owner may read.
fn read_secret(path: &Path) -> Result<Zeroizing<String>, IdentityError> {
    let file = PlainFile::open(path, Symlinks::Follow).map_err(failed("read", path))?;
    let mode = file.mode();
    if mode & 0o077 != 0 {
        return Err(IdentityError::Exposed {
            key: path.to_path_buf(),
            mode,
        });
    }
    file.read_secret_text(plain_file::MAX_BYTES)
        .map_err(failed("read", path))
}

/// The PEM files in a directory by name; none where there is no directory.
fn listed(directory: &Path) -> Result<Vec<PathBuf>, IdentityError> {
    let entries = match fs::read_dir(directory) {
        Err(reason) if reason.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        result => result.map_err(failed("read", directory))?,
    };
    let paths = entries
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<io::Result<Vec<PathBuf>>>();
    let mut paths = paths.map_err(failed("read", directory))?;
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "pem"));
    paths.sort();
    Ok(paths)
}

/// Keeps others from generating in this directory for as long as it is held.
fn lock(directory: &Path) -> Result<File, IdentityError> {
    make_directory(directory)?;
    let file = File::open(directory).map_err(failed("open", directory))?;
    rustix::fs::flock(&file, FlockOperation::LockExclusive)
        .map_err(|reason| failed("lock", directory)(reason.into()))?;
    Ok(file)
}

fn make_directory(path: &Path) -> Result<(), IdentityError> {
    if path.is_dir() {
        return Ok(());
    }
    let make = || -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        hand_over(&File::open(path)?, path)?;
        File::open(parent(path))?.sync_all()
    };
    make().map_err(failed("make", path))
}

/// Writes a file so that, whenever the power goes, it has either the old or the new content as a whole.
fn write(path: &Path, content: &[u8]) -> Result<(), IdentityError> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(TEMPORARY);
    let write = || -> io::Result<()> {
        let _ = fs::remove_file(&temporary);
        let mut file = OpenOptions::new()
            .create_new(true)
            .write(true)
            .mode(0o600)
            .open(&temporary)?;
        hand_over(&file, path)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        File::open(parent(path))?.sync_all()
    };
    write().map_err(|reason| {
        let _ = fs::remove_file(&temporary);
        failed("write", path)(reason)
    })
}

/// What root makes belongs to the owner of the directory it lies in: the daemon, as whom it may run, must read it.
fn hand_over(made: &File, path: &Path) -> io::Result<()> {
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let owner = fs::metadata(parent(path))?;
    std::os::unix::fs::fchown(made, Some(owner.uid()), Some(owner.gid()))
}

/// The directory that a path lies in.
fn parent(path: &Path) -> &Path {
    path.parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."))
}

impl fmt::Display for IdentityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            IdentityError::File {
                doing,
                path,
                reason,
            } => write!(f, "can't {doing} {}: {reason}", path.display()),
            IdentityError::Missing(directory) => {
                let directory = directory.display();
                write!(
                    f,
                    "{directory}: there is no key yet; imdsd makes one when it starts, or run: imdsd identity rotate"
                )
            }
            IdentityError::Exposed { key, mode } => {
                let key = key.display();
                write!(
                    f,
                    "{key}: others can read this key (mode {mode:03o}); run: chmod 600 {key}"
                )
            }
            IdentityError::Key { key, reason } => write!(f, "{}: {reason}", key.display()),
            IdentityError::Certificate {
                certificate,
                reason,
            } => write!(f, "{}: {reason}", certificate.display()),
            IdentityError::Mismatch { key, certificate } if key == certificate => {
                write!(
                    f,
                    "{}: the certificate in it is of another key; put the file back from a backup",
                    key.display()
                )
            }
            IdentityError::Mismatch { key, certificate } => {
                let (key, certificate) = (key.display(), certificate.display());
                write!(
                    f,
                    "{certificate}: this certificate is of another key than {key}; give both of one key"
                )
            }
            IdentityError::Generation(reason) => write!(f, "can't make a key: {reason}"),
        }
    }
}

impl std::error::Error for IdentityError {}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use rsa::pkcs1::EncodeRsaPrivateKey as _;

    use super::super::testing::{IDENTITY, OTHER, now};
    use super::*;

    /// A file for its owner alone.
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

    /// A start, and a check, would wait for ever for whoever writes into it.
    #[test]
    fn a_pipe_in_the_place_of_a_key_or_a_certificate_keeps_nobody_waiting() {
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
                .expect_err("it is refused")
                .to_string();
            assert!(
                refused.contains(name) && refused.contains("not a regular file"),
                "{refused}"
            );
        }
    }

    #[test]
    fn the_first_start_makes_a_key_and_the_next_reads_it() {
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

        // Rotation: another key, the old certificate published after the new one.
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
            "nothing is left over"
        );

        // A crash between the two steps of a rotation: the certificate in force is in retired too, and counts once.
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
    fn an_operators_own_key_is_taken_in_either_form() {
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
            let identity =
                Identity::of_operator(&key, &certificate, std::slice::from_ref(&old)).unwrap();
            assert_eq!(identity.key, IDENTITY.key);
            assert_eq!(identity.retired, std::slice::from_ref(&OTHER.certificate));
        }
        let both = secret(
            directory.path(),
            "both.pem",
            &(pkcs8(&IDENTITY).to_string() + &IDENTITY.certificate.to_pem()),
        );
        assert!(Identity::of_operator(&both, &both, &[]).is_ok());
    }

    #[test]
    fn what_is_wrong_with_a_key_or_certificate_is_named_with_its_file() {
        // A key of 1024 bits and one that is not RSA, made for this test and used nowhere.
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
                "key.pem: there is no PEM block -----BEGIN PRIVATE KEY----- in it",
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
                "an RSA key is needed, as openssl genrsa 2048 makes it",
            ),
            (
                &short,
                &own,
                "key.pem: the key has 1024 bits; 2048 are the fewest",
            ),
            (
                &good,
                &"none".into(),
                "certificate.pem: there is no PEM block -----BEGIN CERTIFICATE----- in it",
            ),
            (
                &good,
                &own.replace("MII", "M"),
                "certificate.pem: certificate 1 can't be read: ",
            ),
            (
                &good,
                &two,
                "certificate.pem: there are 2 certificates in it; only the key's own belongs there",
            ),
            (
                &good,
                &OTHER.certificate.to_pem(),
                "certificate.pem: this certificate is of another key than ",
            ),
        ] {
            let directory = tempfile::tempdir().unwrap();
            let key = secret(directory.path(), "key.pem", key);
            let path = directory.path().join("certificate.pem");
            fs::write(&path, certificate).unwrap();
            let error = Identity::of_operator(&key, &path, &[])
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
    fn a_key_that_others_can_read_is_refused_with_the_command_that_mends_it() {
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
                format!("{name}: others can read this key (mode {mode:o}); run: chmod 600 {name}")
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
        assert!(
            error.contains("retired/old.pem: there is no PEM block"),
            "{error}"
        );
    }
}
