//! The lists of what instances refer to.

use super::*;
use crate::control::access_keys::demo_with;
use crate::control::policy::read::policy;

const WEB: &str = "i-0aaaaaaaaaaaaaaa1";
const DATABASE: &str = "i-0aaaaaaaaaaaaaaa2";
const GONE: &str = "i-0aaaaaaaaaaaaaaa3";
const UNUSUAL: &str = "i-0aaaaaaaaaaaaaaa4";

/// A document with one of everything that refers to another resource; `n` numbers them.
fn referring(id: &str, state: &str, n: u8, more: Value) -> Value {
    let mut all = json!({
        "InstanceType": "t3.micro", "KeyName": "ops", "SubnetId": "subnet-1", "VpcId": "vpc-1",
        "SecurityGroups": [{"GroupId": "sg-1", "GroupName": "web"}],
        "IamInstanceProfile": {"Arn": "arn:aws:iam::123456789012:instance-profile/web", "Id": "AIPA1"},
        "BlockDeviceMappings": [
            {"DeviceName": "/dev/xvda", "Ebs": {
                "VolumeId": format!("vol-{n}"), "Status": "attached", "AttachTime": "2026-03-01T10:00:01Z",
                "DeleteOnTermination": true
            }},
            {"DeviceName": "/dev/sdb", "Ebs": {"VolumeId": "vol-shared"}},
            {"DeviceName": "/dev/sdc"}
        ],
        "NetworkInterfaces": [
            {
                "MacAddress": format!("02:00:00:00:00:0{n}"), "NetworkInterfaceId": format!("eni-{n}"),
                "SubnetId": "subnet-1", "VpcId": "vpc-1", "Status": "in-use", "OwnerId": "123456789012",
                "SourceDestCheck": true, "PrivateIpAddress": format!("10.0.0.{n}"),
                "Groups": [{"GroupId": "sg-1", "GroupName": "web"}],
                "Attachment": {"AttachmentId": "eni-attach-1", "DeviceIndex": 0, "Status": "attached"},
                "PrivateIpAddresses": [{
                    "PrivateIpAddress": format!("10.0.0.{n}"), "Primary": true,
                    "Association": {"PublicIp": format!("203.0.113.{n}"), "IpOwnerId": "123456789012"}
                }]
            },
            // Without an id, and with an address that EC2 only lends.
            {
                "MacAddress": format!("02:00:00:00:01:0{n}"), "Attachment": {"DeviceIndex": 1},
                "PrivateIpAddresses": [{
                    "PrivateIpAddress": format!("10.0.1.{n}"), "Primary": true,
                    "Association": {"PublicIp": format!("198.51.100.{n}"), "IpOwnerId": "amazon"}
                }]
            }
        ],
        "Imds": {
            "OwnerId": "123456789012",
            "OpenSshKey": "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGVjMi1pbnN0YW5jZS1jb25uZWN0LXRlc3Qta2V5LTAx ops",
            "Subnets": {"subnet-1": {"Ipv4CidrBlocks": ["10.0.0.0/24"], "Ipv6CidrBlocks": ["2001:db8:0:1::/64"]}},
            "Vpcs": {"vpc-1": {"Ipv4CidrBlocks": ["10.0.0.0/16"]}}
        }
    });
    let members = all.as_object_mut().unwrap();
    members.extend(more.as_object().unwrap().clone());
    document(id, state, all)
}

async fn resources() -> Control {
    let database =
        json!({"Tags": [{"Key": "Name", "Value": "database"}], "InstanceType": "m5.large"});
    // Another shape: a launch through the API has ids as the names of its groups and no VPC.
    let unusual = json!({
        "InstanceType": "custom.small", "Architecture": "arm64", "KeyName": "old", "SubnetId": "subnet-2",
        "Placement": {"AvailabilityZone": "us-east-1b"},
        "SecurityGroups": [{"GroupId": "sg-1", "GroupName": "sg-1"}, {"GroupId": "sg-2", "GroupName": "sg-2"}]
    });
    let gone = json!({
        "KeyName": "gone", "SubnetId": "subnet-3", "VpcId": "vpc-3",
        "SecurityGroups": [{"GroupId": "sg-3", "GroupName": "three"}]
    });
    let documents = vec![
        document(UNUSUAL, "stopped", unusual),
        referring(WEB, "running", 1, json!({})),
        referring(DATABASE, "running", 2, database),
        referring(GONE, "terminated", 3, gone),
    ];
    control(TestStore { writes_fail: false }, documents).await
}

