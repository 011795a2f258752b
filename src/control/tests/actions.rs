//! Every action except the two that [`super`] tests, from outside.

use super::*;
use crate::instance::{HttpTokens, InstanceState, Switch};
use crate::registry::Entry;
use crate::registry::file::FileStore;
use crate::registry::stepwise::StepwiseStore;

/// An action of EC2 with its parameters.
pub(super) async fn ec2(control: &Control, action: &str, rest: &str) -> Answer {
    post(
        control,
        &format!("Action={action}&Version=2016-11-15&{rest}"),
    )
    .await
}

/// Like `ec2`, for a call that must succeed.
pub(super) async fn ok(control: &Control, action: &str, rest: &str) -> Answer {
    let answer = ec2(control, action, rest).await;
    assert_eq!(answer.status, 200, "{action} {rest}: {}", answer.body);
    assert!(answer.body.contains(&format!(
        "<{action}Response xmlns=\"http://ec2.amazonaws.com/doc/2016-11-15/\">"
    )));
    answer
}

pub(super) fn entry(control: &Control, id: &str) -> Arc<Entry> {
    Arc::clone(
        control
            .registry
            .snapshot()
            .entry(&InstanceId::parse(id).unwrap())
            .unwrap(),
    )
}

fn state(control: &Control, id: &str) -> InstanceState {
    entry(control, id).instance.state
}

/// Returns everything that a call could change.
fn everything(control: &Control) -> Vec<(u64, crate::instance::Instance)> {
    let snapshot = control.registry.snapshot();
    snapshot
        .entries()
        .map(|entry| (entry.generation, entry.instance.clone()))
        .collect()
}

/// Rows of parameters, status, code and message: each call is refused so, and nothing changes.
async fn refused(control: &Control, action: &str, rows: &[(&str, u16, &str, &str)]) {
    let before = everything(control);
    for (rest, status, code, message) in rows {
        let answer = ec2(control, action, rest).await;
        let got = (answer.status, answer.code(), answer.element("Message"));
        assert_eq!(got, (*status, *code, Some(*message)), "{action} {rest}");
    }
    assert_eq!(everything(control), before, "{action}");
}

const DRY: (u16, &str, &str) = (
    412,
    "DryRunOperation",
    "Request would have succeeded, but DryRun flag is set.",
);
const NO_ID: &str = "The request must contain the parameter InstanceId";
const UNKNOWN: (&str, &str) = ("i-aaaaaaaa", "The instance ID 'i-aaaaaaaa' does not exist");

#[tokio::test]
async fn defaults_show_only_preferences_and_change_in_part() {
    let control = several().await;
    for (rest, expected) in [
        ("", ""),
        ("HttpTokens=required", "<httpTokens>required</httpTokens>"),
        (
            "HttpTokensEnforced=enabled",
            "<httpTokens>required</httpTokens>|<httpTokensEnforced>enabled</httpTokensEnforced>",
        ),
        (
            "HttpPutResponseHopLimit=3&HttpEndpoint=disabled&InstanceMetadataTags=enabled&HttpTokensEnforced=disabled",
            "<httpTokens>required</httpTokens><httpPutResponseHopLimit>3</httpPutResponseHopLimit>\
             <httpEndpoint>disabled</httpEndpoint><instanceMetadataTags>enabled</instanceMetadataTags>|\
             <httpTokensEnforced>disabled</httpTokensEnforced>",
        ),
        (
            "HttpTokens=no-preference&HttpPutResponseHopLimit=-1&HttpTokensEnforced=no-preference",
            "<httpEndpoint>disabled</httpEndpoint><instanceMetadataTags>enabled</instanceMetadataTags>",
        ),
        (
            "HttpEndpoint=no-preference&InstanceMetadataTags=no-preference&DryRun=false",
            "",
        ),
    ] {
        let answer = ok(&control, "ModifyInstanceMetadataDefaults", rest).await;
        assert_eq!(answer.element("return"), Some("true"));
        let (before, after) = expected.split_once('|').unwrap_or((expected, ""));
        let shown = ok(&control, "GetInstanceMetadataDefaults", "").await;
        let level = format!("{before}<managedBy>account</managedBy>{after}");
        assert_eq!(
            shown.element("accountLevel"),
            Some(level.as_str()),
            "{rest}"
        );
    }
}

#[tokio::test]
async fn defaults_refuse_invalid_preferences() {
    let control = several().await;
    ok(
        &control,
        "ModifyInstanceMetadataDefaults",
        "HttpTokens=required",
    )
    .await;
    let hops = |value: &str| {
        format!(
            "A value of '{value}' is not valid for HttpPutResponseHopLimit. Specify an integer from 1 to 64, or -1 for no \
             preference, and try again."
        )
    };
    let word = |value: &str, name: &str, words: &str| {
        format!(
            "A value of '{value}' is not valid for {name}. Specify either {words} or 'no-preference' and try again."
        )
    };
    let tokens = "'optional', 'required'";
    let switch = "'enabled', 'disabled'";
    let value = "InvalidParameterValue";
    for (rest, status, code, message) in [
        ("HttpTokens=", 400, value, word("", "HttpTokens", tokens)),
        (
            "HttpTokens=none",
            400,
            value,
            word("none", "HttpTokens", tokens),
        ),
        (
            "HttpTokens=no_preference",
            400,
            value,
            word("no_preference", "HttpTokens", tokens),
        ),
        (
            "HttpEndpoint=on",
            400,
            value,
            word("on", "HttpEndpoint", switch),
        ),
        (
            "InstanceMetadataTags=Enabled",
            400,
            value,
            word("Enabled", "InstanceMetadataTags", switch),
        ),
        (
            "HttpTokensEnforced=true",
            400,
            value,
            word("true", "HttpTokensEnforced", switch),
        ),
        ("HttpPutResponseHopLimit=0", 400, value, hops("0")),
        ("HttpPutResponseHopLimit=65", 400, value, hops("65")),
        ("HttpPutResponseHopLimit=-2", 400, value, hops("-2")),
        (
            "HttpPutResponseHopLimit=no-preference",
            400,
            value,
            hops("no-preference"),
        ),
        ("HttpPutResponseHopLimit=", 400, value, hops("")),
        (
            "HttpProtocolIpv6=enabled",
            400,
            "UnknownParameter",
            "The parameter HttpProtocolIpv6 is not recognized".into(),
        ),
        (
            "InstanceId=i-11111111",
            400,
            "UnknownParameter",
            "The parameter InstanceId is not recognized".into(),
        ),
        (
            "HttpTokens=optional&DryRun=true",
            DRY.0,
            DRY.1,
            DRY.2.into(),
        ),
    ] {
        refused(
            &control,
            "ModifyInstanceMetadataDefaults",
            &[(rest, status, code, &message)],
        )
        .await;
    }
    refused(
        &control,
        "GetInstanceMetadataDefaults",
        &[
            ("DryRun=true", DRY.0, DRY.1, DRY.2),
            (
                "HttpTokens=required",
                400,
                "UnknownParameter",
                "The parameter HttpTokens is not recognized",
            ),
        ],
    )
    .await;
    let shown = ok(&control, "GetInstanceMetadataDefaults", "").await;
    assert_eq!(shown.element("httpTokens"), Some("required"));
    assert_eq!(shown.element("httpTokensEnforced"), None);
}

#[tokio::test]
async fn defaults_survive_a_restart_and_unreadable_ones_relax_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let open = || several_on(FileStore::open(directory.path()).unwrap());
    let first = open().await;
    ok(
        &first,
        "ModifyInstanceMetadataDefaults",
        "HttpTokensEnforced=enabled",
    )
    .await;
    drop(first);
    let control = open().await;
    let shown = ok(&control, "GetInstanceMetadataDefaults", "").await;
    assert_eq!(shown.element("httpTokensEnforced"), Some("enabled"));
    drop(control);

    std::fs::write(directory.path().join("account.json"), "{").unwrap();
    let control = open().await;
    let unreadable = "The record of the account's metadata defaults can't be read.";
    let options = format!("InstanceId={RUNNING}&HttpTokens=optional");
    for (action, rest) in [
        ("GetInstanceMetadataDefaults", ""),
        (
            "ModifyInstanceMetadataDefaults",
            "HttpTokensEnforced=disabled",
        ),
        ("ModifyInstanceMetadataOptions", options.as_str()),
        ("RunInstances", "ImageId=ami-12345678&MinCount=1&MaxCount=1"),
    ] {
        refused(
            &control,
            action,
            &[(rest, 500, "InternalError", unreadable)],
        )
        .await;
    }
    // A stricter option does not depend on the defaults.
    ok(
        &control,
        "ModifyInstanceMetadataOptions",
        &format!("InstanceId={RUNNING}&HttpEndpoint=disabled"),
    )
    .await;
}

