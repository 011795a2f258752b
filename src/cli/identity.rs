//! `imdsd identity`: what verifiers need, and the rotation of the signing key.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};

use crate::clock::Moment;
use crate::config::{self, Config};
use crate::identity::{self, Identity};

#[derive(Args)]
#[command(after_help = "\
Examples:
  imdsd identity certificate --config /etc/imdsd/imdsd.toml > imdsd.pem
  imdsd identity jwks --config /etc/imdsd/imdsd.toml > jwks.json
  imdsd identity rotate --config /etc/imdsd/imdsd.toml")]
pub(super) struct IdentityArgs {
    #[command(subcommand)]
    command: IdentityCommand,
}

#[derive(Subcommand)]
enum IdentityCommand {
    /// Print the published certificates as PEM, the current one first
    #[command(after_help = "\
Example:
  imdsd identity certificate --config /etc/imdsd/imdsd.toml > imdsd.pem")]
    Certificate {
        #[command(flatten)]
        key: KeyLocation,
        /// Print only the current certificate, for verifiers that accept one [default: all]
        #[arg(long)]
        current: bool,
    },
    /// Print the JSON Web Key Set that verifies web identity tokens
    #[command(after_help = "\
Example:
  imdsd identity jwks --config /etc/imdsd/imdsd.toml > jwks.json")]
    Jwks {
        #[command(flatten)]
        key: KeyLocation,
    },
    /// Print the OpenID Connect discovery document of an issuer
    #[command(after_help = "\
Example:
  imdsd identity openid-configuration --issuer https://imds.example.com > openid-configuration")]
    OpenidConfiguration {
        /// The URL below which verifiers fetch the two documents: the value of identity.issuer, such
        /// as `https://imds.example.com`
        #[arg(long, value_name = "URL", value_parser = issuer)]
        issuer: String,
    },
    /// Create a new signing key; the old certificate stays published
    #[command(after_help = "\
Example:
  imdsd identity rotate --config /etc/imdsd/imdsd.toml > new.pem

Prints the new certificate. Give it to verifiers first, then restart imdsd to sign with the new key.")]
    Rotate {
        #[command(flatten)]
        key: KeyLocation,
    },
}

/// Where the signing key is.
#[derive(Args)]
#[group(id = "place", multiple = false, required = true)]
struct KeyLocation {
    /// Configuration file that says where the key is, such as /etc/imdsd/imdsd.toml
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,

    /// The directory that holds the key, such as /var/lib/imdsd/identity
    #[arg(long, value_name = "DIR")]
    directory: Option<PathBuf>,
}

pub(super) fn run(args: IdentityArgs) -> ExitCode {
    match args.command.run() {
        Ok(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(faults) => {
            faults.iter().for_each(|fault| eprintln!("{fault}"));
            ExitCode::FAILURE
        }
    }
}

impl IdentityCommand {
    /// Returns the text for standard output, or the faults.
    fn run(self) -> Result<String, Vec<String>> {
        match self {
            IdentityCommand::Certificate { key, current } => {
                let identity = key.read()?;
                Ok(if current {
                    identity.certificate().to_pem()
                } else {
                    identity.certificates_pem()
                })
            }
            IdentityCommand::Jwks { key } => Ok(key.read()?.jwks()),
            IdentityCommand::OpenidConfiguration { issuer } => {
                Ok(identity::openid_configuration(&issuer))
            }
            IdentityCommand::Rotate { key } => {
                let directory = key.directory()?;
                let identity = identity::rotate(&directory, Moment::now().wall).map_err(report)?;
                eprintln!(
                    "{}: created a new key; {} certificates are published. Give them to verifiers, then restart imdsd to sign with the new key",
                    directory.display(),
                    identity.certificates().count()
                );
                Ok(identity.certificate().to_pem())
            }
        }
    }
}

impl KeyLocation {
    /// Reads the identity that imdsd would sign with.
    fn read(&self) -> Result<Identity, Vec<String>> {
        let configured = self.configured()?.and_then(|config| {
            let owner = config.key_owner();
            Some((config.identity.own?, owner))
        });
        match configured {
            Some((own, owner)) => {
                Identity::of_operator(&own.key, &own.certificate, &own.retired, owner)
                    .map_err(report)
            }
            None => Identity::read(&self.directory()?).map_err(report),
        }
    }

    /// Returns the directory of the key that imdsd created. It does not change a key of the operator.
    fn directory(&self) -> Result<PathBuf, Vec<String>> {
        let Some(config) = self.configured()? else {
            return Ok(self
                .directory
                .clone()
                .expect("one of the group is required"));
        };
        match config.identity.own {
            Some(own) => Err(vec![format!(
                "{} is your own key, which imdsd does not rotate: set a new one in the configuration, and add {} to identity.retired",
                own.key.display(),
                own.certificate.display()
            )]),
            None => Ok(config
                .identity_directory()
                .expect("a configuration always has a state directory")),
        }
    }

    fn configured(&self) -> Result<Option<Config>, Vec<String>> {
        let config = self
            .config
            .as_ref()
            .map(|file| config::read(file))
            .transpose();
        config.map_err(|faults| faults.iter().map(ToString::to_string).collect())
    }
}

fn report(error: identity::IdentityError) -> Vec<String> {
    vec![error.to_string()]
}

/// Parses a URL that verifiers can fetch from.
fn issuer(text: &str) -> Result<String, String> {
    let rest = text
        .strip_prefix("https://")
        .or_else(|| text.strip_prefix("http://"))
        .unwrap_or_default();
    match rest.is_empty() || rest.contains(['?', '#', ' ']) || rest.ends_with('/') {
        true => Err(
            "expected a URL such as https://imds.example.com, without a trailing slash".to_string(),
        ),
        false => Ok(text.to_string()),
    }
}
