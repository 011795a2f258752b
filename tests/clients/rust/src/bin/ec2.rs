//! What the AWS SDK for Rust makes of the EC2 API's answers, as one JSON object: `ec2 ENDPOINT INSTANCE`.
//!
//! It changes an option, reads it back, and is refused twice. The endpoint and the keys (AWS_ACCESS_KEY_ID and
//! AWS_SECRET_ACCESS_KEY) are the test's own: nothing is looked for anywhere else.

use aws_credential_types::Credentials;
use aws_sdk_ec2::config::{BehaviorVersion, Region};
use aws_sdk_ec2::error::ProvideErrorMetadata;
use aws_sdk_ec2::types::{HttpTokensState, InstanceMetadataOptionsState};
use aws_sdk_ec2::{Client, Config};

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let [endpoint, instance] =
        [1, 2].map(|n| std::env::args().nth(n).expect("ec2 ENDPOINT INSTANCE"));
    assert!(
        endpoint.starts_with("http://127.0.0.1:"),
        "the endpoint is a test's own"
    );
    let [id, secret] =
        ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"].map(|name| std::env::var(name).expect(name));
    let config = Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .endpoint_url(endpoint)
        .credentials_provider(Credentials::new(id, secret, None, None, "test"))
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .build();
    let ec2 = Client::from_conf(config);

    let modify = |instance: &str, limit: i32| {
        ec2.modify_instance_metadata_options()
            .instance_id(instance)
            .http_tokens(HttpTokensState::Required)
            .http_put_response_hop_limit(limit)
            .send()
    };
    let modified = modify(&instance, 7).await.expect("it is modified");
    let options = modified
        .instance_metadata_options()
        .expect("the options come back");
    assert_eq!(options.http_put_response_hop_limit(), Some(7));

    // As Terraform does: until the sockets carry it.
    let mut state = None;
    for _ in 0..100 {
        let described = ec2
            .describe_instances()
            .instance_ids(&instance)
            .send()
            .await
            .expect("it is described");
        let found = described.reservations()[0].instances()[0]
            .metadata_options()
            .expect("it has options")
            .clone();
        assert_eq!(
            (found.http_put_response_hop_limit(), found.http_tokens()),
            (Some(7), Some(&HttpTokensState::Required))
        );
        state = found.state().cloned();
        if state == Some(InstanceMetadataOptionsState::Applied) {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    let too_far = modify(&instance, 65)
        .await
        .expect_err("65 hops are too many");
    let nobody = modify("i-00000000000000000", 1)
        .await
        .expect_err("nobody has this id");
    println!(
        "{}",
        serde_json::json!({
            "modified": modified.instance_id(),
            "state": state.map(|state| state.as_str().to_string()),
            "refused": [too_far.code(), nobody.code()],
        })
    );
}