#[tokio::test]
async fn enforcement_keeps_required_tokens_and_does_not_change_optional_ones() {
    let control = several().await;
    ok(
        &control,
        "ModifyInstanceMetadataOptions",
        &format!("InstanceId={TAGGED}&HttpTokens=optional"),
    )
    .await;
    ok(
        &control,
        "ModifyInstanceMetadataDefaults",
        "HttpTokensEnforced=enabled",
    )
    .await;
    let sentence = "You can't set httpTokens to 'optional' because httpTokensEnforced is enabled for this account.";
    for rest in ["", "&DryRun=true", "&HttpEndpoint=enabled"] {
        let rest = format!("InstanceId={RUNNING}&HttpTokens=optional{rest}");
        refused(
            &control,
            "ModifyInstanceMetadataOptions",
            &[(&rest, 400, "UnsupportedOperation", sentence)],
        )
        .await;
    }
    for rest in [
        format!("InstanceId={TAGGED}&HttpTokens=optional"),
        format!("InstanceId={RUNNING}&HttpPutResponseHopLimit=1"),
        format!("InstanceId={TAGGED}&HttpTokens=required"),
    ] {
        ok(&control, "ModifyInstanceMetadataOptions", &rest).await;
    }
    let rest = format!("InstanceId={TAGGED}&HttpTokens=optional");
    refused(
        &control,
        "ModifyInstanceMetadataOptions",
        &[(&rest, 400, "UnsupportedOperation", sentence)],
    )
    .await;
}

const LAUNCH: &str = "ImageId=ami-12345678&MinCount=1&MaxCount=1";

#[tokio::test]
async fn a_launch_resolves_each_option_from_the_call_the_account_and_the_built_in_default() {
    for (defaults, launch, expected) in [
        ("", "", ["required", "2", "enabled", "disabled", "disabled"]),
        (
            "HttpTokens=optional",
            "",
            ["optional", "2", "enabled", "disabled", "disabled"],
        ),
        (
            "HttpTokens=optional",
            "&MetadataOptions.HttpTokens=required",
            ["required", "2", "enabled", "disabled", "disabled"],
        ),
        (
            "HttpTokens=required",
            "&MetadataOptions.HttpTokens=optional",
            ["optional", "2", "enabled", "disabled", "disabled"],
        ),
        (
            "HttpPutResponseHopLimit=1",
            "",
            ["required", "1", "enabled", "disabled", "disabled"],
        ),
        (
            "HttpPutResponseHopLimit=1&HttpEndpoint=disabled&InstanceMetadataTags=enabled",
            "&MetadataOptions.HttpPutResponseHopLimit=5&MetadataOptions.HttpProtocolIpv6=enabled",
            ["required", "5", "disabled", "enabled", "enabled"],
        ),
    ] {
        let control = several().await;
        ok(&control, "ModifyInstanceMetadataDefaults", defaults).await;
        let answer = ok(&control, "RunInstances", &format!("{LAUNCH}{launch}")).await;
        let names = [
            "httpTokens",
            "httpPutResponseHopLimit",
            "httpEndpoint",
            "httpProtocolIpv6",
            "instanceMetadataTags",
        ];
        assert_eq!(
            names.map(|name| answer.element(name).unwrap()),
            expected,
            "{defaults} {launch}"
        );
        assert_eq!(
            answer
                .element("metadataOptions")
                .unwrap()
                .split("httpTokens")
                .next(),
            Some("<state>pending</state><")
        );
        // A later change of the defaults does not change existing instances.
        let id = answer.element("instanceId").unwrap().to_string();
        let before = options_of(&control, &id);
        ok(
            &control,
            "ModifyInstanceMetadataDefaults",
            "HttpTokens=optional&HttpEndpoint=enabled",
        )
        .await;
        assert_eq!(options_of(&control, &id), before);
    }
}

#[tokio::test]
async fn a_launch_creates_the_requested_instance_without_an_attachment() {
    let control = several().await;
    let rest = "ImageId=ami-12345678&MinCount=2&MaxCount=3&InstanceType=t3.large&KeyName=ops&UserData=aGVsbG8=\
        &TagSpecification.1.ResourceType=instance&TagSpecification.1.Tag.1.Key=Name&TagSpecification.1.Tag.1.Value=web\
        &IamInstanceProfile.Name=app&SecurityGroupId.1=sg-1&SubnetId=subnet-1\
        &Placement.AvailabilityZone=us-east-1c&Placement.Tenancy=default&InstanceMarketOptions.MarketType=spot\
        &Monitoring.Enabled=true&DisableApiTermination=true&ClientToken=once";
    let answer = ok(&control, "RunInstances", rest).await;
    let ids: Vec<String> = answer.instances().iter().map(ToString::to_string).collect();
    assert_eq!(ids.len(), 3);
    assert!(ids.iter().all(|id| id.len() == 19));
    for part in [
        "<instanceState><code>0</code><name>pending</name></instanceState>",
        "<amiLaunchIndex>2</amiLaunchIndex>",
        "<instanceType>t3.large</instanceType>",
        "<availabilityZone>us-east-1c</availabilityZone>",
        "<monitoring><state>enabled</state></monitoring>",
        "<tagSet><item><key>Name</key><value>web</value></item></tagSet>",
        "<arn>arn:aws:iam::123456789012:instance-profile/app</arn>",
        "<instanceLifecycle>spot</instanceLifecycle>",
        "<clientToken>once</clientToken>",
        "<launchTime>2026-05-01T12:00:01.000Z</launchTime>",
        "<ownerId>123456789012</ownerId><groupSet/><instancesSet><item><instanceId>",
    ] {
        assert!(
            answer.body.contains(part),
            "{part} is not in {}",
            answer.body
        );
    }
    let described = describe(&control, &format!("InstanceId.1={}", ids[0])).await;
    assert_eq!(
        described.element("reservationId"),
        answer.element("reservationId")
    );
    assert!(
        described
            .body
            .contains("<code>16</code><name>running</name>")
    );
    let entry = entry(&control, &ids[0]);
    assert!(entry.instance.imds.attachments.is_empty());
    assert_eq!(entry.instance.user_data().unwrap(), b"hello");
    assert!(
        entry.identity_document.contains(&ids[0])
            && entry.identity_document.contains("2026-05-01T12:00:01Z")
    );
    assert!(entry.instance.imds.disable_api_termination);

    // Repeating the call launches nothing; another call with its token is refused.
    let again = ok(&control, "RunInstances", rest).await;
    assert_eq!(again.instances(), ids);
    assert_eq!(control.registry.snapshot().entries().count(), 8);
    let mismatch = "Arguments on this idempotent request are inconsistent with arguments used in previous request(s).";
    let other = rest.replace("t3.large", "t3.small");
    refused(
        &control,
        "RunInstances",
        &[(&other, 400, "IdempotentParameterMismatch", mismatch)],
    )
    .await;
    for id in &ids {
        ok(
            &control,
            "ModifyInstanceAttribute",
            &format!("InstanceId={id}&DisableApiTermination.Value=false"),
        )
        .await;
        ok(
            &control,
            "TerminateInstances",
            &format!("InstanceId.1={id}"),
        )
        .await;
    }
    let ended = "The instances of this client token were terminated.";
    refused(
        &control,
        "RunInstances",
        &[(rest, 400, "IdempotentInstanceTerminated", ended)],
    )
    .await;
}

