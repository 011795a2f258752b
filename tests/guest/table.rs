//! The categories of EC2, row by row: what a guest requests and gets. docs/metadata.md is generated
//! from the same rows.
//!
//! `IMDSD_WRITE_DOCS=1 cargo test --test guest` writes the page. Without it, the test compares the
//! page with the rows.

use std::fmt::Write as _;

use imdsd::document;

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
                Begins(
                    "ami-id\nami-launch-index\nami-manifest-path\nancestor-ami-ids\nautoscaling/\nblock-device-mapping/\n",
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
            ("autoscaling/target-lifecycle-state", Is("InService")),
            ("hibernation/configured", Is("true")),
            ("services/domain", Is("amazonaws.com")),
            ("services/partition", Is("aws")),
        ],
    ),
    (
        "`elastic-inference/` and `managed-ssh-keys/`",
        META,
        &[
            (
                "elastic-inference/associations/eia-0123456789abcdef0",
                Is("{}"),
            ),
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

fn host() -> Host {
    let file = std::path::Path::new("everything.json");
    let mut instances = document::read(file, include_str!("../data/everything.json"))
        .expect("the document is valid");
    Host::of(instances.remove(0))
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
         is EC2's page of 339 bytes, and its name is in no listing.\n",
    );
    for (title, directory, rows) in PRESENT {
        let _ = write!(
            page,
            "\n## {title}\n\n| Request | Status | Body |\n|---|---|---|\n"
        );
        for (path, body) in *rows {
            let path = format!("{directory}{path}");
            let seen = host.get(&path);
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
            let _ = writeln!(page, "| `GET {path}` | 200 | {shape} |");
        }
    }
    let _ = write!(
        page,
        "\n## Absent\n\n| Request | Status | Why |\n|---|---|---|\n"
    );
    for (path, why) in ABSENT {
        let seen = host.get(path);
        assert_eq!((seen.status, seen.body.len()), (404, 339), "{path}");
        let _ = writeln!(page, "| `GET {path}` | 404 | {why} |");
    }
    page += "\n`src/guest/tests.rs` and `tests/guest/generated.rs` test which credentials a read without a token\n\
             gets, the whole tree in every version, and when a category is absent.\n";

    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/metadata.md");
    if std::env::var_os("IMDSD_WRITE_DOCS").is_some() {
        std::fs::write(&file, &page).unwrap();
    }
    assert_eq!(
        std::fs::read_to_string(&file).unwrap_or_default(),
        page,
        "docs/metadata.md is out of date; run IMDSD_WRITE_DOCS=1 cargo test --test guest"
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
