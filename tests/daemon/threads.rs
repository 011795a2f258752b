//! Guests wait for no other plane: they are served on threads of their own.

use std::fs::File;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

use rustix::fs::{OFlags, fcntl_setfl};
use rustix::pipe::fcntl_setpipe_size;

use crate::support::{Daemon, PATIENCE, TOKEN_REQUEST};

/// A daemon whose log is a pipe that the test fills: its next line blocks the thread that logs it.
struct FullLog {
    child: Child,
    read: File,
    write: File,
}

impl FullLog {
    /// Starts the daemon of another one's directory.
    fn start(daemon: &Daemon, threads: usize) -> FullLog {
        let config = daemon.directory.path().join("imdsd.toml");
        let text = std::fs::read_to_string(&config).unwrap();
        let (text, _) = text.split_once("[log]").unwrap();
        let of_this_log = format!("[log]\nformat = \"json\"\n[guest]\nthreads = {threads}\n");
        std::fs::write(&config, text.to_string() + &of_this_log).unwrap();
        let (read, write) = rustix::pipe::pipe().unwrap();
        fcntl_setpipe_size(&write, 4096).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_imdsd"))
            .args(["serve", "--config"])
            .arg(&config)
            .stdin(Stdio::null())
            .stderr(write.try_clone().unwrap())
            .spawn()
            .unwrap();
        let mut log = FullLog {
            child,
            read: read.into(),
            write: write.into(),
        };
        let (mut text, mut buffer) = (String::new(), [0; 1024]);
        while !text.contains("the key for identity documents is ready") {
            let length = log.read.read(&mut buffer).unwrap();
            text += std::str::from_utf8(&buffer[..length]).unwrap();
        }
        log
    }

    fn fill(&mut self) {
        fcntl_setfl(&self.write, OFlags::NONBLOCK).unwrap();
        let full = loop {
            if let Err(reason) = self.write.write(b".") {
                break reason;
            }
        };
        assert_eq!(full.kind(), ErrorKind::WouldBlock);
        fcntl_setfl(&self.write, OFlags::empty()).unwrap();
    }

    /// Reads the log from now on.
    fn drain(&self) {
        let mut read = self.read.try_clone().unwrap();
        std::thread::spawn(move || std::io::copy(&mut read, &mut std::io::sink()));
    }
}

impl Drop for FullLog {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The main thread does everything else: control, admin, changes, reloads, signals.
#[test]
fn guests_are_answered_while_the_main_thread_is_blocked() {
    let mut daemon = Daemon::start(|instance| {
        instance["MetadataOptions"]["HttpTokens"] = "optional".into();
    });
    daemon.terminate();
    for threads in [1, 2] {
        let mut log = FullLog::start(&daemon, threads);
        log.fill();
        // It is refused, which is logged before it is answered.
        let mut caller = TcpStream::connect(daemon.control).unwrap();
        caller
            .write_all(b"POST / HTTP/1.1\r\nHost: ec2\r\nContent-Length: 9\r\n\r\nAction=No")
            .unwrap();
        for _ in 0..100 {
            assert_eq!(daemon.get("/latest/meta-data/").status, 200);
            assert_eq!(daemon.ask(TOKEN_REQUEST).status, 200);
        }
        caller.set_nonblocking(true).unwrap();
        let unanswered = caller.read(&mut [0; 64]).unwrap_err();
        assert_eq!(unanswered.kind(), ErrorKind::WouldBlock);

        log.drain();
        caller.set_nonblocking(false).unwrap();
        caller.set_read_timeout(Some(PATIENCE)).unwrap();
        assert!(caller.read(&mut [0; 64]).unwrap() > 0);
    }
}
