//! What a call may look like: versions, content types, ids, missing parameters, filters.

use super::*;
use crate::document;

/// boto 2 calls version 2014-10-01, awscurl's manual 2013-10-15, and the example requests of the API
/// reference have no version. Clients that check it expect their own version in the namespace.
#[tokio::test]
async fn older_versions_and_no_version_are_answered_in_the_namespace_of_the_version() {
    let control = several().await;
    for (version, namespace) in [
        ("", "2016-11-15"),
        ("&Version=2016-11-15", "2016-11-15"),
        ("&Version=2016-09-15", "2016-09-15"),
        ("&Version=2014-10-01", "2014-10-01"),
        ("&Version=2013-10-15", "2013-10-15"),
    ] {
        for action in ["DescribeInstances", "DescribeRegions"] {
            let answer = post(&control, &format!("Action={action}{version}")).await;
            let root = format!(
                "<{action}Response xmlns=\"http://ec2.amazonaws.com/doc/{namespace}/\"><requestId>"
            );
            assert!(
                answer.status == 200 && answer.body.contains(&root),
                "{action} {version}: {}",
                answer.body
            );
        }
        // Errors have no namespace.
        let answer = post(&control, &format!("Action=StartInstances{version}")).await;
        assert_eq!(
            (answer.status, answer.code(), answer.element("Message")),
            (
                400,
                "InvalidParameterCombination",
                Some("No instances specified")
            )
        );
        assert!(!answer.body.contains("xmlns"), "{}", answer.body);
    }
}

/// Without the version, the name of the action decides between EC2 and STS.
#[tokio::test]
async fn a_call_without_a_version_must_still_be_signed_for_its_service() {
    let control = several().await;
    for (scope, body, status) in [
        ("sts", "Action=GetCallerIdentity", 200),
        ("ec2", "Action=DescribeRegions", 200),
        ("ec2", "Action=GetCallerIdentity", 403),
        ("sts", "Action=DescribeRegions", 403),
    ] {
        let mut sent = Sent::post(body);
        let scope = SCOPE.replace("ec2", scope);
        sign(&mut sent, ID, SECRET, DATE, &scope);
        let (head, ()) = Request::post("/").body(()).unwrap().into_parts();
        let mut head = head;
        head.headers = sent.header_map();
        let reply = control.answer(&head, &sent.body, now()).await;
        assert_eq!(reply.status(), status, "{scope} {body}");
    }
}

/// The content type is not signed by every client, so it must not decide how a body is read: a
/// changed one changes nothing.
#[tokio::test]
async fn the_content_type_changes_nothing() {
    let control = several().await;
    for content_type in [
        None,
        Some("application/x-www-form-urlencoded"),
        Some("application/x-amz-json-1.1"),
        Some("application/json"),
        Some("multipart/form-data; boundary=Action"),
        Some("text/plain; charset=utf-16"),
    ] {
        let mut sent = Sent::post(&format!(
            "Action=DescribeInstances&Version=2016-11-15&InstanceId.1={RUNNING}"
        ));
        sent.headers.retain(|(name, _)| name != "content-type");
        sign(&mut sent, ID, SECRET, DATE, SCOPE);
        if let Some(content_type) = content_type {
            sent.set("content-type", content_type);
        }
        let answer = send(&control, &sent).await;
        assert_eq!(
            (answer.status, answer.instances()),
            (200, vec![RUNNING]),
            "{content_type:?}"
        );
    }
}

/// Tools that name many instances put 1,000 in one call.
#[tokio::test]
async fn a_call_may_name_a_thousand_ids() {
    let ids: Vec<String> = (0..1_000).map(|n| format!("i-0000000000{n:07x}")).collect();
    let documents = ids
        .iter()
        .map(|id| document(id, "running", json!({})))
        .collect();
    let control = control(TestStore { writes_fail: false }, documents).await;
    let named: String = (1..)
        .zip(&ids)
        .map(|(n, id)| format!("&InstanceId.{n}={id}"))
        .collect();
    assert_eq!(describe(&control, &named).await.instances(), ids);
    let filter =
        "&Filter.1.Name=instance-state-name&Filter.1.Value.1=running&IncludeAllInstances=true";
    let status = format!("Action=DescribeInstanceStatus&Version=2016-11-15{named}{filter}");
    assert_eq!(post(&control, &status).await.instances(), ids);
    for action in ["StopInstances", "StartInstances", "RebootInstances"] {
        let answer = post(&control, &format!("Action={action}{named}")).await;
        assert_eq!(answer.status, 200, "{action}: {}", answer.body);
    }
    let tags = format!(
        "Action=CreateTags{}&Tag.1.Key=a&Tag.1.Value=b",
        named.replace("InstanceId", "ResourceId")
    );
    assert_eq!(post(&control, &tags).await.status, 200);
}

