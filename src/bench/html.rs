//! A report as one page of HTML: tables and drawings, without anything from elsewhere.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::compare;
use super::distribution::LatencyDistribution;
use super::report::{BenchReport, BenchSeries};
use super::text::{self, micros};

/// The size of a drawing and its margins, in its own units.
const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 64.0;
const BOTTOM: f64 = 36.0;
const TOP: f64 = 12.0;
const RIGHT: f64 = 12.0;

/// Colours that differ on light and on dark ground, also for those who do not see red or green.
const COLORS: [&str; 6] = [
    "#3b7dd8", "#e08a1e", "#2a9d8f", "#b5479d", "#8a6d3b", "#6b7280",
];

const STYLE: &str = "
:root { color-scheme: light dark; --ink: #1c2430; --pale: #5b6675; --line: #d5dbe3; --ground: #fff; --card: #f6f8fa }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e8ee; --pale: #9aa5b4; --line: #36404d; --ground: #14181e; --card: #1b212a } }
* { box-sizing: border-box }
body { margin: 2rem auto; max-width: 88rem; padding: 0 1.2rem; font: 15px/1.5 system-ui, sans-serif;
  color: var(--ink); background: var(--ground) }
h1 { font-size: 1.5rem; margin-bottom: 0 } h2 { font-size: 1.1rem; margin: 2.2rem 0 .6rem }
p { color: var(--pale); max-width: 60rem; margin: .3rem 0 }
.wide { overflow-x: auto }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; white-space: nowrap }
th, td { padding: .3rem .9rem .3rem 0; text-align: right; border-bottom: 1px solid var(--line) }
th { color: var(--pale); font-weight: 500 } .t { text-align: left }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(22rem, 1fr)); gap: 1rem }
figure { margin: 0; background: var(--card); border-radius: 8px; padding: .8rem }
figcaption { color: var(--pale); font-size: .85rem }
svg { width: 100%; height: auto; display: block } svg text { fill: var(--pale); font: 11px system-ui, sans-serif }
.grid { stroke: var(--line); stroke-width: 1 } .key { display: inline-block; margin-right: 1.2rem }
.key i { display: inline-block; width: .8rem; height: .8rem; border-radius: 2px; margin-right: .4rem }";

/// Returns the page. With `base`, it also has the ratios to that earlier report.
pub(crate) fn page(report: &BenchReport, base: Option<&BenchReport>) -> String {
    let mut body = String::new();
    let (header, rows) = text::table(report);
    body += &table(&header, &rows, 2);
    for remark in text::remarks(report) {
        let _ = writeln!(body, "<p>{}</p>", escaped(&remark));
    }
    let comparisons = match base {
        Some(base) => compare::compare(base, report),
        None => compare::compare_targets(report),
    };
    if !comparisons.is_empty() {
        let base_name = match base {
            Some(base) => format!("the run of {}", base.started),
            None => comparisons[0].base.target.clone(),
        };
        let _ = writeln!(body, "<h2>Ratios to {}</h2>", escaped(&base_name));
        body += &table(&text::RATIO_HEADER, &text::ratio_rows(&comparisons), 2);
        body += "<p>A ratio is the median of the rounds' ratios, with the smallest and the largest \
                 in brackets. Below 1 is faster.</p>\n";
    }
    for (title, group) in groups(report) {
        let _ = writeln!(
            body,
            "<h2>{}</h2>\n{}<div class=\"pair\">",
            escaped(&title),
            legend(&group)
        );
        body += &figure(
            &percentile_curves(&group),
            "Latency in µs that a share of the requests does not exceed. Both scales are logarithmic.",
        );
        body += &figure(
            &histograms(&group),
            "Share of the requests by latency in µs, on a logarithmic scale.",
        );
        body += "</div>\n";
    }
    let title = "Latency of instance metadata";
    let (version, started) = (escaped(&report.version), escaped(&report.started));
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{title}</title>\n<style>{STYLE}</style></head>\n<body><h1>{title}</h1>\n\
         <p>{started}, measured by imdsd bench {version}</p>\n{body}</body></html>\n"
    )
}

/// The series of each workload, in the order of the report.
fn groups(report: &BenchReport) -> Vec<(String, Vec<&BenchSeries>)> {
    let mut order: Vec<String> = Vec::new();
    let mut groups: BTreeMap<String, Vec<&BenchSeries>> = BTreeMap::new();
    for series in report.series.iter().filter(|series| series.count() > 0) {
        if !order.contains(&series.title()) {
            order.push(series.title());
        }
        groups.entry(series.title()).or_default().push(series);
    }
    let groups = order.into_iter().map(|title| {
        let group = groups.remove(&title).unwrap_or_default();
        (title, group)
    });
    groups.collect()
}

fn table(header: &[&str], rows: &[Vec<String>], texts: usize) -> String {
    let class = |column: usize| if column < texts { " class=\"t\"" } else { "" };
    let mut html = "<div class=\"wide\"><table><tr>".to_string();
    for (column, cell) in header.iter().enumerate() {
        let _ = write!(html, "<th{}>{}</th>", class(column), escaped(cell));
    }
    html += "</tr>\n";
    for row in rows {
        html += "<tr>";
        for (column, cell) in row.iter().enumerate() {
            let _ = write!(html, "<td{}>{}</td>", class(column), escaped(cell));
        }
        html += "</tr>\n";
    }
    html + "</table></div>\n"
}

