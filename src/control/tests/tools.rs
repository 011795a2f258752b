//! What Terraform and Ansible send with every launch and every change.

use super::*;

const LAUNCH: &str = "ImageId=ami-12345678&MinCount=1&MaxCount=1&InstanceType=t3.micro";

async fn call(control: &Control, action: &str, rest: &str) -> Answer {
    let body = format!("Action={action}&Version=2016-11-15&{rest}");
    post(control, &body).await
}

/// Launches an instance and returns its id.
async fn launched(control: &Control, rest: &str) -> String {
    let answer = call(control, "RunInstances", &format!("{LAUNCH}&{rest}")).await;
    assert_eq!(answer.status, 200, "{rest}: {}", answer.body);
    answer.instances()[0].to_string()
}

/// A launch keeps what clients read back. Each row: parameters, and what DescribeInstances shows.
#[tokio::test]
async fn a_launch_keeps_the_options_that_clients_read_back() {
    let control = several().await;
    #[rustfmt::skip]
    let rows: &[(&str, &[&str])] = &[
        ("", &["<ebsOptimized>false</ebsOptimized>", "<sourceDestCheck>true</sourceDestCheck>"]),
        ("EbsOptimized=true", &["<ebsOptimized>true</ebsOptimized>"]),
        ("MaintenanceOptions.AutoRecovery=default", &["<maintenanceOptions><autoRecovery>default</autoRecovery></maintenanceOptions>"]),
        ("MaintenanceOptions.AutoRecovery=disabled", &["<autoRecovery>disabled</autoRecovery>"]),
        ("CpuOptions.CoreCount=1&CpuOptions.ThreadsPerCore=2",
            &["<cpuOptions><coreCount>1</coreCount><threadsPerCore>2</threadsPerCore></cpuOptions>"]),
        ("CapacityReservationSpecification.CapacityReservationPreference=open",
            &["<capacityReservationPreference>open</capacityReservationPreference>"]),
        ("PrivateDnsNameOptions.HostnameType=ip-name&PrivateDnsNameOptions.EnableResourceNameDnsARecord=false\
          &PrivateDnsNameOptions.EnableResourceNameDnsAAAARecord=false",
            &["<hostnameType>ip-name</hostnameType>", "<enableResourceNameDnsARecord>false</enableResourceNameDnsARecord>"]),
        // The interface of a plain launch is another way to name its network.
        ("NetworkInterface.1.DeviceIndex=0&NetworkInterface.1.SubnetId=subnet-1&NetworkInterface.1.SecurityGroupId.1=sg-1\
          &NetworkInterface.1.PrivateIpAddress=10.0.0.9&NetworkInterface.1.DeleteOnTermination=true\
          &NetworkInterface.1.AssociatePublicIpAddress=false",
            &["<subnetId>subnet-1</subnetId>", "<groupId>sg-1</groupId>", "<privateIpAddress>10.0.0.9</privateIpAddress>",
              "<networkInterfaceSet/>"]),
        // Tags of what a launch here does not create.
        ("TagSpecification.1.ResourceType=volume&TagSpecification.1.Tag.1.Key=a\
          &TagSpecification.2.ResourceType=network-interface&TagSpecification.2.Tag.1.Key=a\
          &TagSpecification.3.ResourceType=spot-instances-request&TagSpecification.3.Tag.1.Key=a\
          &TagSpecification.4.ResourceType=instance&TagSpecification.4.Tag.1.Key=b",
            &["<tagSet><item><key>b</key><value/></item></tagSet>"]),
        ("InstanceMarketOptions.MarketType=spot&InstanceMarketOptions.SpotOptions.SpotInstanceType=one-time",
            &["<instanceLifecycle>spot</instanceLifecycle>"]),
        ("EnclaveOptions.Enabled=false&CpuOptions.AmdSevSnp=disabled", &[]),
    ];
    for (rest, shown) in rows {
        let id = launched(&control, rest).await;
        let described = describe(&control, &format!("InstanceId.1={id}")).await;
        for fragment in *shown {
            assert!(
                described.body.contains(fragment),
                "{rest}: {}",
                described.body
            );
        }
    }
    for (rest, credits) in [
        ("CreditSpecification.CpuCredits=standard", "standard"),
        ("CreditSpecification.CpuCredits=unlimited", "unlimited"),
        ("", "unlimited"),
    ] {
        let id = launched(&control, rest).await;
        let action = "DescribeInstanceCreditSpecifications";
        let shown = call(&control, action, &format!("InstanceId.1={id}")).await;
        assert_eq!(shown.element("cpuCredits"), Some(credits), "{}", shown.body);
    }
    for (rest, behavior) in [
        ("InstanceInitiatedShutdownBehavior=terminate", "terminate"),
        ("InstanceInitiatedShutdownBehavior=stop", "stop"),
        ("", "stop"),
    ] {
        let id = launched(&control, rest).await;
        let of = format!("InstanceId={id}&Attribute=instanceInitiatedShutdownBehavior");
        let shown = call(&control, "DescribeInstanceAttribute", &of).await;
        assert_eq!(shown.element("value"), Some(behavior), "{}", shown.body);
    }
}

