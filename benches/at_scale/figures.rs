//! Latencies, and the table of figures.

use std::collections::BTreeMap;
use std::time::Duration;

/// Latencies of one kind of request.
#[derive(Default)]
pub(crate) struct Latencies {
    sorted: bool,
    all: Vec<Duration>,
    /// Requests without a successful answer.
    pub(crate) lost: usize,
}

impl Latencies {
    pub(crate) fn add(&mut self, latency: Duration) {
        self.sorted = false;
        self.all.push(latency);
    }

    pub(crate) fn count(&self) -> usize {
        self.all.len()
    }

    /// Returns a percentile, such as 99.0, in milliseconds.
    pub(crate) fn percentile(&mut self, percent: f64) -> f64 {
        if !self.sorted {
            self.all.sort_unstable();
            self.sorted = true;
        }
        let last = self.all.len().saturating_sub(1);
        let index = (percent / 100.0 * last as f64).round() as usize;
        self.all
            .get(index)
            .map_or(f64::NAN, |latency| milliseconds(*latency))
    }

    /// Returns p50, p99 and the maximum, and how many got no answer.
    pub(crate) fn summary(&mut self) -> String {
        let [p50, p99, most] = [50.0, 99.0, 100.0].map(|percent| self.percentile(percent));
        let lost = match self.lost {
            0 => String::new(),
            lost => format!(", {lost} lost"),
        };
        format!("{p50:.2} / {p99:.2} / {most:.1}{lost}")
    }
}

pub(crate) fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

/// What was measured, by row, with a value for each number of instances.
#[derive(Default)]
pub(crate) struct Figures {
    rows: Vec<String>,
    values: BTreeMap<(String, usize), String>,
}

impl Figures {
    /// Adds a value, and prints it: a long run shows what it has.
    pub(crate) fn add(&mut self, row: &str, instances: usize, value: impl ToString) {
        let value = value.to_string();
        eprintln!("{instances:>7}  {row}: {value}");
        if !self.rows.iter().any(|known| known == row) {
            self.rows.push(row.to_string());
        }
        self.values.insert((row.to_string(), instances), value);
    }

    /// Prints the table in Markdown.
    pub(crate) fn print(&self, columns: &[usize]) {
        let titles: Vec<String> = columns.iter().map(|count| format!("N={count}")).collect();
        println!("| measure | {} |", titles.join(" | "));
        println!("|---|{}", "--:|".repeat(columns.len()));
        for row in &self.rows {
            let value = |count: &usize| {
                let value = self.values.get(&(row.clone(), *count));
                value.map_or("–", String::as_str)
            };
            let values: Vec<&str> = columns.iter().map(value).collect();
            println!("| {row} | {} |", values.join(" | "));
        }
    }
}
