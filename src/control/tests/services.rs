//! Three services on one port: each call must be signed for its service and gets a reply in that
//! service's format.

use super::*;

const STS_SCOPE: &str = "20260501/us-east-1/sts/aws4_request";
const CONNECT_SCOPE: &str = "20260501/us-east-1/ec2-instance-connect/aws4_request";
const KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGVjMi1pbnN0YW5jZS1jb25uZWN0LXRlc3Qta2V5LTAx ops@example";

/// Status, content type and body.
async fn exchange(control: &Control, sent: &Sent) -> (u16, String, String) {
    let (mut head, ()) = Request::builder()
        .method(sent.method.as_str())
        .uri(&sent.path)
        .body(())
        .unwrap()
        .into_parts();
    head.headers = sent.header_map();
    let (head, body) = control.answer(&head, &sent.body, now()).await.into_parts();
    assert!(head.headers.contains_key("x-amzn-requestid"));
    let content_type = head.headers["content-type"].to_str().unwrap().to_string();
    let body = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
    (head.status.as_u16(), content_type, body)
}

async fn signed_for(control: &Control, scope: &str, body: &str) -> (u16, String, String) {
    let mut sent = Sent::post(body);
    sign(&mut sent, ID, SECRET, DATE, scope);
    exchange(control, &sent).await
}

fn to_connect(target: &str, body: &str) -> Sent {
    let mut sent = Sent::post(body);
    sent.set("content-type", "application/x-amz-json-1.1");
    sent.set("x-amz-target", target);
    sent
}

async fn connect(control: &Control, target: &str, body: &Value) -> (u16, Value) {
    let mut sent = to_connect(
        &format!("AWSEC2InstanceConnectService.{target}"),
        &body.to_string(),
    );
    sign(&mut sent, ID, SECRET, DATE, CONNECT_SCOPE);
    let (status, content_type, body) = exchange(control, &sent).await;
    assert_eq!(content_type, "application/x-amz-json-1.1");
    (status, serde_json::from_str(&body).unwrap())
}

const IDENTITY: &str = "Action=GetCallerIdentity&Version=2011-06-15";

#[tokio::test]
async fn sts_returns_the_identity_of_the_key_without_any_permission() {
    let control = several().await;
    control.replace_keys(crate::control::access_keys::demo_with(
        crate::control::policy::read::policy(&[]),
    ));
    let (status, content_type, body) = signed_for(&control, STS_SCOPE, IDENTITY).await;
    assert_eq!((status, content_type.as_str()), (200, "text/xml"));
    let id = body
        .split_once("<RequestId>")
        .unwrap()
        .1
        .split_once('<')
        .unwrap()
        .0;
    let expected = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<GetCallerIdentityResponse \
         xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><GetCallerIdentityResult>\
         <Arn>arn:aws:iam::123456789012:user/{ID}</Arn><UserId>{ID}</UserId><Account>123456789012</Account>\
         </GetCallerIdentityResult><ResponseMetadata><RequestId>{id}</RequestId></ResponseMetadata>\
         </GetCallerIdentityResponse>"
    );
    assert_eq!(body, expected);
}

#[tokio::test]
async fn the_identity_has_the_partition_of_the_region() {
    let Control { registry, .. } = several().await;
    let control = Control::new(registry, AccessKeys::demo(), Regions::Any);
    for (region, partition) in [
        ("eu-west-1", "aws"),
        ("basement", "aws"),
        ("cn-northwest-1", "aws-cn"),
        ("us-gov-east-1", "aws-us-gov"),
        ("us-iso-west-1", "aws-iso"),
        ("us-isob-east-1", "aws-iso-b"),
        ("eu-isoe-west-1", "aws-iso-e"),
        ("us-isof-east-1", "aws-iso-f"),
        ("eusc-de-east-1", "aws-eusc"),
    ] {
        let scope = format!("20260501/{region}/sts/aws4_request");
        let (status, _, body) = signed_for(&control, &scope, IDENTITY).await;
        let arn = format!("<Arn>arn:{partition}:iam::123456789012:user/{ID}</Arn>");
        assert!(status == 200 && body.contains(&arn), "{region}: {body}");
    }
}

