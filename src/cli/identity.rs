//! `imdsd identity`: what verifiers are given, and the change of keys.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use jiff::Timestamp;

use crate::config::{self, Config};
use crate::identity::{self, Identity};

#[derive(Args)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Prints the published certificates as PEM, the one in use first
    Certificate {
        #[command(flatten)]
        place: Place,
        /// Only the one in use, for verifiers that take no more than one
        #[arg(long)]
        current: bool,
    },
    /// Prints the JSON Web Key Set with which web identity tokens are verified
    Jwks {
        #[command(flatten)]
        place: Place,
    },
    /// Prints the OpenID Connect discovery document of an issuer
    OpenidConfiguration {
        /// The address below which the two documents are served, as verifiers are told it: identity.issuer
        #[arg(long, value_name = "URL", value_parser = issuer)]
        issuer: String,
    },
    /// Makes a new key; the old certificate stays published
    Rotate {
        #[command(flatten)]
        place: Place,
    },
}

/// Where the key lies.
#[derive(Args)]
#[group(id = "place", multiple = false, required = true)]
struct Place {
    /// Configuration file, which says where the key lies
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,

    /// The identity's directory itself
    #[arg(long, value_name = "DIR")]
    directory: Option<PathBuf>,
}

pub fn run(arguments: Arguments) -> ExitCode {
    match arguments.command.run() {
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

impl Command {
    /// What goes to standard output, or what is wrong.
    fn run(self) -> Result<String, Vec<String>> {
        match self {
            Command::Certificate { place, current } => {
                let identity = place.read()?;
                Ok(if current {
                    identity.certificate().to_pem()
                } else {
                    identity.certificates_pem()
                })
            }
            Command::Jwks { place } => Ok(place.read()?.jwks()),
            Command::OpenidConfiguration { issuer } => Ok(identity::openid_configuration(&issuer)),
            Command::Rotate { place } => {
                let directory = place.directory()?;
                let identity = identity::rotate(&directory, Timestamp::now()).map_err(said)?;
                eprintln!(
                    "{}: a new key, {} published certificates; give them to verifiers, then restart imdsd to sign with it",
                    directory.display(),
                    identity.certificates().count()
                );
                Ok(identity.certificate().to_pem())
            }
        }
    }
}

impl Place {
    /// The identity that imdsd would sign with.
    fn read(&self) -> Result<Identity, Vec<String>> {
        match self.configured()?.and_then(|config| config.identity.own) {
            Some(own) => {
                Identity::of_operator(&own.key, &own.certificate, &own.retired).map_err(said)
            }
            None => Identity::read(&self.directory()?).map_err(said),
        }
    }

    /// Where imdsd keeps a key of its making; a key of the operator's own is not imdsd's to change.
    fn directory(&self) -> Result<PathBuf, Vec<String>> {
        let Some(config) = self.configured()? else {
            return Ok(self
                .directory
                .clone()
                .expect("one of the group is required"));
        };
        match config.identity.own {
            Some(own) => Err(vec![format!(
                "{} is a key of your own: name a new one in the configuration, and {} among identity.retired",
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

fn said(error: identity::IdentityError) -> Vec<String> {
    vec![error.to_string()]
}

/// An address that verifiers could read from.
fn issuer(text: &str) -> Result<String, String> {
    let rest = text
        .strip_prefix("https://")
        .or_else(|| text.strip_prefix("http://"))
        .unwrap_or_default();
    match rest.is_empty() || rest.contains(['?', '#', ' ']) || rest.ends_with('/') {
        true => Err(
            "an issuer is a URL such as https://imds.example.com, without a slash at its end"
                .to_string(),
        ),
        false => Ok(text.to_string()),
    }
}
