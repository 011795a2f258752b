//! `imdsd bench`: measures the latency of any instance metadata service.

use std::fs;
use std::net::IpAddr;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use jiff::SignedDuration;
use serde_json::json;

use super::output;
use super::progress::ProgressDisplay;
use crate::bench::report::BenchReport;
use crate::bench::target::BenchTarget;
use crate::bench::workload::{ConnectionUse, Workload};
use crate::bench::{BenchProgress, LoadPlan, compare, html, measure, text};
use crate::clock::{Moment, iso_seconds};
use crate::plain_file;

/// The demo instance's metadata.
const DEMO: &str = "http://127.0.0.1:1338";
/// Every run is bounded.
const MAX_CLIENTS: usize = 1000;
const MAX_ROUNDS: u32 = 100;
const MAX_DURATION: Duration = Duration::from_secs(3600);
const MAX_REQUESTS: u64 = 100_000_000;
const MAX_RATE: f64 = 1_000_000.0;
const MAX_TIMEOUT: Duration = Duration::from_secs(120);
const MAX_REPORT_BYTES: u64 = 64 << 20;

/// Measure the latency of an instance metadata service: this one, another one, or EC2's own
///
/// Sends the requests that EC2 clients send, in rounds, and prints latency percentiles. Several
/// services are measured in turns in the same run and compared with the first, because figures of
/// different runs are hard to compare.
#[derive(Args)]
#[command(after_help = "\
Examples:
  imdsd bench                                            # the demo instance
  imdsd bench http://169.254.169.254                     # in a guest, or in an EC2 instance
  imdsd bench http://127.0.0.1:1338 http://127.0.0.1:1080 --html bench.html
  imdsd bench --workload get --connection keep-alive --rate 2000 --duration 30s
  imdsd bench --json before.json                         # later: --compare before.json
  imdsd bench --compare before.json after.json           # measures nothing

The exit status is 0 if every workload had a successful answer from every service, and 1 otherwise.")]
pub(super) struct BenchArgs {
    /// URL of the service, without a path; several are compared with the first
    #[arg(value_name = "URL", default_value = DEMO)]
    urls: Vec<String>,

    /// What is sent
    #[arg(
        long,
        short,
        value_name = "WORKLOAD",
        value_enum,
        value_delimiter = ',',
        default_value = "token,get,dance"
    )]
    workload: Vec<Workload>,

    /// How connections are used
    #[arg(
        long,
        value_name = "USE",
        value_enum,
        value_delimiter = ',',
        default_value = "keep-alive,close"
    )]
    connection: Vec<ConnectionUse>,

    /// The path that is read
    #[arg(
        long,
        value_name = "PATH",
        default_value = "/latest/meta-data/instance-id"
    )]
    path: String,

    /// How long each workload is measured on each service, in all rounds together
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = duration)]
    duration: Duration,

    /// Stop a workload after this many requests, even if its time is not over
    #[arg(long, value_name = "NUMBER", default_value = "1000000")]
    requests: NonZero<u64>,

    /// Clients that send at the same time, each on a connection of its own
    #[arg(long, value_name = "NUMBER", default_value = "1")]
    clients: NonZero<usize>,

    /// Requests a second of all clients together; a request that is sent late counts from the moment
    /// at which it was due. Without it, each client sends when it has an answer
    #[arg(long, value_name = "NUMBER")]
    rate: Option<f64>,

    /// Rounds in which the services take turns; their spread is shown beside ratios
    #[arg(long, value_name = "NUMBER", default_value = "5")]
    rounds: NonZero<u32>,

    /// How long a workload runs in each round before it counts
    #[arg(long, value_name = "DURATION", default_value = "50ms", value_parser = duration)]
    warm_up: Duration,

    /// How long an answer may take before the request counts as failed
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = duration)]
    timeout: Duration,

    /// The address that requests come from, where guests are recognized by their address
    #[arg(long, value_name = "ADDRESS")]
    source: Option<IpAddr>,

    /// Send requests to addresses other than loopback and link-local, too
    #[arg(long)]
    any_address: bool,

    /// Write the measurement as JSON; - for standard output
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// Write a page with tables and plots, which needs no other file
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,

    /// Compare with a measurement that --json wrote. With a second file, compare the two and measure
    /// nothing
    #[arg(long, value_name = "FILE", num_args = 1..=2)]
    compare: Vec<PathBuf>,
}

