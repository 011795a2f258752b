//! What imdsd costs with 1, 1,000 and 10,000 instances: `benches/scale`.
//!
//! A daemon serves instances made from config/instances/web-1.json at one listener on loopback, each
//! by its source address. Guests, callers of the EC2 API and the command line use it as they would
//! use any other. Everything is on loopback, bounded, and stopped at the end.
//!
//! Figures with one value are exact or sums; latencies are p50 / p99 / maximum in milliseconds.

mod control;
mod counts;
mod figures;
mod guest;
mod host;
mod tls;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;

use figures::{Figures, Latencies, milliseconds};
use host::{Daemon, Host};

/// Measures what imdsd costs with many instances.
#[derive(Parser)]
#[command(name = "benches/scale")]
struct Settings {
    /// The numbers of instances, separated by commas
    #[arg(long, value_delimiter = ',', default_value = "1,1000,10000")]
    instances: Vec<usize>,
    /// The daemon, such as target/dist/imdsd [default: the one that cargo built]
    #[arg(long)]
    daemon: Option<PathBuf>,
    /// Where the daemons keep their files; a file system on a disk, because changes are synced
    #[arg(long, default_value = env!("CARGO_TARGET_TMPDIR"))]
    directory: PathBuf,
    /// The seconds of each measurement of latencies
    #[arg(long, default_value_t = 8)]
    seconds: u64,
    /// The number of changes whose processor time is measured
    #[arg(long, default_value_t = 400)]
    changes: usize,
    /// Count system calls with strace and instructions with valgrind
    #[arg(long)]
    counts: bool,
    /// Measure the memory before and after this many changes: put, modify and delete in turn
    #[arg(long, default_value_t = 0)]
    churn: usize,
    /// Measure only the start and the memory
    #[arg(long)]
    start_only: bool,
    /// What `cargo bench` passes
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    let settings = Settings::parse();
    let built = || PathBuf::from(env!("CARGO_BIN_EXE_imdsd"));
    let daemon = settings.daemon.clone().unwrap_or_else(built);
    let mut figures = Figures::default();
    let mut resident_of_one = None;
    for &instances in &settings.instances {
        let host = Host::new(&settings.directory, &daemon, instances.max(1), "");
        measure_starts(&host, &mut figures, &mut resident_of_one);
        if !settings.start_only {
            measure_changes(&host, &settings, &mut figures);
            measure_signals(&host, &mut figures);
        }
        if settings.counts {
            counts::measure(&host, &mut figures);
        }
    }
    if !settings.start_only {
        tls::measure(&settings.directory, &daemon, settings.seconds, &mut figures);
    }
    if settings.churn > 0 {
        measure_churn(&settings, &daemon, &mut figures);
    }
    figures.print(&settings.instances);
    ExitCode::SUCCESS
}

/// The first start, the second one, and the memory after it. `resident_of_one` is the memory of a
/// daemon with one instance, which is not counted for each instance.
fn measure_starts(host: &Host, figures: &mut Figures, resident_of_one: &mut Option<u64>) {
    let count = host.instances;
    host.forget();
    let (daemon, first) = host.start_and_wait();
    figures.add(
        "first start, all guests served, s",
        count,
        format!("{:.3}", first.as_secs_f64()),
    );
    daemon.terminate();
    let (daemon, second) = host.start_and_wait();
    figures.add(
        "second start, all guests served, s",
        count,
        format!("{:.3}", second.as_secs_f64()),
    );
    let at_ready = daemon.resident_kib();
    figures.add("resident memory when ready, KiB", count, at_ready);
    let worked = daemon.wait_until_idle();
    let settled = daemon.resident_kib();
    figures.add(
        "background work after the start, s",
        count,
        format!("{:.0}", worked.as_secs_f64()),
    );
    figures.add("resident memory after that, KiB", count, settled);
    let one = *resident_of_one.get_or_insert(settled);
    if count > 1 {
        let each = |resident: u64| resident.saturating_sub(one) as f64 / (count - 1) as f64;
        let text = format!("{:.1} / {:.1}", each(at_ready), each(settled));
        figures.add("KiB an instance, when ready / after that", count, text);
    }
    daemon.terminate();
}

/// Idle time, changes, bulk changes, lists, and what a guest waits meanwhile.
fn measure_changes(host: &Host, settings: &Settings, figures: &mut Figures) {
    let (count, time) = (host.instances, Duration::from_secs(settings.seconds));
    let (daemon, _) = host.start_and_wait();
    daemon.wait_until_idle();

    let idle = cpu_of(&daemon, || std::thread::sleep(time));
    let a_second = milliseconds(idle) / time.as_secs_f64();
    figures.add("idle CPU, ms a second", count, format!("{a_second:.2}"));
    let (mut latencies, ()) = guest::read_during(host.guests, 0, || std::thread::sleep(time));
    figures.add("guest, idle daemon", count, latencies.summary());

    control::modify_many(host.control, count, 1, 20);
    let changes = settings.changes;
    let started = Instant::now();
    let mut modified = Latencies::default();
    let cpu = cpu_of(&daemon, || {
        modified = control::modify_many(host.control, count, 100, changes);
    });
    let rate = changes as f64 / started.elapsed().as_secs_f64();
    let each = milliseconds(cpu) / changes as f64;
    figures.add(
        "CPU of a ModifyInstanceMetadataOptions, ms",
        count,
        format!("{each:.3}"),
    );
    figures.add(
        "ModifyInstanceMetadataOptions, one caller",
        count,
        modified.summary(),
    );
    figures.add("changes a second, one caller", count, format!("{rate:.0}"));

    let (mut latencies, _) = guest::read_during(host.guests, 0, || modify_for(host, time));
    figures.add("guest during a change loop", count, latencies.summary());

    for arguments in [&["instance", "list"][..], &["instance", "export"]] {
        let name = arguments.join(" ");
        let run = || {
            let runs: Vec<_> = (0..5).map(|_| host.command(arguments)).collect();
            runs.into_iter().max().expect("there are five")
        };
        let (mut latencies, (slowest, status)) = guest::read_during(host.guests, 0, run);
        figures.add(
            &format!("guest during `{name}`"),
            count,
            latencies.summary(),
        );
        figures.add(
            &format!("`{name}`, s (exit status)"),
            count,
            seconds(slowest, status),
        );
    }
    measure_bulk(host, figures);
    daemon.terminate();
}

