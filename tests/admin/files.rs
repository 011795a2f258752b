//! Files that an operator names and that are not regular files.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::client::{CommandOutput, imdsd_at};
use crate::support::PATIENCE;

/// Makes a FIFO that has no writer: opening it for reading, and reading it, would wait forever.
fn fifo(directory: &Path, name: &str) -> PathBuf {
    let path = directory.join(name);
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &path,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
        0,
    )
    .unwrap();
    path
}

/// Runs `imdsd` and fails if it does not end in time.
fn imdsd(arguments: &[&str]) -> CommandOutput {
    let mut child = Command::new(env!("CARGO_BIN_EXE_imdsd"))
        .args(arguments)
        .env("IMDSD_ADMIN_SOCKET", "/nonexistent/admin.sock")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + PATIENCE;
    while child.try_wait().unwrap().is_none() {
        if Instant::now() > deadline {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("imdsd {arguments:?} waits for the FIFO");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let output = child.wait_with_output().unwrap();
    CommandOutput {
        code: output.status.code().unwrap_or(-1),
        output: String::from_utf8(output.stdout).unwrap(),
        error: String::from_utf8(output.stderr).unwrap(),
    }
}

fn assert_fifo_is_refused(arguments: &[&str], fifo: &Path) {
    imdsd(arguments).refused(1, &[fifo.to_str().unwrap(), "not a regular file"]);
}

/// fifo(7): opening a FIFO for reading blocks until another process opens it for writing.
#[test]
fn a_fifo_given_as_a_file_is_refused_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let fifo = fifo(directory.path(), "fifo");
    let name = fifo.to_str().unwrap();
    for arguments in [
        &["serve", "--config", name][..],
        &["check", "--config", name],
        &["serve", "--instance", name],
        &["serve", "--aemm-config", name],
        &["guest-rules", "--config", name],
        &["instance", "put", name],
        &["instance", "import", name],
        &["event", "play", name],
    ] {
        assert_fifo_is_refused(arguments, &fifo);
    }
}

#[test]
fn a_fifo_in_a_directory_of_documents_is_refused_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let fifo = fifo(directory.path(), "web-1.json");
    let name = directory.path().to_str().unwrap();
    for arguments in [
        &["serve", "--instance", name][..],
        &["instance", "put", name],
        &["instance", "import", name],
    ] {
        assert_fifo_is_refused(arguments, &fifo);
    }
}

#[test]
fn a_fifo_named_in_a_configuration_is_refused_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let document = include_str!("../../config/demo-instance.json");
    std::fs::write(directory.path().join("instance.json"), document).unwrap();
    let fifo = fifo(directory.path(), "fifo");
    let config = directory.path().join("imdsd.toml");
    for (instances, more) in [
        ("fifo", ""),
        (
            "instance.json",
            "[control]\nlisten = \"127.0.0.1:1\"\naccess_keys = \"fifo\"\n",
        ),
    ] {
        let text = format!(
            "instances = \"{instances}\"\nstate_directory = \"state\"\nruntime_directory = \"run\"\n\
             [[listener]]\nname = \"demo\"\nipv4 = \"127.0.0.1:1\"\n{more}"
        );
        std::fs::write(&config, text).unwrap();
        assert_fifo_is_refused(&["check", "--config", config.to_str().unwrap()], &fifo);
    }
}

#[test]
fn a_fifo_given_to_verify_is_refused_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let fifo = fifo(directory.path(), "fifo");
    let regular = directory.path().join("regular");
    std::fs::write(&regular, "x").unwrap();
    let (fifo_name, regular) = (fifo.to_str().unwrap(), regular.to_str().unwrap());
    for (document, signature, certificate) in [
        (fifo_name, regular, regular),
        (regular, fifo_name, regular),
        (regular, regular, fifo_name),
    ] {
        for kind in ["--signature", "--pkcs7", "--rsa2048"] {
            let arguments = [
                "verify",
                "--document",
                document,
                kind,
                signature,
                "--certificate",
                certificate,
            ];
            assert_fifo_is_refused(&arguments, &fifo);
        }
    }
}

/// Standard input is read whatever it is: a pipe is its usual form.
#[test]
fn standard_input_may_be_a_pipe() {
    let nowhere = Path::new("/nonexistent/admin.sock");
    let document = include_str!("../../config/demo-instance.json");
    for arguments in [&["instance", "put"][..], &["instance", "put", "-"]] {
        let said = imdsd_at(nowhere, arguments, document);
        said.refused(3, &["/nonexistent/admin.sock"]);
    }
}
