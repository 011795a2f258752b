//! Where the daemon's signing key comes from, and why it may be missing.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use tracing::info;

use crate::clock::Moment;
use crate::config::{Config, OperatorIdentity};
use crate::identity::{Identity, IdentityError};
use crate::ownership::KeyOwner;

/// Where the signing key comes from.
pub(crate) enum IdentitySource {
    /// The key is loaded.
    Ready(Arc<Identity>),
    /// The key is read from this directory, or generated there. Generating takes about a second,
    /// and the start does not wait for it.
    Stored(PathBuf),
    /// The key in this directory cannot be used. No key is generated there from then on, even after
    /// the damaged one is moved away: the operator has to restore it. Verifiers know its
    /// certificate and would reject what another key signs.
    Damaged(PathBuf, IdentityError),
    /// The operator's own key could not be used when it was read last.
    Operator(OperatorIdentity, KeyOwner, IdentityError),
    /// The key is generated for this process only.
    Ephemeral,
}

impl IdentitySource {
    /// Returns the operator's own key, or the key in the state directory, or where to generate one.
    ///
    /// While a key cannot be used there are no signatures and no web identities; guests get
    /// everything else.
    pub(crate) fn at_start(config: &Config) -> IdentitySource {
        if let Some(own) = &config.identity.own {
            let owner = config.key_owner();
            return match read_own(own, owner) {
                Ok(identity) => IdentitySource::Ready(identity),
                Err(reason) => IdentitySource::Operator(own.clone(), owner, reason),
            };
        }
        match config.identity_directory() {
            Some(directory) => IdentitySource::in_directory(directory),
            None => IdentitySource::Ephemeral,
        }
    }

    pub(super) fn in_directory(directory: PathBuf) -> IdentitySource {
        match Identity::read(&directory) {
            Ok(identity) => IdentitySource::Ready(Arc::new(identity)),
            Err(IdentityError::Missing(_)) => IdentitySource::Stored(directory),
            Err(reason) => IdentitySource::Damaged(directory, reason),
        }
    }

    /// Reads or generates the key. Blocks meanwhile.
    pub(super) fn identity(&self) -> Result<Arc<Identity>, MissingKey> {
        let now = Moment::now().wall;
        let identity = match self {
            IdentitySource::Ready(identity) => return Ok(Arc::clone(identity)),
            IdentitySource::Stored(directory) => match Identity::read(directory) {
                Err(IdentityError::Missing(_)) => {
                    let generated =
                        Identity::open(directory, now).map_err(MissingKey::NotGenerated)?;
                    info!(directory = %directory.display(), "generated a key for identity documents");
                    generated
                }
                read => read.map_err(MissingKey::Damaged)?,
            },
            IdentitySource::Damaged(directory, _) => {
                Identity::read(directory).map_err(MissingKey::Damaged)?
            }
            IdentitySource::Operator(own, owner, _) => {
                return read_own(own, *owner).map_err(MissingKey::Damaged);
            }
            IdentitySource::Ephemeral => Identity::generate(now)
                .map_err(|reason| MissingKey::NotGenerated(IdentityError::Generation(reason)))?,
        };
        Ok(Arc::new(identity))
    }
}

fn read_own(own: &OperatorIdentity, owner: KeyOwner) -> Result<Arc<Identity>, IdentityError> {
    Identity::of_operator(&own.key, &own.certificate, &own.retired, owner).map(Arc::new)
}

/// Why there is no key.
pub(super) enum MissingKey {
    /// It could not be generated or stored.
    NotGenerated(IdentityError),
    /// It cannot be used, or a damaged key was there before.
    Damaged(IdentityError),
    /// The task that reads or generates it failed.
    Unknown,
}

impl fmt::Display for MissingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MissingKey::NotGenerated(reason) | MissingKey::Damaged(reason) => {
                write!(f, "{reason}")
            }
            MissingKey::Unknown => f.write_str("the key could not be generated"),
        }
    }
}
