//! What is on the disk before it is acknowledged, checked by the daemon's system calls; and disks
//! that fail at the worst time.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io::Write as _;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use crate::support::{Answer, Daemon, INSTANCE, PATIENCE, call, element, read_to_end, require};

const MODIFY: &str = "ModifyInstanceMetadataOptions";

/// Returns a command that becomes imdsd under strace, which ends with it. Panics if strace cannot
/// trace.
pub fn traced(trace: &Path, arguments: &[&OsStr]) -> Command {
    // The tracer is the daemon's grandchild, so that the test's child is the daemon.
    let strace = |output: &Path| {
        let mut strace = Command::new("strace");
        strace
            .args(["-D", "-f", "-y", "-qq", "-s", "64", "-o"])
            .arg(output);
        strace
    };
    let works = strace(Path::new("/dev/null"))
        .arg("true")
        .status()
        .is_ok_and(|status| status.success());
    require(works, "strace, and permission to trace");
    let mut command = strace(trace);
    command.args(arguments).arg(env!("CARGO_BIN_EXE_imdsd"));
    command
}

/// A system call: its text, and the lines of the trace on which it began and ended.
#[derive(Debug)]
struct SystemCall {
    text: String,
    began: usize,
    ended: usize,
}

fn system_calls(trace: &str) -> Vec<SystemCall> {
    let mut calls: Vec<SystemCall> = Vec::new();
    let mut unfinished: HashMap<&str, usize> = HashMap::new();
    for (number, line) in trace.lines().enumerate() {
        let Some((thread, text)) = line.split_once(' ') else {
            continue;
        };
        let text = text.trim_start();
        if text.starts_with("<... ") {
            if let Some(call) = unfinished.remove(thread) {
                calls[call].text += text;
                calls[call].ended = number;
            }
            continue;
        }
        let is_unfinished = text.ends_with("<unfinished ...>");
        if is_unfinished {
            unfinished.insert(thread, calls.len());
        }
        let ended = if is_unfinished { usize::MAX } else { number };
        calls.push(SystemCall {
            text: text.to_string(),
            began: number,
            ended,
        });
    }
    calls
}

/// Waits for this many successful answers, and returns the system calls until then.
fn after_answers(trace: &Path, answers: usize) -> Vec<SystemCall> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let calls = system_calls(&String::from_utf8_lossy(&std::fs::read(trace).unwrap()));
        if calls.iter().filter(|call| is_answer(call)).count() >= answers {
            return calls;
        }
        assert!(Instant::now() < deadline, "no answer: {calls:#?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn is_answer(call: &SystemCall) -> bool {
    ["write", "send"]
        .iter()
        .any(|name| call.text.starts_with(name))
        && call.text.contains("HTTP/1.1 200")
}

fn is_sync(call: &SystemCall, path: &Path) -> bool {
    let is_sync = ["fsync(", "fdatasync("]
        .iter()
        .any(|name| call.text.starts_with(name));
    is_sync && call.text.contains(&format!("<{}>", path.display()))
}

type Matcher<'t> = &'t dyn Fn(&SystemCall) -> bool;

