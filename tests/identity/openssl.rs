//! Our signatures verified by openssl, and openssl's signatures verified by us.

use std::fs;
use std::path::Path;

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use imdsd::identity::{
    Certificate, Identity, VerifyError, WebIdentityClaims, rotate, verify_pkcs7, verify_signature,
};
use imdsd::instance::{InstanceId, RoleDelivery};
use jiff::Timestamp;
use serde_json::Value;

use imdsd::ownership::KeyOwner;

use crate::{DOCUMENT, IDENTITY, openssl, stdout};

/// Writes the signatures to files, decoded and with armour, as AWS's guide does with the shell.
fn put(directory: &Path, identity: &Identity) {
    let signatures = identity
        .sign(DOCUMENT.as_bytes(), Timestamp::now())
        .unwrap();
    let write = |name: &str, content: &[u8]| fs::write(directory.join(name), content).unwrap();
    write("document", DOCUMENT.as_bytes());
    write("certificate", identity.certificates_pem().as_bytes());
    write(
        "signature",
        &BASE64_STANDARD
            .decode(signatures.signature().replace('\n', ""))
            .unwrap(),
    );
    for (name, container) in [
        ("pkcs7", signatures.pkcs7()),
        ("rsa2048", signatures.rsa2048()),
    ] {
        write(
            name,
            format!("-----BEGIN PKCS7-----\n{container}\n-----END PKCS7-----\n").as_bytes(),
        );
    }
}

const PUBLIC_KEY: &str = "x509 -pubkey -noout -in certificate -out key";
const SIGNATURE: &str = "dgst -sha256 -verify key -signature signature document";

fn container(name: &str) -> String {
    format!("smime -verify -in {name} -inform PEM -certfile certificate -noverify")
}

/// AWS's guide, "Verify the instance identity document": the exact commands of each of the three
/// procedures.
#[test]
#[ignore = "needs openssl; tests/all runs it"]
fn the_commands_of_awss_guide_verify_all_three_signatures() {
    let directory = tempfile::tempdir().unwrap();
    put(directory.path(), &IDENTITY);
    let key = openssl(directory.path(), PUBLIC_KEY);
    stdout(&key);
    assert_eq!(
        stdout(&openssl(directory.path(), SIGNATURE)),
        "Verified OK\n"
    );
    for name in ["pkcs7", "rsa2048"] {
        let output = openssl(directory.path(), &container(name));
        assert_eq!(
            stdout(&output),
            DOCUMENT,
            "{name}: the document in the container"
        );
    }
}

#[test]
#[ignore = "needs openssl; tests/all runs it"]
fn openssl_refuses_all_three_signatures_after_a_byte_is_changed() {
    let directory = tempfile::tempdir().unwrap();
    put(directory.path(), &IDENTITY);
    let key = openssl(directory.path(), PUBLIC_KEY);
    stdout(&key);
    fs::write(
        directory.path().join("document"),
        DOCUMENT.replace("123456789012", "123456789013"),
    )
    .unwrap();
    let output = openssl(directory.path(), SIGNATURE);
    assert!(!output.status.success() && output.stdout == b"Verification failure\n");
    for name in ["pkcs7", "rsa2048"] {
        let text = fs::read_to_string(directory.path().join(name)).unwrap();
        let base64: String = text.lines().filter(|line| !line.starts_with('-')).collect();
        let mut bytes = BASE64_STANDARD.decode(base64).unwrap();
        let at = bytes
            .windows(12)
            .position(|window| window == b"123456789012")
            .unwrap();
        bytes[at + 11] = b'3';
        let changed = BASE64_STANDARD.encode(bytes);
        let lines: Vec<&str> = changed
            .as_bytes()
            .chunks(76)
            .map(|line| std::str::from_utf8(line).unwrap())
            .collect();
        let armoured = format!(
            "-----BEGIN PKCS7-----\n{}\n-----END PKCS7-----\n",
            lines.join("\n")
        );
        fs::write(directory.path().join(name), armoured).unwrap();
        let output = openssl(directory.path(), &container(name));
        assert!(
            !output.status.success()
                && String::from_utf8_lossy(&output.stderr).contains("digest failure")
        );
    }
}

