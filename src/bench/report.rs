//! What was measured, as it is stored in JSON.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::distribution::LatencyDistribution;

/// A run: everything that one command measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct BenchReport {
    /// The version of imdsd that measured.
    pub(crate) version: String,
    /// When the run began.
    pub(crate) started: String,
    pub(crate) series: Vec<BenchSeries>,
}

/// One workload on one target. Times are in microseconds, unless the name says seconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct BenchSeries {
    pub(crate) target: String,
    pub(crate) workload: String,
    pub(crate) connection: String,
    pub(crate) path: String,
    pub(crate) clients: usize,
    /// The requests a second that were due; absent if each client sent when it had an answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) rate: Option<f64>,
    pub(crate) seconds: f64,
    /// Requests without a successful answer, by reason. They are not in the latencies.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) failures: BTreeMap<String, u64>,
    /// Connections that were to be kept and that the server closed.
    #[serde(default)]
    pub(crate) reopened: u64,
    /// With a rate: from the moment at which a request was due.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) latency: Option<LatencyDistribution>,
    /// With a rate: from the moment at which a request was sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) service: Option<LatencyDistribution>,
    /// The latencies of each round.
    pub(crate) rounds: Vec<LatencyDistribution>,
}

impl BenchSeries {
    /// Returns what the series is about, without the target: `get, keep-alive`.
    pub(crate) fn title(&self) -> String {
        format!("{}, {}", self.workload, self.connection)
    }

    /// Returns the successful requests.
    pub(crate) fn count(&self) -> u64 {
        self.latency.as_ref().map_or(0, |latency| latency.count)
    }

    /// Returns the successful requests a second.
    pub(crate) fn per_second(&self) -> f64 {
        match self.seconds > 0.0 {
            true => self.count() as f64 / self.seconds,
            false => 0.0,
        }
    }

    /// Returns the number of requests without a successful answer.
    pub(crate) fn failed(&self) -> u64 {
        self.failures.values().sum()
    }

    /// Returns the failures in words: `3 status 401, 1 no answer in time`.
    pub(crate) fn failures_text(&self) -> String {
        let each = self.failures.iter();
        let each = each.map(|(reason, count)| format!("{count} {reason}"));
        each.collect::<Vec<_>>().join(", ")
    }

    /// Returns whether `other` measured the same, perhaps on another target.
    pub(crate) fn is_comparable_with(&self, other: &BenchSeries) -> bool {
        let key = |series: &BenchSeries| {
            (
                series.workload.clone(),
                series.connection.clone(),
                series.path.clone(),
                series.clients,
                series.rate.map(f64::to_bits),
            )
        };
        key(self) == key(other)
    }
}
