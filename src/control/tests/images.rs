//! Images: the default of a launch for each of them, and the actions that show and change them.

use super::*;
use crate::instance::{
    Image, Images, ImdsSupport, Instance, MetadataOptions, NamedOptions, OptionsUpdate,
};
use crate::registry::file::FileStore;
use crate::registry::stepwise::StepwiseStore;

const V2: &str = "ami-22222222";
const UNSET: &str = "ami-11111111";
const UNLISTED: &str = "ami-99999999";

fn images(unlisted: ImdsSupport) -> Images {
    let image = |imds_support| Image {
        imds_support,
        name: Some("golden".into()),
        description: Some("ours".into()),
        architecture: Some("arm64".into()),
    };
    Images {
        listed: [
            (V2.to_string(), image(ImdsSupport::V2)),
            (UNSET.to_string(), image(ImdsSupport::Unset)),
        ]
        .into(),
        unlisted,
    }
}

fn control_over(store: Arc<dyn Store>, images: Images) -> Control {
    let (registry, faults) = Registry::open_with_images(store, images).unwrap();
    assert!(
        faults
            .iter()
            .all(|fault| fault.to_string().contains("broken")),
        "{faults:?}"
    );
    Control::new(registry, AccessKeys::demo(), Regions::Any)
}

fn with_images() -> Control {
    control_over(Arc::new(MemoryStore), images(ImdsSupport::V2))
}

async fn call(control: &Control, rest: &str) -> Answer {
    post(control, &format!("Version=2016-11-15&Action={rest}")).await
}

/// Launches one instance and returns its HttpTokens and hop limit.
async fn launched(control: &Control, image: &str, options: &str) -> (String, String) {
    let rest = format!("RunInstances&MinCount=1&MaxCount=1&ImageId={image}{options}");
    let answer = call(control, &rest).await;
    let element = |name: &str| answer.element(name).unwrap_or(&answer.body).to_string();
    (element("httpTokens"), element("httpPutResponseHopLimit"))
}

/// Registers a document that names these options, as a start and a reload do.
async fn registered(control: &Control, image: &str, named: OptionsUpdate) -> MetadataOptions {
    let id = format!("i-{:08x}", control.registry.snapshot().entries().count());
    let mut instance: Instance =
        serde_json::from_value(document(&id, "running", json!({"ImageId": image}))).unwrap();
    instance.named_options = NamedOptions(Some(named));
    control
        .registry
        .register(instance, now().wall)
        .await
        .unwrap();
    options_of(control, &id)
}

/// Launch, account, image: every cell for HttpTokens and for the hop limit. "Order of precedence for
/// instance metadata options" of
/// <https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/configuring-instance-metadata-options.html>
#[tokio::test]
async fn every_launch_and_every_document_gets_the_options_of_its_cell() {
    let control = with_images();
    // Account: HttpTokens and hop limit. Launch: HttpTokens. Expected: for V2 and for UNSET.
    for (tokens, hops, launch, v2, unset) in [
        (
            "no-preference",
            "-1",
            "",
            ("required", "2"),
            ("optional", "1"),
        ),
        (
            "no-preference",
            "-1",
            "required",
            ("required", "2"),
            ("required", "1"),
        ),
        (
            "no-preference",
            "-1",
            "optional",
            ("optional", "2"),
            ("optional", "1"),
        ),
        ("required", "-1", "", ("required", "2"), ("required", "1")),
        (
            "required",
            "-1",
            "optional",
            ("optional", "2"),
            ("optional", "1"),
        ),
        ("optional", "-1", "", ("optional", "2"), ("optional", "1")),
        (
            "optional",
            "-1",
            "required",
            ("required", "2"),
            ("required", "1"),
        ),
        (
            "no-preference",
            "1",
            "",
            ("required", "1"),
            ("optional", "1"),
        ),
        (
            "no-preference",
            "3",
            "",
            ("required", "3"),
            ("optional", "3"),
        ),
        (
            "required",
            "3",
            "optional",
            ("optional", "3"),
            ("optional", "3"),
        ),
    ] {
        let defaults = format!(
            "ModifyInstanceMetadataDefaults&HttpTokens={tokens}&HttpPutResponseHopLimit={hops}"
        );
        assert_eq!(call(&control, &defaults).await.status, 200);
        for (image, expected) in [(V2, v2), (UNSET, unset)] {
            let cell = format!("{tokens} {hops} {launch:?} {image}");
            let options = match launch {
                "" => String::new(),
                launch => format!("&MetadataOptions.HttpTokens={launch}"),
            };
            let (got_tokens, got_hops) = launched(&control, image, &options).await;
            assert_eq!((got_tokens.as_str(), got_hops.as_str()), expected, "{cell}");
            if launch.is_empty() {
                let options = registered(&control, image, OptionsUpdate::default()).await;
                let hops = options.http_put_response_hop_limit.get().to_string();
                assert_eq!(
                    (options.http_tokens.as_str(), hops.as_str()),
                    expected,
                    "{cell}"
                );
            }
        }
        let hop_named = "&MetadataOptions.HttpPutResponseHopLimit=7";
        assert_eq!(launched(&control, UNSET, hop_named).await.1, "7");
    }
}

