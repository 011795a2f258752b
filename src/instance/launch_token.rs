//! The client token of a launch, with the account and the region that it belongs to.

use crate::instance::model::Instance;

/// The client token of a launch, with what is known of the account and the region that it belongs
/// to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LaunchToken {
    /// The token.
    pub token: String,
    /// 12 digits; `None` if unknown.
    pub account: Option<String>,
    /// The region; `None` if unknown.
    pub region: Option<String>,
}

impl LaunchToken {
    /// Returns the token of an instance's launch, if it has one.
    pub fn of(instance: &Instance) -> Option<LaunchToken> {
        Some(LaunchToken {
            token: instance.client_token.clone()?.to_string(),
            account: Some(instance.owner_id().to_string()),
            region: Some(instance.region().to_string()),
        })
    }

    /// Returns whether the token belongs to an account and a region; `None` if that is unknown.
    pub fn is_of(&self, account: &str, region: &str) -> Option<bool> {
        let compare = |known: &Option<String>, wanted: &str| known.as_ref().map(|it| it == wanted);
        match (
            compare(&self.account, account),
            compare(&self.region, region),
        ) {
            (Some(false), _) | (_, Some(false)) => Some(false),
            (Some(true), Some(true)) => Some(true),
            (None, _) | (_, None) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_of_one_account_and_region_or_it_is_unknown_of_which() {
        for (account, region, is_of) in [
            (Some("1"), Some("r"), Some(true)),
            (Some("2"), Some("r"), Some(false)),
            (Some("1"), Some("s"), Some(false)),
            (Some("2"), None, Some(false)),
            (None, Some("s"), Some(false)),
            (Some("1"), None, None),
            (None, Some("r"), None),
            (None, None, None),
        ] {
            let launch = LaunchToken {
                token: "t".to_string(),
                account: account.map(Into::into),
                region: region.map(Into::into),
            };
            assert_eq!(launch.is_of("1", "r"), is_of, "{launch:?}");
        }
    }
}
