//! A program that prints credentials, by the contract of the AWS CLI's `credential_process`:
//!
//! ```json
//! {"Version": 1, "AccessKeyId": "…", "SecretAccessKey": "…", "SessionToken": "…", "Expiration": "2026-05-01T12:00:00Z"}
//! ```
//!
//! `SessionToken` and `Expiration` are optional. The program runs without a shell, without a search
//! in PATH, without the daemon's environment and with an empty standard input; `launch` has what else
//! it does not inherit. Its run time and its output are limited; at either limit it is killed with every process of its group. Its output is
//! not logged, except for the beginning of its standard error when it fails.

use std::io;
use std::process::Stdio;
use std::time::Duration;

use rustix::fs::{Access, access};
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::Child;
use zeroize::Zeroizing;

use super::fetch::{FetchError, FetchedCredentials, log_excerpt, parse_expiration};
use super::launch::Launcher;
use super::session::RoleSession;
use crate::instance::ProcessSource;
use crate::secret::Secret;

/// The default run time of a program.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);
/// The largest output, in bytes.
const MAX_OUTPUT_BYTES: usize = 64 * 1024;
/// How many bytes of its standard error are kept for the operator. The rest is read and dropped.
const MAX_ERROR_BYTES: usize = 1024;

/// Runs the program and reads the credentials that it prints.
pub async fn fetch(
    launcher: &Launcher,
    source: &ProcessSource,
    session: &RoleSession,
) -> Result<FetchedCredentials, FetchError> {
    let Some((program, arguments)) = source
        .command
        .split_first()
        .filter(|(program, _)| program.starts_with('/'))
    else {
        return Err(FetchError::unavailable(
            "a command begins with the absolute path of a program",
        ));
    };
    // Errors do not contain the arguments: they may contain a secret.
    let unavailable = |what: String| FetchError::unavailable(format!("{program}: {what}"));
    access(program, Access::EXEC_OK)
        .map_err(|reason| unavailable(format!("cannot be run: {}", io::Error::from(reason))))?;
    let mut command = launcher.command(program, arguments);
    command
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("HOME", "/")
        .env("LANG", "C")
        .env("IMDSD_INSTANCE_ID", session.instance.as_str())
        .env("IMDSD_ROLE_NAME", &session.role_name)
        .env("IMDSD_ROLE_DELIVERY", session.delivery.as_str())
        .env("IMDSD_ACCOUNT_ID", &session.account)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true);
    let mut child = command
        .spawn()
        .map_err(|reason| unavailable(format!("cannot be started by imdsd: {reason}")))?;

    let timeout = source.timeout_seconds.map_or(DEFAULT_TIMEOUT, |seconds| {
        Duration::from_secs(seconds.into())
    });
    let (stdout, stderr, status) = match tokio::time::timeout(timeout, run(&mut child)).await {
        Ok(outcome) => outcome.map_err(|reason| unavailable(reason.to_string()))?,
        Err(_) => {
            return Err(unavailable(format!(
                "did not end within {} s and was killed",
                timeout.as_secs()
            )));
        }
    };
    if !status.success() {
        let excerpt = log_excerpt(&String::from_utf8_lossy(&stderr));
        return Err(unavailable(format!(
            "{status}; standard error: {excerpt:?}"
        )));
    }
    parse(&stdout).map_err(|what| unavailable(format!("its output {what}")))
}

/// Reads both outputs to their ends, then waits for the exit status.
async fn run(
    child: &mut Child,
) -> io::Result<(Zeroizing<Vec<u8>>, Vec<u8>, std::process::ExitStatus)> {
    let group = ProcessGroup::of(child);
    let stdout = child.stdout.take().expect("stdout is piped");
    let stderr = child.stderr.take().expect("stderr is piped");
    // The child is waited for only after its outputs have ended. Until then its process id, which
    // is also the group's, cannot be reused.
    let (stdout, stderr) = tokio::try_join!(read_all(stdout), read_beginning(stderr))?;
    let status = child.wait().await?;
    // Kills the processes that it left behind. While the group has members, the kernel does not
    // reuse its id. If it has none, the id is not reused within this moment.
    drop(group);
    Ok((stdout, stderr, status))
}

/// A process group that is killed on drop: when the program has ended, and when the fetch is
/// abandoned.
struct ProcessGroup(Option<Pid>);

impl ProcessGroup {
    fn of(child: &Child) -> ProcessGroup {
        ProcessGroup(
            child
                .id()
                .and_then(|id| i32::try_from(id).ok())
                .and_then(Pid::from_raw),
        )
    }
}

impl Drop for ProcessGroup {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

async fn read_all(output: impl AsyncRead + Unpin) -> io::Result<Zeroizing<Vec<u8>>> {
    // The buffer has its whole capacity from the start: a growing buffer would leave copies of
    // secrets in memory.
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_OUTPUT_BYTES + 1));
    output
        .take(MAX_OUTPUT_BYTES as u64 + 1)
        .read_to_end(&mut bytes)
        .await?;
    if bytes.len() > MAX_OUTPUT_BYTES {
        return Err(io::Error::other(format!(
            "printed more than {MAX_OUTPUT_BYTES} bytes and was killed"
        )));
    }
    Ok(bytes)
}

