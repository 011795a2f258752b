//! Terraform, Ansible and Apache Libcloud manage the instances of a daemon.

use serde_json::json;

use super::control::{ApiClient, Call, boto3};
use super::*;

/// The address of the one instance in the result of DescribeInstances.
macro_rules! of_instance {
    ($pointer:literal) => {
        concat!("/Reservations/0/Instances/0", $pointer)
    };
}

const VOLUME: &str = "vol-0123456789abcdef0";

/// The calls by which Terraform's `aws_instance` reads an instance with a volume and a burstable
/// type: with every plan, after every change, and for an import.
///
/// Source: `resourceInstanceRead` of the AWS provider.
#[rustfmt::skip]
fn terraform_reads(id: &str, tokens: &str, hops: u8) -> Vec<Call> {
    let attribute = |name: &str| json!({"InstanceId": id, "Attribute": name});
    let ids = || json!({ "InstanceIds": [id] });
    let template = json!({"Filters": [
        {"Name": "resource-id", "Values": [id]}, {"Name": "key", "Values": ["aws:ec2launchtemplate:id"]}
    ]});
    vec![
        ("sts", "GetCallerIdentity", json!({}), "/Account", json!("000000000000")),
        ("ec2", "DescribeInstances", ids(), of_instance!("/MetadataOptions/HttpTokens"), json!(tokens)),
        ("ec2", "DescribeInstances", ids(), of_instance!("/MetadataOptions/HttpPutResponseHopLimit"), json!(hops)),
        ("ec2", "DescribeInstances", ids(), of_instance!("/BlockDeviceMappings/0/Ebs/VolumeId"), json!(VOLUME)),
        ("ec2", "DescribeInstanceTypes", json!({"InstanceTypes": ["t3.micro"]}), "/InstanceTypes/0/BurstablePerformanceSupported", json!(true)),
        ("ec2", "DescribeTags", template, "/Tags", json!([])),
        ("ec2", "DescribeVpcs", json!({"VpcIds": ["vpc-0123456789abcdef0"]}), "/Vpcs/0/IsDefault", json!(false)),
        ("ec2", "DescribeInstanceAttribute", attribute("instanceInitiatedShutdownBehavior"), "/InstanceInitiatedShutdownBehavior/Value", json!("stop")),
        ("ec2", "DescribeVolumes", json!({"VolumeIds": [VOLUME]}), "/Volumes/0/Attachments/0/InstanceId", json!(id)),
        ("ec2", "DescribeVolumes", json!({"Filters": [{"Name": "attachment.instance-id", "Values": [id]}]}), "/Volumes/0/VolumeId", json!(VOLUME)),
        ("ec2", "DescribeTags", json!({"Filters": [{"Name": "resource-id", "Values": [VOLUME]}]}), "/Tags", json!([])),
        ("ec2", "DescribeInstanceAttribute", attribute("disableApiStop"), "/DisableApiStop/Value", json!(false)),
        ("ec2", "DescribeInstanceAttribute", attribute("disableApiTermination"), "/DisableApiTermination/Value", json!(false)),
        ("ec2", "DescribeInstanceAttribute", attribute("userData"), "/InstanceId", json!(id)),
        ("ec2", "DescribeInstanceCreditSpecifications", ids(), "/InstanceCreditSpecifications/0/CpuCredits", json!("unlimited")),
    ]
}

/// The calls by which it changes `metadata_options`.
#[rustfmt::skip]
fn terraform_changes_options(id: &str) -> Vec<Call> {
    let options = json!({
        "InstanceId": id, "HttpEndpoint": "enabled", "HttpPutResponseHopLimit": 5, "HttpTokens": "optional",
        "InstanceMetadataTags": "disabled"
    });
    vec![
        ("ec2", "ModifyInstanceMetadataOptions", options, "/InstanceMetadataOptions/HttpTokens", json!("optional")),
        // It waits for this state; `apply` asks until it is there.
        ("ec2", "DescribeInstances", json!({ "InstanceIds": [id] }), of_instance!("/MetadataOptions/State"), json!("applied")),
    ]
}

