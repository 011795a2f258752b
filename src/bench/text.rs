//! A report as text, for a terminal.

use super::compare::BenchComparison;
use super::distribution::{LatencyBucket, LatencyDistribution};
use super::report::{BenchReport, BenchSeries};

/// The width of the longest bar of a histogram, in characters.
const BAR_WIDTH: f64 = 40.0;
/// The most rows of a histogram.
const MAX_ROWS: usize = 16;
/// The percentiles of a table's columns.
const COLUMNS: [(&str, f64); 5] = [
    ("p50", 50.0),
    ("p90", 90.0),
    ("p99", 99.0),
    ("p99.9", 99.9),
    ("max", 100.0),
];

/// Returns the header and the rows of the table of all series. Latencies are in microseconds.
pub(crate) fn table(report: &BenchReport) -> (Vec<&'static str>, Vec<Vec<String>>) {
    let mut header = vec!["TARGET", "WORKLOAD", "REQUESTS", "/S"];
    header.extend(COLUMNS.map(|(name, _)| name));
    header.push("FAILED");
    let rows = report.series.iter().map(|series| {
        let mut row = vec![
            series.target.clone(),
            series.title(),
            series.count().to_string(),
            format!("{:.0}", series.per_second()),
        ];
        row.extend(COLUMNS.map(|(_, percentile)| {
            let latency = series.latency.as_ref();
            latency.map_or("-".to_string(), |latency| micros(latency.at(percentile)))
        }));
        row.push(series.failed().to_string());
        row
    });
    (header, rows.collect())
}

/// Returns what a reader must know beside the table: failures, closed connections, how latencies
/// were measured.
pub(crate) fn remarks(report: &BenchReport) -> Vec<String> {
    let mut remarks = Vec::new();
    for series in &report.series {
        let title = format!("{} {}", series.target, series.title());
        if series.failed() > 0 {
            remarks.push(format!("{title}: failed: {}", series.failures_text()));
        }
        if series.reopened > 0 {
            remarks.push(format!(
                "{title}: the server closed {} connections that were to be kept",
                series.reopened
            ));
        }
    }
    let rates: Vec<f64> = report
        .series
        .iter()
        .filter_map(|series| series.rate)
        .collect();
    remarks.push(match rates.first() {
        Some(rate) => format!(
            "Latencies in µs, from the moment at which a request was due ({rate} a second), so that a stall \
             counts for every request that it delayed."
        ),
        None => "Latencies in µs. Each client sent its next request after an answer, so a stall \
                 counts once: use --rate to count every request that it delays."
            .to_string(),
    });
    remarks
}

/// Returns a histogram of one series.
pub(crate) fn histogram(series: &BenchSeries) -> String {
    let Some(latency) = &series.latency else {
        return String::new();
    };
    let mut text = format!("{} {} (µs)\n", series.target, series.title());
    let rows = rows(latency);
    let most = rows.iter().map(|bucket| bucket.count).max();
    let most = most.unwrap_or(1).max(1) as f64;
    for bucket in rows {
        let share = bucket.count as f64 / most;
        let mut bar = "█".repeat((share * BAR_WIDTH).round() as usize);
        if bar.is_empty() && bucket.count > 0 {
            bar = "▏".to_string();
        }
        text += &format!(
            "{:>9} –{:>9} {:>9}  {bar}\n",
            micros(bucket.from),
            micros(bucket.to),
            bucket.count
        );
    }
    text
}

/// Returns the buckets with neighbours joined, so that there are few enough rows.
fn rows(latency: &LatencyDistribution) -> Vec<LatencyBucket> {
    let buckets = &latency.buckets;
    let joined = buckets.len().div_ceil(MAX_ROWS).max(1);
    let row = |chunk: &[LatencyBucket]| {
        let (first, last) = (chunk.first()?, chunk.last()?);
        Some(LatencyBucket {
            from: first.from,
            to: last.to,
            count: chunk.iter().map(|bucket| bucket.count).sum(),
        })
    };
    buckets.chunks(joined).filter_map(row).collect()
}

/// Returns the rows of a table of ratios.
pub(crate) fn ratio_rows(comparisons: &[BenchComparison<'_>]) -> Vec<Vec<String>> {
    let row = |comparison: &BenchComparison<'_>| {
        let BenchComparison {
            base,
            other,
            p50,
            p99,
        } = comparison;
        let latency = |series: &BenchSeries| {
            let latency = series.latency.as_ref();
            latency.map_or("-".to_string(), |latency| micros(latency.at(50.0)))
        };
        let verdict = match (p50.is_clear(), p50.median < 1.0) {
            (false, _) => "no clear difference",
            (true, true) => "faster in all rounds",
            (true, false) => "slower in all rounds",
        };
        vec![
            other.target.clone(),
            other.title(),
            latency(base),
            latency(other),
            p50.text(),
            p99.text(),
            verdict.to_string(),
        ]
    };
    comparisons.iter().map(row).collect()
}

/// The header of [`ratio_rows`].
pub(crate) const RATIO_HEADER: [&str; 7] = [
    "TARGET",
    "WORKLOAD",
    "BASE p50",
    "p50",
    "p50 RATIO",
    "p99 RATIO",
    "",
];

/// Returns a time in microseconds with three digits.
pub(super) fn micros(value: f64) -> String {
    match value {
        value if value.is_nan() => "-".to_string(),
        value if value < 10.0 => format!("{value:.2}"),
        value if value < 100.0 => format!("{value:.1}"),
        value => format!("{value:.0}"),
    }
}
