//! What the API shows is what the record says: no constants, nothing that EC2 would not show.

use super::actions::{ec2, entry, ok};
use super::*;
use crate::instance::LaunchToken;
use crate::registry::Document;

/// Calls for one filter.
fn filter(name: &str, value: &str) -> String {
    format!("Filter.1.Name={name}&Filter.1.Value.1={value}")
}

/// EC2 gives the addresses, interfaces, groups and volumes of a terminated instance to others. What it
/// still shows is in many public dumps.
#[tokio::test]
async fn a_terminated_instance_is_shown_and_found_without_what_it_lost() {
    let id = "i-12345678";
    let control = super::control(MemoryStore, vec![full(id)]).await;
    let lost = [
        ("private-dns-name", "ip-10-0-0-5.internal"),
        ("dns-name", "ec2.example"),
        ("private-ip-address", "10.0.0.5"),
        ("ip-address", "203.0.113.7"),
        ("ipv6-address", "2001:db8::5"),
        ("subnet-id", "subnet-1"),
        ("vpc-id", "vpc-1"),
        ("instance.group-id", "sg-1"),
        ("instance.group-name", "web"),
        ("block-device-mapping.device-name", "/dev/xvda"),
        ("block-device-mapping.volume-id", "vol-1"),
        ("network-interface.mac-address", "02:00:00:00:00:05"),
        ("network-interface.network-interface-id", "eni-1"),
        ("network-interface.subnet-id", "subnet-1"),
        ("network-interface.vpc-id", "vpc-1"),
        ("source-dest-check", "true"),
    ];
    let kept = [
        ("instance-id", id),
        ("image-id", "ami-12345678"),
        ("instance-type", "t3.micro"),
        ("availability-zone", "eu-west-1b"),
        ("key-name", "ops"),
        ("tag:Name", "web-1"),
        ("owner-id", "111122223333"),
        ("reservation-id", "r-together"),
        ("client-token", "once"),
        ("root-device-name", "/dev/xvda"),
    ];
    for (name, value) in lost.into_iter().chain(kept) {
        let found = describe(&control, &filter(name, value)).await;
        assert_eq!(found.instances(), [id], "{name} while it runs");
    }

    ok(
        &control,
        "TerminateInstances",
        &format!("InstanceId.1={id}"),
    )
    .await;
    for (name, value) in lost {
        let found = describe(&control, &filter(name, value)).await;
        assert_eq!(found.instances(), [""; 0], "{name}");
    }
    for (name, value) in kept {
        let found = describe(&control, &filter(name, value)).await;
        assert_eq!(found.instances(), [id], "{name}");
    }
    let shown = describe(&control, "").await;
    for part in [
        "<privateDnsName/><dnsName/><reason>User initiated (2026-05-01 12:00:01 GMT)</reason>",
        "</monitoring><groupSet/><stateReason><code>Client.UserInitiatedShutdown</code>\
         <message>Client.UserInitiatedShutdown: User initiated shutdown</message></stateReason>",
        "<rootDeviceName>/dev/xvda</rootDeviceName><blockDeviceMapping/>",
        "<networkInterfaceSet/>",
        "<key>Name</key><value>web-1</value>",
        "<arn>arn:aws:iam::111122223333:instance-profile/web</arn>",
    ] {
        assert!(shown.body.contains(part), "{part} is not in {}", shown.body);
    }
    for element in [
        "subnetId",
        "vpcId",
        "privateIpAddress",
        "ipAddress",
        "ipv6Address",
        "sourceDestCheck",
    ] {
        assert_eq!(shown.element(element), None, "{element}");
    }
    for attribute in ["groupSet", "blockDeviceMapping"] {
        let rest = format!("InstanceId={id}&Attribute={attribute}");
        let answer = ok(&control, "DescribeInstanceAttribute", &rest).await;
        assert!(answer.body.contains(&format!("<{attribute}/>")));
    }
    let rest = format!("InstanceId={id}&Attribute=sourceDestCheck");
    let answer = ok(&control, "DescribeInstanceAttribute", &rest).await;
    assert!(
        answer.body.contains("<sourceDestCheck/>"),
        "{}",
        answer.body
    );
    // The record keeps them: an export is not affected.
    let instance = entry(&control, id).instance.clone();
    assert_eq!(instance.network_interfaces.len(), 1);
}

