//! `imdsd identity` and `imdsd verify`.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use imdsd::identity::{Certificate, Identity};
use jiff::Timestamp;
use serde_json::Value;

use crate::{DOCUMENT, IDENTITY, stdout};

fn imdsd(directory: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_imdsd"))
        .args(arguments)
        .current_dir(directory)
        .output()
        .unwrap()
}

/// Returns the standard error of a command that must fail with status 1.
#[track_caller]
fn fault(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(output.stdout.is_empty(), "{output:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn put(directory: &Path) {
    let signatures = IDENTITY
        .sign(DOCUMENT.as_bytes(), Timestamp::now())
        .unwrap();
    for (name, content) in [
        ("document", DOCUMENT),
        ("signature", &signatures.signature()),
        ("pkcs7", &signatures.pkcs7()),
        (
            "rsa2048",
            &format!(
                "-----BEGIN PKCS7-----\n{}\n-----END PKCS7-----\n",
                signatures.rsa2048()
            ),
        ),
        ("certificate", &IDENTITY.certificates_pem()),
    ] {
        fs::write(directory.join(name), content).unwrap();
    }
}

#[test]
fn verify_prints_the_signer() {
    let directory = tempfile::tempdir().unwrap();
    put(directory.path());
    for kind in ["signature", "pkcs7", "rsa2048"] {
        let option = format!("--{kind}");
        let arguments = [
            "verify",
            "--document",
            "document",
            &option,
            kind,
            "--certificate",
            "certificate",
        ];
        let sentence = stdout(&imdsd(directory.path(), &arguments));
        let (issuer, serial) = (
            IDENTITY.certificate().issuer(),
            IDENTITY.certificate().serial(),
        );
        assert!(
            sentence.starts_with(&format!("good: signed by {issuer} with serial {serial}")),
            "{sentence}"
        );
        assert_eq!(
            sentence.contains(", on 20"),
            kind != "signature",
            "{sentence}"
        );
    }
}

#[test]
fn verify_names_the_file_and_the_fault() {
    let directory = tempfile::tempdir().unwrap();
    put(directory.path());
    fs::write(
        directory.path().join("other"),
        DOCUMENT.replace("i-0", "i-1"),
    )
    .unwrap();
    for (document, option, signed, certificate, expected) in [
        (
            "other",
            "--signature",
            "signature",
            "certificate",
            "signature: the signature was not made for these bytes",
        ),
        (
            "other",
            "--pkcs7",
            "pkcs7",
            "certificate",
            "other: the document is not the document in the container",
        ),
        (
            "document",
            "--rsa2048",
            "signature",
            "certificate",
            "signature: the signature is not a PKCS #7 container",
        ),
        (
            "document",
            "--signature",
            "pkcs7",
            "certificate",
            "pkcs7: the signature was not made for these bytes",
        ),
        (
            "document",
            "--pkcs7",
            "document",
            "certificate",
            "document: the signature is not base64",
        ),
        (
            "document",
            "--pkcs7",
            "pkcs7",
            "document",
            "document: no PEM block",
        ),
        (
            "none",
            "--pkcs7",
            "pkcs7",
            "certificate",
            "none: No such file",
        ),
    ] {
        let arguments = [
            "verify",
            "--document",
            document,
            option,
            signed,
            "--certificate",
            certificate,
        ];
        let message = fault(&imdsd(directory.path(), &arguments));
        assert!(message.starts_with(expected), "{message}");
    }
    let both = [
        "verify",
        "--document",
        "document",
        "--pkcs7",
        "pkcs7",
        "--signature",
        "signature",
    ];
    assert_eq!(
        imdsd(directory.path(), &both).status.code(),
        Some(2),
        "one of the three"
    );
}

#[test]
fn identity_prints_the_published_certificates_and_rotates() {
    let directory = tempfile::tempdir().unwrap();
    let config =
        "state_directory = \"state\"\n[[listener]]\nname = \"a\"\nipv4 = \"127.0.0.1:1338\"\n";
    fs::write(directory.path().join("imdsd.toml"), config).unwrap();
    let run = |arguments: &[&str]| imdsd(directory.path(), &[&["identity"], arguments].concat());
    let configured = ["--config", "imdsd.toml"];

    let missing = fault(&run(&[&["certificate"][..], &configured].concat()));
    assert!(
        missing.starts_with("state/identity: there is no key yet"),
        "{missing}"
    );

    let first = Identity::open(&directory.path().join("state/identity"), Timestamp::now()).unwrap();
    assert_eq!(
        stdout(&run(&[&["certificate"][..], &configured].concat())),
        first.certificates_pem()
    );
    assert_eq!(
        stdout(&run(&["jwks", "--directory", "state/identity"])),
        first.jwks()
    );

    let new = Certificate::read_pem(&stdout(&run(&[&["rotate"][..], &configured].concat())))
        .unwrap()
        .remove(0);
    assert_ne!(new, *first.certificate());
    let published = stdout(&run(&[&["certificate"][..], &configured].concat()));
    assert_eq!(published, new.to_pem() + &first.certificate().to_pem());
    assert_eq!(
        stdout(&run(
            &[&["certificate", "--current"][..], &configured].concat()
        )),
        new.to_pem()
    );
    let keys: Value =
        serde_json::from_str(&stdout(&run(&[&["jwks"][..], &configured].concat()))).unwrap();
    assert_eq!(keys["keys"].as_array().unwrap().len(), 2);

    let discovery = stdout(&run(&[
        "openid-configuration",
        "--issuer",
        "https://imds.example",
    ]));
    let discovery: Value = serde_json::from_str(&discovery).unwrap();
    assert_eq!(
        discovery["jwks_uri"],
        "https://imds.example/.well-known/jwks.json"
    );
    for issuer in [
        "imds.example",
        "https://",
        "https://imds.example/",
        "https://imds.example?a",
    ] {
        assert_eq!(
            run(&["openid-configuration", "--issuer", issuer])
                .status
                .code(),
            Some(2),
            "{issuer}"
        );
    }
}

#[test]
fn an_operators_own_key_is_printed_and_never_rotated() {
    let directory = tempfile::tempdir().unwrap();
    let config = "[[listener]]\nname = \"a\"\nipv4 = \"127.0.0.1:1338\"\n\
                  [identity]\nkey = \"own/key.pem\"\ncertificate = \"own.pem\"\nretired = [\"old.pem\"]\n";
    fs::write(directory.path().join("imdsd.toml"), config).unwrap();
    let own = Identity::open(&directory.path().join("own"), Timestamp::now()).unwrap();
    fs::write(directory.path().join("own.pem"), own.certificates_pem()).unwrap();
    fs::write(
        directory.path().join("old.pem"),
        IDENTITY.certificates_pem(),
    )
    .unwrap();
    let run = |command: &str| {
        imdsd(
            directory.path(),
            &["identity", command, "--config", "imdsd.toml"],
        )
    };

    assert_eq!(
        stdout(&run("certificate")),
        own.certificates_pem() + &IDENTITY.certificates_pem()
    );
    let refusal = fault(&run("rotate"));
    assert!(
        refusal.starts_with("own/key.pem is your own key"),
        "{refusal}"
    );
    fs::remove_file(directory.path().join("old.pem")).unwrap();
    let missing = fault(&run("jwks"));
    assert!(
        missing.starts_with("cannot read old.pem: No such file"),
        "{missing}"
    );
}
