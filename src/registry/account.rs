//! The account's record: the metadata defaults of new launches.

use crate::instance::MetadataDefaults;

/// The stored record of the account.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// Metadata options for launches that do not set them.
    pub metadata_defaults: MetadataDefaults,
}

/// The account in memory.
#[derive(Debug)]
pub enum AccountState {
    /// The record's contents. `None`: nothing is stored, which means no preferences.
    Known(Option<Account>),
    /// The record cannot be read, or its on-disk state is unknown after a failed write.
    Unreadable,
}

impl AccountState {
    /// Returns the account, or an error when its record is unreadable.
    pub fn account(&self) -> Result<Account, AccountUnreadable> {
        match self {
            AccountState::Known(account) => Ok(account.unwrap_or_default()),
            AccountState::Unreadable => Err(AccountUnreadable),
        }
    }
}

/// The account's record cannot be read, or its on-disk state is unknown after a failed write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccountUnreadable;