#[tokio::test]
async fn stop_and_terminate_give_the_reason_and_start_removes_it() {
    let control = several().await;
    let user = (
        "<reason>User initiated (2026-05-01 12:00:01 GMT)</reason>",
        "<stateReason><code>Client.UserInitiatedShutdown</code>\
         <message>Client.UserInitiatedShutdown: User initiated shutdown</message></stateReason>",
    );
    for (action, reasons) in [
        ("StopInstances", Some(user)),
        ("StartInstances", None),
        ("TerminateInstances", Some(user)),
    ] {
        ok(&control, action, &format!("InstanceId.1={RUNNING}")).await;
        let shown = describe(&control, &format!("InstanceId.1={RUNNING}")).await;
        match reasons {
            Some((reason, state_reason)) => {
                assert!(shown.body.contains(reason), "{action}: {}", shown.body);
                assert!(shown.body.contains(state_reason), "{action}");
            }
            None => {
                assert!(shown.body.contains("<reason/>"), "{action}");
                assert_eq!(shown.element("stateReason"), None, "{action}");
            }
        }
    }
    // EC2 answers a launch before the instance runs.
    let launched = ok(
        &control,
        "RunInstances",
        "ImageId=ami-12345678&MinCount=1&MaxCount=1",
    )
    .await;
    let pending = "<stateReason><code>pending</code><message>pending</message></stateReason>";
    assert!(launched.body.contains(pending), "{}", launched.body);
    let shown = describe(
        &control,
        &format!("InstanceId.1={}", launched.instances()[0]),
    )
    .await;
    assert_eq!(shown.element("stateReason"), None);
}

/// Each attribute with a value that is not EC2's default.
#[tokio::test]
async fn attributes_have_the_values_of_the_record() {
    let more = json!({
        "EbsOptimized": true, "EnaSupport": false, "EnclaveOptions": {"Enabled": true},
        "SourceDestCheck": false, "SriovNetSupport": "simple",
        "Imds": {"InstanceInitiatedShutdownBehavior": "terminate"}
    });
    let interface = json!({"NetworkInterfaces": [
        {"MacAddress": "02:00:00:00:00:06", "SourceDestCheck": true, "Attachment": {"DeviceIndex": 1}},
        {"MacAddress": "02:00:00:00:00:05", "SourceDestCheck": false}
    ]});
    let documents = vec![
        document(RUNNING, "running", more),
        document(STOPPED, "stopped", interface),
    ];
    let control = super::control(MemoryStore, documents).await;
    for (id, attribute, expected) in [
        (RUNNING, "ebsOptimized", "<value>true</value>"),
        (RUNNING, "enaSupport", "<value>false</value>"),
        (RUNNING, "enclaveOptions", "<enabled>true</enabled>"),
        (RUNNING, "sourceDestCheck", "<value>false</value>"),
        (RUNNING, "sriovNetSupport", "<value>simple</value>"),
        (
            RUNNING,
            "instanceInitiatedShutdownBehavior",
            "<value>terminate</value>",
        ),
        (STOPPED, "sourceDestCheck", "<value>false</value>"),
        (STOPPED, "ebsOptimized", "<value>false</value>"),
        (STOPPED, "enaSupport", "<value>true</value>"),
    ] {
        let rest = format!("InstanceId={id}&Attribute={attribute}");
        let answer = ok(&control, "DescribeInstanceAttribute", &rest).await;
        assert_eq!(answer.element(attribute), Some(expected), "{id}");
    }
    // DescribeInstances shows what the record has, and no default.
    let shown = describe(&control, &format!("InstanceId.1={RUNNING}")).await;
    for part in [
        "<ebsOptimized>true</ebsOptimized><enaSupport>false</enaSupport>\
         <sourceDestCheck>false</sourceDestCheck>",
        "<enclaveOptions><enabled>true</enabled></enclaveOptions>",
        "<sriovNetSupport>simple</sriovNetSupport>",
    ] {
        assert!(shown.body.contains(part), "{part} is not in {}", shown.body);
    }
    let shown = describe(&control, &format!("InstanceId.1={STOPPED}")).await;
    assert_eq!(shown.element("ebsOptimized"), None);
}