#[tokio::test]
async fn what_counts_for_an_unlisted_image_is_configured() {
    for (unlisted, expected) in [
        (ImdsSupport::V2, ("required", "2")),
        (ImdsSupport::Unset, ("optional", "1")),
    ] {
        let control = control_over(Arc::new(MemoryStore), images(unlisted));
        let (tokens, hops) = launched(&control, UNLISTED, "").await;
        assert_eq!((tokens.as_str(), hops.as_str()), expected);
    }
}

/// The account's default of the tags cannot show keys that metadata cannot have.
#[tokio::test]
async fn a_document_gets_no_shown_tags_that_cannot_be_shown() {
    let control = with_images();
    let defaults =
        "ModifyInstanceMetadataDefaults&InstanceMetadataTags=enabled&HttpEndpoint=disabled";
    assert_eq!(call(&control, defaults).await.status, 200);
    for (id, key, shown) in [(RUNNING, "a/b", "disabled"), (STOPPED, "ab", "enabled")] {
        let tags = json!({"Tags": [{"Key": key, "Value": ""}]});
        let mut instance: Instance = serde_json::from_value(document(id, "running", tags)).unwrap();
        instance.named_options = NamedOptions(Some(OptionsUpdate::default()));
        control
            .registry
            .register(instance, now().wall)
            .await
            .unwrap();
        let options = options_of(&control, id);
        assert_eq!(options.instance_metadata_tags.as_str(), shown, "{key}");
        assert_eq!(options.http_endpoint.as_str(), "disabled");
    }
}

/// With HttpTokensEnforced, a launch whose image would make tokens optional is refused.
#[tokio::test]
async fn enforcement_refuses_the_launch_of_an_image_that_makes_tokens_optional() {
    let control = with_images();
    let enforce = "ModifyInstanceMetadataDefaults&HttpTokensEnforced=enabled";
    assert_eq!(call(&control, enforce).await.status, 200);
    let launch = "RunInstances&MinCount=1&MaxCount=1&ImageId=";
    assert_eq!(
        call(&control, &format!("{launch}{UNSET}")).await.code(),
        "UnsupportedOperation"
    );
    assert_eq!(call(&control, &format!("{launch}{V2}")).await.status, 200);
}

#[tokio::test]
async fn an_image_is_given_v2_once_and_for_all_and_keeps_it_over_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let open = || {
        let store = Arc::new(FileStore::open(directory.path()).unwrap());
        control_over(store, images(ImdsSupport::V2))
    };
    let shown = format!("DescribeImageAttribute&Attribute=imdsSupport&ImageId={UNSET}");
    let modify = format!("ModifyImageAttribute&ImageId={UNSET}&ImdsSupport.Value=v2.0");
    {
        let control = open();
        let defaults = "ModifyInstanceMetadataDefaults&HttpPutResponseHopLimit=4";
        assert_eq!(call(&control, defaults).await.status, 200);
        let before = call(&control, &shown).await;
        assert!(
            before.body.contains("<imdsSupport></imdsSupport>"),
            "{}",
            before.body
        );
        assert_eq!(launched(&control, UNSET, "").await.0, "optional");
        let dry = call(&control, &format!("{modify}&DryRun=true")).await;
        assert_eq!(dry.code(), "DryRunOperation");
        assert_eq!(launched(&control, UNSET, "").await.0, "optional");

        let changed = call(&control, &modify).await;
        assert_eq!(
            (changed.status, changed.element("return")),
            (200, Some("true"))
        );
        // Again, and in the older spelling.
        let older =
            format!("ModifyImageAttribute&ImageId={UNSET}&Attribute=imdsSupport&Value=v2.0");
        assert_eq!(call(&control, &older).await.status, 200);
    }
    let control = open();
    let after = call(&control, &shown).await;
    assert_eq!(after.element("imdsSupport"), Some("<value>v2.0</value>"));
    // The defaults of the account are in the same record.
    let (tokens, hops) = launched(&control, UNSET, "").await;
    assert_eq!((tokens.as_str(), hops.as_str()), ("required", "4"));
    let clear = "ModifyInstanceMetadataDefaults&HttpPutResponseHopLimit=-1";
    assert_eq!(call(&control, clear).await.status, 200);
    assert_eq!(launched(&control, UNSET, "").await.1, "2");
}