/// Returns the texts of all elements with this name.
fn all<'a>(answer: &'a Answer, name: &str) -> Vec<&'a str> {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    let texts = answer.body.split(open.as_str()).skip(1);
    texts
        .map(|rest| rest.split_once(close.as_str()).unwrap().0)
        .collect()
}

async fn list(control: &Control, action: &str, rest: &str) -> Answer {
    let answer = post(
        control,
        &format!("Action={action}&Version=2016-11-15&{rest}"),
    )
    .await;
    assert_eq!(answer.status, 200, "{action} {rest}: {}", answer.body);
    answer
}

async fn error(control: &Control, action: &str, rest: &str) -> (String, String) {
    let answer = post(
        control,
        &format!("Action={action}&Version=2016-11-15&{rest}"),
    )
    .await;
    assert_ne!(answer.status, 200, "{action} {rest}: {}", answer.body);
    let message = answer.element("Message").unwrap().to_string();
    (answer.code().to_string(), message)
}

/// Each list: all of it, by name, and by filters.
#[tokio::test]
async fn lists_show_what_instances_refer_to_and_nothing_of_terminated_ones() {
    let control = resources().await;
    #[rustfmt::skip]
    let rows: &[(&str, &str, &str, &[&str])] = &[
        // action, parameters, element, its values in order
        ("DescribeVolumes", "", "attachmentSet><item><volumeId", &["vol-1", "vol-2", "vol-shared"]),
        ("DescribeVolumes", "VolumeId.1=vol-2&VolumeId.2=vol-1", "attachmentSet><item><volumeId", &["vol-1", "vol-2"]),
        ("DescribeVolumes", "VolumeId.1=vol-shared", "instanceId", &[WEB, DATABASE]),
        ("DescribeVolumes", "VolumeId.1=vol-1", "device", &["/dev/xvda"]),
        ("DescribeVolumes", "VolumeId.1=vol-1", "createTime", &["2026-03-01T10:00:01.000Z"]),
        ("DescribeVolumes", "Filter.1.Name=attachment.instance-id&Filter.1.Value.1=i-0aaaaaaaaaaaaaaa1",
            "device", &["/dev/xvda", "/dev/sdb", "/dev/sdb"]),
        ("DescribeVolumes", "Filter.1.Name=attachment.instance-id&Filter.1.Value.1=i-0aaaaaaaaaaaaaaa3", "volumeId", &[]),
        ("DescribeVolumes", "Filter.1.Name=tag:Name&Filter.1.Value.1=*", "volumeId", &[]),
        ("DescribeVolumes", "IncludeManagedResources=true&Filter.1.Name=status&Filter.1.Value.1=available", "volumeId", &[]),
        ("DescribeVolumesModifications", "", "volumeId", &[]),
        ("DescribeNetworkInterfaces", "", "networkInterfaceId", &["eni-1", "eni-2"]),
        ("DescribeNetworkInterfaces", "NetworkInterfaceId.1=eni-2", "instanceId", &[DATABASE]),
        ("DescribeNetworkInterfaces", "Filter.1.Name=group-id&Filter.1.Value.1=sg-1&Filter.2.Name=private-ip-address&Filter.2.Value.1=10.0.0.1",
            "networkInterfaceId", &["eni-1"]),
        ("DescribeNetworkInterfaces", "Filter.1.Name=attachment.instance-id&Filter.1.Value.1=i-0aaaaaaaaaaaaaaa2", "macAddress", &["02:00:00:00:00:02"]),
        ("DescribeAddresses", "", "publicIp", &["203.0.113.1", "203.0.113.2"]),
        ("DescribeAddresses", "PublicIp.1=203.0.113.2", "instanceId", &[DATABASE]),
        ("DescribeAddresses", "Filter.1.Name=instance-id&Filter.1.Value.1=i-0aaaaaaaaaaaaaaa1", "privateIpAddress", &["10.0.0.1"]),
        ("DescribeSecurityGroups", "", "groupId", &["sg-1", "sg-2"]),
        ("DescribeSecurityGroups", "", "groupName", &["web", "sg-2"]),
        ("DescribeSecurityGroups", "GroupName.1=web", "vpcId", &["vpc-1"]),
        ("DescribeSecurityGroups", "GroupId.1=sg-2&GroupName.1=web", "groupId", &["sg-1", "sg-2"]),
        ("DescribeSecurityGroups", "Filter.1.Name=vpc-id&Filter.1.Value.1=vpc-1", "groupId", &["sg-1"]),
        ("DescribeSubnets", "", "subnetId", &["subnet-1", "subnet-2"]),
        ("DescribeSubnets", "SubnetId.1=subnet-1", "cidrBlock", &["10.0.0.0/24"]),
        ("DescribeSubnets", "SubnetId.1=subnet-1", "ipv6CidrBlock", &["2001:db8:0:1::/64"]),
        ("DescribeSubnets", "Filter.1.Name=availabilityZone&Filter.1.Value.1=us-east-1b", "subnetId", &["subnet-2"]),
        ("DescribeSubnets", "Filter.1.Name=default-for-az&Filter.1.Value.1=true", "subnetId", &[]),
        ("DescribeVpcs", "", "vpcId", &["vpc-1"]),
        ("DescribeVpcs", "VpcId.1=vpc-1", "cidrBlock", &["10.0.0.0/16", "10.0.0.0/16"]),
        ("DescribeVpcs", "Filter.1.Name=isDefault&Filter.1.Value.1=true", "vpcId", &[]),
        ("DescribeVpcAttribute", "VpcId=vpc-1&Attribute=enableDnsSupport", "enableDnsSupport", &["<value>true</value>"]),
        ("DescribeKeyPairs", "", "keyName", &["old", "ops"]),
        ("DescribeKeyPairs", "KeyName.1=ops", "keyType", &["ed25519"]),
        ("DescribeKeyPairs", "KeyName.1=ops", "publicKey", &[]),
        ("DescribeKeyPairs", "KeyName.1=ops&IncludePublicKey=true", "publicKey",
            &["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGVjMi1pbnN0YW5jZS1jb25uZWN0LXRlc3Qta2V5LTAx ops"]),
        // The digest that ssh-keygen -l prints.
        ("DescribeKeyPairs", "KeyName.1=ops", "keyFingerprint", &["DoZ2Cl2/+FmAH4+XEoYVTXbn16faMcgofC2dDiu6pxw="]),
        ("DescribeIamInstanceProfileAssociations", "", "instanceId", &[WEB, DATABASE]),
        ("DescribeIamInstanceProfileAssociations", "Filter.1.Name=instance-id&Filter.1.Value.1=i-0aaaaaaaaaaaaaaa2", "id", &["AIPA1"]),
        ("DescribeLaunchTemplates", "", "launchTemplateId", &[]),
        ("DescribeInstanceTopology", "InstanceId.1=i-0aaaaaaaaaaaaaaa1", "instanceId", &[]),
        ("DescribeInstanceTypes", "", "instanceType", &["custom.small", "m5.large", "t3.micro"]),
        ("DescribeInstanceTypes", "InstanceType.1=t3.micro", "burstablePerformanceSupported", &["true"]),
        ("DescribeInstanceTypes", "InstanceType.1=c7gn.xlarge", "sizeInMiB", &["8192"]),
        ("DescribeInstanceTypes", "InstanceType.1=custom.small", "supportedArchitectures", &["<item>arm64</item>"]),
        ("DescribeInstanceTypes", "InstanceType.1=custom.small", "defaultVCpus", &[]),
        ("DescribeInstanceTypes", "InstanceType.1=m5.large", "defaultVCpus", &["2"]),
        ("DescribeInstanceTypes", "Filter.1.Name=hypervisor&Filter.1.Value.1=nitro&MaxResults=100", "instanceType", &["custom.small", "m5.large", "t3.micro"]),
        // Without ids EC2 shows those with the option unlimited.
        ("DescribeInstanceCreditSpecifications", "", "instanceId", &[WEB]),
        ("DescribeInstanceCreditSpecifications", "InstanceId.1=i-0aaaaaaaaaaaaaaa1", "cpuCredits", &["unlimited"]),
        ("DescribeAccountAttributes", "AttributeName.1=supported-platforms", "attributeValue", &["VPC"]),
        ("DescribeAccountAttributes", "AttributeName.1=default-vpc", "attributeValue", &["none"]),
    ];
    for (action, rest, element, expected) in rows {
        let answer = list(&control, action, rest).await;
        let name = element.rsplit('<').next().unwrap();
        let shown = match element.split_once('>') {
            None => all(&answer, name),
            // The element at the beginning of another one.
            Some(_) => {
                let open = format!("<{element}>");
                let texts = answer.body.split(open.as_str()).skip(1);
                texts.map(|rest| rest.split_once('<').unwrap().0).collect()
            }
        };
        assert_eq!(shown, *expected, "{action} {rest}: {}", answer.body);
    }
}

