//! A store that fails under a running daemon, and many callers that change one instance at once.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::support::{
    ACCESS_KEY, Answer, Daemon, INSTANCE, call, element, instance_in, is_root, require_program,
};

const MODIFY: &str = "ModifyInstanceMetadataOptions";
/// The size in bytes of the disk that a test fills.
const DISK: usize = 64 * 1024;

/// A mount namespace of the test's own with the daemon's state directory. The network is the test's.
struct Mounts(Child);

impl Mounts {
    /// Runs `prepare`, a shell script with the state directory in `$1`. Panics if it cannot mount.
    fn new(prepare: &str, state: &Path) -> Mounts {
        require_program("unshare");
        require_program("nsenter");
        // It ends when the test closes its standard input, and after ten minutes at the latest.
        let hold = format!("{prepare} && echo ready && exec timeout 600 cat");
        let mut unshare = Command::new("unshare");
        unshare
            .args(if is_root() {
                &[][..]
            } else {
                &["--user", "--map-root-user"]
            })
            .arg("--mount");
        unshare
            .args(["sh", "-ec", &hold, "hold"])
            .arg(state)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut holder = unshare.spawn().expect("unshare runs");
        let mut line = String::new();
        BufReader::new(holder.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        if line != "ready\n" {
            let _ = holder.wait();
            panic!("this test needs root or user namespaces: cannot mount with `{prepare}`");
        }
        Mounts(holder)
    }

    /// A command that becomes this program with these mounts.
    fn command(&self, program: &str) -> Command {
        let mut nsenter = Command::new("nsenter");
        nsenter
            .arg("--target")
            .arg(self.0.id().to_string())
            .arg("--mount");
        if !is_root() {
            nsenter.args(["--user", "--preserve-credentials"]);
        }
        nsenter.arg(program);
        nsenter
    }

    fn imdsd(&self) -> Command {
        self.command(env!("CARGO_BIN_EXE_imdsd"))
    }

    fn shell(&self, script: &str, state: &Path) {
        let done = self
            .command("sh")
            .args(["-ec", script, "sh"])
            .arg(state)
            .status()
            .unwrap();
        assert!(done.success(), "{script}");
    }

    /// Returns the path by which the test reaches a file inside the mount namespace.
    fn inside(&self, path: &Path) -> PathBuf {
        Path::new("/proc")
            .join(self.0.id().to_string())
            .join("root")
            .join(path.strip_prefix("/").unwrap())
    }
}

impl Drop for Mounts {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn modify(daemon: &Daemon, option: &str, value: &str) -> Answer {
    call(
        daemon.control,
        MODIFY,
        &[("InstanceId", INSTANCE), (option, value)],
    )
    .expect("the daemon answers")
}

fn described(daemon: &Daemon, option: &str) -> String {
    let answer = call(
        daemon.control,
        "DescribeInstances",
        &[("InstanceId.1", INSTANCE)],
    )
    .unwrap();
    element(element(&answer.body, "metadataOptions").unwrap(), option)
        .unwrap()
        .to_string()
}

/// Returns a daemon that was restarted with its state directory on mounts of its own.
fn started_on(prepare: &str) -> (Daemon, Mounts, PathBuf) {
    let mut daemon = Daemon::start(|_| {});
    let state = daemon.directory.path().join("state");
    daemon.kill();
    let mounts = Mounts::new(prepare, &state);
    daemon.start_again_by(mounts.imdsd());
    (daemon, mounts, state)
}

/// Asserts that the caller of a refused change gets an error, and that every reader sees the old
/// options, now and after a restart.
fn assert_still_required(daemon: &mut Daemon, mounts: &Mounts, refused: &Answer) {
    assert_eq!(
        (refused.status, element(&refused.body, "Code")),
        (500, Some("InternalError")),
        "{}",
        refused.body
    );
    assert!(
        refused.body.contains("Nothing was changed"),
        "{}",
        refused.body
    );
    for after in ["the failure", "a restart"] {
        assert_eq!(described(daemon, "httpTokens"), "required", "after {after}");
        assert_eq!(
            daemon.get("/latest/meta-data/instance-id").status,
            401,
            "after {after}"
        );
        assert_eq!(
            daemon
                .get_with("/latest/meta-data/instance-id", &daemon.token())
                .body,
            INSTANCE,
            "after {after}"
        );
        if after == "the failure" {
            daemon.kill();
            daemon.start_again_by(mounts.imdsd());
        }
    }
}

/// A disk with room for all, some or none of a record: a change is either in force, or it is refused
/// and the old options stay in force.
#[test]
#[ignore = "needs root or user namespaces, to mount; tests/all runs it"]
fn a_full_disk_refuses_changes_and_keeps_the_old_options_until_there_is_room() {
    let prepare = format!("mount -t tmpfs -o size={DISK},mode=700 none \"$1\"");
    let (mut daemon, mounts, state) = started_on(&prepare);
    let filler = mounts.inside(&state.join("filler"));
    let records = || {
        std::fs::read_dir(mounts.inside(&state.join("instances")))
            .unwrap()
            .count()
    };

    // The filler takes all free pages and gives them back one by one.
    let mut file = std::fs::File::create(&filler).unwrap();
    let mut taken = 0;
    while file.write_all(&[0; 4096]).is_ok() {
        taken += 1;
    }
    let (mut refused, mut free) = (0, 0);
    loop {
        let answer = modify(&daemon, "HttpTokens", "optional");
        if answer.status == 200 {
            break;
        }
        refused += 1;
        assert_still_required(&mut daemon, &mounts, &answer);
        assert_eq!(
            records(),
            1,
            "no unfinished file takes the room that is left"
        );
        free += 1;
        file.set_len((taken - free) * 4096).unwrap();
    }
    println!(
        "{taken} pages of 4096 bytes taken, {refused} changes refused, taken with {free} pages free"
    );
    assert!(refused > 0 && free > 0, "it was full");

    // The change needed no restart.
    for after in ["the change", "a restart"] {
        assert_eq!(
            described(&daemon, "httpTokens"),
            "optional",
            "after {after}"
        );
        assert_eq!(
            daemon.get("/latest/meta-data/instance-id").status,
            200,
            "after {after}"
        );
        if after == "the change" {
            daemon.kill();
            daemon.start_again_by(mounts.imdsd());
        }
    }
    assert_eq!(modify(&daemon, "HttpTokens", "required").status, 200);
    assert_eq!(daemon.get("/latest/meta-data/instance-id").status, 401);
}

/// A file system remounts itself read-only after an error. The daemon goes on when its records
/// become read-only, and it also starts and serves from read-only records.
#[test]
#[ignore = "needs root or user namespaces, to mount; tests/all runs it"]
fn a_read_only_store_refuses_changes_and_is_served_from_as_it_is() {
    // Bind mounts over themselves: mount(2) cannot remount a file system read-only while a file on
    // it is open for writing; only the kernel can.
    let prepare = "mount --bind \"$1\" \"$1\" && mount --bind \"$1/instances\" \"$1/instances\"";
    let (mut daemon, mounts, state) = started_on(prepare);
    mounts.shell("mount -o remount,bind,ro \"$1/instances\"", &state);
    let refused = modify(&daemon, "HttpTokens", "optional");
    assert_still_required(&mut daemon, &mounts, &refused);

    // The whole state directory.
    daemon.kill();
    mounts.shell("mount -o remount,bind,ro \"$1\"", &state);
    daemon.start_again_by(mounts.imdsd());
    let refused = modify(&daemon, "HttpTokens", "optional");
    assert_still_required(&mut daemon, &mounts, &refused);

    daemon.kill();
    mounts.shell(
        "mount -o remount,bind,rw \"$1\" && mount -o remount,bind,rw \"$1/instances\"",
        &state,
    );
    daemon.start_again_by(mounts.imdsd());
    assert_eq!(modify(&daemon, "HttpTokens", "optional").status, 200);
    assert_eq!(daemon.get("/latest/meta-data/instance-id").status, 200);
    println!("read-only under the daemon, and from its start: refused; writable again: taken");
}

/// A new document on a full disk: the other instances are served, also after a reload, and the
/// reload still revokes keys.
#[test]
fn a_document_that_cannot_be_stored_affects_no_other_instance_and_is_stored_later() {
    const OTHER: &str = "i-0fedcba9876543210";
    let mut daemon = Daemon::start(|_| {});
    daemon.kill();
    let directory = daemon.directory.path().to_path_buf();
    let document = directory.join("instance.json");
    let known = instance_in(&std::fs::read_to_string(&document).unwrap());
    let other = serde_json::json!({ "InstanceId": OTHER, "LaunchTime": "2026-01-01T00:00:00Z" });
    std::fs::write(&document, serde_json::json!([other, known]).to_string()).unwrap();
    // A directory at the path of its temporary file fails every write of this record, for root too.
    let in_the_way = directory.join(format!("state/instances/.{OTHER}.tmp"));
    std::fs::create_dir(&in_the_way).unwrap();
    daemon.start_again();
    assert_eq!(daemon.get("/").status, 401);
    let describe = |daemon: &Daemon| {
        call(
            daemon.control,
            "DescribeInstances",
            &[("InstanceId.1", OTHER)],
        )
        .unwrap()
        .status
    };
    assert_eq!(describe(&daemon), 500);

    let keys = directory.join("access-keys.toml");
    let old = std::fs::read_to_string(&keys).unwrap();
    let reload = || {
        let mut imdsd = Command::new(env!("CARGO_BIN_EXE_imdsd"));
        let done = imdsd
            .args(["reload", "--socket"])
            .arg(directory.join("run/admin.sock"))
            .output()
            .unwrap();
        assert_eq!(done.status.code(), Some(1), "{done:?}");
        let said = String::from_utf8(done.stdout).unwrap();
        assert!(
            said.contains(&format!(
                "{OTHER}: not served, because it could not be stored"
            )),
            "{said}"
        );
        assert!(
            said.contains("1 instances unchanged, 1 access keys in force"),
            "{said}"
        );
    };
    std::fs::write(&keys, old.replace(ACCESS_KEY.0, "AKIDANOTHERANOTHER01")).unwrap();
    reload();
    assert_eq!(describe(&daemon), 401, "the revoked key is refused");
    std::fs::write(&keys, old).unwrap();
    reload();
    assert_eq!(describe(&daemon), 500);

    std::fs::remove_dir(&in_the_way).unwrap();
    daemon.wait_for(|line| {
        line["instance"] == OTHER && line["message"].as_str().unwrap().starts_with("registered")
    });
    assert_eq!(describe(&daemon), 200);
}

/// The store still has the attachment as that of an instance that no document has any more. The
/// guest there may already belong to the unstored instance, so neither is served.
#[test]
fn no_instance_is_served_at_an_attachment_of_a_document_that_cannot_be_stored() {
    const OTHER: &str = "i-0fedcba9876543210";
    let mut daemon = Daemon::start(|_| {});
    let directory = daemon.directory.path().to_path_buf();
    let document = directory.join("instance.json");
    let only = std::fs::read_to_string(&document).unwrap();
    let other = serde_json::json!({
        "InstanceId": OTHER,
        "LaunchTime": "2026-01-01T00:00:00Z",
        "Imds": { "Attachments": [{ "Listener": "demo" }] },
    });
    let in_the_way = directory.join(format!("state/instances/.{OTHER}.tmp"));
    std::fs::create_dir(&in_the_way).unwrap();
    let imdsd = |arguments: &[&str]| {
        let mut imdsd = Command::new(env!("CARGO_BIN_EXE_imdsd"));
        let done = imdsd
            .args(arguments)
            .arg("--socket")
            .arg(directory.join("run/admin.sock"))
            .output()
            .unwrap();
        String::from_utf8_lossy(&[done.stdout, done.stderr].concat()).into_owned()
    };
    // A reload, then a start.
    assert_eq!(daemon.get("/").status, 401);
    std::fs::write(&document, other.to_string()).unwrap();
    for is_start in [false, true] {
        match is_start {
            false => drop(imdsd(&["reload"])),
            true => {
                daemon.kill();
                daemon.start_again();
            }
        }
        assert_eq!(daemon.get("/").status, 0, "is_start: {is_start}");
        let health = daemon.admin("/v1/health");
        assert!(
            health.contains("1 instances whose documents could not be stored"),
            "{health}"
        );
        let metrics = daemon.admin("/metrics");
        assert!(
            metrics.contains("\nimdsd_instances_not_stored 1\n"),
            "{metrics}"
        );
        assert!(
            metrics.contains("\nimdsd_instances_unreadable 0\n"),
            "{metrics}"
        );
        for (arguments, retries) in [
            (&["list"][..], "tried again every second"),
            (&["get", OTHER], "tries again every second"),
            (&["delete", OTHER], "tries again every second"),
            (&["explain", OTHER], "tries again every second"),
        ] {
            let said = imdsd(&[&["instance"], arguments].concat());
            assert!(
                said.contains("could not be stored") && said.contains(retries),
                "{said}"
            );
        }
    }

    // Once stored, it claims the attachment as the other instance does. If its document is removed
    // before that, it claims nothing.
    std::fs::write(&document, only).unwrap();
    imdsd(&["reload"]);
    assert_eq!(daemon.get("/").status, 401);
    assert!(daemon.admin("/v1/health").contains("\"ok\""));
    std::fs::write(&document, other.to_string()).unwrap();
    imdsd(&["reload"]);
    std::fs::remove_dir(&in_the_way).unwrap();
    daemon.wait_for(|line| {
        line["instance"] == OTHER && line["message"].as_str().unwrap().starts_with("registered")
    });
    assert_eq!(daemon.get("/").status, 0);
    let health = daemon.admin("/v1/health");
    assert!(
        health.contains("several instances claim") && !health.contains("not be stored"),
        "{health}"
    );
}

/// Eight callers change one instance, each its own option or tag: no caller undoes an acknowledged
/// change of another one.
#[test]
fn changes_to_different_options_of_one_instance_by_eight_callers_all_survive() {
    const ROUNDS: usize = 40;
    type Own = (&'static str, &'static str, fn(usize) -> String);
    const SWITCH: fn(usize) -> String = |round| ["enabled", "disabled"][round % 2].to_string();
    let options: [Own; 5] = [
        ("HttpTokens", "httpTokens", |round| {
            ["optional", "required"][round % 2].to_string()
        }),
        (
            "HttpPutResponseHopLimit",
            "httpPutResponseHopLimit",
            |round| (round % 64 + 1).to_string(),
        ),
        ("HttpEndpoint", "httpEndpoint", SWITCH),
        ("HttpProtocolIpv6", "httpProtocolIpv6", SWITCH),
        ("InstanceMetadataTags", "instanceMetadataTags", SWITCH),
    ];
    let tags = ["one", "two", "three"];
    let mut daemon = Daemon::start(|_| {});
    let control = daemon.control;
    std::thread::scope(|scope| {
        for (option, shown, value) in options {
            scope.spawn(move || {
                for round in 0..ROUNDS {
                    let value = value(round);
                    let answer = call(
                        control,
                        MODIFY,
                        &[("InstanceId", INSTANCE), (option, &value)],
                    )
                    .unwrap();
                    assert_eq!(
                        element(&answer.body, shown),
                        Some(value.as_str()),
                        "{}",
                        answer.body
                    );
                    // No other caller changes it.
                    let answer =
                        call(control, "DescribeInstances", &[("InstanceId.1", INSTANCE)]).unwrap();
                    let options = element(&answer.body, "metadataOptions").unwrap();
                    assert_eq!(element(options, shown), Some(value.as_str()), "{options}");
                }
            });
        }
        for key in tags {
            scope.spawn(move || {
                for round in 0..ROUNDS {
                    let tag = [
                        ("ResourceId.1", INSTANCE),
                        ("Tag.1.Key", key),
                        ("Tag.1.Value", &round.to_string()),
                    ];
                    assert_eq!(call(control, "CreateTags", &tag).unwrap().status, 200);
                }
            });
        }
    });
    for after in ["the last change", "a kill"] {
        let answer = call(control, "DescribeInstances", &[("InstanceId.1", INSTANCE)])
            .unwrap()
            .body;
        let shown_options = element(&answer, "metadataOptions").unwrap();
        for (option, shown, value) in options {
            assert_eq!(
                element(shown_options, shown),
                Some(value(ROUNDS - 1).as_str()),
                "{option} after {after}"
            );
        }
        for key in tags {
            let tag = answer
                .split(&format!("<key>{key}</key>"))
                .nth(1)
                .expect("the tag is there");
            assert_eq!(
                element(tag, "value"),
                Some((ROUNDS - 1).to_string().as_str()),
                "{key} after {after}"
            );
        }
        println!(
            "after {after}: 5 options and 3 tags as their callers left them, of {} changes",
            8 * ROUNDS
        );
        if after == "the last change" {
            daemon.kill();
            daemon.start_again();
        }
    }
}