/// A failed write keeps the image as it was.
#[tokio::test]
async fn an_image_whose_change_cannot_be_stored_is_not_changed() {
    struct Failing;
    impl StepwiseStore for Failing {
        fn load(&self) -> Result<Loaded, StoreError> {
            Ok(Loaded::default())
        }
        fn put(&self, _: &Record) -> Result<(), StoreError> {
            Ok(())
        }
        fn remove(&self, _: &InstanceId) -> Result<(), StoreError> {
            Ok(())
        }
        fn put_account(&self, _: &crate::registry::Account) -> Result<(), StoreError> {
            Err(StoreError {
                action: "write /secret/path".into(),
                reason: std::io::Error::other("disk full"),
                stored: crate::registry::StoredState::Previous,
            })
        }
    }
    let control = control_over(Arc::new(Failing), images(ImdsSupport::V2));
    let modify = format!("ModifyImageAttribute&ImageId={UNSET}&ImdsSupport.Value=v2.0");
    let answer = call(&control, &modify).await;
    assert_eq!((answer.status, answer.code()), (500, "InternalError"));
    assert!(!answer.body.contains("secret"), "{}", answer.body);
    assert_eq!(launched(&control, UNSET, "").await.0, "optional");
}

#[tokio::test]
async fn image_actions_refuse_invalid_input() {
    let control = with_images();
    let unset = "A value of '' is not valid for ImdsSupport. The only value is 'v2.0', which can't be unset.";
    for (rest, code, message) in [
        (
            "DescribeImages&ImageId.1=x",
            "InvalidAMIID.Malformed",
            "Invalid id: \"x\" (expecting \"ami-...\")",
        ),
        (
            "DescribeImages&ImageId.1=ami-00000000",
            "InvalidAMIID.NotFound",
            "The image id '[ami-00000000]' does not exist",
        ),
        (
            "DescribeImages&ImageId.1=ami-00000000&ImageId.2=ami-22222222&ImageId.3=ami-00000001",
            "InvalidAMIID.NotFound",
            "The image ids '[ami-00000000, ami-00000001]' do not exist",
        ),
        (
            "DescribeImages&Filter.1.Name=foo&Filter.1.Value.1=x",
            "InvalidParameterValue",
            "The filter 'foo' is invalid",
        ),
        (
            "DescribeImages&ExecutableBy.1=self",
            "UnsupportedOperation",
            "The parameter ExecutableBy.1 is not supported.",
        ),
        (
            "DescribeImages&Foo=1",
            "UnknownParameter",
            "The parameter Foo is not recognized",
        ),
        (
            "DescribeImages&NextToken=x",
            "InvalidNextToken",
            "The token 'x' is invalid",
        ),
        (
            "DescribeImageAttribute&Attribute=imdsSupport",
            "MissingParameter",
            "The request must contain the parameter ImageId",
        ),
        (
            "DescribeImageAttribute&ImageId=ami-22222222",
            "MissingParameter",
            "The request must contain the parameter Attribute",
        ),
        (
            "DescribeImageAttribute&ImageId=ami-22222222&Attribute=ImdsSupport",
            "InvalidParameterValue",
            "Value (ImdsSupport) for parameter attribute is invalid. Unknown attribute.",
        ),
        (
            "DescribeImageAttribute&ImageId=ami-22222222&Attribute=bootMode",
            "UnsupportedOperation",
            "The attribute bootMode is not supported.",
        ),
        (
            "DescribeImageAttribute&ImageId=ami-99999999&Attribute=imdsSupport",
            "InvalidAMIID.NotFound",
            "The image id '[ami-99999999]' does not exist",
        ),
        (
            "ModifyImageAttribute&ImageId=ami-22222222",
            "InvalidParameterCombination",
            "No attributes specified.",
        ),
        (
            "ModifyImageAttribute&ImageId=ami-22222222&ImdsSupport.Value=",
            "InvalidParameterValue",
            unset,
        ),
        (
            "ModifyImageAttribute&ImageId=ami-22222222&Attribute=imdsSupport",
            "MissingParameter",
            "The request must contain the parameter Value",
        ),
        (
            "ModifyImageAttribute&ImageId=ami-22222222&Attribute=launchPermission&OperationType=add&UserId.1=123456789012",
            "UnsupportedOperation",
            "The attribute launchPermission can't be modified here.",
        ),
        (
            "ModifyImageAttribute&ImageId=ami-22222222&Attribute=description&Value=x",
            "UnsupportedOperation",
            "The attribute description can't be modified here.",
        ),
        (
            "ModifyImageAttribute&ImageId=ami-99999999&ImdsSupport.Value=v2.0",
            "InvalidAMIID.NotFound",
            "The image id '[ami-99999999]' does not exist",
        ),
        (
            "ModifyImageAttribute&ImageId=ami-22222222&ImdsSupport.Value=v2.0&Description.Value=x",
            "UnsupportedOperation",
            "The parameter Description.Value is not supported.",
        ),
        (
            "ResetImageAttribute&ImageId=ami-22222222&Attribute=imdsSupport",
            "InvalidParameterValue",
            "Value (imdsSupport) for parameter attribute is invalid. Only launchPermission can be reset.",
        ),
        (
            "ResetImageAttribute&ImageId=ami-22222222",
            "MissingParameter",
            "The request must contain the parameter Attribute",
        ),
    ] {
        let answer = call(&control, rest).await;
        assert_eq!(
            (answer.status, answer.code(), answer.element("Message")),
            (400, code, Some(message)),
            "{rest}"
        );
    }
    let reset = format!("ResetImageAttribute&ImageId={V2}&Attribute=launchPermission");
    assert_eq!(call(&control, &reset).await.element("return"), Some("true"));
}

