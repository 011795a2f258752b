//! The EC2 API from outside: signed bytes in, status, headers and XML out.

mod actions;
mod images;
mod policies;
mod records;
mod requests;
mod resources;
mod services;
mod tools;

use http_body_util::BodyExt as _;
use hyper::Request;
use serde_json::{Value, json};

use super::*;
use crate::fault::Fault;
use crate::instance::InstanceId;
use crate::registry::memory::MemoryStore;
use crate::registry::stepwise::StepwiseStore;
use crate::registry::store::Loaded;
use crate::registry::{Record, Store, StoreError};
use crate::sigv4::tests::{Sent, sign};

const ID: &str = AccessKeys::DEMO.0;
const SECRET: &str = AccessKeys::DEMO.1;
const DATE: &str = "20260501T120000Z";
const SCOPE: &str = "20260501/us-east-1/ec2/aws4_request";

const RUNNING: &str = "i-0123456789abcdef0";
const STOPPED: &str = "i-11111111";
const TERMINATED: &str = "i-22222222";
const ENDING: &str = "i-33333333";
const TAGGED: &str = "i-44444444";
const UNREADABLE: &str = "i-99999999";

fn now() -> Moment {
    Moment {
        since_boot: std::time::Duration::from_secs(100),
        wall: "2026-05-01T12:00:01Z".parse().unwrap(),
    }
}

/// A store without contents except one unreadable record; writes fail if `writes_fail`.
struct TestStore {
    writes_fail: bool,
}

impl StepwiseStore for TestStore {
    fn load(&self) -> Result<Loaded, StoreError> {
        let fault = Fault::of_file("/secret/path".as_ref(), "broken");
        let id = InstanceId::parse(UNREADABLE).unwrap();
        let unreadable = vec![crate::registry::UnreadableRecord {
            id,
            fault,
            attachments: Vec::new(),
            client_tokens: Vec::new(),
        }];
        Ok(Loaded {
            unreadable,
            ..Loaded::default()
        })
    }

    fn put(&self, record: &Record) -> Result<(), StoreError> {
        if self.writes_fail && record.generation > 1 {
            let reason = std::io::Error::other("disk full");
            return Err(StoreError {
                action: "write /secret/path".into(),
                reason,
                stored: crate::registry::StoredState::Previous,
            });
        }
        Ok(())
    }

    fn remove(&self, _: &InstanceId) -> Result<(), StoreError> {
        Ok(())
    }

    fn put_account(&self, _: &crate::registry::Account) -> Result<(), StoreError> {
        Ok(())
    }
}

async fn control(store: impl Store + 'static, documents: Vec<Value>) -> Control {
    let (registry, _) = Registry::open(Arc::new(store)).unwrap();
    for document in documents {
        let instance = crate::document::from_value(document).unwrap();
        registry.register(instance, now().wall).await.unwrap();
    }
    Control::new(
        registry,
        AccessKeys::demo(),
        Regions::These(vec!["us-east-1".into()]),
    )
}

fn document(id: &str, state: &str, more: Value) -> Value {
    let mut document = json!({
        "InstanceId": id, "LaunchTime": "2026-04-30T08:00:00Z", "State": {"Name": state},
        "ImageId": "ami-12345678", "InstanceType": "t3.micro"
    });
    document
        .as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    document
}

/// One instance in each state that matters.
async fn several() -> Control {
    several_on(TestStore { writes_fail: false }).await
}

async fn several_on(store: impl Store + 'static) -> Control {
    let tags =
        json!({"Tags": [{"Key": "Name", "Value": "web"}, {"Key": "cost center/eu", "Value": "7"}]});
    let documents = vec![
        document(RUNNING, "running", json!({})),
        document(STOPPED, "stopped", json!({})),
        document(TERMINATED, "terminated", json!({})),
        document(ENDING, "shutting-down", json!({})),
        document(TAGGED, "running", tags),
    ];
    control(store, documents).await
}

/// A parsed reply.
struct Answer {
    status: u16,
    headers: hyper::HeaderMap,
    body: String,
}

impl Answer {
    /// Returns the text of the first element with this name.
    fn element(&self, name: &str) -> Option<&str> {
        let (_, rest) = self.body.split_once(&format!("<{name}>"))?;
        rest.split_once(&format!("</{name}>"))
            .map(|(content, _)| content)
    }

    fn code(&self) -> &str {
        self.element("Code").unwrap_or("OK")
    }

    /// Returns the ids of its instances.
    fn instances(&self) -> Vec<&str> {
        let ids = self.body.split("<item><instanceId>").skip(1);
        ids.map(|rest| rest.split_once('<').unwrap().0).collect()
    }
}

async fn answer(response: Response<Full<Bytes>>) -> Answer {
    let (head, body) = response.into_parts();
    let body = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
    // Every reply is XML with our headers and the same request id in two places.
    let header = |name: &str| {
        head.headers
            .get(name)
            .unwrap_or_else(|| panic!("no {name}"))
            .to_str()
            .unwrap()
    };
    assert_eq!(header("content-type"), "text/xml;charset=UTF-8");
    assert_eq!(header("cache-control"), "no-cache, no-store");
    assert_eq!(header("server"), "AmazonEC2");
    assert_eq!(header("date"), "Fri, 01 May 2026 12:00:01 GMT");
    let id = header("x-amzn-requestid");
    let element = if head.status.is_success() {
        "requestId"
    } else {
        "RequestID"
    };
    assert!(
        body.contains(&format!("<{element}>{id}</{element}>")),
        "{body}"
    );
    assert!(
        body.starts_with("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<"),
        "{body}"
    );
    let mut reader = quick_xml::Reader::from_str(&body);
    while !matches!(
        reader.read_event().expect("well-formed"),
        quick_xml::events::Event::Eof
    ) {}
    Answer {
        status: head.status.as_u16(),
        headers: head.headers,
        body,
    }
}

async fn send(control: &Control, sent: &Sent) -> Answer {
    let question = if sent.query.is_empty() { "" } else { "?" };
    let uri = format!("{}{question}{}", sent.path, sent.query);
    let (mut head, ()) = Request::builder()
        .method(sent.method.as_str())
        .uri(uri)
        .body(())
        .unwrap()
        .into_parts();
    head.headers = sent.header_map();
    answer(control.answer(&head, &sent.body, now()).await).await
}

/// Signs and sends a form.
async fn post(control: &Control, body: &str) -> Answer {
    let mut sent = Sent::post(body);
    sign(&mut sent, ID, SECRET, DATE, SCOPE);
    send(control, &sent).await
}

thread_local! {
    /// What the test of this thread logged.
    static LOGGED: std::cell::RefCell<Vec<u8>> = const { std::cell::RefCell::new(Vec::new()) };
}

/// Writes to [`LOGGED`].
struct ThreadLog;

