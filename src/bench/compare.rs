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

/// Compares each series of `other` with the same one of `base`. Series that only one of them has are
/// left out.
pub(crate) fn compare<'r>(
    base: &'r BenchReport,
    other: &'r BenchReport,
) -> Vec<BenchComparison<'r>> {
    let pairs = other.series.iter().filter_map(|other| {
        let mut known = base.series.iter();
        let base = known.find(|base| base.is_comparable_with(other))?;
        Some((base, other))
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
