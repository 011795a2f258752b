//! Metadata defaults of an account, and how the options of a new instance follow from them.
//!
//! Defaults count at launch only: changing them touches no instance that is there. The one exception is
//! HttpTokensEnforced, which also keeps an instance from going back to optional tokens.

use serde::{Deserialize, Serialize};

use super::options::{HopLimit, HttpTokens, MetadataOptions, OptionsUpdate, Switch};

/// What an account prefers where a launch says nothing. `None` is EC2's `no-preference`. There is none for IPv6.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct MetadataDefaults {
    /// `HttpTokens`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http_tokens: Option<HttpTokens>,
    /// `HttpPutResponseHopLimit`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http_put_response_hop_limit: Option<HopLimit>,
    /// `HttpEndpoint`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http_endpoint: Option<Switch>,
    /// `InstanceMetadataTags`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_metadata_tags: Option<Switch>,
    /// `HttpTokensEnforced`: no instance may be launched with, or go back to, optional tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http_tokens_enforced: Option<Switch>,
}

/// What an image says of itself (`imdsSupport`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImdsSupport {
    /// `v2.0`: its software needs no reads without a token.
    V2,
    /// It says nothing.
    Unset,
}

impl MetadataDefaults {
    /// The options of an instance launched with `launch` from such an image, each resolved on its own: the launch, then
    /// the account, then the image, then what is built in.
    pub fn at_launch(&self, launch: OptionsUpdate, image: ImdsSupport) -> MetadataOptions {
        let (tokens_of_image, hops_of_image) = match image {
            ImdsSupport::V2 => (HttpTokens::Required, HopLimit::TWO),
            ImdsSupport::Unset => (HttpTokens::Optional, HopLimit::ONE),
        };
        MetadataOptions {
            http_tokens: launch
                .http_tokens
                .or(self.http_tokens)
                .unwrap_or(tokens_of_image),
            http_put_response_hop_limit: launch
                .http_put_response_hop_limit
                .or(self.http_put_response_hop_limit)
                .unwrap_or(hops_of_image),
            http_endpoint: launch
                .http_endpoint
                .or(self.http_endpoint)
                .unwrap_or(Switch::Enabled),
            http_protocol_ipv6: launch.http_protocol_ipv6.unwrap_or(Switch::Disabled),
            instance_metadata_tags: launch
                .instance_metadata_tags
                .or(self.instance_metadata_tags)
                .unwrap_or(Switch::Disabled),
        }
    }

    /// Whether an instance may be launched with these tokens. It is asked of what was resolved, not of what was said.
    pub fn allow_launch(&self, tokens: HttpTokens) -> bool {
        match (self.http_tokens_enforced, tokens) {
            (Some(Switch::Enabled), HttpTokens::Optional) => false,
            (Some(Switch::Enabled), HttpTokens::Required) | (Some(Switch::Disabled) | None, _) => {
                true
            }
        }
    }