impl std::io::Write for ThreadLog {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        LOGGED.with_borrow_mut(|logged| logged.extend(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Signs and sends a form, and returns the answer with the audit line of the call.
///
/// The subscriber is that of all threads: whether a line is logged at all is remembered for the
/// whole process, and a test without a subscriber would decide it for the others.
async fn audited(control: &Control, body: &str) -> (Answer, String) {
    static SUBSCRIBED: std::sync::Once = std::sync::Once::new();
    SUBSCRIBED.call_once(|| {
        let lines = tracing_subscriber::fmt().with_ansi(false);
        let subscriber = lines.with_writer(|| ThreadLog).finish();
        tracing::subscriber::set_global_default(subscriber).expect("no other test sets one");
        tracing::callsite::rebuild_interest_cache();
    });
    LOGGED.with_borrow_mut(Vec::clear);
    let answer = post(control, body).await;
    let text = String::from_utf8(LOGGED.take()).unwrap();
    let line = text.lines().find(|line| line.contains("api call"));
    (answer, line.expect("every call has its line").to_string())
}

async fn modify(control: &Control, rest: &str) -> Answer {
    post(
        control,
        &format!("Action=ModifyInstanceMetadataOptions&Version=2016-11-15&{rest}"),
    )
    .await
}

async fn describe(control: &Control, rest: &str) -> Answer {
    post(
        control,
        &format!("Action=DescribeInstances&Version=2016-11-15&{rest}"),
    )
    .await
}

fn options_of(control: &Control, id: &str) -> crate::instance::MetadataOptions {
    control
        .registry
        .snapshot()
        .entry(&InstanceId::parse(id).unwrap())
        .unwrap()
        .instance
        .metadata_options
}

fn confirm_all(control: &Control) {
    control
        .registry
        .snapshot()
        .entries()
        .for_each(|entry| control.registry.confirm(entry));
}

#[tokio::test]
async fn a_call_must_name_an_action_and_only_a_known_version() {
    let control = several().await;
    for (body, code, message) in [
        (
            "",
            "MissingAction",
            "The request is missing an action or operation parameter.",
        ),
        (
            "Action=&Version=2016-11-15",
            "MissingAction",
            "The request is missing an action or operation parameter.",
        ),
        (
            "Action=DescribeInstances&Version=2010-03-31",
            "NoSuchVersion",
            "The requested version (2010-03-31) of service AmazonEC2 does not exist",
        ),
        (
            "Action=DescribeInstances&Version=2013-10-01",
            "NoSuchVersion",
            "The requested version (2013-10-01) of service AmazonEC2 does not exist",
        ),
        (
            "Action=DescribeInstances&Version=",
            "NoSuchVersion",
            "The requested version () of service AmazonEC2 does not exist",
        ),
        (
            "Action=DescribeInstances&Version=latest",
            "NoSuchVersion",
            "The requested version (latest) of service AmazonEC2 does not exist",
        ),
        (
            "Action=CopyImage",
            "InvalidAction",
            "The action CopyImage is not valid for this web service.",
        ),
        (
            "Action=CopyImage&Version=2014-10-01",
            "InvalidAction",
            "The action CopyImage is not valid for this web service.",
        ),
        (
            "Action=CopyImage&Version=2016-11-15",
            "InvalidAction",
            "The action CopyImage is not valid for this web service.",
        ),
        (
            "Action=describeinstances&Version=2016-11-15",
            "InvalidAction",
            "The action describeinstances is not valid for this web service.",
        ),
        (
            "Action=DescribeInstances&Action=DescribeInstances&Version=2016-11-15",
            "InvalidParameterCombination",
            "The request contains the parameter Action twice",
        ),
        (
            "Action=DescribeInstances&Version=2016-11-15&x=%zz",
            "MalformedQueryString",
            "The query string contains a syntax error.",
        ),
        (
            "{\"InstanceId\": \"i-12345678\"}",
            "MissingAction",
            "The request is missing an action or operation parameter.",
        ),
    ] {
        let answer = post(&control, body).await;
        assert_eq!(
            (answer.status, answer.code(), answer.element("Message")),
            (400, code, Some(message)),
            "{body}"
        );
    }
}

/// The observed errors of EC2, one row for each. None of the calls changes anything.
#[tokio::test]
async fn modify_refuses_the_same_input_as_ec2() {
    let control = several_on(TestStore { writes_fail: false }).await;
    let before: Vec<_> = [RUNNING, STOPPED, TERMINATED, ENDING, TAGGED]
        .map(|id| options_of(&control, id))
        .into();
    let missing = "The request must contain the parameter InstanceId";
    let switch = |value: &str, name: &str| {
        format!(
            "A value of '{value}' is not valid for {name}. Specify either 'enabled' or 'disabled' and try again."
        )
    };
    let tokens = |value: &str| {
        format!(
            "A value of '{value}' is not valid for HttpTokens. Specify either 'optional' or 'required' and try again."
        )
    };
    let hops = |value: &str| {
        format!(
            "A value of '{value}' is not valid for HttpPutResponseHopLimit. Specify an integer from 1 to 64 and \
             try again."
        )
    };
    let dry = |value: &str| {
        format!(
            "A value of '{value}' is not valid for DryRun. Specify either 'true' or 'false' and try again."
        )
    };
    let state = |id: &str| {
        format!(
            "The instance '{id}' is not in a state from which its metadata options can be modified."
        )
    };
    let to = |id: &str, rest: &str| format!("InstanceId={id}&{rest}");
    let ours = |rest: &str| to(RUNNING, rest);
    let key = "'cost center/eu' is not a valid tag key. Tag keys must match pattern ([0-9a-zA-Z\\\\-_+=,.@:]{1,255}), \
        and must not be a reserved name ('.', '..', '_index')";
    let value = "InvalidParameterValue";
    for (rest, status, code, message) in [
        (String::new(), 400, "MissingParameter", missing.to_string()),
        (
            to("", "HttpTokens=required"),
            400,
            "MissingParameter",
            missing.to_string(),
        ),
        (
            to("ma1", ""),
            400,
            "InvalidInstanceID.Malformed",
            "Invalid id: \"ma1\"".into(),
        ),
        (
            to("i-123", ""),
            400,
            "InvalidInstanceID.Malformed",
            "Invalid id: \"i-123\"".into(),
        ),
        (
            to("i-0123456789ABCDEF0", ""),
            400,
            "InvalidInstanceID.Malformed",
            "Invalid id: \"i-0123456789ABCDEF0\"".into(),
        ),
        (
            to("%3Cb%3E", ""),
            400,
            "InvalidInstanceID.Malformed",
            "Invalid id: \"&lt;b&gt;\"".into(),
        ),
        (
            to("i-0123456789abcdef0+", ""),
            400,
            "InvalidInstanceID.NotFound",
            "The instance ID 'i-0123456789abcdef0 ' does not exist".into(),
        ),
        (
            to("i-aaaaaaaa", ""),
            400,
            "InvalidInstanceID.NotFound",
            "The instance ID 'i-aaaaaaaa' does not exist".into(),
        ),
        (
            to("i-aaaaaaaa", "DryRun=true"),
            400,
            "InvalidInstanceID.NotFound",
            "The instance ID 'i-aaaaaaaa' does not exist".into(),
        ),
        (
            to(UNREADABLE, ""),
            500,
            "InternalError",
            "The record of the instance 'i-99999999' can't be read.".into(),
        ),
        (
            to(UNREADABLE, "DryRun=true"),
            500,
            "InternalError",
            "The record of the instance 'i-99999999' can't be read.".into(),
        ),
        (
            to(TERMINATED, "HttpTokens=required"),
            400,
            "IncorrectInstanceState",
            state(TERMINATED),
        ),
        (
            to(ENDING, "HttpTokens=required"),
            400,
            "IncorrectInstanceState",
            state(ENDING),
        ),
        (
            to(TERMINATED, "DryRun=true"),
            400,
            "IncorrectInstanceState",
            state(TERMINATED),
        ),
        (ours("HttpTokens="), 400, value, tokens("")),
        (ours("HttpTokens=bogus"), 400, value, tokens("bogus")),
        (ours("HttpTokens=Required"), 400, value, tokens("Required")),
        (
            ours("HttpTokens=no-preference"),
            400,
            value,
            tokens("no-preference"),
        ),
        (
            ours("HttpEndpoint="),
            400,
            value,
            switch("", "HttpEndpoint"),
        ),
        (
            ours("HttpEndpoint=true"),
            400,
            value,
            switch("true", "HttpEndpoint"),
        ),
        (
            ours("HttpProtocolIpv6=on"),
            400,
            value,
            switch("on", "HttpProtocolIpv6"),
        ),
        (
            ours("InstanceMetadataTags=ENABLED"),
            400,
            value,
            switch("ENABLED", "InstanceMetadataTags"),
        ),
        (ours("HttpPutResponseHopLimit=0"), 400, value, hops("0")),
        (ours("HttpPutResponseHopLimit=65"), 400, value, hops("65")),
        (ours("HttpPutResponseHopLimit=-7"), 400, value, hops("-7")),
        (ours("HttpPutResponseHopLimit=-1"), 400, value, hops("-1")),
        (ours("HttpPutResponseHopLimit=257"), 400, value, hops("257")),
        (
            ours("HttpPutResponseHopLimit=18446744073709551617"),
            400,
            value,
            hops("18446744073709551617"),
        ),
        (ours("HttpPutResponseHopLimit="), 400, value, hops("")),
        (ours("HttpPutResponseHopLimit=two"), 400, value, hops("two")),
        (ours("HttpPutResponseHopLimit=2.0"), 400, value, hops("2.0")),
        (ours("HttpPutResponseHopLimit=%2B2"), 400, value, hops("+2")),
        (ours("HttpPutResponseHopLimit=+2"), 400, value, hops(" 2")),
        (ours("DryRun=yes"), 400, value, dry("yes")),
        (ours("DryRun=True"), 400, value, dry("True")),
        (ours("DryRun="), 400, value, dry("")),
        // A valid option does not make an invalid one pass.
        (
            ours("HttpTokens=optional&HttpEndpoint=bogus"),
            400,
            value,
            switch("bogus", "HttpEndpoint"),
        ),
        (
            to(TAGGED, "InstanceMetadataTags=enabled"),
            400,
            value,
            key.into(),
        ),
        (
            to(TAGGED, "InstanceMetadataTags=enabled&DryRun=true"),
            400,
            value,
            key.into(),
        ),
        (
            ours("HttpToken=required"),
            400,
            "UnknownParameter",
            "The parameter HttpToken is not recognized".into(),
        ),
        (
            ours("httpTokens=required"),
            400,
            "UnknownParameter",
            "The parameter httpTokens is not recognized".into(),
        ),
        (
            ours("InstanceId.1=i-11111111"),
            400,
            "UnknownParameter",
            "The parameter InstanceId.1 is not recognized".into(),
        ),
        // Unknown parameters are refused before known ones are checked.
        (
            "Foo=1".into(),
            400,
            "UnknownParameter",
            "The parameter Foo is not recognized".into(),
        ),
        (
            ours("HttpTokens=optional&DryRun=true"),
            412,
            "DryRunOperation",
            "Request would have succeeded, but DryRun flag is set.".into(),
        ),
    ] {
        let answer = modify(&control, &rest).await;
        let got = (answer.status, answer.code(), answer.element("Message"));
        assert_eq!(got, (status, code, Some(message.as_str())), "{rest}");
    }
    let after: Vec<_> = [RUNNING, STOPPED, TERMINATED, ENDING, TAGGED]
        .map(|id| options_of(&control, id))
        .into();
    assert_eq!(after, before);
}

#[tokio::test]
async fn modify_changes_the_named_options_keeps_the_others_and_shows_all_six() {
    let reply = |state: &str, [tokens, hops, endpoint, ipv6, tags]: [&str; 5]| {
        format!(
            "<state>{state}</state><httpTokens>{tokens}</httpTokens><httpPutResponseHopLimit>{hops}\
             </httpPutResponseHopLimit><httpEndpoint>{endpoint}</httpEndpoint><httpProtocolIpv6>{ipv6}\
             </httpProtocolIpv6><instanceMetadataTags>{tags}</instanceMetadataTags>"
        )
    };
    for (rest, expected) in [
        (
            "HttpTokens=optional",
            ["optional", "2", "enabled", "disabled", "disabled"],
        ),
        (
            "HttpPutResponseHopLimit=64",
            ["required", "64", "enabled", "disabled", "disabled"],
        ),
        (
            "HttpPutResponseHopLimit=1",
            ["required", "1", "enabled", "disabled", "disabled"],
        ),
        (
            "HttpEndpoint=disabled",
            ["required", "2", "disabled", "disabled", "disabled"],
        ),
        (
            "HttpProtocolIpv6=enabled",
            ["required", "2", "enabled", "enabled", "disabled"],
        ),
        (
            "InstanceMetadataTags=enabled",
            ["required", "2", "enabled", "disabled", "enabled"],
        ),
        (
            "HttpTokens=optional&HttpEndpoint=disabled",
            ["optional", "2", "disabled", "disabled", "disabled"],
        ),
        (
            "HttpEndpoint=disabled&HttpProtocolIpv6=enabled&DryRun=false",
            ["required", "2", "disabled", "enabled", "disabled"],
        ),
    ] {
        for id in [RUNNING, STOPPED] {
            let control = several().await;
            confirm_all(&control);
            let answer = modify(&control, &format!("InstanceId={id}&{rest}")).await;
            assert_eq!(
                (answer.status, answer.element("instanceId")),
                (200, Some(id)),
                "{rest}"
            );
            let expected_reply = reply("pending", expected);
            assert_eq!(
                answer.element("instanceMetadataOptions"),
                Some(expected_reply.as_str()),
                "{rest}"
            );
            let described = |answer: &Answer| answer.element("metadataOptions").map(str::to_string);
            let query = format!("InstanceId.1={id}");
            // Nothing is pending for a stopped instance: a client that polls for `applied` gets it.
            let state = if id == STOPPED { "applied" } else { "pending" };
            assert_eq!(
                described(&describe(&control, &query).await),
                Some(reply(state, expected)),
                "{rest}"
            );
            confirm_all(&control);
            assert_eq!(
                described(&describe(&control, &query).await),
                Some(reply("applied", expected)),
                "{rest}"
            );
        }
    }
}

#[tokio::test]
async fn modify_without_an_option_succeeds_and_changes_nothing() {
    let control = several().await;
    confirm_all(&control);
    let answer = modify(&control, &format!("InstanceId={RUNNING}")).await;
    let expected = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<ModifyInstanceMetadataOptionsResponse \
         xmlns=\"http://ec2.amazonaws.com/doc/2016-11-15/\"><requestId>{}</requestId><instanceId>{RUNNING}</instanceId>\
         <instanceMetadataOptions><state>applied</state><httpTokens>required</httpTokens><httpPutResponseHopLimit>2\
         </httpPutResponseHopLimit><httpEndpoint>enabled</httpEndpoint><httpProtocolIpv6>disabled</httpProtocolIpv6>\
         <instanceMetadataTags>disabled</instanceMetadataTags></instanceMetadataOptions>\
         </ModifyInstanceMetadataOptionsResponse>",
        answer.headers["x-amzn-requestid"].to_str().unwrap()
    );
    assert_eq!((answer.status, answer.body), (200, expected));
}

#[tokio::test]
async fn a_failing_store_changes_nothing_and_the_reply_hides_the_reason() {
    let control = several_on(TestStore { writes_fail: true }).await;
    let answer = modify(
        &control,
        &format!("InstanceId={RUNNING}&HttpTokens=optional"),
    )
    .await;
    assert_eq!((answer.status, answer.code()), (500, "InternalError"));
    assert!(
        !answer.body.contains("secret") && !answer.body.contains("disk"),
        "{}",
        answer.body
    );
    assert_eq!(
        options_of(&control, RUNNING),
        crate::instance::MetadataOptions::default()
    );
}

#[tokio::test]
async fn an_unauthenticated_call_is_refused_before_its_parameters_are_read() {
    let control = several().await;
    let body = format!(
        "Action=ModifyInstanceMetadataOptions&Version=2016-11-15&InstanceId={RUNNING}&HttpTokens=optional"
    );
    let signed = |id: &str, secret: &str, date: &str| {
        let mut sent = Sent::post(&body);
        sign(
            &mut sent,
            id,
            secret,
            date,
            &SCOPE.replace("20260501", &date[..8]),
        );
        sent
    };
    let mut unsigned = Sent::post("%%%");
    let mut elsewhere = Sent::post(&body);
    sign(
        &mut elsewhere,
        ID,
        SECRET,
        DATE,
        "20260501/us-west-2/ec2/aws4_request",
    );
    let mut changed = signed(ID, SECRET, DATE);
    changed.body.extend_from_slice(b"&HttpEndpoint=disabled");
    let failure = "AWS was not able to validate the provided access credentials";
    for (sent, status, code, message) in [
        (
            &unsigned,
            400,
            "MissingParameter",
            "The request must contain the parameter AWSAccessKeyId",
        ),
        (
            // As boto 2 signs by default.
            &Sent::post("Action=DescribeInstances&AWSAccessKeyId=x&SignatureVersion=2&Signature=y"),
            401,
            "AuthFailure",
            "The request is signed with an older signature version. Sign it with Signature Version 4 \
             (AWS4-HMAC-SHA256).",
        ),
        (
            &signed("AKIDNOBODY", SECRET, DATE),
            401,
            "AuthFailure",
            failure,
        ),
        (&signed(ID, "wrong", DATE), 401, "AuthFailure", failure),
        (&changed, 401, "AuthFailure", failure),
        (
            &signed(ID, SECRET, "20260501T114459Z"),
            400,
            "RequestExpired",
            "Request has expired.",
        ),
        (
            &signed(ID, SECRET, "20260501T121502Z"),
            400,
            "RequestExpired",
            "Request has expired.",
        ),
        (
            &elsewhere,
            403,
            "SignatureDoesNotMatch",
            "Credential should be scoped to a valid region, not 'us-west-2'.",
        ),
    ] {
        let answer = send(&control, sent).await;
        assert_eq!(
            (answer.status, answer.code(), answer.element("Message")),
            (status, code, Some(message))
        );
    }
    assert_eq!(
        options_of(&control, RUNNING),
        crate::instance::MetadataOptions::default()
    );

    // The replies to an unknown key and to a wrong signature differ only in the request id.
    let without_id = |mut answer: Answer| {
        let id = answer.headers.remove("x-amzn-requestid").unwrap();
        (
            answer.status,
            format!("{:?}", answer.headers),
            answer.body.replace(id.to_str().unwrap(), ""),
        )
    };
    let unknown = without_id(send(&control, &signed("AKIDNOBODY", SECRET, DATE)).await);
    assert_eq!(
        unknown,
        without_id(send(&control, &signed(ID, "wrong", DATE)).await)
    );

    unsigned.set("authorization", "Basic eDp5");
    assert_eq!(
        send(&control, &unsigned).await.code(),
        "IncompleteSignature"
    );
}

#[tokio::test]
async fn other_methods_and_large_bodies_are_refused_in_xml() {
    let control = several().await;
    for method in ["PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "get", "post"] {
        let mut sent = Sent::post("Action=DescribeInstances&Version=2016-11-15");
        sent.method = method.into();
        sign(&mut sent, ID, SECRET, DATE, SCOPE);
        let answer = send(&control, &sent).await;
        assert_eq!(
            (answer.status, answer.code()),
            (405, "MethodNotAllowed"),
            "{method}"
        );
        assert_eq!(answer.headers["allow"], "GET, POST");
    }
    for (refusal, status, code) in [
        (too_large(now()), 413, "RequestEntityTooLarge"),
        (without_length(now()), 411, "MissingContentLength"),
    ] {
        let answer = answer(refusal).await;
        assert_eq!((answer.status, answer.code()), (status, code));
    }
}

#[tokio::test]
async fn the_service_must_match_even_if_any_region_is_accepted() {
    let Control { registry, .. } = several().await;
    let control = Control::new(registry, AccessKeys::demo(), Regions::Any);
    for (scope, code) in [
        ("20260501/basement/ec2/aws4_request", "OK"),
        ("20260501/basement/s3/aws4_request", "SignatureDoesNotMatch"),
        (
            "20260430/basement/ec2/aws4_request",
            "SignatureDoesNotMatch",
        ),
    ] {
        let mut sent = Sent::post("Action=DescribeInstances&Version=2016-11-15");
        sign(&mut sent, ID, SECRET, DATE, scope);
        assert_eq!(send(&control, &sent).await.code(), code, "{scope}");
    }
}

#[tokio::test]
async fn a_get_has_its_parameters_in_the_query() {
    let control = several().await;
    let mut sent = Sent::post("");
    sent.method = "GET".into();
    sent.path = "/ec2/v1".into();
    sent.query = format!("Action=DescribeInstances&InstanceId.1={RUNNING}&Version=2016-11-15");
    sign(&mut sent, ID, SECRET, DATE, SCOPE);
    assert_eq!(send(&control, &sent).await.instances(), [RUNNING]);
}

/// A malformed set of parameters is refused before any of them is checked.
#[tokio::test]
async fn too_many_parameters_a_gap_and_a_repetition_change_nothing() {
    let control = several().await;
    let tags = |numbers: &[usize]| {
        numbers
            .iter()
            .map(|n| format!("&Tag.{n}.Key=k{n}"))
            .collect::<String>()
    };
    let many: String = (1..=2_000).map(|n| format!("&x{n}=")).collect();
    for (rest, code) in [
        (
            format!("InstanceId={RUNNING}&HttpTokens=optional{many}"),
            "MalformedQueryString",
        ),
        (
            format!("InstanceId={RUNNING}&HttpTokens=optional&HttpTokens=optional"),
            "InvalidParameterCombination",
        ),
        (
            format!("InstanceId={RUNNING}&HttpTokens=optional&HttpTokens=required"),
            "InvalidParameterCombination",
        ),
        (
            format!("InstanceId={RUNNING}&HttpTokens=optional&x=%"),
            "MalformedQueryString",
        ),
        (
            format!("InstanceId={RUNNING}&HttpTokens=optional&x=%ff"),
            "MalformedQueryString",
        ),
    ] {
        assert_eq!(modify(&control, &rest).await.code(), code);
    }
    for (action, rest) in [
        (
            "CreateTags",
            format!("ResourceId.1={RUNNING}{}", tags(&[1, 3])),
        ),
        (
            "CreateTags",
            format!("ResourceId.1={RUNNING}{}", tags(&[0, 1])),
        ),
        (
            "CreateTags",
            format!(
                "ResourceId.2={RUNNING}&ResourceId.1={STOPPED}&ResourceId.4={TAGGED}{}",
                tags(&[1])
            ),
        ),
        (
            "TerminateInstances",
            format!("InstanceId.1={RUNNING}&InstanceId.3={STOPPED}"),
        ),
    ] {
        let answer = post(
            &control,
            &format!("Action={action}&Version=2016-11-15&{rest}"),
        )
        .await;
        assert_eq!(answer.code(), "UnknownParameter", "{action} {rest}");
    }
    let snapshot = control.registry.snapshot();
    assert!(snapshot.entries().all(|entry| entry.generation == 1));
}

/// Random bytes from a fixed seed, composed of what the parsers look for: each gets a reply, in
/// XML.
#[tokio::test]
async fn random_bytes_always_get_a_reply() {
    const PIECES: [&str; 40] = [
        "Action=",
        "DescribeInstances",
        "ModifyInstanceMetadataOptions",
        "Action=RunInstances&Version=2016-11-15&ImageId=ami-12345678&MinCount=1&MaxCount=2",
        "Action=CreateTags&Version=2016-11-15&ResourceId.1=i-44444444",
        "Action=ModifyInstanceAttribute&Version=2016-11-15&InstanceId=i-11111111&Attribute=",
        "Action=StopInstances&Version=2016-11-15&InstanceId.1=i-44444444",
        "Action=DescribeTags&Version=2016-11-15",
        "Action=DescribeInstanceStatus&Version=2016-11-15",
        "Action=ModifyInstanceMetadataDefaults&Version=2016-11-15",
        "&HttpTokens=",
        "&UserData.Value=",
        "&Tag.1.Key=",
        "&TagSpecification.1.ResourceType=instance&TagSpecification.1.Tag.1.Key=",
        "&Placement.AvailabilityZone=",
        "&KeyName=",
        "ü",
        "Version=2016-11-15",
        "&",
        "=",
        "%",
        "%f",
        "%00",
        "+",
        "InstanceId",
        ".1",
        ".99999999999999999999",
        "i-12345678",
        "Filter.1.Name=",
        "tag:",
        "Filter.1.Value.1=",
        "*",
        "\\",
        "MaxResults=",
        "9",
        "-",
        "NextToken=",
        "DryRun=true",
        "/",
        "AWS4-HMAC-SHA256 Credential=",
    ];
    let control = several().await;
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = |below: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        usize::try_from(seed % u64::try_from(below).unwrap()).unwrap()
    };
    for round in 0..3_000 {
        let mut text = String::new();
        for _ in 0..random(24) {
            text += PIECES[random(PIECES.len())];
        }
        let mut sent = Sent::post(&text);
        if random(3) == 0 {
            sent.body.push(u8::try_from(random(256)).unwrap());
        }
        if round % 4 > 0 {
            sign(&mut sent, ID, SECRET, DATE, SCOPE);
        }
        match round % 8 {
            0 => sent.set("authorization", &text),
            4 => {
                sent.query = format!(
                    "X-Amz-Signature=0&X-Amz-Algorithm=AWS4-HMAC-SHA256&{}",
                    text.replace(['\\', ' '], "x")
                )
            }
            _ => {}
        }
        send(&control, &sent).await;
    }
    assert_eq!(
        options_of(&control, TERMINATED),
        crate::instance::MetadataOptions::default()
    );
}

/// The smallest valid document, and every element that results from it.
#[tokio::test]
async fn describe_writes_a_minimal_instance_as_ec2_does() {
    let small = json!({"InstanceId": "i-12345678", "LaunchTime": "2026-04-30T08:00:00Z"});
    let control = control(MemoryStore, vec![small]).await;
    let answer = describe(&control, "").await;
    let expected = "<reservationSet><item><reservationId>r-12345678</reservationId>\
        <ownerId>000000000000</ownerId><groupSet/><instancesSet><item>\
        <instanceId>i-12345678</instanceId><imageId>ami-00000000000000000</imageId><instanceState>\
        <code>16</code><name>running</name></instanceState><privateDnsName>i-12345678.ec2.internal</privateDnsName>\
        <dnsName/><reason/><amiLaunchIndex>0</amiLaunchIndex><productCodes/><instanceType>m5.large</instanceType>\
        <launchTime>2026-04-30T08:00:00.000Z</launchTime><placement><availabilityZone>us-east-1a</availabilityZone>\
        <availabilityZoneId>use1-az1</availabilityZoneId><groupName/><tenancy>default</tenancy></placement><monitoring><state>disabled</state></monitoring><groupSet/>\
        <architecture>x86_64</architecture><blockDeviceMapping/><virtualizationType>hvm</virtualizationType><clientToken/><networkInterfaceSet/><metadataOptions>\
        <state>pending</state><httpTokens>required</httpTokens><httpPutResponseHopLimit>2</httpPutResponseHopLimit>\
        <httpEndpoint>enabled</httpEndpoint><httpProtocolIpv6>disabled</httpProtocolIpv6>\
        <instanceMetadataTags>disabled</instanceMetadataTags></metadataOptions></item></instancesSet></item>\
        </reservationSet></DescribeInstancesResponse>";
    let (head, rest) = answer.body.split_once("</requestId>").unwrap();
    assert!(head.starts_with(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
         <DescribeInstancesResponse xmlns=\"http://ec2.amazonaws.com/doc/2016-11-15/\"><requestId>"
    ));
    assert_eq!(rest, expected);
}

/// Every field that describe writes.
const FULL: &str = r#"{
    "LaunchTime": "2026-04-30T08:00:00Z", "State": {"Name": "running"}, "ImageId": "ami-12345678",
    "InstanceType": "t3.micro", "KeyName": "ops", "KernelId": "aki-1", "RamdiskId": "ari-1",
    "PrivateDnsName": "ip-10-0-0-5.internal", "PublicDnsName": "ec2.example", "PrivateIpAddress": "10.0.0.5",
    "PublicIpAddress": "203.0.113.7", "Ipv6Address": "2001:db8::5", "SubnetId": "subnet-1", "VpcId": "vpc-1",
    "InstanceLifecycle": "spot", "RootDeviceName": "/dev/xvda", "RootDeviceType": "ebs", "VirtualizationType": "hvm",
    "Hypervisor": "xen", "ClientToken": "once", "StateTransitionReason": "none", "Monitoring": {"State": "enabled"},
    "HibernationOptions": {"Configured": false},
    "Placement": {"AvailabilityZone": "eu-west-1b", "GroupName": "pg", "PartitionNumber": 3, "HostId": "h-1"},
    "IamInstanceProfile": {"Arn": "arn:aws:iam::111122223333:instance-profile/web", "Id": "AIPA1"},
    "ProductCodes": [{"ProductCodeId": "abc", "ProductCodeType": "marketplace"}],
    "BlockDeviceMappings": [{"DeviceName": "/dev/xvda", "Ebs": {"VolumeId": "vol-1", "Status": "attached",
        "AttachTime": "2026-04-30T08:00:01Z", "DeleteOnTermination": true}}],
    "SecurityGroups": [{"GroupId": "sg-1", "GroupName": "web"}],
    "Tags": [{"Key": "Name", "Value": "web-1"}, {"Key": "empty"}],
    "NetworkInterfaces": [{
        "MacAddress": "02:00:00:00:00:05", "NetworkInterfaceId": "eni-1", "OwnerId": "111122223333",
        "PrivateIpAddress": "10.0.0.5", "SubnetId": "subnet-1", "VpcId": "vpc-1", "Status": "in-use",
        "SourceDestCheck": true, "Groups": [{"GroupId": "sg-1", "GroupName": "web"}],
        "Attachment": {"DeviceIndex": 0, "AttachmentId": "eni-attach-1", "Status": "attached",
            "NetworkCardIndex": 0, "DeleteOnTermination": true, "AttachTime": "2026-04-30T08:00:01Z"},
        "PrivateIpAddresses": [{"PrivateIpAddress": "10.0.0.5", "Primary": true, "Association":
            {"PublicIp": "203.0.113.7", "PublicDnsName": "ec2.example", "IpOwnerId": "amazon"}}],
        "Ipv6Addresses": [{"Ipv6Address": "2001:db8::5"}],
        "Ipv4Prefixes": [{"Ipv4Prefix": "10.0.1.0/28"}]
    }],
    "MetadataOptions": {"HttpTokens": "optional", "HttpPutResponseHopLimit": 7},
    "Imds": {"ReservationId": "r-together", "UserDataText": "hunter2"}
}"#;

