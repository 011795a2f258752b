//! Ratios between two measurements of the same workload.

use super::report::{BenchReport, BenchSeries};

/// A series beside the one that it is compared with.
pub(crate) struct BenchComparison<'r> {
    pub(crate) base: &'r BenchSeries,
    pub(crate) other: &'r BenchSeries,
    /// The ratio of the medians, and that of the 99th percentiles.
    pub(crate) p50: RatioSpread,
    pub(crate) p99: RatioSpread,
}

/// A ratio of each pair of rounds: the median and the range.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct RatioSpread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl RatioSpread {
    fn of(base: &BenchSeries, other: &BenchSeries, percentile: f64) -> Option<RatioSpread> {
        let pairs = base.rounds.iter().zip(&other.rounds);
        let mut ratios: Vec<f64> = pairs
            .map(|(base, other)| other.at(percentile) / base.at(percentile))
            .filter(|ratio| ratio.is_finite())
            .collect();
        ratios.sort_by(f64::total_cmp);
        let middle = ratios.len() / 2;
        let median = match ratios.len() {
            0 => return None,
            length if length % 2 == 1 => ratios[middle],
            _ => f64::midpoint(ratios[middle - 1], ratios[middle]),
        };
        Some(RatioSpread {
            median,
            min: ratios[0],
            max: ratios[ratios.len() - 1],
        })
    }

    /// Returns `1.21 [1.15–1.30]`.
    pub(crate) fn text(&self) -> String {
        let RatioSpread { median, min, max } = self;
        format!("{median:.2} [{min:.2}–{max:.2}]")
    }

    /// Returns whether all rounds agree about which of the two is slower.
    pub(crate) fn is_clear(&self) -> bool {
        self.min > 1.0 || self.max < 1.0
    }
}

/// Compares each series of `other` with the same one of `base`: that of the same target, or the first
/// of another target otherwise. Series that only one of them has are left out.
pub(crate) fn compare<'r>(
    base: &'r BenchReport,
    other: &'r BenchReport,
) -> Vec<BenchComparison<'r>> {
    let pairs = other.series.iter().filter_map(|other| {
        let known = || {
            base.series
                .iter()
                .filter(|base| base.is_comparable_with(other))
        };
        let same = known().find(|base| base.target == other.target);
        Some((same.or_else(|| known().next())?, other))
    });
    pairs
        .filter_map(|(base, other)| comparison(base, other))
        .collect()
}

/// Compares the targets of one run with its first.
pub(crate) fn compare_targets(report: &BenchReport) -> Vec<BenchComparison<'_>> {
    let Some(first) = report.series.first() else {
        return Vec::new();
    };
    let others = report.series.iter();
    others
        .filter(|series| series.target != first.target)
        .filter_map(|other| {
            let base = report
                .series
                .iter()
                .find(|base| base.target == first.target && base.is_comparable_with(other))?;
            comparison(base, other)
        })
        .collect()
}

