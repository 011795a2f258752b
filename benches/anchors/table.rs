//! The table, in Markdown.

use crate::connections::Memory;
use crate::load::{Load, Measured};
use crate::subject::Subject;

pub(crate) struct Table {
    lines: Vec<String>,
}

impl Table {
    /// Starts a table with a column for each server. The first is what the others are compared with.
    pub(crate) fn new(subjects: &[Subject]) -> Table {
        let names: Vec<&str> = subjects.iter().map(|subject| &*subject.name).collect();
        let lines = vec![
            format!("| measure | {} |", names.join(" | ")),
            format!("|---|{}", "--:|".repeat(names.len())),
        ];
        Table { lines }
    }

    /// Adds the rows of a load: for each server, what each round showed.
    pub(crate) fn add_load(&mut self, load: &Load, rounds: &[Vec<Measured>]) {
        if load.is_alone {
            self.add(
                &format!("{}: p50 of one client, µs", load.name),
                1,
                |round| round.p50,
                rounds,
            );
            return;
        }
        let name = format!("{}: processor time, µs", load.name);
        self.add(&name, 1, |round| round.processor, rounds);
        let name = format!("{}: requests a second", load.name);
        self.add(&name, 0, |round| round.per_second, rounds);
    }

    fn add(
        &mut self,
        name: &str,
        digits: usize,
        value: impl Fn(&Measured) -> f64,
        rounds: &[Vec<Measured>],
    ) {
        let cell = |(number, of_subject): (usize, &Vec<Measured>)| {
            let middle = median(of_subject.iter().map(&value).collect());
            if number == 0 {
                return format!("{middle:.digits$}");
            }
            let pairs = of_subject.iter().zip(&rounds[0]);
            let ratios: Vec<f64> = pairs
                .map(|(own, other)| value(own) / value(other))
                .collect();
            let lowest = ratios.iter().copied().fold(f64::INFINITY, f64::min);
            let highest = ratios.iter().copied().fold(0.0, f64::max);
            let ratio = median(ratios);
            format!("{middle:.digits$} × {ratio:.2} [{lowest:.2}–{highest:.2}]")
        };
        let cells: Vec<String> = rounds.iter().enumerate().map(cell).collect();
        self.add_row(name, &cells);
    }

    /// Adds the row of the memory: before, with idle connections, and afterwards.
    pub(crate) fn add_memory(&mut self, connections: u64, memory: &[Memory]) {
        let cells: Vec<String> = memory
            .iter()
            .map(|memory| {
                let Memory {
                    before,
                    with_connections,
                    afterwards,
                } = memory;
                format!("{before:.1} / {with_connections:.1} / {afterwards:.1}")
            })
            .collect();
        let name =
            format!("resident MiB: before, with {connections} idle connections, 8 s afterwards");
        self.add_row(&name, &cells);
    }

    /// A long run shows what it has.
    fn add_row(&mut self, name: &str, cells: &[String]) {
        let line = format!("| {name} | {} |", cells.join(" | "));
        eprintln!("{line}");
        self.lines.push(line);
    }

    pub(crate) fn print(&self) {
        println!("{}", self.lines.join("\n"));
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
