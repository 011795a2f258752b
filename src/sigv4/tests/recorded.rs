//! Requests that the AWS CLI (1.46.3), the SDK for JavaScript (v3) and boto3 (1.44.5) sent to a
//! listener on loopback with the key of these tests. Header fields that are not signed are omitted.

use super::*;

struct Recorded {
    service: &'static str,
    session_token: Option<&'static str>,
    request: &'static str,
    /// SignedHeaders and the signature.
    signed: (&'static str, &'static str),
}

const REQUESTS: [Recorded; 4] = [
    // AWS CLI: a session token and a value that needs escapes.
    Recorded {
        service: "ec2",
        session_token: Some(TOKEN),
        request: "POST / HTTP/1.1\nContent-Type:application/x-www-form-urlencoded; charset=utf-8\nHost:127.0.0.1:18977\n\
            X-Amz-Date:20261123T231942Z\nX-Amz-Security-Token:imdsd-test-session-token//with+signs==\n\n\
            Action=CreateTags&Version=2016-11-15&ResourceId.1=i-0123456789abcdef0&Tag.1.Key=Name\
            &Tag.1.Value=a+b%2F%C3%BC%2A~",
        signed: (
            "content-type;host;x-amz-date;x-amz-security-token",
            "3b828c402a6679e914963fc7b67b1c032e072d5ecbad7739a242409fc77727ad",
        ),
    },
    // AWS CLI: STS.
    Recorded {
        service: "sts",
        session_token: None,
        request: "POST / HTTP/1.1\nContent-Type:application/x-www-form-urlencoded; charset=utf-8\nHost:127.0.0.1:18977\n\
            X-Amz-Date:20261123T231945Z\n\nAction=GetCallerIdentity&Version=2011-06-15",
        signed: (
            "content-type;host;x-amz-date",
            "3036fc65d14f389fc6479c5688a61b71ee705d742cff0c4e995876e5a75f8c6b",
        ),
    },
    // JavaScript: it signs nearly every field, including the hash of the body.
    Recorded {
        service: "ec2",
        session_token: None,
        request: "POST / HTTP/1.1\namz-sdk-invocation-id:604f6043-6133-44b2-a3b2-212148b0e676\n\
            amz-sdk-request:attempt=1; max=3\nContent-Length:115\nContent-Type:application/x-www-form-urlencoded\n\
            Host:127.0.0.1:18977\n\
            x-amz-content-sha256:33b0dae4c752bd1aa724962e050229863382bb6f64b3ac1fb71c11d21649b2e2\n\
            X-Amz-Date:20261123T231948Z\nx-amz-user-agent:aws-sdk-js/3.1168.0\n\n\
            Action=CreateTags&Version=2016-11-15&ResourceId.1=i-0123456789abcdef0&Tag.1.Key=Name\
            &Tag.1.Value=a%20b%2F%C3%BC%2A~",
        signed: (
            "amz-sdk-invocation-id;amz-sdk-request;content-length;content-type;host;x-amz-content-sha256;x-amz-date;\
             x-amz-user-agent",
            "1cc27419c833efb9bee0cc7984d6a40d65e951ebb0ffc434698573f43f615e1b",
        ),
    },
    // JavaScript: a JSON service with the action in a header field.
    Recorded {
        service: "ec2-instance-connect",
        session_token: None,
        request: "POST / HTTP/1.1\namz-sdk-invocation-id:a49f3aa3-0b50-4a8e-902b-3069e056bbf2\n\
            amz-sdk-request:attempt=1; max=3\nContent-Length:169\nContent-Type:application/x-amz-json-1.1\n\
            Host:127.0.0.1:18977\n\
            x-amz-content-sha256:36d6c520631fb1956852a650f38116c667b6b51bff4cd3f43d4461b304bf40be\n\
            X-Amz-Date:20261123T231949Z\nx-amz-target:AWSEC2InstanceConnectService.SendSSHPublicKey\n\
            x-amz-user-agent:aws-sdk-js/3.1137.0\n\n\
            {\"InstanceId\":\"i-0123456789abcdef0\",\"InstanceOSUser\":\"ops\",\"SSHPublicKey\":\"ssh-ed25519 \
            AAAAC3NzaC1lZDI1NTE5AAAAIGVjMi1pbnN0YW5jZS1jb25uZWN0LXRlc3Qta2V5LTAx ops@example\"}",
        signed: (
            "amz-sdk-invocation-id;amz-sdk-request;content-length;content-type;host;x-amz-content-sha256;x-amz-date;\
             x-amz-target;x-amz-user-agent",
            "aa346b81f71386899fba9e359720a4a6c9e00181077acb6bfcecd20b2e9bce1b",
        ),
    },
];

