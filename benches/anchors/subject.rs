//! The servers that are compared, each a process of its own.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use clap::ValueEnum as _;

use crate::Anchor;
use crate::host::{self, Daemon, Host};

/// No server takes longer to start.
const PATIENCE: Duration = Duration::from_secs(30);
/// No limit that the anchors do not have.
const WITHOUT_LIMITS: &str =
    "[guest]\nrequests_per_second = 0\nconnections = 65536\nhead_seconds = 60\n";

/// A running server. It is stopped when this is dropped.
pub(crate) struct Subject {
    pub(crate) name: String,
    pub(crate) address: SocketAddr,
    /// Where its guest sends from.
    pub(crate) source: IpAddr,
    process: Process,
}

enum Process {
    Anchor(Child),
    Imdsd {
        daemon: Daemon,
        /// Its directory is removed with it.
        _host: Host,
    },
}

impl Subject {
    /// Starts one of this program's servers.
    pub(crate) fn anchor(name: &str, anchor: Anchor) -> Subject {
        let address = host::free_port();
        let anchor = anchor.to_possible_value().expect("it has a name");
        let program = std::env::current_exe().expect("this program has a path");
        let mut command = Command::new(program);
        command
            .args(["--serve", anchor.get_name(), "--listen"])
            .arg(address.to_string());
        Subject::start(name, address, command)
    }

    /// Starts nginx, if it is installed.
    pub(crate) fn nginx(parent: &Path) -> Option<Subject> {
        let program = ["/usr/sbin/nginx", "/usr/local/sbin/nginx", "/usr/bin/nginx"]
            .into_iter()
            .find(|program| Path::new(program).exists());
        let Some(program) = program else {
            eprintln!("nginx is not installed: it is left out");
            return None;
        };
        let address = host::free_port();
        let directory = parent.join(format!("nginx-{}", std::process::id()));
        fs::create_dir_all(&directory).expect("the directory can be created");
        let file = directory.join("nginx.conf");
        fs::write(&file, nginx_configuration(&directory, address)).expect("it can be written");
        let mut command = Command::new(program);
        command.arg("-p").arg(&directory).arg("-c").arg(&file);
        command.args(["-e", "/dev/null"]);
        let subject = Subject::start("nginx", address, command);
        // It has read what it needs.
        let _ = fs::remove_dir_all(&directory);
        Some(subject)
    }

    /// Starts a daemon.
    pub(crate) fn imdsd(number: usize, program: &Path, parent: &Path) -> Subject {
        let directory = Subject::directory(number, parent);
        let host = Host::new(&directory, program, 1, WITHOUT_LIMITS);
        let (daemon, _) = host.start_and_wait();
        daemon.wait_until_idle();
        Subject {
            name: match number {
                0 => "imdsd".to_string(),
                number => format!("imdsd {}", number + 1),
            },
            address: host.guests,
            source: IpAddr::V4(host::address(0)),
            process: Process::Imdsd {
                daemon,
                _host: host,
            },
        }
    }

    /// Returns the directory of a daemon.
    pub(crate) fn directory(number: usize, parent: &Path) -> PathBuf {
        parent.join(format!("compare-{}-{number}", std::process::id()))
    }

    fn start(name: &str, address: SocketAddr, mut command: Command) -> Subject {
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("the server can be started");
        let subject = Subject {
            name: name.to_string(),
            address,
            source: IpAddr::V4(Ipv4Addr::new(127, 1, 0, 1)),
            process: Process::Anchor(child),
        };
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect(address).is_err() {
            assert!(Instant::now() < deadline, "{name} does not listen");
            std::thread::sleep(Duration::from_millis(5));
        }
        subject
    }

    pub(crate) fn pid(&self) -> u32 {
        match &self.process {
            Process::Anchor(child) => child.id(),
            Process::Imdsd { daemon, .. } => daemon.pid(),
        }
    }
}

impl Drop for Subject {
    fn drop(&mut self) {
        if let Process::Anchor(child) = &mut self.process {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// One process, so that its processor time is that of the server; without logs and files.
fn nginx_configuration(directory: &Path, address: SocketAddr) -> String {
    let body = crate::epoll::BODY;
    let token = crate::epoll::TOKEN;
    let directory = directory.display();
    format!(
        "daemon off;
master_process off;
pid {directory}/pid;
error_log /dev/null crit;
worker_rlimit_nofile 65536;
events {{ worker_connections 32768; }}
http {{
    access_log off;
    server_tokens off;
    default_type text/plain;
    keepalive_requests 1000000000;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    server {{
        listen {address} backlog=4096;
        location = /latest/api/token {{ return 200 \"{token}\"; }}
        location / {{ return 200 \"{body}\"; }}
    }}
}}
"
    )
}
