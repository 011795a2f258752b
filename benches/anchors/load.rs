//! The loads, which `imdsd bench` sends.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::subject::Subject;

/// What clients send.
#[derive(Clone, Copy)]
pub(crate) struct Load {
    pub(crate) name: &'static str,
    /// Whether one client sends alone, for its latency.
    pub(crate) is_alone: bool,
    workload: &'static str,
    connection: &'static str,
}

pub(crate) const LOADS: [Load; 5] = [
    Load {
        name: "GET with a token, kept connection",
        is_alone: false,
        workload: "get",
        connection: "keep-alive",
    },
    Load {
        name: "GET with a token, a connection each",
        is_alone: false,
        workload: "get",
        connection: "close",
    },
    Load {
        name: "PUT, then GET, a connection each",
        is_alone: false,
        workload: "dance",
        connection: "close",
    },
    Load {
        name: "GET with a token, kept connection",
        is_alone: true,
        workload: "get",
        connection: "keep-alive",
    },
    Load {
        name: "GET with a token, a connection each",
        is_alone: true,
        workload: "get",
        connection: "close",
    },
];

/// What a server's turn showed.
#[derive(Clone, Copy)]
pub(crate) struct Measured {
    /// The server's processor time in microseconds.
    pub(crate) processor: f64,
    pub(crate) per_second: f64,
    /// The median latency in microseconds.
    pub(crate) p50: f64,
}

impl Load {
    /// Sends this load to a server for a time. Panics if a request fails.
    pub(crate) fn measure(
        &self,
        subject: &Subject,
        client: &Path,
        clients: u16,
        time: Duration,
    ) -> Measured {
        let before = processor_time(subject.pid());
        let output = Command::new(client)
            .arg("bench")
            .arg(format!("http://{}", subject.address))
            .args(["--workload", self.workload, "--connection", self.connection])
            .args(["--rounds", "1", "--warm-up", "0ms", "--json", "-"])
            .args(["--source", &subject.source.to_string()])
            .args(["--clients", &clients.to_string()])
            .args(["--duration", &format!("{}ms", time.as_millis())])
            .stdin(Stdio::null())
            .output()
            .expect("imdsd bench can be started");
        let used = processor_time(subject.pid()).saturating_sub(before);
        let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| {
            let reason = String::from_utf8_lossy(&output.stderr);
            panic!("{} bench: {reason}", client.display())
        });
        let series = &report["Series"][0];
        assert!(series["Failures"].is_null(), "{}: {series}", subject.name);
        let latency = &series["Rounds"][0];
        let count = latency["Count"].as_f64().unwrap_or_default();
        assert!(count > 0.0, "{}: no answer", subject.name);
        let percentiles = latency["Percentiles"].as_array().into_iter().flatten();
        let mut medians = percentiles.filter(|percentile| percentile["Percentile"] == 50.0);
        Measured {
            processor: used.as_secs_f64() * 1e6 / count,
            per_second: count / series["Seconds"].as_f64().unwrap_or(f64::NAN),
            p50: medians
                .next()
                .and_then(|median| median["Latency"].as_f64())
                .expect("imdsd bench writes the median"),
        }
    }
}

/// Returns the processor time of all threads of a process so far.
fn processor_time(pid: u32) -> Duration {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).expect("the server runs");
    let of_task = |task: std::io::Result<std::fs::DirEntry>| {
        let text = std::fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse::<u64>().ok()
    };
    Duration::from_nanos(tasks.filter_map(of_task).sum())
}
