//! Metadata defaults of an account, and how the options of a new instance follow from them
//! (ModifyInstanceMetadataDefaults).
//!
//! Defaults apply at launch only: changing them does not change existing instances. The exception
//! is HttpTokensEnforced, which also prevents an instance from returning to optional tokens.
//!
//! <https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/configuring-instance-metadata-options.html>

use serde::{Deserialize, Serialize};

use crate::instance::options::{HopLimit, HttpTokens, MetadataOptions, OptionsUpdate, Switch};

/// The account's defaults for launches. `None` is EC2's `no-preference`. EC2 has no default for
/// HttpProtocolIpv6.
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
    /// `HttpTokensEnforced`: no instance can be launched with optional tokens or return to them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http_tokens_enforced: Option<Switch>,
}

/// The `imdsSupport` attribute of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ImdsSupport {
    /// `v2.0`: its software does not need reads without a session token.
    V2,
    /// The image has no such attribute.
    Unset,
}

impl MetadataDefaults {
    /// Returns the options of an instance that is launched with `launch` from such an image. Each
    /// option is resolved separately, in EC2's order of precedence: the launch parameter, the
    /// account default, the image, EC2's built-in value.
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

    /// Returns the options of an instance that a document describes; `named` are those in it. As for
    /// a launch, with one exception: a document that makes tokens optional and names no hop limit
    /// does not get the higher hop limit of an image with `v2.0`.
    pub fn for_document(&self, named: OptionsUpdate, image: ImdsSupport) -> MetadataOptions {
        let image = match named.http_tokens {
            Some(HttpTokens::Optional) => ImdsSupport::Unset,
            Some(HttpTokens::Required) | None => image,
        };
        self.at_launch(named, image)
    }

    /// Returns whether HttpTokensEnforced allows a launch with these tokens. `tokens` is the
    /// resolved value, not the launch parameter.
    pub fn allow_launch(&self, tokens: HttpTokens) -> bool {
        match (self.http_tokens_enforced, tokens) {
            (Some(Switch::Enabled), HttpTokens::Optional) => false,
            (Some(Switch::Enabled), HttpTokens::Required) | (Some(Switch::Disabled) | None, _) => {
                true
            }
        }
    }

    /// Returns whether HttpTokensEnforced allows this change of HttpTokens. An instance that
    /// already has optional tokens can keep them.
    pub fn allow_change(&self, from: HttpTokens, to: HttpTokens) -> bool {
        from == to || self.allow_launch(to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKENS: [Option<HttpTokens>; 3] =
        [Some(HttpTokens::Required), Some(HttpTokens::Optional), None];

    /// Launch parameter, account default, AMI, built-in: every combination for HttpTokens. "Order
    /// of precedence":
    /// <https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/configuring-instance-metadata-options.html>
    #[test]
    fn http_tokens_come_from_the_launch_then_the_account_then_the_image() {
        use HttpTokens::{Optional, Required};
        // Rows: launch × account, in the order of TOKENS. Columns: an image with v2.0, and one
        // without.
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

    /// The same cells for a document that names no option, and for one that names HttpTokens.
    #[test]
    fn documents_get_the_options_of_a_launch() {
        use HttpTokens::{Optional, Required};
        use ImdsSupport::{Unset, V2};
        let three = HopLimit::try_from(3).unwrap();
        for (named, account, account_hops, image, tokens, hops) in [
            (None, None, None, V2, Required, 2),
            (None, None, None, Unset, Optional, 1),
            (None, Some(Required), None, V2, Required, 2),
            (None, Some(Required), None, Unset, Required, 1),
            (None, Some(Optional), None, V2, Optional, 2),
            (None, Some(Optional), None, Unset, Optional, 1),
            (None, None, Some(three), V2, Required, 3),
            (None, None, Some(three), Unset, Optional, 3),
            (None, None, Some(HopLimit::ONE), V2, Required, 1),
            (Some(Required), Some(Optional), None, V2, Required, 2),
            (Some(Required), Some(Optional), None, Unset, Required, 1),
            (Some(Optional), Some(Required), None, V2, Optional, 1),
            (Some(Optional), None, Some(three), V2, Optional, 3),
            (Some(Optional), None, None, Unset, Optional, 1),
        ] {
            let defaults = MetadataDefaults {
                http_tokens: account,
                http_put_response_hop_limit: account_hops,
                ..MetadataDefaults::default()
            };
            let named = OptionsUpdate {
                http_tokens: named,
                ..OptionsUpdate::default()
            };
            let options = defaults.for_document(named, image);
            assert_eq!(
                (
                    options.http_tokens,
                    options.http_put_response_hop_limit.get()
                ),
                (tokens, hops),
                "{named:?} {account:?} {account_hops:?} {image:?}"
            );
        }
    }

    #[test]
    fn hop_limits_are_resolved_in_the_same_order() {
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
        // Each option is resolved separately: optional tokens do not lower the image's hop limit.
        let launch = OptionsUpdate {
            http_tokens: Some(HttpTokens::Optional),
            ..OptionsUpdate::default()
        };
        let resolved = MetadataDefaults::default().at_launch(launch, ImdsSupport::V2);
        assert_eq!(resolved.http_put_response_hop_limit, HopLimit::TWO);
    }

    /// Images have no attribute for the endpoint and tags; for IPv6 there is no account default
    /// either.
    #[test]
    fn switches_come_from_the_launch_then_the_account() {
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
    fn http_tokens_enforced_refuses_optional_tokens() {
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
