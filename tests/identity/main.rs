//! What imdsd signs, held against the real openssl with the commands of AWS's guide; and what openssl signs, held against
//! imdsd. Then the command line that operators use for both.

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

/// A document as EC2 lays it out: no newline at its end.
const DOCUMENT: &str = "{\n  \"accountId\" : \"123456789012\",\n  \"instanceId\" : \"i-0123456789abcdef0\",\n  \
                        \"pendingTime\" : \"2026-01-01T00:00:00Z\"\n}";

/// One key for all tests: making one takes its time.
static IDENTITY: LazyLock<Identity> =
    LazyLock::new(|| Identity::generate(Timestamp::now()).unwrap());

/// Runs openssl in a directory; `None`, and a line that says so, where there is none.
fn openssl(directory: &Path, test: &str, arguments: &str) -> Option<Output> {
    let output = Command::new("openssl")
        .args(arguments.split(' '))
        .current_dir(directory)
        .output();
    match output {
        Err(reason) if reason.kind() == std::io::ErrorKind::NotFound => {
            support::skip(test, "no openssl on this machine");
            None
        }
        output => Some(output.unwrap()),
    }
}

/// Standard output of a command that must succeed.
#[track_caller]
fn said(output: &Output) -> String {
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}