/// `event rebalance --all`, with a caller and a guest beside it.
fn measure_bulk(host: &Host, figures: &mut Figures) {
    let count = host.instances;
    let stop = AtomicBool::new(false);
    let work = || {
        std::thread::scope(|scope| {
            let caller = scope.spawn(|| control::modify_until(host.control, count, &stop));
            let (taken, status) = host.command(&["event", "rebalance", "--all"]);
            stop.store(true, Ordering::Relaxed);
            (
                taken,
                status,
                caller.join().expect("the caller does not panic"),
            )
        })
    };
    let (mut guest, (taken, status, mut modified)) = guest::read_during(host.guests, 0, work);
    figures.add(
        "`event rebalance --all`, s (exit status)",
        count,
        seconds(taken, status),
    );
    figures.add(
        "ModifyInstanceMetadataOptions meanwhile",
        count,
        format!("{} ({} changes)", modified.summary(), modified.count()),
    );
    figures.add("guest meanwhile", count, guest.summary());
}

/// SIGTERM during a first start and during a bulk change.
fn measure_signals(host: &Host, figures: &mut Figures) {
    let count = host.instances;
    let ended = |(heard, ended): (Option<Duration>, Duration)| {
        let heard = heard.map_or("–".to_string(), |heard| {
            format!("{:.0}", milliseconds(heard))
        });
        format!("{heard} / {:.0}", milliseconds(ended))
    };
    host.forget();
    let daemon = host.start();
    std::thread::sleep(Duration::from_millis(400));
    figures.add(
        "SIGTERM during a first start: heard / ended, ms",
        count,
        ended(daemon.terminate()),
    );

    host.forget();
    let (daemon, _) = host.start_and_wait();
    std::thread::scope(|scope| {
        let bulk = scope.spawn(|| host.command(&["event", "rebalance", "--all"]));
        std::thread::sleep(Duration::from_millis(400));
        let text = ended(daemon.terminate());
        figures.add(
            "SIGTERM during `event --all`: heard / ended, ms",
            count,
            text,
        );
        let _ = bulk.join();
    });
}

/// The memory before and after many changes: each turn registers an instance, changes it and
/// removes it.
fn measure_churn(settings: &Settings, daemon: &Path, figures: &mut Figures) {
    const INSTANCES: usize = 100;
    let host = Host::new(&settings.directory, daemon, 2 * INSTANCES, "");
    let template = |number: usize| {
        let file = host
            .directory
            .join(format!("instances/{}.json", host::id(number)));
        std::fs::read_to_string(file).expect("the document was written")
    };
    let documents: Vec<String> = (INSTANCES..2 * INSTANCES).map(template).collect();
    for number in INSTANCES..2 * INSTANCES {
        let file = host
            .directory
            .join(format!("instances/{}.json", host::id(number)));
        std::fs::remove_file(file).expect("the document was written");
    }
    let host = host.with_instances(INSTANCES);
    let (daemon, _) = host.start_and_wait();
    daemon.wait_until_idle();
    let socket = host.directory.join("run/admin.sock");
    let mut failed = 0;
    let mut turns = |count: usize| {
        for turn in 0..count {
            let number = turn % INSTANCES;
            let id = host::id(INSTANCES + number);
            let path = format!("/v1/instances/{id}");
            let results = [
                control::admin(&socket, "PUT", &path, &documents[number]).is_ok(),
                control::modify(host.control, INSTANCES + number, turn).is_ok(),
                control::admin(&socket, "DELETE", &path, "").is_ok(),
            ];
            failed += results.iter().filter(|done| !**done).count();
        }
    };
    turns(INSTANCES);
    daemon.wait_until_idle();
    let before = daemon.resident_kib();
    let mut middle = before;
    let total = settings.churn / 3;
    for part in 0..10 {
        turns(total / 10);
        let resident = daemon.resident_kib();
        eprintln!(
            "{:>7}  churn, {} changes: {resident} KiB",
            INSTANCES,
            (part + 1) * 3 * (total / 10)
        );
        if part == 4 {
            middle = resident;
        }
    }
    daemon.wait_until_idle();
    let after = daemon.resident_kib();
    let text = format!("{before} / {middle} / {after} ({failed} failed)");
    let column = settings.instances.first().copied().unwrap_or(1);
    figures.add(
        "memory before / half-way / after the churn, KiB",
        column,
        text,
    );
    daemon.terminate();
}

fn modify_for(host: &Host, time: Duration) -> Latencies {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let caller = scope.spawn(|| control::modify_until(host.control, host.instances, &stop));
        std::thread::sleep(time);
        stop.store(true, Ordering::Relaxed);
        caller.join().expect("the caller does not panic")
    })
}

fn cpu_of(daemon: &Daemon, work: impl FnOnce()) -> Duration {
    let before = daemon.cpu_time();
    work();
    daemon.cpu_time().saturating_sub(before)
}

fn seconds(taken: Duration, status: Option<i32>) -> String {
    let status = status.map_or("signal".to_string(), |status| status.to_string());
    format!("{:.2} ({status})", taken.as_secs_f64())
}