#[test]
#[ignore = "needs openssl; tests/all runs it"]
fn after_a_rotation_old_and_new_containers_verify_with_the_published_certificates() {
    let (directory, place) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let old = Identity::open(place.path(), Timestamp::now()).unwrap();
    put(directory.path(), &old);
    fs::rename(directory.path().join("pkcs7"), directory.path().join("old")).unwrap();
    let new = rotate(place.path(), Timestamp::now()).unwrap();
    put(directory.path(), &new);
    assert_ne!(old.certificate(), new.certificate());
    for name in ["old", "pkcs7"] {
        let output = openssl(directory.path(), &container(name));
        assert_eq!(stdout(&output), DOCUMENT, "{name}");
    }
}

#[test]
#[ignore = "needs openssl; tests/all runs it"]
fn the_certificate_is_valid_and_not_an_authority() {
    let directory = tempfile::tempdir().unwrap();
    put(directory.path(), &IDENTITY);
    let show = "x509 -in certificate -noout -subject -issuer -serial -nameopt RFC2253 -ext basicConstraints";
    let shown = openssl(directory.path(), show);
    let (shown, name, serial) = (
        stdout(&shown),
        IDENTITY.certificate().issuer(),
        IDENTITY.certificate().serial(),
    );
    assert!(
        shown.starts_with(&format!("subject={name}\nissuer={name}\nserial={serial}\n")),
        "{shown}"
    );
    assert!(shown.contains("critical\n    CA:FALSE\n"), "{shown}");
    stdout(&openssl(
        directory.path(),
        "verify -check_ss_sig -CAfile certificate certificate",
    ));
    // A verifier may check the chain, which is this one certificate.
    let checked = "smime -verify -in pkcs7 -inform PEM -certfile certificate -CAfile certificate -purpose any";
    assert_eq!(stdout(&openssl(directory.path(), checked)), DOCUMENT);
}

/// With -stream, openssl writes BER with indefinite lengths, like EC2.
#[test]
#[ignore = "needs openssl; tests/all runs it"]
fn containers_of_openssl_verify_in_ber_and_der_with_an_operators_own_key() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let make = "req -x509 -newkey rsa:2048 -nodes -keyout key -out certificate -days 9 -subj /O=Example/CN=identity";
    let made = openssl(directory.path(), make);
    stdout(&made);
    let identity = Identity::of_operator(
        &path("key"),
        &path("certificate"),
        &[],
        KeyOwner::this_user(),
    )
    .unwrap();
    let certificates = fs::read_to_string(path("certificate")).unwrap();
    assert_eq!(
        Certificate::read_pem(&certificates).unwrap(),
        [identity.certificate().clone()]
    );

    fs::write(path("document"), DOCUMENT).unwrap();
    let sign = "-sign -in document -signer certificate -inkey key -nodetach -binary -outform PEM -out signed";
    for (arguments, is_ber) in [
        (format!("smime {sign} -stream -nocerts"), true),
        (format!("smime {sign} -stream"), true),
        (format!("smime {sign} -nocerts"), false),
        (format!("cms {sign} -stream -nocerts -nosmimecap"), true),
    ] {
        stdout(&openssl(directory.path(), &arguments));
        let container = fs::read_to_string(path("signed")).unwrap();
        let first: String = container
            .lines()
            .filter(|line| !line.starts_with('-'))
            .take(1)
            .collect();
        assert_eq!(
            BASE64_STANDARD.decode(&first[..4]).unwrap()[1] == 0x80,
            is_ber,
            "{arguments}"
        );
        let good = verify_pkcs7(&container, Some(DOCUMENT.as_bytes()), &certificates).unwrap();
        assert_eq!(
            (&*good.issuer, good.serial),
            ("CN=identity,O=Example", identity.certificate().serial())
        );
        assert!(good.signed_at.is_some());
        let other = DOCUMENT.replace("i-0", "i-1");
        let at = DOCUMENT.find("i-0").unwrap() + 2;
        let error = verify_pkcs7(&container, Some(other.as_bytes()), &certificates).unwrap_err();
        assert_eq!(error, VerifyError::OtherDocument { at });
    }
}

