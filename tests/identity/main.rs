//! Signatures of imdsd, verified by openssl with the commands of AWS's guide, and signatures of
//! openssl, verified by imdsd. Then the commands that operators use for both.

#[path = "../support/mod.rs"]
mod support;

mod command_line;
mod openssl;
mod served;

use std::path::Path;
use std::process::{Command, Output};
use std::sync::LazyLock;

use imdsd::identity::Identity;
use jiff::Timestamp;

/// A document in the layout of EC2, without a final newline.
const DOCUMENT: &str = "{\n  \"accountId\" : \"123456789012\",\n  \"instanceId\" : \"i-0123456789abcdef0\",\n  \
                        \"pendingTime\" : \"2026-01-01T00:00:00Z\"\n}";

/// One key for all tests, because generating a key is slow.
static IDENTITY: LazyLock<Identity> =
    LazyLock::new(|| Identity::generate(Timestamp::now()).unwrap());

/// Runs openssl in a directory.
#[track_caller]
fn openssl(directory: &Path, arguments: &str) -> Output {
    Command::new("openssl")
        .args(arguments.split(' '))
        .current_dir(directory)
        .output()
        .expect("this test needs openssl in PATH")
}

/// Returns the standard output of a command that must succeed.
#[track_caller]
fn stdout(output: &Output) -> String {
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}