fn full(id: &str) -> Value {
    let mut document: Value = serde_json::from_str(FULL).unwrap();
    document["InstanceId"] = json!(id);
    document
}

#[tokio::test]
async fn describe_writes_every_field_of_a_full_instance() {
    let control = control(MemoryStore, vec![full("i-12345678"), full("i-87654321")]).await;
    let answer = describe(&control, "").await;
    // Both were launched together.
    assert_eq!(answer.body.matches("<reservationId>").count(), 1);
    assert_eq!(answer.instances(), ["i-12345678", "i-87654321"]);
    for part in [
        "<reservationId>r-together</reservationId><ownerId>111122223333</ownerId>",
        "<privateDnsName>ip-10-0-0-5.internal</privateDnsName><dnsName>ec2.example</dnsName><reason>none</reason>",
        "<keyName>ops</keyName>",
        "<productCodes><item><productCode>abc</productCode><type>marketplace</type></item></productCodes>",
        "<groupName>pg</groupName><tenancy>default</tenancy><hostId>h-1</hostId><partitionNumber>3</partitionNumber>",
        "<kernelId>aki-1</kernelId><ramdiskId>ari-1</ramdiskId><monitoring><state>enabled</state></monitoring>",
        "<subnetId>subnet-1</subnetId><vpcId>vpc-1</vpcId><privateIpAddress>10.0.0.5</privateIpAddress>\
         <ipAddress>203.0.113.7</ipAddress><ipv6Address>2001:db8::5</ipv6Address><groupSet><item>\
         <groupId>sg-1</groupId><groupName>web</groupName></item></groupSet>",
        "<blockDeviceMapping><item><deviceName>/dev/xvda</deviceName><ebs><volumeId>vol-1</volumeId>\
         <status>attached</status><attachTime>2026-04-30T08:00:01.000Z</attachTime>\
         <deleteOnTermination>true</deleteOnTermination></ebs></item></blockDeviceMapping>",
        "<virtualizationType>hvm</virtualizationType><hypervisor>xen</hypervisor><clientToken>once</clientToken>",
        "<tagSet><item><key>Name</key><value>web-1</value></item><item><key>empty</key><value/></item></tagSet>",
        "<networkInterfaceSet><item><networkInterfaceId>eni-1</networkInterfaceId>",
        "<macAddress>02:00:00:00:00:05</macAddress>",
        "<attachment><attachmentId>eni-attach-1</attachmentId><deviceIndex>0</deviceIndex><status>attached</status>",
        "<association><publicIp>203.0.113.7</publicIp><publicDnsName>ec2.example</publicDnsName>\
         <ipOwnerId>amazon</ipOwnerId></association><privateIpAddressesSet>",
        "<ipv6AddressesSet><item><ipv6Address>2001:db8::5</ipv6Address></item></ipv6AddressesSet>",
        "<ipv4PrefixSet><item><ipv4Prefix>10.0.1.0/28</ipv4Prefix></item></ipv4PrefixSet>",
        "<iamInstanceProfile><arn>arn:aws:iam::111122223333:instance-profile/web</arn><id>AIPA1</id>",
        "<instanceLifecycle>spot</instanceLifecycle><hibernationOptions><configured>false</configured>",
        "<httpTokens>optional</httpTokens><httpPutResponseHopLimit>7</httpPutResponseHopLimit>",
    ] {
        assert!(
            answer.body.contains(part),
            "{part} is not in {}",
            answer.body
        );
    }
    // User data is not part of this reply.
    assert!(!answer.body.contains("hunter2"));
}

