//! System calls of the thread that serves guests, by strace.

use std::io;
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::guest::{Guest, Request};
use crate::support::PATIENCE;

/// Requests whose system calls are counted. The fewest are returned: on a busy machine a guest may be
/// late now and then, which costs the daemon more.
const REQUESTS: usize = 9;
/// Delays the daemon for 25 ms when it accepts and when it has shut a connection down, so that the guest
/// is always faster: its request is there when the daemon looks for it, and so is its end.
const GUEST_IS_FASTER: [&str; 4] = [
    "-e",
    "inject=accept4:delay_enter=25000",
    "-e",
    "inject=shutdown:delay_exit=25000",
];

/// strace, attached to one thread. It is stopped when this is dropped.
struct Tracer(Child);

impl Drop for Tracer {
    fn drop(&mut self) {
        // SIGINT lets it detach; SIGKILL would leave the thread stopped.
        let _ = kill_process(Pid::from_child(&self.0), Signal::INT);
        let _ = self.0.wait();
    }
}

/// Returns the system calls of one request that finds the daemon asleep.
pub(crate) fn count(
    pid: u32,
    directory: &Path,
    connect: &dyn Fn() -> io::Result<TcpStream>,
    request: Request,
) -> u64 {
    let thread = guest_thread(pid);
    let mut guest = Guest::new(connect, request);
    guest.send();
    let file = directory.join("system-calls");
    let tracer = Command::new("strace")
        // A test build checks descriptors with fcntl, a release build does not.
        .args(["-qq", "-e", "signal=none", "-e", "trace=!fcntl"])
        .args(GUEST_IS_FASTER)
        .arg("-o")
        .arg(&file)
        .args(["-p", &thread])
        .stdin(Stdio::null())
        .spawn()
        .expect("strace can be started");
    let tracer = Tracer(tracer);
    wait_until("strace is attached", || {
        field(&thread, "TracerPid:").is_some_and(|tracer| tracer != "0")
    });
    let calls = || {
        wait_until("the thread sleeps", || is_asleep(&thread));
        let text = std::fs::read_to_string(&file).expect("strace writes it");
        text.lines().count() as u64
    };
    // strace writes the system call that it interrupts twice.
    guest.send();
    let mut before = calls();
    let each: Vec<u64> = (0..REQUESTS)
        .map(|_| {
            guest.send();
            let count = calls();
            count - std::mem::replace(&mut before, count)
        })
        .collect();
    drop(tracer);
    println!("{request:?}: {each:?}");
    each.into_iter().min().expect("requests were sent")
}

/// Returns the id of the thread that serves guests. It is looked for again: the kernel leaves threads
/// out of the list when another one ends meanwhile, and a thread gives itself its name.
fn guest_thread(pid: u32) -> String {
    let find = || {
        let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).expect("the daemon runs");
        let mut names = tasks.filter_map(|task| task.ok()?.file_name().into_string().ok());
        names.find(|thread| field(thread, "Name:").as_deref() == Some("guest-0"))
    };
    let mut found = None;
    wait_until("the daemon has a thread named guest-0", || {
        found = find();
        found.is_some()
    });
    found.expect("it was found")
}

/// Returns whether a thread waits for something. It does not while strace has stopped it, nor once an
/// event has woken it.
fn is_asleep(thread: &str) -> bool {
    field(thread, "State:").is_some_and(|state| state.starts_with('S'))
}

fn field(thread: &str, name: &str) -> Option<String> {
    let text = std::fs::read_to_string(format!("/proc/{thread}/status")).ok()?;
    let value = text.lines().find_map(|line| line.strip_prefix(name))?;
    Some(value.trim().to_string())
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_micros(200));
    }
}
