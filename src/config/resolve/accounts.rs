//! Users and groups of the host, by number or by name.

use nix::unistd::{Gid, Group, User};

use crate::config::section::AccountName;

/// Returns the id of a user.
pub(super) fn user_id(name: &AccountName<'_>) -> Result<u32, String> {
    match name {
        AccountName::Id(id) => Ok(*id),
        AccountName::Name(name) => match User::from_name(name) {
            Ok(Some(user)) => Ok(user.uid.as_raw()),
            Ok(None) => Err(format!(
                "there is no user '{name}' on this host; `getent passwd {name}` would list it"
            )),
            Err(reason) => Err(format!("user '{name}' cannot be looked up: {reason}")),
        },
    }
}

/// A group and its members.
pub(super) struct GroupAccount {
    /// The group's id.
    pub(super) id: u32,
    /// The ids of the users that the group lists as members. A user whose primary group it is need
    /// not be among them.
    pub(super) members: Vec<u32>,
}

/// Returns a group with its members.
pub(super) fn group(name: &AccountName<'_>) -> Result<GroupAccount, String> {
    let (found, text) = match name {
        AccountName::Id(id) => (Group::from_gid(Gid::from_raw(*id)), id.to_string()),
        AccountName::Name(name) => (Group::from_name(name), name.to_string()),
    };
    match (found, name) {
        (Ok(Some(group)), _) => Ok(GroupAccount {
            id: group.gid.as_raw(),
            // A member that is not a user of this host cannot call.
            members: group
                .mem
                .iter()
                .filter_map(|member| User::from_name(member).ok().flatten())
                .map(|user| user.uid.as_raw())
                .collect(),
        }),
        // A group without a name can be a user's primary group.
        (Ok(None), AccountName::Id(id)) => Ok(GroupAccount {
            id: *id,
            members: Vec::new(),
        }),
        (Ok(None), AccountName::Name(_)) => Err(format!(
            "there is no group '{text}' on this host; `getent group {text}` would list it"
        )),
        (Err(reason), _) => Err(format!("group '{text}' cannot be looked up: {reason}")),
    }
}