pub(super) fn run(args: BenchArgs) -> ExitCode {
    match bench(&args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

/// Returns whether every workload had a successful answer.
fn bench(args: &BenchArgs) -> Result<bool, String> {
    let mut compared = args.compare.iter().map(|file| read_report(file));
    let base = compared.next().transpose()?;
    let report = match compared.next().transpose()? {
        Some(report) => report,
        None => measured(args)?,
    };
    if let Some(file) = &args.json {
        let json = serde_json::to_string_pretty(&report).expect("a report is plain JSON data");
        write(file, &(json + "\n"))?;
    }
    if let Some(file) = &args.html {
        write(file, &html::page(&report, base.as_ref()))?;
    }
    if !args.writes_to_output() {
        print(&report, base.as_ref());
    }
    Ok(report.series.iter().all(|series| series.count() > 0))
}

impl BenchArgs {
    fn writes_to_output(&self) -> bool {
        let files = [&self.json, &self.html];
        files.into_iter().flatten().any(|file| file == "-")
    }
}

fn measured(args: &BenchArgs) -> Result<BenchReport, String> {
    let plan = plan(args)?;
    let cells = plan.targets.len() * plan.workloads.len() * plan.connections.len();
    let each = plan.duration + plan.warm_up * plan.rounds;
    eprintln!(
        "measuring {} workloads on {} in {} rounds, {:.0} s; Ctrl-C ends it early",
        plan.workloads.len() * plan.connections.len(),
        each_target(&plan),
        plan.rounds,
        (each * u32::try_from(cells).unwrap_or(u32::MAX))
            .as_secs_f64()
            .ceil(),
    );
    let mut display = ProgressDisplay::new();
    let began = Instant::now();
    let show = |progress: &BenchProgress<'_>| {
        let BenchProgress {
            target,
            workload,
            connection,
            done,
            total,
        } = progress;
        display.show(&json!({
            "Phase": format!("{workload}, {connection} on {target}: part {} of {total}", done + 1),
            "Seconds": began.elapsed().as_secs(),
        }));
    };
    let started = iso_seconds(Moment::now().wall);
    let is_stopped = Arc::new(AtomicBool::new(false));
    stop_at_interrupt(Arc::clone(&is_stopped));
    let report = measure(&plan, started, show, &is_stopped);
    display.finish();
    Ok(report)
}

/// Ends the measurement at the first SIGINT, so that what was measured is printed.
fn stop_at_interrupt(is_stopped: Arc<AtomicBool>) {
    let wait = move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build();
        if let Ok(runtime) = runtime
            && runtime.block_on(tokio::signal::ctrl_c()).is_ok()
        {
            is_stopped.store(true, Ordering::Relaxed);
        }
    };
    thread::spawn(wait);
}

fn each_target(plan: &LoadPlan) -> String {
    let urls: Vec<&str> = plan
        .targets
        .iter()
        .map(|target| target.url.as_str())
        .collect();
    urls.join(" and ")
}