/// A record from before documents were checked can have any type in a field that imdsd does not read.
/// Clients fail on such an element, so it is omitted; the others are written.
#[tokio::test]
async fn a_field_of_the_wrong_type_in_an_old_record_is_not_written() {
    let more = json!({
        "BootMode": 7, "Platform": {"a": 1}, "CpuOptions": {"CoreCount": "two", "ThreadsPerCore": 2},
        "Licenses": ["x", {"LicenseConfigurationArn": "arn:x"}], "MaintenanceOptions": "auto",
        "UsageOperationUpdateTime": "yesterday", "Operator": {"Managed": "yes", "Principal": "p"},
        "Invented": "kept and not written", "TpmSupport": "v2.0"
    });
    let control = super::control(MemoryStore, vec![document(RUNNING, "running", more)]).await;
    let shown = describe(&control, "").await;
    for part in [
        "<cpuOptions><threadsPerCore>2</threadsPerCore></cpuOptions>",
        "<licenseSet><item><licenseConfigurationArn>arn:x</licenseConfigurationArn></item></licenseSet>",
        "<operator><principal>p</principal></operator>",
        "<tpmSupport>v2.0</tpmSupport>",
    ] {
        assert!(shown.body.contains(part), "{part} is not in {}", shown.body);
    }
    for absent in [
        "bootMode",
        "platform",
        "coreCount",
        "maintenanceOptions",
        "usageOperationUpdateTime",
        "managed",
        "Invented",
        "invented",
    ] {
        assert!(!shown.body.contains(&format!("<{absent}>")), "{absent}");
    }
}

#[tokio::test]
async fn the_reservation_has_its_requester_and_its_groups() {
    let more = json!({"Imds": {
        "RequesterId": "043234062703",
        "ReservationGroups": [{"GroupId": "sg-9", "GroupName": "classic"}]
    }});
    let control = super::control(MemoryStore, vec![document(RUNNING, "running", more)]).await;
    let shown = describe(&control, &filter("requester-id", "043234062703")).await;
    let expected = "<ownerId>000000000000</ownerId><requesterId>043234062703</requesterId><groupSet><item>\
        <groupId>sg-9</groupId><groupName>classic</groupName></item></groupSet><instancesSet>";
    assert!(shown.body.contains(expected), "{}", shown.body);
    let other = describe(&control, &filter("requester-id", "x")).await;
    assert_eq!(other.instances(), [""; 0]);
}

/// Signs a call for a region.
async fn in_region(control: &Control, region: &str, rest: &str) -> Answer {
    let mut sent = Sent::post(rest);
    let scope = format!("20260501/{region}/ec2/aws4_request");
    sign(&mut sent, ID, SECRET, DATE, &scope);
    send(control, &sent).await
}