#[tokio::test]
async fn images_are_those_of_the_table_and_of_the_instances() {
    let control = with_images();
    launched(&control, UNLISTED, "").await;
    let ids = |answer: &Answer| -> Vec<String> {
        let rows = answer.body.split("<item><imageId>").skip(1);
        rows.map(|row| row.split_once('<').unwrap().0.to_string())
            .collect()
    };
    let all = call(&control, "DescribeImages").await;
    assert_eq!(ids(&all), [UNSET, V2, UNLISTED]);
    assert_eq!(
        all.body.matches("<imdsSupport>v2.0</imdsSupport>").count(),
        2
    );
    for (rest, expected) in [
        ("ImageId.1=ami-22222222", &[V2][..]),
        ("Owner.1=self", &[UNSET, V2, UNLISTED]),
        (
            "Owner.1=123456789012&Owner.2=amazon",
            &[UNSET, V2, UNLISTED],
        ),
        ("Owner.1=amazon", &[]),
        ("Filter.1.Name=name&Filter.1.Value.1=gold*", &[UNSET, V2]),
        (
            "Filter.1.Name=architecture&Filter.1.Value.1=x86_64",
            &[UNLISTED],
        ),
        (
            "Filter.1.Name=state&Filter.1.Value.1=available",
            &[UNSET, V2, UNLISTED],
        ),
        ("Filter.1.Name=owner-alias&Filter.1.Value.1=amazon", &[]),
        ("IncludeDeprecated=true", &[UNSET, V2, UNLISTED]),
    ] {
        let answer = call(&control, &format!("DescribeImages&{rest}")).await;
        assert_eq!(ids(&answer), expected, "{rest}: {}", answer.body);
    }
    let one = call(&control, &format!("DescribeImages&ImageId.1={V2}")).await;
    let (_, item) = one.body.split_once("<imagesSet>").unwrap();
    assert_eq!(
        item,
        "<item><imageId>ami-22222222</imageId><imageLocation>123456789012/golden</imageLocation>\
         <imageState>available</imageState><imageOwnerId>123456789012</imageOwnerId><isPublic>false</isPublic>\
         <architecture>arm64</architecture><imageType>machine</imageType><name>golden</name>\
         <description>ours</description><rootDeviceType>ebs</rootDeviceType><blockDeviceMapping/>\
         <virtualizationType>hvm</virtualizationType><hypervisor>xen</hypervisor><imdsSupport>v2.0</imdsSupport>\
         </item></imagesSet></DescribeImagesResponse>"
    );
}