fn plan(args: &BenchArgs) -> Result<LoadPlan, String> {
    let within = |name: &str, is_within: bool, range: String| match is_within {
        true => Ok(()),
        false => Err(format!("--{name}: expected {range}")),
    };
    let shortest = Duration::from_millis(10);
    within(
        "duration",
        (shortest..=MAX_DURATION).contains(&args.duration),
        "10ms to 1h".to_string(),
    )?;
    within(
        "warm-up",
        args.warm_up <= MAX_DURATION,
        "at most 1h".to_string(),
    )?;
    within(
        "timeout",
        (shortest..=MAX_TIMEOUT).contains(&args.timeout),
        "10ms to 2m".to_string(),
    )?;
    within(
        "clients",
        args.clients.get() <= MAX_CLIENTS,
        format!("1 to {MAX_CLIENTS}"),
    )?;
    within(
        "rounds",
        args.rounds.get() <= MAX_ROUNDS,
        format!("1 to {MAX_ROUNDS}"),
    )?;
    within(
        "requests",
        args.requests.get() <= MAX_REQUESTS,
        format!("1 to {MAX_REQUESTS}"),
    )?;
    within(
        "rate",
        args.rate.is_none_or(|rate| rate > 0.0 && rate <= MAX_RATE),
        format!("more than 0 and at most {MAX_RATE} requests a second"),
    )?;
    let is_path =
        args.path.starts_with('/') && args.path.bytes().all(|byte| byte.is_ascii_graphic());
    within(
        "path",
        is_path,
        "a path such as /latest/meta-data/".to_string(),
    )?;
    let targets = args.urls.iter().map(|url| target(url, args.any_address));
    Ok(LoadPlan {
        targets: targets.collect::<Result<_, _>>()?,
        workloads: args.workload.clone(),
        connections: args.connection.clone(),
        path: args.path.clone(),
        source: args.source,
        timeout: args.timeout,
        clients: args.clients.get(),
        rate: args.rate,
        duration: args.duration,
        requests: args.requests.get(),
        rounds: args.rounds.get(),
        warm_up: args.warm_up,
    })
}

fn target(url: &str, any_address: bool) -> Result<BenchTarget, String> {
    let target: BenchTarget = url.parse().map_err(|reason| format!("{url}: {reason}"))?;
    match any_address || target.is_local() {
        true => Ok(target),
        false => Err(format!(
            "{url}: {} is neither a loopback nor a link-local address; --any-address sends requests there \
             all the same",
            target.address.ip()
        )),
    }
}

/// Reads `5s`, `500ms` or `1m 30s`.
fn duration(text: &str) -> Result<Duration, String> {
    let duration = text.parse::<SignedDuration>().ok();
    let duration = duration.and_then(|duration| Duration::try_from(duration).ok());
    duration.ok_or_else(|| "expected a duration such as 10s or 500ms".to_string())
}

fn read_report(file: &Path) -> Result<BenchReport, String> {
    let fault = |reason: &dyn std::fmt::Display| format!("{}: {reason}", file.display());
    let text = plain_file::read_text(file, MAX_REPORT_BYTES).map_err(|reason| fault(&reason))?;
    serde_json::from_str(&text)
        .map_err(|reason| fault(&format!("not a measurement that --json wrote: {reason}")))
}

fn write(file: &Path, text: &str) -> Result<(), String> {
    if file == "-" {
        output::print(text);
        return Ok(());
    }
    fs::write(file, text).map_err(|reason| format!("{}: {reason}", file.display()))?;
    eprintln!("wrote {}", file.display());
    Ok(())
}

fn print(report: &BenchReport, base: Option<&BenchReport>) {
    let (header, rows) = text::table(report);
    output::print_table(&header, &rows);
    for series in report.series.iter().filter(|series| series.count() > 0) {
        output::print(&format!("\n{}", text::histogram(series)));
    }
    let comparisons = match base {
        Some(base) => compare::compare(base, report),
        None => compare::compare_targets(report),
    };
    if comparisons.is_empty() && base.is_some() {
        eprintln!(
            "nothing to compare: no workload was measured with the same connections, path, clients and rate"
        );
    }
    if !comparisons.is_empty() {
        output::print("\n");
        output::print_table(&text::RATIO_HEADER, &text::ratio_rows(&comparisons));
        output::print(
            "A ratio is the median of the rounds' ratios, with the smallest and the largest in brackets. \
             Below 1 is faster.\n",
        );
    }
    output::print("\n");
    for remark in text::remarks(report) {
        output::print(&format!("{remark}\n"));
    }
}