/// Every action that cannot do without some parameter, called without it. EC2's words where a report
/// has them: `No instances specified` and `resourceIdSet`; for the others the form of EC2's
/// MissingParameter with the name of the parameter.
#[tokio::test]
async fn each_action_names_the_required_parameter_that_is_missing() {
    let control = several().await;
    let combination = "InvalidParameterCombination";
    for (action, rest, code, message) in [
        ("StartInstances", "", combination, "No instances specified"),
        ("StopInstances", "", combination, "No instances specified"),
        ("RebootInstances", "", combination, "No instances specified"),
        (
            "TerminateInstances",
            "",
            combination,
            "No instances specified",
        ),
        (
            "TerminateInstances",
            "&DryRun=true",
            combination,
            "No instances specified",
        ),
        ("CreateTags", "&Tag.1.Key=a", "", "resourceIdSet"),
        ("CreateTags", "&ResourceId.1=i-11111111", "", "Tag"),
        ("DeleteTags", "", "", "resourceIdSet"),
        ("DescribeInstances", "&InstanceId.1=", "", "InstanceId"),
        ("StartInstances", "&InstanceId.1=", "", "InstanceId"),
        (
            "DescribeInstanceAttribute",
            "&Attribute=userData",
            "",
            "InstanceId",
        ),
        (
            "DescribeInstanceAttribute",
            "&InstanceId=i-11111111",
            "",
            "Attribute",
        ),
        (
            "ModifyInstanceAttribute",
            "&UserData.Value=",
            "",
            "InstanceId",
        ),
        (
            "ModifyInstanceAttribute",
            "&InstanceId=i-11111111",
            combination,
            "No attributes specified.",
        ),
        ("ModifyInstanceEventStartTime", "", "", "InstanceId"),
        (
            "ModifyInstanceEventStartTime",
            "&InstanceId=i-11111111",
            "",
            "InstanceEventId",
        ),
        ("ModifyInstanceMetadataOptions", "", "", "InstanceId"),
        (
            "ModifyInstanceMetadataOptions",
            "&HttpTokens=required",
            "",
            "InstanceId",
        ),
        ("RunInstances", "&MinCount=1&MaxCount=1", "", "ImageId"),
        (
            "RunInstances",
            "&ImageId=ami-12345678&MaxCount=1",
            "",
            "MinCount",
        ),
        (
            "RunInstances",
            "&ImageId=ami-12345678&MinCount=1",
            "",
            "MaxCount",
        ),
    ] {
        let answer = post(&control, &format!("Action={action}{rest}")).await;
        let (code, message) = match code {
            "" => (
                "MissingParameter",
                format!("The request must contain the parameter {message}"),
            ),
            code => (code, message.to_string()),
        };
        assert_eq!(
            (answer.status, answer.code(), answer.element("Message")),
            (400, code, Some(message.as_str())),
            "{action} {rest}"
        );
    }
}