fn legend(group: &[&BenchSeries]) -> String {
    let keys = group
        .iter()
        .zip(COLORS.iter().cycle())
        .map(|(series, color)| {
            format!(
                "<span class=\"key\"><i style=\"background:{color}\"></i>{}</span>",
                escaped(&series.target)
            )
        });
    format!("<p>{}</p>\n", keys.collect::<String>())
}

fn figure(svg: &str, caption: &str) -> String {
    format!(
        "<figure>{svg}<figcaption>{}</figcaption></figure>\n",
        escaped(caption)
    )
}

/// A scale from values to a coordinate: logarithmic from `low` to `high`.
struct LogScale {
    low: f64,
    high: f64,
    from: f64,
    to: f64,
}

impl LogScale {
    fn at(&self, value: f64) -> f64 {
        let LogScale {
            low,
            high,
            from,
            to,
        } = self;
        let share = (value.max(*low).ln() - low.ln()) / (high.ln() - low.ln());
        from + share.clamp(0.0, 1.0) * (to - from)
    }

    /// Returns 1, 2 and 5 times the powers of ten that are in the range; all digits in a narrow range.
    fn ticks(&self) -> Vec<f64> {
        let coarse = self.ticks_of(&[1.0, 2.0, 5.0]);
        match coarse.len() {
            0..3 => self.ticks_of(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0]),
            _ => coarse,
        }
    }

    fn ticks_of(&self, digits: &[f64]) -> Vec<f64> {
        let powers = (-3..9).map(|power| 10f64.powi(power));
        let ticks = powers.flat_map(|power| digits.iter().map(move |digit| digit * power));
        ticks
            .filter(|tick| (self.low..=self.high).contains(tick))
            .collect()
    }
}

/// Returns the range of the latencies of all series, a little widened.
fn latencies_of(group: &[&BenchSeries]) -> (f64, f64) {
    let all = group.iter().filter_map(|series| series.latency.as_ref());
    let (low, high) = all.fold((f64::MAX, 0f64), |(low, high), latency| {
        (low.min(latency.at(0.0)), high.max(latency.at(100.0)))
    });
    let low = (low * 0.9).max(0.001);
    (low, (high * 1.1).max(low * 2.0))
}

/// The share of the requests on the horizontal scale: each nine has the same width.
fn nines(share: f64) -> f64 {
    1.0 / (1.0 - share.min(0.99999))
}

fn percentile_curves(group: &[&BenchSeries]) -> String {
    let (low, high) = latencies_of(group);
    let y = LogScale {
        low,
        high,
        from: HEIGHT - BOTTOM,
        to: TOP,
    };
    let x = LogScale {
        low: 1.0,
        high: 1e5,
        from: LEFT,
        to: WIDTH - RIGHT,
    };
    let mut svg = open_svg("percentiles");
    for tick in y.ticks() {
        horizontal(&mut svg, y.at(tick), &micros(tick));
    }
    for (share, name) in [
        (0.0, "0 %"),
        (0.5, "50 %"),
        (0.9, "90 %"),
        (0.99, "99 %"),
        (0.999, "99.9 %"),
        (0.9999, "99.99 %"),
    ] {
        vertical(&mut svg, x.at(nines(share)), name);
    }
    for (series, color) in group.iter().zip(COLORS.iter().cycle()) {
        let Some(latency) = &series.latency else {
            continue;
        };
        let points = cumulative(latency);
        let points = points
            .iter()
            .map(|(share, latency)| (x.at(nines(*share)), y.at(*latency)));
        line(&mut svg, points, color);
    }
    svg + "</svg>"
}

/// The share of the requests up to each bucket's end, with that end.
fn cumulative(latency: &LatencyDistribution) -> Vec<(f64, f64)> {
    let mut below = 0;
    let mut points = vec![(0.0, latency.at(0.0))];
    for bucket in &latency.buckets {
        below += bucket.count;
        let share = below as f64 / latency.count as f64;
        points.push((share, bucket.to.min(latency.at(100.0))));
    }
    points
}