#[tokio::test]
async fn unknown_names_filters_and_parameters_are_refused() {
    let control = resources().await;
    #[rustfmt::skip]
    let rows = [
        ("DescribeVolumes", "VolumeId.1=vol-9", "InvalidVolume.NotFound", "The volume 'vol-9' does not exist."),
        // Those of a terminated instance, and text that is not an id.
        ("DescribeVolumes", "VolumeId.1=vol-1&VolumeId.2=vol-3", "InvalidVolume.NotFound", "The volume 'vol-3' does not exist."),
        ("DescribeVolumes", "VolumeId.1=x%27%3C", "InvalidVolume.NotFound", "The volume 'x'&lt;' does not exist."),
        ("DescribeVolumes", "VolumeId.1=", "MissingParameter", "The request must contain the parameter VolumeId"),
        ("DescribeVolumes", "VolumeId=vol-1", "UnknownParameter", "The parameter VolumeId is not recognized"),
        ("DescribeVolumes", "Filter.1.Name=size&Filter.1.Value.1=8", "InvalidParameterValue", "The filter 'size' is invalid"),
        ("DescribeVolumes", "IncludeManagedResources=yes", "InvalidParameterValue",
            "A value of 'yes' is not valid for IncludeManagedResources. Specify either 'true' or 'false' and try again."),
        ("DescribeVolumes", "NextToken=AAAA", "InvalidNextToken", "The token 'AAAA' is invalid"),
        ("DescribeVolumes", "MaxResults=1001", "InvalidParameterValue",
            "Value ( 1001 ) for parameter maxResults is invalid. Expecting a value less than or equal to 1000."),
        ("DescribeVolumes", "DryRun=true", "DryRunOperation", "Request would have succeeded, but DryRun flag is set."),
        ("DescribeVolumes", "DryRun=true&VolumeId.1=vol-9", "InvalidVolume.NotFound", "The volume 'vol-9' does not exist."),
        ("DescribeVolumesModifications", "VolumeId.1=vol-1", "InvalidVolumeModification.NotFound",
            "Modification for volume 'vol-1' does not exist."),
        ("DescribeNetworkInterfaces", "NetworkInterfaceId.1=eni-3", "InvalidNetworkInterfaceID.NotFound",
            "The networkInterface ID 'eni-3' does not exist"),
        ("DescribeAddresses", "PublicIp.1=198.51.100.1", "InvalidAddress.NotFound", "Address '198.51.100.1' not found."),
        ("DescribeAddresses", "AllocationId.1=eipalloc-1", "InvalidAllocationID.NotFound",
            "The allocation ID 'eipalloc-1' does not exist"),
        ("DescribeAddresses", "MaxResults=5", "UnknownParameter", "The parameter MaxResults is not recognized"),
        ("DescribeSecurityGroups", "GroupId.1=sg-3", "InvalidGroup.NotFound", "The security group 'sg-3' does not exist"),
        ("DescribeSecurityGroups", "GroupName.1=three", "InvalidGroup.NotFound", "The security group 'three' does not exist"),
        ("DescribeSubnets", "SubnetId.1=subnet-3", "InvalidSubnetID.NotFound", "The subnet ID 'subnet-3' does not exist"),
        ("DescribeVpcs", "VpcId.1=vpc-3", "InvalidVpcID.NotFound", "The vpc ID 'vpc-3' does not exist"),
        ("DescribeVpcAttribute", "VpcId=vpc-3&Attribute=enableDnsSupport", "InvalidVpcID.NotFound", "The vpc ID 'vpc-3' does not exist"),
        ("DescribeVpcAttribute", "VpcId=vpc-1&Attribute=x", "InvalidParameterValue",
            "Value (x) for parameter attribute is invalid. Unknown attribute."),
        ("DescribeVpcAttribute", "VpcId=vpc-1", "MissingParameter", "The request must contain the parameter Attribute"),
        ("DescribeKeyPairs", "KeyName.1=gone", "InvalidKeyPair.NotFound", "The key pair 'gone' does not exist"),
        ("DescribeIamInstanceProfileAssociations", "AssociationId.1=iip-assoc-1", "InvalidAssociationID.NotFound",
            "An invalid association-id of 'iip-assoc-1' was given"),
        ("DescribeLaunchTemplates", "LaunchTemplateId.1=lt-1", "InvalidLaunchTemplateId.NotFound",
            "The specified launch template, with template ID lt-1, does not exist."),
        ("DescribeLaunchTemplates", "LaunchTemplateName.1=web", "InvalidLaunchTemplateName.NotFoundException",
            "The specified launch template, with template name web, does not exist."),
        ("DescribeInstanceTypes", "InstanceType.1=custom.large", "InvalidInstanceType",
            "The following supplied instance types do not exist: [custom.large]"),
        ("DescribeInstanceTopology", "InstanceId.1=i-aaaaaaaa", "InvalidInstanceID.NotFound",
            "The instance ID 'i-aaaaaaaa' does not exist"),
        ("DescribeInstanceCreditSpecifications", "InstanceId.1=i-0aaaaaaaaaaaaaaa2", "InstanceCreditSpecification.NotSupported",
            "The instance 'i-0aaaaaaaaaaaaaaa2' of the type m5.large has no CPU credits."),
        ("DescribeInstanceCreditSpecifications", "InstanceId.1=i-aaaaaaaa", "InvalidInstanceID.NotFound",
            "The instance ID 'i-aaaaaaaa' does not exist"),
        ("DescribeAccountAttributes", "AttributeName.1=x", "InvalidParameterValue",
            "Value (x) for parameter attributeName is invalid. Unknown attribute."),
    ];
    for (action, rest, code, message) in rows {
        let refused = error(&control, action, rest).await;
        assert_eq!(refused, (code.into(), message.into()), "{action} {rest}");
    }
}

