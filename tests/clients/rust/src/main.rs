//! Reports what the AWS SDK for Rust reads from the metadata service, as one JSON object.
//!
//! `aws-config` loads its defaults, as in every program that uses the SDK. The metadata address is
//! built into it, so this program runs only in a namespace where a test owns that address:
//! `IMDSD_TEST_NOT_IN` names the machine's own network namespace.

use aws_config::{BehaviorVersion, imds, provider_config::ProviderConfig};
use aws_credential_types::provider::ProvideCredentials as _;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let machine = std::env::var("IMDSD_TEST_NOT_IN").expect("a test sets IMDSD_TEST_NOT_IN");
    let here = std::fs::read_link("/proc/self/ns/net").expect("Linux has network namespaces");
    assert_ne!(
        here.to_str(),
        Some(machine.as_str()),
        "must not run in the machine's own network"
    );

    // The metadata service uses plain HTTP. A client without TLS builds in a fraction of the time.
    let http = aws_smithy_http_client::Builder::new().build_http();
    let config = aws_config::defaults(BehaviorVersion::latest())
        .http_client(http.clone())
        .load()
        .await;
    let chain = config
        .credentials_provider()
        .expect("the credential chain has providers");
    let credentials = chain
        .provide_credentials()
        .await
        .expect("the metadata service returns credentials");

    let client = imds::Client::builder()
        .configure(&ProviderConfig::without_region().with_http_client(http))
        .build();
    let instance_id = client
        .get("/latest/meta-data/instance-id")
        .await
        .expect("the metadata service returns an instance id");

    println!(
        "{}",
        serde_json::json!({
            "client": format!("aws-config {}", aws_config_version()),
            "region": config.region().map(AsRef::<str>::as_ref),
            "instance_id": instance_id.as_ref(),
            "access_key": credentials.access_key_id(),
            "found_by": format!("{credentials:?}").split("provider_name: \"").nth(1).and_then(|rest| rest.split('"').next()),
        })
    );
}

/// Returns the version that the manifest pins.
fn aws_config_version() -> &'static str {
    include_str!("../Cargo.toml")
        .split("\"=")
        .nth(1)
        .and_then(|rest| rest.split('"').next())
        .unwrap_or("?")
}