/// The example requests of the API reference, without the parameters of the signature:
/// <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_ModifyInstanceMetadataOptions.html>
#[tokio::test]
async fn an_example_request_of_the_api_reference_is_taken_as_it_stands() {
    let control = several().await;
    for query in [
        format!("Action=ModifyInstanceMetadataOptions&InstanceId={RUNNING}&HttpTokens=required"),
        format!("Action=ModifyInstanceMetadataOptions&InstanceId={RUNNING}&HttpEndpoint=disabled"),
        "Action=DescribeInstances&Filter.1.Name=instance-type&Filter.1.Value.1=m1.small\
         &Filter.1.Value.2=m1.large"
            .to_string(),
        format!("Action=StopInstances&InstanceId.1={RUNNING}"),
        "Action=GetInstanceMetadataDefaults".to_string(),
    ] {
        let mut pairs: Vec<&str> = query.split('&').collect();
        pairs.sort_unstable();
        let mut sent = Sent::post("");
        sent.method = "GET".into();
        sent.headers.retain(|(name, _)| name != "content-type");
        // What is signed is the sorted query, in whatever order it is sent.
        sent.query = pairs.join("&");
        sign(&mut sent, ID, SECRET, DATE, SCOPE);
        sent.query = query;
        let answer = send(&control, &sent).await;
        assert_eq!(answer.status, 200, "{}: {}", sent.query, answer.body);
    }
}

/// An instance with a value for every filter whose value imdsd has.
const EVERYTHING: &str = r#"{
    "InstanceId": "i-0123456789abcdef0", "LaunchTime": "2026-04-30T08:00:00Z", "ImageId": "ami-12345678",
    "InstanceType": "t3.micro", "Architecture": "arm64", "AmiLaunchIndex": 2, "ClientToken": "ct",
    "Placement": {"AvailabilityZone": "us-east-1a", "GroupName": "pg", "HostId": "h-1",
        "PartitionNumber": 3, "Tenancy": "host"},
    "PrivateDnsName": "p.internal", "PublicDnsName": "p.example", "PrivateIpAddress": "10.0.0.5",
    "PublicIpAddress": "203.0.113.5", "Ipv6Address": "2001:db8::5", "SubnetId": "subnet-1",
    "VpcId": "vpc-1", "KeyName": "ops", "KernelId": "aki-1", "RamdiskId": "ari-1",
    "InstanceLifecycle": "spot", "RootDeviceName": "/dev/xvda", "RootDeviceType": "ebs",
    "VirtualizationType": "hvm", "Hypervisor": "xen", "StateTransitionReason": "none",
    "Monitoring": {"State": "enabled"}, "HibernationOptions": {"Configured": true},
    "IamInstanceProfile": {"Arn": "arn:aws:iam::123456789012:instance-profile/web", "Id": "AIPA1"},
    "ProductCodes": [{"ProductCodeId": "pc-1", "ProductCodeType": "marketplace"}],
    "BlockDeviceMappings": [{"DeviceName": "/dev/xvda", "Ebs": {"VolumeId": "vol-1", "Status": "attached",
        "AttachTime": "2026-04-30T08:00:01Z", "DeleteOnTermination": true}}],
    "SecurityGroups": [{"GroupId": "sg-1", "GroupName": "web"}],
    "Tags": [{"Key": "Name", "Value": "w"}],
    "NetworkInterfaces": [{
        "MacAddress": "02:00:00:00:00:05", "NetworkInterfaceId": "eni-1", "OwnerId": "123456789012",
        "SubnetId": "subnet-1", "VpcId": "vpc-1", "Status": "in-use", "Description": "first",
        "SourceDestCheck": false, "PrivateDnsName": "eni.internal", "PrivateIpAddress": "10.0.0.5",
        "Attachment": {"DeviceIndex": 0, "NetworkCardIndex": 0, "AttachmentId": "eni-attach-1",
            "Status": "attached", "AttachTime": "2026-04-30T08:00:02Z", "DeleteOnTermination": true},
        "PrivateIpAddresses": [
            {"PrivateIpAddress": "10.0.0.5", "Primary": true, "PrivateDnsName": "first.internal",
                "Association": {"PublicIp": "203.0.113.5", "PublicDnsName": "eip.example", "IpOwnerId": "amazon"}},
            {"PrivateIpAddress": "10.0.0.6", "Primary": false,
                "Association": {"PublicIp": "203.0.113.6", "PublicDnsName": "other.example", "IpOwnerId": "me"}}],
        "Ipv6Addresses": [{"Ipv6Address": "2001:db8::5"}],
        "Ipv4Prefixes": [{"Ipv4Prefix": "10.0.1.0/28"}], "Ipv6Prefixes": [{"Ipv6Prefix": "2001:db8:1::/80"}],
        "Groups": [{"GroupId": "sg-2", "GroupName": "eni"}]
    }],
    "BootMode": "uefi-preferred", "CurrentInstanceBootMode": "uefi", "CapacityReservationId": "cr-1",
    "CapacityReservationSpecification": {"CapacityReservationPreference": "open", "CapacityReservationTarget":
        {"CapacityReservationId": "cr-2", "CapacityReservationResourceGroupArn": "arn:aws:rg"}},
    "EbsOptimized": true, "EnaSupport": true, "EnclaveOptions": {"Enabled": true},
    "MaintenanceOptions": {"AutoRecovery": "disabled"},
    "NetworkPerformanceOptions": {"BandwidthWeighting": "vpc-1"},
    "Operator": {"Managed": true, "Principal": "eks.amazonaws.com"}, "OutpostArn": "arn:aws:outposts",
    "Platform": "windows", "PlatformDetails": "Windows", "PrivateDnsNameOptions": {"HostnameType": "ip-name",
        "EnableResourceNameDnsARecord": true, "EnableResourceNameDnsAAAARecord": false},
    "SourceDestCheck": false, "SpotInstanceRequestId": "sir-1",
    "StateReason": {"Code": "Client.UserInitiatedShutdown", "Message": "user"}, "TpmSupport": "v2.0",
    "UsageOperation": "RunInstances:0002", "UsageOperationUpdateTime": "2026-04-30T08:00:00.000Z",
    "Imds": {"OwnerId": "123456789012", "ReservationId": "r-1", "RequesterId": "043234062703"}
}"#;