/// Rows of scope, call, status, code and format of the reply.
#[tokio::test]
async fn a_signature_for_one_service_is_invalid_for_another() {
    let control = several().await;
    let describe = "Action=DescribeInstances&Version=2016-11-15";
    let sts = "<ErrorResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><Error><Type>Sender</Type><Code>";
    let ec2 = "<Response><Errors><Error><Code>";
    for (scope, body, status, code, shape) in [
        (SCOPE, IDENTITY, 403, "SignatureDoesNotMatch", sts),
        (STS_SCOPE, describe, 403, "SignatureDoesNotMatch", ec2),
        (CONNECT_SCOPE, describe, 403, "SignatureDoesNotMatch", ec2),
        (CONNECT_SCOPE, IDENTITY, 403, "SignatureDoesNotMatch", sts),
        (
            "20260501/us-east-1/s3/aws4_request",
            describe,
            403,
            "SignatureDoesNotMatch",
            ec2,
        ),
        (
            STS_SCOPE,
            "Action=AssumeRole&Version=2011-06-15",
            400,
            "InvalidAction",
            sts,
        ),
        (
            STS_SCOPE,
            "Action=GetCallerIdentity&Version=2016-11-15",
            400,
            "InvalidAction",
            sts,
        ),
        (
            SCOPE,
            "Action=DescribeInstances&Version=2011-06-15",
            400,
            "InvalidAction",
            ec2,
        ),
        (
            SCOPE,
            "Action=SendSSHPublicKey&Version=2016-11-15",
            400,
            "InvalidAction",
            ec2,
        ),
        (
            STS_SCOPE,
            "Action=GetCallerIdentity&Version=2011-06-15&Foo=1",
            400,
            "UnknownParameter",
            sts,
        ),
        (STS_SCOPE, "", 400, "MissingAction", sts),
    ] {
        let (got, _, answer) = signed_for(&control, scope, body).await;
        assert_eq!(got, status, "{scope} {body}: {answer}");
        assert!(
            answer.contains(&format!("{shape}{code}</Code>")),
            "{scope} {body}: {answer}"
        );
    }
    // The JSON service, with both other scopes.
    let body =
        json!({"InstanceId": RUNNING, "InstanceOSUser": "ops", "SSHPublicKey": KEY}).to_string();
    for scope in [SCOPE, STS_SCOPE] {
        let mut sent = to_connect("AWSEC2InstanceConnectService.SendSSHPublicKey", &body);
        sign(&mut sent, ID, SECRET, DATE, scope);
        let (status, _, answer) = exchange(&control, &sent).await;
        assert_eq!(
            (status, answer.contains("InvalidSignatureException")),
            (403, true),
            "{answer}"
        );
    }
}

#[tokio::test]
async fn an_authentication_error_has_the_format_of_the_service() {
    let control = several().await;
    let mut sts = Sent::post(IDENTITY);
    sign(&mut sts, ID, "wrong", DATE, STS_SCOPE);
    let (status, _, body) = exchange(&control, &sts).await;
    assert_eq!(
        (status, body.contains("<Code>InvalidClientTokenId</Code>")),
        (403, true),
        "{body}"
    );
    let mut connect = to_connect("AWSEC2InstanceConnectService.SendSSHPublicKey", "{}");
    let (status, _, body) = exchange(&control, &connect).await;
    assert_eq!(
        (status, body.contains("MissingAuthenticationTokenException")),
        (400, true),
        "{body}"
    );
    sign(&mut connect, "AKIDNOBODY", SECRET, DATE, CONNECT_SCOPE);
    let (status, _, body) = exchange(&control, &connect).await;
    assert_eq!(
        (status, body.contains("UnrecognizedClientException")),
        (400, true),
        "{body}"
    );
    // The target defines the meaning of the body, so it must be signed.
    let mut unsigned = Sent::post(IDENTITY);
    sign(&mut unsigned, ID, SECRET, DATE, STS_SCOPE);
    unsigned.set(
        "x-amz-target",
        "AWSEC2InstanceConnectService.SendSSHPublicKey",
    );
    let (status, _, body) = exchange(&control, &unsigned).await;
    assert_eq!(
        (status, body.contains("InvalidSignatureException")),
        (400, true),
        "{body}"
    );
}

fn keys_of(control: &Control, id: &str) -> Vec<crate::instance::ManagedSshKey> {
    let snapshot = control.registry.snapshot();
    snapshot
        .entry(&InstanceId::parse(id).unwrap())
        .unwrap()
        .instance
        .imds
        .managed_ssh_keys
        .clone()
}

