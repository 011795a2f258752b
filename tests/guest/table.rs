//! The categories of EC2, row by row: what a guest requests and gets. docs/metadata.md is generated
//! from the same rows.
//!
//! `IMDSD_WRITE_DOCS=1 cargo test --test guest` writes the page. Without it, the test compares the
//! page with the rows.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use imdsd::document;
use serde_json::Value;

use crate::Host;

/// What the body of a row must be.
enum Body {
    /// Exactly this.
    Is(&'static str),
    /// It begins with this.
    Begins(&'static str),
    /// Exactly these bytes.
    Bytes(&'static [u8]),
    /// Base64 in lines of 76 characters, without a newline at the end. tests/identity verifies its
    /// content.
    Base64,
}
use Body::{Base64, Begins, Bytes, Is};

/// A title, a directory, and the rows below it.
type Section = (&'static str, &'static str, &'static [(&'static str, Body)]);

const META: &str = "/latest/meta-data/";
const MAC: &str = "/latest/meta-data/network/interfaces/macs/02:00:00:00:01:20/";

/// Sections of rows: a title, the directory, and path → body. All of them get 200.
const PRESENT: &[Section] = &[
    (
        "Top of `meta-data/`",
        META,
        &[
            (
                "",
                Is(
                    "ami-id\nami-launch-index\nami-manifest-path\nancestor-ami-ids\nautoscaling/\nblock-device-mapping/\nelastic-inference/\nevents/\nhibernation/\nhostname\niam/\nidentity-credentials/\ninstance-action\ninstance-id\ninstance-life-cycle\ninstance-type\nipv6\nkernel-id\nlocal-hostname\nlocal-ipv4\nmac\nmanaged-ssh-keys/\nmetrics/\nnetwork/\nplacement/\nproduct-codes\nprofile\npublic-hostname\npublic-ipv4\npublic-keys/\nramdisk-id\nreservation-id\nsecurity-groups\nservices/\nspot/\nsystem\ntags/",
                ),
            ),
            ("ami-id", Is("ami-0123456789abcdef0")),
            ("ami-launch-index", Is("3")),
            ("ami-manifest-path", Is("(unknown)")),
            ("ancestor-ami-ids", Is("ami-0aaaaaaaaaaaaaaaa")),
            ("hostname", Is("ip-10-0-1-20.us-west-2.compute.internal")),
            (
                "local-hostname",
                Is("ip-10-0-1-20.us-west-2.compute.internal"),
            ),
            ("instance-action", Is("none")),
            ("instance-id", Is("i-0fedcba9876543210")),
            ("instance-life-cycle", Is("spot")),
            ("instance-type", Is("m7i.metal-48xl")),
            ("ipv6", Is("2001:db8:1:1::20")),
            ("kernel-id", Is("aki-01234567")),
            ("ramdisk-id", Is("ari-01234567")),
            ("local-ipv4", Is("10.0.1.20")),
            ("mac", Is("02:00:00:00:01:20")),
            ("metrics/", Is("vhostmd")),
            (
                "metrics/vhostmd",
                Is("<?xml version=\"1.0\" encoding=\"UTF-8\"?>"),
            ),
            ("product-codes", Is("code-one\ncode-two")),
            ("profile", Is("default-hvm")),
            (
                "public-hostname",
                Is("ec2-203-0-113-20.us-west-2.compute.amazonaws.com"),
            ),
            ("public-ipv4", Is("203.0.113.20")),
            ("reservation-id", Is("r-0123456789abcdef0")),
            ("security-groups", Is("web\nssh")),
            ("system", Is("nitro")),
        ],
    ),
    (
        "`block-device-mapping/`",
        "/latest/meta-data/block-device-mapping/",
        &[
            ("", Is("ami\nebs1\nebs2\nephemeral0\nroot\nswap")),
            ("ami", Is("/dev/xvda")),
            ("root", Is("/dev/xvda")),
            ("ebs1", Is("sdb")),
            ("ebs2", Is("sdc")),
            ("ephemeral0", Is("sdd")),
            ("swap", Is("sde")),
        ],
    ),
    (
        "`public-keys/`",
        "/latest/meta-data/public-keys/",
        &[
            ("", Is("0=ops")),
            ("0/", Is("openssh-key")),
            (
                "0/openssh-key",
                Is(
                    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHRoaXMta2V5LWlzLWFuLWV4YW1wbGUtYW5kLWZha2Uh ops\n",
                ),
            ),
        ],
    ),
    (
        "`events/`",
        "/latest/meta-data/events/",
        &[
            ("", Is("maintenance/\nrecommendations/")),
            ("maintenance/", Is("history\nscheduled")),
            (
                "maintenance/scheduled",
                Begins(
                    "[ {\n  \"NotBefore\" : \"01 Jun 2026 09:00:43 GMT\",\n  \"Code\" : \"system-reboot\",\n",
                ),
            ),
            (
                "maintenance/history",
                Begins(
                    "[ {\n  \"NotBefore\" : \"01 May 2026 09:00:43 GMT\",\n  \"Code\" : \"instance-stop\",\n  \"Description\" : \"[Completed] done\"",
                ),
            ),
            ("recommendations/", Is("rebalance")),
            (
                "recommendations/rebalance",
                Is("{\"noticeTime\": \"2026-05-17T08:00:00Z\"}"),
            ),
        ],
    ),
    (
        "`iam/` and `identity-credentials/`",
        META,
        &[
            ("iam/", Is("info\nsecurity-credentials/")),
            (
                "iam/info",
                Is(
                    "{\n  \"Code\" : \"Success\",\n  \"LastUpdated\" : \"2026-05-17T08:00:00Z\",\n  \"InstanceProfileArn\" : \"arn:aws:iam::123456789012:instance-profile/web\",\n  \"InstanceProfileId\" : \"AIPAIMDSDEXAMPLE00001\"\n}",
                ),
            ),
            ("iam/security-credentials/", Is("web")),
            (
                "iam/security-credentials/web",
                Begins(
                    "{\n  \"Code\" : \"Success\",\n  \"LastUpdated\" : \"2026-05-17T08:00:00Z\",\n  \"Type\" : \"AWS-HMAC\",\n  \"AccessKeyId\" : \"ASIAIMDSDTEST000000V2\",\n  \"SecretAccessKey\" : ",
                ),
            ),
            ("identity-credentials/", Is("ec2/")),
            ("identity-credentials/ec2/", Is("info")),
            (
                "identity-credentials/ec2/info",
                Is(
                    "{\n  \"Code\" : \"Success\",\n  \"LastUpdated\" : \"2026-05-17T08:00:00Z\",\n  \"AccountId\" : \"123456789012\"\n}",
                ),
            ),
        ],
    ),
    (
        "`network/`",
        META,
        &[
            ("network/", Is("interfaces/")),
            ("network/interfaces/", Is("macs/")),
            (
                "network/interfaces/macs",
                Is("02:00:00:00:01:20/\n02:00:00:00:01:30/"),
            ),
        ],
    ),
    (
        "`network/interfaces/macs/<mac>/`",
        MAC,
        &[
            (
                "",
                Is(
                    "device-number\ninterface-id\nipv4-associations/\nipv4-prefix\nipv6-prefix\nipv6s\nlocal-hostname\nlocal-ipv4s\nmac\nnetwork-card\nowner-id\npublic-hostname\npublic-ipv4s\nsecurity-group-ids\nsecurity-groups\nsubnet-id\nsubnet-ipv4-cidr-block\nsubnet-ipv6-cidr-blocks\nvpc-id\nvpc-ipv4-cidr-block\nvpc-ipv4-cidr-blocks\nvpc-ipv6-cidr-blocks",
                ),
            ),
            ("device-number", Is("0")),
            ("interface-id", Is("eni-0aaaaaaaaaaaaaaa0")),
            ("ipv4-associations/", Is("203.0.113.20")),
            ("ipv4-associations/203.0.113.20", Is("10.0.1.20")),
            ("ipv4-prefix", Is("10.0.1.32/28")),
            ("ipv6-prefix", Is("2001:db8:1:1:8::/80")),
            ("ipv6s", Is("2001:db8:1:1::20\n2001:db8:1:1::21")),
            (
                "local-hostname",
                Is("ip-10-0-1-20.us-west-2.compute.internal"),
            ),
            ("local-ipv4s", Is("10.0.1.20\n10.0.1.21")),
            ("mac", Is("02:00:00:00:01:20")),
            ("network-card", Is("0")),
            ("owner-id", Is("123456789012")),
            (
                "public-hostname",
                Is("ec2-203-0-113-20.us-west-2.compute.amazonaws.com"),
            ),
            ("public-ipv4s", Is("203.0.113.20")),
            (
                "security-group-ids",
                Is("sg-0aaaaaaaaaaaaaaa1\nsg-0aaaaaaaaaaaaaaa2"),
            ),
            ("security-groups", Is("web\nssh")),
            ("subnet-id", Is("subnet-0aaaaaaaaaaaaaaaa")),
            ("subnet-ipv4-cidr-block", Is("10.0.1.0/24")),
            ("subnet-ipv6-cidr-blocks", Is("2001:db8:1:1::/64")),
            ("vpc-id", Is("vpc-0aaaaaaaaaaaaaaaa")),
            ("vpc-ipv4-cidr-block", Is("10.0.0.0/16")),
            ("vpc-ipv4-cidr-blocks", Is("10.0.0.0/16\n10.1.0.0/16")),
            ("vpc-ipv6-cidr-blocks", Is("2001:db8:1::/56")),
        ],
    ),
    (
        "`placement/`",
        "/latest/meta-data/placement/",
        &[
            (
                "",
                Is(
                    "availability-zone\navailability-zone-id\ngroup-name\nhost-id\npartition-number\nregion",
                ),
            ),
            ("availability-zone", Is("us-west-2b")),
            ("availability-zone-id", Is("usw2-az2")),
            ("group-name", Is("cluster")),
            ("host-id", Is("h-0123456789abcdef0")),
            ("partition-number", Is("4")),
            ("region", Is("us-west-2")),
        ],
    ),
    (
        "`spot/`, `autoscaling/`, `hibernation/`, `services/`",
        META,
        &[
            ("spot/", Is("instance-action\ntermination-time")),
            (
                "spot/instance-action",
                Is("{\"action\": \"terminate\", \"time\": \"2026-05-17T08:22:00Z\"}"),
            ),
            ("spot/termination-time", Is("2026-05-17T08:22:00Z")),
            ("autoscaling/", Is("target-lifecycle-state")),
            ("autoscaling/target-lifecycle-state", Is("InService")),
            ("hibernation/", Is("configured")),
            ("hibernation/configured", Is("true")),
            ("services/", Is("domain\npartition")),
            ("services/domain", Is("amazonaws.com")),
            ("services/partition", Is("aws")),
        ],
    ),
    (
        "`elastic-inference/` and `managed-ssh-keys/`",
        META,
        &[
            ("elastic-inference/", Is("associations/")),
            (
                "elastic-inference/associations/",
                Is("eia-0123456789abcdef0"),
            ),
            (
                "elastic-inference/associations/eia-0123456789abcdef0",
                Is("{}"),
            ),
            ("managed-ssh-keys/", Is("active-keys/")),
            ("managed-ssh-keys/active-keys/", Is("ec2-user")),
            (
                "managed-ssh-keys/active-keys/ec2-user/",
                Is(
                    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHRoaXMta2V5LWlzLWFuLWV4YW1wbGUtYW5kLWZha2Uh",
                ),
            ),
        ],
    ),
    (
        "`tags/`",
        "/latest/meta-data/tags/",
        &[
            ("", Is("instance/")),
            ("instance", Is("Name\nempty\nteam:web@site")),
            ("instance/Name", Is("web 1 (blue)")),
            ("instance/empty", Is("")),
            ("instance/team%3Aweb%40site", Is("a=b")),
        ],
    ),
    (
        "`dynamic/`",
        "/latest/dynamic/",
        &[
            ("", Is("fws/\ninstance-identity/")),
            ("fws/", Is("instance-monitoring")),
            ("fws/instance-monitoring", Is("enabled")),
            (
                "instance-identity",
                Is("document\npkcs7\nrsa2048\nsignature"),
            ),
            ("instance-identity/pkcs7", Base64),
            ("instance-identity/rsa2048", Base64),
            ("instance-identity/signature", Base64),
            (
                "instance-identity/document",
                Begins(
                    "{\n  \"accountId\" : \"123456789012\",\n  \"architecture\" : \"x86_64\",\n  \"availabilityZone\" : \"us-west-2b\",\n  \"billingProducts\" : null,\n  \"devpayProductCodes\" : null,\n  \"marketplaceProductCodes\" : [ \"code-one\", \"code-two\" ],\n  \"imageId\" : ",
                ),
            ),
        ],
    ),
    (
        "`user-data`",
        "/latest/",
        &[("user-data", Bytes(&[0, 1, 2, 3, 0xff, 0xfe, b'\n']))],
    ),
];

/// Paths that are absent, and why.
const ABSENT: &[(&str, &str)] = &[
    (
        "/latest/meta-data/iam/security-credentials/other",
        "no such role",
    ),
    (
        "/latest/meta-data/iam/security-credentials-extended/",
        "SDKs interpret 404 as \"use the classic path\"",
    ),
    (
        "/latest/meta-data/identity-credentials/ec2/security-credentials/ec2-instance",
        "Amazon's credentials, which only EC2 can issue",
    ),
    (
        "/latest/meta-data/managed-ssh-keys/signer-cert/",
        "Amazon's certificate",
    ),
    (
        "/latest/meta-data/managed-ssh-keys/signer-ocsp/",
        "Amazon's OCSP responses",
    ),
    (
        "/latest/meta-data/managed-ssh-keys/active-keys/root/",
        "no key was pushed for this user",
    ),
    (
        "/latest/meta-data/elastic-gpus/",
        "the product was discontinued; `Imds.Overrides` can set it",
    ),
    (
        "/latest/meta-data/network/interfaces/macs/02:00:00:00:01:20/local-ipv6s",
        "clients request it, but EC2 has no such key",
    ),
    (
        "/latest/meta-data/network/interfaces/macs/02:00:00:00:01:20/network-card-index",
        "documented once, never served",
    ),
    (
        "/latest/meta-data/network/interfaces/macs/02:00:00:00:01:99/",
        "no such interface",
    ),
    (
        "/latest/meta-data/public-keys/0=ops",
        "listed like this, read as `0/`",
    ),
    ("/latest/meta-data/public-keys/1/", "only key 0 exists"),
    ("/latest/meta-data/tags/instance/Nope", "no such tag"),
    (
        "/latest/dynamic/instance-identity/dsa2048",
        "appears in one AWS example and nowhere else",
    ),
    ("/2021-01-03/meta-data/tags/", "introduced in 2021-03-23"),
    ("/2020-10-27/meta-data/ipv6", "introduced in 2021-01-03"),
    (
        "/2019-10-01/meta-data/placement/region",
        "introduced in 2020-08-24",
    ),
    (
        "/2018-09-24/meta-data/instance-life-cycle",
        "introduced in 2019-10-01",
    ),
    (
        "/2016-09-02/meta-data/spot/instance-action",
        "introduced in 2016-11-15",
    ),
    ("/2021-07-15/meta-data/system", "introduced in 2022-09-24"),
    ("/2008-09-01/dynamic/", "introduced in 2009-04-04"),
];

/// Fields of everything.json as JSON pointers, and a path that is absent without them. `user-data` is
/// not here: EC2 lists it even where it is 404.
const WITHOUT: &[(&[&str], &str)] = &[
    (&["/KernelId"], "/latest/meta-data/kernel-id"),
    (&["/RamdiskId"], "/latest/meta-data/ramdisk-id"),
    (&["/PublicDnsName"], "/latest/meta-data/public-hostname"),
    (&["/PublicIpAddress"], "/latest/meta-data/public-ipv4"),
    (&["/ProductCodes"], "/latest/meta-data/product-codes"),
    (&["/SecurityGroups"], "/latest/meta-data/security-groups"),
    (
        &["/PrivateIpAddress", "/NetworkInterfaces/0/PrivateIpAddress"],
        "/latest/meta-data/local-ipv4",
    ),
    (
        &["/Ipv6Address", "/NetworkInterfaces/0/Ipv6Addresses"],
        "/latest/meta-data/ipv6",
    ),
    (&["/NetworkInterfaces"], "/latest/meta-data/mac"),
    (
        &["/NetworkInterfaces"],
        "/latest/meta-data/network/interfaces/macs/",
    ),
    (
        &["/Placement/GroupName"],
        "/latest/meta-data/placement/group-name",
    ),
    (
        &["/Placement/HostId"],
        "/latest/meta-data/placement/host-id",
    ),
    (
        &["/Placement/PartitionNumber"],
        "/latest/meta-data/placement/partition-number",
    ),
    (
        &["/RootDeviceName"],
        "/latest/meta-data/block-device-mapping/ami",
    ),
    (
        &["/RootDeviceName"],
        "/latest/meta-data/block-device-mapping/root",
    ),
    (
        &["/BlockDeviceMappings"],
        "/latest/meta-data/block-device-mapping/ebs1",
    ),
    (
        &["/HibernationOptions"],
        "/latest/meta-data/hibernation/configured",
    ),
    (&["/Imds/OpenSshKey"], "/latest/meta-data/public-keys/"),
    (&["/Tags"], "/latest/meta-data/tags/"),
    (
        &["/MetadataOptions/InstanceMetadataTags"],
        "/latest/meta-data/tags/",
    ),
    (
        &["/IamInstanceProfile", "/Imds/Role"],
        "/latest/meta-data/iam/info",
    ),
    (
        &["/Imds/Role"],
        "/latest/meta-data/iam/security-credentials/web",
    ),
    (
        &["/Imds/Events/TargetLifecycleState"],
        "/latest/meta-data/autoscaling/target-lifecycle-state",
    ),
    (
        &["/Imds/Events/Rebalance"],
        "/latest/meta-data/events/recommendations/rebalance",
    ),
    (
        &["/Imds/Events/Spot"],
        "/latest/meta-data/spot/instance-action",
    ),
    (
        &["/Imds/Events/Spot"],
        "/latest/meta-data/spot/termination-time",
    ),
    (
        &["/Imds/ManagedSshKeys"],
        "/latest/meta-data/managed-ssh-keys/active-keys/ec2-user",
    ),
    (
        &["/Imds/Overrides/meta-data~1ancestor-ami-ids"],
        "/latest/meta-data/ancestor-ami-ids",
    ),
    (
        &["/Imds/Overrides/meta-data~1block-device-mapping~1ephemeral0"],
        "/latest/meta-data/block-device-mapping/ephemeral0",
    ),
    (
        &["/Imds/Overrides/meta-data~1block-device-mapping~1swap"],
        "/latest/meta-data/block-device-mapping/swap",
    ),
    (
        &["/Imds/Overrides/meta-data~1elastic-inference~1associations~1eia-0123456789abcdef0"],
        "/latest/meta-data/elastic-inference/",
    ),
    (&["/Monitoring"], "/latest/dynamic/fws/instance-monitoring"),
    (
        &["/NetworkInterfaces/0/NetworkInterfaceId"],
        "/latest/meta-data/network/interfaces/macs/02:00:00:00:01:20/interface-id",
    ),
    (
        &["/NetworkInterfaces/0/PrivateIpAddresses"],
        "/latest/meta-data/network/interfaces/macs/02:00:00:00:01:20/ipv4-associations/",
    ),
    (
        &["/NetworkInterfaces/0/Ipv4Prefixes"],
        "/latest/meta-data/network/interfaces/macs/02:00:00:00:01:20/ipv4-prefix",
    ),
    (
        &["/NetworkInterfaces/0/Ipv6Prefixes"],
        "/latest/meta-data/network/interfaces/macs/02:00:00:00:01:20/ipv6-prefix",
    ),
    (
        &["/NetworkInterfaces/0/Ipv6Addresses"],
        "/latest/meta-data/network/interfaces/macs/02:00:00:00:01:20/ipv6s",
    ),
    (
        &["/NetworkInterfaces/0/PrivateIpAddresses/0/Association/PublicDnsName"],
        "/latest/meta-data/network/interfaces/macs/02:00:00:00:01:20/public-hostname",
    ),
    (
        &["/NetworkInterfaces/0/PrivateIpAddresses/0/Association"],
        "/latest/meta-data/network/interfaces/macs/02:00:00:00:01:20/public-ipv4s",
    ),
    (
        &["/NetworkInterfaces/0/Groups"],
        "/latest/meta-data/network/interfaces/macs/02:00:00:00:01:20/security-group-ids",
    ),
    (
        &["/NetworkInterfaces/0/Groups"],
        "/latest/meta-data/network/interfaces/macs/02:00:00:00:01:20/security-groups",
    ),
    (
        &["/NetworkInterfaces/0/SubnetId"],
        "/latest/meta-data/network/interfaces/macs/02:00:00:00:01:20/subnet-id",
    ),
    (
        &["/NetworkInterfaces/0/VpcId"],
        "/latest/meta-data/network/interfaces/macs/02:00:00:00:01:20/vpc-id",
    ),
    (
        &[
            "/NetworkInterfaces/0/PrivateIpAddress",
            "/NetworkInterfaces/0/PrivateIpAddresses",
        ],
        "/latest/meta-data/network/interfaces/macs/02:00:00:00:01:20/local-ipv4s",
    ),
    (
        &["/NetworkInterfaces/1/Attachment/NetworkCardIndex"],
        "/latest/meta-data/network/interfaces/macs/02:00:00:00:01:20/network-card",
    ),
    (
        &["/Imds/Subnets"],
        "/latest/meta-data/network/interfaces/macs/02:00:00:00:01:20/subnet-ipv4-cidr-block",
    ),
    (
        &["/Imds/Subnets"],
        "/latest/meta-data/network/interfaces/macs/02:00:00:00:01:20/subnet-ipv6-cidr-blocks",
    ),
    (
        &["/Imds/Vpcs"],
        "/latest/meta-data/network/interfaces/macs/02:00:00:00:01:20/vpc-ipv4-cidr-block",
    ),
    (
        &["/Imds/Vpcs"],
        "/latest/meta-data/network/interfaces/macs/02:00:00:00:01:20/vpc-ipv4-cidr-blocks",
    ),
    (
        &["/Imds/Vpcs"],
        "/latest/meta-data/network/interfaces/macs/02:00:00:00:01:20/vpc-ipv6-cidr-blocks",
    ),
];

const EVERYTHING: &str = include_str!("../data/everything.json");

fn host() -> Host {
    let file = std::path::Path::new("everything.json");
    let mut instances = document::read(file, EVERYTHING).expect("the document is valid");
    Host::of(instances.remove(0))
}

/// Returns a host whose instance has everything except these fields.
fn host_without(pointers: &[&str]) -> Host {
    let mut document: Value = serde_json::from_str(EVERYTHING).unwrap();
    for pointer in pointers {
        let (parent, field) = pointer.rsplit_once('/').unwrap();
        let parent = document.pointer_mut(parent).expect(pointer);
        let removed = parent
            .as_object_mut()
            .expect(pointer)
            .remove(&field.replace("~1", "/"));
        assert!(removed.is_some(), "{pointer} is not in everything.json");
    }
    Host::of(
        document::from_value(document).unwrap_or_else(|fault| panic!("{pointers:?}: {fault:?}")),
    )
}

#[test]
fn every_row_of_the_reference_is_served() {
    let host = host();
    let mut page = String::from(
        "# What a guest can read\n\n\
         This page is generated from the rows of tests/guest/table.rs by\n\
         `IMDSD_WRITE_DOCS=1 cargo test --test guest`. The test `every_row_of_the_reference_is_served` requests\n\
         each row with a token, from an instance that has everything (tests/data/everything.json).\n\n\
         Every 200 has `Content-Type: text/plain` (`user-data`: `application/octet-stream`),\n\
         `Accept-Ranges: none`, `Last-Modified`, `Server: EC2ws` and the token's remaining seconds. Every 404\n\
         is EC2's page of 339 bytes. A category that is absent is in no listing; only `user-data` is always listed.\n",
    );
    for (title, directory, rows) in PRESENT {
        let _ = write!(
            page,
            "\n## {title}\n\n| Request | Status | Body |\n|---|---|---|\n"
        );
        for (path, body) in *rows {
            let path = format!("{directory}{path}");
            let shape = check_present(&host, &path, body);
            let _ = writeln!(page, "| `GET {path}` | 200 | {shape} |");
        }
    }
    page += "\n## Absent\n\n| Request | Status | Why |\n|---|---|---|\n";
    for (path, why) in ABSENT {
        let seen = host.get(path);
        assert_eq!((seen.status, seen.body.len()), (404, 339), "{path}");
        let _ = writeln!(page, "| `GET {path}` | 404 | {why} |");
    }
    page += "\n## Absent without a field\n\n\
        An instance that has everything else has no such category. The fields are JSON pointers.\n\n\
        | Request | Status | Without |\n|---|---|---|\n";
    for (pointers, path) in WITHOUT {
        let fields = pointers.join("` and `");
        let _ = writeln!(page, "| `GET {path}` | 404 | `{fields}` |");
    }
    page += "\n`src/guest/tests.rs` and `tests/guest/generated.rs` test which credentials a read without a token\n\
             gets, the whole tree in every version, and that a path is listed exactly if it resolves.\n";

    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/metadata.md");
    if std::env::var_os("IMDSD_WRITE_DOCS").is_some() {
        std::fs::write(&file, &page).unwrap();
    }
    let stored = std::fs::read_to_string(&file).unwrap_or_default();
    if stored != page {
        let is_equal = |(one, other): &(&str, &str)| one == other;
        let equal = stored
            .lines()
            .zip(page.lines())
            .take_while(is_equal)
            .count();
        panic!(
            "docs/metadata.md is out of date; run IMDSD_WRITE_DOCS=1 cargo test --test guest\n\
             line {}: {:?}\n expected: {:?}",
            equal + 1,
            stored.lines().nth(equal),
            page.lines().nth(equal)
        );
    }
}

/// Requests a row that must be served, and returns how the page shows its body.
fn check_present(host: &Host, path: &str, body: &Body) -> String {
    let seen = host.get(path);
    assert_eq!(seen.status, 200, "{path}");
    let content_type = if path.ends_with("user-data") {
        "application/octet-stream"
    } else {
        "text/plain"
    };
    assert_eq!(seen.header("Content-Type"), Some(content_type), "{path}");
    assert_eq!(
        seen.header("X-Aws-Ec2-Metadata-Token-Ttl-Seconds"),
        Some("21600"),
        "{path}"
    );
    let (matches, shape) = match body {
        Is(text) => (seen.body == text.as_bytes(), shown(text)),
        Begins(text) => (
            seen.body.starts_with(text.as_bytes()),
            format!("{}…", shown(text)),
        ),
        Base64 => (
            is_base64(seen.text()),
            "base64 in lines of 76 characters".to_string(),
        ),
        Bytes(bytes) => (
            seen.body == *bytes,
            format!("{} bytes, exactly as set", bytes.len()),
        ),
    };
    assert!(matches, "{path}: {}", seen.text());
    shape
}

#[test]
fn a_category_without_its_field_is_404_and_in_no_listing() {
    let everything = host();
    for (pointers, path) in WITHOUT {
        assert_eq!(everything.get(path).status, 200, "{path} with all fields");
        let host = host_without(pointers);
        let seen = host.get(path);
        assert_eq!(
            (seen.status, seen.body.len()),
            (404, 339),
            "{path} without {pointers:?}"
        );
        let (parent, name) = path.trim_end_matches('/').rsplit_once('/').unwrap();
        let listing = host.get(parent);
        if listing.status == 200 {
            let mut names = listing
                .text()
                .lines()
                .map(|line| line.trim_end_matches('/'));
            assert!(
                !names.any(|listed| listed == name),
                "{path} is listed without {pointers:?}"
            );
        }
    }
}

/// No category stays without a test of its value, or out of docs/metadata.md. One interface has the
/// rows for all.
#[test]
fn every_path_that_the_listings_lead_to_has_a_row() {
    let rows: BTreeSet<String> = PRESENT
        .iter()
        .flat_map(|(_, directory, rows)| rows.iter().map(move |row| (directory, row.0)))
        .map(|(directory, path)| format!("{directory}{path}"))
        .map(|path| path.replace("%3A", ":").replace("%40", "@"))
        .map(|path| path.trim_end_matches('/').to_string())
        .collect();
    let host = host();
    let mut paths = host.crawl(META);
    paths.extend(host.crawl("/latest/dynamic/"));
    assert!(paths.len() > 100, "{} paths", paths.len());
    let missing: Vec<&String> = paths
        .iter()
        .filter(|path| {
            let path = path.replace("02:00:00:00:01:30", "02:00:00:00:01:20");
            !rows.contains(path.trim_end_matches('/'))
        })
        .collect();
    assert!(
        missing.is_empty(),
        "paths without a row in PRESENT: {missing:#?}"
    );
}

fn is_base64(text: &str) -> bool {
    let lines: Vec<&str> = text.split('\n').collect();
    let letters = |line: &&str| {
        line.bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"+/=".contains(&b))
    };
    let (last, full) = lines.split_last().unwrap();
    lines.iter().all(letters)
        && full.iter().all(|line| line.len() == 76)
        && (1..=76).contains(&last.len())
}

/// Returns a text as a cell of the page shows it.
fn shown(text: &str) -> String {
    if text.is_empty() {
        "(empty)".into()
    } else {
        format!("`{}`", text.replace('\n', "\\n").replace('|', "\\|"))
    }
}