/// Every filter that the API reference lists for DescribeInstances, with the value of the instance
/// above; `None` for a value that imdsd does not have.
/// <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeInstances.html>
#[rustfmt::skip]
const DOCUMENTED: &[(&str, Option<&str>)] = &[
    ("affinity", None),
    ("architecture", Some("arm64")),
    ("availability-zone", Some("us-east-1a")),
    ("availability-zone-id", Some("use1-az1")),
    ("block-device-mapping.attach-time", Some("2026-04-30T08:00:01.000Z")),
    ("block-device-mapping.delete-on-termination", Some("true")),
    ("block-device-mapping.device-name", Some("/dev/xvda")),
    ("block-device-mapping.status", Some("attached")),
    ("block-device-mapping.volume-id", Some("vol-1")),
    ("boot-mode", Some("uefi-preferred")),
    ("capacity-reservation-id", Some("cr-1")),
    ("capacity-reservation-specification.capacity-reservation-preference", Some("open")),
    ("capacity-reservation-specification.capacity-reservation-target.capacity-reservation-id", Some("cr-2")),
    ("capacity-reservation-specification.capacity-reservation-target.capacity-reservation-resource-group-arn", Some("arn:aws:rg")),
    ("client-token", Some("ct")),
    ("current-instance-boot-mode", Some("uefi")),
    ("dns-name", Some("p.example")),
    ("ebs-optimized", Some("true")),
    ("ena-support", Some("true")),
    ("enclave-options.enabled", Some("true")),
    ("hibernation-options.configured", Some("true")),
    ("host-id", Some("h-1")),
    ("hypervisor", Some("xen")),
    ("iam-instance-profile.arn", Some("arn:aws:iam::123456789012:instance-profile/web")),
    ("iam-instance-profile.id", Some("AIPA1")),
    ("image-id", Some("ami-12345678")),
    ("instance-id", Some(RUNNING)),
    ("instance-lifecycle", Some("spot")),
    ("instance-state-code", Some("16")),
    ("instance-state-name", Some("running")),
    ("instance-type", Some("t3.micro")),
    ("instance.group-id", Some("sg-1")),
    ("instance.group-name", Some("web")),
    ("ip-address", Some("203.0.113.5")),
    ("ipv6-address", Some("2001:db8::5")),
    ("kernel-id", Some("aki-1")),
    ("key-name", Some("ops")),
    ("launch-index", Some("2")),
    ("launch-time", Some("2026-04-30T08:00:00.000Z")),
    ("maintenance-options.auto-recovery", Some("disabled")),
    ("metadata-options.http-endpoint", Some("enabled")),
    ("metadata-options.http-protocol-ipv4", Some("enabled")),
    ("metadata-options.http-protocol-ipv6", Some("disabled")),
    ("metadata-options.http-put-response-hop-limit", Some("2")),
    ("metadata-options.http-tokens", Some("required")),
    ("metadata-options.instance-metadata-tags", Some("disabled")),
    ("metadata-options.state", Some("pending")),
    ("monitoring-state", Some("enabled")),
    ("network-interface.addresses.association.allocation-id", None),
    ("network-interface.addresses.association.association-id", None),
    ("network-interface.addresses.association.carrier-ip", None),
    ("network-interface.addresses.association.customer-owned-ip", None),
    ("network-interface.addresses.association.ip-owner-id", Some("me")),
    ("network-interface.addresses.association.public-dns-name", Some("other.example")),
    ("network-interface.addresses.association.public-ip", Some("203.0.113.6")),
    ("network-interface.addresses.primary", Some("false")),
    ("network-interface.addresses.private-dns-name", Some("first.internal")),
    ("network-interface.addresses.private-ip-address", Some("10.0.0.6")),
    ("network-interface.association.allocation-id", None),
    ("network-interface.association.association-id", None),
    ("network-interface.association.carrier-ip", None),
    ("network-interface.association.customer-owned-ip", None),
    ("network-interface.association.ip-owner-id", Some("amazon")),
    ("network-interface.association.public-dns-name", Some("eip.example")),
    ("network-interface.association.public-ip", Some("203.0.113.5")),
    ("network-interface.attachment.attach-time", Some("2026-04-30T08:00:02.000Z")),
    ("network-interface.attachment.attachment-id", Some("eni-attach-1")),
    ("network-interface.attachment.delete-on-termination", Some("true")),
    ("network-interface.attachment.device-index", Some("0")),
    ("network-interface.attachment.instance-id", Some(RUNNING)),
    ("network-interface.attachment.instance-owner-id", Some("123456789012")),
    ("network-interface.attachment.network-card-index", Some("0")),
    ("network-interface.attachment.status", Some("attached")),
    ("network-interface.availability-zone", Some("us-east-1a")),
    ("network-interface.deny-all-igw-traffic", None),
    ("network-interface.description", Some("first")),
    ("network-interface.group-id", Some("sg-2")),
    ("network-interface.group-name", Some("eni")),
    ("network-interface.ipv4-prefixes.ipv4-prefix", Some("10.0.1.0/28")),
    ("network-interface.ipv6-address", Some("2001:db8::5")),
    ("network-interface.ipv6-addresses.ipv6-address", Some("2001:db8::5")),
    ("network-interface.ipv6-addresses.is-primary-ipv6", None),
    ("network-interface.ipv6-native", None),
    ("network-interface.ipv6-prefixes.ipv6-prefix", Some("2001:db8:1::/80")),
    ("network-interface.mac-address", Some("02:00:00:00:00:05")),
    ("network-interface.network-interface-id", Some("eni-1")),
    ("network-interface.operator.managed", None),
    ("network-interface.operator.principal", None),
    ("network-interface.outpost-arn", None),
    ("network-interface.owner-id", Some("123456789012")),
    ("network-interface.private-dns-name", Some("eni.internal")),
    ("network-interface.private-ip-address", Some("10.0.0.5")),
    ("network-interface.public-dns-name", Some("eip.example")),
    ("network-interface.requester-id", None),
    ("network-interface.requester-managed", None),
    ("network-interface.source-dest-check", Some("false")),
    ("network-interface.status", Some("in-use")),
    ("network-interface.subnet-id", Some("subnet-1")),
    ("network-interface.tag-key", None),
    ("network-interface.tag-value", None),
    ("network-interface.vpc-id", Some("vpc-1")),
    ("network-performance-options.bandwidth-weighting", Some("vpc-1")),
    ("operator.managed", Some("true")),
    ("operator.principal", Some("eks.amazonaws.com")),
    ("outpost-arn", Some("arn:aws:outposts")),
    ("owner-id", Some("123456789012")),
    ("placement-group-name", Some("pg")),
    ("placement-partition-number", Some("3")),
    ("platform", Some("windows")),
    ("platform-details", Some("Windows")),
    ("private-dns-name", Some("p.internal")),
    ("private-dns-name-options.enable-resource-name-dns-a-record", Some("true")),
    ("private-dns-name-options.enable-resource-name-dns-aaaa-record", Some("false")),
    ("private-dns-name-options.hostname-type", Some("ip-name")),
    ("private-ip-address", Some("10.0.0.5")),
    ("product-code", Some("pc-1")),
    ("product-code.type", Some("marketplace")),
    ("ramdisk-id", Some("ari-1")),
    ("reason", Some("none")),
    ("requester-id", Some("043234062703")),
    ("reservation-id", Some("r-1")),
    ("root-device-name", Some("/dev/xvda")),
    ("root-device-type", Some("ebs")),
    ("source-dest-check", Some("false")),
    ("spot-instance-request-id", Some("sir-1")),
    ("state-reason-code", Some("Client.UserInitiatedShutdown")),
    ("state-reason-message", Some("user")),
    ("subnet-id", Some("subnet-1")),
    ("tag:Name", Some("w")),
    ("tag-key", Some("Name")),
    ("tag-value", Some("w")),
    ("tenancy", Some("host")),
    ("tpm-support", Some("v2.0")),
    ("usage-operation", Some("RunInstances:0002")),
    ("usage-operation-update-time", Some("2026-04-30T08:00:00.000Z")),
    ("virtualization-type", Some("hvm")),
    ("vpc-id", Some("vpc-1")),
];