#[test]
fn requests_that_the_aws_cli_and_javascript_signed_verify() {
    for Recorded {
        service,
        session_token,
        request,
        signed: (list, signature),
    } in REQUESTS
    {
        let mut sent = Sent::read(request);
        let scope = format!("20261123/us-east-1/{service}/aws4_request");
        let authorization = format!(
            "AWS4-HMAC-SHA256 Credential={ID}/{scope}, SignedHeaders={list}, Signature={signature}"
        );
        sent.set("authorization", &authorization);
        let result = |sent: &Sent, token| {
            check(
                sent,
                &key(ID, SECRET, token),
                ["us-east-1", service],
                "2026-11-23T23:20:00Z",
            )
        };
        assert_eq!(
            result(&sent, session_token).map(|signer| signer.service),
            Ok(service.into()),
            "{request}"
        );
        sent.body.push(b' ');
        assert!(result(&sent, session_token).is_err(), "{request}");
    }
}

/// boto3 1.44.5: metadata options; a session token; a UTF-8 filter; a path in the endpoint;
/// presigned as GET; presigned as POST with a session token.
#[test]
fn requests_that_boto3_signed_verify() {
    let token = TOKEN
        .replace('/', "%2F")
        .replace('+', "%2B")
        .replace('=', "%3D");
    let presigned_query = |expires: &str, rest: &str| {
        format!(
            "Action=DescribeInstances&Version=2016-11-15&InstanceId.1=i-0123456789abcdef0&Filter.1.Name=tag%3AName\
             &Filter.1.Value.1=a%20b%2F%C3%BC&X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={ID}%2F20260501\
             %2Fus-east-1%2Fec2%2Faws4_request&X-Amz-Date=20260501T120000Z&X-Amz-Expires={expires}\
             &X-Amz-SignedHeaders=host{rest}"
        )
    };
    let get = presigned_query(
        "300",
        "&X-Amz-Signature=b939af30cb7893d8ef080ddc6c3c681b2551dd3fb2d1adda22ab4d7ff18feef6",
    );
    let post = presigned_query(
        "604800",
        &format!(
            "&X-Amz-Security-Token={token}\
             &X-Amz-Signature=f757a72eae2740ac7a6d7f19e1f4f7a3ba241a404c6c9e42b2033d81728e0ea6"
        ),
    );
    for (target, host, signature, token, body) in [
        (
            "POST /",
            "127.0.0.1:1339",
            "b7687b32e78ac892875b1e795f3157f177f4e8520d6917b397c009fc9a294786",
            None,
            "Action=ModifyInstanceMetadataOptions&Version=2016-11-15&InstanceId=i-0123456789abcdef0&HttpTokens=required\
             &HttpPutResponseHopLimit=2&HttpEndpoint=enabled",
        ),
        (
            "POST /",
            "127.0.0.1:1339",
            "2c813eca43621501afc069d145e40900e81057a9a469d3cf619427375a8e2ce5",
            Some(TOKEN),
            "Action=DescribeInstances&Version=2016-11-15&InstanceId.1=i-0123456789abcdef0&InstanceId.2=i-12345678",
        ),
        (
            "POST /",
            "127.0.0.1:1339",
            "e9e81c51d2b01881c3f758cf1fcb010d44cea5da1e57d2468aa1d11617f58e7f",
            None,
            "Action=DescribeInstances&Version=2016-11-15&Filter.1.Name=tag%3AName\
             &Filter.1.Value.1=Gr%C3%BC%C3%9Fe+aus+K%C3%B6ln%2F%C3%9F+%2A&Filter.1.Value.2=~%E1%88%B4",
        ),
        (
            "POST /ec2/v1",
            "imds.example:8080",
            "9f7a2b34f40804d6fe352af1775fb54a5504961a637ac41a7c0bbdfb7b577cf5",
            None,
            "Action=DescribeInstances&Version=2016-11-15&DryRun=false",
        ),
        (&format!("GET /?{get}"), "127.0.0.1:1339", "", None, ""),
        (
            &format!("POST /?{post}"),
            "127.0.0.1:1339",
            "",
            Some(TOKEN),
            "",
        ),
    ] {
        let mut sent = Sent::read(&format!("{target} HTTP/1.1\nHost:{host}\n\n{body}"));
        if !signature.is_empty() {
            sent.set(
                "content-type",
                "application/x-www-form-urlencoded; charset=utf-8",
            );
            sent.set("x-amz-date", DATE);
            sent.set("amz-sdk-request", "attempt=1; max=3");
            let mut list = "content-type;host;x-amz-date".to_string();
            if let Some(token) = token {
                sent.set("x-amz-security-token", token);
                list += ";x-amz-security-token";
            }
            let authorization = format!(
                "AWS4-HMAC-SHA256 Credential={ID}/{SCOPE}, SignedHeaders={list}, Signature={signature}"
            );
            sent.set("authorization", &authorization);
        }
        assert!(
            check_ours(&sent, token).is_ok(),
            "{target} {body}: {:?}",
            check_ours(&sent, token)
        );
    }
}
