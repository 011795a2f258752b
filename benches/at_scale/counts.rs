//! Exact counts of a change: system calls by strace, instructions by valgrind.

use std::fs;
use std::process::{Command, Stdio};

use super::control;
use super::figures::Figures;
use super::host::Host;

/// Changes that are counted.
const CHANGES: usize = 50;
/// valgrind runs a start 50 times slower, so larger fleets are left out.
const MOST_INSTANCES: usize = 2000;

pub(crate) fn measure(host: &Host, figures: &mut Figures) {
    system_calls(host, figures);
    if host.instances <= MOST_INSTANCES {
        instructions(host, figures);
    }
}

fn system_calls(host: &Host, figures: &mut Figures) {
    let (daemon, _) = host.start_and_wait();
    daemon.wait_until_idle();
    let file = host.directory.join("strace");
    let tracer = Command::new("strace")
        .args(["-f", "-qq", "-c", "-U", "calls,name", "-o"])
        .arg(&file)
        .args(["-p", &daemon.pid().to_string()])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let Ok(mut tracer) = tracer else {
        eprintln!("strace is not installed: system calls are not counted");
        return;
    };
    std::thread::sleep(std::time::Duration::from_secs(1));
    control::modify_many(host.control, host.instances, 1, CHANGES);
    let pid = rustix::process::Pid::from_child(&tracer);
    let _ = rustix::process::kill_process(pid, rustix::process::Signal::INT);
    let _ = tracer.wait();
    let text = fs::read_to_string(&file).unwrap_or_default();
    let calls = |names: &[&str]| -> f64 {
        let lines = text.lines().filter_map(|line| {
            let mut words = line.split_whitespace();
            let (count, name) = (words.next()?.parse::<u64>().ok()?, words.next()?);
            (name != "total" && (names.is_empty() || names.contains(&name))).then_some(count)
        });
        lines.sum::<u64>() as f64 / CHANGES as f64
    };
    let synced = calls(&["fsync", "fdatasync", "syncfs"]);
    let renamed = calls(&["rename", "renameat", "renameat2"]);
    let text = format!("{synced:.2} / {renamed:.2} / {:.0}", calls(&[]));
    figures.add(
        "a change: syncs / renames / system calls",
        host.instances,
        text,
    );
    daemon.terminate();
}

fn instructions(host: &Host, figures: &mut Figures) {
    let output = host.directory.join("callgrind.out");
    let out_file = format!("--callgrind-out-file={}", output.display());
    if Command::new("valgrind").arg("--version").output().is_err() {
        eprintln!("valgrind is not installed: instructions are not counted");
        return;
    }
    let program = [
        "valgrind",
        "--tool=callgrind",
        "--instr-atstart=no",
        &out_file,
    ];
    let mut daemon = host.start_by(&program);
    if !daemon.wait_for_log("ready") {
        eprintln!("valgrind cannot run this daemon: instructions are not counted");
        return;
    }
    daemon.wait_until_idle();
    control::modify_many(host.control, host.instances, 1, 3);
    let collect = |switch: &str| {
        let pid = daemon.pid().to_string();
        let _ = Command::new("callgrind_control")
            .args(["-i", switch, &pid])
            .output();
    };
    collect("on");
    control::modify_many(host.control, host.instances, 100, CHANGES);
    collect("off");
    daemon.terminate();
    // The file has a line with the sum of all threads.
    let text = fs::read_to_string(&output).unwrap_or_default();
    let total = text.lines().find_map(|line| line.strip_prefix("totals: "));
    let total: Option<u64> = total.and_then(|total| total.trim().parse().ok());
    if let Some(total) = total {
        let each = total / CHANGES as u64;
        figures.add("a change: instructions", host.instances, each);
    }
}