/// Asserts that these calls succeed in this order: each begins after the one before has ended.
fn assert_order(calls: &[SystemCall], steps: &[(&str, Matcher<'_>)]) {
    let mut from = 0;
    for (what, matches) in steps {
        let at = |call: &&SystemCall| call.began >= from && matches(call);
        let found = calls
            .iter()
            .find(at)
            .unwrap_or_else(|| panic!("no {what} from line {from} on: {calls:#?}"));
        // A failed call makes nothing durable.
        assert!(!found.text.contains("= -1 "), "{what}: {found:?}");
        from = found.ended + 1;
    }
}

fn imdsd(daemon: &Daemon, arguments: &[&str]) -> Output {
    let mut imdsd = Command::new(env!("CARGO_BIN_EXE_imdsd"));
    imdsd
        .args(arguments)
        .arg("--socket")
        .arg(daemon.directory.path().join("run/admin.sock"));
    imdsd.output().unwrap()
}

fn modify(daemon: &Daemon, option: &str, value: &str) -> Answer {
    call(
        daemon.control,
        MODIFY,
        &[("InstanceId", INSTANCE), (option, value)],
    )
    .expect("the daemon answers")
}

/// Returns the status of a guest's request without a token; 0 without an answer, which the guest may
/// notice as early as the handshake.
fn guest(daemon: &Daemon) -> u16 {
    let Ok(mut stream) = TcpStream::connect(daemon.ipv4) else {
        return 0;
    };
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    match stream.write_all(b"GET / HTTP/1.1\r\nHost: imds\r\n\r\n") {
        Ok(()) => Answer::read(&read_to_end(&mut stream)).status,
        Err(_) => 0,
    }
}

fn record(daemon: &Daemon) -> PathBuf {
    daemon
        .directory
        .path()
        .canonicalize()
        .unwrap()
        .join(format!("state/instances/{INSTANCE}.json"))
}

#[test]
#[ignore = "needs strace and permission to trace; tests/all runs it"]
fn a_change_and_a_removal_are_on_the_disk_before_they_are_answered() {
    let mut daemon = Daemon::start(|_| {});
    let record = record(&daemon);
    let instances = record.parent().unwrap();
    let temporary = instances.join(format!(".{INSTANCE}.tmp"));
    let trace = daemon.directory.path().join("trace");
    let traced_calls = "trace=openat,write,writev,sendto,sendmsg,fsync,fdatasync,rename,renameat,renameat2,unlink,unlinkat,mkdir";
    let arguments = ["-e", traced_calls].map(OsStr::new);
    let command = traced(&trace, &arguments);
    daemon.kill();
    daemon.start_again_by(command);

    assert_eq!(modify(&daemon, "HttpTokens", "optional").status, 200);
    let calls = after_answers(&trace, 1);
    let quoted = |path: &Path| format!("\"{}\"", path.display());
    // The directory above the state directory need not be readable: nothing was created in it.
    let above = quoted(daemon.directory.path());
    assert!(
        !calls
            .iter()
            .any(|call| call.text.starts_with("openat(") && call.text.contains(&above)),
        "{calls:#?}"
    );
    let wrote = |call: &SystemCall| {
        call.text.starts_with("write(") && call.text.contains(temporary.to_str().unwrap())
    };
    let renamed =
        |call: &SystemCall| call.text.starts_with("rename") && call.text.contains(&quoted(&record));
    let answered = calls.iter().find(|call| is_answer(call)).unwrap().began;
    let until: Vec<SystemCall> = calls
        .into_iter()
        .filter(|call| call.began <= answered)
        .collect();
    assert_order(
        &until,
        &[
            ("write of the record", &wrote),
            ("fsync of the record", &|call| is_sync(call, &temporary)),
            ("rename", &renamed),
            ("fsync of the directory", &|call| is_sync(call, instances)),
            ("answer", &is_answer),
        ],
    );

    let syncs = |path: &Path| until.iter().filter(|call| is_sync(call, path)).count();
    assert_eq!((syncs(&temporary), syncs(instances)), (1, 1));

    assert!(
        imdsd(&daemon, &["instance", "delete", INSTANCE])
            .status
            .success()
    );
    let calls = after_answers(&trace, 2);
    let answered = calls
        .iter()
        .filter(|call| is_answer(call))
        .nth(1)
        .unwrap()
        .began;
    let until: Vec<SystemCall> = calls
        .into_iter()
        .filter(|call| call.began <= answered)
        .collect();
    assert_order(
        &until,
        &[
            ("answer to the change", &is_answer),
            ("removal", &|call| {
                call.text.starts_with("unlink") && call.text.contains(&quoted(&record))
            }),
            ("fsync of the directory", &|call| is_sync(call, instances)),
            ("answer", &is_answer),
        ],
    );
    println!(
        "write, fsync, rename, fsync of the directory, answer; unlink, fsync of the directory, answer"
    );
}

/// Many records, new or changed, cost one sync each, and one of their directory for all.
#[test]
#[ignore = "needs strace and permission to trace; tests/all runs it"]
fn many_records_share_one_sync_of_their_directory() {
    const COUNT: usize = 20;
    let mut daemon = Daemon::start(|_| {});
    daemon.kill();
    let directory = daemon.directory.path().canonicalize().unwrap();
    std::fs::remove_dir_all(directory.join("state")).unwrap();
    let document = |number: usize| serde_json::json!({ "InstanceId": format!("i-{number:017x}"), "LaunchTime": "2026-01-01T00:00:00Z" });
    let documents: Vec<serde_json::Value> = (0..COUNT).map(document).collect();
    let documents = serde_json::Value::from(documents).to_string();
    std::fs::write(directory.join("instance.json"), documents).unwrap();
    let trace = directory.join("trace");
    let arguments = ["-e", "trace=fsync,fdatasync,rename,renameat,renameat2"].map(OsStr::new);
    daemon.start_again_by(traced(&trace, &arguments));
    let count = || {
        let instances = directory.join("state/instances");
        let calls = system_calls(&std::fs::read_to_string(&trace).unwrap());
        let of_record = format!("<{}/.i-", instances.display());
        let of_records = |name: &str| {
            let calls = calls.iter().filter(|call| call.text.starts_with(name));
            calls.filter(|call| call.text.contains(&of_record)).count()
        };
        let renames = calls
            .iter()
            .filter(|call| call.text.starts_with("rename") && call.text.contains("/instances/.i-"));
        let of_directory = calls.iter().filter(|call| is_sync(call, &instances));
        (of_records("fsync("), renames.count(), of_directory.count())
    };
    assert_eq!(count(), (COUNT, COUNT, 1));
    let event = imdsd(&daemon, &["event", "rebalance", "--all"]);
    assert!(event.status.success(), "{event:?}");
    assert_eq!(count(), (2 * COUNT, 2 * COUNT, 2));
}

/// Hundreds of new records are synced with their file system, where that is as strict. If it fails,
/// each of them is synced by itself.
#[test]
#[ignore = "needs strace and permission to trace; tests/all runs it"]
fn hundreds_of_new_records_share_one_sync_of_their_file_system_unless_it_fails() {
    const COUNT: usize = 300;
    let mut daemon = Daemon::start(|_| {});
    let directory = daemon.directory.path().canonicalize().unwrap();
    let document = |number: usize| serde_json::json!({ "InstanceId": format!("i-{number:017x}"), "LaunchTime": "2026-01-01T00:00:00Z" });
    let documents: Vec<serde_json::Value> = (0..COUNT).map(document).collect();
    let documents = serde_json::Value::from(documents).to_string();
    std::fs::write(directory.join("instance.json"), documents).unwrap();
    let file_system = Command::new("stat")
        .args(["-f", "-c", "%T"])
        .arg(&directory)
        .output();
    let file_system = String::from_utf8(file_system.unwrap().stdout).unwrap();
    let is_known = ["ext2/ext3", "xfs", "btrfs"].contains(&file_system.trim());
    let instances = directory.join("state/instances");
    for inject in ["", "inject=syncfs:error=EIO"] {
        daemon.kill();
        std::fs::remove_dir_all(directory.join("state")).unwrap();
        let trace = directory.join("trace");
        let mut arguments = vec![
            "-e",
            "trace=syncfs,fsync,fdatasync,rename,renameat,renameat2",
        ];
        if !inject.is_empty() {
            arguments.extend(["-e", inject]);
        }
        let arguments: Vec<&OsStr> = arguments.into_iter().map(OsStr::new).collect();
        // While much is to be written, each record is synced by itself.
        assert!(Command::new("sync").status().unwrap().success());
        daemon.start_again_by(traced(&trace, &arguments));
        let calls = system_calls(&std::fs::read_to_string(&trace).unwrap());
        let count = |is_counted: &dyn Fn(&SystemCall) -> bool| {
            calls.iter().filter(|call| is_counted(call)).count()
        };
        let temporary = format!("<{}/.i-", instances.display());
        let of_file_system = |call: &SystemCall| call.text.starts_with("syncfs(");
        let of_record =
            |call: &SystemCall| call.text.starts_with("fsync(") && call.text.contains(&temporary);
        let is_rename = |call: &SystemCall| {
            call.text.starts_with("rename") && call.text.contains("/instances/.i-")
        };
        let is_together = is_known && inject.is_empty();
        assert_eq!(count(&of_file_system), usize::from(is_known), "{inject}");
        let expected = if is_together { 0 } else { COUNT };
        assert_eq!(count(&of_record), expected, "{inject} on {file_system}");
        assert_eq!(count(&is_rename), COUNT, "{inject}");
        assert_eq!(count(&|call| is_sync(call, &instances)), 1, "{inject}");
        let synced: Matcher<'_> = if is_together {
            &of_file_system
        } else {
            &of_record
        };
        assert_order(
            &calls,
            &[
                ("sync of the records", synced),
                ("rename", &is_rename),
                ("fsync of the directory", &|call| is_sync(call, &instances)),
            ],
        );
        let last_sync = calls
            .iter()
            .filter(|call| synced(call))
            .map(|call| call.ended)
            .max();
        let first_rename = calls
            .iter()
            .filter(|call| is_rename(call))
            .map(|call| call.began)
            .min();
        assert!(last_sync < first_rename, "{inject}");
        let stored = std::fs::read_dir(&instances).unwrap();
        let stored = stored.filter(|file| {
            let name = file.as_ref().unwrap().file_name();
            !name.to_string_lossy().starts_with('.')
        });
        assert_eq!(stored.count(), COUNT, "{inject}");
    }
}

/// A record is as durable as the directories above it, up to the first one that existed before.
#[test]
#[ignore = "needs strace and permission to trace; tests/all runs it"]
fn new_directories_are_on_the_disk_before_the_first_record() {
    let mut daemon = Daemon::start(|_| {});
    let directory = daemon.directory.path().canonicalize().unwrap();
    let trace = directory.join("trace");
    let arguments = ["-e", "trace=fsync,rename,renameat,renameat2,mkdir,mkdirat"].map(OsStr::new);
    let command = traced(&trace, &arguments);
    daemon.kill();
    let config = directory.join("imdsd.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text.replace("\"state\"", "\"a/b/state\"")).unwrap();
    daemon.start_again_by(command);

    let calls = system_calls(&std::fs::read_to_string(&trace).unwrap());
    let created = |call: &SystemCall, name: &str| {
        call.text.starts_with("mkdir")
            && call.text.contains(&format!("/{name}\""))
            && call.text.ends_with("= 0")
    };
    let sync_of = |below: &'static str| {
        let path = directory.join(below);
        move |call: &SystemCall| {
            is_sync(
                call,
                Path::new(path.to_str().unwrap().trim_end_matches('/')),
            )
        }
    };
    assert_order(
        &calls,
        &[
            ("mkdir a", &|call| created(call, "a")),
            ("fsync of the existing directory", &sync_of("")),
            ("mkdir b", &|call| created(call, "b")),
            ("fsync of a", &sync_of("a")),
            ("mkdir state", &|call| created(call, "state")),
            ("fsync of b", &sync_of("a/b")),
            ("mkdir instances", &|call| created(call, "instances")),
            ("fsync of state", &sync_of("a/b/state")),
            ("rename", &|call| {
                call.text.starts_with("rename") && call.text.contains(INSTANCE)
            }),
        ],
    );
}

