//! Runs workloads: in rounds, so that the targets that are compared take turns.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::RwLock;

use super::distribution::LatencyHistogram;
use super::report::{BenchReport, BenchSeries};
use super::session::{BenchSession, NO_ANSWER, SessionPlan};
use super::target::BenchTarget;
use super::workload::{ConnectionUse, Workload};

/// The memory of a client's thread for its stack.
const STACK_BYTES: usize = 256 << 10;
/// The last part of a wait is spent looking at the clock: the kernel wakes a thread late.
const SPIN: Duration = Duration::from_micros(150);
/// The longest sleep before the next look at whether the run is to end.
const NAP: Duration = Duration::from_millis(100);

/// What is measured, and for how long.
#[derive(Clone, Debug)]
pub(crate) struct LoadPlan {
    pub(crate) targets: Vec<BenchTarget>,
    pub(crate) workloads: Vec<Workload>,
    pub(crate) connections: Vec<ConnectionUse>,
    /// The path that is read.
    pub(crate) path: String,
    /// The address that requests come from; the kernel's choice if `None`.
    pub(crate) source: Option<IpAddr>,
    /// How long an answer may take.
    pub(crate) timeout: Duration,
    /// Clients that send at once, each on a connection of its own.
    pub(crate) clients: usize,
    /// Requests a second of all clients together; as many as are answered if `None`.
    pub(crate) rate: Option<f64>,
    /// How long each workload is measured, in all rounds together.
    pub(crate) duration: Duration,
    /// The most requests of each workload, in all rounds together.
    pub(crate) requests: u64,
    pub(crate) rounds: u32,
    /// How long each workload runs in each round before it counts.
    pub(crate) warm_up: Duration,
}

/// What is being measured, and how much of all that is.
pub(crate) struct BenchProgress<'a> {
    pub(crate) target: &'a BenchTarget,
    pub(crate) workload: Workload,
    pub(crate) connection: ConnectionUse,
    pub(crate) done: u64,
    pub(crate) total: u64,
}

/// One cell of the plan: what a series of the report is about.
#[derive(Clone, Copy)]
struct LoadCell<'a> {
    target: &'a BenchTarget,
    workload: Workload,
    connection: ConnectionUse,
}

/// What one round of a cell found.
struct LoadResult {
    /// From the moment at which a request was due to the end of its answer.
    latency: LatencyHistogram,
    /// From the moment at which a request was sent.
    service: LatencyHistogram,
    seconds: f64,
    failures: BTreeMap<String, u64>,
    reopened: u64,
}

/// Measures everything of a plan, and reports before each part what comes. `is_stopped` ends it
/// early: the report then has what was measured until then. A workload that no answer arrived to in
/// time is not measured in later rounds, because each request would take the timeout.
pub(crate) fn measure(
    plan: &LoadPlan,
    started: String,
    mut progress: impl FnMut(&BenchProgress<'_>),
    is_stopped: &AtomicBool,
) -> BenchReport {
    let cells = cells(plan);
    let total = cells.len() as u64 * u64::from(plan.rounds);
    let mut series: Vec<Vec<LoadResult>> = cells.iter().map(|_| Vec::new()).collect();
    let mut done = 0;
    for round in 0..plan.rounds {
        for (cell, results) in cells.iter().zip(&mut series) {
            if is_stopped.load(Ordering::Relaxed) {
                break;
            }
            progress(&BenchProgress {
                target: cell.target,
                workload: cell.workload,
                connection: cell.connection,
                done,
                total,
            });
            done += 1;
            if !results.last().is_some_and(LoadResult::is_silent) {
                results.push(run(plan, *cell, round, is_stopped));
            }
        }
    }
    let series = cells.iter().zip(&series);
    BenchReport {
        version: env!("CARGO_PKG_VERSION").to_string(),
        started,
        series: series
            .map(|(cell, results)| series_of(plan, *cell, results))
            .collect(),
    }
}

/// The targets of one workload follow each other, so that they are compared under the same
/// conditions.
fn cells(plan: &LoadPlan) -> Vec<LoadCell<'_>> {
    let mut cells = Vec::new();
    for &connection in &plan.connections {
        for &workload in &plan.workloads {
            for target in &plan.targets {
                cells.push(LoadCell {
                    target,
                    workload,
                    connection,
                });
            }
        }
    }
    cells
}

