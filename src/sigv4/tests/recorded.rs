//! Requests as the AWS CLI (1.46.3) and the SDK for JavaScript (v3) sent them to a listener on loopback, with the key of
//! these tests. Fields that are not signed are left out.

use super::*;

struct Recorded {
    service: &'static str,
    session_token: Option<&'static str>,
    request: &'static str,
    /// SignedHeaders and the signature.
    signed: (&'static str, &'static str),
}

const REQUESTS: [Recorded; 4] = [
    // AWS CLI: a session token, and a value that has to be escaped.
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
    // JavaScript: it signs nearly everything, the hash of the body too.
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
    // JavaScript: a JSON service, whose action is in a header.
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
        let verdict = |sent: &Sent, token| {
            check(
                sent,
                &key(ID, SECRET, token),
                ["us-east-1", service],
                "2026-11-23T23:20:00Z",
            )
        };
        assert_eq!(
            verdict(&sent, session_token).map(|verified| verified.service),
            Ok(service.into()),
            "{request}"
        );
        sent.body.push(b' ');
        assert!(verdict(&sent, session_token).is_err(), "{request}");
    }
}