/// Restarts the daemon so that fsync of the directory of records fails. `when` is strace's expression
/// for the calls that fail, counted in each thread.
fn restart_with_failing_fsync(daemon: &mut Daemon, when: &str) {
    let inject = format!("inject=fsync:error=EIO:when={when}");
    let record = record(daemon);
    let instances = record.parent().unwrap();
    let trace = daemon.directory.path().join("trace");
    let arguments = [
        "-e".as_ref(),
        "trace=fsync".as_ref(),
        "-e".as_ref(),
        inject.as_ref(),
        "-P".as_ref(),
        instances.as_os_str(),
    ];
    let command = traced(&trace, &arguments);
    daemon.kill();
    daemon.start_again_by(command);
}

fn described(daemon: &Daemon, option: &str) -> String {
    let answer = call(
        daemon.control,
        "DescribeInstances",
        &[("InstanceId.1", INSTANCE)],
    )
    .unwrap();
    element(&answer.body, option)
        .unwrap_or(&answer.body)
        .to_string()
}

/// The record was unlinked, and it is unknown whether that is durable. The document is weaker than
/// the options that were acknowledged since.
#[test]
#[ignore = "needs strace and permission to trace; tests/all runs it"]
fn a_removal_that_fails_loses_nothing_that_was_acknowledged() {
    let mut daemon =
        Daemon::start(|instance| instance["MetadataOptions"]["HttpTokens"] = "optional".into());
    assert_eq!(modify(&daemon, "HttpTokens", "required").status, 200);
    for (when, still_served) in [("1", true), ("1+", false)] {
        restart_with_failing_fsync(&mut daemon, when);
        let deleted = imdsd(&daemon, &["instance", "delete", INSTANCE]);
        assert_eq!(deleted.status.code(), Some(1), "{deleted:?}");
        let said = String::from_utf8(deleted.stderr).unwrap();
        match still_served {
            true => assert!(said.contains("the instance is unchanged"), "{said}"),
            false => assert!(said.contains("the instance is not served until"), "{said}"),
        }
        let (status, no_change) = (guest(&daemon), modify(&daemon, "HttpTokens", "required"));
        assert_eq!(
            status,
            if still_served { 401 } else { 0 },
            "with when={when}"
        );
        assert_eq!(
            no_change.status,
            if still_served { 200 } else { 500 },
            "{}",
            no_change.body
        );
        if !still_served {
            assert!(
                no_change.body.contains("could not be stored"),
                "{}",
                no_change.body
            );
        }
        daemon.kill();
        daemon.start_again();
        assert_eq!(
            described(&daemon, "httpTokens"),
            "required",
            "after a restart, with when={when}"
        );
        assert_eq!(guest(&daemon), 401, "after a restart, with when={when}");
    }
}

