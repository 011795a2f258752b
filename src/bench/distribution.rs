//! Latencies of many requests: an HDR histogram while they are counted, percentiles afterwards.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Three digits: a value is at most 0.1 % off.
const DIGITS: u8 = 3;
/// Longer latencies count as this.
const MAX: Duration = Duration::from_secs(60);
/// The percentiles of a report.
const PERCENTILES: [f64; 12] = [
    0.0, 10.0, 25.0, 50.0, 75.0, 90.0, 95.0, 99.0, 99.9, 99.99, 99.999, 100.0,
];
/// A bucket of a report ends this factor above the one before it.
const BUCKET_STEP: f64 = 1.15;
/// The end of the first bucket.
const FIRST_BUCKET: Duration = Duration::from_micros(1);

/// Latencies that are being counted.
#[derive(Clone)]
pub(super) struct LatencyHistogram(Histogram<u64>);

impl LatencyHistogram {
    pub(super) fn new() -> LatencyHistogram {
        let histogram = Histogram::new_with_bounds(1, nanoseconds(MAX), DIGITS);
        LatencyHistogram(histogram.expect("the bounds and digits are in range"))
    }

    pub(super) fn record(&mut self, latency: Duration) {
        self.0.saturating_record(nanoseconds(latency).max(1));
    }

    pub(super) fn add(&mut self, other: &LatencyHistogram) {
        let added = self.0.add(&other.0);
        added.expect("both have the same bounds");
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns how latencies are distributed; `None` without any.
    pub(super) fn distribution(&self) -> Option<LatencyDistribution> {
        if self.0.is_empty() {
            return None;
        }
        let value = |percentile| microseconds(self.0.value_at_percentile(percentile));
        let mut start = 0;
        let steps = self.0.iter_log(nanoseconds(FIRST_BUCKET), BUCKET_STEP);
        let buckets = steps.map(|step| {
            let end = step.value_iterated_to() + 1;
            let bucket = LatencyBucket {
                from: microseconds(start),
                to: microseconds(end),
                count: step.count_since_last_iteration(),
            };
            start = end;
            bucket
        });
        Some(LatencyDistribution {
            count: self.0.len(),
            mean: self.0.mean() / 1000.0,
            percentiles: PERCENTILES
                .map(|percentile| LatencyPercentile {
                    percentile,
                    latency: value(percentile),
                })
                .to_vec(),
            buckets: buckets.skip_while(|bucket| bucket.count == 0).collect(),
        })
    }
}

/// How latencies are distributed, in microseconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct LatencyDistribution {
    pub(crate) count: u64,
    pub(crate) mean: f64,
    pub(crate) percentiles: Vec<LatencyPercentile>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) buckets: Vec<LatencyBucket>,
}

/// The latency that this share of the requests, in percent, does not exceed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct LatencyPercentile {
    pub(crate) percentile: f64,
    pub(crate) latency: f64,
}

/// The number of requests whose latency is in a range.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct LatencyBucket {
    pub(crate) from: f64,
    pub(crate) to: f64,
    pub(crate) count: u64,
}

impl LatencyDistribution {
    /// Returns one of the percentiles of a report, such as 99.0; NaN if it is not one of them.
    pub(crate) fn at(&self, percentile: f64) -> f64 {
        let found = self
            .percentiles
            .iter()
            .find(|known| known.percentile == percentile);
        found.map_or(f64::NAN, |found| found.latency)
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn microseconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_of_the_latencies() {
        let mut histogram = LatencyHistogram::new();
        assert_eq!(histogram.distribution(), None);
        for microseconds in 1..=1000 {
            histogram.record(Duration::from_micros(microseconds));
        }
        let found = histogram.distribution().unwrap();
        assert_eq!(found.count, 1000);
        for (percentile, expected) in [(50.0, 500.0), (99.0, 990.0), (100.0, 1000.0)] {
            let latency = found.at(percentile);
            assert!(
                (latency / expected - 1.0).abs() < 0.001,
                "{percentile}: {latency}"
            );
        }
        assert!(found.at(12.0).is_nan());
        let counts: u64 = found.buckets.iter().map(|bucket| bucket.count).sum();
        assert_eq!(counts, 1000);
        for pair in found.buckets.windows(2) {
            assert_eq!(pair[0].to, pair[1].from);
        }
    }

    #[test]
    fn latencies_beyond_the_bounds_count_as_the_bound() {
        let mut histogram = LatencyHistogram::new();
        histogram.record(Duration::ZERO);
        histogram.record(Duration::from_secs(600));
        let found = histogram.distribution().unwrap();
        assert_eq!(found.count, 2);
        assert!((found.at(100.0) / 60e6 - 1.0).abs() < 0.01);
    }
}