#[tokio::test]
async fn hostile_tags_do_not_break_the_reply() {
    let tags = json!({"Tags": [
        {"Key": "</key><instanceId>", "Value": "<![CDATA[ & ]]>"},
        {"Key": "control", "Value": "a\u{0}\u{1b}\u{8}b\r\n"},
        {"Key": "entity", "Value": "&lol;&#0;"}
    ]});
    let control = control(MemoryStore, vec![document("i-12345678", "running", tags)]).await;
    let answer = describe(&control, "").await;
    let expected = "<item><key>&lt;/key&gt;&lt;instanceId&gt;</key><value>&lt;![CDATA[ &amp; ]]&gt;</value></item>\
        <item><key>control</key><value>a\u{fffd}\u{fffd}\u{fffd}b&#13;\n</value></item>\
        <item><key>entity</key><value>&amp;lol;&amp;#0;</value></item>";
    assert_eq!(answer.element("tagSet"), Some(expected));
}

#[tokio::test]
async fn describe_refuses_the_same_input_as_ec2() {
    let control = several().await;
    let many: String = (1..=201)
        .map(|n| format!("&Filter.1.Value.{n}=x"))
        .collect();
    for (rest, code, message) in [
        (
            "InstanceId.1=",
            "MissingParameter",
            "The request must contain the parameter InstanceId",
        ),
        (
            "InstanceId.1=ma1",
            "InvalidInstanceID.Malformed",
            "Invalid id: \"ma1\"",
        ),
        (
            "InstanceId.1=i-11111111&InstanceId.2=x",
            "InvalidInstanceID.Malformed",
            "Invalid id: \"x\"",
        ),
        (
            "InstanceId.1=i-aaaaaaaa",
            "InvalidInstanceID.NotFound",
            "The instance ID 'i-aaaaaaaa' does not exist",
        ),
        (
            "InstanceId.1=i-aaaaaaaa&InstanceId.2=i-11111111&InstanceId.3=i-bbbbbbbb",
            "InvalidInstanceID.NotFound",
            "The instance IDs 'i-aaaaaaaa, i-bbbbbbbb' do not exist",
        ),
        (
            "InstanceId.1=i-aaaaaaaa&DryRun=true",
            "InvalidInstanceID.NotFound",
            "The instance ID 'i-aaaaaaaa' does not exist",
        ),
        (
            "InstanceId.1=i-99999999",
            "InternalError",
            "The record of the instance 'i-99999999' can't be read.",
        ),
        (
            "InstanceId=i-11111111",
            "UnknownParameter",
            "The parameter InstanceId is not recognized",
        ),
        (
            "InstanceIds.1=i-11111111",
            "UnknownParameter",
            "The parameter InstanceIds.1 is not recognized",
        ),
        (
            "InstanceId.1=i-11111111&InstanceId.3=i-22222222",
            "UnknownParameter",
            "The parameter InstanceId.3 is not recognized",
        ),
        (
            "HttpTokens=required",
            "UnknownParameter",
            "The parameter HttpTokens is not recognized",
        ),
        (
            "MaxResults=1",
            "InvalidParameterValue",
            "Value ( 1 ) for parameter maxResults is invalid. Expecting a value greater than 5.",
        ),
        (
            "MaxResults=-5",
            "InvalidParameterValue",
            "Value ( -5 ) for parameter maxResults is invalid. Expecting a value greater than 5.",
        ),
        (
            "MaxResults=1001",
            "InvalidParameterValue",
            "Value ( 1001 ) for parameter maxResults is invalid. Expecting a value less than or equal to 1000.",
        ),
        (
            "MaxResults=ten",
            "InvalidParameterValue",
            "Value ( ten ) for parameter maxResults is invalid. Expecting an integer.",
        ),
        (
            "MaxResults=5&InstanceId.1=i-11111111",
            "InvalidParameterCombination",
            "The parameter instancesSet cannot be used with the parameter maxResults",
        ),
        (
            "NextToken=x&InstanceId.1=i-11111111",
            "InvalidParameterCombination",
            "The parameter instancesSet cannot be used with the parameter nextToken",
        ),
        (
            "NextToken=abc%3D%3D",
            "InvalidNextToken",
            "The token 'abc==' is invalid",
        ),
        (
            "NextToken=aS0xMTExMTExMQ",
            "InvalidNextToken",
            "The token 'aS0xMTExMTExMQ' is invalid",
        ),
        (
            "Filter.1.Name=public-ip&Filter.1.Value.1=x",
            "InvalidParameterValue",
            "The filter 'public-ip' is invalid",
        ),
        (
            "Filter.1.Value.1=x",
            "InvalidParameterValue",
            "The filter 'null' is invalid",
        ),
        (
            "Filter.1.Name=image-id",
            "MissingParameter",
            "The request must contain the parameter Filter.1.Value",
        ),
        (
            &format!("Filter.1.Name=image-id{many}"),
            "FilterLimitExceeded",
            "The maximum number of filter values specified on a single call is 200",
        ),
        (
            "IncludeManagedResources=1",
            "InvalidParameterValue",
            "A value of '1' is not valid for IncludeManagedResources. Specify either 'true' or 'false' and try again.",
        ),
        (
            "DryRun=true",
            "DryRunOperation",
            "Request would have succeeded, but DryRun flag is set.",
        ),
    ] {
        let status = match code {
            "DryRunOperation" => 412,
            "InternalError" => 500,
            _ => 400,
        };
        let answer = describe(&control, rest).await;
        assert_eq!(
            (answer.status, answer.code(), answer.element("Message")),
            (status, code, Some(message)),
            "{rest}"
        );
    }
}