/// Runs one round of one cell.
fn run(plan: &LoadPlan, cell: LoadCell<'_>, round: u32, is_stopped: &AtomicBool) -> LoadResult {
    let requests = share(plan.requests, u64::from(plan.rounds), u64::from(round));

    // Locked until each client has its token: all begin at the same time.
    let start = RwLock::new(());
    let closed = start.write();
    let (ready, is_ready) = mpsc::channel();
    thread::scope(|scope| {
        let mut clients = Vec::new();
        let mut all = LoadResult::new();
        for number in 0..plan.clients {
            let (ready, start) = (ready.clone(), &start);
            let client = move || {
                let begin = || {
                    let _ = ready.send(());
                    drop(start.read());
                };
                run_client(plan, cell, (number, requests), begin, is_stopped)
            };
            let builder = thread::Builder::new().stack_size(STACK_BYTES);
            match builder.spawn_scoped(scope, client) {
                Ok(client) => clients.push(client),
                Err(reason) => {
                    let reason = format!("no thread for a client: {reason}");
                    *all.failures.entry(reason).or_default() += 1;
                }
            }
        }
        for _ in &clients {
            let _ = is_ready.recv();
        }
        drop(closed);
        for client in clients {
            match client.join() {
                Ok(result) => all.add(result),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        all
    })
}

/// Returns the part of a number that falls to one of several, which get the same as far as possible.
fn share(all: u64, parts: u64, part: u64) -> u64 {
    all / parts + u64::from(part < all % parts)
}

/// Runs one client, which has a number, and its share of the requests of all. `begin` returns when
/// all clients are ready.
fn run_client(
    plan: &LoadPlan,
    cell: LoadCell<'_>,
    (number, requests): (usize, u64),
    begin: impl FnOnce(),
    is_stopped: &AtomicBool,
) -> LoadResult {
    let mut result = LoadResult::new();
    let LoadCell {
        target,
        workload,
        connection,
    } = cell;
    let session = BenchSession::start(SessionPlan {
        target,
        source: plan.source,
        timeout: plan.timeout,
        workload,
        connection,
        path: &plan.path,
    });
    // Each client has a token and a connection before the first one is measured.
    let mut session = match session {
        Ok(session) => session,
        Err(failure) => {
            begin();
            *result.failures.entry(failure.text()).or_default() += 1;
            return result;
        }
    };
    let warm_end = Instant::now() + plan.warm_up;
    let is_warm = || Instant::now() >= warm_end || is_stopped.load(Ordering::Relaxed);
    while !is_warm() && session.turn() {
        session.finish_turn();
    }
    session.failures.clear();
    session.reopened = 0;
    begin();

    let clients = plan.clients as u64;
    let most = share(requests, clients, number as u64);
    let began = Instant::now();
    let end = began + plan.duration / plan.rounds;
    let interval = plan.rate.map(|rate| clients as f64 / rate);
    for turn in 0..most {
        let due = interval.map(|interval| {
            let share = number as f64 / clients as f64;
            began + Duration::from_secs_f64(interval * (turn as f64 + share))
        });
        if is_stopped.load(Ordering::Relaxed) || due.unwrap_or_else(Instant::now) >= end {
            break;
        }
        if let Some(due) = due
            && !wait_until(due, is_stopped)
        {
            break;
        }
        let sent = Instant::now();
        let is_success = session.turn();
        let answered = Instant::now();
        if is_success {
            result.service.record(answered - sent);
            // A request that waits for the one before it was due all the same.
            result
                .latency
                .record(answered - due.unwrap_or(sent).min(sent));
        }
        session.finish_turn();
    }
    result.seconds = began.elapsed().as_secs_f64();
    result.failures = session.failures;
    result.reopened = session.reopened;
    result
}

/// Returns `false` if the run ends before that time.
fn wait_until(due: Instant, is_stopped: &AtomicBool) -> bool {
    while let Some(rest) = due.checked_duration_since(Instant::now() + SPIN) {
        if is_stopped.load(Ordering::Relaxed) {
            return false;
        }
        thread::sleep(rest.min(NAP));
    }
    while Instant::now() < due {
        std::hint::spin_loop();
    }
    true
}

impl LoadResult {
    fn new() -> LoadResult {
        LoadResult {
            latency: LatencyHistogram::new(),
            service: LatencyHistogram::new(),
            seconds: 0.0,
            failures: BTreeMap::new(),
            reopened: 0,
        }
    }

    /// Returns whether no request was answered in time.
    fn is_silent(&self) -> bool {
        self.service.is_empty() && self.failures.keys().eq([NO_ANSWER])
    }

    /// Adds what another client found in the same time.
    fn add(&mut self, other: LoadResult) {
        self.seconds = self.seconds.max(other.seconds);
        self.add_counts(&other);
    }

    fn add_counts(&mut self, other: &LoadResult) {
        self.latency.add(&other.latency);
        self.service.add(&other.service);
        self.reopened += other.reopened;
        for (reason, count) in &other.failures {
            *self.failures.entry(reason.clone()).or_default() += count;
        }
    }
}

fn series_of(plan: &LoadPlan, cell: LoadCell<'_>, results: &[LoadResult]) -> BenchSeries {
    let mut all = LoadResult::new();
    for result in results {
        all.seconds += result.seconds;
        all.add_counts(result);
    }
    let rounds = results.iter().filter_map(|result| {
        let mut round = result.latency.distribution()?;
        round.buckets.clear();
        Some(round)
    });
    BenchSeries {
        target: cell.target.url.clone(),
        workload: cell.workload.word(),
        connection: cell.connection.word(),
        path: plan.path.clone(),
        clients: plan.clients,
        rate: plan.rate,
        seconds: all.seconds,
        failures: all.failures,
        reopened: all.reopened,
        latency: all.latency.distribution(),
        service: plan.rate.and_then(|_| all.service.distribution()),
        rounds: rounds.collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shares_of_rounds_and_clients_are_all_requests() {
        for (all, parts, shares) in [
            (7, 3, &[3, 2, 2][..]),
            (6, 3, &[2, 2, 2]),
            (1, 3, &[1, 0, 0]),
            (0, 2, &[0, 0]),
        ] {
            let found: Vec<u64> = (0..parts).map(|part| share(all, parts, part)).collect();
            assert_eq!(found, shares);
        }
    }

    #[test]
    fn a_result_is_silent_if_nothing_but_missing_answers_was_counted() {
        let mut result = LoadResult::new();
        assert!(!result.is_silent());
        result.failures.insert(NO_ANSWER.to_string(), 3);
        assert!(result.is_silent());
        let mut answered = LoadResult::new();
        answered.service.record(Duration::from_micros(1));
        answered.add_counts(&result);
        assert!(!answered.is_silent());
        result.failures.insert("status 503".to_string(), 1);
        assert!(!result.is_silent());
    }
}
