//! The EC2 API returns what a document says: random instances of the shape in botocore's model.

use super::*;

/// EC2's type Instance: <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_Instance.html>
#[test]
#[ignore = "needs .venv with boto3 and the AWS CLI; tests/all runs it"]
fn a_document_of_any_shape_that_ec2_has_comes_back_equal() {
    let python = venv_python();
    let aws = python.with_file_name("aws");
    let daemon = Daemon::start(|_| {});
    let mut command = client(python, &daemon);
    let compared = output(
        command
            .arg(concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/tests/clients/records.py"
            ))
            .arg(format!("http://{}", daemon.control))
            .arg(env!("CARGO_BIN_EXE_imdsd"))
            .arg(aws)
            .arg(daemon.directory.path())
            .env("AWS_ACCESS_KEY_ID", ACCESS_KEY.0)
            .env("AWS_SECRET_ACCESS_KEY", ACCESS_KEY.1)
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env(
                "IMDSD_ADMIN_SOCKET",
                daemon.directory.path().join("run/admin.sock"),
            ),
    );
    assert!(
        compared.status.success(),
        "{}",
        String::from_utf8_lossy(&compared.stderr)
    );
    let compared: Value = serde_json::from_slice(&compared.stdout).unwrap();
    println!("{compared}");
    assert_eq!(compared["instances"], 36);
}
