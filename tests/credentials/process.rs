//! Programs that print credentials: valid output, invalid output, and too much of it.

use std::path::Path;
use std::time::{Duration, Instant};

use imdsd::credentials::{FailureKind, FetchError, FetchedCredentials, process};
use imdsd::instance::{CredentialSource, RoleDelivery};

use super::{launcher, process_source, session, support};

const GOOD: &str =
    r#"{"Version":1,"AccessKeyId":"ASIA1","SecretAccessKey":"hunter2","SessionToken":"hunter3"}"#;

async fn run(command: &[&str], timeout_seconds: u32) -> Result<FetchedCredentials, FetchError> {
    let CredentialSource::Process(source) = process_source(command, timeout_seconds) else {
        unreachable!()
    };
    process::fetch(
        &launcher(),
        &source,
        &session(CredentialSource::Process(source.clone()), RoleDelivery::V2),
    )
    .await
}

#[tokio::test]
async fn a_program_with_valid_output_returns_credentials() {
    let noisy = format!("head -c 300000 /dev/zero >&2; echo '{GOOD}'");
    for command in [vec!["/bin/echo", GOOD], vec!["/bin/sh", "-c", &noisy]] {
        let fetched = run(&command, 10).await.unwrap();
        assert_eq!(
            (
                fetched.access_key_id.as_str(),
                fetched.session_token.expose()
            ),
            ("ASIA1", "hunter3")
        );
        assert_eq!(fetched.expiration, None);
    }
}

#[tokio::test]
async fn a_program_with_invalid_output_is_a_failure_and_its_output_is_not_quoted() {
    let bad_exit = format!("echo '{GOOD}'; echo oh no >&2; exit 3");
    let long_error = "echo $0 >&2; head -c 5000 /dev/zero | tr '\\0' x >&2; exit 1";
    let version_2 = GOOD.replace("\"Version\":1", "\"Version\":2");
    let background = format!("sleep 1000 & echo '{GOOD}'");
    let rows: [(&[&str], &str); 13] = [
        (
            &["/bin/echo", "hunter2"],
            "/bin/echo: its output is not JSON (line 1, column 1)",
        ),
        (
            &["/bin/echo", &version_2],
            "/bin/echo: its output has no Version 1",
        ),
        (
            &["/bin/echo", "{\"Version\":1}"],
            "/bin/echo: its output has no AccessKeyId",
        ),
        (
            &["/bin/true"],
            "/bin/true: its output is not JSON (line 1, column 0)",
        ),
        (
            &["/bin/false"],
            "/bin/false: exit status: 1; standard error: \"\"",
        ),
        (
            &["/bin/sh", "-c", &bad_exit],
            "/bin/sh: exit status: 3; standard error: \"oh no\"",
        ),
        (
            &["/bin/sh", "-c", "kill -9 $$"],
            "/bin/sh: signal: 9 (SIGKILL); standard error: \"\"",
        ),
        (
            &["/bin/sh", "-c", "yes hunter2"],
            "/bin/sh: printed more than 65536 bytes and was killed",
        ),
        (
            &["/bin/sh", "-c", "sleep 1000"],
            "/bin/sh: did not end within 1 s and was killed",
        ),
        // The program has ended, but its background process still has the output open.
        (
            &["/bin/sh", "-c", &background],
            "/bin/sh: did not end within 1 s and was killed",
        ),
        (
            &["/nonexistent/program", "hunter2"],
            "/nonexistent/program: cannot be run: No such file or directory",
        ),
        (
            &["echo", GOOD],
            "a command begins with the absolute path of a program",
        ),
        (&[], "a command begins with the absolute path of a program"),
    ];
    for (command, expected) in rows {
        let timeout = if expected.contains("within 1 s") {
            1
        } else {
            60
        };
        let error = run(command, timeout).await.unwrap_err();
        assert_eq!(error.kind, FailureKind::Unavailable);
        assert!(
            error.to_string().starts_with(expected),
            "{command:?}: {error}"
        );
        assert!(!error.to_string().contains("hunter"), "{error}");
    }
    let error = run(&["/bin/sh", "-c", long_error, "start"], 10)
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("standard error: \"start xxx") && error.len() < 300,
        "{error}"
    );
}