#[tokio::test]
async fn a_launch_refuses_options_that_it_cannot_keep() {
    let control = several().await;
    let before = control.registry.snapshot().entries().count();
    #[rustfmt::skip]
    let rows = [
        ("EbsOptimized=yes", "InvalidParameterValue"),
        ("EbsOptimized=", "InvalidParameterValue"),
        ("InstanceInitiatedShutdownBehavior=reboot", "InvalidParameterValue"),
        ("MaintenanceOptions.AutoRecovery=off", "InvalidParameterValue"),
        ("MaintenanceOptions.Other=x", "UnsupportedOperation"),
        ("CpuOptions.CoreCount=1", "MissingParameter"),
        ("CpuOptions.ThreadsPerCore=1", "MissingParameter"),
        ("CpuOptions.CoreCount=0&CpuOptions.ThreadsPerCore=1", "InvalidParameterValue"),
        ("CpuOptions.CoreCount=-1&CpuOptions.ThreadsPerCore=1", "InvalidParameterValue"),
        ("CpuOptions.CoreCount=%2B1&CpuOptions.ThreadsPerCore=1", "InvalidParameterValue"),
        ("CpuOptions.CoreCount=99999&CpuOptions.ThreadsPerCore=1", "InvalidParameterValue"),
        ("CpuOptions.AmdSevSnp=enabled", "UnsupportedOperation"),
        ("CreditSpecification.CpuCredits=free", "InvalidParameterValue"),
        ("CapacityReservationSpecification.CapacityReservationPreference=x", "InvalidParameterValue"),
        ("CapacityReservationSpecification.CapacityReservationTarget.CapacityReservationId=cr-1", "UnsupportedOperation"),
        ("PrivateDnsNameOptions.HostnameType=resource-name", "UnsupportedOperation"),
        ("PrivateDnsNameOptions.HostnameType=x", "InvalidParameterValue"),
        ("PrivateDnsNameOptions.EnableResourceNameDnsARecord=true", "UnsupportedOperation"),
        ("EnclaveOptions.Enabled=true", "UnsupportedOperation"),
        ("HibernationOptions.Configured=true", "UnsupportedOperation"),
        ("BlockDeviceMapping.1.DeviceName=/dev/xvda&BlockDeviceMapping.1.Ebs.VolumeSize=20", "UnsupportedOperation"),
        ("InstanceMarketOptions.MarketType=spot&InstanceMarketOptions.SpotOptions.MaxPrice=1", "UnsupportedOperation"),
        // An interface that is more than the network of the instance.
        ("NetworkInterface.1.SubnetId=subnet-1", "UnsupportedOperation"),
        ("NetworkInterface.1.DeviceIndex=1&NetworkInterface.1.SubnetId=subnet-1", "UnsupportedOperation"),
        ("NetworkInterface.1.DeviceIndex=0&NetworkInterface.1.AssociatePublicIpAddress=true", "UnsupportedOperation"),
        ("NetworkInterface.1.DeviceIndex=0&NetworkInterface.1.NetworkInterfaceId=eni-1", "UnsupportedOperation"),
        ("NetworkInterface.1.DeviceIndex=0&NetworkInterface.2.DeviceIndex=1", "UnsupportedOperation"),
        ("NetworkInterface.1.DeviceIndex=0&NetworkInterface.1.DeleteOnTermination=x", "InvalidParameterValue"),
        ("NetworkInterface.1.DeviceIndex=0&NetworkInterface.1.PrivateIpAddress=x", "InvalidParameterValue"),
        ("NetworkInterface.1.DeviceIndex=0&NetworkInterface.1.SubnetId=", "InvalidParameterValue"),
        ("NetworkInterface.1.DeviceIndex=0&SubnetId=subnet-1", "InvalidParameterCombination"),
        ("NetworkInterface.1.DeviceIndex=0&SecurityGroupId.1=sg-1", "InvalidParameterCombination"),
        ("NetworkInterface.1.DeviceIndex=0&PrivateIpAddress=10.0.0.9", "InvalidParameterCombination"),
        ("TagSpecification.1.ResourceType=volume&TagSpecification.1.Tag.1.Key=", "InvalidParameterValue"),
    ];
    for (rest, code) in rows {
        let answer = call(&control, "RunInstances", &format!("{LAUNCH}&{rest}")).await;
        assert_eq!(
            (answer.status, answer.code()),
            (400, code),
            "{rest}: {}",
            answer.body
        );
    }
    // Credits need a burstable type.
    let m5 = "ImageId=ami-12345678&MinCount=1&MaxCount=1&InstanceType=m5.large&CreditSpecification.CpuCredits=standard";
    let answer = call(&control, "RunInstances", m5).await;
    assert_eq!(
        answer.code(),
        "InvalidParameterCombination",
        "{}",
        answer.body
    );
    assert_eq!(control.registry.snapshot().entries().count(), before);
}

