//! `meta-data/`: everything except the network and the role, which have their own files.

use std::borrow::Cow;

use super::category::{
    Category, Child, Focus, Kind, directory, each, leaf, lines, maybe, printed, text,
};
use super::{iam, network};
use crate::instance::Switch;

pub(super) const META_DATA: &[Category] = &[
    leaf("ami-id", "1.0", |focus| text(&focus.instance().image_id)),
    leaf("ami-launch-index", "1.0", |focus| {
        printed(Some(focus.instance().ami_launch_index))
    }),
    // EC2's value for every image that is backed by EBS.
    leaf("ami-manifest-path", "1.0", |_| text("(unknown)")),
    directory("autoscaling", "2021-07-15", AUTOSCALING),
    each(
        "block-device-mapping",
        "2007-12-15",
        block_devices,
        &Kind::Leaf(|focus| text(focus.device?)),
    ),
    directory("events", "2018-08-17", EVENTS),
    directory("hibernation", "2018-09-24", HIBERNATION),
    leaf("hostname", "1.0", |focus| {
        focus.instance().private_host_name()
    }),
    directory("iam", "2012-01-12", iam::IAM),
    directory(
        "identity-credentials",
        "2018-05-23",
        iam::IDENTITY_CREDENTIALS,
    ),
    leaf("instance-action", "2008-09-01", |_| text("none")),
    leaf("instance-id", "1.0", |focus| {
        text(focus.instance().instance_id.as_str())
    }),
    leaf("instance-life-cycle", "2019-10-01", |focus| {
        text(
            focus
                .instance()
                .instance_lifecycle
                .as_deref()
                .unwrap_or("on-demand"),
        )
    }),
    leaf("instance-type", "2007-08-29", |focus| {
        text(&focus.instance().instance_type)
    }),
    leaf("ipv6", "2021-01-03", |focus| {
        printed(focus.instance().primary_ipv6_address())
    }),
    leaf("kernel-id", "2008-02-01", |focus| {
        maybe(&focus.instance().kernel_id)
    }),
    leaf("local-hostname", "2007-01-19", |focus| {
        focus.instance().private_host_name()
    }),
    leaf("local-ipv4", "1.0", |focus| {
        printed(focus.instance().primary_private_address())
    }),
    leaf("mac", "2011-01-01", |focus| {
        text(&focus.instance().primary_interface()?.mac_address)
    }),
    directory("managed-ssh-keys", "2019-10-01", MANAGED_SSH_KEYS),
    directory("metrics", "2011-05-01", METRICS),
    directory("network", "2011-01-01", network::NETWORK),
    directory("placement", "2008-02-01", PLACEMENT),
    leaf("product-codes", "2007-03-01", |focus| {
        lines(
            focus
                .instance()
                .product_codes
                .iter()
                .map(|code| &code.product_code_id),
        )
    }),
    // Not documented by AWS, but present on every instance.
    leaf("profile", "1.0", |focus| {
        match focus.instance().virtualization_type() {
            "paravirtual" => text("default-paravirtual"),
            _ => text("default-hvm"),
        }
    }),
    leaf("public-hostname", "2007-01-19", |focus| {
        text(focus.instance().public_host_name()?)
    }),
    leaf("public-ipv4", "2007-01-19", |focus| {
        printed(focus.instance().public_address())
    }),
    each(
        "public-keys",
        "1.0",
        public_keys,
        &Kind::Directory(PUBLIC_KEY),
    ),
    leaf("ramdisk-id", "2007-10-10", |focus| {
        maybe(&focus.instance().ramdisk_id)
    }),
    leaf("reservation-id", "1.0", |focus| {
        Some(focus.instance().reservation_id())
    }),
    leaf("security-groups", "1.0", |focus| {
        lines(
            focus
                .instance()
                .groups()
                .iter()
                .map(|group| &group.group_name),
        )
    }),
    directory("services", "2014-02-25", SERVICES),
    directory("spot", "2014-11-05", SPOT),
    leaf("system", "2022-09-24", |focus| {
        text(focus.instance().hypervisor_system().as_str())
    }),
    directory("tags", "2021-03-23", TAGS),
];

const AUTOSCALING: &[Category] = &[leaf("target-lifecycle-state", "2021-07-15", |focus| {
    text(focus.events().target_lifecycle_state?.as_str())
})];

const EVENTS: &[Category] = &[
    directory("maintenance", "2018-08-17", MAINTENANCE),
    directory("recommendations", "2020-10-27", RECOMMENDATIONS),
];

const MAINTENANCE: &[Category] = &[
    leaf("history", "2018-08-17", |focus| {
        Some(Cow::Owned(focus.events().maintenance_history()))
    }),
    leaf("scheduled", "2018-08-17", |focus| {
        Some(Cow::Owned(focus.events().maintenance_scheduled()))
    }),
];

const RECOMMENDATIONS: &[Category] = &[leaf("rebalance", "2020-10-27", |focus| {
    focus
        .events()
        .rebalance_recommendation(focus.now.wall)
        .map(Cow::Owned)
})];

const SPOT: &[Category] = &[
    leaf("instance-action", "2016-11-15", |focus| {
        focus
            .events()
            .spot_instance_action(focus.now.wall)
            .map(Cow::Owned)
    }),
    leaf("termination-time", "2014-11-05", |focus| {
        focus
            .events()
            .spot_termination_time(focus.now.wall)
            .map(Cow::Owned)
    }),
];