#[tokio::test]
async fn a_refused_launch_creates_no_instance() {
    let control = several().await;
    let with = |rest: &str| format!("{LAUNCH}&{rest}");
    let tag = |key: &str| {
        format!(
            "{LAUNCH}&TagSpecification.1.ResourceType=instance&TagSpecification.1.Tag.1.Key={key}"
        )
    };
    let many: String = (1..=51)
        .map(|n| format!("&TagSpecification.1.Tag.{n}.Key=k{n}"))
        .collect();
    let big = format!("UserData={}", "QUFB".repeat(5_462));
    let value = "InvalidParameterValue";
    for (rest, code, message) in [
        (
            "MinCount=1&MaxCount=1".to_string(),
            "MissingParameter",
            "The request must contain the parameter ImageId",
        ),
        (
            "ImageId=ami-12345678&MaxCount=1".into(),
            "MissingParameter",
            "The request must contain the parameter MinCount",
        ),
        (
            "ImageId=ami-12345678&MinCount=1".into(),
            "MissingParameter",
            "The request must contain the parameter MaxCount",
        ),
        (
            "ImageId=ami-12345678&MinCount=0&MaxCount=1".into(),
            value,
            "Value (0) for parameter minCount is invalid. Parameter must be greater than 0.",
        ),
        (
            "ImageId=ami-12345678&MinCount=x&MaxCount=1".into(),
            value,
            "Value (x) for parameter minCount is invalid. Parameter must be greater than 0.",
        ),
        (
            "ImageId=ami-12345678&MinCount=2&MaxCount=1".into(),
            value,
            "Value (2) for parameter minCount is invalid. It is more than maxCount.",
        ),
        (
            "ImageId=ami-12345678&MinCount=101&MaxCount=101".into(),
            "InstanceLimitExceeded",
            "You have requested more instances (101) than your current limit.",
        ),
        (
            "ImageId=web&MinCount=1&MaxCount=1".into(),
            "InvalidAMIID.Malformed",
            "Invalid id: \"web\" (expecting \"ami-...\")",
        ),
        (
            with("UserData=%21"),
            "InvalidUserData.Malformed",
            "Invalid BASE64 encoding of user data.",
        ),
        (with(&big), value, "User data is limited to 16384 bytes"),
        (
            with("PrivateIpAddress=10.0.0.256"),
            value,
            "Value (10.0.0.256) for parameter privateIpAddress is invalid. Not an IPv4 address.",
        ),
        (
            with("Placement.AvailabilityZone=eu-west-1a"),
            value,
            "Invalid availability zone: [eu-west-1a]",
        ),
        (
            with("MetadataOptions.HttpEndpoint="),
            value,
            "A value of '' is not valid for HttpEndpoint. Specify either 'enabled' or 'disabled' and try again.",
        ),
        (
            with("IamInstanceProfile.Name=a&IamInstanceProfile.Arn=b"),
            "InvalidParameterCombination",
            "The parameter iamInstanceProfile.name may not be used in combination with iamInstanceProfile.arn",
        ),
        (
            with("IamInstanceProfile.Arn=arn:bogus"),
            value,
            "Value (arn:bogus) for parameter iamInstanceProfile.arn is invalid. Invalid IAM Instance Profile ARN",
        ),
        (
            with("IamInstanceProfile.Name=arn:bogus"),
            value,
            "Value (arn:bogus) for parameter iamInstanceProfile.name is invalid. Invalid IAM Instance Profile name",
        ),
        (
            with("Placement.Tenancy=bogus"),
            value,
            "Value (bogus) for parameter tenancy is invalid.",
        ),
        (
            "ImageId=ami-12345678&MinCount=2&MaxCount=2&PrivateIpAddress=10.0.0.9".into(),
            "InvalidParameterCombination",
            "A private IP address can't be specified for a launch of more than one instance.",
        ),
        (
            with("NetworkInterface.1.SubnetId=subnet-1"),
            "UnsupportedOperation",
            "The parameter NetworkInterface.1.SubnetId is not supported.",
        ),
        (
            with("LaunchTemplate.LaunchTemplateId=lt-1"),
            "UnsupportedOperation",
            "The parameter LaunchTemplate.LaunchTemplateId is not supported.",
        ),
        (
            with("InstanceMarketOptions.MarketType=capacity-block"),
            "UnsupportedOperation",
            "The market type 'capacity-block' is not supported.",
        ),
        (
            with("SecurityGroups.1=web"),
            "UnknownParameter",
            "The parameter SecurityGroups.1 is not recognized",
        ),
        (
            with("MetadataOptions.HttpToken=required"),
            "UnknownParameter",
            "The parameter MetadataOptions.HttpToken is not recognized",
        ),
        (
            tag("aws:x"),
            "InvalidTagKey.Malformed",
            "Tag keys starting with 'aws:' are reserved for internal use",
        ),
        (
            tag(""),
            value,
            "Value ( '' ) for parameter Tag key is invalid. Tag key cannot be null or empty",
        ),
        (
            with(&format!("TagSpecification.1.ResourceType=instance{many}")),
            "TagLimitExceeded",
            "The maximum number of Tags for a resource has been reached: 50.",
        ),
        // Tags of what a launch here does not create are dropped, but must be tags.
        (
            with("TagSpecification.1.ResourceType=volume&TagSpecification.1.Tag.1.Key=aws:a"),
            "InvalidTagKey.Malformed",
            "Tag keys starting with 'aws:' are reserved for internal use",
        ),
        (
            with("TagSpecification.1.ResourceType=machine&TagSpecification.1.Tag.1.Key=a"),
            value,
            "'machine' is not a valid taggable resource type for this operation.",
        ),
        (
            with("KeyName="),
            value,
            "Value () for parameter keyName is invalid. The value cannot be empty",
        ),
        (
            with("SubnetId="),
            value,
            "Value () for parameter subnetId is invalid. The value cannot be empty",
        ),
        (
            with("InstanceType="),
            value,
            "Value () for parameter instanceType is invalid. The value cannot be empty",
        ),
        (
            with("IamInstanceProfile.Name="),
            value,
            "Value () for parameter iamInstanceProfile is invalid. The value cannot be empty",
        ),
        (
            with("SecurityGroupId.1=sg-1&SecurityGroupId.2="),
            value,
            "Value () for parameter groupId is invalid. The value cannot be empty",
        ),
        (
            with("Placement.AvailabilityZone="),
            value,
            "Invalid availability zone: []",
        ),
        (
            with("Placement.AvailabilityZone=us-east-10a"),
            value,
            "Invalid availability zone: [us-east-10a]",
        ),
        (
            with("Placement.AvailabilityZone=us-east-1"),
            value,
            "Invalid availability zone: [us-east-1]",
        ),
        (
            with("Placement.AvailabilityZone=rack-7"),
            value,
            "Invalid availability zone: [rack-7]",
        ),
        (
            tag("a%20b") + "&MetadataOptions.InstanceMetadataTags=enabled",
            value,
            "'a b' is not a valid tag key. Tag keys must match pattern ([0-9a-zA-Z\\\\-_+=,.@:]{1,255}), and must not be a \
             reserved name ('.', '..', '_index')",
        ),
        (
            with("KeyName=a%0Ab"),
            value,
            "KeyName: has a control character (U+000A); metadata and EC2's XML cannot show it",
        ),
    ] {
        refused(&control, "RunInstances", &[(&rest, 400, code, message)]).await;
    }
    refused(
        &control,
        "RunInstances",
        &[(&with("DryRun=true"), DRY.0, DRY.1, DRY.2)],
    )
    .await;

    // Flags with their default value are accepted.
    for rest in [
        "EbsOptimized=false",
        "EnclaveOptions.Enabled=false",
        "HibernationOptions.Configured=false",
        "InstanceInitiatedShutdownBehavior=stop",
    ] {
        ok(&control, "RunInstances", &with(rest)).await;
    }

    ok(
        &control,
        "ModifyInstanceMetadataDefaults",
        "HttpTokens=optional&HttpTokensEnforced=enabled",
    )
    .await;
    let sentence = "You can't launch instances with IMDSv1 because httpTokensEnforced is enabled for this account. Either \
        launch the instance with httpTokens=required or contact your account owner to disable httpTokensEnforced using \
        the ModifyInstanceMetadataDefaults API or the account settings in the EC2 console.";
    for rest in [
        LAUNCH.to_string(),
        with("MetadataOptions.HttpTokens=optional"),
        with("DryRun=true"),
    ] {
        refused(
            &control,
            "RunInstances",
            &[(&rest, 400, "UnsupportedOperation", sentence)],
        )
        .await;
    }
    ok(
        &control,
        "RunInstances",
        &with("MetadataOptions.HttpTokens=required"),
    )
    .await;
}

