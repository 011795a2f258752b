//! A program that prints credentials, by the contract of the AWS CLI's `credential_process`:
//!
//! ```json
//! {"Version": 1, "AccessKeyId": "…", "SecretAccessKey": "…", "SessionToken": "…", "Expiration": "2026-05-01T12:00:00Z"}
//! ```
//!
//! `SessionToken` and `Expiration` may be missing. The program is run as it is named: no shell, no search in PATH,
//! nothing of the daemon's environment, nothing on its standard input. Its time and its output are bounded; when either
//! is used up, it is killed with every process of its group. What it prints goes to no log, but for the beginning of its
//! standard error when it fails.

use std::io;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::{Child, Command};
use zeroize::Zeroizing;

use super::{FetchError, Fetched, RoleSession, printable};
use crate::instance::ProcessSource;
use crate::secret::Secret;

/// How long a program may run unless the source says otherwise.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The most it may print, in bytes.
const MAX_OUTPUT_BYTES: usize = 64 * 1024;
/// How much of its standard error is kept for the operator; the rest is read and dropped.
const MAX_ERROR: usize = 1024;

/// Runs the program and reads what it prints.
pub async fn fetch(source: &ProcessSource, session: &RoleSession) -> Result<Fetched, FetchError> {
    let Some((program, arguments)) = source
        .command
        .split_first()
        .filter(|(program, _)| program.starts_with('/'))
    else {
        return Err(FetchError::unavailable(
            "a command begins with the absolute path of a program",
        ));
    };
    // Arguments are not told: a secret may stand in them.
    let unavailable = |what: String| FetchError::unavailable(format!("{program}: {what}"));
    let mut command = Command::new(program);
    command
        .args(arguments)
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
        .map_err(|reason| unavailable(format!("can't be run: {reason}")))?;

    let timeout = source
        .timeout_seconds
        .map_or(TIMEOUT, |seconds| Duration::from_secs(seconds.into()));
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
        let said = printable(&String::from_utf8_lossy(&stderr));
        return Err(unavailable(format!("{status}; it said: {said:?}")));
    }
    read(&stdout).map_err(|what| unavailable(format!("its output {what}")))
}

/// Both outputs to their ends, then the status.
async fn run(
    child: &mut Child,
) -> io::Result<(Zeroizing<Vec<u8>>, Vec<u8>, std::process::ExitStatus)> {
    let group = Group::of(child);
    let stdout = child.stdout.take().expect("stdout is piped");
    let stderr = child.stderr.take().expect("stderr is piped");
    // Only then is it waited for: until that, its process id, and with it the group's, can't become another's.
    let (stdout, stderr) = tokio::try_join!(all_of(stdout), beginning_of(stderr))?;
    let status = child.wait().await?;
    // What it left behind goes with it. While some of the group are there their number is not given to others, and where
    // none is, it is not given again in the moment since.
    drop(group);
    Ok((stdout, stderr, status))
}

/// Kills the process group of a program when it is done with, or given up.
struct Group(Option<Pid>);

impl Group {
    fn of(child: &Child) -> Group {
        Group(
            child
                .id()
                .and_then(|id| i32::try_from(id).ok())
                .and_then(Pid::from_raw),
        )
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

async fn all_of(output: impl AsyncRead + Unpin) -> io::Result<Zeroizing<Vec<u8>>> {
    // With its whole capacity from the start: a buffer that grows leaves copies behind.
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

async fn beginning_of(mut output: impl AsyncRead + Unpin) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 1024];
    loop {
        let length = output.read(&mut buffer).await?;
        if length == 0 {
            return Ok(bytes);
        }
        let room = MAX_ERROR - bytes.len();
        bytes.extend_from_slice(&buffer[..length.min(room)]);
    }
}

/// Reads the contract. What is wrong is said without a word of the output.
fn read(output: &[u8]) -> Result<Fetched, String> {
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
        let found = text(field)?.filter(|text| !text.is_empty());
        found.ok_or_else(|| format!("has no {field}"))
    };
    let expiration = match text("Expiration")? {
        Some(expiration) => {
            Some(super::end(expiration).ok_or("has an Expiration that is not a time by RFC 3339")?)
        }
        None => None,
    };
    Ok(Fetched {
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
    fn the_contract_is_version_1_of_credential_process() {
        let full = r#"{"Version":1,"AccessKeyId":"A","SecretAccessKey":"hunter2","SessionToken":"t",
                       "Expiration":"2026-05-01T12:00:00+02:00","AccountId":"1"}"#;
        let fetched = read(full.as_bytes()).unwrap();
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
            let fetched = read(short.as_bytes()).unwrap();
            assert_eq!(
                (fetched.session_token.expose(), fetched.expiration),
                ("", None)
            );
        }
    }

    #[test]
    fn anything_else_is_refused_without_quoting_it() {
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
            let told = read(output.as_bytes()).unwrap_err();
            assert!(
                told.starts_with(what) && !told.contains("hunter2"),
                "{output}: {told}"
            );
        }
    }
}