/// Without permission for an instance, its image is not shown either.
#[tokio::test]
async fn a_caller_sees_the_images_of_the_instances_that_it_may_describe() {
    let control = with_images();
    launched(&control, UNLISTED, "").await;
    let policy = |rules: &[&str]| {
        crate::control::access_keys::demo_with(crate::control::policy::read::policy(rules))
    };
    control.replace_keys(policy(&[
        r#"{ effect = "allow", actions = ["ec2:DescribeImages"] }"#,
    ]));
    let shown = call(&control, "DescribeImages").await;
    assert!(
        shown.status == 200 && shown.body.contains(V2),
        "{}",
        shown.body
    );
    assert!(!shown.body.contains(UNLISTED), "{}", shown.body);
    for action in [
        "DescribeImageAttribute&ImageId=ami-22222222&Attribute=imdsSupport",
        "ModifyImageAttribute&ImageId=ami-22222222&ImdsSupport.Value=v2.0",
        "ResetImageAttribute&ImageId=ami-22222222&Attribute=launchPermission",
    ] {
        assert_eq!(
            call(&control, action).await.code(),
            "UnauthorizedOperation",
            "{action}"
        );
    }
}

/// A change of an image must not reveal it either.
#[tokio::test]
async fn an_image_that_only_hidden_instances_have_is_unknown_to_every_action() {
    let control = with_images();
    launched(&control, UNLISTED, "").await;
    let rules = |rules: &[&str]| {
        crate::control::access_keys::demo_with(crate::control::policy::read::policy(rules))
    };
    let images = r#"{ effect = "allow", actions = ["ec2:*Image*"] }"#;
    let instances = r#"{ effect = "allow", actions = ["ec2:DescribeInstances"] }"#;
    let actions = |image: &str| {
        [
            format!("DescribeImages&ImageId.1={image}"),
            format!("DescribeImageAttribute&ImageId={image}&Attribute=imdsSupport"),
            format!("ModifyImageAttribute&ImageId={image}&ImdsSupport.Value=v2.0&DryRun=true"),
            format!("ResetImageAttribute&ImageId={image}&Attribute=launchPermission"),
            format!("ModifyImageAttribute&ImageId={image}&ImdsSupport.Value=v2.0"),
        ]
    };
    control.replace_keys(rules(&[images]));
    for image in [UNLISTED, "ami-00000000"] {
        for action in actions(image) {
            let answer = call(&control, &action).await;
            let message = format!("The image id '[{image}]' does not exist");
            assert_eq!(
                (answer.code(), answer.element("Message")),
                ("InvalidAMIID.NotFound", Some(message.as_str())),
                "{action}"
            );
        }
    }
    control.replace_keys(rules(&[images, instances]));
    for action in actions(UNLISTED) {
        let answer = call(&control, &action).await;
        assert!(
            ["OK", "DryRunOperation"].contains(&answer.code()),
            "{action}: {}",
            answer.body
        );
    }
}

/// Who made images require tokens, and when, is in the audit line.
#[tokio::test]
async fn the_audit_line_names_the_image_and_its_change() {
    let control = with_images();
    let change = format!(
        "Version=2016-11-15&Action=ModifyImageAttribute&ImageId={UNSET}&ImdsSupport.Value=v2.0"
    );
    let changes = format!("changes=\"image {UNSET}: imdsSupport → v2.0\"");
    let (answer, line) = audited(&control, &change).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert!(line.contains(&changes), "{line}");
    // The second call changes nothing.
    let (answer, line) = audited(&control, &change).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert!(!line.contains("changes="), "{line}");
}

/// A rule about HttpTokens of the defaults sees that clearing the preference makes tokens optional
/// for images without `v2.0`.
#[tokio::test]
async fn clearing_a_default_counts_as_every_default_that_an_image_can_lead_to() {
    let rules = [
        r#"{ effect = "deny", actions = ["ec2:ModifyInstanceMetadataDefaults"], conditions = { "ec2:Attribute/HttpTokens" = "optional" } }"#,
        r#"{ effect = "allow", actions = ["ec2:*"] }"#,
    ];
    let clear = "ModifyInstanceMetadataDefaults&HttpTokens=no-preference";
    for (images, code) in [
        (images(ImdsSupport::V2), "UnauthorizedOperation"),
        (Images::default(), "OK"),
    ] {
        let control = control_over(Arc::new(MemoryStore), images);
        control.replace_keys(crate::control::access_keys::demo_with(
            crate::control::policy::read::policy(&rules),
        ));
        assert_eq!(call(&control, clear).await.code(), code);
    }
}
