//! `imdsd verify`: verifies one signature of an identity document and reports what failed.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;

use crate::identity::{VerifiedSignature, VerifyError, verify_pkcs7, verify_signature};
use crate::plain_file;

#[derive(Args)]
#[command(after_help = "\
Example: in a guest, with $TOKEN as for any other request
  base=http://169.254.169.254/latest/dynamic/instance-identity
  curl -sH \"X-aws-ec2-metadata-token: $TOKEN\" $base/document -o document
  curl -sH \"X-aws-ec2-metadata-token: $TOKEN\" $base/rsa2048 -o rsa2048
on the verifier
  imdsd verify --document document --rsa2048 rsa2048 --certificate imdsd.pem")]
pub(super) struct VerifyArgs {
    /// The document, byte for byte as it was served: without a newline at its end
    #[arg(long, value_name = "FILE")]
    document: PathBuf,

    #[command(flatten)]
    signature: SignatureArgs,

    /// The certificates to trust, as printed by imdsd identity certificate
    #[arg(long, value_name = "FILE")]
    certificate: PathBuf,
}

/// The signature to verify: one of the three.
#[derive(Args)]
#[group(multiple = false, required = true)]
struct SignatureArgs {
    /// The content of instance-identity/signature
    #[arg(long, value_name = "FILE")]
    signature: Option<PathBuf>,

    /// The content of instance-identity/pkcs7, with or without PEM armor
    #[arg(long, value_name = "FILE")]
    pkcs7: Option<PathBuf>,

    /// The content of instance-identity/rsa2048, with or without PEM armor
    #[arg(long, value_name = "FILE")]
    rsa2048: Option<PathBuf>,
}

pub(super) fn run(args: VerifyArgs) -> ExitCode {
    match verify(&args) {
        Ok(VerifiedSignature {
            issuer,
            serial,
            signed_at,
            ..
        }) => {
            let time = signed_at
                .map(|time| format!(", on {time}"))
                .unwrap_or_default();
            println!("good: signed by {issuer} with serial {serial}{time}");
            ExitCode::SUCCESS
        }
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

fn verify(args: &VerifyArgs) -> Result<VerifiedSignature, String> {
    let document = plain_file::read_bytes(&args.document, plain_file::MAX_BYTES)
        .map_err(|reason| fault(&args.document, &reason))?;
    let certificates = text(&args.certificate)?;
    let SignatureArgs {
        signature,
        pkcs7,
        rsa2048,
    } = &args.signature;
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
            VerifyError::Certificates(_) => &args.certificate,
            VerifyError::OtherDocument { .. } => &args.document,
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