    /// Whether an instance may go from one to the other. One that has optional tokens already is left alone.
    pub fn allow_change(&self, from: HttpTokens, to: HttpTokens) -> bool {
        from == to || self.allow_launch(to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKENS: [Option<HttpTokens>; 3] =
        [Some(HttpTokens::Required), Some(HttpTokens::Optional), None];

    /// "launch parameter → account default → AMI → built-in", every cell for HttpTokens.
    #[test]
    fn tokens_are_chosen_by_the_launch_then_the_account_then_the_image() {
        use HttpTokens::{Optional, Required};
        // Rows: launch × account, in the order of TOKENS. Columns: an image with v2.0, and one without.
        let expected = [
            [Required, Required],
            [Required, Required],
            [Required, Required],
            [Optional, Optional],
            [Optional, Optional],
            [Optional, Optional],
            [Required, Required],
            [Optional, Optional],
            [Required, Optional],
        ];
        let cells = TOKENS
            .into_iter()
            .flat_map(|launch| TOKENS.map(|account| (launch, account)));
        for ((launch, account), [with_v2, without]) in cells.zip(expected) {
            let defaults = MetadataDefaults {
                http_tokens: account,
                ..MetadataDefaults::default()
            };
            let launch = OptionsUpdate {
                http_tokens: launch,
                ..OptionsUpdate::default()
            };
            assert_eq!(
                defaults.at_launch(launch, ImdsSupport::V2).http_tokens,
                with_v2,
                "{launch:?} {account:?}"
            );
            assert_eq!(
                defaults.at_launch(launch, ImdsSupport::Unset).http_tokens,
                without,
                "{launch:?} {account:?}"
            );
        }
    }

    #[test]
    fn hop_limits_are_chosen_in_the_same_order() {
        let hops = |value: i64| Some(HopLimit::try_from(value).unwrap());
        for (launch, account, with_v2, without) in [
            (hops(5), hops(3), 5, 5),
            (hops(5), None, 5, 5),
            (None, hops(3), 3, 3),
            (None, None, 2, 1),
        ] {
            let defaults = MetadataDefaults {
                http_put_response_hop_limit: account,
                ..MetadataDefaults::default()
            };
            let launch = OptionsUpdate {
                http_put_response_hop_limit: launch,
                ..OptionsUpdate::default()
            };
            let resolved = |image| {
                defaults
                    .at_launch(launch, image)
                    .http_put_response_hop_limit
                    .get()
            };
            assert_eq!(
                (resolved(ImdsSupport::V2), resolved(ImdsSupport::Unset)),
                (with_v2, without)
            );
        }
        // Each option by itself: tokens that were made optional do not lower the image's hop limit.
        let launch = OptionsUpdate {
            http_tokens: Some(HttpTokens::Optional),
            ..OptionsUpdate::default()
        };
        let resolved = MetadataDefaults::default().at_launch(launch, ImdsSupport::V2);
        assert_eq!(resolved.http_put_response_hop_limit, HopLimit::TWO);
    }

    /// The endpoint and tags have no image level, IPv6 has no account level either.
    #[test]
    fn switches_are_chosen_by_the_launch_then_the_account() {
        use Switch::{Disabled, Enabled};
        for image in [ImdsSupport::V2, ImdsSupport::Unset] {
            for (launch, account, endpoint, tags, ipv6) in [
                (None, None, Enabled, Disabled, Disabled),
                (None, Some(Disabled), Disabled, Disabled, Disabled),
                (None, Some(Enabled), Enabled, Enabled, Disabled),
                (Some(Enabled), None, Enabled, Enabled, Enabled),
                (Some(Enabled), Some(Disabled), Enabled, Enabled, Enabled),
                (Some(Disabled), None, Disabled, Disabled, Disabled),
                (Some(Disabled), Some(Enabled), Disabled, Disabled, Disabled),
            ] {
                let defaults = MetadataDefaults {
                    http_endpoint: account,
                    instance_metadata_tags: account,
                    ..MetadataDefaults::default()
                };
                let launch = OptionsUpdate {
                    http_endpoint: launch,
                    http_protocol_ipv6: launch,
                    instance_metadata_tags: launch,
                    ..OptionsUpdate::default()
                };
                let options = defaults.at_launch(launch, image);
                let got = (
                    options.http_endpoint,
                    options.instance_metadata_tags,
                    options.http_protocol_ipv6,
                );
                assert_eq!(got, (endpoint, tags, ipv6), "{launch:?} {account:?}");
            }
        }
    }

    #[test]
    fn enforced_tokens_keep_instances_from_optional_ones() {
        use HttpTokens::{Optional, Required};
        for (enforced, refuses) in [
            (None, false),
            (Some(Switch::Disabled), false),
            (Some(Switch::Enabled), true),
        ] {
            let defaults = MetadataDefaults {
                http_tokens_enforced: enforced,
                ..MetadataDefaults::default()
            };
            assert!(defaults.allow_launch(Required));
            assert_eq!(defaults.allow_launch(Optional), !refuses);
            assert_eq!(defaults.allow_change(Required, Optional), !refuses);
            for (from, to) in [
                (Optional, Optional),
                (Optional, Required),
                (Required, Required),
            ] {
                assert!(
                    defaults.allow_change(from, to),
                    "{enforced:?} {from:?} {to:?}"
                );
            }
        }
    }
}
