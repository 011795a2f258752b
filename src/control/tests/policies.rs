//! The permissions of callers, from outside.

use super::*;
use crate::control::access_keys::demo_with;
use crate::control::policy::read::policy;

/// Returns an endpoint whose demo key has these rules, each an inline table.
async fn under(of: &[&str]) -> Control {
    let control = several().await;
    control.replace_keys(demo_with(policy(of)));
    control
}

async fn code(control: &Control, action: &str, rest: &str) -> String {
    let answer = post(
        control,
        &format!("Action={action}&Version=2016-11-15&{rest}"),
    )
    .await;
    let code = answer.code().to_string();
    if code == "UnauthorizedOperation" {
        let message = "You are not authorized to perform this operation.";
        assert_eq!(
            (answer.status, answer.element("Message")),
            (403, Some(message))
        );
    }
    code
}

const DENIED: &str = "UnauthorizedOperation";

/// "DryRun: DryRunOperation where the caller may, UnauthorizedOperation where not", for every
/// action that has it.
#[tokio::test]
async fn a_dry_run_reports_whether_the_caller_has_the_permission() {
    let calls = [
        (
            "ModifyInstanceMetadataOptions",
            format!("InstanceId={RUNNING}&HttpEndpoint=disabled"),
        ),
        ("DescribeInstances", String::new()),
        ("DescribeInstances", format!("InstanceId.1={RUNNING}")),
        ("GetInstanceMetadataDefaults", String::new()),
        (
            "ModifyInstanceMetadataDefaults",
            "HttpTokens=required".into(),
        ),
        ("CreateTags", format!("ResourceId.1={RUNNING}&Tag.1.Key=a")),
        ("DeleteTags", format!("ResourceId.1={RUNNING}")),
        ("DescribeTags", String::new()),
        ("StartInstances", format!("InstanceId.1={STOPPED}")),
        ("StopInstances", format!("InstanceId.1={RUNNING}")),
        ("RebootInstances", format!("InstanceId.1={RUNNING}")),
        ("TerminateInstances", format!("InstanceId.1={RUNNING}")),
        (
            "RunInstances",
            "ImageId=ami-12345678&MinCount=1&MaxCount=1".into(),
        ),
        ("DescribeInstanceStatus", String::new()),
        (
            "DescribeInstanceAttribute",
            format!("InstanceId={RUNNING}&Attribute=userData"),
        ),
        (
            "ModifyInstanceAttribute",
            format!("InstanceId={RUNNING}&DisableApiStop.Value=true"),
        ),
        ("DescribeRegions", String::new()),
        ("DescribeAvailabilityZones", String::new()),
    ];
    for (action, rest) in calls {
        let rest = format!("{rest}&DryRun=true");
        let allow = format!(r#"{{ effect = "allow", actions = ["ec2:{action}"] }}"#);
        let deny = format!(r#"{{ effect = "deny", actions = ["ec2:{action}"] }}"#);
        let all = r#"{ effect = "allow", actions = ["*"] }"#;
        assert_eq!(
            code(&under(&[&allow]).await, action, &rest).await,
            "DryRunOperation",
            "{action}"
        );
        assert_eq!(
            code(&under(&[&deny, all]).await, action, &rest).await,
            DENIED,
            "{action}"
        );
        assert_eq!(
            code(
                &under(&[r#"{ effect = "allow", actions = ["sts:*"] }"#]).await,
                action,
                &rest
            )
            .await,
            DENIED
        );
    }
}

#[tokio::test]
async fn a_caller_who_cannot_relax_options_can_still_tighten_them() {
    let control = under(&[
        r#"{ effect = "deny", actions = ["ec2:*"], conditions = { "ec2:Attribute/HttpTokens" = "optional" } }"#,
        r#"{ effect = "deny", actions = ["ec2:*"], conditions = { "ec2:Attribute/HttpPutResponseHopLimit" = ">2" } }"#,
        r#"{ effect = "deny", actions = ["ec2:RunInstances"], conditions = { "ec2:MetadataHttpTokens" = "optional" } }"#,
        r#"{ effect = "allow", actions = ["ec2:*"] }"#,
    ])
    .await;
    let launch = "ImageId=ami-12345678&MinCount=1&MaxCount=1";
    for (action, rest, expected) in [
        (
            "ModifyInstanceMetadataOptions",
            format!("InstanceId={RUNNING}&HttpTokens=optional"),
            DENIED,
        ),
        (
            "ModifyInstanceMetadataOptions",
            format!("InstanceId={RUNNING}&HttpTokens=optional&DryRun=true"),
            DENIED,
        ),
        (
            "ModifyInstanceMetadataOptions",
            format!("InstanceId={RUNNING}&HttpPutResponseHopLimit=3"),
            DENIED,
        ),
        (
            "ModifyInstanceMetadataOptions",
            format!("InstanceId={RUNNING}&HttpPutResponseHopLimit=2"),
            "OK",
        ),
        (
            "ModifyInstanceMetadataOptions",
            format!("InstanceId={RUNNING}&HttpTokens=required"),
            "OK",
        ),
        (
            "ModifyInstanceMetadataOptions",
            format!("InstanceId={RUNNING}"),
            "OK",
        ),
        (
            "ModifyInstanceMetadataDefaults",
            "HttpTokens=optional".into(),
            DENIED,
        ),
        // The condition sees the resulting value, whether the call or a default sets it.
        (
            "RunInstances",
            format!("{launch}&MetadataOptions.HttpTokens=optional"),
            DENIED,
        ),
        ("RunInstances", launch.into(), "OK"),
    ] {
        assert_eq!(
            code(&control, action, &rest).await,
            expected,
            "{action} {rest}"
        );
    }
}

/// A denial of `ec2:*` includes launches: their attributes count as in a change.
#[tokio::test]
async fn a_launch_requests_the_attributes_that_it_names() {
    let deny = |key: &str, value: &str| {
        format!(
            r#"{{ effect = "deny", actions = ["ec2:*"], conditions = {{ "ec2:Attribute/{key}" = "{value}" }} }}"#
        )
    };
    let all = r#"{ effect = "allow", actions = ["ec2:*"] }"#;
    for (key, value, rest, expected) in [
        (
            "HttpTokens",
            "optional",
            "MetadataOptions.HttpTokens=optional",
            DENIED,
        ),
        (
            "HttpTokens",
            "optional",
            "MetadataOptions.HttpTokens=required",
            "OK",
        ),
        ("HttpTokens", "required", "", "OK"),
        (
            "HttpPutResponseHopLimit",
            ">2",
            "MetadataOptions.HttpPutResponseHopLimit=03",
            DENIED,
        ),
        (
            "HttpEndpoint",
            "enabled",
            "MetadataOptions.HttpEndpoint=enabled",
            DENIED,
        ),
        (
            "HttpProtocolIpv6",
            "enabled",
            "MetadataOptions.HttpProtocolIpv6=enabled",
            DENIED,
        ),
        (
            "InstanceMetadataTags",
            "enabled",
            "MetadataOptions.InstanceMetadataTags=enabled",
            DENIED,
        ),
        ("UserData", "*", "UserData=aGVsbG8=", DENIED),
        ("DisableApiStop", "false", "DisableApiStop=false", DENIED),
        ("DisableApiStop", "false", "", "OK"),
        (
            "DisableApiTermination",
            "true",
            "DisableApiTermination=true",
            DENIED,
        ),
    ] {
        let launch = format!("ImageId=ami-12345678&MinCount=1&MaxCount=1&{rest}");
        let control = under(&[&deny(key, value), all]).await;
        assert_eq!(
            code(&control, "RunInstances", &launch).await,
            expected,
            "{key} {rest}"
        );
    }
}

/// On EC2, a launch with tags needs both permissions (RunInstances and CreateTags).
#[tokio::test]
async fn tags_of_a_launch_need_the_permission_for_create_tags() {
    let run = r#"{ effect = "allow", actions = ["ec2:RunInstances"] }"#;
    let tag = r#"{ effect = "allow", actions = ["ec2:CreateTags"], tags = { team = "web" } }"#;
    let launch = "ImageId=ami-12345678&MinCount=1&MaxCount=1";
    let tagged = |value: &str| {
        let tag =
            format!("TagSpecification.1.Tag.1.Key=team&TagSpecification.1.Tag.1.Value={value}");
        format!("{launch}&TagSpecification.1.ResourceType=instance&{tag}")
    };
    for (of, rest, expected) in [
        (&[run][..], launch.to_string(), "OK"),
        (&[run], tagged("web"), DENIED),
        (&[run], tagged("web") + "&DryRun=true", DENIED),
        (&[run, tag], tagged("web"), "OK"),
        (&[run, tag], tagged("db"), DENIED),
    ] {
        assert_eq!(
            code(&under(of).await, "RunInstances", &rest).await,
            expected,
            "{of:?} {rest}"
        );
    }
}

/// Whatever its spelling, and also when it is the default of an omitted parameter.
#[tokio::test]
async fn a_value_is_judged_by_its_effect() {
    let deny = |key: &str, value: &str| {
        format!(
            r#"{{ effect = "deny", actions = ["ec2:*"], conditions = {{ "ec2:Attribute/{key}" = {value} }} }}"#
        )
    };
    let all = r#"{ effect = "allow", actions = ["ec2:*"] }"#;
    let (defaults, options) = (
        "ModifyInstanceMetadataDefaults",
        "ModifyInstanceMetadataOptions",
    );
    for (rule, action, rest, expected) in [
        (
            deny("HttpPutResponseHopLimit", "64"),
            defaults,
            "HttpPutResponseHopLimit=64",
            DENIED,
        ),
        (
            deny("HttpPutResponseHopLimit", "64"),
            defaults,
            "HttpPutResponseHopLimit=064",
            DENIED,
        ),
        (
            deny("HttpPutResponseHopLimit", "64"),
            options,
            "InstanceId=i-11111111&HttpPutResponseHopLimit=064",
            DENIED,
        ),
        (
            deny("HttpPutResponseHopLimit", "64"),
            defaults,
            "HttpPutResponseHopLimit=63",
            "OK",
        ),
        // Without a preference, launches get two hops and no enforcement.
        (
            deny("HttpPutResponseHopLimit", "\">=2\""),
            defaults,
            "HttpPutResponseHopLimit=-1",
            DENIED,
        ),
        (
            deny("HttpPutResponseHopLimit", "-1"),
            defaults,
            "HttpPutResponseHopLimit=-1",
            DENIED,
        ),
        (
            deny("HttpPutResponseHopLimit", "\">2\""),
            defaults,
            "HttpPutResponseHopLimit=-1",
            "OK",
        ),
        (
            deny("HttpTokensEnforced", "\"disabled\""),
            defaults,
            "HttpTokensEnforced=no-preference",
            DENIED,
        ),
        (
            deny("HttpTokensEnforced", "\"no-preference\""),
            defaults,
            "HttpTokensEnforced=no-preference",
            DENIED,
        ),
        (
            deny("HttpTokensEnforced", "\"no-preference\""),
            defaults,
            "HttpTokensEnforced=disabled",
            "OK",
        ),
        (
            deny("HttpTokensEnforced", "\"disabled\""),
            defaults,
            "HttpTokensEnforced=enabled",
            "OK",
        ),
        (
            deny("HttpEndpoint", "\"enabled\""),
            defaults,
            "HttpEndpoint=no-preference",
            DENIED,
        ),
        (
            deny("HttpTokens", "\"optional\""),
            defaults,
            "HttpTokens=no-preference",
            "OK",
        ),
    ] {
        assert_eq!(
            code(&under(&[&rule, all]).await, action, rest).await,
            expected,
            "{rule} {rest}"
        );
    }
}

/// Neither by the error, nor by the order of checks, nor by a list.
#[tokio::test]
async fn a_caller_without_permission_cannot_tell_an_instance_from_an_unknown_id() {
    for of in [
        vec![r#"{ effect = "allow", actions = ["*"], tags = { Name = "db" } }"#],
        vec![
            r#"{ effect = "deny", actions = ["*"], tags = { Name = "web" } }"#,
            r#"{ effect = "allow", actions = ["*"] }"#,
        ],
    ] {
        let control = under(&of).await;
        for (action, to) in [
            (
                "ModifyInstanceMetadataOptions",
                "HttpEndpoint=disabled&InstanceId=",
            ),
            (
                "ModifyInstanceMetadataOptions",
                "InstanceMetadataTags=enabled&InstanceId=",
            ),
            ("DescribeInstances", "InstanceId.1="),
            ("DescribeInstanceStatus", "InstanceId.1="),
            ("StartInstances", "InstanceId.1="),
            ("TerminateInstances", "InstanceId.1="),
            ("CreateTags", "Tag.1.Key=a&ResourceId.1="),
            (
                "DescribeInstanceAttribute",
                "Attribute=userData&InstanceId=",
            ),
        ] {
            for id in [TAGGED, "i-aaaaaaaa", UNREADABLE] {
                assert_eq!(
                    code(&control, action, &format!("{to}{id}")).await,
                    DENIED,
                    "{of:?} {action} {id}"
                );
            }
        }
        let described = describe(&control, "").await;
        assert!(!described.body.contains(TAGGED), "{}", described.body);
        let tags = post(&control, "Action=DescribeTags&Version=2016-11-15").await;
        assert_eq!((tags.status, tags.body.contains("web")), (200, false));
    }
}

#[tokio::test]
async fn a_list_shows_permitted_instances_and_naming_another_one_refuses_it() {
    let control = under(&[
        r#"{ effect = "allow", actions = ["ec2:Describe*"], instances = ["i-1*", "i-4*"] }"#,
    ])
    .await;
    assert_eq!(describe(&control, "").await.instances(), [STOPPED, TAGGED]);
    assert_eq!(
        describe(&control, "InstanceId.1=i-11111111")
            .await
            .instances(),
        [STOPPED]
    );
    assert_eq!(
        describe(&control, "InstanceId.1=i-11111111&InstanceId.2=i-22222222")
            .await
            .code(),
        DENIED
    );
    // For an id that the caller may access, the error is that it does not exist.
    assert_eq!(
        describe(&control, "InstanceId.1=i-1aaaaaaa").await.code(),
        "InvalidInstanceID.NotFound"
    );
    // Regions are not instances.
    assert_eq!(code(&control, "DescribeRegions", "").await, DENIED);
}

#[tokio::test]
async fn a_change_of_tags_is_judged_by_the_tags_before_it() {
    let control =
        under(&[r#"{ effect = "allow", actions = ["ec2:CreateTags"], tags = { Name = "web" } }"#])
            .await;
    assert_eq!(
        code(
            &control,
            "CreateTags",
            &format!("ResourceId.1={RUNNING}&Tag.1.Key=Name&Tag.1.Value=web")
        )
        .await,
        DENIED
    );
    assert_eq!(
        code(
            &control,
            "CreateTags",
            &format!("ResourceId.1={TAGGED}&Tag.1.Key=Name&Tag.1.Value=db")
        )
        .await,
        "OK"
    );
    assert_eq!(
        code(
            &control,
            "CreateTags",
            &format!("ResourceId.1={TAGGED}&Tag.1.Key=Name&Tag.1.Value=web")
        )
        .await,
        DENIED
    );
}

#[tokio::test]
async fn syntax_is_checked_before_permission_and_permission_before_state() {
    let control = under(&[r#"{ effect = "allow", actions = ["ec2:DescribeInstances"] }"#]).await;
    for (rest, expected) in [
        ("InstanceId=ma1", "InvalidInstanceID.Malformed"),
        (
            "InstanceId=i-22222222&HttpTokens=bogus",
            "InvalidParameterValue",
        ),
        ("InstanceId=i-22222222&Foo=1", "UnknownParameter"),
        ("InstanceId=i-22222222&HttpTokens=required", DENIED),
    ] {
        assert_eq!(
            code(&control, "ModifyInstanceMetadataOptions", rest).await,
            expected,
            "{rest}"
        );
    }
}

#[tokio::test]
async fn new_keys_apply_from_the_next_request() {
    let control = several().await;
    assert_eq!(describe(&control, "").await.status, 200);
    control.replace_keys(demo_with(policy(&[])));
    assert_eq!(describe(&control, "").await.code(), DENIED);
    control.replace_keys(AccessKeys::default());
    assert_eq!(describe(&control, "").await.code(), "AuthFailure");
    control.replace_keys(AccessKeys::demo());
    assert_eq!(describe(&control, "").await.status, 200);
}

/// The reply shows the records of the earlier launch as they are now, so it needs the permissions of a
/// launch and of DescribeInstances for them.
#[tokio::test]
async fn a_repeated_launch_needs_permission_for_the_instances_as_they_are_now() {
    let launch = "ImageId=ami-12345678&MinCount=1&MaxCount=1&ClientToken=once\
        &TagSpecification.1.ResourceType=instance&TagSpecification.1.Tag.1.Key=team&TagSpecification.1.Tag.1.Value=web";
    let run = r#"{effect = "allow", actions = ["ec2:RunInstances", "ec2:CreateTags"], tags = {team = "web"}}"#;
    let describe =
        r#"{effect = "allow", actions = "ec2:DescribeInstances", tags = {team = "web"}}"#;
    let control = under(&[run]).await;
    assert_eq!(code(&control, "RunInstances", launch).await, "OK");
    for call in [launch.to_string(), format!("{launch}&DryRun=true")] {
        assert_eq!(code(&control, "RunInstances", &call).await, DENIED);
    }
    control.replace_keys(demo_with(policy(&[run, describe])));
    assert_eq!(code(&control, "RunInstances", launch).await, "OK");

    // The instance is another team's now.
    control.replace_keys(AccessKeys::demo());
    let registry = Arc::clone(&control.registry);
    let snapshot = registry.snapshot();
    let is_launched = |entry: &&Arc<crate::registry::Entry>| entry.instance.client_token.is_some();
    let id = &snapshot
        .entries()
        .find(is_launched)
        .unwrap()
        .instance
        .instance_id;
    let retag = format!("ResourceId.1={id}&Tag.1.Key=team&Tag.1.Value=db");
    assert_eq!(code(&control, "CreateTags", &retag).await, "OK");
    for rules in [
        [run, describe],
        [
            run,
            r#"{effect = "allow", actions = "ec2:DescribeInstances"}"#,
        ],
    ] {
        control.replace_keys(demo_with(policy(&rules)));
        assert_eq!(code(&control, "RunInstances", launch).await, DENIED);
    }
    let before = registry.snapshot().entries().count();
    control.replace_keys(AccessKeys::demo());
    assert_eq!(code(&control, "RunInstances", launch).await, "OK");
    assert_eq!(registry.snapshot().entries().count(), before);
}