/// EC2 Instance Connect's keys: present only while a pushed key is live. The signer's certificate
/// and its OCSP responses are Amazon's, so they are absent; an agent that requires them accepts no
/// key from here.
const MANAGED_SSH_KEYS: &[Category] = &[each(
    "active-keys",
    "2019-10-01",
    users_with_keys,
    &Kind::Leaf(|focus| {
        let live = focus
            .live_keys()
            .filter(|key| Some(key.instance_os_user.as_str()) == focus.user);
        lines(live.map(|key| &key.ssh_public_key))
    }),
)];

fn users_with_keys(focus: Focus<'_>) -> Vec<Child<'_>> {
    let mut users: Vec<&str> = focus
        .live_keys()
        .map(|key| key.instance_os_user.as_str())
        .collect();
    users.sort_unstable();
    users.dedup();
    users
        .into_iter()
        .map(|user| {
            Focus {
                user: Some(user),
                ..focus
            }
            .child(user)
        })
        .collect()
}

/// Agents take 404 for "no".
const HIBERNATION: &[Category] = &[leaf("configured", "2018-09-24", |focus| {
    match focus.instance().hibernation_options.as_ref()?.configured {
        true => text("true"),
        false => None,
    }
})];

/// "No longer available" by the documentation. But EC2 lists it and returns an XML declaration and
/// nothing else.
const METRICS: &[Category] = &[leaf("vhostmd", "2011-05-01", |_| {
    text(r#"<?xml version="1.0" encoding="UTF-8"?>"#)
})];

const PLACEMENT: &[Category] = &[
    leaf("availability-zone", "2008-02-01", |focus| {
        text(&focus.instance().placement.availability_zone)
    }),
    leaf("availability-zone-id", "2019-10-01", |focus| {
        focus.instance().availability_zone_id()
    }),
    leaf("group-name", "2020-08-24", |focus| {
        maybe(&focus.instance().placement.group_name)
    }),
    leaf("host-id", "2020-08-24", |focus| {
        maybe(&focus.instance().placement.host_id)
    }),
    leaf("partition-number", "2020-08-24", |focus| {
        printed(focus.instance().placement.partition_number)
    }),
    leaf("region", "2020-08-24", |focus| {
        text(focus.instance().region())
    }),
];

const PUBLIC_KEY: &[Category] = &[leaf("openssh-key", "1.0", |focus| {
    // One authorized_keys line that ends with the key's name. The only value that ends in a
    // newline.
    let (name, key) = key_pair(focus)?;
    let mut words = key.split_ascii_whitespace();
    let (kind, material) = (words.next()?, words.next()?);
    Some(Cow::Owned(format!("{kind} {material} {name}\n")))
})];

const SERVICES: &[Category] = &[
    leaf("domain", "2014-02-25", |focus| {
        text(focus.instance().partition().domain)
    }),
    leaf("partition", "2015-10-20", |focus| {
        text(focus.instance().partition().id)
    }),
];

const TAGS: &[Category] = &[each(
    "instance",
    "2021-03-23",
    tags,
    &Kind::Leaf(|focus| text(&focus.tag?.value)),
)];

/// Shown only while InstanceMetadataTags is enabled. Without tags there is no `tags/` either.
fn tags(focus: Focus<'_>) -> Vec<Child<'_>> {
    match focus.tags {
        Switch::Enabled => {
            let tags = &focus.instance().tags;
            tags.iter()
                .map(|tag| {
                    Focus {
                        tag: Some(tag),
                        ..focus
                    }
                    .child(&tag.key)
                })
                .collect()
        }
        Switch::Disabled => Vec::new(),
    }
}

/// Listed as `0=name`, read as `0/`.
fn public_keys(focus: Focus<'_>) -> Vec<Child<'_>> {
    let key = key_pair(focus).map(|(name, _)| Child {
        listed: Some(format!("0={name}")),
        ..focus.child("0")
    });
    key.into_iter().collect()
}

fn key_pair(focus: Focus<'_>) -> Option<(&str, &str)> {
    Some((
        focus.instance().key_name.as_deref()?,
        focus.instance().imds.open_ssh_key.as_deref()?,
    ))
}

/// `ami` and `root`, and `ebs1`, `ebs2`… for the volumes that are not the root, by their bare
/// names.
fn block_devices(focus: Focus<'_>) -> Vec<Child<'_>> {
    let instance = focus.instance();
    let root = instance.root_device_name.as_deref();
    let device = |name: String, device| {
        Focus {
            device: Some(device),
            ..focus
        }
        .child(name)
    };

    let mut devices: Vec<Child<'_>> = Vec::new();
    if let Some(root) = root {
        devices.push(device("ami".to_string(), root));
        devices.push(device("root".to_string(), root));
    }
    let volumes = instance
        .volumes()
        .iter()
        .map(|mapping| mapping.device_name.as_str());
    for (number, name) in volumes.filter(|name| Some(*name) != root).enumerate() {
        devices.push(device(
            format!("ebs{}", number + 1),
            name.strip_prefix("/dev/").unwrap_or(name),
        ));
    }
    devices
}
