//! Role credentials from real sources: programs, an STS that sends prepared bytes, an STS with TLS,
//! and moto's.
//!
//! All traffic stays on loopback.

#[path = "../support/mod.rs"]
mod support;

mod moto;
mod process;
mod refresher;
mod sts;

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use imdsd::credentials::{Launcher, RoleSession};
use imdsd::instance::{
    AssumeRoleSource, CredentialSource, InstanceId, ProcessSource, Role, RoleDelivery, Switch,
    WebIdentitySource,
};

/// The role of every test.
const ROLE_ARN: &str = "arn:aws:iam::123456789012:role/backup";

/// Starts programs as the daemon does.
fn launcher() -> Launcher {
    Launcher::at(env!("CARGO_BIN_EXE_imdsd"))
}

fn instance() -> InstanceId {
    InstanceId::parse(support::INSTANCE).unwrap()
}

fn role(source: CredentialSource) -> Role {
    Role {
        role_name: "backup".to_string(),
        source,
        v1: Switch::Enabled,
    }
}

fn session(source: CredentialSource, delivery: RoleDelivery) -> RoleSession {
    let (account, role_name) = ("123456789012".to_string(), "backup".to_string());
    RoleSession {
        instance: instance(),
        launch_epoch: 7,
        account,
        role_name,
        source,
        delivery,
    }
}

fn process_source(command: &[&str], timeout_seconds: u32) -> CredentialSource {
    let command = command.iter().map(ToString::to_string).collect();
    CredentialSource::Process(ProcessSource {
        command,
        timeout_seconds: Some(timeout_seconds),
    })
}

fn assume_role_source(endpoint: &str, access_key_file: &Path) -> AssumeRoleSource {
    AssumeRoleSource {
        endpoint: endpoint.to_string(),
        region: "eu-west-1".to_string(),
        role_arn: ROLE_ARN.to_string(),
        access_key_file: access_key_file.to_path_buf(),
        duration_seconds: Some(900),
        external_id: None,
        ca_file: None,
    }
}

fn web_identity_source(endpoint: &str) -> WebIdentitySource {
    let (endpoint, role_arn) = (endpoint.to_string(), ROLE_ARN.to_string());
    WebIdentitySource {
        endpoint,
        role_arn,
        audience: None,
        duration_seconds: Some(900),
        ca_file: None,
    }
}

/// Writes a file with the host's access key and an optional session token.
fn write_key(path: &Path, session_token: Option<&str>) {
    let (id, secret) = support::ACCESS_KEY;
    let mut text =
        format!("[[access_key]]\naccess_key_id = \"{id}\"\nsecret_access_key = \"{secret}\"\n");
    if let Some(token) = session_token {
        text += &format!("session_token = \"{token}\"\n");
    }
    let mut file = std::fs::OpenOptions::new()
        .create_new(true)
        .write(true)
        .mode(0o600)
        .open(path)
        .unwrap();
    file.write_all(text.as_bytes()).unwrap();
}
