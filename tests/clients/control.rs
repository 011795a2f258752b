//! The EC2 API as clients call it: every action by boto3, the AWS CLI and the JavaScript SDK, and
//! what they read.

use std::io::{BufRead as _, BufReader, Lines, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use serde_json::json;

use super::*;

/// A client that calls the API and returns the result, or the code of an error.
pub trait ApiClient {
    fn call(&mut self, service: &str, action: &str, input: &Value) -> Result<Value, String>;
}

/// A client program that reads one call for each line.
pub struct Script {
    child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl Script {
    fn start(mut command: Command, daemon: &Daemon) -> Script {
        let mut child = command
            .arg(format!("http://{}", daemon.control))
            .env("AWS_ACCESS_KEY_ID", ACCESS_KEY.0)
            .env("AWS_SECRET_ACCESS_KEY", ACCESS_KEY.1)
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the client runs");
        let (input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        Script {
            child,
            input,
            output: BufReader::new(output).lines(),
        }
    }
}

impl ApiClient for Script {
    fn call(&mut self, service: &str, action: &str, input: &Value) -> Result<Value, String> {
        let line = json!({ "service": service, "action": action, "input": input });
        writeln!(self.input, "{line}").unwrap();
        let answer = self
            .output
            .next()
            .unwrap_or_else(|| panic!("{action}: the client ended"))
            .unwrap();
        let mut answer: Value = serde_json::from_str(&answer).unwrap();
        match answer["error"].as_str() {
            Some(code) => Err(code.to_string()),
            None => Ok(answer["result"].take()),
        }
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Returns boto3, which calls the daemon.
pub fn boto3(daemon: &Daemon) -> Script {
    let mut command = client(venv_python(), daemon);
    command.arg(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/clients/control_boto3.py"
    ));
    Script::start(command, daemon)
}

/// `aws SERVICE ACTION --cli-input-json …`, one process for each call.
struct Cli<'d>(&'d Daemon);

impl ApiClient for Cli<'_> {
    fn call(&mut self, service: &str, action: &str, input: &Value) -> Result<Value, String> {
        let aws = venv_python().with_file_name("aws");
        let mut command = client(aws, self.0);
        command
            .env("AWS_ACCESS_KEY_ID", ACCESS_KEY.0)
            .env("AWS_SECRET_ACCESS_KEY", ACCESS_KEY.1)
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .args([
                service,
                &kebab(action),
                "--cli-input-json",
                &input.to_string(),
            ])
            .args([
                "--output",
                "json",
                "--region",
                "us-east-1",
                "--endpoint-url",
            ])
            .arg(format!("http://{}", self.0.control));
        let printed = output(&mut command);
        if printed.status.success() {
            // The AWS CLI prints nothing for a result without data.
            return Ok(serde_json::from_slice(&printed.stdout).unwrap_or(Value::Null));
        }
        let words = String::from_utf8_lossy(&printed.stderr).into_owned();
        let code = words
            .split_once("error occurred (")
            .and_then(|(_, rest)| rest.split_once(')'));
        Err(code.map_or_else(|| panic!("{action}: {words}"), |(code, _)| code.to_string()))
    }
}

/// Returns an action's name as the AWS CLI spells it: `SendSSHPublicKey` as `send-ssh-public-key`.
fn kebab(action: &str) -> String {
    let letters: Vec<char> = action.chars().collect();
    let mut text = String::new();
    for (place, letter) in letters.iter().enumerate() {
        let before = place.checked_sub(1).map(|place| letters[place]);
        let after = letters.get(place + 1);
        let begins = before.is_some_and(char::is_lowercase)
            || before.is_some() && after.is_some_and(|after| after.is_lowercase());
        if letter.is_uppercase() && begins {
            text.push('-');
        }
        text.extend(letter.to_lowercase());
    }
    text
}

const KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGVjMi1pbnN0YW5jZS1jb25uZWN0LXRlc3Qta2V5LTAx ops@example";
const EVENT: &str = "instance-event-0d59937288b749b32";

/// Returns the time this many days ahead.
fn ahead(days: i64) -> String {
    let time = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(24 * days);
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn with_an_event(instance: &mut Value) {
    instance["Imds"]["Events"] = json!({ "Maintenance": [{
        "EventId": EVENT, "Code": "system-reboot", "Description": "scheduled reboot",
        "NotBefore": ahead(2), "NotAfter": ahead(3), "NotBeforeDeadline": ahead(9)
    }]});
}

/// Service, action, input, and the value that the client must read at a JSON pointer of the result.
pub type Call = (&'static str, &'static str, Value, &'static str, Value);

/// Every action of the endpoint except those of [`every_list`]: service, action, input, and the value that the client must read at
/// a JSON pointer of the result.
fn every_action(launched: &str) -> Vec<Call> {
    let launch = json!({
        "ImageId": "ami-0123456789abcdef0", "MinCount": 1, "MaxCount": 1, "InstanceType": "m7i.large",
        "MetadataOptions": {"InstanceMetadataTags": "enabled"},
        "TagSpecifications": [{"ResourceType": "instance", "Tags": [{"Key": "Name", "Value": "from a client"}]}]
    });
    let of =
        json!([{"Name": "resource-id", "Values": [launched]}, {"Name": "key", "Values": ["Team"]}]);
    vec![
        (
            "sts",
            "GetCallerIdentity",
            json!({}),
            "/Account",
            json!("000000000000"),
        ),
        (
            "ec2",
            "DescribeRegions",
            json!({}),
            "/Regions/0/RegionName",
            json!("us-east-1"),
        ),
        (
            "ec2",
            "DescribeAvailabilityZones",
            json!({}),
            "/AvailabilityZones/0/ZoneName",
            json!("us-east-1a"),
        ),
        (
            "ec2",
            "ModifyInstanceMetadataDefaults",
            json!({"HttpTokens": "required", "HttpPutResponseHopLimit": 3}),
            "/Return",
            json!(true),
        ),
        (
            "ec2",
            "GetInstanceMetadataDefaults",
            json!({}),
            "/AccountLevel/HttpPutResponseHopLimit",
            json!(3),
        ),
        (
            "ec2",
            "RunInstances",
            launch,
            "/Instances/0/MetadataOptions/HttpPutResponseHopLimit",
            json!(3),
        ),
        (
            "ec2",
            "DescribeInstances",
            json!({"InstanceIds": [launched]}),
            "/Reservations/0/Instances/0/State/Name",
            json!("running"),
        ),
        (
            "ec2",
            "DescribeImages",
            json!({"ImageIds": ["ami-0123456789abcdef0"], "Owners": ["self"]}),
            "/Images/0/ImdsSupport",
            json!("v2.0"),
        ),
        (
            "ec2",
            "DescribeImageAttribute",
            json!({"ImageId": "ami-0123456789abcdef0", "Attribute": "imdsSupport"}),
            "/ImdsSupport/Value",
            json!("v2.0"),
        ),
        (
            "ec2",
            "ModifyImageAttribute",
            json!({"ImageId": "ami-0123456789abcdef0", "ImdsSupport": {"Value": "v2.0"}}),
            "",
            json!(null),
        ),
        (
            "ec2",
            "ResetImageAttribute",
            json!({"ImageId": "ami-0123456789abcdef0", "Attribute": "launchPermission"}),
            "",
            json!(null),
        ),
        (
            "ec2",
            "CreateTags",
            json!({"Resources": [launched], "Tags": [{"Key": "Team", "Value": "ops"}]}),
            "",
            json!(null),
        ),
        (
            "ec2",
            "DescribeTags",
            json!({ "Filters": of }),
            "/Tags/0/Value",
            json!("ops"),
        ),
        (
            "ec2",
            "DeleteTags",
            json!({"Resources": [launched], "Tags": [{"Key": "Team"}]}),
            "",
            json!(null),
        ),
        (
            "ec2",
            "DescribeTags",
            json!({ "Filters": of }),
            "/Tags",
            json!([]),
        ),
        (
            "ec2",
            "ModifyInstanceMetadataOptions",
            json!({"InstanceId": launched, "HttpTokens": "optional"}),
            "/InstanceMetadataOptions/HttpTokens",
            json!("optional"),
        ),
        (
            "ec2",
            "StopInstances",
            json!({"InstanceIds": [launched]}),
            "/StoppingInstances/0/CurrentState/Name",
            json!("stopping"),
        ),
        (
            "ec2",
            "ModifyInstanceAttribute",
            json!({"InstanceId": launched, "DisableApiStop": {"Value": true}}),
            "",
            json!(null),
        ),
        (
            "ec2",
            "DescribeInstanceAttribute",
            json!({"InstanceId": launched, "Attribute": "disableApiStop"}),
            "/DisableApiStop/Value",
            json!(true),
        ),
        // Stop protection refuses a termination, too.
        (
            "ec2",
            "ModifyInstanceAttribute",
            json!({"InstanceId": launched, "DisableApiStop": {"Value": false}}),
            "",
            json!(null),
        ),
        (
            "ec2",
            "StartInstances",
            json!({"InstanceIds": [launched]}),
            "/StartingInstances/0/PreviousState/Name",
            json!("stopped"),
        ),
        (
            "ec2",
            "RebootInstances",
            json!({"InstanceIds": [launched]}),
            "",
            json!(null),
        ),
        (
            "ec2",
            "DescribeInstanceStatus",
            json!({"InstanceIds": [INSTANCE]}),
            "/InstanceStatuses/0/Events/0/InstanceEventId",
            json!(EVENT),
        ),
        (
            "ec2",
            "ModifyInstanceEventStartTime",
            json!({"InstanceId": INSTANCE, "InstanceEventId": EVENT, "NotBefore": ahead(4)}),
            "/Event/Code",
            json!("system-reboot"),
        ),
        (
            "ec2-instance-connect",
            "SendSSHPublicKey",
            json!({"InstanceId": INSTANCE, "InstanceOSUser": "ops", "SSHPublicKey": KEY}),
            "/Success",
            json!(true),
        ),
        (
            "ec2",
            "TerminateInstances",
            json!({"InstanceIds": [launched]}),
            "/TerminatingInstances/0/CurrentState/Name",
            json!("shutting-down"),
        ),
    ]
}

/// The lists of what instances refer to, and the actions that are like others: the same as
/// [`every_action`] for the demo instance. The AWS CLI reads replies as boto3 does, and each of its
/// calls takes a second, so it does not call these.
fn every_list() -> Vec<Call> {
    vec![
        (
            "ec2",
            "DescribeAccountAttributes",
            json!({"AttributeNames": ["supported-platforms"]}),
            "/AccountAttributes/0/AttributeValues/0/AttributeValue",
            json!("VPC"),
        ),
        (
            "ec2",
            "DescribeAddresses",
            json!({}),
            "/Addresses",
            json!([]),
        ),
        (
            "ec2",
            "DescribeIamInstanceProfileAssociations",
            json!({}),
            "/IamInstanceProfileAssociations/0/InstanceId",
            json!(INSTANCE),
        ),
        (
            "ec2",
            "DescribeInstanceCreditSpecifications",
            json!({}),
            "/InstanceCreditSpecifications",
            json!([]),
        ),
        (
            "ec2",
            "DescribeInstanceTopology",
            json!({}),
            "/Instances",
            json!([]),
        ),
        (
            "ec2",
            "DescribeInstanceTypes",
            json!({"InstanceTypes": ["m7i.large"]}),
            "/InstanceTypes/0/MemoryInfo/SizeInMiB",
            json!(8192),
        ),
        (
            "ec2",
            "DescribeKeyPairs",
            json!({}),
            "/KeyPairs/0/KeyName",
            json!("demo"),
        ),
        (
            "ec2",
            "DescribeLaunchTemplates",
            json!({}),
            "/LaunchTemplates",
            json!([]),
        ),
        (
            "ec2",
            "DescribeNetworkInterfaces",
            json!({}),
            "/NetworkInterfaces/0/Attachment/InstanceId",
            json!(INSTANCE),
        ),
        (
            "ec2",
            "DescribeSecurityGroups",
            json!({}),
            "/SecurityGroups/0/GroupName",
            json!("demo"),
        ),
        (
            "ec2",
            "DescribeSubnets",
            json!({}),
            "/Subnets/0/CidrBlock",
            json!("10.0.0.0/24"),
        ),
        (
            "ec2",
            "DescribeVolumes",
            json!({}),
            "/Volumes/0/Attachments/0/Device",
            json!("/dev/xvda"),
        ),
        (
            "ec2",
            "DescribeVolumesModifications",
            json!({}),
            "/VolumesModifications",
            json!([]),
        ),
        (
            "ec2",
            "DescribeVpcs",
            json!({}),
            "/Vpcs/0/CidrBlockAssociationSet/0/CidrBlock",
            json!("10.0.0.0/16"),
        ),
        (
            "ec2",
            "DescribeVpcAttribute",
            json!({"VpcId": "vpc-0123456789abcdef0", "Attribute": "enableDnsSupport"}),
            "/EnableDnsSupport/Value",
            json!(true),
        ),
        (
            "ec2",
            "MonitorInstances",
            json!({"InstanceIds": [INSTANCE]}),
            "/InstanceMonitorings/0/Monitoring/State",
            json!("pending"),
        ),
        (
            "ec2",
            "UnmonitorInstances",
            json!({"InstanceIds": [INSTANCE]}),
            "/InstanceMonitorings/0/Monitoring/State",
            json!("disabling"),
        ),
    ]
}

/// Calls every list.
fn call_lists(calls: &mut dyn ApiClient) {
    for (service, action, input, pointer, expected) in every_list() {
        let result = calls.call(service, action, &input);
        let result = result.unwrap_or_else(|code| panic!("{action}: {code}"));
        let read = result.pointer(pointer);
        assert_eq!(read, Some(&expected), "{action}: {result}");
    }
}

/// Calls every action, and some that are refused; returns a line for each call.
fn call_everything(calls: &mut dyn ApiClient, daemon: &Daemon) -> Vec<String> {
    let mut read = Vec::new();
    // The id is known only after the launch.
    let mut launched = String::from("i-00000000");
    for place in 0..every_action(&launched).len() {
        let (service, action, input, pointer, expected) =
            every_action(&launched).swap_remove(place);
        let result = calls.call(service, action, &input);
        let result = result.unwrap_or_else(|code| panic!("{action}: {code}"));
        // Clients show a result without data in different ways.
        if !pointer.is_empty() {
            assert_eq!(
                result.pointer(pointer),
                Some(&expected),
                "{action}: {result}"
            );
        }
        if action == "RunInstances" {
            launched = result["Instances"][0]["InstanceId"]
                .as_str()
                .unwrap()
                .to_string();
        }
        read.push(format!("{service}:{action}"));
    }
    // The guest reads the key that was sent.
    let path = "/latest/meta-data/managed-ssh-keys/active-keys/ops";
    let shown = daemon.get_with(path, &daemon.token());
    assert!(
        shown.status == 200 && shown.body.contains(KEY),
        "{}",
        shown.body
    );

    for (service, action, input, code) in [
        (
            "ec2",
            "DescribeInstances",
            json!({"InstanceIds": ["i-00000000"]}),
            "InvalidInstanceID.NotFound",
        ),
        (
            "ec2",
            "StopInstances",
            json!({"InstanceIds": [INSTANCE], "DryRun": true}),
            "DryRunOperation",
        ),
        (
            "ec2",
            "StartInstances",
            json!({"InstanceIds": [launched]}),
            "IncorrectInstanceState",
        ),
        (
            "ec2",
            "ModifyInstanceMetadataOptions",
            json!({"InstanceId": INSTANCE, "HttpTokens": "bogus"}),
            "InvalidParameterValue",
        ),
        (
            "ec2",
            "CreateTags",
            json!({"Resources": ["vol-1"], "Tags": [{"Key": "a", "Value": "b"}]}),
            "InvalidID",
        ),
        ("ec2", "DescribeVpnGateways", json!({}), "InvalidAction"),
        (
            "ec2-instance-connect",
            "SendSSHPublicKey",
            json!({"InstanceId": launched, "InstanceOSUser": "ops", "SSHPublicKey": KEY}),
            "EC2InstanceStateInvalidException",
        ),
    ] {
        assert_eq!(
            calls.call(service, action, &input),
            Err(code.to_string()),
            "{action}"
        );
        read.push(format!("{service}:{action} refused: {code}"));
    }
    read
}

#[test]
#[ignore = "needs .venv with boto3; tests/all runs it"]
fn every_action_is_called_by_boto3_and_its_waiters_end() {
    let daemon = Daemon::start(with_an_event);
    let mut boto3 = boto3(&daemon);
    call_lists(&mut boto3);
    let rows = call_everything(&mut boto3, &daemon);
    println!("boto3: {} calls\n{}", rows.len(), rows.join("\n"));

    let ids = json!({ "InstanceIds": [INSTANCE] });
    for (action, waiter) in [
        ("StopInstances", "wait:instance_stopped"),
        ("StartInstances", "wait:instance_running"),
        ("RebootInstances", "wait:instance_status_ok"),
        ("TerminateInstances", "wait:instance_terminated"),
    ] {
        boto3
            .call("ec2", action, &ids)
            .unwrap_or_else(|code| panic!("{action}: {code}"));
        boto3
            .call("ec2", waiter, &ids)
            .unwrap_or_else(|code| panic!("{waiter}: {code}"));
    }
}

#[test]
#[ignore = "needs .venv with the AWS CLI; tests/all runs it"]
fn every_action_is_called_by_the_aws_cli() {
    venv_python();
    let daemon = Daemon::start(with_an_event);
    let rows = call_everything(&mut Cli(&daemon), &daemon);
    println!("AWS CLI: {} calls\n{}", rows.len(), rows.join("\n"));
}

#[test]
#[ignore = "needs node_modules; tests/all runs it"]
fn every_action_is_called_by_the_javascript_sdk() {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/javascript");
    let sdk = Path::new(directory).join("node_modules/@aws-sdk/client-ec2");
    support::require(
        sdk.exists(),
        "@aws-sdk/client-ec2 in tests/clients/javascript",
    );
    // Version 2 is the one that does not sign content-type.
    for script in ["control.mjs", "control_v2.mjs"] {
        let daemon = Daemon::start(with_an_event);
        let mut command = client("node".into(), &daemon);
        command.arg(format!("{directory}/{script}"));
        let mut sdk = Script::start(command, &daemon);
        call_lists(&mut sdk);
        let rows = call_everything(&mut sdk, &daemon);
        println!("{script}: {} calls\n{}", rows.len(), rows.join("\n"));
    }
}

/// A stopped instance serves no guest, and its tokens from before the stop are invalid after the
/// start.
#[test]
fn a_stopped_instance_answers_no_guest_and_its_tokens_end_with_the_launch() {
    let daemon = Daemon::start(|_| {});
    let token = daemon.token();
    let path = "/latest/meta-data/instance-id";
    let change = |action: &str| {
        let answer = support::call(daemon.control, action, &[("InstanceId.1", INSTANCE)]).unwrap();
        assert_eq!(answer.status, 200, "{action}: {}", answer.body);
    };
    change("RebootInstances");
    assert_eq!(
        daemon.get_with(path, &token).status,
        200,
        "a reboot is not a launch"
    );
    change("StopInstances");
    // The listener closes when the change is applied; until then, it serves no request.
    let deadline = Instant::now() + PATIENCE;
    while let Ok(stream) = TcpStream::connect_timeout(&daemon.ipv4, PATIENCE) {
        drop(stream);
        assert!(Instant::now() < deadline, "the listener is still open");
    }
    change("StartInstances");
    while TcpStream::connect_timeout(&daemon.ipv4, PATIENCE).is_err() {
        assert!(Instant::now() < deadline, "the listener is not open");
    }
    assert_eq!(daemon.get_with(path, &token).status, 401);
    assert_eq!(daemon.get_with(path, &daemon.token()).status, 200);
    change("TerminateInstances");
    assert_eq!(daemon.get_with(path, &token).status, 0, "no reply at all");
}