/// The calls by which it changes other arguments in place. User data needs a stop and a start.
#[rustfmt::skip]
fn terraform_changes_attributes(id: &str) -> Vec<Call> {
    let modify = |name: &str, value: Value| {
        let mut input = json!({ "InstanceId": id });
        input[name] = json!({ "Value": value });
        ("ec2", "ModifyInstanceAttribute", input, "", json!(null))
    };
    let attribute = |name: &str| json!({"InstanceId": id, "Attribute": name});
    let ids = || json!({ "InstanceIds": [id] });
    vec![
        modify("SourceDestCheck", json!(false)),
        ("ec2", "DescribeInstances", ids(), of_instance!("/SourceDestCheck"), json!(false)),
        ("ec2", "DescribeInstances", ids(), of_instance!("/NetworkInterfaces/0/SourceDestCheck"), json!(false)),
        modify("InstanceInitiatedShutdownBehavior", json!("terminate")),
        ("ec2", "DescribeInstanceAttribute", attribute("instanceInitiatedShutdownBehavior"), "/InstanceInitiatedShutdownBehavior/Value", json!("terminate")),
        modify("DisableApiStop", json!(true)),
        modify("DisableApiTermination", json!(true)),
        ("ec2", "DescribeInstanceAttribute", attribute("disableApiTermination"), "/DisableApiTermination/Value", json!(true)),
        modify("DisableApiTermination", json!(false)),
        modify("DisableApiStop", json!(false)),
        ("ec2", "MonitorInstances", ids(), "/InstanceMonitorings/0/Monitoring/State", json!("pending")),
        ("ec2", "DescribeInstances", ids(), of_instance!("/Monitoring/State"), json!("enabled")),
        ("ec2", "UnmonitorInstances", ids(), "/InstanceMonitorings/0/Monitoring/State", json!("disabling")),
        ("ec2", "DescribeIamInstanceProfileAssociations", json!({"Filters": [{"Name": "instance-id", "Values": [id]}]}),
            "/IamInstanceProfileAssociations/0/State", json!("associated")),
        ("ec2", "StopInstances", ids(), "/StoppingInstances/0/CurrentState/Name", json!("stopping")),
        ("ec2", "DescribeInstances", ids(), of_instance!("/State/Name"), json!("stopped")),
        modify("UserData", json!("#!/bin/sh\n")),
        modify("EbsOptimized", json!(true)),
        ("ec2", "StartInstances", ids(), "/StartingInstances/0/PreviousState/Name", json!("stopped")),
        ("ec2", "DescribeInstances", ids(), of_instance!("/State/Name"), json!("running")),
        ("ec2", "DescribeInstanceAttribute", attribute("userData"), "/UserData/Value", json!("IyEvYmluL3NoCg==")),
        ("ec2", "DescribeInstances", ids(), of_instance!("/EbsOptimized"), json!(true)),
        modify("InstanceInitiatedShutdownBehavior", json!("stop")),
    ]
}

/// The launch of an `aws_instance` whose configuration names most arguments.
fn terraform_launch() -> Value {
    json!({
        "ImageId": "ami-0123456789abcdef0", "InstanceType": "t3.micro", "MinCount": 1, "MaxCount": 1,
        "ClientToken": "terraform-20260501", "SubnetId": "subnet-0123456789abcdef0",
        "SecurityGroupIds": ["sg-0123456789abcdef0"], "KeyName": "demo", "EbsOptimized": true,
        "Monitoring": {"Enabled": false}, "DisableApiStop": false, "DisableApiTermination": false,
        "InstanceInitiatedShutdownBehavior": "stop", "IamInstanceProfile": {"Name": "demo-role"},
        "MetadataOptions": {
            "HttpEndpoint": "enabled", "HttpTokens": "required", "HttpPutResponseHopLimit": 2,
            "InstanceMetadataTags": "disabled"
        },
        "CreditSpecification": {"CpuCredits": "standard"}, "MaintenanceOptions": {"AutoRecovery": "default"},
        "CpuOptions": {"CoreCount": 1, "ThreadsPerCore": 2}, "EnclaveOptions": {"Enabled": false},
        "CapacityReservationSpecification": {"CapacityReservationPreference": "open"},
        "PrivateDnsNameOptions": {"HostnameType": "ip-name", "EnableResourceNameDnsARecord": false},
        "TagSpecifications": [
            {"ResourceType": "instance", "Tags": [{"Key": "Name", "Value": "web"}]},
            {"ResourceType": "volume", "Tags": [{"Key": "Name", "Value": "web"}]}
        ]
    })
}

/// Calls one after the other, each until it returns the expected value: some changes take a moment.
fn apply(client: &mut dyn ApiClient, calls: Vec<Call>) {
    for (service, action, input, pointer, expected) in calls {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let result = client
                .call(service, action, &input)
                .unwrap_or_else(|code| panic!("{action} {input}: {code}"));
            if pointer.is_empty() || result.pointer(pointer) == Some(&expected) {
                break;
            }
            let is_late = Instant::now() > deadline || action.starts_with("Modify");
            assert!(!is_late, "{action} {input}: {pointer} of {result:#}");
        }
    }
}

