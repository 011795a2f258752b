//! Signatures that a guest reads from a real daemon, verified with the certificate that the
//! operator publishes.

use std::process::Command;

use super::support::Daemon;
use super::{openssl, stdout};

/// Reads a leaf once. A request that comes before the signatures waits for them.
fn read(daemon: &Daemon, token: &str, name: &str) -> String {
    let answer = daemon.get_with(&format!("/latest/dynamic/instance-identity/{name}"), token);
    assert_eq!(answer.status, 200, "{name}: {answer:?}");
    answer.body
}

/// The key of a new daemon takes about a second, and thousands of documents take longer. The first
/// request does not notice: neither that of a signature nor that of the listing.
#[test]
fn the_first_request_after_ready_gets_every_signature() {
    let mut daemon = Daemon::start(|_| {});
    let token = daemon.token();
    assert_eq!(
        read(&daemon, &token, ""),
        "document\npkcs7\nrsa2048\nsignature"
    );
    daemon.kill();
    daemon.start_again();
    for name in ["pkcs7", "rsa2048", "signature"] {
        assert!(read(&daemon, &token, name).len() > 100);
    }
}

fn imdsd(daemon: &Daemon, arguments: &str) -> std::process::Output {
    let arguments = arguments.split(' ');
    Command::new(env!("CARGO_BIN_EXE_imdsd"))
        .args(arguments)
        .current_dir(daemon.directory.path())
        .output()
        .unwrap()
}

/// AWS's guide, "Verify instance identity documents": the commands of openssl.
#[test]
#[ignore = "needs openssl; tests/all runs it"]
fn the_signatures_of_a_served_document_verify_and_those_of_a_changed_one_do_not() {
    let mut daemon = Daemon::start(|_| {});
    let directory = daemon.directory.path().to_path_buf();
    let write = |name: &str, text: &str| std::fs::write(directory.join(name), text).unwrap();
    let token = daemon.token();
    let document = read(&daemon, &token, "document");
    let [signature, pkcs7, rsa2048] =
        ["signature", "pkcs7", "rsa2048"].map(|name| read(&daemon, &token, name));
    write("document", &document);
    write("signature.b64", &signature);
    write("pkcs7.b64", &pkcs7);
    write("rsa2048.b64", &rsa2048);
    for (name, text) in [("pkcs7", &pkcs7), ("rsa2048", &rsa2048)] {
        write(
            name,
            &format!("-----BEGIN PKCS7-----\n{text}\n-----END PKCS7-----\n"),
        );
    }
    write(
        "certificate",
        &stdout(&imdsd(&daemon, "identity certificate --config imdsd.toml")),
    );

    // openssl, with the commands of AWS's guide.
    let run = |arguments: &str| openssl(&directory, arguments);
    stdout(&run("x509 -in certificate -pubkey -noout -out key.pub"));
    stdout(&run("base64 -d -in signature.b64 -out signature"));
    let verified = stdout(&run(
        "dgst -sha256 -verify key.pub -signature signature document",
    ));
    assert_eq!(verified, "Verified OK\n");
    println!("openssl dgst: {verified}");
    for name in ["pkcs7", "rsa2048"] {
        let arguments =
            format!("smime -verify -in {name} -inform PEM -certfile certificate -noverify");
        let output = run(&arguments);
        println!(
            "openssl {arguments}: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
        assert_eq!(
            stdout(&output),
            document,
            "the container has exactly this document"
        );
    }

    // imdsd verify agrees, and names the fault of a changed document.
    let verify = |kind: &str| {
        imdsd(
            &daemon,
            &format!("verify --document document --{kind} {kind}.b64 --certificate certificate"),
        )
    };
    for kind in ["signature", "pkcs7", "rsa2048"] {
        println!("imdsd verify --{kind}: {}", stdout(&verify(kind)).trim());
    }
    write(
        "document",
        &document.replacen("us-east-1a", "us-east-1b", 1),
    );
    for kind in ["signature", "pkcs7", "rsa2048"] {
        let refused = verify(kind);
        assert_eq!(refused.status.code(), Some(1), "{kind}");
        println!(
            "imdsd verify --{kind}, one byte changed: {}",
            String::from_utf8_lossy(&refused.stderr).trim()
        );
    }
    let refused = run("dgst -sha256 -verify key.pub -signature signature document");
    assert!(!refused.status.success());
    println!(
        "openssl dgst, one byte changed: {}",
        String::from_utf8_lossy(&refused.stdout).trim()
    );

    // The same document and the same certificate after a restart.
    daemon.kill();
    daemon.start_again();
    assert_eq!(read(&daemon, &daemon.token(), "document"), document);
    let certificate = stdout(&imdsd(&daemon, "identity certificate --config imdsd.toml"));
    assert_eq!(
        certificate,
        std::fs::read_to_string(directory.join("certificate")).unwrap()
    );
}