fn comparison<'r>(base: &'r BenchSeries, other: &'r BenchSeries) -> Option<BenchComparison<'r>> {
    Some(BenchComparison {
        base,
        other,
        p50: RatioSpread::of(base, other, 50.0)?,
        p99: RatioSpread::of(base, other, 99.0)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::distribution::{LatencyDistribution, LatencyPercentile};

    /// A round whose latencies are all the same.
    fn round(latency: f64) -> LatencyDistribution {
        LatencyDistribution {
            count: 1,
            mean: latency,
            percentiles: [50.0, 99.0]
                .map(|percentile| LatencyPercentile {
                    percentile,
                    latency,
                })
                .to_vec(),
            buckets: Vec::new(),
        }
    }

    fn series(target: &str, workload: &str, rounds: &[f64]) -> BenchSeries {
        BenchSeries {
            target: target.to_string(),
            workload: workload.to_string(),
            connection: "close".to_string(),
            path: "/".to_string(),
            clients: 1,
            rate: None,
            seconds: 1.0,
            failures: Default::default(),
            reopened: 0,
            latency: None,
            service: None,
            rounds: rounds.iter().copied().map(round).collect(),
        }
    }

    fn report(series: &[BenchSeries]) -> BenchReport {
        BenchReport {
            version: "1".to_string(),
            started: "today".to_string(),
            series: series.to_vec(),
        }
    }

    fn ratio(base: &[f64], other: &[f64]) -> Option<RatioSpread> {
        RatioSpread::of(&series("a", "get", base), &series("b", "get", other), 50.0)
    }

    #[test]
    fn a_ratio_is_the_median_of_the_rounds_with_their_range() {
        for (base, other, text, is_clear) in [
            (
                &[100.0, 100.0, 100.0][..],
                &[50.0, 90.0, 60.0][..],
                "0.60 [0.50–0.90]",
                true,
            ),
            (&[100.0, 100.0], &[110.0, 130.0], "1.20 [1.10–1.30]", true),
            (&[100.0, 100.0], &[90.0, 110.0], "1.00 [0.90–1.10]", false),
            (&[100.0], &[100.0], "1.00 [1.00–1.00]", false),
            // A round that only one of them has cannot be compared.
            (&[100.0, 10.0], &[200.0], "2.00 [2.00–2.00]", true),
            (&[0.0, 100.0], &[100.0, 50.0], "0.50 [0.50–0.50]", true),
        ] {
            let found = ratio(base, other).unwrap();
            assert_eq!(found.text(), text);
            assert_eq!(found.is_clear(), is_clear, "{text}");
        }
    }

    #[test]
    fn there_is_no_ratio_without_rounds_of_both() {
        for (base, other) in [(&[][..], &[][..]), (&[100.0], &[]), (&[0.0], &[100.0])] {
            assert_eq!(ratio(base, other), None, "{base:?} {other:?}");
        }
    }

    #[test]
    fn a_series_is_compared_with_that_of_its_target_or_else_with_the_first() {
        let base = report(&[series("a", "get", &[100.0]), series("b", "get", &[200.0])]);
        let other = report(&[
            series("b", "get", &[100.0]),
            series("c", "get", &[100.0]),
            series("b", "token", &[100.0]),
        ]);
        let found = compare(&base, &other);
        let found: Vec<_> = found
            .iter()
            .map(|found| (found.other.target.as_str(), found.p50.median))
            .collect();
        assert_eq!(found, [("b", 0.5), ("c", 1.0)]);
    }

    #[test]
    fn what_was_measured_otherwise_is_not_compared() {
        let one = series("a", "get", &[100.0]);
        let base = report(std::slice::from_ref(&one));
        let changes: [fn(&mut BenchSeries); 5] = [
            |series| series.workload = "v1".to_string(),
            |series| series.connection = "keep-alive".to_string(),
            |series| series.path = "/latest/".to_string(),
            |series| series.clients = 2,
            |series| series.rate = Some(100.0),
        ];
        for change in changes {
            let mut other = one.clone();
            change(&mut other);
            assert!(
                compare(&base, &report(&[other.clone()])).is_empty(),
                "{other:?}"
            );
        }
        assert_eq!(compare(&base, &report(&[one])).len(), 1);
    }

    #[test]
    fn the_targets_of_a_run_are_compared_with_its_first() {
        let run = report(&[
            series("a", "get", &[100.0]),
            series("b", "get", &[300.0]),
            series("a", "v1", &[100.0]),
            series("b", "v1", &[50.0]),
            series("b", "token", &[50.0]),
        ]);
        let found = compare_targets(&run);
        let found: Vec<_> = found
            .iter()
            .map(|found| (found.base.target.as_str(), found.p50.median))
            .collect();
        assert_eq!(found, [("a", 3.0), ("a", 0.5)]);
        assert!(compare_targets(&report(&[])).is_empty());
    }
}