async fn read_beginning(mut output: impl AsyncRead + Unpin) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 1024];
    loop {
        let length = output.read(&mut buffer).await?;
        if length == 0 {
            return Ok(bytes);
        }
        let room = MAX_ERROR_BYTES - bytes.len();
        bytes.extend_from_slice(&buffer[..length.min(room)]);
    }
}

/// Parses the output. Errors contain nothing of the output, because it may contain secrets.
pub(super) fn parse(output: &[u8]) -> Result<FetchedCredentials, String> {
    let output: Value = serde_json::from_slice(output).map_err(|error| {
        format!(
            "is not JSON (line {}, column {})",
            error.line(),
            error.column()
        )
    })?;
    if output.get("Version").and_then(Value::as_u64) != Some(1) {
        return Err("has no Version 1".to_string());
    }
    let text = |field: &str| match output.get(field) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.as_str())),
        Some(_) => Err(format!("has {field} that is not a string")),
    };
    let required = |field: &str| {
        let value = text(field)?.filter(|text| !text.is_empty());
        value.ok_or_else(|| format!("has no {field}"))
    };
    let expiration = match text("Expiration")? {
        Some(expiration) => Some(
            parse_expiration(expiration)
                .ok_or("has an Expiration that is not a time by RFC 3339")?,
        ),
        None => None,
    };
    Ok(FetchedCredentials {
        access_key_id: required("AccessKeyId")?.to_string(),
        secret_access_key: Secret::new(required("SecretAccessKey")?),
        session_token: Secret::new(text("SessionToken")?.unwrap_or_default()),
        expiration,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_of_credential_process_version_1_is_parsed() {
        let full = r#"{"Version":1,"AccessKeyId":"A","SecretAccessKey":"hunter2","SessionToken":"t",
                       "Expiration":"2026-05-01T12:00:00+02:00","AccountId":"1"}"#;
        let fetched = parse(full.as_bytes()).unwrap();
        assert_eq!(
            (
                fetched.access_key_id.as_str(),
                fetched.secret_access_key.expose()
            ),
            ("A", "hunter2")
        );
        assert_eq!(fetched.session_token.expose(), "t");
        assert_eq!(
            fetched.expiration,
            Some("2026-05-01T10:00:00Z".parse().unwrap())
        );
        for short in [
            r#"{"Version":1,"AccessKeyId":"A","SecretAccessKey":"hunter2"}"#,
            r#"{"Version":1,"AccessKeyId":"A","SecretAccessKey":"hunter2","SessionToken":null,"Expiration":null}"#,
        ] {
            let fetched = parse(short.as_bytes()).unwrap();
            assert_eq!(
                (fetched.session_token.expose(), fetched.expiration),
                ("", None)
            );
        }
    }

    #[test]
    fn other_output_is_refused_and_not_quoted() {
        for (output, what) in [
            ("", "is not JSON"),
            ("hunter2", "is not JSON"),
            ("[1,", "is not JSON"),
            ("\"hunter2\"", "has no Version 1"),
            (
                r#"{"AccessKeyId":"A","SecretAccessKey":"hunter2"}"#,
                "has no Version 1",
            ),
            (
                r#"{"Version":2,"AccessKeyId":"A","SecretAccessKey":"hunter2"}"#,
                "has no Version 1",
            ),
            (
                r#"{"Version":"1","AccessKeyId":"A","SecretAccessKey":"hunter2"}"#,
                "has no Version 1",
            ),
            (
                r#"{"Version":1.5,"AccessKeyId":"A","SecretAccessKey":"hunter2"}"#,
                "has no Version 1",
            ),
            (
                r#"{"Version":1,"SecretAccessKey":"hunter2"}"#,
                "has no AccessKeyId",
            ),
            (
                r#"{"Version":1,"AccessKeyId":"","SecretAccessKey":"hunter2"}"#,
                "has no AccessKeyId",
            ),
            (
                r#"{"Version":1,"AccessKeyId":"A"}"#,
                "has no SecretAccessKey",
            ),
            (
                r#"{"Version":1,"AccessKeyId":"A","SecretAccessKey":["hunter2"]}"#,
                "has SecretAccessKey that is not",
            ),
            (
                r#"{"Version":1,"AccessKeyId":"A","SecretAccessKey":"s","SessionToken":7}"#,
                "has SessionToken that is",
            ),
            (
                r#"{"Version":1,"AccessKeyId":"A","SecretAccessKey":"s","Expiration":"hunter2"}"#,
                "has an Expiration",
            ),
            (
                r#"{"Version":1,"AccessKeyId":"A","SecretAccessKey":"s","Expiration":17}"#,
                "has Expiration that is",
            ),
            (
                r#"{"Version":1,"AccessKeyId":"A","SecretAccessKey":"s","Expiration":"2026-05-01T12:00:00"}"#,
                "has an Expiration",
            ),
        ] {
            let error = parse(output.as_bytes()).unwrap_err();
            assert!(
                error.starts_with(what) && !error.contains("hunter2"),
                "{output}: {error}"
            );
        }
    }
}
