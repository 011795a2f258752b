//! The EC2 API as the AWS SDK for Rust calls it. The SDK's EC2 crate takes five minutes and 7 GB to
//! build, so `tests/more` runs this target, and neither `cargo test` nor `tests/all` does.

#[path = "../support/mod.rs"]
mod support;

use std::process::Command;

use serde_json::{Value, json};
use support::{ACCESS_KEY, Daemon, INSTANCE};

/// The SDK for Rust deserializes every field into a type of its own and accepts no other form.
#[test]
#[ignore = "needs the EC2 client of tests/clients/rust-ec2; tests/more runs it"]
fn the_rust_sdk_modifies_and_describes_options() {
    let program = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/.work/rust-ec2/debug/imdsd-client-tests-rust-ec2"
    );
    let daemon = Daemon::start(|_| {});
    let read = Command::new(program)
        .env_clear()
        .env("HOME", daemon.directory.path())
        .env("AWS_ACCESS_KEY_ID", ACCESS_KEY.0)
        .env("AWS_SECRET_ACCESS_KEY", ACCESS_KEY.1)
        .arg(format!("http://{}", daemon.control))
        .arg(INSTANCE)
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error}; tests/more builds it"));
    let stderr = String::from_utf8_lossy(&read.stderr);
    assert!(read.status.success(), "{stderr}");
    let read: Value = serde_json::from_slice(&read.stdout).expect("one JSON object");
    println!("Rust SDK: {read}");
    let refused = ["InvalidParameterValue", "InvalidInstanceID.NotFound"];
    assert_eq!(
        read,
        json!({ "modified": INSTANCE, "state": "applied", "refused": refused })
    );
}