#[test]
#[ignore = "needs .venv with boto3; tests/all runs it"]
fn the_calls_of_terraforms_aws_instance_succeed() {
    let document = |instance: &mut Value| instance["InstanceType"] = "t3.micro".into();
    let daemon = Daemon::start(document);
    let mut client = boto3(&daemon);
    apply(&mut client, terraform_reads(INSTANCE, "required", 2));
    apply(&mut client, terraform_changes_options(INSTANCE));
    apply(&mut client, terraform_reads(INSTANCE, "optional", 5));
    apply(&mut client, terraform_changes_attributes(INSTANCE));
    apply(&mut client, terraform_reads(INSTANCE, "optional", 5));

    // A new instance: what the configuration says is what every later read says.
    let launched = client.call("ec2", "RunInstances", &terraform_launch());
    let launched = launched.unwrap_or_else(|code| panic!("RunInstances: {code}"));
    let id = launched["Instances"][0]["InstanceId"].as_str().unwrap();
    let ids = || json!({ "InstanceIds": [id] });
    #[rustfmt::skip]
    apply(&mut client, vec![
        ("ec2", "DescribeInstances", ids(), of_instance!("/State/Name"), json!("running")),
        ("ec2", "DescribeInstances", ids(), of_instance!("/EbsOptimized"), json!(true)),
        ("ec2", "DescribeInstances", ids(), of_instance!("/CpuOptions"), json!({"CoreCount": 1, "ThreadsPerCore": 2})),
        ("ec2", "DescribeInstances", ids(), of_instance!("/MaintenanceOptions/AutoRecovery"), json!("default")),
        ("ec2", "DescribeInstances", ids(), of_instance!("/PrivateDnsNameOptions/HostnameType"), json!("ip-name")),
        ("ec2", "DescribeInstances", ids(), of_instance!("/CapacityReservationSpecification/CapacityReservationPreference"), json!("open")),
        ("ec2", "DescribeInstanceCreditSpecifications", ids(), "/InstanceCreditSpecifications/0/CpuCredits", json!("standard")),
        ("ec2", "TerminateInstances", ids(), "/TerminatingInstances/0/CurrentState/Name", json!("shutting-down")),
        ("ec2", "DescribeInstances", ids(), of_instance!("/State/Name"), json!("terminated")),
    ]);
}

#[test]
#[ignore = "needs .venv with Ansible; tests/all runs it"]
fn ansible_launches_tags_changes_and_terminates_instances() {
    let ansible = venv_python().with_file_name("ansible-playbook");
    let collections = Path::new(env!("CARGO_MANIFEST_DIR")).join(".venv/collections");
    support::require(
        ansible.exists() && collections.join("ansible_collections/amazon/aws").exists(),
        "Ansible with amazon.aws in .venv",
    );
    let daemon = Daemon::start(|instance| instance["SourceDestCheck"] = true.into());
    let mut command = client(ansible, &daemon);
    let run = output(
        command
            .env("AWS_ACCESS_KEY_ID", ACCESS_KEY.0)
            .env("AWS_SECRET_ACCESS_KEY", ACCESS_KEY.1)
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env("EC2_URL", format!("http://{}", daemon.control))
            .env("INSTANCE", INSTANCE)
            .env("ANSIBLE_COLLECTIONS_PATH", &collections)
            .env("ANSIBLE_LOCALHOST_WARNING", "false")
            .env("ANSIBLE_NOCOLOR", "true")
            // Ansible refuses to run in another encoding.
            .env("LC_ALL", "C.UTF-8")
            .args(["-i", "localhost,"])
            .arg(concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/tests/clients/ansible.yml"
            )),
    );
    let printed = String::from_utf8_lossy(&run.stdout);
    assert!(
        run.status.success(),
        "{printed}\n{}",
        String::from_utf8_lossy(&run.stderr)
    );
    println!("{printed}");
    // The guest sees the tag that the playbook set, and needs a token to see it.
    let path = "/latest/meta-data/tags/instance/Team";
    assert_eq!(daemon.get(path).status, 401);
    assert_eq!(daemon.get_with(path, &daemon.token()).body, "ops");
}

#[test]
#[ignore = "needs .venv with Apache Libcloud; tests/all runs it"]
fn libcloud_lists_nodes_and_what_they_refer_to() {
    let python = venv_python();
    let daemon = Daemon::start(|_| {});
    let script = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/clients/libcloud_nodes.py"
    );
    let mut command = client(python, &daemon);
    let read = output(
        command
            .env("AWS_ACCESS_KEY_ID", ACCESS_KEY.0)
            .env("AWS_SECRET_ACCESS_KEY", ACCESS_KEY.1)
            .arg(script)
            .arg(daemon.control.ip().to_string())
            .arg(daemon.control.port().to_string()),
    );
    let read = read_by("libcloud", &read);
    println!("{read:#}");
    let node = &read["nodes"][0];
    for (field, expected) in [
        ("id", json!(INSTANCE)),
        ("name", json!("demo")),
        ("state", json!("running")),
        ("public", json!(["203.0.113.10"])),
        ("private", json!(["10.0.0.10"])),
        ("type", json!("m5.large")),
    ] {
        assert_eq!(node[field], expected, "{field}");
    }
    for (list, expected) in [
        ("zones", "us-east-1a"),
        ("key_pairs", "demo"),
        ("networks", "vpc-0123456789abcdef0"),
        ("subnets", "subnet-0123456789abcdef0"),
        ("groups", "sg-0123456789abcdef0"),
        ("interfaces", "eni-0123456789abcdef0"),
    ] {
        assert_eq!(read[list], json!([expected]), "{list}");
    }
}