#[tokio::test]
async fn every_documented_filter_of_describe_instances_whose_value_is_held_is_one() {
    let control = control(TestStore { writes_fail: false }, Vec::new()).await;
    let everything = document::from_value(serde_json::from_str(EVERYTHING).unwrap()).unwrap();
    control
        .registry
        .register(everything, now().wall)
        .await
        .unwrap();
    let filtered = async |name: &str, value: &str| {
        let rest = format!(
            "Filter.1.Name={name}&Filter.1.Value.1={}",
            value.replace('+', "%2B")
        );
        describe(&control, &rest).await
    };
    for (name, value) in DOCUMENTED {
        let answer = filtered(name, value.unwrap_or("x")).await;
        match value {
            Some(value) => {
                assert_eq!(
                    answer.instances(),
                    [RUNNING],
                    "{name}={value}: {}",
                    answer.body
                );
                let answer = filtered(name, "no such value").await;
                assert_eq!(answer.instances(), Vec::<&str>::new(), "{name}");
            }
            // An ignored filter would show too much, and one that matches nothing too little.
            None => assert_eq!(
                answer.element("Message"),
                Some(format!("The filter '{name}' is invalid").as_str())
            ),
        }
    }
    // The association of an interface is that of its primary address.
    let secondary = filtered("network-interface.association.public-ip", "203.0.113.6").await;
    assert_eq!(secondary.instances(), Vec::<&str>::new());
}

