//! A store that fails under a running daemon, and many callers who change one instance at once.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::support::{
    ACCESS_KEY, Answer, Daemon, INSTANCE, call, element, instance_in, is_root, skip,
};

const MODIFY: &str = "ModifyInstanceMetadataOptions";
/// Pages of the disk that is filled.
const DISK: usize = 64 * 1024;

/// Mounts of the test's own, in which the daemon has its state directory. It shares the network with the test.
struct Mounts(Child);

impl Mounts {
    /// `prepare` is shell, with the state directory in `$1`. `None`, and the skip is said, where nobody may mount.
    fn new(test: &str, prepare: &str, state: &Path) -> Option<Mounts> {
        // It lives as long as its standard input is open, which is as long as the test lives, and ten minutes at most.
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
        let mut holder = match unshare.spawn() {
            Ok(holder) => holder,
            Err(reason) => {
                skip(test, &format!("unshare can't be run: {reason}"));
                return None;
            }
        };
        let mut line = String::new();
        BufReader::new(holder.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        if line != "ready\n" {
            let _ = holder.wait();
            skip(test, "nothing can be mounted");
            return None;
        }
        Some(Mounts(holder))
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

    /// A path as it is with these mounts.
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

/// A daemon whose state directory is on mounts of its own from here on.
fn started_on(test: &str, prepare: &str) -> Option<(Daemon, Mounts, PathBuf)> {
    let mut daemon = Daemon::start(|_| {});
    let state = daemon.directory.path().join("state");
    daemon.kill();
    let mounts = Mounts::new(test, prepare, &state)?;
    daemon.start_again_by(mounts.imdsd());
    Some((daemon, mounts, state))
}

/// A refused change: the caller is told, and everybody sees the old options, now and after a restart.
fn hold_to_required(daemon: &mut Daemon, mounts: &Mounts, refused: &Answer) {
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

/// A disk with room for all, some or none of a record: a change is in force, or it is refused and the old options are.
#[test]
fn a_full_disk_refuses_changes_and_keeps_the_old_options_until_there_is_room() {
    let prepare = format!("mount -t tmpfs -o size={DISK},mode=700 none \"$1\"");
    let Some((mut daemon, mounts, state)) = started_on("a_full_disk_refuses_changes", &prepare)
    else {
        return;
    };
    let filler = mounts.inside(&state.join("filler"));
    let records = || {
        std::fs::read_dir(mounts.inside(&state.join("instances")))
            .unwrap()
            .count()
    };

    // Everything that is free is taken, and given back page by page.
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
        hold_to_required(&mut daemon, &mounts, &answer);
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

    // And no restart is needed for it.
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

/// What a file system does to itself after an error. The records under a daemon become read-only, and it goes on; it starts
/// on them, too, and serves what they say.
#[test]
fn a_read_only_store_refuses_changes_and_is_served_from_as_it_is() {
    // Mounts over themselves: one that has a file open for writing can't be made read-only by anybody but the kernel.
    let prepare = "mount --bind \"$1\" \"$1\" && mount --bind \"$1/instances\" \"$1/instances\"";
    let Some((mut daemon, mounts, state)) =
        started_on("a_read_only_store_refuses_changes", prepare)
    else {
        return;
    };
    mounts.shell("mount -o remount,bind,ro \"$1/instances\"", &state);
    let refused = modify(&daemon, "HttpTokens", "optional");
    hold_to_required(&mut daemon, &mounts, &refused);

    // The whole state directory.
    daemon.kill();
    mounts.shell("mount -o remount,bind,ro \"$1\"", &state);
    daemon.start_again_by(mounts.imdsd());
    let refused = modify(&daemon, "HttpTokens", "optional");
    hold_to_required(&mut daemon, &mounts, &refused);

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

/// A new document on a disk that takes no more: the others are served, also after a reload, which revokes keys all the
/// same.
#[test]
fn a_document_that_cannot_be_stored_costs_nobody_else_and_is_stored_once_it_can_be() {
    const OTHER: &str = "i-0fedcba9876543210";
    let mut daemon = Daemon::start(|_| {});
    daemon.kill();
    let directory = daemon.directory.path().to_path_buf();
    let document = directory.join("instance.json");
    let known = instance_in(&std::fs::read_to_string(&document).unwrap());
    let other = serde_json::json!({ "InstanceId": OTHER, "LaunchTime": "2026-01-01T00:00:00Z" });
    std::fs::write(&document, serde_json::json!([other, known]).to_string()).unwrap();
    // A directory in the way of its temporary file fails every write of this record, for root too.
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
    assert_eq!(describe(&daemon), 401, "the revoked key is void");
    std::fs::write(&keys, old).unwrap();
    reload();
    assert_eq!(describe(&daemon), 500);

    std::fs::remove_dir(&in_the_way).unwrap();
    daemon.wait_for(|line| {
        line["instance"] == OTHER && line["message"].as_str().unwrap().starts_with("registered")
    });
    assert_eq!(describe(&daemon), 200);
}

/// The store has it as that of an instance that no document tells of any more: behind it may be the other's guest by now.
#[test]
fn nobody_is_served_at_a_way_in_of_a_document_that_cannot_be_stored() {
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

    // Stored, it claims the way in as the other does; withdrawn before that, it does not.
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

/// Eight callers with one instance, each with something of its own to change: nobody undoes what another was told is done.
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
                    // Nobody else changes it.
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
