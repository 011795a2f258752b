//! Instructions and allocations, by valgrind's callgrind. `vgdb` switches the counting.

use std::io;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::guest::{Guest, Request};

/// The requests of the two runs. The difference has neither the start of a connection nor that of the
/// counting in it.
const RUNS: [u64; 2] = [10, 60];
/// valgrind runs a test build a hundred times slower.
const LONG: Duration = Duration::from_secs(60);
/// The functions of the C library that allocate.
const ALLOCATING: [&str; 5] = [
    "malloc",
    "calloc",
    "realloc",
    "posix_memalign",
    "aligned_alloc",
];

/// Returns the command that executes the daemon under callgrind, which counts nothing yet.
pub(crate) fn command(output: &Path) -> Command {
    let mut command = Command::new("valgrind");
    command
        .args(["--quiet", "--tool=callgrind", "--instr-atstart=no"])
        .args(["--compress-strings=no", "--compress-pos=no"])
        .args(["--separate-threads=yes", "--fair-sched=yes"])
        .arg(format!("--callgrind-out-file={}", output.display()))
        .arg(env!("CARGO_BIN_EXE_imdsd"));
    command
}

/// Returns the instructions and allocations of one request, in the thread that answers it.
pub(crate) fn count(
    pid: u32,
    output: &Path,
    connect: &dyn Fn() -> io::Result<TcpStream>,
    request: Request,
) -> (u64, u64) {
    let mut guest = Guest::new(connect, request);
    // What the first requests initialize is not counted.
    for _ in 0..RUNS[0] {
        guest.send();
    }
    let [short, long] = RUNS.map(|requests| {
        wait_until_idle(pid);
        monitor(pid, "instrumentation on");
        monitor(pid, "zero");
        for _ in 0..requests {
            guest.send();
        }
        wait_until_idle(pid);
        monitor(pid, "dump");
        monitor(pid, "instrumentation off");
        sums_of_guest_thread(&newest(output))
    });
    let requests = RUNS[1] - RUNS[0];
    let each = |sum: u64| (sum + requests / 2) / requests;
    (each(long.0 - short.0), each(long.1 - short.1))
}

/// Sends a command to callgrind.
fn monitor(pid: u32, command: &str) {
    let output = Command::new("vgdb")
        .arg(format!("--pid={pid}"))
        .args(command.split(' '))
        .output()
        .expect("vgdb can be started");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "vgdb {command}: {text}");
}

/// Waits until the daemon has used no processor time for a tenth of a second.
fn wait_until_idle(pid: u32) {
    let deadline = Instant::now() + LONG;
    loop {
        let before = processor_time(pid);
        std::thread::sleep(Duration::from_millis(100));
        // A thread that has ended takes its time with it.
        if processor_time(pid).saturating_sub(before) < Duration::from_millis(3) {
            return;
        }
        assert!(Instant::now() < deadline, "the daemon is never idle");
    }
}

fn processor_time(pid: u32) -> Duration {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).expect("the daemon runs");
    let of_task = |task: io::Result<std::fs::DirEntry>| {
        let text = std::fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse::<u64>().ok()
    };
    Duration::from_nanos(tasks.filter_map(of_task).sum())
}

/// Returns the files of the dump that callgrind wrote last, one for each thread. It numbers dumps and
/// threads: `counts.2-01`.
fn newest(output: &Path) -> Vec<PathBuf> {
    let directory = output.parent().expect("it has a directory");
    let prefix = format!("{}.", output.file_name().expect("a name").display());
    let number = |path: &PathBuf| -> Option<u32> {
        let name = path.file_name()?.to_str()?.strip_prefix(&prefix)?;
        name.split_once('-')?.0.parse().ok()
    };
    let entries = std::fs::read_dir(directory).expect("it can be read");
    let mut dumps: Vec<_> = entries
        .map(|entry| entry.expect("it can be read").path())
        .collect();
    let last = dumps.iter().filter_map(number).max();
    dumps.retain(|path| last.is_some() && number(path) == last);
    dumps
}

/// Returns the sums of the thread that compresses: it checks and issues tokens. Others work in the
/// background, now and then.
fn sums_of_guest_thread(dumps: &[PathBuf]) -> (u64, u64) {
    let threads = dumps.iter().map(|dump| sums(dump));
    let mut compressing = threads.filter(|(_, _, compressed)| *compressed > 0);
    let (instructions, allocations, compressed) = compressing
        .next()
        .unwrap_or_else(|| panic!("SHA-256 has another name now: {dumps:?}"));
    assert!(
        compressing.next().is_none(),
        "two threads answer: {dumps:?}"
    );
    (instructions - compressed, allocations)
}

/// Returns the instructions in a dump, the calls that allocate, and the instructions of SHA-256's
/// compression among the first.
fn sums(dump: &Path) -> (u64, u64, u64) {
    let text = std::fs::read_to_string(dump).expect("the dump can be read");
    let (mut instructions, mut allocations, mut compressed) = (0, 0, 0);
    let (mut object, mut function, mut called) = ("", "", "");
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if let Some(name) = line.strip_prefix("ob=") {
            object = name;
        } else if let Some(name) = line.strip_prefix("fn=") {
            function = name;
        } else if let Some(name) = line.strip_prefix("cfn=") {
            called = name;
        } else if let Some(calls) = line.strip_prefix("calls=") {
            // The line after it has the instructions of the called function, which has lines of its own.
            lines.next();
            if ALLOCATING.contains(&called) && !object.contains("/libc.so") {
                allocations += first_number(calls);
            }
        } else if line.starts_with(|first: char| first.is_ascii_digit()) {
            let cost = line.split(' ').nth(1).map_or(0, first_number);
            instructions += cost;
            if function.contains("sha256") && function.contains("compress") {
                compressed += cost;
            }
        }
    }
    (instructions, allocations, compressed)
}

fn first_number(text: &str) -> u64 {
    let number = text.split(' ').next().and_then(|word| word.parse().ok());
    number.expect("callgrind writes numbers")
}
