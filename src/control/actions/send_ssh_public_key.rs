//! SendSSHPublicKey of EC2 Instance Connect: a public key that a user can log in with for 60
//! seconds. The guest reads it under `managed-ssh-keys/`; expired keys are not shown there.
//!
//! The next key removes expired ones from the record. The number of live keys is limited.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;

use crate::control::action::Action;
use crate::control::call::ApiCall;
use crate::control::checks::refuse_new_faults;
use crate::control::error::{Code, Ec2Error};
use crate::control::operation::{Input, Operation};
use crate::control::xml::ResponseBody;
use crate::document;
use crate::instance::{Instance, InstanceId, InstanceState, ManagedSshKey};
use crate::registry::Transaction;

/// How long a key is valid (EC2 Instance Connect: 60 seconds).
const KEY_LIFETIME: SignedDuration = SignedDuration::from_secs(60);
/// The limit of live keys of an instance.
const MAX_KEYS: usize = 50;

/// The JSON of a call.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct JsonInput {
    instance_id: String,
    #[serde(rename = "InstanceOSUser")]
    instance_os_user: String,
    #[serde(rename = "SSHPublicKey")]
    ssh_public_key: String,
    availability_zone: Option<String>,
}

/// The input of a call.
pub(super) struct SendSSHPublicKey {
    instance_id: InstanceId,
    user: String,
    key: String,
    /// The zone that the caller expects the instance in.
    zone: Option<String>,
}

impl Operation for SendSSHPublicKey {
    fn read(input: Input<'_>) -> Result<Self, Ec2Error> {
        let json: JsonInput = serde_json::from_slice(input.body).map_err(|_| {
            Ec2Error::invalid_value("The body is not the JSON of a SendSSHPublicKey request.")
        })?;
        let instance_id = InstanceId::parse(&json.instance_id)
            .ok_or_else(|| Ec2Error::invalid_value("InstanceId is not an instance id."))?;
        if !document::is_os_user(&json.instance_os_user) {
            return Err(Ec2Error::invalid_value(
                "InstanceOSUser is not 1 to 32 letters, digits and _.-@.",
            ));
        }
        // The content of a key file ends with a line feed.
        let key = json.ssh_public_key.trim_end().to_string();
        if !(80..=4096).contains(&json.ssh_public_key.len()) || !document::is_authorized_key(&key) {
            return Err(Ec2Error::invalid_value(
                "SSHPublicKey is not one line of authorized_keys.",
            ));
        }
        Ok(SendSSHPublicKey {
            instance_id,
            user: json.instance_os_user,
            key,
            zone: json.availability_zone,
        })
    }

    async fn perform(self, call: &ApiCall<'_>) -> Result<ResponseBody, Ec2Error> {
        const ACTION: Action = Action::SendSSHPublicKey;
        let (caller, now) = (call.caller.clone(), call.now.wall);
        let id = self.instance_id.clone();
        let plan = move |transaction: &mut Transaction| {
            let before = Arc::clone(caller.instance(
                ACTION,
                &Vec::new(),
                transaction.before(),
                &self.instance_id,
            )?);
            if self
                .zone
                .as_ref()
                .is_some_and(|zone| *zone != before.instance.placement.availability_zone)
            {
                return Err(Ec2Error::instance_not_found(self.instance_id.as_str()));
            }
            match before.instance.state {
                InstanceState::Running => {}
                InstanceState::Pending
                | InstanceState::ShuttingDown
                | InstanceState::Terminated
                | InstanceState::Stopping
                | InstanceState::Stopped => {
                    let message = "The instance is not running.";
                    return Err(Ec2Error::new(Code::IncorrectInstanceState, message));
                }
            }
            let instance = transaction
                .instance(&self.instance_id)
                .expect("the instance has an entry");
            push(instance, self.user.clone(), self.key.clone(), now)?;
            refuse_new_faults(Some(&before.instance), instance)
        };
        call.change_beside([id], plan).await?;
        Ok(ResponseBody::json(
            &serde_json::json!({ "RequestId": call.request_id.to_string(), "Success": true }),
        ))
    }
}

fn push(
    instance: &mut Instance,
    user: String,
    key: String,
    now: Timestamp,
) -> Result<(), Ec2Error> {
    let keys = &mut instance.imds.managed_ssh_keys;
    keys.retain(|known| known.expiration > now);
    // Sending a key again extends its lifetime.
    keys.retain(|known| (&known.instance_os_user, &known.ssh_public_key) != (&user, &key));
    if keys.len() >= MAX_KEYS {
        return Err(Ec2Error::new(
            Code::Throttling,
            "Too many keys were sent to the instance within a minute.",
        ));
    }
    let expiration = now.saturating_add(KEY_LIFETIME).unwrap_or(Timestamp::MAX);
    keys.push(ManagedSshKey {
        instance_os_user: user,
        ssh_public_key: key,
        expiration,
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::demo_instance;

    #[test]
    fn live_keys_are_limited_and_expired_keys_removed() {
        let now: Timestamp = "2026-05-01T12:00:00Z".parse().unwrap();
        let later = |seconds| now + SignedDuration::from_secs(seconds);
        let mut instance = demo_instance();
        for n in 0..MAX_KEYS {
            push(&mut instance, "ops".into(), format!("key {n}"), now).unwrap();
        }
        assert_eq!(
            push(&mut instance, "ops".into(), "another".into(), later(59))
                .unwrap_err()
                .code,
            Code::Throttling
        );
        // Sending a key again needs no room.
        push(&mut instance, "ops".into(), "key 7".into(), later(59)).unwrap();
        assert_eq!(instance.imds.managed_ssh_keys.len(), MAX_KEYS);
        push(&mut instance, "ops".into(), "another".into(), later(60)).unwrap();
        let left: Vec<_> = instance
            .imds
            .managed_ssh_keys
            .iter()
            .map(|key| key.ssh_public_key.as_str())
            .collect();
        assert_eq!(left, ["key 7", "another"]);
    }
}