#[tokio::test]
async fn tags_are_added_changed_and_removed() {
    let control = several().await;
    let tags = |id: &str| -> Vec<String> {
        entry(&control, id)
            .instance
            .tags
            .iter()
            .map(|tag| format!("{}={}", tag.key, tag.value))
            .collect()
    };
    let both = format!("ResourceId.1={RUNNING}&ResourceId.2={TAGGED}&ResourceId.3={RUNNING}");
    ok(
        &control,
        "CreateTags",
        &format!("{both}&Tag.1.Key=Name&Tag.1.Value=db&Tag.2.Key=empty"),
    )
    .await;
    assert_eq!(tags(RUNNING), ["Name=db", "empty="]);
    assert_eq!(tags(TAGGED), ["Name=db", "cost center/eu=7", "empty="]);
    for (rest, left) in [
        // The key with another value: the tag stays.
        (
            &["Tag.1.Key=Name&Tag.1.Value=web"][..],
            &["Name=db", "empty="][..],
        ),
        (&["Tag.1.Key=Name&Tag.1.Value="], &["Name=db", "empty="]),
        (&["Tag.1.Key=empty&Tag.1.Value="], &["Name=db"]),
        (&["Tag.1.Key=none"], &["Name=db"]),
        (&["Tag.1.Key=Name"], &[]),
    ] {
        ok(
            &control,
            "DeleteTags",
            &format!("ResourceId.1={RUNNING}&{}", rest[0]),
        )
        .await;
        assert_eq!(tags(RUNNING), left, "{rest:?}");
    }
    ok(&control, "DeleteTags", &format!("ResourceId.1={TAGGED}")).await;
    assert_eq!(tags(TAGGED), [""; 0]);

    // EC2's own tags cannot be removed.
    let own = json!({"Tags": [{"Key": "aws:autoscaling:groupName", "Value": "a"}, {"Key": "b", "Value": "c"}]});
    let control = super::control(MemoryStore, vec![document(RUNNING, "running", own)]).await;
    ok(&control, "DeleteTags", &format!("ResourceId.1={RUNNING}")).await;
    assert_eq!(entry(&control, RUNNING).instance.tags.len(), 1);
}

#[tokio::test]
async fn tags_of_several_instances_change_together_or_not_at_all() {
    let control = several().await;
    ok(
        &control,
        "ModifyInstanceMetadataOptions",
        &format!("InstanceId={RUNNING}&InstanceMetadataTags=enabled"),
    )
    .await;
    let to = |rest: &str| format!("ResourceId.1={RUNNING}&{rest}");
    let many = |n: usize| {
        (1..=n)
            .map(|n| format!("&Tag.{n}.Key=k{n}"))
            .collect::<String>()
    };
    let value = "InvalidParameterValue";
    let unfit = |key: &str| {
        format!(
            "'{key}' is not a valid tag key. Tag keys must match pattern ([0-9a-zA-Z\\\\-_+=,.@:]{{1,255}}), and must not be \
             a reserved name ('.', '..', '_index')"
        )
    };
    for (rest, code, message) in [
        (
            "Tag.1.Key=a".to_string(),
            "MissingParameter",
            "The request must contain the parameter resourceIdSet".to_string(),
        ),
        (
            "ResourceId.1=&Tag.1.Key=a".into(),
            "MissingParameter",
            "The request must contain the parameter resourceIdSet".into(),
        ),
        (
            to(""),
            "MissingParameter",
            "The request must contain the parameter Tag".into(),
        ),
        (
            "ResourceId.1=ami-1&Tag.1.Key=a".into(),
            "InvalidID",
            "The ID 'ami-1' is not valid".into(),
        ),
        (
            "ResourceId.1=i-x&Tag.1.Key=a".into(),
            "InvalidID",
            "The ID 'i-x' is not valid".into(),
        ),
        (
            format!("ResourceId.1={}&Tag.1.Key=a", UNKNOWN.0),
            "InvalidInstanceID.NotFound",
            UNKNOWN.1.into(),
        ),
        (
            to("ResourceId.2=i-aaaaaaaa&Tag.1.Key=a"),
            "InvalidInstanceID.NotFound",
            UNKNOWN.1.into(),
        ),
        (
            to("Tag.1.Value=a"),
            value,
            "Value ( '' ) for parameter Tag key is invalid. Tag key cannot be null or empty".into(),
        ),
        (
            to("Tag.1.Key=aws:a"),
            "InvalidTagKey.Malformed",
            "Tag keys starting with 'aws:' are reserved for internal use".into(),
        ),
        (
            to(&format!("Tag.1.Key={}", "k".repeat(129))),
            value,
            "Tag key exceeds the maximum length of 128 characters".into(),
        ),
        (
            to(&format!("Tag.1.Key=k&Tag.1.Value={}", "v".repeat(257))),
            value,
            "Tag value exceeds the maximum length of 256 characters".into(),
        ),
        (
            to("Tag.1.Key=a&Tag.2.Key=a"),
            value,
            "Duplicate tag key 'a' specified.".into(),
        ),
        (
            to(&many(51)),
            "TagLimitExceeded",
            "The maximum number of Tags for a resource has been reached: 50.".into(),
        ),
        (
            to("Tag.1.Key=a&Tag.3.Key=c"),
            "UnknownParameter",
            "The parameter Tag.3.Key is not recognized".into(),
        ),
        // The second instance shows its tags in metadata, so neither of the two gets the tag.
        (
            format!("ResourceId.1={STOPPED}&ResourceId.2={RUNNING}&Tag.1.Key=a/b"),
            value,
            unfit("a/b"),
        ),
        (to("Tag.1.Key=_index"), value, unfit("_index")),
        (
            format!("ResourceId.1={UNREADABLE}&Tag.1.Key=a"),
            "InternalError",
            "The record of the instance 'i-99999999' can't be read.".into(),
        ),
        (to("Tag.1.Key=a&DryRun=true"), DRY.1, DRY.2.into()),
    ] {
        let status = match code {
            "DryRunOperation" => 412,
            "InternalError" => 500,
            _ => 400,
        };
        refused(&control, "CreateTags", &[(&rest, status, code, &message)]).await;
    }
    let key = "Tag keys starting with 'aws:' are reserved for internal use";
    refused(
        &control,
        "DeleteTags",
        &[
            (&to("Tag.1.Key=aws:a"), 400, "InvalidTagKey.Malformed", key),
            (
                "ResourceId.1=vol-1",
                400,
                "InvalidID",
                "The ID 'vol-1' is not valid",
            ),
            (
                &format!("ResourceId.1={TAGGED}&DryRun=true"),
                DRY.0,
                DRY.1,
                DRY.2,
            ),
        ],
    )
    .await;
}

#[tokio::test]
async fn tags_are_listed_by_filter_and_in_pages() {
    let control = several().await;
    ok(
        &control,
        "CreateTags",
        &format!(
            "ResourceId.1={RUNNING}{}",
            (1..=6)
                .map(|n| format!("&Tag.{n}.Key=k{n}"))
                .collect::<String>()
        ),
    )
    .await;
    let rows = |answer: &Answer| answer.body.matches("<resourceId>").count();
    let all = ok(&control, "DescribeTags", "").await;
    assert_eq!(rows(&all), 8);
    let row = "<item><resourceId>i-44444444</resourceId><resourceType>instance</resourceType><key>Name</key>\
        <value>web</value></item>";
    assert!(all.body.contains(row), "{}", all.body);
    for (name, value, count) in [
        ("key", "k*", 6),
        ("value", "web", 1),
        ("resource-id", TAGGED, 2),
        ("resource-type", "instance", 8),
        ("resource-type", "volume", 0),
        ("tag:Name", "web", 1),
        ("tag:Name", "db", 0),
    ] {
        let answer = ok(
            &control,
            "DescribeTags",
            &format!("Filter.1.Name={name}&Filter.1.Value.1={value}"),
        )
        .await;
        assert_eq!(rows(&answer), count, "{name} {value}");
    }
    let first = ok(&control, "DescribeTags", "MaxResults=5").await;
    let token = first.element("nextToken").unwrap();
    let second = ok(
        &control,
        "DescribeTags",
        &format!("MaxResults=5&NextToken={token}"),
    )
    .await;
    assert_eq!(
        (rows(&first), rows(&second), second.element("nextToken")),
        (5, 3, None)
    );
    refused(
        &control,
        "DescribeTags",
        &[
            (
                "Filter.1.Name=tag-key&Filter.1.Value.1=x",
                400,
                "InvalidParameterValue",
                "The filter 'tag-key' is invalid",
            ),
            (
                "NextToken=aW1kc2Q6eA",
                400,
                "InvalidNextToken",
                "The token 'aW1kc2Q6eA' is invalid",
            ),
            ("DryRun=true", DRY.0, DRY.1, DRY.2),
        ],
    )
    .await;
}

