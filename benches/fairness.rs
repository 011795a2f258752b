//! What a guest waits beside another guest that attacks, and a caller of the EC2 API beside a
//! stranger: `cargo bench --profile dist --bench fairness`.
//!
//! Two guests share one listener on loopback and are known by their source addresses. One of them
//! reads its instance id about a hundred times a second, alone and then beside each attack of the
//! other. Every figure has its comparison from the same run. Everything is bounded in time, stays on
//! loopback, and is stopped at the end.

#[allow(dead_code, reason = "benches/at_scale uses the rest")]
#[path = "at_scale/control.rs"]
mod control;
#[allow(dead_code, reason = "benches/at_scale uses the rest")]
#[path = "at_scale/figures.rs"]
mod figures;
#[allow(dead_code, reason = "benches/at_scale uses the rest")]
#[path = "at_scale/guest.rs"]
mod guest;
#[allow(dead_code, reason = "benches/at_scale uses the rest")]
#[path = "at_scale/host.rs"]
mod host;

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;
use socket2::{Domain, SockRef, Socket, Type};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpSocket;

use figures::Latencies;
use host::Host;

/// The numbers of the two guests.
const GOOD: usize = 0;
const ATTACKER: usize = 1;
/// How long the good guest and the good caller wait between two requests.
const PAUSE: Duration = Duration::from_millis(8);
const GET: &[u8] =
    b"GET /latest/meta-data/instance-id HTTP/1.1\r\nHost: imds\r\nConnection: keep-alive\r\n\r\n";
const LARGE: &[u8] =
    b"GET /latest/user-data HTTP/1.1\r\nHost: imds\r\nConnection: keep-alive\r\n\r\n";
const PUT: &[u8] = b"PUT /latest/api/token HTTP/1.1\r\nHost: imds\r\n\
    X-aws-ec2-metadata-token-ttl-seconds: 60\r\n\r\n";
const MALFORMED: &[u8] = b"GET /latest\0 HTTP/1.1\r\nHost: imds\r\n\r\n";

/// Measures what a guest waits beside another one that attacks.
#[derive(Parser)]
#[command(name = "fairness")]
struct Settings {
    /// The daemon, such as target/dist/imdsd [default: the one that cargo built]
    #[arg(long)]
    daemon: Option<PathBuf>,
    /// The directory of the daemon's files
    #[arg(long, default_value = env!("CARGO_TARGET_TMPDIR"))]
    directory: PathBuf,
    /// The seconds of each measurement, 1 to 60
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..=60))]
    seconds: u64,
    /// How often everything is measured, 1 to 10
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=10))]
    runs: u64,
    /// The connections of an attack that holds them, at most 5,000
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u64).range(1..=5_000))]
    connections: u64,
    /// The connections a second of the storm, at most 100,000
    #[arg(long, default_value_t = 25_000, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    storm: u64,
    /// The idle connections a second to the control endpoint, at most 5,000
    #[arg(long, default_value_t = 400, value_parser = clap::value_parser!(u64).range(1..=5_000))]
    idle: u64,
    /// Only attacks whose name contains this
    #[arg(long)]
    only: Option<String>,
    /// What `cargo bench` passes
    #[arg(long, hide = true)]
    bench: bool,
}

/// What the attacking guest does on each of its connections.
#[derive(Clone, Copy)]
enum Attack {
    Pipelining,
    SlowHeads,
    SlowReads,
    Malformed,
    Tokens,
}

fn main() {
    let settings = Settings::parse();
    let built = || PathBuf::from(env!("CARGO_BIN_EXE_imdsd"));
    let daemon = settings.daemon.clone().unwrap_or_else(built);
    println!(
        "| run | attack | alone, p50 / p99 / max ms | beside it | p99 ratio, difference ms | attacker |"
    );
    println!("|--:|---|--:|--:|--:|--:|");
    for run in 1..=settings.runs {
        let host = Host::new(&settings.directory, &daemon, 2, "");
        let (_daemon, _) = host.start_and_wait();
        measure_guests(run, &host, &settings);
        measure_control(run, &host, &settings);
    }
}