/// What EC2 shows of an instance without any choice of its operator.
#[tokio::test]
async fn filters_by_a_flag_find_the_instances_that_do_not_mention_it() {
    let control = control(
        TestStore { writes_fail: false },
        vec![document(RUNNING, "running", json!({}))],
    )
    .await;
    for (name, value) in [
        ("ebs-optimized", "false"),
        ("ena-support", "true"),
        ("enclave-options.enabled", "false"),
        ("hibernation-options.configured", "false"),
        ("operator.managed", "false"),
        ("source-dest-check", "true"),
    ] {
        let rest = format!("Filter.1.Name={name}&Filter.1.Value.1={value}");
        assert_eq!(
            describe(&control, &rest).await.instances(),
            [RUNNING],
            "{name}"
        );
    }
}

/// <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeInstanceStatus.html>
#[tokio::test]
async fn the_status_is_filtered_by_the_id_of_the_zone() {
    let control = several().await;
    for (zone, found) in [("use1-az1", 2), ("use1-az2", 0), ("use1-az*", 2)] {
        let call = format!(
            "Action=DescribeInstanceStatus&Filter.1.Name=availability-zone-id&Filter.1.Value.1={zone}"
        );
        assert_eq!(
            post(&control, &call).await.instances().len(),
            found,
            "{zone}"
        );
    }
}