/// EC2's client tokens are unique for each account and Region:
/// <https://docs.aws.amazon.com/ec2/latest/devguide/ec2-api-idempotency.html>
#[tokio::test]
async fn a_launch_belongs_to_the_region_and_the_partition_that_it_is_signed_for() {
    let Control { registry, .. } = several().await;
    let control = Control::new(registry, AccessKeys::demo(), Regions::Any);
    let launch = "Action=RunInstances&Version=2016-11-15&ImageId=ami-12345678&MinCount=1&MaxCount=1\
        &IamInstanceProfile.Name=app&ClientToken=once";
    let mut launched = Vec::new();
    for (region, partition) in [
        ("us-east-1", "aws"),
        ("cn-north-1", "aws-cn"),
        ("us-gov-west-1", "aws-us-gov"),
        ("eusc-de-east-1", "aws-eusc"),
    ] {
        let answer = in_region(&control, region, launch).await;
        let ids = answer.instances().join(" ");
        assert!(!launched.contains(&ids), "{region}: {}", answer.body);
        let arn = format!("<arn>arn:{partition}:iam::123456789012:instance-profile/app</arn>");
        assert!(answer.body.contains(&arn), "{region}: {}", answer.body);
        let again = in_region(&control, region, launch).await;
        assert_eq!(again.instances().join(" "), ids, "{region}");
        launched.push(ids);
    }
    // Other parameters are a mismatch in the region that knows the token, and a launch elsewhere.
    let other = launch.replace("app", "other");
    let mismatch = in_region(&control, "us-east-1", &other).await;
    assert_eq!(mismatch.code(), "IdempotentParameterMismatch");
    let elsewhere = in_region(&control, "eu-west-1", &other).await;
    assert_eq!(elsewhere.code(), "OK", "{}", elsewhere.body);
}

/// The launches that the damaged record may have.
fn damaged_launches() -> Vec<LaunchToken> {
    let launch = |token: &str, account: Option<&str>, region: Option<&str>| LaunchToken {
        token: token.to_string(),
        account: account.map(str::to_string),
        region: region.map(str::to_string),
    };
    vec![
        launch("damaged", Some("123456789012"), Some("us-east-1")),
        launch("of-unknown", None, None),
        launch("of-another", Some("999999999999"), Some("us-east-1")),
        launch("elsewhere", Some("123456789012"), Some("eu-west-1")),
    ]
}

/// A store in which the record of one launch cannot be read.
struct DamagedLaunch;

impl StepwiseStore for DamagedLaunch {
    fn load(&self) -> Result<Loaded, StoreError> {
        let unreadable = vec![crate::registry::UnreadableRecord {
            id: InstanceId::parse(UNREADABLE).unwrap(),
            fault: Fault::of_file("x".as_ref(), "broken"),
            attachments: Vec::new(),
            client_tokens: damaged_launches(),
        }];
        Ok(Loaded {
            unreadable,
            ..Loaded::default()
        })
    }

    /// The on-disk state of launches with the token `lost` is unknown.
    fn put(&self, record: &Record) -> Result<(), StoreError> {
        if record.instance.client_token.as_deref() != Some("lost") {
            return Ok(());
        }
        Err(StoreError {
            action: "write x".into(),
            reason: std::io::Error::other("disk full"),
            stored: crate::registry::StoredState::Unknown,
        })
    }

    fn remove(&self, _: &InstanceId) -> Result<(), StoreError> {
        Ok(())
    }

    fn put_account(&self, _: &crate::registry::Account) -> Result<(), StoreError> {
        Ok(())
    }
}

/// SDKs repeat an InternalError; "not found" would make tools forget the instance.
#[tokio::test]
async fn an_instance_that_is_being_registered_is_neither_unknown_nor_faulty() {
    let control = super::several().await;
    let mut new = entry(&control, RUNNING).instance.clone();
    new.instance_id = InstanceId::parse("i-eeeeeeee").unwrap();
    new.imds.attachments.clear();
    control
        .registry
        .reserve_new(&[Arc::new(Document::of(new))])
        .await;
    for call in ["ModifyInstanceMetadataOptions", "DescribeInstances"] {
        let rest = match call {
            "DescribeInstances" => "InstanceId.1=i-eeeeeeee",
            _ => "InstanceId=i-eeeeeeee&HttpTokens=required",
        };
        let refused = ec2(&control, call, rest).await;
        assert_eq!(
            (refused.code(), refused.element("Message")),
            (
                "InternalError",
                Some("The instance 'i-eeeeeeee' is being registered. Try again in a moment.")
            ),
            "{call}"
        );
    }
    let listed = ok(&control, "DescribeInstances", "").await;
    assert!(!listed.instances().contains(&"i-eeeeeeee"));
}