#[tokio::test]
async fn a_stopped_and_started_instance_is_another_launch_and_a_rebooted_one_is_not() {
    let control = several().await;
    let first = entry(&control, RUNNING);
    let stopped = ok(
        &control,
        "StopInstances",
        &format!("InstanceId.1={RUNNING}&Force=true"),
    )
    .await;
    let change = |current: &str, previous: &str| {
        format!(
            "<item><instanceId>{RUNNING}</instanceId><currentState>{current}</currentState><previousState>{previous}\
             </previousState></item>"
        )
    };
    let (running, stopping) = (
        "<code>16</code><name>running</name>",
        "<code>64</code><name>stopping</name>",
    );
    let (off, pending) = (
        "<code>80</code><name>stopped</name>",
        "<code>0</code><name>pending</name>",
    );
    assert_eq!(
        stopped.element("instancesSet"),
        Some(change(stopping, running).as_str())
    );
    let described = describe(&control, &format!("InstanceId.1={RUNNING}")).await;
    assert!(described.body.contains(off), "{}", described.body);
    assert!(
        described
            .body
            .contains("<reason>User initiated (2026-05-01 12:00:01 GMT)</reason>")
    );
    assert_eq!(entry(&control, RUNNING).launch_epoch, first.launch_epoch);

    // Repeating it changes nothing.
    let again = ok(
        &control,
        "StopInstances",
        &format!("InstanceId.1={RUNNING}"),
    )
    .await;
    assert_eq!(
        again.element("instancesSet"),
        Some(change(off, off).as_str())
    );

    // Options and user data change while it is stopped.
    let rest = format!("InstanceId={RUNNING}&HttpTokens=optional");
    let modified = ok(&control, "ModifyInstanceMetadataOptions", &rest).await;
    assert_eq!(modified.element("state"), Some("pending"));
    let described = describe(&control, &format!("InstanceId.1={RUNNING}")).await;
    assert!(
        described
            .body
            .contains("<state>applied</state><httpTokens>optional</httpTokens>")
    );
    // Without a change, nothing is pending.
    assert_eq!(
        ok(&control, "ModifyInstanceMetadataOptions", &rest)
            .await
            .element("state"),
        Some("applied")
    );

    let started = ok(
        &control,
        "StartInstances",
        &format!("InstanceId.1={RUNNING}"),
    )
    .await;
    assert_eq!(
        started.element("instancesSet"),
        Some(change(pending, off).as_str())
    );
    let second = entry(&control, RUNNING);
    assert_ne!(second.launch_epoch, first.launch_epoch);
    assert!(second.identity_document.contains("2026-05-01T12:00:01Z"));
    assert_eq!(
        second.instance.metadata_options.http_tokens,
        HttpTokens::Optional
    );
    assert_eq!(
        (
            second.instance.state,
            &second.instance.state_transition_reason
        ),
        (InstanceState::Running, &None)
    );
    let again = ok(
        &control,
        "StartInstances",
        &format!("InstanceId.1={RUNNING}"),
    )
    .await;
    assert_eq!(
        again.element("instancesSet"),
        Some(change(running, running).as_str())
    );

    let rebooted = ok(
        &control,
        "RebootInstances",
        &format!("InstanceId.1={RUNNING}&InstanceId.2={TERMINATED}"),
    )
    .await;
    assert_eq!(rebooted.element("return"), Some("true"));
    assert_eq!(entry(&control, RUNNING).launch_epoch, second.launch_epoch);
    assert_eq!(entry(&control, RUNNING).generation, second.generation);
}

/// EC2's closest case is an instance whose network interface is attached elsewhere: the start
/// fails, and the other instance keeps it.
#[tokio::test]
async fn a_start_is_refused_while_another_instance_has_an_attachment() {
    let attached = json!({"Imds": {"Attachments": [{"Listener": "demo"}]}});
    let documents = vec![
        document(RUNNING, "running", attached.clone()),
        document(STOPPED, "stopped", attached),
    ];
    let control = super::control(MemoryStore, documents).await;
    let start = format!("InstanceId.1={STOPPED}");
    for parameters in [start.clone(), format!("{start}&DryRun=true")] {
        let refused = ec2(&control, "StartInstances", &parameters).await;
        assert_eq!(refused.code(), "IncorrectInstanceState");
        assert!(refused.body.contains("listener 'demo'"), "{}", refused.body);
        assert!(
            !refused.body.contains(RUNNING),
            "the caller may not know it"
        );
    }
    assert_eq!(state(&control, STOPPED), InstanceState::Stopped);
    ok(
        &control,
        "StopInstances",
        &format!("InstanceId.1={RUNNING}"),
    )
    .await;
    ok(&control, "StartInstances", &start).await;
    assert_eq!(state(&control, STOPPED), InstanceState::Running);
    assert_eq!(control.registry.snapshot().claims().count(), 1);
}

#[tokio::test]
async fn a_terminated_instance_loses_its_attachments_and_is_shown_for_an_hour() {
    let attached = json!({"Imds": {"Attachments": [{"Listener": "demo"}]}});
    let control = super::control(MemoryStore, vec![document(RUNNING, "running", attached)]).await;
    ok(
        &control,
        "TerminateInstances",
        &format!("InstanceId.1={RUNNING}&SkipOsShutdown=true"),
    )
    .await;
    assert_eq!(state(&control, RUNNING), InstanceState::Terminated);
    assert_eq!(control.registry.snapshot().claims().count(), 0);
    assert_eq!(
        describe(&control, &format!("InstanceId.1={RUNNING}"))
            .await
            .instances(),
        [RUNNING]
    );
    let hour = jiff::SignedDuration::from_hours(1);
    control.registry.forget_terminated(now().wall + hour).await;
    assert_eq!(
        describe(&control, &format!("InstanceId.1={RUNNING}"))
            .await
            .code(),
        "InvalidInstanceID.NotFound"
    );
}