/// The attributes that Terraform sets. EC2 changes ebsOptimized of a stopped instance only.
#[tokio::test]
async fn attributes_change_in_the_record() {
    const ONE: &str = "i-0aaaaaaaaaaaaaaa1";
    const TWO: &str = "i-0aaaaaaaaaaaaaaa2";
    let interface = |n: u8| {
        json!({
            "MacAddress": format!("02:00:00:00:00:0{n}"), "SourceDestCheck": true,
            "Attachment": {"DeviceIndex": n}
        })
    };
    let documents = vec![
        document(ONE, "running", json!({"NetworkInterfaces": [interface(0)]})),
        document(
            TWO,
            "running",
            json!({"NetworkInterfaces": [interface(0), interface(1)]}),
        ),
        document(STOPPED, "stopped", json!({})),
        document(TERMINATED, "terminated", json!({})),
    ];
    let control = control(TestStore { writes_fail: false }, documents).await;
    for (id, attribute, older, values) in [
        (ONE, "SourceDestCheck", "sourceDestCheck", ["false", "true"]),
        (
            STOPPED,
            "SourceDestCheck",
            "sourceDestCheck",
            ["false", "true"],
        ),
        (
            ONE,
            "InstanceInitiatedShutdownBehavior",
            "instanceInitiatedShutdownBehavior",
            ["terminate", "stop"],
        ),
        (
            TWO,
            "InstanceInitiatedShutdownBehavior",
            "instanceInitiatedShutdownBehavior",
            ["terminate", "stop"],
        ),
        (STOPPED, "EbsOptimized", "ebsOptimized", ["true", "false"]),
    ] {
        for form in [
            format!("{attribute}.Value="),
            format!("Attribute={older}&Value="),
        ] {
            for value in values {
                let change = format!("InstanceId={id}&{form}{value}");
                let changed = call(&control, "ModifyInstanceAttribute", &change).await;
                assert_eq!(changed.status, 200, "{change}: {}", changed.body);
                let of = format!("InstanceId={id}&Attribute={older}");
                let shown = call(&control, "DescribeInstanceAttribute", &of).await;
                assert_eq!(shown.element("value"), Some(value), "{change}");
            }
        }
    }
    call(
        &control,
        "ModifyInstanceAttribute",
        &format!("InstanceId={ONE}&SourceDestCheck.Value=false"),
    )
    .await;
    let described = describe(&control, &format!("InstanceId.1={ONE}")).await;
    // That of the instance and that of its interface.
    assert_eq!(
        described
            .body
            .matches("<sourceDestCheck>false</sourceDestCheck>")
            .count(),
        2
    );

    for (id, rest, code) in [
        (TWO, "SourceDestCheck.Value=false", "InvalidInstanceID"),
        (ONE, "SourceDestCheck.Value=no", "InvalidParameterValue"),
        (ONE, "SourceDestCheck=false", "UnknownParameter"),
        (ONE, "EbsOptimized.Value=true", "IncorrectInstanceState"),
        (STOPPED, "EbsOptimized.Value=", "InvalidParameterValue"),
        (
            ONE,
            "InstanceInitiatedShutdownBehavior.Value=Stop",
            "InvalidParameterValue",
        ),
        (
            ONE,
            "SourceDestCheck.Value=true&EbsOptimized.Value=true",
            "InvalidParameterCombination",
        ),
        (
            TERMINATED,
            "SourceDestCheck.Value=false",
            "IncorrectInstanceState",
        ),
        (ONE, "InstanceType.Value=m5.large", "UnsupportedOperation"),
        (ONE, "GroupId.1=sg-1", "UnsupportedOperation"),
        (
            ONE,
            "Attribute=groupSet&GroupId.1=sg-1",
            "UnsupportedOperation",
        ),
        (ONE, "Attribute=kernel&Value=x", "UnsupportedOperation"),
        (ONE, "Attribute=userData", "MissingParameter"),
    ] {
        let answer = call(
            &control,
            "ModifyInstanceAttribute",
            &format!("InstanceId={id}&{rest}"),
        )
        .await;
        assert_eq!(
            (answer.status, answer.code()),
            (400, code),
            "{rest}: {}",
            answer.body
        );
    }
}