/// A derived id names the same resource in every list and every call.
#[tokio::test]
async fn derived_ids_find_their_resource() {
    let control = resources().await;
    for (action, element, parameter) in [
        ("DescribeAddresses", "allocationId", "AllocationId.1"),
        ("DescribeKeyPairs", "keyPairId", "KeyPairId.1"),
        (
            "DescribeIamInstanceProfileAssociations",
            "associationId",
            "AssociationId.1",
        ),
    ] {
        let every = list(&control, action, "").await;
        let ids: Vec<String> = all(&every, element).into_iter().map(String::from).collect();
        assert_eq!(ids.len(), 2, "{}", every.body);
        for id in ids {
            let digits = id.rsplit('-').next().unwrap();
            assert!(
                digits.len() == 17 && digits.bytes().all(|b| b.is_ascii_hexdigit()),
                "{id}"
            );
            let named = list(&control, action, &format!("{parameter}={id}")).await;
            assert_eq!(all(&named, element), [id.as_str()], "{action}");
        }
    }
}

#[tokio::test]
async fn pages_of_a_list_show_every_resource_once() {
    let volumes: Vec<Value> = (0..12)
        .map(|n| json!({"DeviceName": format!("/dev/sd{n}"), "Ebs": {"VolumeId": format!("vol-{n:02}")}}))
        .collect();
    let documents = vec![document(
        WEB,
        "running",
        json!({ "BlockDeviceMappings": volumes }),
    )];
    let control = control(TestStore { writes_fail: false }, documents).await;
    let (mut shown, mut token, mut pages) = (Vec::new(), String::new(), 0);
    loop {
        let page = list(
            &control,
            "DescribeVolumes",
            &format!("MaxResults=5&NextToken={token}"),
        )
        .await;
        let items = page.body.split("<item><volumeId>vol-").skip(1);
        let ids = items.map(|rest| rest.split_once('<').unwrap().0.to_string());
        // Each volume appears in its item and in its attachment.
        shown.extend(ids.step_by(2));
        pages += 1;
        match page.element("nextToken") {
            Some(next) => token = next.to_string(),
            None => break,
        }
    }
    let expected: Vec<String> = (0..12).map(|n| format!("{n:02}")).collect();
    assert_eq!((shown, pages), (expected, 3));
}