#[tokio::test]
async fn several_instances_change_state_together_or_not_at_all() {
    let control = several().await;
    let state = |id: &str, what: &str| {
        format!("The instance '{id}' is not in a state from which it can be {what}.")
    };
    let protected = |what: &str, attribute: &str| {
        format!(
            "The instance '{TAGGED}' may not be {what}. Modify its '{attribute}' instance attribute and try again."
        )
    };
    ok(
        &control,
        "ModifyInstanceAttribute",
        &format!("InstanceId={TAGGED}&DisableApiStop.Value=true"),
    )
    .await;
    ok(
        &control,
        "ModifyInstanceAttribute",
        &format!("InstanceId={TAGGED}&DisableApiTermination.Value=true"),
    )
    .await;
    let ids = |ids: &[&str]| -> String {
        ids.iter()
            .enumerate()
            .map(|(n, id)| format!("InstanceId.{}={id}&", n + 1))
            .collect()
    };
    let incorrect = "IncorrectInstanceState";
    for (action, rest, code, message) in [
        ("StartInstances", String::new(), "InvalidParameterCombination", "No instances specified".to_string()),
        ("StopInstances", "Force=true".into(), "InvalidParameterCombination", "No instances specified".into()),
        ("RebootInstances", String::new(), "InvalidParameterCombination", "No instances specified".into()),
        ("TerminateInstances", "DryRun=true".into(), "InvalidParameterCombination", "No instances specified".into()),
        ("StartInstances", ids(&[""]), "MissingParameter", NO_ID.into()),
        ("StartInstances", ids(&["web"]), "InvalidInstanceID.Malformed", "Invalid id: \"web\"".into()),
        ("StartInstances", ids(&[STOPPED, UNKNOWN.0]), "InvalidInstanceID.NotFound", UNKNOWN.1.into()),
        (
            "StopInstances",
            ids(&[RUNNING, "i-aaaaaaaa", "i-bbbbbbbb"]),
            "InvalidInstanceID.NotFound",
            "The instance IDs 'i-aaaaaaaa, i-bbbbbbbb' do not exist".into(),
        ),
        ("StartInstances", ids(&[STOPPED, TERMINATED]), incorrect, state(TERMINATED, "started")),
        ("StartInstances", ids(&[ENDING]), incorrect, state(ENDING, "started")),
        ("StopInstances", ids(&[RUNNING, TERMINATED]), incorrect, state(TERMINATED, "stopped")),
        ("RebootInstances", ids(&[RUNNING, STOPPED]), incorrect, state(STOPPED, "rebooted")),
        ("StopInstances", ids(&[RUNNING, TAGGED]), "OperationNotPermitted", protected("stopped", "disableApiStop")),
        (
            "TerminateInstances",
            ids(&[RUNNING, TAGGED]),
            "OperationNotPermitted",
            protected("terminated", "disableApiTermination"),
        ),
        (
            "StopInstances",
            ids(&[RUNNING]) + "Hibernate=true",
            "UnsupportedOperation",
            "Hibernation is not supported.".into(),
        ),
        (
            "StopInstances",
            ids(&[RUNNING]) + "Force=yes",
            "InvalidParameterValue",
            "A value of 'yes' is not valid for Force. Specify either 'true' or 'false' and try again.".into(),
        ),
        (
            "StartInstances",
            ids(&[STOPPED]) + "AdditionalInfo=x",
            "UnsupportedOperation",
            "The parameter AdditionalInfo is not supported.".into(),
        ),
        (
            "StartInstances",
            ids(&[STOPPED]) + "Force=true",
            "UnknownParameter",
            "The parameter Force is not recognized".into(),
        ),
        (
            "TerminateInstances",
            "InstanceId=i-11111111".into(),
            "UnknownParameter",
            "The parameter InstanceId is not recognized".into(),
        ),
        ("StopInstances", ids(&[RUNNING]) + "DryRun=true", DRY.1, DRY.2.into()),
        ("TerminateInstances", ids(&[RUNNING]) + "DryRun=true", DRY.1, DRY.2.into()),
        ("StartInstances", ids(&[STOPPED]) + "DryRun=true", DRY.1, DRY.2.into()),
        ("RebootInstances", ids(&[RUNNING]) + "DryRun=true", DRY.1, DRY.2.into()),
    ] {
        let status = if code == DRY.1 { 412 } else { 400 };
        refused(&control, action, &[(&rest, status, code, &message)]).await;
    }
}

/// A document with an event of each kind.
fn with_events() -> Value {
    let event = |n: u8, state: &str, not_before: &str, more: Value| {
        let mut event = json!({
            "EventId": format!("instance-event-0000000000000000{n}"), "Code": "system-reboot", "Description": "reboot",
            "NotBefore": not_before, "State": state
        });
        event
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        event
    };
    document(
        RUNNING,
        "running",
        json!({"Imds": {"Events": {"Maintenance": [
            event(1, "active", "2026-05-02T12:00:00Z",
                json!({"NotAfter": "2026-05-02T13:00:00Z", "NotBeforeDeadline": "2026-05-09T12:00:00Z"})),
            event(2, "completed", "2026-04-25T12:00:00Z", json!({})),
            event(3, "canceled", "2026-04-20T12:00:00Z", json!({})),
            event(4, "active", "2026-05-02T12:00:00Z", json!({"Code": "instance-stop"})),
        ]}}}),
    )
}

#[tokio::test]
async fn the_status_shows_events_and_by_default_only_running_instances() {
    let control = super::control(
        MemoryStore,
        vec![with_events(), document(STOPPED, "stopped", json!({}))],
    )
    .await;
    let ids = |answer: &Answer| {
        answer
            .instances()
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
    };
    let answer = ok(&control, "DescribeInstanceStatus", "").await;
    assert_eq!(ids(&answer), [RUNNING]);
    for part in [
        "<availabilityZone>us-east-1a</availabilityZone><availabilityZoneId>use1-az1</availabilityZoneId><eventsSet>",
        "<item><instanceEventId>instance-event-00000000000000001</instanceEventId><code>system-reboot</code>\
         <description>reboot</description><notAfter>2026-05-02T13:00:00.000Z</notAfter>\
         <notBefore>2026-05-02T12:00:00.000Z</notBefore><notBeforeDeadline>2026-05-09T12:00:00.000Z</notBeforeDeadline>",
        "<description>[Completed] reboot</description>",
        "<instanceStatus><status>ok</status><details><item><name>reachability</name><status>passed</status></item>\
         </details></instanceStatus>",
    ] {
        assert!(
            answer.body.contains(part),
            "{part} is not in {}",
            answer.body
        );
    }
    // An event that was canceled more than a week ago is not shown.
    assert!(!answer.body.contains("[Canceled]"));
    let all = ok(
        &control,
        "DescribeInstanceStatus",
        "IncludeAllInstances=true",
    )
    .await;
    assert_eq!(ids(&all), [RUNNING, STOPPED]);
    assert!(
        all.body
            .contains("<systemStatus><status>not-applicable</status></systemStatus>")
    );
    assert_eq!(
        ids(&ok(
            &control,
            "DescribeInstanceStatus",
            &format!("InstanceId.1={STOPPED}")
        )
        .await),
        [""; 0]
    );
    for (name, value, found) in [
        ("event.code", "instance-stop", true),
        ("event.code", "instance-retirement", false),
        ("event.description", "*Canceled*", false),
        ("event.description", "[Completed] *", true),
        (
            "event.instance-event-id",
            "instance-event-00000000000000004",
            true,
        ),
        ("event.not-before", "2026-05-02T*", true),
        ("event.not-after", "2026-05-02T13*", true),
        ("event.not-before-deadline", "2026-05-09*", true),
        ("instance-status.status", "ok", true),
        ("instance-status.status", "impaired", false),
        ("system-status.reachability", "passed", true),
        ("instance-state-code", "16", true),
    ] {
        let rest = format!(
            "Filter.1.Name={name}&Filter.1.Value.1={}",
            value.replace(' ', "+")
        );
        assert_eq!(
            !ids(&ok(&control, "DescribeInstanceStatus", &rest).await).is_empty(),
            found,
            "{name} {value}"
        );
    }
    refused(
        &control,
        "DescribeInstanceStatus",
        &[
            (
                "InstanceId.1=i-11111111&MaxResults=5",
                400,
                "InvalidParameterCombination",
                "The parameter instancesSet cannot be used with the parameter maxResults",
            ),
            ("Filter.1.Name=tag:a&Filter.1.Value.1=b", 400, "InvalidParameterValue", "The filter 'tag:a' is invalid"),
            ("InstanceId.1=i-aaaaaaaa", 400, "InvalidInstanceID.NotFound", UNKNOWN.1),
            (
                "IncludeAllInstances=yes",
                400,
                "InvalidParameterValue",
                "A value of 'yes' is not valid for IncludeAllInstances. Specify either 'true' or 'false' and try again.",
            ),
            ("DryRun=true", DRY.0, DRY.1, DRY.2),
        ],
    )
    .await;
}

#[tokio::test]
async fn an_event_is_moved_and_the_guest_sees_it() {
    let control = super::control(MemoryStore, vec![with_events()]).await;
    let to = |event: u8, time: &str| {
        format!(
            "InstanceId={RUNNING}&InstanceEventId=instance-event-0000000000000000{event}&NotBefore={time}"
        )
    };
    let answer = ok(
        &control,
        "ModifyInstanceEventStartTime",
        &to(1, "2026-05-03T12:00:00Z"),
    )
    .await;
    let expected = "<instanceEventId>instance-event-00000000000000001</instanceEventId><code>system-reboot</code>\
        <description>reboot</description><notAfter>2026-05-03T13:00:00.000Z</notAfter>\
        <notBefore>2026-05-03T12:00:00.000Z</notBefore><notBeforeDeadline>2026-05-09T12:00:00.000Z</notBeforeDeadline>";
    assert_eq!(answer.element("event"), Some(expected));
    assert!(
        entry(&control, RUNNING)
            .instance
            .imds
            .events
            .maintenance_scheduled()
            .contains("03 May 2026 12:00:00 GMT")
    );
    let id = |n: u8| format!("instance-event-0000000000000000{n}");
    for (rest, code, message) in [
        (
            to(9, "2026-05-03T12:00:00Z"),
            "InvalidInstanceEventIDNotFound",
            format!("The instance event ID '{}' does not exist", id(9)),
        ),
        (
            to(4, "2026-05-03T12:00:00Z"),
            "InstanceEventStartTimeCannotChange",
            format!("The start time of the event '{}' can't be changed: it has no deadline.", id(4)),
        ),
        (
            to(1, "2026-05-09T12:00:01Z"),
            "InvalidInstanceEventStartTime",
            format!("The event '{}' can't start then: the time is after the deadline.", id(1)),
        ),
        (
            to(1, "soon"),
            "InvalidParameterValue",
            "Value (soon) for parameter notBefore is invalid. Expecting a time such as 2026-01-02T03:04:05Z.".into(),
        ),
        (
            format!("InstanceId={RUNNING}&InstanceEventId=x"),
            "MissingParameter",
            "The request must contain the parameter NotBefore".into(),
        ),
        (
            format!("InstanceId={}&InstanceEventId=x&NotBefore=2026-05-03T12:00:00Z", UNKNOWN.0),
            "InvalidInstanceID.NotFound",
            UNKNOWN.1.into(),
        ),
        (to(1, "2026-05-04T12:00:00Z&DryRun=true"), DRY.1, DRY.2.into()),
    ] {
        let status = if code == DRY.1 { 412 } else { 400 };
        refused(&control, "ModifyInstanceEventStartTime", &[(&rest, status, code, &message)]).await;
    }
}