#[tokio::test]
async fn a_sent_key_is_valid_for_60_seconds() {
    let control = several().await;
    // The line end of a key file is not part of the key.
    let body = json!({"InstanceId": RUNNING, "InstanceOSUser": "ops", "SSHPublicKey": format!("{KEY}\n"),
        "AvailabilityZone": "us-east-1a"});
    let (status, answer) = connect(&control, "SendSSHPublicKey", &body).await;
    assert_eq!((status, &answer["Success"]), (200, &json!(true)));
    assert_eq!(answer["RequestId"].as_str().unwrap().len(), 36);
    let keys = keys_of(&control, RUNNING);
    assert_eq!(
        (
            keys[0].instance_os_user.as_str(),
            keys[0].ssh_public_key.as_str()
        ),
        ("ops", KEY)
    );
    assert_eq!(keys[0].expiration.to_string(), "2026-05-01T12:01:01Z");
}

#[tokio::test]
async fn an_invalid_key_is_refused_in_json() {
    let control = several().await;
    let good = json!({"InstanceId": RUNNING, "InstanceOSUser": "ops", "SSHPublicKey": KEY});
    let with = |field: &str, value: Value| {
        let mut body = good.clone();
        body[field] = value;
        body
    };
    let without = |field: &str| {
        let mut body = good.clone();
        body.as_object_mut().unwrap().remove(field);
        body
    };
    let arguments = "InvalidArgsException";
    for (target, body, exception) in [
        ("SendSSHPublicKey", without("InstanceId"), arguments),
        ("SendSSHPublicKey", without("InstanceOSUser"), arguments),
        ("SendSSHPublicKey", without("SSHPublicKey"), arguments),
        ("SendSSHPublicKey", json!([]), arguments),
        ("SendSSHPublicKey", with("Extra", json!(1)), arguments),
        (
            "SendSSHPublicKey",
            with("InstanceId", json!("web")),
            arguments,
        ),
        (
            "SendSSHPublicKey",
            with("InstanceOSUser", json!("")),
            arguments,
        ),
        (
            "SendSSHPublicKey",
            with("InstanceOSUser", json!("../root")),
            arguments,
        ),
        (
            "SendSSHPublicKey",
            with("InstanceOSUser", json!("u".repeat(33))),
            arguments,
        ),
        (
            "SendSSHPublicKey",
            with("SSHPublicKey", json!("ssh-ed25519 AAAA")),
            arguments,
        ),
        (
            "SendSSHPublicKey",
            with(
                "SSHPublicKey",
                json!(format!("{KEY}\ncommand=\"sh\" {KEY}")),
            ),
            arguments,
        ),
        (
            "SendSSHPublicKey",
            with("SSHPublicKey", json!(format!("command=\"sh\" {KEY}"))),
            arguments,
        ),
        (
            "SendSSHPublicKey",
            with("SSHPublicKey", json!(format!("{KEY}{}", "x".repeat(4_100)))),
            arguments,
        ),
        (
            "SendSSHPublicKey",
            with("InstanceId", json!("i-aaaaaaaa")),
            "EC2InstanceNotFoundException",
        ),
        (
            "SendSSHPublicKey",
            with("AvailabilityZone", json!("us-east-1b")),
            "EC2InstanceNotFoundException",
        ),
        (
            "SendSSHPublicKey",
            with("InstanceId", json!(STOPPED)),
            "EC2InstanceStateInvalidException",
        ),
        (
            "SendSSHPublicKey",
            with("InstanceId", json!(TERMINATED)),
            "EC2InstanceStateInvalidException",
        ),
        (
            "SendSSHPublicKey",
            with("InstanceId", json!(UNREADABLE)),
            "ServiceException",
        ),
        (
            "SendSerialConsoleSSHPublicKey",
            good.clone(),
            "UnknownOperationException",
        ),
        (
            "DescribeInstances",
            good.clone(),
            "UnknownOperationException",
        ),
    ] {
        let (status, answer) = connect(&control, target, &body).await;
        let expected = if exception == "ServiceException" {
            500
        } else {
            400
        };
        assert_eq!(
            (status, answer["__type"].as_str()),
            (expected, Some(exception)),
            "{target} {body}: {answer}"
        );
        let message = answer["Message"].as_str().unwrap_or_default();
        // The message names the parameter of the call, not the field of the document.
        assert!(
            !message.is_empty() && !message.contains("Imds."),
            "{message}"
        );
    }
    assert!(
        [RUNNING, STOPPED, TERMINATED]
            .iter()
            .all(|id| keys_of(&control, id).is_empty())
    );

    control.replace_keys(crate::control::access_keys::demo_with(
        crate::control::policy::read::policy(&[r#"{ effect = "allow", actions = ["ec2:*"] }"#]),
    ));
    let (status, answer) = connect(&control, "SendSSHPublicKey", &good).await;
    assert_eq!(
        (status, answer["__type"].as_str()),
        (403, Some("AuthException"))
    );
}