/// Neither the change nor its rollback could be made durable. The instance is not served, and the
/// daemon logs why, until the disk works again.
#[test]
#[ignore = "needs strace and permission to trace; tests/all runs it"]
fn an_instance_with_a_change_neither_stored_nor_undone_is_served_once_the_disk_works() {
    let mut daemon = Daemon::start(|_| {});
    restart_with_failing_fsync(&mut daemon, "1..2");
    assert_eq!(modify(&daemon, "HttpTokens", "optional").status, 500);
    let of_it = |line: &serde_json::Value, word: &str| {
        line["instance"] == INSTANCE
            && line["message"]
                .as_str()
                .is_some_and(|message| message.contains(word))
    };
    let logged = daemon.wait_for(|line| of_it(line, "instance quarantined; retrying"));
    assert_eq!(logged["level"], "ERROR");
    daemon.wait_for(|line| of_it(line, "served again"));
    for after in ["the failure", "a restart"] {
        assert_eq!(
            described(&daemon, "httpTokens"),
            "required",
            "after {after}"
        );
        let deadline = Instant::now() + PATIENCE;
        // Its sockets are opened next.
        while guest(&daemon) == 0 && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(guest(&daemon), 401, "after {after}");
        if after == "the failure" {
            assert_eq!(modify(&daemon, "HttpTokens", "required").status, 200);
            daemon.kill();
            daemon.start_again();
        }
    }
}
