//! imdsd beside servers that do less: `benches/compare`.
//!
//! The anchors answer fixed text. What imdsd costs more than they do is the price of tokens, of
//! metadata, and of its rules. Servers take turns under the same load, one after the other in each
//! round, and a ratio is one of neighbours in time: a machine that becomes slower does not change it.
//!
//! Every server is a process of its own on one processor; the client, `imdsd bench`, is on another.
//! Everything is on loopback, bounded in time, and stopped at the end.

#[allow(dead_code, reason = "benches/at_scale uses the rest")]
#[path = "../at_scale/figures.rs"]
mod figures;
#[allow(dead_code, reason = "benches/at_scale uses the rest")]
#[path = "../at_scale/guest.rs"]
mod guest;
#[allow(dead_code, reason = "benches/at_scale uses the rest")]
#[path = "../at_scale/host.rs"]
mod host;

mod connections;
mod epoll;
mod hyper;
mod load;
mod subject;
mod table;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use load::{LOADS, Measured};
use subject::Subject;

/// Measures imdsd beside servers that answer fixed text
#[derive(Parser)]
#[command(
    name = "benches/compare",
    after_help = "\
The servers:
  raw epoll  a loop of system calls that answers every head with fixed text: the least that a server
             on this machine can cost
  hyper      the HTTP library that imdsd uses, with fixed text
  nginx      `return 200`, if nginx is installed
  imdsd      an instance at its source address, with tokens; no rate limit

How to read the table:
  - Each cell has the median of all rounds, and the ratio to raw epoll with its lowest and highest.
  - Processor time a request and ratios can be trusted on a machine that does other work too. Latencies
    of one client need an idle machine, requests a second even more.
  - A difference smaller than the range of the ratios is noise. More --rounds narrow it.

Examples:
  benches/compare                                 # builds imdsd first
  benches/compare --rounds 3 --seconds 1          # a first look, in a minute
  benches/compare --daemon before --daemon after  # two builds, under the same conditions"
)]
struct Settings {
    /// A build of imdsd; may be repeated [default: the one that cargo built]. The first one's `imdsd
    /// bench` sends the requests
    #[arg(long)]
    daemon: Vec<PathBuf>,
    /// Rounds in which every server has its turn, 1 to 50
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..=50))]
    rounds: u32,
    /// The seconds of a turn, 0.1 to 30
    #[arg(long, default_value_t = 1.0, value_parser = seconds)]
    seconds: f64,
    /// Clients that send at once where throughput is measured, 1 to 256
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=256))]
    clients: u16,
    /// Idle connections whose memory is measured, 0 to 20000; as many as the limit of open files allows
    #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u64).range(0..=20_000))]
    connections: u64,
    /// Where the daemons keep their files
    #[arg(long, default_value = env!("CARGO_TARGET_TMPDIR"))]
    directory: PathBuf,
    /// Be one of the servers
    #[arg(long, hide = true, requires = "listen")]
    serve: Option<Anchor>,
    #[arg(long, hide = true)]
    listen: Option<SocketAddr>,
    /// What `cargo bench` passes
    #[arg(long, hide = true)]
    bench: bool,
}

/// A server of this program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Anchor {
    Epoll,
    Hyper,
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if (0.1..=30.0).contains(&seconds) => Ok(seconds),
        _ => Err("expected 0.1 to 30".to_string()),
    }
}

fn main() -> ExitCode {
    let settings = Settings::parse();
    let result = match (settings.serve, settings.listen) {
        (Some(Anchor::Epoll), Some(address)) => epoll::serve(address),
        (Some(Anchor::Hyper), Some(address)) => hyper::serve(address),
        _ => {
            compare(&settings);
            Ok(())
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("{reason}");
            ExitCode::FAILURE
        }
    }
}

fn compare(settings: &Settings) {
    allow_many_files();
    let mut daemons = settings.daemon.clone();
    if daemons.is_empty() {
        daemons.push(PathBuf::from(env!("CARGO_BIN_EXE_imdsd")));
    }
    let (servers, client) = processors();
    pin(&servers);
    let mut subjects = vec![
        Subject::anchor("raw epoll", Anchor::Epoll),
        Subject::anchor("hyper", Anchor::Hyper),
    ];
    subjects.extend(Subject::nginx(&settings.directory));
    for (number, daemon) in daemons.iter().enumerate() {
        subjects.push(Subject::imdsd(number, daemon, &settings.directory));
    }
    pin(&client);

    let mut table = table::Table::new(&subjects);
    for load in LOADS {
        let mut rounds: Vec<Vec<Measured>> = subjects.iter().map(|_| Vec::new()).collect();
        let clients = if load.is_alone { 1 } else { settings.clients };
        let time = Duration::from_secs_f64(settings.seconds);
        for round in 0..=settings.rounds {
            for (subject, measured) in subjects.iter().zip(&mut rounds) {
                let of_round = load.measure(subject, &daemons[0], clients, time);
                // The first round warms up.
                if round > 0 {
                    measured.push(of_round);
                }
            }
        }
        table.add_load(&load, &rounds);
    }
    if settings.connections > 0 {
        let memory: Vec<_> = subjects
            .iter()
            .map(|subject| connections::measure(subject, settings.connections as usize))
            .collect();
        table.add_memory(settings.connections, &memory);
    }
    table.print();
    drop(subjects);
    for number in 0..daemons.len() {
        // Each daemon has removed what it had in there.
        let _ = std::fs::remove_dir(Subject::directory(number, &settings.directory));
    }
}

/// The memory of many connections needs as many files.
fn allow_many_files() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    if let Err(reason) = setrlimit(Resource::Nofile, raised) {
        eprintln!("the limit of open files stays as it is: {reason}");
    }
}

/// Returns a processor for servers and one for clients; the same one on a machine with one.
fn processors() -> (CpuSet, CpuSet) {
    let allowed = sched_getaffinity(None).expect("the processors can be read");
    let mut numbers = (0..CpuSet::MAX_CPU).filter(|number| allowed.is_set(*number));
    let first = numbers.next().expect("there is a processor");
    let last = numbers.next_back().unwrap_or(first);
    if first == last {
        eprintln!("one processor only: servers and clients share it, and latencies mean little");
    }
    let only = |number: usize| {
        let mut set = CpuSet::new();
        set.set(number);
        set
    };
    (only(first), only(last))
}

/// Keeps this thread, and the processes that it starts from now on, on a processor.
fn pin(processors: &CpuSet) {
    sched_setaffinity(None, processors).expect("the processor can be chosen");
}
