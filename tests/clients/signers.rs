//! Clients that sign by themselves, and do not sign content-type: curl, aws4fetch,
//! aws-requests-auth. The AWS SDK for JavaScript v2 is in `control.rs`.

use super::*;

/// Returns the endpoint's URL with what follows its host.
fn url(daemon: &Daemon, rest: &str) -> String {
    format!("http://{}{rest}", daemon.control)
}

/// Returns a command of a client with the access key in its environment.
fn with_key(program: PathBuf, daemon: &Daemon) -> Command {
    let mut command = client(program, daemon);
    command
        .env("AWS_ACCESS_KEY_ID", ACCESS_KEY.0)
        .env("AWS_SECRET_ACCESS_KEY", ACCESS_KEY.1);
    command
}

/// curl signs content-type only if the command line has it as a header.
#[test]
#[ignore = "needs curl with --aws-sigv4; tests/all runs it"]
fn curl_calls_the_api_with_a_form_and_with_a_query() {
    let daemon = Daemon::start(|_| {});
    let form = "Action=DescribeInstances&Version=2016-11-15";
    let header = "Content-Type: application/x-www-form-urlencoded; charset=utf-8";
    // curl before 8.2 signs a query as it is written, so its parameters must be sorted and escaped.
    let filter =
        "Action=DescribeInstances&Filter.1.Name=tag%3AName&Filter.1.Value.1=%2A&Version=2016-11-15";
    for (arguments, rest) in [
        (&["--data", form][..], "/"),
        (&["--data", form, "--header", header], "/"),
        (&["--data", "Action=DescribeInstances"], "/"),
        (&[], &format!("/?{form}")),
        (&[], &format!("/?{filter}")),
        (&[], "/?Action=DescribeInstances"),
        (&["--request", "POST"], &format!("/?{form}")),
    ] {
        let mut command = client("curl".into(), &daemon);
        let user = format!("{}:{}", ACCESS_KEY.0, ACCESS_KEY.1);
        let printed = output(
            command
                .args([
                    "--silent",
                    "--show-error",
                    "--noproxy",
                    "*",
                    "--max-time",
                    "10",
                ])
                .args(["--aws-sigv4", "aws:amz:us-east-1:ec2", "--user", &user])
                .args(arguments)
                .arg(url(&daemon, rest)),
        );
        let read = String::from_utf8_lossy(&printed.stdout);
        assert!(
            read.contains(&format!("<instanceId>{INSTANCE}</instanceId>")),
            "{arguments:?} {rest}: {read} {}",
            String::from_utf8_lossy(&printed.stderr)
        );
    }
}

#[test]
#[ignore = "needs node_modules; tests/all runs it"]
fn aws4fetch_posts_a_form() {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/javascript");
    support::require(
        Path::new(directory).join("node_modules/aws4fetch").exists(),
        "aws4fetch in tests/clients/javascript",
    );
    let daemon = Daemon::start(|_| {});
    let mut command = with_key("node".into(), &daemon);
    let printed = output(
        command
            .arg(format!("{directory}/aws4fetch.mjs"))
            .arg(url(&daemon, "/")),
    );
    let read = String::from_utf8_lossy(&printed.stdout);
    assert!(
        read.starts_with("200 ") && read.contains(INSTANCE),
        "{read} {}",
        String::from_utf8_lossy(&printed.stderr)
    );
}

#[test]
#[ignore = "needs .venv with aws-requests-auth; tests/all runs it"]
fn aws_requests_auth_posts_a_form_and_sends_a_query() {
    let python = venv_python();
    let daemon = Daemon::start(|_| {});
    let script = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/clients/requests_auth.py"
    );
    let mut command = with_key(python, &daemon);
    let printed = output(command.arg(script).arg(daemon.control.to_string()));
    assert_eq!(
        String::from_utf8_lossy(&printed.stdout),
        "200\n200\n",
        "{}",
        String::from_utf8_lossy(&printed.stderr)
    );
}
