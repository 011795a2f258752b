//! The account's record: the metadata defaults of new launches, and what the API changed about
//! images.

use std::collections::BTreeSet;

use crate::instance::{Images, ImdsSupport, MetadataDefaults};

/// The stored record of the account.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// Metadata options for launches that do not set them.
    pub metadata_defaults: MetadataDefaults,
    /// The images that were given `imdsSupport=v2.0`, which cannot be taken away again.
    pub imds_v2_images: BTreeSet<String>,
}

impl Account {
    /// Returns the attribute `imdsSupport` of an image; `images` is the operator's table.
    pub fn imds_support(&self, images: &Images, id: &str) -> ImdsSupport {
        match self.imds_v2_images.contains(id) {
            true => ImdsSupport::V2,
            false => images.imds_support(id),
        }
    }
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
            AccountState::Known(account) => Ok(account.clone().unwrap_or_default()),
            AccountState::Unreadable => Err(AccountUnreadable),
        }
    }
}

/// The account's record cannot be read, or its on-disk state is unknown after a failed write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccountUnreadable;