#[tokio::test]
async fn each_attribute_is_shown_in_its_own_format() {
    let control = super::control(
        MemoryStore,
        vec![full("i-12345678"), document(STOPPED, "stopped", json!({}))],
    )
    .await;
    for (attribute, of_full, of_small) in [
        (
            "userData",
            "<userData><value>aHVudGVyMg==</value></userData>",
            "<userData/>",
        ),
        (
            "disableApiTermination",
            "<disableApiTermination><value>false</value></disableApiTermination>",
            "",
        ),
        (
            "disableApiStop",
            "<disableApiStop><value>false</value></disableApiStop>",
            "",
        ),
        (
            "instanceInitiatedShutdownBehavior",
            "<instanceInitiatedShutdownBehavior><value>stop</value></instanceInitiatedShutdownBehavior>",
            "",
        ),
        (
            "instanceType",
            "<instanceType><value>t3.micro</value></instanceType>",
            "",
        ),
        (
            "kernel",
            "<kernel><value>aki-1</value></kernel>",
            "<kernel/>",
        ),
        (
            "ramdisk",
            "<ramdisk><value>ari-1</value></ramdisk>",
            "<ramdisk/>",
        ),
        ("rootDeviceName", "<rootDeviceName>", "<rootDeviceName/>"),
        (
            "sourceDestCheck",
            "<sourceDestCheck><value>true</value></sourceDestCheck>",
            "",
        ),
        (
            "groupSet",
            "<groupSet><item><groupId>sg-1</groupId><groupName>web</groupName></item></groupSet>",
            "<groupSet/>",
        ),
        (
            "productCodes",
            "<productCodes><item><productCode>abc</productCode><type>marketplace</type></item>",
            "<productCodes/>",
        ),
        (
            "blockDeviceMapping",
            "<blockDeviceMapping><item><deviceName>/dev/xvda</deviceName><ebs>",
            "<blockDeviceMapping/>",
        ),
        (
            "ebsOptimized",
            "<ebsOptimized><value>false</value></ebsOptimized>",
            "",
        ),
        (
            "enaSupport",
            "<enaSupport><value>true</value></enaSupport>",
            "",
        ),
        (
            "enclaveOptions",
            "<enclaveOptions><enabled>false</enabled></enclaveOptions>",
            "",
        ),
        ("sriovNetSupport", "<sriovNetSupport/>", ""),
    ] {
        for (id, expected) in [("i-12345678", of_full), (STOPPED, of_small)] {
            let expected = if expected.is_empty() {
                of_full
            } else {
                expected
            };
            let answer = ok(
                &control,
                "DescribeInstanceAttribute",
                &format!("InstanceId={id}&Attribute={attribute}"),
            )
            .await;
            let start = format!("<instanceId>{id}</instanceId>{expected}");
            assert!(
                answer.body.contains(&start),
                "{start} is not in {}",
                answer.body
            );
        }
    }
    refused(
        &control,
        "DescribeInstanceAttribute",
        &[
            (
                "InstanceId=i-11111111",
                400,
                "MissingParameter",
                "The request must contain the parameter Attribute",
            ),
            ("Attribute=userData", 400, "MissingParameter", NO_ID),
            (
                "InstanceId=i-11111111&Attribute=UserData",
                400,
                "InvalidParameterValue",
                "Value (UserData) for parameter attribute is invalid. Unknown attribute.",
            ),
            (
                "InstanceId=i-aaaaaaaa&Attribute=userData",
                400,
                "InvalidInstanceID.NotFound",
                UNKNOWN.1,
            ),
            (
                "InstanceId=i-11111111&Attribute=userData&DryRun=true",
                DRY.0,
                DRY.1,
                DRY.2,
            ),
        ],
    )
    .await;
}

#[tokio::test]
async fn user_data_changes_only_while_stopped_and_protection_at_any_time() {
    let control = several().await;
    let user_data = |control: &Control, id: &str| entry(control, id).instance.user_data();
    for (rest, expected) in [
        ("UserData.Value=aGVsbG8=", Some(b"hello".to_vec())),
        ("UserData.Value=aGVs%0AbG8=%0A", Some(b"hello".to_vec())),
        ("Attribute=userData&Value=d29ybGQ=", Some(b"world".to_vec())),
        ("UserData.Value=", None),
        ("UserData.Value=aGVsbG8=", Some(b"hello".to_vec())),
        ("Attribute=userData&Value=", None),
    ] {
        ok(
            &control,
            "ModifyInstanceAttribute",
            &format!("InstanceId={STOPPED}&{rest}"),
        )
        .await;
        assert_eq!(user_data(&control, STOPPED), expected, "{rest}");
    }
    for (attribute, read) in [
        (
            "DisableApiStop",
            (|entry: &Entry| entry.instance.imds.disable_api_stop) as fn(&Entry) -> bool,
        ),
        ("DisableApiTermination", |entry: &Entry| {
            entry.instance.imds.disable_api_termination
        }),
    ] {
        for value in [true, false] {
            ok(
                &control,
                "ModifyInstanceAttribute",
                &format!("InstanceId={RUNNING}&{attribute}.Value={value}"),
            )
            .await;
            assert_eq!(read(&entry(&control, RUNNING)), value);
        }
    }
    let to = |id: &str, rest: &str| format!("InstanceId={id}&{rest}");
    for (rest, code, message) in [
        (
            to(RUNNING, "UserData.Value=aGVsbG8="),
            "IncorrectInstanceState",
            format!("The instance '{RUNNING}' must be in a 'stopped' state in order to modify its user data."),
        ),
        (
            to(TERMINATED, "DisableApiStop.Value=true"),
            "IncorrectInstanceState",
            format!("The instance '{TERMINATED}' is not in a state from which it can be modified."),
        ),
        (
            to(STOPPED, "UserData.Value=%21%21"),
            "InvalidUserData.Malformed",
            "Invalid BASE64 encoding of user data.".into(),
        ),
        (
            to(STOPPED, &format!("UserData.Value={}", "QUFB".repeat(5_462))),
            "InvalidParameterValue",
            "User data is limited to 16384 bytes".into(),
        ),
        (to(STOPPED, ""), "InvalidParameterCombination", "No attributes specified.".into()),
        (
            to(STOPPED, "UserData.Value=aGVsbG8=&DisableApiStop.Value=true"),
            "InvalidParameterCombination",
            "Fields for multiple attribute types specified".into(),
        ),
        (
            to(STOPPED, "InstanceType.Value=m5.large"),
            "UnsupportedOperation",
            "The parameter InstanceType.Value is not supported.".into(),
        ),
        (
            to(STOPPED, "Attribute=%C3%BC&Value=x"),
            "UnsupportedOperation",
            "The attribute ü can't be modified here.".into(),
        ),
        (to(STOPPED, "Attribute=userData"), "MissingParameter", "The request must contain the parameter Value".into()),
        (
            to(STOPPED, "DisableApiStop.Value=yes"),
            "InvalidParameterValue",
            "A value of 'yes' is not valid for DisableApiStop. Specify either 'true' or 'false' and try again.".into(),
        ),
        (to(UNKNOWN.0, "DisableApiStop.Value=true"), "InvalidInstanceID.NotFound", UNKNOWN.1.into()),
        ("DisableApiStop.Value=true".into(), "MissingParameter", NO_ID.into()),
        (to(STOPPED, "UserData=aGVsbG8="), "UnknownParameter", "The parameter UserData is not recognized".into()),
        (to(STOPPED, "DisableApiStop.Value=true&DryRun=true"), DRY.1, DRY.2.into()),
    ] {
        let status = if code == DRY.1 { 412 } else { 400 };
        refused(&control, "ModifyInstanceAttribute", &[(&rest, status, code, &message)]).await;
    }
}