/// The arguments contain the characters that a shell interprets.
#[tokio::test]
async fn the_command_is_not_interpreted_by_a_shell() {
    let directory = tempfile::tempdir().unwrap();
    let mark = directory.path().join("mark");
    let id = format!(
        "$HOME `id` * ~ && touch {0}; touch {0} | $(touch {0})",
        mark.display()
    );
    let output = GOOD.replace("ASIA1", &id);
    assert_eq!(
        run(&["/bin/echo", &output], 10)
            .await
            .unwrap()
            .access_key_id,
        id
    );
    assert!(!mark.exists());
}

#[tokio::test]
async fn a_program_gets_a_minimal_environment() {
    // /proc/PID/environ of the shell: its environment at the start, before it changes any of it.
    let script = r#"printf '{"Version":1,"AccessKeyId":"%s","SecretAccessKey":"%s"}' \
        "$(tr '\0' ' ' < /proc/$$/environ)" "$(pwd) $(readlink /proc/$$/fd/0)""#;
    let fetched = run(&["/bin/sh", "-c", script], 10).await.unwrap();
    let mut environment: Vec<_> = fetched.access_key_id.split_whitespace().collect();
    environment.sort_unstable();
    let instance = format!("IMDSD_INSTANCE_ID={}", support::INSTANCE);
    assert_eq!(
        environment,
        [
            "HOME=/",
            "IMDSD_ACCOUNT_ID=123456789012",
            &instance,
            "IMDSD_ROLE_DELIVERY=2.0",
            "IMDSD_ROLE_NAME=backup",
            "LANG=C",
            "PATH=/usr/bin:/bin"
        ]
    );
    assert_eq!(fetched.secret_access_key.expose(), "/ /dev/null");
}

/// Waits until no process has this id.
fn wait_until_gone(pid: &str) {
    let deadline = Instant::now() + support::PATIENCE;
    while Instant::now() < deadline {
        match std::fs::read_to_string(Path::new("/proc").join(pid).join("stat")) {
            Ok(stat) if !stat.contains(") Z ") => std::thread::sleep(Duration::from_millis(5)),
            _ => return,
        }
    }
    panic!("process {pid} still runs");
}

#[tokio::test]
async fn after_a_timeout_or_an_abandoned_fetch_a_program_and_its_children_are_killed() {
    let directory = tempfile::tempdir().unwrap();
    let pids = directory.path().join("pids");
    let script = format!(
        "sleep 1000 & echo $$ $! > {0}.new; mv {0}.new {0}; wait",
        pids.display()
    );
    for timeout in [1, 60] {
        let command = ["/bin/sh", "-c", &script];
        let running = run(&command, timeout);
        if timeout == 1 {
            running.await.unwrap_err();
        } else {
            let mut running = Box::pin(running);
            while !pids.exists() {
                assert!(
                    tokio::time::timeout(Duration::from_millis(5), &mut running)
                        .await
                        .is_err()
                );
            }
            drop(running);
        }
        let written = std::fs::read_to_string(&pids).unwrap();
        assert_eq!(written.split_whitespace().count(), 2);
        written.split_whitespace().for_each(wait_until_gone);
        std::fs::remove_file(&pids).unwrap();
    }
}

/// One remaining process for each fetch would add up over a year.
#[tokio::test]
async fn after_a_success_no_process_of_the_group_remains() {
    let directory = tempfile::tempdir().unwrap();
    let left = directory.path().join("left");
    let script = format!(
        r#"sleep 1000 >/dev/null 2>&1 & echo $! > {}; echo '{{"Version":1,"AccessKeyId":"A","SecretAccessKey":"s"}}'"#,
        left.display()
    );
    run(&["/bin/sh", "-c", &script], 10).await.unwrap();
    wait_until_gone(std::fs::read_to_string(&left).unwrap().trim());
}