fn histograms(group: &[&BenchSeries]) -> String {
    let (low, high) = latencies_of(group);
    let x = LogScale {
        low,
        high,
        from: LEFT,
        to: WIDTH - RIGHT,
    };
    let share = |latency: &LatencyDistribution, count: u64| count as f64 / latency.count as f64;
    let all = group.iter().filter_map(|series| series.latency.as_ref());
    let shares = all.flat_map(|latency| {
        let buckets = latency.buckets.iter();
        buckets.map(|bucket| share(latency, bucket.count))
    });
    let most = shares.fold(0.01, f64::max);
    let y = |share: f64| HEIGHT - BOTTOM - share / most * (HEIGHT - BOTTOM - TOP);
    let mut svg = open_svg("histogram");
    for part in [0.0, 0.5, 1.0] {
        horizontal(
            &mut svg,
            y(most * part),
            &format!("{:.1} %", most * part * 100.0),
        );
    }
    for tick in x.ticks() {
        vertical(&mut svg, x.at(tick), &micros(tick));
    }
    for (series, color) in group.iter().zip(COLORS.iter().cycle()) {
        let Some(latency) = &series.latency else {
            continue;
        };
        let steps = latency.buckets.iter().flat_map(|bucket| {
            let height = y(share(latency, bucket.count));
            [(x.at(bucket.from), height), (x.at(bucket.to), height)]
        });
        // From the base line and back to it.
        let first = latency.buckets.first();
        let last = latency.buckets.last();
        let start = first.map(|bucket| (x.at(bucket.from), y(0.0)));
        let end = last.map(|bucket| (x.at(bucket.to), y(0.0)));
        line(&mut svg, start.into_iter().chain(steps).chain(end), color);
    }
    svg + "</svg>"
}

fn open_svg(label: &str) -> String {
    format!("<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{label}\">")
}

fn horizontal(svg: &mut String, y: f64, name: &str) {
    let (end, text) = (WIDTH - RIGHT, LEFT - 6.0);
    let below = y + 4.0;
    let _ = write!(
        svg,
        "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{end}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>\
         <text x=\"{text}\" y=\"{below:.1}\" text-anchor=\"end\">{name}</text>"
    );
}

fn vertical(svg: &mut String, x: f64, name: &str) {
    let (end, text) = (HEIGHT - BOTTOM, HEIGHT - BOTTOM + 18.0);
    let _ = write!(
        svg,
        "<line class=\"grid\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{TOP}\" y2=\"{end}\"/>\
         <text x=\"{x:.1}\" y=\"{text}\" text-anchor=\"middle\">{name}</text>"
    );
}

fn line(svg: &mut String, points: impl Iterator<Item = (f64, f64)>, color: &str) {
    let points: Vec<String> = points.map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
    let _ = write!(
        svg,
        "<polyline fill=\"none\" stroke=\"{color}\" stroke-width=\"2\" stroke-linejoin=\"round\" \
         points=\"{}\"/>",
        points.join(" ")
    );
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::distribution::LatencyHistogram;
    use std::time::Duration;

    const HOSTILE: &str = "http://127.0.0.1/\"><script src='//e'>&<img onerror=x>";

    fn series(target: &str) -> BenchSeries {
        let mut histogram = LatencyHistogram::new();
        for latency in [10, 20, 2000] {
            histogram.record(Duration::from_micros(latency));
        }
        let latency = histogram.distribution();
        BenchSeries {
            target: target.to_string(),
            workload: "get".to_string(),
            connection: "close".to_string(),
            path: "/".to_string(),
            clients: 1,
            rate: None,
            seconds: 1.0,
            failures: BTreeMap::new(),
            reopened: 0,
            rounds: latency.iter().cloned().collect(),
            latency,
            service: None,
        }
    }

    fn report(series: Vec<BenchSeries>) -> BenchReport {
        BenchReport {
            version: "1".to_string(),
            started: "2026-11-29T00:00:00Z".to_string(),
            series,
        }
    }

    #[test]
    fn a_page_refers_to_nothing_else() {
        let page = page(&report(vec![series("a"), series("b")]), None);
        for elsewhere in ["src=", "href", "@import", "url(", "<script", "<link", "//"] {
            assert!(!page.contains(elsewhere), "{elsewhere}");
        }
        assert_eq!(page.matches("<svg").count(), 2);
        assert_eq!(page.matches("<polyline").count(), 4);
        assert_eq!(page.matches("<h2>").count(), 2);
    }

    #[test]
    fn texts_of_a_measurement_cannot_add_elements_to_the_page() {
        let mut hostile = series(HOSTILE);
        hostile.workload = HOSTILE.to_string();
        hostile.connection = HOSTILE.to_string();
        hostile.path = HOSTILE.to_string();
        hostile.rate = Some(10.0);
        hostile.failures.insert(HOSTILE.to_string(), 1);
        hostile.reopened = 1;
        let mut other = hostile.clone();
        other.target += "2";
        let mut report = report(vec![hostile, other]);
        report.started = HOSTILE.to_string();
        report.version = HOSTILE.to_string();
        for base in [None, Some(&report)] {
            let page = page(&report, base);
            assert!(page.contains("&quot;&gt;&lt;script src='//e'&gt;&amp;&lt;img"));
            for element in ["<script", "<img"] {
                assert!(!page.contains(element), "{element}");
            }
        }
    }

    #[test]
    fn a_page_without_an_answer_has_a_table_and_no_plots() {
        let mut silent = series("a");
        silent.latency = None;
        silent.rounds.clear();
        silent.failures.insert("no answer in time".to_string(), 3);
        let page = page(&report(vec![silent]), None);
        assert!(page.contains("failed: 3 no answer in time"));
        assert!(!page.contains("<svg"));
        assert!(!page.contains("NaN"));
    }
}