/// What a list prints for a field that documents omit, its filter finds.
#[tokio::test]
async fn an_attachment_without_a_status_is_found_as_it_is_shown() {
    let control = resources().await;
    let status = "Filter.1.Name=attachment.status&Filter.1.Value.1=";
    for (value, expected) in [
        ("attached", &["vol-1", "vol-2", "vol-shared"][..]),
        ("busy", &[]),
    ] {
        let found = list(&control, "DescribeVolumes", &format!("{status}{value}")).await;
        let mut ids = all(&found, "volumeId");
        ids.dedup();
        assert_eq!(ids, expected, "{value}");
    }
}

/// A list about instances hides those that the key may not describe, and an id of one of them gets
/// the error of an unknown id, which names no type.
#[tokio::test]
async fn credits_and_topology_hide_the_instances_that_the_key_may_not_describe() {
    let control = resources().await;
    let both = format!("InstanceId.1={WEB}&InstanceId.2={DATABASE}");
    let unlimited = document(
        "i-0aaaaaaaaaaaaaaa5",
        "running",
        json!({"Imds": {"CpuCredits": "unlimited"}, "Tags": [{"Key": "Name", "Value": "database"}]}),
    );
    let instance = crate::document::from_value(unlimited).unwrap();
    let registry = &control.registry;
    registry.register(instance, now().wall).await.unwrap();
    let credits = "DescribeInstanceCreditSpecifications";
    let everything = list(&control, credits, "").await;
    assert!(
        everything.body.contains("i-0aaaaaaaaaaaaaaa5"),
        "{}",
        everything.body
    );

    let deny_database =
        r#"{ effect = "deny", actions = ["ec2:DescribeInstances"], tags = { Name = "database" } }"#;
    let allow_all = r#"{ effect = "allow", actions = ["ec2:*"] }"#;
    control.replace_keys(demo_with(policy(&[deny_database, allow_all])));
    let shown = list(&control, credits, "").await;
    assert!(
        !shown.body.contains("i-0aaaaaaaaaaaaaaa5"),
        "{}",
        shown.body
    );
    let named = list(&control, credits, &format!("InstanceId.1={WEB}")).await;
    assert_eq!(all(&named, "instanceId"), [WEB]);
    for action in [credits, "DescribeInstanceTopology"] {
        let unknown = error(&control, action, "InstanceId.1=i-0aaaaaaaaaaaaaaaf").await;
        assert_eq!(unknown.0, "UnauthorizedOperation", "{action}");
        for rest in [&format!("InstanceId.1={DATABASE}"), &both] {
            assert_eq!(
                error(&control, action, rest).await,
                unknown,
                "{action} {rest}"
            );
        }
    }
    let only = |action: &str| format!(r#"{{ effect = "allow", actions = ["ec2:{action}"] }}"#);
    control.replace_keys(demo_with(policy(&[&only(credits)])));
    assert!(list(&control, credits, "").await.instances().is_empty());
}

/// The audit line of a list that succeeds names no rule, whatever the list leaves out.
#[tokio::test]
async fn a_list_that_succeeds_is_not_logged_as_refused() {
    let control = resources().await;
    let deny_database =
        r#"{ effect = "deny", actions = ["ec2:DescribeInstances"], tags = { Name = "database" } }"#;
    let allow_all = r#"{ effect = "allow", actions = ["ec2:*"] }"#;
    let deny_all = r#"{ effect = "deny", actions = ["ec2:DescribeInstances"] }"#;
    for rules in [[deny_database, allow_all], [deny_all, allow_all]] {
        control.replace_keys(demo_with(policy(&rules)));
        for action in [
            "DescribeAvailabilityZones",
            "DescribeImages",
            "DescribeImageAttribute&Attribute=imdsSupport&ImageId=ami-12345678",
            "DescribeInstanceCreditSpecifications",
            "DescribeInstanceTopology",
            "DescribeRegions",
            "DescribeVolumes",
        ] {
            let (answer, line) =
                audited(&control, &format!("Version=2016-11-15&Action={action}")).await;
            if answer.status == 200 {
                assert!(!line.contains("rule="), "{line}");
            } else {
                assert_eq!(answer.code(), "InvalidAMIID.NotFound", "{action}");
            }
        }
    }
    // A call that is refused says by which rule.
    let (answer, line) = audited(&control, "Version=2016-11-15&Action=DescribeInstances").await;
    assert_eq!(answer.status, 403);
    assert!(line.contains("rule=\""), "{line}");
}

/// The zones and regions that only hidden instances have are hidden, too.
#[tokio::test]
async fn zones_and_regions_are_those_of_the_instances_that_the_key_may_describe() {
    let placed = |id: &str, zone: &str| {
        document(
            id,
            "running",
            json!({"Placement": {"AvailabilityZone": zone}}),
        )
    };
    let documents = vec![placed(WEB, "us-east-1c"), placed(DATABASE, "eu-west-1b")];
    let control = control(TestStore { writes_fail: false }, documents).await;
    let (zones, regions) = ("DescribeAvailabilityZones", "DescribeRegions");
    let shown = list(&control, zones, "").await;
    assert_eq!(all(&shown, "zoneName"), ["eu-west-1b", "us-east-1c"]);

    let places = r#"{ effect = "allow", actions = ["ec2:DescribeAvailabilityZones", "ec2:DescribeRegions"] }"#;
    let only_web = r#"{ effect = "allow", actions = ["ec2:DescribeInstances"], instances = ["i-0aaaaaaaaaaaaaaa1"] }"#;
    control.replace_keys(demo_with(policy(&[places, only_web])));
    assert_eq!(
        all(&list(&control, zones, "").await, "zoneName"),
        ["us-east-1c"]
    );
    assert_eq!(
        all(&list(&control, regions, "").await, "regionName"),
        ["us-east-1"]
    );
    for (action, rest, message) in [
        (
            zones,
            "ZoneName.1=eu-west-1b",
            "Invalid availability zone: [eu-west-1b]",
        ),
        (
            zones,
            "ZoneId.1=euw1-az2",
            "Invalid availability zone-id: [euw1-az2]",
        ),
        (
            regions,
            "RegionName.1=eu-west-1",
            "Invalid region provided: 'eu-west-1'",
        ),
    ] {
        let expected = ("InvalidParameterValue".to_string(), message.to_string());
        assert_eq!(error(&control, action, rest).await, expected);
    }
    // A key that may describe no instance still learns its own region.
    control.replace_keys(demo_with(policy(&[places])));
    assert!(
        list(&control, zones, "")
            .await
            .body
            .contains("<availabilityZoneInfo/>")
    );
    assert_eq!(
        all(&list(&control, regions, "").await, "regionName"),
        ["us-east-1"]
    );
}

/// A key's rules about instances hold for everything that an instance refers to, by list and by id,
/// and an unknown id looks like a hidden one.
#[tokio::test]
async fn rules_about_instances_hide_what_the_others_refer_to() {
    let control = resources().await;
    let only_web =
        r#"{ effect = "allow", actions = ["ec2:Describe*"], instances = ["i-0aaaaaaaaaaaaaaa1"] }"#;
    let deny_database =
        r#"{ effect = "deny", actions = ["ec2:DescribeInstances"], tags = { Name = "database" } }"#;
    let allow_all = r#"{ effect = "allow", actions = ["ec2:*"] }"#;
    for rules in [&[only_web][..], &[deny_database, allow_all]] {
        control.replace_keys(demo_with(policy(rules)));
        for (action, hidden) in [
            ("DescribeVolumes", "vol-2"),
            ("DescribeNetworkInterfaces", "eni-2"),
            ("DescribeAddresses", "203.0.113.2"),
            ("DescribeIamInstanceProfileAssociations", DATABASE),
            ("DescribeInstanceTypes", "m5.large"),
        ] {
            let answer = list(&control, action, "").await;
            assert!(!answer.body.contains(hidden), "{action}: {}", answer.body);
            assert!(!answer.body.contains(DATABASE), "{action}: {}", answer.body);
        }
        // What both refer to shows only the visible one.
        let shared = list(&control, "DescribeVolumes", "VolumeId.1=vol-shared").await;
        assert_eq!(all(&shared, "instanceId"), [WEB]);
        for (action, parameter, hidden, code) in [
            (
                "DescribeVolumes",
                "VolumeId.1",
                "vol-2",
                "InvalidVolume.NotFound",
            ),
            (
                "DescribeNetworkInterfaces",
                "NetworkInterfaceId.1",
                "eni-2",
                "InvalidNetworkInterfaceID.NotFound",
            ),
            (
                "DescribeAddresses",
                "PublicIp.1",
                "203.0.113.2",
                "InvalidAddress.NotFound",
            ),
        ] {
            let (hidden_code, hidden_message) =
                error(&control, action, &format!("{parameter}={hidden}")).await;
            let (_, unknown_message) = error(&control, action, &format!("{parameter}=none")).await;
            assert_eq!(hidden_code, code);
            assert_eq!(
                hidden_message.replace(hidden, ""),
                unknown_message.replace("none", "")
            );
        }
    }
    // A key that may list volumes and describe no instance sees none.
    let volumes = r#"{ effect = "allow", actions = ["ec2:DescribeVolumes"] }"#;
    control.replace_keys(demo_with(policy(&[volumes])));
    assert!(
        list(&control, "DescribeVolumes", "")
            .await
            .body
            .contains("<volumeSet/>")
    );
    let (code, _) = error(&control, "DescribeSubnets", "").await;
    assert_eq!(code, "UnauthorizedOperation");
    let (code, _) = error(&control, "DescribeAccountAttributes", "").await;
    assert_eq!(code, "UnauthorizedOperation");
}

/// A launch into a subnet is where the visible instances of the subnet are; a caller who sees none of
/// them does not change what others see.
#[tokio::test]
async fn a_launch_takes_zone_vpc_and_group_names_of_what_its_caller_sees() {
    let in_b =
        json!({"Placement": {"AvailabilityZone": "us-east-1b", "AvailabilityZoneId": "use1-az6"}});
    let web = referring("i-fffffffffffffff01", "running", 1, in_b);
    let control = super::control(MemoryStore, vec![web]).await;
    let launch = "Action=RunInstances&Version=2016-11-15&ImageId=ami-12345678&MinCount=1&MaxCount=1\
        &SubnetId=subnet-1&SecurityGroupId.1=sg-1&SecurityGroupId.2=sg-unknown";
    let launched = post(&control, launch).await;
    for part in [
        "<availabilityZone>us-east-1b</availabilityZone>",
        "<vpcId>vpc-1</vpcId>",
        "<groupId>sg-1</groupId><groupName>web</groupName>",
        "<groupId>sg-unknown</groupId><groupName>sg-unknown</groupName>",
    ] {
        assert!(launched.body.contains(part), "{part}: {}", launched.body);
    }
    let id = InstanceId::parse(launched.instances()[0]).unwrap();
    let snapshot = control.registry.snapshot();
    let entry = snapshot.entry(&id).unwrap();
    assert_eq!(
        entry.instance.availability_zone_id().as_deref(),
        Some("use1-az6")
    );

    let elsewhere = format!("{launch}&Placement.AvailabilityZone=us-east-1c");
    let refused = post(&control, &elsewhere).await;
    let message = "Value (us-east-1c) for parameter availabilityZone is invalid. Subnet 'subnet-1' is in the \
        availability zone us-east-1b";
    assert_eq!(
        (refused.code(), refused.element("Message")),
        ("InvalidParameterValue", Some(message))
    );

    // Who sees no instance of the subnet launches blindly, and learns nothing. The ids of these launches
    // come before that of the document.
    let terminate = format!("Action=TerminateInstances&Version=2016-11-15&InstanceId.1={id}");
    assert_eq!(post(&control, &terminate).await.code(), "OK");
    let blind = policy(&[r#"{effect = "allow", actions = "ec2:RunInstances"}"#]);
    control.replace_keys(demo_with(blind));
    for zone in ["a", "c"] {
        let call = format!("{launch}&Placement.AvailabilityZone=us-east-1{zone}");
        let launched = post(&control, &call).await;
        assert_eq!(launched.code(), "OK", "{}", launched.body);
        assert!(!launched.body.contains("vpc-1"), "{}", launched.body);
    }
    control.replace_keys(AccessKeys::demo());
    let shown = post(&control, "Action=DescribeSubnets&Version=2016-11-15").await;
    assert_eq!(
        shown.element("availabilityZone"),
        Some("us-east-1b"),
        "{}",
        shown.body
    );
    assert_eq!(shown.element("vpcId"), Some("vpc-1"));
}
