//! `imdsd verify`: one signature of an identity document, checked; what failed is named.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;

use crate::identity::{VerifiedSignature, VerifyError, verify_pkcs7, verify_signature};
use crate::plain_file;

#[derive(Args)]
pub struct Arguments {
    /// The document, byte for byte as it was served: without a newline at its end
    #[arg(long, value_name = "FILE")]
    document: PathBuf,

    #[command(flatten)]
    signed: Signed,

    /// Certificates to trust, as `imdsd identity certificate` prints them
    #[arg(long, value_name = "FILE")]
    certificate: PathBuf,
}

/// What is checked: one of the three.
#[derive(Args)]
#[group(multiple = false, required = true)]
struct Signed {
    /// What instance-identity/signature has
    #[arg(long, value_name = "FILE")]
    signature: Option<PathBuf>,

    /// What instance-identity/pkcs7 has, with PEM armour or without
    #[arg(long, value_name = "FILE")]
    pkcs7: Option<PathBuf>,

    /// What instance-identity/rsa2048 has, with PEM armour or without
    #[arg(long, value_name = "FILE")]
    rsa2048: Option<PathBuf>,
}

pub fn run(arguments: Arguments) -> ExitCode {
    match verify(&arguments) {
        Ok(VerifiedSignature {
            issuer,
            serial,
            signed_at,
            ..
        }) => {
            let when = signed_at
                .map(|time| format!(", on {time}"))
                .unwrap_or_default();
            println!("good: signed by {issuer} with serial {serial}{when}");
            ExitCode::SUCCESS
        }
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

fn verify(arguments: &Arguments) -> Result<VerifiedSignature, String> {
    let document = plain_file::read_bytes(&arguments.document, plain_file::MAX_BYTES)
        .map_err(|reason| fault(&arguments.document, &reason))?;
    let certificates = text(&arguments.certificate)?;
    let Signed {
        signature,
        pkcs7,
        rsa2048,
    } = &arguments.signed;
    let (file, result) = match (signature, pkcs7.as_ref().or(rsa2048.as_ref())) {
        (Some(file), _) => (
            file,
            verify_signature(&document, &text(file)?, &certificates),
        ),
        (None, Some(file)) => (
            file,
            verify_pkcs7(&text(file)?, Some(&document), &certificates),
        ),
        (None, None) => unreachable!("one of the group is required"),
    };
    result.map_err(|error| {
        let file = match error {
            VerifyError::Certificates(_) => &arguments.certificate,
            VerifyError::OtherDocument { .. } => &arguments.document,
            _ => file,
        };
        fault(file, &error)
    })
}

fn text(file: &Path) -> Result<String, String> {
    plain_file::read_text(file, plain_file::MAX_BYTES).map_err(|reason| fault(file, &reason))
}

fn fault(file: &Path, message: &dyn std::fmt::Display) -> String {
    format!("{}: {message}", file.display())
}