fn measure_guests(run: u64, host: &Host, settings: &Settings) {
    let attacks = [
        ("pipelining", Attack::Pipelining),
        ("slow heads", Attack::SlowHeads),
        ("slow reads", Attack::SlowReads),
        ("malformed flood", Attack::Malformed),
        ("token flood", Attack::Tokens),
    ];
    let read = |stop: &AtomicBool| read_until(host.guests, stop);
    for (name, attack) in attacks {
        row(run, name, settings, read, |stop, done| {
            attack_until(host.guests, attack, settings.connections, stop, done);
        });
    }
    row(run, "connection storm", settings, read, |stop, done| {
        storm_until(host.guests, settings.storm, stop, done);
    });
}

fn measure_control(run: u64, host: &Host, settings: &Settings) {
    let call = |stop: &AtomicBool| call_until(host.control, stop);
    row(
        run,
        "control: idle connections",
        settings,
        call,
        |stop, done| {
            idle_until(host.control, settings.idle, stop, done);
        },
    );
}

/// Measures what `good` waits, alone and then beside `attack`, and prints the row.
fn row(
    run: u64,
    name: &str,
    settings: &Settings,
    good: impl Fn(&AtomicBool) -> Latencies + Sync,
    attack: impl FnOnce(&AtomicBool, &AtomicU64) + Send,
) {
    if settings
        .only
        .as_ref()
        .is_some_and(|only| !name.contains(only))
    {
        return;
    }
    let time = Duration::from_secs(settings.seconds);
    let mut alone = during(time, &good);
    let (stop, done) = (AtomicBool::new(false), AtomicU64::new(0));
    let mut beside = std::thread::scope(|scope| {
        scope.spawn(|| attack(&stop, &done));
        // Until the attack has its connections, and has used up its burst.
        std::thread::sleep(Duration::from_secs(1));
        let beside = during(time, &good);
        stop.store(true, Ordering::Relaxed);
        beside
    });
    let [before, after] = [&mut alone, &mut beside].map(|one| one.percentile(99.0));
    println!(
        "| {run} | {name} | {} | {} | {:.2}, {:+.2} | {} |",
        alone.summary(),
        beside.summary(),
        after / before,
        after - before,
        done.load(Ordering::Relaxed)
    );
    // The attacker's connections end, and its rate recovers.
    std::thread::sleep(Duration::from_secs(1));
}

fn during(time: Duration, good: &(impl Fn(&AtomicBool) -> Latencies + Sync)) -> Latencies {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let measured = scope.spawn(|| good(&stop));
        std::thread::sleep(time);
        stop.store(true, Ordering::Relaxed);
        measured.join().expect("the measurement does not panic")
    })
}

fn read_until(listener: SocketAddr, stop: &AtomicBool) -> Latencies {
    until(stop, || guest::read_id(listener, GOOD).map(drop))
}

fn call_until(endpoint: SocketAddr, stop: &AtomicBool) -> Latencies {
    let parameters = format!("Action=DescribeInstances&InstanceId.1={}", host::id(GOOD));
    until(stop, || control::call(endpoint, &parameters).map(drop))
}

fn until(stop: &AtomicBool, mut ask: impl FnMut() -> io::Result<()>) -> Latencies {
    let mut latencies = Latencies::default();
    while !stop.load(Ordering::Relaxed) {
        let asked = Instant::now();
        match ask() {
            Ok(()) => latencies.add(asked.elapsed()),
            Err(_) => latencies.lost += 1,
        }
        std::thread::sleep(PAUSE);
    }
    latencies
}

