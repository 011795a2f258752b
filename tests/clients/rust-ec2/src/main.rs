//! Reports how the AWS SDK for Rust reads the EC2 API's replies, as one JSON object:
//! `imdsd-client-tests-rust-ec2 ENDPOINT INSTANCE`.
//!
//! It changes an option, reads it back, and makes two calls that must fail. The endpoint and the keys
//! (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY) belong to the test; no other source is searched.

use aws_credential_types::Credentials;
use aws_sdk_ec2::config::{BehaviorVersion, Region};
use aws_sdk_ec2::error::ProvideErrorMetadata;
use aws_sdk_ec2::types::{HttpTokensState, InstanceMetadataOptionsState};
use aws_sdk_ec2::{Client, Config};

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let [endpoint, instance] = [1, 2].map(|n| {
        std::env::args()
            .nth(n)
            .expect("arguments: ENDPOINT INSTANCE")
    });
    assert!(
        endpoint.starts_with("http://127.0.0.1:"),
        "the endpoint must be on loopback"
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
    let modified = modify(&instance, 7).await.expect("the change is accepted");
    let options = modified
        .instance_metadata_options()
        .expect("the reply has the options");
    assert_eq!(options.http_put_response_hop_limit(), Some(7));

    // Poll as Terraform does, until the sockets have the new options.
    let mut state = None;
    for _ in 0..100 {
        let described = ec2
            .describe_instances()
            .instance_ids(&instance)
            .send()
            .await
            .expect("the description is accepted");
        let options = described.reservations()[0].instances()[0]
            .metadata_options()
            .expect("the description has the options")
            .clone();
        assert_eq!(
            (options.http_put_response_hop_limit(), options.http_tokens()),
            (Some(7), Some(&HttpTokensState::Required))
        );
        state = options.state().cloned();
        if state == Some(InstanceMetadataOptionsState::Applied) {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    let out_of_range = modify(&instance, 65)
        .await
        .expect_err("a hop limit of 65 is out of range");
    let unknown = modify("i-00000000000000000", 1)
        .await
        .expect_err("the instance id is unknown");
    println!(
        "{}",
        serde_json::json!({
            "modified": modified.instance_id(),
            "state": state.map(|state| state.as_str().to_string()),
            "refused": [out_of_range.code(), unknown.code()],
        })
    );
}