/// The call may be a retry of the launch whose record cannot be trusted: a second launch would make two
/// instances of one.
#[tokio::test]
async fn a_quarantined_launch_keeps_its_client_token() {
    let control = super::control(DamagedLaunch, Vec::new()).await;
    let launch = "ImageId=ami-12345678&MinCount=1&MaxCount=1&ClientToken=";
    let message = "An earlier call with this client token may have launched instances whose records can't be \
        used now. Nothing was launched.";
    for token in ["damaged", "of-unknown"] {
        let refused = ec2(&control, "RunInstances", &format!("{launch}{token}")).await;
        assert_eq!(
            (refused.status, refused.code(), refused.element("Message")),
            (500, "InternalError", Some(message)),
            "{token}"
        );
    }

    let lost = format!("{launch}lost");
    for call in ["the launch", "its retry"] {
        let refused = ec2(&control, "RunInstances", &lost).await;
        assert_eq!(refused.code(), "InternalError", "{call}");
    }
    let snapshot = control.registry.snapshot();
    assert_eq!(snapshot.entries().count(), 0);
    assert_eq!(snapshot.unreadable().count(), 2, "one launch, not two");
    let other = ok(&control, "RunInstances", &format!("{launch}other")).await;
    assert_eq!(other.instances().len(), 1);
}

/// A client token belongs to an account and a region, also while the instance is quarantined.
#[tokio::test]
async fn a_quarantined_launch_blocks_no_other_account_and_region() {
    let control = super::control(DamagedLaunch, Vec::new()).await;
    let launch = "ImageId=ami-12345678&MinCount=1&MaxCount=1&ClientToken=";
    for token in ["of-another", "elsewhere"] {
        let call = format!("{launch}{token}");
        let launched = ok(&control, "RunInstances", &call).await;
        let again = ok(&control, "RunInstances", &call).await;
        assert_eq!(again.instances(), launched.instances(), "{token}");
    }

    // A write whose outcome is unknown keeps the token with its account and region.
    let Control { registry, .. } = control;
    let control = Control::new(registry, AccessKeys::demo(), Regions::Any);
    let lost = format!("Action=RunInstances&Version=2016-11-15&{launch}lost");
    let refused = in_region(&control, "us-east-1", &lost).await;
    assert_eq!(refused.code(), "InternalError");
    let snapshot = control.registry.snapshot();
    let launches: Vec<_> = snapshot.quarantined_launches("lost").collect();
    let expected = LaunchToken {
        token: "lost".to_string(),
        account: Some("123456789012".to_string()),
        region: Some("us-east-1".to_string()),
    };
    assert_eq!(launches, [&expected]);
    let damaged = format!("Action=RunInstances&Version=2016-11-15&{launch}damaged");
    let elsewhere = in_region(&control, "eu-west-1", &damaged).await;
    assert_eq!(elsewhere.code(), "OK", "{}", elsewhere.body);
}

#[tokio::test]
async fn stop_protection_refuses_a_termination() {
    let protected = json!({"Imds": {"DisableApiStop": true}});
    let control = super::control(MemoryStore, vec![document(RUNNING, "running", protected)]).await;
    let call = format!("InstanceId.1={RUNNING}");
    let refused = ec2(&control, "TerminateInstances", &call).await;
    let message = format!(
        "The instance '{RUNNING}' may not be terminated. Modify its 'disableApiStop' instance attribute and \
         try again."
    );
    assert_eq!(
        (refused.status, refused.code(), refused.element("Message")),
        (400, "OperationNotPermitted", Some(message.as_str()))
    );
    let change = format!("InstanceId={RUNNING}&DisableApiStop.Value=false");
    ok(&control, "ModifyInstanceAttribute", &change).await;
    ok(&control, "TerminateInstances", &call).await;
}