/// Attacks on so many connections, each of which is opened again when it ends. Counts what was done:
/// bytes received, or connections that ended.
fn attack_until(
    listener: SocketAddr,
    attack: Attack,
    connections: u64,
    stop: &AtomicBool,
    done: &AtomicU64,
) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime can be built");
    let work = async {
        let all = (0..connections).map(|_| async {
            loop {
                if attack_once(listener, attack, done).await.is_err() {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            }
        });
        futures_util::future::join_all(all).await;
    };
    let stopped = async {
        while !stop.load(Ordering::Relaxed) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    runtime.block_on(async {
        tokio::select! {
            () = work => {}
            () = stopped => {}
        }
    });
}

async fn attack_once(listener: SocketAddr, attack: Attack, done: &AtomicU64) -> io::Result<()> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    if matches!(attack, Attack::SlowReads) {
        socket.set_recv_buffer_size(4096)?;
    }
    // A reset at the end leaves no port behind that cannot be used again.
    SockRef::from(&socket).set_linger(Some(Duration::ZERO))?;
    socket.bind(SocketAddr::from((host::address(ATTACKER), 0)))?;
    let mut stream = socket.connect(listener).await?;
    match attack {
        Attack::Pipelining => {
            let batch = GET.repeat(40);
            let (mut read, mut write) = stream.split();
            tokio::select! {
                sent = async { loop { write.write_all(&batch).await? } } => sent,
                received = discard(&mut read, done) => received,
            }
        }
        Attack::SlowHeads => {
            stream.write_all(b"GET /").await?;
            loop {
                stream.write_all(b"a").await?;
                done.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
        Attack::SlowReads => loop {
            stream.write_all(LARGE).await?;
            done.fetch_add(1, Ordering::Relaxed);
        },
        Attack::Malformed => {
            stream.write_all(MALFORMED).await?;
            discard(&mut stream, done).await
        }
        Attack::Tokens => {
            stream.write_all(PUT).await?;
            discard(&mut stream, done).await
        }
    }
}

/// Reads to the end and counts the bytes.
async fn discard(
    read: &mut (impl tokio::io::AsyncRead + Unpin),
    done: &AtomicU64,
) -> io::Result<()> {
    let mut buffer = [0; 4096];
    loop {
        match read.read(&mut buffer).await? {
            0 => return Ok(()),
            length => done.fetch_add(length as u64, Ordering::Relaxed),
        };
    }
}

/// Opens so many connections a second. Each sends a request and is reset soon after.
fn storm_until(listener: SocketAddr, per_second: u64, stop: &AtomicBool, done: &AtomicU64) {
    let mut open = std::collections::VecDeque::new();
    let started = Instant::now();
    let mut count = 0;
    while !stop.load(Ordering::Relaxed) {
        while started.elapsed().as_micros() as u64 * per_second / 1_000_000 > count
            && !stop.load(Ordering::Relaxed)
        {
            count += 1;
            let Ok(socket) = connect(listener, ATTACKER) else {
                continue;
            };
            let _ = socket.send(GET);
            done.fetch_add(1, Ordering::Relaxed);
            open.push_back(socket);
            if open.len() > 64 {
                open.pop_front();
            }
        }
        std::thread::sleep(Duration::from_micros(200));
    }
}

/// Opens so many idle connections a second and holds the last thousand.
fn idle_until(endpoint: SocketAddr, per_second: u64, stop: &AtomicBool, done: &AtomicU64) {
    let mut open = std::collections::VecDeque::new();
    let pause = Duration::from_secs(1) / per_second as u32;
    while !stop.load(Ordering::Relaxed) {
        if let Ok(socket) = connect(endpoint, ATTACKER) {
            done.fetch_add(1, Ordering::Relaxed);
            open.push_back(TcpStream::from(socket));
        }
        if open.len() > 500 {
            open.pop_front();
        }
        std::thread::sleep(pause);
    }
}

/// Begins a connection from a guest's address. On loopback it is complete at once.
fn connect(to: SocketAddr, number: usize) -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM.nonblocking(), None)?;
    socket.set_reuse_address(true)?;
    socket.set_linger(Some(Duration::ZERO))?;
    socket.bind(&SocketAddr::from((host::address(number), 0)).into())?;
    match socket.connect(&to.into()) {
        Err(reason)
            if reason.raw_os_error() != Some(rustix::io::Errno::INPROGRESS.raw_os_error()) =>
        {
            Err(reason)
        }
        _ => Ok(socket),
    }
}