/// EC2's own signatures besides `rsa2048`: a signature by an RSA key of 1024 bits, and a container
/// with DSA and SHA-1.
#[test]
#[ignore = "needs openssl; tests/all runs it"]
fn ec2s_signature_verifies_and_its_pkcs7_is_named_as_unsupported() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    fs::write(path("document"), DOCUMENT).unwrap();
    let make = "req -x509 -newkey rsa:1024 -nodes -keyout key -out certificate -days 9 -subj /CN=ec2.amazonaws.com";
    let made = openssl(directory.path(), make);
    stdout(&made);
    stdout(&openssl(
        directory.path(),
        "dgst -sha256 -sign key -out signature document",
    ));
    let signature = BASE64_STANDARD.encode(fs::read(path("signature")).unwrap());
    let certificate = fs::read_to_string(path("certificate")).unwrap();
    assert!(verify_signature(DOCUMENT.as_bytes(), &signature, &certificate).is_ok());
    assert!(matches!(
        verify_signature(b"{}", &signature, &certificate),
        Err(VerifyError::SignatureMismatch)
    ));

    for arguments in [
        "dsaparam -genkey -out dsa 1024",
        "req -x509 -new -sha1 -key dsa -out dsacertificate -days 9 -subj /O=Example",
        "smime -sign -in document -signer dsacertificate -inkey dsa -md sha1 -nodetach -binary -nocerts -outform PEM -out pkcs7",
    ] {
        stdout(&openssl(directory.path(), arguments));
    }
    let container = fs::read_to_string(path("pkcs7")).unwrap();
    let certificate = fs::read_to_string(path("dsacertificate")).unwrap();
    let error = verify_pkcs7(&container, Some(DOCUMENT.as_bytes()), &certificate).unwrap_err();
    assert!(error.to_string().starts_with("DSA"), "{error}");
    let error = verify_signature(DOCUMENT.as_bytes(), &signature, &certificate).unwrap_err();
    assert!(
        error.to_string().starts_with("DSA is not supported"),
        "{error}"
    );
}

/// Verifies a token as STS does: finds the key in the key set by its id, then checks the signature.
#[test]
#[ignore = "needs openssl; tests/all runs it"]
fn a_web_identity_token_verifies_with_the_published_key_set() {
    let directory = tempfile::tempdir().unwrap();
    let instance_id = InstanceId::parse("i-0123456789abcdef0").unwrap();
    let claims = WebIdentityClaims {
        issuer: "https://imds.example",
        audience: "sts.amazonaws.com",
        instance_id: &instance_id,
        account: "123456789012",
        role: "web",
        role_delivery: RoleDelivery::V2,
    };
    let token = IDENTITY.web_identity(&claims, Timestamp::now()).unwrap();
    let [header, payload, signature] = token.expose().split('.').collect::<Vec<_>>()[..] else {
        panic!()
    };
    let decode = |part: &str| BASE64_URL_SAFE_NO_PAD.decode(part).unwrap();

    let header: (Value, &str) = (serde_json::from_slice(&decode(header)).unwrap(), header);
    let keys: Value = serde_json::from_str(&IDENTITY.jwks()).unwrap();
    let key = keys["keys"]
        .as_array()
        .unwrap()
        .iter()
        .find(|key| key["kid"] == header.0["kid"])
        .unwrap();
    let x5c = BASE64_STANDARD
        .decode(key["x5c"][0].as_str().unwrap())
        .unwrap();
    fs::write(directory.path().join("certificate"), x5c).unwrap();
    fs::write(
        directory.path().join("document"),
        format!("{}.{payload}", header.1),
    )
    .unwrap();
    fs::write(directory.path().join("signature"), decode(signature)).unwrap();

    let made = openssl(directory.path(), PUBLIC_KEY);
    stdout(&made);
    assert_eq!(
        stdout(&openssl(directory.path(), SIGNATURE)),
        "Verified OK\n"
    );
    let modulus = stdout(&openssl(
        directory.path(),
        "x509 -in certificate -noout -modulus",
    ));
    let n: String = decode(key["n"].as_str().unwrap())
        .iter()
        .map(|byte| format!("{byte:02X}"))
        .collect();
    assert_eq!(modulus, format!("Modulus={n}\n"));
}