#[tokio::test]
async fn describe_shows_each_named_instance_once_and_sorted() {
    let control = several().await;
    let rest =
        format!("InstanceId.1={TERMINATED}&InstanceId.2={RUNNING}&InstanceId.3={TERMINATED}");
    assert_eq!(
        describe(&control, &rest).await.instances(),
        [RUNNING, TERMINATED]
    );
    let all = [RUNNING, STOPPED, TERMINATED, ENDING, TAGGED];
    assert_eq!(
        describe(&control, "IncludeManagedResources=true&DryRun=false")
            .await
            .instances(),
        all
    );
}

#[tokio::test]
async fn filters_are_anded_and_their_values_ored() {
    let control = control(
        MemoryStore,
        vec![
            full("i-12345678"),
            document(STOPPED, "stopped", json!({})),
            document(TERMINATED, "terminated", json!({})),
        ],
    )
    .await;
    let filter = |n: usize, name: &str, values: &[&str]| {
        let values = values
            .iter()
            .enumerate()
            .map(|(m, value)| format!("&Filter.{n}.Value.{}={value}", m + 1));
        format!("Filter.{n}.Name={name}{}&", values.collect::<String>())
    };
    let full = "i-12345678";
    for (name, values, expected) in [
        ("instance-id", vec![full, STOPPED], vec![STOPPED, full]),
        ("instance-id", vec!["i-1*"], vec![STOPPED, full]),
        ("instance-id", vec!["i-aaaaaaaa"], vec![]),
        (
            "instance-state-name",
            vec!["stopped", "terminated"],
            vec![STOPPED, TERMINATED],
        ),
        ("instance-state-name", vec!["Stopped"], vec![]),
        ("instance-state-code", vec!["80"], vec![STOPPED]),
        ("tag:Name", vec!["web-?"], vec![full]),
        ("tag:Name", vec!["web"], vec![]),
        ("tag:name", vec!["web-1"], vec![]),
        ("tag:empty", vec![""], vec![full]),
        ("tag-key", vec!["emp*"], vec![full]),
        (
            "image-id",
            vec!["ami-12345678"],
            vec![STOPPED, full, TERMINATED],
        ),
        (
            "instance-type",
            vec!["t3.*"],
            vec![STOPPED, full, TERMINATED],
        ),
        ("private-ip-address", vec!["10.0.0.5"], vec![full]),
        ("ip-address", vec!["203.0.113.7"], vec![full]),
        ("ipv6-address", vec!["2001:db8::5"], vec![full]),
        ("availability-zone", vec!["eu-west-1b"], vec![full]),
        ("reservation-id", vec!["r-together"], vec![full]),
        ("reservation-id", vec!["r-11111111"], vec![STOPPED]),
        ("owner-id", vec!["111122223333"], vec![full]),
        (
            "launch-time",
            vec!["2026-04-30T*"],
            vec![STOPPED, full, TERMINATED],
        ),
        ("iam-instance-profile.arn", vec!["*/web"], vec![full]),
        (
            "network-interface.mac-address",
            vec!["02:00:00:00:00:05"],
            vec![full],
        ),
        ("vpc-id", vec!["vpc-1"], vec![full]),
        ("subnet-id", vec!["subnet-1"], vec![full]),
        ("instance-lifecycle", vec!["spot"], vec![full]),
        ("key-name", vec!["ops"], vec![full]),
        (
            "architecture",
            vec!["x86_64"],
            vec![STOPPED, full, TERMINATED],
        ),
        ("availability-zone-id", vec!["euw1-az2"], vec![full]),
        (
            "block-device-mapping.device-name",
            vec!["/dev/xvda"],
            vec![full],
        ),
        ("block-device-mapping.volume-id", vec!["vol-1"], vec![full]),
        ("client-token", vec!["once"], vec![full]),
        ("dns-name", vec!["ec2.example"], vec![full]),
        ("host-id", vec!["h-1"], vec![full]),
        ("hypervisor", vec!["xen"], vec![full]),
        ("iam-instance-profile.id", vec!["AIPA1"], vec![full]),
        ("instance.group-id", vec!["sg-1"], vec![full]),
        ("instance.group-name", vec!["web"], vec![full]),
        ("kernel-id", vec!["aki-1"], vec![full]),
        ("launch-index", vec!["0"], vec![STOPPED, full, TERMINATED]),
        ("monitoring-state", vec!["enabled"], vec![full]),
        (
            "network-interface.network-interface-id",
            vec!["eni-1"],
            vec![full],
        ),
        ("network-interface.subnet-id", vec!["subnet-1"], vec![full]),
        ("network-interface.vpc-id", vec!["vpc-1"], vec![full]),
        ("placement-group-name", vec!["pg"], vec![full]),
        ("placement-partition-number", vec!["3"], vec![full]),
        ("private-dns-name", vec!["ip-10-0-0-5.internal"], vec![full]),
        ("product-code", vec!["abc"], vec![full]),
        ("ramdisk-id", vec!["ari-1"], vec![full]),
        ("reason", vec!["none"], vec![full]),
        ("root-device-name", vec!["/dev/xvda"], vec![full]),
        ("root-device-type", vec!["ebs"], vec![full]),
        ("tenancy", vec!["default"], vec![STOPPED, full, TERMINATED]),
        ("tenancy", vec!["dedicated"], vec![]),
        // As in metadata, an instance is hvm if its document does not say.
        (
            "virtualization-type",
            vec!["hvm"],
            vec![STOPPED, full, TERMINATED],
        ),
        ("virtualization-type", vec!["paravirtual"], vec![]),
        ("metadata-options.http-tokens", vec!["optional"], vec![full]),
        (
            "metadata-options.http-put-response-hop-limit",
            vec!["7"],
            vec![full],
        ),
        ("metadata-options.http-endpoint", vec!["disabled"], vec![]),
        (
            "metadata-options.http-protocol-ipv4",
            vec!["enabled"],
            vec![STOPPED, full, TERMINATED],
        ),
        (
            "metadata-options.http-protocol-ipv6",
            vec!["enabled"],
            vec![],
        ),
        (
            "metadata-options.instance-metadata-tags",
            vec!["enabled"],
            vec![],
        ),
        // Nothing is pending for a stopped instance.
        (
            "metadata-options.state",
            vec!["applied"],
            vec![STOPPED, TERMINATED],
        ),
    ] {
        let answer = describe(&control, &filter(1, name, &values)).await;
        assert_eq!(answer.instances(), expected, "{name} {values:?}");
        assert_eq!(
            answer.body.contains("<reservationSet/>"),
            expected.is_empty()
        );
    }
    let both = filter(1, "image-id", &["*"]) + &filter(2, "instance-state-name", &["running"]);
    assert_eq!(describe(&control, &both).await.instances(), [full]);
    let none = filter(1, "image-id", &["*"]) + &filter(2, "instance-state-name", &["pending"]);
    assert_eq!(describe(&control, &none).await.instances(), [""; 0]);
}