#[tokio::test]
async fn regions_and_zones_are_those_of_the_instances() {
    let placed = |id: &str, zone: &str| {
        document(
            id,
            "running",
            json!({"Placement": {"AvailabilityZone": zone}}),
        )
    };
    let documents = vec![
        placed("i-11111111", "eu-west-1b"),
        placed("i-22222222", "us-east-1a"),
        placed("i-33333333", "rack-7"),
    ];
    let control = super::control(MemoryStore, documents).await;
    let names = |answer: &Answer, element: &str| -> Vec<String> {
        let start = format!("<{element}>");
        answer
            .body
            .split(&start)
            .skip(1)
            .map(|rest| rest.split_once('<').unwrap().0.to_string())
            .collect()
    };
    let regions = ok(&control, "DescribeRegions", "AllRegions=true").await;
    assert_eq!(
        names(&regions, "regionName"),
        ["eu-west-1", "rack-7", "us-east-1"]
    );
    assert_eq!(regions.element("regionEndpoint"), Some("127.0.0.1:1339"));
    let one = ok(&control, "DescribeRegions", "RegionName.1=eu-west-1").await;
    assert_eq!(names(&one, "regionName"), ["eu-west-1"]);
    let zones = ok(&control, "DescribeAvailabilityZones", "").await;
    assert_eq!(
        names(&zones, "zoneName"),
        ["eu-west-1b", "rack-7", "us-east-1a"]
    );
    let zone = "<item><zoneName>us-east-1a</zoneName><zoneState>available</zoneState><regionName>us-east-1</regionName>\
        <messageSet/><optInStatus>opt-in-not-required</optInStatus><zoneId>use1-az1</zoneId><groupName>us-east-1</groupName>";
    assert!(zones.body.contains(zone), "{}", zones.body);
    for (rest, found) in [
        ("ZoneName.1=eu-west-1b", vec!["eu-west-1b"]),
        ("ZoneId.1=use1-az1", vec!["us-east-1a"]),
        (
            "Filter.1.Name=region-name&Filter.1.Value.1=us-*",
            vec!["us-east-1a"],
        ),
        ("Filter.1.Name=state&Filter.1.Value.1=impaired", vec![]),
    ] {
        assert_eq!(
            names(
                &ok(&control, "DescribeAvailabilityZones", rest).await,
                "zoneName"
            ),
            found,
            "{rest}"
        );
    }
    let value = "InvalidParameterValue";
    refused(
        &control,
        "DescribeRegions",
        &[
            (
                "RegionName.1=mars-1",
                400,
                value,
                "Invalid region provided: 'mars-1'",
            ),
            ("DryRun=true", DRY.0, DRY.1, DRY.2),
        ],
    )
    .await;
    refused(
        &control,
        "DescribeAvailabilityZones",
        &[
            (
                "ZoneName.1=mars-1a",
                400,
                value,
                "Invalid availability zone: [mars-1a]",
            ),
            (
                "ZoneId.1=mars1-az1",
                400,
                value,
                "Invalid availability zone-id: [mars1-az1]",
            ),
            ("DryRun=true", DRY.0, DRY.1, DRY.2),
        ],
    )
    .await;
}

/// A failing store keeps the previous state, whatever the action.
#[tokio::test]
async fn a_failing_store_changes_nothing_in_any_action() {
    let control = several_on(TestStore { writes_fail: true }).await;
    let sentence = "An internal error has occurred. Nothing was changed.";
    for (action, rest) in [
        ("CreateTags", format!("ResourceId.1={RUNNING}&Tag.1.Key=a")),
        ("DeleteTags", format!("ResourceId.1={TAGGED}")),
        ("StopInstances", format!("InstanceId.1={RUNNING}")),
        ("StartInstances", format!("InstanceId.1={STOPPED}")),
        ("TerminateInstances", format!("InstanceId.1={RUNNING}")),
        (
            "ModifyInstanceAttribute",
            format!("InstanceId={RUNNING}&DisableApiStop.Value=true"),
        ),
    ] {
        refused(&control, action, &[(&rest, 500, "InternalError", sentence)]).await;
    }
    assert_eq!(
        entry(&control, RUNNING)
            .instance
            .metadata_options
            .http_endpoint,
        Switch::Enabled
    );
}

/// Zones are those of all instances, whose names need not be EC2's.
#[tokio::test]
async fn a_launch_can_use_the_zone_of_an_instance_in_the_region() {
    let placed = |id: &str, zone: &str, imds: Value| {
        document(
            id,
            "running",
            json!({"Placement": {"AvailabilityZone": zone}, "Imds": imds}),
        )
    };
    let here = placed("i-11111111", "rack-7", json!({"Region": "us-east-1"}));
    let elsewhere = placed("i-22222222", "rack-8", json!({}));
    let control = super::control(MemoryStore, vec![here, elsewhere]).await;
    let launch = |zone: &str| {
        format!("ImageId=ami-12345678&MinCount=1&MaxCount=1&Placement.AvailabilityZone={zone}")
    };
    let launched = ok(&control, "RunInstances", &launch("rack-7")).await;
    assert!(
        launched
            .body
            .contains("<availabilityZone>rack-7</availabilityZone>"),
        "{}",
        launched.body
    );
    let other = (
        "InvalidParameterValue",
        "Invalid availability zone: [rack-8]",
    );
    refused(
        &control,
        "RunInstances",
        &[(&launch("rack-8"), 400, other.0, other.1)],
    )
    .await;
}

/// The stored state is unknown, and the error is about the object of the call.
#[tokio::test]
async fn defaults_that_could_not_be_stored_may_have_been_changed() {
    struct Unsure;
    impl StepwiseStore for Unsure {
        fn load(&self) -> Result<Loaded, StoreError> {
            Ok(Loaded::default())
        }
        fn put(&self, _: &crate::registry::Record) -> Result<(), StoreError> {
            Ok(())
        }
        fn remove(&self, _: &InstanceId) -> Result<(), StoreError> {
            Ok(())
        }
        fn put_account(&self, _: &crate::registry::Account) -> Result<(), StoreError> {
            let reason = std::io::Error::other("disk");
            Err(StoreError {
                action: "write".into(),
                reason,
                stored: crate::registry::StoredState::Unknown,
            })
        }
    }
    let control = super::control(Unsure, Vec::new()).await;
    let answer = ec2(
        &control,
        "ModifyInstanceMetadataDefaults",
        "HttpTokens=required",
    )
    .await;
    let message = "An internal error has occurred. The defaults may have been changed.";
    assert_eq!(
        (answer.status, answer.element("Message")),
        (500, Some(message))
    );
}

#[tokio::test]
async fn a_store_that_fails_at_any_instance_changes_none() {
    let ids = ["i-00000000000000001", "i-00000000000000002"];
    for in_the_way in 0..ids.len() {
        // A store of its own each time: the files of a failed change are removed a little later.
        let directory = tempfile::tempdir().unwrap();
        let documents = ids.map(|id| document(id, "running", json!({}))).to_vec();
        let control = super::control(FileStore::open(directory.path()).unwrap(), documents).await;
        // A directory at the path of the temporary file makes every write fail, even for root.
        let obstacle = directory
            .path()
            .join(format!("instances/.{}.tmp", ids[in_the_way]));
        std::fs::create_dir_all(obstacle.join("x")).unwrap();
        let answer = ec2(
            &control,
            "StopInstances",
            &format!("InstanceId.1={}&InstanceId.2={}", ids[0], ids[1]),
        )
        .await;
        let message = "An internal error has occurred. Nothing was changed.";
        assert_eq!(
            (answer.status, answer.element("Message")),
            (500, Some(message))
        );
        assert_eq!(
            ids.map(|id| state(&control, id)),
            [InstanceState::Running; 2]
        );
    }
}