#[tokio::test]
async fn monitoring_changes_in_the_record() {
    let control = several().await;
    for (action, reported, state) in [
        ("MonitorInstances", "pending", "enabled"),
        ("UnmonitorInstances", "disabling", "disabled"),
    ] {
        let ids = format!("InstanceId.1={RUNNING}&InstanceId.2={STOPPED}");
        let answer = call(&control, action, &ids).await;
        assert_eq!(answer.instances(), [RUNNING, STOPPED], "{}", answer.body);
        assert_eq!(answer.element("state"), Some(reported));
        let described = describe(&control, &ids).await;
        let shown = format!("<monitoring><state>{state}</state></monitoring>");
        assert_eq!(
            described.body.matches(&shown).count(),
            2,
            "{}",
            described.body
        );
    }
    for (rest, code) in [
        (String::new(), "InvalidParameterCombination"),
        (
            format!("InstanceId.1={TERMINATED}"),
            "IncorrectInstanceState",
        ),
        (
            format!("InstanceId.1={RUNNING}&DryRun=true"),
            "DryRunOperation",
        ),
        (
            "InstanceId.1=i-aaaaaaaa".into(),
            "InvalidInstanceID.NotFound",
        ),
    ] {
        let answer = call(&control, "MonitorInstances", &rest).await;
        assert_eq!(answer.code(), code, "{rest}");
    }
    assert!(
        !describe(&control, "")
            .await
            .body
            .contains("<state>enabled</state></monitoring>")
    );
}