#[tokio::test]
async fn pages_show_every_instance_once_even_if_one_is_added_between_pages() {
    let id = |n: usize| format!("i-{n:08x}");
    let control = control(
        MemoryStore,
        (1..=12)
            .map(|n| document(&id(n), "running", json!({})))
            .collect(),
    )
    .await;
    let first = describe(&control, "MaxResults=5&NextToken=").await;
    assert_eq!(first.instances(), (1..=5).map(id).collect::<Vec<_>>());

    // A new instance that sorts before the end of the page is not shown, one after it is; none is
    // shown twice or lost.
    let late =
        serde_json::from_value(document("i-00000005a0000000a", "running", json!({}))).unwrap();
    control.registry.register(late, now().wall).await.unwrap();
    let token = first.element("nextToken").unwrap();
    let second = describe(&control, &format!("MaxResults=5&NextToken={token}")).await;
    assert_eq!(
        second.instances(),
        ["i-00000005a0000000a", &id(6), &id(7), &id(8), &id(9)]
    );
    let token = second.element("nextToken").unwrap();
    let last = describe(&control, &format!("NextToken={token}")).await;
    assert_eq!(last.instances(), (10..=12).map(id).collect::<Vec<_>>());
    assert!(!last.body.contains("nextToken"));

    // A page that ends with the last match has no token, though more instances follow.
    let filter = "Filter.1.Name=instance-id&Filter.1.Value.1=i-0000000?&Filter.2.Name=instance-id";
    let five: String = (1..=5)
        .map(|n| format!("&Filter.2.Value.{n}={}", id(n)))
        .collect();
    let exact = describe(&control, &format!("MaxResults=5&{filter}{five}")).await;
    assert_eq!(exact.instances().len(), 5);
    assert!(!exact.body.contains("nextToken"));
}
